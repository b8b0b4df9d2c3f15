//! What has happened, in memory: every line of the audit log, and what is not worth keeping for
//! ever (refused logins). Read over the admin socket, also by who waits for the next one.

use kagami_admin::report::{Event, Events};
use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Events that are remembered.
const KEPT: usize = 4096;
/// Bytes of the audit log's end that are remembered over a restart.
const TAIL: u64 = 64 << 10;
/// The longest that somebody waits for an event.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The events, numbered from 1.
#[derive(Debug, Default)]
pub struct EventLog {
    inner: Mutex<Inner>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    last: u64,
}

impl EventLog {
    /// A log that begins with the end of a data folder's audit log.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let log = Self::default();
        if let Ok(text) = tail(&folder.join("audit.log")) {
            // The first line may be cut off.
            let whole = if text.len() as u64 >= TAIL { text.find('\n').map_or(0, |end| end + 1) } else { 0 };
            text.get(whole..).unwrap_or_default().lines().for_each(|line| log.line(line));
        }
        log
    }

    /// Adds a line of the audit log; what is none is left out.
    pub fn line(&self, line: &str) {
        let mut words = line.trim_end().splitn(4, ' ');
        let (Some(time), Some(generation), Some(who)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let (Some(generation), Some(who)) = (generation.strip_prefix("gen="), who.strip_prefix("who="))
        else {
            return;
        };
        self.push(time, generation.parse().ok(), who, words.next().unwrap_or_default());
    }

    /// Adds an event that the audit log does not have.
    pub fn note(&self, who: &str, what: &str) {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let time = kagami_tables::audit_time(u64::try_from(since.as_millis()).unwrap_or(0));
        self.push(&time, None, who, what);
    }

    fn push(&self, time: &str, generation: Option<u64>, who: &str, what: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        let number = inner.last;
        if inner.events.len() >= KEPT {
            inner.events.pop_front();
        }
        let (time, who, what) = (time.to_owned(), who.to_owned(), what.to_owned());
        inner.events.push_back(Event { number, time, generation, who, what });
        self.more.notify_all();
    }

    /// The events after a number, all that are remembered for `None`. Waits for one where there is
    /// none.
    #[must_use]
    pub fn after(&self, after: Option<u64>, wait: Duration) -> Events {
        let deadline = Instant::now() + wait.min(LONGEST_WAIT);
        let from = after.unwrap_or(0);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if inner.last > from || left.is_zero() {
                let events = inner.events.iter().filter(|event| event.number > from).cloned().collect();
                return Events { events, last: inner.last };
            }
            inner = self.more.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The front of a text, of at most so many bytes.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn lines_become_events_and_are_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("audit.log"),
            "2026-11-22T17:23:00.000Z gen=7 who=file volumes: new db\nnonsense\n\
             2026-11-22T17:23:01.000Z gen=- who=host a b  c\n",
        )
        .unwrap();
        let log = Arc::new(EventLog::of(folder.path()));
        let all = log.after(None, Duration::ZERO);
        assert_eq!(all.last, 2);
        assert_eq!((all.events[0].generation, all.events[0].what.as_str()), (Some(7), "volumes: new db"));
        assert_eq!((all.events[1].generation, all.events[1].what.as_str()), (None, "a b  c"));
        assert!(log.after(Some(2), Duration::from_millis(1)).events.is_empty());
        let later = Arc::clone(&log);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            later.note("login", "refused");
        });
        let next = log.after(Some(2), Duration::from_secs(20));
        assert_eq!((next.events.len(), next.events[0].who.as_str()), (1, "login"));
        thread.join().unwrap();
        for n in 0..2 * KEPT {
            log.note("x", &n.to_string());
        }
        assert_eq!(log.after(None, Duration::ZERO).events.len(), KEPT);
    }
}
