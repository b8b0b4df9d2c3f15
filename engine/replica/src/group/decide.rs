//! What comes next where no program runs: of the source and the sink, of the far page, of orders, and at start.

use super::Live;
use super::orders::Ended;
use super::paths::Aim;
use super::program::{FarBits, Note, Program, Running};
use crate::context::Context;
use crate::machine::{self, Decision};
use crate::record::{Side, State};
use kagami_types::Time;

impl Live {
    /// A far page that is newer than those before.
    pub(super) fn on_page(&mut self, cx: &mut Context<'_>) {
        self.news = true;
        // What becomes durable from now on may rest on it.
        self.saver.next.far_version = self.link.newest();
        self.confirm(cx);
        self.orders.on_page(self.link.far.as_deref());
    }

    /// A primary that has just started asks its peer before it serves.
    pub(super) fn waits_to_serve(&self) -> bool {
        if self.serving {
            return false;
        }
        let record = self.record();
        record.side == Side::Primary && record.state != State::Smpl && !record.overtaken && !record.deleted
    }

    /// What comes next, where nothing is under way. Whether something does.
    pub(super) fn next_work(&mut self, cx: &mut Context<'_>) -> bool {
        if self.recovering || self.record().deleted {
            return self.next_order(cx);
        }
        let record = self.record().clone();
        self.look_at_damage(cx, &record);
        if let Some(why) = self.source_ends.clone()
            && record.journals()
            && self.source.is_some()
            && self.serving
        {
            if record.fence.is_none() {
                return self.run(Program::Suspend { state: State::Psue, reason: why });
            }
            // Fenced, everything is stable and destaged already.
            self.source_ends = None;
        }
        if self.stop_sink(cx) {
            return true;
        }
        if let Some(program) = self.goal_program(&record) {
            return self.run(program);
        }
        if let Some(sequence) = self.orders.formed.take()
            && record.side == Side::Secondary
            && record.state == State::Copy
            && self.goal.is_none()
            && self.places().restored_sequence >= sequence
        {
            return self.run(Program::Note(Note::Formed));
        }
        if std::mem::take(&mut self.news) && self.decided(cx, &record) {
            return true;
        }
        if !self.serving && (!self.waits_to_serve() || self.asks_no_more(cx.now)) {
            return self.run(Program::Serve);
        }
        self.next_order(cx)
    }

    /// What recovery found damaged, the volumes have: hosts go on. A reader that lacks it can not have it from here.
    fn look_at_damage(&mut self, cx: &mut Context<'_>, record: &crate::Record) {
        let Some(source) = self.source.as_ref().filter(|_| self.serving && record.journals()) else { return };
        let Some((from, to)) = self.damaged.take() else { return };
        let read = source.confirmed() >= to;
        let what = format!("its journal is damaged between {from} and {to}");
        if read {
            self.complain(cx, format!("{what}; the other array had read it before, so nothing is lost"));
        } else if self.source_ends.is_none() {
            self.source_ends =
                Some(format!("{what}: nobody knows what was changed there, so all is to be copied"));
        }
    }

    fn run(&mut self, program: Program) -> bool {
        self.running = Some(Running::new(program));
        true
    }

    pub(super) fn begin(&mut self, program: Program) -> bool {
        self.run(program)
    }

    fn asks_no_more(&self, now: Time) -> bool {
        if self.again {
            return true;
        }
        let heard = self.link.heard.is_some() && self.link.far.as_deref().is_some_and(|far| !far.recovering);
        let waited = now.since(self.started) >= self.plan.options.restart_wait;
        heard || (waited && self.plan.options.alone_serves)
    }

    /// The sink has come to its goal, and stopped.
    fn goal_program(&mut self, record: &crate::Record) -> Option<Program> {
        let goal = self.goal.take_if(|goal| goal.stopped)?;
        let reached = goal.drained.is_some() && !goal.failed;
        let program = match goal.what {
            Aim::Finish { state, reason } => Program::Finish { state, reason },
            Aim::Follow(formation) => {
                self.sink = None;
                let full = record.state == State::Smpl;
                Program::Follow { formation, full, far: FarBits::default() }
            }
            Aim::Swap(fence) if reached && record.refused != Some(fence.request) => Program::Commit(fence),
            Aim::TakeOver { force } if reached || force => Program::TakeOver,
            Aim::Swap(_) => {
                Program::Finish { state: State::Psue, reason: "a swap could not be finished here".to_owned() }
            }
            Aim::TakeOver { .. } => {
                self.orders.ended = Some(Ended::TakeOverFailed);
                Program::Finish {
                    state: State::Psue,
                    reason: "what was read could not be restored".to_owned(),
                }
            }
        };
        Some(program)
    }

    /// What the far page makes of this side. Whether something was begun.
    fn decided(&mut self, cx: &mut Context<'_>, record: &crate::Record) -> bool {
        let Some(far) = self.link.far.as_deref() else { return false };
        let alone = self.difference.count() > 0 && record.bits != 0;
        let decision = machine::decide(record, alone, far);
        self.orders.decided(record, &decision);
        let fits = far.shape == self.shape;
        let (their_state, reason) = (far.record.state, far.record.reason.clone());
        self.split_brain = decision == Decision::SplitBrain;
        if !fits && matches!(decision, Decision::Begin | Decision::Follow(_)) {
            self.complain(cx, "the volumes of the two sides differ in size: they cannot be paired");
            return false;
        }
        match decision {
            Decision::Nothing | Decision::SplitBrain => false,
            Decision::Begin => self.run(Program::Begin { discard: false }),
            Decision::Follow(formation) => {
                if self.goal.as_ref().is_some_and(|goal| goal.what == Aim::Follow(formation)) {
                    return false;
                }
                let pulls = record.side == Side::Secondary && (self.sink.is_some() || self.is_behind());
                if pulls && !record.writable() {
                    return self.aim(cx, Aim::Follow(formation));
                }
                let full = record.state == State::Smpl;
                self.run(Program::Follow { formation, full, far: FarBits::default() })
            }
            Decision::Paired => self.run(Program::Note(Note::Paired)),
            Decision::Suspend => {
                let reason = format!("the secondary is suspended ({}): {reason}", their_state.name());
                self.run(Program::Suspend { state: State::Psue, reason })
            }
            Decision::Finish(state) => {
                let reason = if reason.is_empty() { "split".to_owned() } else { reason };
                if self.goal.is_some() { false } else { self.aim(cx, Aim::Finish { state, reason }) }
            }
            Decision::Swap(fence) if self.sink.as_ref().is_some_and(crate::Sink::is_limited) => {
                // An operator holds restore back: this side would never be what the primary was.
                let refused = self.refuse(cx, fence.request);
                if refused {
                    let why =
                        "a swap is refused: restore has a limit (an order to restore without one lifts it)";
                    self.complain(cx, why);
                }
                refused
            }
            Decision::Swap(fence) => self.aim(cx, Aim::Swap(fence)),
            Decision::Refuse(request) => self.refuse(cx, request),
            Decision::Regain => self.run(Program::Regain),
            Decision::Unfence => self.run(Program::Unfence),
            Decision::Yield(formation) => self.run(Program::Yield(formation)),
            Decision::Overtaken => {
                let reason = "the other side was taken over".to_owned();
                self.run(Program::Overtaken { reason })
            }
        }
    }

    /// Promises never to do that swap, and sets out for none any more: whoever hears of the promise serves again. Not so
    /// where one is about to be done.
    fn refuse(&mut self, cx: &mut Context<'_>, request: u128) -> bool {
        if let Some(goal) = self.goal.take_if(|goal| matches!(goal.what, Aim::Swap(_))) {
            if goal.stopping {
                self.goal = Some(goal);
                return false;
            }
            if let Some(sink) = &mut self.sink {
                sink.go_on(cx);
            }
        }
        self.run(Program::Note(Note::Refused(request)))
    }

    /// Why the group cannot go on.
    pub(super) fn fatal(&mut self) -> Option<String> {
        self.orders.fatal.take()
    }
}
