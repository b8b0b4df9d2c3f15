//! One test for each rule.

use super::*;
use kagami_types::Compare;

#[test]
fn a_journaled_write_is_stored_when_stable_and_answered_when_stored() {
    let mut b = Bench::with(Mode::Journaling);
    b.submit(7, write(3, 2, true), &[5; 2 * BLOCK]);
    assert_eq!(b.appended(), (1, Change::Write(range(3, 2)), vec![5; 2 * BLOCK]));
    b.quiet();
    b.stable(1);
    assert!(b.done.is_empty());
    assert_eq!(b.stored(Ok(())), write(3, 2, false), "the journal has it: FUA asks for nothing more");
    assert_eq!(b.ended(), (7, Ok(())));
    assert!(b.front.is_idle());
}

#[test]
fn overlapping_writes_reach_the_store_one_after_the_other_and_others_together() {
    let mut b = Bench::with(Mode::Journaling);
    b.write(1, 0, 8, 1);
    b.write(2, 4, 8, 2);
    b.write(3, 100, 1, 3);
    assert_eq!(b.mail.len(), 3);
    b.stable(2);
    assert_eq!(b.store.len(), 1, "the second overlaps, the third is not stable");
    b.stable(3);
    assert_eq!(b.store.len(), 2);
    assert_eq!(b.stored(Ok(())), write(0, 8, false));
    assert_eq!(b.store.len(), 2);
    b.stored(Ok(()));
    b.stored(Ok(()));
    let ended: Vec<u64> = b.done.iter().map(|done| done.0).collect();
    assert_eq!(ended, [1, 3, 2]);
}

#[test]
fn a_busy_store_is_asked_again_and_order_is_kept() {
    let mut b = Bench::with(Mode::Journaling);
    b.write(1, 0, 1, 1);
    b.write(2, 0, 1, 2);
    b.stable(2);
    b.stored(Err(BlockError::Busy));
    assert!(b.store.is_empty() && b.done.is_empty());
    assert_eq!(b.front.next_deadline(), Time(1_000_001));
    b.tick(1_000_001);
    assert_eq!(b.store[0].2.to_vec(), vec![1; BLOCK], "the data are still there");
    b.stored(Ok(()));
    assert_eq!(b.store[0].2.to_vec(), vec![2; BLOCK]);
    b.stored(Ok(()));
    assert_eq!((b.ended(), b.ended()), ((1, Ok(())), (2, Ok(()))));
    assert_eq!(b.front.next_deadline(), Time::NEVER);
}

#[test]
fn what_the_store_refuses_is_told_to_host_and_group() {
    let mut b = Bench::with(Mode::Journaling);
    b.submit(9, BlockOp::Unmap(vec![range(0, 4), range(8, 0), range(16, 4)]), &[]);
    for (sequence, lba) in [(1, 0), (2, 16)] {
        assert_eq!(b.appended(), (sequence, Change::Zero { lba: Lba(lba), blocks: 4, unmap: true }, vec![]));
    }
    b.stable(1);
    b.quiet();
    b.stable(2);
    b.stored(Err(BlockError::Device));
    assert_eq!(b.ended(), (9, Err(BlockError::Device)));
    for (number, at) in [(1, 0), (2, 16)] {
        let Some(ToGroup::Refused { sequence, blocks, error }) = b.mail.pop_front() else {
            panic!("not refused")
        };
        assert_eq!((sequence, blocks, error), (Sequence(number), (at, at + 4), BlockError::Device));
    }
}

#[test]
fn write_same_is_journaled_without_its_data() {
    let mut b = Bench::with(Mode::Journaling);
    let same = |unmap, zeroes| BlockOp::WriteSame { lba: Lba(2), blocks: BlockCount(300), unmap, zeroes };
    b.submit(1, same(false, false), &[7; BLOCK]);
    assert_eq!(b.appended(), (1, Change::Same { lba: Lba(2), blocks: 300 }, vec![7; BLOCK]));
    b.submit(2, same(true, false), &[0; BLOCK]);
    assert_eq!(b.appended(), (2, Change::Zero { lba: Lba(2), blocks: 300, unmap: true }, vec![]));
    b.submit(3, same(false, true), &[]);
    assert_eq!(b.appended(), (3, Change::Zero { lba: Lba(2), blocks: 300, unmap: false }, vec![]));
    b.stable(3);
    assert_eq!(b.stored(Ok(())), same(false, false), "the store gets what the host said");
}

#[test]
fn compare_and_write_is_alone_and_journaled_as_a_write() {
    let mut b = Bench::with(Mode::Journaling);
    let both = |old: u8, new: u8| [vec![old; BLOCK], vec![new; BLOCK]].concat();
    let op = BlockOp::CompareAndWrite(range(5, 1), Access { dpo: false, fua: true });
    b.write(1, 4, 4, 1);
    b.appended();
    b.submit(2, op.clone(), &both(1, 2));
    b.write(3, 5, 1, 3);
    b.write(4, 50, 1, 4);
    assert_eq!(b.appended().1, Change::Write(range(50, 1)), "only those on its blocks wait");
    b.quiet();
    b.stable(1);
    b.stored(Ok(()));
    assert_eq!(b.ended(), (1, Ok(())));
    let (tag, asked, _) = b.store.pop_front().unwrap();
    assert_eq!(asked, read(5, 1, false));
    let old = b.data(&[1; BLOCK]);
    b.store_says(tag, Ok(()), old);
    assert_eq!(b.appended(), (3, Change::Write(range(5, 1)), vec![2; BLOCK]));
    assert_eq!(b.appended(), (4, Change::Write(range(5, 1)), vec![3; BLOCK]), "it need not wait any more");
    b.stable(4);
    b.stored(Ok(()));
    assert_eq!(b.ended(), (4, Ok(())));
    let (tag, op, data) = b.store.pop_front().unwrap();
    assert_eq!(op, BlockOp::CompareAndWrite(range(5, 1), Access::default()));
    assert_eq!(data.to_vec(), both(1, 2));
    assert!(b.store.is_empty());
    b.store_says(tag, Ok(()), Scatter::new());
    assert_eq!(b.ended(), (2, Ok(())));
    b.stored(Ok(()));
    assert_eq!(b.ended(), (3, Ok(())));
    assert!(b.front.is_idle());
}

#[test]
fn a_miscompare_takes_no_sequence() {
    let mut b = Bench::with(Mode::Journaling);
    b.submit(1, BlockOp::CompareAndWrite(range(5, 1), Access::default()), &[1; 2 * BLOCK]);
    b.write(2, 5, 1, 9);
    let (tag, ..) = b.store.pop_front().unwrap();
    let mut found = vec![1; BLOCK];
    found[77] = 0;
    let found = b.data(&found);
    b.store_says(tag, Ok(()), found);
    assert_eq!(b.ended(), (1, Err(BlockError::Miscompare(77))));
    assert_eq!(b.appended().0, 1, "the write that waited");
}

#[test]
fn the_ranges_of_an_unmap_are_one_operation_to_the_journal() {
    let mut b = Bench::with(Mode::Journaling);
    b.submit(1, BlockOp::Unmap(vec![range(0, 2), range(8, 0), range(16, 2), range(32, 2)]), &[]);
    let parts: Vec<(u64, bool)> = std::iter::from_fn(|| b.mail.pop_front())
        .map(|mail| match mail {
            ToGroup::Append { sequence, more, .. } => (sequence.0, more),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(parts, [(1, true), (2, true), (3, false)]);
}

#[test]
fn what_a_store_would_refuse_for_its_form_takes_no_sequence() {
    let mut b = Bench::with(Mode::Journaling);
    b.write(1, BLOCKS - 1, 2, 0);
    b.submit(2, write(0, 2, false), &[0; BLOCK]);
    b.submit(3, BlockOp::Unmap(vec![range(0, 1), range(u64::MAX, 2)]), &[]);
    b.submit(
        4,
        BlockOp::WriteSame { lba: Lba(1), blocks: BlockCount(BLOCKS), unmap: false, zeroes: true },
        &[],
    );
    let errors: Vec<_> = std::iter::from_fn(|| b.done.pop_front()).map(|done| done.1.unwrap_err()).collect();
    use BlockError::{OutOfRange, Unsupported};
    assert_eq!(errors, [OutOfRange, Unsupported, OutOfRange, OutOfRange]);
    b.quiet();
    b.submit(5, write(0, 0, false), &[]);
    assert_eq!(b.stored(Ok(())), write(0, 0, false), "no block: nothing to be journaled");
}

#[test]
fn a_flush_waits_for_sequences_and_for_what_is_older_than_the_pair() {
    let mut b = Bench::with(Mode::Journaling);
    b.submit(1, FLUSH, &[]);
    assert_eq!(b.stored(Ok(())), FLUSH, "nobody has flushed what was there before");
    assert_eq!(b.ended(), (1, Ok(())));
    b.tell(ToFront::Apply { tag: 40, op: FLUSH, data: Scatter::new() });
    b.stored(Ok(()));
    assert!(matches!(b.mail.pop_front(), Some(ToGroup::Applied { tag: 40, result: Ok(()), .. })));
    b.submit(2, FLUSH, &[]);
    assert_eq!(b.ended(), (2, Ok(())), "all is in the journal");
    b.write(3, 0, 1, 1);
    b.appended();
    b.submit(4, FLUSH, &[]);
    b.write(5, 9, 1, 1);
    b.appended();
    b.quiet();
    b.stable(1);
    assert_eq!(b.ended(), (4, Ok(())));
    b.stable(2);
    assert_eq!(b.store.len(), 2);
}

#[test]
fn a_flush_of_the_group_covers_what_is_stable() {
    let mut b = Bench::with(Mode::Journaling);
    b.write(1, 0, 1, 1);
    b.write(2, 0, 1, 2);
    b.write(3, 0, 1, 3);
    b.stable(2);
    b.tell(ToFront::Apply { tag: 40, op: FLUSH, data: Scatter::new() });
    b.stable(3);
    b.stored(Ok(()));
    assert_eq!(b.stored(Ok(())), write(0, 1, false));
    let ops: Vec<BlockOp> = b.store.iter().map(|store| store.1.clone()).collect();
    assert!(
        ops.contains(&FLUSH) && ops.len() == 2,
        "both stable ones are in the store, the third need not be: {ops:?}"
    );
}

#[test]
fn a_read_of_the_other_array_contains_the_writes_before_it() {
    let mut b = Bench::with(Mode::Journaling);
    b.write(1, 10, 1, 1);
    b.appended();
    assert!(b.front.passes(&read(10, 1, false)), "hosts wait for nothing");
    assert!(!b.front.passes(&read(10, 1, true)));
    b.submit(2, read(0, 64, true), &[]);
    let status = BlockOp::LbaStatus { lba: Lba(0), descriptors: 4 };
    assert!(!b.front.passes(&status));
    b.submit(3, status.clone(), &[]);
    b.submit(4, read(0, 8, true), &[]);
    assert_eq!(b.store.len(), 0, "the third waits for the second, as nobody needs it sooner");
    b.stable(1);
    b.stored(Ok(()));
    assert_eq!(b.ended(), (1, Ok(())));
    assert_eq!(b.stored(Ok(())), read(0, 64, true));
    assert_eq!(b.stored(Ok(())), status);
    b.stored(Ok(()));
    assert_eq!(b.done.len(), 3);
}

#[test]
fn tracked_writes_wait_for_their_bits_once() {
    let mut b = Bench::with(Mode::Tracking);
    b.submit(1, write(127, 2, true), &[1; 2 * BLOCK]);
    let Some(ToGroup::Mark { granules: (0, 2), ticket }) = b.mail.pop_front() else {
        panic!("no bits asked for")
    };
    b.quiet();
    b.write(2, 300, 1, 1);
    let Some(ToGroup::Mark { granules: (2, 3), .. }) = b.mail.pop_front() else {
        panic!("no bits asked for")
    };
    b.tell(ToFront::Marked(ticket));
    assert_eq!(b.stored(Ok(())), write(127, 2, true), "FUA is the store's again");
    assert_eq!(b.ended(), (1, Ok(())));
    b.write(3, 0, 8, 1);
    b.stored(Ok(()));
    assert_eq!(b.ended(), (3, Ok(())), "known");
    b.mode(Mode::Tracking);
    assert!(matches!(b.mail.pop_front(), Some(ToGroup::Mark { granules: (2, 3), .. })), "asked again");
    b.tell(ToFront::Marked(ticket));
    b.write(4, 0, 8, 1);
    assert!(
        matches!(b.mail.pop_back(), Some(ToGroup::Mark { granules: (0, 1), .. })),
        "a new mode knows nothing"
    );
}

#[test]
fn from_journaling_to_tracking() {
    let mut b = Bench::with(Mode::Journaling);
    b.write(1, 0, 1, 1);
    b.write(2, 0, 1, 2);
    b.write(3, 9, 1, 3);
    b.stable(1);
    b.mail.clear();
    b.mode(Mode::Tracking);
    assert!(!b.held(), "the first is with the store");
    let marks: Vec<u64> = b
        .mail
        .drain(..)
        .map(|mail| if let ToGroup::Mark { ticket, .. } = mail { ticket } else { panic!("{mail:?}") })
        .collect();
    assert_eq!(marks.len(), 2);
    b.tell(ToFront::Marked(marks[0]));
    b.tell(ToFront::Marked(marks[1]));
    assert_eq!(b.store.len(), 2, "the second still waits for the first");
    b.stored(Ok(()));
    assert!(b.held());
    b.stable(3);
    b.stored(Ok(()));
    assert_eq!(b.stored(Ok(())), write(0, 1, false));
    assert_eq!(b.done.len(), 3);
    assert!(b.front.is_idle());
    b.done.clear();
    b.mode(Mode::Journaling);
    b.tell(ToFront::Apply { tag: 40, op: FLUSH, data: Scatter::new() });
    b.stored(Ok(()));
    b.submit(4, FLUSH, &[]);
    assert_eq!(b.ended(), (4, Ok(())), "a flush waits for no sequence that was given up");
}

#[test]
fn held_writes_wait_and_then_are_not_ready() {
    let mut b = Bench::with(Mode::Journaling);
    b.write(1, 0, 1, 1);
    b.appended();
    b.mode(Mode::Held { until: Time(100) });
    assert!(!b.held());
    b.write(2, 0, 1, 2);
    b.quiet();
    assert!(b.front.passes(&read(0, 1, false)));
    b.stable(1);
    b.stored(Ok(()));
    assert!(b.held());
    assert_eq!(b.ended(), (1, Ok(())));
    assert_eq!(b.front.next_deadline(), Time(100));
    b.tick(100);
    assert_eq!(b.ended(), (2, Err(BlockError::BecomingReady)));
    b.write(3, 0, 1, 2);
    assert_eq!(b.ended(), (3, Err(BlockError::BecomingReady)));
    b.mode(Mode::Held { until: Time(200) });
    assert!(b.held());
    b.write(4, 0, 1, 4);
    b.mode(Mode::Journaling);
    assert_eq!(b.appended().0, 2, "the swap was called off");
}

#[test]
fn what_the_modes_refuse() {
    let cases = [
        (Mode::NotReady, BlockError::BecomingReady, Some(BlockError::BecomingReady)),
        (Mode::Fenced, BlockError::WriteProtected, None),
        (Mode::Secondary { reads: true }, BlockError::WriteProtected, None),
        (Mode::Secondary { reads: false }, BlockError::WriteProtected, Some(BlockError::NotServed)),
        (Mode::Stopped, BlockError::NotServed, Some(BlockError::NotServed)),
    ];
    for (mode, writes, reads) in cases {
        let mut b = Bench::with(mode);
        b.write(1, 0, 1, 1);
        assert_eq!(b.ended(), (1, Err(writes)), "{mode:?}");
        for op in [
            read(0, 1, false),
            read(0, 1, true),
            FLUSH,
            BlockOp::Verify { range: range(0, 1), against: Compare::Nothing },
            BlockOp::LbaStatus { lba: Lba(0), descriptors: 1 },
        ] {
            let passed = b.front.passes(&op);
            b.submit(2, op.clone(), &[]);
            match reads {
                Some(error) => {
                    assert!(!passed);
                    assert_eq!(b.ended(), (2, Err(error)), "{mode:?} {op:?}");
                }
                None => {
                    assert_eq!(b.stored(Ok(())), op, "{mode:?}");
                    assert_eq!(b.ended(), (2, Ok(())));
                }
            }
        }
        b.quiet();
    }
}

#[test]
fn a_secondary_is_written_by_its_group_in_order() {
    let mut b = Bench::with(Mode::Secondary { reads: true });
    let apply = |b: &mut Bench, tag, op: BlockOp, bytes: &[u8]| {
        let data = b.data(bytes);
        b.tell(ToFront::Apply { tag, op, data });
    };
    apply(&mut b, 1, write(0, 4, false), &[1; 4 * BLOCK]);
    b.submit(9, read(0, 8, false), &[]);
    apply(&mut b, 2, write(3, 2, false), &[2; 2 * BLOCK]);
    apply(&mut b, 3, write(50, 1, false), &[3; BLOCK]);
    apply(&mut b, 4, FLUSH, &[]);
    assert_eq!(b.store.len(), 2);
    b.stored(Ok(()));
    assert_eq!(b.store.back().unwrap().1, read(0, 8, false), "a read sees no half");
    b.stored(Ok(()));
    b.stored(Ok(()));
    assert_eq!(b.stored(Ok(())), write(3, 2, false));
    assert_eq!(b.stored(Ok(())), FLUSH, "after those before it");
    let tags: Vec<u64> =
        b.mail
            .drain(..)
            .map(|mail| {
                if let ToGroup::Applied { tag, result: Ok(()), .. } = mail { tag } else { panic!("{mail:?}") }
            })
            .collect();
    assert_eq!(tags, [1, 3, 2, 4]);
    apply(&mut b, 5, write(BLOCKS, 1, false), &[2; BLOCK]);
    assert!(matches!(
        b.mail.pop_front(),
        Some(ToGroup::Applied { tag: 5, result: Err(BlockError::OutOfRange), .. })
    ));
}

#[test]
fn aborts() {
    let mut b = Bench::with(Mode::Journaling);
    assert!(!b.front.abort(1));
    b.write(1, 0, 1, 1);
    b.appended();
    assert!(b.front.abort(1));
    b.hear();
    b.quiet();
    b.stable(1);
    b.stored(Ok(()));
    assert_eq!(b.ended(), (1, Err(BlockError::Aborted)), "it happened all the same");
    b.tell(ToFront::Slow(Time(50)));
    b.write(2, 0, 1, 1);
    b.quiet();
    assert!(b.front.abort(2));
    b.hear();
    assert_eq!(b.ended(), (2, Err(BlockError::Aborted)));
    b.quiet();
    b.submit(3, BlockOp::CompareAndWrite(range(5, 1), Access::default()), &[1; 2 * BLOCK]);
    b.tick(60);
    assert_eq!(b.store.len(), 1);
    assert!(b.front.abort(3));
    b.hear();
    assert_eq!(b.aborted.len(), 1);
    let found = b.data(&[1; BLOCK]);
    let (tag, ..) = b.store.pop_front().unwrap();
    b.store_says(tag, Ok(()), found);
    assert_eq!(b.ended(), (3, Err(BlockError::Aborted)));
    b.quiet();
    let mut b = Bench::with(Mode::Tracking);
    b.write(4, 0, 1, 1);
    assert!(b.front.abort(4));
    b.hear();
    assert_eq!(b.ended(), (4, Err(BlockError::Aborted)));
    assert!(b.front.is_idle());
}

#[test]
fn an_overflow_policy_slows_new_writes_only() {
    let mut b = Bench::with(Mode::Journaling);
    b.tell(ToFront::Slow(Time(50)));
    b.write(1, 0, 1, 1);
    b.quiet();
    assert_eq!(b.front.next_deadline(), Time(50));
    b.tick(50);
    assert_eq!(b.appended().0, 1);
    assert_eq!(b.front.next_deadline(), Time::NEVER);
    b.tell(ToFront::Slow(Time(90)));
    b.write(2, 0, 1, 1);
    b.tell(ToFront::Slow(Time(0)));
    assert_eq!(b.appended().0, 2);
}

#[test]
fn slots_bound_hosts_and_not_the_group() {
    let mut b = Bench::new(2);
    b.mode(Mode::Journaling);
    for tag in 1..=3 {
        b.write(tag, tag, 1, 1);
    }
    assert_eq!(b.ended(), (3, Err(BlockError::Busy)));
    b.tell(ToFront::Apply { tag: 40, op: FLUSH, data: Scatter::new() });
    assert_eq!(b.stored(Ok(())), FLUSH);
    b.stable(2);
    b.stored(Ok(()));
    b.write(4, 0, 1, 1);
    assert_eq!(b.ended(), (1, Ok(())));
    assert!(b.done.is_empty());
}

#[test]
fn a_mode_holds_when_writes_from_before_the_front_have_ended() {
    let mut b = Bench::new(4);
    b.front.wait_for_outside();
    b.mode(Mode::Journaling);
    assert!(!b.held());
    b.front.outside_ended();
    b.hear();
    assert!(b.held());
}

#[test]
fn a_stopped_volume_gives_up_what_waits_for_the_journal() {
    let mut b = Bench::with(Mode::Journaling);
    b.write(1, 0, 1, 1);
    b.write(2, 0, 1, 1);
    b.submit(3, read(0, 1, true), &[]);
    b.stable(1);
    b.mode(Mode::Stopped);
    assert_eq!(b.ended(), (2, Err(BlockError::NotServed)));
    assert!(!b.held());
    b.stored(Ok(()));
    assert!(b.held());
    assert_eq!(b.ended(), (1, Ok(())));
}

#[test]
fn what_must_happen_goes_to_the_store_in_parts_that_it_takes() {
    let mut b = Bench::with(Mode::Secondary { reads: true });
    b.front.set_longest(BlockCount(3));
    let bytes: Vec<u8> = (0..8).flat_map(|block| [block; BLOCK]).collect();
    let data = b.data(&bytes);
    b.tell(ToFront::Apply { tag: 5, op: write(10, 8, false), data });
    b.submit(1, read(16, 1, false), &[]);
    assert_eq!((b.store.len(), &b.store[0].1), (1, &write(10, 3, false)), "and the read waits for all of it");
    assert_eq!(b.store[0].2.to_vec(), bytes[..3 * BLOCK]);
    b.stored(Ok(()));
    assert_eq!(b.store[0].2.to_vec(), bytes[3 * BLOCK..6 * BLOCK]);
    assert_eq!(b.stored(Err(BlockError::Busy)), write(13, 3, false));
    b.tick(2_000_000);
    assert_eq!(b.stored(Ok(())), write(13, 3, false), "only that part again");
    assert!(b.mail.is_empty());
    assert_eq!(b.store[0].2.to_vec(), bytes[6 * BLOCK..]);
    assert_eq!(b.stored(Ok(())), write(16, 2, false));
    assert!(matches!(b.mail.pop_front(), Some(ToGroup::Applied { tag: 5, result: Ok(()), .. })));
    assert_eq!(b.stored(Ok(())), read(16, 1, false));
    assert_eq!(b.ended(), (1, Ok(())));
    // The end of a part that fails is the end of it.
    let data = b.data(&bytes);
    b.tell(ToFront::Apply { tag: 6, op: write(10, 8, false), data });
    b.stored(Ok(()));
    b.stored(Err(BlockError::TimedOut));
    assert!(b.store.is_empty());
    let applied = b.mail.pop_front();
    assert!(matches!(applied, Some(ToGroup::Applied { tag: 6, result: Err(BlockError::TimedOut), .. })));
    assert!(b.front.is_idle());
}

#[test]
fn a_journaled_write_may_be_longer_than_the_store_takes() {
    let mut b = Bench::with(Mode::Journaling);
    b.front.set_longest(BlockCount(4));
    b.write(1, 0, 6, 7);
    b.stable(1);
    assert_eq!(b.stored(Ok(())), write(0, 4, false));
    assert!(b.done.is_empty());
    assert_eq!(b.stored(Ok(())), write(4, 2, false));
    assert_eq!(b.ended(), (1, Ok(())));
}
