//! The seam between the array and the machine: typed I/O operations, the traits that
//! io_uring (`kagami-ring`) and the simulator (`kagami-sim`) both implement, and the loop
//! that drives one core.
//!
//! # The contract
//!
//! - An operation is moved in with [`Submit::submit`] and owns its memory until its
//!   [`Completion`] moves it out again. Nobody else can write a page that a device or a
//!   socket still uses, because nobody else has the handle.
//! - Every submitted operation completes exactly once, also when its socket is closed or
//!   its device is gone. A full submission queue gives the operation back at once.
//! - Nothing here blocks, except [`Io::poll`] when it is told that it may.
//!
//! What this crate does not do: it knows no protocol, no volume and no thread; who starts
//! a core's thread and pins it is the daemon.
#![forbid(unsafe_code)]

mod idle;
mod op;
mod run;

pub use idle::{Idle, IdlePolicy};
pub use op::{Completion, Errno, FileId, Op, ReceiveBuffer, SendBuffer, SendPart, SocketId, Token};
pub use run::{Doze, Handler, Stats, round, run};

use kagami_types::Time;
use std::os::fd::OwnedFd;

/// Where operations go. Object-safe, so that a back end outside the engine can be handed one.
pub trait Submit {
    /// Takes an operation, to be started with the next kernel entry.
    ///
    /// # Errors
    /// The operation comes back when no more can be in flight: keep it and try again after
    /// the next completions.
    #[allow(clippy::result_large_err, reason = "the operation itself comes back")]
    fn submit(&mut self, token: Token, op: Op) -> Result<(), Op>;

    /// The time at which the present round began.
    fn now(&self) -> Time;
}

/// How long [`Io::poll`] may wait for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: start what was submitted, collect what is done.
    Poll,
    /// Until something completes, another core rings, or that time has come.
    Until(Time),
}

/// One core's view of the machine.
pub trait Io: Submit {
    /// A connected socket that belongs to no core, on its way from one to another.
    type Stream: Send + 'static;

    /// Starts everything submitted and moves what has completed to `done`; one kernel entry.
    fn poll(&mut self, wait: Wait, done: &mut Vec<Completion>);

    /// Makes a socket this core's own.
    ///
    /// # Errors
    /// No room in the table of sockets: the stream is dropped, which closes it.
    fn attach(&mut self, stream: Self::Stream) -> Result<SocketId, Errno>;

    /// Takes the socket that an [`Op::Accept`] brought, to be attached to some core.
    ///
    /// `accepted` is the value of that operation's completion.
    fn accepted(&mut self, accepted: u32) -> Option<Self::Stream>;

    /// Begins a connection to that address. What is sent before it stands goes out when it does; where
    /// it cannot be made, that send says why.
    ///
    /// # Errors
    /// No room in the table of sockets, no such kind of address, or nothing connects from here.
    fn connect(&mut self, to: std::net::SocketAddr) -> Result<SocketId, Errno> {
        let _ = to;
        Err(Errno::NOT_SUPPORTED)
    }

    /// The address of the socket's other end, for access rules and logs.
    fn peer(&self, socket: SocketId) -> Option<std::net::SocketAddr>;

    /// The address that the other end connected to.
    fn local(&self, socket: SocketId) -> Option<std::net::SocketAddr>;

    /// Ends a connection: what is in flight completes soon, with an error or what it got.
    /// The id stays taken until [`release`](Self::release).
    fn shutdown(&mut self, socket: SocketId);

    /// Gives a socket's id back. Nothing may be in flight on it.
    fn release(&mut self, socket: SocketId);

    /// Takes a socket back out of this core's hands, to be attached to another; its id is free. Nothing may be
    /// in flight on it. `None`: it is no connected socket of this core.
    fn detach(&mut self, socket: SocketId) -> Option<Self::Stream>;

    /// Makes a block device or file this core's own, while it runs. `polled`: its driver has poll queues,
    /// which are to be used.
    ///
    /// # Errors
    /// No room in the table, or there are no devices from outside here; the descriptor is closed.
    fn add_device(&mut self, device: OwnedFd, polled: bool) -> Result<FileId, Errno> {
        let _ = (device, polled);
        Err(Errno::NOT_SUPPORTED)
    }

    /// Closes a device. Nothing may be in flight on it.
    fn remove_device(&mut self, device: FileId) {
        let _ = device;
    }
}
