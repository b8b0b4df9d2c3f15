//! The difference bitmap on the device: two copies of 4 KiB blocks, each with a head and checksum of its own.
//!
//! Each volume has a run of blocks; a block says whose bits it has, so that a bit is never taken for another volume's.
//! What was not readable in both copies counts as different, and is said to be so.

use crate::bits::Bits;
use crate::crc;
use crate::layout::{BLOCK, Layout};
use kagami_types::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Granules in one block of the bitmap: about 2 GiB of a volume.
pub const BITS_PER_BLOCK: u64 = (LEN - HEAD) as u64 * 8;
/// The most volumes of a group.
pub(crate) const MAX_VOLUMES: u64 = 256;

const LEN: usize = 4096;
const HEAD: usize = 64;
const MAGIC: [u8; 8] = *b"KAGDIFFB";

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    group: [u8; 16],
    set: U64,
    version: U64,
    first: U64,
    volume: u8,
    reserved: [u8; 11],
    crc: U32,
    bits: [u8; LEN - HEAD],
}

const _: () = assert!(size_of::<Raw>() == LEN);
const _: () = assert!(BITS_PER_BLOCK.is_multiple_of(64));

/// Which block of a copy has which granules of which volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitmapMap {
    /// Of each volume: how many granules.
    granules: Vec<u64>,
    /// Of each volume: its first block.
    first: Vec<u32>,
    blocks: u32,
}

impl BitmapMap {
    /// For volumes of that many granules, in the order of their numbers; `None` where the layout has no room for them.
    /// The blocks of a volume move when one before it grows into another block, or one joins: then all are written anew,
    /// under another `set`.
    #[must_use]
    pub fn new(layout: &Layout, granules: &[u64]) -> Option<Self> {
        if granules.len() as u64 > MAX_VOLUMES {
            return None;
        }
        let mut first = Vec::with_capacity(granules.len());
        let mut blocks = 0u64;
        for &of_volume in granules {
            first.push(u32::try_from(blocks).ok()?);
            blocks = blocks.checked_add(of_volume.div_ceil(BITS_PER_BLOCK))?;
        }
        if blocks > layout.bitmap_len / BLOCK {
            return None;
        }
        Some(Self { granules: granules.to_vec(), first, blocks: u32::try_from(blocks).ok()? })
    }

    /// How many blocks each copy has.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The block that has that granule.
    #[must_use]
    pub fn block_of(&self, volume: u8, granule: u64) -> Option<u32> {
        let at = usize::from(volume);
        if granule >= *self.granules.get(at)? {
            return None;
        }
        Some(self.first.get(at)? + u32::try_from(granule / BITS_PER_BLOCK).ok()?)
    }

    /// What a block has: the volume, its first granule, and the one behind the last.
    #[must_use]
    pub fn part(&self, block: u32) -> Option<(u8, u64, u64)> {
        if block >= self.blocks {
            return None;
        }
        // The last volume that begins at or before it; one without granules has no block.
        let volume = self.first.partition_point(|&first| first <= block).checked_sub(1)?;
        let from = u64::from(block - self.first[volume]) * BITS_PER_BLOCK;
        let to = (from + BITS_PER_BLOCK).min(self.granules[volume]);
        Some((u8::try_from(volume).ok()?, from, to))
    }

    /// Where a block of that copy lies, in bytes from the device's start.
    #[must_use]
    pub fn place(layout: &Layout, copy: usize, block: u32) -> u64 {
        layout.bitmap_at[copy & 1] + u64::from(block) * BLOCK
    }
}

/// Of which copy a block was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBlock {
    /// From the copy that had the higher version, or both had the same.
    Good,
    /// From one copy; the other is broken and should be written again.
    OneBroken,
    /// From neither: all its bits are set, and more may be copied than differs.
    Lost,
}

/// Encodes and decodes blocks of the bitmap.
#[derive(Clone, Debug)]
pub struct BitmapBlocks {
    group: Uuid,
    set: u64,
    map: BitmapMap,
    /// The version that each block had last.
    versions: Vec<u64>,
}

impl BitmapBlocks {
    /// For a bitmap of that group and `set`. The set is a number that the group keeps in its record, and takes anew
    /// whenever it writes all blocks anew: what blocks of other sets say does not count.
    #[must_use]
    pub fn new(group: Uuid, set: u64, map: BitmapMap) -> Self {
        let versions = vec![0; map.blocks as usize];
        Self { group, set, map, versions }
    }

    /// Which blocks there are.
    #[must_use]
    pub fn map(&self) -> &BitmapMap {
        &self.map
    }

    /// The set that they are of.
    #[must_use]
    pub fn set(&self) -> u64 {
        self.set
    }

    /// A new version of a block, from the bits of its volume: to be written to one copy, then to the other.
    #[must_use]
    pub fn encode(&mut self, block: u32, bits: &[Bits]) -> Option<[u8; LEN]> {
        let (volume, first, to) = self.map.part(block)?;
        let version = self.versions.get_mut(block as usize)?;
        *version += 1;
        let mut raw = Raw::new_zeroed();
        raw.magic = MAGIC;
        raw.group = *self.group.as_bytes();
        raw.set.set(self.set);
        raw.version.set(*version);
        raw.first.set(first);
        raw.volume = volume;
        let len = usize::try_from((to - first).div_ceil(8)).ok()?.min(raw.bits.len());
        bits.get(usize::from(volume))?.write_bytes(first, &mut raw.bits[..len]);
        raw.crc.set(checksum(&raw));
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(raw.as_bytes());
        Some(bytes)
    }

    /// Puts what a block says into the bits of its volume. The bytes are 4 KiB from each copy; none where one could not
    /// be read.
    pub fn decode(&mut self, block: u32, first: &[u8], second: &[u8], bits: &mut [Bits]) -> FoundBlock {
        let Some((volume, from, to)) = self.map.part(block) else { return FoundBlock::Lost };
        let Some(bits) = bits.get_mut(usize::from(volume)) else { return FoundBlock::Lost };
        let (one, two) = (self.sound(volume, from, first), self.sound(volume, from, second));
        let (raw, found) = match (one, two) {
            (Some(one), Some(two)) if two.version.get() > one.version.get() => (two, FoundBlock::Good),
            (Some(one), Some(_)) => (one, FoundBlock::Good),
            (Some(one), None) | (None, Some(one)) => (one, FoundBlock::OneBroken),
            (None, None) => {
                bits.set_range(from, to);
                return FoundBlock::Lost;
            }
        };
        if let Some(version) = self.versions.get_mut(block as usize) {
            *version = raw.version.get();
        }
        bits.read_bytes(from, &raw.bits);
        found
    }

    fn sound<'a>(&self, volume: u8, first: u64, bytes: &'a [u8]) -> Option<&'a Raw> {
        let (raw, _) = Raw::ref_from_prefix(bytes).ok()?;
        let ours = raw.magic == MAGIC
            && raw.crc.get() == checksum(raw)
            && raw.group == *self.group.as_bytes()
            && (raw.set.get(), raw.volume, raw.first.get()) == (self.set, volume, first);
        ours.then_some(raw)
    }
}

fn checksum(raw: &Raw) -> u32 {
    let bytes = raw.as_bytes();
    crc::of_pieces([&bytes[..HEAD - 4], &bytes[HEAD..]])
}

#[cfg(test)]
mod tests;
