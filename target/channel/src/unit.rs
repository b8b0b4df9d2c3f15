//! A logical unit on its home core: device server and volume, and the tasks between them.
//!
//! A command comes here with all of its data, from a connection of this core or of another.
//! The device server decides; the volume does; the reply goes back. Nothing here is shared.

mod changes;
mod defer;
mod end;
mod pair;

pub use pair::PairSeed;
pub(crate) use pair::Readers;

use crate::answer::CHECK_CONDITION;
use crate::backing::Backing;
use crate::journal::{GroupEvent, Journal};
use crate::message::{Command, Crossing, Ending, Manage, Reply, UnitAddress};
use crate::nexus::TaskId;
use crate::order::Order;
use crate::orders::{CommandDevice, Order as Ordered};
use crate::session::Session;
use crate::spread::{Spread, SpreadPlan};
use kagami_cache::store::{Cache, Store, StoreContext, StorePlan};
use kagami_iscsi::pdu::TaskAttribute;
use kagami_memory::{Pool, Purpose, Scatter, ScatterMut};
use kagami_metrics::VolumeMetrics;
use kagami_scsi::{DataOut, Disposition, Failure, LogicalUnit, NexusId, Status, TransportId};
use kagami_types::{BlockCount, BlockError, BlockOp, CoreId, Lba, Lun, Time, Uuid};
use kagami_volume::{Outcome, Tag, Volume};
use std::sync::Arc;

/// A logical unit that is served.
#[derive(Debug)]
pub struct Unit {
    lun: Lun,
    pub(crate) uuid: Uuid,
    pub(crate) server: LogicalUnit,
    pub(crate) volume: Backing,
    /// Where a cache is to be in front of the volume, until the unit has come to its core.
    cached: Option<StorePlan>,
    /// Where the volume is to be spread over cores, until then as well.
    spread: Option<SpreadPlan>,
    /// Which row of the metrics is its.
    row: usize,
    tasks: Box<[Option<UnitTask>]>,
    free: Vec<u16>,
    waiters: Vec<Waiter>,
    serial: u64,
    /// The slot of the task that was begun last.
    last: u16,
    pub(crate) order: Order,
    pub(crate) role: Role,
    /// Its device was removed.
    pub(crate) gone: bool,
}

/// What a unit is besides a volume.
#[derive(Debug)]
pub(crate) enum Role {
    /// Nothing.
    Plain,
    /// A command device.
    Command(Box<CommandDevice>),
    /// A journal, with the group that it is of.
    Journal(Box<Journal>),
    /// In a pair, whose other array reads it.
    Paired(Box<Readers>),
}

impl Role {
    #[inline]
    fn is_special(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// A task in the hands of the volume, or of something else that takes its time.
#[derive(Debug)]
struct UnitTask {
    serial: u64,
    /// `None`: work that no host waits for (the IMMED bit).
    task: Option<TaskId>,
    nexus: NexusId,
    wanted: u64,
    started: Time,
    kind: OpKind,
    aborted: Abort,
    /// The parts of a deferred change that are still under way.
    deferred: u8,
    failed: Option<BlockError>,
    allocation: [u8; 16],
}

/// Whether a task was aborted, and what its initiator is told (SAM-5 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abort {
    No,
    /// Nothing: it asked for it, or gets a unit attention.
    Silent,
    /// TASK ABORTED, as the control mode page asks for (TAS).
    WithStatus,
}

/// For the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpKind {
    Read,
    /// A READ from that byte on, of which the end is a command device's slots.
    Overlaid(u64),
    Write,
    LbaStatus,
    /// Unmapped or zeroed, without data: that many bytes.
    Clear(u64),
    Other,
}

/// Something that waits for tasks to end.
#[derive(Debug)]
struct Waiter {
    serials: Vec<u64>,
    then: Then,
}

/// What follows when they have.
#[derive(Debug)]
pub(crate) enum Then {
    /// This core's part of a task management function is done.
    Managed(Manage),
    /// The unit has forgotten a session.
    Detached(Arc<Session>),
    /// PREEMPT AND ABORT has one part less to wait for.
    Deferred(u16, u64),
}

/// What the unit needs of its core for the length of one call.
pub(crate) struct UnitContext<'a> {
    pub(crate) volume: StoreContext<'a>,
    pub(crate) now: Time,
    /// The unit's own address.
    pub(crate) home: UnitAddress,
    /// What goes to shards on other cores.
    pub(crate) crossing: &'a mut Vec<(CoreId, Crossing)>,
    pub(crate) metrics: &'a VolumeMetrics,
    /// Parameter lists and parameter data pass through these.
    pub(crate) parameters: &'a mut Vec<u8>,
    pub(crate) out: &'a mut Vec<u8>,
    /// What is done, besides what the call returns.
    pub(crate) replies: &'a mut Vec<Reply>,
    pub(crate) then: &'a mut Vec<Then>,
    pub(crate) keep: &'a mut dyn FnMut(Keep),
    /// What a command device was told to do.
    pub(crate) order: &'a mut dyn FnMut(Ordered),
    /// What operators want to know of groups.
    pub(crate) event: &'a mut dyn FnMut(GroupEvent),
    pub(crate) session: Option<&'a Arc<Session>>,
    pub(crate) luns: &'a [Lun],
}

/// State that must be durable before a command ends with GOOD.
#[derive(Debug)]
pub struct Keep {
    /// The volume's UUID, by which the tables know it.
    pub volume: Uuid,
    /// The device server's state, in place of what was kept before.
    pub state: Vec<u8>,
    /// To be given back with the result.
    pub ticket: Ticket,
}

/// Who waits for a [`Keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) unit: u32,
    pub(crate) slot: u16,
    pub(crate) serial: u64,
}

impl Unit {
    /// A unit of that many task slots. `row` is its row in the metrics.
    #[must_use]
    pub fn new(lun: Lun, uuid: Uuid, server: LogicalUnit, volume: Volume, slots: u16, row: usize) -> Self {
        Self {
            lun,
            uuid,
            server,
            volume: Backing::Own(Store::direct(volume)),
            cached: None,
            spread: None,
            row,
            tasks: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            waiters: Vec::new(),
            serial: 0,
            last: 0,
            order: Order::default(),
            role: Role::Plain,
            gone: false,
        }
    }

    /// The same unit, with its core's cache in front of the volume. The plan's number is the core's to give.
    #[must_use]
    pub fn with_cache(mut self, plan: StorePlan) -> Self {
        self.cached = Some(plan);
        self
    }

    /// The same unit, with its volume spread over this core and the shards that the plan names, each of
    /// which is at another core.
    #[must_use]
    pub fn with_spread(mut self, plan: SpreadPlan) -> Self {
        self.spread = Some(plan);
        self
    }

    /// The unit has its place at a core.
    ///
    /// # Errors
    /// The cache cannot take its volume, or it cannot be spread so.
    pub(crate) fn enter(mut self, cache: &mut Cache) -> Result<Self, String> {
        let Backing::Own(store) = self.volume else { return Ok(self) };
        let cached = self.cached.take();
        let is_cached = cached.is_some();
        let store = entered(store, cached, cache)?;
        let volume = match self.spread.take().filter(|plan| !plan.shards.is_empty()) {
            Some(plan) => {
                let (slots, write_back) = (self.tasks.len(), self.server.write_cache_enabled());
                Backing::Spread(Box::new(Spread::new(store, &plan, slots, is_cached, write_back)?))
            }
            None => Backing::Own(store),
        };
        Ok(Self { volume, ..self })
    }

    /// The unit leaves its core. How many pages were lost that its device did not have.
    pub(crate) fn leave(self, cache: &mut Cache) -> u32 {
        self.volume.leave(cache)
    }

    /// Its number.
    #[must_use]
    pub fn lun(&self) -> Lun {
        self.lun
    }

    pub(crate) fn row(&self) -> usize {
        self.row
    }

    /// Makes a session known to the device server with its first command: a thousand sessions
    /// times a thousand units would be a million for nothing.
    #[cold]
    fn attach(&mut self, session: &Session) -> bool {
        let nexus = session.nexus;
        let id = TransportId::new(&session.initiator, session.isid.0);
        match &mut self.role {
            Role::Command(device) => device.attach(nexus, &session.initiator),
            Role::Paired(readers) => readers.attach(nexus, &session.initiator),
            Role::Plain | Role::Journal(_) => {}
        }
        id.is_some_and(|id| self.server.attach(nexus, Arc::new(id), session.port).is_ok())
    }

    /// Executes a command. `None`: the reply will be among `replies` later.
    #[inline]
    pub(crate) fn execute(
        &mut self,
        index: u32,
        command: Command,
        cx: &mut UnitContext<'_>,
    ) -> Option<Reply> {
        if !self.server.is_attached(command.nexus) && !cx.session.is_some_and(|session| self.attach(session))
        {
            // Its session is not known here (yet): the initiator tries again.
            return Some(Reply { task: command.task, end: Ending::busy(), data: command.data, wanted: 0 });
        }
        if command.attribute != TaskAttribute::Simple || self.order.is_active() {
            return self.execute_in_order(index, command, cx);
        }
        self.execute_now(index, command, cx)
    }

    /// Executes a command of a session that is known.
    #[inline]
    pub(crate) fn execute_now(
        &mut self,
        index: u32,
        command: Command,
        cx: &mut UnitContext<'_>,
    ) -> Option<Reply> {
        if self.free.is_empty() && kagami_scsi::may_defer(&command.cdb) {
            // Its change takes effect at once and then waits in a slot: without one it must not begin.
            return Some(Reply { task: command.task, end: Ending::busy(), data: command.data, wanted: 0 });
        }
        let block_size = self.volume.geometry().block_size;
        let transfer = kagami_scsi::transfer(&command.cdb, block_size);
        cx.parameters.clear();
        let gather = transfer.gather(command.data.len_bytes() as u64);
        if gather > 0 {
            let range = command.data.range(0, gather);
            range.for_each(|span| cx.parameters.extend_from_slice(span.bytes()));
        }
        cx.out.clear();
        let offered = DataOut { parameters: cx.parameters, offered: u64::from(command.offered) };
        let disposition = self.server.execute(command.nexus, &command.cdb, offered, cx.out);
        match disposition {
            Disposition::Block(op) if self.role.is_special() => match self.role {
                Role::Journal(_) => self.journal_block(command, transfer.bytes, op, cx),
                Role::Paired(_) => self.pair_block(command, transfer.bytes, op, cx),
                _ => self.command_block(index, command, transfer.bytes, op, cx),
            },
            Disposition::Block(op) => self.block(command, transfer.bytes, op, cx, None),
            other => Some(self.settle(index, command, transfer.bytes, other, cx)?),
        }
    }

    /// READ, WRITE and all else that the volume does. `kind`: what it counts as, where that does not
    /// follow from the operation.
    #[inline]
    pub(crate) fn block(
        &mut self,
        command: Command,
        wanted: u64,
        op: BlockOp,
        cx: &mut UnitContext<'_>,
        kind: Option<OpKind>,
    ) -> Option<Reply> {
        if let Some(reply) = self.deferred_error(&command) {
            return Some(reply);
        }
        let Some(slot) = self.free.pop() else {
            cx.metrics.busy.inc();
            return Some(Reply {
                task: command.task,
                end: Ending::task_set_full(),
                data: command.data,
                wanted,
            });
        };
        let kind = kind.unwrap_or(match &op {
            BlockOp::Read(..) => OpKind::Read,
            BlockOp::Write(..) => OpKind::Write,
            BlockOp::LbaStatus { .. } => OpKind::LbaStatus,
            BlockOp::Unmap(_) | BlockOp::WriteSame { .. } => self.cleared(&op),
            _ => OpKind::Other,
        });
        self.serial += 1;
        self.last = slot;
        let task = UnitTask {
            serial: self.serial,
            task: Some(command.task),
            nexus: command.nexus,
            wanted,
            started: cx.now,
            kind,
            aborted: Abort::No,
            deferred: 0,
            failed: None,
            allocation: command.cdb,
        };
        cx.metrics.queue_time.record(cx.now.nanos_since(command.received));
        let data = command.data;
        let tag = tag(slot, self.serial);
        match self.volume.submit(cx, tag, op, data) {
            Some(outcome) => {
                self.free.push(slot);
                self.finish(&task, outcome, cx)
            }
            None => {
                self.tasks[usize::from(slot)] = Some(task);
                None
            }
        }
    }

    /// How much an operation clears.
    #[cold]
    fn cleared(&self, op: &BlockOp) -> OpKind {
        let blocks: u64 = match op {
            BlockOp::Unmap(ranges) => ranges.iter().map(|range| u64::from(range.blocks)).sum(),
            BlockOp::WriteSame { blocks, unmap, zeroes, .. } if *unmap || *zeroes => blocks.0,
            _ => return OpKind::Other,
        };
        OpKind::Clear(blocks.saturating_mul(self.volume.geometry().block_size.bytes().into()))
    }

    /// An error of a write that was answered long ago is told in place of the next command that asks for
    /// blocks, which is then not executed (SPC-5 4.4.7).
    #[inline]
    fn deferred_error(&mut self, command: &Command) -> Option<Reply> {
        let error = self.volume.take_deferred_error()?;
        let sense = self.server.deferred(error.error);
        let end = Ending::Status(CHECK_CONDITION, Some(sense.as_ref().into()));
        Some(Reply { task: command.task, end, data: Scatter::default(), wanted: 0 })
    }

    /// Everything but block operations.
    #[cold]
    fn settle(
        &mut self,
        index: u32,
        mut command: Command,
        wanted: u64,
        disposition: Disposition,
        cx: &mut UnitContext<'_>,
    ) -> Option<Reply> {
        let task = command.task;
        cx.metrics.others.inc();
        // It may have been a MODE SELECT.
        self.volume.set_write_back(cx, self.server.write_cache_enabled());
        let mut wanted = wanted;
        let end = match disposition {
            Disposition::Good => Ending::Good,
            Disposition::DataIn => {
                wanted = cx.out.len() as u64;
                fill(&mut command.data, cx.out, cx.volume.pool)
            }
            Disposition::Check(sense) => self.check(&sense),
            Disposition::Status(status) => Ending::Status(status as u8, None),
            Disposition::ReportLuns(ask) => {
                let luns =
                    cx.luns.iter().copied().filter(|&lun| cx.session.is_none_or(|s| s.visible.contains(lun)));
                cx.out.clear();
                kagami_scsi::report_luns(ask, luns, cx.out);
                wanted = cx.out.len() as u64;
                fill(&mut command.data, cx.out, cx.volume.pool)
            }
            Disposition::Background(op) => {
                self.background(op, cx);
                Ending::Good
            }
            Disposition::Deferred(deferred) => return self.defer(index, command, *deferred, cx),
            // Dealt with by the caller.
            Disposition::Block(_) => Ending::busy(),
        };
        if wanted == 0 || !matches!(end, Ending::Good) {
            command.data.clear();
        }
        Some(Reply { task, end, data: command.data, wanted })
    }

    pub(crate) fn check(&self, sense: &kagami_scsi::Sense) -> Ending {
        Ending::Status(CHECK_CONDITION, Some(self.server.encode(sense).as_ref().into()))
    }

    /// An operation for which nobody waits. Without a slot it is not done: it is a hint.
    fn background(&mut self, op: BlockOp, cx: &mut UnitContext<'_>) {
        self.begin_background(op, false, cx);
    }

    /// The same; `inside`: past the front of a pair.
    fn begin_background(&mut self, op: BlockOp, inside: bool, cx: &mut UnitContext<'_>) {
        let Some(slot) = self.free.pop() else { return };
        self.serial += 1;
        let tag = tag(slot, self.serial);
        let data = Scatter::default();
        let done = match &mut self.volume {
            Backing::Paired(paired) if inside => paired.submit_inside(cx, tag, op, data),
            volume => volume.submit(cx, tag, op, data),
        };
        if done.is_some() {
            self.free.push(slot);
            return;
        }
        self.tasks[usize::from(slot)] = Some(UnitTask {
            serial: self.serial,
            task: None,
            nexus: NexusId(u32::MAX),
            wanted: 0,
            started: cx.now,
            kind: OpKind::Other,
            aborted: Abort::No,
            deferred: 0,
            failed: None,
            allocation: [0; 16],
        });
    }

    /// What the volume has finished since: called after everything that it was handed.
    pub(crate) fn drain(&mut self, cx: &mut UnitContext<'_>) {
        while let Some((Tag(tag), outcome)) = self.volume.next_outcome(cx) {
            if Self::is_of_group(Tag(tag)) {
                self.group_device(Tag(tag), outcome, cx);
                continue;
            }
            let (slot, serial) = untag(tag);
            let Some(place) = self.tasks.get_mut(usize::from(slot)) else { continue };
            let Some(task) = place.as_mut().filter(|task| task.serial & SERIAL == serial) else { continue };
            if task.deferred > 0 {
                let serial = task.serial;
                self.deferred_part(slot, serial, outcome.result, cx);
                continue;
            }
            let Some(task) = place.take() else { continue };
            self.free.push(slot);
            if let Some(reply) = self.finish(&task, outcome, cx) {
                cx.replies.push(reply);
            }
        }
    }

    /// From the volume's outcome to the reply.
    #[inline]
    fn finish(&mut self, task: &UnitTask, outcome: Outcome, cx: &mut UnitContext<'_>) -> Option<Reply> {
        let Outcome { result, mut data, status } = outcome;
        let metrics = cx.metrics;
        let bytes = if result.is_ok() { task.wanted } else { 0 };
        match task.kind {
            OpKind::Read | OpKind::Overlaid(_) => {
                metrics.reads.inc();
                metrics.read_bytes.add(bytes);
                metrics.read_time.record(cx.now.nanos_since(task.started));
            }
            OpKind::Write => {
                metrics.writes.inc();
                metrics.write_bytes.add(bytes);
                metrics.write_time.record(cx.now.nanos_since(task.started));
            }
            kind => {
                if let (OpKind::Clear(bytes), Ok(())) = (kind, &result) {
                    metrics.unmap_bytes.add(bytes);
                }
                metrics.others.inc();
                metrics.other_time.record(cx.now.nanos_since(task.started));
            }
        }
        if !self.waiters.is_empty() {
            self.ended(task.serial, cx);
        }
        let id = task.task?;
        let end = match result {
            _ if task.aborted == Abort::WithStatus => {
                data.clear();
                Ending::Status(Status::TaskAborted as u8, None)
            }
            _ if task.aborted == Abort::Silent => Ending::Aborted,
            Err(BlockError::Aborted) => Ending::Aborted,
            Ok(()) if task.kind == OpKind::LbaStatus => {
                cx.out.clear();
                self.server.finish_lba_status(&task.allocation, &status, cx.out);
                let end = fill(&mut data, cx.out, cx.volume.pool);
                return Some(Reply { task: id, end, data, wanted: cx.out.len() as u64 });
            }
            Ok(()) => match task.kind {
                OpKind::Overlaid(at) => self.overlay(at, &mut data, cx),
                _ => Ending::Good,
            },
            Err(error) => {
                match error {
                    BlockError::Busy => metrics.busy.inc(),
                    BlockError::TimedOut => {
                        metrics.timeouts.inc();
                        metrics.errors.inc();
                    }
                    _ => metrics.errors.inc(),
                }
                data.clear();
                match self.server.failed(error) {
                    Failure::Check(sense) => self.check(&sense),
                    Failure::Status(status) => Ending::Status(status as u8, None),
                }
            }
        };
        Some(Reply { task: id, end, data, wanted: task.wanted })
    }

    /// Makes all that was written stable, for nobody in particular.
    pub(crate) fn flush(&mut self, cx: &mut UnitContext<'_>) {
        // Past the front of a pair, whose journal has what hosts were promised.
        self.begin_background(BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) }, true, cx);
    }

    /// Tasks under way, and those that wait for their turn.
    pub(crate) fn in_use(&self) -> usize {
        self.executing() + self.order.held()
    }

    /// Tasks under way.
    pub(crate) fn executing(&self) -> usize {
        self.tasks.len() - self.free.len()
    }

    /// Task slots in all.
    pub(crate) fn slots(&self) -> usize {
        self.tasks.len()
    }

    /// Slot and serial number of the task that was begun last.
    pub(crate) fn newest(&self) -> Option<(u16, u64)> {
        self.is_under_way(self.last, self.serial).then_some((self.last, self.serial))
    }

    /// Whether that task has not ended.
    pub(crate) fn is_under_way(&self, slot: u16, serial: u64) -> bool {
        let task = self.tasks.get(usize::from(slot)).and_then(Option::as_ref);
        task.is_some_and(|task| task.serial == serial)
    }
}

/// A store with its core's cache in front, where it is to have one.
///
/// # Errors
/// The cache cannot take it.
pub(crate) fn entered(store: Store, plan: Option<StorePlan>, cache: &mut Cache) -> Result<Store, String> {
    let Some(plan) = plan else { return Ok(store) };
    let number = cache.free_number().ok_or("the core's cache has too many volumes")?;
    let plan = StorePlan { number, ..plan };
    let Ok(volume) = store.into_volume() else { return Err("it is in a cache already".to_owned()) };
    Store::cached(volume, plan, cache).map_err(|error| error.to_string())
}

/// The part of a serial number that fits beside the slot in a tag.
const SERIAL: u64 = (1 << 48) - 1;

fn tag(slot: u16, serial: u64) -> Tag {
    Tag(u64::from(slot) << 48 | serial & SERIAL)
}

fn untag(tag: u64) -> (u16, u64) {
    let [high, low, ..] = tag.to_be_bytes();
    (u16::from_be_bytes([high, low]), tag & SERIAL)
}

/// Puts parameter data into pages; BUSY where there are none.
pub(crate) fn fill(data: &mut Scatter, bytes: &[u8], pool: &Pool) -> Ending {
    data.clear();
    let mut pages = ScatterMut::default();
    if !pages.take_more(pool, Purpose::Internal, bytes.len()) {
        return Ending::busy();
    }
    pages.copy_from(0, bytes);
    pages.freeze_into(data);
    Ending::Good
}
