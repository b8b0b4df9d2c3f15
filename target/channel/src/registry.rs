//! All sessions of the array. Logins and ends of sessions come here, from all cores; no
//! command ever does, so an ordinary lock serves.

use crate::access::Ends;
use crate::session::{Session, SessionIdentity, Visible};
use kagami_iscsi::pdu::{Isid, Tsih};
use kagami_iscsi::serial::CmdSn;
use kagami_scsi::NexusId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The sessions, by the number that this side gave them.
#[derive(Debug)]
pub struct Registry {
    inner: Mutex<Inner>,
    cores: usize,
    most: usize,
    window: u32,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: BTreeMap<u16, Entry>,
    next: u16,
    free_nexuses: Vec<u32>,
    nexuses: u32,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    /// Cores that have not yet forgotten it, once it ends.
    left: usize,
    end_asked: bool,
}

/// A login that asks for a session.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) initiator: Box<str>,
    pub(crate) isid: Isid,
    /// 0 for a new session (RFC 7143 6.3.1).
    pub(crate) tsih: Tsih,
    pub(crate) first: CmdSn,
    pub(crate) visible: Visible,
    pub(crate) ends: Ends,
    pub(crate) max_connections: u16,
    pub(crate) port: u16,
    pub(crate) is_discovery: bool,
}

/// What the registry says to it.
#[derive(Debug)]
pub(crate) enum Admission {
    /// A new session.
    New(Arc<Session>),
    /// One more connection of a session that is there.
    Joined(Arc<Session>),
    /// A session of the same initiator port must end first (RFC 7143 6.3.5); where it is given,
    /// it is to be told so. Ask again later.
    Wait(Option<Arc<Session>>),
    /// No such session.
    NoSession,
    /// The session has all the connections that it may have.
    TooManyConnections,
    /// There are as many sessions as there may be.
    Full,
}

impl Registry {
    /// A registry for that many cores, at most `most` sessions with a window of `window`
    /// commands each.
    #[must_use]
    pub fn new(cores: usize, most: usize, window: u32) -> Self {
        Self { inner: Mutex::default(), cores, most, window }
    }

    /// The lock is held for moments, and never while something can panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn admit(&self, candidate: &Candidate) -> Admission {
        let mut inner = self.lock();
        let same_port = |entry: &Entry| {
            !candidate.is_discovery
                && !entry.session.is_discovery
                && entry.session.isid == candidate.isid
                && entry.session.port == candidate.port
                && *entry.session.initiator == *candidate.initiator
        };
        if candidate.tsih != Tsih(0) {
            let Some(entry) = inner.sessions.get(&candidate.tsih.0).filter(|entry| same_port(entry)) else {
                return Admission::NoSession;
            };
            return match entry.session.join() {
                true => Admission::Joined(Arc::clone(&entry.session)),
                false if entry.session.is_ending() => Admission::NoSession,
                false => Admission::TooManyConnections,
            };
        }
        if let Some(entry) = inner.sessions.values_mut().find(|entry| same_port(entry)) {
            let first = !std::mem::replace(&mut entry.end_asked, true);
            return Admission::Wait(first.then(|| Arc::clone(&entry.session)));
        }
        if inner.sessions.len() >= self.most {
            return Admission::Full;
        }
        Admission::New(inner.create(candidate, self.window, self.cores))
    }

    /// One core has forgotten an ended session; true when it was the last.
    pub(crate) fn forgotten(&self, session: &Session) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.sessions.get_mut(&session.tsih.0) else { return false };
        entry.left = entry.left.saturating_sub(1);
        if entry.left > 0 {
            return false;
        }
        inner.sessions.remove(&session.tsih.0);
        inner.free_nexuses.push(session.nexus.0);
        true
    }

    /// The cores that it is for.
    pub(crate) fn cores(&self) -> usize {
        self.cores
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sessions, for display.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.lock().sessions.values().map(|entry| Arc::clone(&entry.session)).collect()
    }
}

impl Inner {
    fn create(&mut self, candidate: &Candidate, window: u32, cores: usize) -> Arc<Session> {
        let nexus = self.free_nexuses.pop().unwrap_or_else(|| {
            self.nexuses += 1;
            self.nexuses - 1
        });
        // There are fewer sessions than numbers, so this ends. 0 means "a new session".
        loop {
            self.next = self.next.wrapping_add(1);
            if self.next != 0 && !self.sessions.contains_key(&self.next) {
                break;
            }
        }
        let identity = SessionIdentity {
            tsih: Tsih(self.next),
            isid: candidate.isid,
            initiator: candidate.initiator.clone(),
            nexus: NexusId(nexus),
            visible: candidate.visible.clone(),
            ends: candidate.ends,
            max_connections: candidate.max_connections,
            port: candidate.port,
            is_discovery: candidate.is_discovery,
        };
        let session = Arc::new(Session::new(identity, candidate.first, window));
        self.sessions
            .insert(self.next, Entry { session: Arc::clone(&session), left: cores, end_asked: false });
        session
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(isid: u8, tsih: u16) -> Candidate {
        Candidate {
            initiator: "iqn.2026-11.test:a".into(),
            isid: Isid([isid; 6]),
            tsih: Tsih(tsih),
            first: CmdSn(1),
            visible: Visible::All,
            ends: Ends::default(),
            max_connections: 2,
            port: 1,
            is_discovery: false,
        }
    }

    fn new(registry: &Registry, isid: u8) -> Arc<Session> {
        match registry.admit(&candidate(isid, 0)) {
            Admission::New(session) => session,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_login_from_the_same_port_waits_until_every_core_forgot_the_old_session() {
        let registry = Registry::new(2, 8, 16);
        let old = new(&registry, 1);
        assert!(matches!(registry.admit(&candidate(1, 0)), Admission::Wait(Some(_))));
        assert!(matches!(registry.admit(&candidate(1, 0)), Admission::Wait(None)));
        assert!(!registry.forgotten(&old));
        assert!(matches!(registry.admit(&candidate(1, 0)), Admission::Wait(None)));
        assert!(registry.forgotten(&old));
        let next = new(&registry, 1);
        assert_ne!(next.tsih, old.tsih);
        assert_eq!(next.nexus, old.nexus, "the number is free again");
    }

    #[test]
    fn connections_join_by_number_and_are_bounded() {
        let registry = Registry::new(1, 8, 16);
        let tsih = new(&registry, 1).tsih.0;
        assert!(matches!(registry.admit(&candidate(1, tsih)), Admission::Joined(_)));
        assert!(matches!(registry.admit(&candidate(1, tsih)), Admission::TooManyConnections));
        assert!(matches!(registry.admit(&candidate(2, tsih)), Admission::NoSession));
        assert!(matches!(registry.admit(&candidate(1, tsih + 1)), Admission::NoSession));
    }

    #[test]
    fn sessions_are_bounded() {
        let registry = Registry::new(1, 1, 16);
        new(&registry, 1);
        assert!(matches!(registry.admit(&candidate(2, 0)), Admission::Full));
    }
}
