//! What a host does next: random commands with random sizes, as CDBs and data.

use super::plan::LunPlan;
use super::task::Work;
use crate::checker::Units;
use crate::coverage::Happening;
use crate::rng::Rng;

/// A command to be sent.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) cdb: [u8; 16],
    pub(super) work: Work,
    pub(super) out: Vec<u8>,
    /// Bytes that come back, by the CDB.
    pub(super) asked: u32,
    /// Bytes that there is room for.
    pub(super) expected: u32,
}

const FUA: u8 = 0x08;

/// A 10- or 16-byte CDB with LBA and length; the opcode is that of the 16-byte one.
fn ranged(rng: &mut Rng, short: u8, long: u8, flags: u8, lba: u64, blocks: u64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[1] = flags;
    match (u32::try_from(lba), u16::try_from(blocks), short != 0 && rng.one_in(2)) {
        (Ok(lba), Ok(blocks), true) => {
            cdb[0] = short;
            cdb[2..6].copy_from_slice(&lba.to_be_bytes());
            cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
        }
        _ => {
            cdb[0] = long;
            cdb[2..10].copy_from_slice(&lba.to_be_bytes());
            cdb[10..14].copy_from_slice(&u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    cdb
}

fn narrow(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl LunPlan {
    fn units(&self, lba: u64, blocks: u64) -> Units {
        let per = self.units_per_block();
        Units { first: lba * per, count: blocks * per }
    }

    fn bytes(&self, blocks: u64) -> usize {
        usize::try_from(blocks).unwrap_or(0) * self.block
    }

    /// A random run of blocks, mostly short.
    fn run(&self, rng: &mut Rng, longest: u64) -> (u64, u64) {
        let blocks = rng.skewed(1, longest.clamp(1, self.blocks));
        // Some places are hotter than others, or hosts would hardly ever meet.
        let span = self.blocks - blocks + 1;
        let lba = if rng.one_in(2) { rng.below(span.min(64)) } else { rng.below(span) };
        (lba, blocks)
    }

    fn content(&self, units: Units, write: crate::checker::WriteId, out: &mut Vec<u8>) {
        let size = self.checker.unit();
        for unit in units.first..units.first + units.count {
            let begin = out.len();
            out.resize(begin + size, 0);
            if let Some(place) = out.get_mut(begin..) {
                self.checker.content(unit, write, place);
            }
        }
    }

    /// A READ of that run.
    pub(super) fn read(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Order {
        let flags = if rng.one_in(8) { FUA } else { 0 };
        let asked = narrow(self.bytes(blocks) as u64);
        // Now and then there is room for less, or more, than the CDB asks for.
        let expected = match rng.below(40) {
            0 => asked - narrow(rng.below(u64::from(asked))),
            1 => asked + narrow(rng.between(1, 10_000)),
            _ => asked,
        };
        Order {
            cdb: ranged(rng, 0x28, 0x88, flags, lba, blocks),
            work: Work::Read(self.checker.begin_read(), self.units(lba, blocks)),
            out: Vec::new(),
            asked,
            expected,
        }
    }

    fn write(&self, rng: &mut Rng) -> Order {
        let (lba, blocks) = self.run(rng, self.longest);
        let fua = rng.one_in(4);
        let units = self.units(lba, blocks);
        let write = self.checker.begin_write(&[units], false);
        let mut out = Vec::new();
        self.content(units, write.id, &mut out);
        let cdb = ranged(rng, 0x2a, 0x8a, if fua { FUA } else { 0 }, lba, blocks);
        let expected = narrow(out.len() as u64);
        Order { cdb, work: Work::Write(write, fua), out, asked: 0, expected }
    }

    /// SYNCHRONIZE CACHE of everything.
    pub(super) fn flush(&self, rng: &mut Rng) -> Order {
        let cdb = ranged(rng, 0x35, 0x91, 0, 0, 0);
        let work = Work::Flush(self.checker.begin_flush());
        Order { cdb, work, out: Vec::new(), asked: 0, expected: 0 }
    }

    fn unmap(&self, rng: &mut Rng) -> Order {
        let runs: Vec<(u64, u64)> = (0..rng.between(1, 3)).map(|_| self.run(rng, 64)).collect();
        let units: Vec<Units> = runs.iter().map(|(lba, blocks)| self.units(*lba, *blocks)).collect();
        let descriptors = u16::try_from(runs.len() * 16).unwrap_or(0);
        let mut out = Vec::new();
        out.extend_from_slice(&(descriptors + 6).to_be_bytes());
        out.extend_from_slice(&descriptors.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        for (lba, blocks) in runs {
            out.extend_from_slice(&lba.to_be_bytes());
            out.extend_from_slice(&narrow(blocks).to_be_bytes());
            out.extend_from_slice(&[0; 4]);
        }
        let mut cdb = [0; 16];
        cdb[0] = 0x42;
        cdb[7..9].copy_from_slice(&(descriptors + 8).to_be_bytes());
        let expected = narrow(out.len() as u64);
        let work = Work::Zero(self.checker.begin_write(&units, true), Happening::UnmapAcked);
        Order { cdb, work, out, asked: 0, expected }
    }

    fn write_same(&self, rng: &mut Rng) -> Order {
        let (lba, blocks) = self.run(rng, self.longest);
        let unmap = if rng.one_in(2) { 0x08 } else { 0 };
        // NDOB: no data at all, else one block of zeroes.
        let no_data = rng.one_in(2);
        let flags = unmap | u8::from(no_data);
        let cdb = ranged(rng, 0, 0x93, flags, lba, blocks);
        let out = vec![0; if no_data { 0 } else { self.block }];
        let expected = narrow(out.len() as u64);
        let write = self.checker.begin_write(&[self.units(lba, blocks)], true);
        Order { cdb, work: Work::Zero(write, Happening::WriteSameAcked), out, asked: 0, expected }
    }

    fn compare_and_write(&self, rng: &mut Rng) -> Option<Order> {
        let (lba, blocks) = self.run(rng, self.compare);
        let units = self.units(lba, blocks);
        let mut out = match self.checker.certain(units) {
            Some(bytes) => bytes,
            None if rng.one_in(4) => vec![0; self.bytes(blocks)],
            None => return None,
        };
        if rng.one_in(6) {
            let at = rng.index(out.len());
            out.get_mut(at..).into_iter().flatten().take(1).for_each(|byte| *byte ^= 1);
        }
        let write = self.checker.begin_compare(units);
        self.content(units, write.id, &mut out);
        let mut cdb = [0; 16];
        cdb[0] = 0x89;
        cdb[1] = if rng.one_in(4) { FUA } else { 0 };
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[13] = u8::try_from(blocks).unwrap_or(1);
        let expected = narrow(out.len() as u64);
        Some(Order { cdb, work: Work::Compare(write, units), out, asked: 0, expected })
    }

    fn query(rng: &mut Rng) -> Order {
        let mut cdb = [0; 16];
        let (work, asked) = match rng.below(3) {
            0 => (Work::Other, 0),
            1 => {
                cdb[0] = 0x12;
                cdb[4] = 36;
                (Work::Other, 36)
            }
            _ => {
                (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
                (Work::Capacity, 32)
            }
        };
        Order { cdb, work, out: Vec::new(), asked, expected: asked }
    }

    /// Something at random.
    pub(super) fn anything(&self, rng: &mut Rng) -> Order {
        let order = match rng.below(100) {
            0..40 => {
                let (lba, blocks) = self.run(rng, self.longest);
                Some(self.read(rng, lba, blocks))
            }
            40..74 => Some(self.write(rng)),
            74..81 => Some(self.flush(rng)),
            81..84 => Some(self.unmap(rng)),
            84..87 => Some(self.write_same(rng)),
            87..96 if self.compare > 0 => self.compare_and_write(rng),
            _ => Some(Self::query(rng)),
        };
        order.unwrap_or_else(|| self.write(rng))
    }
}
