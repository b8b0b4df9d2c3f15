//! READs: pages lent from the cache, and fills for what is not there.
//!
//! A READ is answered from one look at all its pages, in one call: so it sees all of a WRITE or nothing of it. Where pages
//! are missing, device reads (*fills*) bring them, whole pages straight into the cache; the pages of a read that waits are
//! pinned until it has looked.

use super::StoreContext;
use super::broken::{self, Broken};
use super::cache::Place;
use super::cached::{Cached, Whose, ended};
use super::frame::{Extent, Frame, NONE, PAGE, PAGE_SHIFT, WHOLE};
use super::task::{Step, lba};
use kagami_memory::{Class, Page, Purpose, Scatter, Slice};
use kagami_types::{Access, BlockError, BlockOp};
use kagami_volume::ranges::Mode;
use kagami_volume::{Outcome, Tag};
use std::ops::Range;

/// How often a read looks for its pages before it is given up.
const MOST_TRIES: u8 = 16;

/// What a look at the pages found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    All,
    Some,
    None,
}

impl Cached {
    #[inline]
    pub(super) fn read(
        &mut self,
        cx: &mut StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        access: Access,
        extent: Extent,
        mut data: Scatter,
    ) -> Option<Outcome> {
        data.clear();
        if extent.start == extent.end {
            return Some(ended(Ok(()), data));
        }
        // From the medium (SBC-4 5.11, FUA): the device does it, after it was given what is newer here.
        if access.fua || self.is_doubtful(extent) {
            return self.pass(cx, tag, op, extent, data);
        }
        let pages = extent.first()..extent.last();
        let blocked = self.exclusive > 0 && self.ranges.blocks(Mode::Shared, &pages);
        let found = if blocked { Found::None } else { self.gather(cx, extent, &mut data, !access.dpo) };
        let (there, coming) = if found == Found::All { (true, true) } else { self.look(cx, extent) };
        let ahead = self.streams.on_read(pages, coming);
        let outcome = match found {
            Found::All => {
                self.counters.hits += 1;
                Some(Outcome { result: Ok(()), data, status: Vec::new() })
            }
            found => {
                let found = if there { Found::Some } else { found };
                self.counters.misses += u64::from(found == Found::None);
                self.counters.partial += u64::from(found == Found::Some);
                self.miss(cx, tag, op, extent, data)
            }
        };
        if let Some(pages) = ahead
            && self.plan.ahead > 0
        {
            self.read_ahead(cx, pages);
        }
        if outcome.is_none() || !self.returned.is_empty() {
            self.work(cx);
        }
        outcome
    }

    /// Lends the pages, if all blocks are there. `count`: that is a use of them.
    #[inline]
    fn gather(
        &mut self,
        cx: &mut StoreContext<'_>,
        extent: Extent,
        data: &mut Scatter,
        count: bool,
    ) -> Found {
        let mut found = Found::All;
        for page in extent.first()..extent.last() {
            let Some(slot) = cx.cache.find(self.plan.number, page) else {
                found = if data.is_empty() { Found::None } else { Found::Some };
                break;
            };
            let base = page << PAGE_SHIFT;
            let start = extent.start.max(base) - base;
            let end = extent.end.min(base + PAGE) - base;
            let frame = &cx.cache.pages[slot];
            let mask = if end - start == PAGE { WHOLE } else { extent.mask(page) };
            let (Some(bytes), true) = (&frame.page, frame.valid & mask == mask) else {
                found = if data.is_empty() { Found::None } else { Found::Some };
                break;
            };
            let slice = slice(bytes, start, end);
            match slice {
                Some(slice) => data.push(slice),
                None => debug_assert!(false, "a part of a page that it has not"),
            }
            if count && cx.cache.pages.hit(slot) {
                self.counters.ahead_used += 1;
            }
        }
        if found != Found::All {
            data.clear();
        }
        found
    }

    #[cold]
    fn miss(
        &mut self,
        cx: &mut StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        extent: Extent,
        data: Scatter,
    ) -> Option<Outcome> {
        if extent.pages() > u64::from(cx.cache.held_limit()) {
            // More than the cache can bring together: the device does it.
            return self.pass(cx, tag, op, extent, data);
        }
        let t = match self.take_slot(cx, tag, op, extent, data) {
            Ok(t) => t,
            Err(outcome) => return Some(outcome),
        };
        if !self.lock(t, Mode::Shared) {
            self.tasks[usize::from(t)].step = Step::Read;
            self.advance_read(cx, t);
        }
        None
    }

    /// Whether some of the blocks are there, and whether all of them are there or on their way.
    #[cold]
    fn look(&self, cx: &mut StoreContext<'_>, extent: Extent) -> (bool, bool) {
        let (mut there, mut coming) = (false, true);
        for page in extent.first()..extent.last() {
            let mask = extent.mask(page);
            match cx.cache.frame(self.plan.number, page) {
                Some(frame) => {
                    there |= frame.valid & mask != 0;
                    coming &= frame.valid & mask == mask || frame.fill != NONE;
                }
                None => coming = false,
            }
            if there && !coming {
                break;
            }
        }
        (there, coming)
    }

    fn dpo(&self, t: u16) -> bool {
        matches!(&self.tasks[usize::from(t)].op, BlockOp::Read(_, access) if access.dpo)
    }

    /// Starts what a read still needs, or answers it where it has all.
    pub(super) fn advance_read(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        if let Some(fault) = self.tasks[usize::from(t)].fault {
            if self.tasks[usize::from(t)].fills == 0 {
                self.finish_with(cx, t, Err(fault.error));
            }
            return;
        }
        let extent = self.tasks[usize::from(t)].extent;
        if self.tasks[usize::from(t)].held == 0 {
            let pages = u32::try_from(extent.pages()).unwrap_or(u32::MAX);
            if !cx.cache.hold(self.plan.number, pages) {
                return self.starve(cx, t);
            }
            self.tasks[usize::from(t)].held = pages;
        }
        loop {
            if !self.cover(cx, t) {
                return self.starve(cx, t);
            }
            if self.tasks[usize::from(t)].fills > 0 {
                return;
            }
            let mut data = std::mem::take(&mut self.tasks[usize::from(t)].data);
            let found = self.gather(cx, extent, &mut data, false);
            if found == Found::All {
                return self.finish(cx, t, Outcome { result: Ok(()), data, status: Vec::new() });
            }
            // A fill failed for somebody else's blocks, or for want of something: once more from the start.
            self.tasks[usize::from(t)].data = data;
            self.unpin_pages(cx, t);
            let task = &mut self.tasks[usize::from(t)];
            task.tries += 1;
            if task.tries > MOST_TRIES {
                return self.finish_with(cx, t, Err(BlockError::Busy));
            }
        }
    }

    /// Pins a read's pages, and joins or starts fills for those that are not there. False: there was no room for some.
    fn cover(&mut self, cx: &mut StoreContext<'_>, t: u16) -> bool {
        let number = self.plan.number;
        let (extent, serial) = (self.tasks[usize::from(t)].extent, self.tasks[usize::from(t)].serial);
        let dpo = self.dpo(t);
        let place = self.place(cx, dpo);
        while self.tasks[usize::from(t)].pinned < extent.last() {
            let page = self.tasks[usize::from(t)].pinned;
            let state = cx.cache.frame(number, page).map(|frame| (frame.valid, frame.fill));
            let needed = extent.mask(page);
            let (mut join, mut used) = (None, false);
            match state {
                Some((valid, _)) if valid & needed == needed => used = true,
                Some((_, fill)) if fill != NONE => {
                    used = self.fills[usize::from(fill)].ahead;
                    join = Some(fill);
                }
                _ => match self.start_fill(cx, page..extent.last(), place, false) {
                    Some(fill) => join = Some(fill),
                    None => return false,
                },
            }
            if let Some(fill) = join {
                let waiters = &mut self.fills[usize::from(fill)].waiters;
                if waiters.last() != Some(&(t, serial)) {
                    waiters.push((t, serial));
                    self.tasks[usize::from(t)].fills += 1;
                }
            }
            if let Some(slot) = cx.cache.find(number, page) {
                let frame = &mut cx.cache.pages[slot];
                frame.pins = frame.pins.saturating_add(1);
                self.counters.pinned += 1;
                // The read that brings a page is its arrival and not a use.
                if used && !dpo && cx.cache.pages.hit(slot) {
                    self.counters.ahead_used += 1;
                }
            }
            self.tasks[usize::from(t)].pinned += 1;
        }
        true
    }

    /// A read has to wait for room.
    fn starve(&mut self, cx: &StoreContext<'_>, t: u16) {
        if !self.starved.contains(&t) {
            self.starved.push_back(t);
        }
        self.retry_soon(cx);
    }

    /// Lets the reads that wait for room look again, in order.
    pub(super) fn feed(&mut self, cx: &mut StoreContext<'_>) {
        for _ in 0..self.starved.len() {
            let Some(t) = self.starved.pop_front() else { return };
            if self.tasks[usize::from(t)].live && self.tasks[usize::from(t)].step == Step::Read {
                self.advance_read(cx, t);
            }
            if self.starved.contains(&t) {
                // No room still; it keeps its place before those behind it.
                self.starved.retain(|&starved| starved != t);
                self.starved.push_front(t);
                return;
            }
        }
    }

    pub(super) fn unpin_pages(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        let task = &mut self.tasks[usize::from(t)];
        let first = task.extent.first();
        let pinned = first..task.pinned;
        task.pinned = first;
        for page in pinned {
            let Some(slot) = cx.cache.find(self.plan.number, page) else { continue };
            let frame = &mut cx.cache.pages[slot];
            frame.pins = frame.pins.saturating_sub(1);
            self.counters.pinned -= 1;
            cx.cache.settle(slot);
        }
    }

    /// A task holds no page any more.
    pub(super) fn unpin(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        self.unpin_pages(cx, t);
        let held = std::mem::take(&mut self.tasks[usize::from(t)].held);
        if held > 0 {
            cx.cache.unhold(self.plan.number, held);
        }
    }

    /// Reads the first pages of a run that are not in the cache and not on their way. `None`: no fill or no room.
    fn start_fill(
        &mut self,
        cx: &mut StoreContext<'_>,
        pages: Range<u64>,
        place: Place,
        ahead: bool,
    ) -> Option<u16> {
        let number = self.plan.number;
        let most = pages.end.min(pages.start.saturating_add(u64::from(self.run_pages())));
        let fill = *self.free_fills.last()?;
        let mut end = pages.start;
        let mut new = 0;
        while end < most {
            let whole = self.whole(end);
            match cx.cache.frame(number, end) {
                None => new += 1,
                Some(frame) if frame.fill == NONE && frame.valid & whole != whole => {}
                Some(_) => break,
            }
            end += 1;
        }
        if end == pages.start {
            return None;
        }
        // Those that are there must not go while room is made for the others.
        for page in pages.start..end {
            if let Some(frame) = cx.cache.frame(number, page) {
                frame.fill = fill;
            }
        }
        let mut room = cx.cache.make_room(cx.pool, new);
        if room {
            for page in pages.start..end {
                if cx.cache.find(number, page).is_none() {
                    let frame = Frame { fill, ..Frame::empty() };
                    room &= cx.cache.insert(number, page, frame, place).is_some();
                }
            }
        }
        if !room {
            self.unfill(cx, fill, pages.start..end);
            return None;
        }
        self.free_fills.pop();
        let state = &mut self.fills[usize::from(fill)];
        (state.live, state.first, state.end, state.ahead) = (true, pages.start, end, ahead);
        state.waiters.clear();
        self.counters.fills += 1;
        let range = self.blocks(self.bytes_of(&(pages.start..end)));
        let list = self.spare_list();
        self.hand(cx, Whose::Fill(fill), BlockOp::Read(range, Access::default()), list);
        Some(fill)
    }

    /// Pages of one device operation.
    pub(super) fn run_pages(&self) -> u32 {
        let most = self.volume.largest_undivided().0 << self.geometry.block_size.shift() >> PAGE_SHIFT;
        self.plan.run.min(u32::try_from(most).unwrap_or(u32::MAX)).max(1)
    }

    /// Nothing comes of a fill for those pages.
    fn unfill(&mut self, cx: &mut StoreContext<'_>, fill: u16, pages: Range<u64>) {
        for page in pages {
            let Some(slot) = cx.cache.find(self.plan.number, page) else { continue };
            let frame = &mut cx.cache.pages[slot];
            if frame.fill == fill {
                frame.fill = NONE;
                cx.cache.settle(slot);
            }
        }
    }

    /// A device read for the cache is done.
    pub(super) fn fill_done(&mut self, cx: &mut StoreContext<'_>, fill: u16, mut outcome: Outcome) {
        let Some(state) = self.fills.get_mut(usize::from(fill)).filter(|state| state.live) else {
            debug_assert!(false, "an outcome of no fill");
            return;
        };
        let pages = state.first..state.end;
        let mut waiters = std::mem::take(&mut state.waiters);
        state.live = false;
        if std::mem::take(&mut state.ahead) {
            self.ahead_fills -= 1;
            cx.cache.unhold(self.plan.number, u32::try_from(pages.end - pages.start).unwrap_or(u32::MAX));
        }
        if outcome.result.is_ok() {
            self.take_in(cx, fill, pages.clone(), &mut outcome.data);
        } else {
            self.counters.fill_errors += u64::from(outcome.result != Err(BlockError::Busy));
        }
        self.unfill(cx, fill, pages);
        self.put_list(outcome.data);
        for (t, serial) in waiters.drain(..) {
            let task = &mut self.tasks[usize::from(t)];
            if !task.live || task.serial != serial {
                continue;
            }
            task.fills -= 1;
            let first = task.extent.start;
            match outcome.result {
                Ok(()) => {}
                // No slot or page at the volume behind: again.
                Err(BlockError::Busy) => {
                    task.tries = task.tries.saturating_sub(1);
                    if task.fills == 0 {
                        self.unpin_pages(cx, t);
                        self.starve(cx, t);
                    }
                    continue;
                }
                Err(error @ BlockError::ReadMedium(bad)) => {
                    let at = self.geometry.block_size.offset(bad);
                    if at >= task.extent.start && at < task.extent.end {
                        task.fail(at, error);
                    } else {
                        // Somebody else's block: only its own are read then, past the cache.
                        task.narrow = true;
                    }
                }
                Err(error) => task.fail(first, error),
            }
            self.progress(cx, t);
            if self.tasks[usize::from(t)].fills == 0 {
                self.end_fills(cx, t);
            }
        }
        self.fills[usize::from(fill)].waiters = waiters;
        self.free_fills.push(fill);
        self.feed(cx);
    }

    /// The last fill that a read waited for is over.
    fn end_fills(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        let task = &mut self.tasks[usize::from(t)];
        if !std::mem::take(&mut task.narrow) || task.fault.is_some() {
            return self.advance_read(cx, t);
        }
        self.unpin(cx, t);
        self.starved.retain(|&starved| starved != t);
        self.unlock(t);
        self.tasks[usize::from(t)].step = Step::Blocked;
        if !self.lock_through(t) {
            self.begin_through(cx, t);
        }
    }

    /// Puts what a fill has read into the frames that wait for it.
    fn take_in(&mut self, cx: &mut StoreContext<'_>, fill: u16, pages: Range<u64>, data: &mut Scatter) {
        let number = self.plan.number;
        let last = pages.end.saturating_sub(1);
        let count = usize::try_from(pages.end - pages.start).unwrap_or(usize::MAX);
        let tail = self.bytes_of(&(last..pages.end));
        // As the volume gives them, each part is a page; a device of odd transfers may cut them smaller.
        let in_pages = data.parts().len() == count
            && data.parts().iter().enumerate().all(|(at, part)| {
                let len = if at + 1 == count { tail.end - tail.start } else { PAGE };
                part.offset() == 0 && u64::from(part.len()) == len && part.page().class() == Class::Page
            });
        if in_pages {
            for (page, part) in pages.zip(data.drain()) {
                self.take_page(cx, fill, page, number, part.into_page());
            }
            return;
        }
        for (at, page) in pages.enumerate() {
            let Some(mut copy) = cx.pool.take(Class::Page, Purpose::Internal) else { return };
            data.copy_into(&mut copy, at << PAGE_SHIFT);
            self.take_page(cx, fill, page, number, copy.freeze());
        }
    }

    fn take_page(&mut self, cx: &mut StoreContext<'_>, fill: u16, page: u64, number: u16, bytes: Page) {
        let whole = self.whole(page);
        let Some(frame) = cx.cache.frame(number, page).filter(|frame| frame.fill == fill) else { return };
        let missing = whole & !frame.valid;
        if missing == 0 {
            return;
        }
        let over = broken::is(Broken::FillOverWrite);
        let Some(newer) = frame.page.take().filter(|_| frame.valid != 0 && !over) else {
            (frame.page, frame.valid) = (Some(bytes), whole);
            return;
        };
        // What was written since is newer than what was read.
        match bytes.try_into_mut() {
            Ok(mut merged) => {
                super::write::copy_sectors(&mut merged, &newer, frame.valid);
                (frame.page, frame.valid) = (Some(merged.freeze()), whole);
            }
            Err(_) => frame.page = Some(newer),
        }
    }

    /// Reads pages that a stream will want, as far as there is room.
    pub(super) fn read_ahead(&mut self, cx: &mut StoreContext<'_>, pages: Range<u64>) {
        let number = self.plan.number;
        let end = pages.end.min(self.geometry.bytes().div_ceil(PAGE));
        let mut page = pages.start;
        while page < end {
            let whole = self.whole(page);
            let here = cx.cache.frame(number, page).map(|frame| (frame.valid, frame.fill));
            if here.is_some_and(|(valid, fill)| fill != NONE || valid & whole == whole) {
                page += 1;
                continue;
            }
            // Device reads of like size: not two long ones and a short one.
            let rest = end - page;
            let run = page..page + rest.div_ceil(rest.div_ceil(u64::from(self.run_pages())));
            let bytes = self.bytes_of(&run);
            let in_the_way = self.ranges.blocks(Mode::Shared, &run) || self.is_doubtful(bytes);
            let short = self.free_fills.len() <= self.fills.len() / 4
                || self.ahead_fills >= self.fills.len() / 2
                || cx.cache.is_tight(cx.pool);
            let held = u32::try_from(run.end - run.start).unwrap_or(u32::MAX);
            if in_the_way || short || !cx.cache.hold(number, held) {
                self.counters.ahead_dropped += 1;
                return;
            }
            let Some(fill) = self.start_fill(cx, run, Place::Ahead, true) else {
                cx.cache.unhold(self.plan.number, held);
                self.counters.ahead_dropped += 1;
                return;
            };
            let state = &self.fills[usize::from(fill)];
            let read = u32::try_from(state.end - state.first).unwrap_or(u32::MAX);
            page = state.end;
            // The rest of the reservation: the fill gives back only what it reads.
            cx.cache.unhold(number, held.saturating_sub(read));
            self.ahead_fills += 1;
            self.counters.ahead_pages += u64::from(read);
        }
    }

    /// Tells the streams what was read ahead for nothing.
    pub(super) fn look_at_waste(&mut self, cx: &mut StoreContext<'_>) {
        let Some(row) = cx.cache.row(self.plan.number) else { return };
        let (wasted, page) = (std::mem::take(&mut row.wasted), row.wasted_page);
        if wasted > 0 {
            self.counters.ahead_wasted += u64::from(wasted);
            self.streams.on_evicted_unused(page);
        }
    }

    /// Whether a timed-out operation of the device's may still change those bytes.
    #[inline]
    pub(super) fn is_doubtful(&self, extent: Extent) -> bool {
        !self.doubtful.is_empty() && self.doubtful.iter().any(|doubt| doubt.meets(extent))
    }

    /// The block that a byte is in.
    pub(super) fn lba(&self, at: u64) -> kagami_types::Lba {
        lba(self.geometry.block_size, at)
    }
}

/// A part of a page.
#[inline]
fn slice(page: &Page, start: u64, end: u64) -> Option<Slice> {
    if end - start == PAGE {
        return Some(Slice::whole(page.clone()));
    }
    Slice::new(page.clone(), u32::try_from(start).ok()?, u32::try_from(end - start).ok()?).ok()
}
