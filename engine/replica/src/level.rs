//! How full a journal is, in thresholds that its operator set: what is said when one is passed, and when it is left again.
//!
//! A primary's journal fills with what its reader has not confirmed, which is what suspends the group in the end; a secondary's with
//! what it has read and not restored, which is what keeps it from reading on.

/// Shares of a journal, in percent, that are worth an event: at most [`MOST`](Self::MOST), ascending, 1 to 99.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Zeros behind the last.
    percent: [u8; Self::MOST],
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { percent: [50, 75, 90, 0] }
    }
}

impl Thresholds {
    /// How many there are at most.
    pub const MOST: usize = 4;

    /// These; `None` where they are too many, do not ascend, or are not 1 to 99. None at all says nothing ever.
    #[must_use]
    pub fn new(list: &[u8]) -> Option<Self> {
        let ascend = list.windows(2).all(|two| matches!(two, [one, other] if one < other));
        if list.len() > Self::MOST || !ascend || !list.iter().all(|percent| (1..=99).contains(percent)) {
            return None;
        }
        let mut percent = [0; Self::MOST];
        percent.iter_mut().zip(list).for_each(|(slot, one)| *slot = *one);
        Some(Self { percent })
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u8> + '_ {
        self.percent.iter().copied().filter(|percent| *percent > 0)
    }
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossed {
    /// This one was passed, maybe with some below it.
    Passed(u8),
    /// This one was left, maybe with some below it.
    Left(u8),
}

/// Which threshold was passed last and not left yet.
#[derive(Debug, Default)]
pub(crate) struct Level {
    /// Percent; 0: none.
    passed: u8,
}

/// One is left when the share has fallen by so much below it, or by half of it where that is less: not with every write that
/// comes and goes at the threshold.
const MARGIN: u8 = 10;

impl Level {
    /// The highest that is passed, in percent; 0: none.
    pub(crate) fn passed(&self) -> u8 {
        self.passed
    }

    /// Looks at a share of `used` in `all` bytes.
    pub(crate) fn look(&mut self, thresholds: &Thresholds, used: u64, all: u64) -> Option<Crossed> {
        let reaches = |percent: u8| u128::from(used) * 100 >= u128::from(percent) * u128::from(all.max(1));
        let held = |percent: u8| percent <= self.passed && reaches(percent - MARGIN.min(percent / 2));
        let now = thresholds.iter().rev().find(|percent| reaches(*percent) || held(*percent)).unwrap_or(0);
        let before = std::mem::replace(&mut self.passed, now);
        match now.cmp(&before) {
            std::cmp::Ordering::Greater => Some(Crossed::Passed(now)),
            std::cmp::Ordering::Less => Some(Crossed::Left(before)),
            std::cmp::Ordering::Equal => None,
        }
    }
}

/// A share in whole percent.
pub(crate) fn percent(used: u64, all: u64) -> u64 {
    u64::try_from(u128::from(used) * 100 / u128::from(all.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(level: &mut Level, thresholds: &Thresholds, shares: &[u64]) -> Vec<Option<Crossed>> {
        shares.iter().map(|share| level.look(thresholds, *share, 100)).collect()
    }

    #[test]
    fn thresholds_are_told_once_on_the_way_up_and_once_on_the_way_down() {
        let (thresholds, mut level) = (Thresholds::default(), Level::default());
        let up = [0, 49, 50, 51, 74, 80, 90, 100];
        let (none, passed, left) = (None, |at| Some(Crossed::Passed(at)), |at| Some(Crossed::Left(at)));
        assert_eq!(
            looks(&mut level, &thresholds, &up),
            [none, none, passed(50), none, none, passed(75), passed(90), none]
        );
        // Ten below: what comes and goes at one says nothing.
        let down = [89, 90, 80, 79, 75, 65, 64, 66, 76, 40, 39, 0];
        assert_eq!(
            looks(&mut level, &thresholds, &down),
            [none, none, none, left(90), none, none, left(75), none, passed(75), left(75), left(50), none]
        );
        // Several at once are one.
        assert_eq!(looks(&mut level, &thresholds, &[95, 0]), [passed(90), left(90)]);
        assert_eq!(level.passed(), 0);
    }

    #[test]
    fn small_ones_are_left_at_half_and_others_are_taken_at_once() {
        let (mut thresholds, mut level) = (Thresholds::new(&[4]).unwrap(), Level::default());
        let shares = [4, 2, 1];
        assert_eq!(
            looks(&mut level, &thresholds, &shares),
            [Some(Crossed::Passed(4)), None, Some(Crossed::Left(4))]
        );
        thresholds = Thresholds::default();
        level.look(&thresholds, 76, 100);
        thresholds = Thresholds::new(&[60]).unwrap();
        assert_eq!(level.look(&thresholds, 76, 100), Some(Crossed::Left(75)));
        assert_eq!(level.passed(), 60);
        thresholds = Thresholds::new(&[]).unwrap();
        assert_eq!(level.look(&thresholds, 100, 100), Some(Crossed::Left(60)));
        assert_eq!(level.look(&thresholds, u64::MAX, 0), None);
        assert_eq!(percent(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn what_is_none_is_refused() {
        for wrong in [&[0][..], &[100], &[50, 50], &[60, 50], &[1, 2, 3, 4, 5]] {
            assert!(Thresholds::new(wrong).is_none(), "{wrong:?}");
        }
        assert_eq!(Thresholds::new(&[1, 2, 3, 99]).unwrap().iter().collect::<Vec<_>>(), [1, 2, 3, 99]);
    }
}
