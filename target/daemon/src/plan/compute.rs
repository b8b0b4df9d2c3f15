//! From configuration and machine to counts.

use super::error::Misfit;
use super::{
    CorePlan, IdlePlan, IscsiPlan, LARGE_BYTES, Machine, MemoryPlan, NetworkPlan, PAGE_BYTES, PEER_TIMEOUT,
    Plan, PlanError, PortalPlan, RingPlan, SMALL_BYTES, SPARE_LINKS, SPARE_VIRTUALS, TaskPlan, VirtualPlan,
    VolumePlan,
};
use crate::config::{Array, Backend, Config, Site, Volume};
use kagami_types::{ByteLen, CoreId};
use std::time::Duration;

/// How long `adaptive` polls after the last work. Measured: 50 us keeps nearly all of the rate
/// of one connection at depth 32, 20 us does not.
const SPIN: Duration = Duration::from_micros(50);
/// The part of the available memory that the plan may take, in percent.
const MEMORY_PERCENT: u64 = 90;
/// Receive windows of 256 KiB for each core; a busy connection without one uses a small one.
const LARGE_PER_CORE: u32 = 64;
/// Descriptors beside connections and volumes: standard streams, rings, tables, sockets.
const OTHER_FILES: u64 = 128;

impl Plan {
    /// Computes the plan.
    ///
    /// # Errors
    /// The first thing that does not fit, and where the configuration asks for it.
    pub fn compute(config: &Config, machine: &Machine) -> Result<Self, PlanError> {
        let array = &config.array;
        if !machine.kernel.suffices() {
            return Err(refuse(&array.cores_site, Misfit::Kernel(machine.kernel.release.clone())));
        }
        let cores = cores(array, machine)?;
        let core_count = count(cores.len(), &array.cores_site)?;
        let tasks = tasks(array)?;
        let memory = memory(config, core_count, tasks, machine)?;
        let network = network(config);
        let files = files(config, machine)?;
        let volumes = volumes(config, &cores, tasks, memory)?;
        let virtuals = virtuals(config, &cores, tasks, memory)?;
        Ok(Self {
            name: array.name.clone(),
            iqn: array.iqn.clone(),
            data: array.data.clone(),
            management_cpus: management_cpus(&cores, machine),
            idle: IdlePlan { mode: array.idle, spin: SPIN },
            memory,
            ring: ring(array, tasks, files),
            mesh_capacity: tasks.per_core.next_power_of_two().clamp(64, 1024),
            tasks,
            network,
            iscsi: iscsi(array),
            volume_rows: array.max_volumes,
            volumes,
            virtuals,
            metrics: array.metrics,
            admin: array.admin.clone(),
            stop_timeout: array.stop_timeout,
            cores,
        })
    }
}

fn refuse(site: &Site, reason: Misfit) -> PlanError {
    PlanError { site: site.clone(), reason }
}

fn count(n: usize, site: &Site) -> Result<u32, PlanError> {
    u32::try_from(n).map_err(|_| refuse(site, Misfit::TooLarge))
}

/// One reactor on each configured CPU; by default on all allowed but the first, which is left
/// to interrupts and to the other threads.
fn cores(array: &Array, machine: &Machine) -> Result<Vec<CorePlan>, PlanError> {
    let cpus: Vec<u32> = match &array.cores {
        Some(wanted) => {
            if let Some(&cpu) = wanted.iter().find(|cpu| !machine.cpus.contains(cpu)) {
                let reason = Misfit::CpuNotAllowed { cpu, allowed: machine.cpus.clone() };
                return Err(refuse(&array.cores_site, reason));
            }
            wanted.clone()
        }
        None if machine.cpus.len() > 1 => machine.cpus.iter().skip(1).copied().collect(),
        None => machine.cpus.clone(),
    };
    let numbered = cpus.into_iter().enumerate().map(|(index, cpu)| {
        let id = u16::try_from(index).map_err(|_| refuse(&array.cores_site, Misfit::TooLarge))?;
        Ok(CorePlan { id: CoreId(id), cpu })
    });
    numbered.collect()
}

fn management_cpus(cores: &[CorePlan], machine: &Machine) -> Vec<u32> {
    let free: Vec<u32> =
        machine.cpus.iter().copied().filter(|cpu| cores.iter().all(|core| core.cpu != *cpu)).collect();
    if free.is_empty() { machine.cpus.clone() } else { free }
}

fn tasks(array: &Array) -> Result<TaskPlan, PlanError> {
    let reserve = (array.tasks / 16).clamp(8, 64);
    let least = array.queue_depth.saturating_add(reserve);
    if array.tasks < least {
        return Err(refuse(&array.cores_site, Misfit::TooFewTasks { tasks: array.tasks, least }));
    }
    Ok(TaskPlan { per_core: array.tasks, per_session: array.queue_depth, reserve, max_r2t: 8 })
}

fn memory(config: &Config, cores: u32, tasks: TaskPlan, machine: &Machine) -> Result<MemoryPlan, PlanError> {
    let array = &config.array;
    let too_large = || refuse(&array.cache_site, Misfit::TooLarge);
    let cores = u64::from(cores);
    let connections = u64::from(array.max_connections);

    let cache_pages = array.cache.0 / PAGE_BYTES;
    let reserve_pages = (cache_pages / 32).clamp(256, 8192);
    // Each core must be able to hold a few bursts, or a single large command could stop it.
    let least = reserve_pages + cores * 4 * u64::from(array.max_burst).div_ceil(PAGE_BYTES);
    if cache_pages < least {
        let reason = Misfit::CacheTooSmall { cache: array.cache, least: ByteLen(least * PAGE_BYTES) };
        return Err(refuse(&array.cache_site, reason));
    }
    let ram_pages = config
        .volumes
        .iter()
        .filter(|volume| volume.backend == Backend::Ram)
        .filter_map(|volume| volume.size)
        .try_fold(array.ram.0.div_ceil(PAGE_BYTES), |sum, size| sum.checked_add(size.0.div_ceil(PAGE_BYTES)))
        .ok_or_else(too_large)?;

    let pages = cache_pages.checked_add(ram_pages).ok_or_else(too_large)?;
    // Virtual volumes may be made at run time, too.
    let links = if config.peers.is_empty() { 0 } else { links(config) };
    let reserve_small = 16 * cores + 2 * links;
    // One for each connection's receive window while it is idle, a quarter as many for headers
    // on their way out.
    let small = connections + connections / 4 + 32 * cores + reserve_small + 4 * links;
    let reserve_large = 2 * cores;
    let large = connections.min(u64::from(LARGE_PER_CORE)) * cores + 2 * cores + reserve_large + links;

    let arena_bytes = pages
        .checked_mul(PAGE_BYTES)
        .and_then(|bytes| bytes.checked_add(small * SMALL_BYTES))
        .and_then(|bytes| bytes.checked_add(large * LARGE_BYTES))
        .and_then(|bytes| bytes.checked_next_multiple_of(2 << 20))
        .ok_or_else(too_large)?;
    let other_bytes = other_bytes(array, cores, tasks, pages);
    let needed = arena_bytes.checked_add(other_bytes).ok_or_else(too_large)?;
    let available = machine.memory / 100 * MEMORY_PERCENT;
    if needed > available {
        let reason = Misfit::Memory { needed: ByteLen(needed), available: ByteLen(available) };
        return Err(refuse(&array.cache_site, reason));
    }
    let narrow = |n: u64| u32::try_from(n).map_err(|_| too_large());
    Ok(MemoryPlan {
        pages: narrow(pages)?,
        small: narrow(small)?,
        large: narrow(large)?,
        ram_pages: narrow(ram_pages)?,
        reserve_pages: narrow(reserve_pages)?,
        reserve_small: narrow(reserve_small)?,
        reserve_large: narrow(reserve_large)?,
        huge_pages: array.huge_pages,
        arena_bytes,
        other_bytes,
        register: machine.memlock.is_none_or(|limit| arena_bytes <= limit),
    })
}

/// An upper estimate of what is taken beside the arena.
fn other_bytes(array: &Array, cores: u64, tasks: TaskPlan, pages: u64) -> u64 {
    let per_task = 4 << 10;
    let per_connection = 16 << 10;
    let per_volume = 8 << 10;
    let per_page = 64;
    cores * (u64::from(tasks.per_core) * per_task + u64::from(array.max_volumes) * per_volume)
        + u64::from(array.max_connections) * per_connection
        + pages * per_page
        + cores * (4 << 20)
}

fn network(config: &Config) -> NetworkPlan {
    let array = &config.array;
    let portals = config.portals.iter().map(|portal| PortalPlan {
        address: portal.address,
        role: portal.role,
        group_tag: 1,
        loopback: portal.is_loopback(),
        open: portal.open,
    });
    NetworkPlan {
        portals: portals.collect(),
        backlog: 1024,
        max_sessions: array.max_sessions,
        max_connections: array.max_connections,
        // Connections move to the core that owns the LUN they use, so all may end on one.
        connections_per_core: array.max_connections,
        max_logging_in: (array.max_connections / 4).clamp(16, 256),
        congestion: array.congestion.clone(),
        login_timeout: array.login_timeout,
        nop_interval: array.nop_interval,
        nop_timeout: array.nop_timeout,
    }
}

/// Connections to peers: of the sessions of all virtual volumes that there are or may be made at run time.
fn links(config: &Config) -> u64 {
    let of =
        |name: &str| config.peers.iter().find(|peer| peer.name == name).map_or(1, |peer| peer.connections);
    let there: u64 = config.virtuals.iter().map(|one| u64::from(of(&one.peer))).sum();
    let most = config.peers.iter().map(|peer| peer.connections).max().unwrap_or(1);
    there + (SPARE_VIRTUALS + SPARE_LINKS) as u64 * u64::from(most)
}

/// Registered files of one core: any connection, any volume, any portal.
fn files(config: &Config, machine: &Machine) -> Result<u32, PlanError> {
    let array = &config.array;
    let portals = count(config.portals.len(), &array.cores_site)?;
    // A link's old socket may still be on its way out when the next one is there.
    let links = u32::try_from(links(config)).unwrap_or(u32::MAX).saturating_mul(2);
    let files = array
        .max_connections
        .saturating_add(array.max_volumes)
        .saturating_add(portals)
        .saturating_add(links)
        .saturating_add(32);
    let needed = u64::from(files) + OTHER_FILES;
    match machine.open_files {
        Some(limit) if needed > limit => Err(refuse(&array.cores_site, Misfit::OpenFiles { needed, limit })),
        _ => Ok(files),
    }
}

fn ring(array: &Array, tasks: TaskPlan, files: u32) -> RingPlan {
    // A round submits what it has and may enter more than once, so the submission queue need
    // not hold everything; the completion queue should hold all that can be in flight.
    let entries = tasks.per_core.next_power_of_two().clamp(256, 4096);
    let in_flight = tasks.per_core.saturating_add(array.max_connections.saturating_mul(2));
    RingPlan {
        entries,
        completions: in_flight.min(32 << 10).next_power_of_two().max(entries * 2),
        files,
        poll_entries: 1024.min(entries),
        bounded_workers: 8,
        unbounded_workers: 4,
    }
}

fn iscsi(array: &Array) -> IscsiPlan {
    IscsiPlan {
        header_digest: array.header_digest.clone(),
        data_digest: array.data_digest.clone(),
        max_connections: array.connections_per_session,
        max_recv_segment: 256 << 10,
        first_burst: array.first_burst,
        max_burst: array.max_burst,
    }
}

/// A virtual volume is bounded like a volume: alone it may use everything, among others half.
fn virtuals(
    config: &Config,
    cores: &[CorePlan],
    tasks: TaskPlan,
    memory: MemoryPlan,
) -> Result<Vec<VirtualPlan>, PlanError> {
    let array = &config.array;
    let total = config.virtuals.len() + config.volumes.len();
    let share = |all: u32| if total > 1 { all / 2 } else { all }.max(1);
    // Volumes begin at the first core; virtual ones where those end, so that neither gathers there.
    let mut homes = cores.iter().map(|core| core.id).cycle().skip(config.volumes.len() % cores.len().max(1));
    let mut plans = Vec::new();
    for (index, one) in config.virtuals.iter().enumerate() {
        let Some(peer) = config.peers.iter().find(|peer| peer.name == one.peer) else { continue };
        plans.push(VirtualPlan {
            row: array.max_volumes.saturating_add(count(index, &one.site)?),
            site: one.site.clone(),
            name: one.name.clone(),
            lun: one.lun,
            mapped: one.mapped_lun,
            role: one.role,
            peer: one.peer.clone(),
            iqn: peer.iqn.clone(),
            portals: peer.portals.clone(),
            connections: peer.connections,
            io_timeout: peer.io_timeout.unwrap_or(PEER_TIMEOUT),
            home: homes.next().unwrap_or_default(),
            slots: share(tasks.per_core - tasks.reserve),
            page_quota: share(memory.pages - memory.ram_pages - memory.reserve_pages),
        });
    }
    Ok(plans)
}

fn volumes(
    config: &Config,
    cores: &[CorePlan],
    tasks: TaskPlan,
    memory: MemoryPlan,
) -> Result<Vec<VolumePlan>, PlanError> {
    let array = &config.array;
    let total = count(config.volumes.len(), &array.cores_site)?;
    if total > array.max_volumes {
        let reason = Misfit::TooManyVolumes { volumes: config.volumes.len(), rows: array.max_volumes };
        return Err(refuse(&array.cores_site, reason));
    }
    // A volume alone may use everything; among others at most half, so that a device that
    // hangs leaves the rest the other half.
    let share = |all: u32| if total > 1 { all / 2 } else { all }.max(1);
    let host_slots = share(tasks.per_core - tasks.reserve);
    let host_pages = share(memory.pages - memory.ram_pages - memory.reserve_pages);
    let mut homes = cores.iter().map(|core| core.id).cycle();
    let plan = |(row, volume): (usize, &Volume)| {
        let slots = volume.queue_depth.unwrap_or(u32::MAX).min(host_slots);
        if usize::from(volume.spread) > cores.len() {
            let reason = Misfit::SpreadTooWide { spread: volume.spread, cores: cores.len() };
            return Err(refuse(&volume.site, reason));
        }
        // Shards have equal parts of what the volume may have under way and dirty.
        let part = |all: u32| (all / u32::from(volume.spread)).max(1);
        let device_depth = match &volume.backend {
            Backend::Path(_) => volume.device_depth.unwrap_or(256),
            _ => volume.device_depth.unwrap_or(slots),
        };
        Ok(VolumePlan {
            row: count(row, &volume.site)?,
            site: volume.site.clone(),
            lun: volume.lun,
            name: volume.name.clone(),
            backend: volume.backend.clone(),
            size: volume.size,
            block_size: volume.block_size,
            cache: volume.cache,
            read_only: volume.read_only,
            role: volume.role,
            thin: volume.thin,
            home: homes.next().unwrap_or_default(),
            slots,
            spread: volume.spread,
            device_depth: part(device_depth),
            page_quota: part(host_pages),
            io_timeout: volume.io_timeout.unwrap_or(array.io_timeout),
        })
    };
    config.volumes.iter().enumerate().map(plan).collect()
}
