//! Serving: from the plan to threads, rings, units and portals, and back to nothing.
//!
//! [`Array::start`] takes the memory, makes every unit, listens, and starts one reactor thread
//! per core; it returns when all portals listen. [`Array::stop`] ends it in order. This is the
//! only place that names `kagami_ring`.

mod access;
mod change;
mod change_virtual;
mod device;
mod far;
mod keeper;
mod pairs;
mod reactor;
mod spread;
#[cfg(test)]
mod steady;
mod unit;
mod virtuals;

pub use access::{RefusedLogin, Rules};
pub use change::{Changed, Making};
pub use change_virtual::Mapping;
pub use keeper::{Answers, OrderRequest, Request, StateKeeper, StateRequest};
pub use pairs::{Answers as GroupAnswers, Joining, JoiningVolume, Linking};
pub use unit::{Served, Storage};

use crate::config::units::format_size;
use crate::config::{Idle, Role};
use crate::plan::Plan;
use kagami_channel::{
    Control, CorePlan, Directory, Inbox, Message, MovePlan, Registry, Shape, Shared, UnitAddress, VirtualUnit,
};
use kagami_memory::{Arena, ArenaPlan, Backing, Class, HugePages, MemoryError};
use kagami_metrics::Metrics;
use kagami_queue::Mesh;
use kagami_reactor::IdlePolicy;
use kagami_ring::{Listener, RingError, RingPlan, SocketOptions, Stream, Waker};
use kagami_types::{BlockCount, BlockSize, ByteLen, CoreId, Lun};
use spread::ServedShard;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Why serving could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The arena could not be taken.
    #[error("memory: {0}")]
    Memory(#[from] MemoryError),
    /// A core has no io_uring.
    #[error("core {0}: {1}")]
    Ring(u16, RingError),
    /// A portal cannot listen.
    #[error("portal {0}: {1}")]
    Portal(SocketAddr, io::Error),
    /// A thread could not be started or pinned.
    #[error("core {0}: {1}")]
    Thread(u16, io::Error),
    /// A group cannot begin.
    #[error("group \"{0}\": {1}")]
    Group(String, String),
    /// A volume cannot be served.
    #[error("volume \"{0}\": {1}")]
    Volume(String, String),
}

/// What serving is started from.
#[derive(Debug)]
pub struct Inputs {
    /// The plan.
    pub plan: Plan,
    /// Who may log in.
    pub rules: Rules,
    /// The volumes, opened, in the order of their rows.
    pub volumes: Vec<Served>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Where state goes that must be durable.
    pub keeper: StateKeeper,
    /// Groups whose volumes are among them.
    pub groups: Vec<Joining>,
}

/// An array that serves.
#[derive(Debug)]
pub struct Array {
    threads: Vec<JoinHandle<()>>,
    inboxes: Vec<Arc<Inbox>>,
    shared: Arc<Shared>,
    placed: Vec<Placed>,
    virtuals: Vec<Mapped>,
    groups: Vec<pairs::Joined>,
    portals: Vec<SocketAddr>,
    features: String,
    backing: String,
}

/// Where a volume's unit lives.
#[derive(Clone, Debug)]
struct Placed {
    name: String,
    lun: Lun,
    block_size: BlockSize,
    address: UnitAddress,
}

/// A virtual volume.
#[derive(Clone, Debug)]
struct Mapped {
    lun: Lun,
    address: UnitAddress,
    /// Its row in the counters.
    row: usize,
    peer: String,
    role: Role,
    /// What its core learns of it.
    shape: Arc<Shape>,
}

impl Mapped {
    fn entry(&self) -> (Lun, UnitAddress, Arc<Shape>) {
        (self.lun, self.address, Arc::clone(&self.shape))
    }
}

/// The wakers of all cores, filled in as their rings are made.
type Wakers = Arc<Mutex<Vec<Option<Waker>>>>;

impl Array {
    /// Starts serving.
    ///
    /// # Errors
    /// Something that the plan counts on is not there; nothing is served then.
    pub fn start(inputs: Inputs) -> Result<Self, StartError> {
        let Inputs { plan, rules, volumes, metrics, keeper, groups } = inputs;
        let arena = arena(&plan)?;
        let cores = u16::try_from(plan.cores.len()).unwrap_or(u16::MAX);
        let ports = Mesh::new::<Message<Stream>>(cores, plan.mesh_capacity as usize);
        let listeners = listen(&plan)?;
        let portals: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();

        // Every volume gets its place: a core, and an index there in the order of the rows.
        let mut per_core: Vec<Vec<Served>> = plan.cores.iter().map(|_| Vec::new()).collect();
        let mut placed = Vec::new();
        let mut entries = Vec::new();
        let mut shards: Vec<Vec<ServedShard>> = plan.cores.iter().map(|_| Vec::new()).collect();
        for mut volume in volumes {
            spread::deal(&mut volume, &mut shards)?;
            let core = volume.plan.home;
            let Some(list) = per_core.get_mut(core.index()) else { continue };
            let address = UnitAddress { core, index: u32::try_from(list.len()).unwrap_or(u32::MAX) };
            entries.push((volume.plan.lun, address, volume.plan.block_size));
            placed.push(Placed {
                name: volume.plan.name.clone(),
                lun: volume.plan.lun,
                block_size: volume.plan.block_size,
                address,
            });
            list.push(volume);
        }
        let mut far: Vec<Vec<VirtualUnit>> = plan.cores.iter().map(|_| Vec::new()).collect();
        let mut virtuals = Vec::new();
        for one in &plan.virtuals {
            let Some(list) = far.get_mut(one.home.index()) else { continue };
            let shape = Arc::new(Shape::default());
            let unit = virtuals::build(one, &plan, &rules, keeper.array(), Arc::clone(&shape));
            let unit = unit.map_err(|reason| StartError::Volume(one.lun.to_string(), reason))?;
            let address = VirtualUnit::address(one.home, u32::try_from(list.len()).unwrap_or(u32::MAX));
            list.push(unit);
            let (peer, role) = (one.peer.clone(), one.role);
            let row = one.row as usize;
            virtuals.push(Mapped { lun: one.lun, address, row, peer, role, shape });
        }
        let begun = pairs::begin(&groups, &placed, &mut far, &plan, &rules, keeper.array());
        let begun = begun.map_err(|(name, reason)| StartError::Group(name, reason))?;
        let window = u16::try_from(plan.tasks.per_session).unwrap_or(u16::MAX);
        let registry = Registry::new(plan.cores.len(), plan.network.max_sessions as usize, u32::from(window));
        let directory = Directory::new(entries).with_virtual(virtuals.iter().map(Mapped::entry));
        let shared = Arc::new(Shared::new(registry, Arc::new(rules.with_portals(&portals)), directory));

        let wakers: Wakers = Arc::new(Mutex::new(vec![None; plan.cores.len()]));
        let (ready, started) = mpsc::channel();
        let mut inboxes = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let waker = Arc::clone(&wakers);
            inboxes.push(Arc::new(Inbox::new(port.ringer(), move || wake(&waker, index))));
        }
        // Before a core runs, so that nobody meets a volume of a group without its front.
        for (core, control) in begun.controls {
            let inbox: Option<&Arc<Inbox>> = inboxes.get(core.index());
            if inbox.is_none_or(|inbox| inbox.put(control).is_err()) {
                let reason = "there are too many groups to begin with".to_owned();
                return Err(StartError::Group(String::new(), reason));
            }
        }
        let mut threads = Vec::new();
        let mut listeners = Some(listeners);
        let per_core = per_core.into_iter().zip(shards).zip(far);
        for ((port, core), ((volumes, shards), virtuals)) in ports.into_iter().zip(&plan.cores).zip(per_core)
        {
            let Some(inbox) = inboxes.get(core.id.index()).cloned() else { continue };
            let start = reactor::Start {
                core: *core,
                pool: arena.pool(core.id.0),
                arena,
                port,
                volumes,
                shards,
                virtuals,
                // The first core accepts for all; connections are dealt out in turn.
                listeners: listeners.take().unwrap_or_default(),
                ring: ring_plan(&plan),
                policy: match plan.idle.mode {
                    Idle::Adaptive => IdlePolicy::Adaptive,
                    Idle::Spin => IdlePolicy::Spin,
                },
                limits: limits(&plan, window),
                target: unit::Target::of(&plan),
                shared: Arc::clone(&shared),
                metrics: Arc::clone(&metrics),
                keeper: keeper.for_core(Arc::clone(&inbox)),
                inbox,
                wakers: Arc::clone(&wakers),
                ready: ready.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("core-{}", core.id.0));
            let spawned = thread.spawn(move || reactor::run(start));
            threads.push(spawned.map_err(|error| StartError::Thread(core.id.0, error))?);
        }
        drop(ready);
        let mut features = String::new();
        for _ in &plan.cores {
            match started.recv() {
                Ok(Ok(text)) => features = text,
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let ended = io::Error::other("the thread ended before it served");
                    return Err(StartError::Thread(0, ended));
                }
            }
        }
        for (name, answers) in begun.answers {
            for (_, answer) in answers {
                if let Err(reason) = answer
                    .recv_timeout(Duration::from_secs(10))
                    .unwrap_or_else(|_| Err("its core does not answer".to_owned()))
                {
                    return Err(StartError::Group(name, reason));
                }
            }
        }
        let backing = in_words(arena.backing());
        let groups = begun.joined;
        Ok(Self { threads, inboxes, shared, placed, virtuals, groups, portals, features, backing })
    }

    /// Where it listens, in the order of the configuration.
    #[must_use]
    pub fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    /// What the kernel's io_uring offers and is used.
    #[must_use]
    pub fn features(&self) -> &str {
        &self.features
    }

    /// What the arena stands on.
    #[must_use]
    pub fn backing(&self) -> &str {
        &self.backing
    }

    /// Sessions at the moment.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.registry.len()
    }

    /// What is known of a virtual volume, and how its link does.
    #[must_use]
    pub fn shape(&self, lun: Lun) -> Option<&Shape> {
        self.virtuals.iter().find(|mapped| mapped.lun == lun).map(|mapped| &*mapped.shape)
    }

    /// Replaces the access rules, for logins from now on.
    pub fn set_rules(&self, rules: &Rules) {
        self.shared.set_access(Arc::new(rules.clone().with_portals(&self.portals)));
    }

    /// A volume's back end has grown to so many blocks. Hosts get a unit attention.
    pub fn grow(&self, name: &str, blocks: BlockCount) -> bool {
        let Some(placed) = self.placed.iter().find(|placed| placed.name == name) else { return false };
        let UnitAddress { core, index } = placed.address;
        self.tell(core, Control::Grow { unit: index, blocks })
    }

    fn tell(&self, core: CoreId, control: Control) -> bool {
        self.inboxes.get(core.index()).is_some_and(|inbox| inbox.put(control).is_ok())
    }

    /// Finishes what is under way, closes all connections, makes all data stable. False where
    /// that took longer than `timeout`: the process may end all the same, nothing that was
    /// acknowledged as stable is lost.
    #[must_use]
    pub fn stop(self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        for inbox in &self.inboxes {
            // A full box belongs to a core that hangs; the time-out below deals with it.
            let _ = inbox.put(Control::Stop);
        }
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.threads.into_iter().all(|thread| thread.join().is_ok())
    }

    /// Whether a reactor has ended by itself, which none should.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

/// What the arena stands on, for people.
fn in_words(backing: Backing) -> String {
    match backing {
        Backing::HugeTlb => "on the kernel's huge pages".to_owned(),
        Backing::Transparent { huge_bytes: 0 } => {
            "on ordinary pages, which the kernel may join to huge ones".to_owned()
        }
        Backing::Transparent { huge_bytes } => {
            format!("on transparent huge pages, {} of it so far", format_size(ByteLen(huge_bytes as u64)))
        }
        Backing::Plain => "on ordinary pages of 4KiB".to_owned(),
    }
}

fn wake(wakers: &Wakers, core: usize) {
    let wakers = wakers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Some(waker)) = wakers.get(core) {
        waker.wake();
    }
}

fn arena(plan: &Plan) -> Result<Arena, MemoryError> {
    let memory = &plan.memory;
    let shards = u16::try_from(plan.cores.len()).unwrap_or(u16::MAX);
    let arena = ArenaPlan::new(shards)
        .with(Class::Page, memory.pages, memory.reserve_pages)
        .with(Class::Small, memory.small, memory.reserve_small)
        .with(Class::Large, memory.large, memory.reserve_large);
    Arena::new(arena, if memory.huge_pages { HugePages::Try } else { HugePages::Off })
}

fn listen(plan: &Plan) -> Result<Vec<Listener>, StartError> {
    let portals = plan.network.portals.iter();
    portals
        .map(|portal| {
            Listener::bind(portal.address).map_err(|error| StartError::Portal(portal.address, error))
        })
        .collect()
}

fn ring_plan(plan: &Plan) -> RingPlan {
    RingPlan {
        // Every connection may have a receive and a send in flight beside the device operations.
        operations: plan.ring.completions,
        entries: plan.ring.entries,
        files: plan.ring.files,
        worker_cpus: plan.management_cpus.iter().map(|&cpu| cpu as usize).collect(),
        workers: plan.ring.bounded_workers,
        register: plan.memory.register,
        socket: SocketOptions { congestion: plan.network.congestion.clone() },
    }
}

fn limits(plan: &Plan, window: u16) -> CorePlan {
    CorePlan {
        connections: plan.network.connections_per_core,
        window,
        most_reading: (u64::from(plan.memory.pages - plan.memory.ram_pages) * 4096 / 64)
            .clamp(1 << 20, 8 << 20),
        cache: unit::cache_plan(plan),
        moves: MovePlan::default(),
        login_timeout: plan.network.login_timeout,
        ping_interval: plan.network.nop_interval,
        ping_timeout: plan.network.nop_timeout,
        logging_in: plan.network.max_logging_in,
    }
}
