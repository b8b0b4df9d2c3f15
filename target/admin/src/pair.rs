//! Groups of pairs: what is asked of them, and what is told (array.md 4 to 10).
//!
//! A group is named by its name; where it is left out, the only group of the array is meant.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Two volumes, as the array that is asked has and sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairOf {
    /// The LUN at the array that is asked.
    pub lun: u16,
    /// The LUN at the other array.
    pub peer_lun: u16,
    /// Blocks that both must have.
    pub blocks: u64,
    /// Bytes of a block that both must have.
    pub block_bytes: u32,
}

/// Makes a group of pairs at the array that is asked; the other one is asked the same from its side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairCreate {
    /// Its name, the same at both arrays.
    pub group: String,
    /// Its UUID, the same at both arrays.
    pub group_id: String,
    /// `primary` or `secondary`: what this array is to be.
    pub side: String,
    /// The other array, as this one's configuration names it.
    pub peer: String,
    /// Its UUID.
    pub peer_id: String,
    /// Which volumes.
    pub pairs: Vec<PairOf>,
    /// The LUN of this array's journal.
    pub journal: u16,
    /// The LUN of the other array's.
    pub peer_journal: u16,
    /// Bytes of the smaller of the two.
    pub journal_bytes: u64,
    /// Although a volume is only in memory.
    #[serde(default)]
    pub force: bool,
}

/// Ends a group at the array that is asked; data stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairDelete {
    /// Which.
    #[serde(default)]
    pub group: Option<String>,
    /// Although its volumes wait for a decision.
    #[serde(default)]
    pub force: bool,
}

/// Has a group at the array that is asked behave in another way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairSet {
    /// Which.
    #[serde(default)]
    pub group: Option<String>,
    /// Keys of `[[group]]`, each with the value that it would have there.
    pub options: BTreeMap<String, String>,
}

/// Suspends a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairSplit {
    /// Which.
    #[serde(default)]
    pub group: Option<String>,
    /// Hosts may write the secondary.
    #[serde(default)]
    pub writable: bool,
}

/// Resumes a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairResync {
    /// Which.
    #[serde(default)]
    pub group: Option<String>,
    /// The array that gives up what it alone has.
    #[serde(default)]
    pub discard: Option<String>,
}

/// Exchanges the sides of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairSwap {
    /// Which.
    #[serde(default)]
    pub group: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Give up a swap that is not done yet.
    #[serde(default)]
    pub cancel: bool,
}

/// Makes a secondary writable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairTakeover {
    /// Which.
    #[serde(default)]
    pub group: Option<String>,
    /// Only say what would be done and lost.
    #[serde(default)]
    pub dry_run: bool,
    /// Although it is not consistent.
    #[serde(default)]
    pub force: bool,
}

/// A group, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNamed {
    /// Which; all where it is not given.
    #[serde(default)]
    pub group: Option<String>,
}

/// A group, and a place of its journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupAt {
    /// Which.
    #[serde(default)]
    pub group: Option<String>,
    /// Up to there, an offset in bytes; all there is where it is not given.
    #[serde(default)]
    pub position: Option<u64>,
}

/// How far a secondary is to be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRestore {
    /// Which.
    #[serde(default)]
    pub group: Option<String>,
    /// Up to that offset of the journal.
    #[serde(default)]
    pub position: Option<u64>,
    /// Up to that moment, nanoseconds since 1970.
    #[serde(default)]
    pub time_nanos: Option<u64>,
    /// Up to that marker.
    #[serde(default)]
    pub marker: Option<String>,
}

/// Puts a name into the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// Of which group.
    #[serde(default)]
    pub group: Option<String>,
    /// The name.
    pub name: String,
    /// Answered when the secondary has restored up to it.
    #[serde(default)]
    pub wait: bool,
}

/// Passes an order to the array that it is for, through its command device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// The record, in hexadecimal.
    pub record: String,
}

/// What that array answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed {
    /// The record of the result, in hexadecimal.
    pub result: String,
}

/// What came of an order to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// 0 done, 10 swap done, 11 taken over, 12 it was so already; see the exit codes.
    pub exit_code: u8,
    /// In words.
    pub what: String,
}

/// Groups of pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    /// By name.
    pub groups: Vec<Group>,
}

/// One group, as one of its two arrays sees it. What only the other array knows is what it said last;
/// null with `peer_error` where it is out of reach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub group: String,
    /// Its UUID.
    pub uuid: String,
    /// The array that says this.
    pub array: String,
    /// The other array.
    pub peer: String,
    /// `SMPL`, `COPY`, `PAIR`, `PSUS`, `PSUE` or `SSWS`.
    pub state: String,
    /// `primary` or `secondary`.
    pub role: String,
    /// The state that the other array said last.
    pub peer_state: Option<String>,
    /// When the other array was last heard of: UTC, RFC 3339.
    pub peer_heard_at: Option<String>,
    /// Why what only the other array knows is missing.
    pub peer_error: Option<String>,
    /// Random; a new one whenever one side starts to write alone.
    pub generation: String,
    /// Hosts' writes are refused while the sides are exchanged, or after the other side took over.
    pub fenced: bool,
    /// The other side took over.
    pub overtaken: bool,
    /// Both sides were written alone: the operator has to choose.
    pub split_brain: bool,
    /// The volumes here are some moment of the primary's.
    pub consistent: bool,
    /// It is starting: hosts are not served yet.
    pub recovering: bool,
    /// Formation or resync; null outside.
    pub progress_percent: Option<f64>,
    /// Its pairs.
    pub pairs: Vec<Pair>,
    /// Its journals.
    pub journal: Journal,
    /// Places in the journal.
    pub positions: Positions,
    /// Bytes that the secondary has not restored.
    pub lag_bytes: Option<u64>,
    /// From the newest write to the newest that is restored.
    pub lag_seconds: Option<f64>,
    /// Writes that the secondary has not restored.
    pub lag_writes: Option<u64>,
    /// Everything written until then is on the secondary: UTC, RFC 3339.
    pub consistent_at: Option<String>,
    /// Bytes a second that hosts put into the journal.
    pub fill_bytes_per_second: f64,
    /// Bytes a second that leave it; at a secondary, that arrive.
    pub drain_bytes_per_second: f64,
    /// At these rates the journal is full then; null: never.
    pub full_in_seconds: Option<f64>,
    /// At these rates the secondary has caught up then; null: never, or it has.
    pub caught_up_in_seconds: Option<f64>,
    /// What slows it: `none`, `journal`, `link`, `ingest` or `restore`.
    pub bottleneck: String,
    /// Bytes in which the sides may differ, in granules of 64 KiB.
    pub difference_bytes: u64,
    /// `poller` or `host`.
    pub mode: String,
    /// How it behaves: keys of `[[group]]` and their values.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// One pair of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The array and LUN whose hosts write.
    pub primary: String,
    /// The array and LUN that follows.
    pub secondary: String,
    /// The volume's name at the array that says this.
    pub volume: String,
    /// Bytes of each.
    pub size_bytes: u64,
}

/// The journals of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The array and LUN of the one here.
    pub own: String,
    /// The array and LUN of the one there.
    pub peer: String,
    /// Bytes of the data area.
    pub data_bytes: u64,
    /// Bytes of it that are in use.
    pub used_bytes: u64,
    /// The highest of its thresholds that was passed and not left since, in percent; 0: none.
    #[serde(default)]
    pub threshold_percent: u8,
    /// The first LBA of the data area.
    pub first_lba: u64,
    /// The last LBA of the data area.
    pub last_lba: u64,
}

/// Places in the journal. Ranges are half-open: each names the first byte behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Primary: what is before is freed.
    pub out: Option<Position>,
    /// Primary: the end of what is stored.
    #[serde(rename = "in")]
    pub end: Option<Position>,
    /// Secondary: what is before is durable in its journal.
    pub read: Option<Position>,
    /// Secondary: what it is reading up to.
    pub read_target: Option<Position>,
    /// Secondary: what is before is restored.
    pub restored: Option<Position>,
    /// Secondary: what it is restoring up to.
    pub restore_target: Option<Position>,
}

/// A place in a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which run of the journal.
    pub epoch: String,
    /// Bytes from its beginning, ever increasing.
    pub offset: u64,
    /// Where that is on the journal volume.
    pub lba: u64,
}

/// Bytes in hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes that are written in hexadecimal; nothing where they are not.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.last()?)?)).collect()
}
