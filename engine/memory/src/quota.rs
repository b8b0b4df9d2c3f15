//! Limits on what one volume, device or session may have in use: pages, bytes or slots.
//!
//! A quota belongs to one core, beside the state that it limits; nothing here is atomic. It only
//! counts: who charges gives back.

/// A number in use, with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    used: u64,
    limit: u64,
    peak: u64,
    refused: u64,
}

impl Quota {
    /// Nothing in use yet.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self { used: 0, limit, peak: 0, refused: 0 }
    }

    /// Charges `n`, unless that would pass the limit: then false, and nothing has changed but
    /// [`refused`](Self::refused).
    #[must_use]
    #[inline]
    pub const fn try_charge(&mut self, n: u64) -> bool {
        match self.used.checked_add(n) {
            Some(used) if used <= self.limit => {
                self.used = used;
                if used > self.peak {
                    self.peak = used;
                }
                true
            }
            _ => {
                self.refused = self.refused.wrapping_add(1);
                false
            }
        }
    }

    /// Gives back `n` that were charged. More than are in use is an error of the caller, which
    /// tests catch; it leaves nothing in use.
    #[inline]
    pub const fn release(&mut self, n: u64) {
        debug_assert!(n <= self.used, "more released than was charged");
        self.used = self.used.saturating_sub(n);
    }

    /// How many are in use.
    #[must_use]
    #[inline]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// How many may be.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How many more may be; 0 also where the limit was lowered below what is in use.
    #[must_use]
    #[inline]
    pub const fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// The most that were in use at once.
    #[must_use]
    pub const fn peak(&self) -> u64 {
        self.peak
    }

    /// How many charges were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Changes the limit. What is in use stays; a lower limit only refuses new charges.
    pub const fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_stop_at_the_limit() {
        let mut quota = Quota::new(10);
        assert!(quota.try_charge(7));
        assert!(!quota.try_charge(4));
        assert!(quota.try_charge(3));
        assert_eq!((quota.used(), quota.available(), quota.refused()), (10, 0, 1));
        quota.release(10);
        assert_eq!((quota.used(), quota.peak()), (0, 10));
        assert!(!quota.try_charge(u64::MAX));
    }

    #[test]
    fn a_lowered_limit_takes_nothing_back() {
        let mut quota = Quota::new(10);
        assert!(quota.try_charge(8));
        quota.set_limit(5);
        assert_eq!((quota.used(), quota.available()), (8, 0));
        assert!(!quota.try_charge(1));
        quota.release(4);
        assert!(quota.try_charge(1));
    }

    #[test]
    fn no_sum_overflows() {
        let mut quota = Quota::new(u64::MAX);
        assert!(quota.try_charge(u64::MAX));
        assert!(!quota.try_charge(1));
    }
}
