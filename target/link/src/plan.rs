//! What a link is made from; computed once by the daemon.

use kagami_iscsi::chap::Account;
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::Preferences;
use kagami_iscsi::pdu::Isid;
use kagami_types::{Lun, Uuid};
use std::net::SocketAddr;
use std::time::Duration;

/// One link: from this array to a logical unit of another.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    /// This array's UUID, by which loops are found.
    pub array: Uuid,
    /// Who logs in: this array's iSCSI name.
    pub initiator: IscsiName,
    /// Where: the far array's iSCSI name.
    pub target: IscsiName,
    /// The initiator's part of the session's name; the same over losses and restarts, so that a new
    /// session ends the tasks of the old one.
    pub isid: Isid,
    /// The far array's portals, tried in turn.
    pub portals: Box<[SocketAddr]>,
    /// What to prove oneself with, and what the far array has to.
    pub account: Option<Account>,
    /// How many connections the session is to have, where the far array allows it; [`MOST`](Self::MOST) at most.
    pub connections: u16,
    /// What is asked for in the login.
    pub preferences: Preferences,
    /// The far unit.
    pub mapped: Lun,
    /// How long a command may take, link losses included.
    pub io_timeout: Duration,
    /// How long a connection may take to be made and to log in.
    pub login_timeout: Duration,
    /// The longest pause between two attempts; the first follows at once.
    pub most_pause: Duration,
    /// Commands at a time, waiting ones included.
    pub slots: u16,
    /// Bytes of data that these may have at a time.
    pub bytes: u64,
}

impl LinkPlan {
    /// The most connections of a session.
    pub const MOST: u16 = 16;

    /// The ISID of the link for a virtual volume: random format (RFC 7143 11.12.5), of which 24 bits
    /// name the array, and the qualifier the volume. Two volumes have two sessions; a volume has the
    /// same after a restart.
    #[must_use]
    pub fn isid(array: Uuid, lun: Lun) -> Isid {
        let [a, b, c, ..] = array.into_bytes();
        let [high, low] = lun.number().to_be_bytes();
        Isid([0x80, a, b, c, high, low])
    }

    /// After how long a silence the far array is asked whether it is there, and how long it may
    /// take to answer: a dead link is found, and commands are sent again, well before their time is
    /// over.
    pub(crate) fn ping(&self) -> Duration {
        (self.io_timeout / 4).clamp(Duration::from_millis(50), Duration::from_secs(5))
    }
}
