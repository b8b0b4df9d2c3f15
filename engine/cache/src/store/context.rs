//! What a store needs from its core for the length of one call.

use super::Cache;
use kagami_memory::Pool;
use kagami_reactor::Submit;
use kagami_volume::{Outcome, Tag};

/// As [`kagami_volume::Context`], with the core's cache.
pub struct StoreContext<'a> {
    /// Where device operations go.
    pub io: &'a mut dyn Submit,
    /// Where pages come from.
    pub pool: &'a Pool,
    /// Where the outcomes of operations appear that were not done at once.
    pub done: &'a mut Vec<(Tag, Outcome)>,
    /// The core's cache, the same in every call.
    pub cache: &'a mut Cache,
}

impl std::fmt::Debug for StoreContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreContext")
            .field("pool", self.pool)
            .field("done", self.done)
            .field("cache", self.cache)
            .finish_non_exhaustive()
    }
}
