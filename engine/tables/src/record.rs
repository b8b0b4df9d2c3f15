//! The typed records and their bytes.

use crate::codec::{Malformed, Reader, Writer};
use kagami_types::{BlockSize, ByteLen, Lun, Naa, Uuid};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The array itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayRecord {
    /// Made once, never changed.
    pub uuid: Uuid,
    /// A label.
    pub name: String,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Made once, never changed: it is the key of everything that belongs to the volume.
    pub uuid: Uuid,
    /// Its world-wide name, made from the UUID once and then stored.
    pub naa: Naa,
    /// A label, unique in the array.
    pub name: String,
    /// A label, unique in the array.
    pub lun: Lun,
    /// Where its blocks are.
    pub backend: BackendKind,
    /// The device or file, for [`BackendKind::Path`]; else empty.
    pub path: PathBuf,
    /// Its capacity.
    pub size: ByteLen,
    /// Its logical block.
    pub block_size: BlockSize,
    /// What it is for.
    pub role: VolumeRole,
    /// What the device was at first use.
    pub device: DeviceIdentity,
}

/// Where a volume's blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// A block device or a file.
    Path,
    /// Memory.
    Ram,
    /// Nowhere.
    Null,
}

/// What a volume is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeRole {
    /// A host's data.
    Plain,
    /// The command device.
    Command,
    /// A journal.
    Journal,
}

/// What is known of the device behind a volume, so that another one in its place is noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceIdentity {
    /// Nothing: memory, or not used yet.
    #[default]
    None,
    /// A block device. Empty texts are what the device does not say.
    Block {
        /// Its world-wide name.
        wwn: String,
        /// Its serial number.
        serial: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A file. Where the file system keeps extended attributes, the file carries the volume's
    /// UUID and that decides; else the inode number does.
    File {
        /// The inode number.
        inode: u64,
        /// The file carries the volume's UUID.
        tagged: bool,
    },
}

/// A kind of object that was made at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A volume.
    Volume,
    /// An initiator's access.
    Initiator,
    /// Another array.
    Peer,
    /// What a volume of the configuration file has grown to.
    Growth,
    /// LUNs that an initiator of the configuration file sees in addition.
    Loan,
    /// A virtual volume: a row of the LUN map that leads to another array.
    Virtual,
    /// A group of pairs.
    Group,
}

/// An object that was made at run time, as the configuration would write it (TOML), so that
/// `config export` and start read both the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name, unique in its kind.
    pub name: String,
    /// Its keys.
    pub toml: String,
}

/// What came of an order that changed something, so that the same order given again gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultRecord {
    /// The order's request id.
    pub id: Uuid,
    /// What tells it apart from another order of the same id.
    pub fingerprint: [u8; 16],
    /// Which order it was.
    pub order: u16,
    /// The result code.
    pub code: u16,
    /// What was done, in one line.
    pub message: String,
}

/// Kinds of records, numbers never reused.
pub(crate) mod kind {
    pub(crate) const ARRAY: u16 = 1;
    pub(crate) const VOLUME: u16 = 2;
    pub(crate) const SCSI: u16 = 3;
    pub(crate) const OBJECT: u16 = 4;
    pub(crate) const AUDIT: u16 = 5;
    pub(crate) const RESULT: u16 = 6;
}

impl ArrayRecord {
    pub(crate) const VERSION: u16 = 1;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.uuid(self.uuid);
        out.text(&self.name);
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        let record = Self { uuid: from.uuid()?, name: from.text()? };
        from.end()?;
        Ok(record)
    }
}

impl VolumeRecord {
    pub(crate) const VERSION: u16 = 1;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.uuid(self.uuid);
        out.0.extend_from_slice(&self.naa.0);
        out.text(&self.name);
        out.u16(self.lun.number());
        out.u8(match self.backend {
            BackendKind::Path => 0,
            BackendKind::Ram => 1,
            BackendKind::Null => 2,
        });
        out.u8(match self.role {
            VolumeRole::Plain => 0,
            VolumeRole::Command => 1,
            VolumeRole::Journal => 2,
        });
        out.bytes(self.path.as_os_str().as_bytes());
        out.u64(self.size.0);
        out.u32(self.block_size.bytes());
        match &self.device {
            DeviceIdentity::None => out.u8(0),
            DeviceIdentity::Block { wwn, serial, size } => {
                out.u8(1);
                out.text(wwn);
                out.text(serial);
                out.u64(*size);
            }
            DeviceIdentity::File { inode, tagged } => {
                out.u8(2);
                out.u64(*inode);
                out.u8(u8::from(*tagged));
            }
        }
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        let uuid = from.uuid()?;
        let naa = Naa(from.array()?);
        let name = from.text()?;
        let lun = Lun::new(from.u16()?).ok_or(Malformed)?;
        let backend = match from.u8()? {
            0 => BackendKind::Path,
            1 => BackendKind::Ram,
            2 => BackendKind::Null,
            _ => return Err(Malformed),
        };
        let role = match from.u8()? {
            0 => VolumeRole::Plain,
            1 => VolumeRole::Command,
            2 => VolumeRole::Journal,
            _ => return Err(Malformed),
        };
        let path = PathBuf::from(OsString::from_vec(from.bytes()?.to_vec()));
        let size = ByteLen(from.u64()?);
        let block_size = BlockSize::from_bytes(from.u32()?).ok_or(Malformed)?;
        let device = match from.u8()? {
            0 => DeviceIdentity::None,
            1 => DeviceIdentity::Block { wwn: from.text()?, serial: from.text()?, size: from.u64()? },
            2 => {
                let inode = from.u64()?;
                let tagged = match from.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed),
                };
                DeviceIdentity::File { inode, tagged }
            }
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok(Self { uuid, naa, name, lun, backend, path, size, block_size, role, device })
    }
}

impl ResultRecord {
    pub(crate) const VERSION: u16 = 1;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.0.extend_from_slice(&self.fingerprint);
        out.u16(self.order);
        out.u16(self.code);
        out.text(&self.message);
        out.0
    }

    pub(crate) fn decode(id: Uuid, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        let record = Self {
            id,
            fingerprint: from.array()?,
            order: from.u16()?,
            code: from.u16()?,
            message: from.text()?,
        };
        from.end()?;
        Ok(record)
    }
}

impl ObjectKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Volume => 1,
            Self::Initiator => 2,
            Self::Peer => 3,
            Self::Growth => 4,
            Self::Loan => 5,
            Self::Virtual => 6,
            Self::Group => 7,
        }
    }

    pub(crate) fn from_code(code: u8) -> Result<Self, Malformed> {
        match code {
            1 => Ok(Self::Volume),
            2 => Ok(Self::Initiator),
            3 => Ok(Self::Peer),
            4 => Ok(Self::Growth),
            5 => Ok(Self::Loan),
            6 => Ok(Self::Virtual),
            7 => Ok(Self::Group),
            _ => Err(Malformed),
        }
    }

    /// The key of an object: its kind, then its name.
    pub(crate) fn key(self, name: &str) -> Vec<u8> {
        let mut key = vec![self.code()];
        key.extend_from_slice(name.as_bytes());
        key
    }

    pub(crate) fn from_key(key: &[u8]) -> Result<(Self, String), Malformed> {
        let (code, name) = key.split_first().ok_or(Malformed)?;
        let name = std::str::from_utf8(name).map_err(|_| Malformed)?;
        Ok((Self::from_code(*code)?, name.to_owned()))
    }
}
