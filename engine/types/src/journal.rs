//! Places in a journal, and the order of writes.

use std::fmt;

/// The place of a write in the order of its group: from 1 on, without gaps, never the same twice within an [`Epoch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// The life of a journal between two recoveries or changes of side: random, so that two lives never look the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// A place in a journal: an ever increasing byte offset, of which the place in the data area is the remainder by its
/// length. Places of different epochs may be compared only where one epoch is known to follow the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct JournalPos {
    /// In which life of the journal.
    pub epoch: Epoch,
    /// How far, in bytes.
    pub offset: u64,
}

impl Sequence {
    /// Before every write.
    pub const ZERO: Self = Self(0);

    /// The next one. Saturates, after some hundred thousand years.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sequence {}", self.0)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for JournalPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}
