//! What cores say to each other. Every message is moved, none is shared.

use crate::moving::Moving;
use crate::nexus::{ConnectionId, TaskId};
use crate::session::Session;
use crate::spread::ShardAddress;
use kagami_cache::store::DeferredError;
use kagami_iscsi::pdu::{Itt, TaskAttribute, TmfFunction};
use kagami_memory::Scatter;
use kagami_replica::action::FarOp;
use kagami_replica::mail::{ToFront, ToGroup, VolumeIndex};
use kagami_scsi::NexusId;
use kagami_types::{BlockCount, BlockOp, BlockRange, CoreId, Lun, Time};
use kagami_volume::{DeviceLimits, Outcome, Tag};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where a logical unit lives: its home core, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnitAddress {
    /// The only core that touches it.
    pub core: CoreId,
    /// Its place in that core's list.
    pub index: u32,
}

/// A SCSI command with all of its data, on its way to its unit's home core.
#[derive(Debug)]
pub struct Command {
    /// Who waits for the reply.
    pub task: TaskId,
    /// Whom it is for.
    pub unit: UnitAddress,
    /// From which session.
    pub nexus: NexusId,
    /// The command descriptor block.
    pub cdb: [u8; 16],
    /// How it is ordered among others; simple where the initiator stated nothing.
    pub attribute: TaskAttribute,
    /// How many bytes the initiator was ready to send; `data` has what of it the command can use.
    pub offered: u32,
    /// The data that came with it; empty storage for what it will return otherwise.
    pub data: Scatter,
    /// When it arrived.
    pub received: Time,
    /// When it was sent to another core, where it was.
    pub sent: Time,
}

/// The end of a command, on its way back.
#[derive(Debug)]
pub struct Reply {
    /// Whose.
    pub task: TaskId,
    /// How it ended.
    pub end: Ending,
    /// What it returned; the list's storage comes back even where it is empty.
    pub data: Scatter,
    /// How many bytes the command wanted to move, for the residual.
    pub wanted: u64,
}

/// How a command ended.
#[derive(Debug)]
pub enum Ending {
    /// GOOD.
    Good,
    /// Another status, with sense data where it has some.
    Status(u8, Option<Box<[u8]>>),
    /// It was aborted: no status is sent (SAM-5 5.6, TAS 0).
    Aborted,
}

/// A task management function on its way to the cores.
#[derive(Clone, Copy, Debug)]
pub struct Manage {
    /// Who waits for the answer.
    pub asked_by: ConnectionId,
    /// By which tag.
    pub itt: Itt,
    /// What to do.
    pub function: TmfFunction,
    /// The asking session.
    pub nexus: NexusId,
    /// To which units.
    pub scope: Scope,
}

/// What a task management function is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One task.
    Task(TaskId, UnitAddress),
    /// One unit.
    Unit(Lun, UnitAddress),
    /// All units.
    Target,
}

impl Scope {
    /// Whether it covers a unit.
    pub(crate) fn covers(&self, unit: UnitAddress) -> bool {
        match self {
            Self::Task(_, only) | Self::Unit(_, only) => *only == unit,
            Self::Target => true,
        }
    }
}

impl Manage {
    /// Whether it ends the tasks of that session.
    pub(crate) fn concerns(&self, nexus: NexusId) -> bool {
        match self.function {
            TmfFunction::AbortTask | TmfFunction::AbortTaskSet => nexus == self.nexus,
            _ => true,
        }
    }
}

/// A part of a block operation on a spread volume, on its way to the shard that has its blocks.
#[derive(Debug)]
pub struct Part {
    /// The shard's place at its core.
    pub shard: u32,
    /// Whose it is.
    pub unit: UnitAddress,
    /// What the unit calls it; comes back with the outcome.
    pub tag: Tag,
    /// What to do.
    pub op: BlockOp,
    /// The data that comes with it.
    pub data: Scatter,
    /// Of a flush: what is dirty is to go to the device, which need not make it stable yet.
    pub writes_out: bool,
}

/// Its end, on its way back.
#[derive(Debug)]
pub struct PartDone {
    /// The unit's place at its core.
    pub unit: u32,
    /// As the unit called it.
    pub tag: Tag,
    /// How it ended.
    pub outcome: Outcome,
    /// It had to wait for nothing: a read found all in the cache.
    pub at_once: bool,
}

/// What a unit tells a shard of its volume besides parts. It holds for the parts that come after it.
#[derive(Debug)]
pub enum ShardOrder {
    /// End that part early, where that can be done without harm.
    Abort(Tag),
    /// The WCE bit.
    WriteBack(bool),
    /// Whether a journal has what is dirty.
    Journaled(bool),
    /// The device was flushed after the shard had written out for that operation.
    Stable(Tag),
    /// These blocks will be read.
    Ahead(BlockRange),
    /// The volume is to have so many blocks.
    Grow(BlockCount),
    /// The device was removed.
    Gone,
    /// It is back.
    Back {
        /// A descriptor of this core's own.
        device: OwnedFd,
        /// Its driver has poll queues, which are to be used.
        polled: bool,
        /// What it asks for and can take now.
        limits: DeviceLimits,
    },
    /// It has other limits.
    Limits(DeviceLimits),
    /// Bring everything dirty to the device.
    Drain,
    /// The same, make it stable, and go.
    Leave,
}

impl ShardOrder {
    /// On its way.
    pub(crate) fn to(self, shard: u32, unit: UnitAddress) -> Crossing {
        Crossing::Order(Box::new(ShardMail { shard, unit, order: self }))
    }
}

/// An order with its addresses.
#[derive(Debug)]
pub struct ShardMail {
    /// The shard's place at its core.
    pub shard: u32,
    /// Whose it is.
    pub unit: UnitAddress,
    /// What to do.
    pub order: ShardOrder,
}

/// What a shard says to its unit besides the ends of parts.
#[derive(Debug)]
pub enum ShardNews {
    /// A write that was answered long ago could not be brought to the device (SPC-5 4.4.7).
    Deferred(DeferredError),
    /// It has grown, or cannot.
    Grown(bool),
    /// Whether it has given up the device that is gone.
    Released(bool),
    /// It goes on with the device that is back, or why not.
    Back {
        /// It has it, or why not.
        result: Result<(), String>,
        /// What the device was given and had not flushed may be lost.
        lost: bool,
    },
    /// It is gone.
    Left,
}

/// What a front and its group say to each other, with the place at the core to which it goes.
#[derive(Debug)]
pub enum PairMail {
    /// From the front of that volume to the journal unit in that place.
    ToGroup(u32, VolumeIndex, ToGroup),
    /// From the group to the unit in that place, before whose volume the front stands.
    ToFront(u32, ToFront),
}

/// A command of a group for the other array.
#[derive(Debug)]
pub(crate) struct FarCommand {
    /// The journal unit's place at this core.
    pub(crate) unit: u32,
    /// The group's tag.
    pub(crate) tag: u64,
    /// The virtual volume through which it goes, by its index.
    pub(crate) place: u32,
    pub(crate) op: FarOp,
}

/// What a unit sends to others in the course of a call: shards, fronts, groups.
#[derive(Debug)]
pub(crate) enum Crossing {
    Part(Part),
    Order(Box<ShardMail>),
    Mail(PairMail),
    /// For a link of the same core.
    Far(FarCommand),
}

impl From<FarCommand> for Crossing {
    fn from(command: FarCommand) -> Self {
        Self::Far(command)
    }
}

impl From<PairMail> for Crossing {
    fn from(mail: PairMail) -> Self {
        Self::Mail(mail)
    }
}

impl From<Part> for Crossing {
    fn from(part: Part) -> Self {
        Self::Part(part)
    }
}

/// From one core to another. `S` is a socket between two cores.
#[derive(Debug)]
pub enum Message<S> {
    /// A connection was accepted and is yours now.
    Adopt(S),
    /// A connection that serves is yours now.
    Move(Box<Moving<S>>),
    /// Execute this.
    Command(Command),
    /// This is done.
    Reply(Reply),
    /// A session has begun.
    Attach(Arc<Session>),
    /// A session has ended: abort what it left, forget it, and say so to the registry.
    Detach(Arc<Session>),
    /// Close your connections of this session.
    EndSession(Arc<Session>),
    /// Task management, first step: end the tasks that still collect their data, then send a
    /// [`Fence`](Self::Fence) to each core that has units of the scope.
    Manage(Manage),
    /// Second step: everything that this core sent before is there. When the fences of all cores
    /// are there, the unit ends its tasks, and then sends [`Managed`](Self::Managed).
    Fence(Manage),
    /// Third step: a core's part of it is done.
    Managed(Manage),
    /// A connection that waited may go on.
    Nudge,
    /// Do this at a shard.
    Part(Part),
    /// That is done.
    PartDone(PartDone),
    /// A shard is told something.
    Order(Box<ShardMail>),
    /// A shard says something to the unit in that place.
    News(u32, ShardAddress, Box<ShardNews>),
    /// A front and its group, which live on different cores.
    Mail(PairMail),
}
