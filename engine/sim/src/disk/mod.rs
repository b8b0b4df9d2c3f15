//! Simulated disks: operations take time, act in pieces in any order, complete in any order, and
//! fail in the ways in which disks fail.
//!
//! A write takes effect in the volatile cache some time between its start and its completion, one
//! piece after another, so that a concurrent read and a crash both find it done in part. A flush
//! makes stable what had completed when it was submitted, and sometimes more. What a power failure
//! leaves is for [`Medium`].

mod medium;
mod pull;

pub(crate) use medium::{Medium, WriteSeq};
pub(crate) use pull::{Stay, disk_of};

use crate::coverage::Happening;
use crate::ops::OpKey;
use crate::rng::Rng;
use crate::trace::Who;
use crate::trap::Moment;
use crate::world::{Event, State};
use kagami_memory::{Handle, Segments};
use kagami_reactor::{Errno, Op};
use kagami_types::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

/// A disk of the world. The same for all cores and over restarts of the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DiskId(pub u16);

/// A run of sectors that an operation works on at one moment.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Counted from the operation's first.
    first: usize,
    count: usize,
    done: bool,
}

/// What a disk does about an operation.
#[derive(Debug)]
pub(crate) struct Job {
    disk: usize,
    write: WriteSeq,
    first: usize,
    sectors: usize,
    pieces: Vec<Piece>,
    /// Where the sectors really go.
    misdirect: Option<usize>,
    stable: bool,
    /// For a flush: writes up to here, but those still in flight, must be stable.
    covered: WriteSeq,
    exempt: BTreeSet<WriteSeq>,
    result: Result<u32, Errno>,
    started: Time,
    /// Its place in the order in which the disk got its operations.
    order: u64,
    /// Since when the disk was there.
    stay: Stay,
}

/// One disk.
#[derive(Debug)]
pub(crate) struct Disk {
    medium: Medium,
    rng: Rng,
    next_write: WriteSeq,
    /// Writes under way: first sector and count.
    in_flight: BTreeMap<WriteSeq, (usize, usize)>,
    /// Operations that it got, and those under way by their order.
    orders: u64,
    busy: BTreeSet<u64>,
    gone_until: Time,
    /// It is not in the machine.
    pulled: bool,
    stay: Stay,
    /// Where transfers were short. The next from there is not: a kernel that twice stops at the
    /// same place means that there is something wrong with it.
    short_from: BTreeSet<usize>,
}

impl Disk {
    pub(crate) fn new(sector: usize, sectors: usize, rng: Rng) -> Self {
        let medium = Medium::new(sector, sectors);
        Self {
            medium,
            rng,
            next_write: 1,
            in_flight: BTreeMap::new(),
            orders: 0,
            busy: BTreeSet::new(),
            gone_until: Time(0),
            pulled: false,
            stay: Stay::default(),
            short_from: BTreeSet::new(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.medium.len()
    }

    /// All that reads would see.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.medium.read(0, self.medium.sectors()).to_vec()
    }

    pub(crate) fn sector(&self) -> usize {
        self.medium.sector()
    }

    /// What an opened descriptor is good for; `None` where there is nothing to open.
    pub(crate) fn stay(&self) -> Option<Stay> {
        (!self.pulled).then_some(self.stay)
    }

    /// The next write's number and the lowest of those under way.
    pub(crate) fn under_way(&self) -> (u64, u64) {
        (self.next_write, self.in_flight.first_key_value().map_or(self.next_write, |(write, _)| *write))
    }

    pub(crate) fn is_writing(&self, bytes: &Range<u64>) -> bool {
        let sector = self.medium.sector() as u64;
        let (start, end) = (bytes.start / sector, bytes.end.div_ceil(sector));
        self.in_flight.values().any(|(first, count)| {
            let first = *first as u64;
            first < end && start < first + *count as u64
        })
    }

    /// As if it had just got a write, or had done all.
    #[cfg(test)]
    pub(crate) fn pretend(&mut self, busy: bool) {
        self.in_flight.clear();
        if busy {
            self.in_flight.insert(self.next_write, (0, 1));
            self.next_write += 1;
        }
    }

    fn end(&mut self, job: &Job) {
        self.in_flight.remove(&job.write);
        self.busy.remove(&job.order);
    }
}

/// Direct I/O wants memory and every part's length aligned so.
const MEMORY_ALIGNMENT: usize = 512;

fn aligned<H: Handle>(list: &Segments<H>) -> bool {
    list.chunks().all(|chunk| {
        chunk.as_ptr().addr().is_multiple_of(MEMORY_ALIGNMENT) && chunk.len().is_multiple_of(MEMORY_ALIGNMENT)
    })
}

/// Offset and length of an operation in bytes, and whether its memory is aligned.
fn extent(op: &Op) -> (u64, u64, bool) {
    match op {
        Op::Read(_, offset, data) => (*offset, data.len_bytes() as u64, aligned(data)),
        Op::Write { offset, data, .. } => (*offset, data.len_bytes() as u64, aligned(data)),
        Op::Discard(_, offset, len) | Op::Zero(_, offset, len) => (*offset, *len, true),
        _ => (0, 0, true),
    }
}

impl State {
    /// A disk gets an operation.
    pub(crate) fn start_disk(&mut self, at: usize, key: OpKey) {
        match self.plan_job(at, key) {
            Ok(job) => {
                let begin = self.now.0;
                let end = begin + self.service_time(at);
                let pieces = job.pieces.len();
                let mut times: Vec<u64> = Vec::with_capacity(pieces);
                if let Some(disk) = self.disks.get_mut(at) {
                    times.extend((0..pieces).map(|_| disk.rng.between(begin, end)));
                }
                for (piece, time) in times.into_iter().enumerate() {
                    self.events.put(Time(time), Event::DiskPiece(key, piece));
                }
                self.events.put_in_order(Time(end), Event::DiskDone(key));
                if let Some(op) = self.ops.get(key) {
                    op.job = Some(job);
                }
            }
            Err(error) => {
                let errno = u64::try_from(error.0).unwrap_or(0);
                self.trace.note(self.now, Who::Disk(narrow(at)), "refuses: errno", [errno, 0, 0]);
                self.complete_soon(key, Err(error));
            }
        }
    }

    fn service_time(&mut self, at: usize) -> u64 {
        let options = self.options.disk;
        let Some(disk) = self.disks.get_mut(at) else { return 1 };
        if disk.rng.below(10_000) < u64::from(options.hang) {
            self.coverage.hit(Happening::Hang);
            self.trace.note(self.now, Who::Disk(narrow(at)), "hang", [0; 3]);
            return disk.rng.skewed(1_000_000_000, options.hang_time.max(1_000_000_000));
        }
        disk.rng.skewed(1_000, options.service.max(1_000))
    }

    fn plan_job(&mut self, at: usize, key: OpKey) -> Result<Job, Errno> {
        let options = self.options.disk;
        let Some(disk) = self.disks.get_mut(at) else { return Err(Errno::NO_DEVICE) };
        let Some(inflight) = self.ops.get(key) else { return Err(Errno::INVALID) };
        let rng = &mut disk.rng;
        let mut roll = |rate: u32| rng.below(10_000) < u64::from(rate);
        if roll(options.gone) {
            let away = rng.skewed(1_000_000, 3_000_000_000);
            disk.gone_until = self.now + Duration::from_nanos(away);
            self.coverage.hit(Happening::DiskGone);
            self.trace.note(self.now, Who::Disk(narrow(at)), "gone for ns", [away, 0, 0]);
        }
        if self.now < disk.gone_until {
            return Err(Errno::NO_DEVICE);
        }
        let (offset, len, aligned) = extent(&inflight.op);
        let sector = disk.medium.sector();
        let end = offset.checked_add(len).ok_or(Errno::INVALID)?;
        let whole = |n: u64| n.is_multiple_of(sector as u64);
        if !aligned || !whole(offset) || !whole(len) || end > disk.medium.len() as u64 {
            return Err(Errno::INVALID);
        }
        let bytes = usize::try_from(len).map_err(|_| Errno::INVALID)?;
        let mut job = Job {
            disk: at,
            write: 0,
            first: usize::try_from(offset).map_err(|_| Errno::INVALID)? / sector,
            sectors: bytes / sector,
            pieces: Vec::new(),
            misdirect: None,
            stable: false,
            covered: disk.next_write - 1,
            exempt: BTreeSet::new(),
            result: Ok(0),
            started: self.now,
            order: disk.orders,
            stay: disk.stay,
        };
        let beside = disk.is_writing(&(offset..end));
        let rng = &mut disk.rng;
        disk.orders += 1;
        if !disk.busy.is_empty() {
            self.coverage.hit(Happening::Parallel);
        }
        let mut roll = |rate: u32| rng.below(10_000) < u64::from(rate);
        let (error, no_space, short) = (roll(options.error), roll(options.no_space), roll(options.short));
        let writes = match &inflight.op {
            Op::Flush(_) => {
                job.exempt = disk.in_flight.keys().copied().collect();
                if !job.exempt.is_empty() {
                    self.coverage.hit(Happening::FlushRacesWrites);
                }
                self.trace.note(self.now, Who::Disk(narrow(at)), "flush up to write", [job.covered, 0, 0]);
                self.trap.pass(Moment::Flush);
                false
            }
            Op::Read(..) => {
                if beside {
                    self.coverage.hit(Happening::ReadBesideWrite);
                }
                false
            }
            Op::Write { stable, .. } => {
                self.trap.pass(if *stable { Moment::StableWrite } else { Moment::Write });
                job.stable = *stable && !options.lies.fua;
                true
            }
            Op::Discard(..) | Op::Zero(..) => {
                if options.plain {
                    self.coverage.hit(Happening::Unsupported);
                    return Err(Errno::NOT_SUPPORTED);
                }
                true
            }
            _ => return Err(Errno::INVALID),
        };
        if writes {
            if options.apart && beside {
                self.fault.get_or_insert(format!(
                    "disk {at} got a write to sectors {} to {}, some of which another write under way is for",
                    job.first,
                    job.first + job.sectors
                ));
            }
            job.write = disk.next_write;
            disk.next_write += 1;
        }
        if writes && no_space {
            self.coverage.hit(Happening::NoSpace);
            job.result = Err(Errno::NO_SPACE);
            return Ok(job);
        }
        let transfer = matches!(inflight.op, Op::Read(..) | Op::Write { .. });
        let mut sectors = job.sectors;
        if error {
            self.coverage.hit(Happening::DiskError);
            self.trace.note(
                self.now,
                Who::Disk(narrow(at)),
                "error, sector, count",
                [job.first as u64, job.sectors as u64, u64::from(writes)],
            );
            job.result = Err(Errno::IO);
            sectors = rng.index(sectors + 1);
        } else if transfer {
            if disk.short_from.remove(&job.first) {
                // This time all of it.
            } else if short && sectors > 1 {
                disk.short_from.insert(job.first);
                self.coverage.hit(Happening::ShortDiskIo);
                sectors = 1 + rng.index(sectors - 1);
            }
            job.result = Ok(u32::try_from(sectors * sector).unwrap_or(u32::MAX));
        }
        let lies = options.lies;
        if writes && rng.one_in(lies.drop_write) {
            self.coverage.hit(Happening::DroppedWrite);
            self.trace.note(
                self.now,
                Who::Disk(narrow(at)),
                "drops a write, sector, count",
                [job.first as u64, job.sectors as u64, 0],
            );
            sectors = 0;
        }
        if transfer && !writes && rng.one_in(lies.misread) {
            self.coverage.hit(Happening::Misread);
            job.misdirect = Some(rng.index(disk.medium.sectors()));
        }
        if writes && rng.one_in(lies.misdirect) {
            self.coverage.hit(Happening::Misdirected);
            job.misdirect = Some(rng.index(disk.medium.sectors()));
        }
        job.pieces = cut(rng, sectors);
        if rng.one_in(lies.rot) {
            self.coverage.hit(Happening::BitRot);
            let byte = rng.index(disk.medium.len());
            disk.medium.rot(byte, 3);
        }
        if writes {
            disk.in_flight.insert(job.write, (job.first, job.sectors));
            let numbers = [job.write, job.first as u64, job.sectors as u64];
            let what = if job.stable {
                "stable write: number, sector, count"
            } else {
                "write: number, sector, count"
            };
            self.trace.note(self.now, Who::Disk(narrow(at)), what, numbers);
        }
        disk.busy.insert(job.order);
        Ok(job)
    }

    /// A piece of an operation takes effect.
    pub(crate) fn disk_piece(&mut self, key: OpKey, piece: usize) {
        let eager = self.options.disk.eager;
        let Some(inflight) = self.ops.get(key) else { return };
        let Some(job) = &mut inflight.job else { return };
        let Some(disk) = self.disks.get_mut(job.disk) else { return };
        if job.stay != disk.stay {
            return;
        }
        act(&mut disk.medium, &mut inflight.op, job, piece, |_| true);
        self.trap.pass(Moment::Piece);
        if disk.rng.permille(eager) {
            disk.medium.settle_any(&mut disk.rng);
        }
    }

    /// An operation is done, all its pieces with it.
    pub(crate) fn disk_done(&mut self, key: OpKey) {
        let lies = self.options.disk.lies;
        let late = self.options.disk.late;
        let Some(inflight) = self.ops.get(key) else { return };
        let Some(job) = inflight.job.take() else { return };
        let Some(disk) = self.disks.get_mut(job.disk) else { return };
        disk.end(&job);
        if job.write > 0 {
            self.trace.note(self.now, Who::Disk(narrow(job.disk)), "wrote: number", [job.write, 0, 0]);
        }
        if disk.busy.first().is_some_and(|first| *first < job.order) {
            self.coverage.hit(Happening::OutOfOrder);
        }
        if self.now.nanos_since(job.started) > late {
            self.coverage.hit(Happening::LateCompletion);
        }
        let is_flush = matches!(inflight.op, Op::Flush(_));
        let is_discard = matches!(inflight.op, Op::Discard(..));
        let mut result = job.result;
        if self.now < disk.gone_until || job.stay != disk.stay {
            result = Err(Errno::NO_DEVICE);
        }
        if result.is_ok() && (is_flush || job.stable) {
            if lies.flush {
                self.coverage.hit(Happening::Lie);
            } else if is_flush {
                let all = disk.rng.one_in(2);
                disk.medium.flush(|write| all || (write <= job.covered && !job.exempt.contains(&write)));
                self.coverage.hit(Happening::Flush);
                self.trace.note(
                    self.now,
                    Who::Disk(narrow(job.disk)),
                    "flushed up to write",
                    [job.covered, 0, 0],
                );
            } else {
                disk.medium.stabilise(job.write, job.first, job.sectors);
                self.coverage.hit(Happening::StableWrite);
            }
        }
        if result.is_ok() && is_discard {
            self.coverage.hit(Happening::Discard);
        }
        self.trap.pass(if is_flush { Moment::Flushed } else { Moment::Done });
        if disk.rng.one_in(lies.forget) {
            self.coverage.hit(Happening::Forgotten);
            self.trace.note(self.now, Who::Disk(narrow(job.disk)), "forgets a completion", [0; 3]);
            return;
        }
        self.complete_soon(key, result);
    }

    /// The array's process is gone, or with it the power: what is in flight takes effect in part
    /// or not at all, and without power the volatile caches go too.
    pub(crate) fn crash_disks(&mut self, power: bool) {
        for key in self.ops.keys() {
            let Some(mut inflight) = self.ops.take(key) else { continue };
            let Some(mut job) = inflight.job.take() else { continue };
            let Some(disk) = self.disks.get_mut(job.disk) else { continue };
            disk.end(&job);
            self.coverage.hit(match inflight.op {
                Op::Read(..) => continue,
                Op::Flush(_) => Happening::CrashInFlush,
                _ => Happening::CrashInWrite,
            });
            // Of what it had not done: nothing, all, some pieces, or any sectors of all pieces.
            let (pieces, sectors) =
                disk.rng.choose([(0, 0), (1000, 1000), (500, 1000), (1000, 500), (700, 900)]);
            for piece in 0..job.pieces.len() {
                let Disk { medium, rng, .. } = disk;
                if rng.permille(pieces) {
                    act(medium, &mut inflight.op, &mut job, piece, |_| rng.permille(sectors));
                }
            }
        }
        if !power {
            return;
        }
        for at in 0..self.disks.len() {
            let Some(disk) = self.disks.get_mut(at) else { continue };
            let loss = disk.medium.lose_power(&mut disk.rng);
            disk.gone_until = Time(0);
            for (count, what) in [
                (loss.dirty, Happening::CrashUnflushed),
                (loss.lost, Happening::LostWrite),
                (loss.kept, Happening::KeptWrite),
                (loss.torn, Happening::TornWrite),
                (loss.reordered, Happening::Reordered),
            ] {
                if count > 0 {
                    self.coverage.hit(what);
                }
            }
            self.trace.note(
                self.now,
                Who::Disk(narrow(at)),
                "lost power; writes lost, kept, torn",
                [loss.lost, loss.kept, loss.torn],
            );
        }
    }
}

/// Cuts a run of sectors in up to four pieces.
fn cut(rng: &mut Rng, sectors: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut first = 0;
    while first < sectors {
        let left = sectors - first;
        let count = if pieces.len() == 3 || rng.one_in(2) { left } else { rng.index(left) + 1 };
        pieces.push(Piece { first, count, done: false });
        first += count;
    }
    pieces
}

/// Does a piece of an operation, once, as far as `which` of its sectors says.
fn act(medium: &mut Medium, op: &mut Op, job: &mut Job, piece: usize, mut which: impl FnMut(usize) -> bool) {
    let Some(piece) = job.pieces.get_mut(piece) else { return };
    if std::mem::replace(&mut piece.done, true) {
        return;
    }
    let size = medium.sector();
    let mut sector = vec![0; size];
    for n in (piece.first..piece.first + piece.count).filter(|n| which(*n)) {
        let place = job.misdirect.map_or(job.first + n, |start| (start + n) % medium.sectors());
        match op {
            Op::Read(_, _, data) => {
                data.copy_from(n * size, medium.read(place, 1));
            }
            Op::Write { data, .. } => {
                data.copy_into(&mut sector, n * size);
                medium.write(place, &sector, job.write);
            }
            _ => medium.write(place, &sector, job.write),
        }
    }
}

pub(crate) fn narrow(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}
