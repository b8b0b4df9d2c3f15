//! The daemon's part while the array runs: it watches devices that are pulled out and put back, and removes and adds
//! volumes, as `kagamid` does it and by the same messages, all at random moments under the hosts' load.

use super::Volume;
use super::parts::{self, States};
use kagami_channel::{
    Control, DeviceChange, Directory, Inbox, Seed, Shard, ShardAddress, Shared, Unit, UnitAddress, UnitMaker,
};
use kagami_memory::Page;
use kagami_metrics::Metrics;
use kagami_scsi::Attention;
use kagami_sim::checker::{Checker, Flush, Presence, Units};
use kagami_sim::{Actor, Happening, Rng, SimIo, World};
use kagami_types::{CoreId, Time};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

const MILLI: u64 = 1_000_000;

/// The array as the daemon has it: empty while it is down.
#[derive(Default)]
pub struct Site {
    pub inboxes: Vec<Arc<Inbox>>,
    pub metrics: Option<Arc<Metrics>>,
    shared: Option<Arc<Shared>>,
    /// Where each volume's unit is, if anywhere.
    places: Vec<Option<UnitAddress>>,
}

impl Site {
    pub fn booted(&mut self, shared: &Arc<Shared>, places: &[UnitAddress]) {
        self.inboxes.clear();
        self.shared = Some(Arc::clone(shared));
        self.places = places.iter().copied().map(Some).collect();
    }

    pub fn down(&mut self) {
        *self = Self::default();
    }

    /// False where the box is full, or the array is down.
    fn tell(&self, core: CoreId, control: Control) -> bool {
        self.inboxes.get(core.index()).is_some_and(|inbox| inbox.put(control).is_ok())
    }
}

/// What a new unit or shard is made from.
struct Made {
    row: usize,
    shards: Vec<ShardAddress>,
}

/// Makes units and shards of the volumes that there were at the start.
pub struct Maker {
    pub volumes: Vec<Volume>,
    pub zeroes: Page,
    pub states: States,
    pub io_timeout: Duration,
}

impl Maker {
    fn plan(&self, io: &mut SimIo, index: u32, made: Made) -> Result<(&Volume, parts::UnitPlan), String> {
        let volume = self.volumes.get(made.row).ok_or("no such volume")?;
        let plan = parts::UnitPlan {
            index,
            row: made.row,
            file: io.open(volume.disk).map_err(|error| error.to_string())?,
            io_timeout: self.io_timeout,
            broken: None,
            shards: made.shards,
        };
        Ok((volume, plan))
    }
}

impl UnitMaker<SimIo> for Maker {
    fn make(&mut self, io: &mut SimIo, index: u32, seed: Seed) -> Result<Unit, String> {
        let made = *seed.downcast::<Made>().map_err(|_| "another seed")?;
        let (volume, plan) = self.plan(io, index, made)?;
        parts::unit(volume, &plan, &self.zeroes, &self.states)
    }

    fn make_shard(&mut self, io: &mut SimIo, index: u32, seed: Seed) -> Result<Shard, String> {
        let made = *seed.downcast::<Made>().map_err(|_| "another seed")?;
        let (volume, plan) = self.plan(io, index, made)?;
        parts::shard(volume, &plan, &self.zeroes)
    }
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Pulls a device out, and puts it back.
    Pull,
    /// Removes a volume, and adds it again.
    Change,
}

/// A volume in its care.
pub struct Ward {
    volume: Volume,
    checker: Checker,
}

impl Ward {
    pub fn new(volume: &Volume, checker: &Checker) -> Self {
        Self { volume: volume.clone(), checker: checker.clone() }
    }
}

/// How far it is.
enum Stage {
    /// Nothing until then.
    Rests(Time),
    /// The device is out; the array will hear of it then.
    Out { ward: usize, told_at: Time, back_at: Time, closed: Option<Receiver<bool>> },
    /// Nothing has it open any more; it is put back then.
    Shut { ward: usize, back_at: Time },
    /// It is back; the array goes on with it, or says why not.
    Back { ward: usize, answer: Receiver<Result<(), String>> },
    /// Its unit finishes what it has.
    Leaving { ward: usize, gone: Receiver<()> },
    /// The volume is not there until then.
    Absent { ward: usize, until: Time },
    /// Its shards are made, these first.
    Shards {
        ward: usize,
        home: CoreId,
        made: Vec<ShardAddress>,
        left: VecDeque<(CoreId, Receiver<Result<u32, String>>)>,
    },
    /// Its unit is made.
    Coming { ward: usize, home: CoreId, made: Receiver<Result<u32, String>> },
}

/// The daemon's part; see the module.
pub struct Steward {
    site: Rc<RefCell<Site>>,
    wards: Vec<Ward>,
    deeds: &'static [Deed],
    /// No disk fails.
    sound: bool,
    cores: u16,
    rng: Rng,
    stage: Stage,
    done: u64,
    settling: bool,
}

impl Steward {
    pub fn new(
        site: Rc<RefCell<Site>>,
        wards: Vec<Ward>,
        deeds: &'static [Deed],
        sound: bool,
        cores: u16,
        mut rng: Rng,
    ) -> Self {
        let first = Time(rng.skewed(MILLI, 200 * MILLI));
        Self { site, wards, deeds, sound, cores, rng, stage: Stage::Rests(first), done: 0, settling: false }
    }

    fn soon(&mut self, world: &World, most: u64) -> Time {
        let most = if self.settling { MILLI } else { most };
        world.now() + Duration::from_nanos(self.rng.skewed(MILLI / 10, most))
    }

    fn rest(&mut self, world: &World) -> Stage {
        self.done += 1;
        let most = self.rng.choose([20, 200, 2000]) * MILLI;
        Stage::Rests(self.soon(world, most))
    }

    /// What the array knows of the device.
    fn is_now(&self, ward: usize, presence: Presence) {
        self.wards[ward].checker.device().is_now(presence);
    }

    fn place(&self, ward: usize) -> Option<UnitAddress> {
        self.site.borrow().places.get(ward).copied().flatten()
    }

    /// Shows all cores and hosts which volumes there are.
    fn publish(&self) {
        let site = self.site.borrow();
        let Some(shared) = &site.shared else { return };
        let there = self
            .wards
            .iter()
            .zip(&site.places)
            .filter_map(|(ward, place)| place.map(|place| (ward.volume.lun, place, ward.volume.block)));
        shared.set_directory(Directory::new(there));
        for core in (0..self.cores).map(CoreId) {
            site.tell(core, Control::Changed);
            site.tell(core, Control::Attend { unit: None, nexuses: None, attention: Attention::LunsChanged });
        }
    }

    /// Something new.
    fn begin(&mut self, world: &World) -> Stage {
        let ward = self.rng.index(self.wards.len());
        let Some(UnitAddress { core, index }) = self.place(ward) else { return self.rest(world) };
        match self.rng.choose([self.deeds[0], self.deeds[self.deeds.len() - 1]]) {
            Deed::Pull => {
                let site = self.site.borrow();
                let dirty = site
                    .metrics
                    .as_ref()
                    .map_or(0, |metrics| metrics.volume_sum(ward, |volume| volume.cache.dirty.get()));
                drop(site);
                if dirty > 0 {
                    world.hit(Happening::PulledDirty);
                }
                self.is_now(ward, Presence::Changing);
                world.pull(self.wards[ward].volume.disk);
                if self.done.is_multiple_of(2) {
                    self.wards[ward].checker.begin_loss();
                    world.cut_power(self.wards[ward].volume.disk);
                }
                let away = self.rng.choose([2, 100, 5000]) * MILLI;
                Stage::Out {
                    ward,
                    told_at: self.soon(world, 300 * MILLI),
                    back_at: self.soon(world, away),
                    closed: None,
                }
            }
            Deed::Change => {
                let (answer, gone) = sync_channel(1);
                if let Some(place) = self.site.borrow_mut().places.get_mut(ward) {
                    *place = None;
                }
                self.publish();
                self.site.borrow().tell(core, Control::RemoveUnit { unit: index, answer });
                Stage::Leaving { ward, gone }
            }
        }
    }

    fn tell_gone(&self, ward: usize) -> Option<Receiver<bool>> {
        let UnitAddress { core, index } = self.place(ward)?;
        let (closed, answer) = sync_channel(1);
        let change = DeviceChange::Gone { closed };
        self.site.borrow().tell(core, Control::Device { unit: index, change }).then_some(answer)
    }

    fn tell_back(&mut self, world: &World, ward: usize) -> Result<Stage, String> {
        let volume = &self.wards[ward].volume;
        world.put_back(volume.disk);
        self.is_now(ward, Presence::Changing);
        let Some(UnitAddress { core, index }) = self.place(ward) else { return Ok(self.rest(world)) };
        let device = World::descriptor(volume.disk).map_err(|error| error.to_string())?;
        let (sender, answer) = sync_channel(1);
        let change =
            DeviceChange::Back { device, polled: false, limits: parts::limits(volume), answer: sender };
        self.site.borrow().tell(core, Control::Device { unit: index, change });
        Ok(Stage::Back { ward, answer })
    }

    fn make_shards(&mut self, ward: usize) -> Stage {
        let volume = &self.wards[ward].volume;
        let home = CoreId(u16::try_from(self.rng.below(self.cores.into())).unwrap_or(0));
        let others = (1..volume.spread.map_or(1, |(shards, _)| shards)).map(|step| {
            let core = CoreId((home.0 + step) % self.cores);
            let (answer, made) = sync_channel(1);
            let seed = Box::new(Made { row: ward, shards: Vec::new() });
            self.site.borrow().tell(core, Control::AddShard { seed, answer });
            (core, made)
        });
        let left = others.collect();
        Stage::Shards { ward, home, made: Vec::new(), left }
    }

    fn make_unit(&self, ward: usize, home: CoreId, shards: Vec<ShardAddress>) -> Stage {
        let (answer, made) = sync_channel(1);
        let seed = Box::new(Made { row: ward, shards });
        self.site.borrow().tell(home, Control::AddUnit { seed, answer });
        Stage::Coming { ward, home, made }
    }

    /// One step, as far as it can be taken now. The array may have gone down in between: then nothing is heard.
    fn step(&mut self, world: &World) -> Result<(), String> {
        let now = world.now();
        let rest = Stage::Rests(now);
        self.stage = match std::mem::replace(&mut self.stage, rest) {
            Stage::Rests(until) if until <= now && !self.settling => self.begin(world),
            Stage::Out { ward, told_at, back_at, closed } if told_at <= now || self.settling => {
                let heard = closed.as_ref().map(Receiver::try_recv);
                match heard {
                    Some(Ok(true)) => {
                        self.is_now(ward, Presence::Gone);
                        Stage::Shut { ward, back_at }
                    }
                    // Not yet: told again, as the daemon does.
                    Some(Err(TryRecvError::Empty)) => Stage::Out { ward, told_at, back_at, closed },
                    _ => {
                        let told_at = now + Duration::from_millis(20);
                        Stage::Out { ward, told_at, back_at, closed: self.tell_gone(ward) }
                    }
                }
            }
            Stage::Shut { ward, back_at } if back_at <= now || self.settling => {
                self.tell_back(world, ward)?
            }
            Stage::Back { ward, answer } => match answer.try_recv() {
                Ok(Ok(())) => {
                    world.hit(Happening::WentOn);
                    self.is_now(ward, Presence::There);
                    self.wards[ward].checker.end_loss();
                    self.rest(world)
                }
                Ok(Err(why)) => return Err(format!("a device is back and is not taken: {why}")),
                Err(_) => Stage::Back { ward, answer },
            },
            Stage::Leaving { ward, gone } => match gone.try_recv() {
                Ok(()) => {
                    world.hit(Happening::VolumeRemoved);
                    if self.sound {
                        // It made everything stable before it went.
                        let checker = &self.wards[ward].checker;
                        let flush: Flush = checker.begin_flush();
                        checker.end_flush(flush, Units { first: 0, count: checker.units() });
                    }
                    Stage::Absent { ward, until: self.soon(world, 20 * MILLI) }
                }
                Err(_) => Stage::Leaving { ward, gone },
            },
            Stage::Absent { ward, until } if until <= now => self.make_shards(ward),
            Stage::Shards { ward, home, mut made, mut left } => {
                while let Some((core, answer)) = left.front() {
                    let Ok(index) = answer.try_recv() else { break };
                    made.push(ShardAddress { core: *core, index: index? });
                    left.pop_front();
                }
                if left.is_empty() {
                    self.make_unit(ward, home, made)
                } else {
                    Stage::Shards { ward, home, made, left }
                }
            }
            Stage::Coming { ward, home, made } => match made.try_recv() {
                Ok(Ok(index)) => {
                    if let Some(place) = self.site.borrow_mut().places.get_mut(ward) {
                        *place = Some(UnitAddress { core: home, index });
                    }
                    self.publish();
                    world.hit(Happening::VolumeAdded);
                    self.rest(world)
                }
                Ok(Err(why)) => return Err(format!("a volume cannot be added again: {why}")),
                Err(_) => Stage::Coming { ward, home, made },
            },
            waits => waits,
        };
        world.ring();
        Ok(())
    }
}

impl Actor for Steward {
    fn joined(&mut self, _world: &World, _number: usize) {}

    fn act(&mut self, world: &World) -> Result<Time, String> {
        if self.site.borrow().inboxes.is_empty() {
            return Ok(world.now() + Duration::from_millis(5));
        }
        self.step(world)?;
        Ok(world.now() + Duration::from_micros(self.rng.choose([100, 1000, 5000])))
    }

    fn crashed(&mut self, world: &World, _power: bool) {
        // The next start opens everything that it finds.
        for ward in &self.wards {
            world.put_back(ward.volume.disk);
            ward.checker.device().is_now(Presence::There);
        }
        self.stage = self.rest(world);
    }

    fn settle(&mut self, _world: &World) {
        self.settling = true;
    }

    fn is_done(&self) -> bool {
        !self.settling || matches!(self.stage, Stage::Rests(_))
    }

    fn progress(&self) -> u64 {
        self.done
    }
}
