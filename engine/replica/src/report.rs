//! What a group says of itself to people: `pair status`, metrics, `kagami top`.
//!
//! Made by the group when asked; units are in the names. What only the other side knows is what its last page said.

use crate::record::{Side, State};
use kagami_types::{Epoch, JournalPos, Sequence};

/// What slows a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bottleneck {
    /// Nothing: it keeps up.
    #[default]
    None,
    /// Writing the primary's journal.
    Journal,
    /// The link, or the other array's answers.
    Link,
    /// Writing the secondary's journal.
    Ingest,
    /// Writing the secondary's volumes.
    Restore,
}

/// Positions, on the side that they belong to. On a primary `out` and `stable` are its own, the others what the reader said
/// last; on a secondary the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Primary: what is before is freed.
    pub out: u64,
    /// Primary: the end of what is stable.
    pub stable: u64,
    /// Its last sequence.
    pub stable_sequence: Sequence,
    /// Secondary: what is before is durable in its journal.
    pub read: u64,
    /// Secondary: what it is reading up to.
    pub read_target: u64,
    /// Secondary: what is before is restored.
    pub restored: u64,
    /// Its last sequence.
    pub restored_sequence: Sequence,
    /// Secondary: what it is restoring up to.
    pub restore_target: u64,
}

/// A group, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Which end this side is.
    pub side: Side,
    /// This side's state.
    pub state: State,
    /// A swap is under way, or this side was taken over: hosts do not write here.
    pub fenced: bool,
    /// This side was taken over by the other.
    pub overtaken: bool,
    /// Both sides have been written alone; an operator has to choose.
    pub split_brain: bool,
    /// Its volumes are a moment of the group's history.
    pub consistent: bool,
    /// Recovery or the question to the peer at start goes on.
    pub recovering: bool,
    /// Its generation.
    pub generation: u128,
    /// The epoch of its journal.
    pub epoch: Epoch,
    /// Formation or resync: parts of 10,000 that are done; `None` outside.
    pub progress: Option<u32>,
    /// The other side's state; `None`: not known.
    pub far_state: Option<State>,
    /// When the other side was last heard of, nanoseconds since 1970; zero: never.
    pub far_heard: u64,
    /// Why the far side's figures are missing; empty where they are not.
    pub far_error: String,
    /// Positions.
    pub positions: Positions,
    /// Bytes of the data area: the LBA of a place is its remainder by this.
    pub data_len: u64,
    /// The first byte of the data area on the device.
    pub data_at: u64,
    /// Bytes that the secondary has not restored.
    pub lag_bytes: u64,
    /// Writes that it has not restored.
    pub lag_writes: u64,
    /// Seconds from the newest write to the newest that is restored.
    pub lag_seconds: f64,
    /// Writes of this moment and before are on the secondary, nanoseconds since 1970; zero: unknown.
    pub consistent_at: u64,
    /// Bytes in the journal that are not freed.
    pub journal_used: u64,
    /// The highest threshold of the journal's use that was passed and not left since, in percent; zero: none.
    pub journal_passed: u8,
    /// Bytes a second that hosts put into the journal.
    pub fill_rate: f64,
    /// Bytes a second that leave it (at a secondary: arrive).
    pub drain_rate: f64,
    /// At these rates the journal is full in so many seconds; `None`: never.
    pub full_in: Option<f64>,
    /// At these rates the secondary has caught up in so many seconds; `None`: never, or it has.
    pub caught_up_in: Option<f64>,
    /// What slows it.
    pub bottleneck: Bottleneck,
    /// Granules of 64 KiB in which the sides may differ.
    pub difference: u64,
    /// The last error, for people; empty: none.
    pub last_error: String,
}

impl Report {
    /// A place as position.
    #[must_use]
    pub fn position(&self, offset: u64) -> JournalPos {
        JournalPos { epoch: self.epoch, offset }
    }
}
