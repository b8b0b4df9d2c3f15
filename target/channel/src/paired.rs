//! The volume of a pair: a front before its store, at the unit's home core.
//!
//! It has the interface of what it stands before ([`Backing`]). Host operations go to the front
//! ([`kagami_replica::Front`]), which gives writes their sequence and holds them until their group's journal has them;
//! reads that nothing hinders go straight to the store, under the unit's own tag. What the front wants of the store is
//! done under tags of slots that the unit does not have. Mail to the group leaves with the call's other messages.
//!
//! It decides nothing: which writes wait, and for what, is the front's, also where the store is busy; what hosts see of a
//! mode is the unit's (`unit/pair`).

use crate::backing::Backing;
use crate::message::{PairMail, UnitAddress};
use crate::spread::Growth;
use crate::unit::UnitContext;
use kagami_cache::store::DeferredError;
use kagami_memory::Scatter;
use kagami_replica::mail::{Mode, ToFront, VolumeIndex};
use kagami_replica::{Front, FrontPlan, Step};
use kagami_types::{BlockCount, BlockError, BlockOp, Time};
use kagami_volume::{Aborted, Outcome, Tag};
use std::collections::VecDeque;

/// The least number of operations that a front may have in the store at a time.
const LEAST: u16 = 16;

/// The part of a serial number that a spread store leaves alone.
const SERIAL: u64 = 0xffff_ffff;

/// The part of a task's serial number that is in its tag.
const TASK_SERIAL: u64 = (1 << 48) - 1;

/// An operation of the front's that the store has.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// As the front calls it.
    tag: u64,
    /// As the store does.
    inner: Tag,
}

/// An operation of the front's that waits for one of ours to end.
#[derive(Debug)]
struct Waiting {
    tag: u64,
    op: BlockOp,
    data: Scatter,
}

/// A paired volume; see the module.
#[derive(Debug)]
pub(crate) struct Paired {
    front: Front,
    pub(crate) inner: Backing,
    index: VolumeIndex,
    /// The journal unit whose group it belongs to.
    group: UnitAddress,
    /// The unit's task slots: ours come behind them.
    base: u16,
    calls: Box<[Option<Call>]>,
    free: Vec<u16>,
    serial: u64,
    /// In order: nothing overtakes the first.
    waiting: VecDeque<Waiting>,
    /// Host operations that ended, for the unit.
    ended: Vec<(Tag, Outcome)>,
    /// The front's operations that the store did at once.
    at_once: VecDeque<(u16, Outcome)>,
    /// Operations from before there was a front, and the serial number of the last of them.
    outside: (usize, u64),
    /// The WCE bit.
    write_back: bool,
    /// The configuration says that it is read-only.
    read_only: bool,
    /// A write that was answered and then lost: the first of which no host was told.
    deferred: Option<DeferredError>,
}

impl Paired {
    /// A front before a store. `slots`: the unit's; `serial`: of its last task; `write_back`: the WCE bit.
    pub(crate) fn new(
        mut inner: Backing,
        plan: FrontPlan,
        group: UnitAddress,
        slots: u16,
        serial: u64,
        how: (bool, bool),
    ) -> Self {
        let room = slots.max(LEAST).min(u16::MAX - slots).max(1);
        inner.widen(usize::from(slots) + usize::from(room));
        let outside = (inner.under_way(), serial);
        let index = plan.index;
        let mut front = Front::new(plan);
        front.set_write_back(how.0);
        if outside.0 > 0 {
            front.wait_for_outside();
        }
        let (write_back, read_only) = how;
        Self {
            front,
            inner,
            index,
            group,
            base: slots,
            calls: (0..room).map(|_| None).collect(),
            free: (0..room).rev().collect(),
            serial: 0,
            waiting: VecDeque::new(),
            ended: Vec::with_capacity(usize::from(slots)),
            at_once: VecDeque::new(),
            outside,
            write_back,
            read_only,
            deferred: None,
        }
    }

    /// The mode that its front is in.
    pub(crate) fn mode(&self) -> Mode {
        self.front.mode()
    }

    /// Whether the configuration says that it is read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether the front can be taken away: it is in no pair's service, and nothing of it is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.front.mode() == Mode::Plain
            && self.front.is_idle()
            && self.ended.is_empty()
            && self.free.len() == self.calls.len()
    }

    /// As [`Backing::submit`].
    #[inline]
    pub(crate) fn submit(
        &mut self,
        cx: &mut UnitContext<'_>,
        tag: Tag,
        op: BlockOp,
        data: Scatter,
    ) -> Option<Outcome> {
        if self.front.passes(&op) {
            return self.inner.submit(cx, tag, op, data);
        }
        self.front.submit(cx.now, tag.0, op, data);
        self.go_on(cx);
        None
    }

    /// The front is there: it begins, in its first mode.
    pub(crate) fn begin(&mut self, cx: &mut UnitContext<'_>) {
        self.tell_store(cx);
        self.go_on(cx);
    }

    /// As [`Backing::grow`]. Where the store tells later how it went, the front only ever sees what hosts may name by then.
    pub(crate) fn grow(&mut self, cx: &mut UnitContext<'_>, blocks: BlockCount) -> Growth {
        let growth = self.inner.grow(cx, blocks);
        if !matches!(growth, Growth::Refused) {
            self.front.grow(blocks);
        }
        growth
    }

    /// Past the front: the flush before a core ends.
    pub(crate) fn submit_inside(
        &mut self,
        cx: &mut UnitContext<'_>,
        tag: Tag,
        op: BlockOp,
        data: Scatter,
    ) -> Option<Outcome> {
        self.inner.submit(cx, tag, op, data)
    }

    /// As [`Backing::next_outcome`].
    pub(crate) fn next_outcome(&mut self, cx: &mut UnitContext<'_>) -> Option<(Tag, Outcome)> {
        loop {
            if let Some(ended) = self.ended.pop() {
                return Some(ended);
            }
            let (tag, outcome) = self.inner.next_outcome(cx)?;
            if let Some(call) = self.call_of(tag) {
                self.done(cx, call, outcome);
                self.go_on(cx);
                continue;
            }
            let (left, last) = &mut self.outside;
            if *left > 0 && tag.0 & TASK_SERIAL <= *last & TASK_SERIAL {
                *left -= 1;
                if *left == 0 {
                    self.front.outside_ended();
                    self.go_on(cx);
                }
            }
            return Some((tag, outcome));
        }
    }

    /// As [`Backing::has_ended`].
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        !self.ended.is_empty() || self.inner.has_ended()
    }

    /// As [`Backing::abort`].
    pub(crate) fn abort(&mut self, cx: &mut UnitContext<'_>, tag: Tag) -> Aborted {
        if !self.front.abort(tag.0) {
            return self.inner.abort(cx, tag);
        }
        self.go_on(cx);
        Aborted::Pending
    }

    /// As [`Backing::take_deferred_error`].
    pub(crate) fn take_deferred_error(&mut self) -> Option<DeferredError> {
        self.deferred.take().or_else(|| self.inner.take_deferred_error())
    }

    /// Writes that were answered and that only the front has, or it and its group's journal.
    pub(crate) fn promised(&self) -> usize {
        self.front.promised()
    }

    /// As [`Backing::take_lost`]: what the group's journal has is not lost.
    pub(crate) fn take_lost(&mut self, cx: &mut UnitContext<'_>) -> bool {
        let lost = self.inner.take_lost(cx);
        let made_good = lost && self.front.on_lost();
        self.go_on(cx);
        lost && !made_good
    }

    /// Mail from the group.
    pub(crate) fn on_mail(&mut self, cx: &mut UnitContext<'_>, mail: ToFront) {
        if matches!(mail, ToFront::Apply { .. } | ToFront::Mode { .. }) {
            // The other array's writes may be longer than what this store was made for.
            self.front.set_longest(self.inner.own().largest_transfer());
        }
        self.front.on_mail(cx.now, mail);
        self.tell_store(cx);
        self.go_on(cx);
    }

    /// As [`Backing::on_tick`].
    pub(crate) fn on_tick(&mut self, cx: &mut UnitContext<'_>) {
        if self.inner.next_deadline() <= cx.now {
            self.inner.on_tick(cx);
        }
        if self.front.next_deadline() <= cx.now {
            self.front.on_tick(cx.now);
        }
        self.go_on(cx);
    }

    /// As [`Backing::next_deadline`].
    pub(crate) fn next_deadline(&self) -> Time {
        self.inner.next_deadline().min(self.front.next_deadline())
    }

    /// The WCE bit changed; see [`wanted`](Self::wanted).
    pub(crate) fn set_write_back(&mut self, cx: &mut UnitContext<'_>, write_back: bool) {
        if self.write_back != write_back {
            self.write_back = write_back;
            self.front.set_write_back(write_back);
            self.tell_store(cx);
        }
    }

    /// What the store is to do with writes, as the mode and the WCE bit say.
    fn tell_store(&mut self, cx: &mut UnitContext<'_>) {
        self.inner.set_write_back(cx, self.wanted());
        // A secondary's store is flushed every second: there is nothing to wait for.
        self.inner.set_journaled(cx, self.front.mode() == Mode::Journaling);
    }

    /// Whether writes may stay in the cache. What is journaled may, whatever the host asked for: the journal has
    /// it, and frees nothing that is not destaged and flushed. So may what the group writes, which flushes when it
    /// counts on it.
    fn wanted(&self) -> bool {
        match self.front.mode() {
            Mode::Journaling | Mode::Held { .. } | Mode::NotReady | Mode::Secondary { .. } => true,
            Mode::Plain | Mode::Tracking | Mode::Fenced | Mode::Stopped => self.write_back,
        }
    }

    /// Everything that the front wants done, until it wants nothing.
    fn go_on(&mut self, cx: &mut UnitContext<'_>) {
        loop {
            while let Some(step) = self.front.next_step() {
                match step {
                    Step::Store { tag, op, data } => self.store(cx, tag, op, data),
                    Step::Done { tag, result, mut data, status } => {
                        if result.is_err() {
                            data.clear();
                        }
                        self.ended.push((Tag(tag), Outcome { result, data, status }));
                    }
                    Step::Mail(mail) => {
                        let mail = PairMail::ToGroup(self.group.index, self.index, mail);
                        cx.crossing.push((self.group.core, mail.into()));
                    }
                    Step::AbortStore(tag) => self.abort_store(cx, tag),
                    Step::Deferred { lba, error } => {
                        self.deferred.get_or_insert(DeferredError { error, lba });
                    }
                }
            }
            if let Some((call, outcome)) = self.at_once.pop_front() {
                self.done(cx, call, outcome);
                continue;
            }
            if self.free.is_empty() {
                return;
            }
            let Some(Waiting { tag, op, data }) = self.waiting.pop_front() else { return };
            self.send(cx, tag, op, data);
        }
    }

    /// An operation for the store, behind those that wait.
    fn store(&mut self, cx: &mut UnitContext<'_>, tag: u64, op: BlockOp, data: Scatter) {
        if !self.waiting.is_empty() || self.free.is_empty() {
            self.waiting.push_back(Waiting { tag, op, data });
            return;
        }
        self.send(cx, tag, op, data);
    }

    fn send(&mut self, cx: &mut UnitContext<'_>, tag: u64, op: BlockOp, data: Scatter) {
        let Some(call) = self.free.pop() else {
            self.waiting.push_front(Waiting { tag, op, data });
            return;
        };
        self.serial += 1;
        let inner = Tag(u64::from(self.base + call) << 48 | self.serial & SERIAL);
        if let Some(place) = self.calls.get_mut(usize::from(call)) {
            *place = Some(Call { tag, inner });
        }
        if let Some(outcome) = self.inner.submit(cx, inner, op, data) {
            self.at_once.push_back((call, outcome));
        }
    }

    /// An operation of the front's has ended.
    fn done(&mut self, cx: &UnitContext<'_>, call: u16, outcome: Outcome) {
        let place = self.calls.get_mut(usize::from(call)).and_then(Option::take);
        let Some(Call { tag, .. }) = place else { return };
        self.free.push(call);
        let Outcome { result, data, status } = outcome;
        self.front.on_store(cx.now, tag, result, data, status);
    }

    /// The front gives an operation up; its outcome still comes.
    fn abort_store(&mut self, cx: &mut UnitContext<'_>, tag: u64) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.tag == tag) {
            if let Some(Waiting { mut data, .. }) = self.waiting.remove(at) {
                data.clear();
                self.front.on_store(cx.now, tag, Err(BlockError::Aborted), data, Vec::new());
            }
            return;
        }
        let call = self.calls.iter().flatten().find(|call| call.tag == tag);
        if let Some(inner) = call.map(|call| call.inner) {
            let _ = self.inner.abort(cx, inner);
        }
    }

    /// Which of the front's operations a tag of the store's is.
    fn call_of(&self, tag: Tag) -> Option<u16> {
        let slot = u16::try_from(tag.0 >> 48).ok()?.checked_sub(self.base)?;
        let call = self.calls.get(usize::from(slot))?.as_ref()?;
        (call.inner == tag).then_some(slot)
    }
}
