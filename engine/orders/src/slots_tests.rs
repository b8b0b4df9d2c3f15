//! Slots: any cut of WRITEs is the same record, nobody takes another's slot, everything ends and is bounded.

use crate::layout::{self, request_at, result_at};
use crate::slots::*;
use crate::{Code, OrderResult, Request, State, request};
use kagami_types::{Time, Uuid};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const ARRAY: Uuid = Uuid::from_u128(0xa);
const DEVICE: u64 = 64 << 20;

fn slots() -> Slots {
    Slots::new(ARRAY, DEVICE, Limits::default())
}

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

fn host(name: &str) -> Arc<str> {
    name.into()
}

/// A record in whole blocks.
fn record(id: u128, parameters: usize) -> Vec<u8> {
    let mut order = Request::new(2, Uuid::from_u128(id), Uuid::from_u128(1));
    for _ in 0..parameters {
        order.parameters =
            std::mem::take(&mut order.parameters).text(crate::Tag::Initiator, &"x".repeat(250));
    }
    let mut bytes = order.encode().unwrap();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn read(slots: &mut Slots, from: u64, len: usize, now: Time) -> Vec<u8> {
    let mut out = vec![0xee; len];
    slots.on_read(from, &mut out, now);
    out
}

fn result(slots: &mut Slots, slot: u32, now: Time) -> Option<OrderResult> {
    OrderResult::decode(&read(slots, result_at(slot), layout::MAX_RECORD, now)).ok()
}

fn executed(slots: &mut Slots) -> Option<Given> {
    match slots.poll_event() {
        Some(Event::Execute(given)) => Some(given),
        _ => None,
    }
}

fn done(id: u128) -> Vec<u8> {
    OrderResult::new(Uuid::from_u128(id), ARRAY, State::Done, Code::Done, "done").encode(None)
}

#[test]
fn an_order_goes_from_write_to_result_and_away() {
    let (mut slots, a) = (slots(), host("a"));
    assert_eq!(slots.on_write(request_at(5), &record(9, 0), &a, at(0)), Written::Taken);
    let given = executed(&mut slots).unwrap();
    assert_eq!((given.slot, &*given.from, given.record.len()), (5, "a", 260));
    assert!(slots.poll_event().is_none());
    // It can be read back; its result says that it waits.
    assert_eq!(read(&mut slots, request_at(5), 512, at(0)), record(9, 0));
    let waits = result(&mut slots, 5, at(0)).unwrap();
    assert_eq!((waits.id, waits.state), (Uuid::from_u128(9), State::Accepted));
    // The same again changes nothing, another is refused, and so is freeing it.
    assert_eq!(slots.on_write(request_at(5), &record(9, 0), &a, at(1)), Written::Taken);
    assert_eq!(slots.on_write(request_at(5), &record(8, 0), &a, at(1)), Written::Held);
    assert_eq!(slots.on_write(request_at(5), &[0; 512], &a, at(1)), Written::Held);
    assert!(slots.poll_event().is_none());
    slots.complete(5, given.turn + 1, done(7), at(1));
    slots.complete(4, given.turn, done(7), at(1));
    assert_eq!(result(&mut slots, 5, at(1)).unwrap().state, State::Accepted, "another's result");
    slots.complete(5, given.turn, done(9), at(2));
    slots.complete(5, given.turn, done(8), at(2));
    // Not read yet: nobody takes the slot, and it stays for ten minutes.
    assert_eq!(slots.on_write(request_at(5), &record(8, 0), &host("b"), at(3)), Written::Held);
    assert_eq!(slots.on_write(request_at(5), &[0; 512], &host("b"), at(3)), Written::Held);
    assert_eq!(result(&mut slots, 5, at(500)).unwrap().id, Uuid::from_u128(9));
    // Read: it stays for 60 s, and a READ more does not make it longer.
    assert_eq!(result(&mut slots, 5, at(559)).unwrap().state, State::Done);
    assert!(result(&mut slots, 5, at(560)).is_none());
    assert_eq!((slots.in_use(), slots.bytes(), slots.waiting()), (0, 0, 0));
}

#[test]
fn slots_are_taken_again() {
    let (mut slots, a, b) = (slots(), host("a"), host("b"));
    for (id, frees) in [(1, true), (2, false)] {
        assert_eq!(slots.on_write(request_at(0), &record(id, 0), &a, at(0)), Written::Taken);
        let given = executed(&mut slots).unwrap();
        slots.complete(0, given.turn, done(id), at(0));
        if frees {
            assert_eq!(slots.on_write(request_at(0), &[0; 512], &a, at(0)), Written::Taken);
            assert_eq!(slots.in_use(), 0);
        } else {
            assert!(result(&mut slots, 0, at(0)).is_some());
        }
    }
    // It was read: another may have the slot at once.
    assert_eq!(slots.on_write(request_at(0), &record(3, 0), &b, at(1)), Written::Taken);
    assert_eq!(result(&mut slots, 0, at(1)).unwrap().id, Uuid::from_u128(3));
    // A result that nobody reads goes too.
    let given = executed(&mut slots).unwrap();
    slots.complete(0, given.turn, done(3), at(2));
    assert_eq!(slots.on_write(request_at(0), &record(4, 0), &a, at(601)), Written::Held);
    assert_eq!(slots.on_write(request_at(0), &record(4, 0), &a, at(602)), Written::Taken);
}

#[test]
fn what_stays_incomplete_is_malformed() {
    let (mut slots, a) = (slots(), host("a"));
    let whole = record(9, 10);
    assert_eq!(slots.on_write(request_at(1), &whole[..512], &a, at(0)), Written::Taken);
    assert!(result(&mut slots, 1, at(9)).is_none());
    // Another one, or another id, does not mix with it.
    assert_eq!(slots.on_write(request_at(1) + 512, &whole[512..], &host("b"), at(9)), Written::Held);
    assert_eq!(slots.on_write(request_at(1), &record(8, 0), &a, at(9)), Written::Held);
    assert_eq!(slots.on_write(request_at(1) + 512, &whole[512..], &a, at(10)), Written::Held, "too late");
    assert!(matches!(slots.poll_event(), Some(Event::Malformed { slot: 1, .. })));
    let refused = result(&mut slots, 1, at(10)).unwrap();
    assert_eq!((refused.id, refused.state, refused.code), (Uuid::from_u128(9), State::Done, Code::Malformed));
    // Zeroes in an empty slot are nothing.
    assert_eq!(slots.on_write(request_at(2), &[0; 32768], &a, at(10)), Written::Taken);
    assert_eq!(slots.in_use(), 1);
}

#[test]
fn places_that_are_no_request_half_are_refused() {
    let (mut slots, a) = (slots(), host("a"));
    let last = layout::slots(DEVICE) - 1;
    assert_eq!(last, 767);
    let bytes = record(1, 0);
    for (offset, len) in [
        (result_at(0), 512),
        (result_at(0) - 512, 1024),
        (request_at(1) - 512, 1024),
        (request_at(last + 1), 512),
        (request_at(0), 33_280),
    ] {
        let mut bytes = bytes.clone();
        bytes.resize(len, 1);
        assert_eq!(slots.on_write(offset, &bytes, &a, at(0)), Written::Outside, "{offset}");
    }
    assert_eq!(slots.on_write(request_at(last), &bytes, &a, at(0)), Written::Taken);
    // Over everything at once, readahead and all.
    let all = read(&mut slots, layout::ORDINARY - 4096, 60 << 20, at(0));
    assert!(all[..4096].iter().all(|byte| *byte == 0));
    let place = usize::try_from(request_at(last) - layout::ORDINARY + 4096).unwrap();
    assert_eq!(&all[place..place + 512], bytes);
    assert!(OrderResult::decode(&all[place + 32768..place + 65536]).is_ok());
    assert!(all[place + 65536..].iter().all(|byte| *byte == 0));
    assert_eq!(layout::slots(u64::MAX), layout::MAX_SLOTS);
    assert_eq!((layout::slots(0), layout::slots((16 << 20) + (64 << 10))), (0, 1));
}

#[test]
fn memory_is_bounded() {
    let limits = Limits { bytes: 256 << 10, waiting: 4 };
    let (mut slots, a) = (Slots::new(ARRAY, DEVICE, limits), host("a"));
    let big = vec![1; 32 << 10];
    let taken = (0..100).filter(|slot| slots.on_write(request_at(*slot), &big, &a, at(0)) == Written::Taken);
    assert_eq!(taken.count(), 7);
    assert!(slots.bytes() <= limits.bytes);
    // What is late makes room once it was read.
    for slot in 0..7 {
        assert_eq!(result(&mut slots, slot, at(10)).unwrap().code, Code::Malformed);
    }
    for slot in 200..204 {
        assert_eq!(slots.on_write(request_at(slot), &record(1, 0), &a, at(11)), Written::Taken, "{slot}");
    }
    assert_eq!(slots.on_write(request_at(204), &record(1, 0), &a, at(11)), Written::Taken);
    assert_eq!(result(&mut slots, 204, at(11)).unwrap().code, Code::Busy);
    assert_eq!(slots.waiting(), 4);
}

proptest! {
    /// Any cut of a record into WRITEs of whole blocks, in any order, some of them twice.
    #[test]
    fn any_cut_of_writes_gives_the_same(
        parameters in 0usize..120, cuts in proptest::collection::vec(1usize..64, 0..8), order: u64, twice: u64
    ) {
        let bytes = record(9, parameters);
        let blocks = bytes.len() / 512;
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % blocks).filter(|cut| *cut > 0).collect();
        ends.extend([0, blocks]);
        ends.sort_unstable();
        ends.dedup();
        let mut writes: Vec<(usize, usize)> = ends.windows(2).map(|pair| (pair[0] * 512, pair[1] * 512)).collect();
        let again: Vec<_> = writes.iter().copied().enumerate().filter(|(n, _)| twice >> n & 1 == 1).map(|(_, w)| w).collect();
        writes.extend(again);
        // Fisher and Yates, from the seed.
        let mut seed = order | 1;
        for n in (1..writes.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            writes.swap(n, usize::try_from(seed >> 33).unwrap() % (n + 1));
        }
        let (mut slots, a) = (slots(), host("a"));
        for (from, to) in writes {
            prop_assert_eq!(slots.on_write(request_at(3) + from as u64, &bytes[from..to], &a, at(1)), Written::Taken);
        }
        let given = executed(&mut slots);
        prop_assert_eq!(given.map(|given| given.record), Some(request::whole(&bytes).unwrap().to_vec()));
        prop_assert!(slots.poll_event().is_none());
    }

    /// Many hosts at many slots: whoever was answered GOOD and reads its own id back gets its own result and
    /// nobody else's; nothing is executed twice; the accounts are right.
    #[test]
    fn hosts_do_not_disturb_each_other(
        steps in proptest::collection::vec((0u8..5, 0u32..6, 0u8..8, 0u64..15), 1..400)
    ) {
        let mut slots = Slots::new(ARRAY, DEVICE, Limits { bytes: 300 << 10, waiting: 5 });
        let hosts: Vec<Arc<str>> = (0..8).map(|n| host(&n.to_string())).collect();
        let mut now = at(0);
        let mut next = 1u128;
        // Per host: the slot and id of its order.
        let mut orders: Vec<Option<(u32, u128)>> = vec![None; 8];
        let mut waiting: Vec<Given> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (what, slot, who, seconds) in steps {
            now = now + Duration::from_secs(seconds);
            let from = &hosts[usize::from(who)];
            match what {
                0 | 1 => {
                    let id = u128::from(who) << 64 | next;
                    next += 1;
                    let bytes = record(id, if what == 1 { 60 } else { 0 });
                    // Half of a record, too.
                    let part = if what == 1 && seconds % 2 == 0 { 512 } else { bytes.len() };
                    if slots.on_write(request_at(slot), &bytes[..part], from, now) == Written::Taken {
                        orders[usize::from(who)] = Some((slot, id));
                    }
                }
                2 => if let Some((slot, id)) = orders[usize::from(who)] {
                    let id = Uuid::from_u128(id);
                    let back = read(&mut slots, request_at(slot), 512, now);
                    let found = result(&mut slots, slot, now).filter(|result| result.id == id);
                    if let Some(result) = found {
                        prop_assert!(request::id_of(&back) == Some(id) || result.state == State::Done);
                    }
                },
                3 => if let Some(given) = waiting.pop() {
                    let id = request::id_of(&given.record).unwrap();
                    slots.complete(given.slot, given.turn, done(id.as_u128()), now);
                },
                _ => { slots.on_write(request_at(slot), &[0; 512], from, now); }
            }
            while let Some(event) = slots.poll_event() {
                if let Event::Execute(given) = event {
                    let id = request::id_of(&given.record).unwrap();
                    prop_assert!(seen.insert(id), "executed twice");
                    prop_assert_eq!(id.as_u128() >> 64, given.from.parse::<u128>().unwrap());
                    waiting.push(given);
                }
            }
            prop_assert_eq!(slots.waiting(), waiting.len());
            prop_assert!(slots.bytes() <= 300 << 10);
        }
    }
}
