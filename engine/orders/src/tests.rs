//! Golden bytes, the documentation, and what may not happen whatever is cut, torn or forged.

use crate::parameters::Kind;
use crate::request::{self, HEADER};
use crate::*;
use kagami_types::Uuid;
use proptest::prelude::*;

fn uuid(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn grow() -> Request {
    Request {
        generation: 7,
        target: uuid(0xaa),
        parameters: Parameters::new().text(Tag::Volume, "db").number(Tag::SizeBytes, 1 << 30),
        ..Request::new(17, uuid(0x11), uuid(0x22))
    }
}

/// The rows of the tables in `docs/formats.md`.
fn rows() -> Vec<String> {
    let tags = Tag::ALL.iter().map(|tag| {
        format!("| {} | `{}` | {} | {} |", tag.number(), tag.word(), tag.kind().word(), tag.meaning())
    });
    let orders = ORDERS.iter().map(Order::row);
    let codes = Code::ALL.iter().map(|code| {
        format!("| {} | `{}` | {} | {} |", code.number(), code.word(), code.exit(), code.meaning())
    });
    tags.chain(orders).chain(codes).collect()
}

#[test]
fn the_documentation_has_every_tag_order_and_code() {
    let docs = include_str!("../../../docs/formats.md");
    let missing: Vec<String> = rows().into_iter().filter(|row| !docs.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/formats.md lacks:\n{}", missing.join("\n"));
    for size in [layout::ORDINARY, layout::SLOT, layout::HALF] {
        let (mib, kib) = (size >> 20, size >> 10);
        assert!(docs.contains(&format!("{mib} MiB")) || docs.contains(&format!("{kib} KiB")));
    }
}

#[test]
fn golden_bytes_of_a_request() {
    let record = grow().encode().unwrap();
    let expected = concat!(
        "4b41474f52444552",
        "0100",
        "0001",
        "16010000",
        "0000000000000000",
        "0000000000000000",
        "0000000000000000",
        "1100",
        "0100",
        "00000000",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "11111111111111111111111111111111",
        "22222222222222222222222222222222",
        "0700000000000000",
        "0000000000000000",
        "00000000000000000000000000000000",
    );
    assert_eq!(hex(&record[..128]), expected);
    assert!(record[128..HEADER].iter().all(|byte| *byte == 0));
    assert_eq!(hex(&record[HEADER..HEADER + 18]), "020002006462040008000000004000000000");
    assert_eq!(record.len(), 278);
    assert_eq!(hex(&record[274..]), GOLDEN_REQUEST_CRC);
    assert_eq!(Request::decode(&record).unwrap(), grow());
}

const GOLDEN_REQUEST_CRC: &str = "1128ca15";
const GOLDEN_REQUEST_MAC: &str = "cce400f1e67f4fab19b40367f95e9b316bdce14518d6b43a1eae48f63588bee4";
const GOLDEN_RESULT: &str = concat!(
    "4b41475245534c540100a000a8000000000000000000000000000000000000000000000000000000",
    "11111111111111111111111111111111aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa03000b0001000200",
    "08000000000000000500000000000000010000000000000002000000000000000000000000000000",
    "00000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "6e6f6162bf2875ef",
);
const GOLDEN_RESULT_MAC: &str = "9e10589c6b0b2a96e1ec82d4236e2e31bcdf72ed1e651fa81d3e67fb634106a3";

#[test]
fn golden_bytes_of_signatures_and_results() {
    let key = Key::new(b"0123456789abcdef").unwrap();
    let order = Request { operator: "ops".into(), expires: 1_795_368_180_000, ..grow() };
    let record = order.encode_signed(&key, uuid(0xaa)).unwrap();
    assert_eq!(hex(&record[192..224]), GOLDEN_REQUEST_MAC);
    assert_eq!(hex(&record[128..132]), "6f707300");
    assert!(request::verify(&record, &key, uuid(0xaa)) && !request::verify(&record, &key, uuid(0xab)));
    let result = OrderResult {
        generation: 8,
        total: 5,
        offset: 1,
        part: b"ab".to_vec(),
        ..OrderResult::new(uuid(0x11), uuid(0xaa), State::Done, Code::Stale, "no")
    };
    let bytes = result.encode(None);
    assert_eq!(hex(&bytes), GOLDEN_RESULT);
    assert_eq!(OrderResult::decode(&bytes).unwrap(), result);
    let signed = result.encode(Some(&key));
    assert_eq!(hex(&signed[112..144]), GOLDEN_RESULT_MAC);
    assert!(result::verify(&signed, &key) && !result::verify(&bytes, &key));
    assert!(!result::verify(&signed, &Key::new(b"0123456789abcdeg").unwrap()));
}

#[test]
fn a_signature_survives_hops_and_nothing_else() {
    let key = Key::new(&[7; 32]).unwrap();
    let order = Request { operator: "ops".into(), expires: 1, ..grow() };
    let mut record = order.encode_signed(&key, uuid(0xaa)).unwrap();
    for hop in 1..=request::MOST_HOPS {
        record = request::pass_on(&record, uuid(hop)).unwrap();
        let read = Request::decode(&record).unwrap();
        assert_eq!((read.hops, read.origin), (hop, uuid(1)));
        assert!(request::verify(&record, &key, uuid(0xaa)));
    }
    assert!(request::pass_on(&record, uuid(9)).is_err());
    let untouched = request::whole(&record).unwrap().to_vec();
    for at in (0..untouched.len() - 4).filter(|at| !(112..128).contains(at) && *at != 44) {
        let mut forged = untouched.clone();
        forged[at] ^= 1;
        assert!(!request::verify(&forged, &key, uuid(0xaa)), "byte {at} is not covered");
    }
    assert!(Key::new(b"short").is_none() && Key::new(&[0; 1025]).is_none());
    assert_eq!(
        sign::fingerprint(&untouched),
        sign::fingerprint(&order.encode_signed(&key, uuid(0xaa)).unwrap())
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let good = grow().encode().unwrap();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = good[..good.len() - 4].to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes::seal(&mut bytes);
        Request::decode(&bytes)
    };
    assert!(matches!(with(8, &[2]), Err(RecordError::Unsupported { version: 2, .. })));
    assert!(matches!(with(32, &[4]), Err(RecordError::Unsupported { features: 4, .. })));
    assert!(matches!(with(24, &[1]), Err(RecordError::Unsupported { .. })), "it changes something");
    assert!(with(16, &[1]).is_ok(), "a compatible feature");
    assert!(matches!(with(10, &[9, 9]), Err(RecordError::Malformed(_))));
    for (at, value) in [(42, &[4][..]), (45, &[1]), (230, &[1]), (192, &[1]), (42, &[2]), (128, b"x")] {
        assert!(matches!(with(at, value), Err(RecordError::Malformed(_))), "{at}");
    }
    assert!(matches!(with(64, &[0; 16]), Err(RecordError::Malformed(_))));
    assert!(matches!(with(80, &[0; 16]), Err(RecordError::Malformed(_))));
    assert!(matches!(with(256, &[99]), Err(RecordError::Malformed(_))), "an unknown tag");
    assert!(matches!(with(258, &[200]), Err(RecordError::Malformed(_))), "a parameter that is cut off");
    assert!(matches!(with(260, &[0xff, 0xff]), Err(RecordError::Malformed(_))), "no text");
    assert!(matches!(with(12, &[0xff, 0xff, 0xff, 0x7f]), Err(RecordError::Incomplete(_))));
    let long = Request {
        parameters: (0..200).fold(Parameters::new(), |p, _| p.text(Tag::Initiator, &"x".repeat(200))),
        ..grow()
    };
    assert!(matches!(long.encode(), Err(RecordError::TooLong { .. })));
    let long = Request { operator: "x".repeat(65), ..grow() };
    assert!(long.encode().is_err());
}

#[test]
fn the_table_checks_parameters() {
    let resize = Order::by_name("volume-resize").unwrap();
    assert!(resize.check(&grow().parameters).is_ok());
    let code = |order: &str, parameters| Order::by_name(order).unwrap().check(&parameters).unwrap_err().0;
    assert_eq!(code("volume-resize", Parameters::new()), Code::BadParameter);
    assert_eq!(code("volume-resize", grow().parameters.flag(Tag::Force, true)), Code::BadParameter);
    assert_eq!(code("volume-resize", grow().parameters.text(Tag::Volume, "x")), Code::BadParameter);
    assert_eq!(code("marker", Parameters::new()), Code::BadParameter);
    assert!(Order::by_name("pair-swap").unwrap().check(&Parameters::new()).is_ok());
    for (n, order) in ORDERS.iter().enumerate() {
        assert!(ORDERS[..n].iter().all(|other| other.number < order.number && other.name != order.name));
        assert!(order.help.ends_with('.') && Order::by_number(order.number).is_some());
        assert!(order.right == Right::Read || order.is_change());
    }
    assert!(Tag::ALL.iter().all(|tag| Tag::from_number(tag.number()) == Some(*tag)));
    assert!(Code::ALL.iter().all(|code| Code::from_number(code.number()) == Some(*code)));
}

#[test]
fn long_messages_and_parts_are_cut_to_what_fits() {
    let result = OrderResult {
        total: 1 << 20,
        part: vec![1; 1 << 20],
        ..OrderResult::new(uuid(1), uuid(2), State::Done, Code::Done, "ä".repeat(5000))
    };
    let bytes = result.encode(None);
    assert!(bytes.len() <= layout::MAX_RECORD);
    let read = OrderResult::decode(&bytes).unwrap();
    assert_eq!((read.message.len(), read.part.len()), (result::MAX_MESSAGE, result::MAX_PART));
}

fn parameters() -> impl Strategy<Value = Parameters> {
    let one = (proptest::sample::select(Tag::ALL), any::<u64>(), "[a-z0-9:.]{1,40}");
    proptest::collection::vec(one, 0..20).prop_map(|all| {
        all.into_iter().fold(Parameters::new(), |list, (tag, number, text)| match tag.kind() {
            Kind::Text => list.text(tag, &text),
            Kind::Id => list.id(tag, Uuid::from_u128(number.into())),
            Kind::Flag => list.flag(tag, true),
            _ => list.number(tag, number),
        })
    })
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(
        order: u16, edit_data: bool, target: u128, id in 1u128.., host in 1u128.., generation: u64,
        hops: u8, expires: u64, parameters in parameters(), behind in proptest::collection::vec(any::<u8>(), 0..64)
    ) {
        let request = Request {
            edit_data, target: Uuid::from_u128(target), generation, hops, expires, parameters,
            ..Request::new(order, Uuid::from_u128(id), Uuid::from_u128(host))
        };
        let mut bytes = request.encode().unwrap();
        let len = bytes.len();
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(Request::decode(&bytes).unwrap(), request);
        // Cut anywhere, or with any bit the other way, it is not whole.
        for cut in [len - 1, len / 2, 3] {
            prop_assert!(Request::decode(&bytes[..cut]).is_err());
        }
        bytes[usize::try_from(id % len as u128).unwrap()] ^= 1 << (host % 8);
        prop_assert!(Request::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), seal: bool) {
        let _ = (Request::decode(&bytes), OrderResult::decode(&bytes));
        // With the right frame around them, they get further.
        if seal && bytes.len() > 20 {
            for magic in [request::MAGIC, result::MAGIC] {
                bytes[..8].copy_from_slice(&magic);
                let len = u32::try_from(bytes.len() + 4).unwrap();
                bytes[12..16].copy_from_slice(&len.to_le_bytes());
                let mut whole = bytes.clone();
                crate::bytes::seal(&mut whole);
                let _ = (Request::decode(&whole), OrderResult::decode(&whole));
            }
        }
    }
}
