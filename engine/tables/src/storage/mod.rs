//! Where the log lives: a folder, or memory that crashes on demand.

mod folder;
mod lock;
mod memory;

pub use folder::Folder;
pub use memory::{Crash, Memory};

use std::io;

/// The few things that the tables ask of their file.
///
/// The promises are those of a Linux file system: appended bytes may be lost or torn until
/// `sync` returned; `replace` is atomic, and durable when it returns.
pub trait Storage {
    /// The whole log, or `None` where there is none yet.
    ///
    /// # Errors
    /// The file cannot be read, or is longer than `limit` bytes.
    fn read(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>>;

    /// Writes behind the end of the log. Not durable yet; after an error, anything between
    /// nothing and all of it may be there.
    ///
    /// # Errors
    /// What the system said.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything appended durable. After an error nothing is known of it, not even
    /// after a later success.
    ///
    /// # Errors
    /// What the system said.
    fn sync(&mut self) -> io::Result<()>;

    /// Puts these bytes in place of the whole log, durably and atomically: after a crash there
    /// is the old log or the new one. Later appends go behind them.
    ///
    /// # Errors
    /// What the system said; the old log may or may not have been replaced.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Appends lines to the audit log. Not durable before [`audit_sync`](Self::audit_sync).
    ///
    /// # Errors
    /// What the system said.
    fn audit(&mut self, lines: &str) -> io::Result<()>;

    /// Makes the audit log durable.
    ///
    /// # Errors
    /// What the system said.
    fn audit_sync(&mut self) -> io::Result<()>;

    /// The last few KiB of the audit log, to see which lines it has.
    ///
    /// # Errors
    /// What the system said.
    fn audit_tail(&mut self) -> io::Result<String>;
}

impl<S: Storage> Storage for &mut S {
    fn read(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        (**self).read(limit)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).replace(bytes)
    }

    fn audit(&mut self, lines: &str) -> io::Result<()> {
        (**self).audit(lines)
    }

    fn audit_sync(&mut self) -> io::Result<()> {
        (**self).audit_sync()
    }

    fn audit_tail(&mut self) -> io::Result<String> {
        (**self).audit_tail()
    }
}
