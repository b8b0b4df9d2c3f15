//! The configuration after validation: every value in its own type, every default filled in.
//!
//! Made by [`crate::config::parse`]; read by [`crate::plan`], by reload and by nobody else.

use kagami_replica::Thresholds;
use kagami_types::{BlockSize, ByteLen, Lun, Uuid};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// A whole configuration that holds together by itself. Whether it fits the machine is the
/// plan's and the probes' question.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[array]`, without its portals.
    pub array: Array,
    /// Portals from `listen` and `[[portal]]`, at least one.
    pub portals: Vec<Portal>,
    /// `[[volume]]`, in the order of the file.
    pub volumes: Vec<Volume>,
    /// `[[peer]]`.
    pub peers: Vec<Peer>,
    /// `[[virtual]]`: the LUN map's rows that lead to other arrays.
    pub virtuals: Vec<Virtual>,
    /// `[[group]]`: groups of pairs, and options of such.
    pub groups: Vec<Group>,
    /// `[[initiator]]`.
    pub initiators: Vec<Initiator>,
    /// `[[operator]]`.
    pub operators: Vec<Operator>,
    /// `[[pool]]`.
    pub pools: Vec<Pool>,
    /// What the file asks for and this version does not do in full. Printed at start.
    pub notes: Vec<String>,
}

/// To whom an object belongs, which is who may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The configuration file; at run time it can only grow.
    File,
    /// It was made at run time; the tables have it.
    RunTime,
}

impl Owner {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::RunTime => "run time",
        }
    }
}

/// Where in the configuration something was said, so that a later refusal can point there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The file's name as given, or "built-in" for the embedded default.
    pub file: String,
    /// Line, from 1; 0 where there is no file.
    pub line: usize,
    /// The key, such as `volume[2].path`.
    pub key: String,
}

/// `[array]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The array's name, unique among its peers.
    pub name: String,
    /// The target's iSCSI name.
    pub iqn: String,
    /// The folder of tables and state.
    pub data: PathBuf,
    /// CPUs with a reactor each; `None`: all allowed but one, at least one.
    pub cores: Option<Vec<u32>>,
    /// Where `cores` stands.
    pub cores_site: Site,
    /// Cache memory.
    pub cache: ByteLen,
    /// Where `cache` stands.
    pub cache_site: Site,
    /// Memory for RAM volumes that are made at run time.
    pub ram: ByteLen,
    /// Address of the metrics endpoint.
    pub metrics: Option<SocketAddr>,
    /// Path of the admin socket.
    pub admin: Option<PathBuf>,
    /// What reactors do without work.
    pub idle: Idle,
    /// Congestion control set on accepted sockets; `None` leaves the system's.
    pub congestion: Option<String>,
    /// Header digests, most wanted first.
    pub header_digest: Vec<Digest>,
    /// Data digests, most wanted first.
    pub data_digest: Vec<Digest>,
    /// Silence on a connection after which a NOP-In asks whether the initiator is there;
    /// zero: never.
    pub nop_interval: Duration,
    /// How long its answer may take before the connection is closed.
    pub nop_timeout: Duration,
    /// How long a connection may take to log in.
    pub login_timeout: Duration,
    /// How long a device operation may take before its command is answered with an error.
    pub io_timeout: Duration,
    /// How long a graceful stop may take.
    pub stop_timeout: Duration,
    /// Sessions at once, discovery sessions included.
    pub max_sessions: u32,
    /// Connections at once, those logging in included.
    pub max_connections: u32,
    /// MaxConnections offered to a session (RFC 7143 13.2).
    pub connections_per_session: u16,
    /// Commands a session may have outstanding: the widest CmdSN window.
    pub queue_depth: u32,
    /// Task slots of each core.
    pub tasks: u32,
    /// Volumes at once, those made at run time included.
    pub max_volumes: u32,
    /// Whether to ask for huge pages.
    pub huge_pages: bool,
    /// FirstBurstLength offered (RFC 7143 13.14).
    pub first_burst: u32,
    /// MaxBurstLength offered (RFC 7143 13.13).
    pub max_burst: u32,
}

/// What a reactor does when there is no work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls a while, then sleeps in the kernel.
    Adaptive,
    /// Polls for ever.
    Spin,
}

/// A digest that may be negotiated (RFC 7143 13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// No digest.
    None,
    /// CRC32C.
    Crc32c,
}

/// One address on which the array listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// Address and port.
    pub address: SocketAddr,
    /// Who may use it.
    pub role: PortalRole,
    /// `auth = "none"` was written: initiators without CHAP may use it beyond loopback.
    pub open: bool,
    /// Where it stands.
    pub site: Site,
}

/// Who a portal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortalRole {
    /// Hosts and peers.
    Both,
    /// Hosts only.
    Host,
    /// Other arrays only.
    Peer,
}

/// One `[[volume]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Where its table stands.
    pub site: Site,
    /// Whose it is.
    pub owner: Owner,
    /// Its number.
    pub lun: Lun,
    /// Its name, unique in the array.
    pub name: String,
    /// Where its blocks are.
    pub backend: Backend,
    /// Its capacity; `None`: the device's or the existing file's.
    pub size: Option<ByteLen>,
    /// For a volume of the file that was made larger at run time: to how much. `size` is that too.
    pub grown: Option<ByteLen>,
    /// Its logical block.
    pub block_size: BlockSize,
    /// How it caches.
    pub cache: CacheMode,
    /// Hosts may not write.
    pub read_only: bool,
    /// What it is for.
    pub role: Role,
    /// Reported as thinly provisioned: unmapped blocks are given back and read as zeroes.
    /// `None`: yes for files and RAM, and where a device discards.
    pub thin: Option<bool>,
    /// Commands the volume may have in service, over all sessions; `None`: the plan's share.
    pub queue_depth: Option<u32>,
    /// Operations in flight at the device; `None`: the plan's choice.
    pub device_depth: Option<u32>,
    /// Its own `io_timeout`; `None`: the array's.
    pub io_timeout: Option<Duration>,
    /// Over how many cores its extents are dealt out; 1: it stays on one.
    pub spread: u16,
}

/// Where a volume's blocks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A block device, or a file. Which, the path's own type says at start.
    Path(PathBuf),
    /// Memory; gone when the daemon stops.
    Ram,
    /// Reads zeroes, drops writes.
    Null,
    /// Memory that fails and hangs as that specification says.
    #[cfg(feature = "faulty")]
    Faulty(String),
}

/// A volume's cache mode; it alone decides the WCE bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Writes are answered from cache (WCE=1).
    WriteBack,
    /// Writes are answered when stable; reads are cached (WCE=0).
    WriteThrough,
    /// Nothing is kept (WCE=0).
    None,
}

/// What a volume is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A host's data.
    Plain,
    /// The array's command device.
    Command,
    /// A journal; never served to hosts.
    Journal,
}

/// Rights on command devices, each including those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// Ask only.
    Read,
    /// Ask, and order pairs and journals.
    Operate,
    /// Everything that may be ordered in band.
    Admin,
}

/// One `[[initiator]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiator {
    /// Where its table stands.
    pub site: Site,
    /// Whose it is.
    pub owner: Owner,
    /// Its iSCSI name.
    pub iqn: String,
    /// The LUNs that it sees, sorted.
    pub luns: Vec<Lun>,
    /// Those of them that an initiator of the file was given at run time.
    pub added: Vec<Lun>,
    /// Its rights on command devices.
    pub rights: Rights,
    /// How it must prove who it is.
    pub chap: Option<Chap>,
}

/// `chap = { user, secret_file, mutual = { user, secret_file } }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chap {
    /// The name and secret that the other side proves.
    pub credential: Credential,
    /// The name and secret that this array proves in turn.
    pub mutual: Option<Credential>,
}

/// A CHAP name and where its secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// CHAP_N (RFC 7143 12.1.3).
    pub user: String,
    /// File whose first line is the secret.
    pub secret_file: PathBuf,
    /// Where it stands.
    pub site: Site,
}

/// One `[[peer]]`: another array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where its table stands.
    pub site: Site,
    /// Whose it is.
    pub owner: Owner,
    /// Its name.
    pub name: String,
    /// Its target's iSCSI name.
    pub iqn: String,
    /// Where it listens.
    pub portals: Vec<SocketAddr>,
    /// How long a command to it may take; `None`: the default.
    pub io_timeout: Option<Duration>,
    /// Connections of each session with it.
    pub connections: u16,
    /// What it does with orders of its hosts.
    pub orders: Orders,
    /// LUNs of this array that it may map.
    pub luns: Vec<Lun>,
    /// How each proves who it is.
    pub chap: Option<Chap>,
}

/// One `[[virtual]]`: a volume that another array has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// Where its table stands.
    pub site: Site,
    /// Whose it is.
    pub owner: Owner,
    /// Its name; `PEER:LUN` where none is given.
    pub name: String,
    /// Its LUN here.
    pub lun: Lun,
    /// The peer that has it.
    pub peer: String,
    /// Its LUN there.
    pub mapped_lun: Lun,
    /// `Command`: it is that array's command device. Otherwise plain.
    pub role: Role,
}

/// One `[[group]]`: a group of pairs, or the options of one that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Where its table stands.
    pub site: Site,
    /// Whose its name and options are.
    pub owner: Owner,
    /// Its name, the same at both arrays.
    pub name: String,
    /// The other array.
    pub peer: String,
    /// How it behaves.
    pub options: GroupOptions,
    /// What it joins; `None`: there are options only.
    pub pairs: Option<Pairs>,
}

/// How a group behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// Who drives the secondary.
    pub mode: GroupMode,
    /// What a full journal does.
    pub overflow: Overflow,
    /// Entries younger than this wait in the secondary's journal.
    pub hold: Duration,
    /// Bytes a second that the secondary reads at most; 0: unlimited.
    pub bandwidth: ByteLen,
    /// Hosts may read the secondary.
    pub secondary_reads: bool,
    /// How long a primary that starts asks its peer before it serves by itself.
    pub restart_wait: Duration,
    /// Whether it then serves; else it waits on.
    pub serves_alone: bool,
    /// How long hosts' writes are held in a swap before they are answered NOT READY.
    pub swap_hold: Duration,
    /// A reader that was silent for so long suspends the group.
    pub silence: Duration,
    /// A swap is refused while the secondary is further behind.
    pub swap_lag: Duration,
    /// How hard the formation copy works.
    pub pace: CopyPace,
    /// Shares of the journal in use that are worth an event.
    pub thresholds: Thresholds,
    /// Memory for what a secondary reads ahead; at most an eighth of the array's.
    pub memory: ByteLen,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            mode: GroupMode::Poller,
            overflow: Overflow::Suspend,
            hold: Duration::ZERO,
            bandwidth: ByteLen(0),
            secondary_reads: false,
            restart_wait: Duration::from_secs(60),
            serves_alone: true,
            swap_hold: Duration::from_secs(10),
            silence: Duration::from_secs(3600),
            swap_lag: Duration::from_secs(10),
            pace: CopyPace::Full,
            thresholds: Thresholds::default(),
            memory: ByteLen(64 << 20),
        }
    }
}

/// How hard a formation copy works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyPace {
    /// As fast as it can.
    Full,
    /// It leaves room for others.
    Gentle,
    /// So many bytes a second.
    Rate(NonZeroU64),
}

/// Who drives a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupMode {
    /// The array itself, all the time.
    Poller,
    /// A host, order by order.
    Host,
}

/// What a full journal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Suspends the group.
    Suspend,
    /// Slows hosts by at most so much before that.
    Slow(Duration),
}

/// A side of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Hosts write here.
    Primary,
    /// It follows.
    Secondary,
}

/// What a group joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// Whose they are.
    pub owner: Owner,
    /// The group's, the same at both arrays.
    pub uuid: Uuid,
    /// The other array's.
    pub peer_uuid: Uuid,
    /// The LUN of the journal here.
    pub journal: Lun,
    /// The LUN of the journal there.
    pub peer_journal: Lun,
    /// Bytes of the smaller of the two journals.
    pub journal_size: ByteLen,
    /// Which side this array was when the group was made.
    pub side: Side,
    /// It is being made: its journal may be blank yet.
    pub fresh: bool,
    /// The pairs; a volume's place here is its number in the journal.
    pub pairs: Vec<Pair>,
}

/// Two volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The LUN here.
    pub lun: Lun,
    /// The LUN there.
    pub peer_lun: Lun,
}

impl Side {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

/// Which orders are taken from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orders {
    /// Those that an operator signed.
    Signed,
    /// All that it forwards.
    Forward,
    /// None.
    None,
}

impl Orders {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Forward => "forward",
            Self::None => "none",
        }
    }
}

/// One `[[operator]]`: who may sign orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Where its table stands.
    pub site: Site,
    /// The operator's name.
    pub name: String,
    /// File with the key.
    pub key_file: PathBuf,
    /// What the operator may order.
    pub rights: Rights,
}

/// One `[[pool]]`: where orders may make volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Where its table stands.
    pub site: Site,
    /// Its name.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// What its volumes may have in all.
    pub size: ByteLen,
}

impl Portal {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.address)
    }
}

/// Whether only this machine can reach an address, an IPv4 one in IPv6 clothes included.
#[must_use]
pub fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

impl Volume {
    /// Whether hosts see it.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.role != Role::Journal
    }
}

impl Rights {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl CacheMode {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WriteBack => "writeback",
            Self::WriteThrough => "writethrough",
            Self::None => "none",
        }
    }
}

impl Role {
    /// The word of the configuration; "plain" for what has none.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Command => "command",
            Self::Journal => "journal",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Ram => f.write_str("ram"),
            Self::Null => f.write_str("null"),
            #[cfg(feature = "faulty")]
            Self::Faulty(spec) => f.write_str(spec),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: {}", self.file, self.line, self.key)
        } else {
            write!(f, "{}: {}", self.file, self.key)
        }
    }
}
