//! The shards of a core: parts of operations, orders and the devices of other cores' units.
//!
//! What the hub does for units, but for what only units have. Nothing here is looked at where no volume is spread.

use crate::core::{Core, MOST_UNITS};
use crate::hub::{Hub, tell};
use crate::maker::Seed;
use crate::message::{Message, Part, PartDone, ShardMail, ShardNews, ShardOrder, UnitAddress};
use crate::shard::Shard;
use crate::spread::ShardAddress;
use kagami_cache::store::StoreContext;
use kagami_memory::Scatter;
use kagami_reactor::{Completion, Io};
use kagami_types::{BlockError, Time};
use kagami_volume::Outcome;
use std::sync::mpsc::{SyncSender, TrySendError};

impl<S: Send> Hub<S> {
    /// Calls a shard, and sends home what is done.
    fn with_shard<I: Io<Stream = S>, R>(
        &mut self,
        index: u32,
        io: &mut I,
        call: impl FnOnce(&mut Shard, &mut StoreContext<'_>) -> R,
    ) -> Option<R> {
        let shard = self.shards.get_mut(index as usize)?.as_mut()?;
        let mut cx = StoreContext { io, pool: &self.pool, done: &mut self.done, cache: &mut self.cache };
        let result = call(shard, &mut cx);
        let home = shard.home();
        while let Some(done) = self.next_done(index, io) {
            self.part_is_done(home, done);
        }
        let shard = self.shards.get_mut(index as usize)?.as_mut()?;
        if let (Some(error), Some(home)) = (shard.store.take_deferred_error(), home) {
            self.news(home, index, ShardNews::Deferred(error));
        }
        Some(result)
    }

    fn next_done<I: Io<Stream = S>>(&mut self, index: u32, io: &mut I) -> Option<PartDone> {
        let shard = self.shards.get_mut(index as usize)?.as_mut()?;
        let mut cx = StoreContext { io, pool: &self.pool, done: &mut self.done, cache: &mut self.cache };
        shard.next_done(&mut cx)
    }

    fn part_is_done(&mut self, home: Option<UnitAddress>, done: PartDone) {
        if let Some(home) = home {
            self.send(home.core, Message::PartDone(done));
        }
    }

    fn news(&mut self, home: UnitAddress, index: u32, news: ShardNews) {
        let from = ShardAddress { core: self.core, index };
        self.send(home.core, Message::News(home.index, from, Box::new(news)));
    }

    /// A part of an operation, for a shard of this core.
    pub(crate) fn part<I: Io<Stream = S>>(&mut self, part: Part, io: &mut I) {
        let Part { shard, unit, tag, .. } = part;
        if let Some(Some(there)) = self.shards.get(shard as usize)
            && let Some(metrics) = self.metrics.volume(there.row())
        {
            metrics.parts.inc();
        }
        let gone = |mut data: Scatter| {
            data.clear();
            let outcome = Outcome { result: Err(BlockError::Gone), data, status: Vec::new() };
            PartDone { unit: unit.index, tag, outcome, at_once: false }
        };
        let done = match self.shards.get(shard as usize) {
            Some(Some(_)) => self.with_shard(shard, io, |shard, cx| shard.part(cx, part)),
            _ => Some(Some(gone(part.data))),
        };
        if let Some(Some(done)) = done {
            self.part_is_done(Some(unit), done);
        }
    }

    /// A part that a unit of this core sent away is done.
    pub(crate) fn part_done<I: Io<Stream = S>>(&mut self, done: PartDone, io: &mut I) {
        let PartDone { unit, tag, outcome, at_once } = done;
        self.with_unit(unit, None, io, |unit, cx| unit.part_done(tag, outcome, at_once, cx));
    }

    /// A shard of another core says something to a unit of this one.
    pub(crate) fn shard_news<I: Io<Stream = S>>(
        &mut self,
        unit: u32,
        from: ShardAddress,
        news: ShardNews,
        io: &mut I,
    ) {
        self.with_unit(unit, None, io, |unit, cx| unit.shard_news(from, news, cx));
    }

    /// A device operation of a shard is done.
    pub(crate) fn shard_completion<I: Io<Stream = S>>(
        &mut self,
        index: u32,
        completion: Completion,
        io: &mut I,
    ) {
        self.with_shard(index, io, |shard, cx| shard.store.on_completion(cx, completion));
    }

    /// Time has passed.
    pub(crate) fn tick_shards<I: Io<Stream = S>>(&mut self, io: &mut I) {
        let now = io.now();
        for index in 0..u32::try_from(self.shards.len()).unwrap_or(u32::MAX) {
            let shard = self.shards.get(index as usize).and_then(Option::as_ref);
            if shard.is_some_and(|shard| shard.store.next_deadline() <= now) {
                self.with_shard(index, io, |shard, cx| shard.store.on_tick(cx));
            }
        }
    }

    /// Levels of the shards, in this core's rows of their volumes.
    pub(crate) fn measure_shards(&self) {
        for shard in self.shards.iter().flatten() {
            if let Some(metrics) = self.metrics.volume(shard.row()) {
                metrics.device_depth.set(shard.store.in_flight() as u64);
                if let Some(counted) = shard.store.cache_counters(&self.cache) {
                    tell(&metrics.cache, &counted);
                }
            }
        }
    }
}

impl<S: Send> Hub<S> {
    /// A shard is to make everything stable and go.
    pub(crate) fn dismiss_shard(&mut self, index: u32, now: Time) {
        if let Some(Some(shard)) = self.shards.get_mut(index as usize)
            && shard.leave(now)
        {
            self.leaving.push(index);
        }
    }
}

impl<I: Io> Core<I> {
    /// The daemon wants a shard here, for a unit that is made next.
    pub(crate) fn add_shard(&mut self, io: &mut I, seed: Seed, answer: &SyncSender<Result<u32, String>>) {
        let index = u32::try_from(self.hub.shards.len()).unwrap_or(u32::MAX);
        let made = match &mut self.maker {
            Some(maker) if index < MOST_UNITS => maker.make_shard(io, index, seed),
            _ => Err("this core takes no new shards; restart the array".to_owned()),
        };
        let made = made.and_then(|shard| shard.enter(&mut self.hub.cache)).map(|shard| {
            self.hub.shards.push(Some(shard));
            index
        });
        if let Err(TrySendError::Disconnected(Ok(index))) = answer.try_send(made) {
            // Who asked has given up.
            self.hub.dismiss_shard(index, io.now());
        }
    }

    /// A unit of another core tells one of its shards something.
    pub(crate) fn shard_order(&mut self, io: &mut I, mail: ShardMail) {
        let ShardMail { shard: index, unit, order } = mail;
        let there = self.hub.shards.get_mut(index as usize).and_then(Option::as_mut);
        let Some(shard) = there else { return };
        let news = match order {
            ShardOrder::Gone => {
                shard.store.set_gone();
                if let Some(device) = shard.store.release_device() {
                    io.remove_device(device);
                }
                Some(ShardNews::Released(shard.store.is_released()))
            }
            ShardOrder::Back { device, polled, limits } => {
                let result = crate::device::replace(io, &mut shard.store, device, polled, limits);
                let lost = self.hub.with_shard(index, io, |shard, cx| shard.store.take_lost(cx.cache));
                Some(ShardNews::Back { result, lost: lost.unwrap_or(false) })
            }
            ShardOrder::Leave => {
                shard.belongs(unit);
                self.hub.dismiss_shard(index, io.now());
                None
            }
            order => self.hub.with_shard(index, io, |shard, cx| shard.order(cx, unit, order)).flatten(),
        };
        if let Some(news) = news {
            self.hub.news(unit, index, news);
        }
    }

    /// Shards that were told to go, and have made everything stable, go.
    pub(crate) fn retire_shards(&mut self, io: &mut I) {
        for index in std::mem::take(&mut self.hub.leaving) {
            if self.hub.with_shard(index, io, Shard::is_over) == Some(false) {
                self.hub.leaving.push(index);
                continue;
            }
            let Some(mut shard) = self.hub.shards.get_mut(index as usize).and_then(Option::take) else {
                continue;
            };
            shard.store.set_gone();
            if let Some(device) = shard.store.release_device() {
                io.remove_device(device);
            }
            if let Some(metrics) = self.hub.metrics.volume(shard.row()) {
                metrics.device_depth.set(0);
            }
            let home = shard.home();
            shard.store.leave(&mut self.hub.cache);
            if let Some(home) = home {
                self.hub.news(home, index, ShardNews::Left);
            }
        }
    }
}
