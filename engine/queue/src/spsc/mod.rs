//! A bounded ring between exactly two threads: one [`Producer`], one [`Consumer`].
//!
//! Each side keeps its own position in plain memory and a copy of the other's, and looks at the
//! other's cache line only when the copy says "full" or "empty". The producer can stage several
//! items and show them with one store; the consumer frees a whole batch with one.
//!
//! Positions count on and wrap around; the slot is the position modulo the capacity, a power of two.
//! Slots from `head` up to `tail` hold items and are the consumer's, the others are the producer's.

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};
use crossbeam_utils::CachePadded;
use std::fmt;
use std::mem::MaybeUninit;

/// The largest capacity.
pub const MAX_CAPACITY: usize = 1 << 24;

struct Shared<T> {
    /// Where the consumer reads next. Stored by the consumer only.
    head: CachePadded<AtomicUsize>,
    /// Where the producer's visible items end. Stored by the producer only.
    tail: CachePadded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: the cells are what keeps this from being `Sync` by itself. A slot is accessed by one side
// at a time (see the module's header), handed over by a release store and an acquire load of `tail`
// or `head`; items thereby move between threads, for which `T: Send` is enough.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position & (self.slots.len() - 1)]
    }

    fn len(&self) -> usize {
        // Each may have moved on since the other was read: a hint, kept in range.
        let head = self.head.load(Ordering::Acquire);
        let tail = self.tail.load(Ordering::Acquire);
        tail.wrapping_sub(head).min(self.slots.len())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both sides are gone, and the counted reference has made all they did visible.
        let mut head = self.head.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Relaxed);
        while head != tail {
            self.slot(head).with_mut(|slot| {
                // SAFETY: slots from `head` to `tail` hold items, and nobody else is left.
                unsafe { (*slot).assume_init_drop() }
            });
            head = head.wrapping_add(1);
        }
    }
}

/// The side that puts items in. Dropping it shows what was staged.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Where the next item goes; ahead of the shared `tail` by what is staged.
    tail: usize,
    /// What the shared `tail` holds.
    published: usize,
    /// A head that the consumer has reached, perhaps long since.
    head: usize,
}

/// The side that takes items out.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// What the shared `head` holds.
    head: usize,
    /// A tail that the producer has published, perhaps long since.
    tail: usize,
}

/// Makes a ring for at least `capacity` items: the next power of two, at least 1 and at most
/// [`MAX_CAPACITY`].
#[must_use]
pub fn channel<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.clamp(1, MAX_CAPACITY).next_power_of_two();
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let producer = Producer { shared: shared.clone(), tail: 0, published: 0, head: 0 };
    (producer, Consumer { shared, head: 0, tail: 0 })
}

impl<T> Producer<T> {
    /// How many items fit in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// How many shown items wait: a hint, as the consumer may be taking some.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether no shown item waits: a hint.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items are staged and not yet shown.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.tail.wrapping_sub(self.published)
    }

    /// Room for more items: at least this many pushes succeed.
    #[must_use]
    pub fn room(&mut self) -> usize {
        self.head = self.shared.head.load(Ordering::Acquire);
        self.capacity() - self.tail.wrapping_sub(self.head)
    }

    /// Puts an item in, which the consumer sees after [`publish`](Self::publish).
    ///
    /// # Errors
    /// The item back, where the ring is full.
    #[inline]
    pub fn stage(&mut self, item: T) -> Result<(), T> {
        if self.tail.wrapping_sub(self.head) >= self.shared.slots.len() {
            // Acquire: the consumer has read the slots that this head gives back.
            self.head = self.shared.head.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head) >= self.shared.slots.len() {
                return Err(item);
            }
        }
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: `tail` is less than a capacity ahead of a head that the consumer has passed,
            // and not published: the slot is the producer's, of which there is one, and holds no
            // item.
            unsafe { (*slot).write(item) };
        });
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Shows the consumer everything staged so far. Whether it must be woken is the doorbell's
    /// question, to be asked after this.
    #[inline]
    pub fn publish(&mut self) {
        if self.published != self.tail {
            // Release: the consumer that sees this tail sees the items.
            self.shared.tail.store(self.tail, Ordering::Release);
            self.published = self.tail;
        }
    }

    /// Puts an item in and shows it, with whatever was staged.
    ///
    /// # Errors
    /// The item back, where the ring is full; what was staged is shown all the same.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        let result = self.stage(item);
        self.publish();
        result
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.publish();
    }
}

impl<T> Consumer<T> {
    /// How many items fit in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// How many items can be taken: at least this many, as the producer may be adding some.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.tail.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// Whether there is nothing to take right now. After
    /// [`Doorbell::prepare_sleep`](crate::Doorbell::prepare_sleep) this is what must be asked.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where items end for now; looks at the producer's line only if the last look is used up.
    #[inline]
    fn refresh(&mut self) -> bool {
        if self.head == self.tail {
            // Acquire: the items before this tail are there.
            self.tail = self.shared.tail.load(Ordering::Acquire);
        }
        self.head != self.tail
    }

    /// Takes the item at `head`.
    ///
    /// # Safety
    /// `head` is not `tail`, and moves on before the next call and before the producer sees it.
    #[inline]
    unsafe fn read(&self) -> T {
        self.shared.slot(self.head).with(|slot| {
            // SAFETY: the slot lies before a published tail and was not read yet, as the caller
            // says: it holds an item, and is the consumer's, of which there is one.
            unsafe { (*slot).assume_init_read() }
        })
    }

    /// Takes the next item.
    #[inline]
    #[must_use]
    pub fn pop(&mut self) -> Option<T> {
        if !self.refresh() {
            return None;
        }
        // SAFETY: `refresh` has found an item, and `head` moves on right here.
        let item = unsafe { self.read() };
        self.head = self.head.wrapping_add(1);
        // Release: the slot has been read when the producer sees it free.
        self.shared.head.store(self.head, Ordering::Release);
        Some(item)
    }

    /// Takes up to `max` items in order and gives each to `each`; the producer sees the room once,
    /// at the end. Returns how many.
    #[inline]
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(T)) -> usize {
        if max == 0 || !self.refresh() {
            return 0;
        }
        let count = self.tail.wrapping_sub(self.head).min(max);
        let batch = Batch(self);
        for _ in 0..count {
            // SAFETY: fewer than `tail - head` items were taken so far, and `head` moves on before
            // anything else happens.
            let item = unsafe { batch.0.read() };
            batch.0.head = batch.0.head.wrapping_add(1);
            each(item);
        }
        drop(batch);
        count
    }
}

/// Shows the producer what was taken, also where the consumer's closure panics.
struct Batch<'a, T>(&'a mut Consumer<T>);

impl<T> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        // Release: the slots have been read when the producer sees them free.
        self.0.shared.head.store(self.0.head, Ordering::Release);
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({} + {} staged of {})", self.len(), self.staged(), self.capacity())
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({} of {})", self.len(), self.capacity())
    }
}
