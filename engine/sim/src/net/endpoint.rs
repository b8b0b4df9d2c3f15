//! One end of a connection: whose it is, and the operations that wait at it.

use super::{BROKEN_PIPE, ConnId, Side};
use crate::coverage::Happening;
use crate::ops::OpKey;
use crate::trace::Who;
use crate::trap::Moment;
use crate::world::{Event, State};
use kagami_reactor::{Errno, Op, ReceiveBuffer};
use kagami_types::Time;
use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

/// Whose an end is.
#[derive(Debug)]
pub(crate) enum Owner {
    /// Waits in a listener's backlog.
    Nobody,
    /// An actor's, which is woken when something happens.
    Actor(usize),
    /// Accepted by an operation of that core, which has not asked for it yet.
    Accepted(usize),
    /// A stream between two cores: closed when its handle is dropped.
    Travelling(Weak<()>),
    /// A socket of a core.
    Core,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) owner: Owner,
    /// It was told that the connection is reset.
    pub(crate) reset: bool,
    /// Its owner is done with it.
    pub(crate) closed: bool,
    /// When the last thing that it sent arrives.
    pub(crate) last_arrival: Time,
    receives: VecDeque<OpKey>,
    sends: VecDeque<OpKey>,
    /// An actor waits for room.
    pub(crate) wants_room: bool,
}

impl Endpoint {
    pub(crate) fn new(owner: Owner) -> Self {
        Self {
            owner,
            reset: false,
            closed: false,
            last_arrival: Time(0),
            receives: VecDeque::new(),
            sends: VecDeque::new(),
            wants_room: false,
        }
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.receives.clear();
        self.sends.clear();
    }
}

impl State {
    /// A core wants to receive.
    pub(crate) fn start_receive(&mut self, id: ConnId, side: Side, key: OpKey) {
        if let Some(conn) = self.net.conn(id) {
            conn.end(side).receives.push_back(key);
        }
        self.pump_receives(id, side);
    }

    /// A core wants to send.
    pub(crate) fn start_send(&mut self, id: ConnId, side: Side, key: OpKey) {
        if let Some(conn) = self.net.conn(id) {
            conn.end(side).sends.push_back(key);
        }
        self.pump_sends(id, side);
    }

    /// Something can be read at this end, or it has come to its end.
    pub(crate) fn notify_reader(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.net.conn(id) else { return };
        match conn.end(side).owner {
            Owner::Actor(actor) => self.wake_actor(actor, self.now),
            Owner::Core => self.pump_receives(id, side),
            _ => {}
        }
    }

    /// There may be room for more at this end.
    pub(crate) fn notify_writer(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.net.conn(id) else { return };
        let end = conn.end(side);
        match end.owner {
            Owner::Actor(actor) if end.wants_room || end.reset => {
                end.wants_room = false;
                self.wake_actor(actor, self.now);
            }
            Owner::Core => self.pump_sends(id, side),
            _ => {}
        }
    }

    fn pump_receives(&mut self, id: ConnId, side: Side) {
        loop {
            let short = self.net.rng.permille(self.options.net.short);
            let Some(conn) = self.net.conn(id) else { return };
            let end = conn.end(side);
            let (closed, reset) = (end.closed, end.reset);
            let Some(&key) = end.receives.front() else { return };
            let pipe = conn.pipe(side.other());
            let readable = pipe.readable();
            let result = if closed {
                Ok(0)
            } else if readable > 0 {
                let most = if short { self.net.rng.index(readable) + 1 } else { readable };
                self.receive_into(id, side, key, most)
            } else if reset {
                Err(Errno::CONNECTION_RESET)
            } else if pipe.is_at_end() {
                Ok(0)
            } else {
                return;
            };
            if let Some(conn) = self.net.conn(id) {
                conn.end(side).receives.pop_front();
            }
            self.complete_soon(key, result);
        }
    }

    fn receive_into(&mut self, id: ConnId, side: Side, key: OpKey, most: usize) -> Result<u32, Errno> {
        let Some(Op::Receive(_, buffer)) = self.ops.get(key).map(|inflight| &mut inflight.op) else {
            return Err(Errno::INVALID);
        };
        let room = room_of(buffer);
        if room == 0 {
            return Err(Errno::INVALID);
        }
        let Some(conn) = self.net.conns.get_mut(id.index()) else { return Err(Errno::INVALID) };
        let mut done = 0;
        conn.pipe(side.other()).receive(most.min(room), |bytes| {
            land(buffer, done, bytes);
            done += bytes.len();
        });
        self.offer_room(id, side.other());
        self.trap.pass(Moment::Receive);
        Ok(u32::try_from(done).unwrap_or(u32::MAX))
    }

    /// The other side has read something: the sender hears of the room, a little later.
    pub(crate) fn offer_room(&mut self, id: ConnId, sender: Side) {
        let wait = self.net.rng.skewed(100, self.options.net.delay.max(100));
        let Some(conn) = self.net.conn(id) else { return };
        let end = conn.end(sender);
        if end.wants_room || !end.sends.is_empty() {
            self.events.put(self.now + Duration::from_nanos(wait), Event::Room(id, sender));
        }
    }

    fn pump_sends(&mut self, id: ConnId, side: Side) {
        loop {
            let Some(conn) = self.net.conn(id) else { return };
            let end = conn.end(side);
            let (closed, reset) = (end.closed, end.reset);
            let Some(&key) = end.sends.front() else { return };
            let result = if reset {
                Err(Errno::CONNECTION_RESET)
            } else if closed || !conn.pipe(side).is_open() && !conn.pipe(side).silent {
                Err(BROKEN_PIPE)
            } else {
                let Some(inflight) = self.ops.take_out(key) else { return };
                let sent = match &inflight.op {
                    Op::Send(_, buffer) => {
                        let left = buffer.len.saturating_sub(buffer.sent);
                        if left == 0 { Some(0) } else { self.send(id, side, buffer.remaining(), left) }
                    }
                    _ => Some(0),
                };
                self.ops.put_back(key, inflight);
                match sent {
                    Some(count) => {
                        self.trap.pass(Moment::Send);
                        Ok(u32::try_from(count).unwrap_or(u32::MAX))
                    }
                    None => return,
                }
            };
            if let Some(conn) = self.net.conn(id) {
                conn.end(side).sends.pop_front();
            }
            self.complete_soon(key, result);
        }
    }

    /// The owner of an end wants no more of it: its stream ends after what it sent, what waits at
    /// it completes, and whoever sends to it is reset.
    pub(crate) fn close(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.net.conn(id) else { return };
        if conn.end(side).closed {
            return;
        }
        let unread = conn.pipe(side.other()).readable() > 0;
        conn.end(side).closed = true;
        self.trace.note(self.now, Who::Net(id.0), "closed by side", [side as u64, 0, 0]);
        self.finish(id, side);
        self.pump_receives(id, side);
        self.pump_sends(id, side);
        if unread {
            // Closing over unread data resets the connection (RFC 1122 4.2.2.13).
            let last = self.net.conn(id).map_or(self.now, |conn| conn.end(side).last_arrival);
            self.events.put(last.max(self.now) + Duration::from_nanos(1), Event::Reset(id, side.other()));
        }
    }

    /// Closes the streams whose handles were dropped on the way.
    pub(crate) fn reap_streams(&mut self) {
        for id in self.net.ids() {
            let Some(conn) = self.net.conn(id) else { continue };
            if let Owner::Travelling(handle) = &conn.end(Side::Server).owner
                && handle.strong_count() == 0
            {
                self.close(id, Side::Server);
            }
        }
    }

    /// Takes notice that an actor could not send all that it wanted.
    pub(crate) fn actor_waits(&mut self, id: ConnId, side: Side) {
        if let Some(conn) = self.net.conn(id) {
            conn.end(side).wants_room = true;
        }
        self.coverage.hit(Happening::SendBlocked);
    }
}

/// How many bytes a receive can take.
fn room_of(buffer: &ReceiveBuffer) -> usize {
    let direct = buffer.limit.min(buffer.direct.len_bytes()).saturating_sub(buffer.filled);
    direct + buffer.end.min(buffer.window.len()).saturating_sub(buffer.start)
}

/// Puts bytes where the buffer wants them, `done` bytes after its beginning.
fn land(buffer: &mut ReceiveBuffer, done: usize, bytes: &[u8]) {
    let direct = buffer.limit.min(buffer.direct.len_bytes()).saturating_sub(buffer.filled);
    let into_direct = direct.saturating_sub(done).min(bytes.len());
    let (first, rest) = bytes.split_at(into_direct);
    buffer.direct.copy_from(buffer.filled + done, first);
    let start = buffer.start + (done + into_direct).saturating_sub(direct);
    if let Some(window) = buffer.window.get_mut(start..start + rest.len()) {
        window.copy_from_slice(rest);
    }
}
