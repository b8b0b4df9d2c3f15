//! The arena: pages registered with the kernel, counted handles, scatter lists.
//!
//! All data that hosts write or read lies in pages of one [`Arena`], which is taken at start, never
//! grows and is registered with io_uring as it is. A core takes pages from its [`Pool`]; a page is
//! a [`PageMut`] while somebody fills it and a [`Page`] when it is shared; [`ScatterMut`] and
//! [`Scatter`] string pages together to one logical run of bytes. A [`Quota`] bounds what one
//! volume, device or session holds.
//!
//! What it does not do: no I/O, no caching policy, no waiting. A core that gets no page turns that
//! into back-pressure.
//!
//! Who calls it: everything that moves data. Only the ring uses the raw pointers.
//!
//! This crate has unsafe code; what it rests on: the mapping is never unmapped; a page is on a free
//! list, or named by one [`PageMut`], or named by as many [`Page`]s as its count says, and by
//! nothing else. What holds that up is checked by
//! `RUSTFLAGS="--cfg loom" cargo test -p kagami-memory --release` (free lists and counts, every
//! interleaving) and `MIRIFLAGS=-Zmiri-ignore-leaks cargo +nightly miri test -p kagami-memory`
//! (arenas are leaked on purpose).

mod arena;
mod copy;
mod count;
mod error;
mod mapping;
mod page;
mod plan;
mod quota;
mod scatter;
mod stack;
mod sync;

pub use arena::{Arena, Pool, Region};
pub use copy::{copy_cold, is_zero, prefetch, prefetch_value};
pub use error::MemoryError;
pub use page::{Page, PageMut};
pub use plan::{ArenaPlan, Backing, Class, ClassPlan, HugePages, MAX_SHARDS, Purpose};
pub use quota::Quota;
pub use scatter::{Handle, Run, Runs, Scatter, ScatterMut, Segment, Segments, Slice, SliceMut, Span, Spans};
