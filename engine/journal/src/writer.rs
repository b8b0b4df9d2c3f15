//! Puts entries in the order of their sequences, and makes frames of them.
//!
//! Entries come in any order, as several cores took their sequences; a frame has those that follow each other without a
//! gap. How many wait for how long adapts to the device: with nothing under way a frame is begun at once; else they wait
//! for a quarter of what a frame takes, or until there is much to write. Entries for which nobody waits, as their hosts were
//! answered, wait for company a little longer, so that there is not a frame for each. A frame names the very pages that hosts
//! wrote; only data that do not fill pages are copied together.
//!
//! Whoever owns it does the I/O, and says when a frame is [`written`](Writer::written) and stable. What is *stable* here is
//! the run of written frames from the start.

use crate::crc;
use crate::frame::{
    ENTRY_LEN, EntryHead, EntryKind, FrameHead, FrameKind, HEAD_LEN, MAX_ENTRIES, header_len,
};
use crate::layout::{BLOCK, Layout};
use kagami_memory::{Class, Page, PageMut, Pool, Purpose, Scatter, Slice};
use kagami_types::{Epoch, JournalPos, Sequence, Time, Uuid};
use std::collections::VecDeque;

/// Data beyond which a frame takes no further entry.
const FRAME_DATA: u32 = 4 << 20;
/// The largest data of one entry.
pub(crate) const MAX_DATA: u32 = 32 << 20;
/// The most frames under way.
const MAX_FLYING: usize = 8;
/// Bytes under way beyond which no further frame is begun: recovery looks that far ahead of the end.
pub(crate) const FLYING_BYTES: u64 = 32 << 20;
/// The most entries of one operation.
pub const MAX_PARTS: usize = MAX_ENTRIES as usize;
/// Data that is worth a frame of its own while others are under way.
const MUCH: u64 = 256 << 10;
/// The longest that entries wait for company.
const LONGEST_WAIT: u64 = 1_000_000;
/// How long entries for which nobody waits, wait for company.
const COMPANY: u64 = 3_000_000;
/// The furthest that a sequence may be ahead of the one that is waited for.
const FURTHEST: u64 = 1 << 20;

/// A frame to be written.
#[derive(Debug)]
pub struct FrameWrite {
    /// For [`Writer::written`].
    pub id: u64,
    /// The byte of the device where it goes.
    pub at: u64,
    /// What; a multiple of 4 KiB, and of a padding frame the header only.
    pub data: Scatter,
    /// Its place.
    pub offset: u64,
    /// The place behind it.
    pub end: u64,
    /// The last sequence up to its end.
    pub last: Sequence,
    /// How many entries it has.
    pub entries: u32,
    /// The time of its last entry.
    pub time: u64,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It will be in a frame.
    Taken,
    /// One with its sequence was here already; it was dropped.
    Again,
    /// It does not fit together, is too large, or far ahead of what is waited for; it was dropped.
    Refused,
}

#[derive(Debug)]
struct Waiting {
    head: EntryHead,
    data: Scatter,
    /// The data are whole pages, and are named where they are.
    whole: bool,
    /// The next entry goes into the same frame.
    more: bool,
}

#[derive(Debug)]
struct Flying {
    id: u64,
    end: u64,
    last: Sequence,
    bytes: u64,
    since: Time,
    done: bool,
}

/// How long the next frame would be.
struct Cut {
    entries: u32,
    /// Bytes behind the header.
    body: u32,
    /// Pages that data are copied to.
    copies: u32,
}

/// Makes the frames of one epoch.
#[derive(Debug)]
pub struct Writer {
    group: Uuid,
    layout: Layout,
    epoch: Epoch,
    parent: Epoch,
    /// The first frame is still to be made.
    opening: bool,
    /// The place of the next frame, and of the one before.
    head: u64,
    previous: u64,
    /// From here on nothing may be overwritten.
    out: u64,
    /// The sequence that the next frame begins with.
    next: Sequence,
    /// Entry n is that of sequence `next` + n.
    waiting: VecDeque<Option<Waiting>>,
    /// How many from the front on are there.
    there: usize,
    /// Of those, the ones that are whole operations, their data, and since when.
    ready: usize,
    ready_bytes: u64,
    ready_since: Time,
    /// Up to this one, somebody waits for it to be stable.
    wanted: Sequence,
    flying: VecDeque<Flying>,
    flying_bytes: u64,
    ids: u64,
    stable: (u64, Sequence),
    /// How long a frame takes, in nanoseconds, smoothed.
    latency: u64,
    full: bool,
    /// A frame without entries is wanted, so that what is stable can be read from the journal.
    beacon: bool,
    /// There are frames that no later one says to be stable.
    unsaid: bool,
}

impl Writer {
    /// Begins an epoch at a place, behind frames of the epoch `parent`. `previous` is the place of the frame before, or
    /// the same place where there is none; `next` is the sequence of the first entry; before `out` all may be overwritten.
    #[must_use]
    pub fn new(
        group: Uuid,
        layout: Layout,
        (epoch, parent): (Epoch, Epoch),
        (at, previous): (u64, u64),
        next: Sequence,
        out: u64,
    ) -> Self {
        Self {
            group,
            layout,
            epoch,
            parent,
            opening: true,
            head: at,
            previous,
            out,
            next,
            waiting: VecDeque::new(),
            there: 0,
            ready: 0,
            ready_bytes: 0,
            ready_since: Time(0),
            wanted: Sequence::ZERO,
            flying: VecDeque::new(),
            flying_bytes: 0,
            ids: 0,
            stable: (at, Sequence(next.0.saturating_sub(1))),
            latency: 0,
            full: false,
            beacon: false,
            unsaid: false,
        }
    }

    /// An entry with its data, in any order of sequences. Somebody waits for it.
    pub fn push(&mut self, head: EntryHead, data: Scatter, now: Time) -> Pushed {
        self.take_wanted(head, data, false, now)
    }

    /// As [`push`](Self::push), for an entry for which nobody waits: it may wait for company.
    pub fn push_promised(&mut self, head: EntryHead, data: Scatter, now: Time) -> Pushed {
        self.take(head, data, false, now)
    }

    /// As [`push`](Self::push), for an entry that the next one belongs to: no frame ends between them. An operation may have
    /// [`MAX_PARTS`] entries; what is beyond that counts as another.
    pub fn push_part(&mut self, head: EntryHead, data: Scatter, now: Time) -> Pushed {
        self.take_wanted(head, data, true, now)
    }

    /// Somebody waits until everything up to that sequence is stable.
    pub fn hurry(&mut self, sequence: Sequence) {
        self.wanted = self.wanted.max(sequence);
    }

    fn take_wanted(&mut self, head: EntryHead, data: Scatter, more: bool, now: Time) -> Pushed {
        let sequence = head.sequence;
        let pushed = self.take(head, data, more, now);
        if pushed == Pushed::Taken {
            self.hurry(sequence);
        }
        pushed
    }

    fn take(&mut self, head: EntryHead, data: Scatter, more: bool, now: Time) -> Pushed {
        let Some(ahead) = head.sequence.0.checked_sub(self.next.0) else { return Pushed::Again };
        let len = data.len_bytes() as u64;
        if ahead >= FURTHEST
            || !head.is_sound()
            || u64::from(head.data_len) != len
            || len > u64::from(MAX_DATA)
        {
            return Pushed::Refused;
        }
        let Ok(at) = usize::try_from(ahead) else { return Pushed::Refused };
        if at >= self.waiting.len() {
            self.waiting.resize_with(at + 1, || None);
        }
        let Some(slot) = self.waiting.get_mut(at) else { return Pushed::Refused };
        if slot.is_some() {
            return Pushed::Again;
        }
        let whole = len > 0
            && data
                .parts()
                .iter()
                .all(|part| part.len().is_multiple_of(4096) && part.offset().is_multiple_of(512));
        *slot = Some(Waiting { head, data, whole, more });
        if at == self.there {
            if self.ready == 0 {
                self.ready_since = now;
            }
            while let Some(Some(entry)) = self.waiting.get_mut(self.there) {
                self.there += 1;
                if self.there - self.ready >= MAX_PARTS {
                    entry.more = false;
                }
                if entry.more {
                    continue;
                }
                let whole = self.waiting.range(self.ready..self.there).flatten();
                self.ready_bytes += whole.map(|entry| u64::from(entry.head.data_len)).sum::<u64>();
                self.ready = self.there;
            }
        }
        Pushed::Taken
    }

    /// Asks for a frame without entries if no frame says that the newest entries are stable: so that a later recovery
    /// knows of them, and a rotten frame is not taken for a torn one.
    pub fn say_stable(&mut self) {
        self.beacon |= self.is_unsaid();
    }

    /// Whether [`say_stable`](Self::say_stable) would ask for one.
    #[must_use]
    pub fn is_unsaid(&self) -> bool {
        let room = self.free() >= self.reserve() + BLOCK;
        self.unsaid && self.flying.is_empty() && !self.beacon && room
    }

    /// The next frame to be written, if one is to be begun now. `None` too where the pool has no page; try again later.
    pub fn next_write(&mut self, pool: &Pool, now: Time, wall: u64) -> Option<FrameWrite> {
        if self.opening {
            let frame = self.bare(pool, FrameKind::Opening, BLOCK, now, wall)?;
            self.opening = false;
            return Some(frame);
        }
        if self.ready == 0 {
            if !self.beacon {
                return None;
            }
            let frame = self.bare(pool, FrameKind::Entries, BLOCK, now, wall)?;
            (self.beacon, self.unsaid) = (false, false);
            return Some(frame);
        }
        if now < self.when() {
            return None;
        }
        let first = self.waiting.front()?.as_ref()?;
        let reserve = if matches!(first.head.kind, EntryKind::Swap) { 0 } else { self.reserve() };
        let room = self.free().saturating_sub(reserve);
        let until_wrap = self.layout.until_wrap(self.head);
        let alone = self.cut(1, u64::MAX).map_or(u64::MAX, |cut| cut.len());
        self.full = if alone > until_wrap { until_wrap + alone > room } else { alone > room };
        if self.full {
            return None;
        }
        if alone > until_wrap {
            return self.bare(pool, FrameKind::Padding, until_wrap, now, wall);
        }
        let cut = self.cut(MAX_ENTRIES, room.min(until_wrap))?;
        self.build(&cut, pool, now, wall)
    }

    /// When [`next_write`](Self::next_write) is to be called; [`Time::NEVER`] where another event comes first.
    #[must_use]
    pub fn when(&self) -> Time {
        if self.opening || (self.beacon && self.flying.is_empty()) {
            return Time(0);
        }
        if self.ready == 0 || self.flying.len() >= MAX_FLYING || self.flying_bytes >= FLYING_BYTES {
            return Time::NEVER;
        }
        let wanted = self.wanted >= self.next;
        if (wanted && self.flying.is_empty())
            || self.ready_bytes >= MUCH
            || self.ready >= MAX_ENTRIES as usize
        {
            return Time(0);
        }
        let patience = if wanted { (self.latency / 4).min(LONGEST_WAIT) } else { COMPANY };
        Time(self.ready_since.0.saturating_add(patience))
    }

    /// A frame is on the device and stable. Whether more is stable now.
    pub fn written(&mut self, id: u64, now: Time) -> bool {
        let Some(frame) = self.flying.iter_mut().find(|frame| frame.id == id) else { return false };
        frame.done = true;
        let took = now.nanos_since(frame.since);
        self.latency = if self.latency == 0 { took } else { (self.latency * 7 + took) / 8 };
        let before = self.stable.0;
        while let Some(frame) = self.flying.front().filter(|frame| frame.done) {
            self.stable = (frame.end, frame.last);
            self.flying_bytes -= frame.bytes;
            self.flying.pop_front();
        }
        self.stable.0 > before
    }

    /// The place up to which everything is stable, and the last sequence there.
    #[must_use]
    pub fn stable(&self) -> (u64, Sequence) {
        self.stable
    }

    /// The place behind the newest frame, and the last sequence in a frame.
    #[must_use]
    pub fn end(&self) -> (u64, Sequence) {
        (self.head, Sequence(self.next.0.saturating_sub(1)))
    }

    /// The epoch that it writes.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where what is stable ends.
    #[must_use]
    pub fn stable_pos(&self) -> JournalPos {
        JournalPos { epoch: self.epoch, offset: self.stable.0 }
    }

    /// What is before `out` is not needed any more, and the superblock that says so is stable.
    pub fn set_out(&mut self, out: u64) {
        self.out = self.out.max(out.min(self.stable.0));
        self.full = false;
    }

    /// Before this all may be overwritten.
    #[must_use]
    pub fn out(&self) -> u64 {
        self.out
    }

    /// Bytes that are free.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.layout.data_len.saturating_sub(self.head - self.out.min(self.head))
    }

    /// Bytes that only a swap's entry and the first frames of later epochs may take.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        (self.layout.data_len / 16 / BLOCK * BLOCK).clamp(2 * BLOCK, 64 << 10)
    }

    /// Whether there was no room for the next frame. [`set_out`](Self::set_out) ends it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Bytes that must be free for the next frame, where it is full: with them it is not.
    #[must_use]
    pub fn needs(&self) -> u64 {
        if self.opening {
            return BLOCK;
        }
        let until_wrap = self.layout.until_wrap(self.head);
        let alone = self.cut(1, u64::MAX).map_or(0, |cut| cut.len());
        let padding = if alone > until_wrap { until_wrap } else { 0 };
        self.reserve() + alone + padding
    }

    /// Entries that are in no frame, and bytes of their data as far as they follow each other.
    #[must_use]
    pub fn waiting(&self) -> (usize, u64) {
        (self.waiting.iter().flatten().count(), self.ready_bytes)
    }

    /// Whether entries wait that are in no frame.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Frames under way.
    #[must_use]
    pub fn flying(&self) -> usize {
        self.flying.len()
    }

    /// How long a frame takes, in nanoseconds, smoothed.
    #[must_use]
    pub fn latency(&self) -> u64 {
        self.latency
    }

    /// The sequence that is waited for: every smaller one is in a frame.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// Gives back what is in no frame, in the order of sequences; for when the journal is left.
    pub fn take_waiting(&mut self) -> Vec<(EntryHead, Scatter)> {
        (self.there, self.ready, self.ready_bytes, self.full) = (0, 0, 0, false);
        self.waiting.drain(..).flatten().map(|entry| (entry.head, entry.data)).collect()
    }

    /// The longest frame within `room` bytes that ends with the first operation which makes it so many entries.
    fn cut(&self, most: u32, room: u64) -> Option<Cut> {
        let mut best = None;
        let (mut body, mut copies, mut data) = (0u32, 0u32, 0u32);
        for (entry, entries) in self.waiting.iter().take(self.ready).flatten().zip(1..=MAX_ENTRIES) {
            let len = entry.head.data_len;
            data += len;
            if entry.whole {
                body = body.next_multiple_of(4096) + len;
            } else if len > 0 {
                let from = body.next_multiple_of(8);
                copies += (from + len).div_ceil(4096) - body.div_ceil(4096);
                body = from + len;
            }
            let cut = Cut { entries, body: body.next_multiple_of(4096), copies };
            if cut.len() > room || (best.is_some() && data > FRAME_DATA) {
                break;
            }
            if !entry.more {
                best = Some(cut);
                if entries >= most {
                    break;
                }
            }
        }
        best
    }

    fn build(&mut self, cut: &Cut, pool: &Pool, now: Time, wall: u64) -> Option<FrameWrite> {
        let header = header_len(cut.entries);
        let pages = header / 4096;
        let mut taken: Vec<PageMut> = Vec::with_capacity((pages + cut.copies) as usize);
        pool.take_many(Class::Page, Purpose::Internal, pages + cut.copies, |page| taken.push(page));
        if taken.len() < (pages + cut.copies) as usize {
            return None;
        }
        let mut copies = taken.split_off(pages as usize).into_iter();
        let parts = self.waiting.iter().take(cut.entries as usize).flatten();
        let parts: usize = parts.map(|entry| entry.data.parts().len()).sum();
        let mut body = Body {
            list: Scatter::with_capacity(parts + cut.copies as usize),
            page: None,
            at: 0,
            copies: &mut copies,
        };
        let (first, mut time) = (self.next, 0);
        for number in 0..cut.entries as usize {
            let Some(mut entry) = self.waiting.pop_front().flatten() else { break };
            if !entry.data.is_empty() {
                entry.head.data_crc = crc::of_scatter(&entry.data);
                self.ready_bytes -= u64::from(entry.head.data_len);
                entry.head.data_at = header + body.add(entry.data, entry.whole);
            }
            time = entry.head.time;
            let at = HEAD_LEN + number * ENTRY_LEN;
            if let Some(page) = taken.get_mut(at / 4096) {
                entry.head.encode_into(&mut page[at % 4096..at % 4096 + ENTRY_LEN]);
            }
        }
        self.there -= cut.entries as usize;
        self.ready -= cut.entries as usize;
        self.ready_since = now;
        self.next = Sequence(self.next.0 + u64::from(cut.entries));
        body.end();
        let mut data = body.list;
        let used = HEAD_LEN + cut.entries as usize * ENTRY_LEN;
        if let Some(last) = taken.last_mut() {
            last[(used - 1) % 4096 + 1..].fill(0);
        }
        let head = self.head(FrameKind::Entries, first, cut.entries, header + cut.body, header, wall);
        let mut list = finish(&head, taken, data.parts().len());
        list.append(&mut data);
        Some(self.launch(&head, list, time, now))
    }

    /// A frame without entries.
    fn bare(&mut self, pool: &Pool, kind: FrameKind, len: u64, now: Time, wall: u64) -> Option<FrameWrite> {
        if self.free() < len {
            self.full = true;
            return None;
        }
        let mut page = pool.take(Class::Page, Purpose::Internal)?;
        page.fill(0);
        let head = self.head(kind, self.next, 0, u32::try_from(len).ok()?, 4096, wall);
        let list = finish(&head, vec![page], 0);
        Some(self.launch(&head, list, wall, now))
    }

    fn head(
        &self,
        kind: FrameKind,
        first: Sequence,
        entries: u32,
        len: u32,
        header: u32,
        wall: u64,
    ) -> FrameHead {
        FrameHead {
            kind,
            group: self.group,
            epoch: self.epoch,
            parent: self.parent,
            offset: self.head,
            previous: self.previous,
            len,
            header_len: header,
            first,
            entries,
            stable: self.stable.0,
            time: wall,
        }
    }

    fn launch(&mut self, head: &FrameHead, data: Scatter, time: u64, now: Time) -> FrameWrite {
        self.ids += 1;
        let end = head.end();
        let last = head.last();
        let bytes = u64::from(head.len);
        self.flying.push_back(Flying { id: self.ids, end, last, bytes, since: now, done: false });
        self.flying_bytes += bytes;
        self.unsaid |= head.entries > 0;
        (self.previous, self.head) = (head.offset, end);
        let at = self.layout.place(head.offset);
        FrameWrite { id: self.ids, at, data, offset: head.offset, end, last, entries: head.entries, time }
    }
}

impl Cut {
    fn len(&self) -> u64 {
        u64::from(header_len(self.entries)) + u64::from(self.body)
    }
}

/// Writes the fixed head and freezes the header's pages.
fn finish(head: &FrameHead, mut pages: Vec<PageMut>, more: usize) -> Scatter {
    let crc = crc::of_pieces(pages.iter().enumerate().map(|(number, page)| {
        let from = if number == 0 { HEAD_LEN } else { 0 };
        &page[from..]
    }));
    if let Some(page) = pages.first_mut() {
        page[..HEAD_LEN].copy_from_slice(&head.encode(crc));
    }
    let mut list = Scatter::with_capacity(pages.len() + more);
    for page in pages {
        list.push_page(page.freeze());
    }
    list
}

/// The data behind a header.
struct Body<'a> {
    list: Scatter,
    /// A page that data are being copied to, and how full it is.
    page: Option<(PageMut, usize)>,
    /// Bytes so far.
    at: u32,
    copies: &'a mut dyn Iterator<Item = PageMut>,
}

impl Body<'_> {
    /// Puts data at the end; where they begin.
    fn add(&mut self, mut data: Scatter, whole: bool) -> u32 {
        let len = u32::try_from(data.len_bytes()).unwrap_or(0);
        if whole {
            self.end();
            self.at = self.at.next_multiple_of(4096);
            let from = self.at;
            self.at += len;
            self.list.append(&mut data);
            return from;
        }
        let from = self.at.next_multiple_of(8);
        let gap = (from - self.at) as usize;
        self.copy(&[0; 8][..gap]);
        for chunk in data.chunks() {
            self.copy(chunk);
        }
        self.at = from + len;
        from
    }

    fn copy(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some((mut page, at)) = self.page.take().or_else(|| Some((self.copies.next()?, 0))) else {
                return;
            };
            let len = bytes.len().min(page.len() - at);
            page[at..at + len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            self.keep(page, at + len);
        }
    }

    fn keep(&mut self, page: PageMut, full: usize) {
        if full == page.len() { self.put(page.freeze()) } else { self.page = Some((page, full)) }
    }

    /// Fills the page that is being copied to with zeroes.
    fn end(&mut self) {
        if let Some((mut page, at)) = self.page.take() {
            page[at..].fill(0);
            self.put(page.freeze());
        }
    }

    fn put(&mut self, page: Page) {
        self.list.push(Slice::whole(page));
    }
}

#[cfg(test)]
mod tests;
