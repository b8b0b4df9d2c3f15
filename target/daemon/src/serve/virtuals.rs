//! From a row of the LUN map to a virtual volume on its core.

use super::Rules;
use super::unit::revision;
use crate::config::Role;
use crate::plan::{Plan, VirtualPlan};
use kagami_channel::{Shape, VirtualUnit};
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::Preferences;
use kagami_link::LinkPlan;
use kagami_scsi::{Front, FrontConfig, TargetName, TargetPort};
use kagami_types::Uuid;
use std::sync::Arc;
use std::time::Duration;

/// The longest pause between two attempts to reach a peer.
const MOST_PAUSE: Duration = Duration::from_secs(2);

/// Makes the virtual volume. The reason where it cannot be.
pub(super) fn build(
    one: &VirtualPlan,
    plan: &Plan,
    rules: &Rules,
    array: Uuid,
    shape: Arc<Shape>,
) -> Result<VirtualUnit, String> {
    build_as(one, plan, rules, array, shape, None)
}

/// The same, under another number of the session than its LUN's, as it is served at none.
pub(super) fn build_as(
    one: &VirtualPlan,
    plan: &Plan,
    rules: &Rules,
    array: Uuid,
    shape: Arc<Shape>,
    session: Option<u16>,
) -> Result<VirtualUnit, String> {
    let mut isid = LinkPlan::isid(array, one.lun);
    if let Some(number) = session {
        let [.., high, low] = &mut isid.0;
        [*high, *low] = number.to_be_bytes();
    }
    let name = |name: &str| IscsiName::new(name).map_err(|_| format!("\"{name}\" is no iSCSI name"));
    let bytes = (u64::from(one.page_quota) * 4096).clamp(1 << 20, 64 << 20);
    let link = LinkPlan {
        array,
        initiator: name(&plan.iqn)?,
        target: name(&one.iqn)?,
        isid,
        portals: one.portals.clone().into(),
        account: rules.account_at(&one.peer).map_err(|error| error.to_string())?,
        connections: one.connections,
        preferences: Preferences {
            max_recv_data_segment_length: plan.iscsi.max_recv_segment,
            max_burst_length: plan.iscsi.max_burst,
            first_burst_length: plan.iscsi.first_burst,
            ..Preferences::default()
        },
        mapped: one.mapped,
        io_timeout: one.io_timeout,
        login_timeout: one.io_timeout.min(plan.network.login_timeout),
        most_pause: MOST_PAUSE.min(one.io_timeout / 2),
        slots: u16::try_from(one.slots).unwrap_or(u16::MAX).clamp(1, 1024),
        bytes,
    };
    let front = Front::new(FrontConfig {
        lun: one.lun,
        role: match one.role {
            Role::Command => kagami_scsi::Role::Command,
            Role::Plain | Role::Journal => kagami_scsi::Role::Volume,
        },
        revision: revision(),
        target: TargetName {
            name: plan.iqn.clone(),
            port_group: 1,
            ports: vec![TargetPort { relative: 1, portal_group: 1 }],
        },
        nexuses: plan.network.max_sessions,
        // Two of the longest fit at once.
        most_bytes: u32::try_from(bytes / 2).unwrap_or(u32::MAX).min(16 << 20),
    });
    Ok(VirtualUnit::new(front, link, one.row as usize, shape))
}
