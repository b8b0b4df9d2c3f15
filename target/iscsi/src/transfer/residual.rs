//! Residual counts (RFC 7143 11.4.5): how much more or less a command had than was expected.

use crate::pdu::{DataInFlags, ResponseFlags};

/// The difference between what the initiator expected to transfer and what the command had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    /// None.
    #[default]
    None,
    /// That many bytes of the command's data were not transferred, as the initiator expected less.
    Overflow(u32),
    /// That many bytes fewer than expected were transferred.
    Underflow(u32),
}

/// The residual of a command that was expected to transfer `expected` bytes and has `actual`.
/// A count beyond 32 bits is given as the largest that they hold.
#[inline]
#[must_use]
pub fn residual(expected: u32, actual: u64) -> Residual {
    let wanted = u64::from(expected);
    let count = u32::try_from(actual.abs_diff(wanted)).unwrap_or(u32::MAX);
    match actual.cmp(&wanted) {
        std::cmp::Ordering::Equal => Residual::None,
        std::cmp::Ordering::Greater => Residual::Overflow(count),
        std::cmp::Ordering::Less => Residual::Underflow(count),
    }
}

impl Residual {
    /// The count in bytes.
    #[inline]
    #[must_use]
    pub const fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Overflow(count) | Self::Underflow(count) => count,
        }
    }

    /// The flags for a SCSI response, without F.
    #[inline]
    #[must_use]
    pub const fn response_flags(self) -> ResponseFlags {
        match self {
            Self::None => ResponseFlags::empty(),
            Self::Overflow(_) => ResponseFlags::OVERFLOW,
            Self::Underflow(_) => ResponseFlags::UNDERFLOW,
        }
    }

    /// The flags for a Data-In that carries status, without F and S.
    #[inline]
    #[must_use]
    pub const fn data_in_flags(self) -> DataInFlags {
        match self {
            Self::None => DataInFlags::empty(),
            Self::Overflow(_) => DataInFlags::OVERFLOW,
            Self::Underflow(_) => DataInFlags::UNDERFLOW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_and_beyond() {
        assert_eq!(residual(512, 512), Residual::None);
        assert_eq!(residual(512, 36), Residual::Underflow(476));
        assert_eq!(residual(36, 512), Residual::Overflow(476));
        assert_eq!(residual(0, 0), Residual::None);
        assert_eq!(residual(1, u64::MAX), Residual::Overflow(u32::MAX));
        assert_eq!(residual(u32::MAX, 0), Residual::Underflow(u32::MAX));
        assert_eq!(residual(512, 36).response_flags().bits(), 0x02);
        assert_eq!(residual(36, 512).data_in_flags().bits(), 0x04);
    }
}
