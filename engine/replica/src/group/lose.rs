//! A volume's device has lost what it had not made stable: the group begins anew, as after a crash, without its process
//! having ended.
//!
//! Everything that the journal has and no checkpoint covers may be missing in such a volume, whatever hosts were told of it: the
//! journal has to be applied again before anybody reads there. A start does just that, on either side, from what is durable. So
//! all that is under way is brought to its end, nothing more is said to be destaged or restored, and the journal is
//! recovered. The front of that volume lets no host in from the moment when the device came back.

use super::program::Program;
use super::{Live, Running};
use crate::action::{Action, OrderResult};
use crate::context::Context;
use crate::mail::{Mode, VolumeIndex};
use crate::sink::Sink;
use crate::source::{Source, SourceEvent};

/// How far a group is that is to begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Losing {
    #[default]
    No,
    /// What hosts have under way ends.
    Hosts,
    /// So do the paths, and what goes to the journal's device.
    Paths,
    /// The last mode is to hold.
    Fronts,
    /// Now.
    Done,
}

impl Live {
    /// A volume's device came back without what was not stable there.
    pub(super) fn lose(&mut self, cx: &mut Context<'_>, volume: VolumeIndex) {
        let again = matches!(self.losing, Losing::No | Losing::Hosts);
        if self.record().deleted || !again {
            // What is read of the journal from now on is applied after this.
            return;
        }
        self.complain(
            cx,
            format!(
                "the device of volume {} may have lost what it had not made stable: the journal is applied again",
                volume.0
            ),
        );
        if self.losing == Losing::No {
            self.losing = Losing::Hosts;
            // What waits for the journal still gets there; of a group that recovers, nothing is under way.
            let writes = self.source_ends.is_none() && self.source.as_ref().is_some_and(Source::takes);
            let mode = match self.fronts.mode {
                Some(Mode::Journaling | Mode::Held { .. }) if !writes => Mode::Stopped,
                // The suspension has not come to where bits count, and does not go on: what was answered is in no journal.
                Some(Mode::Tracking) if !self.tracking => Mode::Stopped,
                Some(Mode::Journaling | Mode::Held { .. } | Mode::Tracking) => Mode::Held { until: cx.now },
                _ => Mode::NotReady,
            };
            self.fronts.set(cx, mode);
        }
    }

    /// Goes on to where all is quiet.
    pub(super) fn lose_turn(&mut self, cx: &mut Context<'_>) {
        let mut full = false;
        while let Some(event) = self.source.as_mut().and_then(Source::next_event) {
            full |= matches!(event, SourceEvent::Full | SourceEvent::Failed(_));
            self.source_stopped |= matches!(event, SourceEvent::Stopped { .. });
        }
        while self.sink.as_mut().and_then(Sink::next_event).is_some() {}
        if self.losing == Losing::Hosts {
            self.saver.turn(cx);
            self.difference.turn(cx);
            self.answer_marks(cx);
            // No room comes any more: what is freed is in no superblock, and what is destaged does not count.
            full |= self.source.as_ref().is_some_and(Source::is_full);
            if full && self.fronts.mode != Some(Mode::Stopped) {
                // What waits for it is given up.
                self.fronts.set(cx, Mode::Stopped);
            }
            if self.fronts.holds() {
                self.losing = Losing::Paths;
                if let Some(source) = &mut self.source {
                    source.stop();
                }
                if let Some(sink) = &mut self.sink {
                    sink.stop(cx);
                }
                return self.lose_turn(cx);
            }
        }
        if self.losing == Losing::Paths {
            // What was going on before may have stopped them already.
            let paths = (self.source.is_none() || self.source_stopped)
                && self.sink.as_ref().is_none_or(Sink::has_stopped);
            let applying = matches!(&self.running,
                Some(Running { program: Program::Recover(recovering), .. }) if recovering.is_applying());
            if paths && !applying && self.saver.is_quiet() && self.difference.is_quiet() {
                self.losing = Losing::Fronts;
                self.fronts.set(cx, Mode::NotReady);
            }
        }
        if self.losing == Losing::Fronts && self.fronts.holds() {
            self.losing = Losing::Done;
        }
    }

    /// Orders do not outlive this.
    pub(super) fn end_orders(&mut self, cx: &mut Context<'_>) {
        let mut given = self.orders.given_here();
        given.extend(self.running.as_ref().and_then(Running::reshapes));
        for order in given {
            let why =
                "the group has begun anew, as a device had lost writes; whether it was done, its state tells";
            cx.actions.push(Action::Answer { order, result: OrderResult::TimedOut(why.to_owned()) });
        }
    }
}
