//! The array's side of a command device: what its WRITEs and READs beyond the ordinary storage do.
//!
//! ```text
//!            WRITE                    CRC holds                complete()
//!   empty ----------> filling ---------------------> accepted ------------> done
//!     ^                  | 10 s: done, MALFORMED                              |
//!     +------------------+---------- zeroed by its writer, reused, expired ---+
//! ```
//!
//! Slots live in the memory of the device's home core: after a crash they are empty, and who had an
//! order there gives the same record again. There are no timers: what is late is noticed by the next
//! READ or WRITE that looks at the slot, so a device that nobody touches costs nothing. Memory is
//! bounded by [`Limits`].
//!
//! This does not decode orders, check rights or execute: whole records leave as [`Given`] and come
//! back through [`Slots::complete`]. The unit of a command device (`kagami-channel`) calls it.

use crate::layout::{HALF, MAX_RECORD, ORDINARY, SLOT};
use crate::request::{self, id_of};
use crate::result::{self, OrderResult, State};
use crate::{Code, RecordError};
use kagami_types::{Time, Uuid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long a record may be incomplete.
pub const INCOMPLETE: Duration = Duration::from_secs(10);
/// How long a result stays after it was first read as a whole.
pub const AFTER_READ: Duration = Duration::from_secs(60);
/// How long a result stays that nobody reads.
pub const UNREAD: Duration = Duration::from_secs(600);

/// Bounds of a command device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of requests and results that are kept.
    pub bytes: usize,
    /// Orders that may wait for their end.
    pub waiting: usize,
}

impl Default for Limits {
    /// 8 MiB, 256 orders.
    fn default() -> Self {
        Self { bytes: 8 << 20, waiting: 256 }
    }
}

/// What a WRITE came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Taken,
    /// The slot is held by another request. Nothing has changed.
    Held,
    /// It is not wholly within a request half: of more than one slot, or where results are. Nothing
    /// has changed.
    Outside,
    /// The device has no memory for it at the moment. Nothing has changed.
    Busy,
}

/// A whole record, to be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// In which slot.
    pub slot: u32,
    /// Which use of the slot: to be given back with the result.
    pub turn: u64,
    /// The initiator's iSCSI name.
    pub from: Arc<str>,
    /// The record, of its stated length.
    pub record: Vec<u8>,
}

/// Something for the array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record is whole: execute it.
    Execute(Given),
    /// A record stayed incomplete; for the audit log.
    Malformed {
        /// In which slot.
        slot: u32,
        /// The initiator's iSCSI name.
        from: Arc<str>,
    },
}

#[derive(Debug)]
struct Slot {
    turn: u64,
    from: Arc<str>,
    /// The request half, as far as it was written; zeroes behind.
    request: Vec<u8>,
    /// The result half, as far as there is one.
    result: Vec<u8>,
    /// Bytes of the result that were read, from its front.
    read: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Filling { until: Time },
    Accepted,
    Done { until: Time, is_read: bool },
}

/// The slots of one command device.
#[derive(Debug)]
pub struct Slots {
    array: Uuid,
    count: u32,
    limits: Limits,
    slots: BTreeMap<u32, Slot>,
    bytes: usize,
    waiting: usize,
    turn: u64,
    events: VecDeque<Event>,
}

impl Slots {
    /// The slots of a device of that many bytes, of the array of that UUID.
    #[must_use]
    pub fn new(array: Uuid, bytes: u64, limits: Limits) -> Self {
        Self {
            array,
            count: crate::layout::slots(bytes),
            limits,
            slots: BTreeMap::new(),
            bytes: 0,
            waiting: 0,
            turn: 0,
            events: VecDeque::new(),
        }
    }

    /// The slot of a byte of the device, and the place in the slot.
    fn place(&self, offset: u64) -> Option<(u32, usize)> {
        let behind = offset.checked_sub(ORDINARY)?;
        let slot = u32::try_from(behind / SLOT).ok().filter(|slot| *slot < self.count)?;
        Some((slot, usize::try_from(behind % SLOT).ok()?))
    }

    /// A WRITE of `bytes` to byte `offset` of the device, which is not in the ordinary storage.
    pub fn on_write(&mut self, offset: u64, bytes: &[u8], from: &Arc<str>, now: Time) -> Written {
        let Some((number, at)) = self.place(offset) else { return Written::Outside };
        let end = at + bytes.len();
        if end > usize::try_from(HALF).unwrap_or(0) || bytes.is_empty() {
            return Written::Outside;
        }
        self.look(number, now);
        if let Some(slot) = self.slots.get(&number) {
            match slot.stage {
                Stage::Filling { .. } => {
                    if !slot.continues(at, bytes, from) {
                        return Written::Held;
                    }
                }
                Stage::Accepted => {
                    return if slot.repeats(at, bytes) { Written::Taken } else { Written::Held };
                }
                Stage::Done { is_read, .. } => {
                    if slot.repeats(at, bytes) {
                        return Written::Taken;
                    }
                    let clears = *slot.from == **from && bytes.iter().all(|byte| *byte == 0);
                    if !is_read && !clears {
                        return Written::Held;
                    }
                    self.remove(number);
                    if clears {
                        return Written::Taken;
                    }
                }
            }
        }
        self.fill(number, at, bytes, from, now)
    }

    /// Puts bytes into a slot that is empty or filling, and looks whether its record is whole.
    fn fill(&mut self, number: u32, at: usize, bytes: &[u8], from: &Arc<str>, now: Time) -> Written {
        // Zeroes into an empty slot change nothing.
        if !self.slots.contains_key(&number) && bytes.iter().all(|byte| *byte == 0) {
            return Written::Taken;
        }
        let have = self.slots.get(&number).map_or(0, |slot| slot.request.len());
        let more = (at + bytes.len()).saturating_sub(have);
        // Room for the result that will follow: a slot never waits for memory once it is whole.
        let more = more + if have == 0 { result::HEADER + 4 } else { 0 };
        if !self.make_room(more, number, now) {
            return Written::Busy;
        }
        if have == 0 {
            self.turn += 1;
        }
        self.bytes += more;
        let (turn, until) = (self.turn, now + INCOMPLETE);
        let slot = self.slots.entry(number).or_insert_with(|| Slot {
            turn,
            from: Arc::clone(from),
            request: Vec::new(),
            result: Vec::new(),
            read: 0,
            stage: Stage::Filling { until },
        });
        let end = at + bytes.len();
        if slot.request.len() < end {
            slot.request.resize(end, 0);
        }
        if let Some(place) = slot.request.get_mut(at..end) {
            place.copy_from_slice(bytes);
        }
        let Ok(record) = request::whole(&slot.request) else { return Written::Taken };
        let record = record.to_vec();
        if self.waiting >= self.limits.waiting {
            self.refuse(number, Code::Busy, "too many orders wait; give it again", now);
            return Written::Taken;
        }
        let id = id_of(&record).unwrap_or_default();
        let accepted = OrderResult::new(id, self.array, State::Accepted, Code::Done, "accepted");
        slot.stage = Stage::Accepted;
        slot.result = accepted.encode(None);
        let given = Given { slot: number, turn: slot.turn, from: Arc::clone(&slot.from), record };
        self.bytes += slot.result.len();
        self.waiting += 1;
        self.events.push_back(Event::Execute(given));
        Written::Taken
    }

    /// A READ of `out.len()` bytes from byte `offset` of the device on; what is of no slot reads as
    /// zeroes, the ordinary storage too, which is the caller's.
    pub fn on_read(&mut self, offset: u64, out: &mut [u8], now: Time) {
        out.fill(0);
        let end = offset.saturating_add(out.len() as u64);
        let mut from = offset.max(ORDINARY);
        while from < end {
            let Some((number, at)) = self.place(from) else { return };
            let base = from - at as u64;
            let until = end.min(base + SLOT);
            self.look(number, now);
            if let Some(slot) = self.slots.get_mut(&number) {
                // Both bounds are within `out`, whose length is a usize.
                let start = usize::try_from(from - offset).unwrap_or(usize::MAX);
                let len = usize::try_from(until - from).unwrap_or(0);
                if let Some(part) = out.get_mut(start..start.saturating_add(len)) {
                    slot.read(at, part, now);
                }
            }
            from = until;
        }
    }

    /// What is to be done next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What came of an order: the bytes of its result, as [`OrderResult::encode`] makes them. Nothing
    /// happens where the slot has gone on to something else.
    pub fn complete(&mut self, slot: u32, turn: u64, result: Vec<u8>, now: Time) {
        let Some(held) = self.slots.get_mut(&slot).filter(|held| held.turn == turn) else { return };
        if held.stage != Stage::Accepted || result.len() > MAX_RECORD {
            return;
        }
        self.waiting = self.waiting.saturating_sub(1);
        held.stage = Stage::Done { until: now + UNREAD, is_read: false };
        held.read = 0;
        let old = std::mem::replace(&mut held.result, result);
        self.bytes = self.bytes.saturating_sub(old.len()) + held.result.len();
    }

    /// How far an order is that takes a while; as [`complete`](Self::complete), but it goes on.
    pub fn progress(&mut self, slot: u32, turn: u64, result: Vec<u8>) {
        let Some(held) = self.slots.get_mut(&slot).filter(|held| held.turn == turn) else { return };
        if held.stage == Stage::Accepted && result.len() <= MAX_RECORD {
            held.read = 0;
            let old = std::mem::replace(&mut held.result, result);
            self.bytes = self.bytes.saturating_sub(old.len()) + held.result.len();
        }
    }

    /// Slots that hold something.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.slots.len()
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Orders that wait for their end.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// What time has made of a slot.
    fn look(&mut self, number: u32, now: Time) {
        let Some(slot) = self.slots.get(&number) else { return };
        match slot.stage {
            Stage::Filling { until } if now >= until => {
                let from = Arc::clone(&slot.from);
                self.refuse(
                    number,
                    Code::Malformed,
                    "the record is incomplete, or its checksum is wrong",
                    now,
                );
                self.events.push_back(Event::Malformed { slot: number, from });
            }
            Stage::Done { until, .. } if now >= until => self.remove(number),
            _ => {}
        }
    }

    /// Ends what is in a slot without executing it.
    fn refuse(&mut self, number: u32, code: Code, message: &str, now: Time) {
        let array = self.array;
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let id = id_of(&slot.request).unwrap_or_default();
        slot.result = OrderResult::new(id, array, State::Done, code, message).encode(None);
        slot.read = 0;
        slot.stage = Stage::Done { until: now + UNREAD, is_read: false };
        self.bytes += slot.result.len();
    }

    fn remove(&mut self, number: u32) {
        if let Some(slot) = self.slots.remove(&number) {
            self.bytes = self.bytes.saturating_sub(slot.size());
        }
    }

    /// Whether so many bytes more can be kept; results that were read, and what is late, make room.
    fn make_room(&mut self, more: usize, for_slot: u32, now: Time) -> bool {
        // Results come later and are of any size up to a half: a reserve for those that wait.
        let full = |slots: &Self| slots.bytes + more + slots.waiting * MAX_RECORD > slots.limits.bytes;
        if !full(self) {
            return true;
        }
        let numbers: Vec<u32> = self.slots.keys().copied().filter(|number| *number != for_slot).collect();
        for number in &numbers {
            self.look(*number, now);
        }
        for number in numbers {
            if !full(self) {
                return true;
            }
            let stage = self.slots.get(&number).map(|slot| slot.stage);
            if matches!(stage, Some(Stage::Done { is_read: true, .. })) {
                self.remove(number);
            }
        }
        !full(self)
    }
}

impl Slot {
    fn size(&self) -> usize {
        self.request.len() + self.result.len() + result::HEADER + 4
    }

    /// Whether a WRITE belongs to the record that is coming: from the same initiator, and not another id.
    fn continues(&self, at: usize, bytes: &[u8], from: &Arc<str>) -> bool {
        if *self.from != **from {
            return false;
        }
        let mut header = [0; 80];
        let known = self.request.len().min(header.len());
        header[..known].copy_from_slice(&self.request[..known]);
        let old = id_of(&header).filter(|id| !id.is_nil());
        if let Some(rest) = header.get_mut(at..) {
            let len = rest.len().min(bytes.len());
            rest[..len].copy_from_slice(&bytes[..len]);
        }
        old.is_none() || id_of(&header) == old
    }

    /// Whether a WRITE says what is there already.
    fn repeats(&self, at: usize, bytes: &[u8]) -> bool {
        let there = self.request.iter().copied().chain(std::iter::repeat(0)).skip(at);
        // Only the record counts, not what a host happens to have behind it.
        let len = request::whole(&self.request).map_or(self.request.len(), <[u8]>::len);
        let len = len.saturating_sub(at).min(bytes.len());
        len > 0 && there.take(len).eq(bytes.iter().copied().take(len))
    }

    fn read(&mut self, at: usize, out: &mut [u8], now: Time) {
        let half = usize::try_from(HALF).unwrap_or(0);
        let mut copy = |bytes: &[u8], base: usize| {
            // Both ranges in bytes of the slot.
            let (from, to) = (at.max(base), (at + out.len()).min(base + bytes.len()));
            if from < to {
                out[from - at..to - at].copy_from_slice(&bytes[from - base..to - base]);
            }
        };
        copy(&self.request, 0);
        copy(&self.result, half);
        let (from, to) = (at.max(half) - half, (at + out.len()).saturating_sub(half));
        if from <= self.read && to > self.read {
            self.read = to;
        }
        if let Stage::Done { is_read: false, .. } = self.stage
            && self.read >= self.result.len()
        {
            self.stage = Stage::Done { until: now + AFTER_READ, is_read: true };
        }
    }
}

/// Whether the bytes in a result half are the whole result of a request; for the host's side.
///
/// # Errors
/// There is none yet, or it was read while it changed.
pub fn result_for(id: Uuid, half: &[u8]) -> Result<Option<OrderResult>, RecordError> {
    let result = OrderResult::decode(half)?;
    Ok((result.id == id).then_some(result))
}
