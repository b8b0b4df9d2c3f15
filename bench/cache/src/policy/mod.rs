//! The policies: the product's own, and models of others.

mod adaptive;
mod clock;
mod fifo;
mod lru;
mod ours;

pub use adaptive::Arc;
pub use clock::{Clock, Sieve};
pub use fifo::{S3Fifo, TwoQueue};
pub use lru::Lru;
pub use ours::Ours;

use std::collections::HashSet;

/// The pages that may not be evicted.
pub type Pinned = HashSet<u64>;

/// A cache of a fixed number of pages.
pub trait Policy {
    /// An access; true if the page was there. If it was not it is now, and another one is gone if it was full.
    fn access(&mut self, page: u64, pinned: &Pinned) -> bool;

    /// A page may be evicted again.
    fn clean(&mut self, page: u64) {
        _ = page;
    }
}

/// A policy's name, and how one for so many pages is made.
pub type Entry = (&'static str, fn(usize) -> Box<dyn Policy>);

/// All of them, the product's first and the textbook's of the same kind second.
pub const ALL: [Entry; 7] = [
    ("Kagami", |pages| Box::new(Ours::new(pages))),
    ("S3-FIFO", |pages| Box::new(S3Fifo::new(pages))),
    ("LRU", |pages| Box::new(Lru::new(pages))),
    ("CLOCK", |pages| Box::new(Clock::new(pages))),
    ("SIEVE", |pages| Box::new(Sieve::new(pages))),
    ("ARC", |pages| Box::new(Arc::new(pages))),
    ("2Q", |pages| Box::new(TwoQueue::new(pages))),
];
