//! Virtual volumes that come and go: rows of the LUN map that lead to other arrays.
//!
//! The two orders are turned into another configuration, as all others are; what it takes to get
//! there is called from [`apply`](super::apply).

use super::apply::{Force, MAKING, PARTING, Wanted};
use crate::config::{Owner, Role, Site, Virtual};
use crate::plan::{Plan, SPARE_VIRTUALS};
use crate::reload::Difference;
use crate::run::Daemon;
use crate::serve::{Mapping, Rules};
use kagami_admin::Refusal;
use kagami_admin::request::{LunMapAdd, LunMapRemove};
use kagami_channel::UnitAddress;
use kagami_metrics::VolumeLabel;
use kagami_types::Lun;

/// A virtual volume that its core has taken, and nobody sees.
pub(super) struct Taken {
    mapping: Mapping,
    index: u32,
    label: VolumeLabel,
}

impl Daemon {
    /// The configuration with one more.
    pub(super) fn map_lun(&self, order: LunMapAdd, who: &str) -> Result<Wanted, Refusal> {
        let mut next = self.config.clone();
        crate::config::names::check_name(&order.name).map_err(Refusal::usage)?;
        let names = next.volumes.iter().map(|volume| &volume.name);
        if names.chain(next.virtuals.iter().map(|one| &one.name)).any(|name| *name == order.name) {
            return Err(Refusal::state(format!("there is a volume {} already", order.name)));
        }
        if next.peers.iter().all(|peer| peer.name != order.peer) {
            return Err(Refusal::usage(format!(
                "there is no peer {}; `kagami peer list` lists them",
                order.peer
            )));
        }
        let lun = self.free_lun(order.lun)?;
        let mapped_lun = super::orders::lun(order.mapped_lun)?;
        let role = match order.role.as_deref() {
            None | Some("plain") => Role::Plain,
            Some("command") => Role::Command,
            Some(_) => return Err(Refusal::usage("role is plain or command")),
        };
        let what = format!("map {lun} to {} of {} as {}", mapped_lun, order.peer, order.name);
        next.virtuals.push(Virtual {
            site: Site::default(),
            owner: Owner::RunTime,
            name: order.name,
            lun,
            peer: order.peer,
            mapped_lun,
            role,
        });
        for iqn in &order.initiators {
            self.initiator(iqn)?;
            super::orders::lend(&mut next, iqn, lun);
        }
        Ok(Wanted::new(next, who, what))
    }

    /// The configuration without one.
    pub(super) fn unmap_lun(&self, order: &LunMapRemove, who: &str) -> Result<Wanted, Refusal> {
        let one = self.virtual_volume(&order.volume)?;
        let (name, lun) = (one.name.clone(), one.lun);
        self.of_run_time(one.owner, "virtual volume", &name)?;
        let mut next = self.config.clone();
        next.virtuals.retain(|other| other.lun != lun);
        for initiator in &mut next.initiators {
            initiator.luns.retain(|known| *known != lun);
            initiator.added.retain(|known| *known != lun);
        }
        let what = format!("unmap {lun} ({name}){}", if order.force { ", forced" } else { "" });
        let force = if order.force { Force::Yes } else { Force::No };
        Ok(Wanted { force, ..Wanted::new(next, who, what) })
    }

    /// A virtual volume by its name, its LUN, or `ARRAY:LUN`, where ARRAY is this one.
    fn virtual_volume(&self, asked: &str) -> Result<&Virtual, Refusal> {
        let virtuals = &self.config.virtuals;
        let number =
            asked.split_once(':').filter(|(array, _)| *array == self.plan.name).map_or(asked, |(_, n)| n);
        let lun = number.parse().ok().and_then(Lun::new);
        let found = virtuals
            .iter()
            .find(|one| one.name == asked)
            .or_else(|| virtuals.iter().find(|one| Some(one.lun) == lun));
        found.ok_or_else(|| {
            Refusal::usage(format!("there is no virtual volume {asked}; `kagami luns` lists them"))
        })
    }

    /// Has the cores take new virtual volumes; all of them or none.
    pub(super) fn map(
        &mut self,
        difference: &Difference,
        plan: &Plan,
        rules: &Rules,
    ) -> Result<Vec<Taken>, Refusal> {
        let array = self.tables.state().array().uuid;
        let mut taken = Vec::new();
        for lun in &difference.mapped {
            let Some(one) = plan.virtuals.iter().find(|one| one.lun == *lun) else { continue };
            let result = self.free_virtual_row(&taken).and_then(|row| {
                let mut one = one.clone();
                one.row = u32::try_from(row).unwrap_or(u32::MAX);
                one.home = self.array.idlest_for_virtual();
                let mapping = self.array.map(&one, &self.plan, rules, array).map_err(Refusal::failed)?;
                match self.wait(MAKING, || mapping.poll()) {
                    Some(Ok(index)) => Ok((mapping, index)),
                    Some(Err(reason)) => Err(Refusal::failed(reason)),
                    None => Err(Refusal::failed("its core does not answer")),
                }
            });
            match result {
                Ok((mapping, index)) => {
                    let label = VolumeLabel { lun: lun.number(), name: one.name.clone(), bytes: 0 };
                    taken.push(Taken { mapping, index, label });
                }
                Err(refusal) => {
                    self.unmap_again(taken);
                    return Err(refusal);
                }
            }
        }
        Ok(taken)
    }

    /// A row of the counters behind those of volumes.
    fn free_virtual_row(&self, taken: &[Taken]) -> Result<usize, Refusal> {
        let first = self.plan.volume_rows as usize;
        let rows = self.plan.virtuals.len() + SPARE_VIRTUALS;
        let used: Vec<usize> =
            self.array.virtual_rows().chain(taken.iter().map(|one| one.mapping.row())).collect();
        (first..first + rows).find(|row| !used.contains(row)).ok_or_else(|| {
            Refusal::state(format!(
                "there are {rows} virtual volumes already; write them into the file and restart"
            ))
        })
    }

    /// Lets go of virtual volumes that nobody has seen.
    pub(super) fn unmap_again(&mut self, taken: Vec<Taken>) {
        for Taken { mapping, index, label } in taken {
            self.array.place_virtual(mapping, index);
            if let Some((_, address)) = Lun::new(label.lun).and_then(|lun| self.array.unmap(lun))
                && let Some(gone) = self.array.retire(address)
            {
                self.wait(PARTING, || gone.try_recv().ok());
            }
        }
    }

    /// It is durable: they have their places, for the next directory.
    pub(super) fn show_mapped(&mut self, taken: Vec<Taken>) {
        for Taken { mapping, index, label } in taken {
            self.metrics.label(mapping.row(), Some(label));
            self.array.place_virtual(mapping, index);
        }
    }

    /// Ends the virtual volumes that nobody sees any more.
    pub(super) fn part_virtual(&mut self, gone: Vec<(usize, UnitAddress)>, notes: &mut Vec<String>) {
        for (row, address) in gone {
            let ended = self.array.retire(address);
            let ended = ended.and_then(|gone| self.wait(PARTING, || gone.try_recv().ok()));
            self.metrics.label(row, None);
            if ended.is_none() {
                notes.push(
                    "a virtual volume is gone for hosts; its link ends when its last command does".to_owned(),
                );
            }
        }
    }
}
