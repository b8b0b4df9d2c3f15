//! In the steady state a READ or WRITE allocates nothing, on any storage.

#![allow(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

mod support;

use kagami_memory::{Class, Purpose, Scatter};
use kagami_types::{Access, BlockOp, BlockRange, BlockSize, Lba};
use kagami_volume::Storage;
use support::{Bench, limits};

const BYTES: u64 = 1 << 20;
/// 8 KiB each, and one long enough to be cut.
const LENGTHS: [u32; 3] = [16, 8, 400];

/// Eight at once, of each kind in turn; the lists go in and come back.
fn round(bench: &mut Bench, lists: &mut Vec<Scatter>, write: bool) {
    for tag in 0..8 {
        let blocks = LENGTHS[tag as usize % LENGTHS.len()];
        let range = BlockRange { lba: Lba(tag * 16), blocks };
        let mut list = lists.pop().unwrap_or_default();
        let op = if write {
            for _ in 0..blocks / 8 {
                list.push_page(bench.pool.take(Class::Page, Purpose::Host).unwrap().freeze());
            }
            BlockOp::Write(range, Access { fua: tag == 3, dpo: false })
        } else {
            BlockOp::Read(range, Access::default())
        };
        if let Some(outcome) = bench.submit(tag, op, list) {
            outcome.result.unwrap();
            lists.push(outcome.data);
        }
    }
    while !bench.io.waiting.is_empty() {
        let last = bench.io.waiting.len() - 1;
        bench.happen(last);
    }
    for (_, outcome) in bench.done.drain(..) {
        outcome.result.unwrap();
        lists.push(outcome.data);
    }
    lists.iter_mut().for_each(Scatter::clear);
}

fn check(mut bench: Bench) {
    let mut lists: Vec<Scatter> = (0..8).map(|_| Scatter::with_capacity(128)).collect();
    for turn in 0..64 {
        round(&mut bench, &mut lists, turn % 2 == 0);
    }
    let info = allocation_counter::measure(|| {
        for turn in 0..16 {
            round(&mut bench, &mut lists, turn % 2 == 0);
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn what_is_allocated_is_counted() {
    let info = allocation_counter::measure(|| drop(std::hint::black_box(Scatter::with_capacity(3))));
    assert_eq!(info.count_total, 1);
}

#[test]
fn memory() {
    check(Bench::new(BlockSize::B512, BYTES, limits(512), Storage::Ram, |plan| plan.pages = 256));
    check(Bench::new(BlockSize::B512, BYTES, limits(512), Storage::Null, |_| {}));
}

#[test]
fn disks() {
    check(Bench::disk(BlockSize::B512, BYTES, limits(512), |_| {}));
    check(Bench::disk(BlockSize::B512, BYTES, limits(4096), |plan| plan.write_back = false));
}
