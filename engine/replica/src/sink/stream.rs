//! Reads of a journal, several in flight, put in order and parsed.
//!
//! The far journal and the own one are read in the same way. A stream knows no device: who drives it sends what
//! [`Stream::ask`] says and gives what came to [`Stream::on_read`].

use kagami_journal::{Frame, Layout, ParseError, Parser};
use kagami_memory::Scatter;
use kagami_types::{JournalPos, Time, Uuid};
use std::collections::VecDeque;
use std::time::Duration;

/// The most reads in flight.
const READS: usize = 64;

#[derive(Debug)]
enum State {
    Asked {
        tag: u64,
        since: Time,
    },
    Arrived(Scatter),
    /// It failed, and is asked for again at that time.
    Wait(Time),
}

#[derive(Debug)]
struct Chunk {
    at: u64,
    len: u32,
    tries: u32,
    state: State,
}

/// What became of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// Not one of this stream.
    NotOurs,
    /// It has arrived: since then, that many bytes.
    Arrived { since: Time, bytes: u64 },
    /// It failed, for so many times now, and will be repeated.
    Failed { tries: u32, bytes: u64 },
}

/// Something of a stream that goes on.
#[derive(Debug)]
pub(super) enum Next {
    /// These bytes of the journal went to the parser.
    Chunk(u64, Scatter),
    /// A whole frame, checked.
    Frame(Frame),
    /// What was read is no frame that belongs there.
    Bad(ParseError),
}

/// Consecutive reads of a journal from one place on.
#[derive(Debug)]
pub(super) struct Stream {
    group: Uuid,
    layout: Layout,
    parser: Parser,
    chunks: VecDeque<Chunk>,
    /// What is asked for next.
    asked: u64,
    in_flight: u64,
    held: u64,
}

impl Stream {
    pub(super) fn new(group: Uuid, layout: Layout, from: JournalPos) -> Self {
        Self {
            group,
            layout,
            parser: Parser::new(group, layout, from),
            chunks: VecDeque::new(),
            asked: from.offset,
            in_flight: 0,
            held: 0,
        }
    }

    /// Begins anew at that place. Results of reads under way are not taken any more.
    pub(super) fn restart(&mut self, from: JournalPos) {
        *self = Self::new(self.group, self.layout, from);
    }

    /// Up to where reads are asked for.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// Bytes that are asked for and not there.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Bytes that are there and wait for those before them.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Nothing is asked for, and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The next read to be sent: its place, its length, and whether it failed before (then others wait for it, and it needs no
    /// room that is not taken); the caller then says [`Self::sent`]. Reads never go over the end of the data area.
    pub(super) fn ask(&mut self, now: Time, until: u64, chunk: u64) -> Option<(u64, u32, bool)> {
        let again = self.chunks.iter().find(|chunk| matches!(chunk.state, State::Wait(at) if at <= now));
        if let Some(again) = again {
            return Some((again.at, again.len, true));
        }
        if self.asked >= until || self.chunks.len() >= READS {
            return None;
        }
        let len = chunk.min(until - self.asked).min(self.layout.until_wrap(self.asked));
        u32::try_from(len).ok().filter(|len| *len > 0).map(|len| (self.asked, len, false))
    }

    /// The read of [`Self::ask`] is under way.
    pub(super) fn sent(&mut self, now: Time, at: u64, len: u32, tag: u64) {
        let state = State::Asked { tag, since: now };
        self.in_flight += u64::from(len);
        match self.chunks.iter_mut().find(|chunk| chunk.at == at) {
            Some(chunk) => chunk.state = state,
            None => {
                self.chunks.push_back(Chunk { at, len, tries: 0, state });
                self.asked = at + u64::from(len);
            }
        }
    }

    /// A read has ended; `None` where it failed.
    pub(super) fn on_read(&mut self, now: Time, tag: u64, data: Option<Scatter>) -> Took {
        let ours =
            |chunk: &&mut Chunk| matches!(chunk.state, State::Asked { tag: asked, .. } if asked == tag);
        let Some(chunk) = self.chunks.iter_mut().find(ours) else { return Took::NotOurs };
        let State::Asked { since, .. } = chunk.state else { return Took::NotOurs };
        let bytes = u64::from(chunk.len);
        self.in_flight -= bytes;
        match data.filter(|data| data.len_bytes() as u64 == bytes) {
            Some(data) => {
                chunk.state = State::Arrived(data);
                chunk.tries = 0;
                self.held += bytes;
                Took::Arrived { since, bytes }
            }
            None => {
                chunk.tries += 1;
                // 5 ms, 10 ms, ... 640 ms.
                let wait = Duration::from_millis(5 << (chunk.tries - 1).min(7));
                chunk.state = State::Wait(now + wait);
                Took::Failed { tries: chunk.tries, bytes }
            }
        }
    }

    /// When a failed read is to be repeated.
    pub(super) fn next_deadline(&self) -> Time {
        let waits = self.chunks.iter().filter_map(|chunk| match chunk.state {
            State::Wait(at) => Some(at),
            _ => None,
        });
        waits.min().unwrap_or(Time::NEVER)
    }

    /// What comes next in the order of the journal.
    pub(super) fn next(&mut self) -> Option<Next> {
        match self.parser.next() {
            Some(Ok(frame)) => return Some(Next::Frame(frame)),
            Some(Err(error)) => return Some(Next::Bad(error)),
            None => {}
        }
        if !matches!(self.chunks.front()?.state, State::Arrived(_)) {
            return None;
        }
        let chunk = self.chunks.pop_front()?;
        self.held -= u64::from(chunk.len);
        let State::Arrived(data) = chunk.state else { return None };
        if let Err(error) = self.parser.push(chunk.at, data.clone()) {
            return Some(Next::Bad(error));
        }
        Some(Next::Chunk(chunk.at, data))
    }
}
