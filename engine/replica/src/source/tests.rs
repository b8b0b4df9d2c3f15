//! A source with a device, fronts and a reader that are played here.

mod lives;

use super::*;
use crate::action::Action;
use crate::context::Actions;
use kagami_journal::{Expect, GRANULE, Parser};
use kagami_memory::{Arena, ArenaPlan, HugePages, Pool};
use kagami_types::{BlockOp, BlockRange, Lba};
use std::sync::OnceLock;

pub(super) const GROUP: Uuid = Uuid::from_u128(0x6a);

pub(crate) fn pool() -> Pool {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    let plan = ArenaPlan::new(1).with(Class::Page, 32 << 10, 0);
    ARENA.get_or_init(|| Arena::new(plan, HugePages::Off).unwrap()).pool(0)
}

pub(super) fn bytes(data: &[u8]) -> Scatter {
    let mut list = ScatterMut::take(&pool(), Purpose::Internal, data.len()).unwrap();
    assert_eq!(list.copy_from(0, data), data.len());
    list.freeze()
}

pub(super) fn layout(data_len: u64) -> Layout {
    Layout::new(4 << 20, 0).unwrap().with_data_len(data_len).unwrap()
}

pub(super) fn volumes() -> Vec<SourceVolume> {
    let volume = |index, shift| SourceVolume { index: VolumeIndex(index), shift, granules: 1 << 12 };
    vec![volume(0, 9), volume(2, 12)]
}

/// What a source is called with.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) actions: Actions,
    pub(super) now: Time,
}

impl Desk {
    pub(super) fn with<T>(&mut self, call: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let pool = pool();
        let mut random = || 0;
        let wall = 1_000_000 + self.now.0;
        call(&mut Context {
            now: self.now,
            wall,
            pool: &pool,
            actions: &mut self.actions,
            random: &mut random,
        })
    }

    fn writes(&mut self) -> Vec<(u64, u64, Scatter)> {
        self.taken()
            .into_iter()
            .filter_map(|action| match action {
                Action::Journal { tag, op: DeviceOp::Write { at, data, stable: true } } => {
                    Some((tag, at, data))
                }
                _ => None,
            })
            .collect()
    }

    fn taken(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.actions.pop()).collect()
    }

    fn mail(&mut self) -> Vec<(u8, ToFront)> {
        self.taken()
            .into_iter()
            .filter_map(|action| match action {
                Action::Front(volume, mail) => Some((volume.0, mail)),
                _ => None,
            })
            .collect()
    }

    fn later(&mut self, wait: Duration) {
        self.now = self.now + wait;
    }
}

fn begin(desk: &mut Desk, data_len: u64, slow: Duration) -> Source {
    let plan = SourcePlan::fresh(GROUP, layout(data_len), (Epoch(7), 0), Sequence(1), volumes(), slow);
    let mut source = desk.with(|cx| Source::begin(plan, cx));
    let Some(Action::Journal { tag, op: DeviceOp::Flush }) = desk.actions.pop() else { panic!() };
    assert!(desk.actions.pop().is_none());
    assert!(desk.with(|cx| source.on_device(cx, tag, Ok(Scatter::new()))));
    settle(&mut source, desk);
    assert_eq!(events(&mut source), [SourceEvent::Begun]);
    source
}

/// All device writes are done, in order.
fn settle(source: &mut Source, desk: &mut Desk) {
    desk.with(|cx| source.pump(cx));
    loop {
        let mut rest = Vec::new();
        let mut any = false;
        for action in desk.taken() {
            match action {
                Action::Journal { tag, .. } => {
                    any = true;
                    assert!(desk.with(|cx| source.on_device(cx, tag, Ok(Scatter::new()))));
                }
                other => rest.push(other),
            }
        }
        for action in rest {
            desk.actions.push(action);
        }
        if !any {
            return;
        }
    }
}

fn events(source: &mut Source) -> Vec<SourceEvent> {
    std::iter::from_fn(|| source.next_event()).collect()
}

fn write(lba: u64, blocks: u32) -> Change {
    Change::Write(BlockRange { lba: Lba(lba), blocks })
}

fn append(source: &mut Source, desk: &mut Desk, volume: u8, sequence: u64, len: usize) {
    let shift = if volume == 0 { 9 } else { 12 };
    let change = write(sequence * 8, u32::try_from(len >> shift).unwrap());
    let data = bytes(&vec![u8::try_from(sequence % 251).unwrap(); len]);
    assert!(desk.with(|cx| source.append(
        cx,
        VolumeIndex(volume),
        (Sequence(sequence), Company::None),
        &change,
        data
    )));
}

/// Every flush that was asked for is answered.
fn answer_flushes(source: &mut Source, desk: &mut Desk, result: Result<(), BlockError>) -> Vec<u8> {
    let mut asked = Vec::new();
    for (volume, mail) in desk.mail() {
        if let ToFront::Apply { tag, op, .. } = mail {
            assert!(matches!(op, BlockOp::Flush { .. }));
            asked.push(volume);
            assert!(desk.with(|cx| source.on_applied(cx, tag, result)));
        }
    }
    asked
}

#[test]
fn what_comes_in_a_round_is_one_frame_and_told_to_whom_it_concerns() {
    let mut desk = Desk::default();
    let mut source = begin(&mut desk, 1 << 20, Duration::ZERO);
    append(&mut source, &mut desk, 2, 2, 4096);
    assert!(desk.actions.pop().is_none());
    assert_eq!(source.next_deadline().min(Time(5)), Time(5));
    append(&mut source, &mut desk, 2, 1, 4096);
    assert!(desk.with(|cx| source.append(
        cx,
        VolumeIndex(2),
        (Sequence(3), Company::None),
        &Change::Nothing,
        Scatter::new()
    )));
    assert_eq!(source.next_deadline(), Time(0));
    desk.with(|cx| source.on_tick(cx));
    let frames = desk.writes();
    assert_eq!((frames.len(), frames[0].2.len_bytes()), (1, 3 * 4096));
    assert_eq!(source.stable().1, Sequence(0));
    desk.with(|cx| source.on_device(cx, frames[0].0, Ok(Scatter::new())));
    let mail = desk.mail();
    assert_eq!(mail.len(), 1);
    assert!(matches!(mail[0], (2, ToFront::Stable(Sequence(3)))));
    assert_eq!(source.stable(), (JournalPos { epoch: Epoch(7), offset: 4 * 4096 }, Sequence(3)));
    // Entries of no volume of the group, or of another form, are not taken.
    let none = desk.with(|cx| {
        source.append(cx, VolumeIndex(1), (Sequence(4), Company::None), &Change::Nothing, Scatter::new())
    });
    let odd = desk.with(|cx| {
        source.append(cx, VolumeIndex(2), (Sequence(4), Company::None), &write(0, 2), bytes(&[0; 4096]))
    });
    assert!(!none && !odd);
    assert!(!desk.with(|cx| source.on_device(cx, 99, Ok(Scatter::new()))));
}

#[test]
fn what_is_stable_has_no_gap() {
    let mut desk = Desk::default();
    let mut source = begin(&mut desk, 1 << 20, Duration::ZERO);
    append(&mut source, &mut desk, 0, 1, 512);
    desk.with(|cx| source.pump(cx));
    append(&mut source, &mut desk, 0, 2, 512);
    desk.later(Duration::from_millis(5));
    desk.with(|cx| source.pump(cx));
    let frames = desk.writes();
    assert_eq!(frames.len(), 2);
    desk.with(|cx| source.drain(cx, Sequence(2)));
    desk.with(|cx| source.on_device(cx, frames[1].0, Ok(Scatter::new())));
    assert!(desk.mail().is_empty() && events(&mut source).is_empty());
    desk.with(|cx| source.on_device(cx, frames[0].0, Ok(Scatter::new())));
    assert!(matches!(desk.mail()[..], [(0, ToFront::Stable(Sequence(2)))]));
    let at = source.stable().0;
    assert_eq!(events(&mut source), [SourceEvent::Drained { at, sequence: Sequence(2) }]);
}

#[test]
fn a_reader_is_believed_only_what_it_can_have() {
    let mut desk = Desk::default();
    let mut source = begin(&mut desk, 1 << 20, Duration::ZERO);
    append(&mut source, &mut desk, 0, 1, 4096);
    let open = source.stable().0;
    desk.with(|cx| source.pump(cx));
    let frames = desk.writes();
    let confirm = |source: &mut Source, desk: &mut Desk, epoch, offset| {
        desk.with(|cx| source.confirm(cx, JournalPos { epoch: Epoch(epoch), offset }))
    };
    // The frame is under way, and not stable.
    assert_eq!(confirm(&mut source, &mut desk, 7, open.offset + 8192), Confirmed::Beyond);
    desk.with(|cx| source.on_device(cx, frames[0].0, Ok(Scatter::new())));
    assert_eq!(confirm(&mut source, &mut desk, 6, open.offset + 8192), Confirmed::Beyond);
    assert_eq!(source.confirmed(), 0);
    assert_eq!(confirm(&mut source, &mut desk, 7, open.offset + 8192), Confirmed::Taken);
    assert_eq!((source.confirmed(), source.is_drained()), (open.offset + 8192, true));
    assert_eq!(confirm(&mut source, &mut desk, 9, 0), Confirmed::Taken);
    assert_eq!(source.confirmed(), open.offset + 8192);
}

#[test]
fn space_is_freed_when_confirmed_destaged_and_saved() {
    let mut desk = Desk::default();
    let mut source = begin(&mut desk, 256 << 10, Duration::ZERO);
    append(&mut source, &mut desk, 0, 1, 4096);
    settle(&mut source, &mut desk);
    desk.taken();
    let end = source.stable().0;
    desk.with(|cx| source.confirm(cx, end));
    assert_eq!(source.wanted_out().offset, 0);
    desk.with(|cx| source.checkpoint(cx));
    // Another entry comes while the flush is under way: it is not covered.
    append(&mut source, &mut desk, 0, 2, 4096);
    assert_eq!(answer_flushes(&mut source, &mut desk, Err(BlockError::Device)), [0]);
    assert_eq!(source.wanted_out().offset, 0);
    assert!(!source.is_destaged_since(Time(0)), "it failed");
    desk.with(|cx| source.checkpoint(cx));
    assert!(answer_flushes(&mut source, &mut desk, Ok(())).is_empty());
    settle(&mut source, &mut desk);
    desk.taken();
    desk.later(Duration::from_secs(2));
    desk.with(|cx| source.on_tick(cx));
    assert!(!source.is_destaged_since(Time(0)), "its flush is not answered");
    let began = desk.now;
    desk.later(Duration::from_millis(1));
    assert_eq!(answer_flushes(&mut source, &mut desk, Ok(())), [0]);
    assert!(source.is_destaged_since(began) && !source.is_destaged_since(desk.now));
    let all = events(&mut source);
    assert!(all.contains(&SourceEvent::Destaged) && all.contains(&SourceEvent::Save), "{all:?}");
    assert_eq!(source.wanted_out(), end);
    let mut superblock = Superblock::new(Uuid::from_u128(1), GROUP, layout(256 << 10), Epoch(1));
    source.fill(&mut superblock);
    assert_eq!(
        (superblock.out, superblock.out_epoch, superblock.confirmed),
        (end.offset, Epoch(7), end.offset)
    );
    assert_eq!((superblock.epoch, superblock.parents[0]), (Epoch(7), Epoch(1)));
    assert_eq!((superblock.destaged_sequence, superblock.sequence), (Sequence(2), Sequence(2)));
    assert_eq!(source.readable().0, 0);
    desk.with(|cx| source.saved(cx, superblock.out));
    assert_eq!(source.readable(), (end.offset, source.stable().0.offset));
    assert_eq!(source.figures().used, source.writer.end().0 - end.offset);
    // A place that is not one between frames frees what is before its frame.
    let odd = JournalPos { offset: end.offset + 4096, ..end };
    desk.with(|cx| source.confirm(cx, odd));
    assert_eq!((source.confirmed(), source.wanted_out()), (odd.offset, end));
    // A purge order's limit holds more back.
    let now = source.stable().0;
    desk.with(|cx| source.confirm(cx, now));
    source.limit_purge(Some(end.offset));
    assert_eq!(source.wanted_out(), end);
}

/// Appends until nothing more goes; the next sequence.
fn fill_up(source: &mut Source, desk: &mut Desk, mut sequence: u64) -> u64 {
    while source.writer.waiting().0 == 0 {
        append(source, desk, 0, sequence, 32 << 10);
        sequence += 1;
        settle(source, desk);
    }
    sequence
}

#[test]
fn full_because_of_the_reader_suspends() {
    let mut desk = Desk::default();
    let mut source = begin(&mut desk, 1 << 20, Duration::ZERO);
    fill_up(&mut source, &mut desk, 1);
    // Half of it waits for the volumes too.
    let mut flushes = Vec::new();
    for action in desk.taken() {
        if let Action::Front(_, ToFront::Apply { tag, .. }) = action {
            flushes.push(tag);
        }
    }
    assert_eq!(flushes.len(), 1);
    let all = events(&mut source);
    assert_eq!(all.iter().filter(|event| **event == SourceEvent::Full).count(), 1);
    // What is confirmed and destaged makes room, once a superblock says so.
    let (at, _) = source.stable();
    desk.with(|cx| source.confirm(cx, at));
    desk.with(|cx| source.on_applied(cx, flushes[0], Ok(())));
    assert!(events(&mut source).contains(&SourceEvent::Save));
    assert!(source.writer.is_full());
    let out = source.wanted_out().offset;
    desk.with(|cx| source.saved(cx, out));
    assert!(!source.writer.is_full() && source.writer.flying() == 1);
    settle(&mut source, &mut desk);
    assert_eq!(source.stable().1, source.writer.end().1);
}

#[test]
fn full_because_of_the_volumes_waits_for_them() {
    let mut desk = Desk::default();
    let mut source = begin(&mut desk, 1 << 20, Duration::ZERO);
    let mut sequence = 1;
    let mut flushes = Vec::new();
    while source.writer.waiting().0 == 0 {
        append(&mut source, &mut desk, 0, sequence, 32 << 10);
        sequence += 1;
        settle(&mut source, &mut desk);
        let (at, _) = source.stable();
        desk.with(|cx| source.confirm(cx, at));
        flushes.extend(desk.mail().into_iter().filter_map(|(_, mail)| match mail {
            ToFront::Apply { tag, .. } => Some(tag),
            _ => None,
        }));
    }
    // Half of it waited for a checkpoint, which has not been answered.
    assert_eq!(flushes.len(), 1);
    assert!(!events(&mut source).contains(&SourceEvent::Full));
    desk.with(|cx| source.on_applied(cx, flushes[0], Ok(())));
    let out = source.wanted_out().offset;
    assert!(out > 0);
    desk.with(|cx| source.saved(cx, out));
    settle(&mut source, &mut desk);
    assert_eq!(source.writer.waiting().0, 0);
}

#[test]
fn hosts_are_slowed_before_it_is_full_and_waited_for_then() {
    let mut desk = Desk::default();
    let most = Duration::from_millis(20);
    let mut source = begin(&mut desk, 1 << 20, most);
    let mut sequence = 1;
    while source.unread() <= (1 << 20) / 4 * 3 {
        append(&mut source, &mut desk, 0, sequence, 32 << 10);
        sequence += 1;
        settle(&mut source, &mut desk);
    }
    let slowed = |desk: &mut Desk| -> Vec<Time> {
        desk.mail()
            .into_iter()
            .filter_map(|(_, mail)| match mail {
                ToFront::Slow(until) => Some(until),
                _ => None,
            })
            .collect()
    };
    desk.with(|cx| source.on_tick(cx));
    let first = slowed(&mut desk);
    assert_eq!(first.len(), 2);
    assert!(first[0] > desk.now && first[0] <= desk.now + most);
    assert!(source.next_deadline() <= first[0]);
    fill_up(&mut source, &mut desk, sequence);
    assert!(!events(&mut source).contains(&SourceEvent::Full));
    desk.now = first[0];
    desk.with(|cx| source.on_tick(cx));
    assert!(slowed(&mut desk)[0].0 - desk.now.0 > first[0].0);
    desk.later(most);
    desk.with(|cx| source.on_tick(cx));
    assert!(events(&mut source).contains(&SourceEvent::Full));
    // The reader catches up: no more.
    let (at, _) = source.stable();
    desk.with(|cx| source.confirm(cx, at));
    desk.later(most);
    desk.taken();
    desk.with(|cx| source.on_tick(cx));
    assert_eq!(slowed(&mut desk), [Time(0), Time(0)]);
}

#[test]
fn a_failure_is_said_once_and_everything_lacking_is_known() {
    let mut desk = Desk::default();
    let mut source = begin(&mut desk, 1 << 20, Duration::ZERO);
    append(&mut source, &mut desk, 0, 1, 4096);
    desk.with(|cx| source.pump(cx));
    append(&mut source, &mut desk, 2, 2, 4096);
    desk.later(Duration::from_millis(5));
    desk.with(|cx| source.pump(cx));
    let frames = desk.writes();
    append(&mut source, &mut desk, 2, 300, 4096);
    desk.with(|cx| source.on_device(cx, frames[1].0, Err(BlockError::Device)));
    assert_eq!(events(&mut source), [SourceEvent::Failed(BlockError::Device)]);
    source.stop();
    assert!(events(&mut source).is_empty());
    desk.with(|cx| source.on_device(cx, frames[0].0, Ok(Scatter::new())));
    let at = source.stable().0;
    assert_eq!(events(&mut source), [SourceEvent::Stopped { at, sequence: Sequence(1) }]);
    append(&mut source, &mut desk, 2, 3, 4096);
    let bits = source.unconfirmed();
    assert!(bits[0].contains(0) && bits[2].contains(1) && bits[1].is_empty());
    assert!(bits[2].contains(300 * 8 * 4096 / GRANULE));
    assert_eq!(source.take_waiting().len(), 1);
    assert!(desk.writes().is_empty());
    assert_eq!(source.next_deadline(), Time::NEVER);
}

#[test]
fn an_idle_journal_says_what_was_stable_and_then_rests() {
    let mut desk = Desk::default();
    let mut source = begin(&mut desk, 1 << 20, Duration::ZERO);
    append(&mut source, &mut desk, 0, 1, 4096);
    settle(&mut source, &mut desk);
    let stable = source.stable().0.offset;
    let newest = source.newest();
    assert!(newest > 0);
    desk.later(BEACON);
    assert!(source.next_deadline() <= desk.now);
    desk.with(|cx| source.on_tick(cx));
    settle(&mut source, &mut desk);
    assert_eq!(source.stable().0.offset, stable + 4096);
    for _ in 0..10 {
        desk.later(BEACON);
        desk.with(|cx| source.on_tick(cx));
        settle(&mut source, &mut desk);
    }
    assert_eq!((source.stable().0.offset, source.newest()), (stable + 4096, newest));
}

#[test]
fn entries_of_the_group_go_between_those_of_hosts() {
    let mut desk = Desk::default();
    let mut source = begin(&mut desk, 1 << 20, Duration::ZERO);
    append(&mut source, &mut desk, 0, 2, 512);
    let none = (VolumeIndex(0), 0);
    assert!(desk.with(|cx| source.entry(cx, Sequence(1), EntryKind::Marker, none, b"before")));
    assert!(!desk.with(|cx| source.entry(cx, Sequence(3), EntryKind::Marker, none, &[0; 5000])));
    desk.with(|cx| source.pump(cx));
    let frames = desk.writes();
    let expect = Expect { epoch: Epoch(7), previous: None, next: Some(Sequence(1)) };
    let mut parser = Parser::expecting(GROUP, layout(1 << 20), 4096, expect);
    parser.push(4096, frames[0].2.clone()).unwrap();
    let frame = parser.next().unwrap().unwrap();
    let found: Vec<_> = frame.entries.iter().map(|(head, data)| (head.kind, data.to_vec())).collect();
    assert_eq!(found[0], (EntryKind::Marker, b"before".to_vec()));
    assert_eq!(found[1], (EntryKind::Write, vec![2; 512]));
}

#[test]
fn times_never_go_back() {
    let mut desk = Desk::default();
    desk.later(Duration::from_secs(100));
    let mut source = begin(&mut desk, 1 << 20, Duration::ZERO);
    append(&mut source, &mut desk, 0, 1, 512);
    settle(&mut source, &mut desk);
    let before = source.newest();
    assert!(before > 0);
    // Somebody sets the clock.
    desk.now = Time(0);
    append(&mut source, &mut desk, 0, 2, 512);
    desk.later(Duration::from_secs(1));
    settle(&mut source, &mut desk);
    assert_eq!((source.newest(), source.stable().1), (before, Sequence(2)));
}
