//! A crash that comes with an operation: with the n-th write that a disk gets, the n-th flush that
//! is done, the n-th message that is sent.
//!
//! A crash at a random time mostly hits nothing; what goes wrong in crashes goes wrong between two
//! operations that belong together. The runner arms the trap, the disks and the network step into
//! it, and the world gives the crash its turn next.

use crate::rng::Rng;

/// What a crash can come with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Moment {
    /// A disk got a write that need not be stable.
    Write,
    /// A disk got a write that is to be stable.
    StableWrite,
    /// A disk got a flush.
    Flush,
    /// A part of a disk's operation took effect.
    Piece,
    /// A disk's operation was done, its core not told.
    Done,
    /// A disk's flush was done, its core not told.
    Flushed,
    /// A core sent something.
    Send,
    /// A core received something.
    Receive,
    /// A core accepted a connection.
    Accept,
}

impl Moment {
    /// Each as often as it deserves.
    const DRAW: [Self; 14] = [
        Self::Write,
        Self::Write,
        Self::StableWrite,
        Self::StableWrite,
        Self::Flush,
        Self::Flush,
        Self::Piece,
        Self::Piece,
        Self::Done,
        Self::Done,
        Self::Flushed,
        Self::Send,
        Self::Receive,
        Self::Accept,
    ];
}

/// The trap.
#[derive(Debug, Default)]
pub(crate) struct Trap {
    armed: Option<(Moment, u64)>,
    sprung: bool,
}

impl Trap {
    /// Draws with which operation the next crash comes, among the next `within` of its kind. Rare
    /// kinds get a smaller number.
    pub(crate) fn arm(&mut self, rng: &mut Rng, within: u64) -> (Moment, u64) {
        let moment = rng.choose(Moment::DRAW);
        let most = match moment {
            Moment::Accept => 4.min(within),
            Moment::Flush | Moment::Flushed | Moment::StableWrite => (within / 8).max(1),
            _ => within.max(1),
        };
        let count = rng.skewed(1, most);
        (self.armed, self.sprung) = (Some((moment, count)), false);
        (moment, count)
    }

    /// No crash is to come any more.
    pub(crate) fn disarm(&mut self) {
        *self = Self::default();
    }

    /// That happened now.
    pub(crate) fn pass(&mut self, moment: Moment) {
        let Some((wanted, left)) = &mut self.armed else { return };
        if *wanted != moment {
            return;
        }
        *left -= 1;
        if *left == 0 {
            (self.armed, self.sprung) = (None, true);
        }
    }

    /// Whether it is time, once.
    pub(crate) fn take(&mut self) -> bool {
        std::mem::take(&mut self.sprung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_springs_once_at_its_moment() {
        let mut trap = Trap { armed: Some((Moment::Flush, 2)), sprung: false };
        for moment in [Moment::Flush, Moment::Write, Moment::Flushed] {
            trap.pass(moment);
            assert!(!trap.take());
        }
        trap.pass(Moment::Flush);
        assert!(trap.take() && !trap.take());
        trap.pass(Moment::Flush);
        assert!(!trap.take());
    }

    #[test]
    fn every_moment_is_drawn() {
        let mut rng = Rng::new(1);
        let mut trap = Trap::default();
        let mut seen = [false; 9];
        for _ in 0..500 {
            let (moment, count) = trap.arm(&mut rng, 100);
            assert!((1..=100).contains(&count));
            seen[moment as usize] = true;
        }
        assert!(seen.iter().all(|seen| *seen), "{seen:?}");
        trap.disarm();
        trap.pass(Moment::Write);
        assert!(!trap.take());
    }
}
