//! The cycle that a host drives (array.md 7): status of the primary's journal, acquire, restore, purge.

use super::ways::Ways;
use kagami_admin::pair::{Group, GroupAt, GroupRestore, Position};
use kagami_admin::{Refusal, Request};
use std::time::{Duration, Instant};

/// Between two looks at a step that is under way.
const LOOK: Duration = Duration::from_millis(100);
/// How long a step may go without getting on.
const STUCK: Duration = Duration::from_secs(60);

fn offset(position: Option<&Position>, what: &str, group: &Group) -> Result<u64, Refusal> {
    position.map(|position| position.offset).ok_or_else(|| {
        let why = group.peer_error.clone().unwrap_or_else(|| "its array was not heard of yet".to_owned());
        Refusal::unreachable(format!("{what} of group {} is not known: {why}", group.group))
    })
}

/// Runs it once, or until the journal is empty.
pub fn cycle(ways: &mut Ways, group: Option<String>, until_empty: bool, json: bool) -> Result<u8, Refusal> {
    let mut group = ways.group(group)?;
    let name = Some(group.group.clone());
    loop {
        let end = offset(group.positions.end.as_ref(), "the end of the journal", &group)?;
        let read = |group: &Group| offset(group.positions.read.as_ref(), "what was read", group);
        let restored = |group: &Group| offset(group.positions.restored.as_ref(), "what was restored", group);
        ways.ask(None, Request::JournalAcquire(GroupAt { group: name.clone(), position: Some(end) }))?;
        group = until(ways, &name, end, read)?;
        let have = read(&group)?;
        ways.ask(
            None,
            Request::JournalRestore(GroupRestore {
                group: name.clone(),
                position: Some(have),
                ..GroupRestore::default()
            }),
        )?;
        until(ways, &name, have, restored)?;
        ways.ask(None, Request::JournalPurge(GroupAt { group: name.clone(), position: Some(have) }))?;
        group = ways.group(name.clone())?;
        let left =
            offset(group.positions.end.as_ref(), "the end of the journal", &group)?.saturating_sub(have);
        let text = match json {
            true => format!(
                "{{\"schema\":1,\"group\":\"{}\",\"restored\":{have},\"left_bytes\":{left}}}\n",
                group.group
            ),
            false => format!("{}: restored up to {have}, {left} bytes left\n", group.group),
        };
        if !crate::print::out(&text)? || !until_empty || left == 0 {
            return Ok(0);
        }
    }
}

/// Looks until a position is there.
fn until(
    ways: &mut Ways,
    name: &Option<String>,
    wanted: u64,
    position: impl Fn(&Group) -> Result<u64, Refusal>,
) -> Result<Group, Refusal> {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let group = ways.group(name.clone())?;
        let now = position(&group)?;
        if now >= wanted {
            return Ok(group);
        }
        if now > last {
            (last, moved) = (now, Instant::now());
        }
        if moved.elapsed() > STUCK {
            return Err(Refusal::timed_out(format!(
                "group {} stands at {now} and wants {wanted}",
                group.group
            )));
        }
        std::thread::sleep(LOOK);
    }
}
