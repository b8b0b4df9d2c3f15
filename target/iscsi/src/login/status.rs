//! Login status classes and details (RFC 7143 11.13.5).

use std::fmt;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// How a login stands or why it failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Status {
            $($(#[$doc])* $name = $value,)*
        }

        impl Status {
            /// Every status.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The status of that class and detail, where RFC 7143 defines it.
            #[must_use]
            pub const fn from_wire(class: u8, detail: u8) -> Option<Self> {
                match u16::from_be_bytes([class, detail]) {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Status {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

statuses! {
    /// The login goes on, or has succeeded.
    Success = 0x0000, "success";
    /// The target is at another address for now.
    MovedTemporarily = 0x0101, "target moved temporarily";
    /// The target is at another address for good.
    MovedPermanently = 0x0102, "target moved permanently";
    /// The initiator broke a rule.
    InitiatorError = 0x0200, "initiator error";
    /// The initiator did not prove who it is.
    AuthenticationFailure = 0x0201, "authentication failure";
    /// The initiator may not use the target.
    AuthorizationFailure = 0x0202, "authorization failure";
    /// There is no such target.
    NotFound = 0x0203, "target not found";
    /// The target is gone and there is no other address.
    Removed = 0x0204, "target removed";
    /// No common version.
    UnsupportedVersion = 0x0205, "unsupported version";
    /// The session has as many connections as it may.
    TooManyConnections = 0x0206, "too many connections";
    /// A key that must be there is not.
    MissingParameter = 0x0207, "missing parameter";
    /// The connection cannot join that session.
    CannotInclude = 0x0208, "cannot include in session";
    /// No such type of session here.
    SessionTypeNotSupported = 0x0209, "session type not supported";
    /// There is no session with that TSIH.
    SessionDoesNotExist = 0x020a, "session does not exist";
    /// The request is not one for the login phase.
    InvalidDuringLogin = 0x020b, "invalid request during login";
    /// The target failed.
    TargetError = 0x0300, "target error";
    /// The target is not serving now.
    ServiceUnavailable = 0x0301, "service unavailable";
    /// The target has no room.
    OutOfResources = 0x0302, "out of resources";
}

impl Status {
    /// Status-Class.
    #[must_use]
    pub const fn class(self) -> u8 {
        let [class, _] = (self as u16).to_be_bytes();
        class
    }

    /// Status-Detail.
    #[must_use]
    pub const fn detail(self) -> u8 {
        let [_, detail] = (self as u16).to_be_bytes();
        detail
    }
}
