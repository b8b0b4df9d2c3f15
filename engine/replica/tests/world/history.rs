//! What was written, in the order of the group: the judge of prefixes.

use super::store::{Changes, Image};
use std::collections::{BTreeMap, HashSet};

/// An entry of the journal.
#[derive(Clone, Debug)]
pub struct Entry {
    pub volume: usize,
    pub changes: Changes,
    /// The host's operation.
    pub op: u64,
}

/// From one image on, what was journaled.
#[derive(Clone, Debug)]
pub struct Segment {
    pub base: Vec<Image>,
    pub entries: BTreeMap<u64, Entry>,
}

impl Segment {
    /// The image after all entries.
    fn end(&self) -> Vec<Image> {
        let mut image = self.base.clone();
        for entry in self.entries.values() {
            for &(block, stamp) in &entry.changes {
                image[entry.volume][block] = stamp;
            }
        }
        image
    }

    /// The last sequence after which it looked like that; `None`: it never did. `Some(None)`: before all entries.
    fn find(&self, image: &[Image]) -> Option<Option<u64>> {
        let mut now = self.base.clone();
        let pairs = |a: &[Image], b: &[Image]| -> usize {
            a.iter().zip(b).map(|(a, b)| a.iter().zip(b).filter(|(a, b)| a != b).count()).sum()
        };
        let mut wrong = pairs(&now, image);
        let mut found = (wrong == 0).then_some(None);
        for (sequence, entry) in &self.entries {
            for &(block, stamp) in &entry.changes {
                let (here, there) = (&mut now[entry.volume][block], image[entry.volume][block]);
                wrong -= usize::from(*here != there);
                *here = stamp;
                wrong += usize::from(*here != there);
            }
            if wrong == 0 {
                found = Some(Some(*sequence));
            }
        }
        found
    }
}

/// All that one array wrote since it became the one that hosts write to.
#[derive(Clone, Debug)]
pub struct Lineage {
    past: Vec<Segment>,
    pub now: Segment,
    /// Entries that a suspension gave up, until it is clear that they are gone.
    limbo: BTreeMap<u64, Entry>,
    /// Host operations that are in the journal for good.
    journaled: HashSet<u64>,
    /// Said to be stable.
    pub stable: u64,
    /// The largest sequence of which a host knows.
    pub acknowledged: u64,
    pub journaling: bool,
    /// Something was written without the journal since it ended.
    pub tracked: bool,
    /// The sequence that the first image goes with.
    begun: u64,
}

/// Where an image is in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of how many later segments it knows nothing.
    pub segments_behind: usize,
    /// The last sequence that it has.
    pub sequence: u64,
}

impl Lineage {
    /// From an image on, which is that of a sequence.
    pub fn new(base: Vec<Image>, begun: u64) -> Self {
        Self {
            past: Vec::new(),
            now: Segment { base, entries: BTreeMap::new() },
            limbo: BTreeMap::new(),
            journaled: HashSet::new(),
            stable: begun,
            acknowledged: begun,
            journaling: false,
            tracked: false,
            begun,
        }
    }

    /// A front took a sequence.
    pub fn append(&mut self, sequence: u64, entry: Entry) {
        // A front that has not heard yet that journaling has ended asks for what nobody will write.
        let entries = if self.journaling { &mut self.now.entries } else { &mut self.limbo };
        let before = entries.insert(sequence, entry);
        assert!(before.is_none(), "sequence {sequence} was taken twice");
    }

    /// A host's write reached the store without the journal.
    pub fn written(&mut self, op: u64, volume: usize, changes: &Changes) {
        if self.journaled.contains(&op) || self.now.entries.values().any(|entry| entry.op == op) {
            return;
        }
        self.tracked = true;
        for &(block, stamp) in changes {
            self.now.base[volume][block] = stamp;
        }
    }

    /// A host's write was with a store when its array crashed: of one without the journal, some may be there.
    pub fn torn(&mut self, op: u64) {
        let is_journaled =
            self.journaled.contains(&op) || self.now.entries.values().any(|entry| entry.op == op);
        self.tracked |= !self.journaling && !is_journaled;
    }

    /// The group has given up journaling: what is not stable is not in the history.
    pub fn suspend(&mut self) {
        if !self.journaling {
            return;
        }
        self.journaling = false;
        self.limbo = self.now.entries.split_off(&(self.stable + 1));
        let limbo: HashSet<u64> = self.limbo.values().map(|entry| entry.op).collect();
        let kept = self.now.entries.values().map(|entry| entry.op).filter(|op| !limbo.contains(op));
        self.journaled.extend(kept);
        let end = Segment { base: self.now.end(), entries: BTreeMap::new() };
        self.past.push(std::mem::replace(&mut self.now, end));
        self.tracked = false;
    }

    /// The group journals, from that sequence on.
    pub fn resume(&mut self, last: u64) {
        if !self.journaling {
            self.journaling = true;
            self.tracked = false;
            self.limbo.clear();
            self.stable = self.stable.max(last);
        }
    }

    /// After a crash the journal was found to end there.
    ///
    /// What was not journaled in this segment, and was only in the cache, may be as the crash left it.
    pub fn recovered(&mut self, last: u64, image: &[Image], crashed: &[Image]) -> Result<(), String> {
        if !self.journaling && self.tracked {
            return Ok(());
        }
        self.ends(last)?;
        let mut end = self.now.end();
        let touched: HashSet<(usize, usize)> = self
            .now
            .entries
            .values()
            .flat_map(|entry| entry.changes.iter().map(|change| (entry.volume, change.0)))
            .collect();
        for (volume, blocks) in end.iter_mut().enumerate() {
            for (block, stamp) in blocks.iter_mut().enumerate() {
                let left = crashed[volume][block];
                if *stamp != left && !touched.contains(&(volume, block)) {
                    *stamp = left;
                    self.now.base[volume][block] = left;
                }
            }
        }
        if end != image {
            return Err(format!(
                "after recovery up to {last}, the volumes differ: {}",
                difference(&end, image)
            ));
        }
        Ok(())
    }

    /// The journal was found to end there, as [`Self::recovered`] says.
    pub fn ends(&mut self, last: u64) -> Result<(), String> {
        if last < self.stable || last < self.acknowledged {
            return Err(format!(
                "recovered up to {last}, but {} was said to be stable and {} was answered",
                self.stable, self.acknowledged
            ));
        }
        if !self.journaling {
            // The suspension that gave them up was not durable.
            if let Some(before) = self.past.pop() {
                self.now = before;
            }
            let mut limbo = std::mem::take(&mut self.limbo);
            self.now.entries.append(&mut limbo);
        }
        self.now.entries.split_off(&(last + 1));
        self.journaled.extend(self.now.entries.values().map(|entry| entry.op));
        self.stable = last;
        self.journaling = true;
        Ok(())
    }

    /// The volumes are these, whatever was before: after a crash while nothing was journaled.
    pub fn rebase(&mut self, image: Vec<Image>) {
        if self.journaling {
            self.suspend();
        }
        self.now = Segment { base: image, entries: BTreeMap::new() };
        self.limbo.clear();
        self.tracked = true;
    }

    /// Where that image is in the history, if anywhere.
    pub fn find(&self, image: &[Image]) -> Option<Found> {
        let all = self.past.iter().chain(std::iter::once(&self.now)).enumerate();
        let count = self.past.len();
        let mut found = None;
        let mut last = self.begun;
        for (at, segment) in all {
            if let Some(sequence) = segment.find(image) {
                let sequence = sequence.unwrap_or(last);
                found = Some(Found { segments_behind: count - at, sequence });
            }
            last = segment.entries.keys().next_back().copied().unwrap_or(last);
        }
        found
    }

    /// The image after everything.
    pub fn end(&self) -> Vec<Image> {
        self.now.end()
    }

    /// The last sequence.
    pub fn last(&self) -> u64 {
        let past = self.past.iter().rev().find_map(|segment| segment.entries.keys().next_back());
        self.now.entries.keys().next_back().or(past).copied().unwrap_or(self.begun)
    }
}

/// Where two images differ, for people.
pub fn difference(one: &[Image], other: &[Image]) -> String {
    let mut text = String::new();
    let mut count = 0;
    for (volume, (one, other)) in one.iter().zip(other).enumerate() {
        for (block, (one, other)) in
            one.iter().zip(other).enumerate().filter(|(_, (one, other))| one != other)
        {
            count += 1;
            if count <= 8 {
                text += &format!("volume {volume} block {block}: {one} and {other}; ");
            }
        }
    }
    format!("{text}{count} blocks in all")
}
