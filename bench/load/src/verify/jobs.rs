//! Tasks whose data are stamped when written and judged when read.
//!
//! The part of the checker that `load --verify` and `verify` share: the models of the units, and
//! for each slot of each connection the task under way with its buffer.

use super::model::{Mismatch, Model, Rule, Tick, WriteTicket};
use super::stamp::{self, Generation};
use crate::error::Error;
use crate::initiator::{Command, Outcome, Status, Unit};
use crate::rng::mix;

/// A logical unit under check, from its block 0 on.
#[derive(Debug)]
pub struct Volume {
    /// What it said of itself.
    pub unit: Unit,
    /// The word that its stamps carry.
    pub id: u64,
    /// What its blocks may hold.
    pub model: Model,
}

/// What a slot is busy with.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Idle,
    /// A read, judged by the rule.
    Read(Tick),
    /// A write.
    Write { generation: Generation, fua: bool },
    /// A SYNCHRONIZE CACHE.
    Flush(Tick),
}

/// A task that a connection carries.
#[derive(Debug)]
pub struct Job {
    /// Which.
    pub kind: Kind,
    volume: usize,
    first: u64,
    blocks: u32,
    buffer: Vec<u8>,
    /// Bytes of the buffer that this task uses.
    len: usize,
}

/// A run of blocks of one of the units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which of the units.
    pub volume: usize,
    /// First block.
    pub first: u64,
    /// How many.
    pub blocks: u32,
}

/// A write whose end nobody told us.
#[derive(Clone, Copy, Debug)]
pub struct LostWrite {
    volume: usize,
    ticket: WriteTicket,
}

/// A task whose connection is gone.
#[derive(Clone, Copy, Debug)]
pub enum Lost {
    /// Nothing that matters.
    Nothing,
    /// A read, which can be sent again.
    Read(Run),
    /// A write, to be handed to [`Checker::forget`] when the target can no longer be executing it.
    Write(LostWrite),
}

/// Models and tasks.
#[derive(Debug)]
pub struct Checker {
    /// The units.
    pub volumes: Vec<Volume>,
    jobs: Vec<Job>,
    next_generation: u32,
}

impl Checker {
    /// A checker of `units`, each up to `span` bytes, for `slots` tasks of up to `largest` bytes. Its
    /// stamps differ from those of every other run.
    ///
    /// # Errors
    /// [`Error::Usage`]: a span that no memory holds the model of.
    pub fn new(units: &[Unit], span: u64, slots: usize, largest: u32) -> Result<Self, Error> {
        let run = u64::from(crate::run_id()) << 32 | u64::from(crate::run_id());
        let volumes = units.iter().map(|unit| {
            let blocks = (unit.bytes().min(span) / u64::from(unit.block_size)).min(1 << 32);
            let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
            if blocks == 0 {
                return Err(Error::Usage("the span to check is less than a block".to_owned()));
            }
            let id = mix(run ^ mix(u64::from(unit.lun) + 1));
            Ok(Volume { unit: *unit, id, model: Model::new(blocks, !unit.write_cache) })
        });
        let volumes = volumes.collect::<Result<_, _>>()?;
        let job = || Job {
            kind: Kind::Idle,
            volume: 0,
            first: 0,
            blocks: 0,
            buffer: vec![0; largest as usize],
            len: 0,
        };
        Ok(Self { volumes, jobs: std::iter::repeat_with(job).take(slots).collect(), next_generation: 1 })
    }

    /// Generations below this one are taken; for going on from a state file.
    pub fn skip_generations(&mut self, last: Generation) {
        self.next_generation = self.next_generation.max(last.0.saturating_add(1));
    }

    /// The task of a slot.
    #[must_use]
    pub fn job(&self, index: usize) -> &Job {
        &self.jobs[index]
    }

    /// Begins a read and returns its command.
    pub fn read(&mut self, index: usize, volume: usize, first: u64, blocks: u32) -> Command {
        let target = &mut self.volumes[volume];
        let kind = Kind::Read(target.model.read_issued());
        let unit = target.unit;
        self.jobs[index].begin(kind, volume, first, blocks, unit.block_size);
        Command::read(unit.wire, first, blocks, unit.block_size)
    }

    /// Begins a write, stamps its data, and returns its command.
    pub fn write(&mut self, index: usize, volume: usize, first: u64, blocks: u32, fua: bool) -> Command {
        let generation = Generation(self.next_generation);
        // After four thousand million writes numbers repeat, which only makes the check milder.
        self.next_generation = self.next_generation.checked_add(1).unwrap_or(1);
        let target = &mut self.volumes[volume];
        target.model.write_issued(&WriteTicket { first, blocks, generation });
        let unit = target.unit;
        let job = &mut self.jobs[index];
        job.begin(Kind::Write { generation, fua }, volume, first, blocks, unit.block_size);
        for (lba, block) in (first..).zip(job.buffer[..job.len].chunks_exact_mut(unit.block_size as usize)) {
            stamp::write(block, target.id, lba, generation);
        }
        Command::write(unit.wire, first, blocks, unit.block_size, fua)
    }

    /// Begins a SYNCHRONIZE CACHE of a whole unit and returns its command.
    pub fn flush(&mut self, index: usize, volume: usize) -> Command {
        let target = &mut self.volumes[volume];
        let kind = Kind::Flush(target.model.flush_issued());
        let unit = target.unit;
        self.jobs[index].begin(kind, volume, 0, 0, unit.block_size);
        Command::synchronize_cache(unit.wire)
    }

    /// The data of a write.
    #[must_use]
    pub fn write_data(&self, index: usize, offset: u32, len: u32) -> &[u8] {
        let from = offset as usize;
        self.jobs.get(index).and_then(|job| job.buffer.get(from..from + len as usize)).unwrap_or_default()
    }

    /// Data of a read.
    pub fn read_data(&mut self, index: usize, offset: u32, bytes: &[u8]) {
        let from = offset as usize;
        let room = self.jobs.get_mut(index).and_then(|job| job.buffer.get_mut(from..from + bytes.len()));
        if let Some(room) = room {
            room.copy_from_slice(bytes);
        }
    }

    /// Ends a task and judges what it read. A read that did not take place comes back, to be sent again.
    ///
    /// # Errors
    /// [`Error::Mismatch`]: wrong data. [`Error::Failed`]: a status that is neither GOOD nor one
    /// after which a host tries again.
    pub fn done(&mut self, index: usize, outcome: &Outcome) -> Result<Option<Run>, Error> {
        let Self { volumes, jobs, .. } = self;
        let job = &mut jobs[index];
        let kind = std::mem::replace(&mut job.kind, Kind::Idle);
        let target = &mut volumes[job.volume];
        let good = outcome.status == Status::Good;
        match kind {
            Kind::Idle => {}
            Kind::Read(issued) => {
                let result = if good { judge(target, job, outcome, Rule::Read(issued)) } else { Ok(()) };
                target.model.read_ended(issued);
                result?;
            }
            Kind::Write { generation, fua } => {
                let ticket = WriteTicket { first: job.first, blocks: job.blocks, generation };
                if good {
                    target.model.write_acknowledged(&ticket, fua);
                } else {
                    target.model.write_unknown(&ticket);
                }
            }
            Kind::Flush(issued) if good => target.model.flush_acknowledged(issued),
            Kind::Flush(_) => {}
        }
        let run = Run { volume: job.volume, first: job.first, blocks: job.blocks };
        let again = matches!(kind, Kind::Read(_)).then_some(run);
        match outcome.status {
            Status::Good => Ok(None),
            Status::Busy => Ok(again),
            // News (UNIT ATTENTION) and aborts (ABORTED COMMAND) say nothing against the data.
            Status::Check(sense) if matches!(sense.key, 6 | 11) => Ok(again),
            status => Err(Error::Failed(format!(
                "{} of {} blocks at LBA {} of LUN {} ended with {status}",
                name(kind),
                job.blocks,
                job.first,
                target.unit.lun
            ))),
        }
    }

    /// The connection that carried the slot's task is gone.
    pub fn lose(&mut self, index: usize) -> Lost {
        let job = &mut self.jobs[index];
        let (volume, first, blocks) = (job.volume, job.first, job.blocks);
        match std::mem::replace(&mut job.kind, Kind::Idle) {
            Kind::Read(issued) => {
                self.volumes[volume].model.read_ended(issued);
                Lost::Read(Run { volume, first, blocks })
            }
            Kind::Write { generation, .. } => {
                Lost::Write(LostWrite { volume, ticket: WriteTicket { first, blocks, generation } })
            }
            Kind::Idle | Kind::Flush(_) => Lost::Nothing,
        }
    }

    /// A lost write can no longer take effect: its session was reinstated. Returns where it was, to
    /// be read again.
    pub fn forget(&mut self, lost: &LostWrite) -> Run {
        let LostWrite { volume, ticket } = *lost;
        self.volumes[volume].model.write_unknown(&ticket);
        Run { volume, first: ticket.first, blocks: ticket.blocks }
    }

    /// Judges blocks that were read outside of a slot.
    ///
    /// # Errors
    /// [`Error::Mismatch`]: wrong data.
    pub fn judge_blocks(&mut self, volume: usize, first: u64, data: &[u8], rule: Rule) -> Result<(), Error> {
        judge_data(&mut self.volumes[volume], first, data, rule)
    }
}

impl Job {
    fn begin(&mut self, kind: Kind, volume: usize, first: u64, blocks: u32, block_size: u32) {
        let len = (blocks as usize).saturating_mul(block_size as usize).min(self.buffer.len());
        (self.kind, self.volume, self.first, self.blocks, self.len) = (kind, volume, first, blocks, len);
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Idle => "a command",
        Kind::Read(_) => "READ",
        Kind::Write { .. } => "WRITE",
        Kind::Flush(_) => "SYNCHRONIZE CACHE",
    }
}

fn judge(target: &mut Volume, job: &Job, outcome: &Outcome, rule: Rule) -> Result<(), Error> {
    if outcome.received as usize != job.len {
        return Err(Error::Mismatch(format!(
            "READ of {} blocks at LBA {} of LUN {} brought {} bytes of {}",
            job.blocks, job.first, target.unit.lun, outcome.received, job.len
        )));
    }
    judge_data(target, job.first, &job.buffer[..job.len], rule)
}

fn judge_data(target: &mut Volume, first: u64, data: &[u8], rule: Rule) -> Result<(), Error> {
    for (lba, block) in (first..).zip(data.chunks_exact(target.unit.block_size as usize)) {
        let found = stamp::read(block, target.id, lba);
        target.model.check(lba, found, rule).map_err(|Mismatch { block, expected, found }| {
            let lun = target.unit.lun;
            Error::Mismatch(format!("LUN {lun} LBA {block}: expected {expected}; found {found}"))
        })?;
        target.model.resolve(lba, found, rule);
    }
    Ok(())
}
