//! A group of pairs: one side of it, without I/O.
//!
//! It carries out what `machine` decides: one durable step after another, with `Source` and `Sink` for the data. The
//! superblock of its journal is what it durably is; everything else follows from that, from the far page, and from orders.
//! Home of a group is the core of its journal; who owns it does its [`Action`](crate::action::Action)s.
//!
//! In `group/`: `saver` (superblock), `difference` (bitmap), `link` (pages), `fronts` (modes and flushes), `start` (what a
//! journal device says, recovery), `program` (transitions, step by step), `steps` (what those are made of),
//! `decide` (what begins them), `bits` (the far bitmap), `paths` (source and sink), `tally` (what is given up unrestored),
//! `reshape` (volumes join and grow, other options),
//! `orders`, `say` (page and report).

mod bits;
mod changes;
mod decide;
mod difference;
mod fronts;
mod link;
mod lose;
mod orders;
mod paths;
mod plan;
mod program;
mod reshape;
mod saver;
mod say;
mod start;
mod steps;
mod tally;

pub use plan::{GroupPlan, Options, Overflow, PlannedVolume, VOLUMES, least_journal};

use crate::action::{Action, DeviceEnd, FarEnd, OrderResult};
use crate::context::{Context, Owner};
use crate::level::{self, Crossed, Level};
use crate::mail::{Change, Mode, ToFront, ToGroup, VolumeIndex};
use crate::order::Order;
use crate::record::{Record, State};
use crate::report::Report;
use crate::sink::Sink;
use crate::source::{Company, Source};
use difference::Difference;
use fronts::Fronts;
use kagami_journal::{GRANULE, Layout};
use kagami_memory::{Pool, Purpose, Scatter, ScatterMut};
use kagami_types::{BlockError, Time};
use link::Link;
use lose::Losing;
use orders::Orders;
use paths::Goal;
use program::Running;
use saver::Saver;
use start::Boot;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tally::Tally;

/// What a READ of the journal's logical unit by the peer gets.
#[derive(Debug)]
pub enum PeerRead {
    /// These bytes.
    Bytes(Scatter),
    /// What the own journal device has there.
    Device {
        /// Where, in bytes.
        at: u64,
        /// How much.
        len: u32,
    },
    /// Nothing: not readable, or not now.
    Refused,
}

/// One side of a group.
#[derive(Debug)]
pub struct Group {
    plan: GroupPlan,
    sequencer: Arc<AtomicU64>,
    stage: Stage,
    before: Option<Before>,
}

#[derive(Debug)]
enum Stage {
    New,
    /// The superblocks are being read.
    Reading(Boot),
    Live(Box<Live>),
    /// Nothing can be done; why.
    Stopped(String),
}

/// What a group knows of its life before, where it begins anew.
#[derive(Clone, Copy, Debug)]
struct Before {
    pages: u64,
}

/// Host writes that wait for their granules' bits.
#[derive(Debug)]
struct Mark {
    volume: VolumeIndex,
    granules: (u64, u64),
    ticket: u64,
    /// Where the bits are in already: what they wait for.
    stamp: Option<u64>,
}

/// A group whose superblock is known.
#[derive(Debug)]
struct Live {
    plan: GroupPlan,
    sequencer: Arc<AtomicU64>,
    /// Granules of each volume, by number.
    granules: Vec<u64>,
    /// A number over the volumes' shapes.
    shape: u32,
    saver: Saver,
    difference: Difference,
    link: Link,
    fronts: Fronts,
    source: Option<Source>,
    /// A save that the source waits for, and the `out` in it.
    source_saves: Option<(u64, u64)>,
    /// Why the source has to stop.
    source_ends: Option<String>,
    source_begun: bool,
    source_stopped: bool,
    sink: Option<Sink>,
    sink_saves: Option<u64>,
    /// The sink waits for a page that is asked for from now on.
    sink_polls: Polls,
    sink_confirms: bool,
    /// The own journal is damaged: what it has is not restored any more.
    rotten: bool,
    /// The own journal of a primary is damaged from one place on, up to the other; the volumes have what was there.
    damaged: Option<(u64, u64)>,
    losing: Losing,
    /// This life follows another of the same process, which served: the other array need not be asked.
    again: bool,
    tally: Option<Box<Tally>>,
    /// What the sink is to come to.
    goal: Option<Goal>,
    running: Option<Running>,
    orders: Orders,
    marks: VecDeque<Mark>,
    /// Bits count: the volumes are flushed, and no replay will come.
    tracking: bool,
    /// The volumes may be served: recovery is over, and the peer was asked.
    serving: bool,
    /// What recovery found goes on until then.
    recovering: bool,
    started: Time,
    /// When the peer asked last.
    asked: Time,
    /// Pages made.
    pages: u64,
    split_brain: bool,
    /// Give up a fence.
    cancel: bool,
    /// Hosts may not read a secondary before that sequence is restored.
    reads_after: Option<kagami_types::Sequence>,
    last_error: String,
    /// How full the journal is.
    level: Level,
    /// A page has come since the last decision.
    news: bool,
    retry: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Polls {
    No,
    /// One that was begun before it asked is under way.
    Later,
    /// The one that is under way.
    Now,
}

impl Group {
    /// A group that has not begun.
    #[must_use]
    pub fn new(plan: GroupPlan) -> Self {
        Self { plan, sequencer: Arc::default(), stage: Stage::New, before: None }
    }

    /// The counter of which its fronts take their sequences.
    #[must_use]
    pub fn sequencer(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sequencer)
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &GroupPlan {
        &self.plan
    }

    /// Reads the journal device, recovers, and goes on from there.
    pub fn start(&mut self, cx: &mut Context<'_>) {
        if matches!(self.stage, Stage::New) {
            self.stage = Stage::Reading(Boot::begin(cx));
        }
    }

    /// Mail of a front.
    pub fn on_mail(&mut self, cx: &mut Context<'_>, volume: VolumeIndex, mail: ToGroup) {
        if let Stage::Live(live) = &mut self.stage {
            live.on_mail(cx, volume, mail);
        }
    }

    /// An operation on the journal device has ended.
    pub fn on_device(&mut self, cx: &mut Context<'_>, tag: u64, end: DeviceEnd) {
        match &mut self.stage {
            Stage::Reading(boot) => {
                if boot.on_device(cx, tag, &end) {
                    self.booted(cx);
                }
            }
            Stage::Live(live) => live.on_device(cx, tag, end),
            Stage::New | Stage::Stopped(_) => {}
        }
        self.look(cx);
    }

    fn booted(&mut self, cx: &mut Context<'_>) {
        let Stage::Reading(boot) = &self.stage else { return };
        match boot.found(&self.plan, &self.sequencer, cx) {
            Ok(mut live) => {
                if let Some(before) = self.before.take() {
                    (live.again, live.pages) = (true, before.pages);
                }
                live.start(cx);
                self.stage = Stage::Live(live);
            }
            Err(why) => self.stop(cx, why),
        }
    }

    fn stop(&mut self, cx: &mut Context<'_>, why: String) {
        for volume in &self.plan.volumes {
            cx.actions.front(volume.index, ToFront::Mode { ticket: 0, mode: Mode::Stopped });
        }
        cx.actions.event(format!("the group stops: {why}"));
        self.stage = Stage::Stopped(why);
    }

    /// A group that has found that it cannot go on.
    fn look(&mut self, cx: &mut Context<'_>) {
        let why = match &mut self.stage {
            Stage::Live(live) => live.fatal(),
            _ => None,
        };
        if let Some(why) = why {
            self.stop(cx, why);
        }
        if let Stage::Live(live) = &mut self.stage
            && live.losing == Losing::Done
        {
            live.end_orders(cx);
            self.before = Some(Before { pages: live.pages });
            self.stage = Stage::Reading(Boot::begin(cx));
        }
    }

    /// A command for the other array has ended.
    pub fn on_far(&mut self, cx: &mut Context<'_>, tag: u64, end: FarEnd) {
        if let Stage::Live(live) = &mut self.stage {
            live.on_far(cx, tag, end);
        }
    }

    /// An order. Answered by `Action::Answer` with that number, once.
    pub fn on_order(&mut self, cx: &mut Context<'_>, order: u64, what: Order) {
        match &mut self.stage {
            Stage::Live(live) => live.on_order(cx, order, what),
            Stage::Stopped(_) if what == Order::Delete => {
                for volume in &self.plan.volumes {
                    cx.actions.front(volume.index, ToFront::Mode { ticket: 0, mode: Mode::Plain });
                }
                let result =
                    OrderResult::Done("the pair is deleted; what its journal had is given up".to_owned());
                cx.actions.push(Action::Answer { order, result });
            }
            Stage::Stopped(why) => {
                let result = OrderResult::Refused(format!("the group has stopped: {why}"));
                cx.actions.push(Action::Answer { order, result });
            }
            Stage::New | Stage::Reading(_) => {
                let result = OrderResult::Refused("the group is starting: try again".to_owned());
                cx.actions.push(Action::Answer { order, result });
            }
        }
    }

    /// The peer reads the journal's logical unit.
    pub fn on_peer_read(&mut self, cx: &mut Context<'_>, at: u64, len: u32) -> PeerRead {
        match &mut self.stage {
            Stage::Live(live) => live.on_peer_read(cx, at, len),
            _ => PeerRead::Refused,
        }
    }

    /// The peer writes it. Whether it may.
    pub fn on_peer_write(&mut self, cx: &mut Context<'_>, at: u64, bytes: &[u8]) -> bool {
        match &mut self.stage {
            Stage::Live(live) => live.on_peer_write(cx, at, bytes),
            _ => false,
        }
    }

    /// Time has passed.
    pub fn on_tick(&mut self, cx: &mut Context<'_>) {
        match &mut self.stage {
            Stage::Reading(boot) => boot.on_tick(cx),
            Stage::Live(live) => live.on_tick(cx),
            Stage::New | Stage::Stopped(_) => {}
        }
        self.look(cx);
    }

    /// When the next tick is needed.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        match &self.stage {
            Stage::Reading(boot) => boot.next_deadline(),
            Stage::Live(live) => live.next_deadline(),
            _ => Time::NEVER,
        }
    }

    /// For people. `None` before its journal was read.
    #[must_use]
    pub fn report(&self, now: Time, wall: u64) -> Option<Report> {
        match &self.stage {
            Stage::Live(live) => Some(live.report(now, wall)),
            Stage::Stopped(why) => Some(say::stopped(&self.plan, why)),
            _ => None,
        }
    }

    /// What is durable, for tests and checkers; `None` before its journal was read.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match &self.stage {
            Stage::Live(live) => Some(live.record()),
            _ => None,
        }
    }
}

impl Live {
    /// What it durably is.
    fn record(&self) -> &Record {
        &self.saver.durable().record
    }

    fn layout(&self) -> Layout {
        self.saver.next.block.layout
    }

    fn random_id(cx: &mut Context<'_>) -> u128 {
        (cx.random)().max(1)
    }

    fn random_word(cx: &mut Context<'_>) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = (cx.random)().to_le_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
    }

    fn take_sequence(&self) -> kagami_types::Sequence {
        kagami_types::Sequence(self.sequencer.fetch_add(1, Ordering::AcqRel) + 1)
    }

    fn complain(&mut self, cx: &mut Context<'_>, text: impl Into<String>) {
        let text = text.into();
        self.last_error.clone_from(&text);
        cx.actions.event(text);
    }

    fn on_mail(&mut self, cx: &mut Context<'_>, volume: VolumeIndex, mail: ToGroup) {
        match mail {
            ToGroup::Append { sequence, change, data, more, promised, taken: _ } => {
                let company = match (more, promised) {
                    (true, _) => Company::Next,
                    (false, true) => Company::Any,
                    (false, false) => Company::None,
                };
                return self.append(cx, volume, (sequence, company), &change, data);
            }
            ToGroup::Hurry(sequence) => {
                if let Some(source) = &mut self.source {
                    source.hurry(sequence);
                }
                return;
            }
            ToGroup::Mark { granules, ticket } => {
                self.marks.push_back(Mark { volume, granules, ticket, stamp: None });
            }
            ToGroup::ModeHolds { ticket } => self.fronts.on_holds(volume, ticket),
            ToGroup::Applied { tag, result, .. } => self.on_applied(cx, tag, result),
            ToGroup::Lost => self.lose(cx, volume),
            ToGroup::Refused { sequence, blocks, error } => self.on_refused(volume, sequence, blocks, error),
        }
        self.turn(cx);
    }

    /// The data path: nothing is done but to take it; what came in one round becomes one frame at the tick.
    fn append(
        &mut self,
        cx: &mut Context<'_>,
        volume: VolumeIndex,
        (sequence, company): (kagami_types::Sequence, Company),
        change: &Change,
        data: Scatter,
    ) {
        match &mut self.source {
            Some(source) => {
                if !source.append(cx, volume, (sequence, company), change, data) && self.source_ends.is_none()
                {
                    self.source_ends = Some(format!("the entry of {sequence} cannot be journaled"));
                    self.turn(cx);
                }
            }
            // The front has it again in another mode.
            None => drop(data),
        }
    }

    fn on_refused(
        &mut self,
        volume: VolumeIndex,
        sequence: kagami_types::Sequence,
        blocks: (u64, u64),
        error: BlockError,
    ) {
        let shift = self.shift_of(volume);
        let (from, to) = ((blocks.0 << shift) / GRANULE, (blocks.1 << shift).div_ceil(GRANULE));
        // Before or after the set begins: it goes to the device with the next round, and stays in memory until then.
        self.difference.mark(volume, from, to);
        if self.record().journals() && self.source_ends.is_none() {
            let why = format!("volume {} has refused the write of {sequence}: {error}", volume.0);
            self.source_ends = Some(why);
        }
    }

    fn shift_of(&self, volume: VolumeIndex) -> u32 {
        let planned = self.plan.volumes.iter().find(|planned| planned.index == volume);
        planned.map_or(9, |planned| planned.block_size.max(1).trailing_zeros())
    }

    fn on_applied(&mut self, cx: &mut Context<'_>, tag: u64, result: Result<(), BlockError>) {
        match Owner::of(tag) {
            Some(Owner::Source) => {
                if let Some(source) = &mut self.source {
                    source.on_applied(cx, tag, result);
                }
            }
            Some(Owner::Sink) => {
                if let Some(sink) = &mut self.sink {
                    sink.on_applied(cx, tag, result);
                }
            }
            Some(Owner::Recovery) => self.on_replayed(cx, tag, result),
            Some(Owner::Group) => {
                self.fronts.on_applied(cx, tag, result);
            }
            None => {}
        }
    }

    fn on_device(&mut self, cx: &mut Context<'_>, tag: u64, end: DeviceEnd) {
        match Owner::of(tag) {
            Some(Owner::Source) => {
                if let Some(source) = &mut self.source {
                    source.on_device(cx, tag, end);
                }
            }
            Some(Owner::Sink) => {
                if let Some(sink) = &mut self.sink {
                    sink.on_device(cx, tag, end);
                }
            }
            Some(Owner::Recovery) => self.on_recovery_device(cx, tag, end),
            Some(Owner::Group) => {
                let taken = self.saver.on_device(cx, tag, &end) || self.on_tallied(cx, tag, &end);
                if !taken {
                    self.difference.on_device(cx, tag, &end);
                }
            }
            None => {}
        }
        self.turn(cx);
    }

    fn on_far(&mut self, cx: &mut Context<'_>, tag: u64, end: FarEnd) {
        match Owner::of(tag) {
            Some(Owner::Sink) => {
                if let Some(sink) = &mut self.sink {
                    sink.on_far(cx, tag, end);
                }
            }
            Some(Owner::Group) => self.on_link(cx, tag, end),
            _ => {}
        }
        self.turn(cx);
    }

    fn on_tick(&mut self, cx: &mut Context<'_>) {
        if let Some(source) = &mut self.source {
            source.on_tick(cx);
        }
        if let Some(sink) = &mut self.sink {
            sink.on_tick(cx);
        }
        self.fronts.on_tick(cx);
        self.orders.on_tick(cx.now);
        self.look_at_reader(cx);
        if self.retry <= cx.now && !matches!(&self.running, Some(running) if running.recovers()) {
            self.retry = Time::NEVER;
            self.news = true;
        }
        self.turn(cx);
    }

    /// Whether a reader that does not ask is a reason to suspend.
    fn expects_reader(&self) -> bool {
        let record = self.record();
        let reads = record.journals() && record.fence.is_none() && record.formation.is_some();
        reads && !self.plan.options.reader_limit.is_zero() && self.source_ends.is_none()
    }

    /// A reader that does not ask for too long.
    fn look_at_reader(&mut self, cx: &Context<'_>) {
        let limit = self.plan.options.reader_limit;
        if self.expects_reader() && cx.now.since(self.asked) > limit {
            let why = format!("the other array has not asked for {} seconds", limit.as_secs());
            self.source_ends = Some(why);
        }
    }

    /// Goes on with everything that can.
    fn turn(&mut self, cx: &mut Context<'_>) {
        if self.losing != Losing::No {
            return self.lose_turn(cx);
        }
        for _ in 0..100 {
            self.saver.turn(cx);
            self.difference.turn(cx);
            let mut moved = self.on_saved(cx);
            moved |= self.source_events(cx);
            moved |= self.sink_events(cx);
            moved |= self.answer_marks(cx);
            moved |= self.advance(cx);
            moved |= self.running.is_none() && self.next_work(cx);
            if !moved {
                break;
            }
        }
        self.speak(cx);
        self.look_at_level(cx);
        self.link.turn(cx);
        self.polls();
    }

    /// Tells operators when a threshold of the journal's use is passed, and when it is left.
    fn look_at_level(&mut self, cx: &mut Context<'_>) {
        let (used, what) = match (&self.source, &self.sink) {
            (Some(source), _) => (source.unread(), "wait for the other array"),
            (None, Some(sink)) => (sink.held_bytes(), "wait to be restored"),
            (None, None) => (0, "are in use"),
        };
        let all = self.layout().data_len;
        let Some(crossed) = self.level.look(&self.plan.options.thresholds, used, all) else { return };
        let share = level::percent(used, all);
        cx.actions.event(match crossed {
            Crossed::Passed(at) => format!("more than {at} % of the journal: {share} % {what}"),
            Crossed::Left(at) => format!("less than {at} % of the journal again: {share} % {what}"),
        });
    }

    /// Takes marks in, and answers those whose bits are durable.
    fn answer_marks(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.tracking {
            return false;
        }
        for mark in self.marks.iter_mut().filter(|mark| mark.stamp.is_none()) {
            self.difference.mark(mark.volume, mark.granules.0, mark.granules.1);
            mark.stamp = Some(self.difference.stamp());
        }
        let mut moved = false;
        while let Some(mark) = self.marks.front() {
            if !mark.stamp.is_some_and(|stamp| self.difference.is_durable(stamp)) {
                break;
            }
            cx.actions.front(mark.volume, ToFront::Marked(mark.ticket));
            self.marks.pop_front();
            moved = true;
        }
        moved
    }

    fn next_deadline(&self) -> Time {
        if self.losing == Losing::Done {
            return Time(0);
        }
        let source = self.source.as_ref().map_or(Time::NEVER, Source::next_deadline);
        let sink = self.sink.as_ref().map_or(Time::NEVER, Sink::next_deadline);
        if self.losing != Losing::No {
            // It neither speaks nor looks at orders, and what it waits for comes by itself.
            let device = match self.losing {
                Losing::Hosts => self.saver.next_deadline().min(self.difference.next_deadline()),
                _ => Time::NEVER,
            };
            return source.min(sink).min(device).min(self.fronts.next_deadline());
        }
        let limit = self.plan.options.reader_limit;
        let reader = match self.expects_reader() {
            true => self.asked + limit + std::time::Duration::from_millis(1),
            false => Time::NEVER,
        };
        let serve = match self.waits_to_serve() && self.plan.options.alone_serves && self.running.is_none() {
            true => self.started + self.plan.options.restart_wait,
            false => Time::NEVER,
        };
        source
            .min(sink)
            .min(reader)
            .min(serve)
            .min(self.retry)
            .min(self.saver.next_deadline())
            .min(self.difference.next_deadline())
            .min(self.fronts.next_deadline())
            .min(self.link.next_deadline(Time(0)))
            .min(self.orders.next_deadline())
    }

    /// The mode that goes with a record.
    fn mode_of(&self, record: &Record) -> Mode {
        record.mode(self.may_read(record))
    }

    fn may_read(&self, record: &Record) -> bool {
        let split = matches!(record.state, State::Psus { .. });
        record.consistent && self.reads_after.is_none() && (split || self.plan.options.secondary_reads)
    }
}

/// Bytes in pages.
fn pages(pool: &Pool, bytes: &[u8]) -> Option<Scatter> {
    let mut pages = ScatterMut::take(pool, Purpose::Internal, bytes.len())?;
    pages.copy_from(0, bytes);
    Some(pages.freeze())
}
