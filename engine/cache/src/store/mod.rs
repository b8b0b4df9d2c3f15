//! The cached volume: a volume with pages of the core's cache in front of it.
//!
//! A [`Store`] has the interface of a [`Volume`], and stands where one would: the logical unit calls it. It stands in front
//! of a volume on a device ([`Store::cached`]), or passes everything to one in memory ([`Store::direct`]) at the cost of a
//! branch. It knows no SCSI and no session; it decides nothing about eviction, the order of destage, read-ahead and
//! admission, which the crate's policies do; and whatever concerns a device (transfer limits, alignment, time-outs,
//! short transfers, order of overlapping device writes) is the volume's behind it.
//!
//! # What a host can rely on
//! - A READ gives what the last WRITE before it left, and all of a WRITE or nothing of it, as both look at all their
//!   pages in one call. A READ that waits for the device looks once it has all, so it may see a WRITE that came after it.
//! - With the WCE bit, a WRITE is done when it is in the cache. Without it, or with FUA, when it is on the device and
//!   stable; it is visible before that. Pages stay in the cache, clean, afterwards.
//! - A SYNCHRONIZE CACHE that succeeds has made stable every WRITE to its blocks that was done before it came. Those that
//!   wait share one drain and one flush of the device.
//! - A READ with FUA comes from the medium: what is newer here goes there first (SBC-4 5.11, the FUA bit: a more recent
//!   version in a volatile cache is written to the medium before the read).
//! - DPO (SBC-4 4.16): the pages are the first to go.
//! - COMPARE AND WRITE, WRITE SAME, UNMAP, VERIFY and WRITE AND VERIFY have their pages to themselves; what is dirty
//!   there goes to the device first, unless UNMAP or WRITE SAME overwrite all of it; what they changed leaves the cache.
//! - Overlapping WRITEs take effect in the order in which they came, also when one waits for room.
//! - An aborted WRITE is in the cache whole or not at all, and what hosts see does not change after the abort.
//! - A WRITE that failed (FUA, or without the WCE bit) may be visible, and may reach the device later: SAM-5 leaves
//!   open what a failed command wrote.
//!
//! # What becomes of dirty pages
//! They stay until the device has taken just these bytes: a destage that fails, is too late, or was overtaken by a newer
//! WRITE makes nothing clean. Errors of destage are counted, reported once as deferred errors (SPC-5 4.4.7,
//! [`Store::take_deferred_error`]), shown by [`Store::state`], and tried again, at longer and longer intervals. A device
//! that takes nothing for longer than the plan's `dead_after` is [`State::Failed`]: new writes are refused with its error,
//! what is in the cache can be read, and all goes on by itself when it is back. Dirty pages are lost only with the
//! volume ([`Store::leave`]).
//!
//! # Time and room
//! Each operation has the plan's time-out, counted from its last progress; before anything was done for it the answer is
//! `Busy`, afterwards `TimedOut`. WRITEs that find too much dirty wait in order. All lists are as long as the plan says;
//! in the steady state a READ that hits and a WRITE allocate nothing.
//!
//! The core calls [`Store::on_tick`] at [`Store::next_deadline`], routes completions, looks into the list of outcomes
//! after each call, and calls [`Cache::reclaim`] when it finds no page for a host.

mod broken;
mod cache;
mod cached;
mod context;
mod counters;
mod destage;
mod device;
mod drain;
mod frame;
mod health;
mod plan;
mod read;
mod space;
mod task;
mod through;
mod write;

pub use cache::Cache;
pub use context::StoreContext;
pub use counters::StoreCounters;
pub use health::{DeferredError, State, Trouble};
pub use plan::{CachePlan, StorePlan, StorePlanError};
pub use space::Room;

use cached::Cached;
use kagami_memory::Scatter;
use kagami_reactor::Completion;
use kagami_types::{BlockCount, BlockOp, Time};
use kagami_volume::{Aborted, Context, Counters, Geometry, Outcome, PlanError, Tag, Volume};

/// A volume with a cache in front of it, or without.
#[derive(Debug)]
pub struct Store {
    kind: Kind,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a volume without a cache costs no look-up more than a volume")]
enum Kind {
    Direct(Volume),
    Cached(Box<Cached>),
}

impl Store {
    /// A volume without a cache: RAM and null volumes, and mode `none`. Everything goes straight through.
    #[must_use]
    pub fn direct(volume: Volume) -> Self {
        Self { kind: Kind::Direct(volume) }
    }

    /// A volume behind the core's cache. It should be on a device (`Disk` or `Other`); it must not be read-only and must
    /// have as many task slots as the plan's `slots`, `flights` and `fills` together, and a page quota for as many
    /// operations (with less, the store waits for it a millisecond at a time).
    ///
    /// # Errors
    /// The plan contradicts itself, or the number is taken.
    pub fn cached(volume: Volume, plan: StorePlan, cache: &mut Cache) -> Result<Self, StorePlanError> {
        plan.check()?;
        cache.enter(plan.number)?;
        let plan = StorePlan { dirty: plan.dirty.min(cache.dirty_limit), ..plan };
        Ok(Self { kind: Kind::Cached(Box::new(Cached::new(volume, plan))) })
    }

    /// Takes an operation in; as [`Volume::submit`].
    #[inline]
    pub fn submit(
        &mut self,
        cx: &mut StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        data: Scatter,
    ) -> Option<Outcome> {
        match &mut self.kind {
            Kind::Direct(volume) => volume.submit(&mut plain(cx), tag, op, data),
            Kind::Cached(cached) => cached.submit(cx, tag, op, data),
        }
    }

    /// A device operation with the volume's token base is done.
    pub fn on_completion(&mut self, cx: &mut StoreContext<'_>, completion: Completion) {
        match &mut self.kind {
            Kind::Direct(volume) => volume.on_completion(&mut plain(cx), completion),
            Kind::Cached(cached) => cached.on_completion(cx, completion),
        }
    }

    /// Time has passed: to be called when [`next_deadline`](Self::next_deadline) has come, and harmless at any time.
    pub fn on_tick(&mut self, cx: &mut StoreContext<'_>) {
        match &mut self.kind {
            Kind::Direct(volume) => volume.on_tick(&mut plain(cx)),
            Kind::Cached(cached) => cached.on_tick(cx),
        }
    }

    /// When [`on_tick`](Self::on_tick) is to be called next.
    #[must_use]
    #[inline]
    pub fn next_deadline(&self) -> Time {
        match &self.kind {
            Kind::Direct(volume) => volume.next_deadline(),
            Kind::Cached(cached) => cached.next_deadline(),
        }
    }

    /// Ends a task early, where that can be done without harm; as [`Volume::abort`].
    pub fn abort(&mut self, cx: &mut StoreContext<'_>, tag: Tag) -> Aborted {
        match &mut self.kind {
            Kind::Direct(volume) => volume.abort(&mut plain(cx), tag),
            Kind::Cached(cached) => cached.abort(cx, tag),
        }
    }

    /// Size and shape.
    #[must_use]
    #[inline]
    pub fn geometry(&self) -> Geometry {
        match &self.kind {
            Kind::Direct(volume) => volume.geometry(),
            Kind::Cached(cached) => cached.geometry,
        }
    }

    /// Makes the volume larger; what is behind it must already be.
    ///
    /// # Errors
    /// As [`Volume::grow`].
    pub fn grow(&mut self, blocks: BlockCount) -> Result<(), PlanError> {
        match &mut self.kind {
            Kind::Direct(volume) => volume.grow(blocks),
            Kind::Cached(cached) => {
                cached.volume.grow(blocks)?;
                cached.geometry = cached.volume.geometry();
                cached.space.grow(cached.geometry.bytes().div_ceil(frame::PAGE));
                Ok(())
            }
        }
    }

    /// Operations whose outcome was not given yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match &self.kind {
            Kind::Direct(volume) => volume.in_flight(),
            Kind::Cached(cached) => cached.tasks.len() - cached.free.len(),
        }
    }

    /// Whether nothing is under way, neither for hosts nor at the device. Dirty pages may be left, unless
    /// [`set_draining`](Self::set_draining) was asked for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match &self.kind {
            Kind::Direct(volume) => volume.is_idle(),
            Kind::Cached(cached) => cached.is_idle(),
        }
    }

    /// Refuses new operations with `Busy`, or takes them again. Those under way go on; background destage does not.
    pub fn set_quiesced(&mut self, quiesced: bool) {
        match &mut self.kind {
            Kind::Direct(volume) => volume.set_quiesced(quiesced),
            Kind::Cached(cached) => cached.quiesced = quiesced,
        }
    }

    /// Destages everything as fast as the device takes it, also while quiesced; [`is_idle`](Self::is_idle) is then true
    /// only when nothing is dirty. A tick must follow. What this leaves is on the device, and stable after a flush.
    pub fn set_draining(&mut self, draining: bool, now: Time) {
        if let Kind::Cached(cached) = &mut self.kind {
            cached.draining = draining;
            cached.wake = now;
        }
    }

    /// Refuses writing operations with `WriteProtected`, or takes them again. Those under way go on, destage too.
    pub fn set_read_only(&mut self, read_only: bool) {
        match &mut self.kind {
            Kind::Direct(volume) => volume.set_read_only(read_only),
            Kind::Cached(cached) => cached.read_only = read_only,
        }
    }

    /// The WCE bit for operations from now on (MODE SELECT). Whoever clears it flushes afterwards: writes that are done
    /// already are not made stable here.
    pub fn set_write_back(&mut self, write_back: bool) {
        match &mut self.kind {
            Kind::Direct(volume) => volume.set_write_back(write_back),
            Kind::Cached(cached) => {
                cached.write_back = write_back;
                cached.volume.set_write_back(write_back);
            }
        }
    }

    /// Whether a journal has what is dirty, and keeps it until a flush of this store: then destage takes more time, for fewer and
    /// longer writes. A tick must follow.
    pub fn set_journaled(&mut self, journaled: bool) {
        if let Kind::Cached(cached) = &mut self.kind
            && cached.journaled != journaled
        {
            cached.journaled = journaled;
            // What it left may be old by now.
            cached.wake = Time(0);
        }
    }

    /// The longest READ, WRITE or WRITE AND VERIFY; as [`Volume::largest_transfer`].
    #[must_use]
    pub fn largest_transfer(&self) -> BlockCount {
        match &self.kind {
            Kind::Direct(volume) => volume.largest_transfer(),
            Kind::Cached(cached) => cached.largest_transfer(),
        }
    }

    /// Pages of 4 KiB in use under the volume's quota, and the quota: of a cached volume, those in the cache.
    #[must_use]
    pub fn pages(&self, cache: &Cache) -> (u64, u64) {
        match &self.kind {
            Kind::Direct(volume) => volume.pages(),
            Kind::Cached(cached) => {
                (u64::from(cache.used_by(cached.plan.number)), u64::from(cached.plan.pages))
            }
        }
    }

    /// What hosts asked for since the construction.
    #[must_use]
    pub fn counters(&self) -> Counters {
        match &self.kind {
            Kind::Direct(volume) => volume.counters(),
            Kind::Cached(cached) => {
                let behind = cached.volume.counters();
                Counters { device_ops: behind.device_ops, bounced: behind.bounced, ..cached.host }
            }
        }
    }

    /// What the cache did for the volume; none without one.
    #[must_use]
    pub fn cache_counters(&self, cache: &Cache) -> Option<StoreCounters> {
        match &self.kind {
            Kind::Direct(_) => None,
            Kind::Cached(cached) => Some(StoreCounters {
                pages: u64::from(cache.used_by(cached.plan.number)),
                dirty: u64::from(cache.dirty.len(cached.plan.number)),
                failed: u64::from(cached.health.pages),
                deferred_dropped: cached.health.dropped,
                ..cached.counters
            }),
        }
    }

    /// What is known of the device that destage writes to.
    #[must_use]
    pub fn state(&self, now: Time) -> State {
        match &self.kind {
            Kind::Direct(_) => State::Healthy,
            Kind::Cached(cached) => cached.state(now),
        }
    }

    /// The oldest error of destage that was not asked for yet: for the next command of each nexus to report
    /// (SPC-5 4.4.7).
    pub fn take_deferred_error(&mut self) -> Option<DeferredError> {
        match &mut self.kind {
            Kind::Direct(_) => None,
            Kind::Cached(cached) => cached.health.take_deferred(),
        }
    }

    /// Takes the volume out of the core's cache, when it is removed or its core ends. Returns how many dirty pages were
    /// lost. It must be idle.
    pub fn leave(self, cache: &mut Cache) -> u32 {
        match self.kind {
            Kind::Direct(_) => 0,
            Kind::Cached(cached) => {
                let lost = cache.dirty.len(cached.plan.number);
                cache.leave(cached.plan.number);
                lost
            }
        }
    }
}

/// What the volume behind needs of it.
#[inline]
fn plain<'a>(cx: &'a mut StoreContext<'_>) -> Context<'a> {
    Context { io: &mut *cx.io, pool: cx.pool, done: &mut *cx.done }
}

#[cfg(test)]
mod tests;
