//! What goes in and out of a volume besides the operation itself.

use kagami_memory::{Pool, Scatter};
use kagami_reactor::Submit;
use kagami_types::{BlockError, LbaStatus};

/// What the caller calls its task; comes back unread with the outcome. Tags of tasks in a volume at
/// the same time must differ where [`Volume::abort`](crate::Volume::abort) is to find the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

/// How an operation ended.
#[derive(Debug)]
pub struct Outcome {
    /// Success, or why not.
    pub result: Result<(), BlockError>,
    /// After a successful read: the data. Otherwise empty. The storage of the list that was handed
    /// in comes back either way, so that the caller can use it again without an allocation.
    pub data: Scatter,
    /// After a successful [`BlockOp::LbaStatus`](kagami_types::BlockOp::LbaStatus): at least one
    /// descriptor, the first of which begins with the block asked about. Otherwise empty.
    pub status: Vec<LbaStatus>,
}

impl Outcome {
    /// An operation that ended without data to show; `data` only gives its storage back.
    #[inline]
    pub(crate) fn plain(result: Result<(), BlockError>, mut data: Scatter) -> Self {
        data.clear();
        Self { result, data, status: Vec::new() }
    }
}

/// What a volume needs from its core for the length of one call.
pub struct Context<'a> {
    /// Where device operations go.
    pub io: &'a mut dyn Submit,
    /// Where pages come from.
    pub pool: &'a Pool,
    /// Where the outcomes of operations appear that were not done at once.
    pub done: &'a mut Vec<(Tag, Outcome)>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("pool", self.pool).field("done", self.done).finish_non_exhaustive()
    }
}

/// What became of an attempt to abort a task (SAM-5 5.3.3 leaves it to the device server when an
/// abort takes effect; here: never while a device may still change the blocks).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// No such task, or its outcome was given already.
    NotFound,
    /// The task had not reached the device: its outcome, `Aborted`, is in `done` now.
    Dropped,
    /// The task waits for the device: its outcome, `Aborted`, comes with the device's completion, or
    /// `TimedOut` at the task's deadline if that is earlier.
    Pending,
}
