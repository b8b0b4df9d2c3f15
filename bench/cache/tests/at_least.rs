//! The product's eviction against the textbook's S3-FIFO, on small traces of every kind.

use kagami_traces::policy::{Ours, Policy, S3Fifo};
use kagami_traces::{run, traces};

const PAGES: usize = 1000;

#[test]
fn it_is_at_least_as_good_as_the_textbook() {
    let mut gained = 0.0;
    let mut traces_seen = 0.0;
    for trace in traces::all(PAGES as u64, 100_000, 3) {
        let hits = |policy: &mut dyn Policy| run(&trace, policy, PAGES) * 100.0;
        let (ours, textbook) = (hits(&mut Ours::new(PAGES)), hits(&mut S3Fifo::new(PAGES)));
        println!("{:<24}{ours:>8.2}{textbook:>8.2}", trace.name);
        // What learning the queue's size costs where there is nothing to learn: see docs/decisions/0013.
        assert!(ours > textbook - 0.25, "{}: {ours:.2} against {textbook:.2}", trace.name);
        gained += ours - textbook;
        traces_seen += 1.0;
    }
    assert!(gained / traces_seen > 4.0, "{gained} over {traces_seen} traces");
}

#[test]
fn a_trace_is_the_same_each_time() {
    let pages = |seed| -> Vec<u64> {
        traces::all(100, 1000, seed)
            .flat_map(|trace| trace.accesses.into_iter().map(|access| access.page))
            .collect()
    };
    assert_eq!(pages(5), pages(5));
    assert_ne!(pages(5), pages(6));
}
