//! What the checker writes into every block, so that a read says whose block it is.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | magic `KGMSTAMP` |
//! | 8..16 | volume: a random word for each logical unit of a run |
//! | 16..24 | the block's own address |
//! | 24..28 | generation: the number of the write, from 1 on |
//! | 28..32 | CRC32C of all the block's other bytes |
//! | 32.. | pseudo-random words that follow from volume, address and generation |
//!
//! Numbers are little-endian. Pure code; called by the checker's host and by `load --verify`.

use crate::rng::mix;
use std::fmt;

/// The number of a write. 0 stands for whatever was on the volume before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// The contents from before the run.
    pub const BEFORE: Self = Self(0);
}

const MAGIC: [u8; 8] = *b"KGMSTAMP";
const HEADER: usize = 32;

/// What a block was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole stamp of this volume and this address.
    Stamp(Generation),
    /// A whole stamp, but of another address of this volume.
    Misplaced {
        /// The address it was written for.
        lba: u64,
        /// The write it comes from.
        generation: Generation,
    },
    /// A whole stamp of another logical unit of this or another run.
    OtherVolume(u64),
    /// Starts like a stamp, but the checksum is wrong: torn or damaged.
    Damaged(Generation),
    /// Zeroes all over.
    Zeroes,
    /// None of these.
    Foreign,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stamp(generation) => write!(f, "write {}", generation.0),
            Self::Misplaced { lba, generation } => {
                write!(f, "data of LBA {lba} (write {})", generation.0)
            }
            Self::OtherVolume(volume) => write!(f, "data of another volume ({volume:016x})"),
            Self::Damaged(generation) => {
                write!(f, "a damaged or torn block (header of write {})", generation.0)
            }
            Self::Zeroes => f.write_str("zeroes"),
            Self::Foreign => f.write_str("data that no run of this checker wrote"),
        }
    }
}

/// Fills `block` with the stamp.
pub fn write(block: &mut [u8], volume: u64, lba: u64, generation: Generation) {
    let Some((header, body)) = block.split_first_chunk_mut::<HEADER>() else { return };
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&volume.to_le_bytes());
    header[16..24].copy_from_slice(&lba.to_le_bytes());
    header[24..28].copy_from_slice(&generation.0.to_le_bytes());
    let mut word = mix(volume ^ lba.rotate_left(20) ^ (u64::from(generation.0) << 40)) | 1;
    for chunk in body.as_chunks_mut::<8>().0 {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        *chunk = word.to_le_bytes();
    }
    let crc = checksum(header, body);
    header[28..32].copy_from_slice(&crc.to_le_bytes());
}

/// Says what `block`, read from `lba` of `volume`, holds.
#[must_use]
pub fn read(block: &[u8], volume: u64, lba: u64) -> Found {
    let Some((header, body)) = block.split_first_chunk::<HEADER>() else { return Found::Foreign };
    if header[..8] != MAGIC {
        let zero = block.iter().all(|byte| *byte == 0);
        return if zero { Found::Zeroes } else { Found::Foreign };
    }
    let generation = Generation(word32(header, 24));
    if checksum(header, body) != word32(header, 28) {
        return Found::Damaged(generation);
    }
    match (word64(header, 8), word64(header, 16)) {
        (found, _) if found != volume => Found::OtherVolume(found),
        (_, found) if found != lba => Found::Misplaced { lba: found, generation },
        _ => Found::Stamp(generation),
    }
}

/// The number of the write that a block begins as one of, whole or not.
#[must_use]
pub fn generation(block: &[u8]) -> Option<Generation> {
    let header = block.first_chunk::<HEADER>()?;
    (header[..8] == MAGIC).then(|| Generation(word32(header, 24)))
}

fn checksum(header: &[u8; HEADER], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..28]), body)
}

fn word32(header: &[u8; HEADER], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn word64(header: &[u8; HEADER], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_says_whose_it_is() {
        for size in [512, 4096] {
            let mut block = vec![0xff; size];
            write(&mut block, 9, 77, Generation(5));
            assert_eq!(read(&block, 9, 77), Found::Stamp(Generation(5)));
            assert_eq!(read(&block, 9, 78), Found::Misplaced { lba: 77, generation: Generation(5) });
            assert_eq!(read(&block, 8, 77), Found::OtherVolume(9));
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let mut block = vec![0; 512];
        write(&mut block, 1, 2, Generation(3));
        for at in 0..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 0x10;
            assert!(!matches!(read(&bad, 1, 2), Found::Stamp(_)), "byte {at}");
        }
    }

    #[test]
    fn halves_of_two_writes_are_damage() {
        let (mut old, mut new) = (vec![0; 512], vec![0; 512]);
        write(&mut old, 1, 2, Generation(3));
        write(&mut new, 1, 2, Generation(4));
        new[256..].copy_from_slice(&old[256..]);
        assert_eq!(read(&new, 1, 2), Found::Damaged(Generation(4)));
    }

    #[test]
    fn blank_and_foreign_blocks() {
        assert_eq!(read(&[0; 512], 1, 2), Found::Zeroes);
        assert_eq!(read(&[1; 512], 1, 2), Found::Foreign);
        assert_eq!(read(&[1; 5], 1, 2), Found::Foreign);
    }

    #[test]
    fn golden_bytes() {
        let mut block = vec![0; 512];
        write(&mut block, 0x0102_0304_0506_0708, 16, Generation(1));
        assert_eq!(&block[..8], b"KGMSTAMP");
        assert_eq!(&block[8..16], &[8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(&block[16..28], &[16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    }
}
