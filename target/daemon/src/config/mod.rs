//! The configuration file: from TOML to a [`Config`] that holds together by itself.
//!
//! [`parse`] is pure: it opens no file and asks the machine nothing, so `--check --offline` and
//! the fuzzer call it as it is. It reports everything that is wrong at once, each with file,
//! line, key and reason. Secrets are read by [`secrets`], devices by [`crate::device`], counts
//! are the [`crate::plan`]'s.
//!
//! Relative paths are relative to the folder of the file; [`load`] resolves them.
//!
//! # Keys beside the common ones
//!
//! | key of `[array]` | default | what |
//! | --- | --- | --- |
//! | `auth` | `"chap"` | `"none"`: the portals of `listen` take initiators without CHAP beyond loopback |
//! | `header_digest`, `data_digest` | `["none", "crc32c"]` | a word or a list, most wanted first; one word alone is required |
//! | `congestion` | `"cubic"` | congestion control of accepted sockets; `"system"` leaves it |
//! | `nop_interval`, `nop_timeout` | 15s, 15s | silence before a NOP-In (0: never), and time for its answer |
//! | `login_timeout`, `io_timeout`, `stop_timeout` | 15s, 30s, 30s | a login, a device operation, a graceful stop |
//! | `max_sessions`, `max_connections` | 1024, 1280 | at once, over all cores |
//! | `connections_per_session` | 8 | MaxConnections |
//! | `queue_depth` | 128 | widest CmdSN window of a session |
//! | `tasks` | 4096 | task slots of a core |
//! | `max_volumes` | 1088 | rows of the volume table |
//! | `ram` | 0 | memory taken at start for RAM volumes made at run time |
//! | `huge_pages` | true | ask for them |
//! | `first_burst`, `max_burst` | 256KiB, 1MiB | FirstBurstLength, MaxBurstLength |
//!
//! | key of `[[volume]]` | default | what |
//! | --- | --- | --- |
//! | `thin` | as the device can | unmapped blocks are given back and read as zeroes |
//! | `queue_depth` | a share | commands in service, over all sessions |
//! | `device_depth` | 256, or what the device has | operations in flight |
//! | `io_timeout` | the array's | for its device |
//! | `spread` | 1 | over how many cores its extents are dealt out |
//!
//! With the cargo feature `faulty`, which is for tests, `backend = "faulty:size=64MiB,read_error=8-15"`
//! is a device in memory that fails and hangs as told; the words are those of `kagami_faulty`. No other
//! build knows it.
//!
//! `[[portal]]` takes `address`, `role` (`"host"` or `"peer"`; neither: both) and `auth`.

mod access;
mod array;
mod context;
mod defaults;
mod error;
mod group;
mod keys;
mod model;
pub mod names;
mod pool;
mod raw;
mod remote;
pub mod secrets;
mod source;
#[cfg(test)]
mod tests;
pub mod units;
mod volume;
mod write;

pub use defaults::{COMMAND_DEVICE, ISCSI_PORT};
pub use error::{ConfigError, ConfigErrors};
pub use group::{MAX_PAIRS, is_lasting};
pub use keys::Operators;
pub use model::*;
pub use secrets::{Access, Grant, Proof, Secret};
pub use source::{Source, parse_with};
pub use write::{export, objects, options as group_options};

use std::path::{Path, PathBuf};

/// The longest configuration file that is read, in bytes.
pub const MAX_FILE: u64 = 4 << 20;

/// Reads and checks a configuration. `file` only names it in errors.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &str) -> Result<Config, ConfigErrors> {
    parse_with(text, file, &[])
}

/// Reads a configuration file and makes its relative paths absolute.
///
/// # Errors
/// The file cannot be read, is too long or not UTF-8, or what [`parse`] refuses.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    Source::read(path)?.config()
}

impl Config {
    /// Makes relative paths relative to `folder`.
    fn resolve(&mut self, folder: &Path) {
        let absolute = |path: &mut PathBuf| *path = folder.join(&*path);
        absolute(&mut self.array.data);
        self.array.admin.iter_mut().for_each(absolute);
        for volume in &mut self.volumes {
            if let Backend::Path(path) = &mut volume.backend {
                absolute(path);
            }
        }
        let chaps = self.initiators.iter_mut().filter_map(|initiator| initiator.chap.as_mut());
        for chap in chaps.chain(self.peers.iter_mut().filter_map(|peer| peer.chap.as_mut())) {
            absolute(&mut chap.credential.secret_file);
            chap.mutual.iter_mut().for_each(|mutual| absolute(&mut mutual.secret_file));
        }
        self.operators.iter_mut().for_each(|operator| absolute(&mut operator.key_file));
        self.pools.iter_mut().for_each(|pool| absolute(&mut pool.path));
    }
}
