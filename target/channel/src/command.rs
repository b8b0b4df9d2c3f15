//! SCSI commands and their data: from the PDU to the unit.

use crate::answer::{ABORTED_COMMAND, Answer, ILLEGAL_REQUEST};
use crate::connection::Close;
use crate::full::Full;
use crate::hub::Hub;
use crate::message::{Command, Ending, Reply};
use crate::nexus::TaskId;
use crate::receive::Step;
use crate::session::Arrival;
use crate::task::{Failure, Stage};
use kagami_iscsi::frame::Header;
use kagami_iscsi::pdu::{CommandFlags, DataOutFlags, Itt, RejectReason, TaskAttribute, Ttt};
use kagami_iscsi::serial::{CmdSn, DataSn};
use kagami_iscsi::transfer::{Burst, DataOut};
use kagami_reactor::Io;
use kagami_types::Lun;

impl Full {
    /// The place of a PDU's CmdSN in the window: `None` where it may be taken now.
    pub(crate) fn out_of_turn<S: Send>(
        &mut self,
        immediate: bool,
        sn: CmdSn,
        hub: &mut Hub<S>,
    ) -> Option<Arrival> {
        if immediate {
            return None;
        }
        match self.session.arrival(sn, hub.core) {
            Arrival::Due => None,
            other => Some(other),
        }
    }

    /// The PDU of that number was taken: the next one is due, here or on another core.
    pub(crate) fn pass_baton<S: Send>(&self, immediate: bool, sn: CmdSn, hub: &mut Hub<S>) {
        if !immediate {
            let waiting = self.session.advance(sn);
            if waiting != 0 {
                hub.nudge(waiting);
            }
        }
    }

    /// Takes a PDU that needs no task slot in its turn, and passes the baton on; what to do with
    /// it where its turn has not come.
    pub(crate) fn take_turn<S: Send>(
        &mut self,
        immediate: bool,
        sn: CmdSn,
        hub: &mut Hub<S>,
    ) -> Option<Step> {
        match self.out_of_turn(immediate, sn, hub) {
            None => {}
            Some(Arrival::Early) => return Some(Step::Stall),
            Some(_) => return Some(Step::Taken),
        }
        if !immediate {
            self.pass_baton(immediate, sn, hub);
            self.session.open();
        }
        None
    }

    /// A SCSI command PDU (RFC 7143 11.3).
    #[inline]
    pub(crate) fn scsi_command<I: Io>(
        &mut self,
        header: &Header<'_>,
        io: &mut I,
        hub: &mut Hub<I::Stream>,
    ) -> Result<Step, Close> {
        let pdu = header.bhs.as_scsi_command();
        let immediate = header.bhs.is_immediate();
        let sn = CmdSn::from(pdu.cmd_sn);
        match self.out_of_turn(immediate, sn, hub) {
            None => {}
            Some(Arrival::Early) => return Ok(Step::Stall),
            Some(_) => {
                self.begin_landing(header, None, 0, 0);
                return Ok(Step::Taken);
            }
        }
        if self.session.is_discovery {
            return Err(Close::Protocol("a SCSI command in a discovery session"));
        }
        let Some(slot) = self.tasks.take() else {
            if !immediate {
                return Err(Close::Protocol("more commands than the window has"));
            }
            self.reject(RejectReason::ImmediateCommandReject, header.bhs);
            self.begin_landing(header, None, 0, 0);
            return Ok(Step::Taken);
        };
        let Some(task) = self.tasks.get_mut(slot) else { return Err(Close::Resources) };
        let expected = pdu.expected_len.get();
        task.stage = Stage::Collecting;
        task.immediate = immediate;
        task.itt = Itt::from(pdu.itt);
        task.lun = pdu.lun;
        task.cdb = pdu.cdb;
        task.expected = expected;
        task.writes = pdu.flags.contains(CommandFlags::WRITE);
        task.attribute = match pdu.flags.attribute() {
            Some(attribute @ (TaskAttribute::Ordered | TaskAttribute::HeadOfQueue)) => attribute,
            _ => TaskAttribute::Simple,
        };
        task.received = io.now();
        let turn = task.turn;
        if !header.ahs.is_empty() {
            // No command of the table is longer than 16 bytes or has data in both directions.
            task.failed = Some(Failure::Unsupported);
        }
        if !task.writes && header.data_len == 0 {
            self.execute(slot, io, hub);
        } else {
            self.begin_write(slot, turn, header, hub);
            self.go_on_collecting(slot, io, hub);
        }
        self.pass_baton(immediate, sn, hub);
        Ok(Step::Taken)
    }

    /// A command whose data the initiator sends: takes pages for what the command can use.
    fn begin_write<S: Send>(&mut self, slot: u16, turn: u16, header: &Header<'_>, hub: &mut Hub<S>) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let is_final = header.bhs.is_final();
        let usable = hub.data_out_len(task.lun, &task.cdb, task.expected);
        let wanted = if task.failed.is_some() { 0 } else { task.expected.min(usable) };
        let out = match DataOut::new(&self.rules, task.expected, wanted, header.data_len, is_final) {
            Ok(out) => out,
            Err(error) => {
                let (code, qualifier) = error.additional_sense();
                task.failed = Some(Failure::Sense(code, qualifier));
                task.out = DataOut::new(&self.rules, 0, 0, 0, true).ok();
                self.begin_landing(header, None, 0, 0);
                return;
            }
        };
        task.out = Some(out);
        task.cold = hub.keeps_pages(task.lun);
        let lun = Lun::from_wire(task.lun).ok();
        task.meant = lun.and_then(|lun| hub.directory.unit(lun));
        let taken = hub.take_pages(&mut task.data, lun, wanted as usize);
        task.share = lun.zip(taken.filter(|&pages| pages > 0));
        let wanted = if taken.is_some() {
            wanted
        } else {
            hub.metrics.network.task_set_full.inc();
            task.failed = Some(Failure::TaskSetFull);
            if let Some(out) = &mut task.out {
                out.abandon();
            }
            0
        };
        self.begin_landing(header, Some((slot, turn)), 0, wanted.min(header.data_len));
    }

    /// A Data-Out PDU (RFC 7143 11.7).
    pub(crate) fn data_out<S: Send>(&mut self, header: &Header<'_>, hub: &mut Hub<S>) -> Result<Step, Close> {
        let pdu = header.bhs.as_data_out();
        let itt = Itt::from(pdu.itt);
        let ttt = Ttt::from(pdu.ttt);
        let found = if ttt.is_reserved() {
            self.tasks.find(itt).map(|(slot, _)| (slot, Burst::Unsolicited))
        } else {
            let [high, low, index, _] = ttt.0.to_be_bytes();
            Some((u16::from_be_bytes([high, low]), Burst::Solicited(index)))
        };
        let task = found.and_then(|(slot, burst)| {
            let task = self.tasks.get_mut(slot)?;
            (task.itt == itt && task.stage == Stage::Collecting).then_some((slot, burst, task))
        });
        let Some((slot, burst, task)) = task else {
            // Data of a task that is gone (aborted, or failed early): dropped.
            hub.metrics.network.stray_data.inc();
            self.begin_landing(header, None, 0, 0);
            return Ok(Step::Taken);
        };
        let Some(out) = &mut task.out else { return Err(Close::Resources) };
        let is_final = pdu.flags.contains(DataOutFlags::FINAL);
        match out.accept(burst, DataSn::from(pdu.data_sn), pdu.offset.get(), header.data_len, is_final) {
            Ok(placement) => {
                let keep = if task.failed.is_some() { 0 } else { placement.keep };
                let turn = task.turn;
                self.begin_landing(header, Some((slot, turn)), placement.offset, keep);
                if header.data_len == 0 {
                    // Only an F bit: the sequence is over, and no data will come to go on with.
                    self.retry.push(slot);
                }
            }
            Err(error) => {
                // RFC 7143 7.9: at level 0 the task fails; what else comes for it is dropped.
                let (code, qualifier) = error.additional_sense();
                task.failed = Some(Failure::Sense(code, qualifier));
                self.begin_landing(header, None, 0, 0);
                self.fail(slot);
            }
        }
        Ok(Step::Taken)
    }

    /// Hands a command with all its data to its unit, or answers where it cannot get there.
    #[inline]
    pub(crate) fn execute<I: Io>(&mut self, slot: u16, io: &mut I, hub: &mut Hub<I::Stream>) {
        if !self.held_back.is_empty() && self.waits_its_turn(slot) {
            return;
        }
        self.hand_over(slot, io, hub);
    }

    /// While reads are held back: whether a command is in order with them, and waits behind them. That is an ORDERED one,
    /// and all but HEAD OF QUEUE after one that waits.
    #[cold]
    fn waits_its_turn(&mut self, slot: u16) -> bool {
        let Self { tasks, held_back, .. } = self;
        let mut is_ordered = |slot, turn| {
            let task = tasks.get_turn(slot, turn);
            task.is_some_and(|task| task.attribute == TaskAttribute::Ordered)
        };
        let behind = held_back.iter().any(|&(slot, turn)| is_ordered(slot, turn));
        let Some(task) = tasks.get_mut(slot).filter(|task| task.failed.is_none()) else { return false };
        let waits = match task.attribute {
            TaskAttribute::HeadOfQueue => false,
            TaskAttribute::Ordered => true,
            _ => behind,
        };
        // It is asked for again, where more came for it.
        if waits && !held_back.contains(&(slot, task.turn)) {
            held_back.push_back((slot, task.turn));
        }
        waits
    }

    #[inline]
    fn hand_over<I: Io>(&mut self, slot: u16, io: &mut I, hub: &mut Hub<I::Stream>) {
        let connection = self.id;
        let Some(task) = self.tasks.get_mut(slot) else { return };
        if task.failed.is_some() {
            self.fail(slot);
            return;
        }
        if !task.writes && task.expected > 0 && task.charged == 0 {
            if self.reading > 0 && self.reading + u64::from(task.expected) > self.most_reading {
                let held = (slot, task.turn);
                match task.attribute {
                    TaskAttribute::HeadOfQueue => self.held_back.push_front(held),
                    _ => self.held_back.push_back(held),
                }
                return;
            }
            task.charged = task.expected;
            self.reading += u64::from(task.expected);
        }
        task.stage = Stage::Executing;
        let id = TaskId { connection, slot, turn: task.turn };
        let mut data = hub.spare_list();
        task.data.freeze_into(&mut data);
        let unit = Lun::from_wire(task.lun)
            .ok()
            .filter(|&lun| self.session.visible.contains(lun))
            .and_then(|lun| hub.directory.unit(lun))
            // Volumes may have come and gone while its data did.
            .filter(|&unit| !task.writes || task.meant == Some(unit));
        let Some(unit) = unit else {
            let reply = hub.absent(id, &task.cdb, data, &self.session);
            self.reply(reply);
            return;
        };
        task.unit = unit;
        self.place.count(unit.core, hub.core);
        let command = Command {
            task: id,
            unit,
            nexus: self.session.nexus,
            cdb: task.cdb,
            attribute: task.attribute,
            offered: if task.writes { task.expected } else { 0 },
            data,
            received: task.received,
            sent: io.now(),
        };
        if let Some(reply) = hub.dispatch(command, io) {
            self.reply(reply);
        }
    }

    /// Executes reads that waited for answers to go out, and what waits behind them; whether there were any.
    pub(crate) fn release_held<I: Io>(&mut self, io: &mut I, hub: &mut Hub<I::Stream>) -> bool {
        let mut any = false;
        while let Some(&(slot, turn)) = self.held_back.front() {
            // It may have been aborted meanwhile.
            if let Some(task) = self.tasks.get_turn(slot, turn) {
                if self.reading > 0 && self.reading + u64::from(task.expected) > self.most_reading {
                    break;
                }
                any = true;
                self.held_back.pop_front();
                self.hand_over(slot, io, hub);
            } else {
                self.held_back.pop_front();
            }
        }
        any
    }

    /// Ends a task that never got to its unit.
    fn fail(&mut self, slot: u16) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        task.stage = Stage::Executing;
        let end = match task.failed {
            Some(Failure::TaskSetFull) => Ending::task_set_full(),
            Some(Failure::Sense(code, qualifier)) => Ending::check(ABORTED_COMMAND, code, qualifier),
            Some(Failure::Unsupported) => Ending::check(ILLEGAL_REQUEST, 0x20, 0x00),
            None => Ending::Good,
        };
        let id = TaskId { connection: self.id, slot, turn: task.turn };
        let wanted = u64::from(task.expected);
        self.reply(Reply { task: id, end, data: kagami_memory::Scatter::default(), wanted });
    }

    /// A command is done: its answer is queued, or its slot freed where none is due.
    #[inline]
    pub(crate) fn reply(&mut self, reply: Reply) {
        let TaskId { slot, turn, .. } = reply.task;
        let Some(task) = self.tasks.get_turn(slot, turn) else { return };
        if task.aborted || matches!(reply.end, Ending::Aborted) {
            self.release(slot);
            return;
        }
        task.stage = Stage::Answering;
        self.answers.push_back(Answer::Command(reply));
    }
}
