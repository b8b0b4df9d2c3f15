//! Commands on blocks: from CDB to [`BlockOp`].
//!
//! Ranges are checked against capacity and limits here; the volume checks again, as it may
//! have shrunk meanwhile. Data that the initiator offers short of what the CDB asks for are
//! cut to whole blocks for WRITE, and refused where a part would have another meaning.

use crate::bytes::{be16, be32, be64, index};
use crate::cdb::{Cdb, byte_check, extent, length, length_at, no_data_out};
use crate::disposition::Disposition;
use crate::nexus::NexusId;
use crate::sense::{Asc, Sense};
use crate::table::Row;
use crate::unit::LogicalUnit;
use kagami_types::{Access, BlockCount, BlockOp, BlockRange, Compare, Lba};

type Answer = Result<Disposition, Sense>;

/// DPO and FUA, in byte 1 of all but the six-byte forms, where they are part of the LBA.
#[inline]
fn access(cdb: &Cdb) -> Access {
    let bits = if cdb[0] < 0x20 { 0 } else { cdb[1] };
    Access { dpo: bits & 0x10 != 0, fua: bits & 0x08 != 0 }
}

/// What follows when the initiator has less data than needed, and part of it would be wrong
/// or not a whole number of blocks (SPC-5 annex F: 0Eh/03h).
fn short_data() -> Sense {
    Sense::illegal(Asc::INVALID_FIELD_IN_INFORMATION_UNIT)
}

impl LogicalUnit {
    /// READ 6/10/12/16 (SBC-4 5.15 to 5.18).
    #[inline]
    pub(crate) fn read(&self, row: &Row, cdb: &Cdb) -> Answer {
        let range = self.transfer_range(row, cdb)?;
        Ok(if range.blocks == 0 {
            Disposition::Good
        } else {
            Disposition::Block(BlockOp::Read(range, access(cdb)))
        })
    }

    /// WRITE 6/10/12/16 (SBC-4 5.40 to 5.43).
    #[inline]
    pub(crate) fn write(&self, row: &Row, cdb: &Cdb, offered: u64) -> Answer {
        let range = self.offered_range(self.transfer_range(row, cdb)?, offered);
        Ok(if range.blocks == 0 {
            Disposition::Good
        } else {
            Disposition::Block(BlockOp::Write(range, access(cdb)))
        })
    }

    /// WRITE AND VERIFY 10/12/16 (SBC-4 5.44 to 5.46).
    pub(crate) fn write_and_verify(&self, row: &Row, cdb: &Cdb, offered: u64) -> Answer {
        let range = self.offered_range(self.transfer_range(row, cdb)?, offered);
        if range.blocks == 0 {
            return Ok(Disposition::Good);
        }
        let compare = byte_check(cdb) == 1;
        Ok(Disposition::Block(BlockOp::WriteVerify { range, compare }))
    }

    /// VERIFY 10/12/16 (SBC-4 5.34 to 5.36).
    pub(crate) fn verify(&self, row: &Row, cdb: &Cdb, offered: u64) -> Answer {
        let against = match byte_check(cdb) {
            0 => Compare::Nothing,
            1 => Compare::Data,
            3 => Compare::OneBlock,
            _ => return Err(Sense::cdb_bit(1, 2)),
        };
        let range = self.transfer_range(row, cdb)?;
        if range.blocks == 0 {
            return Ok(Disposition::Good);
        }
        let blocks = match against {
            Compare::Nothing => 0,
            Compare::Data => u64::from(range.blocks),
            Compare::OneBlock => 1,
        };
        if offered < self.bytes(blocks) {
            return Err(short_data());
        }
        Ok(Disposition::Block(BlockOp::Verify { range, against }))
    }

    /// PRE-FETCH 10/16 (SBC-4 5.10, 5.11). GOOD without CONDITION MET says that not all of the
    /// blocks are in the cache; which ones are is the cache's own affair.
    pub(crate) fn prefetch(&self, row: &Row, cdb: &Cdb) -> Answer {
        let (lba, blocks) = extent(cdb, row.form);
        self.check_range(lba, u64::from(blocks))?;
        Ok(Disposition::Good)
    }

    /// SYNCHRONIZE CACHE 10/16 (SBC-4 5.32, 5.33). Zero blocks: to the end of the volume.
    pub(crate) fn synchronize_cache(&mut self, nexus: NexusId, row: &Row, cdb: &Cdb) -> Answer {
        let (lba, blocks) = extent(cdb, row.form);
        self.check_range(lba, u64::from(blocks))?;
        self.tell_loss(nexus)?;
        let flush = BlockOp::Flush { lba: Lba(lba), blocks: BlockCount(u64::from(blocks)) };
        let immediate = cdb[1] & 0x02 != 0;
        Ok(if immediate { Disposition::Background(flush) } else { Disposition::Block(flush) })
    }

    /// WRITE SAME 10/16 (SBC-4 5.53, 5.54).
    pub(crate) fn write_same(&self, row: &Row, cdb: &Cdb, offered: u64) -> Answer {
        let unmap = cdb[1] & 0x08 != 0;
        if unmap && !self.config.thin {
            return Err(Sense::cdb_bit(1, 3));
        }
        let limits = &self.config.limits;
        let (lba, blocks) = extent(cdb, row.form);
        let mut blocks = u64::from(blocks);
        if blocks == 0 && !limits.write_same_to_end {
            return Err(Sense::cdb_field(length_at(row.form)));
        }
        self.check_range(lba, blocks)?;
        if blocks == 0 {
            blocks = self.capacity - lba;
        }
        if limits.max_write_same != 0 && blocks > limits.max_write_same {
            return Err(Sense::cdb_field(length_at(row.form)));
        }
        let zeroes = no_data_out(cdb);
        // More than the one block would be as wrong as less: it is not what the CDB says.
        if !zeroes && offered != self.bytes(1) {
            return Err(short_data());
        }
        if blocks == 0 {
            return Ok(Disposition::Good);
        }
        Ok(Disposition::Block(BlockOp::WriteSame {
            lba: Lba(lba),
            blocks: BlockCount(blocks),
            unmap,
            zeroes,
        }))
    }

    /// COMPARE AND WRITE (SBC-4 5.3).
    pub(crate) fn compare_and_write(&self, row: &Row, cdb: &Cdb, offered: u64) -> Answer {
        let (lba, blocks) = extent(cdb, row.form);
        self.check_range(lba, u64::from(blocks))?;
        let too_long = blocks > u32::from(self.config.limits.max_compare_and_write);
        if too_long || offered != self.bytes(2 * u64::from(blocks)) {
            return Err(Sense::cdb_field(length_at(row.form)));
        }
        if blocks == 0 {
            return Ok(Disposition::Good);
        }
        let range = BlockRange { lba: Lba(lba), blocks };
        Ok(Disposition::Block(BlockOp::CompareAndWrite(range, access(cdb))))
    }

    /// UNMAP (SBC-4 5.30). Descriptors of no blocks are passed over.
    pub(crate) fn unmap(&self, row: &Row, cdb: &Cdb, list: &[u8]) -> Answer {
        let length = index(length(cdb, row));
        if length == 0 {
            return Ok(Disposition::Good);
        }
        if length < 8 || list.len() < length {
            return Err(Sense::list_length());
        }
        let list = &list[..length];
        // A descriptor that is cut off, by either length, is not looked at.
        let told = usize::from(be16(list, 2)).min(length - 8);
        let (descriptors, _) = list[8..8 + told].as_chunks::<16>();
        let limits = &self.config.limits;
        if descriptors.len() > index(limits.max_unmap_descriptors) {
            return Err(Sense::list_field(2));
        }
        let mut ranges = Vec::with_capacity(descriptors.len());
        let mut total = 0u64;
        for (at, descriptor) in descriptors.iter().enumerate() {
            let (lba, blocks) = (be64(descriptor, 0), be32(descriptor, 8));
            self.check_range(lba, u64::from(blocks))?;
            total += u64::from(blocks);
            if total > u64::from(limits.max_unmap) {
                return Err(Sense::list_field(8 + 16 * at + 8));
            }
            if blocks != 0 {
                ranges.push(BlockRange { lba: Lba(lba), blocks });
            }
        }
        Ok(if ranges.is_empty() { Disposition::Good } else { Disposition::Block(BlockOp::Unmap(ranges)) })
    }

    /// The range of a command that moves blocks or compares them, within capacity and the
    /// maximum transfer length.
    #[inline]
    fn transfer_range(&self, row: &Row, cdb: &Cdb) -> Result<BlockRange, Sense> {
        let (lba, blocks) = extent(cdb, row.form);
        self.check_range(lba, u64::from(blocks))?;
        if blocks > self.max_transfer {
            return Err(Sense::cdb_field(length_at(row.form)));
        }
        Ok(BlockRange { lba: Lba(lba), blocks })
    }

    /// The part of a range to be written that the initiator has data for, in whole blocks (RFC 7143
    /// 11.4.5.1: the rest is residual overflow, which tells it that it was not written).
    #[inline]
    fn offered_range(&self, mut range: BlockRange, offered: u64) -> BlockRange {
        if offered < self.bytes(u64::from(range.blocks)) {
            range.blocks = u32::try_from(offered >> self.block_size.shift()).unwrap_or(0);
        }
        range
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE unless all of it is on the volume. The end itself,
    /// with no blocks, is not out of range.
    #[inline]
    pub(crate) fn check_range(&self, lba: u64, blocks: u64) -> Result<(), Sense> {
        match lba.checked_add(blocks) {
            Some(end) if end <= self.capacity => Ok(()),
            _ => Err(Sense::illegal(Asc::LBA_OUT_OF_RANGE)),
        }
    }

    #[inline]
    fn bytes(&self, blocks: u64) -> u64 {
        blocks << self.block_size.shift()
    }
}
