//! From replies to PDUs.

use crate::connection::Link;
use crate::full::Full;
use crate::hub::Hub;
use crate::message::{Ending, Reply};
use crate::outbox::Payload;
use crate::task::Task;
use kagami_iscsi::build::{self, AsyncMessage, CommandEnd, SENSE_LENGTH_LEN, sense_length};
use kagami_iscsi::pdu::{Bhs, Itt, LogoutStatus, RejectReason, ScsiResponseCode, TmfResponse, Ttt};
use kagami_iscsi::serial::DataSn;
use kagami_iscsi::transfer::{DataIn, R2t, Residual, residual};

/// Something to be sent.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A command's data and status.
    Command(Reply),
    /// The rest of a command's data, and its status.
    Data(Reply, DataIn),
    /// The target wants a write's data.
    ReadyToTransfer { slot: u16, turn: u16, r2t: R2t },
    /// The answer to a ping, with its data.
    Pong { itt: Itt, data: Box<[u8]> },
    /// The target's own ping.
    Ping { ttt: Ttt },
    /// The end of a task management function.
    Managed { itt: Itt, response: TmfResponse },
    /// A PDU was refused.
    Reject { reason: RejectReason, header: Box<Bhs> },
    /// A text response, header and data.
    Text { bhs: Box<Bhs>, data: Box<[u8]> },
    /// A logout response.
    Logout { itt: Itt, status: LogoutStatus },
    /// An asynchronous message.
    Async(AsyncMessage),
}

impl Full {
    /// Encodes what is ready, as far as there is room for it in the message.
    pub(crate) fn encode<S: Send>(&mut self, link: &mut Link, hub: &mut Hub<S>) {
        while let Some(answer) = self.urgent.pop_front() {
            if let Some(answer) = self.encode_one(answer, link, hub) {
                self.urgent.push_front(answer);
                return;
            }
        }
        while let Some(answer) = self.answers.pop_front() {
            if let Some(answer) = self.encode_one(answer, link, hub) {
                self.answers.push_front(answer);
                return;
            }
        }
    }

    /// Encodes an answer; gives back what there is no room for.
    #[inline]
    fn encode_one<S: Send>(&mut self, answer: Answer, link: &mut Link, hub: &mut Hub<S>) -> Option<Answer> {
        match answer {
            Answer::Command(reply) => self.encode_command(reply, link, hub),
            Answer::Data(reply, rest) => self.encode_data(reply, rest, link, hub),
            other => self.encode_short(other, link, hub),
        }
    }

    #[inline]
    fn encode_command<S: Send>(&mut self, reply: Reply, link: &mut Link, hub: &mut Hub<S>) -> Option<Answer> {
        let task = self.tasks.get_turn(reply.task.slot, reply.task.turn)?;
        let sends = u32::try_from(reply.data.len_bytes()).unwrap_or(u32::MAX).min(task.expected);
        if task.writes || sends == 0 {
            return self.encode_status(reply, DataSn(0), link, hub);
        }
        let with_status = matches!(reply.end, Ending::Good);
        let parameters = &self.parameters;
        let cut = DataIn::new(sends, self.framing_out.max_data_len, parameters.max_burst_length, with_status);
        self.encode_data(reply, cut, link, hub)
    }

    #[inline]
    fn encode_data<S: Send>(
        &mut self,
        mut reply: Reply,
        mut cut: DataIn,
        link: &mut Link,
        hub: &mut Hub<S>,
    ) -> Option<Answer> {
        let task = self.tasks.get_turn(reply.task.slot, reply.task.turn)?;
        if task.aborted {
            return self.end(reply, hub);
        }
        let itt = task.itt;
        let end = CommandEnd { status: 0, residual: residual_of(task, &reply) };
        while cut.remaining() > 0 {
            if !link.outbox.has_room(0, &hub.pool) {
                return Some(Answer::Data(reply, cut));
            }
            let Some(pdu) = cut.next() else { break };
            if pdu.with_status {
                self.free_task(&reply);
            }
            let counters = if pdu.with_status { self.counters_with_status() } else { self.counters() };
            let payload = Payload::Pages(&mut reply.data, pdu.offset as usize, pdu.len as usize);
            link.outbox
                .push(&self.framing_out, payload, |bhs| build::data_in(bhs, itt, &pdu, end, &counters));
            if pdu.with_status {
                hub.keep_list(reply.data);
                return None;
            }
        }
        self.encode_status(reply, cut.exp_data_sn(), link, hub)
    }

    fn encode_status<S: Send>(
        &mut self,
        reply: Reply,
        exp_data_sn: DataSn,
        link: &mut Link,
        hub: &mut Hub<S>,
    ) -> Option<Answer> {
        let (status, sense) = match &reply.end {
            Ending::Good => (0, None),
            Ending::Status(status, sense) => (*status, sense.as_deref()),
            Ending::Aborted => return self.end(reply, hub),
        };
        let sense = sense.unwrap_or_default();
        if !link.outbox.has_room(sense.len() + SENSE_LENGTH_LEN as usize, &hub.pool) {
            return Some(if exp_data_sn == DataSn(0) {
                Answer::Command(reply)
            } else {
                Answer::Data(reply, DataIn::new(0, 1, 1, false))
            });
        }
        let task = self.tasks.get_turn(reply.task.slot, reply.task.turn)?;
        let itt = task.itt;
        let end = CommandEnd { status, residual: residual_of(task, &reply) };
        let r2ts = task.out.as_ref().map_or(0, |out| out.r2ts_sent().0);
        let exp_data_sn = if r2ts > 0 { DataSn(r2ts) } else { exp_data_sn };
        if status == CHECK_CONDITION {
            hub.metrics.network.check_conditions.inc();
        }
        self.free_task(&reply);
        let counters = self.counters_with_status();
        let len = u16::try_from(sense.len()).unwrap_or(0);
        let length = sense_length(len);
        let pieces: [&[u8]; 2] = [&length, sense];
        let payload = if sense.is_empty() { Payload::None } else { Payload::Inline(&pieces) };
        link.outbox.push(&self.framing_out, payload, |bhs| {
            build::scsi_response(
                bhs,
                itt,
                ScsiResponseCode::CommandCompleted,
                end,
                len,
                exp_data_sn,
                &counters,
            );
        });
        hub.keep_list(reply.data);
        None
    }

    /// Frees the slot before the status is built, so that the window which the status tells
    /// has room for the next command already.
    #[inline]
    fn free_task(&mut self, reply: &Reply) {
        self.release(reply.task.slot);
    }

    /// Ends a task without an answer.
    fn end<S: Send>(&mut self, reply: Reply, hub: &mut Hub<S>) -> Option<Answer> {
        self.release(reply.task.slot);
        hub.keep_list(reply.data);
        None
    }

    fn encode_short<S: Send>(&mut self, answer: Answer, link: &mut Link, hub: &mut Hub<S>) -> Option<Answer> {
        let inline = match &answer {
            Answer::Pong { data, .. } | Answer::Text { data, .. } => data.len(),
            Answer::Reject { .. } => 48,
            _ => 0,
        };
        if !link.outbox.has_room(inline, &hub.pool) {
            return Some(answer);
        }
        let framing = self.framing_out;
        let mut push =
            |payload: Payload<'_>, fill: &dyn Fn(&mut Bhs)| link.outbox.push(&framing, payload, fill);
        match answer {
            Answer::ReadyToTransfer { slot, turn, r2t } => {
                let counters = self.counters();
                let task = self.tasks.get_turn(slot, turn)?;
                let [high, low] = slot.to_be_bytes();
                let ttt = Ttt(u32::from_be_bytes([high, low, r2t.index, 0]));
                push(Payload::None, &|bhs| build::r2t(bhs, task.itt, ttt, task.lun, &r2t, &counters));
            }
            Answer::Pong { itt, data } => {
                let counters = self.counters_with_status();
                let len = u32::try_from(data.len()).unwrap_or(0);
                push(Payload::Inline(&[&data]), &|bhs| build::nop_in_answer(bhs, itt, len, &counters));
            }
            Answer::Ping { ttt } => {
                let counters = self.counters();
                push(Payload::None, &|bhs| build::nop_in_ping(bhs, ttt, [0; 8], &counters));
            }
            Answer::Managed { itt, response } => {
                let counters = self.counters_with_status();
                push(Payload::None, &|bhs| build::task_management_response(bhs, itt, response, &counters));
            }
            Answer::Reject { reason, header } => {
                let counters = self.counters_with_status();
                push(Payload::Inline(&[header.bytes()]), &|bhs| build::reject(bhs, reason, 48, &counters));
            }
            Answer::Text { bhs: mut response, data } => {
                let counters = self.counters_with_status();
                let fields = response.as_text_response_mut();
                fields.stat_sn = counters.stat_sn.into();
                fields.exp_cmd_sn = counters.exp_cmd_sn.into();
                fields.max_cmd_sn = counters.max_cmd_sn.into();
                push(Payload::Inline(&[&data]), &|bhs| *bhs = *response);
            }
            Answer::Logout { itt, status } => {
                let counters = self.counters_with_status();
                push(Payload::None, &|bhs| build::logout_response(bhs, itt, status, 2, 0, &counters));
            }
            Answer::Async(message) => {
                let counters = self.counters_with_status();
                push(Payload::None, &|bhs| build::async_message(bhs, &message, &counters));
            }
            Answer::Command(_) | Answer::Data(..) => {}
        }
        None
    }
}

/// How far the command and the initiator's expectation differ (RFC 7143 11.4.5).
#[inline]
fn residual_of(task: &Task, reply: &Reply) -> Residual {
    // A command that failed moved nothing that counts; one that wanted more than was expected
    // still says so.
    let failed = !matches!(reply.end, Ending::Good) && (reply.data.is_empty() || task.writes);
    let fits = reply.wanted <= u64::from(task.expected);
    residual(task.expected, if failed && fits { 0 } else { reply.wanted })
}

/// Sense keys (SPC-5 4.4.8) of commands that end before they reach their unit.
pub(crate) const ILLEGAL_REQUEST: u8 = 0x05;
/// See [`ILLEGAL_REQUEST`].
pub(crate) const ABORTED_COMMAND: u8 = 0x0b;

/// CHECK CONDITION (SAM-5 5.3.1).
pub(crate) const CHECK_CONDITION: u8 = 0x02;

impl Ending {
    /// TASK SET FULL: try again with fewer (SAM-5 5.3.1).
    pub(crate) const fn task_set_full() -> Self {
        Self::Status(0x28, None)
    }

    /// BUSY: try again (SAM-5 5.3.1).
    pub(crate) const fn busy() -> Self {
        Self::Status(0x08, None)
    }

    /// CHECK CONDITION with fixed format sense data: key, additional code and qualifier.
    pub(crate) fn check(key: u8, code: u8, qualifier: u8) -> Self {
        const FIXED: u8 = 0x70;
        let mut sense = [0; 18];
        (sense[0], sense[2], sense[7]) = (FIXED, key, 10);
        (sense[12], sense[13]) = (code, qualifier);
        Self::Status(CHECK_CONDITION, Some(Box::new(sense)))
    }
}
