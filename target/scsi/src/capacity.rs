//! READ CAPACITY and GET LBA STATUS.

use crate::bytes::{Put, index, len32};
use crate::cdb::{Cdb, lba16, length};
use crate::disposition::Disposition;
use crate::sense::{Asc, Sense};
use crate::table::{Found, Row, lookup};
use crate::unit::LogicalUnit;
use kagami_types::{BlockOp, Lba, LbaStatus};

/// Descriptors asked of the volume at most, however large the allocation length.
const MAX_STATUS_DESCRIPTORS: u32 = 1024;

impl LogicalUnit {
    /// READ CAPACITY(10) (SBC-4 5.20): FFFFFFFFh says that READ CAPACITY(16) has to be used.
    pub(crate) fn read_capacity_10(&self, out: &mut Vec<u8>) -> Disposition {
        out.clear();
        out.put32(u32::try_from(self.capacity - 1).unwrap_or(u32::MAX));
        out.put32(self.block_size.bytes());
        Disposition::DataIn
    }

    /// READ CAPACITY(16) (SBC-4 5.21). No protection information; blocks are aligned from LBA 0.
    pub(crate) fn read_capacity_16(&self, row: &Row, cdb: &Cdb, out: &mut Vec<u8>) -> Disposition {
        out.clear();
        out.put64(self.capacity - 1);
        out.put32(self.block_size.bytes());
        let provisioning = if self.config.thin { 0xc0 } else { 0 };
        out.extend_from_slice(&[0, self.config.physical_exponent, provisioning, 0]);
        out.zeroes(16);
        out.truncate(index(length(cdb, row)));
        Disposition::DataIn
    }

    /// GET LBA STATUS(16) (SBC-4 5.6), first half: which question to ask the volume.
    pub(crate) fn get_lba_status(&self, row: &Row, cdb: &Cdb) -> Result<Disposition, Sense> {
        let lba = lba16(cdb);
        if lba >= self.capacity {
            return Err(Sense::illegal(Asc::LBA_OUT_OF_RANGE));
        }
        let room = length(cdb, row).saturating_sub(8) / 16;
        let descriptors = room.clamp(1, MAX_STATUS_DESCRIPTORS);
        Ok(Disposition::Block(BlockOp::LbaStatus { lba: Lba(lba), descriptors }))
    }

    /// GET LBA STATUS(16), second half: writes the volume's answer as parameter data, cut to
    /// the allocation length. Runs that do not follow on from the LBA asked about are left
    /// out; where none is left, the block is said to be mapped.
    pub fn finish_lba_status(&self, cdb: &Cdb, runs: &[LbaStatus], out: &mut Vec<u8>) {
        out.clear();
        out.zeroes(8);
        let start = lba16(cdb);
        let mut next = start;
        for run in runs {
            let end = run.lba.0.saturating_add(u64::from(run.blocks)).min(self.capacity);
            if run.lba.0 > next || end <= next {
                continue;
            }
            // The first run may begin before the block asked about.
            let blocks = u32::try_from(end - next).unwrap_or(u32::MAX);
            put_status(out, next, blocks, run.deallocated);
            next += u64::from(blocks);
        }
        if next == start {
            let blocks = u32::try_from(self.capacity.saturating_sub(start)).unwrap_or(u32::MAX);
            put_status(out, start, blocks, false);
        }
        let length_field = len32(out.len() - 4).to_be_bytes();
        out.patch(0, &length_field);
        if let Found::Row(row) = lookup(cdb) {
            out.truncate(index(length(cdb, row)));
        }
    }
}

fn put_status(out: &mut Vec<u8>, lba: u64, blocks: u32, deallocated: bool) {
    out.put64(lba);
    out.put32(blocks);
    out.extend_from_slice(&[u8::from(deallocated), 0, 0, 0]);
}
