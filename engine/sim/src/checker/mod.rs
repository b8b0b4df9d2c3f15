//! What the blocks of a volume may hold, after all that was written, flushed and lost.
//!
//! A volume is checked in *units*: the smaller of its block and of what its disk writes whole.
//! Hosts tell the checker when they issue something and how it ended; what they read they have
//! judged here. The rules are in `history.rs`, and hold for any number of hosts at once.
//!
//! The checker knows nothing of the array: it is told only what a host can see.

mod history;
mod stamp;

pub use history::Ending;
pub use stamp::{Found, WriteId, fill, read};

use history::{History, NEVER, Tick};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// A run of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Units {
    fn indices(self) -> std::ops::Range<usize> {
        let index = |unit: u64| usize::try_from(unit).unwrap_or(usize::MAX);
        index(self.first)..index(self.first.saturating_add(self.count))
    }

    fn numbers(self) -> std::ops::Range<u64> {
        self.first..self.first.saturating_add(self.count)
    }
}

/// A write under way.
#[must_use = "a write that is never ended may take effect for ever"]
#[derive(Debug)]
pub struct Write {
    /// Its number, for its content.
    pub id: WriteId,
    units: Vec<Units>,
    issued: Tick,
}

impl Write {
    /// What it writes to.
    #[must_use]
    pub fn units(&self) -> &[Units] {
        &self.units
    }
}

/// A read under way.
#[must_use = "a read that is never ended is remembered for ever"]
#[derive(Debug)]
pub struct Read {
    issued: Tick,
}

/// A flush under way.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    issued: Tick,
}

#[derive(Debug)]
struct Inner {
    volume: u64,
    unit: usize,
    histories: Vec<History>,
    now: u64,
    writes: u64,
    reads: BTreeSet<u64>,
    /// What was issued before and is answered later says nothing of what is there now.
    last_crash: Tick,
    write_through: bool,
}

impl Inner {
    fn tick(&mut self) -> Tick {
        self.now += 1;
        Tick(self.now)
    }

    fn horizon(&self) -> Tick {
        self.reads.first().map_or(NEVER, |tick| Tick(*tick))
    }

    fn of(&mut self, units: Units) -> &mut [History] {
        let mut range = units.indices();
        range.end = range.end.min(self.histories.len());
        self.histories.get_mut(range).unwrap_or_default()
    }
}

/// The model of one volume. A shared handle: all hosts that use the volume use one checker.
#[derive(Clone, Debug)]
pub struct Checker(Rc<RefCell<Inner>>);

impl Checker {
    /// A volume of `units` units of `unit` bytes, which holds zeroes. `volume` marks its contents.
    /// With `write_through` every acknowledged write is stable.
    #[must_use]
    pub fn new(volume: u64, unit: usize, units: usize, write_through: bool) -> Self {
        let histories = vec![History::new(); units];
        Self(Rc::new(RefCell::new(Inner {
            volume,
            unit,
            histories,
            now: 0,
            writes: 0,
            reads: BTreeSet::new(),
            last_crash: Tick(0),
            write_through,
        })))
    }

    /// Bytes of a unit.
    #[must_use]
    pub fn unit(&self) -> usize {
        self.0.borrow().unit
    }

    /// How many units there are.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.0.borrow().histories.len() as u64
    }

    /// A write is issued: of its own content, or of zeroes (WRITE SAME, UNMAP).
    pub fn begin_write(&self, units: &[Units], zeroes: bool) -> Write {
        let mut inner = self.0.borrow_mut();
        inner.writes += 1;
        let id = WriteId(inner.writes);
        let issued = inner.tick();
        for run in units {
            inner.of(*run).iter_mut().for_each(|history| history.begin(id, zeroes, issued));
        }
        Write { id, units: units.to_vec(), issued }
    }

    /// A COMPARE AND WRITE is issued. It is a read as well: what it may find must be remembered.
    pub fn begin_compare(&self, units: Units) -> Write {
        let write = self.begin_write(&[units], false);
        self.0.borrow_mut().reads.insert(write.issued.0);
        write
    }

    /// A write has ended.
    pub fn end_write(&self, write: Write, ending: Ending) {
        let mut inner = self.0.borrow_mut();
        inner.reads.remove(&write.issued.0);
        let (now, horizon) = (inner.tick(), inner.horizon());
        let ending = if inner.write_through && ending == Ending::Done { Ending::Stable } else { ending };
        // An answer from before the crash, come late: it promises what was flushed, and no more.
        let late = write.issued < inner.last_crash && ending == Ending::Done;
        let ending = if late { Ending::Unknown } else { ending };
        for run in write.units {
            inner.of(run).iter_mut().for_each(|history| history.end(write.id, ending, now, horizon));
        }
    }

    /// The content of a unit after that write.
    pub fn content(&self, unit: u64, write: WriteId, into: &mut [u8]) {
        fill(into, self.0.borrow().volume, unit, write);
    }

    /// A read is issued.
    pub fn begin_read(&self) -> Read {
        let mut inner = self.0.borrow_mut();
        let issued = inner.tick();
        inner.reads.insert(issued.0);
        Read { issued }
    }

    /// A read has ended: with the bytes from unit `first` on, or without any.
    ///
    /// # Errors
    /// Some unit holds what it must not hold.
    pub fn end_read(&self, read: Read, first: u64, bytes: Option<&[u8]>) -> Result<(), String> {
        let mut inner = self.0.borrow_mut();
        inner.reads.remove(&read.issued.0);
        let Some(bytes) = bytes.filter(|_| read.issued > inner.last_crash) else { return Ok(()) };
        let (size, volume) = (inner.unit, inner.volume);
        let now = inner.tick();
        for (unit, content) in (first..).zip(bytes.chunks(size)) {
            let found = stamp::read(content, volume, unit);
            let run = Units { first: unit, count: 1 };
            let Some(history) = inner.of(run).first_mut() else {
                return Err(format!("unit {unit} is beyond the end"));
            };
            history.check(found, read.issued, now).map_err(|what| format!("unit {unit} {what}"))?;
        }
        Ok(())
    }

    /// A flush is issued.
    #[must_use]
    pub fn begin_flush(&self) -> Flush {
        Flush { issued: self.0.borrow_mut().tick() }
    }

    /// A flush of these units has succeeded.
    pub fn end_flush(&self, flush: Flush, units: Units) {
        let mut inner = self.0.borrow_mut();
        if flush.issued < inner.last_crash {
            return;
        }
        let horizon = inner.horizon();
        inner.tick();
        inner.of(units).iter_mut().for_each(|history| history.flushed(flush.issued, horizon));
    }

    /// The array crashed. Writes under way are ended by it; ending them later changes nothing.
    pub fn crash(&self, power: bool) {
        let mut inner = self.0.borrow_mut();
        let now = inner.tick();
        inner.reads.clear();
        inner.last_crash = now;
        inner.histories.iter_mut().for_each(|history| history.crashed(power, now));
    }

    /// The array stopped in good order: everything that a host could see is stable.
    pub fn stopped(&self) {
        let mut inner = self.0.borrow_mut();
        let now = inner.tick();
        inner.histories.iter_mut().for_each(|history| history.flushed(now, NEVER));
        drop(inner);
        self.crash(true);
    }

    /// What the units hold, where that is certain: the bytes, to compare with.
    #[must_use]
    pub fn certain(&self, units: Units) -> Option<Vec<u8>> {
        let mut inner = self.0.borrow_mut();
        let (size, volume) = (inner.unit, inner.volume);
        let now = inner.tick();
        let mut bytes = vec![0; size * usize::try_from(units.count).ok()?];
        let histories = inner.of(units);
        for ((unit, history), content) in units.numbers().zip(histories).zip(bytes.chunks_mut(size)) {
            let (write, zeroes) = history.certain(now)?;
            if !zeroes {
                fill(content, volume, unit, write);
            }
        }
        Some(bytes)
    }

    /// A COMPARE AND WRITE of these units against `expected` has ended, its write not yet: with an
    /// equal comparison or with a difference.
    ///
    /// # Errors
    /// It cannot have been so.
    pub fn compared(&self, write: &Write, units: Units, expected: &[u8], equal: bool) -> Result<(), String> {
        let mut inner = self.0.borrow_mut();
        if write.issued < inner.last_crash {
            return Ok(());
        }
        let (size, volume) = (inner.unit, inner.volume);
        let mut may_differ = false;
        let histories = inner.of(units);
        for ((unit, history), content) in units.numbers().zip(histories).zip(expected.chunks(size)) {
            let found = stamp::read(content, volume, unit);
            let (same, other) = history.comparison(found, write.id, write.issued);
            may_differ |= other;
            if equal && !same {
                return Err(format!("unit {unit} compared equal to {found}, which it cannot have held"));
            }
            if equal {
                history.replace(found).map_err(|what| format!("unit {unit}: {what}"))?;
            }
        }
        if equal || may_differ {
            return Ok(());
        }
        Err(format!("units from {} on miscompared with what they certainly hold", units.first))
    }
}

#[cfg(test)]
mod tests;
