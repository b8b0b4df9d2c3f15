//! Signatures: HMAC-SHA-256 (RFC 2104, FIPS 198-1) with an operator's key.

use hmac::{Hmac, KeyInit, Mac};
use kagami_types::Uuid;
use sha2::{Digest, Sha256};
use std::fmt;

/// The shortest key in bytes.
pub const LEAST_KEY: usize = 16;
/// The longest.
pub const MOST_KEY: usize = 1024;
/// For how long a signature may hold, at most.
pub const LONGEST_MILLIS: u64 = 3_600_000;

/// An operator's key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Box<[u8]>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A key of [`LEAST_KEY`] to [`MOST_KEY`] bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (LEAST_KEY..=MOST_KEY).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    fn mac(&self, array: Uuid, covered: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of every length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(array.as_bytes());
        mac.update(covered);
        Some(mac)
    }

    /// Signs for an array.
    #[must_use]
    pub fn sign(&self, array: Uuid, covered: &[u8]) -> [u8; 32] {
        self.mac(array, covered).map(|mac| mac.finalize().into_bytes().into()).unwrap_or_default()
    }

    /// Whether a signature is right; in constant time.
    #[must_use]
    pub fn verify(&self, array: Uuid, covered: &[u8], mac: &[u8; 32]) -> bool {
        self.mac(array, covered).is_some_and(|known| known.verify_slice(mac).is_ok())
    }
}

/// What tells two records of one id apart: SHA-256 of what a signature covers, its first 16 bytes.
#[must_use]
pub fn fingerprint(record: &[u8]) -> [u8; 16] {
    let hash = Sha256::digest(crate::request::covered(record));
    hash.first_chunk().copied().unwrap_or_default()
}
