//! Which pages the operations that wait are about, and who waits for whom.
//!
//! Only what could not be done at once is here, so nearly always it is empty. All in whole pages: an operation that has its
//! blocks to itself also has the pages to itself that hold them, so that nothing of these comes into the cache meanwhile.

use std::ops::Range;

/// What an operation does with its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A READ that waits for the device.
    Shared,
    /// A WRITE that is not in the cache yet: later ones wait behind it.
    Write,
    /// The device does it: nothing else may touch its pages.
    Exclusive,
}

impl Mode {
    const fn conflicts(self, other: Self) -> bool {
        match (self, other) {
            (Self::Exclusive, _) | (_, Self::Exclusive) | (Self::Write, Self::Write) => true,
            (Self::Shared, _) | (_, Self::Shared) => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    end: u64,
    /// The order in which they came.
    sequence: u64,
    task: u16,
    mode: Mode,
}

impl Entry {
    const fn collides(&self, other: &Self) -> bool {
        self.start < other.end
            && other.start < self.end
            && self.mode.conflicts(other.mode)
            && self.task != other.task
    }
}

/// All ranges taken or waited for.
#[derive(Debug)]
pub(crate) struct Ranges {
    entries: Vec<Entry>,
    next: u64,
}

impl Ranges {
    /// Room for that many entries without an allocation.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity), next: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an operation that came now would have to wait.
    pub(crate) fn blocks(&self, mode: Mode, pages: &Range<u64>) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.start < pages.end && pages.start < entry.end && mode.conflicts(entry.mode))
    }

    /// Enters a task's pages and returns how many earlier ranges it has to wait for.
    pub(crate) fn insert(&mut self, task: u16, mode: Mode, pages: &Range<u64>) -> u32 {
        let entry = Entry { start: pages.start, end: pages.end, sequence: self.next, task, mode };
        self.next += 1;
        let mut blockers = 0;
        for other in &self.entries {
            blockers += u32::from(entry.collides(other));
        }
        self.entries.push(entry);
        blockers
    }

    /// Takes a task's ranges out, and calls `unblock` once for each later range that waited for one.
    pub(crate) fn remove(&mut self, task: u16, mut unblock: impl FnMut(u16)) {
        let mut at = 0;
        while let Some(&entry) = self.entries.get(at) {
            if entry.task != task {
                at += 1;
                continue;
            }
            self.entries.swap_remove(at);
            for other in &self.entries {
                if other.sequence > entry.sequence && entry.collides(other) {
                    unblock(other.task);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_one_waits_for_all_and_all_for_it() {
        let mut ranges = Ranges::new(4);
        assert_eq!(ranges.insert(0, Mode::Shared, &(0..4)), 0);
        assert_eq!(ranges.insert(1, Mode::Write, &(2..3)), 0);
        assert_eq!(ranges.insert(2, Mode::Exclusive, &(0..8)), 2);
        assert!(ranges.blocks(Mode::Shared, &(7..9)) && !ranges.blocks(Mode::Shared, &(8..9)));
        assert_eq!(ranges.insert(3, Mode::Write, &(2..3)), 2);
        let mut free = Vec::new();
        ranges.remove(1, |task| free.push(task));
        ranges.remove(0, |task| free.push(task));
        free.sort_unstable();
        assert_eq!(free, [2, 2, 3]);
        free.clear();
        ranges.remove(2, |task| free.push(task));
        ranges.remove(3, |task| free.push(task));
        assert_eq!(free, [3]);
        assert!(ranges.is_empty());
    }
}
