//! A connection moves from one core to another, under load. Which and when is decided in
//! [`placement`](crate::placement).
//!
//! ```text
//! has a wish ──receive completes──▶ held ──quiet──▶ on its way ──▶ at the other core, reads on
//!                                     └──not quiet in time, or the end──▶ reads on where it was
//! ```
//!
//! While it is held, no further PDU is begun: bytes stay in the window, and none are received but the rest of a data
//! segment that had begun. The tasks under way end and are answered. Then nothing in the array names the connection
//! any more: no task is at a unit, no function waits for cores, the socket has nothing in flight; so its id and
//! its tasks' ids may change. It travels in one message with its socket, its unread bytes and its numbers.
//!
//! What the other cores may do meanwhile:
//!
//! - *End its session.* The session is marked before the cores are told, so whoever misses the message sees the mark:
//!   the core that the connection comes to looks.
//! - *Task management.* A connection on its way has no tasks. Bytes that were not understood count as not received.
//! - *Commands of the same session on other connections* may wait for the CmdSN that is among the unread bytes,
//!   as they would for a slow link.
//! - *Stop.* A core that has closed its last connection closes this one as well.

use crate::Message;
use crate::connection::{Close, Connection, Link, Phase};
use crate::core::{Core, Stop};
use crate::full::Full;
use crate::nexus::ConnectionId;
use crate::placement::{self, Hold, Load, Wish};
use crate::task::Stage;
use crate::token::GENERATION;
use kagami_reactor::Io;
use kagami_types::{CoreId, Time};
use std::sync::Arc;

/// A connection between two cores. Dropped on the way, it closes its socket.
#[derive(Debug)]
pub struct Moving<S> {
    stream: S,
    link: Link,
    full: Box<Full>,
    opened: Time,
    last_heard: Time,
}

impl Full {
    /// Whether all that it has begun ends without another PDU: then it may be held.
    fn may_be_held(&mut self) -> bool {
        let landing = self.landing;
        self.place.hold.is_none()
            && self.leaving.is_none()
            && self.managing.is_empty()
            && self.retry.is_empty()
            && self.tasks.active().filter(|(_, task)| task.stage == Stage::Collecting && task.writes).all(
                |(slot, task)| {
                    landing.is_some_and(|landing| {
                        landing.task == Some((slot, task.turn))
                            && landing.at + landing.left >= task.expected as usize
                    })
                },
            )
    }

    /// Whether nothing of it is under way or waits to be said.
    fn is_quiet(&self) -> bool {
        self.tasks.in_use() == 0
            && self.landing.is_none()
            && self.answers.is_empty()
            && self.urgent.is_empty()
            && self.managing.is_empty()
            && self.held_back.is_empty()
            && self.retry.is_empty()
            && self.leaving.is_none()
    }
}

impl Connection {
    /// Where it can go at once: it is held, and nothing of it is in flight.
    #[inline]
    pub(crate) fn ready_to_move(&self) -> Option<CoreId> {
        let Phase::Full(full) = &self.phase else { return None };
        let hold = full.place.hold?;
        let quiet = self.closing.is_none()
            && self.last_words.is_none()
            && !self.link.receiving
            && self.link.outbox.is_empty()
            && full.is_quiet();
        quiet.then_some(hold.to)
    }
}

impl<I: Io> Core<I> {
    /// A connection that has a wish received something, of which nothing was looked at yet.
    #[cold]
    pub(crate) fn begin_move(&mut self, index: u32, now: Time) {
        let here = self.hub.core;
        if self.stop != Stop::Serving {
            return;
        }
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let generation = connection.id.generation;
        let Phase::Full(full) = &mut connection.phase else { return };
        let Some(Wish { to, relief }) = full.place.wish.filter(|_| full.place.may_move(now)) else { return };
        let loads = &self.shared.loads;
        if !relief
            && !placement::may_go_home(&self.plan.moves, loads.of(here), loads.of(to), full.place.given_away)
        {
            full.place.wish = None;
            return;
        }
        if !full.may_be_held() {
            return;
        }
        if !loads.reserve(to, self.plan.connections) {
            full.place.wish = None;
            return;
        }
        loads.shift(here, to);
        full.place.hold = Some(Hold { to, relief, since: now });
        self.holding.push((index, generation));
    }

    /// Moves that take too long, or that the end has overtaken, are given up.
    pub(crate) fn watch_moves(&mut self, io: &mut I) {
        let now = io.now();
        let mut holding = std::mem::take(&mut self.holding);
        holding.retain(|&(index, generation)| {
            let Some(connection) = self.get(index, generation) else { return false };
            let Phase::Full(full) = &mut connection.phase else { return false };
            let Some(hold) = full.place.hold else { return false };
            if self.stop == Stop::Serving && now.since(hold.since) < self.plan.moves.drain {
                return true;
            }
            self.give_up_move(index, now);
            self.process(io, index);
            self.mark(index);
            false
        });
        self.holding = holding;
    }

    /// A held connection stays.
    fn give_up_move(&mut self, index: u32, now: Time) {
        let here = self.hub.core;
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let Phase::Full(full) = &mut connection.phase else { return };
        let Some(hold) = full.place.hold else { return };
        full.place.gave_up(&self.plan.moves, now);
        self.shared.loads.leave(hold.to);
        self.shared.loads.shift(hold.to, here);
        self.hub.metrics.network.moves_given_up.inc();
    }

    /// Sends a connection that has fallen quiet on its way.
    pub(crate) fn hand_over(&mut self, io: &mut I, index: u32, to: CoreId) {
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        let Connection { id, socket, link, phase, opened, last_heard, .. } = connection;
        let (Phase::Full(full), Some(stream)) = (phase, io.detach(socket)) else { return };
        self.vacate(id);
        self.hub.metrics.network.moves_out.inc();
        self.hub.send(to, Message::Move(Box::new(Moving { stream, link, full, opened, last_heard })));
    }

    /// A connection's place is free.
    pub(crate) fn vacate(&mut self, id: ConnectionId) {
        let generation = &mut self.generations[id.index as usize];
        *generation = (*generation + 1) & GENERATION;
        self.free.push(id.index);
        self.shared.loads.leave(self.hub.core);
        self.hub.metrics.network.connections.down();
    }

    /// A connection comes from another core, which has taken a place for it here.
    pub(crate) fn arrive(&mut self, io: &mut I, moving: Moving<I::Stream>) {
        let Moving { stream, link, mut full, opened, last_heard } = moving;
        let session = Arc::clone(&full.session);
        let place = if matches!(self.stop, Stop::Serving | Stop::Draining) { self.free.pop() } else { None };
        let attached = place.and_then(|index| match io.attach(stream) {
            Ok(socket) => Some((index, socket)),
            Err(_) => {
                self.free.push(index);
                None
            }
        });
        let Some((index, socket)) = attached else {
            // The socket is closed: for the host, as if the link had failed.
            self.shared.loads.leave(self.hub.core);
            self.hub.metrics.network.refused.inc();
            self.left(&session, false);
            return;
        };
        let id = ConnectionId { core: self.hub.core, index, generation: self.generations[index as usize] };
        full.id = id;
        full.stalled = false;
        full.tasks.settle(Arc::clone(&self.hub.shares));
        full.place.arrived(&self.plan.moves, io.now());
        if self.stop == Stop::Draining {
            full.announce_end();
        }
        self.connections[index as usize] = Some(Connection {
            id,
            socket,
            link,
            phase: Phase::Full(full),
            closing: None,
            last_words: None,
            opened,
            last_heard,
        });
        self.hub.metrics.network.connections.up();
        self.hub.metrics.network.moves_in.inc();
        // The message about the session may be on its way from a third core.
        self.hub.attach(Arc::clone(&session));
        self.mark(index);
        if session.is_ending() {
            self.ends(io, index, Close::SessionEnded);
        } else {
            self.process(io, index);
        }
    }

    /// Tells the others how busy this core is, and where it is full, picks a connection to give away.
    pub(crate) fn weigh(&mut self, now: Time) {
        let elapsed = now.nanos_since(self.weighed).max(1);
        let busy = std::mem::take(&mut self.busy_nanos).min(elapsed);
        // Half of what was before: a moment is not a trend.
        let busy = (u64::from(self.load.busy) + busy.saturating_mul(1000) / elapsed) / 2;
        self.weighed = now;
        self.weights.clear();
        for connection in self.connections.iter_mut().flatten() {
            if let Phase::Full(full) = &mut connection.phase {
                let recent = std::mem::take(&mut full.place.recent);
                if recent > 0 {
                    self.weights.push((connection.id.index, recent));
                }
            }
        }
        let active = u32::try_from(self.weights.len()).unwrap_or(u32::MAX);
        self.load = Load { busy: u32::try_from(busy).unwrap_or(1000), active };
        self.shared.loads.tell(self.hub.core, self.load);
        self.hub.metrics.reactor.busy.set(busy);
        let here = self.hub.core;
        let others =
            self.hub.cores().filter(|&core| core != here).map(|core| (core, self.shared.loads.of(core)));
        if self.plan.moves.window == 0 || now < self.relieved + self.plan.moves.pause {
            return;
        }
        let Some(to) = placement::relief(&self.plan.moves, self.load, others) else { return };
        let Some(index) = placement::choose(self.weights.iter().copied()) else { return };
        if let Some(Some(Connection { phase: Phase::Full(full), .. })) =
            self.connections.get_mut(index as usize)
        {
            self.relieved = now;
            full.place.wish = Some(Wish { to, relief: true });
        }
    }
}
