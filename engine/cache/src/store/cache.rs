//! The cache of a core: the frames of all its cached volumes, and what they share.

use super::frame::Frame;
use super::plan::{CachePlan, MIN_PAGES, StorePlanError};
use crate::{DirtyMap, Key, Pages, Slot};
use kagami_memory::{Class, Pool};

/// How many pages are asked for before they are looked at.
const AHEAD: u64 = 32;

/// One volume's part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    taken: bool,
    /// Frames.
    pub(crate) pages: u32,
    /// Pages that its reads have reserved.
    held: u32,
    /// Pages read ahead that went unread, since the volume last looked.
    pub(crate) wasted: u32,
    /// The last of them.
    pub(crate) wasted_page: u64,
}

/// The cached pages of all volumes of one core. It is handed to every call of a [`Store`](super::Store).
///
/// Three quarters of it may be dirty, and a quarter held by reads that wait; so what is needed next can always be had by
/// giving up clean pages.
///
/// Of both, a volume among others may take a fixed share, and of the rest as long as it has less than four times what
/// is left ([`Share`]): however many volumes hang with all that they could get, the others find something.
#[derive(Debug)]
pub struct Cache {
    pub(crate) pages: Pages<Frame>,
    pub(crate) dirty: DirtyMap,
    pub(crate) dirty_limit: u32,
    /// Pages that waiting reads and read-ahead may need, reserved before they begin.
    held: u32,
    held_limit: u32,
    rows: Box<[Row]>,
    /// Volumes that have a number.
    volumes: u32,
    margin: u32,
    evictions: u64,
}

impl Cache {
    /// Takes all memory that the index needs now; the pages themselves come from the pool as they are used.
    ///
    /// # Errors
    /// Too few pages.
    pub fn new(plan: &CachePlan) -> Result<Self, StorePlanError> {
        if plan.pages < MIN_PAGES {
            return Err(StorePlanError::Pages(plan.pages));
        }
        Ok(Self::made(plan))
    }

    fn made(plan: &CachePlan) -> Self {
        Self {
            pages: Pages::with_seed(plan.pages, plan.seed),
            dirty: DirtyMap::new(plan.pages, plan.volumes),
            dirty_limit: plan.pages / 4 * 3,
            held: 0,
            held_limit: plan.pages / 4,
            rows: vec![Row::default(); usize::from(plan.volumes)].into_boxed_slice(),
            volumes: 0,
            margin: plan.margin,
            evictions: 0,
        }
    }

    /// A cache for no volume, where none is wanted.
    #[must_use]
    pub fn smallest() -> Self {
        Self::made(&CachePlan { pages: MIN_PAGES, volumes: 0, margin: 0, seed: 0 })
    }

    /// Gives pages back to the pool, as many as can be spared of those asked for: for who could take none for a host.
    /// Returns how many; those that are being sent are free only after that.
    pub fn reclaim(&mut self, pages: u32) -> u32 {
        (0..pages.min(self.pages.capacity())).take_while(|_| self.evict()).fold(0, |count, _| count + 1)
    }

    /// Pages in the cache, and the most that there can be.
    #[must_use]
    pub fn pages(&self) -> (u32, u32) {
        (self.pages.len(), self.pages.capacity())
    }

    /// Dirty pages of all volumes, and the most that there may be.
    #[must_use]
    pub fn dirty(&self) -> (u32, u32) {
        (self.dirty.total(), self.dirty_limit)
    }

    /// Pages that were given up for others.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// A number that no volume has.
    #[must_use]
    pub fn free_number(&self) -> Option<u16> {
        self.rows.iter().position(|row| !row.taken).and_then(|number| u16::try_from(number).ok())
    }

    /// Gives a number to a volume.
    pub(crate) fn enter(&mut self, number: u16) -> Result<(), StorePlanError> {
        match self.rows.get_mut(usize::from(number)) {
            Some(row) if !row.taken => {
                *row = Row { taken: true, ..Row::default() };
                self.volumes += 1;
                Ok(())
            }
            _ => Err(StorePlanError::Number(number)),
        }
    }

    /// Takes it back, with all frames. Dirty ones are lost.
    pub(crate) fn leave(&mut self, number: u16) {
        let slots: Vec<Slot> = self.pages.slots_of(number).collect();
        for slot in slots {
            self.remove(slot);
        }
        let dirty: Vec<_> = self.dirty.runs_in(number, 0..crate::MOST_PAGES).collect();
        for run in dirty {
            self.dirty.clear_run(number, run);
        }
        if let Some(row) = self.rows.get_mut(usize::from(number)) {
            self.volumes -= u32::from(row.taken);
            *row = Row::default();
        }
    }

    /// How many pages a volume may have dirty, at most `most`, once `more` are. One that has none dirty may go beyond it
    /// with one command, so that the largest is served too.
    #[inline]
    pub(crate) fn may_be_dirty(&self, most: u32, more: u32) -> u32 {
        let share = Share { volumes: self.volumes, limit: self.dirty_limit };
        share.of(self.dirty.total() + more).min(most)
    }

    pub(crate) fn row(&mut self, number: u16) -> Option<&mut Row> {
        self.rows.get_mut(usize::from(number))
    }

    /// Pages of a volume.
    pub(crate) fn used_by(&self, number: u16) -> u32 {
        self.rows.get(usize::from(number)).map_or(0, |row| row.pages)
    }

    /// Reserves pages for a volume's read that waits. A read is never refused where no other waits.
    pub(crate) fn hold(&mut self, number: u16, pages: u32) -> bool {
        let share =
            Share { volumes: self.volumes, limit: self.held_limit }.of(self.held.saturating_add(pages));
        let Some(row) = self.rows.get_mut(usize::from(number)) else { return false };
        let shared = row.held == 0 || pages <= share.saturating_sub(row.held);
        let fits = self.held == 0 || shared && pages <= self.held_limit.saturating_sub(self.held);
        if fits {
            self.held += pages;
            row.held += pages;
        }
        fits
    }

    pub(crate) fn unhold(&mut self, number: u16, pages: u32) {
        debug_assert!(pages <= self.held, "more given back than was held");
        self.held = self.held.saturating_sub(pages);
        if let Some(row) = self.rows.get_mut(usize::from(number)) {
            row.held = row.held.saturating_sub(pages);
        }
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    /// The most that one read may hold.
    pub(crate) fn held_limit(&self) -> u32 {
        self.held_limit
    }

    /// Gives up one page. False: none found that may go.
    fn evict(&mut self) -> bool {
        let Some(gone) = self.pages.evict(|_, frame| frame.may_go()) else { return false };
        self.evictions += 1;
        if let Some(row) = self.rows.get_mut(usize::from(gone.key.volume)) {
            row.pages = row.pages.saturating_sub(1);
            if gone.unused {
                row.wasted += 1;
                row.wasted_page = gone.key.page;
            }
        }
        true
    }

    /// Sees to it that there can be that many more frames, by giving up others.
    pub(crate) fn make_room(&mut self, pool: &Pool, more: u32) -> bool {
        let mut tries = 0;
        while self.pages.capacity() - self.pages.len() < more {
            if !self.evict() {
                tries += 1;
                if tries > 16 {
                    return false;
                }
            }
        }
        if self.margin > 0 && self.is_short(pool, self.margin) {
            for _ in 0..2 * more {
                if !self.evict() {
                    break;
                }
            }
        }
        true
    }

    /// Whether the hosts have fewer free pages than that.
    fn is_short(&self, pool: &Pool, margin: u32) -> bool {
        pool.arena().free_for_hosts(Class::Page) < margin
    }

    /// Whether there is too little free for what is only a guess: hardly more than what is left to the hosts, which a full
    /// cache is always near to.
    pub(crate) fn is_tight(&self, pool: &Pool) -> bool {
        self.is_short(pool, self.margin + self.margin / 4)
    }

    #[inline]
    pub(crate) fn find(&self, number: u16, page: u64) -> Option<Slot> {
        self.pages.get(Key { volume: number, page })
    }

    /// Asks the processor for what is known of these pages, the first [`AHEAD`] of them. A hint.
    pub(crate) fn prefetch(&self, number: u16, pages: std::ops::Range<u64>) {
        let pages = pages.start..pages.end.min(pages.start + AHEAD);
        if pages.end - pages.start < 2 {
            return;
        }
        for page in pages.clone() {
            self.pages.prefetch(Key { volume: number, page });
        }
        for page in pages {
            if let Some(slot) = self.find(number, page) {
                self.pages.prefetch_slot(slot);
            }
        }
    }

    /// A volume's frame of a page.
    #[inline]
    pub(crate) fn frame(&mut self, number: u16, page: u64) -> Option<&mut Frame> {
        let slot = self.find(number, page)?;
        Some(&mut self.pages[slot])
    }

    /// A new frame, as `how` says.
    pub(crate) fn insert(&mut self, number: u16, page: u64, frame: Frame, how: Place) -> Option<Slot> {
        let key = Key { volume: number, page };
        let slot = match how {
            Place::Used => self.pages.insert(key, frame),
            Place::Cold => self.pages.insert_cold(key, frame),
            Place::Ahead => self.pages.insert_ahead(key, frame),
        };
        let slot = slot.ok()?;
        if let Some(row) = self.rows.get_mut(usize::from(number)) {
            row.pages += 1;
        }
        Some(slot)
    }

    /// Forgets a frame.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Frame> {
        let number = self.pages.key(slot).volume;
        let frame = self.pages.remove(slot)?;
        if let Some(row) = self.rows.get_mut(usize::from(number)) {
            row.pages = row.pages.saturating_sub(1);
        }
        Some(frame)
    }

    /// What a volume has in the cache and is not dirty goes, but for what waiting reads have found already.
    pub(crate) fn forget_clean(&mut self, number: u16) {
        let slots: Vec<Slot> = self.pages.slots_of(number).collect();
        for slot in slots {
            let frame = &mut self.pages[slot];
            if frame.may_go() {
                self.remove(slot);
            } else if frame.pins == 0 {
                (frame.valid, frame.fill) = (frame.dirty, super::frame::NONE);
            }
        }
    }

    /// A frame may go from now on, or is of no use any more.
    pub(crate) fn settle(&mut self, slot: Slot) {
        let frame = &self.pages[slot];
        if !frame.may_go() {
            return;
        }
        if frame.valid == 0 {
            self.remove(slot);
        } else {
            self.pages.release(slot);
        }
    }
}

/// How something limited is divided among volumes: a quarter of it in fixed shares, the rest by what is left of it.
///
/// A volume that takes all it can get has four times as much as it leaves (a dynamic threshold, as switches divide their
/// buffers among ports). With `n` of them, each has `4 / (4 n + 1)` of the rest: none can be shut out, one alone has most
/// of it, and no list of who uses what is kept. One volume alone has everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) volumes: u32,
    pub(crate) limit: u32,
}

impl Share {
    /// The most that one volume may have when `used` is in use by all, what it is about to take included.
    #[inline]
    pub(crate) fn of(self, used: u32) -> u32 {
        let Self { volumes, limit } = self;
        if volumes <= 1 {
            return limit;
        }
        let fixed = limit / 4;
        let left = (limit - fixed).saturating_sub(used);
        left.saturating_mul(4).min(limit - fixed).max(fixed / volumes)
    }
}

/// Where a new frame comes in the order of eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host used it.
    Used,
    /// A host used it and will not again (DPO).
    Cold,
    /// Read ahead.
    Ahead,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_volume_alone_has_everything_and_two_of_three_leave_enough() {
        assert_eq!(Share { volumes: 1, limit: 900 }.of(900), 900);
        let share = Share { volumes: 3, limit: 900 };
        let mut used = [0u32; 3];
        let take = |used: &mut [u32; 3], who: usize| {
            while used[who] < share.of(used.iter().sum::<u32>() + 1) {
                used[who] += 1;
            }
        };
        take(&mut used, 0);
        assert!((538..=540).contains(&used[0]), "alone among three it has three fifths");
        take(&mut used, 1);
        take(&mut used, 2);
        assert!(used[2] >= 75, "{used:?}");
    }

    proptest! {
        /// However many take all they can get, in whatever steps: the sum stays within the limit, and every other
        /// volume still has its fixed share.
        #[test]
        fn nobody_is_shut_out(volumes in 2u32..1200, limit in 64u32..1_000_000, steps in prop::collection::vec((any::<prop::sample::Index>(), 1u32..5000), 0..200)) {
            let share = Share { volumes, limit };
            let mut used = vec![0u32; volumes as usize];
            for (who, step) in steps {
                let at = who.index(used.len());
                if used[at] + step <= share.of(used.iter().sum::<u32>() + step) {
                    used[at] += step;
                }
            }
            let total: u32 = used.iter().sum();
            prop_assert!(total <= limit);
            let fixed = limit / 4 / volumes;
            prop_assert!(share.of(total) >= fixed);
            for used in used {
                prop_assert!(total - used + fixed <= limit);
            }
        }
    }
}
