//! The log in a folder of a file system.

use super::Storage;
use super::lock::FolderLock;
use crate::audit::AuditFiles;
use crate::error::TablesError;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOG: &str = "tables.log";
const NEW: &str = "tables.new";

/// The files of one array's tables: `tables.log`, `audit.log` and its predecessors, `lock`.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    log: Option<File>,
    audit: AuditFiles,
    _lock: FolderLock,
}

impl Folder {
    /// Opens a data folder, makes it where it is missing, and locks it; waits at most `wait`
    /// for a process that holds it.
    ///
    /// # Errors
    /// The folder cannot be used, or is still in use.
    pub fn open(path: &Path, wait: Duration) -> Result<Self, TablesError> {
        let fail = || TablesError::io(format!("the data folder {} cannot be used", path.display()));
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(fail())?;
            // Tables name hosts and devices: nobody else's business.
            fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(fail())?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_folder(parent).map_err(fail())?;
            }
        }
        let lock = FolderLock::take(path, wait)?;
        // What a crash left of a checkpoint under way was never in force.
        match fs::remove_file(path.join(NEW)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail()(error)),
            _ => {}
        }
        Ok(Self { path: path.to_owned(), log: None, audit: AuditFiles::new(path), _lock: lock })
    }

    /// Reads the log of a folder without locking it, for a check beside a running array.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub(crate) fn peek(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
        match File::open(path.join(LOG)) {
            Ok(file) => read_all(&file, limit).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn log(&mut self) -> io::Result<&mut File> {
        match &mut self.log {
            Some(log) => Ok(log),
            empty => Ok(empty.insert(OpenOptions::new().append(true).open(self.path.join(LOG))?)),
        }
    }
}

fn read_all(file: &File, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Makes a rename in a folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Storage for Folder {
    fn read(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        Self::peek(&self.path, limit)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log()?.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.log()?.sync_data()
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log = None;
        let new = self.path.join(NEW);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, self.path.join(LOG))?;
        sync_folder(&self.path)
    }

    fn audit(&mut self, lines: &str) -> io::Result<()> {
        self.audit.append(lines)
    }

    fn audit_sync(&mut self) -> io::Result<()> {
        self.audit.sync()
    }

    fn audit_tail(&mut self) -> io::Result<String> {
        self.audit.tail()
    }
}
