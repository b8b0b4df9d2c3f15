//! The volume in memory: a table of pages, handed out and taken in without a copy.
//!
//! A read gives new handles to the very pages of the table. A write of a whole page puts the page
//! that the data came in into the table. A smaller write changes the page in place, unless a read
//! still sends it: then it goes to a copy, so that a page that was given out never changes.
//!
//! All operations are done before the call returns, which makes each of them atomic.

use crate::check::{self, Extent};
use crate::cursor::cursor;
use crate::outcome::Outcome;
use crate::plan::{Geometry, PlanError};
use kagami_memory::{Class, Page, PageMut, Pool, Purpose, Quota, Scatter, ScatterMut, Slice};
use kagami_types::{BlockError, BlockOp, Compare, Lba, LbaStatus};

const PAGE: u64 = 4096;
/// Reads up to this size have their pages' first lines fetched ahead: longer ones would push
/// each other out again before they are sent.
const PREFETCH_BELOW: u64 = 16 << 10;
/// How many lines of each page.
const PREFETCH_LINES: usize = 8;
const PREFETCH_LINES_LONG: usize = 4;
/// The most descriptors that one GET LBA STATUS is answered with.
const MAX_DESCRIPTORS: u32 = 1024;
/// The most pages that one GET LBA STATUS looks at.
const MAX_LOOKED_AT: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Ram {
    /// One entry per 4 KiB; `None` reads as zeroes.
    table: Vec<Option<Page>>,
    zeroes: Page,
    pub(crate) quota: Quota,
    /// Pages taken ahead of a write, so that it happens wholly or not at all.
    fresh: ScatterMut,
    /// What a comparison reads.
    scratch: Scatter,
}

/// The table's index and the offset in the page of a byte of the volume, whose size was checked
/// against the address space.
#[inline]
fn place(at: u64) -> (usize, usize) {
    ((at / PAGE) as usize, (at % PAGE) as usize)
}

/// How many pages the volume is long.
fn pages(geometry: &Geometry) -> Result<usize, PlanError> {
    let pages = geometry.bytes().div_ceil(PAGE);
    // Eight bytes less than a table entry has: no table could be that long.
    match usize::try_from(pages) {
        Ok(pages) if pages < isize::MAX as usize / size_of::<Option<Page>>() => Ok(pages),
        _ => Err(PlanError::RamSize(geometry.bytes())),
    }
}

impl Ram {
    pub(crate) fn new(geometry: &Geometry, limit: u64, zeroes: Page) -> Result<Self, PlanError> {
        let mut ram = Self {
            table: Vec::new(),
            zeroes,
            quota: Quota::new(limit),
            fresh: ScatterMut::new(),
            scratch: Scatter::new(),
        };
        ram.extend(geometry)?;
        Ok(ram)
    }

    /// Makes the table long enough for that size, with new blocks deallocated, and the quota as much
    /// larger.
    pub(crate) fn grow(&mut self, geometry: &Geometry) -> Result<(), PlanError> {
        let before = self.table.len();
        self.extend(geometry)?;
        self.quota.set_limit(self.quota.limit().saturating_add((self.table.len() - before) as u64));
        Ok(())
    }

    fn extend(&mut self, geometry: &Geometry) -> Result<(), PlanError> {
        let pages = pages(geometry)?;
        let more = pages.saturating_sub(self.table.len());
        self.table.try_reserve_exact(more).map_err(|_| PlanError::RamSize(geometry.bytes()))?;
        self.table.resize_with(pages, || None);
        Ok(())
    }

    /// Asks for the table's entry of a byte, which an operation is soon to look at.
    #[inline]
    pub(crate) fn prefetch_entry(&self, at: u64) {
        if let Some(entry) = self.table.get(place(at).0) {
            kagami_memory::prefetch_value(entry);
        }
    }

    /// Asks for the count of the page that holds a byte.
    #[inline]
    pub(crate) fn prefetch_page(&self, at: u64) {
        if let Some(Some(page)) = self.table.get(place(at).0) {
            page.prefetch_count();
        }
    }

    /// Executes a checked operation.
    #[inline]
    pub(crate) fn execute(
        &mut self,
        pool: &Pool,
        geometry: &Geometry,
        op: BlockOp,
        extent: Extent,
        mut data: Scatter,
    ) -> Outcome {
        match op {
            BlockOp::Read(..) => {
                data.clear();
                self.read(extent, &mut data);
                Outcome { result: Ok(()), data, status: Vec::new() }
            }
            BlockOp::Write(..) => {
                let result = self.write(pool, extent, &mut data);
                Outcome::plain(result, data)
            }
            other => self.execute_rare(pool, geometry, other, extent, data),
        }
    }

    #[cold]
    fn execute_rare(
        &mut self,
        pool: &Pool,
        geometry: &Geometry,
        op: BlockOp,
        extent: Extent,
        mut data: Scatter,
    ) -> Outcome {
        let result = match op {
            BlockOp::Read(..) | BlockOp::Write(..) => Err(BlockError::Unsupported),
            // What was written is what is read: there is nothing between the table and its pages.
            BlockOp::WriteVerify { .. } => self.write(pool, extent, &mut data),
            BlockOp::Verify { against, .. } => match against {
                Compare::Nothing => Ok(()),
                Compare::Data => self.compare(extent, &data, 0),
                Compare::OneBlock => self.compare_repeated(geometry, extent, &data),
            },
            BlockOp::CompareAndWrite(..) => self.compare_and_write(pool, extent, &mut data),
            BlockOp::WriteSame { zeroes, .. } => {
                // Deallocated blocks read as zeroes, so that zeroes never need a page of their own.
                if zeroes || data.is_zero() {
                    self.zero(pool, extent)
                } else {
                    self.write_same(pool, geometry, extent, &data)
                }
            }
            BlockOp::Unmap(ranges) => self.unmap(pool, geometry, &ranges),
            BlockOp::Flush { .. } => Ok(()),
            BlockOp::LbaStatus { lba, descriptors } => {
                let mut outcome = Outcome::plain(Ok(()), data);
                self.status(geometry, lba, descriptors, &mut outcome.status);
                return outcome;
            }
        };
        Outcome::plain(result, data)
    }

    /// Adds the bytes to `data`, as handles to the table's pages.
    #[inline]
    fn read(&self, extent: Extent, data: &mut Scatter) {
        let (mut at, end) = (extent.start, extent.end());
        let lines = if extent.len <= PREFETCH_BELOW { PREFETCH_LINES } else { PREFETCH_LINES_LONG };
        while at < end {
            let (index, offset) = place(at);
            let len = (PAGE - at % PAGE).min(end - at);
            #[expect(clippy::cast_possible_truncation, reason = "at most a page")]
            let (offset, len) = (offset as u32, len as u32);
            match self.table.get(index) {
                Some(Some(page)) => {
                    if let Ok(slice) = Slice::new(page.clone(), offset, len) {
                        kagami_memory::prefetch(slice.bytes(), lines);
                        data.push(slice);
                    }
                }
                _ => data.push_repeated(&self.zeroes, len as usize),
            }
            at += u64::from(len);
        }
    }

    /// Writes the whole of `data`, which is as long as the extent.
    #[inline]
    fn write(&mut self, pool: &Pool, extent: Extent, data: &mut Scatter) -> Result<(), BlockError> {
        let aligned = extent.start.is_multiple_of(PAGE)
            && data
                .parts()
                .iter()
                .all(|part| u64::from(part.len()) == PAGE && part.page().class() == Class::Page);
        if aligned { self.install(extent, data) } else { self.write_bytes(pool, extent, data, 0) }
    }

    /// Puts the data's own pages into the table: every part is a whole page.
    #[inline]
    fn install(&mut self, extent: Extent, data: &mut Scatter) -> Result<(), BlockError> {
        let (first, _) = place(extent.start);
        let count = data.parts().len();
        let Some(entries) = self.table.get_mut(first..first.saturating_add(count)) else {
            return Err(BlockError::OutOfRange);
        };
        let more = entries.iter().filter(|entry| entry.is_none()).count() as u64;
        if more > 0 && !self.quota.try_charge(more) {
            return Err(BlockError::NoSpace);
        }
        for (entry, part) in entries.iter_mut().zip(data.drain()) {
            *entry = Some(part.into_page());
        }
        Ok(())
    }

    /// Copies the extent's length from byte `from` of `data` on: in place, or to new pages. Nothing
    /// has changed on an error.
    fn write_bytes(
        &mut self,
        pool: &Pool,
        extent: Extent,
        data: &Scatter,
        from: usize,
    ) -> Result<(), BlockError> {
        let Ok(len) = usize::try_from(extent.len) else { return Err(BlockError::Unsupported) };
        if len == 0 {
            return Ok(());
        }
        self.prepare(pool, extent)?;
        let mut bytes = cursor(data, from, len);
        let (mut at, end) = (extent.start, extent.end());
        while at < end {
            let (index, offset) = place(at);
            #[expect(clippy::cast_possible_truncation, reason = "at most a page")]
            let len = (PAGE - at % PAGE).min(end - at) as usize;
            if let Some(mut page) = self.writable(index, (len as u64) < PAGE) {
                if let Some(dst) = page.get_mut(offset..offset + len) {
                    bytes.copy_to(dst);
                }
                if let Some(entry) = self.table.get_mut(index) {
                    *entry = Some(page.freeze());
                }
            }
            at += len as u64;
        }
        self.fresh.clear();
        Ok(())
    }

    /// Takes as many new pages as a write to the extent needs, and charges for those that make a
    /// block allocated.
    fn prepare(&mut self, pool: &Pool, extent: Extent) -> Result<(), BlockError> {
        let (mut new, mut copies) = (0, 0);
        let (first, _) = place(extent.start);
        let (end, _) = place(extent.end() + (PAGE - 1));
        for entry in self.table.get(first..end).unwrap_or_default() {
            match entry {
                None => new += 1,
                Some(page) if !page.is_unique() => copies += 1,
                Some(_) => {}
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "pages of one list of data")]
        let bytes = ((new + copies) * PAGE) as usize;
        if !self.fresh.take_more(pool, Purpose::Host, bytes) {
            return Err(BlockError::Busy);
        }
        if new > 0 && !self.quota.try_charge(new) {
            self.fresh.clear();
            return Err(BlockError::NoSpace);
        }
        Ok(())
    }

    /// Takes the entry out to be written: its own page, or a new one with its bytes where they `matter`.
    fn writable(&mut self, index: usize, matter: bool) -> Option<PageMut> {
        let old = match self.table.get_mut(index)?.take().map(Page::try_into_mut) {
            Some(Ok(page)) => return Some(page),
            Some(Err(shared)) => Some(shared),
            None => None,
        };
        let mut page = match self.fresh.pop() {
            Some(part) => part.into_page(),
            None => {
                // Counted ahead, so not reached; what was there stays.
                *self.table.get_mut(index)? = old;
                return None;
            }
        };
        match old {
            Some(old) if matter => page.copy_from_slice(&old),
            None if matter => page.fill(0),
            _ => {}
        }
        Some(page)
    }

    /// Compares the extent with `data` from byte `from` on.
    fn compare(&mut self, extent: Extent, data: &Scatter, from: usize) -> Result<(), BlockError> {
        let Ok(len) = usize::try_from(extent.len) else { return Err(BlockError::Unsupported) };
        let mut scratch = std::mem::take(&mut self.scratch);
        self.read(extent, &mut scratch);
        let difference = data.first_difference_at(from, &scratch, 0, len);
        scratch.clear();
        self.scratch = scratch;
        miscompare(difference)
    }

    /// Compares every block of the extent with the one block of `data`. The offset reported is that
    /// in the block.
    fn compare_repeated(
        &mut self,
        geometry: &Geometry,
        extent: Extent,
        data: &Scatter,
    ) -> Result<(), BlockError> {
        let block = u64::from(geometry.block_size.bytes());
        let mut at = extent.start;
        while at < extent.end() {
            self.compare(Extent { start: at, len: block }, data, 0)?;
            at += block;
        }
        Ok(())
    }

    fn compare_and_write(
        &mut self,
        pool: &Pool,
        extent: Extent,
        data: &mut Scatter,
    ) -> Result<(), BlockError> {
        self.compare(extent, data, 0)?;
        let half = data.len_bytes() / 2;
        self.write_bytes(pool, extent, data, half)
    }

    /// Writes one block all over the extent: whole pages share one page between them.
    fn write_same(
        &mut self,
        pool: &Pool,
        geometry: &Geometry,
        extent: Extent,
        data: &Scatter,
    ) -> Result<(), BlockError> {
        let Some(mut pattern) = pool.take(Class::Page, Purpose::Host) else { return Err(BlockError::Busy) };
        let (first, rest) = pattern.split_at_mut(geometry.block_size.bytes() as usize);
        cursor(data, 0, first.len()).copy_to(first);
        for block in rest.chunks_mut(first.len()) {
            block.copy_from_slice(first);
        }
        let pattern = pattern.freeze();
        let mut repeated = Scatter::new();
        repeated.push_page(pattern.clone());
        self.each_part(extent, |ram, part, whole| match whole {
            false => ram.write_bytes(pool, part, &repeated, 0),
            true => {
                let (first, _) = place(part.start);
                let (end, _) = place(part.end());
                let entries = ram.table.get_mut(first..end).unwrap_or_default();
                let more = entries.iter().filter(|entry| entry.is_none()).count() as u64;
                if more > 0 && !ram.quota.try_charge(more) {
                    return Err(BlockError::NoSpace);
                }
                entries.fill(Some(pattern.clone()));
                Ok(())
            }
        })
    }

    fn unmap(
        &mut self,
        pool: &Pool,
        geometry: &Geometry,
        ranges: &[kagami_types::BlockRange],
    ) -> Result<(), BlockError> {
        for range in ranges {
            self.zero(pool, check::range(geometry, *range)?)?;
        }
        Ok(())
    }

    /// Makes the extent read as zeroes: whole pages are dropped, parts of pages written.
    fn zero(&mut self, pool: &Pool, extent: Extent) -> Result<(), BlockError> {
        let mut zeroes = Scatter::new();
        zeroes.push_page(self.zeroes.clone());
        self.each_part(extent, |ram, part, whole| {
            let (first, _) = place(part.start);
            let (end, _) = place(part.end());
            if whole {
                let mut dropped = 0;
                for entry in ram.table.get_mut(first..end).unwrap_or_default() {
                    dropped += u64::from(entry.take().is_some());
                }
                ram.quota.release(dropped);
                return Ok(());
            }
            match ram.table.get(first) {
                Some(Some(_)) => ram.write_bytes(pool, part, &zeroes, 0),
                _ => Ok(()),
            }
        })
    }

    /// Calls `each` with the part of a page that the extent begins with, the whole pages in the
    /// middle, and the part of a page at its end.
    fn each_part(
        &mut self,
        extent: Extent,
        mut each: impl FnMut(&mut Self, Extent, bool) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let (start, end) = (extent.start, extent.end());
        let inner = start.next_multiple_of(PAGE).min(end);
        let outer = (end - end % PAGE).max(inner);
        for (start, end, whole) in [(start, inner, false), (inner, outer, true), (outer, end, false)] {
            if start < end {
                each(self, Extent { start, len: end - start }, whole)?;
            }
        }
        Ok(())
    }

    /// Lists runs of allocated and deallocated blocks from `lba` on.
    fn status(&self, geometry: &Geometry, lba: Lba, descriptors: u32, status: &mut Vec<LbaStatus>) {
        let per_page = PAGE >> geometry.block_size.shift();
        let (first, _) = place(geometry.block_size.offset(lba));
        let mut at = lba.0;
        for entry in self.table.get(first..).unwrap_or_default().iter().take(MAX_LOOKED_AT) {
            let end = (at - at % per_page + per_page).min(geometry.blocks.0);
            #[expect(clippy::cast_possible_truncation, reason = "at most the blocks of a page")]
            let blocks = (end - at) as u32;
            let deallocated = entry.is_none();
            let full = status.len() >= descriptors.clamp(1, MAX_DESCRIPTORS) as usize;
            match status.last_mut() {
                Some(last)
                    if last.deallocated == deallocated && last.blocks.checked_add(blocks).is_some() =>
                {
                    last.blocks += blocks;
                }
                _ if full => return,
                _ => status.push(LbaStatus { lba: Lba(at), blocks, deallocated }),
            }
            at = end;
        }
    }
}

pub(crate) fn miscompare(difference: Option<usize>) -> Result<(), BlockError> {
    match difference {
        None => Ok(()),
        Some(at) => Err(BlockError::Miscompare(u32::try_from(at).unwrap_or(u32::MAX))),
    }
}
