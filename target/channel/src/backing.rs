//! What is behind a unit's device server: a store at its own core, or one that is spread over several; either may have the
//! front of a pair before it.
//!
//! The unit hands block operations here and takes their outcomes; it need not know which it is. What a store does is said
//! at [`Store`], what is different of a spread one at [`Spread`], of a paired one at [`Paired`].

use crate::paired::Paired;
use crate::spread::{Growth, Spread};
use crate::unit::UnitContext;
use kagami_cache::store::{Cache, DeferredError, Store, StoreCounters};
use kagami_memory::Scatter;
use kagami_reactor::Completion;
use kagami_types::{BlockCount, BlockOp, Lba, Time};
use kagami_volume::{Aborted, DeviceLimits, Geometry, Outcome, Tag};

/// A unit's volume.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the usual one costs no look-up")]
pub(crate) enum Backing {
    /// At the unit's core, and nowhere else.
    Own(Store),
    /// In extents over several cores.
    Spread(Box<Spread>),
    /// One of these, with the front of a pair before it.
    Paired(Box<Paired>),
}

impl Backing {
    /// As [`Store::submit`].
    #[inline]
    pub(crate) fn submit(
        &mut self,
        cx: &mut UnitContext<'_>,
        tag: Tag,
        op: BlockOp,
        data: Scatter,
    ) -> Option<Outcome> {
        match self {
            Self::Own(store) => store.submit(&mut cx.volume, tag, op, data),
            Self::Spread(spread) => spread.submit(cx, tag, op, data),
            Self::Paired(paired) => paired.submit(cx, tag, op, data),
        }
    }

    /// Outcomes of operations that were not done at once, one after the other: to be asked for until there is none,
    /// after every call.
    #[inline]
    pub(crate) fn next_outcome(&mut self, cx: &mut UnitContext<'_>) -> Option<(Tag, Outcome)> {
        match self {
            Self::Own(_) => cx.volume.done.pop(),
            Self::Spread(spread) => spread.next_outcome(cx),
            Self::Paired(paired) => paired.next_outcome(cx),
        }
    }

    /// Whether there are outcomes that are not in the context's list.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Spread(spread) => spread.has_ended(),
            Self::Paired(paired) => paired.has_ended(),
        }
    }

    /// As [`Store::abort`].
    pub(crate) fn abort(&mut self, cx: &mut UnitContext<'_>, tag: Tag) -> Aborted {
        match self {
            Self::Own(store) => store.abort(&mut cx.volume, tag),
            Self::Spread(spread) => spread.abort(cx, tag),
            Self::Paired(paired) => paired.abort(cx, tag),
        }
    }

    /// As [`Store::on_completion`], for device operations of this core.
    pub(crate) fn on_completion(&mut self, cx: &mut UnitContext<'_>, completion: Completion) {
        self.own_mut().on_completion(&mut cx.volume, completion);
    }

    /// As [`Store::on_tick`].
    pub(crate) fn on_tick(&mut self, cx: &mut UnitContext<'_>) {
        match self {
            Self::Own(store) => store.on_tick(&mut cx.volume),
            Self::Spread(spread) => spread.on_tick(cx),
            Self::Paired(paired) => paired.on_tick(cx),
        }
    }

    /// As [`Store::next_deadline`].
    #[inline]
    pub(crate) fn next_deadline(&self) -> Time {
        match self {
            Self::Own(store) => store.next_deadline(),
            Self::Spread(spread) => spread.next_deadline(),
            Self::Paired(paired) => paired.next_deadline(),
        }
    }

    /// As [`Store::set_write_back`].
    pub(crate) fn set_write_back(&mut self, cx: &mut UnitContext<'_>, write_back: bool) {
        match self {
            Self::Own(store) => store.set_write_back(write_back),
            Self::Spread(spread) => spread.set_write_back(cx, write_back),
            Self::Paired(paired) => paired.set_write_back(cx, write_back),
        }
    }

    /// As [`Store::set_journaled`]: the front of a pair says so to what is behind it.
    pub(crate) fn set_journaled(&mut self, cx: &mut UnitContext<'_>, journaled: bool) {
        match self {
            Self::Own(store) => store.set_journaled(journaled),
            Self::Spread(spread) => spread.set_journaled(cx, journaled),
            Self::Paired(paired) => paired.inner.set_journaled(cx, journaled),
        }
    }

    /// As [`Store::take_deferred_error`].
    #[inline]
    pub(crate) fn take_deferred_error(&mut self) -> Option<DeferredError> {
        match self {
            Self::Own(store) => store.take_deferred_error(),
            Self::Spread(spread) => spread.take_deferred_error(),
            Self::Paired(paired) => paired.take_deferred_error(),
        }
    }

    /// Writes of hosts that were answered and that the store does not have yet.
    pub(crate) fn promised(&self) -> usize {
        match self {
            Self::Own(_) | Self::Spread(_) => 0,
            Self::Paired(paired) => paired.promised(),
        }
    }

    /// Makes the volume larger.
    pub(crate) fn grow(&mut self, cx: &mut UnitContext<'_>, blocks: BlockCount) -> Growth {
        match self {
            Self::Own(store) => match store.grow(blocks) {
                Ok(()) => Growth::Done(blocks),
                Err(_) => Growth::Refused,
            },
            Self::Spread(spread) => spread.grow(cx, blocks),
            // Its group has agreed, and counts what is new as different.
            Self::Paired(paired) => paired.grow(cx, blocks),
        }
    }

    /// As [`Store::set_draining`].
    pub(crate) fn set_draining(&mut self, cx: &mut UnitContext<'_>, now: Time) {
        match self {
            Self::Own(store) => store.set_draining(true, now),
            Self::Spread(spread) => spread.set_draining(cx, now),
            Self::Paired(paired) => paired.inner.set_draining(cx, now),
        }
    }

    /// The last step before the unit goes: whether nothing of it is left on other cores. To be asked again until so.
    pub(crate) fn dismiss(&mut self, cx: &mut UnitContext<'_>) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Spread(spread) => spread.dismiss(cx),
            Self::Paired(paired) => paired.inner.dismiss(cx),
        }
    }

    /// The device was removed; as [`Store::set_gone`].
    pub(crate) fn set_gone(&mut self, cx: &mut UnitContext<'_>) {
        match self {
            Self::Own(store) => store.set_gone(),
            Self::Spread(spread) => spread.set_gone(cx),
            Self::Paired(paired) => paired.inner.set_gone(cx),
        }
    }

    /// As [`Store::take_lost`].
    pub(crate) fn take_lost(&mut self, cx: &mut UnitContext<'_>) -> bool {
        match self {
            Self::Own(store) => store.take_lost(cx.volume.cache),
            Self::Spread(spread) => spread.take_lost(cx),
            Self::Paired(paired) => paired.take_lost(cx),
        }
    }

    /// As [`Store::is_released`], on all cores.
    pub(crate) fn is_released(&mut self) -> bool {
        match self {
            Self::Own(store) => store.is_released(),
            Self::Spread(spread) => spread.is_released(),
            Self::Paired(paired) => paired.inner.is_released(),
        }
    }

    /// As [`Store::set_device_limits`]; what contradicts the volume is not taken.
    pub(crate) fn set_device_limits(&mut self, cx: &mut UnitContext<'_>, limits: DeviceLimits) {
        match self {
            Self::Own(store) => drop(store.set_device_limits(limits)),
            Self::Spread(spread) => spread.set_device_limits(cx, limits),
            Self::Paired(paired) => paired.inner.set_device_limits(cx, limits),
        }
    }

    /// How many descriptors of its device are needed beside the one for this core.
    pub(crate) fn others(&self) -> usize {
        match self {
            Self::Own(_) => 0,
            Self::Spread(spread) => spread.others(),
            Self::Paired(paired) => paired.inner.others(),
        }
    }

    /// As [`Store::geometry`].
    #[inline]
    pub(crate) fn geometry(&self) -> Geometry {
        self.own().geometry()
    }

    /// As [`Store::keeps_pages`].
    #[inline]
    pub(crate) fn keeps_pages(&self) -> bool {
        self.own().keeps_pages()
    }

    /// As [`Store::prefetch`], for what is at this core.
    #[inline]
    pub(crate) fn prefetch(&self, cache: &Cache, lba: Lba, step: u8, reads: bool) {
        match self {
            Self::Own(store) => store.prefetch(cache, lba, step, reads),
            Self::Spread(spread) if spread.is_at_home(lba.0) => {
                spread.own.prefetch(cache, lba, step, reads);
            }
            Self::Spread(_) => {}
            Self::Paired(paired) => paired.inner.prefetch(cache, lba, step, reads),
        }
    }

    /// Operations under way at this core's device.
    pub(crate) fn in_flight(&self) -> usize {
        self.own().in_flight()
    }

    /// Whether nothing is under way at this core; as [`Store::is_idle`].
    pub(crate) fn is_idle(&self) -> bool {
        self.own().is_idle()
    }

    /// What the cache of this core did.
    pub(crate) fn cache_counters(&self, cache: &Cache) -> Option<StoreCounters> {
        self.own().cache_counters(cache)
    }

    /// The store at the unit's own core.
    #[inline]
    pub(crate) fn own(&self) -> &Store {
        match self {
            Self::Own(store) => store,
            Self::Spread(spread) => &spread.own,
            Self::Paired(paired) => paired.inner.own(),
        }
    }

    /// The same, to be changed.
    pub(crate) fn own_mut(&mut self) -> &mut Store {
        match self {
            Self::Own(store) => store,
            Self::Spread(spread) => &mut spread.own,
            Self::Paired(paired) => paired.inner.own_mut(),
        }
    }

    /// The spread volume that it is, with a front before it or without.
    pub(crate) fn spread_mut(&mut self) -> Option<&mut Spread> {
        match self {
            Self::Own(_) => None,
            Self::Spread(spread) => Some(spread),
            Self::Paired(paired) => paired.inner.spread_mut(),
        }
    }

    /// Operations whose outcome was not given yet, on all cores.
    pub(crate) fn under_way(&self) -> usize {
        match self {
            Self::Own(store) => store.in_flight(),
            Self::Spread(spread) => spread.under_way(),
            Self::Paired(paired) => paired.inner.under_way(),
        }
    }

    /// Tags begin with slots below that number from now on, if they did not before.
    pub(crate) fn widen(&mut self, slots: usize) {
        if let Some(spread) = self.spread_mut() {
            spread.widen(slots);
        }
    }

    /// The unit leaves its core; as [`Store::leave`].
    pub(crate) fn leave(self, cache: &mut Cache) -> u32 {
        match self {
            Self::Own(store) => store.leave(cache),
            Self::Spread(spread) => spread.own.leave(cache),
            Self::Paired(paired) => paired.inner.leave(cache),
        }
    }
}
