//! The whole array under simulated hosts, networks, disks and crashes.
mod array;

use kagami_sim::Options;

#[test]
fn calm() {
    let arena = array::arena();
    for seed in 0..10 {
        match array::run(seed, arena, |options| *options = Options::calm()) {
            Ok(report) => println!("{seed}: {:?}\n{}", report.took, report.coverage),
            Err(failure) => panic!("{failure}"),
        }
    }
}
