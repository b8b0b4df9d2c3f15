//! Files as they are on this machine, block devices as an imagined sysfs shows them.

use super::error::Misuse;
use super::*;
use crate::config::parse;
use crate::plan::{Machine, Plan, VolumePlan};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

fn volume(path: &Path, rest: &str) -> VolumePlan {
    let text = format!(
        "[array]\nname = \"a\"\ndata = \"d\"\n[[volume]]\nlun = 0\nname = \"v\"\npath = \"{}\"\n{rest}",
        path.display()
    );
    let plan = Plan::compute(&parse(&text, "t").unwrap(), &Machine::imagined(2)).unwrap();
    plan.volumes.into_iter().next().unwrap()
}

fn reason(volume: &VolumePlan) -> Misuse {
    open(volume, Duration::ZERO).unwrap_err().reason
}

#[test]
fn a_file_is_made_sparse_and_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let plan = volume(&path, "size = \"64MiB\"\n");
    let (facts, size) = probe(&plan, false).unwrap().unwrap();
    assert_eq!((facts.kind, size), (DeviceKind::Missing, ByteLen(64 << 20)));
    assert!(!path.exists(), "a probe changes nothing");

    let device = open(&plan, Duration::ZERO).unwrap().unwrap();
    assert!(device.created);
    assert_eq!(device.size, ByteLen(64 << 20));
    assert!(device.facts.align.is_power_of_two() && device.facts.memory_align.is_power_of_two());
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 64 << 20);
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) < 64, "not sparse");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);

    assert!(matches!(reason(&plan), Misuse::InUse));
    assert!(matches!(probe(&plan, false).unwrap_err().reason, Misuse::InUse));
    assert!(probe(&plan, true).is_ok());
    // Whoever lets go within the time is waited for.
    let wait =
        std::thread::spawn(move || open(&plan, Duration::from_secs(5)).map(|device| device.unwrap().created));
    std::thread::sleep(Duration::from_millis(120));
    drop(device);
    assert!(!wait.join().unwrap().unwrap());
}

#[test]
fn files_grow_and_do_not_shrink_silently() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let device = open(&volume(&path, ""), Duration::ZERO).unwrap().unwrap();
    assert_eq!(device.size, ByteLen(1 << 20));
    drop(device);
    let device = open(&volume(&path, "size = \"2MiB\"\n"), Duration::ZERO).unwrap().unwrap();
    assert_eq!(device.size, ByteLen(2 << 20));
    drop(device);
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 << 20);
    let read_only = volume(&path, "size = \"4MiB\"\nread_only = true\n");
    assert!(matches!(reason(&read_only), Misuse::TooSmall { .. }));
}

#[test]
fn what_is_no_device_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(reason(&volume(&folder.path().join("none"), "")), Misuse::Missing));
    let under_dev = volume(Path::new("/dev/no-such-disk"), "size = \"1MiB\"\n");
    assert!(matches!(reason(&under_dev), Misuse::NotMade));
    assert!(matches!(probe(&under_dev, false).unwrap_err().reason, Misuse::NotMade));
    assert!(matches!(reason(&volume(Path::new("/dev/no-such-disk"), "")), Misuse::Missing));
    assert!(!Path::new("/dev/no-such-disk").exists());
    assert!(matches!(reason(&volume(Path::new("/dev/null"), "")), Misuse::NotADevice));
    assert!(probe(&volume(folder.path(), ""), false).is_err());
    let ragged = folder.path().join("ragged");
    File::create(&ragged).unwrap().set_len(1000).unwrap();
    let error = open(&volume(&ragged, ""), Duration::ZERO).unwrap_err();
    assert!(error.to_string().starts_with("t:4: volume[0]: "), "{error}");
    assert!(matches!(error.reason, Misuse::Ragged { .. }));
    let orphan = volume(&folder.path().join("a/b/c"), "size = \"1MiB\"\n");
    assert!(matches!(probe(&orphan, false).unwrap_err().reason, Misuse::NoFolder));
}

#[test]
fn files_carry_their_volume() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("f")).unwrap();
    let uuid = kagami_types::Uuid::from_u128(7);
    assert_eq!(tagged_as(&file), None);
    if tag(&file, uuid).unwrap() {
        assert_eq!(tagged_as(&file), Some(uuid.to_string()));
    }
}

#[test]
fn sysfs_is_read() {
    let root = tempfile::tempdir().unwrap();
    let disk = root.path().join("devices/nvme0n1");
    let part = disk.join("nvme0n1p2");
    for folder in ["queue", "device"] {
        fs::create_dir_all(disk.join(folder)).unwrap();
    }
    fs::create_dir_all(&part).unwrap();
    let put = |path: &Path, text: &str| fs::write(path, text).unwrap();
    for (file, text) in [
        ("queue/logical_block_size", "4096\n"),
        ("queue/physical_block_size", "16384"),
        ("queue/max_sectors_kb", "256"),
        ("queue/max_hw_sectors_kb", "2048"),
        ("queue/max_segments", "65"),
        ("queue/chunk_sectors", "0"),
        ("queue/optimal_io_size", "131072"),
        ("queue/zoned", "none"),
        ("queue/discard_max_bytes", "2199023255040"),
        ("queue/discard_granularity", "4096"),
        ("queue/write_zeroes_max_bytes", "0"),
        ("queue/rotational", "0"),
        ("queue/nr_requests", "1023"),
        ("queue/write_cache", "write back\n"),
        ("queue/io_poll", "1"),
        ("queue/dma_alignment", "3"),
        ("wwid", "eui.0025385b71b1313e"),
        ("device/serial", "S4EVNF0M \n"),
        ("ro", "1"),
    ] {
        put(&disk.join(file), text);
    }
    put(&part.join("partition"), "2");
    put(&part.join("start"), "2048");
    put(&part.join("ro"), "0");
    fs::create_dir_all(root.path().join("dev/block")).unwrap();
    symlink(&disk, root.path().join("dev/block/259:0")).unwrap();
    symlink(&part, root.path().join("dev/block/259:2")).unwrap();
    fs::create_dir_all(root.path().join("module/nvme/parameters")).unwrap();
    put(&root.path().join("module/nvme/parameters/poll_queues"), "4");

    let facts = open::block_facts(root.path(), 259, 0, 1 << 40, None);
    assert_eq!((facts.logical_block, facts.physical_block, facts.align), (4096, 16384, 4096));
    assert_eq!((facts.max_transfer, facts.max_discard, facts.memory_align), (256 << 10, 256 << 20, 4));
    assert_eq!((facts.depth, facts.discard, facts.zero), (1023, false, false));
    assert!(facts.poll && facts.write_cache && facts.read_only && !facts.rotational);
    let identity = |wwn: &str, serial: &str, size| DeviceIdentity::Block {
        wwn: wwn.into(),
        serial: serial.into(),
        size,
    };
    assert_eq!(facts.identity, identity("eui.0025385b71b1313e", "S4EVNF0M", 1 << 40));
    let second = open::block_facts(root.path(), 259, 2, 1 << 30, None);
    assert_eq!(second.identity, identity("eui.0025385b71b1313e#2@2048", "S4EVNF0M#2@2048", 1 << 30));
    assert_eq!(second.logical_block, 4096);
    assert!(!facts.zoned && facts.boundary == 0 && facts.optimal_transfer == 128 << 10);
    let limits = facts.limits(32);
    assert_eq!((limits.depth, limits.max_transfer, limits.boundary), (32, 256 << 10, 0));

    // A boundary: kept by what begins at one, and nothing is polled for.
    put(&disk.join("queue/chunk_sectors"), "256");
    let facts = open::block_facts(root.path(), 259, 0, 1 << 40, None);
    assert_eq!((facts.boundary, facts.poll, facts.limits(9).boundary), (128 << 10, false, 128 << 10));
    assert_eq!(open::block_facts(root.path(), 259, 2, 1 << 30, None).boundary, 128 << 10);
    put(&part.join("start"), "2050");
    assert_eq!(open::block_facts(root.path(), 259, 2, 1 << 30, None).boundary, 0);
    // Few segments: no more pages than that.
    put(&disk.join("queue/chunk_sectors"), "0");
    put(&disk.join("queue/max_segments"), "33");
    let facts = open::block_facts(root.path(), 259, 0, 1 << 40, None);
    assert_eq!((facts.max_transfer, facts.poll), (33 << 12, false));
    // Discards only where they leave zeroes.
    put(&disk.join("queue/write_zeroes_max_bytes"), "65536");
    assert!(open::block_facts(root.path(), 259, 0, 1 << 40, None).discard);
    put(&disk.join("queue/zoned"), "host-managed");
    assert!(open::block_facts(root.path(), 259, 0, 1 << 40, None).zoned);

    // Nothing known: cautious defaults.
    let unknown = open::block_facts(root.path(), 1, 1, 1 << 30, Some((512, 4)));
    assert_eq!((unknown.logical_block, unknown.discard, unknown.poll), (512, false, false));
}

#[test]
fn a_device_that_goes_is_noticed_once_and_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let disk = root.path().join("devices/sdx");
    fs::create_dir_all(disk.join("queue")).unwrap();
    fs::create_dir_all(root.path().join("dev/block")).unwrap();
    fs::write(disk.join("size"), "2048\n").unwrap();
    symlink(&disk, root.path().join("dev/block/8:0")).unwrap();
    // A file stands for the device: what is asked of its descriptor is the same.
    let path = root.path().join("disk");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let plan = volume(&path, "");
    let device = open(&plan, Duration::ZERO).unwrap().unwrap();
    let mut watched = watch::tests::watched(&plan, &device, (8, 0));

    assert!(watched.look(root.path()).is_none());
    device.file.set_len(2 << 20).unwrap();
    let event = watched.look(root.path()).unwrap();
    assert!(matches!(event, DeviceEvent::Changed { size: Some(ByteLen(size)), .. } if size == 2 << 20));
    watched.note(&event);
    assert!(watched.look(root.path()).is_none(), "told once");
    // Smaller than it was: said once, and nothing else follows.
    device.file.set_len(1 << 20).unwrap();
    assert!(matches!(watched.look(root.path()), Some(DeviceEvent::Trouble { .. })));
    assert!(watched.look(root.path()).is_none());

    fs::write(disk.join("size"), "0\n").unwrap();
    let event = watched.look(root.path()).unwrap();
    assert!(matches!(event, DeviceEvent::Gone { first: true, .. }));
    watched.note(&event);
    // Again and again, until the core has closed it.
    assert!(matches!(watched.look(root.path()), Some(DeviceEvent::Gone { first: false, .. })));
    let mut watched = watch::tests::closed(watched);
    // Nothing at the path that is a block device.
    assert!(watched.look(root.path()).is_none());
}
