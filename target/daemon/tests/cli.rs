//! The program from outside: exit codes, messages, signals.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn kagamid() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kagamid"))
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    kagamid().current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const CONFIG: &str = "[array]\nname = \"t\"\ndata = \"data\"\nlisten = [\"127.0.0.1:0\"]\nmetrics = \"127.0.0.1:0\"\n\
                      cache = \"16MiB\"\nmax_sessions = 8\ntasks = 256\nmax_volumes = 16\nio_timeout = \"1s\"\n\
                      [[volume]]\nlun = 0\nname = \"db\"\npath = \"db.img\"\nsize = \"1MiB\"\n\
                      [[volume]]\nlun = 3\nname = \"r\"\nbackend = \"ram\"\nsize = \"1MiB\"\n";

/// A daemon that is killed when the test ends.
struct Daemon {
    child: Child,
    out: BufReader<ChildStdout>,
    lines: Vec<String>,
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        let mut child = kagamid()
            .current_dir(folder)
            .args(["--config", "k.toml"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut daemon = Self { child, out, lines: Vec::new() };
        daemon.wait_for("ready");
        daemon
    }

    fn wait_for(&mut self, wanted: &str) {
        loop {
            let mut line = String::new();
            if self.out.read_line(&mut line).unwrap() == 0 {
                let mut errors = String::new();
                let _ = self.child.stderr.take().unwrap().read_to_string(&mut errors);
                panic!("no line \"{wanted}\" in {:?}; errors: {errors}", self.lines);
            }
            self.lines.push(line.trim_end().to_owned());
            if line.starts_with(wanted) {
                return;
            }
        }
    }

    fn line(&self, start: &str) -> &str {
        self.lines.iter().find_map(|line| line.strip_prefix(start)).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn code(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_and_usage() {
    let folder = tempfile::tempdir().unwrap();
    let help = output(folder.path(), &["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("Examples:"));
    assert!(text(&output(folder.path(), &["--version"]).stdout).starts_with("kagamid "));
    assert_eq!(output(folder.path(), &["--nonsense"]).status.code(), Some(2));
    assert_eq!(output(folder.path(), &["--offline"]).status.code(), Some(2));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn checks_report_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("k.toml"), CONFIG.replace("lun = 3", "lun = 0")).unwrap();
    let check = output(folder.path(), &["--config", "k.toml", "--check", "--offline"]);
    assert_eq!(check.status.code(), Some(1));
    assert_eq!(text(&check.stderr), "k.toml:17: volume[1].lun: LUN 0 is already used in line 12\n");
    let check = output(folder.path(), &["--config", "k.toml", "--check", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["errors"][0]["line"], 17);
    assert_eq!(report["errors"][0]["key"], "volume[1].lun");

    fs::write(folder.path().join("k.toml"), CONFIG).unwrap();
    let check = output(folder.path(), &["--config", "k.toml", "--check"]);
    assert_eq!((check.status.code(), text(&check.stderr)), (Some(0), String::new()));
    assert!(text(&check.stdout).ends_with("the configuration fits\n"), "{}", text(&check.stdout));
    let missing = output(folder.path(), &["--config", "none.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("kagamid: none.toml: file: cannot be read: "));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn a_life() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("k.toml");
    fs::write(&config, CONFIG).unwrap();
    let mut daemon = Daemon::start(folder.path());
    let portal = daemon.line("portal ").to_owned();
    TcpStream::connect(&portal).unwrap();
    assert!(daemon.lines.iter().any(|line| line.trim_start().starts_with("iscsiadm -m node -T iqn.")));
    let naa = |daemon: &Daemon| daemon.line("LUN 0 ").split("naa.").nth(1).unwrap()[..32].to_owned();
    let first = naa(&daemon);

    // The folder and the devices are held.
    let second = output(folder.path(), &["--config", "k.toml"]);
    assert_eq!(second.status.code(), Some(3));
    assert!(text(&second.stderr).contains(&format!("in use by process {}", daemon.child.id())));
    let check = output(folder.path(), &["--config", "k.toml", "--check"]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));

    // All or nothing: the larger volume is not applied beside a change that cannot be.
    fs::write(&config, CONFIG.replace("1MiB\"\n[[", "2MiB\"\n[[").replace("16MiB", "32MiB")).unwrap();
    daemon.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::metadata(folder.path().join("db.img")).unwrap().len(), 1 << 20);
    let metrics = daemon.line("metrics http://").split('/').next().unwrap().to_owned();
    fs::write(&config, CONFIG.replace("1MiB\"\n[[", "2MiB\"\n[[")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("reloaded");
    assert_eq!(fs::metadata(folder.path().join("db.img")).unwrap().len(), 2 << 20);
    let mut stream = TcpStream::connect(metrics).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("kagami_lun_capacity_bytes{lun=\"0\",volume=\"db\"} 2097152"), "{page}");

    // Killed, it comes back with the same identities; stopped, it says so.
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.code(), None);
    let mut daemon = Daemon::start(folder.path());
    assert_eq!(naa(&daemon), first);
    daemon.signal(Signal::TERM);
    daemon.wait_for("stopped");
    assert_eq!(daemon.code(), Some(0));
    let audit = fs::read_to_string(folder.path().join("data/audit.log")).unwrap();
    assert!(audit.contains("reload of the configuration"), "{audit}");
}
