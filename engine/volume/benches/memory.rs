//! What an operation on a volume in memory costs: the hot path of everything in front of a device.

use criterion::{Criterion, criterion_group, criterion_main};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter};
use kagami_reactor::{Op, Submit, Token};
use kagami_types::{Access, BlockCount, BlockOp, BlockRange, BlockSize, Lba, Time};
use kagami_volume::{Context, Geometry, Storage, Tag, Volume, VolumePlan, zero_page};
use std::hint::black_box;
use std::time::Duration;

/// No device.
struct Nowhere;

impl Submit for Nowhere {
    fn submit(&mut self, _: Token, op: Op) -> Result<(), Op> {
        Err(op)
    }

    fn now(&self) -> Time {
        Time(0)
    }
}

fn volume(pool: &Pool, storage: Storage, bytes: u64) -> Volume {
    Volume::new(VolumePlan {
        geometry: Geometry { block_size: BlockSize::B512, blocks: BlockCount(bytes / 512) },
        storage,
        token_base: 0,
        slots: 64,
        pages: bytes / 4096,
        timeout: Duration::from_secs(10),
        write_back: true,
        read_only: false,
        zeroes: zero_page(pool).unwrap(),
    })
    .unwrap()
}

/// A block address of 4 KiB alignment, somewhere.
fn next(state: &mut u64, bytes: u64) -> Lba {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    Lba(*state % (bytes / 4096) * 8)
}

fn bench(criterion: &mut Criterion) {
    const BYTES: u64 = 256 << 20;
    let plan = ArenaPlan::new(1).with(Class::Page, 80_000, 0).with(Class::Large, 2, 0);
    let arena = Arena::new(plan, HugePages::Try).unwrap();
    let pool = arena.pool(0);
    for (name, storage) in [("null", Storage::Null), ("ram", Storage::Ram)] {
        let mut volume = volume(&pool, storage, BYTES);
        let mut io = Nowhere;
        let mut done = Vec::new();
        let mut cx = Context { io: &mut io, pool: &pool, done: &mut done };
        let mut state = 88_172_645_463_325_252;
        // Every block is allocated before it is measured.
        let mut list = Scatter::with_capacity(8);
        for page in 0..BYTES / 4096 {
            list.push_page(pool.take(Class::Page, Purpose::Host).unwrap().freeze());
            let op = BlockOp::Write(BlockRange { lba: Lba(page * 8), blocks: 8 }, Access::default());
            list = volume.submit(&mut cx, Tag(0), op, list).unwrap().data;
        }
        criterion.bench_function(&format!("{name} 4 KiB random read"), |bencher| {
            let mut list = Some(Scatter::with_capacity(8));
            bencher.iter(|| {
                let range = BlockRange { lba: next(&mut state, BYTES), blocks: 8 };
                let op = BlockOp::Read(range, Access::default());
                let mut outcome = volume.submit(&mut cx, Tag(1), op, list.take().unwrap()).unwrap();
                black_box(&outcome);
                outcome.data.clear();
                list = Some(outcome.data);
            });
        });
        criterion.bench_function(
            &format!("{name} 4 KiB random write, page taken and given back"),
            |bencher| {
                let mut list = Some(Scatter::with_capacity(8));
                bencher.iter(|| {
                    let range = BlockRange { lba: next(&mut state, BYTES), blocks: 8 };
                    let mut data = list.take().unwrap();
                    data.push_page(pool.take(Class::Page, Purpose::Host).unwrap().freeze());
                    let op = BlockOp::Write(range, Access::default());
                    let outcome = volume.submit(&mut cx, Tag(1), op, data).unwrap();
                    black_box(&outcome);
                    list = Some(outcome.data);
                });
            },
        );
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
