//! The whole array under simulated hosts, networks, disks and crashes, seed after seed.
//!
//! - `KAGAMI_SEEDS=n` runs that many seeds (default below), `KAGAMI_FIRST=s` from that one on.
//! - `KAGAMI_SEED=s` (also `0x..`) replays one seed and prints what happened; `KAGAMI_TRACE=n` has a
//!   failure show the last n events.
//!
//! Seeds that once failed stand in `regressions.txt` and run first.

mod array;

use array::{Broken, Drill, Setup};
use kagami_sim::{Coverage, Failure, Happening, Options, Report};
use std::thread;

/// How many seeds run where nobody says otherwise: well under a minute in an unoptimised build.
const SEEDS: u64 = 400;

/// Threads that share the seeds. Each has memory of its own, so runs do not touch each other.
const THREADS: u64 = 2;

/// What does not happen with honest disks, or has seeds of its own.
const NOT_HERE: &[Happening] = &[
    Happening::Lie,
    Happening::DroppedWrite,
    Happening::Misdirected,
    Happening::Misread,
    Happening::Forgotten,
    Happening::BitRot,
    Happening::Part,
    Happening::LinkJoined,
    Happening::LinkLost,
    Happening::LinkRepeated,
    Happening::Pulled,
    Happening::PulledDirty,
    Happening::PulledDark,
    Happening::PulledLost,
    Happening::FlushOfLost,
    Happening::FlushOfLostSpread,
    Happening::NotReady,
    Happening::ReturnTold,
    Happening::ReadyAgain,
    Happening::WentOn,
    Happening::HeadKept,
    Happening::NoSuchUnit,
    Happening::VolumeRemoved,
    Happening::VolumeAdded,
];

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(number(&text).unwrap_or_else(|| panic!("{name}={text} is not a number")))
}

fn regressions() -> impl Iterator<Item = u64> {
    let lines = include_str!("regressions.txt").lines();
    let seeds = lines.map(|line| line.split('#').next().unwrap_or_default().trim());
    seeds.filter(|line| !line.is_empty()).map(|line| number(line).expect("a seed in regressions.txt"))
}

fn run_all(seeds: &[u64]) -> Result<Coverage, Box<Failure>> {
    let results: Vec<Result<Coverage, Box<Failure>>> = thread::scope(|scope| {
        let runs: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let arena = array::arena();
                    let mut coverage = Coverage::default();
                    let mine = seeds.iter().zip(0u64..).filter(|(_, n)| n % THREADS == thread);
                    for (seed, _) in mine {
                        coverage.add(&array::run(*seed, arena, |_| {})?.coverage);
                    }
                    Ok(coverage)
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().expect("no panic in a run")).collect()
    });
    let mut all = Coverage::default();
    for result in results {
        all.add(&result?);
    }
    Ok(all)
}

#[test]
fn every_promise_is_kept() {
    if let Some(seed) = from_env("KAGAMI_SEED") {
        match array::run(seed, array::arena(), |_| {}) {
            Ok(report) => {
                println!("{}seed {seed:#x} took {:?} of simulated time", report.coverage, report.took)
            }
            Err(failure) => panic!("\n{failure}\n"),
        }
        return;
    }
    let first = from_env("KAGAMI_FIRST").unwrap_or(0);
    let count = from_env("KAGAMI_SEEDS").unwrap_or(SEEDS);
    let seeds: Vec<u64> = regressions().chain(first..first + count).collect();
    match run_all(&seeds) {
        Ok(coverage) => {
            println!("{coverage}");
            if count >= SEEDS {
                let wanted: Vec<Happening> =
                    Happening::ALL.iter().copied().filter(|what| !NOT_HERE.contains(what)).collect();
                let missing: Vec<&str> = coverage.missing(&wanted).map(Happening::label).collect();
                assert!(missing.is_empty(), "never happened in {count} seeds: {missing:#?}");
            }
        }
        Err(failure) => panic!("\n{failure}\nreplay with KAGAMI_SEED={:#x}\n", failure.seed),
    }
}

#[test]
fn a_seed_replays_exactly() {
    let digest = |result: Result<Report, Box<Failure>>| match result {
        Ok(report) => report.digest,
        Err(failure) => panic!("\n{failure}\n"),
    };
    let arena = array::arena();
    for seed in 0..10 {
        let exact = Setup { exact: true, ..Setup::default() };
        let [first, second] = [(), ()].map(|()| digest(array::run_as(seed, arena, exact, |_| {})));
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Only crashes and what `tune` adds.
fn caught(tune: impl Fn(&mut Options)) -> Vec<String> {
    caught_in(20, tune)
}

fn caught_in(seeds: u64, tune: impl Fn(&mut Options)) -> Vec<String> {
    let arena = array::arena();
    let run = |seed| {
        let result = array::run(seed, arena, |options| {
            let crash = options.crash;
            *options = Options::calm();
            options.crash = crash;
            options.disk.eager = 0;
            tune(options);
        });
        result.err().map(|failure| failure.what)
    };
    (0..seeds).filter_map(run).collect()
}

#[test]
fn a_disk_that_lies_about_flushes_is_found_out() {
    let failures = caught(|options| {
        options.disk.lies.flush = true;
        options.crash.count = 4;
        options.crash.power = 1000;
        options.crash.orderly = 0;
        options.crash.after = 40_000_000;
    });
    assert!(failures.len() >= 8, "{failures:#?}");
}

#[test]
fn a_dropped_write_is_found_out() {
    let failures = caught(|options| options.disk.lies.drop_write = 10);
    assert!(failures.len() >= 15, "{failures:#?}");
}

#[test]
fn a_misdirected_write_is_found_out() {
    let failures = caught(|options| options.disk.lies.misdirect = 10);
    assert!(failures.len() >= 15, "{failures:#?}");
}

#[test]
fn rot_is_found_out() {
    let failures = caught(|options| options.disk.lies.rot = 20);
    assert!(failures.len() >= 10, "{failures:#?}");
}

/// Runs seeds with a broken array until one fails; how many it took and what it found.
fn caught_after(broken: Broken, seeds: u64, tune: impl Fn(&mut Options)) -> Option<(u64, String)> {
    let arena = array::arena();
    (0..seeds).find_map(|seed| {
        let setup = Setup { broken: Some(broken), ..Setup::default() };
        let result = array::run_as(seed, arena, setup, |options| {
            let (crash, net) = (options.crash, options.net);
            *options = Options::calm();
            (options.crash, options.net.delay, options.net.segment) = (crash, net.delay, 65536);
            options.disk.eager = 0;
            options.disk.service = 2_000_000;
            tune(options);
        });
        result.err().map(|failure| (seed + 1, failure.what))
    })
}

/// Power failures, in the middle of it.
fn crashing(options: &mut Options) {
    options.crash.count = 4;
    options.crash.power = 1000;
    options.crash.orderly = 0;
    options.crash.at_io = 800;
    options.crash.io_within = 300;
}

#[track_caller]
fn assert_caught(broken: Broken, within: u64, tune: impl Fn(&mut Options)) {
    let found = caught_after(broken, within, tune);
    println!("{broken:?}: {found:?}");
    assert!(found.is_some(), "{broken:?} was not caught in {within} seeds");
}

#[test]
fn the_back_end_that_lies_is_good_when_it_does_not() {
    let found = caught_after(Broken::Nothing, 40, crashing);
    assert_eq!(found, None);
}

#[test]
fn force_unit_access_that_is_ignored_is_caught() {
    assert_caught(Broken::ForceUnitAccess, 20, crashing);
}

#[test]
fn a_flush_that_does_not_reach_the_device_is_caught() {
    assert_caught(Broken::Flush, 20, crashing);
}

#[test]
fn status_before_the_device_has_the_data_is_caught() {
    assert_caught(Broken::EarlyStatus, 20, |options| options.crash.count = 0);
}

#[test]
fn overlapping_writes_that_are_not_kept_apart_are_caught() {
    assert_caught(Broken::RangeLock, 40, |options| options.crash.count = 0);
}

#[test]
fn an_abort_that_is_answered_before_its_task_has_ended_is_caught() {
    assert_caught(Broken::GivenUp, 40, |options| {
        options.crash.count = 0;
        options.disk.service = 50_000_000;
    });
}

#[test]
fn blocks_that_are_not_zeroed_are_caught() {
    assert_caught(Broken::Discard, 20, |options| options.crash.count = 0);
}

#[test]
fn modes_and_reservations_that_do_not_outlive_a_restart_are_caught() {
    assert_caught(Broken::Keeper, 100, crashing);
}

#[test]
fn half_of_a_command_is_seen_where_nothing_keeps_it_whole() {
    assert_caught(Broken::WholeCommands, 40, |options| options.crash.count = 0);
}

#[test]
fn a_window_that_the_target_does_not_have_is_caught() {
    assert_caught(Broken::Window, 40, |options| options.crash.count = 0);
}

#[test]
fn task_attributes_that_are_ignored_are_caught() {
    assert_caught(Broken::Order, 20, |options| options.crash.count = 0);
}

#[test]
fn good_in_place_of_an_error_is_caught() {
    assert_caught(Broken::Status, 20, |options| options.crash.count = 0);
}

#[test]
fn a_misdirected_read_is_found_out() {
    let failures = caught(|options| options.disk.lies.misread = 10);
    assert!(failures.len() >= 8, "{failures:#?}");
}

#[test]
fn a_lost_completion_is_found_out() {
    let failures = caught_in(4, |options| {
        options.crash.count = 0;
        options.disk.lies.forget = 50;
    });
    assert!(failures.len() >= 3, "{failures:#?}");
}

#[test]
fn stable_writes_that_are_not_are_found_out() {
    let failures = caught(|options| {
        crashing(options);
        options.disk.lies.fua = true;
    });
    assert!(failures.len() >= 8, "{failures:#?}");
}

/// Runs seeds of one kind; none may fail.
#[track_caller]
fn assert_kept(seeds: u64, setup: Setup, tune: impl Fn(&mut Options)) -> Coverage {
    let arena = array::arena();
    let mut coverage = Coverage::default();
    for seed in 0..seeds {
        match array::run_as(seed, arena, setup, &tune) {
            Ok(report) => coverage.add(&report.coverage),
            Err(failure) => panic!("\n{failure}\n"),
        }
    }
    coverage
}

#[test]
fn volumes_of_another_array_keep_every_promise() {
    let setup = Setup { links: Some(1), ..Setup::default() };
    assert_kept(from_env("KAGAMI_SEEDS").unwrap_or(60), setup, |options| options.disk.hang = 0);
}

#[test]
fn links_that_are_lost_all_the_time_break_nothing() {
    for links in [1, 2] {
        let setup = Setup { links: Some(links), ..Setup::default() };
        let coverage = assert_kept(from_env("KAGAMI_SEEDS").unwrap_or(30), setup, |options| {
            options.disk.hang = 0;
            options.net.cut = 600;
        });
        for (what, least) in
            [(Happening::LinkJoined, 60), (Happening::LinkLost, 30), (Happening::LinkRepeated, 20)]
        {
            assert!(coverage.count(what) >= least, "{}: {}", what.label(), coverage.count(what));
        }
    }
}

#[test]
fn hosts_that_keep_changing_everything_break_nothing() {
    // Seeds found here that a reset left the write cache as it was, that a refused MODE SELECT had its
    // effect, and that a command was answered after the reset that had ended it.
    assert_kept(30, Setup { unrest: Some(4), ..Setup::default() }, |options| options.crash.count += 1);
}

#[test]
fn connections_that_move_at_every_moment_break_nothing() {
    // Cuts, logouts, aborts, resets and crashes meet moves. Each run counts for itself what it reached.
    let setup = Setup { unrest: Some(6), moves: true, ..Setup::default() };
    let arena = array::arena();
    let mut coverage = Coverage::default();
    for seed in 0..from_env("KAGAMI_SEEDS").unwrap_or(120) {
        match array::run_as(seed, arena, setup, |options| options.crash.count += 1) {
            Ok(report) => coverage.add(&report.coverage),
            Err(failure) => panic!("\n{failure}\n"),
        }
    }
    println!("{coverage}");
    assert!(coverage.count(Happening::Moved) > 700, "{}", coverage.count(Happening::Moved));
    assert!(coverage.count(Happening::MoveGivenUp) > 0);
}

#[test]
fn volumes_that_are_spread_over_cores_are_one() {
    let setup = Setup { spread: true, ..Setup::default() };
    let seeds: Vec<u64> = match from_env("KAGAMI_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = from_env("KAGAMI_FIRST").unwrap_or(0);
            // In the first an operation had more parts than a shard has slots, in the second a core that stalled was
            // asked to end more commands than it could remember.
            let known = [0xf, 0x461].into_iter();
            known.chain(first..first + from_env("KAGAMI_SEEDS").unwrap_or(120)).collect()
        }
    };
    let arena = array::arena();
    let mut coverage = Coverage::default();
    for seed in &seeds {
        match array::run_as(*seed, arena, setup, |_| {}) {
            Ok(report) => coverage.add(&report.coverage),
            Err(failure) => panic!("\n{failure}\n"),
        }
    }
    println!("{coverage}");
    if seeds.len() > 100 {
        assert!(coverage.count(Happening::Part) > 1000, "{}", coverage.count(Happening::Part));
    }
}

#[test]
fn spread_volumes_stand_restless_hosts_hung_devices_and_crashes() {
    let count = from_env("KAGAMI_SEEDS").unwrap_or(30);
    let spread = Setup { spread: true, ..Setup::default() };
    assert_kept(count, Setup { unrest: Some(5), moves: true, ..spread }, |options| options.crash.count += 1);
    assert_kept(count, Setup { unrest: Some(12), io_timeout: Some(1), ..spread }, |options| {
        options.disk.hang = 200;
        options.disk.hang_time = 20_000_000_000;
        options.core.stall = 0;
    });
    assert_kept(count, Setup { cached: Some(true), ..spread }, |options| {
        options.crash.count = 6;
        options.crash.at_io = 1000;
        options.crash.io_within = 200;
        options.disk.eager = 0;
    });
}

/// Runs seeds of one kind; none may fail, and all of that must have happened.
#[track_caller]
fn assert_reached(seeds: u64, setup: Setup, wanted: &[(Happening, u64)], tune: impl Fn(&mut Options)) {
    let arena = array::arena();
    let mut coverage = Coverage::default();
    let only = from_env("KAGAMI_SEED");
    let first = only.unwrap_or(from_env("KAGAMI_FIRST").unwrap_or(0));
    let count = only.map_or(from_env("KAGAMI_SEEDS").unwrap_or(seeds), |_| 1);
    for seed in first..first + count {
        match array::run_as(seed, arena, setup, &tune) {
            Ok(report) => coverage.add(&report.coverage),
            Err(failure) => panic!("\n{failure}\n"),
        }
    }
    println!("{coverage}");
    if count >= seeds {
        for (what, times) in wanted {
            assert!(coverage.count(*what) >= *times, "{}: {}", what.label(), coverage.count(*what));
        }
    }
}

#[test]
fn devices_that_are_pulled_out_under_load_come_back_with_everything() {
    let wanted = [
        (Happening::Pulled, 60),
        (Happening::PulledDirty, 5),
        (Happening::WentOn, 40),
        (Happening::PulledLost, 5),
        (Happening::FlushOfLost, 2),
        (Happening::CommandFailed, 100),
        (Happening::NotReady, 100),
        (Happening::ReturnTold, 20),
        (Happening::ReadyAgain, 10),
        (Happening::ReadChecked, 1000),
    ];
    let setup = Setup { pulls: true, ..Setup::default() };
    assert_reached(100, setup, &wanted, |_| {});
    let spread = Setup { spread: true, cached: Some(true), ..setup };
    let wanted = [(Happening::WentOn, 20), (Happening::Part, 200), (Happening::FlushOfLostSpread, 5)];
    assert_reached(25, spread, &wanted, |options| options.disk.hang = 0);
}

#[test]
fn volumes_that_are_removed_and_added_under_load_keep_everything() {
    let wanted = [(Happening::VolumeRemoved, 60), (Happening::VolumeAdded, 60), (Happening::NoSuchUnit, 100)];
    let setup = Setup { changes: true, ..Setup::default() };
    assert_reached(40, setup, &wanted, |_| {});
    let spread = Setup { spread: true, ..setup };
    assert_reached(25, spread, &[(Happening::VolumeAdded, 30), (Happening::Part, 200)], |_| {});
}

/// A world in which only devices take long, and they do.
fn only_slow_disks(options: &mut Options) {
    *options = Options::calm();
    options.disk.service = 200_000_000;
}

#[test]
fn head_of_queue_goes_before_what_waits() {
    let setup = Setup { heads: true, ..Setup::default() };
    assert_reached(40, setup, &[(Happening::HeadKept, 100)], only_slow_disks);
}

#[test]
fn head_of_queue_that_waits_is_caught() {
    let arena = array::arena();
    let setup = Setup { heads: true, broken: Some(Broken::Head), ..Setup::default() };
    let found = (0..40).find_map(|seed| array::run_as(seed, arena, setup, only_slow_disks).err());
    let what = found.expect("not caught in 40 seeds").what;
    assert!(what.contains("HEAD OF QUEUE"), "{what}");
}

#[test]
fn what_a_hung_device_does_after_an_abort_or_reset_stays_in_its_place() {
    // A device that does not answer for longer than the array waits: functions are answered, and what it
    // does later must not overtake a newer write.
    let setup = Setup { unrest: Some(12), io_timeout: Some(1), ..Setup::default() };
    assert_kept(30, setup, |options| {
        options.disk.hang = 200;
        options.disk.hang_time = 20_000_000_000;
        options.core.stall = 0;
    });
}

#[test]
fn crashes_at_any_operation_lose_nothing_behind_a_cache() {
    let setup = Setup { cached: Some(true), ..Setup::default() };
    assert_kept(40, setup, |options| {
        options.crash.count = 6;
        options.crash.at_io = 1000;
        options.crash.io_within = 200;
        options.disk.eager = 0;
    });
}

/// The volumes of an array are in pairs with those of another one: hosts must be served as ever, and in the end both
/// halves are equal.
fn pairs(first: u64, count: u64, drill: Drill, tune: impl Fn(&mut Options)) -> Coverage {
    let arena = array::arena();
    let mut coverage = Coverage::default();
    let seeds = from_env("KAGAMI_SEED").map_or(first..first + count, |seed| seed..seed + 1);
    for seed in seeds {
        let setup = Setup { pairs: Some(drill), ..Setup::default() };
        match array::run_as(seed, arena, setup, &tune) {
            Ok(report) => coverage.add(&report.coverage),
            Err(failure) => panic!("\n{failure}\n"),
        }
    }
    coverage
}

#[test]
fn a_front_without_a_group_hides_nothing() {
    pairs(0, 60, Drill::Fronts, |_| {});
}

/// Only the crashes that the seed draws.
fn only_crashes(options: &mut Options) {
    *options = Options { crash: options.crash, ..Options::calm() };
}

/// Only connections that are cut, late and cut to pieces.
fn only_cuts(options: &mut Options) {
    *options = Options { net: options.net, ..Options::calm() };
}

/// `KAGAMI_PAIRS=n` runs n seeds of each kind: calm, with crashes, with cut links, with orders. Otherwise a few calm ones.
#[test]
fn halves_of_pairs_are_equal_in_the_end() {
    let calm = |options: &mut Options| *options = Options::calm();
    let Some(count) = from_env("KAGAMI_PAIRS") else {
        // In the second and the fourth a cache never took a region of the copy, as that was too long for it.
        pairs(0, 4, Drill::Orders(0), calm);
        return;
    };
    pairs(0, count, Drill::Orders(0), calm);
    pairs(0, count, Drill::Orders(0), only_crashes);
    pairs(0, count, Drill::Orders(0), only_cuts);
    pairs(0, count, Drill::Orders(6), calm);
}
