//! One command after another, waiting for each: what is asked before and after a run.

use super::{Command, Connection, Host, Outcome, Status, Window};
use crate::error::Error;
use std::time::{Duration, Instant};

/// A logical unit as it describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its number.
    pub lun: u16,
    /// The number as it goes on the wire.
    pub wire: [u8; 8],
    /// Bytes in a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// It has a volatile write cache that is on (WCE=1); true also where it does not say.
    pub write_cache: bool,
}

impl Unit {
    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.block_size))
    }
}

/// The host of a single task that keeps what it reads.
struct One {
    slot: u16,
    data: Vec<u8>,
    limit: usize,
    outcome: Option<Outcome>,
}

impl Host for One {
    fn write_data(&self, _slot: u16, _offset: u32, _len: u32) -> &[u8] {
        &[0]
    }

    fn read_data(&mut self, slot: u16, _offset: u32, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.data.len()).min(bytes.len());
        if slot == self.slot {
            self.data.extend_from_slice(&bytes[..room]);
        }
    }

    fn done(&mut self, slot: u16, outcome: &Outcome) {
        if slot == self.slot {
            self.outcome = Some(*outcome);
        }
    }
}

/// Sends one command that writes nothing on an idle connection and waits for its end. Returns how
/// it ended and what it read.
///
/// # Errors
/// The connection was lost, or nothing came within `timeout`.
pub fn simple(
    connection: &mut Connection,
    window: &mut Window,
    buffer: &mut [u8],
    command: &Command,
    timeout: Duration,
) -> Result<(Outcome, Vec<u8>), Error> {
    let busy = || Error::Failed("a command needs an idle connection".to_owned());
    let slot = connection.free_slot().ok_or_else(busy)?;
    let limit = match command.data {
        super::Direction::Read(len) => len as usize,
        _ => 0,
    };
    let mut host = One { slot, data: Vec::new(), limit, outcome: None };
    let began = Instant::now();
    let mut sent = false;
    loop {
        sent = sent || connection.submit(window, command, &host);
        let lost = |lost: super::Lost| Error::Failed(lost.to_string());
        connection.send(&host).map_err(lost)?;
        let progress = connection.receive(buffer, window, &mut host).map_err(lost)?;
        if let Some(outcome) = host.outcome {
            return Ok((outcome, host.data));
        }
        if began.elapsed() > timeout {
            return Err(Error::TimedOut(format!("no answer within {} s", timeout.as_secs())));
        }
        if progress.bytes == 0 && began.elapsed() > Duration::from_millis(1) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// As often a command is given again that a unit attention condition ended: a logical unit has about fifteen kinds of
/// them, and reports each once.
const ATTENTIONS: u32 = 32;

/// [`simple`], given again where a unit attention came in between: the unit was resized, say, or is back from a loss of
/// its link.
fn attended(
    connection: &mut Connection,
    window: &mut Window,
    buffer: &mut [u8],
    command: &Command,
    timeout: Duration,
) -> Result<(Outcome, Vec<u8>), Error> {
    let mut left = ATTENTIONS;
    loop {
        let (outcome, data) = simple(connection, window, buffer, command, timeout)?;
        match outcome.status {
            Status::Check(sense) if sense.is_unit_attention() && left > 0 => left -= 1,
            _ => return Ok((outcome, data)),
        }
    }
}

/// Clears the unit attentions of a logical unit and asks for its size and cache mode.
///
/// # Errors
/// The unit is not there or not ready within `timeout`, or the connection was lost.
pub fn probe(
    connection: &mut Connection,
    window: &mut Window,
    buffer: &mut [u8],
    lun: kagami_types::Lun,
    timeout: Duration,
) -> Result<Unit, Error> {
    let wire = lun.to_wire();
    let began = Instant::now();
    loop {
        let (outcome, _) = simple(connection, window, buffer, &Command::test_unit_ready(wire), timeout)?;
        let again = match outcome.status {
            Status::Good => break,
            Status::Check(sense) if sense.is_unit_attention() => began.elapsed() < timeout,
            // NOT READY, becoming ready; BUSY.
            Status::Check(sense) if (sense.key, sense.asc) == (2, 4) => began.elapsed() < timeout,
            Status::Busy => began.elapsed() < timeout,
            _ => false,
        };
        if !again {
            return Err(Error::Failed(format!("{lun} is not ready: {}", outcome.status)));
        }
        if !matches!(outcome.status, Status::Check(sense) if sense.is_unit_attention()) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let (outcome, data) = attended(connection, window, buffer, &Command::read_capacity(wire), timeout)?;
    let last = data.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    let size = data.get(8..12).and_then(|bytes| bytes.first_chunk::<4>()).map(|b| u32::from_be_bytes(*b));
    let (Status::Good, Some(last), Some(block_size)) = (outcome.status, last, size) else {
        return Err(Error::Failed(format!("READ CAPACITY of {lun} ended with {}", outcome.status)));
    };
    if !block_size.is_power_of_two() || !(512..=65_536).contains(&block_size) {
        return Err(Error::Failed(format!("{lun} has blocks of {block_size} bytes")));
    }
    let (outcome, data) = attended(connection, window, buffer, &Command::caching_page(wire), timeout)?;
    let page = data.get(3).map(|descriptors| 4 + usize::from(*descriptors));
    let page = page.and_then(|at| data.get(at..)).unwrap_or_default();
    let write_cache = match (outcome.status, page) {
        (Status::Good, [code, _, flags, ..]) if code & 0x3f == 0x08 => flags & 0x04 != 0,
        _ => true,
    };
    Ok(Unit { lun: lun.number(), wire, block_size, blocks: last.saturating_add(1), write_cache })
}
