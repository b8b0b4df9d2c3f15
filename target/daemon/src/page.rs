//! The status page: one small HTML table for the volumes, one for the cores.

use crate::config::units::format_size;
use crate::figures;
use crate::http::Shown;
use kagami_metrics::{Metrics, Snapshot};
use kagami_types::ByteLen;
use std::fmt::Write;
use std::sync::PoisonError;

/// The page as HTML.
#[must_use]
pub fn render(shown: &Shown, version: &str) -> String {
    let mut out = String::with_capacity(4096);
    let name = escape(&shown.array);
    let up = shown.started.elapsed().as_secs();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\
         <title>{name}</title><style>body{{font:14px sans-serif;margin:2em}}table{{border-collapse:collapse;margin:1em 0}}\
         td,th{{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:right}}td:nth-child(2){{text-align:left}}</style>\
         <h1>{name}</h1><p>{} &middot; kagamid {version} &middot; up {}h {:02}m {:02}s &middot; {} sessions, {} connections \
         &middot; <a href=\"/metrics\">metrics</a></p>",
        escape(&shown.iqn),
        up / 3600,
        up / 60 % 60,
        up % 60,
        shown.metrics.core_sum(|core| core.network.sessions.get()),
        shown.metrics.core_sum(|core| core.network.connections.get()),
    );
    volumes(&shown.metrics, &mut out);
    figures::page(&shown.groups.lock().unwrap_or_else(PoisonError::into_inner), &mut out);
    cores(&shown.metrics, &mut out);
    out
}

fn volumes(metrics: &Metrics, out: &mut String) {
    out.push_str(
        "<table><tr><th>LUN<th>volume<th>size<th>reads<th>writes<th>others<th>read<th>written<th>errors<th>device<th>depth\
         <th>read p50<th>p99<th>write p50<th>p99<th>queue p99</tr>",
    );
    for (row, label) in metrics.labels() {
        let sum = |pick: fn(&kagami_metrics::VolumeMetrics) -> u64| metrics.volume_sum(row, pick);
        let read = metrics.volume_histogram(row, |v| &v.read_time);
        let write = metrics.volume_histogram(row, |v| &v.write_time);
        let queue = metrics.volume_histogram(row, |v| &v.queue_time);
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            label.lun,
            escape(&label.name),
            format_size(ByteLen(label.bytes)),
            sum(|v| v.reads.get()),
            sum(|v| v.writes.get()),
            sum(|v| v.others.get()),
            amount(sum(|v| v.read_bytes.get())),
            amount(sum(|v| v.write_bytes.get())),
            sum(|v| v.errors.get()),
            device_cell(metrics, row),
            sum(|v| v.depth.get()),
            time(&read, 500),
            time(&read, 990),
            time(&write, 500),
            time(&write, 990),
            time(&queue, 990),
        );
    }
    out.push_str("</table>");
}

/// How a volume's device is, in a word, and how many dirty pages could not be written to it.
pub(crate) fn device(metrics: &Metrics, row: usize) -> (&'static str, u64) {
    let failed = metrics.volume_sum(row, |v| v.cache.failed.get());
    let word = match failed {
        _ if metrics.volume_sum(row, |v| v.gone.get()) > 0 => "gone",
        0 => "fine",
        _ => "fails",
    };
    (word, failed)
}

fn device_cell(metrics: &Metrics, row: usize) -> String {
    match device(metrics, row) {
        ("fine", _) => "fine".to_owned(),
        (word, 0) => format!("<b>{word}</b>"),
        (word, failed) => format!("<b>{word}</b>, {failed} pages"),
    }
}

fn cores(metrics: &Metrics, out: &mut String) {
    out.push_str(
        "<table><tr><th>core<th>connections<th>rounds<th>idle<th>enters<th>sleeps<th>messages sent<th>received\
         <th>pages free<th>used<th>tasks</tr>",
    );
    for (index, core) in metrics.cores().iter().enumerate() {
        let reactor = &core.reactor;
        let _ = write!(
            out,
            "<tr><td>{index}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            core.network.connections.get(),
            reactor.rounds.get(),
            reactor.idle_rounds.get(),
            reactor.enters.get(),
            reactor.sleeps.get(),
            reactor.messages_sent.get(),
            reactor.messages_received.get(),
            core.pool.pages_free.get(),
            core.pool.pages_used.get(),
            core.network.tasks.get(),
        );
    }
    out.push_str("</table></html>\n");
}

/// A number of bytes to three digits or so, for people.
fn amount(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 10 << shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// A quantile in microseconds.
fn time(snapshot: &Snapshot, per_mille: u32) -> String {
    match snapshot.quantile_nanos(per_mille) {
        None => "-".to_owned(),
        Some(u64::MAX) => "&gt; 17 s".to_owned(),
        Some(nanos) => format!("{}.{} &micro;s", nanos / 1000, nanos % 1000 / 100),
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
