//! A volume over two cores, through the whole daemon: nobody can tell it from one that is on one.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{CHECK_CONDITION, GOOD, Host, read16, write16};

const TARGET: &str = "iqn.2026-11.io.kagami:t";
/// Blocks of an extent of 4 MiB.
const EXTENT: u64 = 8192;
const BLOCKS: u64 = 6 * EXTENT;

struct Daemon {
    child: Child,
    portal: SocketAddr,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two CPUs for two reactors; nothing can be spread where there are fewer.
fn cpus() -> Option<[usize; 2]> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    let mut cpus = (0..1024).filter(|&cpu| set.is_set(cpu));
    Some([cpus.next()?, cpus.next()?])
}

fn config(cpus: [usize; 2], spread: u16, cache: &str, more: &str) -> String {
    format!(
        "[array]\nname = \"t\"\ndata = \"data\"\nlisten = [\"127.0.0.1:0\"]\ncores = {cpus:?}\ncache = \"32MiB\"\n\
         max_sessions = 8\ntasks = 256\nmax_volumes = 16\n\
         [[volume]]\nlun = 0\nname = \"db\"\npath = \"db.img\"\nsize = \"24MiB\"\nspread = {spread}\ncache = \"{cache}\"\n{more}"
    )
}

impl Daemon {
    fn start(folder: &Path, config: &str) -> Self {
        fs::write(folder.join("k.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kagamid"));
        let command = command.current_dir(folder).args(["--config", "k.toml"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut portal = None;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map(Result::unwrap).take_while(|line| !line.starts_with("ready")) {
            portal = portal.or_else(|| line.strip_prefix("portal ")?.parse().ok());
        }
        Self { child, portal: portal.expect("a portal") }
    }

    fn host(&self) -> Host {
        self.host_as("iqn.2026-11.io.kagami:test")
    }

    fn host_as(&self, name: &str) -> Host {
        let mut host = Host::login_as(self.portal, TARGET, name).unwrap();
        host.ready(0);
        host
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// It ends by itself, in good order.
    fn stop(mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }
}

/// What the volume should hold.
struct Model {
    bytes: Vec<u8>,
    word: u64,
}

impl Model {
    fn new() -> Self {
        Self { bytes: vec![0; usize::try_from(BLOCKS).unwrap() * 512], word: 0x9e37_79b9_7f4a_7c15 }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.word ^= self.word << 13;
        self.word ^= self.word >> 7;
        self.word ^= self.word << 17;
        self.word % below
    }

    /// Blocks around an end of an extent, or anywhere.
    fn range(&mut self, most: u64) -> (u64, u32) {
        let len = 1 + self.next(most);
        let start = match self.next(3) {
            0 => self.next(BLOCKS - len),
            _ => (1 + self.next(5)) * EXTENT - self.next(len + 1),
        };
        (start.min(BLOCKS - len), u32::try_from(len).unwrap())
    }

    fn place(&mut self, lba: u64, blocks: u32) -> &mut [u8] {
        let start = usize::try_from(lba).unwrap() * 512;
        &mut self.bytes[start..start + blocks as usize * 512]
    }

    fn write(&mut self, host: &mut Host, fua: bool) {
        let (lba, blocks) = self.range(100);
        let fill = u8::try_from(self.next(255)).unwrap() + 1;
        let data: Vec<u8> =
            (0..blocks as usize * 512).map(|at| fill ^ u8::try_from(at / 512 % 256).unwrap()).collect();
        let mut cdb = write16(lba, blocks);
        cdb[1] |= u8::from(fua) << 3;
        let answer = host.command(0, &cdb, &data, 0);
        assert_eq!(answer.status, GOOD, "{answer:?}");
        self.place(lba, blocks).copy_from_slice(&data);
    }

    fn check(&mut self, host: &mut Host, lba: u64, blocks: u32) {
        let answer = host.command(0, &read16(lba, blocks), &[], blocks * 512);
        assert_eq!(answer.status, GOOD, "{answer:?}");
        assert!(answer.data == self.place(lba, blocks), "blocks {lba} and {blocks} more");
    }

    fn check_all(&mut self, host: &mut Host) {
        for lba in (0..BLOCKS).step_by(300) {
            self.check(host, lba, u32::try_from(300.min(BLOCKS - lba)).unwrap());
        }
    }

    /// What the device does itself, over the end of an extent.
    fn commands(&mut self, host: &mut Host) {
        let lba = 2 * EXTENT - 3;
        // COMPARE AND WRITE: with what is there, and with what is not.
        let there = self.place(lba, 6).to_vec();
        let other = vec![0xc3; 6 * 512];
        let mut cdb = [0; 16];
        (cdb[0], cdb[13]) = (0x89, 6);
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        let mut wrong = there.clone();
        wrong[4 * 512 + 5] ^= 1;
        let answer = host.command(0, &cdb, &[wrong, other.clone()].concat(), 0);
        assert_eq!((answer.status, answer.sense_code()), (CHECK_CONDITION, Some((0xe, 0x1d, 0))));
        self.check(host, lba, 6);
        let answer = host.command(0, &cdb, &[there, other.clone()].concat(), 0);
        assert_eq!(answer.status, GOOD, "{answer:?}");
        self.place(lba, 6).copy_from_slice(&other);
        // VERIFY with BYTCHK.
        let mut cdb = read16(lba, 6);
        (cdb[0], cdb[1]) = (0x8f, 0x02);
        assert_eq!(host.command(0, &cdb, &other, 0).status, GOOD);
        // WRITE SAME, over more than one extent's end.
        let lba = 3 * EXTENT - 100;
        let mut cdb = write16(lba, 256);
        cdb[0] = 0x93;
        let answer = host.command(0, &cdb, &[0x5a; 512], 0);
        assert_eq!(answer.status, GOOD, "{answer:?}");
        self.place(lba, 256).fill(0x5a);
        // UNMAP: all of an extent and some of its neighbours.
        let lba = 4 * EXTENT - 64;
        let blocks = u32::try_from(EXTENT + 128).unwrap();
        let mut list = [0; 24];
        (list[1], list[3]) = (22, 16);
        list[8..16].copy_from_slice(&lba.to_be_bytes());
        list[16..20].copy_from_slice(&blocks.to_be_bytes());
        let answer = host.command(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list, 0);
        assert_eq!(answer.status, GOOD, "{answer:?}");
        self.place(lba, blocks).fill(0);
        // GET LBA STATUS: at least one run, which begins with the block asked about.
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x12, 64);
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        let answer = host.command(0, &cdb, &[], 64);
        assert_eq!(answer.status, GOOD, "{answer:?}");
        assert_eq!(answer.data[8..16], lba.to_be_bytes());
    }
}

fn flush(host: &mut Host) {
    let answer = host.command(0, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0);
    assert_eq!(answer.status, GOOD, "{answer:?}");
}

#[test]
fn what_was_flushed_is_there_after_a_kill_and_on_one_core_as_well() {
    let Some(cpus) = cpus() else { return };
    for cache in ["writeback", "none"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut model = Model::new();
        let daemon = Daemon::start(folder, &config(cpus, 2, cache, ""));
        // Two sessions, which are dealt to both cores.
        let mut hosts = ["a", "b"].map(|name| daemon.host_as(&format!("iqn.2026-11.io.kagami:{name}")));
        for turn in 0..120 {
            let host = &mut hosts[turn % 2];
            model.write(host, turn % 7 == 0);
            let (lba, blocks) = model.range(256);
            model.check(host, lba, blocks);
        }
        model.commands(&mut hosts[0]);
        model.check_all(&mut hosts[1]);
        flush(&mut hosts[1]);
        daemon.kill();
        // The blocks lie on the device as on any other.
        let daemon = Daemon::start(folder, &config(cpus, 1, cache, ""));
        let mut host = daemon.host();
        model.check_all(&mut host);
        model.write(&mut host, false);
        daemon.stop();
        // Nothing was flushed: the orderly stop has done it, on both cores.
        let daemon = Daemon::start(folder, &config(cpus, 2, cache, ""));
        let mut host = daemon.host();
        model.check_all(&mut host);
        (0..20).for_each(|_| model.write(&mut host, false));
        daemon.stop();
        let on_disk = fs::read(folder.join("db.img")).unwrap();
        assert!(on_disk == model.bytes, "cache {cache}");
    }
}

#[test]
fn a_spread_volume_comes_and_goes_and_grows_while_others_are_served() {
    let Some(cpus) = cpus() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let one = config(cpus, 2, "writeback", "");
    let more = "[[volume]]\nlun = 1\nname = \"more\"\npath = \"more.img\"\nsize = \"24MiB\"\nspread = 2\n";
    let two = config(cpus, 2, "writeback", more);
    let daemon = Daemon::start(folder, &one);
    let mut model = Model::new();
    let mut host = daemon.host();
    model.write(&mut host, false);
    let reload = |host: &mut Host, text: &str, done: &dyn Fn(&mut Host) -> bool| {
        fs::write(folder.join("k.toml"), text).unwrap();
        daemon.signal(Signal::HUP);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(host) {
            assert!(Instant::now() < deadline, "the change does not come");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let lba = EXTENT - 8;
    let data: Vec<u8> = (0..16 * 512_u32).map(|at| u8::try_from(at % 241).unwrap()).collect();
    let writes = |host: &mut Host| host.command(1, &write16(lba, 16), &data, 0).status == GOOD;
    reload(&mut host, &two, &writes);
    assert_eq!(host.command(1, &read16(lba, 16), &[], 16 * 512).data, data);
    // Larger: the new blocks are beyond the old end, and over the end of an extent.
    let beyond = 7 * EXTENT - 8;
    let grows = |host: &mut Host| host.command(1, &write16(beyond, 16), &data, 0).status == GOOD;
    assert!(!grows(&mut host));
    let larger = config(cpus, 2, "writeback", &more.replace("24MiB", "32MiB"));
    reload(&mut host, &larger, &grows);
    assert_eq!(host.command(1, &read16(beyond, 16), &[], 16 * 512).data, data);
    // What it had in cache is in its file when it goes.
    drop(host);
    fs::write(folder.join("k.toml"), &one).unwrap();
    daemon.signal(Signal::HUP);
    let place = usize::try_from(lba).unwrap() * 512;
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::read(folder.join("more.img")).unwrap()[place..place + data.len()] != data {
        assert!(Instant::now() < deadline, "what was written is not in the file");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut host = daemon.host();
    assert_eq!(host.command(1, &[0; 6], &[], 0).sense_code(), Some((5, 0x25, 0)));
    model.check_all(&mut host);
    daemon.stop();
}

/// What GET LBA STATUS says of all blocks from there on, asked with room for so many descriptors at a time (SBC-4 5.6): runs of
/// blocks and whether they are deallocated.
fn runs(host: &mut Host, lun: u8, from: u64, room: u32) -> Vec<(u64, bool)> {
    let mut runs: Vec<(u64, bool)> = Vec::new();
    let mut at = from;
    while at < BLOCKS {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1]) = (0x9e, 0x12);
        cdb[2..10].copy_from_slice(&at.to_be_bytes());
        let length = 8 + 16 * room;
        cdb[10..14].copy_from_slice(&length.to_be_bytes());
        let answer = host.command(lun, &cdb, &[], length);
        assert_eq!(answer.status, GOOD, "{answer:?}");
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let said = usize::try_from(number(&answer.data[..4])).unwrap() + 4;
        let descriptors = answer.data[..said.min(answer.data.len())][8..].chunks_exact(16);
        assert!(descriptors.len() > 0, "at least one run from block {at} on");
        for descriptor in descriptors {
            assert_eq!(number(&descriptor[..8]), at, "runs follow each other");
            let blocks = number(&descriptor[8..12]);
            assert!(blocks > 0);
            at += blocks;
            match runs.last_mut() {
                Some((end, deallocated)) if *deallocated == (descriptor[12] & 0xf == 1) => *end = at,
                _ => runs.push((at, descriptor[12] & 0xf == 1)),
            }
        }
    }
    assert_eq!(at, BLOCKS);
    runs
}

#[test]
fn volumes_in_memory_say_which_blocks_they_have_on_one_core_and_on_two() {
    let Some(cpus) = cpus() else { return };
    let folder = tempfile::tempdir().unwrap();
    let more: String = [1, 2]
        .map(|n| format!("[[volume]]\nlun = {n}\nname = \"ram{n}\"\nbackend = \"ram\"\nsize = \"24MiB\"\nspread = {n}\n"))
        .concat();
    let daemon = Daemon::start(folder.path(), &config(cpus, 1, "none", &more));
    let mut host = daemon.host();
    for lun in [1, 2] {
        host.ready(lun);
        assert_eq!(runs(&mut host, lun, 0, 64), [(BLOCKS, true)], "nothing was written");
        // Pages of 8 blocks: whole ones, over the end of an extent, a part of one, the last.
        for (lba, blocks) in [(8, 16), (EXTENT - 8, 16), (3 * EXTENT + 99, 2), (BLOCKS - 1, 1)] {
            let data = vec![5; blocks as usize * 512];
            assert_eq!(host.command(lun, &write16(lba, blocks), &data, 0).status, GOOD);
        }
        let last = 3 * EXTENT + 96;
        let written = [
            (8, true),
            (24, false),
            (EXTENT - 8, true),
            (EXTENT + 8, false),
            (last, true),
            (last + 8, false),
            (BLOCKS - 8, true),
            (BLOCKS, false),
        ];
        for room in [1, 2, 64] {
            assert_eq!(runs(&mut host, lun, 0, room), written, "room for {room}");
        }
        // From the middle of a run, and of a page.
        assert_eq!(runs(&mut host, lun, EXTENT + 3, 64), written[3..]);
        // UNMAP frees whole pages, and of a part of one only the content goes.
        for (lba, blocks) in [(8_u64, 12_u32), (EXTENT, 8)] {
            let mut list = [0; 24];
            (list[1], list[3]) = (22, 16);
            list[8..16].copy_from_slice(&lba.to_be_bytes());
            list[16..20].copy_from_slice(&blocks.to_be_bytes());
            assert_eq!(host.command(lun, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list, 0).status, GOOD);
        }
        let expected =
            [&[(16, true), (24, false), (EXTENT - 8, true), (EXTENT, false)], &written[4..]].concat();
        assert_eq!(runs(&mut host, lun, 0, 64), expected);
        assert_eq!(host.command(lun, &read16(19, 2), &[], 1024).data, [[0; 512], [5; 512]].concat());
        // Zeroes that are written with UNMAP free as well (SBC-4 5.51).
        let mut cdb = write16(last, 8);
        (cdb[0], cdb[1]) = (0x93, 0x08);
        assert_eq!(host.command(lun, &cdb, &[0; 512], 0).status, GOOD);
        assert_eq!(runs(&mut host, lun, EXTENT, 64), [(BLOCKS - 8, true), (BLOCKS, false)]);
    }
    daemon.stop();
}
