//! Looking at a device, and opening it for ourselves.

use super::error::{DeviceError, Misuse};
use super::sysfs::SysBlock;
use super::{DeviceFacts, DeviceKind};
use crate::config::Backend;
use crate::plan::VolumePlan;
use kagami_tables::DeviceIdentity;
use kagami_types::{ByteLen, Uuid};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, StatxFlags, XattrFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How often a device in use is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// The extended attribute in which a file carries its volume's UUID.
const TAG: &str = "user.kagami.volume";
/// The most bytes of one operation, whatever the device could do.
const MAX_TRANSFER: u64 = 1 << 20;
/// The most bytes of one discard or zeroing at a time: it must not keep a worker for long.
const MAX_DISCARD: u64 = 256 << 20;

/// What memory comes in.
const PAGE: u64 = 4096;
/// Segments that a device must take to be polled: the pages of the largest polled request, and the two that
/// it begins and ends in.
const LEAST_SEGMENTS: u64 = 34;

/// A device that is ours: open for I/O, and locked, until it is dropped.
#[derive(Debug)]
pub struct OpenDevice {
    /// The descriptor for all I/O; it holds the lock.
    pub file: File,
    /// What the device is and can do.
    pub facts: DeviceFacts,
    /// The capacity of the volume on it.
    pub size: ByteLen,
    /// The file was made just now.
    pub created: bool,
}

/// Looks at a volume's device without changing or holding it. `None` for a volume in memory.
///
/// # Errors
/// Whatever would keep [`open`] from using it, but for its being in use when `busy` says that
/// this is to be expected.
pub fn probe(volume: &VolumePlan, busy: bool) -> Result<Option<(DeviceFacts, ByteLen)>, Box<DeviceError>> {
    let Backend::Path(path) = &volume.backend else { return Ok(None) };
    let fail = |reason| Box::new(DeviceError { site: volume.site.clone(), path: path.clone(), reason });
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => {
            let size = volume.size.ok_or_else(|| fail(Misuse::Missing))?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or_else(|| Path::new("."));
            if !folder.is_dir() && !folder.starts_with("/dev") {
                // The data folder is made at start; any other must be there.
                let made = folder.parent().is_some_and(Path::is_dir);
                if !made {
                    return Err(fail(Misuse::NoFolder));
                }
            }
            if folder.starts_with("/dev") {
                return Err(fail(Misuse::NotMade));
            }
            return Ok(Some((missing(size), size)));
        }
        Err(error) => return Err(fail(Misuse::Io("cannot be opened", error.into()))),
    };
    let facts = facts(&file).map_err(fail)?;
    let exclusive = match facts.kind {
        DeviceKind::Block { .. } => rustix::fs::open(path, flags | OFlags::EXCL, Mode::empty()).map(drop),
        _ => rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared),
    };
    match exclusive {
        Ok(()) => {}
        Err(Errno::BUSY | Errno::WOULDBLOCK) if busy => {}
        Err(Errno::BUSY | Errno::WOULDBLOCK) => return Err(fail(Misuse::InUse)),
        Err(error) => return Err(fail(Misuse::Io("cannot be locked", error.into()))),
    }
    let size = fit(volume, &facts).map_err(fail)?;
    Ok(Some((facts, size)))
}

/// Opens a volume's device for I/O: exclusively, direct where that works, and makes or extends
/// its file. Waits at most `wait` for whoever holds it. `None` for a volume in memory.
///
/// # Errors
/// It cannot be used; see [`Misuse`].
pub fn open(volume: &VolumePlan, wait: Duration) -> Result<Option<OpenDevice>, Box<DeviceError>> {
    let Backend::Path(path) = &volume.backend else { return Ok(None) };
    let fail = |reason| Box::new(DeviceError { site: volume.site.clone(), path: path.clone(), reason });
    let made = volume.size.map_or(Ok(false), |size| create(path, size));
    made.and_then(|created| open_path(path, volume, wait, created)).map(Some).map_err(fail)
}

/// Opens the block device of a volume again, after it was removed. Makes nothing, and waits for nobody.
///
/// # Errors
/// [`Misuse::Missing`] while there is no block device at the path; else as [`open`].
pub(super) fn reopen(volume: &VolumePlan) -> Result<OpenDevice, Misuse> {
    let Backend::Path(path) = &volume.backend else { return Err(Misuse::NotADevice) };
    let there = fs::metadata(path).is_ok_and(|there| FileTypeExt::is_block_device(&there.file_type()));
    if !there {
        return Err(Misuse::Missing);
    }
    match open_path(path, volume, Duration::ZERO, false) {
        // It went again meanwhile.
        Err(Misuse::NotMade) => Err(Misuse::Missing),
        Err(Misuse::Io(_, error))
            if error.raw_os_error().is_some_and(|code| {
                [Errno::NXIO, Errno::NODEV, Errno::NOENT].contains(&Errno::from_raw_os_error(code))
            }) =>
        {
            Err(Misuse::Missing)
        }
        other => other,
    }
}

/// What an open device is and can do now, and the capacity of the volume on it.
///
/// # Errors
/// The volume can no longer be on it.
pub(super) fn measure(volume: &VolumePlan, file: &File) -> Result<(DeviceFacts, ByteLen), Misuse> {
    let mut facts = facts(file)?;
    facts.direct = file_is_direct(file);
    let size = fit(volume, &facts)?;
    Ok((facts, size))
}

fn open_path(path: &Path, volume: &VolumePlan, wait: Duration, created: bool) -> Result<OpenDevice, Misuse> {
    let deadline = Instant::now() + wait;
    let kind = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if volume.size.is_some() && path.starts_with("/dev") => Misuse::NotMade,
        io::ErrorKind::NotFound => Misuse::Missing,
        _ => Misuse::Io("cannot be looked at", error),
    })?;
    let block = FileTypeExt::is_block_device(&kind.file_type());
    // A command device is write-protected towards hosts, but ours to write.
    let mode = if volume.read_only && !created && volume.role == crate::config::Role::Plain {
        OFlags::RDONLY
    } else {
        OFlags::RDWR
    };
    let base = mode | OFlags::CLOEXEC | if block { OFlags::EXCL } else { OFlags::empty() };
    let file = open_waiting(path, base, deadline)?;
    if !block {
        lock_waiting(&file, deadline)?;
    }
    let mut facts = facts(&file)?;
    facts.direct = file_is_direct(&file);
    let size = fit(volume, &facts)?;
    if facts.kind == DeviceKind::File && facts.size < size {
        file.set_len(size.0)
            .and_then(|()| file.sync_all())
            .map_err(|e| Misuse::Io("cannot be extended", e))?;
        facts.size = size;
    }
    if facts.kind == DeviceKind::File && volume.role == crate::config::Role::Journal {
        super::fill::fill(path, size.0).map_err(|error| Misuse::Io("cannot be filled", error))?;
    }
    Ok(OpenDevice { file, facts, size, created })
}

/// Opens with direct I/O, or without where the file system has none.
fn open_waiting(path: &Path, flags: OFlags, deadline: Instant) -> Result<File, Misuse> {
    let mut flags = flags | OFlags::DIRECT;
    loop {
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => return Ok(File::from(file)),
            Err(Errno::INVAL) if flags.contains(OFlags::DIRECT) => flags -= OFlags::DIRECT,
            Err(Errno::BUSY) if Instant::now() < deadline => thread::sleep(RETRY),
            Err(Errno::BUSY) => return Err(Misuse::InUse),
            Err(Errno::INTR) => {}
            Err(Errno::ROFS) => return Err(Misuse::ReadOnly),
            Err(error) => return Err(Misuse::Io("cannot be opened", error.into())),
        }
    }
}

/// Locks the open file description that I/O goes through: the kernel keeps it, and the lock,
/// until the last operation on it is over.
fn lock_waiting(file: &File, deadline: Instant) -> Result<(), Misuse> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(RETRY),
            Err(Errno::WOULDBLOCK) => return Err(Misuse::InUse),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Misuse::Io("cannot be locked", error.into())),
        }
    }
}

/// Makes a sparse file where there is nothing. Says whether it did.
fn create(path: &Path, size: ByteLen) -> Result<bool, Misuse> {
    if path.starts_with("/dev") {
        // A misspelt device must not become a file in a file system made of memory.
        return Ok(false);
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::EXIST) => return Ok(false),
        Err(error) => return Err(Misuse::Io("cannot be made", error.into())),
    };
    let made = file.set_len(size.0).and_then(|()| file.sync_all()).and_then(|()| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    });
    if let Err(error) = made {
        // Half a file would be taken for a volume next time.
        let _ = fs::remove_file(path);
        return Err(Misuse::Io("cannot be made", error));
    }
    Ok(true)
}

fn file_is_direct(file: &File) -> bool {
    rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(OFlags::DIRECT))
}

/// The capacity of a volume on a device, where it fits.
fn fit(volume: &VolumePlan, facts: &DeviceFacts) -> Result<ByteLen, Misuse> {
    let block = volume.block_size.bytes();
    let is_block = matches!(facts.kind, DeviceKind::Block { .. });
    if is_block && block < facts.logical_block {
        return Err(Misuse::BlockSize { volume: block, device: facts.logical_block });
    }
    if facts.zoned {
        return Err(Misuse::Zoned);
    }
    if facts.read_only && !volume.read_only {
        return Err(Misuse::ReadOnly);
    }
    // The end must be where the device can write up to.
    let unit = u64::from(block.max(facts.align));
    match volume.size {
        Some(size) if is_block && size > facts.size => {
            Err(Misuse::TooSmall { wanted: size, actual: facts.size })
        }
        Some(size) if volume.read_only && facts.kind == DeviceKind::File && size > facts.size => {
            Err(Misuse::TooSmall { wanted: size, actual: facts.size })
        }
        Some(size) if !size.0.is_multiple_of(unit) => {
            Err(Misuse::Ragged { size, block: block.max(facts.align) })
        }
        Some(size) => Ok(size),
        // A disk's last few blocks may not fill one of ours; a file's must, as it was made so.
        None if is_block && facts.size.0 >= unit => Ok(ByteLen(facts.size.0 / unit * unit)),
        None if facts.size.0 == 0 || !facts.size.0.is_multiple_of(unit) => {
            Err(Misuse::Ragged { size: facts.size, block: block.max(facts.align) })
        }
        None => Ok(facts.size),
    }
}

/// Asks the kernel about an open device or file.
fn facts(file: &File) -> Result<DeviceFacts, Misuse> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::DIOALIGN;
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, mask)
        .map_err(|error| Misuse::Io("cannot be looked at", error.into()))?;
    let dio = (stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 && stat.stx_dio_offset_align > 0)
        .then_some((stat.stx_dio_offset_align, stat.stx_dio_mem_align));
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => {
            let identity = DeviceIdentity::File { inode: stat.stx_ino, tagged: false };
            Ok(file_facts(stat.stx_size, stat.stx_blksize, dio, identity))
        }
        FileType::BlockDevice => {
            let end = rustix::fs::seek(file, SeekFrom::End(0))
                .map_err(|error| Misuse::Io("cannot be measured", error.into()))?;
            Ok(block_facts(Path::new("/sys"), stat.stx_rdev_major, stat.stx_rdev_minor, end, dio))
        }
        _ => Err(Misuse::NotADevice),
    }
}

/// Alignments in the limits that volumes work with.
fn alignment(dio: Option<(u32, u32)>, offset: u32, memory: u32) -> (u32, u32) {
    let (offset, memory) = dio.unwrap_or((offset, memory));
    let power =
        |n: u32, least: u32, most: u32| n.max(least).checked_next_power_of_two().unwrap_or(most).min(most);
    (power(offset, 512, 65_536), power(memory, 4, 4096))
}

fn file_facts(size: u64, blksize: u32, dio: Option<(u32, u32)>, identity: DeviceIdentity) -> DeviceFacts {
    let (align, memory_align) = alignment(dio, 4096, 4096);
    DeviceFacts {
        kind: DeviceKind::File,
        size: ByteLen(size),
        logical_block: 512,
        physical_block: blksize.clamp(512, 65_536),
        align,
        memory_align,
        max_transfer: u32::try_from(MAX_TRANSFER).unwrap_or(u32::MAX),
        boundary: 0,
        optimal_transfer: 0,
        max_discard: MAX_DISCARD,
        discard: true,
        discard_granularity: blksize.clamp(512, 65_536),
        zero: true,
        depth: 256,
        rotational: false,
        write_cache: true,
        poll: false,
        direct: true,
        read_only: false,
        zoned: false,
        identity,
    }
}

/// A file that would be made.
fn missing(size: ByteLen) -> DeviceFacts {
    let facts = file_facts(size.0, 4096, None, DeviceIdentity::None);
    DeviceFacts { kind: DeviceKind::Missing, ..facts }
}

/// Takes a volume's mark from a file: the volume is no more.
pub fn untag(file: &File) {
    // A file without a mark is as good, and one that keeps it is refused with a reason when it is used again.
    let _ = rustix::fs::fremovexattr(file, TAG);
}

/// What sysfs below `root` says of a block device of `size` bytes.
pub(super) fn block_facts(
    root: &Path,
    major: u32,
    minor: u32,
    size: u64,
    dio: Option<(u32, u32)>,
) -> DeviceFacts {
    let sys = SysBlock::at(root, major, minor);
    let queue = |file: &str| sys.as_ref().and_then(|sys| sys.queue(file));
    let bytes = |file: &str, fallback: u32| {
        queue(file).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(fallback)
    };
    let logical_block = bytes("logical_block_size", 512);
    let dma = bytes("dma_alignment", 511).saturating_add(1);
    let (align, memory_align) = alignment(dio, logical_block, dma);
    let max_transfer = max_transfer(&queue).clamp(u64::from(align).max(PAGE), MAX_TRANSFER);
    let max_discard = queue("discard_max_bytes").unwrap_or(0);
    let zero = queue("write_zeroes_max_bytes").is_some_and(|most| most > 0);
    let chunk = queue("chunk_sectors").unwrap_or(0).saturating_mul(512);
    let start = sys.as_ref().map_or(0, SysBlock::start);
    // A polled request that the kernel splits never ends (see kagami-ring): none that it could split.
    let whole = chunk == 0 && queue("max_segments").unwrap_or(128) >= LEAST_SEGMENTS;
    DeviceFacts {
        kind: DeviceKind::Block { major, minor },
        size: ByteLen(size),
        logical_block,
        physical_block: bytes("physical_block_size", logical_block),
        align,
        memory_align,
        max_transfer: u32::try_from(max_transfer).unwrap_or(align),
        boundary: boundary(chunk, start, u64::from(align)),
        optimal_transfer: bytes("optimal_io_size", 0),
        // Cut at the device's own units; how much it takes at once, the kernel sees to.
        max_discard: MAX_DISCARD,
        // The kernel makes zero-writes of them, which may deallocate.
        discard: max_discard > 0 && zero,
        discard_granularity: bytes("discard_granularity", logical_block),
        zero,
        depth: queue("nr_requests").and_then(|n| u16::try_from(n).ok()).unwrap_or(128).clamp(1, 1024),
        rotational: queue("rotational") == Some(1),
        write_cache: sys.as_ref().is_some_and(SysBlock::write_back),
        poll: whole && sys.as_ref().is_some_and(|sys| sys.poll(root)),
        direct: true,
        read_only: sys.as_ref().is_some_and(SysBlock::read_only),
        zoned: sys.as_ref().is_some_and(SysBlock::zoned),
        identity: sys
            .as_ref()
            .map_or(DeviceIdentity::Block { wwn: String::new(), serial: String::new(), size }, |sys| {
                sys.identity(size)
            }),
    }
}

/// The most bytes that a queue takes in one request: as many as it was set to and can do, and no more
/// pages than it has segments, as no two of ours need lie together.
fn max_transfer(queue: &impl Fn(&str) -> Option<u64>) -> u64 {
    let kib = |file: &str, fallback: u64| {
        queue(file).filter(|&kib| kib > 0).map_or(fallback, |kib| kib.saturating_mul(1024))
    };
    let segments = queue("max_segments").filter(|&most| most > 0).unwrap_or(128);
    kib("max_sectors_kb", 128 << 10)
        .min(kib("max_hw_sectors_kb", u64::MAX))
        .min(segments.saturating_mul(PAGE))
}

/// The boundary that a volume keeps to: one of the disk's every `chunk` bytes, of which the device begins
/// `start` bytes into. None where a piece between two would not be whole units and pages.
fn boundary(chunk: u64, start: u64, align: u64) -> u32 {
    let fits = chunk > 0 && chunk.is_multiple_of(align.max(PAGE)) && start.is_multiple_of(chunk);
    u32::try_from(chunk).ok().filter(|_| fits).unwrap_or(0)
}

/// Writes a volume's UUID into a file's extended attribute. `false` where the file system keeps
/// none.
///
/// # Errors
/// The system refused for another reason.
pub fn tag(file: &File, volume: Uuid) -> io::Result<bool> {
    match rustix::fs::fsetxattr(file, TAG, volume.to_string().as_bytes(), XattrFlags::empty()) {
        Ok(()) => {
            file.sync_all()?;
            Ok(true)
        }
        // ROFS and ACCESS: a read-only volume's file need not be writable for us.
        Err(Errno::NOTSUP | Errno::PERM | Errno::ROFS | Errno::ACCESS | Errno::NOSPC) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The volume that a file says it belongs to, as text, where it says any.
#[must_use]
pub fn tagged_as(file: &File) -> Option<String> {
    let mut value = [0u8; 64];
    let len = rustix::fs::fgetxattr(file, TAG, &mut value).ok()?;
    let text = std::str::from_utf8(value.get(..len)?).ok()?;
    Some(text.to_owned())
}
