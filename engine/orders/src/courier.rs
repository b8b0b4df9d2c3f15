//! The host's side of a command device: one record, from a free slot to its result, whatever happens on the way.
//!
//! ```text
//!   choose --WRITE--> look --READ, again and again--> free --WRITE zeroes--> over
//!      ^   held, busy,  |  empty, or another's:
//!      +--- lost -------+  the array was started again
//! ```
//!
//! The record is the same each time, so the array knows by its id that it was given before. A [`Courier`] does no I/O and
//! reads no clock: [`step`](Courier::step) says what to do, and is told how it ended. Who passes orders on to another array
//! (`kagamid`) drives one, and so do the simulator's hosts.

use crate::layout::{self, HALF, MAX_RECORD};
use crate::{Code, Order, Request, State, request, result, slots};
use kagami_types::{Time, Uuid};
use std::time::Duration;

/// How long the device may be out of reach before a record that it has not seen is given up.
pub const REACH: Duration = Duration::from_secs(10);
/// Pauses between two looks at a result: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// The bytes of zeroes that free a slot; whole blocks of every device.
const ZEROES: usize = 4096;

/// How a command to the device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// RESERVATION CONFLICT: the slot is held.
    Held,
    /// It is to be tried again.
    Busy,
    /// The device cannot be reached, or it is not known what became of the command.
    Unreachable,
    /// It refuses.
    Refused,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before that.
    Wait(Time),
    /// A WRITE of these bytes from that byte of the device on, with zeroes up to a whole block; its end is told to
    /// [`Courier::written`].
    Write(u64, Vec<u8>),
    /// A READ of so many bytes from that byte on; its end is told to [`Courier::read`].
    Read(u64, u32),
    /// It is over: the bytes of the result, or why there is none.
    Done(Result<Vec<u8>, (Code, String)>),
}

#[derive(Clone, Debug)]
enum Stage {
    Choose { from: Time },
    Writing,
    Look { from: Time },
    Reading,
    Free(Vec<u8>),
    Freeing(Vec<u8>),
    Over(Result<Vec<u8>, (Code, String)>),
}

/// One record on its way.
#[derive(Clone, Debug)]
pub struct Courier {
    record: Vec<u8>,
    id: Uuid,
    is_change: bool,
    begun: Time,
    patience: Duration,
    choice: u64,
    slot: u32,
    pause: Duration,
    /// It was taken by a slot once.
    taken: bool,
    /// A change was sent, and nobody knows whether it arrived.
    in_doubt: bool,
    stage: Stage,
}

impl Courier {
    /// A whole record that may take so long; `seed` chooses slots.
    #[must_use]
    pub fn new(record: &[u8], patience: Duration, seed: u64, now: Time) -> Self {
        let order = Request::decode(record).ok().and_then(|request| Order::by_number(request.order));
        Self {
            record: record.to_vec(),
            id: request::id_of(record).unwrap_or_default(),
            is_change: order.is_none_or(Order::is_change),
            begun: now,
            patience,
            choice: seed,
            slot: 0,
            pause: PAUSES.0,
            taken: false,
            in_doubt: false,
            stage: Stage::Choose { from: now },
        }
    }

    /// What is to be done now. `bytes` is the length of the device, once it is known. While a command is under way there
    /// is nothing to ask.
    pub fn step(&mut self, now: Time, bytes: Option<u64>) -> Step {
        match &self.stage {
            Stage::Writing | Stage::Reading | Stage::Freeing(_) => Step::Wait(Time::NEVER),
            Stage::Over(outcome) => Step::Done(outcome.clone()),
            Stage::Free(result) => {
                self.stage = Stage::Freeing(result.clone());
                Step::Write(layout::request_at(self.slot), vec![0; ZEROES])
            }
            _ if now.since(self.begun) > self.patience => {
                self.give_up(Code::TimedOut, "no result in time; whether it was done is not known")
            }
            Stage::Look { from } if now < *from => Step::Wait(*from),
            Stage::Look { .. } => {
                self.stage = Stage::Reading;
                Step::Read(layout::result_at(self.slot), u32::try_from(HALF).unwrap_or(0))
            }
            Stage::Choose { .. } if !self.taken && now.since(self.begun) > REACH.min(self.patience) => {
                // A change that was sent into the dark may be made yet.
                if self.in_doubt {
                    let why = "it cannot be reached; whether it was done is not known";
                    self.give_up(Code::TimedOut, why)
                } else {
                    self.give_up(Code::Unreachable, "it cannot be reached")
                }
            }
            Stage::Choose { from } if now < *from => Step::Wait(*from),
            Stage::Choose { .. } => {
                let Some(bytes) = bytes else {
                    self.choose_after_a_pause(now);
                    return self.step(now, None);
                };
                let count = layout::slots(bytes);
                if count == 0 {
                    return self.give_up(Code::Failed, "what is mapped there is no command device");
                }
                self.choice = self
                    .choice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                self.slot = u32::try_from((self.choice >> 33) % u64::from(count)).unwrap_or(0);
                self.stage = Stage::Writing;
                Step::Write(layout::request_at(self.slot), self.record.clone())
            }
        }
    }

    /// How a WRITE ended.
    pub fn written(&mut self, outcome: Result<(), Failure>, now: Time) {
        match (std::mem::replace(&mut self.stage, Stage::Choose { from: now }), outcome) {
            // Where that did not arrive, the slot is freed by time.
            (Stage::Freeing(result), _) => self.stage = Stage::Over(Ok(result)),
            (Stage::Writing, Ok(())) => {
                self.taken = true;
                self.pause = PAUSES.0;
                self.stage = Stage::Look { from: now };
            }
            (Stage::Writing, Err(Failure::Held)) => {}
            (Stage::Writing, Err(Failure::Refused)) => {
                let why = "it does not take orders there".to_owned();
                self.stage = Stage::Over(Err((Code::Failed, why)));
            }
            (Stage::Writing, Err(failure)) => {
                // It may have arrived: then its result is there for the same record.
                self.in_doubt |= failure == Failure::Unreachable && self.is_change;
                self.choose_after_a_pause(now);
            }
            (other, _) => self.stage = other,
        }
    }

    /// What a READ returned.
    pub fn read(&mut self, outcome: Result<&[u8], Failure>, now: Time) {
        if !matches!(self.stage, Stage::Reading) {
            return;
        }
        let from = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSES.1);
        self.stage = match outcome {
            Ok(bytes) => match slots::result_for(self.id, bytes) {
                Ok(Some(result)) if result.state == State::Done => {
                    let whole = result::whole(bytes).unwrap_or_default();
                    debug_assert!(whole.len() <= MAX_RECORD);
                    Stage::Free(whole.to_vec())
                }
                Ok(Some(_)) => Stage::Look { from },
                // Empty, or another's: the array was started again. The same record, again.
                _ => Stage::Choose { from: now },
            },
            Err(Failure::Busy | Failure::Unreachable) => Stage::Look { from },
            Err(Failure::Held | Failure::Refused) => Stage::Choose { from: now },
        };
    }

    fn choose_after_a_pause(&mut self, now: Time) {
        self.stage = Stage::Choose { from: now + self.pause };
        self.pause = (self.pause * 2).min(PAUSES.1);
    }

    fn give_up(&mut self, code: Code, why: &str) -> Step {
        let outcome = Err((code, why.to_owned()));
        self.stage = Stage::Over(outcome.clone());
        Step::Done(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OrderResult;
    use crate::slots::{Event, Limits, Slots};
    use std::collections::HashMap;

    const FAR: Uuid = Uuid::from_u128(0xfa);
    const DEVICE: u64 = 17 << 20;

    fn record(id: u128, name: &str) -> Vec<u8> {
        let order = Order::by_name(name).unwrap();
        Request::new(order.number, Uuid::from_u128(id), Uuid::from_u128(1)).encode().unwrap()
    }

    /// A device that forgets, is busy, or does not answer, every so often. How often the record was executed.
    fn carry(record: &[u8], trouble: u32) -> (Result<Vec<u8>, (Code, String)>, u32) {
        let (mut slots, mut now) = (Slots::new(FAR, DEVICE, Limits::default()), Time(0));
        let mut courier = Courier::new(record, Duration::from_secs(60), 5, now);
        let (mut calls, mut given) = (0, HashMap::<Uuid, u32>::new());
        loop {
            calls += 1;
            let turn = if trouble == 0 { u32::MAX } else { calls % trouble };
            if turn == 0 {
                slots = Slots::new(FAR, DEVICE, Limits::default());
            }
            match courier.step(now, (calls > 3).then_some(DEVICE)) {
                Step::Wait(until) => now = until,
                Step::Done(outcome) => return (outcome, given.values().sum()),
                Step::Write(at, data) => {
                    if turn == 1 {
                        courier.written(Err(Failure::Busy), now);
                        continue;
                    }
                    let _ = slots.on_write(at, &data, &"us".into(), now);
                    while let Some(event) = slots.poll_event() {
                        let Event::Execute(one) = event else { continue };
                        let id = request::id_of(&one.record).unwrap();
                        *given.entry(id).or_default() += 1;
                        let result = OrderResult::new(id, FAR, State::Done, Code::Done, "done").encode(None);
                        slots.complete(one.slot, one.turn, result, now);
                    }
                    courier.written(if turn == 2 { Err(Failure::Unreachable) } else { Ok(()) }, now);
                }
                Step::Read(at, bytes) => {
                    let mut out = vec![0; bytes as usize];
                    slots.on_read(at, &mut out, now);
                    courier.read(if turn == 3 { Err(Failure::Unreachable) } else { Ok(&out) }, now);
                }
            }
        }
    }

    #[test]
    fn it_comes_back_with_the_result_whatever_happens() {
        for trouble in [0, 4, 5, 7, 11] {
            let (outcome, given) = carry(&record(9, "volumes"), trouble);
            let result = OrderResult::decode(&outcome.unwrap()).unwrap();
            assert_eq!((result.id, result.array), (Uuid::from_u128(9), FAR));
            assert!(given >= 1);
        }
    }

    #[test]
    fn what_cannot_be_reached_is_given_up_and_says_what_is_known() {
        for (name, failure, wanted) in [
            ("volumes", Failure::Unreachable, Code::Unreachable),
            ("volume-delete", Failure::Unreachable, Code::TimedOut),
            ("volume-delete", Failure::Busy, Code::Unreachable),
            ("volumes", Failure::Refused, Code::Failed),
        ] {
            let mut now = Time(0);
            let mut courier = Courier::new(&record(9, name), Duration::from_secs(60), 5, now);
            let outcome = loop {
                match courier.step(now, Some(DEVICE)) {
                    Step::Wait(until) => now = until,
                    Step::Write(..) => courier.written(Err(failure), now),
                    Step::Read(..) => panic!("nothing was written"),
                    Step::Done(outcome) => break outcome,
                }
            };
            assert_eq!(outcome.unwrap_err().0, wanted, "{name}");
            assert!(now <= Time(0) + Duration::from_secs(11));
        }
        let mut courier = Courier::new(&record(9, "volumes"), Duration::from_secs(60), 5, Time(0));
        assert!(matches!(courier.step(Time(0), Some(4096)), Step::Done(Err((Code::Failed, _)))));
    }
}
