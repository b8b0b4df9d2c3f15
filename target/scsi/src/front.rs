//! The front of a virtual volume: what an array itself answers for a unit that another array has.
//!
//! A command that may be passed on ([`Row::forwardable`]) is, as it is; status and sense are the far
//! array's. The array itself answers what must not depend on the link or is about its own nexuses:
//! REPORT LUNS, INQUIRY (with what was learnt from the far unit), REQUEST SENSE, REPORT SUPPORTED
//! OPERATION CODES, and unit attentions, of which each of its hosts has its own. Reservations are
//! refused, as all hosts share one nexus at the far array, which could not tell who holds one; so are
//! reports of target port groups, which are the far array's own ports. What each command meets with is
//! in a table in `docs/operations.md`, which the tests compare with the opcode table.
//!
//! Called by the channel controller of the core where the virtual volume lives. The link to the far
//! array is not its business: it is told what was learnt.

use crate::attention::Attention;
use crate::bytes::{be16, be32, len16};
use crate::cdb::{Cdb, Transfer, extent, transfer};
use crate::config::{Role, TargetName};
use crate::disposition::Disposition;
use crate::inquiry::standard;
use crate::nexus::{AttachError, NexusId, Nexuses};
use crate::path::{PATH_PAGE, Path};
use crate::power::write_sense;
use crate::report::{Opcodes, parse_report_luns, task_management};
use crate::sense::{Asc, Sense, SenseKey};
use crate::table::{Form, Found, Gates, Op, Row, lookup};
use crate::transport_id::TransportId;
use crate::vpd::put_target;
use kagami_types::{BlockSize, Lun};
use std::sync::Arc;

/// What a front is made from.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Its LUN at this array.
    pub lun: Lun,
    /// What it is for: names the product while the far unit is not known.
    pub role: Role,
    /// Product revision while it is not known.
    pub revision: String,
    /// The target that serves it.
    pub target: TargetName,
    /// Nexus numbers are below this.
    pub nexuses: u32,
    /// The most bytes that one command may move through this array.
    pub most_bytes: u32,
}

/// What the far unit is, as it was learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Standard INQUIRY data.
    pub standard: Vec<u8>,
    /// Vital product data pages with their headers, by code.
    pub pages: Vec<(u8, Vec<u8>)>,
    /// Logical blocks.
    pub blocks: u64,
    /// Bytes of one.
    pub block_size: BlockSize,
}

/// A command that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The data that the CDB calls for.
    pub transfer: Transfer,
    /// It may be executed twice with the same result.
    pub repeatable: bool,
    /// It changes blocks.
    pub writes: bool,
    /// What hosts hear of it, but the one that gave it, once it is done well: at the far array they are one nexus.
    pub tells: Option<Attention>,
    /// Which blocks it is about, the first and how many; `None`: none, or not known from the CDB.
    pub blocks: Option<(u64, u64)>,
}

/// What becomes of a command.
#[derive(Debug)]
pub enum Admission {
    /// It goes to the far array.
    Forward(Forward),
    /// It is answered here: done, with data in `out`, failed, or REPORT LUNS.
    Answer(Disposition),
}

/// The device server of a virtual volume.
#[derive(Debug)]
pub struct Front {
    config: FrontConfig,
    nexuses: Nexuses,
    identity: Option<Identity>,
    path: Path,
}

impl Front {
    /// A front that knows nothing of the far unit yet.
    #[must_use]
    pub fn new(config: FrontConfig) -> Self {
        Self { nexuses: Nexuses::new(config.nexuses), config, identity: None, path: Path::default() }
    }

    /// Its LUN.
    #[must_use]
    pub fn lun(&self) -> Lun {
        self.config.lun
    }

    /// What is known of the far unit.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// A new nexus; see [`LogicalUnit::attach`](crate::LogicalUnit::attach).
    ///
    /// # Errors
    /// The number is beyond the limit, or there is no such port.
    pub fn attach(&mut self, nexus: NexusId, id: Arc<TransportId>, port: u16) -> Result<(), AttachError> {
        if !self.config.target.ports.iter().any(|known| known.relative == port) {
            return Err(AttachError::NoSuchPort);
        }
        self.nexuses.insert(nexus, id, port)
    }

    /// The nexus is gone.
    pub fn detach(&mut self, nexus: NexusId) {
        self.nexuses.remove(nexus);
    }

    /// Is that nexus attached?
    #[inline]
    #[must_use]
    pub fn is_attached(&self, nexus: NexusId) -> bool {
        self.nexuses.get(nexus).is_some()
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

    /// A condition that the far unit reported, by its additional sense code and qualifier: all
    /// nexuses but `told` hear of it.
    pub fn relay(&mut self, code: u16, told: NexusId) {
        if let Some(attention) = Attention::of_code(code) {
            self.establish_all(Some(told), attention);
        }
    }

    /// The arrays that its commands pass, this one first.
    pub fn set_path(&mut self, path: Path) {
        if self.path != path {
            let told = !self.path.arrays.is_empty();
            self.path = path;
            if told {
                self.establish_all(None, Attention::InquiryChanged);
            }
        }
    }

    /// What the far unit is. What has changed is told to all nexuses.
    pub fn learn(&mut self, identity: Identity) {
        let Some(known) = &self.identity else {
            self.identity = Some(identity);
            self.establish_all(None, Attention::MediumChanged);
            return;
        };
        let resized = (known.blocks, known.block_size) != (identity.blocks, identity.block_size);
        let other = known.standard != identity.standard || known.pages != identity.pages;
        self.identity = Some(identity);
        if resized {
            self.establish_all(None, Attention::CapacityChanged);
        }
        if other {
            self.establish_all(None, Attention::InquiryChanged);
        }
    }

    /// What becomes of a command. `out` is written where it is answered with data.
    #[inline]
    pub fn admit(&mut self, nexus: NexusId, cdb: &Cdb, out: &mut Vec<u8>) -> Admission {
        let Found::Row(row) = lookup(cdb) else { return refuse() };
        let Some(state) = self.nexuses.get_mut(nexus) else { return refuse() };
        if (state.gates & row.gates).contains(Gates::ATTENTION)
            && let Some(attention) = state.take_attention()
        {
            return Admission::Answer(Disposition::Check(attention.sense()));
        }
        if !row.forwardable {
            return Admission::Answer(self.answer(nexus, row, cdb, out));
        }
        let block_size = self.identity.as_ref().map_or(BlockSize::B512, |known| known.block_size);
        Admission::Forward(Forward {
            transfer: transfer(cdb, block_size),
            repeatable: is_repeatable(row),
            writes: row.writes(),
            tells: (row.op == Op::ModeSelect).then_some(Attention::ModeChanged),
            blocks: blocks(row, cdb),
        })
    }

    fn answer(&mut self, nexus: NexusId, row: &Row, cdb: &Cdb, out: &mut Vec<u8>) -> Disposition {
        match row.op {
            Op::Inquiry => self.inquiry(nexus, cdb, out).into(),
            Op::RequestSense => {
                let pending = self.nexuses.get_mut(nexus).and_then(|state| state.take_attention());
                write_sense(&pending.map_or(Sense::NONE, Attention::sense), cdb, out);
                Disposition::DataIn
            }
            Op::ReportLuns => {
                let request = parse_report_luns(row, cdb);
                if let (Ok(_), Some(state)) = (&request, self.nexuses.get_mut(nexus)) {
                    state.clear_attention(Attention::LunsChanged);
                }
                request.map(Disposition::ReportLuns).into()
            }
            Op::ReportOpcodes => Opcodes { serves: served, thin: true }.report(row, cdb, out).into(),
            Op::ReportTaskManagement => task_management(row, cdb, out).into(),
            _ => Disposition::Check(Sense::illegal(Asc::INVALID_OPERATION_CODE)),
        }
    }

    /// INQUIRY with what is known of the far unit; always answered, whatever the link does (SPC-5 6.6.1).
    fn inquiry(&self, nexus: NexusId, cdb: &Cdb, out: &mut Vec<u8>) -> Result<Disposition, Sense> {
        let page = cdb[2];
        if cdb[1] & 1 != 0 {
            self.page(nexus, page, out)?;
        } else if page != 0 {
            return Err(Sense::cdb_field(2));
        } else if let Some(known) = &self.identity {
            out.clear();
            out.extend_from_slice(&known.standard);
            if let Some(byte) = out.get_mut(5) {
                // No access states of other ports (TPGS), no copies (3PC), no protection (PROTECT).
                *byte &= !0x39;
            }
        } else {
            standard(0, self.config.role.product(), &self.config.revision, out);
            if let Some(byte) = out.get_mut(5) {
                *byte &= !0x30;
            }
        }
        out.truncate(usize::from(be16(cdb, 3)));
        Ok(Disposition::DataIn)
    }

    fn page(&self, nexus: NexusId, page: u8, out: &mut Vec<u8>) -> Result<(), Sense> {
        let known = self.identity.as_ref().map(|known| known.pages.as_slice()).unwrap_or_default();
        let learnt = |code: u8| known.iter().find(|(other, _)| *other == code).map(|(_, bytes)| bytes);
        out.clear();
        match page {
            0x00 => {
                out.extend_from_slice(&[0; 4]);
                out.push(0);
                out.extend(known.iter().map(|(code, _)| *code).filter(|code| *code != PATH_PAGE));
                out.push(PATH_PAGE);
            }
            PATH_PAGE => {
                self.path.write(out);
                return Ok(());
            }
            0x83 => {
                let bytes = learnt(page).ok_or(Sense::cdb_field(2))?;
                out.extend_from_slice(&[0, page, 0, 0]);
                designators_of_unit(bytes, out);
                let port = self.nexuses.get(nexus).map(|state| state.port);
                put_target(&self.config.target, port, out);
            }
            _ => {
                out.extend_from_slice(learnt(page).ok_or(Sense::cdb_field(2))?);
                if page == 0xb0 {
                    self.bound_transfers(out);
                }
                return Ok(());
            }
        }
        let [high, low] = len16(out.len() - 4).to_be_bytes();
        out.splice(..4, [0, page, high, low]);
        Ok(())
    }

    /// No more is told to hosts than what this array can have under way for one command.
    fn bound_transfers(&self, page: &mut [u8]) {
        let Some(known) = &self.identity else { return };
        let most = self.config.most_bytes >> known.block_size.shift();
        for at in [8, 12] {
            let value = be32(page, at);
            let beyond = (at == 8 && value == 0) || value > most;
            if let Some(place) = page.get_mut(at..at + 4).filter(|_| beyond) {
                place.copy_from_slice(&most.to_be_bytes());
            }
        }
    }

    /// The sense data of a command that the far array could not be asked, or did not answer in time.
    #[must_use]
    pub fn unreachable() -> Sense {
        Sense::new(SenseKey::NotReady, Asc::COMMUNICATION_FAILURE)
    }

    /// The sense data of a command of which nobody knows what became, and which is not repeated.
    #[must_use]
    pub fn lost() -> Sense {
        Sense::new(SenseKey::AbortedCommand, Asc::COMMUNICATION_FAILURE)
    }
}

/// May it be sent again after a session was lost, when nobody knows whether it was executed? Not where it
/// would undo what others did meanwhile.
fn is_repeatable(row: &Row) -> bool {
    !matches!(row.op, Op::CompareAndWrite | Op::ModeSelect | Op::StartStop)
}

/// What a virtual volume serves: what is passed on, and what its array answers.
fn served(row: &Row) -> bool {
    let answered = matches!(
        row.op,
        Op::Inquiry | Op::RequestSense | Op::ReportLuns | Op::ReportOpcodes | Op::ReportTaskManagement
    );
    row.forwardable || answered
}

#[cold]
fn refuse() -> Admission {
    Admission::Answer(Disposition::Check(Sense::illegal(Asc::INVALID_OPERATION_CODE)))
}

/// The blocks that a command is about. UNMAP has them in its parameters, a WRITE SAME of none means
/// the rest of the volume: all then.
fn blocks(row: &Row, cdb: &Cdb) -> Option<(u64, u64)> {
    match (row.form, row.op) {
        (Form::None, Op::Unmap) => Some((0, u64::MAX)),
        (Form::None, _) => None,
        (form, op) => {
            let (first, count) = extent(cdb, form);
            match (count, op) {
                (0, Op::WriteSame) => Some((first, u64::MAX - first)),
                (count, _) => Some((first, u64::from(count))),
            }
        }
    }
}

/// Copies the designators of a page 83h that name the logical unit itself, not the far array's ports.
fn designators_of_unit(page: &[u8], out: &mut Vec<u8>) {
    let mut rest = page.get(4..).unwrap_or_default();
    while let [_, kind, _, len, ..] = rest {
        let whole = 4 + usize::from(*len);
        let Some((designator, after)) = rest.split_at_checked(whole) else { return };
        if kind & 0x30 == 0 {
            out.extend_from_slice(designator);
        }
        rest = after;
    }
}

#[cfg(test)]
#[path = "front_tests.rs"]
mod tests;
