//! The pages against a map, and the order of eviction step by step.

use super::*;
use crate::{DirtyMap, Streams, Throttle};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const fn at(page: u64) -> Key {
    Key { volume: 1, page }
}

const fn all(_: &Key, _: &u32) -> bool {
    true
}

/// Puts a page in, after evicting one if that is needed; returns the page that went.
fn put(pages: &mut Pages<u32>, page: u64) -> Option<u64> {
    let gone = (pages.len() == pages.capacity()).then(|| pages.evict(all).unwrap().key.page);
    pages.insert(at(page), 0).unwrap();
    gone
}

#[test]
fn a_page_is_found_until_it_is_removed() {
    let mut pages = Pages::new(2);
    let a = pages.insert(at(1), 10).unwrap();
    let b = pages.insert(Key { volume: 2, page: 1 }, 20).unwrap();
    assert_eq!((pages.get(at(1)), pages[a], pages.key(b).volume), (Some(a), 10, 2));
    assert_eq!(pages.insert(at(2), 30), Err(30), "full");
    assert_eq!(pages.remove(a), Some(10));
    assert_eq!((pages.remove(a), pages.peek(a), pages.get(at(1))), (None, None, None));
    assert_eq!(pages.insert(Key { volume: 2, page: 1 }, 40), Err(40), "there already");
    pages[b] += 1;
    assert_eq!((pages.peek(b), pages.len(), pages.capacity()), (Some(&21), 1, 2));
}

#[test]
fn a_page_that_no_volume_has_is_refused() {
    let mut pages = Pages::new(2);
    assert_eq!(pages.insert(at(crate::MOST_PAGES), 1), Err(1));
    assert_eq!(pages.get(at(u64::MAX)), None);
    let last = pages.insert(Key { volume: u16::MAX, page: crate::MOST_PAGES - 1 }, 1).unwrap();
    assert_eq!(pages.get(pages.key(last)), Some(last));
    assert_eq!(pages.get(Key { volume: 0, page: 0 }), None);
}

#[test]
fn a_cache_of_nothing_holds_nothing() {
    let mut pages = Pages::new(0);
    assert_eq!(pages.insert(at(1), 1), Err(1));
    assert_eq!((pages.get(at(1)), pages.evict(all)), (None, None));
}

#[test]
fn a_scan_passes_and_what_is_used_stays() {
    let mut pages = Pages::new(100);
    (0..100).for_each(|page| assert_eq!(put(&mut pages, page), None));
    for page in 0..50 {
        let slot = pages.get(at(page)).unwrap();
        pages.hit(slot);
        pages.hit(slot);
    }
    (1000..3000).for_each(|page| assert!(put(&mut pages, page).is_some()));
    let kept = (0..50).filter(|&page| pages.get(at(page)).is_some()).count();
    assert_eq!(kept, 50);
}

#[test]
fn who_comes_back_as_a_ghost_goes_to_main() {
    let mut pages = Pages::new(100);
    (0..150).for_each(|page| _ = put(&mut pages, page));
    assert_eq!(pages.get(at(10)), None);
    put(&mut pages, 10);
    (1000..2000).for_each(|page| _ = put(&mut pages, page));
    assert!(pages.get(at(10)).is_some());
}

#[test]
fn cold_pages_go_first_and_leave_no_ghost() {
    let mut pages = Pages::new(100);
    (0..99).for_each(|page| _ = put(&mut pages, page));
    pages.insert_cold(at(500), 0).unwrap();
    assert_eq!(put(&mut pages, 200), Some(500));
    assert_eq!(put(&mut pages, 500), Some(0), "comes as if it had never been there");
    (1000..1200).for_each(|page| _ = put(&mut pages, page));
    assert_eq!(pages.get(at(500)), None);
}

#[test]
fn a_cold_page_that_is_used_is_like_any_other() {
    let mut pages = Pages::new(10);
    let cold = pages.insert_cold(at(500), 0).unwrap();
    assert!(!pages.hit(cold));
    (0..9).for_each(|page| _ = put(&mut pages, page));
    assert_eq!(put(&mut pages, 200), Some(500), "the oldest of the small queue");
    assert_eq!(put(&mut pages, 201), Some(0));
}

#[test]
fn pages_read_ahead_stay_while_they_are_few() {
    let mut pages = Pages::new(80);
    (0..70).for_each(|page| _ = put(&mut pages, page));
    (500..510).for_each(|page| _ = pages.insert_ahead(at(page), 0).unwrap());
    let first = pages.get(at(500)).unwrap();
    assert!(pages.hit(first) && !pages.hit(first));
    assert_eq!(pages.ahead(), 9, "an eighth of 80 is 10");
    assert_eq!(put(&mut pages, 100), Some(0));
    (510..513).for_each(|page| {
        pages.evict(all).unwrap();
        pages.insert_ahead(at(page), 0).unwrap();
    });
    let gone = pages.evict(all).unwrap();
    assert_eq!((gone.key.page, gone.unused), (502, true), "501 was the eleventh before");
    assert!(pages.get(first_key()).is_some());
}

const fn first_key() -> Key {
    at(500)
}

#[test]
fn who_may_not_go_is_parked_and_takes_its_turn_later() {
    let mut pages = Pages::new(1000);
    (0..1000).for_each(|page| _ = pages.insert(at(page), u32::from(page != 999)).unwrap());
    let clean = |_: &Key, &dirty: &u32| dirty == 0;
    // The only clean page is the last that it comes to; each call is bounded, and none is wasted.
    let gone = (0..4).find_map(|_| pages.evict(clean)).unwrap();
    assert_eq!(gone.key.page, 999);
    assert_eq!((pages.parked(), pages.evict(clean)), (999, None));
    let slot = pages.get(at(777)).unwrap();
    pages[slot] = 0;
    pages.release(slot);
    assert_eq!(pages.evict(clean).map(|gone| gone.key.page), Some(777));
    // Without being told it finds them too.
    for page in 0..500 {
        let slot = pages.get(at(page)).unwrap();
        pages[slot] = 0;
    }
    let gone = (0..520).filter_map(|_| pages.evict(clean)).count();
    assert_eq!(gone, 500);
}

#[test]
fn reads_are_cached_while_nearly_all_is_dirty() {
    let mut pages = Pages::new(1000);
    (0..900).for_each(|page| _ = pages.insert(at(page), 1).unwrap());
    let mut hits = 0;
    for round in 0..4000_u64 {
        // Fifty pages are read again and again, and others once.
        for page in [10_000 + round % 50, 20_000 + round] {
            if let Some(slot) = pages.get(at(page)) {
                pages.hit(slot);
                hits += 1;
                continue;
            }
            while pages.insert(at(page), 0).is_err() {
                pages.evict(|_, &dirty| dirty == 0);
            }
        }
    }
    assert!(hits > 3800, "{hits}");
}

#[test]
fn no_eviction_takes_long() {
    let mut pages = Pages::new(100_000);
    for page in 0..100_000 {
        let slot = pages.insert(at(page), 0).unwrap();
        (0..3).for_each(|_| _ = pages.hit(slot));
    }
    let mut asked = 0_u32;
    for _ in 0..1000 {
        let before = asked;
        let gone = pages.evict(|_, _| {
            asked += 1;
            true
        });
        assert!(gone.is_some() && asked - before <= STEPS);
    }
}

#[test]
fn a_volume_is_found_piece_by_piece() {
    let mut pages = Pages::new(100);
    (0..30).for_each(|page| _ = pages.insert(Key { volume: u16::from(page % 3 == 0), page }, 0).unwrap());
    assert_eq!(pages.slots_of(1).count(), 10);
    let (mut from, mut removed, mut more) = (0, 0, 0);
    loop {
        match pages.scan(1, from, 2) {
            Scan::Found(slot) => {
                pages.remove(slot).unwrap();
                from = u32::try_from(slot.index()).unwrap() + 1;
                removed += 1;
            }
            Scan::More(next) => {
                from = next;
                more += 1;
            }
            Scan::End => break,
        }
    }
    assert_eq!((removed, pages.slots_of(1).count(), pages.len()), (10, 0, 20));
    assert!(more > 30);
}

#[test]
fn nothing_is_allocated_after_the_start() {
    let mut pages = Pages::new(1000);
    let mut dirty = DirtyMap::new(1000, 4);
    let mut streams = Streams::new(256);
    let mut throttle = Throttle::new(100, 200);
    let counted = allocation_counter::measure(|| {
        for n in 0..20_000_u64 {
            let page = mix(n) % 3000;
            if let Some(slot) = pages.get(at(page)) {
                pages.hit(slot);
            } else {
                if pages.len() == pages.capacity() {
                    pages.evict(|key, _| !dirty.contains(1, key.page) || key.page % 7 == 0);
                }
                _ = pages.insert(at(page), 0);
            }
            if dirty.room() > 0 && throttle.admit(1, dirty.total()) {
                assert!(dirty.mark(1, page << 9));
            } else if let Some(run) = dirty.next_run(1, 16) {
                dirty.clear_run(1, run);
                throttle.credit(1);
            }
            _ = streams.on_read(n..n + 1, false);
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u64, u8),
    Hit(u16, u64),
    Remove(u16, u64),
    Evict,
    Turn(u16, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0..2_u16, 0..120_u64);
    prop_oneof![
        4 => (key(), 0..3_u8).prop_map(|((volume, page), how)| Step::Insert(volume, page, how)),
        4 => key().prop_map(|(volume, page)| Step::Hit(volume, page)),
        1 => key().prop_map(|(volume, page)| Step::Remove(volume, page)),
        2 => Just(Step::Evict),
        2 => key().prop_map(|(volume, page)| Step::Turn(volume, page)),
    ]
}

impl<T> Pages<T> {
    /// Every slot is on one list, where its neighbours say it is, or free.
    fn check(&self) {
        let mut seen = HashSet::new();
        for (list, queue) in
            self.lists.iter().zip([Queue::Cold, Queue::Ahead, Queue::Small, Queue::Main, Queue::Parked])
        {
            let (mut slot, mut newer) = (list.newest, NONE);
            let mut len = 0;
            while let Some(node) = self.nodes.get(slot as usize) {
                assert!(seen.insert(slot) && node.newer == newer && node.payload.is_some());
                assert_eq!(node.parked, queue == Queue::Parked);
                assert!(node.parked || node.queue == queue);
                (newer, slot, len) = (slot, node.older, len + 1);
            }
            assert_eq!((list.oldest, list.len), (newer, len));
        }
        assert_eq!(seen.len(), self.len as usize);
        let mut free = self.free;
        while let Some(node) = self.nodes.get(free as usize) {
            assert!(seen.insert(free) && node.payload.is_none());
            free = node.older;
        }
        assert_eq!(seen.len(), self.nodes.len());
    }
}

proptest! {
    /// With any steps it holds what a map holds, never evicts what may not go, and finds something if anything may.
    #[test]
    fn it_is_a_map(capacity in 1..60_u32, steps in prop::collection::vec(step(), 1..300)) {
        let mut pages = Pages::new(capacity);
        let mut model: HashMap<Key, (u32, bool)> = HashMap::new();
        for (step, id) in steps.into_iter().zip(0..) {
            match step {
                Step::Insert(volume, page, how) => {
                    let key = Key { volume, page };
                    let fits = !model.contains_key(&key) && model.len() < capacity as usize;
                    let payload = (id, false);
                    let slot = match how {
                        0 => pages.insert(key, payload),
                        1 => pages.insert_cold(key, payload),
                        _ => pages.insert_ahead(key, payload),
                    };
                    prop_assert_eq!(slot.is_ok(), fits);
                    if fits {
                        model.insert(key, payload);
                    }
                }
                Step::Hit(volume, page) => {
                    let key = Key { volume, page };
                    if let Some(slot) = pages.get(key) {
                        pages.hit(slot);
                        prop_assert_eq!(Some(&pages[slot]), model.get(&key));
                    } else {
                        prop_assert!(!model.contains_key(&key));
                    }
                }
                Step::Remove(volume, page) => {
                    let key = Key { volume, page };
                    let gone = pages.get(key).and_then(|slot| pages.remove(slot));
                    prop_assert_eq!(gone, model.remove(&key));
                }
                Step::Evict => match pages.evict(|_, &(_, pinned)| !pinned) {
                    Some(gone) => {
                        prop_assert!(!gone.payload.1);
                        prop_assert_eq!(model.remove(&gone.key), Some(gone.payload));
                    }
                    None => {
                        let parked = usize::try_from(pages.parked()).unwrap();
                        prop_assert!(model.values().filter(|kept| !kept.1).count() <= parked);
                    }
                },
                Step::Turn(volume, page) => {
                    let key = Key { volume, page };
                    if let (Some(slot), Some(kept)) = (pages.get(key), model.get_mut(&key)) {
                        kept.1 = !kept.1;
                        pages[slot].1 = kept.1;
                        if !kept.1 && page % 2 == 0 {
                            pages.release(slot);
                        }
                    }
                }
            }
            pages.check();
            prop_assert_eq!(pages.len() as usize, model.len());
        }
        for (&key, kept) in &model {
            let slot = pages.get(key).unwrap();
            prop_assert_eq!((&pages[slot], pages.key(slot)), (kept, key));
        }
    }
}
