//! Which pages of a sparse file are deallocated: what GET LBA STATUS tells (SBC-4 4.7.4), without asking the file system.
//!
//! One bit a page of 4 KiB. Whoever opens the file asks the file system once, before anything is served; from then on the
//! volume keeps the bits itself, as nobody else writes to the file: a page is allocated from the moment on at which a write
//! to any part of it goes to the device, and deallocated when a discard of all of it is done. So what is called deallocated
//! is; what is called mapped may be a hole (a page of zeroes, the rest of a file whose holes were too many to look at).

use kagami_types::{BlockSize, Lba, LbaStatus};

/// What one bit stands for.
const PAGE: u64 = 4096;
/// Words looked at for one answer, so that a question about a huge hole keeps a core for some microseconds only.
const MOST_WORDS: usize = 1 << 14;
/// The largest file whose holes are known (4 TiB takes 128 MiB); of larger ones the part beyond is mapped.
const MOST_BYTES: u64 = 4 << 40;

/// The deallocated pages.
#[derive(Clone, Debug, Default)]
pub struct Holes {
    /// A set bit is a deallocated page.
    words: Vec<u64>,
}

impl Holes {
    /// A file of that many bytes without holes, as far as known yet.
    #[must_use]
    pub fn none(bytes: u64) -> Self {
        let pages = bytes.min(MOST_BYTES) / PAGE;
        Self { words: vec![0; usize::try_from(pages.div_ceil(64)).unwrap_or(0)] }
    }

    /// These bytes are a hole, or were discarded: the pages that lie wholly within are deallocated.
    pub fn discarded(&mut self, offset: u64, len: u64) {
        self.change(offset.div_ceil(PAGE), offset.saturating_add(len) / PAGE, true);
    }

    /// Something is written to these bytes: every page that has some of them is mapped.
    #[inline]
    pub fn written(&mut self, offset: u64, len: u64) {
        self.change(offset / PAGE, offset.saturating_add(len).div_ceil(PAGE), false);
    }

    fn change(&mut self, from: u64, to: u64, hole: bool) {
        let end = to.min(self.words.len() as u64 * 64);
        let mut page = from;
        while page < end {
            // As many as are in one word.
            let until = (page / 64 * 64 + 64).min(end);
            let mask = (u64::MAX >> (64 - (until - page))) << (page % 64);
            if let Some(word) = usize::try_from(page / 64).ok().and_then(|at| self.words.get_mut(at)) {
                *word = if hole { *word | mask } else { *word & !mask };
            }
            page = until;
        }
    }

    /// Where the run of pages of one kind ends in which `page` is, and whether it is deallocated. It may end early, after
    /// the words that one answer may cost.
    fn run(&self, page: u64, budget: &mut usize) -> (u64, bool) {
        let word_of = |page: u64| usize::try_from(page / 64).ok().and_then(|at| self.words.get(at).copied());
        let Some(first) = word_of(page) else { return (u64::MAX, false) };
        let hole = first >> (page % 64) & 1 == 1;
        let mut at = page;
        while *budget > 0 {
            *budget -= 1;
            let Some(word) = word_of(at) else { return (if hole { at } else { u64::MAX }, hole) };
            let others = if hole { !word } else { word } >> (at % 64);
            if others != 0 {
                return (at + u64::from(others.trailing_zeros()), hole);
            }
            at = at / 64 * 64 + 64;
        }
        (at, hole)
    }

    /// The runs from a block on, at most `descriptors` of them and at least one, up to the end of a volume of `bytes`.
    /// They may end before it.
    pub fn tell(
        &self,
        lba: Lba,
        block_size: BlockSize,
        bytes: u64,
        descriptors: u32,
        status: &mut Vec<LbaStatus>,
    ) {
        let mut at = block_size.offset(lba);
        let mut budget = MOST_WORDS;
        for _ in 0..descriptors.max(1) {
            if at >= bytes || budget == 0 {
                break;
            }
            let (end, deallocated) = self.run(at / PAGE, &mut budget);
            let end = end.saturating_mul(PAGE).min(bytes);
            let blocks = (end - at) >> block_size.shift();
            let told = u32::try_from(blocks).unwrap_or(u32::MAX);
            status.push(LbaStatus { lba: Lba(at >> block_size.shift()), blocks: told, deallocated });
            at += u64::from(told) << block_size.shift();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(holes: &Holes, lba: u64, bytes: u64, descriptors: u32) -> Vec<(u64, u32, bool)> {
        let mut status = Vec::new();
        holes.tell(Lba(lba), BlockSize::B512, bytes, descriptors, &mut status);
        status.iter().map(|run| (run.lba.0, run.blocks, run.deallocated)).collect()
    }

    #[test]
    fn a_hole_is_told_until_something_is_written_there() {
        let bytes = 1 << 20;
        let mut holes = Holes::none(bytes);
        assert_eq!(runs(&holes, 0, bytes, 9), [(0, 2048, false)]);
        holes.discarded(8192, 16384);
        assert_eq!(runs(&holes, 0, bytes, 9), [(0, 16, false), (16, 32, true), (48, 2000, false)]);
        assert_eq!(runs(&holes, 20, bytes, 1), [(20, 28, true)]);
        holes.written(12_288 + 512, 512);
        let all = [(0, 16, false), (16, 8, true), (24, 8, false), (32, 16, true), (48, 2000, false)];
        assert_eq!(runs(&holes, 0, bytes, 9), all);
        // Of a discard that begins and ends within pages, those stay mapped.
        holes.discarded(512, 8192);
        assert_eq!(runs(&holes, 0, bytes, 2), [(0, 8, false), (8, 16, true)]);
    }

    #[test]
    fn an_answer_about_much_ends_early() {
        let bytes = 1 << 40;
        let mut holes = Holes::none(bytes);
        holes.discarded(0, bytes);
        let all = runs(&holes, 0, bytes, 100);
        assert_eq!(all, [(0, 1 << 23, true)]);
        assert_eq!(runs(&holes, bytes / 512 - 1, bytes, 100), [((bytes / 512) - 1, 1, true)]);
        assert_eq!(
            runs(&Holes::none(4096), 8, 1 << 20, 2),
            [(8, 2040, false)],
            "what is not known is mapped"
        );
    }

    proptest! {
        #[test]
        fn a_page_is_deallocated_when_all_of_it_was_discarded_last(
            steps in prop::collection::vec((any::<bool>(), 0u64..2000, 1u64..400), 0..60)
        ) {
            let bytes = 1 << 20;
            let mut holes = Holes::none(bytes);
            let mut model = vec![false; 256];
            for (written, block, blocks) in steps {
                let (offset, len) = (block * 512, blocks * 512);
                if written { holes.written(offset, len) } else { holes.discarded(offset, len) }
                for (page, hole) in (0u64..).zip(model.iter_mut()) {
                    let (from, to) = (page * 4096, page * 4096 + 4096);
                    if written && offset < to && from < offset + len {
                        *hole = false;
                    }
                    if !written && offset <= from && to <= offset + len {
                        *hole = true;
                    }
                }
            }
            let all = runs(&holes, 0, bytes, 1000);
            let mut next = 0;
            for (lba, blocks, hole) in all {
                prop_assert_eq!(lba, next);
                next += u64::from(blocks);
                for block in lba..next {
                    prop_assert_eq!(model[usize::try_from(block / 8).unwrap()], hole);
                }
            }
            prop_assert_eq!(next, bytes / 512);
        }
    }
}
