//! Orders of command devices: who may, whether it was done before, on which generation; then what
//! the admin socket would do, and the result.
//!
//! An order never fails silently: whatever is wrong with it ends in a result that says so, and in a
//! line of the audit log. Those that change something are compare-and-set, and their results are
//! kept in the transaction of the change.

use super::edit::{Held, document};
use super::forward::{Errand, Forwarder};
use crate::config::{Orders as Policy, Rights};
use crate::run::Daemon;
use crate::serve::{Answers, OrderRequest};
use kagami_admin::report::Changed;
use kagami_admin::request::{
    LunMapAdd, LunMapRemove, Place, VolumeCreate, VolumeGrow, VolumeMask, VolumeRemove, VolumeUnmask,
};
use kagami_admin::{Refusal, Reply, Request as Ask};
use kagami_orders::slots::{Event, Given};
use kagami_orders::{ANY_GENERATION, Code, Key, Order, OrderResult, RecordError, Request, Right, State, Tag};
use kagami_orders::{request, result, sign};
use kagami_tables::ResultRecord;
use kagami_types::Uuid;
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Orders that wait while another one is done.
const WAITING: usize = 1024;
/// Orders that are done between two looks at what else there is.
const AT_ONCE: usize = 16;
/// How often arrays that were not met yet are looked for.
const MEET: Duration = Duration::from_secs(2);
/// Refused changes that are remembered, so that a belated copy of one does not become a change.
const REFUSED: usize = 4096;

/// What the management thread has for orders.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    waiting: VecDeque<OrderRequest>,
    held: Held,
    /// Refused changes: id, fingerprint, code, message. Not durable: what they asked for did not happen.
    refused: VecDeque<ResultRecord>,
    /// Orders for other arrays.
    pub(super) forwarder: Forwarder,
    /// When arrays that were not met yet are looked for again.
    meet: Option<Instant>,
}

impl Desk {
    /// Whether orders wait.
    pub(crate) fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// An order to be done when there is time; what is too many is answered so.
    pub(crate) fn wait(&mut self, request: OrderRequest, array: Uuid) {
        if self.waiting.len() < WAITING {
            self.waiting.push_back(request);
        } else if let Event::Execute(given) = request.order.event {
            let id = request::id_of(&given.record).unwrap_or_default();
            request.answers.put(given.slot, given.turn, busy(id, array), true);
        }
    }
}

/// The result of an order for which there is no room.
pub(crate) fn busy(id: Uuid, array: Uuid) -> Vec<u8> {
    OrderResult::new(id, array, State::Done, Code::Busy, "too many orders wait; give it again").encode(None)
}

/// Why an order is not done.
#[derive(Debug)]
struct No(Code, String);

fn no<T>(code: Code, why: impl Into<String>) -> Result<T, No> {
    Err(No(code, why.into()))
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.code {
            2 => Code::BadParameter,
            3 => Code::Refused,
            4 => Code::TimedOut,
            5 => Code::Unreachable,
            _ => Code::Failed,
        };
        Self(code, refusal.reason)
    }
}

/// What came of an order that is done.
struct Yes {
    message: String,
    document: Vec<u8>,
    offset: u64,
    replayed: bool,
}

/// Who gives an order.
struct Giver {
    who: String,
    right: Right,
    key: Option<Key>,
}

impl Daemon {
    /// The orders that wait.
    pub(super) fn attend_orders(&mut self) {
        let now = Instant::now();
        if self.desk.meet.is_none_or(|at| now >= at) {
            self.desk.meet = Some(now + MEET);
            let routes = self.array.routes();
            if !routes.is_empty() {
                self.desk.forwarder.meet(routes);
            }
        }
        // Few at a time: others wait for this thread too.
        for _ in 0..AT_ONCE {
            let Some(OrderRequest { order, answers }) = self.desk.waiting.pop_front() else { return };
            match order.event {
                Event::Execute(given) => self.given(given, &answers),
                Event::Malformed { slot, from } => {
                    self.note(&from, &format!("refused: an order in slot {slot} that stayed incomplete"));
                }
            }
        }
    }

    fn note(&mut self, who: &str, what: &str) {
        if let Err(error) = self.tables.audit(&format!("order:{who}"), what) {
            crate::complain(&error);
        }
    }

    /// One order, to its result.
    fn given(&mut self, given: Given, answers: &Answers) {
        let array = self.tables.state().array().uuid;
        let id = request::id_of(&given.record).unwrap_or_default();
        let mut key = None;
        let outcome = match Request::decode(&given.record) {
            Ok(request) if !request.target.is_nil() && request.target != array => {
                match self.pass_on(&given, &request) {
                    Ok(()) => {
                        let Given { slot, turn, record, .. } = given;
                        let answers = answers.clone();
                        let errand = Errand { record, target: request.target, array, slot, turn, answers };
                        return self.desk.forwarder.pass(errand, self.array.routes());
                    }
                    Err(no) => Err(no),
                }
            }
            decoded => self.order_of(&given, decoded, &mut key),
        };
        let generation = self.tables.generation().0;
        let done = match outcome {
            Ok(yes) => {
                let from = usize::try_from(yes.offset).unwrap_or(usize::MAX);
                let part = yes.document.get(from..).unwrap_or_default();
                let part = part.get(..part.len().min(result::MAX_PART)).unwrap_or_default().to_vec();
                OrderResult {
                    generation,
                    replayed: yes.replayed,
                    total: yes.document.len() as u64,
                    offset: yes.offset,
                    part,
                    ..OrderResult::new(id, array, State::Done, Code::Done, yes.message)
                }
            }
            Err(No(code, why)) => {
                OrderResult { generation, ..OrderResult::new(id, array, State::Done, code, why) }
            }
        };
        answers.put(given.slot, given.turn, done.encode(key.as_ref()), true);
    }

    /// Whether an order for another array may be passed on. A signature is that array's to check.
    fn pass_on(&mut self, given: &Given, request: &Request) -> Result<(), No> {
        let (number, id, target) = (request.order, request.id, request.target);
        let known = Order::by_number(number);
        let name = known.map_or_else(|| number.to_string(), |order| order.name.to_owned());
        let may = self.policy(given, request).and_then(|own| {
            // Who trusts this array lets it vouch for its hosts.
            let needs = known.map_or(Right::Admin, |order| order.right);
            if request.is_signed() || own >= needs {
                return Ok(());
            }
            let why = format!("{name} needs the right {}; this is {}", needs.word(), own.word());
            no(Code::Unauthorised, why)
        });
        match &may {
            Ok(()) => self.note(&given.from, &format!("{name} {id}: passed on to array {target}")),
            Err(No(_, why)) => {
                self.note(&given.from, &format!("refused: {name} {id} for array {target}: {why}"))
            }
        }
        may
    }

    fn order_of(
        &mut self,
        given: &Given,
        decoded: Result<Request, RecordError>,
        key: &mut Option<Key>,
    ) -> Result<Yes, No> {
        let request = match decoded {
            Ok(request) => request,
            Err(error) => {
                self.note(&given.from, &format!("refused: {error}"));
                let code = match error {
                    RecordError::Unsupported { .. } => Code::Unsupported,
                    _ => Code::Malformed,
                };
                return no(code, error.to_string());
            }
        };
        let array = self.tables.state().array().uuid;
        let giver = match self.giver(given, &request, array) {
            Ok(giver) => giver,
            Err(No(code, why)) => {
                self.note(&given.from, &format!("refused: order {} {}: {why}", request.order, request.id));
                return Err(No(code, why));
            }
        };
        key.clone_from(&giver.key);
        let known = Order::by_number(request.order);
        let name = known.map_or_else(|| request.order.to_string(), |order| order.name.to_owned());
        let outcome = self.may(given, &request, known, &giver).and_then(|order| match order {
            Some(order) => self.execute(given, &request, order, &giver),
            None => self.replay(given, &request),
        });
        let what = match &outcome {
            // A change has its line by its transaction.
            Ok(yes) if known.is_some_and(Order::is_change) && !yes.replayed => None,
            Ok(yes) => {
                Some(format!("{name} {}{}", request.id, if yes.replayed { ", given again" } else { "" }))
            }
            Err(No(_, why)) => Some(format!("refused: {name} {}: {why}", request.id)),
        };
        if let Some(what) = what {
            self.note(&giver.who, &what);
        }
        outcome
    }

    /// Whether orders are taken from where one comes from, and what those may that nobody signed.
    fn policy(&self, given: &Given, request: &Request) -> Result<Right, No> {
        let listed = self.config.initiators.iter().find(|known| *known.iqn == *given.from);
        let own = listed.map_or(Rights::Read, |initiator| initiator.rights);
        let peer = self.config.peers.iter().find(|peer| *peer.iqn == *given.from);
        // Hosts of another array cannot be seen from here: what it passes on counts as its own.
        let policy = match peer {
            Some(peer) => Some(peer.orders),
            None if request.hops > 0 => Some(Policy::Signed),
            None => None,
        };
        if policy == Some(Policy::None) {
            return no(Code::Unauthorised, "no orders are taken from that array");
        }
        if request.hops > request::MOST_HOPS {
            return no(Code::TooManyHops, "it has passed too many arrays");
        }
        if !request.is_signed() && policy == Some(Policy::Signed) {
            return no(
                Code::SignatureNeeded,
                "orders by another array must be signed (--operator, --key-file), or let peer.orders be \"forward\"",
            );
        }
        Ok(right(own))
    }

    /// Who gives an order, and what they may.
    fn giver(&self, given: &Given, request: &Request, array: Uuid) -> Result<Giver, No> {
        let own = self.policy(given, request)?;
        if !request.is_signed() {
            return Ok(Giver { who: given.from.to_string(), right: own, key: None });
        }
        let Some((key, rights)) = self.operators.get(&request.operator) else {
            return no(Code::BadSignature, format!("there is no operator {}", request.operator));
        };
        if !request::verify(&given.record, key, array) {
            return no(Code::BadSignature, format!("the signature is not operator {}'s", request.operator));
        }
        let who = format!("{},operator={}", given.from, request.operator);
        Ok(Giver { who, right: right(rights).max(own), key: Some(key.clone()) })
    }

    /// Whether an order may be done; `None`: it was done before.
    fn may<'a>(
        &self,
        given: &Given,
        request: &Request,
        known: Option<&'a Order>,
        giver: &Giver,
    ) -> Result<Option<&'a Order>, No> {
        let Some(order) = known else {
            return no(Code::UnknownOrder, format!("there is no order {}", request.order));
        };
        if giver.right < order.right {
            let (name, has, needs) = (order.name, giver.right.word(), order.right.word());
            return no(Code::Unauthorised, format!("{name} needs the right {needs}; this is {has}"));
        }
        if order.is_change() && self.before(request.id).is_some() {
            return Ok(None);
        }
        if request.is_signed() {
            let now = millis();
            if request.expires < now {
                return no(Code::Expired, "the signature has expired; look at the clocks");
            }
            if request.expires - now > sign::LONGEST_MILLIS {
                return no(
                    Code::Expired,
                    "the signature would hold for more than an hour; look at the clocks",
                );
            }
        }
        order.check(&request.parameters).map_err(|(code, why)| No(code, why))?;
        let current = self.tables.generation().0;
        if order.is_change() && request.generation == ANY_GENERATION {
            return no(
                Code::GenerationNeeded,
                format!("name the generation that it acts on; now it is {current}"),
            );
        }
        if order.is_change() && request.generation != current {
            let meant = request.generation;
            return no(
                Code::Stale,
                format!("it was meant for generation {meant}, now it is {current}; look again"),
            );
        }
        let _ = given;
        Ok(Some(order))
    }

    fn before(&self, id: Uuid) -> Option<&ResultRecord> {
        let refused = || self.desk.refused.iter().rev().find(|record| record.id == id);
        self.tables.state().result(id).or_else(refused)
    }

    /// The stored result of an order that was given before.
    fn replay(&self, given: &Given, request: &Request) -> Result<Yes, No> {
        let Some(record) = self.before(request.id) else { return no(Code::Failed, "its result is gone") };
        if record.fingerprint != sign::fingerprint(&given.record) {
            return no(Code::IdReused, "that request id was used for another record; take a new one");
        }
        let code = Code::from_number(record.code).unwrap_or(Code::Failed);
        if code != Code::Done {
            return no(code, record.message.clone());
        }
        let generation = self.tables.generation().0;
        let changed = Changed { what: record.message.clone(), generation, notes: Vec::new() };
        let document = if request.edit_data { document(&changed) } else { Vec::new() };
        Ok(Yes { message: record.message.clone(), document, offset: 0, replayed: true })
    }

    /// Does it.
    fn execute(&mut self, given: &Given, request: &Request, order: &Order, giver: &Giver) -> Result<Yes, No> {
        let mut record = ResultRecord {
            id: request.id,
            fingerprint: sign::fingerprint(&given.record),
            order: request.order,
            code: Code::Done.number(),
            message: String::new(),
        };
        let reply = match order.name {
            "continue" => return self.continued(request),
            "tables" => {
                let document = if request.edit_data { document(&self.command_devices()) } else { Vec::new() };
                return Ok(Yes { message: "done".to_owned(), document, offset: 0, replayed: false });
            }
            _ => self.ask(request, order).and_then(|ask| {
                let who = format!("order:{}", giver.who);
                let change = order.is_change().then(|| record.clone());
                Ok(self.order_in_band(ask, &who, change)?)
            }),
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(No(code, why)) => {
                if order.is_change() {
                    (record.code, record.message) = (code.number(), why.clone());
                    if self.desk.refused.len() >= REFUSED {
                        self.desk.refused.pop_front();
                    }
                    self.desk.refused.push_back(record);
                }
                return Err(No(code, why));
            }
        };
        let message = match &reply {
            Reply::Changed(changed) => changed.what.clone(),
            _ => "done".to_owned(),
        };
        let document = if request.edit_data { document(&reply) } else { Vec::new() };
        if document.len() > result::MAX_EDIT_DATA {
            return no(Code::TooLarge, format!("it returns {} bytes", document.len()));
        }
        if document.len() > result::MAX_PART {
            self.desk.held.keep(request.host, request.id, document.clone());
        }
        Ok(Yes { message, document, offset: 0, replayed: false })
    }

    /// More of the edit data of an earlier order.
    fn continued(&mut self, request: &Request) -> Result<Yes, No> {
        let parameters = &request.parameters;
        let id = parameters.get_id(Tag::Request).unwrap_or_default();
        let offset = parameters.get_number(Tag::Offset).unwrap_or(u64::MAX);
        let Some(document) = self.desk.held.get(request.host, id) else {
            return no(Code::NoSuchResult, "the edit data of that order are no longer kept; give it again");
        };
        if offset > document.len() as u64 {
            return no(Code::BadParameter, format!("there are {} bytes of edit data", document.len()));
        }
        Ok(Yes { message: "continued".to_owned(), document: document.to_vec(), offset, replayed: false })
    }

    /// The request of the admin socket that does what an order says.
    fn ask(&self, request: &Request, order: &Order) -> Result<Ask, No> {
        let given = &request.parameters;
        let text = |tag: Tag| given.get_text(tag).unwrap_or_default().to_owned();
        Ok(match order.name {
            "arrays" => Ask::Arrays,
            "volumes" => Ask::Volumes,
            "luns" => Ask::Luns,
            "stats" => Ask::Stats,
            "volume-create" => Ask::VolumeCreate(VolumeCreate {
                name: text(Tag::Name),
                lun: given.get_u16(Tag::Lun),
                place: Place::Pool(self.pool(given.get_text(Tag::Pool))?),
                size_bytes: given.get_number(Tag::SizeBytes),
                block_bytes: given.get_number(Tag::BlockBytes).and_then(|bytes| u32::try_from(bytes).ok()),
                cache: given.get_text(Tag::Cache).map(str::to_owned),
                read_only: given.has(Tag::ReadOnly),
                thin: None,
                initiators: given.texts(Tag::Initiator).map(str::to_owned).collect(),
                adopt: false,
            }),
            "volume-resize" => {
                let (volume, size) = (text(Tag::Volume), given.get_number(Tag::SizeBytes));
                self.in_pool(&volume)?;
                Ask::VolumeGrow(VolumeGrow { volume, size_bytes: size })
            }
            "volume-delete" => {
                Ask::VolumeRemove(VolumeRemove { volume: text(Tag::Volume), force: given.has(Tag::Force) })
            }
            "volume-mask" => Ask::VolumeMask(VolumeMask {
                volume: text(Tag::Volume),
                initiator: text(Tag::Initiator),
                force: given.has(Tag::Force),
            }),
            "volume-unmask" => {
                Ask::VolumeUnmask(VolumeUnmask { volume: text(Tag::Volume), initiator: text(Tag::Initiator) })
            }
            "lun-map-add" => Ask::LunMapAdd(LunMapAdd {
                name: text(Tag::Name),
                peer: text(Tag::Peer),
                mapped_lun: given.get_u16(Tag::MappedLun).unwrap_or(u16::MAX),
                lun: given.get_u16(Tag::Lun),
                role: given.get_text(Tag::Role).map(str::to_owned),
                initiators: given.texts(Tag::Initiator).map(str::to_owned).collect(),
            }),
            "lun-map-remove" => {
                Ask::LunMapRemove(LunMapRemove { volume: text(Tag::Volume), force: given.has(Tag::Force) })
            }
            name => return no(Code::NotYet, format!("{name} is not in this version")),
        })
    }
}

fn right(rights: Rights) -> Right {
    match rights {
        Rights::Read => Right::Read,
        Rights::Operate => Right::Operate,
        Rights::Admin => Right::Admin,
    }
}

fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
