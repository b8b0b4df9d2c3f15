//! PERSISTENT RESERVE OUT (SPC-5 6.16): registering, reserving, releasing, clearing, moving.
//!
//! Each service action checks everything before it changes anything. PREEMPT is in
//! `preempt.rs`.

use crate::attention::Attention;
use crate::bytes::{be16, be32, be64, byte, index};
use crate::cdb::{Cdb, MAX_PARAMETERS, length};
use crate::disposition::{Deferred, Disposition};
use crate::nexus::NexusId;
use crate::reserve::{Registration, ReservationType};
use crate::sense::{Asc, Sense, Status};
use crate::table::Row;
use crate::transport_id::{ParsedId, TransportId};
use crate::unit::LogicalUnit;
use std::sync::Arc;

pub(crate) type Answer = Result<Disposition, Sense>;

/// A port pair: what a registration is for.
type Pair = (Arc<TransportId>, u16);

/// The parameter list of all service actions but REGISTER AND MOVE (SPC-5 6.16.3).
struct Basic<'a> {
    key: u64,
    new_key: u64,
    spec_i_pt: bool,
    all_tg_pt: bool,
    aptpl: bool,
    transport_ids: &'a [u8],
}

pub(crate) fn conflict() -> Answer {
    Ok(Disposition::Status(Status::ReservationConflict))
}

fn parse_basic(list: &[u8], register: bool) -> Result<Basic<'_>, Sense> {
    if list.len() < 24 {
        return Err(Sense::list_length());
    }
    let flags = byte(list, 20);
    let spec_i_pt = flags & 0x08 != 0;
    if spec_i_pt && !register {
        return Err(Sense::list_field(20));
    }
    let transport_ids = if spec_i_pt {
        let told = list.get(24..28).map(|_| index(be32(list, 24))).ok_or(Sense::list_length())?;
        let ids = &list[28..];
        if told != ids.len() {
            return Err(Sense::list_length());
        }
        ids
    } else if list.len() == 24 {
        &[]
    } else {
        return Err(Sense::list_length());
    };
    Ok(Basic {
        key: be64(list, 0),
        new_key: be64(list, 8),
        spec_i_pt,
        all_tg_pt: flags & 0x04 != 0,
        aptpl: flags & 0x01 != 0,
        transport_ids,
    })
}

/// SCOPE (only the logical unit) and TYPE.
pub(crate) fn parse_type(cdb: &Cdb) -> Result<ReservationType, Sense> {
    if cdb[2] >> 4 != 0 {
        return Err(Sense::cdb_bit(2, 7));
    }
    ReservationType::from_code(cdb[2] & 0x0f).ok_or(Sense::cdb_bit(2, 3))
}

impl LogicalUnit {
    /// Any service action of PERSISTENT RESERVE OUT. An SPC-2 reservation, whoever holds it,
    /// bars it (SPC-2 5.5.1).
    pub(crate) fn persistent_out(&mut self, nexus: NexusId, row: &Row, cdb: &Cdb, list: &[u8]) -> Answer {
        if self.reservations.legacy.is_some() {
            return conflict();
        }
        let told = index(length(cdb, row));
        if told > MAX_PARAMETERS {
            return Err(Sense::list_length());
        }
        let list = list.get(..told).ok_or(Sense::list_length())?;
        let action = cdb[1] & 0x1f;
        if action == 7 {
            return self.register_and_move(nexus, cdb, list);
        }
        let basic = parse_basic(list, action == 0)?;
        match action {
            0 => self.register(nexus, &basic, false),
            6 => self.register(nexus, &basic, true),
            _ => {
                let Some(at) = self.registered_as(nexus, basic.key) else { return conflict() };
                match action {
                    1 => self.reserve(at, parse_type(cdb)?),
                    2 => self.release(nexus, at, cdb),
                    3 => Ok(self.clear(nexus)),
                    _ => self.preempt(nexus, at, cdb, basic.new_key, action == 5),
                }
            }
        }
    }

    /// The registration of a nexus that knows its key.
    fn registered_as(&self, nexus: NexusId, key: u64) -> Option<usize> {
        self.reservations.of(nexus).filter(|&at| self.reservations.registrations[at].key == key)
    }

    /// REGISTER and REGISTER AND IGNORE EXISTING KEY (SPC-5 5.14.7, tables 69 and 70).
    fn register(&mut self, nexus: NexusId, basic: &Basic<'_>, ignore: bool) -> Answer {
        let Some(own) = self.nexuses.get(nexus).map(|state| (Arc::clone(&state.id), state.port)) else {
            return conflict();
        };
        let registered = self.reservations.of(nexus).map(|at| self.reservations.registrations[at].key);
        if !ignore && registered.unwrap_or(0) != basic.key {
            return conflict();
        }
        if registered.is_some() && basic.spec_i_pt {
            return Err(Sense::cdb_field(1));
        }
        if registered.is_none() && basic.new_key == 0 {
            return Ok(Disposition::Good);
        }
        let mut pairs = self.on_ports(own, basic.all_tg_pt);
        if basic.new_key == 0 {
            return Ok(self.unregister(nexus, &pairs, basic.aptpl));
        }
        if basic.spec_i_pt {
            self.specified_pairs(basic, &mut pairs)?;
        }
        self.enroll(&pairs, basic.new_key)?;
        Ok(self.registrations_changed(basic.aptpl))
    }

    /// The pair on its own target port, or on all of them.
    fn on_ports(&self, (id, port): Pair, all: bool) -> Vec<Pair> {
        if !all {
            return vec![(id, port)];
        }
        self.config.target.ports.iter().map(|port| (Arc::clone(&id), port.relative)).collect()
    }

    /// The initiator ports that SPEC_I_PT names, on the same target ports. None may be
    /// registered already.
    fn specified_pairs(&self, basic: &Basic<'_>, pairs: &mut Vec<Pair>) -> Result<(), Sense> {
        let ports: Vec<u16> = pairs.iter().map(|(_, port)| *port).collect();
        let mut rest = basic.transport_ids;
        while !rest.is_empty() {
            let at = 28 + basic.transport_ids.len() - rest.len();
            let fault = Sense::list_field(at);
            let (parsed, used) = ParsedId::parse(rest).ok_or(fault)?;
            let ids = self.initiator_ports(parsed);
            if ids.is_empty() {
                return Err(fault);
            }
            for (id, &port) in ids.iter().flat_map(|id| ports.iter().map(move |port| (id, port))) {
                let twice = pairs.iter().any(|(known, on)| *on == port && known == id);
                if twice || self.reservations.find(id, port).is_some() {
                    return Err(fault);
                }
                if pairs.len() >= self.reservations.limit {
                    return Err(Sense::illegal(Asc::INSUFFICIENT_REGISTRATION_RESOURCES));
                }
                pairs.push((Arc::clone(id), port));
            }
            rest = rest.get(used..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Which initiator ports a TransportID stands for: the one it names, or, where it has only
    /// the initiator's name, those that are logged in.
    fn initiator_ports(&self, parsed: ParsedId) -> Vec<Arc<TransportId>> {
        if let ParsedId::Port(id) = parsed {
            return vec![Arc::new(id)];
        }
        let mut ids: Vec<Arc<TransportId>> = Vec::new();
        for (_, state) in self.nexuses.iter() {
            if parsed.matches(&state.id) && !ids.contains(&state.id) {
                ids.push(Arc::clone(&state.id));
            }
        }
        ids
    }

    /// Registers all pairs with a key, or none where there is no room.
    fn enroll(&mut self, pairs: &[Pair], key: u64) -> Result<(), Sense> {
        let new = pairs.iter().filter(|(id, port)| self.reservations.find(id, *port).is_none()).count();
        if self.reservations.registrations.len() + new > self.reservations.limit {
            return Err(Sense::illegal(Asc::INSUFFICIENT_REGISTRATION_RESOURCES));
        }
        for (id, port) in pairs {
            match self.reservations.find(id, *port) {
                Some(at) => self.reservations.registrations[at].key = key,
                None => {
                    let live = self.nexuses.iter().find(|(_, state)| state.port == *port && state.id == *id);
                    let nexus = live.map(|(nexus, _)| nexus);
                    let id = Arc::clone(id);
                    self.reservations.registrations.push(Registration {
                        id,
                        port: *port,
                        key,
                        holder: false,
                        nexus,
                    });
                }
            }
        }
        Ok(())
    }

    /// SPC-5 5.14.11.3: a reservation that ends this way is told to the others, if it was one
    /// that admitted registrants.
    fn unregister(&mut self, nexus: NexusId, pairs: &[Pair], aptpl: bool) -> Disposition {
        for (id, port) in pairs {
            let Some(at) = self.reservations.find(id, *port) else { continue };
            if let Some(kind) = self.reservations.remove(at) {
                self.tell_released(nexus, kind);
            }
        }
        self.registrations_changed(aptpl)
    }

    /// RESERVATIONS RELEASED for all other registered nexuses, where the type calls for it
    /// (SPC-5 5.14.11.2).
    pub(crate) fn tell_released(&mut self, nexus: NexusId, kind: ReservationType) {
        if kind.admits_registrants() {
            self.tell_registered(nexus, Attention::ReservationsReleased);
        }
    }

    /// A unit attention for all registered nexuses but one.
    pub(crate) fn tell_registered(&mut self, except: NexusId, attention: Attention) {
        let others = self.reservations.registrations.iter().filter_map(|reg| reg.nexus);
        for nexus in others.filter(|&nexus| nexus != except) {
            if let Some(state) = self.nexuses.get_mut(nexus) {
                state.establish(attention);
            }
        }
    }

    /// RESERVE (SPC-5 5.14.9).
    fn reserve(&mut self, at: usize, kind: ReservationType) -> Answer {
        let reservations = &mut self.reservations;
        match reservations.kind {
            None => reservations.reserve(kind, at),
            Some(held) if held == kind && reservations.holds(&reservations.registrations[at]) => {}
            Some(_) => return conflict(),
        }
        Ok(self.reservation_changed(Vec::new()))
    }

    /// RELEASE (SPC-5 5.14.11.2): nothing for one who does not hold the reservation.
    fn release(&mut self, nexus: NexusId, at: usize, cdb: &Cdb) -> Answer {
        let asked = parse_type(cdb)?;
        let reservations = &mut self.reservations;
        let Some(kind) = reservations.kind else { return Ok(Disposition::Good) };
        if !reservations.holds(&reservations.registrations[at]) {
            return Ok(Disposition::Good);
        }
        if asked != kind {
            return Err(Sense::illegal(Asc::INVALID_RELEASE));
        }
        reservations.clear_reservation();
        self.tell_released(nexus, kind);
        Ok(self.reservation_changed(Vec::new()))
    }

    /// CLEAR (SPC-5 5.14.11.6).
    fn clear(&mut self, nexus: NexusId) -> Disposition {
        self.tell_registered(nexus, Attention::ReservationsPreempted);
        self.reservations.clear_reservation();
        self.reservations.registrations.clear();
        self.reservations.generation = self.reservations.generation.wrapping_add(1);
        self.reservation_changed(Vec::new())
    }

    /// REGISTER AND MOVE (SPC-5 5.14.8): registers another nexus and gives it the reservation.
    fn register_and_move(&mut self, nexus: NexusId, cdb: &Cdb, list: &[u8]) -> Answer {
        if list.len() < 24 {
            return Err(Sense::list_length());
        }
        let (key, new_key) = (be64(list, 0), be64(list, 8));
        let flags = byte(list, 17);
        let (port, id_length) = (be16(list, 18), index(be32(list, 20)));
        if list.len() - 24 != id_length {
            return Err(Sense::list_length());
        }
        let Some(at) = self.registered_as(nexus, key) else { return conflict() };
        let reservations = &self.reservations;
        let Some(kind) = reservations.kind else { return Err(Sense::cdb_field(1)) };
        if kind.is_all_registrants() || !reservations.registrations[at].holder {
            return conflict();
        }
        if parse_type(cdb)? != kind {
            return Err(Sense::cdb_bit(2, 3));
        }
        if new_key == 0 {
            return Err(Sense::list_field(8));
        }
        if !self.config.target.ports.iter().any(|known| known.relative == port) {
            return Err(Sense::list_field(18));
        }
        let (parsed, used) = ParsedId::parse(&list[24..]).ok_or(Sense::list_field(24))?;
        // A name without a port is no nexus to move to.
        let ParsedId::Port(id) = parsed else { return Err(Sense::list_field(24)) };
        let own = &reservations.registrations[at];
        if used != id_length || (*own.id == id && own.port == port) {
            return Err(Sense::list_field(24));
        }
        let own = (Arc::clone(&own.id), own.port);
        let id = Arc::new(id);
        self.enroll(&[(Arc::clone(&id), port)], new_key)?;
        if let Some(to) = self.reservations.find(&id, port) {
            self.reservations.reserve(kind, to);
        }
        if flags & 0x02 != 0
            && let Some(at) = self.reservations.find(&own.0, own.1)
        {
            self.reservations.remove(at);
        }
        Ok(self.registrations_changed(flags & 0x01 != 0))
    }

    /// After REGISTER and its kind: the generation counts on, APTPL is as asked.
    fn registrations_changed(&mut self, aptpl: bool) -> Disposition {
        let before = self.reservations.aptpl;
        self.reservations.generation = self.reservations.generation.wrapping_add(1);
        self.reservations.aptpl = aptpl;
        self.settle_reservations(before || aptpl, Vec::new())
    }

    /// After any other change.
    pub(crate) fn reservation_changed(&mut self, abort: Vec<NexusId>) -> Disposition {
        self.settle_reservations(self.reservations.aptpl, abort)
    }

    fn settle_reservations(&mut self, persist: bool, abort: Vec<NexusId>) -> Disposition {
        self.refresh_conflicts();
        if !persist && abort.is_empty() {
            return Disposition::Good;
        }
        let persist = persist.then(|| self.snapshot());
        Disposition::Deferred(Box::new(Deferred { persist, abort, flush: false }))
    }
}
