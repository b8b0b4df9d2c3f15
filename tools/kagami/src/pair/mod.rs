//! Commands about groups of pairs: the ones that ask both arrays, and those that take several steps.
//!
//! | module | what |
//! | --- | --- |
//! | `ways` | one way in, and through it to two arrays |
//! | `verbs` | the order that a request is, where the way is a command device |
//! | `create` | both arrays looked at, then ordered |
//! | `cycle` | the cycle that a host drives |
//! | `show` | groups and journals as text |
//!
//! What is allowed, and why not, the arrays say.

pub mod create;
mod cycle;
mod show;
mod verbs;
mod ways;

pub use show::{seconds, state, text, used};
#[cfg(test)]
pub use verbs::verb;
pub use ways::Ways;

use crate::cli::{Cli, Command, JournalCommand, PairCommand};
use crate::print;
use kagami_admin::pair::{
    GroupAt, GroupNamed, GroupRestore, Groups, Marker, Ordered, PairDelete, PairResync, PairSet, PairSplit,
    PairSwap, PairTakeover,
};
use kagami_admin::{Refusal, Reply, Request};
use std::io::IsTerminal;
use std::time::Duration;

/// Between two looks.
const WATCH: Duration = Duration::from_secs(1);
/// The exit code of an order that finds nothing to do.
const ALREADY: u8 = 12;

/// Does a command about pairs; says with which code to exit. `None`: it is none.
pub fn run(cli: &Cli) -> Option<Result<u8, Refusal>> {
    match &cli.command {
        Command::Pair(_) | Command::Journal(_) | Command::Marker { .. } => Some(done(cli)),
        _ => None,
    }
}

fn done(cli: &Cli) -> Result<u8, Refusal> {
    let mut ways = Ways::open(cli)?;
    let result = command(cli, &mut ways);
    ways.close();
    result
}

fn command(cli: &Cli, ways: &mut Ways) -> Result<u8, Refusal> {
    let request = match &cli.command {
        Command::Pair(PairCommand::Create { .. }) => {
            let (ordered, group) = create::create(&cli.command, ways)?;
            print::reply(&Reply::Ordered(ordered.clone()), cli.json)?;
            if matches!(&cli.command, Command::Pair(PairCommand::Create { wait: true, .. })) {
                create::wait(ways, &group)?;
            }
            return Ok(ordered.exit_code);
        }
        Command::Pair(PairCommand::Status { group, watch: true }) => return watch(cli, ways, group.clone()),
        Command::Pair(PairCommand::Status { group, .. }) => {
            Request::PairStatus(GroupNamed { group: group.clone() })
        }
        Command::Pair(PairCommand::Delete { group, force, here }) => {
            let ordered = delete(ways, group.clone(), *force, *here)?;
            let code = ordered.exit_code;
            print::reply(&Reply::Ordered(ordered), cli.json)?;
            return Ok(code);
        }
        Command::Journal(JournalCommand::Status { group }) => {
            let reply = ways.ask(None, Request::PairStatus(GroupNamed { group: group.clone() }))?;
            match (&reply, cli.json) {
                (Reply::Groups(groups), false) => print::out(&show::journals(groups)).map(drop)?,
                _ => print::reply(&reply, cli.json)?,
            }
            return Ok(0);
        }
        Command::Journal(JournalCommand::Cycle { group, until_empty }) => {
            return cycle::cycle(ways, group.clone(), *until_empty, cli.json);
        }
        command => request(command)?,
    };
    let reply = ways.ask(None, request)?;
    print::reply(&reply, cli.json)?;
    Ok(match reply {
        Reply::Ordered(Ordered { exit_code, .. }) => exit_code,
        _ => 0,
    })
}

/// The request that a command is, where it is only one.
pub fn request(command: &Command) -> Result<Request, Refusal> {
    Ok(match command.clone() {
        Command::Pair(PairCommand::Status { group, .. }) => Request::PairStatus(GroupNamed { group }),
        Command::Pair(PairCommand::Split { group, writable }) => {
            Request::PairSplit(PairSplit { group, writable })
        }
        Command::Pair(PairCommand::Set { group, options }) => {
            let pair = |text: &String| match text.split_once('=') {
                Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                    Ok((key.to_owned(), value.to_owned()))
                }
                _ => Err(Refusal::usage(format!("{text} is not KEY=VALUE, such as bandwidth=50MiB"))),
            };
            let options = options.iter().map(pair).collect::<Result<_, _>>()?;
            Request::PairSet(PairSet { group: Some(group), options })
        }
        Command::Pair(PairCommand::Resync { group, discard }) => {
            Request::PairResync(PairResync { group, discard })
        }
        Command::Pair(PairCommand::Swap { group, dry_run, cancel }) => {
            Request::PairSwap(PairSwap { group, dry_run, cancel })
        }
        Command::Pair(PairCommand::Takeover { group, dry_run, force }) => {
            Request::PairTakeover(PairTakeover { group, dry_run, force })
        }
        Command::Pair(PairCommand::Delete { group, force, .. }) => {
            Request::PairDelete(PairDelete { group, force })
        }
        Command::Journal(JournalCommand::Status { group }) => Request::PairStatus(GroupNamed { group }),
        Command::Journal(JournalCommand::Acquire { group, to_pos }) => {
            Request::JournalAcquire(GroupAt { group, position: to_pos })
        }
        Command::Journal(JournalCommand::Purge { group, to_pos }) => {
            Request::JournalPurge(GroupAt { group, position: to_pos })
        }
        Command::Journal(JournalCommand::Restore { group, to_pos, to_time, to_marker }) => {
            Request::JournalRestore(GroupRestore {
                group,
                position: to_pos,
                time_nanos: to_time.as_deref().map(nanos).transpose()?,
                marker: to_marker,
            })
        }
        Command::Marker { names, wait } => {
            let mut names = names.into_iter();
            let (group, name) = match (names.next(), names.next()) {
                (group, Some(name)) => (group, name),
                (Some(name), None) => (None, name),
                (None, None) => return Err(Refusal::usage("a marker has a name")),
            };
            Request::Marker(Marker { group, name, wait })
        }
        _ => return Err(Refusal::usage("this is not one order")),
    })
}

/// Ends a group at the array that is asked, and then at its peer.
fn delete(ways: &mut Ways, group: Option<String>, force: bool, here: bool) -> Result<Ordered, Refusal> {
    let group = match (ways.group(group.clone()), group) {
        (Ok(group), _) => group,
        (Err(refusal), Some(name)) if refusal.code == 3 => return delete_elsewhere(ways, &name, force, here),
        (Err(refusal), _) => return Err(refusal),
    };
    let end = |ways: &mut Ways, array: &str| end(ways, Some(array), &group.group, force);
    let own = end(ways, &group.array)?;
    if here {
        return Ok(own);
    }
    match end(ways, &group.peer) {
        // It ended there before.
        Ok(there) if there.exit_code == ALREADY => Ok(own),
        Ok(_) => Ok(Ordered { what: format!("{} at {} and {}", own.what, group.array, group.peer), ..own }),
        Err(refusal) => Err(Refusal {
            reason: format!(
                "{} at {}, not at {}: {}; give the order there (--here)",
                own.what, group.array, group.peer, refusal.reason
            ),
            ..refusal
        }),
    }
}

/// Ends a group at one array.
fn end(ways: &mut Ways, array: Option<&str>, group: &str, force: bool) -> Result<Ordered, Refusal> {
    let request = Request::PairDelete(PairDelete { group: Some(group.to_owned()), force });
    match ways.ask(array, request)? {
        Reply::Ordered(ordered) => Ok(ordered),
        _ => Err(Refusal::failed("the array answers something else than what was asked")),
    }
}

/// The array that is asked does not have the group: one of its peers may, with it as the other side.
fn delete_elsewhere(ways: &mut Ways, name: &str, force: bool, here: bool) -> Result<Ordered, Refusal> {
    let mut own = end(ways, None, name, force)?;
    if here || own.exit_code != ALREADY {
        return Ok(own);
    }
    let Reply::Arrays(arrays) = ways.ask(None, Request::Arrays)? else { return Ok(own) };
    let local = arrays.arrays.iter().find(|array| array.role == "local").map(|array| array.name.clone());
    for peer in arrays.arrays.iter().filter(|array| array.role != "local") {
        let asked = match peer.uuid {
            Some(_) => ways.ask(Some(&peer.name), Request::PairStatus(GroupNamed { group: None })),
            None => Err(Refusal::unreachable("it was never met")),
        };
        let found = match asked.and_then(groups) {
            Ok(found) => found,
            Err(refusal) => {
                own.what = format!("{}; {} cannot be asked: {}", own.what, peer.name, refusal.reason);
                continue;
            }
        };
        if found.groups.iter().any(|group| group.group == name && Some(&group.peer) == local.as_ref()) {
            let there = end(ways, Some(&peer.name), name, force)?;
            return Ok(Ordered { what: format!("{} at {}; {}", there.what, peer.name, own.what), ..there });
        }
        own.what = format!("{}, nor at {}", own.what, peer.name);
    }
    Ok(own)
}

fn watch(cli: &Cli, ways: &mut Ways, group: Option<String>) -> Result<u8, Refusal> {
    let clears = std::io::stdout().is_terminal() && !cli.json;
    loop {
        let reply = ways.ask(None, Request::PairStatus(GroupNamed { group: group.clone() }))?;
        if clears {
            print::out("\x1b[H\x1b[2J")?;
        }
        print::reply(&reply, cli.json)?;
        std::thread::sleep(WATCH);
    }
}

/// Nanoseconds since 1970 of a moment: RFC 3339 in UTC, or seconds.
fn nanos(text: &str) -> Result<u64, Refusal> {
    let wrong = || {
        Refusal::usage(format!(
            "\"{text}\" is no moment: 2026-11-23T04:00:00Z (UTC), or seconds since 1970 such as 1795406400.5"
        ))
    };
    moment(text).ok_or_else(wrong)
}

fn moment(text: &str) -> Option<u64> {
    let fraction = |digits: &str| {
        let short = digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
        short.then(|| format!("{digits:0<9}").parse::<u64>().ok()).flatten()
    };
    let (whole, rest) =
        text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), ""));
    let nanos = fraction(rest)?;
    let seconds = match whole.split_once('T') {
        None => whole.parse::<u64>().ok()?,
        Some((date, time)) => {
            let numbers = |text: &str, separator: char| {
                let parts: Option<Vec<i64>> = text.split(separator).map(|part| part.parse().ok()).collect();
                <[i64; 3]>::try_from(parts?).ok()
            };
            let [year, month, day] = numbers(date, '-')?;
            let [hour, minute, second] = numbers(time, ':')?;
            let right = (1970..=2262).contains(&year)
                && (1..=12).contains(&month)
                && (1..=31).contains(&day)
                && (0..24).contains(&hour)
                && (0..60).contains(&minute)
                && (0..=60).contains(&second);
            if !right {
                return None;
            }
            // Days since 1970 of a date of the Gregorian calendar, with the year beginning in March.
            let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
            let days =
                365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
            u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()?
        }
    };
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// The groups in a reply.
fn groups(reply: Reply) -> Result<Groups, Refusal> {
    match reply {
        Reply::Groups(groups) => Ok(groups),
        _ => Err(Refusal::failed("the array answers something else than its groups")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn asked(words: &str) -> Request {
        let words = format!("kagami {words}");
        request(&Cli::try_parse_from(words.split(' ')).unwrap().command).unwrap()
    }

    #[test]
    fn moments() {
        assert_eq!(moment("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(moment("2026-11-22T17:23:00.5Z"), Some(1_795_368_180_500_000_000));
        assert_eq!(moment("2000-02-29T12:00:00"), Some(951_825_600_000_000_000));
        assert_eq!(moment("1795368180.25"), Some(1_795_368_180_250_000_000));
        for wrong in ["", "now", "2026-13-01T00:00:00Z", "2026-11-22", "1.2.3", "-5", "2026-11-22T25:00:00"] {
            assert_eq!(nanos(wrong).unwrap_err().code, 2, "{wrong}");
        }
    }

    #[test]
    fn commands_become_requests() {
        let erp = || Some("erp".to_owned());
        assert_eq!(
            asked("pair swap erp --dry-run"),
            Request::PairSwap(PairSwap { group: erp(), dry_run: true, cancel: false })
        );
        assert_eq!(asked("pair status"), Request::PairStatus(GroupNamed { group: None }));
        assert_eq!(asked("marker m"), Request::Marker(Marker { group: None, name: "m".into(), wait: false }));
        assert_eq!(
            asked("marker erp m --wait"),
            Request::Marker(Marker { group: erp(), name: "m".into(), wait: true })
        );
        let Request::JournalRestore(restore) = asked("journal restore erp --to-time 5") else {
            panic!("another request")
        };
        assert_eq!((restore.time_nanos, restore.position), (Some(5_000_000_000), None));
        assert!(Cli::try_parse_from("kagami journal restore --to-pos 1 --to-marker x".split(' ')).is_err());
    }
}
