//! The headers that initiators send.

use super::codes::{InvalidCode, LogoutReason, SnackKind, TmfFunction};
use super::flags::{CommandFlags, DataOutFlags, LoginFlags, TextFlags};
use super::{Isid, U24};
use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A ping, or the answer to the target's (RFC 7143 11.18).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct NopOut {
    /// I bit and opcode 0x00.
    pub opcode: u8,
    /// 0x80.
    pub flags: u8,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Data segment length in bytes.
    pub data_len: U24,
    /// The LUN of the target's ping, else 0.
    pub lun: [u8; 8],
    /// The initiator's tag; reserved where no answer is wanted.
    pub itt: U32,
    /// The tag of the target's ping that this answers, else reserved.
    pub ttt: U32,
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved32: [u8; 16],
}

/// A SCSI command (RFC 7143 11.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ScsiCommand {
    /// I bit and opcode 0x01.
    pub opcode: u8,
    /// F, R, W and the task attribute.
    pub flags: CommandFlags,
    /// Command priority in the low four bits (RFC 7144 5.1), else reserved.
    pub priority: u8,
    /// Reserved.
    pub reserved3: u8,
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the immediate data in bytes.
    pub data_len: U24,
    /// The logical unit.
    pub lun: [u8; 8],
    /// The task's tag.
    pub itt: U32,
    /// Expected data transfer length in bytes (RFC 7143 11.3.4).
    pub expected_len: U32,
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// The command descriptor block, or the first 16 bytes of a longer one.
    pub cdb: [u8; 16],
}

/// A task management function request (RFC 7143 11.5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TaskManagementRequest {
    /// I bit and opcode 0x02.
    pub opcode: u8,
    /// 0x80 and the function; read with [`function`](Self::function).
    pub function: u8,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Data segment length in bytes.
    pub data_len: U24,
    /// The logical unit, for the functions that work on one.
    pub lun: [u8; 8],
    /// The tag of this request.
    pub itt: U32,
    /// The tag of the task to abort or reassign, else reserved.
    pub referenced_tag: U32,
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// The CmdSN of the task to abort.
    pub ref_cmd_sn: U32,
    /// For a reassign: the next DataSN that the initiator expects.
    pub exp_data_sn: U32,
    /// Reserved.
    pub reserved40: [u8; 8],
}

/// A login request (RFC 7143 11.12).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LoginRequest {
    /// I bit and opcode 0x03.
    pub opcode: u8,
    /// T, C, CSG and NSG.
    pub flags: LoginFlags,
    /// The highest version that the initiator speaks.
    pub version_max: u8,
    /// The lowest version that the initiator speaks.
    pub version_min: u8,
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the text in bytes.
    pub data_len: U24,
    /// The initiator's part of the session's name.
    pub isid: Isid,
    /// The target's part of the session's name, 0 for a new session.
    pub tsih: U16,
    /// The tag of the whole login.
    pub itt: U32,
    /// The number of the connection.
    pub cid: U16,
    /// Reserved.
    pub reserved22: [u8; 2],
    /// CmdSN: the session's first (leading login) or its current one.
    pub cmd_sn: U32,
    /// ExpStatSN; valid only when a connection is being reinstated or from the second PDU on.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved32: [u8; 16],
}

/// A text request (RFC 7143 11.10).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TextRequest {
    /// I bit and opcode 0x04.
    pub opcode: u8,
    /// F and C.
    pub flags: TextFlags,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the text in bytes.
    pub data_len: U24,
    /// A copy of the LUN of the response that this goes on from, else 0.
    pub lun: [u8; 8],
    /// The tag of the exchange.
    pub itt: U32,
    /// The tag of the response that this goes on from, reserved to begin anew.
    pub ttt: U32,
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved32: [u8; 16],
}

/// Data of a writing command (RFC 7143 11.7).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DataOut {
    /// Opcode 0x05.
    pub opcode: u8,
    /// F.
    pub flags: DataOutFlags,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Length of the data in bytes.
    pub data_len: U24,
    /// A copy of the R2T's LUN, where this answers one.
    pub lun: [u8; 8],
    /// The task's tag.
    pub itt: U32,
    /// The tag of the R2T that this answers, reserved for unsolicited data.
    pub ttt: U32,
    /// Reserved.
    pub reserved24: [u8; 4],
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved32: [u8; 4],
    /// The number of this PDU in its sequence.
    pub data_sn: U32,
    /// Where the data belong in the command's buffer, in bytes.
    pub offset: U32,
    /// Reserved.
    pub reserved44: [u8; 4],
}

/// A logout request (RFC 7143 11.14).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LogoutRequest {
    /// I bit and opcode 0x06.
    pub opcode: u8,
    /// 0x80 and the reason; read with [`reason`](Self::reason).
    pub reason: u8,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Data segment length in bytes.
    pub data_len: U24,
    /// Reserved.
    pub reserved8: [u8; 8],
    /// The tag of this request.
    pub itt: U32,
    /// The connection to close, where the reason names one.
    pub cid: U16,
    /// Reserved.
    pub reserved22: [u8; 2],
    /// CmdSN.
    pub cmd_sn: U32,
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved32: [u8; 16],
}

/// A request for PDUs to be sent again, or an acknowledgement (RFC 7143 11.16).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Snack {
    /// Opcode 0x10.
    pub opcode: u8,
    /// 0x80 and the type; read with [`kind`](Self::kind).
    pub kind: u8,
    /// Reserved.
    pub reserved2: [u8; 2],
    /// AHS length in words of four bytes.
    pub ahs_words: u8,
    /// Data segment length in bytes.
    pub data_len: U24,
    /// The logical unit, for a data acknowledgement.
    pub lun: [u8; 8],
    /// The task's tag, or reserved.
    pub itt: U32,
    /// Target transfer tag or SNACK tag.
    pub ttt: U32,
    /// Reserved.
    pub reserved24: [u8; 4],
    /// ExpStatSN.
    pub exp_stat_sn: U32,
    /// Reserved.
    pub reserved32: [u8; 8],
    /// The first DataSN, R2TSN or StatSN wanted.
    pub beg_run: U32,
    /// How many, 0 for all.
    pub run_length: U32,
}

impl TaskManagementRequest {
    /// The function.
    ///
    /// # Errors
    /// A number that neither RFC 7143 nor RFC 7144 defines.
    pub fn function(&self) -> Result<TmfFunction, InvalidCode> {
        TmfFunction::try_from(self.function & 0x7f)
    }
}

impl LogoutRequest {
    /// The reason.
    ///
    /// # Errors
    /// A number that RFC 7143 does not define.
    pub fn reason(&self) -> Result<LogoutReason, InvalidCode> {
        LogoutReason::try_from(self.reason & 0x7f)
    }
}

impl Snack {
    /// What is asked for.
    ///
    /// # Errors
    /// A number that RFC 7143 does not define.
    pub fn kind(&self) -> Result<SnackKind, InvalidCode> {
        SnackKind::try_from(self.kind & 0x0f)
    }
}
