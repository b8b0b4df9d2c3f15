//! Which bytes the operations in a volume are about, and who waits for whom.
//!
//! Overlapping writes keep their order: the later one waits. An exclusive operation (COMPARE AND
//! WRITE and the like) also keeps reads out, and waits for those before it. Whoever waits is itself waited
//! for, so nobody is overtaken for ever. The list is as short as the volume has slots, and a pass
//! over it compares two numbers an entry; nothing else is done where nothing overlaps.

use crate::check::Extent;

/// What an operation does with its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Reads: any value that was there at some time meanwhile will do.
    Shared,
    /// Writes.
    Write,
    /// Must be alone.
    Exclusive,
}

impl Mode {
    fn conflicts(self, other: Self) -> bool {
        match (self, other) {
            (Self::Exclusive, _) | (_, Self::Exclusive) => true,
            (Self::Write, Self::Write) => true,
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
    fn collides(&self, other: &Self) -> bool {
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

    /// Enters a task's range and returns how many earlier ones it has to wait for.
    pub(crate) fn insert(&mut self, task: u16, mode: Mode, extent: Extent) -> u32 {
        let entry = Entry { start: extent.start, end: extent.end(), sequence: self.next, task, mode };
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

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, len: u64) -> Extent {
        Extent { start, len }
    }

    #[test]
    fn later_writes_wait_and_are_let_go_in_order() {
        let mut ranges = Ranges::new(4);
        assert_eq!(ranges.insert(0, Mode::Write, extent(0, 4096)), 0);
        assert_eq!(ranges.insert(1, Mode::Write, extent(2048, 4096)), 1);
        assert_eq!(ranges.insert(2, Mode::Write, extent(4096, 4096)), 1);
        assert_eq!(ranges.insert(3, Mode::Write, extent(8192, 4096)), 0);
        let mut free = Vec::new();
        ranges.remove(0, |task| free.push(task));
        assert_eq!(free, [1]);
        ranges.remove(1, |task| free.push(task));
        assert_eq!(free, [1, 2]);
    }

    #[test]
    fn reads_pass_writes_but_not_exclusive_ones() {
        let mut ranges = Ranges::new(4);
        assert_eq!(ranges.insert(0, Mode::Write, extent(0, 512)), 0);
        assert_eq!(ranges.insert(1, Mode::Shared, extent(0, 512)), 0);
        assert_eq!(ranges.insert(2, Mode::Exclusive, extent(0, 512)), 2);
        assert_eq!(ranges.insert(3, Mode::Shared, extent(0, 512)), 1);
        let mut free = Vec::new();
        ranges.remove(1, |task| free.push(task));
        ranges.remove(0, |task| free.push(task));
        assert_eq!(free, [2, 2]);
        ranges.remove(2, |task| free.push(task));
        assert_eq!(free, [2, 2, 3]);
    }

    #[test]
    fn a_task_does_not_wait_for_itself() {
        let mut ranges = Ranges::new(4);
        assert_eq!(ranges.insert(0, Mode::Write, extent(0, 4096)), 0);
        assert_eq!(ranges.insert(0, Mode::Write, extent(0, 4096)), 0);
        assert_eq!(ranges.insert(1, Mode::Write, extent(0, 512)), 2);
        let mut freed = 0;
        ranges.remove(0, |_| freed += 1);
        assert_eq!((freed, ranges.len()), (2, 1));
    }
}
