//! Random operations against a plain array of bytes, over every kind of storage.

#![allow(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

mod support;

use kagami_memory::Scatter;
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, BlockSize, Compare, Lba};
use kagami_volume::{DeviceLimits, Storage};
use proptest::prelude::*;
use support::{Bench, bytes, limits};

const BYTES: u64 = 1 << 20;

#[derive(Clone, Debug)]
enum Act {
    Read(u64, u32, bool),
    Write { lba: u64, blocks: u32, seed: u64, fua: bool, shift: usize },
    WriteVerify { lba: u64, blocks: u32, seed: u64, compare: bool },
    Verify { lba: u64, blocks: u32, change: Option<usize> },
    VerifySame { lba: u64, blocks: u32 },
    Exchange { lba: u64, blocks: u32, seed: u64, change: Option<usize>, shift: usize },
    Same { lba: u64, blocks: u64, seed: Option<u64>, unmap: bool, ndob: bool },
    Unmap(Vec<(u64, u32)>),
    Flush,
    WriteBack(bool),
}

fn act(blocks: u64) -> impl Strategy<Value = Act> {
    // Mostly short, sometimes long.
    let count = prop_oneof![4 => 0u32..20, 1 => 0u32..300];
    let place = (0..blocks, count)
        .prop_map(move |(lba, count)| (lba, count.min(u32::try_from(blocks - lba).unwrap())));
    let shift = prop_oneof![Just(0usize), Just(512), Just(1), Just(4000)];
    let seed = 0u64..6;
    let change = prop::option::weighted(0.5, 0usize..1 << 20);
    prop_oneof![
        4 => (place.clone(), any::<bool>()).prop_map(|((lba, count), fua)| Act::Read(lba, count, fua)),
        6 => (place.clone(), seed.clone(), any::<bool>(), shift.clone())
            .prop_map(|((lba, blocks), seed, fua, shift)| Act::Write { lba, blocks, seed, fua, shift }),
        1 => (place.clone(), seed.clone(), any::<bool>())
            .prop_map(|((lba, blocks), seed, compare)| Act::WriteVerify { lba, blocks, seed, compare }),
        2 => (place.clone(), change.clone()).prop_map(|((lba, blocks), change)| Act::Verify { lba, blocks, change }),
        1 => place.clone().prop_map(|(lba, blocks)| Act::VerifySame { lba, blocks }),
        3 => (place.clone(), seed.clone(), change, shift).prop_map(|((lba, blocks), seed, change, shift)| {
            Act::Exchange { lba, blocks: blocks.min(255), seed, change, shift }
        }),
        3 => (place.clone(), prop::option::of(seed), any::<bool>(), any::<bool>(), 1u64..8).prop_map(
            move |((lba, count), seed, unmap, ndob, times)| Act::Same {
                lba,
                blocks: (u64::from(count) * times).min(blocks - lba),
                seed,
                unmap,
                ndob,
            }
        ),
        2 => prop::collection::vec(place, 0..20).prop_map(Act::Unmap),
        1 => Just(Act::Flush),
        1 => any::<bool>().prop_map(Act::WriteBack),
    ]
}

fn range(lba: u64, blocks: u32) -> BlockRange {
    BlockRange { lba: Lba(lba), blocks }
}

struct Model {
    bench: Bench,
    bytes: Vec<u8>,
}

impl Model {
    fn place(&self, lba: u64, blocks: u64) -> std::ops::Range<usize> {
        let start = usize::try_from(lba).unwrap() * self.bench.block;
        start..start + usize::try_from(blocks).unwrap() * self.bench.block
    }

    fn run(&mut self, op: BlockOp, data: Scatter) -> Result<Vec<u8>, BlockError> {
        let outcome = self.bench.execute(op, data);
        assert!(outcome.status.is_empty());
        outcome.result.map(|()| outcome.data.to_vec())
    }

    fn step(&mut self, act: &Act) {
        let block = self.bench.block;
        match act {
            Act::Read(lba, blocks, fua) => {
                let place = self.place(*lba, u64::from(*blocks));
                let access = Access { fua: *fua, dpo: false };
                let got = self.run(BlockOp::Read(range(*lba, *blocks), access), Scatter::new());
                assert!(got.unwrap() == self.bytes[place], "read other data");
            }
            Act::Write { lba, blocks, seed, fua, shift } => {
                let place = self.place(*lba, u64::from(*blocks));
                let new = bytes(*seed, place.len());
                let data = match shift {
                    0 => self.bench.data(&new),
                    shift => self.bench.shifted(&new, *shift),
                };
                let access = Access { fua: *fua, dpo: false };
                self.run(BlockOp::Write(range(*lba, *blocks), access), data).unwrap();
                self.bytes[place].copy_from_slice(&new);
            }
            Act::WriteVerify { lba, blocks, seed, compare } => {
                let place = self.place(*lba, u64::from(*blocks));
                let new = bytes(*seed, place.len());
                let data = self.bench.data(&new);
                self.run(BlockOp::WriteVerify { range: range(*lba, *blocks), compare: *compare }, data)
                    .unwrap();
                self.bytes[place].copy_from_slice(&new);
            }
            Act::Verify { lba, blocks, change } => {
                let place = self.place(*lba, u64::from(*blocks));
                let mut data = self.bytes[place].to_vec();
                let expected = spoil(&mut data, *change);
                let (against, list) = match change {
                    Some(_) => (Compare::Data, self.bench.data(&data)),
                    None if lba % 2 == 0 => (Compare::Data, self.bench.shifted(&data, 100)),
                    None => (Compare::Nothing, Scatter::new()),
                };
                let got = self.run(BlockOp::Verify { range: range(*lba, *blocks), against }, list);
                assert_eq!(got.map(|_| ()), expected);
            }
            Act::VerifySame { lba, blocks } => {
                let place = self.place(*lba, u64::from(*blocks));
                let one = self.bytes[place.start..].iter().copied().take(block).collect::<Vec<u8>>();
                let differs = self.bytes[place].chunks(block).find_map(|other| first_difference(&one, other));
                let list = self.bench.data(&one);
                let op = BlockOp::Verify { range: range(*lba, *blocks), against: Compare::OneBlock };
                assert_eq!(self.run(op, list).map(|_| ()), miscompare(differs));
            }
            Act::Exchange { lba, blocks, seed, change, shift } => {
                let place = self.place(*lba, u64::from(*blocks));
                let mut data = self.bytes[place.clone()].to_vec();
                let expected = spoil(&mut data, *change);
                let new = bytes(*seed, place.len());
                data.extend_from_slice(&new);
                let list = match shift {
                    0 => self.bench.data(&data),
                    shift => self.bench.shifted(&data, *shift),
                };
                let access = Access::default();
                let got = self.run(BlockOp::CompareAndWrite(range(*lba, *blocks), access), list);
                assert_eq!(got.map(|_| ()), expected);
                if expected.is_ok() {
                    self.bytes[place].copy_from_slice(&new);
                }
            }
            Act::Same { lba, blocks, seed, unmap, ndob } => {
                let place = self.place(*lba, *blocks);
                let one =
                    if let (Some(seed), false) = (seed, ndob) { bytes(*seed, block) } else { vec![0; block] };
                let list = if *ndob { Scatter::new() } else { self.bench.data(&one) };
                let (lba, blocks) = (Lba(*lba), BlockCount(*blocks));
                self.run(BlockOp::WriteSame { lba, blocks, unmap: *unmap, zeroes: *ndob }, list).unwrap();
                for part in self.bytes[place].chunks_mut(block) {
                    part.copy_from_slice(&one);
                }
            }
            Act::Unmap(ranges) => {
                let list = ranges.iter().map(|(lba, blocks)| range(*lba, *blocks)).collect();
                self.run(BlockOp::Unmap(list), Scatter::new()).unwrap();
                for (lba, blocks) in ranges {
                    let place = self.place(*lba, u64::from(*blocks));
                    self.bytes[place].fill(0);
                }
            }
            Act::Flush => {
                self.run(BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) }, Scatter::new()).unwrap();
            }
            Act::WriteBack(on) => self.bench.volume.set_write_back(*on),
        }
    }

    fn finish(mut self) {
        let blocks = u32::try_from(BYTES / self.bench.block as u64).unwrap();
        let mut lba = 0;
        while lba < blocks {
            self.step(&Act::Read(u64::from(lba), 64.min(blocks - lba), false));
            lba += 64;
        }
        // Deallocates everything, so that a volume in memory has given all its pages back.
        self.step(&Act::Unmap(vec![(0, blocks)]));
        self.bench.assert_clean();
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}

fn miscompare(at: Option<usize>) -> Result<(), BlockError> {
    at.map_or(Ok(()), |at| Err(BlockError::Miscompare(u32::try_from(at).unwrap())))
}

/// Changes a byte, where there is one, and says what comparing must then find.
fn spoil(data: &mut [u8], change: Option<usize>) -> Result<(), BlockError> {
    match change {
        Some(at) if !data.is_empty() => {
            let at = at % data.len();
            data[at] ^= 0x40;
            miscompare(Some(at))
        }
        _ => Ok(()),
    }
}

fn check(bench: Bench, acts: &[Act]) {
    let mut model = Model { bench, bytes: vec![0; usize::try_from(BYTES).unwrap()] };
    for act in acts {
        model.step(act);
    }
    model.finish();
}

fn acts(block: BlockSize) -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(BYTES >> block.shift()), 1..60)
}

fn disk(block: BlockSize, limits: DeviceLimits) -> Bench {
    Bench::disk(block, BYTES, limits, |_| {})
}

proptest! {
    #![proptest_config(support::cases(48))]

    #[test]
    fn ram_of_512(acts in acts(BlockSize::B512)) {
        check(Bench::new(BlockSize::B512, BYTES, limits(512), Storage::Ram, |plan| plan.pages = 256), &acts);
    }

    #[test]
    fn ram_of_4096(acts in acts(BlockSize::B4096)) {
        check(Bench::new(BlockSize::B4096, BYTES, limits(512), Storage::Ram, |plan| plan.pages = 256), &acts);
    }

    #[test]
    fn disk_of_512_on_512(acts in acts(BlockSize::B512)) {
        check(disk(BlockSize::B512, limits(512)), &acts);
    }

    #[test]
    fn disk_of_512_on_4096(acts in acts(BlockSize::B512)) {
        check(disk(BlockSize::B512, limits(4096)), &acts);
    }

    #[test]
    fn disk_of_512_on_16384_with_small_transfers(acts in acts(BlockSize::B512)) {
        let limits = DeviceLimits { max_transfer: 16384, memory_align: 4096, max_discard: 32768, ..limits(16384) };
        check(disk(BlockSize::B512, limits), &acts);
    }

    #[test]
    fn disk_of_512_on_512_in_stripes(acts in acts(BlockSize::B512)) {
        check(disk(BlockSize::B512, DeviceLimits { boundary: 12288, ..limits(512) }), &acts);
    }

    #[test]
    fn disk_of_512_on_4096_in_stripes_larger_than_a_transfer(acts in acts(BlockSize::B512)) {
        let limits = DeviceLimits { boundary: 28672, max_transfer: 16384, ..limits(4096) };
        check(disk(BlockSize::B512, limits), &acts);
    }

    #[test]
    fn disk_of_4096_on_512_without_discard(acts in acts(BlockSize::B4096)) {
        let limits = DeviceLimits { max_transfer: 20_000, ..limits(512) };
        let mut bench = disk(BlockSize::B4096, limits);
        (bench.io.discards, bench.io.zeroes) = (false, false);
        check(bench, &acts);
    }

    #[test]
    fn disk_of_4096_on_4096_with_little_room(acts in acts(BlockSize::B4096)) {
        let mut bench = disk(BlockSize::B4096, DeviceLimits { memory_align: 4096, depth: 3, ..limits(4096) });
        (bench.io.room, bench.io.discards) = (2, false);
        check(bench, &acts);
    }
}
