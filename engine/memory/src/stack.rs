//! The free list of one shard: a lock-free stack of page indices that knows its depth.
//!
//! A Treiber stack whose head carries a tag against ABA. The depth costs no second counter: each
//! node notes how many nodes lie at and below it, so that the top one knows the free pages of the
//! shard, exactly and at the moment of the exchange. That is what makes the reserve exact too.
//!
//! The arena calls this; it hands out indices and knows nothing of what they index.

use crate::count::Count;
use crate::plan::MAX_PAGES;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The head's index bits; all ones mean an empty stack. The 36 bits above are the tag: a thread
/// would have to sleep between its load and its exchange through exactly a multiple of 2^36
/// operations on this shard (ten minutes at full speed) to be fooled.
const INDEX_BITS: u32 = 28;
const INDEX: u64 = (1 << INDEX_BITS) - 1;
const NONE: u64 = INDEX;
const _: () = assert!(MAX_PAGES as u64 == NONE);

/// What the arena keeps per page, apart from its bytes: sixteen bytes, one line for four pages.
#[derive(Debug)]
pub(crate) struct Node {
    /// While free: the index below (low 32 bits) and the depth from here down (high 32 bits).
    link: AtomicU64,
    /// While shared: how many handles.
    pub(crate) count: Count,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self { link: AtomicU64::new(NONE), count: Count::new() }
    }
}

/// One shard's free pages. Several threads may use it at once.
#[derive(Debug)]
pub(crate) struct FreeStack {
    head: AtomicU64,
    /// Hosts cannot take the stack below this depth.
    reserve: u32,
    /// The least depth there has been. Approximate under contention.
    low: AtomicU32,
}

fn depth_of(link: u64) -> u32 {
    (link >> 32) as u32
}

fn below(link: u64) -> u64 {
    link & INDEX
}

#[expect(clippy::cast_possible_truncation, reason = "28 bits, and usize has at least 32")]
fn slot(index: u64) -> usize {
    index as usize
}

#[expect(clippy::cast_possible_truncation, reason = "28 bits")]
fn page(index: u64) -> u32 {
    index as u32
}

fn link(depth: u32, below: u64) -> u64 {
    (u64::from(depth) << 32) | below
}

/// The head that follows `head` with `index` on top: the tag moves with every change.
fn advance(head: u64, index: u64) -> u64 {
    (head & !INDEX).wrapping_add(1 << INDEX_BITS) | index
}

impl FreeStack {
    /// A stack of these pages; the last of them is on top.
    pub(crate) fn new(nodes: &[Node], pages: impl Iterator<Item = u32>, reserve: u32) -> Self {
        let (mut top, mut depth) = (NONE, 0);
        for index in pages {
            depth += 1;
            nodes[slot(u64::from(index))].link.store(link(depth, top), Ordering::Relaxed);
            top = u64::from(index);
        }
        Self { head: AtomicU64::new(top), reserve, low: AtomicU32::new(depth) }
    }

    /// The part of the reserve kept here.
    pub(crate) fn reserve(&self) -> u32 {
        self.reserve
    }

    /// The least number of free pages so far; near enough for a report.
    pub(crate) fn low(&self) -> u32 {
        self.low.load(Ordering::Relaxed)
    }

    /// The number of free pages.
    pub(crate) fn depth(&self, nodes: &[Node]) -> u32 {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let depth = Self::depth_at(nodes, head);
            match self.unchanged(head) {
                Ok(()) => return depth,
                Err(now) => head = now,
            }
        }
    }

    fn depth_at(nodes: &[Node], head: u64) -> u32 {
        match head & INDEX {
            NONE => 0,
            top => depth_of(nodes[slot(top)].link.load(Ordering::Relaxed)),
        }
    }

    /// Whether links read under `head` were those of that head's stack. A link is stored with
    /// release after the exchange that took its node, so whoever read the later link sees, after
    /// this fence, the later head.
    fn unchanged(&self, head: u64) -> Result<(), u64> {
        fence(Ordering::Acquire);
        let now = self.head.load(Ordering::Acquire);
        if now == head { Ok(()) } else { Err(now) }
    }

    fn note_low(&self, depth: u32) {
        if depth < self.low.load(Ordering::Relaxed) {
            self.low.store(depth, Ordering::Relaxed);
        }
    }

    /// Takes a page, unless `floor` or fewer are free.
    #[inline]
    pub(crate) fn pop(&self, nodes: &[Node], floor: u32) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let top = head & INDEX;
            if top == NONE {
                return None;
            }
            let link = nodes[slot(top)].link.load(Ordering::Relaxed);
            let depth = depth_of(link);
            if depth <= floor {
                match self.unchanged(head) {
                    Ok(()) => return None,
                    Err(now) => head = now,
                }
                continue;
            }
            let next = advance(head, below(link));
            match self.head.compare_exchange_weak(head, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.note_low(depth - 1);
                    return Some(page(top));
                }
                Err(now) => head = now,
            }
        }
    }

    /// Takes up to `want` pages in one exchange, as many as there are above `floor`. Returns how
    /// many; `each` is called with every one, topmost first.
    pub(crate) fn pop_many(&self, nodes: &[Node], floor: u32, want: u32, mut each: impl FnMut(u32)) -> u32 {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let depth = Self::depth_at(nodes, head);
            let count = depth.saturating_sub(floor).min(want);
            if count == 0 {
                match self.unchanged(head) {
                    Ok(()) => return 0,
                    Err(now) => head = now,
                }
                continue;
            }
            // Others may take these nodes meanwhile, and the links then lead anywhere: but to
            // some page or to none, and the exchange below fails.
            let mut rest = head & INDEX;
            for _ in 0..count {
                if rest == NONE {
                    break;
                }
                rest = below(nodes[slot(rest)].link.load(Ordering::Relaxed));
            }
            let next = advance(head, rest);
            match self.head.compare_exchange_weak(head, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.note_low(depth - count);
                    let mut taken = head & INDEX;
                    for _ in 0..count {
                        // Read on before `each`, which may give the page away.
                        let after = below(nodes[slot(taken)].link.load(Ordering::Relaxed));
                        each(page(taken));
                        taken = after;
                    }
                    return count;
                }
                Err(now) => head = now,
            }
        }
    }

    /// Gives back a page that was taken from here.
    #[inline]
    pub(crate) fn push(&self, nodes: &[Node], index: u32) {
        let index = u64::from(index);
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let depth = Self::depth_at(nodes, head);
            // Release: see `unchanged`. A depth read from a node that has gone meanwhile is wrong,
            // and so is the head then: the exchange fails.
            nodes[slot(index)].link.store(link(depth.wrapping_add(1), head & INDEX), Ordering::Release);
            match self.head.compare_exchange_weak(
                head,
                advance(head, index),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Gives back pages that were taken from here, in one exchange. The first comes out first.
    pub(crate) fn push_many(&self, nodes: &[Node], indices: &[u32]) {
        let Some(&first) = indices.first() else { return };
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let mut depth = Self::depth_at(nodes, head);
            let mut top = head & INDEX;
            for &index in indices.iter().rev() {
                depth = depth.wrapping_add(1);
                let index = u64::from(index);
                // Release: as in `push`.
                nodes[slot(index)].link.store(link(depth, top), Ordering::Release);
                top = index;
            }
            let next = advance(head, u64::from(first));
            match self.head.compare_exchange_weak(head, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
