//! Whole commands: what a read may see of a write that takes effect at once.
//!
//! Of each command the checker keeps where it wrote, when it was issued and when it had ended.
//! Where a read finds a command that is *whole* in one unit, it must find it, or something that may
//! be later, in every other unit that both are about. So each such pair says which of two commands
//! came first; if these orders contradict each other, or what is known from when they were issued,
//! the read saw a part of a command.
//!
//! A command that fails may leave a part. So where one is still under way, the read is judged when it ends.

use super::Units;
use super::history::{NEVER, Tick};
use super::stamp::WriteId;

/// A command that writes.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) units: Vec<Units>,
    pub(super) issued: Tick,
    pub(super) ended: Tick,
    /// It takes effect at once, for readers.
    pub(super) whole: bool,
    /// A read saw a part of it while it was under way: wrong unless it fails.
    part: Option<String>,
}

impl Command {
    fn covers(&self, unit: u64) -> bool {
        self.units.iter().any(|run| run.numbers().contains(&unit))
    }
}

/// All commands of a volume, by their numbers. The first is what was there before.
#[derive(Debug)]
pub(super) struct Commands(Vec<Command>);

impl Commands {
    pub(super) fn new() -> Self {
        Self(vec![Command { units: Vec::new(), issued: Tick(0), ended: Tick(0), whole: false, part: None }])
    }

    pub(super) fn begin(&mut self, units: &[Units], whole: bool, issued: Tick) -> WriteId {
        self.0.push(Command { units: units.to_vec(), issued, ended: NEVER, whole, part: None });
        WriteId(self.0.len() as u64 - 1)
    }

    /// A command has ended, with its effect or perhaps with a part of it. What a read saw of it that
    /// was wrong.
    pub(super) fn end(&mut self, write: WriteId, good: bool, now: Tick) -> Option<String> {
        let command = self.get(write)?;
        command.ended = command.ended.min(now);
        command.whole &= good;
        command.part.take().filter(|_| command.whole)
    }

    pub(super) fn get(&mut self, write: WriteId) -> Option<&mut Command> {
        self.0.get_mut(usize::try_from(write.0).unwrap_or(usize::MAX))
    }

    fn of(&self, write: WriteId) -> Option<&Command> {
        self.0.get(usize::try_from(write.0).unwrap_or(usize::MAX))
    }

    /// A crash may leave parts of everything that was not stable, and nobody says of what.
    pub(super) fn crashed(&mut self, now: Tick) {
        for command in &mut self.0 {
            command.ended = command.ended.min(now);
            command.whole = false;
        }
    }

    /// The disk may have lost parts of everything that was not stable; what is under way goes on.
    pub(super) fn lost(&mut self) {
        self.0.iter_mut().for_each(|command| command.whole = false);
    }

    /// Judges one read: `seen` is what it found from unit `first` on, where that is known.
    pub(super) fn judge(&mut self, first: u64, seen: &[Option<WriteId>]) -> Result<(), String> {
        let mut writes: Vec<WriteId> = seen.iter().flatten().copied().collect();
        writes.sort_unstable();
        writes.dedup();
        writes.retain(|write| self.of(*write).is_some_and(|command| command.whole) || write.0 == 0);
        let Err((what, of)) = self.contradiction(first, seen, &writes) else { return Ok(()) };
        let open: Vec<WriteId> = of
            .into_iter()
            .filter(|write| self.of(*write).is_some_and(|command| command.ended == NEVER))
            .collect();
        match open.as_slice() {
            [] => Err(what),
            [write] => {
                if let Some(command) = self.get(*write) {
                    command.part.get_or_insert(what);
                }
                Ok(())
            }
            // Any of them may fail: the next read will tell.
            _ => Ok(()),
        }
    }

    /// What one read says of the order of whole commands, where that cannot be, and of which.
    fn contradiction(
        &self,
        first: u64,
        seen: &[Option<WriteId>],
        whole: &[WriteId],
    ) -> Result<(), (String, Vec<WriteId>)> {
        // Pairs (a, b): a came before b, as some unit of a holds b.
        let mut before: Vec<(usize, usize, u64)> = Vec::new();
        for (at, write) in whole.iter().enumerate().filter(|(_, write)| write.0 > 0) {
            let Some(command) = self.of(*write) else { continue };
            for (unit, other) in (first..).zip(seen) {
                let Some(other) = other.filter(|other| other != write && command.covers(unit)) else {
                    continue;
                };
                if self.of(other).is_some_and(|other| other.ended < command.issued) {
                    let what = format!(
                        "unit {unit} holds write {} where the same read found write {}, which came after it",
                        other.0, write.0
                    );
                    return Err((what, vec![*write]));
                }
                let Ok(place) = whole.binary_search(&other) else { continue };
                if !before.iter().any(|(a, b, _)| (*a, *b) == (at, place)) {
                    before.push((at, place, unit));
                }
            }
        }
        let Some((a, b, unit)) = cycle(whole.len(), &before) else { return Ok(()) };
        let name = |at: usize| whole.get(at).map_or(0, |write| write.0);
        let what = format!(
            "one read found write {} before write {} in unit {unit}, and elsewhere after it",
            name(a),
            name(b)
        );
        let of = whole.iter().enumerate().filter(|(at, _)| before.iter().any(|(a, b, _)| a == at || b == at));
        Err((what, of.map(|(_, write)| *write).collect()))
    }
}

/// A pair that is part of a cycle, if there is any: takes out what nothing comes before, until
/// nothing is left or everything has something before it.
fn cycle(count: usize, before: &[(usize, usize, u64)]) -> Option<(usize, usize, u64)> {
    let mut left = before.to_vec();
    let mut gone = vec![false; count];
    loop {
        let free = (0..count).find(|&at| !gone[at] && !left.iter().any(|(_, b, _)| *b == at));
        match free {
            Some(at) => {
                gone[at] = true;
                left.retain(|(a, _, _)| *a != at);
            }
            None => return left.first().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u64) -> Units {
        Units { first, count }
    }

    fn three() -> (Commands, [WriteId; 3]) {
        let mut commands = Commands::new();
        let a = commands.begin(&[run(0, 2)], true, Tick(1));
        let b = commands.begin(&[run(1, 2)], true, Tick(2));
        let c = commands.begin(&[run(0, 1), run(2, 1)], true, Tick(3));
        (commands, [a, b, c])
    }

    #[test]
    fn orders_that_fit_are_good() {
        let (mut commands, [a, b, c]) = three();
        assert_eq!(commands.judge(0, &[Some(a), Some(b), Some(b)]), Ok(()));
        assert_eq!(commands.judge(0, &[Some(c), Some(b), Some(c)]), Ok(()));
        assert_eq!(commands.judge(0, &[None, Some(b), None]), Ok(()));
    }

    #[test]
    fn a_circle_of_three_is_found() {
        let (mut commands, [a, b, c]) = three();
        for write in [a, b, c] {
            assert_eq!(commands.end(write, true, Tick(8)), None);
        }
        // a before b in unit 1, b before c in unit 2, c before a in unit 0.
        let error = commands.judge(0, &[Some(a), Some(b), Some(c)]).unwrap_err();
        assert!(error.contains("elsewhere after it"), "{error}");
    }

    #[test]
    fn half_of_a_write_over_old_data_is_found() {
        let (mut commands, [a, b, _]) = three();
        // Under way: it is wrong if it does not fail.
        assert!(commands.judge(0, &[Some(a), Some(WriteId(0)), None]).is_ok());
        assert!(commands.judge(1, &[Some(WriteId(0)), Some(b)]).is_ok());
        let error = commands.end(a, true, Tick(8)).unwrap();
        assert!(error.contains("which came after it"), "{error}");
        assert_eq!(commands.end(b, false, Tick(8)), None);
        let error = commands.judge(0, &[Some(a), Some(WriteId(0)), None]).unwrap_err();
        assert!(error.contains("which came after it"), "{error}");
        // With the other, of the same time, either order is good.
        assert!(commands.judge(0, &[Some(a), Some(a), Some(b)]).is_ok());
        commands.crashed(Tick(9));
        assert!(commands.judge(0, &[Some(a), Some(WriteId(0)), None]).is_ok());
    }
}
