//! Which addresses the operations under way are about, and who waits for whom.
//!
//! Overlapping writes keep their order: the later one waits. An exclusive operation (COMPARE AND WRITE and the like)
//! also keeps reads out, and waits for those before it. Whoever waits is itself waited for, so nobody is overtaken for
//! ever. Addresses are numbers of one kind: bytes for the disk controller, pages for the cache; both call this, nobody
//! else does. It knows no operations, and keeps none.
//!
//! There is a list for each way to use a range, and only those that conflict are looked through. So a read costs next to
//! nothing where nothing is exclusive, and a write compares two numbers with each other write.

use std::ops::Range;

/// What an operation does with its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reads: any value that was there at some time meanwhile will do.
    Shared,
    /// Writes: later ones wait behind it.
    Write,
    /// Must be alone.
    Exclusive,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Shared, Self::Write, Self::Exclusive];

    /// Those that cannot be at the same place at the same time.
    const fn conflicts(self) -> &'static [Self] {
        match self {
            Self::Shared => &[Self::Exclusive],
            Self::Write => &[Self::Write, Self::Exclusive],
            Self::Exclusive => &Self::ALL,
        }
    }
}

/// A range of a task.
#[derive(Clone, Copy, Debug)]
struct Entry {
    span: Span,
    /// The order in which they came.
    sequence: u64,
    task: u16,
    mode: Mode,
    /// Where it is in its mode's list.
    at: u32,
    /// The task's next range.
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    end: u64,
}

impl Span {
    const fn meets(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// No entry.
const NONE: u32 = u32::MAX;

/// The ranges of one mode: what is compared lies together.
#[derive(Debug, Default)]
struct List {
    spans: Vec<Span>,
    entries: Vec<u32>,
}

/// All ranges taken or waited for.
#[derive(Debug)]
pub struct Ranges {
    lists: [List; 3],
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// The first range of each task.
    first: Vec<u32>,
    next: u64,
}

impl Ranges {
    /// Room for that many ranges, and as many tasks, without an allocation.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let list = || List { spans: Vec::with_capacity(capacity), entries: Vec::with_capacity(capacity) };
        Self {
            lists: [list(), list(), list()],
            entries: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            first: vec![NONE; capacity],
            next: 0,
        }
    }

    /// Whether no task has a range.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.len() == self.free.len()
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether an operation that came now would have to wait.
    #[must_use]
    #[inline]
    pub fn blocks(&self, mode: Mode, range: &Range<u64>) -> bool {
        let span = Span { start: range.start, end: range.end };
        mode.conflicts().iter().any(|other| self.list(*other).spans.iter().any(|other| other.meets(span)))
    }

    /// Enters a task's range and returns how many earlier ones of others it has to wait for.
    #[inline]
    pub fn insert(&mut self, task: u16, mode: Mode, range: Range<u64>) -> u32 {
        let span = Span { start: range.start, end: range.end };
        let mut blockers = 0;
        for other in mode.conflicts() {
            let list = self.list(*other);
            for (at, other) in list.spans.iter().enumerate() {
                if other.meets(span) {
                    blockers += u32::from(self.entries[list.entries[at] as usize].task != task);
                }
            }
        }
        let place = usize::from(task);
        if self.first.len() <= place {
            self.first.resize(place + 1, NONE);
        }
        let list = &mut self.lists[mode as usize];
        let at = u32::try_from(list.spans.len()).unwrap_or(NONE);
        let entry = Entry { span, sequence: self.next, task, mode, at, next: self.first[place] };
        self.next += 1;
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
            }
        };
        list.spans.push(span);
        list.entries.push(index);
        self.first[place] = index;
        blockers
    }

    /// Takes a task's ranges out, and calls `unblock` once for each later range of another that waited for one.
    #[inline]
    pub fn remove(&mut self, task: u16, mut unblock: impl FnMut(u16)) {
        let Some(first) = self.first.get_mut(usize::from(task)) else { return };
        let mut index = std::mem::replace(first, NONE);
        while let Some(&entry) = self.entries.get(index as usize) {
            self.free.push(index);
            index = entry.next;
            let list = &mut self.lists[entry.mode as usize];
            list.spans.swap_remove(entry.at as usize);
            list.entries.swap_remove(entry.at as usize);
            if let Some(&moved) = list.entries.get(entry.at as usize) {
                self.entries[moved as usize].at = entry.at;
            }
            for other in entry.mode.conflicts() {
                let list = self.list(*other);
                for (at, other) in list.spans.iter().enumerate() {
                    if !other.meets(entry.span) {
                        continue;
                    }
                    let other = self.entries[list.entries[at] as usize];
                    if other.sequence > entry.sequence && other.task != task {
                        unblock(other.task);
                    }
                }
            }
        }
    }

    const fn list(&self, mode: Mode) -> &List {
        &self.lists[mode as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn later_writes_wait_and_are_let_go_in_order() {
        let mut ranges = Ranges::new(4);
        assert_eq!(ranges.insert(0, Mode::Write, 0..4096), 0);
        assert_eq!(ranges.insert(1, Mode::Write, 2048..6144), 1);
        assert_eq!(ranges.insert(2, Mode::Write, 4096..8192), 1);
        assert_eq!(ranges.insert(3, Mode::Write, 8192..12288), 0);
        let mut free = Vec::new();
        ranges.remove(0, |task| free.push(task));
        assert_eq!(free, [1]);
        ranges.remove(1, |task| free.push(task));
        assert_eq!(free, [1, 2]);
    }

    #[test]
    fn reads_pass_writes_but_not_exclusive_ones() {
        let mut ranges = Ranges::new(4);
        assert_eq!(ranges.insert(0, Mode::Write, 0..512), 0);
        assert_eq!(ranges.insert(1, Mode::Shared, 0..512), 0);
        assert_eq!(ranges.insert(2, Mode::Exclusive, 0..512), 2);
        assert!(ranges.blocks(Mode::Shared, &(511..600)) && !ranges.blocks(Mode::Shared, &(512..600)));
        assert_eq!(ranges.insert(3, Mode::Shared, 0..512), 1);
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
        assert_eq!(ranges.insert(0, Mode::Write, 0..4096), 0);
        assert_eq!(ranges.insert(0, Mode::Write, 0..4096), 0);
        assert_eq!(ranges.insert(1, Mode::Write, 0..512), 2);
        let mut freed = 0;
        ranges.remove(0, |_| freed += 1);
        assert_eq!((freed, ranges.len()), (2, 1));
    }

    /// One list of all, in the order in which they came.
    #[derive(Default)]
    struct Model(Vec<(u16, Mode, Range<u64>)>);

    impl Model {
        fn collide(one: &(u16, Mode, Range<u64>), other: &(u16, Mode, Range<u64>)) -> bool {
            let overlap = one.2.start < other.2.end && other.2.start < one.2.end;
            let reads =
                [one.1, other.1].contains(&Mode::Shared) && ![one.1, other.1].contains(&Mode::Exclusive);
            overlap && !reads && one.0 != other.0
        }

        fn insert(&mut self, new: (u16, Mode, Range<u64>)) -> usize {
            let blockers = self.0.iter().filter(|old| Self::collide(old, &new)).count();
            self.0.push(new);
            blockers
        }

        fn remove(&mut self, task: u16) -> Vec<u16> {
            let mut free = Vec::new();
            for (at, old) in self.0.iter().enumerate().filter(|(_, old)| old.0 == task) {
                free.extend(
                    self.0[at..].iter().filter(|later| Self::collide(old, later)).map(|later| later.0),
                );
            }
            self.0.retain(|old| old.0 != task);
            free.sort_unstable();
            free
        }
    }

    proptest! {
        #[test]
        fn it_does_what_one_list_does(
            steps in prop::collection::vec((0_u16..6, 0_usize..4, 0_u64..40, 0_u64..12), 1..200),
        ) {
            let (mut ranges, mut model) = (Ranges::new(3), Model::default());
            for (task, what, start, len) in steps {
                if let Some(&mode) = Mode::ALL.get(what) {
                    let blockers = model.insert((task, mode, start..start + len));
                    prop_assert_eq!(ranges.insert(task, mode, start..start + len) as usize, blockers);
                } else {
                    let mut free = Vec::new();
                    ranges.remove(task, |task| free.push(task));
                    free.sort_unstable();
                    prop_assert_eq!(free, model.remove(task));
                }
                prop_assert_eq!((ranges.len(), ranges.is_empty()), (model.0.len(), model.0.is_empty()));
            }
        }
    }
}
