//! Which blocks an operation is about, and whether they are all there.

use super::FrontPlan;
use kagami_types::{BlockCount, BlockError, BlockOp, BlockRange, Compare, Lba};
use std::ops::Range;

fn blocks(range: &BlockRange) -> Range<u64> {
    range.lba.0..range.lba.0.saturating_add(u64::from(range.blocks))
}

/// Calls `each` with every run of blocks of the operation that is not empty, first block and the one behind the last.
/// What goes to the end of the volume goes to the end of the number space.
pub(super) fn runs(op: &BlockOp, mut each: impl FnMut(Range<u64>)) {
    let mut each = |run: Range<u64>| {
        if !run.is_empty() {
            each(run);
        }
    };
    match op {
        BlockOp::Read(range, _) | BlockOp::Write(range, _) | BlockOp::CompareAndWrite(range, _) => {
            each(blocks(range))
        }
        BlockOp::WriteVerify { range, .. } | BlockOp::Verify { range, .. } => each(blocks(range)),
        BlockOp::WriteSame { lba, blocks, .. } => each(lba.0..lba.0.saturating_add(blocks.0)),
        BlockOp::Unmap(ranges) => ranges.iter().for_each(|range| each(blocks(range))),
        BlockOp::Flush { lba, blocks: BlockCount(0) } | BlockOp::LbaStatus { lba, .. } => {
            each(lba.0..u64::MAX)
        }
        BlockOp::Flush { lba, blocks } => each(lba.0..lba.0.saturating_add(blocks.0)),
    }
}

/// Whether the operation names any block.
pub(super) fn names_blocks(op: &BlockOp) -> bool {
    let mut some = false;
    runs(op, |_| some = true);
    some
}

/// Whether two operations have a block in common.
pub(super) fn overlap(one: &BlockOp, other: &BlockOp) -> bool {
    let mut found = false;
    runs(one, |one| runs(other, |other| found |= one.start < other.end && other.start < one.end));
    found
}

/// What a store would refuse for its form must not take a sequence.
///
/// # Errors
/// `OutOfRange`; `Unsupported` where the data are not as long as the operation needs.
pub(super) fn check(plan: &FrontPlan, op: &BlockOp, data: usize) -> Result<(), BlockError> {
    let block = u64::from(plan.block_size.bytes());
    let within = |lba: Lba, count: u64| match lba.0.checked_add(count) {
        Some(end) if end <= plan.blocks.0 => Ok(count.saturating_mul(block)),
        _ => Err(BlockError::OutOfRange),
    };
    let of = |range: &BlockRange| within(range.lba, u64::from(range.blocks));
    let expected = match op {
        BlockOp::Read(range, _) => of(range).map(|_| 0)?,
        BlockOp::Write(range, _) | BlockOp::WriteVerify { range, .. } => of(range)?,
        BlockOp::CompareAndWrite(range, _) => of(range)?.saturating_mul(2),
        BlockOp::Verify { range, against } => match against {
            Compare::Nothing => of(range).map(|_| 0)?,
            Compare::Data => of(range)?,
            Compare::OneBlock => of(range).map(|_| block)?,
        },
        BlockOp::WriteSame { lba, blocks, zeroes, .. } => {
            within(*lba, blocks.0)?;
            if *zeroes { 0 } else { block }
        }
        BlockOp::Unmap(ranges) => {
            for range in ranges {
                of(range)?;
            }
            0
        }
        BlockOp::Flush { lba, blocks } => within(*lba, blocks.0).map(|_| 0)?,
        BlockOp::LbaStatus { lba, .. } => within(*lba, 1).map(|_| 0)?,
    };
    if expected > 0 && data as u64 != expected { Err(BlockError::Unsupported) } else { Ok(()) }
}
