//! From a task's step to device operations, and their way into the ring.

use super::device::Doing;
use super::task::{Piece, Source, Step, Task};
use super::{BULK_WIDTH, CHECK_CHUNK, CHECK_WIDTH, Disk, FILL_WIDTH, PAGE, RETRY, SMALL, length};
use crate::check::Extent;
use crate::cursor::cursor;
use crate::outcome::Context;
use crate::plan::DeviceLimits;
use kagami_memory::{Purpose, Scatter, ScatterMut};
use kagami_reactor::{Op, Token};
use kagami_types::{BlockOp, Time};

/// The most pieces of memory in one device operation; the ring takes 1024.
const MAX_RUNS: usize = 1000;

/// Whether the device can take those bytes from where they are.
pub(super) fn fits(limits: &DeviceLimits, data: &Scatter, from: usize, len: usize) -> bool {
    let memory = limits.memory_align as usize;
    // Each piece of memory ends where a block does; no device has blocks beyond a page.
    let unit = (limits.align as usize).min(length(PAGE));
    let mut runs = 0;
    let aligned = data.runs(from, len).all(|run| {
        runs += 1;
        run.pointer.addr().is_multiple_of(memory) && run.len.is_multiple_of(unit)
    });
    // A list longer than one device operation is cut, and each part then has fewer.
    aligned && (runs <= MAX_RUNS || runs <= len / length(PAGE))
}

/// Where a read or write that begins at `offset` has to stop: at `end`, after `chunk` bytes, or where the
/// device would split it.
pub(super) fn stop(limits: &DeviceLimits, offset: u64, end: u64, chunk: u64) -> u64 {
    let stop = end.min(offset.saturating_add(chunk));
    match u64::from(limits.boundary) {
        0 => stop,
        boundary => stop.min((offset - offset % boundary).saturating_add(boundary)),
    }
}

/// What became of the task at the head of the queue.
enum Turn {
    /// A device operation of it, to be launched.
    Launch(Piece, Op),
    /// It needs pages and there are none.
    NoPages,
    /// It has to wait until fewer others discard.
    Later,
}

impl Disk {
    /// Starts what can be started, in the order of the queue.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>) {
        self.retry_at = Time::NEVER;
        while let Some((index, op)) = self.held.pop_front() {
            if !self.launch(cx, index, op) {
                break;
            }
        }
        loop {
            while let Some(t) = self.startable.pop_front() {
                self.advance(cx, t);
            }
            self.start_flush(cx);
            if !self.turn(cx) && self.startable.is_empty() {
                return;
            }
        }
    }

    /// Puts a task into the queue, where it has something to issue and is not there yet.
    pub(super) fn enqueue(&mut self, t: u16) {
        let task = &mut self.tasks[usize::from(t)];
        if task.has_more() && !task.queued && task.flying < width(task) {
            task.queued = true;
            self.ready.push_back(t);
        }
    }

    /// Gives the task at the head of the queue its turn. False: nothing more can be started now.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.held.is_empty() || self.free_pieces.is_empty() {
            return false;
        }
        let Some(&t) = self.ready.front() else { return false };
        let task = &mut self.tasks[usize::from(t)];
        if !task.has_more() {
            // One of its device operations has failed since.
            task.queued = false;
            self.ready.pop_front();
            return true;
        }
        let turn = match self.tasks[usize::from(t)].step {
            Step::Read | Step::Check | Step::Probe => self.read(cx, t),
            Step::Edges => self.read_edge(cx, t),
            Step::Fill => self.write(cx, t),
            Step::Bulk => self.bulk(t),
            // Neither is ever in the queue.
            Step::Blocked | Step::Flush => Turn::Later,
        };
        if let Turn::NoPages = turn {
            self.retry_at = cx.io.now() + RETRY;
            return false;
        }
        self.ready.pop_front();
        let task = &mut self.tasks[usize::from(t)];
        task.queued = false;
        match turn {
            Turn::Launch(piece, op) => {
                task.flying += 1;
                self.enqueue(t);
                if let Some(index) = self.free_pieces.pop() {
                    self.pieces[usize::from(index)] = piece;
                    self.launch(cx, index, op);
                }
            }
            Turn::Later if task.step == Step::Bulk => self.bulk_waiting.push_back(t),
            Turn::Later | Turn::NoPages => {}
        }
        true
    }

    /// Hands an operation to the device, or keeps it until there is room: then false.
    pub(super) fn launch(&mut self, cx: &mut Context<'_>, index: u16, op: Op) -> bool {
        let token = Token(self.token_base | u64::from(index));
        match self.device.submit(cx.io, token, op) {
            Ok(()) => {
                self.counters.device_ops += 1;
                let piece = self.pieces[usize::from(index)];
                if piece.doing != Doing::Flush {
                    self.tasks[usize::from(piece.task)].issued = true;
                }
                true
            }
            Err(op) => {
                self.held.push_front((index, op));
                self.retry_at = cx.io.now() + RETRY;
                false
            }
        }
    }

    /// Starts a flush for all that wait for one, unless one is running.
    fn start_flush(&mut self, cx: &mut Context<'_>) {
        if self.flushes.running || self.flushes.next.is_empty() || !self.held.is_empty() {
            return;
        }
        let Some(index) = self.free_pieces.pop() else { return };
        std::mem::swap(&mut self.flushes.now, &mut self.flushes.next);
        self.flushes.running = true;
        // What is written from here on is not covered.
        (self.unflushed, self.written) = (false, false);
        for &t in &self.flushes.now {
            self.tasks[usize::from(t)].issued = true;
        }
        self.pieces[usize::from(index)] = Piece { busy: true, ..Piece::IDLE };
        let op = Op::Flush(self.device.file());
        self.launch(cx, index, op);
    }

    /// The next piece of a run that is read.
    fn read(&mut self, cx: &Context<'_>, t: u16) -> Turn {
        let task = &mut self.tasks[usize::from(t)];
        let chunk = if task.step == Step::Check { self.chunk.min(CHECK_CHUNK) } else { self.chunk };
        let offset = task.cursor;
        let part = task.part;
        let len = stop(&self.limits, offset, task.end, chunk) - offset;
        let mut list = self.spare.pages();
        if !list.take_more(cx.pool, Purpose::Host, length(len)) {
            self.spare.put_pages(list);
            return Turn::NoPages;
        }
        task.cursor += len;
        task.part += 1;
        let piece = Piece { busy: true, task: t, part, offset, len, doing: Doing::Read, ..Piece::IDLE };
        Turn::Launch(piece, Op::Read(self.device.file(), offset, list))
    }

    /// The first or the last unit of what is written only partly. Its pages may come from the
    /// reserve: the write that waits for them holds more.
    fn read_edge(&mut self, cx: &Context<'_>, t: u16) -> Turn {
        let task = &self.tasks[usize::from(t)];
        let hull = self.hull(task.fill);
        let len = u64::from(self.limits.align);
        let part = length(task.cursor);
        let offset = if part == 0 { hull.start } else { hull.end() - len };
        let mut list = self.spare.pages();
        if !list.take_more(cx.pool, Purpose::Internal, length(len)) {
            self.spare.put_pages(list);
            return Turn::NoPages;
        }
        self.tasks[usize::from(t)].cursor += 1;
        let piece = Piece { busy: true, task: t, part, offset, len, doing: Doing::Read, ..Piece::IDLE };
        Turn::Launch(piece, Op::Read(self.device.file(), offset, list))
    }

    /// The next piece of a run that is written.
    fn write(&mut self, cx: &Context<'_>, t: u16) -> Turn {
        let task = &self.tasks[usize::from(t)];
        let (offset, end) = self.cut(task);
        let Some((data, whole)) = self.gather(cx, t, Extent { start: offset, len: end - offset }) else {
            return Turn::NoPages;
        };
        let task = &mut self.tasks[usize::from(t)];
        task.cursor = end;
        let stable = task.stability == super::task::Stability::Itself;
        let len = end - offset;
        if let Some(holes) = &mut self.holes {
            holes.written(offset, len);
        }
        let piece =
            Piece { busy: true, task: t, offset, len, doing: Doing::Write, whole, stable, ..Piece::IDLE };
        Turn::Launch(piece, Op::Write { file: self.device.file(), offset, data, stable })
    }

    /// Where the next piece to be written begins and ends. In a long run, units that are written partly
    /// are pieces of their own, so that only they are copied.
    fn cut(&self, task: &Task) -> (u64, u64) {
        let align = u64::from(self.limits.align);
        let start = task.cursor;
        let mut end = stop(&self.limits, start, task.end, self.chunk);
        if task.end - task.start > SMALL {
            let last = task.end - align;
            if start == task.start && task.fill.start > start {
                end = start + align;
            } else if task.fill.end() < task.end && start < last {
                end = end.min(last);
            }
        }
        (start, end)
    }

    /// The bytes to be written there, and whether they are the task's whole list. `None`: no pages.
    fn gather(&mut self, cx: &Context<'_>, t: u16, piece: Extent) -> Option<(Scatter, bool)> {
        let hull = self.hull(self.tasks[usize::from(t)].fill);
        let task = &mut self.tasks[usize::from(t)];
        let fill = task.fill;
        if piece.start >= fill.start && piece.end() <= fill.end() {
            let len = length(piece.len);
            match task.source {
                Source::Data(base) => {
                    let from = base + length(piece.start - fill.start);
                    if len == task.data.len_bytes() && fits(&self.limits, &task.data, 0, len) {
                        return Some((std::mem::take(&mut task.data), true));
                    }
                    if fits(&self.limits, &task.data, from, len) {
                        let mut list = self.spare.list();
                        list.push_range(&task.data, from, len);
                        return Some((list, false));
                    }
                }
                Source::Page | Source::Zeroes => {
                    let mut list = self.spare.list();
                    list.push_repeated(task.page.as_ref().unwrap_or(&self.zeroes), len);
                    return Some((list, false));
                }
            }
        }
        // Copied together, with what the device has around it. These pages may come from the reserve,
        // as for the edges.
        let mut pages = self.spare.pages();
        if !pages.take_more(cx.pool, Purpose::Internal, length(piece.len)) {
            self.spare.put_pages(pages);
            return None;
        }
        self.counters.bounced += 1;
        let (start, end) =
            (fill.start.clamp(piece.start, piece.end()), fill.end().clamp(piece.start, piece.end()));
        let align = u64::from(self.limits.align);
        if let (true, Some(head)) = (piece.start < start, task.parts.first()) {
            copy(&mut pages, 0, head, piece.start - hull.start, start - piece.start);
        }
        let at = start - piece.start;
        if let Source::Data(base) = task.source {
            copy(&mut pages, at, &task.data, base as u64 + (start - fill.start), end - start);
        } else {
            let mut repeated = self.spare.list();
            repeated.push_repeated(task.page.as_ref().unwrap_or(&self.zeroes), length(end - start));
            copy(&mut pages, at, &repeated, 0, end - start);
            self.spare.put_list(repeated);
        }
        let tail = usize::from(hull.len > align);
        if let (true, Some(tail)) = (end < piece.end(), task.parts.get(tail)) {
            copy(&mut pages, end - piece.start, tail, end - (hull.end() - align), piece.end() - end);
        }
        let mut list = self.spare.list();
        pages.freeze_into(&mut list);
        self.spare.put_pages(pages);
        Some((list, false))
    }

    /// The next piece of a run that is discarded or zeroed.
    fn bulk(&mut self, t: u16) -> Turn {
        if self.bulk_flying >= BULK_WIDTH {
            return Turn::Later;
        }
        self.bulk_flying += 1;
        let align = u64::from(self.limits.align);
        let most = (self.limits.max_discard - self.limits.max_discard % align).max(align);
        let discard = self.discards(&self.tasks[usize::from(t)].op);
        let task = &mut self.tasks[usize::from(t)];
        let offset = task.cursor;
        let len = most.min(task.end - offset);
        task.cursor += len;
        let piece = Piece { busy: true, task: t, offset, len, doing: Doing::Bulk, ..Piece::IDLE };
        let file = self.device.file();
        if let Some(holes) = self.holes.as_mut().filter(|_| !discard) {
            // What is zeroed may get its room by that.
            holes.written(offset, len);
        }
        Turn::Launch(
            piece,
            if discard { Op::Discard(file, offset, len) } else { Op::Zero(file, offset, len) },
        )
    }

    /// Whether that operation's blocks are to be discarded, rather than zeroed.
    pub(super) fn discards(&self, op: &BlockOp) -> bool {
        self.limits.discard && matches!(op, BlockOp::Unmap(_) | BlockOp::WriteSame { unmap: true, .. })
    }
}

/// How many device operations a task may have under way at once.
fn width(task: &Task) -> u16 {
    match (task.step, task.source) {
        (Step::Check, _) => CHECK_WIDTH,
        (Step::Fill, Source::Page | Source::Zeroes) => FILL_WIDTH,
        (Step::Bulk | Step::Probe, _) => 1,
        _ => u16::MAX,
    }
}

/// Copies `len` bytes of `from`, beginning at its byte `offset`, to byte `at` on.
fn copy(to: &mut ScatterMut, at: u64, from: &Scatter, offset: u64, len: u64) {
    let mut bytes = cursor(from, length(offset), length(len));
    for chunk in to.range_mut(length(at), length(len)) {
        bytes.copy_to(chunk);
    }
}
