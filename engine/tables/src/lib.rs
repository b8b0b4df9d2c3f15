//! The array's durable tables: identities, reservations, objects made at run time.
//!
//! Everything that an array must remember beside its volumes' data is here: its own UUID, each
//! volume's UUID, NAA name, LUN and device, SCSI state that outlives a power loss, and what was
//! made at run time, and what came of the last orders. Whoever asks for a change (the configuration file, the admin socket, an
//! order) asks for it as a [`Transaction`]; [`Tables::commit`] makes it durable as a whole or
//! not at all, numbers it with a [`Generation`], and writes a line to the audit log.
//!
//! On disk it is one log file, replayed at start and rewritten as a checkpoint when it has
//! grown; `docs/formats.md` has the layout and the reasons. In memory it is a
//! [`State`], small enough to be copied.
//!
//! What it does not do: it knows nothing of the configuration file, and it blocks (fsync), so
//! it runs on a management thread and never on a reactor. The daemon is its only caller; the
//! simulator and the tests put [`Memory`] in place of the folder.
#![forbid(unsafe_code)]

mod audit;
mod codec;
mod error;
mod frame;
mod record;
mod recovery;
mod state;
mod storage;
mod tables;
#[cfg(test)]
mod tests;

pub use audit::time as audit_time;
pub use error::TablesError;
pub use frame::{Features, Generation};
pub use record::{
    ArrayRecord, BackendKind, DeviceIdentity, Object, ObjectKind, ResultRecord, VolumeRecord, VolumeRole,
};
pub use state::{Change, State, Transaction};
pub use storage::{Crash, Folder, Memory, Storage};
pub use tables::{OpenOptions, Tables, new_uuid};

/// Bytes that a transaction may have, its audit text included.
pub const MAX_TRANSACTION: usize = 4 << 20;
/// Bytes that the whole state may have.
pub const MAX_STATE: usize = 64 << 20;
/// Bytes of the keys of one object made at run time.
pub const MAX_OBJECT: usize = 128 << 10;
/// Objects made at run time.
pub const MAX_OBJECTS: usize = 32 << 10;
/// Results of orders that are kept.
pub const MAX_RESULTS: usize = 4096;
/// Bytes of a result's message.
pub const MAX_MESSAGE: usize = 512;
/// Bytes of SCSI state of one volume.
pub const MAX_SCSI_STATE: usize = 256 << 10;
