//! What the daemon's own threads tell a core. Rare, from many: a queue of its own.

use crate::unit::{Ticket, Unit};
use crossbeam_queue::ArrayQueue;
use kagami_queue::Ringer;
use kagami_types::BlockCount;

/// Something for one core to do.
#[derive(Debug)]
pub enum Control {
    /// State is durable, or could not be made so.
    Kept {
        /// From the [`Keep`](crate::Keep).
        ticket: Ticket,
        /// Whether it is.
        ok: bool,
    },
    /// The directory of units was replaced.
    Changed,
    /// A new unit, in the place behind the last one.
    AddUnit(Box<Unit>),
    /// A volume has more blocks now.
    Grow {
        /// The unit's index at this core.
        unit: u32,
        /// How many in all.
        blocks: BlockCount,
    },
    /// Finish what is under way, close all connections, flush, and end.
    Stop,
}

/// A core's letter box.
pub struct Inbox {
    queue: ArrayQueue<Control>,
    ringer: Ringer,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Inbox {
    /// A box for the core of that bell; `wake` ends its sleep.
    #[must_use]
    pub fn new(ringer: Ringer, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { queue: ArrayQueue::new(1024), ringer, wake: Box::new(wake) }
    }

    /// Puts something in and wakes the core if it sleeps.
    ///
    /// # Errors
    /// The box is full: the core has not looked for a long time. Try again later.
    #[allow(clippy::result_large_err, reason = "the thing itself comes back")]
    pub fn put(&self, control: Control) -> Result<(), Control> {
        self.queue.push(control)?;
        if self.ringer.ring() {
            (self.wake)();
        }
        Ok(())
    }

    pub(crate) fn take(&self) -> Option<Control> {
        self.queue.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
