//! The basic header segments of iSCSI, as typed views over their 48 bytes (RFC 7143 11).
//!
//! A [`Bhs`] is the bytes as they came. `as_scsi_command()` and its like look at the same bytes
//! through a struct whose fields are the header's, big-endian as on the wire: nothing is copied and
//! nothing can fail, as every bit pattern is a value. What the values mean is for the caller to
//! check; the enums in [`codes`](self) convert with `TryFrom` and say no to numbers that RFC 7143
//! does not define.
//!
//! Not here: where a header begins in a stream ([`frame`](crate::frame)), nor what must be answered.
//! Used by every other module of this crate, by the channel controller and by the initiators.

mod additional;
mod codes;
mod flags;
mod initiator;
mod target;

pub use additional::{Additional, AdditionalError, additional};
pub use codes::{
    AsyncEvent, InvalidCode, LogoutReason, LogoutStatus, RejectReason, ScsiResponseCode, SnackKind, Stage,
    TaskAttribute, TmfFunction, TmfResponse,
};
pub use flags::{CommandFlags, DataInFlags, DataOutFlags, LoginFlags, ResponseFlags, TextFlags};
pub use initiator::{
    DataOut, LoginRequest, LogoutRequest, NopOut, ScsiCommand, Snack, TaskManagementRequest, TextRequest,
};
pub use target::{
    Async, DataIn, LoginResponse, LogoutResponse, NopIn, R2t, Reject, ScsiResponse, TaskManagementResponse,
    TextResponse,
};

use std::fmt;
use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut, transmute_ref};

/// The length of a basic header segment in bytes (RFC 7143 11.2).
pub const BHS_LEN: usize = 48;

/// The tag value that names no task and no transfer (RFC 7143 11.2.1.8, 11.7.4).
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// The most bytes that a data segment can state: 24 bits (RFC 7143 11.2.1.6).
pub const MAX_DATA_SEGMENT: u32 = (1 << 24) - 1;

/// An initiator task tag: what the initiator calls its task (RFC 7143 11.2.1.8). To a target it is
/// opaque, so it has neither arithmetic nor order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Itt(pub u32);

/// A target transfer tag: what the target calls a data transfer, a text exchange or its own ping
/// (RFC 7143 11.7.4, 11.8.6, 11.10.4, 11.18.2). Opaque to the initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ttt(pub u32);

/// The session part that the initiator names, unique among its sessions to one portal group
/// (RFC 7143 11.12.5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Isid(pub [u8; 6]);

/// The session part that the target names; 0 asks for a new session (RFC 7143 11.12.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tsih(pub u16);

/// A connection's number within its session, given by the initiator (RFC 7143 11.12.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cid(pub u16);

macro_rules! tag {
    ($name:ident) => {
        impl $name {
            /// The value that names none.
            pub const RESERVED: Self = Self(RESERVED_TAG);

            /// Whether this is the value that names none.
            #[inline]
            #[must_use]
            pub const fn is_reserved(self) -> bool {
                self.0 == RESERVED_TAG
            }
        }

        impl From<U32> for $name {
            #[inline]
            fn from(wire: U32) -> Self {
                Self(wire.get())
            }
        }

        impl From<$name> for U32 {
            #[inline]
            fn from(tag: $name) -> Self {
                Self::new(tag.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#010x}", self.0)
            }
        }
    };
}
tag!(Itt);
tag!(Ttt);

impl fmt::Display for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A 24-bit number, big-endian: DataSegmentLength (RFC 7143 11.2.1.6).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct U24([u8; 3]);

impl U24 {
    /// The number of that value; a larger one than 24 bits hold becomes [`MAX_DATA_SEGMENT`].
    #[inline]
    #[must_use]
    pub const fn new(value: u32) -> Self {
        let value = if value > MAX_DATA_SEGMENT { MAX_DATA_SEGMENT } else { value };
        let [_, high, middle, low] = value.to_be_bytes();
        Self([high, middle, low])
    }

    /// The value.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        let [high, middle, low] = self.0;
        u32::from_be_bytes([0, high, middle, low])
    }
}

/// What a PDU is (RFC 7143 11.2.1.2). Initiators send 0x00 to 0x1f, targets 0x20 to 0x3f.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// NOP-Out: a ping, or the answer to the target's.
    NopOut = 0x00,
    /// A SCSI command.
    ScsiCommand = 0x01,
    /// A task management function request.
    TaskManagementRequest = 0x02,
    /// A login request.
    LoginRequest = 0x03,
    /// A text request.
    TextRequest = 0x04,
    /// Data of a writing command.
    DataOut = 0x05,
    /// A logout request.
    LogoutRequest = 0x06,
    /// A selective acknowledgement (error recovery level 1 and above).
    Snack = 0x10,
    /// NOP-In: a ping, or the answer to the initiator's.
    NopIn = 0x20,
    /// The end of a SCSI command: status and sense.
    ScsiResponse = 0x21,
    /// The answer to a task management function.
    TaskManagementResponse = 0x22,
    /// A login response.
    LoginResponse = 0x23,
    /// A text response.
    TextResponse = 0x24,
    /// Data of a reading command, perhaps with its status.
    DataIn = 0x25,
    /// A logout response.
    LogoutResponse = 0x26,
    /// Ready to transfer: the target asks for data.
    R2t = 0x31,
    /// An asynchronous message.
    Async = 0x32,
    /// A PDU was refused.
    Reject = 0x3f,
}

impl Opcode {
    /// The opcode of that number (the low six bits of byte 0), where RFC 7143 defines it.
    #[inline]
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            0x00 => Self::NopOut,
            0x01 => Self::ScsiCommand,
            0x02 => Self::TaskManagementRequest,
            0x03 => Self::LoginRequest,
            0x04 => Self::TextRequest,
            0x05 => Self::DataOut,
            0x06 => Self::LogoutRequest,
            0x10 => Self::Snack,
            0x20 => Self::NopIn,
            0x21 => Self::ScsiResponse,
            0x22 => Self::TaskManagementResponse,
            0x23 => Self::LoginResponse,
            0x24 => Self::TextResponse,
            0x25 => Self::DataIn,
            0x26 => Self::LogoutResponse,
            0x31 => Self::R2t,
            0x32 => Self::Async,
            0x3f => Self::Reject,
            _ => return None,
        })
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether a target sends it; initiators send the others.
    #[inline]
    #[must_use]
    pub const fn is_from_target(self) -> bool {
        self.number() & 0x20 != 0
    }
}

/// A basic header segment: 48 bytes, as they came or as they will go (RFC 7143 11.2.1).
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct Bhs([u8; BHS_LEN]);

impl Default for Bhs {
    fn default() -> Self {
        Self([0; BHS_LEN])
    }
}

impl From<[u8; BHS_LEN]> for Bhs {
    fn from(bytes: [u8; BHS_LEN]) -> Self {
        Self(bytes)
    }
}

impl Bhs {
    /// Looks at 48 bytes as a header.
    #[inline]
    #[must_use]
    pub fn from_ref(bytes: &[u8; BHS_LEN]) -> &Self {
        transmute_ref!(bytes)
    }

    /// Looks at 48 bytes as a header that can be changed.
    #[inline]
    #[must_use]
    pub fn from_mut(bytes: &mut [u8; BHS_LEN]) -> &mut Self {
        transmute_mut!(bytes)
    }

    /// Looks at the front of `bytes` as a header, where there is room for one.
    #[inline]
    #[must_use]
    pub fn at_front(bytes: &[u8]) -> Option<&Self> {
        bytes.first_chunk().map(Self::from_ref)
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> &[u8; BHS_LEN] {
        &self.0
    }

    /// What the PDU is, or `None` for a number that RFC 7143 leaves undefined.
    #[inline]
    #[must_use]
    pub const fn opcode(&self) -> Option<Opcode> {
        Opcode::from_wire(self.opcode_number())
    }

    /// The number of the opcode, defined or not.
    #[inline]
    #[must_use]
    pub const fn opcode_number(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// The I bit: deliver at once, out of CmdSN order (RFC 7143 11.2.1.1).
    #[inline]
    #[must_use]
    pub const fn is_immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// The F bit, or the T bit of login PDUs (RFC 7143 11.2.1.3).
    #[inline]
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// The length of the additional header segments in bytes, at most 1020 (RFC 7143 11.2.1.5).
    #[inline]
    #[must_use]
    pub const fn ahs_len(&self) -> usize {
        self.0[4] as usize * 4
    }

    /// The length of the data segment in bytes, padding not counted (RFC 7143 11.2.1.6).
    #[inline]
    #[must_use]
    pub const fn data_segment_len(&self) -> u32 {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]])
    }

    /// Bytes 8 to 15: the LUN, where the PDU has one (RFC 7143 11.2.1.7).
    #[inline]
    #[must_use]
    pub const fn lun(&self) -> [u8; 8] {
        let b = &self.0;
        [b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]
    }

    /// Bytes 16 to 19: the initiator task tag (RFC 7143 11.2.1.8).
    #[inline]
    #[must_use]
    pub const fn itt(&self) -> Itt {
        Itt(self.word(16))
    }

    /// Bytes 24 to 27: CmdSN in the requests that carry one (all but Data-Out and SNACK).
    #[inline]
    #[must_use]
    pub const fn cmd_sn(&self) -> crate::serial::CmdSn {
        crate::serial::CmdSn(self.word(24))
    }

    /// Bytes 28 to 31: ExpStatSN in everything that an initiator sends.
    #[inline]
    #[must_use]
    pub const fn exp_stat_sn(&self) -> crate::serial::StatSn {
        crate::serial::StatSn(self.word(28))
    }

    const fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

impl fmt::Debug for Bhs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bhs")
            .field("opcode", &self.opcode())
            .field("immediate", &self.is_immediate())
            .field("final", &self.is_final())
            .field("ahs_len", &self.ahs_len())
            .field("data_segment_len", &self.data_segment_len())
            .field("itt", &self.itt())
            .finish_non_exhaustive()
    }
}

/// Ties each header struct to its opcode, and gives [`Bhs`] the views.
macro_rules! views {
    ($($opcode:ident: $header:ident, $as_ref:ident, $as_mut:ident;)*) => {$(
        const _: () = assert!(size_of::<$header>() == BHS_LEN && align_of::<$header>() == 1);

        impl $header {
            /// The opcode of this header.
            pub const OPCODE: Opcode = Opcode::$opcode;

            /// This header as bytes.
            #[inline]
            #[must_use]
            pub fn as_bhs(&self) -> &Bhs {
                transmute_ref!(self)
            }
        }

        impl From<$header> for Bhs {
            fn from(header: $header) -> Self {
                *header.as_bhs()
            }
        }
    )*

        impl Bhs {
            $(
                #[doc = concat!("The same bytes seen as a [`", stringify!($header), "`]. The opcode is not looked at.")]
                #[inline]
                #[must_use]
                pub fn $as_ref(&self) -> &$header {
                    transmute_ref!(self)
                }

                #[doc = concat!("The same bytes seen as a [`", stringify!($header), "`] that can be changed.")]
                #[inline]
                #[must_use]
                pub fn $as_mut(&mut self) -> &mut $header {
                    transmute_mut!(self)
                }
            )*
        }
    };
}

views! {
    NopOut: NopOut, as_nop_out, as_nop_out_mut;
    ScsiCommand: ScsiCommand, as_scsi_command, as_scsi_command_mut;
    TaskManagementRequest: TaskManagementRequest, as_task_management_request, as_task_management_request_mut;
    LoginRequest: LoginRequest, as_login_request, as_login_request_mut;
    TextRequest: TextRequest, as_text_request, as_text_request_mut;
    DataOut: DataOut, as_data_out, as_data_out_mut;
    LogoutRequest: LogoutRequest, as_logout_request, as_logout_request_mut;
    Snack: Snack, as_snack, as_snack_mut;
    NopIn: NopIn, as_nop_in, as_nop_in_mut;
    ScsiResponse: ScsiResponse, as_scsi_response, as_scsi_response_mut;
    TaskManagementResponse: TaskManagementResponse, as_task_management_response, as_task_management_response_mut;
    LoginResponse: LoginResponse, as_login_response, as_login_response_mut;
    TextResponse: TextResponse, as_text_response, as_text_response_mut;
    DataIn: DataIn, as_data_in, as_data_in_mut;
    LogoutResponse: LogoutResponse, as_logout_response, as_logout_response_mut;
    R2t: R2t, as_r2t, as_r2t_mut;
    Async: Async, as_async, as_async_mut;
    Reject: Reject, as_reject, as_reject_mut;
}

#[cfg(test)]
mod tests;
