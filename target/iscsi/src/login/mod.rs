//! The login phase (RFC 7143 6.3, 11.12, 11.13), from both sides.
//!
//! ```text
//!             request 1                     T                          T
//!  (connected) ------> security negotiation ---> operational negotiation ---> full feature phase
//!                  \                      `------------------------------------^
//!                   `-----------------------------> (a target that asks for no authentication)
//! ```
//!
//! [`TargetLogin`] answers login requests, [`InitiatorLogin`] makes them. Both take whole PDUs and
//! give whole PDUs; text may be cut into several with the C bit, either way. Each login is bounded
//! in requests and bytes; its time is for the caller to bound.
//!
//! Not here: which targets there are and who may use them (a [`Policy`] says so), and where a new
//! session or connection goes, what it reinstates, whether there is room (the caller decides that when
//! [`TargetLogin`] asks it to [admit](Step::Admit) an initiator that has proved who it is).

mod initiator;
mod policy;
mod status;
mod target;
mod target_security;

pub use initiator::{Established, InitiatorConfig, InitiatorError, InitiatorLogin};
pub use policy::{Applicant, Authentication, Denial, Policy, SessionType};
pub use status::Status;
pub use target::{Admission, Admitted, Failure, LoginError, Placement, Step, TargetLogin, TargetSettings};

use crate::pdu::Bhs;

/// The most bytes of text in one login PDU: MaxRecvDataSegmentLength until the login has ended
/// (RFC 7143 13.12).
pub const MAX_LOGIN_SEGMENT: usize = 8192;
/// The most bytes of a text that comes in several login PDUs. RFC 7143 6.1 asks for 8192 at least.
pub const MAX_LOGIN_TEXT: usize = 16384;
/// The most PDUs from one side in a login.
const MAX_EXCHANGES: u32 = 256;

/// A PDU to send. Its header states the length of `data`; padding is for the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// The header.
    pub bhs: Bhs,
    /// The data segment.
    pub data: Vec<u8>,
}

/// Text that waits to be sent, in one or several PDUs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// A part was sent with the C bit, and more must follow.
    open: bool,
}

impl Outbox {
    pub(crate) fn put(&mut self, bytes: Vec<u8>) {
        self.bytes.extend(bytes);
    }

    /// Whether the text has been begun and not ended.
    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether all that waits fits into one PDU.
    pub(crate) const fn fits(&self, limit: usize) -> bool {
        self.bytes.len() <= limit
    }

    /// The next part, and whether more follow.
    pub(crate) fn take(&mut self, limit: usize) -> (Vec<u8>, bool) {
        let limit = limit.max(1);
        let rest = if self.fits(limit) { Vec::new() } else { self.bytes.split_off(limit) };
        let part = std::mem::replace(&mut self.bytes, rest);
        self.open = !self.bytes.is_empty();
        (part, self.open)
    }
}

#[cfg(test)]
mod tests;
