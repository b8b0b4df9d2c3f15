//! An order that has just come: what is done about it at once, or for what it waits.

use super::{At, FRESH, From, Next, SILENT, SWAP};
use crate::action::OrderResult;
use crate::context::Context;
use crate::group::Live;
use crate::group::paths::Aim;
use crate::group::program::{Note, Program};
use crate::machine::{Verdict, accept};
use crate::mail::VolumeIndex;
use crate::order::{Loser, NAME, Order, RestoreTo};
use crate::record::{Record, Side, State};
use crate::sink::Limit;
use kagami_journal::EntryKind;
use kagami_types::{Sequence, Time};
use std::time::Duration;

impl Live {
    pub(super) fn split(&mut self, at: usize, what: &Order) -> Next {
        let writable = matches!(what, Order::Split { writable: true });
        self.set(at, At::Splits);
        let reason = "split by the operator".to_owned();
        self.begin(Program::Suspend { state: State::Psus { writable }, reason });
        Next::Moved
    }

    pub(super) fn is_theirs(&self, at: usize) -> bool {
        self.orders.pending.get(at).is_some_and(|pending| matches!(pending.from, From::There(_)))
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each order")]
    pub(super) fn new_order(&mut self, cx: &mut Context<'_>, at: usize, what: &Order, since: Time) -> Next {
        if self.recovering || !self.serving {
            let takes = matches!(what, Order::Takeover { .. } | Order::Delete) && !self.recovering;
            if !takes {
                let waited = cx.now.since(since) >= self.plan.options.order_wait;
                let refused = OrderResult::Refused("the group is starting: try again".to_owned());
                return if waited { Next::Answer(refused) } else { Next::Stay };
            }
        }
        let record = self.record().clone();
        let alone = self.difference.count() > 0 && record.bits != 0;
        let far = self.link.fresh(cx.now, FRESH);
        let reached = far.is_some();
        let patience = self.plan.options.order_wait.min(Duration::from_secs(3));
        match accept(&record, alone, far, what) {
            Verdict::Already(text) => return Next::Answer(OrderResult::Already(text.to_owned())),
            // The page may be about to change: a state just left is not refused at once.
            Verdict::Refused(text) => return Next::Answer(OrderResult::Refused(text.to_owned())),
            Verdict::Unreachable(_) if cx.now.since(since) < patience => return Next::Stay,
            Verdict::Unreachable(text) => {
                return Next::Answer(OrderResult::Unreachable(format!("{text}: {}", self.link.error)));
            }
            // The other side sent it here as to the primary, which it is itself by now.
            Verdict::Forward if *what == SWAP && self.is_theirs(at) => {
                return Next::Answer(OrderResult::Swapped);
            }
            Verdict::Forward => {
                let request = Self::random_id(cx);
                self.link.want_write = true;
                return self.set(at, At::Forwarded(request));
            }
            Verdict::Accepted => {}
        }
        match what {
            Order::Split { .. } => {
                if record.state == State::Copy || !reached {
                    return self.split(at, what);
                }
                let sequence = self.source.as_ref().map_or(Sequence::ZERO, |source| source.stable().1);
                self.set(at, At::Drains(sequence))
            }
            Order::Resync { .. } if far.is_some_and(|far| far.shape != self.shape) => {
                Next::Answer(OrderResult::Refused(
                    "the volumes of the two sides differ: each must have as many, of the same sizes"
                        .to_owned(),
                ))
            }
            Order::Resync { discard } => {
                self.set(at, At::Resyncs);
                if record.state == State::Copy {
                    self.begin(Program::Note(Note::Discards));
                    return Next::Moved;
                }
                self.begin(Program::Begin { discard: *discard == Some(Loser::There) });
                Next::Moved
            }
            Order::Swap { dry_run } => {
                let behind = self.swap_lag(cx);
                if *dry_run {
                    let silent = self.link.heard.map_or(Duration::ZERO, |heard| cx.now.since(heard));
                    let text = if silent >= SILENT {
                        format!(
                            "the other array has not been heard of for {:.1} s; if it is there, a swap would stop this \
                             side, bring what is missing to it ({behind:.1} s or more), and exchange them",
                            silent.as_secs_f64()
                        )
                    } else {
                        format!(
                            "a swap would stop this side, bring the last {behind:.1} s to the other, and exchange them"
                        )
                    };
                    return Next::Answer(OrderResult::Done(text));
                }
                if record.fence.is_some() {
                    self.link.want_write = true;
                    return self.set(at, At::Swaps);
                }
                if behind > self.plan.options.swap_lag.as_secs_f64() {
                    return Next::Answer(OrderResult::Refused(format!(
                        "the secondary is {behind:.1} s behind"
                    )));
                }
                if !self.is_destaged(cx, since) && cx.now.since(since) < self.plan.options.order_wait / 2 {
                    let cancelled = self.orders.pending.iter().any(|other| other.what == Order::CancelSwap);
                    let refused = OrderResult::Refused("it was cancelled before it had begun".to_owned());
                    return if cancelled { Next::Answer(refused) } else { Next::Stay };
                }
                let request = Self::random_id(cx);
                self.set(at, At::Swaps);
                self.cancel = false;
                self.begin(Program::Fence { request, until: cx.now + self.plan.options.swap_hold });
                Next::Moved
            }
            Order::CancelSwap => {
                self.cancel = true;
                self.link.want_write = true;
                self.set(at, At::Cancels)
            }
            Order::Takeover { dry_run, force } => {
                if *dry_run {
                    return Next::Answer(OrderResult::Done(
                        self.lost(&record, "a takeover would serve here"),
                    ));
                }
                if record.side == Side::Primary {
                    self.set(at, At::Serves);
                    self.begin(Program::Serves);
                    return Next::Moved;
                }
                self.set(at, At::TakesOver);
                self.aim(cx, Aim::TakeOver { force: *force });
                Next::Moved
            }
            Order::Delete => {
                self.set(at, At::Deletes);
                self.begin(Program::Delete);
                Next::Moved
            }
            Order::Marker { name, .. } => {
                if name.is_empty() || name.len() >= NAME {
                    return Next::Answer(OrderResult::Refused(format!(
                        "a marker's name has 1 to {} bytes",
                        NAME - 1
                    )));
                }
                let sequence = self.take_sequence();
                let Some(source) = &mut self.source else { return Next::Stay };
                if !source.entry(cx, sequence, EntryKind::Marker, (VolumeIndex(0), 0), name.as_bytes()) {
                    // The sequence is taken, so something must be in its place.
                    if !source.entry(cx, sequence, EntryKind::Nothing, (VolumeIndex(0), 0), &[]) {
                        self.source_ends = Some("a marker cannot be journaled".to_owned());
                    }
                    return Next::Answer(OrderResult::Failed("no page is free for the marker".to_owned()));
                }
                source.pump(cx);
                self.set(at, At::Marks(sequence))
            }
            Order::Acquire { to } => {
                if self.plan.options.poller {
                    let text = "this group is driven by its poller, not by orders";
                    return Next::Answer(OrderResult::Refused(text.to_owned()));
                }
                // All that is there: not what was there when a page came last, which here may be long ago.
                if *to == 0 && self.link.answered.is_none_or(|asked| asked < since) {
                    if cx.now.since(since) < patience {
                        return Next::Stay;
                    }
                    let text = format!("the other array has not said what there is: {}", self.link.error);
                    return Next::Answer(OrderResult::Unreachable(text));
                }
                let all = self.link.far.as_deref().map_or(0, |far| far.stable.offset);
                let to = if *to == 0 { all } else { *to };
                self.orders.acquired = None;
                if let Some(sink) = &mut self.sink {
                    sink.acquire(cx, to);
                }
                self.set(at, At::Acquires)
            }
            Order::Restore(to) => {
                (self.orders.restored, self.orders.no_marker) = (None, false);
                let Some(sink) = &mut self.sink else {
                    return Next::Answer(OrderResult::Refused("nothing is restored now".to_owned()));
                };
                let poller = self.plan.options.poller;
                let limit = match to {
                    RestoreTo::Read => Limit::None,
                    RestoreTo::Place(place) => Limit::Offset(*place),
                    RestoreTo::Time(time) => Limit::Time(*time),
                    RestoreTo::Marker(name) => Limit::Marker(name.clone().into_bytes()),
                };
                sink.set_limit(cx, limit);
                if poller && *to == RestoreTo::Read {
                    self.note_limit();
                    let version = self.saver.save();
                    return self.set(at, At::Unlimited(version));
                }
                // What a host drives goes as far as an order says, of what was read; the sink does so itself where it finds a
                // marker.
                if !poller && !matches!(to, RestoreTo::Marker(_)) {
                    let (read, _) = sink.read();
                    let end = if let RestoreTo::Place(place) = to { *place } else { read.offset };
                    sink.restore_up_to(cx, end);
                }
                // It holds over a restart.
                self.note_limit();
                let version = self.saver.save();
                self.set(at, At::Restores(version))
            }
            Order::Purge { to } => {
                let Some(source) = &mut self.source else { return Next::Stay };
                if *to > source.confirmed() {
                    return Next::Answer(OrderResult::Refused(format!(
                        "the reader has confirmed no more than {}",
                        source.confirmed()
                    )));
                }
                let limit = if *to == 0 { source.confirmed() } else { *to };
                source.limit_purge((!self.plan.options.poller).then_some(limit));
                // Whoever asks for room wants it now, not when the next checkpoint is due.
                source.checkpoint(cx);
                Next::Answer(OrderResult::Done(format!(
                    "freed up to {limit} as soon as it is in the volumes"
                )))
            }
        }
    }

    /// How many seconds the secondary is behind.
    pub(in crate::group) fn swap_lag(&self, cx: &Context<'_>) -> f64 {
        let Some((source, far)) = self.source.as_ref().zip(self.link.far.as_deref()) else { return 0.0 };
        if far.reading.restored_sequence >= source.stable().1 || far.reading.restored_time == 0 {
            return 0.0;
        }
        Duration::from_nanos(cx.wall.min(source.newest()).saturating_sub(far.reading.restored_time))
            .as_secs_f64()
    }

    /// What a takeover has, and what it gives up, as far as it is known.
    pub(super) fn lost(&self, record: &Record, what: &str) -> String {
        let places = self.places();
        let held = self.sink.as_ref().filter(|sink| sink.is_at_limit()).map(crate::Sink::applied);
        let (sequence, time) = match (record.takeover, held) {
            (Some(takeover), _) => (takeover.sequence, takeover.time),
            (None, Some(applied)) => applied,
            (None, None) => (places.read_sequence.max(places.restored_sequence), places.restored_time),
        };
        let mut text = format!("{what} at {sequence}");
        let behind = places.read_sequence.0.saturating_sub(sequence.0);
        if behind > 0 && (held.is_some() || record.takeover.is_some()) {
            text += &format!(
                "; {behind} writes that were read lie behind the limit of restore, and are given up"
            );
        }
        if let Some(far) = self.link.far.as_deref().filter(|far| far.record.side == Side::Primary) {
            let writes = far.stable_sequence.0.saturating_sub(sequence.0);
            let bytes = far.stable.offset.saturating_sub(places.read.offset);
            let seconds = Duration::from_nanos(far.newest_time.saturating_sub(time)).as_secs_f64();
            let seconds = if writes == 0 { 0.0 } else { seconds };
            text += &format!("; known to be lost: {writes} writes, {bytes} bytes of journal, {seconds:.1} s");
            text += "; what the primary wrote since it was last heard of is not known";
        } else {
            text += "; what is lost is not known, as the other array was not heard of";
        }
        if !record.consistent {
            text += "; the copy was not complete: the volumes are no moment of the primary";
        }
        text
    }
}
