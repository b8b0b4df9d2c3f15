//! Comparing: for VERIFY and COMPARE AND WRITE, zero detection, and tests.

use super::{Handle, Segments};
use crate::copy;

impl<H: Handle> Segments<H> {
    /// Whether every byte is zero. True without any byte.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.chunks().all(copy::is_zero)
    }

    /// Where the bytes first differ from `other`'s. Where one is a prefix of the other, that is the
    /// length of the shorter; `None` where they are equal. The parts may be cut differently.
    #[must_use]
    pub fn first_difference<G: Handle>(&self, other: &Segments<G>) -> Option<usize> {
        self.first_difference_at(0, other, 0, self.len.max(other.len))
    }

    /// The same for `len` bytes from `offset` on here and `other_offset` on there; the result counts
    /// from the first byte compared. COMPARE AND WRITE (SBC-4 5.3) reports it in its sense data.
    #[must_use]
    pub fn first_difference_at<G: Handle>(
        &self,
        offset: usize,
        other: &Segments<G>,
        other_offset: usize,
        len: usize,
    ) -> Option<usize> {
        let mut ours = self.range(offset, len).map(|span| span.bytes());
        let mut theirs = other.range(other_offset, len).map(|span| span.bytes());
        let (mut a, mut b): (&[u8], &[u8]) = (&[], &[]);
        let mut done = 0;
        loop {
            if a.is_empty() {
                a = ours.next().unwrap_or_default();
            }
            if b.is_empty() {
                b = theirs.next().unwrap_or_default();
            }
            let len = a.len().min(b.len());
            if len == 0 {
                return (a.len() != b.len()).then_some(done);
            }
            if let Some(at) = copy::first_difference(&a[..len], &b[..len]) {
                return Some(done + at);
            }
            (a, b) = (&a[len..], &b[len..]);
            done += len;
        }
    }
}

impl<H: Handle, G: Handle> PartialEq<Segments<G>> for Segments<H> {
    /// Whether the bytes are equal, however they are cut.
    fn eq(&self, other: &Segments<G>) -> bool {
        self.len == other.len && self.first_difference(other).is_none()
    }
}

impl<H: Handle> Eq for Segments<H> {}

impl<H: Handle> PartialEq<[u8]> for Segments<H> {
    fn eq(&self, other: &[u8]) -> bool {
        let mut rest = other;
        self.len == other.len()
            && self.chunks().all(|chunk| match rest.split_at_checked(chunk.len()) {
                Some((head, tail)) => {
                    rest = tail;
                    head == chunk
                }
                None => false,
            })
    }
}
