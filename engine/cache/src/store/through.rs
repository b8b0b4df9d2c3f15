//! What the device does itself: VERIFY, COMPARE AND WRITE, WRITE SAME, UNMAP, WRITE AND VERIFY, READ with FUA.
//!
//! Such an operation has its pages to itself: it waits for those before it, what is dirty there goes to the device first,
//! and whoever comes later waits for it. So a COMPARE AND WRITE compares with what hosts last wrote, and nothing comes
//! between its halves. What it changed leaves the cache before anybody looks again.
//!
//! UNMAP and WRITE SAME overwrite their pages, so what is dirty in those that they cover whole need not go out before: it is
//! kept back from destage, whose flights there end first; and only when the device has done the operation it is forgotten.
//! Where the device fails, it is as dirty as before.

use super::StoreContext;
use super::broken::{self, Broken};
use super::cached::{Cached, MAX_APART, Whose, ended};
use super::frame::{Extent, KEPT, NEVER, NONE, PAGE_SHIFT};
use super::task::Step;
use crate::Slot;
use kagami_memory::Scatter;
use kagami_types::{Access, BlockCount, BlockError, BlockOp};
use kagami_volume::ranges::Mode;
use kagami_volume::{Outcome, Tag};
use std::ops::Range;

/// Doubtful ranges kept apart; more are taken as one.
const MOST_DOUBTS: usize = 16;

impl Cached {
    /// Takes in an operation that the device is to do.
    #[cold]
    pub(super) fn pass(
        &mut self,
        cx: &mut StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        extent: Extent,
        data: Scatter,
    ) -> Option<Outcome> {
        self.counters.through += 1;
        let t = match self.take_slot(cx, tag, op, extent, data) {
            Ok(t) => t,
            Err(outcome) => return Some(outcome),
        };
        let task = &mut self.tasks[usize::from(t)];
        if matches!(task.op, BlockOp::LbaStatus { .. }) || extent.start == extent.end {
            // Changes nothing and reads nothing.
            self.tasks[usize::from(t)].step = Step::Behind;
            self.hand_over(cx, t);
        } else if !self.lock_through(t) {
            self.begin_through(cx, t);
        }
        self.work(cx);
        None
    }

    /// Takes a task's pages for it alone; whether it has to wait.
    pub(super) fn lock_through(&mut self, t: u16) -> bool {
        let blocked = self.lock(t, Mode::Exclusive);
        self.tasks[usize::from(t)].through = true;
        blocked
    }

    /// Hands the operation as it is to the volume behind.
    fn hand_over(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        let write_back = self.write_back;
        let task = &mut self.tasks[usize::from(t)];
        let serial = task.serial;
        let data = std::mem::take(&mut task.data);
        let op = match &task.op {
            BlockOp::CompareAndWrite(range, access) => {
                BlockOp::CompareAndWrite(*range, Access { fua: access.fua || !write_back, ..*access })
            }
            op => op.clone(),
        };
        self.hand(cx, Whose::Task(t, serial), op, data);
    }

    /// The pages are its own: what is dirty there goes first.
    pub(super) fn begin_through(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        self.tasks[usize::from(t)].step = Step::Drain;
        self.tasks[usize::from(t)].range = 0;
        self.progress(cx, t);
        self.drain_next(cx, t);
    }

    /// The bytes of a task's range of that number.
    fn range_of(&self, t: u16, at: usize) -> Option<Extent> {
        let task = &self.tasks[usize::from(t)];
        let extent = match &task.op {
            BlockOp::Unmap(ranges) if ranges.len() <= MAX_APART => {
                let range = ranges.get(at)?;
                let size = self.geometry.block_size;
                let start = size.offset(range.lba);
                Extent { start, end: start + size.len(BlockCount(u64::from(range.blocks))).0 }
            }
            _ if at == 0 => task.extent,
            _ => return None,
        };
        Some(extent)
    }

    /// The pages of a task's range of that number.
    fn pages_of(&self, t: u16, at: usize) -> Option<Range<u64>> {
        let extent = self.range_of(t, at)?;
        Some(extent.first()..extent.last().max(extent.first()))
    }

    /// The pages of that range whose bytes the operation replaces, all of them.
    fn overwrites(&self, t: u16, at: usize) -> Range<u64> {
        let whole = match &self.tasks[usize::from(t)].op {
            BlockOp::Unmap(ranges) => ranges.len() <= MAX_APART,
            BlockOp::WriteSame { .. } => true,
            _ => false,
        };
        match self.range_of(t, at) {
            Some(extent) if whole => extent.whole_pages(),
            _ => 0..0,
        }
    }

    /// Drains the next of its ranges, or begins.
    fn drain_next(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        let at = self.tasks[usize::from(t)].range;
        match self.pages_of(t, at) {
            Some(pages) if !broken::is(Broken::ThroughWithoutDrain) => {
                self.tasks[usize::from(t)].range += 1;
                let keep = self.overwrites(t, at);
                self.begin_drain_but(t, pages, false, keep);
                self.enqueue(t);
            }
            _ => {
                self.tasks[usize::from(t)].step = Step::Behind;
                self.hand_over(cx, t);
            }
        }
    }

    /// What was dirty in one of its ranges is on the device, or cannot be brought there.
    pub(super) fn drained_through(
        &mut self,
        cx: &mut StoreContext<'_>,
        t: u16,
        fault: Option<(Extent, BlockError)>,
    ) {
        match fault {
            // Nothing of it was done.
            Some((_, error)) => self.finish_with(cx, t, Err(error)),
            None => self.drain_next(cx, t),
        }
    }

    /// The device has done it, or not.
    pub(super) fn through_done(&mut self, cx: &mut StoreContext<'_>, t: u16, outcome: Outcome) {
        let Outcome { result, data, status } = outcome;
        let task = &self.tasks[usize::from(t)];
        let untouched = matches!(result, Err(BlockError::Miscompare(_) | BlockError::Busy))
            && matches!(task.op, BlockOp::CompareAndWrite(..));
        if task.op.writes() && !untouched && !broken::is(Broken::KeepStale) {
            let mut at = 0;
            let gives_back = matches!(
                self.tasks[usize::from(t)].op,
                BlockOp::Unmap(_) | BlockOp::WriteSame { unmap: true, .. }
            );
            while let Some(pages) = self.pages_of(t, at) {
                if result.is_ok() || broken::is(Broken::ForgetUndone) {
                    self.forget_kept(cx, &pages);
                }
                self.forget(cx, &pages);
                if gives_back {
                    self.space.discarded(pages.clone());
                }
                if result == Err(BlockError::TimedOut) {
                    self.doubt(self.bytes_of(&pages));
                }
                at += 1;
            }
        }
        if result.is_ok() {
            self.finish(cx, t, Outcome { result, data, status });
        } else {
            self.finish(cx, t, ended(result, data));
        }
    }

    /// What was kept back there is overwritten: it is not dirty any more.
    fn forget_kept(&mut self, cx: &mut StoreContext<'_>, pages: &Range<u64>) {
        if self.kept == 0 {
            return;
        }
        let number = self.plan.number;
        let (mut from, mut gone, mut wanted) = (pages.start, 0, false);
        while let Some(run) = cx.cache.dirty.run_from(number, from..pages.end) {
            from = run.end;
            for page in run {
                let Some(frame) = cx.cache.frame(number, page).filter(|frame| frame.flight == KEPT) else {
                    continue;
                };
                (frame.flight, frame.dirty, frame.stamp) = (NONE, 0, NEVER);
                wanted |= std::mem::take(&mut frame.wanted);
                self.health.pages -= u32::from(std::mem::take(&mut frame.failed));
                cx.cache.dirty.clear(number, page);
                gone += 1;
            }
        }
        self.kept -= gone;
        self.throttle.credit(gone);
        self.counters.superseded += u64::from(gone);
        self.counters.failed = u64::from(self.health.pages);
        self.counters.dirty = u64::from(cx.cache.dirty.len(number));
        if cx.cache.dirty.is_empty(number) {
            self.health.nothing_dirty();
        }
        if wanted {
            self.look_again(pages);
        }
    }

    /// What is still kept back for a task may go out again.
    pub(super) fn let_go(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        if !std::mem::take(&mut self.tasks[usize::from(t)].keeps) {
            return;
        }
        let number = self.plan.number;
        let mut at = 0;
        while let Some(pages) = self.pages_of(t, at) {
            at += 1;
            let (mut from, mut wanted) = (pages.start, false);
            while let Some(run) = cx.cache.dirty.run_from(number, from..pages.end) {
                from = run.end;
                for page in run {
                    let Some(frame) = cx.cache.frame(number, page).filter(|frame| frame.flight == KEPT)
                    else {
                        continue;
                    };
                    frame.flight = NONE;
                    wanted |= std::mem::take(&mut frame.wanted);
                    cx.cache.dirty.retry(number, page..page + 1);
                    self.kept -= 1;
                }
            }
            if wanted {
                self.look_again(&pages);
            }
        }
        // Background destage may have nothing else to wake it.
        self.wake = cx.io.now();
    }

    /// Pages leave the cache: what the device has there is not what they hold. Of those that are still dirty (the device has
    /// not done what would have overwritten them) everything else does.
    fn forget(&mut self, cx: &mut StoreContext<'_>, pages: &Range<u64>) {
        let number = self.plan.number;
        // To look at each slot in its order costs far less than to look a page up.
        if (pages.end - pages.start) * 16 <= u64::from(cx.cache.pages.capacity()) {
            for page in pages.clone() {
                if let Some(slot) = cx.cache.find(number, page) {
                    Self::forget_slot(cx, slot);
                }
            }
            return;
        }
        let here = |slot: &Slot| pages.contains(&cx.cache.pages.key(*slot).page);
        let slots: Vec<Slot> = cx.cache.pages.slots_of(number).filter(here).collect();
        for slot in slots {
            Self::forget_slot(cx, slot);
        }
    }

    fn forget_slot(cx: &mut StoreContext<'_>, slot: Slot) {
        let frame = &mut cx.cache.pages[slot];
        if frame.dirty == 0 {
            cx.cache.remove(slot);
        } else {
            // A fill that has begun is of no use to it either.
            (frame.valid, frame.fill) = (frame.dirty, NONE);
        }
    }

    /// The device may still change those bytes, at any time until the volume behind is idle.
    fn doubt(&mut self, extent: Extent) {
        if self.doubtful.len() < MOST_DOUBTS {
            self.doubtful.push(extent);
        } else if let Some(last) = self.doubtful.last_mut() {
            *last = Extent { start: last.start.min(extent.start), end: last.end.max(extent.end) };
        }
        debug_assert!(extent.start >> PAGE_SHIFT <= extent.end >> PAGE_SHIFT);
    }
}
