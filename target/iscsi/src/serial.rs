//! The sequence numbers of iSCSI and their arithmetic.
//!
//! All are 32-bit serial numbers that wrap (RFC 1982, RFC 7143 4.2.2): "less than" means "less
//! than half the number space behind". These types alone have that arithmetic, so that a length or
//! a tag is never compared in that way. None implements `Ord`: serial order is not transitive.
//!
//! Used by everything that counts commands, statuses, R2Ts or data PDUs.

use std::fmt;
use zerocopy::big_endian::U32;

/// Half the number space: the first distance at which the order of two numbers is undefined.
const HALF: u32 = 1 << 31;

macro_rules! serial {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The number after this one.
            #[inline]
            #[must_use]
            pub const fn next(self) -> Self {
                self.plus(1)
            }

            /// The number `count` further on.
            #[inline]
            #[must_use]
            pub const fn plus(self, count: u32) -> Self {
                Self(self.0.wrapping_add(count))
            }

            /// The number `count` before this one.
            #[inline]
            #[must_use]
            pub const fn minus(self, count: u32) -> Self {
                Self(self.0.wrapping_sub(count))
            }

            /// Whether this one comes before `other` (RFC 1982 3.2). Undefined pairs, exactly half
            /// the number space apart, are neither before nor after each other.
            #[inline]
            #[must_use]
            pub const fn is_before(self, other: Self) -> bool {
                let ahead = other.0.wrapping_sub(self.0);
                ahead != 0 && ahead < HALF
            }

            /// Whether this one comes after `other`.
            #[inline]
            #[must_use]
            pub const fn is_after(self, other: Self) -> bool {
                other.is_before(self)
            }

            /// How far this one is after `earlier`, going forward (modulo 2^32).
            #[inline]
            #[must_use]
            pub const fn distance_from(self, earlier: Self) -> u32 {
                self.0.wrapping_sub(earlier.0)
            }

            /// Whether this one lies in `first ..= last`. `last` just before `first` is the empty
            /// window; no window is larger than half the number space.
            #[inline]
            #[must_use]
            pub const fn is_within(self, first: Self, last: Self) -> bool {
                let size = last.0.wrapping_sub(first.0).wrapping_add(1);
                size <= HALF && self.distance_from(first) < size
            }
        }

        impl From<U32> for $name {
            #[inline]
            fn from(wire: U32) -> Self {
                Self(wire.get())
            }
        }

        impl From<$name> for U32 {
            #[inline]
            fn from(number: $name) -> Self {
                Self::new(number.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), " {:#010x}"), self.0)
            }
        }
    };
}

serial! {
    /// CmdSN, and ExpCmdSN and MaxCmdSN that bound it: the place of a command in its session
    /// (RFC 7143 4.2.2.1).
    CmdSn
}
serial! {
    /// StatSN and ExpStatSN: the place of a status on its connection (RFC 7143 4.2.2.2).
    StatSn
}
serial! {
    /// DataSN and ExpDataSN: the place of a data PDU in its sequence (RFC 7143 4.2.2.3).
    DataSn
}
serial! {
    /// R2TSN: the place of a Ready To Transfer among those of its task (RFC 7143 4.2.2.3).
    R2tSn
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_holds_over_the_wrap() {
        let last = CmdSn(u32::MAX);
        assert_eq!(last.next(), CmdSn(0));
        assert!(last.is_before(CmdSn(0)));
        assert!(CmdSn(5).is_after(last));
        assert!(!last.is_before(last));
        assert_eq!(CmdSn(3).distance_from(last), 4);
    }

    #[test]
    fn half_the_space_apart_is_undefined() {
        let (a, b) = (CmdSn(7), CmdSn(7 + HALF));
        assert!(!a.is_before(b) && !b.is_before(a));
        assert!(!a.is_after(b) && !b.is_after(a));
    }

    #[test]
    fn a_window_of_none_holds_none() {
        let first = CmdSn(0);
        for n in [0, 1, u32::MAX, HALF] {
            assert!(!CmdSn(n).is_within(first, first.minus(1)));
        }
    }

    proptest! {
        #[test]
        fn a_window_holds_exactly_its_members(first: u32, size in 1u32..=HALF, at: u32) {
            let first = StatSn(first);
            let last = first.plus(size - 1);
            prop_assert_eq!(first.plus(at).is_within(first, last), at < size);
        }

        #[test]
        fn before_is_what_going_forward_reaches(from: u32, by in 1..HALF) {
            let (a, b) = (DataSn(from), DataSn(from).plus(by));
            prop_assert!(a.is_before(b) && b.is_after(a) && !b.is_before(a));
            prop_assert_eq!(b.minus(by), a);
        }
    }
}
