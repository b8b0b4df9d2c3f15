//! PERSISTENT RESERVE IN (SPC-5 6.15).

use crate::bytes::{Put, index, len32};
use crate::cdb::{Cdb, length};
use crate::disposition::Disposition;
use crate::reserve::Reservations;
use crate::sense::Status;
use crate::table::Row;
use crate::unit::LogicalUnit;

/// READ KEYS.
const READ_KEYS: u8 = 0;
/// READ RESERVATION.
const READ_RESERVATION: u8 = 1;
/// REPORT CAPABILITIES.
const REPORT_CAPABILITIES: u8 = 2;

impl LogicalUnit {
    /// Any service action of PERSISTENT RESERVE IN. An SPC-2 reservation, whoever holds it,
    /// bars it (SPC-2 5.5.1).
    pub(crate) fn persistent_in(&self, row: &Row, cdb: &Cdb, out: &mut Vec<u8>) -> Disposition {
        let reservations = &self.reservations;
        if reservations.legacy.is_some() {
            return Disposition::Status(Status::ReservationConflict);
        }
        out.clear();
        match cdb[1] & 0x1f {
            READ_KEYS => read_keys(reservations, out),
            READ_RESERVATION => read_reservation(reservations, out),
            REPORT_CAPABILITIES => report_capabilities(reservations, out),
            _ => read_full_status(reservations, out),
        }
        out.truncate(index(length(cdb, row)));
        Disposition::DataIn
    }
}

/// PRGENERATION, and room for ADDITIONAL LENGTH.
fn header(reservations: &Reservations, out: &mut Vec<u8>) {
    out.put32(reservations.generation);
    out.put32(0);
}

fn close(out: &mut Vec<u8>) {
    let additional = len32(out.len() - 8).to_be_bytes();
    out.patch(4, &additional);
}

fn read_keys(reservations: &Reservations, out: &mut Vec<u8>) {
    header(reservations, out);
    for registration in &reservations.registrations {
        out.put64(registration.key);
    }
    close(out);
}

/// The key is the holder's; zero where all registrants hold the reservation (SPC-5 6.15.3.3).
fn read_reservation(reservations: &Reservations, out: &mut Vec<u8>) {
    header(reservations, out);
    if let Some(kind) = reservations.kind {
        let holder = reservations.registrations.iter().find(|registration| registration.holder);
        out.put64(holder.map_or(0, |registration| registration.key));
        out.zeroes(5);
        // Scope 0, the logical unit; then two obsolete bytes.
        out.extend_from_slice(&[kind as u8, 0, 0]);
    }
    close(out);
}

/// SPC-5 6.15.4.
fn report_capabilities(reservations: &Reservations, out: &mut Vec<u8>) {
    // CRH, SIP_C, ATP_C, PTPL_C; TMV, PTPL_A. Which commands are allowed is not given.
    let active = u8::from(reservations.aptpl);
    // Types: WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC, WR_EX; EX_AC_AR.
    out.extend_from_slice(&[0, 8, 0x1d, 0x80 | active, 0xea, 0x01, 0, 0]);
}

/// SPC-5 6.15.5.
fn read_full_status(reservations: &Reservations, out: &mut Vec<u8>) {
    header(reservations, out);
    for registration in &reservations.registrations {
        let holds = reservations.holds(registration);
        let kind = reservations.kind.filter(|_| holds).map_or(0, |kind| kind as u8);
        out.put64(registration.key);
        out.put32(0);
        // Each is for one target port (no ALL_TG_PT); R_HOLDER.
        out.extend_from_slice(&[u8::from(holds), kind]);
        out.put32(0);
        out.put16(registration.port);
        let at = out.len();
        out.put32(0);
        registration.id.encode(out);
        let descriptor = len32(out.len() - at - 4).to_be_bytes();
        out.patch(at, &descriptor);
    }
    close(out);
}
