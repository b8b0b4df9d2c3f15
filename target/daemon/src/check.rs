//! `--check`: does the configuration hold together, and does it fit this machine?
//!
//! Nothing is made, locked for long, or changed; it may run beside the array that it checks.

use crate::cli::Cli;
use crate::config::units::format_size;
use crate::config::{Access, Config, ConfigError, ConfigErrors, Site, Source};
use crate::device::{self, DeviceFacts, DeviceKind, Misuse};
use crate::plan::{Machine, Plan};
use crate::{exit, uring};
use kagami_tables::{Tables, TablesError};
use kagami_types::ByteLen;
use serde::Serialize;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

/// What `--check --json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    schema: u32,
    ok: bool,
    offline: bool,
    errors: Vec<Problem>,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanReport>,
    volumes: Vec<VolumeReport>,
}

#[derive(Debug, Serialize)]
struct Problem {
    file: String,
    /// From 1; 0 where no line is to blame.
    line: usize,
    key: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct PlanReport {
    cpus: Vec<u32>,
    arena_bytes: u64,
    other_bytes: u64,
    cache_pages: u32,
    tasks_per_core: u32,
    max_sessions: u32,
    max_connections: u32,
    registered_buffers: bool,
}

#[derive(Debug, Serialize)]
struct VolumeReport {
    lun: u16,
    name: String,
    backend: String,
    size_bytes: u64,
    block_bytes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceReport>,
}

#[derive(Debug, Serialize)]
struct DeviceReport {
    kind: &'static str,
    physical_block_bytes: u32,
    alignment_bytes: u32,
    memory_alignment_bytes: u32,
    max_transfer_bytes: u32,
    discards: bool,
    writes_zeroes: bool,
    poll_queues: bool,
    rotational: bool,
}

impl Report {
    fn problem(&mut self, site: &Site, reason: impl ToString) {
        let Site { file, line, key } = site.clone();
        self.errors.push(Problem { file, line, key, reason: reason.to_string() });
    }

    fn problems(&mut self, errors: ConfigErrors) {
        for ConfigError { site, reason } in errors.0 {
            self.problem(&site, reason);
        }
    }
}

/// Checks, reports, and says with which code to exit.
#[must_use]
pub fn run(cli: &Cli) -> u8 {
    let mut report = Report { schema: 1, offline: cli.offline, ..Report::default() };
    match crate::source(cli.config.as_deref()).and_then(|source| joined(&source, cli.offline)) {
        Ok(config) => {
            report.notes.clone_from(&config.notes);
            if !cli.offline {
                machine(&config, &mut report);
            }
        }
        Err(errors) => report.problems(errors),
    }
    report.ok = report.errors.is_empty();
    print(&report, cli.json);
    if report.ok { exit::DONE } else { exit::FAILED }
}

/// The configuration, with what was made at run time where the machine is looked at.
fn joined(source: &Source, offline: bool) -> Result<Config, ConfigErrors> {
    let alone = source.config()?;
    if offline {
        return Ok(alone);
    }
    match Tables::peek(&alone.array.data) {
        Ok(Some(state)) => source.with(&state.objects().collect::<Vec<_>>()),
        // What is wrong with the tables is told below.
        _ => Ok(alone),
    }
}

fn machine(config: &Config, report: &mut Report) {
    let place = Site { key: "machine".to_owned(), line: 0, ..config.array.cores_site.clone() };
    let machine = match Machine::detect() {
        Ok(machine) => machine,
        Err(error) => return report.problem(&place, error),
    };
    if let Some(obstacle) = uring::obstacle(&machine.kernel) {
        report.problem(&place, obstacle);
    }
    if let Err(errors) = Access::load(config) {
        report.problems(errors);
    }
    let plan = match Plan::compute(config, &machine) {
        Ok(plan) => plan,
        Err(misfit) => return report.problem(&misfit.site, misfit.reason),
    };
    if !plan.memory.register {
        report.notes.push(crate::run::UNREGISTERED.to_owned());
    }
    report.plan = Some(PlanReport {
        cpus: plan.cores.iter().map(|core| core.cpu).collect(),
        arena_bytes: plan.memory.arena_bytes,
        other_bytes: plan.memory.other_bytes,
        cache_pages: plan.memory.pages - plan.memory.ram_pages,
        tasks_per_core: plan.tasks.per_core,
        max_sessions: plan.network.max_sessions,
        max_connections: plan.network.max_connections,
        registered_buffers: plan.memory.register,
    });
    let running = data_folder(config, report);
    for volume in &plan.volumes {
        let probed = match device::probe(volume, running) {
            Ok(probed) => probed,
            Err(error) => {
                report.problem(&error.site, format!("{} {}", error.path.display(), error.reason));
                continue;
            }
        };
        let size = probed.as_ref().map_or(volume.size.unwrap_or_default(), |(_, size)| *size);
        report.volumes.push(VolumeReport {
            lun: volume.lun.number(),
            name: volume.name.clone(),
            backend: volume.backend.to_string(),
            size_bytes: size.0,
            block_bytes: volume.block_size.bytes(),
            device: probed.map(|(facts, _)| describe(&facts)),
        });
    }
    if running {
        report.notes.push(format!("an array is running on {}", config.array.data.display()));
    } else {
        portals(config, report);
    }
}

/// Looks at the tables, and says whether an array is running on them.
fn data_folder(config: &Config, report: &mut Report) -> bool {
    let site = Site { key: "array.data".to_owned(), ..config.array.cores_site.clone() };
    match Tables::peek(&config.array.data) {
        Ok(_) => {}
        Err(error) => report.problem(&site, error),
    }
    is_locked(&config.array.data)
}

fn is_locked(data: &Path) -> bool {
    use rustix::fs::{FlockOperation, flock};
    let Ok(lock) = std::fs::File::open(data.join("lock")) else { return false };
    flock(&lock, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// Whether the portals are free. Asked by listening for a moment.
fn portals(config: &Config, report: &mut Report) {
    for portal in &config.portals {
        if let Err(error) = TcpListener::bind(portal.address) {
            report.problem(&portal.site, format!("{} cannot be listened on: {error}", portal.address));
        }
    }
    if let Some(address) = config.array.metrics
        && let Err(error) = TcpListener::bind(address)
    {
        let site = Site { key: "array.metrics".to_owned(), ..config.array.cores_site.clone() };
        report.problem(&site, format!("{address} cannot be listened on: {error}"));
    }
}

fn describe(facts: &DeviceFacts) -> DeviceReport {
    DeviceReport {
        kind: match facts.kind {
            DeviceKind::Block { .. } => "block device",
            DeviceKind::File => "file",
            DeviceKind::Missing => "file, to be made",
        },
        physical_block_bytes: facts.physical_block,
        alignment_bytes: facts.align,
        memory_alignment_bytes: facts.memory_align,
        max_transfer_bytes: facts.max_transfer,
        discards: facts.discard,
        writes_zeroes: facts.zero,
        poll_queues: facts.poll,
        rotational: facts.rotational,
    }
}

fn print(report: &Report, json: bool) {
    // A reader that went away does not change what was found; the exit code still says it.
    let mut out = std::io::stdout().lock();
    if json {
        if let Ok(text) = serde_json::to_string_pretty(report) {
            let _ = writeln!(out, "{text}");
        }
        return;
    }
    let mut problems = std::io::stderr().lock();
    for problem in &report.errors {
        let Problem { file, line, key, reason } = problem;
        let site = Site { file: file.clone(), line: *line, key: key.clone() };
        let _ = writeln!(problems, "{site}: {reason}");
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    if let Some(plan) = &report.plan {
        let _ = writeln!(
            out,
            "plan: reactors on CPUs {:?}, {} of pages and buffers, at most {} for the rest, {} sessions",
            plan.cpus,
            format_size(ByteLen(plan.arena_bytes)),
            format_size(ByteLen(plan.other_bytes >> 10 << 10)),
            plan.max_sessions
        );
    }
    for volume in &report.volumes {
        let kind = volume.device.as_ref().map_or("memory", |device| device.kind);
        let _ = writeln!(
            out,
            "LUN {} {}: {} ({kind}), {}, blocks of {} bytes",
            volume.lun,
            volume.name,
            volume.backend,
            format_size(ByteLen(volume.size_bytes)),
            volume.block_bytes
        );
    }
    if report.ok {
        let what = if report.offline { "the configuration is sound" } else { "the configuration fits" };
        let _ = writeln!(out, "{what}");
    }
}

/// Whether a start that failed for this reason would succeed when something else ends.
pub(crate) fn is_in_use(error: &crate::run::RunError) -> bool {
    use crate::bind::BindError;
    use crate::run::RunError;
    match error {
        RunError::Tables(TablesError::InUse { .. }) => true,
        RunError::Bind(BindError::Device(error)) => matches!(error.reason, Misuse::InUse),
        _ => false,
    }
}
