//! A host that gives orders: it makes volumes, makes them larger and removes them, one record after the other, and gives each,
//! the same bytes, again over any of its ways until it knows what became of it.

use super::clerk::told;
use super::{FAR, OWN, TARGET, portal};
use kagami_channel::Forwarded;
use kagami_iscsi::frame::Framing;
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::Preferences;
use kagami_iscsi::pdu::{Bhs, TaskAttribute};
use kagami_link::{Blocks, Event, Link, LinkPlan, Payload, Request as Command, Sink};
use kagami_memory::{Arena, Pool, Purpose, Scatter, ScatterMut};
use kagami_orders::courier::{Courier, Failure, Step};
use kagami_orders::{Code, Order, OrderResult, Parameters, Request, Tag};
use kagami_sim::{Actor, ConnId, Rng, World};
use kagami_types::{Lun, Time, Uuid};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What is true, and what hosts were told.
#[derive(Default)]
pub struct Truth {
    /// Volumes and their sizes, by array.
    pub there: [BTreeMap<String, u64>; 2],
    pub told: [BTreeMap<String, u64>; 2],
    /// Records whose changes were made, by array.
    pub made: [BTreeSet<Uuid>; 2],
    /// Changes that each array's tables have seen.
    pub changes: [u64; 2],
    pub done: u64,
    pub again: u64,
    pub replayed: u64,
    pub passed_on: u64,
}

/// What is said on a connection.
struct Line {
    pool: Pool,
    bytes: Vec<u8>,
}

impl Sink for Line {
    fn has_room(&mut self, inline: usize) -> bool {
        self.bytes.len() + inline < 64 << 10
    }

    fn push(&mut self, framing: &Framing, bhs: &Bhs, payload: Payload<'_>) {
        let data = match payload {
            Payload::None => Vec::new(),
            Payload::Inline(bytes) => bytes.to_vec(),
            Payload::Pages(pages, offset, len) => pages.to_vec()[offset..offset + len].to_vec(),
        };
        framing.append(&mut self.bytes, bhs, &data);
    }

    fn take(&mut self, room: &mut ScatterMut, bytes: usize) -> bool {
        room.take_more(&self.pool, Purpose::Host, bytes)
    }
}

/// A session with a command device.
struct Way {
    /// Which arrays execute what is written there.
    leads_to: &'static [usize],
    link: Link<()>,
    conn: Option<ConnId>,
    line: Line,
    input: Vec<u8>,
    /// Bytes of the device and of its blocks, once they are known.
    shape: Option<(u64, u64)>,
    busy: bool,
    ended: Option<Result<Vec<u8>, Failure>>,
}

impl Way {
    fn new(host: u16, lun: u16, array: u16, leads_to: &'static [usize], arena: &Arena) -> Self {
        let uuid = Uuid::from_u128((u128::from(host) + 1) << 120 | u128::from(array) << 112);
        let lun = Lun::new(lun).unwrap_or_default();
        let plan = LinkPlan {
            array: uuid,
            initiator: IscsiName::new(&format!("iqn.2026-11.io.kagami:host{host}")).expect("a name"),
            target: IscsiName::new(TARGET).expect("a name"),
            isid: LinkPlan::isid(uuid, lun),
            portals: Box::new([portal(array)]),
            account: None,
            connections: 1,
            preferences: Preferences::default(),
            mapped: lun,
            io_timeout: Duration::from_secs(3),
            login_timeout: Duration::from_secs(2),
            most_pause: Duration::from_millis(500),
            slots: 8,
            bytes: 1 << 20,
        };
        Self {
            leads_to,
            link: Link::new(plan, Time(0)),
            conn: None,
            line: Line { pool: arena.pool(0), bytes: Vec::new() },
            input: Vec::new(),
            shape: None,
            busy: false,
            ended: None,
        }
    }

    fn lose(&mut self, world: &World, reason: &str) {
        if let Some(conn) = self.conn.take() {
            world.close(conn);
        }
        self.line.bytes.clear();
        self.input.clear();
        self.link.lost(0, world.now(), reason);
    }

    fn look(&mut self, world: &World, actor: usize, address: SocketAddr, rng: &mut Rng) -> Time {
        let now = world.now();
        if self.link.next_deadline() <= now && self.link.tick(now).is_err() {
            self.lose(world, "late");
        }
        if self.conn.is_none()
            && let Some((_, to)) = self.link.dial(now, rng, |_| true)
        {
            self.conn = Some(world.connect(actor, address, to));
        }
        if let Some(conn) = self.conn
            && let Err(reason) = self.talk(world, conn)
        {
            self.lose(world, reason);
        }
        while let Some(event) = self.link.next_event() {
            match event {
                Event::Done(done) => {
                    self.busy = false;
                    self.ended = Some(told(Forwarded { outcome: done.outcome, data: done.data.to_vec() }));
                }
                Event::Up { learnt, .. } => {
                    self.shape = Some((learnt.blocks * u64::from(learnt.block_len), learnt.block_len.into()));
                }
                _ => {}
            }
        }
        self.link.next_deadline().max(now + Duration::from_micros(100))
    }

    fn talk(&mut self, world: &World, conn: ConnId) -> Result<(), &'static str> {
        self.link.encode(0, true, &mut self.line);
        let sent = world.send(conn, &self.line.bytes).map_err(|_| "broken")?;
        self.line.bytes.drain(..sent);
        let ended = world.receive(conn, &mut self.input, usize::MAX).map_err(|_| "reset")?.is_none();
        let used = self.link.consume(0, &self.input, world.now()).map_err(|broken| broken.0)?;
        self.input.drain(..used);
        // What was understood may have an answer.
        self.link.encode(0, true, &mut self.line);
        let sent = world.send(conn, &self.line.bytes).map_err(|_| "broken")?;
        self.line.bytes.drain(..sent);
        if ended { Err("ended") } else { Ok(()) }
    }

    fn command(&mut self, code: u8, at: u64, out: &[u8], expects: u32, now: Time) {
        let block = self.shape.map_or(512, |(_, block)| block);
        let bytes = (out.len() as u64).next_multiple_of(block).max(expects.into());
        let mut cdb = [0; 16];
        cdb[0] = code;
        cdb[2..10].copy_from_slice(&(at / block).to_be_bytes());
        cdb[10..14].copy_from_slice(&u32::try_from(bytes / block).unwrap_or(0).to_be_bytes());
        let mut pages = ScatterMut::default();
        let len = if out.is_empty() { 0 } else { usize::try_from(bytes).unwrap_or(0) };
        let mut data = out.to_vec();
        data.resize(len, 0);
        if !pages.take_more(&self.line.pool, Purpose::Host, len) {
            self.ended = Some(Err(Failure::Busy));
            return;
        }
        pages.copy_from(0, &data);
        let command = Command {
            owner: (),
            cdb,
            attribute: TaskAttribute::Simple,
            repeatable: true,
            blocks: Some(Blocks::ALL),
            writes: len > 0,
            out: if len > 0 { pages.freeze() } else { Scatter::new() },
            expects,
        };
        match self.link.submit(command, now) {
            Ok(()) => self.busy = true,
            Err(_) => self.ended = Some(Err(Failure::Unreachable)),
        }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Look,
    Create,
    Resize,
    Delete,
}

/// A record that is being given.
struct Task {
    kind: Kind,
    id: Uuid,
    record: Vec<u8>,
    /// It was told to be done, and is given again to hear the same.
    confirmed: bool,
}

/// One try.
struct Try {
    way: usize,
    courier: Courier,
    is_read: bool,
    /// When the host loses patience and gives the record elsewhere.
    until: Time,
}

pub struct Giver {
    number: u16,
    actor: usize,
    uuids: [Uuid; 2],
    ways: Vec<Way>,
    steps: u32,
    array: usize,
    next: Kind,
    /// The change that comes after the look.
    name: String,
    names: u32,
    task: Option<Task>,
    at: Option<Try>,
    settled: u64,
    truth: Rc<RefCell<Truth>>,
    rng: Rng,
}

impl Giver {
    pub fn new(
        number: u16,
        uuids: [Uuid; 2],
        arena: &Arena,
        steps: u32,
        truth: Rc<RefCell<Truth>>,
        rng: Rng,
    ) -> Self {
        let ways = vec![
            Way::new(number, OWN, 0, &[0, 1], arena),
            Way::new(number, FAR, 0, &[1], arena),
            Way::new(number, FAR, 1, &[1], arena),
        ];
        Self {
            number,
            actor: 0,
            uuids,
            ways,
            steps,
            array: 1,
            next: Kind::Create,
            name: String::new(),
            names: 0,
            task: None,
            at: None,
            settled: 0,
            truth,
            rng,
        }
    }

    fn random_id(&mut self) -> Uuid {
        Uuid::from_u128(u128::from(self.rng.word()) << 64 | u128::from(self.rng.word()))
    }

    /// The next record: who looks learns the generation for the change that comes next.
    fn begin(&mut self, kind: Kind, generation: u64) -> Result<(), String> {
        let (order, parameters) = match kind {
            Kind::Look => ("arrays", Parameters::new()),
            Kind::Create => (
                "volume-create",
                Parameters::new().text(Tag::Name, &self.name).number(Tag::SizeBytes, 1 << 20),
            ),
            Kind::Resize => (
                "volume-resize",
                Parameters::new().text(Tag::Volume, &self.name).number(Tag::SizeBytes, 2 << 20),
            ),
            Kind::Delete => ("volume-delete", Parameters::new().text(Tag::Volume, &self.name)),
        };
        let order = Order::by_name(order).ok_or("no such order")?;
        let id = self.random_id();
        let mut request = Request::new(order.number, id, Uuid::from_u128(u128::from(self.number) + 1));
        request.target = self.uuids[self.array];
        request.edit_data = false;
        request.parameters = parameters;
        if kind != Kind::Look {
            request.generation = generation;
        }
        let record = request.encode().map_err(|error| error.to_string())?;
        self.task = Some(Task { kind, id, record, confirmed: false });
        Ok(())
    }

    fn choose(&mut self, now: Time) {
        let Some(task) = &self.task else { return };
        let fitting: Vec<usize> =
            (0..self.ways.len()).filter(|way| self.ways[*way].leads_to.contains(&self.array)).collect();
        let Some(&way) = self.rng.pick(&fitting) else { return };
        let patience = Duration::from_secs(self.rng.between(2, 12));
        let courier = Courier::new(&task.record, patience, self.rng.word(), now);
        let until = now
            + if self.rng.one_in(4) {
                Duration::from_nanos(self.rng.skewed(100_000, 3_000_000_000))
            } else {
                Duration::from_secs(30)
            };
        self.truth.borrow_mut().again += 1;
        self.at = Some(Try { way, courier, is_read: false, until });
    }

    /// What is to be done until something comes; when to look again.
    fn go_on(&mut self, now: Time) -> Result<Time, String> {
        for _ in 0..64 {
            if self.task.is_none() {
                if self.steps == 0 {
                    return Ok(Time::NEVER);
                }
                self.begin(Kind::Look, 0)?;
            }
            if self.at.is_none() {
                self.choose(now);
            }
            let Some(at) = &mut self.at else { return Ok(Time::NEVER) };
            let way = &mut self.ways[at.way];
            if way.busy {
                return Ok(Time::NEVER);
            }
            if let Some(ended) = way.ended.take() {
                if at.is_read {
                    at.courier.read(ended.as_deref().map_err(|failure| *failure), now);
                } else {
                    at.courier.written(ended.map(drop), now);
                }
            }
            if now >= at.until {
                self.at = None;
                continue;
            }
            match at.courier.step(now, way.shape.map(|(bytes, _)| bytes)) {
                Step::Wait(until) => return Ok(until.min(at.until)),
                Step::Write(place, data) => {
                    at.is_read = false;
                    way.command(0x8a, place, &data, 0, now);
                }
                Step::Read(place, len) => {
                    at.is_read = true;
                    way.command(0x88, place, &[], len, now);
                }
                Step::Done(outcome) => {
                    self.at = None;
                    // Without a result it is given again.
                    if let Ok(bytes) = outcome {
                        self.result(&bytes)?;
                    }
                }
            }
        }
        Ok(now + Duration::from_micros(10))
    }

    fn result(&mut self, bytes: &[u8]) -> Result<(), String> {
        let result = OrderResult::decode(bytes).map_err(|error| error.to_string())?;
        let Some(task) = &mut self.task else { return Ok(()) };
        if result.id != task.id {
            return Err(format!("a result of {} in place of {}", result.id, task.id));
        }
        if matches!(result.code, Code::Busy | Code::TimedOut | Code::Unreachable | Code::UnknownArray) {
            return Ok(());
        }
        let (kind, id) = (task.kind, task.id);
        let made = self.truth.borrow().made[self.array].contains(&id);
        match (kind, result.code) {
            (Kind::Look, Code::Done) => {
                if result.array != self.uuids[self.array] {
                    return Err("another array answers".to_owned());
                }
                if self.next == Kind::Create {
                    self.names += 1;
                    self.name = format!("v{}-{}", self.number, self.names);
                }
                return self.begin(self.next, result.generation);
            }
            (_, Code::Done) if !made => return Err(format!("{id} ({kind:?}) is told to be done and is not")),
            (_, Code::Done) if !task.confirmed && self.rng.one_in(3) => {
                // The result was read, the slot is free: the same bytes once more.
                task.confirmed = true;
                return Ok(());
            }
            (_, Code::Done) => {}
            (Kind::Create | Kind::Resize | Kind::Delete, code) if made => {
                return Err(format!("{id} ({kind:?}) is told to be {code}, and was done"));
            }
            (_, Code::Stale) => {
                // Nothing was done: with another name, so that it shows if it was.
                self.task = None;
                return Ok(());
            }
            (_, code) => return Err(format!("{kind:?} {id}: {code}: {}", result.message)),
        }
        let mut truth = self.truth.borrow_mut();
        truth.done += 1;
        let told = &mut truth.told[self.array];
        self.next = match kind {
            Kind::Look | Kind::Create => {
                told.insert(self.name.clone(), 1 << 20);
                Kind::Resize
            }
            Kind::Resize => {
                told.insert(self.name.clone(), 2 << 20);
                if self.rng.one_in(5) { Kind::Create } else { Kind::Delete }
            }
            Kind::Delete => {
                told.remove(&self.name);
                Kind::Create
            }
        };
        drop(truth);
        if self.next == Kind::Create {
            self.array = usize::from(!self.rng.one_in(4));
        }
        self.task = None;
        self.settled += 1;
        self.steps -= 1;
        Ok(())
    }
}

impl Actor for Giver {
    fn joined(&mut self, _world: &World, number: usize) {
        self.actor = number;
    }

    fn act(&mut self, world: &World) -> Result<Time, String> {
        let address = |way: usize| {
            let last = u8::try_from(self.number).unwrap_or(0);
            SocketAddr::from(([127, 0, 1, last], 1 + u16::try_from(way).unwrap_or(0)))
        };
        let addresses: Vec<SocketAddr> = (0..self.ways.len()).map(address).collect();
        let mut next = Time::NEVER;
        for (way, address) in self.ways.iter_mut().zip(&addresses) {
            next = next.min(way.look(world, self.actor, *address, &mut self.rng));
        }
        next = next.min(self.go_on(world.now())?);
        // What it wants to say now.
        for (way, address) in self.ways.iter_mut().zip(&addresses) {
            next = next.min(way.look(world, self.actor, *address, &mut self.rng));
        }
        Ok(next)
    }

    fn crashed(&mut self, _world: &World, _power: bool) {}

    fn settle(&mut self, _world: &World) {}

    fn is_done(&self) -> bool {
        self.steps == 0 && self.task.is_none()
    }

    fn progress(&self) -> u64 {
        self.settled
    }
}
