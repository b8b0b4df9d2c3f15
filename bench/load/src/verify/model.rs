//! What every block may hold: the checker's memory of writes, acknowledgements and flushes.
//!
//! A block that nobody has written since it was last known stable is one number: the generation
//! it holds. Any other block has a short list of *versions*, oldest first, each with the moments
//! (ticks of the model's own event counter) at which it was issued and at which it ended.
//!
//! * A version is **certain** when its write was acknowledged. One whose connection was cut, or
//!   that ended with an error, has ended but may or may not have taken effect.
//! * A certain version *hides* those that had ended before it was issued. A read that was issued at
//!   tick `r` may return every version not hidden by one that ended before `r`. Writes that were
//!   under way together may have landed in either order.
//! * A version is **stable** when it was written with FUA, or when a SYNCHRONIZE CACHE that was
//!   issued after it ended was acknowledged. After a crash every version that no stable one hides
//!   may be found; an acknowledged and flushed write may not be missing.
//!
//! Pure code: no sockets, no clock. The checker's host calls it for every event.

use super::stamp::{Found, Generation};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

/// A moment: ticks of the model's event counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tick(u64);

/// A tick that never comes: the end of a write still under way.
const NEVER: Tick = Tick(u64::MAX);

/// One write's value of one block.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Version {
    generation: u32,
    issued: Tick,
    ended: Tick,
    certain: bool,
    stable: bool,
}

impl Version {
    fn before(generation: u32) -> Self {
        Self { generation, issued: Tick(0), ended: Tick(0), certain: true, stable: true }
    }

    /// Whether `self` makes `other` unreadable for a read issued at `at`.
    fn hides(&self, other: &Self, at: Tick) -> bool {
        self.certain && self.ended < at && self.issued > other.ended
    }
}

/// A write that was handed to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteTicket {
    /// First block, counted from the start of the checked region.
    pub first: u64,
    /// How many blocks.
    pub blocks: u32,
    /// What it wrote.
    pub generation: Generation,
}

/// A block that does not hold what it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The block, counted from the start of the checked region.
    pub block: u64,
    /// In words: what was allowed.
    pub expected: String,
    /// What was there.
    pub found: Found,
}

/// The rule by which a block is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// By a read that was issued then: nothing acknowledged before may be missing.
    Read(Tick),
    /// After a crash: what was not flushed may be missing.
    Crash,
}

/// The model of one logical unit's checked region.
#[derive(Debug)]
pub struct Model {
    settled: Vec<u32>,
    open: HashMap<u64, Vec<Version>>,
    now: u64,
    flushed: Tick,
    reads: BTreeSet<Tick>,
    /// The unit has no volatile cache (WCE=0): every acknowledged write is stable.
    write_through: bool,
}

/// The model as it is kept in a state file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    /// Runs of equal generations: (generation, blocks).
    settled: Vec<(u32, u64)>,
    open: Vec<(u64, Vec<Version>)>,
    now: u64,
    flushed: Tick,
}

impl Model {
    /// A region of that many blocks, all with unknown contents.
    #[must_use]
    pub fn new(blocks: usize, write_through: bool) -> Self {
        Self {
            settled: vec![0; blocks],
            open: HashMap::new(),
            now: 1,
            flushed: Tick(0),
            reads: BTreeSet::new(),
            write_through,
        }
    }

    /// From now on every acknowledged write counts as stable, as on a unit without a write cache.
    pub fn assume_write_through(&mut self) {
        self.write_through = true;
    }

    /// Blocks in the region.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.settled.len() as u64
    }

    /// Blocks with more than one thinkable value, now or after a crash.
    #[must_use]
    pub fn open_blocks(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.open.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// The largest generation that the model knows.
    #[must_use]
    pub fn last_generation(&self) -> Generation {
        let open = self.open.values().flatten().map(|version| version.generation);
        Generation(open.chain(self.settled.iter().copied()).max().unwrap_or(0))
    }

    fn tick(&mut self) -> Tick {
        self.now += 1;
        Tick(self.now)
    }

    /// A write is about to be sent. Blocks beyond the region are ignored.
    pub fn write_issued(&mut self, ticket: &WriteTicket) {
        let issued = self.tick();
        let generation = ticket.generation.0;
        let version = Version { generation, issued, ended: NEVER, certain: false, stable: false };
        for (block, settled) in region(&self.settled, ticket) {
            self.open.entry(block).or_insert_with(|| vec![Version::before(settled)]).push(version);
        }
    }

    /// The target said GOOD; `fua` where the command had Force Unit Access set.
    pub fn write_acknowledged(&mut self, ticket: &WriteTicket, fua: bool) {
        let stable = fua || self.write_through;
        self.end(ticket, true, stable);
        if stable {
            self.prune(ticket);
        }
    }

    /// The write ended without an answer, or with an error: it may have taken effect, but from now
    /// on it no longer will. To be called when the session that carried it was reinstated.
    pub fn write_unknown(&mut self, ticket: &WriteTicket) {
        self.end(ticket, false, false);
    }

    fn end(&mut self, ticket: &WriteTicket, certain: bool, stable: bool) {
        let ended = self.tick();
        for (block, _) in region(&self.settled, ticket) {
            let versions = self.open.get_mut(&block).map(Vec::as_mut_slice).unwrap_or_default();
            let ours = versions
                .iter_mut()
                .find(|version| version.generation == ticket.generation.0 && version.ended == NEVER);
            if let Some(version) = ours {
                *version = Version { ended, certain, stable, ..*version };
            }
        }
    }

    /// A SYNCHRONIZE CACHE of the whole unit is about to be sent; keep the tick for its end.
    pub fn flush_issued(&mut self) -> Tick {
        self.tick()
    }

    /// The SYNCHRONIZE CACHE that was issued at that tick ended GOOD.
    pub fn flush_acknowledged(&mut self, issued: Tick) {
        self.flushed = self.flushed.max(issued);
        for versions in self.open.values_mut() {
            for version in versions.iter_mut().filter(|version| version.ended < issued) {
                version.stable = true;
            }
        }
        let horizon = self.horizon();
        let settled = &mut self.settled;
        self.open.retain(|block, versions| !settle(settled, *block, versions, horizon));
    }

    /// A read is about to be sent; keep the tick for its check and its end.
    pub fn read_issued(&mut self) -> Tick {
        let tick = self.tick();
        self.reads.insert(tick);
        tick
    }

    /// The read is over, checked or lost.
    pub fn read_ended(&mut self, issued: Tick) {
        self.reads.remove(&issued);
    }

    /// Judges what was found in a block.
    ///
    /// # Errors
    /// The block holds something that the rule does not allow.
    pub fn check(&self, block: u64, found: Found, rule: Rule) -> Result<(), Mismatch> {
        let settled = usize::try_from(block).ok().and_then(|at| self.settled.get(at)).copied();
        let Some(settled) = settled else { return Ok(()) };
        let base = [Version::before(settled)];
        let versions = self.open.get(&block).map_or(&base[..], Vec::as_slice);
        let allowed = |version: &&Version| !versions.iter().any(|other| hidden(other, version, rule));
        if versions.iter().filter(allowed).any(|version| matches(version, found)) {
            return Ok(());
        }
        let mut expected = String::new();
        for (n, version) in versions.iter().filter(allowed).enumerate() {
            let or = if n == 0 { "" } else { " or " };
            let what = match (version.certain, version.ended) {
                _ if version.generation == 0 => "the contents from before the run",
                (true, _) if version.stable => "acknowledged and flushed",
                (true, _) => "acknowledged",
                (false, NEVER) => "in flight",
                (false, _) => "cut off",
            };
            // Writing to a string does not fail.
            let _ = write!(expected, "{or}write {} ({what})", version.generation);
        }
        if let Found::Stamp(generation) = found
            && versions.iter().any(|version| version.generation == generation.0)
        {
            expected.push_str(", not an older write");
        }
        Err(Mismatch { block, expected, found })
    }

    /// Takes what a read found as the block's value from now on, where that is safe to say: no write
    /// to the block is under way. To be called after [`check`](Self::check) passed.
    ///
    /// After a crash (and the SYNCHRONIZE CACHE that follows the reconnection) the value found is
    /// also the stable one.
    pub fn resolve(&mut self, block: u64, found: Found, rule: Rule) {
        let horizon = self.horizon();
        let Some(versions) = self.open.get_mut(&block) else { return };
        if versions.iter().any(|version| version.ended == NEVER) {
            return;
        }
        let Some(seen) = versions.iter().find(|version| matches(version, found)).copied() else { return };
        if rule == Rule::Crash {
            if let Some(slot) = usize::try_from(block).ok().and_then(|at| self.settled.get_mut(at)) {
                *slot = seen.generation;
            }
            self.open.remove(&block);
            return;
        }
        let Rule::Read(issued) = rule else { return };
        if versions.iter().any(|version| version.ended > issued) {
            return;
        }
        // What was issued after the value seen had ended, and is not seen, never took effect.
        let late = |version: &Version| !version.certain && version.issued > seen.ended;
        versions.retain(|version| version.generation == seen.generation || !late(version));
        let rivals = versions.iter().any(|other| {
            other.generation != seen.generation && !seen.hides(other, NEVER) && other.issued > Tick(0)
        });
        if rivals || !seen.certain {
            versions.retain(|version| version.generation != seen.generation);
            self.now += 2;
            let (issued, ended) = (Tick(self.now - 1), Tick(self.now));
            versions.push(Version { issued, ended, certain: true, stable: false, ..seen });
        }
        if settle(&mut self.settled, block, versions, horizon) {
            self.open.remove(&block);
        }
    }

    /// Every write to the region has a value from before `tick`: what was in flight when the
    /// program that wrote the state file ended may have taken effect.
    pub fn end_all_in_flight(&mut self) {
        let ended = self.tick();
        for version in self.open.values_mut().flatten().filter(|version| version.ended == NEVER) {
            version.ended = ended;
        }
        self.reads.clear();
    }

    /// The model for a state file.
    #[must_use]
    pub fn save(&self) -> Saved {
        let mut settled: Vec<(u32, u64)> = Vec::new();
        for generation in &self.settled {
            match settled.last_mut() {
                Some((last, count)) if last == generation => *count += 1,
                _ => settled.push((*generation, 1)),
            }
        }
        let mut open: Vec<_> = self.open.iter().map(|(block, list)| (*block, list.clone())).collect();
        open.sort_unstable_by_key(|(block, _)| *block);
        Saved { settled, open, now: self.now, flushed: self.flushed }
    }

    /// The model from a state file, with everything in flight ended.
    ///
    /// # Errors
    /// The runs do not add up to `blocks`, or a list is not one that [`save`](Self::save) writes.
    pub fn load(saved: Saved, blocks: usize, write_through: bool) -> Result<Self, String> {
        let total: u64 = saved.settled.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
        if total != blocks as u64 {
            return Err(format!("the state is of {total} blocks, not of {blocks}"));
        }
        let mut model = Self::new(0, write_through);
        model.settled.reserve_exact(blocks);
        for (generation, count) in &saved.settled {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            model.settled.extend(std::iter::repeat_n(*generation, count));
        }
        if saved.open.iter().any(|(block, versions)| *block >= total || versions.is_empty()) {
            return Err("a list of versions is out of place".to_owned());
        }
        model.open = saved.open.into_iter().collect();
        (model.now, model.flushed) = (saved.now, saved.flushed);
        model.end_all_in_flight();
        Ok(model)
    }

    /// Versions that a read under way may still return must stay: they end at this tick or later.
    fn horizon(&self) -> Tick {
        self.reads.first().copied().unwrap_or(NEVER)
    }

    fn prune(&mut self, ticket: &WriteTicket) {
        let horizon = self.horizon();
        let end = ticket.first.saturating_add(u64::from(ticket.blocks)).min(self.settled.len() as u64);
        for block in ticket.first..end {
            if let Some(versions) = self.open.get_mut(&block)
                && settle(&mut self.settled, block, versions, horizon)
            {
                self.open.remove(&block);
            }
        }
    }
}

/// The blocks of a write, each with its settled generation.
fn region(settled: &[u32], ticket: &WriteTicket) -> impl Iterator<Item = (u64, u32)> + use<> {
    let end = ticket.first.saturating_add(u64::from(ticket.blocks)).min(settled.len() as u64);
    let first = ticket.first.min(end);
    let at = |block: u64| usize::try_from(block).unwrap_or(usize::MAX);
    let run: Vec<u32> = settled.get(at(first)..at(end)).unwrap_or_default().to_vec();
    (first..end).zip(run)
}

/// Whether `other` hides `version` by that rule.
fn hidden(other: &Version, version: &Version, rule: Rule) -> bool {
    match rule {
        Rule::Read(issued) => other.hides(version, issued),
        Rule::Crash => other.stable && other.hides(version, NEVER),
    }
}

fn matches(version: &Version, found: Found) -> bool {
    match found {
        Found::Stamp(generation) => version.generation == generation.0,
        // Before the run the volume may have held anything, an earlier run's stamps too.
        Found::OtherVolume(_) | Found::Zeroes | Found::Foreign => version.generation == 0,
        Found::Misplaced { .. } | Found::Damaged(_) => false,
    }
}

/// Drops the versions that can be found neither by a read under way nor after a crash. True when
/// one stable value is left, which is then the settled one.
fn settle(settled: &mut [u32], block: u64, versions: &mut Vec<Version>, horizon: Tick) -> bool {
    let mut at = 0;
    while at < versions.len() {
        let gone = versions.iter().any(|other| other.stable && other.hides(&versions[at], horizon));
        if gone {
            versions.remove(at);
        } else {
            at += 1;
        }
    }
    match versions.as_slice() {
        [only] if only.certain && only.stable && only.ended < horizon => {
            if let Some(slot) = usize::try_from(block).ok().and_then(|at| settled.get_mut(at)) {
                *slot = only.generation;
            }
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
