//! One of the demonstration's arrays.

use super::interrupt::Children;
use kagami_admin::Refusal;
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program's name.
const PROGRAM: &str = "kagamid";
/// How long an array may take to serve, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
const IQN: &str = "iqn.2026-11.io.kagami";

/// A folder that goes with us.
#[derive(Debug)]
pub struct Folder(Option<PathBuf>);

impl Folder {
    pub fn new() -> Result<Self, Refusal> {
        let wrong = |error: std::io::Error| Refusal::failed(format!("no temporary folder: {error}"));
        let base = std::env::temp_dir();
        for number in 0..1000 {
            let path = base.join(format!("kagami-demo-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(Some(path))),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(wrong(error)),
            }
        }
        Err(wrong(std::io::ErrorKind::AlreadyExists.into()))
    }

    pub fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new("."))
    }

    /// It stays.
    pub fn keep(mut self) -> PathBuf {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What stays is in the folder for temporary things.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// The array's program: as named, beside this one, or wherever the PATH has it.
pub fn program(named: Option<&Path>) -> Result<PathBuf, Refusal> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(PROGRAM));
    let all = named.map(Path::to_owned).into_iter();
    let all =
        if named.is_none() { all.chain(beside).chain(in_path).collect() } else { all.collect::<Vec<_>>() };
    all.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Refusal::usage(
            "kagamid is neither beside kagami nor in the PATH; say where with --kagamid".to_owned(),
        )
    })
}

/// A running array.
#[derive(Debug)]
pub struct Array {
    name: &'static str,
    port: u16,
    socket: PathBuf,
    child: Option<Child>,
}

/// Two arrays that know each other, each with a volume, a journal and a command device.
pub fn two(program: &Path, folder: &Path, size: u64, children: &Children) -> Result<(Array, Array), Refusal> {
    let (one, two) = ports()?;
    // Each on a CPU of its own, where there are several.
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let place = Place { program, folder, size, children };
    let tokyo = Array::start(&place, "tokyo", one, ("osaka", two), 0)?;
    let osaka = Array::start(&place, "osaka", two, ("tokyo", one), last)?;
    Ok((tokyo, osaka))
}

/// What both arrays have in common.
struct Place<'a> {
    program: &'a Path,
    folder: &'a Path,
    size: u64,
    children: &'a Children,
}

/// Two ports that nobody uses at the moment.
fn ports() -> Result<(u16, u16), Refusal> {
    let wrong = |error: std::io::Error| Refusal::failed(format!("no free port on 127.0.0.1: {error}"));
    let bind = || TcpListener::bind("127.0.0.1:0").map_err(wrong);
    let (one, two) = (bind()?, bind()?);
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port()).map_err(wrong);
    Ok((port(&one)?, port(&two)?))
}

impl Array {
    fn start(
        place: &Place<'_>,
        name: &'static str,
        port: u16,
        (peer, peer_port): (&str, u16),
        core: usize,
    ) -> Result<Self, Refusal> {
        let Place { program, folder, size, children } = *place;
        let wrong = |what: &str, error: std::io::Error| Refusal::failed(format!("{what}: {error}"));
        let socket = folder.join(format!("{name}.sock"));
        let config = folder.join(format!("{name}.toml"));
        let text = format!(
            "[array]\nname = \"{name}\"\niqn = \"{IQN}:{name}\"\ndata = \"{name}\"\nlisten = [\"127.0.0.1:{port}\"]\n\
             admin = \"{name}.sock\"\ncores = [{core}]\ncache = \"64MiB\"\nmax_volumes = 16\nmax_connections = 64\n\
             [[volume]]\nlun = 0\nname = \"db\"\npath = \"{name}-db.img\"\nsize = \"{size}B\"\n\
             [[volume]]\nlun = 10\nname = \"orders\"\nrole = \"command\"\n\
             [[volume]]\nlun = 20\nname = \"journal\"\nrole = \"journal\"\npath = \"{name}-journal.img\"\nsize = \"{size}B\"\n\
             [[peer]]\nname = \"{peer}\"\niqn = \"{IQN}:{peer}\"\nportal = \"127.0.0.1:{peer_port}\"\norders = \"forward\"\n\
             [[virtual]]\nlun = 30\npeer = \"{peer}\"\nmapped_lun = 10\nrole = \"command\"\n\
             [[group]]\nname = \"demo\"\npeer = \"{peer}\"\nsecondary_access = \"read\"\n"
        );
        std::fs::write(&config, text).map_err(|error| wrong("its configuration cannot be written", error))?;
        let log = std::fs::File::create(folder.join(format!("{name}.log")));
        let log = log.map_err(|error| wrong("its log cannot be written", error))?;
        let err = log.try_clone().map_err(|error| wrong("its log cannot be written", error))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(log).stderr(err);
        let child = children
            .spawn(&mut command)
            .map_err(|error| wrong(&format!("{} cannot be started", program.display()), error))?;
        let mut array = Self { name, port, socket, child: Some(child) };
        array.wait(folder)?;
        Ok(array)
    }

    /// Until it listens to orders and hosts.
    fn wait(&mut self, folder: &Path) -> Result<(), Refusal> {
        let end = Instant::now() + PATIENCE;
        let log = folder.join(format!("{}.log", self.name));
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.lines().any(|line| line == "ready") && UnixStream::connect(&self.socket).is_ok() {
                return Ok(());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() >= end {
                let last = said.lines().last().unwrap_or("it says nothing").to_owned();
                return Err(Refusal::failed(format!("array {} does not start: {last}", self.name)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where a volume of it is.
    pub fn url(&self, lun: u16) -> String {
        format!("iscsi://127.0.0.1:{}/{IQN}:{}/{lun}", self.port, self.name)
    }

    /// It goes on without us; its process.
    pub fn leave(mut self) -> u32 {
        self.child.take().map_or(0, |child| child.id())
    }

    /// Asks it to end, as an operator would.
    pub fn stop(&self) {
        let child = self.child.as_ref().map(Child::id);
        if let Some(pid) = child.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// The same, and waits for it.
    pub fn end(&mut self) {
        self.stop();
        let Some(mut child) = self.child.take() else { return };
        let end = Instant::now() + PATIENCE;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        self.end();
    }
}
