//! The operations in flight: each sits in a slot with its memory until it completes or its core
//! is gone.

use crate::disk::Job;
use kagami_reactor::{Op, Token};

/// Names an operation in flight; never the name of a later one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpKey {
    slot: usize,
    serial: u64,
}

/// An operation in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) core: usize,
    pub(crate) token: Token,
    pub(crate) op: Op,
    /// What a disk does about it.
    pub(crate) job: Option<Job>,
}

/// All operations in flight.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    slots: Vec<Option<(u64, InFlight)>>,
    free: Vec<usize>,
    serial: u64,
}

impl Ops {
    pub(crate) fn put(&mut self, op: InFlight) -> OpKey {
        self.serial += 1;
        let entry = Some((self.serial, op));
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = entry;
                }
                slot
            }
            None => {
                self.slots.push(entry);
                self.slots.len() - 1
            }
        };
        OpKey { slot, serial: self.serial }
    }

    pub(crate) fn get(&mut self, key: OpKey) -> Option<&mut InFlight> {
        match self.slots.get_mut(key.slot)? {
            Some((serial, op)) if *serial == key.serial => Some(op),
            _ => None,
        }
    }

    pub(crate) fn take(&mut self, key: OpKey) -> Option<InFlight> {
        self.get(key)?;
        let (_, op) = self.slots.get_mut(key.slot)?.take()?;
        self.free.push(key.slot);
        Some(op)
    }

    /// Takes an operation out for a moment; its key stays good for [`put_back`](Self::put_back).
    pub(crate) fn take_out(&mut self, key: OpKey) -> Option<InFlight> {
        self.get(key)?;
        self.slots.get_mut(key.slot)?.take().map(|(_, op)| op)
    }

    pub(crate) fn put_back(&mut self, key: OpKey, op: InFlight) {
        if let Some(place) = self.slots.get_mut(key.slot) {
            *place = Some((key.serial, op));
        }
    }

    /// Whether there is one like that.
    pub(crate) fn any(&self, which: impl Fn(&InFlight) -> bool) -> bool {
        self.slots.iter().flatten().any(|(_, op)| which(op))
    }

    /// The keys of all, in the order of their slots.
    pub(crate) fn keys(&self) -> Vec<OpKey> {
        let used = self.slots.iter().enumerate();
        used.filter_map(|(slot, entry)| entry.as_ref().map(|(serial, _)| OpKey { slot, serial: *serial }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_reactor::FileId;

    #[test]
    fn a_key_dies_with_its_operation() {
        let mut ops = Ops::default();
        let op = || InFlight { core: 0, token: Token(1), op: Op::Flush(FileId(0)), job: None };
        let first = ops.put(op());
        assert!(ops.get(first).is_some());
        assert!(ops.take(first).is_some());
        let second = ops.put(op());
        assert_eq!(first.slot, second.slot);
        assert!(ops.get(first).is_none() && ops.take(first).is_none());
        assert_eq!(ops.keys(), [second]);
    }
}
