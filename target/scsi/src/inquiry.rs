//! INQUIRY: standard data (SPC-5 6.6.2); vital product data are in `vpd.rs`.

use crate::bytes::{Put, be16, len8};
use crate::cdb::Cdb;
use crate::disposition::Disposition;
use crate::nexus::NexusId;
use crate::sense::Sense;
use crate::unit::LogicalUnit;

/// T10 vendor identification.
pub(crate) const VENDOR: &str = "KAGAMI";

/// The whole length of standard INQUIRY data: up to and with the reserved bytes behind the
/// version descriptors.
const STANDARD_LENGTH: usize = 96;

/// SAM-5, iSCSI, SPC-4, SBC-3, SPC-5, SBC-4, none with a version claimed (SPC-5 table 150).
const VERSION_DESCRIPTORS: [u16; 6] = [0x00a0, 0x0960, 0x0460, 0x04c0, 0x05c0, 0x0600];

/// Standard INQUIRY data. `peripheral` is qualifier and device type.
pub(crate) fn standard(peripheral: u8, product: &str, revision: &str, out: &mut Vec<u8>) {
    out.clear();
    // Version 6 (SPC-4); HISUP, response data format 2; TPGS: implicit ALUA; CMDQUE.
    out.extend_from_slice(&[peripheral, 0, 0x06, 0x12, len8(STANDARD_LENGTH - 5), 0x10, 0, 0x02]);
    out.put_padded(VENDOR, 8);
    out.put_padded(product, 16);
    out.put_padded(revision, 4);
    out.zeroes(58 - 36);
    for descriptor in VERSION_DESCRIPTORS {
        out.put16(descriptor);
    }
    out.resize(STANDARD_LENGTH, 0);
}

impl LogicalUnit {
    /// INQUIRY (SPC-5 6.6).
    pub(crate) fn inquiry(&self, nexus: NexusId, cdb: &Cdb, out: &mut Vec<u8>) -> Result<Disposition, Sense> {
        let vital = cdb[1] & 0x01 != 0;
        let page = cdb[2];
        if vital {
            self.vital_product_data(nexus, page, out)?;
        } else if page != 0 {
            return Err(Sense::cdb_field(2));
        } else {
            standard(0, self.config.role.product(), &self.config.revision, out);
        }
        out.truncate(usize::from(be16(cdb, 3)));
        Ok(Disposition::DataIn)
    }
}
