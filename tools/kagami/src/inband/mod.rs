//! The way in through a command device: orders written and results read with plain WRITE and READ.
//!
//! | module | what |
//! | --- | --- |
//! | `way` | which way `--via` names, and the options that go with it |
//! | `device` | a command device to read and write: the trait, and one over iSCSI |
//! | `block` | one that is a block device of this host, without the page cache |
//! | `client` | one order: slot, claim, wait, give again, continuation |
//! | `giver` | many orders to one array: its name, its generation, the operator's signature |
//! | `verbs` | from a command of the tool to an order, and back to what is printed |
//!
//! The records themselves are `kagami_orders`'. What is allowed, and why not, the array says.

mod block;
mod client;
mod device;
mod giver;
mod verbs;
mod way;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use client::{Answer, Client, Courier};
pub use giver::{Giver, Terms};
pub use verbs::{Verb, give, run, terms};
pub use way::{Either, Way, open_block, open_iscsi, way};
