//! What a cached volume has counted since its construction.

/// Totals and present numbers of one cached volume. Plain numbers: one core owns them, and copies them out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// READs of which every block was in the cache.
    pub hits: u64,
    /// READs of which no page was there.
    pub misses: u64,
    /// READs of which a part was there.
    pub partial: u64,
    /// Device reads for the cache, read-ahead included.
    pub fills: u64,
    /// Device reads that failed.
    pub fill_errors: u64,
    /// Pages read ahead.
    pub ahead_pages: u64,
    /// Of these, how many were then read.
    pub ahead_used: u64,
    /// Of these, how many went unread.
    pub ahead_wasted: u64,
    /// Read-ahead not done for want of pages or of a fill.
    pub ahead_dropped: u64,
    /// Bytes of writes whose pages became the cache's own.
    pub in_place_bytes: u64,
    /// Bytes of writes that were copied into a page.
    pub copied_bytes: u64,
    /// Device writes of destage.
    pub destage_ops: u64,
    /// Pages that destage made clean.
    pub destage_pages: u64,
    /// Dirty pages that never went out, as UNMAP or WRITE SAME overwrote them on the device.
    pub superseded: u64,
    /// Bytes that it wrote.
    pub destage_bytes: u64,
    /// Device writes of destage that failed.
    pub destage_errors: u64,
    /// Writes that waited for destage.
    pub throttled: u64,
    /// How long they waited, in nanoseconds.
    pub throttled_nanos: u64,
    /// Operations done by the device with their blocks to themselves.
    pub through: u64,
    /// Pages in the cache now.
    pub pages: u64,
    /// Of these, dirty now.
    pub dirty: u64,
    /// Of these, dirty pages that could not be written when last tried.
    pub failed: u64,
    /// Pages that waiting reads keep in the cache now.
    pub pinned: u64,
    /// Deferred errors that were dropped because nobody asked for them.
    pub deferred_dropped: u64,
}
