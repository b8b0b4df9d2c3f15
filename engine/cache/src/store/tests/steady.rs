//! In the steady state a READ, a WRITE, a destage and a flush allocate nothing.

use super::support::{Bench, flush, read, write, write_fua};
use kagami_memory::{Class, Purpose, Scatter};
use std::time::Duration;

fn round(bench: &mut Bench, lists: &mut Vec<Scatter>, turn: u64) {
    for at in 0..8 {
        let lba = (turn * 3 + at * 7) % 40 * 8;
        let mut list = lists.pop().unwrap_or_default();
        for _ in 0..2 {
            list.push_page(bench.pool.take(Class::Page, Purpose::Host).unwrap().freeze());
        }
        let mut outcome = bench.submit(at, write(lba, 16), list).expect("a write that waits");
        outcome.result.unwrap();
        outcome = bench.submit(at, read(lba, 12), outcome.data).expect("a miss");
        outcome.result.unwrap();
        outcome.data.clear();
        lists.push(outcome.data);
    }
    bench.pass(Duration::from_secs(2));
    settle(bench, lists);
    // Nothing of it is there: a miss of several fills, and what the device is to make stable.
    bench.cache.reclaim(512);
    let mut list = lists.pop().unwrap_or_default();
    list.push_page(bench.pool.take(Class::Page, Purpose::Host).unwrap().freeze());
    assert!(bench.submit(100, write_fua(1032, 8), list).is_none());
    for (tag, op) in [(101, read(1024, 24)), (102, read(1024, 8)), (103, flush(0, 0))] {
        assert!(bench.submit(tag, op, lists.pop().unwrap_or_default()).is_none());
    }
    settle(bench, lists);
}

fn settle(bench: &mut Bench, lists: &mut Vec<Scatter>) {
    while bench.waiting() > 0 {
        bench.happen(0);
    }
    for (_, mut outcome) in bench.done.drain(..) {
        outcome.result.unwrap();
        outcome.data.clear();
        lists.push(outcome.data);
    }
}

#[test]
fn nothing_is_allocated() {
    let mut bench = Bench::new(1 << 20, |plan, _| plan.ahead = 0);
    let mut lists: Vec<Scatter> = (0..12).map(|_| Scatter::with_capacity(8)).collect();
    for turn in 0..200 {
        round(&mut bench, &mut lists, turn);
    }
    let info = allocation_counter::measure(|| {
        for turn in 200..260 {
            round(&mut bench, &mut lists, turn);
        }
    });
    assert_eq!(info.count_total, 0);
    drop(lists);
    bench.assert_clean();
}
