//! The checks that every operation passes, whatever the volume is on.
//!
//! The SCSI side has checked the same against the capacity it knew. Here it is checked again, since
//! nothing behind this point looks twice.

use crate::plan::Geometry;
use kagami_types::{BlockCount, BlockError, BlockOp, BlockRange, Compare, Lba};

/// A run of bytes of the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Extent {
    pub(crate) fn end(self) -> u64 {
        self.start + self.len
    }

    pub(crate) fn bytes(self) -> std::ops::Range<u64> {
        self.start..self.end()
    }
}

/// The bytes of those blocks, where they are all on the volume.
#[inline]
pub(crate) fn extent(geometry: &Geometry, lba: Lba, blocks: BlockCount) -> Result<Extent, BlockError> {
    match lba.checked_add(blocks) {
        Some(end) if end.0 <= geometry.blocks.0 => {
            Ok(Extent { start: geometry.block_size.offset(lba), len: geometry.block_size.len(blocks).0 })
        }
        _ => Err(BlockError::OutOfRange),
    }
}

#[inline]
pub(crate) fn range(geometry: &Geometry, range: BlockRange) -> Result<Extent, BlockError> {
    extent(geometry, range.lba, BlockCount(u64::from(range.blocks)))
}

/// Checks the operation's blocks and the length of the data that came with it, and returns the bytes
/// that it is about; for UNMAP, the bytes from its first range's start to its last one's end.
///
/// # Errors
/// `OutOfRange`; `Unsupported` where the data is not as long as the operation needs.
#[inline]
pub(crate) fn check(geometry: &Geometry, op: &BlockOp, data: usize) -> Result<Extent, BlockError> {
    let block = u64::from(geometry.block_size.bytes());
    let (extent, expected) = match op {
        BlockOp::Read(blocks, _) => (range(geometry, *blocks)?, 0),
        BlockOp::Write(blocks, _) | BlockOp::WriteVerify { range: blocks, .. } => {
            let extent = range(geometry, *blocks)?;
            (extent, extent.len)
        }
        BlockOp::Verify { range: blocks, against } => {
            let extent = range(geometry, *blocks)?;
            let expected = match against {
                Compare::Nothing => 0,
                Compare::Data => extent.len,
                Compare::OneBlock => block,
            };
            (extent, expected)
        }
        BlockOp::CompareAndWrite(blocks, _) => {
            let extent = range(geometry, *blocks)?;
            (extent, extent.len * 2)
        }
        BlockOp::WriteSame { lba, blocks, zeroes, .. } => {
            (self::extent(geometry, *lba, *blocks)?, if *zeroes { 0 } else { block })
        }
        BlockOp::Unmap(ranges) => {
            let (mut start, mut end) = (u64::MAX, 0);
            for blocks in ranges {
                let extent = range(geometry, *blocks)?;
                if extent.len > 0 {
                    start = start.min(extent.start);
                    end = end.max(extent.end());
                }
            }
            (Extent { start: start.min(end), len: end.saturating_sub(start) }, 0)
        }
        BlockOp::Flush { lba, blocks } => (self::extent(geometry, *lba, *blocks)?, 0),
        BlockOp::LbaStatus { lba, .. } => {
            let rest = geometry.blocks.0.checked_sub(lba.0).filter(|&rest| rest > 0);
            (self::extent(geometry, *lba, BlockCount(rest.ok_or(BlockError::OutOfRange)?))?, 0)
        }
    };
    // Reads, and those without data, ignore a list that was handed in for its storage.
    if expected > 0 && data as u64 != expected {
        return Err(BlockError::Unsupported);
    }
    Ok(extent)
}
