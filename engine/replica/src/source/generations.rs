//! Which granules the reader may lack, in two generations, so that memory does not grow with what is unconfirmed.
//!
//! The older has the entries up to a mark, the younger those behind it. When the reader has confirmed the mark, nothing of
//! the older is lacking: it is dropped, and the younger takes its place.

use super::plan::SourcePlan;
use crate::mail::VolumeIndex;
use kagami_journal::{Bits, EntryHead};
use kagami_types::Sequence;

#[derive(Debug)]
pub(super) struct Generations {
    /// By volume number.
    older: Vec<Bits>,
    younger: Vec<Bits>,
    /// Entries up to this are in the older.
    mark: Sequence,
    /// The place behind the frame that has the mark, once there is one.
    mark_end: Option<u64>,
    /// The newest sequence that came.
    newest: Sequence,
    /// Something may be in one of them.
    any: bool,
}

impl Generations {
    pub(super) fn new(plan: &SourcePlan, before: Sequence) -> Self {
        let count = plan.volumes.iter().map(|volume| usize::from(volume.index.0) + 1).max().unwrap_or(0);
        let mut empty = vec![Bits::default(); count];
        for volume in &plan.volumes {
            if let Some(bits) = empty.get_mut(usize::from(volume.index.0)) {
                bits.grow(volume.granules);
            }
        }
        let mut older = empty.clone();
        let mut any = false;
        for (bits, found) in older.iter_mut().zip(&plan.unconfirmed) {
            bits.union(found);
            any |= !bits.is_empty();
        }
        Self { older, younger: empty, mark: before, mark_end: Some(plan.at), newest: before, any }
    }

    pub(super) fn add(&mut self, head: &EntryHead) {
        self.newest = self.newest.max(head.sequence);
        if !head.kind.changes() {
            return;
        }
        let (from, to) = head.bytes();
        let generation = if head.sequence <= self.mark { &mut self.older } else { &mut self.younger };
        if let Some(bits) = generation.get_mut(usize::from(head.volume)) {
            bits.set_bytes(from, to);
            self.any = true;
        }
    }

    /// A frame ends at `end` with the sequence `last`.
    pub(super) fn framed(&mut self, last: Sequence, end: u64) {
        if self.mark_end.is_none() && last >= self.mark {
            self.mark_end = Some(end);
        }
    }

    /// The reader has everything before `offset`; frames go as far as `end`.
    pub(super) fn confirmed(&mut self, offset: u64, end: (u64, Sequence)) {
        // Twice: what came before the new mark may all be confirmed too.
        for _ in 0..2 {
            if !self.any || self.mark_end.is_none_or(|mark| mark > offset) {
                return;
            }
            std::mem::swap(&mut self.older, &mut self.younger);
            self.younger.iter_mut().for_each(Bits::clear);
            self.any = self.older.iter().any(|bits| !bits.is_empty());
            self.mark = self.newest;
            self.mark_end = (end.1 >= self.mark).then_some(end.0);
        }
    }

    pub(super) fn grow(&mut self, volume: VolumeIndex, granules: u64) {
        for generation in [&mut self.older, &mut self.younger] {
            if let Some(bits) = generation.get_mut(usize::from(volume.0)) {
                bits.grow(granules);
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Bits> {
        let mut all = self.older.clone();
        for (bits, younger) in all.iter_mut().zip(&self.younger) {
            bits.union(younger);
        }
        all
    }
}
