//! What the blocks of a volume may hold, after all that was written, flushed and lost.
//!
//! A volume is checked in *units*: the smaller of its block and of what its disk writes whole.
//! Hosts tell the checker when they issue something and how it ended; what they read they have
//! judged here. The rules are in `history.rs`, and hold for any number of hosts at once.
//!
//! The checker knows nothing of the array: it is told only what a host can see.

mod history;
mod mode;
mod presence;
mod reserve;
mod stamp;
mod whole;

pub use history::Ending;
pub use mode::{ModeChange, ModeEnding};
pub use presence::{Device, Presence, Seen};
pub use reserve::{Change, HostNumber, Order, Outcome, Reservations, Since};
pub use stamp::{Found, WriteId, fill, read};

use crate::disk::DiskId;
use crate::world::World;
use history::{History, Holds, NEVER, Tick};
use mode::CacheMode;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use whole::Commands;

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
    /// The lowest number of the disk's writes under way then.
    oldest: u64,
}

/// A flush under way.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    issued: Tick,
}

/// No write's number.
const NOBODY: WriteId = WriteId(u64::MAX);

#[derive(Debug)]
struct Inner {
    volume: u64,
    unit: usize,
    histories: Vec<History>,
    now: u64,
    commands: Commands,
    /// Commands that write up to so many units take effect at once.
    whole: u64,
    /// Units that something was written to.
    touched: Vec<bool>,
    /// Where it can be seen what the disk has under way.
    disk: Option<(World, DiskId)>,
    reads: BTreeSet<u64>,
    /// What was issued before and is answered later says nothing of what is there now.
    last_crash: Tick,
    /// The same, where only the disk lost something; and that it may be doing so now.
    last_loss: Tick,
    losing: bool,
    mode: CacheMode,
    reservations: Reservations,
    device: Device,
    /// A write that was refused had been seen.
    wrong: Option<String>,
    /// A mode that is to be saved was changed, at the last.
    saving: Tick,
}

impl Inner {
    fn tick(&mut self) -> Tick {
        self.now += 1;
        Tick(self.now)
    }

    /// Whether what was issued then may have seen what the disk has lost since.
    fn is_lost(&self, issued: Tick) -> bool {
        self.losing || issued < self.last_loss
    }

    fn horizon(&self) -> Tick {
        self.reads.first().map_or(NEVER, |tick| Tick(*tick))
    }

    /// The number of the disk's next write, and the lowest of those under way.
    fn under_way(&self) -> (u64, u64) {
        self.disk.as_ref().map_or((0, 0), |(world, disk)| world.writes_under_way(*disk))
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
            commands: Commands::new(),
            whole: 0,
            touched: vec![false; units],
            disk: None,
            reads: BTreeSet::new(),
            last_crash: Tick(0),
            last_loss: Tick(0),
            losing: false,
            mode: CacheMode::new(write_through),
            reservations: Reservations::default(),
            device: Device::new(),
            wrong: None,
            saving: Tick(0),
        })))
    }

    /// The volume is on that disk: a write that was given up may have its effect while the disk still
    /// has it under way.
    #[must_use]
    pub fn on_disk(self, world: &World, disk: DiskId) -> Self {
        self.0.borrow_mut().disk = Some((world.clone(), disk));
        self
    }

    /// The volume promises that a read never sees a part of a command that writes up to so many units.
    #[must_use]
    pub fn with_whole_commands(self, units: u64) -> Self {
        self.0.borrow_mut().whole = units;
        self
    }

    /// The volume's persistent reservations.
    #[must_use]
    pub fn reservations(&self) -> Reservations {
        self.0.borrow().reservations.clone()
    }

    /// The life of the volume's device.
    #[must_use]
    pub fn device(&self) -> Device {
        self.0.borrow().device.clone()
    }

    /// Whether the disk has a write of some of these units under way.
    #[must_use]
    pub fn is_on_its_way(&self, units: Units) -> bool {
        let inner = self.0.borrow();
        let size = inner.unit as u64;
        let bytes = units.first * size..(units.first + units.count) * size;
        inner.disk.as_ref().is_some_and(|(world, disk)| world.is_writing(*disk, bytes))
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
        let holds = |_| if zeroes { Holds::Zeroes } else { Holds::Own };
        self.begin(units, !zeroes, holds)
    }

    /// A write is issued that repeats what it has for the first `every` units (WRITE SAME).
    pub fn begin_repeated(&self, units: Units, every: u64) -> Write {
        self.begin(&[units], false, |unit| match units.first + (unit - units.first) % every.max(1) {
            same if same == unit => Holds::Own,
            other => Holds::Of(other),
        })
    }

    fn begin(&self, units: &[Units], whole: bool, holds: impl Fn(u64) -> Holds) -> Write {
        let mut inner = self.0.borrow_mut();
        let issued = inner.tick();
        let count: u64 = units.iter().map(|run| run.count).sum();
        let whole = whole && units.len() == 1 && count <= inner.whole;
        let id = inner.commands.begin(units, whole, issued);
        for run in units {
            for (unit, history) in run.numbers().zip(inner.of(*run)) {
                history.begin(id, holds(unit), issued);
            }
            let range = run.indices();
            inner.touched.get_mut(range).into_iter().flatten().for_each(|touched| *touched = true);
        }
        Write { id, units: units.to_vec(), issued }
    }

    /// A write is issued that takes effect at once, whatever else the volume promises.
    pub fn begin_exclusive(&self, units: Units) -> Write {
        let write = self.begin_write(&[units], false);
        if let Some(command) = self.0.borrow_mut().commands.get(write.id) {
            command.whole = true;
        }
        write
    }

    /// Whether a write that is not over is to some of these units.
    #[must_use]
    pub fn is_written_now(&self, units: Units) -> bool {
        self.0.borrow_mut().of(units).iter().any(History::is_busy)
    }

    /// The first run of units from `first` on that something was written to, at most `most` of them.
    #[must_use]
    pub fn next_touched(&self, first: u64, most: u64) -> Option<Units> {
        let inner = self.0.borrow();
        let start = usize::try_from(first).ok()?;
        let skip = inner.touched.get(start..)?.iter().position(|touched| *touched)?;
        let rest = inner.touched.get(start + skip..)?;
        let count = rest.iter().position(|touched| !*touched).unwrap_or(rest.len()) as u64;
        Some(Units { first: first + skip as u64, count: count.min(most) })
    }

    /// A COMPARE AND WRITE is issued. It is a read as well: what it may find must be remembered.
    pub fn begin_compare(&self, units: Units) -> Write {
        let write = self.begin_exclusive(units);
        self.0.borrow_mut().reads.insert(write.issued.0);
        write
    }

    /// A write has ended.
    pub fn end_write(&self, write: Write, ending: Ending) {
        let mut inner = self.0.borrow_mut();
        inner.reads.remove(&write.issued.0);
        let (now, horizon) = (inner.tick(), inner.horizon());
        let through = inner.mode.is_through_since(write.issued);
        let ending = if through && ending == Ending::Done { Ending::Stable } else { ending };
        // An answer from before the crash, come late: it promises what was flushed, and no more.
        let late = write.issued < inner.last_crash && ending == Ending::Done;
        let ending = if late { Ending::Unknown } else { ending };
        let good = matches!(ending, Ending::Done | Ending::Stable);
        let part = inner.commands.end(write.id, good, now);
        inner.wrong = inner.wrong.take().or(part);
        let (next, _) = inner.under_way();
        let mut refused = false;
        for run in write.units {
            for history in inner.of(run) {
                refused |= history.end(write.id, ending, now, horizon, next);
            }
        }
        if refused {
            inner.wrong = Some(format!("write {} was refused, but had been seen before", write.id.0));
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
        let (_, oldest) = inner.under_way();
        Read { issued, oldest }
    }

    /// A read has ended: with the bytes from unit `first` on, or without any.
    ///
    /// # Errors
    /// Some unit holds what it must not hold.
    pub fn end_read(&self, read: Read, first: u64, bytes: Option<&[u8]>) -> Result<(), String> {
        let mut inner = self.0.borrow_mut();
        inner.reads.remove(&read.issued.0);
        let lost = inner.is_lost(read.issued);
        let Some(bytes) = bytes.filter(|_| read.issued > inner.last_crash && !lost) else { return Ok(()) };
        if let Some(wrong) = inner.wrong.take() {
            return Err(wrong);
        }
        let (size, volume) = (inner.unit, inner.volume);
        let now = inner.tick();
        let mut seen = Vec::with_capacity(bytes.len() / size.max(1));
        for (unit, content) in (first..).zip(bytes.chunks(size)) {
            let found = stamp::read(content, volume, unit);
            let run = Units { first: unit, count: 1 };
            let Some(history) = inner.of(run).first_mut() else {
                return Err(format!("unit {unit} is beyond the end"));
            };
            let write = history
                .check(found, read.issued, now, read.oldest)
                .map_err(|what| format!("unit {unit} {what}"))?;
            seen.push(write);
        }
        inner.commands.judge(first, &seen)
    }

    /// The WCE bit is to be changed, or (`None`) set back by a reset.
    pub fn begin_mode(&self, write_back: Option<bool>, save: bool) -> ModeChange {
        let mut inner = self.0.borrow_mut();
        let now = inner.tick();
        if save {
            inner.saving = now;
        }
        inner.mode.begin(write_back, save, now)
    }

    /// It was, or was not.
    pub fn end_mode(&self, change: &ModeChange, ending: ModeEnding) {
        let mut inner = self.0.borrow_mut();
        if change.issued < inner.last_crash {
            return;
        }
        let now = inner.tick();
        if inner.mode.end(change, ending, now) {
            let horizon = inner.horizon();
            inner.histories.iter_mut().for_each(|history| history.flushed(change.issued, horizon));
        }
    }

    /// A flush is issued.
    #[must_use]
    pub fn begin_flush(&self) -> Flush {
        Flush { issued: self.0.borrow_mut().tick() }
    }

    /// A flush of these units has succeeded.
    pub fn end_flush(&self, flush: Flush, units: Units) {
        let mut inner = self.0.borrow_mut();
        if flush.issued < inner.last_crash || inner.is_lost(flush.issued) {
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
        inner.losing = false;
        let saving = inner.saving > inner.last_crash;
        inner.last_crash = now;
        inner.reservations.restarted();
        inner.mode.crashed(now, saving);
        inner.commands.crashed(now);
        inner.histories.iter_mut().for_each(|history| history.crashed(power, now));
    }

    /// The disk goes, and loses what is not stable. Hosts go on; what they see is judged again after
    /// [`end_loss`](Self::end_loss), as nobody knows when the array turns from what it has in its cache to what is there.
    pub fn begin_loss(&self) {
        self.0.borrow_mut().losing = true;
    }

    /// The array goes on with the disk, and has told the hosts: what was not stable may be there, or not.
    pub fn end_loss(&self) {
        let mut inner = self.0.borrow_mut();
        if !std::mem::replace(&mut inner.losing, false) {
            return;
        }
        let now = inner.tick();
        inner.last_loss = now;
        inner.commands.lost();
        inner.histories.iter_mut().for_each(History::lost);
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
            match history.certain(now)? {
                (_, Holds::Zeroes) => {}
                (write, Holds::Own) => fill(content, volume, unit, write),
                (write, Holds::Of(other)) => fill(content, volume, other, write),
            }
        }
        Some(bytes)
    }

    /// A comparison of these units with `expected`, issued as a read, has ended.
    ///
    /// # Errors
    /// It cannot have been so.
    pub fn verified(&self, read: Read, units: Units, expected: &[u8], equal: bool) -> Result<(), String> {
        let mut inner = self.0.borrow_mut();
        inner.reads.remove(&read.issued.0);
        if read.issued < inner.last_crash || inner.is_lost(read.issued) {
            return Ok(());
        }
        let (size, volume) = (inner.unit, inner.volume);
        let mut may_differ = false;
        let histories = inner.of(units);
        for ((unit, history), content) in units.numbers().zip(histories).zip(expected.chunks(size)) {
            let found = stamp::read(content, volume, unit);
            let (same, other) = history.comparison(found, NOBODY, read.issued);
            may_differ |= other;
            if equal && !same {
                return Err(format!("unit {unit} was verified as {found}, which it cannot have held"));
            }
        }
        if equal || may_differ {
            return Ok(());
        }
        Err(format!("units from {} on do not verify as what they certainly hold", units.first))
    }

    /// A COMPARE AND WRITE of these units against `expected` has ended, its write not yet: with an
    /// equal comparison or with a difference.
    ///
    /// # Errors
    /// It cannot have been so.
    pub fn compared(&self, write: &Write, units: Units, expected: &[u8], equal: bool) -> Result<(), String> {
        let mut inner = self.0.borrow_mut();
        if write.issued < inner.last_crash || inner.is_lost(write.issued) {
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
