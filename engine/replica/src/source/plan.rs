//! Where a source begins.

use crate::mail::VolumeIndex;
use kagami_journal::{Bits, Index, Layout, Recovered, Superblock};
use kagami_types::{Epoch, JournalPos, Sequence, Uuid};
use std::time::Duration;

/// A volume that writes to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceVolume {
    /// Its number in the group.
    pub index: VolumeIndex,
    /// log2 of its block size.
    pub shift: u8,
    /// Its granules of 64 KiB.
    pub granules: u64,
}

/// Where a source begins.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// The group.
    pub group: Uuid,
    /// Where the parts of the journal lie.
    pub layout: Layout,
    /// The new epoch, random. The superblock names it, or the one before, as its own.
    pub epoch: Epoch,
    /// The epoch of the frame before `at`.
    pub parent: Epoch,
    /// Where its first frame goes, and the place of the frame before (the same where there is none).
    pub at: u64,
    /// See `at`.
    pub previous: u64,
    /// The sequence of its first entry.
    pub next: Sequence,
    /// What is durable as `out`, and the epoch before it.
    pub out: JournalPos,
    /// Epochs that begin behind `out` and before `at`, with their places.
    pub epochs: Vec<(u64, Epoch)>,
    /// What is in the volumes and flushed.
    pub destaged: (u64, Sequence),
    /// What the reader has durably.
    pub confirmed: u64,
    /// By volume number: what it may lack nevertheless.
    pub unconfirmed: Vec<Bits>,
    /// The time of the newest entry, in nanoseconds since 1970; times do not go back behind it.
    pub time: u64,
    /// The volumes.
    pub volumes: Vec<SourceVolume>,
    /// The overflow policy: hosts may be slowed by so much before the journal is full; zero: not at all.
    pub slow: Duration,
    /// Places among the frames that are there already, and the number of the next block of the index.
    pub index: Index,
}

impl SourcePlan {
    /// Journaling begins with nothing before it: at a creation, a resync, after a takeover. The volumes have been flushed.
    /// Before the first frame may be written, a superblock with that `epoch`, and `out`, `out_epoch`, `destaged`,
    /// `confirmed` and `stable` at this place must be durable ([`mark`](Self::mark)).
    #[must_use]
    pub fn fresh(
        group: Uuid,
        layout: Layout,
        (epoch, at): (Epoch, u64),
        next: Sequence,
        volumes: Vec<SourceVolume>,
        slow: Duration,
    ) -> Self {
        Self {
            group,
            layout,
            epoch,
            parent: epoch,
            at,
            previous: at,
            next,
            out: JournalPos { epoch, offset: at },
            epochs: Vec::new(),
            destaged: (at, Sequence(next.0.saturating_sub(1))),
            confirmed: at,
            unconfirmed: Vec::new(),
            time: 0,
            volumes,
            slow,
            index: Index::new(group, layout, 0),
        }
    }

    /// Journaling goes on after a restart: the end that recovery found is where the new epoch begins. No superblock need
    /// be written before: the new epoch's first frame names the one before it.
    #[must_use]
    pub fn recovered(
        superblock: &Superblock,
        found: &Recovered,
        epoch: Epoch,
        volumes: Vec<SourceVolume>,
        slow: Duration,
    ) -> Self {
        let s = superblock;
        Self {
            group: s.group,
            layout: s.layout,
            epoch,
            parent: found.end.epoch,
            at: found.end.offset,
            previous: found.previous,
            next: found.sequence.next(),
            out: JournalPos { epoch: s.out_epoch, offset: s.out },
            epochs: found.epochs.clone(),
            destaged: (s.destaged, s.destaged_sequence),
            confirmed: s.confirmed,
            unconfirmed: found.unconfirmed.clone(),
            time: found.time,
            volumes,
            slow,
            index: found.index.clone().written(s.index_next),
        }
    }

    /// Puts where it begins into a superblock: for [`fresh`](Self::fresh).
    pub fn mark(&self, superblock: &mut Superblock) {
        let before = Sequence(self.next.0.saturating_sub(1));
        if superblock.epoch != self.epoch {
            superblock.begin_epoch(self.epoch);
        }
        (superblock.out, superblock.out_epoch) = (self.at, self.epoch);
        (superblock.stable, superblock.sequence) = (self.at, before);
        (superblock.destaged, superblock.destaged_sequence) = (self.at, before);
        superblock.confirmed = self.at;
    }
}
