//! A volume whose device came back without what it had not made stable: what hosts were answered is there again before they
//! may read, on either side, and the pair goes on.

mod world;

use kagami_replica::{Options, Order, State};
use std::time::Duration;
use world::plan::Plan;
use world::script::Phase;
use world::{Event, World};

const LONG: Duration = Duration::from_secs(60);

/// A pair of two volumes of 16 MiB; nothing goes wrong that the test does not do.
fn calm(seed: u64) -> World {
    let mut world = World::new(Plan {
        volumes: 2,
        blocks: 4096,
        block_bytes: 4096,
        journal_bytes: 64 << 20,
        options: Options { order_wait: Duration::from_secs(20), ..Options::default() },
        workers: 3,
        think: 12_000,
        crashes: false,
        cuts: false,
        busy: 0,
        bad_store: 0,
        bad_journal: 0,
        delay: 200,
        loss: 0,
        ..Plan::of(seed)
    });
    world.script.phase = Phase::Test;
    paired(&mut world);
    writes(&mut world, Duration::from_millis(100));
    world
}

fn states(world: &World) -> [Option<State>; 2] {
    world.reports().map(|report| report.map(|report| report.state))
}

fn paired(world: &mut World) {
    let pair = [Some(State::Pair); 2];
    assert!(world.until(LONG, |world| states(world) == pair), "{:?} {:#?}", world.failure, world.reports());
}

fn pass(world: &mut World, time: Duration) {
    world.until(time, |_| false);
    assert_eq!(world.failure, None);
}

fn ordered(world: &mut World, array: usize, order: Order) -> (u8, String) {
    let number = world.order(array, order);
    assert!(world.until(LONG, |world| world.script.answers.contains_key(&number)), "{:?}", world.failure);
    let result = &world.script.answers[&number];
    (result.exit_code(), result.text().to_owned())
}

fn hosts_begin(world: &mut World) {
    if std::mem::take(&mut world.hosts.stopped) {
        for worker in 0..world.hosts.workers() {
            world.later(Duration::from_millis(1), 0, Event::Host(worker));
        }
    }
}

/// Hosts write for so long; then the superblock says that it is stable.
fn writes(world: &mut World, time: Duration) {
    hosts_begin(world);
    pass(world, time);
    world.hosts.stopped = true;
    pass(world, Duration::from_millis(1500));
}

/// The device of a volume loses what was not stable there, and is back.
fn loses(world: &mut World, array: usize, volume: usize, seed: u64) -> usize {
    world.loses(array, volume, &mut world::rng::Rng::new(seed))
}

fn equal_at_last(world: &mut World) {
    world.hosts.stopped = true;
    pass(world, Duration::from_millis(500));
    assert_eq!(ordered(world, 0, Order::Marker { name: "end".to_owned(), wait: true }).0, 0);
    pass(world, Duration::from_millis(200));
    let (one, other) = (world.arrays[0].image(), world.arrays[1].image());
    assert!(one == other, "the arrays differ: {}", world::history::difference(&one, &other));
}

#[test]
fn what_a_primary_answered_comes_back_from_the_journal() {
    let mut lost = 0;
    for seed in 1..7 {
        let mut world = calm(seed);
        hosts_begin(&mut world);
        for round in 0..4 {
            pass(&mut world, Duration::from_millis(40));
            lost += loses(&mut world, 0, usize::from(round % 2 == 1), seed * 10 + round);
        }
        pass(&mut world, Duration::from_millis(100));
        paired(&mut world);
        equal_at_last(&mut world);
    }
    assert!(lost > 20, "only {lost} blocks were lost");
}

#[test]
fn what_a_secondary_restored_is_restored_again() {
    let mut lost = 0;
    for seed in 11..17 {
        let mut world = calm(seed);
        hosts_begin(&mut world);
        for round in 0..4 {
            pass(&mut world, Duration::from_millis(40));
            lost += loses(&mut world, 1, usize::from(round % 2 == 1), seed * 10 + round);
        }
        pass(&mut world, Duration::from_millis(100));
        paired(&mut world);
        equal_at_last(&mut world);
    }
    assert!(lost > 20, "only {lost} blocks were lost");
}

#[test]
fn hosts_are_let_in_while_the_other_array_is_away() {
    let mut world = calm(21);
    world.cut_until = kagami_types::Time(u64::MAX);
    hosts_begin(&mut world);
    pass(&mut world, Duration::from_millis(50));
    let before = world.reports()[0].as_ref().expect("a report").positions.stable_sequence;
    loses(&mut world, 0, 0, 21);
    pass(&mut world, Duration::from_millis(1500));
    let report = world.reports()[0].clone().expect("a report");
    assert!(report.state == State::Pair && report.positions.stable_sequence > before, "{report:#?}");
    world.cut_until = kagami_types::Time(0);
    paired(&mut world);
    equal_at_last(&mut world);
}

#[test]
fn a_loss_in_the_middle_of_a_suspension_costs_nothing() {
    for seed in 31..37 {
        let mut world = calm(seed);
        hosts_begin(&mut world);
        pass(&mut world, Duration::from_millis(30));
        let number = world.order(0, Order::Split { writable: false });
        pass(&mut world, Duration::from_micros(300 * (seed - 30)));
        loses(&mut world, 0, 1, seed);
        assert!(world.until(LONG, |world| world.script.answers.contains_key(&number)), "{:?}", world.failure);
        pass(&mut world, Duration::from_millis(500));
        if states(&world) != [Some(State::Pair); 2] {
            assert!(world.until(LONG, |world| {
                let told = states(world);
                told.iter().all(|state| matches!(state, Some(State::Psus { .. } | State::Psue)))
            }));
            let (code, text) = ordered(&mut world, 0, Order::Resync { discard: None });
            assert_eq!(code, 0, "{text}");
        }
        paired(&mut world);
        equal_at_last(&mut world);
    }
}
