//! A logical unit over a [`Session`]: made ready, described, read and written.
//!
//! What passes by itself is waited for, up to a time-out: unit attentions, BUSY, NOT READY, aborted
//! commands; a lost connection is opened again, by any of the address's portals, and the command sent
//! again. So this is for reads, and for writes that may safely be done twice. Used by the `kagami` tool.

use crate::Error;
use crate::connect::{Connector, isid};
use crate::scsi::{Command, Sense, Status};
use crate::session::Session;
use kagami_iscsi::pdu::Isid;
use kagami_types::Lun;
use std::time::{Duration, Instant};

/// Between two attempts, at first and at most.
const PAUSE: Duration = Duration::from_millis(5);
const MOST_PAUSE: Duration = Duration::from_millis(500);

/// An attempt that takes longer is given up with its connection: the other end may be gone without a word.
const ATTEMPT: Duration = Duration::from_secs(10);

/// What a logical unit says of itself (SPC-5 6.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// T10 VENDOR IDENTIFICATION, without the spaces behind it.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION.
    pub product: String,
    /// PRODUCT REVISION LEVEL.
    pub revision: String,
}

/// A logical unit that can be read and written.
#[derive(Debug)]
pub struct Disk {
    connector: Connector,
    isid: Isid,
    lun: [u8; 8],
    session: Option<Session>,
    patience: Duration,
    identity: Identity,
    block_size: u32,
    blocks: u64,
}

impl Disk {
    /// Logs in and asks the unit what it is. Each command, with all its attempts, may take `patience`.
    ///
    /// # Errors
    /// Nobody is there, the login is refused, there is no such unit, or it does not become ready in time.
    pub fn open(connector: Connector, patience: Duration) -> Result<Self, Error> {
        let number = connector.url.lun;
        let lun =
            Lun::new(number).ok_or_else(|| Error::Failed(format!("there is no LUN {number}")))?.to_wire();
        let mut run = [0; 6];
        getrandom::fill(&mut run).map_err(|_| Error::Failed("the system has no random bytes".to_owned()))?;
        let [a, b, c, d, e, f] = run;
        let isid = isid(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
        // The first connection is not tried twice: who is not there is told so at once.
        let session = Some(Session::open(&connector, isid)?);
        let identity = Identity { vendor: String::new(), product: String::new(), revision: String::new() };
        let mut disk = Self { connector, isid, lun, session, patience, identity, block_size: 0, blocks: 0 };
        let inquiry = disk.run("INQUIRY", &Command::inquiry(lun), &[])?;
        // Qualifier 3: there is no such unit (SPC-5 6.6.2).
        if inquiry.first().is_none_or(|byte| byte >> 5 == 3) {
            let url = &disk.connector.url;
            return Err(Error::Unreachable(format!("{url}: there is no LUN {number} for this initiator")));
        }
        disk.identity = identity_of(&inquiry);
        disk.run("TEST UNIT READY", &Command::test_unit_ready(lun), &[])?;
        disk.capacity()?;
        Ok(disk)
    }

    /// What it says of itself.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Bytes of a block: a power of two from 512 to 65,536.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.block_size))
    }

    /// How long each command may take from now on.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Reads `len` bytes from byte `at` on; both are multiples of the block size.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(&mut self, at: u64, len: u32) -> Result<Vec<u8>, Error> {
        let (lba, blocks) = self.blocks_of(at, len)?;
        let data = self.run("READ", &Command::read(self.lun, lba, blocks, self.block_size), &[])?;
        if data.len() == len as usize {
            return Ok(data);
        }
        Err(Error::Failed(format!("READ brought {} bytes of {len}", data.len())))
    }

    /// Writes `data` from byte `at` on; both are multiples of the block size. It may be done twice.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn write(&mut self, at: u64, data: &[u8]) -> Result<(), Error> {
        let len =
            u32::try_from(data.len()).map_err(|_| Error::Failed("too much for one WRITE".to_owned()))?;
        let (lba, blocks) = self.blocks_of(at, len)?;
        self.run("WRITE", &Command::write(self.lun, lba, blocks, self.block_size, false), data).map(drop)
    }

    /// Logs out.
    pub fn close(mut self) {
        if let Some(session) = self.session.take() {
            session.close();
        }
    }

    fn blocks_of(&self, at: u64, len: u32) -> Result<(u64, u32), Error> {
        let size = self.block_size.max(1);
        if !at.is_multiple_of(u64::from(size)) || !len.is_multiple_of(size) {
            return Err(Error::Failed(format!("{len} bytes at {at} are not whole blocks of {size}")));
        }
        Ok((at / u64::from(size), len / size))
    }

    fn capacity(&mut self) -> Result<(), Error> {
        let data = self.run("READ CAPACITY", &Command::read_capacity(self.lun), &[])?;
        let last = data.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
        let size = data.get(8..12).and_then(|bytes| bytes.first_chunk::<4>()).map(|b| u32::from_be_bytes(*b));
        let (Some(last), Some(size)) = (last, size) else {
            return Err(Error::Failed("READ CAPACITY brought too little".to_owned()));
        };
        if !size.is_power_of_two() || !(512..=65_536).contains(&size) {
            return Err(Error::Failed(format!("the unit has blocks of {size} bytes")));
        }
        self.block_size = size;
        self.blocks = last.saturating_add(1);
        Ok(())
    }

    /// Runs a command until it ends with GOOD, or otherwise than by what passes, or the time is over.
    fn run(&mut self, what: &'static str, command: &Command, data: &[u8]) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + self.patience;
        let mut pause = PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.attempt(what, command, data, left.min(ATTEMPT)) {
                Ok(data) => return Ok(data),
                Err(error) => error,
            };
            let news = match &error {
                Error::Status { status: Status::Check(sense), .. } => match passing(*sense) {
                    Some(at_once) => at_once,
                    None => return Err(error),
                },
                Error::Status { status: Status::Busy, .. } => false,
                Error::Lost(_) | Error::Unreachable(_) | Error::TimedOut(_) => {
                    self.session = None;
                    false
                }
                Error::Status { .. } | Error::Failed(_) => return Err(error),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(error);
            }
            if !news {
                std::thread::sleep(pause.min(left));
                pause = pause.saturating_mul(2).min(MOST_PAUSE);
            }
        }
    }

    fn attempt(
        &mut self,
        what: &'static str,
        command: &Command,
        data: &[u8],
        time: Duration,
    ) -> Result<Vec<u8>, Error> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::open(&self.connector, self.isid)?),
        };
        let (outcome, read) = session.command(command, data, time)?;
        match outcome.status {
            Status::Good => Ok(read),
            status => Err(Error::Status { what, status }),
        }
    }
}

/// Whether a sense passes by itself, and then whether the command may be sent again at once (SPC-5 4.4).
fn passing(sense: Sense) -> Option<bool> {
    match (sense.key, sense.asc, sense.ascq) {
        // Unit attention: told once.
        (0x6, ..) => Some(true),
        // Becoming ready (04/01), or the way to it is cut for now (08/00).
        (0x2, 0x04, 0x01) | (0x2, 0x08, 0x00) => Some(false),
        // Aborted by the target, to be sent again.
        (0xb, ..) => Some(false),
        _ => None,
    }
}

fn identity_of(inquiry: &[u8]) -> Identity {
    let text = |range: std::ops::Range<usize>| {
        let bytes = inquiry.get(range).unwrap_or_default();
        let text: String =
            bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { ' ' }).collect();
        text.trim_end().to_owned()
    };
    Identity { vendor: text(8..16), product: text(16..32), revision: text(32..36) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_and_what_does_not() {
        let sense = |key, asc, ascq| Sense { key, asc, ascq };
        assert_eq!(passing(sense(6, 0x29, 1)), Some(true));
        assert_eq!(passing(sense(2, 4, 1)), Some(false));
        assert_eq!(passing(sense(2, 4, 3)), None);
        assert_eq!(passing(sense(5, 0x25, 0)), None);
        assert_eq!(passing(sense(7, 0x27, 0)), None);
    }

    #[test]
    fn an_identity_is_text() {
        let mut inquiry = vec![0; 36];
        inquiry[8..32].copy_from_slice(b"KAGAMI  COMMAND DEVICE  ");
        inquiry[32] = 7;
        let identity = identity_of(&inquiry);
        assert_eq!((identity.vendor.as_str(), identity.product.as_str()), ("KAGAMI", "COMMAND DEVICE"));
        assert_eq!(identity.revision, "");
        assert_eq!(identity_of(&[]).vendor, "");
    }
}
