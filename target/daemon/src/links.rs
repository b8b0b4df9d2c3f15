//! The links of virtual volumes: that they are there, lost and back again is said on standard error and among the events,
//! for each at most once a second.

use crate::events::EventLog;
use kagami_link::{Phase, Status};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A link is not told of more often.
const PACE: Duration = Duration::from_secs(1);
/// How long one may be without a connection from the start before that is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells of links.
#[derive(Debug, Default)]
pub struct LinkLog {
    known: BTreeMap<String, Known>,
}

/// What was told of a link.
#[derive(Debug)]
struct Known {
    told: Option<Told>,
    losses: u64,
    next: Instant,
    /// It was there at the last look.
    is_there: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Down,
    Serving { connections: u16 },
}

impl LinkLog {
    /// Tells what is new of these links: of virtual volumes by name, the peer's, and how the link does. Called again and
    /// again, with all there are.
    pub fn tell<'a>(
        &mut self,
        now: Instant,
        links: impl Iterator<Item = (&'a str, &'a str, Status)>,
        events: &EventLog,
        mut say: impl FnMut(&str),
    ) {
        for (name, peer, status) in links {
            if !self.known.contains_key(name) {
                let known = Known { told: None, losses: 0, next: now + PATIENCE, is_there: true };
                self.known.insert(name.to_owned(), known);
            }
            let Some(known) = self.known.get_mut(name) else { continue };
            known.is_there = true;
            if let Some(what) = known.news(now, &status) {
                let line = format!("virtual volume {name}, at {peer}: {what}");
                events.note("link", &line);
                say(&line);
            }
        }
        // Those of volumes that are gone.
        self.known.retain(|_, known| std::mem::take(&mut known.is_there));
    }
}

impl Known {
    fn news(&mut self, now: Instant, status: &Status) -> Option<String> {
        let serves = status.phase == Phase::Serving;
        // The first time that it serves is told at once.
        if now < self.next && !(self.told.is_none() && serves) {
            return None;
        }
        let lost = status.losses.saturating_sub(self.losses);
        let state = if serves { Told::Serving { connections: status.connections } } else { Told::Down };
        if self.told == Some(state) && lost == 0 {
            return None;
        }
        let reason = status.reason.as_deref().map(|reason| format!(": {}", printable(reason)));
        let reason = reason.unwrap_or_default();
        let over = match status.connections {
            1 => "one connection".to_owned(),
            several => format!("{several} connections"),
        };
        let what = match (self.told, state) {
            (None, Told::Down) => format!("no link{reason}"),
            (_, Told::Down) if lost > 1 => format!("the link was lost {lost} times{reason}"),
            (_, Told::Down) => format!("the link is lost{reason}"),
            (Some(Told::Serving { .. }), Told::Serving { .. }) if lost == 0 => {
                format!("the link has {over} now{reason}")
            }
            (Some(Told::Serving { .. }), Told::Serving { .. }) => {
                let times = if lost == 1 { "was lost".to_owned() } else { format!("was lost {lost} times") };
                format!("the link {times} and serves again, over {over}")
            }
            (Some(Told::Down), Told::Serving { .. }) => format!("the link serves again, over {over}"),
            (None, Told::Serving { .. }) => format!("the link serves, over {over}"),
        };
        (self.told, self.losses, self.next) = (Some(state), status.losses, now + PACE);
        Some(what)
    }
}

/// Reasons may hold what the far array sent.
fn printable(reason: &str) -> String {
    let mut out = String::new();
    for c in reason.chars().take(200) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: Phase, connections: u16, losses: u64, reason: Option<&str>) -> Status {
        let reason = reason.map(Into::into);
        Status { phase, connections, reason, logins: 0, joined: 0, losses, repeated: 0, in_doubt: 0 }
    }

    #[test]
    fn what_changes_is_told_once_and_not_too_often() {
        let (mut log, events, begun) = (LinkLog::default(), EventLog::default(), Instant::now());
        let mut told = Vec::new();
        let mut look = |at: u64, status: Status| {
            let now = begun + Duration::from_millis(at);
            log.tell(now, [("db", "osaka", status)].into_iter(), &events, |line| told.push(line.to_owned()));
        };
        look(0, status(Phase::Login, 0, 0, None));
        look(10, status(Phase::Serving, 1, 0, None));
        look(900, status(Phase::Serving, 2, 0, None));
        look(1020, status(Phase::Serving, 2, 0, None));
        look(2030, status(Phase::Down, 0, 1, Some("cut\n")));
        look(2040, status(Phase::Serving, 2, 1, None));
        look(3040, status(Phase::Serving, 2, 1, None));
        look(4050, status(Phase::Serving, 2, 4, None));
        look(9000, status(Phase::Serving, 2, 4, None));
        assert_eq!(
            told,
            [
                "virtual volume db, at osaka: the link serves, over one connection",
                "virtual volume db, at osaka: the link has 2 connections now",
                "virtual volume db, at osaka: the link is lost: cut\\n",
                "virtual volume db, at osaka: the link serves again, over 2 connections",
                "virtual volume db, at osaka: the link was lost 3 times and serves again, over 2 connections",
            ]
        );
        assert_eq!(events.after(None, Duration::ZERO).last, 5);
    }

    #[test]
    fn a_link_that_never_comes_is_told_after_a_while() {
        let (mut log, events, begun) = (LinkLog::default(), EventLog::default(), Instant::now());
        let mut told = 0;
        for at in [0, 1, 4, 6, 60] {
            let status = status(Phase::Down, 0, 0, Some("no way"));
            let now = begun + Duration::from_secs(at);
            log.tell(now, [("db", "osaka", status)].into_iter(), &events, |_| told += 1);
        }
        assert_eq!(told, 1);
    }
}
