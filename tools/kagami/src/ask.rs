//! From a command to a request. Sizes, times and paths are made exact here; everything else is
//! judged by the array.

use crate::cli::{
    Backend, ChapArgs, Command, ConfigCommand, InitiatorCommand, LunCommand, LunMapCommand, PeerCommand,
    VolumeCommand,
};
use kagami_admin::request::{
    Chap, Credential, EventsAfter, InitiatorAdd, InitiatorRemove, InitiatorSet, LunMapAdd, LunMapRemove,
    PeerAdd, PeerRemove, Place, VolumeCreate, VolumeGrow, VolumeMask, VolumeRemove, VolumeRename,
    VolumeUnmask,
};
use kagami_admin::{Refusal, Request};
use std::path::Path;

/// What a command asks for.
pub fn request(command: &Command) -> Result<Request, Refusal> {
    Ok(match command {
        Command::Arrays => Request::Arrays,
        Command::Volumes => Request::Volumes,
        Command::Luns => Request::Luns,
        Command::Stats => Request::Stats,
        Command::Sessions => Request::Sessions,
        Command::Config(ConfigCommand::Export) => Request::ConfigExport,
        Command::Events { after, .. } => Request::Events(EventsAfter { after: *after, wait_ms: 0 }),
        Command::Volume(command) => volume(command)?,
        Command::Initiator(command) => initiator(command)?,
        Command::Peer(command) => peer(command)?,
        Command::Tables => Request::Tables,
        Command::Lun(LunCommand::Map(command)) => lun_map(command),
        // Done by the tool alone.
        Command::Completions { .. }
        | Command::Man { .. }
        | Command::Pair(_)
        | Command::Journal(_)
        | Command::Marker { .. }
        | Command::Demo { .. }
        | Command::Top { .. } => {
            return Err(Refusal::usage("this asks no array"));
        }
    })
}

/// Whether it goes on for ever.
pub fn follows(command: &Command) -> bool {
    matches!(command, Command::Events { follow: true, .. })
}

fn volume(command: &VolumeCommand) -> Result<Request, Refusal> {
    Ok(match command.clone() {
        VolumeCommand::Create {
            name,
            lun,
            path,
            backend,
            size: length,
            block_size,
            cache,
            read_only,
            thin,
            spread,
            initiator,
            adopt,
            pool,
        } => Request::VolumeCreate(VolumeCreate {
            name,
            lun,
            place: match (path, backend, pool) {
                (Some(path), ..) => Place::Path(absolute(&path)?),
                (None, Some(Backend::Ram), _) => Place::Ram,
                (None, Some(Backend::Null), _) => Place::Null,
                (None, None, Some(pool)) => Place::Pool(pool),
                (None, None, None) => Place::DataFolder,
            },
            size_bytes: length.as_deref().map(size).transpose()?,
            block_bytes: block_size,
            cache,
            read_only,
            thin,
            spread,
            initiators: initiator,
            adopt,
        }),
        VolumeCommand::Grow { volume, size: length } => {
            Request::VolumeGrow(VolumeGrow { volume, size_bytes: length.as_deref().map(size).transpose()? })
        }
        VolumeCommand::Rename { volume, name } => Request::VolumeRename(VolumeRename { volume, name }),
        VolumeCommand::Mask { volume, initiator, force } => {
            Request::VolumeMask(VolumeMask { volume, initiator, force })
        }
        VolumeCommand::Unmask { volume, initiator } => {
            Request::VolumeUnmask(VolumeUnmask { volume, initiator })
        }
        VolumeCommand::Remove { volume, force } => Request::VolumeRemove(VolumeRemove { volume, force }),
    })
}

fn initiator(command: &InitiatorCommand) -> Result<Request, Refusal> {
    Ok(match command.clone() {
        InitiatorCommand::Add { iqn, luns, rights, chap: proof, force } => {
            Request::InitiatorAdd(InitiatorAdd { iqn, luns, rights, chap: chap(proof)?, force })
        }
        InitiatorCommand::Set { iqn, luns, rights, chap: proof, no_chap, force } => {
            Request::InitiatorSet(InitiatorSet { iqn, luns, rights, chap: chap(proof)?, no_chap, force })
        }
        InitiatorCommand::Remove { iqn, force } => Request::InitiatorRemove(InitiatorRemove { iqn, force }),
        InitiatorCommand::List => Request::InitiatorList,
    })
}

fn peer(command: &PeerCommand) -> Result<Request, Refusal> {
    Ok(match command.clone() {
        PeerCommand::Add { name, iqn, portal, io_timeout, connections, orders, luns, chap: proof } => {
            Request::PeerAdd(PeerAdd {
                name,
                iqn,
                portals: portal,
                io_timeout_ms: io_timeout.as_deref().map(millis).transpose()?,
                connections,
                orders,
                luns,
                chap: chap(proof)?,
            })
        }
        PeerCommand::Remove { name } => Request::PeerRemove(PeerRemove { name }),
        PeerCommand::List => Request::PeerList,
    })
}

fn lun_map(command: &LunMapCommand) -> Request {
    match command.clone() {
        LunMapCommand::Add { name, peer, mapped_lun, lun, role, initiator } => {
            Request::LunMapAdd(LunMapAdd { name, peer, mapped_lun, lun, role, initiators: initiator })
        }
        LunMapCommand::Remove { volume, force } => Request::LunMapRemove(LunMapRemove { volume, force }),
    }
}

fn chap(args: ChapArgs) -> Result<Option<Chap>, Refusal> {
    let (Some(user), Some(file)) = (args.chap_user, args.chap_secret_file) else { return Ok(None) };
    let mutual = match (args.mutual_user, args.mutual_secret_file) {
        (Some(user), Some(file)) => Some(Credential { user, secret_file: absolute(&file)? }),
        _ => None,
    };
    Ok(Some(Chap { user, secret_file: absolute(&file)?, mutual }))
}

/// A path that means the same to the array, which has another working folder.
fn absolute(path: &Path) -> Result<String, Refusal> {
    let whole =
        std::path::absolute(path).map_err(|error| Refusal::usage(format!("{}: {error}", path.display())))?;
    let text = whole.to_str().map(str::to_owned);
    text.ok_or_else(|| Refusal::usage(format!("{} is not UTF-8, which paths must be", path.display())))
}

/// A number and one of some units.
fn scaled(text: &str, units: &[(&str, u64)], what: &str) -> Result<u64, Refusal> {
    let wrong = || {
        let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        Refusal::usage(format!("\"{text}\" is no {what}: a whole number and one of {}", names.join(", ")))
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = unit.trim_start_matches(' ');
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*factor).filter(|bytes| *bytes < 1 << 63).ok_or_else(wrong)
}

/// Bytes, such as 10GiB.
pub fn size(text: &str) -> Result<u64, Refusal> {
    let units = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    scaled(text, &units, "size")
}

/// Milliseconds, of such as 10s.
pub fn millis(text: &str) -> Result<u64, Refusal> {
    scaled(text, &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)], "time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn asked(words: &[&str]) -> Request {
        let words = std::iter::once("kagami").chain(words.iter().copied());
        request(&Cli::try_parse_from(words).unwrap().command).unwrap()
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("512 B"), Ok(512));
        assert_eq!(millis("10s"), Ok(10_000));
        for wrong in ["", "10", "GiB", "1.5GiB", "-1B", "99999999999TiB", "10GB"] {
            assert_eq!(size(wrong).unwrap_err().code, 2, "{wrong}");
        }
    }

    #[test]
    fn commands_become_requests() {
        let Request::VolumeCreate(create) =
            asked(&["volume", "create", "db", "--size", "1MiB", "--path", "x", "--spread", "2"])
        else {
            panic!("another request")
        };
        assert_eq!((create.size_bytes, create.spread), (Some(1 << 20), Some(2)));
        assert!(matches!(create.place, Place::Path(path) if path.starts_with('/') && path.ends_with("/x")));
        let Request::InitiatorSet(set) = asked(&["initiator", "set", "iqn.x", "--luns", "1,2"]) else {
            panic!("another request")
        };
        assert_eq!((set.luns, set.chap), (Some(vec![1, 2]), None));
        let Request::InitiatorSet(none) = asked(&["initiator", "set", "iqn.x", "--luns"]) else {
            panic!("another request")
        };
        assert_eq!(none.luns, Some(vec![]));
        let words =
            ["initiator", "add", "iqn.x", "--chap-user", "u", "--chap-secret-file", "/s", "--luns", "0"];
        let Request::InitiatorAdd(add) = asked(&words) else { panic!("another request") };
        assert_eq!(add.chap, Some(Chap { user: "u".into(), secret_file: "/s".into(), mutual: None }));
        assert_eq!(asked(&["peer", "list"]), Request::PeerList);
    }
}
