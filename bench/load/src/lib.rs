//! A lean iSCSI load generator and data checker, as a library for its own tests.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`initiator`] | connections that spend little CPU time of their own |
//! | [`load`] | `kagami-bench load`: rates, latencies, CPU time per command |
//! | [`verify`] | `kagami-bench verify`: is every acknowledged and flushed write there? |
//! | [`replay`] | `kagami-bench replay`: was it on the device at every flush? |
//! | [`sessions`] | `kagami-bench sessions`: many sessions, a little I/O on each |
//! | [`relay`] | `kagami-bench relay`: a line with a delay and a bandwidth, for wide-area rows |
//!
//! It measures targets; it shares no code with the one in this repository beyond the protocol's
//! headers, CRC and login. Address, login and commands are `kagami_initiator`'s.
#![forbid(unsafe_code)]

pub mod cli;
pub mod cpu;
pub mod error;
pub mod initiator;
pub mod load;
pub mod relay;
pub mod replay;
pub mod rng;
pub mod sessions;
pub mod units;
pub mod verify;
mod wait;

/// A word that differs between runs, for session names.
#[must_use]
pub fn run_id() -> u32 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        // Not secret, only to be different.
        Err(_) => std::process::id(),
    }
}
