//! The metadata area: an index of frames, written lazily, by which a time or a sequence is found without reading the
//! journal. It is never needed: what it says can be found in the frames.
//!
//! Not every frame is in it: places at least so far apart that the whole data area fits.

use crate::crc;
use crate::layout::{BLOCK, Layout};
use kagami_types::{Epoch, JournalPos, Sequence, Uuid};
use std::collections::VecDeque;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Records in one block.
pub const RECORDS_PER_BLOCK: usize = 126;
/// The most records in memory.
const MOST: u64 = 8192;

const LEN: usize = 4096;
const MAGIC: [u8; 8] = *b"KAGINDEX";

/// A place between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRecord {
    /// The place, and the epoch of the frame before it.
    pub at: JournalPos,
    /// The last sequence before it.
    pub sequence: Sequence,
    /// The time of that entry, in nanoseconds since 1970.
    pub time: u64,
}

/// A block of the area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexBlock {
    /// Its number, which grows for ever; modulo the area's length it is where the block lies.
    pub number: u64,
    /// At most [`RECORDS_PER_BLOCK`].
    pub records: Vec<IndexRecord>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRecord {
    offset: U64,
    epoch: U64,
    sequence: U64,
    time: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    group: [u8; 16],
    number: U64,
    records: U32,
    reserved: [u8; 24],
    crc: U32,
    record: [RawRecord; RECORDS_PER_BLOCK],
}

const _: () = assert!(size_of::<Raw>() == LEN);

impl IndexBlock {
    /// Its bytes. Records beyond the bound are left out.
    #[must_use]
    pub fn encode(&self, group: Uuid) -> [u8; LEN] {
        let mut raw = Raw::new_zeroed();
        raw.magic = MAGIC;
        raw.group = *group.as_bytes();
        raw.number.set(self.number);
        raw.records.set(u32::try_from(self.records.len().min(RECORDS_PER_BLOCK)).unwrap_or(0));
        for (slot, record) in raw.record.iter_mut().zip(&self.records) {
            slot.offset.set(record.at.offset);
            slot.epoch.set(record.at.epoch.0);
            slot.sequence.set(record.sequence.0);
            slot.time.set(record.time);
        }
        raw.crc.set(checksum(&raw));
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(raw.as_bytes());
        bytes
    }

    /// What a block says, where it is one of that group and whole.
    #[must_use]
    pub fn decode(group: Uuid, bytes: &[u8]) -> Option<Self> {
        let (raw, _) = Raw::ref_from_prefix(bytes).ok()?;
        if raw.magic != MAGIC || raw.group != *group.as_bytes() || raw.crc.get() != checksum(raw) {
            return None;
        }
        let records = raw.record.get(..usize::try_from(raw.records.get()).ok()?)?;
        let records = records.iter().map(|record| IndexRecord {
            at: JournalPos { epoch: Epoch(record.epoch.get()), offset: record.offset.get() },
            sequence: Sequence(record.sequence.get()),
            time: record.time.get(),
        });
        Some(Self { number: raw.number.get(), records: records.collect() })
    }
}

fn checksum(raw: &Raw) -> u32 {
    let bytes = raw.as_bytes();
    crc::of_pieces([&bytes[..60], &bytes[64..]])
}

/// The index in memory.
#[derive(Clone, Debug)]
pub struct Index {
    group: Uuid,
    layout: Layout,
    /// How far apart places are at least.
    spacing: u64,
    /// In the order of places.
    records: VecDeque<IndexRecord>,
    /// How many of the last are in no block yet.
    fresh: usize,
    number: u64,
}

impl Index {
    /// An empty one, whose next block has that number.
    #[must_use]
    pub fn new(group: Uuid, layout: Layout, number: u64) -> Self {
        let most = (layout.metadata_len / BLOCK * RECORDS_PER_BLOCK as u64).min(MOST) / 2;
        let spacing = (layout.data_len / most.max(1)).next_multiple_of(BLOCK);
        Self { group, layout, spacing, records: VecDeque::new(), fresh: 0, number }
    }

    /// The same places, of which no block is to be written, and whose next block has that number.
    #[must_use]
    pub fn written(mut self, number: u64) -> Self {
        (self.number, self.fresh) = (number, 0);
        self
    }

    /// Notes a place between two stable frames, if it is far enough from the one before.
    pub fn note(&mut self, record: IndexRecord) {
        let near = self.records.back().is_some_and(|last| record.at.offset < last.at.offset + self.spacing);
        if near || self.records.len() as u64 >= MOST {
            return;
        }
        self.records.push_back(record);
        self.fresh += 1;
    }

    /// Forgets what is before the last place at or before `out`.
    pub fn drop_before(&mut self, out: u64) {
        while self.records.get(1).is_some_and(|second| second.at.offset <= out) {
            self.records.pop_front();
        }
        self.fresh = self.fresh.min(self.records.len());
    }

    /// The last place at or before `offset`.
    #[must_use]
    pub fn floor(&self, offset: u64) -> Option<IndexRecord> {
        self.before(|record| record.at.offset <= offset)
    }

    /// The last place before which no entry is later than `time`.
    #[must_use]
    pub fn by_time(&self, time: u64) -> Option<IndexRecord> {
        self.before(|record| record.time <= time)
    }

    /// The last place before which no entry has a sequence beyond that.
    #[must_use]
    pub fn by_sequence(&self, sequence: Sequence) -> Option<IndexRecord> {
        self.before(|record| record.sequence <= sequence)
    }

    fn before(&self, keep: impl Fn(&IndexRecord) -> bool) -> Option<IndexRecord> {
        let count = self.records.partition_point(keep);
        self.records.get(count.checked_sub(1)?).copied()
    }

    /// How many places it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A block to be written, with its place on the device: when one is full, or something is `forced` out. It need not be
    /// stable.
    pub fn next_block(&mut self, forced: bool) -> Option<(u64, [u8; LEN])> {
        if self.fresh < if forced { 1 } else { RECORDS_PER_BLOCK } {
            return None;
        }
        let from = self.records.len() - self.fresh;
        let records: Vec<_> = self.records.iter().skip(from).take(RECORDS_PER_BLOCK).copied().collect();
        self.fresh -= records.len();
        let block = IndexBlock { number: self.number, records };
        let blocks = (self.layout.metadata_len / BLOCK).max(1);
        let place = self.layout.metadata_at + self.number % blocks * BLOCK;
        self.number += 1;
        Some((place, block.encode(self.group)))
    }

    /// The number of the next block, for the superblock.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Takes up what blocks of the area say about `out..end`, in any order; what is not of one of `epochs` is left out.
    pub fn load(
        &mut self,
        blocks: impl IntoIterator<Item = IndexBlock>,
        (out, end): (u64, u64),
        epochs: &[Epoch],
    ) {
        let mut all: Vec<IndexRecord> = Vec::new();
        for block in blocks {
            self.number = self.number.max(block.number.saturating_add(1));
            all.extend(block.records.iter().filter(|record| {
                (out..=end).contains(&record.at.offset) && epochs.contains(&record.at.epoch)
            }));
        }
        all.sort_unstable_by_key(|record| record.at.offset);
        for record in all {
            self.note(record);
        }
        self.fresh = 0;
    }
}

#[cfg(test)]
mod tests;
