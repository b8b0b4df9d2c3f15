//! One core: its connections and its hub, driven by the reactor.
//!
//! A round is: completions (received bytes become commands, commands become replies), then
//! [`on_round`](Core::on_round): messages of other cores, replies, and for every connection
//! that something happened to, one send and one receive. All of it goes to the kernel with the
//! next entry.

use crate::access::Ends;
use crate::connection::{Close, Connection, Link, Phase};
use crate::control::Leaving;
use crate::hub::Hub;
use crate::inbox::{Control, Inbox};
use crate::login::Login;
use crate::maker::UnitMaker;
use crate::message::Message;
use crate::nexus::ConnectionId;
use crate::placement::Load;
use crate::plan::{CorePlan, Shared};
use crate::session::Session;
use crate::task::Stage;
use crate::token::{self, Owner};
use kagami_cache::store::Cache;
use kagami_iscsi::random::Random;
use kagami_reactor::{Completion, Doze, Errno, Handler, Io, Op, SocketId};
use kagami_types::{CoreId, Time};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{TrySendError, sync_channel};
use std::time::Duration;

/// How often a core looks after its connections' time-outs.
const TICK: Duration = Duration::from_millis(250);

/// How soon something that waits without an event is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// Units that a core may have had in its life: their places are not given to others, so that a
/// command that was on its way to a removed one can never reach another.
const MOST_UNITS: u32 = 1 << 20;

/// Messages of other cores taken in one round.
const MESSAGES: usize = 1024;

/// One core of the array: channel controller and disk controller.
pub struct Core<I: Io> {
    pub(crate) hub: Hub<I::Stream>,
    pub(crate) plan: CorePlan,
    pub(crate) shared: Arc<Shared>,
    random: Box<dyn Random + Send>,
    inbox: Arc<Inbox>,
    maker: Option<Box<dyn UnitMaker<I>>>,
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
        let crate::plan::CoreParts { pool, port, units, metrics, keeper, random, inbox } = parts;
        let directory = shared.directory();
        let registry = Arc::clone(&shared.registry);
        let cache = Cache::new(&plan.cache).unwrap_or_else(|_| Cache::smallest());
        let hub = Hub::new(pool, cache, port, units, directory, registry, metrics, keeper);
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

    fn accepted(&mut self, io: &mut I, listener: u32, result: Result<u32, Errno>) {
        if let Some(listener) = self.listeners.get_mut(listener as usize) {
            listener.armed = false;
        }
        let Ok(value) = result else { return };
        let Some(stream) = io.accepted(value) else { return };
        self.hub.metrics.network.accepted.inc();
        if self.stop != Stop::Serving {
            return;
        }
        let core = CoreId(self.next_core);
        self.next_core = (self.next_core + 1) % u16::try_from(self.hub.port.cores()).unwrap_or(1);
        if core == self.hub.core {
            self.adopt(io, stream);
        } else {
            self.hub.send(core, Message::Adopt(stream));
        }
    }

    /// Makes a connection of an accepted socket.
    fn adopt(&mut self, io: &mut I, stream: I::Stream) {
        if self.logging_in >= self.plan.logging_in {
            self.close_oldest_login(io);
        }
        let here = self.hub.core;
        if self.stop != Stop::Serving || !self.shared.loads.reserve(here, self.plan.connections) {
            self.hub.metrics.network.refused.inc();
            return;
        }
        let place = self.free.pop();
        let attached = place.and_then(|index| match io.attach(stream) {
            Ok(socket) => Some((index, socket)),
            Err(_) => {
                self.free.push(index);
                None
            }
        });
        let Some((index, socket)) = attached else {
            self.hub.metrics.network.refused.inc();
            self.shared.loads.leave(here);
            return;
        };
        let id = ConnectionId { core: self.hub.core, index, generation: self.generations[index as usize] };
        let ends = Ends { peer: io.peer(socket), local: io.local(socket) };
        let login = Login::new(self.shared.access(), ends, &mut *self.random);
        self.connections[index as usize] = Some(Connection {
            id,
            socket,
            link: Link::default(),
            phase: Phase::Login(Box::new(login)),
            closing: None,
            last_words: None,
            opened: io.now(),
            last_heard: io.now(),
        });
        self.logging_in += 1;
        self.hub.metrics.network.connections.up();
        self.mark(index);
    }

    /// Half-open connections must not keep real hosts out: a login takes moments, so the one that
    /// has taken longest makes place.
    fn close_oldest_login(&mut self, io: &mut I) {
        let logins =
            self.connections.iter().flatten().filter(|connection| {
                matches!(connection.phase, Phase::Login(_)) && connection.closing.is_none()
            });
        if let Some(index) = logins.min_by_key(|connection| connection.opened).map(|oldest| oldest.id.index) {
            self.ends(io, index, Close::Resources);
        }
    }

    /// Understands what a connection has received.
    pub(crate) fn process(&mut self, io: &mut I, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        if connection.closing.is_some() || connection.last_words.is_some() {
            return;
        }
        let result = match &mut connection.phase {
            Phase::Login(login) => login.consume(&mut connection.link, &mut self.hub),
            Phase::Full(_) if self.stop != Stop::Serving => Ok(()),
            Phase::Full(full) => full.consume(&mut connection.link, io, &mut self.hub),
        };
        if let Err(reason) = result {
            self.ends(io, index, reason);
        }
        self.after_login(io, index);
    }

    /// A login that is complete becomes a connection that serves.
    fn after_login(&mut self, io: &mut I, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let Phase::Login(login) = &mut connection.phase else { return };
        if let Some(ended) = login.session_to_end() {
            self.end_session(&ended);
        }
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let Phase::Login(login) = &mut connection.phase else { return };
        if login.is_waiting() {
            self.waiting.push(index);
            return;
        }
        let Some((full, is_new)) = login.finish(connection.id, &self.plan, &mut connection.link, &self.hub)
        else {
            return;
        };
        let session = Arc::clone(&full.session);
        connection.phase = Phase::Full(Box::new(full));
        self.logging_in -= 1;
        self.hub.metrics.network.logins.inc();
        if is_new {
            // Here at once: the host's first command may come before this core reads its messages.
            self.hub.attach(Arc::clone(&session));
            self.hub.broadcast(|| Message::Attach(Arc::clone(&session)));
        }
        // Commands may have come with the last login request.
        self.process(io, index);
    }

    /// A connection failed, or was told to end.
    pub(crate) fn ends(&mut self, io: &mut I, index: u32, reason: Close) {
        let metrics = &self.hub.metrics.network;
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        match reason {
            Close::LoginFailed => metrics.login_failures.inc(),
            Close::HeaderDigest => {
                metrics.digest_errors.inc();
                metrics.connection_errors.inc();
            }
            Close::Protocol(_) | Close::LoginTimeout | Close::PingTimeout => {
                metrics.connection_errors.inc();
            }
            _ => {}
        }
        if reason == Close::LoginFailed {
            // The answer that says why must go out first.
            connection.last_words = Some(reason);
        } else {
            connection.close(io, reason);
        }
        self.mark(index);
    }

    /// All connections of a session, on all cores, are closed.
    fn end_session(&mut self, session: &Arc<Session>) {
        session.end();
        self.hub.broadcast(|| Message::EndSession(Arc::clone(session)));
    }

    /// The last of a connection: nothing of it is in flight.
    fn bury(&mut self, io: &mut I, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        io.release(connection.socket);
        self.vacate(connection.id);
        match connection.phase {
            Phase::Full(full) => {
                if let Some(hold) = full.place.hold {
                    self.shared.loads.leave(hold.to);
                }
                let only_connection = full.leaving == Some(Leaving::Connection);
                self.left(&full.session, only_connection);
            }
            Phase::Login(mut login) => {
                self.logging_in -= 1;
                if let Some(session) = login.abandoned() {
                    self.left(&session, true);
                }
            }
        }
    }

    /// A session has one connection less. At error recovery level 0 it does not outlive a
    /// connection that failed (RFC 7143 7.1.4.1).
    pub(crate) fn left(&mut self, session: &Arc<Session>, only_connection: bool) {
        if !only_connection && !session.is_ending() {
            self.end_session(session);
        }
        if session.leave() {
            session.end();
            self.hub.broadcast(|| Message::Detach(Arc::clone(session)));
        }
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
        }
    }

    fn indices(&self) -> impl Iterator<Item = u32> + use<I> {
        0..u32::try_from(self.connections.len()).unwrap_or(u32::MAX)
    }

    /// Replies go to their connections, as far as these still exist.
    fn deliver(&mut self) -> bool {
        let mut any = false;
        while let Some(reply) = self.hub.replies.pop_front() {
            any = true;
            let id = reply.task.connection;
            match self.connections.get_mut(id.index as usize).and_then(Option::as_mut) {
                Some(connection) if connection.id == id => {
                    if let Phase::Full(full) = &mut connection.phase {
                        full.reply(reply);
                    }
                    self.mark(id.index);
                }
                _ => self.hub.keep_list(reply.data),
            }
        }
        for manage in std::mem::take(&mut self.hub.managed) {
            any = true;
            let id = manage.asked_by;
            let Some(connection) = self.get(id.index, id.generation) else { continue };
            let Phase::Full(full) = &mut connection.phase else { continue };
            if full.managed(&manage) {
                // TARGET COLD RESET: every session ends (RFC 7143 11.5.1).
                for session in self.shared.registry.sessions() {
                    self.end_session(&session);
                }
            }
            self.mark(id.index);
        }
        any
    }

    /// Connections that wait for the baton, for pages or for an old session's end try again.
    fn retry_waiting(&mut self, io: &mut I) {
        for index in std::mem::take(&mut self.waiting) {
            let Some(connection) = self.connections.get_mut(index as usize).and_then(Option::as_mut) else {
                continue;
            };
            match &mut connection.phase {
                Phase::Login(login) => {
                    if let Err(reason) = login.retry(&mut self.hub) {
                        self.ends(io, index, reason);
                    }
                    self.after_login(io, index);
                }
                Phase::Full(full) => {
                    for slot in std::mem::take(&mut full.retry) {
                        full.go_on_collecting(slot, io, &mut self.hub);
                    }
                    self.process(io, index);
                }
            }
            self.mark(index);
        }
    }

    /// One send and one receive for every connection that something happened to. All sends come
    /// first: while the kernel does them, hosts send on, and the receives find more.
    fn flush(&mut self, io: &mut I) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for &index in &dirty {
            self.marked[index as usize] = false;
            let Some(connection) = self.connections[index as usize].as_mut() else { continue };
            if connection.closing.is_none() {
                match &mut connection.phase {
                    Phase::Full(full) => {
                        full.encode(&mut connection.link, &mut self.hub);
                        while full.release_held(io, &mut self.hub) {
                            full.encode(&mut connection.link, &mut self.hub);
                        }
                        if full.stalled || !full.retry.is_empty() {
                            self.waiting.push(index);
                        }
                        let said_all = full.answers.is_empty() && full.urgent.is_empty();
                        if full.leaving.is_some() && said_all {
                            connection.last_words = Some(Close::LoggedOut);
                        } else if self.stop != Stop::Serving
                            && said_all
                            // What has not all of its data yet never gets it: nothing more is understood.
                            && full.tasks.active().all(|(_, task)| task.stage == Stage::Collecting)
                        {
                            connection.last_words = Some(Close::Stopping);
                        }
                    }
                    Phase::Login(login) => login.encode(&mut connection.link, &self.hub),
                }
                connection.transmit(io);
            }
        }
        for index in dirty.drain(..) {
            let Some(connection) = self.connections[index as usize].as_mut() else { continue };
            if let Some(to) = connection.ready_to_move() {
                self.hand_over(io, index, to);
                continue;
            }
            if connection.closing.is_none() {
                connection.receive(io, &mut self.hub);
                if connection.is_held_up() {
                    // No page for its headers: no completion will come to go on with.
                    self.waiting.push(index);
                }
            }
            if connection.is_gone() {
                self.bury(io, index);
            }
        }
        self.dirty = dirty;
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

    fn arm_listeners(&mut self, io: &mut I) {
        if self.stop != Stop::Serving {
            return;
        }
        for (index, listener) in (0u32..).zip(&mut self.listeners) {
            if !listener.armed {
                listener.armed = io.submit(token::accept(index), Op::Accept(listener.socket)).is_ok();
            }
        }
    }

    fn control(&mut self, io: &mut I) -> bool {
        let mut any = false;
        while let Some(control) = self.inbox.take() {
            any = true;
            match control {
                Control::Kept { ticket, ok } => self.hub.kept(ticket, ok, io),
                Control::Changed => self.hub.directory = self.shared.directory(),
                Control::AddUnit { seed, answer } => {
                    let index = u32::try_from(self.hub.units.len()).unwrap_or(u32::MAX);
                    let made = match &mut self.maker {
                        Some(maker) if index < MOST_UNITS => maker.make(io, index, seed),
                        Some(_) => {
                            Err("the core has had as many volumes as it can; restart the array".to_owned())
                        }
                        None => Err("this core takes no new volumes".to_owned()),
                    };
                    let entered = made.and_then(|unit| unit.enter(&mut self.hub.cache));
                    let made = entered.map(|unit| {
                        self.hub.units.push(Some(unit));
                        index
                    });
                    if let Err(TrySendError::Disconnected(Ok(index))) = answer.try_send(made) {
                        // Who asked has given up.
                        self.hub.retire(index, io.now(), sync_channel(1).0);
                    }
                }
                Control::RemoveUnit { unit, answer } => self.hub.retire(unit, io.now(), answer),
                Control::Usage { unit, answer } => {
                    if let Some(usage) = self.hub.usage(unit) {
                        let _ = answer.try_send(usage);
                    }
                }
                Control::Attend { unit, nexuses, attention } => {
                    self.hub.attend(unit, nexuses.as_deref(), attention);
                }
                Control::Forget { unit, nexuses } => self.hub.forget(unit, &nexuses),
                Control::Grow { unit, blocks } => self.hub.grow(unit, blocks),
                Control::Device { unit, change } => self.device_changed(io, unit, change),
                Control::Stop => {
                    if self.stop == Stop::Serving {
                        self.stop = Stop::Draining;
                        for listener in &self.listeners {
                            io.shutdown(listener.socket);
                        }
                        for connection in self.connections.iter_mut().flatten() {
                            if let Phase::Full(full) = &mut connection.phase {
                                full.announce_end();
                            }
                        }
                        self.indices().for_each(|index| self.mark(index));
                    }
                }
            }
        }
        any
    }

    /// Units that are to go, and that nothing is in flight for any more, go.
    fn retire(&mut self, io: &mut I) {
        for (mut unit, answer) in self.hub.retired(io) {
            unit.volume.set_gone();
            if let Some(device) = unit.volume.release_device() {
                io.remove_device(device);
            }
            unit.leave(&mut self.hub.cache);
            let _ = answer.try_send(());
        }
    }

    /// Goes on with the end, step by step.
    fn stopping(&mut self, io: &mut I) {
        match self.stop {
            Stop::Serving | Stop::Flushing => {}
            Stop::Draining => {
                for index in self.indices() {
                    let Some(connection) = self.connections[index as usize].as_mut() else { continue };
                    if matches!(connection.phase, Phase::Login(_)) {
                        connection.close(io, Close::Stopping);
                    }
                    self.mark(index);
                }
                if self.connections() == 0 {
                    self.stop = Stop::Quiet;
                    self.shared.quiet_cores.fetch_add(1, Ordering::AcqRel);
                }
            }
            Stop::Quiet => {
                let all = self.shared.quiet_cores.load(Ordering::Acquire) >= self.hub.port.cores();
                if all && self.hub.tasks_in_units() == 0 && !self.hub.has_delayed() {
                    self.hub.flush_all(io);
                    self.stop = Stop::Flushing;
                }
            }
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
        worked |= self.deliver();
        self.arm_listeners(io);
        if self.hub.is_retiring() {
            self.retire(io);
        }
        if self.stop != Stop::Serving {
            self.stopping(io);
        }
        self.flush(io);
        let now = io.now();
        if now >= self.next_tick {
            self.tick(io);
        }
        if self.hub.next_deadline() <= now {
            self.hub.tick(io);
            worked |= self.deliver();
            self.flush(io);
        }
        self.hub.send_delayed();
        let wake = &mut self.wake;
        self.hub.port.flush(wake);
        self.worked |= worked;
        worked
    }

    fn next_deadline(&self) -> Time {
        let mut next = self.hub.next_deadline();
        if self.connections() > 0 || self.load.busy > 0 || self.stop != Stop::Serving {
            next = next.min(self.next_tick);
        }
        let waits = !self.waiting.is_empty()
            || self.hub.has_delayed()
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
        self.stop == Stop::Flushing && self.hub.tasks_in_units() == 0
    }
}
