//! What is applied becomes stable: volumes are flushed, and what was applied before that is restored for good.

use super::copy::Copy;
use super::event::{SinkEvent, Trouble};
use super::restore::{Applied, Restore};
use crate::context::{Context, Owner};
use crate::mail::VolumeIndex;
use kagami_memory::Scatter;
use kagami_types::{BlockCount, BlockError, BlockOp, Lba, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// A volume that could not be flushed is asked again after that time.
const AGAIN: Duration = Duration::from_millis(20);

/// Flushes of the volumes, one round at a time.
#[derive(Debug)]
pub(super) struct Checkpoint {
    flushes: Vec<(u64, VolumeIndex)>,
    mark: Option<Applied>,
    failed: bool,
    /// No new round before this.
    rest: Time,
    /// When the last round began.
    began: Time,
    restored: Applied,
    trouble: Option<Trouble>,
}

impl Checkpoint {
    pub(super) fn new(restored: Applied) -> Self {
        Self {
            flushes: Vec::new(),
            mark: None,
            failed: false,
            rest: Time(0),
            began: Time(0),
            restored,
            trouble: None,
        }
    }

    /// Applied and flushed.
    pub(super) fn restored(&self) -> Applied {
        self.restored
    }

    pub(super) fn trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// No round is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.mark.is_none()
    }

    /// When the last round began.
    pub(super) fn began(&self) -> Time {
        self.began
    }

    /// Begins a round, where none is under way and there is something to make stable.
    pub(super) fn begin(
        &mut self,
        cx: &mut Context<'_>,
        restore: &mut Restore,
        copy: &mut Copy,
        events: &mut VecDeque<SinkEvent>,
    ) {
        let mark = restore.applied();
        if !self.is_idle() || cx.now < self.rest || (mark == self.restored && !copy.is_fresh()) {
            return;
        }
        self.began = cx.now;
        self.rest = Time(0);
        self.mark = Some(mark);
        self.failed = false;
        copy.flush_begins();
        for (index, dirty) in (0u8..=u8::MAX).zip(&mut restore.dirty) {
            if std::mem::take(dirty) {
                let index = VolumeIndex(index);
                let op = BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
                let tag = cx.actions.apply(Owner::Sink, index, op, Scatter::new());
                self.flushes.push((tag, index));
            }
        }
        self.end(copy, events);
    }

    /// A flush has ended. Whether it was one of these.
    pub(super) fn on_applied(
        &mut self,
        now: Time,
        tag: u64,
        result: Result<(), BlockError>,
        parts: (&mut Restore, &mut Copy, &mut VecDeque<SinkEvent>),
    ) -> bool {
        let (restore, copy, events) = parts;
        let Some(at) = self.flushes.iter().position(|(flush, _)| *flush == tag) else { return false };
        let (_, volume) = self.flushes.swap_remove(at);
        if let Err(error) = result {
            self.failed = true;
            self.rest = now + AGAIN;
            if let Some(dirty) = restore.dirty.get_mut(usize::from(volume.0)) {
                *dirty = true;
            }
            if !matches!(error, BlockError::Busy | BlockError::Aborted | BlockError::BecomingReady) {
                self.trouble = Some(Trouble::Volume { volume, blocks: (0, u64::MAX), error });
            }
        }
        self.end(copy, events);
        true
    }

    fn end(&mut self, copy: &mut Copy, events: &mut VecDeque<SinkEvent>) {
        if !self.flushes.is_empty() {
            return;
        }
        let Some(mark) = self.mark.take() else { return };
        if self.failed {
            copy.flush_failed();
            return;
        }
        self.restored = mark;
        let done = copy.flush_done();
        events.extend(done.into_iter().map(|(volume, runs)| SinkEvent::RegionsDone(volume, runs)));
    }

    pub(super) fn next_deadline(&self) -> Time {
        if self.is_idle() && self.rest > Time(0) { self.rest } else { Time::NEVER }
    }
}
