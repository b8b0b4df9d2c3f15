//! What the array under test is made of: its units, its access rules, and where its units' state
//! is kept.

use super::Volume;
use super::broken::{Broken, Liar};
use kagami_cache::store::{CachePlan, StorePlan};
use kagami_channel::{
    Access, Control, Ends, Inbox, Keep, Keeper, MovePlan, Shard, ShardAddress, SpreadPlan, Unit, Visible,
    shard_base, volume_base,
};
use kagami_iscsi::chap::{Account, Credentials};
use kagami_iscsi::login::{Applicant, Authentication, Denial, TargetSettings};
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::{DigestPreference, Preferences};
use kagami_memory::Page;
use kagami_metrics::{CacheMetrics, Metrics, NetworkMetrics};
use kagami_reactor::FileId;
use kagami_scsi::{Limits, LogicalUnit, LuConfig, Role, Rotation, TargetName, TargetPort, WriteCache};
use kagami_sim::{Happening, Rng, World};
use kagami_types::{BlockCount, CoreId, Naa, Uuid};
use kagami_volume::{DeviceLimits, Geometry, Storage};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where a unit goes, and on what.
pub struct UnitPlan {
    pub index: u32,
    pub row: usize,
    pub file: FileId,
    pub io_timeout: Duration,
    pub broken: Option<Broken>,
    /// Where the shards of its volume are, beside its own core.
    pub shards: Vec<ShardAddress>,
}

/// What the disk under a volume says of itself.
pub fn limits(volume: &Volume) -> DeviceLimits {
    DeviceLimits {
        align: volume.sector,
        memory_align: 512,
        max_transfer: 64 << 10,
        max_discard: 256 << 10,
        depth: 8,
        discard: true,
        zero: true,
        ..DeviceLimits::default()
    }
}

/// Makes a shard of a volume. Whether writes are done in its cache, its unit says.
pub fn shard(volume: &Volume, plan: &UnitPlan, zeroes: &Page) -> Result<Shard, String> {
    let blocks = BlockCount(volume.bytes / u64::from(volume.block.bytes()));
    let volume_plan = kagami_volume::VolumePlan {
        geometry: Geometry { block_size: volume.block, blocks },
        storage: Storage::Disk { file: plan.file, limits: limits(volume) },
        token_base: shard_base(plan.index),
        slots: volume.cache.map_or(volume.slots, |cache| cache.slots + cache.flights + cache.fills),
        pages: 4096,
        timeout: plan.io_timeout,
        write_back: false,
        read_only: false,
        zeroes: zeroes.clone(),
    };
    let inner = kagami_volume::Volume::new(volume_plan).map_err(|error| error.to_string())?;
    let shard = Shard::new(inner, plan.row);
    Ok(match volume.cache {
        Some(cache) => shard.with_cache(StorePlan { write_back: false, ahead: 0, ..cache }),
        None => shard,
    })
}

/// Makes a unit.
pub fn unit(volume: &Volume, plan: &UnitPlan, zeroes: &Page, states: &States) -> Result<Unit, String> {
    let blocks = BlockCount(volume.bytes / u64::from(volume.block.bytes()));
    let geometry = Geometry { block_size: volume.block, blocks };
    let mut server = LogicalUnit::new(LuConfig {
        lun: volume.lun,
        uuid: volume.uuid,
        naa: Naa::from_uuid(volume.uuid),
        role: Role::Volume,
        revision: "0010".to_owned(),
        serial: format!("{:032x}", volume.uuid.as_u128()),
        block_size: volume.block,
        physical_exponent: 0,
        capacity: blocks,
        limits: Limits { nexuses: 64, ..Limits::usual(volume.block) },
        read_only: false,
        write_cache: WriteCache { enabled: volume.write_back, changeable: true },
        thin: true,
        rotation: Rotation::SolidState,
        target: TargetName {
            name: super::TARGET.to_owned(),
            port_group: 1,
            ports: vec![TargetPort { relative: 1, portal_group: 1 }],
        },
    })
    .map_err(|error| error.to_string())?;
    if let Some(state) = states.of(volume.uuid) {
        server.restore(&state).map_err(|error| error.to_string())?;
    }
    let limits = limits(volume);
    let volume_plan = kagami_volume::VolumePlan {
        geometry,
        storage: match plan.broken.filter(|broken| broken.is_back_end()) {
            Some(broken) => Storage::Other(Box::new(Liar::new(broken, plan.file, limits))),
            None => Storage::Disk { file: plan.file, limits },
        },
        token_base: volume_base(plan.index),
        slots: volume.cache.map_or(volume.slots, |cache| cache.slots + cache.flights + cache.fills),
        pages: 4096,
        timeout: plan.io_timeout,
        write_back: server.write_cache_enabled(),
        read_only: false,
        zeroes: zeroes.clone(),
    };
    let inner = kagami_volume::Volume::new(volume_plan).map_err(|error| error.to_string())?;
    let write_back = server.write_cache_enabled();
    let unit = Unit::new(volume.lun, volume.uuid, server, inner, volume.slots, plan.row);
    let spread = volume.spread.map(|(_, extent)| SpreadPlan {
        extent,
        shards: plan.shards.clone(),
        ahead: volume.cache.map_or(0, |cache| cache.ahead),
        timeout: plan.io_timeout,
    });
    let cache = volume.cache.map(|cache| StorePlan {
        write_back,
        ahead: if spread.is_some() { 0 } else { cache.ahead },
        ..cache
    });
    let unit = match cache {
        Some(cache) => unit.with_cache(cache),
        None => unit,
    };
    Ok(match spread {
        Some(spread) => unit.with_spread(spread),
        None => unit,
    })
}

/// A small cache for a volume: everything in it happens often.
pub fn store_plan(rng: &mut Rng, cache: CachePlan, timeout: u64, slots: u16, write_back: bool) -> StorePlan {
    StorePlan {
        write_back,
        slots,
        pages: cache.pages,
        dirty: rng.choose([4, 8, 24, cache.pages / 2]),
        flights: rng.choose([1, 4, 32]),
        fills: rng.choose([1, 4, 32]),
        run: rng.choose([1, 8, 256]),
        ahead: rng.choose([0, 16, 64]),
        age: Duration::from_millis(rng.choose([1, 20, 1000])),
        timeout: Duration::from_nanos(timeout),
        dead_after: Duration::from_secs(rng.choose([2, 60])),
        ..StorePlan::new(0, cache.pages)
    }
}

/// Connections that follow every second command.
pub const RESTLESS: MovePlan =
    MovePlan { window: 2, pause: Duration::ZERO, drain: Duration::from_millis(20), calm: 1001, full: 1001 };

/// Connections that move often, by both rules; a stream of its own.
pub fn moves(rng: &mut Rng) -> MovePlan {
    MovePlan {
        window: rng.choose([2, 4, 16, 0]),
        pause: Duration::from_micros(rng.choose([0, 500, 20_000])),
        drain: Duration::from_millis(rng.choose([1, 20, 100])),
        calm: rng.choose([0, 500, 1001]),
        full: rng.choose([0, 0, 900]),
    }
}

/// Tells the world what the array's own counters say.
pub fn count(world: &World, metrics: &Metrics, volumes: usize, pages: u32) {
    let sent = metrics.cores().iter().map(|core| core.reactor.messages_sent.get()).sum();
    world.count(Happening::Crossed, sent);
    let network = |pick: fn(&NetworkMetrics) -> u64| metrics.core_sum(|core| pick(&core.network));
    world.count(Happening::Moved, network(|network| network.moves_in.get()));
    world.count(Happening::MoveGivenUp, network(|network| network.moves_given_up.get()));
    for row in 0..volumes {
        let sum = |pick: fn(&CacheMetrics) -> u64| metrics.volume_sum(row, |volume| pick(&volume.cache));
        world.count(Happening::Part, metrics.volume_sum(row, |volume| volume.parts.get()));
        let fills = sum(|cache| cache.fills.get());
        for (what, times) in [
            (Happening::CacheHit, sum(|cache| cache.hits.get())),
            (Happening::CachePartial, sum(|cache| cache.partial.get())),
            (Happening::CacheMiss, sum(|cache| cache.misses.get())),
            (Happening::CacheFill, fills),
            (Happening::CacheEviction, fills.saturating_sub(pages.into())),
            (Happening::ReadAhead, sum(|cache| cache.ahead.get())),
            (Happening::ReadAheadUsed, sum(|cache| cache.ahead_used.get())),
            (Happening::Destage, sum(|cache| cache.destages.get())),
            (Happening::DestageError, sum(|cache| cache.destage_errors.get())),
            (Happening::Throttled, sum(|cache| cache.throttled.get())),
            (Happening::CrashDirty, sum(|cache| cache.dirty.get())),
        ] {
            world.count(what, times);
        }
    }
}

/// Units' state that outlives restarts: here as good as on a disk.
#[derive(Clone, Debug, Default)]
pub struct States(Arc<Mutex<BTreeMap<Uuid, Vec<u8>>>>);

impl States {
    pub fn of(&self, volume: Uuid) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&volume).cloned()
    }

    pub fn keeper(&self, inbox: Arc<Inbox>, broken: Option<Broken>) -> impl Keeper + 'static {
        KeepHere { states: self.clone(), inbox, forgets: broken == Some(Broken::Keeper) }
    }
}

struct KeepHere {
    states: States,
    inbox: Arc<Inbox>,
    forgets: bool,
}

impl Keeper for KeepHere {
    fn keep(&mut self, _core: CoreId, keep: Keep) {
        let mut states = self.states.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.forgets {
            states.insert(keep.volume, keep.state);
        }
        let _ = self.inbox.put(Control::Kept { ticket: keep.ticket, ok: true });
    }
}

/// Who may log in: everybody, or everybody who has the secret.
#[derive(Debug)]
pub struct Rules {
    target: IscsiName,
    portals: Vec<SocketAddr>,
    /// One that hosts are not told of: for another array.
    hidden: Option<SocketAddr>,
    settings: Arc<TargetSettings>,
    chap: bool,
}

impl Rules {
    pub fn new(target: IscsiName, portals: Vec<SocketAddr>, chap: bool, rng: &mut Rng) -> Self {
        let digest = |rng: &mut Rng| rng.choose([DigestPreference::Allow, DigestPreference::Prefer]);
        let bytes = |rng: &mut Rng| u32::try_from(rng.skewed(512, 256 << 10)).unwrap_or(8192);
        let preferences = Preferences {
            header_digest: digest(rng),
            data_digest: digest(rng),
            max_recv_data_segment_length: bytes(rng),
            max_burst_length: bytes(rng),
            first_burst_length: bytes(rng),
            initial_r2t: rng.one_in(4),
            ..Preferences::default()
        };
        let max_segment = usize::try_from(rng.skewed(64, 8192)).unwrap_or(8192);
        let settings = Arc::new(TargetSettings { preferences, max_segment, ..TargetSettings::default() });
        Self { target, portals, hidden: None, settings, chap }
    }
}

impl Rules {
    /// The same on other portals.
    pub fn at(&self, portals: Vec<SocketAddr>) -> Self {
        let (target, settings) = (self.target.clone(), Arc::clone(&self.settings));
        Self { target, portals, hidden: None, settings, chap: self.chap }
    }

    /// The same, with one for another array.
    pub fn with_peer(&self, portal: SocketAddr) -> Self {
        Self { hidden: Some(portal), ..self.at(self.portals.clone()) }
    }
}

/// A host's account, mutual for every second one.
pub fn account(number: u16) -> Account {
    let credentials =
        |user: &str, secret: &str| Credentials::new(user, secret.as_bytes()).expect("an account");
    let target = (number % 2 == 1).then(|| credentials("array", "the array's own secret"));
    Account::new(credentials(&format!("host{number}"), "a secret of the host"), target).expect("an account")
}

impl Access for Rules {
    fn settings(&self, _local: Option<SocketAddr>) -> Arc<TargetSettings> {
        Arc::clone(&self.settings)
    }

    fn check(&self, applicant: &Applicant<'_>, ends: Ends) -> Result<Authentication, Denial> {
        if applicant.target.is_some_and(|target| *target != self.target) {
            return Err(Denial::NotFound);
        }
        if ends.local.is_none_or(|local| !self.portals.contains(&local) && self.hidden != Some(local)) {
            return Err(Denial::Unavailable);
        }
        if !self.chap {
            return Ok(Authentication::None);
        }
        let number = applicant.initiator.as_str().trim_start_matches("iqn.2026-11.io.kagami:host").parse();
        let number = number.map_err(|_| Denial::NotAuthorized)?;
        Ok(Authentication::Chap(Arc::new([account(number)])))
    }

    fn visible(&self, _initiator: &str, _ends: Ends) -> Visible {
        Visible::All
    }

    fn target(&self) -> &str {
        self.target.as_str()
    }

    fn portals(&self, _local: Option<SocketAddr>) -> Vec<(SocketAddr, u16)> {
        self.portals.iter().map(|portal| (*portal, 1)).collect()
    }

    fn port(&self, _local: Option<SocketAddr>) -> u16 {
        1
    }
}
