//! The array daemon, as a library: everything but `main`.
//!
//! | module | what |
//! | --- | --- |
//! | [`cli`], [`check`], [`run`] | the command line, `--check`, and the daemon's life |
//! | [`config`] | the file, checked, with every default |
//! | [`plan`] | how many of everything, on this machine |
//! | [`device`], [`bind`] | devices opened, volumes with their identities |
//! | [`serve`] | the plan made real: memory, rings, units, portals, reactor threads |
//! | [`control`], [`reload`] | signals, and what a reload may change |
//! | [`admin`], `manage`, [`events`], [`logins`], [`links`] | the admin socket, and what is asked and told there |
//! | [`http`] | metrics and status page |
//!
//! This is the only crate that wires the parts together; nothing depends on it but `main` and
//! the fuzzer, which calls [`config::parse`].
#![forbid(unsafe_code)]

pub mod admin;
pub mod bind;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod device;
pub mod events;
mod figures;
pub mod groups;
mod http;
pub mod links;
pub mod logins;
mod manage;
mod page;
pub mod plan;
pub mod reload;
pub mod run;
pub mod serve;
pub mod uring;

use config::{ConfigErrors, Source};
use std::fmt::Display;
use std::io::Write;
use std::path::Path;

/// Exit codes (those of the daemon; the tools have more).
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// Failed.
    pub const FAILED: u8 = 1;
    /// Refused in this state: something else holds what is needed.
    pub const REFUSED: u8 = 3;
}

/// The data folder of the embedded default.
pub const EMBEDDED_DATA: &str = "kagami-data";

/// The configuration in a file, or the embedded default, unchecked.
///
/// # Errors
/// As [`Source::read`].
pub fn source(path: Option<&Path>) -> Result<Source, ConfigErrors> {
    match path {
        Some(path) => Source::read(path),
        None => Ok(Source::embedded(Path::new(EMBEDDED_DATA))),
    }
}

/// Writes a line to standard output. A reader that went away is no reason to stop serving.
macro_rules! say {
    ($($format:tt)*) => {{
        use std::io::Write as _;
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, $($format)*).and_then(|()| out.flush());
    }};
}
pub(crate) use say;

/// Writes an error to standard error, each of its lines with the program's name.
pub(crate) fn complain(error: &impl Display) {
    let mut out = std::io::stderr().lock();
    for line in error.to_string().lines() {
        let _ = writeln!(out, "kagamid: {line}");
    }
}
