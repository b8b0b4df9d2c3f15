//! Commands for a LUN that has no logical unit, or none that the nexus may see (SPC-5 4.6.4).
//!
//! Called by the channel controller instead of a logical unit. It has no state: unit
//! attentions are not kept for what does not exist.

use crate::bytes::be16;
use crate::cdb::Cdb;
use crate::disposition::Disposition;
use crate::inquiry::standard;
use crate::power::write_sense;
use crate::report::parse_report_luns;
use crate::sense::{Asc, Sense};
use crate::table::{Found, Op, Row, lookup};

/// Peripheral qualifier 011b, device type 1Fh: nothing can be connected here.
const NOTHING: u8 = 0x7f;

/// Answers a command for a LUN without a logical unit: INQUIRY says so, REPORT LUNS and
/// REQUEST SENSE are served, all else ends with LOGICAL UNIT NOT SUPPORTED.
pub fn absent(cdb: &Cdb, out: &mut Vec<u8>) -> Disposition {
    let not_supported = Sense::illegal(Asc::LOGICAL_UNIT_NOT_SUPPORTED);
    let Found::Row(row) = lookup(cdb) else { return Disposition::Check(not_supported) };
    match row.op {
        Op::Inquiry => inquiry(row, cdb, out).into(),
        Op::ReportLuns => parse_report_luns(row, cdb).map(Disposition::ReportLuns).into(),
        Op::RequestSense => {
            write_sense(&not_supported, cdb, out);
            Disposition::DataIn
        }
        _ => Disposition::Check(not_supported),
    }
}

/// Standard INQUIRY data, without texts; there are no vital product data of nothing.
fn inquiry(row: &Row, cdb: &Cdb, out: &mut Vec<u8>) -> Result<Disposition, Sense> {
    if u128::from_be_bytes(*cdb) & row.reserved != 0 || cdb[1] & 1 != 0 {
        return Err(Sense::cdb_field(1));
    }
    if cdb[2] != 0 {
        return Err(Sense::cdb_field(2));
    }
    standard(NOTHING, "", "", out);
    out.truncate(usize::from(be16(cdb, 3)));
    Ok(Disposition::DataIn)
}
