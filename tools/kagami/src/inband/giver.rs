//! Orders for one array: which one, at which generation, signed by whom.

use super::client::{Answer, Client, Courier};
use super::device::Device;
use kagami_admin::{Refusal, report};
use kagami_orders::{
    ANY_GENERATION, Code, Key, Order, OrderResult, Parameters, Request, Tag, request, result, sign,
};
use kagami_types::Uuid;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A signature holds for so long beyond the time-out, for clocks that differ.
const GRACE: Duration = Duration::from_secs(120);
/// Before an order is given again that came too late, or at a generation that had passed.
const AGAIN: Duration = Duration::from_millis(20);

/// How long the first array may take to find out who another one is.
const MEETING: Duration = Duration::from_secs(5);

/// What holds for all orders of a run.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long an order may take, with all its attempts.
    pub timeout: Duration,
    /// Who signs.
    pub operator: Option<(String, Key)>,
    /// The generation that changes act on; the present one where `None`.
    pub generation: Option<u64>,
    /// Where the record of a change is kept until it has a result, so that another run can give it again.
    pub record: Option<PathBuf>,
}

/// Gives orders to one array.
#[derive(Debug)]
pub struct Giver<C> {
    client: C,
    terms: Terms,
    host: Uuid,
    /// Nil: the array whose command device it is.
    target: Uuid,
    /// The array that signed orders are for, once it is known.
    executes: Option<Uuid>,
    deadline: Instant,
}

/// A result, and all its edit data.
#[derive(Clone, Debug)]
pub struct Given {
    /// The result; its code is one of success.
    pub result: OrderResult,
    /// JSON; empty without.
    pub data: Vec<u8>,
}

impl<D: Device> Giver<Client<D>> {
    /// For the array whose command device it is.
    pub fn new(device: D, terms: Terms) -> Result<Self, Refusal> {
        Self::over(Client::new(device)?, terms)
    }

    /// The device, for who closes it.
    pub fn into_device(self) -> D {
        self.client.into_device()
    }
}

impl<C: Courier> Giver<C> {
    /// For the array to which that courier goes.
    pub fn over(client: C, terms: Terms) -> Result<Self, Refusal> {
        let deadline = Instant::now() + terms.timeout;
        Ok(Self { client, terms, host: host_id()?, target: Uuid::nil(), executes: None, deadline })
    }

    /// Goes on with another array, by its name or UUID as the first one knows it.
    pub fn aim(&mut self, array: &str) -> Result<(), Refusal> {
        if let Ok(uuid) = Uuid::parse_str(array) {
            (self.target, self.executes) = (uuid, None);
            return Ok(());
        }
        // Names are the first array's, whomever the orders before this were for.
        (self.target, self.executes) = (Uuid::nil(), None);
        let report: report::Arrays = parse(&self.look_up("arrays")?)?;
        let found = report.arrays.iter().find(|known| known.name == array);
        let unknown = || {
            let names: Vec<_> = report.arrays.iter().map(|array| array.name.as_str()).collect();
            Refusal::unreachable(format!("no array {array} is known there, but: {}", names.join(", ")))
        };
        let found = found.ok_or_else(unknown)?;
        self.target = match &found.uuid {
            _ if found.role == "local" => Uuid::nil(),
            Some(uuid) => parse_uuid(array, uuid)?,
            None => self.meet(array)?,
        };
        self.executes = None;
        Ok(())
    }

    /// What the first array says of others: unsigned, as it need not know the operator of another one; signed
    /// where it tells only who signs.
    fn look_up(&mut self, name: &str) -> Result<Vec<u8>, Refusal> {
        let operator = self.terms.operator.take();
        let unsigned = self.order(name, &Parameters::new());
        self.terms.operator = operator;
        match unsigned {
            Err(refusal) if refusal.code == 3 && self.terms.operator.is_some() => {
                self.order(name, &Parameters::new()).map(|given| given.data)
            }
            other => other.map(|given| given.data),
        }
    }

    /// The UUID of an array that the first one has a way to, and may be meeting just now.
    fn meet(&mut self, array: &str) -> Result<Uuid, Refusal> {
        let patience = Instant::now() + MEETING.min(self.terms.timeout);
        loop {
            let table: report::CommandDevices = parse(&self.look_up("tables")?)?;
            let Some(row) = table.command_devices.iter().find(|row| row.array == array) else {
                return Err(Refusal::unreachable(format!(
                    "{array} is known there, but not its command device"
                )));
            };
            if let Some(uuid) = &row.uuid {
                return parse_uuid(array, uuid);
            }
            if Instant::now() >= patience {
                return Err(Refusal::unreachable(format!("{array} is known there, but cannot be reached")));
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// Gives an order, by its name, and fetches all its edit data.
    pub fn order(&mut self, name: &str, parameters: &Parameters) -> Result<Given, Refusal> {
        let order =
            Order::by_name(name).ok_or_else(|| Refusal::usage(format!("there is no order {name}")))?;
        self.deadline = Instant::now() + self.terms.timeout;
        let result = if order.is_change() {
            self.change(order, parameters)?
        } else {
            let executes = self.executes()?;
            self.look(order, parameters, executes, true)?
        };
        let result = done(result)?;
        let data = self.rest(&result)?;
        Ok(Given { result, data })
    }

    /// The array that signed orders are for; not asked for where nothing is signed.
    fn executes(&mut self) -> Result<Option<Uuid>, Refusal> {
        if self.terms.operator.is_some() && self.executes.is_none() {
            self.executes = Some(if self.target.is_nil() {
                // Who it is it says itself, also to whom it tells nothing else; what comes later is signed.
                self.look(arrays()?, &Parameters::new(), None, false)?.array
            } else {
                self.target
            });
        }
        Ok(self.executes)
    }

    /// An order that looks, at whatever generation; signed where it is said for whom.
    fn look(
        &mut self,
        order: &Order,
        parameters: &Parameters,
        executes: Option<Uuid>,
        edit_data: bool,
    ) -> Result<OrderResult, Refusal> {
        let mut request = self.request(order, parameters)?;
        request.edit_data = edit_data;
        let record = self.encode(request, executes)?;
        self.give(&record, executes)
    }

    /// An order that changes something: with a generation, and again where another change came between
    /// and the caller did not name one.
    fn change(&mut self, order: &Order, parameters: &Parameters) -> Result<OrderResult, Refusal> {
        let executes = self.executes()?;
        let file = self.terms.record.clone();
        if let Some(record) = file.as_deref().map(read_record).transpose()?.flatten() {
            let path = file.as_deref().unwrap_or(Path::new(""));
            let kept = Request::decode(&record)
                .map_err(|error| Refusal::usage(format!("{}: {error}", path.display())))?;
            if (kept.order, &kept.parameters, kept.target) != (order.number, parameters, self.target) {
                return Err(Refusal::usage(format!("{} keeps the record of another order", path.display())));
            }
            let result = self.give(&record, executes.filter(|_| kept.is_signed()))?;
            return self.forget(file.as_deref(), result);
        }
        loop {
            let generation = match self.terms.generation {
                Some(generation) => generation,
                None => done(self.look(arrays()?, &Parameters::new(), executes, false)?)?.generation,
            };
            let mut request = self.request(order, parameters)?;
            request.generation = generation;
            let record = self.encode(request, executes)?;
            if let Some(path) = &file {
                keep_record(path, &record)?;
            }
            let result = match (self.give(&record, executes), &file) {
                (Err(late), Some(path)) if late.code == 4 => {
                    let again =
                        format!("{}; the same command with --record {} tells", late.reason, path.display());
                    return Err(Refusal::timed_out(again));
                }
                (result, _) => result?,
            };
            let passed = result.code == Code::Stale && self.terms.generation.is_none();
            if !passed || Instant::now() + AGAIN >= self.deadline {
                return self.forget(file.as_deref(), result);
            }
            self.forget(file.as_deref(), result)?;
            std::thread::sleep(AGAIN);
        }
    }

    /// What it was has a result, so nothing is to be given again.
    fn forget(&self, file: Option<&Path>, result: OrderResult) -> Result<OrderResult, Refusal> {
        if let Some(path) = file {
            std::fs::remove_file(path).map_err(|error| {
                Refusal::failed(format!("{} cannot be removed: {error}; the order has ended", path.display()))
            })?;
        }
        Ok(result)
    }

    /// The edit data behind the first part.
    fn rest(&mut self, first: &OrderResult) -> Result<Vec<u8>, Refusal> {
        let order =
            Order::by_name("continue").ok_or_else(|| Refusal::failed("there is no order continue"))?;
        let most = result::MAX_EDIT_DATA as u64;
        if first.total > most || first.offset != 0 {
            return Err(Refusal::failed("the result says something impossible of its edit data"));
        }
        let mut data = first.part.clone();
        while (data.len() as u64) < first.total {
            let parameters =
                Parameters::new().id(Tag::Request, first.id).number(Tag::Offset, data.len() as u64);
            let executes = self.executes()?;
            let next = done(self.look(order, &parameters, executes, true)?)?;
            if next.offset != data.len() as u64 || next.part.is_empty() || next.total != first.total {
                return Err(Refusal::failed("the rest of the edit data is not what was asked for"));
            }
            data.extend_from_slice(&next.part);
        }
        Ok(data)
    }

    fn request(&self, order: &Order, parameters: &Parameters) -> Result<Request, Refusal> {
        let mut request = Request::new(order.number, random_id()?, self.host);
        request.target = self.target;
        request.generation = ANY_GENERATION;
        request.parameters = parameters.clone();
        Ok(request)
    }

    fn encode(&self, mut request: Request, executes: Option<Uuid>) -> Result<Vec<u8>, Refusal> {
        let too_long = |error: kagami_orders::RecordError| Refusal::usage(error.to_string());
        let (Some((name, key)), Some(executes)) = (&self.terms.operator, executes) else {
            return request.encode().map_err(too_long);
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_millis()).unwrap_or(0);
        let hold = (self.terms.timeout + GRACE).as_millis().min(u128::from(sign::LONGEST_MILLIS / 2));
        request.expires = u64::try_from(now + hold).unwrap_or(u64::MAX);
        request.operator.clone_from(name);
        request.encode_signed(key, executes).map_err(too_long)
    }

    /// A record's result, given again while the array is too busy, and believed only where it is signed by
    /// who knows the key.
    fn give(&mut self, record: &[u8], signed_for: Option<Uuid>) -> Result<OrderResult, Refusal> {
        let answer = loop {
            let answer = self.client.give(record, self.deadline)?;
            if answer.result.code != Code::Busy || Instant::now() + AGAIN >= self.deadline {
                break answer;
            }
            std::thread::sleep(AGAIN);
        };
        match (signed_for, &self.terms.operator) {
            (Some(array), Some((_, key))) => trust(answer, key, array),
            _ => Ok(answer.result),
        }
    }
}

/// A result that says that all is well must be signed; one that says why not may come from somebody who
/// does not know the key.
fn trust(answer: Answer, key: &Key, array: Uuid) -> Result<OrderResult, Refusal> {
    let Answer { result, record } = answer;
    let proven = result.array == array && result::verify(&record, key);
    if proven || (!result.signed && !result.code.is_success()) {
        return Ok(result);
    }
    Err(Refusal::failed("the result is not signed with the operator's key; it is not believed"))
}

fn parse_uuid(array: &str, uuid: &str) -> Result<Uuid, Refusal> {
    Uuid::parse_str(uuid).map_err(|error| Refusal::failed(format!("the UUID of {array}: {error}")))
}

/// The result, where it is done; else the exit code and words of its end.
fn done(result: OrderResult) -> Result<OrderResult, Refusal> {
    if result.code.is_success() {
        return Ok(result);
    }
    let why = if result.message.is_empty() { result.code.meaning() } else { &result.message };
    Err(Refusal { code: result.code.exit(), reason: format!("{}: {why}", result.code.word()) })
}

/// Edit data, as a report.
pub fn parse<T: serde::de::DeserializeOwned>(data: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(data)
        .map_err(|error| Refusal::failed(format!("what the array returns cannot be read: {error}")))
}

fn arrays() -> Result<&'static Order, Refusal> {
    Order::by_name("arrays").ok_or_else(|| Refusal::failed("there is no order arrays"))
}

fn random_id() -> Result<Uuid, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::failed("the system has no random bytes"))?;
    Ok(uuid(bytes))
}

fn uuid(bytes: [u8; 16]) -> Uuid {
    // Never zero, which would mean "none"; and recognisable as random (RFC 9562 5.4).
    let mut bytes = bytes;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid::from_bytes(bytes)
}

/// This host, always by the same id: made from the machine's own (machine-id(5)), which it does not tell.
/// Random where there is none.
fn host_id() -> Result<Uuid, Refusal> {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let Some(key) = Key::new(machine.trim_ascii()) else { return random_id() };
    let mac = key.sign(Uuid::nil(), b"kagami host id");
    mac.first_chunk::<16>().map_or_else(random_id, |bytes| Ok(uuid(*bytes)))
}

/// The record in a file; `None` where there is no file.
fn read_record(path: &Path) -> Result<Option<Vec<u8>>, Refusal> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Refusal::usage(format!("{}: {error}", path.display()))),
    };
    let record = request::whole(&bytes).map_err(|_| {
        Refusal::usage(format!("{} holds no record of an order; nothing was given", path.display()))
    })?;
    Ok(Some(record.to_vec()))
}

/// Writes a record, durably, before it is given.
fn keep_record(path: &Path, record: &[u8]) -> Result<(), Refusal> {
    let wrong = |error: std::io::Error| Refusal::failed(format!("{}: {error}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(wrong)?;
    file.write_all(record).and_then(|()| file.sync_all()).map_err(wrong)
}
