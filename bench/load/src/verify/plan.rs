//! Which command comes next: the whole span once, then random ones of all sizes and alignments.

use super::jobs::{Checker, Run};
use crate::rng::Rng;

/// A command to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// READ.
    Read(Run),
    /// WRITE, with FUA or not.
    Write(Run, bool),
    /// SYNCHRONIZE CACHE of that unit.
    Flush(usize),
}

/// Shares and sizes of random commands.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Reads in percent.
    pub read: u32,
    /// Writes with FUA, in percent of the writes.
    pub fua: u32,
    /// One command in that many is a SYNCHRONIZE CACHE; 0: none.
    pub flush_every: u32,
    /// The largest command in bytes.
    pub largest: u32,
}

/// The region that a third of the commands go to, so that they meet: bytes from the start of a unit.
const HOT: u64 = 1 << 20;

/// One random command.
pub fn random(rng: &mut Rng, mix: &Mix, checker: &Checker) -> Step {
    let volume = usize::try_from(rng.below(checker.volumes.len() as u64)).unwrap_or(0);
    if mix.flush_every > 0 && rng.below(u64::from(mix.flush_every)) == 0 {
        return Step::Flush(volume);
    }
    let target = &checker.volumes[volume];
    let block_size = u64::from(target.unit.block_size);
    let all = target.model.blocks();
    let most = (u64::from(mix.largest) / block_size).clamp(1, all);
    let page = (4096 / block_size).clamp(1, most);
    let (blocks, aligned) = match rng.below(10) {
        0..3 => (1, false),
        3..6 => (page, true),
        6..9 => (1 + rng.below(most), false),
        _ => (most, rng.percent(50)),
    };
    let room = if rng.percent(33) { (HOT / block_size).max(blocks).min(all) } else { all };
    let first = rng.below(room - blocks + 1);
    let first = if aligned { first - first % blocks } else { first };
    let blocks = u32::try_from(blocks).unwrap_or(1);
    let run = Run { volume, first, blocks };
    if rng.percent(mix.read) { Step::Read(run) } else { Step::Write(run, rng.percent(mix.fua)) }
}

/// Goes over all units once, in commands of up to `largest` bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sweep {
    volume: usize,
    next: u64,
}

impl Sweep {
    /// The next run of blocks, or `None` at the end.
    pub fn next(&mut self, largest: u32, checker: &Checker) -> Option<Run> {
        loop {
            let target = checker.volumes.get(self.volume)?;
            let left = target.model.blocks() - self.next;
            if left == 0 {
                (self.volume, self.next) = (self.volume + 1, 0);
                continue;
            }
            let blocks = left.min(u64::from(largest / target.unit.block_size).max(1));
            let run =
                Run { volume: self.volume, first: self.next, blocks: u32::try_from(blocks).unwrap_or(1) };
            self.next += u64::from(run.blocks);
            return Some(run);
        }
    }
}

/// Joins blocks that lie side by side to runs of up to `most` blocks.
pub fn join(volume: usize, blocks: &[u64], most: u32) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some(run) if run.first + u64::from(run.blocks) == *block && run.blocks < most => run.blocks += 1,
            _ => runs.push(Run { volume, first: *block, blocks: 1 }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initiator::Unit;

    fn checker(blocks: u64, block_size: u32) -> Checker {
        let unit = Unit { lun: 0, wire: [0; 8], block_size, blocks, write_cache: true };
        Checker::new(&[unit, unit], u64::MAX, 1, 65_536).unwrap()
    }

    #[test]
    fn random_commands_stay_inside() {
        let mix = Mix { read: 50, fua: 10, flush_every: 50, largest: 65_536 };
        for (blocks, block_size) in [(1, 512), (3, 4096), (1000, 512), (100_000, 512)] {
            let checker = checker(blocks, block_size);
            let mut rng = Rng::new(3);
            for _ in 0..5000 {
                match random(&mut rng, &mix, &checker) {
                    Step::Read(run) | Step::Write(run, _) => {
                        assert!(run.blocks > 0 && run.blocks * block_size <= 65_536.max(block_size));
                        assert!(run.first + u64::from(run.blocks) <= blocks, "{run:?}");
                    }
                    Step::Flush(volume) => assert!(volume < 2),
                }
            }
        }
    }

    #[test]
    fn a_sweep_covers_all_once() {
        let checker = checker(1000, 512);
        let mut sweep = Sweep::default();
        let mut seen = [0u64; 2];
        while let Some(run) = sweep.next(65_536, &checker) {
            assert_eq!(run.first, seen[run.volume]);
            seen[run.volume] += u64::from(run.blocks);
        }
        assert_eq!(seen, [1000, 1000]);
    }

    #[test]
    fn neighbours_are_joined() {
        let runs = join(0, &[1, 2, 3, 7, 8, 20], 2);
        let short: Vec<_> = runs.iter().map(|run| (run.first, run.blocks)).collect();
        assert_eq!(short, [(1, 2), (3, 1), (7, 2), (20, 1)]);
    }
}
