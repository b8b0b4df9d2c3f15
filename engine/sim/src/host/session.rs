//! A host's session: numbers, tasks, and what it does with each PDU that comes.
//!
//! It holds the target to the standard: every number that has a next one is checked, and whatever
//! RFC 7143 does not allow fails the run.

use super::Trouble;
use super::link::{DataRun, Incoming, Link, zeroed};
use super::manage::Managing;
use super::plan::{HostPlan, LunPlan};
use super::ready::Away;
use super::task::{Sense, Task, Verdict, Work, status};
use super::workload::{Order, Wish};
use crate::checker;
use crate::coverage::Happening;
use crate::rng::Rng;
use crate::trace::Who;
use crate::world::World;
use kagami_iscsi::discovery::SendTargets;
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::{
    Bhs, Cid, CommandFlags, DataInFlags, Isid, Itt, LogoutStatus, Opcode, ResponseFlags, ScsiCommand,
    ScsiResponseCode, TaskAttribute, Tsih, Ttt,
};
use kagami_iscsi::serial::{CmdSn, StatSn};
use kagami_types::Time;
use std::collections::{BTreeMap, BTreeSet};

/// A session of a host, from the leading login on.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) isid: Isid,
    pub(super) tsih: Tsih,
    pub(super) links: Vec<Link>,
    /// What holds for the whole session, once it is established.
    pub(super) parameters: Option<Parameters>,
    pub(super) tasks: BTreeMap<u32, Task>,
    pub(super) cmd_sn: CmdSn,
    max_cmd_sn: CmdSn,
    next_itt: u32,
    next_cid: u16,
    /// Task management requests on their way, by their tag.
    pub(super) managing: BTreeMap<u32, Managing>,
    /// A question which targets there are, and on which connection.
    pub(super) question: Option<(Cid, SendTargets)>,
    /// The keys that were registered, by unit, as far as this session knows.
    pub(super) keys: BTreeMap<usize, u64>,
    /// Units at which a reservation was in the way.
    pub(super) barred: BTreeSet<usize>,
    /// Units that were NOT READY as their device was gone.
    pub(super) away: BTreeMap<usize, Away>,
    /// Commands that are worth another try.
    pub(super) again: Vec<(usize, Wish)>,
    pub(super) logout: Option<Itt>,
    /// The target has logged the session out.
    pub(super) left: bool,
    /// Commands that ended with GOOD.
    pub(super) finished: u64,
    /// Commands that ended otherwise.
    pub(super) failed: u64,
    /// Blocks that a sweep has read, by the task that read them, are noted here.
    pub(super) swept: Vec<u32>,
}

pub(super) fn wrong<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Wrong(what.into()))
}

impl Session {
    pub(super) fn new(isid: Isid, rng: &mut Rng) -> Self {
        // Close to where the numbers wrap, now and then.
        let start = if rng.one_in(3) { u32::MAX - 5 } else { 1 };
        Self {
            isid,
            tsih: Tsih(0),
            links: Vec::new(),
            parameters: None,
            tasks: BTreeMap::new(),
            cmd_sn: CmdSn(start),
            max_cmd_sn: CmdSn(start).minus(1),
            next_itt: start,
            next_cid: 0,
            managing: BTreeMap::new(),
            question: None,
            keys: BTreeMap::new(),
            barred: BTreeSet::new(),
            away: BTreeMap::new(),
            again: Vec::new(),
            logout: None,
            left: false,
            finished: 0,
            failed: 0,
            swept: Vec::new(),
        }
    }

    pub(super) fn new_itt(&mut self) -> Itt {
        loop {
            self.next_itt = self.next_itt.wrapping_add(1);
            if !Itt(self.next_itt).is_reserved() && !self.tasks.contains_key(&self.next_itt) {
                return Itt(self.next_itt);
            }
        }
    }

    pub(super) fn new_cid(&mut self) -> Cid {
        self.next_cid = self.next_cid.wrapping_add(1);
        Cid(self.next_cid)
    }

    pub(super) fn established(&mut self, max_cmd_sn: CmdSn) {
        self.max_cmd_sn = max_cmd_sn;
    }

    /// Whether the window takes another command.
    pub(super) fn window_is_open(&self) -> bool {
        !self.cmd_sn.is_after(self.max_cmd_sn)
    }

    /// Sends a command on one of the connections; `None` where there is no room on it, and the order
    /// comes back to be given up.
    pub(super) fn issue(
        &mut self,
        plan: &HostPlan,
        world: &World,
        rng: &mut Rng,
        unit: usize,
        order: Order,
    ) -> Option<Itt> {
        let itt = self.new_itt();
        let full: Vec<usize> = (0..self.links.len()).filter(|&at| self.links[at].is_full()).collect();
        let at = *rng.pick(&full)?;
        let target = plan.luns.get(unit)?;
        let lun = target.lun.to_wire();
        let cmd_sn = self.cmd_sn;
        self.cmd_sn = cmd_sn.next();
        let link = self.links.get_mut(at)?;
        let parameters = link.parameters;
        let len = u32::try_from(order.out.len()).unwrap_or(u32::MAX);
        let first = parameters.first_burst_length.min(len);
        let mut immediate = 0;
        if parameters.immediate_data && len > 0 {
            let most = first.min(parameters.max_send_data_segment_length);
            immediate =
                if rng.one_in(4) { u32::try_from(rng.below(u64::from(most) + 1)).unwrap_or(0) } else { most };
        }
        // Without InitialR2T the rest of the first burst may follow unasked.
        let unsolicited = if parameters.initial_r2t || rng.one_in(4) { immediate } else { first };
        let attribute = match rng.below(16) {
            3 | 4 if plan.heads.is_some() => TaskAttribute::Ordered,
            5 | 6 if plan.heads.is_some() => TaskAttribute::HeadOfQueue,
            0 => TaskAttribute::Ordered,
            1 => TaskAttribute::HeadOfQueue,
            2 => TaskAttribute::Untagged,
            _ => TaskAttribute::Simple,
        };
        match attribute {
            TaskAttribute::Ordered => world.hit(Happening::Ordered),
            TaskAttribute::HeadOfQueue => world.hit(Happening::HeadOfQueue),
            _ => {}
        }
        order.notes.iter().for_each(|what| world.hit(*what));
        // A host that asks for nothing and expects it all the same: to show that the check finds that.
        let head = attribute == TaskAttribute::HeadOfQueue;
        let told = if plan.unordered || (plan.headless && head) { TaskAttribute::Simple } else { attribute };
        let mut flags = CommandFlags::empty().with_attribute(told);
        flags.set(CommandFlags::FINAL, unsolicited == immediate);
        flags.set(CommandFlags::WRITE, len > 0);
        flags.set(CommandFlags::READ, order.expected > 0 && len == 0);
        let header = ScsiCommand {
            opcode: ScsiCommand::OPCODE.number(),
            flags,
            lun,
            itt: itt.into(),
            expected_len: order.expected.into(),
            cmd_sn: cmd_sn.into(),
            exp_stat_sn: link.exp_stat_sn.into(),
            cdb: order.cdb,
            ..zeroed()
        };
        link.push(&header.into(), order.out.get(..immediate as usize).unwrap_or_default());
        if immediate > 0 {
            world.hit(Happening::ImmediateData);
        }
        if unsolicited > immediate {
            world.hit(Happening::UnsolicitedData);
            let ttt = Ttt::RESERVED;
            link.runs.push(DataRun { itt, ttt, lun, offset: immediate, end: unsolicited, data_sn: 0 });
        }
        let cid = link.cid;
        let (who, lead) = (Who::Host(plan.number), u64::from(order.cdb[0]));
        world.note(who, "command: opcode, tag, bytes", [lead, itt.0.into(), order.expected.into()]);
        let entire = immediate == len;
        let before = |task: &Task| task.unit == unit && task.cid == cid && task.entire;
        let behind = attribute == TaskAttribute::Ordered && entire && self.tasks.values().any(before);
        let task = Task {
            itt,
            unit,
            cid,
            cmd_sn,
            cdb: order.cdb,
            work: order.work,
            out: order.out,
            expected: order.expected,
            asked: order.asked,
            received: Vec::new(),
            data_sn: 0,
            burst: 0,
            r2t_sn: 0,
            solicited: unsolicited,
            open_r2ts: 0,
            entire,
            behind,
            head: head && entire,
            out_at: None,
            waited_until: None,
            overtaken: 0,
            issued: world.now(),
            patience: plan.patience + rng.below(plan.patience),
            aborting: None,
            wish: order.wish,
            since: target.checker.reservations().now(),
            seen: target.checker.device().now(),
        };
        world.note(who, "          write or 0, unit, units", task.numbers());
        self.tasks.insert(itt.0, task);
        Some(itt)
    }

    /// Fills a connection's output with data that tasks have to send.
    pub(super) fn push_data(&mut self, at: usize, rng: &mut Rng) {
        let Self { links, tasks, .. } = self;
        let Some(link) = links.get_mut(at) else { return };
        while link.has_room() && !link.runs.is_empty() {
            let done = link.push_data(rng, |itt| tasks.get(&itt.0).map(|task| task.out.as_slice()));
            if let Some(run) = done
                && !run.ttt.is_reserved()
                && let Some(task) = tasks.get_mut(&run.itt.0)
            {
                task.open_r2ts -= 1;
            }
        }
    }

    /// A PDU has come on a connection in full feature phase.
    pub(super) fn on_pdu(
        &mut self,
        plan: &HostPlan,
        world: &World,
        at: usize,
        pdu: &Incoming,
    ) -> Result<(), Trouble> {
        let bhs = &pdu.bhs;
        let Some(opcode) = bhs.opcode().filter(|opcode| opcode.is_from_target()) else {
            return wrong(format!("a PDU that no target sends: {bhs:?}"));
        };
        self.advance_window(bhs)?;
        match opcode {
            Opcode::DataIn => self.on_data_in(plan, world, at, pdu),
            Opcode::R2t => self.on_r2t(plan, world, at, bhs),
            Opcode::ScsiResponse => self.on_response(plan, world, at, pdu),
            Opcode::NopIn => self.on_nop_in(world, at, pdu),
            Opcode::TextResponse => self.on_text(plan, world, at, pdu),
            Opcode::TaskManagementResponse => self.on_managed(plan, world, at, bhs),
            Opcode::LogoutResponse => {
                self.stat_sn(at, bhs.as_logout_response().stat_sn.into())?;
                if self.logout != Some(bhs.itt())
                    || bhs.as_logout_response().response() != Ok(LogoutStatus::Closed)
                {
                    return wrong("an unexpected logout response");
                }
                self.left = true;
                Ok(())
            }
            Opcode::Async => {
                world.hit(Happening::AsyncMessage);
                Err(Trouble::Lost("the target asks to leave"))
            }
            Opcode::Reject => self.on_reject(world, at, bhs),
            _ => wrong(format!("unexpected {opcode:?}")),
        }
    }

    /// ExpCmdSN and MaxCmdSN, which all PDUs from the target have at the same place
    /// (RFC 7143 4.2.2.1).
    fn advance_window(&mut self, bhs: &Bhs) -> Result<(), Trouble> {
        let nop = bhs.as_nop_in();
        let (exp, max) = (CmdSn::from(nop.exp_cmd_sn), CmdSn::from(nop.max_cmd_sn));
        if exp.is_after(self.cmd_sn) {
            return wrong(format!("{exp} expected before {} was sent", self.cmd_sn));
        }
        if max.is_before(exp.minus(1)) {
            return wrong(format!("the window ends at {max}, before {exp}"));
        }
        if max.is_after(self.max_cmd_sn) {
            self.max_cmd_sn = max;
        }
        Ok(())
    }

    pub(super) fn stat_sn(&mut self, at: usize, came: StatSn) -> Result<(), Trouble> {
        let Some(link) = self.links.get_mut(at) else { return Ok(()) };
        if came != link.exp_stat_sn {
            return wrong(format!("{came} came, {} was expected", link.exp_stat_sn));
        }
        link.exp_stat_sn = came.next();
        Ok(())
    }

    fn task(&mut self, at: usize, itt: Itt) -> Result<&mut Task, Trouble> {
        let cid = self.links.get(at).map(|link| link.cid);
        match self.tasks.get_mut(&itt.0).filter(|task| Some(task.cid) == cid) {
            Some(task) => Ok(task),
            None => {
                let link = self.links.get(at).map(|link| link.cid);
                wrong(format!("an answer to task {itt}, which is not open on connection {link:?}"))
            }
        }
    }

    fn on_data_in(
        &mut self,
        plan: &HostPlan,
        world: &World,
        at: usize,
        pdu: &Incoming,
    ) -> Result<(), Trouble> {
        let header = pdu.bhs.as_data_in();
        let max_burst = self.parameters.map_or(0, |parameters| parameters.max_burst_length);
        let task = self.task(at, pdu.bhs.itt())?;
        let (sn, offset) = (header.data_sn.get(), header.offset.get());
        let len = pdu.bhs.data_segment_len();
        if sn != task.data_sn || offset as usize != task.received.len() {
            return wrong(format!(
                "data-in {sn} at {offset}, expected {} at {}",
                task.data_sn,
                task.received.len()
            ));
        }
        if task.writes() || task.received.len() + len as usize > task.expected as usize {
            return wrong("more data than there is room for");
        }
        task.data_sn += 1;
        task.burst += len;
        if task.burst > max_burst {
            return wrong(format!("a burst of {} bytes, at most {max_burst}", task.burst));
        }
        if header.flags.contains(DataInFlags::FINAL) {
            task.burst = 0;
        }
        task.received.extend_from_slice(&pdu.data);
        if task.data_sn == 2 {
            world.hit(Happening::SeveralDataIn);
        }
        if !header.flags.contains(DataInFlags::STATUS) {
            return Ok(());
        }
        if !header.flags.contains(DataInFlags::FINAL) || header.status != status::GOOD {
            return wrong("status in a data-in without F, or other than GOOD");
        }
        world.hit(Happening::StatusInDataIn);
        let over = header.flags.contains(DataInFlags::OVERFLOW);
        let under = header.flags.contains(DataInFlags::UNDERFLOW);
        let residual = (over, under, header.residual.get());
        self.stat_sn(at, header.stat_sn.into())?;
        self.end_task(plan, world, at, pdu.bhs.itt(), header.status, None, residual)
    }

    fn on_r2t(&mut self, plan: &HostPlan, world: &World, at: usize, bhs: &Bhs) -> Result<(), Trouble> {
        let header = bhs.as_r2t();
        let Some(parameters) = self.parameters else { return wrong("an R2T too early") };
        if self.links.get(at).is_some_and(|link| link.exp_stat_sn != header.stat_sn.into()) {
            return wrong("an R2T with another StatSN than the next");
        }
        let task = self.task(at, bhs.itt())?;
        let lun = plan.luns.get(task.unit).map(|unit| unit.lun.to_wire());
        let (offset, len) = (header.offset.get(), header.desired_len.get());
        let end = offset.saturating_add(len);
        if header.r2t_sn.get() != task.r2t_sn || offset != task.solicited || Some(header.lun) != lun {
            return wrong(format!(
                "R2T {} at {offset}, expected {} at {}",
                header.r2t_sn, task.r2t_sn, task.solicited
            ));
        }
        if len == 0 || len > parameters.max_burst_length || end as usize > task.out.len() {
            return wrong(format!("an R2T for {len} bytes at {offset}"));
        }
        if Ttt::from(header.ttt).is_reserved() {
            return wrong("an R2T without a tag");
        }
        task.r2t_sn += 1;
        task.solicited = end;
        task.open_r2ts += 1;
        if task.open_r2ts > parameters.max_outstanding_r2t {
            return wrong(format!("{} R2Ts open of one task", task.open_r2ts));
        }
        world.hit(if task.open_r2ts > 1 { Happening::SeveralR2ts } else { Happening::R2t });
        let (itt, ttt) = (task.itt, header.ttt.into());
        if let Some(link) = self.links.get_mut(at) {
            link.runs.push(DataRun { itt, ttt, lun: header.lun, offset, end, data_sn: 0 });
        }
        Ok(())
    }

    fn on_response(
        &mut self,
        plan: &HostPlan,
        world: &World,
        at: usize,
        pdu: &Incoming,
    ) -> Result<(), Trouble> {
        let header = pdu.bhs.as_scsi_response();
        self.stat_sn(at, header.stat_sn.into())?;
        let task = self.task(at, pdu.bhs.itt())?;
        if header.response() != Ok(ScsiResponseCode::CommandCompleted) {
            return wrong(format!("a response with code {:#04x}", header.response));
        }
        let counted = if task.writes() { task.r2t_sn } else { task.data_sn };
        if header.exp_data_sn.get() != counted {
            return wrong(format!("ExpDataSN {} after {counted} PDUs", header.exp_data_sn));
        }
        let sense = Sense::read(&pdu.data);
        let over = header.flags.contains(ResponseFlags::OVERFLOW);
        let under = header.flags.contains(ResponseFlags::UNDERFLOW);
        let residual = (over, under, header.residual.get());
        self.end_task(plan, world, at, pdu.bhs.itt(), header.status, sense, residual)
    }

    #[allow(clippy::too_many_arguments, reason = "all of it is in the PDU that ends a task")]
    fn end_task(
        &mut self,
        plan: &HostPlan,
        world: &World,
        at: usize,
        itt: Itt,
        status: u8,
        sense: Option<Sense>,
        residual: (bool, bool, u32),
    ) -> Result<(), Trouble> {
        let Some(task) = self.tasks.remove(&itt.0) else { return Ok(()) };
        if let Some(link) = self.links.get_mut(at) {
            link.runs.retain(|run| run.itt != itt);
        }
        let code = sense.map_or(0, |sense| u64::from(sense.key) << 16 | u64::from(sense.code));
        world.note(Who::Host(plan.number), "ended: tag, status, sense", [itt.0.into(), status.into(), code]);
        if status == status::GOOD {
            check_residual(&task, residual).map_err(Trouble::Wrong)?;
            self.finished += 1;
            self.swept.push(itt.0);
        } else {
            self.failed += 1;
        }
        let Some(unit) = plan.luns.get(task.unit) else { return Ok(()) };
        let number = task.unit;
        if task.behind && status == status::GOOD {
            self.judge_order(plan, unit, &task, world)?;
            self.judge_heads(plan, &task, world)?;
        }
        if plan.heads.is_some() && task.entire && status == status::GOOD {
            self.note_end(&task, world.now());
        }
        let name = |what| format!("{what} (host {}, unit {number}, task {itt})", plan.number);
        let verdict = task
            .judge(status, sense, plan, unit, |what| world.hit(what))
            .map_err(|what| Trouble::Wrong(name(what)))?;
        self.judge_presence(plan, unit, &task, (status, sense), world)?;
        if matches!(verdict, Verdict::Refused | Verdict::FailedOpen)
            && self.again.len() < 8
            && let Some(wish) = task.wish
        {
            self.again.push((number, wish));
        }
        if verdict == Verdict::Conflict {
            self.barred.insert(number);
        }
        if let Work::Reserve(_, order) = &task.work {
            match (order, verdict) {
                (checker::Order::Register { key, .. }, Verdict::Good) => {
                    self.keys.insert(number, *key);
                }
                // Cleared by itself, or preempted by another.
                (checker::Order::Clear { .. }, Verdict::Good) | (_, Verdict::Conflict) => {
                    self.keys.remove(&number);
                    self.barred.remove(&number);
                }
                _ => {}
            }
        }
        let late = plan.gives_up.is_some_and(|after| world.now().nanos_since(task.issued) >= after);
        task.finish(unit, late, plan.loose_changes, verdict, |what| world.hit(what))
            .map_err(|what| Trouble::Wrong(name(what)))
    }

    /// An ORDERED task has ended: those that came before it must have (SAM-5 8.9.4). The target sends its answers in the
    /// order in which tasks end. Where others may end tasks without an answer nothing is known.
    fn judge_order(
        &self,
        plan: &HostPlan,
        unit: &LunPlan,
        ended: &Task,
        world: &World,
    ) -> Result<(), Trouble> {
        // Where there is no unit just now, the target answers without a look at what the last one still does.
        let nobody = plan.comes_and_goes;
        if nobody || plan.resets || unit.ends_tasks || !self.managing.is_empty() {
            return Ok(());
        }
        let before = |task: &&Task| {
            task.unit == ended.unit
                && task.cid == ended.cid
                && task.entire
                && task.aborting.is_none()
                && task.cmd_sn.is_before(ended.cmd_sn)
        };
        if let Some(task) = self.tasks.values().find(before) {
            return wrong(format!(
                "the ORDERED task {} was answered before task {}, which came before it",
                ended.itt, task.itt
            ));
        }
        world.hit(Happening::OrderKept);
        Ok(())
    }

    /// Everything that this connection had to send has gone out.
    pub(super) fn note_out(&mut self, at: usize, now: Time) {
        let Some(cid) = self.links.get(at).filter(|link| link.is_flushed()).map(|link| link.cid) else {
            return;
        };
        for task in self.tasks.values_mut().filter(|task| task.head && task.cid == cid) {
            task.out_at = task.out_at.or(Some(now));
        }
    }

    /// A task has ended that ORDERED ones may have waited for, or that came before their turn.
    fn note_end(&mut self, ended: &Task, now: Time) {
        let waiting = |task: &&mut Task| task.behind && task.unit == ended.unit && task.cid == ended.cid;
        for task in self.tasks.values_mut().filter(waiting) {
            if ended.cmd_sn.is_before(task.cmd_sn) {
                task.waited_until = Some(now);
            } else if ended.head {
                task.overtaken += 1;
            }
        }
    }

    /// An ORDERED task has ended. One that was HEAD OF QUEUE and came while it waited was to be executed first (SAM-5 8.9.3,
    /// 8.9.4: an ORDERED command is not enabled while there is one), so its answer had to come first.
    fn judge_heads(&self, plan: &HostPlan, ended: &Task, world: &World) -> Result<(), Trouble> {
        let Some(bound) = plan.heads.filter(|_| self.links.len() == 1 && self.managing.is_empty()) else {
            return Ok(());
        };
        let Some(until) = ended.waited_until else { return Ok(()) };
        let came_in_time = |task: &&Task| {
            task.head
                && task.unit == ended.unit
                && task.cmd_sn.is_after(ended.cmd_sn)
                && task.aborting.is_none()
                && task.out_at.is_some_and(|out| until.nanos_since(out) > bound)
        };
        match self.tasks.values().find(came_in_time) {
            Some(task) => wrong(format!(
                "the ORDERED task {} was answered before the HEAD OF QUEUE task {}, which came while it waited",
                ended.itt, task.itt
            )),
            None => {
                world.count(Happening::HeadKept, ended.overtaken);
                Ok(())
            }
        }
    }

    /// Where in the life of its tasks a connection was when it broke.
    pub(super) fn moment(&self, at: usize) -> Happening {
        let Some(link) = self.links.get(at) else { return Happening::CutIdle };
        let own = |task: &&Task| task.cid == link.cid;
        let mut tasks = self.tasks.values().filter(own);
        if !link.is_full() {
            Happening::CutInLogin
        } else if tasks.clone().any(|task| task.open_r2ts > 0) {
            Happening::CutInR2t
        } else if tasks.clone().any(|task| task.writes()) {
            Happening::CutInDataOut
        } else if tasks.clone().any(|task| !task.received.is_empty()) {
            Happening::CutInDataIn
        } else if tasks.next().is_none() {
            Happening::CutIdle
        } else {
            Happening::CutWaiting
        }
    }
}

/// Checks how much data came, and what was said about it (RFC 7143 11.4.5).
fn check_residual(task: &Task, said: (bool, bool, u32)) -> Result<(), String> {
    let asked = if task.writes() { task.expected } else { task.asked };
    let expected = match asked.cmp(&task.expected) {
        std::cmp::Ordering::Equal => (false, false, 0),
        std::cmp::Ordering::Greater => (true, false, asked - task.expected),
        std::cmp::Ordering::Less => (false, true, task.expected - asked),
    };
    // Queries may give less than there is room for.
    let exact = matches!(task.work, Work::Read(..));
    let came = u32::try_from(task.received.len()).unwrap_or(u32::MAX);
    if exact && (said != expected || came != asked.min(task.expected)) {
        return Err(format!("{came} bytes came with residual {said:?}, expected {expected:?}"));
    }
    Ok(())
}
