//! Frames that wait to be restored: from the pages they came in as long as these are kept, else from the own journal.
//!
//! The newest frames are kept, as many as memory allows. When restore is behind them, frames are read again from the own
//! journal, checked again, until it meets those that are kept.

use super::seek::Seek;
use super::stream::{Next, Stream, Took};
use crate::action::{DeviceEnd, DeviceOp};
use crate::context::{Context, Owner};
use kagami_journal::{EntryHead, Frame, Layout};
use kagami_memory::Scatter;
use kagami_types::{BlockError, JournalPos, Sequence, Time, Uuid};
use std::collections::VecDeque;

/// How long reads of the own journal are.
const CHUNK: u64 = 1 << 20;

/// A frame that waits, or what is left of it.
#[derive(Debug)]
pub(super) struct Held {
    /// Where it begins.
    pub start: u64,
    /// Where the next one begins, and its epoch.
    pub end: JournalPos,
    /// Its last sequence.
    pub last: Sequence,
    /// Its entries that are not taken.
    pub entries: VecDeque<(EntryHead, Scatter)>,
    /// How many there were.
    count: usize,
    bytes: u64,
}

impl Held {
    fn new(frame: Frame) -> Self {
        let end = frame.end();
        let Frame { head, entries, .. } = frame;
        // A padding frame is as long as what it fills, and holds no pages.
        let bytes = if entries.is_empty() { 4096 } else { u64::from(head.len) };
        Self {
            start: head.offset,
            end,
            last: head.last(),
            count: entries.len(),
            entries: entries.into(),
            bytes,
        }
    }
}

/// Why frames that were checked before cannot be read.
#[derive(Debug)]
pub(super) enum Bad {
    /// The device says so.
    Device(BlockError),
    /// They are not what they were.
    Rotten {
        /// From that place on.
        at: u64,
        /// In words.
        what: String,
    },
}

/// The frames that wait.
#[derive(Debug)]
pub(super) struct Queue {
    group: Uuid,
    layout: Layout,
    memory: u64,
    /// The newest that came, one behind the other.
    recent: VecDeque<Held>,
    recent_bytes: u64,
    /// Read again, one behind the other; before `recent`.
    loaded: VecDeque<Held>,
    loaded_bytes: u64,
    own: Option<Stream>,
    /// Behind the last frame of `loaded`, or that was taken.
    loaded_end: JournalPos,
    tries: u32,
}

impl Queue {
    pub(super) fn new(group: Uuid, layout: Layout, from: JournalPos, memory: u64) -> Self {
        Self {
            group,
            layout,
            memory,
            recent: VecDeque::new(),
            recent_bytes: 0,
            loaded: VecDeque::new(),
            loaded_bytes: 0,
            own: None,
            loaded_end: from,
            tries: 0,
        }
    }

    /// A search for a marker, from a frame's beginning on.
    pub(super) fn seek(&self, from: JournalPos, name: Vec<u8>) -> Seek {
        Seek::new(self.group, self.layout, from, name)
    }

    /// Goes back to there: what was taken since is read again.
    pub(super) fn rewind(&mut self, to: JournalPos) {
        self.loaded.clear();
        self.loaded_bytes = 0;
        self.own = None;
        self.loaded_end = to;
        // Of the first one that is kept, something may have been taken.
        if self.recent.front().is_some_and(|first| first.entries.len() < first.count)
            && let Some(first) = self.recent.pop_front()
        {
            self.recent_bytes -= first.bytes;
        }
    }

    /// A frame that was just checked.
    pub(super) fn push(&mut self, frame: Frame) {
        let held = Held::new(frame);
        self.recent_bytes += held.bytes;
        self.recent.push_back(held);
        while self.recent_bytes > self.memory && self.recent.len() > 1 {
            if let Some(oldest) = self.recent.pop_front() {
                self.recent_bytes -= oldest.bytes;
            }
        }
    }

    /// Whether the frames that are kept go on where the loaded ones end.
    fn joined(&self) -> bool {
        self.recent.front().is_some_and(|first| first.start == self.loaded_end.offset)
    }

    /// The frame that comes next, where it is there.
    pub(super) fn front(&mut self) -> Option<&mut Held> {
        if self.loaded.is_empty() && self.joined() {
            return self.recent.front_mut();
        }
        self.loaded.front_mut()
    }

    /// The frames that are there, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        let recent = if self.joined() { self.recent.len() } else { 0 };
        self.loaded.iter().chain(self.recent.iter().take(recent))
    }

    /// Takes the front away: it is dealt with.
    pub(super) fn pop(&mut self) {
        if let Some(first) = self.loaded.pop_front() {
            self.loaded_bytes -= first.bytes;
        } else if self.joined()
            && let Some(first) = self.recent.pop_front()
        {
            self.recent_bytes -= first.bytes;
            self.loaded_end = first.end;
            self.own = None;
        }
    }

    /// Reads the own journal where frames are missing, as far as `read`.
    pub(super) fn load(&mut self, cx: &mut Context<'_>, read: u64) -> Result<(), Bad> {
        self.parse()?;
        let until = self.recent.front().map_or(read, |first| first.start.min(read));
        if self.loaded_end.offset >= until {
            return Ok(());
        }
        let own = self.own.get_or_insert_with(|| Stream::new(self.group, self.layout, self.loaded_end));
        while let Some((at, len, again)) = own.ask(cx.now, until, CHUNK) {
            if !again && own.in_flight() + own.held() + self.loaded_bytes >= self.memory.min(4 * CHUNK) {
                break;
            }
            let op = DeviceOp::Read { at: self.layout.place(at), len };
            let tag = cx.actions.journal(Owner::Sink, op);
            own.sent(cx.now, at, len, tag);
        }
        Ok(())
    }

    fn parse(&mut self) -> Result<(), Bad> {
        let Some(own) = &mut self.own else { return Ok(()) };
        while let Some(next) = own.next() {
            let what = match next {
                Next::Chunk(..) => continue,
                Next::Frame(frame) if frame.head.offset == self.loaded_end.offset => {
                    let held = Held::new(frame);
                    self.loaded_end = held.end;
                    self.loaded_bytes += held.bytes;
                    self.loaded.push_back(held);
                    self.tries = 0;
                    continue;
                }
                Next::Frame(_) => "a frame does not follow the one before it".to_owned(),
                Next::Bad(error) => error.to_string(),
            };
            own.restart(self.loaded_end);
            self.tries += 1;
            if self.tries > 2 {
                return Err(Bad::Rotten { at: self.loaded_end.offset, what });
            }
            break;
        }
        Ok(())
    }

    /// A read of the own journal has ended. Whether it was one of these.
    pub(super) fn on_device(&mut self, now: Time, tag: u64, end: DeviceEnd) -> Result<bool, Bad> {
        let Some(own) = &mut self.own else { return Ok(false) };
        let (data, error) = match end {
            Ok(data) => (Some(data), None),
            Err(error) => (None, Some(error)),
        };
        match (own.on_read(now, tag, data), error) {
            (Took::NotOurs, _) => Ok(false),
            (Took::Failed { tries, .. }, Some(error))
                if tries > 2 && !matches!(error, BlockError::Busy | BlockError::Aborted) =>
            {
                Err(Bad::Device(error))
            }
            _ => Ok(true),
        }
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.own.as_ref().map_or(Time::NEVER, Stream::next_deadline)
    }
}
