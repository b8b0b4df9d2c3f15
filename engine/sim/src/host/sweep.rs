//! Reading all that was written: at the end of a run, and now and then after a crash.

use super::Host;
use super::session::Session;
use crate::checker;
use crate::coverage::Happening;
use crate::world::World;
use kagami_iscsi::pdu::Itt;

/// How far a host is with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    unit: usize,
    lba: u64,
    /// The flush before the reads is done.
    flushed: bool,
    /// What is under way.
    pub(super) open: Option<(Itt, Step)>,
}

/// One command of a sweep.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Away with a reservation.
    Free,
    /// What is acknowledged becomes stable.
    Flush,
    /// Blocks are read; it goes on there.
    Read(u64),
}

/// Blocks of a read.
const LENGTH: u64 = 256;

impl Sweep {
    pub(super) const START: Self = Self { unit: 0, lba: 0, flushed: false, open: None };
}

impl Host {
    /// Goes on reading.
    pub(super) fn sweep_on(&mut self, world: &World, session: &mut Session) {
        let Some(mut sweep) = self.sweep else { return };
        if let Some((itt, step)) = sweep.open {
            if session.tasks.contains_key(&itt.0) {
                return;
            }
            sweep.open = None;
            if session.swept.contains(&itt.0) {
                match step {
                    Step::Free => {}
                    Step::Flush => sweep.flushed = true,
                    Step::Read(next) => sweep.lba = next,
                }
            }
        }
        session.swept.clear();
        let Some(unit) = self.plan.luns.get(sweep.unit) else {
            world.hit(Happening::Sweep);
            self.sweep = None;
            return;
        };
        let per = unit.units_per_block();
        let (order, step) = if session.barred.contains(&sweep.unit) {
            // A reservation is in the way, and in the end everything must be read: away with it.
            let number = self.plan.number;
            let own = session.keys.get(&sweep.unit).copied().unwrap_or(0);
            let order = if own == 0 {
                let key = u64::from(number + 1) << 32;
                checker::Order::Register { old: 0, key, ignore: true, aptpl: false }
            } else {
                checker::Order::Clear { key: own }
            };
            (unit.persistent_reserve(&mut self.rng, number, order), Step::Free)
        } else if !sweep.flushed {
            (unit.flush_all(&mut self.rng), Step::Flush)
        } else {
            match unit.checker.next_touched(sweep.lba * per, LENGTH * per) {
                Some(run) => {
                    // Up to the end of the last block, from the beginning of the first.
                    let (lba, end) = (run.first / per, (run.first + run.count).div_ceil(per));
                    let mut order = unit.read(&mut self.rng, lba, end - lba);
                    order.expected = order.asked;
                    (order, Step::Read(end))
                }
                None => {
                    self.sweep = Some(Sweep { unit: sweep.unit + 1, ..Sweep::START });
                    return;
                }
            }
        };
        let itt = session.issue(&self.plan, world, &mut self.rng, sweep.unit, order);
        sweep.open = itt.map(|itt| (itt, step));
        self.sweep = Some(sweep);
    }
}
