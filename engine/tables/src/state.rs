//! The tables in memory, the changes to them, and both as records.
//!
//! A change is "this record is now so" or "this record is gone", so applying one twice does
//! nothing more, and a checkpoint is the same records as a transaction that makes everything.

use crate::codec::{Malformed, Reader, Writer};
use crate::error::TablesError;
use crate::frame::Generation;
use crate::record::{ArrayRecord, Object, ObjectKind, ResultRecord, VolumeRecord, kind};
use crate::{MAX_MESSAGE, MAX_OBJECT, MAX_OBJECTS, MAX_RESULTS, MAX_SCSI_STATE, MAX_TRANSACTION};
use kagami_types::{Lun, Uuid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Everything that the tables hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    array: ArrayRecord,
    volumes: BTreeMap<Uuid, VolumeRecord>,
    scsi: BTreeMap<Uuid, Vec<u8>>,
    objects: BTreeMap<(ObjectKind, String), String>,
    /// Results of the last orders, the oldest first. Shared, as most changes leave them as they are.
    results: Arc<VecDeque<ResultRecord>>,
    /// Records that a newer version wrote and marked as safe to ignore: kept as they are.
    unknown: BTreeMap<(u16, Vec<u8>), Unknown>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Unknown {
    version: u16,
    payload: Vec<u8>,
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The array's name is now this.
    Rename(String),
    /// A volume is new, or now so. Its UUID never changes.
    PutVolume(VolumeRecord),
    /// A volume is gone, with its SCSI state.
    DeleteVolume(Uuid),
    /// A volume's SCSI state (reservations that persist, saved mode pages) is now this.
    PutScsi {
        /// The volume.
        volume: Uuid,
        /// Bytes that only the SCSI side reads.
        state: Vec<u8>,
    },
    /// A volume has no SCSI state any more.
    DeleteScsi(Uuid),
    /// An object made at run time is new, or now so.
    PutObject(Object),
    /// An object made at run time is gone.
    DeleteObject(ObjectKind, String),
    /// What came of the order that asks for this transaction. The oldest goes where there are too many.
    PutResult(ResultRecord),
}

/// Changes that become durable together, and the audit line that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub(crate) changes: Vec<Change>,
    pub(crate) expect: Option<Generation>,
    pub(crate) who: String,
    pub(crate) what: String,
}

impl Transaction {
    /// An empty transaction. `who` is the source ("file", "socket", an initiator's name),
    /// `what` the order in plain words; both go to the audit log.
    #[must_use]
    pub fn new(who: impl Into<String>, what: impl Into<String>) -> Self {
        Self { changes: Vec::new(), expect: None, who: who.into(), what: what.into() }
    }

    /// Adds a change. Changes apply in order.
    #[must_use]
    pub fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Adds a change, in place.
    pub fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Commits only if the tables are still at that generation (compare and set).
    #[must_use]
    pub fn at(mut self, generation: Generation) -> Self {
        self.expect = Some(generation);
        self
    }

    /// Whether it makes an object.
    pub(crate) fn has_objects(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::PutObject(_)))
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// The audit line of a transaction, as it travels in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audit {
    /// Milliseconds since 1970.
    pub millis: u64,
    pub who: String,
    pub what: String,
}

/// Bit 0 of a record's flags: the record is a deletion.
const DELETE: u8 = 1;
/// Bit 1: a reader that does not know the kind keeps the record and goes on.
const OPTIONAL: u8 = 2;

/// One record of a frame.
struct Record<'a> {
    kind: u16,
    version: u16,
    flags: u8,
    key: &'a [u8],
    payload: &'a [u8],
}

fn put(out: &mut Writer, kind: u16, version: u16, flags: u8, key: &[u8], payload: &[u8]) {
    out.u16(kind);
    out.u16(version);
    out.u8(flags);
    out.bytes(key);
    out.bytes(payload);
}

fn take<'a>(from: &mut Reader<'a>) -> Result<Record<'a>, Malformed> {
    Ok(Record {
        kind: from.u16()?,
        version: from.u16()?,
        flags: from.u8()?,
        key: from.bytes()?,
        payload: from.bytes()?,
    })
}

/// The body of a transaction's frame.
pub(crate) fn encode_transaction(transaction: &Transaction, array: Uuid, millis: u64) -> Vec<u8> {
    let mut out = Writer::default();
    for change in &transaction.changes {
        match change {
            Change::Rename(name) => {
                let record = ArrayRecord { uuid: array, name: name.clone() };
                put(&mut out, kind::ARRAY, ArrayRecord::VERSION, 0, &[], &record.encode());
            }
            Change::PutVolume(volume) => put_volume(&mut out, volume),
            Change::DeleteVolume(uuid) => put(&mut out, kind::VOLUME, 1, DELETE, uuid.as_bytes(), &[]),
            Change::PutScsi { volume, state } => put(&mut out, kind::SCSI, 1, 0, volume.as_bytes(), state),
            Change::DeleteScsi(uuid) => put(&mut out, kind::SCSI, 1, DELETE, uuid.as_bytes(), &[]),
            Change::PutObject(object) => {
                put(&mut out, kind::OBJECT, 1, 0, &object.kind.key(&object.name), object.toml.as_bytes());
            }
            Change::DeleteObject(of, name) => put(&mut out, kind::OBJECT, 1, DELETE, &of.key(name), &[]),
            Change::PutResult(result) => put_result(&mut out, result),
        }
    }
    let mut audit = Writer::default();
    audit.u64(millis);
    audit.text(&transaction.who);
    audit.text(&transaction.what);
    put(&mut out, kind::AUDIT, 1, OPTIONAL, &[], &audit.0);
    out.0
}

fn put_volume(out: &mut Writer, volume: &VolumeRecord) {
    put(out, kind::VOLUME, VolumeRecord::VERSION, 0, volume.uuid.as_bytes(), &volume.encode());
}

/// Whoever does not know results takes no orders either, and keeps them for who does.
fn put_result(out: &mut Writer, result: &ResultRecord) {
    put(out, kind::RESULT, ResultRecord::VERSION, OPTIONAL, result.id.as_bytes(), &result.encode());
}

/// Why a frame with a right checksum could not be applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ApplyError {
    Malformed,
    Unknown { kind: u16, version: u16 },
}

impl From<Malformed> for ApplyError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl State {
    /// The tables of a new array.
    #[must_use]
    pub fn new(array: ArrayRecord) -> Self {
        Self {
            array,
            volumes: BTreeMap::new(),
            scsi: BTreeMap::new(),
            objects: BTreeMap::new(),
            results: Arc::default(),
            unknown: BTreeMap::new(),
        }
    }

    /// The array itself.
    #[must_use]
    pub fn array(&self) -> &ArrayRecord {
        &self.array
    }

    /// All volumes, by UUID.
    pub fn volumes(&self) -> impl Iterator<Item = &VolumeRecord> {
        self.volumes.values()
    }

    /// A volume by its UUID.
    #[must_use]
    pub fn volume(&self, uuid: Uuid) -> Option<&VolumeRecord> {
        self.volumes.get(&uuid)
    }

    /// A volume by its name.
    #[must_use]
    pub fn volume_named(&self, name: &str) -> Option<&VolumeRecord> {
        self.volumes.values().find(|volume| volume.name == name)
    }

    /// A volume by its LUN.
    #[must_use]
    pub fn volume_at(&self, lun: Lun) -> Option<&VolumeRecord> {
        self.volumes.values().find(|volume| volume.lun == lun)
    }

    /// A volume's SCSI state, where it has any.
    #[must_use]
    pub fn scsi(&self, volume: Uuid) -> Option<&[u8]> {
        self.scsi.get(&volume).map(Vec::as_slice)
    }

    /// Objects made at run time.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        self.objects.iter().map(|((kind, name), toml)| Object {
            kind: *kind,
            name: name.clone(),
            toml: toml.clone(),
        })
    }

    /// What came of an order that changed something, as far as it is kept.
    #[must_use]
    pub fn result(&self, id: Uuid) -> Option<&ResultRecord> {
        self.results.iter().rev().find(|result| result.id == id)
    }

    /// Results of orders, the oldest first.
    pub fn results(&self) -> impl ExactSizeIterator<Item = &ResultRecord> {
        self.results.iter()
    }

    /// Whether there are objects made at run time.
    pub(crate) fn has_objects(&self) -> bool {
        !self.objects.is_empty()
    }

    /// The state as the body of a checkpoint's frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        put(&mut out, kind::ARRAY, ArrayRecord::VERSION, 0, &[], &self.array.encode());
        for volume in self.volumes.values() {
            put_volume(&mut out, volume);
        }
        for (uuid, state) in &self.scsi {
            put(&mut out, kind::SCSI, 1, 0, uuid.as_bytes(), state);
        }
        for ((of, name), toml) in &self.objects {
            put(&mut out, kind::OBJECT, 1, 0, &of.key(name), toml.as_bytes());
        }
        for result in self.results.iter() {
            put_result(&mut out, result);
        }
        for ((kind, key), unknown) in &self.unknown {
            put(&mut out, *kind, unknown.version, OPTIONAL, key, &unknown.payload);
        }
        out.0
    }

    /// The state that a checkpoint's frame holds.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, ApplyError> {
        let mut first = Reader(body);
        let record = take(&mut first)?;
        if record.kind != kind::ARRAY || record.flags & DELETE != 0 {
            return Err(ApplyError::Malformed);
        }
        let mut state = Self::new(ArrayRecord::decode(record.payload)?);
        state.apply_body(body)?;
        Ok(state)
    }

    /// Applies a frame's records; gives the audit line among them. On an error the state is
    /// half changed and of no use.
    pub(crate) fn apply_body(&mut self, body: &[u8]) -> Result<Option<Audit>, ApplyError> {
        let mut from = Reader(body);
        let mut audit = None;
        while !from.is_empty() {
            let record = take(&mut from)?;
            if let Some(line) = self.apply_record(&record)? {
                audit = Some(line);
            }
        }
        Ok(audit)
    }

    fn apply_record(&mut self, record: &Record<'_>) -> Result<Option<Audit>, ApplyError> {
        let delete = record.flags & DELETE != 0;
        let uuid = || Reader(record.key).uuid();
        match (record.kind, record.version, delete) {
            (kind::ARRAY, 1, false) => {
                let array = ArrayRecord::decode(record.payload)?;
                if array.uuid != self.array.uuid {
                    return Err(ApplyError::Malformed);
                }
                self.array = array;
            }
            (kind::VOLUME, 1, false) => {
                let volume = VolumeRecord::decode(record.payload)?;
                if volume.uuid != uuid()? {
                    return Err(ApplyError::Malformed);
                }
                self.volumes.insert(volume.uuid, volume);
            }
            (kind::VOLUME, 1, true) => {
                self.volumes.remove(&uuid()?);
                self.scsi.remove(&uuid()?);
            }
            (kind::SCSI, 1, false) => {
                self.scsi.insert(uuid()?, record.payload.to_vec());
            }
            (kind::SCSI, 1, true) => {
                self.scsi.remove(&uuid()?);
            }
            (kind::OBJECT, 1, false) => {
                let toml = std::str::from_utf8(record.payload).map_err(|_| Malformed)?;
                self.objects.insert(ObjectKind::from_key(record.key)?, toml.to_owned());
            }
            (kind::OBJECT, 1, true) => {
                self.objects.remove(&ObjectKind::from_key(record.key)?);
            }
            (kind::RESULT, 1, false) => {
                let result = ResultRecord::decode(uuid()?, record.payload)?;
                let results = Arc::make_mut(&mut self.results);
                results.retain(|old| old.id != result.id);
                results.push_back(result);
                while results.len() > MAX_RESULTS {
                    results.pop_front();
                }
            }
            (kind::AUDIT, 1, _) => {
                let mut from = Reader(record.payload);
                return Ok(Some(Audit { millis: from.u64()?, who: from.text()?, what: from.text()? }));
            }
            (kind, version, _) if record.flags & OPTIONAL != 0 => {
                let key = (kind, record.key.to_vec());
                if delete {
                    self.unknown.remove(&key);
                } else {
                    self.unknown.insert(key, Unknown { version, payload: record.payload.to_vec() });
                }
            }
            (kind, version, _) => return Err(ApplyError::Unknown { kind, version }),
        }
        Ok(None)
    }

    /// Checks a transaction against the state: what would make two volumes share a LUN, a name
    /// or a world-wide name, or change an identity, is refused.
    pub(crate) fn check(&self, transaction: &Transaction) -> Result<(), TablesError> {
        let refuse = |what: String| Err(TablesError::Refused(what));
        let size: usize = transaction.changes.iter().map(Change::size).sum();
        if size > MAX_TRANSACTION / 2 {
            return Err(TablesError::TooLarge { size, limit: MAX_TRANSACTION / 2 });
        }
        let mut after = self.clone();
        for change in &transaction.changes {
            match change {
                Change::PutVolume(volume) => {
                    if let Some(old) = after.volumes.get(&volume.uuid)
                        && old.naa != volume.naa
                    {
                        return refuse(format!("volume {} keeps its world-wide name", old.name));
                    }
                    after.volumes.insert(volume.uuid, volume.clone());
                }
                Change::DeleteVolume(uuid) => {
                    if after.volumes.remove(uuid).is_none() {
                        return refuse(format!("there is no volume {uuid}"));
                    }
                }
                Change::PutScsi { volume, state } => {
                    if !after.volumes.contains_key(volume) {
                        return refuse(format!("there is no volume {volume}"));
                    }
                    if state.len() > MAX_SCSI_STATE {
                        return Err(TablesError::TooLarge { size: state.len(), limit: MAX_SCSI_STATE });
                    }
                }
                Change::PutObject(object) => {
                    let size = object.toml.len() + object.name.len();
                    if size > MAX_OBJECT {
                        return Err(TablesError::TooLarge { size, limit: MAX_OBJECT });
                    }
                    after.objects.insert((object.kind, object.name.clone()), String::new());
                }
                Change::DeleteObject(kind, name) => {
                    if after.objects.remove(&(*kind, name.clone())).is_none() {
                        return refuse(format!("there is no {kind:?} {name}"));
                    }
                }
                Change::PutResult(result) => {
                    let size = result.message.len();
                    if size > MAX_MESSAGE {
                        return Err(TablesError::TooLarge { size, limit: MAX_MESSAGE });
                    }
                }
                Change::Rename(_) | Change::DeleteScsi(_) => {}
            }
        }
        if after.objects.len() > MAX_OBJECTS {
            return refuse(format!("at most {MAX_OBJECTS} objects can be made at run time"));
        }
        // Labels must be unique at the end, not at every step: two volumes may swap LUNs.
        let mut luns = BTreeMap::new();
        let mut names = BTreeMap::new();
        let mut naas = BTreeMap::new();
        for volume in after.volumes.values() {
            if luns.insert(volume.lun, ()).is_some() {
                return refuse(format!("{} is taken", volume.lun));
            }
            if names.insert(&volume.name, ()).is_some() {
                return refuse(format!("the name {} is taken", volume.name));
            }
            if naas.insert(volume.naa, ()).is_some() {
                return refuse(format!("{} is taken", volume.naa));
            }
        }
        Ok(())
    }
}

impl Change {
    /// Roughly its bytes in the log.
    fn size(&self) -> usize {
        64 + match self {
            Self::Rename(name) => name.len(),
            Self::PutVolume(volume) => {
                256 + volume.name.len() + volume.path.as_os_str().len() + 2 * size_of::<VolumeRecord>()
            }
            Self::PutScsi { state, .. } => state.len(),
            Self::PutObject(object) => object.name.len() + object.toml.len(),
            Self::DeleteObject(_, name) => name.len(),
            Self::PutResult(result) => 64 + result.message.len(),
            Self::DeleteVolume(_) | Self::DeleteScsi(_) => 0,
        }
    }
}
