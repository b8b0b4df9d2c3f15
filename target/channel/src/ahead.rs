//! A look ahead at the commands that have been received and not yet been understood.
//!
//! What a command on a volume in memory touches lies all over that memory: the entry of its table,
//! the page's count, the page. One after the other, each of these misses costs more than all else that the
//! command needs. So the processor is asked for all entries of a batch, then for all counts, before
//! the first command is executed. Only hints are given here; nothing is checked, and nothing decided.

use crate::hub::Hub;
use kagami_iscsi::frame::Framing;
use kagami_iscsi::pdu::{BHS_LEN, Bhs, CommandFlags, Opcode};
use kagami_types::{Lba, Lun};

/// The most commands of a batch that are looked at.
const AHEAD: usize = 64;
/// How many things lie behind one another, each found through the one before.
const STEPS: u8 = 3;

impl<S: Send> Hub<S> {
    /// Looks at the whole headers among `bytes`, which begin with one.
    pub(crate) fn look_ahead(&self, framing: &Framing, bytes: &[u8]) {
        let mut found = [(0u32, Lba(0), false); AHEAD];
        let mut count = 0;
        let mut rest = bytes;
        while let (Some(place), Some(bhs)) = (found.get_mut(count), Bhs::at_front(rest)) {
            if bhs.opcode() == Some(Opcode::ScsiCommand) {
                let command = bhs.as_scsi_command();
                let unit = Lun::from_wire(command.lun).ok().and_then(|lun| self.directory.unit(lun));
                let Some(unit) = unit.filter(|unit| unit.core == self.core) else { break };
                let Some(Some(there)) = self.units.get(unit.index as usize) else { break };
                if !there.volume.keeps_pages() {
                    break;
                }
                let lba = Lba(kagami_scsi::first_block(&command.cdb));
                let reads = command.flags.contains(CommandFlags::READ);
                there.volume.prefetch(&self.cache, lba, 0, reads);
                *place = (unit.index, lba, reads);
                count += 1;
            }
            let data = framing.data_wire_len(bhs.data_segment_len()) as usize;
            let next = framing.header_wire_len(bhs.ahs_len()) + data;
            match rest.get(next..) {
                Some(after) if after.len() >= BHS_LEN => rest = after,
                _ => break,
            }
        }
        // One command alone would wait for the second as long as it does without.
        if count < 2 {
            return;
        }
        for step in 1..STEPS {
            for &(unit, lba, reads) in &found[..count] {
                if let Some(Some(unit)) = self.units.get(unit as usize) {
                    unit.volume.prefetch(&self.cache, lba, step, reads);
                }
            }
        }
    }
}
