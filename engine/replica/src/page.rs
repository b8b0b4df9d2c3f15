//! What two arrays say to each other: one page of 4 KiB, read from the far side or written to it (decision 0020).
//!
//! The same page both ways: a READ of the far journal's first 4 KiB brings it, a WRITE of the next 4 KiB carries it. Every
//! state in it is durable at the side that says it. Layout in `docs/formats.md`. `group` and `sink` use it.

use crate::action::OrderResult;
use crate::order::{Loser, NAME, Order, RestoreTo};
use crate::record::{Marks, Record};
use crate::wire::{Get, Put, is_place, is_sequence, is_time};
use kagami_journal::BLOCK;
use kagami_types::{JournalPos, Sequence, Uuid};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Where the far side writes its page to.
pub const READER_PAGE_AT: u64 = 4096;
/// Orders, and answers, that a page has room for.
pub const ORDERS: usize = 4;
const MAGIC: [u8; 8] = *b"KAGAMIpg";
const VERSION: u32 = 1;
const CRC_AT: usize = 16;
/// No area that a page names ends behind this: what no device has, and where sums cannot overflow.
const MOST_BYTES: u64 = 1 << 56;
/// Bytes of an answer's words, with their length.
const WORDS: usize = 192;

/// How old a page is, against others of the same side: later ones are greater, also over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial {
    /// The version of the superblock that stands behind it.
    pub version: u64,
    /// A counter since the start.
    pub counter: u64,
}

/// How far a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Of which formation these are the places; zero: of none.
    pub request: u128,
    /// Everything before is durable at the reader.
    pub read: JournalPos,
    /// Everything before is restored, durably.
    pub restored: u64,
    /// Its last sequence.
    pub restored_sequence: Sequence,
    /// That entry's time, nanoseconds since 1970.
    pub restored_time: u64,
    /// Sequences up to here are durable at the reader.
    pub read_sequence: Sequence,
}

/// An order on its way to the side that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOrder {
    /// Its number, random; zero is none.
    pub request: u128,
    /// What.
    pub order: Order,
}

/// What came of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageAnswer {
    /// Which.
    pub request: u128,
    /// What.
    pub result: OrderResult,
}

/// What a side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPage {
    /// When it was made.
    pub serial: Serial,
    /// Whose.
    pub array: Uuid,
    /// Of which group.
    pub group: Uuid,
    /// The durable record. Its text is cut to the page's room.
    pub record: Record,
    /// It recovers: the positions are not to be relied on.
    pub recovering: bool,
    /// A swap's fence is to be given up.
    pub cancel: bool,
    /// Primary: the end of what is stable in its journal, and its epoch. What is read ends here.
    pub stable: JournalPos,
    /// The last sequence before it.
    pub stable_sequence: Sequence,
    /// The epochs before this one, the nearest first, as many as there is room for.
    pub epochs: Vec<u64>,
    /// What is before is freed.
    pub out: u64,
    /// The newest entry's time, nanoseconds since 1970.
    pub newest_time: u64,
    /// The clock, nanoseconds since 1970.
    pub wall: u64,
    /// Bytes of the data area; both sides have the same.
    pub data_len: u64,
    /// Where the difference bitmap may be read.
    pub bitmap_at: u64,
    /// Its bytes.
    pub bitmap_len: u64,
    /// How many volumes the group has.
    pub volumes: u32,
    /// A number over the volumes' sizes: different ones cannot be paired.
    pub shape: u32,
    /// How many granules its difference bitmap has: what it alone may have.
    pub difference: u64,
    /// As a reader.
    pub reading: Reading,
    /// Orders for the other side.
    pub orders: Vec<PageOrder>,
    /// Answers to orders of the other side.
    pub answers: Vec<PageAnswer>,
}

/// Why bytes are not a page for this group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Not a page at all.
    #[error("the other array's journal shows no status page")]
    Magic,
    /// Damaged.
    #[error("the other array's status page has a wrong checksum")]
    Checksum,
    /// Made by a later release.
    #[error("the other array's status page has version {0}, which this release does not know")]
    Version(u32),
    /// A field has a value that it cannot have.
    #[error("the other array's status page has a field that makes no sense")]
    Field,
}

/// Epochs that a page has room for.
pub const EPOCHS: usize = 16;

impl StatusPage {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PAGE] {
        let mut bytes = [0; PAGE];
        self.put(&mut Put::new(&mut bytes));
        let crc = crc32c::crc32c(&bytes);
        if let Some(field) = bytes.get_mut(CRC_AT..CRC_AT + 4) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    fn put(&self, put: &mut Put<'_>) {
        put.bytes(&MAGIC);
        put.u32(VERSION);
        put.u32(0);
        put.u32(0);
        put.u32(0);
        put.u64(self.serial.version);
        put.u64(self.serial.counter);
        put.bytes(self.array.as_bytes());
        put.bytes(self.group.as_bytes());
        self.record.put_marks(put, u8::from(self.recovering) << 1 | u8::from(self.cancel) << 2);
        put.u32(self.volumes);
        self.record.put_story(put);
        put.pos(self.stable);
        put.sequence(self.stable_sequence);
        for at in 0..EPOCHS {
            put.u64(self.epochs.get(at).copied().unwrap_or(0));
        }
        put.u64(self.out);
        put.u64(self.newest_time);
        put.u64(self.wall);
        put.u64(self.data_len);
        put.u64(self.bitmap_at);
        put.u64(self.bitmap_len);
        put.u32(self.shape);
        put.u32(0);
        put.u64(self.difference);
        put.u128(self.reading.request);
        put.pos(self.reading.read);
        put.u64(self.reading.restored);
        put.sequence(self.reading.restored_sequence);
        put.u64(self.reading.restored_time);
        put.sequence(self.reading.read_sequence);
        for at in 0..ORDERS {
            put_order(put, self.orders.get(at));
        }
        for at in 0..ORDERS {
            let answer = self.answers.get(at);
            put.u128(answer.map_or(0, |answer| answer.request));
            put.u64(answer.map_or(0, |answer| u64::from(answer.result.exit_code())));
            put.text(answer.map_or("", |answer| answer.result.text()), WORDS);
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none, damaged, of a later version, or says what no page says.
    pub fn decode(bytes: &[u8]) -> Result<Self, PageError> {
        let bytes: &[u8; PAGE] = bytes.first_chunk().ok_or(PageError::Magic)?;
        let mut get = Get::new(bytes);
        if get.bytes(8) != Some(&MAGIC) {
            return Err(PageError::Magic);
        }
        let version = get.u32().ok_or(PageError::Magic)?;
        if version != VERSION {
            return Err(PageError::Version(version));
        }
        let _ = get.u32();
        let stored = get.u32().ok_or(PageError::Magic)?;
        let _ = get.u32();
        let mut plain = *bytes;
        if let Some(field) = plain.get_mut(CRC_AT..CRC_AT + 4) {
            field.fill(0);
        }
        if crc32c::crc32c(&plain) != stored {
            return Err(PageError::Checksum);
        }
        Self::fields(&mut get).filter(Self::is_sound).ok_or(PageError::Field)
    }

    /// Whether its numbers are such as an array can have. They become places of the own journal and numbers of the own
    /// writes, so nobody behind this has to ask again.
    fn is_sound(&self) -> bool {
        let record = &self.record;
        let places = [
            Some(self.stable),
            Some(self.reading.read),
            record.formation.map(|formation| formation.place),
            record.fence.map(|fence| fence.place),
        ];
        let sequences = [
            Some(self.stable_sequence),
            Some(self.reading.read_sequence),
            Some(self.reading.restored_sequence),
            record.formation.map(|formation| formation.sequence),
            record.fence.map(|fence| fence.sequence),
            record.takeover.map(|takeover| takeover.sequence),
        ];
        let areas = [self.data_len, self.bitmap_at, self.bitmap_len];
        places.into_iter().flatten().all(|place| is_place(place.offset))
            && is_place(self.out)
            && is_place(self.reading.restored)
            && sequences.into_iter().flatten().all(is_sequence)
            && areas.into_iter().all(|bytes| bytes <= MOST_BYTES && bytes.is_multiple_of(BLOCK))
            && [self.newest_time, self.wall, self.reading.restored_time].into_iter().all(is_time)
    }

    fn fields(get: &mut Get<'_>) -> Option<Self> {
        let serial = Serial { version: get.u64()?, counter: get.u64()? };
        let array = Uuid::from_slice(get.bytes(16)?).ok()?;
        let group = Uuid::from_slice(get.bytes(16)?).ok()?;
        let marks = Marks::take(get)?;
        let volumes = get.u32()?;
        let record = Record::take_story(&marks, get)?;
        let stable = get.pos()?;
        let stable_sequence = get.sequence()?;
        let mut epochs = Vec::with_capacity(EPOCHS);
        for _ in 0..EPOCHS {
            epochs.push(get.u64()?);
        }
        epochs.retain(|epoch| *epoch != 0);
        let (out, newest_time, wall) = (get.u64()?, get.u64()?, get.u64()?);
        let (data_len, bitmap_at, bitmap_len) = (get.u64()?, get.u64()?, get.u64()?);
        let shape = get.u32()?;
        let _ = get.u32()?;
        let difference = get.u64()?;
        let reading = Reading {
            request: get.u128()?,
            read: get.pos()?,
            restored: get.u64()?,
            restored_sequence: get.sequence()?,
            restored_time: get.u64()?,
            read_sequence: get.sequence()?,
        };
        let mut orders = Vec::new();
        for _ in 0..ORDERS {
            orders.extend(get_order(get)?);
        }
        let mut answers = Vec::new();
        for _ in 0..ORDERS {
            let request = get.u128()?;
            let code = u8::try_from(get.u64()?).ok()?;
            let text = get.text(WORDS)?;
            if request != 0 {
                answers.push(PageAnswer { request, result: OrderResult::from_code(code, text) });
            }
        }
        Some(Self {
            serial,
            array,
            group,
            record,
            recovering: marks.more & 2 != 0,
            cancel: marks.more & 4 != 0,
            stable,
            stable_sequence,
            epochs,
            out,
            newest_time,
            wall,
            data_len,
            bitmap_at,
            bitmap_len,
            volumes,
            shape,
            difference,
            reading,
            orders,
            answers,
        })
    }
}

/// Number of the request, kind, flags, a number, a name: 16 + 4 + 4 + 8 + 64 bytes.
fn put_order(put: &mut Put<'_>, order: Option<&PageOrder>) {
    let Some(PageOrder { request, order }) = order else {
        return put.bytes(&[0; 32 + NAME]);
    };
    let (kind, flags, number, name) = match order {
        Order::Split { writable } => (1, u32::from(*writable), 0, ""),
        Order::Resync { discard } => (
            2,
            match discard {
                None => 0,
                Some(Loser::Here) => 1,
                Some(Loser::There) => 2,
            },
            0,
            "",
        ),
        Order::Swap { dry_run } => (3, u32::from(*dry_run), 0, ""),
        Order::CancelSwap => (4, 0, 0, ""),
        Order::Takeover { dry_run, force } => (5, u32::from(*dry_run) | u32::from(*force) << 1, 0, ""),
        Order::Delete => (6, 0, 0, ""),
        Order::Marker { name, wait } => (7, u32::from(*wait), 0, name.as_str()),
        Order::Acquire { to } => (8, 0, *to, ""),
        Order::Restore(to) => match to {
            RestoreTo::Read => (9, 0, 0, ""),
            RestoreTo::Place(place) => (9, 1, *place, ""),
            RestoreTo::Time(time) => (9, 2, *time, ""),
            RestoreTo::Marker(name) => (9, 3, 0, name.as_str()),
        },
        Order::Purge { to } => (10, 0, *to, ""),
    };
    put.u128(*request);
    put.u32(kind);
    put.u32(flags);
    put.u64(number);
    put.text(name, NAME);
}

/// `Some(None)` for an empty place, and for an order of a later release, which its sender hears nothing of.
fn get_order(get: &mut Get<'_>) -> Option<Option<PageOrder>> {
    let request = get.u128()?;
    let (kind, flags, number) = (get.u32()?, get.u32()?, get.u64()?);
    let name = get.text(NAME)?;
    let flag = flags & 1 != 0;
    let order = match kind {
        1 => Order::Split { writable: flag },
        2 => Order::Resync {
            discard: match flags {
                0 => None,
                1 => Some(Loser::Here),
                _ => Some(Loser::There),
            },
        },
        3 => Order::Swap { dry_run: flag },
        4 => Order::CancelSwap,
        5 => Order::Takeover { dry_run: flag, force: flags & 2 != 0 },
        6 => Order::Delete,
        7 => Order::Marker { name, wait: flag },
        8 => Order::Acquire { to: number },
        9 => Order::Restore(match flags {
            0 => RestoreTo::Read,
            1 => RestoreTo::Place(number),
            2 => RestoreTo::Time(number),
            _ => RestoreTo::Marker(name),
        }),
        10 => Order::Purge { to: number },
        _ => return Some(None),
    };
    Some((request != 0).then_some(PageOrder { request, order }))
}

#[cfg(test)]
pub(crate) mod tests;
