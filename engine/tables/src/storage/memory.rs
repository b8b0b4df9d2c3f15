//! Memory that behaves like a file system until it is told to crash.
//!
//! For tests and the simulator. Appended bytes are volatile until synced; a crash keeps any
//! prefix of them, and may replace any 512-byte sector of that prefix by zeroes, as sectors
//! reach a disk in any order.

use super::Storage;
use std::io;

const SECTOR: usize = 512;

/// A log in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    log: Option<Vec<u8>>,
    /// How much of `log` survives whatever happens.
    durable: usize,
    /// What a crash inside `replace` could have left instead.
    replacing: Option<Vec<u8>>,
    audit: String,
    audit_durable: usize,
    /// Operations left before the power goes; `None`: for ever.
    fuse: Option<u32>,
    dead: bool,
    /// How many syncs will fail.
    bad_syncs: u32,
}

/// How a crash turns out. Two runs with the same values end the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crash {
    /// Picks how much of the unsynced bytes survives, which sectors are lost, and whether a
    /// replacement under way took effect.
    pub seed: u64,
}

impl Memory {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The power goes during the operation that follows `operations` more.
    #[must_use]
    pub fn with_fuse(mut self, operations: u32) -> Self {
        self.fuse = Some(operations);
        self
    }

    /// The next `count` syncs fail, as on a device with a write error.
    pub fn refuse_syncs(&mut self, count: u32) {
        self.bad_syncs = count;
    }

    /// Whether the power has gone.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The bytes of the log as they are now.
    #[must_use]
    pub fn log(&self) -> Option<&[u8]> {
        self.log.as_deref()
    }

    /// Puts bytes in the log's place, durably: for tests of damage.
    pub fn set_log(&mut self, bytes: Vec<u8>) {
        self.durable = bytes.len();
        self.log = Some(bytes);
    }

    /// The audit log as it is now.
    #[must_use]
    pub fn audit_text(&self) -> &str {
        &self.audit
    }

    /// What the next process finds after this one was killed: everything written is there,
    /// synced or not, and may still be lost in a crash.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        Self { replacing: None, fuse: None, dead: false, ..self.clone() }
    }

    /// What is found after the power came back.
    #[must_use]
    pub fn after(&self, crash: Crash) -> Self {
        let mut random = SplitMix(crash.seed);
        let mut log = self.log.clone();
        let mut durable = self.durable;
        if let Some(new) = &self.replacing
            && random.next().is_multiple_of(2)
        {
            log = Some(new.clone());
            durable = new.len();
        }
        if let Some(bytes) = &mut log {
            let volatile = bytes.len().saturating_sub(durable);
            bytes.truncate(durable + random.below(volatile + 1));
            let end = bytes.len();
            let mut sector = durable;
            while sector < end {
                let next = (sector / SECTOR + 1) * SECTOR;
                if random.next().is_multiple_of(4) {
                    bytes[sector..next.min(end)].fill(0);
                }
                sector = next;
            }
        }
        let mut audit = self.audit.clone();
        let keep = self.audit_durable + random.below(audit.len() - self.audit_durable + 1);
        let keep = (0..=keep).rev().find(|at| audit.is_char_boundary(*at)).unwrap_or(0);
        audit.truncate(keep);
        Self {
            durable: log.as_ref().map_or(0, Vec::len),
            log,
            replacing: None,
            audit_durable: audit.len(),
            audit,
            fuse: None,
            dead: false,
            bad_syncs: 0,
        }
    }

    /// One operation on the fuse; says whether this is the one in which the power goes.
    fn burn(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        match &mut self.fuse {
            Some(0) => {
                self.dead = true;
                Ok(true)
            }
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }
}

fn off<T>() -> io::Result<T> {
    Err(io::Error::other("the power went"))
}

impl Storage for Memory {
    fn read(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        match &self.log {
            Some(log) if log.len() > limit => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
            log => Ok(log.clone()),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let last = self.burn()?;
        self.log.get_or_insert_default().extend_from_slice(bytes);
        if last { off() } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.burn()? {
            return off();
        }
        if let Some(left) = self.bad_syncs.checked_sub(1) {
            self.bad_syncs = left;
            return Err(io::Error::other("a write error"));
        }
        self.durable = self.log.as_ref().map_or(0, Vec::len);
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.burn()? {
            self.replacing = Some(bytes.to_vec());
            return off();
        }
        self.set_log(bytes.to_vec());
        Ok(())
    }

    fn audit(&mut self, lines: &str) -> io::Result<()> {
        let last = self.burn()?;
        self.audit.push_str(lines);
        if last { off() } else { Ok(()) }
    }

    fn audit_sync(&mut self) -> io::Result<()> {
        if self.burn()? {
            return off();
        }
        self.audit_durable = self.audit.len();
        Ok(())
    }

    fn audit_tail(&mut self) -> io::Result<String> {
        Ok(self.audit.clone())
    }
}

/// A small generator: the crash must be repeatable, not unpredictable.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }
}
