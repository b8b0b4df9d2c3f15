//! What a core's cache and a cached volume are made of: computed once from the configuration.

use super::Room;
use std::time::Duration;

/// All that a [`Cache`](super::Cache) is constructed from.
#[derive(Clone, Copy, Debug)]
pub struct CachePlan {
    /// Pages of 4 KiB that all cached volumes of the core may have in the cache together; at least 64.
    pub pages: u32,
    /// How many cached volumes the core can have; their numbers are below this.
    pub volumes: u16,
    /// Free pages of the pool that are left to the hosts: with fewer, the cache gives back more than it takes.
    pub margin: u32,
    /// For the hash of the page index. A secret one keeps hosts from making collisions.
    pub seed: u64,
}

/// All that a cached [`Store`](super::Store) is constructed from, besides its volume.
#[derive(Clone, Copy, Debug)]
pub struct StorePlan {
    /// The volume's number in the core's cache; no other volume of the core has it.
    pub number: u16,
    /// The WCE bit (SBC-4 6.5.5): writes are done when they are in the cache. Otherwise when the device has made them
    /// stable.
    pub write_back: bool,
    /// Writing operations are refused with `WriteProtected`.
    pub read_only: bool,
    /// Operations that may wait in the store at once. The volume behind it needs as many task slots, and
    /// [`flights`](Self::flights) and [`fills`](Self::fills) more.
    pub slots: u16,
    /// Pages that the volume should have in the cache at most; beyond, its new ones are the first to go.
    pub pages: u32,
    /// How many of them may be dirty. From half of that on, host writes are slowed to what destage does.
    pub dirty: u32,
    /// Device writes that destage has under way at once.
    pub flights: u16,
    /// Device reads for the cache under way at once.
    pub fills: u16,
    /// The most pages that one of these moves.
    pub run: u32,
    /// The most pages that are read ahead of one stream; 0: none.
    pub ahead: u32,
    /// What has been dirty for as long goes out, however little it is.
    pub age: Duration,
    /// After how long without progress an operation is answered.
    pub timeout: Duration,
    /// A device that has taken nothing for as long is dead: new writes are refused.
    pub dead_after: Duration,
    /// Whether the device has room for every block before it is written.
    pub room: Room,
}

impl StorePlan {
    /// A plan with the usual values for a volume that may have `pages` pages in the cache.
    #[must_use]
    pub fn new(number: u16, pages: u32) -> Self {
        Self {
            number,
            write_back: true,
            read_only: false,
            slots: 128,
            pages,
            dirty: (pages / 2).max(1),
            flights: 32,
            fills: 256,
            run: 256,
            ahead: 1024,
            age: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            dead_after: Duration::from_secs(60),
            room: Room::Sure,
        }
    }
}

/// What is wrong with a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorePlanError {
    /// A cache of too few pages to work in.
    #[error("a cache of {0} pages; at least {MIN_PAGES} are needed")]
    Pages(u32),
    /// More volumes than the cache has numbers for, or a number twice.
    #[error("volume number {0} is not free in this cache")]
    Number(u16),
    /// No slots, flights, fills or pages to a run.
    #[error("nothing can be under way: slots {slots}, flights {flights}, fills {fills}, pages a run {run}")]
    Width {
        /// Task slots.
        slots: u16,
        /// Device writes at once.
        flights: u16,
        /// Device reads at once.
        fills: u16,
        /// Pages of one of them.
        run: u32,
    },
}

/// The smallest cache.
pub(crate) const MIN_PAGES: u32 = 64;

impl StorePlan {
    pub(crate) fn check(&self) -> Result<(), StorePlanError> {
        let Self { slots, flights, fills, run, .. } = *self;
        if self.pages < MIN_PAGES || self.dirty == 0 {
            return Err(StorePlanError::Pages(self.pages.min(self.dirty)));
        }
        let most = kagami_volume::MAX_SLOTS;
        let fine = |number| number > 0 && number <= most;
        if !fine(slots) || !fine(flights) || !fine(fills) || run == 0 {
            return Err(StorePlanError::Width { slots, flights, fills, run });
        }
        Ok(())
    }
}
