//! What stands for the management threads of both arrays: it takes what command devices have, decides and executes by the
//! product's own code over tables in a simulated folder, and passes orders for the other array on.

use super::Broken;
use super::giver::Truth;
use kagami_channel::{Control, FAR, Forwarded, Inbox, Order, Shape};
use kagami_link::Outcome;
use kagami_orders::courier::{Courier, Failure, Step};
use kagami_orders::once::{self, Before, Way};
use kagami_orders::slots::{Event, Given};
use kagami_orders::{Code, OrderResult, Request, Right, State, Tag, request, sign};
use kagami_sim::{Actor, Rng, World};
use kagami_tables::{
    Change, Crash, Memory, Object, ObjectKind, OpenOptions, ResultRecord, Tables, Transaction,
};
use kagami_types::{Time, Uuid};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What goes between cores and the clerk.
#[derive(Default)]
pub struct Mail {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    orders: VecDeque<(usize, Order)>,
    inboxes: [Option<Arc<Inbox>>; 2],
    shape: Option<Arc<Shape>>,
    uuids: [Uuid; 2],
}

impl Mail {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn put(&self, array: usize, order: Order) {
        self.with(|inner| inner.orders.push_back((array, order)));
    }

    pub fn uuid(&self, array: usize) -> Uuid {
        self.with(|inner| inner.uuids[array])
    }

    pub fn set_inbox(&self, array: usize, inbox: Option<Arc<Inbox>>) {
        self.with(|inner| inner.inboxes[array] = inbox);
    }

    pub fn set_shape(&self, shape: &Arc<Shape>) {
        self.with(|inner| inner.shape = Some(Arc::clone(shape)));
    }

    pub fn stop(&self) {
        self.with(|inner| inner.inboxes.iter().flatten().for_each(|inbox| drop(inbox.put(Control::Stop))));
    }

    #[allow(clippy::result_large_err, reason = "what does not fit comes back")]
    fn send(&self, array: usize, control: Control) -> Result<(), Control> {
        self.with(|inner| match &inner.inboxes[array] {
            Some(inbox) => inbox.put(control),
            None => Err(control),
        })
    }
}

/// An order that waits for its turn.
struct Waiting {
    due: Time,
    array: usize,
    unit: u32,
    given: Given,
}

/// A result on its way to its slot.
struct Answer {
    due: Time,
    array: usize,
    control: Control,
}

/// An order on its way to the second array.
struct Errand {
    courier: Courier,
    unit: u32,
    given: Given,
    /// A command that is under way there, and whether it is a READ.
    pending: Option<(bool, Receiver<Forwarded>)>,
}

pub struct Clerk {
    mail: Arc<Mail>,
    tables: [Tables<Memory>; 2],
    waiting: VecDeque<Waiting>,
    answers: Vec<Answer>,
    errands: Vec<Errand>,
    /// The generations that the tables began with.
    first: [u64; 2],
    broken: Option<Broken>,
    /// So often the arrays still crash while an order is executed.
    crashes: u64,
    /// Orders that were taken since the start.
    known: Vec<Uuid>,
    truth: Rc<RefCell<Truth>>,
    rng: Rng,
}

fn open(memory: Memory) -> Tables<Memory> {
    let options = OpenOptions { clock: || 1_795_000_000_000, ..OpenOptions::new("sim") };
    Tables::open_on(memory, &options).expect("tables that can be opened")
}

impl Clerk {
    pub fn new(broken: Option<Broken>, truth: Rc<RefCell<Truth>>, mut rng: Rng) -> Self {
        let tables = [open(Memory::new()), open(Memory::new())];
        let crashes = rng.choose([0, 1, 3, 6]);
        let mail = Arc::new(Mail::default());
        mail.with(|inner| inner.uuids = [0, 1].map(|at: usize| tables[at].state().array().uuid));
        Self {
            mail,
            first: tables.each_ref().map(|tables| tables.generation().0),
            tables,
            waiting: VecDeque::new(),
            answers: Vec::new(),
            errands: Vec::new(),
            broken,
            crashes,
            known: Vec::new(),
            truth,
            rng,
        }
    }

    pub fn mail(&self) -> Arc<Mail> {
        Arc::clone(&self.mail)
    }

    /// The result half of an order of this array.
    fn order(&mut self, array: usize, given: &Given) -> Vec<u8> {
        let tables = &mut self.tables[array];
        let uuid = tables.state().array().uuid;
        let id = request::id_of(&given.record).unwrap_or_default();
        let mut result = OrderResult::new(id, uuid, State::Done, Code::Done, "done");
        let request = match Request::decode(&given.record) {
            Ok(request) => request,
            Err(error) => {
                (result.code, result.message) = (Code::Malformed, error.to_string());
                return result.encode(None);
            }
        };
        let fingerprint = sign::fingerprint(&given.record);
        let known = &self.known;
        let stored = tables.state().result(id).filter(|_| match self.broken {
            Some(Broken::Forgets) => known.contains(&id),
            Some(Broken::Blind) => false,
            _ => true,
        });
        let before = stored.map(|stored| Before {
            fingerprint: stored.fingerprint,
            code: stored.code,
            message: &stored.message,
        });
        let now = tables.generation();
        let names = if self.broken == Some(Broken::Blind) { request.generation } else { now.0 };
        let outcome = match once::judge(&request, &given.record, Right::Admin, names, 0, before) {
            Ok(Way::Execute(order)) if !order.is_change() => Ok(()),
            Ok(Way::Execute(_)) => {
                let record = ResultRecord {
                    id,
                    fingerprint,
                    order: request.order,
                    code: Code::Done.number(),
                    message: "done".to_owned(),
                };
                execute(tables, &request).and_then(|change| {
                    let transaction = Transaction::new("order", "change").at(now).with(change);
                    let remember = Change::PutResult(record);
                    let made = if self.broken == Some(Broken::Late) {
                        let later = Transaction::new("order", "what came of it").with(remember);
                        tables.commit(&transaction).and_then(|_| tables.commit(&later))
                    } else {
                        tables.commit(&transaction.with(remember))
                    };
                    made.map(drop).map_err(|error| (Code::Failed, error.to_string()))
                })
            }
            Ok(Way::Again(Code::Done, _)) => {
                result.replayed = true;
                self.truth.borrow_mut().replayed += 1;
                Ok(())
            }
            Ok(Way::Again(code, why)) => Err((code, why.to_owned())),
            Err(refusal) => Err(refusal),
        };
        if let Err((code, why)) = outcome {
            (result.code, result.message) = (code, why);
        }
        result.generation = tables.generation().0;
        self.known.push(id);
        self.tell(array);
        result.encode(None)
    }

    /// What is there now, for the end, and which changes were made, for everybody who is told otherwise.
    fn tell(&self, array: usize) {
        let state = self.tables[array].state();
        let mut truth = self.truth.borrow_mut();
        truth.there[array] = state
            .objects()
            .map(|object| (object.name.clone(), object.toml.parse().unwrap_or_default()))
            .collect();
        truth.made[array].extend(state.results().map(|record| record.id));
        let generation = self.tables[array].generation().0;
        // A broken one takes two steps for a change.
        let steps = if self.broken == Some(Broken::Late) { 2 } else { 1 };
        truth.changes[array] = (generation - self.first[array]).div_ceil(steps);
    }

    fn take(&mut self, now: Time) {
        let new = self.mail.with(|inner| std::mem::take(&mut inner.orders));
        for (array, Order { unit, event, .. }) in new {
            if let Event::Execute(given) = event {
                let due = now + Duration::from_nanos(self.rng.skewed(1000, 4_000_000));
                self.waiting.push_back(Waiting { due, array, unit, given });
            }
        }
    }

    fn answer(&mut self, now: Time, array: usize, unit: u32, given: &Given, result: Vec<u8>) {
        let due = now + Duration::from_nanos(self.rng.skewed(1000, 2_000_000));
        let control = Control::Ordered { unit, slot: given.slot, turn: given.turn, result, done: true };
        self.answers.push(Answer { due, array, control });
    }

    fn attend(&mut self, world: &World) {
        let now = world.now();
        let due = self.waiting.front().is_some_and(|waiting| waiting.due <= now);
        if due && self.crashes > 0 && self.rng.one_in(6) {
            self.crashes -= 1;
            world.crash();
            return;
        }
        while self.waiting.front().is_some_and(|waiting| waiting.due <= now) {
            let Some(Waiting { array, unit, given, .. }) = self.waiting.pop_front() else { return };
            let target = Request::decode(&given.record).ok().map(|request| request.target);
            let far = target.is_some_and(|target| target == self.mail.uuid(1));
            if array == 0 && far {
                let Ok(record) = request::pass_on(&given.record, self.mail.uuid(0)) else { continue };
                self.truth.borrow_mut().passed_on += 1;
                let courier = Courier::new(&record, Duration::from_secs(20), self.rng.word(), now);
                self.errands.push(Errand { courier, unit, given, pending: None });
                continue;
            }
            let result = self.order(array, &given);
            self.answer(now, array, unit, &given, result);
        }
    }

    fn run_errands(&mut self, now: Time) {
        let shape = self.mail.with(|inner| inner.shape.clone());
        let block = shape.as_ref().and_then(|shape| shape.block_size());
        let bytes = shape.zip(block).map(|(shape, block)| shape.blocks() << block.shift());
        let shift = block.map_or(9, |block| block.shift());
        let mut over = Vec::new();
        for (place, errand) in self.errands.iter_mut().enumerate() {
            if let Some((is_read, ended)) = &errand.pending {
                let outcome = match ended.try_recv() {
                    Ok(forwarded) => told(forwarded),
                    Err(TryRecvError::Empty) => continue,
                    Err(TryRecvError::Disconnected) => Err(Failure::Unreachable),
                };
                if *is_read {
                    errand.courier.read(outcome.as_deref().map_err(|failure| *failure), now);
                } else {
                    errand.courier.written(outcome.map(drop), now);
                }
                errand.pending = None;
            }
            let (is_read, cdb, out, expects) = match errand.courier.step(now, bytes) {
                Step::Wait(_) => continue,
                Step::Done(outcome) => {
                    over.push((place, outcome));
                    continue;
                }
                Step::Write(at, mut data) => {
                    data.resize(data.len().next_multiple_of(1 << shift), 0);
                    (false, cdb(0x8a, at >> shift, data.len() >> shift), data, 0)
                }
                Step::Read(at, len) => (true, cdb(0x88, at >> shift, len as usize >> shift), Vec::new(), len),
            };
            let (answer, ended) = sync_channel(1);
            if self.mail.send(0, Control::Forward { unit: FAR, cdb, out, expects, answer }).is_ok() {
                errand.pending = Some((is_read, ended));
            } else if is_read {
                errand.courier.read(Err(Failure::Busy), now);
            } else {
                errand.courier.written(Err(Failure::Busy), now);
            }
        }
        for (place, outcome) in over.into_iter().rev() {
            let Errand { unit, given, .. } = self.errands.swap_remove(place);
            let id = request::id_of(&given.record).unwrap_or_default();
            let result = outcome.unwrap_or_else(|(code, why)| {
                OrderResult::new(id, self.mail.uuid(0), State::Done, code, why).encode(None)
            });
            self.answer(now, 0, unit, &given, result);
        }
    }
}

/// What an order changes.
fn execute(tables: &Tables<Memory>, request: &Request) -> Result<Change, (Code, String)> {
    let given = &request.parameters;
    let name = given.get_text(Tag::Name).or(given.get_text(Tag::Volume)).unwrap_or_default().to_owned();
    let is_there = tables.state().objects().any(|object| object.name == name);
    let size = given.get_number(Tag::SizeBytes);
    let is_new = given.get_text(Tag::Name).is_some();
    if is_there == is_new {
        return Err((Code::Refused, format!("{name}: there already, or not there")));
    }
    Ok(match size {
        Some(size) => Change::PutObject(Object { kind: ObjectKind::Volume, name, toml: size.to_string() }),
        None => Change::DeleteObject(ObjectKind::Volume, name),
    })
}

fn cdb(code: u8, lba: u64, blocks: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = code;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&u32::try_from(blocks).unwrap_or(0).to_be_bytes());
    cdb
}

/// How the daemon takes the end of a command to a far unit.
pub fn told(forwarded: Forwarded) -> Result<Vec<u8>, Failure> {
    match forwarded.outcome {
        Outcome::Status(0x00, _) => Ok(forwarded.data),
        Outcome::Status(0x18, _) => Err(Failure::Held),
        Outcome::Status(0x08 | 0x28 | 0x40, _) => Err(Failure::Busy),
        Outcome::Status(0x02, Some(sense)) => {
            let key = sense.get(if sense[0] & 0x7f >= 0x72 { 1 } else { 2 }).map_or(0, |byte| byte & 0xf);
            Err(if matches!(key, 0x2 | 0x6 | 0xb) { Failure::Busy } else { Failure::Refused })
        }
        Outcome::Status(..) => Err(Failure::Refused),
        Outcome::Unreachable | Outcome::Lost | Outcome::Aborted => Err(Failure::Unreachable),
    }
}

impl Actor for Clerk {
    fn joined(&mut self, _world: &World, _number: usize) {}

    fn act(&mut self, world: &World) -> Result<Time, String> {
        let now = world.now();
        self.take(now);
        self.attend(world);
        self.run_errands(now);
        let due = self.answers.extract_if(.., |answer| answer.due <= now).collect::<Vec<_>>();
        for Answer { array, control, .. } in due {
            if let Err(control) = self.mail.send(array, control) {
                // The box is full, or the array has gone.
                self.answers.push(Answer { due: now + Duration::from_millis(1), array, control });
            }
        }
        let idle = self.waiting.is_empty() && self.answers.is_empty() && self.errands.is_empty();
        Ok(now + if idle { Duration::from_millis(2) } else { Duration::from_micros(300) })
    }

    fn crashed(&mut self, _world: &World, power: bool) {
        self.mail.with(|inner| inner.orders.clear());
        // What is going on in the middle of a change.
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(Waiting { array, given, .. }) = waiting.front().filter(|_| self.rng.one_in(2)) {
            let far =
                *array == 0 && Request::decode(&given.record).is_ok_and(|r| r.target == self.mail.uuid(1));
            if !far {
                let storage = self.tables[*array].storage_mut();
                *storage = std::mem::take(storage).with_fuse(u32::try_from(self.rng.below(8)).unwrap_or(0));
                let _ = self.order(*array, given);
            }
        }
        for place in 0..2 {
            let storage = self.tables[place].storage_mut();
            let seed = self.rng.word();
            let left = if power { storage.after(Crash { seed }) } else { storage.after_kill() };
            self.tables[place] = open(left);
        }
        self.known.clear();
        self.answers.clear();
        self.errands.clear();
        for place in 0..2 {
            // What the failed commit seemed to do may be gone.
            self.tell(place);
        }
    }

    fn settle(&mut self, _world: &World) {}

    fn is_done(&self) -> bool {
        true
    }

    fn progress(&self) -> u64 {
        0
    }
}
