//! Reservations: the state, who is barred by it, and the SPC-2 commands.
//!
//! Registrations belong to an I_T nexus by name (initiator port and target port), so that they
//! outlive logout; `nexus` says which live one it is, if any. Persistent reservation commands
//! are in `persist_in.rs`, `persist_out.rs` and `preempt.rs`; what is kept in `snapshot.rs`.
//!
//! A persistent reservation is held by one registration (marked `holder`), or, for the all
//! registrants types, by every registration there is. It never exists without a holder.

use crate::disposition::Disposition;
use crate::nexus::NexusId;
use crate::sense::Status;
use crate::table::Gates;
use crate::transport_id::TransportId;
use crate::unit::LogicalUnit;
use std::sync::Arc;

/// Types of persistent reservations (SPC-5 table 67).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReservationType {
    /// Others may read.
    WriteExclusive = 1,
    /// Others may neither read nor write.
    ExclusiveAccess = 3,
    /// The registered may write, all others read.
    WriteExclusiveRegistrantsOnly = 5,
    /// Only the registered have access.
    ExclusiveAccessRegistrantsOnly = 6,
    /// Like registrants only, and all of the registered hold it.
    WriteExclusiveAllRegistrants = 7,
    /// Like registrants only, and all of the registered hold it.
    ExclusiveAccessAllRegistrants = 8,
}

impl ReservationType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The type with that code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Does it keep others from reading, too?
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess
                | Self::ExclusiveAccessRegistrantsOnly
                | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Does every registered nexus hold it?
    #[must_use]
    pub fn is_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }

    /// Does every registered nexus have full access (registrants only, all registrants)?
    #[must_use]
    pub fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }
}

/// One registration: an I_T nexus and its reservation key.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub id: Arc<TransportId>,
    /// Relative target port identifier.
    pub port: u16,
    pub key: u64,
    /// It holds the reservation. Never set for the all registrants types.
    pub holder: bool,
    /// The live nexus that it belongs to.
    pub nexus: Option<NexusId>,
}

/// Everything about the reservations of one logical unit.
#[derive(Debug)]
pub(crate) struct Reservations {
    pub registrations: Vec<Registration>,
    /// The persistent reservation's type, while there is one.
    pub kind: Option<ReservationType>,
    /// PRGENERATION: counts changes of registrations since power on (SPC-5 6.15.2).
    pub generation: u32,
    /// Registrations and reservation outlive power loss, as the last registering nexus asked.
    pub aptpl: bool,
    /// Who holds the SPC-2 reservation.
    pub legacy: Option<NexusId>,
    pub limit: usize,
}

impl Reservations {
    pub fn new(limit: u16) -> Self {
        Self {
            registrations: Vec::new(),
            kind: None,
            generation: 0,
            aptpl: false,
            legacy: None,
            limit: usize::from(limit),
        }
    }

    /// Which registration a live nexus has.
    pub fn of(&self, nexus: NexusId) -> Option<usize> {
        self.registrations.iter().position(|registration| registration.nexus == Some(nexus))
    }

    /// Which registration a port pair has.
    pub fn find(&self, id: &TransportId, port: u16) -> Option<usize> {
        self.registrations.iter().position(|reg| reg.port == port && *reg.id == *id)
    }

    /// Does that registration hold the reservation (SPC-5 5.14.10)?
    pub fn holds(&self, registration: &Registration) -> bool {
        match self.kind {
            None => false,
            Some(kind) => kind.is_all_registrants() || registration.holder,
        }
    }

    /// What bars a nexus (SPC-5 5.14.1, SPC-2 5.5.1).
    pub fn conflicts(&self, nexus: NexusId) -> Gates {
        let mut gates = Gates::empty();
        gates.set(Gates::RESERVED, self.legacy.is_some_and(|holder| holder != nexus));
        if let Some(kind) = self.kind {
            let registration = self.of(nexus).map(|at| &self.registrations[at]);
            let admitted = registration.is_some_and(|reg| self.holds(reg) || kind.admits_registrants());
            gates.set(Gates::WRITE_CONFLICT, !admitted);
            gates.set(Gates::READ_CONFLICT, !admitted && kind.is_exclusive());
        }
        gates
    }

    /// A nexus has come: it has its registration back.
    pub fn bind(&mut self, nexus: NexusId, id: &TransportId, port: u16) {
        if let Some(at) = self.find(id, port) {
            self.registrations[at].nexus = Some(nexus);
        }
    }

    /// A nexus has gone. Says whether its SPC-2 reservation went with it.
    pub fn unbind(&mut self, nexus: NexusId) -> bool {
        for registration in &mut self.registrations {
            if registration.nexus == Some(nexus) {
                registration.nexus = None;
            }
        }
        if self.legacy == Some(nexus) {
            self.legacy = None;
            return true;
        }
        false
    }

    /// Takes the reservation away; its type, if there was one.
    pub fn clear_reservation(&mut self) -> Option<ReservationType> {
        for registration in &mut self.registrations {
            registration.holder = false;
        }
        self.kind.take()
    }

    /// Gives the reservation to the registration at `at`.
    pub fn reserve(&mut self, kind: ReservationType, at: usize) {
        self.clear_reservation();
        self.kind = Some(kind);
        if !kind.is_all_registrants()
            && let Some(registration) = self.registrations.get_mut(at)
        {
            registration.holder = true;
        }
    }

    /// Takes the registration at `at` out. The reservation ends with its holder, or with the
    /// last of all registrants (SPC-5 5.14.11.3); its type, if it did.
    pub fn remove(&mut self, at: usize) -> Option<ReservationType> {
        if at >= self.registrations.len() {
            return None;
        }
        let removed = self.registrations.remove(at);
        let ends = match self.kind {
            Some(kind) if kind.is_all_registrants() => self.registrations.is_empty(),
            Some(_) => removed.holder,
            None => false,
        };
        if ends { self.clear_reservation() } else { None }
    }
}

impl LogicalUnit {
    /// RESERVE 6/10 (SPC-2 7.21; with persistent reservations SPC-4 5.13.3, CRH): one that
    /// already has what it asks for gets GOOD, and nothing changes.
    pub(crate) fn reserve_legacy(&mut self, nexus: NexusId) -> Disposition {
        match self.legacy_exception(nexus) {
            Some(disposition) => disposition,
            None if self.reservations.legacy.is_some_and(|holder| holder != nexus) => {
                Disposition::Status(Status::ReservationConflict)
            }
            None => {
                self.reservations.legacy = Some(nexus);
                self.refresh_conflicts();
                Disposition::Good
            }
        }
    }

    /// RELEASE 6/10: of what another holds, it does nothing and is GOOD.
    pub(crate) fn release_legacy(&mut self, nexus: NexusId) -> Disposition {
        if let Some(disposition) = self.legacy_exception(nexus) {
            return disposition;
        }
        if self.reservations.legacy == Some(nexus) {
            self.reservations.legacy = None;
            self.refresh_conflicts();
        }
        Disposition::Good
    }

    /// While anyone is registered, SPC-2 reservations are not made: GOOD for the holder of a
    /// persistent reservation and for those whom it admits, conflict for all others.
    fn legacy_exception(&self, nexus: NexusId) -> Option<Disposition> {
        let reservations = &self.reservations;
        if reservations.registrations.is_empty() {
            return None;
        }
        let registration = reservations.of(nexus).map(|at| &reservations.registrations[at]);
        let excepted = registration.is_some_and(|reg| {
            reservations.holds(reg) || reservations.kind.is_some_and(ReservationType::admits_registrants)
        });
        Some(if excepted { Disposition::Good } else { Disposition::Status(Status::ReservationConflict) })
    }
}
