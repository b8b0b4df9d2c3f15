//! Where a key's slot is: a hash table of fixed size, 8 bytes an entry, at most half full.
//!
//! Open addressing with linear probing: a look-up reads one line of the table, or two, and then the slot itself to
//! compare the key. Entries are moved back on removal, so nothing decays however long it runs.

use super::Key;

/// An entry: the low half of the hash above, the slot below.
type Entry = u64;

/// No slot has this number: [`Pages`](super::Pages) holds fewer.
const EMPTY: Entry = Entry::MAX;

#[derive(Debug)]
pub(super) struct Index {
    entries: Box<[Entry]>,
    mask: usize,
}

/// Mixes a key and a seed to 64 bits, all of which are good.
///
/// The seed keeps a host that chooses its addresses from choosing which of them collide.
#[inline]
pub(super) fn hash(seed: u64, key: Key) -> u64 {
    mix(key.page ^ u64::from(key.volume).rotate_left(48) ^ seed)
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

/// The half of the hash that the index keeps; the ghosts use the other one.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
const fn tag(hash: u64) -> u32 {
    hash as u32
}

const fn entry(tag: u32, slot: u32) -> Entry {
    (tag as u64) << 32 | slot as u64
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is the slot")]
const fn slot_of(entry: Entry) -> u32 {
    entry as u32
}

impl Index {
    /// For up to `capacity` keys.
    pub(super) fn new(capacity: u32) -> Self {
        let len = (capacity.max(4) as usize * 2).next_power_of_two();
        Self { entries: vec![EMPTY; len].into_boxed_slice(), mask: len - 1 }
    }

    const fn home(&self, tag: u32) -> usize {
        tag as usize & self.mask
    }

    /// The slot of the entry with this hash for which `is` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mut at = self.home(tag);
        loop {
            let entry = self.entries[at & self.mask];
            if entry == EMPTY {
                return None;
            }
            if entry >> 32 == u64::from(tag) && is(slot_of(entry)) {
                return Some(slot_of(entry));
            }
            at += 1;
        }
    }

    /// Adds a slot whose key is not there yet. The caller adds no more than `capacity`.
    pub(super) fn add(&mut self, hash: u64, slot: u32) {
        let tag = tag(hash);
        let mut at = self.home(tag);
        while self.entries[at] != EMPTY {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = entry(tag, slot);
    }

    /// Removes a slot that was added with this hash.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let tag = tag(hash);
        let wanted = entry(tag, slot);
        let mut hole = self.home(tag);
        while self.entries[hole] != wanted {
            if self.entries[hole] == EMPTY {
                return;
            }
            hole = (hole + 1) & self.mask;
        }
        // Whoever stands behind the hole and may stand nearer to its home moves up.
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.entries[at];
            if entry == EMPTY {
                break;
            }
            #[allow(clippy::cast_possible_truncation, reason = "the upper half is the tag")]
            let home = self.home((entry >> 32) as u32);
            if at.wrapping_sub(home) & self.mask >= at.wrapping_sub(hole) & self.mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = EMPTY;
    }
}
