//! What an operation does after what: its steps in order, and its end.

use super::task::{Source, Stability, Step};
use super::{Disk, SMALL, issue, length};
use crate::check::Extent;
use crate::outcome::{Context, Outcome};
use crate::ram::miscompare;
use kagami_memory::Scatter;
use kagami_types::{BlockCount, BlockError, BlockOp};

/// How a task goes on.
enum Next {
    /// The step that it was set to has something to issue.
    Issue,
    /// It waits for a flush.
    Flush,
    /// It is done.
    Done(Result<(), BlockError>),
}

impl Disk {
    /// A task has nothing under way: brings it to its next step, or to its end.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, t: u16) {
        let align = u64::from(self.limits.align);
        let task = &mut self.tasks[usize::from(t)];
        debug_assert!(task.live && task.flying == 0, "a task that is not at rest");
        if task.answered {
            return self.release(t);
        }
        if task.aborted {
            return self.finish(cx, t, Err(BlockError::Aborted));
        }
        if let Some(fault) = task.fault {
            return match fault.probe {
                // Half of what has the bad block in it.
                Some((start, end)) if end - start > align => {
                    task.begin(Step::Probe, start, start + (end - start).div_ceil(2).next_multiple_of(align));
                    self.enqueue(t);
                }
                _ => self.finish(cx, t, Err(fault.error)),
            };
        }
        match self.next(t) {
            Next::Issue => self.enqueue(t),
            Next::Flush => {
                let task = &mut self.tasks[usize::from(t)];
                (task.step, task.flying) = (Step::Flush, 1);
                self.flushes.next.push(t);
            }
            Next::Done(result) => self.finish(cx, t, result),
        }
    }

    fn next(&mut self, t: u16) -> Next {
        let stale = self.write_back && self.unflushed;
        let task = &mut self.tasks[usize::from(t)];
        let (extent, step) = (task.extent, task.step);
        match (&task.op, step) {
            // A read from stable data: what the device has in its cache is made stable first.
            (BlockOp::Read(_, access), Step::Blocked) if access.fua && stale => Next::Flush,
            (BlockOp::Read(..), Step::Blocked | Step::Flush) => self.begin_read(t),
            (BlockOp::Read(..), _) => Next::Done(Ok(())),

            (BlockOp::Write(_, access), Step::Blocked) => {
                let stable = access.fua;
                self.begin_fill(t, extent, Source::Data(0), stable)
            }
            (BlockOp::WriteVerify { .. }, Step::Blocked) => {
                let next = self.begin_fill(t, extent, Source::Data(0), true);
                // What is read back is to come from the medium.
                self.tasks[usize::from(t)].stability = Stability::Flush;
                next
            }
            (BlockOp::CompareAndWrite(..), Step::Blocked) => self.begin_read(t),
            (BlockOp::CompareAndWrite(_, access), Step::Read) => {
                let stable = access.fua;
                self.begin_exchange(t, stable)
            }
            (BlockOp::Verify { .. }, Step::Blocked) | (BlockOp::WriteVerify { .. }, Step::Flush) => {
                let hull = self.hull(extent);
                self.tasks[usize::from(t)].begin(Step::Check, hull.start, hull.end());
                Next::Issue
            }
            (BlockOp::WriteSame { .. }, Step::Blocked) if task.source == Source::Page => {
                self.begin_fill(t, extent, Source::Page, false)
            }
            (BlockOp::WriteSame { .. }, Step::Fill) if task.source == Source::Page => self.end_fill(t),
            (BlockOp::WriteSame { .. } | BlockOp::Unmap(_), Step::Blocked | Step::Bulk | Step::Fill) => {
                self.next_zeroing(t)
            }
            (BlockOp::Flush { .. }, Step::Blocked) => Next::Flush,

            (_, Step::Edges) => {
                let fill = task.fill;
                let hull = self.hull(fill);
                self.tasks[usize::from(t)].begin(Step::Fill, hull.start, hull.end());
                Next::Issue
            }
            (_, Step::Fill) => self.end_fill(t),
            (_, Step::Check | Step::Flush) => Next::Done(Ok(())),
            // No other operation has these steps.
            (_, Step::Blocked | Step::Read | Step::Bulk | Step::Probe) => {
                Next::Done(Err(BlockError::Unsupported))
            }
        }
    }

    fn begin_read(&mut self, t: u16) -> Next {
        let hull = self.hull(self.tasks[usize::from(t)].extent);
        let task = &mut self.tasks[usize::from(t)];
        let boundaries = hull.len.checked_div(u64::from(self.limits.boundary)).map_or(0, |whole| whole + 2);
        let count = length(hull.len.div_ceil(self.chunk) + boundaries);
        if task.parts.len() < count {
            task.parts.resize_with(count, Scatter::new);
        }
        task.begin(Step::Read, hull.start, hull.end());
        Next::Issue
    }

    /// Sets out to change those bytes: first to read the device's units that they fill only partly.
    fn begin_fill(&mut self, t: u16, fill: Extent, source: Source, stable: bool) -> Next {
        let hull = self.hull(fill);
        let align = u64::from(self.limits.align);
        let undivided = issue::stop(&self.limits, hull.start, hull.end(), self.chunk) == hull.end();
        let one_piece = undivided && (hull == fill || hull.len <= SMALL);
        let stability = match stable || !self.write_back {
            false => Stability::Later,
            true if one_piece => Stability::Itself,
            true => Stability::Flush,
        };
        let task = &mut self.tasks[usize::from(t)];
        (task.fill, task.source, task.stability) = (fill, source, stability);
        let (head, tail) = (fill.start > hull.start, fill.end() < hull.end());
        if !head && !tail {
            task.begin(Step::Fill, hull.start, hull.end());
            return Next::Issue;
        }
        if task.parts.len() < 2 {
            task.parts.resize_with(2, Scatter::new);
        }
        task.parts.iter_mut().for_each(Scatter::clear);
        match (head, tail) {
            // One unit is both.
            _ if hull.len == align => task.begin(Step::Edges, 0, 1),
            (true, true) => task.begin(Step::Edges, 0, 2),
            (true, false) => task.begin(Step::Edges, 0, 1),
            (false, _) => task.begin(Step::Edges, 1, 2),
        }
        Next::Issue
    }

    /// Everything is written: flush, where that makes it stable.
    fn end_fill(&mut self, t: u16) -> Next {
        match self.tasks[usize::from(t)].stability {
            Stability::Flush => Next::Flush,
            Stability::Later | Stability::Itself => Next::Done(Ok(())),
        }
    }

    /// COMPARE AND WRITE has read: compares, and goes on to write where nothing differs (SBC-4 5.3).
    fn begin_exchange(&mut self, t: u16, stable: bool) -> Next {
        let align = u64::from(self.limits.align);
        let task = &mut self.tasks[usize::from(t)];
        let (extent, start) = (task.extent, task.start);
        let mut found = self.spare.list();
        for part in &mut task.parts {
            found.append(part);
        }
        let difference =
            task.data.first_difference_at(0, &found, length(extent.start - start), length(extent.len));
        if let Err(error) = miscompare(difference) {
            self.spare.put_list(found);
            return Next::Done(Err(error));
        }
        let half = task.data.len_bytes() / 2;
        let next = self.begin_fill(t, extent, Source::Data(half), stable);
        let hull = self.hull(extent);
        let task = &mut self.tasks[usize::from(t)];
        if task.step == Step::Edges {
            // They were read just now.
            if let [head, tail, ..] = task.parts.as_mut_slice() {
                head.push_range(&found, 0, length(align));
                tail.push_range(&found, length(hull.len - align), length(align));
            }
            task.begin(Step::Fill, hull.start, hull.end());
        }
        self.spare.put_list(found);
        next
    }

    /// UNMAP, and WRITE SAME of zeroes: of every range first the whole units in the middle, by a
    /// discard or zeroing where the device has it, then the units that it has only partly.
    fn next_zeroing(&mut self, t: u16) -> Next {
        let align = u64::from(self.limits.align);
        loop {
            let task = &self.tasks[usize::from(t)];
            let (range, write_same) = match &task.op {
                BlockOp::Unmap(ranges) => {
                    let range = ranges.get(task.range).map(|range| Extent {
                        start: self.block_size.offset(range.lba),
                        len: self.block_size.len(BlockCount(u64::from(range.blocks))).0,
                    });
                    (range, false)
                }
                _ => ((task.range == 0).then_some(task.extent), true),
            };
            let Some(range) = range else {
                // Also what was discarded or zeroed, not only what was written.
                return if self.write_back { Next::Done(Ok(())) } else { Next::Flush };
            };
            let inner = range.start.next_multiple_of(align).min(range.end());
            let outer = (range.end() - range.end() % align).max(inner);
            let discards = self.discards(&task.op);
            let worth_it = discards || (self.limits.zero && (!write_same || range.len > SMALL));
            let task = &mut self.tasks[usize::from(t)];
            task.stage += 1;
            let part = match task.stage {
                1 if inner < outer && worth_it => {
                    task.begin(Step::Bulk, inner, outer);
                    return Next::Issue;
                }
                1 => {
                    task.stage = 4;
                    Some((range.start, range.end()))
                }
                2 => Some((range.start, inner)),
                3 => Some((outer, range.end())),
                _ => {
                    (task.range, task.stage) = (task.range + 1, 0);
                    None
                }
            };
            if let Some((start, end)) = part.filter(|(start, end)| start < end) {
                return self.begin_fill(t, Extent { start, len: end - start }, Source::Zeroes, false);
            }
        }
    }

    /// Gives a task's outcome and frees its slot. Nothing of it is under way.
    pub(super) fn finish(&mut self, cx: &mut Context<'_>, t: u16, result: Result<(), BlockError>) {
        let task = &mut self.tasks[usize::from(t)];
        let mut data = std::mem::take(&mut task.data);
        data.clear();
        if let (BlockOp::Read(..), Ok(())) = (&task.op, result) {
            let (mut skip, mut left) = (length(task.extent.start - task.start), length(task.extent.len));
            for part in &mut task.parts {
                let len = part.len_bytes();
                if skip == 0 && len <= left {
                    data.append(part);
                    left -= len;
                    continue;
                }
                let from = skip.min(len);
                left -= data.push_range(part, from, left.min(len - from));
                skip -= from;
            }
            debug_assert_eq!(left, 0, "a read that is not whole");
        }
        self.answer(cx, t, Outcome { result, data, status: Vec::new() });
        self.release(t);
    }

    /// Gives a task's outcome, which the device may not be done with.
    pub(super) fn answer(&mut self, cx: &mut Context<'_>, t: u16, outcome: Outcome) {
        self.counters.finish(&outcome.result);
        let task = &mut self.tasks[usize::from(t)];
        task.answered = true;
        self.unanswered -= 1;
        cx.done.push((task.tag, outcome));
    }

    /// Frees the slot of a task that was answered.
    fn release(&mut self, t: u16) {
        self.dequeue(t);
        let task = &mut self.tasks[usize::from(t)];
        task.live = false;
        task.parts.iter_mut().for_each(Scatter::clear);
        task.data.clear();
        task.page = None;
        if let BlockOp::Unmap(ranges) = &mut task.op {
            *ranges = Vec::new();
        }
        self.quota.release(task.charge);
        self.unlock(t);
        self.free.push(t);
    }

    /// Takes a task out of the queues.
    pub(super) fn dequeue(&mut self, t: u16) {
        let task = &mut self.tasks[usize::from(t)];
        if std::mem::take(&mut task.queued) {
            self.ready.retain(|&queued| queued != t);
        }
        match task.step {
            Step::Bulk => self.bulk_waiting.retain(|&waiting| waiting != t),
            Step::Blocked => self.startable.retain(|&starting| starting != t),
            _ => {}
        }
    }
}
