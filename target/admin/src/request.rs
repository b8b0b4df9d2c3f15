//! What can be asked. Every structure refuses keys that it does not know, so that a misspelt
//! option is never silently left out.

use crate::pair::{
    GroupAt, GroupNamed, GroupRestore, Marker, PairCreate, PairDelete, PairResync, PairSet, PairSplit,
    PairSwap, PairTakeover, Relay,
};
use serde::{Deserialize, Serialize};

/// A request as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// [`SCHEMA`](crate::SCHEMA).
    pub schema: u32,
    /// What is asked.
    pub request: Request,
}

impl Call {
    /// A call of this version.
    #[must_use]
    pub fn new(request: Request) -> Self {
        Self { schema: crate::SCHEMA, request }
    }
}

/// Everything that can be asked. A volume is named by its name, its LUN, or `ARRAY:LUN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The array itself, and the peers that it knows.
    Arrays,
    /// All volumes.
    Volumes,
    /// The LUN map.
    Luns,
    /// The command device table.
    Tables,
    /// Counters and latencies.
    Stats,
    /// Who is logged in.
    Sessions,
    /// Makes a volume.
    VolumeCreate(VolumeCreate),
    /// Makes a volume larger.
    VolumeGrow(VolumeGrow),
    /// Gives a volume another name.
    VolumeRename(VolumeRename),
    /// Takes a volume away from an initiator.
    VolumeMask(VolumeMask),
    /// Shows a volume to an initiator.
    VolumeUnmask(VolumeUnmask),
    /// Ends a volume; its data stay where they are.
    VolumeRemove(VolumeRemove),
    /// Adds a virtual volume to the LUN map.
    LunMapAdd(LunMapAdd),
    /// Takes a virtual volume out of it.
    LunMapRemove(LunMapRemove),
    /// Lists an initiator.
    InitiatorAdd(InitiatorAdd),
    /// Changes a listed initiator.
    InitiatorSet(InitiatorSet),
    /// Takes an initiator off the list.
    InitiatorRemove(InitiatorRemove),
    /// The list.
    InitiatorList,
    /// Makes another array known.
    PeerAdd(PeerAdd),
    /// Forgets it.
    PeerRemove(PeerRemove),
    /// The known arrays.
    PeerList,
    /// Makes a group of pairs at this array.
    PairCreate(PairCreate),
    /// Ends a group at this array.
    PairDelete(PairDelete),
    /// Suspends a group.
    PairSplit(PairSplit),
    /// Has a group behave in another way; `Changed`.
    PairSet(PairSet),
    /// Resumes a group.
    PairResync(PairResync),
    /// Exchanges the sides of a group.
    PairSwap(PairSwap),
    /// Makes a secondary writable.
    PairTakeover(PairTakeover),
    /// States, positions and lag of groups.
    PairStatus(GroupNamed),
    /// Has the secondary read its peer's journal.
    JournalAcquire(GroupAt),
    /// Has the secondary apply its journal.
    JournalRestore(GroupRestore),
    /// Lets the primary free its journal.
    JournalPurge(GroupAt),
    /// Puts a name into the journal.
    Marker(Marker),
    /// Passes an order to the array that it is for.
    Relay(Relay),
    /// Everything as one configuration file.
    ConfigExport,
    /// What has happened.
    Events(EventsAfter),
}

impl Request {
    /// Whether it changes something.
    #[must_use]
    pub fn is_change(&self) -> bool {
        !matches!(
            self,
            Self::Arrays
                | Self::Volumes
                | Self::Luns
                | Self::Tables
                | Self::Stats
                | Self::Sessions
                | Self::InitiatorList
                | Self::PeerList
                | Self::PairStatus(_)
                | Self::Relay(_)
                | Self::ConfigExport
                | Self::Events(_)
        )
    }
}

/// Where a new volume's blocks are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A sparse file in the array's data folder.
    DataFolder,
    /// A sparse file in a declared pool.
    Pool(String),
    /// A block device or file, by its absolute path.
    Path(String),
    /// Memory, gone when the daemon ends.
    Ram,
    /// Nowhere: reads zeroes, drops writes.
    Null,
}

/// Makes a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeCreate {
    /// Its name.
    pub name: String,
    /// Its LUN; the lowest free one where none is given.
    #[serde(default)]
    pub lun: Option<u16>,
    /// Where its blocks are.
    pub place: Place,
    /// Its size; the device's or file's where none is given.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// 512 or 4096; 512 where none is given.
    #[serde(default)]
    pub block_bytes: Option<u32>,
    /// `writeback`, `writethrough` or `none`.
    #[serde(default)]
    pub cache: Option<String>,
    /// Hosts may not write.
    #[serde(default)]
    pub read_only: bool,
    /// Reported as thinly provisioned; as the device can, where it is not given.
    #[serde(default)]
    pub thin: Option<bool>,
    /// Over how many cores its extents are dealt out, 1 to 64; one where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<u16>,
    /// Listed initiators that see it.
    #[serde(default)]
    pub initiators: Vec<String>,
    /// The device may carry the mark of another volume.
    #[serde(default)]
    pub adopt: bool,
}

/// Adds a virtual volume: a LUN here that is a LUN of another array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LunMapAdd {
    /// Its name.
    pub name: String,
    /// The other array.
    pub peer: String,
    /// The LUN there.
    pub mapped_lun: u16,
    /// The LUN here; the lowest free one where none is given.
    #[serde(default)]
    pub lun: Option<u16>,
    /// `plain`, or `command` where it is the other array's command device.
    #[serde(default)]
    pub role: Option<String>,
    /// Listed initiators that see it.
    #[serde(default)]
    pub initiators: Vec<String>,
}

/// Takes a virtual volume out of the LUN map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LunMapRemove {
    /// Which: its name or its LUN.
    pub volume: String,
    /// Although it is in use.
    #[serde(default)]
    pub force: bool,
}

/// Makes a volume larger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeGrow {
    /// Which.
    pub volume: String,
    /// To how much; to what its device has, where it is not given.
    #[serde(default)]
    pub size_bytes: Option<u64>,
}

/// Gives a volume another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeRename {
    /// Which.
    pub volume: String,
    /// The new name.
    pub name: String,
}

/// Takes a volume away from an initiator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMask {
    /// Which.
    pub volume: String,
    /// From whom.
    pub initiator: String,
    /// Although it is logged in.
    #[serde(default)]
    pub force: bool,
}

/// Shows a volume to an initiator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeUnmask {
    /// Which.
    pub volume: String,
    /// To whom.
    pub initiator: String,
}

/// Ends a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeRemove {
    /// Which.
    pub volume: String,
    /// Although it is in use.
    #[serde(default)]
    pub force: bool,
}

/// How one side proves who it is: a name, and the file on the array's machine that has the secret.
/// The secret itself never travels here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// CHAP_N.
    pub user: String,
    /// Absolute path, mode 0600.
    pub secret_file: String,
}

/// CHAP in one direction or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chap {
    /// The name that the other side proves.
    pub user: String,
    /// Absolute path of the file with its secret, mode 0600.
    pub secret_file: String,
    /// What this array proves in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<Credential>,
}

/// Lists an initiator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitiatorAdd {
    /// Its iSCSI name.
    pub iqn: String,
    /// The LUNs that it sees.
    #[serde(default)]
    pub luns: Vec<u16>,
    /// `read`, `operate` or `admin`, on command devices.
    #[serde(default)]
    pub rights: Option<String>,
    /// How it proves who it is.
    #[serde(default)]
    pub chap: Option<Chap>,
    /// Although others lose what they see, where it is the first that is listed.
    #[serde(default)]
    pub force: bool,
}

/// Changes a listed initiator; what is not given stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitiatorSet {
    /// Its iSCSI name.
    pub iqn: String,
    /// All LUNs that it sees from now on.
    #[serde(default)]
    pub luns: Option<Vec<u16>>,
    /// Its rights on command devices.
    #[serde(default)]
    pub rights: Option<String>,
    /// How it proves who it is.
    #[serde(default)]
    pub chap: Option<Chap>,
    /// It need not prove who it is any more.
    #[serde(default)]
    pub no_chap: bool,
    /// Although it is logged in and loses LUNs.
    #[serde(default)]
    pub force: bool,
}

/// Takes an initiator off the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitiatorRemove {
    /// Its iSCSI name.
    pub iqn: String,
    /// Although it is logged in.
    #[serde(default)]
    pub force: bool,
}

/// Makes another array known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAdd {
    /// Its name.
    pub name: String,
    /// Its target's iSCSI name.
    pub iqn: String,
    /// Where it listens, `address:port`.
    pub portals: Vec<String>,
    /// How long a command to it may take.
    #[serde(default)]
    pub io_timeout_ms: Option<u64>,
    /// Connections of each session with it; 1 without it.
    #[serde(default)]
    pub connections: Option<u16>,
    /// `signed`, `forward` or `none`.
    #[serde(default)]
    pub orders: Option<String>,
    /// LUNs of this array that it may map.
    #[serde(default)]
    pub luns: Vec<u16>,
    /// How each proves who it is.
    #[serde(default)]
    pub chap: Option<Chap>,
}

/// Forgets another array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRemove {
    /// Its name.
    pub name: String,
}

/// Events, and whether to wait for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsAfter {
    /// Those with a higher number; all that are remembered where it is not given.
    #[serde(default)]
    pub after: Option<u64>,
    /// How long to wait for the first, at most 30 s.
    #[serde(default)]
    pub wait_ms: u32,
}
