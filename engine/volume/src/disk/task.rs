//! The state of one operation in a volume on a device, and of one device operation for it.

use super::device::Doing;
use crate::check::Extent;
use crate::outcome::Tag;
use kagami_memory::{Page, Scatter};
use kagami_types::{BlockError, BlockOp, BlockSize, Lba, Time};

/// What an operation is at. Each step is device operations on a run of bytes, several at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Waits for others on the same blocks.
    Blocked,
    /// Reads its bytes, to be kept.
    Read,
    /// Reads the device's units that it changes only partly.
    Edges,
    /// Writes whole units.
    Fill,
    /// Discards or zeroes whole units.
    Bulk,
    /// Waits for a flush.
    Flush,
    /// Reads its bytes, to be compared and dropped.
    Check,
    /// Reads parts of a piece that could not be read, to find the bad block.
    Probe,
}

/// When a write becomes stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stability {
    /// With some later flush.
    Later,
    /// With its one device operation.
    Itself,
    /// With a flush after its last device operation.
    Flush,
}

/// What [`Step::Fill`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The task's data from that byte on.
    Data(usize),
    /// The task's page, over and over.
    Page,
    /// Zeroes.
    Zeroes,
}

/// Where an operation failed first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The byte of the volume that the error is nearest to.
    pub(crate) offset: u64,
    pub(crate) error: BlockError,
    /// Bytes one of which cannot be read, where it is worth finding out which.
    pub(crate) probe: Option<(u64, u64)>,
}

/// One operation, or an empty slot whose lists keep their storage.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) live: bool,
    pub(crate) tag: Tag,
    pub(crate) op: BlockOp,
    /// What came with the operation.
    pub(crate) data: Scatter,
    /// The bytes that it is about.
    pub(crate) extent: Extent,
    pub(crate) step: Step,
    /// The next byte to be issued; in [`Step::Edges`], the next edge.
    pub(crate) cursor: u64,
    /// Where the step ends.
    pub(crate) end: u64,
    /// Where the step began.
    pub(crate) start: u64,
    /// Which of `parts` is read to next.
    pub(crate) part: usize,
    /// Device operations under way, or 1 while it waits for a flush.
    pub(crate) flying: u16,
    /// It is in the queue of those that have something to issue.
    pub(crate) queued: bool,
    /// Something of it has reached the device.
    pub(crate) issued: bool,
    /// Its outcome was given, before the device was done with it.
    pub(crate) answered: bool,
    pub(crate) aborted: bool,
    /// Ranges of others that it waits for.
    pub(crate) blockers: u32,
    pub(crate) fault: Option<Fault>,
    pub(crate) deadline: Time,
    /// Pages charged to the volume's quota.
    pub(crate) charge: u64,
    pub(crate) stability: Stability,
    /// The bytes that [`Step::Fill`] changes.
    pub(crate) fill: Extent,
    pub(crate) source: Source,
    /// One block, repeated all over a page.
    pub(crate) page: Option<Page>,
    /// What was read: the pieces in order, or the first and the last unit of `fill`.
    pub(crate) parts: Vec<Scatter>,
    /// Which range of an UNMAP it is at.
    pub(crate) range: usize,
    /// Which part of that range.
    pub(crate) stage: u8,
}

impl Task {
    pub(crate) fn empty() -> Self {
        Self {
            live: false,
            tag: Tag(0),
            op: BlockOp::Unmap(Vec::new()),
            data: Scatter::new(),
            extent: Extent::default(),
            step: Step::Blocked,
            cursor: 0,
            end: 0,
            start: 0,
            part: 0,
            flying: 0,
            queued: false,
            issued: false,
            answered: false,
            aborted: false,
            blockers: 0,
            fault: None,
            deadline: Time::NEVER,
            charge: 0,
            stability: Stability::Later,
            fill: Extent::default(),
            source: Source::Zeroes,
            page: None,
            parts: Vec::new(),
            range: 0,
            stage: 0,
        }
    }

    /// Notes an error, unless one at a lower address is known.
    pub(crate) fn fail(&mut self, offset: u64, error: BlockError, probe: Option<(u64, u64)>) {
        if self.fault.is_none_or(|fault| offset < fault.offset) {
            self.fault = Some(Fault { offset, error, probe });
        }
        self.stop();
    }

    /// Issues nothing more of this step.
    pub(crate) fn stop(&mut self) {
        self.cursor = self.end;
    }

    /// The block of the operation that a byte of the volume is in, or the nearest one.
    pub(crate) fn lba(&self, block_size: BlockSize, offset: u64) -> Lba {
        let last = self.extent.end().saturating_sub(1).max(self.extent.start);
        Lba(offset.clamp(self.extent.start, last) >> block_size.shift())
    }

    /// Begins a step over those bytes.
    pub(crate) fn begin(&mut self, step: Step, start: u64, end: u64) {
        (self.step, self.start, self.cursor, self.end, self.part) = (step, start, start, end, 0);
    }

    /// Has something to issue, and nothing against it.
    pub(crate) fn has_more(&self) -> bool {
        self.cursor < self.end && self.step != Step::Flush && !self.answered && !self.aborted
    }
}

/// One device operation of a task; its memory is in the operation itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) busy: bool,
    pub(crate) task: u16,
    /// Which of the task's parts it reads to.
    pub(crate) part: usize,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) doing: Doing,
    /// It carries the task's whole data, which goes back there.
    pub(crate) whole: bool,
    /// A write that is stable with its own completion.
    pub(crate) stable: bool,
    /// Tries in a row that moved nothing.
    pub(crate) stalls: u8,
}

impl Piece {
    pub(crate) const IDLE: Self = Self {
        busy: false,
        task: 0,
        part: 0,
        offset: 0,
        len: 0,
        doing: Doing::Flush,
        whole: false,
        stable: false,
        stalls: 0,
    };

    pub(crate) fn end(&self) -> u64 {
        self.offset + self.len
    }
}
