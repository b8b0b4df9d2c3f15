//! The blocks of counters: per core, and per core and volume.

use crate::{Counter, Gauge, Histogram, Snapshot};
use std::sync::{Arc, PoisonError, RwLock};

/// All counters of an array.
///
/// Shared as an `Arc`; each reactor keeps the `Arc` of its own [`CoreMetrics`].
#[derive(Debug)]
pub struct Metrics {
    cores: Box<[Arc<CoreMetrics>]>,
    labels: RwLock<Vec<Option<VolumeLabel>>>,
}

/// What names a row of the volume table in the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeLabel {
    /// The logical unit number.
    pub lun: u16,
    /// The volume's name.
    pub name: String,
    /// Its capacity in bytes.
    pub bytes: u64,
}

/// The counters that one core writes.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreMetrics {
    /// The poll loop.
    pub reactor: ReactorMetrics,
    /// Connections and sessions whose home is this core.
    pub network: NetworkMetrics,
    /// Memory as seen from this core's shard.
    pub pool: PoolMetrics,
    volumes: Box<[VolumeMetrics]>,
}

/// The poll loop of one core.
#[derive(Debug, Default)]
pub struct ReactorMetrics {
    /// Rounds of the poll loop.
    pub rounds: Counter,
    /// Rounds that found nothing to do.
    pub idle_rounds: Counter,
    /// System calls made to enter the ring (all rings of the core).
    pub enters: Counter,
    /// Times the core went to sleep in the kernel.
    pub sleeps: Counter,
    /// Nanoseconds spent asleep.
    pub slept_nanos: Counter,
    /// Operations submitted to the ring.
    pub submissions: Counter,
    /// Completions reaped from the ring.
    pub completions: Counter,
    /// Messages sent to other cores.
    pub messages_sent: Counter,
    /// Messages received from other cores.
    pub messages_received: Counter,
    /// Messages that waited because the queue to the other core was full.
    pub messages_delayed: Counter,
    /// Times another core had to be woken.
    pub wakes_sent: Counter,
    /// Deadlines that came: looks after connections' time-outs, and units' own.
    pub timers: Counter,
    /// Commands of this core's connections for units of other cores.
    pub commands_crossed: Counter,
    /// The share of the time that rounds with work took lately, in thousandths.
    pub busy: Gauge,
    /// How long commands of other cores' connections were on their way to this core.
    pub queue_wait: Histogram,
}

/// Connections and sessions of one core.
#[derive(Debug, Default)]
pub struct NetworkMetrics {
    /// Open sessions.
    pub sessions: Gauge,
    /// Open connections, those still logging in included.
    pub connections: Gauge,
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections that this core handed to another one.
    pub moves_out: Counter,
    /// Connections that another core handed to this one.
    pub moves_in: Counter,
    /// Moves that were given up, as a connection did not fall quiet in time.
    pub moves_given_up: Counter,
    /// Connections refused because a bound was reached.
    pub refused: Counter,
    /// Logins that reached the full-feature phase.
    pub logins: Counter,
    /// Logins refused (wrong secret, unknown target, malformed...).
    pub login_failures: Counter,
    /// Connections closed for a protocol error, a wrong digest or a time-out.
    pub connection_errors: Counter,
    /// Header or data digests that did not match.
    pub digest_errors: Counter,
    /// Bytes received.
    pub bytes_received: Counter,
    /// Bytes sent.
    pub bytes_sent: Counter,
    /// Bytes of task data copied from a receive window instead of received in place.
    pub bytes_copied: Counter,
    /// Bytes of task data received in place.
    pub bytes_in_place: Counter,
    /// Commands answered TASK SET FULL, as there were no pages for their data.
    pub task_set_full: Counter,
    /// Data-Out PDUs of tasks that are gone.
    pub stray_data: Counter,
    /// PDUs received.
    pub pdus_received: Counter,
    /// PDUs sent.
    pub pdus_sent: Counter,
    /// Receive operations that completed.
    pub receives: Counter,
    /// Send operations that completed.
    pub sends: Counter,
    /// Task slots in use.
    pub tasks: Gauge,
    /// Tasks aborted by task management or a lost connection.
    pub tasks_aborted: Counter,
    /// SCSI commands that ended with CHECK CONDITION.
    pub check_conditions: Counter,
}

/// Memory, as one core's shard sees it.
#[derive(Debug, Default)]
pub struct PoolMetrics {
    /// 4 KiB pages free.
    pub pages_free: Gauge,
    /// 4 KiB pages in use.
    pub pages_used: Gauge,
    /// 16 KiB buffers free.
    pub small_free: Gauge,
    /// 256 KiB buffers free.
    pub large_free: Gauge,
    /// Times clean pages of the cache were given up for a host's data, as none was free.
    pub reclaims: Counter,
}

/// What the cache did for a volume: copied out of the cache's own counts every now and then.
#[derive(Debug, Default)]
pub struct CacheMetrics {
    /// READs of which every block was in the cache.
    pub hits: Counter,
    /// READs of which a part was there.
    pub partial: Counter,
    /// READs of which nothing was there.
    pub misses: Counter,
    /// Device reads for the cache.
    pub fills: Counter,
    /// Pages read ahead.
    pub ahead: Counter,
    /// Of these, how many were then read.
    pub ahead_used: Counter,
    /// Of these, how many went unread.
    pub ahead_wasted: Counter,
    /// Bytes written whose pages became the cache's own.
    pub in_place_bytes: Counter,
    /// Bytes written that were copied into a page.
    pub copied_bytes: Counter,
    /// Device writes of destage.
    pub destages: Counter,
    /// Bytes that it wrote.
    pub destaged_bytes: Counter,
    /// Device writes of destage that failed.
    pub destage_errors: Counter,
    /// Writes that waited for destage.
    pub throttled: Counter,
    /// Pages in the cache.
    pub pages: Gauge,
    /// Of these, dirty ones.
    pub dirty: Gauge,
    /// Of these, those that could not be written when last tried.
    pub failed: Gauge,
    /// Pages that waiting reads keep in the cache.
    pub pinned: Gauge,
}

/// One volume's work as one core sees it.
///
/// Which core counts: the one on which the volume's device server ran the command.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct VolumeMetrics {
    /// Read commands completed.
    pub reads: Counter,
    /// Write commands completed.
    pub writes: Counter,
    /// Other block commands completed (flush, unmap, verify, compare and write...).
    pub others: Counter,
    /// Bytes read by hosts.
    pub read_bytes: Counter,
    /// Bytes written by hosts.
    pub write_bytes: Counter,
    /// Bytes unmapped or zeroed without data.
    pub unmap_bytes: Counter,
    /// Commands that the volume failed.
    pub errors: Counter,
    /// Device operations that timed out.
    pub timeouts: Counter,
    /// Commands answered BUSY or TASK SET FULL, as a quota was in use.
    pub busy: Counter,
    /// Parts of commands done here, of a volume that is spread over cores and lives on another one.
    pub parts: Counter,
    /// What its cache did; all zero without one.
    pub cache: CacheMetrics,
    /// Commands in the volume now.
    pub depth: Gauge,
    /// Device operations in flight now.
    pub device_depth: Gauge,
    /// 1 while its device is gone.
    pub gone: Gauge,
    /// Time from the command's arrival until the volume took it up.
    pub queue_time: Histogram,
    /// Time in service of reads.
    pub read_time: Histogram,
    /// Time in service of writes.
    pub write_time: Histogram,
    /// Time in service of all others.
    pub other_time: Histogram,
}

impl VolumeMetrics {
    /// Commands completed.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.reads.get() + self.writes.get() + self.others.get()
    }

    /// Whether this core has anything to report of the volume.
    #[must_use]
    pub fn touched(&self) -> bool {
        self.operations()
            + self.parts.get()
            + self.errors.get()
            + self.busy.get()
            + self.depth.get()
            + self.gone.get()
            > 0
    }
}

impl CoreMetrics {
    fn new(rows: usize) -> Self {
        Self {
            reactor: ReactorMetrics::default(),
            network: NetworkMetrics::default(),
            pool: PoolMetrics::default(),
            volumes: (0..rows).map(|_| VolumeMetrics::default()).collect(),
        }
    }

    /// The counters of a row of the volume table, as the plan numbers them.
    #[must_use]
    #[inline]
    pub fn volume(&self, row: usize) -> Option<&VolumeMetrics> {
        self.volumes.get(row)
    }

    /// All rows.
    #[must_use]
    pub fn volumes(&self) -> &[VolumeMetrics] {
        &self.volumes
    }
}

impl Metrics {
    /// Takes the memory for that many cores and volume rows, once. A row costs about 2.7 KiB
    /// a core.
    #[must_use]
    pub fn new(cores: usize, rows: usize) -> Arc<Self> {
        Arc::new(Self {
            cores: (0..cores).map(|_| Arc::new(CoreMetrics::new(rows))).collect(),
            labels: RwLock::new(vec![None; rows]),
        })
    }

    /// The counters of a core.
    #[must_use]
    pub fn core(&self, index: usize) -> Option<&Arc<CoreMetrics>> {
        self.cores.get(index)
    }

    /// All cores.
    #[must_use]
    pub fn cores(&self) -> &[Arc<CoreMetrics>] {
        &self.cores
    }

    /// Names a row of the volume table, so that it is reported; `None` takes it out again.
    /// Says `false` where there is no such row. For the management thread.
    pub fn label(&self, row: usize, label: Option<VolumeLabel>) -> bool {
        let mut labels = self.labels.write().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = labels.get_mut(row) else { return false };
        *place = label;
        true
    }

    /// The named rows, in order.
    #[must_use]
    pub fn labels(&self) -> Vec<(usize, VolumeLabel)> {
        let labels = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        labels.iter().enumerate().filter_map(|(row, label)| Some((row, label.clone()?))).collect()
    }

    /// A number of a volume, summed over the cores.
    #[must_use]
    pub fn volume_sum(&self, row: usize, pick: impl Fn(&VolumeMetrics) -> u64) -> u64 {
        self.cores.iter().filter_map(|core| core.volume(row)).map(pick).sum()
    }

    /// A histogram of a volume, summed over the cores.
    #[must_use]
    pub fn volume_histogram(&self, row: usize, pick: impl Fn(&VolumeMetrics) -> &Histogram) -> Snapshot {
        let mut sum = Snapshot::default();
        for volume in self.cores.iter().filter_map(|core| core.volume(row)) {
            pick(volume).add_to(&mut sum);
        }
        sum
    }

    /// A number of the cores, summed.
    #[must_use]
    pub fn core_sum(&self, pick: impl Fn(&CoreMetrics) -> u64) -> u64 {
        self.cores.iter().map(|core| pick(core)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_run_over_the_cores() {
        let metrics = Metrics::new(2, 3);
        for core in metrics.cores() {
            let volume = core.volume(1).unwrap();
            volume.reads.add(5);
            volume.read_time.record(1000);
            core.network.sessions.up();
        }
        assert_eq!(metrics.volume_sum(1, |v| v.reads.get()), 10);
        assert_eq!(metrics.volume_histogram(1, |v| &v.read_time).count(), 2);
        assert_eq!(metrics.core_sum(|c| c.network.sessions.get()), 2);
        assert!(metrics.core(2).is_none());
        assert!(metrics.core(0).unwrap().volume(3).is_none());
    }

    #[test]
    fn only_labelled_rows_are_listed() {
        let metrics = Metrics::new(1, 2);
        let label = VolumeLabel { lun: 7, name: "db".into(), bytes: 4096 };
        assert!(metrics.label(1, Some(label.clone())));
        assert!(!metrics.label(2, Some(label.clone())));
        assert_eq!(metrics.labels(), vec![(1, label)]);
    }

    #[test]
    fn no_two_blocks_share_a_cache_line() {
        assert_eq!(align_of::<VolumeMetrics>(), 128);
        assert_eq!(align_of::<CoreMetrics>(), 128);
        assert!(size_of::<VolumeMetrics>() <= 2816, "{}", size_of::<VolumeMetrics>());
    }
}
