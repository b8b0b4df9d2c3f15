//! A connection in full feature phase: its tasks, its sequence numbers, its rules (RFC 7143 4.2, 11).

use super::receive::{FRONT, Receive, Sink};
use super::transmit::Transmit;
use super::{Command, Direction, Established, Host, Outcome, Sense, Status};
use kagami_iscsi::crc::Crc32c;
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::{
    Bhs, CommandFlags, DataInFlags, DataOut, DataOutFlags, NopOut, Opcode, RESERVED_TAG, ScsiCommand,
    TaskAttribute,
};
use std::io::{self, Read};
use std::net::TcpStream;
use thiserror::Error;

/// The command window of a session, shared by its connections (RFC 7143 4.2.2.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// The number of the next command.
    pub cmd_sn: u32,
    /// The largest number that the target takes now.
    pub max_cmd_sn: u32,
}

impl Window {
    /// Whether the target takes another command.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        // Serial arithmetic: CmdSN <= MaxCmdSN (RFC 7143 4.2.2.1).
        self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31
    }

    #[inline]
    fn update(&mut self, max_cmd_sn: u32, exp_cmd_sn: u32) {
        // MaxCmdSN below ExpCmdSN - 1 is to be ignored; so is one that is older than ours.
        let ahead = |later: u32, earlier: u32| later.wrapping_sub(earlier) < 1 << 31;
        if ahead(max_cmd_sn, exp_cmd_sn.wrapping_sub(1)) && ahead(max_cmd_sn, self.max_cmd_sn) {
            self.max_cmd_sn = max_cmd_sn;
        }
    }
}

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub enum Lost {
    /// The other side closed it.
    #[error("the target closed the connection")]
    Closed,
    /// The socket failed.
    #[error("connection lost: {0}")]
    Socket(#[from] io::Error),
    /// The target broke a rule of the protocol.
    #[error("protocol error by the target: {0}")]
    Protocol(String),
    /// The target announced that it ends the connection (RFC 7143 11.9): the event's number.
    #[error("the target ends the connection (asynchronous event {0})")]
    Asked(u8),
}

impl Lost {
    pub(super) fn protocol(what: &str) -> Self {
        Self::Protocol(what.to_owned())
    }
}

impl From<String> for Lost {
    fn from(what: String) -> Self {
        Self::Protocol(what)
    }
}

/// What a call of [`Connection::receive`] brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Bytes received.
    pub bytes: usize,
    /// The buffer was filled: there may be more.
    pub more: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Task {
    active: bool,
    writes: bool,
    /// Makes tags of successive tasks of a slot differ.
    serial: u16,
    lun: [u8; 8],
    /// Bytes expected either way.
    len: u32,
    /// Read data so far.
    received: u32,
    next_data_sn: u32,
    next_r2t_sn: u32,
    /// Runs of its data that still wait to be sent.
    unsent: u32,
}

/// One TCP connection of a session.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    receive: Receive,
    link: Link,
}

/// All but the socket and the parser, so that the parser can call it.
#[derive(Debug)]
struct Link {
    parameters: Parameters,
    transmit: Transmit,
    tasks: Vec<Task>,
    free: Vec<u16>,
    exp_stat_sn: u32,
    in_flight: usize,
    /// Data segments of what is not Data-In: sense data, a rejected header.
    aside: Vec<u8>,
}

/// Sense data are at most 252 bytes and two of length (SPC-5 4.4); more is not kept.
const ASIDE: usize = 512;

impl Connection {
    /// Takes over a connection that has logged in. It can have `depth` tasks under way.
    ///
    /// # Errors
    /// The socket cannot be set to non-blocking.
    pub fn new(established: Established, depth: u16) -> io::Result<Self> {
        let Established { stream, parameters, exp_stat_sn, .. } = established;
        stream.set_nonblocking(true)?;
        let depth = depth.min(u16::MAX - 1);
        let link = Link {
            parameters,
            transmit: Transmit::default(),
            tasks: vec![Task::default(); usize::from(depth)],
            free: (0..depth).rev().collect(),
            exp_stat_sn,
            in_flight: 0,
            aside: Vec::with_capacity(ASIDE),
        };
        let segment = parameters.max_recv_data_segment_length;
        let receive = Receive::new(parameters.header_digest, parameters.data_digest, segment);
        Ok(Self { stream, receive, link })
    }

    /// The socket, to wait on or to cut.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What was negotiated.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.link.parameters
    }

    /// Tasks under way.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.link.in_flight
    }

    /// Something waits to be sent.
    #[inline]
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.link.transmit.is_empty()
    }

    /// Whether the task in that slot has not ended.
    #[must_use]
    pub fn is_active(&self, slot: u16) -> bool {
        self.link.tasks.get(usize::from(slot)).is_some_and(|task| task.active)
    }

    /// The slot that the next [`submit`](Self::submit) will use, where one is free.
    #[inline]
    #[must_use]
    pub fn free_slot(&self) -> Option<u16> {
        self.link.free.last().copied()
    }

    /// Queues a command in the slot that [`free_slot`](Self::free_slot) named; false, and nothing
    /// done, where there is none or the window is closed.
    #[inline]
    pub fn submit<H: Host>(&mut self, window: &mut Window, command: &Command, host: &H) -> bool {
        if !window.is_open() {
            return false;
        }
        let Some(slot) = self.link.free.pop() else { return false };
        self.link.submit(slot, window, command, host);
        true
    }

    /// Sends what is queued, as much as the socket takes. Returns how many bytes went.
    ///
    /// # Errors
    /// The connection is lost.
    #[inline]
    pub fn send<H: Host>(&mut self, host: &H) -> Result<usize, Lost> {
        let Link { transmit, tasks, free, .. } = &mut self.link;
        if transmit.is_empty() {
            return Ok(0);
        }
        let sent = transmit.send(&self.stream, host, |slot| {
            let Some(task) = tasks.get_mut(usize::from(slot)) else { return };
            task.unsent = task.unsent.saturating_sub(1);
            if task.unsent == 0 && !task.active {
                free.push(slot);
            }
        })?;
        Ok(sent)
    }

    /// Receives once and handles every PDU that came. `buffer` has [`RECEIVE_BUFFER`] bytes and keeps
    /// nothing between calls.
    ///
    /// # Errors
    /// The connection is lost, or the target broke a rule.
    ///
    /// [`RECEIVE_BUFFER`]: super::RECEIVE_BUFFER
    #[inline]
    pub fn receive<H: Host>(
        &mut self,
        buffer: &mut [u8],
        window: &mut Window,
        host: &mut H,
    ) -> Result<Progress, Lost> {
        let room = buffer.get_mut(FRONT..).unwrap_or_default();
        let len = room.len();
        let bytes = match self.stream.read(room) {
            Ok(0) => return Err(Lost::Closed),
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(Progress::default());
            }
            Err(error) => return Err(error.into()),
        };
        let mut sink = Incoming { link: &mut self.link, window, host };
        self.receive.take(buffer, bytes, &mut sink)?;
        Ok(Progress { bytes, more: bytes == len })
    }
}

impl Link {
    #[inline]
    fn push_header(&mut self, bhs: &Bhs) {
        self.transmit.push_bytes(bhs.bytes());
        if self.parameters.header_digest {
            self.transmit.push_bytes(&kagami_iscsi::crc::crc32c(bhs.bytes()));
        }
    }

    fn push_segment<H: Host>(&mut self, slot: u16, offset: u32, len: u32, host: &H) {
        if len == 0 {
            return;
        }
        self.transmit.push_data(slot, offset, len);
        if let Some(task) = self.tasks.get_mut(usize::from(slot)) {
            task.unsent += 1;
        }
        let padding = [0; 3];
        let padding = padding.get(..(len.wrapping_neg() & 3) as usize).unwrap_or_default();
        if !padding.is_empty() {
            self.transmit.push_bytes(padding);
        }
        if self.parameters.data_digest {
            let known = if padding.is_empty() { host.write_digest(slot, offset, len) } else { None };
            let digest = known.unwrap_or_else(|| {
                let mut crc = Crc32c::new();
                let (mut at, end) = (offset, offset + len);
                while at < end {
                    let bytes = host.write_data(slot, at, end - at);
                    crc.update(bytes);
                    at += u32::try_from(bytes.len()).unwrap_or(u32::MAX).clamp(1, end - at);
                }
                crc.update(padding);
                crc.digest()
            });
            self.transmit.push_bytes(&digest);
        }
    }

    fn submit<H: Host>(&mut self, slot: u16, window: &mut Window, command: &Command, host: &H) {
        let Some(task) = self.tasks.get_mut(usize::from(slot)) else { return };
        let (len, flags, writes) = match command.data {
            Direction::None => (0, CommandFlags::FINAL, false),
            Direction::Read(len) => (len, CommandFlags::FINAL | CommandFlags::READ, false),
            Direction::Write(len) => (len, CommandFlags::FINAL | CommandFlags::WRITE, true),
        };
        let serial = task.serial.wrapping_add(1);
        *task = Task { active: true, writes, serial, lun: command.lun, len, ..Task::default() };
        let tag = u32::from(serial) << 16 | u32::from(slot);

        let parameters = self.parameters;
        // What goes unasked: immediate data, then Data-Out up to FirstBurstLength in all
        // (RFC 7143 4.2.5.2, 13.10 to 13.14).
        let unasked = if writes { len.min(parameters.first_burst_length) } else { 0 };
        let immediate =
            if parameters.immediate_data { unasked.min(parameters.max_send_data_segment_length) } else { 0 };
        let follows = writes && !parameters.initial_r2t && immediate < unasked;
        let flags = if follows { flags.difference(CommandFlags::FINAL) } else { flags };
        let header = ScsiCommand {
            opcode: Opcode::ScsiCommand.number(),
            flags: flags.with_attribute(TaskAttribute::Simple),
            priority: 0,
            reserved3: 0,
            ahs_words: 0,
            data_len: kagami_iscsi::pdu::U24::new(immediate),
            lun: command.lun,
            itt: tag.into(),
            expected_len: len.into(),
            cmd_sn: window.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            cdb: command.cdb,
        };
        window.cmd_sn = window.cmd_sn.wrapping_add(1);
        self.in_flight += 1;
        self.push_header(header.as_bhs());
        self.push_segment(slot, 0, immediate, host);
        if follows {
            self.send_burst(slot, tag, RESERVED_TAG, immediate, unasked - immediate, host);
        }
    }

    /// Queues one sequence of Data-Out PDUs (RFC 7143 11.7).
    fn send_burst<H: Host>(&mut self, slot: u16, tag: u32, ttt: u32, from: u32, len: u32, host: &H) {
        let lun = self.tasks.get(usize::from(slot)).map(|task| task.lun).unwrap_or_default();
        let (mut offset, end, mut data_sn) = (from, from + len, 0u32);
        while offset < end {
            let part = (end - offset).min(self.parameters.max_send_data_segment_length.max(512));
            let last = offset + part == end;
            let header = DataOut {
                opcode: Opcode::DataOut.number(),
                flags: if last { DataOutFlags::FINAL } else { DataOutFlags::empty() },
                reserved2: [0; 2],
                ahs_words: 0,
                data_len: kagami_iscsi::pdu::U24::new(part),
                lun,
                itt: tag.into(),
                ttt: ttt.into(),
                reserved24: [0; 4],
                exp_stat_sn: self.exp_stat_sn.into(),
                reserved32: [0; 4],
                data_sn: data_sn.into(),
                offset: offset.into(),
                reserved44: [0; 4],
            };
            self.push_header(header.as_bhs());
            self.push_segment(slot, offset, part, host);
            offset += part;
            data_sn += 1;
        }
    }

    /// The task of a tag, where it is one of ours and has not ended.
    #[inline]
    fn task(&mut self, tag: u32) -> Result<(u16, &mut Task), String> {
        let [serial_high, serial_low, slot_high, slot_low] = tag.to_be_bytes();
        let slot = u16::from_be_bytes([slot_high, slot_low]);
        let serial = u16::from_be_bytes([serial_high, serial_low]);
        match self.tasks.get_mut(usize::from(slot)) {
            Some(task) if task.active && task.serial == serial => Ok((slot, task)),
            _ => Err(format!("a PDU for the task {tag:#010x}, which is not under way")),
        }
    }

    /// Takes a StatSN that belongs to a status (RFC 7143 4.2.2.2).
    #[inline]
    fn stat_sn(&mut self, stat_sn: u32) -> Result<(), String> {
        if stat_sn != self.exp_stat_sn {
            return Err(format!("StatSN {stat_sn} where {} was due", self.exp_stat_sn));
        }
        self.exp_stat_sn = stat_sn.wrapping_add(1);
        Ok(())
    }

    #[inline]
    fn end_task<H: Host>(&mut self, slot: u16, status: Status, residual: u32, host: &mut H) {
        let Some(task) = self.tasks.get_mut(usize::from(slot)) else { return };
        task.active = false;
        if task.unsent == 0 {
            self.free.push(slot);
        }
        self.in_flight -= 1;
        host.done(slot, &Outcome { status, received: task.received, residual });
    }

    fn response<H: Host>(&mut self, bhs: &Bhs, host: &mut H) -> Result<(), String> {
        let header = bhs.as_scsi_response();
        self.stat_sn(header.stat_sn.get())?;
        let (slot, _) = self.task(header.itt.get())?;
        let status = match (header.response, header.status) {
            (0, 0x00) => Status::Good,
            (0, 0x02) => Status::Check(Sense::from_segment(&self.aside)),
            (0, 0x08 | 0x28) => Status::Busy,
            (0, status) => Status::Other(status),
            _ => Status::TargetFailure,
        };
        self.end_task(slot, status, header.residual.get(), host);
        Ok(())
    }

    fn ready_to_transfer<H: Host>(&mut self, bhs: &Bhs, host: &H) -> Result<(), String> {
        let header = bhs.as_r2t();
        let tag = header.itt.get();
        let (slot, task) = self.task(tag)?;
        let (from, len) = (header.offset.get(), header.desired_len.get());
        if !task.writes || len == 0 || from.checked_add(len).is_none_or(|end| end > task.len) {
            return Err(format!("an R2T for {len} bytes from {from} of a transfer of {} bytes", task.len));
        }
        if header.r2t_sn.get() != task.next_r2t_sn {
            return Err(format!("R2TSN {} where {} was due", header.r2t_sn, task.next_r2t_sn));
        }
        task.next_r2t_sn += 1;
        self.send_burst(slot, tag, header.ttt.get(), from, len, host);
        Ok(())
    }

    fn ping(&mut self, bhs: &Bhs, window: &Window) -> Result<(), String> {
        let header = bhs.as_nop_in();
        if header.itt.get() != RESERVED_TAG {
            return Err("an answer to a ping that was not sent".to_owned());
        }
        if header.ttt.get() == RESERVED_TAG {
            return Ok(());
        }
        let answer = NopOut {
            opcode: Opcode::NopOut.number() | 0x40,
            flags: 0x80,
            reserved2: [0; 2],
            ahs_words: 0,
            data_len: kagami_iscsi::pdu::U24::new(0),
            lun: header.lun,
            itt: RESERVED_TAG.into(),
            ttt: header.ttt,
            cmd_sn: window.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            reserved32: [0; 16],
        };
        self.push_header(answer.as_bhs());
        Ok(())
    }
}

struct Incoming<'a, H> {
    link: &'a mut Link,
    window: &'a mut Window,
    host: &'a mut H,
}

impl<H: Host> Sink for Incoming<'_, H> {
    #[inline]
    fn data(&mut self, bhs: &Bhs, at: u32, bytes: &[u8]) -> Result<(), Lost> {
        let link = &mut *self.link;
        if bhs.opcode_number() != Opcode::DataIn.number() {
            let room = ASIDE.saturating_sub(link.aside.len()).min(bytes.len());
            link.aside.extend_from_slice(&bytes[..room]);
            return Ok(());
        }
        let header = bhs.as_data_in();
        let (slot, task) = link.task(header.itt.get())?;
        let offset = task.received;
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if header.offset.get().checked_add(at) != Some(offset) {
            let came = header.offset;
            return Err(format!("data for offset {came} where {offset} was due").into());
        }
        if task.writes || len > task.len - offset {
            return Err(format!("more data than the {} bytes of the transfer", task.len).into());
        }
        task.received += len;
        self.host.read_data(slot, offset, bytes);
        Ok(())
    }

    #[inline]
    fn end(&mut self, bhs: &Bhs) -> Result<(), Lost> {
        let link = &mut *self.link;
        // ExpCmdSN and MaxCmdSN are at the same place in everything that a target sends.
        let common = bhs.as_scsi_response();
        self.window.update(common.max_cmd_sn.get(), common.exp_cmd_sn.get());
        let result = match bhs.opcode() {
            Some(Opcode::DataIn) => {
                let header = bhs.as_data_in();
                let (slot, task) = link.task(header.itt.get())?;
                if header.data_sn.get() != task.next_data_sn {
                    let due = task.next_data_sn;
                    return Err(format!("DataSN {} where {due} was due", header.data_sn).into());
                }
                task.next_data_sn += 1;
                if header.flags.contains(DataInFlags::STATUS) {
                    link.stat_sn(header.stat_sn.get())?;
                    let status = match header.status {
                        0 => Status::Good,
                        other => Status::Other(other),
                    };
                    link.end_task(slot, status, header.residual.get(), self.host);
                }
                return Ok(());
            }
            Some(Opcode::ScsiResponse) => link.response(bhs, self.host),
            Some(Opcode::R2t) => link.ready_to_transfer(bhs, self.host),
            Some(Opcode::NopIn) => link.ping(bhs, self.window),
            Some(Opcode::Async) => match bhs.as_async().event {
                // A SCSI event or a vendor's: news only.
                0 | 255 => link.stat_sn(bhs.as_async().stat_sn.get()),
                event => return Err(Lost::Asked(event)),
            },
            Some(Opcode::Reject) => {
                Err(format!("a PDU was rejected, reason {:#04x}", bhs.as_reject().reason))
            }
            _ => Err(format!("unexpected opcode {:#04x}", bhs.opcode_number())),
        };
        link.aside.clear();
        result.map_err(Lost::Protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_wraps() {
        let mut window = Window { cmd_sn: u32::MAX, max_cmd_sn: u32::MAX };
        assert!(window.is_open());
        window.cmd_sn = 0;
        assert!(!window.is_open());
        window.update(3, 0);
        assert!(window.is_open());
        window.update(1, 0);
        assert_eq!(window.max_cmd_sn, 3, "an older MaxCmdSN is ignored");
        window.update(2, 9);
        assert_eq!(window.max_cmd_sn, 3, "MaxCmdSN below ExpCmdSN - 1 is ignored");
    }
}
