//! Commands that change the logical unit rather than its blocks: MODE SELECT and persistent
//! reservations.

use super::plan::LunPlan;
use super::task::Work;
use super::workload::Order;
use crate::checker::{self, HostNumber};
use crate::rng::Rng;

impl LunPlan {
    /// MODE SELECT (6) of the caching page, now and then of the control page.
    pub(super) fn select_modes(&self, rng: &mut Rng) -> Order {
        let save = rng.one_in(2);
        let mut cdb = [0; 16];
        (cdb[0], cdb[1]) = (0x15, 0x10 | u8::from(save));
        let mut out = vec![0; 4];
        let work = if rng.one_in(if self.ends_tasks { 2 } else { 6 }) {
            // GLTSD, unrestricted reordering and an unlimited busy timeout are fixed.
            let (descriptor_sense, status_of_aborted) = (rng.one_in(2), !rng.one_in(4));
            let mut page = [0x0a, 10, 0x02, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
            page[2] |= u8::from(descriptor_sense) << 2;
            page[5] |= u8::from(status_of_aborted) << 6;
            out.extend_from_slice(&page);
            Work::Control
        } else {
            let write_back = rng.one_in(2);
            let mut page = [0; 20];
            (page[0], page[1], page[2]) = (0x08, 18, u8::from(write_back) << 2);
            out.extend_from_slice(&page);
            Work::Mode(self.checker.begin_mode(Some(write_back), save), write_back)
        };
        cdb[4] = u8::try_from(out.len()).unwrap_or(0);
        Order::new(cdb, work).sending(out)
    }

    /// PERSISTENT RESERVE OUT; `own`: the key that the host believes to have registered, or 0.
    pub(super) fn reserve(&self, rng: &mut Rng, host: HostNumber, own: u64) -> Order {
        let model = self.checker.reservations();
        if rng.one_in(5) {
            return self.read_keys();
        }
        let fresh = u64::from(host + 1) << 32 | rng.between(1, u64::from(u32::MAX));
        let register = |rng: &mut Rng, key| checker::Order::Register {
            old: own,
            key,
            ignore: own == 0 || rng.one_in(2),
            aptpl: rng.one_in(2),
        };
        let kind = rng.choose([1, 3, 5, 6, 7, 8]);
        let order = match rng.below(20) {
            _ if own == 0 => register(rng, fresh),
            _ if model.is_in_doubt() => checker::Order::Clear { key: own },
            0..8 => checker::Order::Reserve { key: own, kind },
            8..12 => checker::Order::Release { key: own, kind },
            12..16 => match model.another_key(host) {
                Some(victim) => checker::Order::Preempt { key: own, victim, kind },
                None => checker::Order::Clear { key: own },
            },
            16 => checker::Order::Clear { key: own },
            17 => register(rng, fresh),
            _ => register(rng, 0),
        };
        self.persistent_reserve(rng, host, order)
    }

    /// The command for that change.
    pub(super) fn persistent_reserve(&self, rng: &mut Rng, host: HostNumber, order: checker::Order) -> Order {
        // PREEMPT AND ABORT ends the other's commands: only where hosts put up with that.
        let abort = self.ends_tasks && rng.one_in(2);
        let (action, kind, key, new_key, aptpl) = match order {
            checker::Order::Register { old, key, ignore, aptpl } => {
                (if ignore { 6 } else { 0 }, 0, old, key, aptpl)
            }
            checker::Order::Reserve { key, kind } => (1, kind, key, 0, false),
            checker::Order::Release { key, kind } => (2, kind, key, 0, false),
            checker::Order::Clear { key } => (3, 0, key, 0, false),
            checker::Order::Preempt { key, victim, kind } => {
                (if abort { 5 } else { 4 }, kind, key, victim, false)
            }
        };
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[2], cdb[8]) = (0x5f, action, kind, 24);
        let mut out = Vec::new();
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&new_key.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 0, u8::from(aptpl), 0, 0, 0]);
        let change = self.checker.reservations().begin(host, order);
        Order::new(cdb, Work::Reserve(change, order)).sending(out)
    }

    /// PERSISTENT RESERVE IN, READ KEYS.
    fn read_keys(&self) -> Order {
        let mut cdb = [0; 16];
        (cdb[0], cdb[8]) = (0x5e, 128);
        Order::new(cdb, Work::Keys(self.checker.reservations().now())).asking(128)
    }
}
