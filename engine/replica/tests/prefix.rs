//! Pairs of arrays through crashes, cuts and orders: whatever a secondary shows is a moment of its primary's history.

mod world;

use kagami_replica::Options;
use world::World;
use world::plan::{Plan, Sabotage};

/// Seeds that once failed, each for a reason of its own: one UNMAP in two frames (415, 520), a formation that ended by the page
/// of a suspended primary (118), a swap's stop at a full journal (96), numbers that a discarded history had taken (266, 725), two
/// secondaries (104), bits of a finished copy (356), a first superblock torn in its first sector (1082), a bitmap that was given
/// up while its write failed (3155), a copy that its secondary did not begin, as it had been written since (20317), and a judge that was wrong (237, 442).
const MENDED: [u64; 13] = [96, 104, 118, 237, 266, 356, 415, 442, 520, 725, 1082, 3155, 20317];

/// The same since hosts are answered before the journal has their writes: a swap that was refused twice and done all the same
/// (31448), a takeover that was done again after a resync had begun (31695), and with odd orders, writes that a fence let by before the
/// journal's end was durable (40438), a takeover that restored what was old over what hosts had written to a split secondary (932), a
/// write whose bits were there behind a promised one that waited for its own in vain (766), a copy that was complete
/// as the one before it was (1541), superblocks that could not be read once (596), and a world or judge that was wrong (4128, 4817, 40009,
/// 6286). A fenced primary that applied its journal again, and became a secondary without a flush; and one order to swap that swapped
/// twice, as who had done it crashed before it said so (7417). An `out` that went back (8798). What was to be durable after a superblock
/// that could not be written, and never was written itself (10387). A page of before a restart, with a fence that was refused then
/// (11495).
const MENDED_SINCE: [u64; 2] = [31448, 31695];
const MENDED_ODD: [u64; 13] = [596, 766, 932, 1541, 4128, 4817, 6286, 7417, 8798, 10387, 11495, 40009, 40438];
/// Since devices of volumes lose writes, and options change: a gentle copy that was complete and went on asking to be woken (188), a judge
/// that was wrong (389, 3174), a sink that had stopped before the group began anew (575), and a full journal that nothing could make room in meanwhile
/// (877).
const MENDED_LOSING: [u64; 5] = [188, 389, 575, 877, 3174];

/// As that seed was when it failed: what worlds have learnt since is not in it.
fn as_was(seed: u64) -> Plan {
    let plan = Plan::of(seed);
    let options = Options { poller: true, ..plan.options.clone() };
    Plan { options, loses: false, changes: false, ..plan }
}

/// Every seed here ends with two equal arrays; `examples/seeds.rs` runs as many as one likes.
#[test]
fn seeds() {
    let mut seen = world::Seen::default();
    // As they were when they failed.
    let old = |seed| Plan { cores: [0; 3], rot: false, odd: false, ..as_was(seed) };
    let mended = MENDED.map(|seed| Plan { write_back: false, ..old(seed) });
    for plan in (0..12)
        .map(Plan::of)
        .chain(mended)
        .chain(MENDED_SINCE.map(old))
        .chain(MENDED_ODD.map(as_was))
        .chain(MENDED_LOSING.map(Plan::of))
    {
        let seed = plan.seed;
        match World::run(plan, false) {
            Ok(one) => seen.add(&one),
            Err(failure) => panic!("seed {seed}: {}\n{}", failure.why, failure.trace.join("\n")),
        }
    }
    for (what, count) in &seen.0 {
        println!("{count:>9} {what}");
    }
    for what in [
        "seeds to the end",
        "crash",
        "promised write",
        "state secondary PAIR",
        "mode Tracking",
        "swap judged",
    ] {
        assert!(seen.0.contains_key(what), "no seed has shown: {what}");
    }
}

/// A broken world is caught, by this many seeds at most; what was said of it.
fn caught(sabotage: Sabotage, most: u64, words: &[&str]) {
    for seed in 0..most {
        let plan = Plan { sabotage, write_back: false, ..Plan::of(seed) };
        let plan = Plan { crashes: true, takeovers: true, swaps: true, bad_store: 0, ..plan };
        let why = match std::panic::catch_unwind(|| World::run(plan, false)) {
            Ok(Ok(_)) => continue,
            Ok(Err(failure)) => failure.why,
            Err(_) => "a panic".to_owned(),
        };
        println!("{sabotage:?} is caught by seed {seed}: {}", why.chars().take(120).collect::<String>());
        if words.is_empty() || words.iter().any(|word| why.contains(word)) {
            return;
        }
    }
    panic!("nobody noticed {sabotage:?} in {most} seeds");
}

#[test]
fn a_lying_journal_is_caught() {
    caught(Sabotage::LyingJournal, 30, &[]);
}

#[test]
fn writes_before_they_are_in_the_journal_are_caught() {
    caught(Sabotage::EarlyStable, 30, &[]);
}

#[test]
fn bits_that_are_not_durable_are_caught() {
    caught(Sabotage::LostBits, 60, &["no bit says so", "differ"]);
}

#[test]
fn a_missing_restore_target_is_caught() {
    caught(Sabotage::NoTarget, 30, &["may only apply"]);
}

#[test]
fn an_early_purge_is_caught() {
    caught(Sabotage::EarlyPurge, 30, &["has freed"]);
}

#[test]
fn an_early_marker_is_caught() {
    caught(Sabotage::EarlyMarker, 120, &["marker"]);
}

#[test]
fn a_formation_named_before_its_volumes_are_stable_is_caught() {
    caught(Sabotage::EarlyName, 60, &["differ", "no moment", "no bit"]);
}

#[test]
fn two_primaries_are_caught() {
    caught(Sabotage::TwoPrimaries, 30, &["both arrays", "after a swap"]);
}
