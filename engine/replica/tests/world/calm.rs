//! Worlds in which nothing goes wrong but what a test does itself.

use super::history::difference;
use super::plan::Plan;
use super::script::Phase;
use super::{Event, World};
use kagami_replica::{Options, Order, Side, State};
use std::time::Duration;

pub const LONG: Duration = Duration::from_secs(60);

/// Two volumes of 16 MiB and journals with room for much.
pub fn plan(seed: u64, options: Options) -> Plan {
    Plan {
        volumes: 2,
        blocks: 4096,
        block_bytes: 4096,
        journal_bytes: 64 << 20,
        options: Options { order_wait: Duration::from_secs(20), ..options },
        workers: 3,
        think: 2000,
        crashes: false,
        cuts: false,
        busy: 0,
        bad_store: 0,
        bad_journal: 0,
        delay: 200,
        loss: 0,
        ..Plan::of(seed)
    }
}

/// The world of that plan, in PAIR.
pub fn begin(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.script.phase = Phase::Test;
    paired(&mut world);
    world
}

/// One whose hosts write seldom, and have written a little.
pub fn written(seed: u64) -> World {
    let mut world = begin(Plan { think: 12_000, ..plan(seed, Options::default()) });
    writes(&mut world, Duration::from_millis(100));
    world
}

pub fn states(world: &World) -> [Option<State>; 2] {
    world.reports().map(|report| report.map(|report| report.state))
}

pub fn paired(world: &mut World) {
    let pair = [Some(State::Pair); 2];
    assert!(world.until(LONG, |world| states(world) == pair), "{:?} {:#?}", world.failure, world.reports());
}

pub fn pass(world: &mut World, time: Duration) {
    world.until(time, |_| false);
    assert_eq!(world.failure, None);
}

/// Gives an order and waits for its answer: the exit code, and the text.
pub fn ordered(world: &mut World, array: usize, order: Order) -> (u8, String) {
    let number = world.order(array, order);
    assert!(world.until(LONG, |world| world.script.answers.contains_key(&number)), "{:?}", world.failure);
    let result = &world.script.answers[&number];
    (result.exit_code(), result.text().to_owned())
}

pub fn hosts_begin(world: &mut World) {
    if std::mem::take(&mut world.hosts.stopped) {
        for worker in 0..world.hosts.workers() {
            world.later(Duration::from_millis(1), 0, Event::Host(worker));
        }
    }
}

/// Hosts write for so long; then the superblock says that it is stable.
pub fn writes(world: &mut World, time: Duration) {
    hosts_begin(world);
    pass(world, time);
    world.hosts.stopped = true;
    pass(world, Duration::from_millis(1500));
}

/// Hosts stop, and all that they wrote arrives: then both sides are the same.
pub fn equal_at_last(world: &mut World) {
    world.hosts.stopped = true;
    pass(world, Duration::from_millis(500));
    let primary = usize::from(world.reports()[1].as_ref().is_some_and(|report| report.side == Side::Primary));
    let marker = Order::Marker { name: "end".to_owned(), wait: true };
    assert_eq!(ordered(world, primary, marker).0, 0);
    pass(world, Duration::from_millis(200));
    let (one, other) = (world.arrays[0].image(), world.arrays[1].image());
    assert!(one == other, "the arrays differ: {}", difference(&one, &other));
}
