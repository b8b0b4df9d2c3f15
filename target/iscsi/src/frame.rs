//! Where a PDU begins and ends in a byte stream, and whether its digests are right.
//!
//! [`Framing::read_header`] looks at the front of what has been received and says what PDU is
//! there, once its header is complete: how long the header is, how long the data, how many bytes
//! the data takes on the wire. The caller then takes the data from wherever it has them received
//! to, and checks them with [`Framing::data_digest_ok`] or a [`Crc32c`]. No bytes are moved here.
//!
//! The limits are checked before any of the data segment need be received, so that no peer can
//! make a receiver hold more than `MAX_HEADER_LEN` plus its own MaxRecvDataSegmentLength.
//!
//! Used by the channel controller and the initiators for every PDU that they receive.

use crate::crc::{Crc32c, DIGEST_LEN, crc32c};
use crate::pdu::{BHS_LEN, Bhs};

/// The longest that a header with all that belongs to it can be: BHS, AHS and header digest.
pub const MAX_HEADER_LEN: usize = BHS_LEN + 255 * 4 + DIGEST_LEN;

/// How PDUs are framed on a connection in one direction: what the login agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// HeaderDigest=CRC32C (RFC 7143 13.1).
    pub header_digest: bool,
    /// DataDigest=CRC32C (RFC 7143 13.1).
    pub data_digest: bool,
    /// The receiver's MaxRecvDataSegmentLength in bytes (RFC 7143 13.12).
    pub max_data_len: u32,
}

/// A header at the front of the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The basic header segment.
    pub bhs: &'a Bhs,
    /// The additional header segments, a whole number of words, mostly none.
    pub ahs: &'a [u8],
    /// Bytes of BHS, AHS and header digest: where the data segment begins.
    pub len: usize,
    /// Bytes of data, padding and digest not counted.
    pub data_len: u32,
    /// Bytes that the data segment takes on the wire: data, padding, data digest. 0 without data.
    pub data_wire_len: u32,
}

impl Header<'_> {
    /// Bytes of padding between the data and their digest, 0 to 3 (RFC 7143 11.1).
    #[inline]
    #[must_use]
    pub const fn padding(&self) -> u32 {
        padding(self.data_len)
    }

    /// Bytes of the whole PDU: where the next one begins.
    #[inline]
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        self.len + self.data_wire_len as usize
    }
}

/// A stream of PDUs that cannot be followed any further. At error recovery level 0 the connection
/// is closed (RFC 7143 7.7, 7.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header digest is wrong, so nothing of the header can be believed (RFC 7143 7.7).
    #[error("wrong header digest")]
    HeaderDigest,
    /// The data segment is longer than the receiver said that it takes (RFC 7143 13.12).
    #[error("data segment of {len} bytes, at most {max} are taken")]
    DataTooLong {
        /// DataSegmentLength.
        len: u32,
        /// The receiver's MaxRecvDataSegmentLength.
        max: u32,
    },
}

/// Bytes of padding after `len` bytes, to the next multiple of four (RFC 7143 11.1).
#[inline]
#[must_use]
pub const fn padding(len: u32) -> u32 {
    len.wrapping_neg() & 3
}

impl Framing {
    /// How PDUs are framed in the login phase: no digests, 8192 bytes (RFC 7143 13.1, 13.12).
    pub const LOGIN: Self = Self { header_digest: false, data_digest: false, max_data_len: 8192 };

    /// Looks for a header at the front of `bytes`: `None` where it is not complete yet. No more
    /// than [`MAX_HEADER_LEN`] bytes are ever needed.
    ///
    /// # Errors
    /// A wrong header digest, or more data than the receiver takes.
    #[inline]
    pub fn read_header<'a>(&self, bytes: &'a [u8]) -> Result<Option<Header<'a>>, FrameError> {
        let Some((front, rest)) = bytes.split_first_chunk::<BHS_LEN>() else { return Ok(None) };
        let bhs = Bhs::from_ref(front);
        let Some(ahs) = rest.get(..bhs.ahs_len()) else { return Ok(None) };
        let mut len = BHS_LEN + ahs.len();
        if self.header_digest {
            let digest = rest.get(ahs.len()..).and_then(|after| after.first_chunk::<DIGEST_LEN>());
            let (Some(&digest), Some(digested)) = (digest, bytes.get(..len)) else { return Ok(None) };
            if crc32c(digested) != digest {
                return Err(FrameError::HeaderDigest);
            }
            len += DIGEST_LEN;
        }
        let data_len = bhs.data_segment_len();
        if data_len > self.max_data_len {
            return Err(FrameError::DataTooLong { len: data_len, max: self.max_data_len });
        }
        Ok(Some(Header { bhs, ahs, len, data_len, data_wire_len: self.data_wire_len(data_len) }))
    }

    /// Bytes that `data_len` bytes of data (24 bits at most) take on the wire: with padding and
    /// digest. No data have no digest (RFC 7143 11.2.4).
    #[inline]
    #[must_use]
    pub const fn data_wire_len(&self, data_len: u32) -> u32 {
        if data_len == 0 {
            return 0;
        }
        let digest = if self.data_digest { 4 } else { 0 };
        data_len + padding(data_len) + digest
    }

    /// Bytes that a header with `ahs_len` bytes of AHS takes on the wire.
    #[inline]
    #[must_use]
    pub const fn header_wire_len(&self, ahs_len: usize) -> usize {
        BHS_LEN + ahs_len + if self.header_digest { DIGEST_LEN } else { 0 }
    }

    /// Whether a data segment that lies together has the right digest. `segment` is all
    /// `data_wire_len` bytes: data, padding, digest. Without data digests it always has.
    #[must_use]
    pub fn data_digest_ok(&self, segment: &[u8]) -> bool {
        if !self.data_digest || segment.is_empty() {
            return true;
        }
        segment.split_last_chunk::<DIGEST_LEN>().is_some_and(|(data, &digest)| crc32c(data) == digest)
    }

    /// The digest that follows a header of BHS and AHS, where the connection has header digests.
    #[inline]
    #[must_use]
    pub fn header_digest_of(&self, bhs_and_ahs: &[u8]) -> Option<[u8; DIGEST_LEN]> {
        self.header_digest.then(|| crc32c(bhs_and_ahs))
    }

    /// Appends a whole PDU to `out`: for everything that is not worth sending in pieces. The data
    /// segment length in `bhs` is set from `data`, of which no more than 24 bits can state goes.
    pub fn append(&self, out: &mut Vec<u8>, bhs: &Bhs, data: &[u8]) {
        let stated = u32::try_from(data.len()).unwrap_or(u32::MAX).min(crate::pdu::MAX_DATA_SEGMENT);
        let data = data.get(..stated as usize).unwrap_or(data);
        let mut bhs = *bhs;
        bhs.as_nop_in_mut().data_len = crate::pdu::U24::new(stated);
        out.extend_from_slice(bhs.bytes());
        if let Some(digest) = self.header_digest_of(bhs.bytes()) {
            out.extend_from_slice(&digest);
        }
        if data.is_empty() {
            return;
        }
        let begin = out.len();
        out.extend_from_slice(data);
        out.resize(out.len() + padding(stated) as usize, 0);
        if self.data_digest {
            let mut crc = Crc32c::new();
            crc.update(out.get(begin..).unwrap_or_default());
            out.extend_from_slice(&crc.digest());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::{Opcode, U24};
    use proptest::prelude::*;

    fn framing() -> impl Strategy<Value = Framing> {
        (any::<bool>(), any::<bool>()).prop_map(|(header_digest, data_digest)| Framing {
            header_digest,
            data_digest,
            max_data_len: 300,
        })
    }

    #[test]
    fn a_ping_with_all_digests() {
        let framing = Framing { header_digest: true, data_digest: true, max_data_len: 100 };
        let mut bhs = Bhs::default();
        bhs.as_nop_out_mut().opcode = 0x40;
        let mut wire = Vec::new();
        framing.append(&mut wire, &bhs, b"hello");
        assert_eq!(wire.len(), 48 + 4 + 8 + 4);
        assert_eq!(framing.read_header(&wire[..51]), Ok(None));
        let header = framing.read_header(&wire).unwrap().unwrap();
        assert_eq!((header.bhs.opcode(), header.len, header.data_len), (Some(Opcode::NopOut), 52, 5));
        assert_eq!((header.data_wire_len, header.padding(), header.wire_len()), (12, 3, wire.len()));
        assert!(framing.data_digest_ok(&wire[header.len..]));
        wire[54] ^= 1;
        assert!(!framing.data_digest_ok(&wire[52..]));
        wire[20] ^= 1;
        assert_eq!(framing.read_header(&wire), Err(FrameError::HeaderDigest));
    }

    #[test]
    fn a_long_data_segment_is_refused_before_it_comes() {
        let mut bhs = Bhs::default();
        bhs.as_login_request_mut().data_len = U24::new(8193);
        let refused = Framing::LOGIN.read_header(bhs.bytes());
        assert_eq!(refused, Err(FrameError::DataTooLong { len: 8193, max: 8192 }));
        bhs.as_login_request_mut().data_len = U24::new(8192);
        assert!(Framing::LOGIN.read_header(bhs.bytes()).unwrap().is_some());
    }

    /// All whole PDUs in the stream, as a receiver that gets it in pieces sees them.
    fn receive(framing: Framing, pieces: &[&[u8]]) -> Vec<(Bhs, Vec<u8>, Vec<u8>)> {
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(header) = framing.read_header(&buffer).unwrap() {
                let total = header.wire_len();
                if buffer.len() < total {
                    break;
                }
                assert!(framing.data_digest_ok(&buffer[header.len..total]));
                let data = buffer[header.len..header.len + header.data_len as usize].to_vec();
                found.push((*header.bhs, header.ahs.to_vec(), data));
                buffer.drain(..total);
            }
        }
        assert!(buffer.is_empty());
        found
    }

    proptest! {
        /// Any cut of the byte stream gives the same PDUs.
        #[test]
        fn any_cut_gives_the_same_pdus(
            framing in framing(),
            pdus in proptest::collection::vec(
                (any::<[u8; 48]>(), 0u8..5, proptest::collection::vec(any::<u8>(), 0..300)), 1..6),
            cuts in proptest::collection::vec(any::<u16>(), 0..12),
        ) {
            let (mut wire, mut sent) = (Vec::new(), Vec::new());
            for (bytes, words, data) in pdus {
                let mut bhs = Bhs::from(bytes);
                bhs.as_nop_in_mut().ahs_words = words;
                bhs.as_nop_in_mut().data_len = U24::new(u32::try_from(data.len()).unwrap());
                let ahs = vec![0x5a; usize::from(words) * 4];
                let mut front = bhs.bytes().to_vec();
                front.extend_from_slice(&ahs);
                wire.extend_from_slice(&front);
                wire.extend_from_slice(framing.header_digest_of(&front).as_ref().map_or(&[], |d| &d[..]));
                let mut body = data.clone();
                body.resize(data.len().next_multiple_of(4), 0);
                let digest = crc32c(&body);
                if framing.data_digest && !data.is_empty() {
                    body.extend_from_slice(&digest);
                }
                prop_assert_eq!(body.len(), framing.data_wire_len(u32::try_from(data.len()).unwrap()) as usize);
                wire.extend_from_slice(&body);
                sent.push((bhs, ahs, data));
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|&c| usize::from(c) % (wire.len() + 1)).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &wire[w[0]..w[1]]).collect();
            prop_assert_eq!(receive(framing, &pieces), sent);
        }

        #[test]
        fn any_bytes_end_in_an_answer(framing in framing(), bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            if let Ok(Some(header)) = framing.read_header(&bytes) {
                prop_assert!(header.len <= bytes.len() && header.len <= MAX_HEADER_LEN);
                prop_assert!(header.data_len <= 300);
            }
        }
    }
}
