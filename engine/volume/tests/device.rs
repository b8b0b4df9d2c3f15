//! The disk controller and what its device is and becomes: limits, growth, loss and return, quotas, holes.

#![allow(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

mod support;

use kagami_memory::{Class, Scatter};
use kagami_reactor::{Errno, FileId, Op};
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockSize, Lba, LbaStatus};
use kagami_volume::DeviceLimits;
use std::time::Duration;
use support::steps::{BYTES, bench, flush, range, read, write};
use support::{Bench, bytes, limits};

#[test]
fn a_device_is_all_allocated_as_far_as_anyone_knows() {
    let mut bench = bench();
    let outcome = bench.execute(BlockOp::LbaStatus { lba: Lba(5), descriptors: 9 }, Scatter::new());
    assert_eq!(outcome.status, [LbaStatus { lba: Lba(5), blocks: 8187, deallocated: false }]);
    bench.assert_clean();
}

#[test]
fn a_volume_grows_and_never_shrinks() {
    let mut bench = bench();
    let end = BYTES / 512;
    assert!(bench.volume.grow(BlockCount(end - 1)).is_err());
    bench.volume.grow(BlockCount(end * 2)).unwrap();
    bench.io.medium.resize(2 * BYTES as usize, 7);
    assert_eq!(bench.execute(read(end, 1), Scatter::new()).data.to_vec(), [7; 512]);
    bench.assert_clean();
}

#[test]
fn a_device_that_went_comes_back() {
    let mut bench = bench();
    bench.write(1, 0, 8, 1);
    bench.read(2, 8, 8);
    bench.volume.set_gone();
    assert!(bench.volume.is_gone());
    let refused = bench.submit(3, read(0, 8), Scatter::new()).unwrap();
    assert_eq!(refused.result, Err(BlockError::Gone));
    assert_eq!(bench.submit(4, flush(), Scatter::new()).unwrap().result, Err(BlockError::Gone));
    // The kernel has no other word for it.
    bench.fail(0, Errno::IO);
    assert_eq!(bench.result(1), Err(BlockError::Gone));
    let old = bench.io.file;
    let new = FileId(old.0 + 1);
    assert_eq!(bench.volume.release_device(), None, "one operation is still there");
    assert!(bench.volume.replace_device(new, limits(512)).is_err());
    bench.fail(0, Errno::NO_DEVICE);
    assert_eq!(bench.result(2), Err(BlockError::Gone));
    assert!(bench.volume.replace_device(new, limits(512)).is_err(), "not released yet");
    assert_eq!((bench.volume.release_device(), bench.volume.is_released()), (Some(old), true));
    assert_eq!(bench.volume.release_device(), None, "only once");
    bench.pass(Duration::from_secs(60));

    assert!(bench.volume.replace_device(new, limits(4096)).is_err(), "another alignment");
    assert!(bench.volume.is_gone());
    let shallow = DeviceLimits { depth: 2, max_transfer: 4096, ..limits(512) };
    bench.volume.replace_device(new, shallow).unwrap();
    bench.io.file = new;
    assert!(!bench.volume.is_gone() && !bench.volume.is_released());
    assert!(!bench.volume.take_lost(), "nothing was written");
    bench.write(5, 0, 16, 2);
    assert_eq!(bench.io.waiting.len(), 2, "two transfers of 4096 bytes");
    bench.settle();
    assert_eq!(bench.result(5), Ok(()));
    assert_eq!(bench.io.medium[..8192], bytes(2, 8192));
    bench.assert_clean();
}

#[test]
fn what_was_not_flushed_is_lost_with_the_device_s_power() {
    for (flushes, volatile, lost) in
        [(false, true, true), (true, true, false), (false, false, false), (true, false, false)]
    {
        let mut bench = bench();
        bench.write(1, 0, 8, 1);
        bench.settle();
        if flushes {
            assert_eq!(bench.execute(flush(), Scatter::new()).result, Ok(()));
        }
        bench.read(2, 0, 8);
        bench.settle();
        bench.volume.set_gone();
        let old = bench.volume.release_device().unwrap();
        let new = FileId(old.0 + 1);
        bench.volume.replace_device(new, DeviceLimits { volatile, ..limits(512) }).unwrap();
        bench.io.file = new;
        assert_eq!(bench.volume.take_lost(), lost);
        assert!(!bench.volume.take_lost(), "once");
        bench.done.clear();
        bench.assert_clean();
    }
}

#[test]
fn what_another_volume_flushed_on_the_same_device_is_not_lost() {
    for (again, lost) in [(false, false), (true, true)] {
        let mut bench = bench();
        bench.write(1, 0, 8, 1);
        bench.settle();
        let writes = bench.volume.writes();
        if again {
            bench.write(2, 8, 8, 2);
            bench.settle();
        }
        bench.volume.made_stable(writes);
        bench.volume.set_gone();
        let old = bench.volume.release_device().unwrap();
        let new = FileId(old.0 + 1);
        bench.volume.replace_device(new, DeviceLimits { volatile: true, ..limits(512) }).unwrap();
        bench.io.file = new;
        assert_eq!(bench.volume.take_lost(), lost);
        bench.done.clear();
        bench.assert_clean();
    }
}

#[test]
fn limits_change_under_way() {
    let mut bench = bench();
    bench.write(1, 0, 512, 1);
    let smaller = DeviceLimits { max_transfer: 8192, boundary: 8192, ..limits(512) };
    bench.volume.set_device_limits(smaller).unwrap();
    bench.read(2, 3, 40);
    bench.settle();
    assert_eq!((bench.result(1), bench.result(2)), (Ok(()), Ok(())));
    assert!(bench.volume.set_device_limits(DeviceLimits { align: 1024, ..smaller }).is_err());
    let wrong = DeviceLimits { boundary: 6000, ..smaller };
    assert_eq!(bench.volume.set_device_limits(wrong), Err(kagami_volume::PlanError::Boundary(6000)));
    bench.io.limits = smaller;
    assert_eq!(bench.execute(read(0, 512), Scatter::new()).data.to_vec(), bytes(1, 512 * 512));
    bench.assert_clean();
}

#[test]
fn nothing_crosses_a_boundary_of_the_device() {
    let limits = DeviceLimits { boundary: 16384, ..limits(512) };
    let mut bench = Bench::disk(BlockSize::B512, BYTES, limits, |_| {});
    bench.write(1, 31, 66, 1);
    let offsets: Vec<_> = bench.io.waiting.iter().filter_map(|(_, op)| support::written(op)).collect();
    let (start, end) = (31 * 512, 97 * 512);
    assert_eq!(offsets, [(start, 16384), (16384, 32768), (32768, 49152), (49152, end)]);
    bench.settle();
    // More than one operation: stable only by a flush.
    let op = BlockOp::Write(range(31, 2), Access { fua: true, dpo: false });
    let data = bench.data(&bytes(2, 1024));
    assert!(bench.submit(2, op, data).is_none());
    bench.happen(0);
    bench.happen(0);
    assert!(matches!(bench.io.waiting[0].1, Op::Flush(_)));
    bench.settle();
    assert_eq!(bench.execute(read(31, 66), Scatter::new()).data.to_vec()[..1024], bytes(2, 1024));
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn odd_alignments_are_obeyed() {
    let limits = DeviceLimits { memory_align: 4096, ..limits(512) };
    let mut bench = Bench::disk(BlockSize::B512, BYTES, limits, |_| {});
    let data = bench.shifted(&bytes(3, 8192), 512);
    assert!(bench.submit(1, write(0, 16), data).is_none());
    assert_eq!(bench.volume.counters().bounced, 1);
    bench.settle();
    assert_eq!(bench.io.medium[..8192], bytes(3, 8192));
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn the_largest_transfer_fits_the_quota_at_any_place() {
    let cases = [(512, 1024, 0), (512, 65536, 0), (4096, 65536, 0), (16384, 1 << 20, 0), (512, 65536, 12288)];
    for (align, max_transfer, boundary) in cases {
        let limits = DeviceLimits { max_transfer, boundary, ..limits(align) };
        let mut bench = Bench::disk(BlockSize::B512, BYTES, limits, |plan| plan.pages = 700);
        let largest = u32::try_from(bench.volume.largest_transfer().0).unwrap();
        assert!((96..5600).contains(&largest), "{largest}");
        for lba in [0, 1, 7] {
            let bytes = bytes(lba, largest as usize * 512);
            for data in [bench.data(&bytes), bench.shifted(&bytes, 3)] {
                let op = BlockOp::WriteVerify { range: range(lba, largest), compare: true };
                assert_eq!(bench.execute(op, data).result, Ok(()));
            }
            assert_eq!(bench.execute(read(lba, largest), Scatter::new()).data.to_vec(), bytes);
            let blocks = (largest / 4).min(255);
            let data = bench.data(&[&bytes[..blocks as usize * 512]; 2].concat());
            let op = BlockOp::CompareAndWrite(range(lba, blocks), Access::default());
            assert_eq!(bench.execute(op, data).result, Ok(()));
        }
        bench.assert_clean();
    }
}

#[test]
fn a_volume_among_others_leaves_pages_on_a_device_that_hangs() {
    let mut bench =
        Bench::disk(BlockSize::B512, BYTES, limits(512), |plan| (plan.slots, plan.pages) = (4096, 1 << 20));
    bench.volume.set_fair_share(16);
    // Others have all but 64 pages.
    let free = bench.arena.free_for_hosts(Class::Page);
    let others = bench.data(&vec![0; (free as usize - 64) * 4096]);
    let begun = |bench: &mut Bench, from: u64| {
        (from..from + 4096).take_while(|&tag| bench.submit(tag, read(0, 8), Scatter::new()).is_none()).count()
    };
    let count = begun(&mut bench, 0);
    assert!((60..260).contains(&count), "{count} pages of 64 that were left");
    assert_eq!(bench.submit(5000, read(0, 8), Scatter::new()).unwrap().result, Err(BlockError::Busy));
    // What others give back is there for it as well.
    drop(others);
    assert!(begun(&mut bench, 10_000) > 100);
    bench.settle();
    bench.done.clear();
    assert!(bench.submit(6000, read(0, 8), Scatter::new()).is_none());
    bench.settle();
    assert_eq!(bench.result(6000), Ok(()));
}

#[test]
fn holes_of_a_file_are_told_as_they_come_and_go() {
    let mut bench = bench();
    let mut holes = kagami_volume::Holes::none(BYTES);
    holes.discarded(0, BYTES);
    bench.volume.set_holes(holes);
    let ask = |bench: &mut Bench, lba: u64| {
        let outcome = bench.execute(BlockOp::LbaStatus { lba: Lba(lba), descriptors: 8 }, Scatter::new());
        let runs = outcome.status.iter().map(|run: &LbaStatus| (run.lba.0, run.blocks, run.deallocated));
        runs.collect::<Vec<_>>()
    };
    assert_eq!(ask(&mut bench, 0), [(0, 8192, true)]);
    // Mapped from the moment on at which the device has it to write.
    bench.write(1, 20, 8, 7);
    assert_eq!(ask(&mut bench, 0), [(0, 16, true), (16, 16, false), (32, 8160, true)]);
    bench.settle();
    assert_eq!(bench.result(1), Ok(()));
    let data = Scatter::new();
    assert_eq!(bench.execute(BlockOp::Unmap(vec![range(16, 16)]), data).result, Ok(()));
    assert_eq!(ask(&mut bench, 0), [(0, 8192, true)]);
}
