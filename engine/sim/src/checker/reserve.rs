//! Persistent reservations of one volume: what the standard makes of the hosts' commands, as far as
//! their order is known (SPC-5 5.14).
//!
//! Changes that overlap, or whose end nobody knows, leave everything in doubt until a CLEAR has
//! succeeded alone. While nothing is in doubt, each change has one possible answer, and a command that
//! began after the last change either is admitted or conflicts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A host, by its number.
pub type HostNumber = u16;

/// A change that a host asks for (PERSISTENT RESERVE OUT). Keys are what the host registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// REGISTER, or with `ignore` REGISTER AND IGNORE EXISTING KEY. `key` 0 unregisters; `aptpl`: all of
    /// it is to outlive a restart.
    Register {
        /// What the host believes that it has registered; 0: nothing.
        old: u64,
        /// What it registers.
        key: u64,
        /// Whatever the old one was.
        ignore: bool,
        /// Activate persist through power loss.
        aptpl: bool,
    },
    /// RESERVE, with the type's code.
    Reserve {
        /// The host's key.
        key: u64,
        /// The code.
        kind: u8,
    },
    /// RELEASE, with the type's code.
    Release {
        /// The host's key.
        key: u64,
        /// The code.
        kind: u8,
    },
    /// CLEAR.
    Clear {
        /// The host's key.
        key: u64,
    },
    /// PREEMPT, or PREEMPT AND ABORT.
    Preempt {
        /// The host's key.
        key: u64,
        /// Whose registration is to go; never 0.
        victim: u64,
        /// The type's code.
        kind: u8,
    },
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// GOOD.
    Good,
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION, ILLEGAL REQUEST.
    Illegal,
    /// It was not executed.
    Nothing,
    /// Nobody knows.
    Unknown,
}

/// A change under way.
#[must_use = "a change that is never ended leaves everything in doubt"]
#[derive(Debug)]
pub struct Change {
    host: HostNumber,
    order: Order,
    epoch: u64,
}

/// When a command began, to be asked about at its end.
#[derive(Clone, Copy, Debug)]
pub struct Since(u64);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    keys: BTreeMap<HostNumber, u64>,
    /// Type and holder; the holder means nothing for the all registrants types.
    held: Option<(u8, HostNumber)>,
    aptpl: bool,
}

impl State {
    fn holds(&self, host: HostNumber) -> bool {
        self.held.is_some_and(|(kind, holder)| self.keys.contains_key(&host) && (kind >= 7 || holder == host))
    }

    fn admits(&self, host: HostNumber, writes: bool) -> bool {
        let Some((kind, _)) = self.held else { return true };
        let registered = self.keys.contains_key(&host);
        let excludes_reads = matches!(kind, 3 | 6 | 8);
        self.holds(host) || kind >= 5 && registered || !writes && !excludes_reads
    }

    fn remove(&mut self, host: HostNumber) {
        let held = self.holds(host);
        self.keys.remove(&host);
        let ends = match self.held {
            Some((kind, _)) if kind >= 7 => self.keys.is_empty(),
            _ => held,
        };
        if ends {
            self.held = None;
        }
    }

    /// Does what the order says; the answer that it gets.
    fn apply(&mut self, host: HostNumber, order: Order) -> Outcome {
        let own = self.keys.get(&host).copied();
        match order {
            Order::Register { old, key, ignore, aptpl } => {
                if !ignore && own.unwrap_or(0) != old {
                    return Outcome::Conflict;
                }
                match (own, key) {
                    (None, 0) => return Outcome::Good,
                    (_, 0) => self.remove(host),
                    _ => {
                        self.keys.insert(host, key);
                    }
                }
                self.aptpl = aptpl;
                Outcome::Good
            }
            Order::Reserve { key, .. }
            | Order::Release { key, .. }
            | Order::Clear { key }
            | Order::Preempt { key, .. }
                if own != Some(key) =>
            {
                Outcome::Conflict
            }
            Order::Reserve { kind, .. } => match self.held {
                None => {
                    self.held = Some((kind, host));
                    Outcome::Good
                }
                Some((held, _)) if held == kind && self.holds(host) => Outcome::Good,
                Some(_) => Outcome::Conflict,
            },
            Order::Release { kind, .. } => match self.held {
                Some((held, _)) if self.holds(host) && held != kind => Outcome::Illegal,
                _ => {
                    if self.holds(host) {
                        self.held = None;
                    }
                    Outcome::Good
                }
            },
            Order::Clear { .. } => {
                self.keys.clear();
                self.held = None;
                Outcome::Good
            }
            Order::Preempt { victim, kind, .. } => self.preempt(host, victim, kind),
        }
    }

    fn preempt(&mut self, host: HostNumber, victim: u64, kind: u8) -> Outcome {
        let named: Vec<HostNumber> =
            self.keys.iter().filter(|(_, key)| **key == victim).map(|(host, _)| *host).collect();
        if named.is_empty() {
            return Outcome::Conflict;
        }
        let holder = self.held.filter(|(kind, _)| *kind < 7).and_then(|(_, holder)| self.keys.get(&holder));
        if holder == Some(&victim) {
            for other in named.into_iter().filter(|other| *other != host) {
                self.keys.remove(&other);
            }
            self.held = Some((kind, host));
        } else {
            named.into_iter().for_each(|other| self.remove(other));
        }
        Outcome::Good
    }
}

#[derive(Debug)]
struct Inner {
    /// `None`: in doubt.
    state: Option<State>,
    changing: u32,
    contested: bool,
    now: u64,
    changed: u64,
    epoch: u64,
}

/// The model of one volume's reservations; a shared handle.
#[derive(Clone, Debug)]
pub struct Reservations(Rc<RefCell<Inner>>);

impl Default for Reservations {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Inner {
            state: Some(State::default()),
            changing: 0,
            contested: false,
            now: 0,
            changed: 0,
            epoch: 0,
        })))
    }
}

impl Reservations {
    /// A change is asked for.
    pub fn begin(&self, host: HostNumber, order: Order) -> Change {
        let mut inner = self.0.borrow_mut();
        inner.now += 1;
        inner.changed = inner.now;
        inner.contested |= inner.changing > 0;
        inner.changing += 1;
        Change { host, order, epoch: inner.epoch }
    }

    /// A change has ended.
    ///
    /// # Errors
    /// It cannot have ended so.
    pub fn end(&self, change: &Change, outcome: Outcome) -> Result<(), String> {
        let mut inner = self.0.borrow_mut();
        if change.epoch != inner.epoch {
            return Ok(());
        }
        inner.now += 1;
        inner.changed = inner.now;
        inner.changing = inner.changing.saturating_sub(1);
        let alone = !inner.contested;
        if inner.changing == 0 {
            inner.contested = false;
        }
        match (outcome, alone) {
            (Outcome::Nothing, _) => Ok(()),
            (Outcome::Unknown, _) | (_, false) => {
                inner.state = None;
                Ok(())
            }
            (Outcome::Good, true) if inner.state.is_none() => {
                if let Order::Clear { .. } = change.order {
                    inner.state = Some(State::default());
                }
                Ok(())
            }
            _ => {
                let Some(state) = &mut inner.state else { return Ok(()) };
                let before = state.clone();
                let expected = state.apply(change.host, change.order);
                if expected == outcome {
                    return Ok(());
                }
                Err(format!("{:?} ended with {outcome:?}, expected {expected:?} in {before:?}", change.order))
            }
        }
    }

    /// A command begins for which reservations matter.
    #[must_use]
    pub fn now(&self) -> Since {
        Since(self.0.borrow().now)
    }

    /// Whether a command of that host, which began then and ends now, is admitted; `None` where that is
    /// not certain.
    #[must_use]
    pub fn admits(&self, host: HostNumber, writes: bool, since: Since) -> Option<bool> {
        let inner = self.0.borrow();
        let state = inner.state.as_ref().filter(|_| inner.changing == 0 && inner.changed <= since.0)?;
        Some(state.admits(host, writes))
    }

    /// All registered keys in order, where that is certain since then.
    #[must_use]
    pub fn keys(&self, since: Since) -> Option<Vec<u64>> {
        let inner = self.0.borrow();
        let state = inner.state.as_ref().filter(|_| inner.changing == 0 && inner.changed <= since.0)?;
        let mut keys: Vec<u64> = state.keys.values().copied().collect();
        keys.sort_unstable();
        Some(keys)
    }

    /// Whether nobody knows what holds.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.0.borrow().state.is_none()
    }

    /// The key of some other host than that one, as far as known.
    #[must_use]
    pub fn another_key(&self, host: HostNumber) -> Option<u64> {
        let inner = self.0.borrow();
        inner.state.as_ref()?.keys.iter().find(|(other, _)| **other != host).map(|(_, key)| *key)
    }

    /// The array has started again: what was not to outlive that is gone.
    pub fn restarted(&self) {
        let mut inner = self.0.borrow_mut();
        inner.epoch += 1;
        inner.now += 1;
        inner.changed = inner.now;
        if inner.changing > 0 {
            inner.state = None;
        }
        (inner.changing, inner.contested) = (0, false);
        if inner.state.as_ref().is_some_and(|state| !state.aptpl) {
            inner.state = Some(State::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(key: u64) -> Order {
        Order::Register { old: 0, key, ignore: true, aptpl: false }
    }

    fn run(model: &Reservations, host: HostNumber, order: Order, outcome: Outcome) -> Result<(), String> {
        let change = model.begin(host, order);
        model.end(&change, outcome)
    }

    #[test]
    fn only_the_holder_writes_under_write_exclusive() {
        let model = Reservations::default();
        run(&model, 1, register(11), Outcome::Good).unwrap();
        run(&model, 1, Order::Reserve { key: 11, kind: 1 }, Outcome::Good).unwrap();
        let now = model.now();
        let admitted = |host, writes| model.admits(host, writes, now);
        assert_eq!(admitted(1, true), Some(true));
        assert_eq!(admitted(2, true), Some(false));
        assert_eq!(admitted(2, false), Some(true));
        run(&model, 2, register(22), Outcome::Good).unwrap();
        assert_eq!(model.admits(2, true, now), None, "it changed meanwhile");
        assert_eq!(model.admits(2, true, model.now()), Some(false));
        let error = run(&model, 2, Order::Reserve { key: 22, kind: 1 }, Outcome::Good).unwrap_err();
        assert!(error.contains("expected Conflict"), "{error}");
    }

    #[test]
    fn preempting_the_holder_takes_the_reservation_over() {
        let model = Reservations::default();
        run(&model, 1, register(11), Outcome::Good).unwrap();
        run(&model, 2, register(22), Outcome::Good).unwrap();
        run(&model, 1, Order::Reserve { key: 11, kind: 3 }, Outcome::Good).unwrap();
        run(&model, 2, Order::Preempt { key: 22, victim: 11, kind: 1 }, Outcome::Good).unwrap();
        assert_eq!(model.keys(model.now()), Some(vec![22]));
        assert_eq!(model.admits(1, false, model.now()), Some(true));
        assert_eq!(model.admits(1, true, model.now()), Some(false));
        run(&model, 2, Order::Release { key: 22, kind: 3 }, Outcome::Illegal).unwrap();
    }

    #[test]
    fn doubt_ends_with_a_clear() {
        let model = Reservations::default();
        run(&model, 1, register(11), Outcome::Unknown).unwrap();
        assert!(model.is_in_doubt());
        assert_eq!(model.admits(2, true, model.now()), None);
        run(&model, 1, register(11), Outcome::Good).unwrap();
        run(&model, 1, Order::Clear { key: 11 }, Outcome::Good).unwrap();
        assert_eq!(model.keys(model.now()), Some(Vec::new()));
        let first = model.begin(1, register(11));
        let second = model.begin(2, register(22));
        model.end(&first, Outcome::Good).unwrap();
        assert!(model.is_in_doubt());
        model.end(&second, Outcome::Good).unwrap();
        assert!(model.is_in_doubt());
    }

    #[test]
    fn a_restart_keeps_what_was_to_persist() {
        let model = Reservations::default();
        let persistent = Order::Register { old: 0, key: 11, ignore: false, aptpl: true };
        run(&model, 1, persistent, Outcome::Good).unwrap();
        run(&model, 1, Order::Reserve { key: 11, kind: 5 }, Outcome::Good).unwrap();
        model.restarted();
        assert_eq!(model.admits(2, true, model.now()), Some(false));
        let volatile = Order::Register { old: 11, key: 12, ignore: false, aptpl: false };
        run(&model, 1, volatile, Outcome::Good).unwrap();
        let lost = model.begin(2, register(22));
        model.restarted();
        assert!(model.is_in_doubt());
        assert!(model.end(&lost, Outcome::Good).is_ok());
    }
}
