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
        }
    }

    fn pages(&mut self, framing: &Framing, data: &mut Scatter, offset: usize, len: usize) {
        let tail = self.used;
        let pad = &[0; 3][..padding_of(len)];
        self.put(pad);
        if framing.data_digest && len > 0 {
            let mut crc = Crc32c::new();
            data.range(offset, len).for_each(|span| crc.update(span.bytes()));
            crc.update(pad);
            self.put(&crc.digest());
        }
        if offset == 0 && len == data.len_bytes() {
            // The usual case: the handles themselves move, nothing is counted up and down.
            self.parts.extend(data.drain().map(SendPart::Data));
        } else {
            let slices = data
                .range(offset, len)
                .filter_map(|span| Slice::new(span.page.clone(), span.offset, span.len).ok());
            self.parts.extend(slices.map(SendPart::Data));
        }
        self.len += len;
        self.seal(tail);
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
