//! A volume that is spread over several cores: the front, at the home core of its unit.
//!
//! The blocks are dealt out in extents to *shards*: stores over the same device, one at the home core itself and the
//! others on other cores ([`Shard`](crate::Shard)). An operation within an extent goes to its shard as it is. One over a
//! boundary has its blocks to itself until its last part is back (`locks`), so that it is still one: nobody sees a half
//! of it, and overlapping ones keep their order. Nobody but the home core sends to a shard, and messages between two cores
//! keep their order; so whatever is told to a shard holds for all parts that are sent after it.
//!
//! It knows no SCSI: the unit calls it as it would call a store. It keeps no time of its own but for parts that
//! found no room: each part ends in its shard's time.

mod changes;
mod locks;
mod many;
mod stripes;

pub(crate) use changes::Growth;
pub(crate) use stripes::{EXTENT, Stripes};

use crate::message::{Part, ShardOrder};
use crate::unit::UnitContext;
use changes::Changes;
use kagami_cache::Streams;
use kagami_cache::store::{DeferredError, Store};
use kagami_memory::Scatter;
use kagami_types::{BlockError, BlockOp, BlockSize, CoreId, Time};
use kagami_volume::{Aborted, Outcome, Tag};
use locks::{Locks, Mode};
use many::Many;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// How soon a part that found no room is sent again.
const RETRY: Duration = Duration::from_millis(1);

/// Errors of destage that are kept until somebody asks.
const MOST_DEFERRED: usize = 8;

/// Where a shard lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardAddress {
    /// The only core that touches it.
    pub core: CoreId,
    /// Its place in that core's list of shards.
    pub index: u32,
}

/// How a unit's volume is spread.
#[derive(Clone, Debug)]
pub struct SpreadPlan {
    /// Bytes of an extent: a power of two of at least 4 KiB, and a multiple of what the device writes whole.
    pub extent: u64,
    /// The shards beside the one at the unit's own core.
    pub shards: Vec<ShardAddress>,
    /// The most pages that are read ahead of one stream; 0: none. The shards' own plans have none.
    pub ahead: u32,
    /// How long a part that finds no room is tried again.
    pub timeout: Duration,
}

impl SpreadPlan {
    /// The usual extent, in bytes.
    pub const EXTENT: u64 = EXTENT;
}

/// An operation under way.
#[derive(Debug)]
struct Flight {
    tag: Tag,
    blocks: Range<u64>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Others have its blocks.
    Waits(BlockOp, Scatter),
    /// A shard does it whole. Where it asks for the status of blocks, the answer is true before that block.
    One {
        shard: u16,
        clip: Option<u64>,
        reads: bool,
    },
    Many(Box<Many>),
}

/// The front of a spread volume; see the module.
#[derive(Debug)]
pub(crate) struct Spread {
    stripes: Stripes,
    block: BlockSize,
    /// The shard at home.
    pub(crate) own: Store,
    remotes: Box<[ShardAddress]>,
    /// By the unit's task slot.
    flights: Box<[Option<Flight>]>,
    locks: Locks,
    /// Outcomes that the unit has not taken yet.
    ended: Vec<(Tag, Outcome)>,
    /// Parts that the shard at home did at once.
    at_home: Vec<(Tag, Outcome)>,
    deferred: VecDeque<DeferredError>,
    streams: Option<Streams>,
    timeout: Duration,
    /// When parts are sent again.
    retry: Time,
    changes: Changes,
}

impl Spread {
    /// The front of a volume whose first shard is `own`, with the WCE bit. `slots`: the unit's task slots.
    ///
    /// # Errors
    /// The plan contradicts itself.
    pub(crate) fn new(
        own: Store,
        plan: &SpreadPlan,
        slots: usize,
        cached: bool,
        write_back: bool,
    ) -> Result<Self, String> {
        let block = own.geometry().block_size;
        let shards = u16::try_from(plan.shards.len() + 1).ok();
        let stripes = shards.and_then(|shards| Stripes::new(plan.extent, block, shards));
        let stripes = stripes.ok_or_else(|| "it cannot be spread over extents of that size".to_owned())?;
        Ok(Self {
            stripes,
            block,
            own,
            remotes: plan.shards.clone().into_boxed_slice(),
            flights: (0..slots).map(|_| None).collect(),
            locks: Locks::default(),
            ended: Vec::with_capacity(slots),
            at_home: Vec::new(),
            deferred: VecDeque::with_capacity(MOST_DEFERRED),
            streams: (cached && plan.ahead > 0).then(|| Streams::new(plan.ahead)),
            timeout: plan.timeout,
            retry: Time::NEVER,
            changes: Changes::new(plan.shards.len(), write_back),
        })
    }

    /// Takes an operation in; as [`Store::submit`]. The tag begins with the unit's slot.
    #[inline]
    pub(crate) fn submit(
        &mut self,
        cx: &mut UnitContext<'_>,
        tag: Tag,
        op: BlockOp,
        data: Scatter,
    ) -> Option<Outcome> {
        let blocks = match many::hull(&op, self.own.geometry().blocks.0) {
            Ok(blocks) => blocks,
            Err(error) => return Some(ended(Err(error), data)),
        };
        self.greet(cx);
        if self.fits_one(&op, &blocks) {
            if self.locks.is_empty() || !self.locks.is_taken(mode(&op), &blocks) || !is_bound(&op) {
                return self.send_whole(cx, tag, op, blocks, data);
            }
            let slot = slot(tag);
            self.locks.enter(slot, mode(&op), blocks.clone());
            self.put(slot, Flight { tag, blocks, step: Step::Waits(op, data) });
            return None;
        }
        self.submit_many(cx, tag, op, blocks, data);
        None
    }

    /// Whether one shard can do it alone.
    #[inline]
    fn fits_one(&self, op: &BlockOp, blocks: &Range<u64>) -> bool {
        match op {
            BlockOp::LbaStatus { .. } => true,
            // Each shard may have dirty pages, and is to know what became stable.
            BlockOp::Flush { .. } => false,
            _ => self.stripes.is_one(blocks),
        }
    }

    /// Hands an operation to the only shard that it concerns.
    #[inline]
    fn send_whole(
        &mut self,
        cx: &mut UnitContext<'_>,
        tag: Tag,
        op: BlockOp,
        blocks: Range<u64>,
        data: Scatter,
    ) -> Option<Outcome> {
        let status = matches!(op, BlockOp::LbaStatus { .. });
        let shard = if blocks.is_empty() { 0 } else { self.stripes.shard(blocks.start) };
        let clip = status.then(|| self.stripes.extent_end(blocks.start));
        let reads = matches!(op, BlockOp::Read(..));
        let part = part_tag(tag, 0);
        let flight = Flight { tag, blocks, step: Step::One { shard, clip, reads } };
        let Some(remote) = self.remote(shard) else {
            let Some(mut outcome) = self.own.submit(&mut cx.volume, part, op, data) else {
                self.put(slot(tag), flight);
                return None;
            };
            if let Some(end) = clip {
                many::clip(&mut outcome.status, end);
            }
            if reads {
                self.was_read(cx, &flight.blocks, true);
            }
            return Some(outcome);
        };
        let message = Part { shard: remote.index, unit: cx.home, tag: part, op, data, writes_out: false };
        cx.crossing.push((remote.core, message.into()));
        self.put(slot(tag), flight);
        None
    }

    /// Takes in an operation over a boundary.
    #[cold]
    fn submit_many(
        &mut self,
        cx: &mut UnitContext<'_>,
        tag: Tag,
        op: BlockOp,
        blocks: Range<u64>,
        data: Scatter,
    ) {
        let slot = slot(tag);
        if is_bound(&op) {
            for run in many::apart(&op, &blocks) {
                self.locks.enter(slot, mode(&op), run);
            }
        }
        self.put(slot, Flight { tag, blocks, step: Step::Waits(op, data) });
        if self.may_go(slot) {
            self.begin(cx, slot);
        }
    }

    /// Whether an operation that waits need not any more.
    fn may_go(&self, slot: u16) -> bool {
        let Some(Some(Flight { blocks, step: Step::Waits(op, _), .. })) = self.flights.get(usize::from(slot))
        else {
            return false;
        };
        // Between comparing and writing nobody may write: not one either whom only its shard knows.
        let alone = matches!(op, BlockOp::CompareAndWrite(..)) && !self.stripes.is_one(blocks);
        self.locks.may_go(slot) && !(alone && self.is_any_under_way(blocks))
    }

    fn is_any_under_way(&self, blocks: &Range<u64>) -> bool {
        let meets = |flight: &Flight| {
            let its = &flight.blocks;
            !matches!(flight.step, Step::Waits(..)) && its.start < blocks.end && blocks.start < its.end
        };
        self.flights.iter().flatten().any(meets)
    }

    /// An operation that waited goes on.
    fn begin(&mut self, cx: &mut UnitContext<'_>, slot: u16) {
        let Some(Flight { tag, blocks, step: Step::Waits(op, data) }) = self.take(slot) else { return };
        if self.fits_one(&op, &blocks) {
            self.locks.leave(slot);
            if let Some(outcome) = self.send_whole(cx, tag, op, blocks, data) {
                self.ended.push((tag, outcome));
            }
            return;
        }
        self.locks.go(slot);
        let deadline = cx.now + self.timeout;
        match Many::new(op, data, self.stripes, self.block, &blocks, deadline) {
            Ok(many) => {
                self.put(slot, Flight { tag, blocks, step: Step::Many(Box::new(many)) });
                self.go_on(cx, slot);
            }
            Err(outcome) => {
                self.locks.leave(slot);
                self.ended.push((tag, outcome));
            }
        }
    }

    /// Sends what can be sent of an operation in several parts, and ends it where all are back.
    fn go_on(&mut self, cx: &mut UnitContext<'_>, slot: u16) {
        let stripes = self.stripes;
        loop {
            let Some(Some(flight)) = self.flights.get_mut(usize::from(slot)) else { return };
            let Step::Many(many) = &mut flight.step else { return };
            let tag = flight.tag;
            let Some(part) = many.next(stripes) else {
                if many.is_over() {
                    self.end(cx, slot);
                }
                return;
            };
            let number = part_tag(tag, part.number);
            match self.remote(part.shard) {
                Some(remote) => {
                    let message = Part {
                        shard: remote.index,
                        unit: cx.home,
                        tag: number,
                        op: part.op,
                        data: part.data,
                        writes_out: part.writes_out,
                    };
                    cx.crossing.push((remote.core, message.into()));
                }
                None => {
                    let done = match part.writes_out {
                        true => self.own.write_out(&mut cx.volume, number, part.op, part.data),
                        false => self.own.submit(&mut cx.volume, number, part.op, part.data),
                    };
                    // Looked at later, so that nothing calls itself.
                    self.at_home.extend(done.map(|outcome| (number, outcome)));
                }
            }
        }
    }

    /// An operation in several parts is over.
    fn end(&mut self, cx: &mut UnitContext<'_>, slot: u16) {
        let Some(Flight { tag, blocks, step: Step::Many(many) }) = self.take(slot) else { return };
        let at_once = many.at_once;
        let flushed = many.has_flushed();
        let outcome = many.finish();
        if flushed && outcome.result.is_ok() {
            self.tell(cx, || ShardOrder::Stable(whole(tag)));
        }
        if !outcome.data.is_empty() {
            self.was_read(cx, &blocks, at_once);
        }
        self.over(cx, slot, tag, outcome);
    }

    /// The unit is to hear how an operation ended; others may have waited for it.
    fn over(&mut self, cx: &mut UnitContext<'_>, slot: u16, tag: Tag, outcome: Outcome) {
        self.ended.push((tag, outcome));
        if !self.locks.is_empty() {
            self.locks.leave(slot);
            self.wake(cx);
        }
    }

    /// Those go on whom nobody is in the way of any more.
    #[cold]
    fn wake(&mut self, cx: &mut UnitContext<'_>) {
        loop {
            let next = self.locks.waiting().find(|&slot| self.may_go(slot));
            let Some(slot) = next else { return };
            self.begin(cx, slot);
        }
    }

    /// A part is done, here or elsewhere.
    pub(crate) fn part_done(
        &mut self,
        cx: &mut UnitContext<'_>,
        part: Tag,
        mut outcome: Outcome,
        at_once: bool,
    ) {
        let slot = slot(part);
        let Some(Some(flight)) = self.flights.get_mut(usize::from(slot)) else { return };
        if serial(flight.tag) != serial(part) {
            return;
        }
        match &mut flight.step {
            Step::Waits(..) => {}
            Step::One { clip, reads, .. } => {
                if let Some(end) = *clip {
                    many::clip(&mut outcome.status, end);
                }
                let was_read = *reads && outcome.result.is_ok();
                let (tag, blocks) = (flight.tag, flight.blocks.clone());
                if was_read {
                    self.was_read(cx, &blocks, at_once);
                }
                self.take(slot);
                self.over(cx, slot, tag, outcome);
            }
            Step::Many(many) => {
                if many.done(number(part), outcome, at_once) {
                    self.retry = self.retry.min(cx.now + RETRY);
                }
                self.go_on(cx, slot);
            }
        }
    }

    /// The next outcome that the unit is to take.
    pub(crate) fn next_outcome(&mut self, cx: &mut UnitContext<'_>) -> Option<(Tag, Outcome)> {
        loop {
            if let Some(ended) = self.ended.pop() {
                return Some(ended);
            }
            if let Some((part, outcome)) = self.at_home.pop() {
                self.part_done(cx, part, outcome, true);
                continue;
            }
            let (part, outcome) = cx.volume.done.pop()?;
            self.part_done(cx, part, outcome, false);
        }
    }

    /// Whether the unit is to look for outcomes.
    pub(crate) fn has_ended(&self) -> bool {
        !(self.ended.is_empty() && self.at_home.is_empty())
    }

    /// Ends an operation early, where that can be done without harm; as [`Store::abort`].
    pub(crate) fn abort(&mut self, cx: &mut UnitContext<'_>, tag: Tag) -> Aborted {
        let at = slot(tag);
        let flight = self.flights.get_mut(usize::from(at)).and_then(Option::as_mut);
        let Some(flight) = flight.filter(|flight| flight.tag == tag) else { return Aborted::NotFound };
        let parts = match &mut flight.step {
            Step::Waits(..) => {
                if let Some(Flight { step: Step::Waits(_, data), .. }) = self.take(at) {
                    self.over(cx, at, tag, ended(Err(BlockError::Aborted), data));
                }
                return Aborted::Dropped;
            }
            Step::One { shard, .. } => vec![(0, *shard)],
            Step::Many(many) => many.abort(),
        };
        for (number, shard) in parts {
            let part = part_tag(tag, number);
            match self.remote(shard) {
                Some(remote) => {
                    let order = ShardOrder::Abort(part);
                    cx.crossing.push((remote.core, order.to(remote.index, cx.home)));
                }
                None => drop(self.own.abort(&mut cx.volume, part)),
            }
        }
        self.go_on(cx, at);
        Aborted::Pending
    }

    /// Time has passed.
    pub(crate) fn on_tick(&mut self, cx: &mut UnitContext<'_>) {
        if self.own.next_deadline() <= cx.now {
            self.own.on_tick(&mut cx.volume);
        }
        if self.retry > cx.now {
            return;
        }
        self.retry = Time::NEVER;
        for slot in 0..u16::try_from(self.flights.len()).unwrap_or(u16::MAX) {
            if let Some(Some(Flight { step: Step::Many(many), .. })) = self.flights.get_mut(usize::from(slot))
                && many.repeats()
            {
                many.retry(cx.now);
                self.go_on(cx, slot);
            }
        }
    }

    /// When [`on_tick`](Self::on_tick) is wanted.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Time {
        self.own.next_deadline().min(self.retry)
    }

    /// The oldest error of destage that nobody asked for yet.
    pub(crate) fn take_deferred_error(&mut self) -> Option<DeferredError> {
        self.own.take_deferred_error().or_else(|| self.deferred.pop_front())
    }

    /// Operations whose outcome was not given yet.
    pub(crate) fn under_way(&self) -> usize {
        self.flights.iter().flatten().count() + self.ended.len()
    }

    /// Room for tags that begin with slots below that number.
    pub(crate) fn widen(&mut self, slots: usize) {
        let more = slots.saturating_sub(self.flights.len());
        let flights = std::mem::take(&mut self.flights);
        self.flights = flights.into_iter().chain((0..more).map(|_| None)).collect();
    }

    /// Whether a block is at home.
    pub(crate) fn is_at_home(&self, block: u64) -> bool {
        self.stripes.shard(block) == 0
    }

    /// A host has read: streams are found here, before extents scatter them, and each shard is told what will be wanted
    /// of it.
    fn was_read(&mut self, cx: &mut UnitContext<'_>, blocks: &Range<u64>, at_once: bool) {
        let Some(streams) = &mut self.streams else { return };
        let per_page = 12 - self.block.shift();
        let pages = blocks.start >> per_page..((blocks.end - 1) >> per_page) + 1;
        let Some(ahead) = streams.on_read(pages, at_once) else { return };
        let end = (ahead.end << per_page).min(self.own.geometry().blocks.0);
        let wanted = ahead.start << per_page..end;
        for piece in stripes::Pieces::of(self.stripes, wanted) {
            let range = piece.range();
            match self.remote(piece.shard) {
                Some(remote) => {
                    let order = ShardOrder::Ahead(range);
                    cx.crossing.push((remote.core, order.to(remote.index, cx.home)));
                }
                None => self.own.read_ahead(&mut cx.volume, range),
            }
        }
    }

    /// A shard on another core; `None` for the one at home.
    #[inline]
    fn remote(&self, shard: u16) -> Option<ShardAddress> {
        self.remotes.get(usize::from(shard).checked_sub(1)?).copied()
    }

    #[inline]
    fn put(&mut self, slot: u16, flight: Flight) {
        if let Some(place) = self.flights.get_mut(usize::from(slot)) {
            debug_assert!(place.is_none(), "a slot has one operation at a time");
            *place = Some(flight);
        }
    }

    #[inline]
    fn take(&mut self, slot: u16) -> Option<Flight> {
        self.flights.get_mut(usize::from(slot))?.take()
    }

    /// Tells something to all other shards.
    fn tell(&self, cx: &mut UnitContext<'_>, order: impl Fn() -> ShardOrder) {
        for remote in &self.remotes {
            cx.crossing.push((remote.core, order().to(remote.index, cx.home)));
        }
    }

    /// Keeps an error of destage for the next command; the oldest goes where there are too many.
    fn defer(&mut self, error: DeferredError) {
        if self.deferred.len() >= MOST_DEFERRED {
            self.deferred.pop_front();
        }
        self.deferred.push_back(error);
    }

    /// The number of the shard at that place.
    fn number_of(&self, from: ShardAddress) -> Option<usize> {
        self.remotes.iter().position(|remote| *remote == from)
    }
}

/// Whether an operation has a place among those that keep their blocks to themselves.
fn is_bound(op: &BlockOp) -> bool {
    !matches!(op, BlockOp::Flush { .. } | BlockOp::LbaStatus { .. })
}

fn mode(op: &BlockOp) -> Mode {
    if op.writes() { Mode::Writes } else { Mode::Reads }
}

/// A part is called by its unit's slot, its number, and the low half of the task's serial number.
fn part_tag(Tag(tag): Tag, number: u16) -> Tag {
    Tag(tag & 0xffff_0000_ffff_ffff | u64::from(number) << 32)
}

/// What all parts of an operation have in common.
pub(crate) fn whole(part: Tag) -> Tag {
    part_tag(part, 0)
}

fn slot(Tag(tag): Tag) -> u16 {
    u16::try_from(tag >> 48).unwrap_or(u16::MAX)
}

fn number(Tag(tag): Tag) -> u16 {
    u16::try_from(tag >> 32 & 0xffff).unwrap_or(u16::MAX)
}

fn serial(Tag(tag): Tag) -> u64 {
    tag & 0xffff_ffff
}

/// An operation that ended without data to show.
fn ended(result: Result<(), BlockError>, mut data: Scatter) -> Outcome {
    data.clear();
    Outcome { result, data, status: Vec::new() }
}
