//! The checker against a target that can be told to go wrong: it must find every fault, and must not
//! complain where there is none.
#![allow(missing_docs, dead_code)]

mod fake;

use fake::FakeTarget;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const BENCH: &str = env!("CARGO_BIN_EXE_kagami-bench");

fn verify(target: &FakeTarget, more: &[&str]) -> Output {
    let mut command = Command::new(BENCH);
    command.args([
        "verify",
        &target.url(),
        "--no-stdin",
        "--poll",
        "sleep",
        "--span",
        "2MiB",
        "--time",
        "400ms",
    ]);
    command.args(more).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn assert_good(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

#[track_caller]
fn assert_found(output: &Output, what: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", text(output));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("data check failed: LUN 0 LBA ") && error.contains(what), "{error}");
}

#[test]
fn a_good_target_passes() {
    for block_size in [512, 4096] {
        let target = FakeTarget::start((4 << 20) / block_size, block_size);
        assert_good(&verify(&target, &["--largest", "600KiB"]));
        assert!(target.disk.lock().unwrap().writes > 20);
    }
}

#[test]
fn cut_connections_are_no_fault() {
    let target = FakeTarget::start(8192, 512);
    let output = verify(&target, &["--cut-every", "30ms", "--time", "1s"]);
    assert_good(&output);
    assert!(target.logins.load(Ordering::Relaxed) > 8, "{}", text(&output));
}

#[test]
fn a_lost_write_is_found() {
    let target = FakeTarget::start(8192, 512);
    target.disk.lock().unwrap().lose_writes = 60..80;
    assert_found(&verify(&target, &[]), "expected write ");
}

#[test]
fn a_misplaced_write_is_found() {
    let target = FakeTarget::start(8192, 512);
    target.disk.lock().unwrap().misplace_writes = 60..80;
    assert_found(&verify(&target, &[]), "found data of LBA");
}

#[test]
fn a_torn_block_is_found() {
    let target = FakeTarget::start(8192, 512);
    target.disk.lock().unwrap().tear_writes = 60..80;
    assert_found(&verify(&target, &[]), "found ");
}

#[test]
fn a_state_is_checked_later() {
    let target = FakeTarget::start(8192, 512);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let state = state.to_str().unwrap();
    assert_good(&verify(&target, &["--state", state]));
    assert_good(&verify(&target, &["--state", state, "--check-only"]));
    // All was flushed at the end, so that a crash takes nothing away.
    target.disk.lock().unwrap().lose_cache();
    assert_good(&verify(&target, &["--state", state, "--check-only"]));
    assert_good(&verify(&target, &["--state", state, "--resume"]));
    target.disk.lock().unwrap().cache[100 * 512..101 * 512].fill(0);
    assert_found(&verify(&target, &["--state", state, "--check-only"]), "LBA 100: ");
    assert_found(&verify(&target, &["--state", state, "--check-only", "--crash"]), "found zeroes");
    let other = verify(&target, &["--state", state, "--check-only", "--span", "1MiB"]);
    assert_eq!(other.status.code(), Some(1), "{}", text(&other));
}

/// Runs the checker, has the target lose its volatile data after half a second, and says so where asked.
fn with_crash(target: &FakeTarget, announce: bool) -> Output {
    // Where the loss is to be found, much must be unflushed, or writes may cover it before a read comes.
    let flush_every = if announce { "50" } else { "1000" };
    let mut child = Command::new(BENCH)
        .args(["verify", &target.url(), "--poll", "sleep", "--span", "2MiB", "--time", "1500ms"])
        .args(["--flush-every", flush_every])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    if announce {
        writeln!(input, "crash").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "crash noted");
    }
    target.crash.store(true, Ordering::Relaxed);
    let mut rest = child.wait_with_output().unwrap();
    let mut all = String::new();
    std::io::Read::read_to_string(&mut output, &mut all).unwrap();
    rest.stdout = all.into_bytes();
    rest
}

#[test]
fn an_announced_crash_may_lose_what_was_not_flushed() {
    let target = FakeTarget::start(8192, 512);
    let output = with_crash(&target, true);
    assert_good(&output);
    assert!(text(&output).contains("1 crashes"), "{}", text(&output));
}

#[test]
fn an_unannounced_one_may_not() {
    let target = FakeTarget::start(8192, 512);
    assert_found(&with_crash(&target, false), "acknowledged");
}

#[test]
fn a_flush_that_does_nothing_is_found() {
    let target = FakeTarget::start(8192, 512);
    target.disk.lock().unwrap().ignore_flush = true;
    assert_found(&with_crash(&target, true), "acknowledged and flushed");
}

#[test]
fn a_target_that_stays_away_times_out() {
    let target = FakeTarget::start(8192, 512);
    let url = target.url();
    let began = Instant::now();
    let child = Command::new(BENCH)
        .args(["verify", &url, "--no-stdin", "--poll", "sleep", "--span", "1MiB", "--reconnect", "500ms"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(400));
    drop(target);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(began.elapsed() < Duration::from_secs(8));
}
