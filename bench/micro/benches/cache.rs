//! The cache's decisions: finding a page among a million, making room, ordering what is dirty, following readers.
#![forbid(unsafe_code)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kagami_cache::{DirtyMap, Key, Pages, Streams, Throttle};
use std::hint::black_box;

/// Pages of caches of 1 GiB and 4 GiB: index and slots are many times what the processor's caches hold.
const CACHES: [(&str, u32); 2] = [("1 GiB", 1 << 18), ("4 GiB", 1 << 20)];

/// About what the store keeps about a page.
type Payload = [u64; 4];

/// Random numbers at a nanosecond each.
struct Random(u64);

impl Random {
    const fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 as u128 * end as u128) >> 64) as u64
    }
}

const fn key(page: u64) -> Key {
    Key { volume: 3, page }
}

fn full(count: u32) -> Pages<Payload> {
    let mut pages = Pages::new(count);
    (0..u64::from(count)).for_each(|page| _ = pages.insert(key(page), [page; 4]));
    pages
}

fn pages(criterion: &mut Criterion) {
    for (name, count) in CACHES {
        pages_of(criterion, name, count);
    }
}

fn pages_of(criterion: &mut Criterion, name: &str, count: u32) {
    let mut group = criterion.benchmark_group(format!("cache of {name}"));
    let mut pages = full(count);
    let mut random = Random(1);
    let all = u64::from(count);
    group.bench_function("look up, hit", |bench| bench.iter(|| pages.get(key(random.below(all)))));
    group.bench_function("look up, miss", |bench| bench.iter(|| pages.get(key(all + random.below(all)))));
    // Each address depends on what was found before, so that nothing overlaps.
    let mut last = 0;
    group.bench_function("look up, hit, one after the other", |bench| {
        bench.iter(|| {
            let slot = pages.get(key((random.below(all) + last) % all));
            last = slot.map_or(0, |slot| slot.index() as u64 & 1);
            slot
        });
    });
    group.bench_function("look up, count the use, read what is kept", |bench| {
        bench.iter(|| {
            let slot = pages.get(key(random.below(all)))?;
            pages.hit(slot);
            Some(pages[slot][0])
        });
    });
    let mut pages = full(count);
    let mut next = all;
    group.bench_function("evict and insert", |bench| {
        bench.iter(|| {
            next += 1;
            let gone = pages.evict(|_, payload| payload[0] != 0);
            _ = pages.insert(key(next), black_box([next; 4]));
            gone.is_some()
        });
    });
    group.finish();
}

fn dirty(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dirty pages");
    let mut random = Random(2);
    for (name, span) in [("4 GiB", 1_u64 << 20), ("1 TiB", 1 << 28)] {
        let mut map = DirtyMap::new(1 << 18, 4);
        while map.room() > 1 << 16 && map.total() < 200_000 {
            _ = map.mark(1, random.below(span));
        }
        group.bench_function(format!("mark, take and clear, 200,000 of {name} at random"), |bench| {
            bench.iter(|| {
                let marked = map.mark(1, random.below(span));
                if map.total() > 200_000
                    && let Some(run) = map.next_run(1, 256)
                {
                    map.clear_run(1, run);
                }
                marked
            });
        });
    }
    let mut map = DirtyMap::new(1 << 18, 4);
    let mut at = 0;
    group.throughput(Throughput::Elements(64));
    group.bench_function("mark, take and clear a run of 64", |bench| {
        bench.iter(|| {
            at += 64;
            _ = map.mark_run(1, at..at + 64);
            let run = map.next_run(1, 64);
            run.map(|run| map.clear_run(1, run))
        });
    });
    group.finish();
}

fn readers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read-ahead");
    let mut random = Random(3);
    let mut streams = Streams::new(1024);
    group.bench_function("a random read", |bench| {
        bench.iter(|| {
            let page = random.below(1 << 30);
            streams.on_read(page..page + 1, true)
        });
    });
    let mut at = 0;
    group.bench_function("a sequential read", |bench| {
        bench.iter(|| {
            at += 1;
            streams.on_read(at..at + 1, true)
        });
    });
    let mut throttle = Throttle::new(1000, 2000);
    group.bench_function("admit a write, pay for it", |bench| {
        bench.iter(|| {
            throttle.credit(1);
            throttle.admit(black_box(1), black_box(1500))
        });
    });
    group.finish();
}

criterion_group!(benches, pages, dirty, readers);
criterion_main!(benches);
