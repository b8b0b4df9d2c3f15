//! The file's header and its frames. `docs/formats.md` has the layout in prose.

use crate::codec::{Malformed, Reader, Writer};
use crate::error::TablesError;
use kagami_types::Uuid;
use std::fmt;

/// The number of a committed transaction. The first is 1, the empty tables of a new array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Feature bits of the file (array.md: compatible, read-only-compatible, incompatible).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A version that does not know a bit here may read and write.
    pub compatible: u64,
    /// It may only read.
    pub read_only: u64,
    /// It may not even read.
    pub incompatible: u64,
}

/// Incompatible feature bit 0: there are objects made at run time (record kind 4). A version that
/// does not know them would serve the array without them, and might give their LUNs to others.
pub(crate) const OBJECTS: u64 = 1;
/// The bits that this version knows.
pub(crate) const KNOWN: Features = Features { compatible: 0, read_only: 0, incompatible: OBJECTS };
/// The format that this version writes.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the file's header.
pub(crate) const HEADER: usize = HEADER_LEN as usize;
const HEADER_LEN: u32 = 64;
/// Bytes of a frame's header.
pub(crate) const FRAME: usize = 32;
/// Frames start at multiples of this.
pub(crate) const ALIGN: usize = 8;

const MAGIC: [u8; 8] = *b"KAGTABLE";
const FRAME_MAGIC: [u8; 4] = *b"KTXN";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The whole state; the first frame of a file.
    Checkpoint,
    /// Changes to it.
    Transaction,
}

impl Kind {
    fn code(self) -> u32 {
        match self {
            Self::Checkpoint => 1,
            Self::Transaction => 2,
        }
    }
}

/// The file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub features: Features,
    pub array: Uuid,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.0.extend_from_slice(&MAGIC);
        out.u32(VERSION);
        out.u32(HEADER_LEN);
        out.u64(self.features.compatible);
        out.u64(self.features.read_only);
        out.u64(self.features.incompatible);
        out.uuid(self.array);
        out.u32(0);
        let crc = crc32c::crc32c(&out.0);
        out.u32(crc);
        out.0
    }

    /// Reads the header. Unknown incompatible features are refused here; unknown read-only
    /// ones are the caller's to regard.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, TablesError> {
        let corrupt = |what| TablesError::Corrupt { offset: 0, what };
        if !bytes.starts_with(&MAGIC) {
            return Err(TablesError::NotTables);
        }
        let header = bytes.get(..HEADER).ok_or_else(|| corrupt("the header is cut off"))?;
        let short = |_| corrupt("the header is cut off");
        let mut from = Reader(header);
        let _: [u8; 8] = from.array().map_err(short)?;
        let version = from.u32().map_err(short)?;
        let len = from.u32().map_err(short)?;
        let features = Features {
            compatible: from.u64().map_err(short)?,
            read_only: from.u64().map_err(short)?,
            incompatible: from.u64().map_err(short)?,
        };
        let array = from.uuid().map_err(short)?;
        let _reserved = from.u32().map_err(short)?;
        let crc = from.u32().map_err(short)?;
        if crc != crc32c::crc32c(&header[..HEADER - 4]) {
            return Err(corrupt("the header's checksum is wrong"));
        }
        // Only now is it known that the bytes are what was written.
        if version != VERSION {
            return Err(TablesError::Version { found: version, known: VERSION });
        }
        if len != HEADER_LEN {
            return Err(corrupt("the header's length is wrong"));
        }
        let unknown = features.incompatible & !KNOWN.incompatible;
        if unknown != 0 {
            return Err(TablesError::Incompatible { bits: unknown });
        }
        Ok(Self { features, array })
    }
}

/// A frame whose checksums are right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub kind: Kind,
    pub generation: Generation,
    pub body: &'a [u8],
    /// Bytes of header, body and padding.
    pub len: usize,
}

/// Appends a frame.
pub(crate) fn encode_frame(
    out: &mut Vec<u8>,
    kind: Kind,
    generation: Generation,
    body: &[u8],
) -> Result<(), TablesError> {
    let too_large = || TablesError::TooLarge { size: body.len(), limit: crate::MAX_STATE };
    let len =
        u32::try_from(body.len()).ok().filter(|_| body.len() <= crate::MAX_STATE).ok_or_else(too_large)?;
    let mut header = Writer::default();
    header.0.extend_from_slice(&FRAME_MAGIC);
    header.u32(len);
    header.u64(generation.0);
    header.u32(kind.code());
    header.u32(0);
    header.u32(crc32c::crc32c(body));
    let crc = crc32c::crc32c(&header.0);
    header.u32(crc);
    out.extend_from_slice(&header.0);
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    Ok(())
}

/// Reads the frame at the front of some bytes; an error where there is none that is whole.
pub(crate) fn decode_frame(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let (header, rest) = bytes.split_first_chunk::<FRAME>().ok_or(Malformed)?;
    let mut from = Reader(header);
    if from.array::<4>()? != FRAME_MAGIC {
        return Err(Malformed);
    }
    let len = from.u32()? as usize;
    let generation = Generation(from.u64()?);
    let kind = match from.u32()? {
        1 => Kind::Checkpoint,
        2 => Kind::Transaction,
        _ => return Err(Malformed),
    };
    let _reserved = from.u32()?;
    let body_crc = from.u32()?;
    if from.u32()? != crc32c::crc32c(&header[..FRAME - 4]) || len > crate::MAX_STATE {
        return Err(Malformed);
    }
    let body = rest.get(..len).ok_or(Malformed)?;
    // The padding is part of the frame: a file that ends inside it was cut.
    let padded = len.next_multiple_of(ALIGN);
    if rest.len() < padded || crc32c::crc32c(body) != body_crc {
        return Err(Malformed);
    }
    Ok(Frame { kind, generation, body, len: FRAME + padded })
}
