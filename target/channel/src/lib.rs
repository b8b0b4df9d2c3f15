//! Channel controllers: one [`Core`] per core of the machine holds the iSCSI connections that
//! were given to it and the logical units whose home it is.
//!
//! Bytes become PDUs, PDUs become commands, commands go to the home core of their unit, and
//! replies come back and become bytes. Which I/O carries the bytes it does not know: the same
//! code runs over io_uring and in the simulator, through `kagami_reactor`'s traits.
//!
//! | file | what |
//! | --- | --- |
//! | `core` | the round: completions, messages, connections, time-outs, the end |
//! | `hub` | a core without its connections: units, memory, other cores |
//! | `connection`, `outbox` | a socket's bytes in both directions |
//! | `login`, `full`, `receive`, `command`, `answer`, `manage`, `control`, `text` | the phases of a connection |
//! | `placement`, `moving` | on which core a connection should live, and how it gets there |
//! | `session`, `registry` | what a session shares over cores, and all sessions |
//! | `maker`, `inbox` | units that come and go, and what else the daemon's threads tell a core |
//! | `virtual_unit`, `far` | a volume that another array has: its front and its link; the links' sockets |
//! | `unit` | a logical unit on its home core: device server, volume, tasks between |
//! | `backing`, `spread` | its volume: at the same core, or in extents over several |
//! | `paired`, `unit/pair` | a volume in a pair: the front before it, and what hosts see of that |
//! | `journal`, `pairing` | a journal's unit with its group; mail between groups and fronts |
//! | `shard`, `hall` | what other cores' units have here of such a volume |
//!
//! # Who owns what
//!
//! A connection belongs to the core that it was given to, until that hands it to another; so do its tasks, until a task's
//! command is sent to the unit's home core, which owns it until the reply. A unit belongs to
//! its home core for good. A session is shared: its command window is three atomic words, all
//! else in it never changes. See `docs/architecture.md`.
#![forbid(unsafe_code)]

mod access;
mod ahead;
mod answer;
mod backing;
mod command;
mod connection;
mod control;
mod core;
mod device;
mod directory;
mod far;
mod full;
mod hall;
mod hub;
mod inbox;
mod journal;
mod login;
mod maker;
mod manage;
mod message;
mod moving;
mod nexus;
mod order;
mod orders;
mod outbox;
mod paired;
mod pairing;
mod placement;
mod plan;
mod receive;
mod registry;
mod session;
mod shard;
mod shares;
mod spread;
mod task;
mod text;
mod token;
mod unit;
mod virtual_unit;

pub use crate::core::Core;
pub use access::{Access, Ends, Refused};
pub use device::DeviceChange;
pub use directory::Directory;
pub use hub::Keeper;
pub use inbox::{Control, GroupControl, Inbox, Usage};
pub use journal::{GroupEvent, GroupSeed, WallClock};
pub use maker::{Seed, UnitMaker};
pub use message::{
    Command, Ending, Manage, Message, PairMail, Part, PartDone, Reply, Scope, ShardMail, ShardNews,
    ShardOrder, UnitAddress,
};
pub use moving::Moving;
pub use nexus::{ConnectionId, TaskId};
pub use orders::Order;
pub use placement::MovePlan;
pub use plan::{CoreParts, CorePlan, Shared};
pub use registry::Registry;
pub use session::{Arrival, Session, SessionIdentity, Sight, Visible};
pub use shard::Shard;
pub use spread::{ShardAddress, SpreadPlan};
pub use token::{shard_base, volume_base};
pub use unit::{Keep, PairSeed, Ticket, Unit};
pub use virtual_unit::{FAR, Forwarded, Shape, VirtualUnit};

/// Where received bytes go that are a task's data.
pub(crate) struct ReceiveTarget {
    pub(crate) data: kagami_memory::ScatterMut,
    pub(crate) filled: usize,
    pub(crate) limit: usize,
}
