//! A device driven step by step: what was submitted waits until the test lets it happen.
#![allow(dead_code, reason = "not every test uses all of it")]

pub mod steps;

use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut, Slice};
use kagami_reactor::{Completion, Errno, FileId, Op, Submit, Token};
use kagami_types::{BlockCount, BlockOp, BlockSize, Time};
use kagami_volume::{
    Aborted, Context, DeviceLimits, Geometry, Outcome, Storage, Tag, Volume, VolumePlan, zero_page,
};
use std::time::Duration;

thread_local! {
    /// One for all of a test's cases: arenas are never given back.
    static ARENA: Arena = Arena::new(
        ArenaPlan::new(1).with(Class::Page, 4096, 64).with(Class::Large, 2, 0),
        HugePages::Off,
    )
    .unwrap();
}

pub const TOKEN_BASE: u32 = 0x00ab_cd01;
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What the volume submitted, in order, and the medium that it happens on.
pub struct FakeIo {
    pub now: Time,
    pub waiting: Vec<(Token, Op)>,
    pub medium: Vec<u8>,
    pub limits: DeviceLimits,
    /// Which device it is: operations on another one are wrong.
    pub file: FileId,
    /// No more than so many at once: beyond, the operation comes back.
    pub room: usize,
    pub flushes: usize,
    pub discards: bool,
    pub zeroes: bool,
}

impl Submit for FakeIo {
    fn submit(&mut self, token: Token, op: Op) -> Result<(), Op> {
        if self.waiting.len() >= self.room {
            return Err(op);
        }
        assert_eq!(token.0 >> 32, u64::from(TOKEN_BASE), "a token that cannot be routed");
        assert!(self.waiting.iter().all(|(other, _)| *other != token), "a token twice");
        self.check(&op);
        self.waiting.push((token, op));
        assert!(self.waiting.len() <= usize::from(self.limits.depth), "deeper than the device");
        Ok(())
    }

    fn now(&self) -> Time {
        self.now
    }
}

/// The bytes that an operation changes.
pub fn written(op: &Op) -> Option<(u64, u64)> {
    match op {
        Op::Write { offset, data, .. } => Some((*offset, offset + data.len_bytes() as u64)),
        Op::Discard(_, offset, len) | Op::Zero(_, offset, len) => Some((*offset, offset + len)),
        _ => None,
    }
}

impl FakeIo {
    pub fn new(bytes: u64, limits: DeviceLimits) -> Self {
        Self {
            now: Time(1_000),
            waiting: Vec::new(),
            medium: vec![0; usize::try_from(bytes).unwrap()],
            limits,
            file: FileId(3),
            room: usize::MAX,
            flushes: 0,
            discards: true,
            zeroes: true,
        }
    }

    /// The rules that every device operation has to keep.
    fn check(&self, op: &Op) {
        let align = u64::from(self.limits.align);
        let memory = |pointer: *const u8, len: usize| {
            assert!(pointer.addr().is_multiple_of(self.limits.memory_align as usize), "memory misaligned");
            assert!(len.is_multiple_of((align as usize).min(4096)), "a piece of memory of {len} bytes");
        };
        let (file, offset, len) = match op {
            Op::Read(file, offset, list) => {
                list.runs(0, list.len_bytes()).for_each(|run| memory(run.pointer, run.len));
                assert!(list.len_bytes() as u64 <= u64::from(self.limits.max_transfer));
                (file, *offset, list.len_bytes() as u64)
            }
            Op::Write { file, offset, data, .. } => {
                data.runs(0, data.len_bytes()).for_each(|run| memory(run.pointer, run.len));
                assert!(data.len_bytes() as u64 <= u64::from(self.limits.max_transfer));
                assert!(data.runs(0, data.len_bytes()).count() <= 1024);
                (file, *offset, data.len_bytes() as u64)
            }
            Op::Flush(file) => (file, 0, align),
            Op::Discard(file, offset, len) | Op::Zero(file, offset, len) => {
                assert!(*len <= self.limits.max_discard);
                (file, *offset, *len)
            }
            other => panic!("not a device's operation: {other:?}"),
        };
        assert_eq!(*file, self.file);
        if matches!(op, Op::Read(..) | Op::Write { .. }) && self.limits.boundary > 0 {
            let boundary = u64::from(self.limits.boundary);
            assert_eq!(offset / boundary, (offset + len - 1) / boundary, "over a boundary: {op:?}");
        }
        assert!(
            offset.is_multiple_of(align) && len.is_multiple_of(align) && len > 0,
            "{offset}+{len} misaligned"
        );
        assert!(offset + len <= self.medium.len() as u64, "beyond the end");
        if let Some((start, end)) = written(op) {
            for (_, other) in &self.waiting {
                if let Some((other_start, other_end)) = written(other) {
                    assert!(end <= other_start || other_end <= start, "two writes to the same bytes at once");
                }
            }
        }
    }

    /// Lets the operation at that place happen, wholly, and returns its completion.
    pub fn happen(&mut self, at: usize) -> Completion {
        let (token, mut op) = self.waiting.remove(at);
        let result = self.apply(&mut op, usize::MAX);
        Completion { token, result, op }
    }

    /// Lets the first `bytes` bytes of the operation happen.
    pub fn happen_short(&mut self, at: usize, bytes: usize) -> Completion {
        let (token, mut op) = self.waiting.remove(at);
        let result = self.apply(&mut op, bytes);
        Completion { token, result, op }
    }

    /// Lets the operation fail, with nothing happening.
    pub fn fail(&mut self, at: usize, errno: Errno) -> Completion {
        let (token, op) = self.waiting.remove(at);
        Completion { token, result: Err(errno), op }
    }

    fn apply(&mut self, op: &mut Op, most: usize) -> Result<u32, Errno> {
        let count = match op {
            Op::Read(_, offset, list) => {
                let start = usize::try_from(*offset).unwrap();
                let len = list.len_bytes().min(most);
                list.copy_from(0, &self.medium[start..start + len]);
                len
            }
            Op::Write { offset, data, .. } => {
                let start = usize::try_from(*offset).unwrap();
                let len = data.len_bytes().min(most);
                data.copy_into(&mut self.medium[start..start + len], 0);
                len
            }
            Op::Flush(_) => {
                self.flushes += 1;
                0
            }
            Op::Discard(_, offset, len) if self.discards => self.clear(*offset, *len),
            Op::Zero(_, offset, len) if self.zeroes => self.clear(*offset, *len),
            _ => return Err(Errno::NOT_SUPPORTED),
        };
        Ok(u32::try_from(count).unwrap())
    }

    fn clear(&mut self, offset: u64, len: u64) -> usize {
        let start = usize::try_from(offset).unwrap();
        self.medium[start..start + usize::try_from(len).unwrap()].fill(0);
        0
    }
}

/// A volume with all that it needs, and its outcomes.
pub struct Bench {
    pub volume: Volume,
    pub io: FakeIo,
    pub arena: Arena,
    pub pool: Pool,
    pub done: Vec<(Tag, Outcome)>,
    pub block: usize,
    /// Free pages before the volume had any.
    pub free: u32,
}

pub fn limits(align: u32) -> DeviceLimits {
    DeviceLimits {
        align,
        memory_align: 512,
        max_transfer: 64 << 10,
        max_discard: 1 << 20,
        depth: 8,
        ..DeviceLimits::default()
    }
}

impl Bench {
    pub fn disk(
        block_size: BlockSize,
        bytes: u64,
        limits: DeviceLimits,
        change: impl FnOnce(&mut VolumePlan),
    ) -> Self {
        Self::new(block_size, bytes, limits, Storage::Disk { file: FileId(3), limits }, change)
    }

    pub fn new(
        block_size: BlockSize,
        bytes: u64,
        limits: DeviceLimits,
        storage: Storage,
        change: impl FnOnce(&mut VolumePlan),
    ) -> Self {
        let arena = ARENA.with(|arena| *arena);
        let pool = arena.pool(0);
        let free = arena.free(Class::Page);
        let mut plan = VolumePlan {
            geometry: Geometry { block_size, blocks: BlockCount(bytes / u64::from(block_size.bytes())) },
            storage,
            token_base: TOKEN_BASE,
            slots: 32,
            pages: 2048,
            timeout: TIMEOUT,
            write_back: true,
            read_only: false,
            zeroes: zero_page(&pool).unwrap(),
        };
        change(&mut plan);
        let volume = Volume::new(plan).unwrap();
        let io = FakeIo::new(bytes, limits);
        Self { volume, io, arena, pool, done: Vec::new(), block: block_size.bytes() as usize, free }
    }

    pub fn submit(&mut self, tag: u64, op: BlockOp, data: Scatter) -> Option<Outcome> {
        let mut cx = Context { io: &mut self.io, pool: &self.pool, done: &mut self.done };
        self.volume.submit(&mut cx, Tag(tag), op, data)
    }

    pub fn complete(&mut self, completion: Completion) {
        let mut cx = Context { io: &mut self.io, pool: &self.pool, done: &mut self.done };
        self.volume.on_completion(&mut cx, completion);
    }

    pub fn tick(&mut self) {
        let mut cx = Context { io: &mut self.io, pool: &self.pool, done: &mut self.done };
        self.volume.on_tick(&mut cx);
    }

    pub fn abort(&mut self, tag: u64) -> Aborted {
        let mut cx = Context { io: &mut self.io, pool: &self.pool, done: &mut self.done };
        self.volume.abort(&mut cx, Tag(tag))
    }

    pub fn pass(&mut self, time: Duration) {
        self.io.now = self.io.now + time;
        self.tick();
    }

    /// Lets the operation at that place happen, and tells the volume.
    pub fn happen(&mut self, at: usize) {
        let completion = self.io.happen(at);
        self.complete(completion);
    }

    pub fn happen_short(&mut self, at: usize, bytes: usize) {
        let completion = self.io.happen_short(at, bytes);
        self.complete(completion);
    }

    pub fn fail(&mut self, at: usize, errno: Errno) {
        let completion = self.io.fail(at, errno);
        self.complete(completion);
    }

    /// Lets everything happen, in order, until nothing is under way.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.io.waiting.is_empty() {
                if self.volume.is_idle() {
                    return;
                }
                self.pass(Duration::from_millis(1));
                if self.io.waiting.is_empty() && self.volume.is_idle() {
                    return;
                }
                continue;
            }
            self.happen(0);
        }
        panic!("the volume never comes to rest");
    }

    /// The outcome of that task, which must be there.
    pub fn outcome(&mut self, tag: u64) -> Outcome {
        let at = self.done.iter().position(|(done, _)| *done == Tag(tag)).expect("no outcome");
        self.done.remove(at).1
    }

    pub fn outcomes(&self) -> Vec<u64> {
        self.done.iter().map(|(tag, _)| tag.0).collect()
    }

    /// Executes one operation to its end.
    pub fn execute(&mut self, op: BlockOp, data: Scatter) -> Outcome {
        match self.submit(u64::MAX, op, data) {
            Some(outcome) => outcome,
            None => {
                self.settle();
                self.outcome(u64::MAX)
            }
        }
    }

    /// A list of these bytes in whole pages, as a receive in place leaves them.
    pub fn data(&self, bytes: &[u8]) -> Scatter {
        let mut list = ScatterMut::take(&self.pool, Purpose::Host, bytes.len()).expect("no pages");
        list.copy_from(0, bytes);
        list.freeze()
    }

    /// A list of these bytes that begins `shift` bytes into its first page, in parts of odd sizes.
    pub fn shifted(&self, bytes: &[u8], shift: usize) -> Scatter {
        let mut list = Scatter::new();
        let (mut at, mut offset) = (0, shift % 4096);
        while at < bytes.len() {
            let mut page = self.pool.take(Class::Page, Purpose::Host).expect("no pages");
            let len = (4096 - offset).min(bytes.len() - at);
            page[offset..offset + len].copy_from_slice(&bytes[at..at + len]);
            let slice = Slice::new(page.freeze(), offset as u32, len as u32).unwrap();
            list.push(slice);
            (at, offset) = (at + len, 0);
        }
        list
    }

    /// Everything is done and given back but what the volume's blocks are in.
    pub fn assert_clean(&mut self) {
        assert!(self.io.waiting.is_empty() && self.done.is_empty());
        assert!(self.volume.is_idle());
        assert_eq!(self.volume.in_flight(), 0);
        assert_eq!(self.volume.pages().0, 0, "pages are still charged");
        assert_eq!(self.arena.free(Class::Page), self.free, "pages were lost");
    }
}

/// How much a property test does, unless `PROPTEST_CASES` says otherwise.
pub fn cases(default: u32) -> proptest::test_runner::Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}

/// Bytes that are the same for the same seed, and differ between blocks.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}
