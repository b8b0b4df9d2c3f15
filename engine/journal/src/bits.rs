//! A set of granules of one volume, in memory.

/// Bytes of a volume that one bit of the difference bitmap stands for: 64 KiB.
pub const GRANULE: u64 = 64 << 10;

/// Words of bits that one bit of the summary stands for: so a set with few bits is walked, joined and emptied quickly.
const GROUP: usize = 64;

/// A set of granules: numbers from 0 up to the length, in one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    len: u64,
    words: Vec<u64>,
    /// Bit n: some word of group n may be other than 0.
    summary: Vec<u64>,
}

impl Bits {
    /// The empty set of numbers below `len`. Takes `len` / 8 bytes.
    #[must_use]
    pub fn new(len: u64) -> Self {
        let mut bits = Self::default();
        bits.grow(len);
        bits
    }

    /// The empty set for a volume of that many bytes.
    #[must_use]
    pub fn for_volume(bytes: u64) -> Self {
        Self::new(bytes.div_ceil(GRANULE))
    }

    /// One more than the largest number that may be in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no number in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next_set(0).is_none()
    }

    /// Makes it longer; what is new is not in it. Never makes it shorter.
    pub fn grow(&mut self, len: u64) {
        if len <= self.len && !self.words.is_empty() {
            return;
        }
        let words = usize::try_from(len.div_ceil(64)).unwrap_or(usize::MAX >> 8);
        self.words.resize(words, 0);
        self.summary.resize(words.div_ceil(GROUP * 64), 0);
        self.len = len;
    }

    /// Puts `from..to` in, as far as it goes. Whether all of it was in already.
    pub fn set_range(&mut self, from: u64, to: u64) -> bool {
        let mut all = true;
        let summary = &mut self.summary;
        Self::each_word(&mut self.words, self.len, from, to, |at, word, mask| {
            all &= *word & mask == mask;
            *word |= mask;
            let group = at / GROUP;
            if let Some(word) = summary.get_mut(group / 64) {
                *word |= 1 << (group % 64);
            }
        });
        all
    }

    /// Puts in what the bytes `from..to` of a volume touch.
    pub fn set_bytes(&mut self, from: u64, to: u64) -> bool {
        self.set_range(from / GRANULE, to.div_ceil(GRANULE))
    }

    /// Takes `from..to` out.
    pub fn clear_range(&mut self, from: u64, to: u64) {
        Self::each_word(&mut self.words, self.len, from, to, |_, word, mask| *word &= !mask);
    }

    /// Puts everything in.
    pub fn set_all(&mut self) {
        self.set_range(0, self.len);
    }

    /// Takes everything out. Costs what was in it.
    pub fn clear(&mut self) {
        for (number, summary) in self.summary.iter_mut().enumerate() {
            let mut left = std::mem::take(summary);
            while left != 0 {
                let group = number * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                let from = (group * GROUP).min(self.words.len());
                let to = (from + GROUP).min(self.words.len());
                self.words[from..to].fill(0);
            }
        }
    }

    /// Whether that number is in it.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        number < self.len
            && usize::try_from(number / 64)
                .ok()
                .and_then(|at| self.words.get(at))
                .is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Whether all of `from..to` is in it; true for none.
    #[must_use]
    pub fn contains_range(&self, from: u64, to: u64) -> bool {
        from >= to || (to <= self.len && self.next_clear(from) >= to)
    }

    /// Whether some of `from..to` is in it.
    #[must_use]
    pub fn intersects(&self, from: u64, to: u64) -> bool {
        self.next_set(from).is_some_and(|first| first < to)
    }

    /// Puts in what is in `other`, as far as this goes.
    pub fn union(&mut self, other: &Self) {
        for (number, &summary) in other.summary.iter().enumerate() {
            let mut left = summary;
            while left != 0 {
                let group = number * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                let from = group * GROUP;
                let mut any = false;
                for (ours, &theirs) in
                    self.words.iter_mut().skip(from).take(GROUP).zip(other.words.iter().skip(from))
                {
                    *ours |= theirs;
                    any |= *ours != 0;
                }
                if any && let Some(word) = self.summary.get_mut(number) {
                    *word |= 1 << (group % 64);
                }
            }
        }
        // The other may be longer, within the last word.
        if !self.len.is_multiple_of(64)
            && let Some(last) = usize::try_from(self.len / 64).ok().and_then(|at| self.words.get_mut(at))
        {
            *last &= (1 << (self.len % 64)) - 1;
        }
    }

    /// How many numbers are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The first number from `from` on that is in it.
    #[must_use]
    pub fn next_set(&self, from: u64) -> Option<u64> {
        if from >= self.len {
            return None;
        }
        let start = usize::try_from(from / 64).ok()?;
        let first = self.words.get(start)? & (u64::MAX << (from % 64));
        if first != 0 {
            return Some(number(start, first));
        }
        let mut at = start + 1;
        while at < self.words.len() {
            let group = at / GROUP;
            if at.is_multiple_of(GROUP) && self.summary.get(group / 64)? >> (group % 64) & 1 == 0 {
                let rest = self.summary[group / 64] >> (group % 64);
                // The next group of this word of the summary with something in it, or the next word.
                let skip = if rest == 0 { 64 - group % 64 } else { rest.trailing_zeros() as usize };
                at = (group + skip) * GROUP;
                continue;
            }
            if self.words[at] != 0 {
                return Some(number(at, self.words[at]));
            }
            at += 1;
        }
        None
    }

    /// The first number from `from` on that is not in it; the length where there is none.
    #[must_use]
    pub fn next_clear(&self, from: u64) -> u64 {
        let Ok(start) = usize::try_from(from / 64) else { return self.len };
        let mut mask = u64::MAX << (from % 64);
        for (at, word) in self.words.iter().enumerate().skip(start) {
            let clear = !word & mask;
            if clear != 0 {
                return number(at, clear).min(self.len);
            }
            mask = u64::MAX;
        }
        self.len
    }

    /// The runs of numbers in it, in order: the first of each, and the one behind its last.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next_set(at)?;
            at = self.next_clear(first);
            Some((first, at))
        })
    }

    /// The numbers from `from` on (a multiple of 64) as bits, lowest first, into `out`; zeroes behind the end.
    pub(crate) fn write_bytes(&self, from: u64, out: &mut [u8]) {
        let Ok(start) = usize::try_from(from / 64) else { return };
        for (at, chunk) in out.chunks_mut(8).enumerate() {
            let word = self.words.get(start + at).copied().unwrap_or(0).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// Puts in what is in those bytes, whose first bit is number `from`, a multiple of 64.
    pub(crate) fn read_bytes(&mut self, from: u64, bytes: &[u8]) {
        for (at, chunk) in (from / 64..).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let mut left = u64::from_le_bytes(word);
            if left == u64::MAX {
                self.set_range(at * 64, at * 64 + 64);
                continue;
            }
            while left != 0 {
                let bit = u64::from(left.trailing_zeros());
                left &= left - 1;
                self.set_range(at * 64 + bit, at * 64 + bit + 1);
            }
        }
    }

    fn each_word(
        words: &mut [u64],
        len: u64,
        from: u64,
        to: u64,
        mut each: impl FnMut(usize, &mut u64, u64),
    ) {
        let to = to.min(len);
        if from >= to {
            return;
        }
        let (Ok(first), Ok(last)) = (usize::try_from(from / 64), usize::try_from((to - 1) / 64)) else {
            return;
        };
        for (at, word) in words.iter_mut().enumerate().take(last + 1).skip(first) {
            let low = if at == first { u64::MAX << (from % 64) } else { u64::MAX };
            let high = if at == last { u64::MAX >> (63 - (to - 1) % 64) } else { u64::MAX };
            each(at, word, low & high);
        }
    }
}

#[inline]
fn number(word: usize, bits: u64) -> u64 {
    word as u64 * 64 + u64::from(bits.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn bytes_touch_granules() {
        let mut bits = Bits::for_volume(GRANULE * 10 + 1);
        assert_eq!(bits.len(), 11);
        assert!(!bits.set_bytes(GRANULE - 1, GRANULE + 1));
        assert!(bits.set_bytes(GRANULE, 2 * GRANULE));
        assert_eq!(bits.runs().collect::<Vec<_>>(), [(0, 2)]);
        bits.set_bytes(GRANULE * 10, GRANULE * 12);
        assert_eq!((bits.count(), bits.contains(10), bits.contains(11)), (3, true, false));
        assert!(!bits.contains_range(9, 11) && bits.contains_range(10, 11) && bits.intersects(2, 11));
        assert!(!bits.contains_range(10, 12) && bits.contains_range(12, 12) && !bits.intersects(2, 10));
    }

    #[test]
    fn far_apart_bits_are_found() {
        let mut bits = Bits::new(1 << 22);
        for at in [0, 4095, 4096, 262_143, 262_144, 3 << 20, (1 << 22) - 1] {
            bits.set_range(at, at + 1);
        }
        let found: Vec<_> = bits.runs().map(|run| run.0).collect();
        assert_eq!(found, [0, 4095, 262_143, 3 << 20, (1 << 22) - 1]);
        bits.clear();
        assert!(bits.is_empty() && bits.count() == 0);
        bits.set_all();
        assert_eq!((bits.runs().collect::<Vec<_>>(), bits.count()), (vec![(0, 1 << 22)], 1 << 22));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, u64),
        Clear(u64, u64),
        Union(Vec<(u64, u64)>),
        Grow(u64),
        Empty,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let range = || (0u64..9000, 0u64..700);
        prop::collection::vec(
            prop_oneof![
                4 => range().prop_map(|(at, len)| Step::Set(at, at + len)),
                3 => range().prop_map(|(at, len)| Step::Clear(at, at + len)),
                2 => prop::collection::vec(range(), 0..4).prop_map(Step::Union),
                1 => (0u64..9000).prop_map(Step::Grow),
                1 => Just(Step::Empty),
            ],
            0..12,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_set(len in 0u64..9000, steps in steps(), from in 0u64..9000) {
            let mut bits = Bits::new(len);
            let mut set = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Set(a, b) => {
                        let wanted: Vec<u64> = (a..b.min(bits.len())).collect();
                        let all = wanted.iter().all(|n| set.contains(n));
                        prop_assert_eq!(bits.set_range(a, b), all);
                        set.extend(wanted);
                    }
                    Step::Clear(a, b) => {
                        bits.clear_range(a, b);
                        set.retain(|n| !(a..b).contains(n));
                    }
                    Step::Union(ranges) => {
                        let mut other = Bits::new(9700);
                        for (at, len) in ranges {
                            other.set_range(at, at + len);
                            set.extend(at..(at + len).min(bits.len()).max(at));
                        }
                        bits.union(&other);
                    }
                    Step::Grow(len) => bits.grow(len),
                    Step::Empty => {
                        bits.clear();
                        set.clear();
                    }
                }
            }
            let found: Vec<u64> = bits.runs().flat_map(|(a, b)| a..b).collect();
            prop_assert!(found.iter().eq(set.iter()));
            prop_assert_eq!(bits.count(), set.len() as u64);
            prop_assert_eq!(bits.is_empty(), set.is_empty());
            prop_assert_eq!(bits.next_set(from), set.range(from..).next().copied());
            prop_assert_eq!(bits.contains(from), set.contains(&from));
            let mut bytes = vec![0; 300];
            bits.write_bytes(64, &mut bytes);
            let mut again = Bits::new(bits.len());
            again.read_bytes(64, &bytes);
            let wanted: Vec<u64> = set.range(64..64 + 2400).copied().collect();
            prop_assert!(again.runs().flat_map(|(a, b)| a..b).eq(wanted));
        }
    }
}
