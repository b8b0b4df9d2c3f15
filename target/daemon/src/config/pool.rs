//! `[[pool]]`: folders in which orders may make volumes.

use super::context::{At, Context, split};
use super::model::{Backend, Config, Pool, Volume};
use super::names::check_name;
use super::raw::{RawPool, Tables};
use kagami_types::ByteLen;
use std::collections::HashMap;

/// The most pools.
const MAX_POOLS: usize = 64;

impl Context {
    pub(super) fn pools(&mut self, raw: Tables<RawPool>) -> Vec<Pool> {
        let mut seen = HashMap::new();
        let mut pools = Vec::new();
        for (index, value) in raw.into_iter().enumerate() {
            let table = format!("pool[{index}]");
            let place = At { span: value.span(), key: table.clone() };
            if index == MAX_POOLS {
                self.error(&place, format!("at most {MAX_POOLS} pools can be declared"));
                break;
            }
            let raw = value.into_inner();
            let (name, at) = split(&table, "name", raw.name);
            self.check(&at, check_name(&name));
            self.once(&mut seen, name.clone(), &at, "the pool");
            let (path, at) = split(&table, "path", raw.path);
            let path = self.path(&at, path);
            let size = self.size(&table, "size", Some(raw.size));
            let size = size.map_or(ByteLen(0), |(size, _)| size);
            pools.push(Pool { site: self.site(&place), name, path, size });
        }
        pools
    }
}

impl Config {
    /// The pool in which a volume was made, if it was made in one.
    #[must_use]
    pub fn pool_of(&self, volume: &Volume) -> Option<&Pool> {
        let Backend::Path(path) = &volume.backend else { return None };
        self.pools.iter().find(|pool| path.parent() == Some(pool.path.as_path()))
    }

    /// What the volumes of a pool may use in all, and have: sparse files count in full.
    #[must_use]
    pub fn used_of(&self, pool: &Pool) -> ByteLen {
        let volumes = self.volumes.iter().filter(|volume| self.pool_of(volume) == Some(pool));
        ByteLen(volumes.filter_map(|volume| volume.size).fold(0, |sum, size| sum.saturating_add(size.0)))
    }
}
