//! The single words: counters that only grow, gauges that are set.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, written by one thread and read by any.
///
/// Two threads that add to one counter lose additions; give each its own and sum when reading.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Wraps after 2^64.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Sets what was counted so far, where the writer keeps the count itself.
    #[inline]
    pub fn set_total(&self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level that goes up and down, written by one thread and read by any.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the level.
    #[inline]
    pub fn set(&self, level: u64) {
        self.0.store(level, Ordering::Relaxed);
    }

    /// One up.
    #[inline]
    pub fn up(&self) {
        self.set(self.get().saturating_add(1));
    }

    /// One down, never below 0.
    #[inline]
    pub fn down(&self) {
        self.set(self.get().saturating_sub(1));
    }

    /// The level.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_and_gauges_stay_at_zero() {
        let counter = Counter::default();
        counter.inc();
        counter.add(4);
        assert_eq!(counter.get(), 5);
        let gauge = Gauge::default();
        gauge.down();
        assert_eq!(gauge.get(), 0);
        gauge.up();
        gauge.up();
        gauge.down();
        assert_eq!(gauge.get(), 1);
    }
}
