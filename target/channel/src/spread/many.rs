//! An operation in several parts: what each of them is, and what their outcomes come to. No I/O.
//!
//! A part that finds no room (`Busy`) is sent again: others may have changed something, and an operation with more parts
//! than a shard has room for would never get through. All else that fails ends the operation with
//! the error of the lowest block, as the INFORMATION field of sense data asks for (SPC-5 4.4.2.2).

use super::stripes::{Piece, Pieces, Stripes};
use kagami_memory::Scatter;
use kagami_types::{Access, BlockError, BlockOp, BlockRange, BlockSize, Compare, Lba, Time};
use kagami_volume::Outcome;
use std::collections::VecDeque;
use std::ops::Range;

/// Parts of one operation under way at once.
const MOST: usize = 16;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The operation itself.
    Only,
    /// COMPARE AND WRITE: what is there is read.
    Compare,
    /// And is replaced.
    Write,
    /// A flush of several shards: each brings to the device what it has.
    WriteOut,
    /// And then the device, which is the same for all, makes it stable once.
    Flush,
}

/// One part, to be sent.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u16,
    pub(super) shard: u16,
    pub(super) op: BlockOp,
    pub(super) data: Scatter,
    /// Of a flush: the device need not make it stable.
    pub(super) writes_out: bool,
}

/// The operation; see the module.
#[derive(Debug)]
pub(super) struct Many {
    op: BlockOp,
    data: Scatter,
    block: BlockSize,
    /// Its first block: where its data begins.
    start: u64,
    phase: Phase,
    pieces: Pieces,
    /// To be sent before these.
    first: VecDeque<Piece>,
    /// To be sent again, in a moment.
    later: Vec<Piece>,
    /// Under way, by their numbers.
    parts: Vec<Option<Piece>>,
    under_way: usize,
    read: Vec<(u64, Scatter)>,
    fault: Option<(u64, BlockError)>,
    /// Some part has changed its blocks.
    changed: bool,
    /// After that, no part is sent again.
    deadline: Time,
    /// Every part so far was done without waiting for anything.
    pub(super) at_once: bool,
}

/// The blocks that an operation is about, from the first to the last; the whole rest of the volume where it says so.
///
/// # Errors
/// They are not all on a volume of that many blocks.
#[inline]
pub(super) fn hull(op: &BlockOp, capacity: u64) -> Result<Range<u64>, BlockError> {
    let run = |lba: Lba, blocks: u64| {
        let end = lba.0.checked_add(blocks).filter(|end| *end <= capacity).ok_or(BlockError::OutOfRange)?;
        Ok(lba.0..end)
    };
    match op {
        BlockOp::Read(range, _)
        | BlockOp::Write(range, _)
        | BlockOp::WriteVerify { range, .. }
        | BlockOp::Verify { range, .. }
        | BlockOp::CompareAndWrite(range, _) => run(range.lba, range.blocks.into()),
        BlockOp::WriteSame { lba, blocks, .. } => run(*lba, blocks.0),
        BlockOp::Unmap(ranges) => {
            let mut hull: Option<Range<u64>> = None;
            for range in ranges {
                let run = run(range.lba, range.blocks.into())?;
                if !run.is_empty() {
                    let known = hull.unwrap_or(run.clone());
                    hull = Some(known.start.min(run.start)..known.end.max(run.end));
                }
            }
            Ok(hull.unwrap_or(0..0))
        }
        BlockOp::Flush { lba, blocks } if blocks.0 == 0 => run(*lba, capacity.saturating_sub(lba.0)),
        BlockOp::Flush { lba, blocks } => run(*lba, blocks.0),
        BlockOp::LbaStatus { lba, .. } => run(*lba, capacity.saturating_sub(lba.0)),
    }
}

impl Many {
    /// An operation over those blocks, which were checked; or why it cannot be.
    pub(super) fn new(
        op: BlockOp,
        mut data: Scatter,
        stripes: Stripes,
        block: BlockSize,
        blocks: &Range<u64>,
        deadline: Time,
    ) -> Result<Self, Outcome> {
        let bytes = (blocks.end - blocks.start) << block.shift();
        let one = u64::from(block.bytes());
        let wanted = match &op {
            BlockOp::Write(..) | BlockOp::WriteVerify { .. } => bytes,
            BlockOp::Verify { against: Compare::Data, .. } => bytes,
            BlockOp::Verify { against: Compare::OneBlock, .. } => one,
            BlockOp::WriteSame { zeroes: false, .. } => one,
            BlockOp::CompareAndWrite(..) => bytes * 2,
            _ => 0,
        };
        if wanted > 0 && data.len_bytes() as u64 != wanted {
            data.clear();
            return Err(Outcome { result: Err(BlockError::Unsupported), data, status: Vec::new() });
        }
        let runs = match &op {
            BlockOp::Unmap(ranges) => {
                ranges.iter().map(|range| range.lba.0..range.lba.0 + u64::from(range.blocks)).collect()
            }
            BlockOp::Flush { .. } => Vec::new(),
            _ => Vec::from([blocks.clone()]),
        };
        let first: VecDeque<Piece> = match &op {
            BlockOp::Flush { .. } => {
                stripes.owners(blocks).map(|shard| Piece { shard, blocks: blocks.clone() }).collect()
            }
            _ => VecDeque::new(),
        };
        let phase = match &op {
            BlockOp::CompareAndWrite(..) => Phase::Compare,
            BlockOp::Flush { .. } if first.len() > 1 => Phase::WriteOut,
            _ => Phase::Only,
        };
        Ok(Self {
            op,
            data,
            block,
            start: blocks.start,
            phase,
            pieces: Pieces::new(stripes, runs),
            first,
            later: Vec::new(),
            parts: Vec::new(),
            under_way: 0,
            read: Vec::new(),
            fault: None,
            changed: false,
            deadline,
            at_once: true,
        })
    }

    /// Whether it is the operation of that phase that its parts do.
    fn reads(&self) -> bool {
        self.phase == Phase::Compare || matches!(self.op, BlockOp::Read(..))
    }

    /// Whether its parts change blocks.
    fn changes(&self) -> bool {
        self.phase != Phase::Compare && self.op.writes()
    }

    /// The next part to be sent, if any may be now.
    pub(super) fn next(&mut self, stripes: Stripes) -> Option<Part> {
        if self.under_way >= MOST {
            return None;
        }
        let piece = match self.first.pop_front() {
            Some(piece) => piece,
            None => self.next_piece(stripes)?,
        };
        let number = self.parts.iter().position(Option::is_none).unwrap_or(self.parts.len());
        let (op, data) = self.part(&piece);
        let shard = piece.shard;
        match self.parts.get_mut(number) {
            Some(place) => *place = Some(piece),
            None => self.parts.push(Some(piece)),
        }
        self.under_way += 1;
        let writes_out = self.phase == Phase::WriteOut;
        Some(Part { number: u16::try_from(number).unwrap_or(u16::MAX), shard, op, data, writes_out })
    }

    fn next_piece(&mut self, stripes: Stripes) -> Option<Piece> {
        if let Some(piece) = self.pieces.next() {
            return Some(piece);
        }
        match self.phase {
            Phase::Compare | Phase::WriteOut if !self.has_nothing_left() => return None,
            Phase::Compare => {}
            Phase::WriteOut => {
                self.phase = Phase::Flush;
                return Some(Piece { shard: 0, blocks: self.start..self.start });
            }
            Phase::Only | Phase::Write | Phase::Flush => return None,
        }
        // All that is there was read.
        self.read.sort_unstable_by_key(|(at, _)| *at);
        let mut found = Scatter::new();
        for (_, mut list) in self.read.drain(..) {
            found.append(&mut list);
        }
        let half = self.data.len_bytes() / 2;
        if let Some(at) = self.data.first_difference_at(0, &found, 0, half) {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            self.fault = Some((self.start, BlockError::Miscompare(at)));
            return None;
        }
        self.phase = Phase::Write;
        let blocks = half as u64 >> self.block.shift();
        self.pieces = Pieces::of(stripes, self.start..self.start + blocks);
        self.pieces.next()
    }

    /// What a part is to do.
    fn part(&mut self, piece: &Piece) -> (BlockOp, Scatter) {
        let range = piece.range();
        let offset = self.bytes(piece.blocks.start - self.start.min(piece.blocks.start));
        let len = self.bytes(u64::from(range.blocks));
        let share = |from: usize| {
            let mut list = Scatter::new();
            list.push_range(&self.data, from, len);
            list
        };
        match &self.op {
            BlockOp::CompareAndWrite(_, access) if self.phase == Phase::Write => {
                (BlockOp::Write(range, *access), share(self.data.len_bytes() / 2 + offset))
            }
            BlockOp::CompareAndWrite(_, access) => {
                (BlockOp::Read(range, Access { dpo: access.dpo, fua: false }), Scatter::new())
            }
            BlockOp::Read(_, access) => (BlockOp::Read(range, *access), std::mem::take(&mut self.data)),
            BlockOp::Write(_, access) => (BlockOp::Write(range, *access), share(offset)),
            BlockOp::WriteVerify { compare, .. } => {
                (BlockOp::WriteVerify { range, compare: *compare }, share(offset))
            }
            BlockOp::Verify { against, .. } => {
                let data = match against {
                    Compare::Nothing => Scatter::new(),
                    Compare::Data => share(offset),
                    Compare::OneBlock => self.all(),
                };
                (BlockOp::Verify { range, against: *against }, data)
            }
            BlockOp::WriteSame { unmap, zeroes, .. } => {
                let blocks = kagami_types::BlockCount(range.blocks.into());
                let (unmap, zeroes) = (*unmap, *zeroes);
                (BlockOp::WriteSame { lba: range.lba, blocks, unmap, zeroes }, self.all())
            }
            BlockOp::Unmap(_) => (BlockOp::Unmap(vec![range]), Scatter::new()),
            // The device makes stable all that it has, whatever blocks are named.
            BlockOp::Flush { lba, .. } if self.phase == Phase::Flush => {
                (BlockOp::Flush { lba: *lba, blocks: kagami_types::BlockCount(1) }, Scatter::new())
            }
            op @ (BlockOp::Flush { .. } | BlockOp::LbaStatus { .. }) => (op.clone(), Scatter::new()),
        }
    }

    /// All of its data, shared.
    fn all(&self) -> Scatter {
        let mut list = Scatter::new();
        list.push_range(&self.data, 0, self.data.len_bytes());
        list
    }

    fn bytes(&self, blocks: u64) -> usize {
        // Of a command's data, which is in memory.
        usize::try_from(blocks << self.block.shift()).unwrap_or(usize::MAX)
    }

    /// A part is done. Whether one has to be sent again later.
    pub(super) fn done(&mut self, number: u16, outcome: Outcome, at_once: bool) -> bool {
        let Some(piece) = self.parts.get_mut(usize::from(number)).and_then(Option::take) else {
            return false;
        };
        self.under_way -= 1;
        self.at_once &= at_once;
        match outcome.result {
            Ok(()) if self.reads() => self.read.push((piece.blocks.start, outcome.data)),
            Ok(()) => self.changed |= self.changes(),
            Err(BlockError::Busy) if self.fault.is_none() => {
                self.later.push(piece);
                return true;
            }
            // What is known to be wrong stands.
            Err(BlockError::Busy) => {}
            Err(error) => self.fail(&piece, error),
        }
        false
    }

    /// What found no room is tried again; or no more, where it has taken too long.
    pub(super) fn retry(&mut self, now: Time) {
        let later = std::mem::take(&mut self.later);
        if now < self.deadline {
            self.first.extend(later);
            return;
        }
        let error = if self.changed { BlockError::TimedOut } else { BlockError::Busy };
        for piece in &later {
            self.fail(piece, error);
        }
    }

    fn fail(&mut self, piece: &Piece, error: BlockError) {
        let (at, error) = match error {
            BlockError::ReadMedium(lba) | BlockError::WriteMedium(lba) => (lba.0, error),
            BlockError::Miscompare(byte) if !self.is_one_block() => {
                let before = piece.blocks.start.saturating_sub(self.start) << self.block.shift();
                let byte = u32::try_from(before + u64::from(byte)).unwrap_or(u32::MAX);
                (piece.blocks.start, BlockError::Miscompare(byte))
            }
            _ => (piece.blocks.start, error),
        };
        if self.fault.is_none_or(|(known, _)| at < known) {
            self.fault = Some((at, error));
        }
        self.stop();
    }

    fn is_one_block(&self) -> bool {
        matches!(self.op, BlockOp::Verify { against: Compare::OneBlock, .. })
    }

    /// Sends nothing more.
    fn stop(&mut self) {
        self.pieces.stop();
        self.first.clear();
        self.later.clear();
    }

    /// It is to end early: the parts that are to be told, by number and shard. What changes blocks as a whole goes on
    /// once it has begun, or a part of it would stay.
    pub(super) fn abort(&mut self) -> Vec<(u16, u16)> {
        if self.changes() && !matches!(self.op, BlockOp::Unmap(_)) {
            return Vec::new();
        }
        self.stop();
        self.fault.get_or_insert((u64::MAX, BlockError::Aborted));
        let numbers = (0u16..).zip(&self.parts);
        numbers.filter_map(|(number, part)| part.as_ref().map(|piece| (number, piece.shard))).collect()
    }

    fn has_nothing_left(&self) -> bool {
        self.under_way == 0 && self.first.is_empty() && self.later.is_empty() && self.fault.is_none()
    }

    /// Nothing is under way, and nothing is to be sent any more.
    pub(super) fn is_over(&self) -> bool {
        let sent = self.first.is_empty() && self.later.is_empty() && self.pieces.is_empty();
        let last = !matches!(self.phase, Phase::Compare | Phase::WriteOut);
        self.under_way == 0 && (self.fault.is_some() || sent && last)
    }

    /// Whether it came to flush the device for all shards.
    pub(super) fn has_flushed(&self) -> bool {
        self.phase == Phase::Flush
    }

    /// Whether a part waits to be sent again.
    pub(super) fn repeats(&self) -> bool {
        !self.later.is_empty()
    }

    /// What it comes to.
    pub(super) fn finish(mut self) -> Outcome {
        let result = self.fault.map_or(Ok(()), |(_, error)| Err(error));
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        if result.is_ok() && matches!(self.op, BlockOp::Read(..)) {
            self.read.sort_unstable_by_key(|(at, _)| *at);
            let mut lists = self.read.drain(..).map(|(_, list)| list);
            data = lists.next().unwrap_or(data);
            lists.for_each(|mut list| data.append(&mut list));
        }
        Outcome { result, data, status: Vec::new() }
    }
}

/// Descriptors of GET LBA STATUS, as far as they are of the blocks before `end`: fewer than fit are allowed
/// (SBC-4 5.6.1).
pub(super) fn clip(status: &mut Vec<kagami_types::LbaStatus>, end: u64) {
    status.retain(|descriptor| descriptor.lba.0 < end);
    if let Some(last) = status.last_mut() {
        let most = u32::try_from(end - last.lba.0).unwrap_or(u32::MAX);
        last.blocks = last.blocks.min(most);
    }
}

/// A run of blocks, as locks know it: several runs that are too many to be kept apart are taken as one.
pub(super) fn apart(op: &BlockOp, hull: &Range<u64>) -> Vec<Range<u64>> {
    const MOST_APART: usize = 16;
    match op {
        BlockOp::Unmap(ranges) if ranges.len() <= MOST_APART => {
            let run = |range: &BlockRange| range.lba.0..range.lba.0 + u64::from(range.blocks);
            ranges.iter().map(run).filter(|run| !run.is_empty()).collect()
        }
        _ => Vec::from([hull.clone()]),
    }
}

#[cfg(test)]
mod tests;
