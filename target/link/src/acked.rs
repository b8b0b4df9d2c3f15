//! Which writes were acknowledged lately: what a write that is to be sent again must not undo.
//!
//! Two writes to the same blocks may be under way at once. When the later one was acknowledged and
//! then the link is lost before the earlier one was, sending the earlier one again would put old
//! data over what was acknowledged. So each acknowledged write is noted, with its place in the order
//! of arrival; the notes are a ring of fixed length, and what fell out of it counts as overlapping
//! everything.

use crate::request::Blocks;
use std::collections::VecDeque;

/// The notes.
#[derive(Debug)]
pub struct Acked {
    notes: VecDeque<(u64, Blocks)>,
    most: usize,
    /// The highest number that fell out.
    forgotten: Option<u64>,
}

impl Acked {
    /// Remembers that many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { notes: VecDeque::with_capacity(most.max(1)), most: most.max(1), forgotten: None }
    }

    /// The write of that number was acknowledged.
    #[inline]
    pub fn note(&mut self, number: u64, blocks: Blocks) {
        if self.notes.len() >= self.most
            && let Some((old, _)) = self.notes.pop_front()
        {
            self.forgotten = self.forgotten.max(Some(old));
        }
        self.notes.push_back((number, blocks));
    }

    /// Whether a later write to any of the blocks of write `number` was, or may have been,
    /// acknowledged.
    #[must_use]
    pub fn overtook(&self, number: u64, blocks: &Blocks) -> bool {
        self.forgotten.is_some_and(|forgotten| forgotten > number)
            || self.notes.iter().any(|(other, acked)| *other > number && acked.overlaps(blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn blocks(first: u64, count: u64) -> Blocks {
        Blocks { first, count }
    }

    #[test]
    fn only_later_writes_to_the_same_blocks_count() {
        let mut acked = Acked::new(8);
        acked.note(3, blocks(0, 8));
        acked.note(7, blocks(8, 8));
        assert!(acked.overtook(2, &blocks(7, 1)));
        assert!(!acked.overtook(3, &blocks(0, 8)), "not itself");
        assert!(!acked.overtook(4, &blocks(0, 8)), "the one noted was earlier");
        assert!(acked.overtook(4, &blocks(0, 9)));
        assert!(!acked.overtook(9, &Blocks::ALL));
    }

    #[test]
    fn what_is_forgotten_counts_as_everywhere() {
        let mut acked = Acked::new(2);
        (0..4).for_each(|at| acked.note(10 + at, blocks(at * 8, 8)));
        assert!(acked.overtook(5, &blocks(1000, 1)), "11 fell out: nobody knows where it was");
        assert!(!acked.overtook(11, &blocks(1000, 1)));
        assert!(acked.overtook(11, &blocks(16, 1)));
    }
}
