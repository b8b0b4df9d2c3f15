//! Reservations, step by step: what PERSISTENT RESERVE does, who is told, and what is kept.

mod common;

use common::*;
use kagami_scsi::{
    Deferred, Disposition, LogicalUnit, NexusId, ReservationType, Reset, SnapshotError, TransportId, fuzz,
};
use kagami_types::{BlockCount, BlockSize};
use std::sync::Arc;

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_ABORT: u8 = 5;
const IGNORE: u8 = 6;
const MOVE: u8 = 7;

const SPEC_I_PT: u8 = 8;
const ALL_TG_PT: u8 = 4;
const APTPL: u8 = 1;

const RELEASED: (u8, u8) = (0x2a, 4);
const PREEMPTED: (u8, u8) = (0x2a, 3);
const REGISTRATION_PREEMPTED: (u8, u8) = (0x2a, 5);

fn list(key: u64, new_key: u64, flags: u8) -> Vec<u8> {
    let mut list = [key.to_be_bytes(), new_key.to_be_bytes(), [0; 8]].concat();
    list[20] = flags;
    list
}

fn send(rig: &mut Rig, nexus: u32, action: u8, kind: u8, list: &[u8]) -> Disposition {
    let length = u8::try_from(list.len()).unwrap();
    rig.send(nexus, &[0x5f, action, kind, 0, 0, 0, 0, 0, length], list)
}

fn out(rig: &mut Rig, nexus: u32, action: u8, kind: u8, key: u64, new_key: u64) -> Disposition {
    send(rig, nexus, action, kind, &list(key, new_key, 0))
}

#[track_caller]
fn good(disposition: Disposition) {
    assert_eq!(disposition, Disposition::Good);
}

fn keys(rig: &mut Rig) -> Vec<u64> {
    let data = rig.data(3, &[0x5e, 0, 0, 0, 0, 0, 0, 1, 0]);
    let (keys, rest) = data[8..].as_chunks::<8>();
    assert!(rest.is_empty());
    assert_eq!(usize::from(data[7]), data.len() - 8);
    keys.iter().map(|key| u64::from_be_bytes(*key)).collect()
}

fn generation(rig: &mut Rig) -> u32 {
    let data = rig.data(3, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8]);
    u32::from_be_bytes(data[..4].try_into().unwrap())
}

/// Key and type of the reservation.
fn held(rig: &mut Rig) -> Option<(u64, u8)> {
    let data = rig.data(3, &[0x5e, 1, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(usize::from(data[7]), data.len() - 8);
    (data.len() > 8).then(|| (u64::from_be_bytes(data[8..16].try_into().unwrap()), data[21]))
}

fn reads(rig: &mut Rig, nexus: u32) -> bool {
    rig.run(nexus, &ten(0x28, 0, 0, 1)) != CONFLICT
}

fn writes(rig: &mut Rig, nexus: u32) -> bool {
    rig.run(nexus, &ten(0x2a, 0, 0, 1)) != CONFLICT
}

/// Nexuses 0 and 1 registered with keys 100 and 101, and nexus 0 holding that type.
fn reserved(kind: u8) -> Rig {
    let mut rig = Rig::new();
    good(out(&mut rig, 0, REGISTER, 0, 0, 100));
    good(out(&mut rig, 1, IGNORE, 0, 7, 101));
    good(out(&mut rig, 0, RESERVE, kind, 100, 0));
    rig
}

#[test]
fn registering_and_unregistering() {
    let mut rig = Rig::new();
    good(out(&mut rig, 0, REGISTER, 0, 0, 0));
    assert_eq!(generation(&mut rig), 0, "nothing was registered");
    assert_eq!(out(&mut rig, 0, REGISTER, 0, 5, 100), CONFLICT, "not registered with 5");
    good(out(&mut rig, 0, REGISTER, 0, 0, 100));
    assert_eq!(out(&mut rig, 0, REGISTER, 0, 0, 101), CONFLICT, "the old key is missing");
    good(out(&mut rig, 0, REGISTER, 0, 100, 101));
    good(out(&mut rig, 0, IGNORE, 0, 9, 102));
    assert_eq!((keys(&mut rig), generation(&mut rig)), (vec![102], 3));
    good(out(&mut rig, 0, REGISTER, 0, 102, 0));
    assert_eq!((keys(&mut rig), generation(&mut rig)), (vec![], 4));
}

#[test]
fn access_under_each_type() {
    // Registered other: read, write; unregistered other: read, write (SPC-5 5.14.1).
    let table = [
        (1, [true, false, true, false]),
        (3, [false, false, false, false]),
        (5, [true, true, true, false]),
        (6, [true, true, false, false]),
        (7, [true, true, true, false]),
        (8, [true, true, false, false]),
    ];
    for (kind, expected) in table {
        let mut rig = reserved(kind);
        let key = if kind >= 7 { 0 } else { 100 };
        assert_eq!(held(&mut rig), Some((key, kind)));
        let rig = &mut rig;
        assert!(reads(rig, 0) && writes(rig, 0));
        assert_eq!([reads(rig, 1), writes(rig, 1), reads(rig, 2), writes(rig, 2)], expected, "type {kind}");
        good(rig.run(2, &[0]));
    }
}

#[test]
fn reserving_again_and_against() {
    let mut rig = reserved(5);
    good(out(&mut rig, 0, RESERVE, 5, 100, 0));
    assert_eq!(out(&mut rig, 0, RESERVE, 6, 100, 0), CONFLICT);
    assert_eq!(out(&mut rig, 1, RESERVE, 5, 101, 0), CONFLICT);
    assert_eq!(out(&mut rig, 2, RESERVE, 5, 0, 0), CONFLICT);
    assert_eq!(out(&mut rig, 0, RESERVE, 5, 99, 0), CONFLICT);
    for (action, kind) in [(RESERVE, 0), (RESERVE, 2), (RESERVE, 9), (RESERVE, 0x15), (RELEASE, 0x15)] {
        assert_eq!(sense(out(&mut rig, 0, action, kind, 100, 0)), INVALID_FIELD);
    }
    let mut rig = reserved(8);
    good(out(&mut rig, 1, RESERVE, 8, 101, 0));
}

#[test]
fn releasing() {
    for kind in [1, 3, 5, 6, 7, 8] {
        let mut rig = reserved(kind);
        let other = if kind == 1 { 3 } else { 1 };
        assert_eq!(sense(out(&mut rig, 0, RELEASE, other, 100, 0)), (5, 0x26, 4));
        assert_eq!(out(&mut rig, 2, RELEASE, kind, 0, 0), CONFLICT);
        let by = u32::from(kind >= 7);
        if by == 0 {
            good(out(&mut rig, 1, RELEASE, kind, 101, 0));
            assert!(held(&mut rig).is_some(), "of what another holds nothing is released");
        }
        good(out(&mut rig, by, RELEASE, kind, 100 + u64::from(by), 0));
        assert_eq!(held(&mut rig), None);
        let told = if kind >= 5 { vec![RELEASED] } else { vec![] };
        assert_eq!(rig.clear(1 - by), told, "type {kind}");
        assert_eq!((rig.clear(by), rig.clear(2)), (vec![], vec![]));
        good(out(&mut rig, 0, RELEASE, kind, 100, 0));
    }
}

#[test]
fn unregistering_the_holder() {
    for kind in [1, 3, 5, 6, 7, 8] {
        let mut rig = reserved(kind);
        good(out(&mut rig, 0, REGISTER, 0, 100, 0));
        if kind >= 7 {
            assert_eq!(held(&mut rig), Some((0, kind)), "there is another registrant");
            good(out(&mut rig, 1, REGISTER, 0, 101, 0));
        } else {
            let told = if kind >= 5 { vec![RELEASED] } else { vec![] };
            assert_eq!(rig.clear(1), told);
        }
        assert_eq!(held(&mut rig), None);
        assert!(writes(&mut rig, 2));
    }
}

#[test]
fn clearing() {
    let mut rig = reserved(3);
    assert_eq!(out(&mut rig, 2, CLEAR, 0, 0, 0), CONFLICT);
    let before = generation(&mut rig);
    good(out(&mut rig, 1, CLEAR, 0, 101, 0));
    assert_eq!(rig.clear(0), [PREEMPTED]);
    assert_eq!(rig.clear(1), []);
    assert_eq!((keys(&mut rig), held(&mut rig), generation(&mut rig)), (vec![], None, before + 1));
}

#[test]
fn preempting_the_holder_takes_its_reservation() {
    let mut rig = reserved(5);
    good(out(&mut rig, 2, REGISTER, 0, 0, 102));
    let before = generation(&mut rig);
    good(out(&mut rig, 1, PREEMPT, 3, 101, 100));
    assert_eq!((keys(&mut rig), generation(&mut rig)), (vec![101, 102], before + 1));
    assert_eq!(rig.clear(0), [REGISTRATION_PREEMPTED]);
    assert_eq!(rig.clear(1), []);
    assert_eq!(rig.clear(2), [RELEASED], "the type is another now");
    assert_eq!(held(&mut rig), Some((101, 3)));
    assert!(!writes(&mut rig, 2) && writes(&mut rig, 1));
}

#[test]
fn preempting_oneself_changes_the_type() {
    let mut rig = reserved(5);
    good(out(&mut rig, 0, PREEMPT, 1, 100, 100));
    assert_eq!((keys(&mut rig), held(&mut rig)), (vec![100, 101], Some((100, 1))));
}

#[test]
fn preempting_registrations() {
    let mut rig = reserved(5);
    good(out(&mut rig, 0, PREEMPT, 0x0f, 100, 101));
    assert_eq!((keys(&mut rig), held(&mut rig)), (vec![100], Some((100, 5))), "type and scope are ignored");
    assert_eq!(rig.clear(1), [REGISTRATION_PREEMPTED]);
    assert_eq!(out(&mut rig, 0, PREEMPT, 5, 100, 77), CONFLICT, "nobody has that key");
    assert_eq!(sense(out(&mut rig, 0, PREEMPT, 5, 100, 0)), INVALID_LIST);
    assert_eq!(out(&mut rig, 1, PREEMPT, 5, 101, 100), CONFLICT, "no longer registered");
}

#[test]
fn preempting_all_registrants() {
    let mut rig = reserved(7);
    good(out(&mut rig, 2, REGISTER, 0, 0, 102));
    good(out(&mut rig, 2, PREEMPT, 5, 102, 101));
    assert_eq!((keys(&mut rig), held(&mut rig)), (vec![100, 102], Some((0, 7))));
    assert_eq!(sense(out(&mut rig, 2, PREEMPT, 9, 102, 0)), INVALID_FIELD);
    good(out(&mut rig, 2, PREEMPT, 5, 102, 0));
    assert_eq!((keys(&mut rig), held(&mut rig)), (vec![102], Some((102, 5))));
    assert_eq!(rig.clear(0), [REGISTRATION_PREEMPTED]);
    assert_eq!(rig.clear(1), [REGISTRATION_PREEMPTED]);
}

#[test]
fn preempt_and_abort_names_the_nexuses() {
    let mut rig = reserved(5);
    good(out(&mut rig, 2, REGISTER, 0, 0, 101));
    let answer = out(&mut rig, 0, PREEMPT_ABORT, 5, 100, 101);
    let abort = vec![NexusId(1), NexusId(2)];
    assert_eq!(answer, Disposition::Deferred(Box::new(Deferred { abort, ..Deferred::default() })));
    assert_eq!(keys(&mut rig), [100]);
}

fn transport_id(nexus: u32) -> Vec<u8> {
    let name = format!("iqn.2026-11.test:host{nexus},i,0x8000000000{nexus:02x}\0\0\0\0");
    let length = name.len() / 4 * 4;
    let mut bytes = vec![0x45, 0, 0, u8::try_from(length).unwrap()];
    bytes.extend_from_slice(&name.as_bytes()[..length]);
    bytes
}

fn specify(ids: &[Vec<u8>]) -> Vec<u8> {
    let ids = ids.concat();
    let mut list = list(0, 55, SPEC_I_PT);
    list.extend_from_slice(&u32::try_from(ids.len()).unwrap().to_be_bytes());
    list.extend_from_slice(&ids);
    list
}

#[test]
fn registering_others() {
    let mut rig = Rig::new();
    good(send(&mut rig, 0, REGISTER, 0, &specify(&[transport_id(1), transport_id(9)])));
    assert_eq!(keys(&mut rig), [55, 55, 55]);
    good(out(&mut rig, 1, RESERVE, 3, 55, 0));
    rig.unit.attach(NexusId(9), id(9), 1).unwrap();
    rig.clear(9);
    good(out(&mut rig, 9, REGISTER, 0, 55, 0));
    assert_eq!(send(&mut rig, 0, REGISTER, 0, &specify(&[])), CONFLICT, "the key is not given");
    let mut known = specify(&[]);
    known[7] = 55;
    assert_eq!(sense(send(&mut rig, 0, REGISTER, 0, &known)), INVALID_FIELD, "registered already");
}

#[test]
fn registering_others_is_all_or_nothing() {
    let mut rig = Rig::new();
    good(out(&mut rig, 1, REGISTER, 0, 0, 101));
    let refused = [
        specify(&[transport_id(2), transport_id(1)]),
        specify(&[transport_id(2), transport_id(2)]),
        specify(&[transport_id(2), vec![0x45, 0, 0, 4, 1, 2, 3, 4]]),
        specify(&[transport_id(0)]),
    ];
    for list in refused {
        assert_eq!(sense(send(&mut rig, 0, REGISTER, 0, &list)), INVALID_LIST);
    }
    let many: Vec<_> = (20..28).map(transport_id).collect();
    let answer =
        rig.send(0, &[0x5f, 0, 0, 0, 0, 0, 0, 2, 0], &[&specify(&many)[..], &[0; 512]].concat()[..512]);
    assert_eq!(sense(answer), LIST_LENGTH, "the additional length does not fit");
    let list = specify(&many);
    let [high, low] = u16::try_from(list.len()).unwrap().to_be_bytes();
    let answer = rig.send(0, &[0x5f, 0, 0, 0, 0, 0, 0, high, low], &list);
    assert_eq!(sense(answer), (5, 0x55, 4), "more than there is room for");
    assert_eq!(keys(&mut rig), [101]);
    assert_eq!(sense(send(&mut rig, 0, IGNORE, 0, &specify(&[]))), INVALID_LIST);
}

#[test]
fn registering_on_all_ports() {
    let mut rig = Rig::new();
    good(send(&mut rig, 0, REGISTER, 0, &list(0, 100, ALL_TG_PT)));
    assert_eq!(keys(&mut rig), [100, 100]);
    rig.unit.attach(NexusId(8), id(0), 2).unwrap();
    rig.clear(8);
    good(out(&mut rig, 8, RESERVE, 1, 100, 0));
    assert!(!writes(&mut rig, 0) && writes(&mut rig, 8), "port 2 holds it");
}

#[test]
fn full_status_golden() {
    let mut rig = reserved(1);
    let data = rig.data(3, &[0x5e, 3, 0, 0, 0, 0, 0, 1, 0]);
    let mut golden = vec![0, 0, 0, 2, 0, 0, 0, 136];
    for (nexus, holder, kind) in [(0, 1, 1), (1, 0, 0)] {
        golden.extend_from_slice(&(100 + u64::from(nexus)).to_be_bytes());
        golden.extend_from_slice(&[0, 0, 0, 0, holder, kind, 0, 0, 0, 0, 0, 1, 0, 0, 0, 44]);
        golden.extend_from_slice(&transport_id(nexus));
    }
    assert_eq!(data, golden);
}

#[test]
fn capabilities_golden() {
    let mut rig = Rig::new();
    let golden = [0, 8, 0x1d, 0x80, 0xea, 1, 0, 0];
    assert_eq!(rig.data(3, &[0x5e, 2, 0, 0, 0, 0, 0, 1, 0]), golden);
    let answer = send(&mut rig, 0, REGISTER, 0, &list(0, 1, APTPL));
    assert!(matches!(answer, Disposition::Deferred(_)));
    assert_eq!(rig.data(3, &[0x5e, 2, 0, 0, 0, 0, 0, 1, 0])[3], 0x81, "PTPL_A");
}

fn move_list(key: u64, new_key: u64, unregister: bool, port: u16, nexus: u32) -> Vec<u8> {
    let mut list = [key.to_be_bytes(), new_key.to_be_bytes()].concat();
    list.extend_from_slice(&[0, u8::from(unregister) << 1]);
    list.extend_from_slice(&port.to_be_bytes());
    let id = transport_id(nexus);
    list.extend_from_slice(&u32::try_from(id.len()).unwrap().to_be_bytes());
    list.extend_from_slice(&id);
    list
}

#[test]
fn moving_the_reservation() {
    let mut rig = reserved(1);
    good(send(&mut rig, 0, MOVE, 1, &move_list(100, 200, true, 1, 2)));
    assert_eq!((keys(&mut rig), held(&mut rig)), (vec![101, 200], Some((200, 1))));
    assert!(writes(&mut rig, 2) && !writes(&mut rig, 0));
    good(send(&mut rig, 2, MOVE, 1, &move_list(200, 201, false, 2, 2)));
    assert_eq!((keys(&mut rig), held(&mut rig)), (vec![101, 200, 201], Some((201, 1))));
}

#[test]
fn moving_is_refused_where_it_makes_no_sense() {
    let mut rig = reserved(1);
    let mut send = |nexus, kind, list: &[u8]| send(&mut rig, nexus, MOVE, kind, list);
    assert_eq!(send(1, 1, &move_list(101, 200, false, 1, 2)), CONFLICT, "not the holder");
    assert_eq!(send(0, 1, &move_list(9, 200, false, 1, 2)), CONFLICT, "wrong key");
    assert_eq!(sense(send(0, 3, &move_list(100, 200, false, 1, 2))), INVALID_FIELD);
    assert_eq!(sense(send(0, 1, &move_list(100, 0, false, 1, 2))), INVALID_LIST);
    assert_eq!(sense(send(0, 1, &move_list(100, 200, false, 3, 2))), INVALID_LIST, "no such port");
    assert_eq!(sense(send(0, 1, &move_list(100, 200, false, 1, 0))), INVALID_LIST, "to itself");
    assert_eq!(sense(send(0, 1, &[0; 23])), LIST_LENGTH);
    let mut rig = reserved(7);
    let all = move_list(100, 200, false, 1, 2);
    let length = u8::try_from(all.len()).unwrap();
    assert_eq!(rig.send(0, &[0x5f, MOVE, 7, 0, 0, 0, 0, 0, length], &all), CONFLICT, "all registrants");
}

#[test]
fn parameter_lists_must_have_their_length() {
    let mut rig = Rig::new();
    for length in [0, 8, 23, 25, 28] {
        assert_eq!(sense(send(&mut rig, 0, REGISTER, 0, &vec![0; length])), LIST_LENGTH, "{length}");
    }
    let cdb = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24];
    assert_eq!(sense(rig.send(0, &cdb, &[0; 20])), LIST_LENGTH, "the initiator sent less");
    assert_eq!(sense(rig.send(0, &[0x5f, 0, 0, 0, 0, 1, 0, 0, 0], &[0; 24])), LIST_LENGTH);
}

#[test]
fn registrations_are_bounded() {
    let mut rig = Rig::new();
    for nexus in 0..9 {
        rig.unit.attach(NexusId(nexus), id(nexus), 1).unwrap();
        rig.clear(nexus);
        let answer = out(&mut rig, nexus, REGISTER, 0, 0, 1);
        assert_eq!(answer == Disposition::Good, nexus < 8);
        if nexus == 8 {
            assert_eq!(sense(answer), (5, 0x55, 4));
        }
    }
}

#[test]
fn registrations_survive_relogin_and_reset() {
    let mut rig = reserved(3);
    rig.unit.reset(Reset::LogicalUnit);
    rig.unit.detach(NexusId(0));
    assert_eq!(rig.clear(2), [(0x29, 3)]);
    assert!(!reads(&mut rig, 2), "the reservation is still there");
    rig.unit.attach(NexusId(5), id(0), 1).unwrap();
    assert_eq!(rig.clear(5), [(0x29, 0)]);
    assert!(writes(&mut rig, 5), "the same initiator port as another nexus number");
    rig.unit.attach(NexusId(6), id(0), 2).unwrap();
    rig.clear(6);
    assert!(!writes(&mut rig, 6), "another target port is another nexus");
}

fn persisted(disposition: Disposition) -> Vec<u8> {
    let Disposition::Deferred(deferred) = disposition else { panic!("{disposition:?} persists nothing") };
    deferred.persist.unwrap()
}

#[test]
fn aptpl_outlives_a_restart() {
    let mut rig = Rig::new();
    persisted(send(&mut rig, 0, REGISTER, 0, &list(0, 100, APTPL)));
    persisted(send(&mut rig, 1, REGISTER, 0, &list(0, 101, APTPL)));
    let kept = persisted(out(&mut rig, 1, RESERVE, 3, 101, 0));
    let mut golden = b"KLUS\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x03\0\0\0\0\x02".to_vec();
    for (nexus, holder) in [(0, 0), (1, 1)] {
        golden.extend_from_slice(&(100 + u64::from(nexus)).to_be_bytes());
        golden.extend_from_slice(&[0, 1, 0x80, 0, 0, 0, 0, nexus, holder, 22]);
        golden.extend_from_slice(format!("iqn.2026-11.test:host{nexus}").as_bytes());
    }
    assert_eq!(kept, golden);

    let mut again =
        Rig { unit: LogicalUnit::new(fuzz::config(BlockSize::B512, BLOCKS)).unwrap(), out: Vec::new() };
    again.unit.restore(&kept).unwrap();
    for nexus in 0..4 {
        again.unit.attach(NexusId(nexus), id(nexus), 1).unwrap();
        again.clear(nexus);
    }
    assert_eq!((keys(&mut again), held(&mut again)), (vec![100, 101], Some((101, 3))));
    assert!(writes(&mut again, 1) && !reads(&mut again, 0) && !reads(&mut again, 2));
    assert_eq!(generation(&mut again), 0);
    assert_eq!(again.unit.snapshot(), kept);
    let off = persisted(send(&mut again, 0, REGISTER, 0, &list(100, 100, 0)));
    assert_eq!(off.len(), 28, "without APTPL nothing is kept");
}

#[test]
fn malformed_snapshots_are_refused() {
    let mut rig = Rig::new();
    let kept = persisted(send(&mut rig, 0, REGISTER, 0, &list(0, 100, APTPL)));
    let mut restore = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = kept.clone();
        change(&mut bytes);
        rig.unit.restore(&bytes)
    };
    assert_eq!(restore(&|_| {}), Ok(()));
    assert_eq!(restore(&|bytes| bytes[0] = 0), Err(SnapshotError::Magic));
    assert_eq!(restore(&|bytes| bytes[5] = 2), Err(SnapshotError::Version));
    assert_eq!(restore(&|bytes| bytes[19] = 1), Err(SnapshotError::Version), "an incompatible feature");
    assert_eq!(restore(&|bytes| bytes[11] = 1), Ok(()), "a compatible feature");
    assert_eq!(restore(&|bytes| bytes[20] = 0x10), Err(SnapshotError::Malformed));
    assert_eq!(restore(&|bytes| bytes[21] = 0), Err(SnapshotError::Malformed), "kept without APTPL");
    assert_eq!(restore(&|bytes| bytes[22] = 1), Err(SnapshotError::Malformed), "no holder");
    assert_eq!(restore(&|bytes| bytes[22] = 2), Err(SnapshotError::Malformed), "no such type");
    assert_eq!(restore(&|bytes| bytes[27] = 9), Err(SnapshotError::TooMany));
    assert_eq!(restore(&|bytes| bytes[27] = 2), Err(SnapshotError::Malformed));
    assert_eq!(restore(&|bytes| bytes.push(0)), Err(SnapshotError::Malformed));
    for length in 0..kept.len() {
        assert!(restore(&|bytes| bytes.truncate(length)).is_err());
    }
    assert_eq!(keys(&mut rig), [100]);
}

#[test]
fn spc2_reservations() {
    let mut rig = Rig::new();
    good(rig.run(0, &[0x16]));
    good(rig.run(0, &[0x56]));
    assert_eq!(rig.run(1, &[0x16]), CONFLICT);
    good(rig.run(1, &[0x17]));
    assert_eq!(rig.run(1, &[0x1a, 0, 0x3f, 0, 255]), CONFLICT);
    assert_eq!(rig.run(0, &[0x1a, 0, 0x3f, 0, 255]), Disposition::DataIn);
    good(rig.run(0, &[0x57]));
    good(rig.run(1, &[0x16]));
    rig.unit.detach(NexusId(1));
    good(rig.run(2, &[0x16]));
    rig.unit.reset(Reset::LogicalUnit);
    assert_eq!(rig.clear(3), [(0x29, 3)]);
    good(rig.run(3, &[0x16]));
    rig.unit.reset(Reset::Power);
    assert_eq!((rig.clear(0), rig.clear(2)), (vec![(0x29, 0)], vec![(0x29, 0)]));
    good(rig.run(0, &[0x16]));
}

#[test]
fn spc2_reservations_beside_registrations() {
    let mut rig = reserved(1);
    good(rig.run(0, &[0x16]));
    good(rig.run(0, &[0x17]));
    assert_eq!(rig.run(1, &[0x16]), CONFLICT);
    assert_eq!(rig.run(2, &[0x17]), CONFLICT);
    assert!(held(&mut rig).is_some());
    let mut rig = reserved(5);
    good(rig.run(1, &[0x16]));
    assert!(writes(&mut rig, 0), "nothing was reserved by it");
    good(out(&mut rig, 0, RELEASE, 5, 100, 0));
    assert_eq!(rig.clear(1), [RELEASED]);
    assert_eq!(rig.run(1, &[0x16]), CONFLICT, "registered, but no reservation");
    assert_eq!(ReservationType::from_code(2), None);
}

#[test]
fn a_name_without_port_registers_who_is_logged_in() {
    let mut rig = Rig::new();
    let other = Arc::new(TransportId::new("iqn.2026-11.test:host3", [9; 6]).unwrap());
    rig.unit.attach(NexusId(7), other, 1).unwrap();
    let name = |name: &str| {
        let mut bytes = vec![0x05, 0, 0, 28];
        bytes.extend_from_slice(name.as_bytes());
        bytes.resize(32, 0);
        bytes
    };
    good(send(&mut rig, 0, REGISTER, 0, &specify(&[name("iqn.2026-11.test:host3")])));
    assert_eq!(keys(&mut rig).len(), 3);
    assert_eq!(
        sense(send(&mut rig, 1, REGISTER, 0, &specify(&[name("iqn.2026-11.test:nobody")]))),
        INVALID_LIST
    );
}

#[test]
fn a_change_of_reservations_leaves_pending_attentions_alone() {
    let mut rig = Rig::new();
    rig.unit.set_capacity(BlockCount(BLOCKS * 2));
    rig.clear(0);
    good(out(&mut rig, 0, REGISTER, 0, 0, 100));
    good(out(&mut rig, 0, RESERVE, 3, 100, 0));
    assert_eq!(sense(rig.run(1, &ten(0x28, 0, 0, 1))), (6, 0x2a, 9), "told before the conflict");
    assert!(!reads(&mut rig, 1));
    assert_eq!(rig.clear(1), []);
}
