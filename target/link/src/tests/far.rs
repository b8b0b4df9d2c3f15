//! A far array of a few kilobytes: one logical unit, one session, everything in order.

use kagami_iscsi::frame::Framing;
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::{
    Bhs, CommandFlags, DataIn, DataInFlags, DataOutFlags, NopIn, Opcode, R2t, ResponseFlags, ScsiResponse,
    TaskManagementResponse,
};
use kagami_scsi::path::{PATH_PAGE, Path};
use kagami_types::Uuid;
use std::collections::{BTreeMap, VecDeque};
use zerocopy::FromZeros;

pub const BLOCK: usize = 512;

/// What is agreed upon in its logins, and what it is.
#[derive(Clone, Debug)]
pub struct Rules {
    pub initial_r2t: bool,
    pub immediate: bool,
    pub digests: bool,
    pub segment: u32,
    pub window: u32,
    pub arrays: Vec<u128>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            initial_r2t: false,
            immediate: true,
            digests: false,
            segment: 262_144,
            window: 8,
            arrays: vec![2],
        }
    }
}

impl Rules {
    pub fn parameters(&self) -> Parameters {
        Parameters {
            header_digest: self.digests,
            data_digest: self.digests,
            initial_r2t: self.initial_r2t,
            immediate_data: self.immediate,
            max_recv_data_segment_length: 262_144,
            max_send_data_segment_length: self.segment,
            max_burst_length: 16_384,
            first_burst_length: 4096,
            max_outstanding_r2t: 1,
            ..Parameters::default()
        }
    }
}

/// A write that still waits for data.
struct Collecting {
    cdb: [u8; 16],
    data: Vec<u8>,
    have: usize,
    /// Up to where data may come.
    asked: usize,
}

/// The far array.
pub struct Far {
    pub rules: Rules,
    pub disk: Vec<u8>,
    pub blocks: u64,
    /// Conditions that it reports next, the first first.
    pub conditions: Vec<u16>,
    /// It was stopped: NOT READY, INITIALIZING COMMAND REQUIRED, until START STOP UNIT starts it.
    pub stopped: bool,
    /// Commands are not answered, and not executed.
    pub holds_answers: bool,
    /// Writes of that byte are not.
    pub hold: Option<u8>,
    /// Aborts are not answered.
    pub holds_aborts: bool,
    /// That many commands are executed and not answered yet.
    pub late: usize,
    stat_sn: u32,
    cmd_sn: u32,
    buffer: Vec<u8>,
    collecting: BTreeMap<u32, Collecting>,
    waiting: Vec<(u32, Vec<u8>, u8)>,
    aborts: Vec<u32>,
    /// Commands execute in the order in which they came.
    pub in_order: bool,
    order: VecDeque<u32>,
    ready: BTreeMap<u32, ([u8; 16], Vec<u8>)>,
}

impl Far {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            disk: vec![0; 256 * BLOCK],
            blocks: 256,
            conditions: Vec::new(),
            stopped: false,
            holds_answers: false,
            hold: None,
            holds_aborts: false,
            late: 0,
            stat_sn: 1,
            cmd_sn: 1,
            buffer: Vec::new(),
            collecting: BTreeMap::new(),
            waiting: Vec::new(),
            aborts: Vec::new(),
            in_order: false,
            order: VecDeque::new(),
            ready: BTreeMap::new(),
        }
    }

    /// A new session: the old one's tasks are over.
    pub fn reinstate(&mut self) {
        self.stat_sn = 1;
        self.cmd_sn = 1;
        self.buffer.clear();
        self.collecting.clear();
        self.waiting.clear();
        self.aborts.clear();
        self.order.clear();
        self.ready.clear();
        self.conditions = vec![0x2900];
    }

    fn framing(&self) -> Framing {
        Framing {
            header_digest: self.rules.digests,
            data_digest: self.rules.digests,
            max_data_len: self.rules.segment,
        }
    }

    /// Takes what the link said; gives what there is to answer.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffer.extend_from_slice(bytes);
        let mut out = Vec::new();
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        while let Some(header) = self.framing().read_header(&buffer[at..]).unwrap() {
            let segment = &buffer[at + header.len..at + header.wire_len()];
            assert!(self.framing().data_digest_ok(segment));
            let data = segment[..header.data_len as usize].to_vec();
            let bhs = *header.bhs;
            at += header.wire_len();
            self.pdu(&bhs, &data, &mut out);
        }
        assert_eq!(at, buffer.len(), "whole PDUs only");
        if self.waiting.len() > self.late {
            out.extend(self.let_answers_go());
        }
        out
    }

    fn pdu(&mut self, bhs: &Bhs, data: &[u8], out: &mut Vec<u8>) {
        match bhs.opcode().unwrap() {
            Opcode::ScsiCommand => {
                let command = bhs.as_scsi_command();
                assert_eq!(command.cmd_sn.get(), self.cmd_sn, "commands come in order");
                assert!(self.cmd_sn < self.cmd_sn + self.rules.window, "inside the window");
                self.cmd_sn += 1;
                let itt = command.itt.get();
                self.order.push_back(itt);
                if !command.flags.contains(CommandFlags::WRITE) {
                    return self.whole(itt, command.cdb, Vec::new(), out);
                }
                let expected = command.expected_len.get() as usize;
                assert!(data.is_empty() || self.rules.immediate);
                assert!(data.len() <= 4096, "no more than the first burst");
                let open = !command.flags.contains(CommandFlags::FINAL);
                assert!(!open || !self.rules.initial_r2t);
                let mut whole = vec![0; expected];
                whole[..data.len()].copy_from_slice(data);
                let asked = if open { expected.min(4096) } else { data.len() };
                let one = Collecting { cdb: command.cdb, data: whole, have: data.len(), asked };
                self.collecting.insert(itt, one);
                self.go_on(itt, out);
            }
            Opcode::DataOut => {
                let fields = bhs.as_data_out();
                let itt = fields.itt.get();
                let Some(one) = self.collecting.get_mut(&itt) else { return };
                let offset = fields.offset.get() as usize;
                assert_eq!(offset, one.have);
                one.data[offset..offset + data.len()].copy_from_slice(data);
                one.have += data.len();
                assert!(one.have <= one.asked);
                assert_eq!(fields.flags.contains(DataOutFlags::FINAL), one.have == one.asked);
                self.go_on(itt, out);
            }
            Opcode::TaskManagementRequest => {
                let request = bhs.as_task_management_request();
                let itt = request.itt.get();
                if request.function & 0x7f == 5 {
                    self.waiting.clear();
                    self.collecting.clear();
                } else {
                    let referred = request.referenced_tag.get();
                    self.waiting.retain(|(itt, ..)| *itt != referred);
                    self.collecting.remove(&referred);
                }
                self.aborts.push(itt);
                if !self.holds_aborts {
                    out.extend(self.let_aborts_go());
                }
            }
            Opcode::NopOut => {
                let nop = bhs.as_nop_out();
                let answer = NopIn {
                    opcode: Opcode::NopIn.number(),
                    flags: 0x80,
                    itt: nop.itt,
                    ttt: u32::MAX.into(),
                    stat_sn: self.next_stat_sn().into(),
                    exp_cmd_sn: self.cmd_sn.into(),
                    max_cmd_sn: self.max().into(),
                    ..NopIn::new_zeroed()
                };
                self.framing().append(out, &answer.into(), &[]);
            }
            other => panic!("{other:?}"),
        }
    }

    fn max(&self) -> u32 {
        self.cmd_sn + self.rules.window - 1
    }

    fn next_stat_sn(&mut self) -> u32 {
        self.stat_sn += 1;
        self.stat_sn - 1
    }

    fn go_on(&mut self, itt: u32, out: &mut Vec<u8>) {
        let (exp, max, stat) = (self.cmd_sn, self.max(), self.stat_sn);
        let one = self.collecting.get_mut(&itt).unwrap();
        if one.have < one.asked {
            return;
        }
        if one.have == one.data.len() {
            let one = self.collecting.remove(&itt).unwrap();
            return self.whole(itt, one.cdb, one.data, out);
        }
        let len = (one.data.len() - one.have).min(16_384);
        one.asked = one.have + len;
        let r2t = R2t {
            opcode: Opcode::R2t.number(),
            flags: 0x80,
            itt: itt.into(),
            ttt: 5.into(),
            stat_sn: stat.into(),
            exp_cmd_sn: exp.into(),
            max_cmd_sn: max.into(),
            offset: u32::try_from(one.have).unwrap().into(),
            desired_len: u32::try_from(len).unwrap().into(),
            ..R2t::new_zeroed()
        };
        self.framing().append(out, &r2t.into(), &[]);
    }

    /// A command has all of its data.
    fn whole(&mut self, itt: u32, cdb: [u8; 16], data: Vec<u8>, out: &mut Vec<u8>) {
        if !self.in_order {
            return self.execute(itt, cdb, data, out);
        }
        self.ready.insert(itt, (cdb, data));
        while let Some(itt) = self.order.front().copied()
            && let Some((cdb, data)) = self.ready.remove(&itt)
        {
            self.order.pop_front();
            self.execute(itt, cdb, data, out);
        }
    }

    fn execute(&mut self, itt: u32, cdb: [u8; 16], data: Vec<u8>, out: &mut Vec<u8>) {
        if cdb[0] != 0x12 && !self.conditions.is_empty() {
            let code = self.conditions.remove(0).to_be_bytes();
            let mut sense = vec![0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, code[0], code[1], 0, 0, 0, 0];
            sense.splice(0..0, [0, 18]);
            return self.respond(itt, 2, &sense, out);
        }
        if self.stopped && matches!(cdb[0], 0x00 | 0x28 | 0x2a) {
            let sense = [0, 18, 0x70, 0, 2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0x02, 0, 0, 0, 0];
            return self.respond(itt, 2, &sense, out);
        }
        let first = u32::from_be_bytes([cdb[2], cdb[3], cdb[4], cdb[5]]) as usize * BLOCK;
        let len = usize::from(u16::from_be_bytes([cdb[7], cdb[8]])) * BLOCK;
        let held = self.holds_answers || self.hold.is_some_and(|byte| data.first() == Some(&byte));
        if held && matches!(cdb[0], 0x28 | 0x2a | 0x89) {
            return;
        }
        let answer = match cdb[0] {
            0x12 => self.inquiry(&cdb),
            0x00 => Vec::new(),
            0x1b => {
                self.stopped = cdb[4] & 1 == 0;
                Vec::new()
            }
            0x9e => {
                let mut answer = (self.blocks - 1).to_be_bytes().to_vec();
                answer.extend_from_slice(&512u32.to_be_bytes());
                answer.resize(32, 0);
                answer
            }
            0x28 => self.disk[first..first + len].to_vec(),
            0x2a => {
                self.disk[first..first + len].copy_from_slice(&data);
                self.waiting.push((itt, Vec::new(), 0));
                return;
            }
            other => panic!("{other:#x}"),
        };
        if answer.is_empty() {
            self.respond(itt, 0, &[], out);
        } else if cdb[0] == 0x28 {
            self.waiting.push((itt, answer, 0));
        } else {
            self.send(itt, &answer, out);
        }
    }

    fn inquiry(&self, cdb: &[u8; 16]) -> Vec<u8> {
        let mut answer = match (cdb[1] & 1, cdb[2]) {
            (0, _) => vec![0, 0, 6, 2, 31, 0, 0, 2],
            (_, 0) => return vec![0, 0, 0, 2, 0, PATH_PAGE],
            _ => {
                let arrays = self.rules.arrays.iter().map(|array| Uuid::from_u128(*array)).collect();
                let mut page = Vec::new();
                Path { arrays, complete: true }.write(&mut page);
                return page;
            }
        };
        answer.resize(36, b' ');
        answer
    }

    /// Answers what was executed.
    pub fn let_answers_go(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for (itt, data, status) in std::mem::take(&mut self.waiting) {
            if data.is_empty() {
                self.respond(itt, status, &[], &mut out);
            } else {
                self.send(itt, &data, &mut out);
            }
        }
        out
    }

    /// Answers aborts.
    pub fn let_aborts_go(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for itt in std::mem::take(&mut self.aborts) {
            let answer = TaskManagementResponse {
                opcode: Opcode::TaskManagementResponse.number(),
                flags: 0x80,
                itt: itt.into(),
                stat_sn: self.next_stat_sn().into(),
                exp_cmd_sn: self.cmd_sn.into(),
                max_cmd_sn: self.max().into(),
                ..TaskManagementResponse::new_zeroed()
            };
            self.framing().append(&mut out, &answer.into(), &[]);
        }
        out
    }

    /// Data in two PDUs, the second with the status.
    fn send(&mut self, itt: u32, data: &[u8], out: &mut Vec<u8>) {
        let half = data.len() / 2;
        for (number, at, part, last) in [(0u32, 0, &data[..half], false), (1, half, &data[half..], true)] {
            let flags = if last { DataInFlags::FINAL | DataInFlags::STATUS } else { DataInFlags::empty() };
            let header = DataIn {
                opcode: Opcode::DataIn.number(),
                flags,
                itt: itt.into(),
                ttt: u32::MAX.into(),
                stat_sn: if last { self.next_stat_sn() } else { 0 }.into(),
                exp_cmd_sn: self.cmd_sn.into(),
                max_cmd_sn: self.max().into(),
                data_sn: number.into(),
                offset: u32::try_from(at).unwrap().into(),
                ..DataIn::new_zeroed()
            };
            self.framing().append(out, &header.into(), part);
        }
    }

    fn respond(&mut self, itt: u32, status: u8, sense: &[u8], out: &mut Vec<u8>) {
        let header = ScsiResponse {
            opcode: Opcode::ScsiResponse.number(),
            flags: ResponseFlags::FINAL,
            status,
            itt: itt.into(),
            stat_sn: self.next_stat_sn().into(),
            exp_cmd_sn: self.cmd_sn.into(),
            max_cmd_sn: self.max().into(),
            ..ScsiResponse::new_zeroed()
        };
        self.framing().append(out, &header.into(), sense);
    }
}
