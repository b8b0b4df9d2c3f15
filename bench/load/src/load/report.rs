//! The result of a load run, for people and for scripts.

use super::Stats;
use crate::cli::{LoadArgs, Pattern};
use crate::units::show_size;
use kagami_iscsi::negotiate::Parameters;
use serde_json::json;

/// Prints the report on standard output.
pub fn print(args: &LoadArgs, stats: &Stats, parameters: Option<&Parameters>) {
    if args.connect.json {
        println!("{:#}", as_json(args, stats, parameters));
    } else {
        print!("{}", as_text(args, stats));
    }
}

fn per(total: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total as f64 / count as f64 }
}

fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1e3
}

struct Derived {
    iops: f64,
    megabytes: f64,
    busy_us: f64,
}

fn derive(stats: &Stats) -> Derived {
    let seconds = (stats.wall_ns as f64 / 1e9).max(1e-9);
    Derived {
        iops: stats.commands() as f64 / seconds,
        megabytes: stats.bytes as f64 / 1e6 / seconds,
        busy_us: per(stats.cpu_ns.saturating_sub(stats.idle_ns), stats.commands()) / 1e3,
    }
}

fn as_text(args: &LoadArgs, stats: &Stats) -> String {
    let Derived { iops, megabytes, busy_us } = derive(stats);
    let at = |percent: f64| microseconds(stats.latency.value_at_percentile(percent));
    let pattern = if args.pattern == Pattern::Seq { "sequential" } else { "random" };
    let mut text = format!(
        "{} {pattern}, {}% reads, {} connections x depth {}\n\
         {iops:.0} IOPS, {megabytes:.1} MB/s\n\
         latency us: mean {:.1}  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}\n\
         generator: {busy_us:.2} us CPU per I/O at work, {:.2} us with polling; {:.1} I/O per receive, {:.1} per send\n",
        show_size(args.block),
        args.read,
        u32::from(args.connections) * u32::from(args.sessions),
        args.depth,
        stats.latency.mean() / 1e3,
        at(50.0),
        at(90.0),
        at(99.0),
        at(99.9),
        microseconds(stats.latency.max()),
        per(stats.cpu_ns, stats.commands()) / 1e3,
        per(stats.commands(), stats.receives),
        per(stats.commands(), stats.sends),
    );
    if let Some(ns) = stats.target_ns {
        text.push_str(&format!("target: {:.2} us CPU per I/O\n", per(ns, stats.commands()) / 1e3));
    }
    if stats.busy > 0 {
        text.push_str(&format!("busy: {} commands were refused for now\n", stats.busy));
    }
    for (kind, count) in &stats.kinds {
        text.push_str(&format!("errors: {count} x {kind}\n"));
    }
    text
}

fn as_json(args: &LoadArgs, stats: &Stats, parameters: Option<&Parameters>) -> serde_json::Value {
    let Derived { iops, megabytes, busy_us } = derive(stats);
    let at = |percent: f64| microseconds(stats.latency.value_at_percentile(percent));
    json!({
        "schema": 1,
        "workload": {
            "block_bytes": args.block,
            "read_percent": args.read,
            "pattern": if args.pattern == Pattern::Seq { "seq" } else { "rand" },
            "connections": u32::from(args.connections) * u32::from(args.sessions),
            "connections_per_session": if args.mcs { args.connections } else { 1 },
            "depth": args.depth,
            "depth_low": args.depth_low,
            "rate_iops": args.rate,
            "time_seconds": stats.wall_ns as f64 / 1e9,
            "verified": args.verify,
        },
        "negotiated": parameters.map(|o| json!({
            "header_digest": o.header_digest,
            "data_digest": o.data_digest,
            "immediate_data": o.immediate_data,
            "initial_r2t": o.initial_r2t,
            "max_burst_bytes": o.max_burst_length,
            "first_burst_bytes": o.first_burst_length,
            "send_segment_bytes": o.max_send_data_segment_length,
            "receive_segment_bytes": o.max_recv_data_segment_length,
        })),
        "commands": stats.commands(),
        "reads": stats.reads,
        "writes": stats.writes,
        "iops": iops,
        "mb_per_second": megabytes,
        "latency_mean_us": stats.latency.mean() / 1e3,
        "latency_p50_us": at(50.0),
        "latency_p90_us": at(90.0),
        "latency_p99_us": at(99.0),
        "latency_p99_9_us": at(99.9),
        "latency_max_us": microseconds(stats.latency.max()),
        "generator_cpu_us_per_io": busy_us,
        "generator_cpu_with_polling_us_per_io": per(stats.cpu_ns, stats.commands()) / 1e3,
        "target_cpu_us_per_io": stats.target_ns.map(|ns| per(ns, stats.commands()) / 1e3),
        "ios_per_receive": per(stats.commands(), stats.receives),
        "ios_per_send": per(stats.commands(), stats.sends),
        "busy": stats.busy,
        "errors": stats.errors,
        "error_kinds": stats.kinds,
    })
}
