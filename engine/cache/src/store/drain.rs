//! Drains: what was dirty in some pages is on the device. FUA and write-through, SYNCHRONIZE CACHE, and all that the device
//! does itself begin with one.
//!
//! A drain goes once over its pages in the order of addresses. What is dirty goes out in flights of its own; a page that is
//! in another's flight is looked at again when that is over; so is one that is kept back for an operation of the device's,
//! which overwrites it. What was written after the drain began (by the count of
//! writes, not by time) is no matter to it, so it ends however much hosts write.

use super::StoreContext;
use super::broken::{self, Broken};
use super::cached::{Cached, RETRY, Whose};
use super::frame::{Extent, KEPT, NEVER, NONE};
use super::task::{Drain, Flight, Step};
use kagami_memory::Scatter;
use kagami_types::{BlockCount, BlockError, BlockOp, Lba};
use kagami_volume::{Outcome, Tag};
use std::ops::Range;

/// Pages looked at in one call.
const MOST_STEPS: usize = 4096;

impl Cached {
    /// The flush group's number among the drains.
    fn group(&self) -> u16 {
        self.plan.slots
    }

    /// Begins a drain of what is dirty in those pages now.
    pub(super) fn begin_drain(&mut self, owner: u16, pages: Range<u64>, stable: bool) {
        self.begin_drain_but(owner, pages, stable, 0..0);
    }

    /// The same, but the pages of `keep` are only taken out of destage: nothing of them is in a flight when it is over.
    pub(super) fn begin_drain_but(&mut self, owner: u16, pages: Range<u64>, stable: bool, keep: Range<u64>) {
        self.serial += 1;
        let serial = self.serial;
        self.drains[usize::from(owner)] = Drain {
            live: true,
            serial,
            end: pages.end,
            cursor: pages.start,
            stamp: self.clock,
            stable,
            keep: (keep.start, keep.end),
            ..Drain::IDLE
        };
        self.active.push(owner);
    }

    /// Nobody waits for a drain any more. Its flights go on.
    pub(super) fn end_drain(&mut self, owner: u16) {
        let drain = &mut self.drains[usize::from(owner)];
        if drain.live {
            drain.live = false;
            self.active.retain(|&active| active != owner);
        }
    }

    /// Starts what can be started for a drain. True: it is over.
    fn drain(&mut self, cx: &mut StoreContext<'_>, owner: u16) -> bool {
        let number = self.plan.number;
        let mut drain = self.drains[usize::from(owner)];
        let each = drain.stable;
        // Others' kept pages are none of its: it has its own for itself.
        let through = self.tasks.get(usize::from(owner)).is_some_and(|task| task.through);
        let mut steps = 0;
        while drain.cursor < drain.end {
            if self.free_flights.is_empty() && !drain.keeps(drain.cursor) {
                break;
            }
            steps += 1;
            if steps > MOST_STEPS {
                self.retry_later(cx, owner);
                break;
            }
            let page = if each {
                drain.cursor
            } else {
                match cx.cache.dirty.run_from(number, drain.cursor..drain.end) {
                    Some(run) => run.start,
                    None => {
                        drain.cursor = drain.end;
                        break;
                    }
                }
            };
            drain.cursor = page + 1;
            let Some(frame) = cx.cache.frame(number, page) else {
                drain.needs_flush = true;
                continue;
            };
            if frame.flight == KEPT && (through || broken::is(Broken::FlushWithoutKept)) {
                continue;
            }
            if frame.flight == NONE && drain.keeps(page) {
                if frame.dirty != 0 {
                    frame.flight = KEPT;
                    self.kept += 1;
                    self.tasks[usize::from(owner)].keeps = true;
                    cx.cache.dirty.claim(number, page..page + 1);
                }
            } else if frame.flight != NONE {
                // It may hold what this drain is for; and what is not in it comes after it.
                frame.wanted = true;
                drain.again = drain.again.min(page);
            } else if frame.dirty != 0 && frame.stamp <= drain.stamp {
                self.drains[usize::from(owner)] = drain;
                let last = if page < drain.keep.0 { drain.keep.0.min(drain.end) } else { drain.end };
                let end = self.fly(cx, page, last, Some((owner, drain.serial)), drain.stable);
                drain = self.drains[usize::from(owner)];
                drain.cursor = end;
                if drain.stable {
                    drain.needs_flush |= !self.takes_all(cx, owner, page..end);
                }
                // A page in parts that do not lie together takes several flights, one after the other.
                if let Some(frame) = cx.cache.frame(number, end - 1)
                    && frame.flight != NONE
                    && frame.stamp <= drain.stamp
                {
                    frame.wanted = true;
                    drain.again = drain.again.min(end - 1);
                }
            } else {
                // On the device already, or newer: by a flight that need not have been stable.
                drain.needs_flush = true;
            }
        }
        self.drains[usize::from(owner)] = drain;
        drain.is_over()
    }

    /// Whether what a write brought to those pages is all in the flights that these are in now. Part of it may have gone
    /// before, with another's.
    fn takes_all(&self, cx: &mut StoreContext<'_>, owner: u16, mut pages: Range<u64>) -> bool {
        let Some(task) = self.tasks.get(usize::from(owner)) else { return false };
        pages.all(|page| {
            let mask = task.extent.mask(page);
            cx.cache.frame(self.plan.number, page).is_some_and(|frame| frame.flying & mask == mask)
        })
    }

    /// A drain has its next turn in a moment.
    fn retry_later(&mut self, cx: &StoreContext<'_>, owner: u16) {
        if !self.later.contains(&owner) {
            self.later.push(owner);
        }
        self.retry = self.retry.min(cx.io.now() + RETRY / 8);
    }

    /// A flight of a drain is over.
    pub(super) fn flight_of_drain_done(
        &mut self,
        cx: &mut StoreContext<'_>,
        owner: u16,
        serial: u64,
        flight: &Flight,
        result: Result<(), BlockError>,
    ) {
        let drain = &mut self.drains[usize::from(owner)];
        if !drain.live || drain.serial != serial {
            return;
        }
        drain.flights -= 1;
        match result {
            Ok(()) => {}
            Err(BlockError::Busy) => {
                drain.again = drain.again.min(flight.extent.first());
                return self.retry_later(cx, owner);
            }
            Err(error) => {
                drain.fail(flight.extent, error);
                let local = matches!(error, BlockError::WriteMedium(_) | BlockError::ReadMedium(_));
                if !local {
                    // The device will not take the rest either.
                    drain.fail(Extent { start: 0, end: u64::MAX }, error);
                    (drain.cursor, drain.again) = (drain.end, NEVER);
                }
            }
        }
        if usize::from(owner) < self.tasks.len() {
            self.progress(cx, owner);
        } else {
            for at in 0..self.flush_now.len() {
                let t = self.flush_now[at];
                self.progress(cx, t);
            }
        }
        self.enqueue(owner);
    }

    /// Pages that drains wanted are out of their flight.
    pub(super) fn look_again(&mut self, pages: &Range<u64>) {
        for at in 0..self.active.len() {
            let owner = self.active[at];
            let drain = &self.drains[usize::from(owner)];
            if drain.again < pages.end && pages.start < drain.end {
                self.enqueue(owner);
            }
        }
    }

    /// A flight is free: for drains first.
    pub(super) fn enqueue_drains(&mut self) {
        for at in 0..self.active.len() {
            let owner = self.active[at];
            if self.drains[usize::from(owner)].cursor < self.drains[usize::from(owner)].end {
                self.enqueue(owner);
            }
        }
    }

    /// A drain goes on: over its pages again, where something is left.
    fn drain_turn(&mut self, cx: &mut StoreContext<'_>, owner: u16) -> bool {
        // Twice, as what has no slot behind is not to be tried in a loop.
        for _ in 0..2 {
            let drain = &mut self.drains[usize::from(owner)];
            if drain.cursor >= drain.end && drain.again != NEVER {
                (drain.cursor, drain.again) = (drain.again, NEVER);
            }
            if self.drain(cx, owner) {
                return true;
            }
            let drain = self.drains[usize::from(owner)];
            if drain.cursor < drain.end || drain.again == NEVER {
                return false;
            }
            // The flight that is waited for may have ended while the drain was elsewhere: then nobody says so again.
            let frame = cx.cache.frame(self.plan.number, drain.again);
            if frame.is_some_and(|frame| frame.flight != NONE) {
                return false;
            }
        }
        self.retry_later(cx, owner);
        false
    }

    /// A task's drain goes on.
    pub(super) fn drain_goes_on(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        if !self.drains[usize::from(t)].live || !self.drain_turn(cx, t) {
            return;
        }
        let drain = self.drains[usize::from(t)];
        self.end_drain(t);
        if self.tasks[usize::from(t)].through {
            return self.drained_through(cx, t, drain.fault);
        }
        if let Some((_, error)) = drain.fault {
            return self.finish_with(cx, t, Err(error));
        }
        // A write that only needed its room waits for the device, not for its flush.
        if drain.needs_flush && drain.stable && !broken::is(Broken::FuaInCache) {
            return self.flush_behind(cx, t);
        }
        self.finish_with(cx, t, Ok(()));
    }

    /// The device makes stable what it was given.
    fn flush_behind(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        let task = &mut self.tasks[usize::from(t)];
        task.step = Step::Behind;
        let serial = task.serial;
        let list = std::mem::take(&mut task.data);
        let op = BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
        self.hand(cx, Whose::Task(t, serial), op, list);
    }

    /// SYNCHRONIZE CACHE: those that wait share one drain, and the device's flush, which what only `writes_out` does not need.
    pub(super) fn flush(
        &mut self,
        cx: &mut StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        extent: Extent,
        data: Scatter,
        writes_out: bool,
    ) -> Option<Outcome> {
        let t = match self.take_slot(cx, tag, op, extent, data) {
            Ok(t) => t,
            Err(outcome) => return Some(outcome),
        };
        let task = &mut self.tasks[usize::from(t)];
        (task.step, task.writes_out) = (Step::Drain, writes_out);
        // A write that waits for its turn is not done, so not in what this is for.
        self.flush_next.push(t);
        if self.flush_now.is_empty() {
            self.begin_group(cx);
        }
        self.work(cx);
        None
    }

    /// Begins the drain of those that have come.
    fn begin_group(&mut self, cx: &mut StoreContext<'_>) {
        let group = self.group();
        self.end_drain(group);
        std::mem::swap(&mut self.flush_now, &mut self.flush_next);
        let mut hull: Option<Extent> = None;
        for &t in &self.flush_now {
            let extent = self.tasks[usize::from(t)].extent;
            hull = Some(hull.map_or(extent, |hull| Extent {
                start: hull.start.min(extent.start),
                end: hull.end.max(extent.end),
            }));
        }
        let Some(hull) = hull else { return };
        let pages = if broken::is(Broken::FlushWithoutDestage) { 0..0 } else { hull.first()..hull.last() };
        self.begin_drain(group, pages, false);
        self.group_goes_on(cx);
    }

    /// The group's drain goes on; after it each of them has the device flush, which does it once for all.
    pub(super) fn group_goes_on(&mut self, cx: &mut StoreContext<'_>) {
        let group = self.group();
        loop {
            if !self.drains[usize::from(group)].live || !self.drain_turn(cx, group) {
                return;
            }
            let drain = self.drains[usize::from(group)];
            self.end_drain(group);
            let mut members = std::mem::take(&mut self.flush_now);
            for t in members.drain(..) {
                let extent = self.tasks[usize::from(t)].extent;
                match drain.fault {
                    Some((lost, error)) if lost.meets(extent) => self.finish_with(cx, t, Err(error)),
                    _ if broken::is(Broken::DestageWithoutFlush) => self.finish_with(cx, t, Ok(())),
                    _ if self.tasks[usize::from(t)].writes_out => self.finish_with(cx, t, Ok(())),
                    _ => self.flush_behind(cx, t),
                }
            }
            self.flush_now = members;
            if self.flush_next.is_empty() {
                return;
            }
            self.begin_group(cx);
        }
    }

    /// What the volume behind was given of a task's is done.
    pub(super) fn behind_done(&mut self, cx: &mut StoreContext<'_>, t: u16, serial: u64, outcome: Outcome) {
        let current = self
            .tasks
            .get(usize::from(t))
            .is_some_and(|task| task.live && task.serial == serial && task.step == Step::Behind);
        if !current {
            // Aborted meanwhile.
            return self.put_list(outcome.data);
        }
        if self.tasks[usize::from(t)].through {
            return self.through_done(cx, t, outcome);
        }
        let Outcome { result, mut data, status } = outcome;
        data.clear();
        // A device that did not take up the flush has done nothing; but the write is in the cache and others see it.
        let result = match result {
            Err(BlockError::Busy) if self.tasks[usize::from(t)].op.writes() => Err(BlockError::TimedOut),
            result => result,
        };
        self.finish(cx, t, Outcome { result, data, status });
    }
}
