//! Pairs of arrays through crashes, cuts and orders: whatever a secondary shows is a moment of its primary's history.

mod world;

use world::World;
use world::plan::Plan;

#[test]
fn seeds() {
    let mut seen = world::Seen::default();
    for seed in 0..100 {
        match World::run(Plan::of(seed), false) {
            Ok(one) => seen.add(&one),
            Err(failure) => panic!("seed {seed}: {}\n{}", failure.why, failure.trace.join("\n")),
        }
    }
}
