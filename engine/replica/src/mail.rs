//! What a group and the fronts of its volumes say to each other.
//!
//! Mail between the same two is never reordered. All of it is small but for the pages it names, which are counted handles.

use kagami_memory::Scatter;
use kagami_types::{BlockError, BlockOp, BlockRange, Lba, LbaStatus, Sequence, Time};

/// A volume's number in its group; its place in the group's list of pairs, never given to another while the group lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeIndex(pub u8);

/// What a journal entry does to its volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Blocks are written; the data are as long as the range.
    Write(BlockRange),
    /// One block of data, all over the range (WRITE SAME).
    Same {
        /// The first block.
        lba: Lba,
        /// How many.
        blocks: u64,
    },
    /// Blocks become zeroes; `unmap`: they may be deallocated.
    Zero {
        /// The first block.
        lba: Lba,
        /// How many.
        blocks: u64,
        /// UNMAP, or WRITE SAME with the UNMAP bit.
        unmap: bool,
    },
    /// A sequence that was taken and not used.
    Nothing,
}

/// From a front to its group.
#[derive(Debug)]
pub enum ToGroup {
    /// A host's write has its sequence. A front that took a sequence always sends this once.
    Append {
        /// Its place in the order of the group.
        sequence: Sequence,
        /// What it does. An UNMAP of several ranges takes one sequence for each.
        change: Change,
        /// The data, as the change says.
        data: Scatter,
        /// The next sequence is of the same operation: both are in the same frame.
        more: bool,
        /// The host was answered: nobody waits for it to be stable, unless [`Hurry`](Self::Hurry) says so.
        promised: bool,
        /// When the front took the sequence.
        taken: Time,
    },
    /// Somebody waits until everything up to that sequence is stable.
    Hurry(Sequence),
    /// Host writes wait until these granules of the difference bitmap are durable.
    Mark {
        /// The first granule, and the one behind the last. Granules of 64 KiB.
        granules: (u64, u64),
        /// Comes back with [`ToFront::Marked`].
        ticket: u64,
    },
    /// The mode of that ticket holds: every sequence that this front took in the mode before is applied to the store, or was
    /// given up by the new mode, and no host write of the old mode is under way.
    ModeHolds {
        /// From [`ToFront::Mode`].
        ticket: u64,
    },
    /// What the group asked for is done.
    Applied {
        /// From [`ToFront::Apply`].
        tag: u64,
        /// How it ended.
        result: Result<(), BlockError>,
        /// What was read.
        data: Scatter,
        /// What was asked about allocation.
        status: Vec<LbaStatus>,
    },
    /// The store refused a write that is in the journal: here it may be done, half done or not; the host was told so.
    Refused {
        /// Which.
        sequence: Sequence,
        /// Where, in blocks: the first and the one behind the last.
        blocks: (u64, u64),
        /// Why.
        error: BlockError,
    },
    /// The store's device may have lost what it had not made stable. Hosts are let in again after a [`ToFront::Mode`] of
    /// [`Mode::NotReady`] and another.
    Lost,
}

/// From a group to the front of one of its volumes.
#[derive(Debug)]
pub enum ToFront {
    /// From now on so. Answered by [`ToGroup::ModeHolds`].
    Mode {
        /// Comes back.
        ticket: u64,
        /// How.
        mode: Mode,
    },
    /// All sequences up to here are in the journal and stable: the writes go on to the store.
    Stable(Sequence),
    /// The granules of that ticket are durable.
    Marked(u64),
    /// Do this to the store, for nobody's host. Answered by [`ToGroup::Applied`]. Overlapping ones take effect in the order
    /// in which they came.
    Apply {
        /// Comes back.
        tag: u64,
        /// What.
        op: BlockOp,
        /// Its data.
        data: Scatter,
    },
    /// New host writes wait until this time before they take their sequence (an overflow policy that slows); zero: no more.
    Slow(Time),
}

/// How a front treats its hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All go to the store as if there were no pair (`SMPL`).
    Plain,
    /// NOT READY, becoming ready: the group recovers, or asks its peer.
    NotReady,
    /// Host writes take a sequence, go to the group, and reach the store when they are stable in the journal.
    Journaling,
    /// Host writes wait for their granules' bits, and then reach the store. Writes that waited for the journal are run again
    /// so, in their order.
    Tracking,
    /// New host writes are held until that time and then answered NOT READY (a swap is under way).
    Held {
        /// Until when.
        until: Time,
    },
    /// Host writes are refused (DATA PROTECT); reads go on.
    Fenced,
    /// As [`Fenced`](Self::Fenced), and only the group writes; reads as said.
    Secondary {
        /// Hosts may read.
        reads: bool,
    },
    /// Nothing: the operator has to decide.
    Stopped,
}
