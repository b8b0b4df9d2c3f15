//! Counters and latency histograms that are cheap enough to be always on.
//!
//! Every block of counters has exactly one writer: the core it belongs to. So an increment is
//! a plain load, add and store of one word, without a locked instruction; readers (the metrics
//! endpoint, the status page) load the same words at any time and may see one counter a little
//! ahead of another. Blocks are aligned so that two cores never write to one cache line.
//!
//! [`Metrics`] holds all blocks: one [`CoreMetrics`] a core, and in it one [`VolumeMetrics`] a
//! row of the volume table. The daemon makes it from its plan; the channel and disk controllers
//! count; [`prometheus::render`] writes the text that monitoring systems read.
//!
//! There is no registry, no name lookup and no allocation after start: a counter is a struct
//! field. To add one, add the field, and its line in `prometheus`.
#![forbid(unsafe_code)]

mod blocks;
mod cell;
mod histogram;
pub mod prometheus;

pub use blocks::{
    CacheMetrics, CoreMetrics, Metrics, NetworkMetrics, PoolMetrics, ReactorMetrics, VolumeLabel,
    VolumeMetrics,
};
pub use cell::{Counter, Gauge};
pub use histogram::{BUCKETS, Histogram, Snapshot, bucket_limit_nanos};
