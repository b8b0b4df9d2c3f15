//! Which unit, address and direction comes next on a connection.

use super::Workload;
use crate::initiator::Unit;
use crate::rng::Rng;
use std::sync::Arc;

/// A connection's sequence of commands.
#[derive(Debug)]
pub struct Picker {
    workload: Arc<Workload>,
    rng: Rng,
    /// For sequential addresses: the next command's number within the span, of each unit alike.
    next: u64,
    unit: usize,
    /// For each unit: places for a command, and blocks in a command.
    places: Vec<(u64, u32)>,
}

/// One command to be made.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    /// Which of the units.
    pub unit: usize,
    /// First block.
    pub lba: u64,
    /// Blocks.
    pub blocks: u32,
    /// Read, or write.
    pub read: bool,
}

impl Picker {
    /// The sequence of connection `place` of `total`.
    pub fn new(workload: Arc<Workload>, seed: u64, place: u64, total: u64) -> Self {
        let places = |unit: &Unit| {
            let places = unit.bytes().min(workload.span) / u64::from(workload.block);
            (places.max(1), workload.block / unit.block_size)
        };
        let places: Vec<_> = workload.units.iter().map(places).collect();
        let room = places.iter().map(|(places, _)| *places).min().unwrap_or(1);
        let next = room / total.max(1) * place;
        Self { rng: Rng::new(seed), next, unit: 0, places, workload }
    }

    /// The unit that a number from [`next`](Self::next) means.
    #[inline]
    pub fn unit(&self, index: usize) -> &Unit {
        &self.workload.units[index]
    }

    /// What comes next.
    #[inline]
    pub fn next(&mut self) -> Pick {
        let unit = self.unit;
        self.unit += 1;
        if self.unit == self.places.len() {
            self.unit = 0;
        }
        let (places, blocks) = self.places[unit];
        let place = if self.workload.sequential {
            let place = self.next % places;
            if self.unit == 0 {
                self.next += 1;
            }
            place
        } else {
            self.rng.below(places)
        };
        let read = match self.workload.read_percent {
            100 => true,
            0 => false,
            percent => self.rng.percent(percent),
        };
        Pick { unit, lba: place * u64::from(blocks), blocks, read }
    }
}
