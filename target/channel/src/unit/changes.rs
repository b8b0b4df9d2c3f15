//! What becomes of a unit's volume while hosts use it: growth, its device, its shards on other cores.

use super::{Unit, UnitContext};
use crate::message::ShardNews;
use crate::spread::{Growth, ShardAddress};
use kagami_scsi::Attention;
use kagami_types::BlockCount;
use kagami_volume::{DeviceLimits, Outcome, Tag};
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;

impl Unit {
    /// The volume's device has grown.
    pub(crate) fn grow(&mut self, blocks: BlockCount, cx: &mut UnitContext<'_>) {
        if self.server.capacity() < blocks {
            let growth = self.volume.grow(cx, blocks);
            self.has_grown(growth);
        }
    }

    fn has_grown(&mut self, growth: Growth) {
        if let Growth::Done(blocks) = growth
            && self.server.capacity() < blocks
        {
            self.server.set_capacity(blocks);
        }
    }

    /// A part of an operation is done on another core.
    pub(crate) fn part_done(&mut self, part: Tag, outcome: Outcome, at_once: bool, cx: &mut UnitContext<'_>) {
        if let Some(spread) = self.volume.spread_mut() {
            spread.part_done(cx, part, outcome, at_once);
        }
    }

    /// A shard of its volume, on another core, says something.
    pub(crate) fn shard_news(&mut self, from: ShardAddress, news: ShardNews, cx: &mut UnitContext<'_>) {
        let Some(spread) = self.volume.spread_mut() else { return };
        let (growth, is_back) = spread.news(cx, from, news);
        if let Some(growth) = growth {
            self.has_grown(growth);
        }
        if is_back {
            self.is_back(cx);
        }
    }

    /// The volume's device is back, and the store at this core has it, or why not. `answer` hears what came of it, in the
    /// end.
    pub(crate) fn device_back(
        &mut self,
        own: Result<(), String>,
        others: Vec<OwnedFd>,
        how: (bool, DeviceLimits),
        answer: SyncSender<Result<(), String>>,
        cx: &mut UnitContext<'_>,
    ) {
        if let Some(spread) = self.volume.spread_mut() {
            return spread.device_back(cx, own, others, how, answer);
        }
        if own.is_ok() {
            self.is_back(cx);
        }
        let _ = answer.try_send(own);
    }

    fn is_back(&mut self, cx: &mut UnitContext<'_>) {
        if self.volume.take_lost(cx) {
            self.server.lose_unflushed();
        }
        self.gone = false;
        self.refresh_readiness();
        cx.metrics.gone.set(0);
        self.server.establish_all(None, Attention::InternalReset);
    }
}
