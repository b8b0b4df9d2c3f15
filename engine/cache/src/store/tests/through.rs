//! What the device does itself: COMPARE AND WRITE, UNMAP, WRITE SAME, VERIFY, and what is dirty under them.

#![allow(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

use super::support::{Bench, bytes, range, write_fua};
use kagami_memory::Scatter;
use kagami_types::{Access, BlockCount, BlockError, BlockOp, Compare, Lba};
use kagami_volume::Tag;

const BYTES: u64 = 4 << 20;

fn bench() -> Bench {
    Bench::new(BYTES, |_, _| {})
}

#[test]
fn compare_and_write_sees_what_is_dirty_and_leaves_nothing_stale() {
    let mut bench = bench();
    bench.put(8, &bytes(1, 512));
    for (tag, expected) in [(1, Ok(())), (2, Err(BlockError::Miscompare(0)))] {
        let mut both = bytes(1, 512);
        both.extend(bytes(9, 512));
        let data = bench.data(&both);
        let op = BlockOp::CompareAndWrite(range(8, 1), Access::default());
        assert!(bench.submit(tag, op, data).is_none());
        bench.settle();
        let outcome = bench.outcome(tag);
        match expected {
            Ok(()) => assert_eq!(outcome.result, Ok(())),
            Err(_) => assert!(matches!(outcome.result, Err(BlockError::Miscompare(_)))),
        }
    }
    assert_eq!(bench.fetch(8, 1), bytes(9, 512));
    bench.assert_clean();
}

#[test]
fn unmap_and_write_same_leave_the_cache() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 65536));
    let op = BlockOp::Unmap(vec![range(8, 8), range(64, 3)]);
    assert!(bench.submit(1, op, Scatter::new()).is_none());
    bench.settle();
    assert_eq!(bench.result(1), Ok(()));
    let data = bench.data(&bytes(7, 512));
    let op = BlockOp::WriteSame { lba: Lba(30), blocks: BlockCount(5), unmap: false, zeroes: false };
    assert!(bench.submit(2, op, data).is_none());
    bench.settle();
    assert_eq!(bench.result(2), Ok(()));
    let mut expected = bytes(1, 65536);
    expected[4096..8192].fill(0);
    expected[32768..34304].fill(0);
    for block in 30..35 {
        expected[block * 512..(block + 1) * 512].copy_from_slice(&bytes(7, 512));
    }
    assert_eq!(bench.fetch(0, 128), expected);
    bench.assert_clean();
}

#[test]
fn what_an_unmap_overwrites_does_not_go_out_before() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 16384));
    // The first page and the last are partly its own, the range within the other changes nothing.
    let op = BlockOp::Unmap(vec![range(4, 24), range(10, 2)]);
    assert!(bench.submit(1, op, Scatter::new()).is_none());
    assert_eq!(bench.device.lock().unwrap().writes(), [(0, 4096), (12288, 4096)]);
    // What was written is to be stable, one way or the other.
    let flush = BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
    assert!(bench.submit(2, flush, Scatter::new()).is_none());
    for _ in 0..2 {
        bench.happen(0);
    }
    assert!(bench.done.is_empty() && bench.device.lock().unwrap().flushes == 0);
    bench.settle();
    assert_eq!((bench.result(1), bench.result(2)), (Ok(()), Ok(())));
    let mut expected = bytes(1, 16384);
    expected[2048..14336].fill(0);
    let counters = bench.counters();
    assert_eq!((counters.superseded, counters.destage_bytes), (2, 8192));
    assert_eq!(bench.device.lock().unwrap().stable[..16384], expected);
    assert_eq!(bench.fetch(0, 32), expected);
    bench.assert_clean();
}

#[test]
fn half_a_flush_brings_all_to_the_device_and_does_not_flush_it() {
    let mut bench = bench();
    bench.put(8, &bytes(1, 4096));
    let all = || BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
    let done = bench.with(|store, cx| store.write_out(cx, Tag(1), all(), Scatter::new()));
    assert!(done.is_none());
    assert_eq!(bench.device.lock().unwrap().writes(), [(4096, 4096)]);
    bench.settle();
    assert_eq!(bench.result(1), Ok(()));
    assert_eq!((bench.counters().dirty, bench.device.lock().unwrap().flushes), (0, 0));
    bench.assert_clean();
}

#[test]
fn a_flight_ends_before_what_overwrites_its_pages() {
    let mut bench = bench();
    bench.put(8, &bytes(1, 4096));
    assert!(bench.submit(1, write_fua(16, 8), bench.data(&bytes(2, 4096))).is_none());
    assert_eq!(bench.waiting(), 1);
    let same = BlockOp::WriteSame { lba: Lba(8), blocks: BlockCount(16), unmap: false, zeroes: true };
    assert!(bench.submit(2, same, Scatter::new()).is_none());
    assert_eq!(bench.device.lock().unwrap().writes(), [(8192, 4096)]);
    bench.settle();
    assert_eq!((bench.result(1), bench.result(2)), (Ok(()), Ok(())));
    assert_eq!(bench.counters().superseded, 1);
    assert_eq!(bench.device.lock().unwrap().medium[4096..12288], [0; 8192]);
    bench.assert_clean();
}

#[test]
fn verify_looks_at_the_medium() {
    let mut bench = bench();
    bench.put(0, &bytes(1, 4096));
    let data = bench.data(&bytes(1, 4096));
    assert!(bench.submit(1, BlockOp::Verify { range: range(0, 8), against: Compare::Data }, data).is_none());
    let data = bench.data(&bytes(2, 4096));
    assert!(bench.submit(2, BlockOp::WriteVerify { range: range(4, 8), compare: true }, data).is_none());
    bench.settle();
    assert_eq!((bench.result(1), bench.result(2)), (Ok(()), Ok(())));
    assert_eq!(bench.fetch(4, 8), bytes(2, 4096));
    bench.assert_clean();
}

#[test]
fn lba_status_is_answered_by_the_volume() {
    let mut bench = bench();
    assert!(bench.submit(1, BlockOp::LbaStatus { lba: Lba(5), descriptors: 1 }, Scatter::new()).is_none());
    let outcome = bench.outcome(1);
    assert_eq!((outcome.result, outcome.status[0].lba), (Ok(()), Lba(5)));
    bench.assert_clean();
}
