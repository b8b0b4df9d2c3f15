//! The tables: open, commit, read.

use crate::audit;
use crate::error::TablesError;
use crate::frame::{FRAME, Features, Generation, HEADER, Header, Kind, OBJECTS, encode_frame};
use crate::record::ArrayRecord;
use crate::recovery::{Recovered, recover};
use crate::state::{Audit, State, Transaction, encode_transaction};
use crate::storage::{Folder, Storage};
use crate::{MAX_STATE, MAX_TRANSACTION};
use kagami_types::Uuid;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The log is rewritten as a checkpoint when it is this long and a few times its checkpoint.
const REWRITE: usize = 1 << 20;
const REWRITE_FACTOR: usize = 4;
/// The longest file that is read: a state, and the transactions before a rewrite.
const MAX_FILE: usize = (MAX_STATE + HEADER + FRAME) * (REWRITE_FACTOR + 1);

/// How to open the tables.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The name of an array that is new; of one that exists it becomes the label.
    pub name: String,
    /// How long to wait for another process to let go of the folder.
    pub wait: Duration,
    /// The clock, in milliseconds since 1970: for the audit log.
    pub clock: fn() -> u64,
}

impl OpenOptions {
    /// Waits 10 seconds, and takes the time from the system.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), wait: Duration::from_secs(10), clock: system_millis }
    }
}

fn system_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The tables of one array, open for changes. See the crate's documentation.
#[derive(Debug)]
pub struct Tables<S: Storage = Folder> {
    storage: S,
    state: State,
    generation: Generation,
    features: Features,
    /// Unknown read-only features; with any, no commit.
    read_only: u64,
    /// Bytes of the log, as far as known.
    len: usize,
    /// Bytes of its checkpoint.
    checkpoint: usize,
    /// The end of the log is in doubt (a torn tail, a failed write or sync): the next commit
    /// rewrites the log instead of appending to it.
    doubt: bool,
    clock: fn() -> u64,
    /// Audit lines that could not be written yet.
    late: String,
    observer: Observer,
}

/// Who hears of every line of the audit log.
#[derive(Default)]
struct Observer(Option<Tell>);

type Tell = Box<dyn FnMut(&str) + Send>;

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl Tables<Folder> {
    /// Opens the tables in a folder, or makes those of a new array.
    ///
    /// # Errors
    /// Whatever keeps them from being used safely; nothing is guessed.
    pub fn open(folder: &Path, options: &OpenOptions) -> Result<Self, TablesError> {
        Self::open_on(Folder::open(folder, options.wait)?, options)
    }

    /// Reads the tables of a folder without locking or changing anything: for a check, also
    /// beside a running array. `None` where there are none.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn peek(folder: &Path) -> Result<Option<State>, TablesError> {
        let bytes = Folder::peek(folder, MAX_FILE)
            .map_err(TablesError::io(format!("the tables in {} cannot be read", folder.display())))?;
        bytes.map(|bytes| recover(&bytes).map(|found| found.state)).transpose()
    }
}

impl<S: Storage> Tables<S> {
    /// Opens the tables on any storage.
    ///
    /// # Errors
    /// As [`Tables::open`].
    pub fn open_on(mut storage: S, options: &OpenOptions) -> Result<Self, TablesError> {
        let bytes = storage.read(MAX_FILE).map_err(TablesError::io("the tables cannot be read"))?;
        let mut tables = match bytes {
            Some(bytes) => {
                let found = recover(&bytes)?;
                // A predecessor that was killed may have written what it could not sync: it is
                // read here, so it is in force, so it must not be lost later.
                storage.sync().map_err(TablesError::io("the tables cannot be made durable"))?;
                Self::found(storage, found, options)
            }
            None => Self::made(storage, options)?,
        };
        if tables.state.array().name != options.name && tables.read_only == 0 {
            let rename = Transaction::new("file", format!("rename array to {}", options.name))
                .with(crate::Change::Rename(options.name.clone()));
            tables.commit(&rename)?;
        }
        Ok(tables)
    }

    fn found(mut storage: S, found: Recovered, options: &OpenOptions) -> Self {
        // Lines of the last transactions that a crash kept from the audit log. Where its end
        // cannot be read, all are written again: twice is better than never.
        let logged = storage.audit_tail().ok().and_then(|tail| audit::last_generation(&tail));
        let late = found
            .audits
            .iter()
            .filter(|(generation, _)| logged.is_none_or(|logged| *generation > logged))
            .map(|(generation, line)| audit::line(Some(*generation), line))
            .collect();
        let mut tables = Self {
            storage,
            state: found.state,
            generation: found.generation,
            features: found.features,
            read_only: found.read_only,
            len: found.valid,
            checkpoint: found.checkpoint,
            doubt: found.torn,
            clock: options.clock,
            late,
            observer: Observer::default(),
        };
        tables.write_late();
        tables
    }

    fn made(storage: S, options: &OpenOptions) -> Result<Self, TablesError> {
        let array = ArrayRecord { uuid: new_uuid()?, name: options.name.clone() };
        let mut tables = Self {
            storage,
            state: State::new(array),
            generation: Generation(1),
            features: Features::default(),
            read_only: 0,
            len: 0,
            checkpoint: 0,
            doubt: true,
            clock: options.clock,
            late: String::new(),
            observer: Observer::default(),
        };
        tables.rewrite(false)?;
        let what = format!("new array {} {}", options.name, tables.state.array().uuid);
        let line = Audit { millis: (tables.clock)(), who: "start".to_owned(), what };
        tables.late = audit::line(Some(tables.generation), &line);
        tables.write_late();
        Ok(tables)
    }

    /// What the tables hold now.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The number of the last committed transaction.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Makes a transaction durable, as a whole, then shows it in [`state`](Self::state).
    /// Blocks until the device has it. An empty transaction is one too: it leaves a line in
    /// the audit log and a generation.
    ///
    /// # Errors
    /// Refused, stale or too large: nothing changed. An I/O error: the change is not in force
    /// now, and whether a crash right now would bring it back is not known; the next commit
    /// settles that, as it writes the whole log anew without it.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<Generation, TablesError> {
        if self.read_only != 0 {
            return Err(TablesError::ReadOnly { bits: self.read_only });
        }
        if let Some(expected) = transaction.expect.filter(|expected| *expected != self.generation) {
            return Err(TablesError::Stale { current: self.generation.0, expected: expected.0 });
        }
        self.state.check(transaction)?;
        let millis = (self.clock)();
        let body = encode_transaction(transaction, self.state.array().uuid, millis);
        if body.len() > MAX_TRANSACTION {
            return Err(TablesError::TooLarge { size: body.len(), limit: MAX_TRANSACTION });
        }
        let mut after = self.state.clone();
        // What was encoded here decodes here; were it otherwise, the tables on disk would be
        // unreadable, so it is tried before anything is written.
        after
            .apply_body(&body)
            .map_err(|_| TablesError::Refused("the change does not read back".to_owned()))?;
        let size = after.encode().len();
        if size > MAX_STATE {
            return Err(TablesError::TooLarge { size, limit: MAX_STATE });
        }
        let generation = Generation(self.generation.0.saturating_add(1));

        // The header must say that there are objects before the first of them is there.
        let objects = transaction.has_objects();
        let unsaid = objects && self.features.incompatible & OBJECTS == 0;
        if self.doubt || unsaid || self.len > REWRITE.max(REWRITE_FACTOR * self.checkpoint) {
            // The checkpoint does not hold the lines of the transactions that it replaces.
            self.write_late();
            if !self.late.is_empty() || self.storage.audit_sync().is_err() {
                return Err(TablesError::Refused("the audit log cannot be written".to_owned()));
            }
            self.rewrite(objects)?;
        }
        let mut frame = Vec::new();
        encode_frame(&mut frame, Kind::Transaction, generation, &body)?;
        // In doubt until both have succeeded: a failed sync may have dropped what it should
        // have written, and a later success says nothing of it.
        self.doubt = true;
        self.storage.append(&frame).map_err(TablesError::io("the tables cannot be written"))?;
        self.storage.sync().map_err(TablesError::io("the tables cannot be made durable"))?;
        self.doubt = false;
        self.len += frame.len();
        self.state = after;
        self.generation = generation;

        let line = Audit { millis, who: transaction.who.clone(), what: transaction.what.clone() };
        let line = audit::line(Some(generation), &line);
        self.tell(&line);
        self.late.push_str(&line);
        self.write_late();
        Ok(generation)
    }

    /// Writes a line to the audit log for an event that changed nothing (a refused order, a
    /// failed login), durably.
    ///
    /// # Errors
    /// The audit log cannot be written.
    pub fn audit(&mut self, who: &str, what: &str) -> Result<(), TablesError> {
        let line = Audit { millis: (self.clock)(), who: who.to_owned(), what: what.to_owned() };
        self.write_late();
        let fail = || TablesError::io("the audit log cannot be written");
        let line = audit::line(None, &line);
        self.tell(&line);
        self.storage.audit(&line).map_err(fail())?;
        self.storage.audit_sync().map_err(fail())
    }

    /// Has every line of the audit log, from now on, told to `observer` as well.
    pub fn observe(&mut self, observer: impl FnMut(&str) + Send + 'static) {
        self.observer = Observer(Some(Box::new(observer)));
    }

    fn tell(&mut self, line: &str) {
        if let Some(observer) = &mut self.observer.0 {
            observer(line);
        }
    }

    /// The storage, for tests that make it fail.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// Gives the storage back.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// Writes the state as a new log of one checkpoint. `objects`: some are about to come.
    fn rewrite(&mut self, objects: bool) -> Result<(), TablesError> {
        if objects || self.state.has_objects() {
            self.features.incompatible |= OBJECTS;
        } else {
            self.features.incompatible &= !OBJECTS;
        }
        let header = Header { features: self.features, array: self.state.array().uuid };
        let mut bytes = header.encode();
        encode_frame(&mut bytes, Kind::Checkpoint, self.generation, &self.state.encode())?;
        self.doubt = true;
        self.storage.replace(&bytes).map_err(TablesError::io("the tables cannot be written anew"))?;
        self.doubt = false;
        self.len = bytes.len();
        self.checkpoint = bytes.len();
        Ok(())
    }

    /// Writes audit lines that wait. A failure leaves them waiting: the log of the tables has
    /// them too, and is not rewritten before they are out.
    fn write_late(&mut self) {
        if !self.late.is_empty() && self.storage.audit(&self.late).is_ok() {
            self.late.clear();
        }
    }
}

/// A random UUID (version 4).
///
/// # Errors
/// The system has no random numbers.
pub fn new_uuid() -> Result<Uuid, TablesError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| TablesError::Random(error.to_string()))?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Ok(Uuid::from_bytes(bytes))
}
