//! Files of journals have all their blocks before they are used: a journal must not find the file system full, and
//! its writes must not wait for blocks to be found.

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that are written at a time.
const CHUNK: usize = 1 << 20;

/// Writes zeroes wherever a file has no blocks yet, and makes that stable. How many bytes that were.
///
/// # Errors
/// The file system is full, or what else it says.
pub(super) fn fill(path: &Path, size: u64) -> io::Result<u64> {
    // Not the descriptor that is used later: that one is for whole blocks in aligned memory.
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let zeroes = vec![0; CHUNK];
    let (mut at, mut filled) = (0, 0);
    while let Some((begin, end)) = next_hole(&file, at, size)? {
        let mut place = begin;
        while place < end {
            let len = usize::try_from((end - place).min(CHUNK as u64)).unwrap_or(CHUNK);
            file.write_all_at(zeroes.get(..len).unwrap_or_default(), place)?;
            place += len as u64;
        }
        filled += end - begin;
        at = end;
    }
    if filled > 0 {
        file.sync_all()?;
    }
    Ok(filled)
}

/// The first part without blocks at or behind a place, below `size`.
fn next_hole(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let begin = match seek(file, SeekFrom::Hole(at)) {
        Ok(begin) => begin,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if begin >= size {
        return Ok(None);
    }
    let end = match seek(file, SeekFrom::Data(begin)) {
        Ok(end) => end.min(size),
        // Nothing but a hole up to the end.
        Err(Errno::NXIO) => size,
        Err(error) => return Err(error.into()),
    };
    Ok(Some((begin, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_and_data_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let file = File::create(&path).unwrap();
        file.set_len(5 << 20).unwrap();
        file.write_all_at(&[7; 4096], 2 << 20).unwrap();
        file.sync_all().unwrap();
        assert_eq!(fill(&path, 5 << 20).unwrap(), (5 << 20) - 4096);
        assert_eq!(fill(&path, 5 << 20).unwrap(), 0);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.iter().filter(|byte| **byte == 7).count(), 4096);
        assert!(bytes.len() == 5 << 20 && bytes[(2 << 20) - 1] == 0 && bytes[2 << 20] == 7);
    }
}
