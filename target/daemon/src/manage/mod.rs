//! Run-time management: what the management thread does about orders and reloads.
//!
//! | module | what |
//! | --- | --- |
//! | [`orders`] | requests of the admin socket, turned into another configuration |
//! | [`inband`] | orders of command devices: rights, replays, generations; then as the socket |
//! | [`edit`] | what orders return |
//! | [`forward`] | orders for other arrays: passed on, and their results brought back |
//! | [`apply`] | from the configuration in force to another one: checked, durable, then shown |
//! | [`pairs`], [`groups`] | groups of pairs: made, ended, ordered about; what they say of themselves |
//! | [`virtuals`] | virtual volumes that come and go |
//! | [`report`] | lists, counters, the configuration as a file |
//!
//! Whoever asks for a change (the socket, SIGHUP), it is the same change: another configuration,
//! checked by the same parser and plan as at start. What was made at run time is in the tables as
//! the file would write it, and is committed in one transaction before anybody sees it.

mod apply;
mod edit;
mod forward;
mod groups;
mod inband;
mod orders;
mod pairs;
mod report;
mod shapes;
mod virtuals;

pub(crate) use apply::{Force, Wanted};
pub(crate) use forward::{Far, FarError, Route};
pub(crate) use inband::{Desk, busy};
pub(crate) use pairs::Pairing;

use crate::admin::Ask;
use crate::config::{self, Access, Source};
use crate::run::Daemon;
use crate::serve::Rules;
use forward::relayed;
use kagami_admin::{Outcome, Request};
use pairs::To;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// How often sessions are looked at after a change, until no login can be under way that began
/// before it.
const SWEEP: Duration = Duration::from_millis(250);

impl Daemon {
    /// What comes over the admin socket, and what is due after changes.
    pub(crate) fn attend(&mut self) {
        self.attend_orders();
        self.attend_pairs();
        while let Ok(Ask { request, who, answer }) = self.asks.try_recv() {
            let Some((request, answer)) = self.later(request, &who, answer) else { continue };
            let is_change = request.is_change();
            let outcome = match self.order(request, &who) {
                Ok(reply) => Outcome::Done(reply),
                Err(refusal) => {
                    if is_change && let Err(error) = self.tables.audit(&who, &format!("refused: {refusal}")) {
                        crate::complain(&error);
                    }
                    Outcome::Refused(refusal)
                }
            };
            // Who asked may have given up.
            let _ = answer.try_send(outcome);
        }
        let now = Instant::now();
        self.logins.tell(now, &self.events, |line| crate::complain(&line));
        let links = self.config.virtuals.iter().filter_map(|one| {
            Some((one.name.as_str(), one.peer.as_str(), self.array.shape(one.lun)?.status()))
        });
        self.links.tell(now, links, &self.events, |line| crate::complain(&line));
        if self.sweep_until.is_some_and(|(next, _)| now >= next) {
            self.array.tell_changed(&self.array.sweep());
            self.sweep_until =
                self.sweep_until.take().filter(|(_, end)| now < *end).map(|(_, end)| (now + SWEEP, end));
        }
    }

    /// Begins what takes long, and answers when it is done; what does not is given back.
    fn later(
        &mut self,
        request: Request,
        who: &str,
        answer: SyncSender<Outcome>,
    ) -> Option<(Request, SyncSender<Outcome>)> {
        let (refusal, answer) = match &request {
            Request::Relay(relay) => {
                let array = self.tables.state().array().uuid;
                match relayed(&relay.record, array) {
                    Ok((record, target)) => {
                        self.desk.forwarder.relay(record, target, array, self.array.routes(), answer);
                        return None;
                    }
                    Err(refusal) => (refusal, answer),
                }
            }
            other => match self.group_order(other) {
                None => return Some((request, answer)),
                Some(Err(refusal)) => (refusal, answer),
                Some(Ok(order)) => match self.give_group(order, who, To::Socket(answer)) {
                    Err((refusal, To::Socket(answer))) => (refusal, answer),
                    _ => return None,
                },
            },
        };
        if let Err(error) = self.tables.audit(who, &format!("refused: {refusal}")) {
            crate::complain(&error);
        }
        let _ = answer.try_send(Outcome::Refused(refusal));
        None
    }

    /// Logins that began under the old rules may end a while later: their sessions are seen to.
    fn sweep_for_a_while(&mut self) {
        let now = Instant::now();
        let end = now + self.config.array.login_timeout + Duration::from_secs(1);
        self.sweep_until = Some((now + SWEEP, end));
    }

    /// SIGHUP: another file.
    pub(crate) fn reload(&mut self, source: Source) -> Result<(), String> {
        let objects: Vec<_> = self.tables.state().objects().collect();
        let next = source.with(&objects).map_err(|errors| errors.to_string())?;
        let wanted = Wanted {
            source: Some(source),
            force: Force::Lists,
            ..Wanted::new(next, "file", "reload of the configuration")
        };
        self.apply(wanted).map(drop).map_err(|refusal| refusal.reason)
    }

    /// The access rules of a configuration.
    fn rules(&self, config: &config::Config) -> Result<Rules, String> {
        let access = Access::load(config).map_err(|errors| errors.to_string())?;
        let rules = Rules::new(&self.plan, access).map_err(|error| error.to_string())?;
        Ok(rules.with_log(self.refused.clone()))
    }
}
