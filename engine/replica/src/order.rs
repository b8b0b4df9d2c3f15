//! Orders to a group (array.md 4, 7, 9, 10; contract.md), and the exit code that each result means.
//!
//! An order may be given at either side: one that is the other side's goes there in the page. Orders are idempotent: one
//! that is repeated goes on where the first is, or hears that it is so already.

use crate::action::OrderResult;

/// Bytes of a marker's name.
pub const NAME: usize = 64;

/// What an operator or a host wants of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop the pair at one moment; done when the secondary has all that was written before.
    Split {
        /// The secondary may be written.
        writable: bool,
    },
    /// Copy the difference. Given after a takeover, in the new direction.
    Resync {
        /// The side that gives up what it alone has; needed where there is any.
        discard: Option<Loser>,
    },
    /// Exchange the sides.
    Swap {
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Give up a swap that has not been done.
    CancelSwap,
    /// Make the secondary writable without the primary; at a primary that is fenced, serve all the same.
    Takeover {
        /// Only say what would be done and lost.
        dry_run: bool,
        /// Even where the secondary is not consistent.
        force: bool,
    },
    /// End the pair at this side.
    Delete,
    /// A mark in the order of writes.
    Marker {
        /// Its name, at most [`NAME`] - 1 bytes.
        name: String,
        /// Done only when the secondary has restored up to it.
        wait: bool,
    },
    /// Host-driven: fetch up to that place (0: all there is).
    Acquire {
        /// Up to here.
        to: u64,
    },
    /// Host-driven, or against a holding time: restore up to there.
    Restore(RestoreTo),
    /// Host-driven: the primary may free up to that place (0: what was confirmed).
    Purge {
        /// Up to here.
        to: u64,
    },
}

/// Which side gives up what it alone has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loser {
    /// The one at which the order is given.
    Here,
    /// The other.
    There,
}

/// How far to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreTo {
    /// All that was read.
    Read,
    /// Up to a place of the journal.
    Place(u64),
    /// Up to the last entry of that time, nanoseconds since 1970.
    Time(u64),
    /// Up to a marker.
    Marker(String),
}

impl OrderResult {
    /// The exit code of the operator's tool (contract.md).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Done(_) => 0,
            Self::Failed(_) => 1,
            Self::Refused(_) => 3,
            Self::TimedOut(_) => 4,
            Self::Unreachable(_) => 5,
            Self::Swapped => 10,
            Self::TakenOver(_) => 11,
            Self::Already(_) => 12,
        }
    }

    /// The result of a code that came in a page, with its words.
    #[must_use]
    pub fn from_code(code: u8, text: String) -> Self {
        match code {
            0 => Self::Done(text),
            3 => Self::Refused(text),
            4 => Self::TimedOut(text),
            5 => Self::Unreachable(text),
            10 => Self::Swapped,
            11 => Self::TakenOver(text),
            12 => Self::Already(text),
            _ => Self::Failed(text),
        }
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Done(text)
            | Self::Already(text)
            | Self::Refused(text)
            | Self::Unreachable(text)
            | Self::TakenOver(text)
            | Self::Failed(text)
            | Self::TimedOut(text) => text,
            Self::Swapped => "the sides are exchanged",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_its_code_and_comes_back_from_it() {
        let text = || "why".to_owned();
        let all = [
            (OrderResult::Done(text()), 0),
            (OrderResult::Failed(text()), 1),
            (OrderResult::Refused(text()), 3),
            (OrderResult::TimedOut(text()), 4),
            (OrderResult::Unreachable(text()), 5),
            (OrderResult::Swapped, 10),
            (OrderResult::TakenOver(text()), 11),
            (OrderResult::Already(text()), 12),
        ];
        for (result, code) in all {
            assert_eq!(result.exit_code(), code);
            assert_eq!(OrderResult::from_code(code, result.text().to_owned()), result);
        }
    }
}
