//! What hosts write: contents that say which write of which unit of which volume they are.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | magic `KGSIMBLK` |
//! | 8..16 | volume: a random word, another in each run |
//! | 16..24 | the unit's number |
//! | 24..32 | the write's number, from 1 on |
//! | 32.. | words that follow from all of these |
//!
//! Little-endian. The whole content follows from its first 32 bytes, so that any other bit is
//! found out by making it again: no checksum is needed.

/// The number of a write on its volume. 0 is what was there before the first: zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What a unit was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The whole content of a write to this unit.
    Write(WriteId),
    /// Zeroes all over.
    Zeroes,
    /// The whole content of a write to another unit of this volume.
    Misplaced {
        /// That unit.
        unit: u64,
        /// The write.
        write: WriteId,
    },
    /// The content of another volume, or of another run.
    OtherVolume,
    /// Begins like the content of a write, but is not it.
    Damaged(WriteId),
    /// None of these.
    Foreign,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Write(write) => write!(f, "write {}", write.0),
            Self::Zeroes => f.write_str("zeroes"),
            Self::Misplaced { unit, write } => write!(f, "write {} of unit {unit}", write.0),
            Self::OtherVolume => f.write_str("data of another volume or run"),
            Self::Damaged(write) => write!(f, "damaged data, at its beginning of write {}", write.0),
            Self::Foreign => f.write_str("data that nobody wrote"),
        }
    }
}

const MAGIC: u64 = u64::from_le_bytes(*b"KGSIMBLK");

fn words(volume: u64, unit: u64, write: WriteId) -> impl Iterator<Item = u64> {
    let mut word = volume ^ unit.rotate_left(24) ^ write.0.rotate_left(48) ^ 0x5bd1_e995_9d1d_3b07;
    let head = [MAGIC, volume, unit, write.0];
    head.into_iter().chain(std::iter::repeat_with(move || {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        word ^ (word >> 29)
    }))
}

/// Fills a unit with the content of a write.
pub fn fill(bytes: &mut [u8], volume: u64, unit: u64, write: WriteId) {
    for (chunk, word) in bytes.chunks_mut(8).zip(words(volume, unit, write)) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

/// Says what the bytes of a unit are.
#[must_use]
pub fn read(bytes: &[u8], volume: u64, unit: u64) -> Found {
    let word = |at: usize| {
        bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    if word(0) != MAGIC {
        let zero = bytes.iter().all(|byte| *byte == 0);
        return if zero { Found::Zeroes } else { Found::Foreign };
    }
    let (found_volume, found_unit, write) = (word(8), word(16), WriteId(word(24)));
    let whole = bytes
        .chunks(8)
        .zip(words(found_volume, found_unit, write))
        .all(|(chunk, word)| *chunk == word.to_le_bytes()[..chunk.len()]);
    if !whole {
        Found::Damaged(write)
    } else if found_volume != volume {
        Found::OtherVolume
    } else if found_unit != unit {
        Found::Misplaced { unit: found_unit, write }
    } else {
        Found::Write(write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_say_whose_they_are() {
        let mut bytes = [0xff; 512];
        fill(&mut bytes, 7, 3, WriteId(9));
        assert_eq!(read(&bytes, 7, 3), Found::Write(WriteId(9)));
        assert_eq!(read(&bytes, 7, 4), Found::Misplaced { unit: 3, write: WriteId(9) });
        assert_eq!(read(&bytes, 8, 3), Found::OtherVolume);
        assert_eq!(read(&[0; 512], 7, 3), Found::Zeroes);
        assert_eq!(read(&[1; 512], 7, 3), Found::Foreign);
    }

    #[test]
    fn every_flipped_bit_shows() {
        let mut bytes = [0; 512];
        fill(&mut bytes, 7, 3, WriteId(9));
        for at in 0..512 {
            bytes[at] ^= 4;
            assert_ne!(read(&bytes, 7, 3), Found::Write(WriteId(9)), "byte {at}");
            bytes[at] ^= 4;
        }
    }

    #[test]
    fn halves_of_two_writes_are_damage() {
        let (mut a, mut b) = ([0; 512], [0; 512]);
        fill(&mut a, 7, 3, WriteId(1));
        fill(&mut b, 7, 3, WriteId(2));
        a[256..].copy_from_slice(&b[256..]);
        assert_eq!(read(&a, 7, 3), Found::Damaged(WriteId(1)));
    }
}
