//! Random numbers that a seed repeats: SplitMix64 to seed, xoshiro256** to go on.
//!
//! Not for secrets. Used to pick addresses and operations, a few nanoseconds each.

/// A generator.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

/// One step of SplitMix64: a well-mixed word from a counter or another word.
#[must_use]
pub fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Rng {
    /// A generator that `seed` repeats.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let a = mix(seed);
        let b = mix(a);
        let c = mix(b);
        Self { state: [a, b, c, mix(c)] }
    }

    /// The next 64 bits.
    #[inline]
    pub fn word(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number below `bound`; 0 where `bound` is 0. The bias is below 2^-32 for the bounds in use.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.word()) * u128::from(bound);
        // The upper half of 128 bits: fits.
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// True `percent` times in a hundred.
    #[inline]
    pub fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_stays_below() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        for bound in 1..2000 {
            let n = a.below(bound);
            assert!(n < bound);
            assert_eq!(n, b.below(bound));
        }
        assert_eq!(a.below(0), 0);
    }

    #[test]
    fn covers_the_range() {
        let mut rng = Rng::new(1);
        let mut seen = [0u32; 16];
        for _ in 0..16_000 {
            seen[usize::try_from(rng.below(16)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|n| (700..1300).contains(n)), "{seen:?}");
    }
}
