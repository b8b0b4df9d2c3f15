//! CRC32C (Castagnoli), the checksum of everything on a journal.

use crc_fast::CrcAlgorithm::Crc32Iscsi;
use kagami_memory::Scatter;

/// Of bytes that lie together.
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    narrow(crc_fast::checksum(Crc32Iscsi, bytes))
}

/// Of pieces one after the other.
#[inline]
pub(crate) fn of_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut pieces = pieces.into_iter();
    let Some(first) = pieces.next() else { return crc32c(&[]) };
    let Some(second) = pieces.next() else { return crc32c(first) };
    let mut digest = crc_fast::Digest::new(Crc32Iscsi);
    digest.update(first);
    digest.update(second);
    for piece in pieces {
        digest.update(piece);
    }
    narrow(digest.finalize())
}

/// Of a list of pages.
#[inline]
pub(crate) fn of_scatter(data: &Scatter) -> u32 {
    of_pieces(data.chunks())
}

/// The checksum has 32 bits; the library hands it out in 64.
#[inline]
fn narrow(crc: u64) -> u32 {
    let [a, b, c, d, ..] = crc.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(of_pieces([&b"1234"[..], b"", b"56789"]), 0xe306_9283);
        assert_eq!(of_pieces([]), crc32c(&[]));
    }
}
