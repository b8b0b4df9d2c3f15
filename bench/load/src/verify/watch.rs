//! How far an announced crash has come, and how long nothing has happened.
//!
//! Time in which this program was stopped (SIGSTOP, a suspended machine) is nobody's fault and counts for little.
//! Called by the driver.

use crate::initiator::{Connection, Window};
use std::time::{Duration, Instant};

/// The longest that one round of the driver takes by itself, when it waits for nothing.
const ROUND: Duration = Duration::from_secs(1);

/// An announced crash of the target.
#[derive(Debug, Default)]
pub enum Announced {
    /// None.
    #[default]
    No,
    /// The word came; it is not answered before a connection to the target's present life is there.
    Heard {
        /// When to try next.
        next_try: Instant,
    },
    /// It was answered. The loss of this connection is the crash.
    Noted(Box<Connection>, Window),
}

/// A clock that stands still while the program is stopped, and how long nothing has ended by it.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Time by this clock.
    own: Instant,
    /// The last round, by the system's clock; `None` after something that may have taken long.
    last: Option<Instant>,
    ended: u64,
    since: Instant,
}

impl Patience {
    /// Begins now.
    pub fn new(now: Instant) -> Self {
        Self { own: now, last: None, ended: 0, since: now }
    }

    /// A round begins, after so many commands in all have ended.
    pub fn round(&mut self, now: Instant, ended: u64) {
        if let Some(last) = self.last.replace(now) {
            self.own += now.saturating_duration_since(last).min(ROUND);
        }
        if ended != self.ended {
            self.ended = ended;
            self.since = self.own;
        }
    }

    /// Something that waits by itself, with a limit of its own, was done since the round began: that time is not counted.
    pub fn blocked(&mut self) {
        self.last = None;
    }

    /// Time by this clock.
    pub fn now(&self) -> Instant {
        self.own
    }

    /// How long no command has ended.
    pub fn idle(&self) -> Duration {
        self.own.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_program_was_stopped_counts_for_one_round() {
        let began = Instant::now();
        let mut patience = Patience::new(began);
        patience.round(began, 0);
        patience.round(began + Duration::from_millis(300), 0);
        patience.round(began + Duration::from_secs(90), 0);
        assert_eq!(patience.idle(), Duration::from_millis(1300));
    }

    #[test]
    fn what_ends_starts_it_anew_and_what_blocks_is_not_counted() {
        let began = Instant::now();
        let mut patience = Patience::new(began);
        patience.round(began, 0);
        patience.round(began + Duration::from_secs(1), 0);
        patience.round(began + Duration::from_secs(2), 1);
        assert_eq!(patience.idle(), Duration::ZERO);
        patience.blocked();
        patience.round(began + Duration::from_secs(20), 1);
        patience.round(began + Duration::from_millis(20_500), 1);
        assert_eq!(patience.idle(), Duration::from_millis(500));
        assert_eq!(patience.now(), began + Duration::from_millis(2500));
    }
}
