//! A store over a scripted device: what reaches the device waits until the test lets it happen.

use crate::store::{Cache, CachePlan, Store, StoreContext, StorePlan};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut, Slice};
use kagami_reactor::{Completion, Errno, Op, Submit, Token};
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, BlockSize, Lba, Time};
use kagami_volume::{
    Aborted, Backend, DeviceLimits, Geometry, Outcome, Storage, Tag, Volume, VolumePlan, zero_page,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

thread_local! {
    /// One for all of a test's cases: arenas are never given back.
    static ARENA: Arena =
        Arena::new(ArenaPlan::new(1).with(Class::Page, 8192, 64).with(Class::Large, 2, 0), HugePages::Off)
            .unwrap();
}

pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The device: what was submitted, in order, the medium as reads see it, and what would be left after a crash.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) waiting: Vec<(Token, Op)>,
    finished: Vec<Completion>,
    pub(super) medium: Vec<u8>,
    /// Each 512-byte sector's stable bytes are here; of sectors in `volatile`, the medium's may be lost.
    pub(super) stable: Vec<u8>,
    pub(super) flushes: usize,
    limits: DeviceLimits,
}

/// The store's end of the device.
#[derive(Debug)]
struct End(Arc<Mutex<Device>>);

impl Backend for End {
    fn limits(&self) -> DeviceLimits {
        self.0.lock().unwrap().limits
    }

    fn submit(&mut self, _: &mut dyn Submit, token: Token, op: Op) -> Result<(), Op> {
        self.0.lock().unwrap().waiting.push((token, op));
        Ok(())
    }

    fn poll(&mut self, _: &mut dyn Submit, done: &mut Vec<Completion>) {
        done.append(&mut self.0.lock().unwrap().finished);
    }

    fn next_poll(&self) -> Time {
        if self.0.lock().unwrap().finished.is_empty() { Time::NEVER } else { Time(0) }
    }
}

impl Device {
    /// Lets the operation at that place happen.
    pub(super) fn happen(&mut self, at: usize) {
        let (token, mut op) = self.waiting.remove(at);
        let index = |at: u64| usize::try_from(at).unwrap();
        let count = match &mut op {
            Op::Read(_, offset, list) => {
                let start = index(*offset);
                let len = list.len_bytes();
                list.copy_from(0, &self.medium[start..start + len]);
                len
            }
            Op::Write { offset, data, stable, .. } => {
                let start = index(*offset);
                let len = data.len_bytes();
                data.copy_into(&mut self.medium[start..start + len], 0);
                if *stable {
                    self.stable[start..start + len].copy_from_slice(&self.medium[start..start + len]);
                }
                len
            }
            Op::Flush(_) => {
                self.flushes += 1;
                self.stable.copy_from_slice(&self.medium);
                0
            }
            Op::Discard(_, offset, len) | Op::Zero(_, offset, len) => {
                self.medium[index(*offset)..index(*offset + *len)].fill(0);
                0
            }
            _ => 0,
        };
        self.finished.push(Completion { token, result: Ok(u32::try_from(count).unwrap()), op });
    }

    /// Lets it fail, with nothing happening.
    pub(super) fn fail(&mut self, at: usize, errno: Errno) {
        let (token, op) = self.waiting.remove(at);
        self.finished.push(Completion { token, result: Err(errno), op });
    }

    /// The byte offsets and lengths of the writes that wait.
    pub(super) fn writes(&self) -> Vec<(u64, usize)> {
        let writes = self.waiting.iter().filter_map(|(_, op)| match op {
            Op::Write { offset, data, .. } => Some((*offset, data.len_bytes())),
            _ => None,
        });
        writes.collect()
    }

    /// The same of the reads.
    pub(super) fn reads(&self) -> Vec<(u64, usize)> {
        let reads = self.waiting.iter().filter_map(|(_, op)| match op {
            Op::Read(_, offset, list) => Some((*offset, list.len_bytes())),
            _ => None,
        });
        reads.collect()
    }
}

/// A clock; nothing of the kernel's is submitted to.
#[derive(Debug)]
pub(super) struct Clock(pub(super) Time);

impl Submit for Clock {
    fn submit(&mut self, _: Token, op: Op) -> Result<(), Op> {
        Err(op)
    }

    fn now(&self) -> Time {
        self.0
    }
}

/// A store with all that it needs, and its outcomes.
pub(super) struct Bench {
    pub(super) store: Option<Store>,
    pub(super) cache: Cache,
    pub(super) device: Arc<Mutex<Device>>,
    pub(super) clock: Clock,
    pub(super) pool: Pool,
    pub(super) done: Vec<(Tag, Outcome)>,
    pub(super) block: usize,
    free: u32,
}

pub(super) fn limits() -> DeviceLimits {
    DeviceLimits {
        align: 512,
        memory_align: 512,
        max_transfer: 256 << 10,
        max_discard: 1 << 20,
        depth: 32,
        ..DeviceLimits::default()
    }
}

impl Bench {
    pub(super) fn new(bytes: u64, change: impl FnOnce(&mut StorePlan, &mut CachePlan)) -> Self {
        Self::of(BlockSize::B512, bytes, limits(), change)
    }

    pub(super) fn of(
        block_size: BlockSize,
        bytes: u64,
        limits: DeviceLimits,
        change: impl FnOnce(&mut StorePlan, &mut CachePlan),
    ) -> Self {
        Self::over(block_size, bytes, limits, None, change)
    }

    /// Over a volume that has perhaps fewer slots than it should.
    pub(super) fn over(
        block_size: BlockSize,
        bytes: u64,
        limits: DeviceLimits,
        slots: Option<u16>,
        change: impl FnOnce(&mut StorePlan, &mut CachePlan),
    ) -> Self {
        let pool = ARENA.with(|arena| *arena).pool(0);
        let free = pool.arena().free(Class::Page);
        let len = usize::try_from(bytes).unwrap();
        let device = Arc::new(Mutex::new(Device {
            waiting: Vec::new(),
            finished: Vec::new(),
            medium: vec![0; len],
            stable: vec![0; len],
            flushes: 0,
            limits,
        }));
        let mut plan = StorePlan { timeout: TIMEOUT, slots: 32, ..StorePlan::new(0, 512) };
        let mut core = CachePlan { pages: 512, volumes: 2, margin: 0, seed: 7 };
        change(&mut plan, &mut core);
        let volume = Volume::new(VolumePlan {
            geometry: Geometry { block_size, blocks: BlockCount(bytes / u64::from(block_size.bytes())) },
            storage: Storage::Other(Box::new(End(Arc::clone(&device)))),
            token_base: 1,
            slots: slots.unwrap_or(plan.slots + plan.flights + plan.fills),
            pages: 4096,
            timeout: TIMEOUT,
            write_back: true,
            read_only: false,
            zeroes: zero_page(&pool).unwrap(),
        })
        .unwrap();
        let mut cache = Cache::new(&core).unwrap();
        let store = Some(Store::cached(volume, plan, &mut cache).unwrap());
        let block = block_size.bytes() as usize;
        Self { store, cache, device, clock: Clock(Time(1_000)), pool, done: Vec::new(), block, free }
    }

    pub(super) fn with<R>(&mut self, call: impl FnOnce(&mut Store, &mut StoreContext<'_>) -> R) -> R {
        let mut cx = StoreContext {
            io: &mut self.clock,
            pool: &self.pool,
            done: &mut self.done,
            cache: &mut self.cache,
        };
        call(self.store.as_mut().unwrap(), &mut cx)
    }

    pub(super) fn submit(&mut self, tag: u64, op: BlockOp, data: Scatter) -> Option<Outcome> {
        self.with(|store, cx| store.submit(cx, Tag(tag), op, data))
    }

    pub(super) fn tick(&mut self) {
        self.with(Store::on_tick);
    }

    pub(super) fn abort(&mut self, tag: u64) -> Aborted {
        self.with(|store, cx| store.abort(cx, Tag(tag)))
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.clock.0 = self.clock.0 + time;
        self.tick();
    }

    /// Time passes until the store wants a tick, at most that long.
    pub(super) fn pass_to_alarm(&mut self, most: Duration) {
        let alarm = self.with(|store, _| store.next_deadline());
        self.clock.0 = alarm.max(self.clock.0).min(self.clock.0 + most);
        self.tick();
    }

    pub(super) fn waiting(&self) -> usize {
        self.device.lock().unwrap().waiting.len()
    }

    pub(super) fn happen(&mut self, at: usize) {
        self.device.lock().unwrap().happen(at);
        self.tick();
    }

    pub(super) fn fail(&mut self, at: usize, errno: Errno) {
        self.device.lock().unwrap().fail(at, errno);
        self.tick();
    }

    /// Lets everything happen until nothing is under way.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.waiting() > 0 {
                self.happen(0);
            } else if self.with(|store, _| store.is_idle()) {
                return;
            } else {
                self.pass_to_alarm(Duration::from_millis(50));
            }
        }
        panic!("the store never comes to rest: {:?}", self.store);
    }

    /// Destages all, and waits for it.
    pub(super) fn drain(&mut self) {
        let now = self.clock.0;
        self.with(|store, _| store.set_draining(true, now));
        self.settle();
        self.with(|store, _| store.set_draining(false, now));
        assert_eq!(self.counters().dirty, 0);
    }

    pub(super) fn counters(&mut self) -> crate::store::StoreCounters {
        self.store.as_ref().unwrap().cache_counters(&self.cache).unwrap()
    }

    /// The outcome of that task, which must be there.
    pub(super) fn outcome(&mut self, tag: u64) -> Outcome {
        let at = self.done.iter().position(|(done, _)| *done == Tag(tag)).expect("no outcome");
        self.done.remove(at).1
    }

    pub(super) fn result(&mut self, tag: u64) -> Result<(), BlockError> {
        self.outcome(tag).result
    }

    pub(super) fn outcomes(&self) -> Vec<u64> {
        self.done.iter().map(|(tag, _)| tag.0).collect()
    }

    /// A list of these bytes in whole pages, as a receive in place leaves them.
    pub(super) fn data(&self, bytes: &[u8]) -> Scatter {
        let mut list = ScatterMut::take(&self.pool, Purpose::Host, bytes.len()).expect("no pages");
        list.copy_from(0, bytes);
        list.freeze()
    }

    /// A list of these bytes that begins `shift` bytes into its first page.
    pub(super) fn shifted(&self, bytes: &[u8], shift: usize) -> Scatter {
        let mut list = Scatter::new();
        let (mut at, mut offset) = (0, shift % 4096);
        while at < bytes.len() {
            let mut page = self.pool.take(Class::Page, Purpose::Host).expect("no pages");
            let len = (4096 - offset).min(bytes.len() - at);
            page[offset..offset + len].copy_from_slice(&bytes[at..at + len]);
            let [from, len_] = [offset, len].map(|number| u32::try_from(number).unwrap());
            list.push(Slice::new(page.freeze(), from, len_).unwrap());
            (at, offset) = (at + len, 0);
        }
        list
    }

    pub(super) fn write(&mut self, tag: u64, lba: u64, bytes: &[u8]) -> Option<Outcome> {
        let blocks = u32::try_from(bytes.len() / self.block).unwrap();
        let data = self.data(bytes);
        self.submit(tag, write(lba, blocks), data)
    }

    /// Writes, which must be done at once.
    pub(super) fn put(&mut self, lba: u64, bytes: &[u8]) {
        let outcome = self.write(u64::MAX, lba, bytes);
        assert_eq!(outcome.expect("a write that waits").result, Ok(()));
    }

    /// Reads, which must be a hit.
    pub(super) fn get(&mut self, lba: u64, blocks: u32) -> Vec<u8> {
        let outcome = self.submit(u64::MAX, read(lba, blocks), Scatter::new()).expect("a miss");
        outcome.result.unwrap();
        outcome.data.to_vec()
    }

    /// Reads to the end.
    pub(super) fn fetch(&mut self, lba: u64, blocks: u32) -> Vec<u8> {
        let outcome = match self.submit(u64::MAX, read(lba, blocks), Scatter::new()) {
            Some(outcome) => outcome,
            None => {
                self.settle();
                self.outcome(u64::MAX)
            }
        };
        outcome.result.unwrap();
        outcome.data.to_vec()
    }

    /// Everything is done, and everything given back when the volume leaves.
    pub(super) fn assert_clean(mut self) {
        self.settle();
        assert!(self.done.is_empty(), "outcomes that nobody looked at: {:?}", self.outcomes());
        self.drain();
        assert_eq!(self.counters().pinned, 0);
        let store = self.store.take().unwrap();
        assert_eq!(store.in_flight(), 0);
        assert_eq!(store.leave(&mut self.cache), 0);
        assert_eq!(self.cache.pages().0, 0);
        assert_eq!(self.cache.held(), 0, "pages are still held");
        drop(self.cache);
        assert_eq!(self.pool.arena().free(Class::Page), self.free, "pages were lost");
    }
}

pub(super) fn range(lba: u64, blocks: u32) -> BlockRange {
    BlockRange { lba: Lba(lba), blocks }
}

pub(super) fn read(lba: u64, blocks: u32) -> BlockOp {
    BlockOp::Read(range(lba, blocks), Access::default())
}

pub(super) fn write(lba: u64, blocks: u32) -> BlockOp {
    BlockOp::Write(range(lba, blocks), Access::default())
}

pub(super) fn write_fua(lba: u64, blocks: u32) -> BlockOp {
    BlockOp::Write(range(lba, blocks), Access { fua: true, dpo: false })
}

pub(super) fn flush(lba: u64, blocks: u64) -> BlockOp {
    BlockOp::Flush { lba: Lba(lba), blocks: BlockCount(blocks) }
}

/// Bytes that are the same for the same seed, and differ between blocks.
pub(super) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}
