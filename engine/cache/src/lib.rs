//! The cache of one core.
//!
//! Two halves. The policies decide and hold no data, do no I/O and read no clock: [`Pages`] (the page index with its
//! order of eviction), [`DirtyMap`] (what is dirty, in the order of addresses), [`Streams`] (what to read ahead) and
//! [`Throttle`] (which writes wait for destage). [`store`] is the state machine that uses them: it stands in front of a
//! volume and looks like one.
//!
//! Everything here belongs to one core: no locks, no atomics. All memory is taken when a thing is made, sized by the
//! plan; nothing is allocated afterwards.
#![forbid(unsafe_code)]

mod dirty;
mod pages;
mod streams;
mod throttle;

pub mod store;

pub use dirty::{DirtyMap, MOST_PAGES};
pub use pages::{Evicted, Key, Pages, Scan, Slot};
pub use streams::Streams;
pub use throttle::Throttle;
