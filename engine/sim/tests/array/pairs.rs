//! Two arrays with a group between them, in one simulated world: hosts use the volumes of the first, the second has the
//! other halves. Both are real ones: cores, fronts, groups, links. They crash together, and the links between them are cut
//! as hosts' connections are. An operator gives orders, and at the end wants the pair whole and everything restored; then
//! both halves must be equal, byte for byte.

use super::{SimArray, TARGET, Volume, parts};
use kagami_channel::{
    Control, Core, CoreParts, CorePlan, Directory, GroupControl, GroupSeed, Inbox, PairSeed, Registry, Shape,
    Shared, UnitAddress, VirtualUnit, WallClock,
};
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::Preferences;
use kagami_link::LinkPlan;
use kagami_metrics::Metrics;
use kagami_queue::Mesh;
use kagami_replica::action::OrderResult;
use kagami_replica::mail::VolumeIndex;
use kagami_replica::{
    FrontPlan, Group, GroupPlan, Loser, Options, Order, PlannedVolume, Report, Side, State,
};
use kagami_scsi::{Front, FrontConfig, Role, TargetName, TargetPort};
use kagami_sim::{Actor, Rng, SimIo, Who, World};
use kagami_types::{BlockCount, BlockSize, CoreId, Lun, Time, Uuid};
use kagami_volume::zero_page;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Where the journals are to be found.
const JOURNAL: u16 = 900;

/// The group's name everywhere.
const GROUP: &str = "erp";

/// How often the operator looks, in nanoseconds.
const LOOK: u64 = 20_000_000;

/// How long the pair may take to be whole in a calm world, in nanoseconds.
const SETTLED: u64 = 180_000_000_000;

/// A wall clock that begins in 2026.
const EPOCH: u64 = 1_795_000_000_000_000_000;

/// What happens to the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// Nothing: there are fronts, and no group ever speaks to them.
    Fronts,
    /// The group is made, and an operator gives so many orders.
    Orders(u32),
}

/// What is there besides the first array's volumes.
pub struct Pairs {
    /// The second array's volumes.
    far: Vec<Volume>,
    /// Both arrays' journals.
    journals: [Volume; 2],
    /// The second array's cores.
    far_cores: u16,
    options: Options,
    drill: Drill,
    share: Rc<RefCell<Share>>,
}

/// What the array and its operator share.
#[derive(Default)]
struct Share {
    /// The inboxes of the cores with the journals, while the arrays run.
    boxes: Vec<Arc<Inbox>>,
    /// The journal units' indices there.
    units: [u32; 2],
    /// The groups have been made durable, once.
    created: [bool; 2],
    /// The array ran before. Only at run time a front is put before a volume that hosts use already, so a later start knows
    /// nothing of what was written: it waits for the group.
    ran: [bool; 2],
    /// The operator says that both halves are equal now.
    settled: bool,
}

fn portal(array: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], [3300, 3301][array.min(1)]))
}

fn array_name(array: usize) -> String {
    format!("iqn.2026-11.io.kagami:array{array}")
}

fn array_uuid(array: usize) -> Uuid {
    Uuid::from_u128(0xa000 + array as u128)
}

impl Pairs {
    /// A second array for these volumes, with disks of its own.
    pub fn new(world: &World, volumes: &[Volume], drill: Drill, rng: &mut Rng) -> Self {
        let disk = |bytes: u64, sector: u32| {
            let sectors = usize::try_from(bytes / u64::from(sector)).unwrap_or(1);
            world.add_disk(usize::try_from(sector).unwrap_or(512), sectors)
        };
        let far_cores = u16::try_from(rng.between(1, 2)).unwrap_or(1);
        let far = volumes.iter().map(|volume| Volume {
            disk: disk(volume.bytes, volume.sector),
            uuid: Uuid::from_u128(volume.uuid.as_u128() ^ 0xf),
            home: u16::try_from(rng.below(far_cores.into())).unwrap_or(0),
            write_back: rng.one_in(2),
            spread: None,
            ..volume.clone()
        });
        let far = far.collect();
        let bytes = rng.choose([2816u64 << 10, 4 << 20, 8 << 20]);
        let journals = [0, 1u16].map(|array| Volume {
            lun: Lun::new(JOURNAL).unwrap_or_default(),
            block: rng.choose([BlockSize::B512, BlockSize::B4096]),
            bytes,
            disk: disk(bytes, 512),
            sector: 512,
            write_back: true,
            home: 0,
            slots: 64,
            cache: None,
            uuid: Uuid::from_u128(0xb000 + u128::from(array)),
            spread: None,
        });
        let options = Options {
            restart_wait: Duration::from_secs(rng.choose([1, 5])),
            secondary_reads: rng.one_in(2),
            reader_limit: Duration::ZERO,
            ..Options::default()
        };
        Self { far, journals, far_cores, options, drill, share: Rc::default() }
    }

    /// The operator of the pair.
    pub fn operator(&self, rng: Rng) -> Operator {
        Operator {
            share: Rc::clone(&self.share),
            rng,
            orders: match self.drill {
                Drill::Fronts => 0,
                Drill::Orders(orders) => orders,
            },
            idle: self.drill == Drill::Fronts,
            settling: false,
            done: false,
            finished: 0,
            answer: None,
            reports: [None, None],
            seen: [None, None],
            quiet: (0, Time(0)),
            next_order: Time(0),
            calm: Time(0),
        }
    }

    /// The arrays were dropped: their halves must be equal, where the operator said so.
    pub fn compare(&self, world: &World, volumes: &[Volume]) -> Result<(), String> {
        self.share.borrow_mut().boxes.clear();
        if !self.share.borrow().settled {
            return Ok(());
        }
        for (near, far) in volumes.iter().zip(&self.far) {
            let (one, other) = (world.image(near.disk), world.image(far.disk));
            if let Some(at) = one.iter().zip(&other).position(|(one, other)| one != other) {
                return Err(format!("the halves of LUN {} differ from byte {at} on", near.lun));
            }
        }
        Ok(())
    }
}

fn virtual_unit(array: usize, number: u16, mapped: Lun, row: usize, io_timeout: Duration) -> VirtualUnit {
    let name = IscsiName::new(&array_name(array)).expect("a name");
    let lun = Lun::new(2000 + number).unwrap_or_default();
    let link = LinkPlan {
        array: array_uuid(array),
        initiator: name,
        target: IscsiName::new(TARGET).expect("a name"),
        isid: LinkPlan::isid(array_uuid(array), lun),
        portals: Box::new([portal(1 - array)]),
        account: None,
        connections: 1,
        preferences: Preferences::default(),
        mapped,
        io_timeout,
        login_timeout: Duration::from_secs(5),
        most_pause: Duration::from_secs(1),
        slots: 32,
        bytes: 8 << 20,
    };
    let front = Front::new(FrontConfig {
        lun,
        role: Role::Volume,
        revision: "0010".to_owned(),
        target: TargetName {
            name: TARGET.to_owned(),
            port_group: 1,
            ports: vec![TargetPort { relative: 1, portal_group: 1 }],
        },
        nexuses: 4,
        most_bytes: 2 << 20,
    });
    VirtualUnit::new(front, link, row, Arc::new(Shape::default()))
}

impl SimArray {
    /// Boots both arrays.
    pub(super) fn boot_pairs(&mut self, world: &World) -> Result<Vec<(SimIo, Core<SimIo>)>, String> {
        let pairs = self.pairs.take().ok_or("no second array")?;
        self.inboxes.clear();
        pairs.share.borrow_mut().boxes.clear();
        let near = self.volumes.clone();
        let cores = self.cores;
        let mut booted = self.boot_side(world, &pairs, 0, &near, cores)?;
        booted.extend(self.boot_side(world, &pairs, 1, &pairs.far, pairs.far_cores)?);
        self.pairs = Some(pairs);
        Ok(booted)
    }

    fn boot_side(
        &mut self,
        world: &World,
        pairs: &Pairs,
        side: usize,
        volumes: &[Volume],
        cores: u16,
    ) -> Result<Vec<(SimIo, Core<SimIo>)>, String> {
        let journal = &pairs.journals[side];
        let served: Vec<&Volume> = volumes.iter().chain([journal]).collect();
        let mut counts = vec![0u32; usize::from(cores)];
        let places: Vec<UnitAddress> = served
            .iter()
            .map(|volume| {
                let index = &mut counts[usize::from(volume.home)];
                *index += 1;
                UnitAddress { core: CoreId(volume.home), index: *index - 1 }
            })
            .collect();
        let home = *places.last().ok_or("no journal")?;
        let entries = served.iter().zip(&places).map(|(volume, at)| (volume.lun, *at, volume.block));
        let registry = Registry::new(cores.into(), 64, self.window.into());
        let mut portals = vec![portal(side)];
        if side == 0 {
            portals.extend(self.portals.iter().copied());
        }
        let rules = match side {
            0 => self.rules.with_peer(portal(0)),
            _ => self.rules.at(portals.clone()),
        };
        let rules = Arc::new(rules);
        let shared = Arc::new(Shared::new(registry, rules, Directory::new(entries)));
        let rows = served.len() + volumes.len() + 2;
        let metrics = Metrics::new(cores.into(), rows);
        if side == 0 {
            self.metrics = Some(Arc::clone(&metrics));
        }
        let mut machines: Vec<SimIo> = (0..cores).map(|_| world.add_core()).collect();
        let wakers: Vec<_> = machines.iter().map(SimIo::waker).collect();
        let mut boxes = Vec::new();
        let mut booted = Vec::new();
        for (core, port) in (0u16..).zip(Mesh::new(cores, 64)) {
            let mut io = machines.remove(0);
            let pool = self.arena.pool(if side == 0 { core } else { 3 });
            let zeroes = zero_page(&pool).ok_or("no page of zeroes")?;
            let mut units = Vec::new();
            for (row, (volume, place)) in served.iter().zip(&places).enumerate() {
                if place.core != CoreId(core) {
                    continue;
                }
                let file = io.open(volume.disk).map_err(|error| error.to_string())?;
                let plan = parts::UnitPlan {
                    index: place.index,
                    row,
                    file,
                    io_timeout: self.io_timeout,
                    broken: None,
                    shards: Vec::new(),
                };
                let unit = parts::unit(volume, &plan, &zeroes, &self.states)?;
                units.push(if *place == home { unit.as_journal() } else { unit });
            }
            let mut virtuals = Vec::new();
            if CoreId(core) == home.core {
                // Two connections for the journal.
                let luns =
                    [journal.lun, journal.lun].into_iter().chain(volumes.iter().map(|volume| volume.lun));
                for (number, lun) in (0u16..).zip(luns) {
                    let row = served.len() + usize::from(number);
                    virtuals.push(virtual_unit(
                        side,
                        number,
                        lun,
                        row,
                        self.io_timeout.min(Duration::from_secs(10)),
                    ));
                }
            }
            let listeners = if core == 0 { portals.as_slice() } else { &[] };
            let sockets: Result<Vec<_>, _> = listeners.iter().map(|portal| io.listen(*portal)).collect();
            let waker = wakers[usize::from(core)].clone();
            let inbox = Arc::new(Inbox::new(port.ringer(), move || waker.wake()));
            boxes.push(Arc::clone(&inbox));
            self.inboxes.push(Arc::clone(&inbox));
            let parts = CoreParts {
                pool,
                port,
                units,
                shards: Vec::new(),
                metrics: metrics.core(usize::from(core)).cloned().ok_or("no counters")?,
                keeper: Box::new(self.states.keeper(Arc::clone(&inbox), None)),
                random: Box::new(self.rng.fork(7)),
                inbox,
            };
            let limits = CorePlan {
                connections: 64,
                window: self.window,
                ping_interval: self.ping_interval,
                cache: self.cache,
                ..CorePlan::default()
            };
            let others = wakers.clone();
            let wake = move |core: CoreId| others[core.index()].wake();
            let sockets = sockets.map_err(|error| error.to_string())?;
            let core = Core::new(limits, Arc::clone(&shared), parts, sockets, wake);
            booted.push((io, core.with_virtual(virtuals)));
        }
        start_group(pairs, side, volumes, &places, &boxes)?;
        Ok(booted)
    }
}

/// Puts the group to work, before the cores run.
fn start_group(
    pairs: &Pairs,
    side: usize,
    volumes: &[Volume],
    places: &[UnitAddress],
    boxes: &[Arc<Inbox>],
) -> Result<(), String> {
    let home = *places.last().ok_or("no journal")?;
    let planned = (0u8..).zip(volumes).map(|(index, volume)| PlannedVolume {
        index: VolumeIndex(index),
        uuid: volume.uuid,
        lun: volume.lun,
        far_lun: volume.lun,
        blocks: volume.bytes / u64::from(volume.block.bytes()),
        block_size: volume.block.bytes(),
    });
    let mut share = pairs.share.borrow_mut();
    let create = (!share.created[side]).then_some([Side::Primary, Side::Secondary][side]);
    let group = Group::new(GroupPlan {
        group: Uuid::from_u128(0xc000),
        name: GROUP.to_owned(),
        own_array: array_uuid(side),
        peer_array: array_uuid(1 - side),
        journal: pairs.journals[side].uuid,
        journal_bytes: pairs.journals[side].bytes,
        volumes: planned.collect(),
        options: pairs.options.clone(),
        create,
    });
    let sequencer = group.sequencer();
    let put = |core: CoreId, unit: u32, control: GroupControl| {
        let inbox = boxes.get(core.index()).ok_or("no such core")?;
        inbox.put(Control::Group { unit, control }).map_err(|_| "the box is full".to_owned())
    };
    let index = |number: usize| VirtualUnit::address(home.core, u32::try_from(number).unwrap_or(0)).index;
    let numbers = (0u8..).map(VolumeIndex);
    let seed = GroupSeed {
        group,
        volumes: numbers.clone().zip(places.iter().copied()).take(volumes.len()).collect(),
        far_journal: vec![index(0), index(1)],
        far_volumes: numbers.clone().zip((0..volumes.len()).map(|number| vec![index(2 + number)])).collect(),
        clock: WallClock::new(|now| EPOCH + now.0),
    };
    let (answer, _) = sync_channel(1);
    let drill = pairs.drill != Drill::Fronts;
    if drill {
        put(home.core, home.index, GroupControl::Add { seed: Box::new(seed), answer })?;
    }
    for ((number, volume), place) in numbers.zip(volumes).zip(places) {
        let front = FrontPlan {
            index: number,
            block_size: volume.block,
            blocks: BlockCount(volume.bytes / u64::from(volume.block.bytes())),
            sequencer: Arc::clone(&sequencer),
            slots: volume.slots,
        };
        let reader = Some(array_name(1 - side).into());
        let is_new = !share.ran[side] || !drill;
        let seed = Box::new(PairSeed { front, group: home, is_new, reader });
        put(place.core, place.index, GroupControl::Pair { seed, answer: sync_channel(1).0 })?;
    }
    if drill {
        put(home.core, home.index, GroupControl::Start)?;
    }
    share.ran[side] = true;
    share.units[side] = home.index;
    share.boxes.push(Arc::clone(boxes.get(home.core.index()).ok_or("no such core")?));
    Ok(())
}

fn label(state: State) -> &'static str {
    match state {
        State::Smpl => "SMPL: side, stable, restored",
        State::Copy => "COPY: side, stable, restored",
        State::Pair => "PAIR: side, stable, restored",
        State::Psus { .. } => "PSUS: side, stable, restored",
        State::Psue => "PSUE: side, stable, restored",
        State::Ssws => "SSWS: side, stable, restored",
    }
}

/// Gives orders to the pair, and looks whether it does what it should.
pub struct Operator {
    share: Rc<RefCell<Share>>,
    rng: Rng,
    /// How many orders are to come.
    orders: u32,
    /// There is no group.
    idle: bool,
    settling: bool,
    done: bool,
    finished: u64,
    answer: Option<(Order, Receiver<OrderResult>)>,
    reports: [Option<Receiver<Option<Box<Report>>>>; 2],
    /// What was reported last.
    seen: [Option<Report>; 2],
    /// The sequence at the primary when it last changed, and since when.
    quiet: (u64, Time),
    next_order: Time,
    /// When the world became calm.
    calm: Time,
}

impl Operator {
    fn tell(&self, side: usize, control: GroupControl) {
        let share = self.share.borrow();
        if let Some(inbox) = share.boxes.get(side) {
            let _ = inbox.put(Control::Group { unit: share.units[side], control });
        }
    }

    fn look(&mut self, world: &World) {
        for side in 0..2 {
            let answered = self.reports[side].as_ref().map(Receiver::try_recv);
            match answered {
                Some(Ok(report)) => {
                    if let Some(report) = report {
                        let place = &report.positions;
                        let numbers = [side as u64, place.stable_sequence.0, place.restored_sequence.0];
                        let before = self.seen[side].as_ref();
                        if before
                            .is_none_or(|before| before.positions != *place || before.state != report.state)
                        {
                            world.note(Who::World, label(report.state), numbers);
                        }
                        self.share.borrow_mut().created[side] = true;
                        self.seen[side] = Some(*report);
                    }
                    self.reports[side] = None;
                }
                Some(Err(std::sync::mpsc::TryRecvError::Empty)) => continue,
                _ => {}
            }
            let (answer, report) = sync_channel(1);
            self.tell(side, GroupControl::Report { answer });
            self.reports[side] = Some(report);
        }
    }

    fn order(&mut self, side: usize, order: Order) {
        let (answer, result) = sync_channel(1);
        self.tell(side, GroupControl::Order { order: order.clone(), answer });
        self.answer = Some((order, result));
    }

    /// Whether the pair is whole and everything is restored, and nothing has been written for a while.
    fn is_equal(&mut self, now: Time) -> bool {
        let [Some(near), Some(far)] = &self.seen else { return false };
        let written = near.positions.stable_sequence.0;
        if written != self.quiet.0 || near.side != Side::Primary {
            self.quiet = (written, now);
        }
        near.state == State::Pair
            && far.state == State::Pair
            && far.positions.restored_sequence.0 >= written
            && now.nanos_since(self.quiet.1) > 3_000_000_000
    }

    /// Brings the pair back, whatever it was ordered before.
    fn mend(&mut self) {
        let [Some(near), Some(far)] = &self.seen else { return };
        let order = match (near.side, near.state) {
            (Side::Primary, State::Psus { .. } | State::Psue) => {
                Some((0, Order::Resync { discard: Some(Loser::There) }))
            }
            (Side::Secondary, _) if far.side == Side::Primary && far.state == State::Pair => {
                Some((1, Order::Swap { dry_run: false }))
            }
            (Side::Secondary, _) if far.side == Side::Primary => {
                Some((1, Order::Resync { discard: Some(Loser::There) }))
            }
            _ => None,
        };
        if let Some((side, order)) = order {
            self.order(side, order);
        }
    }
}

impl Actor for Operator {
    fn joined(&mut self, world: &World, number: usize) {
        world.wake_at(number, world.now());
    }

    fn act(&mut self, world: &World) -> Result<Time, String> {
        let now = world.now();
        let next = Time(now.0 + LOOK);
        if self.idle {
            self.done = true;
            return Ok(Time::NEVER);
        }
        self.look(world);
        if let Some((order, answer)) = &self.answer {
            match answer.try_recv() {
                Ok(result) => {
                    world.note(Who::World, "an order was answered with", [result.exit_code().into(), 0, 0]);
                    if let OrderResult::Failed(why) = &result {
                        return Err(format!("{order:?} failed: {why}"));
                    }
                    self.finished += 1;
                    self.answer = None;
                    self.next_order = Time(now.0 + self.rng.skewed(1_000_000, 500_000_000));
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(next),
                // The array crashed meanwhile.
                Err(_) => self.answer = None,
            }
        }
        if now < self.next_order {
            return Ok(next);
        }
        if self.settling {
            if !self.done && now.nanos_since(self.calm) > SETTLED {
                return Err(format!("the pair is not whole: {:#?}", self.seen));
            }
            // A host may still write after it has connected again.
            let equal = self.is_equal(now);
            self.finished += u64::from(equal && !self.done);
            self.share.borrow_mut().settled = equal;
            self.done = equal;
            if !equal {
                self.mend();
            }
            return Ok(next);
        }
        if self.orders == 0 {
            self.done = true;
            return Ok(next);
        }
        self.orders -= 1;
        let side = self.rng.index(2);
        let order = match self.rng.below(5) {
            0 => Order::Split { writable: false },
            1 | 2 => Order::Resync { discard: None },
            _ => Order::Swap { dry_run: false },
        };
        self.order(side, order);
        Ok(next)
    }

    fn crashed(&mut self, _world: &World, _power: bool) {
        self.answer = None;
        self.reports = [None, None];
        self.seen = [None, None];
    }

    fn settle(&mut self, world: &World) {
        self.settling = true;
        self.done = false;
        self.next_order = world.now();
        self.quiet = (u64::MAX, world.now());
        self.calm = world.now();
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn progress(&self) -> u64 {
        // What the pair does counts, too.
        let moved = |report: &Report| {
            report.positions.restored + report.positions.read + u64::from(report.progress.unwrap_or(0))
        };
        self.finished + self.seen.iter().flatten().map(moved).sum::<u64>()
    }
}
