//! One thread's loop: rounds over its connections until the time is up.
//!
//! A round goes over all connections: receive once and account for what ended, queue new commands,
//! send once. The clock is read once for each receive that brought results.

use super::picker::Picker;
use super::{Stats, Workload};
use crate::cli::{LoadArgs, Poll};
use crate::cpu::{now_ns, process_ns, thread_ns};
use crate::error::Error;
use crate::initiator::{Command, Connection, Host, Lost, Outcome, RECEIVE_BUFFER, Status, Window};
use crate::verify::Checker;
use crate::wait::Waiter;
use std::sync::Arc;
use std::time::Duration;

/// Write data are sent from one piece of memory of this size, again and again, so that reading it
/// costs the generator nothing.
const PATTERN: usize = 16 * 1024;

/// Idle rounds between two looks at the clock.
const LOOK: u32 = 16;

/// One connection and what it does next.
#[derive(Debug)]
pub struct Lane {
    /// The connection.
    pub connection: Connection,
    /// Which of the thread's sessions it belongs to.
    pub session: usize,
    /// Its sequence of commands.
    pub picker: Picker,
    /// Whether it takes new commands: from when few are under way until it is full.
    pub filling: bool,
}

/// A command under way.
#[derive(Clone, Copy, Debug, Default)]
struct Flight {
    due_ns: u64,
    len: u32,
    read: bool,
}

/// What the connections of a thread report to.
#[derive(Debug)]
struct LoadHost {
    /// The connection that is being worked on.
    lane: usize,
    depth: usize,
    flights: Vec<Flight>,
    pattern: Vec<u8>,
    /// The digest of the pattern's first `digest.0` bytes: of whole commands.
    digest: Option<(u32, [u8; 4])>,
    stats: Stats,
    /// The time, where `fresh`.
    now: u64,
    fresh: bool,
    counting: bool,
    checker: Option<Checker>,
    failure: Option<Error>,
}

impl LoadHost {
    #[inline]
    fn now(&mut self) -> u64 {
        if !self.fresh {
            self.now = now_ns();
            self.fresh = true;
        }
        self.now
    }

    #[inline]
    fn index(&self, slot: u16) -> usize {
        self.lane * self.depth + usize::from(slot)
    }
}

impl Host for LoadHost {
    #[inline]
    fn write_data(&self, slot: u16, offset: u32, len: u32) -> &[u8] {
        if let Some(checker) = &self.checker {
            return checker.write_data(self.index(slot), offset, len);
        }
        let from = offset as usize % PATTERN;
        &self.pattern[from..PATTERN.min(from + len as usize)]
    }

    #[inline]
    fn write_digest(&self, _slot: u16, offset: u32, len: u32) -> Option<[u8; 4]> {
        let (known, digest) = self.digest?;
        (offset == 0 && len == known).then_some(digest)
    }

    #[inline]
    fn read_data(&mut self, slot: u16, offset: u32, bytes: &[u8]) {
        let index = self.index(slot);
        if let Some(checker) = &mut self.checker {
            checker.read_data(index, offset, bytes);
        }
    }

    #[inline]
    fn done(&mut self, slot: u16, outcome: &Outcome) {
        let index = self.index(slot);
        let now = self.now();
        let flight = self.flights[index];
        if let Some(checker) = &mut self.checker
            && let Err(error) = checker.done(index, outcome)
        {
            self.failure.get_or_insert(error);
        }
        let short = flight.read && outcome.status == Status::Good && outcome.received != flight.len;
        if short {
            let got = outcome.received;
            let wanted = flight.len;
            self.failure.get_or_insert(Error::Failed(format!("a READ brought {got} bytes of {wanted}")));
        }
        if !self.counting {
            return;
        }
        if outcome.status == Status::Good {
            self.stats.good(flight.read, flight.len, now.saturating_sub(flight.due_ns));
        } else {
            self.stats.bad(outcome.status);
        }
    }
}

/// A thread's connections and counters.
pub struct Worker {
    lanes: Vec<Lane>,
    windows: Vec<Window>,
    host: LoadHost,
    /// Distance between two commands of this thread, where the rate is limited.
    interval_ns: Option<u64>,
    poll: Poll,
    /// So few commands under way, and a full connection is filled again.
    low: usize,
}

impl Worker {
    pub fn new(
        args: &LoadArgs,
        workload: &Arc<Workload>,
        lanes: Vec<Lane>,
        windows: Vec<Window>,
        threads: usize,
    ) -> Result<Self, Error> {
        let depth = usize::from(args.depth);
        let slots = lanes.len() * depth;
        let checker = if args.verify {
            let span = args.span.unwrap_or(u64::MAX);
            let mut checker = Checker::new(&workload.units, span, slots, workload.block)?;
            // Without SYNCHRONIZE CACHE in the mix only read-your-writes can be checked; so what is
            // acknowledged counts as stable, and the model keeps nothing else.
            checker.volumes.iter_mut().for_each(|volume| volume.model.assume_write_through());
            Some(checker)
        } else {
            None
        };
        let mut rng = crate::rng::Rng::new(args.seed);
        let pattern: Vec<u8> = (0..PATTERN / 8).flat_map(|_| rng.word().to_le_bytes()).collect();
        let digest = (workload.block as usize <= PATTERN && checker.is_none())
            .then(|| (workload.block, kagami_iscsi::crc::crc32c(&pattern[..workload.block as usize])));
        let interval = |rate: u64| (1_000_000_000 * threads as u64 / rate).max(1);
        Ok(Self {
            host: LoadHost {
                lane: 0,
                depth,
                flights: vec![Flight::default(); slots],
                pattern,
                digest,
                stats: Stats::default(),
                now: 0,
                fresh: false,
                counting: false,
                checker,
                failure: None,
            },
            interval_ns: args.rate.map(interval),
            poll: args.connect.poll,
            low: args.depth_low.map_or(depth, usize::from).min(depth - 1),
            lanes,
            windows,
        })
    }

    /// Runs warm-up and measurement, and gives the counters.
    ///
    /// # Errors
    /// A connection lost, wrong data, or no answer at all for the time-out.
    pub fn run(mut self, args: &LoadArgs) -> Result<Stats, Error> {
        let mut buffer = vec![0; RECEIVE_BUFFER];
        let mut waiter = match self.poll {
            Poll::Sleep => Some(Waiter::new(self.lanes.iter().map(|lane| lane.connection.stream()))?),
            Poll::Spin => None,
        };
        let idle_cost = self.cost_of_looking(&mut buffer)?;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let begin = now_ns();
        let measure = begin.saturating_add(nanoseconds(args.warmup));
        let end = measure.saturating_add(nanoseconds(args.time));
        let timeout = nanoseconds(args.connect.timeout);
        let mut next_due = begin;
        let (mut cpu, mut target, mut looks, mut idle_rounds) = (0, None, 0u64, 0u32);
        let mut heard = begin;
        loop {
            let mut active = false;
            self.host.fresh = false;
            for lane in 0..self.lanes.len() {
                match self.turn(lane, &mut buffer, &mut next_due) {
                    Ok(true) => active = true,
                    Ok(false) => looks += 1,
                    Err(lost) => return Err(Error::Failed(lost.to_string())),
                }
            }
            if let Some(failure) = self.host.failure.take() {
                return Err(failure);
            }
            idle_rounds = if active { 0 } else { idle_rounds + 1 };
            if !active && idle_rounds % LOOK != 0 && self.poll == Poll::Spin && self.interval_ns.is_none() {
                continue;
            }
            self.host.fresh &= active;
            let now = self.host.now();
            if active || self.lanes.iter().all(|lane| lane.connection.in_flight() == 0) {
                heard = now;
            } else if now - heard > timeout {
                return Err(Error::TimedOut(format!(
                    "no answer within {} s",
                    args.connect.timeout.as_secs()
                )));
            }
            if now >= end {
                self.host.stats.wall_ns = now - measure;
                break;
            }
            if !self.host.counting && now >= measure {
                self.host.counting = true;
                (cpu, looks) = (thread_ns(), 0);
                target = args.target_pid.and_then(process_ns);
            }
            if let (Some(waiter), false) = (&mut waiter, active) {
                let due = self.interval_ns.map(|_| next_due.saturating_sub(now).max(1));
                let longest = due.unwrap_or(end - now).min(100_000_000);
                let output = self.lanes.iter().map(|lane| lane.connection.has_output());
                let streams = self.lanes.iter().map(|lane| lane.connection.stream());
                waiter.wait(streams.zip(output), Duration::from_nanos(longest))?;
            }
        }
        let after = args.target_pid.and_then(process_ns);
        let stats = &mut self.host.stats;
        stats.cpu_ns = thread_ns().saturating_sub(cpu);
        stats.idle_ns = if waiter.is_some() { 0 } else { looks.saturating_mul(idle_cost).min(stats.cpu_ns) };
        stats.target_ns = after.zip(target).map(|(after, before)| after.saturating_sub(before));
        self.host.counting = false;
        self.drain(&mut buffer);
        Ok(self.host.stats)
    }

    /// One connection's part of a round. True when something came or went.
    #[inline]
    fn turn(&mut self, index: usize, buffer: &mut [u8], next_due: &mut u64) -> Result<bool, Lost> {
        let Self { lanes, windows, host, interval_ns, low, .. } = self;
        let lane = &mut lanes[index];
        let window = &mut windows[lane.session];
        host.lane = index;
        host.fresh = false;
        let progress = lane.connection.receive(buffer, window, host)?;
        lane.filling |= lane.connection.in_flight() <= *low;
        while lane.filling {
            let Some(slot) = lane.connection.free_slot() else {
                lane.filling = false;
                break;
            };
            if !window.is_open() {
                break;
            }
            let mut due_ns = host.now();
            if let Some(interval) = interval_ns {
                if *next_due > due_ns {
                    break;
                }
                due_ns = *next_due;
                *next_due += *interval;
            }
            let pick = lane.picker.next();
            let unit = *lane.picker.unit(pick.unit);
            let index = host.index(slot);
            let command = match &mut host.checker {
                None if pick.read => Command::read(unit.wire, pick.lba, pick.blocks, unit.block_size),
                None => Command::write(unit.wire, pick.lba, pick.blocks, unit.block_size, false),
                Some(checker) if pick.read => checker.read(index, pick.unit, pick.lba, pick.blocks),
                Some(checker) => checker.write(index, pick.unit, pick.lba, pick.blocks, false),
            };
            host.flights[index] = Flight { due_ns, len: pick.blocks * unit.block_size, read: pick.read };
            lane.connection.submit(window, &command, host);
        }
        let sent = lane.connection.send(host)?;
        if host.counting {
            host.stats.receives += u64::from(progress.bytes > 0);
            host.stats.sends += u64::from(sent > 0);
        }
        Ok(progress.bytes > 0 || sent > 0)
    }

    /// What a look at a connection that has nothing to say costs, in nanoseconds of CPU time.
    fn cost_of_looking(&mut self, buffer: &mut [u8]) -> Result<u64, Error> {
        const LOOKS: u64 = 2_000;
        let Self { lanes, windows, host, .. } = self;
        let Some(lane) = lanes.first_mut() else { return Ok(0) };
        let before = thread_ns();
        for _ in 0..LOOKS {
            let window = &mut windows[lane.session];
            lane.connection.receive(buffer, window, host).map_err(|lost| Error::Failed(lost.to_string()))?;
        }
        Ok((thread_ns() - before) / LOOKS)
    }

    /// Takes what is still under way, for a short while, so that the target is left in peace.
    fn drain(&mut self, buffer: &mut [u8]) {
        let end = now_ns() + 2_000_000_000;
        let Self { lanes, windows, host, .. } = self;
        while now_ns() < end && lanes.iter().any(|lane| lane.connection.in_flight() > 0) {
            for (index, lane) in lanes.iter_mut().enumerate() {
                host.lane = index;
                let window = &mut windows[lane.session];
                let ended = lane.connection.receive(buffer, window, host).is_err()
                    || lane.connection.send(host).is_err();
                if ended {
                    return;
                }
            }
        }
    }
}
