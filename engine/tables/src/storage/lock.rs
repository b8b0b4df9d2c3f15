//! The lock on the data folder: one array, one process.

use crate::error::TablesError;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How often a held lock is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Held while it lives; the kernel lets go when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock, waiting for a predecessor that is on its way out.
    pub(super) fn take(folder: &Path, wait: Duration) -> Result<Self, TablesError> {
        let path = folder.join("lock");
        let fail = || TablesError::io(format!("{} cannot be opened", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail())?;
        let deadline = Instant::now() + wait;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(RETRY),
                Err(Errno::WOULDBLOCK) => {
                    return Err(TablesError::InUse { folder: folder.to_owned(), holder: holder(&mut file) });
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(fail()(error.into())),
            }
        }
        // Who holds it is only for the message above: a failure here harms nobody.
        let _ = file.set_len(0);
        let _ = file.write_all(format!("{}\n", std::process::id()).as_bytes());
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    // The holder writes its number after it has the lock, so for a moment there may be none.
    let _ = file.take(32).read_to_string(&mut text);
    match text.trim() {
        "" => "another process".to_owned(),
        pid => format!("process {pid}"),
    }
}
