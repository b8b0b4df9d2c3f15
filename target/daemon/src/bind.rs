//! From planned volumes to volumes with an identity and an open device.
//!
//! A volume's UUID and NAA name are made at first use and kept in the tables; so is what the
//! device was. At every later start the device must still be that one. A volume is found again
//! by its name, or, where it was renamed, by its device.
//!
//! Called at start for all volumes and on reload for new ones, on the management thread.

use crate::config::{Backend, Config, Role, Site};
use crate::device::{self, DeviceError, DeviceKind, Misuse, OpenDevice};
use crate::plan::VolumePlan;
use kagami_tables::{
    BackendKind, Change, DeviceIdentity, State, Storage, Tables, TablesError, Transaction, VolumeRecord,
    VolumeRole, new_uuid,
};
use kagami_types::{ByteLen, Naa, Uuid};
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

/// A volume that can be served.
#[derive(Debug)]
pub struct BoundVolume {
    /// Its plan.
    pub plan: VolumePlan,
    /// Its identity, as the tables have it.
    pub record: VolumeRecord,
    /// Its device; `None` for RAM and null.
    pub device: Option<OpenDevice>,
    /// Its capacity: a whole number of its blocks.
    pub size: ByteLen,
    /// Whether unmapped blocks are given back and read as zeroes.
    pub thin: bool,
}

/// Why volumes could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A device cannot be used.
    #[error(transparent)]
    Device(#[from] Box<DeviceError>),
    /// The tables could not be changed.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The configuration contradicts what is recorded.
    #[error("{site}: {reason}")]
    Record {
        /// Where the configuration says so.
        site: Site,
        /// What contradicts.
        reason: String,
    },
}

/// How to bind.
#[derive(Clone, Debug, Default)]
pub struct BindOptions {
    /// How long to wait for devices that are in use.
    pub wait: Duration,
    /// Volumes whose device may be another than the recorded one, by name.
    pub adopt: Vec<String>,
}

/// Opens the devices of planned volumes and settles their identities in the tables, in one
/// transaction.
///
/// # Errors
/// The first volume that cannot be served; then nothing is recorded, but a file that was
/// missing may have been made.
pub fn bind<S: Storage>(
    plans: &[VolumePlan],
    tables: &mut Tables<S>,
    options: &BindOptions,
) -> Result<Vec<BoundVolume>, BindError> {
    let mut bound = prepare(plans, plans, tables.state(), &[], options)?;
    let (changes, words) = changes(&bound, tables.state(), &[]);
    if !changes.is_empty() {
        let what = format!("volumes: {}", words.join(", "));
        tables.commit(&changes.into_iter().fold(Transaction::new("file", what), Transaction::with))?;
    }
    tag_files(&mut bound, tables, "file")?;
    Ok(bound)
}

/// Opens the devices of some volumes of a plan and finds out who they are; records nothing.
/// `served` are the volumes that are bound already.
///
/// # Errors
/// As [`bind`].
pub fn prepare(
    plans: &[VolumePlan],
    all: &[VolumePlan],
    state: &State,
    served: &[Uuid],
    options: &BindOptions,
) -> Result<Vec<BoundVolume>, BindError> {
    let mut bound = Vec::with_capacity(plans.len());
    let mut taken: HashSet<Uuid> = served.iter().copied().collect();
    for plan in plans {
        let device = device::open(plan, options.wait)?;
        let adopt = options.adopt.contains(&plan.name);
        let old = find(state, all, plan, device.as_ref(), &taken);
        if let (Some(old), false) = (&old, adopt) {
            check_record(plan, old, device.as_ref())?;
        }
        let volume = identify(plan, old, device, adopt)?;
        taken.insert(volume.record.uuid);
        bound.push(volume);
    }
    Ok(bound)
}

/// The record of a volume: by name, else by a device that no other configured volume names.
fn find(
    state: &State,
    plans: &[VolumePlan],
    plan: &VolumePlan,
    device: Option<&OpenDevice>,
    taken: &HashSet<Uuid>,
) -> Option<VolumeRecord> {
    if let Some(named) = state.volume_named(&plan.name) {
        return Some(named.clone());
    }
    let device = device.filter(|device| !device.created)?;
    let free = |record: &&VolumeRecord| {
        !taken.contains(&record.uuid) && plans.iter().all(|plan| plan.name != record.name)
    };
    state.volumes().filter(free).find(|record| same_device(record, device).is_ok_and(|sure| sure)).cloned()
}

/// Whether a device is the recorded one: `Ok(true)` for certain, `Ok(false)` where neither the
/// record nor the device says enough; an error with what was expected and what was found.
pub(crate) fn same_device(record: &VolumeRecord, device: &OpenDevice) -> Result<bool, (String, String)> {
    let differs = |recorded: String, found: String| Err((recorded, found));
    match (&record.device, &device.facts.identity) {
        (DeviceIdentity::None, _) => Ok(false),
        (DeviceIdentity::File { inode, tagged }, DeviceIdentity::File { inode: found, .. }) => {
            match device::tagged_as(&device.file) {
                Some(tag) if tag == record.uuid.to_string() => Ok(true),
                Some(tag) => differs(format!("the file of volume {}", record.uuid), format!("that of {tag}")),
                None if *tagged => {
                    differs(format!("the file of volume {}", record.uuid), "a file without a mark".to_owned())
                }
                None if inode == found => Ok(true),
                None => differs(format!("a file with inode {inode}"), format!("one with inode {found}")),
            }
        }
        (
            DeviceIdentity::Block { wwn, serial, size },
            DeviceIdentity::Block { wwn: found_wwn, serial: found_serial, size: found_size },
        ) => {
            let show = |wwn: &str, serial: &str| format!("wwn \"{wwn}\" serial \"{serial}\"");
            if wwn != found_wwn || serial != found_serial {
                return differs(show(wwn, serial), show(found_wwn, found_serial));
            }
            // A device may have grown; one that shrank is another one.
            if found_size < size {
                return differs(format!("{size} bytes"), format!("{found_size} bytes"));
            }
            Ok(!(wwn.is_empty() && serial.is_empty()))
        }
        (DeviceIdentity::Block { .. }, _) => differs("a block device".to_owned(), "a file".to_owned()),
        (DeviceIdentity::File { .. }, _) => differs("a file".to_owned(), "a block device".to_owned()),
    }
}

/// Refuses a configuration that makes another volume of a recorded one.
fn check_record(plan: &VolumePlan, old: &VolumeRecord, device: Option<&OpenDevice>) -> Result<(), BindError> {
    let refuse = |reason: String| Err(BindError::Record { site: plan.site.clone(), reason });
    let adopt = format!("if that is intended, start once with --adopt {}", plan.name);
    if old.backend != backend(plan) {
        return refuse(format!("the volume was on another kind of back end ({:?}); {adopt}", old.backend));
    }
    if old.block_size != plan.block_size {
        return refuse(format!(
            "the volume has blocks of {} bytes, which hosts rely on; {adopt}",
            old.block_size.bytes()
        ));
    }
    let Some(device) = device else { return Ok(()) };
    if device.size < old.size {
        return refuse(format!(
            "the volume has {} and can only grow; {adopt}",
            crate::config::units::format_size(old.size)
        ));
    }
    if device.created && old.device != DeviceIdentity::None {
        // Made just now in place of one that is gone: never serve an empty file as the old data.
        let path = path_of(plan);
        let _ = std::fs::remove_file(&path);
        let (recorded, found) = ("the file with the volume's data".to_owned(), "no file".to_owned());
        let reason = Misuse::NotTheSame { recorded, found };
        return Err(Box::new(DeviceError { site: plan.site.clone(), path, reason }).into());
    }
    same_device(old, device).map(drop).map_err(|(recorded, found)| {
        let reason = Misuse::NotTheSame { recorded, found };
        Box::new(DeviceError { site: plan.site.clone(), path: path_of(plan), reason }).into()
    })
}

fn path_of(plan: &VolumePlan) -> PathBuf {
    match &plan.backend {
        Backend::Path(path) => path.clone(),
        _ => PathBuf::new(),
    }
}

fn backend(plan: &VolumePlan) -> BackendKind {
    match plan.backend {
        Backend::Path(_) => BackendKind::Path,
        Backend::Ram => BackendKind::Ram,
        Backend::Null => BackendKind::Null,
        // Its contents are gone with the daemon, as those of RAM are.
        #[cfg(feature = "faulty")]
        Backend::Faulty(_) => BackendKind::Ram,
    }
}

fn identify(
    plan: &VolumePlan,
    old: Option<VolumeRecord>,
    device: Option<OpenDevice>,
    adopt: bool,
) -> Result<BoundVolume, BindError> {
    let size = match (&device, plan.size) {
        (Some(device), _) => device.size,
        (None, size) => size.unwrap_or_default(),
    };
    let (uuid, naa) = match &old {
        Some(old) => (old.uuid, old.naa),
        None => {
            let uuid = new_uuid()?;
            (uuid, Naa::from_uuid(uuid))
        }
    };
    let tag = device.as_ref().and_then(|device| device::tagged_as(&device.file));
    if let Some(tag) = tag.filter(|tag| *tag != uuid.to_string() && !adopt) {
        // Only a first use comes here: of a known volume the mark was checked before.
        let reason = Misuse::Foreign(tag);
        return Err(Box::new(DeviceError { site: plan.site.clone(), path: path_of(plan), reason }).into());
    }
    let was_tagged = |inode: u64| matches!(&old, Some(VolumeRecord { device: DeviceIdentity::File { inode: known, tagged: true }, .. }) if *known == inode);
    let identity = match device.as_ref().map(|device| device.facts.identity.clone()) {
        Some(DeviceIdentity::File { inode, .. }) => DeviceIdentity::File { inode, tagged: was_tagged(inode) },
        Some(identity) => identity,
        None => DeviceIdentity::None,
    };
    let thin = plan.thin.unwrap_or(device.as_ref().is_none_or(|device| device.facts.discard));
    let record = VolumeRecord {
        uuid,
        naa,
        name: plan.name.clone(),
        lun: plan.lun,
        backend: backend(plan),
        path: path_of(plan),
        size,
        block_size: plan.block_size,
        role: match plan.role {
            Role::Plain => VolumeRole::Plain,
            Role::Command => VolumeRole::Command,
            Role::Journal => VolumeRole::Journal,
        },
        device: identity,
    };
    Ok(BoundVolume { plan: plan.clone(), record, device, size, thin })
}

/// What is new or different of bound volumes, as changes of the tables, and in words. `served` are
/// other volumes that stay.
#[must_use]
pub fn changes(bound: &[BoundVolume], state: &State, served: &[Uuid]) -> (Vec<Change>, Vec<String>) {
    let mut changes = Vec::new();
    let mut words = Vec::new();
    let configured = |uuid| served.contains(&uuid) || bound.iter().any(|volume| volume.record.uuid == uuid);
    for old in state.volumes().filter(|old| !configured(old.uuid)) {
        // A volume that left the file keeps its record, and would come back as itself; unless
        // its labels are wanted by another now.
        let wanted = |volume: &BoundVolume| volume.record.lun == old.lun || volume.record.name == old.name;
        if bound.iter().any(wanted) {
            words.push(format!("forget {} ({})", old.name, old.uuid));
            changes.push(Change::DeleteVolume(old.uuid));
        }
    }
    for volume in bound {
        match state.volume(volume.record.uuid) {
            Some(old) if *old == volume.record => continue,
            Some(_) => words.push(format!("change {}", volume.record.name)),
            None => words.push(format!("new {} {}", volume.record.name, volume.record.naa)),
        }
        changes.push(Change::PutVolume(volume.record.clone()));
    }
    (changes, words)
}

/// Marks files with their volume's UUID, after it is recorded: a crash between leaves a file
/// without a mark, whose inode is known, and never a mark that nobody knows.
///
/// # Errors
/// A file cannot be marked, or that not recorded.
pub fn tag_files<S: Storage>(
    bound: &mut [BoundVolume],
    tables: &mut Tables<S>,
    who: &str,
) -> Result<(), BindError> {
    let mut changes = Transaction::new(who, "files marked with their volumes");
    for volume in bound.iter_mut() {
        let (Some(device), DeviceIdentity::File { inode, tagged: false }) =
            (&volume.device, &volume.record.device)
        else {
            continue;
        };
        debug_assert!(device.facts.kind == DeviceKind::File);
        let fail = |error| {
            let reason = Misuse::Io("cannot be marked", error);
            Box::new(DeviceError { site: volume.plan.site.clone(), path: path_of(&volume.plan), reason })
        };
        if device::tag(&device.file, volume.record.uuid).map_err(fail)? {
            volume.record.device = DeviceIdentity::File { inode: *inode, tagged: true };
            changes.push(Change::PutVolume(volume.record.clone()));
        }
    }
    if !changes.is_empty() {
        tables.commit(&changes)?;
    }
    Ok(())
}

/// How long devices and the data folder are waited for at start, when a predecessor may still
/// be on its way out.
#[must_use]
pub fn start_wait(config: &Config) -> Duration {
    config.array.io_timeout.min(Duration::from_secs(10))
}

#[cfg(test)]
mod tests;
