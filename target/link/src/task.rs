//! The link's task slots.

use crate::request::{Blocks, Request};
use kagami_iscsi::pdu::{Itt, TaskAttribute};
use kagami_iscsi::serial::{CmdSn, DataSn};
use kagami_memory::{Scatter, ScatterMut};
use kagami_types::Time;

/// What a tag is for stands in its two highest bits; the rest is slot and turn.
const KINDS: u32 = 3 << 30;
const TURNS: u16 = (1 << 14) - 1;

/// What an initiator task tag of ours names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// A command.
    Task(u16, u16),
    /// The ABORT TASK of a command.
    Abort(u16, u16),
    /// A LOGICAL UNIT RESET.
    Reset(u16),
    /// A ping, on that connection.
    Ping(usize),
}

impl Tag {
    pub fn itt(self) -> Itt {
        let task = |slot: u16, turn: u16| u32::from(turn & TURNS) << 16 | u32::from(slot);
        Itt(match self {
            Self::Task(slot, turn) => task(slot, turn),
            Self::Abort(slot, turn) => 1 << 30 | task(slot, turn),
            Self::Reset(number) => 2 << 30 | u32::from(number),
            Self::Ping(at) => KINDS | u32::try_from(at).unwrap_or(0),
        })
    }

    pub fn of(itt: Itt) -> Option<Self> {
        let [a, b, c, d] = itt.0.to_be_bytes();
        let (slot, turn) = (u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b]) & TURNS);
        match itt.0 >> 30 {
            0 => Some(Self::Task(slot, turn)),
            1 => Some(Self::Abort(slot, turn)),
            2 => Some(Self::Reset(slot)),
            _ if itt.is_reserved() => None,
            _ => usize::try_from(itt.0 & !KINDS).ok().map(Self::Ping),
        }
    }
}

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Free,
    /// It waits to be sent.
    Waiting,
    /// The far array has it.
    Sent,
    /// Its host has an answer, or wants none; the far array may still execute it. Its blocks are
    /// held until that is over.
    InDoubt,
}

/// Who waits for a task.
#[derive(Debug)]
pub(crate) enum Owner<T> {
    Nobody,
    /// The link itself, which learns what the far unit is.
    Link,
    Host(T),
}

/// One slot.
#[derive(Debug)]
pub(crate) struct Task<T> {
    pub stage: Stage,
    /// Changes with every command of the slot, so that a late answer finds nobody.
    pub turn: u16,
    pub owner: Owner<T>,
    pub cdb: [u8; 16],
    pub attribute: TaskAttribute,
    pub repeatable: bool,
    pub blocks: Option<Blocks>,
    pub writes: bool,
    pub out: Scatter,
    pub expects: u32,
    /// Its place in the order of arrival.
    pub number: u64,
    pub deadline: Time,
    /// Pages for what comes back, and how much has come.
    pub room: ScatterMut,
    pub arrived: u32,
    pub next_data_sn: DataSn,
    pub cmd_sn: CmdSn,
    /// On which connection it was sent; all that belongs to it goes there (RFC 7143 4.2.2.2).
    pub connection: usize,
    /// It was sent in an earlier session as well, and may have had its effect there.
    pub tried: bool,
    /// How often it was sent again because of unit attentions that are not the host's.
    pub deferred: u8,
    /// Since when it is in doubt.
    pub since: Time,
}

/// A fixed number of slots, and one more for the link's own commands.
#[derive(Debug)]
pub(crate) struct Tasks<T> {
    slots: Box<[Task<T>]>,
    free: Vec<u16>,
    in_doubt: usize,
    /// ORDERED commands that are not over.
    ordered: usize,
}

impl<T> Tasks<T> {
    pub fn new(count: u16) -> Self {
        let count = count.clamp(1, 4096);
        let empty = || Task {
            stage: Stage::Free,
            turn: 0,
            owner: Owner::Nobody,
            cdb: [0; 16],
            attribute: TaskAttribute::Simple,
            repeatable: false,
            blocks: None,
            writes: false,
            out: Scatter::new(),
            expects: 0,
            number: 0,
            deadline: Time::NEVER,
            room: ScatterMut::default(),
            arrived: 0,
            next_data_sn: DataSn(0),
            cmd_sn: CmdSn(0),
            connection: 0,
            tried: false,
            deferred: 0,
            since: Time(0),
        };
        Self {
            slots: (0..=count).map(|_| empty()).collect(),
            free: (0..count).rev().collect(),
            in_doubt: 0,
            ordered: 0,
        }
    }

    /// The slot of the link's own commands.
    pub fn own(&self) -> u16 {
        u16::try_from(self.slots.len().saturating_sub(1)).unwrap_or(0)
    }

    /// Whether a slot is free.
    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Fills a free slot.
    pub fn put(&mut self, request: Request<T>, number: u64, deadline: Time) -> Option<u16> {
        let slot = self.free.pop()?;
        let task = self.slots.get_mut(usize::from(slot))?;
        self.ordered += usize::from(request.attribute == TaskAttribute::Ordered);
        task.stage = Stage::Waiting;
        task.owner = Owner::Host(request.owner);
        task.cdb = request.cdb;
        task.attribute = request.attribute;
        task.repeatable = request.repeatable;
        task.blocks = request.blocks;
        task.writes = request.writes;
        task.out = request.out;
        task.expects = request.expects;
        task.number = number;
        task.deadline = deadline;
        task.tried = false;
        task.deferred = 0;
        task.rewind();
        Some(slot)
    }

    /// Frees a slot; its pages are free.
    pub fn release(&mut self, slot: u16) {
        let own = self.own();
        let Some(task) = self.slots.get_mut(usize::from(slot)) else { return };
        match task.stage {
            Stage::Free => return,
            Stage::InDoubt => self.in_doubt = self.in_doubt.saturating_sub(1),
            _ => {}
        }
        if task.attribute == TaskAttribute::Ordered {
            self.ordered = self.ordered.saturating_sub(1);
        }
        task.stage = Stage::Free;
        task.owner = Owner::Nobody;
        task.turn = task.turn.wrapping_add(1) & TURNS;
        task.out.clear();
        task.room.clear();
        if slot != own {
            self.free.push(slot);
        }
    }

    /// Its host has an answer; the far array may still execute it.
    pub fn doubt(&mut self, slot: u16, now: Time) {
        if let Some(task) = self.get_mut(slot).filter(|task| task.stage == Stage::Sent) {
            task.stage = Stage::InDoubt;
            task.since = now;
            task.owner = Owner::Nobody;
            self.in_doubt += 1;
        }
    }

    /// Whether something in doubt touches these blocks.
    #[inline]
    pub fn holds_up(&self, slot: u16) -> bool {
        if self.in_doubt == 0 {
            return false;
        }
        let Some((blocks, writes)) = self.get(slot).and_then(|task| task.blocks.map(|b| (b, task.writes)))
        else {
            return false;
        };
        self.slots.iter().any(|other| {
            other.stage == Stage::InDoubt
                && (writes || other.writes)
                && other.blocks.is_some_and(|held| held.overlaps(&blocks))
        })
    }

    /// Whether a command waits for others (SAM-5 8.9): an ORDERED one until nothing is at the far array, all but
    /// HEAD OF QUEUE until an ORDERED one has ended. The far array keeps that order too, but not where a
    /// command comes back to be sent again.
    #[inline]
    pub fn waits_its_turn(&self, slot: u16) -> bool {
        self.ordered > 0 && self.is_behind(slot)
    }

    #[cold]
    fn is_behind(&self, slot: u16) -> bool {
        let ordered = match self.get(slot).map(|task| task.attribute) {
            None | Some(TaskAttribute::HeadOfQueue) => return false,
            Some(attribute) => attribute == TaskAttribute::Ordered,
        };
        self.active().any(|(other, task)| {
            let there = other != self.own() && matches!(task.stage, Stage::Sent | Stage::InDoubt);
            there && (ordered || task.attribute == TaskAttribute::Ordered)
        })
    }

    pub fn get(&self, slot: u16) -> Option<&Task<T>> {
        self.slots.get(usize::from(slot))
    }

    #[inline]
    pub fn get_mut(&mut self, slot: u16) -> Option<&mut Task<T>> {
        self.slots.get_mut(usize::from(slot))
    }

    /// The task of that slot and turn, where it is under way.
    #[inline]
    pub fn get_turn(&mut self, slot: u16, turn: u16) -> Option<&mut Task<T>> {
        self.get_mut(slot)
            .filter(|task| task.turn == turn && matches!(task.stage, Stage::Sent | Stage::InDoubt))
    }

    /// All that are not free.
    pub fn active(&self) -> impl Iterator<Item = (u16, &Task<T>)> {
        (0u16..).zip(&self.slots).filter(|(_, task)| task.stage != Stage::Free)
    }

    /// How many the far array has.
    #[cfg(test)]
    pub fn sent(&self) -> usize {
        self.active().filter(|(_, task)| task.stage == Stage::Sent).count()
    }

    /// How many are not free.
    pub fn in_use(&self) -> usize {
        self.slots.len() - 1 - self.free.len()
    }
}

impl<T> Task<T> {
    /// It waits to be sent again, under another tag.
    pub fn again(&mut self) {
        self.stage = Stage::Waiting;
        self.turn = self.turn.wrapping_add(1) & TURNS;
        self.rewind();
    }

    /// Nothing of it was sent, nothing of its answer has come.
    pub fn rewind(&mut self) {
        self.arrived = 0;
        self.next_data_sn = DataSn(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_back_and_are_never_reserved() {
        let all = [
            Tag::Task(0, 0),
            Tag::Task(4096, TURNS),
            Tag::Abort(7, 3),
            Tag::Reset(9),
            Tag::Ping(0),
            Tag::Ping(15),
        ];
        for tag in all {
            assert_eq!(Tag::of(tag.itt()), Some(tag));
            assert!(!tag.itt().is_reserved());
        }
        assert_eq!(Tag::of(Itt::RESERVED), None);
    }
}
