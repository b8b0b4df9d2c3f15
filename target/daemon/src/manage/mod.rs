//! Run-time management: what the management thread does about orders and reloads.
//!
//! | module | what |
//! | --- | --- |
//! | [`orders`] | requests of the admin socket, turned into another configuration |
//! | [`inband`] | orders of command devices: rights, replays, generations; then as the socket |
//! | [`edit`] | what orders return |
//! | [`forward`] | orders for other arrays: passed on, and their results brought back |
//! | [`apply`] | from the configuration in force to another one: checked, durable, then shown |
//! | [`virtuals`] | virtual volumes that come and go |
//! | [`report`] | lists, counters, the configuration as a file |
//!
//! Whoever asks for a change (the socket, SIGHUP), it is the same change: another configuration,
//! checked by the same parser and plan as at start. What was made at run time is in the tables as
//! the file would write it, and is committed in one transaction before anybody sees it.

mod apply;
mod edit;
mod forward;
mod inband;
mod orders;
mod report;
mod virtuals;

pub(crate) use apply::{Force, Wanted};
pub(crate) use forward::{Far, FarError, Route};
pub(crate) use inband::{Desk, busy};

use crate::admin::Ask;
use crate::config::{self, Access, Source};
use crate::run::Daemon;
use crate::serve::Rules;
use kagami_admin::Outcome;
use std::time::{Duration, Instant};

/// How often sessions are looked at after a change, until no login can be under way that began
/// before it.
const SWEEP: Duration = Duration::from_millis(250);

impl Daemon {
    /// What comes over the admin socket, and what is due after changes.
    pub(crate) fn attend(&mut self) {
        self.attend_orders();
        while let Ok(Ask { request, who, answer }) = self.asks.try_recv() {
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
        if self.sweep_until.is_some_and(|(next, _)| now >= next) {
            self.array.tell_changed(&self.array.sweep());
            self.sweep_until =
                self.sweep_until.take().filter(|(_, end)| now < *end).map(|(_, end)| (now + SWEEP, end));
        }
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
