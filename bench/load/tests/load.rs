//! The load generator as it is called.
#![allow(missing_docs, dead_code)]

mod fake;

use fake::FakeTarget;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kagami-bench")).args(arguments).output().unwrap()
}

fn load(target: &FakeTarget, more: &[&str]) -> serde_json::Value {
    let url = target.url();
    let mut arguments =
        vec!["load", &url, "--time", "200ms", "--warmup", "20ms", "--poll", "sleep", "--json"];
    arguments.extend(more);
    let output = bench(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_report_has_its_keys() {
    let target = FakeTarget::start(8192, 512);
    let report = load(&target, &["--read", "70"]);
    assert_eq!(report["schema"], 1);
    assert_eq!(report["errors"], 0);
    for key in ["iops", "mb_per_second", "latency_p50_us", "latency_p99_9_us", "generator_cpu_us_per_io"] {
        assert!(report[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {report}");
    }
    let share = report["reads"].as_f64().unwrap() / report["commands"].as_f64().unwrap();
    assert!((0.6..0.8).contains(&share), "{share}");
}

#[test]
fn unit_attentions_before_a_run_are_taken() {
    let target = FakeTarget::start(8192, 512);
    target.disk.lock().unwrap().attentions = 3;
    assert_eq!(load(&target, &[])["errors"], 0);
    assert_eq!(target.disk.lock().unwrap().attentions, 0);
    // Not for ever.
    target.disk.lock().unwrap().attentions = 1000;
    let output = bench(&["load", &target.url(), "--time", "100ms"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("READ CAPACITY"), "{output:?}");
}

#[test]
fn all_shapes_of_writes_arrive() {
    let target = FakeTarget::start(8192, 4096);
    // Immediate data only; unsolicited data; R2Ts for the rest.
    for more in [
        &["--block", "4KiB"][..],
        &["--block", "32KiB", "--immediate", "no"],
        &["--block", "64KiB"],
        &["--block", "1MiB", "--depth", "1", "--connections", "2", "--time", "600ms"],
        &["--block", "256KiB", "--depth", "2", "--pattern", "seq", "--span", "4MiB"],
    ] {
        let mut arguments = vec!["--read", "50", "--verify"];
        arguments.extend(more);
        let report = load(&target, &arguments);
        assert!(report["writes"].as_u64().unwrap() > 0, "{report}");
    }
}

#[test]
fn threads_and_sessions_add_up() {
    let target = FakeTarget::start(8192, 512);
    let report = load(&target, &["--threads", "2", "--connections", "3", "--sessions", "2", "--depth", "2"]);
    assert_eq!(report["workload"]["connections"], 6);
    assert!(report["commands"].as_u64().unwrap() > 0);
    assert_eq!(target.logins.load(std::sync::atomic::Ordering::Relaxed), 6);
}

#[test]
fn the_rate_is_kept() {
    let target = FakeTarget::start(8192, 512);
    let report = load(&target, &["--rate", "2000", "--time", "1s"]);
    let iops = report["iops"].as_f64().unwrap();
    assert!((1500.0..2100.0).contains(&iops), "{iops}");
}

#[test]
fn wrong_data_are_found() {
    let target = FakeTarget::start(64, 512);
    target.disk.lock().unwrap().lose_writes = 50..80;
    let url = target.url();
    let output =
        bench(&["load", &url, "--time", "2s", "--block", "512", "--read", "50", "--verify", "--depth", "2"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("kagami-bench: data check failed: LUN 0 LBA "), "{error}");
}

#[test]
fn sessions_are_counted_and_timed() {
    let target = FakeTarget::start(8192, 512);
    let output = bench(&["sessions", &target.url(), "--count", "20", "--commands", "3", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["sessions"], 20);
    assert_eq!(report["commands"], 60);
    assert!(report["login_p50_us"].as_f64().is_some_and(|value| value > 0.0));
}

#[test]
fn exit_codes() {
    assert_eq!(bench(&["--help"]).status.code(), Some(0));
    assert_eq!(bench(&["load"]).status.code(), Some(2));
    assert_eq!(bench(&["load", "iscsi://h/iqn"]).status.code(), Some(2));
    // Nothing listens on the discard port.
    let output = bench(&["load", "iscsi://127.0.0.1:9/iqn.x/0"]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
    let target = FakeTarget::start(64, 512);
    assert_eq!(bench(&["load", &target.url(), "--block", "1000"]).status.code(), Some(2));
    assert_eq!(bench(&["load", &target.url(), "--block", "64KiB"]).status.code(), Some(2));
}
