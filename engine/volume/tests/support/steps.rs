//! Operations in few words, for the tests that go one device operation at a time.

use super::{Bench, bytes, limits};
use kagami_memory::Scatter;
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, BlockSize, Lba};

pub const BYTES: u64 = 4 << 20;

pub fn range(lba: u64, blocks: u32) -> BlockRange {
    BlockRange { lba: Lba(lba), blocks }
}

pub fn read(lba: u64, blocks: u32) -> BlockOp {
    BlockOp::Read(range(lba, blocks), Access::default())
}

pub fn write(lba: u64, blocks: u32) -> BlockOp {
    BlockOp::Write(range(lba, blocks), Access::default())
}

pub fn flush() -> BlockOp {
    BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) }
}

pub fn bench() -> Bench {
    Bench::disk(BlockSize::B512, BYTES, limits(512), |_| {})
}

impl Bench {
    /// Starts a write of that many bytes of the seed's.
    pub fn write(&mut self, tag: u64, lba: u64, blocks: u32, seed: u64) {
        let data = self.data(&bytes(seed, blocks as usize * self.block));
        assert!(self.submit(tag, write(lba, blocks), data).is_none());
    }

    pub fn read(&mut self, tag: u64, lba: u64, blocks: u32) {
        assert!(self.submit(tag, read(lba, blocks), Scatter::new()).is_none());
    }

    pub fn result(&mut self, tag: u64) -> Result<(), BlockError> {
        self.outcome(tag).result
    }
}
