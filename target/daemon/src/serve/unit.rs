//! From an opened volume to a logical unit on its core.

use crate::config::{CacheMode, Role};
use crate::plan::{Plan, VolumePlan};
use kagami_cache::store::{CachePlan, Room, StorePlan};
use kagami_channel::{ShardAddress, SpreadPlan, Unit, volume_base};
use kagami_memory::Page;
use kagami_ring::Ring;
use kagami_scsi::{Limits, LogicalUnit, LuConfig, Rotation, TargetName, TargetPort, WriteCache};
use kagami_types::{BlockCount, Naa, Uuid};
use kagami_volume::{DeviceLimits, Geometry, Holes, MAX_SLOTS, Volume};
use rustix::fs::FileType;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;

/// A volume that was found, checked and opened.
#[derive(Debug)]
pub struct Served {
    /// What the plan says of it.
    pub plan: VolumePlan,
    /// The array's UUID.
    pub array: Uuid,
    /// From the tables.
    pub uuid: Uuid,
    /// From the tables.
    pub naa: Naa,
    /// Its size.
    pub blocks: BlockCount,
    /// What its blocks are on.
    pub storage: Storage,
    /// log2 of the logical blocks in a physical one.
    pub physical_exponent: u8,
    /// Unmapped blocks are given back and read as zeroes.
    pub thin: bool,
    /// What its medium is.
    pub rotation: Rotation,
    /// The transfer that its device likes best, in bytes; 0: it does not say.
    pub optimal_transfer: u32,
    /// The unit in which its device gives blocks back, in bytes; 0: it does not say.
    pub unmap_granularity: u32,
    /// Where its shards are, beside its home core: filled in as it gets its place.
    pub shards: Vec<ShardAddress>,
    /// Reservations and mode pages, as they were kept.
    pub state: Option<Vec<u8>>,
}

/// What a volume's blocks are on.
#[derive(Debug)]
pub enum Storage {
    /// Pages of the arena.
    Ram,
    /// Nothing.
    Null,
    /// Memory that fails and hangs as that specification says.
    #[cfg(feature = "faulty")]
    Faulty(String),
    /// A block device or file, opened with `O_DIRECT`.
    Disk {
        /// The descriptor on which the exclusive lock is held.
        fd: OwnedFd,
        /// What the device asks for and can take.
        limits: DeviceLimits,
        /// It has poll queues: its reads and writes go through an IOPOLL ring.
        polled: bool,
        /// Of a sparse file: what of it is deallocated.
        holes: Option<Holes>,
    },
}

/// What all units of the array have in common.
#[derive(Clone, Debug)]
pub(super) struct Target {
    iqn: String,
    sessions: u32,
    largest: u32,
    /// The pages of a core's cache.
    cache_pages: u32,
    /// Pages that hosts can have, and how many volumes share them at the start.
    host_pages: u32,
    volumes: u32,
}

impl Target {
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            iqn: plan.iqn.clone(),
            sessions: plan.network.max_sessions,
            largest: plan.memory.longest_write(),
            cache_pages: cache_plan(plan).pages,
            host_pages: plan.memory.host_pages(),
            volumes: u32::try_from(plan.volumes.len()).unwrap_or(u32::MAX).max(2),
        }
    }

    /// The quota of a volume's pages at one core.
    pub(super) fn pages(
        &self,
        plan: &VolumePlan,
        geometry: &Geometry,
        storage: &Storage,
        is_cached: bool,
    ) -> u64 {
        match storage {
            Storage::Ram => geometry.bytes().div_ceil(4096),
            // The cache's pages are counted there; what destage and fills have under way are some of them.
            _ if is_cached => u64::from(self.cache_pages).saturating_mul(4).max(1 << 16),
            _ => u64::from(plan.page_quota),
        }
    }

    /// The pages that a volume without a cache may hold beside all others.
    pub(super) fn fair_share(&self) -> u64 {
        u64::from(self.host_pages / 4 / self.volumes)
    }
}

/// How large the cache of each core is: what hosts can have of the arena, less an eighth, which is left
/// for data on its way.
pub(super) fn cache_plan(plan: &Plan) -> CachePlan {
    let cores = u32::try_from(plan.cores.len()).unwrap_or(u32::MAX).max(1);
    let pages = (plan.memory.pages - plan.memory.ram_pages - plan.memory.reserve_pages) / cores;
    CachePlan {
        pages: (pages - pages / 8).max(64),
        volumes: u16::try_from(plan.volume_rows).unwrap_or(u16::MAX).min(4096),
        margin: pages / 16,
        // A host that knew it could choose addresses that collide.
        seed: RandomState::new().hash_one(0u8),
    }
}

/// A volume on its core, the plan of the cache in front of it, and the slots of what its unit or front gives it.
pub(super) struct Made {
    pub(super) volume: Volume,
    pub(super) cached: Option<StorePlan>,
    pub(super) slots: u16,
}

/// Makes a volume, or one shard of it, with a descriptor of this core's ring. Whether it writes back is for its
/// owner to say, before the first operation.
pub(super) fn make_volume(
    plan: &VolumePlan,
    blocks: BlockCount,
    storage: Storage,
    token_base: u32,
    target: &Target,
    zeroes: &Page,
    ring: &mut Ring,
) -> Result<Made, String> {
    let geometry = Geometry { block_size: plan.block_size, blocks };
    let cached = cached(plan, &storage, target);
    let slots = u16::try_from(plan.slots).unwrap_or(MAX_SLOTS).clamp(1, MAX_SLOTS);
    let slots = cached.map_or(slots, |cached| cached.slots);
    let pages = target.pages(plan, &geometry, &storage, cached.is_some());
    let mut known = None;
    let storage = match storage {
        Storage::Ram => kagami_volume::Storage::Ram,
        Storage::Null => kagami_volume::Storage::Null,
        #[cfg(feature = "faulty")]
        Storage::Faulty(spec) => {
            let device = kagami_faulty::Faulty::from_spec(&spec).map_err(|error| error.to_string())?;
            kagami_volume::Storage::Other(Box::new(device))
        }
        Storage::Disk { fd, limits, polled, holes } => {
            known = holes;
            let file = ring.add_file(fd, polled).map_err(|error| error.to_string())?;
            kagami_volume::Storage::Disk { file, limits }
        }
    };
    let mut volume = Volume::new(kagami_volume::VolumePlan {
        geometry,
        storage,
        token_base,
        slots: cached.map_or(slots, |cached| cached.slots + cached.flights + cached.fills),
        pages,
        timeout: plan.io_timeout,
        write_back: false,
        read_only: false,
        zeroes: zeroes.clone(),
    })
    .map_err(|error| error.to_string())?;
    if let Some(holes) = known {
        volume.set_holes(holes);
    }
    if cached.is_none() {
        volume.set_fair_share(target.fair_share());
    }
    Ok(Made { volume, cached, slots })
}

/// Makes the unit. The reason where it cannot be.
pub(super) fn build(
    served: Served,
    index: u32,
    target: &Target,
    zeroes: &Page,
    ring: &mut Ring,
) -> Result<Unit, String> {
    let Served { plan, array, uuid, naa, blocks, storage, physical_exponent, thin, rotation, state, .. } =
        served;
    let write_back = plan.cache == CacheMode::WriteBack;
    let Made { mut volume, cached, slots } =
        make_volume(&plan, blocks, storage, volume_base(index), target, zeroes, ring)?;
    // No more is told to hosts than the volume's quota of pages can take at once.
    let largest = u32::try_from(volume.largest_transfer().0).unwrap_or(u32::MAX);
    // In a cache, a command may use half of what can be dirty.
    let largest = cached.map_or(largest, |cached| {
        largest.min(
            u32::try_from((u64::from(cached.dirty) << 12 >> plan.block_size.shift()) / 2).unwrap_or(largest),
        )
    });
    let max_transfer = largest.min(target.largest >> plan.block_size.shift());
    let max_compare_and_write = u8::try_from((largest / 4).min(128)).unwrap_or(128);
    let usual = Limits::usual(plan.block_size);
    let or_usual = |bytes: u32, usual: u32| match bytes >> plan.block_size.shift() {
        0 => usual,
        blocks => blocks,
    };
    let mut server = LogicalUnit::new(LuConfig {
        lun: plan.lun,
        uuid,
        naa,
        role: match plan.role {
            Role::Command => kagami_scsi::Role::Command,
            Role::Plain | Role::Journal => kagami_scsi::Role::Volume,
        },
        revision: revision(),
        serial: format!("{:032x}", uuid.as_u128()),
        block_size: plan.block_size,
        physical_exponent,
        capacity: blocks,
        limits: Limits {
            max_transfer,
            max_compare_and_write,
            nexuses: target.sessions,
            // A length of 0 is refused (WSNZ): nobody means the whole rest of a volume by it.
            write_same_to_end: false,
            // One command's work is bounded by the same length as a write's.
            max_write_same: u64::from(max_transfer),
            optimal_transfer: or_usual(served.optimal_transfer, usual.optimal_transfer).min(max_transfer),
            unmap_granularity: or_usual(served.unmap_granularity, usual.unmap_granularity),
            ..usual
        },
        read_only: plan.read_only,
        write_cache: WriteCache { enabled: write_back, changeable: true },
        thin,
        rotation,
        target: TargetName {
            name: target.iqn.clone(),
            port_group: 1,
            ports: vec![TargetPort { relative: 1, portal_group: 1 }],
        },
    })
    .map_err(|error| error.to_string())?
    .of_array(array);
    if let Some(state) = state {
        server.restore(&state).map_err(|error| format!("its kept state cannot be read: {error}"))?;
    }
    let write_back = server.write_cache_enabled();
    volume.set_write_back(write_back);
    let unit = Unit::new(plan.lun, uuid, server, volume, slots, plan.row as usize);
    let unit = match plan.role {
        Role::Command => unit.with_orders(array),
        Role::Journal => unit.as_journal(),
        Role::Plain => unit,
    };
    let unit = match cached {
        Some(cached) => unit.with_cache(StorePlan { write_back, ..cached }),
        None => unit,
    };
    Ok(unit.with_spread(SpreadPlan {
        extent: SpreadPlan::EXTENT,
        shards: served.shards,
        ahead: StorePlan::new(0, target.cache_pages).ahead,
        timeout: plan.io_timeout,
    }))
}

/// What a volume gets of its core's cache; nothing where it is in memory itself, or wants none.
fn cached(plan: &VolumePlan, storage: &Storage, target: &Target) -> Option<StorePlan> {
    let cache_pages = target.cache_pages;
    if plan.cache == CacheMode::None || matches!(storage, Storage::Ram | Storage::Null) {
        return None;
    }
    let usual = StorePlan::new(0, cache_pages);
    let room = MAX_SLOTS - usual.flights - usual.fills;
    Some(StorePlan {
        slots: u16::try_from(plan.slots).unwrap_or(room).clamp(1, room),
        dirty: (cache_pages / 4 * 3).min(plan.page_quota).max(1),
        timeout: plan.io_timeout,
        room: room_of(storage),
        // Of a volume over several cores the streams are found where its commands come.
        ahead: if plan.spread > 1 { 0 } else { usual.ahead },
        ..usual
    })
}

/// What is known of the room of a volume's blocks: of a file, whether it has as many as it is long.
fn room_of(storage: &Storage) -> Room {
    let Storage::Disk { fd, .. } = storage else { return Room::Sure };
    match rustix::fs::fstat(fd) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            Room::AsWritten { now: i128::from(stat.st_blocks) * 512 >= i128::from(stat.st_size) }
        }
        Ok(_) => Room::Sure,
        Err(_) => Room::AsWritten { now: false },
    }
}

/// PRODUCT REVISION LEVEL: the first four characters of the version.
pub(super) fn revision() -> String {
    env!("CARGO_PKG_VERSION").chars().filter(|c| *c != '.').chain("000".chars()).take(4).collect()
}
