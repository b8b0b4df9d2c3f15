//! What must hold, whatever happens.

use super::World;
use super::array::Array;
use super::history::{Entry, Lineage, difference};
use super::host::HostOp;
use super::store::{self, Changes, Image};
use kagami_journal::{BitmapBlocks, BitmapMap, Bits, Found, GRANULE, Superblock};
use kagami_memory::Scatter;
use kagami_replica::mail::{Change, Mode};
use kagami_replica::{Front, Order, Record, Side, State};
use kagami_types::{BlockOp, Sequence, Time};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[derive(Debug)]
pub struct Judge {
    /// What each array wrote, if hosts write there, or did.
    pub lineage: [Option<Lineage>; 2],
    /// Hosts may write there now.
    pub writer: [bool; 2],
    /// It has started since hosts wrote there.
    fresh: [bool; 2],
    /// What its volumes held after the crash, or when a device had lost writes and hosts had nothing under way any more.
    after_crash: [Option<Vec<Image>>; 2],
    /// The second of these is not come yet.
    losing: [bool; 2],
    /// An operator has made the secondary writable beside the primary.
    pub two_allowed: bool,
    /// An operator has forced a takeover of what is not consistent.
    pub forced: bool,
    /// The last marker of which its host was told that it had arrived.
    pub required: u64,
    /// A store has refused a write, and done half of it: the history does not say what is there.
    pub unclear: bool,
    /// When that was ordered last.
    pub two_since: Time,
    /// What was answered when an order was given.
    at_order: HashMap<u64, u64>,
    /// The first sequence that each host's operation took, and at which array.
    sequences: HashMap<u64, (usize, u64)>,
    /// The last that was durable.
    superblocks: [Option<Superblock>; 2],
}

fn is_writer(mode: Mode) -> bool {
    matches!(mode, Mode::Journaling | Mode::Tracking | Mode::Plain)
}

impl Judge {
    pub fn new(arrays: &[Array; 2]) -> Self {
        Self {
            lineage: [Some(Lineage::new(arrays[0].image(), 0)), None],
            writer: [false; 2],
            fresh: [true, false],
            losing: [false; 2],
            after_crash: [Some(arrays[0].image()), None],
            two_allowed: false,
            two_since: Time(0),
            unclear: false,
            forced: false,
            required: 0,
            at_order: HashMap::new(),
            sequences: HashMap::new(),
            superblocks: [None, None],
        }
    }

    /// The group says that this is stable.
    pub fn stable(&mut self, array: usize, sequence: u64) {
        if let Some(lineage) = self.lineage[array].as_mut().filter(|lineage| lineage.journaling) {
            lineage.stable = lineage.stable.max(sequence);
        }
    }
}

impl World {
    /// A group tells its fronts their mode.
    pub fn judge_mode(&mut self, array: usize, mode: Mode) {
        if mode == Mode::NotReady && self.judge.losing[array] {
            // Said once more when what was restored has ended, too.
            self.judge.after_crash[array] = Some(self.arrays[array].image());
        }
        self.judge.losing[array] &= !is_writer(mode);
        if self.arrays[array].mode == Some(mode) {
            return;
        }
        self.arrays[array].mode = Some(mode);
        self.seen.note(format!("mode {}", format!("{mode:?}").split([' ', '{']).next().unwrap_or_default()));
        let last =
            self.arrays[array].group.as_ref().map_or(0, |group| group.sequencer().load(Ordering::SeqCst));
        if !is_writer(mode) {
            self.judge.writer[array] = false;
            return;
        }
        if mode == Mode::Plain
            && array == 1
            && self.judge.lineage[1].is_none()
            && self.judge.lineage[0].is_some()
        {
            // A secondary that is not paired yet, or not any more: hosts may do what they like.
            self.judge.lineage[1] = Some(Lineage::new(self.arrays[1].image(), 0));
        } else if !self.judge.writer[array] {
            self.becomes_writer(array, mode, last);
        }
        let Some(lineage) = &mut self.judge.lineage[array] else { return };
        if mode == Mode::Journaling {
            lineage.resume(last);
        } else {
            lineage.suspend();
        }
        self.judge.fresh[array] &=
            mode == Mode::Journaling && self.arrays[array].fronts.iter().any(Front::is_lost);
        self.judge.writer[array] = mode == Mode::Journaling;
        if mode == Mode::Journaling {
            self.judge_two(array);
        }
    }

    /// The first bits are durable: hosts do write there.
    pub fn judge_marked(&mut self, array: usize) {
        if !self.judge.writer[array] {
            self.judge.writer[array] = true;
            self.judge_two(array);
        }
    }

    fn judge_two(&mut self, array: usize) {
        if self.judge.writer[array] && self.judge.writer[1 - array] && !self.judge.two_allowed {
            self.fail("hosts may write to both arrays, and nobody ordered that");
        }
    }

    fn becomes_writer(&mut self, array: usize, mode: Mode, last: u64) {
        let image = self.arrays[array].image();
        let fresh = self.judge.fresh[array];
        let lost = self.arrays[array].fronts.iter().any(Front::is_lost);
        let crashed = self.judge.after_crash[array].clone().unwrap_or_else(|| image.clone());
        if let Some(lineage) = &mut self.judge.lineage[array] {
            if !fresh {
                // It has only been held up.
                return;
            }
            if mode == Mode::Journaling {
                if lost {
                    // A volume has lost writes again since: it lets nobody in, and the journal is applied once more.
                    if lineage.tracked && !lineage.journaling {
                        lineage.rebase(image);
                    } else if let Err(why) = lineage.ends(last) {
                        self.fail(format!("array {array}: {why}"));
                    }
                } else if lineage.journaling || !lineage.tracked {
                    // It had ended journaling, and has begun anew without its process having ended: the counter has what was given
                    // up then.
                    let known = lineage.stable.max(lineage.acknowledged);
                    let mut other = lineage.clone();
                    let suspended = !lineage.journaling;
                    if let Err(why) = lineage.recovered(last, &image, &crashed) {
                        if suspended && other.recovered(known, &image, &crashed).is_ok() {
                            *lineage = other;
                        } else if !self.judge.unclear {
                            self.fail(format!("array {array}: {why}"));
                        }
                    }
                } else if crashed == image {
                    lineage.rebase(image);
                } else {
                    let text = difference(&crashed, &image);
                    self.fail(format!("array {array}: recovery wrote over what was not journaled: {text}"));
                }
                return;
            }
            if lineage.tracked && !lineage.journaling {
                let before = self.judge.after_crash[array].clone().unwrap_or_default();
                if before != image {
                    let text = difference(&before, &image);
                    self.fail(format!(
                        "array {array}: recovery wrote over what was written without the journal: {text}"
                    ));
                }
                if let Some(lineage) = &mut self.judge.lineage[array] {
                    lineage.rebase(image);
                }
                return;
            }
            // It ended journaling before the crash or after: all that was stable is there.
            let (stable, answered) = (lineage.stable, lineage.acknowledged);
            let tries: Vec<u64> = vec![last, stable, answered];
            let fits = tries.iter().any(|last| {
                let mut copy = lineage.clone();
                copy.recovered(*last, &image, &crashed).is_ok()
            });
            if !fits && !self.judge.unclear {
                let why =
                    lineage.clone().recovered(last.max(stable), &image, &crashed).err().unwrap_or_default();
                return self.fail(format!("array {array}, which suspended: {why}"));
            }
            lineage.rebase(image);
            lineage.tracked = false;
            return;
        }
        // It was a secondary.
        let other = 1 - array;
        let ordered = self.judge.two_allowed;
        let Some(theirs) = &self.judge.lineage[other] else {
            if self.judge.forced || ordered {
                // Neither was the primary, as each had been told to discard its own: an operator has chosen.
                self.judge.lineage[array] = Some(Lineage::new(image, last));
                self.judge.required = 0;
                return;
            }
            return self.fail(format!("array {array} lets hosts write, and nobody knows what it has"));
        };
        let found = theirs.find(&image);
        let text = format!(
            "{found:?} of {} (stable {}, answered {})",
            theirs.last(),
            theirs.stable,
            theirs.acknowledged
        );
        let whole = theirs.end() == image;
        let end = theirs.end();
        self.note(format!("array {array} takes over at {text}; ordered: {ordered}"));
        match found {
            _ if self.judge.forced || self.judge.unclear => {}
            None => {
                let text = difference(&image, &end);
                self.fail(format!(
                    "array {array} is no moment of the other's history; to its end differ: {text}"
                ));
            }
            Some(found) if found.segments_behind == 0 && found.sequence < self.judge.required => {
                let required = self.judge.required;
                self.fail(format!(
                    "array {array} is at {}, but a marker behind {required} had arrived",
                    found.sequence
                ));
            }
            Some(_) if !ordered && !whole => {
                let text = difference(&image, &end);
                self.fail(format!("after a swap array {array} lacks writes: {text}"));
            }
            Some(_) => self.seen.note(if ordered { "takeover judged" } else { "swap judged" }),
        }
        self.judge.lineage[array] = Some(Lineage::new(image, last));
        self.judge.required = 0;
    }

    /// A pair is one again: only one side has a history.
    pub fn judge_paired(&mut self, primary: usize) {
        // An order may be on its way for some time.
        if self.now.since(self.judge.two_since) > Duration::from_secs(8) {
            self.judge.two_allowed = false;
            self.judge.forced = false;
        }
        self.judge.lineage[1 - primary] = None;
    }

    /// These writes were with the stores when the array crashed.
    pub fn judge_torn(&mut self, array: usize, under_way: &BTreeMap<(usize, u64), Changes>) {
        let Some(lineage) = &mut self.judge.lineage[array] else { return };
        for (_, stamp) in under_way.values().flatten() {
            if let Some(tag) = self.hosts.by_stamp.get(stamp) {
                lineage.torn(*tag);
            }
        }
    }

    pub fn judge_crash(&mut self, array: usize) {
        self.judge.writer[array] = false;
        self.judge.fresh[array] = true;
        self.judge.after_crash[array] = Some(self.arrays[array].image());
        self.judge.losing[array] = false;
        self.arrays[array].mode = None;
    }

    /// A volume has lost what was not stable there. Where the group is to make good for it, that is to it as if it had crashed,
    /// but that what hosts had under way ends first; else hosts are told of the loss.
    pub fn judge_lost(&mut self, array: usize) {
        let image = self.arrays[array].image();
        let mode = self.arrays[array].mode;
        let Some(lineage) = &mut self.judge.lineage[array] else { return };
        if mode == Some(Mode::Plain) {
            return lineage.rebase(image);
        }
        self.judge.fresh[array] = true;
        self.judge.after_crash[array] = Some(image);
        self.judge.losing[array] = true;
    }

    pub fn judge_append(
        &mut self,
        array: usize,
        volume: usize,
        sequence: u64,
        change: &Change,
        data: &Scatter,
    ) {
        let block = self.plan.block_bytes as usize;
        let run = |lba: u64, blocks: u64, stamp: u64| -> Changes {
            (lba..lba + blocks).map(|block| (block as usize, stamp)).collect()
        };
        let bytes = store::bytes(data);
        let changes = match change {
            Change::Write(range) => {
                let stamps = store::stamps(&bytes, block);
                stamps.into_iter().enumerate().map(|(at, stamp)| (range.lba.0 as usize + at, stamp)).collect()
            }
            Change::Same { lba, blocks } => run(lba.0, *blocks, store::stamps(&bytes, block)[0]),
            Change::Zero { lba, blocks, .. } => run(lba.0, *blocks, 0),
            Change::Nothing => Vec::new(),
        };
        self.watch(array, volume, &changes, &format!("is appended as {sequence}"));
        let stamp = changes.iter().map(|change| change.1).find(|stamp| *stamp != 0);
        let tag = match (stamp, change) {
            (Some(stamp), _) => self.hosts.by_stamp.get(&stamp).copied(),
            // Zeroes are everybody's: the front knows whose these are.
            (None, Change::Zero { .. }) => self.arrays[array].fronts[volume].taker(Sequence(sequence)),
            _ => None,
        };
        let Some(tag) = tag else {
            return self.fail(format!("sequence {sequence} is of no host: {change:?}"));
        };
        self.judge.sequences.entry(tag).or_insert((array, sequence));
        let hosts = &mut self.hosts;
        if let Some(op) = hosts.ops.get_mut(&tag).or_else(|| hosts.promised.get_mut(&tag)) {
            op.sequences.push(sequence);
        }
        match &mut self.judge.lineage[array] {
            Some(lineage) => lineage.append(sequence, Entry { volume, changes, op: tag }),
            None => self.fail(format!("array {array} journals and is no primary")),
        }
    }

    /// Something has reached a store.
    pub fn judge_written(&mut self, array: usize, volume: usize, op: &BlockOp, changes: &Changes) {
        let Some(tag) = self.hosts.writer(array, volume, op, changes) else { return };
        if self.hosts.promised.remove(&tag).is_none()
            && let Some(op) = self.hosts.ops.get_mut(&tag)
        {
            op.stored = true;
        }
        if let Some(lineage) = &mut self.judge.lineage[array] {
            lineage.written(tag, volume, changes);
        }
    }

    /// A host hears that its read or flush is done.
    pub fn judge_after(&mut self, array: usize, op: &HostOp) {
        for &(tag, sequence) in &op.after {
            if self.hosts.lost.contains(&tag) {
                continue;
            }
            let is_missing = self.hosts.promised.contains_key(&tag);
            if !matches!(op.op, BlockOp::Flush { .. }) {
                if is_missing {
                    return self.fail(format!("a read missed write {tag}, which was answered before"));
                }
                continue;
            }
            let Some(lineage) = &mut self.judge.lineage[array] else { continue };
            if is_missing && sequence > lineage.stable {
                return self.fail(format!("write {tag} was answered, and a flush after it missed it"));
            }
            if lineage.now.entries.get(&sequence).is_some_and(|entry| entry.op == tag) {
                lineage.acknowledged = lineage.acknowledged.max(sequence);
            }
        }
    }

    /// A host hears that its write is done.
    pub fn judge_answer(&mut self, array: usize, tag: u64, op: &HostOp) {
        if !op.stored && !op.sequences.is_empty() {
            if !self.plan.write_back || !matches!(op.op, BlockOp::Write(_, access) if !access.fua) {
                return self.fail(format!("write {tag} is answered, and the store does not have it"));
            }
            self.seen.note("promised write");
            self.hosts.promised.insert(tag, op.clone());
            return;
        }
        let Some(lineage) = &mut self.judge.lineage[array] else { return };
        let Some(last) = op.sequences.iter().max() else { return };
        if lineage.now.entries.get(last).is_some_and(|entry| entry.op == tag) {
            if *last > lineage.stable && lineage.journaling {
                let stable = lineage.stable;
                return self
                    .fail(format!("the write of {last} is answered, and only {stable} is stable: {op:?}"));
            }
            lineage.acknowledged = lineage.acknowledged.max(*last);
        }
    }

    pub fn judge_order(&mut self, array: usize, number: u64, order: &Order) {
        match order {
            Order::Takeover { dry_run: false, force } => {
                self.judge.two_allowed = true;
                self.judge.two_since = self.now;
                self.judge.forced |= *force;
            }
            Order::Split { writable: true } => {
                self.judge.two_allowed = true;
                self.judge.two_since = self.now;
            }
            Order::Marker { .. } => {
                let answered = self.judge.lineage.iter().flatten().map(|lineage| lineage.acknowledged).max();
                self.judge.at_order.insert(number, answered.unwrap_or(0));
            }
            _ => {}
        }
        let _ = array;
    }

    /// A marker of that sequence has arrived at the secondary.
    ///
    /// What was answered when it was ordered has smaller sequences, unless that was in a history which was discarded
    /// before the order came to its turn: of that one the marker says nothing.
    pub fn judge_marker(&mut self, number: u64, sequence: u64) {
        if let Some(answered) = self.judge.at_order.remove(&number) {
            self.seen.note("marker judged");
            self.judge.required = self.judge.required.max(answered.min(sequence));
        }
    }

    /// A secondary applies entries only where it is durable that it may have done so.
    pub fn judge_restores(&mut self, array: usize, bytes: &[u8]) {
        let record = self.arrays[array].group.as_ref().and_then(|group| group.record());
        let restores = record.is_some_and(|record| {
            record.side == Side::Secondary && record.state == State::Pair && record.consistent
        });
        let Some(block) = self.judge.superblocks[array].as_ref().filter(|_| restores) else { return };
        let target =
            block.record.get(1024..1032).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let stamps = store::stamps(bytes, self.plan.block_bytes as usize);
        let tag = stamps.first().and_then(|stamp| self.hosts.by_stamp.get(stamp));
        let Some((from, sequence)) = tag.and_then(|tag| self.judge.sequences.get(tag)) else { return };
        if *from != array && target.is_some_and(|target| *sequence > target) {
            self.fail(format!("array {array} applies {sequence}, and may only apply up to {target:?}"));
        }
    }

    /// What an array durably is.
    pub fn durable(&self, array: usize) -> Option<Record> {
        let device = &self.arrays[array].journal;
        let (first, second) = (device.durable(0, 4096), device.durable(4096, 4096));
        let Found::Ours(block, _) = Superblock::choose(&first, &second) else { return None };
        Record::decode(&block.record).ok()
    }

    /// Where both sides stand still and differ, bits say so, on one journal or the other.
    pub fn judge_bitmap(&mut self) {
        if self.judge.unclear || !self.arrays.iter().all(|array| array.up && array.is_still()) {
            return;
        }
        let block = |array: usize| {
            let device = &self.arrays[array].journal;
            match Superblock::choose(&device.durable(0, 4096), &device.durable(4096, 4096)) {
                Found::Ours(block, _) => Record::decode(&block.record).ok().map(|record| (block, record)),
                _ => None,
            }
        };
        let Some((one, other)) = block(0).zip(block(1)) else { return };
        let stopped = |record: &Record| {
            matches!(record.state, State::Psus { .. } | State::Psue | State::Ssws) && record.bits != 0
        };
        let sides = [&one, &other];
        if !sides.iter().all(|(_, record)| stopped(record)) || one.1.side == other.1.side {
            return;
        }
        let behind = |(block, record): &(Box<Superblock>, Record)| {
            record.side == Side::Secondary
                && (!record.consistent || block.read_sequence > block.restored_sequence)
        };
        if sides.iter().any(|side| behind(side)) {
            return;
        }
        let granule_blocks = (GRANULE / u64::from(self.plan.block_bytes)) as usize;
        let granules: Vec<u64> =
            (0..self.plan.volumes).map(|_| self.plan.blocks.div_ceil(granule_blocks as u64)).collect();
        let none: Vec<Bits> = granules.iter().map(|granules| Bits::new(*granules)).collect();
        let mut bits = none.clone();
        for (array, (block, record)) in sides.into_iter().enumerate() {
            let Some(map) = BitmapMap::new(&block.layout, &granules) else { return };
            let decoder_blocks = map.blocks();
            let mut decoder = BitmapBlocks::new(block.group, record.bits, map);
            let mut own = none.clone();
            for number in 0..decoder_blocks {
                let device = &self.arrays[array].journal;
                let copies =
                    [0, 1].map(|copy| device.durable(BitmapMap::place(&block.layout, copy, number), 4096));
                decoder.decode(number, &copies[0], &copies[1], &mut own);
            }
            bits.iter_mut().zip(&own).for_each(|(all, own)| all.union(own));
        }
        let (near, far) = (self.arrays[0].image(), self.arrays[1].image());
        for (volume, (near, far)) in near.iter().zip(&far).enumerate() {
            let differs = near.iter().zip(far).enumerate().filter(|(_, (one, other))| one != other);
            for (at, _) in differs {
                if !bits[volume].contains((at / granule_blocks) as u64) {
                    return self.fail(format!("block {at} of volume {volume} differs, and no bit says so"));
                }
            }
        }
        self.seen.note("bitmap judged");
    }

    /// What a superblock says is durable now: nothing is freed that the reader does not have.
    pub fn judge_superblock(&mut self, array: usize) {
        let read = |array: usize| -> Option<(Superblock, Record)> {
            let device = &self.arrays[array].journal;
            let (first, second) = (device.durable(0, 4096), device.durable(4096, 4096));
            let Found::Ours(block, _) = Superblock::choose(&first, &second) else { return None };
            let record = Record::decode(&block.record).ok()?;
            Some((*block, record))
        };
        let theirs = read(1 - array);
        let Some((ours, our)) = read(array) else { return };
        if let Some(before) = self.judge.superblocks[array].replace(ours.clone()) {
            self.see_superblock(&before, &ours);
            let back =
                ours.sequence < before.sequence || ours.stable < before.stable || ours.out < before.out;
            if before.epoch == ours.epoch && before.group == ours.group && back {
                return self.fail(format!("array {array} counts back in an epoch: {before:?} {ours:?}"));
            }
        }
        let follows =
            matches!(our.state, State::Copy | State::Pair | State::Psue | State::Psus { writable: false });
        if our.side == Side::Secondary && follows && our.formation.is_some() {
            // What it wrote itself is over.
            self.judge.lineage[array] = None;
        }
        let Some((theirs, their)) = theirs else { return };
        let requests = |record: &Record| record.formation.map(|formation| formation.request);
        let (primary, secondary, pair) = match (our.side, their.side) {
            (Side::Primary, Side::Secondary) => (&ours, &theirs, requests(&our).zip(requests(&their))),
            (Side::Secondary, Side::Primary) => (&theirs, &ours, requests(&their).zip(requests(&our))),
            _ => return,
        };
        let journals = if our.side == Side::Primary { our.journals() } else { their.journals() };
        if pair.is_some_and(|(one, other)| one == other) && journals && primary.out > secondary.read {
            let (out, read) = (primary.out, secondary.read);
            self.fail(format!("the primary has freed up to {out}, and only {read} is durable at its reader"));
        }
    }
}
