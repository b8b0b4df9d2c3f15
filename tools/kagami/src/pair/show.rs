//! Groups and their journals as text.

use crate::print::{size, table};
use kagami_admin::pair::{Group, Groups, Position};

/// Groups, each with a line or more.
pub fn text(groups: &Groups) -> String {
    if groups.groups.is_empty() {
        return "no volume is paired\n".to_owned();
    }
    let mut out = table(
        &[
            "GROUP",
            "STATE",
            "ROLE",
            "PEER",
            "PEER STATE",
            "COPY",
            "LAG",
            "WRITES",
            "BYTES",
            "JOURNAL",
            "SLOWED BY",
        ],
        groups.groups.iter().map(|group| {
            let unknown = || "-".to_owned();
            vec![
                group.group.clone(),
                state(group),
                group.role.clone(),
                group.peer.clone(),
                group.peer_state.clone().unwrap_or_else(|| "?".to_owned()),
                group.progress_percent.map_or_else(unknown, |percent| format!("{percent:.1}%")),
                group.lag_seconds.map_or_else(unknown, seconds),
                group.lag_writes.map_or_else(unknown, |writes| writes.to_string()),
                group.lag_bytes.map_or_else(unknown, size),
                used(group),
                group.bottleneck.clone(),
            ]
        }),
    );
    for group in &groups.groups {
        out += &format!("\n{} ({})\n", group.group, group.uuid);
        for pair in &group.pairs {
            out += &format!(
                "  {} -> {}  {}, {}\n",
                pair.primary,
                pair.secondary,
                pair.volume,
                size(pair.size_bytes)
            );
        }
        out += &format!("  journals {} and {}, {}\n", group.journal.own, group.journal.peer, group.mode);
        if !group.options.is_empty() {
            let options = group.options.iter().filter(|(key, _)| *key != "mode");
            let options: Vec<String> = options.map(|(key, value)| format!("{key}={value}")).collect();
            out += &format!("  {}\n", options.join(" "));
        }
        let mut line = |what: &str, value: Option<String>| {
            if let Some(value) = value {
                out += &format!("  {what} {value}\n");
            }
        };
        line("the secondary has all of", group.consistent_at.clone());
        line("the journal is full in", group.full_in_seconds.map(seconds));
        line("the secondary has caught up in", group.caught_up_in_seconds.map(seconds));
        line("may differ in", (group.difference_bytes > 0).then(|| size(group.difference_bytes)));
        line(&format!("{}:", group.peer), group.peer_error.clone());
        line("last error:", group.last_error.clone());
        if group.split_brain {
            line(
                "both sides were written alone:",
                Some("resync with --discard says which one gives way".to_owned()),
            );
        }
        if group.overtaken {
            line("the other side took over:", Some("hosts cannot write here; resync decides".to_owned()));
        }
    }
    out
}

/// The state, and what else keeps hosts from their volumes.
pub fn state(group: &Group) -> String {
    let also = [(group.recovering, "starting"), (group.fenced, "fenced"), (group.split_brain, "split-brain")];
    let also: Vec<_> = also.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    match also.is_empty() {
        true => group.state.clone(),
        false => format!("{} ({})", group.state, also.join(", ")),
    }
}

/// How full the journal is.
pub fn used(group: &Group) -> String {
    let (used, all) = (u128::from(group.journal.used_bytes), u128::from(group.journal.data_bytes));
    match all {
        0 => "-".to_owned(),
        all => format!("{}%", used * 100 / all),
    }
}

/// Seconds, as short as they can be said.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "-".to_owned(),
        s if s < 1.0 => format!("{:.0}ms", s * 1000.0),
        s if s < 60.0 => format!("{s:.1}s"),
        s if s < 3600.0 => format!("{:.0}m{:02.0}s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0}h{:02.0}m", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

/// Journals: their areas and positions. What is stored lies between out and in; what is read and not restored
/// between restored and read.
pub fn journals(groups: &Groups) -> String {
    let place = |position: &Option<Position>| {
        position.as_ref().map_or_else(|| "?".to_owned(), |one| format!("{} (LBA {})", one.offset, one.lba))
    };
    table(
        &[
            "GROUP",
            "JOURNAL",
            "AREA (LBA)",
            "USED",
            "OUT",
            "IN",
            "RESTORED",
            "RESTORING TO",
            "READ",
            "READING TO",
        ],
        groups.groups.iter().map(|group| {
            let (journal, at) = (&group.journal, &group.positions);
            vec![
                group.group.clone(),
                format!("{} of the {}", journal.own, group.role),
                format!("{}-{}, {}", journal.first_lba, journal.last_lba, size(journal.data_bytes)),
                size(journal.used_bytes),
                place(&at.out),
                place(&at.end),
                place(&at.restored),
                place(&at.restore_target),
                place(&at.read),
                place(&at.read_target),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_with_what_is_not_known() {
        let group = Group {
            group: "erp".into(),
            state: "PAIR".into(),
            role: "primary".into(),
            peer: "osaka".into(),
            peer_error: Some("the link is down".into()),
            lag_seconds: Some(0.25),
            fenced: true,
            ..Group::default()
        };
        let told = text(&Groups { groups: vec![group.clone()] });
        assert!(
            told.contains("PAIR (fenced)")
                && told.contains("250ms")
                && told.contains("osaka: the link is down"),
            "{told}"
        );
        assert!(journals(&Groups { groups: vec![group] }).contains('?'));
        assert_eq!(text(&Groups::default()), "no volume is paired\n");
        assert_eq!([seconds(61.0), seconds(7325.0), seconds(f64::INFINITY)], ["1m01s", "2h02m", "-"]);
    }
}
