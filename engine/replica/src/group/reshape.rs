//! What a group is made of changes while it lives: a volume joins, or grows, and its options are others.
//!
//! Volumes change only while the pair is suspended: then neither journal nor copy is under way, hosts' writes are kept as
//! bits, and what is new is nothing but more bits. They are durable before the order is answered, and a volume shows its new
//! size to hosts only after that. The resync that follows copies what is new and what differs, and is refused as long as the
//! other side is not of the same shape; meanwhile all of the group is in COPY, so that a takeover needs force.
//!
//! A crash in the middle finds blocks of the bitmap that are of no set, or of another: these count as different throughout.

use super::program::{Go, Program, Running};
use super::{Group, Live, Options, PlannedVolume, Stage, VOLUMES, start};
use crate::action::{Action, OrderResult};
use crate::context::Context;
use crate::record::{Side, State};
use crate::sink::SinkOptions;
use kagami_journal::{BITS_PER_BLOCK, BitmapMap, GRANULE};

/// How a group is to be made up, while that becomes durable.
#[derive(Debug)]
pub(super) struct Reshape {
    pub(super) order: u64,
    volumes: Vec<PlannedVolume>,
    stamp: u64,
}

impl Group {
    /// The group has these volumes from now on: those of before, none smaller, and others behind them. A volume that joins
    /// has its front already; one that grows shows its new size after the answer, which comes as that of an order.
    pub fn on_reshape(&mut self, cx: &mut Context<'_>, order: u64, volumes: Vec<PlannedVolume>) {
        let result = match &mut self.stage {
            Stage::Live(live) => match live.may_reshape(&volumes) {
                Ok(()) => {
                    self.plan.volumes.clone_from(&volumes);
                    live.begin(Program::Reshape(Box::new(Reshape { order, volumes, stamp: 0 })));
                    live.turn(cx);
                    return;
                }
                Err(why) => OrderResult::Refused(why),
            },
            Stage::Stopped(why) => OrderResult::Refused(format!("the group has stopped: {why}")),
            Stage::New | Stage::Reading(_) => {
                OrderResult::Refused("the group is starting: try again".to_owned())
            }
        };
        cx.actions.push(Action::Answer { order, result });
    }

    /// Other options: at once, but for the memory of a secondary that reads, which has it when it begins anew.
    ///
    /// # Errors
    /// Who drives can only change while no journal is copied.
    pub fn set_options(&mut self, cx: &mut Context<'_>, options: Options) -> Result<(), String> {
        if let Stage::Live(live) = &mut self.stage {
            live.set_options(cx, &options)?;
        }
        self.plan.options = options;
        Ok(())
    }
}

impl Live {
    fn may_reshape(&self, volumes: &[PlannedVolume]) -> Result<(), String> {
        let record = self.record();
        if !matches!(record.state, State::Psus { .. } | State::Psue | State::Ssws) || record.deleted {
            return Err(format!(
                "the pair is in {}: split it first (kagami pair split), at both arrays change what it is made of, then \
                 kagami pair resync copies what is new",
                record.state.name()
            ));
        }
        let moves =
            self.running.is_some() || self.source.is_some() || self.sink.is_some() || self.goal.is_some();
        if moves || self.recovering || !self.serving {
            return Err("the group is busy: try again".to_owned());
        }
        if volumes.len() > VOLUMES {
            return Err(format!("a group has at most {VOLUMES} volumes"));
        }
        for (at, known) in self.plan.volumes.iter().enumerate() {
            let same = volumes.get(at).is_some_and(|volume| {
                (volume.index, volume.uuid, volume.block_size) == (known.index, known.uuid, known.block_size)
                    && volume.blocks >= known.blocks
            });
            if !same {
                return Err("a group's volumes only join and grow".to_owned());
            }
        }
        if volumes.iter().zip(0u8..).any(|(volume, at)| volume.index.0 != at) {
            return Err("the volumes of a group are numbered in order".to_owned());
        }
        let (granules, _) = start::shape(volumes);
        if BitmapMap::new(&self.layout(), &granules).is_none() {
            let room = self.layout().bitmap_len / kagami_journal::BLOCK;
            return Err(format!(
                "the bitmap in its journal has room for {} GiB in whole parts of 2 GiB for each volume: delete the pair and \
                 make it anew",
                room.saturating_mul(BITS_PER_BLOCK * GRANULE) >> 30
            ));
        }
        Ok(())
    }

    pub(super) fn reshape(&mut self, cx: &mut Context<'_>, first: bool, how: &mut Reshape) -> Go {
        if first {
            let (granules, shape) = start::shape(&how.volumes);
            if !self.difference.reshape(&granules, Self::random_word(cx)) {
                return Go::Drop;
            }
            self.difference.turn(cx);
            how.stamp = self.difference.stamp();
            (self.granules, self.shape) = (granules, shape);
            self.plan.volumes.clone_from(&how.volumes);
        }
        if self.difference.is_durable(how.stamp) { Go::On } else { Go::Wait }
    }

    /// The volumes that are new come into the mode of the others.
    pub(super) fn reshaped(&mut self, cx: &mut Context<'_>, first: bool) -> Go {
        if first {
            let mode = self.mode_of(&self.record().clone());
            let all: Vec<_> = self.plan.volumes.iter().map(|volume| volume.index).collect();
            self.fronts.join(cx, &all, mode);
        }
        if self.fronts.holds() { Go::On } else { Go::Wait }
    }

    fn set_options(&mut self, cx: &mut Context<'_>, options: &Options) -> Result<(), String> {
        let now = &self.plan.options;
        if now.poller != options.poller && (self.sink.is_some() || self.source.is_some()) {
            return Err(
                "who drives the group can only change while the pair is suspended: split it first".to_owned()
            );
        }
        self.plan.options = options.clone();
        let slow = self.slow();
        if let Some(source) = &mut self.source {
            source.set_slow(slow);
        }
        let sink_options = self.sink_options();
        if let Some(sink) = &mut self.sink {
            sink.set_options(cx, sink_options);
        }
        let mode = self.mode_of(&self.record().clone());
        let reads = self.record().side == Side::Secondary && self.running.is_none() && self.fronts.holds();
        if reads && self.fronts.mode.is_some_and(|now| now != mode) && !self.record().writable() {
            self.fronts.set(cx, mode);
        }
        self.turn(cx);
        Ok(())
    }

    pub(super) fn sink_options(&self) -> SinkOptions {
        let options = &self.plan.options;
        SinkOptions {
            hold: options.hold,
            bandwidth: options.bandwidth,
            memory: options.memory,
            pace: options.pace,
        }
    }
}

impl Running {
    /// The order of a change that could not be made.
    pub(super) fn reshapes(&self) -> Option<u64> {
        match &self.program {
            Program::Reshape(how) => Some(how.order),
            _ => None,
        }
    }
}
