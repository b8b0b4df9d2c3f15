//! Policies with a hand that goes round.

use super::{Pinned, Policy};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// CLOCK with one bit: FIFO with second chances.
#[derive(Debug)]
pub struct Clock {
    queue: VecDeque<u64>,
    used: HashMap<u64, bool>,
    capacity: usize,
}

impl Clock {
    /// For so many pages.
    pub fn new(capacity: usize) -> Self {
        Self { queue: VecDeque::new(), used: HashMap::new(), capacity }
    }

    fn evict(&mut self, pinned: &Pinned) {
        for _ in 0..self.queue.len() * 2 {
            let Some(page) = self.queue.pop_front() else { return };
            let used = self.used.get_mut(&page).is_some_and(std::mem::take);
            if used || pinned.contains(&page) {
                self.queue.push_back(page);
            } else {
                self.used.remove(&page);
                return;
            }
        }
    }
}

impl Policy for Clock {
    fn access(&mut self, page: u64, pinned: &Pinned) -> bool {
        if let Some(used) = self.used.get_mut(&page) {
            *used = true;
            return true;
        }
        if self.queue.len() == self.capacity {
            self.evict(pinned);
        }
        self.queue.push_back(page);
        self.used.insert(page, false);
        false
    }
}

/// SIEVE: as CLOCK, but who is kept stays where it is, and new pages come in before the hand reaches them.
#[derive(Debug)]
pub struct Sieve {
    /// By the time of arrival.
    order: BTreeMap<u64, u64>,
    /// Arrival and use of each page.
    pages: HashMap<u64, (u64, bool)>,
    now: u64,
    hand: u64,
    capacity: usize,
}

impl Sieve {
    /// For so many pages.
    pub fn new(capacity: usize) -> Self {
        Self { order: BTreeMap::new(), pages: HashMap::new(), now: 0, hand: 0, capacity }
    }

    fn evict(&mut self, pinned: &Pinned) {
        for _ in 0..self.pages.len() * 2 + 1 {
            let Some((&time, &page)) = self.order.range(self.hand..).next() else {
                self.hand = 0;
                continue;
            };
            self.hand = time + 1;
            let used = self.pages.get_mut(&page).is_some_and(|(_, used)| std::mem::take(used));
            if !used && !pinned.contains(&page) {
                self.order.remove(&time);
                self.pages.remove(&page);
                return;
            }
        }
    }
}

impl Policy for Sieve {
    fn access(&mut self, page: u64, pinned: &Pinned) -> bool {
        if let Some((_, used)) = self.pages.get_mut(&page) {
            *used = true;
            return true;
        }
        if self.pages.len() == self.capacity {
            self.evict(pinned);
        }
        self.now += 1;
        self.order.insert(self.now, page);
        self.pages.insert(page, (self.now, false));
        false
    }
}
