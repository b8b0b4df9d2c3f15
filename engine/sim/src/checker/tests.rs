use super::*;

const UNIT: usize = 512;
const VOLUME: u64 = 77;
const ONE: Units = Units { first: 0, count: 1 };

struct Fixture {
    checker: Checker,
}

impl Fixture {
    fn new() -> Self {
        Self { checker: Checker::new(VOLUME, UNIT, 4, false) }
    }

    fn write(&self) -> Write {
        self.checker.begin_write(&[ONE], false)
    }

    fn done(&self, ending: Ending) -> WriteId {
        let write = self.write();
        let id = write.id;
        self.checker.end_write(write, ending);
        id
    }

    fn flush(&self) {
        let flush = self.checker.begin_flush();
        self.checker.end_flush(flush, ONE);
    }

    fn end(&self, read: Read, id: WriteId) -> Result<(), String> {
        let mut bytes = [0; UNIT];
        if id != WriteId(0) {
            fill(&mut bytes, VOLUME, 0, id);
        }
        self.checker.end_read(read, 0, Some(&bytes))
    }

    fn sees(&self, id: WriteId) -> Result<(), String> {
        self.end(self.checker.begin_read(), id)
    }
}

/// Which of the writes a copy of this checker would let a read see.
fn allowed(fixture: &Fixture, ids: &[WriteId]) -> Vec<WriteId> {
    let inner = fixture.checker.0.borrow();
    let copy = |_: &WriteId| Inner {
        histories: inner.histories.clone(),
        reads: inner.reads.clone(),
        commands: Commands::new(),
        touched: Vec::new(),
        disk: inner.disk.clone(),
        reservations: Reservations::default(),
        wrong: None,
        device: inner.device.clone(),
        ..*inner
    };
    ids.iter()
        .copied()
        .filter(|id| Fixture { checker: Checker(Rc::new(RefCell::new(copy(id)))) }.sees(*id).is_ok())
        .collect()
}

#[test]
fn an_acknowledged_write_hides_what_was_before() {
    let f = Fixture::new();
    let a = f.done(Ending::Done);
    let b = f.done(Ending::Done);
    assert_eq!(allowed(&f, &[WriteId(0), a, b]), [b]);
}

#[test]
fn writes_in_flight_may_be_seen_or_not_and_once_seen_they_stay() {
    let f = Fixture::new();
    let a = f.done(Ending::Done);
    let open = f.write();
    assert_eq!(allowed(&f, &[WriteId(0), a, open.id]), [a, open.id]);
    f.sees(open.id).unwrap();
    assert_eq!(allowed(&f, &[a, open.id]), [open.id]);
    let id = open.id;
    f.checker.end_write(open, Ending::Unknown);
    assert_eq!(allowed(&f, &[a, id]), [id]);
}

#[test]
fn a_read_under_way_may_still_see_the_old_value() {
    let f = Fixture::new();
    let a = f.done(Ending::Stable);
    let read = f.checker.begin_read();
    let b = f.done(Ending::Stable);
    f.end(read, a).unwrap();
    assert_eq!(allowed(&f, &[a, b]), [b]);
}

#[test]
fn a_doubtful_write_is_decided_by_the_first_read() {
    let f = Fixture::new();
    let a = f.done(Ending::Done);
    let b = f.done(Ending::Unknown);
    assert_eq!(allowed(&f, &[a, b]), [a, b]);
    f.sees(a).unwrap();
    assert_eq!(allowed(&f, &[a, b]), [a]);
}

#[test]
fn concurrent_writes_end_in_either_order_but_only_one() {
    let f = Fixture::new();
    let (a, b) = (f.write(), f.write());
    let (a_id, b_id) = (a.id, b.id);
    f.checker.end_write(b, Ending::Done);
    f.checker.end_write(a, Ending::Done);
    assert_eq!(allowed(&f, &[WriteId(0), a_id, b_id]), [a_id, b_id]);
    f.sees(a_id).unwrap();
    assert_eq!(allowed(&f, &[a_id, b_id]), [a_id]);
}

#[test]
fn a_crash_goes_back_to_the_flush_and_no_further() {
    let f = Fixture::new();
    let a = f.done(Ending::Done);
    let b = f.done(Ending::Done);
    f.flush();
    let c = f.done(Ending::Done);
    let open = f.write();
    f.checker.crash(true);
    assert_eq!(allowed(&f, &[WriteId(0), a, b, c, open.id]), [b, c, open.id]);
    f.sees(c).unwrap();
    assert_eq!(allowed(&f, &[b, c, open.id]), [c]);
    f.checker.end_write(open, Ending::Unknown);
    assert_eq!(allowed(&f, &[b, c]), [c]);
}

#[test]
fn what_survived_a_power_failure_survives_the_next() {
    let f = Fixture::new();
    let a = f.done(Ending::Stable);
    let b = f.done(Ending::Done);
    f.checker.crash(true);
    f.sees(b).unwrap();
    f.checker.crash(true);
    assert_eq!(allowed(&f, &[a, b]), [b]);
}

#[test]
fn a_flush_covers_what_was_acknowledged_before_it_was_issued() {
    let f = Fixture::new();
    let a = f.done(Ending::Done);
    let flush = f.checker.begin_flush();
    let b = f.done(Ending::Done);
    f.checker.end_flush(flush, ONE);
    f.checker.crash(false);
    assert_eq!(allowed(&f, &[WriteId(0), a, b]), [a, b]);
}

#[test]
fn force_unit_access_is_a_flush_of_its_own() {
    let f = Fixture::new();
    f.done(Ending::Done);
    let b = f.done(Ending::Stable);
    f.checker.crash(true);
    assert_eq!(allowed(&f, &[WriteId(0), WriteId(1), b]), [b]);
    assert_eq!(f.checker.0.borrow().histories[0].len(), 1);
}

#[test]
fn a_write_without_effect_was_never_there() {
    let f = Fixture::new();
    let a = f.done(Ending::Done);
    let b = f.done(Ending::Nothing);
    assert_eq!(allowed(&f, &[a, b]), [a]);
}

#[test]
fn zeroes_and_other_contents() {
    let f = Fixture::new();
    let a = f.done(Ending::Done);
    let unmap = f.checker.begin_write(&[ONE], true);
    assert_eq!(allowed(&f, &[WriteId(0), a]), [WriteId(0), a]);
    f.checker.end_write(unmap, Ending::Done);
    assert_eq!(allowed(&f, &[WriteId(0), a]), [WriteId(0)]);
    let read = f.checker.begin_read();
    assert!(f.checker.end_read(read, 0, Some(&[1; UNIT])).is_err());
    let read = f.checker.begin_read();
    let error = f.checker.end_read(read, 9, Some(&[0; UNIT])).unwrap_err();
    assert!(error.contains("beyond the end"), "{error}");
}

#[test]
fn the_report_names_what_is_allowed() {
    let f = Fixture::new();
    let a = f.done(Ending::Stable);
    let b = f.done(Ending::Done);
    let error = f.sees(a).unwrap_err();
    assert_eq!(
        error,
        format!("unit 0 holds write {}, but may hold write {} (acknowledged or seen)", a.0, b.0)
    );
}

#[test]
fn comparisons_are_checked() {
    let f = Fixture::new();
    f.done(Ending::Done);
    let expected = f.checker.certain(ONE).unwrap();
    let (first, second) = (f.write(), f.write());
    f.checker.compared(&first, ONE, &expected, true).unwrap();
    let again = f.checker.compared(&second, ONE, &expected, true).unwrap_err();
    assert!(again.contains("replaced by two"), "{again}");
    f.checker.compared(&second, ONE, &expected, false).unwrap();
    f.checker.end_write(first, Ending::Done);
    f.checker.end_write(second, Ending::Nothing);
    let third = f.write();
    let stale = f.checker.compared(&third, ONE, &expected, true).unwrap_err();
    assert!(stale.contains("cannot have held"), "{stale}");
    let certain = f.checker.certain(ONE);
    assert_eq!(certain, None, "a write is under way");
    f.checker.end_write(third, Ending::Nothing);
    let expected = f.checker.certain(ONE).unwrap();
    let fourth = f.write();
    let wrong = f.checker.compared(&fourth, ONE, &expected, false).unwrap_err();
    assert!(wrong.contains("certainly hold"), "{wrong}");
}

#[test]
fn answers_from_before_a_crash_promise_only_what_was_stable() {
    let f = Fixture::new();
    let a = f.done(Ending::Stable);
    let (plain, stable) = (f.write(), f.write());
    let read = f.checker.begin_read();
    f.checker.crash(true);
    let (plain_id, stable_id) = (plain.id, stable.id);
    f.end(read, plain_id).unwrap();
    f.checker.end_write(plain, Ending::Done);
    assert_eq!(allowed(&f, &[a, plain_id, stable_id]), [a, plain_id, stable_id]);
    f.checker.end_write(stable, Ending::Stable);
    assert_eq!(allowed(&f, &[a, plain_id, stable_id]), [plain_id, stable_id]);
}

#[test]
fn a_write_that_timed_out_may_come_late_but_not_after_its_successor() {
    let (f, world) = on_disk();
    let a = f.done(Ending::Done);
    world.with(|state| state.disks[0].pretend(true));
    let late = f.done(Ending::Lingering);
    f.sees(a).unwrap();
    assert_eq!(allowed(&f, &[a, late]), [a, late]);
    let b = f.done(Ending::Done);
    assert_eq!(allowed(&f, &[a, late, b]), [b]);
}

fn on_disk() -> (Fixture, World) {
    let world = World::new(crate::Rng::new(1), crate::Options::calm());
    let disk = world.add_disk(UNIT, 4);
    (Fixture { checker: Checker::new(VOLUME, UNIT, 4, false).on_disk(&world, disk) }, world)
}

#[test]
fn a_write_that_timed_out_is_decided_when_the_disk_is_done_with_it() {
    let (f, world) = on_disk();
    let a = f.done(Ending::Done);
    world.with(|state| state.disks[0].pretend(true));
    let late = f.done(Ending::Lingering);
    let early = f.checker.begin_read();
    world.with(|state| state.disks[0].pretend(false));
    // Begun while it was under way: this one decides nothing.
    f.end(early, a).unwrap();
    assert_eq!(allowed(&f, &[a, late]), [a, late]);
    f.sees(a).unwrap();
    assert_eq!(allowed(&f, &[a, late]), [a]);
    // With nothing under way at the disk, it is over at once.
    let over = f.done(Ending::Lingering);
    f.sees(a).unwrap();
    assert_eq!(allowed(&f, &[a, over]), [a]);
}

#[test]
fn a_flush_of_a_range_covers_that_range() {
    let f = Fixture::new();
    let both = Units { first: 0, count: 2 };
    let write = f.checker.begin_write(&[both], false);
    let id = write.id;
    f.checker.end_write(write, Ending::Done);
    let flush = f.checker.begin_flush();
    f.checker.end_flush(flush, ONE);
    f.checker.crash(true);
    assert_eq!(allowed(&f, &[WriteId(0), id]), [id]);
    let read = f.checker.begin_read();
    f.checker.end_read(read, 1, Some(&[0; UNIT])).unwrap();
}

#[test]
fn what_is_written_through_is_stable() {
    let f = Fixture::new();
    let change = f.checker.begin_mode(Some(false), false);
    let before = f.write();
    f.checker.end_mode(&change, ModeEnding::Done);
    let after = f.write();
    let (early, late) = (before.id, after.id);
    f.checker.end_write(before, Ending::Done);
    f.checker.end_write(after, Ending::Done);
    f.checker.crash(true);
    // The first may have come before the change; and nobody knows which of both came last.
    assert_eq!(allowed(&f, &[WriteId(0), early, late]), [early, late]);
}

#[test]
fn half_of_a_whole_command_is_found_unless_it_fails() {
    let both = Units { first: 0, count: 2 };
    for good in [true, false] {
        let checker = Checker::new(VOLUME, UNIT, 4, false).with_whole_commands(2);
        let write = checker.begin_write(&[both], false);
        let mut bytes = [0; 2 * UNIT];
        fill(&mut bytes[..UNIT], VOLUME, 0, write.id);
        checker.end_read(checker.begin_read(), 0, Some(&bytes)).unwrap();
        checker.end_write(write, if good { Ending::Done } else { Ending::Unknown });
        let after = checker.end_read(checker.begin_read(), 2, Some(&[0; UNIT]));
        assert_eq!(after.is_err_and(|what| what.contains("which came after it")), good);
    }
    let checker = Checker::new(VOLUME, UNIT, 4, false).with_whole_commands(2);
    let long = checker.begin_write(&[Units { first: 0, count: 3 }], false);
    let mut bytes = [0; 2 * UNIT];
    fill(&mut bytes[..UNIT], VOLUME, 0, long.id);
    checker.end_read(checker.begin_read(), 0, Some(&bytes)).unwrap();
    checker.end_write(long, Ending::Done);
    fill(&mut bytes[UNIT..], VOLUME, 1, WriteId(1));
    checker.end_read(checker.begin_read(), 0, Some(&bytes)).unwrap();
}

#[test]
fn a_repeated_block_is_known_by_its_first_unit() {
    let checker = Checker::new(VOLUME, UNIT, 8, false);
    let run = Units { first: 2, count: 4 };
    let write = checker.begin_repeated(run, 2);
    let id = write.id;
    checker.end_write(write, Ending::Done);
    let mut bytes = vec![0; 4 * UNIT];
    for (unit, content) in [2, 3, 2, 3].into_iter().zip(bytes.chunks_mut(UNIT)) {
        fill(content, VOLUME, unit, id);
    }
    assert_eq!(checker.certain(run), Some(bytes.clone()));
    checker.end_read(checker.begin_read(), 2, Some(&bytes)).unwrap();
    fill(&mut bytes[3 * UNIT..], VOLUME, 5, id);
    assert!(checker.end_read(checker.begin_read(), 2, Some(&bytes)).is_err());
}

#[test]
fn a_refused_write_must_not_be_seen() {
    let f = Fixture::new();
    let open = f.write();
    f.sees(open.id).unwrap();
    f.checker.end_write(open, Ending::Nothing);
    let error = f.sees(WriteId(0)).unwrap_err();
    assert!(error.contains("had been seen before"), "{error}");
}

#[test]
fn an_orderly_stop_is_a_flush_of_everything() {
    let f = Fixture::new();
    let a = f.done(Ending::Done);
    let b = f.done(Ending::Done);
    let open = f.write();
    f.checker.stopped();
    assert_eq!(allowed(&f, &[a, b, open.id]), [b, open.id]);
    f.checker.end_write(open, Ending::Unknown);
}

#[test]
fn a_comparison_may_have_seen_what_is_overwritten_before_it_ends() {
    let f = Fixture::new();
    f.done(Ending::Stable);
    let expected = f.checker.certain(ONE).unwrap();
    let compare = f.checker.begin_compare(ONE);
    f.done(Ending::Stable);
    f.checker.compared(&compare, ONE, &expected, true).unwrap();
    f.checker.end_write(compare, Ending::Done);
}
