//! Additional header segments (RFC 7143 11.2.2).
//!
//! Only a SCSI command may carry them, and only two kinds are defined: the rest of a long CDB, and
//! the read length of a bidirectional command.

/// The kind of an extended CDB segment (RFC 7143 11.2.2.3).
const EXTENDED_CDB: u8 = 0x01;
/// The kind of a bidirectional read length segment (RFC 7143 11.2.2.4).
const BIDIRECTIONAL_READ_LENGTH: u8 = 0x02;
/// AHSLength, AHSType and the one specific byte that every segment has.
const PREFIX: usize = 4;
/// The longest CDB, SPC-5's 260 bytes, less the 16 of the header.
const MAX_EXTENSION: usize = 244;

/// What the additional header segments of a SCSI command say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Additional<'a> {
    /// The CDB from byte 16 on; empty for a CDB of 16 bytes or less.
    pub extended_cdb: &'a [u8],
    /// Expected length in bytes of what a bidirectional command reads.
    pub bidirectional_read_len: Option<u32>,
}

/// Additional header segments that cannot be read. The PDU is to be rejected as an invalid field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdditionalError {
    /// A segment goes on beyond the end of all of them.
    #[error("an additional header segment is cut off")]
    Truncated,
    /// A segment's length does not fit its kind.
    #[error("an additional header segment of kind {kind:#04x} is {len} bytes long")]
    Length {
        /// AHSType.
        kind: u8,
        /// AHSLength in bytes.
        len: u16,
    },
    /// A kind that RFC 7143 does not define.
    #[error("unknown kind {0:#04x} of additional header segment")]
    Unknown(u8),
    /// The same kind twice.
    #[error("additional header segment of kind {0:#04x} twice")]
    Repeated(u8),
}

/// Reads the additional header segments of a SCSI command.
///
/// # Errors
/// A segment that is cut off, of the wrong length, unknown or repeated.
pub fn additional(mut ahs: &[u8]) -> Result<Additional<'_>, AdditionalError> {
    let mut found = Additional::default();
    // Each round takes at least PREFIX bytes of at most 1020.
    while !ahs.is_empty() {
        let &[high, low, kind, _] = ahs.first_chunk::<PREFIX>().ok_or(AdditionalError::Truncated)?;
        // AHSLength counts from the specific byte after AHSType, padding excluded.
        let len = u16::from_be_bytes([high, low]);
        let kind = kind & 0x3f;
        let wire = (usize::from(len) + 3).next_multiple_of(4).max(PREFIX);
        let (segment, rest) = ahs.split_at_checked(wire).ok_or(AdditionalError::Truncated)?;
        let wrong_length = AdditionalError::Length { kind, len };
        match kind {
            EXTENDED_CDB => {
                let body = usize::from(len).checked_sub(1).ok_or(wrong_length)?;
                if body == 0 || body > MAX_EXTENSION {
                    return Err(wrong_length);
                }
                if !found.extended_cdb.is_empty() {
                    return Err(AdditionalError::Repeated(kind));
                }
                found.extended_cdb = segment.get(PREFIX..PREFIX + body).ok_or(AdditionalError::Truncated)?;
            }
            BIDIRECTIONAL_READ_LENGTH => {
                let bytes = segment.get(PREFIX..).and_then(|rest| rest.first_chunk::<4>());
                let (5, Some(&bytes)) = (len, bytes) else { return Err(wrong_length) };
                if found.bidirectional_read_len.replace(u32::from_be_bytes(bytes)).is_some() {
                    return Err(AdditionalError::Repeated(kind));
                }
            }
            other => return Err(AdditionalError::Unknown(other)),
        }
        ahs = rest;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_cdb_and_a_read_length() {
        let ahs =
            [0, 17, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 5, 2, 0, 0, 0, 0x10, 0];
        let found = additional(&ahs).unwrap();
        assert_eq!(found.extended_cdb, &ahs[4..20]);
        assert_eq!(found.bidirectional_read_len, Some(4096));
    }

    #[test]
    fn padding_is_not_part_of_the_cdb() {
        assert_eq!(additional(&[0, 3, 1, 0, 7, 8, 0, 0]).unwrap().extended_cdb, [7, 8]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        use AdditionalError as E;
        assert_eq!(additional(&[0, 5, 2]), Err(E::Truncated));
        assert_eq!(additional(&[0, 9, 1, 0, 1, 2, 3, 4]), Err(E::Truncated));
        assert_eq!(additional(&[0, 0, 1, 0]), Err(E::Length { kind: 1, len: 0 }));
        assert_eq!(additional(&[0, 4, 2, 0, 0, 0, 0, 0]), Err(E::Length { kind: 2, len: 4 }));
        assert_eq!(additional(&[0, 1, 9, 0]), Err(E::Unknown(9)));
        let twice = [0, 5, 2, 0, 0, 0, 0, 1, 0, 5, 2, 0, 0, 0, 0, 1];
        assert_eq!(additional(&twice), Err(E::Repeated(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..1020)) {
            let _ = additional(&bytes);
        }
    }
}
