//! A sink between a primary that is a model, an own journal that tears, and volumes that lose what was not flushed.

use super::super::*;
use crate::action::{Action, DeviceOp, FarOp, FarUnit};
use crate::context::{Actions, Context};
use crate::mail::ToFront;
use kagami_journal::{EntryHead, EntryKind, GRANULE, Layout, Writer};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_types::{BlockOp, BlockSize, Epoch, Uuid};
use std::sync::OnceLock;

pub const GROUP: Uuid = Uuid::from_u128(7);
pub const VOLUMES: usize = 2;
/// Blocks of 512 bytes: 20 granules and a bit.
pub const BLOCKS: u64 = 20 * 128 + 24;
const BYTES: usize = BLOCKS as usize * 512;

pub fn pool() -> Pool {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    let make = || Arena::new(ArenaPlan::new(1).with(Class::Page, 24_000, 0), HugePages::Off).unwrap();
    ARENA.get_or_init(make).pool(0)
}

pub fn scatter(bytes: &[u8]) -> Scatter {
    let mut list = ScatterMut::take(&pool(), Purpose::Internal, bytes.len()).unwrap();
    list.copy_from(0, bytes);
    list.freeze()
}

/// Numbers that look random and come from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below.max(1)
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.roll(times) == 0
    }
}

pub type Images = Vec<Vec<u8>>;

/// How often what goes wrong: once in so many; 0 for never.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub far_lost: u64,
    pub far_bad: u64,
    pub busy: u64,
    /// Longer reads are refused; 0: none.
    pub longest: u32,
    /// This byte of volume 0 of the primary cannot be read; 0: all can.
    pub bad_byte: u64,
}

/// The primary: its journal, its volumes, and all that was written.
pub struct Far {
    pub writer: Writer,
    layout: Layout,
    pub device: Vec<u8>,
    pub volumes: Images,
    pub base: Images,
    pub history: Vec<(EntryHead, Vec<u8>)>,
    pub clock: u64,
    /// Its page says that it does.
    pub journals: bool,
}

pub fn change(images: &mut Images, head: &EntryHead, data: &[u8]) {
    let (from, to) = head.bytes();
    let image = &mut images[usize::from(head.volume) % VOLUMES];
    match head.kind {
        EntryKind::Write => image[from as usize..to as usize].copy_from_slice(data),
        EntryKind::Same => {
            image[from as usize..to as usize].chunks_mut(512).for_each(|c| c.copy_from_slice(data))
        }
        EntryKind::Zero { .. } => image[from as usize..to as usize].fill(0),
        _ => {}
    }
}

impl Far {
    fn new(layout: Layout, dice: &mut Dice) -> Self {
        let mut volumes: Images = vec![vec![0; BYTES]; VOLUMES];
        for image in &mut volumes {
            for chunk in image.chunks_mut(GRANULE as usize / 2) {
                if !dice.one_in(2) {
                    let byte = dice.roll(255) as u8;
                    chunk.fill(byte);
                }
            }
        }
        let writer = Writer::new(GROUP, layout, (Epoch(1), Epoch(0)), (0, 0), Sequence(1), 0);
        Self {
            writer,
            layout,
            device: vec![0; layout.bytes as usize],
            base: volumes.clone(),
            volumes,
            history: Vec::new(),
            clock: 1_000_000,
            journals: true,
        }
    }

    /// A host writes. Nothing where the journal is full.
    pub fn append(&mut self, kind: EntryKind, volume: u8, lba: u64, blocks: u64, data: &[u8]) -> bool {
        if self.writer.free() < self.writer.reserve() + 64 * 1024 + data.len() as u64 {
            return false;
        }
        self.clock += 1000;
        let sequence = Sequence(self.history.len() as u64 + 1);
        let mut head = EntryHead::plain(sequence, self.clock, kind, data.len() as u32);
        (head.volume, head.shift, head.lba, head.blocks) = (volume, 9, lba, blocks);
        assert_eq!(self.writer.push(head, scatter(data), Time(0)), kagami_journal::Pushed::Taken);
        self.history.push((head, data.to_vec()));
        change(&mut self.volumes, &head, data);
        true
    }

    pub fn any(&mut self, dice: &mut Dice) -> bool {
        let volume = dice.roll(VOLUMES as u64) as u8;
        let lba = dice.roll(BLOCKS - 130);
        let blocks = 1 + dice.roll(16);
        match dice.roll(12) {
            0 => self.append(EntryKind::Zero { unmap: dice.one_in(2) }, volume, lba, 1 + dice.roll(130), &[]),
            1 => self.append(EntryKind::Same, volume, lba, 1 + dice.roll(130), &[dice.roll(256) as u8; 512]),
            2 => self.append(EntryKind::Nothing, volume, 0, 0, &[]),
            3 => self.append(EntryKind::Marker, 0, 0, 0, format!("m{}", self.history.len()).as_bytes()),
            _ => {
                let data: Vec<u8> = (0..blocks * 512).map(|_| dice.roll(256) as u8).collect();
                self.append(EntryKind::Write, volume, lba, blocks, &data)
            }
        }
    }

    /// Writes frames. `all`: until nothing waits.
    pub fn commit(&mut self) {
        while let Some(frame) = self.writer.next_write(&pool(), Time(u64::MAX), self.clock) {
            let bytes = frame.data.to_vec();
            self.device[frame.at as usize..][..bytes.len()].copy_from_slice(&bytes);
            self.writer.written(frame.id, Time(0));
        }
    }

    /// It crashes and recovers: everything was stable.
    pub fn restart(&mut self, epoch: u64) {
        self.commit();
        let (at, last) = self.writer.stable();
        let old = self.writer.epoch();
        self.writer =
            Writer::new(GROUP, self.layout, (Epoch(epoch), old), (at, at), last.next(), self.writer.out());
        self.commit();
    }

    pub fn view(&self) -> FarView {
        let (stable, stable_sequence) = self.writer.stable();
        FarView {
            epoch: self.writer.epoch(),
            stable,
            stable_sequence,
            out: self.writer.out(),
            clock: self.clock,
            newest: self.history.last().map_or(0, |entry| entry.0.time),
            journals: self.journals,
        }
    }

    /// The volumes as they were after that sequence.
    pub fn at(&self, sequence: Sequence) -> Images {
        let mut images = self.base.clone();
        for (head, data) in &self.history[..sequence.0 as usize] {
            change(&mut images, head, data);
        }
        images
    }
}

enum Job {
    Device(u64, DeviceOp),
    Far(u64, FarUnit, FarOp),
    Apply(u64, VolumeIndex, BlockOp, Scatter, Option<Vec<u8>>),
    Page,
    Confirm(u64),
    Save(Places),
    Bits(VolumeIndex, Vec<(u64, u64)>),
}

pub struct World {
    pub dice: Dice,
    pub faults: Faults,
    pub layout: Layout,
    pub now: Time,
    pub far: Far,
    pub sink: Sink,
    actions: Actions,
    jobs: Vec<Job>,
    /// The own journal: what is there now, and what would survive.
    pub journal: Vec<u8>,
    pub volumes: Images,
    pub flushed: Images,
    /// The superblock.
    pub places: Places,
    pub bits: Vec<Bits>,
    pub forming: bool,
    pub options: SinkOptions,
    pub drive: Drive,
    pub events: Vec<SinkEvent>,
    /// Confirmed to the primary.
    pub confirmed: u64,
}

fn span(op: &BlockOp) -> (u64, u64) {
    match op {
        BlockOp::Write(range, _) => (range.lba.0, range.lba.0 + u64::from(range.blocks)),
        BlockOp::WriteSame { lba, blocks, .. } => (lba.0, lba.0 + blocks.0),
        _ => (0, u64::MAX),
    }
}

/// One that never does anything.
fn nobody(layout: Layout, places: Places) -> Sink {
    let plan = SinkPlan {
        group: GROUP,
        layout,
        volumes: Vec::new(),
        places,
        to_copy: Vec::new(),
        forming: false,
        drive: Drive::Host,
        options: SinkOptions::default(),
    };
    let (pool, mut actions) = (pool(), Actions::default());
    let mut cx = Context { now: Time(0), wall: 0, pool: &pool, actions: &mut actions, random: &mut || 5 };
    Sink::begin(&mut cx, plan)
}

impl World {
    pub fn new(seed: u64, forming: bool) -> Self {
        let mut dice = Dice::new(seed);
        let data = (256 << 10) + 4096 * dice.roll(40);
        let layout = Layout::new(4 << 20, BYTES as u64 * 2).unwrap().with_data_len(data).unwrap();
        let mut far = Far::new(layout, &mut dice);
        far.commit();
        let bits: Vec<Bits> = (0..VOLUMES)
            .map(|_| {
                let mut bits = Bits::for_volume(BYTES as u64);
                if forming {
                    bits.set_all();
                }
                bits
            })
            .collect();
        let volumes = if forming { vec![vec![0xee; BYTES]; VOLUMES] } else { far.base.clone() };
        let options = SinkOptions::default();
        let places = Places::starting(Epoch(0), 0, Sequence::ZERO);
        let mut world = Self {
            faults: Faults::default(),
            layout,
            now: Time(1_000_000_000),
            sink: nobody(layout, places),
            far,
            actions: Actions::default(),
            jobs: Vec::new(),
            journal: vec![0; layout.bytes as usize],
            flushed: volumes.clone(),
            volumes,
            places,
            bits,
            forming,
            options,
            drive: Drive::Poller,
            events: Vec::new(),
            confirmed: 0,
            dice,
        };
        world.begin();
        world
    }

    fn make(&mut self) -> Sink {
        let volumes = (0..VOLUMES as u8)
            .map(|index| SinkVolume {
                index: VolumeIndex(index),
                blocks: BLOCKS,
                block_size: BlockSize::B512,
            })
            .collect();
        let to_copy =
            (0u8..).map(VolumeIndex).zip(self.bits.iter().cloned()).filter(|_| self.forming).collect();
        let plan = SinkPlan {
            group: GROUP,
            layout: self.layout,
            volumes,
            places: self.places,
            to_copy,
            forming: self.forming,
            drive: self.drive,
            options: self.options,
        };
        let (pool, actions) = (pool(), &mut self.actions);
        let mut cx = Context { now: self.now, wall: self.now.0, pool: &pool, actions, random: &mut || 5 };
        Sink::begin(&mut cx, plan)
    }

    /// Another sink on what is durable.
    pub fn begin(&mut self) {
        self.jobs.clear();
        self.sink = self.make();
        self.take();
    }

    /// Calls the sink, and takes what it wants.
    pub fn call<R>(&mut self, with: impl FnOnce(&mut Sink, &mut Context<'_>) -> R) -> R {
        let pool = pool();
        let mut cx = Context {
            now: self.now,
            wall: self.now.0,
            pool: &pool,
            actions: &mut self.actions,
            random: &mut || 5,
        };
        let result = with(&mut self.sink, &mut cx);
        self.take();
        result
    }

    fn take(&mut self) {
        while let Some(action) = self.actions.pop() {
            match action {
                Action::Journal { tag, op } => self.jobs.push(Job::Device(tag, op)),
                Action::Far { tag, unit, op } => self.jobs.push(Job::Far(tag, unit, op)),
                Action::Front(volume, ToFront::Apply { tag, op, data }) => {
                    let snapshot = matches!(op, BlockOp::Flush { .. })
                        .then(|| self.volumes[usize::from(volume.0)].clone());
                    self.jobs.push(Job::Apply(tag, volume, op, data, snapshot));
                }
                other => panic!("{other:?}"),
            }
        }
        while let Some(event) = self.sink.next_event() {
            match event {
                SinkEvent::Poll => self.jobs.push(Job::Page),
                SinkEvent::Confirm => {
                    let read = self.sink.durable().read.offset;
                    assert_eq!(self.sink.durable(), self.places, "only what is in the superblock is told");
                    self.check_journal();
                    self.jobs.push(Job::Confirm(read));
                }
                SinkEvent::Save(places) => self.jobs.push(Job::Save(places)),
                SinkEvent::RegionsDone(volume, runs) => self.jobs.push(Job::Bits(volume, runs)),
                other => self.events.push(other),
            }
        }
    }

    /// What is durable as read is in the own journal as the primary wrote it.
    fn check_journal(&self) {
        let Places { restored, read, .. } = self.places;
        let from = restored.offset.max(self.far.writer.out());
        for at in (from..read.offset).step_by(4096) {
            let place = self.layout.place(at) as usize;
            assert_eq!(self.journal[place..place + 128], self.far.device[place..place + 128], "at {at}");
        }
    }

    /// Something that was asked for happens, or time passes. Whether anything was there to do.
    pub fn step(&mut self) -> bool {
        self.now.0 += 1 + self.dice.roll(20_000);
        self.far.clock += 10;
        let due = self.sink.next_deadline();
        if due <= self.now && self.dice.one_in(2) {
            self.call(Sink::on_tick);
            return true;
        }
        if self.jobs.is_empty() {
            if due == Time::NEVER {
                return false;
            }
            self.now = self.now.max(due);
            self.call(Sink::on_tick);
            return true;
        }
        let mut at = self.dice.roll(self.jobs.len() as u64) as usize;
        // Overlapping ones in the order in which they came.
        while let Job::Apply(_, volume, op, ..) = &self.jobs[at] {
            let (volume, mine) = (*volume, span(op));
            let first = self.jobs.iter().position(|job| {
                matches!(job, Job::Apply(_, other, op, ..)
                    if *other == volume && span(op).0 < mine.1 && mine.0 < span(op).1)
            });
            match first {
                Some(first) if first < at => at = first,
                _ => break,
            }
        }
        let job = self.jobs.remove(at);
        self.run(job);
        true
    }

    fn run(&mut self, job: Job) {
        match job {
            Job::Page => {
                if self.dice.one_in(self.faults.far_lost) {
                    return self.call(Sink::on_page_failed);
                }
                let view = self.far.view();
                self.call(|sink, cx| sink.on_page(cx, &view));
            }
            Job::Confirm(read) => {
                let there = !self.dice.one_in(self.faults.far_lost);
                if there {
                    self.confirmed = self.confirmed.max(read);
                    self.far.writer.set_out(read);
                }
                self.call(|sink, cx| sink.on_confirmed(cx, there));
            }
            Job::Save(places) => {
                self.places = places;
                self.call(Sink::on_saved);
            }
            Job::Bits(volume, runs) => {
                for (from, to) in runs {
                    self.bits[usize::from(volume.0)].clear_range(from, to);
                }
            }
            Job::Device(tag, op) => {
                let end = if self.dice.one_in(self.faults.busy) {
                    Err(BlockError::Busy)
                } else {
                    Ok(self.device(op))
                };
                self.call(|sink, cx| sink.on_device(cx, tag, end));
            }
            Job::Far(tag, unit, op) => {
                let end = self.far_command(unit, op);
                self.call(|sink, cx| sink.on_far(cx, tag, end));
            }
            Job::Apply(tag, volume, op, data, snapshot) => {
                let busy = self.dice.one_in(self.faults.busy);
                let result = if busy { Err(BlockError::Busy) } else { Ok(()) };
                // A busy one may have been done.
                if !busy || self.dice.one_in(2) {
                    self.apply(volume, &op, &data, snapshot);
                }
                self.call(|sink, cx| sink.on_applied(cx, tag, result));
            }
        }
    }

    fn device(&mut self, op: DeviceOp) -> Scatter {
        match op {
            DeviceOp::Read { at, len } => scatter(&self.journal[at as usize..][..len as usize]),
            DeviceOp::Write { at, data, stable } => {
                assert!(stable && at >= self.layout.data_at);
                let bytes = data.to_vec();
                self.journal[at as usize..][..bytes.len()].copy_from_slice(&bytes);
                Scatter::new()
            }
            DeviceOp::Flush => Scatter::new(),
        }
    }

    fn far_command(&mut self, unit: FarUnit, op: FarOp) -> FarEnd {
        if self.dice.one_in(self.faults.far_lost) {
            return FarEnd::Unreachable;
        }
        match (unit, op) {
            (_, FarOp::Read { len, .. }) if self.faults.longest > 0 && len > self.faults.longest => {
                FarEnd::Refused("too long".into())
            }
            (FarUnit::Volume(VolumeIndex(0)), FarOp::Read { at, len })
                if (at..at + u64::from(len)).contains(&self.faults.bad_byte) && self.faults.bad_byte > 0 =>
            {
                FarEnd::Refused("MEDIUM ERROR".into())
            }
            (FarUnit::Journal, FarOp::Read { at, len }) => {
                let mut bytes = self.far.device[at as usize..][..len as usize].to_vec();
                if self.dice.one_in(self.faults.far_bad) {
                    let at = self.dice.roll(bytes.len() as u64) as usize;
                    bytes[at] ^= 1;
                }
                FarEnd::Good(scatter(&bytes))
            }
            (FarUnit::Volume(volume), FarOp::Read { at, len }) => {
                let image = &self.far.volumes[usize::from(volume.0)];
                FarEnd::Good(scatter(&image[at as usize..][..len as usize]))
            }
            (FarUnit::Volume(volume), FarOp::Status { at }) => {
                let image = &self.far.volumes[usize::from(volume.0)];
                let mut runs: Vec<(u64, u64, bool)> = Vec::new();
                for (block, bytes) in image.chunks(512).enumerate().skip(at as usize / 512) {
                    let hole = bytes.iter().all(|byte| *byte == 0);
                    let count = runs.len();
                    match runs.last_mut() {
                        Some(last) if last.2 == hole => last.1 += 512,
                        _ if count == 8 => break,
                        _ => runs.push((block as u64 * 512, 512, hole)),
                    }
                }
                FarEnd::Status(runs)
            }
            other => panic!("{other:?}"),
        }
    }

    fn apply(&mut self, volume: VolumeIndex, op: &BlockOp, data: &Scatter, snapshot: Option<Vec<u8>>) {
        let at = usize::from(volume.0);
        let (from, to) = span(op);
        let range = || from as usize * 512..to as usize * 512;
        match op {
            BlockOp::Write(..) => self.volumes[at][range()].copy_from_slice(&data.to_vec()),
            BlockOp::WriteSame { zeroes: true, .. } => self.volumes[at][range()].fill(0),
            BlockOp::WriteSame { .. } => {
                let block = data.to_vec();
                self.volumes[at][range()].chunks_mut(512).for_each(|chunk| chunk.copy_from_slice(&block));
            }
            BlockOp::Flush { .. } => self.flushed[at] = snapshot.unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    /// The array crashes: of what was under way, or not flushed, anything may be there. It starts again.
    pub fn crash(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Save(places) if self.dice.one_in(2) => self.places = places,
                Job::Device(_, DeviceOp::Write { at, data, .. }) => {
                    for (number, block) in data.to_vec().chunks(4096).enumerate() {
                        if self.dice.one_in(2) {
                            self.journal[at as usize + number * 4096..][..block.len()].copy_from_slice(block);
                        }
                    }
                }
                Job::Apply(_, volume, op, data, None) if self.dice.one_in(2) => {
                    self.apply(volume, &op, &data, None);
                }
                _ => {}
            }
        }
        for (image, flushed) in self.volumes.iter_mut().zip(&mut self.flushed) {
            for (now, old) in image.chunks_mut(512).zip(flushed.chunks_mut(512)) {
                if self.dice.one_in(2) {
                    now.copy_from_slice(old);
                } else {
                    old.copy_from_slice(now);
                }
            }
        }
        self.begin();
    }

    /// Everything that can happen without time passing far.
    pub fn settle(&mut self) {
        for _ in 0..3000 {
            self.step();
        }
    }

    /// The primary crashes and recovers: commands under way are lost.
    pub fn far_crash(&mut self, epoch: u64) {
        self.far.restart(epoch);
        let lost: Vec<Job> =
            self.jobs.extract_if(.., |job| matches!(job, Job::Far(..) | Job::Page)).collect();
        for job in lost {
            match job {
                Job::Far(tag, ..) => self.call(|sink, cx| sink.on_far(cx, tag, FarEnd::Unreachable)),
                _ => self.call(Sink::on_page_failed),
            }
        }
    }

    /// Writes to volumes and own journal that are under way.
    pub fn under_way(&self) -> usize {
        let writes = |job: &&Job| {
            matches!(job, Job::Apply(..) | Job::Device(_, DeviceOp::Write { .. } | DeviceOp::Flush))
        };
        self.jobs.iter().filter(writes).count()
    }

    /// Until an event is there that is wanted; it is taken.
    pub fn until<R>(&mut self, wanted: impl Fn(&SinkEvent) -> Option<R>) -> R {
        for _ in 0..400_000 {
            if let Some(at) = self.events.iter().position(|event| wanted(event).is_some()) {
                let event = self.events.remove(at);
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
            assert!(self.step(), "nothing more will happen: {}", self.state());
        }
        panic!("it does not come: {}", self.state());
    }

    /// For people who look for a fault.
    fn state(&self) -> String {
        let (sink, events) = (&self.sink, &self.events);
        format!(
            "{events:?}\n{:?}\nhalted {} goal {:?} forming {:?} saving {:?}\nfetch {:?} {:?} asked {}\n{:?}\n{:?} must {:?}\n{:?}",
            sink.durable,
            sink.halted,
            sink.goal,
            sink.forming,
            sink.saving,
            sink.fetch.parsed(),
            sink.fetch.read(),
            sink.fetch.asked(),
            sink.far,
            sink.restore.applied(),
            sink.restore.must(),
            (&sink.copy, &sink.queue),
        )
    }

    /// The volumes are the primary after that sequence.
    pub fn check_image(&self, sequence: Sequence) {
        let wanted = self.far.at(sequence);
        for (volume, (here, there)) in self.volumes.iter().zip(&wanted).enumerate() {
            let differ = here.chunks(512).zip(there.chunks(512)).position(|(a, b)| a != b);
            assert_eq!(differ, None, "first differing block of volume {volume} at {sequence}");
        }
    }
}
