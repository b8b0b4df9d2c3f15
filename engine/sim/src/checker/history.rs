//! What one unit may hold: the writes to it that still matter, and the rules.
//!
//! Every write has the time at which its host issued it, the time by which it had its effect or
//! never would have it (`ended`), and the time from which on everybody must see it or something
//! later (`visible`): when it was acknowledged, or when a read returned it. One write is *after*
//! another where it was issued when the other had ended; otherwise their order is open, until a
//! read tells.
//!
//! - A read may return a write unless one that is after it was visible when the read was issued.
//! - A crash may leave a write unless one that is after it was stable: written with FUA and
//!   acknowledged, or visible before a flush was issued that succeeded.

use super::stamp::{Found, WriteId};

/// A moment, in the order in which things were issued and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub(super) u64);

pub(super) const NEVER: Tick = Tick(u64::MAX);

/// What a write leaves in a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// The content of that write for this unit.
    Own,
    /// The content of that write for that other unit (a pattern that is repeated).
    Of(u64),
    /// Zeroes.
    Zeroes,
}

#[derive(Clone, Copy, Debug)]
struct Version {
    write: WriteId,
    holds: Holds,
    issued: Tick,
    ended: Tick,
    visible: Tick,
    stable: bool,
    /// A COMPARE AND WRITE that found this value has replaced it.
    replaced: bool,
    /// It survived a power failure that came after it had ended, if it is there at all.
    hardened: bool,
    /// It failed, and may have its effect later all the same: while the disk has writes under way
    /// with numbers below this one. 0: it may not.
    lingers: u64,
}

impl Version {
    fn is_after(&self, other: &Self) -> bool {
        other.ended < self.issued
    }

    fn matches(&self, found: Found) -> bool {
        match found {
            Found::Write(write) => write == self.write && self.holds == Holds::Own,
            Found::Misplaced { unit, write } => write == self.write && self.holds == Holds::Of(unit),
            Found::Zeroes => self.holds == Holds::Zeroes,
            _ => false,
        }
    }
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Acknowledged.
    Done,
    /// Acknowledged as stable: FUA, or a volume without volatile cache.
    Stable,
    /// It certainly had and will have no effect.
    Nothing,
    /// It may have had its effect, but will not have it later.
    Unknown,
    /// It was given up and may have its effect later, but not after a later write to the same place:
    /// a device command that timed out keeps its range until its completion comes. Over as soon as
    /// the disk has completed everything that it had under way now.
    Lingering,
}

/// The writes to one unit that still matter.
#[derive(Clone, Debug)]
pub(super) struct History {
    versions: Vec<Version>,
}

impl History {
    pub(super) fn new() -> Self {
        let zero = Tick(0);
        Self {
            versions: vec![Version {
                write: WriteId(0),
                holds: Holds::Zeroes,
                issued: zero,
                ended: zero,
                visible: zero,
                stable: true,
                replaced: false,
                hardened: false,
                lingers: 0,
            }],
        }
    }

    pub(super) fn begin(&mut self, write: WriteId, holds: Holds, now: Tick) {
        self.versions.push(Version {
            write,
            holds,
            issued: now,
            ended: NEVER,
            visible: NEVER,
            stable: false,
            replaced: false,
            hardened: false,
            lingers: 0,
        });
    }

    /// A write ends; true where it had no effect and was seen all the same. `horizon`: the oldest read under way. `next`: the number of the disk's next write.
    pub(super) fn end(
        &mut self,
        write: WriteId,
        ending: Ending,
        now: Tick,
        horizon: Tick,
        next: u64,
    ) -> bool {
        if ending == Ending::Nothing {
            let mine = |version: &Version| version.write == write;
            let seen = self.versions.iter().any(|version| mine(version) && version.visible < NEVER);
            self.versions.retain(|version| !mine(version));
            return seen;
        }
        for version in self.versions.iter_mut().filter(|version| version.write == write) {
            version.ended = version.ended.min(now);
            version.lingers = if ending == Ending::Lingering { next } else { 0 };
            if matches!(ending, Ending::Done | Ending::Stable) {
                version.visible = version.visible.min(now);
                version.stable |= ending == Ending::Stable;
            }
        }
        self.prune(horizon);
        false
    }

    /// A flush that was issued then has succeeded.
    pub(super) fn flushed(&mut self, issued: Tick, horizon: Tick) {
        for version in self.versions.iter_mut().filter(|version| version.visible < issued) {
            version.stable = true;
        }
        self.prune(horizon);
    }

    /// Everything ends at once. What was in flight may be there; what was not stable may not.
    pub(super) fn crashed(&mut self, power: bool, now: Tick) {
        for version in &mut self.versions {
            version.ended = version.ended.min(now);
            version.replaced = false;
            version.hardened |= power;
            version.lingers = 0;
            if !version.stable {
                version.visible = NEVER;
            }
        }
        self.prune(NEVER);
    }

    /// The disk lost what was not stable, or did not; what is in flight goes on.
    pub(super) fn lost(&mut self) {
        for version in self.versions.iter_mut().filter(|version| !version.stable) {
            (version.visible, version.replaced) = (NEVER, false);
        }
    }

    /// Whether a write is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.versions.iter().any(|version| version.ended == NEVER)
    }

    fn allowed(&self, issued: Tick) -> impl Iterator<Item = &Version> {
        let hidden = move |version: &Version| {
            self.versions.iter().any(|other| other.visible < issued && other.is_after(version))
        };
        self.versions.iter().filter(move |version| version.issued < NEVER && !hidden(version))
    }

    /// Judges what a read found that was issued then, when `oldest` was the lowest number of the disk's
    /// writes under way, and learns from it. Returns the write that was found, where that is certain.
    pub(super) fn check(
        &mut self,
        found: Found,
        issued: Tick,
        now: Tick,
        oldest: u64,
    ) -> Result<Option<WriteId>, String> {
        let Some(seen) = self.allowed(issued).find(|version| version.matches(found)).copied() else {
            return Err(format!("holds {found}, but may hold {}", self.describe(issued)));
        };
        // Zeroes do not say which of several writes they are from: then nothing is learnt.
        let same = self.versions.iter().filter(|version| version.matches(found)).count();
        if same > 1 {
            return Ok(None);
        }
        // What lingers is over when the disk is done with all that it had under way then.
        let settled = self.versions.iter().all(|version| {
            version.write == seen.write || (version.ended < issued && version.lingers <= oldest)
        });
        for version in self.versions.iter_mut().filter(|version| version.write == seen.write) {
            version.visible = version.visible.min(now);
            if settled && version.ended < issued {
                // Everything was over when the read began, so this one came last.
                version.issued = now;
                version.ended = now;
                version.stable |= version.hardened;
            }
        }
        Ok(Some(seen.write))
    }

    fn describe(&self, issued: Tick) -> String {
        let parts: Vec<String> = self
            .allowed(issued)
            .map(|version| {
                let what = if version.holds == Holds::Zeroes { "zeroes of write" } else { "write" };
                let state = match (version.stable, version.visible, version.ended) {
                    (true, ..) => "stable",
                    (_, NEVER, NEVER) => "in flight",
                    (_, NEVER, _) => "in doubt",
                    _ => "acknowledged or seen",
                };
                format!("{what} {} ({state})", version.write.0)
            })
            .collect();
        parts.join(" or ")
    }

    /// The write that a read would find now, where only one is possible and nothing is under way.
    pub(super) fn certain(&self, now: Tick) -> Option<(WriteId, Holds)> {
        let mut allowed = self.allowed(now);
        match (allowed.next(), allowed.next()) {
            (Some(only), None) if only.ended < NEVER => Some((only.write, only.holds)),
            _ => None,
        }
    }

    /// Whether a comparison, issued then, of something else than `own` against `expected` may have
    /// been equal, and whether it may have differed.
    pub(super) fn comparison(&self, expected: Found, own: WriteId, issued: Tick) -> (bool, bool) {
        let others = || self.allowed(issued).filter(|version| version.write != own);
        (
            others().any(|version| version.matches(expected)),
            others().any(|version| !version.matches(expected)),
        )
    }

    /// A COMPARE AND WRITE has replaced that value, which can happen to it only once.
    pub(super) fn replace(&mut self, expected: Found) -> Result<(), String> {
        if let Found::Write(write) = expected {
            for version in self.versions.iter_mut().filter(|version| version.write == write) {
                if std::mem::replace(&mut version.replaced, true) {
                    return Err(format!("write {} was replaced by two COMPARE AND WRITEs", write.0));
                }
            }
        }
        Ok(())
    }

    /// Forgets what neither a read nor a crash can bring back.
    fn prune(&mut self, horizon: Tick) {
        let mut at = 0;
        while let Some(version) = self.versions.get(at) {
            let gone = self
                .versions
                .iter()
                .any(|other| other.stable && other.visible < horizon && other.is_after(version));
            if gone {
                self.versions.remove(at);
            } else {
                at += 1;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.versions.len()
    }
}
