//! The run: commands on several connections, cuts, reconnection, recovery after a crash.
//!
//! One thread. Each connection is a session of its own that keeps its ISID, so that logging in again
//! ends what the old one had under way (RFC 7143 6.3.5): a write that was cut off can no longer take
//! effect then, and its blocks are read again. After an announced crash all connections start
//! afresh, the caches are flushed, and every block in doubt is read before anything else.
//!
//! Which loss of a connection is the announced one? That of a connection made for this alone, after the word came and
//! before it is answered. A connection that was lost before, or is cut by ourselves, says nothing of the kind, and
//! one that comes back may have reached the target's next life already.

use super::events::Events;
use super::jobs::{Checker, Lost, LostWrite, Run};
use super::model::Rule;
use super::plan::{self, Mix, Step, Sweep};
use super::state;
use super::watch::{Announced, Patience};
use crate::cli::{Poll, VerifyArgs};
use crate::error::Error;
use crate::initiator::{
    self as iscsi, Command, Connection, Connector, Host, Outcome, Seat, Status, Unit, Window,
};
use crate::replay::snapshot_path;
use crate::rng::Rng;
use std::collections::VecDeque;
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    pub blocks_read: u64,
    pub blocks_written: u64,
    pub retries: u64,
    pub cuts: u64,
    pub lost: u64,
    pub crashes: u64,
}

/// First and longest pause between two attempts to connect.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

struct VerifyHost {
    checker: Checker,
    lane: usize,
    depth: usize,
    /// Commands that ended.
    ended: u64,
    /// Reads that did not take place.
    again: Vec<Run>,
    failure: Option<Error>,
}

impl VerifyHost {
    fn index(&self, slot: u16) -> usize {
        self.lane * self.depth + usize::from(slot)
    }
}

impl Host for VerifyHost {
    fn write_data(&self, slot: u16, offset: u32, len: u32) -> &[u8] {
        self.checker.write_data(self.index(slot), offset, len)
    }

    fn read_data(&mut self, slot: u16, offset: u32, bytes: &[u8]) {
        let index = self.index(slot);
        self.checker.read_data(index, offset, bytes);
    }

    fn done(&mut self, slot: u16, outcome: &Outcome) {
        self.ended += 1;
        let index = self.index(slot);
        match self.checker.done(index, outcome) {
            Ok(again) => self.again.extend(again),
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }
}

/// The host of a connection that carries no commands.
struct Nobody;

impl Host for Nobody {
    fn write_data(&self, _slot: u16, _offset: u32, _len: u32) -> &[u8] {
        &[]
    }

    fn read_data(&mut self, _slot: u16, _offset: u32, _bytes: &[u8]) {}

    fn done(&mut self, _slot: u16, _outcome: &Outcome) {}
}

enum State {
    Up(Box<Connection>, Window),
    Down { since: Instant, next_try: Instant, pause: Duration },
}

struct Lane {
    state: State,
    /// Writes that were under way when the connection was lost.
    lost: Vec<LostWrite>,
    /// Blocks to be read before anything else.
    reread: VecDeque<Run>,
    heard: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Write the whole span once.
    Fill(Feed),
    /// Random commands.
    Run,
    /// No new commands.
    Settle,
    /// Read the whole span.
    Sweep(Feed),
}

/// Whether a pass over the whole span still has commands to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feed {
    Going,
    Over,
}

/// A run of the checker.
pub struct Driver<'a> {
    args: &'a VerifyArgs,
    connector: Connector,
    session: u32,
    units: Vec<Unit>,
    largest: u32,
    host: VerifyHost,
    lanes: Vec<Lane>,
    rng: Rng,
    buffer: Vec<u8>,
    events: Events,
    /// The target crashed before the run began.
    crashed: bool,
    announced: Announced,
    patience: Patience,
    phase: Phase,
    sweep: Sweep,
    /// Snapshots taken so far.
    snapshots: u64,
    counts: Counts,
}

impl<'a> Driver<'a> {
    /// Connects, asks the units for their size, and reads the state file where one is to be used.
    ///
    /// # Errors
    /// The target cannot be reached, or arguments and units do not fit.
    pub fn open(args: &'a VerifyArgs) -> Result<Self, Error> {
        let largest = u32::try_from(args.largest).ok().filter(|size| (512..=16 << 20).contains(size));
        let largest =
            largest.ok_or_else(|| Error::Usage("--largest must be from 512 bytes to 16 MiB".into()))?;
        let connector = args.connect.connector(1)?;
        let depth = usize::from(args.depth);
        let now = Instant::now();
        let lane = |_| Lane {
            state: State::Down { since: now, next_try: now, pause: BACK_OFF.0 },
            lost: Vec::new(),
            reread: VecDeque::new(),
            heard: now,
        };
        let mut driver = Self {
            connector,
            session: crate::run_id(),
            units: Vec::new(),
            largest,
            host: VerifyHost {
                checker: Checker::new(&[], 0, 0, 0)?,
                lane: 0,
                depth,
                ended: 0,
                again: Vec::new(),
                failure: None,
            },
            lanes: (0..args.connections).map(lane).collect(),
            rng: Rng::new(args.seed),
            buffer: vec![0; iscsi::RECEIVE_BUFFER],
            events: Events::listen(!args.no_stdin),
            crashed: args.crash,
            announced: Announced::No,
            patience: Patience::new(now),
            phase: Phase::Run,
            sweep: Sweep::default(),
            snapshots: 0,
            counts: Counts::default(),
            args,
        };
        for index in 0..driver.lanes.len() {
            let (connection, window, units) = driver.connect(index)?;
            driver.units = units;
            driver.lanes[index].state = State::Up(Box::new(connection), window);
        }
        if let Some(unit) = driver.units.iter().find(|unit| unit.block_size > largest) {
            return Err(Error::Usage(format!("--largest is less than a block of LUN {}", unit.lun)));
        }
        let slots = driver.lanes.len() * depth;
        let mut checker = Checker::new(&driver.units, args.span, slots, largest)?;
        if let (Some(path), true) = (&args.state, args.check_only || args.resume) {
            state::load(path, &mut checker)?;
        }
        driver.host.checker = checker;
        Ok(driver)
    }

    /// The models, for the state file.
    pub fn checker(&self) -> &Checker {
        &self.host.checker
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Everything under way may or may not take effect.
    pub fn abandon(&mut self) {
        for volume in &mut self.host.checker.volumes {
            volume.model.end_all_in_flight();
        }
    }

    /// The whole run.
    ///
    /// # Errors
    /// [`Error::Mismatch`]: wrong data. [`Error::TimedOut`]: the target stayed away or silent.
    pub fn run(&mut self) -> Result<(), Error> {
        if self.args.check_only || self.args.resume {
            if std::mem::take(&mut self.crashed) {
                self.recover()?;
            }
            self.pass(Phase::Sweep(Feed::Going), None)?;
            if self.args.check_only {
                return Ok(());
            }
        } else if !self.args.no_fill {
            self.pass(Phase::Fill(Feed::Going), None)?;
            self.flush()?;
        }
        self.pass(Phase::Run, Some(Instant::now() + self.args.time))?;
        if self.events.stopped() {
            return Ok(());
        }
        self.pass(Phase::Settle, None)?;
        self.flush()?;
        self.snapshot()?;
        self.pass(Phase::Sweep(Feed::Going), None)
    }

    /// Keeps what must be on the target now, and has the moment marked. What is under way goes on; nothing new is
    /// sent before the mark is made.
    fn snapshot(&mut self) -> Result<(), Error> {
        let (Some(folder), Some(mark)) = (&self.args.snapshots, &self.args.mark) else { return Ok(()) };
        self.snapshots += 1;
        let path = snapshot_path(folder, self.snapshots);
        state::save(&path, self.args.seed, &self.host.checker)?;
        let mut words = mark.split_whitespace();
        let program = words.next().unwrap_or_default();
        let name = format!("snapshot-{}", self.snapshots);
        let failed = |why: String| Error::Failed(format!("--mark {mark}: {why}"));
        match std::process::Command::new(program).args(words).arg(name).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(status.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Works until the phase's commands are all done, or `until`.
    fn pass(&mut self, phase: Phase, until: Option<Instant>) -> Result<(), Error> {
        self.phase = phase;
        self.sweep = Sweep::default();
        let began = Instant::now();
        let mut sent = 0u64;
        let mut next_cut = began + self.cut_distance();
        let mut next_snapshot = began + self.args.snapshot_every;
        loop {
            let now = Instant::now();
            if self.events.stopped() || until.is_some_and(|until| now >= until && self.enough(now - began)) {
                return Ok(());
            }
            self.patience.round(now, self.host.ended);
            if self.patience.idle() > self.args.reconnect + self.args.connect.timeout {
                let seconds = self.patience.idle().as_secs();
                return Err(Error::TimedOut(format!(
                    "no command ended for {seconds} s: {}",
                    self.standing()
                )));
            }
            self.look_for_crash(now)?;
            if self.phase == Phase::Run && now >= next_snapshot {
                self.snapshot()?;
                next_snapshot = Instant::now() + self.args.snapshot_every;
            }
            let due = self.args.rate.filter(|_| self.phase == Phase::Run);
            let quota = due.map_or(u64::MAX, |rate| {
                let due = began.elapsed().as_micros() * u128::from(rate) / 1_000_000;
                u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(sent)
            });
            let mut quota = quota;
            let mut active = false;
            for index in 0..self.lanes.len() {
                active |= self.turn(index, &mut quota, &mut sent)?;
            }
            if let Some(failure) = self.host.failure.take() {
                return Err(failure);
            }
            if self.phase == Phase::Run && now >= next_cut && matches!(self.announced, Announced::No) {
                self.cut();
                next_cut = now + self.cut_distance();
            }
            if !active {
                if self.is_over() {
                    return Ok(());
                }
                match self.args.connect.poll {
                    Poll::Spin => std::hint::spin_loop(),
                    Poll::Sleep => std::thread::sleep(Duration::from_micros(100)),
                }
            }
        }
    }

    /// Whether there are as many snapshots as were asked for, or there was time enough for them.
    fn enough(&self, elapsed: Duration) -> bool {
        self.args.snapshots.is_none()
            || self.snapshots >= self.args.snapshots_least
            || elapsed >= self.args.time.saturating_mul(10)
    }

    /// Nothing more to do in this phase.
    fn is_over(&self) -> bool {
        let sent = match self.phase {
            Phase::Run => false,
            Phase::Settle => true,
            Phase::Fill(sweep) | Phase::Sweep(sweep) => sweep == Feed::Over,
        };
        let idle = |lane: &Lane| {
            lane.reread.is_empty()
                && matches!(&lane.state, State::Up(connection, _) if connection.in_flight() == 0)
        };
        sent && self.host.again.is_empty() && self.lanes.iter().all(idle)
    }

    /// One connection's part of a round. True when something happened.
    fn turn(&mut self, index: usize, quota: &mut u64, sent: &mut u64) -> Result<bool, Error> {
        let now = Instant::now();
        if let State::Down { next_try, .. } = self.lanes[index].state {
            // Between the announcement and the crash a connection could reach either life of the target.
            if now < next_try || matches!(self.announced, Announced::Noted(..)) {
                return Ok(false);
            }
            self.reconnect(index)?;
            self.patience.blocked();
            return Ok(true);
        }
        self.host.lane = index;
        let received = {
            let Self { lanes, host, buffer, .. } = self;
            let State::Up(connection, window) = &mut lanes[index].state else { return Ok(false) };
            connection.receive(buffer, window, host)
        };
        let received = match received {
            Ok(progress) => progress.bytes,
            Err(broken @ iscsi::Lost::Protocol(_)) => return Err(Error::Failed(broken.to_string())),
            Err(_) => {
                self.counts.lost += 1;
                self.down(index);
                return Ok(true);
            }
        };
        let retry = std::mem::take(&mut self.host.again);
        self.counts.retries += retry.len() as u64;
        self.lanes[index].reread.extend(retry);
        while *quota > 0 {
            let State::Up(connection, window) = &self.lanes[index].state else { break };
            let Some(slot) = connection.free_slot().filter(|_| window.is_open()) else { break };
            let Some(step) = self.next_step(index) else { break };
            let at = self.host.index(slot);
            let checker = &mut self.host.checker;
            let command = match step {
                Step::Read(run) => {
                    self.counts.reads += 1;
                    self.counts.blocks_read += u64::from(run.blocks);
                    checker.read(at, run.volume, run.first, run.blocks)
                }
                Step::Write(run, fua) => {
                    self.counts.writes += 1;
                    self.counts.blocks_written += u64::from(run.blocks);
                    checker.write(at, run.volume, run.first, run.blocks, fua)
                }
                Step::Flush(volume) => {
                    self.counts.flushes += 1;
                    checker.flush(at, volume)
                }
            };
            if let State::Up(connection, window) = &mut self.lanes[index].state {
                connection.submit(window, &command, &self.host);
            }
            *quota -= 1;
            *sent += 1;
        }
        let State::Up(connection, window) = &mut self.lanes[index].state else { return Ok(true) };
        let written = match connection.send(&self.host) {
            Ok(written) => written,
            // The next receive says why.
            Err(_) => return Ok(true),
        };
        let waiting = connection.in_flight() > 0 || !window.is_open();
        let own = self.patience.now();
        let lane = &mut self.lanes[index];
        if received > 0 || written > 0 || !waiting {
            lane.heard = own;
        } else if own.saturating_duration_since(lane.heard) > self.args.connect.timeout {
            let seconds = self.args.connect.timeout.as_secs();
            return Err(Error::TimedOut(format!("the target did not answer a command within {seconds} s")));
        }
        Ok(received > 0 || written > 0)
    }

    fn next_step(&mut self, index: usize) -> Option<Step> {
        if let Some(run) = self.lanes[index].reread.pop_front() {
            return Some(Step::Read(run));
        }
        match &mut self.phase {
            Phase::Run => {
                let mix = Mix {
                    read: self.args.read,
                    fua: self.args.fua,
                    flush_every: self.args.flush_every,
                    largest: self.largest,
                };
                Some(plan::random(&mut self.rng, &mix, &self.host.checker))
            }
            Phase::Settle => None,
            Phase::Fill(state) => {
                let run = self.sweep.next(self.largest, &self.host.checker);
                if run.is_none() {
                    *state = Feed::Over;
                }
                run.map(|run| Step::Write(run, false))
            }
            Phase::Sweep(state) => {
                let run = self.sweep.next(self.largest, &self.host.checker);
                if run.is_none() {
                    *state = Feed::Over;
                }
                run.map(Step::Read)
            }
        }
    }

    fn cut_distance(&mut self) -> Duration {
        // Between half and one and a half of what was asked for.
        let every = self.args.cut_every.unwrap_or(Duration::from_secs(1 << 30));
        let micros = u64::try_from(every.as_micros()).unwrap_or(u64::MAX / 2);
        Duration::from_micros(micros / 2 + self.rng.below(micros.max(1)))
    }

    /// Cuts one connection.
    fn cut(&mut self) {
        let index = usize::try_from(self.rng.below(self.lanes.len() as u64)).unwrap_or(0);
        let abrupt = self.rng.percent(50);
        if let State::Up(connection, _) = &self.lanes[index].state {
            if abrupt {
                // With a linger time of zero, closing sends RST and drops what was not sent.
                let _ = rustix::net::sockopt::set_socket_linger(connection.stream(), Some(Duration::ZERO));
            } else {
                let _ = connection.stream().shutdown(Shutdown::Both);
            }
            self.counts.cuts += 1;
            self.down(index);
        }
    }

    /// The connection is gone: takes back what it carried.
    fn down(&mut self, index: usize) {
        let now = Instant::now();
        let lane = &mut self.lanes[index];
        lane.state = State::Down { since: now, next_try: now, pause: BACK_OFF.0 };
        for at in index * self.host.depth..(index + 1) * self.host.depth {
            match self.host.checker.lose(at) {
                Lost::Nothing => {}
                // A random read is not missed; one that checks something must be done again.
                Lost::Read(_) if self.phase == Phase::Run => {}
                Lost::Read(run) => lane.reread.push_back(run),
                Lost::Write(write) => lane.lost.push(write),
            }
        }
    }

    fn connect(&mut self, index: usize) -> Result<(Connection, Window, Vec<Unit>), Error> {
        let number = u16::try_from(index).unwrap_or(u16::MAX);
        let established = self.connector.connect(&Seat::leading(iscsi::isid(self.session, number)))?;
        let mut window = Window { cmd_sn: established.cmd_sn, max_cmd_sn: established.max_cmd_sn };
        let connection = Connection::new(established, self.args.depth);
        let mut connection = connection.map_err(|error| Error::Failed(error.to_string()))?;
        let timeout = self.args.connect.timeout;
        let mut units = Vec::new();
        for lun in self.args.connect.luns(self.args.lun.as_ref()) {
            let lun =
                kagami_types::Lun::new(lun).ok_or_else(|| Error::Usage(format!("{lun} is not a LUN")))?;
            units.push(iscsi::probe(&mut connection, &mut window, &mut self.buffer, lun, timeout)?);
        }
        Ok((connection, window, units))
    }

    /// Tries once to bring a connection back.
    fn reconnect(&mut self, index: usize) -> Result<(), Error> {
        match self.connect(index) {
            Ok((connection, window, units)) => {
                self.same_units(&units)?;
                let lane = &mut self.lanes[index];
                lane.state = State::Up(Box::new(connection), window);
                lane.heard = self.patience.now();
                for lost in std::mem::take(&mut lane.lost) {
                    lane.reread.push_back(self.host.checker.forget(&lost));
                }
                Ok(())
            }
            Err(error @ (Error::Usage(_) | Error::Mismatch(_))) => Err(error),
            Err(error) => {
                let now = Instant::now();
                let State::Down { since, next_try, pause } = &mut self.lanes[index].state else {
                    return Ok(());
                };
                if now.duration_since(*since) > self.args.reconnect {
                    let seconds = self.args.reconnect.as_secs();
                    return Err(Error::TimedOut(format!("the target stayed away for {seconds} s: {error}")));
                }
                *next_try = now + *pause;
                *pause = (*pause * 2).min(BACK_OFF.1);
                Ok(())
            }
        }
    }

    fn same_units(&self, units: &[Unit]) -> Result<(), Error> {
        let size = |unit: &Unit| (unit.lun, unit.blocks, unit.block_size);
        if units.iter().map(size).eq(self.units.iter().map(size)) {
            return Ok(());
        }
        Err(Error::Mismatch("a unit has another size than before the connection was lost".to_owned()))
    }

    /// The announcement of a crash, and the crash itself: the loss of the connection that was made when it was announced.
    fn look_for_crash(&mut self, now: Instant) -> Result<(), Error> {
        if self.events.take_crash() {
            self.announced = Announced::Heard { next_try: now };
        }
        match &mut self.announced {
            Announced::No => {}
            Announced::Heard { next_try } if now < *next_try => {}
            Announced::Heard { .. } => {
                self.announced = match self.connect(self.lanes.len()) {
                    Ok((connection, window, _)) => {
                        println!("crash noted");
                        Announced::Noted(Box::new(connection), window)
                    }
                    // Stopped or starting just now. How long that may take is watched over where work is.
                    Err(_) => Announced::Heard { next_try: now + BACK_OFF.0 },
                };
                self.patience.blocked();
            }
            Announced::Noted(witness, window) => {
                let received = witness.receive(&mut self.buffer, window, &mut Nobody);
                // The target pings a silent connection; it is answered.
                if received.and_then(|_| witness.send(&Nobody)).is_err() {
                    self.announced = Announced::No;
                    self.recover()?;
                    self.patience.blocked();
                }
            }
        }
        Ok(())
    }

    /// How the connections stand, for the message of a run that stands still.
    fn standing(&self) -> String {
        let mut up = Vec::new();
        for lane in &self.lanes {
            up.push(match &lane.state {
                State::Up(connection, window) => {
                    let closed = if window.is_open() { "" } else { ", window closed" };
                    format!("up with {} commands{closed}", connection.in_flight())
                }
                State::Down { .. } => "down".to_owned(),
            });
        }
        up.join("; ")
    }

    /// After an announced crash: all connections anew, flush, and a look at every block in doubt.
    fn recover(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        self.counts.crashes += 1;
        let mut pause = BACK_OFF.0;
        loop {
            match self.recover_once() {
                Ok(blocks) => {
                    let ms = began.elapsed().as_millis();
                    println!("crash over after {ms} ms, {blocks} blocks in doubt checked");
                    return Ok(());
                }
                Err(error @ (Error::Usage(_) | Error::Mismatch(_))) => return Err(error),
                Err(error) if began.elapsed() > self.args.reconnect || self.events.stopped() => {
                    let seconds = self.args.reconnect.as_secs();
                    return Err(Error::TimedOut(format!("the target stayed away for {seconds} s: {error}")));
                }
                Err(_) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    fn recover_once(&mut self) -> Result<u64, Error> {
        for index in 0..self.lanes.len() {
            self.down(index);
        }
        for index in 0..self.lanes.len() {
            let (connection, window, units) = self.connect(index)?;
            self.same_units(&units)?;
            let lane = &mut self.lanes[index];
            lane.state = State::Up(Box::new(connection), window);
            lane.heard = self.patience.now();
            for lost in std::mem::take(&mut lane.lost) {
                self.host.checker.forget(&lost);
            }
        }
        if !self.args.check_only {
            for volume in 0..self.units.len() {
                self.simple(&Command::synchronize_cache(self.units[volume].wire))?;
            }
        }
        let mut blocks = 0;
        for volume in 0..self.units.len() {
            let unit = self.units[volume];
            let open = self.host.checker.volumes[volume].model.open_blocks();
            blocks += open.len() as u64;
            for run in plan::join(volume, &open, self.largest / unit.block_size) {
                let command = Command::read(unit.wire, run.first, run.blocks, unit.block_size);
                let data = self.simple(&command)?;
                if data.len() != run.blocks as usize * unit.block_size as usize {
                    return Err(Error::Mismatch(format!("a READ at LBA {} brought too little", run.first)));
                }
                self.host.checker.judge_blocks(volume, run.first, &data, Rule::Crash)?;
            }
        }
        self.counts.blocks_read += blocks;
        Ok(blocks)
    }

    /// One command on the first connection, which is idle; tried again while the target asks for it.
    fn simple(&mut self, command: &Command) -> Result<Vec<u8>, Error> {
        let timeout = self.args.connect.timeout;
        let began = Instant::now();
        loop {
            let Some(State::Up(connection, window)) = self.lanes.first_mut().map(|lane| &mut lane.state)
            else {
                return Err(Error::Failed("no connection".to_owned()));
            };
            let (outcome, data) = iscsi::simple(connection, window, &mut self.buffer, command, timeout)?;
            match outcome.status {
                Status::Good => return Ok(data),
                Status::Busy if began.elapsed() < timeout => std::thread::sleep(BACK_OFF.0),
                Status::Check(sense) if sense.is_unit_attention() && began.elapsed() < timeout => {}
                status => return Err(Error::Failed(format!("a command ended with {status}"))),
            }
        }
    }

    /// SYNCHRONIZE CACHE of every unit, with all connections idle.
    fn flush(&mut self) -> Result<(), Error> {
        for volume in 0..self.units.len() {
            if self.events.stopped() {
                return Ok(());
            }
            let issued = self.host.checker.volumes[volume].model.flush_issued();
            let command = Command::synchronize_cache(self.units[volume].wire);
            // A connection lost here is found by the next pass; the data then count as not flushed.
            if self.simple(&command).is_ok() {
                self.counts.flushes += 1;
                self.host.checker.volumes[volume].model.flush_acknowledged(issued);
            }
        }
        Ok(())
    }
}
