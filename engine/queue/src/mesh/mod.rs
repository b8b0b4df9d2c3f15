//! Every core's way to every core: a ring for each ordered pair, a doorbell for each core.
//!
//! A core has one [`Port`]. What it sends in a round is staged and shown by one
//! [`flush`](Port::flush) at the end of the round, which also tells whom to wake. Messages between
//! the same two cores arrive in the order sent; between others there is no order. A core may send to
//! itself, so that callers need no special case.

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::doorbell::{Doorbell, Ringer};
use crate::spsc::{Consumer, Producer, channel};
use crate::sync::{Ordering, fence};
use kagami_types::CoreId;
use std::fmt;

/// Makes the ports; there is nothing else to it.
#[derive(Clone, Copy, Debug)]
pub struct Mesh;

/// What went through a port. Plain numbers: they belong to the port's core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Messages taken for sending.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages given back, as the ring was full.
    pub full: u64,
    /// Cores found asleep by [`Port::flush`], which had to be woken.
    pub wakeups: u64,
}

/// One core's end of the mesh.
pub struct Port<T> {
    core: CoreId,
    /// Indexed by core.
    to: Box<[Producer<T>]>,
    /// Indexed by core.
    from: Box<[Consumer<T>]>,
    /// Indexed by core.
    ringers: Box<[Ringer]>,
    bell: Doorbell,
    /// Which cores something is staged for, each once; has room for all.
    staged: Vec<u16>,
    /// Whose ring is looked at first in the next round.
    turn: usize,
    stats: PortStats,
}

impl Mesh {
    /// Ports for `cores` cores, in order, with rings for at least `capacity` messages each: the
    /// next power of two. Memory: `cores`² rings.
    #[expect(clippy::new_ret_no_self, reason = "the ports are the mesh")]
    #[must_use]
    pub fn new<T>(cores: u16, capacity: usize) -> Vec<Port<T>> {
        let bells: Vec<Doorbell> = (0..cores).map(|_| Doorbell::new()).collect();
        let ringers: Vec<Ringer> = bells.iter().map(Doorbell::ringer).collect();
        let mut inward: Vec<Vec<Consumer<T>>> =
            (0..cores).map(|_| Vec::with_capacity(usize::from(cores))).collect();
        let mut outward = Vec::with_capacity(usize::from(cores));
        for _ in 0..cores {
            let row: Box<[Producer<T>]> = inward
                .iter_mut()
                .map(|column| {
                    let (producer, consumer) = channel(capacity);
                    column.push(consumer);
                    producer
                })
                .collect();
            outward.push(row);
        }
        (0..cores)
            .zip(outward)
            .zip(inward)
            .zip(bells)
            .map(|(((core, to), from), bell)| Port {
                core: CoreId(core),
                to,
                from: from.into_boxed_slice(),
                ringers: ringers.clone().into_boxed_slice(),
                bell,
                staged: Vec::with_capacity(usize::from(cores)),
                turn: 0,
                stats: PortStats::default(),
            })
            .collect()
    }
}

impl<T> Port<T> {
    /// Whose port this is.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// How many cores there are.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.to.len()
    }

    /// What went through so far.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        self.stats
    }

    /// A ringer of this core's bell, for senders outside the mesh. What they fill must be looked at
    /// after [`prepare_sleep`](Self::prepare_sleep) has said yes.
    #[must_use]
    pub fn ringer(&self) -> Ringer {
        self.bell.ringer()
    }

    /// Takes a message for a core, which sees it after [`flush`](Self::flush).
    ///
    /// # Errors
    /// The message back, where that core's ring is full or there is no such core. The sender keeps
    /// it, flushes, and tries again in its next round; nobody rings when there is room, so a core
    /// that holds such messages does not sleep.
    #[inline]
    pub fn send(&mut self, core: CoreId, message: T) -> Result<(), T> {
        let Some(ring) = self.to.get_mut(core.index()) else {
            self.stats.full += 1;
            return Err(message);
        };
        let first = ring.staged() == 0;
        match ring.stage(message) {
            Ok(()) => {
                if first {
                    self.staged.push(core.0);
                }
                self.stats.sent += 1;
                Ok(())
            }
            Err(message) => {
                self.stats.full += 1;
                Err(message)
            }
        }
    }

    /// Room for messages to a core: at least this many are taken.
    #[must_use]
    pub fn room(&mut self, core: CoreId) -> usize {
        self.to.get_mut(core.index()).map_or(0, Producer::room)
    }

    /// Shows all staged messages, and calls `wake` with each core that was asleep and must now be
    /// woken. Call it at the end of every round, and always before sleeping. Without anything staged
    /// it costs nothing; with, one fence for all.
    #[inline]
    pub fn flush(&mut self, mut wake: impl FnMut(CoreId)) {
        if self.staged.is_empty() {
            return;
        }
        for &core in &self.staged {
            if let Some(ring) = self.to.get_mut(usize::from(core)) {
                ring.publish();
            }
        }
        // Orders all those messages before the looks at the flags; see the doorbell.
        fence(Ordering::SeqCst);
        for core in self.staged.drain(..) {
            let asleep = self.ringers.get(usize::from(core)).is_some_and(Ringer::must_wake);
            if asleep && core != self.core.0 {
                self.stats.wakeups += 1;
                wake(CoreId(core));
            }
        }
    }

    /// Takes up to `max` messages and gives each to `each` with its sender. The cores' rings are
    /// looked at in turn, beginning with another one each time, so that none is starved. Returns how
    /// many there were.
    #[inline]
    pub fn poll(&mut self, max: usize, mut each: impl FnMut(CoreId, T)) -> usize {
        let cores = self.from.len();
        let start = self.turn;
        self.turn = if start + 1 < cores { start + 1 } else { 0 };
        let mut got = 0;
        for index in (start..cores).chain(0..start) {
            let Some(ring) = self.from.get_mut(index) else { break };
            // An index below the number of cores, which is a `u16`.
            let from = CoreId(u16::try_from(index).unwrap_or(u16::MAX));
            got += ring.drain(max - got, |message| each(from, message));
            if got == max {
                break;
            }
        }
        self.stats.received += got as u64;
        got
    }

    /// Whether nothing has come that was not taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from.iter().all(Consumer::is_empty)
    }

    /// Says that the core is about to sleep. True: no message waits, and whoever sends one from now
    /// on will wake the core; it looks at whatever else senders fill (see
    /// [`ringer`](Self::ringer)), sleeps, and calls [`awake`](Self::awake) after. False: it must go
    /// on, as a message has come or something staged was not flushed.
    #[must_use]
    pub fn prepare_sleep(&mut self) -> bool {
        if !self.staged.is_empty() {
            return false;
        }
        self.bell.prepare_sleep();
        if self.is_empty() {
            return true;
        }
        self.bell.awake();
        false
    }

    /// Says that the core polls again, for whatever reason.
    #[inline]
    pub fn awake(&mut self) {
        self.bell.awake();
    }
}

impl<T> fmt::Debug for Port<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("core", &self.core)
            .field("from", &self.from)
            .field("to", &self.to)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
