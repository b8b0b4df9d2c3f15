//! Deadlines and aborts: the end of an operation for its host.
//!
//! What a device has been given, it may still do: the slot, its pages and its range of blocks stay
//! taken until the completion comes, so that no newer write to the range is overtaken by an old one.

use super::Disk;
use super::device::Doing;
use super::task::Step;
use crate::outcome::{Aborted, Context, Outcome, Tag};
use crate::ranges::Mode;
use kagami_memory::Scatter;
use kagami_types::{BlockError, BlockOp, Time};

impl Disk {
    pub(crate) fn on_tick(&mut self, cx: &mut Context<'_>) {
        let now = cx.io.now();
        if now >= self.earliest {
            self.expire(cx, now);
        }
        self.work(cx);
    }

    /// Answers what is overdue, and finds out what will be next.
    fn expire(&mut self, cx: &mut Context<'_>, now: Time) {
        let mut earliest = Time::NEVER;
        for t in (0..u16::MAX).take(self.tasks.len()) {
            let task = &self.tasks[usize::from(t)];
            if !task.live || task.answered {
                continue;
            }
            if task.deadline > now {
                earliest = earliest.min(task.deadline);
                continue;
            }
            self.give_up(cx, t);
        }
        self.earliest = earliest;
    }

    fn give_up(&mut self, cx: &mut Context<'_>, t: u16) {
        self.withdraw(t);
        let task = &self.tasks[usize::from(t)];
        let error = match (task.fault, task.step) {
            // The error is known, only not the very block.
            (Some(fault), Step::Probe) => fault.error,
            _ if task.issued => BlockError::TimedOut,
            // Nothing has happened: it can be sent again as it is.
            _ => BlockError::Busy,
        };
        if task.flying == 0 {
            return self.finish(cx, t, Err(error));
        }
        self.answer(cx, t, Outcome { result: Err(error), data: Scatter::new(), status: Vec::new() });
        // Nobody has to wait for a read that nobody waits for.
        if mode(&self.tasks[usize::from(t)].op) == Some(Mode::Shared) {
            self.unlock(t);
        }
    }

    /// Takes back whatever of a task is not at the device.
    fn withdraw(&mut self, t: u16) {
        self.dequeue(t);
        self.tasks[usize::from(t)].stop();
        let waiting = self.flushes.next.len();
        self.flushes.next.retain(|&waiting| waiting != t);
        if self.flushes.next.len() < waiting {
            self.tasks[usize::from(t)].flying = 0;
        }
        for _ in 0..self.held.len() {
            let Some((index, op)) = self.held.pop_front() else { break };
            let piece = self.pieces[usize::from(index)];
            if piece.task != t || piece.doing == Doing::Flush {
                self.held.push_back((index, op));
                continue;
            }
            drop(op);
            self.free_piece(index);
            self.tasks[usize::from(t)].flying -= 1;
            if piece.doing == Doing::Bulk {
                self.end_bulk();
            }
        }
    }

    pub(crate) fn abort(&mut self, cx: &mut Context<'_>, tag: Tag) -> Aborted {
        let found =
            (0..u16::MAX).zip(&self.tasks).find(|(_, task)| task.live && !task.answered && task.tag == tag);
        let Some((t, _)) = found else { return Aborted::NotFound };
        self.withdraw(t);
        let aborted = if self.tasks[usize::from(t)].flying == 0 {
            self.finish(cx, t, Err(BlockError::Aborted));
            Aborted::Dropped
        } else {
            self.tasks[usize::from(t)].aborted = true;
            Aborted::Pending
        };
        self.work(cx);
        aborted
    }
}

fn mode(op: &BlockOp) -> Option<Mode> {
    match op {
        BlockOp::Read(..) | BlockOp::Verify { .. } => Some(Mode::Shared),
        BlockOp::Write(..) | BlockOp::Unmap(_) => Some(Mode::Write),
        BlockOp::WriteVerify { .. } | BlockOp::CompareAndWrite(..) | BlockOp::WriteSame { .. } => {
            Some(Mode::Exclusive)
        }
        BlockOp::Flush { .. } | BlockOp::LbaStatus { .. } => None,
    }
}
