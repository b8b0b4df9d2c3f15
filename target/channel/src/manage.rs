//! Task management (RFC 7143 11.5, SAM-5 7).
//!
//! A function must not be answered while one of the tasks that it ended can still have an
//! effect, nor miss one that was on its way between two cores. So it goes in three steps: every
//! core ends the tasks of the scope that still collect their data, and then sends a fence along
//! the way that its commands take; a unit's core acts when the fences of all cores are there;
//! and answers when the last of the tasks is really over.

use crate::answer::Answer;
use crate::connection::Close;
use crate::full::{Full, Managing};
use crate::hub::Hub;
use crate::message::{Manage, Message, Scope};
use crate::nexus::TaskId;
use crate::receive::Step;
use crate::session::Arrival;
use crate::task::Stage;
use kagami_iscsi::pdu::{Bhs, Itt, TmfFunction, TmfResponse};
use kagami_iscsi::serial::CmdSn;
use kagami_types::Lun;

/// Most functions of one connection at a time; initiators use one, or one for each command that takes too long.
const MOST: usize = 128;

impl Full {
    /// A task management function request.
    pub(crate) fn task_management<S: Send>(&mut self, bhs: &Bhs, hub: &mut Hub<S>) -> Result<Step, Close> {
        let request = *bhs.as_task_management_request();
        let immediate = bhs.is_immediate();
        let sn = CmdSn::from(request.cmd_sn);
        match self.out_of_turn(immediate, sn, hub) {
            None => {}
            Some(Arrival::Early) => return Ok(Step::Stall),
            Some(_) => return Ok(Step::Taken),
        }
        if self.session.is_discovery {
            return Err(Close::Protocol("task management in a discovery session"));
        }
        let itt = Itt::from(request.itt);
        let response = match request.function() {
            Err(_) => Some(TmfResponse::Rejected),
            Ok(TmfFunction::AbortTask) => {
                self.abort_task(itt, Itt::from(request.referenced_tag), CmdSn::from(request.ref_cmd_sn), hub)
            }
            Ok(
                function @ (TmfFunction::AbortTaskSet
                | TmfFunction::ClearTaskSet
                | TmfFunction::LogicalUnitReset),
            ) => {
                let lun = Lun::from_wire(request.lun).ok().filter(|&lun| self.session.visible.contains(lun));
                match lun.and_then(|lun| Some((lun, hub.directory.unit(lun)?))) {
                    Some((lun, unit)) => self.begin(itt, function, Scope::Unit(lun, unit), hub),
                    None => Some(TmfResponse::LunDoesNotExist),
                }
            }
            Ok(function @ (TmfFunction::TargetWarmReset | TmfFunction::TargetColdReset)) => {
                self.begin(itt, function, Scope::Target, hub)
            }
            Ok(TmfFunction::TaskReassign) => Some(TmfResponse::ReassignmentNotSupported),
            Ok(_) => Some(TmfResponse::NotSupported),
        };
        if let Some(response) = response {
            // "Does not exist" may mean that the answer is on its way: it must come first.
            self.answers.push_back(Answer::Managed { itt, response });
        }
        if !immediate {
            self.pass_baton(immediate, sn, hub);
            self.session.open();
        }
        Ok(Step::Taken)
    }

    /// ABORT TASK (RFC 7143 11.5.1, 11.6.1).
    fn abort_task<S: Send>(
        &mut self,
        itt: Itt,
        referenced: Itt,
        ref_sn: CmdSn,
        hub: &mut Hub<S>,
    ) -> Option<TmfResponse> {
        let id = self.id;
        let Some((slot, task)) = self.tasks.find(referenced) else {
            // One that never came counts as aborted; one that is over does not exist.
            let coming = ref_sn.is_within(self.session.exp_cmd_sn(), self.session.max_cmd_sn());
            return Some(if coming { TmfResponse::FunctionComplete } else { TmfResponse::TaskDoesNotExist });
        };
        match task.stage {
            Stage::Collecting => {
                hub.metrics.network.tasks_aborted.inc();
                self.release(slot);
                Some(TmfResponse::FunctionComplete)
            }
            Stage::Executing => {
                hub.metrics.network.tasks_aborted.inc();
                let scope = Scope::Task(TaskId { connection: id, slot, turn: task.turn }, task.unit);
                let response = self.begin(itt, TmfFunction::AbortTask, scope, hub);
                if let (None, Some(task)) = (response, self.tasks.get_mut(slot)) {
                    // Its reply may be on its way from the unit: a task that the host is told was
                    // aborted must not be answered as well.
                    task.aborted = true;
                }
                response
            }
            // Its answer is on its way, which is as if the request had come after it.
            Stage::Answering | Stage::Free => Some(TmfResponse::TaskDoesNotExist),
        }
    }

    /// Sets the three steps off.
    fn begin<S: Send>(
        &mut self,
        itt: Itt,
        function: TmfFunction,
        scope: Scope,
        hub: &mut Hub<S>,
    ) -> Option<TmfResponse> {
        let left = hub.units_in(scope);
        if left == 0 {
            return Some(TmfResponse::FunctionComplete);
        }
        if self.managing.len() >= MOST || self.managing.iter().any(|other| other.manage.itt == itt) {
            return Some(TmfResponse::Rejected);
        }
        let manage = Manage { asked_by: self.id, itt, function, nexus: self.session.nexus, scope };
        self.managing.push(Managing { manage, left });
        hub.broadcast(|| Message::Manage(manage));
        None
    }

    /// First step, on every connection of every core: ends the tasks of the scope that are not
    /// at their unit yet.
    pub(crate) fn purge<S: Send>(&mut self, manage: &Manage, hub: &Hub<S>) {
        if matches!(manage.scope, Scope::Task(..)) || !manage.concerns(self.session.nexus) {
            return;
        }
        let doomed: Vec<u16> = self
            .tasks
            .active()
            .filter(|(_, task)| task.stage == Stage::Collecting)
            .filter(|(_, task)| {
                let unit = Lun::from_wire(task.lun).ok().and_then(|lun| hub.directory.unit(lun));
                unit.is_some_and(|unit| manage.scope.covers(unit))
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in doomed {
            hub.metrics.network.tasks_aborted.inc();
            self.release(slot);
        }
    }

    /// Third step: a unit is done. Returns true where the function was a cold reset that is
    /// complete now, which ends the sessions.
    pub(crate) fn managed(&mut self, done: &Manage) -> bool {
        let Some(place) = self.managing.iter().position(|other| other.manage.itt == done.itt) else {
            return false;
        };
        let managing = &mut self.managing[place];
        managing.left = managing.left.saturating_sub(1);
        if managing.left > 0 {
            return false;
        }
        self.managing.swap_remove(place);
        // In order: it must not overtake what its tasks answered before they ended (RFC 7143 4.2.3.3).
        self.answers.push_back(Answer::Managed { itt: done.itt, response: TmfResponse::FunctionComplete });
        done.function == TmfFunction::TargetColdReset
    }
}
