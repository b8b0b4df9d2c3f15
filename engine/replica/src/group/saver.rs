//! The superblock of a group: what is to be durable, what is on its way, and what is.
//!
//! Whoever changes [`Saver::block`] asks for [`Saver::save`] and gets a version to wait for. One write is under way at a time;
//! changes meanwhile go with the next. A change is made only when it may become durable at any moment from then on. One that
//! fails is repeated: what waits for it waits on.
//!
//! It is written to one place, and when it is there to the other, under the next version; only then it is durable, and said to
//! anybody. So whichever place cannot be read later, the other one has everything that ever counted.

use super::pages;
use crate::action::{DeviceEnd, DeviceOp};
use crate::context::{Context, Owner};
use crate::record::{RECORD, Record, RecordError};
use kagami_journal::Superblock;
use kagami_types::{Sequence, Time};
use std::time::Duration;

/// How long until a write that failed is repeated.
const AGAIN: Duration = Duration::from_millis(500);

/// A superblock with its record, and what else lies beside it.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    pub(super) block: Superblock,
    pub(super) record: Record,
    /// The last sequence that may have been applied at a secondary.
    pub(super) target_sequence: Sequence,
    /// The version of the newest far page that was known: what is durable may rest on it, so none that is older counts.
    pub(super) far_version: u64,
}

/// Where `far_version` lies in the record's room.
const FAR_AT: usize = RECORD - 8;

impl Durable {
    pub(super) fn new(block: Superblock, record: Record) -> Self {
        Self { block, record, target_sequence: Sequence::ZERO, far_version: 0 }
    }

    /// From what the journal device has.
    pub(super) fn read(block: Superblock) -> Result<Self, RecordError> {
        let record = Record::decode(&block.record)?;
        let number = |at: usize| -> Result<u64, RecordError> {
            let bytes = block.record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            Ok(u64::from_le_bytes(bytes.ok_or(RecordError::Short)?))
        };
        let (target_sequence, far_version) = (Sequence(number(RECORD)?), number(FAR_AT)?);
        Ok(Self { block, record, target_sequence, far_version })
    }

    fn encode(&mut self) -> [u8; 4096] {
        let mut record = self.record.encode();
        if let Some(room) = record.get_mut(FAR_AT..) {
            room.copy_from_slice(&self.far_version.to_le_bytes());
        }
        record.extend(self.target_sequence.0.to_le_bytes());
        self.block.record = record;
        self.block.encode()
    }
}

#[derive(Debug)]
pub(super) struct Saver {
    /// What is to be durable.
    pub(super) next: Durable,
    durable: Durable,
    /// What one place has; the other is to have it, too.
    half: Option<Durable>,
    writing: Option<(u64, Durable)>,
    wanted: bool,
    /// The greatest version that somebody may wait for.
    promised: u64,
    retry: Option<Time>,
    /// The last write failed, and why.
    pub(super) failed: Option<kagami_types::BlockError>,
}

#[cfg(test)]
mod twice;

impl Saver {
    /// What the device has.
    pub(super) fn new(durable: Durable) -> Self {
        Self {
            next: durable.clone(),
            durable,
            half: None,
            writing: None,
            wanted: false,
            promised: 0,
            retry: None,
            failed: None,
        }
    }

    /// What is durable: all that may be said to others.
    pub(super) fn durable(&self) -> &Durable {
        &self.durable
    }

    /// The working copy is to be durable; a version that is durable then, and not before.
    pub(super) fn save(&mut self) -> u64 {
        self.wanted = true;
        let under_way = self.half.is_some() || self.writing.is_some();
        let version = match (self.durable.block.version, under_way) {
            // The first write only claims the journal.
            (0, _) => 2,
            (durable, false) => durable + 1,
            // What is under way takes two versions.
            (durable, true) => durable + 3,
        };
        self.promised = self.promised.max(version);
        version
    }

    pub(super) fn is_durable(&self, version: u64) -> bool {
        self.durable.block.version >= version
    }

    /// Nothing is on its way to the device.
    pub(super) fn is_quiet(&self) -> bool {
        self.writing.is_none()
    }

    /// Begins a write where one is wanted.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) {
        let wanted = self.wanted || self.half.is_some();
        if self.writing.is_some() || !wanted || self.retry.is_some_and(|at| at > cx.now) {
            return;
        }
        let mut next = self.half.as_ref().unwrap_or(&self.next).clone();
        next.block.version = self.durable.block.version + if self.half.is_some() { 2 } else { 1 };
        // A blank device gets a superblock without a record first: all of it is in its first sector but for the checksum, so
        // however a crash tears it, it is not taken for something else's. What is torn from then on lies beside one that is
        // whole.
        let claim = self.durable.block.version == 0;
        let bytes = if claim {
            Superblock { record: Vec::new(), ..next.block.clone() }.encode()
        } else {
            next.encode()
        };
        let Some(data) = pages(cx.pool, &bytes) else {
            self.retry = Some(cx.now + AGAIN);
            return;
        };
        if self.half.is_none() {
            self.wanted = claim;
        }
        self.retry = None;
        let op = DeviceOp::Write { at: next.block.place(), data, stable: true };
        let tag = cx.actions.journal(Owner::Group, op);
        self.writing = Some((tag, next));
    }

    /// A device operation has ended. Whether it was one of these.
    pub(super) fn on_device(&mut self, cx: &mut Context<'_>, tag: u64, end: &DeviceEnd) -> bool {
        let Some((_, written)) = self.writing.take_if(|(writing, _)| *writing == tag) else { return false };
        match end {
            Ok(_) => {
                let claim = self.durable.block.version == 0;
                match self.half.take() {
                    None if !claim => self.half = Some(written),
                    _ => {
                        self.durable = written;
                        // One that failed takes what was to follow it along, and who waits for that waits for its version.
                        self.wanted |= self.promised > self.durable.block.version;
                    }
                }
                if self.failed.take().is_some() {
                    cx.actions.event("the journal takes writes again");
                }
            }
            Err(error) => {
                self.wanted |= self.half.is_none();
                self.retry = Some(cx.now + AGAIN);
                if self.failed.replace(*error).is_none() {
                    cx.actions.event(format!("the journal does not take its superblock: {error}"));
                }
            }
        }
        true
    }

    pub(super) fn next_deadline(&self) -> Time {
        match self.retry {
            Some(at) if (self.wanted || self.half.is_some()) && self.writing.is_none() => at,
            _ => Time::NEVER,
        }
    }
}
