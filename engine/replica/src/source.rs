//! The primary's data path: entries into the journal, and the journal's space out again.
//!
//! Host writes come as [`append`](Source::append); frames go to the journal device, several under way; what is stable is
//! told to the fronts. What is freed follows from three places: what is **stable**, what the reader has **confirmed** as
//! durable, and what is **destaged**: in the volumes and flushed. `out` is the smaller of the last two, and counts when
//! the superblock that says so is durable ([`SourceEvent::Save`], [`saved`](Source::saved)).
//!
//! It does not decide what happens when the journal is full or fails, and knows no states: [`SourceEvent`]s go to the
//! group, which calls it. After [`stop`](Source::stop) no frame is begun; what is under way ends, and then
//! [`unconfirmed`](Source::unconfirmed) covers everything that the reader may lack.

mod checkpoint;
mod figures;
mod generations;
mod overflow;
mod plan;
#[cfg(test)]
pub(crate) mod tests;

pub use figures::SourceFigures;
pub use plan::{SourcePlan, SourceVolume};

use crate::action::{DeviceEnd, DeviceOp};
use crate::context::{Context, Owner};
use crate::mail::{Change, ToFront, VolumeIndex};
use checkpoint::Checkpoint;
use figures::Rates;
use generations::Generations;
use kagami_journal::{Bits, EntryHead, EntryKind, Index, IndexRecord, Layout, Pushed, Superblock, Writer};
use kagami_memory::{Class, Purpose, Scatter, ScatterMut};
use kagami_types::{BlockError, Epoch, JournalPos, Sequence, Time, Uuid};
use overflow::Pace;
use std::collections::VecDeque;
use std::time::Duration;

/// How long after the last stable frame the journal says itself that it was stable.
const BEACON: Duration = Duration::from_millis(100);
/// How often the superblock says anew what is stable and confirmed, at most.
const SAVE: Duration = Duration::from_secs(1);
/// When pages for a frame are looked for again.
const PAGES: Duration = Duration::from_millis(1);

/// What the group must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// The first frame of the epoch is stable: writes are journaled, and the epoch may be shown.
    Begun,
    /// Positions are worth a superblock: [`Source::fill`], and [`Source::saved`] when it is durable.
    Save,
    /// There is no room, the reader being behind, and the overflow policy's patience is over: suspend.
    Full,
    /// The journal cannot be written: suspend. Nothing is written any more.
    Failed(BlockError),
    /// Everything up to the sequence that [`Source::drain`] named is stable.
    Drained {
        /// The end of what is stable.
        at: JournalPos,
        /// The last sequence there.
        sequence: Sequence,
    },
    /// After [`Source::stop`]: nothing is under way any more.
    Stopped {
        /// The end of what is stable, for good.
        at: JournalPos,
        /// The last sequence there.
        sequence: Sequence,
    },
    /// Everything stable at the time of [`Source::checkpoint`] is in the volumes and flushed; positions say how far.
    Destaged,
}

/// With what an entry goes into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// It waits for nothing: somebody waits for it.
    None,
    /// With the next one, which is of the same operation.
    Next,
    /// Its host was answered: it may wait a little for whatever comes.
    Any,
}

/// What a reader's position is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It counts, or is older than what counted already.
    Taken,
    /// It is beyond what is stable here, or of an epoch that is not the one there: the reader has what this journal never
    /// had, or lost. Nothing was taken; the group suspends.
    Beyond,
}

#[derive(Debug)]
struct Volume {
    index: VolumeIndex,
    shift: u8,
    /// The newest sequence that came from it.
    newest: Sequence,
    /// What its front was told to be stable.
    told: Sequence,
    /// It has entries that no checkpoint covers.
    dirty: bool,
}

/// What a device operation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Everything written before this start becomes stable.
    Flush,
    /// A frame.
    Frame(u64),
    /// A block of the index.
    Index,
}

/// A frame that is not stable yet: where it ends, its last sequence, the time of its last entry.
#[derive(Clone, Copy, Debug)]
struct Flying {
    end: u64,
    last: Sequence,
    time: u64,
}

/// The primary's data path.
#[derive(Debug)]
pub struct Source {
    group: Uuid,
    layout: Layout,
    writer: Writer,
    volumes: Vec<Volume>,
    /// Volume numbers to places in `volumes`.
    places: Vec<Option<usize>>,
    bits: Generations,
    index: Index,
    doing: Vec<(u64, Doing)>,
    frames: VecDeque<Flying>,
    /// The epoch before `out`, and those that begin behind it, with their places.
    out_epoch: Epoch,
    /// What a superblock last had as `out`; it may be durable.
    said_out: JournalPos,
    epochs: VecDeque<(u64, Epoch)>,
    confirmed: u64,
    /// The time of the newest stable entry.
    time: u64,
    /// The time of the newest entry that came.
    clock: u64,
    destaged: (u64, Sequence),
    /// A purge order's limit.
    limit: u64,
    checkpoint: Checkpoint,
    pace: Pace,
    rates: Rates,
    /// The device was flushed; frames may be begun.
    flushed: bool,
    begun: bool,
    stopping: bool,
    stopped: bool,
    failed: bool,
    drain: Option<Sequence>,
    /// A save was asked for and is not done; when the last was asked for; what it had.
    saving: bool,
    saved_at: Time,
    saved: (u64, u64, u64),
    stable_since: Time,
    /// No page was to be had.
    pages_at: Time,
    events: VecDeque<SourceEvent>,
}

impl Source {
    /// Begins an epoch: the device is flushed, then its first frame written. Entries may come at once.
    #[must_use]
    pub fn begin(plan: SourcePlan, cx: &mut Context<'_>) -> Self {
        let mut places = vec![None; 256];
        let mut volumes: Vec<Volume> = Vec::with_capacity(plan.volumes.len());
        for volume in &plan.volumes {
            if let Some(place) = places.get_mut(usize::from(volume.index.0)) {
                *place = Some(volumes.len());
            }
            volumes.push(Volume {
                index: volume.index,
                shift: volume.shift,
                newest: Sequence::ZERO,
                told: Sequence::ZERO,
                // After a restart the store may still have what was written before it.
                dirty: plan.destaged.0 < plan.at,
            });
        }
        let writer = Writer::new(
            plan.group,
            plan.layout,
            (plan.epoch, plan.parent),
            (plan.at, plan.previous),
            plan.next,
            plan.out.offset,
        );
        let mut epochs: VecDeque<_> = plan.epochs.iter().copied().collect();
        epochs.push_back((plan.at, plan.epoch));
        let before = Sequence(plan.next.0.saturating_sub(1));
        let mut source = Self {
            group: plan.group,
            layout: plan.layout,
            writer,
            volumes,
            places,
            bits: Generations::new(&plan, before),
            index: plan.index,
            doing: Vec::new(),
            frames: VecDeque::new(),
            out_epoch: plan.out.epoch,
            said_out: plan.out,
            epochs,
            confirmed: plan.confirmed.max(plan.out.offset),
            time: plan.time,
            clock: plan.time,
            destaged: plan.destaged,
            limit: u64::MAX,
            checkpoint: Checkpoint::new(cx.now),
            pace: Pace::new(plan.slow),
            rates: Rates::new(cx.now, plan.at, plan.confirmed),
            flushed: false,
            begun: false,
            stopping: false,
            stopped: false,
            failed: false,
            drain: None,
            saving: false,
            saved_at: cx.now,
            saved: (0, 0, 0),
            stable_since: cx.now,
            pages_at: Time::NEVER,
            events: VecDeque::new(),
        };
        let tag = cx.actions.journal(Owner::Source, DeviceOp::Flush);
        source.doing.push((tag, Doing::Flush));
        source
    }

    /// A front's entry ([`ToGroup::Append`](crate::mail::ToGroup::Append)). Nothing is written before
    /// [`pump`](Self::pump) or [`on_tick`](Self::on_tick), so that what comes in one round is one frame. False where it
    /// could not be taken: its volume is not of this group, or it does not fit together; the group has to suspend.
    #[must_use]
    pub fn append(
        &mut self,
        cx: &mut Context<'_>,
        volume: VolumeIndex,
        (sequence, company): (Sequence, Company),
        change: &Change,
        data: Scatter,
    ) -> bool {
        let Some(place) = self.places.get(usize::from(volume.0)).copied().flatten() else { return false };
        let Some(of) = self.volumes.get_mut(place) else { return false };
        let (kind, lba, blocks) = match *change {
            Change::Write(range) => (EntryKind::Write, range.lba.0, u64::from(range.blocks)),
            Change::Same { lba, blocks } => (EntryKind::Same, lba.0, blocks),
            Change::Zero { lba, blocks, unmap } => (EntryKind::Zero { unmap }, lba.0, blocks),
            Change::Nothing => (EntryKind::Nothing, 0, 0),
        };
        let Ok(data_len) = u32::try_from(data.len_bytes()) else { return false };
        let head = EntryHead {
            volume: volume.0,
            shift: of.shift,
            lba,
            blocks,
            ..EntryHead::plain(sequence, 0, kind, data_len)
        };
        of.newest = of.newest.max(sequence);
        of.dirty |= kind.changes();
        self.put(cx, head, data, company)
    }

    /// Somebody waits until everything up to that sequence is stable; a frame is begun at the next tick.
    pub fn hurry(&mut self, sequence: Sequence) {
        self.writer.hurry(sequence);
    }

    /// An entry of the group's own (a marker, a swap, a resize) with a sequence from its counter. False where there is no
    /// page for the data, or they are longer than 4 KiB.
    #[must_use]
    pub fn entry(
        &mut self,
        cx: &mut Context<'_>,
        sequence: Sequence,
        kind: EntryKind,
        (volume, blocks): (VolumeIndex, u64),
        bytes: &[u8],
    ) -> bool {
        let Ok(data_len) = u32::try_from(bytes.len()) else { return false };
        let mut data = Scatter::new();
        if data_len > 0 {
            let Some(mut page) = ScatterMut::take(cx.pool, Purpose::Internal, bytes.len()) else {
                return false;
            };
            if page.copy_from(0, bytes) != bytes.len() || bytes.len() > Class::Page.bytes() {
                return false;
            }
            page.freeze_into(&mut data);
        }
        let head = EntryHead { volume: volume.0, blocks, ..EntryHead::plain(sequence, 0, kind, data_len) };
        self.put(cx, head, data, Company::None)
    }

    fn put(&mut self, cx: &mut Context<'_>, mut head: EntryHead, data: Scatter, company: Company) -> bool {
        self.clock = self.clock.max(cx.wall);
        head.time = self.clock;
        if !head.is_sound() {
            return false;
        }
        self.bits.add(&head);
        self.rates.came(u64::from(head.data_len));
        if self.stopping || self.failed {
            // The bits have it; the front runs it again in its next mode.
            return true;
        }
        let pushed = match company {
            Company::None => self.writer.push(head, data, cx.now),
            Company::Next => self.writer.push_part(head, data, cx.now),
            Company::Any => self.writer.push_promised(head, data, cx.now),
        };
        pushed != Pushed::Refused
    }

    /// Begins the frames that are to be begun now.
    pub fn pump(&mut self, cx: &mut Context<'_>) {
        if !self.flushed || self.stopping || self.failed {
            return;
        }
        self.pages_at = Time::NEVER;
        while self.writer.when() <= cx.now {
            let Some(frame) = self.writer.next_write(cx.pool, cx.now, self.clock.max(cx.wall)) else {
                if !self.writer.is_full() && self.writer.when() <= cx.now {
                    self.pages_at = cx.now + PAGES;
                }
                break;
            };
            // A frame without entries is no news of any.
            let time = if frame.entries > 0 { frame.time } else { 0 };
            self.frames.push_back(Flying { end: frame.end, last: frame.last, time });
            self.bits.framed(frame.last, frame.end);
            let op = DeviceOp::Write { at: frame.at, data: frame.data, stable: true };
            let tag = cx.actions.journal(Owner::Source, op);
            self.doing.push((tag, Doing::Frame(frame.id)));
        }
        self.look_at_space(cx);
    }

    /// A device operation has ended. Whether the tag was one of this part.
    pub fn on_device(&mut self, cx: &mut Context<'_>, tag: u64, end: DeviceEnd) -> bool {
        let Some(at) = self.doing.iter().position(|(mine, _)| *mine == tag) else { return false };
        let (_, doing) = self.doing.swap_remove(at);
        match (doing, end) {
            (Doing::Index, _) => {}
            (Doing::Flush, Ok(_)) => self.flushed = true,
            (Doing::Frame(id), Ok(_)) => {
                if self.writer.written(id, cx.now) {
                    self.on_stable(cx);
                }
            }
            (Doing::Flush | Doing::Frame(_), Err(error)) => {
                if !self.failed {
                    self.failed = true;
                    self.events.push_back(SourceEvent::Failed(error));
                }
            }
        }
        self.pump(cx);
        self.look_at_stop();
        true
    }

    /// The whole-store flush of a checkpoint has ended. Whether the tag was one of this part.
    pub fn on_applied(&mut self, cx: &mut Context<'_>, tag: u64, result: Result<(), BlockError>) -> bool {
        let Some(done) = self.checkpoint.on_applied(cx.now, tag, result) else { return false };
        if let Some((at, good)) = done {
            for (volume, _) in self.volumes.iter_mut().zip(&good).filter(|(_, good)| !**good) {
                volume.dirty = true;
            }
            if good.iter().all(|good| *good) {
                self.destaged = at;
                self.events.push_back(SourceEvent::Destaged);
                self.ask_save(cx.now);
            }
            self.look_at_space(cx);
        }
        true
    }

    /// What the reader has durably.
    pub fn confirm(&mut self, cx: &mut Context<'_>, read: JournalPos) -> Confirmed {
        if read.offset <= self.confirmed {
            return Confirmed::Taken;
        }
        if read.offset > self.writer.stable().0 || self.epoch_before(read.offset) != read.epoch {
            return Confirmed::Beyond;
        }
        self.confirmed = read.offset;
        self.bits.confirmed(read.offset, self.writer.end());
        self.look_at_space(cx);
        self.pump(cx);
        Confirmed::Taken
    }

    /// A purge order: nothing from `limit` on is freed; `None`: no limit, as with the poller.
    pub fn limit_purge(&mut self, limit: Option<u64>) {
        self.limit = limit.unwrap_or(u64::MAX);
    }

    /// Wants [`SourceEvent::Drained`] when everything up to that sequence is stable.
    pub fn drain(&mut self, cx: &mut Context<'_>, sequence: Sequence) {
        self.drain = Some(sequence);
        self.writer.hurry(sequence);
        self.pump(cx);
        self.look_at_drain();
    }

    /// What waits for it becomes stable.
    #[must_use]
    pub fn takes(&self) -> bool {
        !self.stopping && !self.failed
    }

    /// Whether an entry waits for room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    /// No frame is begun any more; [`SourceEvent::Stopped`] when none is under way.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.look_at_stop();
    }

    /// Brings what is stable now into the volumes, flushed, soon; [`SourceEvent::Destaged`] when it is so.
    pub fn checkpoint(&mut self, cx: &mut Context<'_>) {
        self.begin_checkpoint(cx);
    }

    /// Everything that the reader may lack, stable or not, by volume number: what is covered by these bits and
    /// what is confirmed is all that there is. Bits may be set for more.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<Bits> {
        self.bits.all()
    }

    /// A volume has grown: bits for more granules.
    pub fn grow(&mut self, volume: VolumeIndex, granules: u64) {
        self.bits.grow(volume, granules);
    }

    /// Gives up the entries that are in no frame, in the order of their sequences.
    pub fn take_waiting(&mut self) -> Vec<(EntryHead, Scatter)> {
        self.writer.take_waiting()
    }

    /// Another overflow policy.
    pub fn set_slow(&mut self, slow: Duration) {
        self.pace.set_slow(slow);
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<SourceEvent> {
        self.events.pop_front()
    }

    /// Time has passed.
    pub fn on_tick(&mut self, cx: &mut Context<'_>) {
        if self.writer.is_unsaid() && !self.writer.has_waiting() && cx.now >= self.stable_since + BEACON {
            self.writer.say_stable();
        }
        self.pump(cx);
        self.slow(cx);
        self.look_at_checkpoint(cx);
        self.look_at_save(cx.now);
        self.write_index(cx, false);
        self.rates.tick(cx.now, self.writer.end().0, self.confirmed);
    }

    /// When [`on_tick`](Self::on_tick) is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        if self.stopped || (self.failed && self.stopping) {
            return Time::NEVER;
        }
        let mut at = self.rates.next();
        if self.flushed && !self.stopping && !self.failed {
            let full = self.writer.is_full() || self.pages_at != Time::NEVER;
            at = at.min(if full { self.pages_at } else { self.writer.when() });
            if self.writer.is_unsaid() && !self.writer.has_waiting() {
                at = at.min(self.stable_since + BEACON);
            }
        }
        at.min(self.pace.next()).min(self.checkpoint.next(self.undestaged() > 0)).min(self.save_at())
    }

    /// Puts the positions into the superblock, and the epoch once its first frame is stable.
    pub fn fill(&mut self, superblock: &mut Superblock) {
        if self.begun && superblock.epoch != self.writer.epoch() {
            superblock.begin_epoch(self.writer.epoch());
        }
        let (stable, sequence) = self.writer.stable();
        // What may be durable as free stays so: where a frame begins may be known more exactly in one moment than later.
        let wanted = self.wanted_out();
        let out = if wanted.offset > self.said_out.offset { wanted } else { self.said_out };
        self.said_out = out;
        superblock.sequence = sequence;
        superblock.stable = stable;
        superblock.out = out.offset;
        superblock.out_epoch = out.epoch;
        (superblock.destaged, superblock.destaged_sequence) = self.destaged;
        superblock.confirmed = self.confirmed;
        superblock.index_next = self.index.number();
    }

    /// The superblock with that `out` (from [`fill`](Self::fill)) is durable.
    pub fn saved(&mut self, cx: &mut Context<'_>, out: u64) {
        self.saving = false;
        self.writer.set_out(out);
        let out = self.writer.out();
        self.index.drop_before(out);
        while let Some(&(at, epoch)) = self.epochs.front().filter(|(at, _)| *at < out) {
            (self.out_epoch, _) = (epoch, at);
            self.epochs.pop_front();
        }
        self.pump(cx);
    }

    /// What a save has to say of `out`: the smaller of what is confirmed and what is destaged, where a frame begins.
    #[must_use]
    pub fn wanted_out(&self) -> JournalPos {
        let offset = self.reader_out().min(self.destaged.0).max(self.writer.out());
        JournalPos { epoch: self.epoch_before(offset), offset }
    }

    /// What the reader lets go, down to where a frame begins: neither a reader's word nor a purge order's is taken for that.
    fn reader_out(&self) -> u64 {
        let least = self.confirmed.min(self.limit);
        let known = [self.writer.stable().0, self.destaged.0, self.writer.out()].contains(&least);
        if known { least } else { self.index.floor(least).map_or(0, |place| place.at.offset) }
    }

    /// What the peer may read: from what is freed to what is stable.
    #[must_use]
    pub fn readable(&self) -> (u64, u64) {
        (self.writer.out(), self.writer.stable().0)
    }

    /// The end of what is stable, and its last sequence.
    #[must_use]
    pub fn stable(&self) -> (JournalPos, Sequence) {
        let (offset, sequence) = self.writer.stable();
        (JournalPos { epoch: self.epoch_before(offset), offset }, sequence)
    }

    /// The time of the newest stable entry, in nanoseconds since 1970; 0 where there is none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.time
    }

    /// What the reader has confirmed.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Whether everything stable is confirmed, destaged and nothing waits.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let stable = self.writer.stable().0;
        !self.writer.has_waiting() && self.writer.flying() == 0 && self.confirmed == stable
    }

    /// The last place between frames at or before a time or a sequence: for restores and people.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Of which group it is.
    #[must_use]
    pub fn group(&self) -> Uuid {
        self.group
    }

    /// The epoch of the frame that ends at that place.
    fn epoch_before(&self, offset: u64) -> Epoch {
        let count = self.epochs.partition_point(|&(at, _)| at < offset);
        count
            .checked_sub(1)
            .and_then(|last| self.epochs.get(last))
            .map_or(self.out_epoch, |&(_, epoch)| epoch)
    }

    fn undestaged(&self) -> u64 {
        self.writer.stable().0.saturating_sub(self.destaged.0)
    }

    fn on_stable(&mut self, cx: &mut Context<'_>) {
        let (stable, sequence) = self.writer.stable();
        self.stable_since = cx.now;
        if !self.begun {
            self.begun = true;
            self.events.push_back(SourceEvent::Begun);
        }
        while let Some(frame) = self.frames.front().copied().filter(|frame| frame.end <= stable) {
            self.frames.pop_front();
            self.time = self.time.max(frame.time);
            let at = JournalPos { epoch: self.writer.epoch(), offset: frame.end };
            self.index.note(IndexRecord { at, sequence: frame.last, time: self.time });
        }
        for volume in &mut self.volumes {
            if volume.newest > volume.told && sequence > volume.told {
                volume.told = sequence;
                cx.actions.front(volume.index, ToFront::Stable(sequence));
            }
        }
        self.look_at_drain();
    }

    fn look_at_drain(&mut self) {
        let (at, sequence) = self.stable();
        if self.drain.is_some_and(|wanted| wanted <= sequence) {
            self.drain = None;
            self.events.push_back(SourceEvent::Drained { at, sequence });
        }
    }

    fn look_at_stop(&mut self) {
        let busy = self.doing.iter().any(|(_, doing)| matches!(doing, Doing::Frame(_) | Doing::Flush));
        if self.stopping && !self.stopped && !busy {
            self.stopped = true;
            let (at, sequence) = self.stable();
            self.events.push_back(SourceEvent::Stopped { at, sequence });
        }
    }

    /// Positions that a save would change.
    fn savable(&self) -> (u64, u64, u64) {
        (self.wanted_out().offset, self.writer.stable().0, self.confirmed)
    }

    fn ask_save(&mut self, now: Time) {
        if !self.saving && !self.stopped {
            self.saving = true;
            self.saved_at = now;
            self.saved = self.savable();
            self.events.push_back(SourceEvent::Save);
        }
    }

    fn save_at(&self) -> Time {
        let (out, stable, confirmed) = self.saved;
        // Asked every round: what is free takes a search.
        let due = !self.saving
            && self.begun
            && (self.writer.stable().0 != stable
                || self.confirmed != confirmed
                || self.wanted_out().offset != out);
        if due { self.saved_at + SAVE } else { Time::NEVER }
    }

    fn look_at_save(&mut self, now: Time) {
        if now >= self.save_at() {
            self.ask_save(now);
        }
    }

    fn write_index(&mut self, cx: &mut Context<'_>, forced: bool) {
        if self.failed || self.stopping || self.doing.iter().any(|(_, doing)| *doing == Doing::Index) {
            return;
        }
        let Some(mut page) = cx.pool.take(Class::Page, Purpose::Internal) else { return };
        let Some((at, bytes)) = self.index.next_block(forced) else { return };
        page.copy_from_slice(&bytes);
        let mut data = Scatter::new();
        data.push_page(page.freeze());
        let tag = cx.actions.journal(Owner::Source, DeviceOp::Write { at, data, stable: false });
        self.doing.push((tag, Doing::Index));
    }
}
