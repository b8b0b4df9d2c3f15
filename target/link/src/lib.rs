//! The remote link: an iSCSI initiator without I/O that keeps a session with one logical unit of
//! another array, for one virtual volume of this one.
//!
//! ```text
//!          dial            login done            learnt
//!  Down ---------> Login -------------> Probing --------> Serving
//!   ^                |                     |                 |
//!   '----------------'---------------------'-----------------'   lost: retried after a pause
//! ```
//!
//! A [`Link`] is given commands ([`Link::submit`]), writes PDUs to a [`Sink`], takes received bytes
//! ([`Link::consume`]), hears of time ([`Link::tick`]) and tells what happened ([`Link::next_event`]).
//! It opens no sockets and reads no clock. Its caller is the channel controller of the core where the
//! virtual volume lives; tests and the simulator drive it in the same way.
//!
//! Data is never copied by it: that of writes is sent from the pages in which the host's command
//! left it, and kept until the far array has answered, so that it can be sent again; that of reads
//! is received into pages taken for it ([`Sink::take`]), in place where the caller can.
//!
//! # What is sent again, and what never
//!
//! Every command to the mapped unit goes through the one session that has its ISID, so the session's
//! reinstatement after a loss ends the old tasks there before anything else of this volume gets
//! there (RFC 7143 6.3.5). Only then are commands sent again that were under way, in their old order,
//! as long as their host waits, and only those that may be done twice. A write that a later one to
//! the same blocks has overtaken and was acknowledged is not ([`acked`]). A command that timed out
//! while the far array may still execute it holds up all that touches its blocks until the far array
//! has said that it is over, or the session was reinstated.
#![forbid(unsafe_code)]

pub mod acked;
mod connection;
mod learn;
mod life;
mod link;
mod plan;
mod receive;
mod request;
mod task;
mod transmit;
mod wire;

#[cfg(test)]
mod tests;

pub use learn::Learnt;
pub use link::{Event, Link, Phase, Status};
pub use plan::LinkPlan;
pub use receive::{Broken, InPlace};
pub use request::{Blocks, Done, Outcome, Refusal, Request};
pub use wire::{Payload, Sink};
