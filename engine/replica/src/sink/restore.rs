//! Restore: entries are applied to the volumes, in the order of their sequences.
//!
//! Many are under way at once; the fronts keep overlapping ones in order. Nothing is applied beyond the durable target. What
//! is done without a gap is `applied`; [`checkpoint`](super::checkpoint) makes it durable. After a failure everything from
//! `applied` on is applied once more, in order, so that a later write is never overtaken by the repetition of an earlier one.

use super::copy::{Copy, Rule};
use super::event::{SinkEvent, Trouble};
use super::plan::{Limit, SinkVolume};
use super::queue::Queue;
use crate::context::{Context, Owner};
use crate::mail::VolumeIndex;
use kagami_journal::{EntryHead, EntryKind};
use kagami_memory::Scatter;
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, JournalPos, Lba, Sequence, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Entries being applied at most, and their bytes.
const ENTRIES: usize = 256;
const BYTES: u64 = 16 << 20;
/// A busy volume is asked again after that time.
const BUSY: Duration = Duration::from_millis(2);

/// What is applied, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    /// Between two frames.
    pub place: JournalPos,
    /// The last sequence, perhaps within the frame behind `place`.
    pub sequence: Sequence,
    /// Of that entry, by the primary's clock.
    pub time: u64,
}

#[derive(Debug)]
struct Slot {
    /// 0: nothing is asked of a volume.
    tag: u64,
    sequence: Sequence,
    time: u64,
    bytes: u64,
    volume: u8,
    blocks: (u64, u64),
    /// The frame ends with it.
    ends: Option<JournalPos>,
    done: bool,
    event: Option<SinkEvent>,
}

/// How far entries may be applied, and why not further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// The end of the last frame of which something may be applied.
    pub end: u64,
    /// The last sequence that may be applied.
    pub sequence: Sequence,
    /// It ends at the limit, not for want of frames.
    pub limited: bool,
    /// What is in reach ends where the order said.
    pub at_limit: bool,
    /// It ends at an entry that is too young: it will be old enough at that time of the primary's clock.
    pub old_enough: Option<u64>,
}

/// What holds entries back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brake {
    /// The primary's clock, as far as known.
    pub clock: u64,
    /// Entries younger than that wait.
    pub hold: Duration,
    /// Nothing beyond this.
    pub most: Sequence,
    /// Nothing of frames that end behind this.
    pub end: u64,
    /// What is read: frames that end behind it are not stable here.
    pub read: u64,
}

/// The applying half of a sink.
#[derive(Debug)]
pub(super) struct Restore {
    volumes: Vec<SinkVolume>,
    /// Volumes of which a write has ended since the last flush began.
    pub(super) dirty: Vec<bool>,
    slots: VecDeque<Slot>,
    bytes: u64,
    applied: Applied,
    /// The last sequence that was handed out.
    given: Sequence,
    /// Up to here everything is applied in any case: it may have been applied before a crash.
    must: Sequence,
    limit: Limit,
    /// A failure: when nothing is under way any more, all begins anew at `applied`, at that time.
    again: Option<Time>,
    /// An entry waits for a volume's new size.
    resizing: bool,
    trouble: Option<Trouble>,
    /// Of entries that are applied, ever.
    pub(super) restored_bytes: u64,
    /// How many entries were applied, ever.
    pub(super) restored_entries: u64,
}

impl Restore {
    pub(super) fn new(volumes: &[SinkVolume], applied: Applied, must: Sequence) -> Self {
        Self {
            volumes: volumes.to_vec(),
            dirty: vec![false; 256],
            slots: VecDeque::new(),
            bytes: 0,
            applied,
            given: applied.sequence,
            must,
            limit: Limit::None,
            again: None,
            resizing: false,
            trouble: None,
            restored_bytes: 0,
            restored_entries: 0,
        }
    }

    pub(super) fn applied(&self) -> Applied {
        self.applied
    }

    pub(super) fn trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// The last sequence that was handed to a volume.
    pub(super) fn given(&self) -> Sequence {
        self.given
    }

    /// Up to here everything is applied in any case.
    pub(super) fn must(&self) -> Sequence {
        self.must
    }

    /// Nothing is being applied.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.done)
    }

    /// Nothing is being applied, and all that was applied before a crash is again.
    pub(super) fn is_prefix(&self) -> bool {
        self.is_idle() && self.again.is_none() && self.applied.sequence >= self.must
    }

    pub(super) fn limit(&self) -> &Limit {
        &self.limit
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit != Limit::None
    }

    /// What failed for good is tried once more.
    pub(super) fn retry(&mut self) {
        if self.again == Some(Time::NEVER) {
            self.again = Some(Time(0));
        }
    }

    /// Another limit. Whether it lies before what is applied.
    pub(super) fn set_limit(&mut self, limit: Limit) -> bool {
        let passed = match &limit {
            Limit::None | Limit::Marker(_) => false,
            Limit::Sequence(sequence) => *sequence < self.applied.sequence,
            Limit::Offset(offset) => *offset < self.applied.place.offset,
            Limit::Time(time) => *time < self.applied.time,
        };
        self.limit = limit;
        passed
    }

    /// A volume has that many blocks now.
    pub(super) fn volume_resized(&mut self, index: VolumeIndex, blocks: u64) {
        if let Some(volume) = self.volumes.iter_mut().find(|volume| volume.index == index) {
            volume.blocks = blocks;
        }
        self.resizing = false;
    }

    /// How far entries may be applied by now: from `from` on, which may be already.
    pub(super) fn reach(&mut self, queue: &Queue, from: (u64, Sequence), brake: &Brake) -> Reach {
        let mut reach =
            Reach { end: from.0, sequence: from.1, limited: false, at_limit: false, old_enough: None };
        let hold = self.hold(brake);
        for held in queue.iter() {
            if held.end.offset > brake.read {
                return reach;
            }
            if held.last <= reach.sequence {
                // A frame without entries, or one that was in reach before.
                reach.end = reach.end.max(held.end.offset);
                continue;
            }
            for (head, data) in &held.entries {
                if head.sequence <= reach.sequence {
                    continue;
                }
                if head.sequence > self.must {
                    reach.at_limit = self.is_behind_limit(held.end.offset, head);
                    if reach.at_limit || head.sequence > brake.most || held.end.offset > brake.end {
                        reach.limited = true;
                        return reach;
                    }
                    let due = head.time.saturating_add(hold);
                    if hold > 0 && due > brake.clock {
                        reach.old_enough = Some(due);
                        return reach;
                    }
                }
                reach.sequence = head.sequence;
                reach.end = reach.end.max(held.end.offset);
                if self.is_marker_of_limit(head, data) {
                    self.limit = Limit::Sequence(head.sequence);
                }
                if self.limit == Limit::Sequence(head.sequence) {
                    // Nothing has to come behind it.
                    (reach.limited, reach.at_limit) = (true, true);
                    return reach;
                }
            }
        }
        if self.limit == Limit::Sequence(reach.sequence) {
            (reach.limited, reach.at_limit) = (true, true);
        }
        reach
    }

    /// How long entries wait, in nanoseconds. What an order has named is not held back.
    fn hold(&self, brake: &Brake) -> u64 {
        match self.limit {
            Limit::Sequence(_) | Limit::Offset(_) | Limit::Time(_) => 0,
            Limit::None | Limit::Marker(_) => u64::try_from(brake.hold.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    fn is_behind_limit(&self, frame_end: u64, head: &EntryHead) -> bool {
        match &self.limit {
            Limit::None | Limit::Marker(_) => false,
            Limit::Sequence(sequence) => head.sequence > *sequence,
            Limit::Offset(offset) => frame_end > *offset,
            Limit::Time(time) => head.time > *time,
        }
    }

    fn is_marker_of_limit(&self, head: &EntryHead, data: &Scatter) -> bool {
        head.kind == EntryKind::Marker && matches!(&self.limit, Limit::Marker(name) if *data == name[..])
    }

    /// Applies what is within the target.
    pub(super) fn go_on(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut Queue,
        copy: &Copy,
        target: (u64, Sequence),
    ) {
        if let Some(at) = self.again {
            if !self.is_idle() || cx.now < at {
                return;
            }
            self.again = None;
            self.slots.clear();
            self.bytes = 0;
            self.resizing = false;
            self.given = self.applied.sequence;
            queue.rewind(self.applied.place);
        }
        while self.slots.len() < ENTRIES && self.bytes < BYTES && !self.resizing {
            let Some(held) = queue.front() else { break };
            if held.end.offset > target.0 {
                break;
            }
            let end = held.end;
            let Some((head, _)) = held.entries.front() else {
                queue.pop();
                self.end_frame(end);
                continue;
            };
            let head = *head;
            if head.sequence <= self.given {
                held.entries.pop_front();
                continue;
            }
            if head.sequence > target.1 {
                break;
            }
            let Some(rule) = self.rule(&head, copy) else { break };
            if rule == Rule::Wait {
                break;
            }
            let Some((head, data)) = held.entries.pop_front() else { break };
            self.given = head.sequence;
            self.give(cx, &head, data, rule);
        }
    }

    /// What is to be done with an entry; nothing where it fits no volume.
    fn rule(&mut self, head: &EntryHead, copy: &Copy) -> Option<Rule> {
        if !head.kind.changes() {
            return Some(Rule::Apply);
        }
        let index = VolumeIndex(head.volume);
        let volume = self.volumes.iter().find(|volume| volume.index == index);
        let fits = volume.is_some_and(|volume| {
            volume.block_size.shift() == u32::from(head.shift)
                && head.lba.checked_add(head.blocks).is_some_and(|end| end <= volume.blocks)
        });
        if !fits {
            self.trouble = Some(Trouble::Unfit { volume: index, sequence: head.sequence });
            return None;
        }
        Some(copy.rule(index, head.bytes()))
    }

    fn give(&mut self, cx: &mut Context<'_>, head: &EntryHead, data: Scatter, rule: Rule) {
        let mut slot = Slot {
            tag: 0,
            sequence: head.sequence,
            time: head.time,
            bytes: u64::from(head.data_len),
            volume: head.volume,
            blocks: (head.lba, head.lba.saturating_add(head.blocks)),
            ends: None,
            done: true,
            event: None,
        };
        match head.kind {
            EntryKind::Marker => {
                slot.event = Some(SinkEvent::Marker { sequence: head.sequence, name: data.to_vec() });
            }
            EntryKind::Swap => {
                slot.event = Some(SinkEvent::Swap { sequence: head.sequence, request: data.to_vec() });
            }
            EntryKind::Resize => {
                self.resizing = true;
                let volume = VolumeIndex(head.volume);
                slot.event = Some(SinkEvent::Resize { volume, blocks: head.blocks });
            }
            EntryKind::Nothing => {}
            EntryKind::Write | EntryKind::Same | EntryKind::Zero { .. } if rule == Rule::Skip => {}
            EntryKind::Write | EntryKind::Same | EntryKind::Zero { .. } => {
                let lba = Lba(head.lba);
                let same = |unmap, zeroes| BlockOp::WriteSame {
                    lba,
                    blocks: BlockCount(head.blocks),
                    unmap,
                    zeroes,
                };
                let op = match (head.kind, u32::try_from(head.blocks)) {
                    (EntryKind::Zero { unmap }, _) => same(unmap, true),
                    (EntryKind::Same, _) => same(false, false),
                    (_, Ok(blocks)) => BlockOp::Write(BlockRange { lba, blocks }, Access::default()),
                    (_, Err(_)) => {
                        let volume = VolumeIndex(head.volume);
                        self.trouble = Some(Trouble::Unfit { volume, sequence: head.sequence });
                        return;
                    }
                };
                slot.tag = cx.actions.apply(Owner::Sink, VolumeIndex(head.volume), op, data);
                slot.done = false;
            }
        }
        self.bytes += slot.bytes;
        self.slots.push_back(slot);
    }

    /// The frame is handed out: what is before it is done when its last entry is.
    fn end_frame(&mut self, end: JournalPos) {
        match self.slots.back_mut() {
            Some(slot) => slot.ends = Some(end),
            None => self.applied.place = end,
        }
    }

    /// A write to a volume has ended. Whether it was one of these.
    pub(super) fn on_applied(&mut self, now: Time, tag: u64, result: Result<(), BlockError>) -> bool {
        // Tags only grow, but for those that are 0.
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.tag == tag && !slot.done) else {
            return false;
        };
        slot.done = true;
        // Only now: a flush that began before does not count for it.
        if let Some(dirty) = self.dirty.get_mut(usize::from(slot.volume)) {
            *dirty = true;
        }
        match result {
            Ok(()) => slot.tag = 0,
            Err(error) => {
                let busy =
                    matches!(error, BlockError::Busy | BlockError::Aborted | BlockError::BecomingReady);
                self.again = Some(if busy { now + BUSY } else { Time::NEVER });
                if !busy {
                    let (volume, blocks) = (VolumeIndex(slot.volume), slot.blocks);
                    self.trouble = Some(Trouble::Volume { volume, blocks, error });
                }
            }
        }
        true
    }

    /// Moves `applied` over what is done, and tells of markers and the like.
    pub(super) fn settle(&mut self, events: &mut VecDeque<SinkEvent>) {
        // A slot that failed is done, and still has its tag.
        while let Some(slot) = self.slots.front()
            && slot.done
            && slot.tag == 0
        {
            let Some(slot) = self.slots.pop_front() else { return };
            self.bytes -= slot.bytes;
            self.restored_bytes += slot.bytes;
            self.restored_entries += 1;
            self.applied.sequence = slot.sequence;
            self.applied.time = slot.time;
            if let Some(end) = slot.ends {
                self.applied.place = end;
            }
            events.extend(slot.event);
        }
    }

    pub(super) fn next_deadline(&self) -> Time {
        match self.again {
            Some(at) if self.is_idle() => at,
            _ => Time::NEVER,
        }
    }
}
