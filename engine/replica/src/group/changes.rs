//! The changes of the superblock that transitions make: each is one write, and what it says holds from then on.

use super::Live;
use super::program::{Go, follow};
use crate::context::Context;
use crate::generation::ANCESTORS;
use crate::machine::{Decision, decide};
use crate::record::{Fence, Formation, Side, State, Takeover};
use crate::source::SourcePlan;
use kagami_journal::BLOCK;
use kagami_types::{Epoch, JournalPos, Sequence};

impl Live {
    /// A primary journals from a place of a new epoch on; both are durable before its first entry.
    pub(super) fn begin_change(
        &mut self,
        cx: &mut Context<'_>,
        first: bool,
        version: &mut u64,
        discard: bool,
    ) -> Go {
        // A takeover that came to be known after the order was accepted: nobody has said that this side is to win.
        let alone = self.difference.count() > 0 && self.record().bits != 0;
        let taken = |far| decide(self.record(), alone, far) == Decision::Overtaken;
        if first && !discard && self.link.far.as_deref().is_some_and(taken) {
            return Go::Drop;
        }
        let far = self.link.far.as_deref().map(|far| (far.record.generation.clone(), far.data_len));
        let epoch = Epoch(Self::random_word(cx));
        let new = Self::random_id(cx);
        let slow = self.slow();
        let volumes = self.source_volumes();
        self.save(cx, first, version, |live, next| {
            let record = &mut next.record;
            let Some((generation, data_len)) = far else { return };
            if record.state == State::Smpl {
                let len = next.block.layout.data_len.min(data_len);
                if let Ok(layout) = next.block.layout.with_data_len(len) {
                    next.block.layout = layout;
                }
            } else if record.overtaken || record.generation.relation(&generation) == crate::Relation::Neither
            {
                // This side goes on knowing what the other did.
                let mut child = record.generation.child(new);
                child.ancestors.push_front(generation.id);
                child.ancestors.truncate(ANCESTORS);
                record.generation = child;
            }
            record.side = Side::Primary;
            record.state = State::Copy;
            record.overtaken = false;
            record.consistent = true;
            record.formation = None;
            record.discards = discard;
            record.takeover = None;
            record.reason.clear();
            let block = &next.block;
            let at = block.stable.max(block.read).max(block.out).next_multiple_of(BLOCK);
            let last = Sequence(live.sequencer.load(std::sync::atomic::Ordering::Acquire));
            let plan =
                SourcePlan::fresh(live.plan.group, block.layout, (epoch, at), last.next(), volumes, slow);
            plan.mark(&mut next.block);
            live.orders.plan = Some(plan);
        })
    }

    /// A primary serves by force: a history of its own, which knows of the other's where it had been overtaken.
    pub(super) fn serves_change(&mut self, cx: &mut Context<'_>, first: bool, version: &mut u64) -> Go {
        let id = Self::random_id(cx);
        let theirs = self.link.far.as_deref().map(|far| far.record.generation.id);
        self.save(cx, first, version, |live, next| {
            let record = &mut next.record;
            record.generation = record.generation.child(id);
            if let Some(theirs) = theirs.filter(|_| record.overtaken) {
                record.generation.ancestors.push_front(theirs);
                record.generation.ancestors.truncate(ANCESTORS);
            }
            record.state = State::Psue;
            record.overtaken = false;
            record.fence = None;
            "serves by force".clone_into(&mut record.reason);
            live.end_log(next);
        })
    }

    /// A secondary copies from the formation's place on; nothing of its own counts any more.
    pub(super) fn follow_change(
        &mut self,
        cx: &mut Context<'_>,
        first: bool,
        version: &mut u64,
        formation: Formation,
    ) -> Go {
        let generation = self.far_generation();
        let set = self.difference.set();
        let data_len = self.link.far.as_deref().map_or(0, |far| far.data_len);
        let go = self.save(cx, first, version, |_, next| {
            if let Ok(layout) = next.block.layout.with_data_len(data_len) {
                next.block.layout = layout;
            }
            follow(next, generation, formation);
            next.record.state = State::Copy;
            next.record.consistent = false;
            next.record.bits = set;
        });
        if first {
            self.split_brain = false;
        }
        go
    }

    /// The commit point of a swap.
    pub(super) fn commit_change(
        &mut self,
        cx: &mut Context<'_>,
        first: bool,
        version: &mut u64,
        fence: Fence,
    ) -> Go {
        let epoch = Epoch(Self::random_word(cx));
        let id = Self::random_id(cx);
        let volumes = self.source_volumes();
        let slow = self.slow();
        self.save(cx, first, version, |live, next| {
            let at = next.block.read;
            live.sequencer.fetch_max(fence.sequence.0, std::sync::atomic::Ordering::AcqRel);
            let layout = next.block.layout;
            // This side may have counted further, in a history that it has discarded since; fronts never count back. The
            // formation says where the numbers go on.
            let last = Sequence(live.sequencer.load(std::sync::atomic::Ordering::Acquire));
            let next_sequence = last.next();
            let plan = SourcePlan::fresh(live.plan.group, layout, (epoch, at), next_sequence, volumes, slow);
            plan.mark(&mut next.block);
            let place = JournalPos { epoch, offset: at };
            let record = &mut next.record;
            record.side = Side::Primary;
            record.state = State::Pair;
            record.generation = record.generation.child(id);
            record.formation =
                Some(Formation { request: fence.request, place, sequence: last, discard: false });
            record.fence = None;
            record.bits = 0;
            record.reason.clear();
            live.orders.plan = Some(plan);
        })
    }

    /// A secondary is suspended. Where it is to be written, that is a history of its own.
    pub(super) fn finish_change(
        &mut self,
        cx: &mut Context<'_>,
        first: bool,
        version: &mut u64,
        state: State,
        reason: &str,
    ) -> Go {
        let id = Self::random_id(cx);
        let whole = self.sink.as_ref().map_or(!self.is_behind(), |sink| sink.is_consistent());
        let reason = reason.to_owned();
        let set = self.difference.set();
        self.save(cx, first, version, |_, next| {
            let record = &mut next.record;
            record.consistent = record.state == State::Pair && whole;
            let writable = state == State::Psus { writable: true } && record.consistent;
            record.state = match state {
                State::Psus { .. } => State::Psus { writable },
                other => other,
            };
            record.reason = reason;
            record.bits = set;
            if writable {
                record.generation = record.generation.child(id);
            }
        })
    }

    /// A secondary is taken over.
    pub(super) fn takeover_change(&mut self, cx: &mut Context<'_>, first: bool, version: &mut u64) -> Go {
        let id = Self::random_id(cx);
        let set = self.difference.set();
        let wall = cx.wall;
        self.save(cx, first, version, |live, next| {
            let restored = next.block.restored_sequence;
            live.sequencer.fetch_max(next.block.read_sequence.0, std::sync::atomic::Ordering::AcqRel);
            let record = &mut next.record;
            record.state = State::Ssws;
            record.generation = record.generation.child(id);
            record.bits = set;
            record.consistent = true;
            record.takeover = Some(Takeover { sequence: restored, time: next.block.restored_time, at: wall });
            record.reason.clear();
        })
    }
}
