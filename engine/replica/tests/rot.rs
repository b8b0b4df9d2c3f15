//! A primary whose own journal is damaged: hosts go on without an error, the group is suspended to the bitmap, and a resync
//! copies what differs.

mod world;

use kagami_journal::{Found, SUPERBLOCK_PLACES, Superblock};
use kagami_replica::{Options, Order, State};
use kagami_types::Time;
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

fn superblock(world: &World) -> Superblock {
    let [first, second] = SUPERBLOCK_PLACES.map(|at| world.arrays[0].journal.durable(at, 4096));
    let Found::Ours(superblock, _) = Superblock::choose(&first, &second) else { panic!("no superblock") };
    *superblock
}

/// The other array has not read since a while; what it lacks is partly in the volumes for good. Then the primary dies.
fn crashed_with_entries_to_send(seed: u64) -> World {
    let mut world = calm(seed);
    world.cut_until = Time(u64::MAX);
    writes(&mut world, Duration::from_millis(150));
    pass(&mut world, Duration::from_secs(33));
    writes(&mut world, Duration::from_millis(100));
    let block = superblock(&world);
    assert!(
        block.out < block.destaged && block.destaged < block.stable,
        "{} {} {}",
        block.out,
        block.destaged,
        block.stable
    );
    world.crash(0);
    world
}

/// The blocks between two places, and whether each begins a frame.
fn blocks(world: &World, block: &Superblock, (from, to): (u64, u64)) -> Vec<(u64, bool)> {
    let magic = |at: u64| world.arrays[0].journal.durable(at, 4096)[..4] == *b"KAGF";
    let places = (from / 4096..to / 4096).map(|at| block.layout.place(at * 4096));
    places.map(|at| (at, magic(at))).collect()
}

/// The pair comes back after a resync, with hosts writing all the while; what it copied at most, in granules.
fn heals(mut world: World, most: u64) {
    let suspended = [Some(State::Psue); 2];
    assert!(world.until(LONG, |world| states(world) == suspended), "{:?}", world.failure);
    let report = world.reports()[0].clone().expect("a report");
    assert!(report.last_error.contains("journal"), "{}", report.last_error);
    assert!((1..=most).contains(&report.difference), "{} of 512 granules differ", report.difference);
    hosts_begin(&mut world);
    pass(&mut world, Duration::from_millis(50));
    let (code, text) = ordered(&mut world, 0, Order::Resync { discard: None });
    assert_eq!(code, 0, "{text}");
    paired(&mut world);
    world.hosts.stopped = true;
    pass(&mut world, Duration::from_millis(500));
    assert_eq!(ordered(&mut world, 0, Order::Marker { name: "end".to_owned(), wait: true }).0, 0);
    pass(&mut world, Duration::from_millis(200));
    let (one, other) = (world.arrays[0].image(), world.arrays[1].image());
    assert!(one == other, "the arrays differ: {}", world::history::difference(&one, &other));
}

#[test]
fn rot_in_what_is_to_be_sent_suspends_and_costs_what_differs() {
    for seed in 1..5 {
        let mut world = calm(seed);
        world.cut_until = Time(u64::MAX);
        let from = superblock(&world).stable;
        writes(&mut world, Duration::from_millis(150));
        let block = superblock(&world);
        let all = blocks(&world, &block, (from, block.stable));
        // Data in one world, a head in another.
        let (at, _) = *all.iter().rfind(|(_, head)| *head == seed.is_multiple_of(2)).expect("a block");
        world.arrays[0].journal.rot(at + 70, 4);
        world.cut_until = Time(0);
        heals(world, 400);
    }
}

#[test]
fn rot_found_at_a_start_in_data_that_the_volumes_have_costs_what_differs() {
    for seed in 11..14 {
        let mut world = crashed_with_entries_to_send(seed);
        let block = superblock(&world);
        let all = blocks(&world, &block, (block.confirmed, block.destaged));
        let (at, _) = *all.iter().rfind(|(_, head)| !head).expect("data");
        world.arrays[0].journal.rot(at + 70, 4);
        world.cut_until = Time(0);
        heals(world, 400);
    }
}

#[test]
fn a_head_that_has_rotted_before_what_the_volumes_lack_stops_no_host() {
    for seed in 21..24 {
        let mut world = crashed_with_entries_to_send(seed);
        let block = superblock(&world);
        let all = blocks(&world, &block, (block.confirmed, block.destaged));
        let heads = all.iter().filter(|(_, head)| *head).count();
        let (at, _) = *all.iter().filter(|(_, head)| *head).nth(heads / 2).expect("a head");
        world.arrays[0].journal.rot(at + 70, 4);
        world.cut_until = Time(0);
        heals(world, 512);
    }
}

#[test]
fn where_what_the_volumes_lack_is_damaged_the_group_stops_until_an_operator_decides() {
    let mut world = crashed_with_entries_to_send(31);
    let block = superblock(&world);
    let all = blocks(&world, &block, (block.destaged, block.stable));
    let (at, _) = *all.iter().find(|(_, head)| *head).expect("a head");
    world.arrays[0].journal.rot(at + 70, 4);
    let stopped = |world: &World| {
        let report = world.reports()[0].clone();
        report.is_some_and(|report| report.state == State::Psue && report.last_error.contains("damaged"))
    };
    assert!(world.until(LONG, stopped), "{:?}", world.failure);
    let (code, text) = ordered(&mut world, 0, Order::Resync { discard: None });
    assert!(code == 3 && text.contains("damaged"), "{text}");
}
