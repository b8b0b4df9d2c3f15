//! The queue of bytes that a connection has still to send.
//!
//! Headers are copied into one buffer, one after another; data are only named, by task and range,
//! and sent from where the host keeps them. Consecutive headers are one piece, so that a batch of
//! reads is one plain write, and a batch of writes is one vectored write.

use super::Host;
use arrayvec::ArrayVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;

/// Pieces in one vectored write; the kernel takes at most 1024.
const SLICES: usize = 256;

/// Sent headers are cleared away when that many bytes of them have gathered.
const COMPACT: usize = 64 * 1024;

#[derive(Clone, Copy, Debug)]
enum Piece {
    /// That many bytes of the header buffer, after those of the pieces before.
    Heads(usize),
    /// A run of a task's data.
    Data { slot: u16, offset: u32, len: u32 },
}

/// What a connection has to send.
#[derive(Debug, Default)]
pub struct Transmit {
    heads: Vec<u8>,
    sent_heads: usize,
    pieces: VecDeque<Piece>,
}

impl Transmit {
    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Queues header bytes (or padding, or a digest).
    #[inline]
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.heads.extend_from_slice(bytes);
        match self.pieces.back_mut() {
            Some(Piece::Heads(len)) => *len += bytes.len(),
            _ => self.pieces.push_back(Piece::Heads(bytes.len())),
        }
    }

    /// Queues a run of a task's data.
    #[inline]
    pub fn push_data(&mut self, slot: u16, offset: u32, len: u32) {
        self.pieces.push_back(Piece::Data { slot, offset, len });
    }

    /// Sends as much as the socket takes in one write; `sent` hears of every run of data that is out.
    /// Returns how many bytes went.
    pub fn send<H: Host>(
        &mut self,
        stream: &TcpStream,
        host: &H,
        mut sent: impl FnMut(u16),
    ) -> io::Result<usize> {
        let count = {
            let slices = self.gather(host);
            match slices.as_slice() {
                [] => return Ok(0),
                [only] => (&mut &*stream).write(only),
                all => (&mut &*stream).write_vectored(all),
            }
        };
        let count = match count {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        self.advance(count, &mut sent);
        Ok(count)
    }

    fn gather<'a, H: Host>(&'a self, host: &'a H) -> ArrayVec<IoSlice<'a>, SLICES> {
        let mut slices = ArrayVec::new();
        let mut heads = self.heads.get(self.sent_heads..).unwrap_or_default();
        for piece in &self.pieces {
            match *piece {
                Piece::Heads(len) => {
                    let (these, rest) = heads.split_at_checked(len).unwrap_or((heads, &[]));
                    heads = rest;
                    if slices.try_push(IoSlice::new(these)).is_err() {
                        return slices;
                    }
                }
                Piece::Data { slot, mut offset, mut len } => {
                    while len > 0 {
                        let bytes = host.write_data(slot, offset, len);
                        // A host that has no data breaks its contract; do not spin on it.
                        if bytes.is_empty() || slices.try_push(IoSlice::new(bytes)).is_err() {
                            return slices;
                        }
                        let taken = u32::try_from(bytes.len()).unwrap_or(len).min(len);
                        offset += taken;
                        len -= taken;
                    }
                }
            }
        }
        slices
    }

    fn advance(&mut self, mut count: usize, sent: &mut impl FnMut(u16)) {
        while count > 0 {
            let Some(piece) = self.pieces.front_mut() else { break };
            match piece {
                Piece::Heads(len) => {
                    let taken = count.min(*len);
                    self.sent_heads += taken;
                    *len -= taken;
                    count -= taken;
                    if *len > 0 {
                        break;
                    }
                }
                Piece::Data { slot, offset, len } => {
                    let taken = u32::try_from(count).unwrap_or(u32::MAX).min(*len);
                    *offset += taken;
                    *len -= taken;
                    count -= taken as usize;
                    if *len > 0 {
                        break;
                    }
                    sent(*slot);
                }
            }
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.heads.clear();
            self.sent_heads = 0;
        } else if self.sent_heads > COMPACT {
            self.heads.drain(..self.sent_heads);
            self.sent_heads = 0;
        }
    }
}
