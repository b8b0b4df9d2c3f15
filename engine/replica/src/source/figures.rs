//! Rates and forecasts.

use super::Source;
use kagami_types::Time;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

/// What the primary's side can say of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SourceFigures {
    /// Bytes of the data area in all.
    pub capacity: u64,
    /// Bytes that are not freed.
    pub used: u64,
    /// Bytes that the reader has not confirmed.
    pub unread: u64,
    /// Stable bytes that are not known to be in the volumes.
    pub undestaged: u64,
    /// Bytes a second that go into the journal.
    pub fill_rate: f64,
    /// Bytes a second that the reader confirms.
    pub drain_rate: f64,
    /// At these rates the journal is full in so many seconds.
    pub full_in: Option<f64>,
    /// At these rates the reader has everything in so many seconds.
    pub caught_up_in: Option<f64>,
    /// Entries that came.
    pub entries: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// Entries that wait for a frame.
    pub waiting: usize,
    /// Nanoseconds that a frame takes to be stable, smoothed.
    pub frame_nanos: u64,
    /// Seconds from what the reader has to the newest entry.
    pub unread_seconds: f64,
}

#[derive(Debug)]
pub(super) struct Rates {
    since: Time,
    end: u64,
    confirmed: u64,
    fill: f64,
    drain: f64,
    entries: u64,
    bytes: u64,
}

impl Rates {
    pub(super) fn new(now: Time, end: u64, confirmed: u64) -> Self {
        Self { since: now, end, confirmed, fill: 0.0, drain: 0.0, entries: 0, bytes: 0 }
    }

    pub(super) fn came(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }

    pub(super) fn next(&self) -> Time {
        self.since + EVERY
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(super) fn tick(&mut self, now: Time, end: u64, confirmed: u64) {
        if now < self.next() {
            return;
        }
        let seconds = now.since(self.since).as_secs_f64();
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        // Half of the last second, half of those before it.
        self.fill = f64::midpoint(self.fill, rate(self.end, end));
        self.drain = f64::midpoint(self.drain, rate(self.confirmed, confirmed));
        (self.since, self.end, self.confirmed) = (now, end, confirmed);
    }
}

impl Source {
    /// Figures for people.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn figures(&self) -> SourceFigures {
        let capacity = self.layout.data_len;
        let (fill, drain) = (self.rates.fill, self.rates.drain);
        let unread = self.unread();
        let free = capacity.saturating_sub(unread) as f64;
        let read = self.index.floor(self.confirmed).map_or(self.time, |place| place.time);
        let behind = if unread == 0 { 0 } else { self.time.saturating_sub(read) };
        SourceFigures {
            capacity,
            used: capacity - self.writer.free(),
            unread,
            undestaged: self.undestaged(),
            fill_rate: fill,
            drain_rate: drain,
            full_in: (fill > drain).then(|| free / (fill - drain)),
            caught_up_in: (drain > fill && unread > 0).then(|| unread as f64 / (drain - fill)),
            entries: self.rates.entries,
            bytes: self.rates.bytes,
            waiting: self.writer.waiting().0,
            frame_nanos: self.writer.latency(),
            unread_seconds: Duration::from_nanos(behind).as_secs_f64(),
        }
    }
}
