//! The connections of a session: the first, which made it, and those that have joined it (RFC 7143 4.2.2, 6.3).
//!
//! What belongs to one connection is here: its framing, its statuses' numbers, what it is in the middle of. The session
//! itself, with the one order of commands that all its connections share, is in [`transmit`](crate::transmit).

use kagami_iscsi::frame::Framing;
use kagami_iscsi::login::{Established, InitiatorLogin};
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::{Bhs, Ttt};
use kagami_iscsi::serial::{DataSn, StatSn};
use kagami_types::Time;
use std::collections::VecDeque;

/// Data that the far array asked for, or that may be sent without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    pub slot: u16,
    pub turn: u16,
    pub ttt: Ttt,
    pub offset: u32,
    pub end: u32,
    pub data_sn: DataSn,
}

/// The answer to a ping of the far array.
#[derive(Debug)]
pub(crate) struct Pong {
    pub ttt: Ttt,
    pub lun: [u8; 8],
    pub data: Box<[u8]>,
}

/// Where the data segment of a Data-In PDU goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landing {
    /// `None`: it is dropped.
    pub task: Option<(u16, u16)>,
    /// Where it began, how far it has come, in the command's buffer.
    pub from: usize,
    pub at: usize,
    pub left: usize,
    /// Its pages are lent, to be received into.
    pub lent: bool,
    /// Bytes of padding and digest behind it.
    pub tail: usize,
    /// The header, where it ends the command.
    pub end: Option<Bhs>,
}

/// A connection in full feature phase (RFC 7143 4.3).
#[derive(Debug)]
pub(crate) struct Connection {
    pub parameters: Parameters,
    pub incoming: Framing,
    pub outgoing: Framing,
    pub exp_stat_sn: StatSn,
    pub bursts: VecDeque<Burst>,
    pub aborts: VecDeque<(u16, u16)>,
    pub pongs: VecDeque<Pong>,
    pub ping_due: bool,
    pub pinged: Option<Time>,
    pub last_heard: Time,
    pub landing: Option<Landing>,
}

impl Connection {
    pub fn new(parameters: Parameters, exp_stat_sn: StatSn, now: Time) -> Self {
        Self {
            parameters,
            incoming: parameters.receive_framing(),
            outgoing: parameters.send_framing(),
            exp_stat_sn,
            bursts: VecDeque::new(),
            aborts: VecDeque::new(),
            pongs: VecDeque::new(),
            ping_due: false,
            pinged: None,
            last_heard: now,
            landing: None,
        }
    }
}

/// The place of a connection in the session.
#[derive(Debug)]
pub(crate) enum Place {
    /// None is there; the next attempt to join is not before that. It failed so often in a row.
    Empty { until: Time, failures: u32 },
    /// It joins.
    Login { login: Box<InitiatorLogin>, until: Time, failures: u32 },
    /// It is part of the session.
    Open(Box<Connection>),
}

impl Place {
    pub fn open(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Open(connection) => Some(connection),
            Self::Empty { .. } | Self::Login { .. } => None,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// The login has succeeded; `session` is what the first connection agreed upon for all.
    pub fn join(&mut self, established: &Established, session: &Parameters, now: Time) {
        let parameters = established.parameters.joined_to(session);
        *self = Self::Open(Box::new(Connection::new(parameters, established.exp_stat_sn, now)));
    }
}
