//! Runs worlds from many seeds: `cargo run --example seeds -- --seeds 0..1000`, or one of them with everything it says.

#[path = "../tests/world/mod.rs"]
mod world;

use std::process::ExitCode;
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
    let mut seen = world::Seen::default();
    let mut failed = Vec::new();
    for seed in from..to {
        let begun = std::time::Instant::now();
        let run = std::panic::catch_unwind(|| World::run(Plan::of(seed), verbose));
        let took = begun.elapsed();
        if took.as_secs() > 5 {
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
    for (what, count) in &seen.0 {
        println!("{count:>9} {what}");
    }
    println!("{} seeds, {} failed: {failed:?}", to - from, failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}
