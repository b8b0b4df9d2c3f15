//! Ranges that operations over a boundary have to themselves, and who waits for them. No I/O.
//!
//! The list is in the order in which operations came. One that is on it goes on when nobody before it on the list is in
//! its way: so overlapping operations keep their order, and none waits for ever. Operations within an extent are on it
//! only while they wait; the shard keeps the order among those.

use std::collections::VecDeque;
use std::ops::Range;

/// What an operation does to its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Reads,
    Writes,
}

impl Mode {
    fn excludes(self, other: Self) -> bool {
        self == Self::Writes || other == Self::Writes
    }
}

#[derive(Clone, Debug)]
struct Entry {
    slot: u16,
    mode: Mode,
    blocks: Range<u64>,
    waits: bool,
}

impl Entry {
    fn is_in_the_way(&self, mode: Mode, blocks: &Range<u64>) -> bool {
        self.mode.excludes(mode) && self.blocks.start < blocks.end && blocks.start < self.blocks.end
    }
}

/// The list; see the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks {
    entries: VecDeque<Entry>,
}

impl Locks {
    /// Nearly always.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an operation that comes now has to wait.
    pub(super) fn is_taken(&self, mode: Mode, blocks: &Range<u64>) -> bool {
        self.entries.iter().any(|entry| entry.is_in_the_way(mode, blocks))
    }

    /// Puts blocks of an operation at the end of the list; it waits until [`go`](Self::go).
    pub(super) fn enter(&mut self, slot: u16, mode: Mode, blocks: Range<u64>) {
        self.entries.push_back(Entry { slot, mode, blocks, waits: true });
    }

    /// Whether nobody before an operation on the list is in its way.
    pub(super) fn may_go(&self, slot: u16) -> bool {
        let mut own = self.entries.iter().enumerate().filter(|(_, entry)| entry.slot == slot);
        own.all(|(at, entry)| {
            let mut before = self.entries.iter().take(at).filter(|other| other.slot != slot);
            !before.any(|other| other.is_in_the_way(entry.mode, &entry.blocks))
        })
    }

    /// A waiting operation goes on, and has its blocks.
    pub(super) fn go(&mut self, slot: u16) {
        for entry in self.entries.iter_mut().filter(|entry| entry.slot == slot) {
            entry.waits = false;
        }
    }

    /// An operation is over, or needs its blocks no more. Whether it was on the list.
    pub(super) fn leave(&mut self, slot: u16) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.slot != slot);
        self.entries.len() < before
    }

    /// Those that wait, in the order in which they came; one with several ranges as often.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u16> {
        self.entries.iter().filter(|entry| entry.waits).map(|entry| entry.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn readers_share_and_writers_do_not() {
        let mut locks = Locks::default();
        locks.enter(1, Mode::Reads, 0..100);
        assert!(locks.may_go(1));
        locks.go(1);
        assert!(!locks.is_taken(Mode::Reads, &(50..60)) && locks.is_taken(Mode::Writes, &(50..60)));
        assert!(!locks.is_taken(Mode::Writes, &(100..101)));
        locks.enter(2, Mode::Writes, 90..110);
        locks.enter(3, Mode::Reads, 95..99);
        // The reader came after the writer, which must not wait for ever.
        assert!(!locks.may_go(2) && !locks.may_go(3));
        assert!(locks.leave(1) && locks.may_go(2) && !locks.may_go(3));
        locks.go(2);
        assert_eq!(locks.waiting().collect::<Vec<_>>(), [3]);
        assert!(locks.leave(2) && locks.may_go(3) && locks.leave(3) && !locks.leave(3));
        assert!(locks.is_empty());
    }

    proptest! {
        /// Whatever ends when: no two that exclude each other have overlapping blocks, those that overlap go in the
        /// order in which they came, and in the end all have gone.
        #[test]
        fn order_is_kept_and_nobody_is_left(
            ops in prop::collection::vec((any::<bool>(), 0_u64..40, 1_u64..20), 1..24),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 64),
        ) {
            let ops: Vec<(Mode, Range<u64>)> = ops
                .into_iter()
                .map(|(writes, start, len)| {
                    (if writes { Mode::Writes } else { Mode::Reads }, start..start + len)
                })
                .collect();
            let mut locks = Locks::default();
            let (mut held, mut gone): (Vec<u16>, Vec<u16>) = (Vec::new(), Vec::new());
            for (slot, (mode, blocks)) in (0u16..).zip(&ops) {
                locks.enter(slot, *mode, blocks.clone());
            }
            for end in ends.into_iter().cycle() {
                let waiting: Vec<u16> = locks.waiting().collect();
                for slot in waiting {
                    if locks.may_go(slot) {
                        locks.go(slot);
                        let (mode, blocks) = &ops[usize::from(slot)];
                        let meets = |other: u16| {
                            let (its, run) = &ops[usize::from(other)];
                            mode.excludes(*its) && run.start < blocks.end && blocks.start < run.end
                        };
                        prop_assert!(!held.iter().any(|&other| meets(other)));
                        prop_assert!((0..slot).all(|earlier| !meets(earlier) || gone.contains(&earlier)));
                        held.push(slot);
                    }
                }
                if held.is_empty() {
                    break;
                }
                let over = held.swap_remove(end.index(held.len()));
                prop_assert!(locks.leave(over));
                gone.push(over);
            }
            prop_assert_eq!(gone.len(), ops.len());
            prop_assert!(locks.is_empty());
        }
    }
}
