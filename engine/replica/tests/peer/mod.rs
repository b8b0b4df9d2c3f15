//! One side of a group against a peer that may say anything: pages with right checksums and absurd numbers, frames with
//! right checksums and absurd contents, states in any order, times that go back.
//!
//! The group is the product's own. Whatever it hears, it must not panic, ask for a place that is none, go on without end
//! within one call, or write a superblock that it cannot read again. Used by a test of this crate and by a fuzz target.

#![allow(dead_code, missing_docs, reason = "shared by tests and a fuzz target")]
#![allow(clippy::cast_possible_truncation, reason = "everything here is small")]

use kagami_journal::{EntryHead, EntryKind, Layout, Writer, crc32c};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_replica::action::{Action, DeviceOp, FarEnd, FarOp, FarUnit, OrderResult};
use kagami_replica::mail::{Mode, ToFront, ToGroup, VolumeIndex};
use kagami_replica::{
    Actions, Context, Fence, Formation, Generation, Group, GroupPlan, Loser, Options, Order, PAGE, PeerRead,
    PlannedVolume, READER_PAGE_AT, Reading, Record, RestoreTo, Serial, Side, State, StatusPage, Takeover,
};
use kagami_types::{BlockError, BlockOp, Epoch, JournalPos, Lun, Sequence, Time, Uuid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

const GROUP: Uuid = Uuid::from_u128(7);
const OWN: Uuid = Uuid::from_u128(1);
const PEER: Uuid = Uuid::from_u128(2);
const JOURNAL: u64 = 3 << 20;
/// Blocks of 512 bytes: four granules.
const BLOCKS: u64 = 512;
/// Where a page has its checksum, and its serial.
const CRC_AT: usize = 16;
const SERIAL_AT: usize = 24;

fn pool() -> Pool {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    let plan = ArenaPlan::new(1).with(Class::Page, 8192, 0);
    ARENA.get_or_init(|| Arena::new(plan, HugePages::Off).expect("an arena")).pool(0)
}

fn pages(bytes: &[u8]) -> Scatter {
    let mut list = ScatterMut::take(&pool(), Purpose::Internal, bytes.len()).expect("pages");
    list.copy_from(0, bytes);
    list.freeze()
}

/// Blocks of 4 KiB that are not zero.
#[derive(Default)]
pub struct Blocks(BTreeMap<u64, Vec<u8>>);

impl Blocks {
    pub fn read(&self, at: u64, len: u64) -> Vec<u8> {
        let block = |at: u64| self.0.get(&at).cloned().unwrap_or_else(|| vec![0; 4096]);
        (at / 4096..(at + len).div_ceil(4096)).flat_map(block).collect()
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        for (at, block) in (at / 4096..).zip(bytes.chunks(4096)) {
            self.0.insert(at, block.to_vec());
        }
    }
}

/// Takes numbers from the input; zeroes behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Small ones, large ones, and those at the edges of what can be computed with.
    fn any(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => u64::from(self.byte()),
            1 => u64::from(self.byte()) * 4096,
            2 => u64::MAX - u64::from(self.byte()),
            3 => (1 << 62) - u64::from(self.byte()),
            4 => (1 << 61) - u64::from(self.byte()) * 4096,
            5 => 1 << (self.byte() % 64),
            _ => self.number(),
        }
    }
}

/// One array, and a peer that is played by whoever holds this.
pub struct Desk {
    pub plan: GroupPlan,
    pub group: Group,
    layout: Layout,
    actions: Actions,
    pub now: Time,
    pub wall: u64,
    random: u128,
    pub device: Blocks,
    /// What the front was told, the last at the end.
    pub modes: Vec<Mode>,
    /// What the group has asked of the peer.
    asked: VecDeque<(u64, FarUnit, FarOp)>,
    /// The peer's journal.
    far: Blocks,
    writer: Writer,
    /// What the peer says of itself.
    pub page: StatusPage,
    /// What the peer's pages say instead.
    edits: Vec<(usize, Vec<u8>)>,
    counter: u64,
    /// What became of orders, by their numbers.
    pub answers: BTreeMap<u64, OrderResult>,
    orders: u64,
}

impl Desk {
    /// A group that has just begun.
    pub fn new(side: Side, options: Options) -> Self {
        let volume = PlannedVolume {
            index: VolumeIndex(0),
            uuid: Uuid::from_u128(9),
            lun: Lun::new(0).expect("a LUN"),
            far_lun: Lun::new(0).expect("a LUN"),
            blocks: BLOCKS,
            block_size: 512,
        };
        let plan = GroupPlan {
            group: GROUP,
            name: "g".to_owned(),
            own_array: OWN,
            peer_array: PEER,
            journal: Uuid::from_u128(8),
            journal_bytes: JOURNAL,
            volumes: vec![volume],
            options,
            create: Some(side),
        };
        let layout = Layout::new(JOURNAL, BLOCKS * 512).expect("room");
        let mut desk = Self {
            group: Group::new(plan.clone()),
            plan,
            layout,
            actions: Actions::default(),
            now: Time(1_000_000_000),
            wall: 1_700_000_000_000_000_000,
            random: 100,
            device: Blocks::default(),
            modes: Vec::new(),
            asked: VecDeque::new(),
            far: Blocks::default(),
            writer: Writer::new(GROUP, layout, (Epoch(1), Epoch(1)), (0, 0), Sequence(1), 0),
            page: page(side, &layout),
            edits: Vec::new(),
            counter: 0,
            answers: BTreeMap::new(),
            orders: 0,
        };
        desk.call(Group::start);
        desk.frames();
        desk.page.shape = desk.seen().shape;
        desk
    }

    /// Calls the group, and does what it wants of its own array.
    pub fn call<R>(&mut self, with: impl FnOnce(&mut Group, &mut Context<'_>) -> R) -> R {
        let pool = pool();
        let random = &mut self.random;
        let mut random = || {
            *random += 1;
            *random | *random << 64
        };
        let mut cx = Context {
            now: self.now,
            wall: self.wall,
            pool: &pool,
            actions: &mut self.actions,
            random: &mut random,
        };
        let result = with(&mut self.group, &mut cx);
        self.act();
        result
    }

    /// Does what the group wants of its own array.
    fn act(&mut self) {
        for _ in 0..10_000 {
            let Some(action) = self.actions.pop() else { return };
            match action {
                Action::Journal { tag, op } => {
                    let end = self.journal(op);
                    self.call(|group, cx| group.on_device(cx, tag, Ok(end)));
                }
                Action::Front(volume, ToFront::Mode { ticket, mode }) => {
                    self.modes.push(mode);
                    self.call(|group, cx| group.on_mail(cx, volume, ToGroup::ModeHolds { ticket }));
                }
                Action::Front(volume, ToFront::Apply { tag, op, .. }) => {
                    let end = match op {
                        BlockOp::Write(range, _) => range.lba.0.saturating_add(u64::from(range.blocks)),
                        BlockOp::WriteSame { lba, blocks, .. } => lba.0.saturating_add(blocks.0),
                        _ => 0,
                    };
                    let result = if end <= BLOCKS { Ok(()) } else { Err(BlockError::OutOfRange) };
                    let mail = ToGroup::Applied { tag, result, data: Scatter::new(), status: Vec::new() };
                    self.call(|group, cx| group.on_mail(cx, volume, mail));
                }
                Action::Far { tag, unit, op } => self.asked.push_back((tag, unit, op)),
                Action::Answer { order, result } => drop(self.answers.insert(order, result)),
                Action::Front(..) | Action::Event(_) => {}
            }
        }
        panic!("the group never ends");
    }

    fn journal(&mut self, op: DeviceOp) -> Scatter {
        let whole = |at: u64, len: u64| {
            let sound = at.is_multiple_of(4096) && len.is_multiple_of(4096) && len > 0;
            assert!(sound && at < JOURNAL && len <= JOURNAL - at, "{len} bytes of the journal at {at}");
        };
        match op {
            DeviceOp::Read { at, len } => {
                whole(at, u64::from(len));
                return pages(&self.device.read(at, u64::from(len)));
            }
            DeviceOp::Write { at, data, .. } => {
                whole(at, data.len_bytes() as u64);
                self.device.write(at, &data.to_vec());
            }
            DeviceOp::Flush => {}
        }
        Scatter::new()
    }

    /// The peer's page as it is, with what it says instead, and a right checksum.
    fn said(&mut self) -> [u8; PAGE] {
        self.counter += 1;
        let (stable, sequence) = self.writer.stable();
        self.page.serial = Serial { version: 1 + self.counter / 8, counter: self.counter };
        self.page.stable = JournalPos { epoch: self.writer.epoch(), offset: stable };
        self.page.stable_sequence = sequence;
        self.page.wall = self.wall;
        let mut bytes = self.page.encode();
        let serial: [u8; 16] = bytes[SERIAL_AT..SERIAL_AT + 16].try_into().expect("16 bytes");
        let mut told = serial;
        for (at, edit) in &self.edits {
            let end = (at + edit.len()).min(PAGE);
            bytes[*at..end].copy_from_slice(&edit[..end - at]);
            told.copy_from_slice(&bytes[SERIAL_AT..SERIAL_AT + 16]);
        }
        // Mostly, so that it counts at all.
        if !self.counter.is_multiple_of(16) {
            bytes[SERIAL_AT..SERIAL_AT + 16].copy_from_slice(&serial);
        }
        bytes[CRC_AT..CRC_AT + 4].fill(0);
        let crc = crc32c(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The peer answers the oldest thing that it was asked.
    fn answer(&mut self, how: u8, input: &mut Input<'_>) {
        let Some((tag, unit, op)) = self.asked.pop_front() else { return };
        let good = match (unit, op) {
            (FarUnit::Journal, FarOp::Read { at, len }) => {
                let len = u64::from(len);
                let sound = at.is_multiple_of(4096) && len.is_multiple_of(4096) && len > 0;
                assert!(sound && len <= 8 << 20 && at < 1 << 57, "a read of {len} bytes at {at}");
                let bytes = if at == 0 { self.said().to_vec() } else { self.far.read(at, len) };
                FarEnd::Good(pages(&bytes[..(len as usize).min(bytes.len())]))
            }
            (FarUnit::Volume(_), FarOp::Read { at, len }) => {
                assert!(len > 0 && len.is_multiple_of(512) && at + u64::from(len) <= BLOCKS * 512);
                FarEnd::Good(pages(&vec![3; len as usize]))
            }
            (_, FarOp::Write { at, data }) => {
                assert!(at == READER_PAGE_AT && data.len_bytes() == PAGE);
                FarEnd::Good(Scatter::new())
            }
            (_, FarOp::Status { .. }) => {
                let run = |input: &mut Input<'_>| (input.any(), input.any(), input.byte() & 1 == 1);
                FarEnd::Status((0..input.byte() % 4).map(|_| run(input)).collect())
            }
        };
        let end = match how % 8 {
            0 => FarEnd::Refused("no".to_owned()),
            1 => FarEnd::Unreachable,
            2 => FarEnd::Good(pages(&vec![input.byte(); usize::from(input.byte())])),
            3 => FarEnd::Status(vec![(input.any(), input.any(), true)]),
            _ => good,
        };
        self.call(|group, cx| group.on_far(cx, tag, end));
    }

    /// The peer journals something, if it may be any entry at all.
    fn entry(&mut self, input: &mut Input<'_>) {
        if self.writer.free() < 64 << 10 {
            return;
        }
        let kind = match input.byte() % 8 {
            0 => EntryKind::Same,
            1 => EntryKind::Zero { unmap: true },
            2 => EntryKind::Marker,
            3 => EntryKind::Swap,
            4 => EntryKind::Resize,
            5 => EntryKind::Nothing,
            _ => EntryKind::Write,
        };
        let data = vec![input.byte(); usize::from(input.byte() % 5) * 512];
        let mut head = EntryHead::plain(self.writer.end().1.next(), input.any(), kind, data.len() as u32);
        head.volume = input.byte() % 3;
        head.shift = if input.byte() < 240 { 9 } else { 12 };
        head.lba = if input.byte() < 128 { u64::from(input.byte()) } else { input.any() };
        head.blocks = if input.byte() < 200 { data.len() as u64 / 512 } else { input.any() };
        self.writer.push(head, pages(&data), self.now);
        self.frames();
    }

    /// Changes a block of the peer's journal, and seals it again where it is a frame's head.
    fn spoil(&mut self, input: &mut Input<'_>) {
        let at = self.layout.data_at + u64::from(input.byte() % 16) * 4096;
        let mut block = self.far.read(at, 4096);
        let place = usize::from(input.byte()) * 16;
        let value = input.any().to_le_bytes();
        block[place..place + 8].copy_from_slice(&value);
        if block.starts_with(b"KAGF") {
            let entries = crc32c(&block[128..]);
            block[76..80].copy_from_slice(&entries.to_le_bytes());
            let head = crc32c(&block[..124]);
            block[124..128].copy_from_slice(&head.to_le_bytes());
        }
        self.far.write(at, &block);
    }

    /// The peer becomes something else.
    pub fn turn(&mut self, what: u8) {
        let stable = self.page.stable;
        let own = self.group.record().cloned();
        let theirs = own.as_ref().map(|own| own.generation.clone()).unwrap_or_default();
        let record = &mut self.page.record;
        let formation = |discard| Formation {
            request: 6,
            place: JournalPos { epoch: Epoch(1), offset: 0 },
            sequence: Sequence::ZERO,
            discard,
        };
        (record.side, record.fence, self.page.cancel) = (Side::Primary, None, false);
        match what % 12 {
            0 => (record.state, record.formation) = (State::Copy, Some(formation(false))),
            1 => (record.state, record.formation) = (State::Pair, Some(formation(false))),
            2 | 3 => {
                record.state = State::Pair;
                record.fence = Some(Fence { request: 5, place: stable, sequence: self.writer.stable().1 });
                self.page.cancel = what % 12 == 3;
            }
            4 => record.state = State::Psus { writable: what >= 128 },
            5 => record.state = State::Psue,
            6 => {
                record.generation = theirs.child(50 + u128::from(what));
                (record.state, record.formation) = (State::Copy, Some(formation(true)));
            }
            7 => *record = Record::new(Side::Secondary, Generation::default()),
            8 | 9 => {
                record.side = Side::Secondary;
                record.state = if what % 12 == 8 { State::Copy } else { State::Pair };
                record.generation = theirs;
                record.formation = own.as_ref().and_then(|own| own.formation);
                let read = self.group.source().map_or(stable, |source| source.stable().0);
                self.page.reading.request = record.formation.map_or(0, |formation| formation.request);
                self.page.reading.read = read;
            }
            10 => {
                record.side = Side::Secondary;
                record.state = State::Ssws;
                record.generation = theirs.child(70);
                record.takeover = Some(Takeover { sequence: Sequence(1), time: 1, at: 1 });
            }
            _ => {
                record.side = Side::Secondary;
                record.refused = own.and_then(|own| own.fence).map(|fence| fence.request);
            }
        }
    }

    fn order(&mut self, input: &mut Input<'_>) {
        let flag = input.byte() & 1 == 1;
        let what = match input.byte() % 12 {
            0 => Order::Split { writable: flag },
            1 => Order::Resync { discard: None },
            2 => Order::Resync { discard: Some(if flag { Loser::Here } else { Loser::There }) },
            3 => Order::Swap { dry_run: flag },
            4 => Order::CancelSwap,
            5 => Order::Takeover { dry_run: false, force: flag },
            6 => Order::Marker { name: "m".to_owned(), wait: flag },
            7 => Order::Acquire { to: input.any() },
            8 => Order::Restore(RestoreTo::Place(input.any())),
            9 => Order::Restore(RestoreTo::Time(input.any())),
            10 => Order::Purge { to: input.any() },
            _ => Order::Restore(RestoreTo::Marker("m".to_owned())),
        };
        self.ordered(what);
    }

    /// Gives an order; its number.
    pub fn ordered(&mut self, what: Order) -> u64 {
        self.orders += 1;
        let number = self.orders;
        self.call(|group, cx| group.on_order(cx, number, what));
        number
    }

    /// So much time passes, in steps of 20 ms, and the peer answers everything at once.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            while !self.asked.is_empty() {
                self.answer(4, &mut Input(&[]));
            }
            self.now = self.now + Duration::from_millis(20);
            self.wall += 20_000_000;
            self.call(Group::on_tick);
        }
    }

    /// The same, with a peer that answers nothing.
    pub fn silent(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = self.now + Duration::from_millis(20);
            self.wall += 20_000_000;
            self.call(Group::on_tick);
        }
    }

    /// The peer writes its page.
    pub fn say(&mut self) {
        let bytes = self.said();
        self.call(|group, cx| group.on_peer_write(cx, READER_PAGE_AT, &bytes));
    }

    /// What the peer sees of this side.
    pub fn seen(&mut self) -> StatusPage {
        match self.call(|group, cx| group.on_peer_read(cx, 0, PAGE as u32)) {
            PeerRead::Bytes(bytes) => StatusPage::decode(&bytes.to_vec()).expect("a page"),
            other => panic!("{other:?}"),
        }
    }

    /// The peer journals an entry of that kind and time.
    pub fn journals(&mut self, kind: EntryKind, time: u64) {
        let head = EntryHead::plain(self.writer.end().1.next(), time, kind, 0);
        self.writer.push(head, Scatter::new(), self.now);
        self.frames();
    }

    fn frames(&mut self) {
        while let Some(frame) = self.writer.next_write(&pool(), Time(u64::MAX), 0) {
            self.far.write(frame.at, &frame.data.to_vec());
            self.writer.written(frame.id, self.now);
        }
    }

    /// The array dies, and starts again from what its journal has.
    pub fn restart(&mut self) {
        let plan = GroupPlan { create: None, ..self.plan.clone() };
        let claimed = self.group.record().is_some() && !self.device.0.is_empty();
        self.group = Group::new(plan);
        self.asked.clear();
        self.modes.clear();
        self.actions = Actions::default();
        self.call(Group::start);
        let report = self.group.report(self.now, self.wall).expect("its journal was read");
        let unreadable = ["superblocks", "blank", "something else", "later release"];
        let lost = claimed && unreadable.iter().any(|word| report.last_error.contains(word));
        assert!(!lost, "no peer makes a journal unreadable: {}", report.last_error);
    }
}

fn page(side: Side, layout: &Layout) -> StatusPage {
    let nowhere = JournalPos { epoch: Epoch(1), offset: 0 };
    let generation = if side == Side::Secondary { Generation::first(1) } else { Generation::default() };
    StatusPage {
        serial: Serial::default(),
        array: PEER,
        group: GROUP,
        record: Record::new(side.other(), generation),
        recovering: false,
        cancel: false,
        stable: nowhere,
        stable_sequence: Sequence::ZERO,
        epochs: Vec::new(),
        out: 0,
        newest_time: 0,
        wall: 0,
        data_len: layout.data_len,
        bitmap_at: layout.bitmap_at[0],
        bitmap_len: layout.bitmap_len,
        volumes: 1,
        shape: 0,
        difference: 0,
        reading: Reading {
            request: 0,
            read: nowhere,
            restored: 0,
            restored_sequence: Sequence::ZERO,
            restored_time: 0,
            read_sequence: Sequence::ZERO,
        },
        orders: Vec::new(),
        answers: Vec::new(),
    }
}

/// Does what the input says.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    let side = if how & 1 == 0 { Side::Secondary } else { Side::Primary };
    let options = Options { poller: how & 2 == 0, order_wait: Duration::from_secs(5), ..Options::default() };
    let mut desk = Desk::new(side, options);
    for _ in 0..400 {
        if input.0.is_empty() {
            break;
        }
        let what = input.byte();
        match what % 16 {
            0 | 1 => {
                let at = usize::from(input.byte()) << 4 | usize::from(input.byte() & 15);
                desk.edits.push((at, input.any().to_le_bytes().to_vec()));
                desk.edits.truncate(8);
            }
            2 => desk.edits.clear(),
            3..=5 => desk.say(),
            6 => desk.turn(input.byte()),
            7 => desk.entry(&mut input),
            8 => desk.spoil(&mut input),
            9 => desk.order(&mut input),
            10 => {
                let (at, len) = (input.any(), input.any() as u32);
                drop(desk.call(|group, cx| group.on_peer_read(cx, at, len)));
            }
            11 if what >= 208 => desk.restart(),
            12 => {
                desk.wall = desk.wall.wrapping_sub(u64::from(input.byte()) << 30);
                desk.call(Group::on_tick);
            }
            _ => {
                let how = input.byte();
                for _ in 0..1 + what / 32 {
                    desk.answer(how, &mut input);
                    desk.now = desk.now + Duration::from_millis(u64::from(how) << (what / 64));
                    desk.call(Group::on_tick);
                }
            }
        }
        assert!(desk.asked.len() < 1024, "more and more is asked of the peer");
        let _ = desk.group.report(desk.now, desk.wall);
    }
    desk.restart();
}
