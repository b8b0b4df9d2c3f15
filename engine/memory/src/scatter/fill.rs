//! Writable lists: taking pages, filling them, freezing them.

use super::{Scatter, ScatterMut, SliceMut};
use crate::arena::Pool;
use crate::page::PageMut;
use crate::plan::{Class, Purpose};

impl ScatterMut {
    /// A new list of `bytes` bytes in as many 4 KiB pages as they need, or `None` where the pool
    /// has not that many. The pages hold old data: fill what you expose.
    #[must_use]
    pub fn take(pool: &Pool, purpose: Purpose, bytes: usize) -> Option<Self> {
        let mut list = Self::with_capacity(bytes.div_ceil(Class::Page.bytes()).min(1 << 16));
        list.take_more(pool, purpose, bytes).then_some(list)
    }

    /// Adds `bytes` bytes in as many 4 KiB pages as they need; or false, and nothing has changed,
    /// where the pool has not that many.
    ///
    /// The new pages are in the order of their addresses. Pages that were given back together are
    /// taken together again, but in any order: so neighbours lie beside each other in the list, and
    /// device and network see fewer and longer pieces of memory. A virtual disk with a queue of 256
    /// descriptors has one read of 1 MiB under way where each page is a piece, and many where not.
    #[must_use]
    pub fn take_more(&mut self, pool: &Pool, purpose: Purpose, bytes: usize) -> bool {
        let Ok(count) = u32::try_from(bytes.div_ceil(Class::Page.bytes())) else { return false };
        let before = self.len;
        let parts = self.parts.len();
        let taken = pool.take_many(Class::Page, purpose, count, |page| self.put(SliceMut::whole(page)));
        if taken < count {
            self.parts.truncate(parts);
            self.len = before;
            return false;
        }
        if let Some(new @ [_, _, ..]) = self.parts.get_mut(parts..) {
            new.sort_unstable_by_key(|part| part.page.as_ptr().addr());
        }
        self.truncate(before + bytes);
        true
    }

    /// Puts a part at the end.
    #[inline]
    pub fn push(&mut self, part: SliceMut) {
        self.put(part);
    }

    /// Puts a whole page at the end.
    #[inline]
    pub fn push_page(&mut self, page: PageMut) {
        self.put(SliceMut::whole(page));
    }

    /// The parts, to be written or handed to the kernel.
    #[inline]
    pub fn parts_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut SliceMut> + ExactSizeIterator {
        self.parts.iter_mut()
    }

    /// The bytes in order, to be written, a chunk a part.
    #[inline]
    pub fn chunks_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut [u8]> + ExactSizeIterator {
        self.parts.iter_mut().map(SliceMut::bytes_mut)
    }

    /// The pieces of `len` bytes from `offset` on, to be written; fewer where there are not that many.
    pub fn range_mut(&mut self, offset: usize, len: usize) -> impl Iterator<Item = &mut [u8]> {
        let (mut skip, mut left) = (offset, len);
        self.chunks_mut().filter_map(move |chunk| {
            let here = skip.min(chunk.len());
            skip -= here;
            let take = (chunk.len() - here).min(left);
            left -= take;
            (take > 0).then(|| &mut chunk[here..here + take])
        })
    }

    /// Copies `src` to byte `at` on, as much as there is room for; returns how much.
    pub fn copy_from(&mut self, at: usize, src: &[u8]) -> usize {
        let mut done = 0;
        for chunk in self.range_mut(at, src.len()) {
            chunk.copy_from_slice(&src[done..done + chunk.len()]);
            done += chunk.len();
        }
        done
    }

    /// Like [`copy_from`](Self::copy_from), for pages that were not in use of late and are not read
    /// soon: past the caches where the pieces are long ([`copy_cold`](crate::copy_cold)).
    pub fn copy_cold_from(&mut self, at: usize, src: &[u8]) -> usize {
        let mut done = 0;
        for chunk in self.range_mut(at, src.len()) {
            done += crate::copy::copy_cold(chunk, &src[done..]);
        }
        done
    }

    /// Sets `len` bytes from `offset` on, as many as there are, to zero.
    pub fn zero(&mut self, offset: usize, len: usize) {
        for chunk in self.range_mut(offset, len) {
            chunk.fill(0);
        }
    }

    /// Ends writing: moves all parts to the end of `list`. Both keep their storage, so that
    /// nothing is allocated once they have grown.
    #[inline]
    pub fn freeze_into(&mut self, list: &mut Scatter) {
        if self.is_empty() {
            return;
        }
        list.parts.reserve(self.parts.len());
        for part in self.drain() {
            list.put(part.freeze());
        }
    }

    /// Ends writing, with new storage.
    #[must_use]
    pub fn freeze(mut self) -> Scatter {
        let mut list = Scatter::new();
        self.freeze_into(&mut list);
        list
    }
}
