//! From the configuration in force to another one.
//!
//! Everything that can be refused is tried first: the configuration is checked as a whole, devices
//! are opened, cores make the new units, which nobody sees. Then one transaction makes it durable;
//! only then hosts see it. What fails before the commit leaves nothing behind.

use crate::bind::{self, BindOptions, BoundVolume};
use crate::config::units::format_size;
use crate::config::{self, Backend, Config, ConfigErrors, Operators, Owner, Source, Volume};
use crate::plan::{Plan, VolumePlan};
use crate::reload::{Difference, at_start};
use crate::run::{Daemon, Managed, label, to_served};
use crate::serve::{Making, Rules};
use kagami_admin::Refusal;
use kagami_admin::report::Changed;
use kagami_channel::Session;
use kagami_tables::{Change, Object, ResultRecord, Transaction, VolumeRecord};
use kagami_types::{ByteLen, Lun};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a core may take to make a unit.
pub(super) const MAKING: Duration = Duration::from_secs(10);
/// How long a removed volume is waited for beyond its `io_timeout`.
pub(super) const PARTING: Duration = Duration::from_secs(5);
/// How long a device that is in use is waited for.
const OPENING: Duration = Duration::from_secs(1);
/// Users of a volume that are named.
const NAMED: usize = 4;

/// Whether those that use something keep it from changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Force {
    /// They do.
    No,
    /// They keep volumes from being removed; access lists change whoever is logged in (a reload).
    Lists,
    /// They do not.
    Yes,
}

/// A wanted configuration.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub next: Config,
    /// Another file than the one in force.
    pub source: Option<Source>,
    pub who: String,
    pub what: String,
    pub force: Force,
    /// Volumes under another name: from, to.
    pub renamed: Vec<(String, String)>,
    /// New volumes whose device may carry another's mark.
    pub adopt: Vec<String>,
    /// Groups of pairs come or go with it.
    pub pairs: bool,
    /// The order that asks for it, kept with the change.
    pub result: Option<ResultRecord>,
}

impl Wanted {
    pub(crate) fn new(next: Config, who: &str, what: impl Into<String>) -> Self {
        let (who, what) = (who.to_owned(), what.into());
        Self {
            next,
            source: None,
            who,
            what,
            force: Force::No,
            renamed: Vec::new(),
            adopt: Vec::new(),
            pairs: false,
            result: None,
        }
    }
}

/// A new volume whose unit the core has made.
struct Made {
    making: Making,
    index: u32,
    managed: Managed,
}

/// Files that were made for a change that then was not.
#[derive(Default)]
struct Created(Vec<PathBuf>);

impl Created {
    fn undo(self) {
        for path in self.0 {
            // A file that stays is an empty one, and says so when it is met again.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn usage(errors: &ConfigErrors) -> Refusal {
    let lines: Vec<_> = errors.to_string().lines().map(str::to_owned).collect();
    Refusal::usage(lines.join("; "))
}

impl Daemon {
    /// Does what it takes to get from the configuration in force to the wanted one.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub(crate) fn apply(&mut self, wanted: Wanted) -> Result<Changed, Refusal> {
        let Wanted { next, source, who, what, force, renamed, adopt, pairs, result } = wanted;
        let reloads = source.is_some();
        let source = source.unwrap_or_else(|| self.source.clone());
        // What is wanted was put together by us: the parser has the last word, as at start.
        let objects = config::objects(&next);
        let next = source.with(&objects).map_err(|errors| usage(&errors))?;
        let several = |errors: &ConfigErrors| {
            if reloads { Refusal::state(errors.to_string()) } else { usage(errors) }
        };
        let difference = Difference::between(&self.config, &next, &renamed).map_err(|e| several(&e))?;
        let come = difference.pairs.iter().chain(&difference.joined).next();
        if let (Some(group), false) = (come, pairs) {
            return Err(Refusal::state(format!(
                "group {group}: pairs come and go by `kagami pair create` and `kagami pair delete` while the array runs"
            )));
        }
        let plan = Plan::compute(&next, &at_start(&self.machine))
            .map_err(|error| Refusal::state(format!("{}: {}", error.site, error.reason)))?;
        let rules = self.rules(&next).map_err(Refusal::failed)?;
        let operators = Operators::load(&next).map_err(|errors| Refusal::failed(errors.to_string()))?;
        self.check_memory(&next)?;
        self.check_users(&difference, &rules, force, pairs)?;

        let mapped = self.map(&difference, &plan, &rules)?;
        let mut bound = match self.open(&difference, &plan, adopt) {
            Ok(bound) => bound,
            Err(refusal) => {
                self.unmap_again(mapped);
                return Err(refusal);
            }
        };
        let created = Created(created(&bound));
        let planned =
            match self.transaction(&bound, &difference, &objects, Transaction::new(&who, what.clone())) {
                Ok(planned) => planned,
                Err(refusal) => {
                    self.unmap_again(mapped);
                    created.undo();
                    return Err(refusal);
                }
            };
        let (mut transaction, larger) = planned;
        if let Some(mut result) = result {
            result.message = crate::events::cut(&what, kagami_tables::MAX_MESSAGE).to_owned();
            transaction.push(Change::PutResult(result));
        }
        // The marks come after the record: a crash between leaves a file that is known by its inode.
        let unmarked: Vec<VolumeRecord> = bound.iter().map(|volume| volume.record.clone()).collect();
        let tags: Vec<_> = bound.iter().map(|volume| volume.plan.name.clone()).collect();
        let made = match self.make(bound.drain(..)) {
            Ok(made) => made,
            Err(refusal) => {
                self.unmap_again(mapped);
                created.undo();
                return Err(refusal);
            }
        };
        let agreed = self.agree_to_grow(&larger).and_then(|()| self.behave(&difference.behave, &next));
        let committed = agreed.and_then(|()| {
            self.tables.commit(&transaction).map_err(|error| {
                self.behave_again(&difference.behave);
                Refusal::failed(error.to_string())
            })
        });
        let generation = match committed {
            Ok(generation) => generation,
            Err(refusal) => {
                self.unmake(made);
                self.unmap_again(mapped);
                created.undo();
                return Err(refusal);
            }
        };
        let mut notes = Vec::new();
        self.config = next;
        self.operators = operators;
        self.source = source;
        self.show_mapped(mapped);
        let unmapped: Vec<_> = difference.unmapped.iter().filter_map(|lun| self.array.unmap(*lun)).collect();
        self.show(made, &difference, &rules, &larger);
        self.part_virtual(unmapped, &mut notes);
        self.mark(&unmarked, &tags, &who, &mut notes);
        self.part(&difference, &mut notes);
        Ok(Changed { what, generation: generation.0, notes })
    }

    /// RAM volumes come out of what was taken for them at start.
    fn check_memory(&self, next: &Config) -> Result<(), Refusal> {
        let ram = next.volumes.iter().filter(|volume| volume.backend == Backend::Ram);
        let pages: u64 = ram.filter_map(|volume| volume.size).map(|size| size.0.div_ceil(4096)).sum();
        let have = u64::from(self.plan.memory.ram_pages);
        if pages <= have {
            return Ok(());
        }
        let (want, have) = (format_size(ByteLen(pages * 4096)), format_size(ByteLen(have * 4096)));
        Err(Refusal::state(format!(
            "RAM volumes would have {want}, and {have} of memory was set aside for them at start; raise array.ram and restart"
        )))
    }

    /// Refuses what would take a volume away from those who use it. Where a group of pairs ends, the peer's links to it do
    /// not count.
    fn check_users(
        &self,
        difference: &Difference,
        rules: &Rules,
        force: Force,
        pairs: bool,
    ) -> Result<(), Refusal> {
        if force == Force::Yes {
            return Ok(());
        }
        let removed: Vec<&Managed> =
            self.volumes.iter().filter(|managed| difference.removed.contains(&managed.record.name)).collect();
        for managed in &removed {
            let (name, lun) = (&managed.record.name, managed.record.lun);
            let mut users = self.seen_by(lun);
            // Who changed the file has no --force. So there it takes two steps: a volume that nobody sees any more goes,
            // with the keys of those who are not there to give them back.
            let by_file = force == Force::Lists;
            let keys_count = !by_file || !users.is_empty();
            if let Some(usage) = self.array.usage(name) {
                if usage.commands > 0 {
                    users.push(format!("{} commands under way", usage.commands));
                }
                if usage.is_reserved && keys_count {
                    users.push("a reservation".to_owned());
                } else if usage.registrations > 0 && keys_count {
                    users.push(format!("{} reservation keys", usage.registrations));
                }
            }
            if !users.is_empty() {
                let way = match by_file {
                    true => {
                        "take its LUN from the `luns` of every [[initiator]] and reload, then take the volume out and \
                         reload; or log them out"
                    }
                    false => "log them out or mask it first, or use --force",
                };
                return Err(Refusal::state(format!("volume {name} is in use: {}; {way}", users.join(", "))));
            }
        }
        for lun in &difference.unmapped {
            let users = self.seen_by(*lun);
            if !users.is_empty() {
                return Err(Refusal::state(format!(
                    "virtual volume {lun} is in use: {}; log them out or mask it first, or use --force",
                    users.join(", ")
                )));
            }
        }
        if force == Force::Lists {
            return Ok(());
        }
        let is_link =
            |session: &Session| pairs && self.config.peers.iter().any(|peer| *peer.iqn == *session.initiator);
        for (session, mut luns) in self.array.losses(rules) {
            if is_link(&session) {
                continue;
            }
            luns.retain(|lun| {
                removed.iter().all(|managed| managed.record.lun != *lun) && !difference.unmapped.contains(lun)
            });
            if !luns.is_empty() {
                let luns: Vec<_> = luns.iter().take(8).map(ToString::to_string).collect();
                return Err(Refusal::state(format!(
                    "{} is logged in and would lose {}; log it out first, or use --force",
                    who(&session),
                    luns.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// The sessions that see a LUN, in words.
    fn seen_by(&self, lun: Lun) -> Vec<String> {
        let sessions = self.array.session_list();
        let all: Vec<_> = sessions
            .iter()
            .filter(|session| !session.is_discovery && session.visible.contains(lun))
            .collect();
        let mut words: Vec<_> = all.iter().take(NAMED).map(|session| who(session)).collect();
        if all.len() > NAMED {
            words.push(format!("{} more sessions", all.len() - NAMED));
        }
        words
    }

    /// Opens the devices of new volumes and gives each its row and core.
    fn open(
        &self,
        difference: &Difference,
        plan: &Plan,
        adopt: Vec<String>,
    ) -> Result<Vec<BoundVolume>, Refusal> {
        let mut rows: Vec<usize> = self.volumes.iter().map(|managed| managed.row).collect();
        let mut wanted: Vec<VolumePlan> = Vec::new();
        for name in &difference.added {
            let Some(volume) = plan.volumes.iter().find(|volume| volume.name == *name) else { continue };
            let row = self.free_row(&rows)?;
            rows.push(row);
            wanted.push(VolumePlan {
                row: u32::try_from(row).unwrap_or(u32::MAX),
                home: self.array.idlest(),
                ..volume.clone()
            });
        }
        let state = self.tables.state();
        let served: Vec<_> = self.volumes.iter().map(|managed| managed.record.uuid).collect();
        let options = BindOptions { wait: OPENING, adopt };
        bind::prepare(&wanted, &plan.volumes, state, &served, &options)
            .map_err(|error| Refusal::state(error.to_string()))
    }

    /// A row of the metrics: one that was never used, as long as there are any.
    fn free_row(&self, taken: &[usize]) -> Result<usize, Refusal> {
        let rows = self.plan.volume_rows as usize;
        let unused = taken.iter().copied().chain([self.rows_used]).map(|row| row + 1).max().unwrap_or(0);
        if unused < rows {
            return Ok(unused);
        }
        (0..rows).find(|row| !taken.contains(row)).ok_or_else(|| {
            Refusal::state(format!("there are {rows} volumes already; raise array.max_volumes and restart"))
        })
    }

    /// Everything that is to be durable, in one transaction; and the records of larger volumes.
    fn transaction(
        &self,
        bound: &[BoundVolume],
        difference: &Difference,
        objects: &[Object],
        mut transaction: Transaction,
    ) -> Result<(Transaction, Vec<VolumeRecord>), Refusal> {
        let state = self.tables.state();
        let stays = |managed: &&Managed| !difference.removed.contains(&managed.record.name);
        let served: Vec<_> = self.volumes.iter().filter(stays).map(|managed| managed.record.uuid).collect();
        for managed in self.volumes.iter().filter(|managed| !stays(managed)) {
            let of_file =
                |volume: &&Volume| volume.name == managed.record.name && volume.owner == Owner::File;
            // What leaves the file keeps its record, and would come back as itself.
            if !self.config.volumes.iter().any(|volume| of_file(&volume)) {
                transaction.push(Change::DeleteVolume(managed.record.uuid));
            }
        }
        for change in bind::changes(bound, state, &served).0 {
            transaction.push(change);
        }
        for (old, new) in &difference.renamed {
            if let Some(managed) = self.volumes.iter().find(|managed| managed.record.name == *old) {
                let record = VolumeRecord { name: new.clone(), ..managed.record.clone() };
                transaction.push(Change::PutVolume(record));
            }
        }
        let mut larger = Vec::new();
        for (name, size) in &difference.grown {
            let lun = self.volumes.iter().find(|managed| managed.record.name == *name);
            let lun = lun.ok_or_else(|| Refusal::failed(format!("there is no volume {name}")))?.record.lun;
            let record = self.grow(lun, *size).map_err(Refusal::state)?;
            transaction.push(Change::PutVolume(record.clone()));
            larger.push(record);
        }
        let known: Vec<Object> = state.objects().collect();
        for old in &known {
            if objects.iter().all(|new| (new.kind, &new.name) != (old.kind, &old.name)) {
                transaction.push(Change::DeleteObject(old.kind, old.name.clone()));
            }
        }
        for new in objects.iter().filter(|new| !known.contains(new)) {
            transaction.push(Change::PutObject(new.clone()));
        }
        Ok((transaction, larger))
    }

    /// Has the cores make the units; all of them or none.
    fn make(&mut self, bound: impl Iterator<Item = BoundVolume>) -> Result<Vec<Made>, Refusal> {
        let mut made = Vec::new();
        let array = self.tables.state().array().uuid;
        for volume in bound {
            let managed = Managed::of(&volume);
            let name = managed.record.name.clone();
            if let Some(device) = &volume.device {
                self.watch.add(&volume.plan, &volume.record, device);
            }
            let state = self.tables.state().scsi(managed.record.uuid).map(<[u8]>::to_vec);
            let uuid = managed.record.uuid;
            let answer = self.array.make(to_served(volume, state, array)).and_then(|making| {
                match self.wait(MAKING, || making.poll()) {
                    Some(Ok(index)) => Ok((making, index)),
                    Some(Err(reason)) => {
                        self.array.give_up(&making);
                        Err(reason)
                    }
                    None => Err("its core does not answer".to_owned()),
                }
            });
            match answer {
                Ok((making, index)) => made.push(Made { making, index, managed }),
                Err(reason) => {
                    self.watch.remove(uuid);
                    self.unmake(made);
                    return Err(Refusal::failed(format!("volume {name}: {reason}")));
                }
            }
        }
        Ok(made)
    }

    /// Takes units back that nobody has seen.
    fn unmake(&mut self, made: Vec<Made>) {
        for Made { making, index, managed } in made {
            self.watch.remove(managed.record.uuid);
            self.array.place(&making, index);
            let gone = self.array.remove(&managed.record.name);
            drop(managed);
            if let Some(gone) = gone {
                self.wait(PARTING, || gone.try_recv().ok());
            }
        }
    }

    /// It is durable: hosts may see it.
    fn show(&mut self, made: Vec<Made>, difference: &Difference, rules: &Rules, larger: &[VolumeRecord]) {
        for Made { making, index, managed } in made {
            label(&self.metrics, managed.row, &managed.record);
            self.rows_used = self.rows_used.max(managed.row);
            self.array.place(&making, index);
            self.volumes.push(managed);
        }
        self.array.set_rules(rules);
        self.array.publish(&difference.removed);
        self.array.tell_changed(&self.array.sweep());
        self.sweep_for_a_while();
        for (old, new) in &difference.renamed {
            self.array.rename(old, new);
            if let Some(managed) = self.volumes.iter_mut().find(|managed| managed.record.name == *old) {
                managed.record.name.clone_from(new);
                label(&self.metrics, managed.row, &managed.record);
            }
        }
        for record in larger {
            self.shown_larger(record);
        }
    }

    /// Marks the files of new volumes.
    fn mark(&mut self, records: &[VolumeRecord], names: &[String], who: &str, notes: &mut Vec<String>) {
        let mut transaction = Transaction::new(who, format!("mark the files of {}", names.join(", ")));
        let mut marked = Vec::new();
        for record in records {
            let managed = self.volumes.iter().find(|managed| managed.record.uuid == record.uuid);
            let Some(file) = managed.and_then(|managed| managed.file.as_ref()) else { continue };
            let kagami_tables::DeviceIdentity::File { inode, tagged: false } = record.device else {
                continue;
            };
            match crate::device::tag(file, record.uuid) {
                Ok(true) => {
                    let device = kagami_tables::DeviceIdentity::File { inode, tagged: true };
                    let record = VolumeRecord { device, ..record.clone() };
                    transaction.push(Change::PutVolume(record.clone()));
                    marked.push(record);
                }
                Ok(false) => {}
                Err(error) => notes.push(format!("the file of {} cannot be marked: {error}", record.name)),
            }
        }
        if marked.is_empty() {
            return;
        }
        // Without it the next start finds the mark, and that decides.
        if let Err(error) = self.tables.commit(&transaction) {
            notes.push(error.to_string());
        }
        for record in marked {
            if let Some(managed) = self.volumes.iter_mut().find(|known| known.record.uuid == record.uuid) {
                managed.record = record;
            }
        }
    }

    /// Ends the volumes that nobody sees any more.
    fn part(&mut self, difference: &Difference, notes: &mut Vec<String>) {
        for name in &difference.removed {
            let Some(place) = self.volumes.iter().position(|managed| managed.record.name == *name) else {
                continue;
            };
            let Managed { record, row, file, .. } = self.volumes.remove(place);
            let gone = self.array.remove(name);
            self.watch.remove(record.uuid);
            let patience = self.config.array.io_timeout + PARTING;
            let ended = gone.and_then(|gone| self.wait(patience, || gone.try_recv().ok()));
            self.metrics.label(row, None);
            if let Some(file) = file
                && self.tables.state().volume(record.uuid).is_none()
            {
                crate::device::untag(&file);
            }
            if ended.is_none() {
                notes.push(format!(
                    "volume {name} is gone for hosts; its device is let go when its last I/O ends"
                ));
            }
            if !record.path.as_os_str().is_empty() {
                notes.push(format!("its data stay in {}", record.path.display()));
            }
        }
    }

    /// Waits for a core, and serves what cores wait for meanwhile.
    pub(super) fn wait<T>(&mut self, patience: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(answer) = poll() {
                return Some(answer);
            }
            if Instant::now() >= deadline {
                return None;
            }
            if let Ok(request) = self.requests.recv_timeout(Duration::from_millis(1)) {
                self.serve(request);
            }
        }
    }

    /// Makes a volume's file larger, or sees that its device is. What this leaves behind if the
    /// change fails later is a longer file, which nobody sees.
    pub(crate) fn grow(&self, lun: Lun, size: ByteLen) -> Result<VolumeRecord, String> {
        let managed = self.volumes.iter().find(|managed| managed.record.lun == lun);
        let managed = managed.ok_or_else(|| format!("there is no {lun}"))?;
        let name = &managed.record.name;
        if size < managed.record.size {
            return Err(format!("volume {name} has {} and can only grow", format_size(managed.record.size)));
        }
        let unit = u64::from(managed.record.block_size.bytes().max(managed.align));
        if !size.0.is_multiple_of(unit) {
            return Err(format!(
                "{} is no whole number of blocks of {unit} bytes, which volume {name} needs",
                format_size(size)
            ));
        }
        let larger = VolumeRecord { size, ..managed.record.clone() };
        let Some(file) = &managed.file else {
            return if managed.record.path.as_os_str().is_empty() {
                Ok(larger)
            } else {
                Err(format!("volume {name}: its device is gone"))
            };
        };
        let fail = |error: io::Error| format!("volume {name}: {error}");
        if file.metadata().map_err(fail)?.is_file() {
            if file.metadata().map_err(fail)?.len() < size.0 {
                file.set_len(size.0).and_then(|()| file.sync_all()).map_err(fail)?;
            }
        } else {
            let actual = managed.measure().map_err(fail)?;
            if actual < size {
                return Err(format!("volume {name}: the device has {}", format_size(actual)));
            }
        }
        Ok(larger)
    }

    /// Makes larger sizes durable, then shows them to hosts.
    pub(crate) fn grown(&mut self, larger: Vec<VolumeRecord>, by: &str) -> Result<(), String> {
        if larger.is_empty() {
            return Ok(());
        }
        let mut change = Transaction::new(by, "larger volumes");
        for record in &larger {
            change.push(Change::PutVolume(record.clone()));
        }
        self.tables.commit(&change).map_err(|error| error.to_string())?;
        larger.iter().for_each(|record| self.shown_larger(record));
        Ok(())
    }

    fn shown_larger(&mut self, record: &VolumeRecord) {
        if let Some(managed) = self.volumes.iter_mut().find(|managed| managed.record.uuid == record.uuid) {
            label(&self.metrics, managed.row, record);
            managed.record = record.clone();
        }
        if !self.array.grow(&record.name, record.block_size.blocks_in(record.size)) {
            // The tables have the new size, so the next start serves it.
            crate::complain(&format!("volume {} shows its new size from the next start on", record.name));
        }
    }
}

fn created(bound: &[BoundVolume]) -> Vec<PathBuf> {
    let created = bound.iter().filter(|volume| volume.device.as_ref().is_some_and(|device| device.created));
    created.map(|volume| volume.record.path.clone()).collect()
}

/// A session, in words.
fn who(session: &Session) -> String {
    match session.ends.peer {
        Some(address) => format!("{} ({address})", session.initiator),
        None => session.initiator.to_string(),
    }
}
