//! Many operations at once on few blocks, over a device that answers late, in any order, short or with
//! errors. Whatever happens: every operation is answered once, a read gives a value that the block had or
//! was being given meanwhile, and in the end nothing is held.

#![allow(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

mod support;

use kagami_memory::Scatter;
use kagami_reactor::{Errno, Op};
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, BlockSize, Lba};
use kagami_volume::{Aborted, DeviceLimits};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use support::{Bench, limits};

/// Few, so that they collide.
const BLOCKS: u64 = 512;

#[derive(Clone, Debug)]
enum Move {
    Read(u64, u32, bool),
    Write(u64, u32, bool),
    Same(u64, u32),
    Exchange(u64, u32),
    Unmap(Vec<(u64, u32)>),
    Flush,
    Abort(usize),
    Happen(usize),
    Short(usize, usize),
    Fail(usize, u8),
    Pass(u16),
    Room(usize),
}

fn place() -> impl Strategy<Value = (u64, u32)> {
    (0..BLOCKS, prop_oneof![3 => 1u32..12, 1 => 1u32..200])
        .prop_map(|(lba, blocks)| (lba, blocks.min(u32::try_from(BLOCKS - lba).unwrap())))
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (place(), any::<bool>()).prop_map(|((lba, blocks), fua)| Move::Read(lba, blocks, fua)),
        5 => (place(), any::<bool>()).prop_map(|((lba, blocks), fua)| Move::Write(lba, blocks, fua)),
        1 => place().prop_map(|(lba, blocks)| Move::Same(lba, blocks)),
        2 => place().prop_map(|(lba, blocks)| Move::Exchange(lba, blocks.min(200))),
        1 => prop::collection::vec(place(), 1..4).prop_map(Move::Unmap),
        1 => Just(Move::Flush),
        1 => (0usize..64).prop_map(Move::Abort),
        18 => (0usize..64).prop_map(Move::Happen),
        3 => ((0usize..64), 0usize..30_000).prop_map(|(at, bytes)| Move::Short(at, bytes)),
        1 => ((0usize..64), any::<u8>()).prop_map(|(at, errno)| Move::Fail(at, errno)),
        2 => (0u16..4000).prop_map(Move::Pass),
        1 => (0usize..12).prop_map(Move::Room),
    ];
    prop::collection::vec(one, 1..200)
}

/// The operation that wrote a value, and the value: UNMAP's is always 0.
type Written = (u64, u64);

/// What an operation was about.
struct Pending {
    ranges: Vec<(u64, u32)>,
    /// The value that it writes.
    value: Option<u64>,
    /// For a read: what each of its blocks may turn out to be.
    may_be: Vec<BTreeSet<Written>>,
}

struct World {
    bench: Bench,
    next: u64,
    pending: BTreeMap<u64, Pending>,
    /// What each block may be now.
    blocks: Vec<BTreeSet<Written>>,
}

fn each(ranges: &[(u64, u32)]) -> impl Iterator<Item = u64> {
    ranges.iter().flat_map(|(lba, blocks)| *lba..lba + u64::from(*blocks))
}

impl World {
    fn new(block: BlockSize, limits: DeviceLimits) -> Self {
        let bytes = BLOCKS * u64::from(block.bytes());
        let bench = Bench::disk(block, bytes, limits, |plan| plan.slots = 12);
        let zero = || BTreeSet::from([(0, 0)]);
        Self { bench, next: 1, pending: BTreeMap::new(), blocks: (0..BLOCKS).map(|_| zero()).collect() }
    }

    fn fill(&self, value: u64, blocks: u32) -> Vec<u8> {
        value.to_le_bytes().repeat(blocks as usize * self.bench.block / 8)
    }

    fn start(&mut self, ranges: Vec<(u64, u32)>, value: Option<u64>, op: BlockOp, data: Scatter) {
        let tag = self.next;
        self.next += 1;
        let reads = matches!(op, BlockOp::Read(..));
        let mut may_be = Vec::new();
        for at in each(&ranges) {
            let block = &mut self.blocks[at as usize];
            if let Some(value) = value {
                block.insert((tag, value));
                for other in self.pending.values_mut().filter(|other| !other.may_be.is_empty()) {
                    let within =
                        at.checked_sub(other.ranges[0].0).and_then(|at| other.may_be.get_mut(at as usize));
                    if let Some(set) = within {
                        set.insert((tag, value));
                    }
                }
            } else if reads {
                may_be.push(block.clone());
            }
        }
        self.pending.insert(tag, Pending { ranges, value, may_be });
        if let Some(outcome) = self.bench.submit(tag, op, data) {
            assert_eq!(outcome.result, Err(BlockError::Busy));
            self.bench.done.push((kagami_volume::Tag(tag), outcome));
        }
        self.collect();
    }

    fn collect(&mut self) {
        for (tag, outcome) in std::mem::take(&mut self.bench.done) {
            let pending = self.pending.remove(&tag.0).expect("an outcome twice, or of nothing");
            if outcome.result.is_err() {
                continue;
            }
            for (at, lba) in each(&pending.ranges).enumerate() {
                if pending.value.is_some() {
                    // What came earlier is overwritten; what came later may be there already.
                    self.blocks[lba as usize].retain(|other| other.0 >= tag.0);
                }
                if let Some(set) = pending.may_be.get(at) {
                    let block = self.bench.block;
                    let mut bytes = vec![0; block];
                    outcome.data.copy_into(&mut bytes, at * block);
                    let found = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                    assert!(bytes.chunks(8).all(|part| part == found.to_le_bytes()), "a torn block");
                    assert!(
                        set.iter().any(|may| may.1 == found),
                        "block {lba} is {found}, not one of {set:?}"
                    );
                }
            }
        }
    }

    fn step(&mut self, step: &Move) {
        let value = self.next;
        let at = |at: usize, of: usize| (of > 0).then(|| at % of.max(1));
        let range = |lba, blocks| BlockRange { lba: Lba(lba), blocks };
        match step {
            Move::Read(lba, blocks, fua) => {
                let op = BlockOp::Read(range(*lba, *blocks), Access { fua: *fua, dpo: false });
                self.start(vec![(*lba, *blocks)], None, op, Scatter::new());
            }
            Move::Write(lba, blocks, fua) => {
                let bytes = self.fill(value, *blocks);
                let data = if value.is_multiple_of(3) {
                    self.bench.shifted(&bytes, 100)
                } else {
                    self.bench.data(&bytes)
                };
                let op = BlockOp::Write(range(*lba, *blocks), Access { fua: *fua, dpo: false });
                self.start(vec![(*lba, *blocks)], Some(value), op, data);
            }
            Move::Same(lba, blocks) => {
                let data = self.bench.data(&self.fill(value, 1));
                let count = BlockCount(u64::from(*blocks));
                let op = BlockOp::WriteSame { lba: Lba(*lba), blocks: count, unmap: false, zeroes: false };
                self.start(vec![(*lba, *blocks)], Some(value), op, data);
            }
            Move::Exchange(lba, blocks) => {
                // Of what may be there, if there is one such value; it may or may not be found.
                let old = self.blocks[*lba as usize].first().map_or(0, |written| written.1);
                let mut bytes = self.fill(old, *blocks);
                bytes.extend(self.fill(value, *blocks));
                let data = self.bench.data(&bytes);
                let op = BlockOp::CompareAndWrite(range(*lba, *blocks), Access::default());
                self.start(vec![(*lba, *blocks)], Some(value), op, data);
            }
            Move::Unmap(ranges) => {
                let list = ranges.iter().map(|(lba, blocks)| range(*lba, *blocks)).collect();
                self.start(ranges.clone(), Some(0), BlockOp::Unmap(list), Scatter::new());
            }
            Move::Flush => {
                let op = BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
                self.start(Vec::new(), None, op, Scatter::new());
            }
            Move::Abort(which) => {
                let Some(which) = at(*which, self.pending.len()) else { return };
                let tag = *self.pending.keys().nth(which).unwrap();
                let before = self.bench.done.len();
                match self.bench.abort(tag) {
                    Aborted::NotFound => panic!("an operation without an outcome is gone"),
                    Aborted::Dropped => assert!(self.bench.done.len() > before),
                    Aborted::Pending => {}
                }
            }
            Move::Happen(which) => {
                if let Some(which) = at(*which, self.bench.io.waiting.len()) {
                    self.bench.happen(which);
                }
            }
            Move::Short(which, bytes) => {
                let Some(which) = at(*which, self.bench.io.waiting.len()) else { return };
                let block = self.bench.block;
                self.bench.happen_short(which, bytes - bytes % block);
            }
            Move::Fail(which, errno) => {
                let Some(which) = at(*which, self.bench.io.waiting.len()) else { return };
                let errno = match errno % 5 {
                    0 | 1 => Errno::IO,
                    2 => Errno::NO_SPACE,
                    3 if matches!(self.bench.io.waiting[which].1, Op::Discard(..) | Op::Zero(..)) => {
                        Errno::NOT_SUPPORTED
                    }
                    _ => Errno::NO_DEVICE,
                };
                self.bench.fail(which, errno);
            }
            Move::Pass(millis) => self.bench.pass(Duration::from_millis(u64::from(*millis))),
            Move::Room(room) => self.bench.io.room = (*room).max(1),
        }
        self.collect();
    }

    fn finish(mut self) {
        self.bench.settle();
        self.collect();
        assert!(self.pending.is_empty(), "operations without an outcome");
        self.step(&Move::Read(0, 256, false));
        self.step(&Move::Read(256, 256, true));
        self.bench.settle();
        self.collect();
        self.bench.assert_clean();
    }
}

fn check(block: BlockSize, limits: DeviceLimits, moves: &[Move]) {
    let mut world = World::new(block, limits);
    for step in moves {
        world.step(step);
    }
    world.finish();
}

proptest! {
    #![proptest_config(support::cases(200))]

    #[test]
    fn on_512(moves in moves()) {
        check(BlockSize::B512, DeviceLimits { max_transfer: 16384, ..limits(512) }, &moves);
    }

    #[test]
    fn on_4096(moves in moves()) {
        check(BlockSize::B512, DeviceLimits { max_transfer: 16384, depth: 4, ..limits(4096) }, &moves);
    }

    #[test]
    fn of_4096(moves in moves()) {
        check(BlockSize::B4096, limits(4096), &moves);
    }
}
