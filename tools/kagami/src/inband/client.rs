//! One order through a command device: `docs/formats.md`, "To give an order".
//!
//! ```text
//!   pick a slot --> WRITE --> READ back --> READ the result until it is done --> free the slot
//!      ^              | held      | not ours            | the slot lost it (the array restarted)
//!      +--------------+-----------+---------------------+   the same record again
//! ```
//!
//! The very same record is written every time, so nothing is done twice. Bounded by a time-out.

use super::device::{Device, Trouble};
use kagami_admin::Refusal;
use kagami_orders::{OrderResult, RecordError, State, layout, request, result};
use std::time::{Duration, Instant};

/// Between two looks at a result, at first and at most.
const LOOK: Duration = Duration::from_micros(500);
const MOST_LOOK: Duration = Duration::from_millis(100);
/// Between two tries for a slot, at first and at most.
const PAUSE: Duration = Duration::from_millis(1);
const MOST_PAUSE: Duration = Duration::from_millis(250);
/// Slots that are looked at and found in use before one in use is tried: its result may be read.
const POLITE: u32 = 24;
/// After so long without a sign of our order, the slot is looked at.
const DOUBT: Duration = Duration::from_millis(250);

/// A result, and its bytes for whoever checks its signature.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it says.
    pub result: OrderResult,
    /// Its record, of the stated length.
    pub record: Vec<u8>,
}

/// Something that brings a whole record to an array, and its result back.
pub trait Courier {
    /// Gives a record until there is a result, at most until `deadline`.
    fn give(&mut self, record: &[u8], deadline: Instant) -> Result<Answer, Refusal>;
}

/// Gives whole records.
#[derive(Debug)]
pub struct Client<D> {
    device: D,
    slots: u32,
    dice: Dice,
}

/// Where an order stands in a slot.
enum Found {
    Done(Box<Answer>),
    /// The slot is not ours any more, or never was.
    Gone,
}

impl<D: Device> Client<D> {
    /// Gives orders through that device.
    pub fn new(device: D) -> Result<Self, Refusal> {
        let slots = layout::slots(device.bytes());
        let half = usize::try_from(layout::HALF).unwrap_or(usize::MAX);
        if slots == 0 || device.block() == 0 || half % device.block() != 0 {
            return Err(Refusal::usage("it is too small for a command device, or its blocks are too large"));
        }
        Ok(Self { device, slots, dice: Dice::new()? })
    }

    fn record(&mut self, record: &[u8], deadline: Instant) -> Result<Answer, Refusal> {
        let block = self.device.block();
        let mut padded = record.to_vec();
        padded.resize(record.len().next_multiple_of(block), 0);
        let (mut pause, mut tries, mut wrote) = (PAUSE, 0, false);
        let mut last = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(too_late(wrote, last));
            }
            self.device.set_patience(left);
            tries += 1;
            let slot = self.dice.below(self.slots);
            match self.attempt(slot, &padded, tries <= POLITE, &mut wrote, deadline) {
                Ok(Some(answer)) => {
                    self.free(slot, block);
                    return Ok(answer);
                }
                // In use. While there may be free ones the next look costs little.
                Ok(None) if tries <= POLITE => continue,
                Ok(None) | Err(Trouble::Held) => {}
                Err(Trouble::Passing(refusal)) => last = Some(refusal),
                Err(Trouble::Lasting(refusal)) => return Err(refusal),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // Not all at once.
            let pause_now = pause.mul_f64(0.5 + f64::from(self.dice.below(1000)) / 1000.0);
            std::thread::sleep(pause_now.min(left));
            pause = pause.saturating_mul(2).min(MOST_PAUSE);
        }
    }

    /// The device, for who closes it.
    pub fn into_device(self) -> D {
        self.device
    }

    /// One slot: its answer, or `None` where it is not ours.
    fn attempt(
        &mut self,
        slot: u32,
        padded: &[u8],
        polite: bool,
        wrote: &mut bool,
        deadline: Instant,
    ) -> Result<Option<Answer>, Trouble> {
        let block = self.device.block();
        let at = layout::request_at(slot);
        if polite && self.device.read(at, block)?.iter().any(|byte| *byte != 0) {
            return Ok(None);
        }
        match self.device.write(at, padded) {
            Ok(()) => *wrote = true,
            Err(Trouble::Held) => {}
            Err(other) => {
                // It may have arrived.
                *wrote = true;
                return Err(other);
            }
        }
        let Some(id) = request::id_of(padded) else { return Ok(None) };
        if request::id_of(&self.device.read(at, block)?) != Some(id) {
            return Ok(None);
        }
        match self.wait(slot, padded, deadline)? {
            Found::Done(answer) => Ok(Some(*answer)),
            Found::Gone => Ok(None),
        }
    }

    /// Looks at the result half until it has the end of our order.
    fn wait(&mut self, slot: u32, padded: &[u8], deadline: Instant) -> Result<Found, Trouble> {
        let id = request::id_of(padded);
        let half = usize::try_from(layout::HALF).unwrap_or(0);
        let (mut pause, mut seen) = (LOOK, Instant::now());
        loop {
            let bytes = self.device.read(layout::result_at(slot), half)?;
            match OrderResult::decode(&bytes) {
                Ok(result) if Some(result.id) == id => {
                    if result.state == State::Done {
                        let record = result::whole(&bytes).unwrap_or_default().to_vec();
                        return Ok(Found::Done(Box::new(Answer { result, record })));
                    }
                    seen = Instant::now();
                }
                Ok(_) | Err(RecordError::Incomplete(_)) => {}
                // Said by who has the checksum right: waiting does not help.
                Err(error) => return Err(Trouble::Lasting(Refusal::failed(format!("the result: {error}")))),
            }
            if seen.elapsed() > DOUBT {
                let block = self.device.block();
                if request::id_of(&self.device.read(layout::request_at(slot), block)?) != id {
                    return Ok(Found::Gone);
                }
                seen = Instant::now();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::Lasting(too_late(true, None)));
            }
            std::thread::sleep(pause.min(left));
            pause = pause.mul_f64(1.5).min(MOST_LOOK);
        }
    }

    /// The result is here, so the slot is for others. Where this fails it frees itself later.
    fn free(&mut self, slot: u32, block: usize) {
        self.device.set_patience(Duration::from_secs(1));
        let _ = self.device.write(layout::request_at(slot), &vec![0; block]);
    }
}

impl<D: Device> Courier for Client<D> {
    fn give(&mut self, record: &[u8], deadline: Instant) -> Result<Answer, Refusal> {
        self.record(record, deadline)
    }
}

fn too_late(wrote: bool, last: Option<Refusal>) -> Refusal {
    match (wrote, last) {
        (false, Some(refusal)) => refusal,
        (false, None) => Refusal::timed_out("every slot of the command device is in use; try again later"),
        (true, last) => {
            let why = last.map(|refusal| format!(" ({})", refusal.reason)).unwrap_or_default();
            Refusal::timed_out(format!("no result in time{why}; whether it was done is not known"))
        }
    }
}

/// Random enough to spread hosts over slots.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new() -> Result<Self, Refusal> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|_| Refusal::failed("the system has no random bytes"))?;
        Ok(Self(u64::from_le_bytes(seed) | 1))
    }

    /// A number below `limit`, which is not 0 (SplitMix64).
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        u32::try_from(word % u64::from(limit.max(1))).unwrap_or(0)
    }
}
