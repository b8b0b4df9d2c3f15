//! Little-endian fields at fixed places.

use kagami_types::Uuid;

/// The field of `N` bytes at a place; zeroes where the bytes end before.
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

pub(crate) fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    Uuid::from_bytes(field(bytes, at))
}

/// Puts a field to its place; what has no room is left out, which the callers' sizes exclude.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// The stated length of a record that begins so, where it has the magic number and the length is
/// possible; what follows is not looked at.
pub(crate) fn stated(bytes: &[u8], magic: [u8; 8], header: usize, most: usize) -> Option<usize> {
    if field::<8>(bytes, 0) != magic {
        return None;
    }
    let len = usize::try_from(u32_at(bytes, 12)).ok()?;
    (len >= header + 4 && len <= most).then_some(len)
}

/// Whether the CRC32C in the last four bytes is right.
pub(crate) fn is_whole(record: &[u8]) -> bool {
    let Some((body, crc)) = record.split_last_chunk::<4>() else { return false };
    crc32c::crc32c(body).to_le_bytes() == *crc
}

/// Appends the CRC32C.
pub(crate) fn seal(record: &mut Vec<u8>) {
    let crc = crc32c::crc32c(record);
    record.extend_from_slice(&crc.to_le_bytes());
}
