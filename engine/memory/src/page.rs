//! Handles to pages: one that is exclusive and writable, one that is counted and read only.
//!
//! A page goes back to its free list when its last handle is dropped, on whatever core that is.
//! Every rule about who may write a page is one of these two types: "a page that a journal frame,
//! a destage or a send still names is never written again" is a [`Page`] that was cloned.

use crate::arena::{Arena, Place};
use crate::copy;
use crate::plan::Class;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// A page that only this handle names.
///
/// Its bytes are initialised as far as the language is concerned, but a page that was just taken
/// holds what its last owner left: fill what you expose.
pub struct PageMut(Place);

/// A page that any number of handles name and nobody writes. Cloning counts, and copies nothing.
pub struct Page(Place);

macro_rules! common {
    ($handle:ty) => {
        impl $handle {
            /// The page's size class.
            #[must_use]
            #[inline]
            pub fn class(&self) -> Class {
                self.0.class
            }

            /// The page's number within its class, below [`Arena::total`]: for tables beside the arena.
            #[must_use]
            #[inline]
            pub fn index(&self) -> u32 {
                self.0.index
            }

            /// The size in bytes.
            #[expect(clippy::len_without_is_empty, reason = "no page is empty")]
            #[must_use]
            #[inline]
            pub fn len(&self) -> usize {
                self.0.class.bytes()
            }

            /// Which of [`Arena::regions`] the page lies in, for I/O on registered buffers.
            #[must_use]
            #[inline]
            pub fn region(&self) -> u16 {
                self.0.region()
            }

            /// The arena that the page is of.
            #[must_use]
            pub fn arena(&self) -> Arena {
                Arena::of(self.0)
            }

            /// The first byte. The page stays while a handle does; reading it is sound only while
            /// nothing (the kernel included) writes it.
            #[must_use]
            #[inline]
            pub fn as_ptr(&self) -> *const u8 {
                self.0.pointer()
            }

            /// Asks the processor to bring the first `lines` cache lines of 64 bytes. A hint.
            #[inline]
            pub fn prefetch(&self, lines: usize) {
                copy::prefetch(self, lines);
            }
        }

        impl Deref for $handle {
            type Target = [u8];

            #[inline]
            fn deref(&self) -> &[u8] {
                // SAFETY: the place names a page of `len` bytes inside a mapping that is never
                // unmapped and was zeroed at first. A `PageMut` is the only handle of its page, and
                // borrowed here; of a `Page` there are only others that read.
                unsafe { std::slice::from_raw_parts(self.0.pointer(), self.len()) }
            }
        }

        impl AsRef<[u8]> for $handle {
            #[inline]
            fn as_ref(&self) -> &[u8] {
                self
            }
        }
    };
}

common!(PageMut);
common!(Page);

impl PageMut {
    /// The caller has just taken the page from its free list.
    #[inline]
    pub(crate) fn own(place: Place) -> Self {
        Self(place)
    }

    /// The first byte, to be written through. Writing is sound while this handle lives, neither
    /// frozen nor borrowed: whoever gives the pointer to the kernel keeps the handle until the
    /// completion.
    #[must_use]
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.pointer()
    }

    /// Ends writing: the page can now be shared.
    #[must_use]
    #[inline]
    pub fn freeze(self) -> Page {
        let place = ManuallyDrop::new(self).0;
        place.node().count.start();
        Page(place)
    }
}

impl PageMut {
    /// Gives up the handle. The caller puts the page on its free list.
    #[inline]
    pub(crate) fn into_place(self) -> Place {
        ManuallyDrop::new(self).0
    }
}

impl Page {
    /// Gives up the handle. Where it was the last, the caller puts the page on its free list.
    #[inline]
    pub(crate) fn into_place(self) -> Option<Place> {
        let place = ManuallyDrop::new(self).0;
        place.node().count.release().then_some(place)
    }
}

impl DerefMut for PageMut {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; this handle is the page's only one, and mutably borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.0.pointer(), self.0.class.bytes()) }
    }
}

impl AsMut<[u8]> for PageMut {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Drop for PageMut {
    #[inline]
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl Page {
    /// Whether this is the only handle.
    #[must_use]
    #[inline]
    pub fn is_unique(&self) -> bool {
        self.0.node().count.is_unique()
    }

    /// How many handles there are: for reports, as it may change at any moment.
    #[must_use]
    pub fn handles(&self) -> u32 {
        self.0.node().count.get()
    }

    /// Asks the processor to bring the handle's count, which cloning and dropping change: for many pages
    /// at random, that is a cache miss each. A hint.
    #[inline]
    pub fn prefetch_count(&self) {
        copy::prefetch_value(self.0.node());
    }

    /// The page to write again, where this is the only handle.
    ///
    /// # Errors
    /// The handle back, where there are others.
    #[inline]
    pub fn try_into_mut(self) -> Result<PageMut, Self> {
        if !self.is_unique() {
            return Err(self);
        }
        Ok(PageMut(ManuallyDrop::new(self).0))
    }

    /// Whether both handles name the same page.
    #[must_use]
    #[inline]
    pub fn same(&self, other: &Self) -> bool {
        std::ptr::eq(self.0.pointer(), other.0.pointer())
    }
}

impl Clone for Page {
    #[inline]
    fn clone(&self) -> Self {
        self.0.node().count.add();
        Self(self.0)
    }
}

impl Drop for Page {
    #[inline]
    fn drop(&mut self) {
        if self.0.node().count.release() {
            self.0.give_back();
        }
    }
}

impl From<PageMut> for Page {
    fn from(page: PageMut) -> Self {
        page.freeze()
    }
}

impl fmt::Debug for PageMut {
    /// Names the page and never shows its bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageMut({:?} {})", self.class(), self.index())
    }
}

impl fmt::Debug for Page {
    /// Names the page and never shows its bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({:?} {} x{})", self.class(), self.index(), self.handles())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::plan::{ArenaPlan, HugePages, Purpose};

    fn arena() -> Arena {
        Arena::new(ArenaPlan::new(1).with(Class::Page, 2, 0), HugePages::Off).unwrap()
    }

    #[test]
    fn the_last_handle_gives_the_page_back() {
        let arena = arena();
        let mut page = arena.pool(0).take(Class::Page, Purpose::Host).unwrap();
        page[0] = 9;
        let index = page.index();
        let page = page.freeze();
        let other = page.clone();
        assert!(page.same(&other) && !page.is_unique() && page.handles() == 2);
        let page = page.try_into_mut().unwrap_err();
        drop(other);
        assert_eq!(arena.free(Class::Page), 1);
        let mut page = page.try_into_mut().unwrap();
        assert_eq!((page[0], page.index(), arena.free(Class::Page)), (9, index, 1));
        page.as_mut()[0] = 10;
        let page = Page::from(page);
        assert_eq!((page.as_ref()[0], page.arena().free(Class::Page)), (10, 1));
        drop(page);
        assert_eq!(arena.free(Class::Page), 2);
    }

    #[test]
    fn a_page_keeps_its_bytes_until_somebody_writes() {
        let arena = arena();
        let pool = arena.pool(0);
        let mut page = pool.take(Class::Page, Purpose::Host).unwrap();
        page.fill(3);
        let pointer = page.as_mut_ptr();
        drop(page);
        let page = pool.take(Class::Page, Purpose::Host).unwrap();
        assert_eq!((page.as_ptr(), page[4095]), (pointer.cast_const(), 3));
        page.prefetch(1000);
    }

    #[test]
    fn reports_name_the_page_and_not_its_bytes() {
        let mut page = arena().pool(0).take(Class::Page, Purpose::Host).unwrap();
        page[..6].copy_from_slice(b"secret");
        assert_eq!(format!("{page:?}"), "PageMut(Page 0)");
        assert_eq!(format!("{:?}", page.freeze()), "Page(Page 0 x1)");
    }

    #[test]
    fn handles_are_small_and_have_a_niche() {
        assert_eq!((size_of::<Page>(), size_of::<Option<PageMut>>()), (16, 16));
    }
}
