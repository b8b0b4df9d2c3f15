//! Rules of one side, with its peer played by hand: what it refuses, what it shows, and what it does when it hears nothing.

mod peer;

use kagami_journal::EntryKind;
use kagami_replica::mail::Mode;
use kagami_replica::{Loser, Options, Order, PeerRead, Side, State};
use kagami_types::Sequence;
use peer::Desk;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A primary in PAIR, whose peer has read nothing more than where the formation began.
fn primary(options: Options) -> Desk {
    let mut desk = Desk::new(Side::Primary, options);
    desk.turn(7);
    desk.say();
    desk.pass(SECOND);
    desk.turn(9);
    desk.say();
    desk.pass(SECOND);
    let record = desk.group.record().expect("a record");
    assert_eq!((record.side, record.state), (Side::Primary, State::Pair));
    desk
}

/// A secondary in PAIR.
fn secondary(options: Options) -> Desk {
    let mut desk = Desk::new(Side::Secondary, options);
    desk.turn(0);
    desk.say();
    desk.pass(3 * SECOND);
    desk.turn(1);
    desk.say();
    desk.pass(SECOND);
    let record = desk.group.record().expect("a record");
    assert_eq!((record.side, record.state), (Side::Secondary, State::Pair));
    desk
}

/// An order's exit code and words; 255 where it still waits.
fn ordered(desk: &mut Desk, order: Order) -> (u8, String) {
    let number = desk.ordered(order);
    desk.pass(SECOND / 2);
    desk.answers
        .get(&number)
        .map_or((255, String::new()), |result| (result.exit_code(), result.text().to_owned()))
}

fn mark(desk: &mut Desk, name: &str) {
    let (code, text) = ordered(desk, Order::Marker { name: name.to_owned(), wait: false });
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_peer_reads_what_is_stable_and_nothing_else() {
    let mut desk = primary(Options::default());
    mark(&mut desk, "one");
    let report = desk.group.report(desk.now, desk.wall).expect("a report");
    let read = |desk: &mut Desk, at, len| desk.call(|group, cx| group.on_peer_read(cx, at, len));
    let (out, stable) = (report.positions.out, report.positions.stable);
    assert!(out < stable && stable < report.data_len);
    let len = u32::try_from(stable - out).expect("a little");
    assert!(matches!(read(&mut desk, report.data_at + out, len), PeerRead::Device { .. }));
    assert!(matches!(read(&mut desk, report.data_at + out, len + 4096), PeerRead::Refused));
    assert!(matches!(read(&mut desk, report.data_at + stable, 4096), PeerRead::Refused));
    assert!(matches!(read(&mut desk, report.data_at - 4096, 4096), PeerRead::Refused), "the index");
    assert!(matches!(read(&mut desk, 4096, 4096), PeerRead::Refused), "the superblock");
    for (at, len) in [(u64::MAX, 4096), (u64::MAX - 4095, u32::MAX), (report.data_at, u32::MAX)] {
        assert!(matches!(read(&mut desk, at, len), PeerRead::Refused), "{at} {len}");
    }
}

#[test]
fn the_clock_goes_on_from_the_other_sides() {
    let mut desk = secondary(Options::default());
    // The other array's clock is an hour ahead.
    let ahead = desk.wall + 3_600_000_000_000;
    desk.journals(EntryKind::Nothing, ahead);
    desk.pass(2 * SECOND);
    desk.turn(2);
    desk.say();
    desk.pass(3 * SECOND);
    assert_eq!(desk.group.record().map(|record| record.side), Some(Side::Primary));
    mark(&mut desk, "later");
    let newest = desk.group.source().expect("it journals").newest();
    assert!(newest >= ahead, "{newest} {ahead}");
}

#[test]
fn a_purge_beyond_what_is_confirmed_is_refused() {
    let mut desk = primary(Options { poller: false, ..Options::default() });
    mark(&mut desk, "one");
    let source = desk.group.source().expect("it journals");
    let (confirmed, stable) = (source.confirmed(), source.stable().0.offset);
    assert!(confirmed < stable);
    let (code, text) = ordered(&mut desk, Order::Purge { to: stable });
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("confirmed no more"), "{text}");
    assert_eq!(ordered(&mut desk, Order::Purge { to: confirmed }).0, 0);
}

#[test]
fn without_its_journal_no_volume_is_served() {
    let mut desk = primary(Options::default());
    for name in ["one", "two", "three"] {
        mark(&mut desk, name);
    }
    let report = desk.group.report(desk.now, desk.wall).expect("a report");
    // What lies in the frame after the first one that is kept.
    let at = report.data_at + report.positions.out + 4096;
    let mut block = desk.device.read(at, 4096);
    block[64] ^= 1;
    desk.device.write(at, &block);
    desk.restart();
    desk.pass(100 * SECOND);
    assert_eq!(desk.modes.last(), Some(&Mode::Stopped));
    assert!(desk.modes.iter().all(|mode| *mode == Mode::Stopped), "{:?}", desk.modes);
    let report = desk.group.report(desk.now, desk.wall).expect("a report");
    assert!(report.last_error.contains("damaged"), "{}", report.last_error);
}

#[test]
fn nobody_reads_between_a_crash_and_what_was_half_applied() {
    let mut desk = secondary(Options { secondary_reads: true, ..Options::default() });
    assert_eq!(desk.modes.last(), Some(&Mode::Secondary { reads: true }));
    // One to be flushed, so that the next is not at once.
    desk.journals(EntryKind::Nothing, desk.wall);
    while desk.group.sink().expect("it pulls").durable().restored_sequence == Sequence::ZERO {
        desk.pass(Duration::from_millis(20));
    }
    let before = desk.group.sink().expect("it pulls").durable();
    desk.journals(EntryKind::Nothing, desk.wall);
    // Until it may have been applied, and no longer.
    for _ in 0..200 {
        desk.pass(Duration::from_millis(20));
        if desk.group.sink().expect("it pulls").durable().target_sequence > before.target_sequence {
            break;
        }
    }
    let durable = desk.group.sink().expect("it pulls").durable();
    assert!(durable.target_sequence > durable.restored_sequence, "{durable:?}");
    desk.restart();
    desk.pass(3 * SECOND);
    let first = desk.modes.iter().find(|mode| matches!(mode, Mode::Secondary { .. }));
    assert_eq!(first, Some(&Mode::Secondary { reads: false }), "{:?}", desk.modes);
    assert_eq!(desk.modes.last(), Some(&Mode::Secondary { reads: true }), "{:?}", desk.modes);
}

#[test]
fn one_drives() {
    let mut desk = secondary(Options::default());
    for order in [Order::Acquire { to: 0 }, Order::Acquire { to: 4096 }] {
        let (code, text) = ordered(&mut desk, order);
        assert_eq!(code, 3, "{text}");
        assert!(text.contains("poller"), "{text}");
    }
    let mut desk = Desk::new(Side::Secondary, Options { poller: false, ..Options::default() });
    desk.turn(0);
    desk.say();
    for _ in 0..3 {
        desk.journals(EntryKind::Nothing, desk.wall);
        desk.pass(SECOND);
    }
    assert_eq!(desk.group.sink().expect("it pulls").read().1, Sequence::ZERO, "nobody has ordered that");
    assert_eq!(ordered(&mut desk, Order::Acquire { to: 0 }).0, 0);
    assert_eq!(desk.group.sink().expect("it pulls").read().1, Sequence(3));
}

#[test]
fn a_reader_that_does_not_ask_is_given_up() {
    let mut desk = primary(Options { reader_limit: Duration::from_secs(30), ..Options::default() });
    let state = |desk: &Desk| desk.group.record().map(|record| record.state);
    for _ in 0..5 {
        desk.pass(20 * SECOND);
        desk.say();
    }
    assert_eq!(state(&desk), Some(State::Pair));
    desk.pass(32 * SECOND);
    assert_eq!(state(&desk), Some(State::Psue));
    assert_eq!(desk.modes.last(), Some(&Mode::Tracking));
}

#[test]
fn a_swap_is_refused_to_a_secondary_that_is_far_behind() {
    let mut desk = primary(Options::default());
    mark(&mut desk, "one");
    desk.page.reading.restored_time = desk.wall - 60_000_000_000;
    desk.say();
    let (code, text) = ordered(&mut desk, Order::Swap { dry_run: false });
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("behind"), "{text}");
    assert!(desk.group.record().is_some_and(|record| record.fence.is_none()));
}

#[test]
fn a_primary_that_restarts_asks_before_it_serves() {
    for (alone, heard) in [(true, false), (false, false), (false, true)] {
        let wait = Duration::from_secs(5);
        let mut desk = primary(Options { restart_wait: wait, alone_serves: alone, ..Options::default() });
        desk.restart();
        desk.silent(4 * SECOND);
        assert!(desk.modes.is_empty(), "it has asked nobody yet: {:?}", desk.modes);
        if heard {
            desk.say();
        }
        desk.silent(2 * SECOND);
        let serves = desk.modes.last() == Some(&Mode::Journaling);
        assert_eq!(serves, alone || heard, "{:?}", desk.modes);
    }
}

#[test]
fn what_is_here_to_one_is_there_to_the_other() {
    let mut desk = secondary(Options::default());
    desk.turn(4);
    desk.say();
    desk.pass(2 * SECOND);
    assert_eq!(desk.group.record().map(|record| record.state), Some(State::Psus { writable: false }));
    for (here, there) in [(Loser::Here, Loser::There), (Loser::There, Loser::Here)] {
        desk.ordered(Order::Resync { discard: Some(here) });
        let asked = desk.seen().orders.last().map(|order| order.order.clone());
        assert_eq!(asked, Some(Order::Resync { discard: Some(there) }));
        desk.pass(Duration::from_secs(61));
    }
}
