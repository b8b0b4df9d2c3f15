//! One connection: its socket, its receive window, what it is about to send, and its phase.

use crate::full::Full;
use crate::hub::Hub;
use crate::login::Login;
use crate::nexus::ConnectionId;
use crate::outbox::Outbox;
use crate::{ReceiveTarget, token};
use kagami_memory::{Class, PageMut, Pool, Purpose, ScatterMut};
use kagami_reactor::{Errno, Io, Op, ReceiveBuffer, SendBuffer, SocketId};
use kagami_types::Time;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Close {
    #[error("the other end closed it")]
    EndOfStream,
    #[error("{0}")]
    Socket(Errno),
    #[error("the header digest was wrong")]
    HeaderDigest,
    #[error("the initiator broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("login failed")]
    LoginFailed,
    #[error("logged out")]
    LoggedOut,
    #[error("it did not log in in time")]
    LoginTimeout,
    #[error("it did not answer a ping in time")]
    PingTimeout,
    #[error("its session ended")]
    SessionEnded,
    #[error("out of memory or slots for it")]
    Resources,
    #[error("the array stops")]
    Stopping,
}

/// What a connection does.
#[derive(Debug)]
pub(crate) enum Phase {
    /// It logs in.
    Login(Box<Login>),
    /// It serves (RFC 7143 4.3, full feature phase).
    Full(Box<Full>),
}

/// A connection and its socket.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) socket: SocketId,
    pub(crate) link: Link,
    pub(crate) phase: Phase,
    pub(crate) closing: Option<Close>,
    /// It is to be closed once everything has been sent.
    pub(crate) last_words: Option<Close>,
    pub(crate) opened: Time,
    pub(crate) last_heard: Time,
}

/// The bytes of a connection, in both directions.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Received bytes are `window[start..end]`. `None` while the kernel fills it.
    pub(crate) window: Option<PageMut>,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) receiving: bool,
    pub(crate) outbox: Outbox,
    /// Receives in a row that would have fitted in a small window.
    calm: u32,
}

impl Link {
    /// What an idle connection keeps for receiving; a busy one takes a large window.
    const SMALL: Class = Class::Small;

    /// After so many small receives a large window is given back.
    const CALM: u32 = 4096;

    /// How much of the window is offered behind data that is received in place: the headers of
    /// the next PDU and little more, so that its data is received in place as well.
    pub(crate) const BEHIND_DIRECT: usize = 4096;

    /// Moves what is left to the front of a window that has room for more, a larger one if the
    /// present one is full. False where there is no memory even for a small one.
    pub(crate) fn make_room(&mut self, pool: &Pool, purpose: Purpose) -> bool {
        let left = self.end - self.start;
        let size = self.window.as_ref().map_or(0, |window| window.len());
        let full = size > 0 && self.end == size;
        let large = Class::Large.bytes();
        self.calm = if self.end > Self::SMALL.bytes() / 2 { 0 } else { self.calm.saturating_add(1) };
        let wanted = match size {
            0 => Some(Self::SMALL),
            _ if full && size < large => Some(Class::Large),
            _ if size == large && left == 0 && self.calm > Self::CALM => Some(Self::SMALL),
            _ => None,
        };
        if let Some(mut next) = wanted.and_then(|class| pool.take(class, purpose)) {
            if let (Some(old), Some(place)) = (&self.window, next.get_mut(..left)) {
                place.copy_from_slice(&old[self.start..self.end]);
            }
            self.window = Some(next);
            self.calm = 0;
        } else if let Some(window) = &mut self.window {
            window.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end) = (0, left);
        self.window.is_some()
    }

    /// The bytes that wait to be understood.
    pub(crate) fn pending(&self) -> &[u8] {
        self.window.as_ref().and_then(|window| window.get(self.start..self.end)).unwrap_or_default()
    }
}

impl Connection {
    /// Receives more, unless a receive is under way or the window is full of what cannot be
    /// understood yet. Data of a large write is received in place.
    pub(crate) fn receive<I: Io>(&mut self, io: &mut I, hub: &mut Hub<I::Stream>) {
        if self.link.receiving || self.closing.is_some() || self.last_words.is_some() {
            return;
        }
        if matches!(&self.phase, Phase::Full(full) if full.stalled) {
            // What is in the window is looked at again soon, which the kernel must not have then.
            return;
        }
        if matches!(&self.phase, Phase::Full(full) if full.place.hold.is_some() && full.landing.is_none()) {
            return;
        }
        if !self.link.make_room(&hub.pool, Purpose::Host) {
            self.close(io, Close::Resources);
            return;
        }
        let target = match &mut self.phase {
            Phase::Full(full) => full.receive_target(),
            Phase::Login(_) => None,
        };
        let Some(window) = self.link.window.take() else { return };
        let start = self.link.end;
        if start == window.len() && target.is_none() {
            // Stalled with a full window: the rest waits in the socket.
            self.link.window = Some(window);
            return;
        }
        let ReceiveTarget { data, filled, limit } =
            target.unwrap_or_else(|| ReceiveTarget { data: ScatterMut::default(), filled: 0, limit: 0 });
        let direct = limit > filled;
        let end = if direct { (start + Link::BEHIND_DIRECT).min(window.len()) } else { window.len() };
        let buffer = ReceiveBuffer { direct: data, filled, limit, window, start, end };
        match io.submit(token::receive(self.id), Op::Receive(self.socket, buffer)) {
            Ok(()) => self.link.receiving = true,
            Err(Op::Receive(_, buffer)) => {
                self.take_back(buffer, 0);
            }
            Err(_) => {}
        }
    }

    /// Takes the memory of a receive back, with `count` bytes in it; how many of them were received
    /// in place.
    pub(crate) fn take_back(&mut self, buffer: ReceiveBuffer, count: usize) -> usize {
        let direct = buffer.direct_part(count);
        self.link.start = 0;
        self.link.end = buffer.start + (count - direct);
        self.link.window = Some(buffer.window);
        if let Phase::Full(full) = &mut self.phase {
            full.direct_received(buffer.direct, direct);
        }
        direct
    }

    /// Sends what has gathered, unless a message is under way.
    pub(crate) fn transmit<I: Io>(&mut self, io: &mut I) {
        if self.closing.is_some() {
            return;
        }
        if let Some(message) = self.link.outbox.take() {
            self.send(io, message);
        }
        if let (Some(reason), true) = (self.last_words, self.link.outbox.is_empty()) {
            self.close(io, reason);
        }
    }

    /// Sends a message, or what is left of it.
    pub(crate) fn send<I: Io>(&mut self, io: &mut I, message: SendBuffer) {
        if let Err(Op::Send(_, message)) = io.submit(token::send(self.id), Op::Send(self.socket, message)) {
            // The ring has a slot for a send and a receive of every connection: this is a bug,
            // and losing an answer silently would be worse than losing the connection.
            self.link.outbox.done(message);
            self.close(io, Close::Resources);
        }
    }

    /// Begins to end the connection: no more is sent or understood. The connection is gone
    /// when nothing of it is in flight.
    pub(crate) fn close<I: Io>(&mut self, io: &mut I, reason: Close) {
        if self.closing.is_none() {
            self.closing = Some(reason);
            io.shutdown(self.socket);
        }
    }

    /// Whether it has something to say that is neither in a message nor behind one.
    pub(crate) fn is_held_up(&self) -> bool {
        let pending = match &self.phase {
            Phase::Full(full) => !(full.answers.is_empty() && full.urgent.is_empty()),
            Phase::Login(login) => login.has_more(),
        };
        pending && self.closing.is_none() && !self.link.outbox.is_in_flight()
    }

    /// Whether nothing is in flight any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.closing.is_some() && !self.link.receiving && !self.link.outbox.is_in_flight()
    }
}
