//! Two arrays with a pair, in one thread and from one seed: groups, fronts, stores, journal devices, the link between
//! them, hosts, operators, and what breaks.
//!
//! The groups and fronts are the product's own. Around them nothing is real: time jumps from one event to the next, devices
//! lose and tear what was not made stable, commands over the link arrive late, not at all, or once more when nobody waits
//! for them any longer. [`history`] judges what the volumes hold.

#![allow(dead_code, missing_docs, reason = "shared by a test and an example")]
#![allow(clippy::cast_possible_truncation, reason = "everything here is small")]

pub mod array;
pub mod calm;
pub mod coverage;
pub mod device;
pub mod far;
pub mod history;
pub mod host;
pub mod judge;
pub mod plan;
pub mod rng;
pub mod script;
pub mod store;
pub mod trouble;

use array::Array;
use host::Hosts;
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_replica::Context;
use kagami_replica::action::{Action, DeviceEnd, DeviceOp, FarEnd, FarOp, FarUnit, OrderResult};
use kagami_replica::mail::{ToFront, ToGroup, VolumeIndex};
use kagami_replica::{Group, Order, Step};
use kagami_types::{BlockError, BlockOp, LbaStatus, Time};
use plan::Plan;
use rng::Rng;
use std::cell::RefCell;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// What is to happen.
#[derive(Debug)]
pub enum Event {
    /// An operation of the journal's device ends.
    Device { tag: u64, op: DeviceOp, mark: u64 },
    /// An operation of a store ends.
    Store { volume: usize, tag: u64, op: BlockOp, bytes: Vec<u8>, mark: u64 },
    /// Mail arrives.
    ToGroup(usize, ToGroup),
    /// Mail arrives.
    ToFront(usize, ToFront),
    /// A far command arrives at this array; from that life of the other.
    FarIn { tag: u64, boot: u32, unit: FarUnit, op: FarOp },
    /// Its answer arrives at who sent it.
    FarOut { tag: u64, end: FarEnd },
    /// A peer's read of the journal's device ends.
    PeerDevice { tag: u64, boot: u32, at: u64, len: u32 },
    /// A host may do something.
    Host(usize),
    /// It starts again.
    Boot,
    /// The operator looks.
    Operator,
    /// The device of a volume loses what was not stable there.
    Lose(usize),
}

impl Event {
    fn kind(&self) -> &'static str {
        match self {
            Self::Device { .. } => "device",
            Self::Store { .. } => "store",
            Self::ToGroup(..) => "to group",
            Self::ToFront(..) => "to front",
            Self::FarIn { .. } => "far in",
            Self::FarOut { .. } => "far out",
            Self::PeerDevice { .. } => "peer device",
            Self::Host(_) => "host",
            Self::Boot => "boot",
            Self::Operator => "operator",
            Self::Lose(_) => "lose",
        }
    }
}

struct Due {
    at: Time,
    number: u64,
    array: usize,
    /// In that life of the array only.
    boot: Option<u32>,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What went wrong, where, and what was before it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    pub why: String,
    pub trace: Vec<String>,
}

/// What was seen, for the counters.
#[derive(Clone, Debug, Default)]
pub struct Seen(pub BTreeMap<String, u64>);

impl Seen {
    pub fn note(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }
}

pub struct World {
    pub plan: Plan,
    pub now: Time,
    pub rng: Rng,
    queue: BinaryHeap<Due>,
    number: u64,
    pub arrays: [Array; 2],
    pub hosts: Hosts,
    pool: Pool,
    /// The link is cut until then.
    pub cut_until: Time,
    pub seen: Seen,
    pub failure: Option<String>,
    pub trace: Vec<String>,
    pub verbose: bool,
    pub script: script::Script,
    pub judge: judge::Judge,
    steps: u64,
    kinds: BTreeMap<&'static str, u64>,
    ticks: [u64; 2],
    watched: Option<(usize, usize)>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now).finish_non_exhaustive()
    }
}

thread_local! {
    static ARENA: RefCell<Option<Arena>> = const { RefCell::new(None) };
}

fn arena() -> Arena {
    ARENA.with_borrow_mut(|arena| {
        let plan = ArenaPlan::new(1).with(Class::Page, 32768, 1024);
        *arena.get_or_insert_with(|| Arena::new(plan, HugePages::Off).expect("memory"))
    })
}

/// When the simulated world began.
const EPOCH: u64 = 1_700_000_000_000_000_000;

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let pool = arena().pool(0);
        let arrays = [Array::new(&plan, 0, &mut rng), Array::new(&plan, 1, &mut rng)];
        let hosts = Hosts::new(&plan);
        let judge = judge::Judge::new(&arrays);
        let mut world = Self {
            script: script::Script::new(&plan),
            plan,
            now: Time(1_000_000),
            rng,
            queue: BinaryHeap::new(),
            number: 0,
            arrays,
            hosts,
            pool,
            cut_until: Time::default(),
            seen: Seen::default(),
            failure: None,
            trace: Vec::new(),
            verbose: false,
            judge,
            steps: 0,
            kinds: BTreeMap::new(),
            ticks: [0; 2],
            watched: std::env::var("WATCH").ok().and_then(|text| {
                let (volume, block) = text.split_once(',')?;
                Some((volume.parse().ok()?, block.parse().ok()?))
            }),
        };
        let volumes = world.plan.volumes;
        world.seen.note(format!("volumes: {volumes}"));
        if world.plan.cores[1..volumes].iter().any(|wait| *wait != world.plan.cores[0]) {
            world.seen.note("fronts on several cores");
        }
        world.boot(0);
        world.boot(1);
        for worker in 0..world.hosts.workers() {
            world.later(Duration::from_micros(10), 0, Event::Host(worker));
        }
        world.later(Duration::from_millis(1), 0, Event::Operator);
        world
    }

    /// Runs a seed.
    pub fn run(plan: Plan, verbose: bool) -> Result<Seen, Failure> {
        let seed = plan.seed;
        let before = arena().free(Class::Page);
        let mut world = Self::new(plan);
        world.verbose = verbose;
        while world.failure.is_none() && !world.script.is_over() {
            world.step();
        }
        let (failure, seen) = (world.failure.take(), std::mem::take(&mut world.seen));
        let trace = std::mem::take(&mut world.trace);
        drop(world);
        let failure = failure.or_else(|| {
            let lost = before - arena().free(Class::Page);
            (lost > 0).then(|| format!("{lost} pages leaked"))
        });
        match failure {
            Some(why) => Err(Failure { seed, why, trace }),
            None => Ok(seen),
        }
    }

    /// One block's story, for people: `WATCH=volume,block`.
    pub fn watch(&mut self, array: usize, volume: usize, changes: &store::Changes, what: &str) {
        let Some((of, block)) = self.watched else { return };
        if of == volume
            && let Some(change) = changes.iter().find(|change| change.0 == block)
        {
            self.note(format!("array {array} volume {volume} block {block} {what}: {}", change.1));
        }
    }

    pub fn wall(&self) -> u64 {
        EPOCH + self.now.0
    }

    pub fn fail(&mut self, why: impl Into<String>) {
        if self.failure.is_none() {
            let why = why.into();
            self.note(format!("FAILED: {why}"));
            if self.verbose && self.watched.is_some() {
                for array in &self.arrays {
                    eprintln!("{:#?}\n{:?}", array.group, array.fronts);
                }
                eprintln!("{:?}", self.hosts.ops);
            }
            self.failure = Some(why);
        }
    }

    pub fn note(&mut self, what: String) {
        let line = format!("{:>12.6} {what}", self.now.0 as f64 / 1e9);
        if self.verbose {
            eprintln!("{line}");
        }
        if self.trace.len() >= 400 {
            self.trace.drain(..200);
        }
        self.trace.push(line);
    }

    /// Something that happens at an array, unless it crashes before.
    pub fn later(&mut self, wait: Duration, array: usize, event: Event) {
        let boot = match event {
            Event::Boot | Event::Host(_) | Event::Operator | Event::FarIn { .. } | Event::Lose(_) => None,
            _ => Some(self.arrays[array].boot),
        };
        self.at(self.now + wait, array, boot, event);
    }

    fn at(&mut self, at: Time, array: usize, boot: Option<u32>, event: Event) {
        self.number += 1;
        self.queue.push(Due { at, number: self.number, array, boot, event });
    }

    /// Goes on until that holds, for so long of its own time at most; whether it came about.
    pub fn until(&mut self, most: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + most;
        while self.failure.is_none() && self.now < end {
            if holds(self) {
                return true;
            }
            self.step();
        }
        false
    }

    /// The next thing happens.
    fn step(&mut self) {
        self.steps += 1;
        if self.steps > self.plan.most_steps {
            let deadlines = [0, 1].map(|array| {
                let group = self.arrays[array].group.as_ref();
                let fronts: Vec<_> =
                    self.arrays[array].fronts.iter().map(|front| front.next_deadline()).collect();
                (group.map(Group::next_deadline), fronts)
            });
            let text = format!("{:?}, deadlines {deadlines:?}, ticks {:?}", self.kinds, self.ticks);
            return self.fail(format!("too many steps: something runs in circles: {text}"));
        }
        let deadline = |array: &Array| {
            let fronts = array.fronts.iter().map(kagami_replica::Front::next_deadline).min();
            let group = array.group.as_ref().map(Group::next_deadline);
            fronts.into_iter().chain(group).min().unwrap_or(Time::NEVER)
        };
        let (at, array) = (0..2).map(|array| (deadline(&self.arrays[array]), array)).min().expect("two");
        let next = self.queue.peek().map_or(Time::NEVER, |due| due.at);
        // A deadline that has passed is looked at in the next round, a little later: what is due by then comes first.
        let at = if at <= self.now { self.now + Duration::from_micros(1) } else { at };
        if at < next {
            self.now = at;
            self.ticks[array] += 1;
            self.tick(array);
        } else if let Some(due) = self.queue.pop() {
            self.now = self.now.max(due.at);
            if due.boot.is_none_or(|boot| boot == self.arrays[due.array].boot && self.arrays[due.array].up) {
                *self.kinds.entry(due.event.kind()).or_default() += 1;
                self.happens(due.array, due.event);
            } else if let Event::PeerDevice { tag, boot, .. } = due.event {
                // Whoever asked hears that nobody is there any more.
                self.lost(due.array, tag, boot);
            }
        } else {
            self.fail("nothing will ever happen again");
        }
    }

    fn tick(&mut self, array: usize) {
        let now = self.now;
        for volume in 0..self.arrays[array].fronts.len() {
            if self.arrays[array].fronts[volume].next_deadline() <= now {
                self.arrays[array].fronts[volume].on_tick(now);
                self.steps_of(array, volume);
            }
        }
        if self.arrays[array].group.as_ref().is_some_and(|group| group.next_deadline() <= now) {
            self.group(array, |group, cx| group.on_tick(cx));
        }
    }

    /// Calls a group, and does what it wants.
    pub fn group<R>(
        &mut self,
        array: usize,
        call: impl FnOnce(&mut Group, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let wall = self.wall();
        let here = &mut self.arrays[array];
        let group = here.group.as_mut()?;
        let random = &mut self.rng;
        let mut cx = Context {
            now: self.now,
            wall,
            pool: &self.pool,
            actions: &mut here.actions,
            random: &mut || u128::from(random.word()) << 64 | u128::from(random.word()),
        };
        let result = call(group, &mut cx);
        self.actions(array);
        Some(result)
    }

    fn actions(&mut self, array: usize) {
        while let Some(action) = self.arrays[array].actions.pop() {
            if self.plan.crashes && self.script.crashes_now(&mut self.rng, self.now) {
                self.note(format!("array {array} crashes before {action:?}"));
                return self.crash(array);
            }
            self.act(array, action);
        }
    }

    fn act(&mut self, array: usize, action: Action) {
        match action {
            Action::Journal { tag, op } => self.device(array, tag, op),
            Action::Front(VolumeIndex(volume), mail) => {
                let volume = usize::from(volume);
                if let ToFront::Mode { mode, .. } = &mail {
                    self.note(format!("array {array} volume {volume}: {mode:?}"));
                    self.judge_mode(array, *mode);
                }
                if matches!(mail, ToFront::Marked(_)) {
                    self.judge_marked(array);
                }
                if let ToFront::Stable(sequence) = &mail {
                    self.judge.stable(array, sequence.0);
                }
                let wait = self.mail_wait(volume);
                let at = self.arrays[array].mail_at[volume].0.max(self.now + wait);
                self.arrays[array].mail_at[volume].0 = at;
                let boot = Some(self.arrays[array].boot);
                self.at(at, array, boot, Event::ToFront(volume, mail));
            }
            Action::Far { tag, unit, op } => self.far(array, tag, unit, op),
            Action::Answer { order, result } => self.answered(array, order, result),
            Action::Event(text) => {
                let kind = text.split([':', ',']).next().unwrap_or_default();
                self.seen.note(format!("event {}", kind.trim_start_matches(|c: char| !c.is_alphabetic())));
                if text.ends_with("the journal is full") {
                    self.seen.note("suspended: the journal is full");
                }
                self.note(format!("array {array}: {text}"));
            }
        }
    }

    fn mail_wait(&mut self, volume: usize) -> Duration {
        let far = self.plan.cores.get(volume).copied().unwrap_or(0);
        Duration::from_nanos(self.rng.skewed(100, 60_000) + far)
    }

    fn happens(&mut self, array: usize, event: Event) {
        match event {
            Event::Device { tag, op, mark } => self.device_ends(array, tag, op, mark),
            Event::Store { volume, tag, op, bytes, mark } => {
                self.store_ends(array, volume, tag, op, &bytes, mark)
            }
            Event::ToGroup(volume, mail) => {
                let volume = VolumeIndex(volume as u8);
                self.group(array, |group, cx| group.on_mail(cx, volume, mail));
            }
            Event::ToFront(volume, mail) => {
                let now = self.now;
                self.arrays[array].fronts[volume].on_mail(now, mail);
                self.steps_of(array, volume);
            }
            Event::FarIn { tag, boot, unit, op } => self.far_in(array, tag, boot, unit, op),
            Event::FarOut { tag, end } => {
                if let FarEnd::Good(data) = &end
                    && let Ok(page) = kagami_replica::StatusPage::decode(&store::bytes(data))
                {
                    self.see_page(array, &page);
                }
                self.group(array, |group, cx| group.on_far(cx, tag, end));
            }
            Event::PeerDevice { tag, boot, at, len } => {
                let bytes = self.arrays[array].journal.read(at, len as usize);
                let data = self.data(&bytes);
                self.far_back(array, tag, boot, FarEnd::Good(data));
            }
            Event::Host(worker) => self.host(worker),
            Event::Boot => self.boot(array),
            Event::Operator => self.operator(),
            Event::Lose(volume) => {
                let mut rng = Rng::new(self.rng.word());
                self.loses(array, volume, &mut rng);
            }
        }
    }

    /// Bytes in pages.
    pub fn data(&self, bytes: &[u8]) -> Scatter {
        let mut data = ScatterMut::take(&self.pool, Purpose::Internal, bytes.len()).expect("enough pages");
        data.copy_from(0, bytes);
        data.freeze()
    }

    /// What a front said.
    pub fn steps_of(&mut self, array: usize, volume: usize) {
        while let Some(step) =
            self.arrays[array].fronts.get_mut(volume).and_then(kagami_replica::Front::next_step)
        {
            match step {
                Step::Store { tag, op, data } => self.store(array, volume, tag, op, &data),
                Step::Done { tag, result, data, status } => {
                    self.done(array, volume, tag, result, &data, status)
                }
                Step::AbortStore(_) => {}
                Step::Deferred { lba, error } => self.deferred(array, volume, lba, error),
                Step::Mail(mail) => {
                    if let ToGroup::Append { sequence, change, data, .. } = &mail {
                        self.judge_append(array, volume, sequence.0, change, data);
                        if self.plan.sabotage == plan::Sabotage::EarlyStable {
                            let now = self.now;
                            let front = &mut self.arrays[array].fronts[volume];
                            front.on_mail(now, ToFront::Stable(*sequence));
                        }
                    }
                    let wait = self.mail_wait(volume);
                    let at = self.arrays[array].mail_at[volume].1.max(self.now + wait);
                    self.arrays[array].mail_at[volume].1 = at;
                    let boot = Some(self.arrays[array].boot);
                    self.at(at, array, boot, Event::ToGroup(volume, mail));
                }
            }
        }
    }

    /// Something goes to a store.
    pub fn store(&mut self, array: usize, volume: usize, tag: u64, op: BlockOp, data: &Scatter) {
        let bytes = store::bytes(data);
        let store = &self.arrays[array].stores[volume];
        if op.writes() {
            let changes = store.changes(&op, &bytes);
            let others = &self.arrays[array].under_way;
            let clash = others.iter().any(|((other, _), theirs)| {
                *other == volume
                    && theirs.iter().any(|(block, _)| changes.iter().any(|(ours, _)| ours == block))
            });
            if clash {
                return self.fail(format!("two writes of the same block are with the store: {op:?}"));
            }
            self.watch(array, volume, &changes, &format!("goes to the store as {tag:x}"));
            self.arrays[array].under_way.insert((volume, tag), changes);
        }
        let mark = self.arrays[array].stores[volume].mark();
        if op.writes() && tag >> 48 == 0xffff {
            self.judge_restores(array, &bytes);
        }
        let wait = match self.rng.below(50) {
            0 => self.rng.between(1_000_000, 8_000_000),
            _ => self.rng.skewed(5_000, 300_000),
        };
        self.later(Duration::from_nanos(wait), array, Event::Store { volume, tag, op, bytes, mark });
    }

    fn store_ends(&mut self, array: usize, volume: usize, tag: u64, op: BlockOp, bytes: &[u8], mark: u64) {
        let changes = self.arrays[array].under_way.remove(&(volume, tag));
        let internal = tag >> 48 == 0xffff;
        if internal && op.writes() && self.rng.one_in(self.plan.busy) {
            self.arrays[array].fronts[volume].on_store(
                self.now,
                tag,
                Err(BlockError::Busy),
                Scatter::new(),
                Vec::new(),
            );
            return self.steps_of(array, volume);
        }
        if op.writes() && self.rng.one_in(self.plan.bad_store) && self.script.may_break(self.now) {
            self.seen.note("store error");
            self.judge.unclear = true;
            self.note(format!("array {array} volume {volume} refuses {op:?}"));
            let changes = changes.unwrap_or_default();
            let half = changes.len() / 2;
            self.apply(array, volume, &op, &changes[..half].to_vec());
            self.arrays[array].fronts[volume].on_store(
                self.now,
                tag,
                Err(BlockError::Device),
                Scatter::new(),
                Vec::new(),
            );
            return self.steps_of(array, volume);
        }
        let mut result = Ok(());
        let mut data = Scatter::new();
        let mut status = Vec::<LbaStatus>::new();
        let store = &mut self.arrays[array].stores[volume];
        match &op {
            BlockOp::Read(range, _) => {
                let found = &store.visible[range.lba.0 as usize..][..range.blocks as usize];
                let bytes = store::bytes_of(found, store.block_bytes);
                data = self.data(&bytes);
            }
            BlockOp::Flush { .. } if self.plan.sabotage == plan::Sabotage::EarlyName => {}
            BlockOp::Flush { .. } => store.flushed(mark),
            BlockOp::LbaStatus { lba, descriptors } => status = store.status(lba.0, *descriptors as usize),
            BlockOp::CompareAndWrite(range, _) => {
                let wanted = store::stamps(&bytes[..bytes.len() / 2], store.block_bytes);
                let found = &store.visible[range.lba.0 as usize..][..range.blocks as usize];
                if found == wanted {
                    self.apply(array, volume, &op, &changes.unwrap_or_default());
                } else {
                    result = Err(BlockError::Miscompare(0));
                }
            }
            op if op.writes() => self.apply(array, volume, op, &changes.unwrap_or_default()),
            _ => {}
        }
        if internal {
            let now = self.now;
            self.arrays[array].fronts[volume].on_store(now, tag, result, data, status);
            self.steps_of(array, volume);
        } else {
            self.done(array, volume, tag, result, &data, status);
        }
    }

    fn apply(&mut self, array: usize, volume: usize, op: &BlockOp, changes: &store::Changes) {
        self.arrays[array].stores[volume].apply(op, changes);
        self.watch(array, volume, changes, "is written");
        self.judge_written(array, volume, op, changes);
    }

    /// Something goes to a journal's device.
    fn device(&mut self, array: usize, tag: u64, op: DeviceOp) {
        let mark = self.arrays[array].journal.mark();
        if let DeviceOp::Write { at, data, .. } = &op {
            let bytes = store::bytes(data);
            self.arrays[array].writing.insert(tag, (*at, bytes));
        }
        let wait = match self.rng.below(60) {
            0 => self.rng.between(500_000, 5_000_000),
            _ => self.rng.skewed(10_000, 200_000),
        };
        self.later(Duration::from_nanos(wait), array, Event::Device { tag, op, mark });
    }

    fn device_ends(&mut self, array: usize, tag: u64, op: DeviceOp, mark: u64) {
        let broken = self.arrays[array].journal.broken
            || self.rng.one_in(self.plan.bad_journal) && self.script.may_break(self.now);
        let written = self.arrays[array].writing.remove(&tag);
        let end: DeviceEnd = match op {
            _ if broken => {
                self.seen.note("journal error");
                self.note(format!("array {array}: its journal fails"));
                if let Some((at, bytes)) = written {
                    self.arrays[array].journal.torn_write(&mut self.rng, at, &bytes);
                }
                Err(BlockError::Device)
            }
            DeviceOp::Read { at, len } => {
                let bytes = self.arrays[array].journal.read(at, len as usize);
                Ok(self.data(&bytes))
            }
            DeviceOp::Write { at, stable, .. } => {
                let (_, mut bytes) = written.unwrap_or_default();
                if at < 8192 && self.plan.sabotage == plan::Sabotage::NoTarget {
                    bytes = array::without_target(&bytes);
                }
                self.arrays[array].journal.write(at, &bytes, stable);
                if at < 8192 {
                    self.judge_superblock(array);
                }
                Ok(Scatter::new())
            }
            DeviceOp::Flush => {
                self.arrays[array].journal.flushed(mark);
                Ok(Scatter::new())
            }
        };
        self.group(array, |group, cx| group.on_device(cx, tag, end));
    }

    /// An order is answered.
    fn answered(&mut self, array: usize, order: u64, result: OrderResult) {
        self.note(format!("array {array} answers order {order}: {result:?}"));
        self.script_answered(array, order, result);
    }

    /// Gives an order to an array that is up; its number.
    pub fn order(&mut self, array: usize, order: Order) -> u64 {
        let number = self.script.next_order();
        self.note(format!("order {number} to array {array}: {order:?}"));
        self.judge_order(array, number, &order);
        self.group(array, |group, cx| group.on_order(cx, number, order));
        number
    }
}
