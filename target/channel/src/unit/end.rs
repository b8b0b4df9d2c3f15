//! Tasks of a unit that end before their time, and who waits for them (SAM-5 5.6, 7).

use super::{Abort, Role, Then, Unit, UnitContext, UnitTask, Waiter, tag, untag};
use crate::message::Manage;
use crate::nexus::TaskId;
use crate::session::Session;
use kagami_iscsi::pdu::TmfFunction;
use kagami_scsi::{Attention, NexusId, Reset};
use kagami_volume::Aborted;
use std::sync::Arc;

impl Unit {
    /// A task has ended: whoever waits for it is told.
    #[cold]
    pub(super) fn ended(&mut self, serial: u64, cx: &mut UnitContext<'_>) {
        let mut due = Vec::new();
        self.waiters.retain_mut(|waiter| {
            waiter.serials.retain(|&other| other != serial);
            if !waiter.serials.is_empty() {
                return true;
            }
            due.push(std::mem::replace(&mut waiter.then, Then::Deferred(0, 0)));
            false
        });
        self.go_on(due, cx);
    }

    fn go_on(&mut self, due: Vec<Then>, cx: &mut UnitContext<'_>) {
        for then in due {
            match then {
                Then::Deferred(slot, serial) => self.deferred_part(slot, serial, Ok(()), cx),
                other => cx.then.push(other),
            }
        }
    }

    /// Aborts tasks; `then` follows when the last of them has ended.
    /// Tasks of other nexuses than `by` end with a status where the mode page says so.
    pub(super) fn abort_where(
        &mut self,
        pick: impl Fn(Option<TaskId>, NexusId) -> bool,
        by: NexusId,
        deferred_too: bool,
        then: Then,
        cx: &mut UnitContext<'_>,
    ) {
        let with_status = self.server.task_aborted_status();
        self.abort_held(&pick, by, with_status, cx);
        let mut serials = Vec::new();
        let mut tags = Vec::new();
        for (slot, task) in (0u16..).zip(self.tasks.iter_mut()) {
            let picked =
                |task: &UnitTask| (deferred_too || task.deferred == 0) && pick(task.task, task.nexus);
            if let Some(task) = task.as_mut().filter(|task| picked(task)) {
                let told = with_status && task.nexus != by;
                task.aborted = if told { Abort::WithStatus } else { Abort::Silent };
                serials.push(task.serial);
                // A change on its way to the tables cannot be taken back: it is waited for, and ends unanswered.
                if task.deferred == 0 {
                    tags.push(tag(slot, task.serial));
                }
            }
        }
        if serials.is_empty() {
            self.go_on(vec![then], cx);
            return;
        }
        self.waiters.push(Waiter { serials, then });
        for tag in tags {
            if self.volume.abort(cx, tag) == Aborted::NotFound {
                let (_, serial) = untag(tag.0);
                debug_assert!(serial > 0, "every task of the table is the volume's");
            }
        }
        self.drain(cx);
    }

    /// A task management function, after every core has sent what it had (SAM-5 7).
    pub(crate) fn manage(&mut self, manage: Manage, only: Option<TaskId>, cx: &mut UnitContext<'_>) {
        match manage.function {
            TmfFunction::LogicalUnitReset | TmfFunction::TargetWarmReset | TmfFunction::TargetColdReset => {
                let cold = manage.function == TmfFunction::TargetColdReset;
                self.server.reset(if cold { Reset::Power } else { Reset::LogicalUnit });
                // The mode pages are the saved ones again.
                self.volume.set_write_back(cx, self.server.write_cache_enabled());
            }
            TmfFunction::ClearTaskSet if !self.server.task_aborted_status() => {
                let under_way = self.tasks.iter().flatten().map(|task| task.nexus);
                let others: Vec<NexusId> = under_way.chain(self.order.nexuses()).collect();
                for nexus in others.into_iter().filter(|&nexus| nexus != manage.nexus) {
                    self.server.establish(nexus, Attention::CommandsCleared);
                }
            }
            _ => {}
        }
        let pick = |task: Option<TaskId>, nexus| match only {
            Some(only) => task == Some(only),
            None => manage.concerns(nexus),
        };
        self.abort_where(pick, manage.nexus, true, Then::Managed(manage), cx);
    }

    /// A session is over: its tasks end, the device server forgets it.
    pub(crate) fn detach(&mut self, session: &Arc<Session>, cx: &mut UnitContext<'_>) {
        let nexus = session.nexus;
        self.server.detach(nexus);
        match &mut self.role {
            Role::Command(device) => device.detach(nexus),
            Role::Paired(readers) => readers.detach(nexus),
            Role::Plain | Role::Journal(_) => {}
        }
        self.abort_where(|_, other| other == nexus, nexus, true, Then::Detached(Arc::clone(session)), cx);
    }
}
