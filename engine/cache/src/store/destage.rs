//! Destage: from dirty pages to large writes in the order of addresses, at a pace.
//!
//! A *flight* is one device write of pages that lie together. It shares the pages with the cache, so what is overwritten
//! meanwhile takes new ones; only blocks that were not overwritten are clean when it is over.
//!
//! In the background a few flights are under way while little is dirty, more as it gets more, all that the plan allows
//! from half of the limit on, or while a host waits. Little that has become old goes out as well.
//!
//! Of a volume behind a journal nothing is at stake: what is dirty is in the journal until a flush has brought it here. So it
//! stays a while longer: what is written again goes out once, and what has gathered lies together more often. Flights of
//! what is old are fewer too, as the journal's own writes wait behind them. How much may be dirty, and how hosts are slowed
//! by it, is the same.

use super::StoreContext;
use super::broken::{self, Broken};
use super::cached::{Cached, RETRY, Whose};
use super::frame::{Extent, NEVER, NONE, PAGE, PAGE_SHIFT, first_run, sectors};
use super::task::Flight;
use crate::MOST_PAGES;
use kagami_memory::Slice;
use kagami_types::{Access, BlockError, BlockOp, Time};
use kagami_volume::Outcome;

/// Runs of the map looked at in one call.
const MOST_RUNS: usize = 256;

/// What a journal has may be as many times as old before it goes out. More would be little gained, and hosts wait for what is
/// dirty when their volume leaves the journal.
const JOURNALED_AGES: u32 = 4;

impl Cached {
    /// How many flights there may be in the background.
    fn pace(&self, cx: &StoreContext<'_>) -> usize {
        let dirty = cx.cache.dirty.len(self.plan.number);
        if dirty == 0 || self.rests() {
            return 0;
        }
        let depth = self.flights.len();
        if self.draining || !self.waiting.is_empty() {
            return depth;
        }
        let most = cx.cache.may_be_dirty(self.plan.dirty, 0);
        let high = most / 2;
        // Steeper behind a journal, but no step: between the two a part of the flights.
        let low = if self.journaled { high - most / 8 } else { most / 8 };
        let core = cx.cache.dirty.total() > cx.cache.dirty_limit / 2;
        let by_amount = match dirty {
            _ if core || dirty >= high => depth,
            _ if dirty <= low => 0,
            _ => {
                let part = u64::from(dirty - low) * (depth as u64 - 1) / u64::from((high - low).max(1));
                1 + usize::try_from(part).unwrap_or(0)
            }
        };
        let by_age = if self.sweep > 0 || self.old_at() <= cx.io.now() {
            (depth / if self.journaled { 8 } else { 4 }).max(2).min(depth)
        } else {
            0
        };
        by_amount.max(by_age)
    }

    /// When the oldest of what is dirty is old.
    fn old_at(&self) -> Time {
        self.dirty_since + if self.journaled { self.plan.age * JOURNALED_AGES } else { self.plan.age }
    }

    /// Whether nothing is to be done that nobody waits for.
    fn rests(&self) -> bool {
        self.quiesced && !self.draining && self.waiting.is_empty()
    }

    /// The device may be there again: what failed is tried with the next tick.
    pub(super) fn try_now(&mut self) {
        if self.health.retry_at != Time::NEVER {
            self.health.retry_at = Time(0);
        }
        self.pause = Time(0);
        self.wake = Time(0);
    }

    fn under_way(&self) -> usize {
        self.flights.len() - self.free_flights.len()
    }

    /// Starts flights in the background.
    pub(super) fn destage(&mut self, cx: &mut StoreContext<'_>) {
        let number = self.plan.number;
        let now = cx.io.now();
        if cx.cache.dirty.is_empty(number) {
            self.sweep = 0;
            return;
        }
        if self.pause > now || (self.health.is_down() && self.health.retry_at != Time::NEVER) {
            return;
        }
        let mut pace = self.pace(cx);
        if self.health.is_down() {
            // One, to see whether the device is back.
            pace = pace.min(1);
        }
        if pace == 0 {
            return;
        }
        if self.sweep == 0 && self.old_at() <= now {
            self.sweep = cx.cache.dirty.len(number);
            self.sweep_began = now;
        }
        for _ in 0..MOST_RUNS {
            if self.under_way() >= pace || self.free_flights.is_empty() {
                return;
            }
            if self.rest.is_empty() {
                let Some(run) = cx.cache.dirty.next_run(number, self.run_pages()) else {
                    // All of it is on its way, or waits to be tried again.
                    self.end_sweep();
                    let known = self.under_way() > 0 || self.health.pages > 0 || self.kept > 0;
                    debug_assert!(known, "dirty pages in no sweep");
                    return;
                };
                self.rest = run;
            }
            let page = self.rest.start;
            let spared = self.health.retry_at != Time::NEVER;
            let free = cx
                .cache
                .frame(number, page)
                .is_some_and(|frame| frame.flight == NONE && frame.dirty != 0 && !(frame.failed && spared));
            let end = if free { self.fly(cx, page, self.rest.end, None, false) } else { page + 1 };
            self.rest.start = end;
            self.sweep = self.sweep.saturating_sub(u32::try_from(end - page).unwrap_or(u32::MAX));
            if self.sweep == 0 {
                self.end_sweep();
            }
            if self.pause > now {
                return;
            }
        }
        self.pause = now + RETRY;
    }

    /// What was old is on its way: what came since is not older than the sweep.
    fn end_sweep(&mut self) {
        if self.dirty_since < self.sweep_began {
            self.dirty_since = self.sweep_began;
        }
        self.sweep = 0;
    }

    /// When destage wants a tick, after it has just had its turn.
    pub(super) fn destage_alarm(&self, cx: &StoreContext<'_>) -> Time {
        if cx.cache.dirty.is_empty(self.plan.number) || self.rests() {
            return Time::NEVER;
        }
        if self.health.is_down() && self.health.retry_at != Time::NEVER {
            return self.health.retry_at;
        }
        let (now, old) = (cx.io.now(), self.old_at());
        match () {
            () if self.pause > now => self.pause,
            () if old > now => old,
            () => Time::NEVER,
        }
    }

    /// When destage wants a tick, after something became dirty.
    #[inline]
    pub(super) fn dirty_alarm(&self, cx: &StoreContext<'_>) -> Time {
        let alarm = self.destage_alarm(cx);
        let wanted = alarm > cx.io.now() && self.pause <= cx.io.now() && self.pace(cx) > self.under_way();
        if wanted && !self.health.is_down() { cx.io.now() } else { alarm }
    }

    /// What could not be written is for the next sweep.
    pub(super) fn retry_dirty(&mut self, cx: &mut StoreContext<'_>) {
        let mut from = 0;
        while let Some(run) = cx.cache.dirty.run_from(self.plan.number, from..MOST_PAGES) {
            from = run.end;
            cx.cache.dirty.retry(self.plan.number, run);
        }
    }

    /// Starts a flight with the page `first`, which is dirty and in none, and what follows it before `end`, as far as it
    /// lies together. Returns the page after its last one. There must be a free flight.
    pub(super) fn fly(
        &mut self,
        cx: &mut StoreContext<'_>,
        first: u64,
        end: u64,
        owner: Option<(u16, u64)>,
        stable: bool,
    ) -> u64 {
        let number = self.plan.number;
        let Some(f) = self.free_flights.pop() else { return first };
        let most = end.min(first.saturating_add(u64::from(self.run_pages())));
        let mut list = self.spare_list();
        let mut extent = Extent { start: first << PAGE_SHIFT, end: first << PAGE_SHIFT };
        let mut page = first;
        cx.cache.prefetch(number, first..most);
        while page < most {
            let whole = self.whole(page);
            let Some(frame) = cx.cache.frame(number, page) else { break };
            if frame.dirty == 0 || frame.flight != NONE || (frame.failed && page > first) {
                break;
            }
            // Clean blocks go along where that makes it one piece.
            let mask = if frame.valid & whole == whole { whole } else { frame.dirty };
            let Some((start, stop)) = first_run(mask) else { break };
            if page > first && start > 0 {
                break;
            }
            let base = page << PAGE_SHIFT;
            let part =
                frame.page.as_ref().and_then(|page| Slice::new(page.clone(), start, stop - start).ok());
            let Some(part) = part else {
                debug_assert!(false, "a dirty page without its bytes");
                break;
            };
            list.push(part);
            if page == first {
                extent.start = base + u64::from(start);
            }
            extent.end = base + u64::from(stop);
            frame.flight = f;
            frame.flying = frame.dirty & sectors(start, stop);
            frame.flown = frame.stamp;
            if frame.flying == frame.dirty {
                frame.stamp = NEVER;
            }
            if broken::is(Broken::CleanAtSubmit) {
                frame.dirty = 0;
            }
            let alone = frame.failed;
            page += 1;
            if alone || u64::from(stop) < PAGE {
                break;
            }
        }
        if page == first {
            self.put_list(list);
            self.free_flights.push(f);
            return first + 1;
        }
        cx.cache.dirty.claim(number, first..page);
        self.flights[usize::from(f)] = Flight { live: true, extent, owner };
        self.counters.destage_ops += 1;
        self.counters.destage_bytes += extent.end - extent.start;
        if let Some((owner, _)) = owner {
            self.drains[usize::from(owner)].flights += 1;
        }
        let op = BlockOp::Write(self.blocks(extent), Access { fua: stable, dpo: false });
        self.hand(cx, Whose::Flight(f), op, list);
        page
    }

    /// A flight is over.
    pub(super) fn flight_done(&mut self, cx: &mut StoreContext<'_>, f: u16, outcome: Outcome) {
        let now = cx.io.now();
        let Some(flight) = self.flights.get(usize::from(f)).copied().filter(|flight| flight.live) else {
            debug_assert!(false, "an outcome of no flight");
            return;
        };
        self.put_list(outcome.data);
        self.flights[usize::from(f)] = Flight::IDLE;
        self.free_flights.push(f);
        let pages = flight.extent.first()..flight.extent.last();
        let result = match outcome.result {
            Err(error) if broken::is(Broken::CleanOnError) && error != BlockError::Busy => Ok(()),
            result => result,
        };
        let wanted = self.land(cx, f, &flight, result);
        match result {
            Ok(()) => {
                self.health.succeeded();
                self.space.written(flight.extent);
            }
            Err(BlockError::Busy) => {
                // No slot or page at the volume behind: nothing was tried.
                self.pause = now + RETRY;
                self.retry_soon(cx);
            }
            Err(error) => {
                let lba = match error {
                    BlockError::WriteMedium(lba) | BlockError::ReadMedium(lba) => lba,
                    _ => self.lba(flight.extent.start),
                };
                self.counters.destage_errors += 1;
                self.health.failed(error, lba, now);
            }
        }
        if cx.cache.dirty.is_empty(self.plan.number) {
            self.health.nothing_dirty();
        }
        if let Some((owner, serial)) = flight.owner {
            self.flight_of_drain_done(cx, owner, serial, &flight, result);
        }
        if wanted {
            self.look_again(&pages);
        }
        self.enqueue_drains();
        self.feed(cx);
    }

    /// What a flight means for its pages. Whether somebody waited for one of them.
    fn land(
        &mut self,
        cx: &mut StoreContext<'_>,
        f: u16,
        flight: &Flight,
        result: Result<(), BlockError>,
    ) -> bool {
        let number = self.plan.number;
        let pages = flight.extent.first()..flight.extent.last();
        let (mut wanted, mut cleaned, mut first_failure) = (false, 0, false);
        // The last run of pages that are clean now: the map of dirty pages is told run by run.
        let mut clean = pages.start..pages.start;
        cx.cache.prefetch(number, pages.clone());
        for page in pages.clone() {
            let Some(slot) = cx.cache.find(number, page) else { continue };
            let frame = &mut cx.cache.pages[slot];
            if frame.flight != f {
                continue;
            }
            frame.flight = NONE;
            wanted |= std::mem::take(&mut frame.wanted);
            let flying = std::mem::take(&mut frame.flying);
            let flown = std::mem::replace(&mut frame.flown, NEVER);
            match result {
                Ok(()) => {
                    frame.dirty &= !flying;
                    self.health.pages -= u32::from(std::mem::take(&mut frame.failed));
                }
                Err(error) => {
                    frame.stamp = frame.stamp.min(flown);
                    if error != BlockError::Busy && !std::mem::replace(&mut frame.failed, true) {
                        self.health.pages += 1;
                        first_failure = true;
                    }
                }
            }
            if frame.dirty == 0 {
                frame.stamp = NEVER;
                cleaned += 1;
                if clean.end != page {
                    cx.cache.dirty.clear_run(number, clean);
                    clean = page..page;
                }
                clean.end = page + 1;
                cx.cache.settle(slot);
            } else if result.is_ok() || result == Err(BlockError::Busy) {
                // A part that did not lie together with the rest, or written again: for the next sweep.
                cx.cache.dirty.retry(number, page..page + 1);
            }
        }
        cx.cache.dirty.clear_run(number, clean);
        if cleaned > 0 {
            self.throttle.credit(cleaned);
            self.counters.destage_pages += u64::from(cleaned);
        }
        if let (Err(error), true) = (result, first_failure)
            && flight.owner.is_none()
        {
            let lba = match error {
                BlockError::WriteMedium(lba) => lba,
                _ => self.lba(pages.start << PAGE_SHIFT),
            };
            self.health.defer(error, lba);
        }
        self.counters.failed = u64::from(self.health.pages);
        self.counters.dirty = u64::from(cx.cache.dirty.len(number));
        wanted
    }
}
