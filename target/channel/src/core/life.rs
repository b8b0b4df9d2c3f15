//! The life of a core's connections: accepted, logged in, ended, and gone.
//!
//! What a connection says and is told is the business of its phases; who sets its sockets going, of the round. Called
//! by the core's completions and messages.

use super::{Core, Stop};
use crate::access::Ends;
use crate::connection::{Close, Connection, Link, Phase};
use crate::control::Leaving;
use crate::login::Login;
use crate::message::Message;
use crate::nexus::ConnectionId;
use crate::session::Session;
use kagami_reactor::{Errno, Io};
use kagami_types::CoreId;
use std::sync::Arc;

impl<I: Io> Core<I> {
    pub(super) fn accepted(&mut self, io: &mut I, listener: u32, result: Result<u32, Errno>) {
        if let Some(listener) = self.listeners.get_mut(listener as usize) {
            listener.armed = false;
        }
        let Ok(value) = result else { return };
        let Some(stream) = io.accepted(value) else { return };
        self.hub.metrics.network.accepted.inc();
        if self.stop != Stop::Serving {
            return;
        }
        let core = CoreId(self.next_core);
        self.next_core = (self.next_core + 1) % u16::try_from(self.hub.port.cores()).unwrap_or(1);
        if core == self.hub.core {
            self.adopt(io, stream);
        } else {
            self.hub.send(core, Message::Adopt(stream));
        }
    }

    /// Makes a connection of an accepted socket.
    pub(super) fn adopt(&mut self, io: &mut I, stream: I::Stream) {
        if self.logging_in >= self.plan.logging_in {
            self.close_oldest_login(io);
        }
        let here = self.hub.core;
        if self.stop != Stop::Serving || !self.shared.loads.reserve(here, self.plan.connections) {
            self.hub.metrics.network.refused.inc();
            return;
        }
        let place = self.free.pop();
        let attached = place.and_then(|index| match io.attach(stream) {
            Ok(socket) => Some((index, socket)),
            Err(_) => {
                self.free.push(index);
                None
            }
        });
        let Some((index, socket)) = attached else {
            self.hub.metrics.network.refused.inc();
            self.shared.loads.leave(here);
            return;
        };
        let id = ConnectionId { core: self.hub.core, index, generation: self.generations[index as usize] };
        let ends = Ends { peer: io.peer(socket), local: io.local(socket) };
        let login = Login::new(self.shared.access(), ends, &mut *self.random);
        self.connections[index as usize] = Some(Connection {
            id,
            socket,
            link: Link::default(),
            phase: Phase::Login(Box::new(login)),
            closing: None,
            last_words: None,
            opened: io.now(),
            last_heard: io.now(),
        });
        self.logging_in += 1;
        self.hub.metrics.network.connections.up();
        self.mark(index);
    }

    /// Half-open connections must not keep real hosts out: a login takes moments, so the one that
    /// has taken longest makes place.
    pub(super) fn close_oldest_login(&mut self, io: &mut I) {
        let logins =
            self.connections.iter().flatten().filter(|connection| {
                matches!(connection.phase, Phase::Login(_)) && connection.closing.is_none()
            });
        if let Some(index) = logins.min_by_key(|connection| connection.opened).map(|oldest| oldest.id.index) {
            self.ends(io, index, Close::Resources);
        }
    }

    /// Understands what a connection has received.
    pub(crate) fn process(&mut self, io: &mut I, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        if connection.closing.is_some() || connection.last_words.is_some() {
            return;
        }
        let result = match &mut connection.phase {
            Phase::Login(login) => login.consume(&mut connection.link, &mut self.hub),
            Phase::Full(_) if self.stop != Stop::Serving => Ok(()),
            Phase::Full(full) => full.consume(&mut connection.link, io, &mut self.hub),
        };
        if let Err(reason) = result {
            self.ends(io, index, reason);
        }
        self.after_login(io, index);
    }

    /// A login that is complete becomes a connection that serves.
    pub(super) fn after_login(&mut self, io: &mut I, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let Phase::Login(login) = &mut connection.phase else { return };
        if let Some(ended) = login.session_to_end() {
            self.end_session(&ended);
        }
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let Phase::Login(login) = &mut connection.phase else { return };
        if login.is_waiting() {
            self.waiting.push(index);
            return;
        }
        let Some((full, is_new)) = login.finish(connection.id, &self.plan, &mut connection.link, &self.hub)
        else {
            return;
        };
        let session = Arc::clone(&full.session);
        connection.phase = Phase::Full(Box::new(full));
        self.logging_in -= 1;
        self.hub.metrics.network.logins.inc();
        if is_new {
            // Here at once: the host's first command may come before this core reads its messages.
            self.hub.attach(Arc::clone(&session));
            self.hub.broadcast(|| Message::Attach(Arc::clone(&session)));
        }
        // Commands may have come with the last login request.
        self.process(io, index);
    }

    /// A connection failed, or was told to end.
    pub(crate) fn ends(&mut self, io: &mut I, index: u32, reason: Close) {
        let metrics = &self.hub.metrics.network;
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        match reason {
            Close::LoginFailed => metrics.login_failures.inc(),
            Close::HeaderDigest => {
                metrics.digest_errors.inc();
                metrics.connection_errors.inc();
            }
            Close::Protocol(_) | Close::LoginTimeout | Close::PingTimeout => {
                metrics.connection_errors.inc();
            }
            _ => {}
        }
        if reason == Close::LoginFailed {
            // The answer that says why must go out first.
            connection.last_words = Some(reason);
        } else {
            connection.close(io, reason);
        }
        self.mark(index);
    }

    /// All connections of a session, on all cores, are closed.
    pub(super) fn end_session(&mut self, session: &Arc<Session>) {
        session.end();
        self.hub.broadcast(|| Message::EndSession(Arc::clone(session)));
    }

    /// The last of a connection: nothing of it is in flight.
    pub(super) fn bury(&mut self, io: &mut I, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        io.release(connection.socket);
        self.vacate(connection.id);
        match connection.phase {
            Phase::Full(full) => {
                if let Some(hold) = full.place.hold {
                    self.shared.loads.leave(hold.to);
                }
                let only_connection = full.leaving == Some(Leaving::Connection);
                self.left(&full.session, only_connection);
            }
            Phase::Login(mut login) => {
                self.logging_in -= 1;
                if let Some(session) = login.abandoned() {
                    self.left(&session, true);
                }
            }
        }
    }

    /// A session has one connection less. At error recovery level 0 it does not outlive a
    /// connection that failed (RFC 7143 7.1.4.1).
    pub(crate) fn left(&mut self, session: &Arc<Session>, only_connection: bool) {
        if !only_connection && !session.is_ending() {
            self.end_session(session);
        }
        if session.leave() {
            session.end();
            self.hub.broadcast(|| Message::Detach(Arc::clone(session)));
        }
    }
}
