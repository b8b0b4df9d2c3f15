//! Every row of the opcode table, and every operation code that has none: what is advertised
//! works, what is reserved is refused, what should stop a command does.

mod common;

use common::*;
use kagami_scsi::table::{DataKind, ROWS, Row};
use kagami_scsi::{Attention, Disposition, NexusId, ReservationType};

/// A CDB of that command that is valid, with a small transfer or an allocation of 255 bytes.
fn valid(row: &Row) -> Vec<u8> {
    let mut bytes = vec![0; row.usage.len()];
    bytes[0] = row.opcode;
    bytes[1] = row.service_action.unwrap_or(0);
    let sized = row.usage.len();
    match (row.data, sized) {
        (DataKind::In, 6) => bytes[4] = 255,
        (DataKind::In, 10) if row.opcode != 0x25 => bytes[8] = 255,
        (DataKind::In, 12) => bytes[9] = 255,
        (DataKind::In, 16) => bytes[13] = 255,
        (DataKind::BlocksIn | DataKind::BlocksOut, 6) => bytes[4] = 1,
        (DataKind::BlocksIn | DataKind::BlocksOut, 10) => bytes[8] = 1,
        (DataKind::BlocksIn | DataKind::BlocksOut, 12) => bytes[9] = 1,
        (DataKind::BlocksIn | DataKind::BlocksOut, 16) => bytes[13] = 1,
        _ => {}
    }
    match row.opcode {
        0x15 | 0x55 => bytes[1] = 0x10,
        0x1a | 0x5a => bytes[2] = 0x3f,
        0x1b => bytes[4] = 1,
        0x5f => bytes[8] = 24,
        _ => {}
    }
    bytes
}

/// PERSISTENT RESERVE OUT parameters; the key is the one that `reserve` registers.
fn list(row: &Row) -> Vec<u8> {
    let mut list = if row.opcode == 0x5f { vec![0; 24] } else { Vec::new() };
    if row.opcode == 0x5f {
        list[15] = 1;
    }
    list
}

fn run(rig: &mut Rig, nexus: u32, row: &Row) -> Disposition {
    let bytes = valid(row);
    if row.data == DataKind::Parameters {
        rig.send(nexus, &bytes, &list(row))
    } else {
        rig.run(nexus, &bytes)
    }
}

#[test]
fn every_row_is_served() {
    for row in &ROWS {
        let mut rig = Rig::new();
        let answer = run(&mut rig, 0, row);
        let served = match &answer {
            Disposition::Check(_) => false,
            Disposition::Status(_) => row.opcode == 0x5f && row.service_action != Some(0),
            _ => true,
        };
        assert!(served, "{}: {answer:?}", row.name);
    }
}

#[test]
fn every_other_opcode_is_refused() {
    let mut rig = Rig::new();
    for opcode in 0..=u8::MAX {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.opcode == opcode).collect();
        if rows.is_empty() {
            assert_eq!(sense(rig.run(0, &[opcode])), INVALID_OPCODE);
        } else if rows[0].service_action.is_some() {
            for action in 0..32 {
                if rows.iter().all(|row| row.service_action != Some(action)) {
                    assert_eq!(sense(rig.run(0, &[opcode, action])), INVALID_FIELD);
                }
            }
        }
    }
}

#[test]
fn every_reserved_bit_is_refused_and_pointed_at() {
    let mut rig = Rig::new();
    for row in &ROWS {
        // What byte 1 accepts beyond its usage data is tested where it matters.
        for at in 2..row.usage.len() {
            for bit in (0..8).filter(|bit| row.usage[at] & (1 << bit) == 0) {
                let mut bytes = valid(row);
                bytes[at] |= 1 << bit;
                let Disposition::Check(found) = rig.run(0, &bytes) else {
                    panic!("{}: byte {at} bit {bit} is taken", row.name)
                };
                assert_eq!(parts(&found), INVALID_FIELD, "{}", row.name);
                let encoded = found.encode(false);
                let pointer = [0xc8 | bit, 0, u8::try_from(at).unwrap()];
                assert_eq!(encoded.as_ref()[15..18], pointer, "{} byte {at}", row.name);
            }
        }
    }
}

#[test]
fn protection_bits_are_refused_and_obsolete_bits_ignored() {
    let mut rig = Rig::new();
    for row in ROWS.iter().filter(|row| row.usage.len() > 6) {
        if matches!(row.data, DataKind::BlocksIn | DataKind::BlocksOut) {
            for protect in 1..8u8 {
                let mut bytes = valid(row);
                bytes[1] |= protect << 5;
                assert_eq!(sense(rig.run(0, &bytes)), INVALID_FIELD, "{}", row.name);
            }
        }
    }
    for opcode in [0x28, 0x2a, 0x88, 0x8a, 0xa8, 0xaa] {
        let row = ROWS.iter().find(|row| row.opcode == opcode).unwrap();
        let mut bytes = valid(row);
        bytes[1] |= 0x02;
        assert!(matches!(rig.run(0, &bytes), Disposition::Block(_)), "FUA_NV in {}", row.name);
    }
    assert_eq!(rig.run(0, &[0x00, 0x60]), Disposition::Good, "the SCSI-2 LUN field");
}

#[test]
fn bytes_behind_the_cdb_are_not_looked_at() {
    let mut rig = Rig::new();
    let mut bytes = [0xff; 16];
    bytes[..6].copy_from_slice(&[0; 6]);
    assert_eq!(rig.run(0, &bytes), Disposition::Good);
}

#[test]
fn unit_attention_stops_all_but_three() {
    for row in &ROWS {
        let mut rig = Rig::new();
        rig.unit.establish(NexusId(0), Attention::InquiryChanged);
        let answer = run(&mut rig, 0, row);
        if row.always_answered() {
            assert!(matches!(row.opcode, 0x03 | 0x12 | 0xa0));
            assert!(matches!(answer, Disposition::DataIn | Disposition::ReportLuns(_)), "{}", row.name);
        } else {
            assert_eq!(sense(answer), (6, 0x3f, 3), "{}", row.name);
            assert!(!matches!(run(&mut rig, 0, row), Disposition::Check(_)), "{}: once only", row.name);
        }
    }
}

fn reserve(rig: &mut Rig, kind: ReservationType) {
    assert_eq!(rig.send(0, &[0x5f, 6, 0, 0, 0, 0, 0, 0, 24], &list(&ROWS[27])), Disposition::Good);
    let mut key = vec![0; 24];
    key[7] = 1;
    let answer = rig.send(0, &[0x5f, 1, kind as u8, 0, 0, 0, 0, 0, 24], &key);
    assert_eq!(answer, Disposition::Good);
}

/// Commands by what SPC-5 and SBC-4 say of them under a reservation of another nexus.
fn is_read(row: &Row) -> bool {
    row.data == DataKind::BlocksIn
        || matches!(row.opcode, 0x2f | 0x8f | 0xaf | 0x34 | 0x90 | 0x1a | 0x5a)
        || (row.opcode == 0xa3 && row.service_action != Some(0x0a))
        || (row.opcode == 0x9e && row.service_action == Some(0x12))
}

fn is_write(row: &Row) -> bool {
    row.writes() || matches!(row.opcode, 0x35 | 0x91 | 0x15 | 0x55)
}

#[test]
fn persistent_reservations_stop_what_the_standards_say() {
    for kind in ReservationType::ALL {
        for row in ROWS.iter().filter(|row| !matches!(row.opcode, 0x16 | 0x17 | 0x56 | 0x57 | 0x5f)) {
            let mut rig = Rig::new();
            reserve(&mut rig, kind);
            let conflicts = is_write(row) || (kind.is_exclusive() && is_read(row));
            assert_eq!(run(&mut rig, 1, row) == CONFLICT, conflicts, "{} under {kind:?}", row.name);
            assert!(run(&mut rig, 0, row) != CONFLICT, "{} of the holder", row.name);
        }
    }
    let mut rig = Rig::new();
    reserve(&mut rig, ReservationType::WriteExclusive);
    assert_eq!(rig.run(1, &[0x1b, 0, 0, 0, 0]), CONFLICT, "STOP");
    assert_eq!(rig.run(1, &[0x1b, 0, 0, 0, 1]), Disposition::Good, "START");
}

#[test]
fn spc2_reservations_stop_nearly_everything() {
    for row in &ROWS {
        let mut rig = Rig::new();
        assert_eq!(rig.run(0, &[0x16]), Disposition::Good);
        let allowed = matches!(row.opcode, 0x03 | 0x12 | 0x17 | 0x25 | 0x57 | 0xa0)
            || (row.opcode == 0x9e && row.service_action == Some(0x10))
            || (row.opcode == 0xa3 && row.service_action == Some(0x0a));
        assert_eq!(run(&mut rig, 1, row) == CONFLICT, !allowed, "{}", row.name);
        let own = matches!(row.opcode, 0x5e | 0x5f);
        assert_eq!(run(&mut rig, 0, row) == CONFLICT, own, "{} of the holder", row.name);
    }
}

#[test]
fn supported_opcodes_are_the_table() {
    let mut rig = Rig::new();
    let all = rig.data(0, &[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(all.len(), 4 + 20 * ROWS.len());
    assert_eq!(usize::from(u16::from_be_bytes([all[2], all[3]])), all.len() - 4);
    for (descriptor, row) in all[4..].chunks(20).zip(&ROWS) {
        let action = row.service_action.unwrap_or(0);
        let flags = 2 | u8::from(row.service_action.is_some());
        let length = u8::try_from(row.usage.len()).unwrap();
        assert_eq!(descriptor[..8], [row.opcode, 0, 0, action, 0, flags, 0, length]);
        assert_eq!(descriptor[8..10], [0, 10]);
        assert_eq!(descriptor[16..], row.timeout.to_be_bytes());
    }
    let plain = rig.data(0, &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(plain.len(), 4 + 8 * ROWS.len());
    assert_eq!(plain[9], 0, "no CTDP");
}

#[test]
fn each_opcode_can_be_asked_for() {
    let mut rig = Rig::new();
    for row in &ROWS {
        let action = row.service_action.unwrap_or(0);
        let mut ask = |options: u8| rig.run(0, &[0xa3, 0x0c, options, row.opcode, 0, action, 0, 0, 1, 0]);
        let [by_opcode, by_action] = [1, 2].map(&mut ask);
        let (right, wrong) =
            if row.service_action.is_some() { (by_action, by_opcode) } else { (by_opcode, by_action) };
        assert_eq!(right, Disposition::DataIn, "{}", row.name);
        assert_eq!(sense(wrong), INVALID_FIELD, "{}", row.name);
        for (options, timeouts) in [(3, 0), (0x83, 12)] {
            let one = rig.data(0, &[0xa3, 0x0c, options, row.opcode, 0, action, 0, 0, 1, 0]);
            assert_eq!(one[1], 3 | (options & 0x80));
            assert_eq!(one[4..4 + row.usage.len()], *row.usage);
            assert_eq!(one.len(), 4 + row.usage.len() + timeouts);
        }
    }
    for unknown in [[1, 0xff, 0], [2, 0xff, 0], [3, 0xff, 0], [2, 0x9e, 0x11], [3, 0x28, 1]] {
        let [options, opcode, action] = unknown;
        let one = rig.data(0, &[0xa3, 0x0c, options, opcode, 0, action, 0, 0, 1, 0]);
        assert_eq!(one, [0, 1, 0, 0], "not supported");
    }
    assert_eq!(sense(rig.run(0, &[0xa3, 0x0c, 4, 0, 0, 0, 0, 0, 1, 0])), INVALID_FIELD);
}

#[test]
fn a_thick_volume_does_not_advertise_unmapping() {
    let mut rig = Rig::with(|config| config.thin = false);
    assert_eq!(rig.data(0, &[0xa3, 0x0c, 1, 0x42, 0, 0, 0, 0, 1, 0]), [0, 1, 0, 0]);
    assert_eq!(rig.data(0, &[0xa3, 0x0c, 1, 0x93, 0, 0, 0, 0, 1, 0])[5], 0x01);
    let all = rig.data(0, &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(all.len(), 4 + 8 * (ROWS.len() - 1));
}

#[test]
fn medium_commands_can_be_forwarded() {
    for row in &ROWS {
        let blocks = matches!(row.data, DataKind::BlocksIn | DataKind::BlocksOut) || row.writes();
        assert!(row.forwardable || !blocks, "{}", row.name);
    }
    assert!(
        ROWS.iter().filter(|row| matches!(row.opcode, 0x5e | 0x5f | 0x16 | 0x12)).all(|row| !row.forwardable)
    );
}
