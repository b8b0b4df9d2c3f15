//! What is behind a volume: a file of the kernel's, or a back end from outside.

use crate::backend::Backend;
use kagami_reactor::{Completion, Errno, FileId, Op, Submit, Token};
use kagami_types::{BlockError, Lba, Time};

#[derive(Debug)]
pub(crate) enum Device {
    File(FileId),
    /// It was removed, and its name given up.
    Released,
    Other(Box<dyn Backend>),
}

impl Device {
    /// The name that operations carry; a back end from outside does not look at it.
    pub(crate) fn file(&self) -> FileId {
        match self {
            Self::File(file) => *file,
            Self::Other(_) | Self::Released => FileId(u32::MAX),
        }
    }

    #[allow(clippy::result_large_err, reason = "the operation itself comes back")]
    pub(crate) fn submit(&mut self, io: &mut dyn Submit, token: Token, op: Op) -> Result<(), Op> {
        match self {
            Self::File(_) => io.submit(token, op),
            // Nothing is taken in while the device is gone.
            Self::Released => Err(op),
            Self::Other(backend) => backend.submit(io, token, op),
        }
    }

    pub(crate) fn poll(&mut self, io: &mut dyn Submit, done: &mut Vec<Completion>) {
        match self {
            Self::File(_) | Self::Released => {}
            Self::Other(backend) => backend.poll(io, done),
        }
    }

    pub(crate) fn next_poll(&self) -> Time {
        match self {
            Self::File(_) | Self::Released => Time::NEVER,
            Self::Other(backend) => backend.next_poll(),
        }
    }
}

/// What a device operation was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Read,
    Write,
    /// Discard or zero.
    Bulk,
    Flush,
}

/// Numbers of `errno.h` that [`Errno`] has no name for, as they concern nobody else.
mod errno {
    pub(super) const EPERM: i32 = 1;
    pub(super) const ENXIO: i32 = 6;
    pub(super) const EBADF: i32 = 9;
    pub(super) const EAGAIN: i32 = 11;
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const EACCES: i32 = 13;
    pub(super) const ENOTTY: i32 = 25;
    pub(super) const EROFS: i32 = 30;
    pub(super) const ENOSYS: i32 = 38;
    pub(super) const ESHUTDOWN: i32 = 108;
    pub(super) const EREMOTEIO: i32 = 121;
    pub(super) const EDQUOT: i32 = 122;
}

/// Whether the device says that it cannot do a discard or zeroing at all.
pub(crate) fn unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::NOT_SUPPORTED | Errno::INVALID) || matches!(errno.0, errno::ENOTTY | errno::ENOSYS)
}

/// What a host is told of the kernel's error; `lba` is the first block concerned. Of a device that is
/// `gone` the kernel says no more than that it could not be reached.
pub(crate) fn error(errno: Errno, gone: bool, doing: Doing, lba: Lba) -> BlockError {
    match errno {
        Errno::TIMED_OUT | Errno::CANCELLED => {}
        _ if gone => return BlockError::Gone,
        _ => {}
    }
    match errno {
        Errno::IO | Errno::NO_DATA | Errno::BAD_DATA | Errno(errno::EREMOTEIO) => match doing {
            Doing::Read => BlockError::ReadMedium(lba),
            Doing::Write | Doing::Bulk => BlockError::WriteMedium(lba),
            // Which of all the blocks written before was lost, nobody says.
            Doing::Flush => BlockError::Device,
        },
        Errno::NO_SPACE | Errno(errno::EDQUOT) => BlockError::NoSpace,
        Errno::NO_DEVICE | Errno::NO_LINK | Errno(errno::ENXIO | errno::EBADF | errno::ESHUTDOWN) => {
            BlockError::Gone
        }
        Errno::TIMED_OUT => BlockError::TimedOut,
        Errno::CANCELLED => BlockError::Aborted,
        Errno(errno::EROFS | errno::EPERM | errno::EACCES) => BlockError::WriteProtected,
        Errno(errno::EAGAIN | errno::ENOMEM) => BlockError::Busy,
        Errno::NOT_SUPPORTED => BlockError::Unsupported,
        _ => BlockError::Device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_the_host_can_act_on() {
        let lba = Lba(7);
        for (errno, doing, expected) in [
            (Errno::IO, Doing::Read, BlockError::ReadMedium(lba)),
            (Errno::IO, Doing::Write, BlockError::WriteMedium(lba)),
            (Errno::IO, Doing::Bulk, BlockError::WriteMedium(lba)),
            (Errno::IO, Doing::Flush, BlockError::Device),
            (Errno::BAD_DATA, Doing::Read, BlockError::ReadMedium(lba)),
            (Errno::NO_SPACE, Doing::Write, BlockError::NoSpace),
            (Errno(122), Doing::Write, BlockError::NoSpace),
            (Errno::NO_DEVICE, Doing::Read, BlockError::Gone),
            (Errno(6), Doing::Read, BlockError::Gone),
            (Errno(30), Doing::Write, BlockError::WriteProtected),
            (Errno(12), Doing::Write, BlockError::Busy),
            (Errno::INVALID, Doing::Write, BlockError::Device),
        ] {
            assert_eq!(error(errno, false, doing, lba), expected, "{errno:?} {doing:?}");
        }
        assert_eq!(error(Errno::IO, true, Doing::Read, lba), BlockError::Gone);
        assert!(unsupported(Errno::NOT_SUPPORTED) && unsupported(Errno(25)) && !unsupported(Errno::IO));
    }
}
