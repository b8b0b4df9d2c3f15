//! What names a logical unit: its number on the wire and its world-wide name.

use std::fmt;
use uuid::Uuid;

/// A logical unit number, 0 to 16383.
///
/// On the wire it is eight bytes (SAM-5 4.7): peripheral device addressing below 256,
/// flat space addressing from 256 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lun(u16);

/// Eight bytes that are not a LUN of a form that this array serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LunFormatError;

impl Lun {
    /// The largest number that flat space addressing has room for.
    pub const MAX: u16 = 0x3fff;

    /// LUN 0, where REPORT LUNS is always answered.
    pub const ZERO: Self = Self(0);

    /// The LUN of that number, where there is one.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number <= Self::MAX).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The number, as an index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The eight bytes of the wire.
    #[must_use]
    pub fn to_wire(self) -> [u8; 8] {
        let [high, low] = self.0.to_be_bytes();
        let high = if self.0 < 256 { 0 } else { 0x40 | high };
        [high, low, 0, 0, 0, 0, 0, 0]
    }

    /// Reads the eight bytes of the wire. Both addressing methods are taken for any
    /// number, as initiators differ (SAM-5 4.7.7.2 and 4.7.7.3).
    ///
    /// # Errors
    /// Another addressing method, a bus number, or more than one level.
    #[inline]
    pub fn from_wire(wire: [u8; 8]) -> Result<Self, LunFormatError> {
        let word = u64::from_be_bytes(wire);
        if word & 0x0000_ffff_ffff_ffff != 0 {
            return Err(LunFormatError);
        }
        let [high, low] = [wire[0], wire[1]];
        match high >> 6 {
            0 if high == 0 => Ok(Self(u16::from(low))),
            1 => Ok(Self(u16::from_be_bytes([high & 0x3f, low]))),
            _ => Err(LunFormatError),
        }
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LUN {}", self.0)
    }
}

/// A volume's world-wide name: an NAA identifier of format 6, sixteen bytes (SPC-5 7.7.6.6.5).
///
/// It is made once from the volume's UUID and stored, so that the volume can move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Naa(pub [u8; 16]);

impl Naa {
    /// The company identifier part: locally assigned, as no OUI is registered for Kagami.
    const COMPANY: u32 = 0x02_4b_47;

    /// Makes the name of a volume: 4 bits of format, 24 of company, 100 of the UUID.
    #[must_use]
    pub fn from_uuid(uuid: Uuid) -> Self {
        let id = uuid.as_u128() & ((1 << 100) - 1);
        let word = (6u128 << 124) | (u128::from(Self::COMPANY) << 100) | id;
        Self(word.to_be_bytes())
    }
}

impl fmt::Display for Naa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "naa.{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lun_survives_the_wire() {
        for number in 0..=Lun::MAX {
            let lun = Lun::new(number).unwrap();
            assert_eq!(Lun::from_wire(lun.to_wire()), Ok(lun));
        }
        assert_eq!(Lun::new(Lun::MAX + 1), None);
    }

    #[test]
    fn flat_addressing_is_taken_for_small_numbers() {
        assert_eq!(Lun::from_wire([0x40, 7, 0, 0, 0, 0, 0, 0]), Ok(Lun(7)));
    }

    #[test]
    fn other_forms_are_refused() {
        for wire in [[0xc1, 1, 0, 0, 0, 0, 0, 0], [0x01, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]] {
            assert_eq!(Lun::from_wire(wire), Err(LunFormatError));
        }
    }

    #[test]
    fn naa_has_format_six_and_the_uuid() {
        let naa = Naa::from_uuid(Uuid::from_u128(u128::MAX));
        assert_eq!(naa.0[0], 0x60);
        assert_eq!(naa.to_string(), "naa.6024b47fffffffffffffffffffffffff");
    }
}
