//! What is told to all shards of a volume: the WCE bit, a journal before it, growth, the life of the device, the end.
//!
//! What needs no answer holds for all parts that are sent after it. Growth and a device that is back wait for all
//! answers before anybody hears of it. Nothing here is on the way of a command.

use super::{ShardAddress, Spread};
use crate::message::{ShardNews, ShardOrder};
use crate::unit::UnitContext;
use kagami_types::{BlockCount, Time};
use kagami_volume::DeviceLimits;
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;

/// How far a growth has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// The volume has so many blocks now.
    Done(BlockCount),
    /// The shards have been asked.
    Begun,
    /// It cannot be so large.
    Refused,
}

/// Who waits for a device that is back, and what the shards have said.
#[derive(Debug)]
struct Return {
    left: usize,
    result: Result<(), String>,
    answer: SyncSender<Result<(), String>>,
}

/// Changes under way.
#[derive(Debug)]
pub(super) struct Changes {
    write_back: bool,
    journaled: bool,
    /// The shards have been told of it.
    told: bool,
    /// The size that is asked for, and how many shards have still to agree.
    growing: Option<(BlockCount, usize, bool)>,
    /// A later size, for when that is over.
    then: BlockCount,
    /// Which shards have given up their device.
    released: Box<[bool]>,
    returns: Option<Return>,
    /// A shard's device may have lost what was not flushed.
    lost: bool,
    /// Shards that are still there after they were told to go.
    leaving: Option<usize>,
}

impl Changes {
    pub(super) fn new(remotes: usize, write_back: bool) -> Self {
        Self {
            write_back,
            journaled: false,
            told: false,
            growing: None,
            then: BlockCount(0),
            released: vec![false; remotes].into_boxed_slice(),
            returns: None,
            lost: false,
            leaving: None,
        }
    }
}

impl Spread {
    /// The WCE bit for operations from now on.
    pub(crate) fn set_write_back(&mut self, cx: &mut UnitContext<'_>, write_back: bool) {
        self.own.set_write_back(write_back);
        if std::mem::replace(&mut self.changes.write_back, write_back) != write_back {
            self.tell(cx, || ShardOrder::WriteBack(write_back));
        }
    }

    /// Whether a journal has what is dirty.
    pub(crate) fn set_journaled(&mut self, cx: &mut UnitContext<'_>, journaled: bool) {
        self.own.set_journaled(journaled);
        if std::mem::replace(&mut self.changes.journaled, journaled) != journaled {
            self.tell(cx, || ShardOrder::Journaled(journaled));
        }
    }

    /// Before the first part: the shards were made by who did not know what the device server had kept.
    #[inline]
    pub(super) fn greet(&mut self, cx: &mut UnitContext<'_>) {
        if !self.changes.told {
            self.changes.told = true;
            let write_back = self.changes.write_back;
            self.tell(cx, || ShardOrder::WriteBack(write_back));
        }
    }

    /// Makes the volume larger, after all shards have.
    pub(crate) fn grow(&mut self, cx: &mut UnitContext<'_>, blocks: BlockCount) -> Growth {
        if self.changes.growing.is_some() {
            self.changes.then = self.changes.then.max(blocks);
            return Growth::Begun;
        }
        self.changes.growing = Some((blocks, self.remotes.len(), true));
        self.tell(cx, || ShardOrder::Grow(blocks));
        Growth::Begun
    }

    fn grown(&mut self, cx: &mut UnitContext<'_>, ok: bool) -> Growth {
        let Some((blocks, left, all)) = &mut self.changes.growing else { return Growth::Refused };
        *left = left.saturating_sub(1);
        *all &= ok;
        if *left > 0 {
            return Growth::Begun;
        }
        let (blocks, all) = (*blocks, *all);
        self.changes.growing = None;
        let done = all && self.own.grow(blocks).is_ok();
        let then = std::mem::take(&mut self.changes.then);
        if then > blocks {
            self.grow(cx, then);
        }
        if done { Growth::Done(blocks) } else { Growth::Refused }
    }

    /// The device was removed: every shard gives it up. To be told again until
    /// [`is_released`](Self::is_released).
    pub(crate) fn set_gone(&mut self, cx: &mut UnitContext<'_>) {
        self.own.set_gone();
        self.tell(cx, || ShardOrder::Gone);
    }

    /// Whether every shard has.
    pub(crate) fn is_released(&mut self) -> bool {
        self.changes.released.iter().all(|released| *released) && self.own.is_released()
    }

    /// The device is back, and the shard at home has it or why not: now for the others. Who asked hears when all have
    /// answered.
    pub(crate) fn device_back(
        &mut self,
        cx: &mut UnitContext<'_>,
        own: Result<(), String>,
        devices: Vec<OwnedFd>,
        (polled, limits): (bool, DeviceLimits),
        answer: SyncSender<Result<(), String>>,
    ) {
        if own.is_err() || devices.len() != self.remotes.len() {
            let _ = answer.try_send(own.and(Err("it cannot be opened once a core".to_owned())));
            return self.set_gone(cx);
        }
        for (remote, device) in self.remotes.iter().zip(devices) {
            let order = ShardOrder::Back { device, polled, limits };
            cx.crossing.push((remote.core, order.to(remote.index, cx.home)));
        }
        self.changes.returns = Some(Return { left: self.remotes.len(), result: own, answer });
    }

    /// As [`Store::take_lost`](kagami_cache::store::Store::take_lost), on all cores that said so. What another shard's flush
    /// made stable is counted as well: a shard knows only of its own.
    pub(crate) fn take_lost(&mut self, cx: &mut UnitContext<'_>) -> bool {
        self.own.take_lost(cx.volume.cache) | std::mem::take(&mut self.changes.lost)
    }

    /// How many descriptors of a device are needed beside the one at home.
    pub(crate) fn others(&self) -> usize {
        self.remotes.len()
    }

    /// The device has other limits.
    pub(crate) fn set_device_limits(&mut self, cx: &mut UnitContext<'_>, limits: DeviceLimits) {
        // What contradicts the volume is not taken: it goes on with what it knows.
        let _ = self.own.set_device_limits(limits);
        self.tell(cx, || ShardOrder::Limits(limits));
    }

    /// Everything dirty is to go out as fast as the device takes it, here and elsewhere.
    pub(crate) fn set_draining(&mut self, cx: &mut UnitContext<'_>, now: Time) {
        self.own.set_draining(true, now);
        self.tell(cx, || ShardOrder::Drain);
    }

    /// Has the shards make everything stable and go; whether all have gone. Nothing is under way here, and nothing comes.
    pub(crate) fn dismiss(&mut self, cx: &mut UnitContext<'_>) -> bool {
        if self.changes.leaving.is_none() {
            self.changes.leaving = Some(self.remotes.len());
            self.tell(cx, || ShardOrder::Leave);
        }
        self.changes.leaving == Some(0)
    }

    /// A shard says something. How a growth goes on, and whether the device is back now.
    pub(crate) fn news(
        &mut self,
        cx: &mut UnitContext<'_>,
        from: ShardAddress,
        news: ShardNews,
    ) -> (Option<Growth>, bool) {
        match news {
            ShardNews::Deferred(error) => self.defer(error),
            ShardNews::Grown(ok) => return (Some(self.grown(cx, ok)), false),
            ShardNews::Released(released) => {
                let number = self.number_of(from);
                if let Some(place) = number.and_then(|number| self.changes.released.get_mut(number)) {
                    *place = released;
                }
            }
            ShardNews::Back { result, lost } => {
                self.changes.lost |= lost;
                return (None, self.returned(cx, result));
            }
            ShardNews::Left => {
                self.changes.leaving = self.changes.leaving.map(|left| left.saturating_sub(1));
            }
        }
        (None, false)
    }

    fn returned(&mut self, cx: &mut UnitContext<'_>, result: Result<(), String>) -> bool {
        let Some(returns) = &mut self.changes.returns else { return false };
        returns.left = returns.left.saturating_sub(1);
        if returns.result.is_ok() {
            returns.result = result;
        }
        if returns.left > 0 {
            return false;
        }
        let Some(Return { result, answer, .. }) = self.changes.returns.take() else { return false };
        self.changes.released.fill(false);
        let back = result.is_ok();
        if !back {
            // Half of a volume is none.
            self.set_gone(cx);
        }
        let _ = answer.try_send(result);
        back
    }
}
