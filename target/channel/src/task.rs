//! The task slots of one connection.

use crate::message::UnitAddress;
use crate::shares::Shares;
use kagami_iscsi::pdu::{Itt, TaskAttribute};
use kagami_iscsi::transfer::DataOut;
use kagami_memory::ScatterMut;
use kagami_types::{Lun, Time};
use std::sync::Arc;

/// What a task is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing: the slot is free.
    Free,
    /// The initiator's data.
    Collecting,
    /// Its unit.
    Executing,
    /// Its answer is built, or waits for room to be sent.
    Answering,
}

/// A SCSI task from the command PDU to its status.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) stage: Stage,
    /// Aborted: it ends without an answer.
    pub(crate) aborted: bool,
    /// It used no place in the command window.
    pub(crate) immediate: bool,
    /// It already has a status, and only its data is still under way (and dropped).
    pub(crate) failed: Option<Failure>,
    pub(crate) turn: u16,
    pub(crate) itt: Itt,
    pub(crate) lun: [u8; 8],
    pub(crate) cdb: [u8; 16],
    pub(crate) attribute: TaskAttribute,
    pub(crate) unit: UnitAddress,
    /// Expected data transfer length, in the direction that the command has.
    pub(crate) expected: u32,
    /// The W bit: the expected length is of data that the initiator sends.
    pub(crate) writes: bool,
    /// The unit that its data was taken for: what it writes must fit that one.
    pub(crate) meant: Option<UnitAddress>,
    /// Its data goes to pages that are in no cache, and stays there.
    pub(crate) cold: bool,
    pub(crate) out: Option<DataOut>,
    pub(crate) data: ScatterMut,
    /// Pages that were taken for it, counted for that unit until it ends.
    pub(crate) share: Option<(Lun, u32)>,
    pub(crate) received: Time,
    /// Bytes that its answer may hold, counted against the connection's limit.
    pub(crate) charged: u32,
}

/// Why a task failed before it reached its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The initiator broke a rule of RFC 7143 about data: ABORTED COMMAND, with that code.
    Sense(u8, u8),
    /// Additional header segments: no command that is served has any. INVALID COMMAND OPERATION CODE.
    Unsupported,
    /// No pages: TASK SET FULL, the initiator tries again.
    TaskSetFull,
}

/// A fixed number of slots.
#[derive(Debug)]
pub(crate) struct Tasks {
    slots: Box<[Task]>,
    free: Vec<u16>,
    shares: Arc<Shares>,
}

impl Tasks {
    pub(crate) fn new(count: u16, shares: Arc<Shares>) -> Self {
        let slots = (0..count)
            .map(|_| Task {
                stage: Stage::Free,
                aborted: false,
                immediate: false,
                failed: None,
                turn: 0,
                itt: Itt::RESERVED,
                lun: [0; 8],
                cdb: [0; 16],
                attribute: TaskAttribute::Simple,
                unit: UnitAddress { core: kagami_types::CoreId(0), index: 0 },
                expected: 0,
                writes: false,
                meant: None,
                cold: false,
                out: None,
                data: ScatterMut::default(),
                share: None,
                received: Time(0),
                charged: 0,
            })
            .collect();
        Self { slots, free: (0..count).rev().collect(), shares }
    }

    /// Takes a free slot.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Gives a slot back; its list of pages keeps its storage.
    #[inline]
    pub(crate) fn release(&mut self, slot: u16) {
        let Some(task) = self.slots.get_mut(usize::from(slot)) else { return };
        if task.stage == Stage::Free {
            return;
        }
        task.stage = Stage::Free;
        task.aborted = false;
        task.failed = None;
        task.out = None;
        task.charged = 0;
        if let Some((lun, pages)) = task.share.take() {
            self.shares.give(lun, pages);
        }
        task.data.clear();
        task.turn = task.turn.wrapping_add(1);
        self.free.push(slot);
    }

    /// The connection came to another core. It has no tasks there yet.
    pub(crate) fn settle(&mut self, shares: Arc<Shares>) {
        self.give_back();
        self.shares = shares;
    }

    /// No task counts any more.
    fn give_back(&mut self) {
        for task in &mut self.slots {
            if let Some((lun, pages)) = task.share.take() {
                self.shares.give(lun, pages);
            }
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u16) -> Option<&mut Task> {
        self.slots.get_mut(usize::from(slot))
    }

    /// The task of that slot, where it is still the one that had it then.
    #[inline]
    pub(crate) fn get_turn(&mut self, slot: u16, turn: u16) -> Option<&mut Task> {
        self.get_mut(slot).filter(|task| task.turn == turn && task.stage != Stage::Free)
    }

    /// The task of that tag.
    pub(crate) fn find(&mut self, itt: Itt) -> Option<(u16, &mut Task)> {
        self.active().find(|(_, task)| task.itt == itt)
    }

    /// All tasks.
    pub(crate) fn active(&mut self) -> impl Iterator<Item = (u16, &mut Task)> {
        (0u16..).zip(self.slots.iter_mut()).filter(|(_, task)| task.stage != Stage::Free)
    }

    /// How many there are.
    pub(crate) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.give_back();
    }
}
