//! Several arrays in one simulated world: hosts log in to the first, which maps the volumes of the next as
//! virtual volumes, and so on; the last one has the disks. Each is one core, a real one.

use super::{SimArray, TARGET, Volume, parts};
use kagami_channel::{
    Core, CoreParts, CorePlan, Directory, Inbox, Registry, Shape, Shared, UnitAddress, VirtualUnit,
};
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::Preferences;
use kagami_link::LinkPlan;
use kagami_metrics::Metrics;
use kagami_queue::Mesh;
use kagami_scsi::{Front, FrontConfig, Role, TargetName, TargetPort};
use kagami_sim::{SimIo, World};
use kagami_types::{CoreId, Lun, Uuid};
use kagami_volume::zero_page;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where the array of that number listens for the one before it.
pub(super) fn portal(array: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 3300 + array))
}

pub(super) fn virtual_unit(
    volume: &Volume,
    row: usize,
    array: u16,
    shape: Arc<Shape>,
    io_timeout: Duration,
    connections: u16,
) -> VirtualUnit {
    let own = Uuid::from_u128(u128::from(array) + 1);
    let name = |array: u16| IscsiName::new(&format!("iqn.2026-11.io.kagami:array{array}")).expect("a name");
    let link = LinkPlan {
        array: own,
        initiator: name(array),
        target: IscsiName::new(TARGET).expect("a name"),
        isid: LinkPlan::isid(own, volume.lun),
        portals: Box::new([portal(array + 1)]),
        account: None,
        connections,
        preferences: Preferences::default(),
        mapped: volume.lun,
        io_timeout,
        login_timeout: Duration::from_secs(5),
        most_pause: Duration::from_secs(1),
        slots: volume.slots,
        bytes: 4 << 20,
    };
    let front = Front::new(FrontConfig {
        lun: volume.lun,
        role: Role::Volume,
        revision: "0010".to_owned(),
        target: TargetName {
            name: TARGET.to_owned(),
            port_group: 1,
            ports: vec![TargetPort { relative: 1, portal_group: 1 }],
        },
        nexuses: 64,
        most_bytes: 2 << 20,
    });
    VirtualUnit::new(front, link, row, shape)
}

impl SimArray {
    /// Boots `hops` arrays with virtual volumes, and one with the disks.
    pub(super) fn boot_links(
        &mut self,
        world: &World,
        hops: u16,
    ) -> Result<Vec<(SimIo, Core<SimIo>)>, String> {
        let metrics = Metrics::new(usize::from(hops) + 1, self.volumes.len());
        self.metrics = Some(Arc::clone(&metrics));
        self.inboxes.clear();
        let mut booted = Vec::new();
        for array in 0..=hops {
            let mut io = world.add_core();
            let waker = io.waker();
            let port = Mesh::new(1, 64).pop().ok_or("no port")?;
            let pool = self.arena.pool(array);
            let zeroes = zero_page(&pool).ok_or("no page of zeroes")?;
            let registry = Registry::new(1, 64, self.window.into());
            let (mut units, mut virtuals) = (Vec::new(), Vec::new());
            let directory = if array == hops {
                let mut entries = Vec::new();
                for (row, volume) in self.volumes.iter().enumerate() {
                    let index = u32::try_from(row).map_err(|error| error.to_string())?;
                    let file = io.open(volume.disk).map_err(|error| error.to_string())?;
                    let plan = parts::UnitPlan {
                        index,
                        row,
                        file,
                        io_timeout: self.io_timeout,
                        broken: None,
                        shards: Vec::new(),
                    };
                    units.push(parts::unit(volume, &plan, &zeroes, &self.states)?);
                    entries.push((volume.lun, UnitAddress { core: CoreId(0), index }, volume.block));
                }
                Directory::new(entries)
            } else {
                let mut entries: Vec<(Lun, UnitAddress, Arc<Shape>)> = Vec::new();
                for (row, volume) in self.volumes.iter().enumerate() {
                    let place = u32::try_from(row).map_err(|error| error.to_string())?;
                    let shape = Arc::new(Shape::default());
                    self.shapes.push(Arc::clone(&shape));
                    virtuals.push(virtual_unit(
                        volume,
                        row,
                        array,
                        Arc::clone(&shape),
                        self.io_timeout,
                        self.link_connections,
                    ));
                    entries.push((volume.lun, VirtualUnit::address(CoreId(0), place), shape));
                }
                Directory::default().with_virtual(entries)
            };
            let rules =
                Arc::new(self.rules.at(if array == 0 { self.portals.clone() } else { vec![portal(array)] }));
            let shared = Arc::new(Shared::new(registry, rules, directory));
            let portals = if array == 0 { self.portals.clone() } else { vec![portal(array)] };
            let sockets: Result<Vec<_>, _> = portals.iter().map(|portal| io.listen(*portal)).collect();
            let inbox = Arc::new(Inbox::new(port.ringer(), {
                let waker = waker.clone();
                move || waker.wake()
            }));
            self.inboxes.push(Arc::clone(&inbox));
            let parts = CoreParts {
                pool,
                port,
                units,
                shards: Vec::new(),
                metrics: metrics.core(usize::from(array)).cloned().ok_or("no counters")?,
                keeper: Box::new(self.states.keeper(Arc::clone(&inbox), None)),
                random: Box::new(self.rng.fork(70 + u64::from(array))),
                inbox,
            };
            let limits = CorePlan {
                connections: 64,
                window: self.window,
                ping_interval: self.ping_interval,
                cache: self.cache,
                ..CorePlan::default()
            };
            let sockets = sockets.map_err(|error| error.to_string())?;
            let core = Core::new(limits, shared, parts, sockets, move |_| waker.wake());
            booted.push((io, core.with_virtual(virtuals)));
        }
        Ok(booted)
    }
}
