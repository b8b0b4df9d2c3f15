//! The page's bytes come back as they went, each damage is found, and no bytes bring the reader down.

use super::*;
use crate::generation::Generation;
use crate::record::{Fence, Formation, Side, State};
use kagami_types::Epoch;
use proptest::prelude::*;

pub(crate) fn sample() -> StatusPage {
    let pos = |offset| JournalPos { epoch: Epoch(77), offset };
    let mut record =
        Record::new(Side::Primary, (2..30).fold(Generation::first(1), |last, id| last.child(id)));
    record.state = State::Pair;
    record.fence = Some(Fence { request: 5, place: pos(12288), sequence: Sequence(40) });
    record.formation = Some(Formation { request: 6, place: pos(4096), sequence: Sequence(3), discard: true });
    record.reason = "the journal is full".into();
    StatusPage {
        serial: Serial { version: 3, counter: 9 },
        array: Uuid::from_u128(1),
        group: Uuid::from_u128(2),
        record,
        recovering: false,
        cancel: true,
        stable: pos(16384),
        stable_sequence: Sequence(41),
        epochs: vec![5, 4, 3],
        out: 8192,
        newest_time: 1_000,
        wall: 2_000,
        data_len: 1 << 30,
        bitmap_at: 8192,
        bitmap_len: 65536,
        volumes: 3,
        shape: 99,
        difference: 12,
        reading: Reading {
            request: 6,
            read: pos(16384),
            restored: 12288,
            restored_sequence: Sequence(39),
            restored_time: 900,
            read_sequence: Sequence(41),
        },
        orders: vec![
            PageOrder { request: 1, order: Order::Marker { name: "noon".into(), wait: true } },
            PageOrder { request: 2, order: Order::Resync { discard: Some(Loser::There) } },
            PageOrder { request: 3, order: Order::Restore(RestoreTo::Marker("noon".into())) },
            PageOrder { request: 4, order: Order::Takeover { dry_run: false, force: true } },
        ],
        answers: vec![PageAnswer { request: 8, result: OrderResult::Refused("no pair".into()) }],
    }
}

#[test]
fn it_fits_and_comes_back() {
    let page = sample();
    let mut bytes = [0; PAGE];
    let mut put = Put::new(&mut bytes);
    page.put(&mut put);
    assert!(put.at() <= PAGE, "{}", put.at());
    assert_eq!(StatusPage::decode(&page.encode()), Ok(page));
}

#[test]
fn each_order_comes_back() {
    let orders = [
        Order::Split { writable: true },
        Order::Split { writable: false },
        Order::Resync { discard: None },
        Order::Resync { discard: Some(Loser::Here) },
        Order::Swap { dry_run: true },
        Order::CancelSwap,
        Order::Takeover { dry_run: true, force: false },
        Order::Delete,
        Order::Marker { name: "m".into(), wait: false },
        Order::Acquire { to: 7 },
        Order::Restore(RestoreTo::Read),
        Order::Restore(RestoreTo::Place(8)),
        Order::Restore(RestoreTo::Time(9)),
        Order::Purge { to: 10 },
    ];
    for order in orders {
        let mut page = sample();
        page.orders = vec![PageOrder { request: 1, order: order.clone() }];
        let back = StatusPage::decode(&page.encode()).expect("decodes");
        assert_eq!(back.orders[0].order, order);
    }
}

#[test]
fn what_is_not_a_page_is_said() {
    let mut bytes = sample().encode();
    assert_eq!(StatusPage::decode(&bytes[..100]), Err(PageError::Magic));
    assert_eq!(StatusPage::decode(&[0; PAGE]), Err(PageError::Magic));
    bytes[8] = 2;
    assert_eq!(StatusPage::decode(&bytes), Err(PageError::Version(2)));
}

/// Each number that would become a place, a sequence or a time here.
#[test]
fn numbers_that_no_array_has_are_refused() {
    type Spoil = fn(&mut StatusPage);
    let spoilt: [(&str, Spoil); 16] = [
        ("stable", |page| page.stable.offset = u64::MAX),
        ("stable, not where a frame ends", |page| page.stable.offset += 512),
        ("out", |page| page.out = 1 << 61),
        ("read", |page| page.reading.read.offset = 1),
        ("restored", |page| page.reading.restored = u64::MAX - 4095),
        ("formation", |page| page.record.formation.as_mut().unwrap().place.offset = 4097),
        ("formation, far", |page| page.record.formation.as_mut().unwrap().place.offset = 1 << 61),
        ("fence", |page| page.record.fence.as_mut().unwrap().place.offset = 100),
        ("sequence of the fence", |page| page.record.fence.as_mut().unwrap().sequence = Sequence(u64::MAX)),
        ("sequence of the formation", |page| {
            page.record.formation.as_mut().unwrap().sequence = Sequence(1 << 61);
        }),
        ("stable sequence", |page| page.stable_sequence = Sequence(u64::MAX)),
        ("read sequence", |page| page.reading.read_sequence = Sequence(u64::MAX)),
        ("data area", |page| page.data_len = (1 << 56) + 4096),
        ("bitmap", |page| page.bitmap_at = !4095),
        ("bitmap, odd", |page| page.bitmap_len = 100),
        ("clock", |page| page.wall = u64::MAX),
    ];
    for (what, spoil) in spoilt {
        let mut page = sample();
        spoil(&mut page);
        assert_eq!(StatusPage::decode(&page.encode()), Err(PageError::Field), "{what}");
    }
}

proptest! {
    #[test]
    fn each_flipped_bit_is_found(at in 12usize..PAGE, bit in 0u8..8) {
        let mut bytes = sample().encode();
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(StatusPage::decode(&bytes), Err(PageError::Checksum));
    }

    #[test]
    fn no_fields_bring_it_down(body in proptest::collection::vec(any::<u8>(), PAGE - 24)) {
        let mut bytes = sample().encode();
        bytes[24..].copy_from_slice(&body);
        bytes[CRC_AT..CRC_AT + 4].fill(0);
        let crc = crc32c::crc32c(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        if let Ok(page) = StatusPage::decode(&bytes) {
            prop_assert!(StatusPage::decode(&page.encode()).is_ok());
        }
    }
}
