//! Which pages have their room on a device that finds it as it is written: a sparse file.
//!
//! A write to such a page may fail for want of room when it is destaged, long after it was answered. So it goes to the
//! device before it is answered, whatever the mode, until the page is known to have its room: then it is as any other.
//! What a discard gives back is not known any more. One bit a page, taken at the start.

use super::frame::Extent;
use std::ops::Range;

/// Pages beyond which a volume keeps no bits (4 TiB): there every write to it goes to the device first.
const MOST_PAGES: u64 = 1 << 30;

/// What is known at the start of the room that a volume's blocks have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// Every block has it, and keeps it: a block device.
    #[default]
    Sure,
    /// It is found as blocks are written, and given back when they are discarded: a file. Whether all blocks have it now.
    AsWritten {
        /// They do.
        now: bool,
    },
}

#[derive(Debug)]
pub(super) struct Space {
    /// None: every page has its room.
    known: Option<Vec<u64>>,
}

impl Space {
    pub(super) fn new(room: Room, pages: u64) -> Self {
        let Room::AsWritten { now } = room else { return Self { known: None } };
        let words = usize::try_from(pages.min(MOST_PAGES).div_ceil(64)).unwrap_or(0);
        Self { known: Some(vec![if now { u64::MAX } else { 0 }; words]) }
    }

    /// The volume has grown: nothing is known of what is new.
    pub(super) fn grow(&mut self, pages: u64) {
        if let Some(known) = &mut self.known {
            let words = usize::try_from(pages.min(MOST_PAGES).div_ceil(64)).unwrap_or(0);
            known.resize(words.max(known.len()), 0);
        }
    }

    /// Whether all those pages have their room.
    #[inline]
    pub(super) fn has(&self, pages: &Range<u64>) -> bool {
        let Some(known) = &self.known else { return true };
        let mut pages = pages.clone();
        pages.all(|page| {
            let word = usize::try_from(page / 64).ok().and_then(|at| known.get(at));
            word.is_some_and(|word| word >> (page % 64) & 1 == 1)
        })
    }

    /// The device has taken a write: the pages that it covers whole have their room.
    #[inline]
    pub(super) fn written(&mut self, extent: Extent) {
        if self.known.is_some() {
            self.change(extent.whole_pages(), true);
        }
    }

    /// The device may have given back the room of those pages.
    pub(super) fn discarded(&mut self, pages: Range<u64>) {
        self.change(pages, false);
    }

    fn change(&mut self, pages: Range<u64>, has: bool) {
        let Some(known) = &mut self.known else { return };
        let end = pages.end.min(known.len() as u64 * 64);
        let mut page = pages.start;
        while page < end {
            // As many as are in one word.
            let until = (page / 64 * 64 + 64).min(end);
            let mask = (u64::MAX >> (64 - (until - page))) << (page % 64);
            if let Some(word) = usize::try_from(page / 64).ok().and_then(|at| known.get_mut(at)) {
                *word = if has { *word | mask } else { *word & !mask };
            }
            page = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_come_and_go_by_whole_pages() {
        let mut space = Space::new(Room::AsWritten { now: false }, 200);
        assert!(!space.has(&(0..1)) && space.has(&(5..5)));
        space.written(Extent { start: 4096 * 60 + 512, end: 4096 * 131 });
        assert!(!space.has(&(60..61)) && space.has(&(61..131)) && !space.has(&(130..132)));
        space.discarded(64..65);
        assert!(space.has(&(61..64)) && !space.has(&(64..65)) && space.has(&(65..131)));
        space.grow(300);
        assert!(!space.has(&(299..300)));
        space.written(Extent { start: 4096 * 299, end: 4096 * 300 });
        assert!(space.has(&(299..300)));
        space.discarded(0..u64::MAX);
        assert!(!space.has(&(61..62)));
    }

    #[test]
    fn a_device_has_it_and_so_has_a_full_file() {
        assert!(Space::new(Room::Sure, 10).has(&(0..10)));
        let mut full = Space::new(Room::AsWritten { now: true }, 10);
        assert!(full.has(&(0..10)));
        full.discarded(3..4);
        assert!(!full.has(&(0..10)) && full.has(&(4..10)));
    }
}
