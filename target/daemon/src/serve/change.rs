//! Changes while it serves: units that come and go, sessions that see other LUNs.
//!
//! Called by the management thread. What takes a core's time comes back through a channel, so
//! that the thread can go on with what cores wait for meanwhile.

use super::{Array, Placed, Rules, Served};
use kagami_channel::{Access, Control, Directory, Session, ShardAddress, UnitAddress, Usage, Visible};
use kagami_scsi::{Attention, NexusId};
use kagami_types::{BlockSize, CoreId, Lun};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// How long a core's letter box may stay full before the core counts as hanging.
const PATIENCE: Duration = Duration::from_secs(2);

/// A unit that a core was asked to make.
#[derive(Debug)]
pub struct Making {
    name: String,
    lun: Lun,
    block_size: BlockSize,
    core: CoreId,
    shards: Vec<ShardAddress>,
    answer: Receiver<Result<u32, String>>,
}

impl Making {
    /// The core's answer, if it is there.
    pub fn poll(&self) -> Option<Result<u32, String>> {
        self.answer.try_recv().ok()
    }
}

/// A session that sees other LUNs than before.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Which.
    pub session: Arc<Session>,
    /// LUNs that it sees now and did not, or did and does not.
    pub luns: Visible,
}

impl Array {
    /// The core with the fewest units.
    #[must_use]
    pub fn idlest(&self) -> CoreId {
        let count = |core: &CoreId| self.placed.iter().filter(|placed| placed.address.core == *core).count();
        let cores = (0..self.inboxes.len()).filter_map(|core| u16::try_from(core).ok().map(CoreId));
        cores.min_by_key(count).unwrap_or_default()
    }

    /// Where a volume's unit lives.
    #[must_use]
    pub fn core_of(&self, name: &str) -> Option<CoreId> {
        self.placed(name).map(|placed| placed.address.core)
    }

    fn placed(&self, name: &str) -> Option<&Placed> {
        self.placed.iter().find(|placed| placed.name == name)
    }

    /// Asks a core to make a unit. Nobody sees it before [`publish`](Self::publish).
    ///
    /// # Errors
    /// The core cannot be told.
    pub fn make(&self, mut served: Served) -> Result<Making, String> {
        self.make_shards(&mut served)?;
        let shards = served.shards.clone();
        let (name, lun, block_size) = (served.plan.name.clone(), served.plan.lun, served.plan.block_size);
        let core = served.plan.home;
        let (sender, answer) = sync_channel(1);
        if self.tell_patiently(core, Control::AddUnit { seed: Box::new(served), answer: sender }) {
            Ok(Making { name, lun, block_size, core, shards, answer })
        } else {
            self.unmake_shards(&shards);
            Err(format!("core {} does not answer", core.0))
        }
    }

    /// All units, virtual volumes included.
    fn addresses(&self) -> impl Iterator<Item = (Lun, UnitAddress)> {
        let own = self.placed.iter().map(|placed| (placed.lun, placed.address));
        own.chain(self.virtuals.iter().map(|mapped| (mapped.lun, mapped.address)))
    }

    /// A unit that was made takes its place among the others.
    pub fn place(&mut self, making: &Making, index: u32) {
        let address = UnitAddress { core: making.core, index };
        self.placed.push(Placed {
            name: making.name.clone(),
            lun: making.lun,
            block_size: making.block_size,
            address,
        });
    }

    /// Gives a unit another name.
    pub fn rename(&mut self, old: &str, new: &str) {
        if let Some(placed) = self.placed.iter_mut().find(|placed| placed.name == old) {
            placed.name = new.to_owned();
        }
        self.attend_unit(new, Attention::InquiryChanged);
    }

    /// Takes a unit out; its end is heard through the receiver, after it has finished what it has.
    /// Hosts find nothing there from the next [`publish`](Self::publish) on, which must come first
    /// where they have seen it.
    pub fn remove(&mut self, name: &str) -> Option<Receiver<()>> {
        let index = self.placed.iter().position(|placed| placed.name == name)?;
        let UnitAddress { core, index: unit } = self.placed.get(index)?.address;
        let (sender, gone) = sync_channel(1);
        self.placed.remove(index);
        self.tell_patiently(core, Control::RemoveUnit { unit, answer: sender }).then_some(gone)
    }

    /// Shows all cores which units there are, but for those named.
    pub fn publish(&self, without: &[String]) {
        let shown = self.placed.iter().filter(|placed| !without.contains(&placed.name));
        let entries = shown.map(|placed| (placed.lun, placed.address, placed.block_size));
        let virtuals = self.virtuals.iter().map(super::Mapped::entry);
        self.shared.set_directory(Directory::new(entries).with_virtual(virtuals));
        for core in self.cores() {
            self.tell_patiently(core, Control::Changed);
        }
    }

    pub(super) fn cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.inboxes.len()).filter_map(|core| u16::try_from(core).ok().map(CoreId))
    }

    /// Who uses a unit. `None` where its core does not say.
    #[must_use]
    pub fn usage(&self, name: &str) -> Option<Usage> {
        let UnitAddress { core, index: unit } = self.placed(name)?.address;
        let (answer, usage) = sync_channel(1);
        self.tell_patiently(core, Control::Usage { unit, answer });
        usage.recv_timeout(PATIENCE).ok()
    }

    /// The sessions.
    #[must_use]
    pub fn session_list(&self) -> Vec<Arc<Session>> {
        let mut sessions = self.shared.registry.sessions();
        sessions.sort_by_key(|session| session.tsih.0);
        sessions
    }

    /// The LUNs that sessions would lose under other rules.
    #[must_use]
    pub fn losses(&self, rules: &Rules) -> Vec<(Arc<Session>, Vec<Lun>)> {
        let rules = rules.clone().with_portals(&self.portals);
        let mut losses = Vec::new();
        for session in self.session_list().into_iter().filter(|session| !session.is_discovery) {
            let next = rules.visible(&session.initiator, session.ends);
            let lost = self.addresses().map(|(lun, _)| lun);
            let mut lost: Vec<_> =
                lost.filter(|&lun| session.visible.contains(lun) && !next.contains(lun)).collect();
            if !lost.is_empty() {
                lost.sort_unstable();
                losses.push((session, lost));
            }
        }
        losses
    }

    /// Has every session see what the rules in force say; those that see something else now.
    pub fn sweep(&self) -> Vec<Changed> {
        let access = self.shared.access();
        let mut changed = Vec::new();
        for session in self.shared.registry.sessions() {
            if session.is_discovery {
                continue;
            }
            let luns = session.visible.set(&access.visible(&session.initiator, session.ends));
            let shown = self.addresses().any(|(lun, _)| luns.contains(lun));
            if luns != Visible::only([]) && shown {
                changed.push(Changed { session, luns });
            }
        }
        changed
    }

    /// Sessions that see other LUNs: REPORTED LUNS DATA HAS CHANGED at every unit (SPC-5 6.33), and
    /// the units that they see no longer forget them.
    pub fn tell_changed(&self, changed: &[Changed]) {
        if changed.is_empty() {
            return;
        }
        for (lun, UnitAddress { core, index: unit }) in self.addresses() {
            let lost = changed
                .iter()
                .filter(|change| change.luns.contains(lun) && !change.session.visible.contains(lun))
                .map(|change| change.session.nexus);
            let nexuses: Arc<[NexusId]> = lost.collect();
            if !nexuses.is_empty() {
                self.tell_patiently(core, Control::Forget { unit, nexuses });
            }
        }
        let nexuses: Arc<[NexusId]> = changed.iter().map(|change| change.session.nexus).collect();
        for core in self.cores() {
            let attention = Attention::LunsChanged;
            self.tell_patiently(
                core,
                Control::Attend { unit: None, nexuses: Some(Arc::clone(&nexuses)), attention },
            );
        }
    }

    fn attend_unit(&self, name: &str, attention: Attention) {
        if let Some(placed) = self.placed(name) {
            let unit = Some(placed.address.index);
            self.tell_patiently(placed.address.core, Control::Attend { unit, nexuses: None, attention });
        }
    }

    /// A unit could not be made: what was made for it goes.
    pub fn give_up(&self, making: &Making) {
        self.unmake_shards(&making.shards);
    }

    /// Puts something into a core's letter box, waiting a while for room.
    pub(super) fn tell_patiently(&self, core: CoreId, control: Control) -> bool {
        let Some(inbox) = self.inboxes.get(core.index()) else { return false };
        let deadline = Instant::now() + PATIENCE;
        let mut control = control;
        loop {
            match inbox.put(control) {
                Ok(()) => return true,
                Err(_) if Instant::now() >= deadline => return false,
                Err(back) => control = back,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
