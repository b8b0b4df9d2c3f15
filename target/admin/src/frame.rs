//! Frames: a header with magic, version and length, then a body of JSON.
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | `KADM` |
//! | 4 | 2 | version of the framing, 1, little-endian |
//! | 6 | 2 | 0 |
//! | 8 | 4 | length of the body, little-endian |

use std::io::{self, Read, Write};

/// Bytes of the header.
pub const HEADER: usize = 12;
/// The longest body of a request.
pub const MAX_REQUEST: usize = 256 << 10;
/// The longest body of an answer: a configuration of 4 MiB, quoted.
pub const MAX_ANSWER: usize = 16 << 20;

const MAGIC: [u8; 4] = *b"KADM";
const VERSION: u16 = 1;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other end closed before a frame began.
    #[error("the connection was closed")]
    Closed,
    /// The bytes are no frame.
    #[error("what came is not of the admin protocol")]
    NotAFrame,
    /// A framing that this version does not know.
    #[error("the other end speaks version {0} of the admin protocol, this one {VERSION}")]
    Version(u16),
    /// Longer than may be.
    #[error("a message of {len} bytes, and {limit} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The system refused, or it took too long.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The header of a body of that many bytes.
///
/// # Errors
/// The body is longer than any may be.
pub fn header(len: usize) -> Result<[u8; HEADER], FrameError> {
    let too_long = || FrameError::TooLong { len, limit: MAX_ANSWER };
    let len32 = u32::try_from(len).ok().filter(|_| len <= MAX_ANSWER).ok_or_else(too_long)?;
    let [a, b] = VERSION.to_le_bytes();
    let [m0, m1, m2, m3] = MAGIC;
    let [l0, l1, l2, l3] = len32.to_le_bytes();
    Ok([m0, m1, m2, m3, a, b, 0, 0, l0, l1, l2, l3])
}

/// The length of the body that a header announces.
///
/// # Errors
/// It is no header of this version, or announces more than `limit`.
pub fn body_len(header: &[u8; HEADER], limit: usize) -> Result<usize, FrameError> {
    let [m0, m1, m2, m3, v0, v1, r0, r1, l0, l1, l2, l3] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(FrameError::NotAFrame);
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if [r0, r1] != [0, 0] {
        return Err(FrameError::NotAFrame);
    }
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if len > limit { Err(FrameError::TooLong { len, limit }) } else { Ok(len) }
}

/// Reads one frame's body of at most `limit` bytes.
///
/// # Errors
/// See [`FrameError`].
pub fn read_frame(from: &mut impl Read, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut head = [0; HEADER];
    let mut got = 0;
    while let Some(rest) = head.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) if got == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let len = body_len(&head, limit)?;
    // Grown as it comes, so that a length alone takes no memory.
    let mut body = Vec::new();
    from.take(len as u64).read_to_end(&mut body)?;
    if body.len() < len { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(body) }
}

/// Writes one frame.
///
/// # Errors
/// See [`FrameError`].
pub fn write_frame(to: &mut impl Write, body: &[u8]) -> Result<(), FrameError> {
    to.write_all(&header(body.len())?)?;
    to.write_all(body)?;
    Ok(to.flush()?)
}
