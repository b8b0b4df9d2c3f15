//! What each rule of a front says, and all of them together against a model.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod model;
mod promises;
mod rules;

use super::{Front, FrontPlan, Step};
use crate::mail::{Change, Mode, ToFront, ToGroup, VolumeIndex};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_types::{
    Access, BlockCount, BlockError, BlockOp, BlockRange, BlockSize, Lba, LbaStatus, Sequence, Time,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The bytes of a block.
const BLOCK: usize = 512;
/// The blocks of the volume: four granules and a bit.
const BLOCKS: u64 = 4 * 128 + 8;

/// A front with what it said so far, sorted by who hears it.
struct Bench {
    front: Front,
    pool: Pool,
    now: Time,
    store: VecDeque<(u64, BlockOp, Scatter)>,
    done: VecDeque<(u64, Result<(), BlockError>, Scatter)>,
    mail: VecDeque<ToGroup>,
    aborted: Vec<u64>,
    deferred: Vec<(u64, BlockError)>,
    tickets: u64,
}

impl Bench {
    fn new(slots: u16) -> Self {
        let plan = ArenaPlan::new(1).with(Class::Page, 600, 0);
        let pool = Arena::new(plan, HugePages::Off).unwrap().pool(0);
        let front = Front::new(FrontPlan {
            index: VolumeIndex(0),
            block_size: BlockSize::B512,
            blocks: BlockCount(BLOCKS),
            sequencer: Arc::new(AtomicU64::new(0)),
            slots,
        });
        Self {
            front,
            pool,
            now: Time(1),
            store: VecDeque::new(),
            done: VecDeque::new(),
            mail: VecDeque::new(),
            aborted: Vec::new(),
            deferred: Vec::new(),
            tickets: 0,
        }
    }

    /// One in that mode, which holds.
    fn with(mode: Mode) -> Self {
        let mut bench = Self::new(64);
        bench.mode(mode);
        assert!(bench.held(), "a front without work holds a mode at once");
        bench
    }

    fn hear(&mut self) {
        while let Some(step) = self.front.next_step() {
            match step {
                Step::Store { tag, op, data } => {
                    assert_eq!(tag >> 48, 0xffff);
                    self.store.push_back((tag, op, data));
                }
                Step::Done { tag, result, data, .. } => self.done.push_back((tag, result, data)),
                Step::Mail(mail) => self.mail.push_back(mail),
                Step::AbortStore(tag) => self.aborted.push(tag),
                Step::Deferred { lba, error } => self.deferred.push((lba.0, error)),
            }
        }
    }

    fn data(&self, bytes: &[u8]) -> Scatter {
        let mut data = ScatterMut::take(&self.pool, Purpose::Host, bytes.len()).unwrap();
        data.copy_from(0, bytes);
        data.freeze()
    }

    fn submit(&mut self, tag: u64, op: BlockOp, bytes: &[u8]) {
        let data = self.data(bytes);
        self.front.submit(self.now, tag, op, data);
        self.hear();
    }

    fn write(&mut self, tag: u64, lba: u64, blocks: u32, fill: u8) {
        self.submit(tag, write(lba, blocks, false), &vec![fill; blocks as usize * BLOCK]);
    }

    fn tell(&mut self, mail: ToFront) {
        self.front.on_mail(self.now, mail);
        self.hear();
    }

    fn mode(&mut self, mode: Mode) -> u64 {
        self.tickets += 1;
        self.tell(ToFront::Mode { ticket: self.tickets, mode });
        self.tickets
    }

    fn stable(&mut self, sequence: u64) {
        self.tell(ToFront::Stable(Sequence(sequence)));
    }

    /// The store answers the operation that it got first.
    fn stored(&mut self, result: Result<(), BlockError>) -> BlockOp {
        let (tag, op, _) = self.store.pop_front().expect("something for the store");
        self.store_says(tag, result, Scatter::new());
        op
    }

    fn store_says(&mut self, tag: u64, result: Result<(), BlockError>, data: Scatter) {
        self.front.on_store(self.now, tag, result, data, Vec::<LbaStatus>::new());
        self.hear();
    }

    fn tick(&mut self, now: u64) {
        self.now = Time(now);
        self.front.on_tick(self.now);
        self.hear();
    }

    /// Whether the last mode holds now; takes the mail.
    fn held(&mut self) -> bool {
        let ticket = self.tickets;
        let before = self.mail.len();
        self.mail.retain(|mail| !matches!(mail, ToGroup::ModeHolds { ticket: other } if *other == ticket));
        self.mail.len() < before
    }

    /// The sequence and change of the next mail.
    fn appended(&mut self) -> (u64, Change, Vec<u8>) {
        match self.mail.pop_front() {
            Some(ToGroup::Append { sequence, change, data, .. }) => (sequence.0, change, data.to_vec()),
            other => panic!("no entry, but {other:?}"),
        }
    }

    fn ended(&mut self) -> (u64, Result<(), BlockError>) {
        let (tag, result, _) = self.done.pop_front().expect("an end");
        (tag, result)
    }

    fn quiet(&self) {
        assert!(self.store.is_empty(), "the store was asked for {:?}", self.store);
        assert!(self.done.is_empty(), "ended: {:?}", self.done);
        assert!(self.mail.is_empty(), "the group heard {:?}", self.mail);
        assert!(self.deferred.is_empty(), "lost: {:?}", self.deferred);
    }
}

fn range(lba: u64, blocks: u32) -> BlockRange {
    BlockRange { lba: Lba(lba), blocks }
}

fn write(lba: u64, blocks: u32, fua: bool) -> BlockOp {
    BlockOp::Write(range(lba, blocks), Access { dpo: false, fua })
}

fn read(lba: u64, blocks: u32, fua: bool) -> BlockOp {
    BlockOp::Read(range(lba, blocks), Access { dpo: false, fua })
}

const FLUSH: BlockOp = BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
