//! The state of one operation that could not be done at once, of one device operation, and of one drain.

use super::frame::{Extent, NEVER};
use kagami_memory::Scatter;
use kagami_types::{BlockError, BlockOp, BlockSize, Lba, Time};
use kagami_volume::Tag;

/// What an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Others on the same pages.
    Blocked,
    /// A READ: fills, or room for them.
    Read,
    /// A WRITE: its turn to be taken into the cache.
    Admit,
    /// Until what it is about is on the device.
    Drain,
    /// The volume behind does it, or flushes for it.
    Behind,
}

/// Where something failed first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) at: u64,
    pub(crate) error: BlockError,
}

/// One operation, or an empty slot whose list keeps its storage.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) live: bool,
    /// Tells this task from earlier ones in the same slot.
    pub(crate) serial: u64,
    pub(crate) tag: Tag,
    pub(crate) op: BlockOp,
    /// What came with the operation.
    pub(crate) data: Scatter,
    /// The bytes that it is about.
    pub(crate) extent: Extent,
    pub(crate) step: Step,
    /// The volume behind does it whole.
    pub(crate) through: bool,
    /// Ranges of others that it waits for.
    pub(crate) blockers: u32,
    pub(crate) deadline: Time,
    /// When it came.
    pub(crate) began: Time,
    /// Fills that it waits for.
    pub(crate) fills: u32,
    /// Pages before this one are pinned.
    pub(crate) pinned: u64,
    /// Pages reserved for it.
    pub(crate) held: u32,
    /// How often it has looked for its pages.
    pub(crate) tries: u8,
    /// A block that it does not need spoils its pages: they are not to come through the cache.
    pub(crate) narrow: bool,
    /// It is in a queue of those that go on.
    pub(crate) queued: bool,
    pub(crate) fault: Option<Fault>,
    /// Which of its ranges is drained next.
    pub(crate) range: usize,
    /// Of a flush: it ends when all is on the device.
    pub(crate) writes_out: bool,
    /// Some dirty pages are kept back for it.
    pub(crate) keeps: bool,
}

impl Task {
    pub(crate) fn empty() -> Self {
        Self {
            live: false,
            serial: 0,
            tag: Tag(0),
            op: BlockOp::Unmap(Vec::new()),
            data: Scatter::new(),
            extent: Extent::default(),
            step: Step::Blocked,
            through: false,
            blockers: 0,
            deadline: Time::NEVER,
            began: Time(0),
            fills: 0,
            pinned: 0,
            held: 0,
            tries: 0,
            narrow: false,
            queued: false,
            fault: None,
            range: 0,
            writes_out: false,
            keeps: false,
        }
    }

    /// Notes an error, unless one at a lower address is known.
    pub(crate) fn fail(&mut self, at: u64, error: BlockError) {
        if self.fault.is_none_or(|fault| at < fault.at) {
            self.fault = Some(Fault { at, error });
        }
    }
}

/// The first block of a volume that a byte belongs to.
pub(crate) fn lba(block_size: BlockSize, at: u64) -> Lba {
    Lba(at >> block_size.shift())
}

/// A device read for the cache.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) live: bool,
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// Nobody asked for it.
    pub(crate) ahead: bool,
    /// Who waits: slot and serial.
    pub(crate) waiters: Vec<(u16, u64)>,
}

impl Fill {
    pub(crate) fn idle() -> Self {
        Self { live: false, first: 0, end: 0, ahead: false, waiters: Vec::new() }
    }
}

/// A device write of dirty pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) live: bool,
    /// The bytes that it writes.
    pub(crate) extent: Extent,
    /// Who waits for it, with its drain's serial.
    pub(crate) owner: Option<(u16, u64)>,
}

impl Flight {
    pub(crate) const IDLE: Self = Self { live: false, extent: Extent { start: 0, end: 0 }, owner: None };
}

/// Brings to the device what was dirty in some pages when it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) live: bool,
    pub(crate) serial: u64,
    pub(crate) end: u64,
    /// The next page to be looked at.
    pub(crate) cursor: u64,
    /// From where on it has to be looked at again, when some flight is over.
    pub(crate) again: u64,
    /// Writes that came later are no matter.
    pub(crate) stamp: u64,
    /// Its own flights under way.
    pub(crate) flights: u32,
    /// Each flight is to be stable by itself, and what went otherwise needs a flush.
    pub(crate) stable: bool,
    pub(crate) needs_flush: bool,
    /// The pages from the first to before the second are kept back instead, as the owner overwrites them whole.
    pub(crate) keep: (u64, u64),
    /// What failed lies between these bytes.
    pub(crate) fault: Option<(Extent, BlockError)>,
}

impl Drain {
    pub(crate) const IDLE: Self = Self {
        live: false,
        serial: 0,
        end: 0,
        cursor: 0,
        again: NEVER,
        stamp: NEVER,
        flights: 0,
        stable: false,
        needs_flush: false,
        keep: (0, 0),
        fault: None,
    };

    /// Notes what failed.
    pub(crate) fn fail(&mut self, extent: Extent, error: BlockError) {
        self.fault = Some(match self.fault {
            None => (extent, error),
            Some((known, first)) => {
                let hull = Extent { start: known.start.min(extent.start), end: known.end.max(extent.end) };
                (hull, if extent.start < known.start { error } else { first })
            }
        });
    }

    /// Whether a page is to be kept back.
    pub(crate) const fn keeps(&self, page: u64) -> bool {
        self.keep.0 <= page && page < self.keep.1
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.cursor >= self.end && self.again == NEVER && self.flights == 0
    }
}
