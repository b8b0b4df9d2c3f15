//! The result half of a slot.

use crate::bytes::{field, is_whole, put, seal, stated, u16_at, u32_at, u64_at, uuid_at};
use crate::layout::MAX_RECORD;
use crate::sign::Key;
use crate::{Code, RecordError};
use kagami_types::Uuid;

/// What a result begins with.
pub const MAGIC: [u8; 8] = *b"KAGRESLT";
/// The version that is written here.
pub const VERSION: u16 = 1;
/// Bytes before the message.
pub const HEADER: usize = 160;
/// Bytes of a message.
pub const MAX_MESSAGE: usize = 1024;
/// Bytes of edit data that surely fit beside a message.
pub const MAX_PART: usize = MAX_RECORD - HEADER - MAX_MESSAGE - 4;
/// Bytes of edit data that an order may return in all.
pub const MAX_EDIT_DATA: usize = 4 << 20;

const HMAC: usize = 112;
const EDIT_DATA: u16 = 1;
const SIGNED: u16 = 2;
const REPLAYED: u16 = 4;

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its record is whole; it waits.
    Accepted,
    /// It is being done, or has gone to another array.
    Running,
    /// It has ended; what follows is how.
    Done,
}

impl State {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Accepted => 1,
            Self::Running => 2,
            Self::Done => 3,
        }
    }

    fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Accepted),
            2 => Some(Self::Running),
            3 => Some(Self::Done),
            _ => None,
        }
    }
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderResult {
    /// The order's id.
    pub id: Uuid,
    /// The array that says so.
    pub array: Uuid,
    /// How far it is.
    pub state: State,
    /// How it ended; [`Code::Done`] until then.
    pub code: Code,
    /// It was given before: this is what came of it then.
    pub replayed: bool,
    /// The generation of the array's tables now.
    pub generation: u64,
    /// One line for people, at most [`MAX_MESSAGE`] bytes.
    pub message: String,
    /// Bytes of edit data in all; 0 without.
    pub total: u64,
    /// Where in them `part` begins.
    pub offset: u64,
    /// Edit data, or a part of them.
    pub part: Vec<u8>,
    /// It is signed.
    pub signed: bool,
}

impl OrderResult {
    /// A result without edit data.
    #[must_use]
    pub fn new(id: Uuid, array: Uuid, state: State, code: Code, message: impl Into<String>) -> Self {
        Self {
            id,
            array,
            state,
            code,
            replayed: false,
            generation: 0,
            message: message.into(),
            total: 0,
            offset: 0,
            part: Vec::new(),
            signed: false,
        }
    }

    /// The bytes of the record, at most [`MAX_RECORD`]. Message and part are cut to what fits; with a
    /// key it is signed.
    #[must_use]
    pub fn encode(&self, key: Option<&Key>) -> Vec<u8> {
        let mut message = self.message.as_str();
        if message.len() > MAX_MESSAGE {
            let mut end = MAX_MESSAGE;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message = message.get(..end).unwrap_or_default();
        }
        let part = self.part.get(..self.part.len().min(MAX_PART)).unwrap_or_default();
        let mut out = vec![0; HEADER];
        out.extend_from_slice(message.as_bytes());
        out.extend_from_slice(part);
        let number = |value: usize| u32::try_from(value).unwrap_or(0).to_le_bytes();
        let mut flags = if self.total > 0 { EDIT_DATA } else { 0 };
        flags |= if key.is_some() { SIGNED } else { 0 };
        flags |= if self.replayed { REPLAYED } else { 0 };
        let len = number(out.len() + 4);
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &u16::try_from(HEADER).unwrap_or(0).to_le_bytes());
        put(&mut out, 12, &len);
        put(&mut out, 40, self.id.as_bytes());
        put(&mut out, 56, self.array.as_bytes());
        put(&mut out, 72, &self.state.number().to_le_bytes());
        put(&mut out, 74, &self.code.number().to_le_bytes());
        put(&mut out, 76, &flags.to_le_bytes());
        put(&mut out, 78, &u16::try_from(message.len()).unwrap_or(0).to_le_bytes());
        put(&mut out, 80, &self.generation.to_le_bytes());
        put(&mut out, 88, &self.total.to_le_bytes());
        put(&mut out, 96, &self.offset.to_le_bytes());
        put(&mut out, 104, &number(part.len()));
        if let Some(key) = key {
            let mac = key.sign(self.array, &out);
            put(&mut out, HMAC, &mac);
        }
        seal(&mut out);
        out
    }

    /// Reads a result; bytes behind its stated length are not looked at.
    ///
    /// # Errors
    /// Not whole (there is none yet, or it was read while it changed: read again), malformed, or of
    /// another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record = whole(bytes)?;
        let (version, features) = (u16_at(record, 8), u64_at(record, 32));
        if version != VERSION || features != 0 {
            return Err(RecordError::Unsupported { version, features });
        }
        let message = usize::from(u16_at(record, 78));
        let part = usize::try_from(u32_at(record, 104)).unwrap_or(usize::MAX);
        let header = usize::from(u16_at(record, 10)) == HEADER;
        if !header || part > MAX_RECORD || HEADER + message + part + 4 != record.len() {
            return Err(RecordError::Malformed("the lengths contradict each other"));
        }
        let text = record.get(HEADER..HEADER + message).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| RecordError::Malformed("the message is no text"))?;
        let flags = u16_at(record, 76);
        let unknown = RecordError::Malformed("an unknown state or code");
        let (total, offset) = (u64_at(record, 88), u64_at(record, 96));
        if offset.checked_add(part as u64).is_none_or(|end| end > total) {
            return Err(RecordError::Malformed("the lengths contradict each other"));
        }
        Ok(Self {
            id: uuid_at(record, 40),
            array: uuid_at(record, 56),
            state: State::from_number(u16_at(record, 72)).ok_or(unknown)?,
            code: Code::from_number(u16_at(record, 74)).ok_or(unknown)?,
            replayed: flags & REPLAYED != 0,
            generation: u64_at(record, 80),
            message: text.to_owned(),
            total,
            offset,
            part: record.get(HEADER + message..HEADER + message + part).unwrap_or_default().to_vec(),
            signed: flags & SIGNED != 0,
        })
    }
}

/// The result at the front of some bytes, where its magic number, length and CRC are right.
///
/// # Errors
/// [`RecordError::Incomplete`].
pub fn whole(bytes: &[u8]) -> Result<&[u8], RecordError> {
    let len = stated(bytes, MAGIC, HEADER, MAX_RECORD).ok_or(RecordError::Incomplete("no header"))?;
    let record = bytes.get(..len).ok_or(RecordError::Incomplete("it is cut off"))?;
    if is_whole(record) { Ok(record) } else { Err(RecordError::Incomplete("the checksum is wrong")) }
}

/// Whether a whole result carries the signature of that key, by the array that it names.
#[must_use]
pub fn verify(record: &[u8], key: &Key) -> bool {
    let mut covered = record.to_vec();
    covered.truncate(covered.len().saturating_sub(4));
    put(&mut covered, HMAC, &[0; 32]);
    u16_at(record, 76) & SIGNED != 0 && key.verify(uuid_at(record, 56), &covered, &field(record, HMAC))
}
