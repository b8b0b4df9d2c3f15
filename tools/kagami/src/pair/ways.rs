//! One way in, and through it to two arrays: an admin socket that passes orders on, or a command device.

use super::verbs::verb;
use crate::cli::Cli;
use crate::inband::{self, Answer, Client, Courier, Either, Giver, Terms, Way};
use crate::via::{self, Connection};
use kagami_admin::pair::{Group, GroupNamed, Relay, from_hex, to_hex};
use kagami_admin::report::{Array, Arrays};
use kagami_admin::{Refusal, Reply, Request};
use kagami_orders::{OrderResult, result};
use std::time::{Duration, Instant};

/// How long the array at hand may take to find out who the other one is.
const MEETING: Duration = Duration::from_secs(5);

enum Through {
    Socket(Connection),
    Device(Box<Giver<Client<Either>>>),
}

/// The way to both arrays.
pub struct Ways {
    through: Through,
    terms: Terms,
    /// The array that is meant where none is named.
    chosen: Option<String>,
}

/// Brings records to other arrays over an admin socket.
struct ByRelay<'a>(&'a mut Connection);

impl Courier for ByRelay<'_> {
    fn give(&mut self, record: &[u8], _: Instant) -> Result<Answer, Refusal> {
        let strange = || Refusal::failed("the array answers something else than a result");
        match self.0.ask(Request::Relay(Relay { record: to_hex(record) }))? {
            Reply::Relayed(relayed) => {
                let record = from_hex(&relayed.result).ok_or_else(strange)?;
                let record = result::whole(&record).map_err(|_| strange())?.to_vec();
                let result =
                    OrderResult::decode(&record).map_err(|error| Refusal::failed(error.to_string()))?;
                Ok(Answer { result, record })
            }
            _ => Err(strange()),
        }
    }
}

impl Ways {
    /// Opens what `--via` names.
    pub fn open(cli: &Cli) -> Result<Self, Refusal> {
        let terms = inband::terms(cli)?;
        let through = match inband::way(cli.via.as_deref())? {
            Way::Unix(path) => Through::Socket(via::connect(path.as_deref())?),
            Way::Block(path) => {
                Through::Device(Box::new(Giver::new(inband::open_block(&path)?, terms.clone())?))
            }
            Way::Iscsi(url) => {
                let device = inband::open_iscsi(url, &cli.inband, &cli.initiator, terms.timeout)?;
                Through::Device(Box::new(Giver::new(device, terms.clone())?))
            }
        };
        Ok(Self { through, terms, chosen: cli.inband.array.clone() })
    }

    /// Over that socket, with that much patience.
    pub fn socket(path: &std::path::Path, timeout: Duration) -> Result<Self, Refusal> {
        let terms = Terms { timeout, operator: None, generation: None, record: None };
        Ok(Self { through: Through::Socket(via::connect(Some(path))?), terms, chosen: None })
    }

    /// Logs out, where there is a session.
    pub fn close(self) {
        if let Through::Device(giver) = self.through {
            giver.into_device().close();
        }
    }

    /// Asks an array something: the one at hand, or the named one.
    pub fn ask(&mut self, array: Option<&str>, request: Request) -> Result<Reply, Refusal> {
        let array = array.map(str::to_owned).or_else(|| self.chosen.clone());
        match &mut self.through {
            Through::Device(giver) => {
                giver.aim(array.as_deref().unwrap_or("00000000-0000-0000-0000-000000000000"))?;
                inband::give(giver, &verb(&request)?, None)
            }
            Through::Socket(connection) => {
                let Some(name) = array else { return connection.ask(request) };
                let Some(uuid) = far(connection, &name)? else { return connection.ask(request) };
                let mut giver = Giver::over(ByRelay(connection), self.terms.clone())?;
                giver.aim(&uuid)?;
                inband::give(&mut giver, &verb(&request)?, None)
            }
        }
    }

    /// What an array says of itself and its peers.
    pub fn arrays(&mut self, array: &str) -> Result<Arrays, Refusal> {
        match self.ask(Some(array), Request::Arrays)? {
            Reply::Arrays(arrays) => Ok(arrays),
            _ => Err(Refusal::failed("the array answers something else than its name")),
        }
    }

    /// A group as the array at hand sees it; the only one, where none is named.
    pub fn group(&mut self, name: Option<String>) -> Result<Group, Refusal> {
        let mut groups =
            super::groups(self.ask(None, Request::PairStatus(GroupNamed { group: name }))?)?.groups;
        match (groups.len(), groups.pop()) {
            (1, Some(group)) => Ok(group),
            (0, _) => Err(Refusal::state("there is no group of pairs")),
            _ => Err(Refusal::usage("there are several groups; name one")),
        }
    }
}

/// The UUID of another array; nothing where it is the one at hand.
fn far(connection: &mut Connection, name: &str) -> Result<Option<String>, Refusal> {
    let patience = Instant::now() + MEETING;
    loop {
        let Reply::Arrays(arrays) = connection.ask(Request::Arrays)? else {
            return Err(Refusal::failed("the array answers something else than its name"));
        };
        let is = |array: &&Array| array.name == name || array.uuid.as_deref() == Some(name);
        let Some(array) = arrays.arrays.iter().find(is) else {
            let names: Vec<_> = arrays.arrays.iter().map(|array| array.name.as_str()).collect();
            return Err(Refusal::unreachable(format!(
                "no array {name} is known there, but: {}",
                names.join(", ")
            )));
        };
        if array.role == "local" {
            return Ok(None);
        }
        if let Some(uuid) = &array.uuid {
            return Ok(Some(uuid.clone()));
        }
        if Instant::now() >= patience {
            return Err(Refusal::unreachable(format!(
                "{name} is known there, but its command device is out of reach or not mapped ([[virtual]] with role = \"command\")"
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
