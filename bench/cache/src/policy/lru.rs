//! Least recently used.

use super::{Pinned, Policy};
use std::collections::{BTreeMap, HashMap};

/// A set in the order of last use, with operations in logarithmic time. ARC is made of four of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Recency {
    times: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
    now: u64,
}

impl Recency {
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn contains(&self, page: u64) -> bool {
        self.times.contains_key(&page)
    }

    /// Adds a page, or makes it the last used one.
    pub(super) fn touch(&mut self, page: u64) {
        self.now += 1;
        if let Some(before) = self.times.insert(page, self.now) {
            self.order.remove(&before);
        }
        self.order.insert(self.now, page);
    }

    pub(super) fn remove(&mut self, page: u64) -> bool {
        self.times.remove(&page).is_some_and(|time| self.order.remove(&time).is_some())
    }

    /// The one that was used longest ago, of those that are not pinned.
    pub(super) fn oldest(&self, pinned: &Pinned) -> Option<u64> {
        self.order.values().copied().find(|page| !pinned.contains(page))
    }
}

/// LRU.
#[derive(Debug)]
pub struct Lru {
    pages: Recency,
    capacity: usize,
}

impl Lru {
    /// For so many pages.
    pub fn new(capacity: usize) -> Self {
        Self { pages: Recency::default(), capacity }
    }
}

impl Policy for Lru {
    fn access(&mut self, page: u64, pinned: &Pinned) -> bool {
        let hit = self.pages.contains(page);
        if !hit
            && self.pages.len() == self.capacity
            && let Some(oldest) = self.pages.oldest(pinned)
        {
            self.pages.remove(oldest);
        }
        self.pages.touch(page);
        hit
    }
}
