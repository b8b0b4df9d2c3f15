//! Where a key's slot is: a hash table of fixed size, 16 bytes an entry, at most half full.
//!
//! Open addressing with linear probing, and the key itself in the entry: a look-up that finds something reads one line of
//! memory, or two, and one that does not the same. Entries are moved back on removal, so nothing decays however long it
//! runs.

use super::Key;
use crate::MOST_PAGES;

/// A key in 64 bits: the volume above, the page's 48 bits below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Packed(u64);

impl Packed {
    /// Stands where there is no key.
    pub(super) const NOTHING: Self = Self(0);

    /// None for a page that no volume has.
    #[inline]
    pub(super) const fn new(key: Key) -> Option<Self> {
        if key.page < MOST_PAGES { Some(Self((key.volume as u64) << 48 | key.page)) } else { None }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the upper 16 bits")]
    pub(super) const fn key(self) -> Key {
        Key { volume: (self.0 >> 48) as u16, page: self.0 & (MOST_PAGES - 1) }
    }

    /// 64 bits, all of which are good. The seed keeps a host that chooses its addresses from choosing which of them
    /// collide.
    #[inline]
    pub(super) fn hash(self, seed: u64) -> u64 {
        mix(self.0 ^ seed)
    }
}

/// Mixes 64 bits: two folded multiplications.
#[inline]
pub(crate) fn mix(value: u64) -> u64 {
    fold(fold(value ^ 0xa076_1d64_78bd_642f, 0x9e37_79b9_7f4a_7c15), 0xe703_7ed1_a0b4_28db)
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Packed,
    slot: u32,
}

/// No slot has this number: [`Pages`](super::Pages) holds fewer.
const NO_SLOT: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Index {
    entries: Box<[Entry]>,
    mask: usize,
    seed: u64,
}

impl Index {
    /// For up to `capacity` keys.
    pub(super) fn new(capacity: u32, seed: u64) -> Self {
        let len = (capacity.max(4) as usize * 2).next_power_of_two();
        let entries = vec![Entry { key: Packed::NOTHING, slot: NO_SLOT }; len].into_boxed_slice();
        Self { entries, mask: len - 1, seed }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "masked")]
    fn home(&self, key: Packed) -> usize {
        key.hash(self.seed) as usize & self.mask
    }

    /// The slot of a key.
    #[inline]
    pub(super) fn find(&self, key: Packed) -> Option<u32> {
        let mut at = self.home(key);
        loop {
            let entry = self.entries[at & self.mask];
            if entry.slot == NO_SLOT {
                return None;
            }
            if entry.key == key {
                return Some(entry.slot);
            }
            at += 1;
        }
    }

    /// Asks the processor for the line in which a key's entry is, or would be.
    #[inline]
    pub(super) fn prefetch(&self, key: Packed) {
        kagami_memory::prefetch_value(&self.entries[self.home(key) & self.mask]);
    }

    /// Adds a key that is not there yet. The caller adds no more than `capacity`.
    pub(super) fn add(&mut self, key: Packed, slot: u32) {
        let mut at = self.home(key);
        while self.entries[at].slot != NO_SLOT {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = Entry { key, slot };
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, key: Packed) {
        let mut hole = self.home(key);
        while self.entries[hole].key != key || self.entries[hole].slot == NO_SLOT {
            if self.entries[hole].slot == NO_SLOT {
                return;
            }
            hole = (hole + 1) & self.mask;
        }
        // Whoever stands behind the hole and may stand nearer to its home moves up.
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.entries[at];
            if entry.slot == NO_SLOT {
                break;
            }
            let home = self.home(entry.key);
            if at.wrapping_sub(home) & self.mask >= at.wrapping_sub(hole) & self.mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole].slot = NO_SLOT;
    }
}
