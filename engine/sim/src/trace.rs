//! The last things that happened, for the report of a failure, and a digest of all of them, to
//! tell whether two runs were the same.

use kagami_types::Time;
use std::collections::VecDeque;
use std::fmt;

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The scheduler, faults and crashes.
    World,
    /// A core of the array.
    Core(u16),
    /// A host.
    Host(u16),
    /// A disk.
    Disk(u16),
    /// A connection.
    Net(u32),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World => f.write_str("world"),
            Self::Core(n) => write!(f, "core {n}"),
            Self::Host(n) => write!(f, "host {n}"),
            Self::Disk(n) => write!(f, "disk {n}"),
            Self::Net(n) => write!(f, "conn {n}"),
        }
    }
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
struct Note {
    at: Time,
    who: Who,
    what: &'static str,
    numbers: [u64; 3],
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.at.0 / 1_000_000_000, self.at.0 % 1_000_000_000);
        let [a, b, c] = self.numbers;
        write!(f, "{seconds:>5}.{nanos:09}  {:<8} {} {a} {b} {c}", self.who.to_string(), self.what)
    }
}

/// The notes of a run: the last few, and a digest of all.
#[derive(Debug)]
pub(crate) struct Trace {
    last: VecDeque<Note>,
    limit: usize,
    digest: u64,
}

impl Trace {
    pub(crate) fn new(limit: usize) -> Self {
        Self { last: VecDeque::with_capacity(limit), limit, digest: 0xcbf2_9ce4_8422_2325 }
    }

    pub(crate) fn note(&mut self, at: Time, who: Who, what: &'static str, numbers: [u64; 3]) {
        let mut mix = |word: u64| {
            self.digest = (self.digest ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        };
        mix(at.0);
        what.bytes().for_each(|byte| mix(u64::from(byte)));
        numbers.into_iter().for_each(&mut mix);
        if self.last.len() == self.limit {
            self.last.pop_front();
        }
        self.last.push_back(Note { at, who, what, numbers });
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.last.iter().map(Note::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_and_digests_all() {
        let mut trace = Trace::new(2);
        let empty = trace.digest();
        for n in 0..3 {
            trace.note(Time(n), Who::Host(1), "write", [n, 0, 0]);
        }
        assert_ne!(trace.digest(), empty);
        let lines = trace.lines();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], "    0.000000002  host 1   write 2 0 0");
    }
}
