//! What is dirty, in the order of addresses, and what destage takes next.
//!
//! An elevator with two generations per volume. A *sweep* goes through a volume once from its start to its end and takes
//! all pages that were dirty when it began. What becomes dirty meanwhile waits for the next sweep, behind the sweep and
//! before it alike; so a page that is written again and again keeps nobody waiting, nor does a host that writes just
//! before the sweep. Only what borders on a page that is taken goes with it, since it costs the device nothing.
//!
//! A page that was taken stays dirty until [`DirtyMap::clear`]. If it is marked meanwhile (overwritten), a later sweep
//! takes it again; if writing it failed, [`DirtyMap::retry`] gives it to the next sweep.
//!
//! One map holds what is dirty in all volumes of a core, so memory goes with the dirty pages that the core allows and not
//! with the number of volumes: about 60 bytes for each. The store calls it; it knows nothing of pages' contents.

mod nodes;

#[cfg(test)]
mod tests;

use nodes::{Class, LEVELS, Nodes};
use std::ops::Range;

/// Page numbers must be below this: 1 EiB.
pub const MOST_PAGES: u64 = 1 << (6 * LEVELS);

/// Nodes beyond those of the leaves, so that a few pages can always be marked.
const SPARE_NODES: usize = 2048;

/// Nodes that one page can need: its own path, and that of older pages where it makes the tree higher.
const NODES_A_PAGE: usize = 2 * LEVELS as usize + 1;

/// The elevator of one volume.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    /// The generation that this sweep takes; the other one waits.
    now: Class,
    position: u64,
    dirty: u32,
    /// How high the tree is: grows with the addresses.
    height: u32,
}

/// The dirty pages of a core; see the module.
#[derive(Debug)]
pub struct DirtyMap {
    nodes: Nodes,
    sweeps: Box<[Sweep]>,
    capacity: u32,
    dirty: u32,
}

/// The bits of `range` that lie in its first region, the region, and the rest.
fn split(range: Range<u64>) -> Option<(u64, u64, Range<u64>)> {
    if range.is_empty() {
        return None;
    }
    let region = range.start >> 6;
    let end = range.end.min((region + 1) << 6);
    let len = end - range.start;
    let bits = if len == 64 { u64::MAX } else { ((1 << len) - 1) << (range.start & 63) };
    Some((region, bits, end..range.end))
}

/// Goes through a range region by region.
fn regions(range: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let mut rest = range;
    std::iter::from_fn(move || {
        let (region, bits, after) = split(rest.clone())?;
        rest = after;
        Some((region, bits))
    })
}

/// Nodes that a run can need: the path of its first page, and what the others add to it, as each 64th region begins a
/// node above.
fn nodes_of(pages: &Range<u64>) -> u64 {
    let more = (pages.end.saturating_sub(1) >> 6).saturating_sub(pages.start >> 6);
    NODES_A_PAGE as u64 + more + more.div_ceil(32) + u64::from(more > 0) * u64::from(LEVELS)
}

impl DirtyMap {
    /// For up to `capacity` dirty pages in volumes below `volumes`; all memory is taken now.
    pub fn new(capacity: u32, volumes: u16) -> Self {
        let sweep = Sweep { now: Class::Even, position: 0, dirty: 0, height: 1 };
        let nodes = capacity as usize + capacity as usize / 2 + SPARE_NODES;
        Self {
            nodes: Nodes::new(nodes),
            sweeps: vec![sweep; volumes.into()].into_boxed_slice(),
            capacity,
            dirty: 0,
        }
    }

    /// How many pages of all volumes are dirty.
    pub const fn total(&self) -> u32 {
        self.dirty
    }

    /// How many pages of a volume are dirty.
    pub fn len(&self, volume: u16) -> u32 {
        self.sweeps.get(usize::from(volume)).map_or(0, |sweep| sweep.dirty)
    }

    /// Whether no page of a volume is dirty.
    pub fn is_empty(&self, volume: u16) -> bool {
        self.len(volume) == 0
    }

    /// How many pages can be marked now, wherever they are. Less than the capacity has left only where nearly each dirty
    /// page is 16 MiB from the next.
    #[allow(clippy::cast_possible_truncation, reason = "the smaller of the two fits")]
    pub fn room(&self) -> u32 {
        let nodes = self.nodes.room() / NODES_A_PAGE;
        nodes.min((self.capacity - self.dirty) as usize) as u32
    }

    /// Whether all pages of a run can be marked now, one after the other, where `fresh` of them are not dirty. Of an
    /// empty map that is so for every run that is not longer than the capacity.
    #[must_use]
    pub fn has_room_for(&self, pages: &Range<u64>, fresh: u32) -> bool {
        // Each page is marked only where another's nodes would have room too, wherever it is.
        let nodes = nodes_of(pages).saturating_add(NODES_A_PAGE as u64);
        fresh <= self.capacity - self.dirty && nodes <= self.nodes.room() as u64
    }

    /// A page became dirty, or was overwritten. False, and nothing changed, if there is no room or no such volume.
    #[must_use]
    pub fn mark(&mut self, volume: u16, page: u64) -> bool {
        if page >= MOST_PAGES {
            return false;
        }
        if let Some(sweep) = self.sweeps.get_mut(usize::from(volume))
            && self.dirty < self.capacity
            && let Some(fresh) = self.nodes.mark(volume, page, sweep.now)
        {
            sweep.dirty += u32::from(fresh);
            self.dirty += u32::from(fresh);
            return true;
        }
        self.mark_run(volume, page..page + 1)
    }

    /// Asks the processor for what [`mark`](Self::mark) will look at. A hint.
    #[inline]
    pub fn prefetch(&self, volume: u16, page: u64) {
        if page < MOST_PAGES {
            self.nodes.prefetch(volume, page >> 6);
        }
    }

    /// A run of pages became dirty, all or none. False, and nothing changed, if there is no room or no such volume.
    #[must_use]
    pub fn mark_run(&mut self, volume: u16, pages: Range<u64>) -> bool {
        if pages.is_empty() {
            return true;
        }
        let Some(sweep) = self.sweeps.get(usize::from(volume)) else { return false };
        if pages.end > MOST_PAGES || !self.has_room(volume, &pages) {
            return false;
        }
        let (mut height, now) = (sweep.height, sweep.now);
        while (pages.end - 1) >> (6 * height) != 0 {
            self.nodes.raise(volume, height);
            height += 1;
        }
        let mut added = 0;
        for (region, bits) in regions(pages) {
            let leaf = self.nodes.leaf(volume, region);
            let fresh = bits & !leaf[Class::Dirty as usize];
            added += fresh.count_ones();
            self.nodes.set(volume, height, region, Class::Dirty, fresh);
            self.nodes.set(volume, height, region, now.other(), bits & !leaf[now as usize]);
        }
        self.dirty += added;
        let sweep = &mut self.sweeps[usize::from(volume)];
        sweep.dirty += added;
        sweep.height = height;
        true
    }

    fn has_room(&self, volume: u16, pages: &Range<u64>) -> bool {
        let len = pages.end - pages.start;
        if (self.nodes.room() as u64) < nodes_of(pages) && !self.is_marked(volume, pages.clone()) {
            return false;
        }
        let left = u64::from(self.capacity - self.dirty);
        len <= left || self.clean_in(volume, pages.clone()) <= left
    }

    fn clean_in(&self, volume: u16, pages: Range<u64>) -> u64 {
        let clean = |(region, bits): (u64, u64)| {
            u64::from((bits & !self.nodes.leaf(volume, region)[Class::Dirty as usize]).count_ones())
        };
        regions(pages).map(clean).sum()
    }

    /// Whether the pages are all dirty and wait for a sweep, so that marking them takes no memory.
    fn is_marked(&self, volume: u16, pages: Range<u64>) -> bool {
        regions(pages).all(|(region, bits)| {
            let [_, even, odd] = self.nodes.leaf(volume, region);
            bits & !(even | odd) == 0
        })
    }

    /// A page is clean: its newest version is on the device, or it is no more.
    pub fn clear(&mut self, volume: u16, page: u64) {
        self.clear_run(volume, page..page.saturating_add(1));
    }

    /// A run of pages is clean. Those that were not dirty are no matter. Takes a step for each 64 pages of the run.
    pub fn clear_run(&mut self, volume: u16, pages: Range<u64>) {
        let Some(sweep) = self.sweeps.get_mut(usize::from(volume)) else { return };
        for (region, bits) in regions(pages) {
            let gone = bits & self.nodes.leaf(volume, region)[Class::Dirty as usize];
            sweep.dirty -= gone.count_ones();
            self.dirty -= gone.count_ones();
            for class in [Class::Even, Class::Odd, Class::Dirty] {
                self.nodes.unset(volume, sweep.height, region, class, gone);
            }
        }
    }

    /// Whether a page is dirty.
    pub fn contains(&self, volume: u16, page: u64) -> bool {
        self.nodes.mask(volume, 0, page >> 6, Class::Dirty) & 1 << (page & 63) != 0
    }

    /// The next run for destage, of at most `most` pages: taken from this sweep, with what borders on it after it. The
    /// pages stay dirty until they are cleared. None if every dirty page is taken already.
    pub fn next_run(&mut self, volume: u16, most: u32) -> Option<Range<u64>> {
        let sweep = *self.sweeps.get(usize::from(volume))?;
        let found = self.nodes.next(volume, sweep.height, sweep.now, sweep.position);
        let (now, start) = match found {
            Some(start) => (sweep.now, start),
            None => {
                let next = sweep.now.other();
                (next, self.nodes.next(volume, sweep.height, next, 0)?)
            }
        };
        let mut end = start;
        let last = start + u64::from(most.max(1));
        while end < last {
            let [_, even, odd] = self.nodes.leaf(volume, end >> 6);
            let ones = u64::from(((even | odd) >> (end & 63)).trailing_ones());
            if ones == 0 {
                break;
            }
            end = (end + ones).min(last);
        }
        self.claim(volume, start..end);
        let sweep = self.sweeps.get_mut(usize::from(volume))?;
        (sweep.now, sweep.position) = (now, end);
        Some(start..end)
    }

    /// Takes the pages of a range out of the sweeps, as [`DirtyMap::next_run`] does: for who destages them by himself.
    pub fn claim(&mut self, volume: u16, pages: Range<u64>) {
        let Some(sweep) = self.sweeps.get(usize::from(volume)) else { return };
        for (region, bits) in regions(pages) {
            self.nodes.unset(volume, sweep.height, region, Class::Even, bits);
            self.nodes.unset(volume, sweep.height, region, Class::Odd, bits);
        }
    }

    /// Writing these pages failed: those that are still dirty are for the next sweep. Takes no new memory beyond what
    /// they had.
    pub fn retry(&mut self, volume: u16, pages: Range<u64>) {
        let Some(&Sweep { now, height, .. }) = self.sweeps.get(usize::from(volume)) else { return };
        for (region, bits) in regions(pages) {
            let [dirty, even, odd] = self.nodes.leaf(volume, region);
            self.nodes.set(volume, height, region, now.other(), bits & dirty & !(even | odd));
        }
    }

    /// The dirty runs inside a range, in order, taken for destage or not. A run ends at the end of the range.
    pub fn runs_in(&self, volume: u16, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut rest = range.start..range.end.min(MOST_PAGES);
        std::iter::from_fn(move || {
            let run = self.run_from(volume, rest.clone())?;
            rest.start = run.end;
            Some(run)
        })
    }

    /// The first dirty run inside a range; as the first of [`DirtyMap::runs_in`], for who changes the map between two.
    pub fn run_from(&self, volume: u16, range: Range<u64>) -> Option<Range<u64>> {
        let height = self.sweeps.get(usize::from(volume))?.height;
        if range.is_empty() {
            return None;
        }
        let start = self.nodes.next(volume, height, Class::Dirty, range.start)?;
        if start >= range.end {
            return None;
        }
        let mut end = start;
        while end < range.end {
            let dirty = self.nodes.mask(volume, 0, end >> 6, Class::Dirty);
            let ones = u64::from((dirty >> (end & 63)).trailing_ones());
            if ones == 0 {
                break;
            }
            end = (end + ones).min(range.end);
        }
        Some(start..end)
    }
}
