//! Devices that fail, hang, go and come back.

use super::support::{Bench, TIMEOUT, bytes, flush, read, write_fua};
use crate::store::{DeferredError, State};
use kagami_memory::Scatter;
use kagami_reactor::Errno;
use kagami_types::{BlockError, BlockOp, Lba};
use std::time::Duration;

const BYTES: u64 = 4 << 20;

fn bench() -> Bench {
    Bench::new(BYTES, |_, _| {})
}

fn state(bench: &mut Bench) -> State {
    let now = bench.clock.0;
    bench.with(|store, _| store.state(now))
}

#[test]
fn a_failed_destage_loses_nothing_and_is_told_once() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    bench.put(8, &bytes(2, 4096));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.waiting(), 1);
    bench.fail(0, Errno::IO);
    assert!(matches!(state(&mut bench), State::Degraded(trouble) if trouble.lba == Lba(0)));
    let deferred = bench.with(|store, _| store.take_deferred_error());
    assert_eq!(deferred, Some(DeferredError { error: BlockError::WriteMedium(Lba(0)), lba: Lba(0) }));
    assert_eq!(bench.get(0, 16).len(), 8192);
    assert_eq!(bench.counters().failed, 2);
    // Page by page now; the bad one keeps only itself.
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.waiting(), 2);
    bench.fail(0, Errno::IO);
    bench.happen(0);
    assert_eq!((bench.counters().failed, bench.counters().dirty), (1, 1));
    assert_eq!(bench.with(|store, _| store.take_deferred_error()), None);
    assert!(matches!(state(&mut bench), State::Degraded(_)));
    assert_eq!(bench.waiting(), 0, "not at once again");
    bench.pass(Duration::from_secs(10));
    bench.settle();
    assert_eq!(state(&mut bench), State::Healthy);
    assert_eq!(bench.device.lock().unwrap().medium[..4096], bytes(1, 4096));
    bench.assert_clean();
}

#[test]
fn a_flush_that_cannot_destage_fails_and_the_next_may_succeed() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    bench.put(400, &bytes(2, 4096));
    assert!(bench.submit(1, flush(0, 0), Scatter::new()).is_none());
    assert!(bench.submit(2, flush(400, 8), Scatter::new()).is_none());
    bench.fail(0, Errno::IO);
    bench.settle();
    assert_eq!(bench.result(1), Err(BlockError::WriteMedium(Lba(0))));
    assert_eq!(bench.result(2), Ok(()));
    assert_eq!(bench.counters().dirty, 1);
    assert!(bench.submit(3, flush(0, 0), Scatter::new()).is_none());
    bench.settle();
    assert_eq!(bench.result(3), Ok(()));
    assert_eq!(state(&mut bench), State::Healthy);
    bench.assert_clean();
}

#[test]
fn a_dead_device_refuses_writes_keeps_pages_and_comes_back() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    bench.pass(Duration::from_secs(1));
    let mut failed = false;
    for _ in 0..400 {
        while bench.waiting() > 0 {
            bench.fail(0, Errno::NO_DEVICE);
        }
        bench.pass_to_alarm(Duration::from_secs(1));
        failed |= matches!(state(&mut bench), State::Failed(_));
    }
    assert!(failed);
    while bench.waiting() > 0 {
        bench.fail(0, Errno::NO_DEVICE);
    }
    assert_eq!(bench.write(1, 8, &bytes(2, 4096)).unwrap().result, Err(BlockError::Gone));
    assert_eq!(bench.get(0, 8), bytes(1, 4096));
    assert_eq!(bench.counters().dirty, 1);
    for _ in 0..20 {
        bench.pass_to_alarm(Duration::from_secs(5));
        while bench.waiting() > 0 {
            bench.happen(0);
        }
    }
    assert_eq!(state(&mut bench), State::Healthy);
    bench.put(8, &bytes(2, 4096));
    bench.assert_clean();
}

#[test]
fn writes_that_wait_for_a_dead_device_are_refused() {
    let mut bench = Bench::new(BYTES, |plan, _| plan.dirty = 4);
    bench.put(0, &bytes(1, 16384));
    assert!(bench.write(1, 64, &bytes(2, 4096)).is_none());
    for _ in 0..2000 {
        while bench.waiting() > 0 {
            bench.fail(0, Errno::NO_DEVICE);
        }
        if !bench.done.is_empty() {
            break;
        }
        bench.pass_to_alarm(Duration::from_millis(500));
    }
    assert_eq!(bench.result(1), Err(BlockError::Gone));
    assert_eq!(bench.get(0, 32), bytes(1, 16384));
    bench.settle();
    bench.assert_clean();
}

#[test]
fn a_read_fails_for_its_own_blocks_only() {
    let mut bench = Bench::new(BYTES, |plan, _| plan.ahead = 0);
    assert!(bench.submit(1, read(0, 16), Scatter::new()).is_none());
    assert!(bench.submit(2, read(8, 8), Scatter::new()).is_none());
    assert_eq!(bench.waiting(), 1, "one fill for both");
    // The first block is bad: the volume finds it by halves.
    for _ in 0..40 {
        let reads = bench.device.lock().unwrap().reads();
        let Some((offset, _)) = reads.first() else { break };
        if *offset == 0 { bench.fail(0, Errno::IO) } else { bench.happen(0) }
    }
    bench.settle();
    assert_eq!(bench.result(1), Err(BlockError::ReadMedium(Lba(0))));
    assert_eq!(bench.outcome(2).data.to_vec(), vec![0; 4096]);
    bench.assert_clean();
}

#[test]
fn a_bad_block_beside_does_not_hurt() {
    let mut bench = Bench::new(BYTES, |plan, _| plan.ahead = 0);
    assert!(bench.submit(1, read(3, 2), Scatter::new()).is_none());
    for _ in 0..40 {
        let reads = bench.device.lock().unwrap().reads();
        let Some((offset, len)) = reads.first().copied() else { break };
        // The page's last block.
        let bad = offset + len as u64 > 7 * 512 && offset <= 7 * 512;
        if bad { bench.fail(0, Errno::IO) } else { bench.happen(0) }
    }
    bench.settle();
    assert_eq!(bench.outcome(1).result, Ok(()));
    bench.assert_clean();
}

#[test]
fn a_hanging_device_is_answered_for_in_time_and_keeps_its_pages() {
    let mut bench = bench();
    let list = bench.data(&bytes(1, 4096));
    assert!(bench.submit(1, write_fua(0, 8), list).is_none());
    assert!(bench.submit(2, read(80, 8), Scatter::new()).is_none());
    bench.pass(TIMEOUT);
    assert_eq!(bench.result(1), Err(BlockError::TimedOut));
    assert_eq!(bench.result(2), Err(BlockError::TimedOut));
    assert_eq!(bench.get(0, 8), bytes(1, 4096), "it is in the cache");
    // The old write is still at the device: the newer one must not be overtaken by it.
    bench.put(0, &bytes(2, 4096));
    for _ in 0..5 {
        bench.pass(Duration::from_secs(1));
        assert!(bench.device.lock().unwrap().writes().len() <= 1);
    }
    bench.settle();
    bench.done.clear();
    bench.drain();
    assert_eq!(bench.device.lock().unwrap().medium[..4096], bytes(2, 4096));
    bench.assert_clean();
}

#[test]
fn what_may_still_happen_is_not_cached() {
    let mut bench = bench();
    bench.device.lock().unwrap().medium.fill(7);
    let op = BlockOp::Unmap(vec![super::support::range(0, 80)]);
    assert!(bench.submit(1, op, Scatter::new()).is_none());
    assert_eq!(bench.waiting(), 1);
    bench.pass(TIMEOUT);
    assert_eq!(bench.result(1), Err(BlockError::TimedOut));
    // A read beside the discard may give either, but must not be kept.
    assert!(bench.submit(2, read(0, 8), Scatter::new()).is_none());
    for _ in 0..10 {
        if bench.device.lock().unwrap().reads().is_empty() {
            bench.pass_to_alarm(Duration::from_millis(1));
            continue;
        }
        let last = bench.waiting() - 1;
        bench.happen(last);
    }
    assert_eq!(bench.outcome(2).data.to_vec(), vec![7; 4096]);
    bench.happen(0);
    assert_eq!(bench.fetch(0, 8), vec![0; 4096]);
    bench.assert_clean();
}

#[test]
fn what_an_unmap_that_fails_was_to_overwrite_stays_dirty() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 8192));
    let op = BlockOp::Unmap(vec![super::support::range(0, 16)]);
    assert!(bench.submit(1, op, Scatter::new()).is_none());
    // The device has done it in part.
    bench.device.lock().unwrap().medium[..4096].fill(0);
    bench.fail(0, Errno::IO);
    assert!(bench.result(1).is_err());
    assert_eq!(bench.get(0, 16), bytes(1, 8192));
    bench.pass(Duration::from_secs(10));
    bench.settle();
    assert_eq!(bench.device.lock().unwrap().medium[..8192], bytes(1, 8192));
    assert_eq!(bench.counters().superseded, 0);
    bench.assert_clean();
}

#[test]
fn an_operation_whose_pages_cannot_be_destaged_is_not_begun() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    // It keeps half of the page.
    let op = BlockOp::Unmap(vec![super::support::range(4, 80)]);
    assert!(bench.submit(1, op, Scatter::new()).is_none());
    bench.fail(0, Errno::IO);
    assert_eq!(bench.result(1), Err(BlockError::WriteMedium(Lba(0))));
    assert_eq!(bench.get(0, 8), bytes(1, 4096));
    bench.pass(Duration::from_secs(10));
    bench.settle();
    bench.assert_clean();
}
