//! Journal volumes: what lies on them, and what is found there after a crash.
//!
//! Everything here is without I/O: bytes and places go in and out, and whoever has the device reads and writes. What a
//! journal is for, and who acknowledges what when, is decided in `kagami-replica`, which is the only caller.
//!
//! - [`Layout`]: where the parts of a journal lie; [`Superblock`]: the durable state of a journal and its group.
//! - [`Writer`]: puts entries in the order of their sequences and makes [`FrameWrite`]s of them, from the pages they are in.
//! - [`Parser`]: frames and entries from consecutive bytes, every checksum verified; for the peer's reads too.
//! - [`Recovery`]: finds the end of a journal after a crash, by a decision table; [`Replay`]: its entries from some place on.
//! - [`Bits`], [`BitmapMap`]: the difference bitmap in memory and on the device.
//! - [`Index`]: the metadata area, a lazily written index of frames by which a time or a sequence is found.
//!
//! The bytes of all of it are in `docs/formats.md`.
#![forbid(unsafe_code)]

mod bitmap;
mod bits;
mod crc;
mod frame;
mod index;
mod layout;
mod parser;
mod recovery;
mod replay;
mod superblock;
#[cfg(test)]
mod testing;
mod writer;

pub use bitmap::{BITS_PER_BLOCK, BitmapBlocks, BitmapMap, FoundBlock};
pub use bits::{Bits, GRANULE};
pub use crc::crc32c;
pub use frame::{
    ENTRY_LEN, EntryHead, EntryKind, FrameHead, FrameKind, HEAD_LEN, MAX_ENTRIES, MAX_FRAME, MAX_HEADER,
};
pub use index::{Index, IndexBlock, IndexRecord, RECORDS_PER_BLOCK};
pub use layout::{BLOCK, Layout, LayoutError, MIN_DATA};
pub use parser::{Expect, Frame, ParseError, Parser};
pub use recovery::{Ending, Proof, Recovered, Recovery, RecoveryPlan, Verdict, Wanted, verdict};
pub use replay::Replay;
pub use superblock::{Features, Found, RECORD_MAX, SUPERBLOCK_PLACES, Superblock};
pub use writer::{FrameWrite, MAX_PARTS, Pushed, Writer};
