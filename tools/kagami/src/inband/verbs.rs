//! From a command of the tool to an order, and from its edit data to what is reply.

use super::client::Courier;
use super::giver::{Giver, Terms, parse};
use super::way::{self, Way};
use crate::ask::{millis, size};
use crate::cli::{Cli, Command, LunCommand, LunMapCommand, VolumeCommand};
use kagami_admin::pair::Ordered;
use kagami_admin::report::Changed;
use kagami_admin::{Refusal, Reply};
use kagami_orders::{Parameters, Tag};

/// An order by its name, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verb {
    pub order: &'static str,
    pub parameters: Parameters,
    /// The array that a volume's name begins with.
    pub array: Option<String>,
}

/// Gives the order that the command stands for, and returns what an admin socket would answer.
pub fn run(cli: &Cli, way: Way) -> Result<Reply, Refusal> {
    let verb = verb(&cli.command)?;
    let terms = terms(cli)?;
    let patience = terms.timeout;
    let device = match way {
        Way::Block(path) => way::open_block(&path)?,
        Way::Iscsi(url) => way::open_iscsi(url, &cli.inband, &cli.initiator, patience)?,
        Way::Unix(_) => return Err(Refusal::failed("an admin socket is no command device")),
    };
    let mut giver = Giver::new(device, terms)?;
    let reply = give(&mut giver, &verb, cli.inband.array.as_deref());
    giver.into_device().close();
    reply
}

/// The same over any device.
pub fn give<C: Courier>(giver: &mut Giver<C>, verb: &Verb, array: Option<&str>) -> Result<Reply, Refusal> {
    if let Some(array) = array.or(verb.array.as_deref()) {
        giver.aim(array)?;
    }
    let given = giver.order(verb.order, &verb.parameters)?;
    let data = &given.data;
    Ok(match verb.order {
        "arrays" => Reply::Arrays(parse(data)?),
        "volumes" => Reply::Volumes(parse(data)?),
        "luns" => Reply::Luns(parse(data)?),
        "stats" => Reply::Stats(parse(data)?),
        "tables" => Reply::Tables(parse(data)?),
        "pair-status" | "journal-status" => Reply::Groups(parse(data)?),
        order if order.starts_with("pair-") || order.starts_with("journal-") || order == "marker" => {
            let (code, message) = (given.result.code, given.result.message);
            Reply::Ordered(Ordered { exit_code: code.exit(), what: message })
        }
        _ => {
            let result = given.result;
            let mut changed = if data.is_empty() {
                Changed { what: result.message, generation: result.generation, notes: Vec::new() }
            } else {
                parse(data)?
            };
            if result.replayed {
                changed.notes.push("it was done before; this is what came of it then".to_owned());
            }
            Reply::Changed(changed)
        }
    })
}

pub fn terms(cli: &Cli) -> Result<Terms, Refusal> {
    let args = &cli.inband;
    let timeout = std::time::Duration::from_millis(millis(&args.timeout)?);
    if timeout.is_zero() {
        return Err(Refusal::usage("--timeout 0 leaves no time for anything"));
    }
    Ok(Terms {
        timeout,
        operator: way::operator(args)?,
        generation: args.generation,
        record: args.record.clone(),
    })
}

/// The order that a command stands for.
pub fn verb(command: &Command) -> Result<Verb, Refusal> {
    let look = |order| Ok(Verb { order, parameters: Parameters::new(), array: None });
    match command {
        Command::Arrays => look("arrays"),
        Command::Volumes => look("volumes"),
        Command::Luns => look("luns"),
        Command::Stats => look("stats"),
        Command::Tables => look("tables"),
        Command::Volume(command) => volume(command),
        Command::Lun(LunCommand::Map(command)) => lun_map(command),
        _ => Err(Refusal::usage(
            "there is no order for this; use the array's admin socket: --via unix:PATH, on its machine",
        )),
    }
}

fn volume(command: &VolumeCommand) -> Result<Verb, Refusal> {
    let none = Parameters::new();
    Ok(match command {
        VolumeCommand::Create {
            name,
            lun,
            path,
            backend,
            size: length,
            block_size,
            cache,
            read_only,
            thin,
            spread,
            initiator,
            adopt,
            pool,
        } => {
            if path.is_some() || backend.is_some() || thin.is_some() || spread.is_some() || *adopt {
                return Err(Refusal::usage(
                    "orders make volumes in declared pools only: --path, --backend, --thin, --spread and --adopt \
                     are for the admin socket",
                ));
            }
            let length =
                length.as_deref().ok_or_else(|| Refusal::usage("--size is needed, such as --size 10GiB"))?;
            let mut parameters = text(none, Tag::Name, name)?.number(Tag::SizeBytes, size(length)?);
            parameters = optional(parameters, Tag::Pool, pool.as_deref())?;
            if let Some(lun) = lun {
                parameters = parameters.number(Tag::Lun, u64::from(*lun));
            }
            if let Some(bytes) = block_size {
                parameters = parameters.number(Tag::BlockBytes, u64::from(*bytes));
            }
            parameters = optional(parameters, Tag::Cache, cache.as_deref())?.flag(Tag::ReadOnly, *read_only);
            for iqn in initiator {
                parameters = text(parameters, Tag::Initiator, iqn)?;
            }
            Verb { order: "volume-create", parameters, array: None }
        }
        VolumeCommand::Grow { volume, size: length } => {
            let length =
                length.as_deref().ok_or_else(|| Refusal::usage("--size is needed, such as --size 20GiB"))?;
            let bytes = size(length)?;
            let verb = of_volume("volume-resize", volume, none)?;
            Verb { parameters: verb.parameters.number(Tag::SizeBytes, bytes), ..verb }
        }
        VolumeCommand::Remove { volume, force } => {
            let verb = of_volume("volume-delete", volume, none)?;
            Verb { parameters: verb.parameters.flag(Tag::Force, *force), ..verb }
        }
        VolumeCommand::Mask { volume, initiator, force } => {
            let verb = of_volume("volume-mask", volume, none)?;
            let parameters = text(verb.parameters, Tag::Initiator, initiator)?.flag(Tag::Force, *force);
            Verb { parameters, ..verb }
        }
        VolumeCommand::Unmask { volume, initiator } => {
            let verb = of_volume("volume-unmask", volume, none)?;
            Verb { parameters: text(verb.parameters, Tag::Initiator, initiator)?, ..verb }
        }
        VolumeCommand::Rename { .. } => {
            return Err(Refusal::usage("there is no order that renames a volume; use --via unix:PATH"));
        }
    })
}

fn lun_map(command: &LunMapCommand) -> Result<Verb, Refusal> {
    let none = Parameters::new();
    Ok(match command {
        LunMapCommand::Add { name, peer, mapped_lun, lun, role, initiator } => {
            let parameters = text(none, Tag::Name, name)?;
            let mut parameters =
                text(parameters, Tag::Peer, peer)?.number(Tag::MappedLun, u64::from(*mapped_lun));
            if let Some(lun) = lun {
                parameters = parameters.number(Tag::Lun, u64::from(*lun));
            }
            parameters = optional(parameters, Tag::Role, role.as_deref())?;
            for iqn in initiator {
                parameters = text(parameters, Tag::Initiator, iqn)?;
            }
            Verb { order: "lun-map-add", parameters, array: None }
        }
        LunMapCommand::Remove { volume, force } => {
            let verb = of_volume("lun-map-remove", volume, none)?;
            Verb { parameters: verb.parameters.flag(Tag::Force, *force), ..verb }
        }
    })
}

/// An order about a volume. `ARRAY:LUN` says which array too.
fn of_volume(order: &'static str, volume: &str, parameters: Parameters) -> Result<Verb, Refusal> {
    let array = volume
        .rsplit_once(':')
        .filter(|(_, lun)| !lun.is_empty() && lun.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|(array, _)| array.to_owned());
    Ok(Verb { order, parameters: text(parameters, Tag::Volume, volume)?, array })
}

fn text(parameters: Parameters, tag: Tag, value: &str) -> Result<Parameters, Refusal> {
    let most = kagami_orders::parameters::MAX_TEXT;
    if value.is_empty() || value.len() > most || value.contains(char::is_control) {
        return Err(Refusal::usage(format!("{}: 1 to {most} bytes without control characters", tag.word())));
    }
    Ok(parameters.text(tag, value))
}

fn optional(parameters: Parameters, tag: Tag, value: Option<&str>) -> Result<Parameters, Refusal> {
    match value {
        Some(value) => text(parameters, tag, value),
        None => Ok(parameters),
    }
}
