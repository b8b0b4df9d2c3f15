//! Unit attention conditions (SAM-5 5.14) and the bounded set of them that each nexus has.
//!
//! A nexus's pending conditions are a set with one bit each: bounded by construction, without
//! duplicates, and reported in order of precedence.

use crate::sense::{Asc, Sense, SenseKey};

/// A unit attention condition, in order of precedence: the first is reported first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Attention {
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED (29h/00h).
    PowerOn,
    /// DEVICE INTERNAL RESET (29h/04h).
    InternalReset,
    /// BUS DEVICE RESET FUNCTION OCCURRED (29h/03h): LOGICAL UNIT RESET or target reset.
    Reset,
    /// I_T NEXUS LOSS OCCURRED (29h/07h).
    NexusLoss,
    /// MICROCODE HAS BEEN CHANGED (3Fh/01h).
    MicrocodeChanged,
    /// COMMANDS CLEARED BY ANOTHER INITIATOR (2Fh/00h).
    CommandsCleared,
    /// RESERVATIONS PREEMPTED (2Ah/03h).
    ReservationsPreempted,
    /// RESERVATIONS RELEASED (2Ah/04h).
    ReservationsReleased,
    /// REGISTRATIONS PREEMPTED (2Ah/05h).
    RegistrationsPreempted,
    /// NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED (28h/00h).
    MediumChanged,
    /// CAPACITY DATA HAS CHANGED (2Ah/09h).
    CapacityChanged,
    /// MODE PARAMETERS CHANGED (2Ah/01h).
    ModeChanged,
    /// ASYMMETRIC ACCESS STATE CHANGED (2Ah/06h).
    AccessStateChanged,
    /// INQUIRY DATA HAS CHANGED (3Fh/03h).
    InquiryChanged,
    /// REPORTED LUNS DATA HAS CHANGED (3Fh/0Eh).
    LunsChanged,
}

impl Attention {
    /// All of them, in order of precedence.
    pub const ALL: [Self; 15] = [
        Self::PowerOn,
        Self::InternalReset,
        Self::Reset,
        Self::NexusLoss,
        Self::MicrocodeChanged,
        Self::CommandsCleared,
        Self::ReservationsPreempted,
        Self::ReservationsReleased,
        Self::RegistrationsPreempted,
        Self::MediumChanged,
        Self::CapacityChanged,
        Self::ModeChanged,
        Self::AccessStateChanged,
        Self::InquiryChanged,
        Self::LunsChanged,
    ];

    fn asc(self) -> Asc {
        Asc(match self {
            Self::PowerOn => 0x2900,
            Self::InternalReset => 0x2904,
            Self::Reset => 0x2903,
            Self::NexusLoss => 0x2907,
            Self::MicrocodeChanged => 0x3f01,
            Self::CommandsCleared => 0x2f00,
            Self::ReservationsPreempted => 0x2a03,
            Self::ReservationsReleased => 0x2a04,
            Self::RegistrationsPreempted => 0x2a05,
            Self::MediumChanged => 0x2800,
            Self::CapacityChanged => 0x2a09,
            Self::ModeChanged => 0x2a01,
            Self::AccessStateChanged => 0x2a06,
            Self::InquiryChanged => 0x3f03,
            Self::LunsChanged => 0x3f0e,
        })
    }

    /// The condition of that additional sense code and qualifier. Resets of other kinds count as
    /// the most far-reaching.
    #[must_use]
    pub fn of_code(code: u16) -> Option<Self> {
        let same = Self::ALL.into_iter().find(|attention| attention.asc() == Asc(code));
        same.or((code >> 8 == 0x29).then_some(Self::PowerOn))
    }

    pub(crate) fn sense(self) -> Sense {
        Sense::new(SenseKey::UnitAttention, self.asc())
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// The conditions of the reset kind: one of higher precedence makes the lower ones pointless.
const RESETS: u16 = Attention::PowerOn.bit()
    | Attention::InternalReset.bit()
    | Attention::Reset.bit()
    | Attention::NexusLoss.bit();

/// The conditions pending for one nexus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending(u16);

impl Pending {
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a condition. Of the reset kind only the most far-reaching is kept (SAM-5 5.14).
    pub fn establish(&mut self, attention: Attention) {
        self.0 |= attention.bit();
        let resets = self.0 & RESETS;
        let first = resets & resets.wrapping_neg();
        self.0 = (self.0 & !RESETS) | first;
    }

    pub fn remove(&mut self, attention: Attention) {
        self.0 &= !attention.bit();
    }

    /// Takes the condition of highest precedence.
    pub fn take(&mut self) -> Option<Attention> {
        let first = *Attention::ALL.get(self.0.trailing_zeros() as usize)?;
        self.remove(first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_the_order_of_precedence() {
        for (at, attention) in Attention::ALL.into_iter().enumerate() {
            assert_eq!(attention as usize, at);
        }
        assert!(Attention::ALL.is_sorted());
    }

    #[test]
    fn conditions_come_once_and_in_order() {
        let mut pending = Pending::default();
        for attention in [Attention::LunsChanged, Attention::ModeChanged, Attention::ModeChanged] {
            pending.establish(attention);
        }
        assert_eq!(pending.take(), Some(Attention::ModeChanged));
        assert_eq!(pending.take(), Some(Attention::LunsChanged));
        assert_eq!(pending.take(), None);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_reset_hides_lesser_resets_but_nothing_else() {
        let mut pending = Pending::default();
        pending.establish(Attention::Reset);
        pending.establish(Attention::CapacityChanged);
        pending.establish(Attention::PowerOn);
        pending.establish(Attention::NexusLoss);
        assert_eq!(pending.take(), Some(Attention::PowerOn));
        assert_eq!(pending.take(), Some(Attention::CapacityChanged));
        assert_eq!(pending.take(), None);
    }
}
