//! The product's own cache behind the trait.

use super::{Pinned, Policy};
use kagami_cache::{Key, Pages};

/// `kagami_cache::Pages`.
#[derive(Debug)]
pub struct Ours(Pages<()>);

impl Ours {
    /// For so many pages.
    pub fn new(pages: usize) -> Self {
        Self(Pages::new(u32::try_from(pages).unwrap_or(u32::MAX)))
    }
}

const fn key(page: u64) -> Key {
    Key { volume: 0, page }
}

impl Policy for Ours {
    fn access(&mut self, page: u64, pinned: &Pinned) -> bool {
        if let Some(slot) = self.0.get(key(page)) {
            self.0.hit(slot);
            return true;
        }
        if self.0.len() == self.0.capacity() {
            // An eviction that looked at many pinned pages in vain is bounded; asking again goes on from there.
            (0..1000).find_map(|_| self.0.evict(|key, ()| !pinned.contains(&key.page)));
        }
        _ = self.0.insert(key(page), ());
        false
    }

    fn clean(&mut self, page: u64) {
        if let Some(slot) = self.0.get(key(page)) {
            self.0.release(slot);
        }
    }
}
