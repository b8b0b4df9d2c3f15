//! Admission of host writes by how much is dirty: no cliff when the cache fills, no burst when it empties.
//!
//! Below the soft limit writes are free. Between the limits a page costs a growing share of a *credit*, at the hard
//! limit a whole one; destage pays one credit for each page that it made clean. So with destage at rate `d` and hosts
//! that would write faster, they are slowed to about `d / share`: at the soft limit not at all, at the hard limit to
//! the speed of the devices, and evenly between.
//!
//! Writes may run a debt, a small share (a 128th) of the room left below the hard limit: a device that pauses for a moment (a flush,
//! its own housekeeping) is not felt by hosts as long as there is room. What was saved up while little was dirty is
//! bounded by [`BURST`].
//!
//! It has no clock and queues nothing: who is refused waits in the caller's order and asks again after a
//! [`credit`](Throttle::credit). The store calls it, once per host write.

/// How many credits may be saved, in pages: 1 MiB.
pub const BURST: u32 = 256;

/// A debt may be the room below the hard limit divided by this. Larger debts make a knee in the rate where they are used
/// up; with this one a device that stops altogether is felt when an eighth of the room between the limits is used.
const DEBT: u32 = 128;

/// Credits are counted in such fractions.
const UNIT: u64 = 1024;

/// Decides which writes may go on; see the module.
#[derive(Clone, Debug)]
pub struct Throttle {
    soft: u32,
    hard: u32,
    /// Credits less debts, in `1 / UNIT`.
    balance: i64,
}

impl Throttle {
    /// A throttle between two numbers of dirty pages. A hard limit below the soft one counts as equal to it: then every
    /// write needs its credits as soon as the limit is reached.
    pub const fn new(soft: u32, hard: u32) -> Self {
        let hard = if hard < soft { soft } else { hard };
        Self { soft, hard, balance: 0 }
    }

    /// Moves the limits, as when a volume joins the core or leaves it. Credits and debts stay.
    pub fn set_limits(&mut self, soft: u32, hard: u32) {
        let Self { soft, hard, .. } = Self::new(soft, hard);
        (self.soft, self.hard) = (soft, hard);
    }

    /// Whether a write of `pages` may go on while `dirty` pages are dirty. If so it has paid.
    ///
    /// A write that is refused costs nothing. With nothing dirty every write is admitted, so a refused write is admitted
    /// at the latest when destage has made all clean; and one whose turn it is needs a balance above the allowed debt
    /// and not its whole price, so that a large write is not passed by small ones for ever.
    #[must_use]
    pub fn admit(&mut self, pages: u32, dirty: u32) -> bool {
        if dirty < self.soft || dirty == 0 {
            // A debt made above the soft limit was room used, and that room is back.
            self.balance = self.balance.max(0);
            return true;
        }
        let room = self.hard.saturating_sub(dirty);
        let debt = i64::from(room / DEBT) * UNIT.cast_signed();
        let price = self.price(dirty);
        if price != 0 && self.balance + debt <= 0 {
            return false;
        }
        self.balance -= (u64::from(pages) * price).cast_signed();
        true
    }

    /// Destage made `pages` clean.
    pub fn credit(&mut self, pages: u32) {
        let most = u64::from(BURST) * UNIT;
        self.balance = (self.balance + (u64::from(pages) * UNIT).cast_signed()).min(most.cast_signed());
    }

    /// The price of a page in `1 / UNIT` credits.
    fn price(&self, dirty: u32) -> u64 {
        if dirty >= self.hard {
            return UNIT;
        }
        u64::from(dirty - self.soft) * UNIT / u64::from(self.hard - self.soft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn below_the_soft_limit_all_is_free() {
        let mut throttle = Throttle::new(100, 200);
        assert!((0..10_000).all(|_| throttle.admit(64, 99)));
    }

    #[test]
    fn at_the_hard_limit_a_write_needs_its_credits() {
        let mut throttle = Throttle::new(100, 200);
        assert!(!throttle.admit(1, 200));
        throttle.credit(1);
        assert!(throttle.admit(1, 200));
        assert!(!throttle.admit(1, 200));
        // A large write goes on with the first credit and leaves a debt that the next ones wait for.
        throttle.credit(1);
        assert!(throttle.admit(64, 200));
        throttle.credit(63);
        assert!(!throttle.admit(1, 200));
        throttle.credit(1);
        assert!(throttle.admit(1, 200));
    }

    #[test]
    fn little_is_saved_up() {
        let mut throttle = Throttle::new(100, 200);
        throttle.credit(1_000_000);
        let admitted = (0..).take_while(|_| throttle.admit(1, 300)).count();
        assert_eq!(admitted, BURST as usize);
    }

    #[test]
    fn limits_in_the_wrong_order_are_one_limit() {
        let mut throttle = Throttle::new(100, 10);
        assert!(throttle.admit(1, 99));
        assert!(!throttle.admit(1, 100));
    }

    /// Hosts that write `host` pages each step against a device of `device` pages each step: what is admitted
    /// each step, and the dirty pages after it.
    fn run(host: u32, device: u32, steps: usize) -> Vec<(u32, u32)> {
        let (mut throttle, mut dirty) = (Throttle::new(10_000, 50_000), 0_u32);
        let step = |_| {
            let done = device.min(dirty);
            throttle.credit(done);
            dirty -= done;
            let admitted = (0..host).take_while(|_| {
                let go = throttle.admit(1, dirty);
                dirty += u32::from(go);
                go
            });
            let admitted = u32::try_from(admitted.count()).unwrap();
            (admitted, dirty)
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn the_rate_falls_evenly_to_that_of_the_device() {
        let steps = run(400, 100, 5000);
        assert!(steps.iter().all(|&(_, dirty)| dirty <= 50_000 + 400));
        let last = steps[4000..].iter().map(|step| step.0).sum::<u32>() / 1000;
        assert!((98..=102).contains(&last), "{last}");
        // No cliff: from one step to the next the rate never falls by more than a third of the host's, and no stall.
        let rates: Vec<u32> = steps.iter().map(|step| step.0).collect();
        for pair in rates.windows(2) {
            assert!(pair[1] + 134 >= pair[0], "{pair:?} in {rates:?}");
            assert!(pair[1] >= 95, "no stall: {rates:?}");
        }
    }

    #[test]
    fn hosts_slower_than_the_device_are_never_refused() {
        assert!(run(90, 100, 1000).iter().all(|step| step.0 == 90));
    }

    proptest! {
        /// While destage goes on, every write is admitted in the end, however large and whatever came before.
        #[test]
        fn no_write_waits_for_ever(
            (soft, hard) in (0_u32..5000, 0_u32..5000),
            before in prop::collection::vec((1_u32..2048, 0_u32..10_000, 0_u32..512), 0..50),
            (pages, dirty) in (1_u32..2048, 0_u32..10_000),
        ) {
            let mut throttle = Throttle::new(soft, hard);
            for (pages, dirty, credit) in before {
                _ = throttle.admit(pages, dirty);
                throttle.credit(credit);
            }
            let mut left = dirty;
            let mut waited = 0;
            while !throttle.admit(pages, left) {
                prop_assert!(left > 0);
                left -= 1;
                throttle.credit(1);
                waited += 1;
            }
            prop_assert!(waited <= dirty);
        }

        /// At the hard limit no more is admitted than was paid, but for what was saved and one write.
        #[test]
        fn the_rate_at_the_hard_limit_is_bounded(
            steps in prop::collection::vec((1_u32..512, 0_u32..64), 1..200),
        ) {
            let mut throttle = Throttle::new(100, 200);
            let (mut admitted, mut paid) = (0_u64, 0_u64);
            for (pages, credit) in steps {
                throttle.credit(credit);
                paid += u64::from(credit);
                if throttle.admit(pages, 200) {
                    admitted += u64::from(pages);
                }
                prop_assert!(admitted < paid + 512);
            }
        }
    }
}
