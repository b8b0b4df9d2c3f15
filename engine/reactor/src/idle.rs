//! When a core with nothing to do goes to sleep.

use kagami_types::Time;
use std::time::Duration;

/// What an idle core does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Polls for a while after the last work, then sleeps in the kernel.
    Adaptive,
    /// Never sleeps.
    Spin,
}

/// Decides, round by round, whether to poll on or to sleep.
///
/// A wake-up from the kernel costs 40 to 50 us here, so a core that slept as soon as it had
/// nothing to do would triple the latency of a host with one command in flight. Polling on for
/// [`SPIN`](Self::SPIN) after the last work keeps nearly all of the polled latency, and an
/// array without load still sleeps almost always.
#[derive(Debug)]
pub struct Idle {
    policy: IdlePolicy,
    last_work: Time,
}

impl Idle {
    /// How long a core polls after its last work.
    pub const SPIN: Duration = Duration::from_micros(50);

    /// A core that has just worked.
    #[must_use]
    pub fn new(policy: IdlePolicy, now: Time) -> Self {
        Self { policy, last_work: now }
    }

    /// Notes how a round went; whether the core may sleep now.
    pub fn may_sleep(&mut self, worked: bool, now: Time) -> bool {
        if worked {
            self.last_work = now;
        }
        self.policy == IdlePolicy::Adaptive && !worked && now.since(self.last_work) >= Self::SPIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_only_after_the_spin_and_never_when_told_to_spin() {
        let start = Time(1_000_000);
        let mut idle = Idle::new(IdlePolicy::Adaptive, start);
        assert!(!idle.may_sleep(false, start + Duration::from_micros(49)));
        assert!(idle.may_sleep(false, start + Duration::from_micros(50)));
        assert!(!idle.may_sleep(true, start + Duration::from_micros(60)));
        assert!(!idle.may_sleep(false, start + Duration::from_micros(100)));
        assert!(idle.may_sleep(false, start + Duration::from_micros(110)));
        let mut spin = Idle::new(IdlePolicy::Spin, start);
        assert!(!spin.may_sleep(false, Time::NEVER));
    }
}
