//! What is to go wrong, and where.

use kagami_reactor::{Errno, Op};
use kagami_volume::DeviceLimits;
use std::time::Duration;

/// Which operations a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Reads.
    Read,
    /// Whatever changes blocks.
    Write,
    /// Flushes; they touch every block.
    Flush,
}

/// What happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They fail and change nothing.
    Fail(Errno),
    /// They are not done for [`Script::hang_for`], or for ever, and then happen.
    Hang,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For which operations.
    pub target: Target,
    /// The first block that must be touched.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What happens.
    pub action: Action,
}

impl Fault {
    /// A fault of every operation of that kind.
    #[must_use]
    pub const fn everywhere(target: Target, action: Action) -> Self {
        Self { target, first: 0, last: u64::MAX, action }
    }
}

/// A device and its faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The device's size in bytes.
    pub size: u64,
    /// What the faults' blocks are counted in: 512 bytes, unless said otherwise.
    pub block: u32,
    /// What the device takes.
    pub limits: DeviceLimits,
    /// The first that fits an operation applies.
    pub faults: Vec<Fault>,
    /// How long every operation takes.
    pub delay: Duration,
    /// How long a hang lasts; `None`: for ever.
    pub hang_for: Option<Duration>,
    /// After so many operations, the device is gone.
    pub gone_after: Option<u64>,
    /// Each so manieth read or write moves only its first half; 0 for none.
    pub short_every: u64,
    /// Discards are not supported.
    pub no_discard: bool,
    /// Zeroing is not supported.
    pub no_zero: bool,
}

impl Default for Script {
    /// No size, and nothing goes wrong.
    fn default() -> Self {
        Self {
            size: 0,
            block: 512,
            limits: DeviceLimits { align: 512, memory_align: 512, ..DeviceLimits::default() },
            faults: Vec::new(),
            delay: Duration::ZERO,
            hang_for: None,
            gone_after: None,
            short_every: 0,
            no_discard: false,
            no_zero: false,
        }
    }
}

impl Script {
    /// What happens to that operation, if anything.
    pub(crate) fn action(&self, op: &Op) -> Option<Action> {
        let (target, start, len) = match op {
            Op::Read(_, offset, list) => (Target::Read, *offset, list.len_bytes() as u64),
            Op::Write { offset, data, .. } => (Target::Write, *offset, data.len_bytes() as u64),
            Op::Discard(_, offset, len) | Op::Zero(_, offset, len) => (Target::Write, *offset, *len),
            _ => (Target::Flush, 0, u64::MAX),
        };
        let block = u64::from(self.block.max(1));
        let (first, last) = (start / block, start.saturating_add(len.max(1) - 1) / block);
        let hit = |fault: &&Fault| fault.target == target && fault.first <= last && first <= fault.last;
        self.faults.iter().find(hit).map(|fault| fault.action)
    }
}
