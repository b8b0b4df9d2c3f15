//! Reading big-endian fields from parameter lists and writing them to parameter data.
//!
//! Reading past the end gives zero: callers check lengths first, and nothing panics.

/// One byte.
pub(crate) fn byte(from: &[u8], at: usize) -> u8 {
    from.get(at).copied().unwrap_or(0)
}

/// `N` bytes, zero where `from` does not have them all.
pub(crate) fn array<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    from.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

/// Two bytes.
pub(crate) fn be16(from: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(from, at))
}

/// Four bytes.
pub(crate) fn be32(from: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(from, at))
}

/// Eight bytes.
pub(crate) fn be64(from: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(from, at))
}

/// What parameter data is built with: append big-endian, patch lengths afterwards.
pub(crate) trait Put {
    /// Appends two bytes.
    fn put16(&mut self, value: u16);
    /// Appends four bytes.
    fn put32(&mut self, value: u32);
    /// Appends eight bytes.
    fn put64(&mut self, value: u64);
    /// Appends `count` zeroes.
    fn zeroes(&mut self, count: usize);
    /// Overwrites bytes already there; does nothing where they are not.
    fn patch(&mut self, at: usize, with: &[u8]);
    /// Appends ASCII in a field of that width: cut, or filled with spaces.
    fn put_padded(&mut self, text: &str, width: usize);
}

impl Put for Vec<u8> {
    fn put16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn zeroes(&mut self, count: usize) {
        self.resize(self.len() + count, 0);
    }

    fn patch(&mut self, at: usize, with: &[u8]) {
        if let Some(place) = self.get_mut(at..at + with.len()) {
            place.copy_from_slice(with);
        }
    }

    fn put_padded(&mut self, text: &str, width: usize) {
        let end = self.len() + width;
        self.extend(text.bytes().take(width));
        self.resize(end, b' ');
    }
}

/// A length as a two-byte field; saturates, which no bounded structure here reaches.
pub(crate) fn len16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// A length as a four-byte field; saturates like [`len16`].
pub(crate) fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A length as a one-byte field; saturates like [`len16`].
pub(crate) fn len8(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

/// A four-byte length as an index. Exact wherever pointers have 32 bits or more.
pub(crate) fn index(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_past_the_end_are_zero() {
        let bytes = [1, 2, 3, 4];
        assert_eq!(be16(&bytes, 1), 0x0203);
        assert_eq!(be32(&bytes, 1), 0);
        assert_eq!(be64(&bytes, 0), 0);
        assert_eq!(byte(&bytes, 4), 0);
        assert_eq!(be16(&bytes, usize::MAX), 0);
    }

    #[test]
    fn padded_text_is_cut_or_filled() {
        let mut out = Vec::new();
        out.put_padded("AB", 4);
        out.put_padded("ABCDEF", 3);
        assert_eq!(out, b"AB  ABC");
    }
}
