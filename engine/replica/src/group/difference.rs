//! The difference bitmap of a group: in memory, and its two copies on the journal device.
//!
//! A block that changes is written to one copy, and when that is stable to the other, so one is always whole. Changes are
//! numbered; who waits for bits to be durable waits until no block is left that was touched by that change or one before.

use super::pages;
use crate::action::{DeviceEnd, DeviceOp};
use crate::context::{Context, Owner};
use crate::mail::VolumeIndex;
use kagami_journal::{BLOCK, BitmapBlocks, BitmapMap, Bits, FoundBlock, Layout};
use kagami_memory::Scatter;
use kagami_types::{Time, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bytes of a block.
const BLOCK_LEN: usize = 4096;
/// Blocks that are written at once.
const BATCH: usize = 64;
/// Blocks of a bitmap that are read at once.
const READ: u32 = 64;
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Round {
    copy: usize,
    /// The block, the first change that it has, its bytes.
    blocks: Vec<(u32, u64, Scatter)>,
    pending: BTreeSet<u64>,
    failed: bool,
}

/// Reading both copies at a start.
#[derive(Debug)]
struct Load {
    next: u32,
    reads: BTreeMap<u64, usize>,
    got: [Option<Vec<u8>>; 2],
    lost: u32,
}

#[derive(Debug)]
pub(super) struct Difference {
    layout: Layout,
    group: Uuid,
    /// In the order of the volumes' numbers.
    pub(super) bits: Vec<Bits>,
    blocks: BitmapBlocks,
    /// Blocks to be written, with the first change that the device lacks.
    dirty: BTreeMap<u32, u64>,
    changes: u64,
    round: Option<Round>,
    load: Option<Load>,
    retry: Option<Time>,
}

impl Difference {
    /// An empty one, of no set. `None`: the layout has no room for so many granules.
    pub(super) fn new(group: Uuid, layout: Layout, granules: &[u64]) -> Option<Self> {
        let map = BitmapMap::new(&layout, granules)?;
        Some(Self {
            layout,
            group,
            bits: granules.iter().map(|granules| Bits::new(*granules)).collect(),
            blocks: BitmapBlocks::new(group, 0, map),
            dirty: BTreeMap::new(),
            changes: 0,
            round: None,
            load: None,
            retry: None,
        })
    }

    pub(super) fn set(&self) -> u64 {
        self.blocks.set()
    }

    /// All its blocks are to be written, as a set of that number: nothing on the device counts any more.
    pub(super) fn begin_set(&mut self, set: u64) {
        let map = self.blocks.map().clone();
        self.changes += 1;
        self.dirty = (0..map.blocks()).map(|block| (block, self.changes)).collect();
        self.blocks = BitmapBlocks::new(self.group, set, map);
    }

    /// It has other volumes, or larger ones, from now on, as a set of that number. What is new is in it. False, and nothing
    /// has changed, where there is no room.
    pub(super) fn reshape(&mut self, granules: &[u64], set: u64) -> bool {
        let Some(map) = BitmapMap::new(&self.layout, granules) else { return false };
        for (at, len) in granules.iter().enumerate() {
            match self.bits.get_mut(at) {
                Some(bits) => {
                    let before = bits.len();
                    bits.grow(*len);
                    bits.set_range(before, *len);
                }
                None => {
                    let mut bits = Bits::new(*len);
                    bits.set_all();
                    self.bits.push(bits);
                }
            }
        }
        self.blocks = BitmapBlocks::new(self.group, set, map);
        self.begin_set(set);
        true
    }

    /// Forgets everything, and that there is a set.
    pub(super) fn forget(&mut self) {
        let map = self.blocks.map().clone();
        self.blocks = BitmapBlocks::new(self.group, 0, map);
        self.bits.iter_mut().for_each(Bits::clear);
        self.dirty.clear();
        self.retry = None;
    }

    /// How many granules are in it.
    pub(super) fn count(&self) -> u64 {
        self.bits.iter().map(Bits::count).sum()
    }

    pub(super) fn total(&self) -> u64 {
        self.bits.iter().map(Bits::len).sum()
    }

    /// Puts granules in. Whether something changed.
    pub(super) fn mark(&mut self, volume: VolumeIndex, from: u64, to: u64) -> bool {
        let Some(bits) = self.bits.get_mut(usize::from(volume.0)) else { return false };
        let to = to.min(bits.len());
        if from >= to || bits.set_range(from, to) {
            return false;
        }
        self.touch(volume, from, to);
        true
    }

    /// Takes granules out. The device hears of it some time.
    pub(super) fn clear(&mut self, volume: VolumeIndex, from: u64, to: u64) {
        let Some(bits) = self.bits.get_mut(usize::from(volume.0)) else { return };
        let to = to.min(bits.len());
        if from < to {
            bits.clear_range(from, to);
            self.touch(volume, from, to);
        }
    }

    /// Puts everything in that is in those.
    pub(super) fn join(&mut self, others: &[Bits]) {
        for (at, other) in others.iter().enumerate() {
            let Ok(volume) = u8::try_from(at) else { return };
            let runs: Vec<(u64, u64)> = other.runs().collect();
            for (from, to) in runs {
                self.mark(VolumeIndex(volume), from, to);
            }
        }
    }

    pub(super) fn set_all(&mut self) {
        self.bits.iter_mut().for_each(Bits::set_all);
        self.changes += 1;
        for block in 0..self.blocks.map().blocks() {
            self.dirty.entry(block).or_insert(self.changes);
        }
    }

    fn touch(&mut self, volume: VolumeIndex, from: u64, to: u64) {
        let map = self.blocks.map();
        if let (Some(first), Some(last)) = (map.block_of(volume.0, from), map.block_of(volume.0, to - 1)) {
            self.changes += 1;
            for block in first..=last {
                self.dirty.entry(block).or_insert(self.changes);
            }
        }
    }

    /// A stamp for [`Self::is_durable`]: of everything that is in it now.
    pub(super) fn stamp(&self) -> u64 {
        self.changes
    }

    /// Everything that was in it at that stamp is on both copies.
    pub(super) fn is_durable(&self, stamp: u64) -> bool {
        let of_round = self.round.iter().flat_map(|round| round.blocks.iter().map(|(_, first, _)| *first));
        self.dirty.values().copied().chain(of_round).all(|first| first > stamp)
    }

    /// Everything that is in it is on both copies, or there is no set that should be: what late news of a finished copy
    /// touches is not written any more, and all of it is when a set begins.
    pub(super) fn is_clean(&self) -> bool {
        (self.dirty.is_empty() || self.set() == 0) && self.round.is_none()
    }

    /// Nothing is on its way to the device.
    pub(super) fn is_quiet(&self) -> bool {
        self.round.is_none()
    }

    /// Begins what can begin.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) {
        if self.load.is_some() {
            self.read(cx);
        } else if self.round.is_none() && self.set() != 0 && self.retry.is_none_or(|at| at <= cx.now) {
            self.begin(cx);
        }
    }

    fn begin(&mut self, cx: &mut Context<'_>) {
        let mut oldest: Vec<(u64, u32)> = self.dirty.iter().map(|(block, first)| (*first, *block)).collect();
        oldest.sort_unstable();
        oldest.truncate(BATCH);
        let mut round = Round { copy: 0, blocks: Vec::new(), pending: BTreeSet::new(), failed: false };
        for (first, block) in oldest {
            let data = self.blocks.encode(block, &self.bits).and_then(|bytes| pages(cx.pool, &bytes));
            let Some(data) = data else {
                self.retry = Some(cx.now + AGAIN);
                break;
            };
            self.dirty.remove(&block);
            round.blocks.push((block, first, data));
        }
        if round.blocks.is_empty() {
            return;
        }
        round.write(cx, &self.layout);
        self.round = Some(round);
    }

    /// A device operation has ended. Whether it was one of these.
    pub(super) fn on_device(&mut self, cx: &mut Context<'_>, tag: u64, end: &DeviceEnd) -> bool {
        if let Some(load) = &mut self.load
            && let Some(copy) = load.reads.remove(&tag)
        {
            let bytes = end.as_ref().map(Scatter::to_vec).unwrap_or_default();
            if let Some(slot) = load.got.get_mut(copy) {
                *slot = Some(bytes);
            }
            if load.reads.is_empty() {
                self.loaded(cx);
            }
            return true;
        }
        let Some(round) = &mut self.round else { return false };
        if !round.pending.remove(&tag) {
            return false;
        }
        round.failed |= end.is_err();
        if !round.pending.is_empty() {
            return true;
        }
        if round.failed {
            let round = self.round.take();
            if self.set() == 0 {
                // The set was given up meanwhile: nothing of it is written any more.
                return true;
            }
            // The other copy is whole; this one is written again.
            if self.retry.is_none() {
                cx.actions.event("the journal does not take its bitmap");
            }
            self.retry = Some(cx.now + AGAIN);
            for (block, first, _) in round.into_iter().flat_map(|round| round.blocks) {
                self.dirty.insert(block, first);
            }
            return true;
        }
        self.retry = None;
        if round.copy == 0 {
            round.copy = 1;
            round.write(cx, &self.layout);
        } else {
            self.round = None;
            self.turn(cx);
        }
        true
    }

    /// Begins to read that set from the device; [`Self::is_loaded`] says when it is there.
    pub(super) fn load(&mut self, set: u64) {
        let map = self.blocks.map().clone();
        self.blocks = BitmapBlocks::new(self.group, set, map);
        self.bits.iter_mut().for_each(Bits::clear);
        self.dirty.clear();
        self.load = Some(Load { next: 0, reads: BTreeMap::new(), got: [None, None], lost: 0 });
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.load.is_none()
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        let blocks = self.blocks.map().blocks();
        let Some(load) = &mut self.load else { return };
        if !load.reads.is_empty() {
            return;
        }
        if load.next >= blocks {
            if load.lost > 0 {
                cx.actions.event(format!(
                    "{} blocks of the difference bitmap are lost in both copies: more is copied than differs",
                    load.lost
                ));
            }
            self.load = None;
            return;
        }
        let count = (blocks - load.next).min(READ);
        let len = count * u32::try_from(BLOCK).unwrap_or(4096);
        for copy in 0..2 {
            let at = BitmapMap::place(&self.layout, copy, load.next);
            load.reads.insert(cx.actions.journal(Owner::Group, DeviceOp::Read { at, len }), copy);
        }
    }

    fn loaded(&mut self, cx: &mut Context<'_>) {
        let Some(load) = &mut self.load else { return };
        let first = load.got[0].take().unwrap_or_default();
        let second = load.got[1].take().unwrap_or_default();
        let count = (self.blocks.map().blocks() - load.next).min(READ);
        for at in 0..count {
            let from = at as usize * BLOCK_LEN;
            let part = |bytes: &[u8]| bytes.get(from..from + BLOCK_LEN).unwrap_or_default().to_vec();
            let block = load.next + at;
            match self.blocks.decode(block, &part(&first), &part(&second), &mut self.bits) {
                FoundBlock::Good => {}
                FoundBlock::OneBroken => {
                    self.dirty.insert(block, self.changes);
                }
                FoundBlock::Lost => {
                    self.dirty.insert(block, self.changes);
                    load.lost += 1;
                }
            }
        }
        load.next += count;
        self.read(cx);
    }

    pub(super) fn next_deadline(&self) -> Time {
        match self.retry {
            Some(at) if self.round.is_none() && self.set() != 0 && !self.dirty.is_empty() => at,
            _ => Time::NEVER,
        }
    }
}

impl Round {
    fn write(&mut self, cx: &mut Context<'_>, layout: &Layout) {
        for (block, _, data) in &self.blocks {
            let at = BitmapMap::place(layout, self.copy, *block);
            let mut copy = Scatter::default();
            copy.push_range(data, 0, data.len_bytes());
            let op = DeviceOp::Write { at, data: copy, stable: true };
            self.pending.insert(cx.actions.journal(Owner::Group, op));
        }
    }
}

#[cfg(test)]
mod tests;
