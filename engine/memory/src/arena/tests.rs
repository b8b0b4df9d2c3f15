use super::*;
use crate::plan::MAX_SHARDS;
use std::collections::HashSet;

fn arena(shards: u16, pages: u32, reserve: u32) -> Arena {
    let plan = ArenaPlan::new(shards).with(Class::Page, pages, reserve).with(Class::Small, 5, 1).with(
        Class::Large,
        3,
        0,
    );
    Arena::new(plan, HugePages::Off).unwrap()
}

fn all(pool: &Pool, class: Class, purpose: Purpose) -> Vec<PageMut> {
    std::iter::from_fn(|| pool.take(class, purpose)).collect()
}

#[test]
fn every_class_has_its_pages_aligned_apart_and_inside() {
    let arena = arena(2, 9, 0);
    let region = arena.regions().next().unwrap();
    let mut held: Vec<PageMut> =
        Class::ALL.iter().flat_map(|&class| all(&arena.pool(1), class, Purpose::Internal)).collect();
    assert_eq!(held.len(), 9 + 5 + 3);
    let mut ends: Vec<(usize, usize)> = Vec::new();
    for (fill, page) in (0u8..).zip(&mut held) {
        let start = page.as_ptr().addr();
        assert_eq!((start % page.len(), page.len()), (0, page.class().bytes()));
        assert_eq!(**page, vec![0; page.len()], "the kernel gives zeroes, and nobody else was here");
        page.fill(fill);
        ends.push((start, start + page.len()));
        assert!(start >= region.pointer.addr() && start + page.len() <= region.pointer.addr() + region.len);
        assert_eq!(page.region(), 0);
    }
    ends.sort_unstable();
    assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    for (fill, page) in (0u8..).zip(&held) {
        assert!(**page == vec![fill; page.len()]);
    }
    assert_eq!(arena.regions().len(), 1);
    assert_eq!(arena.regions().map(|region| region.len).sum::<usize>(), arena.bytes());
}

#[test]
fn hosts_stop_at_the_reserve_and_internal_work_does_not() {
    for shards in [1, 2, 3, 7] {
        let arena = arena(shards, 20, 6);
        let pool = arena.pool(0);
        let hosts = all(&pool, Class::Page, Purpose::Host);
        assert_eq!((hosts.len(), arena.free(Class::Page), arena.free_for_hosts(Class::Page)), (14, 6, 0));
        let internal = all(&arena.pool(5), Class::Page, Purpose::Internal);
        assert_eq!((internal.len(), arena.free(Class::Page), arena.low_water(Class::Page)), (6, 0, 0));
        drop(hosts);
        assert_eq!(arena.free(Class::Page), 14);
        let again = all(&pool, Class::Page, Purpose::Host);
        assert!(again.len() >= 14 - 6, "what internal work holds counts as reserve");
        drop(again);
        drop(internal);
        assert_eq!((arena.free(Class::Page), arena.free_for_hosts(Class::Page)), (20, 14));
    }
}

#[test]
fn pages_go_back_to_the_shard_they_came_from() {
    let arena = arena(4, 16, 0);
    let near: HashSet<u32> = (0..4)
        .map_while(|_| arena.pool(2).take(Class::Page, Purpose::Host))
        .map(|page| page.index())
        .collect();
    // Each was dropped at once and was the next to be taken.
    assert_eq!(near.len(), 1);
    let held: Vec<PageMut> = (0..4).filter_map(|_| arena.pool(2).take(Class::Page, Purpose::Host)).collect();
    let own: HashSet<u32> = held.iter().map(PageMut::index).collect();
    assert_eq!(own, HashSet::from([8, 9, 10, 11]));
    let far = arena.pool(2).take(Class::Page, Purpose::Host).unwrap();
    assert!(!own.contains(&far.index()));
    std::thread::spawn(move || drop((held, far))).join().unwrap();
    let again: HashSet<u32> = (0..4)
        .filter_map(|_| arena.pool(2).take(Class::Page, Purpose::Host).map(std::mem::ManuallyDrop::new))
        .map(|page| page.index())
        .collect();
    assert_eq!(again, own);
}

#[test]
fn neighbours_are_taken_together_and_all_are_counted() {
    let arena = arena(2, 64, 4);
    let pool = arena.pool(0);
    let mut held = Vec::new();
    assert_eq!(pool.take_many(Class::Page, Purpose::Host, 8, |page| held.push(page)), 8);
    assert!(held.windows(2).all(|pair| pair[0].index() + 1 == pair[1].index()));
    assert_eq!(pool.take_many(Class::Page, Purpose::Host, 1000, |page| held.push(page)), 52);
    assert_eq!((held.len(), arena.free(Class::Page)), (60, 4));
    assert_eq!(pool.take_many(Class::Page, Purpose::Host, 1, |_| panic!("none is free")), 0);
    assert_eq!(pool.take_many(Class::Page, Purpose::Internal, 9, |page| held.push(page)), 4);
    let distinct: HashSet<u32> = held.iter().map(PageMut::index).collect();
    assert_eq!(distinct.len(), 64);
    drop(held);
    assert_eq!(arena.free(Class::Page), 64);
}

#[test]
fn pages_returned_together_reach_their_own_lists() {
    let arena = arena(3, 300, 0);
    let held: Vec<PageMut> =
        Class::ALL.iter().flat_map(|&class| all(&arena.pool(1), class, Purpose::Internal)).collect();
    assert_eq!(held.len(), 308);
    let mut returns = Returns::new();
    // In turn from both ends: the free list changes often, and once more than a batch is of one.
    let mut held = std::collections::VecDeque::from(held);
    while let Some(page) = if held.len() % 3 == 0 { held.pop_front() } else { held.pop_back() } {
        returns.add(page.into_place());
    }
    drop(returns);
    for class in Class::ALL {
        assert_eq!(arena.free(class), arena.total(class));
        let distinct: HashSet<u32> =
            all(&arena.pool(0), class, Purpose::Host).iter().map(PageMut::index).collect();
        assert_eq!(distinct.len(), (arena.total(class) - arena.reserve(class)) as usize);
    }
}

#[test]
fn pages_travel_between_threads() {
    let arena = arena(3, 24, 2);
    let rounds = if cfg!(miri) { 30u32 } else { 20_000 };
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::sync_channel::<crate::Page>(4);
        for core in 0..2u16 {
            let send = send.clone();
            scope.spawn(move || {
                let pool = arena.pool(core);
                for round in 0..rounds {
                    let Some(mut page) = pool.take(Class::Page, Purpose::Host) else {
                        std::thread::yield_now();
                        continue;
                    };
                    page[..4].copy_from_slice(&round.to_le_bytes());
                    page[4092..].copy_from_slice(&round.to_le_bytes());
                    let page = page.freeze();
                    send.send(page.clone()).unwrap();
                    assert_eq!(page[..4], round.to_le_bytes());
                }
            });
        }
        drop(send);
        for page in receive {
            assert_eq!(page[..4], page[4092..]);
        }
    });
    assert_eq!(arena.free(Class::Page), 24);
}

#[test]
fn plans_that_cannot_be_are_refused() {
    let new = |plan| Arena::new(plan, HugePages::Off);
    assert!(matches!(new(ArenaPlan::new(1)), Err(MemoryError::EmptyPlan)));
    let page = |shards, count, reserve| ArenaPlan::new(shards).with(Class::Page, count, reserve);
    assert!(matches!(new(page(0, 1, 0)), Err(MemoryError::Shards { shards: 0, .. })));
    assert!(matches!(new(page(MAX_SHARDS + 1, 1, 0)), Err(MemoryError::Shards { .. })));
    assert!(matches!(new(page(1, 4, 5)), Err(MemoryError::Reserve { reserve: 5, count: 4, .. })));
    assert!(matches!(new(page(1, u32::MAX, 0)), Err(MemoryError::TooMany { .. })));
    assert!(format!("{}", new(page(1, 4, 5)).unwrap_err()).contains("reserve of 5"));
}

#[test]
fn a_class_without_pages_has_none() {
    let arena = Arena::new(ArenaPlan::new(4).with(Class::Small, 1, 0), HugePages::Off).unwrap();
    for shard in 0..4 {
        assert!(arena.pool(shard).take(Class::Page, Purpose::Internal).is_none());
        assert!(arena.pool(shard).take(Class::Small, Purpose::Host).is_some());
    }
    assert_eq!((arena.total(Class::Large), arena.shards(), arena.pool(6).shard()), (0, 4, 2));
    assert!(format!("{arena:?} {:?}", arena.pool(0)).contains("1/1"));
}

/// One of more than a gigabyte would only slow the tests: what is asked of the plan's arithmetic.
#[test]
fn pages_are_dealt_to_shards_in_ranges() {
    if cfg!(miri) {
        return; // Only arithmetic, and much of it.
    }
    for (count, shards) in [(0, 1), (1, 4), (512, 1), (1000, 3), (5000, 4), (1536, 3), (7, 7)] {
        let split = Split::new(Class::Page, count, shards);
        let mut seen = Vec::new();
        let mut sizes = Vec::new();
        for shard in 0..shards {
            let pages: Vec<u32> = split.pages(shard).collect();
            assert!(
                pages.is_sorted() && pages.iter().rev().eq(&split.pages(shard).rev().collect::<Vec<_>>())
            );
            sizes.push(u32::try_from(pages.len()).unwrap());
            seen.extend(pages);
        }
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..count));
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 512);
        for reserve in [0, 1, count / 3, count.saturating_sub(1), count] {
            let reserve = reserve.min(count);
            let parts = split.reserves(reserve, &sizes);
            assert_eq!(parts.iter().sum::<u32>(), reserve);
            assert!(parts.iter().zip(&sizes).all(|(part, size)| part <= size));
        }
    }
}
