//! What the daemon's own threads tell a core. Rare, from many: a queue of its own.

use crate::device::DeviceChange;
use crate::journal::GroupSeed;
use crate::maker::Seed;
use crate::message::UnitAddress;
use crate::unit::{PairSeed, Ticket};
use crate::virtual_unit::{Forwarded, VirtualUnit};
use crossbeam_queue::ArrayQueue;
use kagami_queue::Ringer;
use kagami_replica::action::OrderResult;
use kagami_replica::mail::VolumeIndex;
use kagami_replica::{Options, Order, PlannedVolume, Report};
use kagami_scsi::{Attention, NexusId};
use kagami_types::BlockCount;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

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
    /// What came of an order, or how far it is.
    Ordered {
        /// The command device's index at this core, from the [`Order`](crate::Order).
        unit: u32,
        /// The slot.
        slot: u32,
        /// Which use of it.
        turn: u64,
        /// The result half's bytes.
        result: Vec<u8>,
        /// It has ended.
        done: bool,
    },
    /// The directory of units was replaced.
    Changed,
    /// A new unit, in the place behind the last one. Nobody sees it until the directory has it.
    AddUnit {
        /// For the core's [`UnitMaker`](crate::UnitMaker).
        seed: Seed,
        /// Gets the unit's index at this core, or why there is none.
        answer: SyncSender<Result<u32, String>>,
    },
    /// A new virtual volume. Nobody sees it until the directory has it.
    AddVirtual {
        /// The volume.
        unit: Box<VirtualUnit>,
        /// Gets its index at this core.
        answer: SyncSender<Result<u32, String>>,
    },
    /// A command of the daemon's own for the far unit of a virtual volume.
    Forward {
        /// The virtual volume's index at this core.
        unit: u32,
        /// The command.
        cdb: [u8; 16],
        /// The data that goes with it.
        out: Vec<u8>,
        /// The most bytes that come back.
        expects: u32,
        /// Hears how it ended; nothing where there is no such volume.
        answer: SyncSender<Forwarded>,
    },
    /// A unit that the directory no longer has: commands that still come for it get LOGICAL UNIT
    /// NOT SUPPORTED; those under way are finished, then it is flushed and taken apart.
    RemoveUnit {
        /// The unit's index at this core. It is not given to another one.
        unit: u32,
        /// Hears when the unit is gone.
        answer: SyncSender<()>,
    },
    /// A shard of a unit of another core, which is to be made next.
    AddShard {
        /// For the core's [`UnitMaker`](crate::UnitMaker).
        seed: Seed,
        /// Gets the shard's index at this core, or why there is none.
        answer: SyncSender<Result<u32, String>>,
    },
    /// A shard whose unit was never made.
    RemoveShard {
        /// The shard's index at this core. It is not given to another one.
        shard: u32,
    },
    /// Who uses a unit?
    Usage {
        /// The unit's index at this core.
        unit: u32,
        /// Gets the answer; nothing where there is no such unit.
        answer: SyncSender<Usage>,
    },
    /// Establishes a unit attention condition (SAM-5 5.14).
    Attend {
        /// At that unit of this core; `None`: at all of them.
        unit: Option<u32>,
        /// For these sessions; `None`: for all.
        nexuses: Option<Arc<[NexusId]>>,
        /// Which.
        attention: Attention,
    },
    /// These sessions no longer see a unit: their SPC-2 reservation of it ends.
    Forget {
        /// The unit's index at this core.
        unit: u32,
        /// Which sessions.
        nexuses: Arc<[NexusId]>,
    },
    /// A volume has more blocks now.
    Grow {
        /// The unit's index at this core.
        unit: u32,
        /// How many in all.
        blocks: BlockCount,
    },
    /// Something has become of a volume's device.
    Device {
        /// The unit's index at this core.
        unit: u32,
        /// What.
        change: DeviceChange,
    },
    /// Something of pairs and groups.
    Group {
        /// The index at this core of the unit that it is about: a paired volume's, or a journal's.
        unit: u32,
        /// What.
        control: GroupControl,
    },
    /// Finish what is under way, close all connections, flush, and end.
    Stop,
}

/// What the daemon asks of the pairs and groups of a core.
///
/// A group is put to work so: [`Add`](Self::Add) at the journal unit, [`Pair`](Self::Pair) at each of its volumes
/// (wherever these live), then [`Start`](Self::Start). At a start of the array all of them are put into the boxes before the
/// cores run: a core looks into its box before it takes commands, so nobody meets a volume without its front. The end, after
/// the group has done the order to delete it: [`Unpair`](Self::Unpair) at each volume (to be repeated while it is busy), then
/// [`Remove`](Self::Remove).
#[derive(Debug)]
pub enum GroupControl {
    /// To a journal unit ([`Unit::as_journal`](crate::Unit::as_journal)): that group is to live there.
    Add {
        /// The group and its surroundings.
        seed: Box<GroupSeed>,
        /// Hears why it cannot.
        answer: SyncSender<Result<(), String>>,
    },
    /// To a volume: the front of a pair comes before it.
    Pair {
        /// The front.
        seed: Box<PairSeed>,
        /// Hears why it cannot.
        answer: SyncSender<Result<(), String>>,
    },
    /// To a volume that is in no pair any more: its front goes. One that has none has nothing to let go.
    Unpair {
        /// Hears why it cannot yet.
        answer: SyncSender<Result<(), String>>,
    },
    /// To a journal unit: its group begins.
    Start,
    /// To a journal unit: an order for its group.
    Order {
        /// Which.
        order: Order,
        /// Gets what came of it, once, when that is known.
        answer: SyncSender<OrderResult>,
    },
    /// To a journal unit: its group has these volumes from now on ([`Group::on_reshape`](kagami_replica::Group::on_reshape)).
    /// Those that join have their fronts already ([`Pair`](Self::Pair)).
    Reshape {
        /// All of them.
        volumes: Vec<PlannedVolume>,
        /// Those that join: the unit here, and virtual volumes at the journal unit's core that lead to the other array's.
        joins: Vec<(VolumeIndex, UnitAddress, Vec<u32>)>,
        /// Gets what came of it.
        answer: SyncSender<OrderResult>,
    },
    /// To a journal unit: its group behaves so from now on.
    Behave {
        /// How.
        options: Box<Options>,
        /// Hears why it cannot.
        answer: SyncSender<Result<(), String>>,
    },
    /// To a journal unit: what does its group say of itself?
    Report {
        /// Gets it; `None` where there is no group, or nothing is known yet.
        answer: SyncSender<Option<Box<Report>>>,
    },
    /// To a journal unit: its group is over.
    Remove {
        /// Hears whether there was one.
        answer: SyncSender<bool>,
    },
}

/// What a unit is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Commands under way.
    pub commands: usize,
    /// Persistent reservation registrations, those of absent initiators included.
    pub registrations: usize,
    /// There is a reservation, persistent or SPC-2.
    pub is_reserved: bool,
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
