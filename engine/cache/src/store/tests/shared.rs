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
    assert!(dirty >= 16, "{dirty}");
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

/// Volumes of a core with that many take all they can get, and their devices do nothing. Then one more is served as if
/// it were alone: its writes are answered at once, as long as its own device keeps up, and its reads find room.
fn hung_ones_leave_a_share(hung: u16, volumes: u16) {
    let plan = |number: u16| {
        move |plan: &mut crate::store::StorePlan, core: &mut CachePlan| {
            (plan.number, plan.pages, plan.dirty, plan.ahead, plan.slots) = (number, 1024, 768, 0, 256);
            (core.pages, core.volumes) = (1024, volumes);
        }
    };
    let mut first = Bench::new(BYTES, plan(0));
    (1..volumes).for_each(|number| first.cache.enter(number).unwrap());
    let mut others: Vec<Bench> = (1..=hung).map(|number| Bench::new(BYTES, plan(number))).collect();
    for other in &mut others {
        both(&mut first, other, |other| {
            for tag in 0..200 {
                _ = other.write(tag, tag % 128 * 32, &bytes(tag, 16384));
                let lba = 4096 + tag % 128 * 32;
                _ = other.submit(1000 + tag, read(lba, 32), Scatter::new());
            }
        });
    }
    let (dirty, most) = first.cache.dirty();
    assert!(dirty > most / 2 && dirty < most, "{dirty} of {most}");
    for round in 0..60u64 {
        let tag = 10_000 + round;
        let outcome = first.write(tag, round * 32, &bytes(round, 16384));
        assert_eq!(outcome.expect("a write that waits for others").result, Ok(()), "round {round}");
        assert_eq!(first.fetch(4096 + round * 32, 32), vec![0; 16384], "round {round}");
        first.drain();
        first.done.clear();
    }
    for mut other in others {
        both(&mut first, &mut other, |other| {
            other.settle();
            other.done.clear();
            other.drain();
        });
    }
    first.settle();
}

#[test]
fn two_hung_volumes_of_three_leave_the_third_enough() {
    hung_ones_leave_a_share(2, 3);
}

#[test]
fn ten_hung_volumes_of_a_thousand_leave_the_others_enough() {
    hung_ones_leave_a_share(10, 1000);
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
