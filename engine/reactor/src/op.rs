//! Operations and what they carry.

use kagami_memory::{Page, PageMut, Scatter, ScatterMut, Slice};

/// What the submitter calls an operation; comes back unread with its completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A socket, listening or connected, of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u32);

/// A block device or file of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(pub u32);

/// An error of the kernel, by its number in `errno.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Input/output error: the device could not do it.
    pub const IO: Self = Self(5);
    /// No such device: it was removed.
    pub const NO_DEVICE: Self = Self(19);
    /// Invalid argument: misaligned, or past what the device can do.
    pub const INVALID: Self = Self(22);
    /// No space left.
    pub const NO_SPACE: Self = Self(28);
    /// A table is full.
    pub const NO_FILES: Self = Self(23);
    /// The data is not there (the kernel's word for an unreadable sector).
    pub const NO_DATA: Self = Self(61);
    /// The device or link went away.
    pub const NO_LINK: Self = Self(67);
    /// Data on the medium fails its check.
    pub const BAD_DATA: Self = Self(84);
    /// Not supported by this device.
    pub const NOT_SUPPORTED: Self = Self(95);
    /// The other end went away.
    pub const CONNECTION_RESET: Self = Self(104);
    /// It took too long.
    pub const TIMED_OUT: Self = Self(110);
    /// Cancelled before it was done.
    pub const CANCELLED: Self = Self(125);
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

/// One operation with the memory that it uses.
#[derive(Debug)]
pub enum Op {
    /// Waits for a connection; the completion's value names it to [`Io::accepted`](crate::Io::accepted).
    Accept(SocketId),
    /// Receives what is there, at least one byte; value: how many bytes, 0 at the end of the stream.
    Receive(SocketId, ReceiveBuffer),
    /// Sends all parts in order; value: how many bytes, which may be fewer (send the rest again).
    Send(SocketId, SendBuffer),
    /// Reads at that byte offset to fill the list; value: how many bytes.
    Read(FileId, u64, ScatterMut),
    /// Writes the list at that byte offset; value: how many bytes.
    Write {
        /// To where.
        file: FileId,
        /// At which byte offset.
        offset: u64,
        /// What.
        data: Scatter,
        /// Complete only once the data is stable (`RWF_DSYNC`).
        stable: bool,
    },
    /// Makes every completed write of the file stable.
    Flush(FileId),
    /// Deallocates a range of bytes, which then reads as zeroes.
    Discard(FileId, u64, u64),
    /// Makes a range of bytes read as zeroes and keeps it allocated.
    Zero(FileId, u64, u64),
}

/// An operation that is done, with its memory.
#[derive(Debug)]
pub struct Completion {
    /// As it was submitted.
    pub token: Token,
    /// What the operation's kind says, or why it failed.
    pub result: Result<u32, Errno>,
    /// The operation itself.
    pub op: Op,
}

/// Where received bytes land: first in `direct` from `filled` on (the data of a large write,
/// received in place), then in the window from `start` on, up to `end`.
#[derive(Debug)]
pub struct ReceiveBuffer {
    /// Pages of a write's data; may be empty.
    pub direct: ScatterMut,
    /// How many bytes of `direct` were there before.
    pub filled: usize,
    /// How many bytes of `direct` are to be filled, counted from its start.
    pub limit: usize,
    /// The connection's receive window.
    pub window: PageMut,
    /// How many bytes of the window were there before.
    pub start: usize,
    /// How far the window may be filled: a small part of it where large data is expected, so
    /// that most of the next PDU's data is received in place as well.
    pub end: usize,
}

impl ReceiveBuffer {
    /// How many of `count` received bytes are in `direct`; the others are in the window.
    #[must_use]
    pub fn direct_part(&self, count: usize) -> usize {
        count.min(self.limit.saturating_sub(self.filled))
    }
}

/// A part of a message.
#[derive(Debug)]
pub enum SendPart {
    /// Bytes of the message's own header page.
    Header {
        /// From here.
        offset: u32,
        /// So many.
        len: u32,
    },
    /// Data from a page that others may also read.
    Data(Slice),
}

impl SendPart {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Header { len, .. } => *len as usize,
            Self::Data(slice) => slice.len() as usize,
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message on its way: headers in a page of its own, data in pages that stay immutable
/// until it has been sent.
#[derive(Debug)]
pub struct SendBuffer {
    /// Where the headers are.
    pub headers: Page,
    /// What to send, in order.
    pub parts: Vec<SendPart>,
    /// Sum of the parts' lengths.
    pub len: usize,
    /// How much of it went out in earlier attempts.
    pub sent: usize,
}

impl SendBuffer {
    /// The bytes that are still to be sent, part by part.
    pub fn remaining(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        self.parts.iter().filter_map(move |part| {
            let bytes: &[u8] = match part {
                SendPart::Header { offset, len } => {
                    self.headers.get(*offset as usize..(*offset + *len) as usize).unwrap_or_default()
                }
                SendPart::Data(slice) => slice.bytes(),
            };
            let from = skip.min(bytes.len());
            skip -= from;
            (from < bytes.len()).then(|| &bytes[from..])
        })
    }
}
