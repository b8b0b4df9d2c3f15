//! ARC.

use super::lru::Recency;
use super::{Pinned, Policy};

/// ARC as its paper's figure 4 has it.
#[derive(Debug)]
pub struct Arc {
    once: Recency,
    often: Recency,
    once_ghosts: Recency,
    often_ghosts: Recency,
    target: usize,
    capacity: usize,
}

impl Arc {
    /// For so many pages.
    pub fn new(capacity: usize) -> Self {
        let [once, often, once_ghosts, often_ghosts] = [(); 4].map(|()| Recency::default());
        Self { once, often, once_ghosts, often_ghosts, target: 0, capacity }
    }

    fn replace(&mut self, from_often_ghosts: bool, pinned: &Pinned) {
        let len = self.once.len();
        let once_first = len > 0 && (len > self.target || from_often_ghosts && len == self.target);
        for once in [once_first, !once_first] {
            let (pages, ghosts) = if once {
                (&mut self.once, &mut self.once_ghosts)
            } else {
                (&mut self.often, &mut self.often_ghosts)
            };
            if let Some(page) = pages.oldest(pinned) {
                pages.remove(page);
                ghosts.touch(page);
                return;
            }
        }
    }

    fn make_room(&mut self, pinned: &Pinned) {
        let none = Pinned::new();
        let once = self.once.len() + self.once_ghosts.len();
        let all = once + self.often.len() + self.often_ghosts.len();
        if once >= self.capacity {
            if let Some(ghost) = self.once_ghosts.oldest(&none) {
                self.once_ghosts.remove(ghost);
                if self.is_full() {
                    self.replace(false, pinned);
                }
            } else if let Some(page) = self.once.oldest(pinned) {
                self.once.remove(page);
            }
        } else if all >= self.capacity {
            if all >= 2 * self.capacity
                && let Some(ghost) = self.often_ghosts.oldest(&none)
            {
                self.often_ghosts.remove(ghost);
            }
            if self.is_full() {
                self.replace(false, pinned);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.once.len() + self.often.len() >= self.capacity
    }
}

impl Policy for Arc {
    fn access(&mut self, page: u64, pinned: &Pinned) -> bool {
        if self.once.remove(page) || self.often.contains(page) {
            self.often.touch(page);
            return true;
        }
        let (once, often) = (self.once_ghosts.len(), self.often_ghosts.len());
        if self.once_ghosts.contains(page) {
            self.target = (self.target + (often / once).max(1)).min(self.capacity);
            self.replace(false, pinned);
            self.once_ghosts.remove(page);
            self.often.touch(page);
        } else if self.often_ghosts.contains(page) {
            self.target = self.target.saturating_sub((once / often).max(1));
            self.replace(true, pinned);
            self.often_ghosts.remove(page);
            self.often.touch(page);
        } else {
            self.make_room(pinned);
            self.once.touch(page);
        }
        false
    }
}
