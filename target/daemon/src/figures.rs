//! Figures of groups of pairs: for `/metrics`, and for the status page.

use crate::page::escape;
use kagami_admin::pair::{Group, Groups};
use std::fmt::Write;

/// A row of the documented metrics: name, what it is, its value; nothing where that is not known.
type Gauge = (&'static str, &'static str, fn(&Group) -> Option<f64>);

#[allow(clippy::cast_precision_loss, reason = "figures for people and graphs")]
fn number(value: u64) -> f64 {
    value as f64
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// Every gauge of a group.
const GAUGES: &[Gauge] = &[
    ("kagami_group_primary", "1 where hosts write here", |g| Some(flag(g.role == "primary"))),
    ("kagami_group_fenced", "1 while hosts' writes are refused", |g| Some(flag(g.fenced))),
    ("kagami_group_consistent", "1 where the volumes here are a moment of the primary's", |g| {
        Some(flag(g.consistent))
    }),
    ("kagami_group_split_brain", "1 where the operator has to choose a side", |g| Some(flag(g.split_brain))),
    ("kagami_group_copied_ratio", "How much of a copy is done, while there is one", |g| {
        g.progress_percent.map(|percent| percent / 100.0)
    }),
    (
        "kagami_group_lag_seconds",
        "From the newest write to the newest that the secondary has restored",
        |g| g.lag_seconds,
    ),
    ("kagami_group_lag_bytes", "Bytes that the secondary has not restored", |g| g.lag_bytes.map(number)),
    ("kagami_group_lag_writes", "Writes that the secondary has not restored", |g| g.lag_writes.map(number)),
    ("kagami_group_fill_bytes_per_second", "What hosts put into the journal", |g| {
        Some(g.fill_bytes_per_second)
    }),
    ("kagami_group_drain_bytes_per_second", "What leaves the journal, at a secondary arrives", |g| {
        Some(g.drain_bytes_per_second)
    }),
    ("kagami_group_journal_bytes", "The journal's data area", |g| Some(number(g.journal.data_bytes))),
    ("kagami_group_journal_used_bytes", "What of it is in use", |g| Some(number(g.journal.used_bytes))),
    (
        "kagami_group_journal_threshold_percent",
        "The highest of its thresholds that the journal's use has passed and not left, 0 for none",
        |g| Some(f64::from(g.journal.threshold_percent)),
    ),
    ("kagami_group_full_in_seconds", "When the journal is full at these rates, where that will be", |g| {
        g.full_in_seconds
    }),
    ("kagami_group_caught_up_in_seconds", "When the secondary has caught up at these rates", |g| {
        g.caught_up_in_seconds
    }),
    ("kagami_group_difference_bytes", "Where the sides may differ", |g| Some(number(g.difference_bytes))),
];

/// States, each of which is a series of `kagami_group_state`.
const STATES: [&str; 6] = ["SMPL", "COPY", "PAIR", "PSUS", "PSUE", "SSWS"];

/// Text of the Prometheus format.
pub fn render(groups: &Groups, out: &mut String) {
    if groups.groups.is_empty() {
        return;
    }
    let label = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP kagami_group_state 1 for the state that the group is in");
    let _ = writeln!(out, "# TYPE kagami_group_state gauge");
    for group in &groups.groups {
        for state in STATES {
            let value = u8::from(group.state == state);
            let _ = writeln!(
                out,
                "kagami_group_state{{group=\"{}\",state=\"{state}\"}} {value}",
                label(&group.group)
            );
        }
    }
    for (name, help, value) in GAUGES {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for group in &groups.groups {
            if let Some(value) = value(group).filter(|value| value.is_finite()) {
                let (group, peer) = (label(&group.group), label(&group.peer));
                let _ = writeln!(out, "{name}{{group=\"{group}\",peer=\"{peer}\"}} {value}");
            }
        }
    }
}

/// The table of the status page.
pub fn page(groups: &Groups, out: &mut String) {
    if groups.groups.is_empty() {
        return;
    }
    out.push_str(
        "<table><tr><th>group<th>state<th>role<th>peer<th>there<th>copy<th>lag<th>writes<th>journal<th>slowed by<th>last error</tr>",
    );
    for group in &groups.groups {
        let dash = || "-".to_owned();
        let used = match group.journal.data_bytes {
            0 => dash(),
            all => format!("{:.0}%", number(group.journal.used_bytes) * 100.0 / number(all)),
        };
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{used}<td>{}<td>{}</tr>",
            escape(&group.group),
            escape(&group.state),
            escape(&group.role),
            escape(&group.peer),
            escape(group.peer_state.as_deref().unwrap_or("?")),
            group.progress_percent.map_or_else(dash, |percent| format!("{percent:.1}%")),
            group.lag_seconds.map_or_else(dash, |lag| format!("{lag:.3}s")),
            group.lag_writes.map_or_else(dash, |writes| writes.to_string()),
            escape(&group.bottleneck),
            escape(group.last_error.as_deref().or(group.peer_error.as_deref()).unwrap_or("-")),
        );
    }
    out.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out_and_everything_is_documented() {
        let group = Group {
            group: "erp".into(),
            peer: "osaka".into(),
            state: "PAIR".into(),
            role: "primary".into(),
            lag_seconds: Some(0.5),
            ..Group::default()
        };
        let groups = Groups { groups: vec![group] };
        let mut text = String::new();
        render(&groups, &mut text);
        assert!(text.contains("kagami_group_state{group=\"erp\",state=\"PAIR\"} 1\n"), "{text}");
        assert!(text.contains("kagami_group_lag_seconds{group=\"erp\",peer=\"osaka\"} 0.5\n"), "{text}");
        assert!(!text.contains("kagami_group_lag_bytes{"), "{text}");
        let mut html = String::new();
        page(&groups, &mut html);
        assert!(html.contains("<td>erp<td>PAIR") && html.contains("0.500s"), "{html}");
        let docs = include_str!("../../../docs/formats.md");
        for (name, help, _) in GAUGES {
            assert!(
                docs.contains(&format!("| `{name}` | gauge | {help} |")),
                "| `{name}` | gauge | {help} |"
            );
        }
    }
}
