//! The numbered values inside headers: functions, reasons, responses.

/// A number that RFC 7143 does not define for the field it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:#04x} is not a defined {field}")]
pub struct InvalidCode {
    /// What the field is called.
    pub field: &'static str,
    /// The number that came.
    pub value: u8,
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident, $field:literal { $($(#[$code_doc:meta])* $code:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$code_doc])* $code = $value,)*
        }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];
        }

        impl TryFrom<u8> for $name {
            type Error = InvalidCode;

            #[inline]
            fn try_from(value: u8) -> Result<Self, InvalidCode> {
                match value {
                    $($value => Ok(Self::$code),)*
                    _ => Err(InvalidCode { field: $field, value }),
                }
            }
        }

        impl From<$name> for u8 {
            #[inline]
            fn from(code: $name) -> u8 {
                code as u8
            }
        }
    };
}

codes! {
    /// How a task is ordered among others (RFC 7143 11.3.1.1, SAM-5 8.9).
    TaskAttribute, "task attribute" {
        /// None stated; treated as simple.
        Untagged = 0,
        /// Any order.
        Simple = 1,
        /// After all older, before all younger.
        Ordered = 2,
        /// Before all others.
        HeadOfQueue = 3,
        /// Only while an ACA condition holds.
        Aca = 4,
    }
}

codes! {
    /// Whether the target could execute a command at all (RFC 7143 11.4.3).
    ScsiResponseCode, "SCSI response code" {
        /// The command completed; the status field is valid.
        CommandCompleted = 0x00,
        /// The target failed; the status field is not valid.
        TargetFailure = 0x01,
    }
}

codes! {
    /// A task management function (RFC 7143 11.5.1; 9 and above: RFC 7144 4.1).
    TmfFunction, "task management function" {
        /// Abort the task named by the referenced task tag.
        AbortTask = 1,
        /// Abort all tasks of this session on the logical unit.
        AbortTaskSet = 2,
        /// Clear the auto contingent allegiance.
        ClearAca = 3,
        /// Abort all tasks of every session on the logical unit.
        ClearTaskSet = 4,
        /// Reset the logical unit.
        LogicalUnitReset = 5,
        /// Reset all logical units of the target.
        TargetWarmReset = 6,
        /// The same, then end all sessions.
        TargetColdReset = 7,
        /// Move a task to this connection (error recovery level 2).
        TaskReassign = 8,
        /// Is the task known?
        QueryTask = 9,
        /// Does the logical unit have any task of this session?
        QueryTaskSet = 10,
        /// As if the session had been lost.
        ITNexusReset = 11,
        /// Is a unit attention or deferred error pending?
        QueryAsynchronousEvent = 12,
    }
}

codes! {
    /// The answer to a task management function (RFC 7143 11.6.1; 7: RFC 7144 4.2).
    TmfResponse, "task management response" {
        /// Done.
        FunctionComplete = 0,
        /// No such task.
        TaskDoesNotExist = 1,
        /// No such logical unit.
        LunDoesNotExist = 2,
        /// The task still belongs to its connection.
        TaskStillAllegiant = 3,
        /// Tasks cannot be reassigned here.
        ReassignmentNotSupported = 4,
        /// The function is not supported.
        NotSupported = 5,
        /// The initiator may not do this.
        AuthorizationFailed = 6,
        /// The answer to a query is yes.
        FunctionSucceeded = 7,
        /// Refused.
        Rejected = 255,
    }
}

codes! {
    /// Why an initiator logs out (RFC 7143 11.14.1).
    LogoutReason, "logout reason" {
        /// Close the session and all its connections.
        CloseSession = 0,
        /// Close one connection.
        CloseConnection = 1,
        /// Remove a connection so that its tasks can be reassigned (error recovery level 2).
        RemoveForRecovery = 2,
    }
}

codes! {
    /// The answer to a logout (RFC 7143 11.15.1).
    LogoutStatus, "logout response" {
        /// Closed.
        Closed = 0,
        /// There is no connection with that CID.
        CidNotFound = 1,
        /// Connection recovery is not supported.
        RecoveryNotSupported = 2,
        /// The clean-up failed.
        CleanupFailed = 3,
    }
}

codes! {
    /// What an asynchronous message tells (RFC 7143 11.9.1).
    AsyncEvent, "asynchronous event" {
        /// A SCSI event, its sense data in the data segment.
        Scsi = 0,
        /// The target asks for a logout of this connection within Parameter3 seconds.
        LogoutRequest = 1,
        /// The target will drop or has dropped the connection that Parameter1 names.
        DropConnection = 2,
        /// The target will drop or has dropped all connections of the session.
        DropSession = 3,
        /// The target asks for a parameter negotiation.
        NegotiationRequest = 4,
        /// All tasks of another nexus on the logical unit are being ended.
        TasksTerminated = 5,
        /// Vendor specific.
        Vendor = 255,
    }
}

codes! {
    /// Why a PDU was refused (RFC 7143 11.17.1).
    RejectReason, "reject reason" {
        /// The data digest is wrong.
        DataDigestError = 0x02,
        /// The SNACK is refused.
        SnackReject = 0x03,
        /// The PDU breaks a rule of the protocol.
        ProtocolError = 0x04,
        /// The target does not support this kind of PDU.
        CommandNotSupported = 0x05,
        /// Too many immediate commands.
        ImmediateCommandReject = 0x06,
        /// The task is being worked on.
        TaskInProgress = 0x07,
        /// The acknowledgement names data that were not sent.
        InvalidDataAck = 0x08,
        /// A field has a value that it cannot have.
        InvalidPduField = 0x09,
        /// The operation takes too much: a target transfer tag could not be made.
        LongOperationReject = 0x0a,
        /// The target waits for a logout and takes nothing else.
        WaitingForLogout = 0x0c,
    }
}

codes! {
    /// What a SNACK asks for (RFC 7143 11.16.1).
    SnackKind, "SNACK type" {
        /// Data-In or R2T PDUs again.
        DataOrR2t = 0,
        /// Status PDUs again.
        Status = 1,
        /// Acknowledges Data-In PDUs.
        DataAck = 2,
        /// Data-In PDUs again, cut anew.
        RData = 3,
    }
}

codes! {
    /// A stage of the login phase (RFC 7143 6.3, 11.12.3). 2 is reserved.
    Stage, "login stage" {
        /// Security negotiation: who are you?
        Security = 0,
        /// Login operational negotiation: how shall we talk?
        Operational = 1,
        /// The full feature phase: logged in.
        FullFeature = 3,
    }
}
