//! The formation copy, and resync: granules whose bits are set are read from the far volume and written here.
//!
//! A stretch of the volume is *claimed*; then the far volume is asked which of it is allocated; what is not is zeroed or unmapped
//! here, the rest read in regions of 1 MiB. From the claim on until a granule is written, entries for it wait: what is read may
//! have them or not. Entries for what is not claimed are not needed, since it will be read later. Whoever claims after an
//! entry was seen reads after it is stable on the far side, and a peer's read there waits for the writes before it.

use super::event::Trouble;
use super::flow::Bucket;
use super::plan::{PATIENCE, Pace, SinkVolume};
use crate::action::{FarEnd, FarOp, FarUnit};
use crate::context::{Context, Owner};
use crate::mail::VolumeIndex;
use kagami_journal::{Bits, GRANULE};
use kagami_memory::Scatter;
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, Lba, Time};
use std::time::Duration;

/// Granules of a region: 1 MiB.
const REGION: u64 = 16;
/// Granules of a claim, where something is allocated: 32 MiB.
const CLAIM: u64 = 512;
/// Granules of a claim, where nothing was for long: 1 GiB.
const CLAIM_MOST: u64 = 16384;
/// Granules that are zeroed at once: 64 MiB.
const ZERO: u64 = 1024;
/// Claims at one time.
const CLAIMS: usize = 4;
/// Pieces in flight at full pace, and at a gentle one.
const PIECES: usize = 32;
const PIECES_GENTLE: usize = 1;
/// The gentle pause after a piece, in parts of the time that the far array worked for it, and at most.
const GENTLE: u32 = 20;
const GENTLE_MOST: Duration = Duration::from_secs(1);
/// Questions about allocation for one claim; the rest counts as allocated.
const QUESTIONS: u32 = 8;
const AGAIN: Duration = Duration::from_millis(20);

/// What an entry for a range does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It is applied.
    Apply,
    /// It is not needed: all of it will be read later.
    Skip,
    /// It waits: some of it is being read.
    Wait,
}

#[derive(Debug)]
struct Volume {
    plan: SinkVolume,
    /// What is not written here yet.
    bits: Bits,
    /// Written, and not flushed since the last checkpoint.
    fresh: Bits,
    /// Written before the flush that is under way.
    flushing: Bits,
    cursor: u64,
    /// The far volume says what is allocated.
    status: bool,
    /// Granules of the next claim.
    claim: u64,
    /// Granules of a region: fewer where longer reads are refused.
    region: u64,
}

#[derive(Debug)]
struct Claim {
    volume: usize,
    start: u64,
    end: u64,
    /// Up to where allocation is known, in bytes.
    known: u64,
    asked: Option<u64>,
    asked_at: Time,
    questions: u32,
    /// Deallocated runs, in bytes.
    holes: Vec<(u64, u64)>,
    /// The next granule that is given to a piece.
    cursor: u64,
    /// A far recovery came between: nothing of it counts.
    stale: bool,
    again: Time,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Waiting(Time),
    Reading(u64),
    /// Read, to be written again at that time.
    Holding(Time),
    Writing(u64),
}

#[derive(Debug)]
struct Piece {
    claim: u64,
    volume: usize,
    start: u64,
    end: u64,
    zero: bool,
    phase: Phase,
    data: Scatter,
    /// Since when it is refused.
    refused: Option<Time>,
    since: Time,
}

/// The copying part of a sink.
#[derive(Debug)]
pub(super) struct Copy {
    volumes: Vec<Volume>,
    claims: Vec<(u64, Claim)>,
    pieces: Vec<Piece>,
    next_claim: u64,
    turn: usize,
    pace: Pace,
    /// Of a pace that is a rate.
    paced: Bucket,
    most: usize,
    rest_until: Time,
    /// The least time that a question took: the way there and back.
    way: Duration,
    left: u64,
    total: u64,
    /// Bytes that were read from the far array.
    pub(super) copied: u64,
    trouble: Option<Trouble>,
}

impl Copy {
    pub(super) fn new(
        volumes: &[SinkVolume],
        to_copy: Vec<(VolumeIndex, Bits)>,
        pace: Pace,
        memory: u64,
    ) -> Self {
        let mut made: Vec<Volume> = Vec::new();
        for (index, mut bits) in to_copy {
            let Some(plan) = volumes.iter().find(|volume| volume.index == index) else { continue };
            let granules = plan.bytes().div_ceil(GRANULE);
            bits.clear_range(granules, u64::MAX);
            bits.grow(granules);
            let (fresh, flushing) = (Bits::new(bits.len()), Bits::new(bits.len()));
            made.push(Volume {
                plan: *plan,
                bits,
                fresh,
                flushing,
                cursor: 0,
                status: true,
                claim: CLAIM,
                region: REGION,
            });
        }
        let left = made.iter().map(|volume| volume.bits.count()).sum();
        Self {
            volumes: made,
            claims: Vec::new(),
            pieces: Vec::new(),
            next_claim: 0,
            turn: 0,
            pace,
            paced: Bucket::new(pace.rate()),
            most: usize::try_from(memory / (REGION * GRANULE)).unwrap_or(PIECES).clamp(1, PIECES),
            rest_until: Time(0),
            way: Duration::MAX,
            left,
            total: left,
            copied: 0,
            trouble: None,
        }
    }

    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
        self.paced.set(pace.rate());
        self.rest_until = Time(0);
    }

    pub(super) fn trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// Granules that are not written, and those that there were.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.left, self.total)
    }

    /// Everything is written here.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0 && self.pieces.is_empty() && self.claims.is_empty()
    }

    /// Something is written and not flushed.
    pub(super) fn is_fresh(&self) -> bool {
        self.volumes.iter().any(|volume| !volume.fresh.is_empty())
    }

    /// Writes to volumes are under way.
    pub(super) fn is_writing(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece.phase, Phase::Writing(_)))
    }

    /// What of a volume is not known to be copied and flushed.
    pub(super) fn remaining(&self, index: VolumeIndex) -> Option<Bits> {
        let volume = self.volumes.iter().find(|volume| volume.plan.index == index)?;
        let mut bits = volume.bits.clone();
        bits.union(&volume.fresh);
        bits.union(&volume.flushing);
        Some(bits)
    }

    /// What an entry for those bytes does.
    #[inline]
    pub(super) fn rule(&self, index: VolumeIndex, bytes: (u64, u64)) -> Rule {
        if self.left == 0 && self.claims.is_empty() {
            return Rule::Apply;
        }
        let Some(at) = self.volumes.iter().position(|volume| volume.plan.index == index) else {
            return Rule::Apply;
        };
        let bits = &self.volumes[at].bits;
        let (start, end) = (bytes.0 / GRANULE, bytes.1.div_ceil(GRANULE));
        if !bits.intersects(start, end) {
            return Rule::Apply;
        }
        let claimed = |(_, claim): &(u64, Claim)| {
            claim.volume == at && bits.intersects(start.max(claim.start), end.min(claim.end))
        };
        if self.claims.iter().any(claimed) {
            Rule::Wait
        } else if bits.contains_range(start, end) {
            Rule::Skip
        } else {
            // Some of it is copied already. The rest is read later, over what is applied now.
            Rule::Apply
        }
    }

    /// The far array has recovered: what is being read of it is read again.
    pub(super) fn far_restarted(&mut self) {
        for (_, claim) in &mut self.claims {
            claim.stale = true;
            claim.asked = None;
        }
        self.pieces.retain(|piece| matches!(piece.phase, Phase::Writing(_)));
        self.sweep();
        for volume in &mut self.volumes {
            volume.cursor = 0;
            volume.region = REGION;
        }
    }

    /// Claims and sends as much as the pace allows. Whether the limit of the bandwidth holds it back.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>, bucket: &mut Bucket) -> bool {
        if self.left == 0 && self.claims.is_empty() {
            // There is nothing to rest from: nobody is to be woken for it.
            self.rest_until = Time(0);
            return false;
        }
        let most = match self.pace {
            Pace::Full | Pace::Rate(_) => self.most,
            Pace::Gentle => self.most.min(PIECES_GENTLE),
        };
        if cx.now >= self.rest_until {
            self.rest_until = Time(0);
        }
        for at in 0..self.pieces.len() {
            match self.pieces[at].phase {
                Phase::Waiting(time) if time <= cx.now => self.send(cx, at),
                Phase::Holding(time) if time <= cx.now => self.write(cx, at),
                _ => {}
            }
        }
        if self.rest_until > Time(0) {
            return false;
        }
        loop {
            self.sweep();
            self.claim();
            self.question(cx);
            if self.pieces.len() >= most {
                return false;
            }
            let Some(mut piece) = self.cut() else { return false };
            if !piece.zero {
                let (paced, open) = (self.paced.open(cx.now), bucket.open(cx.now));
                if !paced || !open {
                    // It was not sent: the claim gives it out again.
                    if let Some((_, claim)) = self.claims.iter_mut().find(|(id, _)| *id == piece.claim) {
                        claim.cursor = piece.start;
                    }
                    if !paced {
                        self.rest_until = self.paced.opens_at();
                    }
                    return !open;
                }
                let bytes = (piece.end - piece.start) * GRANULE;
                self.paced.take(bytes);
                bucket.take(bytes);
            }
            piece.since = cx.now;
            self.pieces.push(piece);
            let at = self.pieces.len() - 1;
            self.send(cx, at);
        }
    }

    /// Takes another stretch, of each volume in turn.
    fn claim(&mut self) {
        for _ in 0..self.volumes.len() {
            if self.claims.len() >= CLAIMS || self.volumes.is_empty() {
                return;
            }
            // Nothing more is claimed while a claim has something to give.
            if self
                .claims
                .iter()
                .any(|(_, claim)| claim.cursor < claim.end && !claim.stale && claim.asked.is_none())
            {
                return;
            }
            self.turn = (self.turn + 1) % self.volumes.len();
            let turn = self.turn;
            let volume = &mut self.volumes[turn];
            let mut from = volume.cursor;
            let mut start = volume.bits.next_set(from);
            if start.is_none() && from > 0 {
                from = 0;
                start = volume.bits.next_set(from);
            }
            // What is set may be claimed: look behind the claims.
            while let Some(first) = start {
                let inside = self
                    .claims
                    .iter()
                    .find(|(_, claim)| claim.volume == turn && claim.start <= first && first < claim.end);
                match inside {
                    Some((_, claim)) => start = volume.bits.next_set(claim.end),
                    None => break,
                }
            }
            let Some(start) = start else { continue };
            let next = self
                .claims
                .iter()
                .filter(|(_, claim)| claim.volume == turn && claim.start > start)
                .map(|(_, claim)| claim.start)
                .min();
            let end = start.saturating_add(volume.claim).min(volume.bits.len()).min(next.unwrap_or(u64::MAX));
            volume.cursor = end;
            let known = if volume.status { start * GRANULE } else { u64::MAX };
            let claim = Claim {
                volume: turn,
                start,
                end,
                known,
                asked: None,
                asked_at: Time(0),
                questions: 0,
                holes: Vec::new(),
                cursor: start,
                stale: false,
                again: Time(0),
            };
            self.claims.push((self.next_claim, claim));
            self.next_claim += 1;
        }
    }

    /// Asks what of the claims is allocated.
    fn question(&mut self, cx: &mut Context<'_>) {
        for (_, claim) in &mut self.claims {
            let volume = &self.volumes[claim.volume];
            if claim.stale
                || claim.asked.is_some()
                || claim.known >= claim.end * GRANULE
                || claim.again > cx.now
            {
                continue;
            }
            let at = claim.known / u64::from(volume.plan.block_size.bytes())
                * u64::from(volume.plan.block_size.bytes());
            let op = FarOp::Status { at };
            claim.questions += 1;
            claim.again = Time(0);
            claim.asked_at = cx.now;
            claim.asked = Some(cx.actions.far(Owner::Sink, FarUnit::Volume(volume.plan.index), op));
        }
    }

    /// The next piece of a claim of which allocation is known.
    fn cut(&mut self) -> Option<Piece> {
        for (id, claim) in &mut self.claims {
            if claim.stale || claim.known < claim.end * GRANULE {
                continue;
            }
            let volume = &self.volumes[claim.volume];
            let Some(start) = volume.bits.next_set(claim.cursor).filter(|start| *start < claim.end) else {
                claim.cursor = claim.end;
                continue;
            };
            let run = volume.bits.next_clear(start).min(claim.end);
            let bytes = volume.plan.bytes();
            let hole = |granule: u64| {
                let (from, to) = (granule * GRANULE, (granule * GRANULE + GRANULE).min(bytes));
                let at = claim.holes.partition_point(|hole| hole.1 < to);
                claim.holes.get(at).filter(|hole| hole.0 <= from).map(|hole| hole.1)
            };
            let (end, zero) = match hole(start) {
                Some(to) => {
                    let whole = if to >= bytes { volume.bits.len() } else { to / GRANULE };
                    (whole.min(run).min(start + ZERO).max(start + 1), true)
                }
                None => {
                    let most = run.min((start / volume.region + 1) * volume.region);
                    let mut end = start + 1;
                    while end < most && hole(end).is_none() {
                        end += 1;
                    }
                    (end, false)
                }
            };
            claim.cursor = end;
            return Some(Piece {
                claim: *id,
                volume: claim.volume,
                start,
                end,
                zero,
                phase: Phase::Waiting(Time(0)),
                data: Scatter::new(),
                refused: None,
                since: Time(0),
            });
        }
        None
    }

    /// Reads a piece, or zeroes it.
    fn send(&mut self, cx: &mut Context<'_>, at: usize) {
        let piece = &self.pieces[at];
        if piece.zero {
            return self.write(cx, at);
        }
        let volume = &self.volumes[piece.volume].plan;
        let from = piece.start * GRANULE;
        let len = (piece.end * GRANULE).min(volume.bytes()) - from;
        let op = FarOp::Read { at: from, len: u32::try_from(len).unwrap_or(0) };
        let tag = cx.actions.far(Owner::Sink, FarUnit::Volume(volume.index), op);
        self.pieces[at].phase = Phase::Reading(tag);
    }

    fn write(&mut self, cx: &mut Context<'_>, at: usize) {
        let piece = &mut self.pieces[at];
        let volume = &self.volumes[piece.volume].plan;
        let shift = volume.block_size.shift();
        let lba = (piece.start * GRANULE) >> shift;
        let blocks = (((piece.end * GRANULE).min(volume.bytes())) >> shift) - lba;
        let op = if piece.zero {
            BlockOp::WriteSame { lba: Lba(lba), blocks: BlockCount(blocks), unmap: true, zeroes: true }
        } else {
            let range = BlockRange { lba: Lba(lba), blocks: u32::try_from(blocks).unwrap_or(0) };
            BlockOp::Write(range, Access::default())
        };
        let tag = cx.actions.apply(Owner::Sink, volume.index, op, piece.data.clone());
        piece.phase = Phase::Writing(tag);
    }

    /// A far command has ended. It comes back where it is not one of these.
    pub(super) fn on_far(&mut self, cx: &mut Context<'_>, tag: u64, end: FarEnd) -> Option<FarEnd> {
        if let Some(at) = self.claims.iter().position(|(_, claim)| claim.asked == Some(tag)) {
            if !matches!(end, FarEnd::Unreachable) {
                self.way = self.way.min(cx.now.since(self.claims[at].1.asked_at));
            }
            self.on_status(cx.now, at, end);
            return None;
        }
        let Some(at) = self.pieces.iter().position(|piece| piece.phase == Phase::Reading(tag)) else {
            return Some(end);
        };
        let piece = &mut self.pieces[at];
        let volume = &self.volumes[piece.volume].plan;
        let from = piece.start * GRANULE;
        let len = (piece.end * GRANULE).min(volume.bytes()) - from;
        match end {
            FarEnd::Good(data) if data.len_bytes() as u64 == len => {
                if self.pace == Pace::Gentle {
                    // A long line is no work.
                    let work = cx.now.since(piece.since).saturating_sub(self.way);
                    self.rest_until = cx.now + work.saturating_mul(GENTLE).min(GENTLE_MOST);
                }
                piece.data = data;
                piece.refused = None;
                self.copied += len;
                self.write(cx, at);
            }
            FarEnd::Refused(_) if piece.end - piece.start > 1 => {
                // Too long, or one of its blocks cannot be read: which, shorter reads will show.
                let middle = piece.start + (piece.end - piece.start).div_ceil(2);
                let (claim, index, end) = (piece.claim, piece.volume, piece.end);
                self.volumes[index].region = self.volumes[index].region.min(middle - piece.start);
                piece.end = middle;
                piece.phase = Phase::Waiting(Time(0));
                self.pieces.push(Piece {
                    claim,
                    volume: index,
                    start: middle,
                    end,
                    zero: false,
                    phase: Phase::Waiting(Time(0)),
                    data: Scatter::new(),
                    refused: None,
                    since: cx.now,
                });
            }
            FarEnd::Refused(what) => {
                let since = *piece.refused.get_or_insert(cx.now);
                if cx.now >= since + PATIENCE {
                    self.trouble = Some(Trouble::Copy { volume: volume.index, at: from, what });
                }
                piece.phase = Phase::Waiting(cx.now + AGAIN);
            }
            FarEnd::Good(_) | FarEnd::Status(_) | FarEnd::Unreachable => {
                piece.phase = Phase::Waiting(cx.now + AGAIN);
            }
        }
        None
    }

    fn on_status(&mut self, now: Time, at: usize, end: FarEnd) {
        let (_, claim) = &mut self.claims[at];
        claim.asked = None;
        let volume = &mut self.volumes[claim.volume];
        let before = claim.known;
        match end {
            FarEnd::Status(runs) => {
                for (first, len, hole) in runs {
                    let to = first.saturating_add(len);
                    if first > claim.known || to <= claim.known {
                        continue;
                    }
                    if hole {
                        match claim.holes.last_mut() {
                            Some(last) if last.1 == claim.known => last.1 = to,
                            _ => claim.holes.push((claim.known, to)),
                        }
                    }
                    claim.known = to;
                }
            }
            FarEnd::Unreachable => {
                claim.questions -= 1;
                claim.again = now + AGAIN;
                return;
            }
            FarEnd::Good(_) | FarEnd::Refused(_) => volume.status = false,
        }
        if claim.known == before || claim.questions >= QUESTIONS {
            // Nothing more to be learnt: the rest counts as allocated.
            claim.known = u64::MAX;
        }
        if claim.known < claim.end * GRANULE {
            return;
        }
        // A long claim was a guess that nothing is there. What is there is given back but for the first stretch: entries for
        // it need not wait then.
        let all = claim.holes.first().is_some_and(|hole| {
            hole.0 <= claim.start * GRANULE && hole.1 >= (claim.end * GRANULE).min(volume.plan.bytes())
        });
        if all {
            volume.claim = (volume.claim * 2).min(CLAIM_MOST);
        } else {
            volume.claim = CLAIM;
            let empty = claim.holes.first().filter(|hole| hole.0 <= claim.start * GRANULE);
            let first = empty.map_or(claim.start, |hole| hole.1 / GRANULE);
            claim.end = claim.end.min(first.max(claim.start) + CLAIM);
            volume.cursor = volume.cursor.min(claim.end);
        }
    }

    /// A write to a volume has ended; which volume, where it was one of these.
    pub(super) fn on_applied(
        &mut self,
        now: Time,
        tag: u64,
        result: Result<(), BlockError>,
    ) -> Option<VolumeIndex> {
        let at = self.pieces.iter().position(|piece| piece.phase == Phase::Writing(tag))?;
        let piece = &mut self.pieces[at];
        let index = self.volumes[piece.volume].plan.index;
        match result {
            Ok(()) => {
                let piece = self.pieces.swap_remove(at);
                let stale = self.claims.iter().any(|(id, claim)| *id == piece.claim && claim.stale);
                if !stale {
                    let volume = &mut self.volumes[piece.volume];
                    volume.bits.clear_range(piece.start, piece.end);
                    volume.fresh.set_range(piece.start, piece.end);
                    self.left -= (piece.end - piece.start).min(self.left);
                }
                self.sweep();
            }
            Err(_) if self.claims.iter().any(|(id, claim)| *id == piece.claim && claim.stale) => {
                // Not wanted any more.
                self.pieces.swap_remove(at);
                self.sweep();
            }
            Err(BlockError::Busy | BlockError::Aborted | BlockError::BecomingReady) => {
                piece.phase = Phase::Holding(now + AGAIN);
            }
            Err(error) => {
                let volume = &self.volumes[piece.volume].plan;
                let shift = volume.block_size.shift();
                let blocks =
                    ((piece.start * GRANULE) >> shift, (piece.end * GRANULE).min(volume.bytes()) >> shift);
                self.trouble = Some(Trouble::Volume { volume: volume.index, blocks, error });
                piece.phase = Phase::Holding(Time::NEVER);
            }
        }
        Some(index)
    }

    /// Drops claims of which nothing is under way and nothing left.
    fn sweep(&mut self) {
        let pieces = &self.pieces;
        let volumes = &self.volumes;
        self.claims.retain(|(id, claim)| {
            let busy = pieces.iter().any(|piece| piece.claim == *id) || claim.asked.is_some();
            let more = !claim.stale
                && volumes[claim.volume].bits.next_set(claim.cursor).is_some_and(|next| next < claim.end);
            busy || more
        });
    }

    /// What is written now will be flushed.
    pub(super) fn flush_begins(&mut self) {
        for volume in &mut self.volumes {
            let Volume { fresh, flushing, .. } = volume;
            flushing.union(fresh);
            fresh.clear();
        }
    }

    /// It is flushed.
    pub(super) fn flush_done(&mut self) -> Vec<(VolumeIndex, Vec<(u64, u64)>)> {
        let mut done = Vec::new();
        for volume in &mut self.volumes {
            let runs: Vec<_> = volume.flushing.runs().collect();
            if !runs.is_empty() {
                done.push((volume.plan.index, runs));
                volume.flushing.clear();
            }
        }
        done
    }

    /// The flush failed: it is not flushed.
    pub(super) fn flush_failed(&mut self) {
        for volume in &mut self.volumes {
            let Volume { fresh, flushing, .. } = volume;
            fresh.union(flushing);
            flushing.clear();
        }
    }

    /// The reads that are under way.
    #[cfg(test)]
    pub(super) fn reading(&self) -> Vec<u64> {
        let tag = |piece: &Piece| if let Phase::Reading(tag) = piece.phase { Some(tag) } else { None };
        self.pieces.iter().filter_map(tag).collect()
    }

    pub(super) fn next_deadline(&self) -> Time {
        let pieces = self.pieces.iter().map(|piece| match piece.phase {
            Phase::Waiting(at) | Phase::Holding(at) => at,
            _ => Time::NEVER,
        });
        let claims = self.claims.iter().map(|(_, claim)| {
            if claim.again > Time(0) && claim.asked.is_none() {
                claim.again.max(self.rest_until)
            } else {
                Time::NEVER
            }
        });
        let rest = if self.rest_until > Time(0) { self.rest_until } else { Time::NEVER };
        pieces.chain(claims).min().unwrap_or(Time::NEVER).min(rest)
    }
}
