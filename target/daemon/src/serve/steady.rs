//! In the steady state a READ or WRITE allocates nothing, from the socket to the socket, and many share a kernel entry.
//!
//! The test's thread is the core: the very ring, core and units that [`Array::start`](super::Array::start) makes, driven
//! round by round over loopback TCP, while another thread is the host.

#[path = "../../tests/support/mod.rs"]
mod support;

use super::unit::{Served, Storage, Target};
use super::*;
use crate::config::{self, Backend};
use crate::plan::Machine;
use kagami_metrics::CoreMetrics;
use kagami_reactor::{Doze, Handler, Idle as IdleCore, Submit, Wait};
use kagami_scsi::Rotation;
use kagami_types::{Naa, Uuid};
use std::sync::atomic::{AtomicU8, Ordering};
use support::{GOOD, Host, read16, write16};

/// Commands of the host at a time.
const DEPTH: usize = 32;
/// Until every list, slot and page has been used.
const WARM_UP: u64 = 5_000;
const MEASURED: u64 = 10_000;
/// What is done now and then is done at least once in that time.
const A_TICK: Duration = Duration::from_millis(300);

const CONFIG: &str = r#"
[array]
name = "steady"
data = "data"
listen = ["127.0.0.1:0"]
cores = [CPU]
cache = "16MiB"
max_sessions = 8
tasks = 256
max_volumes = 16

[[volume]]
lun = 0
name = "null"
backend = "null"
size = "1MiB"

[[volume]]
lun = 1
name = "ram"
backend = "ram"
size = "1MiB"
"#;

const STOP: u8 = 255;

/// Keeps commands of 4 KiB going as `what` says: the LUN, and 16 for writes; until it is [`STOP`].
fn load(portal: SocketAddr, what: &AtomicU8) {
    let mut host = Host::login(portal, "iqn.2026-11.io.kagami:steady");
    host.ready(0);
    host.ready(1);
    let block = [0x5a; 4096];
    let (mut lba, mut under_way) = (0, 0);
    loop {
        let wanted = what.load(Ordering::Relaxed);
        while wanted != STOP && under_way < DEPTH {
            lba = (lba + 8 * 37) % 2048;
            if wanted & 16 == 0 {
                host.send(wanted, &read16(lba, 8), &[], 4096);
            } else {
                host.send(wanted & 15, &write16(lba, 8), &block, 0);
            }
            under_way += 1;
        }
        if under_way == 0 {
            return;
        }
        host.flush();
        // What has come is answered together, as a host with an event loop does.
        loop {
            let answer = host.receive();
            assert_eq!(answer.status, GOOD, "{answer:?}");
            under_way -= 1;
            if !host.has_more() {
                break;
            }
        }
    }
}

fn served(plan: &Plan) -> Vec<Served> {
    let volumes = plan.volumes.iter().zip(1u128..);
    volumes
        .map(|(volume, number)| {
            let uuid = Uuid::from_u128(number << 64 | 0x4000_8000_0000_0000_0000);
            let blocks = volume.block_size.blocks_in(volume.size.unwrap());
            Served {
                array: Uuid::from_u128(1),
                uuid,
                naa: Naa::from_uuid(uuid),
                blocks,
                storage: if volume.backend == Backend::Ram { Storage::Ram } else { Storage::Null },
                physical_exponent: 3,
                thin: true,
                rotation: Rotation::SolidState,
                optimal_transfer: 0,
                unmap_granularity: 0,
                shards: Vec::new(),
                state: None,
                plan: volume.clone(),
            }
        })
        .collect()
}

/// What [`Array::start`] does for each core, for the one that is this thread, and where it listens.
fn core(requests: mpsc::SyncSender<Request>) -> (reactor::Start, SocketAddr, Arc<CoreMetrics>) {
    let machine = Machine::detect().unwrap();
    let cpu = machine.cpus.last().unwrap().to_string();
    let config = config::parse(&CONFIG.replace("CPU", &cpu), "steady.toml").unwrap();
    let plan = Plan::compute(&config, &machine).unwrap();
    let rules = Rules::new(&plan, config::Access::load(&config).unwrap()).unwrap();
    let listeners = listen(&plan).unwrap();
    let portals: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
    let window = u16::try_from(plan.tasks.per_session).unwrap();
    let registry = Registry::new(1, plan.network.max_sessions as usize, u32::from(window));
    let unit = |index| UnitAddress { core: CoreId(0), index };
    let entries = plan.volumes.iter().zip(0..);
    let directory =
        Directory::new(entries.map(|(volume, index)| (volume.lun, unit(index), volume.block_size)));
    let shared = Shared::new(registry, Arc::new(rules.with_portals(&portals)), directory);
    let arena = arena(&plan).unwrap();
    let port = Mesh::new(1, plan.mesh_capacity as usize).pop().unwrap();
    let inbox = Arc::new(Inbox::new(port.ringer(), || {}));
    let metrics = Metrics::new(1, plan.volume_rows as usize);
    let counters = Arc::clone(metrics.core(0).unwrap());
    let start = reactor::Start {
        core: plan.cores[0],
        pool: arena.pool(0),
        arena,
        port,
        volumes: served(&plan),
        shards: Vec::new(),
        virtuals: Vec::new(),
        listeners,
        ring: ring_plan(&plan),
        policy: IdlePolicy::Adaptive,
        limits: limits(&plan, window),
        target: Target::of(&plan),
        shared: Arc::new(shared),
        metrics,
        keeper: StateKeeper::new(requests, Uuid::from_u128(1)).for_core(Arc::clone(&inbox)),
        inbox,
        wakers: Arc::new(Mutex::new(vec![None])),
        ready: mpsc::channel().0,
    };
    (start, portals[0], counters)
}

/// Runs the core as [`kagami_reactor::run`] does, but only until `enough`.
fn drive(
    prepared: &mut reactor::Prepared,
    done: &mut Vec<kagami_reactor::Completion>,
    enough: impl Fn() -> bool,
) {
    let reactor::Prepared { ring, core, policy, .. } = prepared;
    let mut idle = IdleCore::new(*policy, ring.now());
    let mut wait = Wait::Poll;
    let begun = Instant::now();
    while !enough() {
        let worked = kagami_reactor::round(ring, core, wait, done);
        if matches!(wait, Wait::Until(_)) {
            core.wake();
        }
        wait = Wait::Poll;
        if idle.may_sleep(worked, ring.now()) && core.prepare_sleep() == Doze::Sleep {
            wait = Wait::Until(core.next_deadline().min(ring.now() + Duration::from_millis(20)));
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the host does nothing any more");
    }
}

#[test]
fn reads_and_writes_allocate_nothing_and_share_kernel_entries() {
    let (requests, _kept) = mpsc::sync_channel(16);
    let (start, portal, metrics) = core(requests);
    let what = Arc::new(AtomicU8::new(0));
    // Begun before the core is bound to its CPU, so that the host is not.
    let host = {
        let what = Arc::clone(&what);
        std::thread::spawn(move || load(portal, &what))
    };
    let mut prepared = reactor::prepare(start).unwrap();
    let mut done = Vec::with_capacity(1024);
    let commands = || (0..2).map(|row| metrics.volume(row).unwrap().operations()).sum::<u64>();
    for (mode, name) in [(0, "null, reads"), (16, "null, writes"), (1 | 16, "ram, writes"), (1, "ram, reads")]
    {
        what.store(mode, Ordering::Relaxed);
        let begin = commands() + WARM_UP;
        drive(&mut prepared, &mut done, || commands() >= begin);
        let (begin, before, since) = (commands(), prepared.ring.counts(), Instant::now());
        let info = allocation_counter::measure(|| {
            let enough = || commands() >= begin + MEASURED && since.elapsed() >= A_TICK;
            drive(&mut prepared, &mut done, enough);
        });
        let (count, after) = (commands() - begin, prepared.ring.counts());
        #[allow(clippy::cast_precision_loss, reason = "small numbers, for people")]
        let each = |total: u64| total as f64 / count as f64;
        println!(
            "{name}: {count} commands of 4 KiB, {DEPTH} at a time: {} allocations; a command takes {:.3} kernel \
             entries and {:.3} operations",
            info.count_total,
            each(after.enters - before.enters),
            each(after.submissions - before.submissions),
        );
        assert_eq!(info.count_total, 0, "{name}: {info:?}");
        assert!(after.enters - before.enters < count, "{name}: no kernel entry is shared");
    }
    what.store(STOP, Ordering::Relaxed);
    drive(&mut prepared, &mut done, || host.is_finished());
    host.join().unwrap();
}
