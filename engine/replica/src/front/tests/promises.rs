//! Writes that are answered before the journal has them.

use super::super::promise;
use super::*;
use std::sync::atomic::Ordering;

fn bench() -> Bench {
    let mut bench = Bench::with(Mode::Journaling);
    bench.front.set_write_back(true);
    bench
}

#[test]
fn a_write_without_fua_is_answered_with_its_sequence_and_read_when_the_store_has_it() {
    let mut b = bench();
    b.write(7, 3, 2, 5);
    assert_eq!(b.appended(), (1, Change::Write(range(3, 2)), vec![5; 2 * BLOCK]));
    assert_eq!(b.ended(), (7, Ok(())));
    b.quiet();
    assert!(!b.front.passes(&read(4, 1, false)) && b.front.passes(&read(5, 1, false)));
    b.submit(8, read(4, 1, false), &[]);
    assert!(matches!(b.mail.pop_front(), Some(ToGroup::Hurry(Sequence(1)))));
    b.quiet();
    b.stable(1);
    assert_eq!(b.stored(Ok(())), write(3, 2, false));
    assert_eq!(b.stored(Ok(())), read(4, 1, false), "it sees what was answered");
    assert_eq!(b.ended(), (8, Ok(())));
    assert!(b.front.is_idle() && b.front.promised() == 0 && b.front.passes(&read(4, 1, false)));
}

#[test]
fn fua_and_wce_0_are_answered_by_the_store() {
    let mut b = bench();
    b.submit(1, write(0, 1, true), &[1; BLOCK]);
    b.front.set_write_back(false);
    b.write(2, 1, 1, 1);
    assert!(b.done.is_empty() && b.front.promised() == 0);
    b.stable(2);
    b.stored(Ok(()));
    b.stored(Ok(()));
    assert_eq!((b.ended(), b.ended()), ((1, Ok(())), (2, Ok(()))));
}

#[test]
fn the_group_hears_when_somebody_waits_for_what_was_promised() {
    let hurried = |b: &mut Bench| {
        let mail: Vec<ToGroup> = b.mail.drain(..).collect();
        let told = mail.iter().filter_map(|mail| match mail {
            ToGroup::Hurry(sequence) => Some(sequence.0),
            _ => None,
        });
        told.collect::<Vec<u64>>()
    };
    let mut b = bench();
    b.write(1, 0, 1, 1);
    b.write(2, 1, 1, 1);
    let promised = |mail: &ToGroup| matches!(mail, ToGroup::Append { promised: true, .. });
    assert!(b.mail.iter().all(promised) && b.mail.len() == 2);
    b.mail.clear();
    b.submit(3, read(5, 1, false), &[]);
    assert!(b.mail.is_empty(), "it waits for nothing");
    b.submit(4, read(0, 1, false), &[]);
    b.submit(5, read(0, 1, false), &[]);
    assert_eq!(hurried(&mut b), [2], "once");
    b.write(6, 2, 1, 1);
    b.submit(7, FLUSH, &[]);
    assert_eq!(hurried(&mut b), [3]);
    b.write(8, 3, 1, 1);
    b.submit(9, write(4, 1, true), &[1; BLOCK]);
    let mail: Vec<bool> = b.mail.iter().map(promised).collect();
    assert_eq!(mail, [true, false]);
    b.mail.clear();
    let swapped = BlockOp::CompareAndWrite(range(3, 1), Access::default());
    b.submit(10, swapped, &[1; 2 * BLOCK]);
    assert_eq!(hurried(&mut b), [5], "it compares what is in the store");
    b.stable(5);
    b.submit(11, FLUSH, &[]);
    assert_eq!(hurried(&mut b), []);
}

#[test]
fn a_flush_waits_until_the_journal_has_what_was_promised_before_it() {
    let mut b = bench();
    b.write(1, 0, 1, 1);
    b.submit(2, FLUSH, &[]);
    b.write(3, 1, 1, 1);
    assert_eq!((b.ended(), b.ended()), ((1, Ok(())), (3, Ok(()))));
    assert!(b.done.is_empty() && b.store.is_empty());
    b.stable(1);
    assert_eq!(b.store.len(), 2, "the write and, as older data may be there, the flush");
    assert_eq!(b.store[1].1, FLUSH);
}

#[test]
fn what_was_promised_is_marked_when_the_journal_ends_and_keeps_its_place() {
    let mut b = bench();
    b.write(1, 0, 2, 1);
    b.submit(2, write(1, 2, true), &[2; 2 * BLOCK]);
    b.write(3, 2, 2, 3);
    assert_eq!((b.ended(), b.ended()), ((1, Ok(())), (3, Ok(()))));
    b.submit(4, FLUSH, &[]);
    b.mail.clear();
    b.mode(Mode::Tracking);
    b.submit(5, read(0, 8, false), &[]);
    assert!(!b.front.passes(&FLUSH));
    let tickets: Vec<u64> = b.mail.iter().filter_map(mark).collect();
    assert_eq!(tickets.len(), 3, "all of them need bits");
    assert!(b.store.is_empty() && b.done.is_empty());
    for ticket in tickets.into_iter().rev() {
        b.tell(ToFront::Marked(ticket));
    }
    // The first and the third do not overlap; the second, of which no host was told, comes after both.
    assert_eq!(b.store.len(), 2);
    assert_eq!(b.stored(Ok(())), write(2, 2, false));
    assert_eq!(b.stored(Ok(())), write(0, 2, false));
    let rest: Vec<BlockOp> = b.store.iter().map(|(_, op, _)| op.clone()).collect();
    assert!(rest.contains(&FLUSH), "{rest:?}");
    while !b.store.is_empty() {
        b.stored(Ok(()));
    }
    assert!(b.front.is_idle() && b.held());
}

fn mark(mail: &ToGroup) -> Option<u64> {
    match mail {
        ToGroup::Mark { ticket, .. } => Some(*ticket),
        _ => None,
    }
}

#[test]
fn it_takes_a_new_sequence_where_journaling_begins_again() {
    let mut b = bench();
    b.write(1, 0, 1, 1);
    b.submit(2, FLUSH, &[]);
    assert_eq!(b.ended(), (1, Ok(())));
    b.mode(Mode::Tracking);
    b.mail.clear();
    b.mode(Mode::Journaling);
    let found = b.mail.iter().find(|mail| matches!(mail, ToGroup::Append { .. }));
    let Some(ToGroup::Append { sequence, .. }) = found else { panic!("not journaled again: {:?}", b.mail) };
    assert_eq!(*sequence, Sequence(2));
    assert!(b.store.is_empty() && b.done.is_empty(), "the flush waits for it, and it is answered once");
    b.stable(2);
    assert_eq!(b.stored(Ok(())), write(0, 1, false));
    assert_eq!(b.stored(Ok(())), FLUSH);
    assert_eq!(b.ended(), (2, Ok(())));
}

#[test]
fn the_tag_is_free_once_it_is_answered() {
    let mut b = bench();
    b.write(1, 0, 1, 1);
    assert!(!b.front.abort(1), "there is nothing to abort");
    b.write(1, 0, 1, 2);
    assert_eq!((b.ended(), b.ended()), ((1, Ok(())), (1, Ok(()))));
    b.stable(2);
    b.stored(Ok(()));
    assert_eq!(b.store[0].2.to_vec(), vec![2; BLOCK]);
}

#[test]
fn what_is_promised_is_bounded_and_takes_no_slots_from_hosts() {
    let mut b = Bench::new(4);
    b.mode(Mode::Journaling);
    b.front.set_write_back(true);
    let most = u64::from(promise::MOST);
    for tag in 0..most + 2 {
        b.write(tag, tag % BLOCKS, 1, 1);
    }
    assert_eq!((b.done.len() as u64, b.front.promised() as u64), (most, most));
    b.stable(2);
    b.stored(Ok(()));
    b.write(900, 500, 1, 1);
    assert_eq!(b.done.back().map(|done| done.0), Some(900), "there is room for one again");
    b.write(901, 501, 1, 1);
    b.write(902, 502, 1, 1);
    b.write(903, 503, 1, 1);
    assert_eq!(b.done.back().map(|done| (done.0, done.1)), Some((903, Err(BlockError::Busy))));
}

#[test]
fn what_is_lost_after_its_answer_is_told() {
    let mut b = bench();
    b.write(1, 5, 1, 1);
    b.write(2, 9, 1, 1);
    b.stable(1);
    b.stored(Err(BlockError::Device));
    assert!(b.mail.iter().any(|mail| matches!(mail, ToGroup::Refused { sequence: Sequence(1), .. })));
    b.mode(Mode::Stopped);
    assert_eq!(b.deferred, [(5, BlockError::Device), (9, BlockError::NotServed)]);
    assert!(b.front.is_idle());
}

#[test]
fn a_busy_store_is_asked_for_as_long_as_it_takes() {
    let mut b = bench();
    b.write(1, 5, 1, 1);
    b.stable(1);
    for minute in 1..10 {
        b.stored(Err(BlockError::Busy));
        b.tick(minute * 60_000_000_000);
    }
    b.stored(Ok(()));
    assert!(b.front.is_idle() && b.deferred.is_empty());
}

#[test]
fn numbers_that_are_taken_once_more_are_not_stable_yet() {
    let mut b = bench();
    for tag in 1..4 {
        b.write(tag, tag, 1, 1);
    }
    b.stable(1);
    b.stored(Ok(()));
    assert!(b.front.on_lost(), "the group makes good for it");
    b.mode(Mode::Stopped);
    b.mode(Mode::NotReady);
    assert!(b.held(), "nothing is under way");
    // The journal has the first one only, and the group goes on from there.
    b.front.plan.sequencer.store(1, Ordering::Release);
    b.mode(Mode::Journaling);
    b.done.clear();
    b.write(5, 9, 1, 2);
    assert_eq!(b.ended(), (5, Ok(())), "it is promised");
    b.submit(6, FLUSH, &[]);
    assert!(b.done.is_empty() && b.store.is_empty(), "number 2 is not in the journal");
    b.stable(2);
    assert!(!b.store.is_empty());
}

#[test]
fn what_waits_for_bits_goes_on_waiting_for_them_when_the_group_begins_anew() {
    let mut b = bench();
    b.write(1, 5, 1, 1);
    b.mode(Mode::Tracking);
    b.mail.clear();
    b.mode(Mode::Held { until: Time(1) });
    assert!(!b.held(), "what was answered is not done");
    let ticket = b.mail.iter().find_map(|mail| match mail {
        ToGroup::Mark { ticket, .. } => Some(*ticket),
        _ => None,
    });
    b.tell(ToFront::Marked(ticket.expect("no journal takes it any more")));
    b.stored(Ok(()));
    assert!(b.held() && b.front.is_idle() && b.deferred.is_empty());
}
