//! The login of a connection: the protocol is kagami-iscsi's, this moves its PDUs and finds
//! the connection a session (RFC 7143 6.3).

use crate::access::{Access, Ends, ForConnection, Refused};
use crate::connection::{Close, Link};
use crate::full::Full;
use crate::hub::Hub;
use crate::nexus::ConnectionId;
use crate::outbox::Payload;
use crate::placement::Place;
use crate::plan::CorePlan;
use crate::registry::{self, Candidate};
use crate::session::Session;
use crate::task::Tasks;
use kagami_iscsi::discovery::TextExchange;
use kagami_iscsi::frame::Framing;
use kagami_iscsi::login::{Admission, Pdu, Placement, SessionType, Status, Step, TargetLogin};
use kagami_iscsi::random::Random;
use kagami_iscsi::serial::StatSn;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// A connection that logs in.
#[derive(Debug)]
pub(crate) struct Login {
    access: Arc<dyn Access>,
    ends: Ends,
    /// `None` where there were no random bytes for it: the connection is closed.
    machine: Option<TargetLogin>,
    outgoing: VecDeque<Pdu>,
    state: State,
    /// A session that must end before this one can begin, until somebody was told.
    to_end: Option<Arc<Session>>,
    /// Who it says that it is.
    claimed: RefCell<Option<Box<str>>>,
}

#[derive(Debug)]
enum State {
    Talking,
    /// The initiator is admitted, but a session of the same name has to end first.
    Waiting(Box<Admission>),
    /// It has a session; the last response waits to be sent.
    Done {
        session: Arc<Session>,
        admission: Box<Admission>,
        stat_sn: StatSn,
        is_new: bool,
    },
    Over,
}

impl Login {
    pub(crate) fn new(access: Arc<dyn Access>, ends: Ends, random: &mut dyn Random) -> Self {
        let machine = TargetLogin::new(access.settings(ends.local), random).ok();
        Self {
            access,
            ends,
            machine,
            outgoing: VecDeque::new(),
            state: State::Talking,
            to_end: None,
            claimed: RefCell::new(None),
        }
    }

    /// Understands what has been received, up to the end of the login.
    pub(crate) fn consume<S: Send>(&mut self, link: &mut Link, hub: &mut Hub<S>) -> Result<(), Close> {
        while matches!(self.state, State::Talking) {
            let bytes = link.pending();
            let Some(header) = Framing::LOGIN
                .read_header(bytes)
                .map_err(|_| Close::Protocol("a login request longer than may be"))?
            else {
                break;
            };
            let whole = header.wire_len();
            let Some(segment) = bytes.get(header.len..whole) else { break };
            let data = segment.get(..header.data_len as usize).unwrap_or_default();
            let Some(machine) = &mut self.machine else { return Err(Close::Resources) };
            let policy = ForConnection { access: &*self.access, ends: self.ends, claimed: &self.claimed };
            let step = machine.on_pdu(header.bhs, data, &policy);
            link.start += whole;
            match step {
                Ok(Step::Reply(pdu)) => self.outgoing.push_back(pdu),
                Ok(Step::Admit(admission)) => self.admit(admission, hub)?,
                Err(failure) => {
                    self.tell_refused(&failure.error.to_string());
                    self.outgoing.extend(failure.response);
                    self.state = State::Over;
                    return Err(Close::LoginFailed);
                }
            }
        }
        Ok(())
    }

    /// Asks the registry for a place.
    fn admit<S: Send>(&mut self, admission: Box<Admission>, hub: &mut Hub<S>) -> Result<(), Close> {
        let is_discovery = admission.session_type == SessionType::Discovery;
        let candidate = Candidate {
            initiator: admission.initiator.as_str().into(),
            isid: admission.isid,
            tsih: admission.tsih,
            first: admission.cmd_sn,
            visible: self.access.visible(admission.initiator.as_str(), self.ends),
            ends: self.ends,
            max_connections: admission.parameters.max_connections,
            port: self.access.port(self.ends.local),
            is_discovery,
        };
        let (session, is_new) = match hub.registry.admit(&candidate) {
            registry::Admission::New(session) => (session, true),
            registry::Admission::Joined(session) => (session, false),
            registry::Admission::Wait(to_end) => {
                self.to_end = to_end;
                self.state = State::Waiting(admission);
                return Ok(());
            }
            registry::Admission::NoSession => {
                return self
                    .refuse(Status::SessionDoesNotExist, "the session that it wants to join has ended");
            }
            registry::Admission::TooManyConnections => {
                return self
                    .refuse(Status::TooManyConnections, "its session has all the connections it may have");
            }
            registry::Admission::Full => {
                return self.refuse(Status::OutOfResources, "there are as many sessions as there may be");
            }
        };
        let placement = Placement {
            tsih: session.tsih,
            exp_cmd_sn: session.exp_cmd_sn(),
            max_cmd_sn: session.max_cmd_sn(),
        };
        let Some(Ok(admitted)) = self.machine.as_mut().map(|machine| machine.admit(placement)) else {
            return Err(Close::LoginFailed);
        };
        self.outgoing.push_back(admitted.response);
        self.state = State::Done { session, admission, stat_sn: admitted.stat_sn, is_new };
        Ok(())
    }

    fn refuse(&mut self, status: Status, reason: &str) -> Result<(), Close> {
        self.tell_refused(reason);
        self.state = State::Over;
        if let Some(machine) = &mut self.machine {
            self.outgoing.extend(machine.refuse(status).response);
        }
        Err(Close::LoginFailed)
    }

    fn tell_refused(&self, reason: &str) {
        let claimed = self.claimed.borrow();
        self.access.refused(&Refused { initiator: claimed.as_deref(), ends: self.ends, reason });
    }

    /// Asks again for a place, once the old session may have ended.
    pub(crate) fn retry<S: Send>(&mut self, hub: &mut Hub<S>) -> Result<(), Close> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Waiting(admission) => self.admit(admission, hub),
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// The session that has to be told to end.
    pub(crate) fn session_to_end(&mut self) -> Option<Arc<Session>> {
        self.to_end.take()
    }

    /// Whether something is still to be said.
    pub(crate) fn has_more(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Puts what is to be said into the message.
    pub(crate) fn encode<S: Send>(&mut self, link: &mut Link, hub: &Hub<S>) {
        while let Some(pdu) = self.outgoing.front() {
            if !link.outbox.has_room(pdu.data.len(), &hub.pool) {
                return;
            }
            link.outbox.push(&Framing::LOGIN, Payload::Inline(&[&pdu.data]), |bhs| *bhs = pdu.bhs);
            self.outgoing.pop_front();
        }
    }

    /// The connection as it serves, and whether its session is new; once the login is complete.
    /// What remains to be said goes out before anything of the full feature phase.
    pub(crate) fn finish<S: Send>(
        &mut self,
        id: ConnectionId,
        plan: &CorePlan,
        link: &mut Link,
        hub: &Hub<S>,
    ) -> Option<(Full, bool)> {
        if !matches!(self.state, State::Done { .. }) {
            return None;
        }
        self.encode(link, hub);
        if !self.outgoing.is_empty() {
            return None;
        }
        let State::Done { session, admission, stat_sn, is_new } =
            std::mem::replace(&mut self.state, State::Over)
        else {
            return None;
        };
        let mut parameters = admission.parameters;
        if !is_new {
            parameters = parameters.joined_to(&session.parameters(&parameters));
        }
        session.settle(&parameters);
        Some((
            Full {
                id,
                cid: admission.cid,
                framing_in: parameters.receive_framing(),
                framing_out: parameters.send_framing(),
                rules: parameters.write_rules(),
                parameters,
                stat_sn,
                tasks: Tasks::new(plan.window.saturating_add(CorePlan::IMMEDIATE), Arc::clone(&hub.shares)),
                landing: None,
                answers: VecDeque::new(),
                urgent: VecDeque::new(),
                managing: Vec::new(),
                text: TextExchange::new(),
                pinged: None,
                stalled: false,
                reading: 0,
                most_reading: plan.most_reading,
                held_back: VecDeque::new(),
                retry: Vec::new(),
                leaving: None,
                place: Place::new(&plan.moves),
                access: Arc::clone(&self.access),
                ends: self.ends,
                session,
            },
            is_new,
        ))
    }

    /// The login ends without success: a session that it had joined or begun is left again.
    pub(crate) fn abandoned(&mut self) -> Option<Arc<Session>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Done { session, .. } => Some(session),
            _ => None,
        }
    }
}
