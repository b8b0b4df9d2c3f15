//! The operations that a front has under way.

use kagami_memory::Scatter;
use kagami_types::{BlockOp, BlockRange, Lba, Time};

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Nobody: the slot is free.
    Nobody,
    /// A host; its tag.
    Host(u64),
    /// The group; its tag.
    Group(u64),
    /// A host that was answered already.
    Promised,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It may not begin yet.
    Waiting,
    /// A COMPARE AND WRITE that reads what it compares.
    Comparing,
    /// Waits until its sequence is stable.
    Journaled,
    /// Waits until its bits are durable.
    Marking,
    /// Waits for others before it.
    Blocked,
    /// With the store.
    Stored,
    /// The store was busy.
    Backoff,
}

/// One operation.
#[derive(Debug)]
pub(super) struct Slot {
    pub who: Who,
    pub stage: Stage,
    /// Told by whoever ordered it that nobody waits for it.
    pub aborted: bool,
    /// It took a sequence, once.
    pub sequenced: bool,
    /// The first and last sequence of it that count; zero: none.
    pub sequences: (u64, u64),
    /// The mode's number when it was admitted.
    pub era: u32,
    /// How many of those before it that overlap are not done.
    pub blockers: u32,
    /// Its place among what is applied; for a flush, what it waits for is before it.
    pub stamp: u64,
    /// The number of a promised write; of a host's flush, that of the last one that it is about.
    pub promise: u64,
    /// A flush that began when the mode held.
    pub settled: bool,
    /// When it came, or the last part of it was stored.
    pub since: Time,
    /// Of a write that the store takes in parts: blocks that are stored, and those that the store has.
    pub parts: (u32, u32),
    pub op: BlockOp,
    pub data: Scatter,
    generation: u32,
}

impl Slot {
    /// One that waits for admission.
    fn of(who: Who, op: BlockOp, data: Scatter, now: Time, generation: u32) -> Self {
        Self {
            who,
            stage: Stage::Waiting,
            aborted: false,
            sequenced: false,
            sequences: (0, 0),
            era: 0,
            blockers: 0,
            stamp: 0,
            promise: 0,
            settled: false,
            since: now,
            parts: (0, 0),
            op,
            data,
            generation,
        }
    }

    /// Forgets its sequence, for another try in another mode.
    pub fn reset(&mut self) {
        self.sequences = (0, 0);
        if !self.is_promised() {
            self.blockers = 0;
        }
    }

    /// A write whose host was answered. It is in the order for as long as it is here.
    pub fn is_promised(&self) -> bool {
        self.who == Who::Promised
    }

    /// A host's write that is past admission.
    pub fn is_host_write_under_way(&self) -> bool {
        let under_way =
            matches!(self.stage, Stage::Journaled | Stage::Blocked | Stage::Stored | Stage::Backoff);
        matches!(self.who, Who::Host(_) | Who::Promised) && self.op.writes() && under_way
    }

    /// Whether it is applied in order, and flushes wait for it.
    pub fn is_applying(&self) -> bool {
        self.op.writes() && matches!(self.stage, Stage::Blocked | Stage::Stored | Stage::Backoff)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u16>,
    hosts: u16,
    group: u16,
    promised: u16,
    most_hosts: u16,
    most_group: u16,
    /// Storage of lists that are used again.
    spare: Vec<Scatter>,
}

/// An operation that does nothing, in free slots.
pub(super) const NO_OP: BlockOp =
    BlockOp::Verify { range: BlockRange { lba: Lba(0), blocks: 0 }, against: kagami_types::Compare::Nothing };

impl Slots {
    pub fn new(hosts: u16, group: u16) -> Self {
        let room = usize::from(hosts);
        Self {
            slots: Vec::with_capacity(room),
            free: Vec::with_capacity(room),
            hosts: 0,
            group: 0,
            promised: 0,
            most_hosts: hosts,
            most_group: group,
            spare: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.hosts == 0 && self.group == 0 && self.promised == 0
    }

    pub fn has_room_for_host(&self) -> bool {
        self.hosts < self.most_hosts
    }

    pub fn has_room_for_group(&self) -> bool {
        self.group < self.most_group
    }

    /// A slot for an operation, where there is one.
    pub fn take(&mut self, who: Who, op: BlockOp, data: Scatter, now: Time) -> Option<u16> {
        match who {
            Who::Host(_) if self.has_room_for_host() => self.hosts += 1,
            Who::Group(_) if self.has_room_for_group() => self.group += 1,
            _ => return None,
        }
        let at = self.free.pop().or_else(|| {
            let at = u16::try_from(self.slots.len()).ok()?;
            self.slots.push(Slot::of(Who::Nobody, NO_OP, Scatter::new(), now, 0));
            Some(at)
        })?;
        let slot = &mut self.slots[usize::from(at)];
        let generation = slot.generation.wrapping_add(1);
        *slot = Slot::of(who, op, data, now, generation);
        Some(at)
    }

    /// The slot is free again; its operation comes back.
    pub fn give(&mut self, at: u16) -> BlockOp {
        let slot = &mut self.slots[usize::from(at)];
        match std::mem::replace(&mut slot.who, Who::Nobody) {
            Who::Host(_) => self.hosts -= 1,
            Who::Group(_) => self.group -= 1,
            Who::Promised => self.promised -= 1,
            Who::Nobody => {}
        }
        self.free.push(at);
        let mut data = std::mem::take(&mut slot.data);
        if data.capacity() > 0 && self.spare.len() < usize::from(self.most_hosts) {
            data.clear();
            self.spare.push(data);
        }
        std::mem::replace(&mut slot.op, NO_OP)
    }

    /// A host's write is promised: that host may have as many others as before.
    pub fn promise(&mut self, at: u16, number: u64) {
        self.hosts -= 1;
        self.promised += 1;
        let slot = self.at(at);
        slot.who = Who::Promised;
        slot.promise = number;
    }

    /// An empty list, with storage where some was given back.
    pub fn storage(&mut self) -> Scatter {
        self.spare.pop().unwrap_or_default()
    }

    /// A slot that is known to be there.
    #[inline]
    pub fn at(&mut self, at: u16) -> &mut Slot {
        &mut self.slots[usize::from(at)]
    }

    /// The same, to look at.
    #[inline]
    pub fn look(&self, at: u16) -> &Slot {
        &self.slots[usize::from(at)]
    }

    /// More handles to a slot's data, from `offset` on.
    pub fn share(&mut self, at: u16, offset: usize) -> Scatter {
        self.share_part(at, offset, usize::MAX)
    }

    /// The same, at most so many bytes.
    pub fn share_part(&mut self, at: u16, offset: usize, most: usize) -> Scatter {
        let mut list = self.storage();
        let data = &self.slots[usize::from(at)].data;
        list.push_range(data, offset, data.len_bytes().saturating_sub(offset).min(most));
        list
    }

    /// The tag by which the store knows a slot's operation.
    pub fn tag(&self, at: u16) -> u64 {
        0xffff << 48 | u64::from(self.slots[usize::from(at)].generation) << 16 | u64::from(at)
    }

    /// Whose tag that is.
    pub fn of_tag(&self, tag: u64) -> Option<u16> {
        let at = (tag & 0xffff) as u16;
        let slot = self.slots.get(usize::from(at))?;
        (slot.who != Who::Nobody && self.tag(at) == tag).then_some(at)
    }

    /// Whose operation that is.
    pub fn find(&self, who: Who) -> Option<u16> {
        let at = self.slots.iter().position(|slot| slot.who == who)?;
        u16::try_from(at).ok()
    }

    /// The tag of the first operation of a host that is so.
    pub fn host(&self, so: impl Fn(&Slot) -> bool) -> Option<u64> {
        self.slots.iter().find_map(|slot| match slot.who {
            Who::Host(tag) if so(slot) => Some(tag),
            _ => None,
        })
    }

    /// How many are so.
    pub fn count(&self, so: impl Fn(&Slot) -> bool) -> usize {
        self.slots.iter().filter(|slot| slot.who != Who::Nobody && so(slot)).count()
    }
}
