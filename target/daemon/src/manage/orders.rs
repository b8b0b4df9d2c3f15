//! Requests of the admin socket, each turned into the configuration that it wants.
//!
//! What is wrong with names, numbers and paths is told by the parser of the configuration, as for
//! a file; here is only what the file cannot say.

use super::apply::{Force, Wanted};
use crate::config::units::format_size;
use crate::config::{
    Backend, CacheMode, Chap, Config, Credential, Initiator, Orders, Owner, Peer, Rights, Site, Volume,
};
use crate::run::Daemon;
use kagami_admin::pair::{Groups, Ordered, PairDelete};
use kagami_admin::request::{
    Chap as ChapOrder, InitiatorAdd, InitiatorRemove, InitiatorSet, PeerAdd, PeerRemove, Place, VolumeCreate,
    VolumeGrow, VolumeMask, VolumeRemove, VolumeRename, VolumeUnmask,
};
use kagami_admin::{Refusal, Reply, Request};
use kagami_link::LinkPlan;
use kagami_tables::ResultRecord;
use kagami_types::{BlockSize, ByteLen, Lun};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where files of volumes are made that have no path of their own, below the data folder.
const FOLDER: &str = "volumes";

impl Daemon {
    /// Does what is asked.
    pub(crate) fn order(&mut self, request: Request, who: &str) -> Result<Reply, Refusal> {
        self.order_in_band(request, who, None)
    }

    /// The same; `result` is kept with the change.
    pub(super) fn order_in_band(
        &mut self,
        request: Request,
        who: &str,
        result: Option<ResultRecord>,
    ) -> Result<Reply, Refusal> {
        let wanted = match request {
            Request::Arrays => return Ok(Reply::Arrays(self.arrays())),
            Request::Volumes => return Ok(Reply::Volumes(self.volume_list())),
            Request::Luns => return Ok(Reply::Luns(self.luns())),
            Request::Tables => return Ok(Reply::Tables(self.command_devices())),
            Request::Stats => return Ok(Reply::Stats(self.stats())),
            Request::Sessions => return Ok(Reply::Sessions(self.session_report())),
            Request::InitiatorList => return Ok(Reply::Initiators(self.initiators())),
            Request::PeerList => return Ok(Reply::Peers(self.peers())),
            Request::ConfigExport => return Ok(Reply::Config(self.export())),
            Request::PairStatus(named) => {
                if let Some(name) = named.group.as_deref() {
                    self.group_named(Some(name))?;
                }
                let groups = self.group_reports(named.group.as_deref());
                return Ok(Reply::Groups(Groups { groups }));
            }
            Request::PairCreate(order) => {
                return self.create_group(&order, who, result).map(Reply::Ordered);
            }
            Request::PairSet(asked) => self.set_group(&asked, who)?,
            Request::PairDelete(PairDelete { group: Some(name), .. }) if !self.has_group(&name) => {
                let what = format!("there is no group {name} at {}", self.plan.name);
                return Ok(Reply::Ordered(Ordered { exit_code: 12, what }));
            }
            // Those are begun elsewhere, as they take long.
            Request::PairDelete(_)
            | Request::PairSplit(_)
            | Request::PairResync(_)
            | Request::PairSwap(_)
            | Request::PairTakeover(_)
            | Request::JournalAcquire(_)
            | Request::JournalRestore(_)
            | Request::JournalPurge(_)
            | Request::Marker(_)
            | Request::Relay(_) => return Err(Refusal::failed("that is not asked of the array itself")),
            Request::Events(after) => {
                return Ok(Reply::Events(self.events.after(after.after, Duration::ZERO)));
            }
            Request::VolumeCreate(order) => self.create(order, who)?,
            Request::VolumeGrow(order) => self.enlarge(&order, who)?,
            Request::VolumeRename(order) => self.rename(order, who)?,
            Request::VolumeMask(order) => self.mask(&order, who)?,
            Request::VolumeUnmask(order) => self.unmask(&order, who)?,
            Request::VolumeRemove(order) => self.remove(&order, who)?,
            Request::LunMapAdd(order) => self.map_lun(order, who)?,
            Request::LunMapRemove(order) => self.unmap_lun(&order, who)?,
            Request::InitiatorAdd(order) => self.add_initiator(order, who)?,
            Request::InitiatorSet(order) => self.set_initiator(order, who)?,
            Request::InitiatorRemove(order) => self.remove_initiator(&order, who)?,
            Request::PeerAdd(order) => self.add_peer(order, who)?,
            Request::PeerRemove(order) => self.remove_peer(&order, who)?,
        };
        self.apply(Wanted { result, ..wanted }).map(Reply::Changed)
    }

    /// A volume by its name, its LUN, or `ARRAY:LUN`.
    fn volume(&self, asked: &str) -> Result<&Volume, Refusal> {
        let volumes = &self.config.volumes;
        let by_lun = |number: &str| {
            let lun = number.parse().ok().and_then(Lun::new);
            volumes.iter().find(|volume| Some(volume.lun) == lun)
        };
        let found = match asked.split_once(':') {
            Some((array, number)) if array == self.plan.name => by_lun(number),
            Some((array, _)) => {
                return Err(Refusal::usage(format!("this is array {}, not {array}", self.plan.name)));
            }
            None => volumes.iter().find(|volume| volume.name == asked).or_else(|| by_lun(asked)),
        };
        found
            .ok_or_else(|| Refusal::usage(format!("there is no volume {asked}; `kagami volumes` lists them")))
    }

    pub(super) fn initiator(&self, iqn: &str) -> Result<&Initiator, Refusal> {
        let found = self.config.initiators.iter().find(|initiator| initiator.iqn == iqn);
        found.ok_or_else(|| {
            if self.config.initiators.is_empty() {
                Refusal::state(
                    "no initiator is listed, so each sees every volume on loopback; `kagami initiator add` begins a list",
                )
            } else {
                Refusal::usage(format!("initiator {iqn} is not listed; `kagami initiator list` shows who is"))
            }
        })
    }

    fn create(&self, order: VolumeCreate, who: &str) -> Result<Wanted, Refusal> {
        let mut next = self.config.clone();
        if next.volumes.iter().any(|volume| volume.name == order.name) {
            return Err(Refusal::state(format!("there is a volume {} already", order.name)));
        }
        // Names become parts of paths below; the parser would refuse a bad one only later.
        crate::config::names::check_name(&order.name).map_err(Refusal::usage)?;
        let lun = self.free_lun(order.lun)?;
        let needs_size = || Refusal::usage("it needs a size, such as --size 10GiB");
        let backend = match order.place {
            Place::Ram => Backend::Ram,
            Place::Null => Backend::Null,
            Place::Path(path) => Backend::Path(absolute(&path)?),
            Place::DataFolder => {
                order.size_bytes.ok_or_else(needs_size)?;
                Backend::Path(new_file(&self.plan.data.join(FOLDER), &order.name)?)
            }
            Place::Pool(pool) => {
                let size = order.size_bytes.ok_or_else(needs_size)?;
                let pool = self.pool(Some(&pool))?;
                self.has_room(&pool, size)?;
                let folder = self.config.pools.iter().find(|known| known.name == pool);
                let folder = folder.ok_or_else(|| Refusal::failed("the pool is gone"))?;
                Backend::Path(new_file(&folder.path, &order.name)?)
            }
        };
        if let Some(other) = next.volumes.iter().find(|volume| volume.backend == backend)
            && let Backend::Path(path) = &backend
        {
            return Err(Refusal::state(format!("{} is in use by volume {}", path.display(), other.name)));
        }
        let mut volume = Volume::new(lun, &order.name, backend);
        volume.owner = Owner::RunTime;
        volume.size = order.size_bytes.map(ByteLen);
        if volume.size.is_none() && !matches!(volume.backend, Backend::Path(_)) {
            return Err(needs_size());
        }
        if let Some(bytes) = order.block_bytes {
            volume.block_size = BlockSize::from_bytes(bytes)
                .ok_or_else(|| Refusal::usage("a block has 512 or 4096 bytes"))?;
        }
        volume.cache = match order.cache.as_deref() {
            None | Some("writeback") => CacheMode::WriteBack,
            Some("writethrough") => CacheMode::WriteThrough,
            Some("none") => CacheMode::None,
            Some(_) => return Err(Refusal::usage("cache is writeback, writethrough or none")),
        };
        volume.read_only = order.read_only;
        volume.thin = order.thin;
        volume.spread = order.spread.unwrap_or(1);
        if !(1..=64).contains(&volume.spread) {
            return Err(Refusal::usage("a volume is spread over 1 to 64 cores"));
        }
        let what = format!(
            "create volume {} ({lun}, {}{})",
            volume.name,
            volume.backend,
            volume.size.map(|size| format!(", {}", format_size(size))).unwrap_or_default()
        );
        next.volumes.push(volume);
        for iqn in &order.initiators {
            self.initiator(iqn)?;
            lend(&mut next, iqn, lun);
        }
        let adopt = if order.adopt { vec![order.name] } else { Vec::new() };
        // Where nobody is listed everyone sees it, so nobody can lose anything.
        Ok(Wanted { adopt, ..Wanted::new(next, who, what) })
    }

    /// The LUN that is asked for, if it is free; else the lowest free one.
    pub(super) fn free_lun(&self, asked: Option<u16>) -> Result<Lun, Refusal> {
        let volumes = self.config.volumes.iter().map(|volume| (volume.lun, &volume.name));
        let taken: Vec<(Lun, &String)> =
            volumes.chain(self.config.virtuals.iter().map(|one| (one.lun, &one.name))).collect();
        let other = |lun: Lun| taken.iter().find(|(known, _)| *known == lun);
        match asked.map(lun).transpose()? {
            Some(lun) => match other(lun) {
                Some((_, name)) => Err(Refusal::state(format!("{lun} is volume {name}"))),
                None => Ok(lun),
            },
            None => (0..=Lun::MAX)
                .filter_map(Lun::new)
                .find(|lun| other(*lun).is_none())
                .ok_or_else(|| Refusal::state("all LUNs are taken")),
        }
    }

    /// The name of a declared pool; of the only one where none is named.
    pub(super) fn pool(&self, name: Option<&str>) -> Result<String, Refusal> {
        let pools = &self.config.pools;
        match (name, pools.as_slice()) {
            (Some(name), _) if pools.iter().any(|pool| pool.name == name) => Ok(name.to_owned()),
            (Some(name), _) => Err(Refusal::usage(format!("there is no pool {name}"))),
            (None, [only]) => Ok(only.name.clone()),
            (None, []) => {
                Err(Refusal::state("no pool is declared ([[pool]]), and orders make volumes only there"))
            }
            (None, _) => Err(Refusal::usage("there are several pools; name one")),
        }
    }

    /// The pool of a volume: orders make larger only what is in one.
    pub(super) fn in_pool(&self, volume: &str) -> Result<(), Refusal> {
        let volume = self.volume(volume)?;
        match self.config.pool_of(volume) {
            Some(_) => Ok(()),
            None => Err(Refusal::state(format!(
                "volume {} is in no declared pool; make it larger over the admin socket",
                volume.name
            ))),
        }
    }

    /// Whether a pool has so many bytes left.
    fn has_room(&self, pool: &str, more: u64) -> Result<(), Refusal> {
        let Some(pool) = self.config.pools.iter().find(|known| known.name == pool) else { return Ok(()) };
        let used = self.config.used_of(pool).0;
        if used.saturating_add(more) <= pool.size.0 {
            return Ok(());
        }
        let (name, size) = (&pool.name, format_size(pool.size));
        let left = format_size(ByteLen(pool.size.0.saturating_sub(used)));
        Err(Refusal::state(format!("pool {name} of {size} has {left} left")))
    }

    fn enlarge(&self, order: &VolumeGrow, who: &str) -> Result<Wanted, Refusal> {
        let volume = self.volume(&order.volume)?;
        let (name, owner) = (volume.name.clone(), volume.owner);
        let managed = self.volumes.iter().find(|managed| managed.record.name == name);
        let managed = managed.ok_or_else(|| Refusal::failed(format!("volume {name} is not served")))?;
        let size = match order.size_bytes {
            Some(bytes) => ByteLen(bytes),
            None => {
                let unit = u64::from(managed.record.block_size.bytes().max(managed.align));
                let is_file =
                    managed.file.as_ref().is_none_or(|file| file.metadata().is_ok_and(|m| m.is_file()));
                if is_file {
                    return Err(Refusal::usage("say how large it is to be, such as --size 20GiB"));
                }
                let actual = managed.measure().map_err(|error| Refusal::failed(error.to_string()))?;
                ByteLen(actual.0 / unit * unit)
            }
        };
        let now = managed.record.size;
        if size <= now {
            let (name, now) = (&name, format_size(now));
            return Err(Refusal::state(format!("volume {name} has {now}, and volumes only grow")));
        }
        if let Some(pool) = self.config.pool_of(volume) {
            self.has_room(&pool.name, size.0.saturating_sub(now.0))?;
        }
        let mut next = self.config.clone();
        for volume in next.volumes.iter_mut().filter(|volume| volume.name == name) {
            volume.size = Some(size);
            volume.grown = (owner == Owner::File).then_some(size);
        }
        let what = format!("grow volume {name} from {} to {}", format_size(now), format_size(size));
        Ok(Wanted::new(next, who, what))
    }

    fn rename(&self, order: VolumeRename, who: &str) -> Result<Wanted, Refusal> {
        let volume = self.volume(&order.volume)?;
        self.of_run_time(volume.owner, "volume", &volume.name)?;
        let old = volume.name.clone();
        if self.config.volumes.iter().any(|volume| volume.name == order.name) {
            return Err(Refusal::state(format!("there is a volume {} already", order.name)));
        }
        let mut next = self.config.clone();
        for volume in next.volumes.iter_mut().filter(|volume| volume.name == old) {
            volume.name.clone_from(&order.name);
        }
        let what = format!("rename volume {old} to {}", order.name);
        Ok(Wanted { renamed: vec![(old, order.name)], ..Wanted::new(next, who, what) })
    }

    fn mask(&self, order: &VolumeMask, who: &str) -> Result<Wanted, Refusal> {
        let (name, lun) = self.volume(&order.volume).map(|volume| (volume.name.clone(), volume.lun))?;
        let initiator = self.initiator(&order.initiator)?;
        if !initiator.luns.contains(&lun) {
            return Err(Refusal::state(format!("{} does not see volume {name}", initiator.iqn)));
        }
        if initiator.owner == Owner::File && !initiator.added.contains(&lun) {
            return Err(self.belongs("that initiator sees it by", &initiator.iqn));
        }
        let mut next = self.config.clone();
        for initiator in next.initiators.iter_mut().filter(|known| known.iqn == order.initiator) {
            initiator.luns.retain(|known| *known != lun);
            initiator.added.retain(|known| *known != lun);
        }
        let what = format!("mask volume {name} ({lun}) from {}", order.initiator);
        Ok(Wanted { force: forced(order.force), ..Wanted::new(next, who, what) })
    }

    fn unmask(&self, order: &VolumeUnmask, who: &str) -> Result<Wanted, Refusal> {
        let volume = self.volume(&order.volume)?;
        let (name, lun) = (volume.name.clone(), volume.lun);
        if self.initiator(&order.initiator)?.luns.contains(&lun) {
            return Err(Refusal::state(format!("{} sees volume {name} already", order.initiator)));
        }
        let mut next = self.config.clone();
        lend(&mut next, &order.initiator, lun);
        Ok(Wanted::new(next, who, format!("unmask volume {name} ({lun}) to {}", order.initiator)))
    }

    fn remove(&self, order: &VolumeRemove, who: &str) -> Result<Wanted, Refusal> {
        let volume = self.volume(&order.volume)?;
        self.of_run_time(volume.owner, "volume", &volume.name)?;
        let (name, lun) = (volume.name.clone(), volume.lun);
        let mut next = self.config.clone();
        next.volumes.retain(|volume| volume.name != name);
        for initiator in &mut next.initiators {
            initiator.luns.retain(|known| *known != lun);
            initiator.added.retain(|known| *known != lun);
        }
        let what = format!("remove volume {name} ({lun}){}", if order.force { ", forced" } else { "" });
        Ok(Wanted { force: forced(order.force), ..Wanted::new(next, who, what) })
    }

    fn add_initiator(&self, order: InitiatorAdd, who: &str) -> Result<Wanted, Refusal> {
        if self.config.initiators.iter().any(|known| known.iqn == order.iqn) {
            let iqn = &order.iqn;
            return Err(Refusal::state(format!(
                "{iqn} is listed already; `kagami initiator set` changes it"
            )));
        }
        let mut luns = order.luns.iter().map(|number| lun(*number)).collect::<Result<Vec<_>, _>>()?;
        luns.sort_unstable();
        luns.dedup();
        self.are_served(&luns)?;
        let what = format!("add initiator {} with {} LUNs", order.iqn, luns.len());
        let mut next = self.config.clone();
        next.initiators.push(Initiator {
            site: Site::default(),
            owner: Owner::RunTime,
            iqn: order.iqn,
            luns,
            added: Vec::new(),
            rights: rights(order.rights.as_deref())?.unwrap_or(Rights::Read),
            chap: order.chap.map(chap).transpose()?,
        });
        Ok(Wanted { force: forced(order.force), ..Wanted::new(next, who, what) })
    }

    fn set_initiator(&self, order: InitiatorSet, who: &str) -> Result<Wanted, Refusal> {
        let known = self.initiator(&order.iqn)?;
        self.of_run_time(known.owner, "initiator", &order.iqn)?;
        let luns =
            order.luns.map(|luns| luns.into_iter().map(lun).collect::<Result<Vec<_>, _>>()).transpose()?;
        let rights = rights(order.rights.as_deref())?;
        let proof = order.chap.map(chap).transpose()?;
        if let Some(luns) = &luns {
            self.are_served(luns)?;
        }
        let mut next = self.config.clone();
        for initiator in next.initiators.iter_mut().filter(|initiator| initiator.iqn == order.iqn) {
            if let Some(luns) = &luns {
                initiator.luns.clone_from(luns);
                initiator.luns.sort_unstable();
                initiator.luns.dedup();
            }
            initiator.rights = rights.unwrap_or(initiator.rights);
            if order.no_chap {
                initiator.chap = None;
            } else if proof.is_some() {
                initiator.chap.clone_from(&proof);
            }
        }
        let what = format!("change initiator {}", order.iqn);
        Ok(Wanted { force: forced(order.force), ..Wanted::new(next, who, what) })
    }

    fn remove_initiator(&self, order: &InitiatorRemove, who: &str) -> Result<Wanted, Refusal> {
        let known = self.initiator(&order.iqn)?;
        self.of_run_time(known.owner, "initiator", &order.iqn)?;
        let mut next = self.config.clone();
        next.initiators.retain(|initiator| initiator.iqn != order.iqn);
        if next.initiators.is_empty() && !order.force {
            return Err(Refusal::state(format!(
                "{} is the last that is listed; without a list everyone sees every volume on loopback portals; --force if that is meant",
                order.iqn
            )));
        }
        let what = format!("remove initiator {}", order.iqn);
        Ok(Wanted { force: forced(order.force), ..Wanted::new(next, who, what) })
    }

    fn add_peer(&self, order: PeerAdd, who: &str) -> Result<Wanted, Refusal> {
        if self.config.peers.iter().any(|known| known.name == order.name) {
            return Err(Refusal::state(format!("there is a peer {} already", order.name)));
        }
        let portals = order.portals.iter().map(|text| {
            let wrong = || Refusal::usage(format!("\"{text}\" is not an address and port"));
            text.parse().map_err(|_| wrong())
        });
        let peer = Peer {
            site: Site::default(),
            owner: Owner::RunTime,
            portals: portals.collect::<Result<_, _>>()?,
            name: order.name,
            iqn: order.iqn,
            io_timeout: order.io_timeout_ms.map(Duration::from_millis),
            connections: match order.connections {
                None => 1,
                Some(n) if (1..=LinkPlan::MOST).contains(&n) => n,
                Some(_) => return Err(Refusal::usage("connections is 1 to 16")),
            },
            orders: match order.orders.as_deref() {
                None | Some("signed") => Orders::Signed,
                Some("forward") => Orders::Forward,
                Some("none") => Orders::None,
                Some(_) => return Err(Refusal::usage("orders is signed, forward or none")),
            },
            luns: order.luns.into_iter().map(lun).collect::<Result<_, _>>()?,
            chap: order.chap.map(chap).transpose()?,
        };
        let what = format!("add peer {}", peer.name);
        let mut next = self.config.clone();
        next.peers.push(peer);
        Ok(Wanted::new(next, who, what))
    }

    fn remove_peer(&self, order: &PeerRemove, who: &str) -> Result<Wanted, Refusal> {
        let known = self.config.peers.iter().find(|known| known.name == order.name);
        let known = known.ok_or_else(|| {
            Refusal::usage(format!("there is no peer {}; `kagami peer list` lists them", order.name))
        })?;
        self.of_run_time(known.owner, "peer", &order.name)?;
        let mut next = self.config.clone();
        next.peers.retain(|peer| peer.name != order.name);
        Ok(Wanted::new(next, who, format!("remove peer {}", order.name)))
    }

    /// The parser would leave out LUNs that are not there: here they are a mistake.
    fn are_served(&self, luns: &[Lun]) -> Result<(), Refusal> {
        let served = |lun: &&Lun| {
            self.config.volumes.iter().all(|volume| volume.lun != **lun)
                && self.config.virtuals.iter().all(|one| one.lun != **lun)
        };
        match luns.iter().find(served) {
            Some(lun) => Err(Refusal::usage(format!("there is no volume with {lun}"))),
            None => Ok(()),
        }
    }

    pub(super) fn of_run_time(&self, owner: Owner, kind: &str, name: &str) -> Result<(), Refusal> {
        match owner {
            Owner::RunTime => Ok(()),
            Owner::File => Err(self.belongs(kind, name)),
        }
    }

    fn belongs(&self, kind: &str, name: &str) -> Refusal {
        if self.source.is_embedded() {
            return Refusal::state(format!(
                "{kind} {name} belongs to the embedded default; serve a configuration file (`kagami config export` writes one) to change it"
            ));
        }
        let file = self.source.name();
        Refusal::state(format!("{kind} {name} belongs to {file}: change it there and reload (SIGHUP)"))
    }
}

/// A path for a new file in a folder, which is made where it is missing.
fn new_file(folder: &Path, name: &str) -> Result<PathBuf, Refusal> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Refusal::failed(format!("{} cannot be made: {error}", folder.display())))?;
    let folder = std::path::absolute(folder).map_err(|error| Refusal::failed(error.to_string()))?;
    // A file of that name may be another volume's, renamed since, or what a removed one left.
    let names = std::iter::once(format!("{name}.img")).chain((1..1000).map(|n| format!("{name}.{n}.img")));
    let mut paths = names.map(|name| folder.join(name));
    paths.find(|path| !path.exists()).ok_or_else(|| {
        Refusal::state(format!("{} is full of files of removed volumes {name}", folder.display()))
    })
}

fn forced(force: bool) -> Force {
    if force { Force::Yes } else { Force::No }
}

/// Shows a LUN to an initiator.
pub(super) fn lend(config: &mut Config, iqn: &str, lun: Lun) {
    for initiator in config.initiators.iter_mut().filter(|known| known.iqn == iqn) {
        if initiator.luns.contains(&lun) {
            continue;
        }
        initiator.luns.push(lun);
        initiator.luns.sort_unstable();
        if initiator.owner == Owner::File {
            initiator.added.push(lun);
            initiator.added.sort_unstable();
        }
    }
}

pub(super) fn lun(number: u16) -> Result<Lun, Refusal> {
    Lun::new(number).ok_or_else(|| Refusal::usage(format!("a LUN is 0 to {}", Lun::MAX)))
}

fn rights(word: Option<&str>) -> Result<Option<Rights>, Refusal> {
    match word {
        None => Ok(None),
        Some("read") => Ok(Some(Rights::Read)),
        Some("operate") => Ok(Some(Rights::Operate)),
        Some("admin") => Ok(Some(Rights::Admin)),
        Some(_) => Err(Refusal::usage("rights are read, operate or admin")),
    }
}

fn absolute(path: &str) -> Result<PathBuf, Refusal> {
    if Path::new(path).is_absolute() && !path.contains('\0') {
        Ok(path.into())
    } else {
        Err(Refusal::usage(format!("{path:?} is not an absolute path")))
    }
}

fn chap(order: ChapOrder) -> Result<Chap, Refusal> {
    let credential = |user: String, file: &str| {
        Ok::<_, Refusal>(Credential { user, secret_file: absolute(file)?, site: Site::default() })
    };
    let mutual = order.mutual.map(|mutual| credential(mutual.user, &mutual.secret_file)).transpose()?;
    Ok(Chap { credential: credential(order.user, &order.secret_file)?, mutual })
}
