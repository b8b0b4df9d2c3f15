//! Logs made by hand, against snapshots that a checker wrote.

use super::log::tests::log;
use super::*;
use crate::initiator::{Outcome, Status, Unit};
use crate::verify::{Checker, save_state};
use std::path::PathBuf;

const FLUSH: u64 = 1;
const FUA: u64 = 2;
const MARK: u64 = 8;
const BLOCKS: u64 = 64;
const GOOD: Outcome = Outcome { status: Status::Good, received: 0, residual: 0 };

/// A unit, what it was promised, and its device's log.
struct Host {
    checker: Checker,
    folder: tempfile::TempDir,
    log: Vec<(u64, Vec<u8>, u64)>,
    snapshots: u64,
}

impl Host {
    fn new() -> Self {
        let unit = Unit { lun: 3, wire: [0; 8], block_size: 512, blocks: BLOCKS, write_cache: true };
        let checker = Checker::new(&[unit], u64::MAX, 4, 65_536).unwrap();
        let mut host = Self { checker, folder: tempfile::tempdir().unwrap(), log: Vec::new(), snapshots: 0 };
        let fill = host.send(0, BLOCKS, false);
        host.log.push(fill);
        host.flush(FLUSH);
        host.snapshot();
        host
    }

    /// A write that was acknowledged, as the log would have it.
    fn send(&mut self, first: u64, blocks: u64, fua: bool) -> (u64, Vec<u8>, u64) {
        let count = u32::try_from(blocks).unwrap();
        self.checker.write(0, 0, first, count, fua);
        let data = self.checker.write_data(0, 0, count * 512).to_vec();
        self.checker.done(0, &GOOD).unwrap();
        (first, data, if fua { FUA } else { 0 })
    }

    /// An acknowledged flush, which the device saw, or not.
    fn flush(&mut self, flags: u64) {
        self.checker.flush(1, 0);
        self.checker.done(1, &GOOD).unwrap();
        if flags > 0 {
            self.log.push((0, Vec::new(), flags));
        }
    }

    fn snapshot(&mut self) {
        self.snapshots += 1;
        save_state(&snapshot_path(self.folder.path(), self.snapshots), 1, &self.checker).unwrap();
        self.log.push((0, format!("snapshot-{}", self.snapshots).into_bytes(), MARK));
    }

    fn replay(&self, lose: Option<u64>) -> Result<Counts, Error> {
        let entries: Vec<_> =
            self.log.iter().map(|(first, data, flags)| (*first, &data[..], *flags)).collect();
        let args = ReplayArgs {
            log: PathBuf::new(),
            snapshots: self.folder.path().to_owned(),
            lun: 3,
            prefix: "snapshot-".to_owned(),
            least: 1,
            lose,
        };
        replay(&log(&entries)[..], &args)
    }
}

#[test]
fn what_was_flushed_is_there() {
    let mut host = Host::new();
    let write = host.send(5, 4, false);
    host.log.push(write);
    host.flush(FLUSH);
    let fua = host.send(7, 1, true);
    host.log.push(fua);
    // Acknowledged, not flushed: not in the log yet, and need not be.
    let late = host.send(40, 2, false);
    host.snapshot();
    host.log.push(late);
    host.flush(FLUSH);
    host.snapshot();
    let counts = host.replay(None).unwrap();
    assert_eq!((counts.writes, counts.marks, counts.barriers), (4, 3, 4));
    for lose in [2, 3, 4] {
        let error = host.replay(Some(lose)).unwrap_err();
        assert!(matches!(error, Error::Mismatch(_)), "{error}");
    }
}

#[test]
fn a_flush_that_does_not_reach_the_device_is_found() {
    let mut host = Host::new();
    let write = host.send(5, 4, false);
    host.flush(0);
    host.snapshot();
    // It comes with the next flush: too late.
    host.log.push(write);
    host.flush(FLUSH);
    host.snapshot();
    let error = host.replay(None).unwrap_err().to_string();
    assert!(error.contains("snapshot-2: block 5") && error.contains("acknowledged and flushed"), "{error}");
}

#[test]
fn an_older_write_over_a_stable_one_is_found_between_marks() {
    let mut host = Host::new();
    let old = host.send(9, 1, false);
    let new = host.send(9, 1, true);
    host.log.push(new.clone());
    host.flush(FLUSH);
    host.snapshot();
    host.log.push(old);
    host.log.push(new);
    host.flush(FLUSH);
    host.snapshot();
    let error = host.replay(None).unwrap_err().to_string();
    assert!(error.contains("after write 3 of the log: block 9"), "{error}");
}

#[test]
fn torn_blocks_and_snapshots_that_are_not_there_are_found() {
    let mut host = Host::new();
    let (first, mut data, flags) = host.send(20, 1, true);
    data[100] ^= 1;
    host.log.push((first, data, flags));
    assert!(host.replay(None).unwrap_err().to_string().contains("damaged"));
    let mut host = Host::new();
    host.log.push((0, b"snapshot-77".to_vec(), MARK));
    assert!(matches!(host.replay(None), Err(Error::Failed(_))));
    host.log.pop();
    host.log.push((0, b"dm-log-writes-end".to_vec(), MARK));
    assert_eq!(host.replay(None).unwrap().marks, 1);
}

#[test]
fn a_write_that_ended_before_a_fua_write_comes_after_it_in_the_log() {
    let mut host = Host::new();
    let old = host.send(9, 2, false);
    let new = host.send(9, 1, true);
    host.log.push(new);
    host.snapshot();
    host.log.push(old);
    host.flush(FLUSH);
    host.snapshot();
    assert_eq!(host.replay(None).unwrap().marks, 3);
}
