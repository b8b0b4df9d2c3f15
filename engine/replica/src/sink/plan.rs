//! What a sink begins with, and the places that must be durable.

use crate::mail::VolumeIndex;
use kagami_journal::{Bits, Layout};
use kagami_types::{BlockSize, Epoch, JournalPos, Sequence, Uuid};
use std::num::NonZeroU64;
use std::time::Duration;

/// So long may the far array refuse reads before the group hears of it: it may be starting.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What a sink begins with.
#[derive(Debug)]
pub struct SinkPlan {
    /// The group, as its frames name it.
    pub group: Uuid,
    /// Of both journals: the same place means the same offset in both data areas.
    pub layout: Layout,
    /// The volumes of the group.
    pub volumes: Vec<SinkVolume>,
    /// What is durable in the superblock. At creation, [`Places::starting`].
    pub places: Places,
    /// Granules still to be copied; none while in PAIR.
    pub to_copy: Vec<(VolumeIndex, Bits)>,
    /// The formation copy is not finished: [`SinkEvent::FormationDone`](super::SinkEvent) will come, also where no granule is
    /// left to copy.
    pub forming: bool,
    /// Who drives.
    pub drive: Drive,
    /// How.
    pub options: SinkOptions,
}

/// A volume of the group, as the sink needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkVolume {
    /// Its number in the group.
    pub index: VolumeIndex,
    /// Its length in blocks.
    pub blocks: u64,
    /// The size of a block.
    pub block_size: BlockSize,
}

impl SinkVolume {
    /// Its length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.block_size.bytes()))
    }
}

/// Who drives acquire and restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// The remote-copy poller: as much as there is.
    Poller,
    /// A host's orders: [`Sink::acquire`](super::Sink::acquire) and [`Sink::restore_up_to`](super::Sink::restore_up_to).
    Host,
}

/// How hard the formation copy works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pace {
    /// One read in flight, with a pause after each that is twenty times as long as the far array worked for it.
    Gentle,
    /// As fast as devices and link can.
    #[default]
    Full,
    /// So many bytes a second, as far as devices and link can; not zero.
    Rate(NonZeroU64),
}

impl Pace {
    /// Bytes a second; zero: no limit of its own.
    pub(super) fn rate(self) -> u64 {
        match self {
            Self::Rate(rate) => rate.get(),
            Self::Full | Self::Gentle => 0,
        }
    }
}

/// Options of a group that concern its secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkOptions {
    /// Entries younger than this wait in the journal.
    pub hold: Duration,
    /// Bytes a second that may be read from the far array, 0 for no limit.
    pub bandwidth: u64,
    /// Bytes of pages that this group may use for what it reads ahead, though never more than an eighth of the arena; at
    /// least 256 KiB are used.
    pub memory: u64,
    /// Of the formation copy.
    pub pace: Pace,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self { hold: Duration::ZERO, bandwidth: 0, memory: 64 << 20, pace: Pace::Full }
    }
}

/// The places of a secondary that its superblock keeps. All are about frames as the primary wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Before it, everything was checked and is stable in the own journal. Between two frames.
    pub read: JournalPos,
    /// The last sequence before `read`.
    pub read_sequence: Sequence,
    /// Before it, everything is applied and flushed. Between two frames.
    pub restored: JournalPos,
    /// The last sequence that is applied and flushed: it may lie within the frame that begins at `restored`.
    pub restored_sequence: Sequence,
    /// When that entry was made, by the primary's clock.
    pub restored_time: u64,
    /// The end of the last frame of which entries may have been applied.
    pub target: u64,
    /// The last sequence that may have been applied. After a crash, all up to here is applied again before anybody reads.
    pub target_sequence: Sequence,
}

impl Places {
    /// Those of a secondary that begins there: nothing read yet, `sequence` is the last one that it does not need.
    #[must_use]
    pub fn starting(epoch: Epoch, offset: u64, sequence: Sequence) -> Self {
        let place = JournalPos { epoch, offset };
        Self {
            read: place,
            read_sequence: sequence,
            restored: place,
            restored_sequence: sequence,
            restored_time: 0,
            target: offset,
            target_sequence: sequence,
        }
    }
}

/// What the far status page says of the journal that is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FarView {
    /// The newest epoch.
    pub epoch: Epoch,
    /// The end of what is stable there.
    pub stable: u64,
    /// The last sequence that is stable there.
    pub stable_sequence: Sequence,
    /// The first place that is not freed.
    pub out: u64,
    /// Its clock when the page was made, nanoseconds since 1970.
    pub clock: u64,
    /// When its newest entry was made, by that clock.
    pub newest: u64,
    /// When the page was made, hosts' writes were still journaled there: what a volume holds is in the journal too.
    pub journals: bool,
}

/// Up to where entries may be applied.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Limit {
    /// All.
    #[default]
    None,
    /// Up to that sequence, which is applied.
    Sequence(Sequence),
    /// Frames that end at that place or before.
    Offset(u64),
    /// Entries made at that time or before, by the primary's clock, nanoseconds since 1970.
    Time(u64),
    /// Up to the next marker of that name.
    Marker(Vec<u8>),
}
