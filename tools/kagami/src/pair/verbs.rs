//! The order that a request is.

use crate::inband::Verb;
use kagami_admin::pair::{GroupAt, PairOf};
use kagami_admin::{Refusal, Request};
use kagami_orders::{Parameters, Tag};
use kagami_types::Uuid;

/// The order that does what a request asks for.
pub fn verb(request: &Request) -> Result<Verb, Refusal> {
    let none = Parameters::new();
    let of = |group: &Option<String>| text(Parameters::new(), Tag::Group, group.as_deref());
    let at = |asked: &GroupAt| Ok::<_, Refusal>(number(of(&asked.group)?, Tag::Position, asked.position));
    let (order, parameters) = match request {
        Request::Arrays => ("arrays", none),
        Request::Volumes => ("volumes", none),
        Request::Stats => ("stats", none),
        Request::PairCreate(asked) => {
            let id = |tag: Tag, id: &str| {
                Uuid::parse_str(id)
                    .map(|id| (tag, id))
                    .map_err(|_| Refusal::usage(format!("{id} is no UUID")))
            };
            let mut parameters = text(none, Tag::Group, Some(&asked.group))?;
            for (tag, id) in [id(Tag::GroupId, &asked.group_id)?, id(Tag::PeerId, &asked.peer_id)?] {
                parameters = parameters.id(tag, id);
            }
            parameters = text(parameters, Tag::Side, Some(&asked.side))?;
            parameters = text(parameters, Tag::Peer, Some(&asked.peer))?;
            for PairOf { lun, peer_lun, blocks, block_bytes } in &asked.pairs {
                parameters = parameters.text(Tag::Pair, &format!("{lun}:{peer_lun}:{blocks}:{block_bytes}"));
            }
            let parameters = parameters
                .number(Tag::Journal, u64::from(asked.journal))
                .number(Tag::PeerJournal, u64::from(asked.peer_journal))
                .number(Tag::JournalBytes, asked.journal_bytes)
                .flag(Tag::Force, asked.force);
            ("pair-create", parameters)
        }
        Request::PairDelete(asked) => ("pair-delete", of(&asked.group)?.flag(Tag::Force, asked.force)),
        Request::PairSplit(asked) => ("pair-split", of(&asked.group)?.flag(Tag::Writable, asked.writable)),
        Request::PairResync(asked) => {
            ("pair-resync", text(of(&asked.group)?, Tag::Discard, asked.discard.as_deref())?)
        }
        Request::PairSwap(asked) => {
            let parameters = of(&asked.group)?.flag(Tag::DryRun, asked.dry_run);
            ("pair-swap", parameters.flag(Tag::Cancel, asked.cancel))
        }
        Request::PairTakeover(asked) => {
            let parameters = of(&asked.group)?.flag(Tag::DryRun, asked.dry_run);
            ("pair-takeover", parameters.flag(Tag::Force, asked.force))
        }
        Request::PairStatus(asked) => ("pair-status", of(&asked.group)?),
        Request::PairSet(asked) => {
            let mut parameters = of(&asked.group)?;
            for (key, value) in &asked.options {
                parameters = text(parameters, Tag::Option, Some(&format!("{key}={value}")))?;
            }
            ("pair-set", parameters)
        }
        Request::JournalAcquire(asked) => ("journal-acquire", at(asked)?),
        Request::JournalPurge(asked) => ("journal-purge", at(asked)?),
        Request::JournalRestore(asked) => {
            let parameters = number(of(&asked.group)?, Tag::Position, asked.position);
            let parameters = number(parameters, Tag::TimeNanos, asked.time_nanos);
            ("journal-restore", text(parameters, Tag::Marker, asked.marker.as_deref())?)
        }
        Request::Marker(asked) => {
            let parameters = text(of(&asked.group)?, Tag::Marker, Some(&asked.name))?;
            ("marker", parameters.flag(Tag::Wait, asked.wait))
        }
        _ => return Err(Refusal::usage("there is no order for this")),
    };
    Ok(Verb { order, parameters, array: None })
}

fn number(parameters: Parameters, tag: Tag, value: Option<u64>) -> Parameters {
    match value {
        Some(value) => parameters.number(tag, value),
        None => parameters,
    }
}

fn text(parameters: Parameters, tag: Tag, value: Option<&str>) -> Result<Parameters, Refusal> {
    let most = kagami_orders::parameters::MAX_TEXT;
    match value {
        None => Ok(parameters),
        Some(value) if !value.is_empty() && value.len() <= most && !value.contains(char::is_control) => {
            Ok(parameters.text(tag, value))
        }
        Some(_) => {
            Err(Refusal::usage(format!("{}: 1 to {most} bytes without control characters", tag.word())))
        }
    }
}
