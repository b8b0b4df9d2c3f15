//! Shared lists: building them from parts of pages and of other lists.

use super::{Scatter, Slice};
use crate::page::Page;

impl Scatter {
    /// Puts a part at the end. It joins the last one where it goes on in the same page.
    #[inline]
    pub fn push(&mut self, part: Slice) {
        if let Some(last) = self.parts.last_mut()
            && last.offset + last.len == part.offset
            && last.page.same(&part.page)
        {
            last.len += part.len;
            self.len += part.len as usize;
            return;
        }
        self.put(part);
    }

    /// Puts a whole page at the end.
    #[inline]
    pub fn push_page(&mut self, page: Page) {
        self.push(Slice::whole(page));
    }

    /// Adds `len` bytes of `other` from `offset` on, as new handles to the same pages; fewer where
    /// there are not that many. Returns how many.
    pub fn push_range(&mut self, other: &Self, offset: usize, len: usize) -> usize {
        let before = self.len;
        for span in other.range(offset, len) {
            self.push(Slice { page: span.page.clone(), offset: span.offset, len: span.len });
        }
        self.len - before
    }

    /// Adds `len` bytes that repeat `page` from its start, as often as needed: with a page of
    /// zeroes, unallocated blocks are sent without a zero being written.
    pub fn push_repeated(&mut self, page: &Page, len: usize) {
        let mut left = len;
        while left > 0 {
            let whole = Slice::whole(page.clone());
            let part = whole.len.min(u32::try_from(left).unwrap_or(u32::MAX));
            left -= part as usize;
            self.put(Slice { len: part, ..whole });
        }
    }

    /// Ends sharing: moves all parts to `list`, where this list's handles are the only ones.
    /// Otherwise nothing has changed, and false. A page that is here twice is not the only one.
    #[must_use]
    pub fn try_into_mut(&mut self, list: &mut super::ScatterMut) -> bool {
        if !self.parts.iter().all(|part| part.page.is_unique()) {
            return false;
        }
        for part in self.drain() {
            let (offset, len) = (part.offset, part.len);
            // Unique a moment ago, and only this list could have made another handle.
            if let Ok(page) = part.page.try_into_mut() {
                list.put(super::SliceMut { page, offset, len });
            }
        }
        true
    }
}
