//! Several volumes in one cache, and volumes without one.

use super::support::{Bench, bytes, read, write};
use crate::store::{Cache, CachePlan, Store, StoreContext};
use kagami_memory::Scatter;
use kagami_types::{BlockCount, BlockSize, Time};
use kagami_volume::{Geometry, Storage, Tag, Volume, VolumePlan, zero_page};
use std::time::Duration;

const BYTES: u64 = 4 << 20;

/// Lets the second volume use the first one's cache for the length of a call.
fn both<R>(first: &mut Bench, second: &mut Bench, call: impl FnOnce(&mut Bench) -> R) -> R {
    std::mem::swap(&mut first.cache, &mut second.cache);
    let result = call(second);
    std::mem::swap(&mut first.cache, &mut second.cache);
    result
}

#[test]
fn a_hung_volume_leaves_the_others_their_part() {
    let plan = |number, pages| {
        move |plan: &mut crate::store::StorePlan, core: &mut CachePlan| {
            (plan.number, plan.pages, plan.dirty, plan.ahead) = (number, pages, 40, 0);
            (core.pages, core.volumes) = (64, 2);
        }
    };
    let mut first = Bench::new(BYTES, plan(0, 64));
    let mut second = Bench::new(BYTES, plan(1, 64));
    first.cache.enter(1).unwrap();
    // As much as may be dirty, on a device that does nothing.
    for tag in 0..30 {
        _ = first.write(tag, tag * 64, &bytes(tag, 8192));
    }
    let dirty = u32::try_from(first.counters().dirty).unwrap();
    assert!(dirty > 20, "{dirty}");
    for at in 0..100 {
        both(&mut first, &mut second, |second| assert_eq!(second.fetch(at * 16, 8), vec![0; 4096]));
    }
    assert_eq!(first.cache.dirty(), (dirty, 48));
    both(&mut first, &mut second, |second| {
        for at in 0..20 {
            assert!(
                second
                    .submit(at, write(at * 8, 8), second.data(&bytes(9, 4096)))
                    .is_none_or(|outcome| outcome.result.is_ok())
            );
        }
        // What did not fit waits for its own device, which works.
        for _ in 0..200 {
            if second.waiting() > 0 {
                second.happen(0)
            } else {
                second.pass_to_alarm(Duration::from_millis(2))
            }
        }
        second.done.clear();
        assert_eq!(second.fetch(0, 8), bytes(9, 4096));
        second.drain();
    });
    first.settle();
    first.done.clear();
    first.cache.leave(1);
    first.drain();
    assert_eq!(first.cache.pages().0, first.cache.used_by(0));
}

#[test]
fn a_volume_without_a_cache_is_passed_through() {
    let mut bench = Bench::new(BYTES, |_, _| {});
    let volume = Volume::new(VolumePlan {
        geometry: Geometry { block_size: BlockSize::B512, blocks: BlockCount(64) },
        storage: Storage::Ram,
        token_base: 2,
        slots: 4,
        pages: 16,
        timeout: Duration::from_secs(1),
        write_back: true,
        read_only: false,
        zeroes: zero_page(&bench.pool).unwrap(),
    });
    let mut store = Store::direct(volume.unwrap());
    let mut cache = Cache::new(&CachePlan { pages: 64, volumes: 0, margin: 0, seed: 1 }).unwrap();
    let data = bench.data(&bytes(1, 4096));
    let mut cx =
        StoreContext { io: &mut bench.clock, pool: &bench.pool, done: &mut bench.done, cache: &mut cache };
    assert_eq!(store.submit(&mut cx, Tag(1), write(8, 8), data).unwrap().result, Ok(()));
    let outcome = store.submit(&mut cx, Tag(2), read(8, 8), Scatter::new()).unwrap();
    assert_eq!(outcome.data.to_vec(), bytes(1, 4096));
    assert_eq!((store.next_deadline(), store.in_flight(), store.is_idle()), (Time::NEVER, 0, true));
    assert_eq!((store.cache_counters(&cache), store.pages(&cache)), (None, (1, 16)));
    assert_eq!(store.leave(&mut cache), 0);
    drop(outcome);
    bench.assert_clean();
}

#[test]
fn an_idle_store_wants_no_tick() {
    let mut bench = Bench::new(BYTES, |_, _| {});
    assert_eq!(bench.with(|store, _| store.next_deadline()), Time::NEVER);
    bench.put(0, &bytes(1, 4096));
    bench.drain();
    bench.fetch(80, 8);
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.with(|store, _| store.next_deadline()), Time::NEVER);
    bench.assert_clean();
}
