//! Reading ahead of hosts that have several reads under way.

use super::support::*;
use kagami_memory::Scatter;

const BYTES: u64 = 16 << 20;
/// Reads that the host keeps under way.
const DEPTH: u64 = 16;

#[test]
fn a_read_of_what_is_on_its_way_is_a_hit_of_reading_ahead() {
    let mut bench = Bench::new(BYTES, |plan, core| {
        (core.pages, plan.pages, plan.ahead, plan.run) = (2048, 2048, 128, 64);
    });
    let reads = 300;
    for at in 0..reads {
        let done = bench.submit(at, read(at * 64, 64), Scatter::new());
        // The device is slower than the host: what is read ahead is nearly never there when it is asked for.
        if done.is_none() && at >= DEPTH {
            while bench.done.iter().all(|(tag, _)| tag.0 + DEPTH != at) && bench.waiting() > 0 {
                bench.happen(0);
            }
        }
        bench.done.retain(|(tag, _)| tag.0 + DEPTH > at);
    }
    bench.settle();
    let counters = bench.counters();
    // Eight pages a read; long device reads, as the window stays as large as it was.
    assert!(counters.fills < reads / 4, "{counters:?}");
    assert!(counters.ahead_used > reads * 7, "{counters:?}");
    assert_eq!(counters.ahead_wasted, 0, "{counters:?}");
    bench.done.clear();
    bench.assert_clean();
}
