//! The path of a logical unit through arrays: a vendor-specific VPD page (SPC-5 7.7, page codes C0h to FFh).
//!
//! It lists the UUIDs of the arrays that a command passes, from the one that answers to the one that has
//! the data. A volume of an array's own has a path of one. Whoever maps a unit as a virtual volume reads
//! it: its own UUID in it is a loop. Written by logical units and virtual volumes, read by links.
//!
//! ```text
//!  0        4          10       11      12     13..15    16
//!  | header | "KAGAMI" | version | flags | count | reserved | UUIDs of 16 bytes each
//! ```

use crate::bytes::{Put, len8, len16};
use kagami_types::Uuid;

/// The page's code.
pub const PATH_PAGE: u8 = 0xc8;
/// The most arrays on a path, the last one included: eight hops.
pub const MOST_ARRAYS: usize = 9;

const MAGIC: &[u8; 6] = b"KAGAMI";
const VERSION: u8 = 1;
/// The array does not know (yet) what comes after the last of the list.
const INCOMPLETE: u8 = 1;

/// The arrays that a unit's commands pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Their UUIDs, from the one that answers on.
    pub arrays: Vec<Uuid>,
    /// The last one of them has the data; otherwise it is not known (yet) what comes after it.
    pub complete: bool,
}

impl Path {
    /// Writes the page whole.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&[0, PATH_PAGE, 0, 0]);
        out.extend_from_slice(MAGIC);
        let arrays = self.arrays.get(..MOST_ARRAYS).unwrap_or(&self.arrays);
        let flags = if self.complete && arrays.len() == self.arrays.len() { 0 } else { INCOMPLETE };
        out.extend_from_slice(&[VERSION, flags, len8(arrays.len()), 0, 0, 0]);
        arrays.iter().for_each(|array| out.extend_from_slice(array.as_bytes()));
        let length = len16(out.len() - 4).to_be_bytes();
        out.patch(2, &length);
    }

    /// Reads the page; `None` where it is none of this kind and version.
    #[must_use]
    pub fn read(page: &[u8]) -> Option<Self> {
        let (head, rest) = page.split_first_chunk::<16>()?;
        let [_, code, _, _, magic @ .., version, flags, count, _, _, _] = head;
        if *code != PATH_PAGE || magic != MAGIC || *version != VERSION || usize::from(*count) > MOST_ARRAYS {
            return None;
        }
        let list = rest.get(..usize::from(*count) * 16)?;
        let arrays = list.as_chunks::<16>().0.iter().map(|bytes| Uuid::from_bytes(*bytes)).collect();
        Some(Self { arrays, complete: flags & INCOMPLETE == 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_byte_by_byte() {
        let path = Path { arrays: vec![Uuid::from_u128(0x11), Uuid::from_u128(0x22)], complete: true };
        let mut out = vec![9; 3];
        path.write(&mut out);
        let mut expected = vec![0, 0xc8, 0, 44];
        expected.extend_from_slice(b"KAGAMI\x01\x00\x02\0\0\0");
        expected.extend_from_slice(&[0; 15]);
        expected.push(0x11);
        expected.extend_from_slice(&[0; 15]);
        expected.push(0x22);
        assert_eq!(out, expected);
        assert_eq!(Path::read(&out), Some(path));
    }

    #[test]
    fn what_is_no_path_is_none() {
        let mut out = Vec::new();
        Path { arrays: vec![Uuid::from_u128(1)], complete: false }.write(&mut out);
        assert_eq!(Path::read(&out).map(|path| path.complete), Some(false));
        for len in 0..out.len() {
            assert_eq!(Path::read(&out[..len]), None, "{len} bytes");
        }
        for at in [1, 4, 10] {
            let mut bad = out.clone();
            bad[at] ^= 0x80;
            assert_eq!(Path::read(&bad), None, "byte {at}");
        }
        let long = Path { arrays: vec![Uuid::nil(); 12], complete: true };
        long.write(&mut out);
        let read = Path::read(&out).unwrap();
        assert_eq!((read.arrays.len(), read.complete), (MOST_ARRAYS, false));
    }
}
