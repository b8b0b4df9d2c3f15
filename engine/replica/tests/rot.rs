//! A primary whose own journal is damaged: hosts go on without an error, the group is suspended to the bitmap, and a resync
//! copies what differs.

mod world;

use kagami_journal::{Found, SUPERBLOCK_PLACES, Superblock};
use kagami_replica::{Order, State};
use kagami_types::Time;
use std::time::Duration;
use world::World;
use world::calm::{LONG, hosts_begin, ordered, paired, pass, states, writes, written};

fn superblock(world: &World) -> Superblock {
    let [first, second] = SUPERBLOCK_PLACES.map(|at| world.arrays[0].journal.durable(at, 4096));
    let Found::Ours(superblock, _) = Superblock::choose(&first, &second) else { panic!("no superblock") };
    *superblock
}

/// The other array has not read since a while; what it lacks is partly in the volumes for good. Then the primary dies.
fn crashed_with_entries_to_send(seed: u64) -> World {
    let mut world = written(seed);
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
        let mut world = written(seed);
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
