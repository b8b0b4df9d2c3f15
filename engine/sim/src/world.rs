//! The world: one clock, one queue of events, the network, the disks, and what the cores of the
//! array have in flight.
//!
//! A [`World`] is a shared handle; everything runs in one thread. Time passes only between events.
//! The runner takes the events in turn; the world handles those of the network and
//! the disks by itself and tells the runner whose turn it is otherwise.

use crate::coverage::{Coverage, Happening};
use crate::disk::{Disk, DiskId, narrow};
use crate::io::{SimIo, SimWaker};
use crate::net::{ConnId, Net, Side};
use crate::ops::{OpKey, Ops};
use crate::options::Options;
use crate::queue::Queue;
use crate::rng::Rng;
use crate::trace::{Trace, Who};
use crate::trap::Trap;
use kagami_reactor::{Completion, Errno};
use kagami_types::Time;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Something to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A core runs a round, unless it was told otherwise since.
    Round(usize, u64),
    /// An actor looks around, unless it was told otherwise since.
    Actor(usize, u64),
    /// A wish to connect reaches the listener.
    Syn(ConnId),
    /// Bytes of that side reach the other.
    Segment(ConnId, Side, usize),
    /// The end of that side's stream reaches the other.
    StreamEnd(ConnId, Side),
    /// A side learns that its connection is reset.
    Reset(ConnId, Side),
    /// There may be room again at that side.
    Room(ConnId, Side),
    /// A piece of a disk's operation takes effect.
    DiskPiece(OpKey, usize),
    /// A disk's operation is done.
    DiskDone(OpKey),
    /// An operation's completion reaches its core.
    Complete(OpKey, Result<u32, Errno>),
    /// Everything ends at once.
    Crash,
    /// The array starts again.
    Boot,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Core(usize),
    Actor(usize),
    Crash,
    Boot,
}

/// When somebody is to run next.
#[derive(Clone, Copy, Debug, Default)]
struct Alarm {
    ticket: u64,
    at: Option<Time>,
}

/// What the world keeps of a core.
#[derive(Debug, Default)]
pub(crate) struct CoreState {
    pub(crate) completed: Vec<Completion>,
    pub(crate) in_flight: usize,
    pub(crate) waker: SimWaker,
    /// It sleeps until its alarm or a completion.
    asleep: bool,
    alarm: Alarm,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) now: Time,
    pub(crate) options: Options,
    pub(crate) events: Queue<Event>,
    pub(crate) rng: Rng,
    pub(crate) net: Net,
    pub(crate) disks: Vec<Disk>,
    pub(crate) ops: Ops,
    pub(crate) cores: Vec<CoreState>,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    pub(crate) trap: Trap,
    /// The array broke a promise that only the world can see.
    pub(crate) fault: Option<String>,
    actors: Vec<Alarm>,
    tickets: u64,
}

/// A handle to the simulated world.
#[derive(Clone, Debug)]
pub struct World(Rc<RefCell<State>>);

impl World {
    /// A world that follows from the stream of random numbers.
    #[must_use]
    pub fn new(mut rng: Rng, options: Options) -> Self {
        let state = State {
            now: Time(1_000_000),
            options,
            events: Queue::new(rng.fork(1)),
            net: Net::new(rng.fork(2)),
            rng: rng.fork(3),
            disks: Vec::new(),
            ops: Ops::default(),
            cores: Vec::new(),
            coverage: Coverage::default(),
            trace: Trace::new(options.trace),
            trap: Trap::default(),
            fault: None,
            actors: Vec::new(),
            tickets: 0,
        };
        Self(Rc::new(RefCell::new(state)))
    }

    /// Works on the inside. Nothing that is called in here may call back.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.borrow_mut())
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.with(|state| state.now)
    }

    /// Adds a disk of that many sectors of `sector` bytes each, all zeroes. A sector is what a
    /// power failure leaves whole.
    #[must_use]
    pub fn add_disk(&self, sector: usize, sectors: usize) -> DiskId {
        self.with(|state| {
            let rng = state.rng.fork(4);
            state.disks.push(Disk::new(sector, sectors, rng));
            DiskId(narrow(state.disks.len() - 1))
        })
    }

    /// A disk's length in bytes and its sector's, where there is such a disk.
    #[must_use]
    pub fn disk_size(&self, disk: DiskId) -> Option<(usize, usize)> {
        self.with(|state| state.disks.get(usize::from(disk.0)).map(|disk| (disk.bytes(), disk.sector())))
    }

    /// What a disk would read as now, for checks after the end.
    #[must_use]
    pub fn image(&self, disk: DiskId) -> Vec<u8> {
        self.with(|state| state.disks.get(usize::from(disk.0)).map_or_else(Vec::new, Disk::image))
    }

    /// Another core of the array, for its next boot.
    #[must_use]
    pub fn add_core(&self) -> SimIo {
        let (core, waker) = self.with(|state| {
            state.cores.push(CoreState::default());
            let core = state.cores.len() - 1;
            (core, state.cores.last().map(|core| core.waker.clone()).unwrap_or_default())
        });
        SimIo::new(self.clone(), core, waker)
    }

    /// Notes something for the trace of a failure.
    pub fn note(&self, who: Who, what: &'static str, numbers: [u64; 3]) {
        self.with(|state| state.trace.note(state.now, who, what, numbers));
    }

    /// Counts something that happened that often.
    pub fn count(&self, what: Happening, times: u64) {
        self.with(|state| state.coverage.add_to(what, times));
    }

    /// What a disk has under way, and what it had: the number that its next write gets, and the
    /// lowest of those that are not done (that of the next where all are).
    #[must_use]
    pub fn writes_under_way(&self, disk: DiskId) -> (u64, u64) {
        self.with(|state| state.disks.get(usize::from(disk.0)).map_or((0, 0), Disk::under_way))
    }

    /// Whether a disk has a write of some of these bytes under way.
    #[must_use]
    pub fn is_writing(&self, disk: DiskId, bytes: std::ops::Range<u64>) -> bool {
        self.with(|state| state.disks.get(usize::from(disk.0)).is_some_and(|disk| disk.is_writing(&bytes)))
    }

    /// The array broke a promise: the run fails with that text.
    pub fn accuse(&self, what: impl Into<String>) {
        self.with(|state| state.accuse(what.into()));
    }

    /// Counts something.
    pub fn hit(&self, what: Happening) {
        self.with(|state| state.coverage.hit(what));
    }

    /// What happened so far.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.with(|state| state.coverage.clone())
    }

    /// A digest of everything noted so far: equal for equal runs.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.with(|state| state.trace.digest())
    }

    /// The last things noted.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.with(|state| state.trace.lines())
    }

    /// A stream of random numbers of its own, for an actor.
    #[must_use]
    pub fn fork_rng(&self, label: u64) -> Rng {
        self.with(|state| state.rng.fork(label))
    }

    /// The options of now.
    #[must_use]
    pub fn options(&self) -> Options {
        self.with(|state| state.options)
    }

    /// From now on nothing goes wrong any more.
    pub fn calm_down(&self) {
        self.with(|state| {
            state.options.calm_down();
            state.trap.disarm();
            state.calm_net();
        });
        self.note(Who::World, "calm from now on", [0; 3]);
    }

    pub(crate) fn add_actor(&self) -> usize {
        self.with(|state| {
            state.actors.push(Alarm::default());
            let actor = state.actors.len() - 1;
            state.wake_actor(actor, state.now);
            actor
        })
    }

    /// Takes events until it is somebody's turn; `None` when nothing is to come any more.
    pub(crate) fn next_turn(&self) -> Option<Turn> {
        self.with(State::next_turn)
    }
}

/// What actors do with the network.
impl World {
    /// Begins a connection from one of the actor's own addresses. Whether somebody listens shows
    /// when it is used.
    #[must_use]
    pub fn connect(&self, actor: usize, from: SocketAddr, to: SocketAddr) -> ConnId {
        self.with(|state| state.connect(crate::net::Owner::Actor(actor), from, to))
    }

    /// Sends as much as there is room for, perhaps less; the actor is woken when there is more.
    ///
    /// # Errors
    /// The connection is reset, closed or ended.
    pub fn send(&self, conn: ConnId, bytes: &[u8]) -> Result<usize, Errno> {
        self.with(|state| {
            let Some(connection) = state.net.conn(conn) else { return Err(Errno::INVALID) };
            let end = connection.end(Side::Client);
            if end.reset || end.closed || !connection.pipe(Side::Client).is_open() {
                return Err(Errno::CONNECTION_RESET);
            }
            let sent = state.send(conn, Side::Client, std::iter::once(bytes), bytes.len()).unwrap_or(0);
            if sent < bytes.len() {
                state.actor_waits(conn, Side::Client);
            }
            Ok(sent)
        })
    }

    /// Appends up to `most` arrived bytes to `into`; `Ok(None)` at the end of the stream.
    ///
    /// # Errors
    /// The connection is reset.
    pub fn receive(&self, conn: ConnId, into: &mut Vec<u8>, most: usize) -> Result<Option<usize>, Errno> {
        self.with(|state| {
            let Some(connection) = state.net.conn(conn) else { return Err(Errno::INVALID) };
            let reset = connection.end(Side::Client).reset;
            let pipe = connection.pipe(Side::Server);
            let got = pipe.receive(most, |bytes| into.extend_from_slice(bytes));
            let end = pipe.is_at_end();
            if got > 0 {
                state.offer_room(conn, Side::Server);
                return Ok(Some(got));
            }
            if reset {
                return Err(Errno::CONNECTION_RESET);
            }
            Ok(if end { None } else { Some(0) })
        })
    }

    /// Closes the actor's end.
    pub fn close(&self, conn: ConnId) {
        self.with(|state| state.close(conn, Side::Client));
    }

    /// Resets the connection, for both ends, as a host does that gives up.
    pub fn abort(&self, conn: ConnId) {
        self.with(|state| {
            state.reset(conn, Side::Client);
            state.close(conn, Side::Client);
            state.events.put(state.now + Duration::from_nanos(1), Event::Reset(conn, Side::Server));
        });
    }

    /// The actor's last word on a connection that it still reads.
    pub fn finish(&self, conn: ConnId) {
        self.with(|state| state.finish(conn, Side::Client));
    }

    /// The connection can stand a flipped bit from now on (it has digests), and may get one.
    pub fn allow_flip(&self, conn: ConnId) {
        self.with(|state| {
            let options = state.options.net;
            if state.net.rng.permille(options.flip) {
                let after = state.net.rng.skewed(0, options.cut_within.max(4096));
                let side = state.net.rng.choose([Side::Client, Side::Server]);
                if let Some(connection) = state.net.conn(conn) {
                    connection.pipe(side).flip_after(after);
                }
            }
        });
    }

    /// Whether a bit of the connection was flipped, in either direction.
    #[must_use]
    pub fn was_flipped(&self, conn: ConnId) -> bool {
        self.with(|state| {
            state.net.conn(conn).is_some_and(|connection| {
                connection.pipe(Side::Client).flipped || connection.pipe(Side::Server).flipped
            })
        })
    }

    /// Has the array crash now, in the middle of what an actor does for it; without effect while it is down.
    pub fn crash(&self) {
        self.with(|state| state.events.put(state.now, Event::Crash));
    }

    /// Has the actor run at that time or, where that is sooner, when it was to run anyway.
    pub fn wake_at(&self, actor: usize, at: Time) {
        self.with(|state| state.wake_actor(actor, at));
    }
}

impl State {
    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    pub(crate) fn wake_actor(&mut self, actor: usize, at: Time) {
        let at = at.max(self.now);
        let ticket = self.ticket();
        let Some(alarm) = self.actors.get_mut(actor) else { return };
        if alarm.at.is_some_and(|set| set <= at) {
            return;
        }
        *alarm = Alarm { ticket, at: Some(at) };
        if at != Time::NEVER {
            self.events.put(at, Event::Actor(actor, ticket));
        }
    }

    /// Sets when a core runs next, whatever was set before.
    pub(crate) fn schedule_core(&mut self, core: usize, at: Time, asleep: bool) {
        let ticket = self.ticket();
        let now = self.now;
        let Some(state) = self.cores.get_mut(core) else { return };
        state.asleep = asleep;
        state.alarm = Alarm { ticket, at: Some(at) };
        if at != Time::NEVER {
            self.events.put(at.max(now), Event::Round(core, ticket));
        }
        if asleep {
            if !self.cores.get(core).is_some_and(|core| core.completed.is_empty()) {
                self.rouse(core);
            }
            self.ring_doorbells();
        }
    }

    /// Ends a core's sleep, if it sleeps.
    fn rouse(&mut self, core: usize) {
        if self.cores.get(core).is_some_and(|core| core.asleep) {
            // What it takes to come out of the kernel.
            let wait = self.rng.skewed(1_000, 60_000);
            self.schedule_core(core, self.now + Duration::from_nanos(wait), false);
        }
    }

    /// Looks whether some core rang for another.
    pub(crate) fn ring_doorbells(&mut self) {
        for core in 0..self.cores.len() {
            let Some(state) = self.cores.get(core) else { continue };
            // A ring at a core that is awake waits for its next poll, which takes it.
            if state.asleep && state.waker.0.swap(false, Ordering::Relaxed) {
                self.coverage.hit(Happening::Wake);
                self.rouse(core);
            }
        }
    }

    /// An operation is done now.
    pub(crate) fn complete(&mut self, key: OpKey, result: Result<u32, Errno>) {
        let Some(inflight) = self.ops.take(key) else { return };
        let Some(core) = self.cores.get_mut(inflight.core) else { return };
        core.completed.push(Completion { token: inflight.token, result, op: inflight.op });
        self.rouse(inflight.core);
    }

    /// An operation is done; its core hears of it now or a little later.
    pub(crate) fn complete_soon(&mut self, key: OpKey, result: Result<u32, Errno>) {
        if self.rng.one_in(2) {
            self.complete(key, result);
        } else {
            let wait = self.rng.skewed(50, 5_000);
            self.events.put(self.now + Duration::from_nanos(wait), Event::Complete(key, result));
        }
    }

    pub(crate) fn accuse(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    fn next_turn(&mut self) -> Option<Turn> {
        loop {
            if self.trap.take() {
                self.coverage.hit(Happening::CrashAtIo);
                return Some(Turn::Crash);
            }
            let (at, event) = self.events.take()?;
            self.now = self.now.max(at);
            match event {
                Event::Round(core, ticket) => {
                    if self.cores.get(core).is_some_and(|state| state.alarm.ticket == ticket) {
                        return Some(Turn::Core(core));
                    }
                }
                Event::Actor(actor, ticket) => {
                    if let Some(alarm) = self.actors.get_mut(actor)
                        && alarm.ticket == ticket
                    {
                        *alarm = Alarm::default();
                        return Some(Turn::Actor(actor));
                    }
                }
                Event::Syn(conn) => self.syn(conn),
                Event::Segment(conn, from, len) => self.segment_arrives(conn, from, len),
                Event::StreamEnd(conn, from) => self.end_arrives(conn, from),
                Event::Reset(conn, side) => self.reset(conn, side),
                Event::Room(conn, side) => self.notify_writer(conn, side),
                Event::DiskPiece(key, piece) => self.disk_piece(key, piece),
                Event::DiskDone(key) => self.disk_done(key),
                Event::Complete(key, result) => self.complete(key, result),
                Event::Crash => return Some(Turn::Crash),
                Event::Boot => return Some(Turn::Boot),
            }
        }
    }

    /// The array's process ends at once, with or without the power.
    pub(crate) fn crash(&mut self, power: bool) {
        self.coverage.hit(if power { Happening::PowerCrash } else { Happening::ProcessCrash });
        self.trace.note(self.now, Who::World, "crash, power", [u64::from(power), 0, 0]);
        self.crash_disks(power);
        self.end_process();
    }

    /// The array's process is not there any more.
    pub(crate) fn end_process(&mut self) {
        self.crash_net();
        // Devices that were given up may still be at it.
        self.crash_disks(false);
        // Operations in flight go too, and so do completions that nobody took.
        for key in self.ops.keys() {
            self.ops.take(key);
        }
        self.cores.clear();
    }
}
