//! Units that are taken out of service: they finish what they have, flush, and go.
//!
//! Where they are removed from what hosts see is the daemon's; their shards on other cores go by `shard`.

use super::Hub;
use crate::FAR;
use crate::unit::Unit;
use kagami_reactor::Io;
use std::sync::mpsc::SyncSender;

/// A unit on its way out.
#[derive(Debug)]
pub(super) struct Retiring {
    pub(super) unit: u32,
    /// Its last flush has begun.
    flushed: bool,
    answer: SyncSender<()>,
}

impl<S: Send> Hub<S> {
    /// A unit is to go: no command begins at it any more.
    pub(crate) fn retire<I: Io<Stream = S>>(&mut self, unit: u32, io: &mut I, answer: SyncSender<()>) {
        if unit >= FAR {
            self.retire_far(unit, answer);
        } else if self.takes_commands(unit) {
            // What it has in cache must be on its device before it goes.
            self.with_unit(unit, None, io, |unit, cx| unit.volume.set_draining(cx, cx.now));
            self.retiring.push(Retiring { unit, flushed: false, answer });
        } else {
            let _ = answer.try_send(());
        }
    }

    /// Whether any unit is on its way out.
    #[inline]
    pub(crate) fn is_retiring(&self) -> bool {
        !(self.retiring.is_empty() && self.leaving.is_empty())
    }

    /// Takes out the units that are to go, are flushed, and have nothing in flight. One whose device takes
    /// nothing stays, unseen, for as long as it has data that the device lacks.
    pub(crate) fn retired<I: Io<Stream = S>>(&mut self, io: &mut I) -> Vec<(Unit, SyncSender<()>)> {
        let mut out = Vec::new();
        for mut retiring in std::mem::take(&mut self.retiring) {
            let index = retiring.unit;
            let busy = |hub: &Self| {
                let unit = hub.units.get(index as usize).and_then(Option::as_ref);
                unit.is_some_and(|unit| unit.in_use() > 0 || !unit.volume.is_idle())
            };
            if !busy(self) && !std::mem::replace(&mut retiring.flushed, true) {
                self.with_unit(index, None, io, Unit::flush);
            }
            let is_alone = retiring.flushed
                && !busy(self)
                && self.with_unit(index, None, io, |unit, cx| unit.volume.dismiss(cx)) != Some(false);
            if !is_alone {
                self.retiring.push(retiring);
                continue;
            }
            if let Some(unit) = self.units.get_mut(index as usize).and_then(Option::take) {
                if let Some(metrics) = self.metrics.volume(unit.row()) {
                    metrics.depth.set(0);
                    metrics.device_depth.set(0);
                    metrics.gone.set(0);
                }
                out.push((unit, retiring.answer));
            }
        }
        out
    }
}
