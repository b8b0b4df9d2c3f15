//! The cached volume, one device operation at a time.

#![allow(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

use super::support::{Bench, bytes, flush, limits, range, read, write, write_fua};
use crate::store::StorePlan;
use kagami_memory::{Class, Purpose, Scatter};
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockSize};
use kagami_volume::Aborted;
use std::time::Duration;

const BYTES: u64 = 4 << 20;

fn bench() -> Bench {
    Bench::new(BYTES, |_, _| {})
}

#[test]
fn a_write_is_done_at_once_and_read_back_from_its_own_pages() {
    let mut bench = bench();
    let data = bytes(1, 8192);
    let list = bench.data(&data);
    let pages: Vec<u32> = list.parts().iter().map(|part| part.page().index()).collect();
    assert_eq!(bench.submit(1, write(8, 16), list).unwrap().result, Ok(()));
    let outcome = bench.submit(2, read(8, 16), Scatter::new()).unwrap();
    assert_eq!(outcome.data.to_vec(), data);
    let lent: Vec<u32> = outcome.data.parts().iter().map(|part| part.page().index()).collect();
    assert_eq!(lent, pages, "no byte was copied");
    assert_eq!(bench.counters().in_place_bytes, 8192);
    assert_eq!(bench.waiting(), 0);
    drop(outcome);
    bench.assert_clean();
}

#[test]
fn a_lent_page_does_not_change() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    let lent = bench.submit(1, read(0, 8), Scatter::new()).unwrap();
    bench.put(2, &bytes(2, 512));
    assert_eq!(lent.data.to_vec(), bytes(1, 4096));
    let mut expected = bytes(1, 4096);
    expected[1024..1536].copy_from_slice(&bytes(2, 512));
    assert_eq!(bench.get(0, 8), expected);
    drop(lent);
    // Now nobody else names it: written where it lies.
    let free = bench.pool.arena().free(Class::Page);
    bench.put(3, &bytes(3, 512));
    assert_eq!(bench.pool.arena().free(Class::Page), free);
    bench.assert_clean();
}

#[test]
fn misses_of_the_same_pages_share_a_fill() {
    let mut bench = bench();
    bench.device.lock().unwrap().medium = bytes(5, BYTES as usize);
    let medium = bytes(5, BYTES as usize);
    assert!(bench.submit(1, read(3, 20), Scatter::new()).is_none());
    assert!(bench.submit(2, read(0, 8), Scatter::new()).is_none());
    assert_eq!(bench.device.lock().unwrap().reads(), [(0, 12288)], "whole pages, once");
    bench.happen(0);
    assert_eq!(bench.outcome(1).data.to_vec(), medium[1536..1536 + 10240]);
    assert_eq!(bench.outcome(2).data.to_vec(), medium[..4096]);
    assert_eq!(bench.get(0, 24), medium[..12288]);
    assert_eq!((bench.counters().hits, bench.counters().misses), (1, 2));
    bench.assert_clean();
}

#[test]
fn a_read_over_a_gap_fills_the_gap() {
    let mut bench = bench();
    bench.device.lock().unwrap().medium = bytes(5, BYTES as usize);
    let mut expected = bytes(5, 40960);
    bench.put(9, &bytes(1, 512));
    bench.put(32, &bytes(2, 4096));
    expected[9 * 512..10 * 512].copy_from_slice(&bytes(1, 512));
    expected[32 * 512..40 * 512].copy_from_slice(&bytes(2, 4096));
    assert!(bench.submit(1, read(0, 80), Scatter::new()).is_none());
    assert_eq!(bench.device.lock().unwrap().reads(), [(0, 16384), (20480, 20480)]);
    // What comes meanwhile is newer than what is read.
    bench.put(12, &bytes(3, 512));
    expected[12 * 512..13 * 512].copy_from_slice(&bytes(3, 512));
    bench.happen(1);
    assert!(bench.done.is_empty());
    bench.happen(0);
    assert_eq!(bench.outcome(1).data.to_vec(), expected);
    assert_eq!(bench.counters().partial, 1);
    bench.assert_clean();
}

#[test]
fn a_read_sees_all_of_a_write_or_nothing() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    assert!(bench.submit(1, read(0, 16), Scatter::new()).is_none());
    // Over a page that is there and one that is being read.
    bench.put(0, &bytes(2, 8192));
    bench.happen(0);
    assert_eq!(bench.outcome(1).data.to_vec(), bytes(2, 8192));
    bench.assert_clean();
}

#[test]
fn unaligned_data_is_copied_and_nothing_else_changes() {
    let mut bench = bench();
    bench.device.lock().unwrap().medium = bytes(5, BYTES as usize);
    let mut expected = bytes(5, 65536);
    for (seed, lba, blocks, shift) in [(1, 3, 17, 0), (2, 8, 16, 100), (3, 0, 1, 7), (4, 63, 2, 4095)] {
        let data = bytes(seed, blocks * 512);
        let list = bench.shifted(&data, shift);
        let op = write(lba, u32::try_from(blocks).unwrap());
        assert_eq!(bench.submit(1, op, list).unwrap().result, Ok(()));
        let at = usize::try_from(lba).unwrap() * 512;
        expected[at..at + data.len()].copy_from_slice(&data);
    }
    assert_eq!(bench.fetch(0, 128), expected);
    bench.drain();
    assert_eq!(bench.device.lock().unwrap().medium[..65536], expected);
    bench.assert_clean();
}

#[test]
fn little_goes_out_when_it_is_old() {
    let mut bench = bench();
    bench.put(16, &bytes(1, 8192));
    bench.put(32, &bytes(2, 4096));
    bench.put(800, &bytes(3, 4096));
    bench.tick();
    assert_eq!(bench.waiting(), 0);
    bench.pass(Duration::from_millis(999));
    assert_eq!(bench.waiting(), 0);
    bench.pass_to_alarm(Duration::from_secs(1));
    assert_eq!(bench.device.lock().unwrap().writes(), [(8192, 12288), (409_600, 4096)], "sorted, merged");
    bench.settle();
    assert_eq!(bench.counters().dirty, 0);
    assert_eq!(bench.get(16, 24).len(), 12288, "still there");
    assert_eq!(bench.device.lock().unwrap().flushes, 0);
    bench.assert_clean();
}

#[test]
fn what_a_journal_has_goes_out_later_and_no_more_of_it_may_be_dirty() {
    let mut bench = Bench::new(BYTES, |_, _| {});
    bench.with(|store, _| store.set_journaled(true));
    bench.put(0, &bytes(1, 4096));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.waiting(), 0, "of another volume it would be old");
    // Written again, with what lies beside it: one write.
    bench.put(0, &bytes(2, 4096));
    bench.put(8, &bytes(3, 4096));
    bench.pass_to_alarm(Duration::from_secs(3));
    assert_eq!(bench.device.lock().unwrap().writes(), [(0, 8192)]);
    bench.settle();
    assert_eq!(bench.counters().dirty, 0);
    // Where the journal is left, it is old at once.
    bench.put(0, &bytes(4, 4096));
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.waiting(), 0);
    bench.with(|store, _| store.set_journaled(false));
    bench.pass_to_alarm(Duration::ZERO);
    assert_eq!(bench.waiting(), 1);
    bench.settle();
    bench.with(|store, _| store.set_journaled(true));
    // By its amount: some from three eighths of what may be dirty, all that there may be from half of it.
    let most = 256;
    for page in 0..most * 3 / 8 {
        bench.put(page * 16, &bytes(page, 4096));
    }
    bench.tick();
    assert_eq!(bench.waiting(), 0);
    let mut under_way = 0;
    for page in most * 3 / 8..most / 2 {
        bench.put(page * 16, &bytes(page, 4096));
        bench.tick();
        assert!((under_way..=under_way + 2).contains(&bench.waiting()), "no step");
        under_way = bench.waiting();
    }
    assert_eq!(under_way, 32);
    bench.settle();
    bench.assert_clean();
}

#[test]
fn what_is_overwritten_on_its_way_goes_again() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.waiting(), 1);
    bench.put(2, &bytes(2, 512));
    bench.happen(0);
    assert_eq!(bench.counters().dirty, 1);
    let mut expected = bytes(1, 4096);
    assert_eq!(bench.device.lock().unwrap().medium[..4096], expected);
    expected[1024..1536].copy_from_slice(&bytes(2, 512));
    bench.settle();
    bench.pass(Duration::from_secs(3));
    bench.settle();
    assert_eq!(bench.device.lock().unwrap().medium[..4096], expected);
    bench.assert_clean();
}

#[test]
fn a_fua_write_is_stable_before_it_is_done_and_visible_before() {
    let mut bench = bench();
    let list = bench.data(&bytes(1, 8192));
    assert!(bench.submit(1, write_fua(8, 16), list).is_none());
    assert_eq!(bench.get(8, 16), bytes(1, 8192));
    bench.happen(0);
    assert_eq!(bench.result(1), Ok(()));
    assert_eq!(bench.device.lock().unwrap().stable[4096..12288], bytes(1, 8192));
    assert_eq!(bench.device.lock().unwrap().flushes, 0, "its own write was stable");
    // What is on its way already need not be stable.
    bench.put(0, &bytes(2, 4096));
    bench.pass(Duration::from_secs(1));
    let list = bench.data(&bytes(3, 512));
    assert!(bench.submit(2, write_fua(1, 1), list).is_none());
    assert_eq!(bench.waiting(), 1);
    bench.happen(0);
    bench.happen(0);
    bench.settle();
    assert_eq!(bench.result(2), Ok(()));
    assert_eq!(bench.device.lock().unwrap().stable[512..1024], bytes(3, 512));
    bench.assert_clean();
}

#[test]
fn without_the_wce_bit_each_write_is_stable_before_it_is_done() {
    let mut bench = Bench::new(BYTES, |plan, _| plan.write_back = false);
    assert!(bench.write(1, 0, &bytes(1, 4096)).is_none());
    assert!(bench.write(2, 0, &bytes(2, 4096)).is_none());
    assert!(bench.write(3, 100, &bytes(3, 512)).is_none());
    assert_eq!(bench.get(0, 8), bytes(2, 4096));
    assert_eq!(bench.waiting(), 2);
    bench.happen(0);
    assert_eq!(bench.result(1), Ok(()));
    bench.settle();
    assert_eq!((bench.result(2), bench.result(3)), (Ok(()), Ok(())));
    assert_eq!(bench.device.lock().unwrap().stable[..4096], bytes(2, 4096));
    assert_eq!(bench.counters().dirty, 0);
    // From then on with it.
    bench.with(|store, _| store.set_write_back(true));
    bench.put(0, &bytes(4, 4096));
    bench.assert_clean();
}

#[test]
fn a_flush_makes_stable_what_was_done_before_it_and_no_more() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    bench.put(400, &bytes(2, 4096));
    assert!(bench.submit(1, flush(0, 0), Scatter::new()).is_none());
    bench.put(800, &bytes(3, 4096));
    bench.put(0, &bytes(4, 4096));
    assert_eq!(bench.device.lock().unwrap().writes(), [(0, 4096), (204_800, 4096)]);
    bench.happen(0);
    bench.happen(0);
    assert!(bench.done.is_empty());
    assert_eq!(bench.waiting(), 1, "the device's own flush");
    bench.happen(0);
    assert_eq!(bench.result(1), Ok(()));
    let device = bench.device.lock().unwrap();
    assert_eq!(
        (&device.stable[..4096], &device.stable[204_800..208_896]),
        (&*bytes(1, 4096), &*bytes(2, 4096))
    );
    drop(device);
    bench.assert_clean();
}

#[test]
fn flushes_that_wait_share_a_drain_and_a_flush() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    for tag in 1..=4 {
        assert!(bench.submit(tag, flush(0, 0), Scatter::new()).is_none());
    }
    assert_eq!(bench.waiting(), 1);
    bench.happen(0);
    bench.settle();
    assert_eq!(bench.done.len(), 4);
    bench.done.clear();
    assert!(bench.device.lock().unwrap().flushes <= 2);
    bench.assert_clean();
}

#[test]
fn a_flush_of_a_range_leaves_the_rest() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    bench.put(400, &bytes(2, 4096));
    assert!(bench.submit(1, flush(400, 8), Scatter::new()).is_none());
    assert_eq!(bench.device.lock().unwrap().writes(), [(204_800, 4096)]);
    bench.settle();
    assert_eq!(bench.result(1), Ok(()));
    assert_eq!(bench.counters().dirty, 1);
    bench.assert_clean();
}

#[test]
fn a_fua_read_comes_from_the_medium() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 512));
    let op = BlockOp::Read(range(0, 8), Access { fua: true, dpo: false });
    assert!(bench.submit(1, op, Scatter::new()).is_none());
    // Behind it, as its pages are its own.
    assert!(bench.write(2, 0, &bytes(2, 4096)).is_none());
    bench.settle();
    let mut expected = bytes(1, 512);
    expected.resize(4096, 0);
    assert_eq!(bench.outcome(1).data.to_vec(), expected);
    assert_eq!(bench.result(2), Ok(()));
    assert!(bench.device.lock().unwrap().flushes >= 1);
    bench.assert_clean();
}

#[test]
fn writes_wait_for_destage_in_order() {
    let mut bench = Bench::new(BYTES, |plan, _| (plan.dirty, plan.run) = (8, 1));
    bench.put(0, &bytes(1, 16384));
    let mut tags = Vec::new();
    for tag in 0..8 {
        let done = bench.write(tag, 64 + tag * 8, &bytes(10 + tag, 4096));
        if done.is_none() {
            tags.push(tag);
        }
    }
    assert!(!tags.is_empty(), "more than may be dirty");
    assert!(bench.waiting() > 0, "destage is at full depth");
    let mut seen = Vec::new();
    while seen.len() < tags.len() {
        if bench.waiting() > 0 {
            bench.happen(0);
        } else {
            bench.pass_to_alarm(Duration::from_millis(5));
        }
        assert!(bench.counters().dirty <= 8);
        seen.extend(bench.done.drain(..).map(|(tag, outcome)| {
            assert_eq!(outcome.result, Ok(()));
            tag.0
        }));
    }
    assert_eq!(seen, tags);
    assert!(bench.counters().throttled > 0);
    bench.assert_clean();
}

#[test]
fn a_write_that_waits_keeps_its_place_before_later_ones_to_the_same_blocks() {
    let mut bench = Bench::new(BYTES, |plan, _| (plan.dirty, plan.run) = (4, 1));
    bench.put(0, &bytes(1, 16384));
    assert!(bench.write(1, 64, &bytes(2, 8192)).is_none());
    assert!(bench.write(2, 64, &bytes(3, 4096)).is_none());
    bench.settle();
    assert_eq!((bench.result(1), bench.result(2)), (Ok(()), Ok(())));
    assert_eq!(bench.fetch(64, 8), bytes(3, 4096));
    assert_eq!(bench.fetch(72, 8), bytes(2, 8192)[4096..]);
    bench.assert_clean();
}

#[test]
fn clean_pages_make_room_and_dirty_ones_stay() {
    let mut bench = Bench::new(BYTES, |plan, core| {
        (core.pages, plan.pages, plan.dirty) = (64, 64, 32);
    });
    bench.put(0, &bytes(1, 16384));
    for at in 0..100 {
        bench.fetch(1000 + at * 16, 8);
    }
    assert!(bench.cache.pages().0 <= 64);
    assert!(bench.cache.evictions() > 30);
    assert_eq!(bench.get(0, 32), bytes(1, 16384));
    assert!(bench.cache.reclaim(1000) > 0);
    assert_eq!(bench.get(0, 32), bytes(1, 16384), "dirty pages cannot be spared");
    bench.assert_clean();
}

#[test]
fn a_sequential_reader_is_read_ahead_of() {
    let mut bench = bench();
    bench.device.lock().unwrap().medium = bytes(5, BYTES as usize);
    let medium = bytes(5, BYTES as usize);
    for at in 0..60_u64 {
        let start = usize::try_from(at).unwrap() * 8192;
        assert_eq!(bench.fetch(at * 16, 16), medium[start..start + 8192]);
        bench.settle();
    }
    let counters = bench.counters();
    assert!(counters.ahead_pages > 50 && counters.ahead_used > 50, "{counters:?}");
    assert!(counters.hits > 30, "{counters:?}");
    bench.assert_clean();
}

#[test]
fn aborts_leave_whole_writes_or_none() {
    let mut bench = Bench::new(BYTES, |plan, _| (plan.dirty, plan.run) = (4, 1));
    // One that waits for the device.
    assert!(bench.submit(1, read(100, 8), Scatter::new()).is_none());
    assert_eq!(bench.abort(1), Aborted::Dropped);
    assert_eq!(bench.result(1), Err(BlockError::Aborted));
    assert_eq!(bench.abort(1), Aborted::NotFound);
    // One that is in the cache.
    let list = bench.data(&bytes(1, 8192));
    assert!(bench.submit(2, write_fua(0, 16), list).is_none());
    assert_eq!(bench.abort(2), Aborted::Dropped);
    assert_eq!(bench.result(2), Err(BlockError::Aborted));
    assert_eq!(bench.get(0, 16), bytes(1, 8192));
    // One that is not yet.
    bench.settle();
    bench.put(0, &bytes(2, 16384));
    assert!(bench.write(3, 200, &bytes(3, 4096)).is_none());
    assert_eq!(bench.abort(3), Aborted::Dropped);
    assert_eq!(bench.result(3), Err(BlockError::Aborted));
    bench.settle();
    assert_eq!(bench.fetch(200, 8), vec![0; 4096]);
    // One that the device has.
    let op = BlockOp::Unmap(vec![range(400, 80)]);
    assert!(bench.submit(4, op, Scatter::new()).is_none());
    assert_eq!(bench.abort(4), Aborted::Pending);
    bench.settle();
    assert_eq!(bench.result(4), Err(BlockError::Aborted));
    bench.assert_clean();
}

#[test]
fn bad_operations_are_refused() {
    let mut bench = bench();
    let blocks = BYTES / 512;
    let refused = |bench: &mut Bench, op, data| bench.submit(9, op, data).unwrap().result.unwrap_err();
    assert_eq!(refused(&mut bench, read(blocks, 1), Scatter::new()), BlockError::OutOfRange);
    assert_eq!(refused(&mut bench, read(u64::MAX, 1), Scatter::new()), BlockError::OutOfRange);
    let data = bench.data(&[0; 512]);
    assert_eq!(refused(&mut bench, write(0, 2), data), BlockError::Unsupported);
    assert!(bench.submit(9, read(blocks, 0), Scatter::new()).unwrap().result.is_ok());
    bench.with(|store, _| store.set_read_only(true));
    let data = bench.data(&[0; 512]);
    assert_eq!(refused(&mut bench, write(0, 1), data), BlockError::WriteProtected);
    bench.with(|store, _| store.set_read_only(false));
    bench.with(|store, _| store.set_quiesced(true));
    assert_eq!(refused(&mut bench, read(0, 1), Scatter::new()), BlockError::Busy);
    bench.with(|store, _| store.set_quiesced(false));
    bench.assert_clean();
}

#[test]
fn a_volume_grows_at_its_odd_end() {
    let bytes_now = (1 << 20) - 1536;
    let mut bench = Bench::new(bytes_now, |_, _| {});
    let last = bytes_now / 512 - 1;
    assert_eq!(bench.fetch(last, 1), vec![0; 512]);
    bench.device.lock().unwrap().medium.resize(1 << 20, 7);
    bench.device.lock().unwrap().stable.resize(1 << 20, 7);
    assert!(bench.with(|store, _| store.grow(BlockCount(2048))).is_ok());
    let mut expected = vec![0; 512];
    expected.resize(2048, 7);
    assert_eq!(bench.fetch(last, 4), expected);
    assert!(bench.with(|store, _| store.grow(BlockCount(5))).is_err());
    bench.assert_clean();
}

#[test]
fn blocks_of_4096_bytes_are_pages() {
    let mut bench = Bench::of(
        BlockSize::B4096,
        BYTES,
        kagami_volume::DeviceLimits { align: 4096, memory_align: 4096, ..limits() },
        |_, _| {},
    );
    bench.put(3, &bytes(1, 8192));
    assert_eq!(bench.fetch(2, 4)[4096..12288], bytes(1, 8192));
    bench.drain();
    assert_eq!(bench.device.lock().unwrap().medium[12288..20480], bytes(1, 8192));
    bench.assert_clean();
}

#[test]
fn the_hosts_keep_a_margin_of_pages() {
    let mut bench = Bench::new(16 << 20, |plan, core| {
        (core.pages, core.margin) = (8000, 7800);
        (plan.pages, plan.ahead) = (8000, 0);
    });
    for at in 0..600 {
        bench.fetch(at * 48, 8);
    }
    assert!(bench.cache.pages().0 < 450, "{:?}", bench.cache.pages());
    assert!(bench.pool.take(Class::Page, Purpose::Host).is_some());
    bench.assert_clean();
}

#[test]
fn quiesced_it_comes_to_rest_and_drained_it_is_clean() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    bench.with(|store, _| store.set_quiesced(true));
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.waiting(), 0);
    assert!(bench.with(|store, _| store.is_idle()));
    let now = bench.clock.0;
    bench.with(|store, _| store.set_draining(true, now));
    assert!(!bench.with(|store, _| store.is_idle()));
    bench.settle();
    assert_eq!(bench.device.lock().unwrap().medium[..4096], bytes(1, 4096));
    bench.assert_clean();
}

#[test]
fn numbers_are_given_once() {
    let mut bench = bench();
    assert!(bench.cache.enter(0).is_err());
    assert!(bench.cache.enter(2).is_err());
    assert!(bench.cache.enter(1).is_ok());
    bench.assert_clean();
}

#[test]
fn a_volume_with_its_share_gives_up_its_own_first() {
    let mut bench = Bench::new(BYTES, |plan, core| {
        (core.pages, plan.pages, plan.dirty, plan.ahead) = (256, 64, 32, 0);
    });
    for at in 0..400 {
        bench.fetch(at * 16, 8);
    }
    // Another volume's pages find room without a loss of what this one had at first.
    assert!(bench.cache.pages().0 <= 256);
    assert!(bench.cache.reclaim(150) >= 150);
    assert_eq!(bench.get(0, 8), vec![0; 4096], "what was within the share is still there");
    bench.assert_clean();
}

#[test]
fn a_fua_write_of_which_a_part_went_before_waits_for_a_flush() {
    let mut bench = Bench::new(BYTES, |plan, _| plan.flights = 1);
    bench.put(7, &bytes(1, 512));
    bench.put(400, &bytes(2, 4096));
    // The one flight is taken; then a drain for all goes first.
    bench.pass(Duration::from_secs(1));
    assert!(bench.submit(1, flush(0, 0), Scatter::new()).is_none());
    let list = bench.data(&bytes(3, 512));
    assert!(bench.submit(2, write_fua(0, 1), list).is_none());
    while bench.done.iter().all(|(tag, _)| tag.0 != 2) {
        if bench.waiting() > 0 {
            bench.happen(0);
        } else {
            bench.pass_to_alarm(Duration::from_millis(1));
        }
    }
    assert_eq!(bench.device.lock().unwrap().stable[..512], bytes(3, 512));
    bench.settle();
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn a_write_that_others_see_is_not_said_to_have_had_no_effect() {
    let mut bench = Bench::new(BYTES, |plan, _| plan.flights = 1);
    bench.put(0, &bytes(1, 4096));
    bench.put(64, &bytes(2, 4096));
    assert!(bench.submit(1, flush(0, 0), Scatter::new()).is_none());
    let list = bench.data(&bytes(3, 4096));
    assert!(bench.submit(2, write_fua(64, 8), list).is_none());
    // Its page goes with the flush's drain, so the write waits for a flush of its own, which the device does not take up.
    bench.happen(0);
    bench.put(64, &bytes(4, 4096));
    while bench.done.iter().all(|(tag, _)| tag.0 != 2) {
        let writes = bench.device.lock().unwrap().writes().len();
        match bench.waiting() {
            0 => bench.pass_to_alarm(Duration::from_millis(1)),
            waiting if waiting > writes => bench.fail(0, kagami_reactor::Errno(11)),
            _ => bench.happen(0),
        }
    }
    assert_eq!(bench.result(2), Err(BlockError::TimedOut));
    bench.settle();
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn a_fua_write_whose_page_went_with_another_and_was_overwritten_waits_for_a_flush() {
    let mut bench = Bench::new(BYTES, |plan, _| plan.flights = 1);
    bench.put(0, &bytes(1, 4096));
    bench.put(64, &bytes(2, 4096));
    assert!(bench.submit(1, flush(0, 0), Scatter::new()).is_none());
    let list = bench.data(&bytes(3, 4096));
    assert!(bench.submit(2, write_fua(64, 8), list).is_none());
    // The flush's drain takes the page with it, before the write has a flight.
    bench.happen(0);
    assert_eq!(bench.device.lock().unwrap().writes(), [(32768, 4096)]);
    bench.put(64, &bytes(4, 4096));
    while bench.done.iter().all(|(tag, _)| tag.0 != 2) {
        if bench.waiting() > 0 {
            bench.happen(0);
        } else {
            bench.pass_to_alarm(Duration::from_millis(1));
        }
    }
    let stable = bench.device.lock().unwrap().stable[32768..36864].to_vec();
    assert!(stable == bytes(3, 4096) || stable == bytes(4, 4096));
    bench.settle();
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn a_write_that_waits_is_done_also_while_quiesced() {
    let mut bench = Bench::new(BYTES, |plan, _| (plan.dirty, plan.run) = (4, 1));
    bench.put(0, &bytes(1, 16384));
    assert!(bench.write(1, 64, &bytes(2, 8192)).is_none());
    bench.with(|store, _| store.set_quiesced(true));
    bench.settle();
    assert_eq!(bench.result(1), Ok(()));
    bench.with(|store, _| store.set_quiesced(false));
    bench.assert_clean();
}

#[test]
fn the_longest_write_goes_into_a_cache_of_any_size() {
    for pages in [64, 200, 512, 1024] {
        let mut bench = Bench::new(8 << 20, |plan, core| {
            core.pages = pages;
            *plan = StorePlan { pages, dirty: pages, ..*plan };
        });
        let blocks = bench.with(|store, _| store.largest_transfer()).0;
        let data = bytes(pages.into(), usize::try_from(blocks * 512).unwrap());
        for lba in [0, 5] {
            let outcome = bench.write(1, lba, &data);
            bench.settle();
            assert!(outcome.is_some() || bench.result(1) == Ok(()), "{blocks} blocks in {pages} pages");
            bench.drain();
        }
        bench.assert_clean();
    }
}
