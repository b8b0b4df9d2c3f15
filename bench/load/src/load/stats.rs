//! What a thread counts while it measures.

use crate::initiator::Status;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Latencies above this are counted as this: one minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Counters of one thread, or of all together.
#[derive(Debug)]
pub struct Stats {
    /// Reads that ended GOOD.
    pub reads: u64,
    /// Writes that ended GOOD.
    pub writes: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// Commands that ended with BUSY or TASK SET FULL.
    pub busy: u64,
    /// Commands that ended otherwise.
    pub errors: u64,
    /// How they ended, and how often.
    pub kinds: BTreeMap<String, u64>,
    /// Nanoseconds from when a command was due to its end.
    pub latency: Histogram<u64>,
    /// Nanoseconds measured.
    pub wall_ns: u64,
    /// CPU time of the generator's threads while they measured, in nanoseconds.
    pub cpu_ns: u64,
    /// The part of it that went into looking for answers that were not there yet.
    pub idle_ns: u64,
    /// CPU time of the target's process meanwhile.
    pub target_ns: Option<u64>,
    /// Calls of receive that brought something, and of send.
    pub receives: u64,
    /// Calls of send.
    pub sends: u64,
}

impl Default for Stats {
    /// All zero.
    fn default() -> Self {
        // The bounds are valid, so this does not fail; an automatic one stands in.
        let latency = Histogram::new_with_bounds(1, LONGEST, 3)
            .or_else(|_| Histogram::new(3))
            .expect("three significant digits are allowed");
        Self {
            reads: 0,
            writes: 0,
            bytes: 0,
            busy: 0,
            errors: 0,
            kinds: BTreeMap::new(),
            latency,
            wall_ns: 0,
            cpu_ns: 0,
            idle_ns: 0,
            target_ns: None,
            receives: 0,
            sends: 0,
        }
    }
}

impl Stats {
    /// A command ended GOOD.
    #[inline]
    pub fn good(&mut self, read: bool, bytes: u32, latency_ns: u64) {
        if read {
            self.reads += 1;
        } else {
            self.writes += 1;
        }
        self.bytes += u64::from(bytes);
        self.latency.saturating_record(latency_ns);
    }

    /// A command ended otherwise.
    #[cold]
    pub fn bad(&mut self, status: Status) {
        if status == Status::Busy {
            self.busy += 1;
            return;
        }
        self.errors += 1;
        // There are only so many texts, but a target may try.
        if self.kinds.len() < 64 {
            *self.kinds.entry(status.to_string()).or_default() += 1;
        }
    }

    /// Commands that ended GOOD.
    pub fn commands(&self) -> u64 {
        self.reads + self.writes
    }

    /// Adds another thread's numbers; they ran side by side.
    pub fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.bytes += other.bytes;
        self.busy += other.busy;
        self.errors += other.errors;
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind.clone()).or_default() += count;
        }
        // Equal bounds: cannot fail.
        let _ = self.latency.add(&other.latency);
        self.wall_ns = self.wall_ns.max(other.wall_ns);
        self.cpu_ns += other.cpu_ns;
        self.idle_ns += other.idle_ns;
        self.target_ns = self.target_ns.max(other.target_ns);
        self.receives += other.receives;
        self.sends += other.sends;
    }
}
