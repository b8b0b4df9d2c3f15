//! A logical unit with nexuses 0 to 3 attached and their first unit attentions taken.
#![allow(dead_code, reason = "each test crate uses its own part")]

use kagami_scsi::{
    Cdb, DataOut, Disposition, LogicalUnit, LuConfig, NexusId, Sense, SenseKey, Status, TransportId, fuzz,
    transfer,
};
use kagami_types::{BlockOp, BlockSize};
use std::sync::Arc;

pub const BLOCKS: u64 = 10_000;

pub struct Rig {
    pub unit: LogicalUnit,
    pub out: Vec<u8>,
}

pub fn id(nexus: u32) -> Arc<TransportId> {
    let isid = [0x80, 0, 0, 0, 0, u8::try_from(nexus).unwrap()];
    Arc::new(TransportId::new(&format!("iqn.2026-11.test:host{nexus}"), isid).unwrap())
}

pub fn cdb(bytes: &[u8]) -> Cdb {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

/// A ten-byte CDB.
pub fn ten(opcode: u8, flags: u8, lba: u32, blocks: u16) -> Cdb {
    let mut cdb = cdb(&[opcode, flags]);
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// A sixteen-byte CDB.
pub fn sixteen(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Cdb {
    let mut cdb = cdb(&[opcode, flags]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// COMPARE AND WRITE.
pub fn compare_and_write(lba: u64, blocks: u8) -> Cdb {
    let mut cdb = sixteen(0x89, 0, lba, 0);
    cdb[13] = blocks;
    cdb
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut LuConfig)) -> Self {
        Self::of(BlockSize::B512, change)
    }

    pub fn of(block_size: BlockSize, change: impl FnOnce(&mut LuConfig)) -> Self {
        let mut config = fuzz::config(block_size, BLOCKS);
        change(&mut config);
        let mut rig = Self { unit: LogicalUnit::new(config).unwrap(), out: Vec::new() };
        for nexus in 0..4 {
            rig.unit.attach(NexusId(nexus), id(nexus), 1).unwrap();
            rig.clear(nexus);
        }
        rig
    }

    /// Takes all unit attentions of a nexus and returns their ASC and ASCQ.
    pub fn clear(&mut self, nexus: u32) -> Vec<(u8, u8)> {
        let mut taken = Vec::new();
        loop {
            let answer = self.run(nexus, &[0x03, 0, 0, 0, 0xff]);
            assert_eq!(answer, Disposition::DataIn);
            if self.out[2] & 0x0f != SenseKey::UnitAttention as u8 {
                return taken;
            }
            taken.push((self.out[12], self.out[13]));
        }
    }

    /// Runs a command with as much block data as it calls for.
    pub fn run(&mut self, nexus: u32, bytes: &[u8]) -> Disposition {
        let cdb = cdb(bytes);
        let offered = transfer(&cdb, self.unit.block_size()).bytes;
        self.unit.execute(NexusId(nexus), &cdb, DataOut::blocks(offered), &mut self.out)
    }

    /// Runs a command with that much block data.
    pub fn run_short(&mut self, nexus: u32, cdb: &Cdb, offered: u64) -> Disposition {
        self.unit.execute(NexusId(nexus), cdb, DataOut::blocks(offered), &mut self.out)
    }

    /// Runs a command with a parameter list.
    pub fn send(&mut self, nexus: u32, bytes: &[u8], list: &[u8]) -> Disposition {
        self.unit.execute(NexusId(nexus), &cdb(bytes), DataOut::parameters(list), &mut self.out)
    }

    /// Runs a command that returns parameter data.
    pub fn data(&mut self, nexus: u32, bytes: &[u8]) -> Vec<u8> {
        assert_eq!(self.run(nexus, bytes), Disposition::DataIn);
        self.out.clone()
    }

    pub fn inquiry(&mut self, page: Option<u8>) -> Vec<u8> {
        self.data(0, &[0x12, u8::from(page.is_some()), page.unwrap_or(0), 0x01, 0])
    }
}

/// Key, ASC and ASCQ of a CHECK CONDITION.
#[track_caller]
pub fn sense(disposition: Disposition) -> (u8, u8, u8) {
    let Disposition::Check(sense) = disposition else { panic!("{disposition:?} is not CHECK CONDITION") };
    parts(&sense)
}

pub fn parts(sense: &Sense) -> (u8, u8, u8) {
    let (asc, ascq) = sense.asc_ascq();
    (sense.key() as u8, asc, ascq)
}

#[track_caller]
pub fn block(disposition: Disposition) -> BlockOp {
    let Disposition::Block(op) = disposition else { panic!("{disposition:?} is no block operation") };
    op
}

pub const CONFLICT: Disposition = Disposition::Status(Status::ReservationConflict);
pub const INVALID_FIELD: (u8, u8, u8) = (5, 0x24, 0);
pub const INVALID_LIST: (u8, u8, u8) = (5, 0x26, 0);
pub const LIST_LENGTH: (u8, u8, u8) = (5, 0x1a, 0);
pub const INVALID_OPCODE: (u8, u8, u8) = (5, 0x20, 0);
pub const OUT_OF_RANGE: (u8, u8, u8) = (5, 0x21, 0);
pub const SHORT_DATA: (u8, u8, u8) = (5, 0x0e, 3);
pub const PROTECTED: (u8, u8, u8) = (7, 0x27, 0);
pub const STOPPED: (u8, u8, u8) = (2, 0x04, 2);
