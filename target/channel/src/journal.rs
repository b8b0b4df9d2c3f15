//! The unit of a journal volume: where a group lives.
//!
//! A group (`kagami-replica`) is a machine without I/O. Here its actions are carried out: operations on the journal device
//! go to the unit's own volume, mail to the fronts of its volumes and commands for the other array to whoever has them,
//! and what comes of each goes back. The unit's logical unit is for the group's peer alone, which reads and writes it as
//! the group says; whom it is shown to is the daemon's to say ([`Access`](crate::Access)), and without a group it refuses
//! everything.
//!
//! The journal device is asked under tags of slots that the unit does not have. What finds no room there is tried again,
//! in order.

use crate::message::{Command, Ending, FarCommand, PairMail, Reply, UnitAddress};
use crate::unit::{OpKind, Role, Unit, UnitContext};
use kagami_memory::Scatter;
use kagami_replica::action::{Action, DeviceOp, FarEnd, FarUnit, OrderResult};
use kagami_replica::mail::{ToGroup, VolumeIndex};
use kagami_replica::{Actions, Context, Group, Options, Order, PeerRead, PlannedVolume, Report};
use kagami_scsi::Failure;
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, BlockSize, Lba, Time};
use kagami_volume::{Outcome, Tag};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// How soon an operation that found no room is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// The most operations that a group has at its device.
const CALLS: u16 = 1024;

/// The tags of the group's operations begin with these bits.
const INTERNAL: u64 = 0xffff << 48;

/// The longest that a peer may write at once: the reader's page, which is one block of 4 KiB.
const MOST_WRITTEN: usize = 64 << 10;

/// Gives the time of day, in nanoseconds since 1970, at a moment of the monotonic clock.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn(Time) -> u64 + Send + Sync>);

impl WallClock {
    /// A clock that asks `ask`, often.
    #[must_use]
    pub fn new(ask: impl Fn(Time) -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// A group, and where all that it needs is.
#[derive(Debug)]
pub struct GroupSeed {
    /// The group, which has not begun.
    pub group: Group,
    /// The units of its volumes on this array, each with its number.
    pub volumes: Vec<(VolumeIndex, UnitAddress)>,
    /// Virtual volumes at the journal unit's core, by index, through which the other array's journal is reached; several
    /// are several connections, used in turn.
    pub far_journal: Vec<u32>,
    /// The same for the other array's volumes.
    pub far_volumes: Vec<(VolumeIndex, Vec<u32>)>,
    /// The time of day.
    pub clock: WallClock,
}

/// Something of a group that operators want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEvent {
    /// The group's name.
    pub group: String,
    /// What, in plain words.
    pub text: String,
}

/// What makes a unit a journal.
#[derive(Debug)]
pub(crate) struct Journal {
    block_size: BlockSize,
    host: Option<GroupHost>,
}

/// A group at work.
#[derive(Debug)]
struct GroupHost {
    group: Group,
    name: String,
    actions: Actions,
    volumes: BTreeMap<VolumeIndex, UnitAddress>,
    far: BTreeMap<FarPlace, (Box<[u32]>, usize)>,
    clock: WallClock,
    random: Mixer,
    orders: BTreeMap<u64, SyncSender<OrderResult>>,
    last_order: u64,
    calls: Vec<Option<Call>>,
    free: Vec<u16>,
    serial: u64,
    waiting: VecDeque<Call>,
    retry: Time,
    at_once: VecDeque<(Tag, Outcome)>,
}

/// A key of [`FarUnit`]: the journal, or a volume.
type FarPlace = Option<VolumeIndex>;

/// An operation on the journal device.
#[derive(Debug)]
struct Call {
    /// As the group calls it.
    tag: u64,
    /// As the store does.
    inner: Tag,
    op: BlockOp,
    data: Scatter,
}

/// Random bits from a seed that is truly random: for names that must differ, not to be guessed at.
#[derive(Debug)]
struct Mixer([u64; 2]);

impl Mixer {
    /// The next 64 bits of one half (splitmix64).
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn bits(&mut self) -> u128 {
        let [high, low] = &mut self.0;
        u128::from(Self::next(high)) << 64 | u128::from(Self::next(low))
    }
}

impl Journal {
    fn is_busy(&self) -> bool {
        self.host.is_some()
    }
}

impl GroupHost {
    fn new(seed: GroupSeed, random: u128) -> Self {
        let far = |(place, units): (FarPlace, Vec<u32>)| (place, (units.into_boxed_slice(), 0));
        let volumes = seed.far_volumes.into_iter().map(|(index, units)| far((Some(index), units)));
        let [a, b, c, d, e, f, g, h, rest @ ..] = random.to_be_bytes();
        Self {
            name: seed.group.plan().name.clone(),
            group: seed.group,
            actions: Actions::default(),
            volumes: seed.volumes.into_iter().collect(),
            far: volumes.chain([far((None, seed.far_journal))]).collect(),
            clock: seed.clock,
            random: Mixer([u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)]),
            orders: BTreeMap::new(),
            last_order: 0,
            calls: (0..CALLS).map(|_| None).collect(),
            free: (0..CALLS).rev().collect(),
            serial: 0,
            waiting: VecDeque::new(),
            retry: Time::NEVER,
            at_once: VecDeque::new(),
        }
    }

    /// Calls the group.
    fn with<R>(&mut self, cx: &UnitContext<'_>, call: impl FnOnce(&mut Group, &mut Context<'_>) -> R) -> R {
        let random = &mut self.random;
        let mut context = Context {
            now: cx.now,
            wall: (self.clock.0)(cx.now),
            pool: cx.volume.pool,
            actions: &mut self.actions,
            random: &mut || random.bits(),
        };
        call(&mut self.group, &mut context)
    }

    fn next_deadline(&self) -> Time {
        self.group.next_deadline().min(self.retry)
    }
}

impl Unit {
    /// The same unit as a journal.
    #[must_use]
    pub fn as_journal(mut self) -> Self {
        let block_size = self.volume.geometry().block_size;
        self.role = Role::Journal(Box::new(Journal { block_size, host: None }));
        self
    }

    /// The group at work here.
    fn host(&mut self) -> Option<&mut GroupHost> {
        match &mut self.role {
            Role::Journal(journal) => journal.host.as_mut(),
            _ => None,
        }
    }

    /// A group is to live here. It begins with [`start_group`](Self::start_group).
    ///
    /// # Errors
    /// It cannot; in plain words.
    pub(crate) fn add_group(&mut self, seed: GroupSeed, random: u128) -> Result<(), String> {
        let Role::Journal(journal) = &mut self.role else {
            return Err("it is no journal volume".to_owned());
        };
        if journal.is_busy() {
            return Err("it has a group already".to_owned());
        }
        journal.host = Some(GroupHost::new(seed, random));
        Ok(())
    }

    /// All fronts of the group are there: it begins.
    pub(crate) fn start_group(&mut self, cx: &mut UnitContext<'_>) {
        self.call_group(cx, Group::start);
    }

    /// The group is over. Whoever waits for an order hears so.
    pub(crate) fn remove_group(&mut self) -> bool {
        let Role::Journal(journal) = &mut self.role else { return false };
        let Some(host) = journal.host.take() else { return false };
        for answer in host.orders.into_values() {
            let _ = answer.try_send(OrderResult::Done("the group is deleted".to_owned()));
        }
        true
    }

    /// An order for the group. The answer comes when it has one.
    pub(crate) fn order_group(
        &mut self,
        order: Order,
        answer: SyncSender<OrderResult>,
        cx: &mut UnitContext<'_>,
    ) {
        let Some(host) = self.host() else {
            let _ = answer.try_send(OrderResult::Refused("there is no such group here".to_owned()));
            return;
        };
        host.last_order += 1;
        let number = host.last_order;
        host.orders.insert(number, answer);
        self.call_group(cx, |group, context| group.on_order(context, number, order));
    }

    /// The group has these volumes from now on. The answer comes when that is durable.
    pub(crate) fn reshape_group(
        &mut self,
        volumes: Vec<PlannedVolume>,
        joins: Vec<(VolumeIndex, UnitAddress, Vec<u32>)>,
        answer: SyncSender<OrderResult>,
        cx: &mut UnitContext<'_>,
    ) {
        let Some(host) = self.host() else {
            let _ = answer.try_send(OrderResult::Refused("there is no such group here".to_owned()));
            return;
        };
        for (index, unit, links) in joins {
            host.volumes.insert(index, unit);
            host.far.insert(Some(index), (links.into_boxed_slice(), 0));
        }
        host.last_order += 1;
        let number = host.last_order;
        host.orders.insert(number, answer);
        self.call_group(cx, |group, context| group.on_reshape(context, number, volumes));
    }

    /// The group behaves so from now on.
    ///
    /// # Errors
    /// It cannot now; in plain words.
    pub(crate) fn set_group_options(
        &mut self,
        options: Options,
        cx: &mut UnitContext<'_>,
    ) -> Result<(), String> {
        let done = self.call_group(cx, |group, context| group.set_options(context, options));
        done.unwrap_or_else(|| Err("there is no such group here".to_owned()))
    }

    /// What the group says of itself.
    pub(crate) fn report_group(&mut self, now: Time) -> Option<Report> {
        let host = self.host()?;
        host.group.report(now, (host.clock.0)(now))
    }

    /// Mail of a front.
    pub(crate) fn group_mail(&mut self, volume: VolumeIndex, mail: ToGroup, cx: &mut UnitContext<'_>) {
        self.call_group(cx, |group, context| group.on_mail(context, volume, mail));
    }

    /// A command for the other array has ended.
    pub(crate) fn group_far(&mut self, tag: u64, end: FarEnd, cx: &mut UnitContext<'_>) {
        self.call_group(cx, |group, context| group.on_far(context, tag, end));
    }

    /// Time has passed.
    pub(crate) fn on_tick(&mut self, cx: &mut UnitContext<'_>) {
        if self.volume.next_deadline() <= cx.now {
            self.volume.on_tick(cx);
        }
        let Some(host) = self.host() else { return };
        if host.retry <= cx.now {
            host.retry = Time::NEVER;
            self.carry_out(cx);
        }
        if self.host().is_some_and(|host| host.group.next_deadline() <= cx.now) {
            self.call_group(cx, Group::on_tick);
        }
    }

    /// When [`on_tick`](Self::on_tick) is wanted.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Time {
        let own = self.volume.next_deadline();
        match &self.role {
            Role::Journal(journal) => journal.host.as_ref().map_or(own, |host| own.min(host.next_deadline())),
            _ => own,
        }
    }

    /// An outcome of the volume that is the group's, and nobody's task.
    #[inline]
    pub(crate) fn is_of_group(tag: Tag) -> bool {
        tag.0 & INTERNAL == INTERNAL
    }

    /// The journal device has done something for the group.
    #[cold]
    pub(crate) fn group_device(&mut self, tag: Tag, outcome: Outcome, cx: &mut UnitContext<'_>) {
        if let Some(host) = self.host() {
            host.at_once.push_back((tag, outcome));
            self.carry_out(cx);
        }
    }

    fn call_group<R>(
        &mut self,
        cx: &mut UnitContext<'_>,
        call: impl FnOnce(&mut Group, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let result = self.host()?.with(cx, call);
        self.carry_out(cx);
        Some(result)
    }

    /// Does what the group wants done, until it wants nothing.
    fn carry_out(&mut self, cx: &mut UnitContext<'_>) {
        let Self { role: Role::Journal(journal), volume, .. } = self else { return };
        let Journal { block_size, host: Some(host) } = &mut **journal else { return };
        loop {
            while let Some(action) = host.actions.pop() {
                match action {
                    Action::Journal { tag, op } => {
                        let (op, data) = block_op(op, *block_size);
                        host.waiting.push_back(Call { tag, inner: Tag(0), op, data });
                    }
                    Action::Front(volume, mail) => {
                        if let Some(to) = host.volumes.get(&volume) {
                            cx.crossing.push((to.core, PairMail::ToFront(to.index, mail).into()));
                        }
                    }
                    Action::Far { tag, unit, op } => {
                        let place = match unit {
                            FarUnit::Journal => None,
                            FarUnit::Volume(index) => Some(index),
                        };
                        let unit = cx.home.index;
                        // Where there is none, index 0 is no virtual volume's, and the command ends at once.
                        let place = host.far.get_mut(&place).map_or(0, |(units, turn)| {
                            *turn = turn.wrapping_add(1);
                            units.get(*turn % units.len().max(1)).copied().unwrap_or(0)
                        });
                        cx.crossing.push((cx.home.core, FarCommand { unit, tag, place, op }.into()));
                    }
                    Action::Answer { order, result } => {
                        if let Some(answer) = host.orders.remove(&order) {
                            // Who asked may have given up.
                            let _ = answer.try_send(result);
                        }
                    }
                    Action::Event(text) => (cx.event)(GroupEvent { group: host.name.clone(), text }),
                }
            }
            if let Some((tag, outcome)) = host.at_once.pop_front() {
                let place = usize::try_from(tag.0 & !INTERNAL & 0xffff).unwrap_or(usize::MAX);
                let call = host.calls.get_mut(place).and_then(|call| call.take_if(|call| call.inner == tag));
                let Some(Call { tag, op, data, .. }) = call else { continue };
                host.free.push(u16::try_from(place).unwrap_or(0));
                let Outcome { result, data: read, .. } = outcome;
                if result == Err(BlockError::Busy) {
                    host.waiting.push_front(Call { tag, inner: Tag(0), op, data });
                    host.retry = cx.now + RETRY;
                    continue;
                }
                host.retry = Time::NEVER;
                host.with(cx, |group, context| group.on_device(context, tag, result.map(|()| read)));
                continue;
            }
            if host.retry != Time::NEVER || host.waiting.is_empty() {
                return;
            }
            let Some(place) = host.free.pop() else { return };
            let Some(mut call) = host.waiting.pop_front() else { return };
            host.serial = host.serial.wrapping_add(1) & 0xffff_ffff;
            call.inner = Tag(INTERNAL | host.serial << 16 | u64::from(place));
            let (inner, op) = (call.inner, call.op.clone());
            let mut data = Scatter::default();
            data.push_range(&call.data, 0, call.data.len_bytes());
            if let Some(slot) = host.calls.get_mut(usize::from(place)) {
                *slot = Some(call);
            }
            if let Some(outcome) = volume.submit(cx, inner, op, data) {
                host.at_once.push_back((inner, outcome));
            }
        }
    }

    /// A block operation of the peer on the journal's logical unit.
    #[cold]
    pub(crate) fn journal_block(
        &mut self,
        mut command: Command,
        wanted: u64,
        op: BlockOp,
        cx: &mut UnitContext<'_>,
    ) -> Option<Reply> {
        let shift = match &self.role {
            Role::Journal(journal) => journal.block_size.shift(),
            _ => return self.block(command, wanted, op, cx, None),
        };
        let end = match op {
            BlockOp::Read(range, access) => {
                let (at, len) = (range.lba.0 << shift, range.blocks << shift);
                let read = self.call_group(cx, |group, context| group.on_peer_read(context, at, len));
                match read {
                    Some(PeerRead::Bytes(bytes)) if bytes.len_bytes() == len as usize => {
                        cx.metrics.reads.inc();
                        cx.metrics.read_bytes.add(wanted);
                        command.data = bytes;
                        return Some(Reply {
                            task: command.task,
                            end: Ending::Good,
                            data: command.data,
                            wanted,
                        });
                    }
                    Some(PeerRead::Device { at, len }) => {
                        let range = BlockRange { lba: Lba(at >> shift), blocks: len >> shift };
                        let op = BlockOp::Read(range, access);
                        return self.block(command, wanted, op, cx, Some(OpKind::Read));
                    }
                    _ => self.refused(BlockError::Unsupported),
                }
            }
            BlockOp::Write(range, _) if command.data.len_bytes() <= MOST_WRITTEN => {
                let (at, bytes) = (range.lba.0 << shift, command.data.to_vec());
                cx.metrics.writes.inc();
                cx.metrics.write_bytes.add(bytes.len() as u64);
                let taken = self.call_group(cx, |group, context| group.on_peer_write(context, at, &bytes));
                if taken == Some(true) { Ending::Good } else { self.refused(BlockError::WriteProtected) }
            }
            // What the group has is stable.
            BlockOp::Flush { .. } => Ending::Good,
            op if op.writes() => self.refused(BlockError::WriteProtected),
            _ => self.refused(BlockError::Unsupported),
        };
        command.data.clear();
        Some(Reply { task: command.task, end, data: command.data, wanted })
    }

    pub(crate) fn refused(&mut self, error: BlockError) -> Ending {
        match self.server.failed(error) {
            Failure::Check(sense) => self.check(&sense),
            Failure::Status(status) => Ending::Status(status as u8, None),
        }
    }
}

/// An operation on the journal device in blocks.
fn block_op(op: DeviceOp, block_size: BlockSize) -> (BlockOp, Scatter) {
    let shift = block_size.shift();
    let range = |at: u64, len: u32| BlockRange { lba: Lba(at >> shift), blocks: len >> shift };
    match op {
        DeviceOp::Read { at, len } => (BlockOp::Read(range(at, len), Access::default()), Scatter::default()),
        DeviceOp::Write { at, data, stable } => {
            let len = u32::try_from(data.len_bytes()).unwrap_or(u32::MAX);
            (BlockOp::Write(range(at, len), Access { dpo: true, fua: stable }), data)
        }
        DeviceOp::Flush => (BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) }, Scatter::default()),
    }
}
