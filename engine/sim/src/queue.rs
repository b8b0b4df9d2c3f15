//! The queue of things to come, in the order of their time.
//!
//! Things that come at the same time come in random order, drawn from the seed when they are put
//! in: whoever relies on an order that nothing promises is found out.

use crate::rng::Rng;
use kagami_types::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Debug)]
struct Entry<T> {
    at: Time,
    lot: u64,
    serial: u64,
    what: T,
}

impl<T> Entry<T> {
    fn key(&self) -> (Time, u64, u64) {
        (self.at, self.lot, self.serial)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Things to come.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    lots: Rng,
    serial: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new(lots: Rng) -> Self {
        Self { heap: BinaryHeap::new(), lots, serial: 0 }
    }

    /// Puts in what comes at that time.
    pub(crate) fn put(&mut self, at: Time, what: T) {
        let lot = self.lots.word();
        self.put_with(at, lot, what);
    }

    /// The same, after everything of that time that was put in by this and before: for what keeps
    /// its order, like the segments of a stream.
    pub(crate) fn put_in_order(&mut self, at: Time, what: T) {
        self.put_with(at, u64::MAX, what);
    }

    fn put_with(&mut self, at: Time, lot: u64, what: T) {
        self.serial += 1;
        self.heap.push(Reverse(Entry { at, lot, serial: self.serial, what }));
    }

    /// Takes what comes next.
    pub(crate) fn take(&mut self) -> Option<(Time, T)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_orders_and_chance_breaks_ties() {
        let mut queue = Queue::new(Rng::new(1));
        for n in 0..50u32 {
            queue.put(Time(7), n);
        }
        queue.put(Time(3), 100);
        queue.put(Time(9), 101);
        assert_eq!(queue.take(), Some((Time(3), 100)));
        let same: Vec<u32> = (0..50).filter_map(|_| queue.take().map(|(_, n)| n)).collect();
        assert!(!same.is_sorted());
        assert_eq!(queue.take(), Some((Time(9), 101)));
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn what_keeps_its_order_keeps_it() {
        let mut queue = Queue::new(Rng::new(1));
        for n in 0..50u32 {
            queue.put_in_order(Time(7), n);
        }
        let same: Vec<u32> = (0..50).filter_map(|_| queue.take().map(|(_, n)| n)).collect();
        assert!(same.is_sorted());
    }
}
