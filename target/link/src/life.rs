//! The life of a link: attempts, losses, time-outs.

use crate::connection::Place;
use crate::link::{Event, Link, State};
use crate::plan::LinkPlan;
use crate::receive::Broken;
use crate::request::Outcome;
use crate::task::{Owner, Stage};
use crate::transmit::Full;
use kagami_iscsi::login::{Established, InitiatorConfig, InitiatorLogin};
use kagami_iscsi::negotiate::Preferences;
use kagami_iscsi::pdu::{Cid, Tsih};
use kagami_iscsi::random::Random;
use kagami_iscsi::serial::CmdSn;
use kagami_memory::Scatter;
use kagami_types::Time;
use std::net::SocketAddr;
use std::time::Duration;

/// The first pause; the next is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

impl<T: Copy> Link<T> {
    /// Where to connect now, if it is time to, and as which connection: the first makes the session, the others join
    /// it. The link counts as connecting from then on: what it has to say is to be sent as soon as the connection
    /// stands, and a failure is [told](Self::lost). `is_free` says of which connection nothing is left.
    pub fn dial(
        &mut self,
        now: Time,
        random: &mut dyn Random,
        is_free: impl Fn(usize) -> bool,
    ) -> Option<(usize, SocketAddr)> {
        let (at, tsih, cid, cmd_sn) = match &mut self.state {
            State::Down { until } if now >= *until => {
                if !(0..self.connections()).all(is_free) {
                    return None;
                }
                (0, Tsih(0), 0, CmdSn(1))
            }
            State::Full(full) if full.serving => {
                let due = |at: &usize| match full.places.get(*at) {
                    Some(Place::Empty { until, .. }) => now >= *until && is_free(*at),
                    _ => false,
                };
                let at = (1..full.places.len()).find(due)?;
                full.next_cid = full.next_cid.wrapping_add(1).max(1);
                (at, full.tsih, full.next_cid, full.cmd_sn)
            }
            _ => return None,
        };
        let portals = &self.plan.portals;
        let portal = *portals.get(self.portal.wrapping_add(at) % portals.len().max(1))?;
        let preferences = Preferences { max_connections: self.most(), ..self.plan.preferences };
        let config = InitiatorConfig {
            account: self.plan.account.clone(),
            preferences,
            tsih,
            cid: Cid(cid),
            cmd_sn,
            ..InitiatorConfig::new(
                self.plan.initiator.clone(),
                Some(self.plan.target.clone()),
                self.plan.isid,
            )
        };
        match InitiatorLogin::new(config, random) {
            Ok(login) => {
                let (login, until) = (Box::new(login), now + self.plan.login_timeout);
                match &mut self.state {
                    State::Full(full) => {
                        let place = full.places.get_mut(at)?;
                        let failures = if let Place::Empty { failures, .. } = place { *failures } else { 0 };
                        *place = Place::Login { login, until, failures };
                    }
                    _ => self.state = State::Login { login, until },
                }
                Some((at, portal))
            }
            Err(error) => {
                self.lost(at, now, &error.to_string());
                None
            }
        }
    }

    fn most(&self) -> u16 {
        self.plan.connections.clamp(1, LinkPlan::MOST)
    }

    /// How many connections it may have.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.most().into()
    }

    /// Whether the link counts on a connection. Where it does not, whoever holds it closes it.
    #[must_use]
    pub fn holds(&self, at: usize) -> bool {
        match &self.state {
            State::Down { .. } => false,
            State::Login { .. } => at == 0,
            State::Full(full) => !matches!(full.places.get(at), None | Some(Place::Empty { .. })),
        }
    }

    /// A connection that was about to join did not: the session goes on without it, and it is tried again later.
    fn did_not_join(&mut self, at: usize, now: Time, reason: &str) -> bool {
        let pause = self.plan.most_pause.max(FIRST_PAUSE);
        let State::Full(full) = &mut self.state else { return false };
        let Some(place) = full.places.get_mut(at) else { return false };
        let failures = match place {
            Place::Open(_) => return false,
            Place::Empty { .. } => return true,
            Place::Login { failures, .. } => failures.saturating_add(1),
        };
        let until = now + pause.saturating_mul(1 << failures.min(5));
        *place = Place::Empty { until, failures };
        self.reason = Some(format!("another connection: {reason}").into());
        self.events.push_back(Event::Connections);
        true
    }

    /// A connection is lost, or could not be made. Nothing that comes of it later is taken. With a connection of
    /// the session the whole session is lost (error recovery level 0); [`holds`](Self::holds) says what is left.
    pub fn lost(&mut self, at: usize, now: Time, reason: &str) {
        if self.did_not_join(at, now, reason) {
            return;
        }
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
                        task.tried = true;
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
        let mut full = Full::new(established, self.most(), now);
        self.waits.iter_mut().for_each(|wait| wait.tasks.clear());
        self.waits_over(|wait| wait.reset.is_none());
        full.resets.extend(self.waits.iter().filter_map(|wait| wait.reset));
        self.state = State::Full(Box::new(full));
        self.logins += 1;
        self.begin_to_learn();
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The session is to be given up, and the link [told](Self::lost) that its first connection is lost.
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
        let mut late_joins = false;
        match &mut self.state {
            State::Down { .. } => Ok(()),
            State::Login { until, .. } if *until <= now => Err(Broken("the login took too long")),
            State::Login { .. } => Ok(()),
            State::Full(full) => {
                for place in &mut full.places {
                    match place {
                        Place::Open(connection) => match connection.pinged {
                            Some(sent) if now.since(sent) > ping => {
                                return Err(Broken("it did not answer a ping in time"));
                            }
                            None if now.since(connection.last_heard) > ping => {
                                connection.pinged = Some(now);
                                connection.ping_due = true;
                            }
                            _ => {}
                        },
                        Place::Login { until, .. } if *until <= now => late_joins = true,
                        _ => {}
                    }
                }
                if full.learning_until.is_some_and(|until| until <= now) {
                    return Err(Broken("the far unit did not say in time what it is"));
                }
                let stuck = |since: Time| now.since(since) > self.plan.io_timeout;
                if self.tasks.active().any(|(_, task)| task.stage == Stage::InDoubt && stuck(task.since)) {
                    return Err(Broken("an abort was not answered in time"));
                }
                if late_joins {
                    self.end_late_joins(now);
                }
                Ok(())
            }
        }
    }

    #[cold]
    fn end_late_joins(&mut self, now: Time) {
        for at in 1..self.connections() {
            if let State::Full(full) = &self.state
                && matches!(full.places.get(at), Some(Place::Login { until, .. }) if *until <= now)
            {
                self.did_not_join(at, now, "the login took too long");
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
            self.ask_to_abort(slot, turn);
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
