//! What a host does next: random commands with random sizes, as CDBs and data.

use super::plan::LunPlan;
use super::task::Work;
use crate::checker::{Units, WriteId};
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
    /// What it was made from, where it can be made again.
    pub(super) wish: Option<Wish>,
    /// What is worth counting about it.
    pub(super) notes: Vec<Happening>,
}

impl Order {
    pub(super) fn new(cdb: [u8; 16], work: Work) -> Self {
        Self { cdb, work, out: Vec::new(), asked: 0, expected: 0, wish: None, notes: Vec::new() }
    }

    /// With data to be sent.
    pub(super) fn sending(self, out: Vec<u8>) -> Self {
        Self { expected: narrow(out.len() as u64), out, ..self }
    }

    /// With room for what comes back.
    pub(super) fn asking(self, bytes: u32) -> Self {
        Self { asked: bytes, expected: bytes, ..self }
    }
}

/// What a command does with blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    WriteVerify,
    Verify,
    Flush,
    Unmap,
    Zeroes,
    Pattern,
    Compare,
    Prefetch,
    /// TEST UNIT READY, which is about no blocks.
    Ready,
}

/// A command on blocks that is wanted. Made again, it has other flags and other data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) kind: Kind,
    pub(super) lba: u64,
    pub(super) blocks: u64,
}

const FUA: u8 = 0x08;
const DPO: u8 = 0x10;

/// A CDB with LBA and length, of one of the operation codes: of 6, 10, 12 and 16 bytes, 0 for none.
fn ranged(rng: &mut Rng, codes: [u8; 4], flags: u8, lba: u64, blocks: u64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[1] = flags;
    let [six, ten, twelve, sixteen] = codes;
    let form = rng.below(16);
    let (low, length) = (u32::try_from(lba), u32::try_from(blocks));
    match (low, length, u16::try_from(blocks), u8::try_from(blocks)) {
        (Ok(lba), _, _, Ok(blocks)) if six != 0 && form == 0 && flags == 0 && blocks > 0 && lba < 1 << 21 => {
            cdb[..4].copy_from_slice(&lba.to_be_bytes());
            (cdb[0], cdb[4]) = (six, blocks);
        }
        (Ok(lba), Ok(blocks), ..) if twelve != 0 && form == 1 => {
            cdb[0] = twelve;
            cdb[2..6].copy_from_slice(&lba.to_be_bytes());
            cdb[6..10].copy_from_slice(&blocks.to_be_bytes());
        }
        (Ok(lba), _, Ok(blocks), _) if ten != 0 && form < 9 => {
            cdb[0] = ten;
            cdb[2..6].copy_from_slice(&lba.to_be_bytes());
            cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
        }
        _ => {
            cdb[0] = sixteen;
            cdb[2..10].copy_from_slice(&lba.to_be_bytes());
            cdb[10..14].copy_from_slice(&narrow(blocks).to_be_bytes());
        }
    }
    cdb
}

pub(super) fn narrow(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl LunPlan {
    pub(super) fn units(&self, lba: u64, blocks: u64) -> Units {
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
        let lba = match rng.below(4) {
            0 | 1 => rng.below(span.min(64)),
            2 => rng.below(span.min(4)),
            _ => rng.below(span),
        };
        (lba, blocks)
    }

    fn content(&self, units: Units, write: WriteId, out: &mut Vec<u8>) {
        let size = self.checker.unit();
        for unit in units.first..units.first + units.count {
            let begin = out.len();
            out.resize(begin + size, 0);
            if let Some(place) = out.get_mut(begin..) {
                self.checker.content(unit, write, place);
            }
        }
    }

    /// Makes the command that is wanted. `None`: nothing is known that it could be compared with.
    pub(super) fn order(&self, rng: &mut Rng, wish: Wish) -> Option<Order> {
        let Wish { kind, lba, blocks } = wish;
        let units = self.units(lba, blocks);
        let mut notes = Vec::new();
        if !matches!(kind, Kind::Read | Kind::Verify | Kind::Prefetch | Kind::Ready) {
            let (host, disk) = (self.checker.is_written_now(units), self.checker.is_on_its_way(units));
            match kind {
                Kind::Flush if host => notes.push(Happening::FlushBesideWrites),
                Kind::Flush => {}
                _ => {
                    notes.extend(host.then_some(Happening::OverlappingWrites));
                    notes.extend(disk.then_some(Happening::OverwriteOnDevice));
                    notes.extend((disk && self.cached).then_some(Happening::OverwriteDestage));
                }
            }
        }
        let order = match kind {
            Kind::Read => self.read(rng, lba, blocks),
            Kind::Write => self.write(rng, lba, blocks),
            Kind::WriteVerify => self.write_verify(rng, lba, blocks),
            Kind::Verify => self.verify(rng, lba, blocks)?,
            Kind::Flush => self.flush(rng, lba, blocks),
            Kind::Unmap => self.unmap(rng, lba, blocks),
            Kind::Zeroes => self.zeroes(rng, lba, blocks),
            Kind::Pattern => self.pattern(rng, lba, blocks),
            Kind::Compare => self.compare_and_write(rng, lba, blocks)?,
            Kind::Prefetch => {
                let cdb = ranged(rng, [0, 0x34, 0, 0x90], 0, lba, blocks);
                Order::new(cdb, Work::Other)
            }
            Kind::Ready => Order::new([0; 16], Work::Other),
        };
        notes.extend(order.notes.iter().copied());
        Some(Order { wish: Some(wish), notes, ..order })
    }

    /// A READ of that run.
    pub(super) fn read(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Order {
        let fua = rng.one_in(8);
        let mut notes = Vec::new();
        let mut flags = if fua { FUA } else { 0 };
        if rng.one_in(8) {
            flags |= DPO;
            notes.push(Happening::Dpo);
        }
        let asked = narrow(self.bytes(blocks) as u64);
        // Now and then there is room for less, or more, than the CDB asks for.
        let expected = match rng.below(40) {
            0 => asked - narrow(rng.below(u64::from(asked))),
            1 => asked + narrow(rng.between(1, 10_000)),
            _ => asked,
        };
        let cdb = ranged(rng, [0x08, 0x28, 0xa8, 0x88], flags, lba, blocks);
        let flush = fua.then(|| self.checker.begin_flush());
        let work = Work::Read(self.checker.begin_read(), self.units(lba, blocks), flush);
        Order { asked, expected, notes, ..Order::new(cdb, work) }
    }

    fn write(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Order {
        let fua = rng.one_in(4);
        let mut notes = Vec::new();
        let mut flags = if fua { FUA } else { 0 };
        if rng.one_in(8) {
            flags |= DPO;
            notes.push(Happening::Dpo);
        }
        let units = self.units(lba, blocks);
        let write = self.checker.begin_write(&[units], false);
        let mut out = Vec::new();
        self.content(units, write.id, &mut out);
        let cdb = ranged(rng, [0x0a, 0x2a, 0xaa, 0x8a], flags, lba, blocks);
        let what = if fua { Happening::FuaAcked } else { Happening::WriteAcked };
        Order { notes, ..Order::new(cdb, Work::Write { write, stable: fua, what }).sending(out) }
    }

    fn write_verify(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Order {
        let units = self.units(lba, blocks);
        let write = self.checker.begin_exclusive(units);
        let mut out = Vec::new();
        self.content(units, write.id, &mut out);
        let compare = if rng.one_in(2) { 0x02 } else { 0 };
        let cdb = ranged(rng, [0, 0x2e, 0xae, 0x8e], compare, lba, blocks);
        let work = Work::Write { write, stable: true, what: Happening::WriteVerified };
        Order::new(cdb, work).sending(out)
    }

    /// VERIFY, with nothing, with all data, or with one block of data.
    fn verify(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Option<Order> {
        let codes = [0, 0x2f, 0xaf, 0x8f];
        if rng.one_in(4) {
            return Some(Order::new(ranged(rng, codes, 0, lba, blocks), Work::Other));
        }
        let blocks = if rng.one_in(4) { 1 } else { blocks };
        let units = self.units(lba, blocks);
        let mut out = self.checker.certain(units)?;
        self.spoil(rng, &mut out);
        let flags = if blocks == 1 && rng.one_in(2) { 0x06 } else { 0x02 };
        let work = Work::Verify(self.checker.begin_read(), units);
        Some(Order::new(ranged(rng, codes, flags, lba, blocks), work).sending(out))
    }

    /// Now and then another bit than expected.
    fn spoil(&self, rng: &mut Rng, bytes: &mut [u8]) {
        if rng.one_in(6) {
            let at = rng.index(bytes.len());
            bytes.get_mut(at..).into_iter().flatten().take(1).for_each(|byte| *byte ^= 1);
        }
    }

    /// SYNCHRONIZE CACHE of that run; 0 blocks: to the end.
    fn flush(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Order {
        // IMMED: an answer that promises nothing.
        let immediate = rng.one_in(8);
        let flags = if immediate { 0x02 } else { 0 };
        let cdb = ranged(rng, [0, 0x35, 0, 0x91], flags, lba, blocks);
        if immediate {
            return Order::new(cdb, Work::Other);
        }
        let count = if blocks == 0 { self.blocks - lba } else { blocks };
        let what = if lba == 0 && blocks == 0 { Happening::FlushAcked } else { Happening::RangedFlush };
        Order::new(cdb, Work::Flush(self.checker.begin_flush(), self.units(lba, count), what))
    }

    /// SYNCHRONIZE CACHE of everything, and wait for it.
    pub(super) fn flush_all(&self, rng: &mut Rng) -> Order {
        let cdb = ranged(rng, [0, 0x35, 0, 0x91], 0, 0, 0);
        let units = Units { first: 0, count: self.checker.units() };
        Order::new(cdb, Work::Flush(self.checker.begin_flush(), units, Happening::FlushAcked))
    }

    fn unmap(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Order {
        let mut runs = vec![(lba, blocks)];
        runs.extend((0..rng.below(3)).map(|_| self.run(rng, 64)));
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
        let work = Work::Zero(self.checker.begin_write(&units, true), Happening::UnmapAcked);
        Order::new(cdb, work).sending(out)
    }

    /// WRITE SAME of zeroes.
    fn zeroes(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Order {
        let unmap = if rng.one_in(2) { 0x08 } else { 0 };
        // NDOB: no data at all, else one block of zeroes.
        let no_data = rng.one_in(2);
        let flags = unmap | u8::from(no_data);
        let cdb = ranged(rng, [0, 0, 0, 0x93], flags, lba, blocks);
        let out = vec![0; if no_data { 0 } else { self.block }];
        let write = self.checker.begin_write(&[self.units(lba, blocks)], true);
        Order::new(cdb, Work::Zero(write, Happening::WriteSameAcked)).sending(out)
    }

    /// WRITE SAME of some block.
    fn pattern(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Order {
        let per = self.units_per_block();
        let units = self.units(lba, blocks);
        let write = self.checker.begin_repeated(units, per);
        let mut out = Vec::new();
        self.content(Units { first: units.first, count: per }, write.id, &mut out);
        let cdb = ranged(rng, [0, 0x41, 0, 0x93], 0, lba, blocks);
        let work = Work::Write { write, stable: false, what: Happening::PatternAcked };
        Order::new(cdb, work).sending(out)
    }

    fn compare_and_write(&self, rng: &mut Rng, lba: u64, blocks: u64) -> Option<Order> {
        let units = self.units(lba, blocks);
        let mut out = match self.checker.certain(units) {
            Some(bytes) => bytes,
            None if rng.one_in(4) => vec![0; self.bytes(blocks)],
            None => return None,
        };
        self.spoil(rng, &mut out);
        let write = self.checker.begin_compare(units);
        self.content(units, write.id, &mut out);
        let mut cdb = [0; 16];
        cdb[0] = 0x89;
        cdb[1] = if rng.one_in(4) { FUA } else { 0 };
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[13] = u8::try_from(blocks).unwrap_or(1);
        Some(Order::new(cdb, Work::Compare(write, units)).sending(out))
    }

    fn query(rng: &mut Rng) -> Order {
        let mut cdb = [0; 16];
        match rng.below(5) {
            0 => Order::new(cdb, Work::Other),
            1 => {
                (cdb[0], cdb[4]) = (0x12, 36);
                Order::new(cdb, Work::Other).asking(36)
            }
            2 => {
                // GET LBA STATUS.
                (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x12, 24);
                Order::new(cdb, Work::Other).asking(24)
            }
            3 => {
                // REPORT LUNS.
                (cdb[0], cdb[9]) = (0xa0, 64);
                Order::new(cdb, Work::Other).asking(64)
            }
            _ => {
                (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
                Order::new(cdb, Work::Capacity).asking(32)
            }
        }
    }

    /// Something at random.
    pub(super) fn anything(&self, rng: &mut Rng) -> Order {
        let (kind, longest) = match rng.below(100) {
            0..36 => (Kind::Read, self.longest),
            36..68 => (Kind::Write, self.longest),
            68..71 => (Kind::WriteVerify, self.longest),
            71..75 => (Kind::Verify, 8),
            75..82 => (Kind::Flush, self.blocks),
            82..85 => (Kind::Unmap, 64),
            85..87 => (Kind::Zeroes, self.longest),
            87..89 => (Kind::Pattern, self.longest),
            89..96 if self.compare > 0 => (Kind::Compare, self.compare),
            96 => (Kind::Prefetch, self.blocks),
            _ => return Self::query(rng),
        };
        let (lba, blocks) = match kind {
            Kind::Flush if rng.one_in(2) => (0, 0),
            Kind::Flush if rng.one_in(4) => (rng.below(self.blocks), 0),
            _ => self.run(rng, longest),
        };
        let order = self.order(rng, Wish { kind, lba, blocks });
        order.unwrap_or_else(|| self.write(rng, lba, blocks.min(self.longest)))
    }
}
