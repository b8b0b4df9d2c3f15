//! Agreeing on the operational parameters of a session and a connection (RFC 7143 6.2, 13).
//!
//! One table, [`keys`], says for each key what kind of value it has, within which range, by which
//! function two sides agree, and where it may be negotiated. [`Negotiator`] runs on that table for
//! either side: it offers, answers, and checks answers. What was agreed upon is [`Parameters`].
//!
//! Keys that name or authenticate somebody are the login machines' own. Used by
//! [`login`](crate::login), and for the few keys of the full feature phase by
//! [`discovery`](crate::discovery).

mod keys;
mod negotiator;
mod parameters;

pub use keys::{Function, Key, Rule, TABLE};
pub use negotiator::{NegotiationError, Negotiator, Role, Scope};
pub use parameters::{DigestPreference, Parameters, Preferences};
