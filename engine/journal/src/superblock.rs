//! The superblock: the durable state of a journal and of the group that it belongs to. Byte layout in `docs/formats.md`.
//!
//! It is written to one place and then to the other, each under a version of its own, and the one with the higher version
//! counts; so a change is one write of 4 KiB that is wholly there or not at all, and what was reported is there twice.

use crate::crc;
use crate::layout::{BLOCK, Layout};
use kagami_types::{Epoch, Sequence, Uuid};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The most bytes of the group's own record.
pub const RECORD_MAX: usize = 2048;
/// The two places, in bytes from the device's start. Version v goes to place v modulo 2.
pub const SUPERBLOCK_PLACES: [u64; 2] = [0, BLOCK];
/// The most epochs before the present one that are kept.
const MAX_PARENTS: usize = 32;

const LEN: usize = 4096;
const MAGIC: [u8; 8] = *b"KAGJRNAL";
const FORMAT: u32 = 1;

/// Feature bits of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Who does not know a bit here may read and write.
    pub compatible: u64,
    /// May only read.
    pub read_only: u64,
    /// May not even read.
    pub incompatible: u64,
}

/// The bits that this version knows: none yet.
const KNOWN: Features = Features { compatible: 0, read_only: 0, incompatible: 0 };

/// The durable state of a journal. Places are offsets of the journal, see [`JournalPos`](kagami_types::JournalPos).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Of this journal volume.
    pub journal: Uuid,
    /// Of the group that it belongs to.
    pub group: Uuid,
    /// Larger in every one that is written; the largest counts.
    pub version: u64,
    /// Where the parts lie.
    pub layout: Layout,
    /// The present life of the journal. Frames may already be of a later one that names this as its parent.
    pub epoch: Epoch,
    /// The lives before it, the latest first; at most 32.
    pub parents: Vec<Epoch>,
    /// The newest sequence that was known as stable.
    pub sequence: Sequence,
    /// Up to here everything was known as stable.
    pub stable: u64,
    /// From here on frames are kept: recovery begins here, at a frame's first byte.
    pub out: u64,
    /// The epoch of the frame before `out`; the frame there is of it, or names it as its parent.
    pub out_epoch: Epoch,
    /// What is before this is in the volumes and flushed.
    pub destaged: u64,
    /// The last sequence before `destaged`.
    pub destaged_sequence: Sequence,
    /// Primary: what is before this is durable at the reader.
    pub confirmed: u64,
    /// Secondary: what is before this is in this journal, durable and checked.
    pub read: u64,
    /// The epoch of the frame before `read`.
    pub read_epoch: Epoch,
    /// The last sequence before `read`.
    pub read_sequence: Sequence,
    /// Secondary: what is before this is in the volumes and flushed.
    pub restored: u64,
    /// The epoch of the frame before `restored`.
    pub restored_epoch: Epoch,
    /// The last sequence before `restored`.
    pub restored_sequence: Sequence,
    /// The time of that entry, in nanoseconds since 1970.
    pub restored_time: u64,
    /// Secondary: entries before this may be in the volumes; after a crash they are applied again up to here.
    pub restore_target: u64,
    /// The number of the next block of the metadata area.
    pub index_next: u64,
    /// What the group keeps here in a format of its own; at most [`RECORD_MAX`] bytes.
    pub record: Vec<u8>,
}

/// What the two places hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Only zeroes: a device that may become a journal.
    Blank,
    /// Something that is not a journal: it must not be touched.
    Foreign,
    /// A journal's superblocks, none of which can be trusted or read.
    Corrupt,
    /// A journal of a later format; its version number, or 0 where a feature bit is what is not known.
    Newer(u32),
    /// The one that counts, and at which of the two places it is.
    Ours(Box<Superblock>, usize),
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    format: U32,
    len: U32,
    compatible: U64,
    read_only: U64,
    incompatible: U64,
    journal: [u8; 16],
    group: [u8; 16],
    version: U64,
    bytes: U64,
    bitmap_at: [U64; 2],
    bitmap_len: U64,
    metadata_at: U64,
    metadata_len: U64,
    data_at: U64,
    data_len: U64,
    epoch: U64,
    out_epoch: U64,
    read_epoch: U64,
    restored_epoch: U64,
    sequence: U64,
    stable: U64,
    out: U64,
    destaged: U64,
    destaged_sequence: U64,
    confirmed: U64,
    read: U64,
    read_sequence: U64,
    restored: U64,
    restored_sequence: U64,
    restored_time: U64,
    restore_target: U64,
    index_next: U64,
    parents: U32,
    record_len: U32,
    parent: [U64; MAX_PARENTS],
    reserved: [u8; 1496],
    record: [u8; RECORD_MAX],
    reserved_too: [u8; 4],
    crc: U32,
}

const _: () = assert!(size_of::<Raw>() == LEN);

/// What one place holds.
enum One {
    Blank,
    Foreign,
    Broken,
    Unreadable,
    Newer(u32),
    Ours(Box<Superblock>),
}

impl Superblock {
    /// The one of a new journal: everything begins at place 0 of that epoch, nothing has happened.
    #[must_use]
    pub fn new(journal: Uuid, group: Uuid, layout: Layout, epoch: Epoch) -> Self {
        Self {
            journal,
            group,
            version: 0,
            layout,
            epoch,
            parents: Vec::new(),
            sequence: Sequence::ZERO,
            stable: 0,
            out: 0,
            out_epoch: epoch,
            destaged: 0,
            destaged_sequence: Sequence::ZERO,
            confirmed: 0,
            read: 0,
            read_epoch: epoch,
            read_sequence: Sequence::ZERO,
            restored: 0,
            restored_epoch: epoch,
            restored_sequence: Sequence::ZERO,
            restored_time: 0,
            restore_target: 0,
            index_next: 0,
            record: Vec::new(),
        }
    }

    /// Begins a new epoch; the present one becomes its parent.
    pub fn begin_epoch(&mut self, epoch: Epoch) {
        self.parents.insert(0, self.epoch);
        self.parents.truncate(MAX_PARENTS);
        self.epoch = epoch;
    }

    /// The place where this version is written, in bytes from the device's start.
    #[must_use]
    pub const fn place(&self) -> u64 {
        if self.version.is_multiple_of(2) { SUPERBLOCK_PLACES[0] } else { SUPERBLOCK_PLACES[1] }
    }

    /// Its bytes. What is beyond the bounds of `parents` and `record` is cut off.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let mut raw = Raw::new_zeroed();
        let record = self.record.get(..RECORD_MAX).unwrap_or(&self.record);
        let layout = &self.layout;
        raw.magic = MAGIC;
        raw.format.set(FORMAT);
        raw.len.set(4096);
        raw.journal = *self.journal.as_bytes();
        raw.group = *self.group.as_bytes();
        raw.version.set(self.version);
        raw.bytes.set(layout.bytes);
        raw.bitmap_at = layout.bitmap_at.map(U64::new);
        raw.bitmap_len.set(layout.bitmap_len);
        raw.metadata_at.set(layout.metadata_at);
        raw.metadata_len.set(layout.metadata_len);
        raw.data_at.set(layout.data_at);
        raw.data_len.set(layout.data_len);
        raw.epoch.set(self.epoch.0);
        raw.out_epoch.set(self.out_epoch.0);
        raw.read_epoch.set(self.read_epoch.0);
        raw.restored_epoch.set(self.restored_epoch.0);
        raw.sequence.set(self.sequence.0);
        raw.stable.set(self.stable);
        raw.out.set(self.out);
        raw.destaged.set(self.destaged);
        raw.destaged_sequence.set(self.destaged_sequence.0);
        raw.confirmed.set(self.confirmed);
        raw.read.set(self.read);
        raw.read_sequence.set(self.read_sequence.0);
        raw.restored.set(self.restored);
        raw.restored_sequence.set(self.restored_sequence.0);
        raw.restored_time.set(self.restored_time);
        raw.restore_target.set(self.restore_target);
        raw.index_next.set(self.index_next);
        let parents = &self.parents[..self.parents.len().min(MAX_PARENTS)];
        raw.parents.set(u32::try_from(parents.len()).unwrap_or(0));
        for (slot, parent) in raw.parent.iter_mut().zip(parents) {
            slot.set(parent.0);
        }
        raw.record_len.set(u32::try_from(record.len()).unwrap_or(0));
        raw.record[..record.len()].copy_from_slice(record);
        raw.crc.set(crc::crc32c(&raw.as_bytes()[..LEN - 4]));
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(raw.as_bytes());
        bytes
    }

    /// What the two places hold, as 4 KiB each; a place that could not be read is given as no bytes.
    ///
    /// A superblock beside one that is torn, or cannot be read, counts: each one that was ever reported is in both places, so
    /// what the other had beyond it was not. Beside one of a later format it does not.
    #[must_use]
    pub fn choose(first: &[u8], second: &[u8]) -> Found {
        match (Self::decode(first), Self::decode(second)) {
            (One::Newer(format), _) | (_, One::Newer(format)) => Found::Newer(format),
            (One::Ours(one), One::Ours(two)) if two.version > one.version => Found::Ours(two, 1),
            (One::Ours(one), _) => Found::Ours(one, 0),
            (_, One::Ours(two)) => Found::Ours(two, 1),
            (One::Broken | One::Unreadable, _) | (_, One::Broken | One::Unreadable) => Found::Corrupt,
            (One::Foreign, _) | (_, One::Foreign) => Found::Foreign,
            (One::Blank, One::Blank) => Found::Blank,
        }
    }

    fn decode(bytes: &[u8]) -> One {
        let Ok((raw, _)) = Raw::ref_from_prefix(bytes) else { return One::Unreadable };
        if raw.magic != MAGIC {
            let (all, own) = raw.as_bytes().split_at(LEN - 4);
            return match (kagami_memory::is_zero(all), kagami_memory::is_zero(own)) {
                (true, true) => One::Blank,
                // Of the first one on a blank device, which has no record, a crash may have left the checksum alone.
                (true, false) => One::Broken,
                (false, _) => One::Foreign,
            };
        }
        if crc::crc32c(&raw.as_bytes()[..LEN - 4]) != raw.crc.get() {
            return One::Broken;
        }
        if raw.format.get() != FORMAT {
            return One::Newer(raw.format.get());
        }
        // A journal is only ever opened to be written.
        if (raw.read_only.get() & !KNOWN.read_only) | (raw.incompatible.get() & !KNOWN.incompatible) != 0 {
            return One::Newer(0);
        }
        let layout = Layout {
            bytes: raw.bytes.get(),
            bitmap_at: raw.bitmap_at.map(U64::get),
            bitmap_len: raw.bitmap_len.get(),
            metadata_at: raw.metadata_at.get(),
            metadata_len: raw.metadata_len.get(),
            data_at: raw.data_at.get(),
            data_len: raw.data_len.get(),
        };
        let places =
            [raw.stable, raw.out, raw.destaged, raw.confirmed, raw.read, raw.restored, raw.restore_target];
        let sequences =
            [raw.sequence, raw.destaged_sequence, raw.read_sequence, raw.restored_sequence, raw.version];
        let sound = places.iter().chain(&sequences).all(|number| number.get() < 1 << 62)
            && raw.out.get().is_multiple_of(BLOCK)
            && raw.read.get().is_multiple_of(BLOCK)
            && raw.restored.get().is_multiple_of(BLOCK);
        let (Ok(parents), Ok(record_len)) =
            (usize::try_from(raw.parents.get()), usize::try_from(raw.record_len.get()))
        else {
            return One::Broken;
        };
        let (Ok(layout), Some(parents), Some(record), true) =
            (layout.checked(), raw.parent.get(..parents), raw.record.get(..record_len), sound)
        else {
            return One::Broken;
        };
        One::Ours(Box::new(Self {
            journal: Uuid::from_bytes(raw.journal),
            group: Uuid::from_bytes(raw.group),
            version: raw.version.get(),
            layout,
            epoch: Epoch(raw.epoch.get()),
            parents: parents.iter().map(|parent| Epoch(parent.get())).collect(),
            sequence: Sequence(raw.sequence.get()),
            stable: raw.stable.get(),
            out: raw.out.get(),
            out_epoch: Epoch(raw.out_epoch.get()),
            destaged: raw.destaged.get(),
            destaged_sequence: Sequence(raw.destaged_sequence.get()),
            confirmed: raw.confirmed.get(),
            read: raw.read.get(),
            read_epoch: Epoch(raw.read_epoch.get()),
            read_sequence: Sequence(raw.read_sequence.get()),
            restored: raw.restored.get(),
            restored_epoch: Epoch(raw.restored_epoch.get()),
            restored_sequence: Sequence(raw.restored_sequence.get()),
            restored_time: raw.restored_time.get(),
            restore_target: raw.restore_target.get(),
            index_next: raw.index_next.get(),
            record: record.to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests;
