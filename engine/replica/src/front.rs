//! What stands before the store of a paired volume, at the volume's home core.
//!
//! A front takes the operations of hosts, and what the group asks of the volume, and lets them reach the store when the
//! group's [`Mode`] allows. The unit of the volume calls it; it calls nobody: what it wants is a [`Step`].
//!
//! - In [`Mode::Journaling`] a write takes its sequence, goes to the group, and reaches the store when it is stable in
//!   the journal, overlapping ones in the order of their sequences. Nobody reads what is not in the journal.
//! - With WCE=1 a WRITE without FUA is *promised*: answered as soon as it has its sequence (array.md 5). The front is its
//!   cache until the store has it: whoever reads its blocks waits, a flush waits until the journal has it, and if the
//!   journal ends before, it is written as the next mode says. What is promised is bounded; beyond that, writes wait. The
//!   group takes its time with what is promised, unless it hears that somebody waits ([`ToGroup::Hurry`]).
//! - COMPARE AND WRITE has its blocks to itself while it compares, then is journaled as the WRITE that it became, and
//!   is done by the store as a COMPARE AND WRITE, so that no read sees half of it.
//! - In [`Mode::Tracking`] a write waits until the bits of its granules are durable.
//! - Reads wait for nothing, except READ with FUA and GET LBA STATUS: these wait for the writes before them that
//!   overlap. The other array relies on it: what it saw in the journal, a READ that it sends later contains.
//! - A flush that the group asks for waits for all stable writes to be in the store, as these are what it asks about.
//! - A write that has its sequence happens, though it be aborted or the store be busy. If the store refuses it, the
//!   group hears of it.
//!
//! It does not keep the bitmap (the group does), knows no journal, and counts no pages: its slots bound it.

mod admit;
mod check;
mod granules;
mod promise;
mod slots;
mod store;
#[cfg(test)]
mod tests;

use crate::mail::{Mode, ToFront, ToGroup, VolumeIndex};
use granules::Granules;
use kagami_memory::Scatter;
use kagami_types::{BlockCount, BlockError, BlockOp, BlockSize, Lba, LbaStatus, Sequence, Time};
use kagami_volume::ranges::Ranges;
use promise::Promises;
use slots::{Slots, Stage, Who};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How many operations of the group a front takes at once; more are `Busy`.
pub const GROUP_SLOTS: u16 = 8192;

/// How soon what a busy store refused is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// How long it is tried.
const RETRY_LIMIT: Duration = Duration::from_secs(10);

/// What a front is made of.
#[derive(Clone, Debug)]
pub struct FrontPlan {
    /// The volume's number in its group.
    pub index: VolumeIndex,
    /// The volume's block size.
    pub block_size: BlockSize,
    /// The volume's blocks.
    pub blocks: BlockCount,
    /// The group's counter: the sequence that was taken last; the next one is one more.
    pub sequencer: Arc<AtomicU64>,
    /// Operations of hosts under way at most; more are `Busy`. At most 32768 count.
    pub slots: u16,
}

/// What a front wants done, in order.
#[derive(Debug)]
pub enum Step {
    /// To the volume's store. The result comes to [`Front::on_store`].
    Store {
        /// Comes back. Its top 16 bits are all set.
        tag: u64,
        /// What.
        op: BlockOp,
        /// Its data.
        data: Scatter,
    },
    /// A host's operation has ended.
    Done {
        /// The host's tag, from [`Front::submit`].
        tag: u64,
        /// How.
        result: Result<(), BlockError>,
        /// What was read; else only storage.
        data: Scatter,
        /// After GET LBA STATUS.
        status: Vec<LbaStatus>,
    },
    /// To the group.
    Mail(ToGroup),
    /// The store is to abort that operation; its outcome still comes.
    AbortStore(u64),
    /// A write that was answered has failed, and is lost: a deferred error (SPC-5 4.4.7).
    Deferred {
        /// Its first block.
        lba: Lba,
        /// Why.
        error: BlockError,
    },
}

/// The front of a volume.
#[derive(Debug)]
pub struct Front {
    plan: FrontPlan,
    mode: Mode,
    /// The store may lack what the journal has: nobody is let in.
    lost: bool,
    /// How often the mode changed.
    era: u32,
    /// Tickets of modes that do not hold yet.
    holding: Vec<u64>,
    /// Host writes of earlier eras under way.
    old: usize,
    /// Host writes that came before the front was there are under way.
    outside: bool,
    slots: Slots,
    /// Who may go to the store when. Writes enter it with their sequence.
    order: Ranges,
    /// Host writes that have neither sequence nor bits, in the order in which they came.
    waiting: VecDeque<u16>,
    /// COMPARE AND WRITEs that read.
    comparing: Vec<u16>,
    /// Writes that wait for the journal, in the order of their sequences.
    journaled: VecDeque<u16>,
    /// Writes that wait for their bits, by ticket.
    marking: VecDeque<(u64, u16)>,
    /// Flushes that wait for writes, or for the journal.
    flushes: Vec<u16>,
    /// What a busy store refused.
    backoff: VecDeque<u16>,
    /// When that is tried again.
    retry_at: Time,
    /// Storage for those that an end lets go.
    freed: Vec<u16>,
    /// Writes that hosts were answered before the store has them.
    promises: Promises,
    /// Writes that are stable, or need not be, and not done by the store.
    applying: usize,
    /// The next number of those.
    stamp: u64,
    /// The last sequence taken here.
    taken: u64,
    /// Up to this one, the group knows that somebody waits.
    hurried: u64,
    /// Known to be stable.
    stable: u64,
    /// What was written before journaling began is flushed.
    covered: bool,
    /// Writes wait for bits, or did before they were held.
    tracks: bool,
    /// Durable bits.
    known: Granules,
    tickets: u64,
    /// The time of the last call that told it.
    clock: Time,
    slow: Time,
    /// The longest write that the store takes, in blocks.
    longest: u32,
    steps: VecDeque<Step>,
}

impl Front {
    /// A front in [`Mode::NotReady`].
    #[must_use]
    pub fn new(mut plan: FrontPlan) -> Self {
        plan.slots = plan.slots.clamp(1, 32768);
        let slots = usize::from(plan.slots) + usize::from(promise::MOST);
        Self {
            mode: Mode::NotReady,
            era: 0,
            holding: Vec::new(),
            old: 0,
            outside: false,
            lost: false,
            slots: Slots::new(plan.slots, GROUP_SLOTS),
            order: Ranges::new(slots),
            waiting: VecDeque::with_capacity(slots),
            comparing: Vec::new(),
            journaled: VecDeque::with_capacity(slots),
            marking: VecDeque::new(),
            flushes: Vec::new(),
            backoff: VecDeque::new(),
            retry_at: Time::NEVER,
            freed: Vec::new(),
            promises: Promises::default(),
            applying: 0,
            stamp: 0,
            taken: 0,
            hurried: 0,
            stable: 0,
            covered: false,
            tracks: false,
            known: Granules::default(),
            tickets: 0,
            clock: Time::default(),
            slow: Time::default(),
            longest: u32::MAX,
            steps: VecDeque::with_capacity(slots),
            plan,
        }
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The volume's number in its group.
    #[must_use]
    pub fn index(&self) -> VolumeIndex {
        self.plan.index
    }

    /// Whether the operation may go straight to the store under the host's own tag: reads and flushes where nothing
    /// hinders. Writes never do.
    #[must_use]
    #[inline]
    pub fn passes(&self, op: &BlockOp) -> bool {
        if self.lost {
            return false;
        }
        match op {
            BlockOp::Read(_, access) if access.fua => {
                matches!(self.mode, Mode::Plain | Mode::Tracking | Mode::Fenced) && self.order.is_empty()
            }
            BlockOp::Read(..) | BlockOp::Verify { .. } => match self.mode {
                Mode::Plain | Mode::Journaling | Mode::Tracking | Mode::Held { .. } | Mode::Fenced => {
                    !self.is_promised(op)
                }
                Mode::NotReady | Mode::Secondary { .. } | Mode::Stopped => false,
            },
            BlockOp::Flush { .. } => {
                matches!(self.mode, Mode::Plain | Mode::Tracking | Mode::Fenced) && self.promises.is_empty()
            }
            BlockOp::LbaStatus { .. } => {
                matches!(self.mode, Mode::Plain | Mode::Fenced) && self.order.is_empty()
            }
            _ => false,
        }
    }

    /// An operation of a host. It ends with one [`Step::Done`]. Tags under way must differ.
    pub fn submit(&mut self, now: Time, tag: u64, op: BlockOp, data: Scatter) {
        self.clock = now;
        if let Err(error) =
            check::check(&self.plan, &op, data.len_bytes()).and_then(|()| self.admits(now, &op))
        {
            return self.refuse(tag, error, data);
        }
        let writes = op.writes();
        let Some(slot) = self.slots.take(Who::Host(tag), op, data, now) else { return };
        if writes {
            self.write(now, slot);
        } else {
            self.read(now, slot);
        }
    }

    /// Whether hosts may have that done in this mode, and there is room.
    fn admits(&self, now: Time, op: &BlockOp) -> Result<(), BlockError> {
        let writes = op.writes();
        match self.mode {
            _ if self.lost => Err(BlockError::BecomingReady),
            Mode::NotReady => Err(BlockError::BecomingReady),
            Mode::Held { until } if writes && now >= until => Err(BlockError::BecomingReady),
            Mode::Fenced | Mode::Secondary { .. } if writes => Err(BlockError::WriteProtected),
            Mode::Secondary { reads: false } | Mode::Stopped => Err(BlockError::NotServed),
            _ if !self.slots.has_room_for_host() => Err(BlockError::Busy),
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, tag: u64, error: BlockError, mut data: Scatter) {
        data.clear();
        self.steps.push_back(Step::Done { tag, result: Err(error), data, status: Vec::new() });
    }

    /// Mail from the group.
    pub fn on_mail(&mut self, now: Time, mail: ToFront) {
        self.clock = now;
        match mail {
            ToFront::Mode { ticket, mode } => self.change(now, ticket, mode),
            ToFront::Stable(sequence) => self.on_stable(now, sequence.0),
            ToFront::Marked(ticket) => self.on_marked(now, ticket),
            ToFront::Apply { tag, op, data } => self.apply(now, tag, op, data),
            ToFront::Slow(until) => {
                self.slow = until;
                self.admit_all(now);
            }
        }
    }

    /// Another mode.
    fn change(&mut self, now: Time, ticket: u64, mode: Mode) {
        self.mode = mode;
        // The group knows, and applies the journal before another mode.
        self.lost &= !matches!(mode, Mode::NotReady | Mode::Plain);
        self.era = self.era.wrapping_add(1);
        self.holding.push(ticket);
        match mode {
            Mode::Journaling | Mode::Held { .. } => {}
            Mode::Tracking => {
                self.covered = false;
                self.known.reset(self.plan.block_size.len(self.plan.blocks).0);
            }
            _ => self.covered = false,
        }
        if !matches!(mode, Mode::Tracking | Mode::Held { .. }) {
            self.known = Granules::default();
        }
        self.tracks = mode == Mode::Tracking || self.tracks && matches!(mode, Mode::Held { .. });
        if mode == Mode::NotReady && self.journaled.is_empty() {
            // A group that begins anew counts on from what its journal has: what was taken beyond that is taken once more, and
            // is not stable yet.
            (self.stable, self.taken, self.hurried) = (0, 0, 0);
        }
        self.slow = Time::default();
        // Those that have no bits yet are written as the new mode says, before those that came later.
        let mut again: VecDeque<u16> = self.marking.drain(..).map(|(_, slot)| slot).collect();
        // The journal takes nothing any more.
        if matches!(mode, Mode::Tracking | Mode::Plain | Mode::Stopped) {
            let journaled = std::mem::take(&mut self.journaled);
            for &slot in &journaled {
                // It is neither blocked nor with the store, so only those behind it hear of this. What was promised
                // keeps its place: its blocks are not read before it is done.
                if !self.slots.look(slot).is_promised() {
                    self.leave(now, slot);
                }
            }
            for &slot in &journaled {
                self.slots.at(slot).reset();
            }
            // Flushes now wait for the store.
            for &flush in &self.flushes {
                self.slots.at(flush).sequences = (0, 0);
            }
            // Their sequences will never be stable: nobody is to wait for them.
            self.stable = self.stable.max(self.taken);
            again.extend(journaled);
        }
        for &slot in &again {
            self.slots.at(slot).stage = Stage::Waiting;
        }
        again.append(&mut self.waiting);
        self.waiting = again;
        let era = self.era;
        self.old = self.slots.count(|slot| slot.is_host_write_under_way() && slot.era != era);
        self.admit_all(now);
        self.look_at_flushes(now);
        self.hurry();
        self.hold();
    }

    /// Says that the mode holds, if it does.
    fn hold(&mut self) {
        // What is promised and waits for bits is still to be written before hosts are shut out.
        let promised = self.tracks && matches!(self.mode, Mode::Held { .. }) && !self.promises.is_empty();
        if self.old == 0 && !self.outside && !promised {
            for ticket in self.holding.drain(..) {
                self.steps.push_back(Step::Mail(ToGroup::ModeHolds { ticket }));
            }
        }
    }

    /// A host's operation is to be aborted. Whether it was found: then its [`Step::Done`] still comes, at once where it
    /// changes nothing any more, else when it has ended.
    pub fn abort(&mut self, tag: u64) -> bool {
        let now = self.clock;
        let Some(slot) = self.slots.find(Who::Host(tag)) else { return false };
        let sequenced = self.slots.at(slot).sequenced;
        let stage = self.slots.at(slot).stage;
        self.slots.at(slot).aborted = true;
        match stage {
            Stage::Waiting if !sequenced => {
                self.waiting.retain(|&other| other != slot);
                self.end(now, slot, Err(BlockError::Aborted), Scatter::new(), Vec::new());
            }
            Stage::Marking => {
                self.marking.retain(|&(_, other)| other != slot);
                if sequenced {
                    // Given up by the journal, and perhaps in it all the same: it goes on.
                    self.slots.at(slot).stage = Stage::Waiting;
                    self.waiting.push_front(slot);
                    self.admit_all(now);
                } else {
                    self.end(now, slot, Err(BlockError::Aborted), Scatter::new(), Vec::new());
                }
            }
            Stage::Blocked if !sequenced => {
                self.flushes.retain(|&other| other != slot);
                self.end(now, slot, Err(BlockError::Aborted), Scatter::new(), Vec::new());
            }
            Stage::Backoff if !sequenced => {
                self.backoff.retain(|&other| other != slot);
                self.end(now, slot, Err(BlockError::Aborted), Scatter::new(), Vec::new());
            }
            Stage::Stored | Stage::Comparing if !sequenced => {
                let tag = self.slots.tag(slot);
                self.steps.push_back(Step::AbortStore(tag));
            }
            _ => {}
        }
        true
    }

    /// The longest write that the store takes, in blocks. Longer ones that must happen go to it in parts, one after the
    /// other; nothing that overlaps goes between them.
    pub fn set_longest(&mut self, blocks: BlockCount) {
        self.longest = u32::try_from(blocks.0).unwrap_or(u32::MAX).max(1);
    }

    /// Host writes that went to the store before there was a front are still under way: no mode holds before
    /// [`Self::outside_ended`].
    pub fn wait_for_outside(&mut self) {
        self.outside = true;
    }

    /// They have ended.
    pub fn outside_ended(&mut self) {
        self.outside = false;
        self.hold();
    }

    /// The store's device may have lost what it had not made stable. Whether the group makes good for it; else hosts are to
    /// hear of it.
    pub fn on_lost(&mut self) -> bool {
        if matches!(self.mode, Mode::Plain) {
            return false;
        }
        self.lost = true;
        self.steps.push_back(Step::Mail(ToGroup::Lost));
        // Else writes are only in the store.
        !matches!(self.mode, Mode::Tracking | Mode::Fenced)
    }

    /// Whether no host is let in since then, as the group has not begun anew yet: for tests and checkers.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The volume has grown.
    pub fn grow(&mut self, blocks: BlockCount) {
        self.plan.blocks = self.plan.blocks.max(blocks);
        if self.mode == Mode::Tracking {
            self.known.grow(self.plan.block_size.len(self.plan.blocks).0);
        }
    }

    /// Whether a WRITE without FUA may be answered before the journal has it: the WCE bit.
    pub fn set_write_back(&mut self, write_back: bool) {
        self.promises.allowed = write_back;
    }

    /// Writes that were answered and are neither in the store nor lost.
    #[must_use]
    pub fn promised(&self) -> usize {
        self.promises.len()
    }

    /// The tag of the host whose write took that sequence, while that write counts on it: for tests and checkers.
    #[must_use]
    pub fn taker(&self, sequence: Sequence) -> Option<u64> {
        self.slots.host(|slot| (slot.sequences.0.max(1)..=slot.sequences.1).contains(&sequence.0))
    }

    /// Nothing of hosts or of the group is under way or waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Time) {
        self.clock = now;
        if now >= self.retry_at {
            self.retry(now);
        }
        if now >= self.slow {
            self.slow = Time::default();
        }
        if !self.waiting.is_empty() {
            self.admit_all(now);
        }
    }

    /// When [`Self::on_tick`] is next needed.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        let waiting = match self.mode {
            _ if self.waiting.is_empty() => Time::NEVER,
            Mode::Held { until } => until,
            _ if self.slow > Time::default() => self.slow,
            _ => Time::NEVER,
        };
        waiting.min(self.retry_at)
    }

    /// What it wants done next. To be asked after every call, until there is nothing.
    #[inline]
    pub fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }
}
