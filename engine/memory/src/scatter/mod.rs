//! Scatter lists: parts of pages in order, read as one run of bytes.
//!
//! One type for both kinds of handle. A [`ScatterMut`] is filled by receives or device reads, then
//! frozen into a [`Scatter`], which is shared, sent, written and compared. Both keep their storage
//! when cleared, so that a task slot that owns one allocates only until it has seen its largest
//! command. No list checks a limit of its own: pages are bounded by the pool and quotas.

mod compare;
mod fill;
mod share;
mod view;

pub use view::{Run, Runs, Span, Spans};

use crate::arena::Returns;
use crate::page::{Page, PageMut};
use crate::plan::Class;
use std::ops::Deref;

mod sealed {
    use crate::arena::Returns;
    use crate::page::{Page, PageMut};

    pub trait Sealed {
        /// Drops the handle, and where it was the last, leaves the page to `returns`.
        fn drop_into(self, returns: &mut Returns);
    }

    impl Sealed for Page {
        #[inline]
        fn drop_into(self, returns: &mut Returns) {
            if let Some(place) = self.into_place() {
                returns.add(place);
            }
        }
    }

    impl Sealed for PageMut {
        #[inline]
        fn drop_into(self, returns: &mut Returns) {
            returns.add(self.into_place());
        }
    }
}

/// What both kinds of handle have in common. Implemented by [`Page`] and [`PageMut`] only.
pub trait Handle: Deref<Target = [u8]> + sealed::Sealed {
    /// The first byte; see [`Page::as_ptr`].
    fn pointer(&self) -> *const u8;
    /// See [`Page::region`].
    fn region(&self) -> u16;
    /// See [`Page::class`].
    fn class(&self) -> Class;
}

macro_rules! handle {
    ($type:ty) => {
        impl Handle for $type {
            #[inline]
            fn pointer(&self) -> *const u8 {
                self.as_ptr()
            }
            #[inline]
            fn region(&self) -> u16 {
                <$type>::region(self)
            }
            #[inline]
            fn class(&self) -> Class {
                <$type>::class(self)
            }
        }
    };
}
handle!(Page);
handle!(PageMut);

/// A part of one page, with a handle of its own.
#[derive(Clone, Debug)]
pub struct Segment<H> {
    page: H,
    offset: u32,
    len: u32,
}

/// A readable part of a page.
pub type Slice = Segment<Page>;
/// A writable part of a page; the handle is the whole page's.
pub type SliceMut = Segment<PageMut>;

impl<H: Handle> Segment<H> {
    /// The `len` bytes of a page from `offset` on.
    ///
    /// # Errors
    /// The handle back, where the page has not that many.
    pub fn new(page: H, offset: u32, len: u32) -> Result<Self, H> {
        let end = u64::from(offset) + u64::from(len);
        if end <= page.len() as u64 { Ok(Self { page, offset, len }) } else { Err(page) }
    }

    /// All of a page.
    #[must_use]
    pub fn whole(page: H) -> Self {
        let len = 1 << page.class().shift();
        Self { page, offset: 0, len }
    }

    /// The bytes.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let start = self.offset as usize;
        &self.page[start..start + self.len as usize]
    }

    /// The page that this is a part of.
    #[must_use]
    #[inline]
    pub fn page(&self) -> &H {
        &self.page
    }

    /// Where in the page it begins, in bytes.
    #[must_use]
    #[inline]
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Its length in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has no byte.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives up the part for the handle of its page.
    #[must_use]
    pub fn into_page(self) -> H {
        self.page
    }
}

impl SliceMut {
    /// The bytes, to be written.
    #[must_use]
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.offset as usize;
        &mut self.page[start..start + self.len as usize]
    }

    /// The handle, for its pointer or to fill the rest of the page.
    #[must_use]
    #[inline]
    pub fn page_mut(&mut self) -> &mut PageMut {
        &mut self.page
    }

    /// Ends writing.
    #[must_use]
    #[inline]
    pub fn freeze(self) -> Slice {
        Slice { page: self.page.freeze(), offset: self.offset, len: self.len }
    }
}

/// Parts of pages in order: one logical run of bytes. See [`Scatter`] and [`ScatterMut`].
#[derive(Clone, Debug)]
pub struct Segments<H> {
    /// None of them empty.
    parts: Vec<Segment<H>>,
    /// The sum of the parts' lengths.
    len: usize,
}

/// Shared, read-only bytes.
pub type Scatter = Segments<Page>;
/// Exclusive, writable bytes.
pub type ScatterMut = Segments<PageMut>;

impl<H> Default for Segments<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H> Segments<H> {
    /// No bytes, no storage.
    #[must_use]
    pub const fn new() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }

    /// No bytes, storage for that many parts.
    #[must_use]
    pub fn with_capacity(parts: usize) -> Self {
        Self { parts: Vec::with_capacity(parts), len: 0 }
    }

    /// The number of bytes.
    #[must_use]
    #[inline]
    pub fn len_bytes(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts in order; none is empty.
    #[must_use]
    #[inline]
    pub fn parts(&self) -> &[Segment<H>] {
        &self.parts
    }

    /// How many parts fit without an allocation.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.parts.capacity()
    }

    /// Takes the last part off.
    #[inline]
    pub fn pop(&mut self) -> Option<Segment<H>> {
        let part = self.parts.pop()?;
        self.len -= part.len as usize;
        Some(part)
    }

    /// Takes all parts out in order and keeps the storage.
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = Segment<H>> + '_ {
        self.len = 0;
        self.parts.drain(..)
    }

    /// Moves all parts of `other` behind these; `other` keeps its storage.
    pub fn append(&mut self, other: &mut Self) {
        self.len += std::mem::take(&mut other.len);
        self.parts.append(&mut other.parts);
    }

    /// Cuts off what lies beyond `len` bytes, and drops the handles that are then not needed.
    pub fn truncate(&mut self, len: usize) {
        while self.len > len {
            let Some(last) = self.parts.last_mut() else { return };
            let over = self.len - len;
            match u32::try_from(over) {
                Ok(over) if over < last.len => {
                    last.len -= over;
                    self.len = len;
                }
                _ => {
                    self.len -= last.len as usize;
                    self.parts.pop();
                }
            }
        }
    }

    /// Drops all handles and keeps the storage. Cheaper than dropping the list: the pages go back
    /// together.
    #[inline]
    pub fn clear(&mut self)
    where
        H: Handle,
    {
        self.len = 0;
        match self.parts.len() {
            0 => {}
            1 => drop(self.parts.pop()),
            _ => self.clear_many(),
        }
    }

    fn clear_many(&mut self)
    where
        H: Handle,
    {
        let mut returns = Returns::new();
        for part in self.parts.drain(..) {
            part.page.drop_into(&mut returns);
        }
    }

    /// Puts a part at the end, unless it is empty.
    #[inline]
    fn put(&mut self, part: Segment<H>) {
        if part.len > 0 {
            self.len += part.len as usize;
            self.parts.push(part);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
