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
#![forbid(unsafe_code)]

mod backend;
mod check;
mod counters;
mod cursor;
mod disk;
mod null;
mod outcome;
mod plan;
mod ram;
mod volume;

pub use backend::Backend;
pub use counters::Counters;
pub use outcome::{Aborted, Context, Outcome, Tag};
pub use plan::{DeviceLimits, Geometry, MAX_SLOTS, PlanError, Storage, VolumePlan, zero_page};
pub use volume::Volume;
