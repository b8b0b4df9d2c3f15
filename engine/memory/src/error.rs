//! What can go wrong when the arena is taken.

use crate::plan::Class;
use std::io;

/// Why the arena could not be taken. After [`Arena::new`](crate::Arena::new) has succeeded, nothing
/// in this crate fails but by being out of pages, which is an `Option`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The plan names no page at all.
    #[error("the memory plan names no page")]
    EmptyPlan,
    /// The plan has no shard, or more than [`MAX_SHARDS`](crate::MAX_SHARDS).
    #[error("the memory plan has {shards} shards; between 1 and {limit} are possible")]
    Shards {
        /// What was asked for.
        shards: u16,
        /// The most that this build can serve.
        limit: u16,
    },
    /// More pages of a class than an index can name, or than the address space has room for.
    #[error("{count} pages of class {class:?} are more than an arena can hold")]
    TooMany {
        /// The class.
        class: Class,
        /// What was asked for.
        count: u32,
    },
    /// The reserve for internal work is larger than the class.
    #[error("a reserve of {reserve} pages in class {class:?}, which has {count}")]
    Reserve {
        /// The class.
        class: Class,
        /// The reserve asked for.
        reserve: u32,
        /// The pages of the class.
        count: u32,
    },
    /// The kernel gave no address space, or no memory behind it.
    #[error("the kernel refused {bytes} bytes of memory")]
    Map {
        /// What was asked for.
        bytes: usize,
        /// The kernel's answer.
        source: io::Error,
    },
}
