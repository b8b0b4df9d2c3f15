//! The durable record: what a side of a group is, and what it has promised (array.md 4, 9, 10).
//!
//! It lies in the superblock of the journal, beside the positions, and changes with it in one write. `machine`
//! says which record may follow which; `group` writes it. Layout in `docs/formats.md`.

use crate::generation::Generation;
use crate::mail::Mode;
use crate::wire::{Get, Put};
use kagami_types::{JournalPos, Sequence, Time};

/// The most that a record takes in a superblock.
pub const RECORD: usize = 1024;
/// Bytes of a reason, with its length.
pub(crate) const REASON: usize = 160;
const VERSION: u32 = 1;

/// Which end of its pairs a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The copy source: hosts write here.
    Primary,
    /// The copy destination.
    Secondary,
}

impl Side {
    /// The other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }

    /// As people read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

/// The state of a side (array.md 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Not paired, or not yet.
    #[default]
    Smpl,
    /// Formation or resync under way; the secondary is not consistent.
    Copy,
    /// Journals flow.
    Pair,
    /// Split by the operator.
    Psus {
        /// The secondary is written by hosts.
        writable: bool,
    },
    /// Suspended by an error.
    Psue,
    /// The secondary was taken over.
    Ssws,
}

impl State {
    /// As people and scripts read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smpl => "SMPL",
            Self::Copy => "COPY",
            Self::Pair => "PAIR",
            Self::Psus { .. } => "PSUS",
            Self::Psue => "PSUE",
            Self::Ssws => "SSWS",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Smpl => 0,
            Self::Copy => 1,
            Self::Pair => 2,
            Self::Psus { writable: false } => 3,
            Self::Psus { writable: true } => 4,
            Self::Psue => 5,
            Self::Ssws => 6,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Smpl,
            1 => Self::Copy,
            2 => Self::Pair,
            3 => Self::Psus { writable: false },
            4 => Self::Psus { writable: true },
            5 => Self::Psue,
            6 => Self::Ssws,
            _ => return None,
        })
    }
}

/// A primary that has stopped for a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The swap's number.
    pub request: u128,
    /// Behind the swap entry.
    pub place: JournalPos,
    /// The swap entry's sequence: nothing comes after it.
    pub sequence: Sequence,
}

/// Where a primary's journal began for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formation {
    /// Which formation, resync, or swap this is: random. A swap has its own number.
    pub request: u128,
    /// The reader begins here.
    pub place: JournalPos,
    /// All sequences up to here are on the primary's volumes, stable; what comes after is in the journal.
    pub sequence: Sequence,
    /// The reader gives up what it alone has.
    pub discard: bool,
}

/// What a takeover promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// The last sequence that was restored.
    pub sequence: Sequence,
    /// That entry's time, nanoseconds since 1970.
    pub time: u64,
    /// When it was done, nanoseconds since 1970.
    pub at: u64,
}

/// What a side durably is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which end.
    pub side: Side,
    /// In which state.
    pub state: State,
    /// Its history.
    pub generation: Generation,
    /// Primary: stopped for that swap.
    pub fence: Option<Fence>,
    /// Primary: the other side was taken over; hosts may only read.
    pub overtaken: bool,
    /// The volumes are a moment of the group's history (not so from the begin of a copy to its end).
    pub consistent: bool,
    /// The set of the difference bitmap on the device that counts; zero: none does.
    pub bits: u64,
    /// Primary: where its journal began for the reader, once it is fit to be read. Secondary: the one that it follows.
    pub formation: Option<Formation>,
    /// Primary: the formation that it is to name lets the other side give up what it alone has.
    pub discards: bool,
    /// The last swap that this side refused for good.
    pub refused: Option<u128>,
    /// What a takeover did.
    pub takeover: Option<Takeover>,
    /// The group was deleted here.
    pub deleted: bool,
    /// Why it is suspended, for people.
    pub reason: String,
}

impl Record {
    /// A side that is to be paired.
    #[must_use]
    pub fn new(side: Side, generation: Generation) -> Self {
        Self {
            side,
            state: State::Smpl,
            generation,
            fence: None,
            overtaken: false,
            consistent: side == Side::Primary,
            bits: 0,
            formation: None,
            discards: false,
            refused: None,
            takeover: None,
            deleted: false,
            reason: String::new(),
        }
    }

    /// Hosts may write here (once the group is ready).
    #[must_use]
    pub fn writable(&self) -> bool {
        if self.state == State::Smpl {
            return true;
        }
        match self.side {
            Side::Primary => self.fence.is_none() && !self.overtaken,
            Side::Secondary => matches!(self.state, State::Ssws | State::Psus { writable: true }),
        }
    }

    /// Host writes go to the journal first.
    #[must_use]
    pub fn journals(&self) -> bool {
        self.side == Side::Primary && matches!(self.state, State::Copy | State::Pair)
    }

    /// How fronts treat hosts, once the group is ready (array.md 11). `reads`: hosts may read a secondary.
    #[must_use]
    pub(crate) fn mode(&self, reads: bool) -> Mode {
        if self.deleted || self.state == State::Smpl {
            return Mode::Plain;
        }
        match self.side {
            Side::Primary if self.overtaken => Mode::Fenced,
            Side::Primary if self.fence.is_some() => Mode::Held { until: Time(0) },
            Side::Primary if self.journals() => Mode::Journaling,
            Side::Primary => Mode::Tracking,
            Side::Secondary if self.writable() => Mode::Tracking,
            Side::Secondary => Mode::Secondary { reads },
        }
    }

    /// The bytes for the superblock.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; RECORD];
        self.put(&mut Put::new(&mut bytes));
        bytes
    }

    fn put(&self, put: &mut Put<'_>) {
        put.u32(VERSION);
        self.put_marks(put, 0);
        self.put_story(put);
    }

    /// Side, state and flags, four bytes; `more` has further flags of the last, from the second bit on.
    pub(crate) fn put_marks(&self, put: &mut Put<'_>, more: u8) {
        put.u8(u8::from(self.side == Side::Secondary));
        put.u8(self.state.code());
        let flags = [
            self.fence.is_some(),
            self.overtaken,
            self.consistent,
            self.discards,
            self.formation.is_some(),
            self.refused.is_some(),
            self.takeover.is_some(),
            self.deleted,
        ];
        put.u8(flags.iter().enumerate().fold(0, |byte, (at, flag)| byte | u8::from(*flag) << at));
        put.u8(u8::from(self.formation.is_some_and(|formation| formation.discard)) | more);
    }

    /// All else.
    pub(crate) fn put_story(&self, put: &mut Put<'_>) {
        put.generation(&self.generation);
        let fence = self.fence.unwrap_or(NO_FENCE);
        put.u128(fence.request);
        put.pos(fence.place);
        put.sequence(fence.sequence);
        let formation = self.formation.unwrap_or(NO_FORMATION);
        put.u128(formation.request);
        put.pos(formation.place);
        put.sequence(formation.sequence);
        put.u128(self.refused.unwrap_or(0));
        let takeover = self.takeover.unwrap_or(NO_TAKEOVER);
        put.sequence(takeover.sequence);
        put.u64(takeover.time);
        put.u64(takeover.at);
        put.u64(self.bits);
        put.text(&self.reason, REASON);
    }

    /// Reads one back.
    ///
    /// # Errors
    /// It is of a later version, or says what no record says.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut get = Get::new(bytes);
        let version = get.u32().ok_or(RecordError::Short)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let marks = Marks::take(&mut get).ok_or(RecordError::Field)?;
        Self::take_story(&marks, &mut get).ok_or(RecordError::Field)
    }

    /// What [`put_story`](Self::put_story) wrote, under these marks.
    pub(crate) fn take_story(marks: &Marks, get: &mut Get<'_>) -> Option<Self> {
        let flag = |at: u8| marks.flags & 1 << at != 0;
        let discard = marks.more & 1 != 0;
        let generation = get.generation()?;
        let fence = Fence { request: get.u128()?, place: get.pos()?, sequence: get.sequence()? };
        let formation =
            Formation { request: get.u128()?, place: get.pos()?, sequence: get.sequence()?, discard };
        let refused = get.u128()?;
        let takeover = Takeover { sequence: get.sequence()?, time: get.u64()?, at: get.u64()? };
        Some(Self {
            side: marks.side,
            state: marks.state,
            generation,
            fence: flag(0).then_some(fence),
            overtaken: flag(1),
            consistent: flag(2),
            bits: get.u64()?,
            formation: flag(4).then_some(formation),
            discards: flag(3),
            refused: flag(5).then_some(refused),
            takeover: flag(6).then_some(takeover),
            deleted: flag(7),
            reason: get.text(REASON)?,
        })
    }
}

/// What [`Record::put_marks`] wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    side: Side,
    state: State,
    flags: u8,
    /// With the further flags.
    pub(crate) more: u8,
}

impl Marks {
    pub(crate) fn take(get: &mut Get<'_>) -> Option<Self> {
        let side = match get.u8()? {
            0 => Side::Primary,
            1 => Side::Secondary,
            _ => return None,
        };
        Some(Self { side, state: State::from_code(get.u8()?)?, flags: get.u8()?, more: get.u8()? })
    }
}

const NOWHERE: JournalPos = JournalPos { epoch: kagami_types::Epoch(0), offset: 0 };
const NO_FENCE: Fence = Fence { request: 0, place: NOWHERE, sequence: Sequence::ZERO };
const NO_FORMATION: Formation =
    Formation { request: 0, place: NOWHERE, sequence: Sequence::ZERO, discard: false };
const NO_TAKEOVER: Takeover = Takeover { sequence: Sequence::ZERO, time: 0, at: 0 };

/// A record that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not even a version.
    #[error("the record of the group is too short")]
    Short,
    /// Written by a later release.
    #[error("the record of the group has version {0}, which this release does not know")]
    Version(u32),
    /// A field has a value that it cannot have.
    #[error("the record of the group has a field that makes no sense")]
    Field,
}

#[cfg(test)]
mod tests;
