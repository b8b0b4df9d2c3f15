//! Eviction policies side by side on named, seeded traces.
//!
//! [`traces`] makes the accesses, [`policy`] has the policies: the product's own (`kagami_cache::Pages`, not a copy of it)
//! and plain models of others as their papers describe them, written to be read and not to be fast. [`run`] counts hits.
//! `cache-traces` prints the table; the crate's tests hold the product to the textbook model of S3-FIFO.
#![forbid(unsafe_code)]

pub mod policy;
pub mod traces;

use policy::Policy;
use std::collections::{HashSet, VecDeque};
use traces::Trace;

/// Feeds a trace to a policy; returns the share of accesses that hit, of those after the cache was filled once over.
///
/// A write makes its page dirty, and a dirty page may not be evicted. No more than the trace's share of the cache
/// is dirty: beyond that the page that has been dirty for longest is cleaned.
pub fn run(trace: &Trace, policy: &mut dyn Policy, capacity: usize) -> f64 {
    let mut dirty = HashSet::new();
    let mut order = VecDeque::new();
    let most = capacity * trace.dirty_percent / 100;
    let (mut hits, mut counted) = (0_u32, 0_u32);
    let warm = trace.accesses.len() / 5;
    for (n, access) in trace.accesses.iter().enumerate() {
        let hit = policy.access(access.page, &dirty);
        if n >= warm {
            counted += 1;
            hits += u32::from(hit);
        }
        if access.write && dirty.insert(access.page) {
            order.push_back(access.page);
        }
        while dirty.len() > most {
            let Some(page) = order.pop_front() else { break };
            dirty.remove(&page);
            policy.clean(page);
        }
    }
    f64::from(hits) / f64::from(counted.max(1))
}
