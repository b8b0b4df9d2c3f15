//! Orders of command devices: who may, whether it was done before, on which generation; then what
//! the admin socket would do, and the result.
//!
//! An order never fails silently: whatever is wrong with it ends in a result that says so, and in a
//! line of the audit log. Those that change something are compare-and-set, and their results are
//! kept in the transaction of the change.

use super::edit::{Held, document};
use super::forward::{Errand, Forwarder};
use super::pairs::To;
use crate::config::{Orders as Policy, Rights};
use crate::run::Daemon;
use crate::serve::{Answers, OrderRequest};
use kagami_admin::pair::{
    GroupAt, GroupNamed, GroupRestore, Marker, Ordered, PairCreate, PairDelete, PairOf, PairResync, PairSet,
    PairSplit, PairSwap, PairTakeover,
};
use kagami_admin::report::Changed;
use kagami_admin::request::{
    LunMapAdd, LunMapRemove, Place, VolumeCreate, VolumeGrow, VolumeMask, VolumeRemove, VolumeUnmask,
};
use kagami_admin::{Refusal, Reply, Request as Ask};
use kagami_orders::once::{self, Before, Way};
use kagami_orders::slots::{Event, Given};
use kagami_orders::{Code, Key, Order, OrderResult, RecordError, Request, Right, State, Tag};
use kagami_orders::{request, result, sign};
use kagami_tables::{Change, ResultRecord, Transaction};
use kagami_types::Uuid;
use std::collections::{BTreeMap, VecDeque};
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
    code: Code,
    message: String,
    document: Vec<u8>,
    offset: u64,
    replayed: bool,
}

/// How far an order is.
enum Far {
    Done(Yes),
    /// A group has it; the result comes when that has ended it.
    Begun,
}

/// An order that a group has, and where its result goes.
pub(super) struct InBand {
    slot: u32,
    turn: u64,
    answers: Answers,
    key: Option<Key>,
    id: Uuid,
    edit_data: bool,
    /// Kept, where it changes something.
    record: Option<ResultRecord>,
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
            decoded => match self.order_of(&given, decoded, &mut key, answers) {
                Ok(Far::Begun) => {
                    let running = OrderResult::new(id, array, State::Running, Code::Done, "the group has it");
                    return answers.put(given.slot, given.turn, running.encode(key.as_ref()), false);
                }
                Ok(Far::Done(yes)) => Ok(yes),
                Err(no) => Err(no),
            },
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
                    ..OrderResult::new(id, array, State::Done, yes.code, yes.message)
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
        answers: &Answers,
    ) -> Result<Far, No> {
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
        let outcome = self.may(given, &request, &giver).and_then(|order| match order {
            Some(order) => self.execute(given, &request, order, &giver, answers),
            None => self.replay(&request).map(Far::Done),
        });
        let what = match &outcome {
            // A change has its line by its transaction.
            Ok(Far::Begun) => None,
            Ok(Far::Done(yes)) if known.is_some_and(Order::is_change) && !yes.replayed => None,
            Ok(Far::Done(yes)) => {
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
        // An array that is trusted with orders has asked who gives them.
        let trusted = peer.is_some_and(|peer| peer.orders == Policy::Forward);
        let own = if trusted { own.max(Rights::Operate) } else { own };
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
    fn may(&self, given: &Given, request: &Request, giver: &Giver) -> Result<Option<&'static Order>, No> {
        let before = self.before(request.id).map(|record| Before {
            fingerprint: record.fingerprint,
            code: record.code,
            message: &record.message,
        });
        let generation = self.tables.generation().0;
        match once::judge(request, &given.record, giver.right, generation, millis(), before) {
            Ok(Way::Execute(order)) => Ok(Some(order)),
            Ok(Way::Again(..)) => Ok(None),
            Err((code, why)) => no(code, why),
        }
    }

    fn before(&self, id: Uuid) -> Option<&ResultRecord> {
        let refused = || self.desk.refused.iter().rev().find(|record| record.id == id);
        self.tables.state().result(id).or_else(refused)
    }

    /// The stored result of an order that was given before.
    fn replay(&self, request: &Request) -> Result<Yes, No> {
        let Some(record) = self.before(request.id) else { return no(Code::Failed, "its result is gone") };
        let code = Code::from_number(record.code).unwrap_or(Code::Failed);
        if !code.is_success() {
            return no(code, record.message.clone());
        }
        let generation = self.tables.generation().0;
        let changed = Changed { what: record.message.clone(), generation, notes: Vec::new() };
        let document = if request.edit_data { document(&changed) } else { Vec::new() };
        Ok(Yes { code, message: record.message.clone(), document, offset: 0, replayed: true })
    }

    /// Does it.
    fn execute(
        &mut self,
        given: &Given,
        request: &Request,
        order: &Order,
        giver: &Giver,
        answers: &Answers,
    ) -> Result<Far, No> {
        let mut record = ResultRecord {
            id: request.id,
            fingerprint: sign::fingerprint(&given.record),
            order: request.order,
            code: Code::Done.number(),
            message: String::new(),
        };
        let reply = match order.name {
            "continue" => return self.continued(request).map(Far::Done),
            "tables" => {
                let document = if request.edit_data { document(&self.command_devices()) } else { Vec::new() };
                let message = "done".to_owned();
                return Ok(Far::Done(Yes {
                    code: Code::Done,
                    message,
                    document,
                    offset: 0,
                    replayed: false,
                }));
            }
            _ => self.ask(request, order).and_then(|ask| {
                let who = format!("order:{}", giver.who);
                if let Some(order) = self.group_order(&ask) {
                    let order = order?;
                    let device = InBand {
                        slot: given.slot,
                        turn: given.turn,
                        answers: answers.clone(),
                        key: giver.key.clone(),
                        id: request.id,
                        edit_data: request.edit_data,
                        record: order.changes.then(|| record.clone()),
                    };
                    let given = self.give_group(order, &who, To::Device(Box::new(device)));
                    return given.map(|()| None).map_err(|(refusal, _)| refusal.into());
                }
                let change = order.is_change().then(|| record.clone());
                Ok(Some(self.order_in_band(ask, &who, change)?))
            }),
        };
        let reply = match reply {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(Far::Begun),
            Err(No(code, why)) => {
                if order.is_change() {
                    (record.code, record.message) = (code.number(), why.clone());
                    self.refuse_again(record);
                }
                return Err(No(code, why));
            }
        };
        let (code, message) = match &reply {
            Reply::Changed(changed) => (Code::Done, changed.what.clone()),
            Reply::Ordered(ordered) => (of_exit(ordered.exit_code), ordered.what.clone()),
            _ => (Code::Done, "done".to_owned()),
        };
        let document = if request.edit_data { document(&reply) } else { Vec::new() };
        if document.len() > result::MAX_EDIT_DATA {
            return no(Code::TooLarge, format!("it returns {} bytes", document.len()));
        }
        if document.len() > result::MAX_PART {
            self.desk.held.keep(request.host, request.id, document.clone());
        }
        Ok(Far::Done(Yes { code, message, document, offset: 0, replayed: false }))
    }

    /// What came of an order that a group had.
    pub(super) fn answer_in_band(&mut self, device: InBand, who: &str, line: &str, exit: u8, text: &str) {
        let InBand { slot, turn, answers, key, id, edit_data, record } = device;
        let mut code = of_exit(exit);
        let mut message = crate::events::cut(text, kagami_tables::MAX_MESSAGE).to_owned();
        match record {
            Some(mut record) if code.is_success() => {
                (record.code, record.message) = (code.number(), message.clone());
                let change = Transaction::new(who, line).with(Change::PutResult(record));
                if let Err(error) = self.tables.commit(&change) {
                    (code, message) =
                        (Code::TimedOut, format!("{message}; but that cannot be kept: {error}"));
                }
            }
            record => {
                self.note(who.trim_start_matches("order:"), line);
                if let Some(mut record) = record {
                    (record.code, record.message) = (code.number(), message.clone());
                    self.refuse_again(record);
                }
            }
        }
        let array = self.tables.state().array().uuid;
        let generation = self.tables.generation().0;
        let part = match code.is_success() && edit_data {
            true => document(&Reply::Ordered(Ordered { exit_code: exit, what: text.to_owned() })),
            false => Vec::new(),
        };
        let part = if part.len() > result::MAX_PART { Vec::new() } else { part };
        let result = OrderResult {
            generation,
            total: part.len() as u64,
            part,
            ..OrderResult::new(id, array, State::Done, code, message)
        };
        answers.put(slot, turn, result.encode(key.as_ref()), true);
    }

    /// Keeps what was refused, so that a belated copy of it changes nothing.
    fn refuse_again(&mut self, record: ResultRecord) {
        if self.desk.refused.len() >= REFUSED {
            self.desk.refused.pop_front();
        }
        self.desk.refused.push_back(record);
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
        let (message, document) = ("continued".to_owned(), document.to_vec());
        Ok(Yes { code: Code::Done, message, document, offset, replayed: false })
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
                spread: None,
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
            name if name.starts_with("pair-") || name.starts_with("journal-") || name == "marker" => {
                return pair_ask(name, given);
            }
            name => return no(Code::NotYet, format!("{name} is not in this version")),
        })
    }
}

/// What an order about pairs asks for.
fn pair_ask(name: &str, given: &kagami_orders::Parameters) -> Result<Ask, No> {
    let text = |tag: Tag| given.get_text(tag).map(str::to_owned);
    let group = text(Tag::Group);
    let position = given.get_number(Tag::Position);
    Ok(match name {
        "pair-create" => {
            let id = |tag: Tag| given.get_id(tag).unwrap_or_default().to_string();
            let wrong = |pair: &str| {
                No(Code::BadParameter, format!("{pair}: a pair is LUN:PEER_LUN:BLOCKS:BLOCK_BYTES"))
            };
            let pairs = given.texts(Tag::Pair).map(|pair| pair_of(pair).ok_or_else(|| wrong(pair)));
            Ask::PairCreate(PairCreate {
                group: group.unwrap_or_default(),
                group_id: id(Tag::GroupId),
                side: text(Tag::Side).unwrap_or_default(),
                peer: text(Tag::Peer).unwrap_or_default(),
                peer_id: id(Tag::PeerId),
                pairs: pairs.collect::<Result<_, _>>()?,
                journal: given.get_u16(Tag::Journal).unwrap_or(u16::MAX),
                peer_journal: given.get_u16(Tag::PeerJournal).unwrap_or(u16::MAX),
                journal_bytes: given.get_number(Tag::JournalBytes).unwrap_or(0),
                force: given.has(Tag::Force),
            })
        }
        "pair-delete" => Ask::PairDelete(PairDelete { group, force: given.has(Tag::Force) }),
        "pair-split" => Ask::PairSplit(PairSplit { group, writable: given.has(Tag::Writable) }),
        "pair-resync" => Ask::PairResync(PairResync { group, discard: text(Tag::Discard) }),
        "pair-swap" => {
            Ask::PairSwap(PairSwap { group, dry_run: given.has(Tag::DryRun), cancel: given.has(Tag::Cancel) })
        }
        "pair-takeover" => Ask::PairTakeover(PairTakeover {
            group,
            dry_run: given.has(Tag::DryRun),
            force: given.has(Tag::Force),
        }),
        "pair-status" | "journal-status" => Ask::PairStatus(GroupNamed { group }),
        "pair-set" => Ask::PairSet(PairSet { group, options: options_of(given.texts(Tag::Option))? }),
        "journal-acquire" => Ask::JournalAcquire(GroupAt { group, position }),
        "journal-restore" => Ask::JournalRestore(GroupRestore {
            group,
            position,
            time_nanos: given.get_number(Tag::TimeNanos),
            marker: text(Tag::Marker),
        }),
        "journal-purge" => Ask::JournalPurge(GroupAt { group, position }),
        "marker" => Ask::Marker(Marker {
            group,
            name: text(Tag::Marker).unwrap_or_default(),
            wait: given.has(Tag::Wait),
        }),
        name => return no(Code::NotYet, format!("{name} is not in this version")),
    })
}

/// Each `KEY=VALUE`, a key once, at least one.
fn options_of<'a>(texts: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, String>, No> {
    let mut options = BTreeMap::new();
    for text in texts {
        let Some((key, value)) =
            text.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty())
        else {
            return no(Code::BadParameter, format!("{text}: an option is KEY=VALUE, such as hold=10m"));
        };
        if options.insert(key.to_owned(), value.to_owned()).is_some() {
            return no(Code::BadParameter, format!("option {key} is there twice"));
        }
    }
    if options.is_empty() { no(Code::BadParameter, "no option is named") } else { Ok(options) }
}

/// `LUN:PEER_LUN:BLOCKS:BLOCK_BYTES`.
fn pair_of(text: &str) -> Option<PairOf> {
    let mut parts = text.split(':');
    let pair = PairOf {
        lun: parts.next()?.parse().ok()?,
        peer_lun: parts.next()?.parse().ok()?,
        blocks: parts.next()?.parse().ok()?,
        block_bytes: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(pair)
}

/// The code of an exit code.
fn of_exit(exit: u8) -> Code {
    match exit {
        0 => Code::Done,
        2 => Code::BadParameter,
        3 => Code::Refused,
        4 => Code::TimedOut,
        5 => Code::Unreachable,
        10 => Code::Swapped,
        11 => Code::TakenOver,
        12 => Code::Already,
        _ => Code::Failed,
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
