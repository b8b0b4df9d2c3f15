//! The real array on simulated machines: sessions, SCSI, volumes and the mesh between cores, over
//! `SimIo` in place of io_uring.

mod broken;
#[cfg(test)]
mod inband;
mod links;
mod pairs;
mod parts;
mod steward;

pub use broken::Broken;

use kagami_cache::store::{CachePlan, StorePlan};
use kagami_channel::{
    Control, Core, CoreParts, CorePlan, Directory, Inbox, MovePlan, Registry, Shape, ShardAddress, Shared,
    UnitAddress,
};
use kagami_iscsi::name::IscsiName;
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, PageMut, Purpose};
use kagami_metrics::Metrics;
use kagami_queue::Mesh;
use kagami_sim::checker::Checker;
use kagami_sim::host::{Asker, Host, HostPlan, LunPlan};
use kagami_sim::options::Tamper;
use kagami_sim::{Actor, Array, DiskId, Failure, Happening, Options, Report, Rng, Sim, SimIo, World};
use kagami_types::{BlockCount, BlockSize, CoreId, Lun, Uuid};
use kagami_volume::zero_page;
pub use pairs::Drill;
use pairs::Pairs;
use parts::{Rules, States};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use steward::{Deed, Site, Steward, Ward};

const TARGET: &str = "iqn.2026-11.io.kagami:sim";

/// A volume of the array under test.
#[derive(Clone, Debug)]
pub struct Volume {
    pub lun: Lun,
    pub block: BlockSize,
    pub bytes: u64,
    pub disk: DiskId,
    /// What the disk writes whole, which its direct I/O is aligned to.
    pub sector: u32,
    pub write_back: bool,
    pub home: u16,
    pub slots: u16,
    pub cache: Option<StorePlan>,
    pub uuid: Uuid,
    /// Over how many cores it is spread, in extents of how many bytes.
    pub spread: Option<(u16, u64)>,
}

/// The array under test.
pub struct SimArray {
    arena: Arena,
    cores: u16,
    volumes: Vec<Volume>,
    portals: Vec<SocketAddr>,
    window: u16,
    rules: Arc<Rules>,
    states: States,
    rng: Rng,
    io_timeout: Duration,
    ping_interval: Duration,
    inboxes: Vec<Arc<Inbox>>,
    /// The same for whoever plays the daemon.
    site: Rc<RefCell<Site>>,
    metrics: Option<Arc<Metrics>>,
    broken: Option<Broken>,
    cache: CachePlan,
    moves: MovePlan,
    /// Where memory is short: how many pages hosts can have.
    spare: Option<u32>,
    /// All others.
    hog: Vec<PageMut>,
    /// Hosts reach the volumes over so many arrays more, which map them as virtual volumes.
    links: Option<u16>,
    /// The volumes are in pairs with those of a second array.
    pairs: Option<Pairs>,
    /// Connections of each link's session.
    link_connections: u16,
    /// What the links of this boot say of themselves.
    shapes: Vec<Arc<Shape>>,
}

impl Array for SimArray {
    type Core = Core<SimIo>;

    fn boot(&mut self, world: &World) -> Result<Vec<(SimIo, Self::Core)>, String> {
        if let Some(hops) = self.links {
            return self.boot_links(world, hops);
        }
        if self.pairs.is_some() {
            return self.boot_pairs(world);
        }
        let mut counts = vec![0u32; usize::from(self.cores)];
        let mut places = Vec::new();
        for volume in &self.volumes {
            let index = &mut counts[usize::from(volume.home)];
            places.push(UnitAddress { core: CoreId(volume.home), index: *index });
            *index += 1;
        }
        let mut counts = vec![0u32; usize::from(self.cores)];
        let mut shards_at = Vec::new();
        for volume in &self.volumes {
            let others = (1..volume.spread.map_or(1, |(shards, _)| shards)).map(|step| {
                let core = (volume.home + step) % self.cores;
                let index = &mut counts[usize::from(core)];
                *index += 1;
                ShardAddress { core: CoreId(core), index: *index - 1 }
            });
            shards_at.push(others.collect::<Vec<_>>());
        }
        let entries = self.volumes.iter().zip(&places).map(|(volume, at)| (volume.lun, *at, volume.block));
        let registry = Registry::new(self.cores.into(), 64, self.window.into());
        let rules = Arc::clone(&self.rules) as Arc<dyn kagami_channel::Access>;
        let shared = Arc::new(Shared::new(registry, rules, Directory::new(entries)));
        self.site.borrow_mut().booted(&shared, &places);
        let metrics = Metrics::new(self.cores.into(), self.volumes.len());
        self.metrics = Some(Arc::clone(&metrics));
        self.site.borrow_mut().metrics = Some(Arc::clone(&metrics));
        let mut machines: Vec<SimIo> = (0..self.cores).map(|_| world.add_core()).collect();
        let wakers: Vec<_> = machines.iter().map(SimIo::waker).collect();
        self.inboxes.clear();
        if let Some(spare) = self.spare {
            let pool = self.arena.pool(0);
            while self.arena.free_for_hosts(Class::Page) > spare {
                self.hog.push(pool.take(Class::Page, Purpose::Host).ok_or("a page that is free and is not")?);
            }
        }
        let mut booted = Vec::new();
        for (core, port) in (0u16..).zip(Mesh::new(self.cores, 64)) {
            let mut io = machines.remove(0);
            let pool = self.arena.pool(core);
            let zeroes = zero_page(&pool).ok_or("no page of zeroes")?;
            let mut units = Vec::new();
            let mut shards = Vec::new();
            for (row, (volume, place)) in self.volumes.iter().zip(&places).enumerate() {
                if place.core == CoreId(core) {
                    let file = io.open(volume.disk).map_err(|error| error.to_string())?;
                    let plan = parts::UnitPlan {
                        index: place.index,
                        row,
                        file,
                        io_timeout: self.io_timeout,
                        broken: self.broken,
                        shards: shards_at[row].clone(),
                    };
                    units.push(parts::unit(volume, &plan, &zeroes, &self.states)?);
                }
                for address in shards_at[row].iter().filter(|address| address.core == CoreId(core)) {
                    let file = io.open(volume.disk).map_err(|error| error.to_string())?;
                    let plan = parts::UnitPlan {
                        index: address.index,
                        row,
                        file,
                        io_timeout: self.io_timeout,
                        broken: None,
                        shards: Vec::new(),
                    };
                    shards.push(parts::shard(volume, &plan, &zeroes)?);
                }
            }
            let listeners = if core == 0 { self.portals.as_slice() } else { &[] };
            let sockets: Result<Vec<_>, _> = listeners.iter().map(|portal| io.listen(*portal)).collect();
            let waker = wakers[usize::from(core)].clone();
            let inbox = Arc::new(Inbox::new(port.ringer(), move || waker.wake()));
            self.inboxes.push(Arc::clone(&inbox));
            self.site.borrow_mut().inboxes.push(Arc::clone(&inbox));
            let parts = CoreParts {
                pool,
                port,
                units,
                shards,
                metrics: metrics.core(usize::from(core)).cloned().ok_or("no counters")?,
                keeper: Box::new(self.states.keeper(Arc::clone(&inbox), self.broken)),
                random: Box::new(self.rng.fork(7)),
                inbox,
            };
            let limits = CorePlan {
                connections: 64,
                window: self.window,
                ping_interval: self.ping_interval,
                cache: self.cache,
                moves: self.moves,
                ..CorePlan::default()
            };
            let others = wakers.clone();
            let wake = move |core: CoreId| others[core.index()].wake();
            let sockets = sockets.map_err(|error| error.to_string())?;
            let core = Core::new(limits, Arc::clone(&shared), parts, sockets, wake);
            let maker = steward::Maker {
                volumes: self.volumes.clone(),
                zeroes,
                states: self.states.clone(),
                io_timeout: self.io_timeout,
            };
            let core = core.with_maker(maker);
            booted.push((io, core));
        }
        Ok(booted)
    }

    fn stop(&mut self) -> bool {
        self.inboxes.iter().for_each(|inbox| drop(inbox.put(Control::Stop)));
        true
    }

    fn gone(&mut self, world: &World) -> Result<(), String> {
        self.inboxes.clear();
        self.site.borrow_mut().down();
        self.hog.clear();
        for status in self.shapes.drain(..).map(|shape| shape.status()) {
            world.count(Happening::LinkJoined, status.joined);
            world.count(Happening::LinkLost, status.losses);
            world.count(Happening::LinkRepeated, status.repeated);
        }
        if let Some(metrics) = self.metrics.take() {
            parts::count(world, &metrics, self.volumes.len(), self.cache.pages);
        }
        for class in Class::ALL {
            let (free, total) = (self.arena.free(class), self.arena.total(class));
            if free != total {
                return Err(format!("{} of {total} pages leaked of {class:?}", total - free));
            }
        }
        match &self.pairs {
            Some(pairs) => pairs.compare(world, &self.volumes),
            None => Ok(()),
        }
    }
}

/// The memory of all runs of a test.
pub fn arena() -> Arena {
    let plan = ArenaPlan::new(4).with(Class::Page, 16 << 10, 1024).with(Class::Small, 512, 64).with(
        Class::Large,
        64,
        16,
    );
    Arena::new(plan, HugePages::Off).expect("memory for the simulation")
}

/// Runs a seed: everything about the array, its hosts and its world is drawn from it; `tune` has
/// the last word on what goes wrong.
pub fn run(seed: u64, arena: Arena, tune: impl FnOnce(&mut Options)) -> Result<Report, Box<Failure>> {
    run_as(seed, arena, Setup::default(), tune)
}

/// What is not left to chance. The default leaves everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// The array is broken.
    pub broken: Option<Broken>,
    /// The run must be the same when it is repeated, bit by bit.
    pub exact: bool,
    /// Volumes are behind a cache, or not.
    pub cached: Option<bool>,
    /// Hosts change modes, reserve and reset, once in so many commands each.
    pub unrest: Option<u64>,
    /// After how many seconds the array gives a device command up.
    pub io_timeout: Option<u64>,
    /// Three cores, between which connections move whenever two commands went to another one.
    pub moves: bool,
    /// Two or three cores, over which volumes are spread.
    pub spread: bool,
    /// Hosts reach the volumes over so many arrays more, with links that are lost.
    pub links: Option<u16>,
    /// The volumes are in pairs.
    pub pairs: Option<Drill>,
    /// Disks are pulled out and put back, under load.
    pub pulls: bool,
    /// Volumes are removed and added, under load.
    pub changes: bool,
    /// Many commands are ORDERED and HEAD OF QUEUE, in a world where only devices take long.
    pub heads: bool,
}

/// The same with something that is not left to chance.
pub fn run_as(
    seed: u64,
    arena: Arena,
    setup: Setup,
    tune: impl FnOnce(&mut Options),
) -> Result<Report, Box<Failure>> {
    let Setup { broken, .. } = setup;
    let mut rng = Rng::new(seed ^ 0x6b61_6761_6d69);
    let mut options = Options::random(&mut rng);
    tune(&mut options);
    if setup.pulls {
        // What was not on the device when it went may not get there before a stop.
        options.disk.gone = options.disk.gone.max(1);
    }
    if let Some(lines) = std::env::var("KAGAMI_TRACE").ok().and_then(|text| text.parse().ok()) {
        options.trace = lines;
    }
    // Short ones only where devices hang: a slow disk or a core that stalls must not pass for that.
    let seconds = if options.disk.hang > 0 { rng.choose([1, 10, 30]) } else { 30 };
    let io_timeout = setup.io_timeout.unwrap_or(seconds) * 1_000_000_000;
    options.disk.late = io_timeout;
    options.disk.apart = broken.is_none_or(|broken| !broken.is_back_end());
    options.net.tamper = match broken {
        Some(Broken::Window) => Some(Tamper::Window),
        Some(Broken::Status) => Some(Tamper::Status),
        _ => None,
    };
    let mut sim = Sim::new(seed, options);
    let restless = setup.unrest.is_some();
    let (chap, resets) = (rng.one_in(4), rng.one_in(3) || restless);
    let resets = resets && !setup.changes && !setup.heads;
    // Hosts cannot reserve through a virtual volume, and links have no secret here.
    let far = setup.links.is_some() || setup.pairs.is_some();
    let chap = chap && !far;
    let cores = u16::try_from(rng.between(1, 3)).unwrap_or(1);
    let (cores, moves) = match setup.moves {
        true => (3, parts::RESTLESS),
        // A connection that moves takes up nothing until it is quiet.
        false if setup.heads => (cores, kagami_channel::MovePlan { window: 0, ..parts::RESTLESS }),
        false => (cores, parts::moves(&mut Rng::new(seed ^ 0x6d6f_7665))),
    };
    let mut spreading = Rng::new(seed ^ 0x7370_7265_6164);
    let cores = if setup.spread { cores.max(spreading.choose([2, 3])) } else { cores };
    let cache = CachePlan { pages: rng.choose([64, 100, 400]), volumes: 4, margin: 0, seed: rng.word() };
    let mut volumes = Vec::new();
    let mut luns = Vec::new();
    for number in 0..rng.between(1, 3) {
        let number = u16::try_from(number).unwrap_or(0);
        let block = rng.choose([BlockSize::B512, BlockSize::B512, BlockSize::B4096]);
        let sector = rng.choose([512u32, 512, 4096]);
        let bytes = rng.choose([64u64 << 10, 256 << 10, 1 << 20, 2 << 20]);
        let write_back = rng.one_in(2);
        let sectors = usize::try_from(bytes / u64::from(sector)).unwrap_or(1);
        let disk = sim.world().add_disk(usize::try_from(sector).unwrap_or(512), sectors);
        let unit = usize::try_from(sector.min(block.bytes())).unwrap_or(512);
        let units = usize::try_from(bytes).unwrap_or(0) / unit;
        let checker = Checker::new(rng.word(), unit, units, !write_back).on_disk(sim.world(), disk);
        let checker = match broken {
            Some(Broken::WholeCommands) => checker.with_whole_commands(u64::MAX),
            _ => checker,
        };
        sim.judge(&checker);
        let home = u16::try_from(rng.below(cores.into())).unwrap_or(0);
        let slots = rng.choose([4, 32, 256]);
        let cached = setup.cached.unwrap_or(rng.one_in(2));
        let cache = cached.then(|| parts::store_plan(&mut rng, cache, io_timeout, slots, write_back));
        // A cache would hide it: what it reads, it keeps.
        let cache = cache.filter(|_| broken != Some(Broken::WholeCommands));
        let checker = match cache {
            Some(_) => checker.with_whole_commands(u64::MAX),
            None => checker,
        };
        let lun = Lun::new(number * 100).unwrap_or_default();
        let blocks = BlockCount(bytes / u64::from(block.bytes()));
        // In a cache, a command may use half of what can be dirty.
        let longest = cache
            .map_or(blocks.0, |cache| blocks.0.min(u64::from(cache.dirty) * 2048 / u64::from(block.bytes())));
        let spread = (setup.spread && (number == 0 || spreading.one_in(2))).then(|| {
            let shards = u16::try_from(spreading.between(2, cores.into())).unwrap_or(2);
            (shards, spreading.choose([4u64 << 10, 8 << 10, 64 << 10, 256 << 10]))
        });
        luns.push(LunPlan {
            lun,
            block: usize::try_from(block.bytes()).unwrap_or(512),
            blocks: blocks.0,
            // So little that no read waits for the answers before it to go out.
            longest: longest.min(rng.choose([8, 8, 64, 64, 256, 1024])).min(if setup.heads {
                8
            } else {
                u64::MAX
            }),
            cached: cache.is_some(),
            spread: spread.is_some(),
            ends_tasks: resets,
            compare: rng.choose([1, 8]).min(longest),
            checker,
        });
        let uuid = Uuid::from_u128(u128::from(rng.word()) << 64 | u128::from(number));
        volumes.push(Volume {
            lun,
            block,
            bytes,
            disk,
            sector,
            write_back,
            home,
            slots,
            cache,
            uuid,
            spread,
        });
    }
    let portals = vec![SocketAddr::from(([127, 0, 0, 1], 3260)), SocketAddr::from(([127, 0, 0, 1], 3261))];
    let target = IscsiName::new(TARGET).expect("a valid name");
    let disk = options.disk;
    let faulty = disk.error + disk.no_space + disk.hang + disk.gone > 0 || broken == Some(Broken::GivenUp);
    let mut actors: Vec<Box<dyn Actor>> = Vec::new();
    let (modes, reserves) = (rng.one_in(2) || restless, rng.one_in(3) || restless);
    // What a volume that is removed takes with it, hosts would have to know.
    let alone = far || setup.changes || setup.heads;
    let (modes, reserves) = (modes && !alone, reserves && !alone);
    // A link that is lost may fail a command; the sense data says so.
    let faulty = faulty || far;
    let net = options.net;
    let calm = !faulty && !resets && !reserves && options.core.stall + options.crash.count == 0;
    let prompt = calm && net.cut + net.flip + net.refuse == 0;
    for number in 0..rng.between(1, 3) {
        let number = u16::try_from(number).unwrap_or(0);
        let name = format!("iqn.2026-11.io.kagami:host{number}");
        let plan = HostPlan {
            number,
            name: IscsiName::new(&name).expect("a valid name"),
            target: target.clone(),
            address: IpAddr::V4(Ipv4Addr::new(127, 0, 1, u8::try_from(number).unwrap_or(0))),
            portals: portals.clone(),
            account: chap.then(|| parts::account(number)),
            luns: luns.clone(),
            commands: u32::try_from(rng.between(50, 200)).unwrap_or(100),
            depth: rng.choose([1, 8, 32]).min(if setup.heads { 8 } else { usize::MAX }),
            connections: rng.choose([1, 1, 2, 4]),
            resets,
            unrest: setup.unrest.unwrap_or(rng.choose([8, 20, 60])),
            modes,
            reserves,
            patience: rng.choose([if prompt { 30 } else { 1 }, 15, 40]) * 1_000_000_000,
            faulty,
            gives_up: (disk.hang > 0).then_some(io_timeout),
            loose_changes: false,
            exact: setup.exact,
            plain: options.net.tamper.is_some(),
            prompt,
            unordered: broken == Some(Broken::Order),
            heads: setup.heads.then_some(30_000_000),
            headless: broken == Some(Broken::Head),
            comes_and_goes: setup.changes,
        };
        if rng.one_in(4) {
            actors.push(Box::new(Asker::new(plan.clone(), rng.fork(100), 3)));
        }
        actors.push(Box::new(Host::new(plan, rng.fork(number.into()))));
    }
    let spare = (rng.one_in(6) && !setup.heads).then_some(700);
    let pairs = setup.pairs.map(|drill| {
        let mut rng = Rng::new(seed ^ 0x7061_6972);
        let pairs = Pairs::new(sim.world(), &volumes, drill, &mut rng);
        actors.push(Box::new(pairs.operator(rng.fork(1))));
        pairs
    });
    let site = Rc::new(RefCell::new(Site::default()));
    if setup.pulls || setup.changes {
        let deeds: &[Deed] = match (setup.pulls, setup.changes) {
            (true, true) => &[Deed::Pull, Deed::Change],
            (true, false) => &[Deed::Pull],
            _ => &[Deed::Change],
        };
        let wards = volumes.iter().zip(&luns).map(|(volume, plan)| Ward::new(volume, &plan.checker));
        // It has a stream of its own: the others' are as they would be without it.
        let steward = Rng::new(seed ^ 0x7374_6577);
        let sound = disk.error + disk.no_space + disk.hang + disk.gone == 0;
        actors.push(Box::new(Steward::new(Rc::clone(&site), wards.collect(), deeds, sound, cores, steward)));
    }
    let mut array = SimArray {
        arena,
        cores,
        volumes,
        rules: Arc::new(Rules::new(target, portals.clone(), chap, &mut rng)),
        portals,
        window: rng.choose([2, 16, 64]),
        states: States::default(),
        io_timeout: Duration::from_nanos(io_timeout),
        ping_interval: Duration::from_secs(rng.choose([1, 15])),
        rng,
        inboxes: Vec::new(),
        metrics: None,
        broken,
        cache,
        moves,
        spare,
        hog: Vec::new(),
        links: setup.links,
        pairs,
        link_connections: Rng::new(seed ^ 0x6a6f_696e).choose([1, 1, 2, 3, 4]),
        shapes: Vec::new(),
        site,
    };
    sim.run(&mut array, &mut actors)
}
