use super::*;
use crate::frame::{EntryKind, HeadFound};
use crate::parser::{Expect, ParseError, Parser};
use crate::testing::{GROUP, Random, any_entry, pool, scatter};
use proptest::prelude::*;

fn layout() -> Layout {
    Layout::new(16 << 20, 0).unwrap().with_data_len(1 << 20).unwrap()
}

fn writer(at: u64) -> Writer {
    Writer::new(GROUP, layout(), (Epoch(0xe2), Epoch(0xe1)), (at, at), Sequence(1), at)
}

fn write(sequence: u64, bytes: usize) -> (EntryHead, Scatter) {
    let len = u32::try_from(bytes).unwrap();
    let head = EntryHead {
        volume: 2,
        shift: 9,
        lba: 8 * sequence,
        blocks: u64::from(len) / 512,
        ..EntryHead::plain(Sequence(sequence), 1000 + sequence, EntryKind::Write, len)
    };
    (head, scatter(&Random(sequence).bytes(bytes)))
}

fn give(writer: &mut Writer, sequence: u64, bytes: usize) {
    let (head, data) = write(sequence, bytes);
    assert_eq!(writer.push(head, data, Time(0)), Pushed::Taken);
}

fn next(writer: &mut Writer) -> FrameWrite {
    writer.next_write(&pool(), Time(u64::MAX - 1), 77).unwrap()
}

#[test]
fn its_bytes_stay_what_they_are() {
    let mut writer = writer(8192);
    let opening = next(&mut writer);
    writer.written(opening.id, Time(0));
    give(&mut writer, 1, 512);
    let head = EntryHead {
        shift: 12,
        lba: 3,
        blocks: 5,
        ..EntryHead::plain(Sequence(2), 9, EntryKind::Zero { unmap: true }, 0)
    };
    assert_eq!(writer.push(head, Scatter::new(), Time(0)), Pushed::Taken);
    let frame = next(&mut writer);
    let layout = layout();
    assert_eq!((frame.at, frame.offset, frame.end), (layout.data_at + 12288, 12288, 12288 + 8192));
    assert_eq!((frame.last, frame.entries), (Sequence(2), 2));

    let bytes = opening.data.to_vec();
    assert_eq!(bytes.len(), 4096);
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(bytes[..8], *b"KAGF\x01\0\x02\0");
    assert_eq!(bytes[8..24], *GROUP.as_bytes());
    let words: Vec<u64> = (24..96).step_by(8).map(|at| word(&bytes, at)).collect();
    let crc = u64::from(crc::crc32c(&bytes[128..]));
    assert_eq!(words, [0xe2, 0xe1, 8192, 8192, 4096 | 4096 << 32, 1, crc << 32, 8192, 77]);
    assert!(bytes[96..124].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[124..128], crc::crc32c(&bytes[..124]).to_le_bytes());

    let bytes = frame.data.to_vec();
    assert_eq!(bytes.len(), 8192);
    assert_eq!(bytes[..8], *b"KAGF\x01\0\x01\0");
    let words: Vec<u64> = (40..96).step_by(8).map(|at| word(&bytes, at)).collect();
    let crc = u64::from(crc::crc32c(&bytes[128..4096]));
    assert_eq!(words, [12288, 8192, 8192 | 4096 << 32, 1, 2 | crc << 32, 12288, 77]);
    let words: Vec<u64> = (128..256).step_by(8).map(|at| word(&bytes, at)).collect();
    let crc = u64::from(crc::crc32c(&bytes[4096..4608]));
    let kinds = |kind: u64, flags: u64, volume: u64, shift: u64| {
        (kind | flags << 8 | volume << 16 | shift << 24) << 32
    };
    assert_eq!(words[..6], [1, 1001, 8, 1, 4096 | 512 << 32, crc | kinds(1, 0, 2, 9)]);
    assert_eq!(words[8..14], [2, 9, 3, 5, 0, kinds(3, 1, 0, 12)]);
    assert!(bytes[4608..].iter().all(|byte| *byte == 0));
}

#[test]
fn entries_wait_for_those_before_them_and_come_once() {
    let mut writer = writer(0);
    next(&mut writer);
    give(&mut writer, 3, 4096);
    give(&mut writer, 2, 4096);
    assert!(writer.next_write(&pool(), Time(u64::MAX - 1), 0).is_none());
    assert_eq!((writer.waiting(), writer.when()), ((2, 0), Time::NEVER));
    give(&mut writer, 1, 4096);
    let (head, data) = write(2, 4096);
    assert_eq!(writer.push(head, data, Time(0)), Pushed::Again);
    let frame = next(&mut writer);
    assert_eq!((frame.entries, frame.last, frame.data.len_bytes()), (3, Sequence(3), 4 * 4096));
    let (head, data) = write(3, 4096);
    assert_eq!(writer.push(head, data, Time(0)), Pushed::Again);
    let (head, data) = write(3 + FURTHEST + 1, 4096);
    assert_eq!(writer.push(head, data, Time(0)), Pushed::Refused);
    let (head, _) = write(4, 4096);
    assert_eq!(writer.push(head, Scatter::new(), Time(0)), Pushed::Refused);
    let head = EntryHead { blocks: 9, ..head };
    assert_eq!(writer.push(head, scatter(&[0; 4096]), Time(0)), Pushed::Refused);
}

#[test]
fn what_nobody_waits_for_waits_for_company_until_somebody_does() {
    let mut writer = writer(0);
    let opening = next(&mut writer);
    writer.written(opening.id, Time(0));
    let promise = |writer: &mut Writer, sequence, bytes, now| {
        let (head, data) = write(sequence, bytes);
        assert_eq!(writer.push_promised(head, data, Time(now)), Pushed::Taken);
    };
    promise(&mut writer, 1, 4096, 5);
    promise(&mut writer, 2, 4096, 500);
    assert_eq!(writer.when(), Time(5 + COMPANY));
    assert!(writer.next_write(&pool(), Time(4 + COMPANY), 0).is_none());
    assert_eq!(writer.next_write(&pool(), Time(5 + COMPANY), 0).unwrap().entries, 2);
    // Others that are under way make no difference.
    promise(&mut writer, 3, 4096, 7);
    assert_eq!(writer.when(), Time(7 + COMPANY));
    // A flush, or an entry that is waited for, and everything before it goes.
    writer.written(2, Time(8));
    writer.hurry(Sequence(3));
    assert_eq!(writer.when(), Time(0));
    assert_eq!(next(&mut writer).last, Sequence(3));
    writer.written(3, Time(9));
    promise(&mut writer, 4, 4096, 10);
    assert_eq!(writer.when(), Time(10 + COMPANY), "what was waited for is in a frame");
    give(&mut writer, 5, 512);
    assert_eq!(writer.when(), Time(0));
    assert_eq!(next(&mut writer).last, Sequence(5));
    // Much of it needs no company.
    for sequence in 6..6 + MUCH / 4096 {
        assert_ne!(writer.when(), Time(0));
        promise(&mut writer, sequence, 4096, 20);
    }
    assert_eq!(writer.when(), Time(0));
}

#[test]
fn the_entries_of_one_operation_are_in_one_frame() {
    let mut writer = writer(0);
    let opening = next(&mut writer);
    writer.written(opening.id, Time(0));
    let zero = |sequence| EntryHead {
        shift: 12,
        blocks: 1,
        ..EntryHead::plain(Sequence(sequence), 9, EntryKind::Zero { unmap: true }, 0)
    };
    give(&mut writer, 1, 512);
    for sequence in [2, 3] {
        assert_eq!(writer.push_part(zero(sequence), Scatter::new(), Time(0)), Pushed::Taken);
    }
    let frame = next(&mut writer);
    assert_eq!((frame.entries, frame.last), (1, Sequence(1)), "an operation that is not there yet");
    assert!(writer.next_write(&pool(), Time(u64::MAX - 1), 0).is_none());
    give(&mut writer, 5, 512);
    assert_eq!(writer.push(zero(4), Scatter::new(), Time(0)), Pushed::Taken);
    let frame = next(&mut writer);
    assert_eq!((frame.entries, frame.last), (4, Sequence(5)));

    // Where only a part of it would fit, none of it is in the frame; the next one has it whole.
    let per = u64::from(MAX_ENTRIES);
    for sequence in 6..6 + per - 1 {
        writer.push(zero(sequence), Scatter::new(), Time(0));
    }
    let last = 6 + per - 1;
    writer.push_part(zero(last), Scatter::new(), Time(0));
    writer.push(zero(last + 1), Scatter::new(), Time(0));
    let frame = next(&mut writer);
    assert_eq!((frame.entries, frame.last), (MAX_ENTRIES - 1, Sequence(last - 1)));
    let frame = next(&mut writer);
    assert_eq!((frame.entries, frame.last), (2, Sequence(last + 1)));

    // Nobody can keep a frame from being made by parts without an end.
    for sequence in last + 2..last + 2 + per {
        writer.push_part(zero(sequence), Scatter::new(), Time(0));
    }
    assert_eq!(next(&mut writer).entries, MAX_ENTRIES);
}

#[test]
fn whole_pages_are_named_and_not_copied() {
    let mut writer = writer(0);
    next(&mut writer);
    let (head, data) = write(1, 12288);
    let pages: Vec<_> = data.parts().iter().map(|part| part.page().clone()).collect();
    writer.push(head, data, Time(0));
    give(&mut writer, 2, 1024);
    let (head, data) = write(3, 4096);
    let last = data.parts()[0].page().clone();
    writer.push(head, data, Time(0));
    let frame = next(&mut writer);
    let parts = frame.data.parts();
    assert!((1..4).all(|at| parts[at].page().same(&pages[at - 1])) && parts[5].page().same(&last));
    assert!(parts.iter().all(|part| part.len().is_multiple_of(4096)));
    assert_eq!(frame.data.len_bytes(), 6 * 4096);
}

#[test]
fn frames_gather_while_others_are_under_way() {
    let mut writer = writer(0);
    let opening = writer.next_write(&pool(), Time(0), 0).unwrap();
    writer.written(opening.id, Time(100_000));
    assert_eq!(writer.latency(), 100_000);
    let (head, data) = write(1, 4096);
    writer.push(head, data, Time(200_000));
    assert_eq!(writer.when(), Time(0));
    let first = writer.next_write(&pool(), Time(200_000), 0).unwrap();
    let (head, data) = write(2, 4096);
    writer.push(head, data, Time(210_000));
    assert_eq!(writer.when(), Time(235_000));
    assert!(writer.next_write(&pool(), Time(234_999), 0).is_none());
    // Much data is worth a frame at once.
    let (head, data) = write(3, 256 << 10);
    writer.push(head, data, Time(220_000));
    let second = writer.next_write(&pool(), Time(220_000), 0).unwrap();
    assert_eq!(second.entries, 2);
    // Stable is what has no gap.
    assert!(!writer.written(second.id, Time(300_000)));
    assert_eq!(writer.stable(), (4096, Sequence(0)));
    assert!(writer.written(first.id, Time(300_000)) && !writer.written(99, Time(0)));
    assert_eq!(writer.stable(), (second.end, Sequence(3)));
}

#[test]
fn no_more_than_eight_are_under_way() {
    let mut writer = writer(0);
    next(&mut writer);
    for sequence in 1..=7 {
        give(&mut writer, sequence, 512);
        next(&mut writer);
    }
    give(&mut writer, 8, 512);
    assert_eq!((writer.flying(), writer.when()), (8, Time::NEVER));
    assert!(writer.next_write(&pool(), Time(u64::MAX - 1), 0).is_none());
}

#[test]
fn a_frame_that_does_not_fit_before_the_end_is_put_behind_padding() {
    let len = layout().data_len;
    let mut writer = writer(5 * len - 12288);
    let opening = next(&mut writer);
    assert_eq!(opening.end, 5 * len - 8192);
    give(&mut writer, 1, 8192);
    give(&mut writer, 2, 512);
    let padding = next(&mut writer);
    assert_eq!((padding.end, padding.data.len_bytes(), padding.entries), (5 * len, 4096, 0));
    let frame = next(&mut writer);
    assert_eq!((frame.offset, frame.at, frame.entries), (5 * len, layout().data_at, 2));
    // What fits is put before it.
    let mut writer = self::writer(5 * len - 12288);
    next(&mut writer);
    give(&mut writer, 1, 512);
    give(&mut writer, 2, 8192);
    assert_eq!(next(&mut writer).end, 5 * len);
    assert_eq!(next(&mut writer).offset, 5 * len);
}

#[test]
fn full_is_said_and_ends_when_space_is_freed() {
    let mut writer = writer(0);
    let mut frames = vec![next(&mut writer)];
    let mut sequence = 1;
    while !writer.is_full() {
        give(&mut writer, sequence, 64 << 10);
        sequence += 1;
        if let Some(frame) = writer.next_write(&pool(), Time(u64::MAX - 1), 0) {
            frames.push(frame);
        }
        while writer.flying() > 6 {
            writer.written(frames.remove(0).id, Time(0));
        }
    }
    assert!(writer.free() < writer.needs() && writer.free() >= writer.reserve());
    assert_eq!(writer.waiting().0, 1);
    let free = writer.needs() - writer.free();
    writer.set_out(free - 1);
    assert!(writer.next_write(&pool(), Time(u64::MAX - 1), 0).is_none() && writer.is_full());
    for frame in frames.drain(..) {
        writer.written(frame.id, Time(0));
    }
    writer.set_out(free.next_multiple_of(4096));
    // Nothing that is not stable is ever freed.
    assert!(next(&mut writer).entries == 1 && !writer.is_full());
    writer.set_out(u64::MAX);
    assert_eq!(writer.out(), writer.stable().0);
    give(&mut writer, sequence, 4096);
    give(&mut writer, sequence + 2, 4096);
    let given: Vec<_> = writer.take_waiting().into_iter().map(|(head, _)| head.sequence.0).collect();
    assert_eq!(given, [sequence, sequence + 2]);
    assert!(!writer.has_waiting());
}

#[test]
fn without_pages_nothing_changes() {
    use kagami_memory::{Arena, ArenaPlan, HugePages};
    let plan = ArenaPlan::new(1).with(Class::Page, 2, 0);
    let small = Arena::new(plan, HugePages::Off).unwrap().pool(0);
    let mut writer = writer(0);
    let opening = writer.next_write(&small, Time(0), 0).unwrap();
    let other = small.take(Class::Page, Purpose::Internal).unwrap();
    give(&mut writer, 1, 4096);
    assert!(writer.next_write(&small, Time(u64::MAX - 1), 0).is_none());
    assert!(!writer.is_full() && writer.waiting().0 == 1);
    drop((other, opening));
    assert_eq!(writer.next_write(&small, Time(u64::MAX - 1), 0).unwrap().entries, 1);
}

/// The frames of some entries, one after another, and the entries.
fn frames(seed: u64, count: u64) -> (Vec<u8>, Vec<(EntryHead, Vec<u8>)>) {
    let mut random = Random(seed);
    let mut writer = writer(0);
    let opening = next(&mut writer);
    writer.written(opening.id, Time(0));
    let (mut bytes, mut entries) = (opening.data.to_vec(), Vec::new());
    for sequence in 1..=count {
        let (head, data) = any_entry(&mut random, sequence, 20 << 10);
        writer.push(head, scatter(&data), Time(0));
        entries.push((head, data));
        if random.chance(40) || sequence == count {
            let frame = next(&mut writer);
            bytes.extend(frame.data.to_vec());
            writer.written(frame.id, Time(0));
        }
    }
    (bytes, entries)
}

fn parser() -> Parser {
    let expect = Expect { epoch: Epoch(0xe1), previous: None, next: Some(Sequence(1)) };
    Parser::expecting(GROUP, layout(), 0, expect)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_parsed_however_it_is_cut(
        seed: u64, count in 1u64..30, cuts in prop::collection::vec(100usize..40_000, 1..9),
    ) {
        let (bytes, entries) = frames(seed, count);
        let whole = scatter(&bytes);
        let mut parser = parser();
        let (mut at, mut cut) = (0, 0);
        let mut found = Vec::new();
        while at < bytes.len() {
            let end = (at + cuts[cut % cuts.len()]).min(bytes.len());
            prop_assert_eq!(parser.wants(), at as u64);
            let wrong = parser.push(at as u64 + 1, Scatter::new());
            prop_assert_eq!(wrong, Err(ParseError::NotNext { given: at as u64 + 1, wanted: at as u64 }));
            let mut part = Scatter::new();
            part.push_range(&whole, at, end - at);
            parser.push(at as u64, part).unwrap();
            while let Some(frame) = parser.next() {
                let frame = frame.unwrap();
                prop_assert_eq!(frame.new_epoch, frame.head.offset == 0);
                prop_assert_eq!(frame.end(), parser.at());
                found.extend(frame.entries);
            }
            (at, cut) = (end, cut + 1);
        }
        prop_assert_eq!(parser.at().offset, bytes.len() as u64);
        prop_assert_eq!(found.len(), entries.len());
        for ((head, data), (given, bytes)) in found.iter().zip(&entries) {
            let filled = EntryHead { data_at: head.data_at, data_crc: head.data_crc, ..*given };
            prop_assert!(*head == filled && *data == bytes[..]);
        }
    }

    #[test]
    fn damage_is_seen_before_anything_behind_it(seed: u64, count in 1u64..12, at: prop::sample::Index, bit in 0u8..8) {
        let (mut bytes, entries) = frames(seed, count);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut parser = parser();
        parser.push(0, scatter(&bytes)).unwrap();
        let mut found = Vec::new();
        let error = loop {
            match parser.next() {
                Some(Ok(frame)) => found.extend(frame.entries),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        // Only what fills a frame up to 4 KiB is not covered.
        for ((head, data), (_, given)) in found.iter().zip(&entries) {
            prop_assert!(*data == given[..], "{head:?}");
        }
        prop_assert!(error.is_some() || found.len() == entries.len());
        if let Some(error) = error {
            prop_assert!(parser.at().offset <= at as u64);
            let again = parser.next().and_then(Result::err);
            prop_assert_eq!(again, Some(error));
        }
    }

    #[test]
    fn any_bytes_are_borne(seed: u64, sealed: bool, len in 0usize..9000) {
        let mut bytes = Random(seed).bytes(len);
        for byte in bytes.iter_mut().step_by(3) {
            *byte = 0;
        }
        if sealed && len >= 4096 {
            bytes[..6].copy_from_slice(b"KAGF\x01\0");
            bytes[6] = u8::try_from(seed % 4).unwrap();
            bytes[96..100].fill(0);
            let crc = crc::crc32c(&bytes[..124]);
            bytes[124..128].copy_from_slice(&crc.to_le_bytes());
            prop_assert!(!matches!(FrameHead::decode(&bytes), HeadFound::Newer) || bytes[7] != 0 || seed % 4 == 0);
        }
        let mut parser = parser();
        parser.push(0, scatter(&bytes)).unwrap();
        prop_assert!(parser.next().is_none_or(|frame| frame.is_err()));
    }
}

#[test]
fn frames_that_do_not_belong_are_told_apart() {
    let (bytes, _) = frames(1, 1);
    let first = |expect: Expect, group, layout, at| {
        let mut parser = Parser::expecting(group, layout, at, expect);
        parser.push(at, scatter(&bytes)).unwrap();
        parser.next().unwrap().err()
    };
    let good = Expect { epoch: Epoch(0xe1), previous: None, next: None };
    assert_eq!(first(good, GROUP, layout(), 0), None);
    assert_eq!(first(Expect { epoch: Epoch(0xe2), ..good }, GROUP, layout(), 0), None);
    let other = Expect { epoch: Epoch(0xe3), ..good };
    assert_eq!(first(other, GROUP, layout(), 0), Some(ParseError::OtherEpoch { at: 0, epoch: Epoch(0xe2) }));
    let other = Uuid::from_u128(1);
    assert_eq!(first(good, other, layout(), 0), Some(ParseError::OtherGroup(0)));
    let round = layout().data_len;
    assert_eq!(first(good, GROUP, layout(), round), Some(ParseError::OtherPlace { at: round, says: 0 }));
    let gap = Expect { previous: Some(4), ..good };
    assert_eq!(first(gap, GROUP, layout(), 0), Some(ParseError::Gap(0)));
    let gap = Expect { next: Some(Sequence(2)), ..good };
    assert_eq!(first(gap, GROUP, layout(), 0), Some(ParseError::Gap(0)));
}
