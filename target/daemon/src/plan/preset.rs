//! Plans for tests.

use super::{KernelVersion, Machine, Plan};
use crate::config::{Array, Config, Portal, PortalRole, Site};
use kagami_types::ByteLen;
use std::net::{Ipv4Addr, SocketAddr};

impl Machine {
    /// A machine that exists only in tests: `cpus` CPUs, 4 GiB of memory, no limits.
    #[must_use]
    pub fn imagined(cpus: u32) -> Self {
        Self {
            cpus: (0..cpus.max(1)).collect(),
            memory: 4 << 30,
            memlock: None,
            open_files: None,
            kernel: KernelVersion { major: 6, minor: 1, release: "6.1.0".to_owned() },
        }
    }
}

impl Plan {
    /// The smallest plan that works: one core, 16 MiB of cache, 8 sessions, no volumes, one
    /// loopback portal on a port that the system picks. For tests and the simulator.
    #[must_use]
    pub fn test_min() -> Self {
        let mut array = Array::new("test", "iqn.2026-11.io.kagami:test", "kagami-test");
        array.cache = ByteLen(16 << 20);
        array.cores = Some(vec![0]);
        array.max_sessions = 8;
        array.max_connections = 16;
        array.queue_depth = 32;
        array.tasks = 128;
        array.max_volumes = 8;
        let portal = Portal {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            role: PortalRole::Both,
            open: false,
            site: Site::default(),
        };
        let config = Config {
            array,
            portals: vec![portal],
            volumes: Vec::new(),
            peers: Vec::new(),
            virtuals: Vec::new(),
            groups: Vec::new(),
            initiators: Vec::new(),
            operators: Vec::new(),
            pools: Vec::new(),
            notes: Vec::new(),
        };
        match Self::compute(&config, &Machine::imagined(1)) {
            Ok(plan) => plan,
            // Both arguments are constants, and a test computes this very plan.
            Err(misfit) => unreachable!("the smallest plan fits: {misfit}"),
        }
    }
}
