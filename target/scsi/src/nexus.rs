//! The I_T nexuses of a logical unit: who is there, what is pending for each, what bars each.
//!
//! Owned by the logical unit. The caller numbers nexuses densely over the whole process, so a
//! nexus is found by index; the table grows to the highest number seen and no further than
//! the configured bound.

use crate::attention::{Attention, Pending};
use crate::table::Gates;
use crate::transport_id::TransportId;
use std::sync::Arc;
use thiserror::Error;

/// An I_T nexus: a small dense number that the caller hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId(pub u32);

impl NexusId {
    fn index(self) -> usize {
        crate::bytes::index(self.0)
    }
}

/// Why a nexus could not be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AttachError {
    /// Its number is beyond `Limits::nexuses`.
    #[error("the nexus number is beyond the configured limit")]
    TooMany,
    /// The logical unit has no target port of that relative identifier.
    #[error("the logical unit has no such target port")]
    NoSuchPort,
}

/// What the logical unit keeps of one nexus.
#[derive(Debug)]
pub(crate) struct Nexus {
    pub gates: Gates,
    pending: Pending,
    pub port: u16,
    pub id: Arc<TransportId>,
    /// What it has not made stable may be lost: it is to hear so when it next wants that.
    pub lost: bool,
}

impl Nexus {
    pub fn establish(&mut self, attention: Attention) {
        self.pending.establish(attention);
        self.gates.insert(Gates::ATTENTION);
    }

    pub fn take_attention(&mut self) -> Option<Attention> {
        let taken = self.pending.take();
        self.settle();
        taken
    }

    pub fn clear_attention(&mut self, attention: Attention) {
        self.pending.remove(attention);
        self.settle();
    }

    fn settle(&mut self) {
        self.gates.set(Gates::ATTENTION, !self.pending.is_empty());
    }
}

/// All nexuses of one logical unit.
#[derive(Debug)]
pub(crate) struct Nexuses {
    slots: Vec<Option<Nexus>>,
    limit: u32,
}

impl Nexuses {
    pub fn new(limit: u32) -> Self {
        Self { slots: Vec::new(), limit }
    }

    #[inline]
    pub fn get(&self, nexus: NexusId) -> Option<&Nexus> {
        self.slots.get(nexus.index())?.as_ref()
    }

    pub fn get_mut(&mut self, nexus: NexusId) -> Option<&mut Nexus> {
        self.slots.get_mut(nexus.index())?.as_mut()
    }

    /// Puts a new nexus in its slot; one that was there is forgotten.
    pub fn insert(&mut self, nexus: NexusId, id: Arc<TransportId>, port: u16) -> Result<(), AttachError> {
        if nexus.0 >= self.limit {
            return Err(AttachError::TooMany);
        }
        if self.slots.len() <= nexus.index() {
            self.slots.resize_with(nexus.index() + 1, || None);
        }
        let mut new = Nexus { gates: Gates::empty(), pending: Pending::default(), port, id, lost: false };
        new.establish(Attention::PowerOn);
        self.slots[nexus.index()] = Some(new);
        Ok(())
    }

    pub fn remove(&mut self, nexus: NexusId) -> Option<Nexus> {
        self.slots.get_mut(nexus.index())?.take()
    }

    pub fn iter(&self) -> impl Iterator<Item = (NexusId, &Nexus)> {
        (0..).map(NexusId).zip(&self.slots).filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (NexusId, &mut Nexus)> {
        (0..).map(NexusId).zip(&mut self.slots).filter_map(|(id, slot)| Some((id, slot.as_mut()?)))
    }
}
