//! Orders: given here, or at the other side and brought by its page; carried out here, or sent there.
//!
//! An order waits for conditions that are asked anew after each event, never for a call. So it may be repeated, and what it
//! waits for may also come about in another way.

mod begin;

use super::Live;
use super::paths::Aim;
use crate::action::{Action, OrderResult};
use crate::context::Context;
use crate::machine::{Decision, Verdict, accept};
use crate::order::{Loser, Order};
use crate::page::{ORDERS, PageAnswer, PageOrder, StatusPage};
use crate::record::{Record, Side, State};
use crate::source::SourcePlan;
use kagami_journal::Ending;
use kagami_types::{JournalPos, Sequence, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Orders that wait at most.
const PENDING: usize = 32;
/// Answers to the other side that are kept for it to ask again.
const DONE: usize = 16;
/// A far page older than that says nothing of now.
const FRESH: Duration = Duration::from_secs(3);
/// After that a dry run says that the other side is silent.
const SILENT: Duration = Duration::from_millis(1500);

const SWAP: Order = Order::Swap { dry_run: false };

const LOOK: Duration = Duration::from_millis(100);

/// Who gave an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Here(u64),
    There(u128),
}

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    New,
    Forwarded(u128),
    /// A split waits until the reader has that.
    Drains(Sequence),
    Splits,
    Resyncs,
    Swaps,
    Cancels,
    TakesOver,
    Serves,
    Marks(Sequence),
    Acquires,
    /// Up to a limit, which is durable with that version of the superblock.
    Restores(u64),
    /// Restoring has no limit any more; so is that.
    Unlimited(u64),
    Deletes,
}

#[derive(Debug)]
struct Pending {
    from: From,
    what: Order,
    since: Time,
    at: At,
}

/// A program has ended that an order may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Serves,
    Unfenced,
    Swapped,
    TakenOver,
    TakeOverFailed,
    Deleted,
}

/// The orders of a group, and what programs leave for each other.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pending: Vec<Pending>,
    done: VecDeque<(u128, OrderResult)>,
    /// What the far page answers to orders from here, and asks of this side.
    answers: Vec<PageAnswer>,
    asked: Vec<PageOrder>,
    /// A new journal begins so.
    pub(super) plan: Option<SourcePlan>,
    /// The sequence of a swap's entry.
    pub(super) fencing: Option<Sequence>,
    /// The sink's copy is complete.
    pub(super) formed: Option<Sequence>,
    /// It has restored or read what an order wanted.
    pub(super) restored: Option<Sequence>,
    /// The marker to be restored to is not there.
    pub(super) no_marker: bool,
    pub(super) acquired: Option<u64>,
    /// The group cannot go on.
    pub(super) fatal: Option<String>,
    /// Where a journal that has no formation yet begins.
    pub(super) unnamed: Option<(JournalPos, Sequence)>,
    pub(super) ended: Option<Ended>,
    looked: Time,
    /// Every row of the decision table that was seen: for coverage.
    pub(super) seen: Vec<(Side, State, &'static str)>,
    /// What recovery found where the journal ended: for coverage.
    pub(super) ending: Option<Ending>,
}

enum Next {
    Stay,
    Moved,
    Answer(OrderResult),
}

impl Orders {
    /// Those that were given here and are not answered.
    pub(super) fn given_here(&mut self) -> Vec<u64> {
        let pending = self.pending.drain(..).filter_map(|pending| match pending.from {
            From::Here(order) => Some(order),
            From::There(_) => None,
        });
        pending.collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn on_page(&mut self, far: Option<&StatusPage>) {
        let Some(far) = far else { return };
        self.answers.clone_from(&far.answers);
        self.asked.clone_from(&far.orders);
        // The other side has heard of all that it does not ask any more.
        self.done.retain(|(request, _)| far.orders.iter().any(|order| order.request == *request));
    }

    /// For the page: orders for the other side, answers to its.
    pub(super) fn for_page(&self) -> (Vec<PageOrder>, Vec<PageAnswer>) {
        let forwarded = self.pending.iter().filter_map(|pending| match pending.at {
            At::Forwarded(request) => Some(PageOrder { request, order: flipped(&pending.what) }),
            _ => None,
        });
        let done = self.done.iter().rev();
        let answers = done.map(|(request, result)| PageAnswer { request: *request, result: result.clone() });
        (forwarded.take(ORDERS).collect(), answers.take(ORDERS).collect())
    }

    /// Conditions of time are looked at now and then while an order waits.
    pub(super) fn next_deadline(&self) -> Time {
        if self.pending.is_empty() { Time::NEVER } else { self.looked + LOOK }
    }

    pub(super) fn on_tick(&mut self, now: Time) {
        if now >= self.looked + LOOK {
            self.looked = now;
        }
    }

    pub(super) fn decided(&mut self, own: &Record, decision: &Decision) {
        let name = match decision {
            Decision::Nothing => return,
            Decision::Begin => "begin",
            Decision::Follow(_) => "follow",
            Decision::Paired => "paired",
            Decision::Suspend => "suspend",
            Decision::Finish(_) => "finish",
            Decision::Swap(_) => "swap",
            Decision::Refuse(_) => "refuse",
            Decision::Unfence => "unfence",
            Decision::Yield(_) => "yield",
            Decision::Overtaken => "overtaken",
            Decision::Regain => "regain",
            Decision::SplitBrain => "split brain",
        };
        let row = (own.side, own.state, name);
        if !self.seen.contains(&row) {
            self.seen.push(row);
        }
    }
}

impl super::Group {
    /// The rows of the decision table that this group has gone through: for coverage in tests.
    #[must_use]
    pub fn seen(&self) -> &[(Side, State, &'static str)] {
        match &self.stage {
            super::Stage::Live(live) => &live.orders.seen,
            _ => &[],
        }
    }

    /// What was where this life's recovery found its journal to end, where there was one: for coverage in tests.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        match &self.stage {
            super::Stage::Live(live) => live.orders.ending,
            _ => None,
        }
    }
}

/// What is here to one is there to the other.
fn flipped(order: &Order) -> Order {
    match order {
        Order::Resync { discard } => Order::Resync {
            discard: discard.map(|loser| match loser {
                Loser::Here => Loser::There,
                Loser::There => Loser::Here,
            }),
        },
        other => other.clone(),
    }
}

impl Live {
    pub(super) fn on_order(&mut self, cx: &mut Context<'_>, order: u64, what: Order) {
        self.receive(cx, From::Here(order), what);
        self.turn(cx);
    }

    fn receive(&mut self, cx: &mut Context<'_>, from: From, what: Order) {
        if self.orders.pending.len() >= PENDING {
            let result = OrderResult::Refused("too many orders wait: try again".to_owned());
            return self.answer(cx, from, result);
        }
        self.link.want_read = true;
        self.orders.pending.push(Pending { from, what, since: cx.now, at: At::New });
    }

    fn answer(&mut self, cx: &mut Context<'_>, from: From, result: OrderResult) {
        match from {
            From::Here(order) => cx.actions.push(Action::Answer { order, result }),
            From::There(request) => {
                self.orders.done.push_back((request, result));
                while self.orders.done.len() > DONE {
                    self.orders.done.pop_front();
                }
            }
        }
        self.link.want_write = true;
    }

    /// Orders of the other side that are new.
    fn take_asked(&mut self, cx: &mut Context<'_>) {
        for PageOrder { request, order } in std::mem::take(&mut self.orders.asked) {
            let pending = self.orders.pending.iter().any(|pending| pending.from == From::There(request));
            let done = self.orders.done.iter().any(|(known, _)| *known == request);
            if !pending && !done {
                self.receive(cx, From::There(request), order);
            }
        }
    }

    /// Goes on with orders. Whether one went on.
    pub(super) fn next_order(&mut self, cx: &mut Context<'_>) -> bool {
        self.take_asked(cx);
        let mut at = 0;
        let mut moved = false;
        while at < self.orders.pending.len() {
            match self.order(cx, at) {
                Next::Stay => at += 1,
                Next::Moved => {
                    moved = true;
                    at += 1;
                }
                Next::Answer(result) => {
                    let pending = self.orders.pending.remove(at);
                    self.answer(cx, pending.from, result);
                    moved = true;
                }
            }
            if self.running.is_some() {
                return true;
            }
        }
        self.orders.ended = None;
        moved
    }

    fn set(&mut self, at: usize, to: At) -> Next {
        if let Some(pending) = self.orders.pending.get_mut(at) {
            pending.at = to;
        }
        Next::Moved
    }

    fn order(&mut self, cx: &mut Context<'_>, at: usize) -> Next {
        let Some(pending) = self.orders.pending.get(at) else { return Next::Stay };
        let (what, stage, since) = (pending.what.clone(), pending.at, pending.since);
        let late = cx.now.since(since) >= self.plan.options.order_wait;
        let record = self.record().clone();
        match stage {
            At::New => self.new_order(cx, at, &what, since),
            // It came about, and whoever did it crashed before it could say so: another life of it would swap once more.
            At::Forwarded(_) if record.side == Side::Primary && what == SWAP => {
                Next::Answer(OrderResult::Swapped)
            }
            At::Forwarded(request) => {
                if let Some(answer) = self.orders.answers.iter().find(|answer| answer.request == request) {
                    return Next::Answer(answer.result.clone());
                }
                let reached = self.link.fresh(cx.now, FRESH).is_some();
                match (late, reached) {
                    (false, _) => Next::Stay,
                    (true, true) => Next::Answer(OrderResult::TimedOut(
                        "the other array has the order, and has not answered yet".to_owned(),
                    )),
                    (true, false) => Next::Answer(OrderResult::Unreachable(self.link.error.clone())),
                }
            }
            At::Drains(sequence) => {
                let far = self.link.fresh(cx.now, FRESH);
                let has = far.is_none_or(|far| far.reading.read_sequence >= sequence);
                let half = cx.now.since(since) >= self.plan.options.order_wait / 2;
                if !record.journals() {
                    return self.set(at, At::Splits);
                }
                if record.fence.is_some() {
                    // It came meanwhile; only the other side's word ends it.
                    return Next::Answer(OrderResult::Refused("a swap is under way".to_owned()));
                }
                if half || has && self.is_destaged(cx, since) {
                    return self.split(at, &what);
                }
                Next::Stay
            }
            At::Splits => {
                let far = self.link.fresh(cx.now, FRESH).map(|far| far.record.state);
                match (record.state, far) {
                    (State::Copy | State::Pair, _) => Next::Stay,
                    (State::Psue, _) => Next::Answer(OrderResult::Failed(format!(
                        "the pair was suspended by an error instead: {}",
                        record.reason
                    ))),
                    (_, Some(State::Psus { .. })) => {
                        Next::Answer(OrderResult::Done("the pair is split".to_owned()))
                    }
                    (_, Some(State::Psue)) => Next::Answer(OrderResult::Failed(
                        "the pair is split here; the secondary was suspended by an error".to_owned(),
                    )),
                    _ if late => Next::Answer(OrderResult::TimedOut(
                        "the pair is split here; the secondary does not have the difference yet".to_owned(),
                    )),
                    _ => Next::Stay,
                }
            }
            At::Resyncs => {
                let far = self.link.fresh(cx.now, FRESH).and_then(|far| far.record.formation);
                let same =
                    record.formation.is_some_and(|own| far.is_some_and(|far| far.request == own.request));
                match (record.state, same) {
                    (State::Copy | State::Pair, true) => {
                        Next::Answer(OrderResult::Done("the difference is being copied".to_owned()))
                    }
                    (State::Copy | State::Pair, false) if !late => Next::Stay,
                    (State::Copy | State::Pair, false) => Next::Answer(OrderResult::TimedOut(
                        "this side is ready; the other does not follow yet".to_owned(),
                    )),
                    _ => {
                        Next::Answer(OrderResult::Failed(format!("the pair is suspended: {}", record.reason)))
                    }
                }
            }
            At::Swaps if record.side == Side::Secondary => Next::Answer(OrderResult::Swapped),
            At::Swaps if record.fence.is_none() => Next::Answer(OrderResult::Failed(
                "the swap did not come about; the primary goes on".to_owned(),
            )),
            At::Swaps if late => Next::Answer(OrderResult::TimedOut(
                "the primary has stopped, and waits for the secondary: repeat the swap, or cancel it"
                    .to_owned(),
            )),
            At::Cancels if record.side == Side::Secondary => {
                Next::Answer(OrderResult::Refused("the swap is done".to_owned()))
            }
            At::Cancels if record.fence.is_none() => {
                Next::Answer(OrderResult::Done("the swap is given up".to_owned()))
            }
            At::Cancels if late => Next::Answer(OrderResult::TimedOut(
                "the other array has not given up the swap yet, and this side stays stopped".to_owned(),
            )),
            At::TakesOver if record.state == State::Ssws || self.orders.ended == Some(Ended::TakenOver) => {
                Next::Answer(OrderResult::TakenOver(self.lost(&record, "taken over")))
            }
            // The primary had stopped for a swap meanwhile.
            At::TakesOver if record.side == Side::Primary => Next::Answer(OrderResult::Swapped),
            At::TakesOver if self.goal.is_none() && self.orders.ended.is_none() => {
                // Something else came first. Then it is not what it was when the order was accepted.
                let alone = self.difference.count() > 0 && record.bits != 0;
                if let Verdict::Refused(why) = accept(&record, alone, self.link.fresh(cx.now, FRESH), &what) {
                    return Next::Answer(OrderResult::Refused(why.to_owned()));
                }
                let force = matches!(what, Order::Takeover { force: true, .. });
                if self.aim(cx, Aim::TakeOver { force }) { Next::Moved } else { Next::Stay }
            }
            At::TakesOver if late => Next::Answer(OrderResult::TimedOut(
                "what was read is still being restored; the takeover goes on".to_owned(),
            )),
            At::TakesOver if self.orders.ended == Some(Ended::TakeOverFailed) => {
                Next::Answer(OrderResult::Failed(format!("not taken over: {}", self.last_error)))
            }
            At::Serves if record.fence.is_none() && !record.overtaken => Next::Answer(
                OrderResult::TakenOver("this side serves again, apart from the other".to_owned()),
            ),
            At::Marks(sequence) => {
                let wait = matches!(what, Order::Marker { wait: true, .. });
                let stable = self.source.as_ref().map(|source| source.stable().1);
                let far = self.link.far.as_deref();
                let same = far.is_some_and(|far| {
                    record.formation.is_some_and(|own| own.request == far.reading.request)
                });
                let there = far.is_some_and(|far| same && far.reading.restored_sequence >= sequence);
                match stable {
                    None => Next::Answer(OrderResult::Failed("the pair was suspended meanwhile".to_owned())),
                    Some(stable) if (!wait && stable >= sequence) || there => {
                        Next::Answer(OrderResult::Done(format!("marked at {sequence}")))
                    }
                    _ if late => Next::Answer(OrderResult::TimedOut(format!(
                        "marked at {sequence}; the secondary has not restored that yet"
                    ))),
                    _ => Next::Stay,
                }
            }
            At::Acquires => match self.orders.acquired.take() {
                Some(to) => Next::Answer(OrderResult::Done(format!("read up to {to}"))),
                None if late => Next::Answer(OrderResult::TimedOut("reading goes on".to_owned())),
                None => Next::Stay,
            },
            At::Restores(limit) | At::Unlimited(limit) if !self.saver.is_durable(limit) => match late {
                true => Next::Answer(OrderResult::TimedOut(
                    "the journal takes no limit of restore yet".to_owned(),
                )),
                false => Next::Stay,
            },
            At::Unlimited(_) => {
                Next::Answer(OrderResult::Done("restoring goes on without a limit".to_owned()))
            }
            At::Restores(_) => match self.orders.restored.take() {
                None if std::mem::take(&mut self.orders.no_marker) => {
                    let text = "that marker is not among what was read: nothing was restored";
                    Next::Answer(OrderResult::Refused(text.to_owned()))
                }
                Some(to) => Next::Answer(OrderResult::Done(format!("restored up to {to}"))),
                None if late => Next::Answer(OrderResult::TimedOut(
                    "not there yet; restoring goes on until it is, and ends there".to_owned(),
                )),
                None => Next::Stay,
            },
            At::Deletes if record.deleted => {
                Next::Answer(OrderResult::Done("the pair is deleted at this side".to_owned()))
            }
            At::Swaps | At::Cancels | At::TakesOver | At::Serves | At::Deletes => Next::Stay,
        }
    }
}
