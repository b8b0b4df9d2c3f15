//! Every default of `[array]`, and the configuration that is served without a file.

use super::model::{
    Array, Backend, CacheMode, Config, Digest, Idle, Owner, Portal, PortalRole, Role, Site, Volume,
};
use kagami_types::{BlockSize, ByteLen, Lun};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The size of a command device where none is given.
pub const COMMAND_DEVICE: ByteLen = ByteLen(64 << 20);
/// The port of iSCSI (RFC 7143 4.2.7.2).
pub const ISCSI_PORT: u16 = 3260;

impl Array {
    /// The defaults of `[array]`, for that name and data folder.
    #[must_use]
    pub fn new(name: &str, iqn: &str, data: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            iqn: iqn.to_owned(),
            data: data.into(),
            cores: None,
            cores_site: builtin("array"),
            cache: ByteLen(256 << 20),
            cache_site: builtin("array.cache"),
            ram: ByteLen(0),
            metrics: None,
            admin: None,
            idle: Idle::Adaptive,
            congestion: Some("cubic".to_owned()),
            header_digest: vec![Digest::None, Digest::Crc32c],
            data_digest: vec![Digest::None, Digest::Crc32c],
            nop_interval: Duration::from_secs(15),
            nop_timeout: Duration::from_secs(15),
            login_timeout: Duration::from_secs(15),
            io_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(30),
            max_sessions: 1024,
            max_connections: 1280,
            connections_per_session: 8,
            queue_depth: 128,
            tasks: 4096,
            max_volumes: 1088,
            huge_pages: true,
            first_burst: 256 << 10,
            max_burst: 1 << 20,
        }
    }
}

fn builtin(key: &str) -> Site {
    Site { file: "built-in".to_owned(), line: 0, key: key.to_owned() }
}

impl Volume {
    /// The defaults of `[[volume]]`.
    #[must_use]
    pub fn new(lun: Lun, name: &str, backend: Backend) -> Self {
        Self {
            site: builtin(&format!("volume {name}")),
            owner: Owner::File,
            lun,
            name: name.to_owned(),
            backend,
            size: None,
            grown: None,
            block_size: BlockSize::B512,
            cache: CacheMode::WriteBack,
            read_only: false,
            role: Role::Plain,
            thin: None,
            queue_depth: None,
            device_depth: None,
            io_timeout: None,
            spread: 1,
        }
    }
}

/// Where a command device without a path lives.
pub(super) fn command_path(data: &Path) -> PathBuf {
    data.join("command.img")
}

impl Config {
    /// What `kagamid` serves without arguments: 127.0.0.1:3260, LUN 0 a sparse file of 1 GiB,
    /// LUN 1 a command device, both in `data`.
    #[must_use]
    pub fn embedded(data: &Path) -> Self {
        let mut array = Array::new("local", "iqn.2026-11.io.kagami:local", data);
        array.admin = Some(data.join("admin.sock"));
        let mut disk = Volume::new(Lun::ZERO, "disk0", Backend::Path(data.join("disk0.img")));
        disk.size = Some(ByteLen(1 << 30));
        let mut volumes = vec![disk];
        if let Some(lun) = Lun::new(1) {
            let mut command = Volume::new(lun, "orders", Backend::Path(command_path(data)));
            command.role = Role::Command;
            command.size = Some(COMMAND_DEVICE);
            volumes.push(command);
        }
        let portal = Portal {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, ISCSI_PORT)),
            role: PortalRole::Both,
            open: false,
            site: builtin("array.listen"),
        };
        Self {
            array,
            portals: vec![portal],
            volumes,
            peers: Vec::new(),
            virtuals: Vec::new(),
            groups: Vec::new(),
            initiators: Vec::new(),
            operators: Vec::new(),
            pools: Vec::new(),
            notes: Vec::new(),
        }
    }
}
