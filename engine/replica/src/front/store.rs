//! From the order of what overlaps to the store, and back.

use super::slots::{Slot, Stage, Who};
use super::{Front, RETRY, RETRY_LIMIT, Step, check};
use crate::mail::{Mode, ToGroup};
use kagami_memory::Scatter;
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, Lba, LbaStatus, Sequence, Time};
use kagami_volume::ranges::Mode as Use;

/// What the store is asked for. The journal has what took a sequence, so it need not be stable here.
fn for_store(slot: &Slot, journaling: bool) -> BlockOp {
    let sequenced = slot.sequences.1 > 0;
    match &slot.op {
        BlockOp::Write(range, access) if sequenced => {
            BlockOp::Write(*range, Access { fua: false, ..*access })
        }
        BlockOp::CompareAndWrite(range, access) if sequenced => {
            BlockOp::CompareAndWrite(*range, Access { fua: false, ..*access })
        }
        BlockOp::Read(range, access) if journaling => BlockOp::Read(*range, Access { fua: false, ..*access }),
        op => op.clone(),
    }
}

impl Front {
    /// What the group asks for.
    pub(super) fn apply(&mut self, now: Time, tag: u64, op: BlockOp, data: Scatter) {
        let checked = check::check(&self.plan, &op, data.len_bytes());
        let checked =
            checked.and(if self.slots.has_room_for_group() { Ok(()) } else { Err(BlockError::Busy) });
        if let Err(error) = checked {
            let mail = ToGroup::Applied { tag, result: Err(error), data: Scatter::new(), status: Vec::new() };
            return self.steps.push_back(Step::Mail(mail));
        }
        let (writes, flush) = (op.writes(), matches!(op, BlockOp::Flush { .. }));
        let Some(slot) = self.slots.take(Who::Group(tag), op, data, now) else { return };
        self.slots.at(slot).era = self.era;
        if flush {
            // It is about all that was stable when the group asked: these must have reached the store.
            self.slots.at(slot).stage = Stage::Blocked;
            self.slots.at(slot).stamp = self.stamp;
            self.slots.at(slot).settled = self.holding.is_empty();
            self.slots.at(slot).blockers = u32::try_from(self.applying).unwrap_or(u32::MAX);
            self.flushes.push(slot);
            return self.look_at_flushes(now);
        }
        // Where hosts read beside it, a command of theirs sees all or nothing of it.
        let alone = writes && self.mode == (Mode::Secondary { reads: true });
        self.enter(now, slot, if alone { Use::Exclusive } else { Use::Write });
    }

    /// Into the order, and to the store when nothing before it overlaps.
    pub(super) fn enter(&mut self, now: Time, slot: u16, how: Use) {
        let mut blockers = 0;
        let order = &mut self.order;
        let here = self.slots.look(slot);
        if here.is_promised() {
            blockers = here.blockers;
        } else {
            check::runs(&here.op, |run| blockers += order.insert(slot, how, run));
        }
        if self.slots.look(slot).op.writes() {
            self.applying += 1;
            self.stamp += 1;
        }
        let here = self.slots.at(slot);
        here.stamp = self.stamp;
        here.blockers = blockers;
        here.stage = Stage::Blocked;
        if blockers == 0 {
            self.hand(now, slot);
        } else {
            self.hurry();
        }
    }

    /// To the store.
    pub(super) fn hand(&mut self, _now: Time, slot: u16) {
        let journaling = self.mode == Mode::Journaling && self.covered;
        let tag = self.slots.tag(slot);
        let here = self.slots.at(slot);
        here.stage = Stage::Stored;
        let op = for_store(here, journaling);
        // What must happen is kept, for the store may be busy.
        let must = here.sequenced || matches!(here.who, Who::Group(_));
        if let BlockOp::Write(range, access) = op
            && must
            && range.blocks > self.longest
        {
            let (done, _) = here.parts;
            let blocks = range.blocks.saturating_sub(done).min(self.longest);
            here.parts = (done, blocks);
            let shift = self.plan.block_size.shift();
            let bytes = |blocks: u32| (blocks as usize) << shift;
            let data = self.slots.share_part(slot, bytes(done), bytes(blocks));
            let range = BlockRange { lba: Lba(range.lba.0 + u64::from(done)), blocks };
            return self.steps.push_back(Step::Store { tag, op: BlockOp::Write(range, access), data });
        }
        let data = if must && !here.data.is_empty() {
            self.slots.share(slot, 0)
        } else {
            std::mem::take(&mut self.slots.at(slot).data)
        };
        self.steps.push_back(Step::Store { tag, op, data });
    }

    /// Flushes whose time has come.
    pub(super) fn look_at_flushes(&mut self, now: Time) {
        let mut at = 0;
        while let Some(&slot) = self.flushes.get(at) {
            let here = self.slots.look(slot);
            let host = matches!(here.who, Who::Host(_));
            // After journaling has ended, the store has to answer for what it was given.
            let journaled = host && self.mode == Mode::Journaling && here.sequences.1 > 0;
            if if journaled { here.sequences.1 > self.stable } else { here.blockers > 0 } {
                at += 1;
                continue;
            }
            self.flushes.swap_remove(at);
            if host && self.mode == Mode::Journaling && self.covered {
                self.end(now, slot, Ok(()), Scatter::new(), Vec::new());
            } else {
                self.slots.at(slot).sequences = (0, 0);
                self.hand(now, slot);
            }
        }
    }

    /// Out of the order, whatever it was; those that waited for it go on.
    pub(super) fn leave(&mut self, now: Time, slot: u16) {
        let mut free = std::mem::take(&mut self.freed);
        let slots = &mut self.slots;
        self.order.remove(slot, |other| {
            let waits = slots.at(other);
            waits.blockers = waits.blockers.saturating_sub(1);
            if waits.blockers == 0 && waits.stage == Stage::Blocked {
                free.push(other);
            }
        });
        for other in free.drain(..) {
            self.hand(now, other);
        }
        self.freed = free;
        let here = self.slots.look(slot);
        if here.is_applying() {
            let stamp = here.stamp;
            self.applying -= 1;
            if !self.flushes.is_empty() {
                for &flush in &self.flushes {
                    let flush = self.slots.at(flush);
                    if flush.stamp >= stamp && matches!(flush.who, Who::Group(_)) {
                        flush.blockers = flush.blockers.saturating_sub(1);
                    }
                }
                self.look_at_flushes(now);
            }
        }
    }

    /// An operation of [`Step::Store`] has ended.
    pub fn on_store(
        &mut self,
        now: Time,
        tag: u64,
        result: Result<(), BlockError>,
        data: Scatter,
        status: Vec<LbaStatus>,
    ) {
        let Some(slot) = self.slots.of_tag(tag) else { return };
        let here = self.slots.at(slot);
        match here.stage {
            Stage::Comparing => return self.compared(now, slot, result, &data),
            Stage::Stored => {}
            _ => return,
        }
        let must = here.sequenced || matches!(here.who, Who::Group(_));
        let patient = now < here.since + RETRY_LIMIT || here.is_promised();
        if result == Err(BlockError::Busy) && must && patient {
            here.stage = Stage::Backoff;
            self.backoff.push_back(slot);
            self.retry_at = self.retry_at.min(now + RETRY);
            return;
        }
        if result.is_ok()
            && let (done, part @ 1..) = here.parts
            && let BlockOp::Write(range, _) = here.op
            && done + part < range.blocks
        {
            here.parts = (done + part, 0);
            here.since = now;
            return self.hand(now, slot);
        }
        self.end(now, slot, result, data, status);
    }

    /// What a busy store refused is tried again.
    pub(super) fn retry(&mut self, now: Time) {
        self.retry_at = Time::NEVER;
        for slot in std::mem::take(&mut self.backoff) {
            self.hand(now, slot);
        }
    }

    /// An operation has ended, however far it came.
    pub(super) fn end(
        &mut self,
        now: Time,
        slot: u16,
        result: Result<(), BlockError>,
        data: Scatter,
        status: Vec<LbaStatus>,
    ) {
        let here = self.slots.look(slot);
        let (who, era, aborted) = (here.who, here.era, here.aborted);
        if let (Err(error), true) = (result, here.sequences.1 > 0 && here.op.writes()) {
            let mut sequence = here.sequences.0;
            check::runs(&here.op, |run| {
                let mail =
                    ToGroup::Refused { sequence: Sequence(sequence), blocks: (run.start, run.end), error };
                self.steps.push_back(Step::Mail(mail));
                sequence += 1;
            });
        }
        let old = here.is_host_write_under_way() && era != self.era;
        let promise = here.is_promised().then(|| {
            let lost = match (&here.op, result) {
                (BlockOp::Write(range, _), Err(error)) => Some((range.lba, error)),
                _ => None,
            };
            (here.promise, here.data.len_bytes(), lost)
        });
        let flushed = matches!(here.op, BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) });
        if flushed && here.settled && result.is_ok() && era == self.era && self.mode == Mode::Journaling {
            self.covered = true;
        }
        self.leave(now, slot);
        self.slots.give(slot);
        match who {
            Who::Host(tag) => {
                let result = if aborted { Err(BlockError::Aborted) } else { result };
                self.steps.push_back(Step::Done { tag, result, data, status });
            }
            Who::Group(tag) => {
                self.steps.push_back(Step::Mail(ToGroup::Applied { tag, result, data, status }));
            }
            Who::Promised | Who::Nobody => {}
        }
        if let Some((number, bytes, lost)) = promise {
            self.kept(number, bytes, lost);
            self.look_at_flushes(now);
            self.hold();
        }
        if old {
            self.old -= 1;
            self.hold();
        }
        if !self.waiting.is_empty() {
            self.admit_all(now);
        }
    }
}
