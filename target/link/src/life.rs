//! The life of a link: attempts, losses, time-outs.

use crate::link::{Event, Link, State};
use crate::receive::Broken;
use crate::request::Outcome;
use crate::task::{Owner, Stage};
use crate::transmit::Full;
use kagami_iscsi::login::{Established, InitiatorConfig, InitiatorLogin};
use kagami_iscsi::random::Random;
use kagami_memory::Scatter;
use kagami_types::Time;
use std::net::SocketAddr;
use std::time::Duration;

/// The first pause; the next is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

impl<T: Copy> Link<T> {
    /// Where to connect now, if it is time to. The link counts as connecting from then on: what it
    /// has to say is to be sent as soon as the connection stands, and a failure is
    /// [told](Self::lost).
    pub fn dial(&mut self, now: Time, random: &mut dyn Random) -> Option<SocketAddr> {
        let State::Down { until } = self.state else { return None };
        if now < until {
            return None;
        }
        let portal = *self.plan.portals.get(self.portal % self.plan.portals.len().max(1))?;
        let config = InitiatorConfig {
            account: self.plan.account.clone(),
            preferences: self.plan.preferences,
            ..InitiatorConfig::new(
                self.plan.initiator.clone(),
                Some(self.plan.target.clone()),
                self.plan.isid,
            )
        };
        match InitiatorLogin::new(config, random) {
            Ok(login) => {
                let until = now + self.plan.login_timeout;
                self.state = State::Login { login: Box::new(login), until };
                Some(portal)
            }
            Err(error) => {
                self.lost(now, &error.to_string());
                None
            }
        }
    }

    /// The connection is lost, or could not be made. Nothing that comes of it later is taken.
    pub fn lost(&mut self, now: Time, reason: &str) {
        let served = self.is_serving();
        if served {
            self.losses += 1;
            self.attempts = 0;
        }
        self.reason = Some(reason.into());
        self.learning = None;
        self.resets_done = 0;
        self.down_since = self.down_since.or(Some(now));
        for slot in self.tasks.active().map(|(slot, _)| slot).collect::<Vec<_>>() {
            let Some(task) = self.tasks.get_mut(slot) else { continue };
            match (task.stage, &task.owner) {
                (Stage::Sent, Owner::Host(_)) => {
                    let number = task.number;
                    let undone = task.blocks.filter(|_| task.writes);
                    let overtaken = undone.is_some_and(|blocks| self.acked.overtook(number, &blocks));
                    if task.repeatable && !overtaken {
                        task.again();
                        self.repeated += 1;
                    } else {
                        self.settle(slot, Outcome::Lost, Scatter::new(), 0);
                        self.tasks.release(slot);
                    }
                }
                (Stage::Waiting, Owner::Host(_)) => {}
                // Nothing is sent before the session was reinstated, which ends it there.
                _ => self.tasks.release(slot),
            }
        }
        let mut waiting: Vec<(u64, u16)> =
            self.tasks.active().map(|(slot, task)| (task.number, slot)).collect();
        waiting.sort_unstable();
        self.queue.clear();
        self.queue.extend(waiting.into_iter().map(|(_, slot)| slot));
        let pause = match self.attempts {
            0 if served => FIRST_PAUSE / 5,
            attempts => {
                let most = self.plan.most_pause.max(FIRST_PAUSE);
                FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(most)
            }
        };
        self.attempts = self.attempts.saturating_add(1);
        self.portal = self.portal.wrapping_add(usize::from(!served));
        self.state = State::Down { until: now + pause };
        self.next_tick = self.next_tick.min(now + pause);
        if served {
            self.events.push_back(Event::Down);
        }
    }

    /// The login has succeeded: all that an earlier session had under way is over.
    pub(crate) fn logged_in(&mut self, established: &Established, now: Time) {
        let mut full = Full::new(established, now);
        self.waits.iter_mut().for_each(|wait| wait.tasks.clear());
        self.waits_over(|wait| wait.reset.is_none());
        full.resets.extend(self.waits.iter().filter_map(|wait| wait.reset));
        self.state = State::Full(Box::new(full));
        self.begin_to_learn();
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The connection is to be given up, and the link [told](Self::lost) of it.
    pub fn tick(&mut self, now: Time) -> Result<(), Broken> {
        self.next_tick = now + self.period();
        let late = |deadline: Time| deadline <= now;
        let due: Vec<u16> = self
            .tasks
            .active()
            .filter(|(_, task)| late(task.deadline) && matches!(task.owner, Owner::Host(_)))
            .map(|(slot, _)| slot)
            .collect();
        for slot in due {
            self.expire(slot, now);
        }
        self.waits_over(|wait| wait.until <= now);
        let ping = self.plan.ping();
        match &mut self.state {
            State::Down { .. } => Ok(()),
            State::Login { until, .. } if *until <= now => Err(Broken("the login took too long")),
            State::Login { .. } => Ok(()),
            State::Full(full) => {
                match full.pinged {
                    Some(sent) if now.since(sent) > ping => {
                        return Err(Broken("it did not answer a ping in time"));
                    }
                    None if now.since(full.last_heard) > ping => {
                        full.pinged = Some(now);
                        full.ping_due = true;
                    }
                    _ => {}
                }
                if full.learning_until.is_some_and(|until| until <= now) {
                    return Err(Broken("the far unit did not say in time what it is"));
                }
                let stuck = |since: Time| now.since(since) > self.plan.io_timeout;
                if self.tasks.active().any(|(_, task)| task.stage == Stage::InDoubt && stuck(task.since)) {
                    return Err(Broken("an abort was not answered in time"));
                }
                Ok(())
            }
        }
    }

    /// The time of a command is over.
    fn expire(&mut self, slot: u16, now: Time) {
        let Some(task) = self.tasks.get(slot) else { return };
        let (stage, turn) = (task.stage, task.turn);
        self.settle(slot, Outcome::Unreachable, Scatter::new(), 0);
        if stage == Stage::Sent {
            // It may still be executed there: its blocks are held until the abort is answered.
            self.doubted += 1;
            self.tasks.doubt(slot, now);
            if let State::Full(full) = &mut self.state {
                full.aborts.push_back((slot, turn));
            }
        } else {
            self.queue.retain(|&other| other != slot);
            self.tasks.release(slot);
        }
    }

    fn period(&self) -> Duration {
        (self.plan.io_timeout / 32).clamp(Duration::from_millis(5), Duration::from_millis(250))
    }

    /// When [`tick`](Self::tick), or [`dial`](Self::dial), is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        match &self.state {
            State::Down { until } if self.tasks.in_use() == 0 && self.waits.is_empty() => *until,
            State::Down { until } => (*until).min(self.next_tick),
            _ => self.next_tick,
        }
    }
}
