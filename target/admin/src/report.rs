//! What is told. `kagami --json` prints the inside of a [`Reply`] with `"schema": 1`, so every key
//! here is documented in `docs/formats.md` and carries its unit in its name.

use crate::pair::{Groups, Ordered, Relayed};
use serde::{Deserialize, Serialize};

/// An answer as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`SCHEMA`](crate::SCHEMA).
    pub schema: u32,
    /// What came of it.
    pub outcome: Outcome,
}

impl Answer {
    /// An answer of this version.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self { schema: crate::SCHEMA, outcome }
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Done(Reply),
    /// Not done; nothing has changed.
    Refused(Refusal),
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The exit code: 1 failed, 2 usage, 3 refused in this state, 4 timed out, 5 not reached.
    pub code: u8,
    /// One line: what is wrong, and how to mend it.
    pub reason: String,
}

impl Refusal {
    /// It was tried and failed.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { code: 1, reason: reason.into() }
    }

    /// It cannot be asked so.
    #[must_use]
    pub fn usage(reason: impl Into<String>) -> Self {
        Self { code: 2, reason: reason.into() }
    }

    /// Not in this state.
    #[must_use]
    pub fn state(reason: impl Into<String>) -> Self {
        Self { code: 3, reason: reason.into() }
    }

    /// It took too long.
    #[must_use]
    pub fn timed_out(reason: impl Into<String>) -> Self {
        Self { code: 4, reason: reason.into() }
    }

    /// Nobody is there.
    #[must_use]
    pub fn unreachable(reason: impl Into<String>) -> Self {
        Self { code: 5, reason: reason.into() }
    }
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// A change was made.
    Changed(Changed),
    /// To [`Request::Arrays`](crate::Request::Arrays).
    Arrays(Arrays),
    /// To [`Request::Volumes`](crate::Request::Volumes).
    Volumes(Volumes),
    /// To [`Request::Luns`](crate::Request::Luns).
    Luns(Luns),
    /// To [`Request::Tables`](crate::Request::Tables).
    Tables(CommandDevices),
    /// To [`Request::Stats`](crate::Request::Stats).
    Stats(Stats),
    /// To [`Request::Sessions`](crate::Request::Sessions).
    Sessions(Sessions),
    /// To [`Request::InitiatorList`](crate::Request::InitiatorList).
    Initiators(Initiators),
    /// To [`Request::PeerList`](crate::Request::PeerList).
    Peers(Peers),
    /// To [`Request::ConfigExport`](crate::Request::ConfigExport).
    Config(ConfigText),
    /// To [`Request::Events`](crate::Request::Events).
    Events(Events),
    /// To [`Request::PairStatus`](crate::Request::PairStatus).
    Groups(Groups),
    /// What came of an order to a group.
    Ordered(Ordered),
    /// To [`Request::Relay`](crate::Request::Relay).
    Relayed(Relayed),
}

/// A change was made, durably, and hosts see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// What, in one line.
    pub what: String,
    /// The tables' generation that has it.
    pub generation: u64,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// The array, and the peers that it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrays {
    /// This one first.
    pub arrays: Vec<Array>,
}

/// One array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// Its name.
    pub name: String,
    /// Its target's iSCSI name.
    pub iqn: String,
    /// `local` or `peer`.
    pub role: String,
    /// Its UUID; null for a peer that was never met.
    pub uuid: Option<String>,
    /// The version of its program, where known.
    pub version: Option<String>,
    /// Where it listens.
    pub portals: Vec<String>,
    /// How long it has been serving.
    pub uptime_seconds: Option<u64>,
    /// Volumes.
    pub volumes: Option<u64>,
    /// Sessions.
    pub sessions: Option<u64>,
    /// The generation of its tables.
    pub generation: Option<u64>,
}

/// All volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volumes {
    /// By LUN.
    pub volumes: Vec<Volume>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its LUN.
    pub lun: u16,
    /// Its name.
    pub name: String,
    /// `file`: it stands in the configuration file; `run time`: it was made with `kagami`.
    pub owner: String,
    /// A path, `ram` or `null`.
    pub backend: String,
    /// `plain`, `command` or `journal`.
    pub role: String,
    /// Its capacity.
    pub size_bytes: u64,
    /// Its logical block.
    pub block_bytes: u32,
    /// `writeback`, `writethrough` or `none`.
    pub cache: String,
    /// Hosts may not write.
    pub read_only: bool,
    /// Its UUID.
    pub uuid: String,
    /// Its world-wide name.
    pub naa: String,
    /// The core that owns it.
    pub core: u16,
    /// `fine`; `gone`: its device is away; `fails`: dirty pages could not be written.
    pub device: String,
    /// Sessions that see it.
    pub sessions: u64,
    /// The group of pairs that it belongs to, or is the journal of.
    #[serde(default)]
    pub group: Option<String>,
}

/// The LUN map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Luns {
    /// By LUN.
    pub luns: Vec<Lun>,
}

/// One row of the LUN map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lun {
    /// The number.
    pub lun: u16,
    /// The volume's name.
    pub volume: String,
    /// The array that has the data, where it is another one.
    pub target_array: Option<String>,
    /// The LUN there.
    pub mapped_lun: Option<u16>,
    /// The listed initiators that see it; null where none is listed, and everyone on loopback does.
    pub initiators: Option<Vec<String>>,
}

/// The command device table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandDevices {
    /// This array's own first.
    pub command_devices: Vec<CommandDevice>,
}

/// One row of the command device table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandDevice {
    /// The array that takes orders there.
    pub array: String,
    /// Its UUID; null for a peer that was never met.
    pub uuid: Option<String>,
    /// The LUN here.
    pub lun: u16,
}

/// Counters since the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Since when.
    pub uptime_seconds: u64,
    /// By LUN.
    pub volumes: Vec<VolumeStats>,
    /// By number.
    pub cores: Vec<CoreStats>,
}

/// Counters of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeStats {
    /// Its LUN.
    pub lun: u16,
    /// Its name.
    pub volume: String,
    /// Read commands.
    pub reads: u64,
    /// Write commands.
    pub writes: u64,
    /// All others.
    pub others: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Commands that failed in the volume.
    pub errors: u64,
    /// Commands under way.
    pub queue_depth: u64,
    /// Half of the reads took at most so long; null without reads.
    pub read_p50_us: Option<f64>,
    /// 99 of 100 reads.
    pub read_p99_us: Option<f64>,
    /// Half of the writes.
    pub write_p50_us: Option<f64>,
    /// 99 of 100 writes.
    pub write_p99_us: Option<f64>,
}

/// Counters of a core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreStats {
    /// Its number.
    pub core: u16,
    /// Its CPU.
    pub cpu: u32,
    /// Connections.
    pub connections: u64,
    /// Commands in task slots.
    pub tasks: u64,
    /// Bytes received from hosts.
    pub received_bytes: u64,
    /// Bytes sent to hosts.
    pub sent_bytes: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins refused.
    pub login_failures: u64,
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// By TSIH.
    pub sessions: Vec<Session>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its number on this side.
    pub tsih: u16,
    /// The initiator's number for it, in hexadecimal.
    pub isid: String,
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// Where its first connection comes from.
    pub address: Option<String>,
    /// The portal that it came through.
    pub portal: Option<String>,
    /// `normal` or `discovery`.
    pub kind: String,
    /// Its connections.
    pub connections: u32,
    /// The LUNs that it sees.
    pub luns: Vec<u16>,
}

/// The listed initiators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initiators {
    /// None listed: every initiator sees every volume on loopback portals.
    pub initiators: Vec<Initiator>,
}

/// One listed initiator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initiator {
    /// Its iSCSI name.
    pub iqn: String,
    /// `file` or `run time`.
    pub owner: String,
    /// The LUNs that it sees.
    pub luns: Vec<u16>,
    /// Those of them that were added at run time to an initiator of the file.
    pub added_luns: Vec<u16>,
    /// `read`, `operate` or `admin`.
    pub rights: String,
    /// `none`, `one-way` or `mutual`.
    pub chap: String,
    /// Its sessions now.
    pub sessions: u64,
}

/// The known arrays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// By name.
    pub peers: Vec<Peer>,
}

/// One known array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// `file` or `run time`.
    pub owner: String,
    /// Its target's iSCSI name.
    pub iqn: String,
    /// Where it listens.
    pub portals: Vec<String>,
    /// How long a command to it may take.
    pub io_timeout_ms: Option<u64>,
    /// Connections of each session with it.
    #[serde(default)]
    pub connections: u16,
    /// `signed`, `forward` or `none`.
    pub orders: String,
    /// LUNs of this array that it may map.
    pub luns: Vec<u16>,
    /// `none`, `one-way` or `mutual`.
    pub chap: String,
    /// The virtual volumes that it has the data of, and how their links do.
    #[serde(default)]
    pub links: Vec<Link>,
}

/// A virtual volume's link to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The virtual volume's LUN.
    pub lun: u16,
    /// The LUN at the peer.
    pub mapped_lun: u16,
    /// `down`, `login`, `probing` or `serving`.
    pub state: String,
    /// Connections that its session has at the moment.
    #[serde(default)]
    pub connections: u16,
    /// Why it was last lost, or cannot be made; null while nothing is wrong.
    pub reason: Option<String>,
    /// The far unit's size; 0 while it is not known.
    pub size_bytes: u64,
    /// Times that it served and was lost.
    pub losses: u64,
    /// Commands that were sent again after that.
    pub repeated: u64,
    /// Commands that timed out at the peer, and may have been executed.
    pub in_doubt: u64,
}

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigText {
    /// Its text.
    pub toml: String,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// In order.
    pub events: Vec<Event>,
    /// The number of the last event, here or before: to ask for those after it.
    pub last: u64,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counted from the start of the daemon.
    pub number: u64,
    /// UTC, RFC 3339.
    pub time: String,
    /// The tables' generation, where it changed them.
    pub generation: Option<u64>,
    /// Who did it.
    pub who: String,
    /// What.
    pub what: String,
}
