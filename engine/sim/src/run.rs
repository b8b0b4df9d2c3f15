//! The runner: gives every core and every actor its turn, lets the array crash and start again,
//! and says what went wrong.
//!
//! A run has two parts. In the rough part the actors work and everything goes wrong that the
//! options say. When they have had enough, nothing goes wrong any more, and the actors check what
//! there is and end: whatever happened before, in a calm world everything must come to its end.

use crate::checker::Checker;
use crate::coverage::{Coverage, Happening};
use crate::disk::narrow;
use crate::io::SimIo;
use crate::options::Options;
use crate::rng::Rng;
use crate::trace::Who;
use crate::world::{Event, State, Turn, World};
use kagami_reactor::{Completion, Doze, Handler, Idle, IdlePolicy, Wait, round};
use kagami_types::Time;
use std::fmt;
use std::time::Duration;

/// How long an orderly stop may take: more than the longest operation.
const STOP_PATIENCE: u64 = 100_000_000_000;

/// The array under test: makes its cores, again after each crash.
pub trait Array {
    /// What runs on a core.
    type Core: Handler<SimIo>;

    /// Starts the array on the world's disks: one entry for each core, made with
    /// [`World::add_core`].
    ///
    /// # Errors
    /// It does not start; the run fails with that text.
    fn boot(&mut self, world: &World) -> Result<Vec<(SimIo, Self::Core)>, String>;

    /// Asks the array to finish what is under way, make everything stable and end. False where it
    /// cannot do that: its cores are dropped then.
    fn stop(&mut self) -> bool {
        false
    }

    /// Its cores were dropped: by a crash, or because they had ended. To look for leaks.
    ///
    /// # Errors
    /// Something is wrong; the run fails with that text.
    fn gone(&mut self, world: &World) -> Result<(), String> {
        let _ = world;
        Ok(())
    }
}

/// Somebody outside the array: a host.
pub trait Actor {
    /// Its number in the world, for connections and alarms.
    fn joined(&mut self, world: &World, number: usize);

    /// Looks around and does what there is to do. It is called again when something happens on a
    /// connection of its own, or at the time it returns.
    ///
    /// # Errors
    /// The array broke a promise; the run fails with that text.
    fn act(&mut self, world: &World) -> Result<Time, String>;

    /// The array crashed.
    fn crashed(&mut self, world: &World, power: bool);

    /// Nothing goes wrong any more: check everything and come to an end.
    fn settle(&mut self, world: &World);

    /// It has done its rough part (before [`settle`](Self::settle)) or everything (after).
    fn is_done(&self) -> bool;

    /// Grows whenever something got finished.
    fn progress(&self) -> u64;
}

/// Why a run failed, with what it takes to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// When, on the simulated clock.
    pub at: Time,
    /// What.
    pub what: String,
    /// What happened last.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let seconds = Duration::from_nanos(self.at.0).as_secs_f64();
        write!(f, "seed {:#x} failed after {seconds:.6} simulated seconds: {}", self.seed, self.what)
    }
}

impl std::error::Error for Failure {}

/// What a run that did not fail tells.
#[derive(Clone, Debug)]
pub struct Report {
    /// What happened.
    pub coverage: Coverage,
    /// Equal for equal runs.
    pub digest: u64,
    /// How long it took, on the simulated clock.
    pub took: Duration,
}

struct Core<H> {
    io: SimIo,
    handler: H,
    idle: Idle,
    /// It went to sleep after its last round, until then at most.
    sleeps_until: Option<Time>,
}

impl<H> fmt::Debug for Core<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("io", &self.io).finish_non_exhaustive()
    }
}

/// One run.
#[derive(Debug)]
pub struct Sim {
    seed: u64,
    world: World,
    rng: Rng,
    done: Vec<Completion>,
    last_progress: (Time, u64),
    crashes_left: u32,
    crashed: bool,
    /// The array was asked to stop then.
    stopping: Option<Time>,
    checkers: Vec<Checker>,
}

impl Sim {
    /// A run that follows from its seed and the options, which may be drawn from the same seed.
    #[must_use]
    pub fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let world = World::new(rng.fork(1), options);
        let crashes_left = options.crash.count;
        Self {
            seed,
            world,
            rng,
            done: Vec::new(),
            last_progress: (Time(0), 0),
            crashes_left,
            crashed: false,
            stopping: None,
            checkers: Vec::new(),
        }
    }

    /// This checker is to hear of every crash.
    pub fn judge(&mut self, checker: &Checker) {
        self.checkers.push(checker.clone());
    }

    /// The world, for disks and actors.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Runs the array and the actors to their end.
    ///
    /// # Errors
    /// A broken promise, or a world in which nothing moves any more.
    pub fn run<A: Array>(
        mut self,
        array: &mut A,
        actors: &mut [Box<dyn Actor + '_>],
    ) -> Result<Report, Box<Failure>> {
        let result = self.run_to_end(array, actors);
        let took = Duration::from_nanos(self.world.now().0);
        match result {
            Ok(()) => Ok(Report { coverage: self.world.coverage(), digest: self.world.digest(), took }),
            Err(what) => Err(Box::new(Failure {
                seed: self.seed,
                at: self.world.now(),
                what,
                trace: self.world.trace(),
            })),
        }
    }

    fn run_to_end<A: Array>(
        &mut self,
        array: &mut A,
        actors: &mut [Box<dyn Actor + '_>],
    ) -> Result<(), String> {
        let mut cores = self.boot(array)?;
        for actor in actors.iter_mut() {
            let number = self.world.add_actor();
            actor.joined(&self.world, number);
        }
        self.plan_crash();
        let mut settling = false;
        loop {
            let turn = self.world.next_turn().ok_or("nothing is to come any more")?;
            self.look_at_faults()?;
            match turn {
                Turn::Core(core) => {
                    self.run_core(core, &mut cores);
                    self.look_at_stop(array, actors, &mut cores)?;
                }
                Turn::Actor(number) => {
                    if let Some(actor) = actors.get_mut(number) {
                        let next = actor.act(&self.world)?;
                        self.world.wake_at(number, next);
                    }
                }
                Turn::Crash if settling || cores.is_empty() || self.stopping.is_some() => {}
                Turn::Crash => {
                    if self.rng.permille(self.world.options().crash.orderly) && array.stop() {
                        self.world.note(Who::World, "orderly stop", [0; 3]);
                        self.stopping = Some(self.world.now());
                    } else {
                        self.crash(array, actors, &mut cores)?;
                    }
                }
                Turn::Boot => {
                    if cores.is_empty() {
                        cores = self.boot(array)?;
                        self.plan_crash();
                    }
                }
            }
            self.watch(actors)?;
            if actors.iter().all(|actor| actor.is_done()) && self.stopping.is_none() {
                if settling {
                    break;
                }
                settling = true;
                // Whatever was not flushed may go once more before everything is checked.
                if self.world.options().crash.count > 0 && !cores.is_empty() && self.rng.one_in(2) {
                    self.crash(array, actors, &mut cores)?;
                }
                self.world.calm_down();
                for (number, actor) in actors.iter_mut().enumerate() {
                    actor.settle(&self.world);
                    self.world.wake_at(number, self.world.now());
                }
            }
        }
        self.last_stop(array, &mut cores)?;
        self.look_at_faults()?;
        drop(cores);
        self.world.with(State::end_process);
        array.gone(&self.world)
    }

    /// The disks may have seen what no host can see.
    fn look_at_faults(&self) -> Result<(), String> {
        self.world.with(|state| state.fault.take()).map_or(Ok(()), Err)
    }

    /// The array stops for good, with nobody left who would want anything of it.
    fn last_stop<A: Array>(
        &mut self,
        array: &mut A,
        cores: &mut [Option<Core<A::Core>>],
    ) -> Result<(), String> {
        if !array.stop() {
            return Ok(());
        }
        let asked = self.world.now();
        // Sleeping cores hear of it through their doorbells.
        self.world.with(State::ring_doorbells);
        while cores.iter().any(Option::is_some) {
            match self.world.next_turn() {
                Some(Turn::Core(core)) => self.run_core(core, cores),
                Some(_) => {}
                None => return Err("the array does not stop: nothing is to come any more".to_owned()),
            }
            if self.world.now().nanos_since(asked) > STOP_PATIENCE {
                return Err("the array does not stop".to_owned());
            }
        }
        Ok(())
    }

    /// Sees to the end of an orderly stop in the rough part.
    fn look_at_stop<A: Array>(
        &mut self,
        array: &mut A,
        actors: &mut [Box<dyn Actor + '_>],
        cores: &mut Vec<Option<Core<A::Core>>>,
    ) -> Result<(), String> {
        let Some(asked) = self.stopping else { return Ok(()) };
        let disk = self.world.options().disk;
        let sound = disk.error + disk.no_space + disk.hang + disk.gone == 0;
        if cores.iter().any(Option::is_some) {
            if self.world.now().nanos_since(asked) <= STOP_PATIENCE {
                return Ok(());
            }
            if sound {
                return Err("the array does not stop".to_owned());
            }
            // A device hangs for longer: somebody loses patience.
            self.stopping = None;
            return self.crash(array, actors, cores);
        }
        self.stopping = None;
        cores.clear();
        self.world.hit(Happening::OrderlyStop);
        self.world.with(|state| {
            state.end_process();
            if sound {
                // Everything must be stable now, so the power may go.
                state.crash_disks(true);
            }
        });
        self.checkers.iter().for_each(|checker| if sound { checker.stopped() } else { checker.crash(false) });
        self.down(array, actors, sound)
    }

    fn boot<A: Array>(&mut self, array: &mut A) -> Result<Vec<Option<Core<A::Core>>>, String> {
        self.world.note(Who::World, "boot", [0; 3]);
        let booted = array.boot(&self.world)?;
        let now = self.world.now();
        let mut cores = Vec::new();
        for (io, handler) in booted {
            if io.core() != cores.len() {
                return Err("the array's cores are not in order".to_owned());
            }
            self.schedule(cores.len(), 1_000, false);
            let idle = Idle::new(IdlePolicy::Adaptive, now);
            cores.push(Some(Core { io, handler, idle, sleeps_until: None }));
        }
        Ok(cores)
    }

    fn schedule(&mut self, core: usize, wait: u64, asleep: bool) {
        let wait = Duration::from_nanos(wait);
        self.world.with(|state| state.schedule_core(core, state.now + wait, asleep));
    }

    fn run_core<H: Handler<SimIo>>(&mut self, number: usize, cores: &mut [Option<Core<H>>]) {
        let Some(slot) = cores.get_mut(number) else { return };
        let Some(core) = slot else { return };
        let wait = core.sleeps_until.map_or(Wait::Poll, Wait::Until);
        let worked = round(&mut core.io, &mut core.handler, wait, &mut self.done);
        if core.sleeps_until.take().is_some() {
            core.handler.wake();
        }
        self.world.with(State::ring_doorbells);
        if core.handler.is_finished() {
            *slot = None;
            return;
        }
        let now = self.world.now();
        if core.idle.may_sleep(worked, now) && core.handler.prepare_sleep() == Doze::Sleep {
            let until = core.handler.next_deadline();
            core.sleeps_until = Some(until);
            self.world.hit(Happening::Sleep);
            self.world.with(|state| state.schedule_core(number, until, true));
            return;
        }
        let options = self.world.options().core;
        let mut cost = self.rng.skewed(200, options.round.max(200));
        if !worked {
            // Polling on without work costs the simulation more than it tells.
            cost *= 4;
        }
        if self.rng.below(10_000) < u64::from(options.stall) {
            let stall = self.rng.skewed(100_000, options.stall_time.max(100_000));
            self.world.hit(Happening::Stall);
            self.world.note(Who::Core(narrow(number)), "stalls for ns", [stall, 0, 0]);
            cost += stall;
        }
        self.schedule(number, cost, false);
    }

    fn plan_crash(&mut self) {
        if self.crashes_left == 0 {
            return;
        }
        self.crashes_left -= 1;
        let options = self.world.options().crash;
        if self.rng.permille(options.at_io) {
            let rng = &mut self.rng;
            let (moment, count) = self.world.with(|state| state.trap.arm(rng, options.io_within));
            self.world.note(Who::World, "a crash is to come: moment, count", [moment as u64, count, 0]);
            return;
        }
        let after = self.rng.skewed(10_000, self.world.options().crash.after.max(10_000));
        self.world.with(|state| state.events.put(state.now + Duration::from_nanos(after), Event::Crash));
    }

    fn crash<A: Array>(
        &mut self,
        array: &mut A,
        actors: &mut [Box<dyn Actor + '_>],
        cores: &mut Vec<Option<Core<A::Core>>>,
    ) -> Result<(), String> {
        let power = self.rng.permille(self.world.options().crash.power);
        cores.clear();
        if self.crashed {
            self.world.hit(Happening::CrashAgain);
        }
        self.crashed = true;
        self.world.with(|state| state.crash(power));
        self.checkers.iter().for_each(|checker| checker.crash(power));
        self.down(array, actors, power)
    }

    /// The array is down for a while.
    fn down<A: Array>(
        &mut self,
        array: &mut A,
        actors: &mut [Box<dyn Actor + '_>],
        power: bool,
    ) -> Result<(), String> {
        array.gone(&self.world)?;
        let options = self.world.options().crash;
        for actor in actors.iter_mut() {
            actor.crashed(&self.world, power);
        }
        let down = self.rng.skewed(10_000, options.down.max(10_000));
        self.world.with(|state| state.events.put(state.now + Duration::from_nanos(down), Event::Boot));
        Ok(())
    }

    /// Sees to it that something gets finished from time to time.
    fn watch(&mut self, actors: &[Box<dyn Actor + '_>]) -> Result<(), String> {
        let now = self.world.now();
        let progress = actors.iter().map(|actor| actor.progress()).sum();
        if progress != self.last_progress.1 || self.last_progress.0 == Time(0) {
            self.last_progress = (now, progress);
            return Ok(());
        }
        let patience = self.world.options().patience;
        let waiting = actors.iter().any(|actor| !actor.is_done());
        if waiting && now.nanos_since(self.last_progress.0) > patience {
            return Err(format!("stuck: nothing was finished for {} s", patience / 1_000_000_000));
        }
        Ok(())
    }
}
