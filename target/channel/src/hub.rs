//! Everything of a core that is not one of its connections: its units, its memory, its ways to
//! the other cores.

mod functions;
mod removal;

use crate::directory::Directory;
use crate::far::FarUnits;
use crate::inbox::Usage;
use crate::journal::GroupEvent;
use crate::message::{Command, Crossing, Ending, Manage, Message, PairMail, Reply, UnitAddress};
use crate::nexus::TaskId;
use crate::orders::Order;
use crate::registry::Registry;
use crate::session::Session;
use crate::shard::Shard;
use crate::shares::Shares;
use crate::unit::{Keep, Role, Then, Unit, UnitContext};
use crate::virtual_unit::FAR;
use kagami_cache::store::{Cache, StoreContext, StoreCounters};
use kagami_memory::{Class, Pool, Purpose, Scatter, ScatterMut};
use kagami_metrics::{CacheMetrics, CoreMetrics};
use kagami_queue::Port;
use kagami_reactor::{Completion, Io};
use kagami_replica::action::FarEnd;
use kagami_scsi::table::DataKind;
use kagami_scsi::{Attention, Disposition, NexusId};
use kagami_types::{BlockCount, BlockError, CoreId, Lun, Time};
use removal::Retiring;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most bytes of data that are taken of a command for a unit whose block size is not known yet.
const MOST_UNKNOWN: u32 = 4 << 20;

/// The lists whose storage is kept for the next commands.
const SPARE_LISTS: usize = 1024;

/// Takes state that must be durable, and sees to it that the core hears of the result.
pub trait Keeper: Send {
    /// Begins to make it durable. The result comes back through the core's
    /// [`Inbox`](crate::Inbox). Does not block.
    fn keep(&mut self, core: CoreId, keep: Keep);

    /// Takes what a command device was told to do. What comes of it comes back as
    /// [`Control::Ordered`](crate::Control::Ordered). Does not block. Who has no command devices need not care.
    fn order(&mut self, core: CoreId, order: Order) {
        let _ = (core, order);
    }

    /// Something happened to a group that operators want to know. Does not block.
    fn group_event(&mut self, core: CoreId, event: GroupEvent) {
        let _ = (core, event);
    }
}

/// A core without its connections. `S` is a socket between two cores.
pub(crate) struct Hub<S> {
    pub(crate) core: CoreId,
    pub(crate) pool: Pool,
    /// The cached pages of this core's volumes.
    pub(crate) cache: Cache,
    pub(crate) port: Port<Message<S>>,
    /// Pages of commands under way, by unit.
    pub(crate) shares: Arc<Shares>,
    /// Messages for cores whose queues are full, in order.
    delayed: Vec<VecDeque<Message<S>>>,
    /// The units by their index; the places of those that were removed stay empty.
    pub(crate) units: Vec<Option<Unit>>,
    /// The shards of other cores' units, likewise.
    pub(crate) shards: Vec<Option<Shard>>,
    /// The virtual volumes, which have indices of their own.
    pub(crate) far: FarUnits,
    /// Units that finish what they have, and then go.
    retiring: Vec<Retiring>,
    /// Shards likewise.
    pub(crate) leaving: Vec<u32>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<CoreMetrics>,
    /// The sessions, by their nexus number.
    sessions: Vec<Option<Arc<Session>>>,
    /// What is done for connections of this core.
    pub(crate) replies: VecDeque<Reply>,
    /// What this core finished of somebody's task management.
    pub(crate) managed: Vec<Manage>,
    /// Fences that have come, per function that is not complete yet.
    fences: Vec<(Manage, usize)>,
    /// Target resets under way, and how many units of this core have not done their part.
    resets: Vec<(Manage, usize)>,
    /// Sessions that end, and how many units have not forgotten them yet.
    detaching: Vec<(Arc<Session>, usize)>,
    keeper: Box<dyn Keeper>,
    keeps: Vec<Keep>,
    orders: Vec<Order>,
    events: Vec<GroupEvent>,
    spare: Vec<Scatter>,
    parameters: Vec<u8>,
    pub(crate) out: Vec<u8>,
    pub(crate) done: Vec<(kagami_volume::Tag, kagami_volume::Outcome)>,
    pub(crate) then: Vec<Then>,
    pub(crate) finished: Vec<Reply>,
    /// What units of this core send to others.
    crossing: Vec<(CoreId, Crossing)>,
    /// What fronts and groups of this core say to each other.
    pub(crate) mail: VecDeque<PairMail>,
    /// Ends of commands for other arrays: of which journal unit, under which tag.
    pub(crate) far_ends: VecDeque<(u32, u64, FarEnd)>,
}

impl<S> std::fmt::Debug for Hub<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("core", &self.core).field("units", &self.units).finish_non_exhaustive()
    }
}

impl<S> Hub<S> {
    /// From so many bytes on, data is received in place; below, a copy costs less than what a
    /// second receive or a shortened window does.
    pub(crate) const IN_PLACE: usize = 8 << 10;
}

impl<S: Send> Hub<S> {
    #[allow(clippy::too_many_arguments, reason = "all of it comes from the core's own plan")]
    pub(crate) fn new(
        pool: Pool,
        mut cache: Cache,
        port: Port<Message<S>>,
        units: Vec<Unit>,
        shards: Vec<Shard>,
        directory: Arc<Directory>,
        registry: Arc<Registry>,
        metrics: Arc<CoreMetrics>,
        keeper: Box<dyn Keeper>,
    ) -> Self {
        Self {
            core: port.core(),
            delayed: (0..port.cores()).map(|_| VecDeque::new()).collect(),
            pool,
            // The daemon computes both from one plan; a unit that did not fit would not be served.
            units: units.into_iter().map(|unit| unit.enter(&mut cache).ok()).collect(),
            shards: shards.into_iter().map(|shard| shard.enter(&mut cache).ok()).collect(),
            shares: Arc::new(Shares::new(cache.pages().1)),
            cache,
            port,
            far: FarUnits::default(),
            retiring: Vec::new(),
            leaving: Vec::new(),
            directory,
            registry,
            metrics,
            sessions: Vec::new(),
            replies: VecDeque::new(),
            managed: Vec::new(),
            fences: Vec::new(),
            resets: Vec::new(),
            detaching: Vec::new(),
            keeper,
            keeps: Vec::new(),
            orders: Vec::new(),
            events: Vec::new(),
            spare: Vec::with_capacity(SPARE_LISTS),
            parameters: Vec::new(),
            out: Vec::new(),
            done: Vec::new(),
            then: Vec::new(),
            finished: Vec::new(),
            crossing: Vec::new(),
            mail: VecDeque::new(),
            far_ends: VecDeque::new(),
        }
    }

    /// Sends a message to a core, this one included. Where its queue is full, it waits here.
    pub(crate) fn send(&mut self, core: CoreId, message: Message<S>) {
        let Some(waiting) = self.delayed.get_mut(core.index()) else { return };
        if !waiting.is_empty() {
            waiting.push_back(message);
            return;
        }
        if let Err(message) = self.port.send(core, message) {
            self.metrics.reactor.messages_delayed.inc();
            waiting.push_back(message);
        }
    }

    /// Sends to every core, this one included.
    pub(crate) fn broadcast(&mut self, make: impl Fn() -> Message<S>) {
        for core in self.cores() {
            self.send(core, make());
        }
    }

    pub(crate) fn cores(&self) -> impl Iterator<Item = CoreId> + use<S> {
        (0..self.port.cores()).map(|core| CoreId(u16::try_from(core).unwrap_or(u16::MAX)))
    }

    /// Tries again what waited for room. Whether anything still waits.
    pub(crate) fn send_delayed(&mut self) -> bool {
        let mut left = false;
        for (core, waiting) in (0u16..).zip(&mut self.delayed) {
            while let Some(message) = waiting.pop_front() {
                if let Err(message) = self.port.send(CoreId(core), message) {
                    waiting.push_front(message);
                    left = true;
                    break;
                }
            }
        }
        left
    }

    /// Tells the cores whose bits are set that a connection of theirs may go on.
    #[cold]
    pub(crate) fn nudge(&mut self, cores: u64) {
        for core in self.cores() {
            if cores >> (core.0 % 64) & 1 == 1 {
                self.send(core, Message::Nudge);
            }
        }
    }

    /// Takes pages for a host's data to a unit; clean ones of the cache are given up for them where there are none free.
    /// How many now count for the unit; `None`, and nothing taken: there are none, or none that it may have.
    #[inline]
    pub(crate) fn take_pages(
        &mut self,
        list: &mut ScatterMut,
        lun: Option<Lun>,
        bytes: usize,
    ) -> Option<u32> {
        let pages = u32::try_from(bytes.div_ceil(Class::Page.bytes())).unwrap_or(u32::MAX);
        let units = self.directory.luns().len();
        let (pool, cache) = (&self.pool, &self.cache);
        let free = || {
            pool.arena().free_for_hosts(Class::Page)
                + (cache.pages().0 - cache.dirty().0.min(cache.pages().0))
        };
        if lun.is_some_and(|lun| !self.shares.allow(lun, pages, units, free)) {
            return None;
        }
        if !(list.take_more(&self.pool, Purpose::Host, bytes) || self.reclaim_pages(list, bytes)) {
            return None;
        }
        if let Some(lun) = lun {
            self.shares.take(lun, pages);
        }
        Some(pages)
    }

    #[cold]
    fn reclaim_pages(&mut self, list: &mut ScatterMut, bytes: usize) -> bool {
        let pages = u32::try_from(bytes.div_ceil(Class::Page.bytes())).unwrap_or(u32::MAX);
        self.metrics.pool.reclaims.inc();
        self.cache.reclaim(pages) > 0 && list.take_more(&self.pool, Purpose::Host, bytes)
    }

    /// A list with storage, as far as there is one to spare.
    #[inline]
    pub(crate) fn spare_list(&mut self) -> Scatter {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps a list's storage; its pages are free.
    #[inline]
    pub(crate) fn keep_list(&mut self, mut list: Scatter) {
        list.clear();
        if self.spare.len() < SPARE_LISTS && list.capacity() > 0 {
            self.spare.push(list);
        }
    }

    /// How many bytes of data from the initiator a command can use, at most `expected`.
    pub(crate) fn data_out_len(&self, lun: [u8; 8], cdb: &[u8; 16], expected: u32) -> u32 {
        let block_size = Lun::from_wire(lun).ok().and_then(|lun| self.directory.block_size(lun));
        let Some(block_size) = block_size else {
            // The far unit of a virtual volume is not known: what comes is judged when it is.
            let address = Lun::from_wire(lun).ok().and_then(|lun| self.directory.unit(lun));
            return address.map_or(0, |_| expected.min(MOST_UNKNOWN));
        };
        let transfer = kagami_scsi::transfer(cdb, block_size);
        match transfer.kind {
            DataKind::BlocksOut => u32::try_from(transfer.bytes).unwrap_or(u32::MAX).min(expected),
            DataKind::Parameters => {
                u32::try_from(transfer.gather(u64::from(expected))).unwrap_or(u32::MAX).min(expected)
            }
            _ => 0,
        }
    }

    /// Whether the unit's volume keeps the pages that it is written; only known of units of this core.
    #[inline]
    pub(crate) fn keeps_pages(&self, lun: [u8; 8]) -> bool {
        let unit = Lun::from_wire(lun).ok().and_then(|lun| self.directory.unit(lun));
        let Some(unit) = unit.filter(|unit| unit.core == self.core) else { return false };
        let unit = self.units.get(unit.index as usize).and_then(Option::as_ref);
        unit.is_some_and(|unit| unit.volume.keeps_pages())
    }

    /// Answers a command for a LUN that is not there, or not for this session.
    #[cold]
    pub(crate) fn absent(
        &mut self,
        task: TaskId,
        cdb: &[u8; 16],
        mut data: Scatter,
        session: &Session,
    ) -> Reply {
        data.clear();
        self.out.clear();
        let disposition = match kagami_scsi::absent(cdb, &mut self.out) {
            Disposition::ReportLuns(ask) => {
                let luns = self.directory.luns().iter().copied().filter(|&lun| session.visible.contains(lun));
                kagami_scsi::report_luns(ask, luns, &mut self.out);
                Disposition::DataIn
            }
            other => other,
        };
        let wanted = self.out.len() as u64;
        let end = match disposition {
            Disposition::DataIn => {
                let mut pages = ScatterMut::default();
                if pages.take_more(&self.pool, Purpose::Internal, self.out.len()) {
                    pages.copy_from(0, &self.out);
                    pages.freeze_into(&mut data);
                    Ending::Good
                } else {
                    Ending::busy()
                }
            }
            Disposition::Check(sense) => {
                Ending::Status(crate::answer::CHECK_CONDITION, Some(sense.encode(false).as_ref().into()))
            }
            _ => Ending::Good,
        };
        Reply { task, end, data, wanted }
    }

    /// Calls a unit, and deals with everything that comes of it.
    #[inline]
    pub(crate) fn with_unit<I: Io<Stream = S>, R>(
        &mut self,
        index: u32,
        nexus: Option<kagami_scsi::NexusId>,
        io: &mut I,
        call: impl FnOnce(&mut Unit, &mut UnitContext<'_>) -> R,
    ) -> Option<R> {
        let unit = self.units.get_mut(index as usize)?.as_mut()?;
        let metrics = self.metrics.volume(unit.row())?;
        let session = nexus.and_then(|nexus| self.sessions.get(nexus.0 as usize)?.as_ref());
        let (keeps, orders, events) = (&mut self.keeps, &mut self.orders, &mut self.events);
        let now = io.now();
        let mut cx = UnitContext {
            volume: StoreContext { io, pool: &self.pool, done: &mut self.done, cache: &mut self.cache },
            now,
            home: UnitAddress { core: self.core, index },
            crossing: &mut self.crossing,
            metrics,
            parameters: &mut self.parameters,
            out: &mut self.out,
            replies: &mut self.finished,
            then: &mut self.then,
            keep: &mut |keep| keeps.push(keep),
            order: &mut |order| orders.push(order),
            event: &mut |event| events.push(event),
            session,
            luns: self.directory.luns(),
        };
        let result = call(unit, &mut cx);
        if !cx.volume.done.is_empty() || unit.volume.has_ended() {
            unit.drain(&mut cx);
        }
        while unit.order.is_active() && unit.release_held(index, &mut cx) {
            unit.drain(&mut cx);
        }
        if !self.crossing.is_empty() {
            self.cross(now);
        }
        if !(self.finished.is_empty()
            && self.then.is_empty()
            && self.keeps.is_empty()
            && self.orders.is_empty()
            && self.events.is_empty())
        {
            self.follow_up();
        }
        Some(result)
    }

    /// Sends to shards, fronts and groups, and to the links of this core.
    fn cross(&mut self, now: Time) {
        let mut crossing = std::mem::take(&mut self.crossing);
        for (core, what) in crossing.drain(..) {
            match what {
                Crossing::Part(part) => self.send(core, Message::Part(part)),
                Crossing::Order(mail) => self.send(core, Message::Order(mail)),
                Crossing::Mail(mail) if core == self.core => self.mail.push_back(mail),
                Crossing::Mail(mail) => self.send(core, Message::Mail(mail)),
                Crossing::Far(command) => self.far_command(command, now),
            }
        }
        self.crossing = crossing;
    }

    /// Sends replies home and goes on with what waited for tasks to end.
    pub(crate) fn follow_up(&mut self) {
        let mut finished = std::mem::take(&mut self.finished);
        for reply in finished.drain(..) {
            self.send_reply(reply);
        }
        self.finished = finished;
        for keep in std::mem::take(&mut self.keeps) {
            self.keeper.keep(self.core, keep);
        }
        for order in std::mem::take(&mut self.orders) {
            self.keeper.order(self.core, order);
        }
        for event in self.events.drain(..) {
            self.keeper.group_event(self.core, event);
        }
        for then in std::mem::take(&mut self.then) {
            match then {
                Then::Managed(manage) => self.unit_managed(manage),
                Then::Detached(session) => self.unit_forgot(&session),
                Then::Deferred(..) => {}
            }
        }
    }

    pub(crate) fn send_reply(&mut self, reply: Reply) {
        let core = reply.task.connection.core;
        if core == self.core {
            self.replies.push_back(reply);
        } else {
            self.send(core, Message::Reply(reply));
        }
    }

    /// Brings a command to its unit: here, which may give the reply at once, or on another core.
    #[inline]
    pub(crate) fn dispatch<I: Io<Stream = S>>(&mut self, command: Command, io: &mut I) -> Option<Reply> {
        if command.unit.core == self.core {
            self.execute(command, io)
        } else {
            self.metrics.reactor.commands_crossed.inc();
            self.send(command.unit.core, Message::Command(command));
            None
        }
    }

    /// Executes a command at a unit of this core.
    #[inline]
    pub(crate) fn execute<I: Io<Stream = S>>(&mut self, command: Command, io: &mut I) -> Option<Reply> {
        let UnitAddress { index, .. } = command.unit;
        let nexus = command.nexus;
        if index >= FAR {
            return self.execute_far(command, io.now());
        }
        if !self.takes_commands(index) {
            return Some(self.gone(command));
        }
        self.with_unit(index, Some(nexus), io, |unit, cx| unit.execute(index, command, cx))?
    }

    /// A device operation of a unit is done.
    pub(crate) fn volume_completion<I: Io<Stream = S>>(
        &mut self,
        index: u32,
        completion: Completion,
        io: &mut I,
    ) {
        self.with_unit(index, None, io, |unit, cx| unit.volume.on_completion(cx, completion));
    }

    /// Time has passed.
    pub(crate) fn tick<I: Io<Stream = S>>(&mut self, io: &mut I) {
        let now = io.now();
        for index in 0..u32::try_from(self.units.len()).unwrap_or(u32::MAX) {
            if self.units[index as usize].as_ref().is_some_and(|unit| unit.next_deadline() <= now) {
                self.with_unit(index, None, io, Unit::on_tick);
            }
        }
        self.tick_shards(io);
    }

    /// When [`tick`](Self::tick) is wanted next.
    pub(crate) fn next_deadline(&self) -> Time {
        let units = self.units.iter().flatten().map(Unit::next_deadline);
        let shards = self.shards.iter().flatten().map(|shard| shard.store.next_deadline());
        units.chain(shards).min().unwrap_or(Time::NEVER)
    }

    /// State that a unit asked for is durable, or is not.
    pub(crate) fn kept<I: Io<Stream = S>>(&mut self, ticket: crate::Ticket, ok: bool, io: &mut I) {
        let result = if ok { Ok(()) } else { Err(BlockError::Device) };
        self.with_unit(ticket.unit, None, io, |unit, cx| {
            unit.deferred_part(ticket.slot, ticket.serial, result, cx);
        });
    }

    /// What came of an order, or how far it is.
    pub(crate) fn ordered(
        &mut self,
        unit: u32,
        slot: u32,
        turn: u64,
        result: Vec<u8>,
        done: bool,
        now: Time,
    ) {
        let unit = self.units.get_mut(unit as usize).and_then(Option::as_mut);
        if let Some(Role::Command(device)) = unit.map(|unit| &mut unit.role) {
            device.ordered(slot, turn, result, done, now);
        }
    }

    /// Levels of sessions, memory and volumes. What is the array's is told by the first core.
    pub(crate) fn measure(&self) {
        if self.core == CoreId(0) {
            self.metrics.network.sessions.set(self.registry.len() as u64);
            let arena = self.pool.arena();
            let pool = &self.metrics.pool;
            let free = arena.free(Class::Page);
            pool.pages_free.set(u64::from(free));
            pool.pages_used.set(u64::from(arena.total(Class::Page).saturating_sub(free)));
            pool.small_free.set(u64::from(arena.free(Class::Small)));
            pool.large_free.set(u64::from(arena.free(Class::Large)));
        }
        self.far.measure(&self.metrics);
        for unit in self.units.iter().flatten() {
            if let Some(metrics) = self.metrics.volume(unit.row()) {
                metrics.depth.set(unit.in_use() as u64);
                metrics.device_depth.set(unit.volume.in_flight() as u64);
                if let Some(counted) = unit.volume.cache_counters(&self.cache) {
                    tell(&metrics.cache, &counted);
                }
            }
        }
        self.measure_shards();
    }

    /// Tasks under way at units of this core, and writes that were answered and are not in their stores.
    pub(crate) fn tasks_in_units(&self) -> usize {
        let of_unit = |unit: &Unit| unit.in_use() + unit.volume.promised();
        self.units.iter().flatten().map(of_unit).sum::<usize>() + self.far.in_use()
    }

    /// A volume has grown (its back end already has).
    pub(crate) fn grow<I: Io<Stream = S>>(&mut self, unit: u32, blocks: BlockCount, io: &mut I) {
        self.with_unit(unit, None, io, |unit, cx| unit.grow(blocks, cx));
    }

    /// The indices of the units that are there.
    fn living(&self) -> Vec<u32> {
        (0u32..).zip(&self.units).filter(|(_, unit)| unit.is_some()).map(|(index, _)| index).collect()
    }

    /// Whether a unit is there, and not on its way out.
    #[inline]
    fn takes_commands(&self, index: u32) -> bool {
        matches!(self.units.get(index as usize), Some(Some(_)))
            && (self.retiring.is_empty() || self.retiring.iter().all(|retiring| retiring.unit != index))
    }

    /// The session of that nexus.
    pub(crate) fn session(&self, nexus: NexusId) -> Option<Arc<Session>> {
        self.sessions.get(nexus.0 as usize).cloned().flatten()
    }

    /// Answers a command that was on its way to a unit when that was removed.
    #[cold]
    fn gone(&mut self, command: Command) -> Reply {
        let session = self.session(command.nexus);
        match session {
            Some(session) => self.absent(command.task, &command.cdb, command.data, &session),
            None => Reply { task: command.task, end: Ending::busy(), data: command.data, wanted: 0 },
        }
    }

    /// What a unit is busy with.
    pub(crate) fn usage(&self, unit: u32) -> Option<Usage> {
        let unit = self.units.get(unit as usize)?.as_ref()?;
        Some(Usage {
            commands: unit.in_use(),
            registrations: unit.server.registrations(),
            is_reserved: unit.server.is_reserved(),
        })
    }

    /// Establishes a unit attention condition at one unit or all, for some sessions or all.
    pub(crate) fn attend(&mut self, only: Option<u32>, nexuses: Option<&[NexusId]>, attention: Attention) {
        self.far.attend(only, nexuses, attention);
        for (index, unit) in (0u32..).zip(&mut self.units) {
            let Some(unit) = unit.as_mut().filter(|_| only.is_none_or(|only| only == index)) else {
                continue;
            };
            match nexuses {
                Some(nexuses) => nexuses.iter().for_each(|&nexus| unit.server.establish(nexus, attention)),
                None => unit.server.establish_all(None, attention),
            }
        }
    }

    /// Sessions that no longer see a unit: the device server forgets them, as it would at their
    /// end. Their tasks finish; registrations stay (SPC-5 5.14.7).
    pub(crate) fn forget(&mut self, unit: u32, nexuses: &[NexusId]) {
        if unit >= FAR {
            self.far.forget(unit, nexuses);
        }
        if let Some(Some(unit)) = self.units.get_mut(unit as usize) {
            nexuses.iter().for_each(|&nexus| unit.server.detach(nexus));
        }
    }

    /// Makes everything stable: the last thing that a core does.
    pub(crate) fn flush_all<I: Io<Stream = S>>(&mut self, io: &mut I) {
        for index in 0..u32::try_from(self.units.len()).unwrap_or(u32::MAX) {
            self.with_unit(index, None, io, Unit::flush);
        }
    }

    pub(crate) fn has_delayed(&self) -> bool {
        self.delayed.iter().any(|waiting| !waiting.is_empty())
    }
}

/// Copies out what the cache has counted for a volume.
pub(crate) fn tell(metrics: &CacheMetrics, counted: &StoreCounters) {
    metrics.hits.set_total(counted.hits);
    metrics.partial.set_total(counted.partial);
    metrics.misses.set_total(counted.misses);
    metrics.fills.set_total(counted.fills);
    metrics.ahead.set_total(counted.ahead_pages);
    metrics.ahead_used.set_total(counted.ahead_used);
    metrics.ahead_wasted.set_total(counted.ahead_wasted);
    metrics.in_place_bytes.set_total(counted.in_place_bytes);
    metrics.copied_bytes.set_total(counted.copied_bytes);
    metrics.destages.set_total(counted.destage_ops);
    metrics.destaged_bytes.set_total(counted.destage_bytes);
    metrics.destage_errors.set_total(counted.destage_errors);
    metrics.throttled.set_total(counted.throttled);
    metrics.pages.set(counted.pages);
    metrics.dirty.set(counted.dirty);
    metrics.failed.set(counted.failed);
    metrics.pinned.set(counted.pinned);
}
