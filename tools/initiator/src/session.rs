//! One command after another over a blocking socket (RFC 7143 4.2, 11).
//!
//! [`Session::command`] sends a command and waits for its end; meanwhile it answers what the target
//! asks for (R2T) and its pings. Whatever breaks a rule, takes too long or closes the socket ends the
//! session: error recovery level 0. Used by [`Disk`](crate::Disk).

use crate::Error;
use crate::connect::{Connector, Established, Seat};
use crate::scsi::{Command, Direction, Outcome, Sense, Status};
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::{
    BHS_LEN, Bhs, CommandFlags, DataInFlags, DataOut, DataOutFlags, Isid, LogoutRequest, NopOut, Opcode,
    RESERVED_TAG, ScsiCommand, TaskAttribute, U24,
};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The I bit: not counted by CmdSN (RFC 7143 11.2.1.1).
const IMMEDIATE: u8 = 0x40;
/// How long a logout may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A session of one connection.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    parameters: Parameters,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    tag: u32,
    /// What goes out with the next write of the socket.
    out: Vec<u8>,
    /// Something was left unfinished, so what comes next would be misread.
    broken: bool,
}

/// The command under way.
struct Task<'a> {
    tag: u32,
    lun: [u8; 8],
    data: &'a [u8],
    expected: u32,
    read: Vec<u8>,
    next_data_sn: u32,
    next_r2t_sn: u32,
}

/// A PDU from the target.
struct Incoming {
    bhs: Bhs,
    data: Vec<u8>,
}

impl Session {
    /// Opens a connection and logs in: a new session, which ends an older one of the same name and ISID.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn open(connector: &Connector, isid: Isid) -> Result<Self, Error> {
        Ok(Self::new(connector.connect(&Seat::leading(isid))?))
    }

    /// Takes over a connection that has logged in.
    #[must_use]
    pub fn new(established: Established) -> Self {
        let Established { stream, parameters, exp_stat_sn, cmd_sn, max_cmd_sn, .. } = established;
        Self { stream, parameters, cmd_sn, max_cmd_sn, exp_stat_sn, tag: 0, out: Vec::new(), broken: false }
    }

    /// Sends a command with its data, for a WRITE, and waits for its end: how it ended, and what it
    /// read. After an error the session is of no more use.
    ///
    /// # Errors
    /// [`Error::TimedOut`] where it is not over within `timeout`, [`Error::Lost`], and
    /// [`Error::Failed`] where `data` is not what the command is to write.
    pub fn command(
        &mut self,
        command: &Command,
        data: &[u8],
        timeout: Duration,
    ) -> Result<(Outcome, Vec<u8>), Error> {
        if self.broken {
            return Err(Error::Lost("the session has ended".to_owned()));
        }
        let writes = match command.data {
            Direction::Write(len) => len as usize,
            _ => 0,
        };
        if writes != data.len() {
            return Err(Error::Failed(format!("{} bytes for a command that writes {writes}", data.len())));
        }
        self.broken = true;
        let result = self.execute(command, data, Instant::now() + timeout)?;
        self.broken = false;
        Ok(result)
    }

    /// Says good-bye, as far as the target listens.
    pub fn close(mut self) {
        if self.broken {
            return;
        }
        let request = LogoutRequest {
            opcode: Opcode::LogoutRequest.number() | IMMEDIATE,
            // Close the session (RFC 7143 11.14.1).
            reason: 0x80,
            reserved2: [0; 2],
            ahs_words: 0,
            data_len: U24::new(0),
            reserved8: [0; 8],
            itt: self.next_tag().into(),
            cid: 0.into(),
            reserved22: [0; 2],
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            reserved32: [0; 16],
        };
        self.queue(request.as_bhs(), &[]);
        let deadline = Instant::now() + FAREWELL;
        let mut answered = self.flush(deadline).is_err();
        while !answered {
            answered =
                self.receive(deadline).map_or(true, |pdu| pdu.bhs.opcode() == Some(Opcode::LogoutResponse));
        }
    }

    fn next_tag(&mut self) -> u32 {
        self.tag = if self.tag >= RESERVED_TAG - 1 { 0 } else { self.tag + 1 };
        self.tag
    }

    fn execute(
        &mut self,
        command: &Command,
        data: &[u8],
        deadline: Instant,
    ) -> Result<(Outcome, Vec<u8>), Error> {
        // CmdSN <= MaxCmdSN, in serial arithmetic (RFC 7143 4.2.2.1); news comes with pings at the latest.
        while self.max_cmd_sn.wrapping_sub(self.cmd_sn) >= 1 << 31 {
            let pdu = self.receive(deadline)?;
            self.aside(&pdu, deadline)?;
        }
        let (expected, flags) = match command.data {
            Direction::None => (0, CommandFlags::FINAL),
            Direction::Read(len) => (len, CommandFlags::FINAL | CommandFlags::READ),
            Direction::Write(len) => (len, CommandFlags::FINAL | CommandFlags::WRITE),
        };
        let parameters = self.parameters;
        let first = parameters.first_burst_length.min(parameters.max_send_data_segment_length) as usize;
        let immediate = if parameters.immediate_data { data.len().min(first) } else { 0 };
        // Unsolicited data where the target insists on no R2T for the first burst: none are sent, as an
        // initiator may always stop earlier (RFC 7143 4.2.5.2); the F bit says so.
        let tag = self.next_tag();
        let header = ScsiCommand {
            opcode: Opcode::ScsiCommand.number(),
            flags: flags.with_attribute(TaskAttribute::Simple),
            priority: 0,
            reserved3: 0,
            ahs_words: 0,
            data_len: U24::new(0),
            lun: command.lun,
            itt: tag.into(),
            expected_len: expected.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            cdb: command.cdb,
        };
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.queue(header.as_bhs(), data.get(..immediate).unwrap_or_default());
        self.flush(deadline)?;
        let mut task =
            Task { tag, lun: command.lun, data, expected, read: Vec::new(), next_data_sn: 0, next_r2t_sn: 0 };
        loop {
            let pdu = self.receive(deadline)?;
            if let Some(outcome) = self.advance(&pdu, &mut task, deadline)? {
                return Ok((outcome, task.read));
            }
        }
    }

    /// What a PDU means for the task; its outcome where it ended.
    fn advance(
        &mut self,
        pdu: &Incoming,
        task: &mut Task,
        deadline: Instant,
    ) -> Result<Option<Outcome>, Error> {
        let ours = pdu.bhs.itt().0 == task.tag;
        match pdu.bhs.opcode() {
            Some(Opcode::DataIn) if ours => {
                let header = pdu.bhs.as_data_in();
                let due = u32::try_from(task.read.len()).unwrap_or(u32::MAX);
                let room = if task.data.is_empty() { task.expected.saturating_sub(due) } else { 0 };
                if header.offset.get() != due || header.data_sn.get() != task.next_data_sn {
                    return Err(protocol("data out of order"));
                }
                if pdu.data.len() > room as usize {
                    return Err(protocol("more data than the transfer has"));
                }
                task.next_data_sn = task.next_data_sn.wrapping_add(1);
                task.read.extend_from_slice(&pdu.data);
                if !header.flags.contains(DataInFlags::STATUS) {
                    return Ok(None);
                }
                self.stat_sn(header.stat_sn.get())?;
                let status = if header.status == 0 { Status::Good } else { Status::Other(header.status) };
                Ok(Some(outcome(status, task, header.residual.get())))
            }
            Some(Opcode::ScsiResponse) if ours => {
                let header = pdu.bhs.as_scsi_response();
                self.stat_sn(header.stat_sn.get())?;
                let status = match (header.response, header.status) {
                    (1.., _) => Status::TargetFailure,
                    (0, 0x00) => Status::Good,
                    (0, 0x02) => Status::Check(Sense::from_segment(&pdu.data)),
                    (0, 0x08 | 0x28) => Status::Busy,
                    (0, other) => Status::Other(other),
                };
                Ok(Some(outcome(status, task, header.residual.get())))
            }
            Some(Opcode::R2t) if ours => {
                self.answer_r2t(&pdu.bhs, task, deadline)?;
                Ok(None)
            }
            _ => self.aside(pdu, deadline).map(|()| None),
        }
    }

    /// Sends what an R2T asks for (RFC 7143 11.8).
    fn answer_r2t(&mut self, bhs: &Bhs, task: &mut Task, deadline: Instant) -> Result<(), Error> {
        let header = bhs.as_r2t();
        if header.r2t_sn.get() != task.next_r2t_sn {
            return Err(protocol("an R2T out of order"));
        }
        task.next_r2t_sn = task.next_r2t_sn.wrapping_add(1);
        let begin = header.offset.get() as usize;
        let end = begin.saturating_add(header.desired_len.get() as usize);
        let wanted = task.data.get(begin..end).filter(|wanted| !wanted.is_empty());
        let wanted = wanted.ok_or_else(|| protocol("an R2T for data that the command does not have"))?;
        let segment = (self.parameters.max_send_data_segment_length as usize).max(1);
        let last = wanted.len().div_ceil(segment) - 1;
        let mut offset = header.offset.get();
        for (number, piece) in wanted.chunks(segment).enumerate() {
            let data_out = DataOut {
                opcode: Opcode::DataOut.number(),
                flags: if number == last { DataOutFlags::FINAL } else { DataOutFlags::empty() },
                reserved2: [0; 2],
                ahs_words: 0,
                data_len: U24::new(0),
                lun: task.lun,
                itt: task.tag.into(),
                ttt: header.ttt,
                reserved24: [0; 4],
                exp_stat_sn: self.exp_stat_sn.into(),
                reserved32: [0; 4],
                data_sn: u32::try_from(number).unwrap_or(u32::MAX).into(),
                offset: offset.into(),
                reserved44: [0; 4],
            };
            self.queue(data_out.as_bhs(), piece);
            offset = offset.wrapping_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        }
        self.flush(deadline)
    }

    /// Everything that does not belong to the task.
    fn aside(&mut self, pdu: &Incoming, deadline: Instant) -> Result<(), Error> {
        let bhs = &pdu.bhs;
        match bhs.opcode() {
            Some(Opcode::NopIn) => {
                let header = bhs.as_nop_in();
                if header.ttt.get() == RESERVED_TAG {
                    return Ok(());
                }
                let answer = NopOut {
                    opcode: Opcode::NopOut.number() | IMMEDIATE,
                    flags: 0x80,
                    reserved2: [0; 2],
                    ahs_words: 0,
                    data_len: U24::new(0),
                    lun: header.lun,
                    itt: RESERVED_TAG.into(),
                    ttt: header.ttt,
                    cmd_sn: self.cmd_sn.into(),
                    exp_stat_sn: self.exp_stat_sn.into(),
                    reserved32: [0; 16],
                };
                self.queue(answer.as_bhs(), &[]);
                self.flush(deadline)
            }
            Some(Opcode::Async) => match bhs.as_async().event {
                // A SCSI event or a vendor's: news only (RFC 7143 11.9.1).
                0 | 255 => self.stat_sn(bhs.as_async().stat_sn.get()),
                event => {
                    Err(Error::Lost(format!("the target ends the connection (asynchronous event {event})")))
                }
            },
            Some(Opcode::Reject) => {
                Err(protocol(&format!("a PDU was rejected, reason {:#04x}", bhs.as_reject().reason)))
            }
            _ => Err(protocol(&format!("unexpected opcode {:#04x}", bhs.opcode_number()))),
        }
    }

    fn stat_sn(&mut self, stat_sn: u32) -> Result<(), Error> {
        if stat_sn != self.exp_stat_sn {
            return Err(protocol("a StatSN out of order"));
        }
        self.exp_stat_sn = stat_sn.wrapping_add(1);
        Ok(())
    }

    fn queue(&mut self, bhs: &Bhs, data: &[u8]) {
        self.parameters.send_framing().append(&mut self.out, bhs, data);
    }

    fn flush(&mut self, deadline: Instant) -> Result<(), Error> {
        let result = remaining(deadline)
            .and_then(|time| self.stream.set_write_timeout(Some(time)).map_err(socket))
            .and_then(|()| self.stream.write_all(&self.out).map_err(socket));
        self.out.clear();
        result
    }

    fn receive(&mut self, deadline: Instant) -> Result<Incoming, Error> {
        let framing = self.parameters.receive_framing();
        let mut head = vec![0; BHS_LEN];
        self.fill(&mut head, deadline)?;
        let ahs = head.first_chunk::<BHS_LEN>().map_or(0, |bytes| Bhs::from_ref(bytes).ahs_len());
        let mut more = vec![0; framing.header_wire_len(ahs) - BHS_LEN];
        self.fill(&mut more, deadline)?;
        head.append(&mut more);
        let header = framing.read_header(&head).map_err(|error| protocol(&error.to_string()))?;
        let header = header.ok_or_else(|| protocol("a header that is not whole"))?;
        let bhs = *header.bhs;
        let (data_len, wire_len) = (header.data_len as usize, header.data_wire_len as usize);
        let mut data = vec![0; wire_len];
        self.fill(&mut data, deadline)?;
        if !framing.data_digest_ok(&data) {
            return Err(protocol("the data digest is wrong"));
        }
        data.truncate(data_len);
        // ExpCmdSN and MaxCmdSN are at the same place in everything that a target sends. A MaxCmdSN below
        // ExpCmdSN - 1, or older than the last, is ignored (RFC 7143 4.2.2.1).
        let common = bhs.as_scsi_response();
        let (max, exp) = (common.max_cmd_sn.get(), common.exp_cmd_sn.get());
        let ahead = |later: u32, earlier: u32| later.wrapping_sub(earlier) < 1 << 31;
        if ahead(max, exp.wrapping_sub(1)) && ahead(max, self.max_cmd_sn) {
            self.max_cmd_sn = max;
        }
        Ok(Incoming { bhs, data })
    }

    fn fill(&mut self, mut room: &mut [u8], deadline: Instant) -> Result<(), Error> {
        while !room.is_empty() {
            let time = remaining(deadline)?;
            self.stream.set_read_timeout(Some(time)).map_err(socket)?;
            match self.stream.read(room) {
                Ok(0) => return Err(Error::Lost("the target closed the connection".to_owned())),
                Ok(n) => room = room.get_mut(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(socket(error)),
            }
        }
        Ok(())
    }
}

fn outcome(status: Status, task: &Task, residual: u32) -> Outcome {
    Outcome { status, received: u32::try_from(task.read.len()).unwrap_or(u32::MAX), residual }
}

fn protocol(what: &str) -> Error {
    Error::Lost(format!("protocol error by the target: {what}"))
}

fn socket(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => timed_out(),
        _ => Error::Lost(format!("connection lost: {error}")),
    }
}

fn timed_out() -> Error {
    Error::TimedOut("the target does not answer".to_owned())
}

/// Not nothing, which would mean "for ever" to a socket.
fn remaining(deadline: Instant) -> Result<Duration, Error> {
    let time = deadline.saturating_duration_since(Instant::now());
    if time.is_zero() { Err(timed_out()) } else { Ok(time.max(Duration::from_millis(1))) }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
