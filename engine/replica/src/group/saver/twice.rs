//! What is durable is in both places, whichever of them is lost.

use super::*;
use crate::action::Action;
use crate::context::Actions;
use crate::group::{Group, GroupPlan, Options, PlannedVolume};
use crate::mail::VolumeIndex;
use crate::record::{Side, State};
use crate::source::tests::pool;
use kagami_journal::{Found, Layout, SUPERBLOCK_PLACES};
use kagami_memory::{Purpose, Scatter, ScatterMut};
use kagami_types::{BlockError, Epoch, Lba, Lun, Uuid};

const JOURNAL: u64 = 64 << 20;

/// The two places, as the device has them.
type Places = [Vec<u8>; 2];

fn fresh() -> Durable {
    let layout = Layout::new(JOURNAL, 1 << 30).unwrap();
    let block = Superblock::new(Uuid::from_u128(1), Uuid::from_u128(2), layout, Epoch(3));
    Durable::new(block, Record::new(Side::Primary, crate::Generation::first(5)))
}

fn with<R>(actions: &mut Actions, now: u64, doing: impl FnOnce(&mut Context<'_>) -> R) -> R {
    let mut random = || 7;
    let pool = pool();
    doing(&mut Context { now: Time(now), wall: 0, pool: &pool, actions, random: &mut random })
}

/// The write that was asked for.
fn asked(actions: &mut Actions) -> Option<(u64, usize, Vec<u8>)> {
    std::iter::from_fn(|| actions.pop()).find_map(|action| match action {
        Action::Journal { tag, op: DeviceOp::Write { at, data, stable: true } } => {
            Some((tag, SUPERBLOCK_PLACES.iter().position(|place| *place == at).unwrap(), data.to_vec()))
        }
        _ => None,
    })
}

/// Whichever of the places can be read, what counts is what was said to be durable, or what was to come after it.
fn judge(places: &Places, torn: bool, (said, coming): (&str, &str)) {
    let names = |bytes: [&[u8]; 2]| match Superblock::choose(bytes[0], bytes[1]) {
        Found::Ours(block, _) if !block.record.is_empty() => Durable::read(*block).unwrap().record.reason,
        Found::Ours(..) => String::new(),
        other => panic!("{other:?}"),
    };
    let both = names([&places[0], &places[1]]);
    assert!([said, coming].contains(&both.as_str()), "{both} after {said}, before {coming}");
    // One that is torn and another that is lost are two faults.
    for lost in 0..if torn { 0 } else { 2 } {
        let mut bytes: [&[u8]; 2] = [&places[0], &places[1]];
        bytes[lost] = &[];
        // A journal that has nothing yet may be lost with a place.
        if said.is_empty() && !matches!(Superblock::choose(bytes[0], bytes[1]), Found::Ours(..)) {
            continue;
        }
        let found = names(bytes);
        assert!([said, coming].contains(&found.as_str()), "{found} after {said}, before {coming}");
    }
}

#[test]
fn what_was_said_to_be_durable_is_there_whichever_place_is_lost() {
    for fails in 0..7 {
        let mut actions = Actions::default();
        let mut places: Places = [vec![0; 4096], vec![0; 4096]];
        let mut saver = Saver::new(fresh());
        let mut said = String::new();
        let mut writes = 0;
        let mut now = 0;
        for number in 0..5 {
            let coming = format!("change {number}");
            saver.next.record.reason.clone_from(&coming);
            let version = saver.save();
            assert!(!saver.is_durable(version));
            while !saver.is_durable(version) {
                now += 600_000_000;
                with(&mut actions, now, |cx| saver.turn(cx));
                let (tag, place, bytes) = asked(&mut actions).expect("a write");
                writes += 1;
                let fail = writes == fails + 1;
                if fail {
                    // Half of it got there.
                    places[place][..1024].copy_from_slice(&bytes[..1024]);
                } else {
                    places[place] = bytes;
                }
                if writes > 1 {
                    judge(&places, fail, (&said, &coming));
                }
                let end = if fail { Err(BlockError::WriteMedium(Lba(0))) } else { Ok(Scatter::new()) };
                assert!(with(&mut actions, now, |cx| saver.on_device(cx, tag, &end)));
            }
            said = coming;
            judge(&places, false, (&said, &said));
        }
        assert_eq!(saver.durable().record.reason, "change 4");
    }
}

#[test]
fn a_change_meanwhile_waits_for_a_write_of_its_own() {
    let mut actions = Actions::default();
    let mut saver = Saver::new(fresh());
    let turn = |saver: &mut Saver, actions: &mut Actions| {
        with(actions, 0, |cx| saver.turn(cx));
        let (tag, ..) = asked(actions).expect("a write");
        tag
    };
    let first = saver.save();
    for _ in 0..2 {
        let tag = turn(&mut saver, &mut actions);
        with(&mut actions, 0, |cx| saver.on_device(cx, tag, &Ok(Scatter::new())));
    }
    let tag = turn(&mut saver, &mut actions);
    // The second place is being written: what changes now is in neither.
    let second = saver.save();
    with(&mut actions, 0, |cx| saver.on_device(cx, tag, &Ok(Scatter::new())));
    assert!(saver.is_durable(first) && !saver.is_durable(second));
    for _ in 0..2 {
        assert!(!saver.is_durable(second));
        let tag = turn(&mut saver, &mut actions);
        with(&mut actions, 0, |cx| saver.on_device(cx, tag, &Ok(Scatter::new())));
    }
    assert!(saver.is_durable(second));
    with(&mut actions, 0, |cx| saver.turn(cx));
    assert!(asked(&mut actions).is_none());
}

#[test]
fn who_waits_for_what_follows_a_write_that_fails_is_served() {
    let mut actions = Actions::default();
    let mut saver = Saver::new(fresh());
    let mut now = 0;
    let mut end = |saver: &mut Saver, actions: &mut Actions, good: bool| {
        now += 600_000_000;
        with(actions, now, |cx| saver.turn(cx));
        let Some((tag, ..)) = asked(actions) else { return false };
        let end = if good { Ok(Scatter::new()) } else { Err(BlockError::WriteMedium(Lba(0))) };
        with(actions, now, |cx| saver.on_device(cx, tag, &end))
    };
    let first = saver.save();
    // The claim, and both places.
    assert!((0..3).all(|_| end(&mut saver, &mut actions, true)) && saver.is_durable(first));
    let second = saver.save();
    with(&mut actions, u64::MAX / 2, |cx| saver.turn(cx));
    let third = saver.save();
    let (tag, ..) = asked(&mut actions).unwrap();
    let failed = Err(BlockError::WriteMedium(Lba(0)));
    with(&mut actions, 0, |cx| saver.on_device(cx, tag, &failed));
    while end(&mut saver, &mut actions, true) {}
    assert!(saver.is_durable(second) && saver.is_durable(third));
}

/// Starts a group of which the device can only read some of its superblocks.
fn started(places: &Places, readable: [bool; 2]) -> (Group, Vec<String>) {
    let volume = PlannedVolume {
        index: VolumeIndex(0),
        uuid: Uuid::from_u128(9),
        lun: Lun::default(),
        far_lun: Lun::default(),
        blocks: 1 << 18,
        block_size: 4096,
    };
    let mut group = Group::new(GroupPlan {
        group: Uuid::from_u128(2),
        name: "g".to_owned(),
        own_array: Uuid::from_u128(3),
        peer_array: Uuid::from_u128(4),
        journal: Uuid::from_u128(1),
        journal_bytes: JOURNAL,
        volumes: vec![volume],
        options: Options::default(),
        create: None,
    });
    let mut actions = Actions::default();
    let mut events = Vec::new();
    with(&mut actions, 0, |cx| group.start(cx));
    for round in 1..200u64 {
        while let Some(action) = actions.pop() {
            match action {
                Action::Journal { tag, op: DeviceOp::Read { at, .. } } => {
                    let place = SUPERBLOCK_PLACES.iter().position(|place| *place == at);
                    let end = match place {
                        Some(place) if readable[place] => {
                            let mut page = ScatterMut::take(&pool(), Purpose::Internal, 4096).unwrap();
                            page.copy_from(0, &places[place]);
                            Ok(page.freeze())
                        }
                        _ => Err(BlockError::ReadMedium(Lba(0))),
                    };
                    with(&mut actions, round * 500_000_000, |cx| group.on_device(cx, tag, end));
                }
                Action::Event(text) => events.push(text),
                _ => {}
            }
        }
        with(&mut actions, round * 500_000_000, |cx| group.on_tick(cx));
    }
    (group, events)
}

#[test]
fn a_start_needs_one_superblock_and_says_what_is_wrong() {
    let mut durable = fresh();
    durable.record.state = State::Psue;
    durable.record.reason = "the link was cut".to_owned();
    let places: Places = [7u64, 6].map(|version| {
        durable.block.version = version;
        durable.encode().to_vec()
    });
    let places = [places[1].clone(), places[0].clone()];
    for readable in [[true, true], [true, false], [false, true]] {
        let (group, events) = started(&places, readable);
        let record = group.record().expect("a record");
        assert_eq!((record.state, record.reason.as_str()), (State::Psue, "the link was cut"), "{readable:?}");
        let said = events.iter().any(|event| event.contains("the other one counts"));
        assert_eq!(said, readable != [true, true], "{events:?}");
    }
    let (group, events) = started(&places, [false, false]);
    assert!(group.record().is_none());
    let report = group.report(Time(0), 0).expect("a report");
    assert!(
        report.last_error.contains("both superblocks") && report.last_error.contains("delete the pair here")
    );
    assert!(events.iter().any(|event| event.contains("the group stops")), "{events:?}");
}
