//! One direction of a long line: bytes come out a while after they went in, and no faster than the line is wide.
//!
//! Pure: times go in as nanoseconds. Called by the relay for each direction of each connection; the width is shared by
//! all connections of a direction, as on a real line.

use std::collections::VecDeque;

/// Buffers that a line keeps for later.
const KEPT: usize = 64;

/// How wide a direction is, and until when it is taken.
#[derive(Debug)]
pub(super) struct Width {
    /// Bytes a second; 0: no limit.
    pub(super) bytes_per_second: u64,
    free_at: u64,
}

impl Width {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, free_at: 0 }
    }

    /// Puts that many bytes on the line; when the last of them has left.
    fn pass(&mut self, len: usize, now: u64) -> u64 {
        self.free_at = self.free_at.max(now);
        let nanos = (len as u128 * 1_000_000_000).checked_div(u128::from(self.bytes_per_second)).unwrap_or(0);
        self.free_at = self.free_at.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at
    }
}

/// What is on its way in one direction of one connection.
#[derive(Debug)]
pub(super) struct Line {
    delay: u64,
    /// Bytes that fit; whoever sends more waits, as behind a router's full queue.
    room: usize,
    chunks: VecDeque<Chunk>,
    queued: usize,
    /// Buffers that came out, to be used again: to make new ones costs as much as to copy into them.
    spare: Vec<Vec<u8>>,
    /// The sender has said all; the other side is told when everything has come out.
    pub(super) ended: bool,
}

#[derive(Debug)]
struct Chunk {
    due: u64,
    bytes: Vec<u8>,
    len: usize,
    out: usize,
}

impl Line {
    pub(super) fn new(delay: u64, room: usize) -> Self {
        Self { delay, room, chunks: VecDeque::new(), queued: 0, spare: Vec::new(), ended: false }
    }

    /// How many bytes may go in now.
    pub(super) fn room(&self) -> usize {
        if self.ended { 0 } else { self.room.saturating_sub(self.queued) }
    }

    /// A buffer of that length for [`push`](Self::push), with anything in it.
    pub(super) fn buffer(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.resize(len, 0);
        bytes
    }

    /// A buffer that is not used after all.
    pub(super) fn keep(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < KEPT {
            self.spare.push(bytes);
        }
    }

    /// The first `len` bytes of a buffer go in.
    pub(super) fn push(&mut self, bytes: Vec<u8>, len: usize, width: &mut Width, now: u64) {
        let len = len.min(bytes.len());
        self.queued += len;
        let due = width.pass(len, now).saturating_add(self.delay);
        self.chunks.push_back(Chunk { due, bytes, len, out: 0 });
    }

    /// The bytes that have arrived and are not taken yet.
    pub(super) fn front(&self, now: u64) -> Option<&[u8]> {
        self.chunks
            .front()
            .filter(|chunk| chunk.due <= now)
            .and_then(|chunk| chunk.bytes.get(chunk.out..chunk.len))
    }

    /// So many of them were taken.
    pub(super) fn took(&mut self, len: usize) {
        let Some(chunk) = self.chunks.front_mut() else { return };
        chunk.out += len;
        self.queued = self.queued.saturating_sub(len);
        if chunk.out >= chunk.len
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.keep(chunk.bytes);
        }
    }

    /// When the next bytes arrive.
    pub(super) fn due(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| chunk.due)
    }

    /// Everything that was said has come out.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_after_the_delay() {
        let (mut line, mut width) = (Line::new(100, 1000), Width::new(0));
        line.push(vec![1, 2, 3, 4], 3, &mut width, 5);
        assert_eq!(line.front(104), None);
        assert_eq!(line.front(105), Some(&[1, 2, 3][..]));
        line.took(2);
        assert_eq!(line.front(105), Some(&[3][..]));
        line.took(1);
        assert_eq!((line.due(), line.room()), (None, 1000));
        assert_eq!(line.buffer(4), [1, 2, 3, 4], "the same again");
    }

    #[test]
    fn a_width_is_shared_and_kept() {
        let mut width = Width::new(1_000_000_000);
        let mut lines = [Line::new(0, 4000), Line::new(0, 4000)];
        for _ in 0..2 {
            for line in &mut lines {
                line.push(vec![0; 1000], 1000, &mut width, 0);
            }
        }
        // A byte a nanosecond: the fourth chunk has left after 4 us.
        assert_eq!(lines[0].due(), Some(1000));
        lines[1].took(1000);
        assert_eq!(lines[1].due(), Some(4000));
    }

    #[test]
    fn a_full_line_takes_no_more_and_an_ended_one_nothing() {
        let (mut line, mut width) = (Line::new(0, 10), Width::new(0));
        line.push(vec![0; 12], 12, &mut width, 0);
        assert_eq!(line.room(), 0);
        line.took(12);
        assert_eq!(line.room(), 10);
        line.ended = true;
        assert!(line.room() == 0 && line.is_over());
    }
}
