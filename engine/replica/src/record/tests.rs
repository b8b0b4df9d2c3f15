//! The record's bytes come back as they went, and nothing else is taken for one.

use super::*;
use kagami_types::Epoch;
use proptest::prelude::*;

fn full() -> Record {
    Record {
        side: Side::Secondary,
        state: State::Psus { writable: true },
        generation: (2..30).fold(Generation::first(1), |last, id| last.child(id)),
        fence: Some(Fence {
            request: 7,
            place: JournalPos { epoch: Epoch(3), offset: 8192 },
            sequence: Sequence(9),
        }),
        overtaken: true,
        consistent: true,
        bits: 1 << 40,
        formation: Some(Formation {
            request: 11,
            place: JournalPos { epoch: Epoch(4), offset: 4096 },
            sequence: Sequence(5),
            discard: true,
        }),
        discards: true,
        refused: Some(6),
        takeover: Some(Takeover { sequence: Sequence(8), time: 10, at: 12 }),
        deleted: true,
        reason: "x".repeat(REASON - 1),
    }
}

#[test]
fn it_fits_and_comes_back() {
    let record = full();
    let mut bytes = vec![0; RECORD];
    let mut put = Put::new(&mut bytes);
    record.put(&mut put);
    assert!(put.at() <= RECORD, "{}", put.at());
    assert_eq!(Record::decode(&record.encode()), Ok(record));
}

#[test]
fn another_version_is_refused() {
    let mut bytes = full().encode();
    bytes[0] = 2;
    assert_eq!(Record::decode(&bytes), Err(RecordError::Version(2)));
    assert_eq!(Record::decode(&bytes[..3]), Err(RecordError::Short));
}

#[test]
fn a_reason_is_cut_at_a_character() {
    let mut record = Record::new(Side::Primary, Generation::first(1));
    record.reason = "ü".repeat(200);
    let back = Record::decode(&record.encode()).expect("decodes");
    assert!(record.reason.starts_with(&back.reason) && back.reason.len() > 150);
}

proptest! {
    #[test]
    fn no_bytes_bring_it_down(mut bytes in proptest::collection::vec(any::<u8>(), 0..RECORD)) {
        if bytes.len() > 4 {
            bytes[..4].copy_from_slice(&1u32.to_le_bytes());
        }
        if let Ok(record) = Record::decode(&bytes) {
            let again = Record::decode(&record.encode());
            prop_assert!(again.is_ok());
        }
    }
}
