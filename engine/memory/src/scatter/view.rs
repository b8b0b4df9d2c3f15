//! Looking at a scatter list: sub-ranges, chunks of bytes, and runs for the kernel.

use super::{Handle, Segment, Segments};
use std::iter::FusedIterator;
use std::slice;

/// A piece of one page inside a range that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a, H> {
    /// The page.
    pub page: &'a H,
    /// Where in the page the piece begins, in bytes.
    pub offset: u32,
    /// Its length in bytes, not 0.
    pub len: u32,
}

impl<'a, H: Handle> Span<'a, H> {
    /// The bytes.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        let start = self.offset as usize;
        &self.page[start..start + self.len as usize]
    }
}

/// The pieces of a range, in order. From [`Segments::range`].
#[derive(Clone, Debug)]
pub struct Spans<'a, H> {
    parts: slice::Iter<'a, Segment<H>>,
    /// Bytes still to skip in front.
    skip: usize,
    /// Bytes still to come.
    left: usize,
}

impl<'a, H> Iterator for Spans<'a, H> {
    type Item = Span<'a, H>;

    #[inline]
    fn next(&mut self) -> Option<Span<'a, H>> {
        while self.left > 0 {
            let part = self.parts.next()?;
            let here = part.len.min(u32::try_from(self.skip).unwrap_or(u32::MAX));
            self.skip -= here as usize;
            let rest = part.len - here;
            if rest == 0 {
                continue;
            }
            let len = rest.min(u32::try_from(self.left).unwrap_or(u32::MAX));
            let offset = part.offset + here;
            self.left -= len as usize;
            return Some(Span { page: &part.page, offset, len });
        }
        None
    }
}

impl<H> FusedIterator for Spans<'_, H> {}

/// Bytes that lie together in memory and in one registered region: one buffer for the kernel.
///
/// A run of a [`ScatterMut`](crate::ScatterMut) may also be written through its pointer, while
/// nothing borrows the list; whoever gives it to the kernel keeps the list until the completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first byte.
    pub pointer: *const u8,
    /// The length in bytes, not 0.
    pub len: usize,
    /// Which of [`Arena::regions`](crate::Arena::regions).
    pub region: u16,
}

/// The runs of a range, in order. From [`Segments::runs`].
#[derive(Clone, Debug)]
pub struct Runs<'a, H> {
    spans: Spans<'a, H>,
    next: Option<Run>,
}

impl<H: Handle> Iterator for Runs<'_, H> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let mut run = self.next.take().or_else(|| self.spans.next().map(|span| run_of(&span)))?;
        for span in self.spans.by_ref() {
            let more = run_of(&span);
            if more.region != run.region || run.pointer.wrapping_add(run.len) != more.pointer {
                self.next = Some(more);
                break;
            }
            run.len += more.len;
        }
        Some(run)
    }
}

fn run_of<H: Handle>(span: &Span<'_, H>) -> Run {
    Run {
        pointer: span.page.pointer().wrapping_add(span.offset as usize),
        len: span.len as usize,
        region: span.page.region(),
    }
}

impl<H> Segments<H> {
    /// The pieces that make up `len` bytes from `offset` on; fewer where there are not that many.
    #[inline]
    #[must_use]
    pub fn range(&self, offset: usize, len: usize) -> Spans<'_, H> {
        let left = len.min(self.len.saturating_sub(offset));
        Spans { parts: self.parts.iter(), skip: offset, left }
    }

    /// All pieces.
    #[inline]
    #[must_use]
    pub fn spans(&self) -> Spans<'_, H> {
        self.range(0, self.len)
    }
}

impl<H: Handle> Segments<H> {
    /// The bytes in order, a chunk a part: for digests, comparisons and vectored sends.
    #[inline]
    pub fn chunks(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator + Clone {
        self.parts.iter().map(Segment::bytes)
    }

    /// The same as raw memory, joined where parts lie next to each other in memory: a list taken
    /// at once often is one run, which a single registered-buffer operation moves.
    #[inline]
    #[must_use]
    pub fn runs(&self, offset: usize, len: usize) -> Runs<'_, H> {
        Runs { spans: self.range(offset, len), next: None }
    }

    /// Copies from byte `at` on into `dst`, as much as both have; returns how much.
    pub fn copy_into(&self, dst: &mut [u8], at: usize) -> usize {
        let mut done = 0;
        for span in self.range(at, dst.len()) {
            let bytes = span.bytes();
            dst[done..done + bytes.len()].copy_from_slice(bytes);
            done += bytes.len();
        }
        done
    }

    /// A copy of all the bytes: for tests and small answers.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks().flatten().copied().collect()
    }

    /// Asks the processor to bring the first `lines` cache lines of every part. A hint.
    #[inline]
    pub fn prefetch(&self, lines: usize) {
        for chunk in self.chunks() {
            crate::copy::prefetch(chunk, lines);
        }
    }
}
