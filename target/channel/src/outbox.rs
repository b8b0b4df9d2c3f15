//! What a connection is about to send: headers written one after the other into a page, data
//! as handles to the pages that they lie in; all of a round's PDUs in one message.
//!
//! One message is in flight per connection, one is being filled. Memory is held only while
//! there is something to send, so that an idle connection costs nothing.

use kagami_iscsi::crc::Crc32c;
use kagami_iscsi::frame::{Framing, padding};
use kagami_iscsi::pdu::{BHS_LEN, Bhs, U24};
use kagami_memory::{Class, PageMut, Pool, Purpose, Scatter, Slice};
use kagami_reactor::{SendBuffer, SendPart};

/// The most that a PDU takes in the header page: header, its digest, padding, data digest.
const MOST_HEADER: usize = BHS_LEN + 4 + 3 + 4;

/// Most parts of a message; the kernel takes 1024 vectors, and a PDU may add one per page.
const MOST_PARTS: usize = 900;

/// Bytes after which a message is full: a slow host holds no more pages than that, and one read.
const MOST_BYTES: usize = 1 << 20;

/// A message in the making.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    page: Option<PageMut>,
    used: usize,
    parts: Vec<SendPart>,
    len: usize,
    /// The list of the message before, to be filled again.
    spare: Vec<SendPart>,
    /// The message before has not gone out yet.
    in_flight: bool,
    /// PDUs in the message that is being filled, and in the one before.
    pdus: (u64, u64),
}

/// The data segment of a PDU to be sent.
pub(crate) enum Payload<'a> {
    None,
    /// A few bytes, copied behind the header.
    Inline(&'a [&'a [u8]]),
    /// A range of pages, sent from where they are.
    Pages(&'a mut Scatter, usize, usize),
    /// The same, and the list keeps its handles: it may have to be sent again.
    Shared(&'a Scatter, usize, usize),
}

impl Outbox {
    /// Whether one more PDU with `inline` bytes beside its header fits; takes the page for it.
    pub(crate) fn has_room(&mut self, inline: usize, pool: &Pool) -> bool {
        if self.page.is_none() {
            // Answers free memory, so they may use the last of it.
            self.page = pool.take(Class::Small, Purpose::Internal);
            self.used = 0;
        }
        let size = self.page.as_ref().map_or(0, |page| page.len());
        self.used + MOST_HEADER + inline <= size && self.parts.len() < MOST_PARTS && self.len < MOST_BYTES
    }

    /// Adds a PDU; `fill` writes its header. There must be [room](Self::has_room).
    #[inline]
    pub(crate) fn push(&mut self, framing: &Framing, payload: Payload<'_>, fill: impl FnOnce(&mut Bhs)) {
        let Some(page) = self.page.as_mut() else { return };
        self.pdus.0 += 1;
        let start = self.used;
        let Some(bhs) = page.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<BHS_LEN>()) else {
            return;
        };
        fill(Bhs::from_mut(bhs));
        if let Payload::Inline(pieces) = payload {
            let len: usize = pieces.iter().map(|piece| piece.len()).sum();
            Bhs::from_mut(bhs).as_nop_in_mut().data_len = U24::new(u32::try_from(len).unwrap_or(u32::MAX));
        }
        self.used += BHS_LEN;
        if framing.header_digest {
            let digest = kagami_iscsi::crc::crc32c(&page[start..start + BHS_LEN]);
            self.put(&digest);
        }
        match payload {
            Payload::None => self.seal(start),
            Payload::Inline(pieces) => {
                let data = self.used;
                pieces.iter().for_each(|piece| self.put(piece));
                self.put(&[0; 3][..padding_of(self.used - data)]);
                if framing.data_digest && self.used > data {
                    let digest =
                        self.page.as_ref().map(|page| kagami_iscsi::crc::crc32c(&page[data..self.used]));
                    self.put(&digest.unwrap_or_default());
                }
                self.seal(start);
            }
            Payload::Pages(data, offset, len) => {
                self.seal(start);
                self.pages(framing, data, offset, len);
            }
            Payload::Shared(data, offset, len) => {
                self.seal(start);
                let tail = self.used;
                self.digest(framing, data, offset, len);
                self.share(data, offset, len);
                self.seal(tail);
            }
        }
    }

    fn pages(&mut self, framing: &Framing, data: &mut Scatter, offset: usize, len: usize) {
        let tail = self.used;
        self.digest(framing, data, offset, len);
        if offset == 0 && len == data.len_bytes() {
            // The usual case: the handles themselves move, nothing is counted up and down.
            if data.parts().len() > 1 {
                self.parts.extend(data.drain().map(SendPart::Data));
            } else if let Some(part) = data.pop() {
                self.parts.push(SendPart::Data(part));
            }
            self.len += len;
        } else {
            self.share(data, offset, len);
        }
        self.seal(tail);
    }

    /// Padding and digest of a data segment; they go behind it.
    #[inline]
    fn digest(&mut self, framing: &Framing, data: &Scatter, offset: usize, len: usize) {
        let pad = &[0; 3][..padding_of(len)];
        self.put(pad);
        if framing.data_digest && len > 0 {
            let mut crc = Crc32c::new();
            data.range(offset, len).for_each(|span| crc.update(span.bytes()));
            crc.update(pad);
            self.put(&crc.digest());
        }
    }

    /// Adds more handles to pages.
    fn share(&mut self, data: &Scatter, offset: usize, len: usize) {
        let slices = data
            .range(offset, len)
            .filter_map(|span| Slice::new(span.page.clone(), span.offset, span.len).ok());
        self.parts.extend(slices.map(SendPart::Data));
        self.len += len;
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        if let Some(place) = self.page.as_mut().and_then(|page| page.get_mut(self.used..end)) {
            place.copy_from_slice(bytes);
            self.used = end;
        }
    }

    /// Makes the bytes of the header page from `start` on a part of the message.
    #[inline]
    fn seal(&mut self, start: usize) {
        let len = self.used - start;
        if len == 0 {
            return;
        }
        self.len += len;
        let (start, len) = (to_u32(start), to_u32(len));
        match self.parts.last_mut() {
            Some(SendPart::Header { offset, len: before }) if *offset + *before == start => *before += len,
            _ => self.parts.push(SendPart::Header { offset: start, len }),
        }
    }

    /// The message, where there is one and none is in flight.
    pub(crate) fn take(&mut self) -> Option<SendBuffer> {
        if self.in_flight || self.parts.is_empty() {
            return None;
        }
        let headers = self.page.take()?.freeze();
        let parts = std::mem::replace(&mut self.parts, std::mem::take(&mut self.spare));
        let len = std::mem::take(&mut self.len);
        self.in_flight = true;
        self.pdus = (0, self.pdus.0);
        Some(SendBuffer { headers, parts, len, sent: 0 })
    }

    /// The message has gone out, or never will: its pages are free, its list is used again. Returns
    /// how many PDUs it had.
    pub(crate) fn done(&mut self, mut message: SendBuffer) -> u64 {
        message.parts.clear();
        self.spare = message.parts;
        self.in_flight = false;
        if self.parts.is_empty() {
            // A thousand idle connections must not hold a page each.
            self.page = None;
        }
        self.pdus.1
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Nothing is waiting and nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty() && !self.in_flight
    }
}

fn padding_of(len: usize) -> usize {
    padding(to_u32(len)) as usize
}

/// Lengths here are below a page's or a PDU's, which 32 bits hold.
fn to_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_iscsi::pdu::Opcode;
    use kagami_memory::{Arena, ArenaPlan, HugePages, ScatterMut};

    fn pool() -> Pool {
        let plan = ArenaPlan::new(1).with(Class::Page, 16, 0).with(Class::Small, 4, 0);
        Arena::new(plan, HugePages::Off).unwrap().pool(0)
    }

    fn data(pool: &Pool, len: usize) -> Scatter {
        let mut pages = ScatterMut::take(pool, Purpose::Host, len).unwrap();
        let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        pages.copy_from(0, &bytes);
        pages.freeze()
    }

    /// The PDUs of a message, as the host frames them.
    fn pdus(framing: &Framing, message: &SendBuffer) -> Vec<(u32, Vec<u8>)> {
        let bytes: Vec<u8> = message.remaining().flatten().copied().collect();
        assert_eq!(bytes.len(), message.len);
        let (mut at, mut found) = (0, Vec::new());
        while let Some(header) = framing.read_header(&bytes[at..]).unwrap() {
            let segment = &bytes[at + header.len..at + header.wire_len()];
            assert!(framing.data_digest_ok(segment));
            found.push((header.bhs.as_nop_in().itt.get(), segment[..header.data_len as usize].to_vec()));
            at += header.wire_len();
        }
        assert_eq!(at, bytes.len());
        found
    }

    fn fill(itt: u32, len: u32) -> impl FnOnce(&mut Bhs) {
        move |bhs| {
            let fields = bhs.as_nop_in_mut();
            fields.opcode = Opcode::NopIn.number();
            fields.itt = itt.into();
            fields.data_len = U24::new(len);
        }
    }

    #[test]
    fn a_message_is_its_pdus_with_padding_and_digests() {
        let pool = pool();
        for digests in [false, true] {
            let framing = Framing { header_digest: digests, data_digest: digests, max_data_len: 1 << 20 };
            let mut outbox = Outbox::default();
            let mut pages = data(&pool, 9001);
            let expected: Vec<u8> = pages.chunks().flatten().copied().collect();
            assert!(outbox.has_room(5, &pool));
            outbox.push(&framing, Payload::None, fill(1, 0));
            outbox.push(&framing, Payload::Inline(&[b"sen", b"se"]), fill(2, 0));
            // Two parts of the same pages, cut where no block ends, then all of it at once.
            outbox.push(&framing, Payload::Pages(&mut pages, 0, 5001), fill(3, 5001));
            outbox.push(&framing, Payload::Pages(&mut pages, 5001, 4000), fill(4, 4000));
            outbox.push(&framing, Payload::Pages(&mut pages, 0, 9001), fill(5, 9001));
            assert!(pages.is_empty(), "a whole list moves");
            let message = outbox.take().unwrap();
            assert!(outbox.take().is_none(), "one message at a time");
            let found = pdus(&framing, &message);
            let sent: Vec<&[u8]> = vec![b"", b"sense", &expected[..5001], &expected[5001..], &expected];
            assert_eq!(found.iter().map(|(_, data)| &data[..]).collect::<Vec<_>>(), sent);
            assert_eq!(found.iter().map(|(itt, _)| *itt).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
            assert_eq!(outbox.done(message), 5);
        }
        let arena = pool.arena();
        assert_eq!(arena.free(Class::Page), 16, "no page is held any more");
        assert_eq!(arena.free(Class::Small), 4);
    }

    #[test]
    fn a_message_is_full_before_its_page_is() {
        let pool = pool();
        let mut outbox = Outbox::default();
        let mut count = 0;
        while outbox.has_room(0, &pool) {
            outbox.push(&Framing::LOGIN, Payload::None, fill(count, 0));
            count += 1;
            assert!(count < 1000);
        }
        let message = outbox.take().unwrap();
        assert_eq!(pdus(&Framing::LOGIN, &message).len(), count as usize);
        assert_eq!(message.parts.len(), 1, "headers in a row are one part");
    }
}
