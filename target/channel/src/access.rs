//! Who may log in to what: a trait, made by the daemon from its configuration and by the
//! simulator from its seed.

use crate::session::Visible;
use kagami_iscsi::login::{Applicant, Authentication, Denial, Policy, TargetSettings};
use std::cell::RefCell;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

/// The access rules of an array. Asked at logins and discoveries only.
pub trait Access: Debug + Send + Sync {
    /// What is the same for all logins at a portal.
    fn settings(&self, local: Option<SocketAddr>) -> Arc<TargetSettings>;

    /// What an initiator has to prove, by who it says that it is and where it comes from.
    ///
    /// # Errors
    /// Why it is turned away.
    fn check(&self, applicant: &Applicant<'_>, ends: Ends) -> Result<Authentication, Denial>;

    /// Which LUNs it sees, once it has proved who it is.
    fn visible(&self, initiator: &str, ends: Ends) -> Visible;

    /// The iSCSI name of the target, and where it can be reached: for SendTargets.
    fn target(&self) -> &str;

    /// The portals of the target with their group tags, as an initiator that is connected to
    /// `local` can reach them (RFC 7143 13.8).
    fn portals(&self, local: Option<SocketAddr>) -> Vec<(SocketAddr, u16)>;

    /// The relative target port identifier of a portal (SPC-5 7.7.6.8).
    fn port(&self, local: Option<SocketAddr>) -> u16;

    /// A login was refused. Called on a reactor's thread: it must not block.
    fn refused(&self, refused: &Refused<'_>) {
        let _ = refused;
    }
}

/// A login that was refused, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Who it said that it was, as far as it came to that. Not proved.
    pub initiator: Option<&'a str>,
    /// Where it came from, and through which portal.
    pub ends: Ends,
    /// Why, in plain words.
    pub reason: &'a str,
}

/// The addresses of a connection's ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The initiator's.
    pub peer: Option<SocketAddr>,
    /// The portal's.
    pub local: Option<SocketAddr>,
}

/// The rules for one connection, as the login machine asks them.
pub(crate) struct ForConnection<'a> {
    pub(crate) access: &'a dyn Access,
    pub(crate) ends: Ends,
    /// Who the initiator says that it is: kept for the log.
    pub(crate) claimed: &'a RefCell<Option<Box<str>>>,
}

impl Policy for ForConnection<'_> {
    fn check(&self, applicant: &Applicant<'_>) -> Result<Authentication, Denial> {
        *self.claimed.borrow_mut() = Some(applicant.initiator.as_str().into());
        self.access.check(applicant, self.ends)
    }
}
