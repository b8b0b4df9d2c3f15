//! A whole array with its hosts, network and disks in one thread, from one seed.
//!
//! Behind the reactor's I/O traits stands a [`World`] instead of a kernel: a simulated clock,
//! sockets whose segments come late, short or never, and disks with a volatile cache that a crash
//! loses, keeps or tears. The code under test is the array's own, core by core; the hosts are
//! real initiators that stamp every block they write and check every block they read. Everything
//! is drawn from the seed, so a printed seed is a failure that can be looked at as often as needed.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `run` | the runner: turns, crashes, restarts, liveness |
//! | `world` | the clock, the events, what hosts do with the network |
//! | `io` | [`SimIo`], one core's view: the simulator's side of the I/O traits |
//! | `net`, `disk` | how the network and the disks behave and misbehave |
//! | [`checker`] | what a block may hold, after all that was written, flushed and lost |
//! | [`host`] | an iSCSI initiator with a random workload |
//! | [`coverage`], `trace` | what happened over all seeds, and last in this one |
//!
//! # How a run goes
//!
//! [`Sim::run`] takes an [`Array`] (what is tested: it makes its cores, each a handler with its
//! [`SimIo`], at every boot) and [`Actor`]s (its hosts). Cores run `kagami_reactor::round` in random
//! order, sleep and are woken as over a kernel; hosts look around when something comes. When all
//! hosts have done their part, nothing goes wrong any more, everything is read and checked, and
//! the array has to stop in good order. A [`Failure`] has the seed and the last events.
//!
//! A later step plugs in here: another array is another core set and portal, a link between arrays
//! is an [`Io`](kagami_reactor::Io) connection of a core (`SimIo` accepts today; connecting from a core
//! comes with the link), a journal is a disk with a checker of its own.
//!
//! What it does not do: real time, threads (the queues between cores are checked with loom), and
//! packets (TCP is taken at its word). Only tests use this crate.
#![forbid(unsafe_code)]

pub mod checker;
pub mod coverage;
mod disk;
pub mod host;
mod io;
mod net;
mod ops;
pub mod options;
mod queue;
mod rng;
mod run;
mod trace;
mod trap;
mod world;

pub use coverage::{Coverage, Happening};
pub use disk::DiskId;
pub use io::{SimIo, SimStream, SimWaker};
pub use net::ConnId;
pub use options::Options;
pub use rng::Rng;
pub use run::{Actor, Array, Failure, Report, Sim};
pub use trace::Who;
pub use world::World;
