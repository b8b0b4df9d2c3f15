//! Runs the simulated array over many seeds, by hand: for hours, on all cores, going on after
//! failures.
//!
//! `cargo run --profile ci -p kagami-sim --example explore -- --seeds 0..1000000 --minutes 60`
//!
//! - `--seeds A..B`: which (`0x..` as well); `A..` for as long as the minutes last. Default `0..1000`.
//! - `--minutes N`: stop then. Default: when the seeds are done.
//! - `--cores N`: threads. Default: as many as the machine has.
//! - `--failures N`: stop after so many. Default 20.
//!
//! With `KAGAMI_TRACE=n` it prints the last n events of a failing seed as well.
//!
//! Prints each failing seed with what it found, in the form of `tests/regressions.txt`, then what
//! happened over all seeds. Ends with 1 where any failed.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/array/mod.rs"]
mod array;

use kagami_sim::{Coverage, Failure};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

struct Wanted {
    first: u64,
    end: u64,
    until: Option<Instant>,
    cores: usize,
    failures: usize,
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a number"))
}

fn wanted() -> Result<Wanted, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut wanted = Wanted { first: 0, end: 1000, until: None, cores, failures: 20 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} wants a value"))?;
        let small = |value: &str| number(value).map(|value| usize::try_from(value).unwrap_or(usize::MAX));
        match name.as_str() {
            "--seeds" => {
                let (first, end) = value.split_once("..").ok_or("--seeds wants A..B")?;
                wanted.first = number(first)?;
                wanted.end = if end.is_empty() { u64::MAX } else { number(end)? };
            }
            "--minutes" => {
                let time = Duration::from_secs(60 * number(&value)?.min(1 << 32));
                wanted.until = Instant::now().checked_add(time);
            }
            "--cores" => wanted.cores = small(&value)?.clamp(1, 1024),
            "--failures" => wanted.failures = small(&value)?,
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(wanted)
}

fn main() -> ExitCode {
    let wanted = match wanted() {
        Ok(wanted) => wanted,
        Err(what) => {
            eprintln!("explore: {what}");
            return ExitCode::from(2);
        }
    };
    let begin = Instant::now();
    let next = AtomicU64::new(wanted.first);
    let failures: Mutex<Vec<Box<Failure>>> = Mutex::new(Vec::new());
    let total: Mutex<(u64, Coverage)> = Mutex::default();
    let lock_failed =
        |failures: &Mutex<Vec<Box<Failure>>>| failures.lock().map_or(usize::MAX, |all| all.len());
    std::thread::scope(|scope| {
        for _ in 0..wanted.cores {
            scope.spawn(|| {
                let arena = array::arena();
                let mut coverage = Coverage::default();
                let mut count = 0;
                loop {
                    let over = wanted.until.is_some_and(|until| Instant::now() >= until);
                    if over || lock_failed(&failures) >= wanted.failures {
                        break;
                    }
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= wanted.end {
                        break;
                    }
                    count += 1;
                    match array::run(seed, arena, |_| {}) {
                        Ok(report) => coverage.add(&report.coverage),
                        Err(failure) => {
                            if std::env::var_os("KAGAMI_TRACE").is_some() {
                                println!("{failure}");
                            }
                            println!("{:#x} # {}", failure.seed, failure.what);
                            if let Ok(mut all) = failures.lock() {
                                all.push(failure);
                            }
                        }
                    }
                }
                if let Ok(mut total) = total.lock() {
                    total.0 += count;
                    total.1.add(&coverage);
                }
            });
        }
    });
    let Ok(total) = total.lock() else { return ExitCode::FAILURE };
    let seconds = begin.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = total.0 as f64 / seconds.max(0.001);
    print!("{}", total.1);
    let failed = lock_failed(&failures);
    println!("{} seeds in {seconds:.1} s, {rate:.1} a second; {failed} failed", total.0);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
