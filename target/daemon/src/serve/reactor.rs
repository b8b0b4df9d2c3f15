//! The thread of one core.

use super::spread::{self, ServedShard};
use super::unit::{self, Served, Target};
use super::{StartError, Wakers};
use crate::plan::CorePlan as Place;
use kagami_channel::{
    Core, CoreParts, CorePlan, Inbox, Keeper, Message, Seed, Shard, Shared, Unit, UnitMaker, VirtualUnit,
};
use kagami_iscsi::random::OsRandom;
use kagami_memory::{Arena, Page, Pool};
use kagami_metrics::Metrics;
use kagami_queue::Port;
use kagami_reactor::{IdlePolicy, SocketId};
use kagami_ring::{Listener, Ring, RingPlan, Stream, Waker};
use kagami_types::CoreId;
use kagami_volume::zero_page;
use std::io;
use std::sync::{Arc, PoisonError, mpsc::Sender};

/// Everything that a core's thread takes with it.
pub(super) struct Start {
    pub(super) core: Place,
    pub(super) pool: Pool,
    pub(super) arena: Arena,
    pub(super) port: Port<Message<Stream>>,
    pub(super) volumes: Vec<Served>,
    pub(super) shards: Vec<ServedShard>,
    pub(super) virtuals: Vec<VirtualUnit>,
    pub(super) listeners: Vec<Listener>,
    pub(super) ring: RingPlan,
    pub(super) policy: IdlePolicy,
    pub(super) limits: CorePlan,
    pub(super) target: Target,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) keeper: Box<dyn Keeper>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) wakers: Wakers,
    pub(super) ready: Sender<Result<String, StartError>>,
}

/// Runs the core until it is told to stop. Whether it could begin is said through `ready`.
pub(super) fn run(start: Start) {
    let ready = start.ready.clone();
    match prepare(start) {
        Ok(mut prepared) => {
            let _ = ready.send(Ok(prepared.ring.features().to_string()));
            drop(ready);
            prepared.serve();
        }
        Err(error) => {
            let _ = ready.send(Err(error));
        }
    }
}

/// A core that is ready to run.
pub(super) struct Prepared {
    pub(super) ring: Ring,
    pub(super) core: Core<Ring>,
    pub(super) policy: IdlePolicy,
    metrics: Arc<kagami_metrics::CoreMetrics>,
}

impl Prepared {
    fn serve(&mut self) {
        let Self { ring, core, policy, metrics } = self;
        let metrics = Arc::clone(metrics);
        kagami_reactor::run(ring, core, *policy, |ring, stats| {
            metrics.reactor.rounds.set_total(stats.rounds);
            metrics.reactor.idle_rounds.set_total(stats.rounds - stats.busy);
            metrics.reactor.sleeps.set_total(stats.sleeps);
            metrics.reactor.slept_nanos.set_total(stats.slept_nanos);
            let counts = ring.counts();
            metrics.reactor.enters.set_total(counts.enters);
            metrics.reactor.submissions.set_total(counts.submissions);
            metrics.reactor.completions.set_total(counts.completions);
        });
    }
}

/// Makes the core, on the thread that will run it, and binds that to its CPU.
pub(super) fn prepare(start: Start) -> Result<Prepared, StartError> {
    let Start { core: place, pool, arena, port, volumes, shards, listeners, ring, policy, limits, .. } =
        start;
    let number = place.id.0;
    pin(place.cpu).map_err(|error| StartError::Thread(number, error))?;
    let mut ring = Ring::new(ring, &arena).map_err(|error| StartError::Ring(number, error))?;
    let metrics = start.metrics.core(place.id.index()).cloned();
    let metrics =
        metrics.ok_or_else(|| StartError::Thread(number, io::Error::other("no counters for it")))?;
    let mut units = Vec::new();
    let zeroes =
        zero_page(&pool).ok_or_else(|| StartError::Thread(number, io::ErrorKind::OutOfMemory.into()))?;
    for (index, volume) in (0u32..).zip(volumes) {
        let name = volume.plan.name.clone();
        let unit = unit::build(volume, index, &start.target, &zeroes, &mut ring);
        units.push(unit.map_err(|reason| StartError::Volume(name, reason))?);
    }
    let mut made = Vec::new();
    for (index, shard) in (0u32..).zip(shards) {
        let name = shard.plan.name.clone();
        let shard = spread::build(shard, index, &start.target, &zeroes, &mut ring);
        made.push(shard.map_err(|reason| StartError::Volume(name, reason))?);
    }
    let shards = made;
    let sockets: Result<Vec<SocketId>, _> = listeners
        .into_iter()
        .map(|listener| {
            let address = listener.address();
            ring.add_listener(listener)
                .map_err(|error| StartError::Portal(address, io::Error::from_raw_os_error(error.0)))
        })
        .collect();
    let wakers = Arc::clone(&start.wakers);
    if let Some(mine) = wakers.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place.id.index()) {
        *mine = Some(ring.waker());
    }
    let parts = CoreParts {
        pool,
        port,
        units,
        shards,
        metrics: Arc::clone(&metrics),
        keeper: start.keeper,
        random: Box::new(OsRandom),
        inbox: start.inbox,
    };
    // Wakers of other cores are looked up once, when they are first needed and all are there.
    let mut known: Vec<Option<Waker>> = Vec::new();
    let wake = move |core: CoreId| {
        if known.get(core.index()).is_none_or(Option::is_none) {
            known.clone_from(&wakers.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if let Some(Some(waker)) = known.get(core.index()) {
            waker.wake();
        }
    };
    let maker = Maker { target: start.target, zeroes };
    let core =
        Core::new(limits, start.shared, parts, sockets?, wake).with_maker(maker).with_virtual(start.virtuals);
    Ok(Prepared { ring, core, policy, metrics })
}

/// Makes the units of volumes that are created while the core runs.
struct Maker {
    target: Target,
    zeroes: Page,
}

impl UnitMaker<Ring> for Maker {
    fn make(&mut self, ring: &mut Ring, index: u32, seed: Seed) -> Result<Unit, String> {
        let served = seed.downcast::<Served>().map_err(|_| "that is no volume".to_owned())?;
        unit::build(*served, index, &self.target, &self.zeroes, ring)
    }

    fn make_shard(&mut self, ring: &mut Ring, index: u32, seed: Seed) -> Result<Shard, String> {
        let shard = seed.downcast::<ServedShard>().map_err(|_| "that is no shard".to_owned())?;
        spread::build(*shard, index, &self.target, &self.zeroes, ring)
    }
}

/// Binds the calling thread to a CPU.
fn pin(cpu: u32) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu as usize);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
