//! The volume that is not there: reads give zeroes, writes are dropped. It measures all that is in
//! front of a device.

use crate::check::Extent;
use crate::outcome::Outcome;
use crate::plan::Geometry;
use kagami_memory::{Page, Scatter};
use kagami_types::{Access, BlockError, BlockOp, Compare, Lba, LbaStatus};

#[derive(Debug)]
pub(crate) struct Null {
    pub(crate) zeroes: Page,
}

impl Null {
    /// Executes a checked operation.
    #[inline]
    pub(crate) fn execute(
        &mut self,
        geometry: &Geometry,
        op: BlockOp,
        extent: Extent,
        mut data: Scatter,
    ) -> Outcome {
        let result = match op {
            BlockOp::Read(_, Access { .. }) => {
                data.clear();
                return match usize::try_from(extent.len) {
                    Ok(len) => {
                        data.push_repeated(&self.zeroes, len);
                        Outcome { result: Ok(()), data, status: Vec::new() }
                    }
                    Err(_) => Outcome::plain(Err(BlockError::Unsupported), data),
                };
            }
            BlockOp::CompareAndWrite(..) => compare(&data, extent.len),
            BlockOp::Verify { against: Compare::Data, .. } => compare(&data, extent.len),
            BlockOp::Verify { against: Compare::OneBlock, .. } if extent.len > 0 => {
                compare(&data, u64::from(geometry.block_size.bytes()))
            }
            BlockOp::LbaStatus { lba, .. } => {
                let blocks = u32::try_from(geometry.blocks.0 - lba.0).unwrap_or(u32::MAX);
                let mut outcome = Outcome::plain(Ok(()), data);
                outcome.status.push(LbaStatus { lba: Lba(lba.0), blocks, deallocated: true });
                return outcome;
            }
            // A read back that is to be compared would find zeroes; what was dropped cannot differ.
            BlockOp::Write(..)
            | BlockOp::WriteVerify { .. }
            | BlockOp::Verify { .. }
            | BlockOp::WriteSame { .. }
            | BlockOp::Unmap(_)
            | BlockOp::Flush { .. } => Ok(()),
        };
        Outcome::plain(result, data)
    }
}

/// Compares the first `len` bytes with zeroes.
fn compare(data: &Scatter, len: u64) -> Result<(), BlockError> {
    let mut at = 0usize;
    for span in data.range(0, usize::try_from(len).unwrap_or(usize::MAX)) {
        let bytes = span.bytes();
        if let Some(found) = bytes.iter().position(|&byte| byte != 0) {
            return Err(BlockError::Miscompare(u32::try_from(at + found).unwrap_or(u32::MAX)));
        }
        at += bytes.len();
    }
    Ok(())
}
