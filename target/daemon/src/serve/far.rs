//! Commands of the daemon's own to the far units of virtual volumes: how orders are passed on.

use super::Array;
use crate::config::Role;
use crate::manage::{Far, FarError, Route};
use kagami_channel::{Control, Inbox, Shape};
use kagami_link::Outcome;
use kagami_types::BlockSize;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// How long a command may take beyond what the link itself allows it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The far unit of a virtual volume.
struct FarUnit {
    inbox: Arc<Inbox>,
    unit: u32,
    shape: Arc<Shape>,
}

impl FarUnit {
    fn command(&self, cdb: [u8; 16], out: Vec<u8>, expects: u32) -> Result<Vec<u8>, FarError> {
        let (answer, ended) = sync_channel(1);
        let control = Control::Forward { unit: self.unit, cdb, out, expects, answer };
        if self.inbox.put(control).is_err() {
            return Err(FarError::Busy);
        }
        let Ok(forwarded) = ended.recv_timeout(PATIENCE) else { return Err(FarError::Unreachable) };
        match forwarded.outcome {
            // GOOD.
            Outcome::Status(0x00, _) => Ok(forwarded.data),
            // RESERVATION CONFLICT.
            Outcome::Status(0x18, _) => Err(FarError::Held),
            // BUSY, TASK SET FULL, TASK ABORTED.
            Outcome::Status(0x08 | 0x28 | 0x40, _) => Err(FarError::Busy),
            // NOT READY, UNIT ATTENTION, ABORTED COMMAND: it passes.
            Outcome::Status(0x02, Some(sense)) if matches!(sense_key(&sense), 0x2 | 0x6 | 0xb) => {
                Err(FarError::Busy)
            }
            Outcome::Status(..) => Err(FarError::Refused),
            Outcome::Unreachable | Outcome::Lost | Outcome::Aborted => Err(FarError::Unreachable),
        }
    }
}

/// The sense key, in either format of sense data (SPC-5 4.4).
fn sense_key(sense: &[u8]) -> u8 {
    let descriptor = sense.first().is_some_and(|code| code & 0x7f >= 0x72);
    sense.get(if descriptor { 1 } else { 2 }).map_or(0, |byte| byte & 0xf)
}

/// READ(16) or WRITE(16) (SBC-4 5.16, 5.40).
fn cdb(code: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = code;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

impl Far for FarUnit {
    fn read(&self, lba: u64, blocks: u32, bytes: u32) -> Result<Vec<u8>, FarError> {
        self.command(cdb(0x88, lba, blocks), Vec::new(), bytes)
    }

    fn write(&self, lba: u64, blocks: u32, data: Vec<u8>) -> Result<(), FarError> {
        self.command(cdb(0x8a, lba, blocks), data, 0).map(drop)
    }

    fn shape(&self) -> Option<(BlockSize, u64)> {
        Some((self.shape.block_size()?, self.shape.blocks()))
    }
}

impl Array {
    /// The ways to other arrays' command devices.
    pub(crate) fn routes(&self) -> Vec<Route> {
        let command = self.virtuals.iter().filter(|mapped| mapped.role == Role::Command);
        let routes = command.filter_map(|mapped| {
            let inbox = Arc::clone(self.inboxes.get(mapped.address.core.index())?);
            let shape = Arc::clone(&mapped.shape);
            let far = FarUnit { inbox, unit: mapped.address.index, shape };
            Some(Route { peer: mapped.peer.clone(), lun: mapped.lun.number(), far: Arc::new(far) })
        });
        routes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_sense_data_are_of_the_standard() {
        assert_eq!(cdb(0x8a, 0x0102, 64)[..], [0x8a, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 64, 0, 0]);
        assert_eq!(sense_key(&[0x70, 0, 6, 0]), 6);
        assert_eq!(sense_key(&[0x72, 2, 0, 0]), 2);
        assert_eq!(sense_key(&[]), 0);
    }
}
