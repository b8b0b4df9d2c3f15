//! Volumes on devices: the disk controller.
//!
//! An operation takes a [`Task`] slot, enters its range of bytes ([`Ranges`]) and goes through
//! [`Step`]s (`program`): each is a run of device operations, cut to what the device takes, several
//! at once (`issue`). Completions (`complete`) bring the task on; deadlines and aborts (`expire`) end it
//! for the host, while its slot, pages and range stay taken until the device is done with them.
//!
//! The queue for the device is first come, first served, one device operation a turn: a WRITE SAME of a
//! terabyte has one operation in the queue between those of others. Whatever takes a while
//! (comparing, zeroing, filling) has only a few under way.

mod complete;
mod device;
mod expire;
mod issue;
mod program;
mod task;

use crate::check::Extent;
use crate::counters::Counters;
use crate::cursor::cursor;
use crate::holes::Holes;
use crate::outcome::{Context, Outcome, Tag};
use crate::plan::{DeviceLimits, Geometry, PlanError, Storage, VolumePlan};
use crate::ranges::{Mode, Ranges};
use device::Device;
use kagami_memory::{Class, Page, Pool, Purpose, Quota, Scatter, ScatterMut};
use kagami_reactor::{Completion, FileId, Op};
use kagami_types::{BlockCount, BlockError, BlockOp, BlockSize, ByteLen, Compare, LbaStatus, Time};
use std::collections::VecDeque;
use std::time::Duration;
use task::{Piece, Source, Step, Task};

const PAGE: u64 = 4096;
/// The most bytes of one device read or write: with pages that do not lie together, half of what
/// one vectored call takes.
const MAX_CHUNK: u64 = 2 << 20;
/// The most bytes of one device read whose data is only compared.
const CHECK_CHUNK: u64 = 256 << 10;
/// Device operations that an operation which takes a while has under way at once.
const CHECK_WIDTH: u16 = 2;
const FILL_WIDTH: u16 = 4;
/// Discards and zeroings under way at once in a volume: each may hold a kernel worker for long.
const BULK_WIDTH: usize = 2;
/// Up to this size, a write of parts of units goes out as one operation, all of it copied; and zeroes
/// are written rather than asked for.
const SMALL: u64 = 64 << 10;
/// Ranges of one UNMAP that are kept apart; more are taken as one that spans them all.
const MAX_APART: usize = 16;
/// How soon an operation that got no page, or no room in the ring, is tried again.
const RETRY: Duration = Duration::from_millis(1);
/// Turns of a back end that completes at once, before the core goes on with something else.
const TURNS: usize = 16;

/// Empty lists that keep their storage.
#[derive(Debug)]
struct Spare {
    lists: Vec<Scatter>,
    pages: Vec<ScatterMut>,
    limit: usize,
}

impl Spare {
    fn list(&mut self) -> Scatter {
        self.lists.pop().unwrap_or_default()
    }

    fn pages(&mut self) -> ScatterMut {
        self.pages.pop().unwrap_or_default()
    }

    fn put_list(&mut self, mut list: Scatter) {
        list.clear();
        if self.lists.len() < self.limit {
            self.lists.push(list);
        }
    }

    fn put_pages(&mut self, mut list: ScatterMut) {
        list.clear();
        if self.pages.len() < self.limit {
            self.pages.push(list);
        }
    }
}

/// Who waits for a flush.
#[derive(Debug, Default)]
struct Flushes {
    running: bool,
    /// Those that the running one is for.
    now: Vec<u16>,
    /// Those that came since: one more flush is for all of them.
    next: Vec<u16>,
}

#[derive(Debug)]
pub(crate) struct Disk {
    device: Device,
    limits: DeviceLimits,
    block_size: BlockSize,
    /// Bytes of the largest read or write.
    chunk: u64,
    token_base: u64,
    timeout: Duration,
    write_back: bool,
    /// The device is gone: whatever it still answers with, that is why.
    gone: bool,
    zeroes: Page,
    quota: Quota,
    /// Below so many pages, its reads need not leave anything for others; see [`Volume::set_fair_share`](crate::Volume).
    fair: Option<u64>,
    /// Of a sparse file: what of it is deallocated.
    holes: Option<Holes>,
    pub(crate) counters: Counters,
    tasks: Vec<Task>,
    free: Vec<u16>,
    /// Tasks whose outcome is still to be given.
    unanswered: usize,
    ranges: Ranges,
    pieces: Vec<Piece>,
    free_pieces: Vec<u16>,
    /// Tasks with something to issue, each once.
    ready: VecDeque<u16>,
    /// Tasks that nobody is in the way of any more.
    startable: VecDeque<u16>,
    /// Tasks that want to discard or zero while enough others do.
    bulk_waiting: VecDeque<u16>,
    bulk_flying: usize,
    flushes: Flushes,
    /// Something written may still be in the device's own cache.
    unflushed: bool,
    /// Something was written since the last flush, that the device may lose with its power.
    written: bool,
    /// How often anything was.
    writes: u64,
    /// The device is back from where it may have lost what was written; until somebody asks.
    lost: bool,
    /// Device operations that the ring had no room for.
    held: VecDeque<(u16, Op)>,
    retry_at: Time,
    /// No deadline is earlier.
    earliest: Time,
    spare: Spare,
    polled: Vec<Completion>,
}

impl Disk {
    pub(crate) fn new(plan: VolumePlan) -> Result<Self, PlanError> {
        let (device, limits) = match plan.storage {
            Storage::Disk { file, limits } => (Device::File(file), limits),
            Storage::Other(backend) => {
                let limits = backend.limits();
                (Device::Other(backend), limits)
            }
            Storage::Ram | Storage::Null => return Err(PlanError::Depth),
        };
        let chunk = chunk(&limits, &plan.geometry, plan.pages)?;
        let (slots, depth) = (usize::from(plan.slots), usize::from(limits.depth));
        Ok(Self {
            device,
            limits,
            block_size: plan.geometry.block_size,
            chunk,
            token_base: u64::from(plan.token_base) << 32,
            timeout: plan.timeout,
            write_back: plan.write_back,
            gone: false,
            zeroes: plan.zeroes,
            quota: Quota::new(plan.pages),
            fair: None,
            holes: None,
            counters: Counters::default(),
            tasks: (0..slots).map(|_| Task::empty()).collect(),
            free: (0..plan.slots).rev().collect(),
            unanswered: 0,
            ranges: Ranges::new(slots + MAX_APART),
            pieces: vec![Piece::IDLE; depth],
            free_pieces: (0..limits.depth).rev().collect(),
            ready: VecDeque::with_capacity(slots),
            startable: VecDeque::with_capacity(slots),
            bulk_waiting: VecDeque::new(),
            bulk_flying: 0,
            flushes: Flushes {
                running: false,
                now: Vec::with_capacity(slots),
                next: Vec::with_capacity(slots),
            },
            unflushed: true,
            written: false,
            writes: 0,
            lost: false,
            held: VecDeque::with_capacity(depth),
            retry_at: Time::NEVER,
            earliest: Time::NEVER,
            spare: Spare { lists: Vec::with_capacity(depth), pages: Vec::with_capacity(depth), limit: depth },
            polled: Vec::with_capacity(depth),
        })
    }

    /// Takes a checked operation in.
    pub(crate) fn submit(
        &mut self,
        cx: &mut Context<'_>,
        tag: Tag,
        op: BlockOp,
        extent: Extent,
        mut data: Scatter,
    ) -> Option<Outcome> {
        match &op {
            BlockOp::LbaStatus { lba, descriptors } => {
                if let Some(holes) = &self.holes {
                    let mut outcome = Outcome::plain(Ok(()), data);
                    let end = extent.start + extent.len;
                    holes.tell(*lba, self.block_size, end, *descriptors, &mut outcome.status);
                    return Some(outcome);
                }
                // What a block device has allocated cannot be asked of it: all of it, as far as known.
                let blocks = self.block_size.blocks_in(ByteLen(extent.len)).0;
                let mut outcome = Outcome::plain(Ok(()), data);
                outcome.status.push(LbaStatus {
                    lba: *lba,
                    blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
                    deallocated: false,
                });
                return Some(outcome);
            }
            BlockOp::Flush { .. } => {}
            _ if extent.len == 0 => return Some(Outcome::plain(Ok(()), data)),
            _ => {}
        }
        let charge = self.cost(&op, extent, &data);
        if charge > self.quota.limit() {
            return Some(Outcome::plain(Err(BlockError::Unsupported), data));
        }
        let page = match self.pattern(cx.pool, &op, &data) {
            Ok(page) => page,
            Err(error) => return Some(Outcome::plain(Err(error), data)),
        };
        if self.takes_too_much(cx, charge) || !self.quota.try_charge(charge) {
            return Some(Outcome::plain(Err(BlockError::Busy), data));
        }
        let Some(t) = self.free.pop() else {
            self.quota.release(charge);
            return Some(Outcome::plain(Err(BlockError::Busy), data));
        };
        if let BlockOp::Read(..) = &op {
            data.clear();
        }
        let deadline = cx.io.now() + self.timeout;
        let task = &mut self.tasks[usize::from(t)];
        debug_assert!(!task.live && task.flying == 0 && !task.queued, "a free slot is in use");
        (task.live, task.answered, task.aborted, task.issued) = (true, false, false, false);
        (task.tag, task.op, task.data, task.extent) = (tag, op, data, extent);
        (task.step, task.cursor, task.end) = (Step::Blocked, 0, 0);
        (task.range, task.stage, task.fault) = (0, 0, None);
        task.source = if page.is_some() { Source::Page } else { Source::Zeroes };
        task.page = page;
        (task.charge, task.deadline) = (charge, deadline);
        self.unanswered += 1;
        self.earliest = self.earliest.min(deadline);
        let blockers = self.lock(t);
        self.tasks[usize::from(t)].blockers = blockers;
        if blockers == 0 {
            self.startable.push_back(t);
        } else {
            self.counters.conflicts += 1;
        }
        self.work(cx);
        None
    }

    pub(crate) fn on_completion(&mut self, cx: &mut Context<'_>, completion: Completion) {
        let mut polled = std::mem::take(&mut self.polled);
        match &mut self.device {
            Device::File(_) | Device::Released => self.complete(cx, completion),
            // Not one of ours: the back end has submitted it for itself.
            Device::Other(backend) => backend.on_completion(cx.io, completion, &mut polled),
        }
        for completion in polled.drain(..) {
            self.complete(cx, completion);
        }
        self.polled = polled;
        self.work(cx);
    }

    /// Goes on with everything that can go on.
    fn work(&mut self, cx: &mut Context<'_>) {
        for _ in 0..TURNS {
            self.pump(cx);
            let mut polled = std::mem::take(&mut self.polled);
            self.device.poll(cx.io, &mut polled);
            let some = !polled.is_empty();
            for completion in polled.drain(..) {
                self.complete(cx, completion);
            }
            self.polled = polled;
            if !some {
                return;
            }
        }
        self.pump(cx);
    }

    /// The whole units of the device that hold those bytes.
    fn hull(&self, extent: Extent) -> Extent {
        let align = u64::from(self.limits.align);
        let start = extent.start - extent.start % align;
        Extent { start, len: extent.end().next_multiple_of(align) - start }
    }

    /// How many pages an operation may hold at once, those that came with it included.
    fn cost(&self, op: &BlockOp, extent: Extent, data: &Scatter) -> u64 {
        let hull = self.hull(extent);
        let align = u64::from(self.limits.align);
        // What is cut at a boundary may end there, and again at its own end, within a page.
        let cut = if self.limits.boundary > 0 { 2 } else { 0 };
        let pieces = hull.len / self.chunk * pages(self.chunk) + pages(hull.len % self.chunk) + cut;
        let check = pieces.min(u64::from(CHECK_WIDTH) * pages(CHECK_CHUNK.min(self.chunk)));
        let copies = |from, len| match hull == extent && issue::fits(&self.limits, data, from, len) {
            true => 0,
            false => pieces + 2 * pages(align),
        };
        let came = pages(data.len_bytes() as u64);
        match op {
            BlockOp::Read(..) => pieces,
            BlockOp::Write(..) => came + copies(0, data.len_bytes()),
            BlockOp::WriteVerify { .. } => came + copies(0, data.len_bytes()) + check,
            BlockOp::Verify { against: Compare::OneBlock, .. } => came + check + 1,
            BlockOp::Verify { .. } => came + check,
            BlockOp::CompareAndWrite(..) => {
                let half = data.len_bytes() / 2;
                came + pieces + copies(half, half)
            }
            BlockOp::WriteSame { .. } | BlockOp::Unmap(_) => pages(SMALL) + 4 * pages(align) + 2,
            BlockOp::Flush { .. } | BlockOp::LbaStatus { .. } => 0,
        }
    }

    /// The one block of data that an operation repeats, all over a page; none where it has none, or
    /// that is zeroes to be written.
    fn pattern(&self, pool: &Pool, op: &BlockOp, data: &Scatter) -> Result<Option<Page>, BlockError> {
        match op {
            BlockOp::Verify { against: Compare::OneBlock, .. } => {}
            BlockOp::WriteSame { zeroes: false, .. } if !data.is_zero() => {}
            _ => return Ok(None),
        }
        let Some(mut page) = pool.take(Class::Page, Purpose::Host) else { return Err(BlockError::Busy) };
        for block in page.chunks_mut(self.block_size.bytes() as usize) {
            cursor(data, 0, block.len()).copy_to(block);
        }
        Ok(Some(page.freeze()))
    }

    /// Enters a task's ranges; how many earlier ones it has to wait for.
    fn lock(&mut self, t: u16) -> u32 {
        let task = &self.tasks[usize::from(t)];
        let hull = self.hull(task.extent);
        match &task.op {
            BlockOp::Read(..) | BlockOp::Verify { .. } => {
                self.ranges.insert(t, Mode::Shared, task.extent.bytes())
            }
            BlockOp::Write(..) => self.ranges.insert(t, Mode::Write, hull.bytes()),
            BlockOp::WriteVerify { .. } | BlockOp::CompareAndWrite(..) | BlockOp::WriteSame { .. } => {
                self.ranges.insert(t, Mode::Exclusive, hull.bytes())
            }
            BlockOp::Unmap(ranges) if ranges.len() <= MAX_APART => {
                let mut blockers = 0;
                for range in ranges.iter().filter(|range| range.blocks > 0) {
                    let start = self.block_size.offset(range.lba);
                    let len = self.block_size.len(BlockCount(u64::from(range.blocks))).0;
                    let hull = self.hull(Extent { start, len });
                    blockers += self.ranges.insert(t, Mode::Write, hull.bytes());
                }
                blockers
            }
            BlockOp::Unmap(_) => self.ranges.insert(t, Mode::Write, hull.bytes()),
            BlockOp::Flush { .. } | BlockOp::LbaStatus { .. } => 0,
        }
    }

    /// Takes a task's ranges out, and lets those go on that waited for nothing else.
    fn unlock(&mut self, t: u16) {
        let (tasks, startable) = (&mut self.tasks, &mut self.startable);
        self.ranges.remove(t, |waiting| {
            let task = &mut tasks[usize::from(waiting)];
            task.blockers = task.blockers.saturating_sub(1);
            if task.blockers == 0 && task.step == Step::Blocked {
                startable.push_back(waiting);
            }
        });
    }

    /// The longest READ or WRITE that is one operation of the device's, where no boundary is in the way.
    pub(crate) fn largest_undivided(&self) -> BlockCount {
        self.block_size.blocks_in(ByteLen(self.chunk))
    }

    /// The longest READ or WRITE, of any kind and place, that fits in the quota when nothing else does.
    pub(crate) fn largest_transfer(&self) -> BlockCount {
        let align = u64::from(self.limits.align);
        // Of a WRITE AND VERIFY: what came, a copy of it, both edges, and what is compared at a time.
        let fixed = u64::from(CHECK_WIDTH) * pages(CHECK_CHUNK.min(self.chunk)) + 4 * pages(align) + 8;
        let per_list = self.quota.limit().saturating_sub(fixed) / 2;
        // With transfers smaller than a page, every one takes a whole one.
        self.block_size.blocks_in(ByteLen(per_list * PAGE.min(self.chunk)))
    }

    pub(crate) fn next_deadline(&self) -> Time {
        self.earliest.min(self.retry_at).min(self.device.next_poll())
    }

    pub(crate) fn grow(&mut self, geometry: &Geometry) -> Result<(), PlanError> {
        self.limits.check(geometry)
    }

    /// The device says something else of itself than when it was opened. What is under way goes on.
    pub(crate) fn set_limits(&mut self, limits: DeviceLimits, geometry: &Geometry) -> Result<(), PlanError> {
        let old = &self.limits;
        if limits.align != old.align || limits.memory_align > old.memory_align {
            return Err(PlanError::Replace("it has another alignment"));
        }
        self.chunk = chunk(&limits, geometry, self.quota.limit())?;
        // As many as there are pieces for.
        let depth = old.depth;
        self.limits = DeviceLimits { depth, memory_align: old.memory_align, ..limits };
        Ok(())
    }

    pub(crate) fn set_holes(&mut self, holes: Holes) {
        self.holes = Some(holes);
    }

    pub(crate) fn set_fair_share(&mut self, pages: u64) {
        self.fair = Some(pages);
    }

    /// Whether with so many pages more it would have more than its share, and more than four times what is left.
    #[inline]
    fn takes_too_much(&self, cx: &Context<'_>, more: u64) -> bool {
        let Some(fair) = self.fair else { return false };
        let wanted = self.quota.used() + more;
        if self.quota.used() == 0 || wanted <= fair {
            return false;
        }
        let free = u64::from(cx.pool.arena().free_for_hosts(Class::Page));
        wanted > free.saturating_sub(more).saturating_mul(4)
    }

    /// The device has taken something that it may lose.
    fn has_written(&mut self) {
        (self.unflushed, self.written) = (true, true);
        self.writes += 1;
    }

    /// How often the device took something that it may lose.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// Somebody else's flush of the same device has made stable what it had taken when [`writes`](Self::writes) was that.
    pub(crate) fn made_stable(&mut self, writes: u64) {
        self.written &= self.writes != writes;
    }

    /// Whether the device may have lost something since this was asked for.
    pub(crate) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    pub(crate) fn set_gone(&mut self) {
        self.gone = true;
    }

    /// Gives up the kernel's name of a device that is gone, once nothing is under way there.
    pub(crate) fn release_device(&mut self) -> Option<FileId> {
        match self.device {
            Device::File(file) if self.gone && self.is_idle() => {
                self.device = Device::Released;
                Some(file)
            }
            _ => None,
        }
    }

    pub(crate) fn is_released(&self) -> bool {
        matches!(self.device, Device::Released)
    }

    /// Goes on with the same device under another name of the kernel's.
    pub(crate) fn replace(
        &mut self,
        file: FileId,
        limits: DeviceLimits,
        geometry: &Geometry,
    ) -> Result<(), PlanError> {
        if !self.is_released() {
            return Err(PlanError::Replace("the old one was not given up"));
        }
        self.set_limits(limits, geometry)?;
        // Nobody knows what the device had in its cache when it went.
        (self.device, self.gone, self.unflushed) = (Device::File(file), false, true);
        self.lost |= std::mem::take(&mut self.written) && self.limits.volatile;
        Ok(())
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.unanswered
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.free.len() == self.tasks.len() && !self.flushes.running
    }

    pub(crate) fn set_write_back(&mut self, write_back: bool) {
        self.write_back = write_back;
    }

    pub(crate) fn pages(&self) -> (u64, u64) {
        (self.quota.used(), self.quota.limit())
    }
}

/// Bytes of the largest read or write, where limits, size and quota of pages go together.
fn chunk(limits: &DeviceLimits, geometry: &Geometry, quota: u64) -> Result<u64, PlanError> {
    limits.check(geometry)?;
    let unit = u64::from(limits.align).max(u64::from(geometry.block_size.bytes()));
    let most = u64::from(limits.max_transfer).min(MAX_CHUNK);
    // Whole pages, where that many fit, so that none is left half used.
    let chunk = if most >= PAGE.max(unit) { most - most % PAGE.max(unit) } else { most - most % unit };
    if chunk == 0 {
        return Err(PlanError::Transfer { max_transfer: limits.max_transfer, align: limits.align });
    }
    let needed = u64::from(CHECK_WIDTH) * pages(CHECK_CHUNK.min(chunk)) + pages(SMALL) + 4 * pages(unit) + 4;
    if quota < needed {
        return Err(PlanError::Pages { pages: quota, needed });
    }
    Ok(chunk)
}

/// How many pages a list of that many bytes takes.
fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE)
}

/// A length that is known to be within what one list holds.
fn length(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
