//! What outlives a restart, as bytes: saved mode pages, and registrations under APTPL.
//!
//! Format, big-endian throughout; the caller adds a checksum and a place to keep it:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | magic `KLUS` |
//! | 2 | version, 1 |
//! | 2 | zero |
//! | 4, 4, 4 | compatible, read-only-compatible and incompatible feature bits, all zero in version 1 |
//! | 1 | mode parameters saved: bit 0 WCE, 1 D_SENSE, 2 SWP, 3 TAS |
//! | 1 | bit 0: APTPL is active |
//! | 1 | reservation type, 0 for none |
//! | 1 | zero |
//! | 4 | number of registrations; none without APTPL |
//!
//! then for each registration: key (8), relative target port (2), ISID (6), bit 0 holder (1),
//! length of the name (1), the initiator's iSCSI name. PRGENERATION starts from zero after
//! power on (SPC-5 6.15.2) and is not kept.

use crate::bytes::{Put, array, be16, be32, be64, byte, len8, len32};
use crate::mode::Flags;
use crate::reserve::{Registration, ReservationType, Reservations};
use crate::transport_id::TransportId;
use crate::unit::LogicalUnit;
use std::sync::Arc;
use thiserror::Error;

const MAGIC: [u8; 4] = *b"KLUS";
const VERSION: u16 = 1;
const HEADER: usize = 28;
const REGISTRATION: usize = 18;

/// Why a snapshot was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// It does not begin as one.
    #[error("not a logical unit's state")]
    Magic,
    /// A newer program wrote it.
    #[error("the state has version or features that this program does not know")]
    Version,
    /// It ends too early, goes on too long, or contradicts itself.
    #[error("the state is malformed")]
    Malformed,
    /// It has more registrations than the logical unit keeps.
    #[error("the state has more registrations than the configured limit")]
    TooMany,
}

impl LogicalUnit {
    /// The state to be kept, complete.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let reservations = &self.reservations;
        let kept: &[Registration] = if reservations.aptpl { &reservations.registrations } else { &[] };
        let kind = if reservations.aptpl { reservations.kind } else { None };
        let mut out = Vec::with_capacity(HEADER + kept.len() * 64);
        out.extend_from_slice(&MAGIC);
        out.put16(VERSION);
        out.zeroes(2 + 12);
        out.extend_from_slice(&[
            self.mode.saved.bits(),
            u8::from(reservations.aptpl),
            kind.map_or(0, |kind| kind as u8),
            0,
        ]);
        out.put32(len32(kept.len()));
        for registration in kept {
            out.put64(registration.key);
            out.put16(registration.port);
            out.extend_from_slice(&registration.id.isid());
            let name = registration.id.name();
            out.extend_from_slice(&[u8::from(registration.holder), len8(name.len())]);
            out.extend_from_slice(name.as_bytes());
        }
        out
    }

    /// Takes kept state back, after [`new`](Self::new) and before the first nexus. WCE is only
    /// taken where it is changeable, as the configuration decides it otherwise.
    ///
    /// # Errors
    /// The bytes are not such state; nothing is changed then.
    pub fn restore(&mut self, kept: &[u8]) -> Result<(), SnapshotError> {
        let (saved, reservations) = parse(kept, self.config.limits.registrations)?;
        let changeable = self.mode.changeable;
        self.mode.saved = (self.mode.default - changeable) | (saved & changeable);
        self.mode.current = self.mode.saved;
        self.reservations = reservations;
        let live: Vec<_> = self.nexuses.iter().map(|(nexus, s)| (nexus, s.id.clone(), s.port)).collect();
        for (nexus, id, port) in live {
            self.reservations.bind(nexus, &id, port);
        }
        self.refresh_gates();
        self.refresh_conflicts();
        Ok(())
    }
}

fn parse(kept: &[u8], limit: u16) -> Result<(Flags, Reservations), SnapshotError> {
    if kept.get(..4) != Some(&MAGIC) {
        return Err(SnapshotError::Magic);
    }
    if be16(kept, 4) != VERSION || be32(kept, 16) != 0 {
        return Err(SnapshotError::Version);
    }
    let mut rest = kept.get(HEADER..).ok_or(SnapshotError::Malformed)?;
    let saved = Flags::from_bits(byte(kept, 20)).ok_or(SnapshotError::Malformed)?;
    let mut reservations = Reservations::new(limit);
    reservations.aptpl = byte(kept, 21) & 1 != 0;
    reservations.kind = match byte(kept, 22) {
        0 => None,
        code => Some(ReservationType::from_code(code).ok_or(SnapshotError::Malformed)?),
    };
    let count = be32(kept, 24);
    if count > u32::from(limit) {
        return Err(SnapshotError::TooMany);
    }
    for _ in 0..count {
        let (registration, after) = parse_registration(rest).ok_or(SnapshotError::Malformed)?;
        if reservations.find(&registration.id, registration.port).is_some() {
            return Err(SnapshotError::Malformed);
        }
        reservations.registrations.push(registration);
        rest = after;
    }
    if !rest.is_empty() || !is_consistent(&reservations) {
        return Err(SnapshotError::Malformed);
    }
    Ok((saved, reservations))
}

fn parse_registration(from: &[u8]) -> Option<(Registration, &[u8])> {
    let after = from.get(REGISTRATION..)?;
    let (name, after) = after.split_at_checked(usize::from(byte(from, 17)))?;
    let id = TransportId::new(std::str::from_utf8(name).ok()?, array(from, 10))?;
    let registration = Registration {
        id: Arc::new(id),
        key: be64(from, 0),
        port: be16(from, 8),
        holder: byte(from, 16) & 1 != 0,
        nexus: None,
    };
    (registration.key != 0).then_some((registration, after))
}

/// A reservation has exactly one holder, or all registrants; no reservation, no holder; and
/// without APTPL nothing is kept.
fn is_consistent(reservations: &Reservations) -> bool {
    let registrations = &reservations.registrations;
    let holders = registrations.iter().filter(|registration| registration.holder).count();
    let held = match reservations.kind {
        None => holders == 0,
        Some(kind) if kind.is_all_registrants() => holders == 0 && !registrations.is_empty(),
        Some(_) => holders == 1,
    };
    held && (reservations.aptpl || registrations.is_empty())
}
