//! The full feature phase of a connection: its state, and the order in which things happen.
//!
//! Bytes become PDUs in [`receive`](crate::receive), commands become tasks in
//! [`command`](crate::command), replies become PDUs in [`answer`](crate::answer), task
//! management is in [`manage`](crate::manage). A SCSI task is collecting its data, executing at
//! its unit, or answering; see [`Stage`](crate::task::Stage).

use crate::ReceiveTarget;
use crate::access::{Access, Ends};
use crate::answer::Answer;
use crate::control::Leaving;
use crate::hub::Hub;
use crate::message::Manage;
use crate::nexus::ConnectionId;
use crate::placement::Place;
use crate::session::Session;
use crate::task::{Stage, Tasks};
use kagami_iscsi::build::Counters;
use kagami_iscsi::discovery::TextExchange;
use kagami_iscsi::frame::Framing;
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::Cid;
use kagami_iscsi::serial::StatSn;
use kagami_iscsi::transfer::WriteRules;
use kagami_memory::ScatterMut;
use kagami_types::Time;
use std::collections::VecDeque;
use std::sync::Arc;

/// A connection that serves.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) id: ConnectionId,
    pub(crate) session: Arc<Session>,
    pub(crate) cid: Cid,
    pub(crate) parameters: Parameters,
    /// How the initiator's PDUs are framed, and ours.
    pub(crate) framing_in: Framing,
    pub(crate) framing_out: Framing,
    pub(crate) rules: WriteRules,
    pub(crate) stat_sn: StatSn,
    pub(crate) tasks: Tasks,
    /// The data segment that is being received.
    pub(crate) landing: Option<Landing>,
    /// What waits to be encoded, in the order in which it became ready.
    pub(crate) answers: VecDeque<Answer>,
    /// Short answers that go ahead of data: pings, R2Ts, rejects.
    pub(crate) urgent: VecDeque<Answer>,
    pub(crate) managing: Vec<Managing>,
    pub(crate) text: TextExchange,
    /// When our ping was sent, while it is unanswered.
    pub(crate) pinged: Option<Time>,
    /// Parsing stopped at a command that cannot be taken yet.
    pub(crate) stalled: bool,
    /// Bytes that the answers of executing tasks may hold, and how many they may at once: a host that
    /// does not read must not hold the pages that others need.
    pub(crate) reading: u64,
    pub(crate) most_reading: u64,
    /// Reads that wait until answers before them have gone out.
    pub(crate) held_back: VecDeque<(u16, u16)>,
    /// Tasks to be looked at again in the next round.
    pub(crate) retry: Vec<u16>,
    /// The host has logged out; the connection ends when the answer is out.
    pub(crate) leaving: Option<Leaving>,
    /// Whether it lives on the right core.
    pub(crate) place: Place,
    pub(crate) access: Arc<dyn Access>,
    pub(crate) ends: Ends,
}

/// A data segment on its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    /// The slot and turn of the task that it belongs to; `None`: it is dropped.
    pub(crate) task: Option<(u16, u16)>,
    /// Where in the task's data it began, and where the next byte goes.
    pub(crate) from: usize,
    pub(crate) at: usize,
    /// Up to where the task wants it.
    pub(crate) keep_end: usize,
    /// Bytes of data still to come.
    pub(crate) left: usize,
    /// Bytes of padding and digest behind them.
    pub(crate) tail: usize,
}

/// A task management function that waits for the other cores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Managing {
    pub(crate) manage: Manage,
    /// Cores that have still to say that their part is done.
    pub(crate) left: usize,
}

impl Full {
    /// The numbers for a PDU that is sent now; a status uses its number up.
    #[inline]
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            stat_sn: self.stat_sn,
            exp_cmd_sn: self.session.exp_cmd_sn(),
            max_cmd_sn: self.session.max_cmd_sn(),
        }
    }

    /// The numbers for a PDU that carries a status.
    #[inline]
    pub(crate) fn counters_with_status(&mut self) -> Counters {
        let counters = self.counters();
        self.stat_sn = self.stat_sn.next();
        counters
    }

    /// Where the next bytes from the socket belong, where they are a task's data and worth
    /// receiving in place.
    pub(crate) fn receive_target(&mut self) -> Option<ReceiveTarget> {
        let landing = self.landing.as_ref()?;
        let (slot, turn) = landing.task?;
        if landing.keep_end.saturating_sub(landing.at) < Hub::<()>::IN_PLACE {
            return None;
        }
        let (filled, limit) = (landing.at, landing.keep_end.min(landing.at + landing.left));
        let task = self.tasks.get_turn(slot, turn)?;
        Some(ReceiveTarget { data: std::mem::take(&mut task.data), filled, limit })
    }

    /// Bytes that were received in place.
    pub(crate) fn direct_received(&mut self, data: ScatterMut, count: usize) {
        let Some(landing) = &mut self.landing else { return };
        landing.at += count;
        landing.left -= count.min(landing.left);
        let task = landing.task.and_then(|(slot, turn)| self.tasks.get_turn(slot, turn));
        if let Some(task) = task.filter(|_| !data.is_empty()) {
            task.data = data;
        }
    }

    /// Frees a task's slot, which opens the command window by one.
    #[inline]
    pub(crate) fn release(&mut self, slot: u16) {
        if let Some(task) = self.tasks.get_mut(slot) {
            let opens = !task.immediate && task.stage != Stage::Free;
            self.reading = self.reading.saturating_sub(u64::from(task.charged));
            self.tasks.release(slot);
            if opens {
                self.session.open();
            }
        }
    }
}
