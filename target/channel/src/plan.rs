//! What a core is made from; all of it computed once by the daemon.

use crate::access::Access;
use crate::directory::Directory;
use crate::hub::Keeper;
use crate::inbox::Inbox;
use crate::message::Message;
use crate::placement::{Loads, MovePlan};
use crate::registry::Registry;
use crate::shard::Shard;
use crate::unit::Unit;
use kagami_cache::store::CachePlan;
use kagami_iscsi::random::Random;
use kagami_memory::Pool;
use kagami_metrics::CoreMetrics;
use kagami_queue::Port;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Limits of one core.
#[derive(Clone, Debug)]
pub struct CorePlan {
    /// Most connections.
    pub connections: u32,
    /// Most connections that are still logging in; more are closed as they come.
    pub logging_in: u32,
    /// Commands of one session at a time: its window.
    pub window: u16,
    /// Bytes that the answers of one connection may hold before its further reads wait.
    pub most_reading: u64,
    /// How large the cache of the core's volumes is, and how many of them it can have.
    pub cache: CachePlan,
    /// When connections move to other cores.
    pub moves: MovePlan,
    /// How long a login may take.
    pub login_timeout: Duration,
    /// After how long a silence a host is pinged; zero: never.
    pub ping_interval: Duration,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
}

impl CorePlan {
    /// Slots of a connection beyond its window, for immediate commands.
    pub const IMMEDIATE: u16 = 8;
}

impl Default for CorePlan {
    fn default() -> Self {
        Self {
            connections: 1024,
            logging_in: 256,
            window: 128,
            most_reading: 4 << 20,
            cache: CachePlan { pages: 64, volumes: 64, margin: 0, seed: 0 },
            moves: MovePlan::default(),
            login_timeout: Duration::from_secs(15),
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(15),
        }
    }
}

/// What all cores share. None of it is touched on the way of a command.
#[derive(Debug)]
pub struct Shared {
    /// The sessions.
    pub registry: Arc<Registry>,
    /// Who may log in to what.
    access: RwLock<Arc<dyn Access>>,
    directory: RwLock<Arc<Directory>>,
    /// Cores that have closed their last connection, at the end.
    pub(crate) quiet_cores: AtomicUsize,
    /// Cores whose units have made everything stable, at the end: until all have, shards may be asked for something.
    pub(crate) stable_cores: AtomicUsize,
    /// How busy the cores are, and how many connections they have.
    pub(crate) loads: Loads,
}

impl Shared {
    /// What the cores of one array share.
    #[must_use]
    pub fn new(registry: Registry, access: Arc<dyn Access>, directory: Directory) -> Self {
        Self {
            loads: Loads::new(registry.cores()),
            registry: Arc::new(registry),
            access: RwLock::new(access),
            directory: RwLock::new(Arc::new(directory)),
            quiet_cores: AtomicUsize::new(0),
            stable_cores: AtomicUsize::new(0),
        }
    }

    /// The units, as they are now. A core looks when it is told that they changed.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who may log in, as it is now.
    #[must_use]
    pub fn access(&self) -> Arc<dyn Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the units. The cores look after [`Control::Changed`](crate::Control::Changed).
    pub fn set_directory(&self, directory: Directory) {
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }

    /// Replaces the access rules, for logins from now on.
    pub fn set_access(&self, access: Arc<dyn Access>) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = access;
    }
}

/// What belongs to one core alone.
pub struct CoreParts<S> {
    /// Its memory.
    pub pool: Pool,
    /// Its way to the other cores.
    pub port: Port<Message<S>>,
    /// The units whose home it is, in the order of their index.
    pub units: Vec<Unit>,
    /// The shards that other cores' units have here, in the order of their index.
    pub shards: Vec<Shard>,
    /// Its counters.
    pub metrics: Arc<CoreMetrics>,
    /// Where state goes that must be durable.
    pub keeper: Box<dyn Keeper>,
    /// Challenges are made of it.
    pub random: Box<dyn Random + Send>,
    /// What the daemon tells it.
    pub inbox: Arc<Inbox>,
}

impl<S> std::fmt::Debug for CoreParts<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreParts").field("units", &self.units).finish_non_exhaustive()
    }
}
