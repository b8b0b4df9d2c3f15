//! What a secondary's own journal has, and its volumes do not: counted before it is given up, so that no more than that is
//! copied later.
//!
//! A takeover that stops before the damage, and a journal that has rotted, both leave entries behind that the primary may
//! have freed, as they were confirmed. Their heads say which granules they are about; data need not be readable for that.
//! Where a head cannot be read, nobody knows what came after it: then all counts as different, and is said to.

use super::program::Go;
use super::{Live, pages};
use crate::action::{DeviceEnd, DeviceOp};
use crate::context::{Context, Owner};
use crate::record::Side;
use kagami_journal::{BLOCK, Bits, GRANULE, Layout, Replay};
use kagami_memory::Scatter;
use kagami_types::{BlockError, JournalPos, Sequence, Uuid};
use std::collections::VecDeque;

/// Reads ahead, in bytes.
const AHEAD: u64 = 4 << 20;

#[derive(Debug)]
struct Read {
    tag: u64,
    at: u64,
    len: u32,
    data: Option<Scatter>,
}

/// A stretch of the own journal, being counted.
#[derive(Debug)]
pub(super) struct Tally {
    replay: Replay,
    /// In the order of the journal.
    reads: VecDeque<Read>,
    /// Entries up to here do not count.
    after: Sequence,
    bits: Vec<Bits>,
    entries: u64,
    failed: Option<String>,
}

impl Tally {
    /// Of the entries after that sequence, from one place, where a frame begins, to another, where one ends.
    fn new(
        group: Uuid,
        layout: Layout,
        (from, to): (JournalPos, u64),
        after: Sequence,
        bits: Vec<Bits>,
    ) -> Self {
        let replay = Replay::new(group, layout, from, to).heads_only();
        Self { replay, reads: VecDeque::new(), after, bits, entries: 0, failed: None }
    }

    /// Goes on. Whether it is at its end.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        while self.failed.is_none() && self.replay.ahead() < AHEAD {
            let Some((at, len)) = self.replay.next_read() else { break };
            let tag = cx.actions.journal(Owner::Group, DeviceOp::Read { at, len });
            self.reads.push_back(Read { tag, at, len, data: None });
        }
        while let Some(data) = self.reads.front_mut().and_then(|read| read.data.take()) {
            self.reads.pop_front();
            if let Err(error) = self.replay.on_read(data) {
                self.failed.get_or_insert_with(|| error.to_string());
            }
        }
        while self.failed.is_none()
            && let Some(frame) = self.replay.next()
        {
            match frame {
                Ok(frame) => frame.entries.iter().for_each(|(head, _)| {
                    if head.kind.changes() && head.sequence > self.after {
                        self.entries += 1;
                        let (from, to) = head.bytes();
                        if let Some(bits) = self.bits.get_mut(usize::from(head.volume)) {
                            bits.set_range(from / GRANULE, to.div_ceil(GRANULE).min(bits.len()));
                        }
                    }
                }),
                Err(error) => self.failed = Some(error.to_string()),
            }
        }
        // What was asked for comes back all the same; nobody waits for it then.
        self.failed.is_some() || self.replay.is_done()
    }

    /// A read has ended. Whether it was one of these.
    ///
    /// What cannot be read is asked for in ever smaller parts: a block within an entry's data does not matter.
    fn on_device(&mut self, cx: &mut Context<'_>, tag: u64, end: &DeviceEnd) -> bool {
        let Some(place) = self.reads.iter().position(|read| read.tag == tag) else { return false };
        let Read { at, len, .. } = self.reads[place];
        let mut ask = |at, len| {
            let tag = cx.actions.journal(Owner::Group, DeviceOp::Read { at, len });
            Read { tag, at, len, data: None }
        };
        match end {
            Ok(data) => {
                let mut same = Scatter::default();
                same.push_range(data, 0, data.len_bytes());
                self.reads[place].data = Some(same);
            }
            Err(BlockError::Busy | BlockError::Aborted) => self.reads[place] = ask(at, len),
            Err(_) if u64::from(len) > BLOCK => {
                let block = u32::try_from(BLOCK).unwrap_or(4096);
                let half = (len / 2).next_multiple_of(block);
                self.reads[place] = ask(at, half);
                let rest = ask(at + u64::from(half), len - half);
                self.reads.insert(place + 1, rest);
            }
            Err(error) => match pages(cx.pool, &[0; 4096]) {
                Some(zeroes) => self.reads[place].data = Some(zeroes),
                None => self.failed = Some(error.to_string()),
            },
        }
        true
    }
}

impl Live {
    /// Puts what the own journal has and the volumes do not into the difference.
    pub(super) fn tally(&mut self, cx: &mut Context<'_>, first: bool) -> Go {
        if first {
            self.tally = None;
            if self.record().side != Side::Secondary || !self.is_behind() {
                return Go::On;
            }
            let places = self.places();
            self.tally = Some(Box::new(Tally::new(
                self.plan.group,
                self.layout(),
                (places.restored, places.read.offset),
                places.restored_sequence,
                self.no_bits(),
            )));
        }
        let Some(tally) = &mut self.tally else { return Go::On };
        if !tally.turn(cx) {
            return Go::Wait;
        }
        let Some(tally) = self.tally.take() else { return Go::On };
        match tally.failed {
            None => {
                self.difference.join(&tally.bits);
                let (entries, granules) = (tally.entries, tally.bits.iter().map(Bits::count).sum::<u64>());
                cx.actions.event(format!(
                    "{entries} writes that were read are not restored: {granules} granules count as different"
                ));
            }
            Some(why) => {
                self.difference.set_all();
                self.complain(
                    cx,
                    format!("what was read cannot be told any more, so all is to be copied: {why}"),
                );
            }
        }
        Go::On
    }

    /// A read of the own journal has ended. Whether it was for that.
    pub(super) fn on_tallied(&mut self, cx: &mut Context<'_>, tag: u64, end: &DeviceEnd) -> bool {
        self.tally.as_mut().is_some_and(|tally| tally.on_device(cx, tag, end))
    }
}
