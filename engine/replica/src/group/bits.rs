//! The far side: its bitmap, read for a resync, and where the results of far commands go.

use super::Live;
use super::link::Heard;
use super::program::{FarBits, Go, Program, Running};
use crate::action::{FarEnd, FarOp, FarUnit};
use crate::context::{Context, Owner};
use crate::generation::Generation;
use crate::record::Formation;
use kagami_journal::{BLOCK, BitmapBlocks, BitmapMap};
use std::time::Duration;

/// Bytes of the far bitmap that are read at once.
const FAR_BITS: u64 = 256 << 10;

impl Live {
    pub(super) fn far_generation(&self) -> Generation {
        self.link.far.as_deref().map(|far| far.record.generation.clone()).unwrap_or_default()
    }

    /// Reads the far bitmap. A set of no number means that the other side has none: all is copied.
    pub(super) fn read_far_bits(
        &mut self,
        cx: &mut Context<'_>,
        first: bool,
        far: &mut FarBits,
        full: &mut bool,
        formation: Formation,
    ) -> Go {
        let Some(page) = self.link.far.as_deref() else { return Go::Drop };
        if page.record.formation.map(|theirs| theirs.request) != Some(formation.request) {
            return Go::Drop;
        }
        if first {
            *full |= page.record.bits == 0;
            let layout = self.layout();
            let map = BitmapMap::new(&layout, &self.granules);
            far.set = page.record.bits;
            far.at = page.bitmap_at;
            far.bits = self.no_bits();
            let blocks = map.as_ref().map_or(0, BitmapMap::blocks);
            far.len = u64::from(blocks) * BLOCK;
            if far.len > page.bitmap_len {
                *full = true;
            }
            far.decoder = map.map(|map| BitmapBlocks::new(self.plan.group, far.set, map));
        }
        if *full {
            return Go::On;
        }
        if far.failed {
            self.retry = cx.now + Duration::from_millis(200);
            return Go::Drop;
        }
        if far.tag.is_none() {
            if far.next >= far.len {
                return Go::On;
            }
            let len = u32::try_from((far.len - far.next).min(FAR_BITS)).unwrap_or(4096);
            far.asked = u64::from(len);
            let op = FarOp::Read { at: far.at + far.next, len };
            far.tag = Some(cx.actions.far(Owner::Group, FarUnit::Journal, op));
        }
        Go::Wait
    }

    /// A command of the group's own for the other array has ended.
    pub(super) fn on_link(&mut self, cx: &mut Context<'_>, tag: u64, end: FarEnd) {
        if let Some(Running { program: Program::Follow { far, .. }, .. }) = &mut self.running
            && far.tag == Some(tag)
        {
            far.tag = None;
            match end {
                FarEnd::Good(data) if data.len_bytes() as u64 == far.asked => {
                    let bytes = data.to_vec();
                    let first = u32::try_from(far.next / BLOCK).unwrap_or(u32::MAX);
                    for (block, part) in (first..).zip(bytes.chunks(4096)) {
                        if let Some(decoder) = &mut far.decoder {
                            decoder.decode(block, part, &[], &mut far.bits);
                        }
                    }
                    far.next += far.asked;
                }
                _ => far.failed = true,
            }
            return;
        }
        match self.link.on_far(cx, tag, &end) {
            Heard::NotOurs => {}
            Heard::Page => {
                self.on_page(cx);
                self.polled(cx, true);
            }
            Heard::Known => self.polled(cx, true),
            Heard::Nothing => self.polled(cx, false),
            Heard::Written(good) => {
                if std::mem::take(&mut self.sink_confirms)
                    && let Some(sink) = &mut self.sink
                {
                    sink.on_confirmed(cx, good);
                }
            }
        }
    }
}
