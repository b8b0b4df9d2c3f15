//! Edit data: what an order returns, as JSON, and what of it is kept for continuation.

use crate::run::Daemon;
use kagami_admin::report::{CommandDevice, CommandDevices};
use kagami_types::Uuid;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long edit data are kept after they were last asked for.
const KEPT: Duration = Duration::from_secs(60);
/// Bytes of edit data that are kept.
const MOST: usize = 16 << 20;

/// A report, or a reply with a report inside, as the document that `kagami --json` prints.
pub(super) fn document(report: &impl Serialize) -> Vec<u8> {
    let Ok(mut value) = serde_json::to_value(report) else { return Vec::new() };
    // A reply is an object of one key, its kind; the report is inside.
    if let Some(object) = value.as_object_mut()
        && object.len() == 1
        && let Some(inside) = object.values_mut().next().filter(|inside| inside.is_object())
    {
        value = inside.take();
    }
    let mut out = serde_json::Map::new();
    out.insert("schema".to_owned(), kagami_admin::SCHEMA.into());
    if let serde_json::Value::Object(object) = value {
        out.extend(object);
    }
    serde_json::to_vec(&out).unwrap_or_default()
}

/// Edit data of more than one part.
#[derive(Debug, Default)]
pub(super) struct Held {
    all: VecDeque<(Uuid, Uuid, Vec<u8>, Instant)>,
}

impl Held {
    /// Keeps those of an order of a host; the oldest make room.
    pub(super) fn keep(&mut self, host: Uuid, id: Uuid, document: Vec<u8>) {
        let now = Instant::now();
        self.all.retain(|(other, known, _, until)| (*other, *known) != (host, id) && *until > now);
        let mut bytes: usize = self.all.iter().map(|(_, _, document, _)| document.len()).sum();
        while bytes + document.len() > MOST {
            let Some((_, _, oldest, _)) = self.all.pop_front() else { break };
            bytes -= oldest.len();
        }
        self.all.push_back((host, id, document, now + KEPT));
    }

    /// Those of an order of that host, if they are still kept.
    pub(super) fn get(&mut self, host: Uuid, id: Uuid) -> Option<&[u8]> {
        let now = Instant::now();
        let found = self.all.iter_mut().find(|(other, known, _, _)| (*other, *known) == (host, id));
        let (_, _, document, until) = found?;
        if *until <= now {
            return None;
        }
        *until = now + KEPT;
        Some(document)
    }
}

impl Daemon {
    /// The command device table: the array's own, and those of others by the LUNs of virtual volumes.
    pub(super) fn command_devices(&self) -> CommandDevices {
        let own = self.config.volumes.iter().filter(|volume| volume.role == crate::config::Role::Command);
        let own = own.map(|volume| CommandDevice {
            array: self.plan.name.clone(),
            uuid: Some(self.tables.state().array().uuid.to_string()),
            lun: volume.lun.number(),
        });
        let others = self.array.routes().into_iter().map(|route| CommandDevice {
            uuid: self.desk.forwarder.uuid(route.lun).map(|uuid| uuid.to_string()),
            array: route.peer,
            lun: route.lun,
        });
        CommandDevices { command_devices: own.chain(others).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_admin::Reply;
    use kagami_admin::report::Changed;

    #[test]
    fn documents_are_what_the_tool_prints() {
        let changed = Changed { what: "x".into(), generation: 7, notes: Vec::new() };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let expected = r#"{"generation":7,"notes":[],"schema":1,"what":"x"}"#;
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&text(document(&changed))), value(expected));
        assert_eq!(value(&text(document(&Reply::Changed(changed)))), value(expected));
        let devices = CommandDevices { command_devices: Vec::new() };
        assert_eq!(value(&text(document(&devices))), value(r#"{"schema":1,"command_devices":[]}"#));
    }

    #[test]
    fn what_is_kept_is_bounded_and_its_hosts_own() {
        let (host, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut held = Held::default();
        for id in 0..10 {
            held.keep(host, Uuid::from_u128(id), vec![0; 4 << 20]);
        }
        assert!(held.get(host, Uuid::from_u128(5)).is_none());
        assert!(
            held.get(host, Uuid::from_u128(9)).is_some() && held.get(other, Uuid::from_u128(9)).is_none()
        );
        assert_eq!(held.all.len(), 4);
    }
}
