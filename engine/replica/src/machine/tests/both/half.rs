//! One side of the two: what is durable, what is said of it, and what it is doing.

use crate::generation::Generation;
use crate::machine::tests::page;
use crate::page::StatusPage;
use crate::record::{Fence, Formation, Record, Side, State};
use kagami_types::{Epoch, JournalPos, Sequence};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Durable {
    pub(super) side: Side,
    pub(super) state: State,
    pub(super) generation: u8,
    pub(super) ancestors: Vec<u8>,
    pub(super) fence: Option<u8>,
    pub(super) overtaken: bool,
    pub(super) consistent: bool,
    pub(super) bits: bool,
    pub(super) formation: Option<(u8, bool)>,
    pub(super) discards: bool,
    pub(super) refused: Option<u8>,
}

impl Durable {
    pub(super) fn generation(&self) -> Generation {
        Generation {
            id: u128::from(self.generation),
            ancestors: self.ancestors.iter().map(|id| u128::from(*id)).collect(),
        }
    }

    pub(super) fn child(&mut self, id: u8) {
        if self.generation != 0 {
            self.ancestors.insert(0, self.generation);
        }
        self.generation = id;
    }

    pub(super) fn record(&self) -> Record {
        let place = JournalPos { epoch: Epoch(1), offset: 0 };
        let sequence = Sequence(1);
        let mut record = Record::new(self.side, self.generation());
        record.state = self.state;
        record.fence = self.fence.map(|id| Fence { request: id.into(), place, sequence });
        record.overtaken = self.overtaken;
        record.consistent = self.consistent;
        record.bits = self.bits.into();
        record.formation =
            self.formation.map(|(id, discard)| Formation { request: id.into(), place, sequence, discard });
        record.discards = self.discards;
        record.refused = self.refused.map(u128::from);
        record
    }

    pub(super) fn follow(&mut self, theirs: &Self, formation: (u8, bool)) {
        self.side = Side::Secondary;
        self.generation = theirs.generation;
        self.ancestors.clone_from(&theirs.ancestors);
        self.formation = Some(formation);
        self.fence = None;
        self.overtaken = false;
    }
}

/// What is said of a side at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Said {
    pub(super) durable: Durable,
    pub(super) cancel: bool,
    pub(super) alone: bool,
}

impl Said {
    pub(super) fn page(&self) -> StatusPage {
        let mut page = page(self.durable.record());
        page.cancel = self.cancel;
        page.difference = self.alone.into();
        page
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Program {
    Serve,
    Begin(bool),
    Name,
    Suspend(State),
    Overtaken,
    Serves,
    Fence,
    Unfence,
    Regain,
    Yield((u8, bool)),
    Follow((u8, bool)),
    Commit(u8),
    Finish(State),
    TakeOver,
    Paired,
    Formed,
    Refuse(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Aim {
    Finish(State),
    Follow((u8, bool)),
    Swap(u8),
    TakeOver,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Half {
    pub(super) durable: Durable,
    /// It has writes that the other lacks.
    pub(super) own: bool,
    pub(super) view: Option<Said>,
    pub(super) serving: bool,
    /// Hosts write here.
    pub(super) writes: bool,
    pub(super) cancel: bool,
    pub(super) running: Option<(Program, u8)>,
    /// What restoring is to come to, and whether it has stopped already.
    pub(super) goal: Option<(Aim, bool)>,
}

impl Half {
    pub(super) fn said(&self) -> Said {
        Said { durable: self.durable.clone(), cancel: self.cancel, alone: self.own && self.durable.bits }
    }

    pub(super) fn open(&mut self) {
        self.writes = self.durable.record().writable();
        self.own |= self.writes && self.durable.state != State::Smpl;
        self.serving = true;
    }

    pub(super) fn aim(&mut self, aim: Aim) {
        if !self.goal.is_some_and(|(now, stopping)| now == aim || stopping) {
            self.goal = Some((aim, false));
        }
    }

    pub(super) fn pulls(&self) -> bool {
        self.serving
            && self.durable.side == Side::Secondary
            && matches!(self.durable.state, State::Copy | State::Pair)
    }
}
