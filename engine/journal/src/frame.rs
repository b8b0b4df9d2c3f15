//! Frames: what lies in the data area. Byte layout in `docs/formats.md`.
//!
//! A frame is a header, padded to 4 KiB (the fixed head, then the heads of its entries), then the entries' data, padded to
//! 4 KiB. It never crosses the end of the data area. Only encoding and decoding are here; [`Writer`](crate::Writer) makes
//! frames, [`Parser`](crate::Parser) reads them.

use crate::crc;
use crate::layout::BLOCK;
use kagami_types::{Epoch, Sequence, Uuid};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a frame's fixed head.
pub const HEAD_LEN: usize = 128;
/// Bytes of an entry's head.
pub const ENTRY_LEN: usize = 64;
/// The most entries in a frame.
pub const MAX_ENTRIES: u32 = 4096;
/// The longest header: 260 KiB.
pub const MAX_HEADER: u32 = 260 << 10;
/// The longest frame that a reader accepts: 64 MiB. Writers stop far short of it, but for one large entry.
pub const MAX_FRAME: u32 = 64 << 20;

/// [`BLOCK`], for lengths in frames.
const BLOCK32: u32 = 4096;
const MAGIC: [u8; 4] = *b"KAGF";
/// The version that is written.
const VERSION: u16 = 1;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// It has entries, or says only how much is stable.
    Entries,
    /// The first of an epoch, without entries: names the epoch before.
    Opening,
    /// Fills the data area up to its end; only its header is written.
    Padding,
}

impl FrameKind {
    const fn code(self) -> u16 {
        match self {
            Self::Entries => 1,
            Self::Opening => 2,
            Self::Padding => 3,
        }
    }

    const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Entries),
            2 => Some(Self::Opening),
            3 => Some(Self::Padding),
            _ => None,
        }
    }
}

/// The fixed head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// What it is for.
    pub kind: FrameKind,
    /// Of which group.
    pub group: Uuid,
    /// The life of the journal that it was written in.
    pub epoch: Epoch,
    /// The life before that.
    pub parent: Epoch,
    /// Its place.
    pub offset: u64,
    /// The place of the frame before it; its own where there is none.
    pub previous: u64,
    /// Bytes of all of it, a multiple of 4096.
    pub len: u32,
    /// Bytes of head and entries, a multiple of 4096.
    pub header_len: u32,
    /// The sequence of its first entry; without entries, the one that comes next.
    pub first: Sequence,
    /// How many entries; their sequences follow each other.
    pub entries: u32,
    /// The place up to which everything was known as stable when it was made.
    pub stable: u64,
    /// When it was made, in nanoseconds since 1970.
    pub time: u64,
}

/// What an entry does. The codes are on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Blocks are written, the data are as long as they are.
    Write,
    /// One block of data, all over the range (WRITE SAME).
    Same,
    /// Blocks become zeroes.
    Zero {
        /// They may be deallocated (UNMAP).
        unmap: bool,
    },
    /// A name that a host gave to this moment; the data are the name.
    Marker,
    /// The last entry before a swap; the data are the request.
    Swap,
    /// The volume now has `blocks` blocks.
    Resize,
    /// A sequence that was not used.
    Nothing,
}

impl EntryKind {
    const fn code(self) -> (u8, u8) {
        match self {
            Self::Write => (1, 0),
            Self::Same => (2, 0),
            Self::Zero { unmap } => (3, unmap as u8),
            Self::Marker => (4, 0),
            Self::Swap => (5, 0),
            Self::Resize => (6, 0),
            Self::Nothing => (7, 0),
        }
    }

    const fn from_code(code: u8, flags: u8) -> Option<Self> {
        match (code, flags) {
            (1, 0) => Some(Self::Write),
            (2, 0) => Some(Self::Same),
            (3, 0) => Some(Self::Zero { unmap: false }),
            (3, 1) => Some(Self::Zero { unmap: true }),
            (4, 0) => Some(Self::Marker),
            (5, 0) => Some(Self::Swap),
            (6, 0) => Some(Self::Resize),
            (7, 0) => Some(Self::Nothing),
            _ => None,
        }
    }

    /// Whether it changes blocks of its volume.
    #[must_use]
    pub const fn changes(self) -> bool {
        matches!(self, Self::Write | Self::Same | Self::Zero { .. })
    }
}

/// The head of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHead {
    /// Its place in the order of the group.
    pub sequence: Sequence,
    /// When it came, in nanoseconds since 1970; within a journal it never goes back.
    pub time: u64,
    /// The volume's number in the group. Without meaning for markers and swaps.
    pub volume: u8,
    /// log2 of the volume's block size: 9 or 12. 0 for what has no blocks.
    pub shift: u8,
    /// What it does.
    pub kind: EntryKind,
    /// The first block.
    pub lba: u64,
    /// How many blocks; for a resize, how many the volume now has.
    pub blocks: u64,
    /// Bytes of data.
    pub data_len: u32,
    /// Where they begin, in bytes from the frame's start. The writer fills it in.
    pub data_at: u32,
    /// Their CRC32C. The writer fills it in.
    pub data_crc: u32,
}

impl EntryHead {
    /// An entry without blocks.
    #[must_use]
    pub const fn plain(sequence: Sequence, time: u64, kind: EntryKind, data_len: u32) -> Self {
        Self {
            sequence,
            time,
            volume: 0,
            shift: 0,
            kind,
            lba: 0,
            blocks: 0,
            data_len,
            data_at: 0,
            data_crc: 0,
        }
    }

    /// The bytes of the volume that it changes: the first, and the one behind the last.
    #[must_use]
    pub const fn bytes(&self) -> (u64, u64) {
        if !self.kind.changes() {
            return (0, 0);
        }
        (self.lba << self.shift, (self.lba + self.blocks) << self.shift)
    }

    /// Whether its numbers fit together. `bytes` cannot overflow where they do.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let data = u64::from(self.data_len);
        let range = matches!(self.shift, 9 | 12)
            && self.blocks > 0
            && self.lba.checked_add(self.blocks).is_some_and(|end| end <= 1 << (62 - u32::from(self.shift)));
        // Behind the year 2262 the group's clock, which never goes back, would be of no use to anybody.
        if self.time >= 1 << 63 {
            return false;
        }
        match self.kind {
            EntryKind::Write => range && self.blocks << self.shift == data,
            EntryKind::Same => range && 1 << self.shift == data,
            EntryKind::Zero { .. } => range && data == 0,
            EntryKind::Marker | EntryKind::Swap => data <= BLOCK,
            EntryKind::Resize | EntryKind::Nothing => data == 0,
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHead {
    magic: [u8; 4],
    version: U16,
    kind: U16,
    group: [u8; 16],
    epoch: U64,
    parent: U64,
    offset: U64,
    previous: U64,
    len: U32,
    header_len: U32,
    first: U64,
    entries: U32,
    entries_crc: U32,
    stable: U64,
    time: U64,
    incompatible: U32,
    reserved: [u8; 24],
    crc: U32,
}

const _: () = assert!(size_of::<RawHead>() == HEAD_LEN);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    sequence: U64,
    time: U64,
    lba: U64,
    blocks: U64,
    data_at: U32,
    data_len: U32,
    data_crc: U32,
    kind: u8,
    flags: u8,
    volume: u8,
    shift: u8,
    reserved: [u8; 16],
}

const _: () = assert!(size_of::<RawEntry>() == ENTRY_LEN);

/// Bytes of the header of a frame with that many entries.
pub(crate) const fn header_len(entries: u32) -> u32 {
    (128 + entries * 64).next_multiple_of(BLOCK32)
}

const _: () = assert!(header_len(MAX_ENTRIES) == MAX_HEADER && HEAD_LEN == 128 && ENTRY_LEN == 64);

/// What a block that should be the first of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadFound {
    /// A head with the right checksum, and the checksum of its entries.
    Head(FrameHead, u32),
    /// No head, or a broken one.
    Nothing,
    /// A head with the right checksum that this version cannot read.
    Newer,
}

impl FrameHead {
    /// The place behind it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.len as u64
    }

    /// The sequence of its last entry; without entries, the one before its `first`.
    #[must_use]
    pub const fn last(&self) -> Sequence {
        Sequence((self.first.0 + self.entries as u64).saturating_sub(1))
    }

    pub(crate) fn encode(&self, entries_crc: u32) -> [u8; HEAD_LEN] {
        let raw = RawHead {
            magic: MAGIC,
            version: U16::new(VERSION),
            kind: U16::new(self.kind.code()),
            group: *self.group.as_bytes(),
            epoch: U64::new(self.epoch.0),
            parent: U64::new(self.parent.0),
            offset: U64::new(self.offset),
            previous: U64::new(self.previous),
            len: U32::new(self.len),
            header_len: U32::new(self.header_len),
            first: U64::new(self.first.0),
            entries: U32::new(self.entries),
            entries_crc: U32::new(entries_crc),
            stable: U64::new(self.stable),
            time: U64::new(self.time),
            incompatible: U32::new(0),
            reserved: [0; 24],
            crc: U32::new(0),
        };
        let mut bytes = [0; HEAD_LEN];
        bytes.copy_from_slice(raw.as_bytes());
        let crc = crc::crc32c(&bytes[..HEAD_LEN - 4]);
        bytes[HEAD_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> HeadFound {
        let Ok((raw, _)) = RawHead::read_from_prefix(bytes) else { return HeadFound::Nothing };
        if raw.magic != MAGIC || crc::crc32c(&raw.as_bytes()[..HEAD_LEN - 4]) != raw.crc.get() {
            return HeadFound::Nothing;
        }
        if raw.version.get() != VERSION || raw.incompatible.get() != 0 {
            return HeadFound::Newer;
        }
        let Some(kind) = FrameKind::from_code(raw.kind.get()) else { return HeadFound::Newer };
        let head = Self {
            kind,
            group: Uuid::from_bytes(raw.group),
            epoch: Epoch(raw.epoch.get()),
            parent: Epoch(raw.parent.get()),
            offset: raw.offset.get(),
            previous: raw.previous.get(),
            len: raw.len.get(),
            header_len: raw.header_len.get(),
            first: Sequence(raw.first.get()),
            entries: raw.entries.get(),
            stable: raw.stable.get(),
            time: raw.time.get(),
        };
        if head.is_sound() { HeadFound::Head(head, raw.entries_crc.get()) } else { HeadFound::Nothing }
    }

    /// Whether its numbers fit together, so that whoever computes with them cannot overflow.
    fn is_sound(&self) -> bool {
        let block = BLOCK32;
        let len = match self.kind {
            // A padding frame may be as long as the data area; only its header counts.
            FrameKind::Padding => self.header_len == block && self.entries == 0,
            FrameKind::Opening => self.header_len == block && self.len == block && self.entries == 0,
            FrameKind::Entries => self.entries <= MAX_ENTRIES && self.header_len == header_len(self.entries),
        };
        len && self.header_len >= block
            && self.len >= self.header_len
            && self.len <= MAX_FRAME
            && self.len.is_multiple_of(block)
            && self.offset.is_multiple_of(BLOCK)
            && self.offset < 1 << 62
            && self.previous <= self.offset
            && self.first.0 < 1 << 62
    }
}

impl EntryHead {
    #[inline]
    pub(crate) fn encode_into(&self, out: &mut [u8]) {
        let (kind, flags) = self.kind.code();
        let raw = RawEntry {
            sequence: U64::new(self.sequence.0),
            time: U64::new(self.time),
            lba: U64::new(self.lba),
            blocks: U64::new(self.blocks),
            data_at: U32::new(self.data_at),
            data_len: U32::new(self.data_len),
            data_crc: U32::new(self.data_crc),
            kind,
            flags,
            volume: self.volume,
            shift: self.shift,
            reserved: [0; 16],
        };
        // The caller's slices are exactly that long.
        let _ = raw.write_to_prefix(out);
    }

    /// `None` where it is of a kind that this version does not know, or its numbers do not fit together.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (raw, _) = RawEntry::read_from_prefix(bytes).ok()?;
        let head = Self {
            sequence: Sequence(raw.sequence.get()),
            time: raw.time.get(),
            volume: raw.volume,
            shift: raw.shift,
            kind: EntryKind::from_code(raw.kind, raw.flags)?,
            lba: raw.lba.get(),
            blocks: raw.blocks.get(),
            data_len: raw.data_len.get(),
            data_at: raw.data_at.get(),
            data_crc: raw.data_crc.get(),
        };
        head.is_sound().then_some(head)
    }
}
