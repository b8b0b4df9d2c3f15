//! What a store passes on to the volume behind it: the life of its device, and hints to the processor.

use super::frame::PAGE_SHIFT;
use super::{Cache, Kind, Store, StoreContext, cached};
use crate::Key;
use kagami_memory::Scatter;
use kagami_reactor::FileId;
use kagami_types::{BlockCount, BlockOp, BlockRange, Lba};
use kagami_volume::{DeviceLimits, Outcome, PlanError, Tag, Volume};

/// How many lines of a page that is to be read are asked for; the processor finds the rest by itself.
const LINES: usize = 8;

impl Store {
    /// The volume, with or without a cache in front of it.
    fn behind(&mut self) -> &mut Volume {
        match &mut self.kind {
            Kind::Direct(volume) => volume,
            Kind::Cached(cached) => &mut cached.volume,
        }
    }

    /// The volume, where no cache is in front of it.
    ///
    /// # Errors
    /// The store itself, where there is one.
    #[allow(clippy::result_large_err, reason = "the store itself comes back")]
    pub fn into_volume(self) -> Result<Volume, Self> {
        match self.kind {
            Kind::Direct(volume) => Ok(volume),
            Kind::Cached(_) => Err(self),
        }
    }

    /// The device was removed; as [`Volume::set_gone`]. Dirty pages are kept.
    pub fn set_gone(&mut self) {
        self.behind().set_gone();
    }

    /// As [`Volume::is_gone`].
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match &self.kind {
            Kind::Direct(volume) => volume.is_gone(),
            Kind::Cached(cached) => cached.volume.is_gone(),
        }
    }

    /// As [`Volume::release_device`].
    pub fn release_device(&mut self) -> Option<FileId> {
        self.behind().release_device()
    }

    /// As [`Volume::is_released`].
    pub fn is_released(&mut self) -> bool {
        self.behind().is_released()
    }

    /// As [`Volume::replace_device`]; what is dirty goes out to it with the next try.
    ///
    /// # Errors
    /// As [`Volume::replace_device`].
    pub fn replace_device(&mut self, file: FileId, limits: DeviceLimits) -> Result<(), PlanError> {
        self.behind().replace_device(file, limits)?;
        if let Kind::Cached(cached) = &mut self.kind {
            cached.try_now();
        }
        Ok(())
    }

    /// As [`Volume::take_lost`]. Where something may be lost, what is clean leaves the cache: the device may have something else
    /// there, and hosts are to see it from now on and not some day. What is dirty stays, and goes out.
    pub fn take_lost(&mut self, cache: &mut Cache) -> bool {
        let lost = self.behind().take_lost();
        if lost && let Kind::Cached(cached) = &self.kind {
            cache.forget_clean(cached.plan.number);
        }
        lost
    }

    /// As [`Volume::set_device_limits`].
    ///
    /// # Errors
    /// As [`Volume::set_device_limits`].
    pub fn set_device_limits(&mut self, limits: DeviceLimits) -> Result<(), PlanError> {
        self.behind().set_device_limits(limits)
    }

    /// The first half of a flush (`op`): its blocks' WRITEs that were done before it came are on the device, which may still
    /// lose them. For who has parts of one device behind several stores, and then has one of these flush it.
    pub fn write_out(
        &mut self,
        cx: &mut StoreContext<'_>,
        tag: Tag,
        op: BlockOp,
        data: Scatter,
    ) -> Option<Outcome> {
        match &mut self.kind {
            // What is done is there.
            Kind::Direct(_) => Some(cached::ended(Ok(()), data)),
            Kind::Cached(cached) => cached.write_out(cx, tag, op, data),
        }
    }

    /// These blocks will be read soon: they are read into the cache as far as there is room. For who finds streams
    /// elsewhere; a hint, without a cache nothing is done.
    pub fn read_ahead(&mut self, cx: &mut StoreContext<'_>, range: BlockRange) {
        let Kind::Cached(cached) = &mut self.kind else { return };
        let blocks = BlockCount(range.blocks.into());
        if let Ok(extent) = cached.extent(range.lba, blocks)
            && extent.start < extent.end
        {
            cached.read_ahead(cx, extent.first()..extent.last());
            cached.work(cx);
        }
    }

    /// As [`Volume::writes`].
    #[must_use]
    pub fn writes(&self) -> u64 {
        match &self.kind {
            Kind::Direct(volume) => volume.writes(),
            Kind::Cached(cached) => cached.volume.writes(),
        }
    }

    /// As [`Volume::made_stable`].
    pub fn made_stable(&mut self, writes: u64) {
        self.behind().made_stable(writes);
    }

    /// Whether pages that are written stay in use as the volume's own, or the cache's.
    #[must_use]
    pub fn keeps_pages(&self) -> bool {
        match &self.kind {
            Kind::Direct(volume) => volume.keeps_pages(),
            Kind::Cached(_) => true,
        }
    }

    /// Asks the processor for what a READ or a writing operation at that block will look at: first for what it looks at
    /// first, and with the next `step`s, once that has come, for what follows. Hints; any block will do.
    #[inline]
    pub fn prefetch(&self, cache: &Cache, lba: Lba, step: u8, reads: bool) {
        match (&self.kind, step) {
            (Kind::Direct(volume), 0) => volume.prefetch_entry(lba),
            (Kind::Direct(volume), 1) => volume.prefetch_page(lba),
            (Kind::Direct(_), _) => {}
            (Kind::Cached(cached), step) => {
                let page = cached.geometry.block_size.offset(lba) >> PAGE_SHIFT;
                let key = Key { volume: cached.plan.number, page };
                if step == 0 {
                    if !reads {
                        cache.dirty.prefetch(key.volume, key.page);
                    }
                    return cache.pages.prefetch(key);
                }
                let Some(slot) = cache.pages.get(key) else { return };
                if step == 1 {
                    return cache.pages.prefetch_slot(slot);
                }
                if let Some(page) = cache.pages.peek(slot).and_then(|frame| frame.page.as_ref()) {
                    page.prefetch_count();
                    if reads {
                        page.prefetch(LINES);
                    }
                }
            }
        }
    }
}
