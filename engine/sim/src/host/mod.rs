//! A host: an iSCSI initiator with a random workload, which checks everything it gets.
//!
//! It logs in with random parameters, opens further connections, sends random commands with
//! stamped blocks, has every block that it reads judged by the [checker](crate::checker), and holds
//! the target to the protocol on the way. When a connection breaks, its session is over (error
//! recovery level 0), and it reinstates it with the same ISID: some of the time after closing the
//! other connections, some of the time over their heads.
//!
//! | file | what |
//! | --- | --- |
//! | `plan` | who the host is and what it may use |
//! | `link` | a connection: bytes, PDUs, data to be sent |
//! | `session` | numbers, tasks, what a PDU that comes means |
//! | `manage` | task management, pings, text, good-byes |
//! | `task` | a command, from CDB to judgement |
//! | `workload`, `modes` | which command comes next: for blocks, for modes and reservations |
//! | `ready` | what is said of a unit whose device goes and comes back |
//! | `sweep` | reading all that was written |
//! | `discovery` | a host that only asks which targets there are |

mod discovery;
mod link;
mod manage;
mod modes;
mod plan;
mod ready;
mod session;
mod sweep;
mod task;
mod workload;

pub use discovery::Asker;
pub use plan::{HostPlan, LunPlan};

use crate::coverage::Happening;
use crate::net::ConnId;
use crate::rng::Rng;
use crate::run::Actor;
use crate::trace::Who;
use crate::world::World;
use kagami_iscsi::login::{Established, InitiatorConfig, InitiatorError, InitiatorLogin};
use kagami_iscsi::pdu::{Isid, Itt, Tsih};
use kagami_types::Time;
use link::{Link, Stage};
use session::Session;
use std::net::SocketAddr;
use std::time::Duration;
use sweep::Sweep;
use task::Task;
use workload::{Kind, Wish};

/// Why a session cannot go on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The connection is gone: to be expected.
    Lost(&'static str),
    /// The target did what it must not do: the run fails.
    Wrong(String),
}

/// How far a host is.
#[derive(Debug)]
enum Phase {
    /// Without a session until then.
    Away(Time),
    /// With one, or on the way to it.
    In(Box<Session>),
    /// Done with everything.
    Gone,
}

/// An initiator with its workload.
#[derive(Debug)]
pub struct Host {
    plan: HostPlan,
    rng: Rng,
    actor: usize,
    phase: Phase,
    isid: Isid,
    /// Tasks of a session that is lost: they end when it has been reinstated.
    orphans: Vec<Task>,
    /// A session was lost that the target may still have.
    lost: bool,
    /// Connections of a lost session that were left open.
    left_open: Vec<ConnId>,
    sweep: Option<Sweep>,
    /// Commands one after the other through a unit: the unit, the next, and how many are left.
    stream: Option<(usize, Wish, u32)>,
    budget: u32,
    finished: u64,
    settling: bool,
}

/// How long a login may take.
const LOGIN_PATIENCE: u64 = 40_000_000_000;
/// After how long a silence the target is pinged, and how long it has to answer.
const PING_AFTER: u64 = 8_000_000_000;
const PING_PATIENCE: u64 = 20_000_000_000;
impl Host {
    /// A host that does what the random numbers say.
    #[must_use]
    pub fn new(plan: HostPlan, rng: Rng) -> Self {
        let [high, low] = plan.number.to_be_bytes();
        let budget = plan.commands;
        Self {
            plan,
            rng,
            actor: 0,
            phase: Phase::Away(Time(0)),
            // A random ISID type (RFC 7143 11.12.5), the same for the host's whole life.
            isid: Isid([0x80, 0, high, low, 0, 1]),
            orphans: Vec::new(),
            lost: false,
            left_open: Vec::new(),
            sweep: None,
            stream: None,
            budget,
            finished: 0,
            settling: false,
        }
    }

    fn note(&self, world: &World, what: &'static str, numbers: [u64; 3]) {
        world.note(Who::Host(self.plan.number), what, numbers);
    }

    fn open(&mut self, world: &World, session: &mut Session) -> Result<(), Trouble> {
        let Some(&portal) = self.rng.pick(&self.plan.portals) else { return Ok(()) };
        let port = u16::try_from(self.rng.between(1024, 65535)).unwrap_or(1024);
        let conn = world.connect(self.actor, SocketAddr::new(self.plan.address, port), portal);
        let cid = session.new_cid();
        // Now and then a connection wants to join a session that is not there: it is refused.
        let astray = session.tsih != Tsih(0) && self.rng.one_in(30);
        let tsih = if astray { Tsih(session.tsih.0 ^ 0x4000) } else { session.tsih };
        let config = InitiatorConfig {
            tsih,
            cid,
            itt: session.new_itt(),
            cmd_sn: session.cmd_sn,
            preferences: plan::preferences(&mut self.rng, self.plan.connections, self.plan.plain),
            account: self.plan.account.clone(),
            max_segment: usize::try_from(self.rng.skewed(16, 8192)).unwrap_or(8192),
            ..InitiatorConfig::new(self.plan.name.clone(), Some(self.plan.target.clone()), session.isid)
        };
        self.note(world, "connects: connection, CID", [conn.0.into(), cid.0.into(), 0]);
        let login = InitiatorLogin::new(config, &mut self.rng)
            .map_err(|error| Trouble::Wrong(format!("no login: {error}")))?;
        session.links.push(Link::new(conn, cid, login, world.now()));
        Ok(())
    }

    /// Moves bytes both ways on one connection and acts on them.
    fn serve(&mut self, world: &World, session: &mut Session, at: usize) -> Result<(), Trouble> {
        let Some(link) = session.links.get_mut(at) else { return Ok(()) };
        let broken = link.receive(world);
        while let Some(link) = session.links.get_mut(at) {
            let Some(pdu) = link.next(world)? else { break };
            if link.is_full() {
                session.on_pdu(&self.plan, world, at, &pdu)?;
                if session.left {
                    return Ok(());
                }
                continue;
            }
            let Stage::Login(login) = &mut link.stage else { break };
            match login.on_pdu(&pdu.bhs, &pdu.data) {
                Ok(None) => {}
                Ok(Some(established)) => self.established(world, session, at, &established),
                Err(InitiatorError::Refused { class, detail }) => {
                    self.note(world, "login refused: class, detail", [class.into(), detail.into(), 0]);
                    world.hit(Happening::LoginFailed);
                    // Only what has to do with time and room can pass: a session that is not there
                    // (any more), too many connections, a target that cannot serve now.
                    if !matches!((class, detail), (2, 0x06 | 0x0a) | (3, _)) {
                        return Err(Trouble::Wrong(format!("login refused: {class:#04x} {detail:#04x}")));
                    }
                    return Err(Trouble::Lost("login refused"));
                }
                Err(error) => return Err(Trouble::Wrong(format!("in the login: {error}"))),
            }
        }
        broken?;
        let Some(link) = session.links.get_mut(at) else { return Ok(()) };
        if let Stage::Login(login) = &mut link.stage
            && let Some(pdu) = login.poll_transmit()
        {
            link.push(&pdu.bhs, &pdu.data);
        }
        session.push_data(at, &mut self.rng);
        session.links.get_mut(at).map_or(Ok(()), |link| link.send(world))
    }

    fn established(&mut self, world: &World, session: &mut Session, at: usize, login: &Established) {
        let leading = session.parameters.is_none();
        let Some(link) = session.links.get_mut(at) else { return };
        link.parameters = match &session.parameters {
            Some(parameters) => login.parameters.joined_to(parameters),
            None => login.parameters,
        };
        link.stage = Stage::Full;
        link.exp_stat_sn = login.exp_stat_sn;
        let digests = (link.parameters.header_digest, link.parameters.data_digest);
        let numbers = [u64::from(login.tsih.0), u64::from(digests.0), u64::from(digests.1)];
        world.note(Who::Host(self.plan.number), "logged in: TSIH, digests", numbers);
        if digests.0 {
            world.hit(Happening::HeaderDigests);
        }
        if digests.1 {
            world.hit(Happening::DataDigests);
        }
        if digests == (true, true) {
            world.allow_flip(link.conn);
        }
        if !leading {
            world.hit(Happening::SecondConnection);
            return;
        }
        world.hit(Happening::Login);
        session.parameters = Some(login.parameters);
        session.tsih = login.tsih;
        session.established(login.max_cmd_sn);
        if std::mem::take(&mut self.lost) {
            world.hit(Happening::Reinstatement);
        }
        // The old session's tasks have ended with it.
        for task in self.orphans.drain(..) {
            task.forget(&self.plan, world.now(), |what| world.hit(what));
        }
        for conn in self.left_open.drain(..) {
            world.abort(conn);
        }
    }

    /// The session is over, whatever the target thinks.
    fn lose(&mut self, world: &World, mut session: Session, at: usize, why: &'static str) {
        world.note(Who::Host(self.plan.number), why, [at as u64, session.tasks.len() as u64, 0]);
        world.hit(session.moment(at));
        self.lost |= session.parameters.is_some();
        self.orphans.extend(std::mem::take(&mut session.tasks).into_values());
        session.forget_functions(&self.plan);
        let keep = self.rng.one_in(2);
        for (number, link) in session.links.iter().enumerate() {
            if keep && number != at {
                self.left_open.push(link.conn);
            } else {
                world.abort(link.conn);
            }
        }
        self.go_away(world);
        if let Some(sweep) = &mut self.sweep {
            sweep.open = None;
        }
    }

    fn go_away(&mut self, world: &World) {
        let wait = self.rng.skewed(1_000, 2_000_000_000);
        self.phase = Phase::Away(world.now() + Duration::from_nanos(wait));
    }

    /// Looks after time-outs: of logins, of commands, and of a silent target.
    fn look_at_clock(&mut self, world: &World, session: &mut Session) -> Result<(), (usize, Trouble)> {
        let now = world.now();
        for at in 0..session.links.len() {
            let Some(link) = session.links.get(at) else { continue };
            if !link.is_full() {
                if link.age(now) > LOGIN_PATIENCE {
                    return Err((at, Trouble::Lost("the login takes too long")));
                }
            } else if let Some((_, since)) = link.ping {
                if now.nanos_since(since) > PING_PATIENCE {
                    return Err((at, Trouble::Lost("no answer to a ping")));
                }
            } else if now.nanos_since(link.last_heard) > PING_AFTER || self.rng.one_in(500) {
                session.ping(at, world, &mut self.rng);
            }
        }
        let late: Vec<(Itt, bool)> = session
            .tasks
            .values()
            .filter(|task| now.nanos_since(task.issued) > task.patience)
            .map(|task| (task.itt, now.nanos_since(task.issued) > task.patience + self.plan.patience))
            .collect();
        for (itt, hopeless) in late {
            if hopeless {
                if self.plan.prompt {
                    return Err((0, Trouble::Wrong(format!("task {itt} gets no answer"))));
                }
                world.hit(Happening::CommandTimeout);
                return Err((0, Trouble::Lost("a command takes too long")));
            }
            session.abort(&self.plan, itt);
        }
        Ok(())
    }

    /// Sends what there is to send.
    fn work(&mut self, world: &World, session: &mut Session) {
        let Some(parameters) = session.parameters else { return };
        let wanted = usize::from(parameters.max_connections.min(self.plan.connections));
        if session.links.len() < wanted && session.logout.is_none() && self.rng.one_in(4) {
            // A failed attempt leaves the session as it was.
            let _ = self.open(world, session);
        }
        let idle = session.tasks.is_empty() && session.links.iter().all(Link::is_flushed);
        let leave = if self.settling { self.sweep.is_none() } else { self.rng.one_in(2_000) };
        if leave && idle && session.logout.is_none() && session.links.iter().all(Link::is_full) {
            session.log_out();
        }
        for _ in 0..self.rng.between(0, 4) {
            let room = session.links.iter().filter(|link| link.is_full()).all(Link::has_room);
            if !room
                || session.logout.is_some()
                || session.is_resetting()
                || session.tasks.len() >= self.plan.depth
            {
                return;
            }
            if !session.window_is_open() {
                world.hit(Happening::WindowClosed);
                return;
            }
            if self.sweep.is_some() {
                self.sweep_on(world, session);
                return;
            }
            if self.settling || self.budget == 0 {
                return;
            }
            self.budget -= 1;
            if session.question.is_none() && self.rng.one_in(400) {
                session.ask(self.rng.index(session.links.len()));
                return;
            }
            self.next_command(world, session);
            let unit = self.rng.index(self.plan.luns.len());
            if self.rng.one_in(150) {
                let tasks: Vec<Itt> = session.tasks.values().map(|task| task.itt).collect();
                if let Some(itt) = self.rng.pick(&tasks) {
                    session.abort(&self.plan, *itt);
                }
            }
            if self.plan.resets && self.rng.one_in(3 * self.plan.unrest) {
                session.reset(&self.plan, &mut self.rng, unit);
            }
        }
    }

    /// Something new, or something that was refused again.
    fn next_command(&mut self, world: &World, session: &mut Session) {
        let rng = &mut self.rng;
        if rng.one_in(2)
            && let Some((unit, wish)) = session.again.pop()
            && let Some(order) = self.plan.luns.get(unit).and_then(|plan| plan.order(rng, wish))
        {
            world.hit(Happening::Retried);
            session.issue(&self.plan, world, rng, unit, order);
            return;
        }
        if let Some((unit, wish, left)) = self.stream.take()
            && let Some(plan) = self.plan.luns.get(unit)
            && wish.lba + wish.blocks <= plan.blocks
            && let Some(order) = plan.order(rng, wish)
        {
            if left > 0 {
                self.stream = Some((unit, Wish { lba: wish.lba + wish.blocks, ..wish }, left - 1));
            }
            session.issue(&self.plan, world, rng, unit, order);
            return;
        }
        let unit = rng.index(self.plan.luns.len());
        let Some(plan) = self.plan.luns.get(unit) else { return };
        if rng.one_in(60) {
            let kind = if rng.one_in(3) { Kind::Write } else { Kind::Read };
            let blocks = rng.between(1, 16.min(plan.longest));
            let lba = rng.below(plan.blocks / 2 + 1);
            self.stream = Some((unit, Wish { kind, lba, blocks }, rng.choose([8, 30])));
        }
        let order = if self.plan.modes && rng.one_in(self.plan.unrest) {
            plan.select_modes(rng)
        } else if self.plan.reserves && rng.one_in(self.plan.unrest) {
            let own = session.keys.get(&unit).copied().unwrap_or(0);
            plan.reserve(rng, self.plan.number, own)
        } else {
            plan.anything(rng)
        };
        session.issue(&self.plan, world, rng, unit, order);
    }

    /// One look around with a session.
    fn live(&mut self, world: &World, session: &mut Session) -> Result<(), (usize, Trouble)> {
        let mut at = 0;
        while at < session.links.len() {
            match self.serve(world, session, at) {
                Ok(()) => at += 1,
                // A connection that never got into the session leaves it as it is.
                Err(Trouble::Lost(_)) if session.links.len() > 1 && !session.links[at].is_full() => {
                    world.hit(session.moment(at));
                    let link = session.links.remove(at);
                    world.abort(link.conn);
                }
                Err(trouble) => return Err((at, trouble)),
            }
            if session.left {
                return Ok(());
            }
        }
        self.look_at_clock(world, session)?;
        self.work(world, session);
        for at in 0..session.links.len() {
            session.push_data(at, &mut self.rng);
            if let Some(link) = session.links.get_mut(at) {
                link.send(world).map_err(|trouble| (at, trouble))?;
            }
            if self.plan.heads.is_some() {
                session.note_out(at, world.now());
            }
        }
        Ok(())
    }
}

impl Actor for Host {
    fn joined(&mut self, _world: &World, number: usize) {
        self.actor = number;
    }

    fn act(&mut self, world: &World) -> Result<Time, String> {
        let now = world.now();
        match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Gone => return Ok(Time::NEVER),
            Phase::Away(until) if until > now => {
                self.phase = Phase::Away(until);
                return Ok(until);
            }
            Phase::Away(_) => {
                let mut session = Session::new(self.isid, &mut self.rng);
                session.tsih = Tsih(0);
                match self.open(world, &mut session) {
                    Ok(()) => self.phase = Phase::In(Box::new(session)),
                    Err(Trouble::Wrong(what)) => return Err(what),
                    Err(Trouble::Lost(_)) => self.go_away(world),
                }
                return Ok(now);
            }
            Phase::In(mut session) => {
                let before = session.finished;
                let failed = session.failed;
                let result = self.live(world, &mut session);
                self.finished += session.finished - before;
                if !self.settling {
                    self.finished += session.failed - failed;
                }
                match result {
                    Ok(()) if session.left => {
                        world.hit(Happening::Logout);
                        session.links.iter().for_each(|link| world.close(link.conn));
                        if !self.settling {
                            self.go_away(world);
                        }
                    }
                    Ok(()) => self.phase = Phase::In(session),
                    Err((_, Trouble::Wrong(what))) => {
                        return Err(format!("host {}: {what}", self.plan.number));
                    }
                    Err((at, Trouble::Lost(why))) => self.lose(world, *session, at, why),
                }
            }
        }
        // Something will wake it earlier if there is anything to receive.
        let wait = self.rng.skewed(1_000, if self.is_done() { 500_000_000 } else { 20_000_000 });
        Ok(now + Duration::from_nanos(wait))
    }

    fn crashed(&mut self, world: &World, _power: bool) {
        if let Phase::In(session) = &self.phase
            && !session.tasks.is_empty()
        {
            world.hit(Happening::CrashOpenCommands);
        }
        if self.sweep.is_none() && self.rng.one_in(2) {
            self.sweep = Some(Sweep::START);
        }
    }

    fn settle(&mut self, world: &World) {
        self.settling = true;
        self.sweep = Some(Sweep::START);
        self.note(world, "settles", [0; 3]);
    }

    fn is_done(&self) -> bool {
        match &self.phase {
            Phase::Gone => true,
            _ if self.settling => false,
            Phase::Away(_) => self.budget == 0 && self.sweep.is_none(),
            Phase::In(session) => self.budget == 0 && self.sweep.is_none() && session.tasks.is_empty(),
        }
    }

    fn progress(&self) -> u64 {
        self.finished
    }
}
