//! Why a device cannot be used.

use crate::config::Site;
use crate::config::units::format_size;
use kagami_types::ByteLen;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A device that cannot be used, and which key asks for it.
#[derive(Debug)]
pub struct DeviceError {
    /// Where the configuration names it.
    pub site: Site,
    /// The device or file.
    pub path: PathBuf,
    /// Why not.
    pub reason: Misuse,
}

/// Why a device cannot be used.
#[derive(Debug)]
pub enum Misuse {
    /// There is nothing at the path, and no size to make a file of.
    Missing,
    /// There is nothing at the path, and although a size is given no file is made there: a misspelt device must not become
    /// one.
    NotMade,
    /// There is nothing at the path, and no folder to make a file in.
    NoFolder,
    /// There is something that is neither a block device nor a file.
    NotADevice,
    /// Something else has it open exclusively (a file system, another array, an old process).
    InUse,
    /// It is smaller than the volume.
    TooSmall {
        /// What the volume needs.
        wanted: ByteLen,
        /// What there is.
        actual: ByteLen,
    },
    /// Its size is no whole number of the volume's blocks.
    Ragged {
        /// The size.
        size: ByteLen,
        /// The block in bytes.
        block: u32,
    },
    /// Its logical block is larger than the volume's.
    BlockSize {
        /// The volume's.
        volume: u32,
        /// The device's.
        device: u32,
    },
    /// It cannot be written, and the volume can.
    ReadOnly,
    /// It has zones that must be written in order.
    Zoned,
    /// It is not what was recorded at first use.
    NotTheSame {
        /// What was recorded.
        recorded: String,
        /// What is there.
        found: String,
    },
    /// It belongs to another volume.
    Foreign(String),
    /// The system refused.
    Io(&'static str, io::Error),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.site, self.path.display(), self.reason)
    }
}

impl std::error::Error for DeviceError {}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist; give a size to have a file made"),
            Self::NotMade => f.write_str(
                "does not exist, and under /dev no file is made; make it first, or name another folder",
            ),
            Self::NoFolder => f.write_str("cannot be made: there is no such folder"),
            Self::NotADevice => f.write_str("is neither a block device nor a file"),
            Self::InUse => f.write_str("is in use (mounted, or held by another process)"),
            Self::TooSmall { wanted, actual } => {
                write!(f, "has {}, and the volume wants {}", format_size(*actual), format_size(*wanted))
            }
            Self::Ragged { size, block } => {
                write!(
                    f,
                    "has {}, which is no whole number of blocks of {block} bytes; give a size",
                    format_size(*size)
                )
            }
            Self::BlockSize { volume, device } => write!(
                f,
                "has logical blocks of {device} bytes, and the volume's are smaller ({volume}); set block_size = {device}"
            ),
            Self::ReadOnly => f.write_str("is read-only; set read_only = true to serve it so"),
            Self::Zoned => f.write_str("is a zoned device, which can only be written in order"),
            Self::NotTheSame { recorded, found } => write!(
                f,
                "is not the device that was recorded: {recorded} was, {found} is there; \
                 if that is intended, start once with --adopt and the volume's name"
            ),
            Self::Foreign(owner) => write!(
                f,
                "belongs to volume {owner}; if that is intended, start once with --adopt and the volume's name"
            ),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
        }
    }
}
