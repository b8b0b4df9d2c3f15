//! One array: what survives a crash, and what does not.

use super::World;
use super::device::Device;
use super::plan::{Plan, Sabotage};
use super::rng::Rng;
use super::store::{Changes, Image, Store};
use kagami_replica::mail::{Mode, VolumeIndex};
use kagami_replica::{Actions, Front, FrontPlan, Group, GroupPlan, Options, PlannedVolume, Side};
use kagami_types::{BlockCount, BlockSize, Lun, Time, Uuid};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub struct Array {
    pub boot: u32,
    pub up: bool,
    pub group: Option<Group>,
    pub fronts: Vec<Front>,
    pub actions: Actions,
    pub journal: Device,
    pub stores: Vec<Store>,
    /// Writes that a store has not done yet.
    pub under_way: BTreeMap<(usize, u64), Changes>,
    /// Writes that the journal has not done yet.
    pub writing: BTreeMap<u64, (u64, Vec<u8>)>,
    /// When the last mail arrives, to and from each front.
    pub mail_at: Vec<(Time, Time)>,
    pub deleted: bool,
    /// Of its half of the group.
    pub options: Options,
    /// The life of which recovery was looked at.
    pub recovered: u32,
    /// The last mode that the group gave its fronts in this life.
    pub mode: Option<Mode>,
}

impl Array {
    pub fn new(plan: &Plan, number: usize, rng: &mut Rng) -> Self {
        let image = |rng: &mut Rng, volume: usize| -> Image {
            // Both have something to begin with, in places.
            (0..plan.blocks)
                .map(|block| {
                    let there = block / 40 % 3 == volume as u64 % 3 && rng.percent(50);
                    if there { 1 << 40 | (number as u64) << 38 | (volume as u64) << 32 | block } else { 0 }
                })
                .collect()
        };
        let stores = (0..plan.volumes)
            .map(|volume| Store::new(image(rng, volume), plan.block_bytes as usize))
            .collect();
        let mut journal = Device::new(plan.journal_bytes);
        journal.lies = plan.sabotage == Sabotage::LyingJournal;
        if plan.sabotage == Sabotage::LostBits {
            let covered = plan.blocks * u64::from(plan.block_bytes) * plan.volumes as u64;
            let layout = kagami_journal::Layout::new(plan.journal_bytes, covered).expect("a layout");
            journal.drops = Some((layout.bitmap_at[0], layout.metadata_at));
        }
        Self {
            boot: 0,
            up: false,
            group: None,
            fronts: Vec::new(),
            actions: Actions::default(),
            journal,
            stores,
            under_way: BTreeMap::new(),
            writing: BTreeMap::new(),
            mail_at: vec![(Time(0), Time(0)); plan.volumes],
            deleted: false,
            options: plan.options.clone(),
            recovered: 0,
            mode: None,
        }
    }

    pub fn image(&self) -> Vec<Image> {
        self.stores.iter().map(|store| store.visible.clone()).collect()
    }

    /// Nothing is on its way to the stores.
    pub fn is_still(&self) -> bool {
        self.under_way.is_empty()
    }
}

impl World {
    /// An array starts.
    pub fn boot(&mut self, array: usize) {
        if self.arrays[array].up {
            return;
        }
        self.note(format!("array {array} starts"));
        if let (Some(one), other) = (self.durable(array), self.durable(1 - array)) {
            self.see_swap(&one, other.as_ref());
            if let Some(other) = other {
                self.see_swap(&other, Some(&one));
            }
            if !self.arrays[1 - array].up || self.now < self.cut_until {
                self.see_swap(&one, None);
            }
        }
        let plan = &self.plan;
        let id = |number: u128| Uuid::from_u128(number);
        let own = array as u128;
        let deleted = self.arrays[array].deleted;
        let create = match array {
            _ if deleted => None,
            0 => Some(Side::Primary),
            _ => Some(Side::Secondary),
        };
        let volumes = (0..plan.volumes as u8)
            .map(|index| PlannedVolume {
                index: VolumeIndex(index),
                uuid: id(100 + 10 * own + u128::from(index)),
                lun: Lun::new(u16::from(index)).expect("small"),
                far_lun: Lun::new(u16::from(index)).expect("small"),
                blocks: plan.blocks,
                block_size: plan.block_bytes,
            })
            .collect();
        let group = Group::new(GroupPlan {
            group: id(7),
            name: "g".to_owned(),
            own_array: id(1 + own),
            peer_array: id(2 - own),
            journal: id(50 + own),
            journal_bytes: plan.journal_bytes,
            volumes,
            options: self.arrays[array].options.clone(),
            create,
        });
        let fronts = (0..plan.volumes as u8)
            .map(|index| {
                let mut front = Front::new(FrontPlan {
                    index: VolumeIndex(index),
                    block_size: BlockSize::from_bytes(plan.block_bytes).expect("one of two"),
                    blocks: BlockCount(plan.blocks),
                    sequencer: group.sequencer(),
                    slots: 64,
                });
                front.set_write_back(plan.write_back);
                front
            })
            .collect();
        let here = &mut self.arrays[array];
        here.boot += 1;
        here.up = true;
        here.fronts = fronts;
        here.group = Some(group);
        here.mode = None;
        here.mail_at = vec![(self.now, self.now); plan.volumes];
        self.group(array, |group, cx| group.start(cx));
    }

    /// An array is gone in this moment.
    pub fn crash(&mut self, array: usize) {
        let here = &mut self.arrays[array];
        if !here.up {
            return;
        }
        here.up = false;
        here.group = None;
        here.fronts.clear();
        while here.actions.pop().is_some() {}
        let writing = std::mem::take(&mut here.writing);
        for (at, bytes) in writing.into_values() {
            here.journal.torn_write(&mut self.rng, at, &bytes);
        }
        here.journal.crash(&mut self.rng);
        let under_way = std::mem::take(&mut here.under_way);
        self.judge_torn(array, &under_way);
        let here = &mut self.arrays[array];
        for volume in 0..here.stores.len() {
            let mine: Vec<Changes> = under_way
                .iter()
                .filter(|((of, _), _)| *of == volume)
                .map(|(_, changes)| changes.clone())
                .collect();
            here.stores[volume].crash(&mut self.rng, &mine);
        }
        self.seen.note("crash");
        self.hosts.crashed(array);
        self.script.crashed(array);
        self.judge_crash(array);
        let down = Duration::from_millis(self.rng.skewed(1, 1500));
        self.later(down, array, super::Event::Boot);
    }
}

/// A superblock that does not say up to where entries may have been applied.
pub fn without_target(bytes: &[u8]) -> Vec<u8> {
    let kagami_journal::Found::Ours(mut block, _) = kagami_journal::Superblock::choose(bytes, &[0; 4096])
    else {
        return bytes.to_vec();
    };
    block.restore_target = block.restored;
    // Behind the record lies the sequence that goes with it.
    if let Some(target) = block.record.get_mut(1024..1032) {
        target.copy_from_slice(&block.restored_sequence.0.to_le_bytes());
    }
    block.encode().to_vec()
}
