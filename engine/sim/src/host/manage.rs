//! What a session does besides commands: task management, pings, text and good-byes.

use super::Trouble;
use super::link::{Incoming, zeroed};
use super::plan::HostPlan;
use super::session::{Session, wrong};
use super::task::Task;
use crate::checker::{ModeChange, ModeEnding};
use crate::coverage::Happening;
use crate::rng::Rng;
use crate::trace::Who;
use crate::world::World;
use kagami_iscsi::discovery::{SendTargets, Wanted};
use kagami_iscsi::pdu::{
    Bhs, Itt, LogoutReason, LogoutRequest, NopOut, RejectReason, TaskManagementRequest, TmfFunction,
    TmfResponse, Ttt,
};
use kagami_iscsi::serial::CmdSn;

/// The I bit.
const IMMEDIATE: u8 = 0x40;

/// A task management function on its way.
#[derive(Debug)]
pub(super) enum Managing {
    /// ABORT TASK.
    Abort(Itt),
    /// One that ends tasks of a unit: of this session or of all.
    Unit(TmfFunction, usize, Option<ModeChange>),
    /// One that ends the tasks of all units.
    Target(TmfFunction, Vec<ModeChange>),
}

impl Session {
    fn manage(
        &mut self,
        link: usize,
        function: TmfFunction,
        lun: [u8; 8],
        referenced: Option<(Itt, CmdSn)>,
    ) -> Option<Itt> {
        let itt = self.new_itt();
        let cmd_sn = self.cmd_sn;
        let link = self.links.get_mut(link)?;
        let header = TaskManagementRequest {
            opcode: IMMEDIATE | TaskManagementRequest::OPCODE.number(),
            function: 0x80 | u8::from(function),
            lun,
            itt: itt.into(),
            referenced_tag: referenced.map_or(Itt::RESERVED, |(itt, _)| itt).into(),
            cmd_sn: cmd_sn.into(),
            exp_stat_sn: link.exp_stat_sn.into(),
            ref_cmd_sn: referenced.map_or(CmdSn(0), |(_, sn)| sn).into(),
            ..zeroed()
        };
        link.push(&header.into(), &[]);
        Some(itt)
    }

    /// Asks for the end of a task.
    pub(super) fn abort(&mut self, plan: &HostPlan, itt: Itt) {
        let Some(task) = self.tasks.get(&itt.0).filter(|task| task.aborting.is_none()) else { return };
        let (cid, sn, unit) = (task.cid, task.cmd_sn, task.unit);
        let Some(link) = self.links.iter().position(|link| link.cid == cid) else { return };
        let lun = plan.luns.get(unit).map_or([0; 8], |unit| unit.lun.to_wire());
        let Some(tag) = self.manage(link, TmfFunction::AbortTask, lun, Some((itt, sn))) else { return };
        self.managing.insert(tag.0, Managing::Abort(itt));
        if let Some(task) = self.tasks.get_mut(&itt.0) {
            task.aborting = Some(tag);
        }
    }

    /// Whether a function for more than one task is on its way: a command that is sent meanwhile may
    /// or may not be ended by it, and nobody would say so.
    pub(super) fn is_resetting(&self) -> bool {
        self.managing.values().any(|managing| !matches!(managing, Managing::Abort(_)))
    }

    /// Asks for the end of many tasks. Only with one connection: over several, commands of the others
    /// may overtake it.
    pub(super) fn reset(&mut self, plan: &HostPlan, rng: &mut Rng, unit: usize) {
        if self.links.len() != 1 || !self.managing.is_empty() {
            return;
        }
        let Some(target) = plan.luns.get(unit) else { return };
        let function = match rng.below(16) {
            0..4 => TmfFunction::AbortTaskSet,
            4..8 => TmfFunction::ClearTaskSet,
            8..13 => TmfFunction::LogicalUnitReset,
            _ if plan.exact => TmfFunction::TargetWarmReset,
            13..15 => TmfFunction::TargetWarmReset,
            _ => TmfFunction::TargetColdReset,
        };
        let Some(tag) = self.manage(0, function, target.lun.to_wire(), None) else { return };
        let managing = match function {
            TmfFunction::TargetWarmReset | TmfFunction::TargetColdReset => {
                let changes = plan.luns.iter().map(|unit| unit.checker.begin_mode(None, false));
                Managing::Target(function, changes.collect())
            }
            TmfFunction::LogicalUnitReset => {
                Managing::Unit(function, unit, Some(target.checker.begin_mode(None, false)))
            }
            _ => Managing::Unit(function, unit, None),
        };
        self.managing.insert(tag.0, managing);
    }

    /// The session is over: nobody knows what became of the functions on their way.
    pub(super) fn forget_functions(&mut self, plan: &HostPlan) {
        for managing in std::mem::take(&mut self.managing).into_values() {
            end_modes(
                plan,
                &managing,
                if plan.loose_changes { ModeEnding::Lost } else { ModeEnding::Unknown },
            );
        }
    }

    /// Pings the target on a connection.
    pub(super) fn ping(&mut self, at: usize, world: &World, rng: &mut Rng) {
        let itt = self.new_itt();
        let cmd_sn = self.cmd_sn;
        let immediate = rng.one_in(2) || !self.window_is_open() || self.is_resetting();
        if !immediate {
            self.cmd_sn = cmd_sn.next();
        }
        let Some(link) = self.links.get_mut(at) else { return };
        let header = NopOut {
            opcode: if immediate { IMMEDIATE } else { 0 } | NopOut::OPCODE.number(),
            flags: 0x80,
            itt: itt.into(),
            ttt: Ttt::RESERVED.into(),
            cmd_sn: cmd_sn.into(),
            exp_stat_sn: link.exp_stat_sn.into(),
            ..zeroed()
        };
        link.push(&header.into(), b"are you there?");
        link.ping = Some((itt, world.now()));
    }

    /// Asks on a connection where the session's own target is.
    pub(super) fn ask(&mut self, at: usize) {
        let itt = self.new_itt();
        // One that still logs in has no digests yet, and may ask nothing.
        let Some(link) = self.links.get(at).filter(|link| link.is_full()) else { return };
        self.question = Some((link.cid, SendTargets::new(itt, &Wanted::Own)));
        self.go_on_asking(at);
    }

    fn go_on_asking(&mut self, at: usize) {
        let cmd_sn = self.cmd_sn;
        let Some(link) = self.links.get_mut(at) else { return };
        let Some((_, question)) = &mut self.question else { return };
        if let Some(pdu) = question.poll_transmit(cmd_sn, link.exp_stat_sn) {
            link.push(&pdu.bhs, &pdu.data);
            self.cmd_sn = cmd_sn.next();
        }
    }

    pub(super) fn on_text(
        &mut self,
        plan: &HostPlan,
        world: &World,
        at: usize,
        pdu: &Incoming,
    ) -> Result<(), Trouble> {
        self.stat_sn(at, pdu.bhs.as_text_response().stat_sn.into())?;
        let Some((_, question)) = &mut self.question else { return wrong("an answer to no question") };
        match question.on_pdu(&pdu.bhs, &pdu.data) {
            Ok(None) => self.go_on_asking(at),
            Ok(Some(found)) => {
                self.question = None;
                let names: Vec<_> = found.iter().map(|target| &target.name).collect();
                if names != [&plan.target]
                    || found.iter().any(|target| target.addresses.len() != plan.portals.len())
                {
                    return wrong(format!("the target says that there is {found:?}"));
                }
                world.hit(Happening::TextAsked);
            }
            Err(error) => return wrong(format!("asked for targets: {error}")),
        }
        Ok(())
    }

    /// Says good-bye.
    pub(super) fn log_out(&mut self) {
        let itt = self.new_itt();
        let cmd_sn = self.cmd_sn;
        let Some(link) = self.links.iter_mut().find(|link| link.is_full()) else { return };
        let header = LogoutRequest {
            opcode: IMMEDIATE | LogoutRequest::OPCODE.number(),
            reason: 0x80 | u8::from(LogoutReason::CloseSession),
            itt: itt.into(),
            cmd_sn: cmd_sn.into(),
            exp_stat_sn: link.exp_stat_sn.into(),
            ..zeroed()
        };
        link.push(&header.into(), &[]);
        self.logout = Some(itt);
    }

    pub(super) fn on_nop_in(&mut self, world: &World, at: usize, pdu: &Incoming) -> Result<(), Trouble> {
        let header = pdu.bhs.as_nop_in();
        let (itt, ttt) = (pdu.bhs.itt(), Ttt::from(header.ttt));
        let cmd_sn = self.cmd_sn;
        if !itt.is_reserved() {
            self.stat_sn(at, header.stat_sn.into())?;
            let Some(link) = self.links.get_mut(at) else { return Ok(()) };
            if link.ping.is_none_or(|(sent, _)| sent != itt) || pdu.data != b"are you there?" {
                return wrong("an answer to a ping that was not sent");
            }
            link.ping = None;
            world.hit(Happening::NopAnswered);
            return Ok(());
        }
        let Some(link) = self.links.get_mut(at) else { return Ok(()) };
        if link.exp_stat_sn != header.stat_sn.into() {
            return wrong("a ping with another StatSN than the next");
        }
        world.hit(Happening::NopFromTarget);
        if !ttt.is_reserved() {
            let answer = NopOut {
                opcode: IMMEDIATE | NopOut::OPCODE.number(),
                flags: 0x80,
                lun: header.lun,
                itt: Itt::RESERVED.into(),
                ttt: ttt.into(),
                cmd_sn: cmd_sn.into(),
                exp_stat_sn: link.exp_stat_sn.into(),
                ..zeroed()
            };
            link.push(&answer.into(), &[]);
        }
        Ok(())
    }

    pub(super) fn on_managed(
        &mut self,
        plan: &HostPlan,
        world: &World,
        at: usize,
        bhs: &Bhs,
    ) -> Result<(), Trouble> {
        let header = bhs.as_task_management_response();
        self.stat_sn(at, header.stat_sn.into())?;
        let Some(managing) = self.managing.remove(&bhs.itt().0) else {
            return wrong("a task management response without a request");
        };
        let response = header.response();
        let (of, which) = match &managing {
            Managing::Abort(itt) => (u64::from(itt.0), 1),
            Managing::Unit(function, unit, _) => (*unit as u64, u64::from(u8::from(*function))),
            Managing::Target(function, _) => (0, u64::from(u8::from(*function))),
        };
        let numbers = [of, which, u64::from(header.response)];
        world.note(Who::Host(plan.number), "managed: tag or unit, function, response", numbers);
        match (&managing, response) {
            (Managing::Abort(itt), Ok(TmfResponse::FunctionComplete)) => {
                world.hit(Happening::TaskAborted);
                self.drop_tasks(plan, world, |task| task.itt == *itt);
            }
            (Managing::Abort(itt), Ok(TmfResponse::TaskDoesNotExist)) => {
                // Then its answer came before this one (RFC 7143 11.6.1).
                if self.tasks.contains_key(&itt.0) && !plan.resets {
                    return wrong(format!("task {itt} is said not to exist, and was not answered"));
                }
                world.hit(Happening::AbortTooLate);
                // Or a function of another host has ended it without a word (SAM-5 5.6).
                self.drop_tasks(plan, world, |task| task.itt == *itt);
            }
            (Managing::Unit(function, unit, _), Ok(TmfResponse::FunctionComplete)) => {
                world.hit(match function {
                    TmfFunction::AbortTaskSet => Happening::TaskSetAborted,
                    TmfFunction::ClearTaskSet => Happening::TaskSetCleared,
                    _ => Happening::LunReset,
                });
                let kept = |task: &Task| plan.loose_changes && task.changes_unit();
                self.drop_tasks(plan, world, |task| task.unit == *unit && !kept(task));
            }
            (Managing::Target(function, _), Ok(TmfResponse::FunctionComplete)) => {
                let cold = *function == TmfFunction::TargetColdReset;
                world.hit(if cold { Happening::ColdReset } else { Happening::WarmReset });
                let kept = |task: &Task| plan.loose_changes && task.changes_unit();
                self.drop_tasks(plan, world, |task| !kept(task));
            }
            _ => return wrong(format!("{managing:?} was answered with {response:?}")),
        }
        end_modes(plan, &managing, if plan.loose_changes { ModeEnding::Lost } else { ModeEnding::Done });
        Ok(())
    }

    /// Tasks that the target has ended without an answer of their own.
    fn drop_tasks(&mut self, plan: &HostPlan, world: &World, which: impl Fn(&Task) -> bool) {
        let gone: Vec<u32> = self.tasks.iter().filter(|(_, task)| which(task)).map(|(itt, _)| *itt).collect();
        for itt in gone {
            self.links.iter_mut().for_each(|link| link.runs.retain(|run| run.itt.0 != itt));
            if let Some(task) = self.tasks.remove(&itt) {
                task.forget(plan, world.now(), |what| world.hit(what));
            }
        }
    }

    pub(super) fn on_reject(&mut self, world: &World, at: usize, bhs: &Bhs) -> Result<(), Trouble> {
        let header = bhs.as_reject();
        self.stat_sn(at, header.stat_sn.into())?;
        let flipped = self.links.get(at).is_some_and(|link| world.was_flipped(link.conn));
        if flipped && header.reason() == Ok(RejectReason::DataDigestError) {
            world.hit(Happening::DigestErrorTold);
            return Err(Trouble::Lost("a data digest error was rejected"));
        }
        wrong(format!("a PDU was rejected: {:?}", header.reason()))
    }
}

/// Resets have set the WCE bit back, or nobody knows.
fn end_modes(plan: &HostPlan, managing: &Managing, ending: ModeEnding) {
    match managing {
        Managing::Abort(_) => {}
        Managing::Unit(_, unit, change) => {
            if let (Some(unit), Some(change)) = (plan.luns.get(*unit), change) {
                unit.checker.end_mode(change, ending);
            }
        }
        Managing::Target(_, changes) => {
            for (unit, change) in plan.luns.iter().zip(changes) {
                unit.checker.end_mode(change, ending);
            }
        }
    }
}
