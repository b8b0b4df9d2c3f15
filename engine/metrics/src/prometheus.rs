//! The text that Prometheus and its kin read (exposition format 0.0.4).
//!
//! Counters come per LUN and core (rows that a core never touched are left out); latency
//! histograms per LUN, summed over the cores, and per core, summed over the LUNs, at limits of
//! whole powers of two, so that a scrape stays small with a thousand LUNs.

use crate::{CoreMetrics, Counter, Gauge, Histogram, Metrics, Snapshot, VolumeLabel, VolumeMetrics};
use std::fmt::Write;

/// The Content-Type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type CoreCounter = (&'static str, &'static str, fn(&CoreMetrics) -> &Counter);
type CoreGauge = (&'static str, &'static str, fn(&CoreMetrics) -> &Gauge);
type VolumeCounter = (&'static str, &'static str, fn(&VolumeMetrics) -> &Counter);
type VolumeGauge = (&'static str, &'static str, fn(&VolumeMetrics) -> &Gauge);
type VolumeTime = (&'static str, &'static str, fn(&VolumeMetrics) -> &Histogram);

const CORE_COUNTERS: &[CoreCounter] = &[
    ("reactor_rounds_total", "Rounds of the poll loop.", |c| &c.reactor.rounds),
    ("reactor_idle_rounds_total", "Rounds that found nothing to do.", |c| &c.reactor.idle_rounds),
    ("reactor_enters_total", "System calls that entered a ring.", |c| &c.reactor.enters),
    ("reactor_sleeps_total", "Times the core slept in the kernel.", |c| &c.reactor.sleeps),
    ("reactor_submissions_total", "Operations given to the ring.", |c| &c.reactor.submissions),
    ("reactor_completions_total", "Completions taken from the ring.", |c| &c.reactor.completions),
    ("reactor_messages_sent_total", "Messages sent to other cores.", |c| &c.reactor.messages_sent),
    ("reactor_messages_received_total", "Messages from other cores.", |c| &c.reactor.messages_received),
    ("reactor_messages_delayed_total", "Messages that met a full queue.", |c| &c.reactor.messages_delayed),
    ("reactor_wakes_sent_total", "Sleeping cores woken by this one.", |c| &c.reactor.wakes_sent),
    ("reactor_timers_total", "Deadlines that came.", |c| &c.reactor.timers),
    ("commands_crossed_total", "Commands for units of other cores.", |c| &c.reactor.commands_crossed),
    ("connections_moved_out_total", "Connections handed to another core.", |c| &c.network.moves_out),
    ("connections_moved_in_total", "Connections taken from another core.", |c| &c.network.moves_in),
    ("connection_moves_given_up_total", "Moves of busy connections given up.", |c| &c.network.moves_given_up),
    ("connections_accepted_total", "Connections accepted.", |c| &c.network.accepted),
    ("connections_refused_total", "Connections refused at a bound.", |c| &c.network.refused),
    ("connection_errors_total", "Connections closed for an error.", |c| &c.network.connection_errors),
    ("logins_total", "Logins that succeeded.", |c| &c.network.logins),
    ("login_failures_total", "Logins refused.", |c| &c.network.login_failures),
    ("task_set_full_total", "Commands that found no pages for their data.", |c| &c.network.task_set_full),
    ("stray_data_pdus_total", "Data of tasks that were gone.", |c| &c.network.stray_data),
    ("data_copied_bytes_total", "Write data copied from a receive window.", |c| &c.network.bytes_copied),
    ("data_in_place_bytes_total", "Write data received in place.", |c| &c.network.bytes_in_place),
    ("digest_errors_total", "Digests that did not match.", |c| &c.network.digest_errors),
    ("received_bytes_total", "Bytes received.", |c| &c.network.bytes_received),
    ("sent_bytes_total", "Bytes sent.", |c| &c.network.bytes_sent),
    ("received_pdus_total", "PDUs received.", |c| &c.network.pdus_received),
    ("sent_pdus_total", "PDUs sent.", |c| &c.network.pdus_sent),
    ("receives_total", "Receive operations completed.", |c| &c.network.receives),
    ("sends_total", "Send operations completed.", |c| &c.network.sends),
    ("tasks_aborted_total", "Tasks aborted.", |c| &c.network.tasks_aborted),
    ("check_conditions_total", "Commands that ended with CHECK CONDITION.", |c| &c.network.check_conditions),
    ("pool_reclaims_total", "Times the cache gave up pages for host data.", |c| &c.pool.reclaims),
];

const CORE_GAUGES: &[CoreGauge] = &[
    ("core_busy_permille", "Share of the time that work took lately.", |c| &c.reactor.busy),
    ("sessions", "Open sessions.", |c| &c.network.sessions),
    ("connections", "Open connections.", |c| &c.network.connections),
    ("tasks", "Task slots in use.", |c| &c.network.tasks),
    ("pages_free", "4 KiB pages free.", |c| &c.pool.pages_free),
    ("pages_used", "4 KiB pages in use.", |c| &c.pool.pages_used),
    ("small_buffers_free", "16 KiB buffers free.", |c| &c.pool.small_free),
    ("large_buffers_free", "256 KiB buffers free.", |c| &c.pool.large_free),
];

const VOLUME_COUNTERS: &[VolumeCounter] = &[
    ("lun_reads_total", "Read commands completed.", |v| &v.reads),
    ("lun_writes_total", "Write commands completed.", |v| &v.writes),
    ("lun_other_commands_total", "Commands completed that are no READ or WRITE.", |v| &v.others),
    ("lun_parts_total", "Parts of commands done for a volume of another core.", |v| &v.parts),
    ("lun_read_bytes_total", "Bytes read.", |v| &v.read_bytes),
    ("lun_written_bytes_total", "Bytes written.", |v| &v.write_bytes),
    ("lun_unmapped_bytes_total", "Bytes unmapped or zeroed.", |v| &v.unmap_bytes),
    ("lun_errors_total", "Commands that the volume failed.", |v| &v.errors),
    ("lun_timeouts_total", "Device operations that timed out.", |v| &v.timeouts),
    ("lun_busy_total", "Commands answered BUSY or TASK SET FULL.", |v| &v.busy),
    ("lun_cache_hits_total", "Reads wholly from cache.", |v| &v.cache.hits),
    ("lun_cache_partial_total", "Reads in part from cache.", |v| &v.cache.partial),
    ("lun_cache_misses_total", "Reads wholly from the device.", |v| &v.cache.misses),
    ("lun_cache_fills_total", "Device reads for the cache.", |v| &v.cache.fills),
    ("lun_read_ahead_pages_total", "Pages read ahead.", |v| &v.cache.ahead),
    ("lun_read_ahead_used_total", "Pages read ahead and then read.", |v| &v.cache.ahead_used),
    ("lun_read_ahead_wasted_total", "Pages read ahead for nothing.", |v| &v.cache.ahead_wasted),
    ("lun_cache_in_place_bytes_total", "Bytes written without a copy.", |v| &v.cache.in_place_bytes),
    ("lun_cache_copied_bytes_total", "Bytes written through a copy.", |v| &v.cache.copied_bytes),
    ("lun_destages_total", "Device writes of destage.", |v| &v.cache.destages),
    ("lun_destaged_bytes_total", "Bytes that destage wrote.", |v| &v.cache.destaged_bytes),
    ("lun_destage_errors_total", "Device writes of destage that failed.", |v| &v.cache.destage_errors),
    ("lun_throttled_writes_total", "Writes that waited for destage.", |v| &v.cache.throttled),
];

const VOLUME_GAUGES: &[VolumeGauge] = &[
    ("lun_queue_depth", "Commands in the volume.", |v| &v.depth),
    ("lun_device_queue_depth", "Device operations in flight.", |v| &v.device_depth),
    ("lun_device_gone", "1 while the volume's device is gone.", |v| &v.gone),
    ("lun_cache_pages", "Pages in cache.", |v| &v.cache.pages),
    ("lun_dirty_pages", "Dirty pages in cache.", |v| &v.cache.dirty),
    ("lun_failed_pages", "Dirty pages that could not be written.", |v| &v.cache.failed),
    ("lun_pinned_pages", "Pages kept in cache by reads that wait.", |v| &v.cache.pinned),
];

const VOLUME_TIMES: &[VolumeTime] = &[
    ("queue_seconds", "Time from arrival until the volume took the command up.", |v| &v.queue_time),
    ("read_seconds", "Time in service of reads.", |v| &v.read_time),
    ("write_seconds", "Time in service of writes.", |v| &v.write_time),
    ("other_seconds", "Time in service of other commands of the volume.", |v| &v.other_time),
];

/// Writes all metrics of an array.
///
/// `array` is its name; it becomes the label of `kagami_info`, with the `version`.
pub fn render(metrics: &Metrics, array: &str, version: &str, out: &mut String) {
    head(out, "info", "gauge", "The array and its version.");
    sample(out, "info", &[("array", array), ("version", version)], "1");
    cores(metrics, out);
    volumes(metrics, out);
}

fn cores(metrics: &Metrics, out: &mut String) {
    for (name, help, pick) in CORE_COUNTERS {
        head(out, name, "counter", help);
        for (index, core) in metrics.cores().iter().enumerate() {
            sample(out, name, &[("core", &index.to_string())], &pick(core).get().to_string());
        }
    }
    head(out, "reactor_slept_seconds_total", "counter", "Time spent asleep in the kernel.");
    for (index, core) in metrics.cores().iter().enumerate() {
        let slept = seconds(core.reactor.slept_nanos.get());
        sample(out, "reactor_slept_seconds_total", &[("core", &index.to_string())], &slept);
    }
    for (name, help, pick) in CORE_GAUGES {
        head(out, name, "gauge", help);
        for (index, core) in metrics.cores().iter().enumerate() {
            sample(out, name, &[("core", &index.to_string())], &pick(core).get().to_string());
        }
    }
    let name = "core_crossing_seconds";
    head(out, name, "histogram", "Time of commands on their way from other cores.");
    for (index, core) in metrics.cores().iter().enumerate() {
        let mut sum = Snapshot::default();
        core.reactor.queue_wait.add_to(&mut sum);
        histogram(out, name, &[("core", &index.to_string())], &sum);
    }
    for (name, help, pick) in VOLUME_TIMES {
        let name = format!("core_{name}");
        head(out, &name, "histogram", help);
        for (index, core) in metrics.cores().iter().enumerate() {
            let mut sum = Snapshot::default();
            core.volumes().iter().filter(|v| v.touched()).for_each(|v| pick(v).add_to(&mut sum));
            histogram(out, &name, &[("core", &index.to_string())], &sum);
        }
    }
}

fn volumes(metrics: &Metrics, out: &mut String) {
    let labels = metrics.labels();
    head(out, "lun_capacity_bytes", "gauge", "The volume's capacity.");
    for (_, label) in &labels {
        let lun = label.lun.to_string();
        sample(out, "lun_capacity_bytes", &names(&lun, label), &label.bytes.to_string());
    }
    for (name, help, pick) in VOLUME_COUNTERS {
        head(out, name, "counter", help);
        per_core(metrics, &labels, out, name, |v| pick(v).get());
    }
    for (name, help, pick) in VOLUME_GAUGES {
        head(out, name, "gauge", help);
        per_core(metrics, &labels, out, name, |v| pick(v).get());
    }
    for (name, help, pick) in VOLUME_TIMES {
        let name = format!("lun_{name}");
        head(out, &name, "histogram", help);
        for (row, label) in &labels {
            let lun = label.lun.to_string();
            histogram(out, &name, &names(&lun, label), &metrics.volume_histogram(*row, pick));
        }
    }
}

fn names<'a>(lun: &'a str, label: &'a VolumeLabel) -> [(&'static str, &'a str); 2] {
    [("lun", lun), ("volume", &label.name)]
}

fn per_core(
    metrics: &Metrics,
    labels: &[(usize, VolumeLabel)],
    out: &mut String,
    name: &str,
    pick: impl Fn(&VolumeMetrics) -> u64,
) {
    for (row, label) in labels {
        let lun = label.lun.to_string();
        let [lun, volume] = names(&lun, label);
        for (index, core) in metrics.cores().iter().enumerate() {
            let Some(block) = core.volume(*row).filter(|block| block.touched()) else { continue };
            sample(out, name, &[lun, volume, ("core", &index.to_string())], &pick(block).to_string());
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP kagami_{name} {help}\n# TYPE kagami_{name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: &str) {
    let _ = write!(out, "kagami_{name}");
    for (place, (label, text)) in labels.iter().enumerate() {
        out.push(if place == 0 { '{' } else { ',' });
        let _ = write!(out, "{label}=\"");
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

fn histogram(out: &mut String, name: &str, labels: &[(&str, &str)], snapshot: &Snapshot) {
    let bucket = format!("{name}_bucket");
    let below = |out: &mut String, limit: &str, count: u64| {
        let labels: Vec<_> = labels.iter().copied().chain([("le", limit)]).collect();
        sample(out, &bucket, &labels, &count.to_string());
    };
    for octave in 9..=34 {
        below(out, &seconds(1 << octave), snapshot.below_octave(octave));
    }
    let count = snapshot.count();
    below(out, "+Inf", count);
    sample(out, &format!("{name}_sum"), labels, &seconds(snapshot.sum_nanos));
    sample(out, &format!("{name}_count"), labels, &count.to_string());
}

/// Nanoseconds as exact decimal seconds.
fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        let metrics = Metrics::new(2, 2);
        metrics.label(0, Some(VolumeLabel { lun: 3, name: "a\"b\\c".into(), bytes: 1 << 20 }));
        let block = metrics.core(1).unwrap().volume(0).unwrap();
        block.reads.add(2);
        block.read_bytes.add(8192);
        block.read_time.record(600);
        block.read_time.record(1_500_000);
        let mut out = String::new();
        render(&metrics, "tokyo", "0.1.0", &mut out);
        out
    }

    #[test]
    fn lines_are_as_the_format_asks() {
        let text = text();
        for line in [
            "kagami_info{array=\"tokyo\",version=\"0.1.0\"} 1",
            "# TYPE kagami_lun_reads_total counter",
            "kagami_lun_reads_total{lun=\"3\",volume=\"a\\\"b\\\\c\",core=\"1\"} 2",
            "kagami_lun_read_seconds_bucket{lun=\"3\",volume=\"a\\\"b\\\\c\",le=\"0.000000512\"} 0",
            "kagami_lun_read_seconds_bucket{lun=\"3\",volume=\"a\\\"b\\\\c\",le=\"0.000001024\"} 1",
            "kagami_lun_read_seconds_bucket{lun=\"3\",volume=\"a\\\"b\\\\c\",le=\"+Inf\"} 2",
            "kagami_lun_read_seconds_sum{lun=\"3\",volume=\"a\\\"b\\\\c\"} 0.001500600",
            "kagami_core_read_seconds_count{core=\"1\"} 2",
            "kagami_sessions{core=\"0\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "missing {line}\n{text}");
        }
        assert!(!text.contains("lun_reads_total{lun=\"3\",volume=\"a\\\"b\\\\c\",core=\"0\"}"));
    }

    #[test]
    fn every_sample_follows_its_type_line_and_names_are_unique() {
        let text = text();
        let mut types = std::collections::HashSet::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                current = rest.split(' ').next().unwrap().to_owned();
                assert!(types.insert(current.clone()), "twice: {current}");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&current), "{line} under {current}");
            }
        }
    }
}
