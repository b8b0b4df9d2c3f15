//! A command device that this host sees as a block device: `/dev/sdb`, `/dev/disk/by-id/...`.
//!
//! Read and written with O_DIRECT from aligned memory, so that nothing of it is in the page cache and
//! every READ asks the array; without O_EXCL, as others of this host may give orders too. Only slots are
//! touched, never the first 16 MiB.

use super::device::{Device, PRODUCT, Trouble};
use kagami_admin::Refusal;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What O_DIRECT wants of memory, offsets and lengths: the largest logical block there is.
const ALIGNMENT: usize = 4096;

/// A block device.
#[derive(Debug)]
pub struct Block {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Block {
    /// Opens a block device that says that it is a command device.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let shown = path.display();
        let reach = |error: io::Error| {
            Refusal::unreachable(match error.kind() {
                io::ErrorKind::NotFound => format!("there is no {shown}; is its session logged in?"),
                io::ErrorKind::PermissionDenied => format!("{shown} is closed to this user; use root"),
                _ => format!("{shown}: {error}"),
            })
        };
        let real = path.canonicalize().map_err(reach)?;
        let kind = std::fs::metadata(&real).map_err(reach)?;
        if !kind.file_type().is_block_device() {
            return Err(Refusal::usage(format!("{shown} is no block device")));
        }
        let (major, minor) = (rustix::fs::major(kind.rdev()), rustix::fs::minor(kind.rdev()));
        is_command_device(&PathBuf::from(format!("/sys/dev/block/{major}:{minor}")), path)?;
        let flags = rustix::fs::OFlags::DIRECT.bits();
        let flags = i32::try_from(flags).map_err(|error| Refusal::failed(error.to_string()))?;
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(&real).map_err(reach)?;
        let bytes =
            rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).map_err(|error| reach(error.into()))?;
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// Memory of `len` bytes at an aligned address, within what is returned, from the returned place on.
    fn memory(len: usize) -> (Vec<u8>, usize) {
        let memory = vec![0; len + ALIGNMENT];
        let from = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        (memory, from)
    }

    fn trouble(&self, what: &str, error: &io::Error) -> Trouble {
        let why = format!("{what} {}: {error}", self.path.display());
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // What Linux makes of RESERVATION CONFLICT; and of other refusals, which reading back tells.
            Some(Errno::BADE | Errno::IO | Errno::REMOTEIO) if what == "writing" => Trouble::Held,
            Some(
                Errno::NOLINK | Errno::TIMEDOUT | Errno::AGAIN | Errno::BUSY | Errno::IO | Errno::NODATA,
            ) => Trouble::Passing(Refusal::unreachable(why)),
            _ => Trouble::Lasting(Refusal::failed(why)),
        }
    }
}

impl Device for Block {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn block(&self) -> usize {
        ALIGNMENT
    }

    fn read(&mut self, at: u64, len: usize) -> Result<Vec<u8>, Trouble> {
        let (mut memory, from) = Self::memory(len);
        let room = memory.get_mut(from..from + len).unwrap_or_default();
        self.file.read_exact_at(room, at).map_err(|error| self.trouble("reading", &error))?;
        Ok(room.to_vec())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Trouble> {
        let (mut memory, from) = Self::memory(bytes.len());
        let room = memory.get_mut(from..from + bytes.len()).unwrap_or_default();
        room.copy_from_slice(bytes);
        self.file.write_all_at(room, at).map_err(|error| self.trouble("writing", &error))
    }

    /// The kernel's own time-outs hold.
    fn set_patience(&mut self, _patience: Duration) {}
}

/// Whether sysfs says that a block device is a whole disk and a command device: of SCSI disks the kernel
/// keeps what INQUIRY said.
fn is_command_device(sysfs: &Path, shown: &Path) -> Result<(), Refusal> {
    let shown = shown.display();
    if sysfs.join("partition").exists() {
        return Err(Refusal::usage(format!("{shown} is a partition; give the whole device")));
    }
    let says = |name: &str| {
        let text = std::fs::read_to_string(sysfs.join("device").join(name)).unwrap_or_default();
        text.trim().to_owned()
    };
    let (vendor, model) = (says("vendor"), says("model"));
    if vendor == "KAGAMI" && model == PRODUCT {
        return Ok(());
    }
    let what = if model.is_empty() { "no SCSI disk".to_owned() } else { format!("a {vendor} {model}") };
    Err(Refusal::usage(format!(
        "{shown} is {what}, not a command device of an array; nothing was written to it"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_command_device_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(Block::open(&file).unwrap_err().code, 2);
        assert_eq!(Block::open(&folder.path().join("none")).unwrap_err().code, 5);

        let sysfs = folder.path().join("sdx");
        std::fs::create_dir_all(sysfs.join("device")).unwrap();
        let judge = || is_command_device(&sysfs, Path::new("/dev/sdx"));
        assert!(judge().unwrap_err().reason.contains("no SCSI disk"));
        std::fs::write(sysfs.join("device/vendor"), "KAGAMI  \n").unwrap();
        std::fs::write(sysfs.join("device/model"), "VOLUME          \n").unwrap();
        assert!(judge().unwrap_err().reason.contains("a KAGAMI VOLUME"));
        std::fs::write(sysfs.join("device/model"), "COMMAND DEVICE  \n").unwrap();
        assert_eq!(judge(), Ok(()));
        std::fs::write(sysfs.join("partition"), "1\n").unwrap();
        assert!(judge().unwrap_err().reason.contains("partition"));
    }

    #[test]
    fn memory_is_aligned() {
        for len in [0, 1, 4096, 32768] {
            let (memory, from) = Block::memory(len);
            assert_eq!(memory[from..].as_ptr().align_offset(ALIGNMENT), 0);
            assert!(memory.len() >= from + len);
        }
    }
}
