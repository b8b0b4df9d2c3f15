//! `cache-traces`: the share of hits of each eviction policy on each trace.
//!
//! ```text
//! cargo run --profile ci -p kagami-traces -- --pages 4096 --accesses 400000
//! ```
//!
//! Every line is a trace (see `src/traces.rs`), every column a policy; the best is marked. The first fifth of each trace
//! warms the cache up and is not counted. The same arguments give the same figures on every machine.
#![forbid(unsafe_code)]

use clap::Parser;
use kagami_traces::{policy, run, traces};

/// Compares eviction policies.
#[derive(Debug, Parser)]
struct Args {
    /// Pages in the cache.
    #[arg(long, default_value_t = 4096)]
    pages: u32,
    /// Accesses of each trace.
    #[arg(long, default_value_t = 400_000)]
    accesses: u32,
    /// Of the traces.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() {
    let args = Args::parse();
    println!("hits in %, cache of {} pages, {} accesses, seed {}", args.pages, args.accesses, args.seed);
    let names: String = policy::ALL.iter().map(|(name, _)| format!("{name:>9}")).collect();
    println!("{:<24}{names}", "");
    let mut sums = [0.0; policy::ALL.len()];
    let mut count = 0.0;
    for trace in traces::all(args.pages.into(), args.accesses as usize, args.seed) {
        let hits = policy::ALL.map(|(_, make)| {
            let pages = args.pages as usize;
            run(&trace, make(pages).as_mut(), pages) * 100.0
        });
        line(trace.name, &hits);
        sums.iter_mut().zip(hits).for_each(|(sum, hits)| *sum += hits);
        count += 1.0;
    }
    line("mean", &sums.map(|sum| sum / count));
}

fn line(name: &str, hits: &[f64]) {
    let best = hits.iter().copied().fold(0.0, f64::max);
    let mark = |&hits: &f64| if hits > best - 0.05 { '*' } else { ' ' };
    let columns: String = hits.iter().map(|hits| format!("{hits:>8.2}{}", mark(hits))).collect();
    println!("{name:<24}{columns}");
}
