//! A shard: the extents of a spread volume that another core's unit has here.
//!
//! A store over the volume's device, on this core's cache and ring. Parts of block operations come by message from the
//! unit's home core and their outcomes go back; it knows nothing else of them. The core routes completions, ticks and
//! messages.

use crate::message::{Part, PartDone, ShardNews, ShardOrder, UnitAddress};
use crate::spread::whole;
use kagami_cache::store::{Cache, Store, StoreContext, StorePlan};
use kagami_memory::Scatter;
use kagami_types::{BlockCount, BlockOp, Lba, Time};
use kagami_volume::{Tag, Volume};
use std::collections::VecDeque;

/// Flushes of which it is remembered how far the shard had come.
const MOST_OUTS: usize = 16;

/// The flush that a shard does for itself before it goes: no part is called so, as none has this slot.
const LAST: Tag = Tag(u64::MAX);

/// How far its end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// What is dirty goes out.
    Draining,
    /// The device makes it stable.
    Flushing,
    /// Nothing is left to do.
    Done,
}

/// A shard; see the module.
#[derive(Debug)]
pub struct Shard {
    pub(crate) store: Store,
    cached: Option<StorePlan>,
    row: usize,
    /// Whose it is; known from the first message on.
    home: Option<UnitAddress>,
    end: End,
    /// The operations for which it has written out, each with the store's count of writes then: the device is
    /// flushed by another shard, and this one is told.
    outs: VecDeque<(Tag, Option<u64>)>,
}

impl Shard {
    /// A shard over the whole volume's device, of which it will be asked for its own extents only. `row` is the
    /// volume's in the metrics.
    #[must_use]
    pub fn new(volume: Volume, row: usize) -> Self {
        Self {
            store: Store::direct(volume),
            cached: None,
            row,
            home: None,
            end: End::NotYet,
            outs: VecDeque::new(),
        }
    }

    /// The same with its core's cache in front. The plan's number is the core's to give; it should read nothing ahead.
    #[must_use]
    pub fn with_cache(mut self, plan: StorePlan) -> Self {
        self.cached = Some(plan);
        self
    }

    /// The shard has its place at a core.
    ///
    /// # Errors
    /// The cache cannot take it.
    pub(crate) fn enter(mut self, cache: &mut Cache) -> Result<Self, String> {
        self.store = crate::unit::entered(self.store, self.cached.take(), cache)?;
        Ok(self)
    }

    pub(crate) fn row(&self) -> usize {
        self.row
    }

    /// Whose it is.
    pub(crate) fn home(&self) -> Option<UnitAddress> {
        self.home
    }

    /// A part of an operation. `Some`: it is done.
    pub(crate) fn part(&mut self, cx: &mut StoreContext<'_>, part: Part) -> Option<PartDone> {
        let Part { unit, tag, op, data, writes_out, .. } = part;
        self.home = Some(unit);
        if writes_out {
            self.outs.retain(|(known, _)| *known != whole(tag));
            if self.outs.len() >= MOST_OUTS {
                self.outs.pop_front();
            }
            self.outs.push_back((whole(tag), None));
        }
        let outcome = match writes_out {
            true => self.store.write_out(cx, tag, op, data)?,
            false => self.store.submit(cx, tag, op, data)?,
        };
        self.note_writes(tag);
        Some(PartDone { unit: unit.index, tag, outcome, at_once: true })
    }

    /// What has become done since; `None` when that is all.
    pub(crate) fn next_done(&mut self, cx: &mut StoreContext<'_>) -> Option<PartDone> {
        loop {
            let (tag, outcome) = cx.done.pop()?;
            if tag == LAST {
                self.end = End::Done;
                continue;
            }
            self.note_writes(tag);
            let unit = self.home?;
            return Some(PartDone { unit: unit.index, tag, outcome, at_once: false });
        }
    }

    /// A part has ended: of a flush, what is on the device now is what that flush makes stable.
    fn note_writes(&mut self, part: Tag) {
        if let Some((_, writes)) = self.outs.iter_mut().find(|(tag, _)| *tag == whole(part)) {
            *writes = Some(self.store.writes());
        }
    }

    /// What its unit tells it, but for the life of the device. What there is to be said to that.
    pub(crate) fn order(
        &mut self,
        cx: &mut StoreContext<'_>,
        unit: UnitAddress,
        order: ShardOrder,
    ) -> Option<ShardNews> {
        self.home = Some(unit);
        match order {
            ShardOrder::Abort(part) => {
                // Where it is over already, its outcome is on the way.
                let _ = self.store.abort(cx, part);
            }
            ShardOrder::WriteBack(write_back) => self.store.set_write_back(write_back),
            ShardOrder::Journaled(journaled) => self.store.set_journaled(journaled),
            ShardOrder::Stable(flush) => {
                let at = self.outs.iter().position(|(tag, _)| *tag == whole(flush));
                if let Some((_, Some(writes))) = at.and_then(|at| self.outs.remove(at)) {
                    self.store.made_stable(writes);
                }
            }
            ShardOrder::Ahead(range) => self.store.read_ahead(cx, range),
            ShardOrder::Grow(blocks) => return Some(ShardNews::Grown(self.store.grow(blocks).is_ok())),
            ShardOrder::Limits(limits) => drop(self.store.set_device_limits(limits)),
            ShardOrder::Drain => self.store.set_draining(true, cx.io.now()),
            // The core's own business.
            ShardOrder::Leave | ShardOrder::Gone | ShardOrder::Back { .. } => {}
        }
        None
    }

    /// Whose it is.
    pub(crate) fn belongs(&mut self, unit: UnitAddress) {
        self.home = Some(unit);
    }

    /// It is to make everything stable and go. False where it was told before.
    pub(crate) fn leave(&mut self, now: Time) -> bool {
        if self.end != End::NotYet {
            return false;
        }
        self.store.set_draining(true, now);
        self.end = End::Draining;
        true
    }

    /// Goes on with its end. True: it can be taken out.
    pub(crate) fn is_over(&mut self, cx: &mut StoreContext<'_>) -> bool {
        if self.end == End::Draining && self.store.is_idle() {
            self.end = End::Flushing;
            let all = BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
            if self.store.submit(cx, LAST, all, Scatter::default()).is_some() {
                self.end = End::Done;
            }
        }
        self.end == End::Done && self.store.is_idle()
    }
}
