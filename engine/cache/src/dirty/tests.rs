//! The map against an ordered set, and what the elevator promises.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn taken(map: &mut DirtyMap, volume: u16, most: u32) -> Vec<Range<u64>> {
    std::iter::from_fn(|| map.next_run(volume, most)).collect()
}

#[test]
fn runs_come_in_order_and_merged() {
    let mut map = DirtyMap::new(1000, 2);
    for page in [70, 3, 1, 2, 64, 63, 1_000_000, 65] {
        assert!(map.mark(0, page));
    }
    assert!(map.mark(1, 4));
    assert_eq!(taken(&mut map, 0, 100), [1..4, 63..66, 70..71, 1_000_000..1_000_001]);
    assert_eq!((map.len(0), map.len(1), map.total()), (8, 1, 9), "taken is still dirty");
    assert_eq!(map.runs_in(0, 2..65).collect::<Vec<_>>(), [2..4, 63..65]);
    map.clear_run(0, 0..100);
    assert_eq!((map.len(0), map.total()), (1, 2));
    assert!(map.contains(0, 1_000_000) && !map.contains(0, 3));
}

#[test]
fn a_run_is_no_longer_than_asked() {
    let mut map = DirtyMap::new(1000, 1);
    assert!(map.mark_run(0, 10..310));
    assert_eq!(taken(&mut map, 0, 128), [10..138, 138..266, 266..310]);
}

#[test]
fn a_page_that_is_written_again_waits_for_the_next_sweep() {
    let mut map = DirtyMap::new(1000, 1);
    for page in [10, 20, 30] {
        assert!(map.mark(0, page));
    }
    assert_eq!(map.next_run(0, 8), Some(10..11));
    // Before the sweep and behind it.
    assert!(map.mark(0, 10) && map.mark(0, 25));
    assert_eq!(map.next_run(0, 8), Some(20..21));
    assert_eq!(map.next_run(0, 8), Some(30..31));
    assert_eq!(map.next_run(0, 8), Some(10..11), "again: it was overwritten after it was taken");
    assert_eq!(map.next_run(0, 8), Some(25..26));
    assert_eq!(map.next_run(0, 8), None);
}

#[test]
fn what_failed_comes_again_unless_it_was_cleared() {
    let mut map = DirtyMap::new(1000, 1);
    assert!(map.mark_run(0, 0..200));
    assert_eq!(map.next_run(0, 200), Some(0..200));
    map.clear_run(0, 50..60);
    map.retry(0, 0..200);
    assert_eq!(taken(&mut map, 0, 200), [0..50, 60..200]);
}

#[test]
fn what_is_claimed_is_not_taken_by_the_sweep() {
    let mut map = DirtyMap::new(1000, 1);
    assert!(map.mark_run(0, 0..200));
    map.claim(0, 50..150);
    assert_eq!(taken(&mut map, 0, 200), [0..50, 150..200]);
    assert_eq!(map.len(0), 200);
}

#[test]
fn the_bounds_hold() {
    let mut map = DirtyMap::new(100, 1);
    assert!(!map.mark(1, 0), "no such volume");
    assert!(!map.mark(0, MOST_PAGES));
    assert!(!map.mark(0, u64::MAX));
    assert!(map.mark(0, MOST_PAGES - 1));
    assert!(map.mark_run(0, 0..99));
    assert!(!map.mark(0, 100));
    assert!(map.mark_run(0, 0..99), "nothing new");
    assert!(!map.mark_run(0, 1..100));
    assert_eq!((map.total(), map.room()), (100, 0));
    assert_eq!(map.next_run(7, 1), None);
    assert_eq!(map.runs_in(0, 50..u64::MAX).collect::<Vec<_>>(), [50..99, MOST_PAGES - 1..MOST_PAGES]);
    map.clear_run(0, 0..MOST_PAGES >> 20);
    map.clear(0, MOST_PAGES - 1);
    assert_eq!(map.total(), 0);
    assert_eq!(map.nodes.room(), 100 + 50 + SPARE_NODES, "no node is left");
}

#[test]
fn pages_far_from_each_other_are_refused_before_memory_ends() {
    let mut map = DirtyMap::new(4096, 1);
    let mut marked: u32 = 0;
    for page in 0.. {
        if map.room() == 0 {
            break;
        }
        assert!(map.mark(0, page << 20), "there was room");
        marked += 1;
    }
    assert!(marked > 2000, "{marked}");
    // Overwriting what waits needs no memory and is never refused.
    assert!((0..marked).all(|page| map.mark(0, u64::from(page) << 20)));
    assert_eq!(taken(&mut map, 0, 9).len(), marked as usize);
}

#[test]
fn an_empty_map_takes_the_longest_run_page_by_page() {
    for (capacity, start) in [(64, 0), (768, 63), (1024, 1), (1024, MOST_PAGES - 1024), (40_000, 1 << 30)] {
        let mut map = DirtyMap::new(capacity, 2);
        let run = start..start + u64::from(capacity);
        assert!(map.has_room_for(&run, capacity), "{capacity} {start}");
        assert!(!map.has_room_for(&(start..run.end + 1), capacity + 1));
        assert!(run.clone().all(|page| map.mark(1, page)), "{capacity} {start}");
        assert!(!map.has_room_for(&run, 1));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Mark(u64, u64),
    Clear(u64, u64),
    Take(u32),
    Retry(u64, u64),
    Claim(u64, u64),
    RunsIn(u64, u64),
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, 4000..4200_u64, (0..40_u64).prop_map(|n| n * 262_144), Just(MOST_PAGES - 70)]
}

fn step() -> impl Strategy<Value = Step> {
    let run = || (address(), 0..70_u64);
    prop_oneof![
        4 => run().prop_map(|(at, len)| Step::Mark(at, len)),
        2 => run().prop_map(|(at, len)| Step::Clear(at, len)),
        3 => (1..100_u32).prop_map(Step::Take),
        1 => run().prop_map(|(at, len)| Step::Retry(at, len)),
        1 => run().prop_map(|(at, len)| Step::Claim(at, len)),
        1 => run().prop_map(|(at, len)| Step::RunsIn(at, len)),
    ]
}

/// The same with ordered sets.
#[derive(Default)]
struct Model {
    dirty: BTreeSet<u64>,
    now: BTreeSet<u64>,
    later: BTreeSet<u64>,
}

impl Model {
    fn take(&mut self, most: u32) -> Option<Range<u64>> {
        if self.now.is_empty() {
            std::mem::swap(&mut self.now, &mut self.later);
        }
        let start = *self.now.first()?;
        let mut end = start;
        while end < start + u64::from(most) && (self.now.remove(&end) | self.later.remove(&end)) {
            end += 1;
        }
        Some(start..end)
    }

    fn runs_in(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for &page in self.dirty.range(range) {
            match runs.last_mut() {
                Some(run) if run.end == page => run.end += 1,
                _ => runs.push(page..page + 1),
            }
        }
        runs
    }
}

proptest! {
    #[test]
    fn it_is_an_ordered_set_with_two_generations(steps in prop::collection::vec(step(), 1..200)) {
        let mut map = DirtyMap::new(600, 3);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Mark(at, len) => {
                    let fresh = (at..at + len).filter(|page| !model.dirty.contains(page)).count();
                    let fits = model.dirty.len() + fresh <= 600;
                    prop_assert_eq!(map.mark_run(2, at..at + len), fits);
                    for page in (at..at + len).filter(|_| fits) {
                        model.dirty.insert(page);
                        if !model.now.contains(&page) {
                            model.later.insert(page);
                        }
                    }
                }
                Step::Clear(at, len) => {
                    map.clear_run(2, at..at + len);
                    for page in at..at + len {
                        model.dirty.remove(&page);
                        model.now.remove(&page);
                        model.later.remove(&page);
                    }
                }
                Step::Take(most) => prop_assert_eq!(map.next_run(2, most), model.take(most)),
                Step::Retry(at, len) => {
                    map.retry(2, at..at + len);
                    for page in at..at + len {
                        if model.dirty.contains(&page) && !model.now.contains(&page) {
                            model.later.insert(page);
                        }
                    }
                }
                Step::Claim(at, len) => {
                    map.claim(2, at..at + len);
                    for page in at..at + len {
                        model.now.remove(&page);
                        model.later.remove(&page);
                    }
                }
                Step::RunsIn(at, len) => {
                    let range = at..at + len * 100;
                    prop_assert_eq!(map.runs_in(2, range.clone()).collect::<Vec<_>>(), model.runs_in(range));
                }
            }
            prop_assert_eq!(map.len(2) as usize, model.dirty.len());
        }
        map.clear_run(2, 0..300_000 * 64);
        map.clear_run(2, MOST_PAGES - 70..MOST_PAGES);
        prop_assert_eq!(map.total(), 0);
        prop_assert_eq!(map.nodes.room(), 900 + SPARE_NODES);
    }
}
