//! The state of a cached volume, and the order in which things go on.
//!
//! Whatever comes in (an operation, a completion, a tick) leads to [`Cached::work`], which goes on with all that can go
//! on, until nothing can. Nothing calls itself on the way: what follows from a step is put into a queue.

use super::StoreContext;
use super::cache::Place;
use super::counters::StoreCounters;
use super::frame::{Extent, PAGE};
use super::health::{Health, State};
use super::plan::StorePlan;
use super::space::Space;
use super::task::{Drain, Fill, Flight, Step, Task};
use crate::{Streams, Throttle};
use kagami_memory::{Scatter, ScatterMut};
use kagami_types::{BlockCount, BlockError, BlockOp, BlockRange, Lba, Time};
use kagami_volume::ranges::{Mode, Ranges};
use kagami_volume::{Aborted, Context, Counters, Geometry, Outcome, Tag, Volume};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// How soon what found no room is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(1);
/// Turns of a volume that completes at once, before the core goes on with something else.
const TURNS: usize = 32;
/// Ranges of one UNMAP that are kept apart; more are taken as one that spans them all.
pub(super) const MAX_APART: usize = 16;

/// Who a tag of the volume behind belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Fill(u16),
    Flight(u16),
    Task(u16, u64),
}

const SERIAL: u64 = (1 << 46) - 1;

impl Whose {
    pub(super) fn tag(self) -> Tag {
        let (kind, index, serial) = match self {
            Self::Task(index, serial) => (0, index, serial),
            Self::Fill(index) => (1, index, 0),
            Self::Flight(index) => (2, index, 0),
        };
        Tag(kind << 62 | u64::from(index) << 46 | serial & SERIAL)
    }

    fn of(tag: Tag) -> Self {
        let index = u16::try_from(tag.0 >> 46 & 0xffff).unwrap_or(u16::MAX);
        match tag.0 >> 62 {
            0 => Self::Task(index, tag.0 & SERIAL),
            1 => Self::Fill(index),
            _ => Self::Flight(index),
        }
    }
}

#[derive(Debug)]
pub(super) struct Cached {
    pub(super) volume: Volume,
    pub(super) plan: StorePlan,
    pub(super) geometry: Geometry,
    pub(super) write_back: bool,
    /// A journal has what is dirty.
    pub(super) journaled: bool,
    /// Which pages a write cannot fail at for want of room.
    pub(super) space: Space,
    pub(super) read_only: bool,
    pub(super) quiesced: bool,
    pub(super) draining: bool,
    pub(super) host: Counters,
    pub(super) counters: StoreCounters,

    pub(super) tasks: Vec<Task>,
    pub(super) free: Vec<u16>,
    pub(super) serial: u64,
    pub(super) ranges: Ranges,
    /// Exclusive operations under way or waiting.
    pub(super) exclusive: u32,
    /// Dirty pages that are kept back for one of these.
    pub(super) kept: u32,
    /// Where an operation of the device's that timed out may still change something.
    pub(super) doubtful: Vec<Extent>,

    /// Writes whose turn is still to come, in order.
    pub(super) waiting: VecDeque<u16>,
    /// Reads that found no room, in order.
    pub(super) starved: VecDeque<u16>,
    /// Tasks that can go on, and drains: slot numbers, the flush group's is behind the last.
    pub(super) ready: VecDeque<u16>,
    /// What has to wait a moment, as the volume behind was busy.
    pub(super) later: Vec<u16>,

    pub(super) fills: Vec<Fill>,
    pub(super) free_fills: Vec<u16>,
    pub(super) ahead_fills: usize,
    pub(super) flights: Vec<Flight>,
    pub(super) free_flights: Vec<u16>,
    /// One a task slot, and one for the flush group.
    pub(super) drains: Vec<Drain>,
    pub(super) active: Vec<u16>,
    /// SYNCHRONIZE CACHEs whose drain is under way, and those that came since.
    pub(super) flush_now: Vec<u16>,
    pub(super) flush_next: Vec<u16>,

    pub(super) throttle: Throttle,
    pub(super) streams: Streams,
    /// Counts writes: the order of what became dirty.
    pub(super) clock: u64,
    pub(super) dirty_since: Time,
    /// Pages of the sweep of what has become old, still to go, and when it began.
    pub(super) sweep: u32,
    pub(super) sweep_began: Time,
    /// What is left of a run that was taken from the map.
    pub(super) rest: Range<u64>,
    /// Background destage does nothing before.
    pub(super) pause: Time,
    pub(super) health: Health,

    pub(super) returned: Vec<(Tag, Outcome)>,
    handled: Vec<(Tag, Outcome)>,
    pub(super) spare: Vec<Scatter>,
    pub(super) scratch: ScatterMut,
    /// When a tick is wanted for another reason than a deadline.
    pub(super) wake: Time,
    /// No deadline is earlier.
    pub(super) earliest: Time,
    /// When a starved operation looks again.
    pub(super) retry: Time,
}

impl Cached {
    pub(super) fn new(mut volume: Volume, plan: StorePlan) -> Self {
        let slots = usize::from(plan.slots);
        volume.set_write_back(plan.write_back);
        let geometry = volume.geometry();
        Self {
            geometry,
            write_back: plan.write_back,
            journaled: false,
            read_only: plan.read_only,
            quiesced: false,
            draining: false,
            host: Counters::default(),
            counters: StoreCounters::default(),
            tasks: (0..slots).map(|_| Task::empty()).collect(),
            free: (0..plan.slots).rev().collect(),
            serial: 0,
            ranges: Ranges::new(slots + MAX_APART),
            exclusive: 0,
            kept: 0,
            doubtful: Vec::new(),
            waiting: VecDeque::with_capacity(slots),
            starved: VecDeque::with_capacity(slots),
            ready: VecDeque::with_capacity(slots + 1),
            later: Vec::with_capacity(slots + 1),
            fills: (0..plan.fills).map(|_| Fill::idle()).collect(),
            free_fills: (0..plan.fills).rev().collect(),
            ahead_fills: 0,
            flights: vec![Flight::IDLE; usize::from(plan.flights)],
            free_flights: (0..plan.flights).rev().collect(),
            drains: vec![Drain::IDLE; slots + 1],
            active: Vec::with_capacity(slots + 1),
            flush_now: Vec::with_capacity(slots),
            flush_next: Vec::with_capacity(slots),
            space: Space::new(plan.room, volume.geometry().bytes().div_ceil(PAGE)),
            throttle: Throttle::new(plan.dirty / 2, plan.dirty),
            streams: Streams::new(plan.ahead),
            clock: 0,
            dirty_since: Time::NEVER,
            sweep: 0,
            sweep_began: Time(0),
            rest: 0..0,
            pause: Time(0),
            health: Health::new(plan.dead_after),
            returned: Vec::with_capacity(slots),
            handled: Vec::with_capacity(slots),
            spare: Vec::with_capacity(slots),
            scratch: ScatterMut::new(),
            wake: Time::NEVER,
            earliest: Time::NEVER,
            retry: Time::NEVER,
            volume,
            plan,
        }
    }

    /// Takes an operation in.
    #[inline]
    pub(super) fn submit(
        &mut self,
        cx: &mut StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        data: Scatter,
    ) -> Option<Outcome> {
        let outcome = match self.admit(cx, &op, data.len_bytes()) {
            Err(error) => Some(ended(Err(error), data)),
            Ok(extent) => match &op {
                BlockOp::Read(_, access) => {
                    self.host.reads += 1;
                    self.host.read_bytes += extent.end - extent.start;
                    let access = *access;
                    self.read(cx, tag, op, access, extent, data)
                }
                BlockOp::Write(_, access) => {
                    self.host.writes += 1;
                    self.host.write_bytes += extent.end - extent.start;
                    let access = *access;
                    self.write(cx, tag, op, access, extent, data)
                }
                BlockOp::Flush { .. } => {
                    self.host.others += 1;
                    self.flush(cx, tag, op, extent, data, false)
                }
                _ => {
                    self.host.others += 1;
                    self.pass(cx, tag, op, extent, data)
                }
            },
        };
        if let Some(Outcome { result: Err(error), .. }) = &outcome {
            self.count_error(*error);
        }
        outcome
    }

    /// As a flush, without the device's own.
    pub(super) fn write_out(
        &mut self,
        cx: &mut StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        data: Scatter,
    ) -> Option<Outcome> {
        match self.admit(cx, &op, 0) {
            Ok(extent) => self.flush(cx, tag, op, extent, data, true),
            Err(error) => {
                self.count_error(error);
                Some(ended(Err(error), data))
            }
        }
    }

    #[inline]
    fn admit(&self, cx: &StoreContext<'_>, op: &BlockOp, data: usize) -> Result<Extent, BlockError> {
        if self.quiesced {
            return Err(BlockError::Busy);
        }
        let writes = op.writes();
        if writes && self.read_only {
            return Err(BlockError::WriteProtected);
        }
        if writes && let Some(error) = self.health.refusal(cx.io.now()) {
            return Err(error);
        }
        match op {
            BlockOp::Read(range, _) => self.extent(range.lba, BlockCount(u64::from(range.blocks))),
            BlockOp::Write(range, _) => {
                let extent = self.extent(range.lba, BlockCount(u64::from(range.blocks)))?;
                if data as u64 != extent.end - extent.start {
                    return Err(BlockError::Unsupported);
                }
                Ok(extent)
            }
            BlockOp::WriteVerify { range, .. }
            | BlockOp::Verify { range, .. }
            | BlockOp::CompareAndWrite(range, _) => {
                self.extent(range.lba, BlockCount(u64::from(range.blocks)))
            }
            BlockOp::WriteSame { lba, blocks, .. } => self.extent(*lba, *blocks),
            BlockOp::Unmap(ranges) => {
                let mut hull = Extent { start: u64::MAX, end: 0 };
                for range in ranges {
                    let extent = self.extent(range.lba, BlockCount(u64::from(range.blocks)))?;
                    if extent.start < extent.end {
                        hull = Extent { start: hull.start.min(extent.start), end: hull.end.max(extent.end) };
                    }
                }
                Ok(Extent { start: hull.start.min(hull.end), end: hull.end })
            }
            BlockOp::Flush { lba, blocks: BlockCount(0) } | BlockOp::LbaStatus { lba, .. } => {
                let rest = self.geometry.blocks.0.checked_sub(lba.0).ok_or(BlockError::OutOfRange)?;
                self.extent(*lba, BlockCount(rest))
            }
            BlockOp::Flush { lba, blocks } => self.extent(*lba, *blocks),
        }
    }

    /// The bytes of those blocks, where they are all on the volume.
    #[inline]
    pub(super) fn extent(&self, lba: Lba, blocks: BlockCount) -> Result<Extent, BlockError> {
        match lba.checked_add(blocks) {
            Some(end) if end.0 <= self.geometry.blocks.0 => {
                let size = self.geometry.block_size;
                Ok(Extent { start: size.offset(lba), end: size.offset(end) })
            }
            _ => Err(BlockError::OutOfRange),
        }
    }

    /// Takes a slot for an operation that cannot be done at once; or why not.
    pub(super) fn take_slot(
        &mut self,
        cx: &StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        extent: Extent,
        data: Scatter,
    ) -> Result<u16, Outcome> {
        let Some(t) = self.free.pop() else { return Err(ended(Err(BlockError::Busy), data)) };
        self.serial += 1;
        let now = cx.io.now();
        let deadline = now + self.plan.timeout;
        let task = &mut self.tasks[usize::from(t)];
        debug_assert!(!task.live && !task.queued, "a free slot is in use");
        (task.live, task.serial, task.tag, task.op, task.data) = (true, self.serial & SERIAL, tag, op, data);
        (task.extent, task.step, task.through, task.blockers) = (extent, Step::Blocked, false, 0);
        (task.deadline, task.began) = (deadline, now);
        (task.fills, task.held, task.tries, task.narrow, task.fault) = (0, 0, 0, false, None);
        (task.keeps, task.writes_out) = (false, false);
        task.pinned = extent.first();
        self.earliest = self.earliest.min(deadline);
        Ok(t)
    }

    /// Hands an operation to the volume behind.
    pub(super) fn hand(&mut self, cx: &mut StoreContext<'_>, whose: Whose, op: BlockOp, data: Scatter) {
        let tag = whose.tag();
        let mut inner = Context { io: &mut *cx.io, pool: cx.pool, done: &mut self.returned };
        if let Some(outcome) = self.volume.submit(&mut inner, tag, op, data) {
            self.returned.push((tag, outcome));
        }
    }

    /// The blocks of some pages, which may end beyond the volume.
    pub(super) fn blocks(&self, extent: Extent) -> BlockRange {
        let shift = self.geometry.block_size.shift();
        let blocks = (extent.end - extent.start) >> shift;
        BlockRange { lba: Lba(extent.start >> shift), blocks: u32::try_from(blocks).unwrap_or(u32::MAX) }
    }

    /// The bytes of those pages that the volume has.
    pub(super) fn bytes_of(&self, pages: &Range<u64>) -> Extent {
        let end = self.geometry.bytes();
        Extent {
            start: (pages.start << super::frame::PAGE_SHIFT).min(end),
            end: (pages.end << super::frame::PAGE_SHIFT).min(end),
        }
    }

    /// All sectors of a page that the volume has.
    #[inline]
    pub(super) fn whole(&self, page: u64) -> u8 {
        Extent { start: 0, end: self.geometry.bytes() }.mask(page)
    }

    /// Goes on with everything that can go on.
    pub(super) fn work(&mut self, cx: &mut StoreContext<'_>) {
        for _ in 0..TURNS {
            let mut handled = std::mem::take(&mut self.handled);
            std::mem::swap(&mut handled, &mut self.returned);
            for (tag, outcome) in handled.drain(..) {
                match Whose::of(tag) {
                    Whose::Fill(fill) => self.fill_done(cx, fill, outcome),
                    Whose::Flight(flight) => self.flight_done(cx, flight, outcome),
                    Whose::Task(t, serial) => self.behind_done(cx, t, serial, outcome),
                }
            }
            self.handled = handled;
            for _ in 0..self.ready.len() {
                let Some(owner) = self.ready.pop_front() else { break };
                self.go_on(cx, owner);
            }
            self.take_waiting(cx);
            self.destage(cx);
            if self.returned.is_empty() && self.ready.is_empty() {
                break;
            }
        }
        self.set_alarm(cx);
    }

    /// A task or the flush group has its turn.
    fn go_on(&mut self, cx: &mut StoreContext<'_>, owner: u16) {
        let Some(task) = self.tasks.get_mut(usize::from(owner)) else { return self.group_goes_on(cx) };
        task.queued = false;
        if !task.live || task.blockers > 0 {
            return;
        }
        match task.step {
            Step::Blocked => self.unblocked(cx, owner),
            Step::Read => self.advance_read(cx, owner),
            Step::Drain => self.drain_goes_on(cx, owner),
            Step::Admit | Step::Behind => {}
        }
    }

    /// Nobody is in the way of a task any more.
    fn unblocked(&mut self, cx: &mut StoreContext<'_>, t: u16) {
        let task = &mut self.tasks[usize::from(t)];
        match task.op {
            _ if task.through => self.begin_through(cx, t),
            BlockOp::Read(..) => {
                task.step = Step::Read;
                self.advance_read(cx, t);
            }
            _ => {
                task.step = Step::Admit;
                self.waiting.push_back(t);
            }
        }
    }

    pub(super) fn enqueue(&mut self, owner: u16) {
        if let Some(task) = self.tasks.get_mut(usize::from(owner)) {
            if std::mem::replace(&mut task.queued, true) {
                return;
            }
        } else if self.ready.contains(&owner) {
            return;
        }
        self.ready.push_back(owner);
    }

    /// Enters a task's pages; whether it has to wait. Whole pages: an operation that has its blocks to itself also has the
    /// pages to itself that hold them, so that nothing of these comes into the cache meanwhile.
    pub(super) fn lock(&mut self, t: u16, mode: Mode) -> bool {
        let task = &self.tasks[usize::from(t)];
        let mut blockers = 0;
        match &task.op {
            BlockOp::Unmap(ranges) if ranges.len() <= MAX_APART => {
                for range in ranges.iter().filter(|range| range.blocks > 0) {
                    let size = self.geometry.block_size;
                    let start = size.offset(range.lba);
                    let end = start + size.len(BlockCount(u64::from(range.blocks))).0;
                    let pages = Extent { start, end };
                    blockers += self.ranges.insert(t, mode, pages.first()..pages.last());
                }
            }
            _ => {
                let pages = task.extent.first()..task.extent.last();
                blockers = self.ranges.insert(t, mode, pages);
            }
        }
        if mode == Mode::Exclusive {
            self.exclusive += 1;
        }
        if blockers > 0 {
            self.host.conflicts += 1;
        }
        self.tasks[usize::from(t)].blockers = blockers;
        blockers > 0
    }

    /// Takes a task's pages out, and lets those go on that waited for nothing else.
    pub(super) fn unlock(&mut self, t: u16) {
        if self.ranges.is_empty() {
            return;
        }
        let (tasks, ready) = (&mut self.tasks, &mut self.ready);
        self.ranges.remove(t, |waiting| {
            let task = &mut tasks[usize::from(waiting)];
            task.blockers = task.blockers.saturating_sub(1);
            if task.blockers == 0 && !task.queued {
                task.queued = true;
                ready.push_back(waiting);
            }
        });
    }

    /// Gives a task's outcome and frees its slot. Nothing is taken for it any more but what is under way.
    pub(super) fn finish(&mut self, cx: &mut StoreContext<'_>, t: u16, mut outcome: Outcome) {
        self.unpin(cx, t);
        self.let_go(cx, t);
        let task = &mut self.tasks[usize::from(t)];
        debug_assert!(task.live, "a task that ends twice");
        let through = task.through;
        let mut data = std::mem::take(&mut task.data);
        if outcome.data.capacity() == 0 {
            data.clear();
            outcome.data = data;
        }
        if let BlockOp::Unmap(ranges) = &mut task.op {
            ranges.clear();
        }
        task.live = false;
        let tag = task.tag;
        if task.step == Step::Admit {
            self.waiting.retain(|&waiting| waiting != t);
        }
        if through {
            self.exclusive -= 1;
        }
        self.end_drain(t);
        self.flush_now.retain(|&member| member != t);
        self.flush_next.retain(|&member| member != t);
        if let Err(error) = outcome.result {
            self.count_error(error);
        }
        cx.done.push((tag, outcome));
        self.unlock(t);
        self.starved.retain(|&starved| starved != t);
        self.later.retain(|&later| later != t);
        if std::mem::take(&mut self.tasks[usize::from(t)].queued) {
            self.ready.retain(|&ready| ready != t);
        }
        self.free.push(t);
    }

    pub(super) fn finish_with(&mut self, cx: &mut StoreContext<'_>, t: u16, result: Result<(), BlockError>) {
        let data = std::mem::take(&mut self.tasks[usize::from(t)].data);
        self.finish(cx, t, ended(result, data));
    }

    #[cold]
    fn count_error(&mut self, error: BlockError) {
        match error {
            BlockError::Busy => self.host.busy += 1,
            BlockError::Miscompare(_) => {}
            BlockError::TimedOut => {
                self.host.timeouts += 1;
                self.host.errors += 1;
            }
            _ => self.host.errors += 1,
        }
    }

    pub(super) fn on_completion(
        &mut self,
        cx: &mut StoreContext<'_>,
        completion: kagami_reactor::Completion,
    ) {
        let mut inner = Context { io: &mut *cx.io, pool: cx.pool, done: &mut self.returned };
        self.volume.on_completion(&mut inner, completion);
        self.work(cx);
    }

    pub(super) fn on_tick(&mut self, cx: &mut StoreContext<'_>) {
        let now = cx.io.now();
        let mut inner = Context { io: &mut *cx.io, pool: cx.pool, done: &mut self.returned };
        self.volume.on_tick(&mut inner);
        if !self.doubtful.is_empty() && self.volume.is_idle() {
            self.doubtful.clear();
        }
        self.look_at_waste(cx);
        if now >= self.earliest {
            self.expire(cx, now);
        }
        if now >= self.retry {
            self.retry = Time::NEVER;
            while let Some(owner) = self.later.pop() {
                self.enqueue(owner);
            }
            self.feed(cx);
        }
        if self.health.retry_due(now) {
            self.retry_dirty(cx);
        }
        self.work(cx);
    }

    /// Answers what is overdue, and finds out what will be next.
    fn expire(&mut self, cx: &mut StoreContext<'_>, now: Time) {
        let mut earliest = Time::NEVER;
        for t in 0..self.plan.slots {
            let task = &self.tasks[usize::from(t)];
            // The volume behind keeps the time of what it was given.
            if !task.live || task.step == Step::Behind {
                continue;
            }
            if task.deadline > now {
                earliest = earliest.min(task.deadline);
                continue;
            }
            let untouched = match task.step {
                Step::Blocked | Step::Admit | Step::Behind => true,
                Step::Read => task.fills == 0,
                Step::Drain => task.through,
            };
            let error = match self.health.device_error() {
                Some(error) if task.step == Step::Admit => error,
                // Nothing has happened: it can be sent again as it is.
                _ if untouched => BlockError::Busy,
                _ => BlockError::TimedOut,
            };
            self.finish_with(cx, t, Err(error));
        }
        self.earliest = earliest;
    }

    /// Something was done for a task: it is not overdue.
    pub(super) fn progress(&mut self, cx: &StoreContext<'_>, t: u16) {
        let deadline = cx.io.now() + self.plan.timeout;
        self.tasks[usize::from(t)].deadline = deadline;
        self.earliest = self.earliest.min(deadline);
    }

    /// Something is to be tried again soon.
    pub(super) fn retry_soon(&mut self, cx: &StoreContext<'_>) {
        self.retry = self.retry.min(cx.io.now() + RETRY);
    }

    pub(super) fn abort(&mut self, cx: &mut StoreContext<'_>, tag: Tag) -> Aborted {
        let found = (0..self.plan.slots).zip(&self.tasks).find(|(_, task)| task.live && task.tag == tag);
        let Some((t, task)) = found else { return Aborted::NotFound };
        if task.step == Step::Behind && task.through {
            let inner_tag = Whose::Task(t, task.serial).tag();
            let mut inner = Context { io: &mut *cx.io, pool: cx.pool, done: &mut self.returned };
            let aborted = self.volume.abort(&mut inner, inner_tag);
            self.work(cx);
            return match aborted {
                Aborted::Dropped => Aborted::Dropped,
                Aborted::Pending | Aborted::NotFound => Aborted::Pending,
            };
        }
        // A write is in the cache whole or not at all, and what hosts see does not change any more.
        self.finish_with(cx, t, Err(BlockError::Aborted));
        self.work(cx);
        Aborted::Dropped
    }

    /// When the next tick is wanted.
    fn set_alarm(&mut self, cx: &StoreContext<'_>) {
        let mut wake = self.retry;
        if !self.returned.is_empty() || !self.ready.is_empty() {
            wake = cx.io.now();
        }
        if !cx.cache.dirty.is_empty(self.plan.number) {
            wake = wake.min(self.health.retry_at);
            let dead = self.health.dead_at();
            if dead > cx.io.now() {
                wake = wake.min(dead);
            }
            wake = wake.min(self.destage_alarm(cx));
        }
        self.wake = wake;
    }

    #[inline]
    pub(super) fn next_deadline(&self) -> Time {
        self.wake.min(self.earliest).min(self.volume.next_deadline())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.tasks.len()
            && self.free_fills.len() == self.fills.len()
            && self.free_flights.len() == self.flights.len()
            && !(self.draining && self.counters.dirty > 0)
            && self.volume.is_idle()
    }

    pub(super) fn state(&self, now: Time) -> State {
        self.health.state(now)
    }

    /// The longest READ or WRITE.
    pub(super) fn largest_transfer(&self) -> BlockCount {
        // A page less than fits: it may begin and end in the middle of one.
        let pages = u64::from(self.plan.dirty.min(self.plan.pages)).saturating_sub(1).max(1);
        let blocks = pages << super::frame::PAGE_SHIFT >> self.geometry.block_size.shift();
        self.volume.largest_transfer().min(BlockCount(blocks))
    }

    pub(super) fn spare_list(&mut self) -> Scatter {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn put_list(&mut self, mut list: Scatter) {
        list.clear();
        if self.spare.len() < self.spare.capacity() && list.capacity() > 0 {
            self.spare.push(list);
        }
    }

    /// Where new frames come. Those of a volume that has more than its share are the first to go.
    pub(super) fn place(&self, cx: &StoreContext<'_>, dpo: bool) -> Place {
        if dpo || cx.cache.used_by(self.plan.number) >= self.plan.pages { Place::Cold } else { Place::Used }
    }
}

/// An operation that ended without data to show; `data` only gives its storage back.
#[inline]
pub(super) fn ended(result: Result<(), BlockError>, mut data: Scatter) -> Outcome {
    data.clear();
    Outcome { result, data, status: Vec::new() }
}
