//! The unit of a command device: what becomes of READs and WRITEs beyond its ordinary storage.
//!
//! The slots are a pure machine (`kagami-orders`) in the memory of the unit's home core. A WRITE that makes a
//! record whole leaves as an [`Order`] through the [`Keeper`](crate::Keeper), to whoever executes; the result
//! comes back through the [`Inbox`](crate::Inbox). Nothing watches: a command device that nobody writes to
//! costs nothing, and other units pay one comparison.

use crate::message::{Command, Ending, Reply};
use crate::unit::{OpKind, Role, Unit, UnitContext};
use kagami_memory::{Purpose, Scatter, ScatterMut};
use kagami_orders::layout::{HALF, ORDINARY};
use kagami_orders::slots::{Event, Limits, Slots, Written};
use kagami_scsi::{Failure, NexusId, Status};
use kagami_types::{BlockError, BlockOp, BlockRange, BlockSize, Time, Uuid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A buffer that is kept from one command to the next has at most so many bytes.
const KEPT: usize = 256 << 10;

/// Something that a command device has for whoever executes orders.
#[derive(Debug)]
pub struct Order {
    /// The command device's UUID.
    pub device: Uuid,
    /// Its index at its core, for [`Control::Ordered`](crate::Control::Ordered).
    pub unit: u32,
    /// What it is.
    pub event: Event,
}

/// What makes a unit a command device.
#[derive(Debug)]
pub(crate) struct CommandDevice {
    slots: Slots,
    block_size: BlockSize,
    /// Who the sessions are that have sent anything.
    names: BTreeMap<NexusId, Arc<str>>,
}

impl CommandDevice {
    pub(crate) fn new(array: Uuid, block_size: BlockSize, bytes: u64) -> Self {
        Self { slots: Slots::new(array, bytes, Limits::default()), block_size, names: BTreeMap::new() }
    }

    pub(crate) fn attach(&mut self, nexus: NexusId, initiator: &str) {
        self.names.insert(nexus, initiator.into());
    }

    pub(crate) fn detach(&mut self, nexus: NexusId) {
        self.names.remove(&nexus);
    }

    /// How far an order is, or what came of it.
    pub(crate) fn ordered(&mut self, slot: u32, turn: u64, result: Vec<u8>, done: bool, now: Time) {
        if done {
            self.slots.complete(slot, turn, result, now);
        } else {
            self.slots.progress(slot, turn, result);
        }
    }

    /// First byte and end of a range.
    fn bytes(&self, range: BlockRange) -> (u64, u64) {
        let start = range.lba.0 << self.block_size.shift();
        (start, start + (u64::from(range.blocks) << self.block_size.shift()))
    }

    /// Where an operation goes.
    fn way(&self, op: &BlockOp) -> Way {
        let beyond = |range: BlockRange| self.bytes(range).1 > ORDINARY;
        match op {
            BlockOp::Read(range, _) => match self.bytes(*range) {
                (_, end) if end <= ORDINARY => Way::Storage,
                (start, end) if start >= ORDINARY => Way::Read(start, end),
                (start, _) => Way::Overlaid(start),
            },
            BlockOp::Write(range, _) => match self.bytes(*range) {
                (_, end) if end <= ORDINARY => Way::Storage,
                (start, end) if start >= ORDINARY && end - start <= HALF => Way::Write(start),
                _ => Way::Refused,
            },
            BlockOp::WriteVerify { range, .. } | BlockOp::CompareAndWrite(range, _) if beyond(*range) => {
                Way::Refused
            }
            BlockOp::WriteSame { lba, blocks, .. }
                if (lba.0.saturating_add(blocks.0)) > ORDINARY >> self.block_size.shift() =>
            {
                Way::Refused
            }
            BlockOp::Unmap(ranges) if ranges.iter().any(|range| beyond(*range)) => Way::Refused,
            _ => Way::Storage,
        }
    }
}

/// Where an operation on a command device goes.
enum Way {
    /// To the ordinary storage, as with any unit.
    Storage,
    /// To the slots: these bytes are read.
    Read(u64, u64),
    /// To both: what the storage says is overlaid with the slots. It begins at that byte.
    Overlaid(u64),
    /// To a slot, at that byte.
    Write(u64),
    /// Nowhere: DATA PROTECT.
    Refused,
}

impl Unit {
    /// The same unit as a command device of the array of that UUID.
    #[must_use]
    pub fn with_orders(mut self, array: Uuid) -> Self {
        let geometry = self.volume.geometry();
        let device = CommandDevice::new(array, geometry.block_size, geometry.bytes());
        self.role = Role::Command(Box::new(device));
        self
    }

    /// A block operation on a command device.
    #[cold]
    pub(crate) fn command_block(
        &mut self,
        index: u32,
        mut command: Command,
        wanted: u64,
        op: BlockOp,
        cx: &mut UnitContext<'_>,
    ) -> Option<Reply> {
        let Role::Command(device) = &mut self.role else { return self.block(command, wanted, op, cx, None) };
        let end = match device.way(&op) {
            Way::Storage => return self.block(command, wanted, op, cx, None),
            Way::Overlaid(at) => return self.block(command, wanted, op, cx, Some(OpKind::Overlaid(at))),
            Way::Refused => {
                cx.metrics.errors.inc();
                match self.server.failed(BlockError::WriteProtected) {
                    Failure::Check(sense) => self.check(&sense),
                    Failure::Status(status) => Ending::Status(status as u8, None),
                }
            }
            Way::Read(start, end) => {
                let len = usize::try_from(end - start).unwrap_or(0);
                cx.out.clear();
                cx.out.resize(len, 0);
                device.slots.on_read(start, cx.out, cx.now);
                cx.metrics.reads.inc();
                cx.metrics.read_bytes.add(len as u64);
                let end = fill(&mut command.data, cx);
                device.tell(self.uuid, index, cx);
                let wanted = if matches!(end, Ending::Good) { wanted } else { 0 };
                return Some(Reply { task: command.task, end, data: command.data, wanted });
            }
            Way::Write(start) => {
                cx.metrics.writes.inc();
                cx.metrics.write_bytes.add(command.data.len_bytes() as u64);
                // Sessions are known from their first command on.
                let from = device.names.get(&command.nexus).cloned().unwrap_or_default();
                let bytes = command.data.to_vec();
                let written = device.slots.on_write(start, &bytes, &from, cx.now);
                device.tell(self.uuid, index, cx);
                match written {
                    Written::Taken => Ending::Good,
                    Written::Held => Ending::Status(Status::ReservationConflict as u8, None),
                    Written::Busy => Ending::busy(),
                    Written::Outside => match self.server.failed(BlockError::WriteProtected) {
                        Failure::Check(sense) => self.check(&sense),
                        Failure::Status(status) => Ending::Status(status as u8, None),
                    },
                }
            }
        };
        command.data.clear();
        Some(Reply { task: command.task, end, data: command.data, wanted })
    }

    /// A READ of ordinary storage and slots: the storage has answered.
    #[cold]
    pub(crate) fn overlay(&mut self, at: u64, data: &mut Scatter, cx: &mut UnitContext<'_>) -> Ending {
        let Role::Command(device) = &mut self.role else { return Ending::Good };
        let (len, ordinary) = (data.len_bytes(), usize::try_from(ORDINARY.saturating_sub(at)).unwrap_or(0));
        cx.out.clear();
        cx.out.resize(len, 0);
        device.slots.on_read(at, cx.out, cx.now);
        if let Some(front) = cx.out.get_mut(..ordinary.min(len)) {
            data.copy_into(front, 0);
        }
        fill(data, cx)
    }
}

impl CommandDevice {
    /// Hands on what the slots have for others.
    fn tell(&mut self, device: Uuid, unit: u32, cx: &mut UnitContext<'_>) {
        while let Some(event) = self.slots.poll_event() {
            (cx.order)(Order { device, unit, event });
        }
    }
}

/// Puts bytes into pages of hosts' reads; BUSY where there are none.
fn fill(data: &mut Scatter, cx: &mut UnitContext<'_>) -> Ending {
    data.clear();
    let mut pages = ScatterMut::default();
    let taken = pages.take_more(cx.volume.pool, Purpose::Host, cx.out.len());
    if taken {
        pages.copy_from(0, cx.out);
        pages.freeze_into(data);
    }
    cx.out.clear();
    cx.out.shrink_to(KEPT);
    if taken { Ending::Good } else { Ending::busy() }
}
