//! Policies made of FIFO queues and ghosts.

use super::lru::Recency;
use super::{Pinned, Policy};
use std::collections::{HashMap, HashSet, VecDeque};

/// Pages that left, the last so many.
#[derive(Debug, Default)]
struct Ghosts {
    queue: VecDeque<u64>,
    pages: HashSet<u64>,
    most: usize,
}

impl Ghosts {
    fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    fn add(&mut self, page: u64) {
        if self.pages.insert(page) {
            self.queue.push_back(page);
        }
        while self.queue.len() > self.most {
            if let Some(old) = self.queue.pop_front() {
                self.pages.remove(&old);
            }
        }
    }

    /// A ghost that is taken keeps its place in the queue.
    fn take(&mut self, page: u64) -> bool {
        let there = self.pages.remove(&page);
        if there {
            self.queue.retain(|&other| other != page);
        }
        there
    }
}

/// Takes out the oldest page that is not pinned.
fn oldest(queue: &mut VecDeque<u64>, pinned: &Pinned) -> Option<u64> {
    let at = queue.iter().position(|page| !pinned.contains(page))?;
    queue.remove(at)
}

/// S3-FIFO as its paper's algorithm 1 has it: a small queue of a tenth, ghosts for as many pages as main has.
#[derive(Debug)]
pub struct S3Fifo {
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    ghosts: Ghosts,
    uses: HashMap<u64, u8>,
    capacity: usize,
}

impl S3Fifo {
    /// For so many pages.
    pub fn new(capacity: usize) -> Self {
        Self {
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: Ghosts::new(capacity - capacity / 10),
            uses: HashMap::new(),
            capacity,
        }
    }

    fn evict(&mut self, pinned: &Pinned) {
        let from_small = self.small.len() >= self.capacity / 10 || self.main.is_empty();
        if !(from_small && self.evict_small(pinned) || self.evict_main(pinned)) {
            self.evict_small(pinned);
        }
    }

    fn evict_small(&mut self, pinned: &Pinned) -> bool {
        while let Some(page) = oldest(&mut self.small, pinned) {
            if self.uses.get(&page).is_some_and(|&uses| uses > 1) {
                self.uses.insert(page, 0);
                self.main.push_back(page);
            } else {
                self.uses.remove(&page);
                self.ghosts.add(page);
                return true;
            }
        }
        false
    }

    fn evict_main(&mut self, pinned: &Pinned) -> bool {
        while let Some(page) = oldest(&mut self.main, pinned) {
            match self.uses.get_mut(&page) {
                Some(uses) if *uses > 0 => {
                    *uses -= 1;
                    self.main.push_back(page);
                }
                _ => {
                    self.uses.remove(&page);
                    return true;
                }
            }
        }
        false
    }
}

impl Policy for S3Fifo {
    fn access(&mut self, page: u64, pinned: &Pinned) -> bool {
        if let Some(uses) = self.uses.get_mut(&page) {
            *uses = (*uses + 1).min(3);
            return true;
        }
        if self.uses.len() == self.capacity {
            self.evict(pinned);
        }
        let queue = if self.ghosts.take(page) { &mut self.main } else { &mut self.small };
        queue.push_back(page);
        self.uses.insert(page, 0);
        false
    }
}

/// 2Q, the full version: a FIFO of a quarter, ghosts of half, and an LRU.
#[derive(Debug)]
pub struct TwoQueue {
    recent: VecDeque<u64>,
    inside: HashSet<u64>,
    ghosts: Ghosts,
    main: Recency,
    capacity: usize,
}

impl TwoQueue {
    /// For so many pages.
    pub fn new(capacity: usize) -> Self {
        Self {
            recent: VecDeque::new(),
            inside: HashSet::new(),
            ghosts: Ghosts::new(capacity / 2),
            main: Recency::default(),
            capacity,
        }
    }

    fn evict(&mut self, pinned: &Pinned) {
        if (self.recent.len() > self.capacity / 4 || self.main.len() == 0)
            && let Some(page) = oldest(&mut self.recent, pinned)
        {
            self.inside.remove(&page);
            self.ghosts.add(page);
        } else if let Some(page) = self.main.oldest(pinned) {
            self.main.remove(page);
        } else if let Some(page) = oldest(&mut self.recent, pinned) {
            self.inside.remove(&page);
        }
    }
}

impl Policy for TwoQueue {
    fn access(&mut self, page: u64, pinned: &Pinned) -> bool {
        if self.main.contains(page) {
            self.main.touch(page);
            return true;
        }
        if self.inside.contains(&page) {
            return true;
        }
        if self.inside.len() + self.main.len() == self.capacity {
            self.evict(pinned);
        }
        if self.ghosts.take(page) {
            self.main.touch(page);
        } else {
            self.recent.push_back(page);
            self.inside.insert(page);
        }
        false
    }
}
