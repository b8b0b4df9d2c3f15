//! What goes wrong while there is trouble, and what operators do meanwhile.

use super::rng::Rng;
use super::{Event, World};
use kagami_replica::{Loser, Order, Overflow, Pace, Report, RestoreTo, Side, State};
use std::time::Duration;

impl World {
    pub fn trouble(&mut self, reports: &[Option<Report>; 2]) {
        if self.plan.cuts && self.rng.one_in(25) {
            let length = Duration::from_millis(self.rng.skewed(5, 1200));
            self.note(format!("the link is cut for {length:?}"));
            self.cut_until = self.now + length;
        }
        if self.plan.loses && self.rng.one_in(12) {
            let (array, volume) = (self.rng.index(2), self.rng.index(self.plan.volumes));
            let wait = Duration::from_micros(self.rng.skewed(1, 60_000));
            self.later(wait, array, Event::Lose(volume));
        }
        if self.plan.changes && self.rng.one_in(15) {
            self.other_options();
        }
        let array = self.rng.index(2);
        let Some(report) = &reports[array] else { return };
        let (side, state) = (report.side, report.state);
        if self.plan.rot && side == Side::Secondary && matches!(state, State::Pair) && self.rng.one_in(20) {
            self.rot(array, report);
        }
        if self.plan.odd && self.rng.one_in(4) {
            return self.odd_order(array);
        }
        let dry_run = self.rng.percent(15);
        match self.rng.below(24) {
            0 if self.plan.splits => {
                self.give(array, Order::Split { writable: self.plan.takeovers && dry_run })
            }
            1 | 2 if self.plan.swaps => self.give(array, Order::Swap { dry_run }),
            3 if self.plan.swaps => self.give(array, Order::CancelSwap),
            4 if self.plan.takeovers && side == Side::Secondary => {
                let force = self.rng.percent(10);
                self.give(array, Order::Takeover { dry_run, force });
            }
            5 if self.plan.takeovers && self.rng.one_in(5) => {
                self.give(array, Order::Takeover { dry_run, force: false });
            }
            6 | 7 => {
                let name = format!("m{}", self.rng.below(1000));
                let wait = self.rng.percent(70);
                self.give(array, Order::Marker { name, wait });
            }
            12 if self.plan.takeovers && side == Side::Secondary => {
                let to = match self.rng.below(3) {
                    0 => RestoreTo::Read,
                    1 => RestoreTo::Marker(format!("m{}", self.rng.below(1000))),
                    _ => RestoreTo::Time(self.wall() - self.rng.skewed(1, 50_000_000)),
                };
                self.give(array, Order::Restore(to));
            }
            8..12 => match state {
                State::Psus { .. } | State::Psue | State::Ssws => {
                    let discard = match self.rng.below(4) {
                        0 => Some(Loser::There),
                        1 => Some(Loser::Here),
                        _ => None,
                    };
                    self.give(array, Order::Resync { discard });
                }
                _ if self.rng.one_in(10) => self.give(array, Order::Resync { discard: None }),
                _ => {}
            },
            _ => {}
        }
    }

    /// One array's half of the group has other options from now on, over restarts too.
    fn other_options(&mut self) {
        let array = self.rng.index(2);
        let rng = &mut self.rng;
        let mut options = self.arrays[array].options.clone();
        match rng.below(9) {
            0 => options.overflow = Overflow::Suspend,
            1 => options.overflow = Overflow::Slow(Duration::from_millis(rng.between(1, 40))),
            2 => options.hold = Duration::from_millis(rng.below(3) * 150),
            3 => options.secondary_reads ^= true,
            4 => options.bandwidth = rng.below(2) * rng.between(1 << 20, 64 << 20),
            5 => options.pace = [Pace::Gentle, Pace::Full][rng.index(2)],
            6 => options.reader_limit = Duration::from_millis(rng.below(2) * rng.between(800, 3000)),
            7 => options.swap_hold = Duration::from_millis(rng.between(100, 3000)),
            _ => options.memory = rng.between(1, 64) << 20,
        }
        self.note(format!("array {array}: other options: {options:?}"));
        self.arrays[array].options = options.clone();
        match self.group(array, |group, cx| group.set_options(cx, options)) {
            Some(Err(why)) => self.fail(format!("array {array} does not take other options: {why}")),
            Some(Ok(())) => self.seen.note("other options"),
            None => {}
        }
    }

    /// Who drives a secondary where no poller does: the same three orders again and again, one of each at a time.
    pub fn drive(&mut self, reports: &[Option<Report>; 2]) {
        if self.plan.options.poller || !self.rng.percent(60) {
            return;
        }
        let side = |wanted: Side| {
            reports.iter().position(|it| it.as_ref().is_some_and(|it| it.side == wanted && !it.recovering))
        };
        let Some(secondary) = side(Side::Secondary) else { return };
        let purges = if self.rng.percent(80) { side(Side::Primary).unwrap_or(secondary) } else { secondary };
        let (array, order) = match self.rng.below(5) {
            0 | 1 => (secondary, Order::Acquire { to: 0 }),
            2 | 3 => (secondary, Order::Restore(RestoreTo::Read)),
            _ => (purges, Order::Purge { to: 0 }),
        };
        if !self.is_given(array, &order) {
            self.give(array, order);
        }
    }

    /// A bit of what a secondary has read, and has not restored yet, is another from now on.
    fn rot(&mut self, array: usize, report: &Report) {
        let places = report.positions;
        if places.read <= places.restored || places.restore_target < places.restored {
            return;
        }
        let place = places.restored + self.rng.below(places.read - places.restored);
        let at = report.data_at + place % report.data_len;
        self.arrays[array].journal.rot(at, 1 << self.rng.below(8));
        self.note(format!("array {array}: a bit of its journal rots at {place}"));
        self.seen.note("rot at a secondary");
    }

    /// An order that may make no sense here.
    pub fn odd_order(&mut self, array: usize) {
        let order = match self.rng.below(13) {
            0 | 11 => Order::Split { writable: self.plan.takeovers && self.rng.percent(70) },
            1 => Order::Resync { discard: None },
            2 => Order::Resync { discard: Some(Loser::Here) },
            3 => Order::Resync { discard: Some(Loser::There) },
            4 => Order::Swap { dry_run: false },
            5 | 6 => Order::CancelSwap,
            7 if self.plan.takeovers => Order::Takeover { dry_run: false, force: self.rng.percent(60) },
            8 => Order::Marker { name: "odd".to_owned(), wait: false },
            9 => Order::Acquire { to: 0 },
            10 => Order::Purge { to: self.rng.below(1 << 24) },
            _ => Order::Restore(RestoreTo::Read),
        };
        self.give(array, order);
    }

    /// The device of a volume loses what was not stable there, and is back in the same moment; how many blocks are not what they
    /// were. A host's write that is under way there ends after that.
    pub fn loses(&mut self, array: usize, volume: usize, rng: &mut Rng) -> usize {
        if !self.arrays[array].up {
            return 0;
        }
        let store = &mut self.arrays[array].stores[volume];
        let before = store.visible.clone();
        store.crash(rng, &[]);
        let lost = store.visible.iter().zip(&before).filter(|(now, before)| now != before).count();
        self.note(format!("array {array}: volume {volume} loses {lost} blocks"));
        if lost > 0 {
            let mode = self.arrays[array].fronts[volume].mode();
            let mode = format!("{mode:?}");
            self.seen.note(format!("loss in {}", mode.split([' ', '{']).next().unwrap_or_default()));
        }
        self.judge_lost(array);
        self.arrays[array].fronts[volume].on_lost();
        self.steps_of(array, volume);
        lost
    }
}
