//! How many pages the data of commands under way have, by logical unit: of the connections of one core.
//!
//! A unit whose device hangs keeps the pages of what it was sent. However many do, the others must find some: so among
//! several units each has a fixed share, and of the rest at most four times what would be left. Who asks for more is told
//! TASK SET FULL, as where there are no pages at all. Pages of the cache are not counted here, but clean ones count as
//! free, since they are given up for hosts.
//!
//! Called by a core's hub when a command's pages are taken, and by its connections when a task ends. One core writes; the
//! counts are atomic only so that they can be shared with connections that may move.

use kagami_types::Lun;
use std::sync::atomic::{AtomicU32, Ordering};

/// The counts.
#[derive(Debug)]
pub(crate) struct Shares {
    used: Box<[AtomicU32]>,
    /// Pages that hosts can have on this core, about.
    pages: u32,
}

impl Shares {
    /// For a core whose hosts have about that many pages.
    pub(crate) fn new(pages: u32) -> Self {
        let used = (0..=Lun::MAX).map(|_| AtomicU32::new(0)).collect();
        Self { used, pages }
    }

    /// Whether a unit, one of `units`, may have `more` pages while about `free()` are left.
    #[inline]
    pub(crate) fn allow(&self, lun: Lun, more: u32, units: usize, free: impl FnOnce() -> u32) -> bool {
        let used = self.used(lun);
        // One command is always served, as far as there are pages.
        if units <= 1 || used == 0 {
            return true;
        }
        let wanted = used.saturating_add(more);
        let fixed = self.pages / 4 / u32::try_from(units).unwrap_or(u32::MAX);
        wanted <= fixed
            || wanted <= free().saturating_sub(more).saturating_sub(self.pages / 4).saturating_mul(4)
    }

    /// It has them.
    #[inline]
    pub(crate) fn take(&self, lun: Lun, pages: u32) {
        self.set(lun, self.used(lun).saturating_add(pages));
    }

    /// They are free again, or not this core's affair any more.
    #[inline]
    pub(crate) fn give(&self, lun: Lun, pages: u32) {
        self.set(lun, self.used(lun).saturating_sub(pages));
    }

    #[inline]
    fn used(&self, lun: Lun) -> u32 {
        self.used.get(lun.index()).map_or(0, |used| used.load(Ordering::Relaxed))
    }

    #[inline]
    fn set(&self, lun: Lun, pages: u32) {
        if let Some(used) = self.used.get(lun.index()) {
            used.store(pages, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lun(number: u16) -> Lun {
        Lun::new(number).unwrap()
    }

    /// Takes all that a unit may have, in commands of `step` pages.
    fn fill(shares: &Shares, who: u16, step: u32, units: usize, free: &mut u32) -> u32 {
        let mut taken = 0;
        while *free >= step && shares.allow(lun(who), step, units, || *free) {
            shares.take(lun(who), step);
            *free -= step;
            taken += step;
        }
        taken
    }

    #[test]
    fn one_alone_has_all_and_two_of_three_leave_enough() {
        let (shares, mut free) = (Shares::new(8192), 8192);
        assert_eq!(fill(&shares, 0, 64, 1, &mut free), 8192);
        let (shares, mut free) = (Shares::new(8192), 8192);
        assert!(fill(&shares, 0, 64, 3, &mut free) > 4500);
        fill(&shares, 1, 64, 3, &mut free);
        assert!(fill(&shares, 2, 64, 3, &mut free) >= 640, "{free}");
    }

    #[test]
    fn a_hundred_hung_ones_of_a_thousand_leave_the_others_commands() {
        let (shares, mut free) = (Shares::new(65_536), 65_536);
        for hung in 0..100 {
            fill(&shares, hung, 64, 1000, &mut free);
        }
        for other in 100..200 {
            assert!(fill(&shares, other, 16, 1000, &mut free) >= 16, "{other}: {free}");
        }
    }

    #[test]
    fn what_is_taken_and_given_back_leaves_nothing() {
        let shares = Shares::new(4096);
        for step in 1..100 {
            shares.take(lun(step % 7), u32::from(step));
        }
        for step in 1..100 {
            shares.give(lun(step % 7), u32::from(step));
        }
        assert!((0..7).all(|who| shares.used(lun(who)) == 0));
    }
}
