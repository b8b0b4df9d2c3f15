//! Frames and their entries, from consecutive bytes of the data area; every checksum verified.
//!
//! Used by recovery and replay of the own journal, and by a secondary for what it reads from its peer. It keeps handles to
//! the pages that it was given, and hands parts of them on: nothing is copied.

use crate::crc;
use crate::frame::{ENTRY_LEN, EntryHead, FrameHead, FrameKind, HEAD_LEN, HeadFound};
use crate::layout::{BLOCK, Layout};
use kagami_memory::{Scatter, Slice};
use kagami_types::{Epoch, JournalPos, Sequence, Uuid};
use std::collections::VecDeque;

/// A whole frame.
#[derive(Debug)]
pub struct Frame {
    /// Its head.
    pub head: FrameHead,
    /// Its entries in the order of their sequences, with their data.
    pub entries: Vec<(EntryHead, Scatter)>,
    /// It begins another epoch than that of the frame before it.
    pub new_epoch: bool,
}

impl Frame {
    /// The place behind it, in its epoch.
    #[must_use]
    pub fn end(&self) -> JournalPos {
        JournalPos { epoch: self.head.epoch, offset: self.head.end() }
    }
}

/// Why there is no frame where one should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No head with a right checksum.
    #[error("no frame at place {0}")]
    Nothing(u64),
    /// The head of a frame that belongs elsewhere: an earlier round of the area, as a rule.
    #[error("the frame at place {at} is the one of place {says}")]
    OtherPlace {
        /// Where it was found.
        at: u64,
        /// Where it belongs.
        says: u64,
    },
    /// A frame of another group.
    #[error("the frame at place {0} is another group's")]
    OtherGroup(u64),
    /// A frame of an epoch that does not follow the one before it.
    #[error("the frame at place {at} is of epoch {epoch}, which does not follow")]
    OtherEpoch {
        /// Where it was found.
        at: u64,
        /// What it says.
        epoch: Epoch,
    },
    /// The heads of the entries are not as they were written.
    #[error("the entries of the frame at place {0} are damaged")]
    Entries(u64),
    /// The data of an entry are not as they were written.
    #[error("the data of {} in the frame at place {at} are damaged", head.sequence)]
    Data {
        /// The frame's place.
        at: u64,
        /// Whose data.
        head: EntryHead,
    },
    /// Its sequences, or the place of the frame before it, do not go on from that frame.
    #[error("the frame at place {0} does not go on from the one before it")]
    Gap(u64),
    /// It reaches beyond the end of the data area.
    #[error("the frame at place {0} is longer than there is room for")]
    TooLong(u64),
    /// Of a later format than this version knows.
    #[error("the frame at place {0} is of a later format")]
    Newer(u64),
    /// The bytes given do not go on where those before ended.
    #[error("bytes of place {given} came where those of {wanted} were to come")]
    NotNext {
        /// What came.
        given: u64,
        /// What was to come.
        wanted: u64,
    },
}

/// What the next frame must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The epoch of the frame before it: it is of the same, or opens one that names this as its parent.
    pub epoch: Epoch,
    /// The place of the frame before it, where known.
    pub previous: Option<u64>,
    /// The sequence that comes next, where known.
    pub next: Option<Sequence>,
}

/// Takes frames out of consecutive bytes.
#[derive(Debug)]
pub struct Parser {
    group: Uuid,
    layout: Layout,
    /// The place of the next frame.
    at: u64,
    expect: Expect,
    parts: VecDeque<Slice>,
    /// Bytes in `parts`.
    held: u64,
    error: Option<ParseError>,
    /// From this place on entries' data count as well; before it only what the heads say is wanted.
    checks_from: u64,
    /// A header that does not lie in one piece.
    scratch: Vec<u8>,
}

impl Parser {
    /// Begins at a place where a frame begins, behind one of that epoch.
    #[must_use]
    pub fn new(group: Uuid, layout: Layout, at: JournalPos) -> Self {
        Self::expecting(group, layout, at.offset, Expect { epoch: at.epoch, previous: None, next: None })
    }

    /// The same, with more known of the frame before.
    #[must_use]
    pub fn expecting(group: Uuid, layout: Layout, at: u64, expect: Expect) -> Self {
        Self {
            group,
            layout,
            at,
            expect,
            parts: VecDeque::new(),
            held: 0,
            error: None,
            checks_from: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes frames whose entries' data are damaged as well: for who only asks what was written where. Heads are verified
    /// all the same.
    #[must_use]
    pub fn heads_only(self) -> Self {
        self.heads_only_before(u64::MAX)
    }

    /// The same of the frames that begin before that place; of the others the data count.
    #[must_use]
    pub fn heads_only_before(self, place: u64) -> Self {
        Self { checks_from: place, ..self }
    }

    /// The place of the next frame: what is before it was whole. In the epoch of the frame before.
    #[must_use]
    pub fn at(&self) -> JournalPos {
        JournalPos { epoch: self.expect.epoch, offset: self.at }
    }

    /// What the next frame must be.
    #[must_use]
    pub fn expect(&self) -> Expect {
        self.expect
    }

    /// The place whose bytes are wanted next.
    #[must_use]
    pub fn wants(&self) -> u64 {
        self.at + self.held
    }

    /// Takes bytes of the journal from that place on.
    ///
    /// # Errors
    /// They are not those that come next ([`wants`](Self::wants)); then nothing has changed.
    pub fn push(&mut self, at: u64, mut data: Scatter) -> Result<(), ParseError> {
        if at != self.wants() {
            return Err(ParseError::NotNext { given: at, wanted: self.wants() });
        }
        self.held += data.len_bytes() as u64;
        self.parts.extend(data.drain());
        Ok(())
    }

    /// The next frame; `None` where more bytes are needed. After an error always the same error.
    #[expect(clippy::should_implement_trait, reason = "more may come after None")]
    pub fn next(&mut self) -> Option<Result<Frame, ParseError>> {
        if let Some(error) = self.error {
            return Some(Err(error));
        }
        let result = self.parse()?;
        if let Err(error) = result {
            self.error = Some(error);
        }
        Some(result)
    }

    fn parse(&mut self) -> Option<Result<Frame, ParseError>> {
        if self.held < BLOCK {
            return None;
        }
        let mut first = [0; HEAD_LEN];
        self.copy(&mut first);
        let (head, entries_crc) = match self.check_head(FrameHead::decode(&first)) {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        if self.held < u64::from(head.len) {
            return None;
        }
        Some(self.take_frame(head, entries_crc))
    }

    fn check_head(&self, found: HeadFound) -> Result<(FrameHead, u32), ParseError> {
        let at = self.at;
        let (head, crc) = match found {
            HeadFound::Nothing => return Err(ParseError::Nothing(at)),
            HeadFound::Newer => return Err(ParseError::Newer(at)),
            HeadFound::Head(head, crc) => (head, crc),
        };
        if head.group != self.group {
            return Err(ParseError::OtherGroup(at));
        }
        if head.offset != at {
            return Err(ParseError::OtherPlace { at, says: head.offset });
        }
        let same = head.epoch == self.expect.epoch;
        let opens = head.kind == FrameKind::Opening && head.parent == self.expect.epoch;
        if !same && !opens {
            return Err(ParseError::OtherEpoch { at, epoch: head.epoch });
        }
        if u64::from(head.len) > self.layout.until_wrap(at) {
            return Err(ParseError::TooLong(at));
        }
        let linked = self.expect.previous.is_none_or(|previous| previous == head.previous);
        let follows =
            self.expect.next.is_none_or(|next| if same { head.first == next } else { head.first >= next });
        if !linked || !follows {
            return Err(ParseError::Gap(at));
        }
        Ok((head, crc))
    }

    fn take_frame(&mut self, head: FrameHead, entries_crc: u32) -> Result<Frame, ParseError> {
        let at = self.at;
        let entries = self.take_entries(&head, entries_crc)?;
        let new_epoch = head.epoch != self.expect.epoch;
        self.expect = Expect {
            epoch: head.epoch,
            previous: Some(at),
            next: Some(Sequence(head.first.0 + u64::from(head.entries))),
        };
        self.at = head.end();
        Ok(Frame { head, entries, new_epoch })
    }

    fn take_entries(
        &mut self,
        head: &FrameHead,
        entries_crc: u32,
    ) -> Result<Vec<(EntryHead, Scatter)>, ParseError> {
        let at = self.at;
        let checks_data = at >= self.checks_from;
        let header_len = head.header_len as usize;
        let mut scratch = std::mem::take(&mut self.scratch);
        let whole = self.parts.front().is_some_and(|part| part.bytes().len() >= header_len);
        if !whole {
            scratch.resize(header_len, 0);
            self.copy(&mut scratch);
        }
        let header = match self.parts.front() {
            Some(part) if whole => part.bytes().get(..header_len).unwrap_or_default(),
            _ => &scratch,
        };
        let raw = header.get(HEAD_LEN..).unwrap_or_default();
        if crc::crc32c(raw) != entries_crc {
            return Err(ParseError::Entries(at));
        }
        let mut entries = Vec::with_capacity(head.entries as usize);
        let mut behind = head.header_len;
        for (bytes, number) in raw.chunks_exact(ENTRY_LEN).zip(0..u64::from(head.entries)) {
            let entry = EntryHead::decode(bytes).ok_or(ParseError::Newer(at))?;
            if entry.sequence.0 != head.first.0 + number {
                return Err(ParseError::Gap(at));
            }
            if entry.data_len > 0 {
                let end = entry.data_at.checked_add(entry.data_len).filter(|&end| end <= head.len);
                match end {
                    Some(end) if entry.data_at >= behind => behind = end,
                    _ => return Err(ParseError::Entries(at)),
                }
            }
            entries.push((entry, Scatter::new()));
        }
        self.scratch = scratch;
        let mut done = 0;
        for (entry, data) in &mut entries {
            if entry.data_len == 0 {
                continue;
            }
            self.take(entry.data_at - done, None);
            self.take(entry.data_len, Some(data));
            done = entry.data_at + entry.data_len;
            if checks_data && crc::of_scatter(data) != entry.data_crc {
                return Err(ParseError::Data { at, head: *entry });
            }
        }
        self.take(head.len - done, None);
        Ok(entries)
    }

    /// Copies what comes next, without taking it.
    fn copy(&self, out: &mut [u8]) {
        let mut done = 0;
        for part in &self.parts {
            let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) else { return };
            let bytes = part.bytes();
            let len = bytes.len().min(rest.len());
            rest[..len].copy_from_slice(&bytes[..len]);
            done += len;
        }
    }

    /// Takes that many bytes from the front, to `into` or away. The caller knows that they are there.
    fn take(&mut self, len: u32, mut into: Option<&mut Scatter>) {
        let mut left = len;
        while left > 0 {
            let Some(part) = self.parts.pop_front() else { return };
            let here = part.len().min(left);
            left -= here;
            self.held -= u64::from(here);
            if here == part.len() {
                if let Some(list) = into.as_deref_mut() {
                    list.push(part);
                }
                continue;
            }
            let (offset, rest) = (part.offset(), part.len() - here);
            if let (Some(list), Ok(front)) =
                (into.as_deref_mut(), Slice::new(part.page().clone(), offset, here))
            {
                list.push(front);
            }
            if let Ok(back) = Slice::new(part.into_page(), offset + here, rest) {
                self.parts.push_front(back);
            }
        }
    }
}
