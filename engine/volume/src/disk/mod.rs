//! Volumes on devices.
use crate::check::Extent;
use crate::counters::Counters;
use crate::outcome::{Aborted, Context, Outcome, Tag};
use crate::plan::{Geometry, PlanError, Storage, VolumePlan};
use kagami_memory::{Quota, Scatter};
use kagami_reactor::Completion;
use kagami_types::{BlockError, BlockOp, Time};

#[derive(Debug)]
pub(crate) struct Disk {
    quota: Quota,
    write_back: bool,
}

impl Disk {
    pub(crate) fn new(plan: VolumePlan) -> Result<Self, PlanError> {
        match &plan.storage {
            Storage::Disk { limits, .. } => limits.check(&plan.geometry)?,
            Storage::Other(other) => other.limits().check(&plan.geometry)?,
            Storage::Ram | Storage::Null => {}
        }
        Ok(Self { quota: Quota::new(plan.pages), write_back: plan.write_back })
    }
    pub(crate) fn submit(
        &mut self,
        _: &mut Context<'_>,
        _: &mut Counters,
        _: Tag,
        _: BlockOp,
        _: Extent,
        data: Scatter,
    ) -> Option<Outcome> {
        Some(Outcome::plain(Err(BlockError::Unsupported), data))
    }
    pub(crate) fn on_completion(&mut self, _: &mut Context<'_>, _: &mut Counters, _: Completion) {}
    pub(crate) fn on_tick(&mut self, _: &mut Context<'_>, _: &mut Counters) {}
    pub(crate) fn next_deadline(&self) -> Time {
        Time::NEVER
    }
    pub(crate) fn abort(&mut self, _: &mut Context<'_>, _: &mut Counters, _: Tag) -> Aborted {
        Aborted::NotFound
    }
    pub(crate) fn grow(&mut self, _: &Geometry) -> Result<(), PlanError> {
        Ok(())
    }
    pub(crate) fn in_flight(&self) -> usize {
        0
    }
    pub(crate) fn is_idle(&self) -> bool {
        true
    }
    pub(crate) fn set_write_back(&mut self, write_back: bool) {
        self.write_back = write_back;
    }
    pub(crate) fn pages(&self) -> (u64, u64) {
        (self.quota.used(), self.quota.limit())
    }
}
