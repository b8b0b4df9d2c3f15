//! What can change at run time, and what cannot.
//!
//! A reload of the file (SIGHUP) and an order over the admin socket come here alike: both make
//! another configuration, and the difference to the one in force is what has to be done. Volumes
//! that come, go, grow or get another name, access lists, secrets, peers and operators are
//! applied; any other difference refuses all of it and says which key.

use crate::config::{
    Backend, Config, ConfigError, ConfigErrors, Group, Owner, Pairs, Peer, Site, Virtual, Volume,
};
use crate::plan::Machine;
use kagami_types::{ByteLen, Lun};

/// What it takes to get from one configuration to another. Access lists are not compared: they
/// are replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Names of new volumes.
    pub added: Vec<String>,
    /// Names of volumes that are gone.
    pub removed: Vec<String>,
    /// Volumes that are larger now, by their new name, and how large.
    pub grown: Vec<(String, ByteLen)>,
    /// Volumes that have another name: the old one and the new one.
    pub renamed: Vec<(String, String)>,
    /// LUNs of new virtual volumes.
    pub mapped: Vec<Lun>,
    /// LUNs of virtual volumes that are gone.
    pub unmapped: Vec<Lun>,
    /// Groups whose pairs came or went.
    pub pairs: Vec<String>,
    /// Groups to which pairs came.
    pub joined: Vec<String>,
    /// Groups at work that behave in another way.
    pub behave: Vec<String>,
}

impl Difference {
    /// Compares two configurations. `renamed` says which volume of the second is which of the
    /// first under another name; that cannot be seen from the two.
    ///
    /// # Errors
    /// What cannot change at run time.
    pub fn between(
        current: &Config,
        next: &Config,
        renamed: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut refuse = |site: &Site, reason: String| {
            errors.push(ConfigError { site: site.clone(), reason });
        };
        for key in array_differences(current, next) {
            let site = Site { key: format!("array.{key}"), ..next.array.cores_site.clone() };
            refuse(&site, "can only change with a restart".to_owned());
        }
        let addresses =
            |config: &Config| config.portals.iter().map(|p| (p.address, p.role, p.open)).collect::<Vec<_>>();
        if addresses(current) != addresses(next) {
            refuse(&next.array.cores_site, "portals can only change with a restart".to_owned());
        }
        let mut difference = Self { renamed: renamed.to_vec(), ..Self::default() };
        let same = |old: &Virtual, new: &Virtual| {
            (old.lun, &old.peer, old.mapped_lun, old.role) == (new.lun, &new.peer, new.mapped_lun, new.role)
        };
        for old in &current.virtuals {
            if !next.virtuals.iter().any(|new| same(old, new)) {
                difference.unmapped.push(old.lun);
            }
        }
        for new in &next.virtuals {
            if current.virtuals.iter().any(|old| same(old, new)) {
                continue;
            }
            if difference.unmapped.contains(&new.lun) {
                refuse(
                    &new.site,
                    format!("{} leads elsewhere now; take it out first, in a step of its own", new.lun),
                );
            }
            difference.mapped.push(new.lun);
        }
        groups(current, next, &mut difference, &mut refuse);
        let has_links = |peer: &&Peer| {
            let paired = |group: &&crate::config::Group| group.peer == peer.name && group.pairs.is_some();
            next.virtuals.iter().any(|v| v.peer == peer.name)
                || current.groups.iter().any(|group| paired(&group))
        };
        for old in current.peers.iter().filter(has_links) {
            let ways = |peer: &Peer| (peer.iqn.clone(), peer.portals.clone(), peer.io_timeout);
            if next.peers.iter().any(|new| new.name == old.name && ways(new) != ways(old)) {
                let reason = "a peer that has virtual volumes can only change with a restart".to_owned();
                refuse(&old.site, reason);
            }
        }
        for old in &current.volumes {
            let name = renamed.iter().find(|(from, _)| *from == old.name).map_or(&old.name, |(_, to)| to);
            match next.volumes.iter().find(|new| new.name == *name) {
                None => difference.removed.push(old.name.clone()),
                Some(new) => match change(old, new) {
                    Ok(Some(size)) => difference.grown.push((new.name.clone(), size)),
                    Ok(None) => {}
                    Err(reason) => refuse(&new.site, reason),
                },
            }
        }
        for new in &next.volumes {
            let known = current.volumes.iter().any(|old| old.name == new.name);
            if !known && renamed.iter().all(|(_, to)| *to != new.name) {
                difference.added.push(new.name.clone());
            }
        }
        // A volume that goes and one that comes on the same device in one step: the device is ours
        // until the first is gone.
        for added in next.volumes.iter().filter(|volume| difference.added.contains(&volume.name)) {
            let same =
                |old: &&Volume| matches!(old.backend, Backend::Path(_)) && old.backend == added.backend;
            if let Some(old) = current.volumes.iter().find(same) {
                let reason = format!(
                    "volume {} is on {}; another name or LUN in the file takes a restart",
                    old.name, old.backend
                );
                refuse(&added.site, reason);
            }
        }
        if errors.is_empty() { Ok(difference) } else { Err(ConfigErrors(errors)) }
    }

    /// Whether nothing is to be done beside replacing the access lists.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What changed of groups with pairs. What they join can only become more.
fn groups(
    current: &Config,
    next: &Config,
    difference: &mut Difference,
    refuse: &mut impl FnMut(&Site, String),
) {
    let paired = |group: &&Group| group.pairs.is_some();
    for old in current.groups.iter().filter(paired) {
        let Some(new) = next.groups.iter().filter(paired).find(|new| new.name == old.name) else {
            difference.pairs.push(old.name.clone());
            continue;
        };
        let plain = |group: &Group| {
            let pairs = group.pairs.clone();
            pairs.map(|pairs| Pairs { owner: Owner::File, fresh: false, pairs: Vec::new(), ..pairs })
        };
        let list = |group: &Group| group.pairs.as_ref().map_or_else(Vec::new, |pairs| pairs.pairs.clone());
        let (before, now) = (list(old), list(new));
        if (&old.peer, plain(old)) != (&new.peer, plain(new)) || !now.starts_with(&before) {
            refuse(&new.site, "what a group joins can only become more at run time".to_owned());
        } else if now != before {
            difference.joined.push(new.name.clone());
        }
        if old.options != new.options {
            difference.behave.push(new.name.clone());
        }
    }
    let is_new = |group: &&Group| current.groups.iter().filter(paired).all(|old| old.name != group.name);
    difference.pairs.extend(next.groups.iter().filter(paired).filter(is_new).map(|group| group.name.clone()));
}

/// The machine without its memory: the arena is taken already, and what is free now says
/// nothing.
pub(crate) fn at_start(machine: &Machine) -> Machine {
    Machine { memory: u64::MAX / 2, ..machine.clone() }
}

/// The keys of `[array]` that differ.
fn array_differences(old: &Config, new: &Config) -> Vec<&'static str> {
    let (old, new) = (&old.array, &new.array);
    let mut keys = Vec::new();
    macro_rules! compare {
        ($($key:ident),* $(,)?) => { $( if old.$key != new.$key { keys.push(stringify!($key)); } )* };
    }
    compare!(
        name,
        iqn,
        data,
        cores,
        cache,
        ram,
        metrics,
        admin,
        idle,
        congestion,
        header_digest,
        data_digest,
        nop_interval,
        nop_timeout,
        login_timeout,
        io_timeout,
        stop_timeout,
        max_sessions,
        max_connections,
        connections_per_session,
        queue_depth,
        tasks,
        max_volumes,
        huge_pages,
        first_burst,
        max_burst,
    );
    keys
}

/// The larger size of a volume, where only that changed.
fn change(old: &Volume, new: &Volume) -> Result<Option<ByteLen>, String> {
    let same = Volume {
        site: old.site.clone(),
        size: old.size,
        grown: old.grown,
        name: old.name.clone(),
        // The file may take over what was made at run time.
        owner: if new.owner == Owner::File { old.owner } else { new.owner },
        ..new.clone()
    };
    if same != *old {
        return Err("of a volume only the size can change without a restart".to_owned());
    }
    match (old.size, new.size) {
        (old, new) if old == new => Ok(None),
        (Some(old), Some(new)) if new > old => Ok(Some(new)),
        (None, Some(size)) => Ok(Some(size)),
        _ => Err("a volume can only grow".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const BASE: &str = "[array]\nname = \"a\"\ndata = \"d\"\n";
    const DISK: &str = "[[volume]]\nlun = 0\nname = \"v\"\npath = \"/x\"\nsize = \"1MiB\"\n";

    fn between(old: &str, new: &str, renamed: &[(String, String)]) -> Result<Difference, String> {
        let (old, new) = (parse(old, "k.toml").unwrap(), parse(new, "k.toml").unwrap());
        Difference::between(&old, &new, renamed).map_err(|errors| errors.to_string())
    }

    #[test]
    fn volumes_may_come_go_and_grow() {
        let old = format!("{BASE}{DISK}");
        let other = "[[volume]]\nlun = 1\nname = \"w\"\nbackend = \"ram\"\nsize = \"1MiB\"\n";
        let found = between(&old, &format!("{BASE}{other}{}", DISK.replace("1MiB", "2MiB")), &[]).unwrap();
        assert_eq!(found.grown, [("v".to_owned(), ByteLen(2 << 20))]);
        assert_eq!((found.added, found.removed), (vec!["w".to_owned()], vec![]));
        let found = between(&format!("{old}{other}"), &format!("{BASE}{other}"), &[]).unwrap();
        assert_eq!((found.added, found.removed), (vec![], vec!["v".to_owned()]));
        assert!(between(&old, &old, &[]).unwrap().is_empty());
    }

    #[test]
    fn a_name_may_change_where_that_is_said() {
        let old = format!("{BASE}{DISK}");
        let new = old.replace("\"v\"", "\"w\"");
        let renamed = [("v".to_owned(), "w".to_owned())];
        let found = between(&old, &new, &renamed).unwrap();
        assert_eq!((found.renamed.as_slice(), found.added.len(), found.removed.len()), (&renamed[..], 0, 0));
        // Not said, it is another volume on the same device.
        assert!(between(&old, &new, &[]).unwrap_err().contains("takes a restart"));
    }

    #[test]
    fn access_may_change() {
        let host = "[[initiator]]\niqn = \"iqn.2026-11.io.kagami:h\"\nluns = [0]\n";
        assert!(between(&format!("{BASE}{DISK}"), &format!("{BASE}{DISK}{host}"), &[]).unwrap().is_empty());
    }

    #[test]
    fn virtual_volumes_come_and_go() {
        let peer = "[[peer]]\nname = \"p\"\niqn = \"iqn.2026-11.io.kagami:p\"\nportal = \"127.0.0.1:9\"\n";
        let far = "[[virtual]]\nlun = 3\npeer = \"p\"\nmapped_lun = 1\n";
        let (old, new) = (format!("{BASE}{DISK}{peer}"), format!("{BASE}{DISK}{peer}{far}"));
        let lun = Lun::new(3).unwrap();
        assert_eq!(between(&old, &new, &[]).unwrap().mapped, [lun]);
        assert_eq!(between(&new, &old, &[]).unwrap().unmapped, [lun]);
        assert!(
            between(&new, &new.replace("mapped_lun = 1", "mapped_lun = 1\nname = \"x\""), &[])
                .unwrap()
                .is_empty()
        );
        let elsewhere = new.replace("mapped_lun = 1", "mapped_lun = 2");
        assert!(between(&new, &elsewhere, &[]).unwrap_err().contains("LUN 3 leads elsewhere now"));
        assert!(between(&new, &new.replace(":9", ":8"), &[]).unwrap_err().contains("restart"));
        assert!(between(&old, &old.replace(":9", ":8"), &[]).unwrap().is_empty());
    }

    #[test]
    fn everything_else_is_refused_at_once() {
        let old = format!("{BASE}{DISK}");
        let new = format!("{BASE}cache = \"64MiB\"\nidle = \"spin\"\n{}", DISK.replace("lun = 0", "lun = 4"));
        let text = between(&old, &new, &[]).unwrap_err();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("array.cache: can only change with a restart") && text.contains("array.idle"));
        assert!(text.contains("k.toml:6: volume[0]: of a volume only the size"), "{text}");
        assert!(between(&old, &old.replace("1MiB", "512KiB"), &[]).unwrap_err().contains("only grow"));
        let portal = format!("{BASE}listen = [\"127.0.0.1:9\"]\n{DISK}");
        assert!(between(&old, &portal, &[]).unwrap_err().contains("portals"));
    }
}
