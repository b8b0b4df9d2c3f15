//! What /sys says of a block device.

use kagami_tables::DeviceIdentity;
use std::fs;
use std::path::{Path, PathBuf};

/// A block device's folder in sysfs, and its disk's where it is a partition.
#[derive(Clone, Debug)]
pub(super) struct SysBlock {
    own: PathBuf,
    disk: PathBuf,
}

impl SysBlock {
    /// The folders of a device number below `root` (`/sys` but for tests).
    pub(super) fn at(root: &Path, major: u32, minor: u32) -> Option<Self> {
        let own = fs::canonicalize(root.join(format!("dev/block/{major}:{minor}"))).ok()?;
        let disk = if own.join("partition").exists() { own.parent()?.to_owned() } else { own.clone() };
        Some(Self { own, disk })
    }

    fn text(folder: &Path, file: &str) -> Option<String> {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn number(folder: &Path, file: &str) -> Option<u64> {
        Self::text(folder, file)?.parse().ok()
    }

    /// A number of the queue.
    pub(super) fn queue(&self, file: &str) -> Option<u64> {
        Self::number(&self.disk.join("queue"), file)
    }

    /// Whether the queue says that writes are cached.
    pub(super) fn write_back(&self) -> bool {
        Self::text(&self.disk.join("queue"), "write_cache").is_some_and(|text| text == "write back")
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> Option<u64> {
        Some(Self::number(&self.own, "size")?.saturating_mul(512))
    }

    /// Whether it must be written in order, in whole or in part.
    pub(super) fn zoned(&self) -> bool {
        Self::text(&self.disk.join("queue"), "zoned").is_some_and(|text| text != "none")
    }

    /// Where on its disk a partition begins, in bytes.
    pub(super) fn start(&self) -> u64 {
        Self::number(&self.own, "start").unwrap_or(0).saturating_mul(512)
    }

    /// Whether the device, or the disk that it is part of, is set read-only.
    pub(super) fn read_only(&self) -> bool {
        [&self.own, &self.disk].into_iter().any(|folder| Self::number(folder, "ro") == Some(1))
    }

    /// Whether the driver can be polled: the queue says so, and for NVMe the module was given
    /// poll queues at all.
    pub(super) fn poll(&self, root: &Path) -> bool {
        let nvme = self.disk.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nvme"));
        let queues = Self::number(&root.join("module/nvme/parameters"), "poll_queues").unwrap_or(0);
        nvme && queues > 0 && self.queue("io_poll") == Some(1)
    }

    /// World-wide name, serial number and size. Virtual devices say what they have: a
    /// device-mapper UUID, a loop device's file.
    pub(super) fn identity(&self, size: u64) -> DeviceIdentity {
        let first = |files: &[&str]| files.iter().find_map(|file| Self::text(&self.disk, file));
        let mut wwn = first(&["wwid", "device/wwid", "dm/uuid", "md/uuid"]).unwrap_or_default();
        let mut serial = first(&["serial", "device/serial", "device/vpd_pg80_text", "loop/backing_file"])
            .unwrap_or_default();
        if let Some(partition) = Self::number(&self.own, "partition") {
            // A partition is its disk's identity, and where on the disk it lies.
            let start = Self::number(&self.own, "start").unwrap_or(0);
            for text in [&mut wwn, &mut serial] {
                if !text.is_empty() {
                    *text = format!("{text}#{partition}@{start}");
                }
            }
        }
        DeviceIdentity::Block { wwn, serial, size }
    }
}
