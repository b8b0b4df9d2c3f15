//! A device in memory that fails, hangs and dawdles as a script says: a back end from outside the
//! engine, to test what is in front of it, and to be read by whoever writes another.
//!
//! Nothing is random: the same operations in the same order at the same times give the same results. It
//! is for tests and demonstrations; what it holds is gone when it is dropped.
//!
//! # The script
//! From Rust a [`Script`], in a configuration a string, `faulty:` and these words between commas:
//!
//! | word | meaning |
//! | --- | --- |
//! | `size=64MiB` | the device's size; needed |
//! | `block=4096` | what the ranges below are counted in; 512 by default |
//! | `align=4096`, `memory_align=512`, `max_transfer=1MiB`, `depth=64` | what the device takes ([`DeviceLimits`]) |
//! | `read_error=100-200`, `write_error=7` | these blocks cannot be read, or written |
//! | `hang_read=5-6`, `hang_write=5000-5010`, `hang_flush` | operations that touch them are not done for `hang_for`, or for ever |
//! | `hang_for=30s` | how long a hang lasts; what hung then happens after all |
//! | `flush_error` | flushes fail |
//! | `nospace_above=1000` | blocks from there on cannot be allocated |
//! | `gone_after=500` | after so many operations, the device is gone |
//! | `delay=5ms` | how long every operation takes |
//! | `short_every=3` | every third read or write moves only its first half |
//! | `no_discard`, `no_zero` | these are not supported |
//!
//! A range may be given several times. [`Control`] changes the script while the device runs.
#![forbid(unsafe_code)]

mod script;
mod spec;

pub use script::{Action, Fault, Script, Target};
pub use spec::SpecError;

use kagami_reactor::{Completion, Errno, Op, Submit, Token};
use kagami_types::Time;
use kagami_volume::{Backend, DeviceLimits};
use std::sync::{Arc, Mutex, PoisonError};

/// What has been given to the device, in the order in which it will be done.
#[derive(Debug)]
struct Pending {
    due: Time,
    token: Token,
    op: Op,
    /// How it ends, where that is not by happening.
    error: Option<Errno>,
    /// Moves only its first half.
    short: bool,
}

/// The device.
#[derive(Debug)]
pub struct Faulty {
    script: Arc<Mutex<Script>>,
    limits: DeviceLimits,
    medium: Vec<u8>,
    pending: Vec<Pending>,
    taken: u64,
    transfers: u64,
}

/// Changes a device's script while a volume owns the device.
#[derive(Clone, Debug)]
pub struct Control(Arc<Mutex<Script>>);

impl Control {
    /// Changes the script for operations from now on. Size and limits stay what they were.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Faulty {
    /// A device of zeroes with that script.
    ///
    /// # Panics
    /// Where the process cannot have that much memory, as every allocation would.
    #[must_use]
    pub fn new(script: Script) -> Self {
        let bytes = usize::try_from(script.size).unwrap_or(usize::MAX);
        Self {
            limits: script.limits,
            medium: vec![0; bytes],
            pending: Vec::with_capacity(usize::from(script.limits.depth)),
            script: Arc::new(Mutex::new(script)),
            taken: 0,
            transfers: 0,
        }
    }

    /// A device with the script in that string, which begins with `faulty:`.
    ///
    /// # Errors
    /// The first word that cannot be understood.
    pub fn from_spec(spec: &str) -> Result<Self, SpecError> {
        spec::parse(spec).map(Self::new)
    }

    /// The size in bytes, for the volume's geometry.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.medium.len() as u64
    }

    /// What changes the script later.
    #[must_use]
    pub fn control(&self) -> Control {
        Control(Arc::clone(&self.script))
    }

    /// The bytes of the medium at that place, where they are all on it.
    fn place(&mut self, offset: u64, len: u64) -> Result<&mut [u8], Errno> {
        let start = usize::try_from(offset).map_err(|_| Errno::INVALID)?;
        let len = usize::try_from(len).map_err(|_| Errno::INVALID)?;
        let end = start.checked_add(len).ok_or(Errno::INVALID)?;
        self.medium.get_mut(start..end).ok_or(Errno::INVALID)
    }

    /// Does an operation, or half of it, and says how many bytes were moved.
    fn execute(&mut self, op: &mut Op, short: bool) -> Result<u32, Errno> {
        let align = u64::from(self.limits.align);
        let part = |len: usize| {
            let len = len as u64;
            let half = len / 2 / align * align;
            if short && half > 0 { half } else { len }
        };
        let moved = match op {
            Op::Read(_, offset, list) => {
                let len = part(list.len_bytes());
                list.copy_from(0, self.place(*offset, len)?);
                len
            }
            Op::Write { offset, data, .. } => {
                let len = part(data.len_bytes());
                data.copy_into(self.place(*offset, len)?, 0);
                len
            }
            Op::Discard(_, offset, len) | Op::Zero(_, offset, len) => {
                self.place(*offset, *len)?.fill(0);
                0
            }
            Op::Flush(_) => 0,
            _ => return Err(Errno::NOT_SUPPORTED),
        };
        u32::try_from(moved).map_err(|_| Errno::INVALID)
    }
}

impl Backend for Faulty {
    fn limits(&self) -> DeviceLimits {
        self.limits
    }

    fn submit(&mut self, io: &mut dyn Submit, token: Token, op: Op) -> Result<(), Op> {
        if self.pending.len() >= usize::from(self.limits.depth) {
            return Err(op);
        }
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        self.taken += 1;
        let transfer = matches!(op, Op::Read(..) | Op::Write { .. });
        self.transfers += u64::from(transfer);
        let short = transfer && script.short_every > 0 && self.transfers.is_multiple_of(script.short_every);
        let mut due = io.now() + script.delay;
        let gone = script.gone_after.is_some_and(|after| self.taken > after);
        let unsupported = match op {
            Op::Discard(..) => script.no_discard,
            Op::Zero(..) => script.no_zero,
            _ => false,
        };
        let error = match script.action(&op) {
            _ if gone => Some(Errno::NO_DEVICE),
            _ if unsupported => Some(Errno::NOT_SUPPORTED),
            Some(Action::Fail(errno)) => Some(errno),
            Some(Action::Hang) => {
                due = script.hang_for.map_or(Time::NEVER, |time| io.now() + time);
                None
            }
            None => None,
        };
        drop(script);
        let at = self.pending.partition_point(|other| other.due <= due);
        self.pending.insert(at, Pending { due, token, op, error, short });
        Ok(())
    }

    fn poll(&mut self, io: &mut dyn Submit, done: &mut Vec<Completion>) {
        let now = io.now();
        let due = self.pending.partition_point(|pending| pending.due <= now && pending.due < Time::NEVER);
        let mut rest = self.pending.split_off(due);
        std::mem::swap(&mut rest, &mut self.pending);
        for Pending { token, mut op, error, short, .. } in rest {
            let result = match error {
                Some(errno) => Err(errno),
                None => self.execute(&mut op, short),
            };
            done.push(Completion { token, result, op });
        }
    }

    fn next_poll(&self) -> Time {
        self.pending.first().map_or(Time::NEVER, |pending| pending.due)
    }
}
