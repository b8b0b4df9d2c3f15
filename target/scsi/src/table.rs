//! The opcode table: what a command looks like, what may stop it, and who handles it.
//!
//! One row a command, or a service action of one. Decoding, reservation conflicts, readiness,
//! write protection, forwarding, REPORT SUPPORTED OPERATION CODES and the tests all read the
//! same row, so that what is advertised is what works. The rows themselves are in
//! `opcodes.rs`. Public for metrics (names) and for virtual volumes (what can be forwarded).

use crate::cdb::Cdb;
pub use crate::opcodes::ROWS;
use bitflags::bitflags;

/// Which data a command moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// None.
    None,
    /// Parameter data to the initiator; the CDB has an allocation length.
    In,
    /// Logical blocks to the initiator.
    BlocksIn,
    /// A parameter list from the initiator; the CDB has its length.
    Parameters,
    /// Logical blocks from the initiator.
    BlocksOut,
}

/// Where LBA and length stand in the CDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The command addresses no blocks.
    None,
    /// 21 bits and 8; a length of 0 is 256 blocks.
    Six,
    /// 32 bits and 16.
    Ten,
    /// 32 bits and 32.
    Twelve,
    /// 64 bits and 32.
    Sixteen,
    /// 64 bits and 8, in byte 13 (COMPARE AND WRITE).
    Compare,
}

/// A length field of the CDB: its first byte and its width in bytes (0: the CDB has none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub at: u8,
    pub width: u8,
}

bitflags! {
    /// What can stop a command before its handler sees it. A row names those that apply to
    /// it; nexus and logical unit hold those that are up; the intersection is one `and`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Gates: u8 {
        /// A unit attention condition is pending for the nexus (SAM-5 5.14).
        const ATTENTION = 1;
        /// Another nexus holds an SPC-2 reservation (SPC-2 5.5.1).
        const RESERVED = 1 << 1;
        /// A persistent reservation keeps this nexus from reading (SPC-5 5.14.1, SBC-4 4.17).
        const READ_CONFLICT = 1 << 2;
        /// A persistent reservation keeps this nexus from writing.
        const WRITE_CONFLICT = 1 << 3;
        /// The logical unit is stopped, or not ready yet.
        const NOT_READY = 1 << 4;
        /// The logical unit is read-only, or software write protected.
        const PROTECTED = 1 << 5;
        /// The logical unit is not thin provisioned: no UNMAP.
        const NOT_THIN = 1 << 6;
    }
}

impl Gates {
    /// INQUIRY, REPORT LUNS and REQUEST SENSE pass everything.
    pub const FREE: Self = Self::empty();
    /// Reports that no reservation stops; unit attentions do.
    pub const REPORT: Self = Self::ATTENTION;
    /// Reports and mode pages that exclusive access reservations stop.
    pub const SENSE: Self = Self::ATTENTION.union(Self::RESERVED).union(Self::READ_CONFLICT);
    /// MODE SELECT: state that is not on the medium.
    pub const SELECT: Self = Self::ATTENTION.union(Self::RESERVED).union(Self::WRITE_CONFLICT);
    /// TEST UNIT READY.
    pub const READY: Self = Self::ATTENTION.union(Self::RESERVED).union(Self::NOT_READY);
    /// Reads the medium.
    pub const READ: Self = Self::READY.union(Self::READ_CONFLICT);
    /// SYNCHRONIZE CACHE: conflicts like a write, but write protection is no matter.
    pub const SYNC: Self = Self::READY.union(Self::WRITE_CONFLICT);
    /// Writes the medium.
    pub const WRITE: Self = Self::SYNC.union(Self::PROTECTED);
}

/// Who handles the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    TestUnitReady,
    RequestSense,
    Inquiry,
    Read,
    Write,
    WriteVerify,
    Verify,
    Prefetch,
    SynchronizeCache,
    WriteSame,
    Unmap,
    CompareAndWrite,
    GetLbaStatus,
    ReadCapacity10,
    ReadCapacity16,
    ModeSelect,
    ModeSense,
    StartStop,
    Reserve,
    Release,
    PersistentIn,
    PersistentOut,
    ReportLuns,
    ReportTargetPortGroups,
    ReportOpcodes,
    ReportTaskManagement,
}

/// One command, or one service action of one.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in the standards.
    pub name: &'static str,
    /// The operation code.
    pub opcode: u8,
    /// The service action, where the operation code has them.
    pub service_action: Option<u8>,
    /// The CDB usage data (SPC-5 6.38.3): a set bit is one that is evaluated. Its length is
    /// the CDB's.
    pub usage: &'static [u8],
    /// Which data the command moves.
    pub data: DataKind,
    /// A virtual volume passes this command on to the array that has the data.
    pub forwardable: bool,
    /// The command timeout to recommend, in seconds (SPC-5 6.38.4).
    pub timeout: u32,
    pub(crate) op: Op,
    pub(crate) form: Form,
    pub(crate) length: Field,
    pub(crate) gates: Gates,
    /// Bits that must be zero, as the big-endian number of the CDB's sixteen bytes.
    pub(crate) reserved: u128,
}

impl Row {
    /// Does it write to the medium, so that write protection stops it?
    #[must_use]
    pub fn writes(&self) -> bool {
        self.gates.contains(Gates::PROTECTED)
    }

    /// May INQUIRY-like handling answer it whatever is pending: unit attention, reservation?
    #[must_use]
    pub fn always_answered(&self) -> bool {
        self.gates.is_empty()
    }

    pub(crate) const fn new(op: Op, name: &'static str, usage: &'static [u8], gates: Gates) -> Self {
        Self {
            name,
            opcode: usage[0],
            service_action: None,
            usage,
            data: DataKind::None,
            forwardable: false,
            timeout: 30,
            op,
            form: Form::None,
            length: Field { at: 0, width: 0 },
            gates,
            reserved: reserved(usage, 0),
        }
    }

    /// This row is that service action, in the low five bits of byte 1.
    pub(crate) const fn service(mut self, action: u8) -> Self {
        self.service_action = Some(action);
        self.accepting(0x1f)
    }

    /// Bits of byte 1 that are ignored though not advertised: obsolete ones (FUA_NV, SYNC_NV,
    /// the SCSI-2 LUN field) that initiators in use still set.
    pub(crate) const fn accepting(mut self, mask: u8) -> Self {
        self.reserved &= !((mask as u128) << 112);
        self
    }

    /// Parameter data to the initiator, up to the allocation length in that field.
    pub(crate) const fn allocates(mut self, at: u8, width: u8) -> Self {
        self.data = DataKind::In;
        self.length = Field { at, width };
        self
    }

    /// A parameter list of the length in that field.
    pub(crate) const fn takes(mut self, at: u8, width: u8) -> Self {
        self.data = DataKind::Parameters;
        self.length = Field { at, width };
        self
    }

    /// Addresses blocks, and moves them that way. Such commands can be forwarded.
    pub(crate) const fn blocks(mut self, form: Form, data: DataKind) -> Self {
        self.form = form;
        self.data = data;
        self.forwardable = true;
        self
    }

    pub(crate) const fn forwarded(mut self) -> Self {
        self.forwardable = true;
        self
    }

    pub(crate) const fn seconds(mut self, timeout: u32) -> Self {
        self.timeout = timeout;
        self
    }
}

/// The complement of the usage data inside the CDB's length, less the opcode and what byte 1
/// accepts. Bytes beyond the length are the transport's padding and not looked at.
const fn reserved(usage: &[u8], accept: u8) -> u128 {
    let mut mask = 0u128;
    let mut at = 1;
    while at < usage.len() {
        let accepted = if at == 1 { usage[at] | accept } else { usage[at] };
        mask |= (!accepted as u128) << (120 - 8 * at);
        at += 1;
    }
    mask
}

/// For every operation code, its first row, or `NO_ROW`.
static FIRST: [u8; 256] = first_rows();
const NO_ROW: u8 = u8::MAX;

const fn first_rows() -> [u8; 256] {
    assert!(ROWS.len() < NO_ROW as usize);
    let mut first = [NO_ROW; 256];
    let mut at = ROWS.len();
    while at > 0 {
        at -= 1;
        let row = &ROWS[at];
        #[expect(clippy::cast_possible_truncation, reason = "checked by the assertion above")]
        let index = at as u8;
        first[row.opcode as usize] = index;
    }
    first
}

/// What the table says of a CDB.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// This row.
    Row(&'static Row),
    /// The operation code is known, its service action is not.
    NoServiceAction,
    /// The operation code is not known.
    NoOpcode,
}

/// The row of a CDB, by operation code and, where it has them, service action.
#[must_use]
#[inline]
pub fn lookup(cdb: &Cdb) -> Found {
    match rows_of(cdb[0]) {
        [] => Found::NoOpcode,
        [row, ..] if row.service_action.is_none() => Found::Row(row),
        rows => match rows.iter().find(|row| row.service_action == Some(cdb[1] & 0x1f)) {
            Some(row) => Found::Row(row),
            None => Found::NoServiceAction,
        },
    }
}

/// The rows of an operation code: several where it has service actions.
#[inline]
pub(crate) fn rows_of(opcode: u8) -> &'static [Row] {
    let from = usize::from(FIRST[usize::from(opcode)]);
    let Some(rest) = ROWS.get(from..) else { return &[] };
    match rest {
        [row, ..] if row.service_action.is_none() => &rest[..1],
        _ => rest.split(|row| row.opcode != opcode).next().unwrap_or(&[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_opcode_stand_together_and_are_found() {
        for row in &ROWS {
            let mut cdb = [0; 16];
            cdb[0] = row.opcode;
            cdb[1] = row.service_action.unwrap_or(0);
            let Found::Row(found) = lookup(&cdb) else { panic!("{} is not found", row.name) };
            assert_eq!((found.opcode, found.service_action), (row.opcode, row.service_action));
            assert_eq!(found.name, row.name);
        }
        let opcodes = ROWS.chunk_by(|a, b| a.opcode == b.opcode).map(|rows| rows[0].opcode);
        assert!(opcodes.is_sorted_by(|a, b| a < b), "rows are sorted by operation code, once each");
    }

    #[test]
    fn usage_data_has_the_length_of_the_opcodes_group() {
        for row in &ROWS {
            let length = match row.opcode >> 5 {
                0 => 6,
                1 | 2 => 10,
                4 => 16,
                5 => 12,
                group => panic!("group {group}"),
            };
            assert_eq!(row.usage.len(), length, "{}", row.name);
            assert_eq!(row.usage[0], row.opcode);
            assert_eq!(row.usage[length - 1], 0, "{}: NACA is refused", row.name);
            if let Some(action) = row.service_action {
                assert_eq!(row.usage[1] & 0x1f, action, "{}", row.name);
            }
        }
    }

    #[test]
    fn length_fields_are_in_the_usage_data() {
        for row in &ROWS {
            for at in row.length.at..row.length.at + row.length.width {
                assert_eq!(row.usage[usize::from(at)], 0xff, "{} byte {at}", row.name);
            }
        }
    }

    #[test]
    fn only_known_opcodes_are_found() {
        for opcode in 0..=u8::MAX {
            let known = ROWS.iter().any(|row| row.opcode == opcode);
            assert_eq!(!rows_of(opcode).is_empty(), known);
        }
        assert!(matches!(lookup(&[0xa3; 16]), Found::NoServiceAction));
        assert!(matches!(lookup(&[0x7f; 16]), Found::NoOpcode));
    }
}
