//! What a target's configuration says about those who log in.

use super::status::Status;
use crate::chap::Account;
use crate::name::IscsiName;
use std::sync::Arc;

/// What a session is for (RFC 7143 13.21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SessionType {
    /// SCSI commands.
    #[default]
    Normal,
    /// Only to ask which targets there are.
    Discovery,
}

/// Who asks for what. Nothing of it is proved yet.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// InitiatorName.
    pub initiator: &'a IscsiName,
    /// TargetName; there may be none in a discovery session.
    pub target: Option<&'a IscsiName>,
    /// What the session is for.
    pub session_type: SessionType,
}

/// What an initiator has to prove before it is let in.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Nothing.
    None,
    /// That it knows the secret of one of these accounts.
    Chap(Arc<[Account]>),
}

/// Why an initiator is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// There is no such target at this portal.
    #[error("no such target")]
    NotFound,
    /// The target was there and is no more.
    #[error("the target was removed")]
    Removed,
    /// This initiator, or its address, may not use it.
    #[error("not authorized")]
    NotAuthorized,
    /// This type of session is not served.
    #[error("session type not supported")]
    SessionType,
    /// Not now.
    #[error("service unavailable")]
    Unavailable,
    /// The target is elsewhere.
    #[error("the target moved to {address}")]
    Moved {
        /// TargetAddress: `address:port` and perhaps `,portal group tag`.
        address: Box<str>,
        /// For good.
        permanently: bool,
    },
}

impl Denial {
    /// The status that tells the initiator.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::NotFound => Status::NotFound,
            Self::Removed => Status::Removed,
            Self::NotAuthorized => Status::AuthorizationFailure,
            Self::SessionType => Status::SessionTypeNotSupported,
            Self::Unavailable => Status::ServiceUnavailable,
            Self::Moved { permanently: false, .. } => Status::MovedTemporarily,
            Self::Moved { permanently: true, .. } => Status::MovedPermanently,
        }
    }
}

/// Says which targets exist, who may see them and what must be proved.
///
/// The caller makes one for each connection, so that it knows the addresses of both ends.
pub trait Policy {
    /// What `applicant` has to prove. Asked once in each login, before anything is proved.
    ///
    /// # Errors
    /// Why it is turned away.
    fn check(&self, applicant: &Applicant<'_>) -> Result<Authentication, Denial>;
}
