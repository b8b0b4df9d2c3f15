//! The headers that targets send.

use super::codes::{AsyncEvent, InvalidCode, LogoutStatus, RejectReason, ScsiResponseCode, TmfResponse};
use super::flags::{DataInFlags, LoginFlags, ResponseFlags, TextFlags};
use super::{Isid, U24};
use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A ping, or the answer to the initiator's (RFC 7143 11.19).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct NopIn {
    /// Opcode 0x20.
    pub opcode: u8,
    /// 0x80.
    pub flags: u8,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Data segment length in bytes.
    pub data_len: U24,
    /// The LUN that the answer shall copy, with a target transfer tag.
    pub lun: [u8; 8],
    /// The tag of the ping that this answers, else reserved.
    pub itt: U32,
    /// The tag that the answer shall copy, reserved where none is wanted.
    pub ttt: U32,
    /// StatSN: the connection's next; it advances only where this answers a ping.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Reserved.
    pub reserved36: [u8; 12],
}

/// The end of a SCSI command (RFC 7143 11.4).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ScsiResponse {
    /// Opcode 0x21.
    pub opcode: u8,
    /// The residual flags.
    pub flags: ResponseFlags,
    /// Whether the command completed; read with [`response`](Self::response).
    pub response: u8,
    /// The SCSI status.
    pub status: u8,
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the sense data and their two-byte length, in bytes.
    pub data_len: U24,
    /// Reserved.
    pub reserved8: [u8; 8],
    /// The task's tag.
    pub itt: U32,
    /// SNACK tag, or 0.
    pub snack_tag: U32,
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// How many Data-In (for a read) and R2T (for a write) PDUs the task had.
    pub exp_data_sn: U32,
    /// Residual of the read half of a bidirectional command, in bytes.
    pub bidi_residual: U32,
    /// Residual in bytes.
    pub residual: U32,
}

/// The answer to a task management function (RFC 7143 11.6).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TaskManagementResponse {
    /// Opcode 0x22.
    pub opcode: u8,
    /// 0x80.
    pub flags: u8,
    /// The answer; read with [`response`](Self::response).
    pub response: u8,
    /// Reserved.
    pub reserved3: u8,
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Data segment length in bytes.
    pub data_len: U24,
    /// Reserved.
    pub reserved8: [u8; 8],
    /// The tag of the request.
    pub itt: U32,
    /// Reserved.
    pub reserved20: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Reserved.
    pub reserved36: [u8; 12],
}

/// A login response (RFC 7143 11.13).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LoginResponse {
    /// Opcode 0x23.
    pub opcode: u8,
    /// T, C, CSG and NSG.
    pub flags: LoginFlags,
    /// The highest version that the target speaks.
    pub version_max: u8,
    /// The version that is spoken.
    pub version_active: u8,
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the text in bytes.
    pub data_len: U24,
    /// A copy of the request's.
    pub isid: Isid,
    /// The target's part of the session's name, in the last response of a leading login.
    pub tsih: U16,
    /// A copy of the request's.
    pub itt: U32,
    /// Reserved.
    pub reserved20: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Success 0, redirection 1, initiator error 2, target error 3.
    pub status_class: u8,
    /// What exactly.
    pub status_detail: u8,
    /// Reserved.
    pub reserved38: [u8; 10],
}

/// A text response (RFC 7143 11.11).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TextResponse {
    /// Opcode 0x24.
    pub opcode: u8,
    /// F and C.
    pub flags: TextFlags,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the text in bytes.
    pub data_len: U24,
    /// The LUN that a next request shall copy.
    pub lun: [u8; 8],
    /// The tag of the exchange.
    pub itt: U32,
    /// The tag that a next request shall copy, reserved where the exchange is over.
    pub ttt: U32,
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Reserved.
    pub reserved36: [u8; 12],
}

/// Data of a reading command (RFC 7143 11.7).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DataIn {
    /// Opcode 0x25.
    pub opcode: u8,
    /// F, A, O, U and S.
    pub flags: DataInFlags,
    /// Reserved.
    pub reserved2: u8,
    /// The SCSI status, with S.
    pub status: u8,
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the data in bytes.
    pub data_len: U24,
    /// The logical unit, with A.
    pub lun: [u8; 8],
    /// The task's tag.
    pub itt: U32,
    /// The tag for an acknowledgement, with A, else reserved.
    pub ttt: U32,
    /// StatSN, with S, else reserved.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// The number of this PDU in its task.
    pub data_sn: U32,
    /// Where the data belong in the command's buffer, in bytes.
    pub offset: U32,
    /// Residual in bytes, with S.
    pub residual: U32,
}

/// A logout response (RFC 7143 11.15).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LogoutResponse {
    /// Opcode 0x26.
    pub opcode: u8,
    /// 0x80.
    pub flags: u8,
    /// The answer; read with [`response`](Self::response).
    pub response: u8,
    /// Reserved.
    pub reserved3: u8,
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Data segment length in bytes.
    pub data_len: U24,
    /// Reserved.
    pub reserved8: [u8; 8],
    /// The tag of the request.
    pub itt: U32,
    /// Reserved.
    pub reserved20: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// Reserved.
    pub reserved36: [u8; 4],
    /// Seconds to wait before tasks can be reassigned or the connection reinstated.
    pub time2wait: U16,
    /// Seconds, after that, for which the target keeps the tasks.
    pub time2retain: U16,
    /// Reserved.
    pub reserved44: [u8; 4],
}

/// The target asks for data (RFC 7143 11.8).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct R2t {
    /// Opcode 0x31.
    pub opcode: u8,
    /// 0x80.
    pub flags: u8,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// 0.
    pub data_len: U24,
    /// The logical unit.
    pub lun: [u8; 8],
    /// The task's tag.
    pub itt: U32,
    /// The tag that the data shall carry.
    pub ttt: U32,
    /// StatSN: the connection's next, not advanced.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// The number of this R2T in its task.
    pub r2t_sn: U32,
    /// From where in the command's buffer, in bytes.
    pub offset: U32,
    /// How many bytes.
    pub desired_len: U32,
}

/// An asynchronous message (RFC 7143 11.9).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Async {
    /// Opcode 0x32.
    pub opcode: u8,
    /// 0x80.
    pub flags: u8,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the sense data and what goes with them, in bytes.
    pub data_len: U24,
    /// The logical unit, for a SCSI event.
    pub lun: [u8; 8],
    /// Reserved: all ones.
    pub itt: U32,
    /// Reserved.
    pub reserved20: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// What happened; read with [`event`](Self::event).
    pub event: u8,
    /// The vendor's code.
    pub vendor_code: u8,
    /// Parameter1: for a dropped connection, its CID.
    pub parameter1: U16,
    /// Parameter2: seconds to wait before reconnecting.
    pub parameter2: U16,
    /// Parameter3: seconds by which to log out or reconnect.
    pub parameter3: U16,
    /// Reserved.
    pub reserved44: [u8; 4],
}

/// A PDU was refused; its header is in the data segment (RFC 7143 11.17).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Reject {
    /// Opcode 0x3f.
    pub opcode: u8,
    /// 0x80.
    pub flags: u8,
    /// Why; read with [`reason`](Self::reason).
    pub reason: u8,
    /// Reserved.
    pub reserved3: u8,
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the refused header in bytes.
    pub data_len: U24,
    /// Reserved.
    pub reserved8: [u8; 8],
    /// Reserved: all ones.
    pub itt: U32,
    /// Reserved.
    pub reserved20: [u8; 4],
    /// StatSN.
    pub stat_sn: U32,
    /// ExpCmdSN.
    pub exp_cmd_sn: U32,
    /// MaxCmdSN.
    pub max_cmd_sn: U32,
    /// The next DataSN or R2TSN of a task, for some reasons.
    pub data_sn: U32,
    /// Reserved.
    pub reserved40: [u8; 8],
}

macro_rules! coded {
    ($($header:ident.$field:ident: $code:ident;)*) => {$(
        impl $header {
            /// The coded field, as its enum.
            ///
            /// # Errors
            /// A number that the standard does not define.
            pub fn $field(&self) -> Result<$code, InvalidCode> {
                $code::try_from(self.$field)
            }
        }
    )*};
}

coded! {
    ScsiResponse.response: ScsiResponseCode;
    TaskManagementResponse.response: TmfResponse;
    LogoutResponse.response: LogoutStatus;
    Async.event: AsyncEvent;
    Reject.reason: RejectReason;
}
