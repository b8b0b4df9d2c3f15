//! Transitions, step by step, and what begins them.
//!
//! A program only waits for this array's own devices and volumes. What has to wait for the other array is a condition in
//! [`next_work`](super::Live::next_work): it is asked anew after everything that happens, from durable state and the far page
//! alone, so it is the same after a crash. A program that a crash interrupts is begun anew, or was never durable.

use super::Live;
use super::orders::Ended;
use super::paths::{Aim, Goal};
use super::reshape::Reshape;
use super::saver::Durable;
use super::start::Recovering;
use crate::action::{Action, OrderResult};
use crate::context::Context;
use crate::generation::Generation;
use crate::mail::Mode;
use crate::record::{Fence, Formation, Side, State};
use crate::sink::Places;
use crate::source::{Source, SourcePlan};
use kagami_journal::{BitmapBlocks, Bits, EntryKind};
use kagami_types::{Epoch, JournalPos, Sequence, Time};
use std::time::Duration;

/// A transition.
#[derive(Debug)]
pub(super) enum Program {
    /// Start: the bitmap is read.
    Load,
    /// Start of a primary that journals: the journal is recovered and applied again.
    Recover(Box<Recovering>),
    /// Start: hosts are served.
    Serve,
    /// A primary begins to journal.
    Begin { discard: bool },
    /// It says where that was.
    Name { place: JournalPos, sequence: Sequence },
    /// It suspends.
    Suspend { state: State, reason: String },
    /// It was taken over by the other.
    Overtaken { reason: String },
    /// It stops for a swap.
    Fence { request: u128, until: Time },
    /// It goes on after that.
    Unfence,
    /// It serves again, as the other has given up its takeover.
    Regain,
    /// It becomes the secondary of the one that has swapped.
    Yield(Formation),
    /// It serves though it is fenced.
    Serves,
    /// A side begins to copy as the secondary.
    Follow { formation: Formation, full: bool, far: FarBits },
    /// The secondary becomes the primary, by a swap.
    Commit(Fence),
    /// The secondary is suspended.
    Finish { state: State, reason: String },
    /// It is taken over.
    TakeOver,
    /// Only the record changes.
    Note(Note),
    /// A suspended group has more volumes, or larger ones.
    Reshape(Box<Reshape>),
    /// The pair ends here.
    Delete,
}

/// Changes of the record that need nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The primary is in PAIR.
    Paired,
    /// The secondary is.
    Formed,
    /// A swap is refused for good.
    Refused(u128),
    /// The formation that is named lets the other side give up what it alone has.
    Discards,
}

/// The far bitmap, as it is being read.
#[derive(Debug, Default)]
pub(super) struct FarBits {
    pub(super) set: u64,
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) next: u64,
    /// Bytes of the read that is under way.
    pub(super) asked: u64,
    pub(super) tag: Option<u64>,
    pub(super) failed: bool,
    pub(super) decoder: Option<BitmapBlocks>,
    pub(super) bits: Vec<Bits>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) program: Program,
    step: u8,
    first: bool,
    version: u64,
}

impl Running {
    pub(super) fn new(program: Program) -> Self {
        Self { program, step: 0, first: true, version: 0 }
    }

    pub(super) fn recovers(&self) -> bool {
        matches!(self.program, Program::Recover(_))
    }
}

/// What comes after a look at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    Wait,
    On,
    End,
    /// It cannot be done now; nothing durable has changed.
    Drop,
}

impl Live {
    /// Goes on with the program. Whether it went on.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(mut running) = self.running.take() else { return false };
        let go = self.step(cx, &mut running);
        running.first = false;
        match go {
            Go::Wait => {
                self.running = Some(running);
                return false;
            }
            Go::On => {
                running.step += 1;
                running.first = true;
                self.running = Some(running);
            }
            Go::End => self.news = true,
            // What could not be done now is decided anew some time later.
            Go::Drop => self.dropped(cx, &running),
        }
        true
    }

    fn dropped(&mut self, cx: &mut Context<'_>, running: &Running) {
        self.retry = self.retry.min(cx.now + Duration::from_millis(200));
        if let Some(order) = running.reshapes() {
            let result = OrderResult::Failed("its journal has no room for the bitmap".to_owned());
            cx.actions.push(Action::Answer { order, result });
        }
        if matches!(running.program, Program::Fence { .. }) && self.source_ends.is_none() {
            self.running = Some(Running::new(Program::Serve));
        }
    }

    #[expect(clippy::too_many_lines, reason = "each transition is to be seen whole, step by step")]
    fn step(&mut self, cx: &mut Context<'_>, running: &mut Running) -> Go {
        let Running { program, step, first, version } = running;
        let first = *first;
        match (program, *step) {
            (Program::Load, 0) => {
                let set = self.record().bits;
                if first && set != 0 {
                    self.difference.load(set);
                    self.difference.turn(cx);
                }
                if self.difference.is_loaded() { Go::On } else { Go::Wait }
            }
            // The first superblock, or one that says that this life has begun.
            (Program::Load, 1) => self.save(cx, first, version, |_, _| {}),
            (Program::Load, _) => {
                self.recovering = false;
                self.link.want_write = true;
                if !self.waits_to_serve() {
                    self.running = Some(Running::new(Program::Serve));
                }
                Go::End
            }

            (Program::Recover(_), 0) => {
                let set = self.record().bits;
                if first && set != 0 {
                    self.difference.load(set);
                    self.difference.turn(cx);
                }
                if self.difference.is_loaded() { Go::On } else { Go::Wait }
            }
            (Program::Recover(recovering), 1) => {
                if self.retry <= cx.now {
                    self.retry = Time::NEVER;
                    recovering.retry(&self.saver.durable().block);
                }
                match recovering.turn(cx, &self.saver.durable().block) {
                    Ok(true) => Go::On,
                    Ok(false) => Go::Wait,
                    Err(why) => {
                        self.orders.fatal = Some(why);
                        Go::Wait
                    }
                }
            }
            (Program::Recover(recovering), 2) => {
                let Some(found) = recovering.found.take() else { return Go::Drop };
                self.orders.ending = Some(found.ending);
                if self.again {
                    // Nothing is under way: what was taken and is not in the journal, nobody was told of.
                    self.sequencer.store(found.sequence.0, std::sync::atomic::Ordering::Release);
                } else {
                    self.sequencer.fetch_max(found.sequence.0, std::sync::atomic::Ordering::AcqRel);
                }
                let epoch = Epoch(Self::random_word(cx));
                let block = &self.saver.durable().block;
                let plan = SourcePlan::recovered(block, &found, epoch, self.source_volumes(), self.slow());
                self.begin_source(cx, plan);
                recovering.found = Some(found);
                Go::On
            }
            (Program::Recover(_), 3) => {
                // The new epoch's first frame is stable: what recovery found is what there is.
                if self.source_begun || self.source_ends.is_some() { Go::On } else { Go::Wait }
            }
            (Program::Recover(_), 4) => self.save(cx, first, version, |_, _| {}),
            (Program::Recover(recovering), _) => {
                self.recovering = false;
                self.asked = cx.now;
                self.link.want_write = true;
                if let Some(found) = recovering.found.take() {
                    if let Some(at) = found.damaged {
                        self.damaged = Some((at, self.saver.durable().block.destaged));
                    }
                    if self.record().formation.is_none() {
                        self.orders.unnamed = Some((found.end, found.sequence));
                    }
                }
                if !self.waits_to_serve() {
                    self.running = Some(Running::new(Program::Serve));
                }
                Go::End
            }

            (Program::Serve, 0) => {
                let mode = self.mode_of(&self.record().clone());
                self.modes(cx, first, mode)
            }
            (Program::Serve, _) => {
                self.serving = true;
                let record = self.record().clone();
                self.tracking = self.mode_of(&record) == Mode::Tracking;
                let pulls =
                    record.side == Side::Secondary && matches!(record.state, State::Copy | State::Pair);
                if pulls && self.sink.is_none() {
                    self.begin_sink(cx);
                }
                if let Some((place, sequence)) = self.orders.unnamed.take()
                    && self.record().journals()
                {
                    self.running = Some(Running::new(Program::Name { place, sequence }));
                }
                Go::End
            }

            (Program::Begin { discard }, 0) => self.begin_change(cx, first, version, *discard),
            (Program::Begin { .. }, 1) => {
                let Some(plan) = self.orders.plan.take() else { return Go::Drop };
                self.begin_source(cx, plan);
                Go::On
            }
            (Program::Begin { .. }, 2) => self.modes(cx, first, Mode::Journaling),
            (Program::Begin { .. }, _) => {
                let block = &self.saver.durable().block;
                let place = JournalPos { epoch: block.out_epoch, offset: block.out };
                let sequence = block.destaged_sequence;
                self.running = Some(Running::new(Program::Name { place, sequence }));
                Go::End
            }

            (Program::Name { .. }, 0) => self.flush(cx, first),
            (Program::Name { place, sequence }, 1) => {
                let request = Self::random_id(cx);
                let (place, sequence) = (*place, *sequence);
                let go = self.save(cx, first, version, |_, next| {
                    let discard = next.record.discards;
                    next.record.formation = Some(Formation { request, place, sequence, discard });
                });
                if first {
                    self.asked = cx.now;
                }
                go
            }
            (Program::Name { .. }, _) => {
                self.link.want_write = true;
                Go::End
            }

            (Program::Suspend { .. } | Program::Overtaken { .. } | Program::Serves, 0) => {
                self.stop_source(first)
            }
            // What waits for the journal is given up: no bits are answered before the end of this.
            (Program::Overtaken { .. }, 1) if !self.serving => Go::On,
            (Program::Suspend { .. } | Program::Overtaken { .. } | Program::Serves, 1) => {
                self.modes(cx, first, Mode::Tracking)
            }
            (Program::Overtaken { .. }, 2) => self.modes(cx, first, Mode::Fenced),
            (Program::Suspend { .. } | Program::Serves, 2) => Go::On,
            (Program::Suspend { .. } | Program::Overtaken { .. } | Program::Serves, 3) => {
                if first {
                    self.join_unconfirmed(cx);
                    self.difference.turn(cx);
                }
                self.flush(cx, first)
            }
            (Program::Suspend { .. } | Program::Overtaken { .. } | Program::Serves, 4) => self.bits(),
            (Program::Suspend { state, reason }, 5) => {
                let id = Self::random_id(cx);
                let (state, reason) = (*state, reason.clone());
                self.save(cx, first, version, |live, next| {
                    next.record.state = state;
                    next.record.reason = reason;
                    next.record.generation = next.record.generation.child(id);
                    live.end_log(next);
                })
            }
            (Program::Overtaken { reason }, 5) => {
                let reason = reason.clone();
                self.save(cx, first, version, |live, next| {
                    next.record.state = State::Psue;
                    next.record.overtaken = true;
                    next.record.fence = None;
                    next.record.reason = reason;
                    live.end_log(next);
                })
            }
            (Program::Serves, 5) => self.serves_change(cx, first, version),
            (Program::Suspend { reason, .. }, _) => {
                let text = format!("the pair is suspended here: {reason}");
                self.drop_source();
                self.tracking = true;
                self.serving = true;
                self.complain(cx, text);
                Go::End
            }
            (Program::Overtaken { reason }, _) => {
                let text = format!("hosts may not write here any more: {reason}");
                self.drop_source();
                // For what hosts were answered before: new writes are refused.
                self.tracking = true;
                self.serving = true;
                self.complain(cx, text);
                Go::End
            }
            (Program::Serves, _) => {
                self.drop_source();
                self.tracking = true;
                self.serving = true;
                self.orders.ended = Some(Ended::Serves);
                Go::End
            }

            // What waits for a journal that takes nothing more would never end.
            (Program::Fence { .. }, 0) if self.source_ends.is_some() => Go::Drop,
            (Program::Fence { until, .. }, 0) => {
                let until = *until;
                self.modes(cx, first, Mode::Held { until })
            }
            (Program::Fence { request, .. }, 1) => {
                if first {
                    let sequence = self.take_sequence();
                    let bytes = request.to_le_bytes();
                    let Some(source) = &mut self.source else { return Go::Drop };
                    let none = (crate::mail::VolumeIndex(0), 0);
                    if !source.entry(cx, sequence, EntryKind::Swap, none, &bytes) {
                        self.source_ends = Some("the entry of a swap cannot be journaled".to_owned());
                    }
                    source.pump(cx);
                    self.orders.fencing = Some(sequence);
                }
                let wanted = self.orders.fencing.unwrap_or_default();
                if self.source_ends.is_some() {
                    return Go::Drop;
                }
                let stable = self.source.as_ref().map_or(Sequence::ZERO, |source| source.stable().1);
                if stable >= wanted { Go::On } else { Go::Wait }
            }
            (Program::Fence { .. }, 2) => self.flush(cx, first),
            (Program::Fence { request, .. }, 3) => {
                // A write that a volume here has refused, the other side has: then they are not the same.
                if first && self.source_ends.is_some() {
                    return Go::Drop;
                }
                let request = *request;
                let Some((place, sequence)) = self.source.as_ref().map(Source::stable) else {
                    return Go::Drop;
                };
                self.save(cx, first, version, |_, next| {
                    next.record.fence = Some(Fence { request, place, sequence });
                })
            }
            (Program::Fence { .. }, _) => {
                self.link.want_write = true;
                Go::End
            }

            (Program::Unfence, 0) => self.save(cx, first, version, |_, next| next.record.fence = None),
            (Program::Unfence, 1) => self.modes(cx, first, Mode::Journaling),
            (Program::Unfence, _) => {
                self.cancel = false;
                self.asked = cx.now;
                self.serving = true;
                self.orders.ended = Some(Ended::Unfenced);
                Go::End
            }

            (Program::Regain, 0) => self.save(cx, first, version, |_, next| next.record.overtaken = false),
            (Program::Regain, 1) => self.modes(cx, first, Mode::Tracking),
            (Program::Regain, _) => {
                self.tracking = true;
                self.serving = true;
                Go::End
            }

            (Program::Yield(_), 0) => self.stop_source(first),
            (Program::Yield(_), 1) => self.modes(cx, first, Mode::Secondary { reads: false }),
            // After a crash it was applied again: what a fence had flushed may be in the caches once more.
            (Program::Yield(_), 2) => self.flush(cx, first),
            (Program::Yield(formation), 3) => {
                let formation = *formation;
                let generation = self.far_generation();
                if first {
                    self.difference.forget();
                }
                self.save(cx, first, version, |_, next| {
                    follow(next, generation, formation);
                    next.record.state = State::Pair;
                    next.record.consistent = true;
                    next.record.bits = 0;
                })
            }
            (Program::Yield(_), 4) => {
                self.drop_source();
                self.cancel = false;
                let reads = self.may_read(&self.record().clone());
                self.modes(cx, first, Mode::Secondary { reads })
            }
            (Program::Yield(_), _) => {
                self.serving = true;
                self.begin_sink(cx);
                self.orders.ended = Some(Ended::Swapped);
                self.link.want_write = true;
                Go::End
            }

            (Program::Follow { far, full, formation }, 0) => {
                self.read_far_bits(cx, first, far, full, *formation)
            }
            (Program::Follow { .. }, 1) => self.stop_source(first),
            (Program::Follow { .. }, 2) => self.modes(cx, first, Mode::Secondary { reads: false }),
            // No bit is of what the reader has confirmed, and a recovery may have applied that again.
            (Program::Follow { .. }, 3) if self.source.is_some() => self.flush(cx, first),
            (Program::Follow { .. }, 3) => Go::On,
            // What was read and is not restored, the primary may have freed.
            (Program::Follow { full: false, .. }, 4) => self.tally(cx, first),
            (Program::Follow { .. }, 4) => Go::On,
            (Program::Follow { far, full, .. }, 5) => {
                if first {
                    self.join_unconfirmed(cx);
                    if *full {
                        self.difference.set_all();
                    } else {
                        self.difference.join(&far.bits);
                    }
                    self.difference.turn(cx);
                }
                self.bits()
            }
            (Program::Follow { formation, .. }, 6) => self.follow_change(cx, first, version, *formation),
            (Program::Follow { .. }, _) => {
                self.drop_source();
                self.drop_sink();
                self.rotten = false;
                self.serving = true;
                self.reads_after = None;
                self.begin_sink(cx);
                self.link.want_write = true;
                Go::End
            }

            (Program::Commit(fence), 0) => self.commit_change(cx, first, version, *fence),
            (Program::Commit(_), 1) => {
                let Some(plan) = self.orders.plan.take() else { return Go::Drop };
                self.drop_sink();
                self.difference.forget();
                self.reads_after = None;
                self.begin_source(cx, plan);
                Go::On
            }
            (Program::Commit(_), 2) => self.modes(cx, first, Mode::Journaling),
            (Program::Commit(_), _) => {
                self.orders.ended = Some(Ended::Swapped);
                self.link.want_write = true;
                Go::End
            }

            // What the own journal has lost differs from now on.
            (Program::Finish { .. }, 0) if self.rotten => self.tally(cx, first),
            (Program::Finish { .. }, 0) => Go::On,
            (Program::Finish { state, .. }, 1) => {
                // Who is to be written needs a set that is durable before.
                let tracks = *state == State::Psus { writable: true };
                if first && self.difference.set() == 0 && (tracks || self.difference.count() > 0) {
                    self.difference.begin_set(Self::random_word(cx));
                    self.difference.turn(cx);
                }
                self.bits()
            }
            (Program::Finish { state, reason }, 2) => self.finish_change(cx, first, version, *state, reason),
            (Program::Finish { .. }, 3) => {
                if first {
                    self.drop_sink();
                }
                let mode = self.mode_of(&self.record().clone());
                self.modes(cx, first, mode)
            }
            (Program::Finish { reason, .. }, _) => {
                self.tracking = self.record().writable();
                self.last_error.clone_from(reason);
                self.link.want_write = true;
                Go::End
            }

            // What was read, and is given up, the primary may have freed.
            (Program::TakeOver, 0) => self.tally(cx, first),
            (Program::TakeOver, 1) => {
                if first {
                    if self.difference.set() == 0 {
                        self.difference.begin_set(Self::random_word(cx));
                    }
                    self.difference.turn(cx);
                }
                self.bits()
            }
            (Program::TakeOver, 2) => self.takeover_change(cx, first, version),
            (Program::TakeOver, 3) => {
                if first {
                    self.drop_sink();
                    self.reads_after = None;
                }
                self.modes(cx, first, Mode::Tracking)
            }
            (Program::TakeOver, _) => {
                self.tracking = true;
                self.serving = true;
                self.orders.ended = Some(Ended::TakenOver);
                self.link.want_write = true;
                Go::End
            }

            (Program::Note(note), 0) => {
                let note = *note;
                self.save(cx, first, version, |_, next| match note {
                    Note::Paired => {
                        next.record.state = State::Pair;
                        next.record.bits = 0;
                    }
                    Note::Formed => {
                        next.record.state = State::Pair;
                        next.record.consistent = true;
                        next.record.bits = 0;
                    }
                    Note::Refused(request) => next.record.refused = Some(request),
                    Note::Discards => {
                        if let Some(formation) = &mut next.record.formation {
                            formation.discard = true;
                        }
                    }
                })
            }
            (Program::Note(note), _) => {
                if matches!(note, Note::Paired | Note::Formed) {
                    self.difference.forget();
                }
                if matches!(note, Note::Formed) {
                    let reads = self.may_read(&self.record().clone());
                    self.fronts.set(cx, Mode::Secondary { reads });
                }
                self.link.want_write = true;
                Go::End
            }

            (Program::Reshape(how), 0) => self.reshape(cx, first, how),
            (Program::Reshape(_), 1) => {
                let set = self.difference.set();
                self.save(cx, first, version, |_, next| next.record.bits = set)
            }
            (Program::Reshape(_), 2) => self.reshaped(cx, first),
            (Program::Reshape(how), _) => {
                let result =
                    OrderResult::Done("what is new counts as different until the next resync".to_owned());
                cx.actions.push(Action::Answer { order: how.order, result });
                self.link.want_write = true;
                Go::End
            }

            (Program::Delete, 0) => match (&mut self.sink, first) {
                (Some(sink), true) => {
                    self.goal = Some(Goal { stopping: true, ..Goal::new(Aim::TakeOver { force: true }) });
                    sink.stop(cx);
                    Go::Wait
                }
                (Some(_), false) if !self.goal.as_ref().is_some_and(|goal| goal.stopped) => Go::Wait,
                _ => Go::On,
            },
            (Program::Delete, 1) if !first && self.source_ends.is_some() => Go::On,
            // No journal is to end: writes go on until the volumes are plain.
            (Program::Delete, 1) if self.source.is_none() => Go::On,
            (Program::Delete, 1) => {
                self.modes(cx, first, Mode::Held { until: cx.now + Duration::from_secs(30) })
            }
            (Program::Delete, 2) => self.stop_source(first),
            (Program::Delete, 3) => self.flush(cx, first),
            (Program::Delete, 4) => self.save(cx, first, version, |live, next| {
                live.end_log(next);
                next.record.deleted = true;
                next.record.bits = 0;
            }),
            (Program::Delete, 5) => {
                if first {
                    self.drop_source();
                    self.drop_sink();
                    self.difference.forget();
                }
                self.modes(cx, first, Mode::Plain)
            }
            (Program::Delete, _) => {
                self.orders.ended = Some(Ended::Deleted);
                self.link.want_write = true;
                Go::End
            }
        }
    }
}

/// A side is the secondary of that formation from its place on.
pub(super) fn follow(next: &mut Durable, generation: Generation, formation: Formation) {
    let Formation { place, sequence, .. } = formation;
    let record = &mut next.record;
    record.side = Side::Secondary;
    record.generation = generation;
    record.formation = Some(formation);
    record.fence = None;
    record.overtaken = false;
    record.takeover = None;
    record.reason.clear();
    let places = Places::starting(place.epoch, place.offset, sequence);
    let block = &mut next.block;
    (block.read, block.read_epoch, block.read_sequence) = (place.offset, place.epoch, sequence);
    (block.restored, block.restored_epoch) = (place.offset, place.epoch);
    (block.restored_sequence, block.restored_time) = (sequence, places.restored_time);
    block.restore_target = places.target;
    next.target_sequence = places.target_sequence;
}
