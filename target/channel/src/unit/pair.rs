//! A unit whose volume is in a pair: the front comes and goes, mail comes for it, and its mode is what hosts see.

use super::{Role, Unit, UnitContext};
use crate::backing::Backing;
use crate::message::{Command, Reply, UnitAddress};
use crate::paired::Paired;
use kagami_replica::FrontPlan;
use kagami_replica::mail::{Mode, ToFront};
use kagami_scsi::{Attention, NexusId, Readiness};
use kagami_types::{BlockError, BlockOp};

/// The ticket of the mode that a front begins in; the group's own are small numbers.
const FIRST: u64 = u64::MAX;

/// How a unit gets its front.
#[derive(Clone, Debug)]
pub struct PairSeed {
    /// The front.
    pub front: FrontPlan,
    /// The journal unit whose group it is to belong to.
    pub group: UnitAddress,
    /// The pair is new, and the volume is in use: hosts go on as before until the group says something else. Otherwise it
    /// is NOT READY until then.
    pub is_new: bool,
    /// The other array's iSCSI name as an initiator: its sessions may read the volume, and nothing else.
    pub reader: Option<Box<str>>,
}

/// Sessions of the other array at a paired volume.
#[derive(Debug)]
pub(crate) struct Readers {
    name: Option<Box<str>>,
    nexuses: Vec<NexusId>,
}

impl Readers {
    pub(super) fn attach(&mut self, nexus: NexusId, initiator: &str) {
        if self.name.as_deref() == Some(initiator) {
            self.nexuses.push(nexus);
        }
    }

    pub(super) fn detach(&mut self, nexus: NexusId) {
        self.nexuses.retain(|other| *other != nexus);
    }
}

impl Unit {
    /// Whether the front of a pair can come before the volume.
    ///
    /// # Errors
    /// Why not, in plain words.
    pub(crate) fn may_pair(&self) -> Result<(), String> {
        match &self.role {
            Role::Plain => Ok(()),
            Role::Paired(_) => Err("it is in a pair already".to_owned()),
            _ => Err("it is no ordinary volume".to_owned()),
        }
    }

    /// Puts the front of a pair before the volume.
    pub(crate) fn paired(self, seed: PairSeed) -> Self {
        let slots = u16::try_from(self.tasks.len()).unwrap_or(u16::MAX);
        let how = (self.server.write_cache_enabled(), self.server.is_read_only());
        let paired = Paired::new(self.volume, seed.front, seed.group, slots, self.serial, how);
        // Sessions that are known already are not the other array's: it comes for the pair.
        let readers = Readers { name: seed.reader, nexuses: Vec::new() };
        Self { volume: Backing::Paired(Box::new(paired)), role: Role::Paired(Box::new(readers)), ..self }
    }

    /// The front that was put there is told how to begin.
    pub(crate) fn begin_pair(&mut self, is_new: bool, cx: &mut UnitContext<'_>) {
        if let Backing::Paired(paired) = &mut self.volume {
            paired.begin(cx);
        }
        if is_new {
            self.front_mail(ToFront::Mode { ticket: FIRST, mode: Mode::Plain }, cx);
        } else {
            self.show(Mode::NotReady, Mode::NotReady);
        }
    }

    /// Whether it has the front of a pair.
    pub(crate) fn is_paired(&self) -> bool {
        matches!(self.volume, Backing::Paired(_))
    }

    /// Whether the front can be taken away.
    ///
    /// # Errors
    /// Why not, in plain words.
    pub(crate) fn may_unpair(&self) -> Result<(), String> {
        match &self.volume {
            Backing::Paired(paired) if !paired.is_idle() => Err("its pair is still busy with it".to_owned()),
            _ => Ok(()),
        }
    }

    /// Takes the front away.
    pub(crate) fn unpaired(self) -> Self {
        let volume = match self.volume {
            Backing::Paired(paired) => paired.inner,
            other => other,
        };
        Self { volume, role: Role::Plain, ..self }
    }

    /// A block operation on a paired volume.
    #[inline]
    pub(super) fn pair_block(
        &mut self,
        mut command: Command,
        wanted: u64,
        op: BlockOp,
        cx: &mut UnitContext<'_>,
    ) -> Option<Reply> {
        let Role::Paired(readers) = &self.role else { return self.block(command, wanted, op, cx, None) };
        if op.writes() && readers.nexuses.contains(&command.nexus) {
            cx.metrics.errors.inc();
            command.data.clear();
            let end = self.refused(BlockError::WriteProtected);
            return Some(Reply { task: command.task, end, data: command.data, wanted: 0 });
        }
        self.block(command, wanted, op, cx, None)
    }

    /// Mail from the group.
    pub(crate) fn front_mail(&mut self, mail: ToFront, cx: &mut UnitContext<'_>) {
        let Backing::Paired(paired) = &mut self.volume else { return };
        let before = paired.mode();
        let mode = if let ToFront::Mode { mode, .. } = &mail { Some(*mode) } else { None };
        paired.on_mail(cx, mail);
        if let Some(mode) = mode {
            self.show(mode, before);
        }
    }

    /// What hosts see of a mode: the WP bit and DATA PROTECT, NOT READY, and that what they knew may have changed.
    fn show(&mut self, mode: Mode, before: Mode) {
        let Backing::Paired(paired) = &self.volume else { return };
        let protected = matches!(mode, Mode::Fenced | Mode::Secondary { .. });
        self.server.set_read_only(protected || paired.is_read_only());
        self.refresh_readiness();
        let was_written_by_group = matches!(before, Mode::Secondary { .. });
        if was_written_by_group && !matches!(mode, Mode::Secondary { .. }) {
            // The blocks are not those that hosts read here before.
            self.server.establish_all(None, Attention::MediumChanged);
        }
    }

    /// Whether the medium can be accessed, by the device and by the pair.
    pub(crate) fn refresh_readiness(&mut self) {
        let mode = match &self.volume {
            Backing::Paired(paired) => Some(paired.mode()),
            _ => None,
        };
        let readiness = match mode {
            _ if self.gone => Readiness::Gone,
            Some(Mode::NotReady) => Readiness::BecomingReady,
            Some(Mode::Stopped) => Readiness::Gone,
            _ => Readiness::Ready,
        };
        self.server.set_readiness(readiness);
    }
}
