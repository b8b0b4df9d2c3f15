//! What the tests of this crate share: pages, random numbers, a device that loses what was not flushed.

use crate::frame::{EntryHead, EntryKind};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_types::{Sequence, Uuid};
use std::sync::OnceLock;

pub const GROUP: Uuid = Uuid::from_u128(0x6b61_6761_6d69);

/// Pages for every test.
pub fn pool() -> Pool {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    let plan = ArenaPlan::new(1).with(Class::Page, 32 << 10, 0);
    ARENA.get_or_init(|| Arena::new(plan, HugePages::Off).unwrap()).pool(0)
}

/// Bytes in pages.
pub fn scatter(bytes: &[u8]) -> Scatter {
    let mut list = ScatterMut::take(&pool(), Purpose::Internal, bytes.len()).unwrap();
    assert_eq!(list.copy_from(0, bytes), bytes.len());
    list.freeze()
}

/// A small generator: the same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let seed = self.next();
        let mut bytes = vec![0; len];
        for (at, chunk) in (0u64..).zip(bytes.chunks_mut(8)) {
            chunk.copy_from_slice(&(seed ^ at << 48 ^ at).to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// Any entry that a front could send, with its data.
pub fn any_entry(random: &mut Random, sequence: u64, most: u64) -> (EntryHead, Vec<u8>) {
    let sequence = Sequence(sequence);
    let time = 1_000_000 + sequence.0;
    let volume = u8::try_from(random.below(3)).unwrap();
    let shift: u8 = if random.chance(50) { 9 } else { 12 };
    let lba = random.below(1 << 16);
    let make = |kind, blocks, data_len| EntryHead {
        volume,
        shift,
        lba,
        blocks,
        ..EntryHead::plain(sequence, time, kind, data_len)
    };
    match random.below(12) {
        0 => (EntryHead::plain(sequence, time, EntryKind::Nothing, 0), Vec::new()),
        1 => (make(EntryKind::Zero { unmap: random.chance(50) }, 1 + random.below(1 << 20), 0), Vec::new()),
        2 => {
            let len = 1u32 << shift;
            (make(EntryKind::Same, 1 + random.below(1 << 20), len), random.bytes(len as usize))
        }
        3 => {
            let len = random.below(64);
            let head = EntryHead::plain(sequence, time, EntryKind::Marker, u32::try_from(len).unwrap());
            (head, random.bytes(usize::try_from(len).unwrap()))
        }
        _ => {
            let blocks = 1 + random.below((most >> shift).max(1));
            let len = blocks << shift;
            let head = make(EntryKind::Write, blocks, u32::try_from(len).unwrap());
            (head, random.bytes(usize::try_from(len).unwrap()))
        }
    }
}

/// A device whose writes are durable when they are flushed, and until then in any part.
#[derive(Clone, Debug)]
pub struct Device {
    /// What a read gives.
    pub seen: Vec<u8>,
    /// What a crash leaves at least.
    durable: Vec<u8>,
    /// Blocks of 4 KiB of which `seen` is not durable.
    dirty: Vec<bool>,
}

impl Device {
    pub fn new(bytes: u64) -> Self {
        let len = usize::try_from(bytes).unwrap();
        Self { seen: vec![0; len], durable: vec![0; len], dirty: vec![false; len / 4096] }
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        self.seen[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty[at / 4096..(at + bytes.len()).div_ceil(4096)].fill(true);
    }

    pub fn write_stable(&mut self, at: u64, bytes: &[u8]) {
        self.write(at, bytes);
        let at = usize::try_from(at).unwrap();
        self.durable[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty[at / 4096..(at + bytes.len()).div_ceil(4096)].fill(false);
    }

    pub fn flush(&mut self) {
        self.durable.copy_from_slice(&self.seen);
        self.dirty.fill(false);
    }

    pub fn read(&self, at: u64, len: u32) -> Scatter {
        let at = usize::try_from(at).unwrap();
        scatter(&self.seen[at..at + len as usize])
    }

    /// The process dies: everything stays. The power fails: of each block that was not flushed any part stays.
    pub fn crash(&mut self, random: &mut Random, power: bool) {
        if !power {
            return;
        }
        for block in 0..self.dirty.len() {
            if !std::mem::take(&mut self.dirty[block]) {
                continue;
            }
            let range = block * 4096..block * 4096 + 4096;
            match random.below(8) {
                0..3 => self.durable[range.clone()].copy_from_slice(&self.seen[range.clone()]),
                3 => {
                    let sectors = range.clone().step_by(512).filter(|_| random.chance(50));
                    for at in sectors.collect::<Vec<_>>() {
                        self.durable[at..at + 512].copy_from_slice(&self.seen[at..at + 512]);
                    }
                }
                _ => {}
            }
            self.seen[range.clone()].copy_from_slice(&self.durable[range]);
        }
    }
}
