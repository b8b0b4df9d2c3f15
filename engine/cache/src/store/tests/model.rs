//! Random operations, failures, delays and crashes against what hosts may expect.
//!
//! Each block holds the number of the operation that wrote it (0: never written, or unmapped). The model knows for each
//! block which operations' values may be seen now, and the last one that must survive a crash. One seed is one life of a
//! store, to its orderly end or to a crash.

use super::support::{Bench, TIMEOUT, limits, range};
use crate::store::broken::{self, Broken};
use crate::store::{Room, State};
use kagami_memory::Scatter;
use kagami_reactor::{Errno, Op};
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockSize, Lba};
use kagami_volume::{Aborted, DeviceLimits};
use std::collections::BTreeMap;
use std::time::Duration;

/// Pages of the volume: more than the cache has.
const PAGES: u64 = 160;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// An operation that wrote a block, and what it left there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    tag: u64,
    value: u64,
}

#[derive(Debug, Default)]
struct Block {
    /// What may be seen.
    may: Vec<Written>,
    /// All that was ever written.
    history: Vec<Written>,
    /// No older one than this is left after a crash.
    floor: u64,
    /// The last that is done.
    done: u64,
}

#[derive(Debug)]
struct Pending {
    kind: Kind,
    ranges: Vec<(u64, u64)>,
    /// Of a read: what each block may be found to be.
    may: Vec<Vec<Written>>,
    /// Of a flush: what was done of each block when it came.
    done: Vec<u64>,
    /// Of a COMPARE AND WRITE whose end is known: whether it succeeds.
    known: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write { stable: bool },
    Exchange { stable: bool },
    Other { stable: bool },
    Flush,
}

struct World {
    bench: Bench,
    rng: Rng,
    blocks: Vec<Block>,
    pending: BTreeMap<u64, Pending>,
    /// Of plain WRITEs: their blocks. One of them is seen whole or not at all.
    whole: BTreeMap<u64, (u64, u64)>,
    next: u64,
    count: u64,
    write_back: bool,
    troubled: bool,
    /// How many operations in a thousand fail.
    failures: u64,
    /// For so many steps the device is gone.
    outage: u64,
    /// Where a sequential reader goes on.
    reader: u64,
}

fn each(ranges: &[(u64, u64)]) -> impl Iterator<Item = u64> {
    ranges.iter().flat_map(|&(lba, blocks)| lba..lba + blocks)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let size = if rng.one_in(4) { BlockSize::B4096 } else { BlockSize::B512 };
        let align = if rng.one_in(3) { 4096 } else { 512 };
        let limits = DeviceLimits {
            align,
            max_transfer: if rng.one_in(2) { 16 << 10 } else { 256 << 10 },
            depth: if rng.one_in(2) { 2 } else { 32 },
            ..limits()
        };
        let write_back = !rng.one_in(3);
        let behind = rng.one_in(4).then_some(3);
        let bench = Bench::over(size, PAGES << 12, limits, behind, |plan, core| {
            core.pages = 64;
            plan.pages = 64;
            plan.dirty = [9, 16, 48][usize::try_from(rng.below(3)).unwrap()];
            plan.run = [1, 4, 64][usize::try_from(rng.below(3)).unwrap()];
            plan.flights = u16::try_from(1 + rng.below(4)).unwrap();
            plan.fills = u16::try_from(2 + rng.below(4)).unwrap();
            plan.slots = 16;
            plan.ahead = if rng.one_in(2) { 64 } else { 0 };
            plan.write_back = write_back;
            plan.room = if rng.one_in(4) { Room::AsWritten { now: rng.one_in(2) } } else { Room::Sure };
            plan.dead_after = Duration::from_secs(if rng.one_in(2) { 2 } else { 20 });
        });
        let count = (PAGES << 12) / u64::from(size.bytes());
        let zero = Written { tag: 0, value: 0 };
        let block = || Block { may: vec![zero], history: vec![zero], ..Block::default() };
        let failures = if rng.one_in(2) { 0 } else { 1 + rng.below(200) };
        Self {
            bench,
            blocks: (0..count).map(|_| block()).collect(),
            pending: BTreeMap::new(),
            whole: BTreeMap::new(),
            next: 1,
            count,
            write_back,
            troubled: false,
            failures,
            outage: 0,
            reader: 0,
            rng,
        }
    }

    fn fill(&self, value: u64, blocks: u64) -> Vec<u8> {
        let words = self.bench.block / 8 * usize::try_from(blocks).unwrap();
        std::iter::repeat_n(value.to_le_bytes(), words).flatten().collect()
    }

    /// A run of blocks: mostly short and near the others, sometimes long, sometimes anywhere.
    fn place(&mut self) -> (u64, u64) {
        let most = if self.rng.one_in(8) { self.count / 24 } else { 20.min(self.count / 32) };
        let len = 1 + self.rng.below(most);
        let area = if self.rng.one_in(3) { self.count } else { self.count / 8 };
        let mut lba = self.rng.below(area);
        if self.rng.one_in(2) && self.count > PAGES {
            lba -= lba % 8;
        }
        (lba.min(self.count - len), len)
    }

    fn data(&mut self, bytes: &[u8]) -> Scatter {
        match self.rng.below(3) {
            0 => self.bench.shifted(bytes, 512),
            _ => self.bench.data(bytes),
        }
    }

    fn start(&mut self, kind: Kind, ranges: Vec<(u64, u64)>, value: Option<u64>, op: BlockOp, data: Scatter) {
        let tag = self.next;
        self.next += 1;
        let mut pending = Pending { kind, ranges, may: Vec::new(), done: Vec::new(), known: None };
        if let Some(value) = value {
            let written = Written { tag, value };
            for lba in each(&pending.ranges) {
                let block = &mut self.blocks[usize::try_from(lba).unwrap()];
                block.may.push(written);
                block.history.push(written);
            }
            for other in self.pending.values_mut().filter(|other| other.kind == Kind::Read) {
                for (at, lba) in each(&other.ranges).enumerate() {
                    if pending.ranges.iter().any(|&(start, len)| (start..start + len).contains(&lba)) {
                        other.may[at].push(written);
                    }
                }
            }
        }
        match kind {
            Kind::Read => {
                pending.may = each(&pending.ranges)
                    .map(|lba| self.blocks[usize::try_from(lba).unwrap()].may.clone())
                    .collect();
            }
            Kind::Write { .. } => {
                self.whole.insert(tag, pending.ranges[0]);
            }
            Kind::Flush => {
                let done = each(&pending.ranges).map(|lba| self.blocks[usize::try_from(lba).unwrap()].done);
                pending.done = done.collect();
            }
            _ => {}
        }
        self.pending.insert(tag, pending);
        if let Some(outcome) = self.bench.submit(tag, op, data) {
            self.bench.done.push((kagami_volume::Tag(tag), outcome));
        }
    }

    fn collect(&mut self) {
        for (tag, outcome) in std::mem::take(&mut self.bench.done) {
            let tag = tag.0;
            let pending = self.pending.remove(&tag).expect("an outcome twice, or of nothing");
            if let Some(success) = pending.known
                && !self.troubled
                && matches!(outcome.result, Ok(()) | Err(BlockError::Miscompare(_)))
            {
                assert_eq!(
                    outcome.result.is_ok(),
                    success,
                    "an exchange {tag} that looked at something else"
                );
            }
            match (pending.kind, outcome.result) {
                (Kind::Read, Ok(())) => self.check_read(&pending, &outcome.data),
                (Kind::Flush, Ok(())) => {
                    for (lba, done) in each(&pending.ranges).zip(&pending.done) {
                        let block = &mut self.blocks[usize::try_from(lba).unwrap()];
                        block.floor = block.floor.max(*done);
                    }
                }
                (Kind::Write { stable } | Kind::Exchange { stable } | Kind::Other { stable }, Ok(())) => {
                    for lba in each(&pending.ranges) {
                        let block = &mut self.blocks[usize::try_from(lba).unwrap()];
                        block.may.retain(|other| other.tag >= tag);
                        block.done = block.done.max(tag);
                        if stable {
                            block.floor = block.floor.max(tag);
                        }
                    }
                }
                (Kind::Exchange { .. }, Err(BlockError::Miscompare(_))) => {
                    for lba in each(&pending.ranges) {
                        let block = &mut self.blocks[usize::try_from(lba).unwrap()];
                        block.may.retain(|other| other.tag != tag);
                        block.history.retain(|other| other.tag != tag);
                    }
                }
                (_, Err(BlockError::Unsupported | BlockError::OutOfRange)) => panic!("refused: {pending:?}"),
                (_, Err(_)) => {}
            }
        }
    }

    fn check_read(&self, pending: &Pending, data: &Scatter) {
        let bytes = data.to_vec();
        let mut found = Vec::new();
        for (at, lba) in each(&pending.ranges).enumerate() {
            let block = &bytes[at * self.bench.block..(at + 1) * self.bench.block];
            let value = u64::from_le_bytes(block[..8].try_into().unwrap());
            assert!(block.chunks(8).all(|part| part == value.to_le_bytes()), "a torn block {lba}");
            let may = &pending.may[at];
            assert!(may.iter().any(|may| may.value == value), "block {lba} is {value}, not one of {may:?}");
            found.push((lba, value));
        }
        // Who sees one block of a WRITE sees nothing older in its others.
        for &(_, seen) in &found {
            let Some(&(start, len)) = self.whole.get(&seen) else { continue };
            for &(lba, value) in &found {
                let older = (start..start + len).contains(&lba) && value != 0 && value < seen;
                assert!(!older, "half of write {seen}: block {lba} is {value}");
            }
        }
    }

    fn step(&mut self) {
        self.outage = self.outage.saturating_sub(1);
        if self.failures > 0 && self.rng.one_in(400) {
            self.outage = self.rng.below(200);
        }
        let access = |rng: &mut Rng| Access { fua: rng.one_in(6), dpo: rng.one_in(6) };
        match self.rng.below(100) {
            0..=17 => {
                let (mut lba, mut len) = self.place();
                if self.rng.one_in(2) {
                    len = self.count / PAGES * 2;
                    lba = self.reader.min(self.count - len);
                    self.reader = if lba + 2 * len > self.count { 0 } else { lba + len };
                }
                let access = access(&mut self.rng);
                let op = BlockOp::Read(range(lba, u32::try_from(len).unwrap()), access);
                self.start(Kind::Read, vec![(lba, len)], None, op, Scatter::new());
            }
            18..=41 => {
                let (lba, len) = self.place();
                let access = access(&mut self.rng);
                let bytes = self.fill(self.next, len);
                let data = self.data(&bytes);
                let op = BlockOp::Write(range(lba, u32::try_from(len).unwrap()), access);
                let stable = access.fua || !self.write_back;
                self.start(Kind::Write { stable }, vec![(lba, len)], Some(self.next), op, data);
            }
            42..=44 => {
                let (lba, len) = self.place();
                let len = len.min(4);
                let blocks = usize::try_from(lba).unwrap()..usize::try_from(lba + len).unwrap();
                let alone = self.blocks[blocks.clone()].iter().all(|block| block.may.len() == 1);
                let expected = self.blocks[blocks.start].may.last().unwrap().value;
                let equal = self.blocks[blocks].iter().all(|block| block.may[0].value == expected);
                let mut bytes = self.fill(expected, len);
                bytes.extend(self.fill(self.next, len));
                let data = self.data(&bytes);
                let access = access(&mut self.rng);
                let op = BlockOp::CompareAndWrite(range(lba, u32::try_from(len).unwrap()), access);
                let (tag, stable) = (self.next, access.fua || !self.write_back);
                self.start(Kind::Exchange { stable }, vec![(lba, len)], Some(tag), op, data);
                if alone && let Some(pending) = self.pending.get_mut(&tag) {
                    pending.known = Some(equal);
                }
            }
            45..=46 => {
                let (lba, len) = self.place();
                let data = self.bench.data(&self.fill(self.next, 1));
                let op = BlockOp::WriteSame {
                    lba: Lba(lba),
                    blocks: BlockCount(len),
                    unmap: false,
                    zeroes: false,
                };
                let stable = !self.write_back;
                self.start(Kind::Other { stable }, vec![(lba, len)], Some(self.next), op, data);
            }
            47..=48 => {
                let ranges: Vec<_> = (0..=self.rng.below(2)).map(|_| self.place()).collect();
                let list = ranges.iter().map(|&(lba, len)| range(lba, u32::try_from(len).unwrap())).collect();
                let stable = !self.write_back;
                self.start(Kind::Other { stable }, ranges, Some(0), BlockOp::Unmap(list), Scatter::new());
            }
            49 => {
                let (lba, len) = self.place();
                let bytes = self.fill(self.next, len);
                let data = self.data(&bytes);
                let op =
                    BlockOp::WriteVerify { range: range(lba, u32::try_from(len).unwrap()), compare: true };
                self.start(Kind::Other { stable: true }, vec![(lba, len)], Some(self.next), op, data);
            }
            50..=53 => {
                let (lba, len) = if self.rng.one_in(2) { (0, self.count) } else { self.place() };
                let blocks = if len == self.count { 0 } else { len };
                let op = BlockOp::Flush { lba: Lba(lba), blocks: BlockCount(blocks) };
                self.start(Kind::Flush, vec![(lba, len)], None, op, Scatter::new());
            }
            54 => {
                if let Some(&tag) = self.pending.keys().nth(usize::try_from(self.rng.below(8)).unwrap()) {
                    assert_ne!(self.bench.abort(tag), Aborted::NotFound, "{tag} has no outcome and is gone");
                }
            }
            55..=84 => {
                let waiting = self.bench.waiting();
                if waiting == 0 {
                    return;
                }
                let which = usize::try_from(self.rng.below(waiting as u64)).unwrap();
                if self.outage > 0 || self.rng.below(1000) < self.failures {
                    self.troubled = true;
                    let bulk = matches!(
                        self.bench.device.lock().unwrap().waiting[which].1,
                        Op::Discard(..) | Op::Zero(..)
                    );
                    let errno = match self.rng.below(4) {
                        _ if self.outage > 0 => Errno::NO_DEVICE,
                        0 => Errno::NO_DEVICE,
                        1 if bulk => Errno::NOT_SUPPORTED,
                        _ => Errno::IO,
                    };
                    self.bench.fail(which, errno);
                } else {
                    self.bench.happen(which);
                }
            }
            85..=96 => self.bench.pass_to_alarm(Duration::from_millis(200)),
            97 => {
                let spare = u32::try_from(self.rng.below(20)).unwrap();
                self.bench.cache.reclaim(spare);
            }
            98 if self.failures > 0 && self.rng.one_in(6) => {
                self.troubled = true;
                self.bench.pass(TIMEOUT);
            }
            _ => self.bench.pass(Duration::from_millis(self.rng.below(1500))),
        }
        self.collect();
    }

    /// The power goes: of each sector that is not stable, either version is left.
    fn crash(mut self) {
        let sector = 512;
        let block = self.bench.block;
        let mut left = Vec::new();
        {
            let mut device = self.bench.device.lock().unwrap();
            // Writes under way may have happened.
            for at in (0..device.waiting.len()).rev() {
                let write = matches!(
                    device.waiting[at].1,
                    Op::Write { stable: false, .. } | Op::Discard(..) | Op::Zero(..)
                );
                if write && self.rng.one_in(2) {
                    device.happen(at);
                }
            }
            for at in 0..device.medium.len() / sector {
                let sectors = at * sector..(at + 1) * sector;
                let old = self.rng.one_in(2);
                left.extend_from_slice(if old { &device.stable[sectors] } else { &device.medium[sectors] });
            }
        }
        for (lba, model) in self.blocks.iter().enumerate() {
            // A device may tear a block of 4096 bytes.
            for part in left[lba * block..(lba + 1) * block].chunks(sector) {
                let value = u64::from_le_bytes(part[..8].try_into().unwrap());
                let fine = |written: &Written| written.tag >= model.floor && written.value == value;
                assert!(
                    model.history.iter().any(fine),
                    "after the crash block {lba} is {value}, and {} was stable: {:?}",
                    model.floor,
                    model.history
                );
            }
        }
    }

    fn finish(mut self) {
        self.bench.settle();
        self.collect();
        assert!(self.pending.is_empty(), "operations without an outcome: {:?}", self.pending);
        for at in 0..PAGES / 8 {
            let len = self.count / (PAGES / 8);
            let op = BlockOp::Read(range(at * len, u32::try_from(len).unwrap()), Access::default());
            self.start(Kind::Read, vec![(at * len, len)], None, op, Scatter::new());
            self.bench.settle();
            self.collect();
        }
        assert!(self.pending.is_empty());
        self.bench.drain();
        let device = self.bench.device.lock().unwrap();
        for (lba, model) in self.blocks.iter().enumerate() {
            let at = lba * self.bench.block;
            let value = u64::from_le_bytes(device.medium[at..at + 8].try_into().unwrap());
            assert!(
                model.may.iter().any(|may| may.value == value),
                "destaged block {lba} is {value}, not one of {:?}",
                model.may
            );
        }
        drop(device);
        self.bench.assert_clean();
    }
}

/// What lives have come to.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    evictions: u64,
    throttled: u64,
    ahead_used: u64,
    partial: u64,
    fill_errors: u64,
    destage_errors: u64,
    timeouts: u64,
    conflicts: u64,
    copied: u64,
    through: u64,
    superseded: u64,
    dead: u64,
}

thread_local! {
    static REACHED: std::cell::Cell<Reached> = const { std::cell::Cell::new(Reached {
        evictions: 0, throttled: 0, ahead_used: 0, partial: 0, fill_errors: 0, destage_errors: 0, timeouts: 0,
        conflicts: 0, copied: 0, through: 0, superseded: 0, dead: 0,
    }) };
}

impl World {
    fn note(&mut self) {
        let (cache, host) = (self.bench.counters(), self.bench.with(|store, _| store.counters()));
        let now = self.bench.clock.0;
        let dead = self.bench.with(|store, _| matches!(store.state(now), State::Failed(_)));
        let mut all = REACHED.get();
        all.evictions += self.bench.cache.evictions();
        all.throttled += cache.throttled;
        all.ahead_used += cache.ahead_used;
        all.partial += cache.partial;
        all.fill_errors += cache.fill_errors;
        all.destage_errors += cache.destage_errors;
        all.timeouts += host.timeouts;
        all.conflicts += host.conflicts;
        all.copied += cache.copied_bytes;
        all.through += cache.through;
        all.superseded += cache.superseded;
        all.dead += u64::from(dead);
        REACHED.set(all);
    }
}

fn live(seed: u64) {
    let mut world = World::new(seed);
    let steps = 60 + world.rng.below(400);
    let crash = world.rng.one_in(2);
    for step in 0..steps {
        if seed.is_multiple_of(3) && step % 64 == 0 {
            // Its pair comes and goes.
            world.bench.with(|store, _| store.set_journaled(step % 128 == 0));
        }
        world.step();
    }
    world.note();
    if crash { world.crash() } else { world.finish() }
}

/// How many seeds, unless `CACHE_SEEDS` says otherwise; `CACHE_SEED` names one.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("CACHE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CACHE_SEEDS").unwrap_or(default),
    }
}

fn run(seed: u64) -> bool {
    std::panic::catch_unwind(|| live(seed)).is_ok()
}

#[test]
fn hosts_see_what_they_may_expect() {
    for seed in seeds(1000) {
        assert!(run(seed), "seed {seed}: CACHE_SEED={seed}");
    }
    if std::env::var("CACHE_SEED").is_ok() {
        return;
    }
    let reached = REACHED.get();
    let Reached { evictions, throttled, ahead_used, partial, fill_errors, destage_errors, .. } = reached;
    let Reached { timeouts, conflicts, copied, through, superseded, dead, .. } = reached;
    let all = [
        evictions,
        throttled,
        ahead_used,
        partial,
        fill_errors,
        destage_errors,
        timeouts,
        conflicts,
        copied,
        through,
        superseded,
        dead,
    ];
    assert!(all.iter().all(|&count| count > 0), "the seeds do not reach all: {reached:?}");
}

/// Seeds that once failed, with the model as it was then (both: a FUA write whose page, or a part of it, went out in
/// another's flight). What they found is also in the step tests.
#[test]
fn seeds_that_once_failed() {
    for seed in [6012, 10729] {
        live(seed);
    }
}

#[test]
fn mistakes_are_found() {
    for mistake in [
        Broken::CleanByOldFlight,
        Broken::CleanAtSubmit,
        Broken::CleanOnError,
        Broken::FlushWithoutDestage,
        Broken::DestageWithoutFlush,
        Broken::FillOverWrite,
        Broken::KeepStale,
        Broken::FuaInCache,
        Broken::ThroughWithoutDrain,
        Broken::ForgetUndone,
        Broken::FlushWithoutKept,
    ] {
        broken::set(Some(mistake));
        let found = (0..3000).find(|&seed| !run(seed));
        broken::set(None);
        assert!(found.is_some(), "{mistake:?} was not found");
    }
}
