//! Writes that are answered before the journal has them.
//!
//! A promised write stays in its slot, and in the order of what overlaps, from its sequence until the store has it. So its
//! pages are held here, once, and shared with the journal's frame; neither a destage nor the other array's reads can find
//! it before it is stable, and a crash loses it only with whatever hosts wrote after it in the group.

use super::slots::Who;
use super::{Front, Step, check};
use kagami_types::{BlockError, BlockOp, Lba};
use kagami_volume::ranges::Mode as Use;

/// The most writes that are promised at a time. Each is looked at by whoever enters the order.
pub(super) const MOST: u16 = 256;

/// The most bytes that they may have.
const MOST_BYTES: usize = 4 << 20;

/// What is promised.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Writes may be.
    pub allowed: bool,
    count: u16,
    bytes: usize,
    /// The number of the newest one.
    last: u64,
}

impl Promises {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn len(&self) -> usize {
        self.count.into()
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.count < MOST && self.bytes + bytes <= MOST_BYTES
    }
}

impl Front {
    /// Whether the host of a write is answered before the journal has it, or was.
    pub(super) fn may_promise(&self, slot: u16) -> bool {
        let here = self.slots.look(slot);
        match (here.who, &here.op) {
            (Who::Promised, _) => true,
            (Who::Host(_), BlockOp::Write(_, access)) => {
                let free = self.promises.allowed && !access.fua && !here.aborted;
                free && self.promises.has_room_for(here.data.len_bytes())
            }
            _ => false,
        }
    }

    /// A write that goes to the group: its host is answered, where that may be.
    pub(super) fn promise(&mut self, slot: u16) {
        let here = self.slots.look(slot);
        let Who::Host(tag) = here.who else { return };
        if !self.may_promise(slot) {
            return;
        }
        let bytes = here.data.len_bytes();
        self.promises.count += 1;
        self.promises.bytes += bytes;
        self.promises.last += 1;
        self.slots.promise(slot, self.promises.last);
        let data = self.slots.storage();
        self.steps.push_back(Step::Done { tag, result: Ok(()), data, status: Vec::new() });
    }

    /// Whether a promised write may be among those that the operation overlaps.
    #[inline]
    pub(super) fn is_promised(&self, op: &BlockOp) -> bool {
        let mut found = false;
        if !self.promises.is_empty() {
            check::runs(op, |run| found |= self.order.blocks(Use::Write, &run));
        }
        found
    }

    /// A flush waits for what is promised now, unless the journal has it before.
    pub(super) fn flush_waits(&mut self, slot: u16) {
        let here = self.slots.at(slot);
        here.promise = self.promises.last;
        here.blockers = u32::from(self.promises.count);
    }

    /// The promised write of that number and length is in the store, or lost.
    pub(super) fn kept(&mut self, number: u64, bytes: usize, lost: Option<(Lba, BlockError)>) {
        self.promises.count -= 1;
        self.promises.bytes -= bytes;
        for &flush in &self.flushes {
            let flush = self.slots.at(flush);
            if flush.promise >= number && matches!(flush.who, Who::Host(_)) {
                flush.blockers = flush.blockers.saturating_sub(1);
            }
        }
        if let Some((lba, error)) = lost {
            self.steps.push_back(Step::Deferred { lba, error });
        }
    }
}
