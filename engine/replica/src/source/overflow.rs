//! What happens as the journal fills.
//!
//! Full because the superblock does not say yet what is freed: it is saved. Full because the volumes are behind: a
//! checkpoint, and hosts wait. Full because the reader is behind: with the policy `slow`, hosts are slowed from three
//! quarters on, and at the end wait for the policy's time; then the group is told, which suspends.

use super::{Source, SourceEvent};
use crate::context::Context;
use crate::mail::ToFront;
use kagami_types::Time;
use std::time::Duration;

/// The shortest wait that hosts are given.
const LEAST: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Pace {
    /// The policy's longest wait in nanoseconds; 0: none.
    most: u64,
    /// Hosts are being slowed, and until when they were told to wait.
    until: Option<Time>,
    /// It is full because of the reader, since then.
    full_since: Option<Time>,
    /// The group was told.
    said: bool,
    /// Three quarters wait for the reader, and less than one did not since.
    high: bool,
}

impl Pace {
    pub(super) fn new(slow: Duration) -> Self {
        let most = u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX);
        Self { most, until: None, full_since: None, said: false, high: false }
    }

    pub(super) fn set_slow(&mut self, slow: Duration) {
        self.most = u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX);
    }

    pub(super) fn next(&self) -> Time {
        let patience =
            self.full_since.filter(|_| !self.said).map(|since| since + Duration::from_nanos(self.most));
        self.until.unwrap_or(Time::NEVER).min(patience.unwrap_or(Time::NEVER))
    }
}

impl Source {
    /// Bytes that the reader has not confirmed.
    pub(crate) fn unread(&self) -> u64 {
        self.writer.end().0.saturating_sub(self.confirmed)
    }

    pub(super) fn look_at_space(&mut self, cx: &mut Context<'_>) {
        self.look_at_pace(cx.now);
        let area = self.layout.data_len;
        let wanted = self.wanted_out().offset;
        let freed = wanted - self.writer.out().min(wanted);
        if freed >= area / 8 || (self.writer.is_full() && freed > 0) {
            self.ask_save(cx.now);
        }
        self.look_at_checkpoint(cx);
        if !self.writer.is_full() {
            (self.pace.full_since, self.pace.said) = (None, false);
            return;
        }
        let needs = self.writer.needs();
        let end = self.writer.end().0;
        let free_if = |out: u64| area.saturating_sub(end.saturating_sub(out));
        if free_if(self.reader_out()) < needs {
            let since = *self.pace.full_since.get_or_insert(cx.now);
            if !self.pace.said && cx.now.nanos_since(since) >= self.pace.most {
                self.pace.said = true;
                self.events.push_back(SourceEvent::Full);
            }
        } else {
            // The reader is no reason any more: what it has let go is yet to be destaged, or to be said in a superblock.
            self.pace.full_since = None;
            if free_if(self.destaged.0) < needs {
                self.begin_checkpoint(cx);
            }
        }
    }

    /// Slows the hosts where the policy says so.
    pub(super) fn slow(&mut self, cx: &mut Context<'_>) {
        if self.writer.is_full() {
            self.look_at_space(cx);
        }
        if self.pace.most == 0 {
            // The policy was another one before.
            if self.pace.until.take().is_some() {
                self.tell_pace(cx, Time(0));
            }
            return;
        }
        if self.pace.until.is_some_and(|until| cx.now < until) {
            return;
        }
        let area = self.layout.data_len;
        let over = self.unread().saturating_sub(area / 4 * 3);
        if over == 0 {
            if self.pace.until.take().is_some() {
                self.tell_pace(cx, Time(0));
            }
            return;
        }
        // From nothing at three quarters to all of it when it is full.
        let share = u128::from(self.pace.most) * u128::from(over) / u128::from((area / 4).max(1));
        let wait = u64::try_from(share).unwrap_or(u64::MAX).clamp(LEAST.min(self.pace.most), self.pace.most);
        let until = cx.now + Duration::from_nanos(wait);
        self.pace.until = Some(until);
        self.tell_pace(cx, until);
    }

    fn tell_pace(&self, cx: &mut Context<'_>, until: Time) {
        for volume in &self.volumes {
            cx.actions.front(volume.index, ToFront::Slow(until));
        }
    }

    /// Hosts begin to be slowed.
    fn look_at_pace(&mut self, now: Time) {
        let (unread, quarter) = (self.unread(), self.layout.data_len / 4);
        if unread >= quarter * 3 && !self.pace.high {
            self.pace.high = true;
            if self.pace.most > 0 {
                self.pace.until.get_or_insert(now);
            }
        } else if unread < quarter {
            self.pace.high = false;
        }
    }
}
