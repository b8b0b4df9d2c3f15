//! What a link says: from tasks to PDUs, as far as the far array's command window lets it.

use crate::connection::{Burst, Connection, Place};
use crate::link::{Link, State};
use crate::task::{Owner, Stage, Tag};
use crate::wire::{Payload, Sink};
use kagami_iscsi::frame::Framing;
use kagami_iscsi::login::{Established, InitiatorLogin, MAX_LOGIN_SEGMENT};
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::{
    Bhs, CommandFlags, DataOut, DataOutFlags, Itt, NopOut, Opcode, ScsiCommand, TaskAttribute,
    TaskManagementRequest, TmfFunction, Tsih, Ttt, U24,
};
use kagami_iscsi::serial::{CmdSn, DataSn, StatSn};
use kagami_types::Time;
use std::collections::VecDeque;
use zerocopy::FromZeros;

/// The I bit: outside the command window (RFC 7143 11.2.1.1).
const IMMEDIATE: u8 = 0x40;
/// The F bit.
const FINAL: u8 = 0x80;

/// Where a session has several connections, each in turn is given so many commands, or so many bytes of them.
const SHARE: (u32, u64) = (8, 64 << 10);

/// A session in full feature phase: what all its connections share (RFC 7143 4.2).
#[derive(Debug)]
pub(crate) struct Full {
    /// What the first connection agreed upon.
    pub parameters: Parameters,
    pub tsih: Tsih,
    /// The number of the connection that joins next.
    pub next_cid: u16,
    pub cmd_sn: CmdSn,
    /// Up to it, the far array has all commands.
    pub exp_cmd_sn: CmdSn,
    pub max_cmd_sn: CmdSn,
    /// The far unit is known, and hosts' commands are passed on.
    pub serving: bool,
    pub learning_until: Option<Time>,
    pub resets: VecDeque<u16>,
    /// Its connections; the first is there as long as the session.
    pub places: Vec<Place>,
}

impl Full {
    pub fn new(established: &Established, connections: u16, now: Time) -> Self {
        let parameters = established.parameters;
        let most = connections.min(parameters.max_connections).max(1);
        let first = Connection::new(parameters, established.exp_stat_sn, now);
        let others = (1..most).map(|_| Place::Empty { until: now, failures: 0 });
        Self {
            parameters,
            tsih: established.tsih,
            next_cid: 1,
            cmd_sn: established.cmd_sn,
            exp_cmd_sn: established.cmd_sn,
            max_cmd_sn: established.max_cmd_sn,
            serving: false,
            learning_until: None,
            resets: VecDeque::new(),
            places: std::iter::once(Place::Open(Box::new(first))).chain(others).collect(),
        }
    }

    /// The connection in that place, where one is there.
    #[inline]
    pub fn open(&mut self, at: usize) -> Option<&mut Connection> {
        self.places.get_mut(at).and_then(Place::open)
    }

    /// How many are there.
    pub fn connections(&self) -> usize {
        self.places.iter().filter(|place| place.is_open()).count()
    }

    /// When the far array was heard last.
    pub fn last_heard(&self) -> Time {
        let heard = self.places.iter().filter_map(|place| match place {
            Place::Open(connection) => Some(connection.last_heard),
            _ => None,
        });
        heard.max().unwrap_or(Time(0))
    }
}

/// What stands in every PDU of a connection.
#[derive(Clone, Copy)]
struct Numbers {
    cmd_sn: CmdSn,
    exp_stat_sn: StatSn,
}

impl Numbers {
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
    /// Writes what there is to say on a connection, as far as there is room; commands only where it `may_begin` some.
    /// True where it has had its share of commands and more wait: after the others' turn it may be asked again.
    pub fn encode(&mut self, at: usize, may_begin: bool, sink: &mut impl Sink) -> bool {
        match &mut self.state {
            State::Down { .. } => {}
            State::Login { login, .. } if at == 0 => encode_login(login, sink),
            State::Login { .. } => {}
            State::Full(full) => match full.places.get_mut(at) {
                Some(Place::Open(_)) => {
                    if self.encode_control(at, sink) && self.encode_bursts(at, sink) && may_begin {
                        return self.encode_commands(at, sink);
                    }
                }
                Some(Place::Login { login, .. }) => encode_login(login, sink),
                Some(Place::Empty { .. }) | None => {}
            },
        }
        false
    }

    /// Answers to pings, aborts, resets, pings: what waits for no window.
    fn encode_control(&mut self, at: usize, sink: &mut impl Sink) -> bool {
        let State::Full(full) = &mut self.state else { return false };
        let Full { places, resets, cmd_sn, exp_cmd_sn, max_cmd_sn, .. } = &mut **full;
        let several = places.len() > 1;
        let Some(connection) = places.get_mut(at).and_then(Place::open) else { return false };
        let numbers = Numbers { cmd_sn: *cmd_sn, exp_stat_sn: connection.exp_stat_sn };
        let lun = self.plan.mapped.to_wire();
        while let Some(pong) = connection.pongs.front() {
            if !sink.has_room(pong.data.len()) {
                return false;
            }
            let mut bhs: Bhs = numbers.nop_out(Itt::RESERVED, pong.ttt, pong.lun).into();
            bhs.as_nop_out_mut().data_len = U24::new(u32::try_from(pong.data.len()).unwrap_or(0));
            sink.push(&connection.outgoing, &bhs, Payload::Inline(&pong.data));
            connection.pongs.pop_front();
        }
        while let Some(&(slot, turn)) = connection.aborts.front() {
            if !sink.has_room(0) {
                return false;
            }
            connection.aborts.pop_front();
            let Some(task) = self.tasks.get_turn(slot, turn) else { continue };
            let tag = Tag::Abort(slot, turn).itt();
            let mut request = numbers.task_management(TmfFunction::AbortTask, lun, tag);
            request.referenced_tag = Tag::Task(slot, turn).itt().into();
            request.ref_cmd_sn = task.cmd_sn.into();
            sink.push(&connection.outgoing, &request.into(), Payload::None);
            // What it still wants to send is not wanted any more.
            connection.bursts.retain(|burst| (burst.slot, burst.turn) != (slot, turn));
        }
        // The first connection is always there; what others still send for ended tasks, the far array drops.
        while at == 0
            && let Some(&number) = resets.front()
        {
            if !sink.has_room(0) {
                return false;
            }
            let numbers = Numbers { cmd_sn: *cmd_sn, ..numbers };
            let tag = Tag::Reset(number).itt();
            let mut request = numbers.task_management(TmfFunction::LogicalUnitReset, lun, tag);
            if several && exp_cmd_sn != cmd_sn {
                // In its turn: commands that are still on their way on other connections come before it.
                if cmd_sn.is_after(*max_cmd_sn) {
                    break;
                }
                request.opcode = Opcode::TaskManagementRequest.number();
                *cmd_sn = cmd_sn.next();
            }
            resets.pop_front();
            sink.push(&connection.outgoing, &request.into(), Payload::None);
            connection.bursts.clear();
        }
        if connection.ping_due {
            let numbers = Numbers { cmd_sn: *cmd_sn, ..numbers };
            if !sink.has_room(0) {
                return false;
            }
            connection.ping_due = false;
            let ping = numbers.nop_out(Tag::Ping(at).itt(), Ttt::RESERVED, [0; 8]);
            sink.push(&connection.outgoing, &ping.into(), Payload::None);
        }
        true
    }

    /// Data of writes.
    fn encode_bursts(&mut self, at: usize, sink: &mut impl Sink) -> bool {
        let State::Full(full) = &mut self.state else { return false };
        let Some(connection) = full.open(at) else { return false };
        let most = connection.parameters.max_send_data_segment_length.max(512);
        while let Some(burst) = connection.bursts.front_mut() {
            let task = self.tasks.get_turn(burst.slot, burst.turn).filter(|task| task.stage == Stage::Sent);
            let Some(task) = task else {
                connection.bursts.pop_front();
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
                exp_stat_sn: connection.exp_stat_sn.into(),
                data_sn: burst.data_sn.into(),
                offset: burst.offset.into(),
                ..DataOut::new_zeroed()
            };
            let payload = Payload::Pages(&task.out, burst.offset as usize, len as usize);
            sink.push(&connection.outgoing, &header.into(), payload);
            burst.offset += len;
            burst.data_sn = burst.data_sn.next();
            if last {
                connection.bursts.pop_front();
            }
        }
        true
    }

    /// Commands: the link's own, then hosts'. True where more wait than this connection's share.
    fn encode_commands(&mut self, at: usize, sink: &mut impl Sink) -> bool {
        self.starved = false;
        let own = self.tasks.own();
        if self.tasks.get(own).is_some_and(|task| task.stage == Stage::Waiting) && !self.send(own, at, sink) {
            return false;
        }
        let State::Full(full) = &self.state else { return false };
        if !full.serving {
            return false;
        }
        let shared = full.places.len() > 1;
        let (mut commands, mut bytes) = (0, 0);
        while let Some((place, slot)) = self.next_in_turn() {
            if shared && (commands >= SHARE.0 || bytes >= SHARE.1) {
                return true;
            }
            if self.tasks.holds_up(slot) || !self.send(slot, at, sink) {
                return false;
            }
            self.queue.remove(place);
            commands += 1;
            let moved =
                self.tasks.get(slot).map(|task| task.out.len_bytes() as u64 + u64::from(task.expects));
            bytes += moved.unwrap_or(0);
        }
        false
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
    fn send(&mut self, slot: u16, at: usize, sink: &mut impl Sink) -> bool {
        let State::Full(full) = &mut self.state else { return false };
        let Full { places, cmd_sn, max_cmd_sn, .. } = &mut **full;
        let Some(connection) = places.get_mut(at).and_then(Place::open) else { return false };
        let Some(task) = self.tasks.get_mut(slot) else { return true };
        if cmd_sn.is_after(*max_cmd_sn) || !sink.has_room(0) {
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
        let parameters = &connection.parameters;
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
            cmd_sn: (*cmd_sn).into(),
            exp_stat_sn: connection.exp_stat_sn.into(),
            cdb: task.cdb,
            ..ScsiCommand::new_zeroed()
        };
        let payload =
            if immediate > 0 { Payload::Pages(&task.out, 0, immediate as usize) } else { Payload::None };
        sink.push(&connection.outgoing, &header.into(), payload);
        task.stage = Stage::Sent;
        task.connection = at;
        task.cmd_sn = *cmd_sn;
        *cmd_sn = cmd_sn.next();
        if unsolicited > immediate {
            connection.bursts.push_back(Burst {
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

fn encode_login(login: &mut InitiatorLogin, sink: &mut impl Sink) {
    if sink.has_room(MAX_LOGIN_SEGMENT)
        && let Some(mut pdu) = login.poll_transmit()
    {
        let len = u32::try_from(pdu.data.len()).unwrap_or(u32::MAX);
        pdu.bhs.as_nop_in_mut().data_len = U24::new(len);
        sink.push(&Framing::LOGIN, &pdu.bhs, Payload::Inline(&pdu.data));
    }
}
