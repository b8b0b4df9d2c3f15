//! The plan: how many of everything, computed once at start.
//!
//! The configuration says what is wanted, the machine what there is; the plan is what both
//! allow, in exact counts. Memory, slots, queues and placement come from it and from nowhere
//! else: no other part reads the configuration for a number, and nothing grows past its count
//! afterwards. A configuration that does not fit is refused here, with the number that is
//! missing.
//!
//! [`Plan::compute`] is a pure function of [`Config`](crate::config::Config) and [`Machine`],
//! so every refusal can be tested; [`Machine::detect`] asks the system.

mod compute;
mod error;
mod machine;
mod preset;

pub use error::PlanError;
pub use machine::{KernelVersion, Machine};

use crate::config::{Backend, CacheMode, Digest, Idle, PortalRole, Role, Site};
use kagami_types::{BlockSize, ByteLen, CoreId, Lun};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of a cache page.
pub const PAGE_BYTES: u64 = 4 << 10;
/// Bytes of a small buffer: transmit headers, the receive window of an idle connection.
pub const SMALL_BYTES: u64 = 16 << 10;
/// Bytes of a large buffer: the receive window of a busy connection.
pub const LARGE_BYTES: u64 = 256 << 10;

/// Everything that is counted, sized or placed at start.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The array's name.
    pub name: String,
    /// The target's iSCSI name.
    pub iqn: String,
    /// The folder of tables and state.
    pub data: PathBuf,
    /// One reactor each, in the order of their [`CoreId`]s; never empty.
    pub cores: Vec<CorePlan>,
    /// CPUs for every thread that is no reactor. Where all allowed CPUs have a reactor, those.
    pub management_cpus: Vec<u32>,
    /// What reactors do without work.
    pub idle: IdlePlan,
    /// The arena.
    pub memory: MemoryPlan,
    /// The io_uring of each core.
    pub ring: RingPlan,
    /// Messages each core-to-core queue holds; a power of two.
    pub mesh_capacity: u32,
    /// Tasks and their bounds.
    pub tasks: TaskPlan,
    /// Portals and connections.
    pub network: NetworkPlan,
    /// What is offered in iSCSI negotiation.
    pub iscsi: IscsiPlan,
    /// The volumes of the configuration; a volume's place here is its row in all tables.
    pub volumes: Vec<VolumePlan>,
    /// The virtual volumes.
    pub virtuals: Vec<VirtualPlan>,
    /// Rows of the volume table: `volumes`, and room for those made at run time.
    pub volume_rows: u32,
    /// Address of the metrics endpoint.
    pub metrics: Option<SocketAddr>,
    /// Path of the admin socket.
    pub admin: Option<PathBuf>,
    /// How long a graceful stop may take.
    pub stop_timeout: Duration,
}

/// One reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorePlan {
    /// Its number, from 0.
    pub id: CoreId,
    /// The CPU that it is pinned to, as the kernel numbers them.
    pub cpu: u32,
}

/// What reactors do without work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdlePlan {
    /// Sleep in the kernel, or never.
    pub mode: Idle,
    /// How long to poll after the last work before sleeping (`adaptive` only).
    pub spin: Duration,
}

/// The arena: taken and touched at start, never grown.
///
/// The three classes' counts are over all cores; each core's shard is an equal part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// 4 KiB pages: cache, RAM volumes and data on its way. Includes `ram_pages` and
    /// `reserve_pages`.
    pub pages: u32,
    /// 16 KiB buffers.
    pub small: u32,
    /// 256 KiB buffers.
    pub large: u32,
    /// Pages that RAM volumes may come to hold; a host's quota does not include them.
    pub ram_pages: u32,
    /// Pages that hosts cannot take: for destage, journal and peers.
    pub reserve_pages: u32,
    /// 16 KiB buffers that hosts cannot take.
    pub reserve_small: u32,
    /// 256 KiB buffers that hosts cannot take.
    pub reserve_large: u32,
    /// Whether to ask for huge pages.
    pub huge_pages: bool,
    /// The arena's size in bytes.
    pub arena_bytes: u64,
    /// An upper estimate of everything else that is taken at start (slots, tables, counters,
    /// rings), in bytes.
    pub other_bytes: u64,
    /// Whether the kernel lets the arena be registered as fixed buffers: it counts against
    /// RLIMIT_MEMLOCK unless the process has CAP_IPC_LOCK.
    pub register: bool,
}

impl MemoryPlan {
    /// Pages that hosts can have.
    #[must_use]
    pub fn host_pages(&self) -> u32 {
        self.pages.saturating_sub(self.ram_pages).saturating_sub(self.reserve_pages)
    }

    /// Bytes of the longest write that hosts are told that any volume takes. A write takes pages for all of its data before
    /// any of it comes, so one command may use a quarter of what hosts can have.
    #[must_use]
    pub fn longest_write(&self) -> u32 {
        self.host_pages().saturating_mul(1024).clamp(1 << 20, 32 << 20)
    }
}

/// The io_uring of each core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPlan {
    /// Submission queue entries; a power of two.
    pub entries: u32,
    /// Completion queue entries; a power of two, at least twice `entries`.
    pub completions: u32,
    /// Slots of the table of registered files.
    pub files: u32,
    /// Submission queue entries of a polled (IOPOLL) ring, where a device has one.
    pub poll_entries: u32,
    /// Kernel workers for bounded work (fsync, fallocate on files).
    pub bounded_workers: u32,
    /// Kernel workers for unbounded work.
    pub unbounded_workers: u32,
}

/// Task slots, and who may take how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskPlan {
    /// Task slots of each core: SCSI commands in service.
    pub per_core: u32,
    /// The widest CmdSN window of a session.
    pub per_session: u32,
    /// Slots of each core that are kept for immediate commands, task management and NOPs.
    pub reserve: u32,
    /// Outstanding R2Ts of a task (RFC 7143 13.17).
    pub max_r2t: u16,
}

/// Portals and connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Addresses to listen on; never empty.
    pub portals: Vec<PortalPlan>,
    /// Pending connections of each listening socket.
    pub backlog: i32,
    /// Sessions at once, over all cores.
    pub max_sessions: u32,
    /// Connections at once, over all cores, those logging in included.
    pub max_connections: u32,
    /// Connections that one core can come to own.
    pub connections_per_core: u32,
    /// Connections that may be logging in at once, over all cores; more are closed at accept.
    pub max_logging_in: u32,
    /// Congestion control set on accepted sockets; `None` leaves the system's.
    pub congestion: Option<String>,
    /// How long a connection may take to log in.
    pub login_timeout: Duration,
    /// Silence after which a NOP-In is sent; zero: never.
    pub nop_interval: Duration,
    /// How long its answer may take.
    pub nop_timeout: Duration,
}

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortalPlan {
    /// Address and port.
    pub address: SocketAddr,
    /// Who may use it.
    pub role: PortalRole,
    /// Its portal group tag: one group, so that a session's connections may use any portal.
    pub group_tag: u16,
    /// Only this machine can reach it.
    pub loopback: bool,
    /// Initiators without CHAP may use it.
    pub open: bool,
}

/// What is offered in iSCSI negotiation (RFC 7143 chapter 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IscsiPlan {
    /// HeaderDigest, most wanted first.
    pub header_digest: Vec<Digest>,
    /// DataDigest, most wanted first.
    pub data_digest: Vec<Digest>,
    /// MaxConnections.
    pub max_connections: u16,
    /// MaxRecvDataSegmentLength declared, in bytes.
    pub max_recv_segment: u32,
    /// FirstBurstLength, in bytes.
    pub first_burst: u32,
    /// MaxBurstLength, in bytes.
    pub max_burst: u32,
}

/// One volume of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumePlan {
    /// Its row in every table.
    pub row: u32,
    /// Where the configuration says so.
    pub site: Site,
    /// Its number.
    pub lun: Lun,
    /// Its name.
    pub name: String,
    /// Where its blocks are.
    pub backend: Backend,
    /// Its capacity; `None` until the device was asked.
    pub size: Option<ByteLen>,
    /// Its logical block.
    pub block_size: BlockSize,
    /// How it caches.
    pub cache: CacheMode,
    /// Hosts may not write.
    pub read_only: bool,
    /// What it is for.
    pub role: Role,
    /// Thin provisioning asked for; `None`: as the device can.
    pub thin: Option<bool>,
    /// The core that owns it.
    pub home: CoreId,
    /// Task slots that its commands may hold at once, on its home core.
    pub slots: u32,
    /// Over how many cores its extents are dealt out, its home among them.
    pub spread: u16,
    /// Operations in flight at its device, of each of these cores.
    pub device_depth: u32,
    /// Pages that its commands and dirty data may hold at most, on each of these cores.
    pub page_quota: u32,
    /// How long a device operation may take.
    pub io_timeout: Duration,
}

/// Virtual volumes that may be made at run time beyond those of the start.
pub const SPARE_VIRTUALS: usize = 16;

/// Links of groups of pairs, of which each pair has one and each journal two; what there are more find the memory that
/// others leave.
pub const SPARE_LINKS: usize = 16;
/// How long a command to a peer may take, where the configuration does not say.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// One virtual volume: a unit of another array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualPlan {
    /// Its row in the counters, behind those of volumes; one made at run time gets a free one there.
    pub row: u32,
    /// Where the configuration says so.
    pub site: Site,
    /// Its name.
    pub name: String,
    /// Its number here.
    pub lun: Lun,
    /// Its number there.
    pub mapped: Lun,
    /// What it is for.
    pub role: Role,
    /// The peer that has it.
    pub peer: String,
    /// The peer's iSCSI name.
    pub iqn: String,
    /// Where the peer listens.
    pub portals: Vec<SocketAddr>,
    /// Connections of its session.
    pub connections: u16,
    /// How long a command may take.
    pub io_timeout: Duration,
    /// The core that owns it.
    pub home: CoreId,
    /// Commands at a time.
    pub slots: u32,
    /// Pages that these may hold.
    pub page_quota: u32,
}

impl Plan {
    /// The volumes that hosts see.
    pub fn served(&self) -> impl Iterator<Item = &VolumePlan> {
        self.volumes.iter().filter(|volume| volume.role != Role::Journal)
    }

    /// How many reactors there are.
    #[must_use]
    pub fn core_count(&self) -> usize {
        self.cores.len()
    }
}

#[cfg(test)]
mod tests;
