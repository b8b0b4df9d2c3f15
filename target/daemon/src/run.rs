//! The daemon's life: start in order, manage, stop in order.
//!
//! The thread that calls [`run`] becomes the management thread: it has the tables, and it alone
//! changes them. Reactors ask it for durable state, signals ask it to stop or reload.

use crate::admin::{self, AdminSocket, Ask};
use crate::bind::{self, BindError, BindOptions, BoundVolume};
use crate::check::is_in_use;
use crate::cli::Cli;
use crate::config::units::format_size;
use crate::config::{self, Access, Backend, Config, ConfigErrors, Operators, Source};
use crate::control::{self, Control};
use crate::device::{DeviceEvent, Watch};
use crate::events::EventLog;
use crate::http::{self, Shown};
use crate::links::LinkLog;
use crate::logins::{self, LoginLog};
use crate::manage::{Desk, Pairing};
use crate::plan::{Machine, Plan, PlanError, SPARE_VIRTUALS};
use crate::serve::{
    Array, Inputs, RefusedLogin, Request, Rules, Served, StartError, StateKeeper, StateRequest, Storage,
};
use crate::{exit, say, uring};
use kagami_metrics::{Metrics, VolumeLabel};
use kagami_scsi::Rotation;
use kagami_tables::{Change, Object, OpenOptions, Tables, TablesError, Transaction, VolumeRecord};
use kagami_types::{ByteLen, Uuid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// Said where the limit on locked memory is too small for the arena.
pub(crate) const UNREGISTERED: &str = "the arena is not registered with the kernel, as RLIMIT_MEMLOCK is too small; \
                                       device I/O costs a little more (ulimit -l unlimited, LimitMEMLOCK=infinity)";

/// Requests for durable state that may wait.
const REQUESTS: usize = 1024;
/// How often the management thread looks at signals and reactors while there are no requests.
const TICK: Duration = Duration::from_millis(20);

/// Why the array could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The machine could not be asked.
    #[error("{0}")]
    Machine(io::Error),
    /// io_uring cannot be used.
    #[error("{0}")]
    Uring(String),
    /// The configuration does not fit the machine.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// The tables.
    #[error("{0}")]
    Tables(#[from] TablesError),
    /// A volume.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// An access rule.
    #[error("{0}")]
    Rules(String),
    /// A part of serving.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The metrics endpoint.
    #[error("the metrics endpoint {0} cannot be listened on: {1}")]
    Metrics(SocketAddr, io::Error),
    /// The thread that watches devices.
    #[error("devices cannot be watched: {0}")]
    Watch(io::Error),
    /// The admin socket.
    #[error("the admin socket {0} cannot be listened on: {1}")]
    Admin(String, io::Error),
    /// Signals.
    #[error("signals cannot be taken: {0}")]
    Signals(io::Error),
    /// A reactor ended by itself.
    #[error("a reactor ended by itself")]
    Reactor,
    /// The graceful stop took too long.
    #[error("not all hosts' I/O could be drained within stop_timeout; nothing acknowledged is lost")]
    Undrained,
}

/// Serves until told to stop; says with which code to exit.
#[must_use]
pub fn run(cli: &Cli) -> u8 {
    match start(cli).and_then(Daemon::manage) {
        Ok(()) => exit::DONE,
        Err(error) => {
            crate::complain(&error);
            if is_in_use(&error) { exit::REFUSED } else { exit::FAILED }
        }
    }
}

/// What the management thread has.
pub(crate) struct Daemon {
    /// The file, or the embedded default.
    pub(crate) source: Source,
    /// The configuration in force: of the file, and what was made at run time.
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) plan: Plan,
    pub(crate) tables: Tables,
    pub(crate) array: Array,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) volumes: Vec<Managed>,
    /// The highest row of the metrics that was ever used.
    pub(crate) rows_used: usize,
    pub(crate) requests: Receiver<Request>,
    /// Orders of command devices.
    pub(crate) desk: Desk,
    /// Groups of pairs.
    pub(crate) pairing: Pairing,
    /// Who may sign them.
    pub(crate) operators: Operators,
    controls: Receiver<Control>,
    /// Tells of devices that go, come back and grow.
    pub(crate) watch: Watch,
    /// What is asked over the admin socket.
    pub(crate) asks: Receiver<Ask>,
    pub(crate) events: Arc<EventLog>,
    /// Where access rules send refused logins, and who tells of them.
    pub(crate) refused: SyncSender<RefusedLogin>,
    pub(crate) logins: LoginLog,
    /// Who tells of links.
    pub(crate) links: LinkLog,
    /// When sessions are looked at next, and until when.
    pub(crate) sweep_until: Option<(Instant, Instant)>,
    pub(crate) started: Instant,
    /// Its file goes when the daemon ends.
    _admin: Option<AdminSocket>,
}

/// A volume, as far as the management thread needs it.
pub(crate) struct Managed {
    pub(crate) record: VolumeRecord,
    pub(crate) row: usize,
    /// Another descriptor of the same open file, to grow it.
    pub(crate) file: Option<File>,
    /// What the device's sizes are multiples of.
    pub(crate) align: u32,
}

impl Managed {
    pub(crate) fn of(volume: &BoundVolume) -> Self {
        let device = volume.device.as_ref();
        Self {
            record: volume.record.clone(),
            row: volume.plan.row as usize,
            file: device.and_then(|device| device.file.try_clone().ok()),
            align: device.map_or(1, |device| device.facts.align),
        }
    }

    /// How large its device is now; zero where it has none.
    pub(crate) fn measure(&self) -> io::Result<ByteLen> {
        let Some(file) = &self.file else { return Ok(ByteLen(0)) };
        Ok(ByteLen(rustix::fs::seek(file, rustix::fs::SeekFrom::End(0))?))
    }
}

/// A configuration with what was made at run time, and what follows from it.
struct Joined {
    config: Config,
    plan: Plan,
    rules: Rules,
    operators: Operators,
}

fn join(source: &Source, objects: &[Object], machine: &Machine) -> Result<Joined, RunError> {
    let config = source.with(objects)?;
    let plan = Plan::compute(&config, machine)?;
    let access = Access::load(&config)?;
    let rules = Rules::new(&plan, access).map_err(|error| RunError::Rules(error.to_string()))?;
    let operators = Operators::load(&config)?;
    Ok(Joined { config, plan, rules, operators })
}

fn start(cli: &Cli) -> Result<Daemon, RunError> {
    let begun = Instant::now();
    let source = crate::source(cli.config.as_deref())?;
    let alone = source.config()?;
    let machine = Machine::detect().map_err(RunError::Machine)?;
    if let Some(obstacle) = uring::obstacle(&machine.kernel) {
        return Err(RunError::Uring(obstacle));
    }
    raise_open_files();
    // Looked at before the tables are opened, so that what cannot be served changes nothing.
    let mut objects: Vec<Object> =
        Tables::peek(&alone.array.data)?.map(|state| state.objects().collect()).unwrap_or_default();
    let mut joined = join(&source, &objects, &machine)?;
    // Everything that this thread starts stays off the reactors' CPUs; reactors pin themselves.
    pin(&joined.plan.management_cpus);

    let wait = bind::start_wait(&joined.config);
    let options = OpenOptions { wait, ..OpenOptions::new(joined.plan.name.clone()) };
    let mut tables = Tables::open(&joined.plan.data, &options)?;
    let found: Vec<Object> = tables.state().objects().collect();
    if found != objects {
        // A predecessor that was waited for has changed them at the last moment.
        objects = found;
        joined = join(&source, &objects, &machine)?;
    }
    let Joined { config, plan, rules, operators } = joined;
    let events = Arc::new(EventLog::of(&plan.data));
    let lines = Arc::clone(&events);
    tables.observe(move |line| lines.line(line));
    settle(&mut tables, &objects, &config)?;
    let (refused, refusals) = sync_channel(logins::WAITING);
    let rules = rules.with_log(refused.clone());
    let options = BindOptions { wait, adopt: cli.adopt.clone() };
    let bound = bind::bind(&plan.volumes, &mut tables, &options)?;

    let metrics =
        Metrics::new(plan.cores.len(), plan.volume_rows as usize + plan.virtuals.len() + SPARE_VIRTUALS + 1);
    for one in &plan.virtuals {
        let name = one.name.clone();
        metrics.label(one.row as usize, Some(VolumeLabel { lun: one.lun.number(), name, bytes: 0 }));
    }
    for volume in &bound {
        label(&metrics, volume.plan.row as usize, &volume.record);
    }
    let mut described = Vec::new();
    let mut volumes = Vec::new();
    let mut served = Vec::new();
    let watch = Watch::start().map_err(RunError::Watch)?;
    for volume in bound {
        if let Some(device) = &volume.device {
            watch.add(&volume.plan, &volume.record, device);
        }
        described.push(describe(&volume));
        volumes.push(Managed::of(&volume));
        let state = tables.state().scsi(volume.record.uuid).map(<[u8]>::to_vec);
        served.push(to_served(volume, state, tables.state().array().uuid));
    }
    // Before the portals, so that who finds those finds this; what is asked waits until all is there.
    let (sender, asks) = sync_channel(admin::WAITING);
    let socket = match &plan.admin {
        Some(path) => {
            let socket = admin::serve(path, sender, Arc::clone(&events));
            Some(socket.map_err(|error| RunError::Admin(path.display().to_string(), error))?)
        }
        None => None,
    };
    let mut groups = Vec::new();
    for group in config.groups.iter().filter(|group| group.pairs.is_some()) {
        let own = tables.state().array().uuid;
        let joining = crate::groups::joining(&config, &plan, &volumes, own, group, false);
        groups.push(joining.map_err(|reason| StartError::Group(group.name.clone(), reason))?);
    }
    let (sender, requests) = sync_channel(REQUESTS);
    let array = Array::start(Inputs {
        plan: plan.clone(),
        rules,
        volumes: served,
        metrics: Arc::clone(&metrics),
        keeper: StateKeeper::new(sender, tables.state().array().uuid),
        groups,
    })?;
    let controls = take_signals(cli.config.clone())?;
    let pairing = Pairing::default();
    let endpoint = match plan.metrics {
        Some(address) => {
            let shown = Shown {
                metrics: Arc::clone(&metrics),
                array: plan.name.clone(),
                iqn: plan.iqn.clone(),
                started: Instant::now(),
                groups: Arc::clone(&pairing.shown),
            };
            Some(http::serve(address, shown).map_err(|error| RunError::Metrics(address, error))?)
        }
        None => None,
    };
    let daemon = Daemon {
        source,
        config,
        machine,
        plan,
        tables,
        array,
        metrics,
        rows_used: volumes.iter().map(|managed| managed.row).max().unwrap_or(0),
        volumes,
        requests,
        desk: Desk::default(),
        pairing,
        operators,
        controls,
        watch,
        asks,
        events,
        refused,
        logins: LoginLog::new(refusals),
        links: LinkLog::default(),
        sweep_until: None,
        started: begun,
        _admin: socket,
    };
    daemon.announce(&described, endpoint, begun);
    Ok(daemon)
}

impl Daemon {
    /// Says what is served and where, then `ready`.
    fn announce(&self, volumes: &[String], endpoint: Option<SocketAddr>, begun: Instant) {
        let plan = &self.plan;
        say!(
            "kagamid {}: array {} ({})",
            env!("CARGO_PKG_VERSION"),
            plan.name,
            self.tables.state().array().uuid
        );
        say!("kernel {}, {}", self.machine.kernel, self.array.features());
        let cpus: Vec<_> = plan.cores.iter().map(|core| core.cpu).collect();
        say!(
            "reactors on CPUs {cpus:?}, {} of memory {}",
            format_size(ByteLen(plan.memory.arena_bytes)),
            self.array.backing()
        );
        for note in &self.config.notes {
            say!("note: {note}");
        }
        if !plan.memory.register {
            say!("note: {UNREGISTERED}");
        }
        for volume in volumes {
            say!("{volume}");
        }
        for portal in self.array.portals() {
            say!("portal {portal}");
        }
        if let Some(portal) = self.array.portals().first() {
            let reachable = if portal.ip().is_unspecified() {
                SocketAddr::from(([127, 0, 0, 1], portal.port()))
            } else {
                *portal
            };
            say!("attach a Linux host:");
            say!("  iscsiadm -m discovery -t sendtargets -p {reachable}");
            say!("  iscsiadm -m node -T {} -p {reachable} --login", plan.iqn);
        }
        if let Some(address) = endpoint {
            say!("metrics http://{address}/metrics, status http://{address}/");
        }
        if let Some(path) = &plan.admin {
            say!("admin socket {}", path.display());
        }
        say!("started in {} ms", begun.elapsed().as_millis());
        say!("ready");
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    /// The management loop.
    fn manage(mut self) -> Result<(), RunError> {
        loop {
            let patience = if self.desk.is_busy() { Duration::ZERO } else { TICK };
            match self.requests.recv_timeout(patience) {
                Ok(request) => self.serve(request),
                // Without reactors there are no senders; the check below says so.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.array.has_failed() {
                return Err(RunError::Reactor);
            }
            while let Some(event) = self.watch.next() {
                self.device(event);
            }
            self.attend();
            match self.controls.try_recv() {
                Ok(Control::Stop) => return self.stop(),
                Ok(Control::StopNow) => return Err(RunError::Undrained),
                Ok(Control::Reload { source, answer }) => {
                    // The signals' thread waits for it, or is gone with the process.
                    let _ = answer.send(self.reload(*source));
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
        }
    }

    /// What a core asks: state is made durable at once, orders wait for their turn.
    pub(crate) fn serve(&mut self, request: Request) {
        match request {
            Request::State(state) => self.keep(state),
            Request::Order(order) => self.desk.wait(order, self.tables.state().array().uuid),
            Request::Group(event) => self.group_event(&event),
        }
    }

    /// Makes a volume's SCSI state durable, then tells its core.
    fn keep(&mut self, request: StateRequest) {
        let what = format!("state of volume {}", request.volume);
        let change = Change::PutScsi { volume: request.volume, state: request.state.clone() };
        let done = self.tables.commit(&Transaction::new("host", what).with(change));
        if let Err(error) = &done {
            crate::complain(error);
        }
        request.finish(done.is_ok());
    }

    /// Something has become of a volume's device.
    fn device(&mut self, event: DeviceEvent) {
        let (DeviceEvent::Gone { volume: uuid, .. }
        | DeviceEvent::Back { volume: uuid, .. }
        | DeviceEvent::Changed { volume: uuid, .. }
        | DeviceEvent::Trouble { volume: uuid, .. }) = &event;
        let Some(managed) = self.volumes.iter_mut().find(|managed| managed.record.uuid == *uuid) else {
            return;
        };
        let (uuid, name) = (*uuid, managed.record.name.clone());
        match event {
            DeviceEvent::Gone { first, .. } => {
                if first {
                    crate::complain(&format!(
                        "volume {name}: its device is gone; waiting for it to come back"
                    ));
                }
                managed.file = None;
                if self.array.device_gone(&name) {
                    self.watch.closed(uuid);
                }
            }
            DeviceEvent::Back { device, limits, .. } => {
                let file = device.file.try_clone().ok();
                let result = self.array.device_back(&name, *device, limits);
                self.watch.back(uuid, result.is_ok());
                match result {
                    Ok(()) => {
                        managed.file = file;
                        say!("volume {name}: its device is back");
                    }
                    Err(reason) => {
                        crate::complain(&format!("volume {name}: its device is back, but {reason}"))
                    }
                }
            }
            DeviceEvent::Changed { size, limits, .. } => {
                self.array.device_limits(&name, limits);
                let lun = managed.record.lun;
                let in_group = self.config.groups.iter().any(|group| group.luns().any(|known| known == lun));
                if in_group && size.is_some_and(|size| size > managed.record.size) {
                    say!(
                        "volume {name}: its device has grown; with the pair split, `kagami volume grow` uses that"
                    );
                } else if let Some(size) = size.filter(|size| *size > managed.record.size) {
                    match self.grow(lun, size).and_then(|record| self.grown(vec![record], "file")) {
                        Ok(()) => {
                            say!("volume {name}: its device has grown, it has {} now", format_size(size))
                        }
                        Err(reason) => crate::complain(&reason),
                    }
                }
            }
            DeviceEvent::Trouble { what, .. } => {
                crate::complain(&format!("volume {name}: its device {what}"));
            }
        }
    }

    /// Drains and ends. Requests for durable state go on being served meanwhile, as commands
    /// that are drained may wait for them.
    fn stop(self) -> Result<(), RunError> {
        let Self { plan, mut tables, array, requests, controls, _admin: admin, .. } = self;
        // Nobody is to ask any more.
        drop(admin);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        say!("stopping: {} sessions", array.sessions());
        let timeout = plan.stop_timeout;
        let draining = std::thread::Builder::new().name("stop".to_owned()).spawn(move || array.stop(timeout));
        let Ok(draining) = draining else { return Err(RunError::Undrained) };
        while !draining.is_finished() {
            // Orders are not begun any more; who gave one gives it again.
            if let Ok(Request::State(request)) = requests.recv_timeout(Duration::from_millis(2)) {
                let change = Change::PutScsi { volume: request.volume, state: request.state.clone() };
                let what = format!("state of volume {}", request.volume);
                let done = tables.commit(&Transaction::new("host", what).with(change)).is_ok();
                request.finish(done);
            }
            if let Ok(Control::StopNow) = controls.try_recv() {
                return Err(RunError::Undrained);
            }
        }
        if draining.join().unwrap_or(false) {
            say!("stopped");
            Ok(())
        } else {
            Err(RunError::Undrained)
        }
    }
}

/// Takes what the file has over from the tables, and drops what was made at run time for objects of
/// the file that are no longer there.
fn settle(tables: &mut Tables, objects: &[Object], config: &Config) -> Result<(), RunError> {
    let kept = config::objects(config);
    let mut transaction =
        Transaction::new("file", "objects made at run time that the file has, or has no place for");
    for old in objects {
        if kept.iter().all(|new| (new.kind, &new.name) != (old.kind, &old.name)) {
            transaction.push(Change::DeleteObject(old.kind, old.name.clone()));
        }
    }
    for new in kept.into_iter().filter(|new| !objects.contains(new)) {
        transaction.push(Change::PutObject(new));
    }
    if !transaction.is_empty() {
        tables.commit(&transaction)?;
    }
    Ok(())
}

fn take_signals(path: Option<PathBuf>) -> Result<Receiver<Control>, RunError> {
    let reload = move || {
        let path = path.as_deref().ok_or("there is no configuration file to reload")?;
        if let Ok(now) = sd_notify::NotifyState::monotonic_usec_now() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading, now]);
        }
        Source::read(path).map_err(|errors| errors.to_string())
    };
    let reloaded = |result: &Result<(), String>| {
        match result {
            Ok(()) => say!("reloaded"),
            Err(reason) => {
                for line in reason.lines() {
                    crate::complain(&format!("nothing was reloaded: {line}"));
                }
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    };
    control::signals(reload, reloaded).map_err(RunError::Signals)
}

/// Raises the limit on descriptors to what is allowed; the plan has checked that it suffices.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it fails, opening says so soon enough.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Keeps this thread, and those that it starts, on some CPUs.
fn pin(cpus: &[u32]) {
    let mut set = rustix::thread::CpuSet::new();
    for cpu in cpus.iter().filter_map(|cpu| usize::try_from(*cpu).ok()) {
        if cpu < rustix::thread::CpuSet::MAX_CPU {
            set.set(cpu);
        }
    }
    // Elsewhere it works as well, only less quietly.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

pub(crate) fn label(metrics: &Metrics, row: usize, record: &VolumeRecord) {
    let label = VolumeLabel { lun: record.lun.number(), name: record.name.clone(), bytes: record.size.0 };
    metrics.label(row, Some(label));
}

fn describe(volume: &BoundVolume) -> String {
    let BoundVolume { plan, record, device, size, .. } = volume;
    let mut line = format!(
        "{} {}: {}, {}, blocks of {} bytes, {}, {}",
        plan.lun,
        plan.name,
        plan.backend,
        format_size(*size),
        plan.block_size.bytes(),
        plan.cache.as_str(),
        record.naa
    );
    for (there, word) in [
        (plan.read_only, "write-protected"),
        (device.as_ref().is_some_and(|device| device.facts.poll), "poll queues"),
        (device.as_ref().is_some_and(|device| !device.facts.direct), "through the page cache"),
        (device.as_ref().is_some_and(|device| device.created), "new"),
    ] {
        if there {
            line += ", ";
            line += word;
        }
    }
    line
}

pub(crate) fn to_served(volume: BoundVolume, state: Option<Vec<u8>>, array: Uuid) -> Served {
    let BoundVolume { plan, record, device, size, thin } = volume;
    let block = plan.block_size.bytes();
    let (physical, rotation) = match &device {
        Some(device) if device.facts.rotational => (device.facts.physical_block, Rotation::Unknown),
        Some(device) => (device.facts.physical_block, Rotation::SolidState),
        // Memory has no unit of its own that a host should align to.
        None => (block, Rotation::SolidState),
    };
    let physical_exponent = u8::try_from((physical.max(block) / block).ilog2()).unwrap_or(0).min(15);
    let blocks = plan.block_size.blocks_in(size);
    let (optimal_transfer, unmap_granularity) = device.as_ref().map_or((0, 0), |device| {
        let facts = &device.facts;
        (facts.optimal_transfer, if facts.discard { facts.discard_granularity } else { 0 })
    });
    let storage = match (device, &plan.backend) {
        (Some(device), _) => {
            let facts = device.facts;
            let holes = crate::device::holes(&device.file, size.0);
            Storage::Disk {
                holes,
                fd: device.file.into(),
                limits: facts.limits(plan.device_depth),
                polled: facts.is_polled(),
            }
        }
        (None, Backend::Null) => Storage::Null,
        #[cfg(feature = "faulty")]
        (None, Backend::Faulty(spec)) => Storage::Faulty(spec.clone()),
        (None, _) => Storage::Ram,
    };
    Served {
        plan,
        array,
        uuid: record.uuid,
        naa: record.naa,
        blocks,
        storage,
        physical_exponent,
        thin,
        rotation,
        optimal_transfer,
        unmap_granularity,
        shards: Vec::new(),
        state,
    }
}
