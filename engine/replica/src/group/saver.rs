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
use crate::order::NAME;
use crate::record::{RECORD, Record, RecordError};
use crate::sink::Limit;
use crate::wire::{Get, Put};
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
    /// Up to where an operator lets entries be applied.
    pub(super) limit: Limit,
    /// The version of the newest far page that was known: what is durable may rest on it, so none that is older counts.
    pub(super) far_version: u64,
}

/// Where `far_version` lies in the record's room.
const FAR_AT: usize = RECORD - 8;

/// Bytes of a limit: its kind, the length of a marker's name, six of zero, a number, and the name.
const LIMIT: usize = 16 + NAME;

fn limit_bytes(limit: &Limit) -> [u8; LIMIT] {
    let mut bytes = [0; LIMIT];
    let (kind, number, name): (u8, u64, &[u8]) = match limit {
        Limit::None => (0, 0, &[]),
        Limit::Sequence(sequence) => (1, sequence.0, &[]),
        Limit::Offset(offset) => (2, *offset, &[]),
        Limit::Time(time) => (3, *time, &[]),
        // No longer one is accepted.
        Limit::Marker(name) => (4, 0, name.get(..NAME).unwrap_or(name)),
    };
    let mut put = Put::new(&mut bytes);
    put.u8(kind);
    put.u8(u8::try_from(name.len()).unwrap_or(0));
    put.bytes(&[0; 6]);
    put.u64(number);
    put.bytes(name);
    bytes
}

/// None where the bytes say what no limit says; no bytes, as before there were limits here, are no limit.
fn limit_of(bytes: &[u8]) -> Option<Limit> {
    if bytes.is_empty() {
        return Some(Limit::None);
    }
    let mut get = Get::new(bytes);
    let (kind, len) = (get.u8()?, get.u8()?);
    let number = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    Some(match kind {
        0 => Limit::None,
        1 => Limit::Sequence(Sequence(number)),
        2 => Limit::Offset(number),
        3 => Limit::Time(number),
        4 => Limit::Marker(bytes.get(16..16 + NAME)?.get(..usize::from(len))?.to_vec()),
        _ => return None,
    })
}

impl Durable {
    pub(super) fn new(block: Superblock, record: Record) -> Self {
        Self { block, record, target_sequence: Sequence::ZERO, limit: Limit::None, far_version: 0 }
    }

    /// From what the journal device has.
    pub(super) fn read(block: Superblock) -> Result<Self, RecordError> {
        let record = Record::decode(&block.record)?;
        let number = |at: usize| -> Result<u64, RecordError> {
            let bytes = block.record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            Ok(u64::from_le_bytes(bytes.ok_or(RecordError::Short)?))
        };
        let (target_sequence, far_version) = (Sequence(number(RECORD)?), number(FAR_AT)?);
        let limit = limit_of(block.record.get(RECORD + 8..).unwrap_or_default()).ok_or(RecordError::Field)?;
        Ok(Self { block, record, target_sequence, limit, far_version })
    }

    fn encode(&mut self) -> [u8; 4096] {
        let mut record = self.record.encode();
        if let Some(room) = record.get_mut(FAR_AT..) {
            room.copy_from_slice(&self.far_version.to_le_bytes());
        }
        record.extend(self.target_sequence.0.to_le_bytes());
        record.extend(limit_bytes(&self.limit));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_back() {
        let marker = Limit::Marker(b"before the upgrade".to_vec());
        let all = [
            Limit::None,
            Limit::Sequence(Sequence(7)),
            Limit::Offset(1 << 40),
            Limit::Time(u64::MAX),
            marker.clone(),
            Limit::Marker(vec![b'x'; NAME]),
        ];
        for limit in all {
            assert_eq!(limit_of(&limit_bytes(&limit)), Some(limit));
        }
        // As a superblock is that was written before there were any.
        assert_eq!(limit_of(&[]), Some(Limit::None));
        let mut bad = limit_bytes(&marker);
        bad[0] = 5;
        assert_eq!(limit_of(&bad), None);
        bad[0] = 4;
        bad[1] = 200;
        assert_eq!(limit_of(&bad), None);
        assert_eq!(limit_of(&bad[..20]), None);
    }
}
