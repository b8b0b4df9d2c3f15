//! Orders in a command device: requests, results, parameters, and slots under any WRITEs and READs.
#![no_main]

use kagami_orders::layout::{self, MAX_RECORD};
use kagami_orders::slots::{Event, Limits, Slots};
use kagami_orders::{Key, Order, OrderResult, Request, request, result, sign};
use kagami_types::{Time, Uuid};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

const ARRAY: Uuid = Uuid::from_u128(1);
const DEVICE: u64 = (16 << 20) + 4 * (64 << 10);

/// The same bytes with a magic number, their length, and a right checksum: what is behind those is tried too.
fn sealed(data: &[u8], magic: [u8; 8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize(bytes.len().clamp(request::HEADER, MAX_RECORD - 4), 0);
    bytes[..8].copy_from_slice(&magic);
    let len = u32::try_from(bytes.len() + 4).unwrap();
    bytes[12..16].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn records(bytes: &[u8]) {
    let key = Key::new(&[7; 32]).unwrap();
    if let Ok(order) = Request::decode(bytes) {
        let record = request::whole(bytes).unwrap();
        // What was read is written as it was, but for what a reader may ignore.
        let again = order.encode().unwrap();
        assert_eq!(Request::decode(&again).as_ref(), Ok(&order));
        let _ = (request::verify(record, &key, ARRAY), sign::fingerprint(record));
        if let Ok(on) = request::pass_on(record, ARRAY) {
            assert_eq!(sign::fingerprint(&on), sign::fingerprint(record));
        }
        if let Some(known) = Order::by_number(order.order) {
            let _ = known.check(&order.parameters);
        }
    }
    if let Ok(answer) = OrderResult::decode(bytes) {
        let _ = result::verify(result::whole(bytes).unwrap(), &key);
        assert!(answer.encode(None).len() <= MAX_RECORD);
    }
}

/// Steps of four bytes: what, who and where, how much; data from the whole of the input.
fn slots(data: &[u8]) {
    let limits = Limits { bytes: 160 << 10, waiting: 3 };
    let mut slots = Slots::new(ARRAY, DEVICE, limits);
    let hosts: [Arc<str>; 2] = ["a".into(), "b".into()];
    let record = sealed(data, request::MAGIC);
    let (mut now, mut waiting) = (Time(0), Vec::new());
    for step in data.chunks_exact(4).take(256) {
        let offset = layout::ORDINARY + u64::from(u16::from_le_bytes([step[1], step[2]]) & 0x3ff) * 512;
        let len = usize::from(step[3]) * 512;
        match step[0] & 7 {
            0..=2 => {
                let at = usize::try_from(offset & 0x7fff).unwrap();
                let part = record.get(at..).unwrap_or_default();
                let part = &part[..part.len().min(len)];
                slots.on_write(offset, part, &hosts[usize::from(step[0] >> 7)], now);
            }
            3 => drop(slots.on_write(offset, &vec![0; len], &hosts[usize::from(step[0] >> 7)], now)),
            4 | 5 => slots.on_read(offset - 4096, &mut vec![1; len], now),
            6 => now = Time(now.0 + u64::from(step[3]) * 1_000_000_000),
            _ => {
                if let Some((slot, turn)) = waiting.pop() {
                    slots.complete(slot, turn, record.clone(), now);
                }
            }
        }
        while let Some(event) = slots.poll_event() {
            if let Event::Execute(given) = event {
                assert_eq!(request::whole(&given.record), Ok(given.record.as_slice()));
                waiting.push((given.slot, given.turn));
            }
        }
        assert_eq!(slots.waiting(), waiting.len());
        assert!(slots.bytes() <= limits.bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    records(data);
    records(&sealed(data, request::MAGIC));
    records(&sealed(data, result::MAGIC));
    slots(data);
});
