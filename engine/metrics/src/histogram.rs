//! Latency histograms with fixed buckets.
//!
//! 72 buckets: below 512 ns; four to each power of two up to 2^24 ns (16.8 ms), which is where
//! targets are set; one to each power of two up to 2^34 ns (17.2 s); and the rest. A quantile
//! read from the fine part is at most 19 % off. Recording is a leading-zero count, a shift
//! and two stores.

use crate::Counter;

/// How many buckets a histogram has.
pub const BUCKETS: usize = 72;

/// log2 of the first limit in nanoseconds: 512 ns.
const FIRST: u32 = 9;
/// log2 of where the four buckets a power of two end: 16.8 ms.
const FINE_END: u32 = 24;
/// log2 of the last limit: 17.2 s.
const END: u32 = 34;
/// Fine buckets to a power of two, as log2.
const SUB: u32 = 2;

const FINE: usize = ((FINE_END - FIRST) << SUB) as usize;
const _: () = assert!(1 + FINE + (END - FINE_END) as usize + 1 == BUCKETS);

/// A distribution of durations, written by one thread and read by any.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

/// The bucket of a duration.
#[inline]
fn bucket_of(nanos: u64) -> usize {
    let octave = 63 - (nanos | 1).leading_zeros();
    if octave < FIRST {
        0
    } else if octave < FINE_END {
        let quarter = (nanos >> (octave - SUB)) & 3;
        1 + ((octave - FIRST) << SUB) as usize + quarter as usize
    } else if octave < END {
        1 + FINE + (octave - FINE_END) as usize
    } else {
        BUCKETS - 1
    }
}

/// The upper limit of a bucket in nanoseconds, exclusive; `None` for the last, which has none,
/// and past it.
#[must_use]
pub fn bucket_limit_nanos(bucket: usize) -> Option<u64> {
    if bucket == 0 {
        Some(1 << FIRST)
    } else if bucket <= FINE {
        let place = bucket - 1;
        let base = 1u64 << (FIRST as usize + (place >> SUB));
        Some(base + (base >> SUB) * (1 + (place & 3) as u64))
    } else if bucket < BUCKETS - 1 {
        Some(2u64 << (FINE_END as usize + bucket - 1 - FINE))
    } else {
        None
    }
}

impl Histogram {
    /// Records one duration in nanoseconds.
    #[inline]
    pub fn record(&self, nanos: u64) {
        // `bucket_of` never passes the end; the fallback costs a compare and no panic path.
        if let Some(bucket) = self.buckets.get(bucket_of(nanos)) {
            bucket.inc();
        }
        self.sum.add(nanos);
    }

    /// Adds what was recorded so far to a snapshot.
    pub fn add_to(&self, snapshot: &mut Snapshot) {
        for (into, from) in snapshot.buckets.iter_mut().zip(&self.buckets) {
            *into += from.get();
        }
        snapshot.sum_nanos = snapshot.sum_nanos.wrapping_add(self.sum.get());
    }

    /// What was recorded so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.add_to(&mut snapshot);
        snapshot
    }
}

/// A histogram's contents at one moment, or the sum of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How many durations fell into each bucket; see [`bucket_limit_nanos`].
    pub buckets: [u64; BUCKETS],
    /// The sum of all durations, in nanoseconds.
    pub sum_nanos: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_nanos: 0 }
    }
}

impl Snapshot {
    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The mean in nanoseconds, 0 where nothing was recorded.
    #[must_use]
    pub fn mean_nanos(&self) -> u64 {
        self.sum_nanos.checked_div(self.count()).unwrap_or(0)
    }

    /// The upper limit of the bucket in which the quantile lies, in nanoseconds: "`per_mille`
    /// of 1000 were below this". `None` where nothing was recorded; the last bucket, which has
    /// no limit, gives `u64::MAX`.
    #[must_use]
    pub fn quantile_nanos(&self, per_mille: u32) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (u128::from(count) * u128::from(per_mille.min(1000))).div_ceil(1000).max(1);
        let mut below = 0u128;
        for (bucket, n) in self.buckets.iter().enumerate() {
            below += u128::from(*n);
            if below >= rank {
                return Some(bucket_limit_nanos(bucket).unwrap_or(u64::MAX));
            }
        }
        None
    }

    /// How many durations lay below 2^`octave` nanoseconds, for `octave` in 9..=34.
    pub(crate) fn below_octave(&self, octave: u32) -> u64 {
        self.buckets
            .iter()
            .enumerate()
            .filter(|(bucket, _)| bucket_limit_nanos(*bucket).is_some_and(|limit| limit <= 1 << octave))
            .map(|(_, n)| n)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_rise_and_each_starts_the_next_bucket() {
        let mut last = 0;
        for bucket in 0..BUCKETS - 1 {
            let limit = bucket_limit_nanos(bucket).unwrap();
            assert!(limit > last, "bucket {bucket}");
            assert_eq!(bucket_of(limit - 1), bucket);
            assert_eq!(bucket_of(limit), bucket + 1);
            last = limit;
        }
        assert_eq!(bucket_limit_nanos(BUCKETS - 1), None);
        assert_eq!(last, 1 << END);
    }

    #[test]
    fn quantiles_name_the_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile_nanos(500), None);
        for _ in 0..99 {
            histogram.record(20_000);
        }
        histogram.record(5_000_000);
        let seen = histogram.snapshot();
        assert_eq!(seen.count(), 100);
        assert_eq!(seen.mean_nanos(), (99 * 20_000 + 5_000_000) / 100);
        assert_eq!(seen.quantile_nanos(500), bucket_limit_nanos(bucket_of(20_000)));
        assert_eq!(seen.quantile_nanos(990), bucket_limit_nanos(bucket_of(20_000)));
        assert_eq!(seen.quantile_nanos(999), bucket_limit_nanos(bucket_of(5_000_000)));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_below_its_limit(nanos: u64) {
            let bucket = bucket_of(nanos);
            prop_assert!(bucket < BUCKETS);
            if let Some(limit) = bucket_limit_nanos(bucket) {
                prop_assert!(nanos < limit);
                if bucket > 0 && bucket <= FINE {
                    // The fine part: at most a quarter of its power of two wide.
                    prop_assert!(nanos >= limit - limit / 5 - 1);
                }
            }
            if bucket > 0 {
                prop_assert!(nanos >= bucket_limit_nanos(bucket - 1).unwrap());
            }
        }

        #[test]
        fn below_octave_counts_exactly(values in proptest::collection::vec(0u64..1 << 36, 0..50), octave in 9u32..=34) {
            let histogram = Histogram::default();
            values.iter().for_each(|v| histogram.record(*v));
            let want = values.iter().filter(|v| **v < 1 << octave).count() as u64;
            prop_assert_eq!(histogram.snapshot().below_octave(octave), want);
        }
    }
}
