//! The link between the arrays: delay, loss, cuts, and commands that are done when nobody waits for them any more.

use super::plan::Sabotage;
use super::{Event, World};
use kagami_memory::Scatter;
use kagami_replica::action::{FarEnd, FarOp, FarUnit};
use kagami_replica::{PeerRead, Side, State, StatusPage};
use kagami_types::{Access, BlockError, BlockOp, BlockRange, Lba, LbaStatus, Time};
use std::time::Duration;

/// Host tags with this bit are the other array's.
pub const PEER: u64 = 1 << 40;

/// A read of a volume by the other array.
#[derive(Clone, Copy, Debug)]
pub struct PeerOp {
    pub array: usize,
    pub tag: u64,
    pub boot: u32,
}

fn copy(op: &FarOp) -> FarOp {
    match op {
        FarOp::Read { at, len } => FarOp::Read { at: *at, len: *len },
        FarOp::Write { at, data } => {
            let mut same = Scatter::new();
            same.push_range(data, 0, data.len_bytes());
            FarOp::Write { at: *at, data: same }
        }
        FarOp::Status { at } => FarOp::Status { at: *at },
    }
}

impl World {
    fn one_way(&mut self) -> Duration {
        let delay = self.plan.delay;
        Duration::from_micros(delay + self.rng.skewed(0, delay * 2))
    }

    /// A page, as a broken array would say it.
    fn bent(&self, bytes: Vec<u8>) -> Vec<u8> {
        let bends = matches!(
            self.plan.sabotage,
            Sabotage::EarlyPurge | Sabotage::EarlyMarker | Sabotage::TwoPrimaries
        );
        let Some(mut page) = bends.then(|| StatusPage::decode(&bytes).ok()).flatten() else { return bytes };
        let reads = page.record.side == Side::Secondary && page.record.state == State::Pair;
        if !reads {
            return bytes;
        }
        let other = self.arrays.iter().filter_map(|array| array.group.as_ref()?.source());
        let end = other.map(kagami_replica::Source::stable).max_by_key(|(at, _)| at.offset);
        let mut fences = self.arrays.iter().filter_map(|array| array.group.as_ref()?.record()?.fence);
        match (self.plan.sabotage, end) {
            (Sabotage::EarlyPurge, Some((at, sequence))) => {
                (page.reading.read, page.reading.read_sequence) = (at, sequence);
            }
            (Sabotage::EarlyMarker, Some((_, sequence))) => page.reading.restored_sequence = sequence,
            (Sabotage::TwoPrimaries, _) => {
                page.record.refused = fences.next_back().map(|fence| fence.request)
            }
            _ => {}
        }
        page.encode().to_vec()
    }

    fn is_cut(&self) -> bool {
        self.now < self.cut_until
    }

    /// An array sends a command.
    pub fn far(&mut self, array: usize, tag: u64, unit: FarUnit, op: FarOp) {
        let boot = self.arrays[array].boot;
        let lost = self.is_cut() || self.script.may_break(self.now) && self.rng.one_in(self.plan.loss);
        let wait = self.one_way();
        if lost {
            self.unreachable(array, tag);
            if self.rng.percent(25) {
                // It was under way all the while.
                let late = Duration::from_millis(self.rng.between(1, 700));
                self.later(late, 1 - array, Event::FarIn { tag: 0, boot, unit, op });
            }
            return;
        }
        if self.rng.one_in(400) {
            let late = wait + Duration::from_millis(self.rng.between(1, 300));
            let again = copy(&op);
            self.later(late, 1 - array, Event::FarIn { tag: 0, boot, unit, op: again });
        }
        self.later(wait, 1 - array, Event::FarIn { tag, boot, unit, op });
    }

    fn unreachable(&mut self, array: usize, tag: u64) {
        self.seen.note("far command lost");
        let wait = Duration::from_millis(self.rng.between(5, 250));
        self.later(wait, array, Event::FarOut { tag, end: FarEnd::Unreachable });
    }

    /// A command arrives at the array that it is for.
    pub fn far_in(&mut self, array: usize, tag: u64, boot: u32, unit: FarUnit, op: FarOp) {
        if !self.arrays[array].up {
            return self.lost(array, tag, boot);
        }
        match (unit, op) {
            (FarUnit::Journal, FarOp::Read { at, len }) => {
                match self.group(array, |group, cx| group.on_peer_read(cx, at, len)) {
                    Some(PeerRead::Bytes(data)) => {
                        let bytes = self.bent(super::store::bytes(&data));
                        let data = self.data(&bytes);
                        self.far_back(array, tag, boot, FarEnd::Good(data));
                    }
                    Some(PeerRead::Device { at, len }) => {
                        let wait = Duration::from_nanos(self.rng.skewed(10_000, 200_000));
                        self.later(wait, array, Event::PeerDevice { tag, boot, at, len });
                    }
                    Some(PeerRead::Refused) => {
                        self.far_back(array, tag, boot, FarEnd::Refused("not now".to_owned()))
                    }
                    None => self.lost(array, tag, boot),
                }
            }
            (FarUnit::Journal, FarOp::Write { at, data }) => {
                let bytes = self.bent(super::store::bytes(&data));
                if let Ok(page) = StatusPage::decode(&bytes) {
                    self.see_page(array, &page);
                }
                match self.group(array, |group, cx| group.on_peer_write(cx, at, &bytes)) {
                    Some(true) => self.far_back(array, tag, boot, FarEnd::Good(Scatter::new())),
                    Some(false) => self.far_back(array, tag, boot, FarEnd::Refused("not so".to_owned())),
                    None => self.lost(array, tag, boot),
                }
            }
            (FarUnit::Volume(volume), op) => {
                let block = u64::from(self.plan.block_bytes);
                let (op, bytes) = match op {
                    FarOp::Read { at, len } => {
                        let range = BlockRange { lba: Lba(at / block), blocks: len / self.plan.block_bytes };
                        (BlockOp::Read(range, Access { dpo: false, fua: true }), Vec::new())
                    }
                    FarOp::Status { at } => {
                        (BlockOp::LbaStatus { lba: Lba(at / block), descriptors: 8 }, Vec::new())
                    }
                    FarOp::Write { .. } => return self.fail("an array writes a volume of the other"),
                };
                let mine = self.hosts.next_tag() | PEER;
                self.hosts.peers.insert(mine, PeerOp { array, tag, boot });
                self.submit(array, usize::from(volume.0), mine, op, &bytes);
            }
            (FarUnit::Journal, FarOp::Status { .. }) => {
                self.far_back(array, tag, boot, FarEnd::Refused("no such command".to_owned()));
            }
        }
    }

    /// A read for the other array has ended.
    pub fn peer_done(
        &mut self,
        op: PeerOp,
        result: Result<(), BlockError>,
        data: &Scatter,
        status: &[LbaStatus],
    ) {
        let block = u64::from(self.plan.block_bytes);
        let end = match result {
            Ok(()) if status.is_empty() => {
                let bytes = super::store::bytes(data);
                FarEnd::Good(self.data(&bytes))
            }
            Ok(()) => {
                let runs = status.iter();
                let runs =
                    runs.map(|run| (run.lba.0 * block, u64::from(run.blocks) * block, run.deallocated));
                FarEnd::Status(runs.collect())
            }
            Err(error) => FarEnd::Refused(error.to_string()),
        };
        self.far_back(op.array, op.tag, op.boot, end);
    }

    /// The answer goes back from that array.
    pub fn far_back(&mut self, array: usize, tag: u64, boot: u32, end: FarEnd) {
        if tag == 0 {
            return;
        }
        if self.is_cut() || self.script.may_break(self.now) && self.rng.one_in(self.plan.loss) {
            return self.lost(array, tag, boot);
        }
        let wait = self.one_way();
        self.answer_asker(array, boot, self.now + wait, tag, end);
    }

    pub fn lost(&mut self, array: usize, tag: u64, boot: u32) {
        if tag != 0 {
            self.seen.note("far answer lost");
            let wait = Duration::from_millis(self.rng.between(5, 250));
            self.answer_asker(array, boot, self.now + wait, tag, FarEnd::Unreachable);
        }
    }

    fn answer_asker(&mut self, array: usize, boot: u32, at: Time, tag: u64, end: FarEnd) {
        self.at(at, 1 - array, Some(boot), Event::FarOut { tag, end });
    }
}
