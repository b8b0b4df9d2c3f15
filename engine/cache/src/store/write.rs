//! WRITEs: into the cache, all at once, or not yet.
//!
//! Whole pages of a command's data become the cache's pages. The rest is copied: into a page that nobody else names where
//! it lies, else into a new one. A page that is being destaged, sent or lent is never written.

use super::cached::{Cached, ended};
use super::frame::{Extent, Frame, PAGE, PAGE_SHIFT, WHOLE};
use super::task::Step;
use super::{Cache, StoreContext};
use crate::Slot;
use kagami_memory::{Class, Page, Purpose, Scatter};
use kagami_types::{Access, BlockError, BlockOp};
use kagami_volume::ranges::Mode;
use kagami_volume::{Outcome, Tag};

/// Whether a write is in the cache now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Install {
    Done,
    /// It waits for destage.
    Wait,
    /// It waits for pages, or for another volume's destage: nobody says when that is.
    Retry,
}

impl Cached {
    #[inline]
    pub(super) fn write(
        &mut self,
        cx: &mut StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        access: Access,
        extent: Extent,
        mut data: Scatter,
    ) -> Option<Outcome> {
        if extent.start == extent.end {
            return Some(ended(Ok(()), data));
        }
        if extent.pages() > u64::from(self.plan.dirty.min(cx.cache.dirty_limit)) {
            return Some(ended(Err(BlockError::Unsupported), data));
        }
        let stable = access.fua || !self.write_back;
        let pages = extent.first()..extent.last();
        let through = stable || !self.space.has(&pages);
        let blocked = !self.ranges.is_empty() && self.ranges.blocks(Mode::Write, &pages);
        if !blocked
            && !through
            && self.waiting.is_empty()
            && self.install(cx, extent, &mut data, access.dpo) == Install::Done
        {
            return Some(ended(Ok(()), data));
        }
        let t = match self.take_slot(cx, tag, op, extent, data) {
            Ok(t) => t,
            Err(outcome) => return Some(outcome),
        };
        if !self.lock(t, Mode::Write) {
            self.tasks[usize::from(t)].step = Step::Admit;
            self.waiting.push_back(t);
        }
        self.work(cx);
        if !through && self.waiting.back() == Some(&t) {
            self.counters.throttled += 1;
        }
        None
    }

    /// Takes writes that wait into the cache, in order, as far as they may.
    pub(super) fn take_waiting(&mut self, cx: &mut StoreContext<'_>) {
        while let Some(&t) = self.waiting.front() {
            let task = &mut self.tasks[usize::from(t)];
            if !task.live || task.step != Step::Admit {
                debug_assert!(false, "a write that waits and is none");
                self.waiting.pop_front();
                continue;
            }
            let extent = task.extent;
            let access = match &task.op {
                BlockOp::Write(_, access) => *access,
                _ => Access::default(),
            };
            let began = task.began;
            if let Some(error) = self.health.refusal(cx.io.now()) {
                self.finish_with(cx, t, Err(error));
                continue;
            }
            let mut data = std::mem::take(&mut self.tasks[usize::from(t)].data);
            let installed = self.install(cx, extent, &mut data, access.dpo);
            self.tasks[usize::from(t)].data = data;
            if installed == Install::Retry {
                self.retry_soon(cx);
            }
            if installed != Install::Done {
                return;
            }
            self.waiting.pop_front();
            self.counters.throttled_nanos += cx.io.now().nanos_since(began);
            let task = &mut self.tasks[usize::from(t)];
            task.data.clear();
            let stable = access.fua || !self.write_back;
            let pages = extent.first()..extent.last();
            if stable || !self.space.has(&pages) {
                task.step = Step::Drain;
                self.progress(cx, t);
                self.unlock(t);
                self.begin_drain(t, pages, stable);
                self.drain_goes_on(cx, t);
            } else {
                task.step = Step::Drain;
                self.finish_with(cx, t, Ok(()));
            }
        }
    }

    /// Puts a whole write into the cache, if it may go there now.
    #[inline]
    fn install(
        &mut self,
        cx: &mut StoreContext<'_>,
        extent: Extent,
        data: &mut Scatter,
        dpo: bool,
    ) -> Install {
        let number = self.plan.number;
        let pages = u32::try_from(extent.pages()).unwrap_or(u32::MAX);
        let (mut new, mut fresh) = (0, 0);
        let mut slot = None;
        for page in extent.first()..extent.last() {
            slot = cx.cache.find(number, page);
            match slot {
                None => (new, fresh) = (new + 1, fresh + 1),
                Some(slot) => fresh += u32::from(cx.cache.pages[slot].dirty == 0),
            }
        }
        // Of a single page that is there: no room is made, so it stays where it is.
        let known = slot.filter(|_| pages == 1);
        let dirty = cx.cache.dirty.len(number);
        let most = cx.cache.may_be_dirty(self.plan.dirty, fresh);
        if fresh > 0 && dirty > 0 && dirty + fresh > most {
            return Install::Wait;
        }
        let run = extent.first()..extent.last();
        let is_full = |cache: &Cache| {
            cache.dirty.total() + fresh > cache.dirty_limit || !cache.dirty.has_room_for(&run, fresh)
        };
        if fresh > 0 && is_full(cx.cache) {
            return Install::Retry;
        }
        let adopt = in_pages(extent, data);
        let copies = if adopt { extent.mask_is_partial() } else { pages };
        self.scratch.clear();
        if copies > 0 && !self.scratch.take_more(cx.pool, Purpose::Host, (copies as usize) << PAGE_SHIFT) {
            self.scratch.clear();
            cx.cache.reclaim(copies);
            return Install::Retry;
        }
        // Frames that it will overwrite must not go while room is made for the others.
        if new > 0 && !self.room_for(cx, extent, new) {
            return Install::Retry;
        }
        if fresh > 0 {
            self.throttle.set_limits(most / 2, most);
            if !self.throttle.admit(fresh, dirty) {
                return Install::Wait;
            }
        }
        if dirty == 0 {
            self.dirty_since = cx.io.now();
        }
        self.clock += 1;
        if adopt {
            self.adopt(cx, extent, data, dpo, known);
        } else {
            self.copy(cx, extent, data, dpo);
        }
        self.scratch.clear();
        self.counters.dirty = u64::from(cx.cache.dirty.len(number));
        self.wake = self.wake.min(self.dirty_alarm(cx));
        Install::Done
    }

    fn room_for(&mut self, cx: &mut StoreContext<'_>, extent: Extent, new: u32) -> bool {
        let number = self.plan.number;
        let some_there = u64::from(new) < extent.pages();
        let pin = |cx: &mut StoreContext<'_>, by: i32| {
            for page in extent.first()..extent.last() {
                // Made room for, so this is a walk over what is there; a new frame has no pin to lose.
                if let Some(frame) = cx.cache.frame(number, page) {
                    frame.pins = frame.pins.saturating_add_signed(i16::try_from(by).unwrap_or(0));
                }
            }
        };
        if some_there {
            pin(cx, 1);
        }
        let room = cx.cache.make_room(cx.pool, new);
        if some_there {
            pin(cx, -1);
        }
        room
    }

    /// The data's pages become the cache's. `known`: where the only page is.
    #[inline]
    fn adopt(
        &mut self,
        cx: &mut StoreContext<'_>,
        extent: Extent,
        data: &mut Scatter,
        dpo: bool,
        known: Option<Slot>,
    ) {
        for (page, part) in (extent.first()..extent.last()).zip(data.drain()) {
            let mask = extent.mask(page);
            let whole = mask == WHOLE;
            if whole {
                self.counters.in_place_bytes += PAGE;
                let slot = known.or_else(|| cx.cache.find(self.plan.number, page));
                self.put_at(cx, page, slot, mask, dpo, |frame, _| frame.page = Some(part.into_page()));
                continue;
            }
            let len = part.len();
            let alone = cx.cache.frame(self.plan.number, page).is_none_or(|frame| frame.valid & !mask == 0);
            if alone {
                // Nothing else of the page is known: the rest of it is not valid.
                self.counters.in_place_bytes += u64::from(len);
                self.put(cx, page, mask, dpo, |frame, _| frame.page = Some(part.into_page()));
            } else {
                self.counters.copied_bytes += u64::from(len);
                let bytes = part.page();
                self.put(cx, page, mask, dpo, |frame, spare| {
                    write_into(frame, spare, mask, |to| copy_sectors(to, bytes, mask));
                });
            }
        }
    }

    /// The data is copied, as it does not lie as the cache's pages do.
    fn copy(&mut self, cx: &mut StoreContext<'_>, extent: Extent, data: &Scatter, dpo: bool) {
        let mut parts = data.spans();
        let mut rest: &[u8] = &[];
        for page in extent.first()..extent.last() {
            let mask = extent.mask(page);
            let base = page << PAGE_SHIFT;
            let start = usize::try_from(extent.start.max(base) - base).unwrap_or(0);
            let end = usize::try_from(extent.end.min(base + PAGE) - base).unwrap_or(0);
            self.counters.copied_bytes += (end - start) as u64;
            self.put(cx, page, mask, dpo, |frame, spare| {
                write_into(frame, spare, mask, |to| {
                    let mut to = to.get_mut(start..end).unwrap_or_default();
                    while !to.is_empty() {
                        if rest.is_empty() {
                            match parts.next() {
                                Some(span) => rest = span.bytes(),
                                None => return,
                            }
                        }
                        let (now, later) = rest.split_at(rest.len().min(to.len()));
                        let (here, after) = to.split_at_mut(now.len());
                        here.copy_from_slice(now);
                        (rest, to) = (later, after);
                    }
                });
            });
        }
    }

    /// Makes some sectors of a page valid and dirty, with the bytes that `fill` puts into the frame.
    fn put(
        &mut self,
        cx: &mut StoreContext<'_>,
        page: u64,
        mask: u8,
        dpo: bool,
        fill: impl FnOnce(&mut Frame, &mut kagami_memory::ScatterMut),
    ) {
        let slot = cx.cache.find(self.plan.number, page);
        self.put_at(cx, page, slot, mask, dpo, fill);
    }

    /// As [`put`](Self::put), where the page's slot is known, or that there is none.
    #[inline]
    fn put_at(
        &mut self,
        cx: &mut StoreContext<'_>,
        page: u64,
        slot: Option<Slot>,
        mask: u8,
        dpo: bool,
        fill: impl FnOnce(&mut Frame, &mut kagami_memory::ScatterMut),
    ) {
        let number = self.plan.number;
        let slot = match slot {
            Some(slot) => {
                if !dpo {
                    cx.cache.pages.hit(slot);
                }
                slot
            }
            None => match cx.cache.insert(number, page, Frame::empty(), self.place(cx, dpo)) {
                Some(slot) => slot,
                None => {
                    debug_assert!(false, "room was made for it");
                    return;
                }
            },
        };
        let frame = &mut cx.cache.pages[slot];
        let fresh = frame.dirty == 0;
        fill(frame, &mut self.scratch);
        frame.valid |= mask;
        frame.dirty |= mask;
        // What is on its way to the device is not this any more.
        if !super::broken::is(super::broken::Broken::CleanByOldFlight) {
            frame.flying &= !mask;
        }
        frame.stamp = frame.stamp.min(self.clock);
        // Without room, a page that is dirty already goes into a sweep when its flight is over.
        let marked = cx.cache.dirty.mark(number, page);
        debug_assert!(marked || !fresh, "room was made for it");
    }
}

impl Extent {
    /// How many of its pages it covers only in part: none, one or two.
    fn mask_is_partial(self) -> u32 {
        let first = self.first();
        let last = self.last() - 1;
        let head = u32::from(self.mask(first) != WHOLE);
        if first == last { head } else { head + u32::from(self.mask(last) != WHOLE) }
    }
}

/// Whether the data lies in pages as the cache's do: it begins where a page does, and each part is one.
#[inline]
fn in_pages(extent: Extent, data: &Scatter) -> bool {
    extent.start.is_multiple_of(PAGE)
        && data.parts().len() as u64 == extent.pages()
        && data.parts().iter().enumerate().all(|(at, part)| {
            let last = at as u64 + 1 == extent.pages();
            part.offset() == 0
                && part.page().class() == Class::Page
                && (last || u64::from(part.len()) == PAGE)
        })
}

/// Copies sectors to the same places of another page.
pub(super) fn copy_sectors(to: &mut [u8], from: &Page, mask: u8) {
    let mut left = mask;
    while let Some((start, end)) = super::frame::first_run(left) {
        let (from_, to_) = (start as usize, end as usize);
        if let (Some(to), Some(from)) = (to.get_mut(from_..to_), from.get(from_..to_)) {
            to.copy_from_slice(from);
        }
        left &= !super::frame::sectors(start, end);
    }
}

/// Changes a part of a frame's page: in place where nobody else names it, else in a new one.
fn write_into(
    frame: &mut Frame,
    spare: &mut kagami_memory::ScatterMut,
    mask: u8,
    write: impl FnOnce(&mut [u8]),
) {
    let keep = frame.valid & !mask;
    let old = match frame.page.take().map(Page::try_into_mut) {
        Some(Ok(mut page)) => {
            write(&mut page);
            frame.page = Some(page.freeze());
            return;
        }
        Some(Err(old)) => Some(old),
        None => None,
    };
    let Some(new) = spare.pop() else {
        debug_assert!(false, "a page was taken for it");
        frame.page = old;
        return;
    };
    let mut new = new.into_page();
    if let Some(old) = &old
        && keep != 0
    {
        copy_sectors(&mut new, old, keep);
    }
    write(&mut new);
    frame.page = Some(new.freeze());
}
