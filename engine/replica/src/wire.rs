//! Bytes in order, little-endian, for the record and the page: a writer that stops at its end and a reader that never
//! reads past it. Used by `record` and `page` only.

use crate::generation::{ANCESTORS, Generation};
use kagami_journal::BLOCK;
use kagami_types::{Epoch, JournalPos, Sequence};

/// Beyond this there is no place in a journal, and no sequence: half of what a superblock and a frame can say, so that who
/// goes on from there has centuries left.
const MOST: u64 = 1 << 61;

/// Whether that can be where a frame begins.
pub(crate) const fn is_place(offset: u64) -> bool {
    offset < MOST && offset.is_multiple_of(BLOCK)
}

/// Whether that can be a write's number.
pub(crate) const fn is_sequence(sequence: Sequence) -> bool {
    sequence.0 < MOST
}

/// Whether that can be a time, in nanoseconds since 1970: before the year 2262.
pub(crate) const fn is_time(time: u64) -> bool {
    time < 1 << 63
}

/// Writes fields one after another.
#[derive(Debug)]
pub(crate) struct Put<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Put<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Fields that have no room are left out; the sizes are constants, and a test holds them to it.
    pub(crate) fn bytes(&mut self, src: &[u8]) {
        if let Some(to) = self.bytes.get_mut(self.at..self.at.saturating_add(src.len())) {
            to.copy_from_slice(src);
        }
        self.at = self.at.saturating_add(src.len());
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn pos(&mut self, pos: JournalPos) {
        self.u64(pos.epoch.0);
        self.u64(pos.offset);
    }

    pub(crate) fn sequence(&mut self, sequence: Sequence) {
        self.u64(sequence.0);
    }

    /// A byte of length and so much text, cut at a character, in a field of `room` bytes in all.
    pub(crate) fn text(&mut self, text: &str, room: usize) {
        let end = self.at.saturating_add(room);
        let most = room.saturating_sub(1).min(255);
        let cut = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let text = text.get(..cut).unwrap_or_default();
        self.u8(u8::try_from(text.len()).unwrap_or(0));
        self.bytes(text.as_bytes());
        self.at = end;
    }

    /// 16 bytes, a count in 8, and room for all ancestors.
    pub(crate) fn generation(&mut self, generation: &Generation) {
        self.u128(generation.id);
        self.u64(generation.ancestors.len().min(ANCESTORS) as u64);
        for at in 0..ANCESTORS {
            self.u128(generation.ancestors.get(at).copied().unwrap_or(0));
        }
    }

    /// Where the next field goes.
    #[cfg(test)]
    pub(crate) fn at(&self) -> usize {
        self.at
    }
}

/// Reads fields one after another; `None` past the end.
#[derive(Debug)]
pub(crate) struct Get<'a> {
    bytes: &'a [u8],
}

impl<'a> Get<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn pos(&mut self) -> Option<JournalPos> {
        Some(JournalPos { epoch: Epoch(self.u64()?), offset: self.u64()? })
    }

    pub(crate) fn sequence(&mut self) -> Option<Sequence> {
        self.u64().map(Sequence)
    }

    pub(crate) fn text(&mut self, room: usize) -> Option<String> {
        let field = self.bytes(room)?;
        let (len, rest) = field.split_first()?;
        let text = rest.get(..usize::from(*len))?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    pub(crate) fn generation(&mut self) -> Option<Generation> {
        let id = self.u128()?;
        let count = usize::try_from(self.u64()?).ok().filter(|count| *count <= ANCESTORS)?;
        let mut generation = Generation::first(id);
        for at in 0..ANCESTORS {
            let ancestor = self.u128()?;
            if at < count {
                generation.ancestors.push_back(ancestor);
            }
        }
        Some(generation)
    }
}
