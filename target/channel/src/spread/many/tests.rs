//! Operations in several parts against a model that is one array of blocks.

use super::*;
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, ScatterMut};
use kagami_types::BlockCount;
use proptest::prelude::*;

const BLOCK: usize = 512;
const BLOCKS: usize = 256;

fn pool() -> Pool {
    static ARENA: std::sync::OnceLock<Arena> = std::sync::OnceLock::new();
    let arena = ARENA.get_or_init(|| {
        let plan = ArenaPlan::new(1).with(Class::Page, 4096, 16);
        Arena::new(plan, HugePages::Off).unwrap()
    });
    arena.pool(0)
}

fn list(pool: &Pool, bytes: &[u8]) -> Scatter {
    let mut pages = ScatterMut::take(pool, Purpose::Host, bytes.len()).unwrap();
    pages.copy_from(0, bytes);
    pages.freeze()
}

/// Does a part as a shard would.
fn serve(disk: &mut [u8], pool: &Pool, part: &Part) -> Outcome {
    let run = |range: &BlockRange| {
        let start = usize::try_from(range.lba.0).unwrap() * BLOCK;
        start..start + range.blocks as usize * BLOCK
    };
    let ok = |data| Outcome { result: Ok(()), data, status: Vec::new() };
    match &part.op {
        BlockOp::Read(range, _) => ok(list(pool, &disk[run(range)])),
        BlockOp::Write(range, _) => {
            disk[run(range)].copy_from_slice(&part.data.to_vec());
            ok(Scatter::new())
        }
        BlockOp::WriteSame { lba, blocks, .. } => {
            let range = BlockRange { lba: *lba, blocks: u32::try_from(blocks.0).unwrap() };
            disk[run(&range)].chunks_mut(BLOCK).for_each(|block| block.copy_from_slice(&part.data.to_vec()));
            ok(Scatter::new())
        }
        BlockOp::Unmap(ranges) => {
            ranges.iter().for_each(|range| disk[run(range)].fill(0));
            ok(Scatter::new())
        }
        BlockOp::Verify { range, .. } => {
            let found = list(pool, &disk[run(range)]);
            let result = match part.data.first_difference(&found) {
                None => Ok(()),
                Some(at) => Err(BlockError::Miscompare(u32::try_from(at).unwrap())),
            };
            Outcome { result, data: Scatter::new(), status: Vec::new() }
        }
        _ => ok(Scatter::new()),
    }
}

/// Runs an operation, its parts in the order that `pick` says; every third attempt finds no room.
fn run(disk: &mut [u8], op: BlockOp, data: Scatter, extent: u64, pick: &[prop::sample::Index]) -> Outcome {
    let pool = pool();
    let stripes = Stripes::new(extent, BlockSize::B512, 3).unwrap();
    let blocks = hull(&op, BLOCKS as u64).unwrap();
    let mut many = Many::new(op, data, stripes, BlockSize::B512, &blocks, Time(1000)).unwrap();
    let mut parts = Vec::new();
    for (turn, pick) in (0..).zip(pick.iter().cycle()) {
        parts.extend(std::iter::from_fn(|| many.next(stripes)));
        if many.is_over() {
            return many.finish();
        }
        if parts.is_empty() {
            many.retry(Time(0));
            continue;
        }
        let part = parts.swap_remove(pick.index(parts.len()));
        assert_eq!(
            part.shard,
            stripes.shard(match &part.op {
                BlockOp::Read(range, _) | BlockOp::Write(range, _) | BlockOp::Verify { range, .. } =>
                    range.lba.0,
                BlockOp::WriteSame { lba, .. } => lba.0,
                BlockOp::Unmap(ranges) => ranges[0].lba.0,
                _ => u64::from(part.shard) * (extent / 512),
            })
        );
        let busy = Outcome { result: Err(BlockError::Busy), data: Scatter::new(), status: Vec::new() };
        let outcome = if turn % 3 == 2 { busy } else { serve(disk, &pool, &part) };
        many.done(part.number, outcome, true);
    }
    unreachable!("an operation ends")
}

fn bytes(blocks: usize, seed: u8) -> Vec<u8> {
    (0..blocks * BLOCK).map(|at| seed.wrapping_add(u8::try_from(at / 64 % 251).unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What comes of an operation in parts is what comes of it in one, whatever order the parts end in.
    #[test]
    fn parts_come_to_the_operation(
        (start, len) in (0_usize..200, 2_usize..56),
        extent in prop_oneof![Just(4096_u64), Just(8192), Just(16384)],
        kind in 0_u8..6,
        seed in 1_u8..255,
        flip in any::<Option<prop::sample::Index>>(),
        pick in prop::collection::vec(any::<prop::sample::Index>(), 16),
    ) {
        let pool = pool();
        let mut disk = bytes(BLOCKS, 7);
        let mut model = disk.clone();
        let range = BlockRange { lba: Lba(start as u64), blocks: u32::try_from(len).unwrap() };
        let place = start * BLOCK..(start + len) * BLOCK;
        let new = bytes(len, seed);
        let mut expected = disk[place.clone()].to_vec();
        let flipped = flip.map(|flip| flip.index(expected.len()));
        if let Some(at) = flipped {
            expected[at] ^= 1;
        }
        let access = Access::default();
        let (op, data) = match kind {
            0 => (BlockOp::Read(range, access), Scatter::new()),
            1 => (BlockOp::Write(range, access), list(&pool, &new)),
            2 => {
                let (lba, blocks) = (range.lba, BlockCount(len as u64));
                (BlockOp::WriteSame { lba, blocks, unmap: false, zeroes: false }, list(&pool, &new[..BLOCK]))
            }
            3 => (BlockOp::Unmap(vec![range, BlockRange { lba: Lba(3), blocks: 2 }]), Scatter::new()),
            4 => (BlockOp::Verify { range, against: Compare::Data }, list(&pool, &expected)),
            _ => (BlockOp::CompareAndWrite(range, access), list(&pool, &[expected, new.clone()].concat())),
        };
        let outcome = run(&mut disk, op, data, extent, &pick);
        let differs = flipped.filter(|_| kind >= 4).map(|at| u32::try_from(at).unwrap());
        match kind {
            0 => prop_assert_eq!(outcome.data.to_vec(), &model[place]),
            1 => model[place].copy_from_slice(&new),
            2 => model[place].chunks_mut(BLOCK).for_each(|block| block.copy_from_slice(&new[..BLOCK])),
            3 => {
                model[place].fill(0);
                model[3 * BLOCK..5 * BLOCK].fill(0);
            }
            5 if differs.is_none() => model[place].copy_from_slice(&new),
            _ => {}
        }
        prop_assert_eq!(outcome.result, differs.map_or(Ok(()), |at| Err(BlockError::Miscompare(at))));
        prop_assert!(disk == model);
    }
}

fn piece_error(errors: &[(u64, BlockError)]) -> Outcome {
    let stripes = Stripes::new(4096, BlockSize::B512, 2).unwrap();
    let op = BlockOp::Read(BlockRange { lba: Lba(0), blocks: 32 }, Access::default());
    let mut many = Many::new(op, Scatter::new(), stripes, BlockSize::B512, &(0..32), Time(10)).unwrap();
    let parts: Vec<Part> = std::iter::from_fn(|| many.next(stripes)).collect();
    assert_eq!(parts.len(), 4);
    for part in parts.into_iter().rev() {
        let BlockOp::Read(range, _) = part.op else { unreachable!() };
        let error = errors.iter().find(|(lba, _)| *lba == range.lba.0).map(|(_, error)| *error);
        let result = error.map_or(Ok(()), Err);
        many.done(part.number, Outcome { result, data: Scatter::new(), status: Vec::new() }, true);
    }
    assert!(many.is_over());
    many.finish()
}

#[test]
fn the_error_of_the_lowest_block_counts() {
    let medium = |lba| (lba / 8 * 8, BlockError::ReadMedium(Lba(lba)));
    assert_eq!(piece_error(&[medium(25), medium(13)]).result, Err(BlockError::ReadMedium(Lba(13))));
    assert_eq!(
        piece_error(&[medium(9), (8, BlockError::Device)]).result,
        Err(BlockError::ReadMedium(Lba(9)))
    );
    assert_eq!(piece_error(&[(0, BlockError::TimedOut), medium(9)]).result, Err(BlockError::TimedOut));
    assert_eq!(piece_error(&[]).result, Ok(()));
}

#[test]
fn what_finds_no_room_for_too_long_says_what_was_done() {
    let stripes = Stripes::new(4096, BlockSize::B512, 2).unwrap();
    let pool = pool();
    for (first, error) in [(Ok(()), BlockError::TimedOut), (Err(BlockError::Busy), BlockError::Busy)] {
        let op = BlockOp::Write(BlockRange { lba: Lba(0), blocks: 16 }, Access::default());
        let data = list(&pool, &bytes(16, 1));
        let mut many = Many::new(op, data, stripes, BlockSize::B512, &(0..16), Time(10)).unwrap();
        let parts: Vec<Part> = std::iter::from_fn(|| many.next(stripes)).collect();
        for (part, result) in parts.iter().zip([first, Err(BlockError::Busy)]) {
            many.done(part.number, Outcome { result, data: Scatter::new(), status: Vec::new() }, true);
        }
        assert!(!many.is_over() && many.repeats());
        many.retry(Time(10));
        assert!(many.is_over());
        assert_eq!(many.finish().result, Err(error));
    }
}

#[test]
fn a_flush_of_several_shards_flushes_their_device_once() {
    let stripes = Stripes::new(4096, BlockSize::B512, 3).unwrap();
    let ok = || Outcome { result: Ok(()), data: Scatter::new(), status: Vec::new() };
    let flush = |lba, blocks| BlockOp::Flush { lba: Lba(lba), blocks: BlockCount(blocks) };
    let many = |blocks: Range<u64>| {
        let op = flush(blocks.start, blocks.end - blocks.start);
        Many::new(op, Scatter::new(), stripes, BlockSize::B512, &blocks, Time(10)).unwrap()
    };
    let parts = |many: &mut Many| {
        let parts = std::iter::from_fn(|| many.next(stripes));
        parts.map(|part| (part.number, part.shard, part.writes_out, part.op)).collect::<Vec<_>>()
    };
    // Two of three have blocks of it: what they have goes out, one of them twice for want of room; then one flush.
    let mut two = many(12..20);
    assert_eq!(parts(&mut two), [(0, 1, true, flush(12, 8)), (1, 2, true, flush(12, 8))]);
    two.done(0, ok(), false);
    assert!(two.done(1, Outcome { result: Err(BlockError::Busy), ..ok() }, false));
    assert!(parts(&mut two).is_empty() && !two.is_over());
    two.retry(Time(0));
    assert_eq!(parts(&mut two), [(0, 2, true, flush(12, 8))]);
    two.done(0, ok(), false);
    assert!(!two.is_over());
    assert_eq!(parts(&mut two), [(0, 0, false, flush(12, 1))]);
    two.done(0, ok(), false);
    assert!(two.is_over() && two.finish().result.is_ok());
    // What cannot go out is not flushed.
    let mut bad = many(12..20);
    parts(&mut bad);
    bad.done(0, Outcome { result: Err(BlockError::Device), ..ok() }, false);
    bad.done(1, ok(), false);
    assert!(parts(&mut bad).is_empty() && bad.is_over());
    assert_eq!(bad.finish().result, Err(BlockError::Device));
    // Within one shard it is as ever.
    assert_eq!(parts(&mut many(8..16)), [(0, 1, false, flush(8, 8))]);
}

#[test]
fn a_write_that_has_begun_ends_whole_and_a_read_does_not() {
    let stripes = Stripes::new(4096, BlockSize::B512, 2).unwrap();
    let range = BlockRange { lba: Lba(4), blocks: 8 };
    let pool = pool();
    let write = (BlockOp::Write(range, Access::default()), list(&pool, &bytes(8, 1)));
    let read = (BlockOp::Read(range, Access::default()), Scatter::new());
    for ((op, data), aborts) in [(write, 0), (read, 2)] {
        let mut many = Many::new(op, data, stripes, BlockSize::B512, &(4..12), Time(10)).unwrap();
        let parts: Vec<Part> = std::iter::from_fn(|| many.next(stripes)).collect();
        assert_eq!((parts.len(), many.abort().len()), (2, aborts));
        for part in parts {
            many.done(
                part.number,
                Outcome { result: Ok(()), data: Scatter::new(), status: Vec::new() },
                true,
            );
        }
        assert!(many.is_over());
        assert_eq!(many.finish().result.is_err(), aborts > 0);
    }
}
