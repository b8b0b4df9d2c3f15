//! What a sink tells its group.

use super::plan::Places;
use crate::mail::VolumeIndex;
use kagami_types::{BlockError, Sequence};

/// What a sink tells its group. The group takes all events after each call, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkEvent {
    /// Read the far status page; then [`Sink::on_page`](super::Sink::on_page) or
    /// [`Sink::on_page_failed`](super::Sink::on_page_failed). Only one is asked for at a time.
    Poll,
    /// Write the reader's page, with [`Sink::durable`](super::Sink::durable); then
    /// [`Sink::on_confirmed`](super::Sink::on_confirmed). Only one is asked for at a time. It comes in the same call as the
    /// next reads, so it costs no round trip.
    Confirm,
    /// Make these places durable in the superblock; then [`Sink::on_saved`](super::Sink::on_saved). Only one is asked for
    /// at a time. Nothing beyond their target is applied, and nothing beyond their `read` is confirmed, before that.
    Save(Places),
    /// These granules (first, behind the last) of a volume are copied and flushed: their bits may be cleared on the device.
    RegionsDone(VolumeIndex, Vec<(u64, u64)>),
    /// All is copied, and everything up to that sequence, the primary's newest after the last region was read, is restored,
    /// flushed and durable in the places: the secondary is a moment of the primary.
    FormationDone(Sequence),
    /// A marker is restored.
    Marker {
        /// Where.
        sequence: Sequence,
        /// Its name.
        name: Vec<u8>,
    },
    /// The primary's last entry before a swap is restored; the name is the request. (Flushed and durable only after
    /// [`Drained`](Self::Drained).)
    Swap {
        /// Where.
        sequence: Sequence,
        /// Of the swap, as the primary wrote it.
        request: Vec<u8>,
    },
    /// The primary's volume has another size. Entries behind it go on after
    /// [`Sink::volume_resized`](super::Sink::volume_resized).
    Resize {
        /// Which.
        volume: VolumeIndex,
        /// How many blocks it is to have.
        blocks: u64,
    },
    /// What [`Sink::drain_to`](super::Sink::drain_to) or [`Sink::finish`](super::Sink::finish) asked for is restored, flushed and durable in the places, and
    /// nothing is being applied: the volumes are the primary at that sequence.
    Drained(Sequence),
    /// The same of what an order asked for: [`Sink::restore_up_to`](super::Sink::restore_up_to), or a marker, host-driven.
    Restored(Sequence),
    /// Host-driven: everything up to there is read, checked and durable ([`Sink::acquire`](super::Sink::acquire)).
    Acquired(u64),
    /// The limit of [`Sink::set_limit`](super::Sink::set_limit) is reached: restored up to there, and not further.
    LimitReached(Sequence),
    /// Host-driven: the marker of [`Sink::set_limit`](super::Sink::set_limit) is not among what was read; nothing was restored.
    NoMarker,
    /// The limit lies before what is restored already: nothing is applied until there is another.
    LimitPassed(Sequence),
    /// Restore pauses: nothing is being applied, the volumes are the primary at that sequence.
    Paused(Sequence),
    /// [`Sink::stop`](super::Sink::stop): nothing is under way to volumes and own journal any more.
    Stopped,
    /// It cannot go on: the group suspends. What is under way ends; nothing new begins, but for
    /// [`Sink::finish`](super::Sink::finish), where the trouble is with the far side.
    Trouble(Trouble),
}

/// Why a sink cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The far journal reads with wrong checksums or as no frames at all, again and again.
    FarCorrupt {
        /// From that place on.
        at: u64,
        /// In words.
        what: String,
    },
    /// The far array refuses reads of its journal.
    FarRefused(String),
    /// The primary has recovered to a place before what was read here: it has lost what it had confirmed as stable.
    Beyond {
        /// What was read here.
        read: u64,
        /// Where the primary ends.
        end: u64,
    },
    /// The primary has freed what was not read yet.
    Swept {
        /// What was read here.
        read: u64,
        /// Where the primary's journal now begins.
        out: u64,
    },
    /// The own journal fails.
    Journal(BlockError),
    /// The own journal has rotted between the time when it was read and confirmed and now. The volumes are the primary
    /// before that; what follows was given up by the primary perhaps, so the group counts it as different.
    Corrupt {
        /// From that place on.
        at: u64,
        /// In words.
        what: String,
    },
    /// A volume here refuses a write.
    Volume {
        /// Which.
        volume: VolumeIndex,
        /// The first block and the one behind the last.
        blocks: (u64, u64),
        /// Why.
        error: BlockError,
    },
    /// An entry names blocks that the volume here does not have, or a volume that the group does not have.
    Unfit {
        /// Which volume.
        volume: VolumeIndex,
        /// The entry.
        sequence: Sequence,
    },
    /// The formation copy cannot read the primary's volume (a medium error names its block).
    Copy {
        /// Which volume.
        volume: VolumeIndex,
        /// From which byte on.
        at: u64,
        /// What the far array said.
        what: String,
    },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FarCorrupt { at, what } => {
                write!(f, "the primary's journal cannot be read at {at}: {what}")
            }
            Self::FarRefused(what) => write!(f, "the primary refuses reads of its journal: {what}"),
            Self::Beyond { read, end } => {
                write!(f, "the primary's journal ends at {end}, before {read}, which was read already")
            }
            Self::Swept { read, out } => {
                write!(f, "the primary has freed its journal up to {out}, only {read} was read")
            }
            Self::Journal(error) => write!(f, "the journal here fails: {error}"),
            Self::Corrupt { at, what } => write!(f, "the journal here is damaged at {at}: {what}"),
            Self::Volume { volume, blocks: (first, end), error } => {
                write!(f, "volume {} refuses a write of blocks {first} to {end}: {error}", volume.0)
            }
            Self::Unfit { volume, sequence } => {
                write!(f, "the entry of {sequence} does not fit volume {} here", volume.0)
            }
            Self::Copy { volume, at, what } => {
                write!(f, "the primary's volume {} cannot be read at byte {at}: {what}", volume.0)
            }
        }
    }
}
