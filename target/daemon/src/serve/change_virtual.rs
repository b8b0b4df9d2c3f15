//! Virtual volumes that come and go while it serves.

use super::{Array, Mapped, Rules, virtuals};
use crate::plan::{Plan, VirtualPlan};
use kagami_channel::{Control, Shape, UnitAddress};
use kagami_types::{CoreId, Lun, Uuid};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// A virtual volume that a core was asked to take.
#[derive(Debug)]
pub struct Mapping {
    mapped: Mapped,
    answer: Receiver<Result<u32, String>>,
}

impl Mapping {
    /// The core's answer, if it is there.
    pub fn poll(&self) -> Option<Result<u32, String>> {
        self.answer.try_recv().ok()
    }

    /// Its row in the counters.
    #[must_use]
    pub fn row(&self) -> usize {
        self.mapped.row
    }
}

impl Array {
    /// Rows of the counters that virtual volumes have.
    pub fn virtual_rows(&self) -> impl Iterator<Item = usize> {
        self.virtuals.iter().map(|mapped| mapped.row)
    }

    /// Asks a core to take a virtual volume. Nobody sees it before [`publish`](Self::publish).
    ///
    /// # Errors
    /// It cannot be made, or the core cannot be told.
    pub fn map(&self, one: &VirtualPlan, plan: &Plan, rules: &Rules, array: Uuid) -> Result<Mapping, String> {
        let shape = Arc::new(Shape::default());
        let unit = virtuals::build(one, plan, rules, array, Arc::clone(&shape))?;
        let (sender, answer) = sync_channel(1);
        let core = one.home;
        if !self.tell_patiently(core, Control::AddVirtual { unit: Box::new(unit), answer: sender }) {
            return Err(format!("core {} does not answer", core.0));
        }
        let address = UnitAddress { core, index: 0 };
        let (lun, row, peer, role) = (one.lun, one.row as usize, one.peer.clone(), one.role);
        Ok(Mapping { mapped: Mapped { lun, address, row, peer, role, shape }, answer })
    }

    /// One that a core has taken has its place among the others.
    pub fn place_virtual(&mut self, mapping: Mapping, index: u32) {
        let address = UnitAddress { index, ..mapping.mapped.address };
        self.virtuals.push(Mapped { address, ..mapping.mapped });
    }

    /// Takes a virtual volume out of the list, for the next [`publish`](Self::publish); gives its row, and
    /// what ends it after that.
    pub fn unmap(&mut self, lun: Lun) -> Option<(usize, UnitAddress)> {
        let place = self.virtuals.iter().position(|mapped| mapped.lun == lun)?;
        let Mapped { row, address, .. } = self.virtuals.remove(place);
        Some((row, address))
    }

    /// Ends a unit that nobody sees any more; heard through the receiver, after what it has is finished.
    pub fn retire(&self, address: UnitAddress) -> Option<Receiver<()>> {
        let (sender, gone) = sync_channel(1);
        let control = Control::RemoveUnit { unit: address.index, answer: sender };
        self.tell_patiently(address.core, control).then_some(gone)
    }

    /// The core with the fewest virtual volumes.
    #[must_use]
    pub fn idlest_for_virtual(&self) -> CoreId {
        let count = |core: &CoreId| self.virtuals.iter().filter(|one| one.address.core == *core).count();
        self.cores().min_by_key(count).unwrap_or_default()
    }
}
