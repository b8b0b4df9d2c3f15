//! Copying 4 KiB of a hot receive window to cold pages, as every small write does, and looking at
//! the same pages later.
#![forbid(unsafe_code)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, PageMut, Purpose};
use kagami_memory::{copy_cold, prefetch};
use std::hint::black_box;

/// 512 MiB: many times what the caches hold.
const PAGES: u32 = 131_072;

/// A copy of what both have; returns the length.
type Copy = fn(&mut [u8], &[u8]) -> usize;

fn plain(dst: &mut [u8], src: &[u8]) -> usize {
    dst.copy_from_slice(src);
    dst.len()
}

const COPIES: [(&str, Copy); 2] = [("plain", plain), ("copy_cold", copy_cold)];

/// An odd step modulo a power of two reaches every page, and no prefetcher follows it.
const STEP: usize = 40_503;

/// How many copies ahead a page is prefetched: about what one round of commands leaves.
const AHEAD: usize = 16;

fn copies(criterion: &mut Criterion) {
    let window = vec![0x5a; 64 * 1024];
    for (memory, huge) in [("huge pages", HugePages::Try), ("plain memory", HugePages::Off)] {
        let plan = ArenaPlan::new(1).with(Class::Page, PAGES, 0);
        let pool = Arena::new(plan, huge).expect("512 MiB").pool(0);
        let mut pages: Vec<PageMut> =
            std::iter::from_fn(|| pool.take(Class::Page, Purpose::Internal)).collect();
        let (mut at, mut from) = (0, 0);
        for (heat, mask) in [("cold", pages.len() - 1), ("hot", 7)] {
            let mut group = criterion.benchmark_group(format!("copy to a {heat} page, {memory}"));
            for len in [512, 1024, 4096] {
                group.throughput(Throughput::Bytes(len as u64));
                for (name, copy) in COPIES {
                    group.bench_function(format!("{name}, {len}"), |bench| {
                        bench.iter(|| {
                            at = (at + STEP) & mask;
                            from = (from + 4096) & 0xffff;
                            copy(black_box(&mut pages[at][..len]), &window[from..from + len])
                        });
                    });
                }
            }
            group.finish();
        }

        let mut group = criterion.benchmark_group(format!("copy from a cold page, {memory}"));
        let mut out = vec![0; 4096];
        for lines in [0, 4, 16, 64] {
            group.bench_function(format!("4096, {lines} lines prefetched"), |bench| {
                bench.iter(|| {
                    prefetch(&pages[(at + AHEAD * STEP) & (pages.len() - 1)], lines);
                    at = (at + STEP) & (pages.len() - 1);
                    out.copy_from_slice(black_box(&pages[at]));
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = copies
}
criterion_main!(benches);
