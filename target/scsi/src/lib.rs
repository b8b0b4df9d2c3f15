//! SCSI (SPC, SBC) without I/O: one opcode table, the device server, reservations.
//!
//! A [`LogicalUnit`] is the device server of one logical unit (SAM-5 4.6): it is given an
//! I_T nexus, a CDB and the parameter data that came with it, checks everything that can be
//! checked without the medium, and answers with a [`Disposition`]: done, done with data,
//! failed with sense, or a [`BlockOp`](kagami_types::BlockOp) for the volume. When the volume
//! has answered, [`LogicalUnit::failed`] turns its error into status and sense.
//!
//! It does no I/O, knows no sockets, clocks or threads, and moves no block data: that lies in
//! the caller's scatter lists. Its caller is the channel controller of the core that owns the
//! logical unit; one owner, so no locks. READ, WRITE and TEST UNIT READY allocate nothing.
//!
//! # How a command runs
//!
//! 1. [`transfer`] says what data the CDB itself calls for, and which way, so that the
//!    transport can collect parameter data and compute residuals.
//! 2. [`LogicalUnit::execute`] checks, in this order: the operation code, unit attention,
//!    reservations, readiness, reserved bits, write protection, then the fields of the command.
//! 3. The caller does what the [`Disposition`] says.
//!
//! What is advertised is what works: everything above comes from one table ([`table::ROWS`]),
//! and so does REPORT SUPPORTED OPERATION CODES.
//!
//! Commands to a LUN without a logical unit go to [`absent`]; REPORT LUNS is finished by
//! [`report_luns`], as only the caller knows which LUNs a nexus may see.
//!
//! # Nexuses and unit attentions
//!
//! The caller numbers its I_T nexuses densely ([`NexusId`]) and says when one comes and goes.
//! A new nexus starts with POWER ON, RESET, OR BUS DEVICE RESET OCCURRED (29h/00h): a logical
//! unit does not remember every initiator since power on, and SAM-5 5.14 lets this one
//! condition stand for all of its kind. Others are raised by [`LogicalUnit::establish`] and
//! [`LogicalUnit::establish_all`], or by the commands that cause them.
//!
//! # What is kept over a restart
//!
//! Saved mode pages, and registrations and reservation where the initiator asked for it
//! (APTPL). [`Deferred::persist`] carries them as bytes that must be stable before the status
//! is sent; [`LogicalUnit::restore`] takes them back.
#![forbid(unsafe_code)]

mod absent;
mod attention;
mod block;
mod bytes;
mod capacity;
mod cdb;
mod config;
mod disposition;
mod front;
pub mod fuzz;
mod inquiry;
mod losses;
mod mode;
mod mode_select;
mod nexus;
mod opcodes;
pub mod path;
mod persist_in;
mod persist_out;
mod power;
mod preempt;
mod report;
mod reserve;
mod sense;
mod snapshot;
pub mod table;
mod transport_id;
mod unit;
mod vpd;

pub use absent::absent;
pub use attention::Attention;
pub use cdb::{Cdb, MAX_PARAMETERS, Transfer, first_block, may_defer, transfer};
pub use config::{ConfigError, Limits, LuConfig, Role, Rotation, TargetName, TargetPort, WriteCache};
pub use disposition::{DataOut, Deferred, Disposition, Failure, ReportLuns};
pub use front::{Admission, Forward, Front, FrontConfig, Identity};
pub use nexus::{AttachError, NexusId};
pub use report::report_luns;
pub use reserve::ReservationType;
pub use sense::{Sense, SenseBytes, SenseKey, Status};
pub use snapshot::SnapshotError;
pub use transport_id::TransportId;
pub use unit::{LogicalUnit, Readiness, Reset};
