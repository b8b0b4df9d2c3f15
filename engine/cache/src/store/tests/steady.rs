//! In the steady state a READ that hits, a WRITE and a destage allocate nothing.

use super::support::{Bench, read, write};
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
    while bench.waiting() > 0 {
        bench.happen(0);
    }
}

#[test]
fn nothing_is_allocated() {
    let mut bench = Bench::new(1 << 20, |plan, _| plan.ahead = 0);
    let mut lists: Vec<Scatter> = (0..8).map(|_| Scatter::with_capacity(8)).collect();
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
