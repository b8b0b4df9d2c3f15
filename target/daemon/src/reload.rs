//! What can change at run time, and what cannot.
//!
//! SIGHUP reads the file again. Access lists and secrets, operators, new volumes and larger
//! volumes are applied; any other difference refuses the whole reload and says which key.

use crate::config::{Access, Backend, Config, ConfigError, ConfigErrors, Volume};
use crate::plan::{Machine, Plan, PlanError, VolumePlan};
use kagami_types::{ByteLen, Lun};
use std::path::Path;

/// A change of the configuration that can be applied while serving.
#[derive(Debug)]
pub struct Reload {
    /// The whole new configuration, to compare the next one with.
    pub config: Config,
    /// Who may log in, from now on. Sessions of initiators that lost a LUN must lose it.
    pub access: Access,
    /// Volumes to be served in addition. Their rows follow those of the plan in force.
    pub added: Vec<VolumePlan>,
    /// Volumes that are larger now, and how large.
    pub grown: Vec<(Lun, ByteLen)>,
}

impl Reload {
    /// Reads a file again and compares it with the configuration in force.
    ///
    /// # Errors
    /// Everything that is wrong with the file or cannot change at run time, one line each.
    pub fn read(path: &Path, current: &Config, machine: &Machine) -> Result<Self, String> {
        let config = crate::config::load(path).map_err(|errors| errors.to_string())?;
        let access = Access::load(&config).map_err(|errors| errors.to_string())?;
        Self::compare(current, config, access, machine).map_err(|errors| errors.to_string())
    }

    /// Compares two configurations.
    ///
    /// # Errors
    /// What cannot change at run time.
    pub fn compare(
        current: &Config,
        mut config: Config,
        access: Access,
        machine: &Machine,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut refuse = |site: &crate::config::Site, reason: String| {
            errors.push(ConfigError { site: site.clone(), reason });
        };
        for key in array_differences(current, &config) {
            let site = crate::config::Site { key: format!("array.{key}"), ..config.array.cores_site.clone() };
            refuse(&site, "can only change with a restart".to_owned());
        }
        let addresses =
            |config: &Config| config.portals.iter().map(|p| (p.address, p.role, p.open)).collect::<Vec<_>>();
        if addresses(current) != addresses(&config) {
            refuse(&config.array.cores_site.clone(), "portals can only change with a restart".to_owned());
        }
        let mut grown = Vec::new();
        for old in &current.volumes {
            match config.volumes.iter().find(|new| new.name == old.name) {
                None => refuse(
                    &config.array.cores_site,
                    format!("volume {} is gone; volumes can only go with a restart", old.name),
                ),
                Some(new) => match change(old, new) {
                    Ok(Some(size)) => grown.push((old.lun, size)),
                    Ok(None) => {}
                    Err(reason) => refuse(&new.site, reason),
                },
            }
        }
        // The order of the file does not matter, the order of rows does: known volumes keep
        // theirs, new ones follow.
        let known = |volume: &Volume| current.volumes.iter().position(|old| old.name == volume.name);
        config.volumes.sort_by_key(|volume| known(volume).unwrap_or(usize::MAX));
        let count = config.volumes.iter().filter(|volume| known(volume).is_none()).count();
        let first = config.volumes.len() - count;
        for volume in config.volumes.iter().skip(first) {
            if volume.backend == Backend::Ram {
                refuse(&volume.site, "a RAM volume needs memory that is taken at start only".to_owned());
            }
        }
        let plan = match Plan::compute(&config, &at_start(machine)) {
            Ok(plan) => plan,
            Err(PlanError { site, reason }) => {
                refuse(&site, reason.to_string());
                return Err(ConfigErrors(errors));
            }
        };
        if errors.is_empty() {
            let added = plan.volumes.into_iter().skip(first).collect();
            Ok(Self { config, access, added, grown })
        } else {
            Err(ConfigErrors(errors))
        }
    }
}

/// The machine without its memory: the arena is taken already, and what is free now says
/// nothing.
fn at_start(machine: &Machine) -> Machine {
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
    let same = Volume { site: old.site.clone(), size: old.size, ..new.clone() };
    if same != *old {
        return Err("of a volume only the size can change without a restart".to_owned());
    }
    match (old.size, new.size) {
        (old, new) if old == new => Ok(None),
        (Some(old), Some(new)) if new > old => match same.backend {
            Backend::Path(_) => Ok(Some(new)),
            _ => Err("a volume in memory cannot grow without a restart".to_owned()),
        },
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

    fn reload(old: &str, new: &str) -> Result<Reload, String> {
        let config = parse(new, "k.toml").unwrap();
        let access = Access::load(&config).unwrap();
        Reload::compare(&parse(old, "k.toml").unwrap(), config, access, &Machine::imagined(2))
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn volumes_may_come_and_grow() {
        let old = format!("{BASE}{DISK}");
        let first = "[[volume]]\nlun = 1\nname = \"w\"\nbackend = \"null\"\nsize = \"1MiB\"\n";
        let reload = reload(&old, &format!("{BASE}{first}{}", DISK.replace("1MiB", "2MiB"))).unwrap();
        assert_eq!(reload.grown, [(Lun::ZERO, ByteLen(2 << 20))]);
        assert_eq!(reload.added.len(), 1);
        assert_eq!((reload.added[0].name.as_str(), reload.added[0].row), ("w", 1));
        assert_eq!(reload.config.volumes[0].name, "v");
    }

    #[test]
    fn access_may_change() {
        let host = "[[initiator]]\niqn = \"iqn.2026-11.io.kagami:h\"\nluns = [0]\n";
        let reload = reload(&format!("{BASE}{DISK}"), &format!("{BASE}{DISK}{host}")).unwrap();
        assert_eq!(reload.access.listed().count(), 1);
        assert!(reload.added.is_empty() && reload.grown.is_empty());
    }

    #[test]
    fn everything_else_is_refused_at_once() {
        let old = format!("{BASE}{DISK}");
        let new = format!("{BASE}cache = \"64MiB\"\nidle = \"spin\"\n{}", DISK.replace("lun = 0", "lun = 4"));
        let text = reload(&old, &new).unwrap_err();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("array.cache: can only change with a restart") && text.contains("array.idle"));
        assert!(text.contains("k.toml:6: volume[0]: of a volume only the size"), "{text}");
        assert!(reload(&old, BASE).unwrap_err().contains("volume v is gone"));
        assert!(reload(&old, &old.replace("1MiB", "512KiB")).unwrap_err().contains("only grow"));
        let ram = "[[volume]]\nlun = 1\nname = \"r\"\nbackend = \"ram\"\nsize = \"1MiB\"\n";
        assert!(reload(&old, &format!("{old}{ram}")).unwrap_err().contains("taken at start"));
        let portal = format!("{BASE}listen = [\"127.0.0.1:9\"]\n{DISK}");
        assert!(reload(&old, &portal).unwrap_err().contains("portals"));
    }
}
