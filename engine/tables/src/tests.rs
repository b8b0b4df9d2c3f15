//! Crashes at every operation, damage at every place, and the bytes of the format.

use super::*;
use kagami_types::{BlockSize, ByteLen, Lun, Naa, Uuid};
use proptest::prelude::*;

fn options() -> OpenOptions {
    OpenOptions { name: "tokyo".to_owned(), wait: std::time::Duration::ZERO, clock: || 1_795_368_180_000 }
}

fn volume(n: u16) -> VolumeRecord {
    let uuid = Uuid::from_u128(u128::from(n) + 1);
    VolumeRecord {
        uuid,
        naa: Naa::from_uuid(uuid),
        name: format!("v{n}"),
        lun: Lun::new(n).unwrap(),
        backend: BackendKind::Path,
        path: format!("/dev/disk{n}").into(),
        size: ByteLen(1 << 30),
        block_size: BlockSize::B4096,
        role: VolumeRole::Plain,
        device: DeviceIdentity::Block { wwn: "naa.5000".into(), serial: "S1".into(), size: 1 << 30 },
    }
}

fn put(n: u16) -> Transaction {
    Transaction::new("test", format!("add volume v{n}")).with(Change::PutVolume(volume(n)))
}

#[test]
fn tables_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut tables = Tables::open(folder.path(), &options()).unwrap();
    let uuid = tables.state().array().uuid;
    assert_eq!(uuid.get_version_num(), 4);
    let object = Object { kind: ObjectKind::Initiator, name: "iqn.x".into(), toml: "luns = [0]".into() };
    let mut order = put(0).with(Change::PutScsi { volume: volume(0).uuid, state: vec![1, 2, 3] });
    order.push(Change::PutObject(object.clone()));
    assert_eq!(tables.commit(&order).unwrap(), Generation(2));
    let state = tables.state().clone();
    drop(tables);

    assert_eq!(Tables::peek(folder.path()).unwrap().unwrap(), state);
    let tables = Tables::open(folder.path(), &OpenOptions { name: "osaka".into(), ..options() }).unwrap();
    assert_eq!(tables.state().array(), &ArrayRecord { uuid, name: "osaka".into() });
    assert_eq!(tables.generation(), Generation(3), "the new name is a transaction");
    assert_eq!(tables.state().scsi(volume(0).uuid), Some(&[1, 2, 3][..]));
    assert_eq!(tables.state().objects().collect::<Vec<_>>(), [object]);
    assert_eq!(tables.state().volume_at(Lun::ZERO), tables.state().volume_named("v0"));
    let audit = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    assert_eq!(audit.lines().count(), 3);
    assert_eq!(audit.lines().nth(1).unwrap(), "2026-11-22T17:23:00.000Z gen=2 who=test add volume v0");
}

#[test]
fn a_folder_has_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let first = Tables::open(folder.path(), &options()).unwrap();
    let error = Tables::open(folder.path(), &options()).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
    // A predecessor on its way out is waited for.
    let path = folder.path().to_owned();
    let waiting = std::thread::spawn(move || {
        let options = OpenOptions { wait: std::time::Duration::from_secs(5), ..options() };
        Tables::open(&path, &options).map(|tables| tables.generation())
    });
    std::thread::sleep(std::time::Duration::from_millis(120));
    drop(first);
    assert_eq!(waiting.join().unwrap().unwrap(), Generation(1));
}

#[test]
fn contradictions_are_refused_and_change_nothing() {
    let mut tables = Tables::open_on(Memory::new(), &options()).unwrap();
    tables.commit(&put(0).with(Change::PutVolume(volume(1)))).unwrap();
    let before = tables.state().clone();
    let same_lun = VolumeRecord { lun: Lun::ZERO, ..volume(2) };
    let same_name = VolumeRecord { name: "v0".into(), ..volume(2) };
    let other_naa = VolumeRecord { naa: volume(9).naa, ..volume(0) };
    for change in [
        Change::PutVolume(same_lun),
        Change::PutVolume(same_name),
        Change::PutVolume(other_naa),
        Change::DeleteVolume(volume(7).uuid),
        Change::PutScsi { volume: volume(7).uuid, state: vec![] },
    ] {
        let order = Transaction::new("t", "x").with(change);
        assert!(matches!(tables.commit(&order), Err(TablesError::Refused(_))));
    }
    let order = put(3).at(Generation(1));
    assert!(matches!(tables.commit(&order), Err(TablesError::Stale { current: 2, expected: 1 })));
    let huge = Change::PutScsi { volume: volume(0).uuid, state: vec![0; MAX_SCSI_STATE + 1] };
    assert!(matches!(
        tables.commit(&Transaction::new("t", "x").with(huge)),
        Err(TablesError::TooLarge { .. })
    ));
    assert_eq!(tables.state(), &before);
    // Two volumes may swap their LUNs in one transaction.
    let swap = Transaction::new("t", "swap")
        .with(Change::PutVolume(VolumeRecord { lun: volume(1).lun, ..volume(0) }))
        .with(Change::PutVolume(VolumeRecord { lun: volume(0).lun, ..volume(1) }))
        .at(Generation(2));
    assert_eq!(tables.commit(&swap).unwrap(), Generation(3));
}

#[test]
fn the_log_is_rewritten_before_it_grows_large() {
    let mut tables = Tables::open_on(Memory::new(), &options()).unwrap();
    tables.commit(&put(0)).unwrap();
    for n in 0..200u8 {
        let change = Change::PutScsi { volume: volume(0).uuid, state: vec![n; 20_000] };
        tables.commit(&Transaction::new("t", "x").with(change)).unwrap();
    }
    let generation = tables.generation();
    let memory = tables.into_storage();
    assert!(memory.log().unwrap().len() < 2 << 20);
    assert_eq!(memory.audit_text().lines().count(), 202);
    let tables = Tables::open_on(memory, &options()).unwrap();
    assert_eq!(tables.generation(), generation);
    assert_eq!(tables.state().scsi(volume(0).uuid).unwrap()[0], 199);
}

#[test]
fn damage_is_refused_and_named() {
    let mut tables = Tables::open_on(Memory::new(), &options()).unwrap();
    tables.commit(&put(0)).unwrap();
    let two = tables.into_storage();
    let mut tables = Tables::open_on(two.clone(), &options()).unwrap();
    tables.commit(&put(1)).unwrap();
    let good = tables.into_storage().log().unwrap().to_vec();
    let last = two.log().unwrap().len();
    let open = |bytes: Vec<u8>| {
        let mut memory = Memory::new();
        memory.set_log(bytes);
        Tables::open_on(memory, &options())
    };
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        match open(bytes) {
            // Padding is not covered by a checksum and not read; the last frame, broken, is a
            // torn tail.
            Ok(tables) => {
                let volumes = tables.state().volumes().count();
                assert!(volumes == 2 || (volumes == 1 && at >= last), "byte {at}: {volumes}");
            }
            Err(TablesError::NotTables) => assert!(at < 8),
            Err(TablesError::Corrupt { .. }) => assert!(at < last, "byte {at}"),
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    for cut in 0..good.len() {
        match open(good[..cut].to_vec()) {
            Ok(tables) => assert!(tables.state().volumes().count() < 2),
            Err(TablesError::NotTables | TablesError::Corrupt { .. }) => {}
            Err(other) => panic!("cut at {cut}: {other}"),
        }
    }
    assert!(matches!(open(vec![]), Err(TablesError::NotTables)));
}

#[test]
fn a_failed_commit_never_comes_back_after_the_next() {
    let mut tables = Tables::open_on(Memory::new(), &options()).unwrap();
    tables.commit(&put(0)).unwrap();
    tables.storage_mut().refuse_syncs(1);
    // The sync of this commit fails, but its bytes are there.
    assert!(matches!(tables.commit(&put(1)), Err(TablesError::Io { .. })));
    assert_eq!(names(tables.state()), ["v0"]);
    tables.commit(&put(2)).unwrap();
    assert_eq!(names(tables.state()), ["v0", "v2"]);
    let tables = Tables::open_on(tables.into_storage().after_kill(), &options()).unwrap();
    assert_eq!(names(tables.state()), ["v0", "v2"]);
}

fn object(n: u16) -> Object {
    Object {
        kind: ObjectKind::Volume,
        name: format!("v{n}"),
        toml: format!("lun = {n}\nbackend = \"ram\"\n"),
    }
}

/// A volume made at run time is its record and its object, in one transaction.
fn create(n: u16) -> Transaction {
    put(n).with(Change::PutObject(object(n)))
}

/// What is made, renamed and removed at run time is there wholly or not at all, wherever the log
/// was cut off; and it is what had been acknowledged up to there.
#[test]
fn objects_are_whole_at_every_cut_of_the_log() {
    let mut tables = Tables::open_on(Memory::new(), &options()).unwrap();
    // The first object makes the header say so, which rewrites the log.
    tables.commit(&create(1)).unwrap();
    let first = tables.state().clone();
    let orders = [
        create(2),
        Transaction::new("socket", "rename v1 to w")
            .with(Change::PutVolume(VolumeRecord { name: "w".into(), ..volume(1) }))
            .with(Change::DeleteObject(ObjectKind::Volume, "v1".into()))
            .with(Change::PutObject(Object { name: "w".into(), ..object(1) })),
        Transaction::new("socket", "grow v9")
            .with(Change::PutObject(Object {
                kind: ObjectKind::Growth,
                name: "v9".into(),
                toml: "size = \"2GiB\"\n".into(),
            }))
            .with(Change::PutObject(Object {
                kind: ObjectKind::Loan,
                name: "iqn.x".into(),
                toml: "luns = [1]\n".into(),
            })),
        Transaction::new("socket", "remove v2")
            .with(Change::DeleteVolume(volume(2).uuid))
            .with(Change::DeleteObject(ObjectKind::Volume, "v2".into())),
    ];
    let mut log = tables.into_storage();
    let start = log.log().unwrap().len();
    let mut known = vec![(start, first)];
    for order in orders {
        let mut tables = Tables::open_on(log, &options()).unwrap();
        let before = tables.state().clone();
        tables.commit(&order).unwrap();
        assert_ne!(tables.state(), &before);
        let state = tables.state().clone();
        log = tables.into_storage();
        let ends = log.log().unwrap().len();
        known.push((ends, state));
    }
    let good = log.log().unwrap().to_vec();
    for cut in start..=good.len() {
        let mut memory = Memory::new();
        memory.set_log(good[..cut].to_vec());
        let tables = Tables::open_on(memory, &options()).unwrap();
        let (_, want) = known.iter().rev().find(|(end, _)| *end <= cut).unwrap();
        assert_eq!(tables.state(), want, "cut at {cut}");
    }
}

#[test]
fn the_header_says_whether_there_are_objects() {
    let bits = |memory: &Memory| memory.log().unwrap()[32];
    let mut tables = Tables::open_on(Memory::new(), &options()).unwrap();
    tables.commit(&put(0)).unwrap();
    let memory = tables.into_storage();
    assert_eq!(bits(&memory), 0);
    let mut tables = Tables::open_on(memory, &options()).unwrap();
    tables.commit(&create(1)).unwrap();
    tables.storage_mut().refuse_syncs(1);
    let gone = Transaction::new("t", "x").with(Change::DeleteObject(ObjectKind::Volume, "v1".into()));
    assert!(tables.commit(&gone).is_err());
    // The next commit writes the log anew; with the last object the bit goes at the one after.
    tables.commit(&gone).unwrap();
    let memory = tables.into_storage();
    assert_eq!(bits(&memory), 1);
    let mut tables = Tables::open_on(memory, &options()).unwrap();
    assert!(tables.commit(&gone).is_err(), "there is none to delete");
    tables.storage_mut().refuse_syncs(1);
    assert!(tables.commit(&put(2)).is_err());
    tables.commit(&put(2)).unwrap();
    assert_eq!(bits(&tables.into_storage()), 0);
}

#[test]
fn every_line_is_told_to_the_observer() {
    let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tables = Tables::open_on(Memory::new(), &options()).unwrap();
    let told = std::sync::Arc::clone(&lines);
    tables.observe(move |line| told.lock().unwrap().push(line.to_owned()));
    tables.commit(&put(0)).unwrap();
    tables.audit("host", "refused").unwrap();
    let lines = lines.lock().unwrap().concat();
    assert!(lines.contains(" gen=2 who=test add volume v0\n") && lines.contains(" gen=- who=host refused\n"));
    assert!(tables.into_storage().audit_text().ends_with(&lines));
}

/// The bytes of version 1, so that a change of the format cannot go unnoticed.
#[test]
fn golden_bytes() {
    let header = frame::Header {
        features: Features { compatible: 1, read_only: 0, incompatible: 0 },
        array: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
    };
    assert_eq!(
        hex(&header.encode()),
        "4b41475441424c450100000040000000010000000000000000000000000000000000000000000000\
         00112233445566778899aabbccddeeff00000000daa2a5d1"
    );
    let state = State::new(ArrayRecord { uuid: header.array, name: "tokyo".into() });
    let mut bytes = Vec::new();
    frame::encode_frame(&mut bytes, frame::Kind::Checkpoint, Generation(1), &state.encode()).unwrap();
    assert_eq!(
        hex(&bytes),
        "4b54584e260000000100000000000000010000000000000050009f6b8d5204880100010000000000\
         001900000000112233445566778899aabbccddeeff05000000746f6b796f0000"
    );
    let order = Transaction::new("me", "do").with(Change::PutVolume(volume(1)));
    let body = state::encode_transaction(&order, header.array, 7);
    assert_eq!(
        hex(&body),
        "020001000010000000000000000000000000000000000000025f0000000000000000000000000000\
         00000000026024b470000000000000000000000002020000007631010000000a0000002f6465762f\
         6469736b3100000040000000000010000001080000006e61612e3530303002000000533100000040\
         00000000050001000200000000140000000700000000000000020000006d6502000000646f"
    );
}

fn result(id: u128) -> ResultRecord {
    ResultRecord { id: Uuid::from_u128(id), fingerprint: [7; 16], order: 17, code: 0, message: "ok".into() }
}

#[test]
fn golden_bytes_of_results() {
    let order = Transaction::new("me", "do").with(Change::PutResult(result(5)));
    let body = state::encode_transaction(&order, Uuid::from_u128(1), 7);
    let expected = concat!(
        "0600",
        "0100",
        "02",
        "10000000",
        "00000000000000000000000000000005",
        "1a000000",
        "07070707070707070707070707070707",
        "1100",
        "0000",
        "02000000",
        "6f6b",
    );
    assert!(hex(&body).starts_with(expected), "{}", hex(&body));
}

#[test]
fn the_last_results_are_kept_in_order_and_survive() {
    let mut state = State::new(ArrayRecord { uuid: Uuid::from_u128(1), name: "a".into() });
    let many = MAX_RESULTS as u128 + 10;
    for id in 1..=many {
        let order = Transaction::new("me", "do").with(Change::PutResult(result(id)));
        state.check(&order).unwrap();
        state.apply_body(&state::encode_transaction(&order, state.array().uuid, 0)).unwrap();
    }
    assert_eq!(state.results().len(), MAX_RESULTS);
    assert!(state.result(Uuid::from_u128(10)).is_none());
    assert_eq!(state.result(Uuid::from_u128(11)), Some(&result(11)));
    assert_eq!(State::decode(&state.encode()).unwrap(), state);
    // The whole of them leaves most of the room to others.
    assert!(state.encode().len() < MAX_RESULTS * 700);
    let long = ResultRecord { message: "x".repeat(MAX_MESSAGE + 1), ..result(1) };
    assert!(state.check(&Transaction::new("me", "do").with(Change::PutResult(long))).is_err());
}

#[test]
fn golden_bytes_of_objects() {
    let order = Transaction::new("me", "do")
        .with(Change::PutObject(Object {
            kind: ObjectKind::Growth,
            name: "db".into(),
            toml: "size = \"1GiB\"\n".into(),
        }))
        .with(Change::DeleteObject(ObjectKind::Loan, "iqn.x".into()));
    let body = state::encode_transaction(&order, Uuid::from_u128(1), 7);
    assert_eq!(
        hex(&body),
        concat!(
            "0400",
            "0100",
            "00",
            "03000000",
            "046462",
            "0e000000",
            "73697a65203d202231476942220a",
            "0400",
            "0100",
            "01",
            "06000000",
            "0569716e2e78",
            "00000000",
            "0500",
            "0100",
            "02",
            "00000000",
            "14000000",
            "0700000000000000",
            "02000000",
            "6d65",
            "02000000",
            "646f"
        )
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the moment of the crash and whatever it does to unsynced bytes, the tables come
    /// back as some prefix of the commits, with everything that was acknowledged; and they can
    /// be changed again, through further crashes.
    #[test]
    fn a_crash_loses_nothing_acknowledged(
        lives in proptest::collection::vec((0u32..40, any::<u64>(), 1usize..12, any::<bool>()), 1..6),
        big in any::<bool>(),
    ) {
        let mut memory = Memory::new();
        // The sets of volume names that the log may come back with: what was acknowledged,
        // and with it what is in doubt.
        let mut possible = vec![Vec::new()];
        for (fuse, seed, commits, killed) in lives {
            let mut live = memory.with_fuse(fuse);
            if let Ok(mut tables) = Tables::open_on(&mut live, &options()) {
                let mut known = names(tables.state());
                prop_assert!(possible.contains(&known), "{known:?} not in {possible:?}");
                possible = vec![known.clone()];
                for _ in 0..commits {
                    let n = u16::try_from(tables.generation().0 % 5000).unwrap();
                    let mut order = put(n);
                    if big {
                        order.push(Change::PutScsi { volume: volume(n).uuid, state: vec![7; 200_000] });
                    }
                    let mut after = known.clone();
                    if !after.contains(&format!("v{n}")) {
                        after.push(format!("v{n}"));
                        after.sort();
                    }
                    if tables.commit(&order).is_err() {
                        possible.push(after);
                        break;
                    }
                    known = after;
                    possible = vec![known.clone()];
                }
            }
            memory = if killed { live.after_kill() } else { live.after(Crash { seed }) };
        }
        let tables = Tables::open_on(memory, &options()).unwrap();
        let found = names(tables.state());
        prop_assert!(possible.contains(&found), "{found:?} not in {possible:?}");
        let generation = tables.generation();
        let audit = tables.into_storage().audit_text().to_owned();
        for n in 2..=generation.0 {
            prop_assert!(audit.contains(&format!("gen={n} ")), "no audit line for {n} in:\n{audit}");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, cut in 0usize..200) {
        let mut tables = Tables::open_on(Memory::new(), &options()).unwrap();
        tables.commit(&put(0)).unwrap();
        let mut log = tables.into_storage().log().unwrap().to_vec();
        log.truncate(cut);
        log.extend(bytes);
        let mut memory = Memory::new();
        memory.set_log(log);
        let _ = Tables::open_on(memory, &options());
    }

    #[test]
    fn records_survive_the_disk(
        name in "[a-z]{1,20}", path: Vec<u8>, wwn: String, serial: String, inode: u64, tagged: bool, which in 0..3u8,
    ) {
        use std::os::unix::ffi::OsStringExt;
        let device = match which {
            0 => DeviceIdentity::None,
            1 => DeviceIdentity::Block { wwn, serial, size: inode },
            _ => DeviceIdentity::File { inode, tagged },
        };
        let path = std::ffi::OsString::from_vec(path).into();
        let record = VolumeRecord { name, path, device, ..volume(3) };
        prop_assert_eq!(VolumeRecord::decode(&record.encode()), Ok(record));
    }
}

fn names(state: &State) -> Vec<String> {
    let mut names: Vec<_> = state.volumes().map(|volume| volume.name.clone()).collect();
    names.sort();
    names
}
