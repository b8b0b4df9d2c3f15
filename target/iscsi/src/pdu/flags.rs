//! The flag bytes (byte 1) of the headers that have more than the F bit.

use super::codes::{Stage, TaskAttribute};
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

macro_rules! flag_byte {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $bit_doc:literal])* $bit:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
            Unaligned,
        )]
        #[repr(transparent)]
        pub struct $name(u8);

        bitflags! {
            impl $name: u8 {
                $($(#[doc = $bit_doc])* const $bit = $value;)*
                // Reserved bits are kept as they came: a receiver ignores them (RFC 7143 11.1).
                const _ = !0;
            }
        }
    };
}

flag_byte! {
    /// Flags of a SCSI command (RFC 7143 11.3.1).
    CommandFlags {
        /// F: no unsolicited Data-Out follows.
        FINAL = 0x80;
        /// R: the command is expected to read.
        READ = 0x40;
        /// W: the command is expected to write.
        WRITE = 0x20;
    }
}

flag_byte! {
    /// Flags of a SCSI response (RFC 7143 11.4.1).
    ResponseFlags {
        /// Always set.
        FINAL = 0x80;
        /// o: the read half of a bidirectional command had more than was expected.
        BIDI_OVERFLOW = 0x10;
        /// u: the read half of a bidirectional command had less than was expected.
        BIDI_UNDERFLOW = 0x08;
        /// O: the command had more data than the initiator expected.
        OVERFLOW = 0x04;
        /// U: the command had less data than the initiator expected.
        UNDERFLOW = 0x02;
    }
}

flag_byte! {
    /// Flags of a Data-Out (RFC 7143 11.7.1).
    DataOutFlags {
        /// F: the last of its sequence.
        FINAL = 0x80;
    }
}

flag_byte! {
    /// Flags of a Data-In (RFC 7143 11.7).
    DataInFlags {
        /// F: the last of its sequence.
        FINAL = 0x80;
        /// A: the initiator shall acknowledge (error recovery level 1 and above only).
        ACKNOWLEDGE = 0x40;
        /// O, valid with S: the command had more data than the initiator expected.
        OVERFLOW = 0x04;
        /// U, valid with S: the command had less data than the initiator expected.
        UNDERFLOW = 0x02;
        /// S: the status field is valid and ends the command.
        STATUS = 0x01;
    }
}

flag_byte! {
    /// Flags of text requests and responses (RFC 7143 11.10, 11.11).
    TextFlags {
        /// F: the sender has no more to say (request), the exchange is over (response).
        FINAL = 0x80;
        /// C: the text goes on in the next PDU.
        CONTINUE = 0x40;
    }
}

flag_byte! {
    /// Flags of login requests and responses (RFC 7143 11.12.1 to 11.12.3). The two stage fields
    /// are read with [`current`](LoginFlags::current) and [`next`](LoginFlags::next).
    LoginFlags {
        /// T: the sender is ready to leave the current stage for the next.
        TRANSIT = 0x80;
        /// C: the text goes on in the next PDU.
        CONTINUE = 0x40;
    }
}

impl CommandFlags {
    /// These flags with a task attribute.
    #[must_use]
    pub fn with_attribute(self, attribute: TaskAttribute) -> Self {
        Self((self.0 & !0x07) | attribute as u8)
    }

    /// The task attribute (RFC 7143 11.3.1.1), or `None` for the reserved values 5 to 7.
    #[inline]
    #[must_use]
    pub fn attribute(self) -> Option<TaskAttribute> {
        TaskAttribute::try_from(self.0 & 0x07).ok()
    }
}

impl LoginFlags {
    /// These flags with a current and a next stage.
    #[must_use]
    pub fn with_stages(self, current: Stage, next: Stage) -> Self {
        Self((self.0 & 0xf0) | ((current as u8) << 2) | next as u8)
    }

    /// CSG, the current stage, or `None` for the reserved value 2.
    #[must_use]
    pub fn current(self) -> Option<Stage> {
        Stage::try_from((self.0 >> 2) & 0x03).ok()
    }

    /// NSG, the next stage, valid with the T bit, or `None` for the reserved value 2.
    #[must_use]
    pub fn next(self) -> Option<Stage> {
        Stage::try_from(self.0 & 0x03).ok()
    }
}
