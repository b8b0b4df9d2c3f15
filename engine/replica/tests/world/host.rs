//! Hosts: they write blocks that nobody else writes, and go to the other array when this one refuses.

use super::far::{PEER, PeerOp};
use super::plan::Plan;
use super::{Event, World, store};
use kagami_memory::Scatter;
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, Lba, LbaStatus};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// An operation under way.
#[derive(Clone, Debug)]
pub struct HostOp {
    pub worker: usize,
    pub array: usize,
    pub volume: usize,
    pub op: BlockOp,
    /// Sequences that it took.
    pub sequences: Vec<u64>,
    /// The store has it.
    pub stored: bool,
    /// Writes that its volume had promised when it came: tag and last sequence. A read is not to miss those that it
    /// overlaps, nor a flush any.
    pub after: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub struct Hosts {
    targets: Vec<usize>,
    pub ops: BTreeMap<u64, HostOp>,
    pub by_stamp: HashMap<u64, u64>,
    /// Writes that were answered before the store had them.
    pub promised: BTreeMap<u64, HostOp>,
    /// Those of them of which hosts heard that they are lost.
    pub lost: HashSet<u64>,
    pub peers: BTreeMap<u64, PeerOp>,
    tags: u64,
    stamps: u64,
    pub stopped: bool,
    pub written: u64,
}

impl Hosts {
    pub fn new(plan: &Plan) -> Self {
        Self {
            targets: vec![0; plan.workers],
            ops: BTreeMap::new(),
            by_stamp: HashMap::new(),
            promised: BTreeMap::new(),
            lost: HashSet::new(),
            peers: BTreeMap::new(),
            tags: 0,
            stamps: 0,
            stopped: false,
            written: 0,
        }
    }

    pub fn workers(&self) -> usize {
        self.targets.len()
    }

    pub fn next_tag(&mut self) -> u64 {
        self.tags += 1;
        self.tags
    }

    /// Whatever that array had under way is unknown to its hosts.
    pub fn crashed(&mut self, array: usize) {
        for op in self.ops.values_mut().filter(|op| op.array == array) {
            op.array = usize::MAX;
        }
        self.promised.retain(|_, op| op.array != array);
        self.peers.retain(|_, op| op.array != 1 - array);
    }

    /// The host's operation that writes that, where it is under way at that array.
    pub fn writer(&self, array: usize, volume: usize, op: &BlockOp, changes: &store::Changes) -> Option<u64> {
        let stamp = changes.iter().map(|change| change.1).find(|stamp| *stamp != 0);
        if let Some(stamp) = stamp {
            let tag = self.by_stamp.get(&stamp)?;
            let found = self.ops.get(tag).or_else(|| self.promised.get(tag))?;
            return (found.array == array && found.volume == volume).then_some(*tag);
        }
        // Only plain writes are promised, and these have stamps.
        let same = |other: &&u64| {
            let other = &self.ops[*other];
            other.array == array && other.volume == volume && other.op == *op
        };
        self.ops.keys().find(same).copied()
    }
}

/// Whether a block of a read was to be written by a write.
fn meets(read: &BlockOp, write: &BlockOp) -> bool {
    let BlockOp::Read(range, _) = read else { return false };
    (range.lba.0..range.lba.0 + u64::from(range.blocks)).any(|block| hits(write, block))
}

fn hits(op: &BlockOp, block: u64) -> bool {
    match op {
        BlockOp::Write(range, _) | BlockOp::CompareAndWrite(range, _) => {
            (range.lba.0..range.lba.0 + u64::from(range.blocks)).contains(&block)
        }
        BlockOp::WriteSame { lba, blocks, .. } => (lba.0..lba.0 + blocks.0).contains(&block),
        BlockOp::Unmap(ranges) => {
            ranges.iter().any(|range| (range.lba.0..range.lba.0 + u64::from(range.blocks)).contains(&block))
        }
        _ => false,
    }
}

fn access(fua: bool) -> Access {
    Access { dpo: false, fua }
}

impl World {
    /// A worker does something, where it has nothing under way.
    pub fn host(&mut self, worker: usize) {
        if self.hosts.stopped {
            return;
        }
        let array = self.hosts.targets[worker];
        if !self.arrays[array].up {
            self.hosts.targets[worker] = 1 - array;
            return self.again(worker, 3_000);
        }
        let volume = self.rng.index(self.plan.volumes);
        let blocks = self.plan.blocks;
        // Some places are written again and again.
        let span = if self.rng.percent(50) { 64.min(blocks) } else { blocks };
        let lba = self.rng.below(span);
        let fit = |wanted: u64| wanted.min(blocks - lba) as u32;
        let block = self.plan.block_bytes as usize;
        self.hosts.stamps += 1;
        let stamp = self.hosts.stamps;
        let tag = self.hosts.next_tag();
        let fua = self.rng.percent(25);
        let range = |blocks: u32| BlockRange { lba: Lba(lba), blocks };
        let mut bytes = Vec::new();
        let op = match self.rng.below(100) {
            0..70 => {
                let most = if self.rng.one_in(20) { 300 } else { 16 };
                let count = fit(1 + self.rng.skewed(0, most));
                bytes = store::bytes_of(&vec![stamp; count as usize], block);
                BlockOp::Write(range(count), access(fua))
            }
            70..75 => {
                let count = fit(1 + self.rng.skewed(0, 200));
                let zeroes = self.rng.percent(30);
                bytes = if zeroes { Vec::new() } else { store::bytes_of(&[stamp], block) };
                let unmap = zeroes && self.rng.percent(50);
                BlockOp::WriteSame { lba: Lba(lba), blocks: BlockCount(u64::from(count)), unmap, zeroes }
            }
            75..80 => {
                let count = self.rng.between(1, 3);
                let ranges = (0..count).map(|_| {
                    let lba = self.rng.below(blocks);
                    BlockRange {
                        lba: Lba(lba),
                        blocks: (1 + self.rng.skewed(0, 200)).min(blocks - lba) as u32,
                    }
                });
                BlockOp::Unmap(ranges.collect())
            }
            80..86 => {
                let count = fit(2);
                let found = &self.arrays[array].stores[volume].visible[lba as usize..][..count as usize];
                let old = if self.rng.percent(80) { found.to_vec() } else { vec![u64::MAX; count as usize] };
                bytes = store::bytes_of(&[old, vec![stamp; count as usize]].concat(), block);
                BlockOp::CompareAndWrite(range(count), access(fua))
            }
            86..95 => BlockOp::Read(range(fit(64)), access(fua)),
            _ => BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) },
        };
        let concerns = |write: &HostOp| {
            let here = write.array == array && write.volume == volume;
            here && (matches!(op, BlockOp::Flush { .. }) || meets(&op, &write.op))
        };
        let promised = self.hosts.promised.iter().filter(|(_, write)| concerns(write));
        let after =
            promised.map(|(tag, write)| (*tag, write.sequences.iter().max().copied().unwrap_or(0))).collect();
        let host =
            HostOp { worker, array, volume, op: op.clone(), sequences: Vec::new(), stored: false, after };
        self.hosts.ops.insert(tag, host);
        self.hosts.by_stamp.insert(stamp, tag);
        self.submit(array, volume, tag, op, &bytes);
        if self.rng.one_in(100) && self.arrays[array].up && self.hosts.ops.contains_key(&tag) {
            self.arrays[array].fronts[volume].abort(tag);
            self.steps_of(array, volume);
        }
    }

    fn again(&mut self, worker: usize, most_micros: u64) {
        let wait = Duration::from_micros(1 + self.rng.skewed(0, most_micros));
        self.later(wait, 0, Event::Host(worker));
    }

    /// To the front, or past it where it says so.
    pub fn submit(&mut self, array: usize, volume: usize, tag: u64, op: BlockOp, bytes: &[u8]) {
        let data = self.data(bytes);
        if self.arrays[array].fronts[volume].passes(&op) {
            return self.store(array, volume, tag, op, &data);
        }
        let now = self.now;
        self.arrays[array].fronts[volume].submit(now, tag, op, data);
        self.steps_of(array, volume);
    }

    /// A host's operation has ended, or one of the other array.
    pub fn done(
        &mut self,
        array: usize,
        _volume: usize,
        tag: u64,
        result: Result<(), BlockError>,
        data: &Scatter,
        status: Vec<LbaStatus>,
    ) {
        if tag & PEER != 0 {
            if let Some(peer) = self.hosts.peers.remove(&tag) {
                // It came in at this array: the answer goes to the other.
                debug_assert_eq!(peer.array, array);
                self.peer_done(peer, result, data, &status);
            }
            return;
        }
        let Some(op) = self.hosts.ops.remove(&tag) else {
            return self.fail(format!("operation {tag} ended twice"));
        };
        if let Some((of, block)) = self.watched
            && op.op.writes()
            && of == op.volume
            && hits(&op.op, block as u64)
        {
            self.note(format!("array {array} answers {tag}: {result:?} {:?} {:?}", op.op, op.sequences));
        }
        if op.op.writes() && result.is_ok() {
            self.hosts.written += 1;
            self.judge_answer(array, tag, &op);
        } else if result.is_ok() {
            self.judge_after(array, &op);
        }
        if matches!(op.op, BlockOp::Read(..)) && result.is_ok() {
            store::stamps(&store::bytes(data), self.plan.block_bytes as usize);
        }
        let worker = op.worker;
        match result {
            Err(BlockError::BecomingReady | BlockError::NotServed | BlockError::WriteProtected) => {
                if self.rng.percent(30) {
                    self.hosts.targets[worker] = 1 - array;
                }
                self.again(worker, 20_000);
            }
            _ => self.again(worker, self.plan.think),
        }
    }

    /// A front says that a write is lost that was answered.
    pub fn deferred(&mut self, array: usize, volume: usize, lba: Lba, error: BlockError) {
        self.seen.note(format!("promised write lost: {error:?}"));
        let lost = |op: &HostOp| {
            op.array == array
                && op.volume == volume
                && matches!(op.op, BlockOp::Write(range, _) if range.lba == lba)
        };
        let found = self.hosts.promised.iter().find(|(_, op)| lost(op)).map(|(tag, _)| *tag);
        self.hosts.lost.extend(found);
        // One that a store has half done counts as stored.
        if found.and_then(|tag| self.hosts.promised.remove(&tag)).is_none() && !self.judge.unclear {
            self.fail(format!("array {array} has lost a write that it did not promise"));
        }
    }

    /// Workers whose array crashed begin anew.
    pub fn restart_workers(&mut self) {
        let orphans: Vec<u64> =
            self.hosts.ops.iter().filter(|(_, op)| op.array == usize::MAX).map(|(tag, _)| *tag).collect();
        for tag in orphans {
            if let Some(op) = self.hosts.ops.remove(&tag) {
                self.again(op.worker, 5_000);
            }
        }
    }
}
