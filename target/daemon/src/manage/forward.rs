//! Orders for another array: passed on to its command device by a WRITE, and the result brought back.
//!
//! The far command device is a virtual volume (array.md 3: "array one forwards it by a WRITE to that array's
//! command device, as its table says"). Each order that is passed on has a thread of its own, of which there
//! are few; it does at the far device what a host does here. The record stays what it is but for its hops, so a
//! retry, by whom and by whichever way, is known there by its request id.

use crate::serve::Answers;
use kagami_admin::pair::{Relayed, from_hex, to_hex};
use kagami_admin::{Outcome, Refusal, Reply};
pub(crate) use kagami_orders::courier::Failure as FarError;
use kagami_orders::courier::{Courier, REACH, Step};
use kagami_orders::{Code, Order, OrderResult, Request, State, request};
use kagami_types::{BlockSize, Time, Uuid};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Orders that are on their way to other arrays.
const MOST: usize = 32;
/// How long one may take in all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A far command device.
pub(crate) trait Far: Send + Sync {
    /// READ.
    fn read(&self, lba: u64, blocks: u32, bytes: u32) -> Result<Vec<u8>, FarError>;
    /// WRITE of whole blocks.
    fn write(&self, lba: u64, blocks: u32, data: Vec<u8>) -> Result<(), FarError>;
    /// Its blocks, once they are known.
    fn shape(&self) -> Option<(BlockSize, u64)>;
}

/// A row of the command device table that leads to another array.
#[derive(Clone)]
pub(crate) struct Route {
    /// The peer's name.
    pub peer: String,
    /// The LUN here.
    pub lun: u16,
    /// The way.
    pub far: Arc<dyn Far>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("peer", &self.peer).field("lun", &self.lun).finish_non_exhaustive()
    }
}

/// What is known of other arrays' command devices.
#[derive(Debug, Default)]
pub(crate) struct Forwarder {
    active: Arc<AtomicUsize>,
    known: Arc<Mutex<Vec<(u16, Uuid)>>>,
    /// Arrays are being asked who they are.
    meeting: Arc<AtomicBool>,
}

/// An order on its way.
pub(crate) struct Errand {
    /// The record as it came, whole.
    pub record: Vec<u8>,
    /// Its array.
    pub target: Uuid,
    /// This array.
    pub array: Uuid,
    pub slot: u32,
    pub turn: u64,
    pub answers: Answers,
}

impl Forwarder {
    /// The array behind a row of the table, where it was met.
    pub(crate) fn uuid(&self, lun: u16) -> Option<Uuid> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(other, _)| *other == lun).map(|(_, uuid)| *uuid)
    }

    /// Finds out who is behind the rows that are not known yet. `routes` are all rows.
    pub(crate) fn meet(&self, routes: Vec<Route>) {
        let unknown: Vec<_> = routes.into_iter().filter(|route| self.uuid(route.lun).is_none()).collect();
        if unknown.is_empty() || self.meeting.swap(true, Ordering::Relaxed) {
            return;
        }
        let (meeting, known) = (Arc::clone(&self.meeting), Arc::clone(&self.known));
        let begun = thread::Builder::new().name("order-meet".to_owned()).spawn(move || {
            for route in unknown {
                ask(&route, &known);
            }
            meeting.store(false, Ordering::Relaxed);
        });
        if begun.is_err() {
            self.meeting.store(false, Ordering::Relaxed);
        }
    }

    /// Passes an order on. Its result comes to the slot that it was written to, whatever happens.
    pub(crate) fn pass(&self, errand: Errand, routes: Vec<Route>) {
        if !self.begin() {
            let busy = super::busy(request::id_of(&errand.record).unwrap_or_default(), errand.array);
            errand.answers.put(errand.slot, errand.turn, busy, true);
            return;
        }
        let (active, known) = (Arc::clone(&self.active), Arc::clone(&self.known));
        self.spawn(move || {
            let running = note(&errand, State::Running, Code::Done, "passed on");
            errand.answers.put(errand.slot, errand.turn, running, false);
            let result = go(&errand.record, errand.target, errand.array, &routes, &known);
            let result = result.unwrap_or_else(|(code, why)| note(&errand, State::Done, code, &why));
            errand.answers.put(errand.slot, errand.turn, result, true);
            active.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Passes an order on for who asks over the admin socket.
    pub(crate) fn relay(
        &self,
        record: Vec<u8>,
        target: Uuid,
        array: Uuid,
        routes: Vec<Route>,
        answer: SyncSender<Outcome>,
    ) {
        if !self.begin() {
            let _ = answer.try_send(Outcome::Refused(Refusal::timed_out(
                "too many orders are passed on; give it again",
            )));
            return;
        }
        let (active, known) = (Arc::clone(&self.active), Arc::clone(&self.known));
        self.spawn(move || {
            let outcome = match go(&record, target, array, &routes, &known) {
                Ok(result) => Outcome::Done(Reply::Relayed(Relayed { result: to_hex(&result) })),
                Err((code, reason)) => Outcome::Refused(Refusal { code: code.exit(), reason }),
            };
            // Who asked may have given up.
            let _ = answer.try_send(outcome);
            active.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn begin(&self) -> bool {
        self.active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < MOST).then_some(n + 1))
            .is_ok()
    }

    fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        if thread::Builder::new().name("order-forward".to_owned()).spawn(work).is_err() {
            // What was to be answered is given again by who waits for it.
            self.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn note(errand: &Errand, state: State, code: Code, message: &str) -> Vec<u8> {
    let id = request::id_of(&errand.record).unwrap_or_default();
    OrderResult::new(id, errand.array, state, code, message).encode(None)
}

/// The record of an order for another array, and which one.
///
/// # Errors
/// It is none, or not for another one.
pub(super) fn relayed(record: &str, array: Uuid) -> Result<(Vec<u8>, Uuid), Refusal> {
    let bytes = from_hex(record).ok_or_else(|| Refusal::usage("the record is not in hexadecimal"))?;
    let order = Request::decode(&bytes).map_err(|error| Refusal::usage(error.to_string()))?;
    if order.target.is_nil() || order.target == array {
        return Err(Refusal::usage("the order is for this array; give it over the socket itself"));
    }
    let whole = request::whole(&bytes).map_err(|error| Refusal::usage(error.to_string()))?;
    Ok((whole.to_vec(), order.target))
}

type No = (Code, String);

/// Gives a record to the array that it is for; the bytes of its result.
fn go(
    record: &[u8],
    target: Uuid,
    array: Uuid,
    routes: &[Route],
    known: &Mutex<Vec<(u16, Uuid)>>,
) -> Result<Vec<u8>, No> {
    let find = || {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let lun = known.iter().find(|(_, uuid)| *uuid == target).map(|(lun, _)| *lun);
        lun.and_then(|lun| routes.iter().find(|route| route.lun == lun))
    };
    let route = match find() {
        Some(route) => route,
        None => {
            let mut silent = Vec::new();
            for route in routes {
                if !ask(route, known) {
                    silent.push(route.peer.as_str());
                }
                if find().is_some() {
                    break;
                }
            }
            match (find(), silent.as_slice()) {
                (Some(route), _) => route,
                (None, []) => {
                    return Err((Code::UnknownArray, format!("this array has no way to array {target}")));
                }
                (None, silent) => {
                    let why = format!("array {target} may be behind {}, out of reach now", silent.join(", "));
                    return Err((Code::Unreachable, why));
                }
            }
        }
    };
    let record = request::pass_on(record, array)
        .map_err(|_| (Code::TooManyHops, "it has passed too many arrays".to_owned()))?;
    let result = deliver(&*route.far, &record, PATIENCE)
        .map_err(|(code, why)| (code, format!("{}: {why}", route.peer)));
    // Another array answers at that LUN than the one that was met there: to be met anew.
    if let Ok(bytes) = &result
        && OrderResult::decode(bytes).is_ok_and(|result| result.array != target)
    {
        known.lock().unwrap_or_else(PoisonError::into_inner).retain(|(lun, _)| *lun != route.lun);
    }
    result
}

/// Asks a far array who it is. Whether it answered.
fn ask(route: &Route, known: &Mutex<Vec<(u16, Uuid)>>) -> bool {
    let Some(id) = random() else { return false };
    let arrays = Order::by_name("arrays").map_or(0, |order| order.number);
    let mut order = Request::new(arrays, id, id);
    order.edit_data = false;
    let Ok(record) = order.encode() else { return false };
    let Ok(bytes) = deliver(&*route.far, &record, REACH) else { return false };
    let Ok(result) = OrderResult::decode(&bytes) else { return false };
    // Also who refuses to tell anything says who it is.
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|(lun, _)| *lun != route.lun);
    known.push((route.lun, result.array));
    true
}

fn random() -> Option<Uuid> {
    kagami_tables::new_uuid().ok()
}

/// What a host does: claims a slot, waits for the result, frees the slot.
fn deliver(far: &dyn Far, record: &[u8], patience: Duration) -> Result<Vec<u8>, No> {
    let begun = Instant::now();
    let now = || Time(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let choice = RandomState::new().hash_one(record);
    let mut courier = Courier::new(record, patience, choice, now());
    loop {
        let shape = far.shape();
        let (block, bytes) = match shape {
            Some((block, blocks)) => (block, Some(blocks << block.shift())),
            None => (BlockSize::B512, None),
        };
        let lba = |byte: u64| byte >> block.shift();
        let blocks = |bytes: usize| u32::try_from(bytes >> block.shift()).unwrap_or(u32::MAX);
        match courier.step(now(), bytes) {
            Step::Wait(until) => thread::sleep(until.since(now())),
            Step::Write(at, mut data) => {
                data.resize(data.len().next_multiple_of(block.bytes() as usize), 0);
                let written = far.write(lba(at), blocks(data.len()), data);
                courier.written(written, now());
            }
            Step::Read(at, len) => {
                let read = far.read(lba(at), blocks(len as usize), len);
                courier.read(read.as_deref().map_err(|failure| *failure), now());
            }
            Step::Done(outcome) => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_orders::slots::{Event, Limits, Slots, Written};
    use kagami_types::Time;
    use std::collections::HashSet;

    const FAR: Uuid = Uuid::from_u128(0xfa);

    /// A far array: real slots, and someone who executes; every so often it cannot be reached, is busy, or
    /// forgets its slots as after a crash.
    struct Fake {
        inner: Mutex<Inner>,
    }

    struct Inner {
        slots: Slots,
        calls: u32,
        trouble: u32,
        done: HashSet<Uuid>,
        given: u32,
    }

    impl Fake {
        fn new(trouble: u32) -> Self {
            let slots = Slots::new(FAR, 17 << 20, Limits::default());
            Self { inner: Mutex::new(Inner { slots, calls: 0, trouble, done: HashSet::new(), given: 0 }) }
        }

        fn call<T>(&self, work: impl FnOnce(&mut Inner) -> Result<T, FarError>) -> Result<T, FarError> {
            let mut inner = self.inner.lock().unwrap();
            inner.calls += 1;
            let trouble = if inner.trouble > 0 { inner.calls % inner.trouble } else { u32::MAX };
            match trouble {
                0 => inner.slots = Slots::new(FAR, 17 << 20, Limits::default()),
                1 => return Err(FarError::Busy),
                2 => {
                    // It arrives, and the answer is lost.
                    let _ = work(&mut inner);
                    return Err(FarError::Unreachable);
                }
                _ => {}
            }
            let result = work(&mut inner);
            while let Some(event) = inner.slots.poll_event() {
                let Event::Execute(given) = event else { continue };
                let id = request::id_of(&given.record).unwrap();
                inner.given += 1;
                inner.done.insert(id);
                let result = OrderResult::new(id, FAR, State::Done, Code::Done, "done").encode(None);
                inner.slots.complete(given.slot, given.turn, result, Time(0));
            }
            result
        }
    }

    impl Far for Fake {
        fn read(&self, lba: u64, _: u32, bytes: u32) -> Result<Vec<u8>, FarError> {
            self.call(|inner| {
                let mut out = vec![0; bytes as usize];
                inner.slots.on_read(lba << 9, &mut out, Time(0));
                Ok(out)
            })
        }

        fn write(&self, lba: u64, _: u32, data: Vec<u8>) -> Result<(), FarError> {
            self.call(|inner| match inner.slots.on_write(lba << 9, &data, &"us".into(), Time(0)) {
                Written::Taken => Ok(()),
                Written::Held => Err(FarError::Held),
                Written::Busy => Err(FarError::Busy),
                Written::Outside => Err(FarError::Refused),
            })
        }

        fn shape(&self) -> Option<(BlockSize, u64)> {
            Some((BlockSize::B512, (17 << 20) >> 9))
        }
    }

    fn route(trouble: u32) -> (Route, Arc<Fake>) {
        let fake = Arc::new(Fake::new(trouble));
        (Route { peer: "osaka".into(), lun: 30, far: Arc::clone(&fake) as Arc<dyn Far> }, fake)
    }

    #[test]
    fn orders_find_their_array_and_come_back() {
        for trouble in [0, 5, 7, 11] {
            let (route, fake) = route(trouble);
            let known = Mutex::new(Vec::new());
            for number in 1..20 {
                let id = Uuid::from_u128(number);
                let mut order = Request::new(2, id, id);
                order.target = FAR;
                let record = order.encode().unwrap();
                let routes = std::slice::from_ref(&route);
                let result = go(&record, FAR, Uuid::from_u128(0xa), routes, &known).unwrap();
                let result = OrderResult::decode(&result).unwrap();
                assert_eq!((result.id, result.array, result.code), (id, FAR, Code::Done));
                assert!(fake.inner.lock().unwrap().done.contains(&id));
            }
            assert_eq!(*known.lock().unwrap(), [(30, FAR)]);
        }
    }

    #[test]
    fn unknown_arrays_and_too_many_hops_are_refused() {
        let (route, fake) = route(0);
        let known = Mutex::new(Vec::new());
        let routes = std::slice::from_ref(&route);
        let mut order = Request::new(2, Uuid::from_u128(1), Uuid::from_u128(1));
        order.target = Uuid::from_u128(0xbad);
        let record = order.encode().unwrap();
        let refused = go(&record, order.target, Uuid::from_u128(0xa), routes, &known).unwrap_err();
        assert_eq!(refused.0, Code::UnknownArray);
        (order.target, order.hops) = (FAR, request::MOST_HOPS);
        let refused = go(&order.encode().unwrap(), FAR, Uuid::from_u128(0xa), routes, &known).unwrap_err();
        assert_eq!(refused.0, Code::TooManyHops);
        // Only who it is was asked.
        assert_eq!(fake.inner.lock().unwrap().given, 1);
    }
}
