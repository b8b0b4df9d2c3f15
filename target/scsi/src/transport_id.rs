//! TransportIDs: the names of initiator ports (SPC-5 7.6.4.5).
//!
//! An iSCSI initiator port is an iSCSI name and an ISID (RFC 7143 4.2.7.1). Registrations are
//! kept by it, so that they survive logout and login.

use crate::bytes::{Put, be16, byte, len16};

/// An initiator port: the initiator's iSCSI name and the ISID of its session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TransportId {
    name: Box<str>,
    isid: [u8; 6],
}

impl TransportId {
    /// The longest iSCSI name, in bytes (RFC 7143 4.2.7.1).
    pub const MAX_NAME: usize = 223;

    /// The port of that name and ISID; `None` where the name is empty, longer than
    /// [`MAX_NAME`](Self::MAX_NAME), or has a NUL or comma, which no iSCSI name has.
    #[must_use]
    pub fn new(name: &str, isid: [u8; 6]) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= Self::MAX_NAME && !name.contains(['\0', ',']);
        fits.then(|| Self { name: name.into(), isid })
    }

    /// The iSCSI name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The initiator session identifier.
    #[must_use]
    pub fn isid(&self) -> [u8; 6] {
        self.isid
    }

    /// Appends the TransportID of format 01b: `name,i,0xISID`, NUL-terminated, padded to a
    /// multiple of four.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0x45, 0, 0, 0]);
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(b",i,0x");
        for octet in self.isid {
            out.extend([octet >> 4, octet & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
        }
        // One NUL at least; the whole at least 24 bytes (SPC-5 table 529).
        let text = (out.len() - start - 4 + 1).next_multiple_of(4).max(20);
        out.resize(start + 4 + text, 0);
        out.patch(start + 2, &len16(text).to_be_bytes());
    }
}

/// A TransportID from a parameter list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParsedId {
    /// Format 01b: this port.
    Port(TransportId),
    /// Format 00b: whichever ports the initiator of that name has.
    Name(Box<str>),
}

impl ParsedId {
    /// Reads one TransportID and says how many bytes it took; `None` where it is malformed or
    /// not of iSCSI.
    pub fn parse(from: &[u8]) -> Option<(Self, usize)> {
        let head = byte(from, 0);
        if head & 0x0f != 5 {
            return None;
        }
        let length = usize::from(be16(from, 2));
        let text = from.get(4..4 + length)?;
        let end = text.iter().position(|&octet| octet == 0)?;
        let text = std::str::from_utf8(&text[..end]).ok()?;
        let id = match head >> 6 {
            0 => Self::Name(TransportId::new(text, [0; 6])?.name),
            1 => {
                let (name, isid) = text.split_once(",i,0x")?;
                Self::Port(TransportId::new(name, parse_isid(isid)?)?)
            }
            _ => return None,
        };
        Some((id, 4 + length))
    }

    pub fn matches(&self, id: &TransportId) -> bool {
        match self {
            Self::Port(port) => port == id,
            Self::Name(name) => *name == id.name,
        }
    }
}

fn parse_isid(digits: &str) -> Option<[u8; 6]> {
    if digits.len() != 12 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u64::from_str_radix(digits, 16).ok()?;
    let [_, _, isid @ ..] = value.to_be_bytes();
    Some(isid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_transport_id() {
        let id = TransportId::new("iqn.a:b", [0x80, 0, 0, 0x1a, 0x2b, 0xff]).unwrap();
        let mut out = Vec::new();
        id.encode(&mut out);
        assert_eq!(out, b"\x45\0\0\x1ciqn.a:b,i,0x8000001a2bff\0\0\0\0");
        assert_eq!(ParsedId::parse(&out), Some((ParsedId::Port(id), out.len())));
    }

    #[test]
    fn short_names_are_padded_to_the_least_length() {
        let mut out = Vec::new();
        TransportId::new("x", [0; 6]).unwrap().encode(&mut out);
        assert_eq!(out.len(), 24);
    }

    #[test]
    fn a_name_alone_matches_every_port_of_it() {
        let bytes = *b"\x05\0\0\x14iqn.a:b\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let (id, used) = ParsedId::parse(&bytes).unwrap();
        assert_eq!(used, bytes.len());
        assert!(id.matches(&TransportId::new("iqn.a:b", [7; 6]).unwrap()));
        assert!(!id.matches(&TransportId::new("iqn.a:c", [7; 6]).unwrap()));
    }

    #[test]
    fn malformed_ids_are_refused() {
        let cases: [&[u8]; 6] = [
            b"",
            b"\x46\0\0\x04abc\0",
            b"\x05\0\0\x04abcd",
            b"\x05\0\0\x08abc\0",
            b"\x45\0\0\x04abc\0",
            b"\x85\0\0\x04abc\0",
        ];
        for case in cases {
            assert_eq!(ParsedId::parse(case), None, "{case:?}");
        }
        assert_eq!(TransportId::new("", [0; 6]), None);
        assert_eq!(TransportId::new(&"x".repeat(224), [0; 6]), None);
    }
}
