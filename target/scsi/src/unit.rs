//! The device server of one logical unit: state, life, and the way of a command through it.
//!
//! [`LogicalUnit::execute`] is the hot path: one table lookup, one test of everything that may
//! stop a command, then READ and WRITE at once and all others through one `match`. The
//! handlers are in the modules named after what they do. Called by the channel controller of
//! the core that owns the logical unit.

use crate::attention::Attention;
use crate::cdb::Cdb;
use crate::config::{ConfigError, LuConfig};
use crate::disposition::{DataOut, Disposition, Failure};
use crate::losses::Departed;
use crate::mode::ModeState;
use crate::nexus::{AttachError, NexusId, Nexuses};
use crate::path::Path;
use crate::reserve::Reservations;
use crate::sense::{Asc, Sense, SenseBytes, SenseKey, Status};
use crate::table::{Found, Gates, Op, Row, lookup};
use crate::transport_id::TransportId;
use kagami_types::{BlockCount, BlockError, BlockSize, Lun, Uuid};
use std::sync::Arc;

/// Can the medium be accessed?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    #[default]
    Ready,
    /// Not yet, but without anyone's doing (replay): LOGICAL UNIT IS IN PROCESS OF BECOMING READY.
    BecomingReady,
    /// The array that has the data cannot be reached: LOGICAL UNIT COMMUNICATION FAILURE.
    Unreachable,
    /// The device with the data is gone, and somebody has to bring it back: MANUAL INTERVENTION REQUIRED. Whoever
    /// sets it ready again says what happened ([`Attention::InternalReset`]).
    Gone,
}

/// A reset of the logical unit (SAM-5 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// By LOGICAL UNIT RESET or TARGET WARM RESET.
    LogicalUnit,
    /// By TARGET COLD RESET: as after power on, except that persistent reservations stay.
    Power,
}

/// The device server of one logical unit.
#[derive(Debug)]
pub struct LogicalUnit {
    pub(crate) gates: Gates,
    pub(crate) capacity: u64,
    pub(crate) max_transfer: u32,
    pub(crate) block_size: BlockSize,
    pub(crate) nexuses: Nexuses,
    pub(crate) departed: Departed,
    pub(crate) mode: ModeState,
    pub(crate) reservations: Reservations,
    pub(crate) config: LuConfig,
    pub(crate) stopped: bool,
    /// The arrays that its commands pass: its own; empty where it does not tell.
    pub(crate) path: Path,
    readiness: Readiness,
    read_only: bool,
}

impl LogicalUnit {
    /// A logical unit without nexuses or registrations.
    ///
    /// # Errors
    /// The configuration has something that cannot be served or told to initiators.
    pub fn new(config: LuConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let mut unit = Self {
            gates: Gates::empty(),
            capacity: config.capacity.0,
            max_transfer: if config.limits.max_transfer == 0 { u32::MAX } else { config.limits.max_transfer },
            block_size: config.block_size,
            nexuses: Nexuses::new(config.limits.nexuses),
            departed: Departed::default(),
            mode: ModeState::new(&config.write_cache),
            reservations: Reservations::new(config.limits.registrations),
            stopped: false,
            path: Path::default(),
            readiness: Readiness::Ready,
            read_only: config.read_only,
            config,
        };
        unit.refresh_gates();
        Ok(unit)
    }

    /// Tells which array this is, for those that map the unit as a virtual volume (see [`crate::path`]).
    #[must_use]
    pub fn of_array(mut self, array: Uuid) -> Self {
        self.path = Path { arrays: vec![array], complete: true };
        self
    }

    /// Runs a command as far as the device server can. `out` is written where the answer is
    /// [`Disposition::DataIn`] and left as it is otherwise.
    #[inline]
    pub fn execute(
        &mut self,
        nexus: NexusId,
        cdb: &Cdb,
        data: DataOut<'_>,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let Found::Row(row) = lookup(cdb) else { return self.unknown(nexus, cdb) };
        let Some(state) = self.nexuses.get(nexus) else { return unattached() };
        let tripped = (state.gates | self.gates) & row.gates;
        if !tripped.is_empty() || u128::from_be_bytes(*cdb) & row.reserved != 0 {
            return self.stopped_by(nexus, tripped, row, cdb);
        }
        match row.op {
            Op::Read => self.read(row, cdb).into(),
            Op::Write => self.write(row, cdb, data.offered).into(),
            Op::TestUnitReady => Disposition::Good,
            _ => self.execute_other(nexus, row, cdb, data, out).into(),
        }
    }

    fn execute_other(
        &mut self,
        nexus: NexusId,
        row: &'static Row,
        cdb: &Cdb,
        data: DataOut<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Sense> {
        match row.op {
            Op::Read | Op::Write | Op::TestUnitReady => Ok(Disposition::Good),
            Op::RequestSense => Ok(self.request_sense(nexus, cdb, out)),
            Op::Inquiry => self.inquiry(nexus, cdb, out),
            Op::WriteVerify => self.write_and_verify(row, cdb, data.offered),
            Op::Verify => self.verify(row, cdb, data.offered),
            Op::Prefetch => self.prefetch(row, cdb),
            Op::SynchronizeCache => self.synchronize_cache(nexus, row, cdb),
            Op::WriteSame => self.write_same(row, cdb, data.offered),
            Op::Unmap => self.unmap(row, cdb, data.parameters),
            Op::CompareAndWrite => self.compare_and_write(row, cdb, data.offered),
            Op::GetLbaStatus => self.get_lba_status(row, cdb),
            Op::ReadCapacity10 => Ok(self.read_capacity_10(out)),
            Op::ReadCapacity16 => Ok(self.read_capacity_16(row, cdb, out)),
            Op::ModeSelect => self.mode_select(nexus, row, cdb, data.parameters),
            Op::ModeSense => self.mode_sense(row, cdb, out),
            Op::StartStop => Ok(self.start_stop(nexus, cdb)),
            Op::Reserve => Ok(self.reserve_legacy(nexus)),
            Op::Release => Ok(self.release_legacy(nexus)),
            Op::PersistentIn => Ok(self.persistent_in(row, cdb, out)),
            Op::PersistentOut => self.persistent_out(nexus, row, cdb, data.parameters),
            Op::ReportLuns => self.report_luns_request(nexus, row, cdb),
            Op::ReportTargetPortGroups => self.report_target_port_groups(row, cdb, out),
            Op::ReportOpcodes => self.report_opcodes(row, cdb, out),
            Op::ReportTaskManagement => crate::report::task_management(row, cdb, out),
        }
    }

    /// A command that something stops: what the initiator is told. The order is that in which
    /// the crate's documentation lists the checks.
    #[cold]
    fn stopped_by(&mut self, nexus: NexusId, tripped: Gates, row: &Row, cdb: &Cdb) -> Disposition {
        if tripped.contains(Gates::NOT_THIN) {
            return Disposition::Check(Sense::illegal(Asc::INVALID_OPERATION_CODE));
        }
        if tripped.contains(Gates::ATTENTION)
            && let Some(attention) = self.nexuses.get_mut(nexus).and_then(|state| state.take_attention())
        {
            return Disposition::Check(attention.sense());
        }
        let conflicts = Gates::RESERVED | Gates::READ_CONFLICT | Gates::WRITE_CONFLICT;
        if tripped.intersects(conflicts) {
            return Disposition::Status(Status::ReservationConflict);
        }
        if tripped.contains(Gates::NOT_READY) {
            return Disposition::Check(self.not_ready());
        }
        let stray = u128::from_be_bytes(*cdb) & row.reserved;
        if stray != 0 {
            let [byte, bit] = [stray.leading_zeros() / 8, 7 - stray.leading_zeros() % 8]
                .map(|part| u8::try_from(part).unwrap_or(0));
            return Disposition::Check(Sense::cdb_bit(u16::from(byte), bit));
        }
        Disposition::Check(Sense::new(SenseKey::DataProtect, Asc::WRITE_PROTECTED))
    }

    /// A command that is not in the table.
    #[cold]
    fn unknown(&self, nexus: NexusId, cdb: &Cdb) -> Disposition {
        if self.nexuses.get(nexus).is_none() {
            return unattached();
        }
        Disposition::Check(match lookup(cdb) {
            Found::NoServiceAction => Sense::cdb_bit(1, 4),
            _ => Sense::illegal(Asc::INVALID_OPERATION_CODE),
        })
    }

    /// What keeps the medium from being accessed.
    pub(crate) fn not_ready(&self) -> Sense {
        Sense::new(
            SenseKey::NotReady,
            match self.readiness {
                Readiness::BecomingReady => Asc::BECOMING_READY,
                Readiness::Gone => Asc::MANUAL_INTERVENTION_REQUIRED,
                Readiness::Unreachable => Asc::COMMUNICATION_FAILURE,
                Readiness::Ready => Asc::INITIALIZING_COMMAND_REQUIRED,
            },
        )
    }

    /// How a command ends whose block operation failed: the one table from what went wrong
    /// below to what initiators are told.
    #[must_use]
    pub fn failed(&self, error: BlockError) -> Failure {
        let (key, asc) = match error {
            BlockError::OutOfRange => (SenseKey::IllegalRequest, Asc::LBA_OUT_OF_RANGE),
            BlockError::ReadMedium(_) => (SenseKey::MediumError, Asc::UNRECOVERED_READ_ERROR),
            BlockError::WriteMedium(_) => (SenseKey::MediumError, Asc::WRITE_ERROR),
            BlockError::Miscompare(_) => (SenseKey::Miscompare, Asc::MISCOMPARE),
            BlockError::Device => (SenseKey::HardwareError, Asc::INTERNAL_TARGET_FAILURE),
            // The range stays blocked until the device has answered, so trying again is safe.
            BlockError::TimedOut => (SenseKey::AbortedCommand, Asc::COMMUNICATION_TIMEOUT),
            // As those are told that come later. Initiators fail the command at once, try other paths, and ask with
            // TEST UNIT READY whether it is back.
            BlockError::Gone | BlockError::NotServed => {
                (SenseKey::NotReady, Asc::MANUAL_INTERVENTION_REQUIRED)
            }
            BlockError::NoSpace => (SenseKey::DataProtect, Asc::SPACE_ALLOCATION_FAILED),
            BlockError::WriteProtected => (SenseKey::DataProtect, Asc::WRITE_PROTECTED),
            BlockError::BecomingReady => (SenseKey::NotReady, Asc::BECOMING_READY),
            BlockError::Busy => return Failure::Status(Status::Busy),
            BlockError::Unsupported => (SenseKey::IllegalRequest, Asc::INVALID_OPERATION_CODE),
            BlockError::Aborted => (SenseKey::AbortedCommand, Asc::NONE),
        };
        let sense = Sense::new(key, asc);
        Failure::Check(match error {
            BlockError::ReadMedium(lba) | BlockError::WriteMedium(lba) => sense.with_information(lba.0),
            BlockError::Miscompare(offset) => sense.with_information(u64::from(offset)),
            _ => sense,
        })
    }

    /// Sense data for an error of a command that was answered long ago: a deferred error (SPC-5 4.4.7).
    #[must_use]
    pub fn deferred(&self, error: BlockError) -> SenseBytes {
        let sense = match self.failed(error) {
            Failure::Check(sense) => sense,
            Failure::Status(_) => Sense::new(SenseKey::HardwareError, Asc::INTERNAL_TARGET_FAILURE),
        };
        self.encode(&sense).into_deferred()
    }

    /// Sense data in the format that the control mode page asks for (D_SENSE).
    #[must_use]
    pub fn encode(&self, sense: &Sense) -> SenseBytes {
        sense.encode(self.mode.descriptor_sense())
    }

    /// A new I_T nexus, through the target port of that relative identifier. It starts with
    /// the unit attention POWER ON, RESET, OR BUS DEVICE RESET OCCURRED, and has its
    /// registration back if the initiator port had one.
    ///
    /// # Errors
    /// The number is beyond the limit, or there is no such port.
    pub fn attach(&mut self, nexus: NexusId, id: Arc<TransportId>, port: u16) -> Result<(), AttachError> {
        if !self.config.target.ports.iter().any(|known| known.relative == port) {
            return Err(AttachError::NoSuchPort);
        }
        self.detach(nexus);
        self.nexuses.insert(nexus, Arc::clone(&id), port)?;
        if self.departed.came(&id, port)
            && let Some(state) = self.nexuses.get_mut(nexus)
        {
            state.lost = true;
        }
        self.reservations.bind(nexus, &id, port);
        self.refresh_nexus(nexus);
        Ok(())
    }

    /// The nexus is gone (I_T nexus loss, SAM-5 6.3.4): its SPC-2 reservation ends; its
    /// registration and persistent reservation stay.
    pub fn detach(&mut self, nexus: NexusId) {
        let Some(gone) = self.nexuses.remove(nexus) else { return };
        self.departed.went(gone.id, gone.port, gone.lost);
        if self.reservations.unbind(nexus) {
            self.refresh_conflicts();
        }
    }

    /// Is that nexus attached?
    #[must_use]
    pub fn is_attached(&self, nexus: NexusId) -> bool {
        self.nexuses.get(nexus).is_some()
    }

    /// Resets the logical unit: SPC-2 reservations end, mode pages are as saved, a stopped
    /// unit starts, every nexus gets a unit attention. Aborting the tasks is the caller's part.
    pub fn reset(&mut self, reset: Reset) {
        self.reservations.legacy = None;
        self.mode.reset();
        self.stopped = false;
        self.refresh_gates();
        self.refresh_conflicts();
        self.establish_all(
            None,
            match reset {
                Reset::LogicalUnit => Attention::Reset,
                Reset::Power => Attention::PowerOn,
            },
        );
    }

    /// Establishes a unit attention condition for one nexus.
    pub fn establish(&mut self, nexus: NexusId, attention: Attention) {
        if let Some(state) = self.nexuses.get_mut(nexus) {
            state.establish(attention);
        }
    }

    /// Establishes a unit attention condition for all nexuses but one.
    pub fn establish_all(&mut self, except: Option<NexusId>, attention: Attention) {
        for (nexus, state) in self.nexuses.iter_mut() {
            if Some(nexus) != except {
                state.establish(attention);
            }
        }
    }

    /// The volume has another size now: CAPACITY DATA HAS CHANGED for everyone. A capacity of
    /// zero is not taken.
    pub fn set_capacity(&mut self, capacity: BlockCount) {
        if capacity.0 != 0 && capacity.0 != self.capacity {
            self.capacity = capacity.0;
            self.establish_all(None, Attention::CapacityChanged);
        }
    }

    /// The volume became read-only or writable: MODE PARAMETERS CHANGED for everyone, as the
    /// WP bit did.
    pub fn set_read_only(&mut self, read_only: bool) {
        if self.read_only != read_only {
            self.read_only = read_only;
            self.refresh_gates();
            self.establish_all(None, Attention::ModeChanged);
        }
    }

    /// The medium can be accessed, or not. Becoming ready again is told to everyone.
    pub fn set_readiness(&mut self, readiness: Readiness) {
        let before = std::mem::replace(&mut self.readiness, readiness);
        if before != readiness {
            self.refresh_gates();
            if readiness == Readiness::Ready && before != Readiness::Gone {
                self.establish_all(None, Attention::MediumChanged);
            }
        }
    }

    /// Registrations of persistent reservations, those of initiators that are not there included.
    #[must_use]
    pub fn registrations(&self) -> usize {
        self.reservations.registrations.len()
    }

    /// Whether it is reserved, persistently (SPC-5 5.14) or with RESERVE (SPC-2).
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.reservations.kind.is_some() || self.reservations.legacy.is_some()
    }

    /// Its LUN.
    #[must_use]
    pub fn lun(&self) -> Lun {
        self.config.lun
    }

    /// Its logical block size.
    #[must_use]
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// Its number of logical blocks.
    #[must_use]
    pub fn capacity(&self) -> BlockCount {
        BlockCount(self.capacity)
    }

    /// Whether it is read-only, besides what hosts set in the control mode page (SWP).
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// WCE: may a write be acknowledged before it is stable?
    #[must_use]
    pub fn write_cache_enabled(&self) -> bool {
        self.mode.write_cache()
    }

    /// TAS: tasks aborted through another nexus end with TASK ABORTED, instead of silently
    /// with COMMANDS CLEARED BY ANOTHER INITIATOR for their nexus.
    #[must_use]
    pub fn task_aborted_status(&self) -> bool {
        self.mode.task_aborted_status()
    }

    /// Works out anew what stops commands of every nexus.
    pub(crate) fn refresh_gates(&mut self) {
        self.gates.set(Gates::NOT_READY, self.stopped || self.readiness != Readiness::Ready);
        self.gates.set(Gates::PROTECTED, self.read_only || self.mode.software_write_protect());
        self.gates.set(Gates::NOT_THIN, !self.config.thin);
    }

    /// Works out anew which nexuses the reservations bar.
    pub(crate) fn refresh_conflicts(&mut self) {
        for (nexus, state) in self.nexuses.iter_mut() {
            state.gates = self.reservations.conflicts(nexus) | (state.gates & Gates::ATTENTION);
        }
    }

    fn refresh_nexus(&mut self, nexus: NexusId) {
        if let Some(state) = self.nexuses.get_mut(nexus) {
            state.gates = self.reservations.conflicts(nexus) | (state.gates & Gates::ATTENTION);
        }
    }
}

/// A nexus that was never attached: the caller's mistake, answered all the same.
#[cold]
fn unattached() -> Disposition {
    Disposition::Check(Sense::new(SenseKey::HardwareError, Asc::INTERNAL_TARGET_FAILURE))
}
