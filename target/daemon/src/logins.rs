//! Refused logins: said on standard error and among the events, so many a second at most.

use crate::events::EventLog;
use crate::serve::RefusedLogin;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Refused logins that may wait to be told.
pub const WAITING: usize = 256;
/// So many are told at once.
const BURST: u32 = 20;
/// After that one for each of these.
const PACE: Duration = Duration::from_millis(500);
/// The longest reason; it may hold what the initiator sent.
const LONGEST: usize = 200;

/// Tells of refused logins.
#[derive(Debug)]
pub struct LoginLog {
    refused: Receiver<RefusedLogin>,
    left: u32,
    refilled: Instant,
    untold: u64,
}

impl LoginLog {
    /// Of those that come through that channel.
    #[must_use]
    pub fn new(refused: Receiver<RefusedLogin>) -> Self {
        Self { refused, left: BURST, refilled: Instant::now(), untold: 0 }
    }

    /// Tells what has come, as far as the pace allows. Called again and again.
    pub fn tell(&mut self, now: Instant, events: &EventLog, mut say: impl FnMut(&str)) {
        let passed = now.saturating_duration_since(self.refilled);
        if let Ok(more) = u32::try_from(passed.as_millis() / PACE.as_millis())
            && more > 0
        {
            self.left = self.left.saturating_add(more).min(BURST);
            self.refilled = now;
        }
        for _ in 0..WAITING {
            let Ok(login) = self.refused.try_recv() else { break };
            if self.left == 0 {
                self.untold += 1;
                continue;
            }
            self.left -= 1;
            let line = in_words(&login);
            events.note("login", &line);
            say(&line);
        }
        if self.untold > 0 && self.left > 0 {
            self.left -= 1;
            let line = format!("{} more logins were refused", std::mem::take(&mut self.untold));
            events.note("login", &line);
            say(&line);
        }
    }
}

fn in_words(login: &RefusedLogin) -> String {
    let address = |end: Option<std::net::SocketAddr>| end.map_or("?".to_owned(), |end| end.to_string());
    let who = login.initiator.as_deref().unwrap_or("an initiator without a name");
    let mut reason = String::new();
    for c in login.reason.chars().take(LONGEST) {
        if c.is_control() { reason.extend(c.escape_default()) } else { reason.push(c) }
    }
    format!(
        "refused the login of {who} from {} at {}: {reason}",
        address(login.ends.peer),
        address(login.ends.local)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_channel::Ends;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_flood_is_told_in_few_lines() {
        let (sender, receiver) = sync_channel(WAITING);
        let ends = Ends { peer: "192.0.2.1:9".parse().ok(), local: None };
        let login = RefusedLogin { initiator: Some("iqn.x".into()), ends, reason: "bad\nsecret".into() };
        for _ in 0..100 {
            sender.try_send(login.clone()).unwrap();
        }
        let mut log = LoginLog::new(receiver);
        let events = EventLog::default();
        let mut lines = Vec::new();
        let now = Instant::now();
        log.tell(now, &events, |line| lines.push(line.to_owned()));
        assert_eq!(lines.len(), BURST as usize);
        assert_eq!(lines[0], "refused the login of iqn.x from 192.0.2.1:9 at ?: bad\\nsecret");
        log.tell(now + 2 * PACE, &events, |line| lines.push(line.to_owned()));
        assert_eq!(lines.last().unwrap(), "80 more logins were refused");
        assert_eq!(events.after(None, Duration::ZERO).events.len(), lines.len());
    }
}
