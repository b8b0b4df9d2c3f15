//! The sink against a scripted primary: single rules, and everything together from seeds.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod rules;
mod world;

use super::*;
use world::{Faults, World};

fn restored(event: &SinkEvent) -> Option<Sequence> {
    match event {
        SinkEvent::Restored(sequence) => Some(*sequence),
        _ => None,
    }
}

fn drained(event: &SinkEvent) -> Option<Sequence> {
    match event {
        SinkEvent::Drained(sequence) => Some(*sequence),
        _ => None,
    }
}

fn formed(event: &SinkEvent) -> Option<Sequence> {
    match event {
        SinkEvent::FormationDone(sequence) => Some(*sequence),
        _ => None,
    }
}

/// One life from a seed: writes, faults, crashes of both sides; in the end both are equal.
fn life(seed: u64) {
    let forming = seed.is_multiple_of(2);
    let mut world = World::new(seed, forming);
    if !seed.is_multiple_of(3) {
        world.faults = Faults { far_lost: 25, far_bad: 30, busy: 25, ..Faults::default() };
    }
    if seed.is_multiple_of(4) {
        world.faults.longest = 64 << 10;
    }
    if seed % 7 > 3 {
        // Frames are dropped before they are applied, and read again from the own journal.
        world.options.memory = 0;
        world.options.hold = Duration::from_micros(seed % 40);
        world.begin();
    }
    if seed.is_multiple_of(5) {
        world.options.bandwidth = 40 << 20;
        world.options.pace = Pace::Gentle;
        world.begin();
    }
    let mut epoch = 1;
    for _ in 0..40 {
        for _ in 0..world.dice.roll(8) {
            let World { far, dice, .. } = &mut world;
            far.any(dice);
        }
        world.far.commit();
        for _ in 0..world.dice.roll(120) {
            world.step();
        }
        if world.events.iter().any(|event| formed(event).is_some()) {
            world.forming = false;
        }
        match world.dice.roll(24) {
            0 => world.crash(),
            1 => {
                epoch += 1;
                world.far_crash(epoch);
            }
            2 if !world.forming => {
                // A takeover that finds what was read already, whatever crashed before.
                let least = world.places.read_sequence;
                world.crash();
                world.events.clear();
                world.call(|sink, cx| sink.finish(cx, false));
                let at = world.until(drained);
                assert!(at >= least, "{at} of {least}, which was confirmed");
                world.check_image(at);
                world.call(Sink::go_on);
            }
            _ => {}
        }
        let troubles: Vec<_> =
            world.events.iter().filter(|event| matches!(event, SinkEvent::Trouble(_))).collect();
        assert!(troubles.is_empty(), "{troubles:?}");
    }
    if world.forming {
        let at = world.until(formed);
        assert!(world.sink.is_consistent());
        world.check_image(world.sink.applied().0);
        assert!(world.sink.applied().0 >= at);
        world.forming = false;
    }
    world.events.clear();
    let last = world.far.view().stable_sequence;
    world.call(|sink, cx| sink.drain_to(cx, last));
    assert_eq!(world.until(drained), last);
    world.check_image(last);
    assert_eq!(world.volumes, world.flushed, "what is drained is flushed");
    assert_eq!(world.places.restored_sequence, last);
    for index in 0..world::VOLUMES {
        let left = world.sink.remaining(VolumeIndex(index as u8));
        assert!(left.is_none_or(|bits| bits.is_empty()));
    }
}

#[test]
fn lives_from_seeds() {
    let (from, to) = match std::env::var("KAGAMI_SINK_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").unwrap();
            (from.parse().unwrap(), to.parse().unwrap())
        }
        Err(_) => (0, 60),
    };
    for seed in from..to {
        let result = std::panic::catch_unwind(|| life(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}
