//! A group's data paths: what `Source` and `Sink` say, the places that they want saved, and what the sink is to come to.

use super::{Group, Live, Polls};
use crate::context::Context;
use crate::mail::VolumeIndex;
use crate::page::StatusPage;
use crate::record::{Fence, Formation, Record, Side, State};
use crate::sink::{Drive, FarView, Limit, Places, Sink, SinkEvent, SinkPlan, SinkVolume, Trouble};
use crate::source::{Confirmed, Source, SourceEvent, SourcePlan, SourceVolume};
use kagami_types::{BlockSize, JournalPos, Sequence, Time};
use std::time::Duration;

/// What the sink is to come to, and then the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    pub(super) what: Aim,
    /// The sink has it.
    pub(super) drained: Option<Sequence>,
    /// The sink was told to stop, and has.
    pub(super) stopping: bool,
    pub(super) stopped: bool,
    /// The sink cannot get there.
    pub(super) failed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Restore all there is, then be in that state.
    Finish { state: State, reason: String },
    /// Restore all that was read, then follow that formation.
    Follow(Formation),
    /// Restore up to the fence, then be the primary.
    Swap(Fence),
    /// Restore all that was read, then be the primary without the other.
    TakeOver { force: bool },
}

impl Goal {
    pub(super) fn new(what: Aim) -> Self {
        Self { what, drained: None, stopping: false, stopped: false, failed: false }
    }
}

impl Group {
    /// The secondary's data path, where there is one: for tests and checkers.
    #[must_use]
    pub fn sink(&self) -> Option<&Sink> {
        match &self.stage {
            super::Stage::Live(live) => live.sink.as_ref(),
            _ => None,
        }
    }

    /// The primary's data path, where there is one: for tests and checkers.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        match &self.stage {
            super::Stage::Live(live) => live.source.as_ref(),
            _ => None,
        }
    }
}

impl Live {
    pub(super) fn source_volumes(&self) -> Vec<SourceVolume> {
        let of = |volume: &super::PlannedVolume| SourceVolume {
            index: volume.index,
            shift: u8::try_from(volume.block_size.max(1).trailing_zeros()).unwrap_or(9),
            granules: self.granules.get(usize::from(volume.index.0)).copied().unwrap_or(0),
        };
        self.plan.volumes.iter().map(of).collect()
    }

    pub(super) fn slow(&self) -> Duration {
        match self.plan.options.overflow {
            super::Overflow::Suspend => Duration::ZERO,
            super::Overflow::Slow(most) => most,
        }
    }

    pub(super) fn begin_source(&mut self, cx: &mut Context<'_>, mut plan: SourcePlan) {
        // The group's clock does not go back when the other side becomes the primary.
        plan.time = plan.time.max(self.saver.durable().block.restored_time);
        self.source_saves = None;
        self.source_ends = None;
        self.source_begun = false;
        self.source_stopped = false;
        self.asked = cx.now;
        self.source = Some(Source::begin(plan, cx));
    }

    pub(super) fn drop_source(&mut self) {
        self.source = None;
        self.source_saves = None;
        self.source_ends = None;
        self.source_begun = false;
        self.source_stopped = false;
    }

    /// Whether what hosts had written by then is in the volumes. It is brought there while they go on: who leaves the journal,
    /// or stops for a swap, has them wait for what is left of it.
    pub(super) fn is_destaged(&mut self, cx: &mut Context<'_>, since: Time) -> bool {
        let Some(source) = &mut self.source else { return true };
        let done = source.is_destaged_since(since);
        if !done {
            source.checkpoint(cx);
        }
        done
    }

    /// Takes what the source has to say.
    pub(super) fn source_events(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(event) = self.source.as_mut().and_then(Source::next_event) {
            moved = true;
            match event {
                SourceEvent::Begun => self.source_begun = true,
                SourceEvent::Destaged | SourceEvent::Drained { .. } => {}
                SourceEvent::Save => {
                    if let Some(source) = &mut self.source {
                        source.fill(&mut self.saver.next.block);
                    }
                    let out = self.saver.next.block.out;
                    self.source_saves = Some((self.saver.save(), out));
                }
                SourceEvent::Full => self.end_source("the journal is full"),
                SourceEvent::Failed(error) => {
                    self.end_source(&format!("the journal cannot be written: {error}"))
                }
                SourceEvent::Stopped { .. } => self.source_stopped = true,
            }
        }
        if moved {
            self.saver.turn(cx);
        }
        moved
    }

    fn end_source(&mut self, why: &str) {
        if self.source_ends.is_none() {
            self.source_ends = Some(why.to_owned());
        }
    }

    /// A superblock is durable: tells the paths.
    pub(super) fn on_saved(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        if let Some((_, out)) = self.source_saves.take_if(|(version, _)| self.saver.is_durable(*version)) {
            moved = true;
            if let Some(source) = &mut self.source {
                source.saved(cx, out);
            }
        }
        if self.sink_saves.take_if(|version| self.saver.is_durable(*version)).is_some() {
            moved = true;
            if let Some(sink) = &mut self.sink {
                sink.on_saved(cx);
            }
        }
        let restored = self.saver.durable().block.restored_sequence;
        if self.reads_after.take_if(|after| *after <= restored).is_some() && self.running.is_none() {
            let mode = self.mode_of(&self.record().clone());
            if self.fronts.mode.is_some_and(|now| now != mode) && self.record().side == Side::Secondary {
                self.fronts.set(cx, mode);
            }
        }
        moved
    }

    /// The places of a superblock, as a sink has them.
    pub(super) fn places(&self) -> Places {
        let durable = &self.saver.next;
        let block = &durable.block;
        Places {
            read: JournalPos { epoch: block.read_epoch, offset: block.read },
            read_sequence: block.read_sequence,
            restored: JournalPos { epoch: block.restored_epoch, offset: block.restored },
            restored_sequence: block.restored_sequence,
            restored_time: block.restored_time,
            target: block.restore_target,
            target_sequence: durable.target_sequence,
        }
    }

    pub(super) fn set_places(&mut self, places: Places) {
        let durable = &mut self.saver.next;
        let block = &mut durable.block;
        (block.read, block.read_epoch) = (places.read.offset, places.read.epoch);
        block.read_sequence = places.read_sequence;
        (block.restored, block.restored_epoch) = (places.restored.offset, places.restored.epoch);
        block.restored_sequence = places.restored_sequence;
        block.restored_time = places.restored_time;
        block.restore_target = places.target;
        durable.target_sequence = places.target_sequence;
    }

    /// There are entries in the own journal that are not in the volumes, or perhaps only half.
    pub(super) fn is_behind(&self) -> bool {
        let places = self.places();
        let last = places.read_sequence.max(places.target_sequence);
        last > places.restored_sequence
    }

    /// Begins the secondary's data path at the durable places.
    pub(super) fn begin_sink(&mut self, cx: &mut Context<'_>) {
        let record = self.saver.next.record.clone();
        let forming = record.state == State::Copy || !record.consistent && record.bits != 0;
        let size = |bytes| BlockSize::from_bytes(bytes).unwrap_or(BlockSize::B512);
        let volumes = self.plan.volumes.iter().map(|volume| SinkVolume {
            index: volume.index,
            blocks: volume.blocks,
            block_size: size(volume.block_size),
        });
        let indexes = self.plan.volumes.iter().map(|volume| volume.index);
        let bits = |index: VolumeIndex| {
            self.difference.bits.get(usize::from(index.0)).map(|bits| (index, bits.clone()))
        };
        let to_copy = if record.bits != 0 { indexes.filter_map(bits).collect() } else { Vec::new() };
        let plan = SinkPlan {
            group: self.plan.group,
            layout: self.layout(),
            volumes: volumes.collect(),
            places: self.places(),
            to_copy,
            forming,
            drive: if self.plan.options.poller { Drive::Poller } else { Drive::Host },
            options: self.sink_options(),
        };
        self.sink_saves = None;
        self.sink_polls = Polls::No;
        self.sink_confirms = false;
        // What the sink before this one has formed was another copy.
        self.orders.formed = None;
        let mut sink = Sink::begin(cx, plan);
        let limit = self.saver.next.limit.clone();
        if limit != Limit::None {
            // What an operator holds back stays back over a restart.
            sink.set_limit(cx, limit);
        }
        self.sink = Some(sink);
    }

    /// The limit of restore goes to the superblock with the places.
    pub(super) fn note_limit(&mut self) {
        if let Some(sink) = &self.sink {
            self.saver.next.limit = sink.limit().clone();
        }
    }

    pub(super) fn drop_sink(&mut self) {
        self.sink = None;
        self.saver.next.limit = Limit::None;
        self.sink_saves = None;
        self.sink_polls = Polls::No;
        self.sink_confirms = false;
        self.goal = None;
    }

    /// Takes what the sink has to say.
    pub(super) fn sink_events(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(event) = self.sink.as_mut().and_then(Sink::next_event) {
            moved = true;
            match event {
                SinkEvent::Poll => {
                    self.sink_polls = if self.link.is_reading() { Polls::Later } else { Polls::Now };
                    self.link.want_read = true;
                }
                SinkEvent::Confirm => {
                    self.sink_confirms = true;
                    self.link.want_write = true;
                }
                SinkEvent::Save(places) => {
                    self.set_places(places);
                    self.note_limit();
                    self.sink_saves = Some(self.saver.save());
                }
                SinkEvent::RegionsDone(volume, runs) => {
                    for (from, to) in runs {
                        self.difference.clear(volume, from, to);
                    }
                }
                SinkEvent::FormationDone(sequence) => self.orders.formed = Some(sequence),
                SinkEvent::Marker { .. } | SinkEvent::Swap { .. } => {}
                SinkEvent::Resize { volume, blocks } => {
                    if let Some(sink) = &mut self.sink {
                        sink.volume_resized(cx, volume, blocks);
                    }
                }
                SinkEvent::Drained(sequence) => {
                    if let Some(goal) = &mut self.goal
                        && !matches!(goal.what, Aim::Swap(fence) if sequence < fence.sequence)
                    {
                        goal.drained = Some(sequence);
                    }
                }
                SinkEvent::Restored(sequence) => self.orders.restored = Some(sequence),
                SinkEvent::NoMarker => self.orders.no_marker = true,
                SinkEvent::Acquired(to) => self.orders.acquired = Some(to),
                SinkEvent::LimitReached(sequence) | SinkEvent::LimitPassed(sequence) => {
                    // What a host drives is done when it is durable, too.
                    if self.plan.options.poller {
                        self.orders.restored = Some(sequence);
                    }
                    // What is beyond it stays away: the group goes on without.
                    if let Some(sink) = self.sink.as_mut()
                        && self.goal.as_ref().is_some_and(|goal| matches!(goal.what, Aim::Finish { .. }))
                    {
                        sink.finish(cx, true);
                    }
                }
                SinkEvent::Paused(_) => {}
                SinkEvent::Stopped => {
                    if let Some(goal) = &mut self.goal {
                        goal.stopped = true;
                    }
                }
                SinkEvent::Trouble(trouble) => self.on_trouble(cx, &trouble),
            }
        }
        moved
    }

    /// The sink cannot go on: the pair is suspended, after what can still be restored.
    fn on_trouble(&mut self, cx: &mut Context<'_>, trouble: &Trouble) {
        self.complain(cx, trouble.to_string());
        let far = matches!(
            trouble,
            Trouble::FarCorrupt { .. }
                | Trouble::FarRefused(_)
                | Trouble::Beyond { .. }
                | Trouble::Swept { .. }
                | Trouble::Copy { .. }
        );
        self.rotten |= matches!(trouble, Trouble::Corrupt { .. } | Trouble::Journal(_));
        let finishing = Goal::new(Aim::Finish { state: State::Psue, reason: trouble.to_string() });
        let goal = self.goal.get_or_insert(finishing);
        if far && !goal.stopping {
            // What was read is whole: it can still be restored.
            if let Some(sink) = &mut self.sink {
                sink.finish(cx, matches!(goal.what, Aim::Finish { .. }));
            }
        } else {
            goal.failed = true;
        }
    }

    /// Sets out for that, unless it is under way already.
    pub(super) fn aim(&mut self, cx: &mut Context<'_>, what: Aim) -> bool {
        if self.goal.as_ref().is_some_and(|goal| goal.what == what || goal.stopping) {
            return false;
        }
        if self.sink.is_none() {
            // Nothing old is restored over what hosts have written here since: it is counted, and given up.
            if !self.is_behind() || self.record().writable() {
                self.goal = Some(Goal {
                    drained: Some(self.places().restored_sequence),
                    stopped: true,
                    ..Goal::new(what)
                });
                return true;
            }
            self.begin_sink(cx);
        }
        let Some(sink) = &mut self.sink else { return false };
        match &what {
            Aim::Swap(fence) => sink.drain_to(cx, fence.sequence),
            Aim::Finish { .. } => {
                match self.link.far.as_deref().and_then(|far| far_end(far, &self.saver.next.record)) {
                    // There is more to come, unless an operator holds it back.
                    Some(sequence)
                        if self.link.error.is_empty()
                            && self.saver.next.record.state == State::Pair
                            && !sink.is_at_limit() =>
                    {
                        sink.drain_to(cx, sequence);
                    }
                    _ => sink.finish(cx, true),
                }
            }
            Aim::Follow(_) | Aim::TakeOver { .. } => sink.finish(cx, false),
        }
        self.goal = Some(Goal::new(what));
        true
    }

    /// The sink has come to what it is to come to: it stops.
    pub(super) fn stop_sink(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(goal) = &mut self.goal else { return false };
        if goal.stopping || goal.stopped || (goal.drained.is_none() && !goal.failed) {
            return false;
        }
        goal.stopping = true;
        match &mut self.sink {
            Some(sink) => sink.stop(cx),
            None => goal.stopped = true,
        }
        true
    }

    /// The far page, as the sink wants to see it; `None` while it is not the one that is followed.
    fn view(&self) -> Option<FarView> {
        let page = self.link.far.as_deref()?;
        let own = self.saver.durable().record.formation?.request;
        let theirs = page.record.formation?.request;
        if page.record.side != Side::Primary || own != theirs || page.recovering {
            return None;
        }
        Some(FarView {
            epoch: page.stable.epoch,
            stable: page.stable.offset,
            stable_sequence: page.stable_sequence,
            out: page.out,
            clock: page.wall,
            newest: page.newest_time,
            journals: page.record.journals(),
        })
    }

    /// A read of the far page has ended: the sink may wait for it.
    pub(super) fn polled(&mut self, cx: &mut Context<'_>, good: bool) {
        match self.sink_polls {
            Polls::No => {}
            Polls::Later => self.link.want_read = true,
            Polls::Now => {
                self.sink_polls = Polls::No;
                let view = if good { self.view() } else { None };
                let Some(sink) = &mut self.sink else { return };
                match view {
                    Some(view) => sink.on_page(cx, &view),
                    None => sink.on_page_failed(cx),
                }
            }
        }
    }

    /// A read of the far page that is begun from now on is one that the sink waits for.
    pub(super) fn polls(&mut self) {
        if self.sink_polls == Polls::Later && self.link.began() {
            self.sink_polls = Polls::Now;
        }
    }

    /// What the reader says of itself.
    pub(super) fn confirm(&mut self, cx: &mut Context<'_>) {
        let Some(far) = self.link.far.as_deref() else { return };
        let (reading, side) = (far.reading, far.record.side);
        let named = self.record().formation.map(|formation| formation.request);
        if side != Side::Secondary || named != Some(reading.request) {
            return;
        }
        let Some(source) = &mut self.source else { return };
        if source.confirm(cx, reading.read) == Confirmed::Beyond && self.source_ends.is_none() {
            self.source_ends = Some("the other array has read what this journal has lost".to_owned());
        }
    }
}

/// The last sequence of a primary that does not journal any more.
fn far_end(far: &StatusPage, own: &Record) -> Option<Sequence> {
    let same = match (far.record.formation, own.formation) {
        (Some(theirs), Some(mine)) => theirs.request == mine.request,
        _ => false,
    };
    let ended = matches!(far.record.state, State::Psus { .. } | State::Psue);
    (same && ended && !far.recovering).then_some(far.stable_sequence)
}
