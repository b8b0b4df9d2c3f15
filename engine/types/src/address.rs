//! Addresses and lengths on a volume, and the numbering of cores.

use std::fmt;

/// A logical block address: the index of a block of its volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

/// A number of logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockCount(pub u64);

/// A length in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteLen(pub u64);

/// The size of a logical block: 512 or 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

/// A reactor's number: 0 for the first configured core, and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

impl CoreId {
    /// The core's place in a table with one row a core.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl BlockSize {
    /// The block size of that many bytes, where it is one that volumes can have.
    #[must_use]
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u32 {
        1 << self.shift()
    }

    /// log2 of the size in bytes.
    #[must_use]
    pub fn shift(self) -> u32 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }

    /// The byte offset of a block. Saturates at `u64::MAX`, which no volume reaches.
    #[must_use]
    pub fn offset(self, lba: Lba) -> u64 {
        lba.0.saturating_mul(u64::from(self.bytes()))
    }

    /// The length in bytes of that many blocks. Saturates like [`offset`](Self::offset).
    #[must_use]
    pub fn len(self, blocks: BlockCount) -> ByteLen {
        ByteLen(blocks.0.saturating_mul(u64::from(self.bytes())))
    }

    /// The whole blocks in a length.
    #[must_use]
    pub fn blocks_in(self, len: ByteLen) -> BlockCount {
        BlockCount(len.0 >> self.shift())
    }
}

impl Lba {
    /// The address `blocks` further on, or `None` past the end of the number space.
    #[must_use]
    pub fn checked_add(self, blocks: BlockCount) -> Option<Self> {
        self.0.checked_add(blocks.0).map(Self)
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LBA {}", self.0)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_convert_both_ways() {
        for size in [BlockSize::B512, BlockSize::B4096] {
            assert_eq!(BlockSize::from_bytes(size.bytes()), Some(size));
            assert_eq!(size.blocks_in(size.len(BlockCount(77))), BlockCount(77));
            assert_eq!(size.offset(Lba(3)), u64::from(size.bytes()) * 3);
        }
        assert_eq!(BlockSize::from_bytes(520), None);
    }
}
