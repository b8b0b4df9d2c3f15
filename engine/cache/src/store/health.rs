//! What became of the device that destage writes to.

use kagami_types::{BlockError, Lba, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Deferred errors kept until somebody asks.
const MOST_DEFERRED: usize = 8;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Why destage does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What the device said last.
    pub error: BlockError,
    /// The first block that it was about.
    pub lba: Lba,
    /// Since when it has been so.
    pub since: Time,
}

/// What an operator sees of a cached volume's device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing is known against it.
    #[default]
    Healthy,
    /// Some dirty pages could not be written. They are kept and tried again; hosts are served.
    Degraded(Trouble),
    /// The device has taken nothing for longer than the plan allows. New writes are refused with its error; pages in the
    /// cache can be read; dirty pages are kept until the device returns, or the volume is removed.
    Failed(Trouble),
}

/// An error of an operation that was answered long ago: destage failed (SPC-5 4.4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeferredError {
    /// What happened.
    pub error: BlockError,
    /// The first block that it was about.
    pub lba: Lba,
}

#[derive(Debug)]
pub(crate) struct Health {
    trouble: Option<Trouble>,
    /// It is the device, not single blocks.
    device: bool,
    dead_after: Duration,
    backoff: Duration,
    /// When what failed is tried again.
    pub(crate) retry_at: Time,
    /// Dirty pages whose last flight failed.
    pub(crate) pages: u32,
    deferred: VecDeque<DeferredError>,
    pub(crate) dropped: u64,
}

impl Health {
    pub(crate) fn new(dead_after: Duration) -> Self {
        Self {
            trouble: None,
            device: false,
            dead_after,
            backoff: FIRST_BACKOFF,
            retry_at: Time::NEVER,
            pages: 0,
            deferred: VecDeque::with_capacity(MOST_DEFERRED),
            dropped: 0,
        }
    }

    /// Whether an error says something of single blocks only.
    fn is_local(error: BlockError) -> bool {
        matches!(error, BlockError::WriteMedium(_) | BlockError::ReadMedium(_) | BlockError::NoSpace)
    }

    /// A flight failed.
    pub(crate) fn failed(&mut self, error: BlockError, lba: Lba, now: Time) {
        let since = self.trouble.map_or(now, |trouble| trouble.since);
        let device = !Self::is_local(error);
        // From single blocks to the whole device: that begins now.
        let since = if device && !self.device { now } else { since };
        self.device |= device;
        self.trouble = Some(Trouble { error, lba, since });
        if self.retry_at == Time::NEVER || self.retry_at <= now {
            self.retry_at = now + self.backoff;
            self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// A flight succeeded: the device is there.
    pub(crate) fn succeeded(&mut self) {
        if self.trouble.is_none() {
            return;
        }
        self.device = false;
        if self.pages == 0 {
            self.trouble = None;
            self.retry_at = Time::NEVER;
            self.backoff = FIRST_BACKOFF;
        }
    }

    /// Nothing is dirty: nothing to be in trouble about.
    pub(crate) fn nothing_dirty(&mut self) {
        self.pages = 0;
        self.succeeded();
    }

    /// Whether nothing is to be tried but at [`retry_at`](Self::retry_at).
    pub(crate) fn is_down(&self) -> bool {
        self.device
    }

    /// What failed is tried again from now on.
    pub(crate) fn retry_due(&mut self, now: Time) -> bool {
        let due = self.retry_at <= now;
        if due {
            self.retry_at = Time::NEVER;
        }
        due
    }

    /// When the state changes by itself.
    pub(crate) fn dead_at(&self) -> Time {
        match self.trouble {
            Some(trouble) if self.device => trouble.since + self.dead_after,
            _ => Time::NEVER,
        }
    }

    pub(crate) fn state(&self, now: Time) -> State {
        match self.trouble {
            None => State::Healthy,
            Some(trouble) if self.dead_at() <= now => State::Failed(trouble),
            Some(trouble) => State::Degraded(trouble),
        }
    }

    /// The error that new writes are refused with.
    #[inline]
    pub(crate) fn refusal(&self, now: Time) -> Option<BlockError> {
        let trouble = self.trouble?;
        (self.dead_at() <= now).then_some(trouble.error)
    }

    /// The error of the device as a whole, while there is one.
    pub(crate) fn device_error(&self) -> Option<BlockError> {
        self.trouble.filter(|_| self.device).map(|trouble| trouble.error)
    }

    pub(crate) fn defer(&mut self, error: BlockError, lba: Lba) {
        if self.deferred.len() >= MOST_DEFERRED {
            self.deferred.pop_front();
            self.dropped += 1;
        }
        self.deferred.push_back(DeferredError { error, lba });
    }

    pub(crate) fn take_deferred(&mut self) -> Option<DeferredError> {
        self.deferred.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Time {
        Time(0) + SECOND * u32::try_from(seconds).unwrap()
    }

    #[test]
    fn a_bad_block_is_not_a_dead_device() {
        let mut health = Health::new(SECOND * 60);
        health.pages = 1;
        health.failed(BlockError::WriteMedium(Lba(7)), Lba(7), at(1));
        assert!(matches!(health.state(at(1_000_000)), State::Degraded(trouble) if trouble.lba == Lba(7)));
        assert_eq!((health.refusal(at(1_000_000)), health.is_down()), (None, false));
        // Others succeed; it is healthy only without failed pages.
        health.succeeded();
        assert!(matches!(health.state(at(2)), State::Degraded(_)));
        health.pages = 0;
        health.succeeded();
        assert_eq!(health.state(at(2)), State::Healthy);
    }

    #[test]
    fn a_device_is_dead_after_its_time_and_tried_less_and_less_often() {
        let mut health = Health::new(SECOND * 60);
        health.pages = 3;
        let mut now = at(10);
        let mut waits = Vec::new();
        while health.refusal(now).is_none() {
            health.failed(BlockError::Gone, Lba(0), now);
            waits.push(health.retry_at.since(now));
            now = health.retry_at.min(health.dead_at());
            assert!(health.retry_due(health.retry_at) && health.is_down());
        }
        assert_eq!(now, at(70), "counted from the first failure");
        assert!(waits.is_sorted() && waits.last() == Some(&LONGEST_BACKOFF));
        assert!(matches!(health.state(now), State::Failed(_)));
        health.succeeded();
        assert_eq!((health.refusal(now), health.dead_at()), (None, Time::NEVER));
    }

    #[test]
    fn deferred_errors_are_bounded_and_the_newest_are_kept() {
        let mut health = Health::new(SECOND);
        (0..20).for_each(|lba| health.defer(BlockError::Device, Lba(lba)));
        let kept: Vec<u64> = std::iter::from_fn(|| health.take_deferred()).map(|error| error.lba.0).collect();
        assert_eq!((kept, health.dropped), ((12..20).collect(), 12));
    }
}
