//! The far side of a core: its virtual volumes, and the sockets that their links talk through.
//!
//! Each virtual volume has a socket for each connection of its link's session. As with hosts, all that a round has
//! to say on one becomes one message and one send, and one receive is under way. Called by the hub
//! for commands, by the core for completions and at the end of each round.

use crate::connection::Link as Pipe;
use crate::hub::Hub;
use crate::message::{Command, Ending, FarCommand, Manage, Reply};
use crate::nexus::TaskId;
use crate::outbox::{Outbox, Payload};
use crate::session::Session;
use crate::token;
use crate::virtual_unit::{FAR, Forwarded, VirtualContext, VirtualUnit};
use kagami_cache::store::Cache;
use kagami_iscsi::frame::Framing;
use kagami_iscsi::pdu::Bhs;
use kagami_iscsi::random::Random;
use kagami_link::{InPlace, Sink};
use kagami_memory::{Class, Pool, Purpose, ScatterMut};
use kagami_metrics::CoreMetrics;
use kagami_reactor::{Completion, Errno, Io, Op, ReceiveBuffer, SendBuffer, SocketId};
use kagami_replica::action::FarEnd;
use kagami_scsi::{Attention, NexusId};
use kagami_types::Time;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// The virtual volumes of a core.
#[derive(Debug, Default)]
pub(crate) struct FarUnits {
    units: Vec<Option<Box<Far>>>,
    /// Those to be looked at before the round ends; each at most once.
    dirty: Vec<u32>,
    /// The earliest time at which one wants to be looked at.
    next: Time,
}

/// A virtual volume with its sockets.
#[derive(Debug)]
struct Far {
    unit: VirtualUnit,
    /// By the number of the connection.
    wires: Vec<Option<Wire>>,
    /// Of the last socket.
    generation: u32,
    /// The connection that is offered commands first.
    first: usize,
    marked: bool,
    retiring: Option<SyncSender<()>>,
}

#[derive(Debug)]
struct Wire {
    socket: SocketId,
    /// Which of its volume's sockets this is, so that an old one's completion is known as such.
    generation: u32,
    pipe: Pipe,
    closing: bool,
}

/// The link's way into a message in the making.
struct Gate<'a> {
    outbox: &'a mut Outbox,
    pool: &'a Pool,
    cache: &'a mut Cache,
}

impl Sink for Gate<'_> {
    #[inline]
    fn has_room(&mut self, inline: usize) -> bool {
        self.outbox.has_room(inline, self.pool)
    }

    #[inline]
    fn push(&mut self, framing: &Framing, bhs: &Bhs, payload: kagami_link::Payload<'_>) {
        let fill = |out: &mut Bhs| *out = *bhs;
        match payload {
            kagami_link::Payload::None => self.outbox.push(framing, Payload::None, fill),
            kagami_link::Payload::Inline(bytes) => self.outbox.push(framing, Payload::Inline(&[bytes]), fill),
            kagami_link::Payload::Pages(data, offset, len) => {
                self.outbox.push(framing, Payload::Shared(data, offset, len), fill);
            }
        }
    }

    fn take(&mut self, room: &mut ScatterMut, bytes: usize) -> bool {
        if room.take_more(self.pool, Purpose::Host, bytes) {
            return true;
        }
        let pages = u32::try_from(bytes.div_ceil(Class::Page.bytes())).unwrap_or(u32::MAX);
        self.cache.reclaim(pages) > 0 && room.take_more(self.pool, Purpose::Host, bytes)
    }
}

impl FarUnits {
    pub(crate) fn add(&mut self, unit: VirtualUnit) -> u32 {
        let place = u32::try_from(self.units.len()).unwrap_or(u32::MAX);
        let wires = (0..unit.link.connections()).map(|_| None).collect();
        let far = Far { unit, wires, generation: 0, first: 0, marked: false, retiring: None };
        self.units.push(Some(Box::new(far)));
        self.mark(place);
        FAR | place
    }

    fn get(&mut self, index: u32) -> Option<&mut Far> {
        self.units.get_mut((index & !FAR) as usize)?.as_deref_mut()
    }

    fn mark(&mut self, index: u32) {
        let place = index & !FAR;
        if let Some(far) = self.get(place).filter(|far| !far.marked) {
            far.marked = true;
            self.dirty.push(place);
        }
    }

    /// The indices of those that are there.
    pub(crate) fn living(&self) -> Vec<u32> {
        let living = (0u32..).zip(&self.units).filter(|(_, far)| far.is_some());
        living.map(|(place, _)| FAR | place).collect()
    }

    /// When one of them wants to be looked at.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Time {
        if !self.dirty.is_empty() {
            return Time(0);
        }
        if self.units.is_empty() { Time::NEVER } else { self.next }
    }

    /// Whether a round has to look at them.
    #[inline]
    pub(crate) fn want_a_look(&self, now: Time) -> bool {
        !self.units.is_empty() && (!self.dirty.is_empty() || self.next <= now)
    }

    /// Commands whose hosts wait.
    pub(crate) fn in_use(&self) -> usize {
        self.units.iter().flatten().map(|far| far.unit.in_use()).sum()
    }

    /// Levels, which are told as they are now and then.
    pub(crate) fn measure(&self, metrics: &CoreMetrics) {
        for far in self.units.iter().flatten() {
            if let Some(metrics) = metrics.volume(far.unit.row()) {
                metrics.depth.set(far.unit.in_use() as u64);
                metrics.device_depth.set(far.unit.link.in_use() as u64);
                metrics.gone.set(u64::from(!far.unit.link.is_serving()));
            }
            far.unit.tell_status();
        }
    }

    pub(crate) fn attend(&mut self, index: Option<u32>, nexuses: Option<&[NexusId]>, attention: Attention) {
        for (place, far) in (0u32..).zip(&mut self.units) {
            let Some(far) = far.as_mut().filter(|_| index.is_none_or(|only| only == FAR | place)) else {
                continue;
            };
            match nexuses {
                Some(nexuses) => nexuses.iter().for_each(|&nexus| far.unit.front.establish(nexus, attention)),
                None => far.unit.front.establish_all(None, attention),
            }
        }
    }

    pub(crate) fn forget(&mut self, index: u32, nexuses: &[NexusId]) {
        if let Some(far) = self.get(index) {
            nexuses.iter().for_each(|&nexus| far.unit.front.detach(nexus));
        }
    }
}

impl<S: Send> Hub<S> {
    /// Executes a command at a virtual volume of this core.
    #[inline]
    pub(crate) fn execute_far(&mut self, command: Command, now: Time) -> Option<Reply> {
        let index = command.unit.index;
        let session = self.session(command.nexus);
        let place = (index & !FAR) as usize;
        let far = self.far.units.get_mut(place).and_then(Option::as_deref_mut);
        let Some(far) = far.filter(|far| far.retiring.is_none()) else {
            return Some(match session {
                Some(session) => self.absent(command.task, &command.cdb, command.data, &session),
                None => Reply { task: command.task, end: Ending::busy(), data: command.data, wanted: 0 },
            });
        };
        let mut cx = VirtualContext {
            now,
            pool: &self.pool,
            out: &mut self.out,
            session: session.as_ref(),
            luns: self.directory.luns(),
        };
        let reply = far.unit.execute(command, &mut cx);
        if reply.is_none() {
            self.far.mark(index);
        }
        reply
    }

    /// A command of the daemon's own for a far unit.
    pub(crate) fn ask_far(
        &mut self,
        index: u32,
        cdb: [u8; 16],
        out: &[u8],
        expects: u32,
        answer: SyncSender<Forwarded>,
        now: Time,
    ) {
        let luns = self.directory.luns();
        let cx = VirtualContext { now, pool: &self.pool, out: &mut self.out, session: None, luns };
        let place = (index & !FAR) as usize;
        if let Some(far) = self.far.units.get_mut(place).and_then(Option::as_deref_mut) {
            far.unit.ask(cdb, out, expects, answer, &cx);
        }
        self.far.mark(index);
    }

    /// A command of a group of this core; its end will be among `far_ends`.
    pub(crate) fn far_command(&mut self, command: FarCommand, now: Time) {
        let FarCommand { unit, tag, place, op } = command;
        let far = self.far.units.get_mut((place & !FAR) as usize).and_then(Option::as_deref_mut);
        let Some(far) = far.filter(|far| far.retiring.is_none()) else {
            return self.far_ends.push_back((unit, tag, FarEnd::Unreachable));
        };
        far.unit.command(unit, tag, op, now);
        self.far_ends.extend(far.unit.for_groups.ends.drain(..));
        self.far.mark(place);
    }

    pub(crate) fn manage_far(&mut self, index: u32, manage: Manage, only: Option<TaskId>, now: Time) {
        if let Some(far) = self.far.get(index) {
            far.unit.manage(manage, only, now);
        }
        self.far.mark(index);
    }

    pub(crate) fn detach_far(&mut self, index: u32, session: &Arc<Session>, now: Time) {
        if let Some(far) = self.far.get(index) {
            far.unit.detach(session, now);
        }
        self.far.mark(index);
    }

    /// A virtual volume is to go: no command begins at it any more.
    pub(crate) fn retire_far(&mut self, index: u32, answer: SyncSender<()>) {
        match self.far.get(index).filter(|far| far.retiring.is_none()) {
            Some(far) => far.retiring = Some(answer),
            None => drop(answer.try_send(())),
        }
        self.far.mark(index);
    }

    /// A send or receive of a link is done.
    pub(crate) fn far_completion<I: Io<Stream = S>>(
        &mut self,
        place: u32,
        generation: u32,
        completion: Completion,
        io: &mut I,
    ) {
        let Some(far) = self.far.get(place) else { return };
        let of = |wire: &Option<Wire>| wire.as_ref().is_some_and(|wire| wire.generation == generation);
        let Some(at) = far.wires.iter().position(of) else { return };
        let Some(wire) = far.wires.get_mut(at).and_then(Option::as_mut) else { return };
        let now = io.now();
        let mut lost: Option<String> = None;
        match completion.op {
            Op::Receive(_, buffer) => {
                wire.pipe.receiving = false;
                let count = completion.result.map_or(0, |count| count as usize);
                let direct = buffer.direct_part(count);
                wire.pipe.start = 0;
                wire.pipe.end = buffer.start + (count - direct);
                wire.pipe.window = Some(buffer.window);
                if !wire.closing {
                    far.unit.link.received(at, buffer.direct, direct);
                    match completion.result {
                        Ok(0) => lost = Some("the far array closed the connection".to_owned()),
                        Err(error) => lost = Some(error.to_string()),
                        Ok(_) => match far.unit.link.consume(at, wire.pipe.pending(), now) {
                            Ok(used) => wire.pipe.start += used,
                            Err(broken) => lost = Some(far.why(broken.0)),
                        },
                    }
                }
            }
            Op::Send(_, mut message) => {
                let sent = completion.result.map_or(0, |count| count as usize);
                message.sent += sent;
                match completion.result {
                    Ok(_) if message.sent < message.len && sent > 0 && !wire.closing => {
                        send(place, wire, message, io);
                    }
                    Ok(_) if message.sent >= message.len => {
                        wire.pipe.outbox.done(message);
                    }
                    other => {
                        wire.pipe.outbox.done(message);
                        let error = other.err().unwrap_or(Errno::CONNECTION_RESET);
                        lost = (!wire.closing).then(|| error.to_string());
                    }
                }
            }
            _ => {}
        }
        if let Some(reason) = lost {
            far.lose(at, &reason, io, now);
        }
        self.far.mark(place);
        self.far_events(place, now);
    }

    /// Events of a link become replies.
    fn far_events(&mut self, place: u32, now: Time) {
        let Some(far) = self.far.units.get_mut(place as usize).and_then(Option::as_deref_mut) else { return };
        let metrics = self.metrics.volume(far.unit.row());
        far.unit.take_events(now, metrics, &mut self.finished, &mut self.then);
        let more = far.unit.go_on_with_commands(now);
        self.far_ends.extend(far.unit.for_groups.ends.drain(..));
        if more {
            // Looked at already in this round, perhaps.
            self.far.mark(place);
        }
        if !(self.finished.is_empty() && self.then.is_empty()) {
            self.follow_up();
        }
    }

    /// Everything that the links want, once a round: connections, sends, receives, time-outs. Whether
    /// anything was done.
    pub(crate) fn look_far<I: Io<Stream = S>>(&mut self, io: &mut I, random: &mut dyn Random) -> bool {
        let now = io.now();
        if self.far.next <= now {
            for place in 0..u32::try_from(self.far.units.len()).unwrap_or(u32::MAX) {
                if self.far.get(place).is_some_and(|far| far.deadline() <= now) {
                    self.far.mark(place);
                }
            }
        }
        let mut dirty = std::mem::take(&mut self.far.dirty);
        let any = !dirty.is_empty();
        for place in dirty.drain(..) {
            self.look_at(place, io, random, now);
        }
        // What was marked meanwhile stays for the next round.
        dirty.append(&mut self.far.dirty);
        self.far.dirty = dirty;
        self.far.next =
            self.far.units.iter().flatten().map(|far| far.deadline()).min().unwrap_or(Time::NEVER);
        any
    }

    fn look_at<I: Io<Stream = S>>(&mut self, place: u32, io: &mut I, random: &mut dyn Random, now: Time) {
        let Some(far) = self.far.units.get_mut(place as usize).and_then(Option::as_deref_mut) else { return };
        far.marked = false;
        if far.unit.link.next_deadline() <= now
            && let Err(broken) = far.unit.link.tick(now)
        {
            let reason = far.why(broken.0);
            far.lose(0, &reason, io, now);
        }
        far.close_dropped(io);
        far.dial(io, random, now);
        far.encode(&self.pool, &mut self.cache);
        let mut released = false;
        for at in 0..far.wires.len() {
            let Some(wire) = far.wires.get_mut(at).and_then(Option::as_mut) else { continue };
            if !wire.closing {
                if let Some(message) = wire.pipe.outbox.take() {
                    send(place, wire, message, io);
                }
                if !wire.pipe.receiving && !receive(place, at, wire, &mut far.unit, &self.pool, io) {
                    far.lose(at, "there is no memory to receive into", io, now);
                }
            }
        }
        // Those that are closed are let go when the kernel has nothing of them any more.
        for wire in &mut far.wires {
            let done =
                |wire: &mut Wire| wire.closing && !wire.pipe.receiving && !wire.pipe.outbox.is_in_flight();
            if let Some(wire) = wire.take_if(done) {
                io.release(wire.socket);
                released = true;
            }
        }
        if released {
            self.far.mark(place);
        }
        self.far_events(place, now);
        self.end_far(place, io, now);
    }

    /// A virtual volume that is to go, goes when nobody waits for it.
    fn end_far<I: Io<Stream = S>>(&mut self, place: u32, io: &mut I, now: Time) {
        let Some(slot) = self.far.units.get_mut(place as usize) else { return };
        let Some(far) = slot.as_mut().filter(|far| far.retiring.is_some() && far.unit.in_use() == 0) else {
            return;
        };
        far.lose(0, "it is removed", io, now);
        if far.wires.iter().all(Option::is_none)
            && let Some(answer) = slot.take().and_then(|far| far.retiring)
        {
            let _ = answer.try_send(());
        }
    }
}

impl Far {
    /// When it wants to be looked at.
    fn deadline(&self) -> Time {
        let link = &self.unit.link;
        let mut wires = self.wires.iter().flatten().peekable();
        let next = if wires.peek().is_some() && wires.all(|wire| wire.closing) {
            // Its sockets are on their way out: their completions come by themselves.
            Time::NEVER
        } else {
            link.next_deadline()
        };
        // A command waits for pages: soon.
        if link.is_starved() && link.is_serving() { Time(0) } else { next }
    }

    /// Makes the connections that are due.
    fn dial<I: Io>(&mut self, io: &mut I, random: &mut dyn Random, now: Time) {
        if self.retiring.is_some() {
            return;
        }
        loop {
            let Self { unit, wires, .. } = self;
            let is_free = |at: usize| wires.get(at).is_some_and(Option::is_none);
            let Some((at, to)) = unit.link.dial(now, random, is_free) else { return };
            self.generation = self.generation.wrapping_add(1) & token::GENERATION;
            match (io.connect(to), self.wires.get_mut(at)) {
                (Ok(socket), Some(wire)) => {
                    let generation = self.generation;
                    *wire = Some(Wire { socket, generation, pipe: Pipe::default(), closing: false });
                }
                (Ok(socket), None) => return io.release(socket),
                (Err(error), _) => self.lose(at, &error.to_string(), io, now),
            }
        }
    }

    /// What the link has to say, shared out among its connections. Commands go where nothing is on its way: their order is
    /// that of the session (RFC 7143 4.2.2.1), so the far array would only wait for them on a connection that is behind.
    fn encode(&mut self, pool: &Pool, cache: &mut Cache) {
        let Self { unit, wires, first, .. } = self;
        let count = wires.len().max(1);
        let several = count > 1;
        *first = (*first + 1) % count;
        let mut more = true;
        while more {
            more = false;
            for step in 0..count {
                let at = (*first + step) % count;
                let Some(wire) = wires.get_mut(at).and_then(Option::as_mut).filter(|wire| !wire.closing)
                else {
                    continue;
                };
                let may_begin = !several || !wire.pipe.outbox.is_in_flight();
                let mut gate = Gate { outbox: &mut wire.pipe.outbox, pool, cache };
                more |= unit.link.encode(at, may_begin, &mut gate);
            }
        }
    }

    /// Why the link was lost: what the link itself knows better.
    fn why(&self, broken: &str) -> String {
        match self.unit.link.status().reason {
            Some(reason) if !self.unit.link.is_serving() && broken == "the login failed" => reason.into(),
            _ => broken.to_owned(),
        }
    }

    /// A connection is lost, or was never made.
    #[cold]
    fn lose<I: Io>(&mut self, at: usize, reason: &str, io: &mut I, now: Time) {
        self.unit.link.lost(at, now, reason);
        self.unit.tell();
        self.close_dropped(io);
    }

    /// Closes the connections that the link does not count on any more.
    fn close_dropped<I: Io>(&mut self, io: &mut I) {
        for (at, wire) in self.wires.iter_mut().enumerate() {
            if let Some(wire) = wire.as_mut().filter(|wire| !wire.closing)
                && !self.unit.link.holds(at)
            {
                wire.closing = true;
                io.shutdown(wire.socket);
            }
        }
    }
}

/// Sends a message, or what is left of it.
fn send<I: Io>(place: u32, wire: &mut Wire, message: SendBuffer, io: &mut I) {
    let token = token::far_send(place, wire.generation);
    if let Err(Op::Send(_, message)) = io.submit(token, Op::Send(wire.socket, message)) {
        // No slot in the ring: the link is given up by its time-out, and nothing is lost.
        wire.pipe.outbox.done(message);
        wire.closing = true;
        io.shutdown(wire.socket);
    }
}

/// Receives more; data of large reads in place. False where there is no memory for it.
fn receive<I: Io>(
    place: u32,
    at: usize,
    wire: &mut Wire,
    unit: &mut VirtualUnit,
    pool: &Pool,
    io: &mut I,
) -> bool {
    if !wire.pipe.make_room(pool, Purpose::Internal) {
        return false;
    }
    let in_place = unit.link.in_place(at, Hub::<I::Stream>::IN_PLACE);
    let Some(window) = wire.pipe.window.take() else { return false };
    let start = wire.pipe.end;
    let none = InPlace { data: ScatterMut::default(), filled: 0, limit: 0 };
    let InPlace { data, filled, limit } = in_place.unwrap_or(none);
    let end = if limit > filled { (start + Pipe::BEHIND_DIRECT).min(window.len()) } else { window.len() };
    let buffer = ReceiveBuffer { direct: data, filled, limit, window, start, end };
    match io.submit(token::far_receive(place, wire.generation), Op::Receive(wire.socket, buffer)) {
        Ok(()) => wire.pipe.receiving = true,
        Err(Op::Receive(_, buffer)) => {
            unit.link.received(at, buffer.direct, 0);
            wire.pipe.window = Some(buffer.window);
        }
        Err(_) => {}
    }
    true
}
