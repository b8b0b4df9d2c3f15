//! One direction of a connection: bytes that were sent, the part of them that has arrived, and
//! what is going to happen to them.

use super::Tampering;
use crate::rng::Rng;
use std::collections::VecDeque;

/// The most segments in a run of short ones, and the longest in a run of long ones.
const FINE: u64 = 100;
const COARSE: u64 = 16 << 10;

/// What ends a connection, or one direction of it, in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutKind {
    /// Both ends find the connection reset; what was on its way is lost.
    Reset,
    /// This direction ends as if its sender had closed it; the other goes on.
    HalfClose,
    /// Nothing arrives any more, in either direction, and nobody is told.
    Silence,
}

/// How far the end of a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Said by the sender, on its way behind the last byte.
    Sent,
    /// Known to the receiver.
    Arrived,
}

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Sent and not yet read.
    bytes: VecDeque<u8>,
    /// How many of them the receiver can read.
    arrived: usize,
    capacity: usize,
    end: End,
    /// Sent in all.
    total: u64,
    /// Segments until longer ones come, and bytes until short ones come again.
    fine: u64,
    coarse: usize,
    cut: Option<(u64, CutKind)>,
    tampering: Option<Tampering>,
    flip: Option<u64>,
    /// A bit was flipped.
    pub(crate) flipped: bool,
    /// Nothing arrives any more.
    pub(crate) silent: bool,
}

/// What a send did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) taken: usize,
    pub(crate) cut: Option<CutKind>,
    pub(crate) flipped: bool,
}

impl Pipe {
    pub(crate) fn new(capacity: usize, cut: Option<(u64, CutKind)>) -> Self {
        Self {
            bytes: VecDeque::new(),
            arrived: 0,
            capacity,
            end: End::Open,
            total: 0,
            fine: FINE,
            coarse: 0,
            cut,
            tampering: None,
            flip: None,
            flipped: false,
            silent: false,
        }
    }

    /// What goes in is changed from now on, or not.
    pub(crate) fn tamper(&mut self, tampering: Option<Tampering>) {
        self.tampering = tampering;
    }

    /// How long the next segment is. Short ones come in runs: were all of a long stream short, it
    /// would take its time and show nothing new.
    pub(crate) fn grain(&mut self, rng: &mut Rng, longest: u64) -> usize {
        let mut len = if rng.one_in(3) { rng.skewed(1, longest) } else { longest };
        if self.coarse > 0 {
            len = len.max(rng.skewed(COARSE / 8, COARSE));
        } else if self.fine == 0 {
            self.fine = rng.skewed(8, FINE);
            self.coarse = usize::try_from(rng.skewed(4 << 10, 256 << 10)).unwrap_or(0);
        } else {
            self.fine -= 1;
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.coarse = self.coarse.saturating_sub(len);
        len
    }

    /// Flips a bit of the byte that is sent after `bytes` more.
    pub(crate) fn flip_after(&mut self, bytes: u64) {
        self.flip = Some(self.total + bytes);
    }

    /// No cut is to come any more.
    pub(crate) fn calm_down(&mut self) {
        self.cut = None;
        self.flip = None;
    }

    pub(crate) fn room(&self) -> usize {
        if self.end == End::Open { self.capacity.saturating_sub(self.bytes.len()) } else { 0 }
    }

    /// Whether the sender may still send.
    pub(crate) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    pub(crate) fn readable(&self) -> usize {
        self.arrived
    }

    /// Whether the receiver has read everything and knows that no more comes.
    pub(crate) fn is_at_end(&self) -> bool {
        self.arrived == 0 && self.end == End::Arrived
    }

    /// Takes as much of `chunks` as there is room for, at most `most` bytes. A planned cut ends it
    /// early, at its byte.
    pub(crate) fn send<'a>(&mut self, chunks: impl Iterator<Item = &'a [u8]>, most: usize) -> Sent {
        let mut left = self.room().min(most);
        let mut sent = Sent::default();
        if let Some((at, kind)) = self.cut {
            let until = usize::try_from(at.saturating_sub(self.total)).unwrap_or(usize::MAX);
            if until <= left {
                left = until;
                sent.cut = Some(kind);
            }
        }
        for chunk in chunks {
            let take = chunk.len().min(left);
            match &mut self.tampering {
                None => self.bytes.extend(&chunk[..take]),
                Some(tampering) => self.bytes.extend(chunk[..take].iter().map(|byte| tampering.pass(*byte))),
            }
            sent.taken += take;
            left -= take;
            if left == 0 {
                break;
            }
        }
        if left > 0 {
            // The chunks ended before the cut.
            sent.cut = None;
        }
        let start = self.total;
        self.total += sent.taken as u64;
        if let Some(at) = self.flip
            && (start..self.total).contains(&at)
        {
            self.flip = None;
            let from_end = usize::try_from(self.total - at).unwrap_or(usize::MAX);
            if let Some(place) = self.bytes.len().checked_sub(from_end)
                && let Some(byte) = self.bytes.get_mut(place)
            {
                *byte ^= 1 << (at % 8);
                sent.flipped = true;
                self.flipped = true;
            }
        }
        if sent.cut.is_some() {
            self.cut = None;
        }
        sent
    }

    /// A segment has come: its bytes can be read now.
    pub(crate) fn arrive(&mut self, len: usize) {
        if !self.silent {
            self.arrived = (self.arrived + len).min(self.bytes.len());
        }
    }

    /// The sender has nothing more to say.
    pub(crate) fn finish(&mut self) -> bool {
        let first = self.end == End::Open;
        if first {
            self.end = End::Sent;
        }
        first
    }

    /// The end of the stream has come.
    pub(crate) fn end_arrives(&mut self) {
        if !self.silent {
            self.end = End::Arrived;
        }
    }

    /// Reads up to `most` of what has arrived, in at most two runs of bytes.
    pub(crate) fn receive(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        let count = self.arrived.min(most);
        let (front, back) = self.bytes.as_slices();
        let in_front = count.min(front.len());
        each(&front[..in_front]);
        if count > in_front {
            each(&back[..count - in_front]);
        }
        self.bytes.drain(..count);
        self.arrived -= count;
        count
    }

    /// Everything that was on its way or unread is lost.
    pub(crate) fn lose_all(&mut self) {
        self.bytes.clear();
        self.arrived = 0;
        self.end = End::Arrived;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(pipe: &mut Pipe, bytes: &[u8]) -> Sent {
        pipe.send(std::iter::once(bytes), usize::MAX)
    }

    fn read(pipe: &mut Pipe, most: usize) -> Vec<u8> {
        let mut got = Vec::new();
        pipe.receive(most, |bytes| got.extend_from_slice(bytes));
        got
    }

    #[test]
    fn bytes_wait_until_they_arrive_and_stop_at_the_capacity() {
        let mut pipe = Pipe::new(5, None);
        assert_eq!(send(&mut pipe, b"abcdefg").taken, 5);
        assert_eq!((pipe.room(), pipe.readable()), (0, 0));
        pipe.arrive(3);
        assert_eq!(read(&mut pipe, 2), b"ab");
        assert_eq!((pipe.room(), pipe.readable()), (2, 1));
        assert!(pipe.finish() && !pipe.finish());
        pipe.arrive(9);
        pipe.end_arrives();
        assert!(!pipe.is_at_end());
        assert_eq!(read(&mut pipe, 9), b"cde");
        assert!(pipe.is_at_end());
        assert_eq!(send(&mut pipe, b"x").taken, 0);
    }

    #[test]
    fn a_cut_comes_at_its_byte() {
        let mut pipe = Pipe::new(100, Some((4, CutKind::HalfClose)));
        assert_eq!(send(&mut pipe, b"abc"), Sent { taken: 3, cut: None, flipped: false });
        let cut = send(&mut pipe, b"defg");
        assert_eq!((cut.taken, cut.cut), (1, Some(CutKind::HalfClose)));
    }

    #[test]
    fn one_bit_is_flipped() {
        let mut pipe = Pipe::new(100, None);
        send(&mut pipe, &[0; 3]);
        pipe.flip_after(2);
        assert!(send(&mut pipe, &[0; 6]).flipped);
        pipe.arrive(9);
        let got = read(&mut pipe, 9);
        assert_eq!(got.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert_ne!(got[5], 0);
    }
}
