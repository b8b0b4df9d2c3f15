//! The holes of a sparse file, asked of the file system before the volume on it is served.

use kagami_volume::Holes;
use rustix::fs::{FileType, SeekFrom};
use std::fs::File;
use std::time::{Duration, Instant};

/// The most runs of data and holes that are looked at. What comes after them counts as mapped.
const MOST_RUNS: usize = 1 << 20;
/// How long the file system may be asked.
const LONGEST: Duration = Duration::from_secs(2);

/// The holes in the first `bytes` of a regular file; `None` for anything else. A file system that does not say where its
/// holes are has none.
pub fn holes(file: &File, bytes: u64) -> Option<Holes> {
    let stat = rustix::fs::fstat(file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut holes = Holes::none(bytes);
    let began = Instant::now();
    let mut at = 0;
    for _ in 0..MOST_RUNS {
        if at >= bytes || began.elapsed() > LONGEST {
            break;
        }
        let Ok(hole) = rustix::fs::seek(file, SeekFrom::Hole(at)) else { break };
        if hole >= bytes {
            break;
        }
        // No data after the hole: it goes on to the end.
        let data = rustix::fs::seek(file, SeekFrom::Data(hole)).unwrap_or(bytes).min(bytes);
        // Data that was written meanwhile, or a file system that contradicts itself.
        if data <= hole {
            break;
        }
        holes.discarded(hole, data - hole);
        at = data;
    }
    Some(holes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_types::{BlockSize, Lba};
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_was_never_written_is_a_hole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(16 << 20).unwrap();
        file.write_all_at(&[1; 65536], 1 << 20).unwrap();
        file.sync_all().unwrap();
        let mut status = Vec::new();
        holes(&file, 16 << 20).unwrap().tell(Lba(0), BlockSize::B512, 16 << 20, 8, &mut status);
        let first = status[0];
        // A file system without holes says that all is data; then there is nothing to find.
        if first.deallocated {
            assert_eq!((first.lba.0, first.blocks), (0, 2048));
            assert!(!status[1].deallocated && status.last().unwrap().deallocated);
        }
    }
}
