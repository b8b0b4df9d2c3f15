//! The request half of a slot.

use crate::bytes::{field, is_whole, put, seal, stated, u16_at, u64_at, uuid_at};
use crate::layout::MAX_RECORD;
use crate::sign::Key;
use crate::{Order, Parameters, RecordError};
use kagami_types::Uuid;

/// What a request begins with.
pub const MAGIC: [u8; 8] = *b"KAGORDER";
/// The version that is written here.
pub const VERSION: u16 = 1;
/// Bytes before the parameters.
pub const HEADER: usize = 256;
/// The generation of orders that look only: any.
pub const ANY_GENERATION: u64 = u64::MAX;
/// Most arrays that a record may pass on its way.
pub const MOST_HOPS: u8 = 8;
/// Bytes of an operator's name.
pub const MAX_OPERATOR: usize = 64;

pub(crate) const REQUEST_ID: usize = 64;
const HOPS: usize = 44;
const ORIGIN: usize = 112;
const OPERATOR: usize = 128;
const HMAC: usize = 192;
const RESERVED: usize = 224;

const EDIT_DATA: u16 = 1;
const SIGNED: u16 = 2;
const KNOWN_FLAGS: u16 = EDIT_DATA | SIGNED;

/// An order as it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which order ([`ORDERS`](crate::ORDERS)): the process number.
    pub order: u16,
    /// Whether edit data are wanted.
    pub edit_data: bool,
    /// The array that it is for; nil: the one whose command device it was written to.
    pub target: Uuid,
    /// Random, made anew for every order and kept when it is given again.
    pub id: Uuid,
    /// Random, chosen once by the host.
    pub host: Uuid,
    /// The generation of the array's tables that a change acts on; [`ANY_GENERATION`] for the others.
    pub generation: u64,
    /// Until when a signature holds: milliseconds since 1970; 0 where there is none.
    pub expires: u64,
    /// Arrays that it has passed.
    pub hops: u8,
    /// The first array that passed it on; nil: none did.
    pub origin: Uuid,
    /// Who signed it; empty: nobody.
    pub operator: String,
    /// What the order needs.
    pub parameters: Parameters,
    /// The signature, where there is one; [`encode_signed`](Self::encode_signed) makes it.
    pub mac: Option<[u8; 32]>,
}

impl Request {
    /// A request without a signature, for the array that it is written to, with any generation.
    #[must_use]
    pub fn new(order: u16, id: Uuid, host: Uuid) -> Self {
        Self {
            order,
            edit_data: true,
            target: Uuid::nil(),
            id,
            host,
            generation: ANY_GENERATION,
            expires: 0,
            hops: 0,
            origin: Uuid::nil(),
            operator: String::new(),
            parameters: Parameters::new(),
            mac: None,
        }
    }

    /// The bytes of the record, at most [`MAX_RECORD`].
    ///
    /// # Errors
    /// The parameters or the operator's name do not fit.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        self.bytes(self.mac)
    }

    /// The same, signed with an operator's key for the array `executes` (its UUID, also where
    /// `target` is nil).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_signed(&self, key: &Key, executes: Uuid) -> Result<Vec<u8>, RecordError> {
        let unsigned = self.bytes(Some([0; 32]))?;
        let mac = key.sign(executes, &covered(&unsigned));
        self.bytes(Some(mac))
    }

    fn bytes(&self, mac: Option<[u8; 32]>) -> Result<Vec<u8>, RecordError> {
        let mut out = vec![0; HEADER];
        self.parameters.encode(&mut out);
        let len = out.len() + 4;
        if len > MAX_RECORD {
            return Err(RecordError::TooLong { len, most: MAX_RECORD });
        }
        if self.operator.len() > MAX_OPERATOR {
            return Err(RecordError::TooLong { len: self.operator.len(), most: MAX_OPERATOR });
        }
        let flags = if self.edit_data { EDIT_DATA } else { 0 } | if mac.is_some() { SIGNED } else { 0 };
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &u16::try_from(HEADER).unwrap_or(0).to_le_bytes());
        put(&mut out, 12, &u32::try_from(len).unwrap_or(0).to_le_bytes());
        put(&mut out, 40, &self.order.to_le_bytes());
        put(&mut out, 42, &flags.to_le_bytes());
        put(&mut out, HOPS, &[self.hops]);
        put(&mut out, 48, self.target.as_bytes());
        put(&mut out, REQUEST_ID, self.id.as_bytes());
        put(&mut out, 80, self.host.as_bytes());
        put(&mut out, 96, &self.generation.to_le_bytes());
        put(&mut out, 104, &self.expires.to_le_bytes());
        put(&mut out, ORIGIN, self.origin.as_bytes());
        put(&mut out, OPERATOR, self.operator.as_bytes());
        put(&mut out, HMAC, &mac.unwrap_or_default());
        seal(&mut out);
        Ok(out)
    }

    /// Reads a record; bytes behind its stated length are not looked at.
    ///
    /// # Errors
    /// Not whole, malformed, or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record = whole(bytes)?;
        let version = u16_at(record, 8);
        let features = u64_at(record, 32);
        // Who does not know a read-only-compatible feature may do what only looks.
        let looks = Order::by_number(u16_at(record, 40)).is_none_or(|order| !order.is_change());
        let features = if looks { features } else { features | u64_at(record, 24) };
        if version != VERSION || features != 0 {
            return Err(RecordError::Unsupported { version, features });
        }
        if usize::from(u16_at(record, 10)) != HEADER {
            return Err(RecordError::Malformed("the length of the header is wrong"));
        }
        let flags = u16_at(record, 42);
        if flags & !KNOWN_FLAGS != 0 {
            return Err(RecordError::Malformed("an unknown flag is set"));
        }
        if field::<3>(record, 45) != [0; 3] || field::<32>(record, RESERVED) != [0; 32] {
            return Err(RecordError::Malformed("a reserved byte is not zero"));
        }
        let (id, host) = (uuid_at(record, REQUEST_ID), uuid_at(record, 80));
        if id.is_nil() || host.is_nil() {
            return Err(RecordError::Malformed("the request id or the host id is zero"));
        }
        let name: [u8; MAX_OPERATOR] = field(record, OPERATOR);
        let len = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let operator = std::str::from_utf8(name.get(..len).unwrap_or_default())
            .ok()
            .filter(|name| !name.contains(char::is_control))
            .ok_or(RecordError::Malformed("the operator's name is no text"))?;
        let is_signed = flags & SIGNED != 0;
        if is_signed == operator.is_empty() {
            return Err(RecordError::Malformed("an operator and a signature go together"));
        }
        let mac: [u8; 32] = field(record, HMAC);
        if !is_signed && mac != [0; 32] {
            return Err(RecordError::Malformed("a reserved byte is not zero"));
        }
        let parameters = record.get(HEADER..record.len() - 4).unwrap_or_default();
        Ok(Self {
            order: u16_at(record, 40),
            edit_data: flags & EDIT_DATA != 0,
            target: uuid_at(record, 48),
            id,
            host,
            generation: u64_at(record, 96),
            expires: u64_at(record, 104),
            hops: record.get(HOPS).copied().unwrap_or_default(),
            origin: uuid_at(record, ORIGIN),
            operator: operator.to_owned(),
            parameters: Parameters::decode(parameters)?,
            mac: is_signed.then_some(mac),
        })
    }

    /// Whether it is signed.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.mac.is_some()
    }
}

/// The record at the front of some bytes, where its magic number, length and CRC are right.
///
/// # Errors
/// [`RecordError::Incomplete`].
pub fn whole(bytes: &[u8]) -> Result<&[u8], RecordError> {
    let len = stated(bytes, MAGIC, HEADER, MAX_RECORD).ok_or(RecordError::Incomplete("no header"))?;
    let record = bytes.get(..len).ok_or(RecordError::Incomplete("it is cut off"))?;
    if is_whole(record) { Ok(record) } else { Err(RecordError::Incomplete("the checksum is wrong")) }
}

/// The request id in the header, where the bytes reach so far. Its place is the same in every version.
#[must_use]
pub fn id_of(bytes: &[u8]) -> Option<Uuid> {
    let id = bytes.get(REQUEST_ID..REQUEST_ID + 16)?;
    Some(Uuid::from_bytes(id.try_into().ok()?))
}

/// What a signature covers: the record without hops, origin and HMAC, which arrays on the way may
/// change, and without the CRC.
#[must_use]
pub fn covered(record: &[u8]) -> Vec<u8> {
    let mut covered = record.to_vec();
    covered.truncate(covered.len().saturating_sub(4));
    put(&mut covered, HOPS, &[0]);
    put(&mut covered, ORIGIN, &[0; 16]);
    put(&mut covered, HMAC, &[0; 32]);
    covered
}

/// Whether the signature in a whole record is the key's, for the array `executes`.
#[must_use]
pub fn verify(record: &[u8], key: &Key, executes: Uuid) -> bool {
    key.verify(executes, &covered(record), &field(record, HMAC))
}

/// The same order one hop on: for the array that passes a whole record to another one. The order,
/// its id and its signature stay what they are.
///
/// # Errors
/// It has passed [`MOST_HOPS`] arrays.
pub fn pass_on(record: &[u8], by: Uuid) -> Result<Vec<u8>, RecordError> {
    let mut out = record.to_vec();
    out.truncate(out.len().saturating_sub(4));
    let hops = out.get(HOPS).copied().unwrap_or(u8::MAX);
    if hops >= MOST_HOPS {
        return Err(RecordError::Malformed("it has passed too many arrays"));
    }
    put(&mut out, HOPS, &[hops + 1]);
    if uuid_at(&out, ORIGIN).is_nil() {
        put(&mut out, ORIGIN, by.as_bytes());
    }
    seal(&mut out);
    Ok(out)
}
