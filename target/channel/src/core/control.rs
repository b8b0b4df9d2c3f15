//! What the daemon's own threads ask of a core, and how it ends.
//!
//! Nothing here is on the way of a command.

use super::{Core, MOST_UNITS, Stop};
use crate::connection::{Close, Phase};
use crate::inbox::Control;
use crate::token;
use kagami_reactor::{Io, Op};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{TrySendError, sync_channel};

impl<I: Io> Core<I> {
    pub(super) fn arm_listeners(&mut self, io: &mut I) {
        if self.stop != Stop::Serving {
            return;
        }
        for (index, listener) in (0u32..).zip(&mut self.listeners) {
            if !listener.armed {
                listener.armed = io.submit(token::accept(index), Op::Accept(listener.socket)).is_ok();
            }
        }
    }

    pub(super) fn control(&mut self, io: &mut I) -> bool {
        let mut any = false;
        while let Some(control) = self.inbox.take() {
            any = true;
            match control {
                Control::Kept { ticket, ok } => self.hub.kept(ticket, ok, io),
                Control::Ordered { unit, slot, turn, result, done } => {
                    self.hub.ordered(unit, slot, turn, result, done, io.now());
                }
                Control::Changed => self.hub.directory = self.shared.directory(),
                Control::AddUnit { seed, answer } => {
                    let index = u32::try_from(self.hub.units.len()).unwrap_or(u32::MAX);
                    let made = match &mut self.maker {
                        Some(maker) if index < MOST_UNITS => maker.make(io, index, seed),
                        Some(_) => {
                            Err("the core has had as many volumes as it can; restart the array".to_owned())
                        }
                        None => Err("this core takes no new volumes".to_owned()),
                    };
                    let entered = made.and_then(|unit| unit.enter(&mut self.hub.cache));
                    let made = entered.map(|unit| {
                        self.hub.units.push(Some(unit));
                        index
                    });
                    if let Err(TrySendError::Disconnected(Ok(index))) = answer.try_send(made) {
                        // Who asked has given up.
                        self.hub.retire(index, io, sync_channel(1).0);
                    }
                }
                Control::AddVirtual { unit, answer } => {
                    let index = self.hub.far.add(*unit);
                    if let Err(TrySendError::Disconnected(_)) = answer.try_send(Ok(index)) {
                        // Who asked has given up.
                        self.hub.retire_far(index, sync_channel(1).0);
                    }
                }
                Control::Forward { unit, cdb, out, expects, answer } => {
                    self.hub.ask_far(unit, cdb, &out, expects, answer, io.now());
                }
                Control::RemoveUnit { unit, answer } => self.hub.retire(unit, io, answer),
                Control::AddShard { seed, answer } => self.add_shard(io, seed, &answer),
                Control::RemoveShard { shard } => self.hub.dismiss_shard(shard, io.now()),
                Control::Usage { unit, answer } => {
                    if let Some(usage) = self.hub.usage(unit) {
                        let _ = answer.try_send(usage);
                    }
                }
                Control::Attend { unit, nexuses, attention } => {
                    self.hub.attend(unit, nexuses.as_deref(), attention);
                }
                Control::Forget { unit, nexuses } => self.hub.forget(unit, &nexuses),
                Control::Grow { unit, blocks } => self.hub.grow(unit, blocks, io),
                Control::Device { unit, change } => self.device_changed(io, unit, change),
                Control::Group { unit, control } => self.group_control(io, unit, control),
                Control::Stop => {
                    if self.stop == Stop::Serving {
                        self.stop = Stop::Draining;
                        for listener in &self.listeners {
                            io.shutdown(listener.socket);
                        }
                        for connection in self.connections.iter_mut().flatten() {
                            if let Phase::Full(full) = &mut connection.phase {
                                full.announce_end();
                            }
                        }
                        self.indices().for_each(|index| self.mark(index));
                    }
                }
            }
        }
        any
    }

    /// Units that are to go, and that nothing is in flight for any more, go.
    pub(super) fn retire(&mut self, io: &mut I) {
        for (mut unit, answer) in self.hub.retired(io) {
            let store = unit.volume.own_mut();
            store.set_gone();
            if let Some(device) = store.release_device() {
                io.remove_device(device);
            }
            unit.leave(&mut self.hub.cache);
            let _ = answer.try_send(());
        }
    }

    /// Goes on with the end, step by step.
    pub(super) fn stopping(&mut self, io: &mut I) {
        match self.stop {
            Stop::Serving | Stop::Stable => {}
            Stop::Flushing => {
                if self.hub.tasks_in_units() == 0 && !self.hub.has_delayed() {
                    self.stop = Stop::Stable;
                    self.shared.stable_cores.fetch_add(1, Ordering::AcqRel);
                }
            }
            Stop::Draining => {
                for index in self.indices() {
                    let Some(connection) = self.connections[index as usize].as_mut() else { continue };
                    if matches!(connection.phase, Phase::Login(_)) {
                        connection.close(io, Close::Stopping);
                    }
                    self.mark(index);
                }
                if self.connections() == 0 {
                    self.stop = Stop::Quiet;
                    self.shared.quiet_cores.fetch_add(1, Ordering::AcqRel);
                }
            }
            Stop::Quiet => {
                let all = self.shared.quiet_cores.load(Ordering::Acquire) >= self.hub.port.cores();
                if all && self.hub.tasks_in_units() == 0 && !self.hub.has_delayed() {
                    self.hub.flush_all(io);
                    self.stop = Stop::Flushing;
                }
            }
        }
    }
}
