//! What a volume is made of: computed once from the configuration, given at construction.

use crate::backend::Backend;
use kagami_memory::{Class, Page, Pool, Purpose};
use kagami_reactor::FileId;
use kagami_types::{BlockCount, BlockSize};
use std::time::Duration;

/// The most task slots that one volume can have.
pub const MAX_SLOTS: u16 = 4096;

/// Size and shape of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The size of a logical block.
    pub block_size: BlockSize,
    /// How many there are, at least one.
    pub blocks: BlockCount,
}

impl Geometry {
    /// The size in bytes.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.block_size.len(self.blocks).0
    }
}

/// What a volume's device asks of the operations it is given, and how much it can take.
///
/// All of it is asked of the device by whoever opened it (`statx` with `STATX_DIOALIGN`, the queue's
/// limits in sysfs), never assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Offset and length of every operation are multiples of this: a power of two from 512 to
    /// 65536 bytes. It may be larger than the volume's block: then smaller writes are completed with
    /// what the device has around them.
    pub align: u32,
    /// Every piece of memory begins at a multiple of this: a power of two up to 4096 bytes.
    pub memory_align: u32,
    /// The most bytes of one read or write; at least `align`. Rounded down to a multiple of it.
    pub max_transfer: u32,
    /// No read or write crosses a multiple of this many bytes, where the device would split it there
    /// (stripes of a RAID, an NVMe device's boundary): a multiple of 4096 and of `align`. 0: it has none.
    pub boundary: u32,
    /// The most bytes of one discard or zeroing. These may keep a kernel worker busy for long, and
    /// a time-out counts from the last one that was done.
    pub max_discard: u64,
    /// The most operations that the device has at once, at least one.
    pub depth: u16,
    /// Whether it is worth asking for [`Op::Discard`](kagami_reactor::Op::Discard).
    pub discard: bool,
    /// Whether it is worth asking for [`Op::Zero`](kagami_reactor::Op::Zero).
    pub zero: bool,
    /// Whether it may lose with its power what it was given and has not flushed: it has a volatile cache, or nobody knows.
    pub volatile: bool,
}

impl Default for DeviceLimits {
    /// What nearly every disk can do: 4 KiB alignment, 1 MiB transfers, 64 at once.
    fn default() -> Self {
        Self {
            align: 4096,
            memory_align: 4096,
            max_transfer: 1 << 20,
            boundary: 0,
            max_discard: 256 << 20,
            depth: 64,
            discard: true,
            zero: true,
            volatile: true,
        }
    }
}

/// What a volume's blocks are on.
#[derive(Debug)]
pub enum Storage {
    /// Pages of the arena. Deallocated blocks hold none.
    Ram,
    /// Nothing: reads give zeroes, writes are dropped. For measuring.
    Null,
    /// A raw block device or a file, already open at this core.
    Disk {
        /// By which name [`Submit`](kagami_reactor::Submit) knows it.
        file: FileId,
        /// What it asks for.
        limits: DeviceLimits,
    },
    /// A back end from outside this crate.
    Other(Box<dyn Backend>),
}

/// All that a volume is constructed from.
#[derive(Debug)]
pub struct VolumePlan {
    /// Size and shape.
    pub geometry: Geometry,
    /// What it is on.
    pub storage: Storage,
    /// The high 32 bits of every token that the volume submits with, so that the core can route
    /// completions back to it; the low 32 bits are the volume's own.
    pub token_base: u32,
    /// Operations that may be in the volume at once, waiting ones included; 1 to [`MAX_SLOTS`].
    /// One more is refused with `Busy`. Only `Disk` and `Other` hold any over time.
    pub slots: u16,
    /// Pages of 4 KiB that may be in use: by operations in the volume for `Disk` and `Other` (more is
    /// refused with `Busy`); by its blocks for `Ram` (more is refused with `NoSpace`).
    pub pages: u64,
    /// After how long without progress an operation is answered with `TimedOut`.
    pub timeout: Duration,
    /// The WCE bit (SBC-4 6.5.5): writes are done when the device has them, stable after a flush.
    /// Otherwise every write is stable before it is done.
    pub write_back: bool,
    /// Writing operations are refused with `WriteProtected`.
    pub read_only: bool,
    /// A page of zeroes, from [`zero_page`]: what unallocated blocks are read from. One per core will
    /// do for all its volumes.
    pub zeroes: Page,
}

/// Fills a page of the largest class that the arena has left with zeroes, for
/// [`VolumePlan::zeroes`]. `None` where there is no page at all.
#[must_use]
pub fn zero_page(pool: &Pool) -> Option<Page> {
    let class = [Class::Large, Class::Small, Class::Page];
    let mut page = class.into_iter().find_map(|class| pool.take(class, Purpose::Internal))?;
    page.fill(0);
    Some(page.freeze())
}

/// What is wrong with a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No blocks, or more bytes than an offset can name.
    #[error("a volume of {0} blocks is not possible")]
    Size(u64),
    /// A RAM volume with more pages than this machine can address.
    #[error("a RAM volume of {0} bytes is not possible")]
    RamSize(u64),
    /// The number of task slots.
    #[error("{0} task slots; between 1 and {MAX_SLOTS} are possible")]
    Slots(u16),
    /// An alignment that is not a power of two in its limits.
    #[error("an alignment of {0} bytes is not possible")]
    Alignment(u32),
    /// The largest transfer is smaller than the alignment.
    #[error("transfers of {max_transfer} bytes with an alignment of {align}")]
    Transfer {
        /// The largest transfer.
        max_transfer: u32,
        /// The alignment.
        align: u32,
    },
    /// A boundary that is no multiple of a page and of the alignment.
    #[error("a boundary of {0} bytes is not possible")]
    Boundary(u32),
    /// Another device cannot take the place of this one: the alignment or depth differ, operations are
    /// under way, or the volume is on none of the kernel's devices.
    #[error("the device cannot be replaced by this one: {0}")]
    Replace(&'static str),
    /// The device takes no operation at once.
    #[error("a device depth of 0")]
    Depth,
    /// The volume's end is not where the device could write up to.
    #[error("a size of {bytes} bytes is no multiple of the device's alignment of {align}")]
    Unaligned {
        /// The volume's size.
        bytes: u64,
        /// The device's alignment.
        align: u32,
    },
    /// The page quota has not room for one operation.
    #[error("a quota of {pages} pages, where one operation may need {needed}")]
    Pages {
        /// The quota.
        pages: u64,
        /// The least that it must be.
        needed: u64,
    },
    /// A volume can only grow.
    #[error("from {from} to {to} blocks: a volume cannot shrink")]
    Shrink {
        /// Blocks now.
        from: u64,
        /// Blocks asked for.
        to: u64,
    },
}

impl DeviceLimits {
    /// Checks what the rest of the crate relies on.
    pub(crate) fn check(&self, geometry: &Geometry) -> Result<(), PlanError> {
        if !self.align.is_power_of_two() || !(512..=65536).contains(&self.align) {
            return Err(PlanError::Alignment(self.align));
        }
        if !self.memory_align.is_power_of_two() || self.memory_align > 4096 {
            return Err(PlanError::Alignment(self.memory_align));
        }
        if self.max_transfer < self.align {
            return Err(PlanError::Transfer { max_transfer: self.max_transfer, align: self.align });
        }
        if self.boundary > 0
            && !(self.boundary.is_multiple_of(4096)
                && self.boundary.is_multiple_of(self.align)
                && self.max_transfer >= 4096)
        {
            return Err(PlanError::Boundary(self.boundary));
        }
        if self.depth == 0 {
            return Err(PlanError::Depth);
        }
        if !geometry.bytes().is_multiple_of(u64::from(self.align)) {
            return Err(PlanError::Unaligned { bytes: geometry.bytes(), align: self.align });
        }
        Ok(())
    }
}

/// Checks a size: at least one block, and every byte has an offset that the kernel can name.
pub(crate) fn check_size(block_size: BlockSize, blocks: BlockCount) -> Result<(), PlanError> {
    let bytes = blocks.0.checked_mul(u64::from(block_size.bytes()));
    match bytes {
        Some(bytes) if bytes > 0 && i64::try_from(bytes).is_ok() => Ok(()),
        _ => Err(PlanError::Size(blocks.0)),
    }
}
