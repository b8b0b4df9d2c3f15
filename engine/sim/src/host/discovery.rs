//! A host that only asks which targets there are: discovery sessions (RFC 7143 4.3), over and over.

use super::Trouble;
use super::link::{Link, Stage};
use super::plan::{self, HostPlan};
use crate::coverage::Happening;
use crate::net::ConnId;
use crate::rng::Rng;
use crate::run::Actor;
use crate::trace::Who;
use crate::world::World;
use kagami_iscsi::discovery::{SendTargets, Wanted};
use kagami_iscsi::login::{InitiatorConfig, InitiatorError, InitiatorLogin};
use kagami_iscsi::pdu::{Cid, Isid, Itt};
use kagami_iscsi::serial::CmdSn;
use kagami_types::Time;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a question may take before it is given up.
const PATIENCE: u64 = 60_000_000_000;

/// A host without volumes.
#[derive(Debug)]
pub struct Asker {
    plan: HostPlan,
    rng: Rng,
    actor: usize,
    link: Option<(Link, SendTargets, CmdSn)>,
    since: Time,
    /// Questions that it still asks.
    left: u32,
    answered: u64,
}

impl Asker {
    /// A host that asks so many times. Of the plan, its identity and the target's are used.
    #[must_use]
    pub fn new(plan: HostPlan, rng: Rng, questions: u32) -> Self {
        Self { plan, rng, actor: 0, link: None, since: Time(0), left: questions, answered: 0 }
    }

    fn open(&mut self, world: &World) -> Result<(), String> {
        let Some(&portal) = self.rng.pick(&self.plan.portals) else { return Ok(()) };
        let port = u16::try_from(self.rng.between(1024, 65535)).unwrap_or(1024);
        let conn: ConnId = world.connect(self.actor, SocketAddr::new(self.plan.address, port), portal);
        let [high, low] = self.plan.number.to_be_bytes();
        let isid = Isid([0x80, 0, high, low, 0, 2]);
        let cmd_sn = CmdSn(1);
        let config = InitiatorConfig {
            cid: Cid(1),
            itt: Itt(1),
            cmd_sn,
            preferences: plan::preferences(&mut self.rng, 1, self.plan.plain),
            account: self.plan.account.clone(),
            ..InitiatorConfig::new(self.plan.name.clone(), None, isid)
        };
        let login =
            InitiatorLogin::new(config, &mut self.rng).map_err(|error| format!("no login: {error}"))?;
        let wanted = if self.rng.one_in(2) { Wanted::All } else { Wanted::Named(self.plan.target.clone()) };
        let link = Link::new(conn, Cid(1), login, world.now());
        self.link = Some((link, SendTargets::new(Itt(2), &wanted), cmd_sn));
        self.since = world.now();
        Ok(())
    }

    /// Moves bytes; true when the question is answered.
    fn serve(&mut self, world: &World) -> Result<bool, Trouble> {
        let Some((link, question, cmd_sn)) = &mut self.link else { return Ok(false) };
        let broken = link.receive(world);
        while let Some(pdu) = link.next(world)? {
            let Stage::Login(login) = &mut link.stage else {
                let stat_sn = pdu.bhs.as_text_response().stat_sn.into();
                match question.on_pdu(&pdu.bhs, &pdu.data) {
                    Ok(None) => link.exp_stat_sn = stat_sn,
                    Ok(Some(found)) => {
                        let names: Vec<_> = found.iter().map(|target| &target.name).collect();
                        if names == [&self.plan.target] {
                            return Ok(true);
                        }
                        return Err(Trouble::Wrong(format!("discovery found {found:?}")));
                    }
                    // A ping of the target's: it would be answered, were it not over by then.
                    Err(_) if pdu.bhs.opcode() == Some(kagami_iscsi::pdu::Opcode::NopIn) => {}
                    Err(_) if pdu.bhs.opcode() == Some(kagami_iscsi::pdu::Opcode::Async) => {
                        return Err(Trouble::Lost("the target asks to leave"));
                    }
                    Err(error) => return Err(Trouble::Wrong(format!("discovery: {error}"))),
                }
                link.exp_stat_sn = link.exp_stat_sn.next();
                continue;
            };
            match login.on_pdu(&pdu.bhs, &pdu.data) {
                Ok(None) => {}
                Ok(Some(established)) => {
                    link.parameters = established.parameters;
                    link.exp_stat_sn = established.exp_stat_sn;
                    link.stage = Stage::Full;
                }
                Err(InitiatorError::Refused { class: 3, .. }) => return Err(Trouble::Lost("refused")),
                Err(error) => return Err(Trouble::Wrong(format!("in the login for discovery: {error}"))),
            }
        }
        broken?;
        if let Stage::Login(login) = &mut link.stage {
            if let Some(pdu) = login.poll_transmit() {
                link.push(&pdu.bhs, &pdu.data);
            }
        } else if let Some(pdu) = question.poll_transmit(*cmd_sn, link.exp_stat_sn) {
            link.push(&pdu.bhs, &pdu.data);
            *cmd_sn = cmd_sn.next();
        }
        link.send(world)?;
        Ok(false)
    }

    fn hang_up(&mut self, world: &World) {
        if let Some((link, ..)) = self.link.take() {
            world.abort(link.conn);
        }
    }
}

impl Actor for Asker {
    fn joined(&mut self, _world: &World, number: usize) {
        self.actor = number;
    }

    fn act(&mut self, world: &World) -> Result<Time, String> {
        if self.link.is_none() {
            if self.left == 0 {
                return Ok(Time::NEVER);
            }
            self.open(world)?;
            return Ok(world.now());
        }
        let pause = self.rng.skewed(10_000, 2_000_000_000);
        let later = world.now() + Duration::from_nanos(pause);
        match self.serve(world) {
            Ok(true) => {
                world.hit(Happening::Discovered);
                (self.left, self.answered) = (self.left - 1, self.answered + 1);
                self.hang_up(world);
                Ok(later)
            }
            Ok(false) if world.now().nanos_since(self.since) > PATIENCE => {
                self.hang_up(world);
                Ok(later)
            }
            Ok(false) => Ok(later),
            Err(Trouble::Lost(why)) => {
                world.note(Who::Host(self.plan.number), why, [0; 3]);
                self.hang_up(world);
                Ok(later)
            }
            Err(Trouble::Wrong(what)) => Err(format!("host {}: {what}", self.plan.number)),
        }
    }

    fn crashed(&mut self, _world: &World, _power: bool) {}

    fn settle(&mut self, _world: &World) {
        self.left = self.left.max(1);
    }

    fn is_done(&self) -> bool {
        self.left == 0
    }

    fn progress(&self) -> u64 {
        self.answered
    }
}
