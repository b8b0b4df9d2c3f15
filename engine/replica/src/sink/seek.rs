//! Looks for a marker among what was read, ahead of restore: nothing has to be restored to know where it lies, or that it is not
//! there.

use super::queue::Bad;
use super::stream::{Next, Stream, Took};
use crate::action::{DeviceEnd, DeviceOp};
use crate::context::{Context, Owner};
use kagami_journal::{EntryKind, Layout};
use kagami_types::{BlockError, JournalPos, Sequence, Time, Uuid};

/// How long reads of the own journal are, and how much of it may be in memory.
const CHUNK: u64 = 1 << 20;
const MOST: u64 = 4 * CHUNK;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    Going,
    /// The marker has that sequence.
    Found(Sequence),
    /// It is not among what was read so far.
    Missing,
}

/// A search of the own journal, in its order.
#[derive(Debug)]
pub(super) struct Seek {
    layout: Layout,
    stream: Stream,
    name: Vec<u8>,
    /// Behind the last frame that was looked at.
    at: JournalPos,
    tries: u32,
}

impl Seek {
    /// From a frame's beginning on.
    pub(super) fn new(group: Uuid, layout: Layout, from: JournalPos, name: Vec<u8>) -> Self {
        Self { layout, stream: Stream::new(group, layout, from), name, at: from, tries: 0 }
    }

    /// Goes on, as far as `read`. What is before `restored` may be overwritten.
    pub(super) fn pump(
        &mut self,
        cx: &mut Context<'_>,
        restored: JournalPos,
        read: u64,
    ) -> Result<Sought, Bad> {
        if self.at.offset < restored.offset {
            self.at = restored;
            self.stream.restart(restored);
        }
        while let Some(next) = self.stream.next() {
            let what = match next {
                Next::Chunk(..) => continue,
                Next::Frame(frame) if frame.head.offset == self.at.offset => {
                    (self.at, self.tries) = (frame.end(), 0);
                    let named = frame
                        .entries
                        .iter()
                        .find(|(head, data)| head.kind == EntryKind::Marker && *data == self.name[..]);
                    if let Some((head, _)) = named {
                        return Ok(Sought::Found(head.sequence));
                    }
                    continue;
                }
                Next::Frame(_) => "a frame does not follow the one before it".to_owned(),
                Next::Bad(error) => error.to_string(),
            };
            self.stream.restart(self.at);
            self.tries += 1;
            if self.tries > 2 {
                return Err(Bad::Rotten { at: self.at.offset, what });
            }
            break;
        }
        if self.at.offset >= read {
            return Ok(Sought::Missing);
        }
        while let Some((at, len, again)) = self.stream.ask(cx.now, read, CHUNK) {
            if !again && self.stream.in_flight() + self.stream.held() >= MOST {
                break;
            }
            let op = DeviceOp::Read { at: self.layout.place(at), len };
            let tag = cx.actions.journal(Owner::Sink, op);
            self.stream.sent(cx.now, at, len, tag);
        }
        Ok(Sought::Going)
    }

    /// A read of the own journal has ended. Whether it was one of these.
    pub(super) fn on_device(&mut self, now: Time, tag: u64, end: &DeviceEnd) -> Result<bool, Bad> {
        match (self.stream.on_read(now, tag, end.as_ref().ok().cloned()), end) {
            (Took::NotOurs, _) => Ok(false),
            (Took::Failed { tries, .. }, Err(error))
                if tries > 2 && !matches!(error, BlockError::Busy | BlockError::Aborted) =>
            {
                Err(Bad::Device(*error))
            }
            _ => Ok(true),
        }
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.stream.next_deadline()
    }
}
