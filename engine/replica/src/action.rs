//! What a group wants done, and by whom.

use crate::mail::{ToFront, VolumeIndex};
use kagami_memory::Scatter;
use kagami_types::BlockError;

/// One thing to do. Its result comes back under its tag; actions without a tag have none.
#[derive(Debug)]
pub enum Action {
    /// To the group's own journal device.
    Journal {
        /// Comes back.
        tag: u64,
        /// What.
        op: DeviceOp,
    },
    /// To the front of a volume.
    Front(VolumeIndex, ToFront),
    /// To the other array, as READ and WRITE.
    Far {
        /// Comes back.
        tag: u64,
        /// Of which of its logical units.
        unit: FarUnit,
        /// What.
        op: FarOp,
    },
    /// An order is answered.
    Answer {
        /// The order's number, from whoever gave it.
        order: u64,
        /// What came of it.
        result: OrderResult,
    },
    /// Something happened that operators want to know.
    Event(String),
}

/// An operation on the journal device. Places and lengths are bytes, multiples of 4096.
#[derive(Debug)]
pub enum DeviceOp {
    /// Read.
    Read {
        /// Where.
        at: u64,
        /// How much.
        len: u32,
    },
    /// Write, and make stable before it is done where `stable`.
    Write {
        /// Where.
        at: u64,
        /// What.
        data: Scatter,
        /// It must survive a crash once it is done.
        stable: bool,
    },
    /// Make everything stable.
    Flush,
}

/// A logical unit of the other array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FarUnit {
    /// Its journal of this group.
    Journal,
    /// A volume of a pair.
    Volume(VolumeIndex),
}

/// A command for the other array. Places and lengths are bytes, multiples of the unit's block.
#[derive(Debug)]
pub enum FarOp {
    /// READ with FUA: of a volume it then waits for the journaled writes before it, so that what was seen in the journal is
    /// in what is read.
    Read {
        /// Where.
        at: u64,
        /// How much.
        len: u32,
    },
    /// WRITE with FUA.
    Write {
        /// Where.
        at: u64,
        /// What.
        data: Scatter,
    },
    /// GET LBA STATUS from that byte on.
    Status {
        /// Where.
        at: u64,
    },
}

/// How a far command ended.
#[derive(Debug)]
pub enum FarEnd {
    /// GOOD, with what was read.
    Good(Scatter),
    /// GOOD, with runs of bytes: first, length, whether deallocated.
    Status(Vec<(u64, u64, bool)>),
    /// The far array answered with another status or sense; a medium error names its block.
    Refused(String),
    /// It could not be reached, or did not answer in time: it may have been done.
    Unreachable,
}

/// How a device operation on the journal ended.
pub type DeviceEnd = Result<Scatter, BlockError>;

/// What came of an order, for exit codes and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderResult {
    /// Done; in words.
    Done(String),
    /// It was so already.
    Already(String),
    /// Refused in this state, and why; nothing changed.
    Refused(String),
    /// The other array could not be reached, and the order cannot go without it.
    Unreachable(String),
    /// A swap is done.
    Swapped,
    /// Taken over without draining; in words what was lost.
    TakenOver(String),
    /// It failed, and why.
    Failed(String),
    /// It took too long; it goes on, and may be repeated.
    TimedOut(String),
}
