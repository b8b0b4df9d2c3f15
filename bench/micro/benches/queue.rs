//! What a message costs: on one core, and from one to another.
#![forbid(unsafe_code)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kagami_queue::{Mesh, channel};
use kagami_types::CoreId;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

fn same_core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spsc, one core");
    let (mut producer, mut consumer) = channel::<[u64; 4]>(256);
    group.bench_function("push and pop", |bench| {
        bench.iter(|| {
            _ = producer.push(black_box([1; 4]));
            black_box(consumer.pop())
        });
    });
    group.throughput(Throughput::Elements(32));
    group.bench_function("32 staged, published, drained", |bench| {
        bench.iter(|| {
            for _ in 0..32 {
                _ = producer.stage(black_box([1; 4]));
            }
            producer.publish();
            consumer.drain(32, |item| _ = black_box(item))
        });
    });
    let mut ports = Mesh::new::<[u64; 4]>(2, 256);
    let mut one = ports.pop().expect("two ports");
    let mut zero = ports.pop().expect("two ports");
    group.bench_function("32 through a mesh of two", |bench| {
        bench.iter(|| {
            for _ in 0..32 {
                _ = zero.send(CoreId(1), black_box([1; 4]));
            }
            zero.flush(|core| _ = black_box(core));
            one.poll(32, |_, item| _ = black_box(item))
        });
    });
    group.finish();
}

/// Needs two free cores: on fewer it measures the scheduler.
fn two_cores(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spsc, two cores");
    for batch in [1, 32] {
        let (mut producer, mut consumer) = channel::<[u64; 4]>(256);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sender = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..batch {
                    if producer.stage(black_box([1; 4])).is_err() {
                        spin_loop();
                    }
                }
                producer.publish();
            }
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("stream in batches of {batch}"), |bench| {
            bench.iter_custom(|count| {
                let (start, mut left) = (Instant::now(), usize::try_from(count).unwrap_or(usize::MAX));
                while left > 0 {
                    left -= consumer.drain(left.min(64), |item| _ = black_box(item));
                }
                start.elapsed()
            });
        });
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("the sender only spins");
    }
    let (mut there, mut far_in) = channel::<u64>(4);
    let (mut back, mut near_in) = channel::<u64>(4);
    let far = std::thread::spawn(move || {
        loop {
            match far_in.pop() {
                Some(0) => return,
                Some(item) => _ = back.push(item),
                None => spin_loop(),
            }
        }
    });
    group.bench_function("there and back", |bench| {
        bench.iter(|| {
            _ = there.push(1);
            loop {
                if let Some(item) = near_in.pop() {
                    break item;
                }
                spin_loop();
            }
        });
    });
    _ = there.push(0);
    far.join().expect("the far side only answers");
    group.finish();
}

criterion_group!(benches, same_core, two_cores);
criterion_main!(benches);
