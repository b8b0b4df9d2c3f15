//! The iSCSI initiator of Kagami's tools: where a logical unit is, the login, and one command after
//! another on a blocking socket.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`url`] | `iscsi://[user[%secret]@]host[:port][,host[:port]...]/iqn/lun` |
//! | [`connect`] | from an address to a connection in full feature phase |
//! | [`scsi`] | the few commands that the tools send, and how they end |
//! | [`session`] | one command at a time: R2Ts, Data-In, pings, digests, a time-out |
//! | [`disk`] | a logical unit: made ready, read and written, taken up again when its connection is lost |
//!
//! The protocol's machines (login, framing, negotiation) are `kagami_iscsi`'s. Not here: many commands
//! at once, which `kagami-bench` does with its own connections on top of [`connect`] and [`scsi`];
//! error recovery above level 0; and anything of what the tools read and write.
#![forbid(unsafe_code)]

pub mod connect;
pub mod disk;
pub mod scsi;
pub mod session;
pub mod url;

pub use connect::{Connector, Established, Seat, isid};
pub use disk::{Disk, Identity};
pub use scsi::{Command, Direction, Outcome, Sense, Status};
pub use session::Session;
pub use url::{Login, Portal, Url};

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody is there, or the login was refused.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// The connection was lost, or the target broke a rule of the protocol.
    #[error("{0}")]
    Lost(String),
    /// The target ended the command otherwise than with GOOD.
    #[error("{what}: {status}")]
    Status {
        /// The command.
        what: &'static str,
        /// How it ended.
        status: Status,
    },
    /// What the target said makes no sense, or the caller asked for what cannot be.
    #[error("{0}")]
    Failed(String),
}
