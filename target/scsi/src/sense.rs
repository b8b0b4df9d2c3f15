//! Status codes and sense data (SAM-5 5.3, SPC-5 4.4).
//!
//! A [`Sense`] is a small value; [`Sense::encode`] writes it in fixed or descriptor format
//! without allocating. Who chooses the format is the logical unit (D_SENSE).

/// Status codes (SAM-5 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The command completed without error.
    Good = 0x00,
    /// Sense data says what is wrong, or what the initiator has to know first.
    CheckCondition = 0x02,
    /// The requested condition is met (PRE-FETCH).
    ConditionMet = 0x04,
    /// Not now: try again.
    Busy = 0x08,
    /// A reservation held through another I_T nexus is in the way.
    ReservationConflict = 0x18,
    /// The task set has no room.
    TaskSetFull = 0x28,
    /// The task was aborted through another I_T nexus (TAS set).
    TaskAborted = 0x40,
}

/// Sense keys (SPC-5 4.4.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense = 0x0,
    /// The logical unit cannot be accessed.
    NotReady = 0x2,
    /// The data on the medium cannot be read or written.
    MediumError = 0x3,
    /// A failure that cannot be recovered from.
    HardwareError = 0x4,
    /// The command is at fault.
    IllegalRequest = 0x5,
    /// Something happened that the initiator has to know.
    UnitAttention = 0x6,
    /// The blocks may not be written.
    DataProtect = 0x7,
    /// The device server gave the command up; trying again may help.
    AbortedCommand = 0xb,
    /// Compared data differ.
    Miscompare = 0xe,
}

/// An additional sense code and its qualifier, as one number (SPC-5 annex F).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asc(pub u16);

impl Asc {
    pub const NONE: Self = Self(0x0000);
    pub const BECOMING_READY: Self = Self(0x0401);
    pub const INITIALIZING_COMMAND_REQUIRED: Self = Self(0x0402);
    pub const MANUAL_INTERVENTION_REQUIRED: Self = Self(0x0403);
    pub const COMMUNICATION_FAILURE: Self = Self(0x0800);
    pub const COMMUNICATION_TIMEOUT: Self = Self(0x0801);
    pub const WRITE_ERROR: Self = Self(0x0c00);
    pub const INVALID_FIELD_IN_INFORMATION_UNIT: Self = Self(0x0e03);
    pub const UNRECOVERED_READ_ERROR: Self = Self(0x1100);
    pub const PARAMETER_LIST_LENGTH: Self = Self(0x1a00);
    pub const MISCOMPARE: Self = Self(0x1d00);
    pub const INVALID_OPERATION_CODE: Self = Self(0x2000);
    pub const LBA_OUT_OF_RANGE: Self = Self(0x2100);
    pub const INVALID_FIELD_IN_CDB: Self = Self(0x2400);
    pub const LOGICAL_UNIT_NOT_SUPPORTED: Self = Self(0x2500);
    pub const INVALID_FIELD_IN_PARAMETER_LIST: Self = Self(0x2600);
    pub const INVALID_RELEASE: Self = Self(0x2604);
    pub const WRITE_PROTECTED: Self = Self(0x2700);
    pub const SPACE_ALLOCATION_FAILED: Self = Self(0x2707);
    pub const INTERNAL_TARGET_FAILURE: Self = Self(0x4400);
    pub const INSUFFICIENT_REGISTRATION_RESOURCES: Self = Self(0x5504);
}

/// Which byte (and bit) of the CDB or of the parameter list is at fault (SPC-5 4.4.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FieldPointer {
    in_cdb: bool,
    bit: Option<u8>,
    byte: u16,
}

/// What CHECK CONDITION tells the initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    key: SenseKey,
    asc: Asc,
    information: Option<u64>,
    pointer: Option<FieldPointer>,
}

/// Encoded sense data: up to 36 bytes, as they go into the response.
#[derive(Clone, Copy, Debug)]
pub struct SenseBytes {
    bytes: [u8; SenseBytes::ROOM],
    len: usize,
}

impl SenseBytes {
    const ROOM: usize = 36;
    const EMPTY: Self = Self { bytes: [0; Self::ROOM], len: 0 };

    /// The same as a deferred error: response code 71h or 73h in place of 70h or 72h.
    pub(crate) fn into_deferred(mut self) -> Self {
        self.bytes[0] |= 1;
        self
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

impl AsRef<[u8]> for SenseBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl FieldPointer {
    /// The three sense-key specific bytes, SKSV set.
    fn encode(self) -> [u8; 3] {
        let [high, low] = self.byte.to_be_bytes();
        let bit = self.bit.map_or(0, |bit| 0x08 | (bit & 7));
        [0x80 | (u8::from(self.in_cdb) << 6) | bit, high, low]
    }
}

impl Sense {
    pub(crate) const fn new(key: SenseKey, asc: Asc) -> Self {
        Self { key, asc, information: None, pointer: None }
    }

    pub(crate) const fn illegal(asc: Asc) -> Self {
        Self::new(SenseKey::IllegalRequest, asc)
    }

    /// NO SENSE: nothing to report.
    pub(crate) const NONE: Self = Self::new(SenseKey::NoSense, Asc::NONE);

    /// INVALID FIELD IN CDB, the field pointer at that byte.
    pub(crate) fn cdb_field(byte: u16) -> Self {
        Self::illegal(Asc::INVALID_FIELD_IN_CDB).pointing(FieldPointer { in_cdb: true, bit: None, byte })
    }

    /// INVALID FIELD IN CDB, pointing at one bit of that byte.
    pub(crate) fn cdb_bit(byte: u16, bit: u8) -> Self {
        Self::illegal(Asc::INVALID_FIELD_IN_CDB).pointing(FieldPointer { in_cdb: true, bit: Some(bit), byte })
    }

    /// INVALID FIELD IN PARAMETER LIST, the field pointer at that byte.
    pub(crate) fn list_field(byte: usize) -> Self {
        let byte = u16::try_from(byte).unwrap_or(u16::MAX);
        Self::illegal(Asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing(FieldPointer {
            in_cdb: false,
            bit: None,
            byte,
        })
    }

    /// PARAMETER LIST LENGTH ERROR.
    pub(crate) const fn list_length() -> Self {
        Self::illegal(Asc::PARAMETER_LIST_LENGTH)
    }

    fn pointing(mut self, pointer: FieldPointer) -> Self {
        self.pointer = Some(pointer);
        self
    }

    /// With that INFORMATION field: an LBA, or an offset in compared data.
    pub(crate) fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// The sense key.
    #[must_use]
    pub fn key(&self) -> SenseKey {
        self.key
    }

    /// Additional sense code and qualifier.
    #[must_use]
    pub fn asc_ascq(&self) -> (u8, u8) {
        let [asc, ascq] = self.asc.0.to_be_bytes();
        (asc, ascq)
    }

    /// The INFORMATION field, where there is one.
    #[must_use]
    pub fn information(&self) -> Option<u64> {
        self.information
    }

    /// Sense data as current information: descriptor format (72h, SPC-5 4.4.2) where
    /// `descriptor`, else fixed format (70h, SPC-5 4.4.3) of 18 bytes.
    #[must_use]
    pub fn encode(&self, descriptor: bool) -> SenseBytes {
        if descriptor { self.encode_descriptor() } else { self.encode_fixed() }
    }

    fn encode_fixed(&self) -> SenseBytes {
        let mut out = SenseBytes::EMPTY;
        let (asc, ascq) = self.asc_ascq();
        // Information that does not fit in four bytes is left out with VALID clear (SPC-5 4.4.3).
        let information = self.information.and_then(|value| u32::try_from(value).ok());
        let valid = u8::from(information.is_some()) << 7;
        out.push(&[0x70 | valid, 0, self.key as u8]);
        out.push(&information.unwrap_or(0).to_be_bytes());
        out.push(&[10, 0, 0, 0, 0, asc, ascq, 0]);
        out.push(&self.pointer.map_or([0; 3], FieldPointer::encode));
        out
    }

    fn encode_descriptor(&self) -> SenseBytes {
        let mut out = SenseBytes::EMPTY;
        let (asc, ascq) = self.asc_ascq();
        out.push(&[0x72, self.key as u8, asc, ascq, 0, 0, 0, 0]);
        if let Some(information) = self.information {
            out.push(&[0x00, 0x0a, 0x80, 0]);
            out.push(&information.to_be_bytes());
        }
        if let Some(pointer) = self.pointer {
            let [a, b, c] = pointer.encode();
            out.push(&[0x02, 0x06, 0, 0, a, b, c, 0]);
        }
        out.bytes[7] = crate::bytes::len8(out.len - 8);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deferred_error_has_its_own_response_code() {
        let sense = Sense::new(SenseKey::MediumError, Asc::WRITE_ERROR).with_information(9);
        for (descriptor, code) in [(false, 0xf1), (true, 0x73)] {
            let (now, deferred) = (sense.encode(descriptor), sense.encode(descriptor).into_deferred());
            assert_eq!(deferred.as_ref()[0], code);
            assert_eq!(deferred.as_ref()[1..], now.as_ref()[1..]);
        }
    }

    #[test]
    fn fixed_format_bytes() {
        let sense = Sense::cdb_bit(1, 3);
        let golden = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcb, 0, 1];
        assert_eq!(sense.encode(false).as_ref(), golden);
        let sense = Sense::new(SenseKey::Miscompare, Asc::MISCOMPARE).with_information(485);
        let golden = [0xf0, 0, 0xe, 0, 0, 1, 0xe5, 10, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0];
        assert_eq!(sense.encode(false).as_ref(), golden);
    }

    #[test]
    fn descriptor_format_bytes() {
        let sense = Sense::new(SenseKey::MediumError, Asc::UNRECOVERED_READ_ERROR).with_information(1 << 40);
        let golden = [0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(sense.encode(true).as_ref(), golden);
        let golden = [0x72, 5, 0x26, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0x80, 0, 9, 0];
        assert_eq!(Sense::list_field(9).encode(true).as_ref(), golden);
        assert_eq!(Sense::NONE.encode(true).as_ref(), [0x72, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn information_too_large_for_fixed_format_is_not_valid() {
        let sense = Sense::new(SenseKey::MediumError, Asc::WRITE_ERROR).with_information(1 << 32);
        assert_eq!(sense.encode(false).as_ref()[0], 0x70);
        assert_eq!(&sense.encode(false).as_ref()[3..7], [0; 4]);
    }

    #[test]
    fn the_longest_sense_fits() {
        let sense = Sense::cdb_bit(15, 7).with_information(u64::MAX);
        assert_eq!(sense.encode(true).as_ref().len(), 28);
    }
}
