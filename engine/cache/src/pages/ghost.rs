//! Ghosts: which pages were evicted lately without having been used, by fingerprint.
//!
//! A page whose ghost is found when it comes back was evicted too early, so it goes to the main queue at once. Kept in
//! buckets of one cache line, eight ghosts each; a ghost holds 32 bits of the hash and the number of evictions at its
//! time, and is one as long as no more than a given number came after it. Being wrong about one page in 500 million costs
//! nothing but a slightly worse choice.

const WAYS: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Ghost {
    fingerprint: u32,
    /// The eviction's number, modulo 2^32.
    time: u32,
}

/// As old as one that has just died.
const NO_GHOST: Ghost = Ghost { fingerprint: 0, time: 0 };

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket([Ghost; WAYS]);

#[derive(Debug)]
pub(super) struct Ghosts {
    buckets: Box<[Bucket]>,
    /// For how many evictions a ghost lasts.
    life: u32,
    now: u32,
}

impl Ghosts {
    /// Remembers the last `life` evictions; a bucket that overflows forgets its oldest a little earlier.
    pub(super) fn new(life: u32) -> Self {
        // Five of eight ways full on average: a bucket has room for its share in most cases.
        let buckets = (life as usize).div_ceil(WAYS - 3).max(1);
        Self { buckets: vec![Bucket([NO_GHOST; WAYS]); buckets].into_boxed_slice(), life, now: life }
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "a half of the hash each; below the number of buckets"
    )]
    fn place(&self, hash: u64) -> (usize, u32) {
        let low = hash & 0xffff_ffff;
        (((low * self.buckets.len() as u64) >> 32) as usize, (hash >> 32) as u32)
    }

    /// A page was evicted.
    pub(super) fn add(&mut self, hash: u64) {
        self.now = self.now.wrapping_add(1);
        let now = self.now;
        let (at, fingerprint) = self.place(hash);
        let bucket = &mut self.buckets[at].0;
        let same = bucket.iter().position(|ghost| ghost.fingerprint == fingerprint);
        let oldest = || (0..WAYS).max_by_key(|&way| now.wrapping_sub(bucket[way].time));
        if let Some(ghost) = same.or_else(oldest).and_then(|way| bucket.get_mut(way)) {
            *ghost = Ghost { fingerprint, time: now };
        }
    }

    /// A page was evicted that leaves no ghost here: the others are that much older.
    pub(super) const fn pass(&mut self) {
        self.now = self.now.wrapping_add(1);
    }

    /// How many evictions ago the page was evicted, if that is not too long ago; its ghost is gone then.
    pub(super) fn take(&mut self, hash: u64) -> Option<u32> {
        let (at, fingerprint) = self.place(hash);
        let (now, life) = (self.now, self.life);
        let ghost = self.buckets[at].0.iter_mut().find(|ghost| ghost.fingerprint == fingerprint)?;
        let age = now.wrapping_sub(ghost.time);
        ghost.time = now.wrapping_sub(life);
        (age < life).then_some(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::mix;

    fn of(page: u64) -> u64 {
        mix(page)
    }

    #[test]
    fn a_ghost_lasts_its_life_and_is_taken_once() {
        let mut ghosts = Ghosts::new(1000);
        assert!(ghosts.take(of(0)).is_none());
        for page in 0..3000 {
            ghosts.add(of(page));
        }
        assert!((0..2000).all(|page| ghosts.take(of(page)).is_none()));
        let kept = (2000..3000).filter(|&page| ghosts.take(of(page)).is_some()).count();
        assert!(kept >= 930, "{kept} of 1000: few buckets overflow");
        assert!((2000..3000).all(|page| ghosts.take(of(page)).is_none()));
    }

    #[test]
    fn the_count_of_evictions_may_wrap() {
        let mut ghosts = Ghosts::new(100);
        ghosts.now = u32::MAX - 3;
        ghosts
            .buckets
            .iter_mut()
            .flat_map(|bucket| &mut bucket.0)
            .for_each(|ghost| ghost.time = ghosts.now - 100);
        for page in 0..8 {
            ghosts.add(of(page));
        }
        assert!((0..8).all(|page| ghosts.take(of(page)).is_some()));
    }
}
