//! Pairs of arrays through crashes, cuts and orders: whatever a secondary shows is a moment of its primary's history.

mod world;

use world::World;
use world::plan::{Plan, Sabotage};

/// Seeds that once failed, each for a reason of its own: one UNMAP in two frames (415, 520), a formation that ended by the page
/// of a suspended primary (118), a swap's stop at a full journal (96), numbers that a discarded history had taken (266, 725), two
/// secondaries (104), bits of a finished copy (356), a first superblock torn in its first sector (1082), a bitmap that was given
/// up while its write failed (3155), a copy that its secondary did not begin, as it had been written since (20317), and a judge that was wrong (237, 442).
const MENDED: [u64; 13] = [96, 104, 118, 237, 266, 356, 415, 442, 520, 725, 1082, 3155, 20317];

/// Every seed here ends with two equal arrays; `examples/seeds.rs` runs as many as one likes.
#[test]
fn seeds() {
    let mut seen = world::Seen::default();
    let mended = MENDED.map(|seed| Plan { write_back: false, ..Plan::of(seed) });
    for plan in (0..12).map(Plan::of).chain(mended) {
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

/// A world whose journals' devices lie about what is stable is caught.
#[test]
fn a_lying_journal_is_caught() {
    let caught = (0..30).any(|seed| {
        let plan = Plan { sabotage: Sabotage::LyingJournal, crashes: true, ..Plan::of(seed) };
        std::panic::catch_unwind(|| World::run(plan, false)).is_ok_and(|run| run.is_err())
    });
    assert!(caught, "nobody noticed that journals lose what was stable");
}

/// So is one in which fronts let writes go on before they are in the journal.
#[test]
fn early_writes_are_caught() {
    let caught = (0..30).any(|seed| {
        let plan = Plan { sabotage: Sabotage::EarlyStable, write_back: false, ..Plan::of(seed) };
        std::panic::catch_unwind(|| World::run(plan, false)).is_ok_and(|run| run.is_err())
    });
    assert!(caught, "nobody noticed that writes are answered before they are in the journal");
}
