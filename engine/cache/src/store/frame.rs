//! What the cache knows about one page of a volume, and the arithmetic of sectors.
//!
//! Masks count sectors of 512 bytes, eight to a page, whatever the volume's block is: one rule for both block sizes.

use kagami_memory::Page;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;
/// log2 of it.
pub(crate) const PAGE_SHIFT: u32 = 12;
/// log2 of the bytes that one bit of a mask stands for.
const SECTOR_SHIFT: u32 = 9;
/// All of a page.
pub(crate) const WHOLE: u8 = 0xff;
/// No fill, no flight.
pub(crate) const NONE: u16 = u16::MAX;
/// In no flight, and not to go out in one: an operation that the device does is about to overwrite all of it.
pub(crate) const KEPT: u16 = u16::MAX - 1;
/// Later than every write.
pub(crate) const NEVER: u64 = u64::MAX;

/// A page of a volume in the cache, or its place while it is being read.
///
/// ```text
///           fill        write
///   empty ------> clean <----- dirty <------+
///     |             ^    ---->  |           | overwritten: its blocks are
///     +-- write ----|-----------+  flight   | no longer `flying`
///                   |           v           |
///                   +-------- flying -------+
///                     success         failure
/// ```
#[derive(Debug)]
pub(crate) struct Frame {
    /// The bytes. None while nothing of it is valid.
    pub(crate) page: Option<Page>,
    /// Which sectors hold what the volume holds.
    pub(crate) valid: u8,
    /// Which of these the device does not have yet.
    pub(crate) dirty: u8,
    /// Which of these are on their way to it and were not overwritten since.
    pub(crate) flying: u8,
    /// The last attempt to write it failed.
    pub(crate) failed: bool,
    /// Somebody waits for the flight that it is in.
    pub(crate) wanted: bool,
    /// Reads that wait until all their pages are there.
    pub(crate) pins: u16,
    /// Which fill reads it.
    pub(crate) fill: u16,
    /// Which flight writes it; or that it is kept back.
    pub(crate) flight: u16,
    /// When the oldest write came that no flight has taken.
    pub(crate) stamp: u64,
    /// The same of what its flight has taken.
    pub(crate) flown: u64,
}

impl Frame {
    /// The place of a page of which nothing is known.
    pub(crate) const fn empty() -> Self {
        Self {
            page: None,
            valid: 0,
            dirty: 0,
            flying: 0,
            failed: false,
            wanted: false,
            pins: 0,
            fill: NONE,
            flight: NONE,
            stamp: NEVER,
            flown: NEVER,
        }
    }

    /// Whether it can be forgotten without a loss.
    pub(crate) const fn may_go(&self) -> bool {
        self.dirty == 0 && self.pins == 0 && self.fill == NONE && self.flight == NONE
    }
}

/// A run of bytes of the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Extent {
    /// The pages that it covers whole.
    pub(crate) fn whole_pages(self) -> std::ops::Range<u64> {
        let first = self.start.div_ceil(PAGE);
        first..(self.end >> PAGE_SHIFT).max(first)
    }

    /// The first page that it touches.
    pub(crate) const fn first(self) -> u64 {
        self.start >> PAGE_SHIFT
    }

    /// The page after the last one that it touches.
    pub(crate) const fn last(self) -> u64 {
        self.end.div_ceil(PAGE)
    }

    /// How many pages it touches.
    pub(crate) const fn pages(self) -> u64 {
        if self.start >= self.end { 0 } else { self.last() - self.first() }
    }

    /// Which sectors of a page are in it.
    #[inline]
    pub(crate) fn mask(self, page: u64) -> u8 {
        let base = page << PAGE_SHIFT;
        let start = self.start.clamp(base, base + PAGE) - base;
        let end = self.end.clamp(base, base + PAGE) - base;
        mask(start >> SECTOR_SHIFT, end >> SECTOR_SHIFT)
    }

    /// Whether they have a byte in common.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The sectors from `start` to before `end`.
const fn mask(start: u64, end: u64) -> u8 {
    if start >= end {
        return 0;
    }
    let len = end - start;
    if len >= 8 { WHOLE } else { ((1u8 << len) - 1) << start }
}

/// The first run of sectors of a mask: its start and end within the page, in bytes. None if it is empty.
pub(crate) fn first_run(sectors: u8) -> Option<(u32, u32)> {
    if sectors == 0 {
        return None;
    }
    let start = sectors.trailing_zeros();
    let len = (sectors >> start).trailing_ones();
    Some((start << SECTOR_SHIFT, (start + len) << SECTOR_SHIFT))
}

/// The sectors of those bytes of a page.
pub(crate) const fn sectors(start: u32, end: u32) -> u8 {
    mask((start >> SECTOR_SHIFT) as u64, (end >> SECTOR_SHIFT) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_name_the_sectors_of_a_page() {
        let extent = Extent { start: 512, end: 4096 + 1024 };
        assert_eq!((extent.mask(0), extent.mask(1), extent.mask(2)), (0xfe, 0x03, 0));
        assert_eq!((extent.first(), extent.last(), extent.pages()), (0, 2, 2));
        assert_eq!(Extent { start: 8192, end: 8192 }.pages(), 0);
        assert_eq!(Extent { start: 0, end: 1 << 40 }.mask(77), WHOLE);
    }

    #[test]
    fn runs_of_a_mask_come_in_order() {
        assert_eq!(first_run(0b0110_0001), Some((0, 512)));
        assert_eq!(first_run(0b0110_0000), Some((2560, 3584)));
        assert_eq!(first_run(WHOLE), Some((0, 4096)));
        assert_eq!(first_run(0), None);
        assert_eq!(sectors(2560, 3584), 0b0110_0000);
    }
}
