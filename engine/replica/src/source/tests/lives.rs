//! Lives of a primary one after another: a device that loses and tears what was not stable, volumes that lose what was not
//! flushed, a reader that confirms what it has. After each crash: what was told to be stable is there, nothing is freed
//! that the reader lacks, replay brings every volume to the last sequence, and the bits cover what the reader lacks.

use super::*;
use kagami_journal::{Found, Recovery, RecoveryPlan, Replay, SUPERBLOCK_PLACES, Verdict, Wanted};
use std::collections::{BTreeMap, VecDeque};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

/// 4 KiB blocks of a volume, each with the sequence that wrote it.
#[derive(Clone, Default)]
struct Volume {
    seen: BTreeMap<u64, u64>,
    flushed: BTreeMap<u64, u64>,
}

struct Primary {
    random: Random,
    desk: Desk,
    layout: Layout,
    device: Vec<u8>,
    /// Writes that were asked for and are not done: tag, place, data; whether they belong to the superblock.
    writes: Vec<(u64, u64, Vec<u8>)>,
    superblock: Superblock,
    /// What was asked to be saved, until it is written.
    saving: Option<(u64, Superblock)>,
    volumes: [Volume; 2],
    /// Every entry that came, by sequence: volume, block.
    entries: BTreeMap<u64, (usize, u64)>,
    /// The highest sequence that each front was told, and has put into its store.
    told: u64,
    next: u64,
    reader: JournalPos,
    reader_sequence: u64,
    epoch: u64,
    wraps: u64,
    full: u64,
}

fn place_of(volume: u8) -> usize {
    usize::from(volume / 2)
}

impl Primary {
    fn new(seed: u64) -> Self {
        let layout = layout(256 << 10);
        let mut superblock = Superblock::new(Uuid::from_u128(1), GROUP, layout, Epoch(1));
        superblock.version = 1;
        let mut device = vec![0; usize::try_from(layout.bytes).unwrap()];
        device[4096..8192].copy_from_slice(&superblock.encode());
        Self {
            random: Random(seed),
            desk: Desk::default(),
            layout,
            device,
            writes: Vec::new(),
            superblock,
            saving: None,
            volumes: Default::default(),
            entries: BTreeMap::new(),
            told: 0,
            next: 1,
            reader: JournalPos { epoch: Epoch(1), offset: 0 },
            reader_sequence: 0,
            epoch: 1,
            wraps: 0,
            full: 0,
        }
    }

    fn read(&self, at: u64, len: u32) -> Scatter {
        let at = usize::try_from(at).unwrap();
        bytes(&self.device[at..at + len as usize])
    }

    /// As after a power failure: what was under way is there in any part.
    fn crash(&mut self) {
        for (_, at, data) in std::mem::take(&mut self.writes) {
            if at == u64::MAX {
                continue;
            }
            for (block, part) in data.chunks(4096).enumerate() {
                let at = usize::try_from(at).unwrap() + block * 4096;
                match self.random.below(3) {
                    0 => self.device[at..at + 4096].copy_from_slice(part),
                    1 => {
                        let cut = self.random.index(8) * 512;
                        self.device[at..at + cut].copy_from_slice(&part[..cut]);
                    }
                    _ => {}
                }
            }
        }
        for volume in &mut self.volumes {
            // Of what was not flushed any part is there.
            let seen = std::mem::take(&mut volume.seen);
            for (block, sequence) in seen {
                if self.random.below(2) == 0 {
                    volume.flushed.insert(block, sequence);
                }
            }
            volume.seen = volume.flushed.clone();
        }
        self.saving = None;
        self.desk = Desk { now: self.desk.now, ..Desk::default() };
    }

    /// What the sequences up to `last` make of a volume.
    fn wanted(&self, volume: usize, last: u64) -> BTreeMap<u64, u64> {
        let of = self.entries.range(..=last).filter(|(_, entry)| entry.0 == volume);
        of.map(|(sequence, entry)| (entry.1, *sequence)).collect()
    }

    fn start(&mut self) -> Source {
        let places = SUPERBLOCK_PLACES.map(|at| usize::try_from(at).unwrap());
        let [first, second] = places.map(|at| &self.device[at..at + 4096]);
        let Found::Ours(superblock, _) = Superblock::choose(first, second) else { panic!("no superblock") };
        assert!(superblock.version >= self.superblock.version);
        self.superblock = *superblock;
        let mut recovery =
            Recovery::new(RecoveryPlan::of(&self.superblock, self.reader.offset, &[1 << 12; 3]));
        while let Some(wanted) = recovery.next_wanted() {
            match wanted {
                Wanted::Flush => recovery.on_flushed(true),
                Wanted::Read { at, len } => {
                    recovery.on_read(Some(self.read(at, len)), &pool());
                }
            }
        }
        let found = recovery.into_result().unwrap();
        assert_eq!(found.verdict, Verdict::End, "{found:?} {}", self.told);
        assert!(found.sequence.0 >= self.told && found.end.offset >= self.reader.offset);
        // The volumes, from what was left of them.
        let mut replay = Replay::new(GROUP, self.layout, found.replay, found.end.offset);
        let mut last = 0;
        while let Some((at, len)) = replay.next_read() {
            replay.on_read(self.read(at, len)).unwrap();
            while let Some(frame) = replay.next() {
                for (head, data) in frame.unwrap().entries {
                    last = head.sequence.0;
                    let (volume, block) = self.entries[&last];
                    assert_eq!((place_of(head.volume), head.bytes().0 / 4096), (volume, block));
                    assert_eq!(data.to_vec(), last.to_le_bytes().repeat(512));
                    self.volumes[volume].seen.insert(block, last);
                }
            }
        }
        assert!(last == 0 || last == found.sequence.0);
        for (number, volume) in self.volumes.iter().enumerate() {
            assert!(volume.seen == self.wanted(number, found.sequence.0), "volume {number}");
        }
        self.entries.split_off(&(found.sequence.0 + 1));
        (self.next, self.told) = (found.sequence.0 + 1, found.sequence.0);
        self.epoch += 1;
        let plan =
            SourcePlan::recovered(&self.superblock, &found, Epoch(self.epoch), volumes(), Duration::ZERO);
        let source = self.desk.with(|cx| Source::begin(plan, cx));
        self.check(&source);
        source
    }

    /// What the reader lacks is in the bits, and in the journal.
    fn check(&self, source: &Source) {
        let bits = source.unconfirmed();
        for (volume, block) in self.entries.range(self.reader_sequence + 1..).map(|(_, entry)| entry) {
            let volume = if *volume == 0 { 0 } else { 2 };
            assert!(bits[volume].contains(block * 4096 / GRANULE));
        }
        assert!(source.readable().0 <= self.reader.offset);
    }

    fn take_actions(&mut self) {
        while let Some(action) = self.desk.actions.pop() {
            match action {
                Action::Journal { tag, op: DeviceOp::Flush } => self.writes.push((tag, 0, Vec::new())),
                Action::Journal { tag, op: DeviceOp::Write { at, data, .. } } => {
                    self.wraps += u64::from(at == self.layout.data_at);
                    self.writes.push((tag, at, data.to_vec()));
                }
                Action::Front(_, ToFront::Stable(sequence)) if sequence.0 > self.told => {
                    // The front puts them into its store at once.
                    for (sequence, (volume, block)) in self.entries.range(self.told + 1..=sequence.0) {
                        self.volumes[*volume].seen.insert(*block, *sequence);
                    }
                    self.told = sequence.0;
                }
                Action::Front(_, ToFront::Stable(_)) | Action::Event(_) => {}
                Action::Front(volume, ToFront::Apply { tag, .. }) => {
                    // A flush may fail, and then has done nothing.
                    let fails = self.random.below(4) == 0;
                    let volume = &mut self.volumes[place_of(volume.0)];
                    if !fails {
                        volume.flushed = volume.seen.clone();
                    }
                    self.writes.push((tag, u64::MAX, vec![u8::from(fails)]));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The reader reads some of what is stable, whole frames, and has it durably.
    fn read_on(&mut self, source: &mut Source) {
        let (_, stable) = source.readable();
        let mut parser = Parser::new(GROUP, self.layout, self.reader);
        let mut frames = VecDeque::new();
        while parser.wants() < stable {
            let at = parser.wants();
            let len = self.layout.until_wrap(at).min(stable - at);
            let data = self.read(self.layout.place(at), u32::try_from(len).unwrap());
            parser.push(at, data).unwrap();
            while let Some(frame) = parser.next() {
                frames.push_back(frame.unwrap());
            }
        }
        let count = self.random.index(frames.len() + 1);
        if let Some(frame) = count.checked_sub(1).and_then(|last| frames.get(last)) {
            self.reader = frame.end();
            self.reader_sequence = frame.head.last().0;
        }
    }

    fn live(&mut self, steps: u64) {
        let mut source = self.start();
        for _ in 0..steps {
            self.desk.now = self.desk.now + Duration::from_micros(self.random.below(200_000));
            match self.random.below(12) {
                0..3 => {
                    let count = 1 + self.random.below(4);
                    if source.writer.waiting().0 > 30 {
                        continue;
                    }
                    let mut new: Vec<u64> = (self.next..self.next + count).collect();
                    self.next += count;
                    while !new.is_empty() {
                        let at = self.random.index(new.len());
                        let sequence = new.swap_remove(at);
                        let (volume, block) = (self.random.index(2), self.random.below(400));
                        self.entries.insert(sequence, (volume, block));
                        let (index, change) =
                            if volume == 0 { (0, write(block * 8, 8)) } else { (2, write(block, 1)) };
                        let data = bytes(&sequence.to_le_bytes().repeat(512));
                        let sequence = Sequence(sequence);
                        assert!(self.desk.with(|cx| source.append(
                            cx,
                            VolumeIndex(index),
                            (sequence, Company::None),
                            &change,
                            data
                        )));
                    }
                }
                3..5 => self.desk.with(|cx| source.on_tick(cx)),
                5..10 if !self.writes.is_empty() => {
                    let at = self.random.index(self.writes.len());
                    let (tag, place, data) = self.writes.swap_remove(at);
                    if place == u64::MAX {
                        let result = if data == [1] { Err(BlockError::Device) } else { Ok(()) };
                        assert!(self.desk.with(|cx| source.on_applied(cx, tag, result)));
                        continue;
                    }
                    let from = usize::try_from(place).unwrap();
                    self.device[from..from + data.len()].copy_from_slice(&data);
                    if let Some((_, saved)) = self.saving.take_if(|(saving, _)| *saving == tag) {
                        let out = saved.out;
                        self.superblock = saved;
                        self.desk.with(|cx| source.saved(cx, out));
                    } else {
                        assert!(self.desk.with(|cx| source.on_device(cx, tag, Ok(Scatter::new()))));
                    }
                }
                10 => self.read_on(&mut source),
                _ => {
                    let reader = self.reader;
                    assert_eq!(self.desk.with(|cx| source.confirm(cx, reader)), Confirmed::Taken);
                }
            }
            self.take_actions();
            while let Some(event) = source.next_event() {
                match event {
                    SourceEvent::Save if self.saving.is_none() => {
                        let mut next = self.superblock.clone();
                        source.fill(&mut next);
                        next.version += 1;
                        let tag = self.desk.actions.tag(Owner::Group);
                        self.writes.push((tag, next.place(), next.encode().to_vec()));
                        self.saving = Some((tag, next));
                    }
                    SourceEvent::Full => self.full += 1,
                    SourceEvent::Failed(error) => panic!("{error}"),
                    _ => {}
                }
            }
            self.check(&source);
        }
        self.crash();
    }
}

#[test]
fn many_lives_of_a_primary() {
    let (mut wraps, mut full, mut entries) = (0, 0, 0);
    for seed in 0..16 {
        let mut primary = Primary::new(seed);
        for _ in 0..12 {
            let steps = primary.random.below(500);
            primary.live(steps);
        }
        primary.start();
        wraps += primary.wraps;
        full += primary.full;
        entries += primary.next;
    }
    assert!(wraps > 20 && full > 0 && entries > 2500, "{wraps} {full} {entries}");
}
