//! What the steps of transitions are made of: a mode of all fronts, a flush of all volumes, bits, one superblock.

use super::Live;
use super::program::Go;
use super::saver::Durable;
use crate::context::Context;
use crate::mail::Mode;
use crate::source::Source;

impl Live {
    pub(super) fn modes(&mut self, cx: &mut Context<'_>, first: bool, mode: Mode) -> Go {
        if first {
            // Where no journal ends, bits go on counting: what was under way may stand behind what waits for them.
            let goes_on = self.source.is_none() && matches!(mode, Mode::Tracking | Mode::Fenced);
            self.tracking &= goes_on;
            if mode != Mode::Tracking {
                self.marks.clear();
            }
            self.fronts.set(cx, mode);
        }
        if self.fronts.holds() { Go::On } else { Go::Wait }
    }

    pub(super) fn flush(&mut self, cx: &mut Context<'_>, first: bool) -> Go {
        if first {
            self.fronts.flush(cx);
        }
        if self.fronts.is_flushed() { Go::On } else { Go::Wait }
    }

    pub(super) fn bits(&self) -> Go {
        if self.difference.is_clean() { Go::On } else { Go::Wait }
    }

    /// One superblock write, with that change in it.
    pub(super) fn save(
        &mut self,
        cx: &mut Context<'_>,
        first: bool,
        version: &mut u64,
        change: impl FnOnce(&mut Self, &mut Durable),
    ) -> Go {
        if first {
            let mut next = self.saver.next.clone();
            if let Some(source) = &mut self.source {
                source.fill(&mut next.block);
            }
            change(self, &mut next);
            self.saver.next = next;
            *version = self.saver.save();
            self.saver.turn(cx);
        }
        if self.saver.is_durable(*version) { Go::On } else { Go::Wait }
    }

    pub(super) fn stop_source(&mut self, first: bool) -> Go {
        let Some(source) = &mut self.source else { return Go::On };
        if first {
            source.stop();
        }
        if self.source_stopped { Go::On } else { Go::Wait }
    }

    /// What the reader may lack goes into the bitmap, under a set of its own where there is none.
    pub(super) fn join_unconfirmed(&mut self, cx: &mut Context<'_>) {
        let lacking = self.source.as_ref().map(Source::unconfirmed);
        if self.difference.set() == 0 {
            self.difference.begin_set(Self::random_word(cx));
        }
        if let Some(lacking) = lacking {
            self.difference.join(&lacking);
        }
    }

    /// A primary does not journal any more: all that is stable is in the volumes, flushed, and is never applied again.
    pub(super) fn end_log(&self, next: &mut Durable) {
        next.record.bits = self.difference.set();
        if let Some(source) = &self.source {
            let (at, sequence) = source.stable();
            (next.block.destaged, next.block.destaged_sequence) = (at.offset, sequence);
            (next.block.stable, next.block.sequence) = (at.offset, sequence);
        }
    }
}
