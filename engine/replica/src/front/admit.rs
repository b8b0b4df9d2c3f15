//! Before a host's operation has its sequence or its bits.

use super::slots::Stage;
use super::{Front, Step, check, granules};
use crate::mail::{Change, Mode, ToGroup};
use kagami_memory::Scatter;
use kagami_types::{Access, BlockError, BlockOp, Sequence, Time};
use kagami_volume::ranges::Mode as Use;
use std::sync::atomic::Ordering;

impl Front {
    /// A host's write that has just come.
    pub(super) fn write(&mut self, now: Time, slot: u16) {
        if !self.waiting.is_empty() || !self.may_begin(now, slot) {
            self.waiting.push_back(slot);
            self.hurry();
            return self.admit_all(now);
        }
        self.begin(now, slot);
    }

    /// Whether nothing keeps that write back, but for others that wait.
    fn may_begin(&self, now: Time, slot: u16) -> bool {
        match self.mode {
            _ if self.slots.look(slot).is_promised() => true,
            Mode::Journaling => {
                let op = &self.slots.look(slot).op;
                let alone = matches!(op, BlockOp::CompareAndWrite(..));
                let mut free = true;
                if alone {
                    check::runs(op, |run| free &= !self.order.blocks(Use::Exclusive, &run));
                }
                let compared = |&other: &u16| check::overlap(op, &self.slots.look(other).op);
                now >= self.slow && free && !self.comparing.iter().any(compared)
            }
            Mode::Held { until } => now >= until,
            _ => true,
        }
    }

    /// Lets begin what may.
    pub(super) fn admit_all(&mut self, now: Time) {
        let held = match self.mode {
            Mode::Held { until } => now < until,
            Mode::Journaling => now < self.slow,
            _ => false,
        };
        if held && self.promises.is_empty() || self.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut kept = Vec::new();
        while let Some(slot) = waiting.pop_front() {
            let here = self.slots.look(slot);
            let overtakes = |&other: &u16| check::overlap(&here.op, &self.slots.look(other).op);
            // What was promised has its place before all of these.
            let stays = !here.is_promised() && (held || kept.iter().any(overtakes));
            if stays || !self.may_begin(now, slot) {
                kept.push(slot);
            } else {
                self.begin(now, slot);
            }
        }
        // What began may have ended at once, and called this again, with nothing waiting.
        kept.extend(self.waiting.drain(..));
        self.waiting.extend(kept);
    }

    /// A write that nothing keeps back.
    fn begin(&mut self, now: Time, slot: u16) {
        self.slots.at(slot).era = self.era;
        let blockless = !check::names_blocks(&self.slots.look(slot).op);
        let promised = self.slots.look(slot).is_promised();
        let error = match self.mode {
            Mode::Plain => return self.enter(now, slot, Use::Write),
            Mode::Journaling | Mode::Tracking if blockless => return self.enter(now, slot, Use::Write),
            Mode::Journaling if matches!(self.slots.look(slot).op, BlockOp::CompareAndWrite(..)) => {
                return self.compare(slot);
            }
            Mode::Journaling => {
                self.journal(now, slot);
                return self.promise(slot);
            }
            // Neither takes new writes. What was answered goes on: into the journal, or when its bits are durable and the end of
            // the journal too. Before that a replay would come over it.
            Mode::Held { .. } if promised && !self.tracks => return self.journal(now, slot),
            Mode::Held { .. } if promised => return self.mark(now, slot),
            Mode::Fenced if promised => return self.mark(now, slot),
            Mode::Tracking => return self.mark(now, slot),
            Mode::NotReady | Mode::Held { .. } => BlockError::BecomingReady,
            Mode::Fenced | Mode::Secondary { .. } => BlockError::WriteProtected,
            Mode::Stopped => BlockError::NotServed,
        };
        self.end(now, slot, Err(error), Scatter::new(), Vec::new());
    }

    /// Reads what a COMPARE AND WRITE compares. It is alone on its blocks until it is done.
    fn compare(&mut self, slot: u16) {
        let BlockOp::CompareAndWrite(range, _) = self.slots.look(slot).op else { return };
        let run = range.lba.0..range.lba.0.saturating_add(u64::from(range.blocks));
        self.order.insert(slot, Use::Exclusive, run);
        self.comparing.push(slot);
        self.slots.at(slot).stage = Stage::Comparing;
        let tag = self.slots.tag(slot);
        let op = BlockOp::Read(range, Access::default());
        self.steps.push_back(Step::Store { tag, op, data: Scatter::new() });
    }

    /// A COMPARE AND WRITE has its blocks.
    pub(super) fn compared(&mut self, now: Time, slot: u16, result: Result<(), BlockError>, read: &Scatter) {
        self.comparing.retain(|&other| other != slot);
        if let Err(error) = result {
            return self.end(now, slot, Err(error), Scatter::new(), Vec::new());
        }
        let data = &self.slots.look(slot).data;
        let half = data.len_bytes() / 2;
        if self.slots.look(slot).aborted {
            return self.end(now, slot, Err(BlockError::Aborted), Scatter::new(), Vec::new());
        }
        if let Some(at) = data.first_difference_at(0, read, 0, half) {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            return self.end(now, slot, Err(BlockError::Miscompare(at)), Scatter::new(), Vec::new());
        }
        if self.mode == Mode::Journaling {
            self.journal(now, slot);
            self.admit_all(now);
        } else {
            // Another mode has come meanwhile: all over again.
            self.leave(now, slot);
            self.slots.at(slot).stage = Stage::Waiting;
            self.waiting.push_front(slot);
            self.admit_all(now);
        }
    }

    /// Takes so many sequences that follow each other; the one before them.
    fn take_sequences(&mut self, count: u64) -> u64 {
        // No more than the order of this one number is needed: what happens after an answer sees what was before it.
        let before = self.plan.sequencer.fetch_add(count, Ordering::Relaxed);
        self.taken = before + count;
        before
    }

    fn append(&mut self, now: Time, change: Change, data: Scatter, promised: bool) {
        let sequence = Sequence(self.take_sequences(1) + 1);
        let more = false;
        self.steps.push_back(Step::Mail(ToGroup::Append {
            sequence,
            change,
            data,
            more,
            promised,
            taken: now,
        }));
    }

    /// Somebody waits for what has its sequence: the group is to know, once.
    pub(super) fn hurry(&mut self) {
        if self.taken > self.stable.max(self.hurried) && !self.promises.is_empty() {
            self.hurried = self.taken;
            self.steps.push_back(Step::Mail(ToGroup::Hurry(Sequence(self.taken))));
        }
    }

    /// Takes the sequence, and tells the group.
    fn journal(&mut self, now: Time, slot: u16) {
        let first = match &self.slots.look(slot).op {
            BlockOp::Write(range, _) | BlockOp::WriteVerify { range, .. } => {
                let range = *range;
                let data = self.slots.share(slot, 0);
                let promised = self.may_promise(slot);
                self.append(now, Change::Write(range), data, promised);
                self.taken
            }
            BlockOp::CompareAndWrite(range, _) => {
                let range = *range;
                let half = self.slots.look(slot).data.len_bytes() / 2;
                let data = self.slots.share(slot, half);
                self.append(now, Change::Write(range), data, false);
                self.taken
            }
            BlockOp::WriteSame { lba, blocks, unmap, zeroes } => {
                let (lba, blocks, unmap) = (*lba, blocks.0, *unmap);
                if *zeroes || self.slots.look(slot).data.is_zero() {
                    self.append(now, Change::Zero { lba, blocks, unmap }, Scatter::new(), false);
                } else {
                    let data = self.slots.share(slot, 0);
                    self.append(now, Change::Same { lba, blocks }, data, false);
                }
                self.taken
            }
            BlockOp::Unmap(ranges) => {
                // One operation is stable as a whole or not at all: a store gets it when all of it is, so the volumes could
                // lack the first range when that counts as destaged. Its sequences follow each other, in one frame.
                let ranges: Vec<_> = ranges.iter().filter(|range| range.blocks > 0).copied().collect();
                let before = self.take_sequences(ranges.len() as u64);
                for (range, sequence) in ranges.iter().zip(before + 1..) {
                    let (lba, blocks) = (range.lba, u64::from(range.blocks));
                    let change = Change::Zero { lba, blocks, unmap: true };
                    let (sequence, more) = (Sequence(sequence), sequence < self.taken);
                    let data = Scatter::new();
                    self.steps.push_back(Step::Mail(ToGroup::Append {
                        sequence,
                        change,
                        data,
                        more,
                        promised: false,
                        taken: now,
                    }));
                }
                before + 1
            }
            _ => return,
        };
        let here = self.slots.look(slot);
        let is_placed = here.stage == Stage::Comparing || here.is_promised();
        let taken = self.taken;
        let here = self.slots.at(slot);
        here.sequences = (first, taken);
        here.sequenced = true;
        here.stage = Stage::Journaled;
        here.era = self.era;
        if !is_placed {
            let mut blockers = 0;
            let order = &mut self.order;
            check::runs(&self.slots.look(slot).op, |run| blockers += order.insert(slot, Use::Write, run));
            self.slots.at(slot).blockers = blockers;
        }
        self.journaled.push_back(slot);
    }

    /// Asks for the bits, where they are not known to be durable.
    fn mark(&mut self, now: Time, slot: u16) {
        let size = self.plan.block_size;
        let (mut first, mut end) = (u64::MAX, 0);
        let mut known = true;
        granules::granules(&self.slots.look(slot).op, size, |run| {
            known &= self.known.all(run);
            (first, end) = (first.min(run.0), end.max(run.1));
        });
        if known {
            return self.enter(now, slot, Use::Write);
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.slots.at(slot).stage = Stage::Marking;
        self.marking.push_back((ticket, slot));
        // Runs of an UNMAP are joined: too many bits only cost copying.
        self.steps.push_back(Step::Mail(ToGroup::Mark { granules: (first, end), ticket }));
    }

    /// The bits of that ticket are durable.
    pub(super) fn on_marked(&mut self, now: Time, ticket: u64) {
        let Some(at) = self.marking.iter().position(|&(other, _)| other == ticket) else { return };
        let Some((_, slot)) = self.marking.remove(at) else { return };
        let known = &mut self.known;
        granules::granules(&self.slots.look(slot).op, self.plan.block_size, |run| known.set(run));
        self.enter(now, slot, Use::Write);
    }

    /// All sequences up to there are stable.
    pub(super) fn on_stable(&mut self, now: Time, sequence: u64) {
        self.stable = self.stable.max(sequence);
        while let Some(&slot) = self.journaled.front() {
            if self.slots.look(slot).sequences.1 > sequence {
                break;
            }
            self.journaled.pop_front();
            self.stamp += 1;
            self.applying += 1;
            let here = self.slots.at(slot);
            here.stamp = self.stamp;
            here.stage = Stage::Blocked;
            if here.blockers == 0 {
                self.hand(now, slot);
            }
        }
        self.look_at_flushes(now);
    }

    /// A host's operation that changes nothing.
    pub(super) fn read(&mut self, now: Time, slot: u16) {
        match self.slots.look(slot).op {
            BlockOp::Flush { .. } => self.flush(now, slot),
            BlockOp::LbaStatus { .. } => self.enter(now, slot, Use::Write),
            BlockOp::Read(_, access) if access.fua => self.enter(now, slot, Use::Write),
            _ if self.is_promised(&self.slots.look(slot).op) => self.enter(now, slot, Use::Write),
            _ if self.mode == (Mode::Secondary { reads: true }) => self.enter(now, slot, Use::Shared),
            _ => self.hand(now, slot),
        }
    }

    /// A host's flush.
    fn flush(&mut self, now: Time, slot: u16) {
        let taken = self.taken;
        let here = self.slots.at(slot);
        here.stage = Stage::Blocked;
        here.sequences = (0, if self.mode == Mode::Journaling { taken } else { 0 });
        self.flush_waits(slot);
        self.flushes.push(slot);
        self.hurry();
        self.look_at_flushes(now);
    }
}
