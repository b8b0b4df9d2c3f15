//! `kagami top`: volumes and groups of the array at hand, drawn again and again.
//!
//! Rates are the differences of two looks at the counters. Plain escape sequences, no terminal modes: what ends it
//! (Ctrl-C) leaves the terminal as it was.

use crate::ask::millis;
use crate::cli::Cli;
use crate::pair::{Ways, seconds, state, used};
use crate::print::{out, size, table};
use kagami_admin::pair::{GroupNamed, Groups};
use kagami_admin::report::{Stats, VolumeStats};
use kagami_admin::{Refusal, Reply, Request};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Draws until the array or the reader goes away, or once.
pub fn run(cli: &Cli, every: &str, once: bool) -> Result<u8, Refusal> {
    let pause = Duration::from_millis(millis(every)?.max(50));
    let mut ways = Ways::open(cli)?;
    let (mut before, mut then) = (stats(&mut ways)?, Instant::now());
    let clears = std::io::stdout().is_terminal() && !once;
    loop {
        std::thread::sleep(pause);
        let (now, at) = (stats(&mut ways)?, Instant::now());
        let groups = match ways.ask(None, Request::PairStatus(GroupNamed { group: None }))? {
            Reply::Groups(groups) => groups,
            _ => Groups::default(),
        };
        let text = draw(&before, &now, (at - then).as_secs_f64(), &groups);
        let text = if clears { format!("\x1b[H\x1b[2J{text}") } else { text };
        if !out(&text)? || once {
            ways.close();
            return Ok(0);
        }
        (before, then) = (now, at);
    }
}

fn stats(ways: &mut Ways) -> Result<Stats, Refusal> {
    match ways.ask(None, Request::Stats)? {
        Reply::Stats(stats) => Ok(stats),
        _ => Err(Refusal::failed("the array answers something else than its counters")),
    }
}

fn draw(before: &Stats, now: &Stats, took: f64, groups: &Groups) -> String {
    let rate = |now: u64, before: u64| {
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let change = now.saturating_sub(before) as f64;
        change / took.max(0.001)
    };
    let bytes = |rate: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
        let whole = rate.max(0.0) as u64;
        format!("{}/s", size(whole))
    };
    let mut text = format!("up {} s\n", now.uptime_seconds);
    let row = |volume: &VolumeStats| {
        let old = before.volumes.iter().find(|old| old.lun == volume.lun);
        let old = |pick: fn(&VolumeStats) -> u64| old.map_or(0, pick);
        vec![
            volume.lun.to_string(),
            volume.volume.clone(),
            format!("{:.0}", rate(volume.reads, old(|v| v.reads))),
            format!("{:.0}", rate(volume.writes, old(|v| v.writes))),
            bytes(rate(volume.read_bytes, old(|v| v.read_bytes))),
            bytes(rate(volume.written_bytes, old(|v| v.written_bytes))),
            volume.queue_depth.to_string(),
            volume.errors.to_string(),
        ]
    };
    text += &table(
        &["LUN", "VOLUME", "READS/s", "WRITES/s", "READ", "WRITTEN", "DEPTH", "ERRORS"],
        now.volumes.iter().map(row),
    );
    if groups.groups.is_empty() {
        return text;
    }
    text.push('\n');
    text += &table(
        &[
            "GROUP",
            "STATE",
            "ROLE",
            "PEER",
            "THERE",
            "COPY",
            "LAG",
            "WRITES",
            "IN",
            "OUT",
            "JOURNAL",
            "FULL IN",
            "CAUGHT UP IN",
            "SLOWED BY",
        ],
        groups.groups.iter().map(|group| {
            let none = || "-".to_owned();
            vec![
                group.group.clone(),
                state(group),
                group.role.clone(),
                group.peer.clone(),
                group.peer_state.clone().unwrap_or_else(|| "?".to_owned()),
                group.progress_percent.map_or_else(none, |percent| format!("{percent:.1}%")),
                group.lag_seconds.map_or_else(none, seconds),
                group.lag_writes.map_or_else(none, |writes| writes.to_string()),
                bytes(group.fill_bytes_per_second),
                bytes(group.drain_bytes_per_second),
                used(group),
                group.full_in_seconds.map_or_else(none, seconds),
                group.caught_up_in_seconds.map_or_else(none, seconds),
                group.bottleneck.clone(),
            ]
        }),
    );
    for group in &groups.groups {
        let notes = [("", &group.peer_error), ("last error: ", &group.last_error)];
        for (what, why) in notes {
            if let Some(why) = why {
                text += &format!("{}: {what}{why}\n", group.group);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_admin::pair::Group;

    #[test]
    fn rates_are_differences() {
        let volume = |writes, bytes| VolumeStats {
            lun: 0,
            volume: "db".into(),
            reads: 0,
            writes,
            others: 0,
            read_bytes: 0,
            written_bytes: bytes,
            errors: 0,
            queue_depth: 1,
            read_p50_us: None,
            read_p99_us: None,
            write_p50_us: None,
            write_p99_us: None,
        };
        let stats = |volume| Stats { uptime_seconds: 5, volumes: vec![volume], cores: Vec::new() };
        let group = Group { group: "erp".into(), peer_error: Some("down".into()), ..Group::default() };
        let groups = Groups { groups: vec![group] };
        let text = draw(&stats(volume(10, 0)), &stats(volume(30, 4 << 20)), 2.0, &groups);
        assert!(text.contains("  10  ") && text.contains("2MiB/s") && text.contains("erp: down"), "{text}");
    }
}
