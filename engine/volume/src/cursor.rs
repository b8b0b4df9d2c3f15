//! Reading a scatter list from front to back.

use kagami_memory::{Page, Scatter, Span};

/// Hands out a list's bytes in order, so that a long list is walked once and not once a page.
#[derive(Debug)]
pub(crate) struct Cursor<'a, I: Iterator<Item = Span<'a, Page>>> {
    spans: I,
    rest: &'a [u8],
}

/// From byte `offset` of `data` on, `len` bytes.
pub(crate) fn cursor(
    data: &Scatter,
    offset: usize,
    len: usize,
) -> Cursor<'_, impl Iterator<Item = Span<'_, Page>>> {
    Cursor { spans: data.range(offset, len), rest: &[] }
}

impl<'a, I: Iterator<Item = Span<'a, Page>>> Cursor<'a, I> {
    /// The next bytes that lie together, at most `max`; empty at the end.
    pub(crate) fn next_bytes(&mut self, max: usize) -> &'a [u8] {
        if self.rest.is_empty() {
            self.rest = self.spans.next().map(|span| span.bytes()).unwrap_or_default();
        }
        let (now, rest) = self.rest.split_at(max.min(self.rest.len()));
        self.rest = rest;
        now
    }

    /// Fills `dst`, as far as there are bytes.
    pub(crate) fn copy_to(&mut self, mut dst: &mut [u8]) {
        while !dst.is_empty() {
            let bytes = self.next_bytes(dst.len());
            if bytes.is_empty() {
                return;
            }
            let (now, rest) = dst.split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            dst = rest;
        }
    }
}
