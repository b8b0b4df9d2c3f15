//! What a device server asks of a volume, and what can go wrong there.
//!
//! The SCSI side decodes a CDB to a [`BlockOp`]; the volume side executes it. Neither
//! knows the other: this module is all they share.

use crate::{BlockCount, Lba};
use std::fmt;

/// A run of logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockRange {
    /// The first block.
    pub lba: Lba,
    /// How many; 0 names no block.
    pub blocks: u32,
}

/// How a READ or WRITE wants the cache to behave (SBC-4 5.11, 5.40).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Access {
    /// Disable page out: the data is not worth keeping.
    pub dpo: bool,
    /// Force unit access: a write is stable before its status, a read comes from stable data.
    pub fua: bool,
}

/// One operation on a volume's blocks.
///
/// Data travels beside it as a scatter list: to the volume for the writing operations and for
/// those that compare, from it for `Read`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockOp {
    /// READ 6/10/12/16.
    Read(BlockRange, Access),
    /// WRITE 6/10/12/16.
    Write(BlockRange, Access),
    /// WRITE AND VERIFY: write, make stable, read back, and compare with the data where
    /// `compare` (BYTCHK 01b).
    WriteVerify {
        /// Where.
        range: BlockRange,
        /// Compare the medium with the data that came.
        compare: bool,
    },
    /// VERIFY: without data, only that the blocks can be read; else compare.
    Verify {
        /// Where.
        range: BlockRange,
        /// What the blocks are compared with.
        against: Compare,
    },
    /// COMPARE AND WRITE: the first half of the data is compared, the second written, atomically.
    CompareAndWrite(BlockRange, Access),
    /// WRITE SAME: one block of data (or zeroes) to every block of the range.
    WriteSame {
        /// Where; here the count may be large.
        lba: Lba,
        /// How many blocks.
        blocks: BlockCount,
        /// The UNMAP bit: the blocks may be deallocated if they then read as the data would.
        unmap: bool,
        /// NDOB: no data came, write zeroes.
        zeroes: bool,
    },
    /// UNMAP: the blocks are deallocated.
    Unmap(Vec<BlockRange>),
    /// SYNCHRONIZE CACHE, and STOP. No blocks means: to the end of the volume.
    Flush {
        /// First block.
        lba: Lba,
        /// How many blocks, 0 for all from `lba` on.
        blocks: BlockCount,
    },
    /// GET LBA STATUS: which blocks from `lba` on are allocated.
    LbaStatus {
        /// First block asked about.
        lba: Lba,
        /// At most that many descriptors.
        descriptors: u32,
    },
}

impl BlockOp {
    /// Whether the operation changes the blocks.
    #[inline]
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self {
            Self::Write(..)
            | Self::WriteVerify { .. }
            | Self::CompareAndWrite(..)
            | Self::WriteSame { .. }
            | Self::Unmap(_) => true,
            Self::Read(..) | Self::Verify { .. } | Self::Flush { .. } | Self::LbaStatus { .. } => false,
        }
    }
}

/// What VERIFY compares the medium with (SBC-4 5.34, BYTCHK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Nothing: the medium is only read.
    Nothing,
    /// As much data as the range has blocks.
    Data,
    /// One block of data, against every block of the range.
    OneBlock,
}

/// A run of blocks with one provisioning status (SBC-4 5.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbaStatus {
    /// First block.
    pub lba: Lba,
    /// How many.
    pub blocks: u32,
    /// Deallocated: reads as zeroes.
    pub deallocated: bool,
}

/// Why a block operation failed. The SCSI side has one table from these to sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockError {
    /// The range is not wholly on the volume (it may have been checked before it shrank).
    OutOfRange,
    /// The medium could not be read at that block.
    ReadMedium(Lba),
    /// The medium could not be written at that block.
    WriteMedium(Lba),
    /// COMPARE AND WRITE or VERIFY found a difference, at that byte offset of the data.
    Miscompare(u32),
    /// The device answered with an error that says nothing of a block.
    Device,
    /// The device did not answer in time; the operation may still take effect.
    TimedOut,
    /// The device is gone.
    Gone,
    /// No room to allocate the blocks (a sparse file on a full file system, a thin pool).
    NoSpace,
    /// The volume is read-only.
    WriteProtected,
    /// The volume is not ready yet and is becoming so (replay).
    BecomingReady,
    /// The volume does not serve hosts in its present role (a secondary), or until an operator has decided.
    NotServed,
    /// Slots or pages of the volume's quota are all in use: try again.
    Busy,
    /// The operation is not one that the back end can do.
    Unsupported,
    /// The task was aborted before it took effect.
    Aborted,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange => f.write_str("blocks outside the volume"),
            Self::ReadMedium(lba) => write!(f, "unrecovered read error at {lba}"),
            Self::WriteMedium(lba) => write!(f, "write error at {lba}"),
            Self::Miscompare(at) => write!(f, "data differ at byte {at}"),
            Self::Device => f.write_str("device error"),
            Self::TimedOut => f.write_str("the device did not answer in time"),
            Self::Gone => f.write_str("the device is gone"),
            Self::NoSpace => f.write_str("no space to allocate the blocks"),
            Self::WriteProtected => f.write_str("the volume is read-only"),
            Self::BecomingReady => f.write_str("the volume is becoming ready"),
            Self::NotServed => f.write_str("the volume does not serve hosts in its present role"),
            Self::Busy => f.write_str("the volume's quota is in use"),
            Self::Unsupported => f.write_str("the back end cannot do this"),
            Self::Aborted => f.write_str("the task was aborted"),
        }
    }
}

impl std::error::Error for BlockError {}
