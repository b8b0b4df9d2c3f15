//! The disk controller, one device operation at a time.

#![allow(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

mod support;

use kagami_memory::{Class, Purpose, Scatter};
use kagami_reactor::{Errno, Op};
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockSize, Compare, Lba, Time};
use kagami_volume::Aborted;
use std::time::Duration;
use support::steps::{BYTES, bench, flush, range, read, write};
use support::{Bench, TIMEOUT, bytes, limits};

#[test]
fn a_read_is_one_operation_and_its_pages_are_handed_out() {
    let mut bench = bench();
    bench.io.medium = bytes(1, BYTES as usize);
    bench.read(1, 8, 16);
    assert_eq!(bench.volume.in_flight(), 1);
    bench.happen(0);
    let outcome = bench.outcome(1);
    assert_eq!(outcome.data.to_vec(), bench.io.medium[4096..4096 + 8192]);
    drop(outcome);
    bench.assert_clean();
}

#[test]
fn overlapping_writes_keep_their_order() {
    let mut bench = bench();
    bench.write(1, 0, 16, 1);
    bench.write(2, 8, 16, 2);
    bench.write(3, 100, 8, 3);
    bench.write(4, 0, 4, 4);
    assert_eq!(bench.io.waiting.len(), 2, "only those that overlap nothing");
    bench.happen(1);
    assert_eq!(bench.outcomes(), [3]);
    bench.happen(0);
    assert_eq!(bench.io.waiting.len(), 2);
    bench.settle();
    let mut expected = bytes(1, 8192);
    expected[..2048].copy_from_slice(&bytes(4, 2048));
    expected[4096..].copy_from_slice(&bytes(2, 8192)[..4096]);
    assert_eq!(bench.io.medium[..8192], expected);
    assert_eq!(bench.volume.counters().conflicts, 2);
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn a_read_passes_a_write_but_not_an_exchange() {
    let mut bench = bench();
    bench.write(1, 0, 8, 1);
    bench.read(2, 0, 8);
    assert_eq!(bench.io.waiting.len(), 2);
    let mut both = vec![0; 4096];
    both.extend(bytes(9, 4096));
    let data = bench.data(&both);
    assert!(bench.submit(3, BlockOp::CompareAndWrite(range(0, 8), Access::default()), data).is_none());
    bench.read(4, 4, 1);
    assert_eq!(bench.io.waiting.len(), 2, "the exchange waits for both, the second read for the exchange");
    bench.settle();
    assert_eq!(bench.result(3), Err(BlockError::Miscompare(0)));
    assert_eq!(bench.outcome(4).data.to_vec(), bytes(1, 4096)[2048..2560]);
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn of_many_exchanges_of_one_value_one_succeeds() {
    for align in [512, 4096] {
        let mut bench = Bench::disk(BlockSize::B512, BYTES, limits(align), |_| {});
        for tag in 0..6 {
            let mut both = vec![0; 512];
            both.extend(vec![u8::try_from(tag).unwrap() + 1; 512]);
            let data = bench.shifted(&both, 100);
            assert!(
                bench.submit(tag, BlockOp::CompareAndWrite(range(9, 1), Access::default()), data).is_none()
            );
        }
        bench.settle();
        let winners: Vec<u64> =
            bench.done.iter().filter(|(_, outcome)| outcome.result.is_ok()).map(|(tag, _)| tag.0).collect();
        assert_eq!(winners, [0], "the first to come");
        assert!(bench.io.medium[9 * 512..10 * 512].iter().all(|&byte| byte == 1));
        bench.done.clear();
        bench.assert_clean();
    }
}

#[test]
fn large_transfers_are_cut_and_put_together_in_any_order() {
    let mut bench = bench();
    let blocks = 1000;
    bench.write(1, 24, blocks, 7);
    assert_eq!(bench.io.waiting.len(), 8, "64 KiB each, as deep as the device");
    while !bench.io.waiting.is_empty() {
        let last = bench.io.waiting.len() - 1;
        bench.happen(last);
    }
    assert_eq!(bench.result(1), Ok(()));
    bench.read(2, 24, blocks);
    while !bench.io.waiting.is_empty() {
        bench.happen(bench.io.waiting.len() / 2);
    }
    assert_eq!(bench.outcome(2).data.to_vec(), bytes(7, 512_000));
    bench.assert_clean();
}

#[test]
fn short_transfers_go_on_where_they_ended() {
    let mut bench = bench();
    bench.write(1, 0, 64, 5);
    bench.happen_short(0, 10_000);
    assert!(matches!(&bench.io.waiting[0].1, Op::Write { offset: 9728, .. }), "{:?}", bench.io.waiting);
    bench.happen_short(0, 512);
    bench.happen(0);
    assert_eq!(bench.result(1), Ok(()));
    bench.read(2, 0, 64);
    bench.happen_short(0, 12_300);
    assert!(matches!(&bench.io.waiting[0].1, Op::Read(_, 12_288, _)));
    bench.happen_short(0, 1);
    bench.happen(0);
    assert_eq!(bench.outcome(2).data.to_vec(), bytes(5, 32768));
    bench.assert_clean();
}

#[test]
fn a_device_that_moves_nothing_fails_at_the_block_where_it_stops() {
    let mut bench = bench();
    bench.read(1, 8, 64);
    bench.happen_short(0, 4096 + 1536);
    bench.happen_short(0, 1536);
    bench.happen_short(0, 1536);
    assert_eq!(bench.result(1), Err(BlockError::ReadMedium(Lba(8 + 8 + 3))));
    bench.write(2, 8, 64, 1);
    bench.happen_short(0, 1024);
    bench.happen_short(0, 0);
    bench.happen_short(0, 0);
    assert_eq!(bench.result(2), Err(BlockError::WriteMedium(Lba(10))));
    bench.assert_clean();
}

#[test]
fn a_bad_block_is_found() {
    for (align, blocks, bad) in [(512, 100, 77), (512, 128, 0), (4096, 128, 120), (512, 1, 0)] {
        let mut bench = Bench::disk(BlockSize::B512, BYTES, limits(align), |_| {});
        bench.read(1, 16, blocks);
        let at = (16 + bad) * 512;
        let mut steps = 0;
        while !bench.io.waiting.is_empty() {
            steps += 1;
            assert!(steps < 20);
            let hit = match &bench.io.waiting[0].1 {
                Op::Read(_, offset, list) => (*offset..*offset + list.len_bytes() as u64).contains(&at),
                other => panic!("{other:?}"),
            };
            if hit { bench.fail(0, Errno::IO) } else { bench.happen(0) }
        }
        let unit = u64::from(align) / 512;
        let expected = (16 + bad) / unit * unit;
        assert_eq!(bench.result(1), Err(BlockError::ReadMedium(Lba(expected))), "{align} {blocks} {bad}");
        bench.assert_clean();
    }
}

#[test]
fn the_lowest_of_several_errors_is_reported() {
    let mut bench = bench();
    bench.write(1, 0, 512, 1);
    assert_eq!(bench.io.waiting.len(), 4);
    bench.fail(3, Errno::NO_SPACE);
    bench.fail(1, Errno::IO);
    bench.fail(1, Errno::NO_DEVICE);
    assert!(bench.done.is_empty(), "not before all are back");
    bench.happen(0);
    assert_eq!(bench.result(1), Err(BlockError::WriteMedium(Lba(128))));
    bench.read(2, 0, 1);
    bench.fail(0, Errno::NO_DEVICE);
    assert_eq!(bench.result(2), Err(BlockError::Gone));
    bench.write(3, 0, 1, 1);
    bench.fail(0, Errno::NO_SPACE);
    assert_eq!(bench.result(3), Err(BlockError::NoSpace));
    bench.assert_clean();
}

#[test]
fn what_timed_out_keeps_its_pages_and_its_range() {
    let mut bench = bench();
    bench.write(1, 0, 8, 1);
    bench.pass(Duration::from_secs(5));
    assert!(bench.done.is_empty());
    bench.write(2, 4, 8, 2);
    bench.write(3, 100, 8, 3);
    assert_eq!(bench.volume.next_deadline(), Time(1_000) + TIMEOUT);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.result(1), Err(BlockError::TimedOut));
    assert_eq!(bench.io.waiting.len(), 2, "the newer write to the range is not issued");
    assert!(!bench.volume.is_idle());
    assert_eq!(bench.volume.pages().0, 3);
    // The newer one was never issued, so it can be sent again.
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.result(2), Err(BlockError::Busy));
    assert_eq!(bench.result(3), Err(BlockError::TimedOut));
    bench.write(4, 0, 8, 4);
    assert_eq!(bench.io.waiting.len(), 2);
    // At last the device answers: the range is free.
    bench.happen(0);
    assert_eq!(bench.io.waiting.len(), 2);
    bench.settle();
    assert_eq!(bench.outcomes(), [4], "each answered once");
    assert_eq!(bench.io.medium[..4096], bytes(4, 4096));
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn a_hung_read_is_in_nobodys_way() {
    let mut bench = bench();
    bench.read(1, 0, 8);
    bench.pass(TIMEOUT);
    assert_eq!(bench.result(1), Err(BlockError::TimedOut));
    let data = bench.data(&[0; 1024]);
    assert!(bench.submit(2, BlockOp::CompareAndWrite(range(0, 1), Access::default()), data).is_none());
    assert_eq!(bench.io.waiting.len(), 2, "an exclusive operation goes past");
    let free = bench.arena.free(Class::Page);
    bench.happen(0);
    assert_eq!(bench.arena.free(Class::Page), free + 1, "its page comes back with the completion");
    bench.settle();
    assert_eq!(bench.result(2), Ok(()));
    bench.assert_clean();
}

#[test]
fn aborts_take_back_what_the_device_has_not() {
    let mut bench = bench();
    bench.write(1, 0, 8, 1);
    bench.write(2, 0, 8, 2);
    assert_eq!(bench.abort(2), Aborted::Dropped);
    assert_eq!(bench.result(2), Err(BlockError::Aborted));
    assert_eq!(bench.abort(1), Aborted::Pending);
    assert!(bench.done.is_empty());
    bench.write(3, 0, 8, 3);
    assert_eq!(bench.io.waiting.len(), 1);
    bench.happen(0);
    assert_eq!(bench.result(1), Err(BlockError::Aborted));
    assert_eq!(bench.abort(1), Aborted::NotFound);
    bench.settle();
    assert_eq!(bench.result(3), Ok(()));
    assert_eq!(bench.io.medium[..4096], bytes(3, 4096));
    bench.assert_clean();
}

#[test]
fn an_aborted_exchange_writes_nothing() {
    let mut bench = bench();
    let mut both = vec![0; 512];
    both.extend([1; 512]);
    let data = bench.data(&both);
    assert!(bench.submit(1, BlockOp::CompareAndWrite(range(0, 1), Access::default()), data).is_none());
    assert_eq!(bench.abort(1), Aborted::Pending);
    bench.happen(0);
    assert_eq!(bench.result(1), Err(BlockError::Aborted));
    assert!(bench.io.waiting.is_empty() && bench.io.medium[..512] == [0; 512]);
    bench.assert_clean();
}

#[test]
fn flushes_are_shared() {
    let mut bench = bench();
    for tag in 1..=4 {
        assert!(bench.submit(tag, flush(), Scatter::new()).is_none());
    }
    assert_eq!(bench.io.waiting.len(), 1, "one runs, one is due for all that came since");
    bench.happen(0);
    assert_eq!(bench.outcomes(), [1]);
    bench.happen(0);
    assert_eq!(bench.outcomes(), [1, 2, 3, 4]);
    assert_eq!(bench.io.flushes, 2);
    bench.done.clear();
    assert!(bench.submit(5, flush(), Scatter::new()).is_none());
    assert!(bench.submit(6, flush(), Scatter::new()).is_none());
    assert_eq!(bench.abort(6), Aborted::Dropped);
    bench.fail(0, Errno::IO);
    assert_eq!(bench.result(5), Err(BlockError::Device));
    assert_eq!(bench.result(6), Err(BlockError::Aborted));
    bench.assert_clean();
}

#[test]
fn writes_are_stable_when_they_have_to_be() {
    let stable = |bench: &Bench| {
        let stable = |(_, op): &(_, Op)| matches!(op, Op::Write { stable: true, .. });
        bench.io.waiting.iter().filter(|op| stable(op)).count()
    };
    let mut bench = bench();
    bench.write(1, 0, 8, 1);
    assert_eq!(stable(&bench), 0);
    let fua = |lba, blocks| BlockOp::Write(range(lba, blocks), Access { fua: true, dpo: false });
    let data = bench.data(&[1; 4096]);
    bench.submit(2, fua(100, 8), data);
    assert_eq!(stable(&bench), 1);
    bench.settle();
    assert_eq!(bench.io.flushes, 0);
    // In several pieces: one flush behind them.
    let data = bench.data(&vec![1; 256 << 10]);
    bench.submit(3, fua(0, 512), data);
    assert_eq!((stable(&bench), bench.io.waiting.len()), (0, 4));
    bench.settle();
    assert_eq!(bench.io.flushes, 1);
    bench.volume.set_write_back(false);
    bench.write(4, 0, 8, 1);
    assert_eq!(stable(&bench), 1);
    bench.settle();
    bench.execute(BlockOp::Unmap(vec![range(0, 8)]), Scatter::new()).result.unwrap();
    assert_eq!(bench.io.flushes, 2, "also what was discarded");
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn a_read_with_fua_flushes_what_may_not_be_stable() {
    let mut bench = bench();
    let fua = BlockOp::Read(range(0, 8), Access { fua: true, dpo: false });
    bench.execute(fua.clone(), Scatter::new()).result.unwrap();
    assert_eq!(bench.io.flushes, 1, "nothing is known of what was before");
    bench.execute(fua.clone(), Scatter::new()).result.unwrap();
    assert_eq!(bench.io.flushes, 1);
    bench.write(1, 0, 8, 1);
    bench.settle();
    bench.execute(fua, Scatter::new()).result.unwrap();
    assert_eq!(bench.io.flushes, 2);
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn write_and_verify_reads_the_medium_back() {
    let mut bench = bench();
    let data = bench.data(&bytes(1, 4096));
    let op = BlockOp::WriteVerify { range: range(0, 8), compare: true };
    bench.submit(1, op, data);
    bench.happen(0);
    assert!(matches!(bench.io.waiting[0].1, Op::Flush(_)));
    bench.happen(0);
    assert!(matches!(bench.io.waiting[0].1, Op::Read(..)));
    bench.io.medium[3000] ^= 1;
    bench.happen(0);
    assert_eq!(bench.result(1), Err(BlockError::Miscompare(3000)));
    bench.assert_clean();
}

#[test]
fn slots_and_pages_are_bounded() {
    let mut bench = bench();
    for tag in 0..32 {
        bench.write(tag, tag * 8, 8, tag);
    }
    assert_eq!(bench.io.waiting.len(), 8, "the device's depth");
    let data = bench.data(&[0; 512]);
    let outcome = bench.submit(99, write(1000, 1), data).unwrap();
    assert_eq!(outcome.result, Err(BlockError::Busy));
    bench.settle();
    assert_eq!(bench.outcomes(), (0..32).collect::<Vec<u64>>(), "first come, first served");
    bench.done.clear();
    // The quota of 2048 pages is 8 MiB: 4 and 2 go in, another 4 do not.
    bench.read(1, 0, 8192);
    bench.read(2, 0, 4096);
    let outcome = bench.submit(3, read(0, 8192), Scatter::new()).unwrap();
    assert_eq!(outcome.result, Err(BlockError::Busy));
    assert_eq!(bench.volume.counters().busy, 2);
    bench.settle();
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn without_pages_a_read_waits_and_is_then_sent_back() {
    let mut bench = bench();
    let mut hoard = Vec::new();
    while let Some(page) = bench.pool.take(Class::Page, Purpose::Host) {
        hoard.push(page);
    }
    bench.read(1, 0, 8);
    bench.read(2, 8, 8);
    assert!(bench.io.waiting.is_empty());
    assert!(bench.volume.next_deadline() <= bench.io.now + Duration::from_millis(1));
    hoard.pop();
    bench.tick();
    assert_eq!(bench.io.waiting.len(), 1);
    bench.happen(0);
    bench.pass(TIMEOUT);
    assert_eq!(bench.result(2), Err(BlockError::Busy));
    drop(hoard);
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn a_full_ring_is_tried_again() {
    let mut bench = bench();
    bench.io.room = 1;
    for tag in 0..4 {
        bench.write(tag, tag * 8, 8, tag);
    }
    assert_eq!(bench.io.waiting.len(), 1);
    assert_eq!(bench.abort(1), Aborted::Dropped, "the ring gave it back, so the device never had it");
    bench.happen(0);
    assert_eq!(bench.io.waiting.len(), 1);
    bench.settle();
    assert_eq!(bench.outcomes(), [1, 0, 2, 3]);
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn small_writes_on_large_blocks_keep_their_neighbours() {
    let mut bench = Bench::disk(BlockSize::B512, BYTES, limits(4096), |_| {});
    bench.io.medium = bytes(1, BYTES as usize);
    let mut expected = bench.io.medium.clone();
    for (tag, lba) in (0..8).enumerate() {
        bench.write(tag as u64, lba, 1, lba + 50);
        expected[lba as usize * 512..][..512].copy_from_slice(&bytes(lba + 50, 512));
    }
    assert_eq!(bench.io.waiting.len(), 1, "one at a time in one block of the device");
    bench.settle();
    assert!(bench.io.medium == expected);
    // Long and askew: its two ends are read, and only they are copied.
    bench.write(20, 1001, 300, 9);
    expected[1001 * 512..1301 * 512].copy_from_slice(&bytes(9, 300 * 512));
    bench.settle();
    assert!(bench.io.medium == expected);
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn zeroes_are_asked_for_and_otherwise_written() {
    let same = |lba, blocks, unmap| BlockOp::WriteSame {
        lba: Lba(lba),
        blocks: BlockCount(blocks),
        unmap,
        zeroes: true,
    };
    let mut bench = Bench::disk(BlockSize::B512, BYTES, limits(4096), |_| {});
    bench.io.medium = bytes(1, BYTES as usize);
    bench.submit(1, same(0, 4096, false), Scatter::new());
    assert!(matches!(bench.io.waiting[0].1, Op::Zero(_, 0, 1_048_576)));
    assert_eq!(bench.io.waiting.len(), 1, "one at a time");
    bench.settle();
    bench.submit(2, same(4096, 800, true), Scatter::new());
    assert!(matches!(bench.io.waiting[0].1, Op::Discard(..)));
    bench.settle();
    (bench.io.discards, bench.io.zeroes) = (false, false);
    bench.submit(3, BlockOp::Unmap(vec![range(5001, 999)]), Scatter::new());
    bench.settle();
    assert!(bench.io.medium[..4896 * 512].iter().all(|&byte| byte == 0));
    assert!(bench.io.medium[5001 * 512..6000 * 512].iter().all(|&byte| byte == 0));
    assert_eq!(bench.io.medium[6000 * 512..], bytes(1, BYTES as usize)[6000 * 512..]);
    assert_eq!(bench.io.medium[4896 * 512..5001 * 512], bytes(1, BYTES as usize)[4896 * 512..5001 * 512]);
    // It said that it cannot: it is not asked again.
    bench.submit(4, BlockOp::Unmap(vec![range(0, 8)]), Scatter::new());
    assert!(matches!(bench.io.waiting[0].1, Op::Write { .. }));
    bench.settle();
    assert!(bench.done.iter().all(|(_, outcome)| outcome.result.is_ok()));
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn ranges_of_an_unmap_are_kept_apart() {
    let mut bench = bench();
    bench.submit(1, BlockOp::Unmap(vec![range(0, 8), range(1000, 8)]), Scatter::new());
    bench.write(2, 500, 8, 1);
    bench.write(3, 1000, 8, 2);
    assert_eq!(bench.io.waiting.len(), 2, "the write between them goes at once");
    bench.settle();
    assert_eq!(bench.io.medium[1000 * 512..1008 * 512], bytes(2, 4096));
    bench.done.clear();
    bench.assert_clean();
}

#[test]
fn what_is_not_on_the_volume_is_refused() {
    let mut bench = bench();
    let end = BYTES / 512;
    let refused = |bench: &mut Bench, op, data| bench.submit(1, op, data).unwrap().result;
    for op in [
        read(end, 1),
        read(end - 1, 2),
        read(u64::MAX, 1),
        BlockOp::Flush { lba: Lba(end + 1), blocks: BlockCount(0) },
        BlockOp::Unmap(vec![range(0, 1), range(end, 1)]),
        BlockOp::WriteSame { lba: Lba(1), blocks: BlockCount(u64::MAX), unmap: false, zeroes: true },
        BlockOp::LbaStatus { lba: Lba(end), descriptors: 1 },
        BlockOp::Verify { range: range(end, 1), against: Compare::Nothing },
    ] {
        assert_eq!(refused(&mut bench, op.clone(), Scatter::new()), Err(BlockError::OutOfRange), "{op:?}");
    }
    let data = bench.data(&[0; 1024]);
    assert_eq!(refused(&mut bench, write(0, 1), data), Err(BlockError::Unsupported), "too much data");
    bench.volume.set_read_only(true);
    let data = bench.data(&[0; 512]);
    assert_eq!(refused(&mut bench, write(0, 1), data), Err(BlockError::WriteProtected));
    bench.volume.set_quiesced(true);
    assert_eq!(refused(&mut bench, read(0, 1), Scatter::new()), Err(BlockError::Busy));
    bench.volume.set_quiesced(false);
    assert_eq!(bench.execute(read(end, 0), Scatter::new()).result, Ok(()), "no blocks at the very end");
    bench.assert_clean();
}
