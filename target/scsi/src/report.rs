//! REPORT LUNS, REPORT SUPPORTED OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
//! and REPORT TARGET PORT GROUPS.

use crate::attention::Attention;
use crate::bytes::{Put, be16, index, len8, len16, len32};
use crate::cdb::{Cdb, length};
use crate::disposition::{Disposition, ReportLuns};
use crate::nexus::NexusId;
use crate::sense::Sense;
use crate::table::{Gates, Op, ROWS, Row, rows_of};
use crate::unit::LogicalUnit;
use kagami_types::Lun;

/// Writes the answer to REPORT LUNS (SPC-5 6.33) for a nexus that sees these LUNs, cut to the
/// allocation length.
pub fn report_luns(request: ReportLuns, luns: impl IntoIterator<Item = Lun>, out: &mut Vec<u8>) {
    out.clear();
    out.zeroes(8);
    if !request.well_known_only {
        for lun in luns {
            out.extend_from_slice(&lun.to_wire());
        }
    }
    let list_length = len32(out.len() - 8).to_be_bytes();
    out.patch(0, &list_length);
    out.truncate(index(request.allocation));
}

/// Checks REPORT LUNS: SELECT REPORT 00h and 02h are all logical units, 01h the well known ones.
pub(crate) fn parse_report_luns(row: &Row, cdb: &Cdb) -> Result<ReportLuns, Sense> {
    let allocation = length(cdb, row);
    if cdb[2] > 2 {
        return Err(Sense::cdb_field(2));
    }
    if allocation < 16 {
        return Err(Sense::cdb_field(6));
    }
    Ok(ReportLuns { well_known_only: cdb[2] == 1, allocation })
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5 6.39): ABORT TASK, ABORT TASK SET, CLEAR
/// TASK SET, LOGICAL UNIT RESET and TARGET RESET.
pub(crate) fn task_management(row: &Row, cdb: &Cdb, out: &mut Vec<u8>) -> Result<Disposition, Sense> {
    let allocation = length(cdb, row);
    if allocation < 4 {
        return Err(Sense::cdb_field(6));
    }
    let extended = cdb[2] & 0x80 != 0;
    out.clear();
    out.extend_from_slice(&[0xda, 0, 0, 0]);
    if extended {
        // REPD: no timeouts are given.
        out.patch(3, &[12]);
        out.zeroes(12);
    }
    out.truncate(index(allocation));
    Ok(Disposition::DataIn)
}

impl LogicalUnit {
    /// REPORT LUNS: a pending REPORTED LUNS DATA HAS CHANGED is no longer news (SPC-5 6.33).
    pub(crate) fn report_luns_request(
        &mut self,
        nexus: NexusId,
        row: &Row,
        cdb: &Cdb,
    ) -> Result<Disposition, Sense> {
        let request = parse_report_luns(row, cdb)?;
        if let Some(state) = self.nexuses.get_mut(nexus) {
            state.clear_attention(Attention::LunsChanged);
        }
        Ok(Disposition::ReportLuns(request))
    }

    /// REPORT TARGET PORT GROUPS (SPC-5 6.40): all ports are in one group, active/optimized.
    pub(crate) fn report_target_port_groups(
        &self,
        row: &Row,
        cdb: &Cdb,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Sense> {
        let extended = match cdb[1] >> 5 {
            0 => false,
            1 => true,
            _ => return Err(Sense::cdb_bit(1, 7)),
        };
        let target = &self.config.target;
        out.clear();
        out.zeroes(4);
        if extended {
            // Format type 1; no time for implicit transitions is given.
            out.extend_from_slice(&[0x10, 0, 0, 0]);
        }
        // State 0h, which is the only one supported (AO_SUP).
        out.extend_from_slice(&[0x00, 0x01]);
        out.put16(target.port_group);
        out.extend_from_slice(&[0, 0, 0, len8(target.ports.len())]);
        for port in &target.ports {
            out.put16(0);
            out.put16(port.relative);
        }
        let data_length = len32(out.len() - 4).to_be_bytes();
        out.patch(0, &data_length);
        out.truncate(index(length(cdb, row)));
        Ok(Disposition::DataIn)
    }

    /// REPORT SUPPORTED OPERATION CODES (SPC-5 6.38).
    pub(crate) fn report_opcodes(
        &self,
        row: &Row,
        cdb: &Cdb,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Sense> {
        Opcodes { serves: |row: &Row| self.serves(row), thin: self.config.thin }.report(row, cdb, out)
    }

    /// Is the command served by this logical unit? UNMAP is not where nothing can be unmapped.
    pub(crate) fn serves(&self, row: &Row) -> bool {
        !(self.gates & row.gates).contains(Gates::NOT_THIN)
    }
}

/// The commands that a logical unit serves, as REPORT SUPPORTED OPERATION CODES tells them.
pub(crate) struct Opcodes<F> {
    /// Whether it serves that one.
    pub serves: F,
    /// It is thin provisioned, as far as is known here.
    pub thin: bool,
}

impl<F: Fn(&Row) -> bool> Opcodes<F> {
    /// Answers the command.
    pub(crate) fn report(&self, row: &Row, cdb: &Cdb, out: &mut Vec<u8>) -> Result<Disposition, Sense> {
        let timeouts = cdb[2] & 0x80 != 0;
        let (opcode, action) = (cdb[3], be16(cdb, 4));
        let rows = rows_of(opcode);
        let has_actions = rows.iter().any(|row| row.service_action.is_some());
        let same_action = |row: &&Row| row.service_action.map(u16::from) == Some(action);
        let found = match cdb[2] & 0x07 {
            0 => {
                self.all(timeouts, out);
                out.truncate(index(length(cdb, row)));
                return Ok(Disposition::DataIn);
            }
            1 if has_actions => return Err(Sense::cdb_bit(2, 2)),
            1 => rows.first(),
            2 if !has_actions && !rows.is_empty() => return Err(Sense::cdb_bit(2, 2)),
            2 => rows.iter().find(same_action),
            3 if has_actions => rows.iter().find(same_action),
            3 => rows.first().filter(|_| action == 0),
            _ => return Err(Sense::cdb_bit(2, 2)),
        };
        self.one(found.filter(|row| (self.serves)(row)), timeouts, out);
        out.truncate(index(length(cdb, row)));
        Ok(Disposition::DataIn)
    }

    fn all(&self, timeouts: bool, out: &mut Vec<u8>) {
        out.clear();
        out.zeroes(4);
        for row in ROWS.iter().filter(|row| (self.serves)(row)) {
            out.extend_from_slice(&[row.opcode, 0]);
            out.put16(row.service_action.map_or(0, u16::from));
            // CTDP, SERVACTV.
            let flags = (u8::from(timeouts) << 1) | u8::from(row.service_action.is_some());
            out.extend_from_slice(&[0, flags]);
            out.put16(len16(row.usage.len()));
            if timeouts {
                put_timeouts(row, out);
            }
        }
        let data_length = len32(out.len() - 4).to_be_bytes();
        out.patch(0, &data_length);
    }

    fn one(&self, row: Option<&Row>, timeouts: bool, out: &mut Vec<u8>) {
        out.clear();
        let Some(row) = row else {
            // SUPPORT 001b: not supported.
            out.extend_from_slice(&[0, 1, 0, 0]);
            return;
        };
        // CTDP; SUPPORT 011b: as the standard says.
        out.extend_from_slice(&[0, (u8::from(timeouts) << 7) | 3]);
        out.put16(len16(row.usage.len()));
        let start = out.len();
        out.extend_from_slice(row.usage);
        if row.op == Op::WriteSame && !self.thin {
            // Without provisioning the UNMAP bit is refused.
            out.patch(start + 1, &[row.usage[1] & !0x08]);
        }
        if timeouts {
            put_timeouts(row, out);
        }
    }
}

/// Command timeouts descriptor (SPC-5 6.38.4): no nominal time, the recommended timeout.
fn put_timeouts(row: &Row, out: &mut Vec<u8>) {
    out.put16(10);
    out.put16(0);
    out.put32(0);
    out.put32(row.timeout);
}
