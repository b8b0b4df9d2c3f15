//! The log of a dm-log-writes device: everything that was written to a block device, in the order in which it became
//! stable there.
//!
//! The format is the kernel's (`Documentation/admin-guide/device-mapper/log-writes.rst` and the structures that it
//! names). All numbers are little-endian; a *sector* here is of the size that the log's first block says.
//!
//! | sector | what |
//! | --- | --- |
//! | 0 | magic (8 bytes), version (8), entries (8), sector size in bytes (4) |
//! | 1.. | the entries: a header of one sector, then the data that was written |
//!
//! An entry's header is: first sector (8 bytes), sectors (8), flags (8), bytes of inline data (8), inline data. Only
//! marks, which `dmsetup message` makes, have inline data: their name. A discard has sectors and no data.
//!
//! Writes are in the log once a flush that began after their end is, or at once where they were FUA: what is in the
//! log up to any flush is what a device holds at least after losing power there. Pure code over any reader.

use crate::error::Error;
use std::io::{ErrorKind, Read};

const MAGIC: u64 = 0x6a_7366_7773_6872;
const VERSION: u64 = 1;
const HEADER: usize = 32;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// The most bytes in one entry: the kernel makes none larger than a request.
const LARGEST: u64 = 64 << 20;

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// Data was written there, so many bytes into the device.
    Write {
        /// Bytes from the device's start.
        offset: u64,
        /// What.
        data: Vec<u8>,
        /// A flush came with it.
        flush: bool,
        /// It was made stable by itself, before others that had ended earlier.
        fua: bool,
    },
    /// Blocks were given back; what they hold is not known.
    Discard {
        /// Bytes from the device's start.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// A flush without data.
    Flush,
    /// Somebody's mark.
    Mark(String),
}

/// Reads a log from its start to its end.
#[derive(Debug)]
pub struct Log<R> {
    from: R,
    sector: u64,
    left: u64,
}

impl<R: Read> Log<R> {
    /// Reads the first block.
    ///
    /// # Errors
    /// It cannot be read, or is not a log's.
    pub fn open(mut from: R) -> Result<Self, Error> {
        let mut first = [0; 512];
        read(&mut from, &mut first)?;
        let (magic, version) = (word(&first, 0), word(&first, 8));
        if (magic, version) != (MAGIC, VERSION) {
            return Err(Error::Failed("it does not begin as a log of dm-log-writes does".to_owned()));
        }
        let sector = word(&first, 24) & 0xffff_ffff;
        if !sector.is_power_of_two() || !(512..=65536).contains(&sector) {
            return Err(Error::Failed(format!("the log has sectors of {sector} bytes")));
        }
        let mut log = Self { from, sector, left: word(&first, 16) };
        log.skip(sector - 512)?;
        Ok(log)
    }

    /// The next entry; `None` after the last.
    ///
    /// # Errors
    /// The log cannot be read, ends early, or contradicts itself.
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let header = self.bytes(self.sector)?;
        let [first, sectors, flags, inline] = [0, 8, 16, 24].map(|at| word(&header, at));
        let bytes = |sectors: u64| {
            let bytes = sectors.checked_mul(self.sector);
            bytes.ok_or_else(|| Error::Failed("an entry beyond every device".to_owned()))
        };
        let (offset, len) = (bytes(first)?, bytes(sectors)?);
        if flags & MARK != 0 {
            let end = usize::try_from(inline).ok().and_then(|len| HEADER.checked_add(len));
            let name = end.and_then(|end| header.get(HEADER..end));
            let name = name.ok_or_else(|| Error::Failed("a mark longer than its sector".to_owned()))?;
            return Ok(Some(Entry::Mark(String::from_utf8_lossy(name).into_owned())));
        }
        if flags & DISCARD != 0 {
            return Ok(Some(Entry::Discard { offset, len }));
        }
        if len == 0 {
            return Ok(Some(Entry::Flush));
        }
        if len > LARGEST {
            return Err(Error::Failed(format!("an entry of {len} bytes")));
        }
        let data = self.bytes(len)?;
        Ok(Some(Entry::Write { offset, data, flush: flags & FLUSH != 0, fua: flags & FUA != 0 }))
    }

    fn bytes(&mut self, len: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        read(&mut self.from, &mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, len: u64) -> Result<(), Error> {
        self.bytes(len).map(drop)
    }
}

fn read(from: &mut impl Read, bytes: &mut [u8]) -> Result<(), Error> {
    from.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => Error::Failed("the log ends before its last entry".to_owned()),
        _ => Error::Failed(format!("the log cannot be read: {error}")),
    })
}

/// The number at that place of a block; 0 where it has no such place.
fn word(block: &[u8], at: usize) -> u64 {
    let bytes = block.get(at..).and_then(|rest| rest.first_chunk::<8>());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A log as the kernel writes it, of (first sector, data or mark, flags).
    pub(in super::super) fn log(entries: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [MAGIC, VERSION, entries.len() as u64, 512] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(512, 0);
        for (first, data, flags) in entries {
            let mark = flags & MARK != 0;
            let (sectors, inline) = if mark { (0, data.len()) } else { (data.len() / 512, 0) };
            let start = bytes.len();
            for number in [*first, sectors as u64, *flags, inline as u64] {
                bytes.extend(number.to_le_bytes());
            }
            if mark {
                bytes.extend(*data);
            }
            bytes.resize(start + 512, 0);
            if !mark && flags & DISCARD == 0 {
                bytes.extend(*data);
            }
        }
        bytes
    }

    #[test]
    fn entries_are_read_in_order() {
        let data = vec![7; 1024];
        let bytes =
            log(&[(8, &data, FUA), (0, b"here", MARK), (4, &data, DISCARD), (0, &[], FLUSH), (9, &data, 0)]);
        let mut log = Log::open(&bytes[..]).unwrap();
        let mut next = || log.next().unwrap();
        assert_eq!(next(), Some(Entry::Write { offset: 4096, data: data.clone(), flush: false, fua: true }));
        assert_eq!(next(), Some(Entry::Mark("here".to_owned())));
        assert_eq!(next(), Some(Entry::Discard { offset: 2048, len: 1024 }));
        assert_eq!(next(), Some(Entry::Flush));
        assert_eq!(next(), Some(Entry::Write { offset: 4608, data, flush: false, fua: false }));
        assert_eq!(next(), None);
    }

    #[test]
    fn damage_is_an_error() {
        assert!(Log::open(&[0u8; 512][..]).is_err());
        assert!(Log::open(&[0u8; 5][..]).is_err());
        let bytes = log(&[(8, &[7; 1024], 0)]);
        let mut short = Log::open(&bytes[..1200]).unwrap();
        assert!(short.next().unwrap_err().to_string().contains("ends before"));
        let mut huge = bytes.clone();
        huge[520..528].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Log::open(&huge[..]).unwrap().next().is_err());
        let mut long = log(&[(0, b"x", MARK)]);
        long[536..544].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Log::open(&long[..]).unwrap().next().is_err());
    }
}
