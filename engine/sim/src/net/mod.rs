//! The network: listeners, connections, and the ways in which they go wrong.
//!
//! A connection is two [`Pipe`]s. Bytes go in at one end as far as there is room, are cut into
//! segments of random length that arrive in order after random delays, and are read at the other
//! end. Where a connection is to be cut is drawn when it is made, as a byte of one direction, so
//! that every place in the stream is as likely as the next.
//!
//! Ends belong to an actor (a host), to a core, or for a while to nobody, on the way from the
//! listener to a core. Names, routes and packet loss are not simulated: this is what a socket
//! shows of TCP.

mod endpoint;
mod pipe;
mod tamper;

pub(crate) use endpoint::{Endpoint, Owner};
pub(crate) use pipe::{CutKind, Pipe};
pub(crate) use tamper::Tampering;

use crate::coverage::Happening;
use crate::ops::OpKey;
use crate::rng::Rng;
use crate::trace::Who;
use crate::trap::Moment;
use crate::world::{Event, State};
use kagami_reactor::Errno;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// A connection of the simulated network. Never given twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

impl ConnId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The end that connected.
    Client,
    /// The end that was connected to.
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// `EPIPE`: the stream was closed for sending.
pub(crate) const BROKEN_PIPE: Errno = Errno(32);

#[derive(Debug)]
pub(crate) struct Conn {
    addresses: [SocketAddr; 2],
    ends: [Endpoint; 2],
    /// By the side that sends into it.
    pipes: [Pipe; 2],
}

impl Conn {
    pub(crate) fn end(&mut self, side: Side) -> &mut Endpoint {
        &mut self.ends[side as usize]
    }

    /// The pipe that this side sends into.
    pub(crate) fn pipe(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side as usize]
    }

    pub(crate) fn address(&self, side: Side) -> SocketAddr {
        self.addresses[side as usize]
    }
}

#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    open: bool,
    backlog: VecDeque<ConnId>,
    accepts: Vec<OpKey>,
}

/// How many connections wait to be accepted before more are refused.
const BACKLOG: usize = 64;

/// The whole network.
#[derive(Debug)]
pub(crate) struct Net {
    conns: Vec<Conn>,
    listeners: Vec<Listener>,
    pub(crate) rng: Rng,
}

impl Net {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { conns: Vec::new(), listeners: Vec::new(), rng }
    }

    pub(crate) fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index())
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ConnId> + use<> {
        (0..u32::try_from(self.conns.len()).unwrap_or(u32::MAX)).map(ConnId)
    }

    /// A listener of that address, made where there is none.
    pub(crate) fn listen(&mut self, address: SocketAddr) -> usize {
        let place = self.listeners.iter().position(|listener| listener.address == address);
        let place = place.unwrap_or_else(|| {
            let (backlog, accepts) = (VecDeque::new(), Vec::new());
            self.listeners.push(Listener { address, open: true, backlog, accepts });
            self.listeners.len() - 1
        });
        if let Some(listener) = self.listeners.get_mut(place) {
            listener.open = true;
        }
        place
    }
}

impl State {
    /// Begins a connection. It is there at once as far as its maker can tell; whether somebody
    /// listens shows later.
    pub(crate) fn connect(&mut self, owner: Owner, from: SocketAddr, to: SocketAddr) -> ConnId {
        let options = self.options.net;
        let rng = &mut self.net.rng;
        let refused = rng.permille(options.refuse);
        let mut cuts = [None, None];
        if rng.permille(options.cut) {
            let kind = match rng.below(10) {
                0..6 => CutKind::Reset,
                6..9 => CutKind::HalfClose,
                _ => CutKind::Silence,
            };
            // Mostly early, as logins and short exchanges would otherwise never be hit.
            cuts[rng.index(2)] = Some((rng.skewed(0, options.cut_within), kind));
        }
        let capacity = options.buffer;
        let id = ConnId(u32::try_from(self.net.conns.len()).unwrap_or(u32::MAX));
        self.net.conns.push(Conn {
            addresses: [from, to],
            ends: [Endpoint::new(owner), Endpoint::new(Owner::Nobody)],
            pipes: cuts.map(|cut| Pipe::new(capacity, cut)),
        });
        if let Some(conn) = self.net.conn(id) {
            conn.pipe(Side::Server).tamper(options.tamper.map(Tampering::new));
        }
        let at = self.net_delay();
        self.events.put(at, if refused { Event::Reset(id, Side::Client) } else { Event::Syn(id) });
        if refused {
            self.coverage.hit(Happening::Refused);
        }
        id
    }

    /// The wish to connect has reached the listener.
    pub(crate) fn syn(&mut self, id: ConnId) {
        let Some(conn) = self.net.conn(id) else { return };
        let address = conn.address(Side::Server);
        let place = self.net.listeners.iter_mut().position(|listener| {
            listener.open && listener.address == address && listener.backlog.len() < BACKLOG
        });
        let Some(listener) = place.and_then(|place| self.net.listeners.get_mut(place)) else {
            self.coverage.hit(Happening::Refused);
            self.reset(id, Side::Client);
            return;
        };
        listener.backlog.push_back(id);
        self.pump_accepts(place.unwrap_or_default());
    }

    /// Gives waiting connections to waiting accepts, of whichever core.
    pub(crate) fn pump_accepts(&mut self, place: usize) {
        while let Some(listener) = self.net.listeners.get_mut(place) {
            if listener.accepts.is_empty() || listener.backlog.is_empty() {
                return;
            }
            let key = listener.accepts.swap_remove(self.net.rng.index(listener.accepts.len()));
            let Some(core) = self.ops.get(key).map(|op| op.core) else { continue };
            let Some(id) = listener.backlog.pop_front() else { return };
            if let Some(conn) = self.net.conn(id) {
                conn.end(Side::Server).owner = Owner::Accepted(core);
            }
            self.trap.pass(Moment::Accept);
            self.complete(key, Ok(id.0));
        }
    }

    pub(crate) fn accept(&mut self, place: usize, key: OpKey) {
        if let Some(listener) = self.net.listeners.get_mut(place) {
            listener.accepts.push(key);
        }
        self.pump_accepts(place);
    }

    /// When a segment that is sent now arrives.
    fn net_delay(&mut self) -> kagami_types::Time {
        let most = self.options.net.delay;
        self.now + Duration::from_nanos(self.net.rng.skewed(500, most.max(500)))
    }

    /// Sends into a connection as far as there is room. `None` where nothing could be taken and
    /// the sender has to wait.
    pub(crate) fn send<'a>(
        &mut self,
        id: ConnId,
        side: Side,
        chunks: impl Iterator<Item = &'a [u8]>,
        len: usize,
    ) -> Option<usize> {
        let options = self.options.net;
        let short = self.net.rng.permille(options.short);
        let most = if short { self.net.rng.index(len) + 1 } else { usize::MAX };
        let conn = self.net.conns.get_mut(id.index())?;
        let pipe = conn.pipe(side);
        let sent = pipe.send(chunks, most);
        if sent.taken < len {
            self.coverage.hit(if sent.taken == 0 { Happening::SendBlocked } else { Happening::ShortSend });
        }
        if sent.flipped {
            self.coverage.hit(Happening::BitFlip);
            self.trace.note(self.now, Who::Net(id.0), "bit flipped, side", [side as u64, 0, 0]);
        }
        self.segments(id, side, sent.taken);
        if let Some(kind) = sent.cut {
            self.cut(id, side, kind);
        }
        (sent.taken > 0).then_some(sent.taken)
    }

    /// Puts sent bytes on their way, in pieces.
    fn segments(&mut self, id: ConnId, side: Side, mut left: usize) {
        let longest = self.options.net.segment;
        while left > 0 {
            let Some(conn) = self.net.conns.get_mut(id.index()) else { return };
            let len = conn.pipe(side).grain(&mut self.net.rng, longest).min(left);
            left -= len;
            if len < 48 {
                self.coverage.hit(Happening::SmallSegment);
            }
            let at = self.arrival(id, side);
            self.events.put_in_order(at, Event::Segment(id, side, len));
        }
    }

    /// When what `side` sends now arrives: never before what it sent earlier.
    fn arrival(&mut self, id: ConnId, side: Side) -> kagami_types::Time {
        let at = self.net_delay();
        let Some(conn) = self.net.conn(id) else { return at };
        let last = &mut conn.end(side).last_arrival;
        *last = (*last).max(at);
        *last
    }

    /// A segment has come to the other end.
    pub(crate) fn segment_arrives(&mut self, id: ConnId, from: Side, len: usize) {
        let Some(conn) = self.net.conn(id) else { return };
        conn.pipe(from).arrive(len);
        if conn.end(from.other()).closed {
            // Nobody reads any more: the sender is told so, the hard way.
            let at = self.net_delay();
            self.events.put(at, Event::Reset(id, from));
            return;
        }
        self.notify_reader(id, from.other());
    }

    /// The end of a stream has come to the other end.
    pub(crate) fn end_arrives(&mut self, id: ConnId, from: Side) {
        let Some(conn) = self.net.conn(id) else { return };
        conn.pipe(from).end_arrives();
        self.notify_reader(id, from.other());
    }

    /// A side has said its last word.
    pub(crate) fn finish(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.net.conn(id) else { return };
        if conn.pipe(side).finish() {
            let at = self.arrival(id, side);
            self.events.put_in_order(at, Event::StreamEnd(id, side));
        }
    }

    fn cut(&mut self, id: ConnId, side: Side, kind: CutKind) {
        self.trace.note(self.now, Who::Net(id.0), "cut, kind, side", [kind as u64, side as u64, 0]);
        match kind {
            CutKind::Reset => {
                self.coverage.hit(Happening::Reset);
                for side in [Side::Client, Side::Server] {
                    let at = self.net_delay();
                    self.events.put(at, Event::Reset(id, side));
                }
            }
            CutKind::HalfClose => {
                self.coverage.hit(Happening::HalfClose);
                self.finish(id, side);
                // The sender finds out much later that nobody hears it.
                let wait = self.net.rng.skewed(10_000, 500_000_000);
                self.events.put(self.now + Duration::from_nanos(wait), Event::Reset(id, side));
            }
            CutKind::Silence => {
                self.coverage.hit(Happening::Silence);
                if let Some(conn) = self.net.conn(id) {
                    conn.pipes.iter_mut().for_each(|pipe| pipe.silent = true);
                }
            }
        }
    }

    /// A side finds its connection reset.
    pub(crate) fn reset(&mut self, id: ConnId, side: Side) {
        let keep = self.net.rng.one_in(2);
        let Some(conn) = self.net.conn(id) else { return };
        let end = conn.end(side);
        if end.reset || end.closed {
            return;
        }
        end.reset = true;
        conn.pipe(side).finish();
        if !keep {
            conn.pipe(side.other()).lose_all();
        }
        self.trace.note(self.now, Who::Net(id.0), "reset seen by side", [side as u64, 0, 0]);
        self.notify_reader(id, side);
        self.notify_writer(id, side);
    }

    /// From now on connections are cut no more, and silent ones end.
    pub(crate) fn calm_net(&mut self) {
        for id in self.net.ids() {
            let Some(conn) = self.net.conn(id) else { continue };
            let silent = conn.pipes[0].silent;
            conn.pipes.iter_mut().for_each(Pipe::calm_down);
            if silent {
                for side in [Side::Client, Side::Server] {
                    let at = self.net_delay();
                    self.events.put(at, Event::Reset(id, side));
                }
            }
        }
    }

    /// The array's side of everything ends: its process is gone.
    pub(crate) fn crash_net(&mut self) {
        for listener in &mut self.net.listeners {
            listener.open = false;
            listener.accepts.clear();
            listener.backlog.clear();
        }
        for id in self.net.ids() {
            let Some(conn) = self.net.conn(id) else { continue };
            let end = conn.end(Side::Server);
            if end.closed {
                continue;
            }
            end.close();
            // A power failure tells nobody, but the next segment finds nobody home.
            let at = self.net_delay();
            self.events.put(at, Event::Reset(id, Side::Client));
        }
    }
}
