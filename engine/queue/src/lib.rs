//! Lock-free queues between cores and their sleep/wake protocol.
//!
//! - [`spsc`]: a bounded ring with one producer and one consumer, whose pushes can be staged and
//!   shown all at once.
//! - [`doorbell`]: how a core that polls goes to sleep without missing what is sent to it.
//! - [`mesh`]: a ring from every core to every core and a doorbell each, behind one [`Port`] a core.
//!
//! What it does not do: no system call and no waiting. Whether a sleeper must be woken is a `bool`;
//! how it is woken (a message to its ring, an eventfd) is the reactor's business. A full queue gives
//! the message back: what then waits is the sender's business.
//!
//! Who calls it: the reactors, for requests between cores and from the control plane.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kagami-queue --release` checks every interleaving that the
//! memory model allows of small cases of all three.

pub mod doorbell;
pub mod mesh;
pub mod spsc;
mod sync;

pub use doorbell::{Doorbell, Ringer};
pub use mesh::{Mesh, Port, PortStats};
pub use spsc::{Consumer, Producer, channel};
