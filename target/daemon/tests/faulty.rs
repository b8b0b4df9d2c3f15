//! A device that fails and hangs, through the whole daemon.
#![cfg(feature = "faulty")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{CHECK_CONDITION, GOOD, Host, read16, write16};

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const CONFIG: &str = r#"
[array]
name = "t"
data = "data"
listen = ["127.0.0.1:0"]
cache = "16MiB"
max_sessions = 8
tasks = 256
max_volumes = 16
io_timeout = "1s"

[[volume]]
lun = 0
name = "bad"
backend = "faulty:size=1MiB,align=512,read_error=100-101,write_error=200,hang_read=300,flush_error"
cache = "none"

[[volume]]
lun = 2
name = "cached"
backend = "faulty:size=1MiB,align=512,write_error=200"

[[volume]]
lun = 1
name = "good"
backend = "ram"
size = "1MiB"
"#;

/// The daemon in that folder, and a host that has logged in.
fn start(folder: &std::path::Path) -> (Daemon, Host) {
    std::fs::write(folder.join("k.toml"), CONFIG).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kagamid"));
    let command = command.current_dir(folder).args(["--config", "k.toml"]).stdout(Stdio::piped());
    let mut daemon = Daemon(command.spawn().unwrap());
    let mut portal = None;
    let mut lines = BufReader::new(daemon.0.stdout.take().unwrap()).lines();
    for line in lines.by_ref().map(Result::unwrap).take_while(|line| !line.starts_with("ready")) {
        portal = portal.or_else(|| line.strip_prefix("portal ")?.parse().ok());
    }
    let host = Host::login(portal.expect("a portal"), "iqn.2026-11.io.kagami:t");
    (daemon, host)
}

#[test]
fn a_write_that_fails_behind_the_cache_is_told_and_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (_daemon, mut host) = start(folder.path());
    host.ready(2);
    let block = [9; 512];
    assert_eq!(host.command(2, &write16(200, 1), &block, 0).status, GOOD, "it is in the cache");
    let failed = host.command(2, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0);
    assert_eq!((failed.status, failed.sense_code()), (CHECK_CONDITION, Some((3, 0x0c, 0))), "{failed:?}");
    // One command is answered with the deferred error in its place; then the data is still there.
    let told =
        (0..3).map(|_| host.command(2, &read16(200, 1), &[], 512)).find(|answer| answer.status == GOOD);
    assert_eq!(told.expect("a read that is answered").data, block);
    // What the device takes can be made stable, beside what it does not take.
    assert_eq!(host.command(2, &write16(50, 1), &block, 0).status, GOOD);
    let other = [0x35, 0, 0, 0, 0, 48, 0, 0, 8, 0];
    let flushed = (0..3).map(|_| host.command(2, &other, &[], 0)).find(|answer| answer.status == GOOD);
    assert!(flushed.is_some(), "a flush of blocks that are all right");
}

#[test]
fn a_device_that_fails_or_hangs_costs_only_its_own_commands() {
    let folder = tempfile::tempdir().unwrap();
    let (_daemon, mut host) = start(folder.path());
    host.ready(0);
    host.ready(1);

    // What is not on the script's list works.
    let block = [7; 512];
    assert_eq!(host.command(0, &write16(50, 1), &block, 0).status, GOOD);
    assert_eq!(host.command(0, &read16(50, 1), &[], 512).data, block);

    let failed = host.command(0, &read16(96, 8), &[], 4096);
    assert_eq!((failed.status, failed.sense_code()), (CHECK_CONDITION, Some((3, 0x11, 0))), "{failed:?}");
    let failed = host.command(0, &write16(200, 1), &block, 0);
    assert_eq!((failed.status, failed.sense_code()), (CHECK_CONDITION, Some((3, 0x0c, 0))), "{failed:?}");
    let failed = host.command(0, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0);
    assert_eq!(failed.status, CHECK_CONDITION, "a flush that failed is not answered with GOOD");

    // The hung command waits for its time-out; the others of both devices do not wait for it.
    let began = Instant::now();
    let hung = host.send(0, &read16(300, 1), &[], 512);
    let beside = [host.send(0, &read16(50, 1), &[], 512), host.send(1, &read16(0, 1), &[], 512)];
    host.flush();
    for _ in beside {
        let answer = host.receive();
        assert!(beside.contains(&answer.tag) && answer.status == GOOD, "{answer:?}");
    }
    assert!(began.elapsed() < Duration::from_millis(900), "they waited {:?}", began.elapsed());
    let answer = host.receive();
    assert_eq!((answer.tag, answer.status), (hung, CHECK_CONDITION), "{answer:?}");
    assert!(began.elapsed() > Duration::from_millis(900));
    assert_eq!(host.command(0, &read16(50, 1), &[], 512).data, block, "the volume goes on");
}
