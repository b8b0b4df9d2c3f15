//! iSCSI (RFC 7143) without I/O: PDUs, framing, negotiation, login, data transfer rules.
//!
//! Bytes and typed events go in, bytes and typed decisions come out. There are no sockets, clocks,
//! threads or random sources in here: the channel controller, the load generator, the simulator's
//! hosts and the fuzzer drive the same machines, each with its own I/O.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`pdu`] | the 48-byte headers as typed views over the received bytes |
//! | [`frame`] | where a PDU begins and ends in a byte stream, and the digests |
//! | [`crc`] | CRC32C over scattered bytes |
//! | [`serial`] | the sequence numbers and their arithmetic (RFC 1982) |
//! | [`transfer`] | the rules of one task's data: bursts, R2Ts, cutting, residuals |
//! | [`build`] | the headers that a target sends |
//! | [`text`] | `key=value` text, its reassembly |
//! | [`name`] | iSCSI names |
//! | [`negotiate`] | every operational key, and how two sides agree |
//! | [`chap`] | CHAP: secrets, challenges, responses |
//! | [`login`] | the login machines of target and initiator |
//! | [`discovery`] | SendTargets, from both sides, and text in the full feature phase |
//! | [`random`] | where challenges come from |
//! | [`fuzz`] | entry points for fuzzing |
//!
//! Nothing received from a peer can make this crate panic, loop without end, or allocate more than
//! the limits that its caller states.
#![forbid(unsafe_code)]

pub mod build;
pub mod chap;
pub mod crc;
pub mod discovery;
pub mod frame;
pub mod fuzz;
pub mod login;
pub mod name;
pub mod negotiate;
pub mod pdu;
pub mod random;
pub mod serial;
pub mod text;
pub mod transfer;
