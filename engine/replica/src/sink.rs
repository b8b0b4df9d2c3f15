//! The secondary's data path: acquire, restore, formation copy.
//!
//! One object, driven by the remote-copy poller (all the time, as fast as there is something) or by a host's orders
//! ([`Sink::acquire`], [`Sink::restore_up_to`]): the same code. It reads the far journal and volumes, writes the own journal,
//! and applies entries to the own volumes; the group reads and writes the two pages and the superblock when an event says so,
//! and decides on states. It gives up nothing silently: what it cannot do is a [`Trouble`].
//!
//! In `sink/`: [`fetch`] (far journal to own journal), [`stream`] (reads put in order and parsed), [`flow`] (how much in
//! flight), [`queue`] (frames that wait), [`restore`] (entries to volumes), [`checkpoint`] (flushes), [`copy`] (formation), [`turn`] (what is done
//! whenever something has happened).

mod checkpoint;
mod copy;
mod event;
mod fetch;
mod figures;
mod flow;
mod plan;
mod queue;
mod restore;
mod seek;
mod stream;
mod turn;

pub use event::{SinkEvent, Trouble};
pub use figures::{SinkFigures, Stage};
pub use plan::{Drive, FarView, Limit, Pace, Places, SinkOptions, SinkPlan, SinkVolume};

use crate::action::{DeviceEnd, FarEnd};
use crate::context::Context;
use crate::mail::VolumeIndex;
use checkpoint::Checkpoint;
use copy::Copy;
use fetch::Fetch;
use figures::Meter;
use flow::Bucket;
use kagami_journal::{BLOCK, Bits, Layout};
use kagami_memory::Class;
use kagami_types::{BlockError, JournalPos, Sequence, Time};
use queue::{Bad, Queue};
use restore::{Applied, Restore};
use seek::Seek;
use std::collections::VecDeque;
use std::time::Duration;

/// The least memory that a sink works with.
const MEMORY: u64 = 256 << 10;
/// Between two polls while somebody waits, while data flow, and at most while nothing does.
const POLL_BUSY: Duration = Duration::from_millis(1);
const POLL_FLOW: Duration = Duration::from_millis(8);
const POLL_IDLE: Duration = Duration::from_millis(20);
/// Between two polls while the far array cannot be reached, at most.
const POLL_LOST: Duration = Duration::from_secs(1);
/// Between two superblock writes, and two writes of the reader's page, where nobody waits.
const SAVE: Duration = Duration::from_millis(1);
const CONFIRM: Duration = Duration::from_millis(8);
/// The reader's page is written that often also without news.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Volumes are flushed that often while entries are applied.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// What is to be reached, and told as [`SinkEvent::Drained`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// That sequence.
    Sequence(Sequence),
    /// All that was read; entries that are too young stay where `hold`.
    Everything { hold: bool },
}

/// How far the formation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forming {
    No,
    Copying,
    /// All is copied: a page that is asked for as that poll or later says up to where to restore.
    Asking(u64),
    Restoring(Sequence),
}

/// The secondary's data path.
#[derive(Debug)]
pub struct Sink {
    layout: Layout,
    drive: Drive,
    options: SinkOptions,
    fetch: Fetch,
    queue: Queue,
    restore: Restore,
    copy: Copy,
    checkpoint: Checkpoint,
    bucket: Bucket,
    /// The bandwidth limit held something back.
    limited: bool,
    events: VecDeque<SinkEvent>,
    durable: Places,
    saving: Option<Places>,
    /// There are others to be saved.
    wants_save: bool,
    save_at: Time,
    far: Option<(FarView, Time)>,
    polling: bool,
    polls: u64,
    poll_at: Time,
    poll_wait: Duration,
    confirming: Option<u64>,
    confirmed: u64,
    confirm_at: Time,
    heartbeat_at: Time,
    /// Host-driven: how far may be read, and restored.
    read_to: u64,
    restore_to: u64,
    acquiring: Option<u64>,
    goal: Option<Goal>,
    /// An order's own goal: the frames before that place. It may come and go beside the other.
    ordered: Option<u64>,
    /// What was told of the goal.
    drained: Option<Sequence>,
    forming: Forming,
    pausing: bool,
    paused: bool,
    limit_told: bool,
    limit_passed: bool,
    /// The limit is a marker, whose place is not known yet.
    seek: Option<Seek>,
    /// Nothing more is read of the far array.
    finishing: bool,
    /// There was trouble.
    halted: bool,
    stopping: bool,
    stopped: bool,
    /// The next entry is old enough at that time.
    old_enough_at: Time,
    meter: Meter,
}

impl Sink {
    /// Begins there. The first [`SinkEvent`]s come from this call's actions.
    pub fn begin(cx: &mut Context<'_>, plan: SinkPlan) -> Self {
        let SinkPlan { group, layout, volumes, places, to_copy, forming, drive, options } = plan;
        let arena = u64::from(cx.pool.arena().total(Class::Page)) << Class::Page.shift();
        let memory = options.memory.min(arena / 8).max(MEMORY);
        let restored = Applied {
            place: places.restored,
            sequence: places.restored_sequence,
            time: places.restored_time,
        };
        let own = match drive {
            Drive::Poller => u64::MAX,
            Drive::Host => 0,
        };
        let mut sink = Self {
            layout,
            drive,
            options,
            fetch: Fetch::new(group, layout, places.read, places.read_sequence, memory / 2),
            queue: Queue::new(group, layout, places.restored, memory / 4),
            restore: Restore::new(&volumes, restored, places.target_sequence),
            copy: Copy::new(&volumes, to_copy, options.pace, memory / 4),
            checkpoint: Checkpoint::new(restored),
            bucket: Bucket::new(options.bandwidth),
            limited: false,
            events: VecDeque::new(),
            durable: places,
            saving: None,
            wants_save: false,
            save_at: Time(0),
            far: None,
            polling: false,
            polls: 0,
            poll_at: cx.now,
            poll_wait: POLL_FLOW,
            confirming: None,
            confirmed: 0,
            confirm_at: Time(0),
            heartbeat_at: cx.now + HEARTBEAT,
            read_to: own,
            restore_to: own,
            acquiring: None,
            goal: None,
            ordered: None,
            drained: None,
            forming: if forming { Forming::Copying } else { Forming::No },
            pausing: false,
            paused: false,
            limit_told: false,
            limit_passed: false,
            seek: None,
            finishing: false,
            halted: false,
            stopping: false,
            stopped: false,
            old_enough_at: Time::NEVER,
            meter: Meter::new(cx.now),
        };
        sink.pump(cx);
        sink
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<SinkEvent> {
        self.events.pop_front()
    }

    /// The places that are durable: what may be told to others.
    #[must_use]
    pub fn durable(&self) -> Places {
        self.durable
    }

    /// The last sequence that is applied without a gap, and its time by the primary's clock. Not all of it is flushed.
    #[must_use]
    pub fn applied(&self) -> (Sequence, u64) {
        let applied = self.restore.applied();
        (applied.sequence, applied.time)
    }

    /// What is checked and stable in the own journal, though perhaps not yet in the superblock.
    #[must_use]
    pub fn read(&self) -> (JournalPos, Sequence) {
        self.fetch.read()
    }

    /// The volumes are the primary at one moment right now: nothing is being applied, nothing is to be copied.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.forming == Forming::No && self.restore.is_prefix()
    }

    /// Bytes of the own journal that are read and not durably restored.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.fetch.parsed().0.offset.saturating_sub(self.durable.restored.offset)
    }

    /// Granules of a volume that are not known to be copied and flushed.
    #[must_use]
    pub fn remaining(&self, volume: VolumeIndex) -> Option<Bits> {
        self.copy.remaining(volume)
    }

    /// What the far page says: the answer to [`SinkEvent::Poll`].
    pub fn on_page(&mut self, cx: &mut Context<'_>, view: &FarView) {
        if std::mem::take(&mut self.polling) {
            self.take_page(cx.now, view);
        }
        self.pump(cx);
    }

    fn take_page(&mut self, now: Time, view: &FarView) {
        let before = self.far.map(|(view, _)| view);
        let (parsed, _) = self.fetch.parsed();
        let mut view = *view;
        if view.stable < parsed.offset {
            self.trouble(Trouble::Beyond { read: parsed.offset, end: view.stable });
        } else if view.out > parsed.offset {
            self.trouble(Trouble::Swept { read: parsed.offset, out: view.out });
        }
        match before {
            Some(before) if before.epoch != view.epoch => {
                self.copy.far_restarted();
                self.fetch.restart();
                if let Forming::Asking(_) = self.forming {
                    self.forming = Forming::Copying;
                }
            }
            Some(before) => view.stable = view.stable.max(before.stable),
            None => {}
        }
        if let Forming::Asking(poll) = self.forming
            && self.polls >= poll
            && view.journals
        {
            self.forming = Forming::Restoring(view.stable_sequence);
        }
        if let Some(to) = &mut self.acquiring {
            *to = (*to).min(view.stable);
        }
        let news = before.is_none_or(|before| before.stable != view.stable);
        let far_behind = view.stable.saturating_sub(self.fetch.asked()) > 64 << 20;
        self.poll_wait = match self.goal {
            Some(Goal::Sequence(_)) => POLL_BUSY,
            _ if far_behind => POLL_IDLE,
            _ if news => POLL_FLOW,
            _ => (self.poll_wait * 2).min(POLL_IDLE),
        };
        self.poll_at = now + self.poll_wait;
        self.far = Some((view, now));
    }

    /// The far page could not be read: the other answer to [`SinkEvent::Poll`].
    pub fn on_page_failed(&mut self, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.polling) {
            self.poll_wait = (self.poll_wait * 2).min(POLL_LOST).max(POLL_IDLE);
            self.poll_at = cx.now + self.poll_wait;
        }
        self.pump(cx);
    }

    /// The reader's page of [`SinkEvent::Confirm`] is written, or could not be.
    pub fn on_confirmed(&mut self, cx: &mut Context<'_>, written: bool) {
        if let Some(read) = self.confirming.take() {
            if written {
                self.confirmed = self.confirmed.max(read);
                self.confirm_at = cx.now + CONFIRM;
            } else {
                self.confirm_at = cx.now + POLL_IDLE * 5;
            }
            self.heartbeat_at = cx.now + HEARTBEAT;
        }
        self.pump(cx);
    }

    /// The places of [`SinkEvent::Save`] are durable.
    pub fn on_saved(&mut self, cx: &mut Context<'_>) {
        if let Some(places) = self.saving.take() {
            self.durable = places;
        }
        self.pump(cx);
    }

    /// A far command of [`Owner::Sink`](crate::Owner) has ended.
    pub fn on_far(&mut self, cx: &mut Context<'_>, tag: u64, end: FarEnd) {
        if self.stopping {
            return;
        }
        if let Some(end) = self.fetch.on_far(cx.now, tag, end) {
            let done = self.copy.on_far(cx, tag, end);
            // Else it is of a read that is not wanted any more.
            drop(done);
        }
        self.pump(cx);
    }

    /// An operation of [`Owner::Sink`](crate::Owner) on the own journal has ended.
    pub fn on_device(&mut self, cx: &mut Context<'_>, tag: u64, end: DeviceEnd) {
        let taken = match &mut self.seek {
            _ if self.fetch.on_device(cx.now, tag, &end) => Ok(true),
            Some(seek) => seek.on_device(cx.now, tag, &end),
            None => Ok(false),
        };
        let taken = match taken {
            Ok(false) => self.queue.on_device(cx.now, tag, end),
            taken => taken,
        };
        if let Err(bad) = taken {
            self.rotten(bad);
        }
        self.pump(cx);
    }

    /// An operation of [`Owner::Sink`](crate::Owner) on a volume has ended.
    pub fn on_applied(&mut self, cx: &mut Context<'_>, tag: u64, result: Result<(), BlockError>) {
        if !self.restore.on_applied(cx.now, tag, result) {
            if let Some(volume) = self.copy.on_applied(cx.now, tag, result) {
                if let Some(dirty) = self.restore.dirty.get_mut(usize::from(volume.0)) {
                    *dirty = true;
                }
            } else {
                let parts = (&mut self.restore, &mut self.copy, &mut self.events);
                self.checkpoint.on_applied(cx.now, tag, result, parts);
            }
        }
        self.pump(cx);
    }

    /// Time has passed.
    pub fn on_tick(&mut self, cx: &mut Context<'_>) {
        self.pump(cx);
    }

    /// Restores up to that sequence, as soon as it is there, without regard to the holding time, and nothing beyond;
    /// [`SinkEvent::Drained`] tells when it is. [`Self::go_on`] takes that back.
    pub fn drain_to(&mut self, cx: &mut Context<'_>, sequence: Sequence) {
        self.drained = None;
        self.goal = Some(Goal::Sequence(sequence));
        self.poll_wait = POLL_BUSY;
        self.poll_at = cx.now;
        self.pump(cx);
    }

    /// Reads nothing more of the far array, and restores what was read, as far as the limit allows; younger entries than the
    /// holding time stay where `hold`. [`SinkEvent::Drained`] tells when that is done. For takeovers, and after
    /// [`Trouble`] of the far side.
    pub fn finish(&mut self, cx: &mut Context<'_>, hold: bool) {
        self.finishing = true;
        self.halted = false;
        self.drained = None;
        self.goal = Some(Goal::Everything { hold });
        self.fetch.restart();
        // What is only half read of the far volumes will not come any more: entries for it are not needed either.
        self.copy.far_restarted();
        self.restore.retry();
        self.pump(cx);
    }

    /// Goes on after [`Self::drain_to`], [`Self::finish`], or [`Self::pause`].
    pub fn go_on(&mut self, cx: &mut Context<'_>) {
        self.goal = None;
        self.finishing = false;
        self.pausing = false;
        self.paused = false;
        self.pump(cx);
    }

    /// Restore pauses: [`SinkEvent::Paused`] tells when nothing is being applied. Reading goes on.
    pub fn pause(&mut self, cx: &mut Context<'_>) {
        self.pausing = true;
        self.pump(cx);
    }

    /// Another limit of what is restored: [`SinkEvent::LimitReached`] or [`SinkEvent::LimitPassed`] follows some time.
    ///
    /// A marker is looked for first where entries are kept back, and nothing is restored until it is found. Host-driven, all that
    /// was read is restored up to it ([`SinkEvent::Restored`]), or it is not there ([`SinkEvent::NoMarker`]).
    pub fn set_limit(&mut self, cx: &mut Context<'_>, limit: Limit) {
        self.limit_told = false;
        // The order before this one has had its time.
        self.ordered = None;
        let kept = self.drive == Drive::Host || !self.options.hold.is_zero();
        self.seek = match &limit {
            Limit::Marker(name) if kept => Some(self.queue.seek(self.durable.restored, name.clone())),
            _ => None,
        };
        // Host-driven, the limit stays what it was until the marker is found.
        if self.seek.is_none() || self.drive == Drive::Poller {
            self.limit_passed = self.restore.set_limit(limit);
            if self.limit_passed {
                self.events.push_back(SinkEvent::LimitPassed(self.restore.applied().sequence));
            }
        }
        self.pump(cx);
    }

    /// Host-driven: reads up to that place, or to what is stable there by then; [`SinkEvent::Acquired`] tells how far.
    pub fn acquire(&mut self, cx: &mut Context<'_>, to: u64) {
        // An order may name any byte; journals are read in whole blocks.
        let to = to.div_ceil(BLOCK).saturating_mul(BLOCK);
        self.read_to = self.read_to.max(to);
        self.acquiring = Some(to);
        self.poll_at = cx.now;
        self.pump(cx);
    }

    /// Host-driven: restores the frames before that place, of those that are read; [`SinkEvent::Restored`] tells when.
    pub fn restore_up_to(&mut self, cx: &mut Context<'_>, to: u64) {
        self.restore_to = self.restore_to.max(to);
        self.ordered = Some(to);
        self.pump(cx);
    }

    /// A volume has its new size ([`SinkEvent::Resize`]).
    pub fn volume_resized(&mut self, cx: &mut Context<'_>, volume: VolumeIndex, blocks: u64) {
        self.restore.volume_resized(volume, blocks);
        self.pump(cx);
    }

    /// Other options. `memory` stays what it was.
    pub fn set_options(&mut self, cx: &mut Context<'_>, options: SinkOptions) {
        self.bucket.set(options.bandwidth);
        self.copy.set_pace(options.pace);
        self.options = SinkOptions { memory: self.options.memory, ..options };
        self.pump(cx);
    }

    /// Begins nothing more. [`SinkEvent::Stopped`] tells when nothing is under way to volumes and own journal: before that,
    /// nobody else may write there.
    pub fn stop(&mut self, cx: &mut Context<'_>) {
        self.stopping = true;
        self.pump(cx);
    }

    /// Lag, rates, the bottleneck, and so on.
    #[must_use]
    pub fn figures(&self, now: Time, wall: u64) -> SinkFigures {
        figures::figures(self, now, wall)
    }

    fn trouble(&mut self, trouble: Trouble) {
        if !self.halted {
            self.halted = true;
            self.events.push_back(SinkEvent::Trouble(trouble));
        }
    }

    fn rotten(&mut self, bad: Bad) {
        match bad {
            Bad::Device(error) => self.trouble(Trouble::Journal(error)),
            Bad::Rotten { at, what } => self.trouble(Trouble::Corrupt { at, what }),
        }
    }

    /// Restore has come to its limit, or was beyond it before: it goes on when there is another.
    #[must_use]
    pub fn is_at_limit(&self) -> bool {
        self.limit_told || self.limit_passed
    }

    /// Up to where entries may be applied. A marker becomes a sequence as soon as it is found, which is before anything behind
    /// it is named as a target.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        self.restore.limit()
    }

    /// There is a limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.restore.is_limited()
    }

    /// When [`Self::on_tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        if self.stopping {
            return Time::NEVER;
        }
        let mut next = Time::NEVER;
        let mut at = |time: Time| next = next.min(time);
        if self.wants_save && self.saving.is_none() {
            at(self.save_at);
        }
        if self.halted {
            return next;
        }
        at(self.old_enough_at);
        at(self.fetch.next_deadline());
        at(self.queue.next_deadline());
        at(self.seek.as_ref().map_or(Time::NEVER, Seek::next_deadline));
        at(self.restore.next_deadline());
        if !self.finishing {
            at(self.copy.next_deadline());
        }
        at(self.checkpoint.next_deadline());
        if self.limited {
            at(self.bucket.opens_at());
        }
        let applied = self.restore.applied();
        if self.checkpoint.is_idle() && (applied != self.checkpoint.restored() || self.copy.is_fresh()) {
            at(self.checkpoint.began() + CHECKPOINT);
        }
        if !self.finishing {
            if !self.polling && self.wants_page() {
                at(self.poll_at);
            }
            if self.confirming.is_none() {
                at(self.heartbeat_at);
                if self.durable.read.offset > self.confirmed {
                    at(self.confirm_at);
                }
            }
        }
        next
    }
}

#[cfg(test)]
mod tests;
