//! Vital product data pages (SPC-5 7.7, SBC-4 6.6).

use crate::bytes::{Put, len8, len16};
use crate::config::TargetName;
use crate::inquiry::VENDOR;
use crate::nexus::NexusId;
use crate::path::PATH_PAGE;
use crate::sense::Sense;
use crate::unit::LogicalUnit;

/// The pages served, ascending.
const PAGES: [u8; 7] = [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2];

/// Whom a designator names (SPC-5 7.7.6.1), with PIV and the protocol where it is a port.
#[derive(Clone, Copy)]
enum Association {
    LogicalUnit,
    TargetPort,
    TargetDevice,
}

const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF8: u8 = 3;

impl LogicalUnit {
    /// Writes a page whole.
    pub(crate) fn vital_product_data(
        &self,
        nexus: NexusId,
        page: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), Sense> {
        let known = PAGES.contains(&page) || (page == PATH_PAGE && !self.path.arrays.is_empty());
        if !known {
            return Err(Sense::cdb_field(2));
        }
        out.clear();
        out.extend_from_slice(&[0, page, 0, 0]);
        match page {
            0x00 => {
                out.extend_from_slice(&PAGES);
                out.extend((!self.path.arrays.is_empty()).then_some(PATH_PAGE));
            }
            PATH_PAGE => {
                self.path.write(out);
                return Ok(());
            }
            0x80 => out.extend_from_slice(self.config.serial.as_bytes()),
            0x83 => self.device_identification(nexus, out),
            0x86 => self.extended_inquiry(out),
            0xb0 => self.block_limits(out),
            0xb1 => {
                // Not rotating, or at which rate; no form factor, no zones.
                out.put16(self.config.rotation.rate());
                out.zeroes(58);
            }
            _ => self.provisioning(out),
        }
        let length = len16(out.len() - 4).to_be_bytes();
        out.patch(2, &length);
        Ok(())
    }

    /// Device Identification (SPC-5 7.7.6): the volume by NAA and by T10 vendor, then the port
    /// that the command came through, then the target.
    fn device_identification(&self, nexus: NexusId, out: &mut Vec<u8>) {
        let target = &self.config.target;
        put_designator(out, Association::LogicalUnit, 3, BINARY, &self.config.naa.0);
        let mut vendor = Vec::with_capacity(40);
        vendor.put_padded(VENDOR, 8);
        vendor.extend_from_slice(self.config.uuid.simple().to_string().as_bytes());
        put_designator(out, Association::LogicalUnit, 1, ASCII, &vendor);
        put_target(target, self.nexuses.get(nexus).map(|state| state.port), out);
    }

    /// Extended INQUIRY Data (SPC-5 7.7.7).
    fn extended_inquiry(&self, out: &mut Vec<u8>) {
        // HEADSUP, ORDSUP, SIMPSUP: all task attributes are taken. V_SUP: there is a volatile
        // cache, if WCE is or can be set.
        let cache = &self.config.write_cache;
        let volatile = u8::from(cache.enabled || cache.changeable);
        out.extend_from_slice(&[0, 0x07, volatile]);
        out.zeroes(57);
    }

    /// Block Limits (SBC-4 6.6.3).
    fn block_limits(&self, out: &mut Vec<u8>) {
        let limits = &self.config.limits;
        let thin = |value: u32| if self.config.thin { value } else { 0 };
        out.extend_from_slice(&[u8::from(!limits.write_same_to_end), limits.max_compare_and_write]);
        out.put16(limits.granularity);
        out.put32(limits.max_transfer);
        out.put32(limits.optimal_transfer);
        out.put32(0);
        out.put32(thin(limits.max_unmap));
        out.put32(thin(limits.max_unmap_descriptors));
        out.put32(thin(limits.unmap_granularity));
        // UGAVALID: ranges to unmap are aligned from LBA 0.
        out.put32(thin(0x8000_0000));
        out.put64(limits.max_write_same);
        out.zeroes(20);
    }

    /// Logical Block Provisioning (SBC-4 6.6.7): LBPU, LBPWS, LBPWS10, LBPRZ; thin.
    fn provisioning(&self, out: &mut Vec<u8>) {
        let page = if self.config.thin { [0, 0xe4, 0x02, 0] } else { [0; 4] };
        out.extend_from_slice(&page);
    }
}

/// The port that the command came through, and the target.
pub(crate) fn put_target(target: &TargetName, relative: Option<u16>, out: &mut Vec<u8>) {
    let port = target.ports.iter().find(|port| Some(port.relative) == relative);
    if let Some(port) = port {
        let [high, low] = port.relative.to_be_bytes();
        put_designator(out, Association::TargetPort, 4, BINARY, &[0, 0, high, low]);
        let [high, low] = target.port_group.to_be_bytes();
        put_designator(out, Association::TargetPort, 5, BINARY, &[0, 0, high, low]);
        let name = format!("{},t,0x{:04x}", target.name, port.portal_group);
        put_name(out, Association::TargetPort, &name);
    }
    put_name(out, Association::TargetDevice, &target.name);
}

fn put_designator(out: &mut Vec<u8>, whom: Association, kind: u8, code_set: u8, value: &[u8]) {
    // Protocol 5 is iSCSI; PIV says that it is given.
    let (protocol, association) = match whom {
        Association::LogicalUnit => (0, 0x00),
        Association::TargetPort => (0x50, 0x90),
        Association::TargetDevice => (0x50, 0xa0),
    };
    out.extend_from_slice(&[protocol | code_set, association | kind, 0, len8(value.len())]);
    out.extend_from_slice(value);
}

/// A SCSI name string: NUL-terminated, padded to a multiple of four (SPC-5 7.7.6.11). Names
/// have at most 223 bytes and a suffix of 9, so that the length fits.
fn put_name(out: &mut Vec<u8>, whom: Association, name: &str) {
    let mut value = name.as_bytes().to_vec();
    value.resize((value.len() + 1).next_multiple_of(4), 0);
    put_designator(out, whom, 8, UTF8, &value);
}
