//! Groups whose volumes grow, and to which others come, while the pair is suspended; and options that change meanwhile.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod world;

use kagami_replica::action::OrderResult;
use kagami_replica::mail::VolumeIndex;
use kagami_replica::{Front, FrontPlan, Options, Order, PlannedVolume, State};
use kagami_types::{BlockCount, BlockSize, Lun, Time, Uuid};
use std::time::Duration;
use world::World;
use world::calm::{LONG, begin, plan};
use world::history::Lineage;
use world::plan::Plan;
use world::store::Store;

const RESHAPE: u64 = 1 << 40;

fn calm(seed: u64) -> World {
    begin(Plan {
        volumes: 1,
        blocks: 1024,
        journal_bytes: 32 << 20,
        workers: 2,
        ..plan(seed, Options::default())
    })
}

fn wait_for(world: &mut World, states: [State; 2]) {
    let now = |world: &World| world.reports().map(|report| report.map(|report| report.state));
    let wanted = states.map(Some);
    assert!(world.until(LONG, |world| now(world) == wanted), "{:?} {:#?}", world.failure, world.reports());
}

fn answer(world: &mut World, number: u64) -> OrderResult {
    assert!(world.until(LONG, |world| world.script.answers.contains_key(&number)), "{:?}", world.failure);
    world.script.answers.remove(&number).expect("just seen")
}

fn ordered(world: &mut World, array: usize, order: Order) -> u8 {
    let number = world.order(array, order);
    answer(world, number).exit_code()
}

fn volumes(array: usize, shape: &[u64]) -> Vec<PlannedVolume> {
    let of = |(index, blocks): (u8, &u64)| PlannedVolume {
        index: VolumeIndex(index),
        uuid: Uuid::from_u128(100 + 10 * array as u128 + u128::from(index)),
        lun: Lun::new(u16::from(index)).expect("small"),
        far_lun: Lun::new(u16::from(index)).expect("small"),
        blocks: *blocks,
        block_size: 4096,
    };
    (0..).zip(shape).map(of).collect()
}

fn reshape(world: &mut World, array: usize, shape: &[u64]) -> OrderResult {
    world.group(array, |group, cx| group.on_reshape(cx, RESHAPE, volumes(array, shape)));
    answer(world, RESHAPE)
}

/// A volume that both arrays get, or that grows there; each has something else on what is new.
fn prepare(world: &mut World, array: usize, shape: &[u64]) {
    for (index, blocks) in shape.iter().enumerate() {
        let here = &mut world.arrays[array];
        let stamp = |block: u64| 1 << 41 | (array as u64) << 38 | block;
        if let Some(store) = here.stores.get(index) {
            let mut image = store.visible.clone();
            image.extend((image.len() as u64..*blocks).map(stamp));
            here.stores[index] = Store::new(image, 4096);
            here.fronts[index].grow(BlockCount(*blocks));
            continue;
        }
        here.stores.push(Store::new((0..*blocks).map(stamp).collect(), 4096));
        let group = here.group.as_ref().expect("a group");
        here.fronts.push(Front::new(FrontPlan {
            index: VolumeIndex(index as u8),
            block_size: BlockSize::B4096,
            blocks: BlockCount(*blocks),
            sequencer: group.sequencer(),
            slots: 64,
        }));
        here.mail_at.push((Time(0), Time(0)));
    }
}

fn changed_while_split(seed: u64, shape: &[u64], crash: bool) {
    let mut world = calm(seed);
    let before = world.reports()[0].as_ref().expect("a report").difference;
    assert_eq!(before, 0);
    assert!(
        matches!(reshape(&mut world, 0, shape), OrderResult::Refused(why) if why.contains("split it first"))
    );
    assert_eq!(ordered(&mut world, 0, Order::Split { writable: false }), 0);
    world.until(Duration::from_millis(200), |_| false);
    world.hosts.stopped = true;
    world.until(Duration::from_millis(200), |_| false);
    for array in [1, 0] {
        prepare(&mut world, array, shape);
        assert!(matches!(reshape(&mut world, array, &[1000]), OrderResult::Refused(_)), "smaller");
        let done = reshape(&mut world, array, shape);
        assert!(matches!(done, OrderResult::Done(_)), "{done:?}");
        if array == 1 {
            // Only one of them: the other side is not made for that.
            world.until(Duration::from_secs(2), |_| false);
            assert_eq!(ordered(&mut world, 0, Order::Resync { discard: None }), 3);
        }
    }
    // What hosts did to the volumes before is done; from here on the larger ones are judged.
    world.plan.volumes = shape.len();
    world.plan.blocks = shape[0];
    let last = world.reports()[0].as_ref().expect("a report").positions.stable_sequence.0;
    world.judge.lineage = [Some(Lineage::new(world.arrays[0].image(), last)), None];
    if crash {
        world.crash(0);
        world.crash(1);
        let up =
            |world: &World| world.reports().iter().all(|it| it.as_ref().is_some_and(|it| !it.recovering));
        assert!(world.until(LONG, up));
        let difference = world.reports()[0].as_ref().expect("a report").difference;
        let new: u64 = shape.iter().map(|blocks| blocks.div_ceil(16)).sum::<u64>() - 64;
        assert!(difference >= new, "{difference} granules differ of {new} new ones");
        world.until(Duration::from_secs(2), |_| false);
    }
    assert_eq!(ordered(&mut world, 0, Order::Resync { discard: None }), 0);
    let copies = world.reports()[1].as_ref().expect("a report").consistent;
    assert!(!copies, "a group with a volume that is being copied is a moment of nothing");
    wait_for(&mut world, [State::Pair; 2]);
    world.hosts.stopped = false;
    world.until(Duration::from_millis(300), |_| false);
    world.hosts.stopped = true;
    world.until(Duration::from_millis(500), |_| false);
    assert_eq!(ordered(&mut world, 0, Order::Marker { name: "end".to_owned(), wait: true }), 0);
    world.until(Duration::from_millis(200), |_| false);
    assert_eq!(world.failure, None);
    let (one, other) = (world.arrays[0].image(), world.arrays[1].image());
    assert!(one == other, "the arrays differ: {}", world::history::difference(&one, &other));
    assert_eq!(one.iter().map(|image| image.len() as u64).collect::<Vec<_>>(), shape);
}

#[test]
fn a_volume_grows_while_the_pair_is_split() {
    changed_while_split(1, &[3000], false);
    changed_while_split(2, &[1025], true);
}

#[test]
fn a_volume_joins_while_the_pair_is_split() {
    changed_while_split(3, &[1024, 1024], false);
    changed_while_split(4, &[1024, 1024], true);
}

#[test]
fn options_change_at_once() {
    let mut world = calm(5);
    let hold = Duration::from_secs(3600);
    let options = Options { hold, secondary_reads: true, ..world.plan.options.clone() };
    world.group(1, |group, cx| group.set_options(cx, options.clone())).expect("a group").expect("taken");
    let behind = |world: &World| {
        let positions = world.reports()[1].as_ref().expect("a report").positions;
        positions.read.saturating_sub(positions.restored)
    };
    assert!(world.until(LONG, |world| behind(world) > 40 << 10), "younger entries are not held");
    let options = Options { hold: Duration::ZERO, ..options };
    world.group(1, |group, cx| group.set_options(cx, options.clone())).expect("a group").expect("taken");
    world.hosts.stopped = true;
    assert!(world.until(LONG, |world| behind(world) == 0), "they are let go");
    let host = Options { poller: false, ..options };
    let refused = world.group(1, |group, cx| group.set_options(cx, host)).expect("a group");
    assert!(refused.is_err_and(|why| why.contains("split it first")));
    assert_eq!(world.failure, None);
}
