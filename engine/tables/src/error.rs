//! Why the tables could not be opened or changed.

use std::io;
use std::path::PathBuf;

/// An error of the tables.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// The folder or a file in it could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the data folder.
    #[error("{} is in use by {holder}; stop it, or give this array another data folder", folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// Who holds it, as far as the lock file says.
        holder: String,
    },
    /// The file is not a table log.
    #[error("the tables file is not one of Kagami's")]
    NotTables,
    /// The file's own format is newer than what this version reads.
    #[error("the tables are of format {found}, this version reads up to {known}; use a newer version")]
    Version {
        /// What the file says.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The file uses features without which it cannot be understood.
    #[error("the tables use features {bits:#x} that this version does not know; use a newer version")]
    Incompatible {
        /// The unknown bits.
        bits: u64,
    },
    /// The tables may be read but not changed, as they use features unknown here.
    #[error("the tables can only be read: they use features {bits:#x} that this version does not know")]
    ReadOnly {
        /// The unknown bits.
        bits: u64,
    },
    /// Acknowledged changes are damaged. Nothing is served on a guess.
    #[error("the tables are damaged at byte {offset}: {what}; restore the file from a copy")]
    Corrupt {
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A record of a kind or version that is unknown and that may not be ignored.
    #[error("the tables hold a record of kind {kind}, version {version}, unknown to this version")]
    UnknownRecord {
        /// Its kind.
        kind: u16,
        /// Its version.
        version: u16,
    },
    /// The transaction named a generation that is no longer the current one.
    #[error("the tables are at generation {current}, the change was meant for {expected}")]
    Stale {
        /// The current generation.
        current: u64,
        /// The one that the transaction named.
        expected: u64,
    },
    /// The transaction contradicts what is there.
    #[error("the change is refused: {0}")]
    Refused(String),
    /// The change, or what it would make of the tables, is larger than allowed.
    #[error("the change is too large: {size} bytes, at most {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The system has no random numbers for a new identity.
    #[error("no random numbers for a new identity: {0}")]
    Random(String),
}

impl TablesError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
