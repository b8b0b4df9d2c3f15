//! The link: what it holds, what it is given and what it tells. Its parts are in the files named
//! after what they do: `life` (attempts, losses, time-outs), `transmit`, `receive`, `learn`.

use crate::acked::Acked;
use crate::learn::{Learning, Learnt};
use crate::plan::LinkPlan;
use crate::request::{Done, Outcome, Refusal, Request};
use crate::task::{Owner, Stage, Tasks};
use crate::transmit::Full;
use kagami_iscsi::login::InitiatorLogin;
use kagami_memory::Scatter;
use kagami_scsi::path::{MOST_ARRAYS, Path};
use kagami_types::Time;
use std::collections::VecDeque;

/// Acknowledged writes that are remembered.
const NOTES: usize = 1024;

/// What happened.
#[derive(Debug)]
pub enum Event<T> {
    /// A command has ended.
    Done(Done<T>),
    /// The far unit is known and takes commands: at first, and again whenever something about it may
    /// have changed.
    Up {
        /// What it is.
        learnt: Box<Learnt>,
        /// It said that it was reset, or its array restarted, since it was last heard of.
        reset: bool,
    },
    /// The link is lost.
    Down,
    /// Its session has a connection more, or one that was to join did not.
    Connections,
    /// The far unit reported this condition (ASC and ASCQ) with the command of one host; the others
    /// have to hear of it as well.
    Attention {
        /// Additional sense code and qualifier.
        code: u16,
        /// The host that has heard; none where its command was sent again instead.
        told: Option<T>,
    },
    /// What [`Link::abort`] or [`Link::reset`] was asked for with this ticket is over.
    Ended(u64),
}

/// How far the link is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No connection.
    Down,
    /// It logs in.
    Login,
    /// It asks the far unit what it is.
    Probing,
    /// It serves.
    Serving,
}

impl Phase {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Login => "login",
            Self::Probing => "probing",
            Self::Serving => "serving",
        }
    }
}

/// How the link does, for people and counters.
#[derive(Clone, Debug)]
pub struct Status {
    /// How far it is.
    pub phase: Phase,
    /// Connections that its session has.
    pub connections: u16,
    /// Why it was last lost, or could not be made; while it serves, why it has fewer connections than it
    /// is to have.
    pub reason: Option<Box<str>>,
    /// Times that the far array let it log in, over all time; whether it then served is another question.
    pub logins: u64,
    /// Connections that have joined its sessions, over all time.
    pub joined: u64,
    /// Times that it served and was lost.
    pub losses: u64,
    /// Commands that were sent again after one.
    pub repeated: u64,
    /// Commands that nobody knows the end of.
    pub in_doubt: u64,
}

/// The states; see the crate's drawing.
#[derive(Debug)]
pub(crate) enum State {
    Down { until: Time },
    Login { login: Box<InitiatorLogin>, until: Time },
    Full(Box<Full>),
}

/// Something that waits for tasks to end at the far array.
#[derive(Debug)]
pub(crate) struct Wait {
    pub ticket: u64,
    /// Slots and turns.
    pub tasks: Vec<(u16, u16)>,
    /// The number of a LOGICAL UNIT RESET that is to be answered.
    pub reset: Option<u16>,
    /// When it is over in any case: nothing of this volume gets to the far array before the old
    /// tasks have ended there.
    pub until: Time,
}

/// A session with a logical unit of another array. `T` says whose a command is.
#[derive(Debug)]
pub struct Link<T> {
    pub(crate) plan: LinkPlan,
    pub(crate) state: State,
    pub(crate) tasks: Tasks<T>,
    /// Slots that wait to be sent, in order.
    pub(crate) queue: VecDeque<u16>,
    pub(crate) events: VecDeque<Event<T>>,
    pub(crate) acked: Acked,
    pub(crate) learning: Option<Learning>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) next_reset: u16,
    /// Resets that were done for this link, and that the far unit has not reported to it yet.
    pub(crate) resets_done: u8,
    pub(crate) numbers: u64,
    /// Bytes that the tasks hold or expect.
    pub(crate) bytes: u64,
    pub(crate) portal: usize,
    pub(crate) attempts: u32,
    /// Since when it has not served.
    pub(crate) down_since: Option<Time>,
    pub(crate) next_tick: Time,
    /// A command waits for pages.
    pub(crate) starved: bool,
    /// The far unit's path, as it was last told.
    pub(crate) far_path: Option<Path>,
    /// That path leads back here.
    pub(crate) looped: bool,
    pub(crate) reason: Option<Box<str>>,
    pub(crate) logins: u64,
    pub(crate) joined: u64,
    pub(crate) losses: u64,
    pub(crate) repeated: u64,
    pub(crate) doubted: u64,
}

impl<T: Copy> Link<T> {
    /// A link that has not been made yet; it may be at once.
    #[must_use]
    pub fn new(plan: LinkPlan, now: Time) -> Self {
        Self {
            tasks: Tasks::new(plan.slots),
            plan,
            state: State::Down { until: now },
            queue: VecDeque::new(),
            events: VecDeque::new(),
            acked: Acked::new(NOTES),
            learning: None,
            waits: Vec::new(),
            next_reset: 0,
            resets_done: 0,
            numbers: 0,
            bytes: 0,
            portal: 0,
            attempts: 0,
            down_since: None,
            next_tick: now,
            starved: false,
            far_path: None,
            looped: false,
            reason: None,
            logins: 0,
            joined: 0,
            losses: 0,
            repeated: 0,
            doubted: 0,
        }
    }

    /// Takes a command. Its end is an [`Event::Done`].
    ///
    /// # Errors
    /// It is not taken; here it is again.
    #[allow(clippy::result_large_err, reason = "the command itself comes back")]
    #[inline]
    pub fn submit(&mut self, request: Request<T>, now: Time) -> Result<(), (Refusal, Request<T>)> {
        if self.is_given_up(now) {
            return Err((Refusal::Down, request));
        }
        let bytes = request.out.len_bytes() as u64 + u64::from(request.expects);
        // A single command larger than the share is taken when nothing else is there.
        if !self.tasks.has_free() || (self.bytes > 0 && self.bytes + bytes > self.plan.bytes) {
            return Err((Refusal::Full, request));
        }
        self.numbers += 1;
        if let Some(slot) = self.tasks.put(request, self.numbers, now + self.plan.io_timeout) {
            self.bytes += bytes;
            self.queue.push_back(slot);
        }
        Ok(())
    }

    /// Whether there has been no link for longer than the time-out.
    #[inline]
    pub fn is_given_up(&mut self, now: Time) -> bool {
        if self.down_since.is_none() && !self.is_serving() {
            // It has just been made.
            self.down_since = Some(now);
        }
        self.down_since.is_some_and(|since| now.since(since) >= self.plan.io_timeout)
    }

    /// What happened next.
    #[inline]
    pub fn next_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// Commands that are not over, those in doubt included.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.tasks.in_use()
    }

    /// Commands whose hosts wait, that `pick` picks.
    pub fn waiting(&self, pick: impl Fn(&T) -> bool) -> usize {
        let host = |owner: &Owner<T>| matches!(owner, Owner::Host(owner) if pick(owner));
        self.tasks.active().filter(|(_, task)| host(&task.owner)).count()
    }

    /// The number of the command that was taken last.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.numbers
    }

    /// The number of the first command whose end was not [told](Self::next_event).
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        let open = self.tasks.active().filter(|(_, task)| matches!(task.owner, Owner::Host(_)));
        let untold = self.events.iter().filter_map(|event| match event {
            Event::Done(done) => Some(done.number),
            _ => None,
        });
        open.map(|(_, task)| task.number).chain(untold).min()
    }

    /// Aborts the commands that `pick` picks. They end with [`Outcome::Aborted`]; when the far array
    /// has nothing of them any more, there is an [`Event::Ended`].
    pub fn abort(&mut self, pick: impl Fn(&T) -> bool, ticket: u64, now: Time) {
        let mut tasks = Vec::new();
        for slot in self.picked(pick) {
            if let Some(turn) = self.abort_one(slot, now) {
                tasks.push((slot, turn));
            }
        }
        tasks.iter().for_each(|&(slot, turn)| self.ask_to_abort(slot, turn));
        if tasks.is_empty() {
            self.events.push_back(Event::Ended(ticket));
        } else {
            self.waits.push(Wait { ticket, tasks, reset: None, until: now + self.plan.io_timeout });
        }
    }

    /// Resets the far unit, which ends all commands there: those of this link end with
    /// [`Outcome::Aborted`], and then there is an [`Event::Ended`].
    pub fn reset(&mut self, ticket: u64, now: Time) {
        let mut tasks = Vec::new();
        for slot in self.picked(|_| true) {
            if let Some(turn) = self.abort_one(slot, now) {
                tasks.push((slot, turn));
            }
        }
        let number = self.next_reset;
        self.next_reset = self.next_reset.wrapping_add(1);
        self.waits.push(Wait { ticket, tasks, reset: Some(number), until: now + self.plan.io_timeout });
        if let State::Full(full) = &mut self.state {
            full.resets.push_back(number);
        }
    }

    /// An abort leaves on the connection of its task.
    pub(crate) fn ask_to_abort(&mut self, slot: u16, turn: u16) {
        let at = self.tasks.get(slot).map_or(0, |task| task.connection);
        if let State::Full(full) = &mut self.state
            && let Some(connection) = full.open(at)
        {
            connection.aborts.push_back((slot, turn));
        }
    }

    fn picked(&self, pick: impl Fn(&T) -> bool) -> Vec<u16> {
        let host = |owner: &Owner<T>| matches!(owner, Owner::Host(owner) if pick(owner));
        self.tasks.active().filter(|(_, task)| host(&task.owner)).map(|(slot, _)| slot).collect()
    }

    /// Ends a command for its host; its turn where the far array has it.
    fn abort_one(&mut self, slot: u16, now: Time) -> Option<u16> {
        let task = self.tasks.get(slot)?;
        let turn = task.turn;
        let sent = task.stage == Stage::Sent;
        self.settle(slot, Outcome::Aborted, Scatter::new(), 0);
        if sent {
            self.tasks.doubt(slot, now);
            return Some(turn);
        }
        self.queue.retain(|&other| other != slot);
        self.tasks.release(slot);
        None
    }

    /// Tells the host how its command ended.
    #[inline]
    pub(crate) fn settle(&mut self, slot: u16, outcome: Outcome, data: Scatter, wanted: u64) {
        let Some(task) = self.tasks.get_mut(slot) else { return };
        let Owner::Host(owner) = std::mem::replace(&mut task.owner, Owner::Nobody) else { return };
        let number = task.number;
        self.bytes = self.bytes.saturating_sub(task.out.len_bytes() as u64 + u64::from(task.expects));
        self.events.push_back(Event::Done(Done { owner, number, outcome, data, wanted }));
    }

    /// A task in doubt is over at the far array.
    pub(crate) fn over(&mut self, slot: u16, turn: u16) {
        if self.tasks.get(slot).is_some_and(|task| task.turn == turn && task.stage == Stage::InDoubt) {
            self.tasks.release(slot);
        }
        if !self.waits.is_empty() {
            self.waits.iter_mut().for_each(|wait| wait.tasks.retain(|&task| task != (slot, turn)));
            self.waits_over(|wait| wait.tasks.is_empty() && wait.reset.is_none());
        }
    }

    /// Ends the waits that are over.
    pub(crate) fn waits_over(&mut self, over: impl Fn(&Wait) -> bool) {
        let events = &mut self.events;
        self.waits.retain(|wait| {
            let over = over(wait);
            if over {
                events.push_back(Event::Ended(wait.ticket));
            }
            !over
        });
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> Status {
        let phase = match &self.state {
            State::Down { .. } => Phase::Down,
            State::Login { .. } => Phase::Login,
            State::Full(full) if full.serving => Phase::Serving,
            State::Full(_) => Phase::Probing,
        };
        let connections = match &self.state {
            State::Full(full) => u16::try_from(full.connections()).unwrap_or(u16::MAX),
            _ => 0,
        };
        Status {
            phase,
            connections,
            logins: self.logins,
            joined: self.joined,
            reason: self.reason.clone(),
            losses: self.losses,
            repeated: self.repeated,
            in_doubt: self.doubted,
        }
    }

    /// The path of the volume that this link serves, this array first.
    #[must_use]
    pub fn path(&self) -> Path {
        let far = self.far_path.as_ref();
        let known = far.is_some_and(|path| path.complete) || (far.is_none() && self.is_serving());
        let behind = far.map(|path| path.arrays.as_slice()).unwrap_or_default();
        let arrays = std::iter::once(self.plan.array).chain(behind.iter().copied());
        Path { arrays: arrays.take(MOST_ARRAYS).collect(), complete: known && !self.looped }
    }

    /// Whether the far unit's path leads back to this array, or over too many.
    #[must_use]
    pub fn is_looped(&self) -> bool {
        self.looped
    }

    /// Whether commands are passed on.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        matches!(&self.state, State::Full(full) if full.serving)
    }

    /// Whether a command waits for pages: it is tried again with the next [`encode`](Self::encode).
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.starved
    }
}
