//! The order that task attributes ask for (SAM-5 8.9).
//!
//! SIMPLE commands run as they come. An ORDERED one waits until all that came before it have ended, and
//! all that come after wait for it; a HEAD OF QUEUE one waits for nothing. A command comes to its unit
//! when all of its data is there: that is when it enters the task set.
//!
//! Nothing of this is touched while a unit sees only SIMPLE commands.

use crate::message::{Command, Ending, Reply};
use crate::nexus::TaskId;
use crate::unit::{Unit, UnitContext};
use kagami_iscsi::pdu::TaskAttribute;
use kagami_scsi::{NexusId, Status};
use std::collections::VecDeque;

/// The commands of a unit that wait for others, and for whom.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// In the order in which they came.
    held: VecDeque<Command>,
    /// Slot and serial number of the ORDERED command that is under way.
    barrier: Option<(u16, u64)>,
}

impl Order {
    /// Whether any command has to look here.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.barrier.is_some() || !self.held.is_empty()
    }

    /// How many wait.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Whose they are.
    pub(crate) fn nexuses(&self) -> impl Iterator<Item = NexusId> {
        self.held.iter().map(|command| command.nexus)
    }

    /// Takes out the commands that are aborted.
    pub(crate) fn take(&mut self, pick: impl Fn(Option<TaskId>, NexusId) -> bool) -> Vec<Command> {
        let (out, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition::<Vec<_>, _>(|command| pick(Some(command.task), command.nexus));
        self.held = held.into();
        out
    }
}

impl Unit {
    /// A command that is not SIMPLE, or that comes while one is in the way. `None` as for
    /// [`execute`](Unit::execute).
    #[cold]
    pub(crate) fn execute_in_order(
        &mut self,
        index: u32,
        command: Command,
        cx: &mut UnitContext<'_>,
    ) -> Option<Reply> {
        let waits = match command.attribute {
            TaskAttribute::HeadOfQueue => false,
            TaskAttribute::Ordered => self.order.is_active() || self.executing() > 0,
            _ => self.order.is_active(),
        };
        if !waits {
            return self.begin(index, command, cx);
        }
        if self.order.held.len() >= self.slots() {
            cx.metrics.busy.inc();
            let end = Ending::task_set_full();
            return Some(Reply { task: command.task, end, data: command.data, wanted: 0 });
        }
        self.order.held.push_back(command);
        None
    }

    /// Begins a command whose turn has come; an ORDERED one holds up the rest until it ends. Its answer takes its place
    /// behind those of the commands before it.
    fn begin(&mut self, index: u32, command: Command, cx: &mut UnitContext<'_>) -> Option<Reply> {
        let ordered = command.attribute == TaskAttribute::Ordered;
        let reply = self.execute_now(index, command, cx);
        if !ordered {
            return reply;
        }
        if reply.is_none() {
            self.order.barrier = self.newest();
        }
        cx.replies.extend(reply);
        None
    }

    /// Begins what nothing is in the way of any more. Whether there was anything.
    pub(crate) fn release_held(&mut self, index: u32, cx: &mut UnitContext<'_>) -> bool {
        let mut any = false;
        loop {
            if self.order.barrier.is_some_and(|(slot, serial)| !self.is_under_way(slot, serial)) {
                self.order.barrier = None;
            }
            let Some(next) = self.order.held.front() else { return any };
            let ordered = next.attribute == TaskAttribute::Ordered;
            if self.order.barrier.is_some() || (ordered && self.executing() > 0) {
                return any;
            }
            let Some(command) = self.order.held.pop_front() else { return any };
            any = true;
            let reply = self.begin(index, command, cx);
            cx.replies.extend(reply);
        }
    }

    /// Ends the waiting commands that are aborted.
    pub(crate) fn abort_held(
        &mut self,
        pick: impl Fn(Option<TaskId>, NexusId) -> bool,
        by: NexusId,
        with_status: bool,
        cx: &mut UnitContext<'_>,
    ) {
        for mut command in self.order.take(pick) {
            command.data.clear();
            let told = with_status && command.nexus != by;
            let end = if told { Ending::Status(Status::TaskAborted as u8, None) } else { Ending::Aborted };
            cx.replies.push(Reply { task: command.task, end, data: command.data, wanted: 0 });
        }
    }
}
