//! The volume: one owner of some blocks, whatever they are on.

use crate::check;
use crate::counters::Counters;
use crate::disk::Disk;
use crate::holes::Holes;
use crate::null::Null;
use crate::outcome::{Aborted, Context, Outcome, Tag};
use crate::plan::{DeviceLimits, Geometry, MAX_SLOTS, PlanError, Storage, VolumePlan, check_size};
use crate::ram::Ram;
use kagami_memory::Scatter;
use kagami_reactor::{Completion, FileId};
use kagami_types::{BlockCount, BlockError, BlockOp, Lba, Time};

/// Logical blocks and what executes operations on them. It belongs to one core.
#[derive(Debug)]
pub struct Volume {
    geometry: Geometry,
    read_only: bool,
    quiesced: bool,
    gone: bool,
    counters: Counters,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Null(Null),
    Ram(Ram),
    Disk(Box<Disk>),
}

impl Volume {
    /// Makes a volume. All memory that it will need for itself is taken now.
    ///
    /// # Errors
    /// The plan contradicts itself.
    pub fn new(plan: VolumePlan) -> Result<Self, PlanError> {
        let geometry = plan.geometry;
        check_size(geometry.block_size, geometry.blocks)?;
        if plan.slots == 0 || plan.slots > MAX_SLOTS {
            return Err(PlanError::Slots(plan.slots));
        }
        let read_only = plan.read_only;
        let kind = match plan.storage {
            Storage::Ram => Kind::Ram(Ram::new(&geometry, plan.pages, plan.zeroes)?),
            Storage::Null => Kind::Null(Null { zeroes: plan.zeroes }),
            Storage::Disk { .. } | Storage::Other(_) => Kind::Disk(Box::new(Disk::new(plan)?)),
        };
        Ok(Self { geometry, read_only, quiesced: false, gone: false, counters: Counters::default(), kind })
    }

    /// Takes an operation in, with the data to write or compare, or with an empty list for what a read
    /// gives.
    ///
    /// `Some`: done. `None`: its outcome will be in `done` with its tag, after a completion or a tick.
    /// Outcomes of other operations may be in `done` after this call.
    #[inline]
    pub fn submit(&mut self, cx: &mut Context<'_>, tag: Tag, op: BlockOp, data: Scatter) -> Option<Outcome> {
        let checked = self.admit(&op, data.len_bytes());
        let extent = match checked {
            Ok(extent) => extent,
            Err(error) => {
                self.counters.finish(&Err(error));
                return Some(Outcome::plain(Err(error), data));
            }
        };
        self.counters.admit(&op, extent.len);
        let outcome = match &mut self.kind {
            Kind::Null(null) => Some(null.execute(&self.geometry, op, extent, data)),
            Kind::Ram(ram) => Some(ram.execute(cx.pool, &self.geometry, op, extent, data)),
            Kind::Disk(disk) => disk.submit(cx, tag, op, extent, data),
        };
        if let Some(outcome) = &outcome {
            self.counters.finish(&outcome.result);
        }
        outcome
    }

    /// Asks the processor for what an operation at that block will look at first. A hint; any block will do.
    #[inline]
    pub fn prefetch_entry(&self, lba: Lba) {
        if let Kind::Ram(ram) = &self.kind {
            ram.prefetch_entry(lba.0.saturating_mul(u64::from(self.geometry.block_size.bytes())));
        }
    }

    /// Asks the processor for what it will look at next, once the first has come. A hint as well.
    #[inline]
    pub fn prefetch_page(&self, lba: Lba) {
        if let Kind::Ram(ram) = &self.kind {
            ram.prefetch_page(lba.0.saturating_mul(u64::from(self.geometry.block_size.bytes())));
        }
    }

    /// Whether pages that are written stay in use as the volume's own.
    #[must_use]
    pub fn keeps_pages(&self) -> bool {
        matches!(self.kind, Kind::Ram(_))
    }

    #[inline]
    fn admit(&self, op: &BlockOp, data: usize) -> Result<check::Extent, BlockError> {
        if self.gone {
            return Err(BlockError::Gone);
        }
        if self.quiesced {
            return Err(BlockError::Busy);
        }
        if self.read_only && op.writes() {
            return Err(BlockError::WriteProtected);
        }
        check::check(&self.geometry, op, data)
    }

    /// A device operation with the volume's token base is done.
    pub fn on_completion(&mut self, cx: &mut Context<'_>, completion: Completion) {
        if let Kind::Disk(disk) = &mut self.kind {
            disk.on_completion(cx, completion);
        }
    }

    /// Time has passed: to be called when [`next_deadline`](Self::next_deadline) has come, and
    /// harmless at any time. Answers what is overdue and goes on with what waited for pages or for room
    /// in a queue.
    pub fn on_tick(&mut self, cx: &mut Context<'_>) {
        if let Kind::Disk(disk) = &mut self.kind {
            disk.on_tick(cx);
        }
    }

    /// When [`on_tick`](Self::on_tick) is to be called next.
    #[must_use]
    #[inline]
    pub fn next_deadline(&self) -> Time {
        match &self.kind {
            Kind::Null(_) | Kind::Ram(_) => Time::NEVER,
            Kind::Disk(disk) => disk.next_deadline(),
        }
    }

    /// Ends a task early, where that can be done without harm.
    pub fn abort(&mut self, cx: &mut Context<'_>, tag: Tag) -> Aborted {
        match &mut self.kind {
            Kind::Null(_) | Kind::Ram(_) => Aborted::NotFound,
            Kind::Disk(disk) => disk.abort(cx, tag),
        }
    }

    /// Size and shape.
    #[must_use]
    #[inline]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Makes the volume larger; what is behind it must already be. New blocks of a `Ram` volume are
    /// deallocated, and its quota grows by as much.
    ///
    /// # Errors
    /// A smaller size than now, or one that the storage cannot have; nothing has changed.
    pub fn grow(&mut self, blocks: BlockCount) -> Result<(), PlanError> {
        if blocks < self.geometry.blocks {
            return Err(PlanError::Shrink { from: self.geometry.blocks.0, to: blocks.0 });
        }
        check_size(self.geometry.block_size, blocks)?;
        let larger = Geometry { blocks, ..self.geometry };
        match &mut self.kind {
            Kind::Null(_) => {}
            Kind::Ram(ram) => ram.grow(&larger)?,
            Kind::Disk(disk) => disk.grow(&larger)?,
        }
        self.geometry = larger;
        Ok(())
    }

    /// The volume is on a sparse file, of which this is deallocated now: from here on it is kept up, and told to
    /// [`BlockOp::LbaStatus`]. Nobody else may write to the file.
    pub fn set_holes(&mut self, holes: Holes) {
        if let Kind::Disk(disk) = &mut self.kind {
            disk.set_holes(holes);
        }
    }

    /// For a volume among others without a cache: beyond that many pages of 4 KiB it has at most four times as many as it
    /// leaves to the hosts of all. So any number of hung devices leaves the others pages. More is refused with `Busy`.
    pub fn set_fair_share(&mut self, pages: u64) {
        if let Kind::Disk(disk) = &mut self.kind {
            disk.set_fair_share(pages);
        }
    }

    /// The device was removed: every operation ends with `Gone` from now on, those under way as soon as
    /// the kernel gives them back. Then [`release_device`](Self::release_device) gives the kernel's name
    /// for it up, and [`replace_device`](Self::replace_device) goes on when it is back.
    pub fn set_gone(&mut self) {
        if let Kind::Disk(disk) = &mut self.kind {
            self.gone = true;
            disk.set_gone();
        }
    }

    /// Whether the device was removed and is not back.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The kernel's name of a device that is gone, to be closed, as soon as nothing is under way there.
    pub fn release_device(&mut self) -> Option<FileId> {
        match &mut self.kind {
            Kind::Null(_) | Kind::Ram(_) => None,
            Kind::Disk(disk) => disk.release_device(),
        }
    }

    /// Whether the kernel's name of a device that is gone was given up.
    #[must_use]
    pub fn is_released(&self) -> bool {
        match &self.kind {
            Kind::Null(_) | Kind::Ram(_) => false,
            Kind::Disk(disk) => disk.is_released(),
        }
    }

    /// Goes on with the same device after it was opened again. What it had in its own cache when it went
    /// may be lost: whoever calls this tells the hosts.
    ///
    /// # Errors
    /// The device cannot take the place of the old one, or that was not released; nothing has changed.
    pub fn replace_device(&mut self, file: FileId, limits: DeviceLimits) -> Result<(), PlanError> {
        match &mut self.kind {
            Kind::Null(_) | Kind::Ram(_) => {
                return Err(PlanError::Replace("the volume is on no device of the kernel's"));
            }
            Kind::Disk(disk) => disk.replace(file, limits, &self.geometry)?,
        }
        self.gone = false;
        Ok(())
    }

    /// Whether the device was away since this was last asked, and may have lost what it was given and had not flushed. A flush
    /// from then on makes stable only what is there.
    pub fn take_lost(&mut self) -> bool {
        match &mut self.kind {
            Kind::Null(_) | Kind::Ram(_) => false,
            Kind::Disk(disk) => disk.take_lost(),
        }
    }

    /// How often the device took something that it may lose: a point in time for [`made_stable`](Self::made_stable).
    #[must_use]
    pub fn writes(&self) -> u64 {
        match &self.kind {
            Kind::Null(_) | Kind::Ram(_) => 0,
            Kind::Disk(disk) => disk.writes(),
        }
    }

    /// Another volume on the same device has flushed it, with success, after [`writes`](Self::writes) was that. Where nothing
    /// was written since, nothing is there to be lost.
    pub fn made_stable(&mut self, writes: u64) {
        if let Kind::Disk(disk) = &mut self.kind {
            disk.made_stable(writes);
        }
    }

    /// The device has other limits than when it was opened (it has grown, or its queue was changed). Its
    /// depth stays.
    ///
    /// # Errors
    /// The alignment differs, or the limits contradict the volume; nothing has changed.
    pub fn set_device_limits(&mut self, limits: DeviceLimits) -> Result<(), PlanError> {
        match &mut self.kind {
            Kind::Null(_) | Kind::Ram(_) => Ok(()),
            Kind::Disk(disk) => disk.set_limits(limits, &self.geometry),
        }
    }

    /// Operations whose outcome was not given yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match &self.kind {
            Kind::Null(_) | Kind::Ram(_) => 0,
            Kind::Disk(disk) => disk.in_flight(),
        }
    }

    /// Whether nothing is under way, neither for hosts nor at the device: operations that timed out are
    /// under way until the device has completed them.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match &self.kind {
            Kind::Null(_) | Kind::Ram(_) => true,
            Kind::Disk(disk) => disk.is_idle(),
        }
    }

    /// Refuses new operations with `Busy`, or takes them again. Those under way go on: with
    /// [`is_idle`](Self::is_idle) this drains the volume.
    pub fn set_quiesced(&mut self, quiesced: bool) {
        self.quiesced = quiesced;
    }

    /// Refuses writing operations with `WriteProtected`, or takes them again. Those under way go on.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// The WCE bit for operations from now on (MODE SELECT). Whoever clears it flushes afterwards:
    /// writes that are done already are not made stable here.
    pub fn set_write_back(&mut self, write_back: bool) {
        if let Kind::Disk(disk) = &mut self.kind {
            disk.set_write_back(write_back);
        }
    }

    /// The longest READ, WRITE or WRITE AND VERIFY that the page quota can ever take, wherever it is:
    /// what VPD page B0h is to say (SBC-4 6.6.4). COMPARE AND WRITE may have a quarter of it. Longer ones
    /// are refused with `Unsupported`. Other operations work on any number of blocks.
    #[must_use]
    pub fn largest_transfer(&self) -> BlockCount {
        match &self.kind {
            Kind::Null(_) | Kind::Ram(_) => BlockCount(u64::from(u32::MAX)),
            Kind::Disk(disk) => disk.largest_transfer(),
        }
    }

    /// The longest READ or WRITE that the device behind takes as one operation, where its own boundaries allow it.
    #[must_use]
    pub fn largest_undivided(&self) -> BlockCount {
        match &self.kind {
            Kind::Null(_) | Kind::Ram(_) => BlockCount(u64::from(u32::MAX)),
            Kind::Disk(disk) => disk.largest_undivided().min(disk.largest_transfer()),
        }
    }

    /// Pages of 4 KiB in use under the volume's quota, and the quota.
    #[must_use]
    pub fn pages(&self) -> (u64, u64) {
        match &self.kind {
            Kind::Null(_) => (0, 0),
            Kind::Ram(ram) => (ram.quota.used(), ram.quota.limit()),
            Kind::Disk(disk) => disk.pages(),
        }
    }

    /// What was counted since the construction.
    #[must_use]
    pub fn counters(&self) -> Counters {
        match &self.kind {
            Kind::Null(_) | Kind::Ram(_) => self.counters,
            Kind::Disk(disk) => self.counters.with(&disk.counters),
        }
    }
}
