//! What groups of pairs say of themselves, as it is told.

use crate::config::{Group, GroupMode, Side};
use crate::run::Daemon;
use kagami_admin::pair;
use kagami_replica::{Bottleneck, Report};
use kagami_types::JournalPos;
use std::time::{Duration, Instant};

/// How long cores may take to say how their groups are.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a granule of the difference.
const GRANULE: u64 = 64 << 10;

impl Daemon {
    /// The groups, or one of them.
    pub(super) fn group_reports(&mut self, only: Option<&str>) -> Vec<pair::Group> {
        let named = |group: &&Group| group.pairs.is_some() && only.is_none_or(|name| group.name == name);
        let groups: Vec<Group> = self.config.groups.iter().filter(named).cloned().collect();
        let asked: Vec<_> = groups.iter().map(|group| self.array.ask_group(&group.name)).collect();
        let end = Instant::now() + PATIENCE;
        let mut reports = Vec::new();
        for (group, asked) in groups.iter().zip(asked) {
            let left = end.saturating_duration_since(Instant::now());
            let heard = asked.and_then(|asked| self.wait(left, || asked.try_recv().ok()));
            reports.push(self.group_report(group, heard.flatten().as_deref()));
        }
        reports.sort_by(|a, b| a.group.cmp(&b.group));
        reports
    }

    fn group_report(&self, group: &Group, report: Option<&Report>) -> pair::Group {
        let own = &self.plan.name;
        let mut told = pair::Group {
            group: group.name.clone(),
            array: own.clone(),
            peer: group.peer.clone(),
            mode: match group.options.mode {
                GroupMode::Poller => "poller",
                GroupMode::Host => "host",
            }
            .to_owned(),
            options: crate::config::group_options(&group.options)
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            ..pair::Group::default()
        };
        let Some(pairs) = &group.pairs else { return told };
        told.uuid = pairs.uuid.to_string();
        let is_primary = match report {
            Some(report) => report.side == kagami_replica::Side::Primary,
            None => pairs.side == Side::Primary,
        };
        told.role = if is_primary { "primary" } else { "secondary" }.to_owned();
        let at = |array: &str, lun: kagami_types::Lun| format!("{array}:{}", lun.number());
        told.pairs = pairs
            .pairs
            .iter()
            .map(|pair| {
                let (here, there) = (at(own, pair.lun), at(&group.peer, pair.peer_lun));
                let record =
                    self.volumes.iter().map(|managed| &managed.record).find(|one| one.lun == pair.lun);
                pair::Pair {
                    primary: if is_primary { here.clone() } else { there.clone() },
                    secondary: if is_primary { there } else { here },
                    volume: record.map(|record| record.name.clone()).unwrap_or_default(),
                    size_bytes: record.map_or(0, |record| record.size.0),
                }
            })
            .collect();
        told.journal.own = at(own, pairs.journal);
        told.journal.peer = at(&group.peer, pairs.peer_journal);
        let journal = self.volumes.iter().map(|managed| &managed.record).find(|one| one.lun == pairs.journal);
        let block = journal.map_or(512, |record| u64::from(record.block_size.bytes()));
        match report {
            Some(report) => tell(&mut told, report, block, is_primary),
            None => {
                told.state = "SMPL".to_owned();
                told.recovering = true;
                told.bottleneck = "none".to_owned();
                told.peer_error = Some("this array's own part is starting".to_owned());
            }
        }
        if told.peer_state.is_none()
            && let Some((phase, reason)) = self.array.group_link(&group.name)
            && phase != "serving"
        {
            let why = reason.unwrap_or_else(|| "no answer yet".to_owned());
            told.peer_error = Some(format!("the link is {phase}: {why}"));
        }
        told
    }
}

fn tell(told: &mut pair::Group, report: &Report, block: u64, is_primary: bool) {
    told.state = report.state.name().to_owned();
    told.peer_state = report.far_state.map(|state| state.name().to_owned());
    told.peer_heard_at = time(report.far_heard);
    told.peer_error = text(&report.far_error);
    told.generation = format!("{:032x}", report.generation);
    (told.fenced, told.overtaken) = (report.fenced, report.overtaken);
    (told.split_brain, told.consistent) = (report.split_brain, report.consistent);
    told.recovering = report.recovering;
    told.progress_percent = report.progress.map(|parts| f64::from(parts) / 100.0);
    told.journal.data_bytes = report.data_len;
    told.journal.used_bytes = report.journal_used;
    told.journal.threshold_percent = report.journal_passed;
    let length = report.data_len.max(1);
    told.journal.first_lba = report.data_at / block;
    told.journal.last_lba = ((report.data_at + report.data_len) / block).saturating_sub(1);
    let place = |offset: u64| {
        let JournalPos { epoch, offset } = report.position(offset);
        let lba = (report.data_at + offset % length) / block;
        pair::Position { epoch: format!("{:016x}", epoch.0), offset, lba }
    };
    let is_met = report.far_state.is_some();
    let of = |own: bool, offset: u64| (own || is_met).then(|| place(offset));
    let positions = &report.positions;
    told.positions = pair::Positions {
        out: of(is_primary, positions.out),
        end: of(is_primary, positions.stable),
        read: of(!is_primary, positions.read),
        read_target: of(!is_primary, positions.read_target),
        restored: of(!is_primary, positions.restored),
        restore_target: of(!is_primary, positions.restore_target),
    };
    if is_met {
        told.lag_bytes = Some(report.lag_bytes);
        told.lag_seconds = Some(report.lag_seconds);
        told.lag_writes = Some(report.lag_writes);
    }
    told.consistent_at = time(report.consistent_at);
    told.fill_bytes_per_second = report.fill_rate;
    told.drain_bytes_per_second = report.drain_rate;
    told.full_in_seconds = report.full_in;
    told.caught_up_in_seconds = report.caught_up_in;
    told.bottleneck = match report.bottleneck {
        Bottleneck::None => "none",
        Bottleneck::Journal => "journal",
        Bottleneck::Link => "link",
        Bottleneck::Ingest => "ingest",
        Bottleneck::Restore => "restore",
    }
    .to_owned();
    told.difference_bytes = report.difference.saturating_mul(GRANULE);
    told.last_error = text(&report.last_error);
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Nanoseconds since 1970 as people read them; nothing for zero.
fn time(nanos: u64) -> Option<String> {
    (nanos > 0).then(|| kagami_tables::audit_time(nanos / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_replica::{Positions, State};

    fn report() -> Report {
        Report {
            name: "g".into(),
            side: kagami_replica::Side::Primary,
            state: State::Pair,
            fenced: false,
            overtaken: false,
            split_brain: false,
            consistent: true,
            recovering: false,
            generation: 0xab,
            epoch: kagami_types::Epoch(7),
            progress: Some(4_250),
            far_state: None,
            far_heard: 0,
            far_error: "link down".into(),
            positions: Positions { out: 4096, stable: 1 << 20 | 8192, ..Positions::default() },
            data_len: 1 << 20,
            data_at: 65536,
            lag_bytes: 1,
            lag_writes: 2,
            lag_seconds: 0.5,
            consistent_at: 1_795_368_180_000_000_000,
            journal_used: 4096,
            journal_passed: 75,
            fill_rate: 1.0,
            drain_rate: 2.0,
            full_in: None,
            caught_up_in: Some(3.0),
            bottleneck: Bottleneck::Link,
            difference: 2,
            last_error: String::new(),
        }
    }

    #[test]
    fn what_an_unreachable_side_would_say_is_null_with_the_reason() {
        let mut told = pair::Group::default();
        tell(&mut told, &report(), 512, true);
        assert_eq!(told.positions.out.as_ref().map(|out| (out.offset, out.lba)), Some((4096, 136)));
        // The place behind a wrap lies at the front again.
        assert_eq!(told.positions.end.as_ref().map(|end| end.lba), Some((65536 + 8192) / 512));
        assert!(told.positions.read.is_none() && told.lag_bytes.is_none() && told.lag_seconds.is_none());
        assert_eq!(told.peer_error.as_deref(), Some("link down"));
        assert_eq!((told.progress_percent, told.difference_bytes), (Some(42.5), 128 << 10));
        assert!(told.consistent_at.is_some_and(|time| time.starts_with("2026-11-22T")));
        let met = Report { far_state: Some(State::Pair), ..report() };
        let mut told = pair::Group::default();
        tell(&mut told, &met, 512, false);
        assert!(told.positions.out.is_some() && told.lag_writes == Some(2));
    }
}
