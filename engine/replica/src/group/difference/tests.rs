//! When bits count as durable, and that one copy is whole whenever the array dies.

use super::*;
use crate::action::Action;
use crate::context::Actions;
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool};
use kagami_types::BlockError;
use std::sync::OnceLock;

const GROUP: Uuid = Uuid::from_u128(5);
/// Two blocks of the bitmap.
const GRANULES: [u64; 2] = [1000, 500];
const VOLUME: VolumeIndex = VolumeIndex(1);

fn pool() -> Pool {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    let plan = ArenaPlan::new(1).with(Class::Page, 64, 0);
    ARENA.get_or_init(|| Arena::new(plan, HugePages::Off).expect("an arena")).pool(0)
}

struct Desk {
    difference: Difference,
    actions: Actions,
    layout: Layout,
    /// The bitmap's place on the device, both copies.
    device: Vec<u8>,
}

impl Desk {
    fn new() -> Self {
        let layout = Layout::new(16 << 20, 1 << 30).expect("room");
        let difference = Difference::new(GROUP, layout, &GRANULES).expect("room");
        let device = vec![0; usize::try_from(layout.metadata_at).expect("small")];
        Self { difference, actions: Actions::default(), layout, device }
    }

    fn call(&mut self, with: impl FnOnce(&mut Difference, &mut Context<'_>)) {
        let pool = pool();
        let actions = &mut self.actions;
        let mut cx = Context { now: Time(1), wall: 0, pool: &pool, actions, random: &mut || 1 };
        with(&mut self.difference, &mut cx);
    }

    /// The writes that are to be done now.
    fn writes(&mut self) -> Vec<(u64, u64, Vec<u8>)> {
        std::iter::from_fn(|| self.actions.pop())
            .filter_map(|action| match action {
                Action::Journal { tag, op: DeviceOp::Write { at, data, stable } } => {
                    assert!(stable, "a bit is to outlive a crash");
                    Some((tag, at, data.to_vec()))
                }
                _ => None,
            })
            .collect()
    }

    fn end(&mut self, (tag, at, bytes): (u64, u64, Vec<u8>), good: bool) {
        let at = usize::try_from(at).expect("small");
        if good {
            self.device[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        let end = if good { Ok(Scatter::new()) } else { Err(BlockError::Device) };
        self.call(|difference, cx| assert!(difference.on_device(cx, tag, &end)));
    }

    /// What a start would read of that set.
    fn read(&self, set: u64) -> (Vec<Bits>, Vec<FoundBlock>) {
        let map = BitmapMap::new(&self.layout, &GRANULES).expect("room");
        let mut blocks = BitmapBlocks::new(GROUP, set, map.clone());
        let mut bits: Vec<Bits> = GRANULES.iter().map(|granules| Bits::new(*granules)).collect();
        let found = (0..map.blocks()).map(|block| {
            let [one, two] = [0, 1].map(|copy| {
                let at = usize::try_from(BitmapMap::place(&self.layout, copy, block)).expect("small");
                &self.device[at..at + BLOCK_LEN]
            });
            blocks.decode(block, one, two, &mut bits)
        });
        let found = found.collect();
        (bits, found)
    }
}

#[test]
fn a_bit_is_durable_when_both_copies_have_it() {
    let mut desk = Desk::new();
    desk.difference.begin_set(7);
    desk.difference.mark(VOLUME, 3, 4);
    let stamp = desk.difference.stamp();
    desk.call(Difference::turn);
    let [first, second] = [0, 1].map(|copy| BitmapMap::place(&desk.layout, copy, 0));
    let one = desk.writes();
    assert!(one.iter().all(|(_, at, _)| (first..second).contains(at)), "one copy after the other");
    for write in one {
        assert!(!desk.difference.is_durable(stamp));
        desk.end(write, true);
    }
    let other = desk.writes();
    assert!(!other.is_empty() && other.iter().all(|(_, at, _)| *at >= second));
    // What comes meanwhile is another change.
    desk.difference.mark(VOLUME, 9, 10);
    let later = desk.difference.stamp();
    for write in other {
        assert!(!desk.difference.is_durable(stamp) && !desk.difference.is_clean());
        desk.end(write, true);
    }
    assert!(desk.difference.is_durable(stamp) && !desk.difference.is_durable(later));
    let (bits, found) = desk.read(7);
    assert!(
        bits[1].contains(3) && !bits[1].contains(9) && found.iter().all(|found| *found == FoundBlock::Good)
    );
    for _ in 0..2 {
        for write in desk.writes() {
            desk.end(write, true);
        }
    }
    assert!(desk.difference.is_durable(later) && desk.difference.is_clean());
}

#[test]
fn one_copy_is_whole_at_any_moment() {
    let mut desk = Desk::new();
    desk.difference.begin_set(7);
    desk.call(Difference::turn);
    for _ in 0..2 {
        for write in desk.writes() {
            desk.end(write, true);
        }
    }
    desk.difference.mark(VOLUME, 3, 4);
    let stamp = desk.difference.stamp();
    desk.call(Difference::turn);
    for round in 0..2 {
        for write in desk.writes() {
            // Torn, and the array dies: the other copy has what was durable before, or this change.
            let (at, half) = (usize::try_from(write.1).expect("small"), BLOCK_LEN / 2);
            let before = desk.device[at..at + half].to_vec();
            desk.device[at..at + half].fill(0x5a);
            let (bits, found) = desk.read(7);
            assert!(found.iter().all(|found| *found != FoundBlock::Lost));
            assert!(found.contains(&FoundBlock::OneBroken));
            assert_eq!(bits[1].contains(3), round == 1);
            desk.device[at..at + half].copy_from_slice(&before);
            desk.end(write, true);
        }
    }
    assert!(desk.difference.is_durable(stamp));
    // A write that fails is done again, and until then nothing counts.
    desk.difference.mark(VOLUME, 5, 6);
    let stamp = desk.difference.stamp();
    desk.call(Difference::turn);
    for write in desk.writes() {
        desk.end(write, false);
    }
    assert!(!desk.difference.is_durable(stamp) && desk.writes().is_empty());
    assert!(desk.difference.next_deadline() > Time(1));
}
