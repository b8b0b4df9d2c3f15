//! A command device in memory: the array's own slots, and an array that executes a little.

use super::device::{Device, Trouble};
use kagami_admin::Refusal;
use kagami_orders::slots::{Event, Limits, Slots, Written};
use kagami_orders::{Code, Key, Order, OrderResult, Request, State, Tag, layout, request, result};
use kagami_types::{Time, Uuid};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The name of the operator whom the fake array knows.
pub const OPERATOR: &str = "ops";

/// An array that several hosts can reach.
#[derive(Clone, Debug)]
pub struct Fake {
    array: Arc<Mutex<Array>>,
    from: Arc<str>,
}

#[derive(Debug)]
pub struct Array {
    pub uuid: Uuid,
    pub generation: u64,
    pub slots: Slots,
    pub key: Option<Key>,
    /// Results of changes, by request id.
    done: BTreeMap<Uuid, OrderResult>,
    /// What orders return that look; a change adds a letter.
    pub data: Vec<u8>,
    /// Orders executed.
    pub executed: u32,
    /// WRITEs and READs so far: the fake's time, a millisecond each.
    pub accesses: u64,
    /// Lose all slots at that access.
    pub restart_at: Option<u64>,
    /// Fail at that access with something that passes.
    pub cut_at: Option<u64>,
    /// Never finish anything.
    pub stuck: bool,
    /// Sign nothing.
    pub forge: bool,
    bytes: u64,
}

impl Fake {
    pub fn new(slots: u64) -> Self {
        let bytes = layout::ORDINARY + slots * layout::SLOT;
        let uuid = Uuid::from_bytes([7; 16]);
        let array = Array {
            uuid,
            generation: 4,
            slots: Slots::new(uuid, bytes, Limits::default()),
            key: None,
            done: BTreeMap::new(),
            data: br#"{"schema":1,"arrays":[]}"#.to_vec(),
            executed: 0,
            accesses: 0,
            restart_at: None,
            cut_at: None,
            stuck: false,
            forge: false,
            bytes,
        };
        Self { array: Arc::new(Mutex::new(array)), from: "iqn.x:host".into() }
    }

    /// The same array, seen by another host.
    pub fn host(&self, number: usize) -> Self {
        Self { array: Arc::clone(&self.array), from: format!("iqn.x:{number}").into() }
    }

    pub fn array(&self) -> MutexGuard<'_, Array> {
        self.array.lock().unwrap()
    }
}

impl Array {
    fn now(&self) -> Time {
        Time(self.accesses * 1_000_000)
    }

    fn tick(&mut self) -> Result<(), Trouble> {
        self.accesses += 1;
        if self.restart_at.take_if(|at| *at <= self.accesses).is_some() {
            self.slots = Slots::new(self.uuid, self.bytes, Limits::default());
        }
        match self.cut_at.take_if(|at| *at <= self.accesses) {
            Some(_) => Err(Trouble::Passing(Refusal::unreachable("cut"))),
            None => Ok(()),
        }
    }

    fn work(&mut self) {
        while let Some(event) = self.slots.poll_event() {
            let Event::Execute(given) = event else { continue };
            if self.stuck {
                continue;
            }
            let record = Request::decode(&given.record).unwrap();
            let result = self.execute(&given.record, &record);
            let key = self.key.as_ref().filter(|_| record.is_signed() && !self.forge);
            let now = self.now();
            self.slots.complete(given.slot, given.turn, result.encode(key), now);
        }
    }

    fn execute(&mut self, record: &[u8], order: &Request) -> OrderResult {
        let mut result = OrderResult::new(order.id, self.uuid, State::Done, Code::Done, "done");
        let known = Order::by_number(order.order).unwrap();
        if let Some(key) = &self.key {
            if order.is_signed() && !request::verify(record, key, self.uuid) {
                result.code = Code::BadSignature;
                return result;
            }
            if known.is_change() && !order.is_signed() {
                result.code = Code::SignatureNeeded;
                return result;
            }
        }
        if let Some(before) = self.done.get(&order.id) {
            return OrderResult { replayed: true, ..before.clone() };
        }
        result.generation = self.generation;
        if known.is_change() {
            if order.generation != self.generation {
                result.code = Code::Stale;
                return result;
            }
            self.generation += 1;
            self.executed += 1;
            result.generation = self.generation;
            self.done.insert(order.id, result.clone());
            return result;
        }
        if order.edit_data {
            let from = order.parameters.get_number(Tag::Offset).unwrap_or(0);
            let rest = self.data.get(usize::try_from(from).unwrap()..).unwrap_or_default();
            result.total = self.data.len() as u64;
            result.offset = from;
            result.part = rest[..rest.len().min(result::MAX_PART)].to_vec();
        }
        result
    }
}

impl Device for Fake {
    fn bytes(&self) -> u64 {
        self.array().bytes
    }

    fn block(&self) -> usize {
        512
    }

    fn read(&mut self, at: u64, len: usize) -> Result<Vec<u8>, Trouble> {
        let mut array = self.array();
        array.tick()?;
        let mut out = vec![0; len];
        let now = array.now();
        array.slots.on_read(at, &mut out, now);
        Ok(out)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Trouble> {
        let mut array = self.array();
        array.tick()?;
        let now = array.now();
        let written = array.slots.on_write(at, bytes, &self.from, now);
        array.work();
        match written {
            Written::Taken => Ok(()),
            Written::Held => Err(Trouble::Held),
            Written::Busy => Err(Trouble::Passing(Refusal::timed_out("busy"))),
            Written::Outside => Err(Trouble::Lasting(Refusal::failed("outside"))),
        }
    }

    fn set_patience(&mut self, _patience: Duration) {}
}
