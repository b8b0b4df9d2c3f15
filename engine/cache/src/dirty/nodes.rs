//! A set of pages of many volumes in the order of addresses: a tree of 64-bit masks whose nodes lie in one hash table.
//!
//! A leaf holds the bits of 64 neighbouring pages; each node above has a bit for each of 64 nodes below that are not
//! empty. So the next page after any other is found in at most twice as many steps as the tree is high, nothing is
//! ever sorted, and the whole takes memory for what is in it and not for the size of the volumes.
//!
//! Three sets share the tree: [`Class`].

use crate::pages::mix;

/// How high a tree can be: 48 bits of page number, 6 each.
pub(super) const LEVELS: u32 = 8;

/// The sets that share a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Class {
    /// Every dirty page.
    Dirty = 0,
    /// Those of one generation, and of the other, that destage has still to take.
    Even = 1,
    Odd = 2,
}

impl Class {
    pub(super) const fn other(self) -> Self {
        if matches!(self, Self::Even) { Self::Odd } else { Self::Even }
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    key: u64,
    masks: [u64; 3],
}

/// A key has 61 bits.
const NO_KEY: u64 = u64::MAX;
const FREE: Node = Node { key: NO_KEY, masks: [0; 3] };

#[derive(Debug)]
pub(super) struct Nodes {
    table: Box<[Node]>,
    len: usize,
    most: usize,
}

const fn key(volume: u16, level: u32, index: u64) -> u64 {
    (volume as u64) << 45 | (level as u64) << 42 | index
}

impl Nodes {
    /// Memory for `most` nodes: 40 bytes each.
    pub(super) fn new(most: usize) -> Self {
        Self { table: vec![FREE; most + most / 4 + 8].into_boxed_slice(), len: 0, most }
    }

    /// How many more nodes there can be.
    pub(super) const fn room(&self) -> usize {
        self.most.saturating_sub(self.len)
    }

    #[allow(clippy::cast_possible_truncation, reason = "below the length of the table")]
    fn home(&self, key: u64) -> usize {
        ((u128::from(mix(key)) * self.table.len() as u128) >> 64) as usize
    }

    const fn after(&self, at: usize) -> usize {
        if at + 1 == self.table.len() { 0 } else { at + 1 }
    }

    /// Where the key is, or where it would be.
    fn find(&self, key: u64) -> usize {
        let mut at = self.home(key);
        while self.table[at].key != key && self.table[at].key != NO_KEY {
            at = self.after(at);
        }
        at
    }

    /// The mask of a node; 0 if there is no such node.
    pub(super) fn mask(&self, volume: u16, level: u32, index: u64, class: Class) -> u64 {
        self.table[self.find(key(volume, level, index))].masks[class as usize]
    }

    /// The three masks of a leaf.
    pub(super) fn leaf(&self, volume: u16, region: u64) -> [u64; 3] {
        self.table[self.find(key(volume, 0, region))].masks
    }

    /// Asks the processor for a leaf. A hint.
    #[inline]
    pub(super) fn prefetch(&self, volume: u16, region: u64) {
        kagami_memory::prefetch_value(&self.table[self.home(key(volume, 0, region))]);
    }

    /// Marks one page in a leaf that has others of the set and of the generation `next`, and adds it to the latter unless
    /// it is in `now`: so nothing is to be done above. Whether the page is new in the set; none if there is no such leaf.
    #[inline]
    pub(super) fn mark(&mut self, volume: u16, page: u64, now: Class) -> Option<bool> {
        let key = key(volume, 0, page >> 6);
        let at = self.find(key);
        let masks = &mut self.table[at].masks;
        let next = now.other() as usize;
        if masks[Class::Dirty as usize] == 0 || masks[next] == 0 {
            return None;
        }
        let bit = 1 << (page & 63);
        let fresh = masks[Class::Dirty as usize] & bit == 0;
        masks[Class::Dirty as usize] |= bit;
        masks[next] |= bit & !masks[now as usize];
        Some(fresh)
    }

    /// Adds bits to one node. True if it had none of this class.
    fn add(&mut self, key: u64, class: Class, bits: u64) -> bool {
        let at = self.find(key);
        let node = &mut self.table[at];
        if node.key == NO_KEY {
            node.key = key;
            self.len += 1;
        }
        let mask = &mut node.masks[class as usize];
        let first = *mask == 0;
        *mask |= bits;
        first
    }

    /// Takes bits from one node, and the node if it is empty then. True if it has none of this class any more, but had.
    fn take(&mut self, key: u64, class: Class, bits: u64) -> bool {
        let at = self.find(key);
        let mask = &mut self.table[at].masks[class as usize];
        if *mask & bits == 0 {
            return false;
        }
        *mask &= !bits;
        let last = *mask == 0;
        if self.table[at].masks == [0; 3] {
            self.remove(at);
        }
        last
    }

    fn remove(&mut self, mut hole: usize) {
        let len = self.table.len();
        self.len -= 1;
        let mut at = hole;
        loop {
            at = self.after(at);
            let node = self.table[at];
            if node.key == NO_KEY {
                break;
            }
            let behind = |from: usize| (at + len - from) % len;
            if behind(self.home(node.key)) >= behind(hole) {
                self.table[hole] = node;
                hole = at;
            }
        }
        self.table[hole] = FREE;
    }

    /// Adds bits to a leaf, in a tree of this height, and to the nodes above what they need.
    pub(super) fn set(&mut self, volume: u16, height: u32, region: u64, class: Class, bits: u64) {
        let (mut index, mut bits) = (region, bits);
        for level in 0..height {
            if bits == 0 || !self.add(key(volume, level, index), class, bits) {
                return;
            }
            bits = 1 << (index & 63);
            index >>= 6;
        }
    }

    /// Takes bits from a leaf, and from the nodes above what became empty.
    pub(super) fn unset(&mut self, volume: u16, height: u32, region: u64, class: Class, bits: u64) {
        let (mut index, mut bits) = (region, bits);
        for level in 0..height {
            if !self.take(key(volume, level, index), class, bits) {
                return;
            }
            bits = 1 << (index & 63);
            index >>= 6;
        }
    }

    /// Makes a tree one level higher.
    pub(super) fn raise(&mut self, volume: u16, height: u32) {
        let Some(top) = height.checked_sub(1) else { return };
        for class in [Class::Dirty, Class::Even, Class::Odd] {
            if self.mask(volume, top, 0, class) != 0 {
                self.add(key(volume, height, 0), class, 1);
            }
        }
    }

    /// The first page from `from` on that is in the class.
    pub(super) fn next(&self, volume: u16, height: u32, class: Class, from: u64) -> Option<u64> {
        let mut at = from;
        let mut level = 0;
        let mut found = loop {
            if level == height {
                return None;
            }
            let node = at >> 6;
            let mask = self.mask(volume, level, node, class) >> (at & 63);
            if mask != 0 {
                break at + u64::from(mask.trailing_zeros());
            }
            at = node + 1;
            level += 1;
        };
        while level > 0 {
            level -= 1;
            found = found << 6 | u64::from(self.mask(volume, level, found, class).trailing_zeros() & 63);
        }
        Some(found)
    }
}
