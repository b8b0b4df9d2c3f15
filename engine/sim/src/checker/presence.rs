//! Whether a unit's device is there, as its array has been told: what TEST UNIT READY has to say (SPC-5 6.47).

use std::cell::Cell;
use std::rc::Rc;

/// What the array knows of a unit's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there, and the array goes on with it.
    There,
    /// It was removed, and the array has given it up: the unit is NOT READY.
    Gone,
    /// From one to the other: hosts may be told either.
    Changing,
}

/// A moment in a device's life: who has seen it can ask later what held all the time since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u64);

/// The device of one unit. A shared handle.
#[derive(Clone, Debug)]
pub struct Device(Rc<Cell<(Presence, u64)>>);

impl Device {
    pub(super) fn new() -> Self {
        Self(Rc::new(Cell::new((Presence::There, 0))))
    }

    /// It is so from now on. Whoever plays the daemon says so: [`Presence::Changing`] before the array can know.
    pub fn is_now(&self, presence: Presence) {
        let (before, changes) = self.0.get();
        if before != presence {
            self.0.set((presence, changes + 1));
        }
    }

    /// This moment.
    pub(crate) fn now(&self) -> Seen {
        Seen(self.0.get().1)
    }

    /// What has held since then, if it did not change.
    pub(crate) fn since(&self, seen: Seen) -> Option<Presence> {
        let (presence, changes) = self.0.get();
        (changes == seen.0).then_some(presence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_held_all_the_time_is_known() {
        let device = Device::new();
        let first = device.now();
        device.is_now(Presence::There);
        assert_eq!(device.since(first), Some(Presence::There));
        device.is_now(Presence::Changing);
        assert_eq!(device.since(first), None);
        device.is_now(Presence::There);
        assert_eq!((device.since(first), device.since(device.now())), (None, Some(Presence::There)));
    }
}
