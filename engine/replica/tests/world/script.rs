//! Operators, and what goes wrong when.

use super::plan::Plan;
use super::rng::Rng;
use super::{Event, World};
use kagami_replica::action::OrderResult;
use kagami_replica::{Loser, Order, Report, RestoreTo, Side, State};
use kagami_types::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The pair is being made.
    Forming,
    /// Things go wrong.
    Trouble,
    /// Nothing goes wrong any more; operators only look.
    Healing,
    /// Operators mend what is left.
    Mending,
    /// Hosts have stopped; the secondary catches up.
    Quiet,
    /// A test is the operator.
    Test,
    Over,
}

#[derive(Debug)]
pub struct Script {
    pub phase: Phase,
    since: Time,
    orders: u64,
    given: BTreeMap<u64, (usize, Order)>,
    /// Actions until the next crash.
    crash_in: u64,
    marker: Option<u64>,
    arrived: bool,
    /// What became of orders: for a test.
    pub answers: BTreeMap<u64, OrderResult>,
    last_mend: Time,
    pub crashes: u64,
    rounds: u64,
}

impl Script {
    pub fn new(plan: &Plan) -> Self {
        let mut rng = Rng::new(plan.seed ^ 77);
        Self {
            phase: Phase::Forming,
            since: Time(0),
            orders: 0,
            given: BTreeMap::new(),
            crash_in: rng.skewed(5, 12_000),
            marker: None,
            arrived: false,
            answers: BTreeMap::new(),
            last_mend: Time(0),
            crashes: 0,
            rounds: 0,
        }
    }

    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub fn next_order(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    /// Whether an array crashes before its next action.
    pub fn crashes_now(&mut self, rng: &mut Rng, _now: Time) -> bool {
        if !matches!(self.phase, Phase::Forming | Phase::Trouble) || self.crashes >= 8 {
            return false;
        }
        self.crash_in -= 1;
        if self.crash_in > 0 {
            return false;
        }
        self.crashes += 1;
        self.crash_in = rng.skewed(3, 8_000) + 1;
        true
    }

    pub fn may_break(&self, _now: Time) -> bool {
        self.phase == Phase::Trouble
    }

    pub fn crashed(&mut self, array: usize) {
        self.given.retain(|_, (of, _)| *of != array);
    }
}

fn kind(order: &Order) -> String {
    let text = format!("{order:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

impl World {
    pub fn reports(&self) -> [Option<Report>; 2] {
        [0, 1].map(|array| {
            self.arrays[array].group.as_ref().and_then(|group| group.report(self.now, self.wall()))
        })
    }

    fn enter(&mut self, phase: Phase) {
        self.note(format!("-- {phase:?}"));
        self.script.phase = phase;
        self.script.since = self.now;
    }

    pub fn give(&mut self, array: usize, order: Order) {
        if let Some(report) = &self.reports()[array] {
            let state = format!("{} {}", report.side.name(), report.state.name());
            self.seen.note(format!("cell {state} {}", kind(&order)));
        }
        let record = self.arrays[array].group.as_ref().and_then(|group| group.record());
        if let (Some(record), Some(row)) = (record, super::coverage::order(&order)) {
            let cell = format!("order {row} | {}", super::coverage::own(record));
            self.seen.note(cell);
        }
        let number = self.script.orders + 1;
        // One that is given to an array which is down is answered by nobody.
        if self.arrays[array].group.is_some() {
            self.script.given.insert(number, (array, order.clone()));
        }
        if matches!(order, Order::Marker { .. }) && self.script.phase == Phase::Quiet {
            self.script.marker = Some(number);
        }
        self.order(array, order);
    }

    /// The same order waits there for its answer.
    pub fn is_given(&self, array: usize, order: &Order) -> bool {
        self.script.given.values().any(|(of, other)| *of == array && other == order)
    }

    /// An order was answered.
    pub fn script_answered(&mut self, _array: usize, number: u64, result: OrderResult) {
        if self.script.phase == Phase::Test {
            self.script.answers.insert(number, result.clone());
        }
        let Some((_, order)) = self.script.given.remove(&number) else { return };
        let code = result.exit_code();
        match (&order, code) {
            (Order::CancelSwap, 0) => self.seen.note("a swap is given up"),
            (Order::Acquire { .. }, 0) => self.seen.note("a host drives"),
            (Order::Restore(to), 0) if *to != RestoreTo::Read => self.seen.note("restore to a moment"),
            _ => {}
        }
        self.seen.note(format!("answer {} {code}", kind(&order)));
        if matches!(order, Order::Marker { wait: true, .. }) && code == 0 {
            let text = format!("{result:?}");
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            match digits.parse() {
                Ok(sequence) => self.judge_marker(number, sequence),
                Err(_) => self.fail(format!("a marker without its sequence: {text}")),
            }
        }
        if self.script.marker == Some(number) {
            self.script.marker = None;
            self.script.arrived = code == 0;
        }
    }

    /// Every now and then.
    pub fn operator(&mut self) {
        self.restart_workers();
        let reports = self.reports();
        for report in reports.iter().flatten() {
            self.seen.note(format!("state {} {}", report.side.name(), report.state.name()));
        }
        for array in 0..2 {
            let ending = self.arrays[array].group.as_ref().and_then(|group| group.ending());
            let boot = self.arrays[array].boot;
            if let Some(ending) = ending.filter(|_| self.arrays[array].recovered != boot) {
                self.arrays[array].recovered = boot;
                self.seen.note(format!("recovery: {ending:?}"));
            }
        }
        self.judge_bitmap();
        self.drive(&reports);
        let apart = self.now < self.cut_until || !self.arrays.iter().all(|array| array.up);
        let mut records = self.arrays.iter().filter_map(|array| array.group.as_ref()?.record());
        if let Some(fenced) = records.rfind(|record| apart && record.fence.is_some()).cloned() {
            self.see_swap(&fenced, None);
        }
        let pair = match &reports {
            [Some(a), Some(b)] if a.state == State::Pair && b.state == State::Pair && a.side != b.side => {
                Some(usize::from(b.side == Side::Primary))
                    .filter(|_| !a.fenced && !b.fenced && a.epoch == b.epoch)
            }
            _ => None,
        };
        let waited = self.now.since(self.script.since);
        let mut wait = Duration::from_millis(self.rng.skewed(2, 60));
        match self.script.phase {
            Phase::Forming => {
                if self.plan.odd && self.rng.one_in(2) {
                    let array = self.rng.index(2);
                    self.odd_order(array);
                }
                if pair.is_some() || waited > Duration::from_secs(2) {
                    self.enter(Phase::Trouble);
                }
            }
            Phase::Trouble => {
                if let Some(primary) = pair {
                    self.settled(primary);
                }
                if waited > self.plan.trouble {
                    self.cut_until = Time(0);
                    self.enter(Phase::Healing);
                    self.lift(&reports);
                } else {
                    self.trouble(&reports);
                }
            }
            Phase::Healing => {
                self.plan.think = 20_000;
                if waited > Duration::from_millis(1500) {
                    self.enter(Phase::Mending);
                }
            }
            Phase::Mending => {
                wait = Duration::from_millis(50);
                self.plan.think = 20_000;
                // A journal may be too small for what hosts write.
                self.hosts.stopped |= waited > Duration::from_secs(20);
                if let Some(primary) = pair {
                    self.settled(primary);
                    self.hosts.stopped = true;
                    self.enter(Phase::Quiet);
                    self.lift(&reports);
                } else if waited > Duration::from_secs(90) {
                    if self.verbose {
                        self.arrays.iter().for_each(|array| eprintln!("{:#?}", array.group));
                    }
                    self.fail(format!("the pair does not heal: {reports:#?}"));
                } else {
                    self.mend(&reports);
                }
            }
            // What was under way was too much for the journal, or the journal fails.
            Phase::Quiet
                if pair.is_none() && reports.iter().all(Option::is_some) && self.script.rounds < 20 =>
            {
                self.script.rounds += 1;
                self.script.arrived = false;
                self.script.marker = None;
                self.enter(Phase::Mending);
            }
            Phase::Quiet => self.quiet(&reports, waited),
            Phase::Over | Phase::Test => {}
        }
        self.later(wait, 0, Event::Operator);
    }

    /// Both say PAIR.
    fn settled(&mut self, primary: usize) {
        if self.judge.writer[primary] && !self.judge.writer[1 - primary] {
            self.judge_paired(primary);
        }
    }

    /// Nothing is held back at a secondary any more.
    fn lift(&mut self, reports: &[Option<Report>; 2]) {
        let secondary =
            |report: &Option<Report>| report.as_ref().is_some_and(|it| it.side == Side::Secondary);
        if let Some(array) = reports.iter().position(secondary) {
            self.give(array, Order::Restore(RestoreTo::Read));
        }
    }

    fn mend(&mut self, reports: &[Option<Report>; 2]) {
        if self.now.since(self.script.last_mend) < Duration::from_millis(400) {
            return;
        }
        let [Some(a), Some(b)] = reports else { return };
        let both = [a, b];
        if both.iter().any(|report| report.recovering) {
            return;
        }
        self.script.last_mend = self.now;
        if self.judge.writer[0] && self.judge.writer[1] && !self.judge.two_allowed {
            return self.fail("both arrays are written to");
        }
        let taken = both.iter().position(|report| report.state == State::Ssws);
        let primary = both.iter().position(|report| report.side == Side::Primary);
        if let Some(taken) = taken {
            return self.give(taken, Order::Resync { discard: Some(Loser::There) });
        }
        if a.split_brain || b.split_brain || both.iter().all(|report| report.side == Side::Primary) {
            let array = self.rng.index(2);
            return self.give(array, Order::Resync { discard: Some(Loser::There) });
        }
        if let Some(primary) = primary {
            let report = both[primary];
            let written = matches!(both[1 - primary].state, State::Psus { writable: true });
            if report.fenced || report.overtaken {
                let order =
                    if self.rng.percent(70) { Order::Swap { dry_run: false } } else { Order::CancelSwap };
                let array = self.rng.index(2);
                return self.give(array, order);
            }
            if matches!(report.state, State::Psus { .. } | State::Psue)
                || matches!(both[1 - primary].state, State::Psus { .. } | State::Psue)
            {
                let discard = (written || self.rng.percent(30)).then_some(Loser::There);
                self.give(primary, Order::Resync { discard });
            }
        } else {
            // Each was told to discard its own: one has to be the primary again, as the refusal of a resync says.
            let array = usize::from(b.consistent && !a.consistent);
            self.give(array, Order::Takeover { dry_run: false, force: true });
        }
    }

    fn quiet(&mut self, reports: &[Option<Report>; 2], waited: Duration) {
        if waited > Duration::from_secs(40) {
            let ops = &self.hosts.ops;
            let fronts: Vec<_> = self.arrays.iter().flat_map(|array| &array.fronts).collect();
            let text = format!("the secondary does not catch up: {ops:?} {fronts:?} {reports:#?}");
            return self.fail(text);
        }
        if !self.hosts.ops.is_empty() {
            return;
        }
        if !self.script.arrived {
            if self.script.marker.is_none() {
                let array =
                    usize::from(reports[1].as_ref().is_some_and(|report| report.side == Side::Primary));
                self.give(array, Order::Marker { name: "end".to_owned(), wait: true });
            }
            return;
        }
        if !self.arrays.iter().all(super::Array::is_still) {
            return;
        }
        let (one, other) = (self.arrays[0].image(), self.arrays[1].image());
        if one != other {
            let text = super::history::difference(&one, &other);
            return self.fail(format!("after all the arrays differ: {text}"));
        }
        let primary = usize::from(reports[1].as_ref().is_some_and(|report| report.side == Side::Primary));
        if let Some(lineage) = &self.judge.lineage[primary] {
            let end = lineage.end();
            if end != one && !self.judge.unclear {
                let text = super::history::difference(&end, &one);
                return self.fail(format!("the primary is not what was written to it: {text}"));
            }
        }
        self.seen.note("seeds to the end");
        self.enter(Phase::Over);
    }
}
