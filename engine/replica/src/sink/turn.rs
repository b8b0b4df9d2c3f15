//! What a sink does whenever something has happened: everything that can be done by now, in one order.

use super::plan::{Limit, Places};
use super::restore::{Brake, Reach};
use super::seek::Sought;
use super::{CHECKPOINT, Drive, Forming, Goal, SAVE, Sink, SinkEvent};
use crate::context::Context;
use kagami_types::{Sequence, Time};
use std::time::Duration;

impl Sink {
    /// The primary's clock now, as far as it is known.
    pub(super) fn far_clock(&self, now: Time, wall: u64) -> u64 {
        match self.far {
            Some((view, at)) if view.clock > 0 => view.clock.saturating_add(now.nanos_since(at)),
            _ => wall,
        }
    }

    fn brake(&self, cx: &Context<'_>) -> Brake {
        let frozen = self.pausing || self.limit_passed;
        let most = match self.goal {
            _ if frozen => Sequence::ZERO,
            Some(Goal::Sequence(sequence)) => sequence,
            _ => Sequence(u64::MAX),
        };
        let hold = match self.goal {
            Some(Goal::Sequence(_) | Goal::Everything { hold: false }) => Duration::ZERO,
            // The secondary is consistent at no moment of the copy, so there is none to be kept.
            _ if self.forming != Forming::No => Duration::ZERO,
            // Ordered to go to a marker: nowhere before it is found.
            _ if self.seek.is_some() && self.drive == Drive::Host => Duration::MAX,
            _ => self.options.hold,
        };
        let clock = self.far_clock(cx.now, cx.wall);
        Brake { clock, hold, most, end: self.restore_to, read: self.fetch.read().0.offset }
    }

    /// Does all that can be done now.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>) {
        self.restore.settle(&mut self.events);
        if self.stopping {
            self.end();
            return;
        }
        while let Some(frame) = self.fetch.next(cx) {
            self.queue.push(frame);
        }
        self.take_troubles();
        if !self.halted {
            self.limited = false;
            self.read_far(cx);
            self.load(cx);
            self.apply(cx);
            // There is room again, or it went back.
            self.load(cx);
            if !self.finishing && self.far.is_some() {
                self.limited |= self.copy.ask(cx, &mut self.bucket);
            }
            self.form(cx);
            self.look(cx);
            self.check(cx);
            self.take_troubles();
        }
        let reach = self.save(cx);
        self.speak(cx);
        self.reached(reach);
        self.meter.sample(cx.now, self.fetch.arrived, self.restore.restored_bytes, self.copy.copied);
    }

    /// It was told to stop, and nothing of it is under way to volumes and own journal any more.
    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped
    }

    fn take_troubles(&mut self) {
        let found = self.fetch.trouble().or_else(|| self.restore.trouble());
        let found = found.or_else(|| self.copy.trouble()).or_else(|| self.checkpoint.trouble());
        if let Some(trouble) = found {
            self.trouble(trouble);
        }
    }

    fn read_far(&mut self, cx: &mut Context<'_>) {
        let Some((view, _)) = self.far else { return };
        if self.finishing {
            return;
        }
        let area = self.durable.restored.offset.saturating_add(self.layout.data_len);
        let until = view.stable.min(area).min(self.read_to);
        self.limited |= self.fetch.ask(cx, until, &mut self.bucket);
    }

    fn load(&mut self, cx: &mut Context<'_>) {
        if let Err(bad) = self.queue.load(cx, self.fetch.read().0.offset) {
            self.rotten(bad);
        }
    }

    /// Goes on to look for the marker that is the limit.
    fn look(&mut self, cx: &mut Context<'_>) {
        let Some(seek) = &mut self.seek else { return };
        let read = self.fetch.read().0.offset;
        match seek.pump(cx, self.durable.restored, read) {
            Ok(Sought::Found(sequence)) => {
                self.seek = None;
                self.limit_passed = self.restore.set_limit(Limit::Sequence(sequence));
                if self.limit_passed {
                    self.events.push_back(SinkEvent::LimitPassed(self.restore.applied().sequence));
                }
                if self.drive == Drive::Host {
                    self.restore_to = self.restore_to.max(read);
                    self.ordered = Some(read);
                }
            }
            Ok(Sought::Missing) if self.drive == Drive::Host => {
                self.seek = None;
                self.events.push_back(SinkEvent::NoMarker);
            }
            // It may still come.
            Ok(Sought::Missing | Sought::Going) => {}
            Err(bad) => {
                self.seek = None;
                self.rotten(bad);
            }
        }
    }

    fn apply(&mut self, cx: &mut Context<'_>) {
        let most = match self.goal {
            _ if self.pausing || self.limit_passed => self.restore.must().max(self.restore.given()),
            Some(Goal::Sequence(sequence)) => sequence.max(self.restore.must()),
            _ => Sequence(u64::MAX),
        };
        let target = (self.durable.target, self.durable.target_sequence.min(most));
        self.restore.go_on(cx, &mut self.queue, &self.copy, target);
        self.restore.settle(&mut self.events);
    }

    /// From the end of the copy to the end of the formation.
    fn form(&mut self, cx: &mut Context<'_>) {
        match self.forming {
            Forming::Copying if self.copy.is_done() => {
                self.forming = Forming::Asking(self.polls + 1);
                self.poll_at = cx.now;
            }
            Forming::Restoring(sequence)
                if !self.copy.is_fresh()
                    && self.checkpoint.is_idle()
                    && self.restore.is_prefix()
                    && self.durable.restored_sequence >= sequence =>
            {
                self.forming = Forming::No;
                self.events.push_back(SinkEvent::FormationDone(sequence));
            }
            _ => {}
        }
    }

    /// Flushes from time to time, before the journal is full, and when somebody waits for it.
    fn check(&mut self, cx: &mut Context<'_>) {
        let applied = self.restore.applied();
        let restored = self.checkpoint.restored();
        let old = cx.now >= self.checkpoint.began() + CHECKPOINT;
        let used = self.fetch.asked().saturating_sub(restored.place.offset);
        let full = used > self.layout.data_len / 4 && applied.place.offset > restored.place.offset;
        let asked = match self.goal {
            Some(Goal::Sequence(sequence)) => applied.sequence >= sequence,
            Some(_) => self.restore.is_idle(),
            None => false,
        } || self.ordered.is_some() && self.restore.is_idle();
        let formed = matches!(self.forming, Forming::Restoring(sequence) if applied.sequence >= sequence);
        if old || full || asked || formed {
            self.checkpoint.begin(cx, &mut self.restore, &mut self.copy, &mut self.events);
        }
    }

    /// Asks for another superblock where the places have moved. How far entries may be applied.
    fn save(&mut self, cx: &mut Context<'_>) -> Reach {
        let brake = self.brake(cx);
        let from = (self.durable.target, self.durable.target_sequence);
        let reach = self.restore.reach(&self.queue, from, &brake);
        self.old_enough_at = match reach.old_enough {
            Some(due) => cx.now + Duration::from_nanos(due.saturating_sub(brake.clock)),
            None => Time::NEVER,
        };
        if self.saving.is_some() {
            return reach;
        }
        let (read, read_sequence) = self.fetch.read();
        let restored = self.checkpoint.restored();
        let mut wanted = Places {
            read,
            read_sequence,
            restored: restored.place,
            restored_sequence: restored.sequence,
            restored_time: restored.time,
            ..self.durable
        };
        if !self.halted {
            wanted.target = reach.end;
            wanted.target_sequence = reach.sequence;
        }
        self.wants_save = wanted != self.durable;
        if !self.wants_save || (cx.now < self.save_at && self.goal.is_none() && self.ordered.is_none()) {
            return reach;
        }
        self.wants_save = false;
        self.save_at = cx.now + SAVE;
        self.saving = Some(wanted);
        self.events.push_back(SinkEvent::Save(wanted));
        reach
    }

    /// Asks for the two pages when it is time.
    fn speak(&mut self, cx: &mut Context<'_>) {
        if self.halted || self.finishing {
            return;
        }
        let read = self.durable.read.offset;
        let news = read > self.confirmed && cx.now >= self.confirm_at;
        if self.confirming.is_none() && (news || cx.now >= self.heartbeat_at) {
            self.confirming = Some(read);
            self.events.push_back(SinkEvent::Confirm);
        }
        if !self.polling && cx.now >= self.poll_at && self.wants_page() {
            self.polling = true;
            self.polls += 1;
            self.events.push_back(SinkEvent::Poll);
        }
    }

    pub(super) fn wants_page(&self) -> bool {
        self.drive == Drive::Poller
            || self.far.is_none()
            || self.acquiring.is_some()
            || self.goal.is_some()
            || self.ordered.is_some()
            || self.forming != Forming::No
    }

    /// Tells what was waited for.
    fn reached(&mut self, reach: Reach) {
        let (read, _) = self.fetch.read();
        if let Some(to) = self.acquiring
            && self.far.is_some()
            && self.durable.read.offset >= read.offset
            && (read.offset >= to || (self.fetch.asked() >= to && self.fetch.is_settled()))
        {
            self.acquiring = None;
            self.events.push_back(SinkEvent::Acquired(read.offset));
        }
        if !self.restore.is_prefix() {
            return;
        }
        let applied = self.restore.applied();
        if self.pausing && !self.paused {
            self.paused = true;
            self.events.push_back(SinkEvent::Paused(applied.sequence));
        }
        let ended = reach.sequence == applied.sequence
            && (reach.limited || reach.old_enough.is_some() || applied.place.offset >= read.offset);
        let at_limit = reach.at_limit || self.nothing_more_within(applied.place.offset, read.offset);
        if self.restore.is_limited() && !self.limit_told && !self.limit_passed && at_limit && ended {
            self.limit_told = true;
            self.events.push_back(SinkEvent::LimitReached(applied.sequence));
        }
        let durable = self.durable.restored_sequence >= applied.sequence
            && self.durable.restored.offset >= applied.place.offset
            && self.checkpoint.is_idle()
            && self.saving.is_none();
        if !durable || self.halted {
            return;
        }
        if self.ordered.take_if(|to| applied.place.offset >= *to || ended).is_some() {
            self.events.push_back(SinkEvent::Restored(applied.sequence));
        }
        let Some(goal) = self.goal else { return };
        let there = match goal {
            Goal::Sequence(sequence) => applied.sequence >= sequence,
            Goal::Everything { .. } => self.fetch.is_settled() && self.durable.read == read && ended,
        };
        if there {
            if !matches!(goal, Goal::Sequence(_)) {
                self.goal = None;
            } else if self.drained == Some(applied.sequence) {
                return;
            }
            self.drained = Some(applied.sequence);
            self.events.push_back(SinkEvent::Drained(applied.sequence));
        }
    }

    /// All is applied that can ever be within the limit, although nothing beyond it is there yet: the place is reached, or the
    /// primary's clock has passed the time and all that it had by then is applied.
    fn nothing_more_within(&self, applied: u64, read: u64) -> bool {
        match self.restore.limit() {
            Limit::Offset(offset) => applied >= *offset,
            Limit::Time(time) => {
                let all = |stable: u64| applied >= read && applied >= stable;
                self.far.is_some_and(|(view, _)| view.clock > *time && all(view.stable))
            }
            Limit::None | Limit::Sequence(_) | Limit::Marker(_) => false,
        }
    }

    /// After [`Self::stop`].
    pub(super) fn end(&mut self) {
        let quiet = self.restore.is_idle()
            && self.checkpoint.is_idle()
            && !self.copy.is_writing()
            && !self.fetch.is_writing();
        if quiet && !self.stopped {
            self.stopped = true;
            self.events.push_back(SinkEvent::Stopped);
        }
    }
}
