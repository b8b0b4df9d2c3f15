//! Run-time management through the whole daemon: the admin socket, a host that is logged in
//! meanwhile, SIGKILL and a restart.

mod support;

use kagami_admin::report::{Initiators, Sessions, Volumes};
use kagami_admin::request::{
    Call, EventsAfter, InitiatorAdd, InitiatorRemove, PeerAdd, Place, VolumeCreate, VolumeGrow, VolumeMask,
    VolumeRemove, VolumeRename, VolumeUnmask,
};
use kagami_admin::{Outcome, Refusal, Reply, Request};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use support::{CHECK_CONDITION, GOOD, Host, read16, write16};

const CONFIG: &str = r#"
[array]
name = "t"
data = "data"
listen = ["127.0.0.1:0"]
admin = "a.sock"
cache = "16MiB"
ram = "4MiB"
max_sessions = 8
tasks = 256
max_volumes = 16
io_timeout = "1s"

[[volume]]
lun = 0
name = "db"
path = "db.img"
size = "1MiB"
"#;

const TARGET: &str = "iqn.2026-11.io.kagami:t";
/// The name under which the test's host logs in.
const HOST: &str = "iqn.2026-11.io.kagami:test";
const NO_SUCH_LUN: Option<(u8, u8, u8)> = Some((5, 0x25, 0));
const LUNS_CHANGED: Option<(u8, u8, u8)> = Some((6, 0x3f, 0x0e));

struct Daemon {
    child: Child,
    out: BufReader<ChildStdout>,
    portal: SocketAddr,
    admin: UnixStream,
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        Self::try_start(folder).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn try_start(folder: &Path) -> Result<Self, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kagamid"));
        command.current_dir(folder).args(["--config", "k.toml"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut portal = None;
        loop {
            let mut line = String::new();
            if out.read_line(&mut line).unwrap() == 0 {
                let mut errors = String::new();
                let _ = child.stderr.take().unwrap().read_to_string(&mut errors);
                let _ = child.wait();
                return Err(errors);
            }
            portal = portal.or_else(|| line.trim_end().strip_prefix("portal ")?.parse().ok());
            if line.starts_with("ready") {
                break;
            }
        }
        let admin = UnixStream::connect(folder.join("a.sock")).unwrap();
        Ok(Self { child, out, portal: portal.unwrap(), admin })
    }

    fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        let body = serde_json::to_vec(&Call::new(request)).unwrap();
        kagami_admin::write_frame(&mut self.admin, &body).unwrap();
        let answer = kagami_admin::read_frame(&mut self.admin, kagami_admin::MAX_ANSWER).unwrap();
        match kagami_admin::parse_answer(&answer).unwrap() {
            Outcome::Done(reply) => Ok(reply),
            Outcome::Refused(refusal) => Err(refusal),
        }
    }

    fn done(&mut self, request: Request) {
        let asked = format!("{request:?}");
        match self.ask(request) {
            Ok(Reply::Changed(_)) => {}
            other => panic!("{asked}: {other:?}"),
        }
    }

    fn refused(&mut self, request: Request, code: u8, words: &str) {
        let refusal = self.ask(request).unwrap_err();
        assert!(refusal.code == code && refusal.reason.contains(words), "{refusal:?}");
    }

    fn volumes(&mut self) -> Volumes {
        let Ok(Reply::Volumes(volumes)) = self.ask(Request::Volumes) else { panic!("no volumes") };
        volumes
    }

    fn names(&mut self) -> Vec<(u16, String, u64)> {
        self.volumes().volumes.into_iter().map(|v| (v.lun, v.name, v.size_bytes)).collect()
    }

    fn sessions(&mut self) -> Sessions {
        let Ok(Reply::Sessions(sessions)) = self.ask(Request::Sessions) else { panic!("no sessions") };
        sessions
    }

    fn initiators(&mut self) -> Initiators {
        let Ok(Reply::Initiators(initiators)) = self.ask(Request::InitiatorList) else { panic!("no list") };
        initiators
    }

    fn export(&mut self) -> String {
        let Ok(Reply::Config(config)) = self.ask(Request::ConfigExport) else { panic!("no export") };
        config.toml
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait_for(&mut self, wanted: &str) {
        let mut line = String::new();
        while !line.starts_with(wanted) {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "no line {wanted}");
        }
    }

    fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn create(name: &str, place: Place, size: u64) -> Request {
    Request::VolumeCreate(VolumeCreate {
        name: name.into(),
        lun: None,
        place,
        size_bytes: Some(size),
        block_bytes: None,
        cache: None,
        read_only: false,
        thin: None,
        spread: None,
        initiators: vec![],
        adopt: false,
    })
}

fn remove(volume: &str, force: bool) -> Request {
    Request::VolumeRemove(VolumeRemove { volume: volume.into(), force })
}

/// READ CAPACITY (16): the last block.
fn last_block(host: &mut Host, lun: u8) -> u64 {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
    let answer = host.command(lun, &cdb, &[], 32);
    assert_eq!(answer.status, GOOD, "{answer:?}");
    u64::from_be_bytes(answer.data[..8].try_into().unwrap())
}

/// TEST UNIT READY.
fn test(host: &mut Host, lun: u8) -> Option<(u8, u8, u8)> {
    host.command(lun, &[0; 6], &[], 0).sense_code()
}

/// The first two processors that this process may use, where there are two.
fn two_processors() -> Option<[usize; 2]> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let runs = list.trim().split(',').filter_map(|run| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    });
    let mut all = runs.flatten();
    Some([all.next()?, all.next()?])
}

#[test]
fn a_volume_is_spread_when_it_is_made_and_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let spread = |name: &str, cores| {
        let Request::VolumeCreate(order) = create(name, Place::DataFolder, 16 << 20) else { unreachable!() };
        Request::VolumeCreate(VolumeCreate { spread: Some(cores), ..order })
    };
    let cores = two_processors().unwrap_or([0, 0]);
    let several = cores[0] != cores[1];
    let list = if several { format!("cores = {cores:?}") } else { "cores = [0]".to_owned() };
    fs::write(folder.path().join("k.toml"), CONFIG.replace("[array]", &format!("[array]\n{list}"))).unwrap();
    let mut daemon = Daemon::start(folder.path());
    daemon.refused(spread("wide", 0), 2, "1 to 64");
    daemon.refused(spread("wide", 64), 3, "spread");
    if !several {
        return;
    }
    daemon.done(spread("wide", 2));
    // Over the boundary between two extents, where the two cores meet.
    let data: Vec<u8> = (0..8192u32).map(|n| (n * 11 % 249) as u8).collect();
    let boundary = (4 << 20) / 512 - 8;
    let mut host = Host::login(daemon.portal, TARGET);
    host.ready(1);
    assert_eq!(host.command(1, &write16(boundary, 16), &data, 8192).status, GOOD);
    // SYNCHRONIZE CACHE (10).
    let flush = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(host.command(1, &flush, &[], 0).status, GOOD);
    assert!(daemon.export().contains("spread = 2"), "{}", daemon.export());
    daemon.signal(Signal::KILL);
    drop(daemon);
    let daemon = Daemon::start(folder.path());
    let mut host = Host::login(daemon.portal, TARGET);
    host.ready(1);
    assert!(host.command(1, &read16(boundary, 16), &[], 8192).data == data, "other data");
}

#[test]
fn volumes_come_grow_and_go_under_a_host_and_outlive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.toml");
    fs::write(&file, CONFIG).unwrap();
    let mut daemon = Daemon::start(folder.path());
    let mut host = Host::login(daemon.portal, TARGET);
    host.ready(0);
    assert_eq!(test(&mut host, 1), NO_SUCH_LUN);

    // A file and a RAM volume come while the host is there: it is told, and uses them.
    daemon.done(create("file", Place::DataFolder, 1 << 20));
    assert_eq!(test(&mut host, 0), LUNS_CHANGED);
    daemon.done(create("ram", Place::Ram, 1 << 20));
    daemon.done(create("null", Place::Null, 1 << 20));
    assert_eq!(test(&mut host, 0), LUNS_CHANGED);
    for lun in 1..=3 {
        host.ready(lun);
    }
    let data: Vec<u8> = (0..8192u32).map(|n| (n * 7 % 251) as u8).collect();
    for lun in 0..=2 {
        assert_eq!(host.command(lun, &write16(4, 16), &data, 8192).status, GOOD);
        assert!(host.command(lun, &read16(4, 16), &[], 8192).data == data, "other data");
    }
    daemon.refused(create("file", Place::Null, 512), 3, "already");
    daemon.refused(create("x", Place::Ram, 8 << 20), 3, "array.ram");
    daemon.refused(create("x", Place::Path("/nonexistent/y".into()), 512), 3, "/nonexistent/y");
    daemon.refused(create("a/b", Place::Null, 512), 2, "name");
    daemon.refused(create("x", Place::Null, 100), 2, "whole number of blocks");

    // Growing, of what was made and of what stands in the file; never to a ragged size.
    let grow = |volume: &str, size| {
        Request::VolumeGrow(VolumeGrow { volume: volume.into(), size_bytes: Some(size) })
    };
    daemon.done(grow("file", 2 << 20));
    daemon.done(grow("t:0", 3 << 20));
    daemon.done(grow("2", 2 << 20));
    assert_eq!(test(&mut host, 0), Some((6, 0x2a, 9)), "CAPACITY DATA HAS CHANGED");
    host.ready(1);
    host.ready(2);
    assert_eq!([0, 1, 2].map(|lun| last_block(&mut host, lun)), [6143, 4095, 4095]);
    assert_eq!(host.command(2, &write16(4080, 16), &data, 8192).status, GOOD);
    daemon.refused(grow("file", 1 << 20), 3, "only grow");
    daemon.refused(grow("file", (3 << 20) + 1), 2, "whole number");
    daemon.refused(grow("nobody", 1), 2, "no volume");

    // Another name; hosts are told, and nothing else changes for them.
    let rename = |volume: &str, name: &str| {
        Request::VolumeRename(VolumeRename { volume: volume.into(), name: name.into() })
    };
    daemon.done(rename("file", "logs"));
    assert_eq!(test(&mut host, 1), Some((6, 0x3f, 3)), "INQUIRY DATA HAS CHANGED");
    daemon.refused(rename("db", "other"), 3, "belongs to k.toml");
    assert!(host.command(1, &read16(4, 16), &[], 8192).data == data, "other data");

    // In use: refused, and by whom; by force it is gone, and the others hear of it.
    daemon.refused(remove("ram", false), 3, HOST);
    daemon.refused(remove("db", true), 3, "belongs to k.toml");
    daemon.done(remove("ram", true));
    assert_eq!(test(&mut host, 2), NO_SUCH_LUN);
    assert_eq!(test(&mut host, 0), LUNS_CHANGED);
    host.ready(1);
    // The place is free again, for another volume.
    daemon.done(create("ram2", Place::Ram, 3 << 20));
    host.ready(2);
    assert_eq!(last_block(&mut host, 2), 6143);
    assert!(host.command(2, &read16(4, 16), &[], 8192).data == vec![0; 8192], "other data");

    let uuids = |daemon: &mut Daemon| {
        daemon.volumes().volumes.into_iter().map(|v| (v.lun, v.uuid, v.naa)).collect::<Vec<_>>()
    };
    host.ready(1);
    // SYNCHRONIZE CACHE (10): what was acknowledged and flushed is there after a kill.
    assert_eq!(host.command(1, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0).status, GOOD);
    let (before, identities) = (daemon.names(), uuids(&mut daemon));
    assert_eq!(before.len(), 4);
    let Ok(Reply::Events(events)) = daemon.ask(Request::Events(EventsAfter::default())) else { panic!() };
    for words in [
        "create volume file",
        "grow volume db",
        "rename volume file to logs",
        "refused: volume ram is in use",
    ] {
        assert!(events.events.iter().any(|event| event.what.contains(words)), "{words}: {events:?}");
    }
    daemon.kill();

    let mut daemon = Daemon::start(folder.path());
    assert_eq!(daemon.names(), before);
    assert_eq!(uuids(&mut daemon), identities);
    let mut host = Host::login(daemon.portal, TARGET);
    host.ready(1);
    assert!(host.command(1, &read16(4, 16), &[], 8192).data == data, "flushed, and lost");
    drop(host);

    // What is in both the file and the tables refuses the start.
    let audit = fs::read_to_string(folder.path().join("data/audit.log")).unwrap();
    assert!(audit.contains("who=socket:uid=") && audit.contains("remove volume ram (LUN 2), forced"));
    let export = daemon.export();
    daemon.kill();
    let both =
        format!("{CONFIG}\n[[volume]]\nlun = 9\nname = \"logs\"\nbackend = \"null\"\nsize = \"1MiB\"\n");
    fs::write(&file, &both).unwrap();
    let errors = Daemon::try_start(folder.path()).err().unwrap();
    assert!(errors.contains("made at run time") && errors.contains("already used"), "{errors}");
    fs::write(&file, both.replace("lun = 9", "lun = 1").replace("\"logs\"", "\"z\"")).unwrap();
    assert!(Daemon::try_start(folder.path()).is_err());

    // The export is a file that is taken, and takes everything over.
    fs::write(&file, &export).unwrap();
    // The kernel may hold what the killed one had for a moment, and a check does not wait.
    let begun = std::time::Instant::now();
    loop {
        let mut check = Command::new(env!("CARGO_BIN_EXE_kagamid"));
        let check =
            check.current_dir(folder.path()).args(["--config", "k.toml", "--check"]).output().unwrap();
        if check.status.success() {
            break;
        }
        let errors = String::from_utf8_lossy(&check.stderr);
        assert!(errors.contains("in use") && begun.elapsed().as_secs() < 10, "{errors}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let mut daemon = Daemon::start(folder.path());
    assert_eq!(daemon.names(), before);
    assert_eq!(uuids(&mut daemon), identities);
    assert!(daemon.volumes().volumes.iter().all(|volume| volume.owner == "file"));
    daemon.refused(remove("logs", true), 3, "belongs to k.toml");
}

#[test]
fn who_sees_what_changes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.toml");
    fs::write(&file, CONFIG).unwrap();
    let mut daemon = Daemon::start(folder.path());
    let mut host = Host::login(daemon.portal, TARGET);
    host.ready(0);
    daemon.done(create("made", Place::DataFolder, 1 << 20));
    host.ready(0);
    host.ready(1);

    let add = |iqn: &str, luns: Vec<u16>, force| {
        Request::InitiatorAdd(InitiatorAdd { iqn: iqn.into(), luns, rights: None, chap: None, force })
    };
    // The first that is listed shuts others out: not by mistake.
    daemon.refused(add("iqn.2026-11.io.kagami:other", vec![0], false), 3, HOST);
    daemon.refused(add(HOST, vec![5], true), 2, "LUN 5");
    daemon.done(add(HOST, vec![0, 1], false));
    assert_eq!(test(&mut host, 0), None, "nothing has changed for it");
    let mask = |volume: &str, force| {
        Request::VolumeMask(VolumeMask { volume: volume.into(), initiator: HOST.into(), force })
    };
    daemon.refused(mask("made", false), 3, "would lose LUN 1");
    daemon.done(mask("made", true));
    assert_eq!(test(&mut host, 1), NO_SUCH_LUN);
    assert_eq!(test(&mut host, 0), LUNS_CHANGED);
    assert_eq!(daemon.sessions().sessions[0].luns, [0]);
    // Nobody sees it now, so it may go; but first it comes back.
    daemon.done(Request::VolumeUnmask(VolumeUnmask { volume: "made".into(), initiator: HOST.into() }));
    assert_eq!(test(&mut host, 0), LUNS_CHANGED);
    host.ready(1);
    // What was written and only lies in the cache is on the device when a volume is removed: it can
    // be made again from its file.
    let data = vec![0x77; 4096];
    assert_eq!(host.command(1, &write16(0, 8), &data, 4096).status, GOOD);
    let path = daemon.volumes().volumes[1].backend.clone();
    daemon.refused(create("again", Place::Path(path.clone()), 1 << 20), 3, "in use");
    daemon.done(remove("made", true));
    assert!(fs::read(&path).unwrap()[..4096] == data, "lost with the volume");
    daemon.done(create("made", Place::Path(path), 1 << 20));
    daemon.done(Request::VolumeUnmask(VolumeUnmask { volume: "made".into(), initiator: HOST.into() }));
    host.ready(1);
    assert!(host.command(1, &read16(0, 8), &[], 4096).data == data, "other data");
    daemon.done(Request::PeerAdd(PeerAdd {
        name: "osaka".into(),
        iqn: "iqn.2026-11.io.kagami:osaka".into(),
        portals: vec!["127.0.0.1:9".into()],
        io_timeout_ms: Some(10_000),
        connections: Some(2),
        orders: None,
        luns: vec![0],
        chap: None,
    }));
    daemon.kill();

    let mut daemon = Daemon::start(folder.path());
    assert_eq!(daemon.initiators().initiators[0].luns, [0, 1]);
    let Ok(Reply::Peers(peers)) = daemon.ask(Request::PeerList) else { panic!("no peers") };
    assert_eq!((peers.peers.len(), peers.peers[0].io_timeout_ms), (1, Some(10_000)));
    daemon.refused(
        Request::InitiatorRemove(InitiatorRemove { iqn: HOST.into(), force: false }),
        3,
        "last that is listed",
    );

    // Refused logins are told.
    let other = Host::login_as(daemon.portal, TARGET, "iqn.2026-11.io.kagami:stranger");
    assert!(other.is_none(), "a stranger got in");
    let wait = EventsAfter { after: None, wait_ms: 0 };
    let told = |daemon: &mut Daemon| {
        let Ok(Reply::Events(events)) = daemon.ask(Request::Events(wait.clone())) else { panic!() };
        events
            .events
            .iter()
            .any(|event| event.what.contains("refused the login of iqn.2026-11.io.kagami:stranger"))
    };
    let begun = std::time::Instant::now();
    while !told(&mut daemon) {
        assert!(begun.elapsed().as_secs() < 10, "the refused login was not told");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_reload_brings_volumes_and_takes_them_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.toml");
    let more = "\n[[volume]]\nlun = 4\nname = \"more\"\npath = \"more.img\"\nsize = \"1MiB\"\n";
    let host_of = |luns: &str| format!("\n[[initiator]]\niqn = \"{HOST}\"\nluns = [{luns}]\n");
    fs::write(&file, format!("{CONFIG}{}", host_of("0"))).unwrap();
    let mut daemon = Daemon::start(folder.path());
    let mut host = Host::login(daemon.portal, TARGET);
    host.ready(0);
    fs::write(&file, format!("{CONFIG}{more}{}", host_of("0, 4"))).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("reloaded");
    assert_eq!(test(&mut host, 0), LUNS_CHANGED);
    host.ready(4);
    let data = vec![0x5a; 4096];
    assert_eq!(host.command(4, &write16(0, 8), &data, 4096).status, GOOD);

    // A key that its host cannot give back once it does not see the volume.
    let mut key = [0; 24];
    key[15] = 7;
    assert_eq!(host.command(4, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &key, 24).status, GOOD);

    // Seen by a host it is not taken away in one step: all or nothing.
    fs::write(&file, format!("{CONFIG}{}", host_of("0"))).unwrap();
    daemon.signal(Signal::HUP);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(host.command(4, &read16(0, 8), &[], 4096).data == data, "other data");
    // First the list, whoever is logged in; then the volume.
    fs::write(&file, format!("{CONFIG}{more}{}", host_of("0"))).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("reloaded");
    assert_eq!(test(&mut host, 4), NO_SUCH_LUN);
    assert_eq!(test(&mut host, 0), LUNS_CHANGED);
    fs::write(&file, format!("{CONFIG}{}", host_of("0"))).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("reloaded");
    assert_eq!(daemon.names().len(), 1);
    // Its device is free again, and it comes back as itself.
    fs::write(&file, format!("{CONFIG}{more}{}", host_of("0, 4"))).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("reloaded");
    host.ready(4);
    assert!(host.command(4, &read16(0, 8), &[], 4096).data == data, "other data");
    // A size that the next start would refuse is refused now.
    fs::write(&file, format!("{CONFIG}{}{}", more.replace("1MiB", "1049088B"), host_of("0, 4"))).unwrap();
    daemon.signal(Signal::HUP);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let align = fs::metadata(folder.path().join("more.img")).unwrap().len();
    let answer = host.command(4, &read16(2048, 1), &[], 512);
    assert!(align == 1 << 20 && answer.status == CHECK_CONDITION || align == 1_049_088, "{align} {answer:?}");
}
