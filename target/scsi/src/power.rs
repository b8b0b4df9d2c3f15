//! START STOP UNIT and REQUEST SENSE: what state the logical unit is in.

use crate::bytes::index;
use crate::cdb::Cdb;
use crate::disposition::Disposition;
use crate::nexus::NexusId;
use crate::sense::{Sense, Status};
use crate::table::Gates;
use crate::unit::LogicalUnit;
use kagami_types::{BlockCount, BlockOp, Lba};

impl LogicalUnit {
    /// START STOP UNIT (SBC-4 5.31). A stopped unit is NOT READY until it is started; stopping
    /// flushes, unless NO_FLUSH. Power conditions and LOEJ are refused by the usage data.
    /// Reservations bar stopping, not starting (SBC-4 table 14).
    pub(crate) fn start_stop(&mut self, nexus: NexusId, cdb: &Cdb) -> Disposition {
        let start = cdb[4] & 0x01 != 0;
        let barred = self.nexuses.get(nexus).is_some_and(|n| n.gates.contains(Gates::WRITE_CONFLICT));
        if !start && barred {
            return Disposition::Status(Status::ReservationConflict);
        }
        let no_flush = cdb[4] & 0x04 != 0;
        if !(start || no_flush)
            && let Err(sense) = self.tell_loss(nexus)
        {
            return Disposition::Check(sense);
        }
        self.stopped = !start;
        self.refresh_gates();
        if start || no_flush {
            return Disposition::Good;
        }
        let flush = BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
        let immediate = cdb[1] & 0x01 != 0;
        if immediate { Disposition::Background(flush) } else { Disposition::Block(flush) }
    }

    /// REQUEST SENSE (SPC-5 6.42): a pending unit attention, which is then cleared, or why the
    /// unit is not ready, or nothing.
    pub(crate) fn request_sense(&mut self, nexus: NexusId, cdb: &Cdb, out: &mut Vec<u8>) -> Disposition {
        let attention = self.nexuses.get_mut(nexus).and_then(|state| state.take_attention());
        let sense = match attention {
            Some(attention) => attention.sense(),
            None if self.gates.contains(Gates::NOT_READY) => self.not_ready(),
            None => Sense::NONE,
        };
        write_sense(&sense, cdb, out);
        Disposition::DataIn
    }
}

/// Sense data as parameter data, in the format that the DESC bit asks for.
pub(crate) fn write_sense(sense: &Sense, cdb: &Cdb, out: &mut Vec<u8>) {
    let descriptor = cdb[1] & 0x01 != 0;
    out.clear();
    out.extend_from_slice(sense.encode(descriptor).as_ref());
    out.truncate(index(u32::from(cdb[4])));
}
