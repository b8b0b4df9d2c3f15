//! Golden bytes: each header as it goes to the wire, laid out by hand from RFC 7143 11.

use super::*;
use crate::serial::R2tSn;

const COUNTERS: Counters =
    Counters { stat_sn: StatSn(0x0102_0304), exp_cmd_sn: CmdSn(0x1112_1314), max_cmd_sn: CmdSn(0x2122_2324) };
const ITT: Itt = Itt(0xaabb_ccdd);
const LUN: [u8; 8] = [0, 5, 0, 0, 0, 0, 0, 0];

/// Builds over a dirty buffer: what is not overwritten would show.
fn built(fill: impl FnOnce(&mut Bhs)) -> String {
    let mut bytes = [0xee; 48];
    fill(Bhs::from_mut(&mut bytes));
    let words: Vec<String> =
        bytes.chunks(4).map(|word| word.iter().map(|b| format!("{b:02x}")).collect()).collect();
    words.join(" ")
}

#[test]
fn data_in_with_and_without_status() {
    let mut pdu = DataInPdu {
        data_sn: DataSn(2),
        offset: 0x2000,
        len: 0x1001,
        last_of_sequence: true,
        with_status: true,
    };
    let end = CommandEnd { status: 0, residual: Residual::Underflow(0x200) };
    assert_eq!(
        built(|out| data_in(out, ITT, &pdu, end, &COUNTERS)),
        "25830000 00001001 00000000 00000000 aabbccdd ffffffff 01020304 11121314 21222324 00000002 00002000 00000200"
    );
    pdu.with_status = false;
    pdu.last_of_sequence = false;
    assert_eq!(
        built(|out| data_in(out, ITT, &pdu, end, &COUNTERS)),
        "25000000 00001001 00000000 00000000 aabbccdd ffffffff 00000000 11121314 21222324 00000002 00002000 00000000"
    );
}

#[test]
fn scsi_response_with_sense() {
    let end = CommandEnd { status: 2, residual: Residual::Overflow(0x1000) };
    assert_eq!(
        built(|out| {
            scsi_response(out, ITT, ScsiResponseCode::CommandCompleted, end, 18, DataSn(3), &COUNTERS);
        }),
        "21840002 00000014 00000000 00000000 aabbccdd 00000000 01020304 11121314 21222324 00000003 00000000 00001000"
    );
    assert_eq!(sense_length(18), [0, 18]);
}

#[test]
fn scsi_response_without_data() {
    let end = CommandEnd::default();
    assert_eq!(
        built(|out| scsi_response(out, ITT, ScsiResponseCode::TargetFailure, end, 0, DataSn(0), &COUNTERS)),
        "21800100 00000000 00000000 00000000 aabbccdd 00000000 01020304 11121314 21222324 00000000 00000000 00000000"
    );
}

#[test]
fn ready_to_transfer() {
    let asked = transfer::R2t { r2t_sn: R2tSn(1), index: 1, offset: 0x10000, len: 0x40000 };
    assert_eq!(
        built(|out| r2t(out, ITT, Ttt(0x0000_0701), LUN, &asked, &COUNTERS)),
        "31800000 00000000 00050000 00000000 aabbccdd 00000701 01020304 11121314 21222324 00000001 00010000 00040000"
    );
}

#[test]
fn pings() {
    assert_eq!(
        built(|out| nop_in_answer(out, ITT, 5, &COUNTERS)),
        "20800000 00000005 00000000 00000000 aabbccdd ffffffff 01020304 11121314 21222324 00000000 00000000 00000000"
    );
    assert_eq!(
        built(|out| nop_in_ping(out, Ttt(9), LUN, &COUNTERS)),
        "20800000 00000000 00050000 00000000 ffffffff 00000009 01020304 11121314 21222324 00000000 00000000 00000000"
    );
}

#[test]
fn management_and_logout() {
    assert_eq!(
        built(|out| task_management_response(out, ITT, TmfResponse::Rejected, &COUNTERS)),
        "2280ff00 00000000 00000000 00000000 aabbccdd 00000000 01020304 11121314 21222324 00000000 00000000 00000000"
    );
    assert_eq!(
        built(|out| logout_response(out, ITT, LogoutStatus::CidNotFound, 2, 20, &COUNTERS)),
        "26800100 00000000 00000000 00000000 aabbccdd 00000000 01020304 11121314 21222324 00000000 00020014 00000000"
    );
}

#[test]
fn reject_and_async() {
    assert_eq!(
        built(|out| reject(out, RejectReason::ProtocolError, 48, &COUNTERS)),
        "3f800400 00000030 00000000 00000000 ffffffff 00000000 01020304 11121314 21222324 00000000 00000000 00000000"
    );
    let message = AsyncMessage {
        event: AsyncEvent::LogoutRequest,
        vendor_code: 0,
        lun: [0; 8],
        parameters: [0, 1, 30],
        data_len: 0,
    };
    assert_eq!(
        built(|out| async_message(out, &message, &COUNTERS)),
        "32800000 00000000 00000000 00000000 ffffffff 00000000 01020304 11121314 21222324 01000000 0001001e 00000000"
    );
}
