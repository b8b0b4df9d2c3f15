//! Orders that hosts give an array with plain WRITE and READ, through a command device (array.md 3).
//!
//! | module | what |
//! | --- | --- |
//! | [`layout`] | where slots are on a command device |
//! | [`request`], [`result`] | the two halves of a slot, byte by byte |
//! | [`parameters`] | input parameters: tag, length, value |
//! | [`table`] | every order: number, rights, parameters, help. What decodes, helps, checks and documents reads this |
//! | [`code`] | how an order can end |
//! | [`sign`] | HMAC-SHA-256 over requests and results |
//! | [`slots`] | the array's side of a command device: claims, torn WRITEs, results, expiry |
//! | [`courier`] | the host's side: a record, from a free slot to its result |
//! | [`once`] | whether an order is done, was done before, or must not be |
//!
//! Nothing here does I/O or executes anything: bytes and times come in, bytes and events come out.
//! The array (`kagami-channel`, `kagamid`) drives [`slots::Slots`] and executes; the tool (`kagami`)
//! writes requests and reads results. `docs/formats.md`, section "Command device", has the layout in
//! prose, and golden tests hold both together.
#![forbid(unsafe_code)]

mod bytes;
pub mod code;
pub mod courier;
pub mod layout;
pub mod once;
pub mod parameters;
pub mod request;
pub mod result;
pub mod sign;
pub mod slots;
#[cfg(test)]
mod slots_tests;
pub mod table;
#[cfg(test)]
mod tests;

pub use code::Code;
pub use parameters::{Parameters, Tag};
pub use request::{ANY_GENERATION, Request};
pub use result::{OrderResult, State};
pub use sign::Key;
pub use table::{ORDERS, Order, Right};

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too short, another magic number, lengths that contradict each other, or a wrong checksum: not
    /// (yet) a whole record.
    #[error("not a whole record: {0}")]
    Incomplete(&'static str),
    /// Whole, but it cannot mean anything.
    #[error("malformed record: {0}")]
    Malformed(&'static str),
    /// Of a version, or with features, that are not known here.
    #[error("the record is of version {version} with features {features:#x}, unknown to this version")]
    Unsupported {
        /// Its version.
        version: u16,
        /// The unknown incompatible features.
        features: u64,
    },
    /// More than fits.
    #[error("the record is too long: {len} bytes, at most {most}")]
    TooLong {
        /// How many bytes it would have.
        len: usize,
        /// How many fit.
        most: usize,
    },
}
