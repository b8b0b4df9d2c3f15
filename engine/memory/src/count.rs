//! The count of handles to a shared page.
//!
//! Orderings are those of a shared pointer: a new handle needs none, since whoever makes one has
//! one; the last to go must see what all the others did.

use crate::sync::{AtomicU32, Ordering, fence};

/// How many handles name a page. Means something only while the page is shared.
#[derive(Debug)]
pub(crate) struct Count(AtomicU32);

/// Above this a count could only be a leak of handles, and would in time wrap to a use after free.
const LIMIT: u32 = u32::MAX / 2;

impl Count {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The page becomes shared, with one handle.
    #[inline]
    pub(crate) fn start(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// One handle more.
    #[inline]
    pub(crate) fn add(&self) {
        if self.0.fetch_add(1, Ordering::Relaxed) > LIMIT {
            // Going on would free a page that is in use; nothing can be unwound here.
            std::process::abort();
        }
    }

    /// One handle less. True for the last: the caller then owns the page.
    #[inline]
    pub(crate) fn release(&self) -> bool {
        // The only handle cannot be cloned while it is being dropped: no need for a locked
        // instruction, which is half the cost of giving a page back.
        if self.is_unique() {
            return true;
        }
        if self.0.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        fence(Ordering::Acquire);
        true
    }

    /// Whether the caller's handle is the only one. Whatever other handles did before they went
    /// is then visible here.
    #[inline]
    pub(crate) fn is_unique(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    /// The number of handles, for reports.
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::Count;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    struct Model {
        count: Count,
        bytes: UnsafeCell<u32>,
    }

    // SAFETY: the cell is read by those who have a handle and written by the last, which is what the
    // test is about.
    unsafe impl Sync for Model {}
    // SAFETY: as above.
    unsafe impl Send for Model {}

    impl Model {
        fn read(&self) {
            // SAFETY: the caller has a handle.
            self.bytes.with(|bytes| assert!(unsafe { *bytes } < 2));
        }

        fn drop_handle(&self) -> bool {
            self.read();
            let last = self.count.release();
            if last {
                // SAFETY: the caller was the last; loom reports a reader whose end it does not see.
                self.bytes.with_mut(|bytes| unsafe { *bytes += 1 });
            }
            last
        }
    }

    #[test]
    fn the_last_handle_owns_the_page() {
        loom::model(|| {
            let model = Arc::new(Model { count: Count::new(), bytes: UnsafeCell::new(0) });
            model.count.start();
            model.count.add();
            let other = model.clone();
            let thread = thread::spawn(move || {
                other.count.add();
                other.read();
                let first = other.drop_handle();
                assert!(!first);
                other.drop_handle()
            });
            let unique = model.count.is_unique();
            if unique {
                // SAFETY: this is the only handle, as `try_into_mut` finds.
                model.bytes.with_mut(|bytes| unsafe { *bytes += 1 });
            }
            let mine = model.drop_handle();
            let theirs = thread.join().unwrap();
            assert!(mine != theirs);
            assert!(!unique || mine);
        });
    }
}
