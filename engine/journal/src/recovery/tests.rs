use super::*;
use crate::frame::EntryHead;
use crate::superblock::Superblock;
use crate::testing::{Device, GROUP, Random, any_entry, pool, scatter};
use crate::writer::{FrameWrite, Pushed, Writer};
use crate::{Replay, frame::FrameKind};
use kagami_types::{Time, Uuid};
use std::collections::BTreeMap;

#[test]
fn every_row_of_the_table() {
    let proofs = [Some(Proof::Superblock), Some(Proof::Reader), Some(Proof::LaterFrame)];
    for ending in Ending::ALL {
        let alone = match ending {
            Ending::Newer => Verdict::Newer,
            Ending::Gap => Verdict::Corrupt,
            Ending::Unreadable => Verdict::Unreadable,
            _ => Verdict::End,
        };
        assert_eq!(verdict(ending, None), alone, "{ending:?}");
        for proof in proofs {
            let wanted = if ending == Ending::Newer { Verdict::Newer } else { Verdict::Corrupt };
            assert_eq!(verdict(ending, proof), wanted, "{ending:?} {proof:?}");
        }
    }
}

/// A small journal.
fn layout() -> Layout {
    let least = match Layout::new(0, 0).unwrap_err() {
        crate::LayoutError::TooSmall { needed, .. } => needed,
        error => panic!("{error}"),
    };
    Layout::new(least, 0).unwrap()
}

fn recover(device: &mut Device, plan: RecoveryPlan) -> Recovered {
    recover_with(device, plan, &[])
}

/// The same, with places of the device that cannot be read.
fn recover_with(device: &mut Device, plan: RecoveryPlan, bad: &[u64]) -> Recovered {
    let mut recovery = Recovery::new(plan);
    while let Some(wanted) = recovery.next_wanted() {
        assert_eq!(recovery.next_wanted(), None);
        match wanted {
            Wanted::Flush => {
                device.flush();
                recovery.on_flushed(true);
            }
            Wanted::Read { at, len } => {
                let fails = bad.iter().any(|&bad| (at..at + u64::from(len)).contains(&bad));
                recovery.on_read((!fails).then(|| device.read(at, len)), &pool());
            }
        }
    }
    recovery.into_result().unwrap()
}

type History = BTreeMap<u64, (EntryHead, Vec<u8>)>;

fn same(given: &EntryHead, found: &EntryHead) -> bool {
    EntryHead { data_at: found.data_at, data_crc: found.data_crc, ..*given } == *found
}

/// Everything between two places, by replay.
fn replay(device: &Device, layout: Layout, from: JournalPos, end: u64) -> Vec<(EntryHead, Vec<u8>)> {
    let mut replay = Replay::new(GROUP, layout, from, end);
    let mut entries = Vec::new();
    while let Some((at, len)) = replay.next_read() {
        replay.on_read(device.read(at, len)).unwrap();
        while let Some(frame) = replay.next() {
            entries.extend(frame.unwrap().entries.into_iter().map(|(head, data)| (head, data.to_vec())));
        }
    }
    assert!(replay.is_done());
    assert_eq!(replay.at().offset, end);
    entries
}

/// One life of a journal after another on one device.
struct Life {
    random: Random,
    device: Device,
    layout: Layout,
    superblock: Superblock,
    /// What was written, by sequence; what a recovery dropped is taken out.
    history: History,
    /// The highest place and sequence that anybody was told to be stable.
    told: (u64, u64),
    now: u64,
    wraps: u64,
    lost: u64,
    frames: u64,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let layout = layout();
        let mut superblock = Superblock::new(Uuid::from_u128(7), GROUP, layout, Epoch(random.next()));
        let begin = random.below(8) * layout.data_len / 8 / 4096 * 4096 + (seed << 20);
        for place in
            [&mut superblock.stable, &mut superblock.out, &mut superblock.destaged, &mut superblock.confirmed]
        {
            *place = begin;
        }
        let mut device = Device::new(layout.bytes);
        // What was on the device before: noise, or the frames of another life.
        if random.chance(50) {
            let noise = random.bytes(usize::try_from(layout.data_len).unwrap());
            device.write_stable(layout.data_at, &noise);
        }
        let now = 0;
        let told = (begin, 0);
        Self {
            random,
            device,
            layout,
            superblock,
            history: History::new(),
            told,
            now,
            wraps: 0,
            lost: 0,
            frames: 0,
        }
    }

    fn begin(&mut self) -> Writer {
        let granules = [1 << 16; 3];
        let reader = if self.random.chance(30) { self.superblock.confirmed } else { 0 };
        let plan = RecoveryPlan::of(&self.superblock, reader, &granules);
        let found = recover(&mut self.device, plan);
        assert_eq!(found.verdict, Verdict::End, "{found:?} {:?}", self.told);
        assert!(
            found.end.offset >= self.told.0 && found.sequence.0 >= self.told.1,
            "{found:?} {:?}",
            self.told
        );
        // What is there is what was written, without a gap and nothing else.
        let out = JournalPos { epoch: self.superblock.out_epoch, offset: self.superblock.out };
        let entries = replay(&self.device, self.layout, out, found.end.offset);
        assert_eq!(entries.len() as u64, found.entries);
        let first = found.sequence.0 + 1 - found.entries;
        for (sequence, (head, data)) in (first..).zip(&entries) {
            let (given, bytes) = &self.history[&sequence];
            assert!(same(given, head), "{given:?} {head:?}");
            assert!(bytes == data);
            if found.end.offset > self.superblock.confirmed && sequence > self.superblock.sequence.0 {
                let (from, to) = head.bytes();
                let bits = &found.unconfirmed[usize::from(head.volume)];
                let to = to.div_ceil(crate::GRANULE).min(bits.len());
                assert!(bits.contains_range((from / crate::GRANULE).min(to), to));
            }
        }
        assert!(found.replay.offset <= self.superblock.destaged.max(out.offset));
        let again = replay(&self.device, self.layout, found.replay, found.end.offset);
        assert!(entries.ends_with(&again));
        self.lost += self.history.split_off(&(found.sequence.0 + 1)).len() as u64;
        self.told = (found.end.offset, found.sequence.0);
        let epochs = (Epoch(self.random.next()), found.end.epoch);
        let at = (found.end.offset, found.previous);
        Writer::new(GROUP, self.layout, epochs, at, found.sequence.next(), self.superblock.out)
    }

    fn save(&mut self, writer: &mut Writer, epoch_before: Epoch, out: u64) {
        let (stable, sequence) = writer.stable();
        let s = &mut self.superblock;
        (s.out, s.out_epoch) = (out, epoch_before);
        (s.stable, s.sequence) = (stable, sequence);
        (s.confirmed, s.destaged) = (out, out);
        s.destaged_sequence = sequence;
        s.version += 1;
        writer.set_out(out);
    }

    /// Writes until a crash.
    fn live(&mut self, steps: u64) {
        let mut writer = self.begin();
        let mut next = writer.next_sequence().0;
        let mut flying: Vec<FrameWrite> = Vec::new();
        let mut held: Vec<(EntryHead, Vec<u8>)> = Vec::new();
        for _ in 0..steps {
            self.now += self.random.below(1 << 20);
            let now = Time(self.now);
            match self.random.below(10) {
                0..4 if writer.waiting().0 < 40 => {
                    let (head, data) = any_entry(&mut self.random, next, 24 << 10);
                    next += 1;
                    self.history.insert(head.sequence.0, (head, data.clone()));
                    held.push((head, data));
                    // Entries of several cores come in another order.
                    while held.len() > 3 || (!held.is_empty() && self.random.chance(60)) {
                        let at = usize::try_from(self.random.below(held.len() as u64)).unwrap();
                        let (head, data) = held.swap_remove(at);
                        assert_eq!(writer.push(head, scatter(&data), now), Pushed::Taken);
                        assert_eq!(writer.push(head, scatter(&data), now), Pushed::Again);
                    }
                }
                4 => writer.say_stable(),
                5..8 => {
                    if let Some(frame) = writer.next_write(&pool(), now, self.now) {
                        self.frames += 1;
                        self.wraps += u64::from(frame.offset.is_multiple_of(self.layout.data_len));
                        self.device.write(frame.at, &frame.data.to_vec());
                        flying.push(frame);
                    }
                }
                8 if !flying.is_empty() => {
                    let at = usize::try_from(self.random.below(flying.len() as u64)).unwrap();
                    let frame = flying.swap_remove(at);
                    self.device.write_stable(frame.at, &frame.data.to_vec());
                    writer.written(frame.id, now);
                    self.told = (writer.stable().0, writer.stable().1.0);
                }
                _ => {
                    // All that is stable is confirmed and destaged, with its epoch; or nothing more is.
                    let opened = writer.stable().0 > self.told_begin(&writer);
                    if opened && self.random.chance(40) {
                        let (stable, epoch) = (writer.stable().0, writer.epoch());
                        self.save(&mut writer, epoch, stable);
                    }
                }
            }
        }
        let power = self.random.chance(70);
        self.device.crash(&mut self.random, power);
    }

    /// Where the writer's own epoch has certainly begun to be stable.
    fn told_begin(&self, writer: &Writer) -> u64 {
        if writer.stable().0 > self.superblock.stable { self.superblock.stable } else { u64::MAX }
    }
}

#[test]
fn many_lives_lose_nothing_and_make_nothing_up() {
    let (mut wraps, mut lost, mut frames) = (0, 0, 0);
    for seed in 0..12 {
        let mut life = Life::new(seed);
        for _ in 0..25 {
            let steps = life.random.below(260);
            life.live(steps);
        }
        life.begin();
        wraps += life.wraps;
        lost += life.lost;
        frames += life.frames;
    }
    assert!(wraps > 30 && lost > 150 && frames > 1500, "{wraps} {lost} {frames}");
}

/// A journal with some stable frames: the device, the superblock from before them, and where each begins.
fn some_frames(count: u64) -> (Device, Superblock, Vec<u64>, Writer) {
    let layout = layout();
    let superblock = Superblock::new(Uuid::from_u128(7), GROUP, layout, Epoch(5));
    let mut device = Device::new(layout.bytes);
    let mut writer = Writer::new(GROUP, layout, (Epoch(5), Epoch(5)), (0, 0), Sequence(1), 0);
    let mut random = Random(3);
    let mut places = Vec::new();
    for sequence in 0..count {
        if sequence > 0 {
            let (head, data) = any_entry(&mut random, sequence, 8192);
            writer.push(head, scatter(&data), Time(0));
        }
        let frame = writer.next_write(&pool(), Time(0), 0).unwrap();
        device.write_stable(frame.at, &frame.data.to_vec());
        writer.written(frame.id, Time(1));
        places.push(frame.offset);
    }
    (device, superblock, places, writer)
}

#[test]
fn rot_below_what_was_stable_is_corruption() {
    for rotten in 1..7usize {
        let (device, superblock, places, writer) = some_frames(8);
        let at = usize::try_from(superblock.layout.place(places[rotten])).unwrap();
        let mut bad = device.clone();
        bad.seen[at + 200] ^= 1;
        let granules = [1 << 16; 3];
        // A later frame knows that it was stable.
        let found = recover(&mut bad, RecoveryPlan::of(&superblock, 0, &granules));
        assert_eq!((found.verdict, found.proof), (Verdict::Corrupt, Some(Proof::LaterFrame)), "{rotten}");
        assert_eq!(found.ending, Ending::TornEntries);
        assert_eq!(found.end.offset, places[rotten]);
        // The superblock does, or the reader.
        let stable = Superblock { stable: writer.stable().0, ..superblock.clone() };
        let found = recover(&mut bad, RecoveryPlan::of(&stable, 0, &granules));
        assert_eq!((found.verdict, found.proof), (Verdict::Corrupt, Some(Proof::Superblock)));
        let found = recover(&mut bad, RecoveryPlan::of(&superblock, writer.stable().0, &granules));
        assert_eq!((found.verdict, found.proof), (Verdict::Corrupt, Some(Proof::Reader)));
    }
}

#[test]
fn the_last_frame_is_protected_by_one_that_says_so() {
    let (mut device, superblock, places, mut writer) = some_frames(4);
    let plan = RecoveryPlan::of(&superblock, 0, &[]);
    let last = usize::try_from(superblock.layout.place(places[3])).unwrap();
    let mut torn = device.clone();
    torn.seen[last + 130] ^= 1;
    assert_eq!(recover(&mut torn, plan.clone()).verdict, Verdict::End);
    assert!(writer.is_unsaid());
    writer.say_stable();
    assert_eq!(writer.when(), Time(0));
    let frame = writer.next_write(&pool(), Time(9), 0).unwrap();
    device.write_stable(frame.at, &frame.data.to_vec());
    writer.written(frame.id, Time(10));
    assert!(!writer.is_unsaid());
    let found = recover(&mut device, plan.clone());
    assert_eq!((found.verdict, found.end.offset, found.sequence), (Verdict::End, frame.end, Sequence(3)));
    device.seen[last + 130] ^= 1;
    let found = recover(&mut device, plan);
    assert_eq!((found.verdict, found.proof), (Verdict::Corrupt, Some(Proof::LaterFrame)));
}

#[test]
fn what_cannot_be_read_is_said_to_be_so() {
    let (mut device, superblock, places, writer) = some_frames(6);
    let layout = superblock.layout;
    let plan = RecoveryPlan::of(&superblock, 0, &[]);
    // In the middle: later frames know that it was stable. Behind the end: it could have been anything.
    let found = recover_with(&mut device, plan.clone(), &[layout.place(places[3])]);
    assert_eq!(
        (found.verdict, found.ending, found.proof),
        (Verdict::Corrupt, Ending::Unreadable, Some(Proof::LaterFrame))
    );
    let end = writer.stable().0;
    let found = recover_with(&mut device, plan.clone(), &[layout.place(end)]);
    assert_eq!((found.verdict, found.end.offset), (Verdict::Unreadable, end));
    // Further behind, nobody needs it.
    let found = recover_with(&mut device, plan.clone(), &[layout.place(end + 8192)]);
    assert_eq!((found.verdict, found.end.offset), (Verdict::End, end));
    let mut recovery = Recovery::new(plan);
    assert_eq!(recovery.next_wanted(), Some(Wanted::Flush));
    recovery.on_flushed(false);
    assert_eq!(recovery.into_result().unwrap().verdict, Verdict::Unreadable);
}

#[test]
fn frames_of_dropped_epochs_at_the_very_place_are_not_taken() {
    // Epoch 5 has frames at 0, A, B; the one at A is torn, B is whole. Epoch 6 opens at A, and is as long as the torn one.
    let layout = layout();
    let mut device = Device::new(layout.bytes);
    let superblock = Superblock::new(Uuid::from_u128(7), GROUP, layout, Epoch(5));
    let mut writer = Writer::new(GROUP, layout, (Epoch(5), Epoch(4)), (0, 0), Sequence(1), 0);
    let mut frames = Vec::new();
    for sequence in 0..3 {
        if sequence > 0 {
            let head = EntryHead::plain(Sequence(sequence), 0, crate::EntryKind::Nothing, 0);
            writer.push(head, Scatter::new(), Time(0));
        }
        frames.push(writer.next_write(&pool(), Time(u64::MAX), 0).unwrap());
    }
    device.write_stable(frames[0].at, &frames[0].data.to_vec());
    device.write_stable(frames[2].at, &frames[2].data.to_vec());
    let plan = RecoveryPlan::of(&superblock, 0, &[]);
    let found = recover(&mut device, plan.clone());
    assert_eq!(
        (found.verdict, found.end.offset, found.ending),
        (Verdict::End, frames[1].offset, Ending::Nothing)
    );
    let mut writer =
        Writer::new(GROUP, layout, (Epoch(6), Epoch(5)), (found.end.offset, found.previous), Sequence(1), 0);
    let opening = writer.next_write(&pool(), Time(0), 0).unwrap();
    assert_eq!(opening.end, frames[2].offset);
    device.write_stable(opening.at, &opening.data.to_vec());
    let found = recover(&mut device, plan);
    assert_eq!(found.end, JournalPos { epoch: Epoch(6), offset: opening.end });
    assert_eq!((found.verdict, found.ending), (Verdict::End, Ending::OtherEpoch));
    assert_eq!(found.epochs, [(opening.offset, Epoch(6))]);
}

#[test]
fn a_later_format_is_not_touched() {
    let (mut device, superblock, places, _) = some_frames(3);
    let at = usize::try_from(superblock.layout.place(places[2])).unwrap();
    device.seen[at + 4] = 9;
    let crc = crate::crc32c(&device.seen[at..at + 124]);
    device.seen[at + 124..at + 128].copy_from_slice(&crc.to_le_bytes());
    let found = recover(&mut device, RecoveryPlan::of(&superblock, 0, &[]));
    assert_eq!((found.verdict, found.ending), (Verdict::Newer, Ending::Newer));
}

#[test]
fn a_full_round_ends_where_it_began() {
    let (mut device, superblock, _, mut writer) = some_frames(1);
    let layout = superblock.layout;
    let mut sequence = 1;
    // Only the reserve keeps a round from being whole; the swap's entry may take it.
    while writer.free() > 0 {
        let kind =
            if writer.free() > writer.reserve() + 4096 { FrameKind::Entries } else { FrameKind::Opening };
        let kind =
            if kind == FrameKind::Entries { crate::EntryKind::Nothing } else { crate::EntryKind::Swap };
        writer.push(EntryHead::plain(Sequence(sequence), 0, kind, 0), Scatter::new(), Time(0));
        sequence += 1;
        let frame = writer.next_write(&pool(), Time(0), 0).unwrap();
        device.write_stable(frame.at, &frame.data.to_vec());
        writer.written(frame.id, Time(0));
    }
    let found = recover(&mut device, RecoveryPlan::of(&superblock, 0, &[]));
    assert_eq!((found.verdict, found.ending), (Verdict::End, Ending::Whole));
    let place = found.index.by_sequence(Sequence(20)).unwrap();
    assert_eq!((place.sequence, place.at.offset), (Sequence(20), 21 * 4096));
    assert_eq!((found.end.offset, found.sequence), (layout.data_len, Sequence(sequence - 1)));
}

/// Some frames, of which those up to the sixth are destaged, with its last sequence.
fn half_destaged() -> (Device, Superblock, Vec<u64>, Writer) {
    let (device, superblock, places, writer) = some_frames(9);
    let superblock = Superblock {
        destaged: places[6],
        destaged_sequence: Sequence(5),
        stable: writer.stable().0,
        sequence: writer.stable().1,
        ..superblock
    };
    (device, superblock, places, writer)
}

/// Where the data of the frame at that place begin on the device, and a block that is nothing but data.
fn data_of(device: &Device, layout: Layout, place: u64) -> Option<u64> {
    let at = layout.place(place);
    let head = match FrameHead::decode(&device.read(at, 4096).to_vec()) {
        HeadFound::Head(head, _) => head,
        _ => panic!("no frame"),
    };
    (head.len > head.header_len).then(|| at + u64::from(head.header_len))
}

#[test]
fn damaged_data_that_the_volumes_have_do_not_matter_here() {
    let (device, superblock, places, writer) = half_destaged();
    let plan = RecoveryPlan::of(&superblock, 0, &[1 << 16; 3]);
    let whole = recover(&mut device.clone(), plan.clone());
    let mut tried = 0;
    for (number, &place) in places.iter().enumerate().skip(1) {
        let Some(at) = data_of(&device, superblock.layout, place) else { continue };
        let mut bad = device.clone();
        bad.seen[usize::try_from(at).unwrap()] ^= 1;
        let found = [recover(&mut bad, plan.clone()), recover_with(&mut device.clone(), plan.clone(), &[at])];
        for found in found {
            if number < 6 {
                assert_eq!((found.verdict, found.damaged), (Verdict::End, None), "{number}");
                assert_eq!((found.end, found.sequence), (whole.end, whole.sequence));
                assert_eq!((&found.unconfirmed, found.replay), (&whole.unconfirmed, whole.replay));
            } else {
                assert_eq!((found.verdict, found.end.offset), (Verdict::Corrupt, place), "{number}");
            }
            tried += 1;
        }
    }
    assert!(tried > 6 && writer.stable().0 == whole.end.offset, "{tried}");
}

#[test]
fn where_heads_are_damaged_recovery_goes_on_at_what_the_volumes_lack() {
    let (device, superblock, places, writer) = half_destaged();
    let layout = superblock.layout;
    let plan = RecoveryPlan::of(&superblock, 0, &[1 << 16; 3]);
    let at = |place: u64| usize::try_from(layout.place(place)).unwrap();
    for (number, &place) in places.iter().enumerate().take(6) {
        let mut torn = device.clone();
        torn.seen[at(place) + 3] ^= 1;
        let found = [
            recover(&mut torn, plan.clone()),
            recover_with(&mut device.clone(), plan.clone(), &[layout.place(place)]),
        ];
        for found in found {
            assert_eq!((found.verdict, found.damaged), (Verdict::End, Some(place)), "{number}");
            assert_eq!((found.end.offset, found.sequence), writer.stable());
            assert_eq!((found.replay.offset, found.previous), (places[6], places[8]));
            assert!(found.unconfirmed.iter().all(|bits| bits.count() == bits.len()));
            let again = replay(&device, layout, found.replay, found.end.offset);
            assert_eq!(again.first().map(|(head, _)| head.sequence), Some(Sequence(6)));
        }
    }
    // Twice: what is behind must be there.
    let mut torn = device.clone();
    torn.seen[at(places[2])] ^= 1;
    torn.seen[at(places[7]) + 8] ^= 1;
    let found = recover(&mut torn, plan.clone());
    assert_eq!((found.verdict, found.end.offset), (Verdict::Corrupt, places[7]));
    // Nothing was behind it: the end is there. Unless it cannot be read.
    let mut torn = device.clone();
    torn.seen[at(places[2])] ^= 1;
    let last = Superblock { stable: places[6], sequence: Sequence(5), ..superblock.clone() };
    for place in &places[6..] {
        torn.seen[at(*place)..at(*place) + 4096].fill(0);
    }
    let found = recover(&mut torn, RecoveryPlan::of(&last, 0, &[]));
    assert_eq!((found.verdict, found.end.offset, found.sequence), (Verdict::End, places[6], Sequence(5)));
    let found = recover_with(&mut torn, RecoveryPlan::of(&last, 0, &[]), &[layout.place(places[6])]);
    assert_eq!((found.verdict, found.end.offset), (Verdict::Unreadable, places[6]));
    // A later format is never gone past.
    let mut newer = device.clone();
    let at = at(places[2]);
    newer.seen[at + 4] = 9;
    let crc = crate::crc32c(&newer.seen[at..at + 124]);
    newer.seen[at + 124..at + 128].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(recover(&mut newer, plan).verdict, Verdict::Newer);
}

#[test]
fn an_epoch_that_opens_at_what_the_volumes_lack_is_known_by_its_parent() {
    let (mut device, superblock, places, writer) = half_destaged();
    let layout = superblock.layout;
    let end = writer.stable();
    let epochs = (Epoch(6), Epoch(5));
    let mut next = Writer::new(GROUP, layout, epochs, (end.0, places[8]), end.1.next(), 0);
    let frame = next.next_write(&pool(), Time(0), 0).unwrap();
    device.write_stable(frame.at, &frame.data.to_vec());
    device.seen[usize::try_from(layout.place(places[3])).unwrap()] ^= 1;
    let superblock = Superblock {
        destaged: end.0,
        destaged_sequence: end.1,
        epoch: Epoch(6),
        parents: vec![Epoch(5)],
        stable: frame.end,
        ..superblock
    };
    let found = recover(&mut device, RecoveryPlan::of(&superblock, 0, &[]));
    assert_eq!((found.verdict, found.end), (Verdict::End, JournalPos { epoch: Epoch(6), offset: frame.end }));
    assert_eq!((found.replay.epoch, found.epochs.as_slice()), (Epoch(5), &[(end.0, Epoch(6))][..]));
}
