//! Groups at work change: volumes join them and grow, and they behave in another way.
//!
//! The group agrees first, and has made what is new durable in its bitmap; then the tables have it, and hosts see it. What
//! fails between leaves a group that counts more as different than there is.

use super::apply::Wanted;
use crate::config::{Config, Group};
use crate::run::Daemon;
use crate::serve::Joining;
use kagami_admin::Refusal;
use kagami_admin::pair::{Ordered, PairSet};
use kagami_replica::PlannedVolume;
use kagami_replica::action::OrderResult;
use kagami_tables::{ResultRecord, VolumeRecord};
use std::time::Duration;

/// How long the links of a volume that joins may take to log in to the other array.
const LOGIN: Duration = Duration::from_secs(8);
/// How long a group may take to make its bitmap durable.
const AGREEING: Duration = Duration::from_secs(30);
/// How long a core may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

impl Daemon {
    /// What it takes to change options of a group.
    pub(super) fn set_group(&self, asked: &PairSet, who: &str) -> Result<Wanted, Refusal> {
        if asked.options.is_empty() {
            return Err(Refusal::usage("no option is named"));
        }
        let group = self.group_named(asked.group.as_deref())?;
        let name = group.name.clone();
        self.of_run_time(group.owner, "group", &name)?;
        let mut options = group.options;
        for (key, value) in &asked.options {
            options.set(key, value).map_err(Refusal::usage)?;
        }
        let mut next = self.config.clone();
        for group in next.groups.iter_mut().filter(|group| group.name == name) {
            group.options = options;
        }
        let list: Vec<String> = asked.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Ok(Wanted::new(next, who, format!("set group {name} {}", list.join(" "))))
    }

    /// Has groups behave as a configuration says; nothing has changed where one cannot.
    pub(super) fn behave(&mut self, names: &[String], next: &Config) -> Result<(), Refusal> {
        for (done, name) in names.iter().enumerate() {
            let Some(group) = next.groups.iter().find(|group| group.name == *name) else { continue };
            let asked = self.array.group_behaves(name, crate::groups::options(group));
            let heard = asked.and_then(|asked| self.wait(PATIENCE, || asked.try_recv().ok()));
            let result = heard.unwrap_or_else(|| Err("its core does not answer".to_owned()));
            if let Err(reason) = result {
                self.behave_again(&names[..done]);
                return Err(Refusal::state(format!("group {name}: {reason}")));
            }
        }
        Ok(())
    }

    /// Has groups behave as the configuration in force says.
    pub(super) fn behave_again(&mut self, names: &[String]) {
        let config = self.config.clone();
        if let Err(refusal) = self.behave(names, &config) {
            crate::complain(&refusal.reason);
        }
    }

    /// Has the groups of volumes that are to grow agree.
    pub(super) fn agree_to_grow(&mut self, larger: &[VolumeRecord]) -> Result<(), Refusal> {
        let groups: Vec<Group> =
            self.config.groups.iter().filter(|group| group.pairs.is_some()).cloned().collect();
        for group in groups {
            let grows = |record: &&VolumeRecord| group.luns().any(|lun| lun == record.lun);
            if let Some(record) = larger.iter().find(grows)
                && group.pairs.as_ref().is_some_and(|pairs| pairs.journal == record.lun)
            {
                return Err(Refusal::state(format!(
                    "journal {} is in use by group {}: delete the pair first, and make it anew",
                    record.name, group.name
                )));
            }
            let records: Vec<&VolumeRecord> = larger.iter().filter(grows).collect();
            if records.is_empty() {
                continue;
            }
            let array = self.tables.state().array().uuid;
            let joining =
                crate::groups::joining(&self.config, &self.plan, &self.volumes, array, &group, false)
                    .map_err(Refusal::state)?;
            let mut volumes = joining.plan.volumes;
            for record in records {
                for volume in volumes.iter_mut().filter(|volume| volume.uuid == record.uuid) {
                    volume.blocks = record.block_size.blocks_in(record.size).0;
                }
            }
            self.reshape(&group.name, volumes, None)?;
        }
        Ok(())
    }

    fn reshape(
        &mut self,
        group: &str,
        volumes: Vec<PlannedVolume>,
        more: Option<(&Joining, &crate::serve::Linking)>,
    ) -> Result<(), Refusal> {
        let asked = self.array.reshape_group(group, volumes, more);
        let heard = asked.and_then(|asked| self.wait(AGREEING, || asked.try_recv().ok()));
        match heard {
            Some(OrderResult::Done(_) | OrderResult::Already(_)) => Ok(()),
            Some(result) => {
                Err(Refusal { code: result.exit_code(), reason: format!("group {group}: {}", result.text()) })
            }
            None => Err(Refusal::timed_out(format!("the core of group {group} does not answer"))),
        }
    }

    /// Volumes join a group that is at work, and suspended. `known` is the group as it is, `wanted` as it is to be.
    pub(super) fn extend_group(
        &mut self,
        known: &Group,
        wanted: &Group,
        who: &str,
        result: Option<ResultRecord>,
    ) -> Result<Ordered, Refusal> {
        let name = known.name.clone();
        let (Some(old), Some(new)) = (&known.pairs, &wanted.pairs) else {
            return Err(Refusal::state(format!("group {name} has no pairs")));
        };
        let (before, count) = (old.pairs.len(), new.pairs.len() - old.pairs.len());
        let mut group = known.clone();
        if let Some(pairs) = &mut group.pairs {
            pairs.pairs.clone_from(&new.pairs);
        }
        let mut next = self.config.clone();
        for one in next.groups.iter_mut().filter(|one| one.name == name) {
            one.pairs.clone_from(&group.pairs);
        }
        let array = self.tables.state().array().uuid;
        let whole = crate::groups::joining(&next, &self.plan, &self.volumes, array, &group, true)
            .map_err(Refusal::state)?;
        let volumes = whole.plan.volumes.clone();
        let mut more = whole;
        more.links.clear();
        more.volumes.drain(..before);
        let rules = self.rules(&next).map_err(Refusal::failed)?;
        let mut linking = self.array.link(&more, &self.plan, &rules, array).map_err(Refusal::failed)?;
        let reached = self.wait(LOGIN, || match linking.poll() {
            Some(Err(reason)) => Some(Err(reason)),
            Some(Ok(())) if linking.has_logged_in() => Some(Ok(())),
            _ => None,
        });
        let reached = match reached {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(Refusal::failed(reason)),
            None => {
                let why = linking.state().1.unwrap_or_else(|| "no answer".to_owned());
                Err(Refusal::unreachable(format!("array {} cannot be logged in to: {why}", known.peer)))
            }
        };
        let placed = reached.and_then(|()| {
            let answers = self.array.join_more(&more).map_err(Refusal::failed)?;
            self.all_done(answers).map_err(Refusal::state)
        });
        let agreed = placed.and_then(|()| self.reshape(&name, volumes, Some((&more, &linking))));
        if let Err(refusal) = agreed {
            for (_, answer) in self.array.join_less(&more) {
                // One that has no front has nothing to let go.
                let _ = self.wait(PATIENCE, || answer.try_recv().ok());
            }
            self.array.unlink(linking);
            return Err(refusal);
        }
        self.array.joined_more(&more, &linking);
        let volumes = if count == 1 { "1 pair joins".to_owned() } else { format!("{count} pairs join") };
        let what = format!("{volumes} group {name}");
        self.apply(Wanted { pairs: true, result, ..Wanted::new(next, who, what.clone()) })?;
        Ok(Ordered { exit_code: 0, what: format!("{what}; a resync copies what is new") })
    }
}
