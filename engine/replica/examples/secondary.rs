//! What a secondary costs: a sink between a primary's journal in memory and devices that answer at once. Prints nanoseconds of
//! processor time for each entry and each MiB, all in (checksums too; neither link nor devices).
//!
//! `cargo run --release -p kagami-replica --example secondary`

use kagami_journal::{EntryHead, EntryKind, Layout, Writer};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_replica::action::{Action, DeviceOp, FarEnd, FarOp, FarUnit};
use kagami_replica::mail::{ToFront, VolumeIndex};
use kagami_replica::{
    Actions, Context, Drive, FarView, Places, Sink, SinkEvent, SinkOptions, SinkPlan, SinkVolume,
};
use kagami_types::{BlockSize, Epoch, Sequence, Time, Uuid};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const GROUP: Uuid = Uuid::from_u128(1);
const BLOCKS: u64 = 1 << 20;

/// A journal of that many writes of that many bytes, and its frames in memory.
fn journal(pool: &Pool, layout: Layout, writes: u64, bytes: u32) -> (Vec<u8>, FarView) {
    let mut writer = Writer::new(GROUP, layout, (Epoch(1), Epoch(0)), (0, 0), Sequence(1), 0);
    let len = usize::try_from(layout.bytes).unwrap_or(0);
    let mut device = vec![0; len];
    let mut commit = |writer: &mut Writer| {
        while let Some(frame) = writer.next_write(pool, Time(u64::MAX), 1) {
            let at = usize::try_from(frame.at).unwrap_or(0);
            frame.data.copy_into(&mut device[at..at + frame.data.len_bytes()], 0);
            writer.written(frame.id, Time(0));
        }
    };
    for number in 1..=writes {
        let data = page(pool, bytes as usize);
        let mut head = EntryHead::plain(Sequence(number), number, EntryKind::Write, bytes);
        let blocks = u64::from(bytes / 512);
        (head.shift, head.lba, head.blocks) = (9, number * 7919 * blocks % (BLOCKS - blocks), blocks);
        writer.push(head, data, Time(0));
        if number % 64 == 0 {
            commit(&mut writer);
        }
    }
    commit(&mut writer);
    let (stable, stable_sequence) = writer.stable();
    (
        device,
        FarView { epoch: Epoch(1), stable, stable_sequence, out: 0, clock: 0, newest: 0, journals: true },
    )
}

fn page(pool: &Pool, bytes: usize) -> Scatter {
    ScatterMut::take(pool, Purpose::Internal, bytes).map(ScatterMut::freeze).unwrap_or_default()
}

/// What lies there: both journals have the same at the same place.
fn read(pool: &Pool, device: &[u8], at: u64, len: u32) -> Scatter {
    let mut list = ScatterMut::take(pool, Purpose::Internal, len as usize).unwrap_or_default();
    let at = usize::try_from(at).unwrap_or(0);
    list.copy_from(0, &device[at..at + len as usize]);
    list.freeze()
}

struct Answers {
    far: VecDeque<(u64, Scatter)>,
    device: VecDeque<(u64, Scatter)>,
    volume: VecDeque<u64>,
    page: bool,
    confirm: bool,
    save: bool,
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn run(pool: &Pool, writes: u64, bytes: u32) {
    let Ok(layout) = Layout::new(512 << 20, BLOCKS * 512) else { return };
    let (device, view) = journal(pool, layout, writes, bytes);
    let plan = SinkPlan {
        group: GROUP,
        layout,
        volumes: vec![SinkVolume { index: VolumeIndex(0), blocks: BLOCKS, block_size: BlockSize::B512 }],
        places: Places::starting(Epoch(0), 0, Sequence::ZERO),
        to_copy: Vec::new(),
        forming: false,
        drive: Drive::Poller,
        options: SinkOptions::default(),
    };
    let began = Instant::now();
    let mut spent = Duration::ZERO;
    let mut actions = Actions::default();
    let mut answers = Answers {
        far: VecDeque::new(),
        device: VecDeque::new(),
        volume: VecDeque::new(),
        page: false,
        confirm: false,
        save: false,
    };
    let mut random = || 1;
    let time = || Time(1 + u64::try_from(began.elapsed().as_nanos()).unwrap_or(0));
    let mut cx = Context { now: time(), wall: 0, pool, actions: &mut actions, random: &mut random };
    let mut sink = Sink::begin(&mut cx, plan);
    while sink.applied().0 < view.stable_sequence {
        while let Some(event) = sink.next_event() {
            match event {
                SinkEvent::Poll => answers.page = true,
                SinkEvent::Confirm => answers.confirm = true,
                SinkEvent::Save(_) => answers.save = true,
                other => return println!("{other:?}"),
            }
        }
        while let Some(action) = actions.pop() {
            match action {
                Action::Far { tag, unit: FarUnit::Journal, op: FarOp::Read { at, len } } => {
                    answers.far.push_back((tag, read(pool, &device, at, len)));
                }
                Action::Journal { tag, op: DeviceOp::Read { at, len } } => {
                    answers.device.push_back((tag, read(pool, &device, at, len)));
                }
                Action::Journal { tag, op: DeviceOp::Write { .. } } => {
                    answers.device.push_back((tag, Scatter::new()));
                }
                Action::Front(_, ToFront::Apply { tag, .. }) => answers.volume.push_back(tag),
                other => return println!("{other:?}"),
            }
        }
        let mut cx = Context { now: time(), wall: 0, pool, actions: &mut actions, random: &mut random };
        let start = Instant::now();
        if std::mem::take(&mut answers.page) {
            sink.on_page(&mut cx, &view);
        }
        if std::mem::take(&mut answers.confirm) {
            sink.on_confirmed(&mut cx, true);
        }
        if std::mem::take(&mut answers.save) {
            sink.on_saved(&mut cx);
        }
        if let Some((tag, data)) = answers.far.pop_front() {
            sink.on_far(&mut cx, tag, FarEnd::Good(data));
        }
        while let Some((tag, data)) = answers.device.pop_front() {
            sink.on_device(&mut cx, tag, Ok(data));
        }
        for tag in answers.volume.drain(..) {
            sink.on_applied(&mut cx, tag, Ok(()));
        }
        if sink.next_deadline() <= cx.now {
            sink.on_tick(&mut cx);
        }
        spent += start.elapsed();
    }
    let mib = view.stable as f64 / f64::from(1 << 20);
    let nanos = spent.as_secs_f64() * 1e9;
    println!(
        "{bytes:>7} bytes an entry: {:>6.0} ns an entry, {:>6.1} us a MiB, {:.2} GiB/s",
        nanos / writes as f64,
        nanos / mib / 1000.0,
        mib / 1024.0 / spent.as_secs_f64()
    );
}

fn main() {
    let plan = ArenaPlan::new(1).with(Class::Page, 60_000, 0);
    let Ok(arena) = Arena::new(plan, HugePages::Try) else { return };
    let pool = arena.pool(0);
    for _ in 0..2 {
        run(&pool, 64_000, 4096);
        run(&pool, 4_000, 65536);
        run(&pool, 64_000, 512);
    }
}
