//! What a group needs for the length of one call, and where it puts what it wants done.

use crate::action::{Action, DeviceOp, FarOp, FarUnit};
use crate::mail::{ToFront, VolumeIndex};
use kagami_memory::Pool;
use kagami_memory::Scatter;
use kagami_types::{BlockOp, Time};
use std::collections::VecDeque;

/// For the length of one call.
pub struct Context<'a> {
    /// The monotonic clock.
    pub now: Time,
    /// Nanoseconds since 1970, for entries and people.
    pub wall: u64,
    /// Where pages for headers and reads come from.
    pub pool: &'a Pool,
    /// What is to be done.
    pub actions: &'a mut Actions,
    /// Random bits: epochs, generations.
    pub random: &'a mut dyn FnMut() -> u128,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now)
            .field("actions", &self.actions)
            .finish_non_exhaustive()
    }
}

/// Which part of a group asked for something: the top byte of its tag, so that the result finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Owner {
    /// The group itself: its record, orders, the far page.
    Group = 1,
    /// The primary's data path.
    Source = 2,
    /// The secondary's data path.
    Sink = 3,
    /// Recovery at start.
    Recovery = 4,
}

impl Owner {
    /// Whose a tag is.
    #[must_use]
    pub fn of(tag: u64) -> Option<Self> {
        [Self::Group, Self::Source, Self::Sink, Self::Recovery]
            .into_iter()
            .find(|owner| *owner as u64 == tag >> 56)
    }
}

/// What is to be done, in order.
#[derive(Debug, Default)]
pub struct Actions {
    queue: VecDeque<Action>,
    tags: u64,
}

impl Actions {
    /// The next one.
    pub fn pop(&mut self) -> Option<Action> {
        self.queue.pop_front()
    }

    /// One without a tag.
    pub fn push(&mut self, action: Action) {
        self.queue.push_back(action);
    }

    /// A new tag of that part.
    pub fn tag(&mut self, owner: Owner) -> u64 {
        self.tags = (self.tags + 1) & ((1 << 56) - 1);
        (owner as u64) << 56 | self.tags
    }

    /// An operation on the journal device; its tag.
    pub fn journal(&mut self, owner: Owner, op: DeviceOp) -> u64 {
        let tag = self.tag(owner);
        self.push(Action::Journal { tag, op });
        tag
    }

    /// A command for the other array; its tag.
    pub fn far(&mut self, owner: Owner, unit: FarUnit, op: FarOp) -> u64 {
        let tag = self.tag(owner);
        self.push(Action::Far { tag, unit, op });
        tag
    }

    /// An operation on a volume's store, past its hosts; its tag.
    pub fn apply(&mut self, owner: Owner, volume: VolumeIndex, op: BlockOp, data: Scatter) -> u64 {
        let tag = self.tag(owner);
        self.push(Action::Front(volume, ToFront::Apply { tag, op, data }));
        tag
    }

    /// Mail for a front that needs no tag.
    pub fn front(&mut self, volume: VolumeIndex, mail: ToFront) {
        self.push(Action::Front(volume, mail));
    }

    /// Something for operators.
    pub fn event(&mut self, text: impl Into<String>) {
        self.push(Action::Event(text.into()));
    }
}
