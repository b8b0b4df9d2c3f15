//! Finds sequential readers of a volume and says what to read ahead for them.
//!
//! Up to [`STREAMS`] readers at a time, interleaved in any way and among random reads; each may have a queue of
//! [`DEPTH`] reads that arrive in any order. A reader is believed when a few reads followed each other exactly, or when it
//! came a good way and read nearly all of it. From then on its *window* is read ahead, and more each time that half of it
//! has been read: it doubles from [`FIRST`] to a maximum. Reading ahead in vain (pages evicted before they were read)
//! halves the window, and lets it grow slowly from then on.
//!
//! It knows addresses only. Who calls it, the store, leaves out what is cached already, keeps to the volume's end, and
//! does not read ahead when memory is short.

use std::ops::Range;

/// How many readers are followed at a time.
pub const STREAMS: usize = 16;

/// How many reads a reader may have under way: they may arrive in any order.
pub const DEPTH: u64 = 32;

/// The first window in pages: 128 KiB.
pub const FIRST: u32 = 32;

/// So many exact successors make a reader, if all its reads were such.
const EXACT: u32 = 3;

/// A reader that did nothing for so many reads of the volume gives its place to any other.
const IDLE: u64 = 4096;

#[derive(Clone, Copy, Debug)]
struct Stream {
    /// The end of what was read: where it goes on.
    next: u64,
    /// What was read ahead without a gap, to its end; of interest if that is beyond `next`.
    since: u64,
    ahead: u64,
    /// From here on its density is judged, by the pages read since.
    from: u64,
    read: u64,
    /// When it read last, in reads of the volume. Zero: never, the place is free.
    last: u64,
    /// The length of its longest read.
    longest: u32,
    window: u32,
    exact: u32,
    /// Something of it was not in the cache.
    missed: bool,
    believed: bool,
    /// Reading ahead was in vain once.
    careful: bool,
    /// The window was halved since it was last read ahead.
    halved: bool,
}

const NOBODY: Stream = Stream {
    next: 0,
    since: 0,
    ahead: 0,
    from: 0,
    read: 0,
    last: 0,
    longest: 1,
    window: FIRST,
    exact: 0,
    missed: false,
    believed: false,
    careful: false,
    halved: false,
};

/// The sequential readers of a volume; see the module.
#[derive(Clone, Debug)]
pub struct Streams {
    streams: [Stream; STREAMS],
    reads: u64,
    most: u32,
}

impl Streams {
    /// For windows of up to `most` pages. Less than [`FIRST`]: nothing is ever read ahead.
    pub const fn new(most: u32) -> Self {
        Self { streams: [NOBODY; STREAMS], reads: 0, most }
    }

    /// A host reads `pages`; `hit` if all of them are in the cache or on the way there. Returns what to read ahead now:
    /// pages behind these that were not yet asked for.
    pub fn on_read(&mut self, pages: Range<u64>, hit: bool) -> Option<Range<u64>> {
        if pages.is_empty() || self.most < FIRST {
            return None;
        }
        self.reads += 1;
        let (now, most) = (self.reads, self.most);
        let len = pages.end - pages.start;
        let Some(stream) = self.whose(pages.start, len) else {
            *self.least_useful() = Stream {
                next: pages.end,
                from: pages.start,
                read: len,
                last: now,
                longest: u32::try_from(len).unwrap_or(u32::MAX),
                missed: !hit,
                ..NOBODY
            };
            return None;
        };
        stream.last = now;
        stream.on_read(pages, hit, most)
    }

    /// A page that was read ahead was evicted before it was read.
    pub fn on_evicted_unused(&mut self, page: u64) {
        let its = |stream: &&mut Stream| stream.believed && (stream.next..stream.ahead).contains(&page);
        if let Some(stream) = self.streams.iter_mut().find(its) {
            stream.was_in_vain();
        }
    }

    /// The stream that a read belongs to: the nearest of those that it may be a part of.
    fn whose(&mut self, start: u64, len: u64) -> Option<&mut Stream> {
        let near = |stream: &&mut Stream| {
            let slack = DEPTH * len.max(stream.longest.into()).min(256);
            stream.last != 0 && start.abs_diff(stream.next) <= slack
        };
        self.streams.iter_mut().filter(near).min_by_key(|stream| start.abs_diff(stream.next))
    }

    /// A place for a new stream: free, or idle, or not believed, or else the one that read longest ago.
    fn least_useful(&mut self) -> &mut Stream {
        let now = self.reads;
        let [first, rest @ ..] = &mut self.streams;
        let worth = |stream: &Stream| (stream.believed && now - stream.last < IDLE, stream.last);
        rest.iter_mut().fold(first, |least, other| if worth(other) < worth(least) { other } else { least })
    }
}

impl Stream {
    fn on_read(&mut self, pages: Range<u64>, hit: bool, most: u32) -> Option<Range<u64>> {
        let len = pages.end - pages.start;
        self.longest = self.longest.max(u32::try_from(len).unwrap_or(u32::MAX));
        self.exact = if pages.start == self.next { self.exact.saturating_add(1) } else { 0 };
        self.missed |= !hit;
        self.read += len;
        if !hit && pages.start >= self.since && pages.end <= self.ahead {
            // It was read ahead and is not there: evicted, or there was no memory for it.
            self.was_in_vain();
            (self.since, self.ahead) = (self.next, self.next);
        }
        self.next = self.next.max(pages.end);
        self.judge();
        let on_known_ground = hit && pages.start >= self.ahead;
        if !self.believed || !self.missed || on_known_ground {
            return None;
        }
        self.read_ahead(most)
    }

    /// Whether this is a sequential reader.
    fn judge(&mut self) {
        let way = self.next - self.from;
        if self.exact >= EXACT && self.read == way {
            self.believed = true;
        }
        let good_way = 2 * DEPTH * u64::from(self.longest.min(256));
        if way >= good_way || self.read >= 2 * good_way {
            self.believed = way >= good_way && self.read * 4 >= way * 3 && self.read * 2 <= way * 3;
            (self.from, self.read) = (self.next, 0);
        }
    }

    fn read_ahead(&mut self, most: u32) -> Option<Range<u64>> {
        let window = self.window.min(most);
        let left = self.ahead.saturating_sub(self.next);
        if left > u64::from(window / 2) {
            return None;
        }
        if left == 0 {
            self.since = self.next;
        }
        let start = self.next + left;
        let end = self.next.checked_add(u64::from(window))?;
        self.window = if self.careful { window + FIRST } else { window * 2 }.min(most);
        self.ahead = end;
        self.halved = false;
        (start < end).then_some(start..end)
    }

    fn was_in_vain(&mut self) {
        if !self.halved {
            self.window = (self.window / 2).max(FIRST);
            (self.halved, self.careful) = (true, true);
        }
    }
}

#[cfg(test)]
mod tests;
