//! What a volume has counted since its construction.

use kagami_types::{BlockError, BlockOp};

/// Totals of one volume. Plain numbers: one core owns them, and copies them out for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// READs taken in.
    pub reads: u64,
    /// Operations taken in that write data.
    pub writes: u64,
    /// All others taken in.
    pub others: u64,
    /// Bytes that READs asked for.
    pub read_bytes: u64,
    /// Bytes that came with writing operations.
    pub write_bytes: u64,
    /// Outcomes other than success, `Busy` and `Miscompare`.
    pub errors: u64,
    /// Operations refused for want of slots or pages.
    pub busy: u64,
    /// Operations whose device did not answer in time.
    pub timeouts: u64,
    /// Operations that waited for another one on the same blocks.
    pub conflicts: u64,
    /// Operations whose bytes had to be copied or completed from the device, because the device
    /// cannot write them as they came.
    pub bounced: u64,
    /// Operations handed to the device.
    pub device_ops: u64,
}

impl Counters {
    /// Counts an operation that was taken in.
    #[inline]
    pub(crate) fn admit(&mut self, op: &BlockOp, bytes: u64) {
        match op {
            BlockOp::Read(..) => {
                self.reads += 1;
                self.read_bytes += bytes;
            }
            BlockOp::Write(..) | BlockOp::WriteVerify { .. } | BlockOp::CompareAndWrite(..) => {
                self.writes += 1;
                self.write_bytes += bytes;
            }
            _ => self.others += 1,
        }
    }

    /// The sum of both.
    #[must_use]
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self {
            reads: self.reads + other.reads,
            writes: self.writes + other.writes,
            others: self.others + other.others,
            read_bytes: self.read_bytes + other.read_bytes,
            write_bytes: self.write_bytes + other.write_bytes,
            errors: self.errors + other.errors,
            busy: self.busy + other.busy,
            timeouts: self.timeouts + other.timeouts,
            conflicts: self.conflicts + other.conflicts,
            bounced: self.bounced + other.bounced,
            device_ops: self.device_ops + other.device_ops,
        }
    }

    /// Counts how an operation ended.
    #[inline]
    pub(crate) fn finish(&mut self, result: &Result<(), BlockError>) {
        if let Err(error) = result {
            self.fail(*error);
        }
    }

    #[cold]
    fn fail(&mut self, error: BlockError) {
        match error {
            BlockError::Busy => self.busy += 1,
            BlockError::Miscompare(_) => {}
            BlockError::TimedOut => {
                self.timeouts += 1;
                self.errors += 1;
            }
            _ => self.errors += 1,
        }
    }
}
