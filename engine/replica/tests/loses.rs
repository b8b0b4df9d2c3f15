//! A volume whose device came back without what it had not made stable: what hosts were answered is there again before they
//! may read, on either side, and the pair goes on.

mod world;

use kagami_replica::{Order, State};
use std::time::Duration;
use world::World;
use world::calm::{LONG, equal_at_last, hosts_begin, ordered, paired, pass, states, written};

/// The device of a volume loses what was not stable there, and is back.
fn loses(world: &mut World, array: usize, volume: usize, seed: u64) -> usize {
    world.loses(array, volume, &mut world::rng::Rng::new(seed))
}

#[test]
fn what_a_primary_answered_comes_back_from_the_journal() {
    let mut lost = 0;
    for seed in 1..7 {
        let mut world = written(seed);
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
        let mut world = written(seed);
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
    let mut world = written(21);
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
        let mut world = written(seed);
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
