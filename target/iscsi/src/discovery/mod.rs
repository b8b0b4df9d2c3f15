//! Text in the full feature phase: SendTargets, and the few keys that may be negotiated then
//! (RFC 7143 4.3, 11.10, 11.11, appendix C).
//!
//! [`TextExchange`] is the target's side, one a connection: it joins requests that are cut with the C
//! bit, answers them, and cuts answers that are longer than the initiator takes. [`SendTargets`] is an
//! initiator's side of the one question that matters.
//!
//! Which targets an initiator may see is what a [`Directory`] says, made by the caller.

mod address;
mod query;
mod respond;

pub use address::{AddressError, DEFAULT_PORT, TargetAddress};
pub use query::{Discovered, QueryError, SendTargets, Wanted};
pub use respond::{Directory, TextContext, TextExchange, TextReply};

/// The most bytes of text that either side takes in one exchange.
pub const MAX_TEXT: usize = 65536;
/// The most bytes of one answer to SendTargets: some ten thousand targets.
pub const MAX_ANSWER: usize = 1 << 20;
