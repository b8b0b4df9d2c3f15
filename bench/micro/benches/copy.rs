//! Copying 4 KiB of a hot receive window to cold pages, as every small write does, and looking at
//! the same pages later.
#![forbid(unsafe_code)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, PageMut, Purpose};
use kagami_memory::{copy_cold, copy_streaming, prefetch};
use std::hint::black_box;

/// 512 MiB: many times what the caches hold.
const PAGES: u32 = 131_072;

/// A copy of what both have; returns the length.
type Copy = fn(&mut [u8], &[u8]) -> usize;

fn plain(dst: &mut [u8], src: &[u8]) -> usize {
    dst.copy_from_slice(src);
    dst.len()
}

/// The first lines asked for some pages ahead, as when a command is parsed before its data is moved.
fn next(at: usize, len: usize) -> usize {
    // A walk that no prefetcher follows: an odd step modulo a power of two reaches every page.
    (at + 40_503) & (len - 1)
}

fn cold_pages(criterion: &mut Criterion) {
    let plan = ArenaPlan::new(1).with(Class::Page, PAGES, 0);
    for (memory, huge) in [("huge pages", HugePages::Try), ("plain memory", HugePages::Off)] {
        let pool = Arena::new(plan, huge).expect("512 MiB").pool(0);
        let mut pages: Vec<PageMut> =
            std::iter::from_fn(|| pool.take(Class::Page, Purpose::Internal)).collect();
        let window = vec![0x5a; 64 * 1024];
        let mut group = criterion.benchmark_group(format!("4 KiB to a cold page, {memory}"));
        group.throughput(Throughput::Bytes(4096));
        let copies: [(&str, Copy); 3] =
            [("plain", plain), ("copy_cold", copy_cold), ("streaming", copy_streaming)];
        for (name, copy) in copies {
            let (mut at, mut from) = (0, 0);
            group.bench_function(name, |bench| {
                bench.iter(|| {
                    at = next(at, pages.len());
                    from = (from + 4096) & 0xffff;
                    copy(black_box(&mut pages[at]), &window[from..from + 4096])
                });
            });
        }
        for lines in [4, 16, 64] {
            let (mut at, mut from) = (0, 0);
            group.bench_function(format!("plain, {lines} lines prefetched 16 pages ahead"), |bench| {
                bench.iter(|| {
                    let ahead = (at + 17 * 40_503) & (pages.len() - 1);
                    prefetch(&pages[ahead], lines);
                    at = next(at, pages.len());
                    from = (from + 4096) & 0xffff;
                    plain(black_box(&mut pages[at]), &window[from..from + 4096])
                });
            });
        }
        group.finish();

        let mut group = criterion.benchmark_group(format!("4 KiB from a cold page, {memory}"));
        let mut out = vec![0; 4096];
        for lines in [0, 4, 16, 64] {
            let mut at = 0;
            group.bench_function(format!("plain, {lines} lines prefetched 16 pages ahead"), |bench| {
                bench.iter(|| {
                    let ahead = (at + 17 * 40_503) & (pages.len() - 1);
                    prefetch(&pages[ahead], lines);
                    at = next(at, pages.len());
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
    targets = cold_pages
}
criterion_main!(benches);
