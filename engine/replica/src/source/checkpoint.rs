//! Bringing what is stable in the journal into the volumes for good, so that the journal need not keep it.
//!
//! From time to time, or when half of the journal waits for it, each volume that has new entries is flushed. The fronts
//! put the flush behind every write that they were told to be stable; so what was stable when it was asked for is
//! destaged when all have answered.

use super::{Source, Volume};
use crate::context::{Context, Owner};
use kagami_memory::Scatter;
use kagami_types::{BlockCount, BlockError, BlockOp, Lba, Sequence, Time};
use std::time::Duration;

/// How long entries wait for a checkpoint at most.
const EVERY: Duration = Duration::from_secs(30);
/// How long after a failed one the next is tried.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Checkpoint {
    /// One is under way, for what was stable then.
    at: Option<(u64, Sequence)>,
    /// Flushes that have not been answered, and which volume each is for.
    waiting: Vec<(u64, usize)>,
    /// Of each volume: nothing failed.
    good: Vec<bool>,
    /// When the one under way began, and the last one that went well.
    began: Time,
    covers: Option<Time>,
    /// When the next is due.
    due: Time,
    /// Not before.
    not_before: Time,
}

/// A checkpoint that has ended: what was stable when it began, and of each volume whether it went well.
type Ended = ((u64, Sequence), Vec<bool>);

impl Checkpoint {
    pub(super) fn new(now: Time) -> Self {
        Self {
            at: None,
            waiting: Vec::new(),
            good: Vec::new(),
            began: now,
            covers: None,
            due: now + EVERY,
            not_before: now,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.at.is_some()
    }

    pub(super) fn next(&self, wanted: bool) -> Time {
        if wanted && self.at.is_none() { self.due } else { Time::NEVER }
    }

    /// `None`: the tag is not one of a checkpoint. Else what it came to, if that was the last answer.
    pub(super) fn on_applied(
        &mut self,
        now: Time,
        tag: u64,
        result: Result<(), BlockError>,
    ) -> Option<Option<Ended>> {
        let at = self.waiting.iter().position(|(mine, _)| *mine == tag)?;
        let (_, volume) = self.waiting.swap_remove(at);
        if let Some(good) = self.good.get_mut(volume) {
            *good &= result.is_ok();
        }
        if !self.waiting.is_empty() {
            return Some(None);
        }
        let good = std::mem::take(&mut self.good);
        let wait = if good.iter().all(|good| *good) { EVERY } else { AGAIN };
        if wait == EVERY {
            self.covers = Some(self.began);
        }
        self.due = now + wait;
        self.not_before = if wait == AGAIN { now + AGAIN } else { now };
        Some(self.at.take().map(|at| (at, good)))
    }

    fn begin(&mut self, cx: &mut Context<'_>, at: (u64, Sequence), volumes: &mut [Volume]) {
        self.good = vec![true; volumes.len()];
        self.at = Some(at);
        self.began = cx.now;
        for (place, volume) in volumes.iter_mut().enumerate().filter(|(_, volume)| volume.dirty) {
            volume.dirty = false;
            let op = BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
            let tag = cx.actions.apply(Owner::Source, volume.index, op, Scatter::new());
            self.waiting.push((tag, place));
        }
    }
}

impl Source {
    /// Whether a checkpoint that began at that time or later is done: what hosts wrote before it is in the volumes.
    pub fn is_destaged_since(&self, time: Time) -> bool {
        self.checkpoint.covers.is_some_and(|covers| covers >= time)
    }

    pub(super) fn begin_checkpoint(&mut self, cx: &mut Context<'_>) {
        if self.checkpoint.is_under_way() || cx.now < self.checkpoint.not_before {
            return;
        }
        let stable = self.writer.stable();
        // Entries that came and are not stable yet keep their volumes dirty.
        self.checkpoint.begin(cx, stable, &mut self.volumes);
        for volume in self.volumes.iter_mut().filter(|volume| volume.newest > stable.1) {
            volume.dirty = true;
        }
        if self.checkpoint.waiting.is_empty() {
            self.checkpoint.at = None;
            self.checkpoint.due = cx.now + EVERY;
            self.checkpoint.covers = Some(cx.now);
            if self.destaged != stable {
                self.destaged = stable;
                self.ask_save(cx.now);
            }
            self.events.push_back(super::SourceEvent::Destaged);
        }
        self.write_index(cx, true);
    }

    pub(super) fn look_at_checkpoint(&mut self, cx: &mut Context<'_>) {
        let waits = self.undestaged();
        if waits > 0 && (cx.now >= self.checkpoint.due || waits > self.layout.data_len / 2) && !self.stopped {
            self.begin_checkpoint(cx);
        }
    }
}
