//! Which granules of the difference bitmap are known to be durable.

use super::check;
use kagami_types::{BlockOp, BlockSize};

/// log2 of a granule's bytes: 64 KiB.
pub(super) const SHIFT: u32 = 16;

/// A bit for each granule.
#[derive(Debug, Default)]
pub(super) struct Granules {
    words: Vec<u64>,
}

impl Granules {
    /// None, for a volume of that many bytes.
    pub fn reset(&mut self, bytes: u64) {
        self.words.clear();
        self.grow(bytes);
    }

    /// The volume has that many bytes.
    pub fn grow(&mut self, bytes: u64) {
        let words = usize::try_from(bytes.div_ceil(64 << SHIFT)).unwrap_or(usize::MAX);
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
    }

    /// Those granules are durable.
    pub fn set(&mut self, (first, end): (u64, u64)) {
        for granule in first..end {
            if let Some(word) = usize::try_from(granule / 64).ok().and_then(|at| self.words.get_mut(at)) {
                *word |= 1 << (granule % 64);
            }
        }
    }

    /// Whether all of those are.
    pub fn all(&self, (first, end): (u64, u64)) -> bool {
        (first..end).all(|granule| {
            let word = usize::try_from(granule / 64).ok().and_then(|at| self.words.get(at));
            word.is_some_and(|word| word >> (granule % 64) & 1 == 1)
        })
    }
}

/// Calls `each` with the first granule and the one behind the last of every run of blocks of the operation.
pub(super) fn granules(op: &BlockOp, size: BlockSize, mut each: impl FnMut((u64, u64))) {
    let shift = SHIFT - size.shift();
    check::runs(op, |run| each((run.start >> shift, ((run.end - 1) >> shift) + 1)));
}
