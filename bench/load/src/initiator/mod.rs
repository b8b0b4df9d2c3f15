//! A lean iSCSI initiator: one connection is a socket, a table of tasks, a queue of bytes to send
//! and a parser that steps over what arrives.
//!
//! Made for load: work goes in rounds. A round receives once into a buffer that all connections of
//! a thread share (so that it stays in the cache), takes all PDUs in it, queues new commands and
//! sends them with one vectored write. Read data are stepped over where they lie, write data are
//! sent from where the [`Host`] keeps them.
//!
//! Not here: what to read or write and what to do with results ([`Host`], implemented by `load`,
//! `verify` and `sessions`), and the login, which is `kagami_initiator`'s. Error recovery level 0: any
//! broken rule ends the connection.

mod connection;
mod receive;
mod simple;
mod transmit;

pub use connection::{Connection, Lost, Progress, Window};
pub use kagami_initiator::{Command, Connector, Direction, Established, Outcome, Seat, Sense, Status, isid};
pub use simple::{Unit, probe, simple};

/// The length of the buffer that [`Connection::receive`] wants, shared by the connections of a thread.
pub const RECEIVE_BUFFER: usize = receive::FRONT + 256 * 1024;

/// The owner of the data and the results of a connection's tasks.
///
/// A task is named by its slot, from 0 to the connection's depth less one. Between
/// [`Connection::submit`] and [`Host::done`] a slot belongs to one task; its data for writing must
/// stay until the connection hands the slot out again.
pub trait Host {
    /// At least one byte of what the task writes, from `offset` on, and at most `len` bytes.
    fn write_data(&self, slot: u16, offset: u32, len: u32) -> &[u8];

    /// The CRC32C of a run of what the task writes, where it is known without computing it.
    fn write_digest(&self, _slot: u16, _offset: u32, _len: u32) -> Option<[u8; 4]> {
        None
    }

    /// Data that the task read.
    fn read_data(&mut self, slot: u16, offset: u32, bytes: &[u8]);

    /// The task ended.
    fn done(&mut self, slot: u16, outcome: &Outcome);
}
