//! A volume on a device with faults: what hosts are told, and that the rest goes on.

use kagami_faulty::{Control, Faulty};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_reactor::{Op, Submit, Token};
use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, BlockSize, Compare, Lba, Time};
use kagami_volume::{Aborted, Context, Geometry, Outcome, Storage, Tag, Volume, VolumePlan, zero_page};
use std::time::Duration;

/// A core with nothing but a clock.
struct Clock(Time);

impl Submit for Clock {
    fn submit(&mut self, _: Token, op: Op) -> Result<(), Op> {
        Err(op)
    }

    fn now(&self) -> Time {
        self.0
    }
}

struct Bench {
    volume: Volume,
    clock: Clock,
    arena: Arena,
    pool: Pool,
    free: u32,
    control: Control,
    done: Vec<(Tag, Outcome)>,
}

impl Bench {
    fn new(spec: &str) -> Self {
        let plan = ArenaPlan::new(1).with(Class::Page, 1024, 16).with(Class::Large, 1, 0);
        let arena = Arena::new(plan, HugePages::Off).unwrap();
        let pool = arena.pool(0);
        let device = Faulty::from_spec(spec).unwrap();
        let control = device.control();
        let plan = VolumePlan {
            geometry: Geometry { block_size: BlockSize::B512, blocks: BlockCount(device.bytes() / 512) },
            storage: Storage::Other(Box::new(device)),
            token_base: 1,
            slots: 16,
            pages: 512,
            timeout: Duration::from_secs(10),
            write_back: true,
            read_only: false,
            zeroes: zero_page(&pool).unwrap(),
        };
        let free = arena.free(Class::Page);
        let volume = Volume::new(plan).unwrap();
        Self { volume, clock: Clock(Time(0)), arena, pool, free, control, done: Vec::new() }
    }

    fn submit(&mut self, tag: u64, op: BlockOp, data: Scatter) {
        let mut cx = Context { io: &mut self.clock, pool: &self.pool, done: &mut self.done };
        if let Some(outcome) = self.volume.submit(&mut cx, Tag(tag), op, data) {
            self.done.push((Tag(tag), outcome));
        }
    }

    /// Sleeps as a core does, until then.
    fn sleep_until(&mut self, until: Time) {
        while self.volume.next_deadline() <= until {
            self.clock.0 = self.clock.0.max(self.volume.next_deadline());
            let mut cx = Context { io: &mut self.clock, pool: &self.pool, done: &mut self.done };
            self.volume.on_tick(&mut cx);
        }
        self.clock.0 = until;
    }

    fn data(&self, byte: u8, blocks: usize) -> Scatter {
        let mut list = ScatterMut::take(&self.pool, Purpose::Host, blocks * 512).unwrap();
        list.chunks_mut().for_each(|chunk| chunk.fill(byte));
        list.freeze()
    }

    fn outcome(&mut self, tag: u64) -> Option<Outcome> {
        let at = self.done.iter().position(|(done, _)| *done == Tag(tag))?;
        Some(self.done.remove(at).1)
    }

    /// Does one operation and waits for its end.
    fn execute(&mut self, op: BlockOp, data: Scatter) -> Outcome {
        self.submit(1000, op, data);
        loop {
            if let Some(outcome) = self.outcome(1000) {
                return outcome;
            }
            let next = self.volume.next_deadline();
            assert!(next < Time::NEVER, "nothing will ever come");
            self.sleep_until(next);
        }
    }

    fn write(&mut self, lba: u64, blocks: u32, byte: u8) -> Result<(), BlockError> {
        let data = self.data(byte, blocks as usize);
        self.execute(BlockOp::Write(range(lba, blocks), Access::default()), data).result
    }

    fn read(&mut self, lba: u64, blocks: u32) -> Result<Vec<u8>, BlockError> {
        let outcome = self.execute(BlockOp::Read(range(lba, blocks), Access::default()), Scatter::new());
        outcome.result.map(|()| outcome.data.to_vec())
    }

    fn assert_clean(self) {
        assert!(self.volume.is_idle());
        assert_eq!(self.volume.pages().0, 0);
        let free = self.arena.free(Class::Page);
        drop(self.done);
        assert_eq!(free, self.free);
    }
}

fn range(lba: u64, blocks: u32) -> BlockRange {
    BlockRange { lba: Lba(lba), blocks }
}

fn seconds(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

#[test]
fn without_faults_it_is_a_disk() {
    let mut bench = Bench::new("faulty:size=4MiB,delay=1ms,short_every=2,no_discard,no_zero,align=4096");
    bench.write(3, 100, 7).unwrap();
    bench.execute(BlockOp::Unmap(vec![range(10, 20)]), Scatter::new()).result.unwrap();
    let mut expected = vec![7; 100 * 512];
    expected[7 * 512..27 * 512].fill(0);
    assert_eq!(bench.read(3, 100).unwrap(), expected);
    bench.assert_clean();
}

#[test]
fn bad_blocks_are_named_and_their_neighbours_are_served() {
    let mut bench = Bench::new("faulty:size=4MiB,read_error=777,write_error=5000-5001,nospace_above=8000");
    assert_eq!(bench.read(700, 300), Err(BlockError::ReadMedium(Lba(777))));
    assert!(bench.read(778, 300).is_ok());
    assert_eq!(bench.write(5000, 1, 1), Err(BlockError::WriteMedium(Lba(5000))));
    assert_eq!(bench.write(7999, 2, 1), Err(BlockError::NoSpace));
    assert_eq!(bench.write(7999, 1, 1), Ok(()));
    let verify = BlockOp::Verify { range: range(0, 2000), against: Compare::Nothing };
    assert_eq!(bench.execute(verify, Scatter::new()).result, Err(BlockError::ReadMedium(Lba(777))));
    bench.control.change(|script| script.faults.clear());
    assert!(bench.read(700, 300).is_ok(), "repaired");
    bench.assert_clean();
}

#[test]
fn a_hang_takes_nothing_from_the_rest_and_no_write_passes_it() {
    let mut bench = Bench::new("faulty:size=4MiB,hang_write=5000-5010,hang_for=60s");
    let data = bench.data(1, 8);
    bench.submit(1, BlockOp::Write(range(5000, 8), Access::default()), data);
    bench.sleep_until(seconds(9));
    bench.write(0, 8, 9).unwrap();
    assert!(bench.outcome(1).is_none());
    bench.sleep_until(seconds(10));
    assert_eq!(bench.outcome(1).unwrap().result, Err(BlockError::TimedOut));
    bench.control.change(|script| script.faults.clear());
    // To other blocks at once; to these only when the old write is over.
    bench.write(6000, 8, 3).unwrap();
    bench.sleep_until(seconds(55));
    let data = bench.data(2, 8);
    bench.submit(2, BlockOp::Write(range(5000, 8), Access::default()), data);
    bench.sleep_until(seconds(59));
    assert!(bench.outcome(2).is_none());
    bench.sleep_until(seconds(60));
    assert_eq!(bench.outcome(2).unwrap().result, Ok(()));
    assert_eq!(bench.read(5000, 8).unwrap(), vec![2; 4096]);
    bench.assert_clean();
}

#[test]
fn a_device_that_is_gone_says_so_and_can_be_drained() {
    let mut bench = Bench::new("faulty:size=1MiB,gone_after=2,hang_flush,hang_for=20s");
    bench.write(0, 1, 1).unwrap();
    let flush = || BlockOp::Flush { lba: Lba(0), blocks: BlockCount(0) };
    bench.submit(1, flush(), Scatter::new());
    bench.submit(2, flush(), Scatter::new());
    let mut cx = Context { io: &mut bench.clock, pool: &bench.pool, done: &mut bench.done };
    assert_eq!(bench.volume.abort(&mut cx, Tag(2)), Aborted::Dropped);
    assert_eq!(bench.outcome(2).unwrap().result, Err(BlockError::Aborted));
    assert_eq!(bench.read(0, 1), Err(BlockError::Gone));
    bench.volume.set_quiesced(true);
    assert_eq!(bench.volume.in_flight(), 1);
    bench.sleep_until(seconds(10));
    assert_eq!(bench.outcome(1).unwrap().result, Err(BlockError::TimedOut));
    assert!(!bench.volume.is_idle(), "the device still has it");
    bench.sleep_until(seconds(20));
    bench.assert_clean();
}
