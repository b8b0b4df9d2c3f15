//! Single rules.

use super::world::{BLOCKS, World};
use super::*;
use kagami_journal::{EntryKind, GRANULE};
use kagami_types::Epoch;
use std::num::NonZeroU64;

fn trouble(event: &SinkEvent) -> Option<Trouble> {
    match event {
        SinkEvent::Trouble(trouble) => Some(trouble.clone()),
        _ => None,
    }
}

/// A pair with that many writes of one block each, whose entries are 1 microsecond apart.
fn with_writes(world: &mut World, count: u64) {
    for number in 0..count {
        let lba = (number * 37) % BLOCKS;
        assert!(world.far.append(EntryKind::Write, 0, lba, 1, &[number as u8 + 1; 512]));
    }
    world.far.commit();
}

fn finish(world: &mut World, hold: bool) -> Sequence {
    world.events.clear();
    world.call(|sink, cx| sink.finish(cx, hold));
    let at = world.until(drained);
    world.check_image(at);
    at
}

#[test]
fn young_entries_wait_and_can_be_left_out() {
    let mut world = World::new(1, false);
    world.options.hold = Duration::from_millis(50);
    world.begin();
    with_writes(&mut world, 5);
    world.settle();
    let first = world.sink.applied().0;
    world.far.clock += 50_000_000;
    with_writes(&mut world, 5);
    world.settle();
    assert_eq!((first, world.sink.applied().0), (Sequence::ZERO, Sequence(5)));
    assert_eq!(world.sink.read().1, Sequence(10), "they are here, though not applied");
    assert_eq!(world.sink.figures(world.now, 0).lag_writes, 5);
    assert_eq!(finish(&mut world, true), Sequence(5));
    assert_eq!(finish(&mut world, false), Sequence(10));
}

#[test]
fn a_crash_does_not_apply_what_was_held() {
    let mut world = World::new(3, false);
    world.options.hold = Duration::from_secs(3600);
    world.begin();
    with_writes(&mut world, 20);
    world.settle();
    world.crash();
    assert_eq!(finish(&mut world, true), Sequence::ZERO);
    assert_eq!(finish(&mut world, false), Sequence(20));
}

#[test]
fn restore_stops_at_its_limit() {
    let mut world = World::new(1, false);
    world.call(|sink, cx| sink.set_limit(cx, Limit::Sequence(Sequence(7))));
    with_writes(&mut world, 10);
    world.far.append(EntryKind::Marker, 0, 0, 0, b"noon");
    with_writes(&mut world, 10);
    let reached = |event: &SinkEvent| match event {
        SinkEvent::LimitReached(sequence) => Some(*sequence),
        _ => None,
    };
    assert_eq!(world.until(reached), Sequence(7));
    world.check_image(Sequence(7));
    world.crash();
    world.call(|sink, cx| sink.set_limit(cx, Limit::Sequence(Sequence(7))));
    assert_eq!(finish(&mut world, false), Sequence(7), "not even a crash brings it further");
    world.events.clear();
    world.call(Sink::go_on);
    let time = world.far.history[8].0.time;
    world.call(|sink, cx| sink.set_limit(cx, Limit::Time(time)));
    assert_eq!(world.until(reached), Sequence(9));
    world.check_image(Sequence(9));
    world.call(|sink, cx| sink.set_limit(cx, Limit::Marker(b"noon".to_vec())));
    assert_eq!(world.until(reached), Sequence(11));
    assert!(
        world.events.iter().any(|event| matches!(event, SinkEvent::Marker { name, .. } if name == b"noon"))
    );
    world.events.clear();
    world.call(|sink, cx| sink.set_limit(cx, Limit::Sequence(Sequence(8))));
    assert!(matches!(world.events[..], [SinkEvent::LimitPassed(Sequence(11))]));
    world.settle();
    assert_eq!(world.sink.applied().0, Sequence(11));
    world.call(|sink, cx| sink.set_limit(cx, Limit::None));
    world.settle();
    assert_eq!(world.sink.applied().0, Sequence(21));
}

#[test]
fn what_an_order_names_is_not_held_back() {
    let mut world = World::new(1, false);
    world.options.hold = Duration::from_secs(3600);
    world.begin();
    with_writes(&mut world, 5);
    world.far.append(EntryKind::Marker, 0, 0, 0, b"noon");
    with_writes(&mut world, 5);
    world.settle();
    world.call(|sink, cx| sink.set_limit(cx, Limit::Marker(b"midnight".to_vec())));
    world.settle();
    assert_eq!(world.sink.applied().0, Sequence::ZERO, "a name that nobody gave");
    world.call(|sink, cx| sink.set_limit(cx, Limit::Marker(b"noon".to_vec())));
    world.settle();
    assert_eq!(world.sink.applied().0, Sequence(6));
    world.check_image(Sequence(6));
    let time = world.far.history[7].0.time;
    world.call(|sink, cx| sink.set_limit(cx, Limit::Time(time)));
    world.settle();
    assert_eq!(world.sink.applied().0, Sequence(8));
    world.call(|sink, cx| sink.set_limit(cx, Limit::None));
    world.settle();
    assert_eq!(world.sink.applied().0, Sequence(8), "what nobody names waits");
}

#[test]
fn what_has_rotten_here_is_never_skipped() {
    let mut world = World::new(1, false);
    world.options.hold = Duration::from_secs(3600);
    world.begin();
    with_writes(&mut world, 4);
    world.settle();
    with_writes(&mut world, 4);
    world.settle();
    world.crash();
    // One byte of the data of the second frame.
    let from = world.layout.place(world.places.read.offset) as usize - 4096;
    world.journal[from + 600] ^= 4;
    world.events.clear();
    world.call(|sink, cx| sink.finish(cx, false));
    let Trouble::Corrupt { at, .. } = world.until(trouble) else { panic!() };
    assert!(at < world.places.read.offset && at >= world.places.restored.offset, "{at} {:?}", world.places);
    world.settle();
    world.check_image(Sequence(4));
}

#[test]
fn a_far_journal_that_stays_damaged_is_told() {
    let mut world = World::new(1, false);
    world.faults.far_bad = 1;
    with_writes(&mut world, 40);
    assert!(matches!(world.until(trouble), Trouble::FarCorrupt { .. }));
    let read = world.sink.read().1;
    assert_eq!(finish(&mut world, false), read, "what had arrived whole is good");
}

#[test]
fn a_primary_that_lost_or_freed_what_is_needed_is_told() {
    let mut world = World::new(1, false);
    with_writes(&mut world, 10);
    world.settle();
    let mut view = world.far.view();
    view.epoch = Epoch(9);
    view.stable -= 4096;
    world.sink.polling = true;
    world.call(|sink, cx| sink.on_page(cx, &view));
    assert!(matches!(world.until(trouble), Trouble::Beyond { .. }));
    assert_eq!(finish(&mut world, false), Sequence(10));

    let mut world = World::new(1, false);
    with_writes(&mut world, 10);
    let mut view = world.far.view();
    view.out = view.stable;
    world.sink.polling = true;
    world.call(|sink, cx| sink.on_page(cx, &view));
    assert!(matches!(world.until(trouble), Trouble::Swept { read: 0, .. }));
}

#[test]
fn a_host_drives_the_same_way() {
    let mut world = World::new(1, false);
    world.drive = Drive::Host;
    world.begin();
    with_writes(&mut world, 10);
    world.settle();
    assert_eq!(world.sink.read().1, Sequence::ZERO, "nothing without an order");
    let end = world.far.view().stable;
    world.call(|sink, cx| sink.acquire(cx, end));
    let acquired = |event: &SinkEvent| match event {
        SinkEvent::Acquired(to) => Some(*to),
        _ => None,
    };
    assert_eq!(world.until(acquired), end);
    assert_eq!((world.places.read.offset, world.sink.applied().0), (end, Sequence::ZERO));
    world.call(|sink, cx| sink.restore_up_to(cx, end));
    assert_eq!(world.until(restored), Sequence(10));
    world.check_image(Sequence(10));
    world.call(|sink, cx| sink.restore_up_to(cx, end));
    assert_eq!(world.until(restored), Sequence(10), "again is the same");
    // More than there is: what there is.
    with_writes(&mut world, 3);
    let end = world.far.view().stable;
    world.call(|sink, cx| sink.acquire(cx, end + (1 << 20)));
    assert_eq!(world.until(acquired), end);
    world.call(|sink, cx| sink.acquire(cx, 4096));
    assert_eq!(world.until(acquired), end, "it is there already");
}

#[test]
fn what_was_being_read_of_a_primary_that_recovered_since_is_read_again() {
    let mut world = World::new(2, true);
    while world.sink.copy.reading().is_empty() {
        world.step();
    }
    let before = world.sink.copy.reading();
    world.far.restart(9);
    let view = world.far.view();
    world.sink.polling = true;
    world.call(|sink, cx| sink.on_page(cx, &view));
    let after = world.sink.copy.reading();
    assert!(before.iter().all(|tag| !after.contains(tag)), "{before:?} {after:?}");
    let at = world.until(formed);
    world.check_image(at);
}

#[test]
fn a_copy_does_not_end_by_a_page_that_was_asked_for_before_its_last_region() {
    let mut world = World::new(5, true);
    let poll = loop {
        if let Forming::Asking(poll) = world.sink.forming {
            break poll;
        }
        // One is always under way.
        if !world.sink.polling {
            world.sink.polling = true;
            world.sink.polls += 1;
        }
        world.step();
    };
    assert_eq!(poll, world.sink.polls + 1);
    let view = world.far.view();
    world.sink.polling = true;
    world.sink.take_page(world.now, &view);
    assert_eq!(world.sink.forming, Forming::Asking(poll));
    world.sink.polls += 1;
    world.sink.take_page(world.now, &view);
    assert_eq!(world.sink.forming, Forming::Restoring(view.stable_sequence));
}

#[test]
fn a_host_may_name_any_place() {
    let mut world = World::new(1, false);
    world.drive = Drive::Host;
    world.begin();
    with_writes(&mut world, 10);
    let end = world.far.view().stable;
    let acquired = |event: &SinkEvent| match event {
        SinkEvent::Acquired(to) => Some(*to),
        _ => None,
    };
    for to in [1, 4097, end - 1, end + 1, u64::MAX] {
        world.events.clear();
        world.call(|sink, cx| sink.acquire(cx, to));
        let read = world.until(acquired);
        assert!(read <= end && read.is_multiple_of(4096), "{to}: {read}");
    }
    assert_eq!(world.sink.read().0.offset, end);
}

#[test]
fn what_is_read_never_goes_round_the_own_journal() {
    let mut world = World::new(4, false);
    with_writes(&mut world, 10);
    world.call(Sink::pause);
    let mut view = world.far.view();
    view.stable += 10 * world.layout.data_len;
    world.sink.polling = true;
    world.call(|sink, cx| sink.on_page(cx, &view));
    assert_eq!(world.sink.fetch.asked(), world.places.restored.offset + world.layout.data_len);
}

#[test]
fn an_order_is_not_what_a_swap_waits_for() {
    let mut world = World::new(1, false);
    world.drive = Drive::Host;
    world.begin();
    with_writes(&mut world, 4);
    let half = world.far.view().stable;
    with_writes(&mut world, 4);
    let end = world.far.view().stable;
    world.call(|sink, cx| sink.acquire(cx, half));
    world.settle();
    world.call(|sink, cx| sink.drain_to(cx, Sequence(8)));
    world.settle();
    world.events.clear();
    world.call(|sink, cx| sink.restore_up_to(cx, half));
    assert_eq!(world.until(restored), Sequence(4));
    world.settle();
    assert!(!world.events.iter().any(|event| drained(event).is_some()), "{:?}", world.events);
    world.call(|sink, cx| sink.acquire(cx, end));
    world.call(|sink, cx| sink.restore_up_to(cx, end));
    assert_eq!(world.until(drained), Sequence(8));
    world.check_image(Sequence(8));
}

#[test]
fn a_host_drives_to_a_marker_and_a_time() {
    let mut world = World::new(1, false);
    world.drive = Drive::Host;
    world.begin();
    with_writes(&mut world, 5);
    let time = world.far.history[2].0.time;
    world.far.append(EntryKind::Marker, 0, 0, 0, b"noon");
    with_writes(&mut world, 5);
    world.far.append(EntryKind::Marker, 0, 0, 0, b"last");
    world.far.commit();
    let end = world.far.view().stable;
    world.call(|sink, cx| sink.acquire(cx, end));
    world.settle();
    // All that was read has to be read again.
    world.crash();
    world.settle();
    world.call(|sink, cx| sink.set_limit(cx, Limit::Marker(b"midnight".to_vec())));
    world.until(|event| matches!(event, SinkEvent::NoMarker).then_some(()));
    world.settle();
    assert_eq!(world.sink.applied().0, Sequence::ZERO, "nobody gave that name");
    let restore = |world: &mut World, limit: Limit| {
        world.events.clear();
        let marker = matches!(limit, Limit::Marker(_));
        world.call(|sink, cx| sink.set_limit(cx, limit));
        if !marker {
            world.call(|sink, cx| sink.restore_up_to(cx, end));
        }
        let at = world.until(restored);
        world.check_image(at);
        at
    };
    assert_eq!(restore(&mut world, Limit::Time(time)), Sequence(3));
    world.call(|sink, cx| sink.set_limit(cx, Limit::Marker(b"midnight".to_vec())));
    world.settle();
    assert_eq!(world.sink.applied().0, Sequence(3), "it stays where it was");
    assert_eq!(restore(&mut world, Limit::Marker(b"noon".to_vec())), Sequence(6));
    assert_eq!(restore(&mut world, Limit::Marker(b"last".to_vec())), Sequence(12), "with nothing behind it");
}

#[test]
fn a_medium_error_of_the_primary_names_its_place() {
    let mut world = World::new(2, true);
    world.faults.bad_byte = 3 * GRANULE + 5 * 512;
    world.far.volumes[0][world.faults.bad_byte as usize] = 1;
    let found = world.until(trouble);
    let Trouble::Copy { volume, at, .. } = found else { panic!("{found:?}") };
    assert_eq!((volume, at), (VolumeIndex(0), 3 * GRANULE));
    assert!(world.bits[0].contains(3));
}

#[test]
fn what_is_not_allocated_is_not_read() {
    let mut world = World::new(2, true);
    for image in world.far.volumes.iter_mut().chain(&mut world.far.base) {
        image.fill(0);
    }
    world.far.volumes[1][700..800].fill(7);
    world.far.base[1][700..800].fill(7);
    world.until(formed);
    world.check_image(Sequence::ZERO);
    let figures = world.sink.figures(world.now, 0);
    assert_eq!((figures.copied_bytes, figures.left), (GRANULE, 0));
    assert!((figures.percent() - 100.0).abs() < 0.01);
}

#[test]
fn a_copy_keeps_the_rate_that_it_was_given() {
    let time = |pace: Pace| {
        let mut world = World::new(2, true);
        world.options.pace = pace;
        world.begin();
        let began = world.now;
        let at = world.until(formed);
        world.check_image(at);
        (world.sink.figures(world.now, 0).copied_bytes, world.now.since(began))
    };
    let rate = 1 << 20;
    let (bytes, took) = time(Pace::Rate(NonZeroU64::new(rate).unwrap()));
    // The first piece, of at most 1 MiB, waits for nothing; what follows waits for those before it.
    let least = Duration::from_nanos((bytes - (1 << 20)) * 1_000_000_000 / rate);
    assert!(bytes > 3 << 19 && took >= least && took < least * 3, "{bytes} bytes in {took:?}");
    let (same, fast) = time(Pace::Full);
    assert!(same == bytes && fast < least / 4, "{same} bytes in {fast:?}");

    // It can be changed while it copies.
    let mut world = World::new(2, true);
    world.options.pace = Pace::Rate(NonZeroU64::MIN);
    world.begin();
    for _ in 0..2000 {
        world.step();
    }
    assert!(world.sink.figures(world.now, 0).left > 0);
    world.call(|sink, cx| sink.set_options(cx, SinkOptions::default()));
    let at = world.until(formed);
    world.check_image(at);
}

#[test]
fn a_copy_does_not_end_by_the_page_of_a_primary_that_has_left_its_journal() {
    let mut world = World::new(2, true);
    with_writes(&mut world, 20);
    world.far.journals = false;
    for _ in 0..3000 {
        world.step();
    }
    assert_eq!(world.sink.figures(world.now, 0).left, 0, "all is copied");
    assert!(!world.events.iter().any(|event| formed(event).is_some()), "but it may be of no moment");
    world.far.journals = true;
    let at = world.until(formed);
    world.check_image(at);
}

#[test]
fn a_pause_is_a_moment_and_reading_goes_on() {
    let mut world = World::new(1, false);
    with_writes(&mut world, 30);
    for _ in 0..20 {
        world.step();
    }
    world.call(Sink::pause);
    let paused = |event: &SinkEvent| match event {
        SinkEvent::Paused(sequence) => Some(*sequence),
        _ => None,
    };
    let at = world.until(paused);
    world.check_image(at);
    with_writes(&mut world, 10);
    world.settle();
    world.check_image(at);
    assert_eq!(world.sink.read().1, Sequence(40));
    world.call(Sink::go_on);
    world.settle();
    world.check_image(Sequence(40));
}

#[test]
fn nothing_is_under_way_once_it_has_stopped() {
    for seed in 1..40 {
        let mut world = World::new(seed, seed.is_multiple_of(2));
        with_writes(&mut world, 30);
        for _ in 0..seed * 7 {
            world.step();
        }
        world.call(Sink::stop);
        world.until(|event| matches!(event, SinkEvent::Stopped).then_some(()));
        assert_eq!(world.under_way(), 0);
        let image = world.volumes.clone();
        world.settle();
        assert!(image == world.volumes);
    }
}

#[test]
fn entries_that_fit_no_volume_are_told() {
    let mut world = World::new(1, false);
    world.far.append(EntryKind::Resize, 0, 0, BLOCKS - 8, &[]);
    world.far.commit();
    let resized = world.until(|event| match event {
        SinkEvent::Resize { volume, blocks } => Some((*volume, *blocks)),
        _ => None,
    });
    assert_eq!(resized, (VolumeIndex(0), BLOCKS - 8));
    world.far.append(EntryKind::Write, 0, BLOCKS - 8, 1, &[1; 512]);
    world.far.commit();
    world.settle();
    assert_eq!(world.sink.applied().0, Sequence(1), "entries behind it wait for the new size");
    world.call(|sink, cx| sink.volume_resized(cx, VolumeIndex(0), BLOCKS - 8));
    let unfit = Trouble::Unfit { volume: VolumeIndex(0), sequence: Sequence(2) };
    assert_eq!(world.until(trouble), unfit);
}
