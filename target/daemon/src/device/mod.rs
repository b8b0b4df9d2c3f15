//! Devices behind volumes: what they are, what they can do, and opening them for ourselves.
//!
//! [`probe`] looks at a path without changing anything, for `--check`. [`open()`] opens it for
//! I/O: exclusively, on the very descriptor that I/O goes through, waiting a bounded time for a
//! predecessor whose I/O may still run in the kernel after it was killed (array.md 8). Limits
//! and alignment are asked of the kernel (`statx`, sysfs), not assumed.
//!
//! [`Watch`] keeps an eye on the block devices that are served: they may go, come back and grow.
//!
//! [`bind`](crate::bind) calls it at start and on reload; nothing here is on the way of a
//! command.

mod error;
mod fill;
mod holes;
mod open;
mod sysfs;
#[cfg(test)]
mod tests;
mod watch;

pub use error::{DeviceError, Misuse};
pub use holes::holes;
pub use open::{OpenDevice, open, probe, tag, tagged_as, untag};
pub use watch::{DeviceEvent, Watch};

use kagami_tables::DeviceIdentity;
use kagami_types::ByteLen;
use kagami_volume::DeviceLimits;

/// What is known of a device or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// A block device, or a file.
    pub kind: DeviceKind,
    /// Its size now.
    pub size: ByteLen,
    /// Its logical block in bytes; 512 for a file.
    pub logical_block: u32,
    /// Its physical block in bytes; for a file, what its file system says.
    pub physical_block: u32,
    /// Offsets and lengths of direct I/O are multiples of this.
    pub align: u32,
    /// Memory of direct I/O starts at multiples of this.
    pub memory_align: u32,
    /// The most bytes of one operation, with every page of its memory apart from the others.
    pub max_transfer: u32,
    /// No operation crosses a multiple of this many bytes, as the device would split it there; 0: it has
    /// no such boundary, or none that can be kept.
    pub boundary: u32,
    /// The transfer that it likes best, in bytes; 0: it does not say.
    pub optimal_transfer: u32,
    /// The most bytes of one discard.
    pub max_discard: u64,
    /// Whether it discards so that zeroes are left (a file: punches holes). Of a block device that is asked
    /// for with `fallocate`, which the kernel makes of writing zeroes with leave to deallocate: a discard
    /// alone (`BLKDISCARD`) promises nothing of what is read afterwards, and we promise zeroes (LBPRZ).
    pub discard: bool,
    /// The unit of discards in bytes.
    pub discard_granularity: u32,
    /// Whether it writes zeroes without being sent any.
    pub zero: bool,
    /// Operations it has at once.
    pub depth: u16,
    /// Turning disks.
    pub rotational: bool,
    /// It has a volatile write cache.
    pub write_cache: bool,
    /// Its driver can be polled for completions (NVMe poll queues).
    pub poll: bool,
    /// Direct I/O works; where not, a file is used through the page cache.
    pub direct: bool,
    /// It cannot be written.
    pub read_only: bool,
    /// It can only be written in order (a zoned device, SBC-4 4.4.2 host-managed or host-aware).
    pub zoned: bool,
    /// What makes it this device and no other.
    pub identity: DeviceIdentity,
}

impl DeviceFacts {
    /// The limits that a volume on it works with; `depth`: the most operations at once that are wanted.
    #[must_use]
    pub fn limits(&self, depth: u32) -> DeviceLimits {
        DeviceLimits {
            align: self.align,
            memory_align: self.memory_align,
            max_transfer: self.max_transfer,
            boundary: self.boundary,
            max_discard: self.max_discard,
            depth: u16::try_from(depth).unwrap_or(u16::MAX).min(self.depth).max(1),
            discard: self.discard,
            zero: self.zero,
            volatile: self.write_cache,
        }
    }

    /// Whether its reads and writes go through the polled ring: the poll queues take direct I/O only.
    #[must_use]
    pub fn is_polled(&self) -> bool {
        self.poll && self.direct
    }
}

/// The two kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A block device, by its number.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A regular file.
    File,
    /// A regular file that would be made at start.
    Missing,
}
