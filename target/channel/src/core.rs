//! One core: its connections and its hub, driven by the reactor.
//!
//! A round is: completions (received bytes become commands, commands become replies), then
//! [`on_round`](Core::on_round): messages of other cores, replies, and for every connection
//! that something happened to, one send and one receive. All of it goes to the kernel with the
//! next entry.

mod control;
mod life;
mod round;

use crate::connection::{Close, Connection, Phase};
use crate::hub::Hub;
use crate::inbox::Inbox;
use crate::maker::UnitMaker;
use crate::message::Message;
use crate::placement::Load;
use crate::plan::{CorePlan, Shared};
use crate::token::{self, Owner};
use crate::virtual_unit::VirtualUnit;
use kagami_cache::store::Cache;
use kagami_iscsi::random::Random;
use kagami_reactor::{Completion, Doze, Errno, Handler, Io, Op, SocketId};
use kagami_types::{CoreId, Time};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a core looks after its connections' time-outs.
const TICK: Duration = Duration::from_millis(250);

/// How soon something that waits without an event is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// Units that a core may have had in its life: their places are not given to others, so that a
/// command that was on its way to a removed one can never reach another.
pub(crate) const MOST_UNITS: u32 = 1 << 20;

/// Messages of other cores taken in one round.
const MESSAGES: usize = 1024;

/// One core of the array: channel controller and disk controller.
pub struct Core<I: Io> {
    pub(crate) hub: Hub<I::Stream>,
    pub(crate) plan: CorePlan,
    pub(crate) shared: Arc<Shared>,
    pub(crate) random: Box<dyn Random + Send>,
    inbox: Arc<Inbox>,
    pub(crate) maker: Option<Box<dyn UnitMaker<I>>>,
    wake: Box<dyn FnMut(CoreId) + Send>,
    listeners: Vec<Listener>,
    pub(crate) connections: Vec<Option<Connection>>,
    pub(crate) generations: Vec<u32>,
    logging_in: u32,
    pub(crate) free: Vec<u32>,
    /// Connections to be looked at before the round ends; each at most once.
    dirty: Vec<u32>,
    marked: Vec<bool>,
    /// Connections that wait for something that is no completion of theirs.
    waiting: Vec<u32>,
    messages: Vec<Message<I::Stream>>,
    next_tick: Time,
    now: Time,
    /// Which core gets the next connection.
    next_core: u16,
    /// Connections that fall quiet, to be moved, with their generations.
    pub(crate) holding: Vec<(u32, u32)>,
    /// Room for what connections have sent since they were weighed.
    pub(crate) weights: Vec<(u32, u32)>,
    /// The round had work; and how much time such rounds took since that was last weighed.
    worked: bool,
    pub(crate) busy_nanos: u64,
    pub(crate) weighed: Time,
    pub(crate) load: Load,
    /// When a connection was last picked to be given away.
    pub(crate) relieved: Time,
    pub(crate) stop: Stop,
}

impl<I: Io> std::fmt::Debug for Core<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("hub", &self.hub).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Listener {
    socket: SocketId,
    armed: bool,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Serving,
    /// Commands under way are finished, connections are closed.
    Draining,
    /// No connection is left here; other cores may still have some.
    Quiet,
    /// The volumes are being flushed.
    Flushing,
    /// They are, here; other cores' units may still need the shards of this one.
    Stable,
}

impl<I: Io> Core<I> {
    /// A core with its units. `listeners` are sockets of this core; `wake` wakes another one.
    #[must_use]
    pub fn new(
        plan: CorePlan,
        shared: Arc<Shared>,
        parts: crate::plan::CoreParts<I::Stream>,
        listeners: impl IntoIterator<Item = SocketId>,
        wake: impl FnMut(CoreId) + Send + 'static,
    ) -> Self {
        let crate::plan::CoreParts { pool, port, units, shards, metrics, keeper, random, inbox } = parts;
        let directory = shared.directory();
        let registry = Arc::clone(&shared.registry);
        let cache = Cache::new(&plan.cache).unwrap_or_else(|_| Cache::smallest());
        let hub = Hub::new(pool, cache, port, units, shards, directory, registry, metrics, keeper);
        let most = plan.connections as usize;
        Self {
            hub,
            shared,
            random,
            inbox,
            maker: None,
            wake: Box::new(wake),
            listeners: listeners.into_iter().map(|socket| Listener { socket, armed: false }).collect(),
            connections: std::iter::repeat_with(|| None).take(most).collect(),
            generations: vec![0; most],
            logging_in: 0,
            free: (0..plan.connections).rev().collect(),
            dirty: Vec::with_capacity(most),
            marked: vec![false; most],
            waiting: Vec::new(),
            messages: Vec::with_capacity(MESSAGES),
            next_tick: Time(0),
            now: Time(0),
            next_core: 0,
            holding: Vec::new(),
            weights: Vec::with_capacity(most),
            worked: false,
            busy_nanos: 0,
            weighed: Time(0),
            load: Load::default(),
            relieved: Time(0),
            stop: Stop::Serving,
            plan,
        }
    }

    /// With units that can be added and removed while it runs; without a maker, none can.
    #[must_use]
    pub fn with_maker(mut self, maker: impl UnitMaker<I> + 'static) -> Self {
        self.maker = Some(Box::new(maker));
        self
    }

    /// With these virtual volumes, whose places are in this order.
    #[must_use]
    pub fn with_virtual(mut self, units: impl IntoIterator<Item = VirtualUnit>) -> Self {
        for unit in units {
            self.hub.far.add(unit);
        }
        self
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    pub(crate) fn mark(&mut self, index: u32) {
        if let Some(marked) = self.marked.get_mut(index as usize).filter(|marked| !**marked) {
            *marked = true;
            self.dirty.push(index);
        }
    }

    pub(crate) fn get(&mut self, index: u32, generation: u32) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(index as usize)?.as_mut()?;
        (connection.id.generation == generation).then_some(connection)
    }

    fn message(&mut self, io: &mut I, message: Message<I::Stream>) {
        match message {
            Message::Adopt(stream) => self.adopt(io, stream),
            Message::Move(moving) => self.arrive(io, *moving),
            Message::Command(command) => {
                self.hub.metrics.reactor.queue_wait.record(io.now().nanos_since(command.sent));
                if let Some(reply) = self.hub.execute(command, io) {
                    self.hub.send_reply(reply);
                }
            }
            Message::Reply(reply) => self.hub.replies.push_back(reply),
            Message::Attach(session) => self.hub.attach(session),
            Message::Detach(session) => self.hub.detach(&session, io),
            Message::EndSession(session) => {
                for index in self.indices() {
                    let of_session = self.connections[index as usize].as_ref().is_some_and(|connection| {
                        matches!(&connection.phase, Phase::Full(full) if Arc::ptr_eq(&full.session, &session))
                    });
                    if of_session {
                        self.ends(io, index, Close::SessionEnded);
                    }
                }
            }
            Message::Manage(manage) => {
                for connection in self.connections.iter_mut().flatten() {
                    if let Phase::Full(full) = &mut connection.phase {
                        full.purge(&manage, &self.hub);
                    }
                }
                for home in self.hub.homes(manage.scope) {
                    self.hub.send(home, Message::Fence(manage));
                }
            }
            Message::Fence(manage) => self.hub.fence(manage, io),
            Message::Managed(manage) => self.hub.managed.push(manage),
            Message::Nudge => {}
            Message::Part(part) => self.hub.part(part, io),
            Message::PartDone(done) => self.hub.part_done(done, io),
            Message::Order(mail) => self.shard_order(io, *mail),
            Message::News(unit, from, news) => self.hub.shard_news(unit, from, *news, io),
            Message::Mail(mail) => self.hub.pair_mail(mail, io),
        }
    }

    fn indices(&self) -> impl Iterator<Item = u32> + use<I> {
        0..u32::try_from(self.connections.len()).unwrap_or(u32::MAX)
    }

    /// Levels, which are told as they are now and then.
    fn measure(&mut self) {
        let metrics = &self.hub.metrics;
        let port = self.hub.port.stats();
        metrics.reactor.messages_sent.set_total(port.sent);
        metrics.reactor.messages_received.set_total(port.received);
        metrics.reactor.wakes_sent.set_total(port.wakeups);
        let full = self.connections.iter().flatten().filter_map(|connection| match &connection.phase {
            Phase::Full(full) => Some(full.tasks.in_use() as u64),
            Phase::Login(_) => None,
        });
        metrics.network.tasks.set(full.sum());
        self.hub.measure();
    }

    /// Time-outs.
    fn tick(&mut self, io: &mut I) {
        let now = io.now();
        self.next_tick = now + TICK;
        self.measure();
        self.weigh(now);
        for index in self.indices() {
            let Some(connection) = self.connections[index as usize].as_mut() else { continue };
            let silent = now.since(connection.last_heard);
            let reason = match &mut connection.phase {
                Phase::Login(_) if now.since(connection.opened) > self.plan.login_timeout => {
                    Close::LoginTimeout
                }
                Phase::Login(_) => continue,
                Phase::Full(full) => match full.pinged {
                    Some(sent) if now.since(sent) > self.plan.ping_timeout => Close::PingTimeout,
                    None if !self.plan.ping_interval.is_zero() && silent > self.plan.ping_interval => {
                        full.ping(now);
                        self.mark(index);
                        continue;
                    }
                    _ => continue,
                },
            };
            self.ends(io, index, reason);
        }
    }
}

impl<I: Io> Handler<I> for Core<I> {
    fn on_completion(&mut self, io: &mut I, completion: Completion) {
        let Completion { token, result, op } = completion;
        self.worked = true;
        match (token::owner(token), op) {
            (Owner::Receive { index, generation }, Op::Receive(_, buffer)) => {
                let Some(connection) = self.get(index, generation) else { return };
                connection.link.receiving = false;
                let direct = connection.take_back(buffer, result.map_or(0, |count| count as usize));
                match result {
                    Ok(0) => self.ends(io, index, Close::EndOfStream),
                    Err(error) => self.ends(io, index, Close::Socket(error)),
                    Ok(count) => {
                        connection.last_heard = io.now();
                        let mut wishes = false;
                        if let Phase::Full(full) = &mut connection.phase {
                            // A host that sends is there.
                            full.pinged = None;
                            wishes = full.place.wish.is_some();
                        }
                        if wishes {
                            self.begin_move(index, io.now());
                        }
                        let network = &self.hub.metrics.network;
                        network.receives.inc();
                        network.bytes_received.add(u64::from(count));
                        network.bytes_in_place.add(direct as u64);
                        self.process(io, index);
                    }
                }
                self.mark(index);
            }
            (Owner::Send { index, generation }, Op::Send(_, mut message)) => {
                let Some(connection) = self.get(index, generation) else { return };
                let sent = result.map_or(0, |count| count as usize);
                message.sent += sent;
                match result {
                    Ok(_) if message.sent < message.len && connection.closing.is_none() && sent > 0 => {
                        connection.send(io, message);
                    }
                    Ok(_) if message.sent >= message.len => {
                        let pdus = connection.link.outbox.done(message);
                        self.hub.metrics.network.pdus_sent.add(pdus);
                    }
                    _ => {
                        connection.link.outbox.done(message);
                        self.ends(io, index, Close::Socket(result.err().unwrap_or(Errno::CONNECTION_RESET)));
                    }
                }
                let network = &self.hub.metrics.network;
                network.sends.inc();
                network.bytes_sent.add(sent as u64);
                self.mark(index);
            }
            (Owner::Listener(listener), _) => self.accepted(io, listener, result),
            (Owner::Volume(unit), op) => {
                self.hub.volume_completion(unit, Completion { token, result, op }, io);
            }
            (Owner::Shard(shard), op) => {
                self.hub.shard_completion(shard, Completion { token, result, op }, io);
            }
            (Owner::Far { place, generation }, op) => {
                self.hub.far_completion(place, generation, Completion { token, result, op }, io);
            }
            _ => {}
        }
    }

    fn on_round(&mut self, io: &mut I) -> bool {
        let now = io.now();
        if std::mem::take(&mut self.worked) {
            self.busy_nanos += now.nanos_since(self.now);
        }
        self.now = now;
        let mut worked = self.control(io);
        let mut messages = std::mem::take(&mut self.messages);
        self.hub.port.poll(MESSAGES, |_, message| messages.push(message));
        for message in messages.drain(..) {
            worked = true;
            self.message(io, message);
        }
        self.messages = messages;
        worked |= !self.dirty.is_empty();
        if !self.waiting.is_empty() {
            self.retry_waiting(io);
        }
        if !self.holding.is_empty() {
            self.watch_moves(io);
        }
        if self.hub.far.want_a_look(now) {
            worked |= self.hub.look_far(io, &mut *self.random);
        }
        if self.hub.has_mail() {
            self.hub.deliver_mail(io);
            worked = true;
        }
        worked |= self.deliver();
        self.arm_listeners(io);
        if self.hub.is_retiring() {
            self.retire(io);
            self.retire_shards(io);
        }
        if self.stop != Stop::Serving {
            self.stopping(io);
        }
        self.flush(io);
        let now = io.now();
        if now >= self.next_tick {
            self.hub.metrics.reactor.timers.inc();
            self.tick(io);
        }
        if self.hub.next_deadline() <= now {
            self.hub.metrics.reactor.timers.inc();
            self.hub.tick(io);
            self.hub.deliver_mail(io);
            worked |= self.deliver();
            self.flush(io);
        }
        if self.hub.far.want_a_look(now) {
            worked |= self.hub.look_far(io, &mut *self.random);
        }
        self.hub.send_delayed();
        let wake = &mut self.wake;
        self.hub.port.flush(wake);
        self.worked |= worked;
        worked
    }

    fn next_deadline(&self) -> Time {
        let far = self.hub.far.next_deadline();
        // One that waits for pages is looked at soon, not at once.
        let far = if far == Time(0) { self.now + RETRY } else { far };
        let mut next = self.hub.next_deadline().min(far);
        if self.connections() > 0 || self.load.busy > 0 || self.stop != Stop::Serving {
            next = next.min(self.next_tick);
        }
        let waits = !self.waiting.is_empty()
            || self.hub.has_delayed()
            || self.hub.has_mail()
            || self.hub.is_retiring()
            || !self.holding.is_empty()
            || self.stop != Stop::Serving;
        if waits || self.listeners.iter().any(|listener| !listener.armed) {
            next = next.min(self.now + RETRY);
        }
        next
    }

    fn prepare_sleep(&mut self) -> Doze {
        if !self.hub.port.prepare_sleep() {
            return Doze::Stay;
        }
        if self.inbox.is_empty() {
            return Doze::Sleep;
        }
        self.hub.port.awake();
        Doze::Stay
    }

    fn wake(&mut self) {
        self.hub.port.awake();
    }

    fn is_finished(&self) -> bool {
        self.stop == Stop::Stable && self.shared.stable_cores.load(Ordering::Acquire) >= self.hub.port.cores()
    }
}
