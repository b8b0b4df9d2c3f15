//! Runs worlds from many seeds: `cargo run --example seeds -- --seeds 0..1000 --threads 2`, or one of them with everything that it
//! says (`--verbose`). With `--covered` it also fails where the seeds together have not shown what they should. `--only loses` leaves
//! out all whose plan has not that.

#[path = "../tests/world/mod.rs"]
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;
use world::plan::Plan;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let range = value("--seeds").unwrap_or_else(|| "0..100".to_owned());
    let (from, to) = range.split_once("..").unwrap_or((&range, ""));
    let from: u64 = from.parse().unwrap_or(0);
    let to: u64 = to.parse().unwrap_or(from + 1);
    let verbose = args.iter().any(|arg| arg == "--verbose");
    let threads: u64 = value("--threads").and_then(|text| text.parse().ok()).unwrap_or(1).clamp(1, 64);
    let only = value("--only").unwrap_or_default();
    let next = AtomicU64::new(from);
    let run = || run_some(&next, to, verbose, &only);
    let results: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        runs.into_iter().map(|run| run.join().unwrap_or_default()).collect()
    });
    let mut seen = world::Seen::default();
    let mut failed = Vec::new();
    for (one, seeds) in results {
        seen.add(&one);
        failed.extend(seeds);
    }
    failed.sort_unstable();
    for (what, count) in &seen.0 {
        println!("{count:>9} {what}");
    }
    let missing = world::coverage::missing(&seen);
    if args.iter().any(|arg| arg == "--covered") && !missing.is_empty() {
        println!("{} seeds have not shown:", to - from);
        missing.iter().for_each(|what| println!("  {what}"));
        return ExitCode::FAILURE;
    }
    println!("{} seeds, {} failed: {failed:?}", to - from, failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

/// Takes seeds until there is none left: what they have shown, and those that failed.
fn run_some(next: &AtomicU64, to: u64, verbose: bool, only: &str) -> (world::Seen, Vec<u64>) {
    let mut seen = world::Seen::default();
    let mut failed = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= to {
            return (seen, failed);
        }
        let plan = Plan::of(seed);
        if !plan.has(only) {
            continue;
        }
        let begun = std::time::Instant::now();
        let run = std::panic::catch_unwind(|| World::run(plan, verbose));
        let took = begun.elapsed();
        if took.as_secs() > 20 {
            println!("seed {seed} took {took:?}");
        }
        match run {
            Ok(Ok(one)) => seen.add(&one),
            Ok(Err(failure)) => {
                let why: String = failure.why.chars().take(300).collect();
                println!("seed {seed}: {why}");
                failed.push(seed);
            }
            Err(_) => {
                println!("seed {seed}: panicked");
                failed.push(seed);
            }
        }
    }
}
