//! What a link says: from tasks to PDUs, as far as the far array's command window lets it.

use crate::link::{Link, State};
use crate::task::{Owner, Stage, Tag};
use crate::wire::{Payload, Sink};
use kagami_iscsi::frame::Framing;
use kagami_iscsi::login::{Established, MAX_LOGIN_SEGMENT};
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::{
    Bhs, CommandFlags, DataOut, DataOutFlags, Itt, NopOut, Opcode, ScsiCommand, TaskAttribute,
    TaskManagementRequest, TmfFunction, Ttt, U24,
};
use kagami_iscsi::serial::{CmdSn, DataSn, StatSn};
use kagami_types::Time;
use std::collections::VecDeque;
use zerocopy::FromZeros;

/// The I bit: outside the command window (RFC 7143 11.2.1.1).
const IMMEDIATE: u8 = 0x40;
/// The F bit.
const FINAL: u8 = 0x80;

/// Data that the far array asked for, or that may be sent without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    pub slot: u16,
    pub turn: u16,
    pub ttt: Ttt,
    pub offset: u32,
    pub end: u32,
    pub data_sn: DataSn,
}

/// The answer to a ping of the far array.
#[derive(Debug)]
pub(crate) struct Pong {
    pub ttt: Ttt,
    pub lun: [u8; 8],
    pub data: Box<[u8]>,
}

/// Where the data segment of a Data-In PDU goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landing {
    /// `None`: it is dropped.
    pub task: Option<(u16, u16)>,
    /// Where it began, how far it has come, in the command's buffer.
    pub from: usize,
    pub at: usize,
    pub left: usize,
    /// Its pages are lent, to be received into.
    pub lent: bool,
    /// Bytes of padding and digest behind it.
    pub tail: usize,
    /// The header, where it ends the command.
    pub end: Option<Bhs>,
}

/// The full feature phase of a connection (RFC 7143 4.3).
#[derive(Debug)]
pub(crate) struct Full {
    pub parameters: Parameters,
    pub incoming: Framing,
    pub outgoing: Framing,
    pub cmd_sn: CmdSn,
    pub exp_stat_sn: StatSn,
    pub max_cmd_sn: CmdSn,
    /// The far unit is known, and hosts' commands are passed on.
    pub serving: bool,
    pub learning_until: Option<Time>,
    pub bursts: VecDeque<Burst>,
    pub aborts: VecDeque<(u16, u16)>,
    pub resets: VecDeque<u16>,
    pub pongs: VecDeque<Pong>,
    pub ping_due: bool,
    pub pinged: Option<Time>,
    pub last_heard: Time,
    pub landing: Option<Landing>,
}

impl Full {
    pub fn new(established: &Established, now: Time) -> Self {
        let parameters = established.parameters;
        Self {
            parameters,
            incoming: parameters.receive_framing(),
            outgoing: parameters.send_framing(),
            cmd_sn: established.cmd_sn,
            exp_stat_sn: established.exp_stat_sn,
            max_cmd_sn: established.max_cmd_sn,
            serving: false,
            learning_until: None,
            bursts: VecDeque::new(),
            aborts: VecDeque::new(),
            resets: VecDeque::new(),
            pongs: VecDeque::new(),
            ping_due: false,
            pinged: None,
            last_heard: now,
            landing: None,
        }
    }

    fn task_management(&self, function: TmfFunction, lun: [u8; 8], itt: Itt) -> TaskManagementRequest {
        TaskManagementRequest {
            opcode: IMMEDIATE | Opcode::TaskManagementRequest.number(),
            function: FINAL | u8::from(function),
            lun,
            itt: itt.into(),
            referenced_tag: Itt::RESERVED.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..TaskManagementRequest::new_zeroed()
        }
    }

    fn nop_out(&self, itt: Itt, ttt: Ttt, lun: [u8; 8]) -> NopOut {
        NopOut {
            opcode: IMMEDIATE | Opcode::NopOut.number(),
            flags: FINAL,
            lun,
            itt: itt.into(),
            ttt: ttt.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..NopOut::new_zeroed()
        }
    }
}

impl<T: Copy> Link<T> {
    /// Writes what there is to say, as far as there is room.
    pub fn encode(&mut self, sink: &mut impl Sink) {
        match &mut self.state {
            State::Down { .. } => {}
            State::Login { login, .. } => {
                if sink.has_room(MAX_LOGIN_SEGMENT)
                    && let Some(mut pdu) = login.poll_transmit()
                {
                    let len = u32::try_from(pdu.data.len()).unwrap_or(u32::MAX);
                    pdu.bhs.as_nop_in_mut().data_len = U24::new(len);
                    sink.push(&Framing::LOGIN, &pdu.bhs, Payload::Inline(&pdu.data));
                }
            }
            State::Full(_) => {
                if self.encode_control(sink) && self.encode_bursts(sink) {
                    self.encode_commands(sink);
                }
            }
        }
    }

    /// Whether there is something to say.
    #[must_use]
    pub fn has_more(&self) -> bool {
        match &self.state {
            State::Down { .. } | State::Login { .. } => false,
            State::Full(full) => {
                let control = !full.aborts.is_empty() || !full.resets.is_empty() || !full.pongs.is_empty();
                let open = !full.cmd_sn.is_after(full.max_cmd_sn);
                let commands = full.serving && !self.queue.is_empty();
                control || full.ping_due || !full.bursts.is_empty() || (open && commands)
            }
        }
    }

    /// Answers to pings, aborts, resets, pings: what waits for no window.
    fn encode_control(&mut self, sink: &mut impl Sink) -> bool {
        let State::Full(full) = &mut self.state else { return false };
        let lun = self.plan.mapped.to_wire();
        while let Some(pong) = full.pongs.front() {
            if !sink.has_room(pong.data.len()) {
                return false;
            }
            let mut bhs: Bhs = full.nop_out(Itt::RESERVED, pong.ttt, pong.lun).into();
            bhs.as_nop_out_mut().data_len = U24::new(u32::try_from(pong.data.len()).unwrap_or(0));
            sink.push(&full.outgoing, &bhs, Payload::Inline(&pong.data));
            full.pongs.pop_front();
        }
        while let Some(&(slot, turn)) = full.aborts.front() {
            if !sink.has_room(0) {
                return false;
            }
            full.aborts.pop_front();
            let Some(task) = self.tasks.get_turn(slot, turn) else { continue };
            let mut request = full.task_management(TmfFunction::AbortTask, lun, Tag::Abort(slot, turn).itt());
            request.referenced_tag = Tag::Task(slot, turn).itt().into();
            request.ref_cmd_sn = task.cmd_sn.into();
            sink.push(&full.outgoing, &request.into(), Payload::None);
            // What it still wants to send is not wanted any more.
            full.bursts.retain(|burst| (burst.slot, burst.turn) != (slot, turn));
        }
        while let Some(&number) = full.resets.front() {
            if !sink.has_room(0) {
                return false;
            }
            full.resets.pop_front();
            let request = full.task_management(TmfFunction::LogicalUnitReset, lun, Tag::Reset(number).itt());
            sink.push(&full.outgoing, &request.into(), Payload::None);
            full.bursts.clear();
        }
        if full.ping_due {
            if !sink.has_room(0) {
                return false;
            }
            full.ping_due = false;
            let ping = full.nop_out(Tag::Ping.itt(), Ttt::RESERVED, [0; 8]);
            sink.push(&full.outgoing, &ping.into(), Payload::None);
        }
        true
    }

    /// Data of writes.
    fn encode_bursts(&mut self, sink: &mut impl Sink) -> bool {
        let State::Full(full) = &mut self.state else { return false };
        let most = full.parameters.max_send_data_segment_length.max(512);
        while let Some(burst) = full.bursts.front_mut() {
            let task = self.tasks.get_turn(burst.slot, burst.turn).filter(|task| task.stage == Stage::Sent);
            let Some(task) = task else {
                full.bursts.pop_front();
                continue;
            };
            if !sink.has_room(0) {
                return false;
            }
            let len = most.min(burst.end - burst.offset);
            let last = burst.offset + len == burst.end;
            let header = DataOut {
                opcode: Opcode::DataOut.number(),
                flags: if last { DataOutFlags::FINAL } else { DataOutFlags::empty() },
                data_len: U24::new(len),
                lun: self.plan.mapped.to_wire(),
                itt: Tag::Task(burst.slot, burst.turn).itt().into(),
                ttt: burst.ttt.into(),
                exp_stat_sn: full.exp_stat_sn.into(),
                data_sn: burst.data_sn.into(),
                offset: burst.offset.into(),
                ..DataOut::new_zeroed()
            };
            let payload = Payload::Pages(&task.out, burst.offset as usize, len as usize);
            sink.push(&full.outgoing, &header.into(), payload);
            burst.offset += len;
            burst.data_sn = burst.data_sn.next();
            if last {
                full.bursts.pop_front();
            }
        }
        true
    }

    /// Commands: the link's own, then hosts'.
    fn encode_commands(&mut self, sink: &mut impl Sink) {
        self.starved = false;
        let own = self.tasks.own();
        if self.tasks.get(own).is_some_and(|task| task.stage == Stage::Waiting) && !self.send(own, sink) {
            return;
        }
        if !matches!(&self.state, State::Full(full) if full.serving) {
            return;
        }
        while let Some((at, slot)) = self.next_in_turn() {
            if self.tasks.holds_up(slot) || !self.send(slot, sink) {
                return;
            }
            self.queue.remove(at);
        }
    }

    /// The command that is to be sent next, with its place in the queue: the first, or, where that waits for an ORDERED
    /// one or is one that waits, a HEAD OF QUEUE one behind it.
    #[inline]
    fn next_in_turn(&self) -> Option<(usize, u16)> {
        let first = *self.queue.front()?;
        if !self.tasks.waits_its_turn(first) {
            return Some((0, first));
        }
        let urgent =
            |slot: u16| self.tasks.get(slot).is_some_and(|task| task.attribute == TaskAttribute::HeadOfQueue);
        (0..).zip(&self.queue).find(|(_, slot)| urgent(**slot)).map(|(at, slot)| (at, *slot))
    }

    /// Sends a command with the data that may go with it at once. False: not now.
    #[inline]
    fn send(&mut self, slot: u16, sink: &mut impl Sink) -> bool {
        let State::Full(full) = &mut self.state else { return false };
        let Some(task) = self.tasks.get_mut(slot) else { return true };
        if full.cmd_sn.is_after(full.max_cmd_sn) || !sink.has_room(0) {
            return false;
        }
        let expects = task.expects as usize;
        if task.room.len_bytes() < expects {
            task.room.clear();
            if !sink.take(&mut task.room, expects) {
                self.starved = true;
                return false;
            }
        }
        let total = u32::try_from(task.out.len_bytes()).unwrap_or(u32::MAX);
        let parameters = &full.parameters;
        let first_burst = total.min(parameters.first_burst_length);
        let immediate = if parameters.immediate_data {
            first_burst.min(parameters.max_send_data_segment_length)
        } else {
            0
        };
        let unsolicited = if parameters.initial_r2t { immediate } else { first_burst };
        let mut flags = CommandFlags::empty().with_attribute(task.attribute);
        flags.set(CommandFlags::FINAL, unsolicited == immediate);
        flags.set(CommandFlags::READ, task.expects > 0);
        flags.set(CommandFlags::WRITE, total > 0);
        let tag = Tag::Task(slot, task.turn).itt();
        let header = ScsiCommand {
            opcode: Opcode::ScsiCommand.number(),
            flags,
            data_len: U24::new(immediate),
            lun: self.plan.mapped.to_wire(),
            itt: tag.into(),
            expected_len: total.max(task.expects).into(),
            cmd_sn: full.cmd_sn.into(),
            exp_stat_sn: full.exp_stat_sn.into(),
            cdb: task.cdb,
            ..ScsiCommand::new_zeroed()
        };
        let payload =
            if immediate > 0 { Payload::Pages(&task.out, 0, immediate as usize) } else { Payload::None };
        sink.push(&full.outgoing, &header.into(), payload);
        task.stage = Stage::Sent;
        task.cmd_sn = full.cmd_sn;
        full.cmd_sn = full.cmd_sn.next();
        if unsolicited > immediate {
            full.bursts.push_back(Burst {
                slot,
                turn: task.turn,
                ttt: Ttt::RESERVED,
                offset: immediate,
                end: unsolicited,
                data_sn: DataSn(0),
            });
        }
        debug_assert!(!matches!(task.owner, Owner::Nobody), "somebody waits for what is sent");
        true
    }
}
