//! CRC32C, the digest of iSCSI (RFC 7143 13.1), over bytes that need not lie together.
//!
//! Used by [`frame`](crate::frame) for header digests and by whoever sends or receives data
//! segments. The polynomial is Castagnoli's; digests are sent low byte first.

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// The length of a digest on the wire, in bytes.
pub const DIGEST_LEN: usize = 4;

/// A CRC32C that is being computed piece by piece.
#[derive(Clone, Debug)]
pub struct Crc32c(crc_fast::Digest);

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc32c {
    /// Begins.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(Crc32Iscsi))
    }

    /// Takes the next bytes. Padding is part of what is digested (RFC 7143 11.2.4): give it too.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far, as it is sent.
    #[inline]
    #[must_use]
    pub fn digest(&self) -> [u8; DIGEST_LEN] {
        to_wire(self.0.finalize())
    }

    /// Whether the bytes so far have that digest.
    #[inline]
    #[must_use]
    pub fn matches(&self, digest: [u8; DIGEST_LEN]) -> bool {
        self.digest() == digest
    }
}

/// The digest of bytes that lie together.
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> [u8; DIGEST_LEN] {
    to_wire(crc_fast::checksum(Crc32Iscsi, bytes))
}

/// The CRC has 32 bits; the library hands it out in 64.
#[inline]
fn to_wire(crc: u64) -> [u8; DIGEST_LEN] {
    let [a, b, c, d, ..] = crc.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The examples of RFC 7143 appendix A.4, as the bytes that are sent.
    #[test]
    fn the_examples_of_the_standard() {
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&up), [0x4e, 0x79, 0xdd, 0x46]);
        let down: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&down), [0x5c, 0xdb, 0x3f, 0x11]);
        let mut read10 = [0; 48];
        read10[..2].copy_from_slice(&[0x01, 0xc0]);
        read10[16] = 0x14;
        read10[22..24].copy_from_slice(&[0x04, 0x00]);
        read10[27] = 0x14;
        read10[31] = 0x18;
        read10[32] = 0x28;
        read10[40] = 0x02;
        assert_eq!(crc32c(&read10), [0x56, 0x3a, 0x96, 0xd9]);
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            cuts in proptest::collection::vec(any::<u16>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|&c| usize::from(c) % (bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut crc = Crc32c::new();
            let mut from = 0;
            for to in cuts.into_iter().chain([bytes.len()]) {
                crc.update(&bytes[from..to]);
                from = to;
            }
            prop_assert!(crc.matches(crc32c(&bytes)));
        }
    }
}
