//! What a group does to all its volumes at once: a mode, and a flush.

use crate::context::{Context, Owner};
use crate::mail::{Mode, ToFront, VolumeIndex};
use kagami_memory::Scatter;
use kagami_types::{BlockError, BlockOp, Lba, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Fronts {
    all: Vec<VolumeIndex>,
    ticket: u64,
    waiting: BTreeSet<VolumeIndex>,
    /// The last one that was asked for.
    pub(super) mode: Option<Mode>,
    flushes: BTreeMap<u64, VolumeIndex>,
    again: BTreeSet<VolumeIndex>,
    retry: Time,
}

impl Fronts {
    pub(super) fn new(all: Vec<VolumeIndex>) -> Self {
        Self {
            all,
            ticket: 0,
            waiting: BTreeSet::new(),
            mode: None,
            flushes: BTreeMap::new(),
            again: BTreeSet::new(),
            retry: Time::NEVER,
        }
    }

    /// All fronts are to be so.
    pub(super) fn set(&mut self, cx: &mut Context<'_>, mode: Mode) {
        self.ticket += 1;
        self.mode = Some(mode);
        self.waiting = self.all.iter().copied().collect();
        for volume in &self.all {
            cx.actions.front(*volume, ToFront::Mode { ticket: self.ticket, mode });
        }
    }

    /// Some of these are new: they come into that mode, the others stay as they are.
    pub(super) fn join(&mut self, cx: &mut Context<'_>, all: &[VolumeIndex], mode: Mode) {
        for volume in all.iter().filter(|volume| !self.all.contains(volume)) {
            self.waiting.insert(*volume);
            cx.actions.front(*volume, ToFront::Mode { ticket: self.ticket, mode });
        }
        self.all = all.to_vec();
    }

    pub(super) fn on_holds(&mut self, volume: VolumeIndex, ticket: u64) {
        if ticket == self.ticket {
            self.waiting.remove(&volume);
        }
    }

    /// The last mode holds everywhere.
    pub(super) fn holds(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All stores are to be flushed; one that fails is asked again.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        self.flushes.clear();
        self.again.clear();
        for volume in self.all.clone() {
            self.flush_one(cx, volume);
        }
    }

    fn flush_one(&mut self, cx: &mut Context<'_>, volume: VolumeIndex) {
        let op = BlockOp::Flush { lba: Lba(0), blocks: kagami_types::BlockCount(0) };
        let tag = cx.actions.apply(Owner::Group, volume, op, Scatter::default());
        self.flushes.insert(tag, volume);
    }

    pub(super) fn on_applied(
        &mut self,
        cx: &mut Context<'_>,
        tag: u64,
        result: Result<(), BlockError>,
    ) -> bool {
        let Some(volume) = self.flushes.remove(&tag) else { return false };
        if let Err(error) = result {
            if self.retry == Time::NEVER {
                cx.actions.event(format!("volume {} cannot be flushed: {error}", volume.0));
            }
            self.again.insert(volume);
            self.retry = cx.now + AGAIN;
        }
        true
    }

    pub(super) fn on_tick(&mut self, cx: &mut Context<'_>) {
        if self.retry <= cx.now {
            self.retry = Time::NEVER;
            for volume in std::mem::take(&mut self.again) {
                self.flush_one(cx, volume);
            }
        }
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.flushes.is_empty() && self.again.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.retry
    }
}
