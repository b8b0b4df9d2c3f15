//! What a page costs: taking, dropping, sharing, and lists of pages.
#![forbid(unsafe_code)]

use criterion::{Criterion, criterion_group, criterion_main};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use std::hint::black_box;

fn pool() -> Pool {
    let plan = ArenaPlan::new(2).with(Class::Page, 4096, 64).with(Class::Small, 64, 4);
    Arena::new(plan, HugePages::Try).expect("16 MiB").pool(0)
}

fn pages(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("page");
    group.bench_function("take and drop", |bench| {
        bench.iter(|| black_box(pool.take(Class::Page, Purpose::Host)));
    });
    group.bench_function("take, freeze and drop", |bench| {
        bench.iter(|| black_box(pool.take(Class::Page, Purpose::Host)).map(|page| page.freeze()));
    });
    let page = pool.take(Class::Page, Purpose::Host).expect("free").freeze();
    group.bench_function("clone and drop", |bench| bench.iter(|| black_box(page.clone())));
    group.bench_function("128 taken, then dropped", |bench| {
        let mut held = Vec::with_capacity(128);
        bench.iter(|| {
            held.extend((0..128).map_while(|_| pool.take(Class::Page, Purpose::Host)));
            held.clear();
        });
    });
    group.finish();
}

fn lists(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("scatter");
    for bytes in [4096, 65536, 262_144] {
        let (mut filling, mut shared) = (ScatterMut::with_capacity(64), Scatter::with_capacity(64));
        group.bench_function(format!("take, freeze and clear {bytes}"), |bench| {
            bench.iter(|| {
                assert!(filling.take_more(&pool, Purpose::Host, bytes));
                filling.freeze_into(&mut shared);
                black_box(&shared);
                shared.clear();
            });
        });
    }
    let mut list = ScatterMut::take(&pool, Purpose::Host, 65536).expect("free");
    list.zero(0, 65536);
    group.bench_function("64 KiB is zero, hot", |bench| bench.iter(|| black_box(&list).is_zero()));
    group.bench_function("range at the end of 64 KiB", |bench| {
        bench.iter(|| black_box(&list).range(61440, 4096).map(|span| span.len).sum::<u32>());
    });
    group.finish();
}

criterion_group!(benches, pages, lists);
criterion_main!(benches);
