use super::*;
use proptest::prelude::*;

fn sample() -> Superblock {
    Superblock {
        version: 6,
        parents: vec![Epoch(0x11), Epoch(0x12)],
        sequence: Sequence(900),
        stable: 0x9000,
        out: 0x3000,
        out_epoch: Epoch(0x11),
        destaged: 0x4000,
        destaged_sequence: Sequence(400),
        confirmed: 0x3000,
        read: 0x7000,
        read_epoch: Epoch(0x12),
        read_sequence: Sequence(700),
        restored: 0x5000,
        restored_epoch: Epoch(0x11),
        restored_sequence: Sequence(500),
        restored_time: 1_700_000_000_000_000_000,
        restore_target: 0x6000,
        index_next: 3,
        record: b"of the group".to_vec(),
        ..Superblock::new(
            Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
            Uuid::from_u128(0x1011_1213_1415_1617_1819_1a1b_1c1d_1e1f),
            Layout::new(64 << 20, 1 << 30).unwrap(),
            Epoch(0x10),
        )
    }
}

#[test]
fn its_bytes_stay_what_they_are() {
    let bytes = sample().encode();
    assert_eq!(&bytes[..8], b"KAGJRNAL");
    assert_eq!(bytes[8..16], [1, 0, 0, 0, 0, 16, 0, 0]);
    assert_eq!(bytes[16..40], [0; 24]);
    let uuids: Vec<u8> = (0..32).collect();
    assert_eq!(bytes[40..72], uuids);
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let words: Vec<u64> = (72..288).step_by(8).map(word).collect();
    let layout = sample().layout;
    let copies = layout.bitmap_len;
    assert_eq!(
        words,
        [
            6,
            64 << 20,
            8192,
            8192 + copies,
            copies,
            layout.metadata_at,
            layout.metadata_len,
            layout.data_at,
            layout.data_len,
            0x10,
            0x11,
            0x12,
            0x11,
            900,
            0x9000,
            0x3000,
            0x4000,
            400,
            0x3000,
            0x7000,
            700,
            0x5000,
            500,
            1_700_000_000_000_000_000,
            0x6000,
            3,
            2 | 12 << 32,
        ]
    );
    assert_eq!((word(288), word(296), word(304)), (0x11, 0x12, 0));
    assert_eq!(&bytes[2040..2052], b"of the group");
    assert!(bytes[2052..4092].iter().all(|byte| *byte == 0));
    assert_eq!(u32::from_le_bytes(bytes[4092..].try_into().unwrap()), crc::crc32c(&bytes[..4092]));
}

#[test]
fn what_was_written_is_read() {
    let old = sample();
    let mut new = Superblock { version: 7, ..old.clone() };
    new.begin_epoch(Epoch(0x20));
    assert_eq!((new.place(), old.place(), new.parents[0]), (4096, 0, Epoch(0x10)));
    for _ in 0..40 {
        new.begin_epoch(Epoch(new.epoch.0 + 1));
    }
    assert_eq!(new.parents.len(), 32);
    let (one, two) = (old.encode(), new.encode());
    assert_eq!(Superblock::choose(&one, &two), Found::Ours(Box::new(new.clone()), 1));
    assert_eq!(Superblock::choose(&two, &one), Found::Ours(Box::new(new), 0));
    assert_eq!(Superblock::choose(&one, &[0; 4096]), Found::Ours(Box::new(old), 0));
}

#[test]
fn every_pair_of_places() {
    let ours = sample().encode();
    let (blank, foreign) = ([0; 4096], [7; 4096]);
    let mut torn = ours;
    torn[600] ^= 1;
    let sealed = |at: usize, byte: u8| {
        let mut bytes = ours;
        bytes[at] = byte;
        let crc = crc::crc32c(&bytes[..4092]);
        bytes[4092..].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    let (later, feature) = (sealed(8, 2), sealed(32, 1));
    let compatible = sealed(16, 1);
    let kinds: [(&[u8], &str); 7] = [
        (&blank, "blank"),
        (&foreign, "foreign"),
        (&torn, "broken"),
        (&[], "unreadable"),
        (&later, "newer"),
        (&feature, "feature"),
        (&ours, "ours"),
    ];
    for (a, first) in kinds {
        for (b, second) in kinds {
            let wanted = match [first, second] {
                ["newer", _] => Found::Newer(2),
                ["feature", _] => Found::Newer(0),
                [_, "newer"] => Found::Newer(2),
                [_, "feature"] => Found::Newer(0),
                ["ours", _] => Found::Ours(Box::new(sample()), 0),
                [_, "ours"] => Found::Ours(Box::new(sample()), 1),
                ["broken" | "unreadable", _] | [_, "broken" | "unreadable"] => Found::Corrupt,
                ["foreign", _] | [_, "foreign"] => Found::Foreign,
                _ => Found::Blank,
            };
            assert_eq!(Superblock::choose(a, b), wanted, "{first} {second}");
        }
    }
    assert!(matches!(Superblock::choose(&compatible, &blank), Found::Ours(..)));
    // Numbers that do not fit together are no superblock, whatever the checksum says.
    for (at, byte) in [(288 - 8, 33), (288 - 3, 9), (88, 1), (191, 0xff)] {
        assert_eq!(Superblock::choose(&sealed(at, byte), &blank), Found::Corrupt, "{at}");
    }
}

/// A crash may leave any of the first one's sectors on a blank device. Without a record that is never taken for something else's.
#[test]
fn a_torn_claim_is_never_foreign() {
    let claim = Superblock { record: Vec::new(), parents: Vec::new(), ..sample() }.encode();
    for kept in 0..1u32 << 8 {
        let mut torn = [0; 4096];
        for sector in (0..8).filter(|sector| kept & 1 << sector != 0) {
            let span = sector * 512..sector * 512 + 512;
            torn[span.clone()].copy_from_slice(&claim[span]);
        }
        for (first, second) in [(torn, [0; 4096]), ([0; 4096], torn)] {
            let found = Superblock::choose(&first, &second);
            match kept & 0x81 {
                0 => assert_eq!(found, Found::Blank),
                0x81 => assert!(matches!(found, Found::Ours(..))),
                _ => assert_eq!(found, Found::Corrupt, "{kept:#x}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_is_seen(at in 0usize..4096, bit in 0u8..8) {
        let mut bytes = sample().encode();
        bytes[at] ^= 1 << bit;
        prop_assert!(!matches!(Superblock::choose(&bytes, &[0; 4096]), Found::Ours(..)));
    }
}
