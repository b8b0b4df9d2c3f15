//! Groups of pairs: made and ended as other objects are, and ordered about.
//!
//! A group's own orders take as long as the other array takes, so the management thread does not wait for them: what
//! came of one is looked for again and again, and then goes where it was asked from.

use super::apply::Wanted;
use super::inband::InBand;
use crate::config::{Group, GroupOptions, Owner, Pair, Pairs, Role, Side, Site, is_lasting};
use crate::run::Daemon;
use kagami_admin::pair::{
    GroupAt, GroupRestore, Groups, Marker, Ordered, PairCreate, PairDelete, PairResync, PairSplit, PairSwap,
    PairTakeover,
};
use kagami_admin::{Outcome, Refusal, Reply, Request};
use kagami_channel::GroupEvent;
use kagami_replica::action::OrderResult;
use kagami_replica::{Loser, NAME, Order, RestoreTo};
use kagami_tables::ResultRecord;
use kagami_types::{ByteLen, Lun, Uuid};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Orders to groups under way at a time.
const MOST: usize = 256;
/// How long the links of a new group may take to log in to the other array.
const LOGIN: Duration = Duration::from_secs(8);
/// How long a new group may take to have its state on its journal.
const BEGINNING: Duration = Duration::from_secs(2);
/// How long cores may take to let a group go.
const PARTING: Duration = Duration::from_secs(10);
/// How often groups are asked how they are, for metrics.
const LOOK: Duration = Duration::from_secs(1);
/// More than any group takes for an order.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Where the result of an order to a group goes.
pub(super) enum To {
    /// Who asked over the admin socket.
    Socket(SyncSender<Outcome>),
    /// Who wrote it to a command device.
    Device(Box<InBand>),
}

/// An order that a group has.
struct Pending {
    group: String,
    what: String,
    who: String,
    heard: Receiver<OrderResult>,
    until: Instant,
    to: To,
    /// The group ends with it; although it could not do it itself.
    ends: Option<bool>,
}

/// What the management thread has for groups.
#[derive(Default)]
pub(crate) struct Pairing {
    pending: Vec<Pending>,
    /// What groups said last, for who shows it.
    pub(crate) shown: Arc<Mutex<Groups>>,
    next_look: Option<Instant>,
}

impl std::fmt::Debug for Pairing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pairing").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

/// An order to a group, and what it is called.
pub(super) struct GroupOrder {
    pub group: String,
    order: Order,
    pub what: String,
    ends: Option<bool>,
    /// It changes something.
    pub changes: bool,
}

impl Daemon {
    /// The group that is meant.
    pub(super) fn group_named(&self, name: Option<&str>) -> Result<&Group, Refusal> {
        let mut all = self.config.groups.iter().filter(|group| group.pairs.is_some());
        match name {
            Some(name) => all.find(|group| group.name == name).ok_or_else(|| {
                Refusal::state(format!("there is no group {name}; `kagami pair status` lists them"))
            }),
            None => match (all.next(), all.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(Refusal::state("there is no group of pairs")),
                (Some(_), Some(_)) => Err(Refusal::usage("there are several groups; name one")),
            },
        }
    }

    /// There is a group of that name.
    pub(super) fn has_group(&self, name: &str) -> bool {
        self.config.groups.iter().any(|group| group.pairs.is_some() && group.name == name)
    }

    /// The order to a group that a request is, if it is one.
    pub(super) fn group_order(&self, request: &Request) -> Option<Result<GroupOrder, Refusal>> {
        let name = |group: &Option<String>| self.group_named(group.as_deref());
        Some(match request {
            // There is nobody to give it to, and nothing left to do.
            Request::PairDelete(PairDelete { group: Some(group), .. }) if !self.has_group(group) => {
                return None;
            }
            Request::PairDelete(PairDelete { group, force }) => name(group).and_then(|group| {
                let owner = group.pairs.as_ref().map_or(Owner::RunTime, |pairs| pairs.owner);
                self.of_run_time(owner, "group", &group.name)?;
                Ok(GroupOrder { ends: Some(*force), ..order(group, Order::Delete, "pair delete") })
            }),
            Request::PairSplit(PairSplit { group, writable }) => {
                let what = if *writable { "pair split --writable" } else { "pair split" };
                name(group).map(|group| order(group, Order::Split { writable: *writable }, what))
            }
            Request::PairResync(PairResync { group, discard }) => name(group).and_then(|group| {
                let discard = discard.as_deref().map(|loser| self.loser(group, loser)).transpose()?;
                Ok(order(group, Order::Resync { discard }, "pair resync"))
            }),
            Request::PairSwap(PairSwap { group, dry_run, cancel }) => name(group).map(|group| match cancel {
                true => order(group, Order::CancelSwap, "pair swap --cancel"),
                false => GroupOrder {
                    changes: !dry_run,
                    ..order(group, Order::Swap { dry_run: *dry_run }, "pair swap")
                },
            }),
            Request::PairTakeover(PairTakeover { group, dry_run, force }) => {
                let (dry_run, force) = (*dry_run, *force);
                name(group).map(|group| GroupOrder {
                    changes: !dry_run,
                    ..order(group, Order::Takeover { dry_run, force }, "pair takeover")
                })
            }
            Request::JournalAcquire(GroupAt { group, position }) => name(group)
                .map(|group| order(group, Order::Acquire { to: position.unwrap_or(0) }, "journal acquire")),
            Request::JournalPurge(GroupAt { group, position }) => name(group)
                .map(|group| order(group, Order::Purge { to: position.unwrap_or(0) }, "journal purge")),
            Request::JournalRestore(GroupRestore { group, position, time_nanos, marker }) => {
                let to = match (position, time_nanos, marker) {
                    (None, None, None) => Ok(RestoreTo::Read),
                    (Some(place), None, None) => Ok(RestoreTo::Place(*place)),
                    (None, Some(nanos), None) => Ok(RestoreTo::Time(*nanos)),
                    (None, None, Some(name)) => marker_name(name).map(RestoreTo::Marker),
                    _ => Err(Refusal::usage("restore goes to a position, a time or a marker, one of them")),
                };
                name(group).and_then(|group| Ok(order(group, Order::Restore(to?), "journal restore")))
            }
            Request::Marker(Marker { group, name: marker, wait }) => name(group).and_then(|group| {
                let name = marker_name(marker)?;
                let what = format!("marker {name}");
                Ok(order(group, Order::Marker { name, wait: *wait }, &what))
            }),
            _ => return None,
        })
    }

    fn loser(&self, group: &Group, name: &str) -> Result<Loser, Refusal> {
        match name {
            name if name == self.plan.name => Ok(Loser::Here),
            name if name == group.peer => Ok(Loser::There),
            name => Err(Refusal::usage(format!(
                "--discard names the array that gives up what it alone has: {} or {}, not {name}",
                self.plan.name, group.peer
            ))),
        }
    }

    /// Gives a group an order; the result goes there when it is known.
    ///
    /// # Errors
    /// It cannot be given; who asked is not told.
    pub(super) fn give_group(&mut self, order: GroupOrder, who: &str, to: To) -> Result<(), (Refusal, To)> {
        let GroupOrder { group, order, what, ends, .. } = order;
        if self.pairing.pending.len() >= MOST {
            return Err((Refusal::timed_out("too many orders to groups are under way; give it again"), to));
        }
        let Some(heard) = self.array.order_group(&group, order) else {
            return Err((Refusal::failed(format!("the core of group {group} does not answer")), to));
        };
        let until = Instant::now() + LONGEST;
        self.pairing.pending.push(Pending { group, what, who: who.to_owned(), heard, until, to, ends });
        Ok(())
    }

    /// Orders that have ended, and what is due from time to time.
    pub(super) fn attend_pairs(&mut self) {
        let mut place = 0;
        while let Some(pending) = self.pairing.pending.get(place) {
            let result = match pending.heard.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Disconnected) => {
                    OrderResult::Failed("the group ended meanwhile".to_owned())
                }
                Err(TryRecvError::Empty) if Instant::now() >= pending.until => OrderResult::TimedOut(
                    "it took too long; whether it was done, `kagami pair status` tells".to_owned(),
                ),
                Err(TryRecvError::Empty) => {
                    place += 1;
                    continue;
                }
            };
            let pending = self.pairing.pending.swap_remove(place);
            self.group_ordered(pending, result);
        }
        let now = Instant::now();
        if self.config.groups.iter().any(|group| group.pairs.is_some())
            && self.pairing.next_look.is_none_or(|at| now >= at)
        {
            self.pairing.next_look = Some(now + LOOK);
            self.look_at_groups();
        }
    }

    /// How groups are, for metrics; and those that have begun are known as such.
    fn look_at_groups(&mut self) {
        let reports = self.group_reports(None);
        let begun: Vec<String> = self
            .config
            .groups
            .iter()
            .filter(|group| {
                group.pairs.as_ref().is_some_and(|pairs| pairs.fresh && pairs.owner == Owner::RunTime)
            })
            .filter(|group| {
                let report = reports.iter().find(|report| report.group == group.name);
                report.is_some_and(|report| report.state != "SMPL" && !report.recovering)
            })
            .map(|group| group.name.clone())
            .collect();
        *self.pairing.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Groups { groups: reports };
        if begun.is_empty() {
            return;
        }
        let mut next = self.config.clone();
        for pairs in next.groups.iter_mut().filter(|group| begun.contains(&group.name)) {
            pairs.pairs.iter_mut().for_each(|pairs| pairs.fresh = false);
        }
        let what = format!("{} has begun", begun.join(", "));
        if let Err(refusal) = self.apply(Wanted::new(next, "group", what)) {
            crate::complain(&refusal.reason);
        }
    }

    fn group_ordered(&mut self, pending: Pending, result: OrderResult) {
        let Pending { group, what, who, to, ends, .. } = pending;
        let result = match ends {
            Some(force) if force || matches!(result, OrderResult::Done(_) | OrderResult::Already(_)) => {
                match self.end_group(&group, &who) {
                    Ok(what) => OrderResult::Done(what),
                    Err(refusal) => OrderResult::Failed(refusal.reason),
                }
            }
            _ => result,
        };
        let code = result.exit_code();
        let text = result.text().to_owned();
        let line = match code {
            0 | 10 | 11 | 12 => format!("{what} {group}: {text}"),
            _ => format!("refused: {what} {group}: {text}"),
        };
        match to {
            To::Socket(answer) => {
                if let Err(error) = self.tables.audit(&who, &line) {
                    crate::complain(&error);
                }
                let outcome = match code {
                    0 | 10 | 11 | 12 => {
                        Outcome::Done(Reply::Ordered(Ordered { exit_code: code, what: text }))
                    }
                    code => Outcome::Refused(Refusal { code, reason: text }),
                };
                // Who asked may have given up.
                let _ = answer.try_send(outcome);
            }
            To::Device(device) => self.answer_in_band(*device, &who, &line, code, &text),
        }
    }

    /// Something happened to a group.
    pub(crate) fn group_event(&mut self, event: &GroupEvent) {
        if let Err(error) = self.tables.audit(&format!("group:{}", event.group), &event.text) {
            crate::complain(&error);
        }
    }

    /// Makes a group at this array.
    pub(super) fn create_group(
        &mut self,
        asked: &PairCreate,
        who: &str,
        result: Option<ResultRecord>,
    ) -> Result<Ordered, Refusal> {
        let group = self.wanted_group(asked)?;
        let known = self.config.groups.iter().find(|known| known.name == group.name);
        if let Some(pairs) = known.and_then(|known| known.pairs.as_ref()) {
            return match group.pairs.as_ref().map(|wanted| Compared::of(pairs, wanted)) {
                Some(Compared::Same) => {
                    Ok(Ordered { exit_code: 12, what: format!("group {} is there already", group.name) })
                }
                Some(Compared::More) => {
                    let known = known.cloned().unwrap_or_else(|| group.clone());
                    self.extend_group(&known, &group, who, result)
                }
                _ => Err(Refusal::state(format!("there is another group {} already", group.name))),
            };
        }
        let what = format!(
            "make group {} with {}, {} of {} pairs",
            group.name,
            group.peer,
            asked.side,
            asked.pairs.len()
        );
        let mut next = self.config.clone();
        next.groups.retain(|known| known.name != group.name);
        next.groups.push(group.clone());
        let array = self.tables.state().array().uuid;
        let joining = crate::groups::joining(&next, &self.plan, &self.volumes, array, &group, true)
            .map_err(Refusal::state)?;
        let rules = self.rules(&next).map_err(Refusal::failed)?;
        let mut linking = self.array.link(&joining, &self.plan, &rules, array).map_err(Refusal::failed)?;
        let reached = self.wait(LOGIN, || match linking.poll() {
            Some(Err(reason)) => Some(Err(reason)),
            // It logs in; that the other array shows its volumes comes with the order to that one.
            Some(Ok(())) if linking.has_logged_in() => Some(Ok(())),
            _ => None,
        });
        match reached {
            Some(Ok(())) => {}
            Some(Err(reason)) => {
                self.array.unlink(linking);
                return Err(Refusal::failed(reason));
            }
            None => {
                let why = linking.state().1.unwrap_or_else(|| "no answer".to_owned());
                self.array.unlink(linking);
                return Err(Refusal::unreachable(format!(
                    "array {} cannot be logged in to from {}: {why}",
                    group.peer, self.plan.name
                )));
            }
        }
        let wanted = Wanted { pairs: true, result, ..Wanted::new(next, who, what.clone()) };
        if let Err(refusal) = self.apply(wanted) {
            self.array.unlink(linking);
            return Err(refusal);
        }
        let begun = match self.array.join(&joining, &linking) {
            Ok(answers) => self.all_done(answers),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = begun {
            let undone = self.end_group(&group.name, who);
            let also = undone.err().map(|refusal| format!("; {}", refusal.reason)).unwrap_or_default();
            return Err(Refusal::failed(format!("group {}: {reason}{also}", group.name)));
        }
        self.pairing.next_look = None;
        let is_primary = group.pairs.as_ref().is_some_and(|pairs| pairs.side == Side::Primary);
        let begun = self.wait_for_state(&group.name, is_primary);
        let what = match begun {
            Some(state) => format!("{what}: {state}"),
            None => format!("{what}: it is being made; `kagami pair status` tells"),
        };
        Ok(Ordered { exit_code: 0, what })
    }

    /// Waits until a new group has a state of its own. A primary, which is made first, has none before its secondary is there:
    /// it is enough that it has begun.
    fn wait_for_state(&mut self, group: &str, is_primary: bool) -> Option<String> {
        let end = Instant::now() + BEGINNING;
        while Instant::now() < end {
            let asked = self.array.ask_group(group)?;
            let report = self.wait(LOOK, || asked.try_recv().ok()).flatten();
            match report {
                Some(report) if !report.recovering && report.state != kagami_replica::State::Smpl => {
                    return Some(report.state.name().to_owned());
                }
                Some(report) if !report.recovering && is_primary => return None,
                _ => self.wait(Duration::from_millis(20), || None::<()>),
            };
        }
        None
    }

    /// Hears what cores say, serving what they wait for.
    pub(super) fn all_done(&mut self, answers: crate::serve::GroupAnswers) -> Result<(), String> {
        for (core, answer) in answers {
            self.wait(PARTING, || answer.try_recv().ok())
                .unwrap_or_else(|| Err(format!("core {} does not answer", core.0)))?;
        }
        Ok(())
    }

    /// The group that is asked for, where everything about it is right.
    fn wanted_group(&self, asked: &PairCreate) -> Result<Group, Refusal> {
        let usage = |why: String| Err(Refusal::usage(why));
        crate::config::names::check_name(&asked.group).map_err(Refusal::usage)?;
        let uuid = |text: &str, what: &str| {
            let uuid = Uuid::parse_str(text).ok().filter(|uuid| !uuid.is_nil());
            uuid.ok_or_else(|| Refusal::usage(format!("the {what}'s UUID is none: {text}")))
        };
        let side = match asked.side.as_str() {
            "primary" => Side::Primary,
            "secondary" => Side::Secondary,
            other => return usage(format!("a side is primary or secondary, not {other}")),
        };
        if self.config.peers.iter().all(|peer| peer.name != asked.peer) {
            return usage(format!(
                "array {} does not know {}; `kagami peer list` lists them",
                self.plan.name, asked.peer
            ));
        }
        let peer_uuid = uuid(&asked.peer_id, "peer")?;
        if peer_uuid == self.tables.state().array().uuid {
            return usage("a volume cannot be paired with one of the same array".to_owned());
        }
        let lun = super::orders::lun;
        let journal = lun(asked.journal)?;
        self.usable_journal(journal, asked)?;
        let mut pairs: Vec<Pair> = Vec::new();
        for pair in &asked.pairs {
            let made = Pair { lun: lun(pair.lun)?, peer_lun: lun(pair.peer_lun)? };
            if pairs.iter().any(|other| other.lun == made.lun || other.peer_lun == made.peer_lun) {
                return usage(format!("{} is named twice", made.lun));
            }
            self.usable_volume(made.lun, pair.blocks, pair.block_bytes, asked)?;
            pairs.push(made);
        }
        if pairs.is_empty() || pairs.len() > crate::config::MAX_PAIRS {
            return usage(format!("a group has 1 to {} pairs", crate::config::MAX_PAIRS));
        }
        let known = self.config.groups.iter().find(|known| known.name == asked.group);
        if let Some(other) = known.filter(|known| known.peer != asked.peer) {
            return Err(Refusal::state(format!("group {} is one with {}", other.name, other.peer)));
        }
        Ok(Group {
            site: known.map(|known| known.site.clone()).unwrap_or_else(Site::default),
            owner: known.map_or(Owner::RunTime, |known| known.owner),
            name: asked.group.clone(),
            peer: asked.peer.clone(),
            options: known.map_or_else(GroupOptions::default, |known| known.options),
            pairs: Some(Pairs {
                owner: Owner::RunTime,
                uuid: uuid(&asked.group_id, "group")?,
                peer_uuid,
                journal,
                peer_journal: lun(asked.peer_journal)?,
                journal_size: ByteLen(asked.journal_bytes),
                side,
                fresh: true,
                pairs,
            }),
        })
    }

    fn usable_volume(
        &self,
        lun: Lun,
        blocks: u64,
        block_bytes: u32,
        asked: &PairCreate,
    ) -> Result<(), Refusal> {
        let array = &self.plan.name;
        let no = |why: String| Err(Refusal::state(why));
        if self.config.virtuals.iter().any(|one| one.lun == lun) {
            return no(format!(
                "{array}:{} is a virtual volume; pair it at the array that has it",
                lun.number()
            ));
        }
        let Some(volume) = self.config.volumes.iter().find(|volume| volume.lun == lun) else {
            return Err(Refusal::usage(format!(
                "array {array} has no volume with {lun}; `kagami volumes` lists them"
            )));
        };
        let name = &volume.name;
        if volume.role != Role::Plain {
            return no(format!(
                "volume {name} of {array} is a {} device, which cannot be paired",
                volume.role.as_str()
            ));
        }
        if volume.read_only {
            return no(format!("volume {name} of {array} is read-only"));
        }
        if !is_lasting(volume) && !asked.force {
            return no(format!("volume {name} of {array} is in memory only; --force if that is meant"));
        }
        let other = |group: &&Group| group.name != asked.group && group.luns().any(|known| known == lun);
        if let Some(group) = self.config.groups.iter().find(other) {
            return no(format!("volume {name} of {array} is in group {} already", group.name));
        }
        let record = self.volumes.iter().map(|managed| &managed.record).find(|record| record.lun == lun);
        let Some(record) = record else { return no(format!("volume {name} of {array} is not served")) };
        if record.block_size.bytes() != block_bytes {
            let own = record.block_size.bytes();
            return no(format!(
                "volume {name} of {array} has blocks of {own} bytes, the other half of {block_bytes}"
            ));
        }
        let own = record.block_size.blocks_in(record.size).0;
        if own != blocks {
            return no(format!("volume {name} of {array} has {own} blocks, the other half {blocks}"));
        }
        Ok(())
    }

    fn usable_journal(&self, lun: Lun, asked: &PairCreate) -> Result<(), Refusal> {
        let array = &self.plan.name;
        let Some(volume) = self.config.volumes.iter().find(|volume| volume.lun == lun) else {
            return Err(Refusal::usage(format!(
                "array {array} has no journal with {lun}; `kagami volumes` lists them"
            )));
        };
        let name = &volume.name;
        if volume.role != Role::Journal {
            return Err(Refusal::state(format!(
                "volume {name} of {array} is no journal (role = \"journal\")"
            )));
        }
        let other = |group: &&Group| {
            group.name != asked.group && group.pairs.as_ref().is_some_and(|pairs| pairs.journal == lun)
        };
        if let Some(group) = self.config.groups.iter().find(other) {
            return Err(Refusal::state(format!("journal {name} of {array} belongs to group {}", group.name)));
        }
        let size = self.volumes.iter().find(|managed| managed.record.lun == lun).map(|one| one.record.size);
        match size {
            Some(size) if size.0 >= asked.journal_bytes => self.large_enough(name, size, asked),
            Some(size) => Err(Refusal::usage(format!(
                "journal {name} of {array} has {} bytes, not {}",
                size.0, asked.journal_bytes
            ))),
            None => Err(Refusal::state(format!("journal {name} of {array} is not served"))),
        }
    }

    /// A new group's journal has room for its bitmap, and for the longest write that hosts may send. Those of a group that is
    /// there were made with it.
    fn large_enough(&self, name: &str, size: ByteLen, asked: &PairCreate) -> Result<(), Refusal> {
        if self.has_group(&asked.group) {
            return Ok(());
        }
        let of = |pair: &kagami_admin::pair::PairOf| pair.blocks.saturating_mul(u64::from(pair.block_bytes));
        let covered = asked.pairs.iter().map(of).fold(0, u64::saturating_add);
        let longest = self.plan.memory.longest_write();
        let least = kagami_replica::least_journal(covered, u64::from(longest));
        if asked.journal_bytes >= least {
            return Ok(());
        }
        let used = match asked.journal_bytes < size.0 {
            true => format!(", of which {} are used, as the other array's has no more", asked.journal_bytes),
            false => String::new(),
        };
        Err(Refusal::state(format!(
            "journal {name} of {} is too small: it has {} bytes{used}, and needs {} for {covered} bytes of volumes and writes \
             of up to {longest}; better it has room for all that hosts write while the other array may be out of reach",
            self.plan.name, size.0, least
        )))
    }

    /// Takes a group apart: hosts have its volumes as ordinary ones.
    fn end_group(&mut self, name: &str, who: &str) -> Result<String, Refusal> {
        let end = Instant::now() + PARTING;
        loop {
            let answers = self.array.unpair(name);
            let mut busy = None;
            for (_, answer) in answers {
                match self.wait(PARTING, || answer.try_recv().ok()) {
                    Some(Ok(())) => {}
                    Some(Err(reason)) => busy = Some(reason),
                    None => busy = Some("its core does not answer".to_owned()),
                }
            }
            match busy {
                None => break,
                Some(reason) if Instant::now() >= end => {
                    return Err(Refusal::state(format!(
                        "a volume of group {name} cannot be let go: {reason}; again later"
                    )));
                }
                Some(_) => self.wait(Duration::from_millis(20), || None::<()>),
            };
        }
        self.array.part_group(name);
        let mut next = self.config.clone();
        for group in next.groups.iter_mut().filter(|group| group.name == name) {
            group.pairs = None;
        }
        next.groups.retain(|group| group.name != name || group.owner == Owner::File);
        let what = format!("end group {name}");
        let wanted = Wanted { pairs: true, ..Wanted::new(next, who, what.clone()) };
        self.apply(wanted)?;
        self.pairing
            .shown
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .groups
            .retain(|one| one.group != name);
        Ok(what)
    }
}

fn order(group: &Group, order: Order, what: &str) -> GroupOrder {
    GroupOrder { group: group.name.clone(), order, what: what.to_owned(), ends: None, changes: true }
}

fn marker_name(name: &str) -> Result<String, Refusal> {
    if name.is_empty() || name.len() >= NAME || name.contains(char::is_control) {
        return Err(Refusal::usage(format!(
            "the name of a marker has 1 to {} bytes, no control characters",
            NAME - 1
        )));
    }
    Ok(name.to_owned())
}

/// What is asked for beside what is there; who made it, and how far it is, does not matter, nor which side is the primary by
/// now.
enum Compared {
    Same,
    /// The same, and more pairs behind those.
    More,
    Other,
}

impl Compared {
    fn of(known: &Pairs, wanted: &Pairs) -> Self {
        let of = |pairs: &Pairs| (pairs.peer_uuid, pairs.journal, pairs.peer_journal);
        match of(known) == of(wanted) && wanted.pairs.starts_with(&known.pairs) {
            true if known.pairs.len() < wanted.pairs.len() => Self::More,
            true if known.side == wanted.side => Self::Same,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_have_short_plain_names() {
        assert_eq!(marker_name("before-upgrade").as_deref(), Ok("before-upgrade"));
        for wrong in ["", "a\nb", &"x".repeat(NAME)] {
            assert_eq!(marker_name(wrong).unwrap_err().code, 2, "{wrong:?}");
        }
    }
}
