//! The parser of what a target sends: a header, then its data segment in as many pieces as arrive.
//!
//! The bytes lie in a buffer that all connections of a thread share, so nothing may stay in it:
//! a header that is cut off is carried over to the next call, data are handed on as they come.

use super::connection::Lost;
use kagami_iscsi::crc::{Crc32c, crc32c};
use kagami_iscsi::pdu::{BHS_LEN, Bhs};

/// A header with its digest: the most that can be left over.
const HEADER_MAX: usize = BHS_LEN + 4;

/// Bytes kept free at the front of the receive buffer for what was left over.
pub const FRONT: usize = 64;

/// What the parser tells its connection.
pub trait Sink {
    /// A part of the data segment of the PDU with that header, `at` bytes from its start.
    fn data(&mut self, bhs: &Bhs, at: u32, bytes: &[u8]) -> Result<(), Lost>;
    /// The PDU is complete.
    fn end(&mut self, bhs: &Bhs) -> Result<(), Lost>;
}

/// A data segment that is under way.
#[derive(Debug)]
struct Segment {
    bhs: Bhs,
    len: u32,
    taken: u32,
    /// Padding and digest: how many bytes, how many of them are here, and the bytes.
    trailer_len: u8,
    trailer_have: u8,
    trailer: [u8; 8],
    crc: Crc32c,
}

/// The state between two calls.
#[derive(Debug)]
pub struct Receive {
    carried: [u8; HEADER_MAX],
    carried_len: usize,
    segment: Option<Segment>,
    header_len: usize,
    data_digest: bool,
    max_segment: u32,
}

impl Receive {
    /// A parser for a connection in full feature phase that takes segments of up to `max_segment` bytes.
    pub fn new(header_digest: bool, data_digest: bool, max_segment: u32) -> Self {
        Self {
            carried: [0; HEADER_MAX],
            carried_len: 0,
            segment: None,
            header_len: if header_digest { HEADER_MAX } else { BHS_LEN },
            data_digest,
            max_segment,
        }
    }

    /// Takes `fresh` bytes that were received at `buffer[FRONT..]`.
    pub fn take(&mut self, buffer: &mut [u8], fresh: usize, sink: &mut impl Sink) -> Result<(), Lost> {
        let start = FRONT - self.carried_len;
        buffer[start..FRONT].copy_from_slice(&self.carried[..self.carried_len]);
        self.carried_len = 0;
        let mut rest = buffer.get(start..FRONT + fresh).unwrap_or_default();
        loop {
            if self.segment.is_some() {
                rest = self.take_segment(rest, sink)?;
                if self.segment.is_some() {
                    return Ok(());
                }
            }
            let Some((header, after)) = rest.split_at_checked(self.header_len) else { break };
            let Some((bytes, digest)) = header.split_first_chunk::<BHS_LEN>() else { break };
            if !digest.is_empty() && crc32c(bytes) != digest {
                return Err(Lost::protocol("the header digest is wrong"));
            }
            rest = after;
            let bhs = Bhs::from_ref(bytes);
            if bhs.ahs_len() != 0 {
                return Err(Lost::protocol("a target's PDU has an additional header segment"));
            }
            let len = bhs.data_segment_len();
            if len == 0 {
                sink.end(bhs)?;
                continue;
            }
            if len > self.max_segment {
                let most = self.max_segment;
                return Err(Lost::Protocol(format!("a data segment of {len} bytes, more than {most}")));
            }
            let padding = (len.wrapping_neg() & 3) as u8;
            if padding == 0 && !self.data_digest && rest.len() >= len as usize {
                // The usual case: the whole PDU is here.
                let (data, after) = rest.split_at(len as usize);
                sink.data(bhs, 0, data)?;
                sink.end(bhs)?;
                rest = after;
                continue;
            }
            self.segment = Some(Segment {
                bhs: *bhs,
                len,
                taken: 0,
                trailer_len: padding + if self.data_digest { 4 } else { 0 },
                trailer_have: 0,
                trailer: [0; 8],
                crc: Crc32c::new(),
            });
        }
        self.carried[..rest.len()].copy_from_slice(rest);
        self.carried_len = rest.len();
        Ok(())
    }

    /// Takes what is here of the segment under way and returns what comes after it.
    fn take_segment<'a>(&mut self, rest: &'a [u8], sink: &mut impl Sink) -> Result<&'a [u8], Lost> {
        let Some(segment) = &mut self.segment else { return Ok(rest) };
        let wanted = (segment.len - segment.taken) as usize;
        let (data, rest) = rest.split_at(wanted.min(rest.len()));
        if !data.is_empty() {
            if self.data_digest {
                segment.crc.update(data);
            }
            sink.data(&segment.bhs, segment.taken, data)?;
            segment.taken += u32::try_from(data.len()).unwrap_or(u32::MAX);
        }
        if segment.taken < segment.len {
            return Ok(rest);
        }
        let have = usize::from(segment.trailer_have);
        let wanted = usize::from(segment.trailer_len) - have;
        let (trailer, rest) = rest.split_at(wanted.min(rest.len()));
        segment.trailer[have..have + trailer.len()].copy_from_slice(trailer);
        segment.trailer_have += u8::try_from(trailer.len()).unwrap_or(0);
        if segment.trailer_have < segment.trailer_len {
            return Ok(rest);
        }
        if self.data_digest {
            let (padding, digest) = segment.trailer.split_at(usize::from(segment.trailer_len) - 4);
            segment.crc.update(padding);
            if !digest.first_chunk().is_some_and(|digest| segment.crc.matches(*digest)) {
                return Err(Lost::protocol("the data digest is wrong"));
            }
        }
        sink.end(&segment.bhs)?;
        self.segment = None;
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default, Debug, PartialEq)]
    struct Seen(Vec<(u8, Vec<u8>)>, Vec<u8>);

    impl Sink for Seen {
        fn data(&mut self, _bhs: &Bhs, at: u32, bytes: &[u8]) -> Result<(), Lost> {
            assert_eq!(at as usize, self.1.len());
            self.1.extend_from_slice(bytes);
            Ok(())
        }
        fn end(&mut self, bhs: &Bhs) -> Result<(), Lost> {
            self.0.push((bhs.bytes()[0], std::mem::take(&mut self.1)));
            Ok(())
        }
    }

    fn pdu(opcode: u8, data: &[u8], header_digest: bool, data_digest: bool) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        bytes[0] = opcode;
        bytes[5..8].copy_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes()[1..]);
        if header_digest {
            let digest = crc32c(&bytes);
            bytes.extend(digest);
        }
        let mut segment = data.to_vec();
        segment.resize(data.len().next_multiple_of(4), 0);
        bytes.extend(&segment);
        if data_digest && !data.is_empty() {
            bytes.extend(crc32c(&segment));
        }
        bytes
    }

    fn feed(stream: &[u8], cuts: &[usize], header: bool, data: bool) -> Result<Seen, Lost> {
        let mut receive = Receive::new(header, data, 4096);
        let mut seen = Seen::default();
        let mut buffer = vec![0; FRONT + stream.len()];
        let (mut from, mut cuts) = (0, cuts.iter().cycle());
        while from < stream.len() {
            let n = (*cuts.next().unwrap()).min(stream.len() - from);
            buffer[FRONT..FRONT + n].copy_from_slice(&stream[from..from + n]);
            receive.take(&mut buffer, n, &mut seen)?;
            from += n;
        }
        Ok(seen)
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_pdus(
            segments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..8),
            cuts in proptest::collection::vec(1usize..120, 1..8),
            header: bool, data: bool,
        ) {
            let stream: Vec<u8> = segments.iter().flat_map(|bytes| pdu(0x25, bytes, header, data)).collect();
            let expected = Seen(segments.into_iter().map(|bytes| (0x25, bytes)).collect(), vec![]);
            prop_assert_eq!(feed(&stream, &[usize::MAX], header, data).unwrap(), expected);
            let cut = feed(&stream, &cuts, header, data).unwrap();
            prop_assert_eq!(cut, feed(&stream, &[1], header, data).unwrap());
        }

        #[test]
        fn arbitrary_bytes_end_in_an_answer(
            bytes in proptest::collection::vec(any::<u8>(), 0..600), header: bool, data: bool,
        ) {
            let _ = feed(&bytes, &[7, 100], header, data);
        }
    }

    #[test]
    fn wrong_digests_are_noticed() {
        let good = pdu(0x25, &[1, 2, 3, 4, 5], true, true);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(feed(&bad, &[9], true, true).is_err(), "byte {at}");
        }
    }
}
