//! Acquire: from the far journal to the same place of the own one.
//!
//! What arrives is put in order, checked, and written. `read` is the end of the last frame that was checked and is stable here
//! with everything before it. It knows nothing of volumes; whole frames go to [`restore`](super::restore) at once, from the
//! pages they came in.

use super::event::Trouble;
use super::flow::{Bucket, Window};
use super::plan::PATIENCE;
use super::stream::{Next, Stream, Took};
use crate::action::{DeviceEnd, DeviceOp, FarEnd, FarOp, FarUnit};
use crate::context::{Context, Owner};
use kagami_journal::{Frame, Layout};
use kagami_memory::Scatter;
use kagami_types::{BlockError, JournalPos, Sequence, Time, Uuid};
use std::collections::VecDeque;
use std::time::Duration;

/// So often is a place read again that does not parse before the group hears of it.
const TRIES: u32 = 6;
/// After what cannot be used, nothing is asked for that long.
const REST: Duration = Duration::from_millis(5);
/// Reads are never made shorter than that because the far array refuses longer ones.
const SHORTEST: u64 = 64 << 10;
/// A busy device is asked again after that time.
const BUSY: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Write {
    at: u64,
    end: u64,
    /// Kept for another try.
    data: Scatter,
    state: Writing,
}

#[derive(Debug, PartialEq, Eq)]
enum Writing {
    Asked(u64),
    Wait(Time),
    Done,
}

/// The acquiring half of a sink.
#[derive(Debug)]
pub(super) struct Fetch {
    layout: Layout,
    stream: Stream,
    window: Window,
    memory: u64,
    /// Longer reads were refused.
    longest: u64,
    /// Reads since then, and how many there are to be before longer ones are tried again.
    good: (u32, u32),
    /// The end of the last frame that was checked.
    parsed: (JournalPos, Sequence),
    writes: VecDeque<Write>,
    writing: u64,
    /// Everything before it is stable here.
    written: u64,
    /// Ends of frames that were checked and are not stable.
    ends: VecDeque<(JournalPos, Sequence)>,
    read: (JournalPos, Sequence),
    /// Nothing is asked for before all writes are done: places will be written again.
    settling: bool,
    bad: u32,
    /// Since when the far array has refused all reads.
    refused: Option<Time>,
    rest: Time,
    trouble: Option<Trouble>,
    /// Bytes that arrived, ever.
    pub(super) arrived: u64,
}

impl Fetch {
    pub(super) fn new(
        group: Uuid,
        layout: Layout,
        read: JournalPos,
        sequence: Sequence,
        memory: u64,
    ) -> Self {
        Self {
            layout,
            stream: Stream::new(group, layout, read),
            window: Window::new(memory),
            memory,
            longest: u64::MAX,
            good: (0, 256),
            parsed: (read, sequence),
            writes: VecDeque::new(),
            writing: 0,
            written: read.offset,
            ends: VecDeque::new(),
            read: (read, sequence),
            settling: false,
            bad: 0,
            refused: None,
            rest: Time(0),
            trouble: None,
            arrived: 0,
        }
    }

    /// Checked, and stable here.
    pub(super) fn read(&self) -> (JournalPos, Sequence) {
        self.read
    }

    /// Checked.
    pub(super) fn parsed(&self) -> (JournalPos, Sequence) {
        self.parsed
    }

    /// Up to where the far array was asked for bytes.
    pub(super) fn asked(&self) -> u64 {
        self.stream.asked()
    }

    /// Writes to the own journal are under way.
    pub(super) fn is_writing(&self) -> bool {
        self.writes.iter().any(|write| matches!(write.state, Writing::Asked(_)))
    }

    /// Nothing is on its way any more: `read` stays where it is unless more is asked for.
    pub(super) fn is_settled(&self) -> bool {
        let failed = |write: &Write| matches!(write.state, Writing::Done | Writing::Wait(Time::NEVER));
        self.stream.is_idle() && self.writes.iter().all(failed)
    }

    /// The measured bandwidth-delay product, and how much may be in flight.
    pub(super) fn window(&self) -> (u64, u64) {
        (self.window.product(), self.window.bytes())
    }

    pub(super) fn trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// Forgets what is asked for, and what came without being a whole frame. Reading goes on at the end of the last one, once
    /// everything that is being written here is written.
    pub(super) fn restart(&mut self) {
        self.stream.restart(self.parsed.0);
        self.settling = true;
        self.rest = Time(0);
    }

    /// Asks for more, as far as `until`. Whether the limit of the bandwidth holds it back.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>, until: u64, bucket: &mut Bucket) -> bool {
        if cx.now < self.rest {
            return false;
        }
        self.rest = Time(0);
        if self.settling {
            if !self.writes.is_empty() {
                return false;
            }
            self.settling = false;
            self.written = self.parsed.0.offset;
        }
        let chunk = self.window.chunk().min(self.longest);
        while let Some((at, len, again)) = self.stream.ask(cx.now, until, chunk) {
            let bytes = u64::from(len);
            let flying = self.stream.in_flight();
            if !again && flying > 0 && flying + bytes > self.window.bytes() {
                self.window.is_full();
                return false;
            }
            if !again && flying + self.stream.held() + self.writing + bytes > self.memory.max(bytes) {
                return false;
            }
            if !bucket.open(cx.now) && !again {
                return true;
            }
            bucket.take(bytes);
            let op = FarOp::Read { at: self.layout.place(at), len };
            let tag = cx.actions.far(Owner::Sink, FarUnit::Journal, op);
            self.stream.sent(cx.now, at, len, tag);
        }
        false
    }

    /// A far command has ended. It comes back where it is not one of these.
    pub(super) fn on_far(&mut self, now: Time, tag: u64, end: FarEnd) -> Option<FarEnd> {
        let (data, refused) = match end {
            FarEnd::Good(data) => (Some(data), None),
            FarEnd::Refused(what) => (None, Some(what)),
            FarEnd::Unreachable => (None, None),
            FarEnd::Status(runs) => return Some(FarEnd::Status(runs)),
        };
        // A list of handles: cheap beside the read that it is of.
        match self.stream.on_read(now, tag, data.clone()) {
            Took::NotOurs => Some(match (data, refused) {
                (Some(data), _) => FarEnd::Good(data),
                (None, Some(what)) => FarEnd::Refused(what),
                (None, None) => FarEnd::Unreachable,
            }),
            Took::Arrived { since, bytes } => {
                self.window.done(now, since, bytes);
                self.arrived += bytes;
                self.refused = None;
                self.good.0 += 1;
                if self.good.0 >= self.good.1 {
                    self.good.0 = 0;
                    self.longest = self.longest.saturating_mul(2);
                }
                None
            }
            Took::Failed { bytes, .. } => {
                let Some(what) = refused else {
                    self.window.lost();
                    return None;
                };
                let since = *self.refused.get_or_insert(now);
                if now >= since + PATIENCE {
                    self.trouble = Some(Trouble::FarRefused(what));
                } else if bytes > SHORTEST {
                    // It may take no reads of that length.
                    self.longest = (bytes / 2).next_multiple_of(4096).max(SHORTEST);
                    self.good = (0, self.good.1.saturating_mul(2));
                    self.restart();
                    self.rest = now + REST;
                }
                None
            }
        }
    }

    /// A write to the own journal has ended. Whether it was one of these.
    pub(super) fn on_device(&mut self, now: Time, tag: u64, end: &DeviceEnd) -> bool {
        let Some(write) = self.writes.iter_mut().find(|write| write.state == Writing::Asked(tag)) else {
            return false;
        };
        match end {
            Ok(_) => write.state = Writing::Done,
            Err(BlockError::Busy | BlockError::Aborted) => write.state = Writing::Wait(now + BUSY),
            Err(error) => {
                write.state = Writing::Wait(Time::NEVER);
                self.trouble = Some(Trouble::Journal(*error));
            }
        }
        while let Some(write) = self.writes.front()
            && write.state == Writing::Done
        {
            self.written = self.written.max(write.end);
            self.writing -= write.end - write.at;
            self.writes.pop_front();
        }
        while let Some(end) = self.ends.front()
            && end.0.offset <= self.written
        {
            self.read = *end;
            self.ends.pop_front();
        }
        true
    }

    /// Writes what came to the own journal and gives the next checked frame.
    pub(super) fn next(&mut self, cx: &mut Context<'_>) -> Option<Frame> {
        self.write_again(cx);
        loop {
            match self.stream.next()? {
                Next::Chunk(at, data) => self.write(cx, at, data),
                Next::Frame(frame) => {
                    let last = frame.head.last();
                    if frame.head.offset != self.parsed.0.offset || frame.head.first > self.parsed.1.next() {
                        self.is_bad(cx.now, "a frame does not follow the one before it".into());
                        return None;
                    }
                    self.bad = 0;
                    self.parsed = (frame.end(), last.max(self.parsed.1));
                    self.ends.push_back(self.parsed);
                    return Some(frame);
                }
                Next::Bad(error) => {
                    self.is_bad(cx.now, error.to_string());
                    return None;
                }
            }
        }
    }

    fn is_bad(&mut self, now: Time, what: String) {
        self.bad += 1;
        if self.bad >= TRIES {
            self.trouble = Some(Trouble::FarCorrupt { at: self.parsed.0.offset, what });
        }
        self.restart();
        self.rest = now + REST;
    }

    fn write(&mut self, cx: &mut Context<'_>, at: u64, data: Scatter) {
        let end = at + data.len_bytes() as u64;
        let op = DeviceOp::Write { at: self.layout.place(at), data: data.clone(), stable: true };
        let tag = cx.actions.journal(Owner::Sink, op);
        self.writing += end - at;
        self.writes.push_back(Write { at, end, data, state: Writing::Asked(tag) });
    }

    fn write_again(&mut self, cx: &mut Context<'_>) {
        for write in &mut self.writes {
            if matches!(write.state, Writing::Wait(at) if at <= cx.now) {
                let op = DeviceOp::Write {
                    at: self.layout.place(write.at),
                    data: write.data.clone(),
                    stable: true,
                };
                write.state = Writing::Asked(cx.actions.journal(Owner::Sink, op));
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Time {
        let writes = self.writes.iter().filter_map(|write| match write.state {
            Writing::Wait(at) => Some(at),
            _ => None,
        });
        let rest = if self.rest > Time(0) { self.rest } else { Time::NEVER };
        writes.min().unwrap_or(Time::NEVER).min(self.stream.next_deadline()).min(rest)
    }
}
