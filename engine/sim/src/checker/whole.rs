//! Whole commands: what a read may see of a write that takes effect at once.
//!
//! Of each command the checker keeps where it wrote, when it was issued and when it had ended.
//! Where a read finds a command that is *whole* in one unit, it must find it, or something that may
//! be later, in every other unit that both are about. So each such pair says which of two commands
//! came first; if these orders contradict each other, or what is known from when they were issued,
//! the read saw a part of a command.

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
        Self(vec![Command { units: Vec::new(), issued: Tick(0), ended: Tick(0), whole: false }])
    }

    pub(super) fn begin(&mut self, units: &[Units], whole: bool, issued: Tick) -> WriteId {
        self.0.push(Command { units: units.to_vec(), issued, ended: NEVER, whole });
        WriteId(self.0.len() as u64 - 1)
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

    /// Judges one read: `seen` is what it found from unit `first` on, where that is known. Returns
    /// the whole commands that it saw.
    pub(super) fn judge(&self, first: u64, seen: &[Option<WriteId>]) -> Result<Vec<WriteId>, String> {
        let mut writes: Vec<WriteId> = seen.iter().flatten().copied().collect();
        writes.sort_unstable();
        writes.dedup();
        let is_whole = |write: &WriteId| self.of(*write).is_some_and(|command| command.whole);
        if !writes.iter().any(is_whole) {
            return Ok(Vec::new());
        }
        // Pairs (a, b): a came before b, as some unit of a holds b.
        let mut before: Vec<(usize, usize, u64)> = Vec::new();
        for (at, write) in writes.iter().enumerate().filter(|(_, write)| is_whole(write)) {
            let Some(command) = self.of(*write) else { continue };
            for (unit, other) in (first..).zip(seen) {
                let Some(other) = other.filter(|other| other != write && command.covers(unit)) else {
                    continue;
                };
                let Ok(place) = writes.binary_search(&other) else { continue };
                if before.iter().any(|(a, b, _)| (*a, *b) == (at, place)) {
                    continue;
                }
                if self.of(other).is_some_and(|other| other.ended < command.issued) {
                    return Err(format!(
                        "unit {unit} holds write {} where the same read found write {}, which came after it",
                        other.0, write.0
                    ));
                }
                before.push((at, place, unit));
            }
        }
        if let Some((a, b, unit)) = cycle(writes.len(), &before) {
            return Err(format!(
                "one read found write {} before write {} in unit {unit}, and elsewhere after it",
                writes[a].0, writes[b].0
            ));
        }
        Ok(writes.into_iter().filter(is_whole).collect())
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
        let (commands, [a, b, c]) = three();
        assert_eq!(commands.judge(0, &[Some(a), Some(b), Some(b)]), Ok(vec![a, b]));
        assert_eq!(commands.judge(0, &[Some(c), Some(b), Some(c)]), Ok(vec![b, c]));
        assert_eq!(commands.judge(0, &[None, Some(b), None]), Ok(vec![b]));
    }

    #[test]
    fn a_circle_of_three_is_found() {
        let (commands, [a, b, c]) = three();
        // a before b in unit 1, b before c in unit 2, c before a in unit 0.
        let error = commands.judge(0, &[Some(a), Some(b), Some(c)]).unwrap_err();
        assert!(error.contains("elsewhere after it"), "{error}");
    }

    #[test]
    fn half_of_a_write_over_old_data_is_found() {
        let (mut commands, [a, b, _]) = three();
        let error = commands.judge(0, &[Some(a), Some(WriteId(0)), None]).unwrap_err();
        assert!(error.contains("which came after it"), "{error}");
        // With the other, of the same time, either order is good.
        assert!(commands.judge(0, &[Some(a), Some(a), Some(b)]).is_ok());
        commands.crashed(Tick(9));
        assert!(commands.judge(0, &[Some(a), Some(WriteId(0)), None]).is_ok());
    }
}
