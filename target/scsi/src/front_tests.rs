//! What a virtual volume answers itself, and what it passes on.

use super::*;
use crate::config::TargetPort;
use kagami_types::Uuid;

const HOST: NexusId = NexusId(1);
const OTHER: NexusId = NexusId(2);

fn front() -> Front {
    let mut front = Front::new(FrontConfig {
        lun: Lun::new(30).unwrap(),
        role: Role::Volume,
        revision: "0.1".to_owned(),
        target: TargetName {
            name: "iqn.2026-11.io.kagami:one".to_owned(),
            port_group: 1,
            ports: vec![TargetPort { relative: 1, portal_group: 1 }],
        },
        nexuses: 8,
        most_bytes: 1 << 20,
    });
    for nexus in [HOST, OTHER] {
        let id = TransportId::new("iqn.1993-08.org.debian:01:host", [0; 6]).unwrap();
        front.attach(nexus, Arc::new(id), 1).unwrap();
        assert!(matches!(ask(&mut front, nexus, &[0]), Answer::Sense(0x6, 0x2900)));
    }
    front
}

#[derive(Debug, PartialEq)]
enum Answer {
    Forward(Forward),
    Sense(u8, u16),
    Data(Vec<u8>),
    Else,
}

fn ask(front: &mut Front, nexus: NexusId, bytes: &[u8]) -> Answer {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    let mut out = Vec::new();
    match front.admit(nexus, &cdb, &mut out) {
        Admission::Forward(forward) => Answer::Forward(forward),
        Admission::Answer(Disposition::Check(sense)) => {
            let bytes = sense.encode(false);
            let bytes = bytes.as_ref();
            Answer::Sense(bytes[2], u16::from_be_bytes([bytes[12], bytes[13]]))
        }
        Admission::Answer(Disposition::DataIn) => Answer::Data(out),
        Admission::Answer(_) => Answer::Else,
    }
}

fn identity(blocks: u64) -> Identity {
    let mut standard = vec![0, 0, 6, 2, 91, 0x39, 0, 2];
    standard.extend_from_slice(b"FAR     DISK");
    standard.resize(96, 0);
    let mut limits = vec![0, 0xb0, 0, 0x3c];
    limits.resize(64, 0);
    // One designator of the unit, one of a port of the far array.
    let mut designators = vec![0, 0x83, 0, 24, 0x01, 0x03, 0, 8];
    designators.extend_from_slice(&[0x6a; 8]);
    designators.extend_from_slice(&[0x51, 0x94, 0, 4, 0, 0, 0, 7]);
    let pages = vec![(0x83, designators), (0xb0, limits), (PATH_PAGE, vec![0; 16])];
    Identity { standard, pages, blocks, block_size: BlockSize::B512 }
}

#[test]
fn what_can_be_passed_on_is_and_says_what_it_touches() {
    let mut front = front();
    let Answer::Forward(read) = ask(&mut front, HOST, &[0x28, 0, 0, 0, 0, 9, 0, 0, 8, 0]) else { panic!() };
    assert_eq!((read.repeatable, read.writes, read.blocks), (true, false, Some((9, 8))));
    assert_eq!(read.transfer.bytes, 4096);
    let Answer::Forward(write) = ask(&mut front, HOST, &[0x2a, 0, 0, 0, 0, 9, 0, 0, 8, 0]) else { panic!() };
    assert!(write.writes && write.repeatable);
    let compare = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0];
    let Answer::Forward(compare) = ask(&mut front, HOST, &compare) else { panic!() };
    assert!(compare.writes && !compare.repeatable, "twice is not the same as once");
    let Answer::Forward(unmap) = ask(&mut front, HOST, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]) else { panic!() };
    assert_eq!(unmap.blocks, Some((0, u64::MAX)));
    assert!(matches!(ask(&mut front, HOST, &[0x1a, 0, 0x3f, 0, 255, 0]), Answer::Forward(_)));
}

#[test]
fn reservations_are_refused_and_not_advertised() {
    let mut front = front();
    for cdb in [&[0x5f, 0][..], &[0x5e, 0], &[0x16], &[0x17], &[0x56], &[0x57], &[0xa3, 0x0a], &[0xee]] {
        assert_eq!(ask(&mut front, HOST, cdb), Answer::Sense(5, 0x2000), "{cdb:02x?}");
    }
    let all = ask(&mut front, HOST, &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
    let Answer::Data(all) = all else { panic!() };
    let opcodes: Vec<u8> = all[4..].chunks(8).map(|descriptor| descriptor[0]).collect();
    assert!(opcodes.contains(&0x28) && opcodes.contains(&0x12) && opcodes.contains(&0x89));
    assert!([0x5f, 0x5e, 0x16, 0x17, 0x56, 0x57].iter().all(|refused| !opcodes.contains(refused)));
}

#[test]
fn mode_changes_are_passed_on_once_and_told_to_the_others() {
    let mut front = front();
    for cdb in [&[0x15, 0x10, 0, 0, 24, 0][..], &[0x55, 0x10, 0, 0, 0, 0, 0, 0, 28, 0]] {
        let Answer::Forward(select) = ask(&mut front, HOST, cdb) else { panic!("{cdb:02x?}") };
        assert!(!select.repeatable && !select.writes && select.blocks.is_none());
        assert_eq!(select.tells, Some(Attention::ModeChanged));
        assert!(select.transfer.bytes >= 24);
    }
    let Answer::Forward(stop) = ask(&mut front, HOST, &[0x1b]) else { panic!() };
    assert!(!stop.repeatable && stop.tells.is_none() && stop.transfer.bytes == 0);
    let Answer::Forward(read) = ask(&mut front, HOST, &[0x28]) else { panic!() };
    assert!(read.repeatable && read.tells.is_none());
}

/// The table in the documentation has every command of the opcode table, in the row of what becomes of it.
#[test]
fn the_documentation_says_what_becomes_of_every_command() {
    let docs = include_str!("../../../docs/operations.md");
    let mut front = front();
    let mut rows = [
        ("passed on, and again after the link was lost", String::new()),
        (
            "passed on, never again: ABORTED COMMAND (0Bh/08h/00h) where nobody knows what became of it",
            String::new(),
        ),
        ("answered by this array, whatever the link does", String::new()),
        ("refused: ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE (05h/20h/00h)", String::new()),
    ];
    for row in &crate::opcodes::ROWS {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1]) = (row.opcode, row.service_action.unwrap_or(0));
        let place = match ask(&mut front, HOST, &cdb) {
            Answer::Forward(forward) if forward.repeatable => 0,
            Answer::Forward(_) => 1,
            Answer::Sense(5, 0x2000) => 3,
            _ => 2,
        };
        let names = &mut rows[place].1;
        names.push_str(if names.is_empty() { "" } else { ", " });
        names.push_str(row.name);
    }
    for (what, names) in rows {
        let line = format!("| {what} | {names} |");
        assert!(docs.contains(&line), "docs/operations.md lacks:\n{line}");
    }
}

#[test]
fn inquiry_is_answered_whatever_is_known() {
    let mut front = front();
    let Answer::Data(data) = ask(&mut front, HOST, &[0x12, 0, 0, 0, 96]) else { panic!() };
    assert_eq!(&data[8..14], b"KAGAMI");
    assert_eq!(ask(&mut front, HOST, &[0x12, 1, 0x83, 0, 255]), Answer::Sense(5, 0x2400));
    front.learn(identity(100));
    let Answer::Data(data) = ask(&mut front, HOST, &[0x12, 0, 0, 0, 96]) else { panic!() };
    assert_eq!((&data[8..11], data[5]), (&b"FAR"[..], 0));
    let Answer::Data(list) = ask(&mut front, HOST, &[0x12, 1, 0, 0, 255]) else { panic!() };
    assert_eq!(list, [0, 0, 0, 4, 0, 0x83, 0xb0, PATH_PAGE]);
    let Answer::Data(page) = ask(&mut front, HOST, &[0x12, 1, 0x83, 0, 255]) else { panic!() };
    assert_eq!(&page[4..16], &[0x01, 0x03, 0, 8, 0x6a, 0x6a, 0x6a, 0x6a, 0x6a, 0x6a, 0x6a, 0x6a]);
    assert_eq!(&page[16..24], &[0x51, 0x94, 0, 4, 0, 0, 0, 1], "the port is this array's own");
    let Answer::Data(limits) = ask(&mut front, HOST, &[0x12, 1, 0xb0, 0, 255]) else { panic!() };
    assert_eq!(&limits[8..12], &2048u32.to_be_bytes(), "no more than this array can take at once");
    let path = Path { arrays: vec![Uuid::from_u128(1), Uuid::from_u128(2)], complete: true };
    front.set_path(path.clone());
    let Answer::Data(page) = ask(&mut front, HOST, &[0x12, 1, PATH_PAGE, 0, 255]) else { panic!() };
    assert_eq!(Path::read(&page), Some(path));
}

#[test]
fn each_host_hears_of_changes_once() {
    let mut front = front();
    let test = |front: &mut Front, nexus| ask(front, nexus, &[0]);
    front.learn(identity(100));
    assert_eq!(test(&mut front, HOST), Answer::Sense(6, 0x2800));
    assert_eq!(test(&mut front, OTHER), Answer::Sense(6, 0x2800));
    front.learn(identity(100));
    assert!(matches!(test(&mut front, HOST), Answer::Forward(_)), "nothing has changed");
    front.learn(identity(200));
    assert_eq!(test(&mut front, HOST), Answer::Sense(6, 0x2a09));
    front.relay(0x2a09, HOST);
    assert!(matches!(test(&mut front, HOST), Answer::Forward(_)), "it was told by the far array");
    assert_eq!(test(&mut front, OTHER), Answer::Sense(6, 0x2a09), "once, although it came twice");
    assert!(matches!(test(&mut front, OTHER), Answer::Forward(_)));
    front.relay(0x2902, HOST);
    assert_eq!(test(&mut front, OTHER), Answer::Sense(6, 0x2900));
}
