//! PREEMPT and PREEMPT AND ABORT (SPC-5 5.14.11.4, 5.14.11.5).

use crate::attention::Attention;
use crate::cdb::Cdb;
use crate::nexus::NexusId;
use crate::persist_out::{Answer, conflict, parse_type};
use crate::reserve::ReservationType;
use crate::sense::Sense;
use crate::unit::LogicalUnit;

/// What a PREEMPT is about to do.
enum Plan {
    /// Registrations with the key go; the reservation stays, unless its holder goes.
    Registrations,
    /// The reservation passes to the preempting nexus, and registrations go: those with the
    /// key, or, from all registrants with key 0, everyone else's.
    Reservation { from: ReservationType, to: ReservationType },
}

impl LogicalUnit {
    /// PREEMPT by the registration at `own`, of what has the key `victim`. With `abort`, the
    /// tasks of the preempted nexuses are to be aborted.
    pub(crate) fn preempt(
        &mut self,
        nexus: NexusId,
        own: usize,
        cdb: &Cdb,
        victim: u64,
        abort: bool,
    ) -> Answer {
        let reservations = &self.reservations;
        let holder_key = reservations.registrations.iter().find(|reg| reg.holder).map(|reg| reg.key);
        let plan = match reservations.kind {
            Some(from) if from.is_all_registrants() && victim == 0 => {
                Plan::Reservation { from, to: parse_type(cdb)? }
            }
            // SPC-5 table 72: zero is nobody's key.
            _ if victim == 0 => return Err(Sense::list_field(8)),
            Some(from) if holder_key == Some(victim) => Plan::Reservation { from, to: parse_type(cdb)? },
            _ => Plan::Registrations,
        };
        let everyone = victim == 0;
        if !everyone && !reservations.registrations.iter().any(|reg| reg.key == victim) {
            return conflict();
        }
        // The preempting nexus keeps its registration where it takes the reservation over.
        let keeps_own = matches!(plan, Plan::Reservation { .. });
        let mut preempted = Vec::new();
        let mut at = 0;
        let mut ended = None;
        let own_id = (reservations.registrations[own].id.clone(), reservations.registrations[own].port);
        while let Some(registration) = self.reservations.registrations.get(at) {
            let is_own = registration.port == own_id.1 && registration.id == own_id.0;
            let goes = (everyone || registration.key == victim) && !(keeps_own && is_own);
            if !goes {
                at += 1;
                continue;
            }
            preempted.extend(registration.nexus);
            ended = self.reservations.remove(at).or(ended);
        }
        for &other in preempted.iter().filter(|&&other| other != nexus) {
            self.establish(other, Attention::RegistrationsPreempted);
        }
        match plan {
            Plan::Registrations => {
                if let Some(kind) = ended {
                    self.tell_released(nexus, kind);
                }
            }
            Plan::Reservation { from, to } => {
                let own = self.reservations.find(&own_id.0, own_id.1).unwrap_or(0);
                self.reservations.reserve(to, own);
                // Those still registered learn that the reservation is another now.
                if from != to {
                    self.tell_registered(nexus, Attention::ReservationsReleased);
                }
            }
        }
        self.reservations.generation = self.reservations.generation.wrapping_add(1);
        preempted.retain(|&other| other != nexus);
        Ok(self.reservation_changed(if abort { preempted } else { Vec::new() }))
    }
}
