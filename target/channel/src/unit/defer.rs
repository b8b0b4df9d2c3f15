//! Changes of a unit's state that take effect at once and are answered later: when they are durable, the cache is flushed, or
//! the tasks that they abort have ended (SPC-5 5.14, saved mode pages).

use super::{Abort, Keep, OpKind, Then, Ticket, Unit, UnitContext, UnitTask, tag};
use crate::message::{Command, Ending, Reply};
use kagami_memory::Scatter;
use kagami_scsi::Deferred;
use kagami_types::{BlockCount, BlockError, BlockOp, Lba};
use kagami_volume::Outcome;

impl Unit {
    /// A change that must be durable, flush the cache or abort others before it is done.
    pub(super) fn defer(
        &mut self,
        index: u32,
        mut command: Command,
        deferred: Deferred,
        cx: &mut UnitContext<'_>,
    ) -> Option<Reply> {
        command.data.clear();
        let Some(slot) = self.free.pop() else {
            return Some(Reply { task: command.task, end: Ending::busy(), data: command.data, wanted: 0 });
        };
        self.serial += 1;
        self.last = slot;
        let serial = self.serial;
        self.tasks[usize::from(slot)] = Some(UnitTask {
            serial,
            task: Some(command.task),
            nexus: command.nexus,
            wanted: 0,
            started: cx.now,
            kind: OpKind::Other,
            aborted: Abort::No,
            // One for ourselves, so that nothing is done before all parts have begun.
            deferred: 1,
            failed: None,
            allocation: [0; 16],
        });
        self.volume.set_write_back(cx, self.server.write_cache_enabled());
        let begin = |unit: &mut Self| {
            if let Some(Some(task)) = unit.tasks.get_mut(usize::from(slot)) {
                task.deferred += 1;
            }
        };
        if let Some(state) = deferred.persist {
            begin(self);
            (cx.keep)(Keep { volume: self.uuid, state, ticket: Ticket { unit: index, slot, serial } });
        }
        if !deferred.abort.is_empty() {
            begin(self);
            let then = Then::Deferred(slot, serial);
            // Not those that wait for others' end themselves: two of them could wait for each other.
            self.abort_where(|_, nexus| deferred.abort.contains(&nexus), command.nexus, false, then, cx);
        }
        if deferred.flush {
            let all = BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
            begin(self);
            if let Some(outcome) = self.volume.submit(cx, tag(slot, serial), all, Scatter::default()) {
                self.deferred_part(slot, serial, outcome.result, cx);
            }
        }
        self.deferred_part(slot, serial, Ok(()), cx);
        None
    }

    /// One part of a deferred change is done.
    pub(crate) fn deferred_part(
        &mut self,
        slot: u16,
        serial: u64,
        result: Result<(), BlockError>,
        cx: &mut UnitContext<'_>,
    ) {
        let Some(place) = self.tasks.get_mut(usize::from(slot)) else { return };
        let Some(task) = place.as_mut().filter(|task| task.serial == serial) else { return };
        task.failed = task.failed.or(result.err());
        task.deferred = task.deferred.saturating_sub(1);
        if task.deferred > 0 {
            return;
        }
        let Some(task) = place.take() else { return };
        self.free.push(slot);
        let result = task.failed.map_or(Ok(()), Err);
        let outcome = Outcome { result, data: Scatter::default(), status: Vec::new() };
        if let Some(reply) = self.finish(&task, outcome, cx) {
            cx.replies.push(reply);
        }
    }
}
