//! Making a group: both arrays are looked at, then ordered, the primary first.

use super::ways::Ways;
use crate::cli::{Command, PairCommand};
use kagami_admin::pair::{Group, GroupNamed, Ordered, PairCreate, PairDelete, PairOf, PairResync, PairSplit};
use kagami_admin::report::Volume;
use kagami_admin::{Refusal, Reply, Request};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two looks at the copy.
const LOOK: Duration = Duration::from_millis(200);
/// Between two lines about it, where nobody watches a terminal.
const LINE: Duration = Duration::from_secs(10);

/// A volume as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    array: String,
    volume: String,
}

fn named(text: &str) -> Result<Named, Refusal> {
    match text.split_once(':') {
        Some((array, volume)) if !array.is_empty() && !volume.is_empty() => {
            Ok(Named { array: array.to_owned(), volume: volume.to_owned() })
        }
        _ => Err(Refusal::usage(format!("{text} is not ARRAY:LUN, such as tokyo:0"))),
    }
}

/// The one array that all are on.
fn array_of(all: &[Named], what: &str) -> Result<String, Refusal> {
    let first = all.first().ok_or_else(|| Refusal::usage(format!("no {what} is named")))?;
    match all.iter().find(|other| other.array != first.array) {
        None => Ok(first.array.clone()),
        Some(other) => Err(Refusal::usage(format!(
            "a group joins two arrays: its {what} volumes are on {} and {}",
            first.array, other.array
        ))),
    }
}

/// What is known of one side before it is ordered.
struct SideOf {
    array: String,
    uuid: String,
    volumes: Vec<Volume>,
    group: Option<Group>,
}

fn side(ways: &mut Ways, array: &str, group: &str) -> Result<SideOf, Refusal> {
    look(ways, array, group).map_err(|refusal| match refusal.code {
        // Who was only asked, and does not answer, is out of reach, and nothing is in doubt.
        4 => Refusal::unreachable(format!("array {array} does not answer; nothing has changed")),
        _ => refusal,
    })
}

fn look(ways: &mut Ways, array: &str, group: &str) -> Result<SideOf, Refusal> {
    let own = ways.arrays(array)?.arrays.into_iter().find(|one| one.role == "local");
    let own = own.and_then(|own| Some((own.name, own.uuid?)));
    let (name, uuid) = own.ok_or_else(|| Refusal::failed(format!("array {array} does not say who it is")))?;
    if name != array {
        return Err(Refusal::usage(format!("array {array} calls itself {name}; name it so")));
    }
    let Reply::Volumes(volumes) = ways.ask(Some(array), Request::Volumes)? else {
        return Err(Refusal::failed(format!("array {array} does not list its volumes")));
    };
    let known = ways.ask(Some(array), Request::PairStatus(GroupNamed { group: None }))?;
    let known = super::groups(known)?.groups.into_iter().find(|known| known.group == group);
    Ok(SideOf { array: array.to_owned(), uuid, volumes: volumes.volumes, group: known })
}

impl SideOf {
    fn volume(&self, named: &Named) -> Result<&Volume, Refusal> {
        let lun = named.volume.parse::<u16>().ok();
        let found = self.volumes.iter().find(|one| Some(one.lun) == lun || one.name == named.volume);
        found.ok_or_else(|| {
            Refusal::usage(format!(
                "array {} has no volume {}; `kagami volumes` lists them",
                self.array, named.volume
            ))
        })
    }

    fn journal(&self, asked: &str, group: &str) -> Result<&Volume, Refusal> {
        if asked != "auto" {
            let named = named(asked)?;
            if named.array != self.array {
                return Err(Refusal::usage(format!("journal {asked} is not on {}", self.array)));
            }
            return self.volume(&named);
        }
        let journals = || self.volumes.iter().filter(|volume| volume.role == "journal");
        let own = journals().find(|volume| volume.group.as_deref() == Some(group));
        own.or_else(|| journals().find(|volume| volume.group.is_none())).ok_or_else(|| {
            Refusal::state(format!(
                "array {} has no journal that is not used; declare one ([[volume]] with role = \"journal\") and reload",
                self.array
            ))
        })
    }
}

/// Makes the group at both arrays; gives its name.
pub fn create(command: &Command, ways: &mut Ways) -> Result<(Ordered, String), Refusal> {
    let Command::Pair(PairCommand::Create {
        group,
        primary,
        secondary,
        journal,
        secondary_journal,
        force,
        ..
    }) = command
    else {
        return Err(Refusal::usage("this makes no pair"));
    };
    let primaries = primary.iter().map(|text| named(text)).collect::<Result<Vec<_>, _>>()?;
    let secondaries = secondary.iter().map(|text| named(text)).collect::<Result<Vec<_>, _>>()?;
    if primaries.len() != secondaries.len() {
        return Err(Refusal::usage("each --primary needs its --secondary"));
    }
    let (first, second) = (array_of(&primaries, "primary")?, array_of(&secondaries, "secondary")?);
    if first == second {
        return Err(Refusal::usage("both volumes are on the same array"));
    }
    // The name is needed to look; without one the first volume's, which the look tells.
    let looked = side(ways, &first, group.as_deref().unwrap_or_default())?;
    let name = match (group, primaries.first()) {
        (Some(name), _) => name.clone(),
        (None, Some(volume)) => looked.volume(volume)?.name.clone(),
        (None, None) => return Err(Refusal::usage("no primary is named")),
    };
    let one = if group.is_some() { looked } else { side(ways, &first, &name)? };
    let two = side(ways, &second, &name)?;
    let mut pairs = Vec::new();
    for (primary, secondary) in primaries.iter().zip(&secondaries) {
        let (a, b) = (one.volume(primary)?, two.volume(secondary)?);
        if a.block_bytes != b.block_bytes || a.size_bytes != b.size_bytes {
            return Err(Refusal::state(format!(
                "{first}:{} has {} bytes in blocks of {}, {second}:{} has {} in blocks of {}; a pair needs equal ones",
                a.lun, a.size_bytes, a.block_bytes, b.lun, b.size_bytes, b.block_bytes
            )));
        }
        let blocks = a.size_bytes / u64::from(a.block_bytes.max(1));
        pairs.push(PairOf { lun: a.lun, peer_lun: b.lun, blocks, block_bytes: a.block_bytes });
    }
    let joins = join(&mut pairs, &one, &two)?;
    if joins {
        split(ways, &first, &one, &name)?;
    }
    let (own, far) = (one.journal(journal, &name)?, two.journal(secondary_journal, &name)?);
    let known = one.group.as_ref().or(two.group.as_ref()).map(|group| group.uuid.clone());
    let group_id = match known {
        Some(uuid) => uuid,
        None => random()?,
    };
    let asked = PairCreate {
        group: name.clone(),
        group_id,
        side: "primary".to_owned(),
        peer: second.clone(),
        peer_id: two.uuid.clone(),
        pairs: pairs.clone(),
        journal: own.lun,
        peer_journal: far.lun,
        journal_bytes: own.size_bytes.min(far.size_bytes),
        force: *force,
    };
    let mirrored = PairCreate {
        side: "secondary".to_owned(),
        peer: first.clone(),
        peer_id: one.uuid.clone(),
        pairs: pairs
            .iter()
            .map(|pair| PairOf { lun: pair.peer_lun, peer_lun: pair.lun, ..pair.clone() })
            .collect(),
        journal: far.lun,
        peer_journal: own.lun,
        ..asked.clone()
    };
    let made = order(ways, &first, asked)?;
    match order(ways, &second, mirrored) {
        Ok(there) => {
            let exit_code = if (made.exit_code, there.exit_code) == (12, 12) { 12 } else { 0 };
            let journals = format!("journals {first}:{} and {second}:{}", own.lun, far.lun);
            let what = format!(
                "group {name}: {} from {first} to {second}, {journals}",
                if pairs.len() == 1 { "1 pair".to_owned() } else { format!("{} pairs", pairs.len()) }
            );
            if joins {
                let request = Request::PairResync(PairResync { group: Some(name.clone()), discard: None });
                let resynced = ways.ask(Some(&first), request);
                resynced.map_err(|refusal| Refusal {
                    reason: format!(
                        "{what}; it is split, and cannot be resynchronised now: {}",
                        refusal.reason
                    ),
                    ..refusal
                })?;
            }
            Ok((Ordered { exit_code, what }, name))
        }
        Err(refusal) if made.exit_code == 0 && refusal.code != 4 && !joins => {
            // Nobody is to have half a group.
            let end = Request::PairDelete(PairDelete { group: Some(name.clone()), force: true });
            let after = match ways.ask(Some(&first), end) {
                Ok(_) => "nothing has changed".to_owned(),
                Err(other) => format!("{first} has its part, which cannot be ended now: {}", other.reason),
            };
            Err(Refusal { reason: format!("array {second}: {}; {after}", refusal.reason), ..refusal })
        }
        Err(refusal) => Err(Refusal {
            reason: format!("array {second}: {}; the same command again goes on", refusal.reason),
            ..refusal
        }),
    }
}

/// Where the group is there, its pairs come before those that join it. Whether some do.
fn join(pairs: &mut Vec<PairOf>, one: &SideOf, two: &SideOf) -> Result<bool, Refusal> {
    let known = one.group.iter().chain(&two.group).max_by_key(|group| group.pairs.len());
    let Some(known) = known else { return Ok(false) };
    let mut all = Vec::new();
    for pair in &known.pairs {
        let ends = [named(&pair.primary)?, named(&pair.secondary)?];
        let at = |side: &SideOf| ends.iter().find(|end| end.array == side.array).cloned();
        let (Some(own), Some(far)) = (at(one), at(two)) else {
            return Err(Refusal::state(format!("group {} joins other arrays", known.group)));
        };
        let (own, far) = (one.volume(&own)?, two.volume(&far)?);
        let blocks = own.size_bytes / u64::from(own.block_bytes.max(1));
        all.push(PairOf { lun: own.lun, peer_lun: far.lun, blocks, block_bytes: own.block_bytes });
    }
    // Asked for once more in the words of the first time, all of them are there.
    let new: Vec<PairOf> = pairs.iter().filter(|pair| !all.contains(pair)).cloned().collect();
    let half = |group: &Option<Group>| group.as_ref().is_none_or(|group| group.pairs.len() < all.len());
    let joins = (one.group.is_some() && two.group.is_some())
        && (!new.is_empty() || half(&one.group) || half(&two.group));
    if joins || new.is_empty() {
        all.extend(new);
        *pairs = all;
    }
    Ok(joins)
}

/// A group is suspended before others join it.
fn split(ways: &mut Ways, array: &str, side: &SideOf, name: &str) -> Result<(), Refusal> {
    let state = side.group.as_ref().map_or("", |group| group.state.as_str());
    if !matches!(state, "COPY" | "PAIR") {
        return Ok(());
    }
    let request = Request::PairSplit(PairSplit { group: Some(name.to_owned()), writable: false });
    ways.ask(Some(array), request).map(drop)
}

fn order(ways: &mut Ways, array: &str, asked: PairCreate) -> Result<Ordered, Refusal> {
    match ways.ask(Some(array), Request::PairCreate(asked))? {
        Reply::Ordered(ordered) => Ok(ordered),
        _ => Err(Refusal::failed("the array answers something else than what was asked")),
    }
}

fn random() -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::failed("the system has no random bytes"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(kagami_types::Uuid::from_bytes(bytes).to_string())
}

/// Waits until a group is in PAIR, and says meanwhile how far it is.
pub fn wait(ways: &mut Ways, group: &str) -> Result<(), Refusal> {
    let bar = std::io::stderr().is_terminal();
    let mut told = Instant::now();
    loop {
        let now = ways.group(Some(group.to_owned()))?;
        let percent = now.progress_percent.unwrap_or(0.0);
        match (now.state.as_str(), now.peer_state.as_deref()) {
            ("PAIR", _) => {
                if bar {
                    eprint!("\r\x1b[K");
                }
                return Ok(());
            }
            ("PSUE" | "PSUS" | "SSWS", _) => {
                let why = now.last_error.unwrap_or_else(|| "it was suspended".to_owned());
                return Err(Refusal::failed(format!("group {group} is {}: {why}", now.state)));
            }
            _ if bar => {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 30")]
                let done = (percent.clamp(0.0, 100.0) * 0.3) as usize;
                eprint!("\r\x1b[Kcopy [{:<30}] {percent:5.1} %", "#".repeat(done));
                let _ = std::io::stderr().flush();
            }
            _ if told.elapsed() >= LINE => {
                told = Instant::now();
                eprintln!("copy {percent:.1} %");
            }
            _ => {}
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_named_with_their_array() {
        assert_eq!(named("tokyo:0").unwrap(), Named { array: "tokyo".into(), volume: "0".into() });
        for wrong in ["", "0", ":0", "tokyo:"] {
            assert_eq!(named(wrong).unwrap_err().code, 2, "{wrong}");
        }
        let all = [named("a:0").unwrap(), named("b:0").unwrap()];
        assert!(array_of(&all, "primary").unwrap_err().reason.contains("a and b"));
        assert_eq!(array_of(&all[..1], "primary").unwrap(), "a");
    }
}
