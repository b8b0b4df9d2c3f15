//! What cores say to each other. Every message is moved, none is shared.

use crate::moving::Moving;
use crate::nexus::{ConnectionId, TaskId};
use crate::session::Session;
use kagami_iscsi::pdu::{Itt, TaskAttribute, TmfFunction};
use kagami_memory::Scatter;
use kagami_scsi::NexusId;
use kagami_types::{CoreId, Lun, Time};
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
}
