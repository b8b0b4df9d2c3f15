//! Where things are on a command device.

/// The first bytes are ordinary storage: labels, probes and readahead do no harm there.
pub const ORDINARY: u64 = 16 << 20;
/// Bytes of a slot.
pub const SLOT: u64 = 64 << 10;
/// Bytes of each half of a slot: the request, then the result.
pub const HALF: u64 = 32 << 10;
/// The same, as the most bytes that a record may have.
pub const MAX_RECORD: usize = 32 << 10;
/// Most slots. What a device has behind the last of them is reserved: it reads as zeroes.
pub const MAX_SLOTS: u32 = 1024;

/// How many slots a device of that many bytes has.
#[must_use]
pub fn slots(bytes: u64) -> u32 {
    let slots = bytes.saturating_sub(ORDINARY) / SLOT;
    u32::try_from(slots).unwrap_or(MAX_SLOTS).min(MAX_SLOTS)
}

/// Where the request half of a slot begins.
#[must_use]
pub fn request_at(slot: u32) -> u64 {
    ORDINARY + u64::from(slot) * SLOT
}

/// Where the result half of a slot begins.
#[must_use]
pub fn result_at(slot: u32) -> u64 {
    request_at(slot) + HALF
}
