//! Arrays that are broken on purpose, to show that the simulator finds it.
//!
//! Nothing of the product is changed: a back end that lies stands between a volume and its disk, what is
//! kept for a restart is not kept, PDUs are changed on their way out, or hosts are told that the
//! array promises what it does not. Each of these is what some honest mistake in the array would look like
//! from outside.

use kagami_memory::Scatter;
use kagami_reactor::{Completion, Errno, FileId, Op, Submit, Token};
use kagami_types::Time;
use kagami_volume::{Backend, DeviceLimits};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nothing: the back end that lies tells the truth, to show that it is not the back end itself.
    Nothing,
    /// FUA, and writes with WCE=0, are acknowledged before they are stable.
    ForceUnitAccess,
    /// Flushes do not reach the device.
    Flush,
    /// Writes are acknowledged when they are given to the device.
    EarlyStatus,
    /// The same, but reads and flushes wait for them: only overlapping writes are not kept apart.
    RangeLock,
    /// A write that takes long is given up, and its range with it: its abort is answered before it ended.
    GivenUp,
    /// Deallocating and zeroing does nothing.
    Discard,
    /// What is to outlive a restart does not.
    Keeper,
    /// Hosts are told that a READ never sees a part of a WRITE; the plain disk does not promise it.
    WholeCommands,
    /// Responses offer a larger command window than there is.
    Window,
    /// CHECK CONDITION arrives as GOOD.
    Status,
    /// Task attributes are ignored.
    Order,
    /// HEAD OF QUEUE is taken for SIMPLE.
    Head,
}

impl Broken {
    /// Whether it needs a back end that lies.
    pub fn is_back_end(self) -> bool {
        use Broken::{Discard, EarlyStatus, Flush, ForceUnitAccess, GivenUp, Nothing, RangeLock};
        matches!(self, Nothing | ForceUnitAccess | Flush | EarlyStatus | RangeLock | GivenUp | Discard)
    }
}

/// How long a write may take before it is given up.
const PATIENCE: Duration = Duration::from_millis(3);

/// What an operation at the disk is for.
#[derive(Debug)]
enum Flight {
    /// The volume waits for it.
    Awaited { token: Token, begun: Time, write: Option<Written> },
    /// The volume has been told that it is done.
    Forgotten(Range),
}

/// A write, to be given back before the disk has done it.
#[derive(Clone, Debug)]
struct Written {
    file: FileId,
    offset: u64,
    data: Scatter,
    stable: bool,
}

impl Written {
    fn range(&self) -> Range {
        Range { start: self.offset, end: self.offset + self.data.len_bytes() as u64 }
    }

    fn op(self) -> Op {
        Op::Write { file: self.file, offset: self.offset, data: self.data, stable: self.stable }
    }
}

#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    const ALL: Self = Self { start: 0, end: u64::MAX };

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A back end on a simulated disk that may lie.
#[derive(Debug)]
pub struct Liar {
    broken: Broken,
    file: FileId,
    limits: DeviceLimits,
    next: u32,
    flights: BTreeMap<u32, Flight>,
    ready: Vec<Completion>,
    /// Wait for writes that the volume thinks are done.
    waiting: Vec<(Token, Op)>,
}

impl Liar {
    pub fn new(broken: Broken, file: FileId, limits: DeviceLimits) -> Self {
        Self {
            broken,
            file,
            limits,
            next: 0,
            flights: BTreeMap::new(),
            ready: Vec::new(),
            waiting: Vec::new(),
        }
    }

    #[allow(clippy::result_large_err, reason = "the operation itself comes back")]
    fn start(&mut self, io: &mut dyn Submit, token: Token, op: Op, flight: Flight) -> Result<(), Op> {
        let own = Token(token.0 & !u64::from(u32::MAX) | u64::from(self.next));
        io.submit(own, on(op, self.file))?;
        self.flights.insert(self.next, flight);
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    fn is_blocked(&self, op: &Op) -> bool {
        let range = match op {
            Op::Read(_, offset, data) => Range { start: *offset, end: *offset + data.len_bytes() as u64 },
            Op::Flush(_) => Range::ALL,
            Op::Write { stable: true, .. } => Range::ALL,
            _ => return false,
        };
        self.flights
            .values()
            .any(|flight| matches!(flight, Flight::Forgotten(other) if other.overlaps(range)))
    }

    #[allow(clippy::result_large_err, reason = "the operation itself comes back")]
    fn take(&mut self, io: &mut dyn Submit, token: Token, op: Op) -> Result<(), Op> {
        let begun = io.now();
        let write = match &op {
            Op::Write { file, offset, data, stable } => {
                Some(Written { file: *file, offset: *offset, data: data.clone(), stable: *stable })
            }
            _ => None,
        };
        match (self.broken, op, write) {
            (Broken::ForceUnitAccess, Op::Write { file, offset, data, .. }, _) => {
                let op = Op::Write { file, offset, data, stable: false };
                self.start(io, token, op, Flight::Awaited { token, begun, write: None })
            }
            (Broken::Flush, op @ Op::Flush(_), _)
            | (Broken::Discard, op @ (Op::Discard(..) | Op::Zero(..)), _) => {
                self.ready.push(Completion { token, result: Ok(0), op });
                Ok(())
            }
            (Broken::EarlyStatus | Broken::RangeLock, op, Some(write)) => {
                let early = self.broken == Broken::EarlyStatus || !write.stable;
                if !early {
                    return self.start(io, token, op, Flight::Awaited { token, begun, write: None });
                }
                let range = write.range();
                self.start(io, token, op, Flight::Forgotten(range))?;
                let len = u32::try_from(range.end - range.start).unwrap_or(u32::MAX);
                self.ready.push(Completion { token, result: Ok(len), op: write.op() });
                Ok(())
            }
            (broken, op, write) => {
                let write = write.filter(|_| broken == Broken::GivenUp);
                self.start(io, token, op, Flight::Awaited { token, begun, write })
            }
        }
    }
}

/// The same operation on that file.
fn on(op: Op, file: FileId) -> Op {
    match op {
        Op::Read(_, offset, data) => Op::Read(file, offset, data),
        Op::Write { offset, data, stable, .. } => Op::Write { file, offset, data, stable },
        Op::Flush(_) => Op::Flush(file),
        Op::Discard(_, offset, len) => Op::Discard(file, offset, len),
        Op::Zero(_, offset, len) => Op::Zero(file, offset, len),
        other => other,
    }
}

impl Backend for Liar {
    fn limits(&self) -> DeviceLimits {
        self.limits
    }

    fn submit(&mut self, io: &mut dyn Submit, token: Token, op: Op) -> Result<(), Op> {
        if self.broken == Broken::RangeLock && self.is_blocked(&op) {
            self.waiting.push((token, op));
            return Ok(());
        }
        self.take(io, token, op)
    }

    fn poll(&mut self, io: &mut dyn Submit, done: &mut Vec<Completion>) {
        done.append(&mut self.ready);
        for (token, op) in std::mem::take(&mut self.waiting) {
            if self.is_blocked(&op) {
                self.waiting.push((token, op));
            } else if let Err(op) = self.take(io, token, op) {
                self.waiting.push((token, op));
            }
        }
        let now = io.now();
        for flight in self.flights.values_mut() {
            if let Flight::Awaited { token, begun, write } = flight
                && now >= *begun + PATIENCE
                && let Some(write) = write.take()
            {
                let token = *token;
                *flight = Flight::Forgotten(write.range());
                done.push(Completion { token, result: Err(Errno::TIMED_OUT), op: write.op() });
            }
        }
    }

    fn next_poll(&self) -> Time {
        if !self.ready.is_empty() {
            return Time(0);
        }
        let impatient = self.flights.values().filter_map(|flight| match flight {
            Flight::Awaited { begun, write: Some(_), .. } => Some(*begun + PATIENCE),
            _ => None,
        });
        impatient.min().unwrap_or(Time::NEVER)
    }

    fn on_completion(&mut self, io: &mut dyn Submit, completion: Completion, done: &mut Vec<Completion>) {
        let number = u32::try_from(completion.token.0 & u64::from(u32::MAX)).unwrap_or(0);
        if let Some(Flight::Awaited { token, .. }) = self.flights.remove(&number) {
            done.push(Completion { token, ..completion });
        }
        self.poll(io, done);
    }
}
