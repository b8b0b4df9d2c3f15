//! Figures of a secondary: how far behind, how fast, and what holds it back.

use super::Sink;
use super::flow::per_second;
use kagami_types::{Sequence, Time};
use std::time::Duration;

/// Rates are averages over about that time.
const SAMPLE: Duration = Duration::from_millis(500);

/// Which stage the secondary waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// None: it has all there is.
    None,
    /// Bytes of the far array, or the bandwidth limit.
    Link,
    /// Writes to the own journal.
    Ingest,
    /// Writes to the own volumes.
    Restore,
    /// The holding time, a limit, or a pause.
    Held,
}

/// Figures of a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkFigures {
    /// Bytes of the primary's journal, as far as known, that are not applied.
    pub lag_bytes: u64,
    /// Writes that are not applied.
    pub lag_writes: u64,
    /// Nanoseconds between the primary now and the secondary.
    pub lag_nanos: u64,
    /// The moment of the primary that the secondary is, nanoseconds since 1970 by its clock.
    pub consistent_at: u64,
    /// The last sequence applied.
    pub applied: Sequence,
    /// Bytes a second of the far journal, of entries applied, of volumes copied.
    pub read_rate: u64,
    /// See above.
    pub restore_rate: u64,
    /// See above.
    pub copy_rate: u64,
    /// The same since the sink began: bytes.
    pub read_bytes: u64,
    /// See above.
    pub restored_bytes: u64,
    /// See above.
    pub copied_bytes: u64,
    /// Entries applied since the sink began.
    pub restored_entries: u64,
    /// Bytes of the own journal that are in use.
    pub used: u64,
    /// Bytes in flight at most, and the bandwidth-delay product that it comes from (0: not known).
    pub window: u64,
    /// See above.
    pub product: u64,
    /// Granules to be copied, and of these not copied yet.
    pub to_copy: u64,
    /// See above.
    pub left: u64,
    /// What it waits for.
    pub bottleneck: Stage,
}

impl SinkFigures {
    /// How much of the copy is done; 100 without one.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.to_copy == 0 {
            return 100.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let share = self.left as f64 / self.to_copy as f64;
        100.0 * (1.0 - share)
    }
}

/// Rates.
#[derive(Debug)]
pub(super) struct Meter {
    since: Time,
    counts: [u64; 3],
    rates: [u64; 3],
}

impl Meter {
    pub(super) fn new(now: Time) -> Self {
        Self { since: now, counts: [0; 3], rates: [0; 3] }
    }

    /// What has been counted by now.
    #[inline]
    pub(super) fn sample(&mut self, now: Time, read: u64, restored: u64, copied: u64) {
        let took = now.since(self.since);
        if took < SAMPLE {
            return;
        }
        let counts = [read, restored, copied];
        for ((old, new), rate) in self.counts.iter().zip(counts).zip(&mut self.rates) {
            let measured = per_second(new.saturating_sub(*old), now.nanos_since(self.since));
            // Halfway to the new one, all the way after a long time.
            *rate = if took < SAMPLE * 4 { rate.midpoint(measured) } else { measured };
        }
        self.counts = counts;
        self.since = now;
    }
}

pub(super) fn figures(sink: &Sink, now: Time, wall: u64) -> SinkFigures {
    let applied = sink.restore.applied();
    let (read, _) = sink.fetch.read();
    let (parsed, _) = sink.fetch.parsed();
    let (product, window) = sink.fetch.window();
    let (left, to_copy) = sink.copy.progress();
    let far = sink.far.map(|(view, _)| view).unwrap_or_default();
    let stable = far.stable.max(parsed.offset);
    let current = applied.sequence >= far.stable_sequence && sink.far.is_some();
    let consistent_at = if current { far.clock.max(applied.time) } else { applied.time };
    let clock = sink.far_clock(now, wall);
    let stages = [
        (stable.saturating_sub(parsed.offset), Stage::Link),
        (parsed.offset.saturating_sub(read.offset), Stage::Ingest),
        (read.offset.saturating_sub(applied.place.offset), Stage::Restore),
    ];
    let worst = stages.into_iter().max_by_key(|stage| stage.0).filter(|stage| stage.0 > 64 << 10);
    let held = sink.pausing || sink.limit_passed || sink.limit_told || sink.old_enough_at != Time::NEVER;
    let bottleneck = match worst {
        None => Stage::None,
        Some((_, Stage::Restore)) if held => Stage::Held,
        Some((_, stage)) => stage,
    };
    SinkFigures {
        lag_bytes: stable.saturating_sub(applied.place.offset),
        lag_writes: far.stable_sequence.0.saturating_sub(applied.sequence.0),
        lag_nanos: if consistent_at == 0 { 0 } else { clock.saturating_sub(consistent_at) },
        consistent_at,
        applied: applied.sequence,
        read_rate: sink.meter.rates[0],
        restore_rate: sink.meter.rates[1],
        copy_rate: sink.meter.rates[2],
        read_bytes: sink.fetch.arrived,
        restored_bytes: sink.restore.restored_bytes,
        copied_bytes: sink.copy.copied,
        restored_entries: sink.restore.restored_entries,
        used: sink.held_bytes(),
        window,
        product,
        to_copy,
        left,
        bottleneck,
    }
}
