//! From a group of the configuration to what its core needs of it.
//!
//! Called at start for all groups, and by the management thread for one that is made.

use crate::config::{Config, CopyPace, Group, GroupMode, Overflow, Pairs, Peer, Role, Side};
use crate::plan::{PEER_TIMEOUT, Plan, SPARE_VIRTUALS, VirtualPlan};
use crate::run::Managed;
use crate::serve::{Joining, JoiningVolume};
use kagami_replica::mail::VolumeIndex;
use kagami_replica::{GroupPlan, Options, Pace, PlannedVolume};
use kagami_types::{CoreId, Lun, Uuid};
use std::time::Duration;

/// Connections to the other array's journal: entries and positions use them in turn.
const JOURNAL_LINKS: usize = 2;
/// Bytes that a link may have under way: the bandwidth-delay product of a long way.
const LINK_PAGES: u32 = (32 << 20) / 4096;
/// Commands that a link may have under way.
const LINK_SLOTS: u32 = 256;

/// The side that the replication knows.
#[must_use]
pub fn side(side: Side) -> kagami_replica::Side {
    match side {
        Side::Primary => kagami_replica::Side::Primary,
        Side::Secondary => kagami_replica::Side::Secondary,
    }
}

/// How it is to behave.
pub(crate) fn options(group: &Group) -> Options {
    let of = &group.options;
    Options {
        poller: of.mode == GroupMode::Poller,
        overflow: match of.overflow {
            Overflow::Suspend => kagami_replica::Overflow::Suspend,
            Overflow::Slow(most) => kagami_replica::Overflow::Slow(most),
        },
        hold: of.hold,
        bandwidth: of.bandwidth.0,
        secondary_reads: of.secondary_reads,
        restart_wait: of.restart_wait,
        alone_serves: of.serves_alone,
        swap_hold: of.swap_hold,
        reader_limit: of.silence,
        swap_lag: of.swap_lag,
        pace: match of.pace {
            CopyPace::Full => Pace::Full,
            CopyPace::Gentle => Pace::Gentle,
            CopyPace::Rate(rate) => Pace::Rate(rate),
        },
        thresholds: of.thresholds,
        memory: of.memory.0,
        ..Options::default()
    }
}

/// Everything that a group with pairs needs to work. `array` is this array.
///
/// # Errors
/// What is missing.
pub(crate) fn joining(
    config: &Config,
    plan: &Plan,
    managed: &[Managed],
    array: Uuid,
    group: &Group,
    is_new: bool,
) -> Result<Joining, String> {
    let pairs = group.pairs.as_ref().ok_or("it has no pairs")?;
    let peer = config.peers.iter().find(|peer| peer.name == group.peer).ok_or("its peer is not known")?;
    let find = |lun: Lun| {
        let volume = config.volumes.iter().find(|volume| volume.lun == lun);
        let found = volume.and_then(|volume| {
            managed.iter().find(|managed| managed.record.name == volume.name).map(|one| (volume, one))
        });
        found.ok_or_else(|| format!("{lun} is not served"))
    };
    let (journal, journal_record) = find(pairs.journal)?;
    if journal.role != Role::Journal {
        return Err(format!("volume {} is no journal", journal.name));
    }
    let link = |mapped: Lun| link(plan, peer, group, mapped);
    let mut volumes = Vec::new();
    let mut planned = Vec::new();
    for (index, pair) in (0u8..).zip(&pairs.pairs) {
        let (volume, managed) = find(pair.lun)?;
        let record = &managed.record;
        let blocks = record.block_size.blocks_in(record.size);
        let index = VolumeIndex(index);
        planned.push(PlannedVolume {
            index,
            uuid: record.uuid,
            lun: pair.lun,
            far_lun: pair.peer_lun,
            blocks: blocks.0,
            block_size: record.block_size.bytes(),
        });
        volumes.push(JoiningVolume {
            index,
            name: volume.name.clone(),
            block_size: record.block_size,
            blocks,
            slots: slots(plan, pair.lun),
            links: vec![link(pair.peer_lun)],
        });
    }
    let Pairs { uuid, peer_uuid, journal_size, fresh, .. } = *pairs;
    let plan = GroupPlan {
        group: uuid,
        name: group.name.clone(),
        own_array: array,
        peer_array: peer_uuid,
        journal: journal_record.record.uuid,
        journal_bytes: journal_size.0.min(journal_record.record.size.0),
        volumes: planned,
        options: options(group),
        create: fresh.then(|| side(pairs.side)),
    };
    let links = (0..JOURNAL_LINKS).map(|_| link(pairs.peer_journal)).collect();
    Ok(Joining { plan, journal: journal.name.clone(), links, volumes, is_new, reader: peer.iqn.clone() })
}

/// Commands that a volume's unit has room for; one made at run time has as many as those of the start.
fn slots(plan: &Plan, lun: Lun) -> u32 {
    let known = plan.volumes.iter().find(|volume| volume.lun == lun);
    known.map_or(plan.tasks.per_core / 2, |volume| volume.slots)
}

fn link(plan: &Plan, peer: &Peer, group: &Group, mapped: Lun) -> VirtualPlan {
    // What has no row of its own is counted in the one behind all others, which is not shown.
    let row = plan.volume_rows as usize + plan.virtuals.len() + SPARE_VIRTUALS;
    VirtualPlan {
        row: u32::try_from(row).unwrap_or(u32::MAX),
        site: group.site.clone(),
        name: format!("{}:{}", peer.name, mapped.number()),
        lun: mapped,
        mapped,
        role: Role::Plain,
        peer: peer.name.clone(),
        iqn: peer.iqn.clone(),
        portals: peer.portals.clone(),
        connections: peer.connections,
        io_timeout: peer.io_timeout.unwrap_or(PEER_TIMEOUT).max(Duration::from_secs(1)),
        // It lives where the journal does.
        home: CoreId(0),
        slots: LINK_SLOTS,
        page_quota: LINK_PAGES,
    }
}
