//! Entries that were read and are never restored cost what they are about, and no more: a takeover that stops before the
//! damage, and a journal that has rotted at the secondary.

mod world;

use kagami_replica::{Loser, Options, Order, RestoreTo, State};
use kagami_types::Time;
use std::time::Duration;
use world::World;
use world::calm::{LONG, begin, equal_at_last, ordered, paired, pass, plan, states};

/// What was read and not restored.
fn behind(world: &World, array: usize) -> u64 {
    let positions = world.reports()[array].as_ref().expect("a report").positions;
    positions.read.saturating_sub(positions.restored)
}

/// The secondary stops at a marker, and more than that is read. The last sequence that is restored.
fn held_back(world: &mut World) -> u64 {
    let number = world.order(1, Order::Restore(RestoreTo::Marker("stop".to_owned())));
    pass(world, Duration::from_millis(20));
    assert_eq!(ordered(world, 0, Order::Marker { name: "stop".to_owned(), wait: false }).0, 0);
    assert!(world.until(LONG, |world| world.script.answers.contains_key(&number)));
    let result = &world.script.answers[&number];
    assert_eq!(result.exit_code(), 0, "{}", result.text());
    let last = result.text().rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a sequence");
    let read = world.reports()[1].as_ref().expect("a report").positions.read;
    let more = |world: &World| {
        world.reports()[1].as_ref().is_some_and(|report| report.positions.read > read + (40 << 10))
    };
    assert!(world.until(LONG, more), "nothing is held back");
    last
}

#[test]
fn a_takeover_that_stops_early_copies_only_the_difference_on_the_way_back() {
    for seed in 1..6 {
        let mut world = begin(plan(seed, Options::default()));
        pass(&mut world, Duration::from_millis(300));
        held_back(&mut world);
        let (code, text) = ordered(&mut world, 1, Order::Takeover { dry_run: true, force: false });
        assert!(code == 0 && text.contains("behind the limit of restore"), "{text}");
        // A swap would have to restore what the operator holds back.
        let (code, text) = ordered(&mut world, 0, Order::Swap { dry_run: false });
        assert!(matches!(code, 1 | 3), "{text}");
        world.cut_until = Time(u64::MAX);
        let (code, text) = ordered(&mut world, 1, Order::Takeover { dry_run: false, force: false });
        assert_eq!(code, 11, "{text}");
        let difference = world.reports()[1].as_ref().expect("a report").difference;
        assert!((1..300).contains(&difference), "seed {seed}: {difference} of 512 granules differ");
        world.cut_until = Time(0);
        pass(&mut world, Duration::from_secs(3));
        let (code, text) = ordered(&mut world, 1, Order::Resync { discard: Some(Loser::There) });
        assert_eq!(code, 0, "{text}");
        paired(&mut world);
        equal_at_last(&mut world);
    }
}

#[test]
fn a_split_at_a_limit_ends_there() {
    let mut world = begin(plan(7, Options::default()));
    held_back(&mut world);
    let (code, text) = ordered(&mut world, 0, Order::Split { writable: false });
    assert_eq!(code, 0, "{text}");
    pass(&mut world, Duration::from_millis(100));
    assert_eq!(ordered(&mut world, 0, Order::Resync { discard: None }).0, 0);
    paired(&mut world);
    equal_at_last(&mut world);
}

#[test]
fn a_takeover_of_a_written_secondary_restores_nothing_over_what_hosts_wrote() {
    for seed in 21..24 {
        let mut world = begin(plan(seed, Options::default()));
        held_back(&mut world);
        let (code, text) = ordered(&mut world, 0, Order::Split { writable: true });
        assert_eq!(code, 0, "{text}");
        pass(&mut world, Duration::from_millis(300));
        let (code, text) = ordered(&mut world, 1, Order::Takeover { dry_run: false, force: false });
        assert_eq!(code, 11, "{text}");
        assert!(behind(&world, 1) > 0, "seed {seed}: what was held back was restored: {text}");
        pass(&mut world, Duration::from_secs(3));
        let (code, text) = ordered(&mut world, 1, Order::Resync { discard: Some(Loser::There) });
        assert_eq!(code, 0, "{text}");
        paired(&mut world);
        equal_at_last(&mut world);
    }
}

#[test]
fn a_secondary_whose_journal_has_rotted_copies_what_its_entries_are_about() {
    for seed in 11..15 {
        let hold = Duration::from_secs(3600);
        let mut world = begin(plan(seed, Options { hold, ..Options::default() }));
        assert!(world.until(LONG, |world| behind(world, 1) > 100 << 10), "nothing is held back");
        world.hosts.stopped = true;
        pass(&mut world, Duration::from_millis(100));
        world.crash(1);
        assert!(world.until(LONG, |world| world.reports()[1].is_some()));
        // The newest block that is no frame's head: it has data only.
        let report = world.reports()[1].clone().expect("a report");
        let block = |world: &World, offset: u64| {
            let place = report.data_at + offset % report.data_len;
            (place, world.arrays[1].journal.read(place, 4096))
        };
        let (_, head) = block(&world, report.positions.restored);
        let blocks = (report.positions.restored / 4096..report.positions.read / 4096).rev();
        let mut found =
            blocks.map(|at| block(&world, at * 4096)).filter(|(_, bytes)| bytes[..8] != head[..8]);
        let (place, mut bytes) = found.next().expect("data");
        bytes[1000] ^= 16;
        world.arrays[1].journal.write(place, &bytes, true);
        let (code, text) = ordered(&mut world, 1, Order::Takeover { dry_run: false, force: false });
        assert_eq!(code, 1, "{text}");
        assert!(world.until(LONG, |world| states(world) == [Some(State::Psue); 2]), "{:?}", states(&world));
        let difference = world.reports()[1].as_ref().expect("a report").difference;
        assert!((1..300).contains(&difference), "seed {seed}: {difference} of 512 granules differ");
        world.hosts.stopped = false;
        assert_eq!(ordered(&mut world, 0, Order::Resync { discard: None }).0, 0);
        let copied = |world: &World| world.reports()[1].as_ref().map_or(u64::MAX, |report| report.difference);
        assert!(copied(&world) < 400, "seed {seed}: {} granules are copied", copied(&world));
        paired(&mut world);
    }
}

#[test]
fn a_limit_of_restore_holds_over_a_restart() {
    for seed in 31..35 {
        let mut world = begin(plan(seed, Options::default()));
        let last = held_back(&mut world);
        // The journal is not to fill meanwhile.
        world.hosts.stopped = true;
        world.crash(1);
        assert!(world.until(LONG, |world| world.reports()[1].is_some()), "{:?}", world.failure);
        pass(&mut world, Duration::from_secs(2));
        let restored = world.reports()[1].as_ref().expect("a report").positions.restored_sequence;
        assert_eq!(
            restored.0, last,
            "seed {seed}: restored beyond the limit after a restart, or not up to it"
        );
        assert!(behind(&world, 1) > 40 << 10, "seed {seed}: nothing is held back any more");
        // Lifted, it is so for good.
        let (code, text) = ordered(&mut world, 1, Order::Restore(RestoreTo::Read));
        assert_eq!(code, 0, "{text}");
        world.crash(1);
        paired(&mut world);
        equal_at_last(&mut world);
    }
}

#[test]
fn a_restore_to_a_time_ends_without_anything_newer() {
    let mut world = begin(plan(41, Options::default()));
    pass(&mut world, Duration::from_millis(300));
    world.hosts.stopped = true;
    pass(&mut world, Duration::from_millis(500));
    let last = world.reports()[1].as_ref().expect("a report").consistent_at;
    let (code, text) = ordered(&mut world, 1, Order::Restore(RestoreTo::Time(last + 1)));
    assert_eq!(code, 0, "{text}");
    let (code, text) = ordered(&mut world, 1, Order::Restore(RestoreTo::Read));
    assert_eq!(code, 0, "{text}");
}
