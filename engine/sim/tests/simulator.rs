//! The simulator itself, tried on a small block server: an honest world passes, equal seeds are
//! equal runs, and each lie of a disk is found out.

mod mini;

use kagami_sim::options::Lies;
use kagami_sim::{Coverage, Failure, Options, Report};

const SEEDS: u64 = 60;

fn all(tune: impl Fn(&mut Options)) -> Vec<Result<Report, Box<Failure>>> {
    let arena = mini::arena();
    (0..SEEDS).map(|seed| mini::run(seed, arena, 2, &tune)).collect()
}

fn failures(results: &[Result<Report, Box<Failure>>]) -> Vec<String> {
    results.iter().filter_map(|result| result.as_ref().err().map(|failure| failure.what.clone())).collect()
}

#[test]
fn an_honest_world_breaks_no_promise() {
    let mut coverage = Coverage::default();
    for result in all(|_| {}) {
        match result {
            Ok(report) => coverage.add(&report.coverage),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{coverage}");
}

#[test]
fn equal_seeds_are_equal_runs() {
    let arena = mini::arena();
    for seed in 0..20 {
        let [first, second] = [(), ()].map(|()| mini::run(seed, arena, 2, |_| {}).unwrap().digest);
        assert_eq!(first, second, "seed {seed}");
    }
    let other = mini::run(1000, arena, 2, |_| {}).unwrap().digest;
    assert_ne!(other, mini::run(1001, arena, 2, |_| {}).unwrap().digest);
}

/// Only crashes and what the disk lies about.
fn honest_but(options: &mut Options, lies: Lies) {
    let crash = options.crash;
    *options = Options::calm();
    options.crash = crash;
    options.disk.lies = lies;
    options.disk.eager = 0;
}

#[test]
fn a_disk_that_lies_about_flushes_is_found_out() {
    let results = all(|options| {
        honest_but(options, Lies { flush: true, ..Lies::default() });
        options.crash.count = 3;
        options.crash.power = 1000;
        options.crash.after = 5_000_000;
    });
    let failures = failures(&results);
    assert!(failures.len() > 20, "{} of {SEEDS}", failures.len());
    assert!(failures.iter().all(|what| what.contains("stable")), "{failures:#?}");
}

#[test]
fn a_dropped_write_is_found_out() {
    let results = all(|options| honest_but(options, Lies { drop_write: 20, ..Lies::default() }));
    assert!(failures(&results).len() > 50);
}

#[test]
fn a_misdirected_write_is_found_out() {
    let results = all(|options| honest_but(options, Lies { misdirect: 20, ..Lies::default() }));
    let failures = failures(&results);
    assert!(failures.len() > 50 && failures.iter().any(|what| what.contains("of unit")), "{failures:#?}");
}

#[test]
fn rot_is_found_out() {
    let results = all(|options| honest_but(options, Lies { rot: 50, ..Lies::default() }));
    let failures = failures(&results);
    assert!(failures.len() > 50, "{failures:#?}");
    assert!(failures.iter().any(|what| what.contains("damaged")), "{failures:#?}");
}

#[test]
fn a_world_in_which_nothing_moves_is_stuck() {
    let arena = mini::arena();
    // No core, so nobody listens.
    let failure = mini::run(1, arena, 0, |options| *options = Options::calm()).unwrap_err();
    assert!(failure.what.starts_with("stuck"), "{failure}");
    assert!(!failure.trace.is_empty() && failure.to_string().contains("seed 0x1 failed"));
}
