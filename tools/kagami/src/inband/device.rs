//! A command device, as the client of orders sees it: bytes to read and to write.

use kagami_admin::Refusal;
use kagami_initiator::{Disk, Error, Status};
use std::time::Duration;

/// The product that a command device names in its INQUIRY data.
pub const PRODUCT: &str = "COMMAND DEVICE";
/// RESERVATION CONFLICT (SAM-5 5.3.1).
const RESERVATION_CONFLICT: u8 = 0x18;

/// Something to give orders through. Offsets and lengths are multiples of its block size.
pub trait Device {
    /// Bytes in all.
    fn bytes(&self) -> u64;

    /// Bytes of a block.
    fn block(&self) -> usize;

    /// Reads `len` bytes from byte `at` on.
    fn read(&mut self, at: u64, len: usize) -> Result<Vec<u8>, Trouble>;

    /// Writes bytes from byte `at` on. It may be done twice.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Trouble>;

    /// How long each READ and WRITE may take from now on, where the device can say.
    fn set_patience(&mut self, patience: Duration);
}

/// Why a READ or WRITE was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Refused: the slot may be held by another request. To be found out by reading it.
    Held,
    /// The device is busy, or the way to it is cut for now.
    Passing(Refusal),
    /// It will not work.
    Lasting(Refusal),
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Held => Self::state("the slot is held by another request"),
            Trouble::Passing(refusal) | Trouble::Lasting(refusal) => refusal,
        }
    }
}

/// A command device over iSCSI.
#[derive(Debug)]
pub struct Remote(pub Disk);

impl Device for Remote {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn block(&self) -> usize {
        self.0.block_size() as usize
    }

    fn read(&mut self, at: u64, len: usize) -> Result<Vec<u8>, Trouble> {
        let len =
            u32::try_from(len).map_err(|_| Trouble::Lasting(Refusal::failed("too much for one READ")))?;
        self.0.read(at, len).map_err(trouble)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Trouble> {
        self.0.write(at, bytes).map_err(trouble)
    }

    fn set_patience(&mut self, patience: Duration) {
        self.0.set_patience(patience);
    }
}

fn trouble(error: Error) -> Trouble {
    match &error {
        Error::Status { status: Status::Other(RESERVATION_CONFLICT), .. } => Trouble::Held,
        Error::Status { status: Status::Busy, .. } => Trouble::Passing(refusal(&error)),
        // NOT READY: the far array of a virtual volume is not reached, or the device is starting.
        Error::Status { status: Status::Check(sense), .. } if sense.key == 2 => {
            Trouble::Passing(refusal(&error))
        }
        Error::Unreachable(_) | Error::Lost(_) => Trouble::Passing(refusal(&error)),
        Error::Status { .. } | Error::TimedOut(_) | Error::Failed(_) => Trouble::Lasting(refusal(&error)),
    }
}

/// The exit code and words of an initiator's error.
pub fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Unreachable(why) | Error::Lost(why) => Refusal::unreachable(why.clone()),
        Error::TimedOut(why) => Refusal::timed_out(why.clone()),
        Error::Status { status: Status::Busy, .. } => Refusal::timed_out(error.to_string()),
        Error::Status { status: Status::Check(sense), .. } if sense.key == 2 => {
            Refusal::unreachable(format!("{error} (not ready)"))
        }
        Error::Status { .. } | Error::Failed(_) => Refusal::failed(error.to_string()),
    }
}
