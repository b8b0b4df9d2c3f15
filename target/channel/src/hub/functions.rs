//! Sessions that come and go, and task management, as far as all units of a core are concerned (SAM-5 7).
//!
//! What becomes of single tasks is the units' business; what hosts are told, the connections'.

use super::Hub;
use crate::FAR;
use crate::message::{Manage, Message, Scope, UnitAddress};
use crate::session::Session;
use kagami_reactor::Io;
use kagami_types::CoreId;
use std::sync::Arc;

impl<S: Send> Hub<S> {
    /// A session has begun.
    pub(crate) fn attach(&mut self, session: Arc<Session>) {
        if session.is_ending() {
            // It may have been forgotten already, where it has moved between cores: nobody would a second time.
            return;
        }
        let place = session.nexus.0 as usize;
        if self.sessions.len() <= place {
            self.sessions.resize(place + 1, None);
        }
        self.sessions[place] = Some(session);
    }

    /// A session has ended: every unit of this core forgets it.
    pub(crate) fn detach<I: Io<Stream = S>>(&mut self, session: &Arc<Session>, io: &mut I) {
        if let Some(place) = self.sessions.get_mut(session.nexus.0 as usize) {
            *place = None;
        }
        let units = self.living();
        // One for ourselves, so that it is not over before every unit was told.
        let far = self.far.living();
        self.detaching.push((Arc::clone(session), units.len() + far.len() + 1));
        for index in far {
            self.detach_far(index, session, io.now());
        }
        for index in units {
            self.with_unit(index, None, io, |unit, cx| unit.detach(session, cx));
        }
        self.unit_forgot(session);
    }

    pub(super) fn unit_forgot(&mut self, session: &Arc<Session>) {
        let Some(place) = self.detaching.iter().position(|(other, _)| Arc::ptr_eq(other, session)) else {
            return;
        };
        let (_, left) = &mut self.detaching[place];
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.detaching.swap_remove(place);
            self.registry.forgotten(session);
            // Logins that wait for this look again every round; those on other cores must be woken.
            self.nudge(u64::MAX);
        }
    }

    /// Task management, second step: a core has sent everything that it had for the units of
    /// the scope. When all have, the units act.
    pub(crate) fn fence<I: Io<Stream = S>>(&mut self, manage: Manage, io: &mut I) {
        let same = |other: &Manage| other.asked_by == manage.asked_by && other.itt == manage.itt;
        let place = self.fences.iter().position(|(other, _)| same(other)).unwrap_or_else(|| {
            self.fences.push((manage, self.port.cores()));
            self.fences.len() - 1
        });
        let (_, left) = &mut self.fences[place];
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        self.fences.swap_remove(place);
        let only = match manage.scope {
            Scope::Task(task, _) => Some(task),
            _ => None,
        };
        let mut units = self.living();
        units.extend(self.far.living());
        units.retain(|&index| manage.scope.covers(UnitAddress { core: self.core, index }));
        if manage.scope == Scope::Target {
            // One for ourselves, so that it is not over before every unit was told.
            self.resets.push((manage, units.len() + 1));
        } else if units.is_empty() {
            // The unit was removed meanwhile, and its tasks are over.
            self.send_managed(manage);
        }
        for index in units {
            if index >= FAR {
                self.manage_far(index, manage, only, io.now());
                continue;
            }
            self.with_unit(index, None, io, |unit, cx| unit.manage(manage, only, cx));
        }
        if manage.scope == Scope::Target {
            self.unit_managed(manage);
        }
    }

    /// A unit has done its part of a task management function. Of one for the whole target this
    /// core's part is done with the last of its units.
    pub(super) fn unit_managed(&mut self, manage: Manage) {
        if manage.scope == Scope::Target {
            let same = |other: &Manage| other.asked_by == manage.asked_by && other.itt == manage.itt;
            let Some(place) = self.resets.iter().position(|(other, _)| same(other)) else { return };
            let (_, left) = &mut self.resets[place];
            *left = left.saturating_sub(1);
            if *left > 0 {
                return;
            }
            self.resets.swap_remove(place);
        }
        self.send_managed(manage);
    }

    fn send_managed(&mut self, manage: Manage) {
        let core = manage.asked_by.core;
        if core == self.core {
            self.managed.push(manage);
        } else {
            self.send(core, Message::Managed(manage));
        }
    }

    /// How many [`Message::Managed`] a function of that scope brings: one per unit, or one per core.
    pub(crate) fn units_in(&self, scope: Scope) -> usize {
        match scope {
            Scope::Target => self.port.cores(),
            Scope::Task(..) | Scope::Unit(..) => 1,
        }
    }

    /// The cores that have units of the scope.
    pub(crate) fn homes(&self, scope: Scope) -> Vec<CoreId> {
        match scope {
            Scope::Task(_, unit) | Scope::Unit(_, unit) => vec![unit.core],
            Scope::Target => self.cores().collect(),
        }
    }
}
