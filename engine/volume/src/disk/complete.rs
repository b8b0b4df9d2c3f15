//! What a device's completion brings on.

use super::device::{self, Doing};
use super::task::{Piece, Step};
use super::{Disk, PAGE, issue, length};
use crate::outcome::Context;
use kagami_memory::{Scatter, ScatterMut};
use kagami_reactor::{Completion, Errno, Op};
use kagami_types::{BlockError, BlockOp, Compare};

impl Disk {
    /// A device operation is done.
    pub(super) fn complete(&mut self, cx: &mut Context<'_>, completion: Completion) {
        let index = u32::try_from(completion.token.0 & u64::from(u32::MAX))
            .ok()
            .and_then(|low| u16::try_from(low).ok());
        let known = index.and_then(|index| Some((index, *self.pieces.get(usize::from(index))?)));
        let Some((index, piece)) = known.filter(|(_, piece)| piece.busy) else {
            debug_assert!(false, "a completion of nothing");
            return;
        };
        match completion.op {
            Op::Read(_, _, list) => self.read_done(cx, index, piece, completion.result, list),
            Op::Write { data, .. } => self.write_done(cx, index, piece, completion.result, data),
            Op::Flush(_) => self.flush_done(cx, index, completion.result),
            op => self.bulk_done(cx, index, piece, completion.result, &op),
        }
    }

    /// The piece is over: its task goes on.
    fn settle(&mut self, cx: &mut Context<'_>, index: u16, piece: Piece) {
        self.free_piece(index);
        let deadline = cx.io.now() + self.timeout;
        let task = &mut self.tasks[usize::from(piece.task)];
        task.flying -= 1;
        // Looking for a bad block is not the progress that a host waits for.
        if task.step != Step::Probe {
            task.deadline = deadline;
        }
        if task.has_more() {
            self.enqueue(piece.task);
        } else if task.flying == 0 {
            self.advance(cx, piece.task);
        }
    }

    pub(super) fn free_piece(&mut self, index: u16) {
        self.pieces[usize::from(index)] = Piece::IDLE;
        self.free_pieces.push(index);
    }

    /// Whether nobody wants to know any more how the piece ended.
    fn abandoned(&self, piece: &Piece) -> bool {
        let task = &self.tasks[usize::from(piece.task)];
        task.answered || task.aborted
    }

    fn read_done(
        &mut self,
        cx: &mut Context<'_>,
        index: u16,
        mut piece: Piece,
        result: Result<u32, Errno>,
        mut list: ScatterMut,
    ) {
        if self.abandoned(&piece) {
            self.spare.put_pages(list);
            return self.settle(cx, index, piece);
        }
        match result {
            Ok(count) if u64::from(count) >= piece.len => {
                self.got(&piece, &mut list);
                self.spare.put_pages(list);
            }
            Ok(count) => {
                let unit = PAGE.max(u64::from(self.limits.align));
                let moved = u64::from(count) / unit * unit;
                if moved > 0 {
                    let mut front = self.spare.pages();
                    let mut rest = self.spare.pages();
                    let whole = length(moved / PAGE);
                    for (at, part) in list.drain().enumerate() {
                        if at < whole { front.push(part) } else { rest.push(part) }
                    }
                    self.got(&Piece { len: moved, ..piece }, &mut front);
                    self.spare.put_pages(front);
                    self.spare.put_pages(std::mem::replace(&mut list, rest));
                    (piece.offset, piece.len, piece.stalls) = (piece.offset + moved, piece.len - moved, 0);
                    return self.again(cx, index, piece, Op::Read(self.device.file(), piece.offset, list));
                }
                piece.stalls += 1;
                if piece.stalls == 1 {
                    return self.again(cx, index, piece, Op::Read(self.device.file(), piece.offset, list));
                }
                // Twice it would not get past there.
                self.spare.put_pages(list);
                let task = &mut self.tasks[usize::from(piece.task)];
                let at = piece.offset + u64::from(count);
                let lba = task.lba(self.block_size, at);
                task.fail(at, BlockError::ReadMedium(lba), None);
            }
            Err(errno) => {
                self.spare.put_pages(list);
                self.read_failed(&piece, errno);
            }
        }
        self.settle(cx, index, piece);
    }

    /// Notes where a read failed; a long one is looked into later.
    fn read_failed(&mut self, piece: &Piece, errno: Errno) {
        let gone = self.gone;
        let task = &mut self.tasks[usize::from(piece.task)];
        let error = device::error(errno, gone, Doing::Read, task.lba(self.block_size, piece.offset));
        let medium = matches!(error, BlockError::ReadMedium(_));
        match (&mut task.fault, task.step) {
            (Some(fault), Step::Probe) => {
                // Before the end of this piece, if it was the medium again. If not, what is known will do.
                fault.probe = medium.then_some((piece.offset, piece.end()));
                if medium {
                    (fault.offset, fault.error) = (piece.offset, error);
                }
                task.stop();
            }
            _ => task.fail(piece.offset, error, medium.then_some((piece.offset, piece.end()))),
        }
    }

    /// Bytes have been read: keeps them, or compares and drops them.
    fn got(&mut self, piece: &Piece, list: &mut ScatterMut) {
        let block = u64::from(self.block_size.bytes());
        let task = &mut self.tasks[usize::from(piece.task)];
        match task.step {
            Step::Read | Step::Edges => {
                if let Some(part) = task.parts.get_mut(piece.part) {
                    list.freeze_into(part);
                }
            }
            Step::Probe => {
                let lba = task.lba(self.block_size, piece.end());
                if let Some(fault) = &mut task.fault
                    && let Some((_, end)) = fault.probe
                {
                    // Not in there, so behind it.
                    fault.probe = Some((piece.end(), end));
                    (fault.offset, fault.error) = (piece.end(), BlockError::ReadMedium(lba));
                }
            }
            Step::Check => {
                let start = task.extent.start.max(piece.offset);
                let end = task.extent.end().min(piece.end());
                if start >= end {
                    return;
                }
                let (from, len) = (length(start - piece.offset), length(end - start));
                let against = match &task.op {
                    BlockOp::Verify { against, .. } => *against,
                    BlockOp::WriteVerify { compare: true, .. } => Compare::Data,
                    _ => Compare::Nothing,
                };
                let difference = match against {
                    Compare::Nothing => None,
                    Compare::Data => {
                        task.data.first_difference_at(length(start - task.extent.start), list, from, len)
                    }
                    Compare::OneBlock => {
                        let mut repeated = self.spare.lists.pop().unwrap_or_default();
                        repeated.push_repeated(task.page.as_ref().unwrap_or(&self.zeroes), len);
                        let difference = repeated.first_difference_at(0, list, from, len);
                        self.spare.put_list(repeated);
                        difference
                    }
                };
                if let Some(difference) = difference {
                    let at = start + difference as u64;
                    let offset = match against {
                        Compare::OneBlock => (at - task.extent.start) % block,
                        _ => at - task.extent.start,
                    };
                    task.fail(at, BlockError::Miscompare(u32::try_from(offset).unwrap_or(u32::MAX)), None);
                }
            }
            Step::Blocked | Step::Fill | Step::Bulk | Step::Flush => {}
        }
    }

    fn write_done(
        &mut self,
        cx: &mut Context<'_>,
        index: u16,
        mut piece: Piece,
        result: Result<u32, Errno>,
        data: Scatter,
    ) {
        let moved = match result {
            Ok(count) => u64::from(count).min(piece.len),
            Err(_) => 0,
        };
        if moved > 0 && !piece.stable {
            self.has_written();
        }
        // What is still to be written, unless all is, or something is against it.
        let mut rest = None;
        if result.is_ok() && moved < piece.len && !self.abandoned(&piece) {
            let align = u64::from(self.limits.align);
            let done = moved - moved % align;
            let (from, len) = (length(done), length(piece.len - done));
            let goes_on = done > 0 && issue::fits(&self.limits, &data, from, len);
            if goes_on {
                (piece.offset, piece.len, piece.stalls) = (piece.offset + done, piece.len - done, 0);
            } else {
                piece.stalls += 1;
            }
            if piece.stalls <= 1 {
                let mut list = self.spare.list();
                let (from, len) = if goes_on { (from, len) } else { (0, data.len_bytes()) };
                list.push_range(&data, from, len);
                rest = Some(list);
            } else {
                let task = &mut self.tasks[usize::from(piece.task)];
                let at = piece.offset + moved;
                let lba = task.lba(self.block_size, at);
                task.fail(at, BlockError::WriteMedium(lba), None);
            }
        }
        let task = &mut self.tasks[usize::from(piece.task)];
        if std::mem::take(&mut piece.whole) {
            task.data = data;
        } else {
            self.spare.put_list(data);
        }
        if let Err(errno) = result {
            let error =
                device::error(errno, self.gone, Doing::Write, task.lba(self.block_size, piece.offset));
            task.fail(piece.offset, error, None);
        }
        match rest {
            Some(data) => {
                let (file, offset, stable) = (self.device.file(), piece.offset, piece.stable);
                self.again(cx, index, piece, Op::Write { file, offset, data, stable });
            }
            None => self.settle(cx, index, piece),
        }
    }

    /// Hands the rest of a piece to the device.
    fn again(&mut self, cx: &mut Context<'_>, index: u16, piece: Piece, op: Op) {
        self.pieces[usize::from(index)] = piece;
        if self.held.is_empty() {
            self.launch(cx, index, op);
        } else {
            self.held.push_back((index, op));
        }
    }

    fn bulk_done(
        &mut self,
        cx: &mut Context<'_>,
        index: u16,
        piece: Piece,
        result: Result<u32, Errno>,
        op: &Op,
    ) {
        self.end_bulk();
        let task = &mut self.tasks[usize::from(piece.task)];
        match result {
            Ok(_) => {
                self.has_written();
                if let (Some(holes), Op::Discard(..)) = (&mut self.holes, op) {
                    holes.discarded(piece.offset, piece.len);
                }
            }
            Err(errno) if device::unsupported(errno) => {
                // It is done another way, from the beginning, and so are those that come.
                match op {
                    Op::Discard(..) => self.limits.discard = false,
                    _ => self.limits.zero = false,
                }
                task.stage = 0;
                task.stop();
            }
            Err(errno) => {
                let error =
                    device::error(errno, self.gone, Doing::Bulk, task.lba(self.block_size, piece.offset));
                task.fail(piece.offset, error, None);
            }
        }
        self.settle(cx, index, piece);
    }

    /// A discard or zeroing less is under way: the next one may.
    pub(super) fn end_bulk(&mut self) {
        self.bulk_flying -= 1;
        if let Some(t) = self.bulk_waiting.pop_front() {
            self.enqueue(t);
        }
    }

    fn flush_done(&mut self, cx: &mut Context<'_>, index: u16, result: Result<u32, Errno>) {
        self.free_piece(index);
        self.flushes.running = false;
        let deadline = cx.io.now() + self.timeout;
        let mut waited = std::mem::take(&mut self.flushes.now);
        for t in waited.drain(..) {
            let task = &mut self.tasks[usize::from(t)];
            (task.flying, task.deadline) = (0, deadline);
            if let Err(errno) = result {
                let lba = task.lba(self.block_size, task.extent.start);
                task.fail(task.extent.start, device::error(errno, self.gone, Doing::Flush, lba), None);
            }
            self.advance(cx, t);
        }
        self.flushes.now = waited;
        if result.is_err() {
            self.has_written();
        }
    }
}
