//! The headers that a target sends, written into 48 bytes.
//!
//! Pure functions that fill a [`Bhs`] (or any `[u8; 48]`, through [`Bhs::from_mut`]): each writes all
//! 48 bytes, so that a reused buffer leaks nothing. Data segment lengths are those of the data alone.
//! Which StatSN a PDU carries, and whether it advances, is the connection's to know; each function
//! says what RFC 7143 asks for.
//!
//! Used by the channel controller. Login and text responses are written by the
//! machines that decide them.

use crate::pdu::{
    Async, AsyncEvent, Bhs, DataIn, DataInFlags, Itt, LogoutResponse, LogoutStatus, NopIn, R2t, Reject,
    RejectReason, ResponseFlags, ScsiResponse, ScsiResponseCode, TaskManagementResponse, TmfResponse, Ttt,
    U24,
};
use crate::serial::{CmdSn, DataSn, StatSn};
use crate::transfer::{self, DataInPdu, Residual};
use zerocopy::FromZeros;
use zerocopy::big_endian::{U16, U32};

/// F in byte 1, where the byte has nothing else.
const FINAL: u8 = 0x80;
/// The length of the field that precedes sense data in a data segment (RFC 7143 11.4.7.1).
pub const SENSE_LENGTH_LEN: u32 = 2;

/// The three numbers that every PDU from a target has (RFC 7143 4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The status number that this PDU carries; where it carries none, the connection's next.
    pub stat_sn: StatSn,
    /// The next CmdSN that the target expects.
    pub exp_cmd_sn: CmdSn,
    /// The highest CmdSN that the target takes.
    pub max_cmd_sn: CmdSn,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandEnd {
    /// SCSI status.
    pub status: u8,
    /// How far command and expectation differ.
    pub residual: Residual,
}

/// A Data-In. The StatSN is used, and advances, only if the PDU carries the status; `end` likewise
/// (RFC 7143 11.7).
#[inline]
pub fn data_in(out: &mut Bhs, itt: Itt, pdu: &DataInPdu, end: CommandEnd, counters: &Counters) {
    let mut flags = DataInFlags::empty();
    flags.set(DataInFlags::FINAL, pdu.last_of_sequence);
    let with_status = pdu.with_status;
    if with_status {
        flags |= DataInFlags::STATUS | end.residual.data_in_flags();
    }
    *out.as_data_in_mut() = DataIn {
        opcode: DataIn::OPCODE.number(),
        flags,
        reserved2: 0,
        status: if with_status { end.status } else { 0 },
        ahs_words: 0,
        data_len: U24::new(pdu.len),
        lun: [0; 8],
        itt: itt.into(),
        ttt: Ttt::RESERVED.into(),
        stat_sn: if with_status { counters.stat_sn.into() } else { U32::ZERO },
        exp_cmd_sn: counters.exp_cmd_sn.into(),
        max_cmd_sn: counters.max_cmd_sn.into(),
        data_sn: pdu.data_sn.into(),
        offset: U32::new(pdu.offset),
        residual: U32::new(if with_status { end.residual.count() } else { 0 }),
    };
}

/// A SCSI response (RFC 7143 11.4). StatSN advances. With sense data, the data segment is
/// [`sense_length`] and then the sense; without (`sense_len` 0), it is empty. `exp_data_sn` counts the
/// Data-In or R2T PDUs of the task. Status and residual do not count where the target failed.
#[inline]
pub fn scsi_response(
    out: &mut Bhs,
    itt: Itt,
    response: ScsiResponseCode,
    end: CommandEnd,
    sense_len: u16,
    exp_data_sn: DataSn,
    counters: &Counters,
) {
    let data_len = if sense_len == 0 { 0 } else { u32::from(sense_len) + SENSE_LENGTH_LEN };
    *out.as_scsi_response_mut() = ScsiResponse {
        opcode: ScsiResponse::OPCODE.number(),
        flags: ResponseFlags::FINAL | end.residual.response_flags(),
        response: response.into(),
        status: end.status,
        ahs_words: 0,
        data_len: U24::new(data_len),
        reserved8: [0; 8],
        itt: itt.into(),
        snack_tag: U32::ZERO,
        stat_sn: counters.stat_sn.into(),
        exp_cmd_sn: counters.exp_cmd_sn.into(),
        max_cmd_sn: counters.max_cmd_sn.into(),
        exp_data_sn: exp_data_sn.into(),
        bidi_residual: U32::ZERO,
        residual: U32::new(end.residual.count()),
    };
}

/// The two bytes that precede sense data in the data segment (RFC 7143 11.4.7.1).
#[inline]
#[must_use]
pub const fn sense_length(len: u16) -> [u8; 2] {
    len.to_be_bytes()
}

/// A Ready To Transfer (RFC 7143 11.8). StatSN is the connection's next and does not advance.
#[inline]
pub fn r2t(out: &mut Bhs, itt: Itt, ttt: Ttt, lun: [u8; 8], r2t: &transfer::R2t, counters: &Counters) {
    *out.as_r2t_mut() = R2t {
        opcode: R2t::OPCODE.number(),
        flags: FINAL,
        reserved2: [0; 2],
        ahs_words: 0,
        data_len: U24::default(),
        lun,
        itt: itt.into(),
        ttt: ttt.into(),
        stat_sn: counters.stat_sn.into(),
        exp_cmd_sn: counters.exp_cmd_sn.into(),
        max_cmd_sn: counters.max_cmd_sn.into(),
        r2t_sn: r2t.r2t_sn.into(),
        offset: U32::new(r2t.offset),
        desired_len: U32::new(r2t.len),
    };
}

/// The answer to a ping, with `data_len` bytes of its data (RFC 7143 11.19). StatSN advances.
#[inline]
pub fn nop_in_answer(out: &mut Bhs, itt: Itt, data_len: u32, counters: &Counters) {
    nop_in(out, itt, Ttt::RESERVED, [0; 8], data_len, counters);
}

/// The target's own ping, to be answered with `ttt` (RFC 7143 11.19); with the reserved tag it only
/// tells the window and is not answered. StatSN is the connection's next and does not advance.
#[inline]
pub fn nop_in_ping(out: &mut Bhs, ttt: Ttt, lun: [u8; 8], counters: &Counters) {
    nop_in(out, Itt::RESERVED, ttt, lun, 0, counters);
}

fn nop_in(out: &mut Bhs, itt: Itt, ttt: Ttt, lun: [u8; 8], data_len: u32, counters: &Counters) {
    *out.as_nop_in_mut() = NopIn {
        opcode: NopIn::OPCODE.number(),
        flags: FINAL,
        reserved2: [0; 2],
        ahs_words: 0,
        data_len: U24::new(data_len),
        lun,
        itt: itt.into(),
        ttt: ttt.into(),
        stat_sn: counters.stat_sn.into(),
        exp_cmd_sn: counters.exp_cmd_sn.into(),
        max_cmd_sn: counters.max_cmd_sn.into(),
        reserved36: [0; 12],
    };
}

/// The answer to a task management function (RFC 7143 11.6). StatSN advances.
pub fn task_management_response(out: &mut Bhs, itt: Itt, response: TmfResponse, counters: &Counters) {
    *out.as_task_management_response_mut() = TaskManagementResponse {
        opcode: TaskManagementResponse::OPCODE.number(),
        flags: FINAL,
        response: response.into(),
        itt: itt.into(),
        stat_sn: counters.stat_sn.into(),
        exp_cmd_sn: counters.exp_cmd_sn.into(),
        max_cmd_sn: counters.max_cmd_sn.into(),
        ..TaskManagementResponse::new_zeroed()
    };
}

/// The answer to a logout, with Time2Wait and Time2Retain in seconds (RFC 7143 11.15). StatSN
/// advances.
pub fn logout_response(
    out: &mut Bhs,
    itt: Itt,
    response: LogoutStatus,
    time2wait: u16,
    time2retain: u16,
    counters: &Counters,
) {
    *out.as_logout_response_mut() = LogoutResponse {
        opcode: LogoutResponse::OPCODE.number(),
        flags: FINAL,
        response: response.into(),
        itt: itt.into(),
        stat_sn: counters.stat_sn.into(),
        exp_cmd_sn: counters.exp_cmd_sn.into(),
        max_cmd_sn: counters.max_cmd_sn.into(),
        time2wait: U16::new(time2wait),
        time2retain: U16::new(time2retain),
        ..LogoutResponse::new_zeroed()
    };
}

/// A reject; the data segment is the refused header, `header_len` bytes of it (RFC 7143 11.17).
/// StatSN advances.
pub fn reject(out: &mut Bhs, reason: RejectReason, header_len: u32, counters: &Counters) {
    *out.as_reject_mut() = Reject {
        opcode: Reject::OPCODE.number(),
        flags: FINAL,
        reason: reason.into(),
        data_len: U24::new(header_len),
        itt: Itt::RESERVED.into(),
        stat_sn: counters.stat_sn.into(),
        exp_cmd_sn: counters.exp_cmd_sn.into(),
        max_cmd_sn: counters.max_cmd_sn.into(),
        ..Reject::new_zeroed()
    };
}

/// What an asynchronous message tells, with its parameters (RFC 7143 11.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncMessage {
    /// What happened.
    pub event: AsyncEvent,
    /// The vendor's code, for [`AsyncEvent::Vendor`].
    pub vendor_code: u8,
    /// The logical unit, for a SCSI event and for terminated tasks.
    pub lun: [u8; 8],
    /// Parameter1 to Parameter3: what they mean depends on the event.
    pub parameters: [u16; 3],
    /// Length of the data segment in bytes: sense length field, sense and event data.
    pub data_len: u32,
}

/// An asynchronous message (RFC 7143 11.9). StatSN advances.
pub fn async_message(out: &mut Bhs, message: &AsyncMessage, counters: &Counters) {
    let [parameter1, parameter2, parameter3] = message.parameters.map(U16::new);
    *out.as_async_mut() = Async {
        opcode: Async::OPCODE.number(),
        flags: FINAL,
        data_len: U24::new(message.data_len),
        lun: message.lun,
        itt: Itt::RESERVED.into(),
        stat_sn: counters.stat_sn.into(),
        exp_cmd_sn: counters.exp_cmd_sn.into(),
        max_cmd_sn: counters.max_cmd_sn.into(),
        event: message.event.into(),
        vendor_code: message.vendor_code,
        parameter1,
        parameter2,
        parameter3,
        ..Async::new_zeroed()
    };
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
