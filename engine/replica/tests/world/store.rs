//! A volume's store: a write-back cache over a disk. A block is one number here, a stamp; zero is never written.

use super::rng::Rng;
use kagami_types::{BlockOp, Lba, LbaStatus};

/// The stamps of a volume's blocks.
pub type Image = Vec<u64>;

/// A store.
#[derive(Debug)]
pub struct Store {
    /// What a read finds.
    pub visible: Image,
    durable: Image,
    allocated: Vec<bool>,
    /// Block, stamp and version of what may be lost.
    dirty: Vec<(usize, u64, u64)>,
    version: u64,
    pub block_bytes: usize,
}

/// What an operation changes.
pub type Changes = Vec<(usize, u64)>;

/// The stamp of each block of data.
pub fn stamps(bytes: &[u8], block: usize) -> Vec<u64> {
    bytes
        .chunks(block)
        .map(|chunk| {
            let word = |at: usize| u64::from_le_bytes(chunk[at..at + 8].try_into().expect("eight bytes"));
            assert_eq!(word(0), word(block - 8), "a block of two writes");
            word(0)
        })
        .collect()
}

/// Data with those stamps.
pub fn bytes_of(stamps: &[u64], block: usize) -> Vec<u8> {
    let mut bytes = vec![0; stamps.len() * block];
    for (stamp, chunk) in stamps.iter().zip(bytes.chunks_mut(block)) {
        chunk[..8].copy_from_slice(&stamp.to_le_bytes());
        chunk[block - 8..].copy_from_slice(&stamp.to_le_bytes());
    }
    bytes
}

impl Store {
    pub fn new(image: Image, block_bytes: usize) -> Self {
        let allocated = image.iter().map(|stamp| *stamp != 0).collect();
        Self { durable: image.clone(), visible: image, allocated, dirty: Vec::new(), version: 0, block_bytes }
    }

    /// What that writing operation changes; a COMPARE AND WRITE without having compared.
    pub fn changes(&self, op: &BlockOp, data: &[u8]) -> Changes {
        let block = self.block_bytes;
        let spread = |lba: u64, stamps: Vec<u64>| -> Changes {
            stamps.into_iter().enumerate().map(|(at, stamp)| (lba as usize + at, stamp)).collect()
        };
        match op {
            BlockOp::Write(range, _) | BlockOp::WriteVerify { range, .. } => {
                spread(range.lba.0, stamps(data, block))
            }
            BlockOp::CompareAndWrite(range, _) => spread(range.lba.0, stamps(&data[data.len() / 2..], block)),
            BlockOp::WriteSame { lba, blocks, zeroes, .. } => {
                let stamp = if *zeroes { 0 } else { stamps(data, block)[0] };
                spread(lba.0, vec![stamp; blocks.0 as usize])
            }
            BlockOp::Unmap(ranges) => {
                ranges.iter().flat_map(|range| spread(range.lba.0, vec![0; range.blocks as usize])).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A writing operation is done.
    pub fn apply(&mut self, op: &BlockOp, changes: &Changes) {
        let unmaps = matches!(op, BlockOp::Unmap(_) | BlockOp::WriteSame { unmap: true, .. });
        let stable = match op {
            BlockOp::Write(_, access) | BlockOp::CompareAndWrite(_, access) => access.fua,
            BlockOp::WriteVerify { .. } => true,
            _ => false,
        };
        for &(block, stamp) in changes {
            self.version += 1;
            self.visible[block] = stamp;
            self.allocated[block] = !(unmaps && stamp == 0);
            if stable {
                self.durable[block] = stamp;
                self.dirty.retain(|dirty| dirty.0 != block);
            } else {
                self.dirty.push((block, stamp, self.version));
            }
        }
    }

    /// As of a device.
    pub fn mark(&self) -> u64 {
        self.version
    }

    /// A flush that began at that mark has ended.
    pub fn flushed(&mut self, mark: u64) {
        let mut rest = Vec::new();
        for (block, stamp, version) in self.dirty.drain(..) {
            if version <= mark {
                self.durable[block] = stamp;
            } else {
                rest.push((block, stamp, version));
            }
        }
        self.dirty = rest;
    }

    pub fn status(&self, lba: u64, most: usize) -> Vec<LbaStatus> {
        let mut found: Vec<LbaStatus> = Vec::new();
        for block in lba as usize..self.visible.len() {
            let deallocated = !self.allocated[block];
            let full = found.len() == most;
            match found.last_mut() {
                Some(last) if last.deallocated == deallocated => last.blocks += 1,
                _ if full => break,
                _ => found.push(LbaStatus { lba: Lba(block as u64), blocks: 1, deallocated }),
            }
        }
        found
    }

    /// What was not stable, and what was under way, is lost or kept, block by block.
    pub fn crash(&mut self, rng: &mut Rng, under_way: &[Changes]) {
        for changes in under_way {
            for &(block, stamp) in changes {
                if rng.percent(50) {
                    self.dirty.push((block, stamp, u64::MAX));
                }
            }
        }
        let keep = rng.below(4);
        for (block, stamp, _) in self.dirty.drain(..) {
            let kept = match keep {
                0 => false,
                1 => true,
                _ => rng.percent(50),
            };
            if kept {
                self.durable[block] = stamp;
            }
        }
        self.visible.clone_from(&self.durable);
        for (block, stamp) in self.visible.iter().enumerate() {
            self.allocated[block] |= *stamp != 0;
        }
    }
}

/// The bytes of pages.
pub fn bytes(data: &kagami_memory::Scatter) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(data.len_bytes());
    data.chunks().for_each(|chunk| bytes.extend_from_slice(chunk));
    bytes
}
