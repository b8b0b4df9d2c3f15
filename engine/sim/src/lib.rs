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
//! | `trap` | crashes that come with the n-th operation of a kind |
//! | `io` | [`SimIo`], one core's view: the simulator's side of the I/O traits |
//! | `net`, `disk` | how the network and the disks behave and misbehave |
//! | [`checker`] | what a block may hold, after all that was written, flushed and lost; whole commands, WCE, reservations |
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
//! # What goes wrong
//!
//! Disks have a volatile cache and take their time: operations act in pieces, in any order, beside each
//! other; they fail, hang, come late, find no space, move less than asked, go away and return. A
//! power failure leaves of every sector that is not stable any version since the stable one, sector by
//! sector, so it loses, keeps, tears and reorders; what is in flight is there in any part. A crash comes at a
//! time or with the n-th write, flush, completion, message or accept, several in a run. Connections are cut at any
//! byte, fragmented, delayed, silenced, have bits flipped under digests. Cores stall, rings fill up, memory is
//! short. Which of these a run has, and how much, is drawn from its seed ([`Options::random`]).
//!
//! What nobody could mend without checksums (misdirected reads and writes, dropped writes, rot, lost
//! completions: [`options::Lies`]) is only in runs that expect to fail: they prove the checker, as do the
//! arrays that are broken on purpose in `tests/array/broken.rs`.
//!
//! # What must hold
//!
//! - Every block read is what some write left that may be the last one, given when each was issued, ended
//!   and seen; after a crash also what was stable: FUA, WCE=0, a flush of the range, a READ with FUA.
//! - A read never sees a part of a command that takes effect at once: COMPARE AND WRITE and WRITE AND
//!   VERIFY everywhere, every WRITE behind the cache.
//! - A write that was given up (the device did not answer in time) may have its effect as long as the disk has
//!   it under way, never after a newer write to the same place, and not later: also when a task management
//!   function has ended it. (SAM-5 wants nothing to happen after the function's answer. A device that does not
//!   answer leaves no such answer; the array gives one and holds the range.)
//! - A command that was refused had no effect. Comparisons are right, and replace a value once.
//! - No disk has two writes to a sector under way at once.
//! - WCE, reservations and their conflicts follow the standard, over restarts too, wherever the order of the
//!   hosts' changes is known.
//! - ORDERED and HEAD OF QUEUE commands end in the order that SAM-5 asks for, wherever a host can know it.
//! - A device that is pulled out and put back keeps everything, or all that was stable where its power went; and a volume that is removed and added, keep everything; no device is closed
//!   with operations under way. (The tests play the daemon: `tests/array/steward.rs`.)
//! - TEST UNIT READY says NOT READY while the array has given a device up, never while it goes on with it, and is GOOD again
//!   only after a unit attention that tells of the return.
//! - The protocol: numbers, windows, bursts, residuals, tags, digests (RFC 7143).
//! - Everything ends: no command without an answer, no array that does not stop, no page lost.
//!
//! # By hand
//!
//! `tests/seeds.rs` says how to replay a seed; `examples/explore.rs` runs any number of them, on all cores.
//!
//! A later step plugs in here: another array is another core set and portal, a link between arrays
//! is an [`Io`](kagami_reactor::Io) connection of a core (`SimIo` accepts today; connecting from a core
//! comes with the link), a journal is a disk with a checker of its own.
//!
//! What it does not do: real time, threads (the queues between cores are checked with loom), packets
//! (TCP is taken at its word), and deferred errors (they are taken as the failure of
//! the command that reports them). Only tests use this crate.
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
