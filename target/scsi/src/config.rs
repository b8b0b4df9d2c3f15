//! What a logical unit is made from.
//!
//! The daemon builds an [`LuConfig`] from its configuration and the volume's tables;
//! [`LogicalUnit::new`](crate::LogicalUnit::new) checks it once.

use kagami_types::{BlockCount, BlockSize, Lun, Naa, Uuid};
use thiserror::Error;

/// A logical unit: identity, geometry, abilities, and the target it is reached through.
#[derive(Clone, Debug)]
pub struct LuConfig {
    /// Its number, for messages.
    pub lun: Lun,
    /// The volume's UUID, for the T10 designator.
    pub uuid: Uuid,
    /// The volume's world-wide name (VPD 83h).
    pub naa: Naa,
    /// What it is for; names the product in INQUIRY data.
    pub role: Role,
    /// Product revision, at most 4 characters.
    pub revision: String,
    /// Unit serial number (VPD 80h), at most 64 characters.
    pub serial: String,
    /// Logical block size.
    pub block_size: BlockSize,
    /// log2 of the logical blocks in a physical block, at most 15.
    pub physical_exponent: u8,
    /// Number of logical blocks, at least one.
    pub capacity: BlockCount,
    /// Transfer limits and bounds.
    pub limits: Limits,
    /// Writes are refused with WRITE PROTECTED.
    pub read_only: bool,
    /// The write cache.
    pub write_cache: WriteCache,
    /// Thin provisioned: UNMAP is served, and unmapped blocks read as zeroes (LBPME, LBPRZ).
    pub thin: bool,
    /// What the medium is.
    pub rotation: Rotation,
    /// The target that serves the logical unit.
    pub target: TargetName,
}

/// What a logical unit is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// A volume of the host's data.
    #[default]
    Volume,
    /// A command device.
    Command,
}

impl Role {
    /// PRODUCT IDENTIFICATION of INQUIRY data, at most 16 characters.
    #[must_use]
    pub fn product(self) -> &'static str {
        match self {
            Self::Volume => "VOLUME",
            Self::Command => "COMMAND DEVICE",
        }
    }
}

/// The write cache, as the caching mode page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteCache {
    /// WCE: writes are acknowledged before they are stable.
    pub enabled: bool,
    /// MODE SELECT may change WCE.
    pub changeable: bool,
}

/// MEDIUM ROTATION RATE (SBC-4 6.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Not known.
    Unknown,
    /// Nothing rotates.
    SolidState,
    /// Revolutions per minute, 1025 to 65534.
    PerMinute(u16),
}

impl Rotation {
    pub(crate) fn rate(self) -> u16 {
        match self {
            Self::Unknown => 0,
            Self::SolidState => 1,
            Self::PerMinute(rate) => rate,
        }
    }
}

/// The target and its ports.
#[derive(Clone, Debug)]
pub struct TargetName {
    /// Its iSCSI name, at most 223 bytes.
    pub name: String,
    /// The target port group all of its ports are in (ALUA), not zero.
    pub port_group: u16,
    /// Its ports, 1 to 255 of them.
    pub ports: Vec<TargetPort>,
}

/// A target port: what iSCSI calls a portal group of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetPort {
    /// Relative target port identifier, not zero.
    pub relative: u16,
    /// Target portal group tag.
    pub portal_group: u16,
}

/// Limits told to initiators (VPD B0h) and bounds of the state kept. In blocks unless said
/// otherwise; 0 means no limit only where said.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest READ, WRITE and the like; 0 for no limit.
    pub max_transfer: u32,
    /// The best length for them; 0 for none in particular.
    pub optimal_transfer: u32,
    /// Their best granularity; 0 for none in particular.
    pub granularity: u16,
    /// The most blocks in one UNMAP.
    pub max_unmap: u32,
    /// The most descriptors in one UNMAP, up to 4095.
    pub max_unmap_descriptors: u32,
    /// The granularity of what can be unmapped.
    pub unmap_granularity: u32,
    /// The longest WRITE SAME; 0 for no limit.
    pub max_write_same: u64,
    /// WRITE SAME of 0 blocks writes to the end of the volume; else it is refused (WSNZ).
    pub write_same_to_end: bool,
    /// The longest COMPARE AND WRITE; 0 where the command is not to be used.
    pub max_compare_and_write: u8,
    /// Registrations kept at most (PERSISTENT RESERVE OUT).
    pub registrations: u16,
    /// Nexus numbers are below this.
    pub nexuses: u32,
}

impl Limits {
    /// Usual limits: transfers to 16 MiB, UNMAP of 256 ranges and 2^20 blocks, WRITE SAME to
    /// 4 GiB, COMPARE AND WRITE to 128 blocks, 256 registrations, 4096 nexuses.
    #[must_use]
    pub fn usual(block_size: BlockSize) -> Self {
        Self {
            max_transfer: (16 << 20) >> block_size.shift(),
            optimal_transfer: (1 << 20) >> block_size.shift(),
            granularity: 8 >> (block_size.shift() - 9),
            max_unmap: 1 << 20,
            max_unmap_descriptors: 256,
            unmap_granularity: 8 >> (block_size.shift() - 9),
            max_write_same: (4 << 30) >> block_size.shift(),
            write_same_to_end: true,
            max_compare_and_write: 128,
            registrations: 256,
            nexuses: 4096,
        }
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A text is empty, too long, or has characters that INQUIRY data cannot carry.
    #[error("{0} is empty, too long or not printable ASCII")]
    Text(&'static str),
    /// No blocks, or more than 2^63 bytes of them.
    #[error("the capacity is zero or too large")]
    Capacity,
    /// More than 2^15 logical blocks in a physical block.
    #[error("the physical block is too large")]
    PhysicalBlock,
    /// No port, too many, one with identifier 0, or two with the same; or port group 0.
    #[error("the target ports are not numbered as they should be")]
    Ports,
    /// A limit that cannot be kept.
    #[error("the limit {0} is out of range")]
    Limit(&'static str),
}

impl LuConfig {
    /// Checks what the rest of the crate relies on.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        text("revision", &self.revision, 4)?;
        text("serial number", &self.serial, 64)?;
        let target = &self.target.name;
        if target.is_empty() || target.len() > 223 || target.contains(['\0', ',']) {
            return Err(ConfigError::Text("target name"));
        }
        let most = (1 << 63) >> self.block_size.shift();
        if self.capacity.0 == 0 || self.capacity.0 > most {
            return Err(ConfigError::Capacity);
        }
        if self.physical_exponent > 15 {
            return Err(ConfigError::PhysicalBlock);
        }
        self.check_ports()?;
        let limits = &self.limits;
        if self.thin && !(1..=4095).contains(&limits.max_unmap_descriptors) {
            return Err(ConfigError::Limit("UNMAP descriptors"));
        }
        if self.thin && limits.max_unmap == 0 {
            return Err(ConfigError::Limit("UNMAP blocks"));
        }
        if limits.registrations == 0 {
            return Err(ConfigError::Limit("registrations"));
        }
        if limits.nexuses == 0 {
            return Err(ConfigError::Limit("nexuses"));
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), ConfigError> {
        let ports = &self.target.ports;
        let distinct = ports
            .iter()
            .enumerate()
            .all(|(at, port)| port.relative != 0 && ports[..at].iter().all(|p| p.relative != port.relative));
        let fine = !ports.is_empty() && ports.len() <= 255 && distinct && self.target.port_group != 0;
        fine.then_some(()).ok_or(ConfigError::Ports)
    }
}

fn text(what: &'static str, text: &str, longest: usize) -> Result<(), ConfigError> {
    let fine = !text.is_empty() && text.len() <= longest && text.bytes().all(|c| (0x20..0x7f).contains(&c));
    fine.then_some(()).ok_or(ConfigError::Text(what))
}
