//! A front, a store that answers in any order, and a group that makes things stable when it likes, against what hosts
//! may believe.

use super::*;
use proptest::prelude::*;

/// A step of the world around the front.
#[derive(Clone, Debug)]
enum Move {
    Write { lba: u64, blocks: u32 },
    Swap { lba: u64, right: bool },
    Same { lba: u64, blocks: u64 },
    Unmap { first: u64, second: u64 },
    Flush,
    PeerRead { lba: u64 },
    Stable(u8),
    Store { which: u8, busy: bool },
    Mark(u8),
    Mode(u8),
    Abort(u8),
    Tick,
}

fn moves() -> impl Strategy<Value = Move> {
    let lba = 0_u64..24;
    prop_oneof![
        4 => (lba.clone(), 1_u32..6).prop_map(|(lba, blocks)| Move::Write { lba, blocks }),
        1 => (lba.clone(), any::<bool>()).prop_map(|(lba, right)| Move::Swap { lba, right }),
        1 => (lba.clone(), 1_u64..9).prop_map(|(lba, blocks)| Move::Same { lba, blocks }),
        1 => (lba.clone(), 0_u64..24).prop_map(|(first, second)| Move::Unmap { first, second }),
        1 => Just(Move::Flush),
        1 => lba.prop_map(|lba| Move::PeerRead { lba }),
        4 => any::<u8>().prop_map(Move::Stable),
        8 => (any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(which, busy)| Move::Store { which, busy }),
        2 => any::<u8>().prop_map(Move::Mark),
        1 => (0_u8..4).prop_map(Move::Mode),
        1 => any::<u8>().prop_map(Move::Abort),
        1 => Just(Move::Tick),
    ]
}

/// What became of the journal's entries and of the store.
struct World {
    bench: Bench,
    /// The store's blocks, by one number each.
    store: Vec<u16>,
    /// All entries of the group in order, and the blocks that they leave.
    entries: Vec<(u64, Change, Vec<u8>)>,
    /// Sequences up to here were said to be stable.
    stable: u64,
    /// Tickets of bits that are not durable yet.
    marks: Vec<((u64, u64), u64)>,
    /// Granules whose bits are durable since tracking began.
    durable: Vec<bool>,
    journaling: bool,
    /// The mode holds: what the store does is of this mode.
    holds: bool,
    next: u64,
    under_way: Vec<u64>,
    /// Entries of an era of journaling begin here, on this image.
    base: Vec<u16>,
}

fn value(data: &[u8], block: usize) -> u16 {
    u16::from_le_bytes([data[block * BLOCK], data[block * BLOCK + 1]])
}

fn apply(image: &mut [u16], change: &Change, data: &[u8]) {
    match change {
        Change::Write(range) => {
            for block in 0..range.blocks as usize {
                image[range.lba.0 as usize + block] = value(data, block);
            }
        }
        Change::Same { lba, blocks } => image[lba.0 as usize..][..*blocks as usize].fill(value(data, 0)),
        Change::Zero { lba, blocks, .. } => image[lba.0 as usize..][..*blocks as usize].fill(0),
        Change::Nothing => {}
    }
}

impl World {
    fn new(write_back: bool) -> Self {
        let mut bench = Bench::with(Mode::Journaling);
        bench.front.set_write_back(write_back);
        Self {
            bench,
            store: vec![0; BLOCKS as usize],
            entries: Vec::new(),
            stable: 0,
            marks: Vec::new(),
            durable: vec![false; 8],
            journaling: true,
            holds: true,
            next: 0,
            under_way: Vec::new(),
            base: vec![0; BLOCKS as usize],
        }
    }

    /// Data that nobody else writes.
    fn fresh(&mut self, blocks: usize) -> (u64, Vec<u8>) {
        self.next += 1;
        let mut data = vec![0; blocks * BLOCK];
        for block in 0..blocks {
            data[block * BLOCK..][..2].copy_from_slice(&(self.next as u16).to_le_bytes());
        }
        self.under_way.push(self.next);
        (self.next, data)
    }

    fn settle(&mut self) {
        while let Some(mail) = self.bench.mail.pop_front() {
            match mail {
                ToGroup::Append { sequence, change, data, .. } => {
                    let last = self.entries.last().map_or(0, |entry| entry.0);
                    assert_eq!(sequence.0, last + 1, "every sequence, once, in order");
                    self.entries.push((sequence.0, change, data.to_vec()));
                }
                ToGroup::Mark { granules, ticket } => self.marks.push((granules, ticket)),
                ToGroup::Hurry(_) => {}
                ToGroup::ModeHolds { ticket } => self.holds |= ticket == self.bench.tickets,
                other => panic!("unexpected {other:?}"),
            }
        }
        while let Some((tag, result, _)) = self.bench.done.pop_front() {
            let at = self.under_way.iter().position(|other| *other == tag).expect("ended once");
            self.under_way.swap_remove(at);
            let fine = matches!(
                result,
                Ok(()) | Err(BlockError::Aborted | BlockError::Busy | BlockError::Miscompare(_))
            );
            assert!(fine || result == Err(BlockError::BecomingReady), "{result:?}");
        }
    }

    /// The store does one of those that it has.
    fn do_one(&mut self, which: u8, busy: bool) {
        if self.bench.store.is_empty() {
            return;
        }
        let at = usize::from(which) % self.bench.store.len();
        let (tag, op, data) = self.bench.store.remove(at).unwrap();
        if busy {
            self.bench.store_says(tag, Err(BlockError::Busy), Scatter::new());
            self.bench.tick(self.bench.now.0 + 2_000_000);
            return;
        }
        let bytes = data.to_vec();
        let image = &mut self.store;
        let mut result = Ok(());
        let mut answer = Scatter::new();
        let mut changed = Vec::new();
        match &op {
            BlockOp::Read(range, _) => {
                let blocks = &image[range.lba.0 as usize..][..range.blocks as usize];
                let bytes: Vec<u8> = blocks
                    .iter()
                    .flat_map(|block| block.to_le_bytes().into_iter().chain([0; BLOCK - 2]))
                    .collect();
                answer = self.bench.data(&bytes);
            }
            BlockOp::Write(range, _) => {
                apply(image, &Change::Write(*range), &bytes);
                changed.push((range.lba.0, u64::from(range.blocks)));
            }
            BlockOp::CompareAndWrite(range, _) => {
                if image[range.lba.0 as usize] == value(&bytes, 0) {
                    apply(image, &Change::Write(*range), &bytes[BLOCK..]);
                } else {
                    assert!(!self.journaling || !self.holds, "compared before it was journaled");
                    result = Err(BlockError::Miscompare(0));
                }
                changed.push((range.lba.0, u64::from(range.blocks)));
            }
            BlockOp::WriteSame { lba, blocks, .. } => {
                apply(image, &Change::Same { lba: *lba, blocks: blocks.0 }, &bytes);
                changed.push((lba.0, blocks.0));
            }
            BlockOp::Unmap(ranges) => {
                for range in ranges {
                    let (lba, blocks) = (range.lba, u64::from(range.blocks));
                    apply(image, &Change::Zero { lba, blocks, unmap: true }, &[]);
                    changed.push((lba.0, blocks));
                }
            }
            _ => {}
        }
        if !self.journaling && self.bench.front.mode() == Mode::Tracking && self.holds {
            self.check_bits(&changed);
        }
        self.bench.store_says(tag, result, answer);
    }

    /// What changes while tracking is in the bits, or was in the journal.
    fn check_bits(&self, changed: &[(u64, u64)]) {
        for &(lba, blocks) in changed {
            for block in lba..lba + blocks {
                let journaled = self.entries.iter().any(|(sequence, change, _)| {
                    *sequence <= self.stable
                        && match change {
                            Change::Write(range) => {
                                (range.lba.0..range.lba.0 + u64::from(range.blocks)).contains(&block)
                            }
                            Change::Same { lba, blocks } | Change::Zero { lba, blocks, .. } => {
                                (lba.0..lba.0 + blocks).contains(&block)
                            }
                            Change::Nothing => false,
                        }
                });
                assert!(
                    journaled || self.durable[(block / 128) as usize],
                    "block {block} changed without its bit"
                );
            }
        }
    }

    fn finish(&mut self) {
        for _ in 0..1000 {
            self.settle();
            let last = self.entries.last().map_or(0, |entry| entry.0);
            self.stable = last;
            self.bench.stable(last);
            for ((first, end), ticket) in std::mem::take(&mut self.marks) {
                (first..end).for_each(|granule| self.durable[granule as usize] = true);
                self.bench.tell(ToFront::Marked(ticket));
            }
            while !self.bench.store.is_empty() {
                self.do_one(0, false);
            }
            self.settle();
            self.bench.tick(self.bench.now.0 + 2_000_000);
            if self.bench.front.is_idle() {
                return;
            }
        }
        panic!("never idle: {:?}", self.bench.front);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_stored_is_what_was_journaled_in_that_order(
        all in prop::collection::vec(moves(), 1..120),
        write_back: bool,
    ) {
        let mut w = World::new(write_back);
        for step in all {
            match step {
                Move::Write { lba, blocks } => {
                    let (tag, data) = w.fresh(blocks as usize);
                    w.bench.submit(tag, write(lba, blocks, tag % 2 == 0), &data);
                }
                Move::Swap { lba, right } => {
                    let (tag, mut data) = w.fresh(2);
                    let old = if right { w.store[lba as usize] } else { 0xffff };
                    data[..2].copy_from_slice(&old.to_le_bytes());
                    w.bench.submit(tag, BlockOp::CompareAndWrite(range(lba, 1), Access::default()), &data);
                }
                Move::Same { lba, blocks } => {
                    let (tag, data) = w.fresh(1);
                    let blocks = BlockCount(blocks);
                    w.bench.submit(tag, BlockOp::WriteSame { lba: Lba(lba), blocks, unmap: false, zeroes: false }, &data);
                }
                Move::Unmap { first, second } => {
                    let (tag, _) = w.fresh(0);
                    w.bench.submit(tag, BlockOp::Unmap(vec![range(first, 2), range(second, 3)]), &[]);
                }
                Move::Flush => {
                    let (tag, _) = w.fresh(0);
                    w.bench.submit(tag, FLUSH, &[]);
                }
                Move::PeerRead { lba } => {
                    let (tag, _) = w.fresh(0);
                    w.bench.submit(tag, read(lba, 4, true), &[]);
                }
                Move::Stable(some) => {
                    let last = w.entries.last().map_or(0, |entry| entry.0);
                    if w.journaling && last > w.stable {
                        w.stable += 1 + u64::from(some) % (last - w.stable);
                        let stable = w.stable;
                        w.bench.stable(stable);
                    }
                }
                Move::Store { which, busy } => {
                    let busy = busy && w.journaling;
                    w.do_one(which, busy);
                }
                Move::Mark(which) => {
                    if !w.marks.is_empty() {
                        let ((first, end), ticket) = w.marks.remove(usize::from(which) % w.marks.len());
                        (first..end).for_each(|granule| w.durable[granule as usize] = true);
                        w.bench.tell(ToFront::Marked(ticket));
                    }
                }
                Move::Mode(which) => {
                    let mode = match which {
                        0 => Mode::Tracking,
                        1 => Mode::Held { until: Time(u64::MAX / 2) },
                        _ => Mode::Journaling,
                    };
                    w.durable.fill(false);
                    w.marks.clear();
                    w.journaling = mode == Mode::Journaling;
                    w.holds = false;
                    w.bench.mode(mode);
                }
                Move::Abort(which) => {
                    if !w.under_way.is_empty() {
                        let tag = w.under_way[usize::from(which) % w.under_way.len()];
                        w.bench.front.abort(tag);
                        w.bench.hear();
                    }
                }
                Move::Tick => {
                    let now = w.bench.now.0 + 500_000;
                    w.bench.tick(now);
                }
            }
            w.settle();
        }
        if !matches!(w.bench.front.mode(), Mode::Journaling | Mode::Tracking) {
            w.journaling = true;
            w.bench.mode(Mode::Journaling);
        }
        w.finish();
        prop_assert!(w.under_way.is_empty());
        // From here on only journaled: the store is what the entries make of it, one after the other.
        w.journaling = true;
        w.bench.mode(Mode::Journaling);
        w.settle();
        w.base = w.store.clone();
        let first = w.entries.len();
        for (lba, blocks) in [(0, 5), (3, 5), (1, 2), (4, 1), (0, 9)] {
            let (tag, data) = w.fresh(blocks as usize);
            w.bench.submit(tag, write(lba, blocks, false), &data);
        }
        w.settle();
        w.stable = w.entries.last().map_or(0, |entry| entry.0);
        let stable = w.stable;
        w.bench.stable(stable);
        while !w.bench.store.is_empty() {
            let last = w.bench.store.len() - 1;
            w.do_one(u8::try_from(last).unwrap(), false);
        }
        w.settle();
        let mut image = w.base.clone();
        for (_, change, data) in &w.entries[first..] {
            apply(&mut image, change, data);
        }
        prop_assert_eq!(&image, &w.store);
    }

    #[test]
    fn while_journaling_the_store_is_a_replay_of_the_journal(
        all in prop::collection::vec(moves(), 1..120),
        write_back: bool,
    ) {
        let mut w = World::new(write_back);
        for step in all {
            match step {
                Move::Write { lba, blocks } => {
                    let (tag, data) = w.fresh(blocks as usize);
                    w.bench.submit(tag, write(lba, blocks, false), &data);
                }
                Move::Swap { lba, right } => {
                    let (tag, mut data) = w.fresh(2);
                    let old = if right { w.store[lba as usize] } else { 0xffff };
                    data[..2].copy_from_slice(&old.to_le_bytes());
                    w.bench.submit(tag, BlockOp::CompareAndWrite(range(lba, 1), Access::default()), &data);
                }
                Move::Same { lba, blocks } => {
                    let (tag, data) = w.fresh(1);
                    let blocks = BlockCount(blocks);
                    w.bench.submit(tag, BlockOp::WriteSame { lba: Lba(lba), blocks, unmap: true, zeroes: false }, &data);
                }
                Move::Unmap { first, second } => {
                    let (tag, _) = w.fresh(0);
                    w.bench.submit(tag, BlockOp::Unmap(vec![range(first, 2), range(second, 3)]), &[]);
                }
                Move::Stable(some) => {
                    let last = w.entries.last().map_or(0, |entry| entry.0);
                    if last > w.stable {
                        w.stable += 1 + u64::from(some) % (last - w.stable);
                        let stable = w.stable;
                        w.bench.stable(stable);
                    }
                }
                Move::Store { which, busy } => w.do_one(which, busy),
                Move::Abort(which) if !w.under_way.is_empty() => {
                    let tag = w.under_way[usize::from(which) % w.under_way.len()];
                    w.bench.front.abort(tag);
                    w.bench.hear();
                }
                _ => {}
            }
            w.settle();
            // No value that a host can read is missing from the stable part of the journal.
            let stable: Vec<_> = w.entries.iter().filter(|entry| entry.0 <= w.stable).collect();
            for (block, &found) in w.store.iter().enumerate().filter(|(_, found)| **found != 0) {
                let known = stable.iter().any(|(_, change, data)| {
                    let mut image = vec![0; BLOCKS as usize];
                    apply(&mut image, change, data);
                    image[block] == found
                });
                prop_assert!(known, "block {} holds {} before it is in the journal", block, found);
            }
        }
        w.finish();
        prop_assert!(w.under_way.is_empty());
        let mut image = vec![0; BLOCKS as usize];
        for (_, change, data) in &w.entries {
            apply(&mut image, change, data);
        }
        prop_assert_eq!(&image, &w.store);
    }
}
