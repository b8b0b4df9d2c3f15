//! Volumes in memory and the null volume: which pages are handed out, and when they change.

#![allow(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

mod support;

use kagami_memory::{Class, Page, Purpose, Scatter};
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, BlockSize, Compare, Lba, LbaStatus};
use kagami_volume::{Aborted, PlanError, Storage};
use support::{Bench, bytes, limits};

const BYTES: u64 = 1 << 20;

fn ram(pages: u64) -> Bench {
    Bench::new(BlockSize::B512, BYTES, limits(512), Storage::Ram, |plan| plan.pages = pages)
}

fn range(lba: u64, blocks: u32) -> BlockRange {
    BlockRange { lba: Lba(lba), blocks }
}

fn read(bench: &mut Bench, lba: u64, blocks: u32) -> Scatter {
    let outcome =
        bench.submit(1, BlockOp::Read(range(lba, blocks), Access::default()), Scatter::new()).unwrap();
    assert_eq!(outcome.result, Ok(()));
    outcome.data
}

fn write(bench: &mut Bench, lba: u64, data: Scatter) -> Result<(), BlockError> {
    let blocks = u32::try_from(data.len_bytes() / 512).unwrap();
    let outcome = bench.submit(1, BlockOp::Write(range(lba, blocks), Access::default()), data).unwrap();
    assert!(outcome.data.is_empty());
    outcome.result
}

fn first(list: &Scatter) -> &Page {
    list.parts()[0].page()
}

#[test]
fn whole_pages_go_in_and_out_without_a_copy() {
    let mut bench = ram(256);
    let data = bench.data(&bytes(1, 8192));
    let page = first(&data).clone();
    write(&mut bench, 8, data).unwrap();
    let got = read(&mut bench, 8, 16);
    assert!(first(&got).same(&page));
    assert_eq!(got.to_vec(), bytes(1, 8192));
    assert_eq!(bench.volume.pages(), (2, 256));
}

#[test]
fn a_page_that_was_given_out_never_changes() {
    let mut bench = ram(256);
    let data = bench.data(&bytes(1, 4096));
    write(&mut bench, 0, data).unwrap();
    let sent = read(&mut bench, 0, 8);
    let small = bench.data(&[7; 512]);
    write(&mut bench, 1, small).unwrap();
    assert_eq!(sent.to_vec(), bytes(1, 4096), "still what was read");
    let page = first(&read(&mut bench, 0, 1)).clone();
    assert!(!first(&sent).same(&page), "the write went to a copy");
    drop((sent, page));
    let pointer = first(&read(&mut bench, 0, 1)).as_ptr();
    let small = bench.data(&[8; 512]);
    write(&mut bench, 2, small).unwrap();
    assert_eq!(first(&read(&mut bench, 0, 1)).as_ptr(), pointer, "nobody has it: changed in place");
    let mut expected = bytes(1, 4096);
    expected[512..1024].fill(7);
    expected[1024..1536].fill(8);
    assert_eq!(read(&mut bench, 0, 8).to_vec(), expected);
}

#[test]
fn a_list_handed_in_comes_back_with_its_storage() {
    let mut bench = ram(256);
    let mut list = Scatter::with_capacity(64);
    list.push_page(bench.pool.take(Class::Page, Purpose::Host).unwrap().freeze());
    let outcome = bench.submit(1, BlockOp::Write(range(0, 8), Access::default()), list).unwrap();
    assert!(outcome.data.is_empty() && outcome.data.capacity() >= 64);
    let outcome = bench.submit(1, BlockOp::Read(range(0, 8), Access::default()), outcome.data).unwrap();
    assert!(outcome.data.capacity() >= 64 && outcome.data.len_bytes() == 4096);
}

#[test]
fn a_volume_holds_no_more_than_its_quota_and_a_write_happens_wholly_or_not() {
    let mut bench = ram(3);
    let data = bench.data(&bytes(1, 16384));
    assert_eq!(write(&mut bench, 0, data), Err(BlockError::NoSpace));
    let data = bench.data(&bytes(1, 12288));
    write(&mut bench, 0, data).unwrap();
    let data = bench.shifted(&bytes(2, 1024), 64);
    assert_eq!(write(&mut bench, 23, data), Err(BlockError::NoSpace), "its second half has no page");
    assert_eq!(read(&mut bench, 23, 1).to_vec(), bytes(1, 12288)[11776..]);
    let data = bench.data(&bytes(3, 12288));
    write(&mut bench, 0, data).unwrap();
    let outcome = bench.submit(1, BlockOp::Unmap(vec![range(0, 8)]), Scatter::new()).unwrap();
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(bench.volume.pages().0, 2);
    let same = BlockOp::WriteSame { lba: Lba(64), blocks: BlockCount(64), unmap: false, zeroes: false };
    let data = bench.data(&[9; 512]);
    assert_eq!(bench.submit(1, same, data).unwrap().result, Err(BlockError::NoSpace));
    assert_eq!(read(&mut bench, 64, 64).to_vec(), vec![0; 32768]);
}

#[test]
fn without_pages_a_small_write_is_sent_back_and_nothing_has_changed() {
    let mut bench = ram(256);
    let data = bench.data(&bytes(1, 512));
    let mut hoard = Vec::new();
    while let Some(page) = bench.pool.take(Class::Page, Purpose::Host) {
        hoard.push(page);
    }
    assert_eq!(write(&mut bench, 9, data.clone()), Err(BlockError::Busy));
    assert_eq!(bench.volume.pages().0, 0);
    hoard.pop();
    write(&mut bench, 9, data).unwrap();
    assert_eq!(read(&mut bench, 9, 1).to_vec(), bytes(1, 512));
}

#[test]
fn allocated_blocks_are_told_from_deallocated_ones() {
    let mut bench = ram(256);
    for lba in [8, 16, 64] {
        let data = bench.data(&[1; 512]);
        write(&mut bench, lba, data).unwrap();
    }
    let status = |bench: &mut Bench, lba, descriptors| {
        let op = BlockOp::LbaStatus { lba: Lba(lba), descriptors };
        bench.submit(1, op, Scatter::new()).unwrap().status
    };
    let run = |lba, blocks, deallocated| LbaStatus { lba: Lba(lba), blocks, deallocated };
    assert_eq!(
        status(&mut bench, 3, 9),
        [run(3, 5, true), run(8, 16, false), run(24, 40, true), run(64, 8, false), run(72, 1976, true)]
    );
    assert_eq!(status(&mut bench, 9, 1), [run(9, 15, false)]);
    assert_eq!(status(&mut bench, 2047, 1), [run(2047, 1, true)]);
}

#[test]
fn a_larger_volume_has_new_blocks_that_are_zeroes() {
    let mut bench = ram(256);
    bench.volume.grow(BlockCount(4096)).unwrap();
    assert_eq!(bench.volume.pages(), (0, 512));
    let data = bench.data(&bytes(1, 512));
    write(&mut bench, 4095, data).unwrap();
    assert_eq!(read(&mut bench, 4094, 1).to_vec(), [0; 512]);
    assert_eq!(bench.volume.grow(BlockCount(8)), Err(PlanError::Shrink { from: 4096, to: 8 }));
    assert_eq!(bench.abort(1), Aborted::NotFound);
}

#[test]
fn the_null_volume_reads_zeroes_and_drops_writes() {
    let mut bench = Bench::new(BlockSize::B4096, 1 << 30, limits(4096), Storage::Null, |_| {});
    let data = bench.data(&bytes(1, 8192));
    let op = BlockOp::Write(range(5, 2), Access::default());
    assert_eq!(bench.submit(1, op, data).unwrap().result, Ok(()));
    let op = BlockOp::Read(range((1 << 18) - 64, 64), Access::default());
    let outcome = bench.submit(1, op, Scatter::new()).unwrap();
    assert_eq!(outcome.data.to_vec(), vec![0; 64 * 4096]);
    let mut data = vec![0; 8192];
    let exchange = BlockOp::CompareAndWrite(range(0, 1), Access::default());
    let list = bench.data(&data);
    assert_eq!(bench.submit(1, exchange.clone(), list).unwrap().result, Ok(()));
    data[100] = 1;
    let list = bench.data(&data);
    assert_eq!(bench.submit(1, exchange, list).unwrap().result, Err(BlockError::Miscompare(100)));
    let list = bench.data(&data[..4096]);
    let verify = BlockOp::Verify { range: range(3, 9), against: Compare::OneBlock };
    assert_eq!(bench.submit(1, verify, list).unwrap().result, Err(BlockError::Miscompare(100)));
    let counters = bench.volume.counters();
    assert_eq!((counters.reads, counters.writes, counters.others), (1, 3, 1));
    assert_eq!((counters.read_bytes, counters.errors), (64 * 4096, 0));
}
