//! A virtual volume on its home core: its front, and the link to the array that has the data.
//!
//! A command comes here as to any unit. What its [`Front`] does not answer goes to the
//! [`Link`](kagami_link::Link), with its pages, and from there through a socket of this core: nothing
//! crosses cores, nothing is copied. The socket's side is in [`far`](crate::far).

mod group;

use crate::answer::CHECK_CONDITION;
use crate::message::{Command, Ending, Manage, Reply, UnitAddress};
use crate::nexus::TaskId;
use crate::session::Session;
use crate::unit::{Then, fill};
use group::{ForGroups, OfGroup};
use kagami_iscsi::pdu::{TaskAttribute, TmfFunction};
use kagami_link::{Blocks, Done, Event, Link, LinkPlan, Outcome, Phase, Refusal, Request, Status};
use kagami_memory::{Pool, Purpose, ScatterMut};
use kagami_metrics::VolumeMetrics;
use kagami_scsi::table::DataKind;
use kagami_scsi::{Admission, Attention, Disposition, Forward, Front, Identity, NexusId, Sense, TransportId};
use kagami_types::{BlockSize, CoreId, Lun, Time};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

/// The indices of virtual volumes begin here, so that one never is another unit's.
pub const FAR: u32 = 1 << 30;

/// The most bytes of parameter data that one command asks the far unit for.
const MOST_PARAMETERS: u64 = 64 << 10;

/// What is known of a virtual volume, for everybody.
#[derive(Debug)]
pub struct Shape {
    block_size: AtomicU32,
    blocks: AtomicU64,
    status: Mutex<Status>,
}

impl Default for Shape {
    fn default() -> Self {
        let status = Status {
            phase: Phase::Down,
            connections: 0,
            reason: None,
            logins: 0,
            joined: 0,
            losses: 0,
            repeated: 0,
            in_doubt: 0,
        };
        Self { block_size: AtomicU32::new(0), blocks: AtomicU64::new(0), status: Mutex::new(status) }
    }
}

impl Shape {
    /// The size of its blocks, once the far unit is known.
    #[inline]
    #[must_use]
    pub fn block_size(&self) -> Option<BlockSize> {
        match self.block_size.load(Ordering::Relaxed) {
            512 => Some(BlockSize::B512),
            4096 => Some(BlockSize::B4096),
            _ => None,
        }
    }

    /// Its blocks; 0 while the far unit is not known.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// How its link does.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_status(&self, status: Status) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// The end of a command that the daemon sent to a far unit itself.
#[derive(Debug)]
pub struct Forwarded {
    /// The status and the sense data, or why there is none.
    pub outcome: Outcome,
    /// What came back.
    pub data: Vec<u8>,
}

/// Whose a command is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    Host {
        task: TaskId,
        nexus: NexusId,
        started: Time,
        kind: DataKind,
        tells: Option<Attention>,
    },
    /// The daemon's, by number.
    Daemon(u64),
    Group(OfGroup),
}

/// A virtual volume.
#[derive(Debug)]
pub struct VirtualUnit {
    pub(crate) front: Front,
    pub(crate) link: Link<Owner>,
    /// Which row of the metrics is its.
    row: usize,
    shape: Arc<Shape>,
    /// What waits for tasks to end at the far array.
    thens: Vec<(u64, Then)>,
    tickets: u64,
    asked: BTreeMap<u64, SyncSender<Forwarded>>,
    /// Answers of the front to ORDERED commands, which come after those of all commands before them.
    held: Vec<Held>,
    most_bytes: u64,
    pub(crate) for_groups: ForGroups,
}

/// An answer that waits.
#[derive(Debug)]
struct Held {
    /// For all commands up to that number.
    after: u64,
    nexus: NexusId,
    reply: Reply,
}

/// What it needs of its core for one call.
pub(crate) struct VirtualContext<'a> {
    pub(crate) now: Time,
    pub(crate) pool: &'a Pool,
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) session: Option<&'a Arc<Session>>,
    pub(crate) luns: &'a [Lun],
}

impl VirtualUnit {
    /// A virtual volume; `row` is its row in the metrics, `shape` is told what the far unit is.
    #[must_use]
    pub fn new(front: Front, plan: LinkPlan, row: usize, shape: Arc<Shape>) -> Self {
        Self {
            front,
            most_bytes: plan.bytes,
            link: Link::new(plan, Time(0)),
            row,
            shape,
            thens: Vec::new(),
            tickets: 0,
            asked: BTreeMap::new(),
            held: Vec::new(),
            for_groups: ForGroups::default(),
        }
    }

    /// Its address, as the `place`th virtual volume of a core.
    #[must_use]
    pub fn address(core: CoreId, place: u32) -> UnitAddress {
        UnitAddress { core, index: FAR | place }
    }

    pub(crate) fn row(&self) -> usize {
        self.row
    }

    #[cold]
    fn attach(&mut self, session: &Session) -> bool {
        let id = TransportId::new(&session.initiator, session.isid.0);
        id.is_some_and(|id| self.front.attach(session.nexus, Arc::new(id), session.port).is_ok())
    }

    /// Executes a command. `None`: its end comes from the far array.
    #[inline]
    pub(crate) fn execute(&mut self, mut command: Command, cx: &mut VirtualContext<'_>) -> Option<Reply> {
        let (task, nexus) = (command.task, command.nexus);
        if !self.front.is_attached(nexus) && !cx.session.is_some_and(|session| self.attach(session)) {
            // Its session is not known here (yet): the initiator tries again.
            return Some(Reply { task, end: Ending::busy(), data: command.data, wanted: 0 });
        }
        cx.out.clear();
        let forward = match self.front.admit(nexus, &command.cdb, cx.out) {
            Admission::Forward(forward) => forward,
            Admission::Answer(disposition) => {
                let ordered = command.attribute == TaskAttribute::Ordered;
                let reply = self.answer(command, disposition, cx);
                if !ordered || self.link.oldest().is_none() {
                    return Some(reply);
                }
                self.held.push(Held { after: self.link.newest(), nexus, reply });
                return None;
            }
        };
        let Forward { transfer, repeatable, writes, tells, blocks } = forward;
        if self.link.is_looped() {
            // LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED.
            return Some(Reply { task, end: Ending::check(0x2, 0x04, 0x03), data: command.data, wanted: 0 });
        }
        let moves = matches!(transfer.kind, DataKind::BlocksIn | DataKind::BlocksOut);
        if moves && self.front.identity().is_none() {
            // How long its blocks are is not known yet, so neither is how much data there is to come:
            // the initiator, which has known this unit from earlier, tries again.
            let end =
                if self.link.is_given_up(cx.now) { sense(&Front::unreachable()) } else { Ending::busy() };
            return Some(Reply { task, end, data: command.data, wanted: 0 });
        }
        if moves && transfer.bytes > self.most_bytes {
            // More than was told to be the longest: INVALID FIELD IN CDB.
            return Some(Reply { task, end: Ending::check(0x5, 0x24, 0x00), data: command.data, wanted: 0 });
        }
        let expects = match transfer.kind {
            DataKind::BlocksIn => transfer.bytes,
            DataKind::In => transfer.bytes.min(MOST_PARAMETERS),
            _ => 0,
        };
        if self.shape.block_size().is_some() {
            command.data.truncate(usize::try_from(transfer.bytes).unwrap_or(usize::MAX));
        }
        let request = Request {
            owner: Owner::Host { task, nexus, started: cx.now, kind: transfer.kind, tells },
            cdb: command.cdb,
            attribute: command.attribute,
            repeatable,
            blocks: blocks.map(|(first, count)| Blocks { first, count }),
            writes,
            out: command.data,
            expects: u32::try_from(expects).unwrap_or(u32::MAX),
        };
        let (refusal, request) = self.link.submit(request, cx.now).err()?;
        let end = match refusal {
            Refusal::Down => sense(&Front::unreachable()),
            Refusal::Full => Ending::task_set_full(),
        };
        Some(Reply { task, end, data: request.out, wanted: 0 })
    }

    /// What the front answers.
    #[cold]
    fn answer(&self, mut command: Command, disposition: Disposition, cx: &mut VirtualContext<'_>) -> Reply {
        let task = command.task;
        command.data.clear();
        let end = match disposition {
            Disposition::DataIn => fill(&mut command.data, cx.out, cx.pool),
            Disposition::ReportLuns(ask) => {
                let seen = |lun: &Lun| cx.session.is_none_or(|session| session.visible.contains(*lun));
                let luns = cx.luns.iter().copied().filter(seen);
                kagami_scsi::report_luns(ask, luns, cx.out);
                fill(&mut command.data, cx.out, cx.pool)
            }
            Disposition::Check(found) => sense(&found),
            Disposition::Status(status) => Ending::Status(status as u8, None),
            _ => Ending::Good,
        };
        let wanted = if matches!(end, Ending::Good) { cx.out.len() as u64 } else { 0 };
        Reply { task, end, data: command.data, wanted }
    }

    /// A command of the daemon's own. Its end goes to `answer`.
    pub(crate) fn ask(
        &mut self,
        cdb: [u8; 16],
        out: &[u8],
        expects: u32,
        answer: SyncSender<Forwarded>,
        cx: &VirtualContext<'_>,
    ) {
        let ended = |outcome| Forwarded { outcome, data: Vec::new() };
        let mut pages = ScatterMut::default();
        if !pages.take_more(cx.pool, Purpose::Internal, out.len()) {
            let _ = answer.try_send(ended(Outcome::Status(0x08, None)));
            return;
        }
        pages.copy_from(0, out);
        self.tickets += 1;
        let request = Request {
            owner: Owner::Daemon(self.tickets),
            cdb,
            attribute: TaskAttribute::Simple,
            repeatable: true,
            blocks: Some(Blocks::ALL),
            writes: !out.is_empty(),
            out: pages.freeze(),
            expects,
        };
        match self.link.submit(request, cx.now) {
            Ok(()) => {
                self.asked.insert(self.tickets, answer);
            }
            Err((Refusal::Down, _)) => drop(answer.try_send(ended(Outcome::Unreachable))),
            Err((Refusal::Full, _)) => drop(answer.try_send(ended(Outcome::Status(0x28, None)))),
        }
    }

    /// What the link has to tell; replies and what follows of it go to the lists.
    pub(crate) fn take_events(
        &mut self,
        now: Time,
        metrics: Option<&VolumeMetrics>,
        replies: &mut Vec<Reply>,
        then: &mut Vec<Then>,
    ) {
        loop {
            // Before the end of a command that came later, which may be ORDERED as well.
            self.release_held(replies);
            let Some(event) = self.link.next_event() else { return };
            match event {
                Event::Done(done) => replies.extend(self.done(done, now, metrics)),
                Event::Ended(ticket) => {
                    let place = self.thens.iter().position(|(other, _)| *other == ticket);
                    then.extend(place.map(|place| self.thens.swap_remove(place).1));
                }
                Event::Attention { code, told: Some(Owner::Host { nexus, .. }) } => {
                    self.front.relay(code, nexus)
                }
                Event::Attention { code, .. } => {
                    // Nobody was told yet.
                    if let Some(attention) = Attention::of_code(code) {
                        self.front.establish_all(None, attention);
                    }
                }
                Event::Up { learnt, reset } => {
                    let block_size =
                        if learnt.block_len == 4096 { BlockSize::B4096 } else { BlockSize::B512 };
                    self.shape.blocks.store(learnt.blocks, Ordering::Relaxed);
                    self.shape.block_size.store(learnt.block_len, Ordering::Relaxed);
                    let known = self.front.identity().is_some();
                    self.front.learn(Identity {
                        standard: learnt.standard,
                        pages: learnt.pages,
                        blocks: learnt.blocks,
                        block_size,
                    });
                    if reset && known {
                        // What its hosts wrote into a volatile cache there may be lost.
                        self.front.establish_all(None, Attention::PowerOn);
                    }
                    self.tell();
                }
                Event::Down => self.tell(),
                Event::Connections => self.tell_status(),
            }
        }
    }

    /// The answers that nothing is in the way of any more.
    #[inline]
    fn release_held(&mut self, replies: &mut Vec<Reply>) {
        if !self.held.is_empty() {
            let oldest = self.link.oldest();
            let due = |held: &mut Held| oldest.is_none_or(|oldest| oldest > held.after);
            replies.extend(self.held.extract_if(.., due).map(|held| held.reply));
        }
    }

    /// Ends answers that wait unheard.
    fn abort_held(&mut self, pick: impl Fn(&TaskId, NexusId) -> bool) {
        for held in self.held.iter_mut().filter(|held| pick(&held.reply.task, held.nexus)) {
            held.after = 0;
            held.reply.end = Ending::Aborted;
            held.reply.data.clear();
        }
    }

    /// Tells everybody how the link does.
    pub(crate) fn tell(&mut self) {
        self.front.set_path(self.link.path());
        self.tell_status();
    }

    /// Tells the daemon's threads.
    pub(crate) fn tell_status(&self) {
        self.shape.set_status(self.link.status());
    }

    #[inline]
    fn done(&mut self, done: Done<Owner>, now: Time, metrics: Option<&VolumeMetrics>) -> Option<Reply> {
        let Done { owner, outcome, mut data, wanted, .. } = done;
        let Owner::Host { task, nexus, started, kind, tells } = owner else {
            match owner {
                Owner::Group(whose) => self.ended(whose, outcome, data, now),
                Owner::Daemon(number) => {
                    if let Some(answer) = self.asked.remove(&number) {
                        let _ = answer.try_send(Forwarded { outcome, data: data.to_vec() });
                    }
                }
                Owner::Host { .. } => {}
            }
            return None;
        };
        let end = match outcome {
            Outcome::Status(0, _) => Ending::Good,
            Outcome::Status(status, sense) => Ending::Status(status, sense),
            Outcome::Unreachable => sense(&Front::unreachable()),
            Outcome::Lost => sense(&Front::lost()),
            Outcome::Aborted => Ending::Aborted,
        };
        let good = matches!(end, Ending::Good);
        if let (true, Some(attention)) = (good, tells) {
            self.front.establish_all(Some(nexus), attention);
        }
        if let Some(metrics) = metrics {
            let (bytes, took) = (if good { wanted } else { 0 }, now.nanos_since(started));
            match kind {
                DataKind::BlocksIn => {
                    metrics.reads.inc();
                    metrics.read_bytes.add(bytes);
                    metrics.read_time.record(took);
                }
                DataKind::BlocksOut => {
                    metrics.writes.inc();
                    metrics.write_bytes.add(bytes);
                    metrics.write_time.record(took);
                }
                _ => {
                    metrics.others.inc();
                    metrics.other_time.record(took);
                }
            }
            if !good {
                metrics.errors.inc();
            }
        }
        if !good {
            data.clear();
        }
        Some(Reply { task, end, data, wanted })
    }

    /// A task management function, after every core has sent what it had (SAM-5 7).
    pub(crate) fn manage(&mut self, manage: Manage, only: Option<TaskId>, now: Time) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.thens.push((ticket, Then::Managed(manage)));
        self.abort_held(|task, nexus| match only {
            Some(only) => *task == only,
            None => manage.concerns(nexus),
        });
        match manage.function {
            TmfFunction::LogicalUnitReset | TmfFunction::TargetWarmReset | TmfFunction::TargetColdReset => {
                self.front.establish_all(None, Attention::Reset);
                self.link.reset(ticket, now);
            }
            _ => {
                let pick = |owner: &Owner| match (owner, only) {
                    (Owner::Host { task, .. }, Some(only)) => *task == only,
                    (Owner::Host { nexus, .. }, None) => manage.concerns(*nexus),
                    (Owner::Daemon(_) | Owner::Group(_), _) => false,
                };
                self.link.abort(pick, ticket, now);
            }
        }
    }

    /// A session is over: its tasks end, here and at the far array.
    pub(crate) fn detach(&mut self, session: &Arc<Session>, now: Time) {
        let gone = session.nexus;
        self.front.detach(gone);
        self.abort_held(|_, nexus| nexus == gone);
        self.tickets += 1;
        self.thens.push((self.tickets, Then::Detached(Arc::clone(session))));
        let pick = |owner: &Owner| matches!(owner, Owner::Host { nexus, .. } if *nexus == gone);
        self.link.abort(pick, self.tickets, now);
    }

    /// Commands whose hosts wait.
    pub(crate) fn in_use(&self) -> usize {
        self.link.waiting(|owner| matches!(owner, Owner::Host { .. })) + self.held.len()
    }
}

fn sense(sense: &Sense) -> Ending {
    Ending::Status(CHECK_CONDITION, Some(sense.encode(false).as_ref().into()))
}
