//! A journal's device: what was not made stable may be lost, torn or kept at a crash, each sector for itself.

use super::rng::Rng;
use std::collections::HashMap;

const BLOCK: usize = 4096;
const SECTOR: usize = 512;

/// Bytes of a block, in one of its versions.
type Block = Box<[u8; BLOCK]>;

/// A device.
#[derive(Debug)]
pub struct Device {
    /// What survives.
    durable: HashMap<u64, Block>,
    /// What was written since, oldest first.
    pending: HashMap<u64, Vec<(u64, Block)>>,
    version: u64,
    bytes: u64,
    /// Says that it has made stable what it has not.
    pub lies: bool,
    /// Bytes of the bitmaps, from and to, where only the first write of each set is done.
    pub drops: Option<(u64, u64)>,
    /// Operations fail.
    pub broken: bool,
}

impl Device {
    pub fn new(bytes: u64) -> Self {
        Self {
            durable: HashMap::new(),
            pending: HashMap::new(),
            version: 0,
            bytes,
            lies: false,
            drops: None,
            broken: false,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn visible(&self, block: u64) -> Option<&Block> {
        let last = self.pending.get(&block).and_then(|all| all.last()).map(|(_, bytes)| bytes);
        last.or_else(|| self.durable.get(&block))
    }

    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        assert!(
            at.is_multiple_of(4096) && len.is_multiple_of(BLOCK) && at + len as u64 <= self.bytes,
            "read {len} at {at}"
        );
        let mut bytes = vec![0; len];
        for (index, chunk) in bytes.chunks_mut(BLOCK).enumerate() {
            if let Some(found) = self.visible(at / 4096 + index as u64) {
                chunk.copy_from_slice(&found[..]);
            }
        }
        bytes
    }

    /// What a crash could not take.
    pub fn durable(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (index, chunk) in bytes.chunks_mut(BLOCK).enumerate() {
            if let Some(found) = self.durable.get(&(at / 4096 + index as u64)) {
                chunk.copy_from_slice(&found[..]);
            }
        }
        bytes
    }

    pub fn write(&mut self, at: u64, bytes: &[u8], stable: bool) {
        let len = bytes.len();
        assert!(
            at.is_multiple_of(4096) && len.is_multiple_of(BLOCK) && at + len as u64 <= self.bytes,
            "write {len} at {at}"
        );
        for (index, chunk) in bytes.chunks(BLOCK).enumerate() {
            let number = at / 4096 + index as u64;
            let old = self.drops.filter(|(from, to)| (*from..*to).contains(&(number * 4096)));
            // A set that begins is written; what comes into it later is not.
            let set = |block: &[u8]| block[24..32].to_vec();
            if old.and_then(|_| self.visible(number)).is_some_and(|block| set(&block[..]) == set(chunk)) {
                continue;
            }
            let block: Block = Box::new(chunk.try_into().expect("a block"));
            self.version += 1;
            if stable && !self.lies {
                self.pending.remove(&number);
                self.durable.insert(number, block);
            } else {
                self.pending.entry(number).or_default().push((self.version, block));
            }
        }
    }

    /// The number of what was written last: a flush that begins now is about all up to it.
    pub fn mark(&self) -> u64 {
        self.version
    }

    /// A flush has ended that began at that mark.
    pub fn flushed(&mut self, mark: u64) {
        if self.lies {
            return;
        }
        let durable = &mut self.durable;
        self.pending.retain(|block, versions| {
            while versions.first().is_some_and(|(version, _)| *version <= mark) {
                durable.insert(*block, versions.remove(0).1);
            }
            !versions.is_empty()
        });
    }

    /// Bits there are not what they were, stable or not.
    pub fn rot(&mut self, at: u64, bits: u8) {
        let (block, byte) = (at / 4096, (at % 4096) as usize);
        let versions = self.pending.get_mut(&block).into_iter().flatten().map(|(_, bytes)| bytes);
        for bytes in versions.chain(self.durable.get_mut(&block)) {
            bytes[byte] ^= bits;
        }
    }

    /// A write that was under way when it crashed.
    pub fn torn_write(&mut self, rng: &mut Rng, at: u64, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(BLOCK).enumerate() {
            if rng.percent(60) {
                let block: Block = Box::new(chunk.try_into().expect("a block"));
                self.version += 1;
                self.pending.entry(at / 4096 + index as u64).or_default().push((self.version, block));
            }
        }
    }

    /// What is not stable is lost, kept, or half of each.
    pub fn crash(&mut self, rng: &mut Rng) {
        let mut blocks: Vec<u64> = self.pending.keys().copied().collect();
        blocks.sort_unstable();
        for block in blocks {
            let versions = self.pending.remove(&block).expect("just seen");
            let old = self.durable.remove(&block).unwrap_or_else(|| Box::new([0; BLOCK]));
            let mut now = old.clone();
            match rng.below(4) {
                0 => {}
                1 | 2 => now = versions[rng.index(versions.len())].1.clone(),
                _ => {
                    for sector in 0..BLOCK / SECTOR {
                        let which = rng.index(versions.len() + 1);
                        let from = if which == 0 { &old } else { &versions[which - 1].1 };
                        let span = sector * SECTOR..(sector + 1) * SECTOR;
                        now[span.clone()].copy_from_slice(&from[span]);
                    }
                }
            }
            self.durable.insert(block, now);
        }
    }
}
