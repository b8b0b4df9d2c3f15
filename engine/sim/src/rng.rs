//! The random numbers of a simulated world.
//!
//! One seed makes the world's stream; everything that decides for itself (each host, each disk,
//! the network, the scheduler) forks a stream of its own, so that a change in one place does not
//! shuffle all others. Small and our own, because a seed must mean the same for ever: it is kept
//! in the list of regressions. Not for secrets.

/// A stream of random numbers: xoshiro256** seeded through splitmix64.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self { state: std::array::from_fn(|_| splitmix(&mut mixer)) }
    }

    /// Another stream, which follows from this one's present state and `label`. This one moves on.
    pub fn fork(&mut self, label: u64) -> Self {
        Self::new(self.word() ^ label.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `limit`; 0 where the limit is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The bias of a multiply-shift is 2^-64 times the limit: of no account here.
        let wide = u128::from(self.word()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number below `limit`; 0 where the limit is 0.
    pub fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }

    /// A number in `low ..= high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A number in `low ..= high`, where each power of two is as likely as the next: mostly small,
    /// sometimes large.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        let bits = u64::from(u64::BITS - span.leading_zeros());
        let limit = 1u64 << self.below(bits + 1).min(63);
        low + self.below(limit.min(span))
    }

    /// True once in `n` times on average; never for 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }

    /// True `part` times in 1000.
    pub fn permille(&mut self, part: u32) -> bool {
        self.below(1000) < u64::from(part)
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.index(of.len()))
    }

    /// One of several values that are given in place.
    pub fn choose<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        const { assert!(N > 0) };
        of[self.index(N)]
    }

    /// Puts a list in random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.index(last + 1));
        }
    }

    /// Fills a slice with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut rng = Rng::new(1);
        let words = [rng.word(), rng.word(), rng.word()];
        assert_eq!(words, [0xb3f2_af6d_0fc7_10c5, 0x853b_5596_4736_4cea, 0x92f8_9756_082a_4514]);
    }

    #[test]
    fn numbers_stay_in_their_bounds_and_reach_them() {
        let mut rng = Rng::new(7);
        let mut seen = [0u32; 5];
        for _ in 0..1000 {
            seen[rng.index(5)] += 1;
            let n = rng.skewed(3, 1000);
            assert!((3..=1000).contains(&n));
            assert!((3..=4).contains(&rng.between(3, 4)));
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
        assert_eq!((rng.below(0), rng.below(1), rng.one_in(0)), (0, 0, false));
        assert_eq!(rng.between(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn forks_are_streams_of_their_own() {
        let mut rng = Rng::new(9);
        let (mut a, mut b) = (rng.fork(1), rng.fork(1));
        assert_ne!(a.word(), b.word());
    }

    #[test]
    fn shuffles_keep_everything() {
        let mut list: Vec<u32> = (0..100).collect();
        Rng::new(3).shuffle(&mut list);
        assert_ne!(list[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        list.sort_unstable();
        assert!(list.iter().zip(0..).all(|(a, b)| *a == b));
    }
}
