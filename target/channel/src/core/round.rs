//! The parts of a round that concern connections: replies, those that waited, then the sockets.
//!
//! Called once a round, and again after a tick that has finished something.

use super::{Core, Stop};
use crate::connection::{Close, Phase};
use crate::task::Stage;
use kagami_reactor::Io;

impl<I: Io> Core<I> {
    /// Replies go to their connections, as far as these still exist.
    pub(super) fn deliver(&mut self) -> bool {
        let mut any = false;
        while let Some(reply) = self.hub.replies.pop_front() {
            any = true;
            let id = reply.task.connection;
            match self.connections.get_mut(id.index as usize).and_then(Option::as_mut) {
                Some(connection) if connection.id == id => {
                    if let Phase::Full(full) = &mut connection.phase {
                        full.reply(reply);
                    }
                    self.mark(id.index);
                }
                _ => self.hub.keep_list(reply.data),
            }
        }
        for manage in std::mem::take(&mut self.hub.managed) {
            any = true;
            let id = manage.asked_by;
            let Some(connection) = self.get(id.index, id.generation) else { continue };
            let Phase::Full(full) = &mut connection.phase else { continue };
            if full.managed(&manage) {
                // TARGET COLD RESET: every session ends (RFC 7143 11.5.1).
                for session in self.shared.registry.sessions() {
                    self.end_session(&session);
                }
            }
            self.mark(id.index);
        }
        any
    }

    /// Connections that wait for the baton, for pages or for an old session's end try again.
    pub(super) fn retry_waiting(&mut self, io: &mut I) {
        for index in std::mem::take(&mut self.waiting) {
            let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
                continue;
            };
            match &mut connection.phase {
                Phase::Login(login) => {
                    if let Err(reason) = login.retry(&mut self.hub) {
                        self.ends(io, index, reason);
                    }
                    self.after_login(io, index);
                }
                Phase::Full(full) => {
                    for slot in std::mem::take(&mut full.retry) {
                        full.go_on_collecting(slot, io, &mut self.hub);
                    }
                    self.process(io, index);
                }
            }
            self.mark(index);
        }
    }

    /// One send and one receive for every connection that something happened to. All sends come
    /// first: while the kernel does them, hosts send on, and the receives find more.
    pub(super) fn flush(&mut self, io: &mut I) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for &index in &dirty {
            self.marked[index as usize] = false;
            let Some(connection) = self.connections[index as usize].as_mut() else { continue };
            if connection.closing.is_none() {
                match &mut connection.phase {
                    Phase::Full(full) => {
                        full.encode(&mut connection.link, &mut self.hub);
                        while full.release_held(io, &mut self.hub) {
                            full.encode(&mut connection.link, &mut self.hub);
                        }
                        if full.stalled || !full.retry.is_empty() {
                            self.waiting.push(index);
                        }
                        let said_all = full.answers.is_empty() && full.urgent.is_empty();
                        if full.leaving.is_some() && said_all {
                            connection.last_words = Some(Close::LoggedOut);
                        } else if self.stop != Stop::Serving
                            && said_all
                            // What has not all of its data yet never gets it: nothing more is understood.
                            && full.tasks.active().all(|(_, task)| task.stage == Stage::Collecting)
                        {
                            connection.last_words = Some(Close::Stopping);
                        }
                    }
                    Phase::Login(login) => login.encode(&mut connection.link, &self.hub),
                }
                connection.transmit(io);
            }
        }
        for index in dirty.drain(..) {
            let Some(connection) = self.connections[index as usize].as_mut() else { continue };
            if let Some(to) = connection.ready_to_move() {
                self.hand_over(io, index, to);
                continue;
            }
            if connection.closing.is_none() {
                connection.receive(io, &mut self.hub);
                if connection.is_held_up() {
                    // No page for its headers: no completion will come to go on with.
                    self.waiting.push(index);
                }
            }
            if connection.is_gone() {
                self.bury(io, index);
            }
        }
        self.dirty = dirty;
    }
}
