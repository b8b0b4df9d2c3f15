//! What a group is made of, and its options.

use crate::level::Thresholds;
use crate::mail::VolumeIndex;
use crate::record::Side;
use crate::sink::Pace;
use kagami_types::{Lun, Uuid};
use std::time::Duration;

/// A volume of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedVolume {
    /// Its number in the group.
    pub index: VolumeIndex,
    /// Its UUID.
    pub uuid: Uuid,
    /// Where this array serves it.
    pub lun: Lun,
    /// Where the other array serves its other half.
    pub far_lun: Lun,
    /// Its blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
}

/// What a group does as its journal fills (array.md 8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Suspend when it is full.
    #[default]
    Suspend,
    /// Before that, hold each new write for at most this long.
    Slow(Duration),
}

/// A group's options (contract.md, `[[group]]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The poller drives the secondary; else a host does by orders.
    pub poller: bool,
    /// What happens as the journal fills.
    pub overflow: Overflow,
    /// Entries younger than this are not restored.
    pub hold: Duration,
    /// Bytes a second over the link; zero: no limit.
    pub bandwidth: u64,
    /// Hosts may read a secondary.
    pub secondary_reads: bool,
    /// A primary that restarts asks its peer for so long before it serves.
    pub restart_wait: Duration,
    /// Then it serves alone; else it waits on.
    pub alone_serves: bool,
    /// In a swap, host writes are held so long before they hear NOT READY.
    pub swap_hold: Duration,
    /// An order waits so long for the other array before it says that it goes on without waiting.
    pub order_wait: Duration,
    /// A reader that does not ask for so long has its group suspended; zero: never.
    pub reader_limit: Duration,
    /// Bytes of pages that a secondary may use for what it reads ahead, though never more than an eighth of all.
    pub memory: u64,
    /// How hard the formation copy works.
    pub pace: Pace,
    /// A swap is refused while the secondary is further behind than this.
    pub swap_lag: Duration,
    /// Shares of the journal in use that are said when they are passed, and when they are left.
    pub thresholds: Thresholds,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            poller: true,
            overflow: Overflow::Suspend,
            hold: Duration::ZERO,
            bandwidth: 0,
            secondary_reads: false,
            restart_wait: Duration::from_secs(60),
            alone_serves: true,
            swap_hold: Duration::from_secs(10),
            order_wait: Duration::from_secs(60),
            reader_limit: Duration::from_secs(600),
            memory: 64 << 20,
            pace: Pace::Full,
            swap_lag: Duration::from_secs(10),
            thresholds: Thresholds::default(),
        }
    }
}

/// What a group is made of.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// Its UUID, the same at both sides.
    pub group: Uuid,
    /// Its name.
    pub name: String,
    /// This array.
    pub own_array: Uuid,
    /// The other.
    pub peer_array: Uuid,
    /// The journal volume's UUID.
    pub journal: Uuid,
    /// Its bytes.
    pub journal_bytes: u64,
    /// Its volumes, at most [`VOLUMES`].
    pub volumes: Vec<PlannedVolume>,
    /// Its options.
    pub options: Options,
    /// At creation: as which side. `None` at a start: the journal says what it is.
    pub create: Option<Side>,
}

/// The least bytes, whole MiB, of a journal for volumes of together `covered` bytes whose hosts may send writes of `longest`:
/// with less, such a write would have no room even in an empty journal, and suspend the group each time.
#[must_use]
pub fn least_journal(covered: u64, longest: u64) -> u64 {
    // Its frame's header, and what the writer keeps free for a swap.
    let data = longest.saturating_add(u64::from(kagami_journal::MAX_HEADER)).saturating_add(RESERVE);
    kagami_journal::Layout::least(covered, data)
}

/// The most that a journal's writer keeps free.
const RESERVE: u64 = 64 << 10;
/// Volumes of a group at most.
pub const VOLUMES: usize = 64;
