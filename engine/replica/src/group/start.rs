//! What a journal device says at start: a new journal, one of ours, or one that must not be touched; and recovery.

use super::lose::Losing;
use super::program::{Program, Running};
use super::saver::{Durable, Saver};
use super::{Difference, Fronts, GroupPlan, Link, Live, Orders, PlannedVolume, Polls};
use crate::action::{DeviceEnd, DeviceOp};
use crate::context::{Context, Owner};
use crate::generation::Generation;
use crate::level::Level;
use crate::mail::VolumeIndex;
use crate::record::{Record, Side, State};
use kagami_journal::{
    BLOCK, Bits, EntryHead, EntryKind, Found, GRANULE, Layout, Recovered, Recovery, RecoveryPlan, Replay,
    SUPERBLOCK_PLACES, Superblock, Verdict, Wanted,
};
use kagami_memory::{Pool, Scatter};
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, Epoch, Lba, Time};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Writes that are applied again at once, and reads of the journal ahead of them.
const REPLAYING: usize = 64;
const AHEAD: u64 = 8 << 20;
/// Blocks that one operation of a volume takes at most, in bytes.
const MOST: u64 = 1 << 30;

/// What an operator can do about a journal without which the volumes are not served.
const DECIDE: &str = "take the other array over, or delete the pair here, which serves what the volumes have";

/// How often superblocks that cannot be read are read again, and after how long, before that counts.
const TRIES: u8 = 10;
const AGAIN: Duration = Duration::from_millis(500);

/// Reads the two superblocks.
#[derive(Debug)]
pub(super) struct Boot {
    tags: [u64; 2],
    got: [Option<Vec<u8>>; 2],
    /// One could not be read, the last time.
    failed: bool,
    /// How often that was so, and when they are read again.
    tries: u8,
    retry: Time,
}

impl Boot {
    pub(super) fn begin(cx: &mut Context<'_>) -> Self {
        let mut boot = Self { tags: [0; 2], got: [None, None], failed: false, tries: 0, retry: Time::NEVER };
        boot.read(cx);
        boot
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        let len = u32::try_from(BLOCK).unwrap_or(4096);
        self.tags = SUPERBLOCK_PLACES.map(|at| cx.actions.journal(Owner::Group, DeviceOp::Read { at, len }));
        self.got = [None, None];
        self.failed = false;
    }

    /// Whether both are there now, or one of them is given up.
    pub(super) fn on_device(&mut self, cx: &mut Context<'_>, tag: u64, end: &DeviceEnd) -> bool {
        for (slot, wanted) in self.got.iter_mut().zip(self.tags) {
            if wanted == tag {
                self.failed |= end.is_err();
                *slot = Some(end.as_ref().map(Scatter::to_vec).unwrap_or_default());
            }
        }
        if !self.got.iter().all(Option::is_some) {
            return false;
        }
        if self.failed && self.tries < TRIES {
            if self.tries == 0 {
                cx.actions.event("the superblocks of the journal cannot be read: trying again");
            }
            self.tries += 1;
            self.retry = cx.now + AGAIN;
            return false;
        }
        true
    }

    pub(super) fn on_tick(&mut self, cx: &mut Context<'_>) {
        if self.retry <= cx.now {
            self.retry = Time::NEVER;
            self.read(cx);
        }
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.retry
    }

    pub(super) fn found(
        &self,
        plan: &GroupPlan,
        sequencer: &Arc<AtomicU64>,
        cx: &mut Context<'_>,
    ) -> Result<Box<Live>, String> {
        let [first, second] = &self.got;
        let (first, second) = (first.as_deref().unwrap_or_default(), second.as_deref().unwrap_or_default());
        if first.is_empty() != second.is_empty() {
            cx.actions
                .event("one of the two superblocks of the journal cannot be read: the other one counts");
        }
        let durable = match Superblock::choose(first, second) {
            Found::Blank => match plan.create {
                Some(side) => blank(plan, side, cx)?,
                None => {
                    return Err("its journal is blank: it is not the one that it was made with".to_owned());
                }
            },
            Found::Foreign => return Err("its journal volume holds something else".to_owned()),
            Found::Corrupt => match plan.create {
                // The first one that it ever had was torn: of a group that is being made, nothing is lost with it.
                Some(side) if is_blank(first) || is_blank(second) => blank(plan, side, cx)?,
                _ => {
                    return Err(format!(
                        "both superblocks of its journal are damaged or cannot be read: {DECIDE}"
                    ));
                }
            },
            Found::Newer(version) => {
                return Err(format!("its journal has format {version}, which this release does not know"));
            }
            // Claimed, and nothing else: a crash came before the group's first record.
            Found::Ours(block, _) if block.record.is_empty() && plan.create.is_some() => {
                let side = plan.create.unwrap_or(Side::Primary);
                let mut durable = blank(plan, side, cx)?;
                durable.block.version = block.version;
                durable
            }
            Found::Ours(block, _) if block.group != plan.group || block.journal != plan.journal => {
                match plan.create {
                    // A journal that served a group which was deleted may be used again.
                    Some(side) if Record::decode(&block.record).is_ok_and(|record| record.deleted) => {
                        let mut durable = blank(plan, side, cx)?;
                        durable.block.version = block.version;
                        durable
                    }
                    _ => return Err("its journal volume belongs to another group".to_owned()),
                }
            }
            Found::Ours(block, _) => {
                let durable = Durable::read(*block).map_err(|error| error.to_string())?;
                match plan.create {
                    Some(side) if durable.record.deleted => {
                        let mut new = blank(plan, side, cx)?;
                        new.block.version = durable.block.version;
                        new
                    }
                    _ => durable,
                }
            }
        };
        Live::new(plan, sequencer, durable, cx).map(Box::new)
    }
}

/// It was read, and nothing was ever written there.
fn is_blank(block: &[u8]) -> bool {
    !block.is_empty() && block.iter().all(|byte| *byte == 0)
}

fn blank(plan: &GroupPlan, side: Side, cx: &mut Context<'_>) -> Result<Durable, String> {
    let covered =
        plan.volumes.iter().map(|volume| volume.blocks.saturating_mul(u64::from(volume.block_size))).sum();
    let layout = Layout::new(plan.journal_bytes, covered).map_err(|error| error.to_string())?;
    let epoch = Epoch(Live::random_word(cx));
    let block = Superblock::new(plan.journal, plan.group, layout, epoch);
    let generation = match side {
        Side::Primary => Generation::first(Live::random_id(cx)),
        Side::Secondary => Generation::default(),
    };
    Ok(Durable::new(block, Record::new(side, generation)))
}

/// Granules of each volume, by number, and a number over the shapes of all: two sides that fit have the same.
pub(super) fn shape(volumes: &[PlannedVolume]) -> (Vec<u64>, u32) {
    let count = volumes.iter().map(|volume| usize::from(volume.index.0) + 1).max().unwrap_or(0);
    let mut granules = vec![0; count];
    let mut shape = 0;
    for volume in volumes {
        let bytes = volume.blocks.saturating_mul(u64::from(volume.block_size));
        if let Some(slot) = granules.get_mut(usize::from(volume.index.0)) {
            *slot = bytes.div_ceil(GRANULE);
        }
        shape = crc32c::crc32c_append(shape, &[volume.index.0]);
        shape = crc32c::crc32c_append(shape, &volume.blocks.to_le_bytes());
        shape = crc32c::crc32c_append(shape, &volume.block_size.to_le_bytes());
    }
    (granules, shape)
}

/// A read of the replay; without a tag it is to be asked for again.
#[derive(Debug)]
struct ReplayRead {
    tag: Option<u64>,
    at: u64,
    len: u32,
    data: Option<Scatter>,
}

/// Recovery and replay of a primary.
#[derive(Debug)]
pub(super) struct Recovering {
    recovery: Option<Recovery>,
    /// What recovery asked for.
    asked: Option<(u64, Wanted)>,
    /// What the device did not do, and is to be asked for again; how often that was so.
    again_for: Option<Wanted>,
    tries: u8,
    /// Nothing is asked for before.
    due: Time,
    pub(super) found: Option<Recovered>,
    replay: Option<Replay>,
    /// Reads of the replay in the order in which they were asked for.
    reads: VecDeque<ReplayRead>,
    applying: BTreeSet<u64>,
    waiting: VecDeque<(EntryHead, Scatter)>,
    failed: Option<String>,
    /// A volume has refused a write: all of it is done again, so that nothing old comes after something new.
    again: bool,
}

impl Recovering {
    pub(super) fn new(block: &Superblock, granules: &[u64]) -> Self {
        Self {
            recovery: Some(Recovery::new(RecoveryPlan::of(block, 0, granules))),
            asked: None,
            again_for: None,
            tries: 0,
            due: Time(0),
            found: None,
            replay: None,
            reads: VecDeque::new(),
            applying: BTreeSet::new(),
            waiting: VecDeque::new(),
            failed: None,
            again: false,
        }
    }

    /// Goes on. Whether all is done; an error ends it.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>, block: &Superblock) -> Result<bool, String> {
        if let Some(why) = self.failed.take() {
            return Err(why);
        }
        if let Some(recovery) = &mut self.recovery {
            if self.asked.is_none() && self.due <= cx.now {
                self.asked = self.again_for.take().or_else(|| recovery.next_wanted()).map(|wanted| {
                    let op = match wanted {
                        Wanted::Flush => DeviceOp::Flush,
                        Wanted::Read { at, len } => DeviceOp::Read { at, len },
                    };
                    (cx.actions.journal(Owner::Recovery, op), wanted)
                });
            }
            let Some(found) = recovery.result().cloned() else { return Ok(false) };
            self.recovery = None;
            match found.verdict {
                Verdict::End => {}
                Verdict::Corrupt => {
                    return Err(format!(
                        "its journal is damaged at {} ({:?}), in what its volumes may lack: {DECIDE}",
                        found.end.offset, found.ending
                    ));
                }
                Verdict::Unreadable => {
                    return Err(format!("its journal cannot be read at {}: {DECIDE}", found.end.offset));
                }
                Verdict::Newer => return Err("its journal was written by a later release".to_owned()),
            }
            self.replay = Some(Replay::new(block.group, block.layout, found.replay, found.end.offset));
            self.found = Some(found);
        }
        self.replay(cx, block)
    }

    fn replay(&mut self, cx: &mut Context<'_>, block: &Superblock) -> Result<bool, String> {
        let Some(replay) = &mut self.replay else { return Ok(false) };
        let destaged = block.destaged_sequence;
        while replay.ahead() < AHEAD {
            let Some((at, len)) = replay.next_read() else { break };
            self.reads.push_back(ReplayRead { tag: None, at, len, data: None });
        }
        for read in self.reads.iter_mut().filter(|read| read.tag.is_none() && self.due <= cx.now) {
            let op = DeviceOp::Read { at: read.at, len: read.len };
            read.tag = Some(cx.actions.journal(Owner::Recovery, op));
        }
        while let Some(data) = self.reads.front_mut().and_then(|read| read.data.take()) {
            self.reads.pop_front();
            replay.on_read(data).map_err(|error| format!("its journal cannot be replayed: {error}"))?;
        }
        while self.waiting.len() < REPLAYING {
            let Some(frame) = replay.next() else { break };
            let frame = frame.map_err(|error| format!("its journal cannot be replayed: {error}"))?;
            let entries = frame.entries.into_iter();
            self.waiting.extend(entries.filter(|(head, _)| head.kind.changes() && head.sequence > destaged));
        }
        while self.applying.len() < REPLAYING && !self.again {
            let Some((head, data)) = self.waiting.pop_front() else { break };
            for (volume, op) in operations(&head) {
                self.applying.insert(cx.actions.apply(Owner::Recovery, volume, op, clone(&data)));
            }
        }
        let done = replay.is_done() && self.waiting.is_empty() && self.applying.is_empty() && !self.again;
        Ok(done)
    }

    /// Whether it is to be asked for once more, at `due`: what a device could not do at once it may do yet.
    pub(super) fn on_device(&mut self, pool: &Pool, due: Time, tag: u64, end: DeviceEnd) -> bool {
        let again = end.is_err() && self.tries < 2 * TRIES;
        if let Some((_, wanted)) = self.asked.take_if(|(asked, _)| *asked == tag) {
            if again {
                (self.tries, self.due) = (self.tries + 1, due);
                self.again_for = Some(wanted);
                return true;
            }
            match (&mut self.recovery, wanted) {
                (Some(recovery), Wanted::Flush) => recovery.on_flushed(end.is_ok()),
                (Some(recovery), Wanted::Read { .. }) => recovery.on_read(end.ok(), pool),
                (None, _) => {}
            }
            return false;
        }
        let Some(read) = self.reads.iter_mut().find(|read| read.tag == Some(tag)) else { return false };
        match end {
            Ok(data) => read.data = Some(data),
            Err(_) if again => {
                (self.tries, self.due) = (self.tries + 1, due);
                read.tag = None;
                return true;
            }
            Err(error) => self.failed = Some(format!("its journal cannot be read: {error}: {DECIDE}")),
        }
        false
    }

    /// Writes are on their way to the volumes.
    pub(super) fn is_applying(&self) -> bool {
        !self.applying.is_empty()
    }

    /// A write is applied again, or the volume does not take it: then it is tried again, and the volumes wait.
    pub(super) fn on_applied(&mut self, tag: u64, result: Result<(), BlockError>) -> Option<BlockError> {
        if !self.applying.remove(&tag) {
            return None;
        }
        let error = result.err()?;
        self.again = true;
        Some(error)
    }

    /// Begins again after a write that was refused.
    pub(super) fn retry(&mut self, block: &Superblock) {
        let Some(found) = self.found.as_ref().filter(|_| self.again && self.applying.is_empty()) else {
            return;
        };
        self.again = false;
        self.waiting.clear();
        self.reads.clear();
        self.replay = Some(Replay::new(block.group, block.layout, found.replay, found.end.offset));
    }
}

fn clone(data: &Scatter) -> Scatter {
    let mut copy = Scatter::default();
    copy.push_range(data, 0, data.len_bytes());
    copy
}

/// The block operations of an entry.
fn operations(head: &EntryHead) -> Vec<(VolumeIndex, BlockOp)> {
    let volume = VolumeIndex(head.volume);
    let most = MOST >> head.shift;
    let mut operations = Vec::new();
    let mut lba = head.lba;
    let end = head.lba.saturating_add(head.blocks);
    while lba < end {
        let blocks = (end - lba).min(most.max(1));
        let range = BlockRange { lba: Lba(lba), blocks: u32::try_from(blocks).unwrap_or(u32::MAX) };
        operations.push((
            volume,
            match head.kind {
                EntryKind::Same => BlockOp::WriteSame {
                    lba: Lba(lba),
                    blocks: BlockCount(blocks),
                    unmap: false,
                    zeroes: false,
                },
                EntryKind::Zero { unmap } => {
                    BlockOp::WriteSame { lba: Lba(lba), blocks: BlockCount(blocks), unmap, zeroes: true }
                }
                _ => BlockOp::Write(range, Access::default()),
            },
        ));
        lba += blocks;
    }
    operations
}

impl Live {
    pub(super) fn new(
        plan: &GroupPlan,
        sequencer: &Arc<AtomicU64>,
        durable: Durable,
        cx: &Context<'_>,
    ) -> Result<Self, String> {
        if plan.volumes.len() > super::VOLUMES {
            return Err(format!("a group has at most {} volumes", super::VOLUMES));
        }
        let (granules, shape) = shape(&plan.volumes);
        let difference = Difference::new(plan.group, durable.block.layout, &granules)
            .ok_or("its journal has no room for the bitmap of its volumes")?;
        let block = &durable.block;
        let last =
            block.sequence.max(block.read_sequence).max(block.restored_sequence).max(block.destaged_sequence);
        sequencer.fetch_max(last.0, Ordering::AcqRel);
        let fresh = block.version == 0 || durable.record.state == State::Smpl;
        let behind = durable.target_sequence > durable.block.restored_sequence;
        let reads_after = behind.then_some(durable.target_sequence);
        Ok(Self {
            granules,
            shape,
            difference,
            link: Link::new(plan.group, plan.peer_array, durable.far_version),
            fronts: Fronts::new(plan.volumes.iter().map(|volume| volume.index).collect()),
            plan: plan.clone(),
            sequencer: Arc::clone(sequencer),
            saver: Saver::new(durable),
            source: None,
            source_saves: None,
            source_ends: None,
            source_begun: false,
            source_stopped: false,
            sink: None,
            sink_saves: None,
            sink_polls: Polls::No,
            sink_confirms: false,
            rotten: false,
            damaged: None,
            losing: Losing::No,
            again: false,
            tally: None,
            goal: None,
            running: None,
            orders: Orders::default(),
            marks: VecDeque::new(),
            tracking: false,
            serving: fresh,
            recovering: true,
            started: cx.now,
            asked: cx.now,
            pages: 0,
            split_brain: false,
            cancel: false,
            reads_after,
            last_error: String::new(),
            level: Level::default(),
            news: false,
            retry: Time::NEVER,
        })
    }

    /// The first program.
    pub(super) fn start(&mut self, cx: &mut Context<'_>) {
        let record = self.record();
        let program = if record.journals() {
            let recovering = Recovering::new(&self.saver.durable().block, &self.granules);
            Program::Recover(Box::new(recovering))
        } else {
            Program::Load
        };
        self.running = Some(Running::new(program));
        self.turn(cx);
    }

    pub(super) fn on_recovery_device(&mut self, cx: &mut Context<'_>, tag: u64, end: DeviceEnd) {
        if let Some(Running { program: Program::Recover(recovering), .. }) = &mut self.running {
            let due = cx.now + AGAIN;
            if recovering.on_device(cx.pool, due, tag, end) {
                self.retry = self.retry.min(due);
            }
        }
    }

    pub(super) fn on_replayed(&mut self, cx: &mut Context<'_>, tag: u64, result: Result<(), BlockError>) {
        let Some(Running { program: Program::Recover(recovering), .. }) = &mut self.running else { return };
        if let Some(error) = recovering.on_applied(tag, result) {
            self.retry = cx.now + std::time::Duration::from_millis(200);
            self.complain(cx, format!("a volume does not take what its journal has: {error}"));
        }
    }

    /// Bits of volumes that nobody knows anything of.
    pub(super) fn no_bits(&self) -> Vec<Bits> {
        self.granules.iter().map(|granules| Bits::new(*granules)).collect()
    }
}
