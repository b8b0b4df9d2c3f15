//! What the array tells of itself over the admin socket.

use crate::config::{Chap, Volume as Configured};
use crate::run::{Daemon, Managed};
use kagami_admin::report::{
    Array, Arrays, ConfigText, CoreStats, Initiator, Initiators, Link, Lun, Luns, Peer, Peers, Session,
    Sessions, Stats, Volume, VolumeStats, Volumes,
};
use kagami_metrics::{Histogram, VolumeMetrics};
use kagami_types::Lun as LunNumber;

impl Daemon {
    /// This array, and the peers that it knows.
    pub(super) fn arrays(&self) -> Arrays {
        let own = Array {
            name: self.plan.name.clone(),
            iqn: self.plan.iqn.clone(),
            role: "local".to_owned(),
            uuid: Some(self.tables.state().array().uuid.to_string()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            portals: self.array.portals().iter().map(ToString::to_string).collect(),
            uptime_seconds: Some(self.started.elapsed().as_secs()),
            volumes: Some(self.volumes.len() as u64),
            sessions: Some(self.array.sessions() as u64),
            generation: Some(self.tables.generation().0),
        };
        let routes = self.array.routes();
        let uuid = |name: &str| {
            let route = routes.iter().find(|route| route.peer == name)?;
            self.desk.forwarder.uuid(route.lun).map(|uuid| uuid.to_string())
        };
        let peers = self.config.peers.iter().map(|peer| Array {
            name: peer.name.clone(),
            iqn: peer.iqn.clone(),
            role: "peer".to_owned(),
            uuid: uuid(&peer.name),
            version: None,
            portals: peer.portals.iter().map(ToString::to_string).collect(),
            uptime_seconds: None,
            volumes: None,
            sessions: None,
            generation: None,
        });
        Arrays { arrays: std::iter::once(own).chain(peers).collect() }
    }

    /// Volumes with what is managed of them, by LUN.
    fn by_lun(&self) -> Vec<(&Configured, &Managed)> {
        let managed = |volume: &Configured| self.volumes.iter().find(|m| m.record.name == volume.name);
        let all = self.config.volumes.iter().filter_map(|volume| Some((volume, managed(volume)?)));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(volume, _)| volume.lun);
        all
    }

    pub(super) fn volume_list(&self) -> Volumes {
        let sessions = self.array.session_list();
        let volumes = self.by_lun().into_iter().map(|(volume, managed)| Volume {
            lun: volume.lun.number(),
            name: volume.name.clone(),
            owner: volume.owner.as_str().to_owned(),
            backend: volume.backend.to_string(),
            role: volume.role.as_str().to_owned(),
            size_bytes: managed.record.size.0,
            block_bytes: volume.block_size.bytes(),
            cache: volume.cache.as_str().to_owned(),
            read_only: volume.read_only,
            uuid: managed.record.uuid.to_string(),
            naa: managed.record.naa.to_string(),
            core: self.array.core_of(&volume.name).unwrap_or_default().0,
            group: self
                .config
                .groups
                .iter()
                .find(|group| group.luns().any(|lun| lun == volume.lun))
                .map(|group| group.name.clone()),
            device: crate::page::device(&self.metrics, managed.row).0.to_owned(),
            sessions: sessions.iter().filter(|s| !s.is_discovery && s.visible.contains(volume.lun)).count()
                as u64,
        });
        Volumes { volumes: volumes.collect() }
    }

    pub(super) fn luns(&self) -> Luns {
        let listed = &self.config.initiators;
        let luns = self.by_lun().into_iter().filter(|(volume, _)| volume.is_served()).map(|(volume, _)| {
            let who = listed.iter().filter(|initiator| initiator.luns.contains(&volume.lun));
            Lun {
                lun: volume.lun.number(),
                volume: volume.name.clone(),
                target_array: None,
                mapped_lun: None,
                initiators: (!listed.is_empty())
                    .then(|| who.map(|initiator| initiator.iqn.clone()).collect()),
            }
        });
        let far = self.config.virtuals.iter().map(|one| Lun {
            lun: one.lun.number(),
            volume: one.name.clone(),
            target_array: Some(one.peer.clone()),
            mapped_lun: Some(one.mapped_lun.number()),
            initiators: (!listed.is_empty()).then(|| {
                let who = listed.iter().filter(|initiator| initiator.luns.contains(&one.lun));
                who.map(|initiator| initiator.iqn.clone()).collect()
            }),
        });
        let mut luns: Vec<Lun> = luns.chain(far).collect();
        luns.sort_by_key(|lun| lun.lun);
        Luns { luns }
    }

    pub(super) fn stats(&self) -> Stats {
        let volumes = self.by_lun().into_iter().map(|(volume, managed)| {
            let sum = |pick: fn(&VolumeMetrics) -> u64| self.metrics.volume_sum(managed.row, pick);
            let time = |pick: fn(&VolumeMetrics) -> &Histogram, per_mille| {
                let nanos = self.metrics.volume_histogram(managed.row, pick).quantile_nanos(per_mille)?;
                // Counters of times end far below 2^53 ns.
                #[allow(clippy::cast_precision_loss, reason = "to a tenth of a microsecond")]
                (nanos != u64::MAX).then(|| (nanos / 100) as f64 / 10.0)
            };
            VolumeStats {
                lun: volume.lun.number(),
                volume: volume.name.clone(),
                reads: sum(|v| v.reads.get()),
                writes: sum(|v| v.writes.get()),
                others: sum(|v| v.others.get()),
                read_bytes: sum(|v| v.read_bytes.get()),
                written_bytes: sum(|v| v.write_bytes.get()),
                errors: sum(|v| v.errors.get()),
                queue_depth: sum(|v| v.depth.get()),
                read_p50_us: time(|v| &v.read_time, 500),
                read_p99_us: time(|v| &v.read_time, 990),
                write_p50_us: time(|v| &v.write_time, 500),
                write_p99_us: time(|v| &v.write_time, 990),
            }
        });
        let cores = self.plan.cores.iter().zip(self.metrics.cores()).map(|(place, core)| CoreStats {
            core: place.id.0,
            cpu: place.cpu,
            connections: core.network.connections.get(),
            tasks: core.network.tasks.get(),
            received_bytes: core.network.bytes_received.get(),
            sent_bytes: core.network.bytes_sent.get(),
            logins: core.network.logins.get(),
            login_failures: core.network.login_failures.get(),
        });
        Stats {
            uptime_seconds: self.started.elapsed().as_secs(),
            volumes: volumes.collect(),
            cores: cores.collect(),
        }
    }

    pub(super) fn session_report(&self) -> Sessions {
        let served: Vec<LunNumber> = self.by_lun().into_iter().map(|(volume, _)| volume.lun).collect();
        let sessions = self.array.session_list().into_iter().map(|session| {
            let luns = served.iter().filter(|lun| !session.is_discovery && session.visible.contains(**lun));
            Session {
                tsih: session.tsih.0,
                isid: session.isid.0.iter().map(|byte| format!("{byte:02x}")).collect(),
                initiator: session.initiator.to_string(),
                address: session.ends.peer.map(|address| address.to_string()),
                portal: session.ends.local.map(|address| address.to_string()),
                kind: if session.is_discovery { "discovery" } else { "normal" }.to_owned(),
                connections: session.connections(),
                luns: luns.map(|lun| lun.number()).collect(),
            }
        });
        Sessions { sessions: sessions.collect() }
    }

    pub(super) fn initiators(&self) -> Initiators {
        let sessions = self.array.session_list();
        let numbers = |luns: &[LunNumber]| luns.iter().map(|lun| lun.number()).collect();
        let initiators = self.config.initiators.iter().map(|initiator| Initiator {
            iqn: initiator.iqn.clone(),
            owner: initiator.owner.as_str().to_owned(),
            luns: numbers(&initiator.luns),
            added_luns: numbers(&initiator.added),
            rights: initiator.rights.as_str().to_owned(),
            chap: proof(initiator.chap.as_ref()),
            sessions: sessions.iter().filter(|session| *session.initiator == *initiator.iqn).count() as u64,
        });
        Initiators { initiators: initiators.collect() }
    }

    pub(super) fn peers(&self) -> Peers {
        let peers = self.config.peers.iter().map(|peer| Peer {
            name: peer.name.clone(),
            owner: peer.owner.as_str().to_owned(),
            iqn: peer.iqn.clone(),
            portals: peer.portals.iter().map(ToString::to_string).collect(),
            connections: peer.connections,
            io_timeout_ms: peer.io_timeout.and_then(|time| u64::try_from(time.as_millis()).ok()),
            orders: peer.orders.as_str().to_owned(),
            luns: peer.luns.iter().map(|lun| lun.number()).collect(),
            chap: proof(peer.chap.as_ref()),
            links: self.links(&peer.name),
        });
        Peers { peers: peers.collect() }
    }

    /// How the links to a peer do.
    fn links(&self, peer: &str) -> Vec<Link> {
        let mapped = self.config.virtuals.iter().filter(|one| one.peer == peer);
        mapped
            .filter_map(|one| {
                let shape = self.array.shape(one.lun)?;
                let status = shape.status();
                let block = shape.block_size().map_or(0, |size| u64::from(size.bytes()));
                Some(Link {
                    lun: one.lun.number(),
                    mapped_lun: one.mapped_lun.number(),
                    state: status.phase.as_str().to_owned(),
                    connections: status.connections,
                    reason: status.reason.map(String::from),
                    size_bytes: shape.blocks() * block,
                    losses: status.losses,
                    repeated: status.repeated,
                    in_doubt: status.in_doubt,
                })
            })
            .collect()
    }

    /// Everything as one file.
    pub(super) fn export(&self) -> ConfigText {
        ConfigText { toml: crate::config::export(&self.config) }
    }
}

fn proof(chap: Option<&Chap>) -> String {
    let word = match chap {
        None => "none",
        Some(Chap { mutual: None, .. }) => "one-way",
        Some(_) => "mutual",
    };
    word.to_owned()
}
