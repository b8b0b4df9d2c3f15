//! Answers for people, as tables; for programs, as JSON.

use kagami_admin::report::{Event, Events};
use kagami_admin::{Refusal, Reply, SCHEMA};
use serde::Serialize;
use std::io::Write;

/// What `--json` prints: the report, and the version of its keys.
#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: u32,
    #[serde(flatten)]
    report: &'a T,
}

/// Prints an answer.
pub fn reply(reply: &Reply, json: bool) -> Result<(), Refusal> {
    let text = if json { as_json(reply)? } else { as_text(reply) };
    out(&text).map(drop)
}

/// Prints events; false where nobody reads them any more.
pub fn events(events: &Events, json: bool) -> Result<bool, Refusal> {
    let mut text = String::new();
    for event in &events.events {
        if json {
            // One object a line, as it has no end.
            text += &to_json(event, false)?;
            text.push('\n');
        } else {
            text += &line(event);
        }
    }
    out(&text)
}

/// False where the reader went away, which is no error.
pub fn out(text: &str) -> Result<bool, Refusal> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Refusal::failed(format!("standard output: {error}"))),
    }
}

fn to_json<T: Serialize>(report: &T, pretty: bool) -> Result<String, Refusal> {
    let whole = Versioned { schema: SCHEMA, report };
    let text = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) };
    text.map_err(|error| Refusal::failed(error.to_string()))
}

fn as_json(reply: &Reply) -> Result<String, Refusal> {
    let mut text = match reply {
        Reply::Changed(report) => to_json(report, true),
        Reply::Arrays(report) => to_json(report, true),
        Reply::Volumes(report) => to_json(report, true),
        Reply::Luns(report) => to_json(report, true),
        Reply::Tables(report) => to_json(report, true),
        Reply::Stats(report) => to_json(report, true),
        Reply::Sessions(report) => to_json(report, true),
        Reply::Initiators(report) => to_json(report, true),
        Reply::Peers(report) => to_json(report, true),
        Reply::Config(report) => to_json(report, true),
        Reply::Events(report) => to_json(report, true),
        Reply::Groups(report) => to_json(report, true),
        Reply::Ordered(report) => to_json(report, true),
        Reply::Relayed(report) => to_json(report, true),
    }?;
    text.push('\n');
    Ok(text)
}

fn as_text(reply: &Reply) -> String {
    match reply {
        Reply::Changed(changed) => {
            let notes: String = changed.notes.iter().map(|note| format!("note: {note}\n")).collect();
            format!("done: {}\n{notes}", changed.what)
        }
        Reply::Arrays(report) => table(
            &["ARRAY", "ROLE", "IQN", "PORTALS", "VOLUMES", "SESSIONS", "UP"],
            report.arrays.iter().map(|array| {
                vec![
                    array.name.clone(),
                    array.role.clone(),
                    array.iqn.clone(),
                    array.portals.join(","),
                    number(array.volumes),
                    number(array.sessions),
                    array.uptime_seconds.map_or("-".to_owned(), |up| format!("{up}s")),
                ]
            }),
        ),
        Reply::Volumes(report) => table(
            &[
                "LUN", "VOLUME", "SIZE", "BLOCK", "CACHE", "OWNER", "CORE", "SESSIONS", "DEVICE", "BACKEND",
                "NAA",
            ],
            report.volumes.iter().map(|volume| {
                let mut backend = volume.backend.clone();
                if volume.read_only {
                    backend += " (read-only)";
                }
                if volume.role != "plain" {
                    backend = format!("{backend} ({})", volume.role);
                }
                vec![
                    volume.lun.to_string(),
                    volume.name.clone(),
                    size(volume.size_bytes),
                    volume.block_bytes.to_string(),
                    volume.cache.clone(),
                    volume.owner.clone(),
                    volume.core.to_string(),
                    volume.sessions.to_string(),
                    volume.device.clone(),
                    backend,
                    volume.naa.clone(),
                ]
            }),
        ),
        Reply::Tables(report) => table(
            &["ARRAY", "LUN", "UUID"],
            report.command_devices.iter().map(|row| {
                let uuid = row.uuid.clone().unwrap_or_else(|| "-".to_owned());
                vec![row.array.clone(), row.lun.to_string(), uuid]
            }),
        ),
        Reply::Luns(report) => table(
            &["LUN", "VOLUME", "TARGET", "MAPPED", "INITIATORS"],
            report.luns.iter().map(|lun| {
                vec![
                    lun.lun.to_string(),
                    lun.volume.clone(),
                    lun.target_array.clone().unwrap_or_else(|| "-".to_owned()),
                    lun.mapped_lun.map_or("-".to_owned(), |mapped| mapped.to_string()),
                    lun.initiators.as_ref().map_or("everyone on loopback".to_owned(), |all| all.join(",")),
                ]
            }),
        ),
        Reply::Stats(report) => stats(report),
        Reply::Sessions(report) => table(
            &["TSIH", "INITIATOR", "ADDRESS", "PORTAL", "KIND", "CONNECTIONS", "LUNS"],
            report.sessions.iter().map(|session| {
                vec![
                    session.tsih.to_string(),
                    session.initiator.clone(),
                    session.address.clone().unwrap_or_default(),
                    session.portal.clone().unwrap_or_default(),
                    session.kind.clone(),
                    session.connections.to_string(),
                    numbers(&session.luns),
                ]
            }),
        ),
        Reply::Initiators(report) if report.initiators.is_empty() => {
            "no initiator is listed: each sees every volume on loopback portals\n".to_owned()
        }
        Reply::Initiators(report) => table(
            &["INITIATOR", "OWNER", "RIGHTS", "CHAP", "SESSIONS", "LUNS"],
            report.initiators.iter().map(|initiator| {
                vec![
                    initiator.iqn.clone(),
                    initiator.owner.clone(),
                    initiator.rights.clone(),
                    initiator.chap.clone(),
                    initiator.sessions.to_string(),
                    numbers(&initiator.luns),
                ]
            }),
        ),
        Reply::Peers(report) => table(
            &["PEER", "OWNER", "IQN", "PORTALS", "ORDERS", "CHAP", "LUNS"],
            report.peers.iter().map(|peer| {
                vec![
                    peer.name.clone(),
                    peer.owner.clone(),
                    peer.iqn.clone(),
                    peer.portals.join(","),
                    peer.orders.clone(),
                    peer.chap.clone(),
                    numbers(&peer.luns),
                ]
            }),
        ),
        Reply::Config(config) => config.toml.clone(),
        Reply::Groups(report) => crate::pair::text(report),
        Reply::Ordered(report) => match report.exit_code {
            12 => format!("already so: {}\n", report.what),
            _ => format!("done: {}\n", report.what),
        },
        Reply::Relayed(report) => format!("{}\n", report.result),
        Reply::Events(events) => events.events.iter().map(line).collect(),
    }
}

fn stats(report: &kagami_admin::report::Stats) -> String {
    let time = |value: Option<f64>| value.map_or("-".to_owned(), |us| format!("{us:.1}"));
    let mut text = format!("up {} s\n", report.uptime_seconds);
    text += &table(
        &[
            "LUN",
            "VOLUME",
            "READS",
            "WRITES",
            "OTHERS",
            "READ",
            "WRITTEN",
            "ERRORS",
            "DEPTH",
            "READ P50/P99 us",
            "WRITE P50/P99 us",
        ],
        report.volumes.iter().map(|volume| {
            vec![
                volume.lun.to_string(),
                volume.volume.clone(),
                volume.reads.to_string(),
                volume.writes.to_string(),
                volume.others.to_string(),
                size(volume.read_bytes),
                size(volume.written_bytes),
                volume.errors.to_string(),
                volume.queue_depth.to_string(),
                format!("{}/{}", time(volume.read_p50_us), time(volume.read_p99_us)),
                format!("{}/{}", time(volume.write_p50_us), time(volume.write_p99_us)),
            ]
        }),
    );
    text += &table(
        &["CORE", "CPU", "CONNECTIONS", "TASKS", "RECEIVED", "SENT", "LOGINS", "REFUSED"],
        report.cores.iter().map(|core| {
            vec![
                core.core.to_string(),
                core.cpu.to_string(),
                core.connections.to_string(),
                core.tasks.to_string(),
                size(core.received_bytes),
                size(core.sent_bytes),
                core.logins.to_string(),
                core.login_failures.to_string(),
            ]
        }),
    );
    text
}

fn line(event: &Event) -> String {
    let generation = event.generation.map_or("-".to_owned(), |generation| generation.to_string());
    format!("{} {generation} {}: {}\n", event.time, event.who, event.what)
}

fn number(value: Option<u64>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn numbers(list: &[u16]) -> String {
    if list.is_empty() {
        return "-".to_owned();
    }
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A number of bytes: exact where a unit says it, else to a tenth.
pub fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let whole = bytes >> shift;
        if whole > 0 {
            let rest = bytes & ((1 << shift) - 1);
            return if rest == 0 {
                format!("{whole}{unit}")
            } else {
                format!("{whole}.{}{unit}", (rest * 10) >> shift)
            };
        }
    }
    format!("{bytes}B")
}

/// Columns as wide as their widest cell, two spaces between, none at the end of a line.
pub fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut all = vec![head.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>()];
    all.extend(rows);
    let width =
        |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += &format!("{cell:<width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_admin::report::Changed;

    #[test]
    fn json_carries_its_schema() {
        let changed = Changed { what: "create volume a".into(), generation: 3, notes: vec!["n".into()] };
        let text = as_json(&Reply::Changed(changed.clone())).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((value["schema"].as_u64(), value["generation"].as_u64()), (Some(1), Some(3)));
        assert_eq!(as_text(&Reply::Changed(changed)), "done: create volume a\nnote: n\n");
    }

    #[test]
    fn tables_line_up_and_sizes_are_short() {
        let rows = [vec!["1".to_owned(), "x".to_owned()], vec!["222".to_owned(), String::new()]];
        assert_eq!(table(&["A", "BB"], rows.into_iter()), "A    BB\n1    x\n222\n");
        assert_eq!(size(10 << 30), "10GiB");
        assert_eq!(size((3 << 30) / 2), "1.5GiB");
        assert_eq!(size(u64::MAX), "16777215.9TiB");
        assert_eq!(size(511), "511B");
    }
}
