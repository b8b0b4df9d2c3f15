//! Volumes: from operations on logical blocks to operations on devices.
//!
//! A [`Volume`] belongs to one core, its home core: no locks and no atomics of its own. It takes
//! [`BlockOp`](kagami_types::BlockOp)s with [`Volume::submit`] and gives [`Outcome`]s: at once for
//! volumes in memory, otherwise in the core's list when the device has answered
//! ([`Volume::on_completion`]) or has not in time ([`Volume::on_tick`]).
//!
//! What it does not do: it knows no SCSI, no session and no cache, opens no device, and decides nothing
//! about who may do what. The channel controllers call it; a [`Backend`] is what it calls, where a
//! volume is on none of the kernel's files.
//!
//! # What holds for every volume
//! - Each operation has one outcome. It is bounded in slots and pages: what does not fit is `Busy`.
//! - Writes to the same blocks take effect in the order in which they came. COMPARE AND WRITE, WRITE SAME
//!   and WRITE AND VERIFY have their blocks to themselves; a read beside an ordinary write gives either
//!   value of each block.
//! - A page that a read gave out is never written again, and a page that a device is using belongs to nobody
//!   else until its completion, also when the operation was answered long before.
//! - A failed writing operation may have written any part of its blocks (SAM-5 leaves that open), except that
//!   a volume in memory does a WRITE or COMPARE AND WRITE wholly or not at all.
//! - UNMAP and WRITE SAME with the UNMAP bit leave zeroes behind on every kind of storage, also where they
//!   have to be written.
//!
//! # The core's part
//! Route completions by the high half of their token; call [`Volume::on_tick`] when
//! [`Volume::next_deadline`] has come; look into the list of outcomes after each of these calls. Lists
//! go in and come back, so that their storage is used again: in the steady state a READ or WRITE allocates
//! nothing here.
#![forbid(unsafe_code)]

mod backend;
mod check;
mod counters;
mod cursor;
mod disk;
mod holes;
mod null;
mod outcome;
mod plan;
mod ram;
pub mod ranges;
mod volume;

pub use backend::Backend;
pub use counters::Counters;
pub use holes::Holes;
pub use outcome::{Aborted, Context, Outcome, Tag};
pub use plan::{DeviceLimits, Geometry, MAX_SLOTS, PlanError, Storage, VolumePlan, zero_page};
pub use volume::Volume;
