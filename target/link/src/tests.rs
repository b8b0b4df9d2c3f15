//! The link against a small far array, with the bytes between them cut anywhere and connections lost
//! at any moment.

mod far;

use crate::{Blocks, Done, Event, InPlace, Link, LinkPlan, Outcome, Payload, Phase, Refusal, Request, Sink};
use far::{BLOCK, Far, Rules};
use kagami_iscsi::frame::Framing;
use kagami_iscsi::login::Established;
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::Preferences;
use kagami_iscsi::pdu::{Bhs, TaskAttribute, Tsih};
use kagami_iscsi::random::{Random, RandomError};
use kagami_iscsi::serial::{CmdSn, StatSn};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Pool, Purpose, Scatter, ScatterMut};
use kagami_types::{Lun, Time, Uuid};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const PAGES: u32 = 512;

struct Dice;

impl Random for Dice {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        bytes.fill(7);
        Ok(())
    }
}

/// What the link says, as bytes on the wire.
struct Wire {
    pool: Pool,
    bytes: Vec<u8>,
    room: usize,
}

impl Sink for Wire {
    fn has_room(&mut self, inline: usize) -> bool {
        self.bytes.len() + inline < self.room
    }

    fn push(&mut self, framing: &Framing, bhs: &Bhs, payload: Payload<'_>) {
        let data = match payload {
            Payload::None => Vec::new(),
            Payload::Inline(bytes) => bytes.to_vec(),
            Payload::Pages(pages, offset, len) => pages.to_vec()[offset..offset + len].to_vec(),
        };
        assert_eq!(bhs.data_segment_len() as usize, data.len());
        framing.append(&mut self.bytes, bhs, &data);
    }

    fn take(&mut self, room: &mut ScatterMut, bytes: usize) -> bool {
        room.take_more(&self.pool, Purpose::Host, bytes)
    }
}

struct World {
    link: Link<u32>,
    far: Far,
    wire: Wire,
    now: Time,
    /// Bytes on their way to the link.
    coming: Vec<u8>,
    window: Vec<u8>,
    done: BTreeMap<u32, (Outcome, Vec<u8>, u64)>,
    events: Vec<String>,
    /// In which order commands ended.
    order: Vec<u32>,
}

fn plan() -> LinkPlan {
    LinkPlan {
        array: Uuid::from_u128(1),
        initiator: IscsiName::new("iqn.2026-11.io.kagami:one").unwrap(),
        target: IscsiName::new("iqn.2026-11.io.kagami:two").unwrap(),
        isid: LinkPlan::isid(Uuid::from_u128(1), Lun::new(30).unwrap()),
        portals: Box::new(["127.0.0.1:3261".parse().unwrap()]),
        account: None,
        connections: 1,
        preferences: Preferences::default(),
        mapped: Lun::new(10).unwrap(),
        io_timeout: Duration::from_secs(10),
        login_timeout: Duration::from_secs(5),
        most_pause: Duration::from_secs(1),
        slots: 32,
        bytes: 1 << 20,
    }
}

impl World {
    fn new(rules: Rules) -> Self {
        let arena = ArenaPlan::new(1).with(Class::Page, PAGES, 0).with(Class::Small, 4, 0);
        let pool = Arena::new(arena, HugePages::Off).unwrap().pool(0);
        Self {
            link: Link::new(plan(), Time(0)),
            far: Far::new(rules),
            wire: Wire { pool, bytes: Vec::new(), room: 64 << 10 },
            now: Time(0),
            coming: Vec::new(),
            window: Vec::new(),
            done: BTreeMap::new(),
            events: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Connects, and is logged in (the login itself has tests of its own).
    fn connect(&mut self) {
        while self.link.dial(self.now, &mut Dice, |_| true).is_none() {
            self.now = self.now + Duration::from_millis(10);
        }
        let established = Established {
            parameters: self.far.rules.parameters(),
            tsih: Tsih(1),
            exp_stat_sn: StatSn(1),
            cmd_sn: CmdSn(1),
            max_cmd_sn: CmdSn(self.far.rules.window),
            portal_group_tag: None,
            target_alias: None,
        };
        self.far.reinstate();
        self.link.logged_in(&established, self.now);
        self.events();
    }

    fn lose(&mut self) {
        self.coming.clear();
        self.window.clear();
        self.link.lost(0, self.now, "cut");
        self.events();
    }

    /// One exchange: all that the link says, all that the far array answers, in pieces of `cut`.
    fn exchange(&mut self, cut: usize, in_place: usize) -> bool {
        self.wire.bytes.clear();
        self.link.encode(0, true, &mut self.wire);
        let said = std::mem::take(&mut self.wire.bytes);
        let answers = self.far.hear(&said);
        self.coming.extend(answers);
        let any = !said.is_empty() || !self.coming.is_empty();
        while !self.coming.is_empty() {
            let lent = if self.window.is_empty() { self.link.in_place(0, in_place) } else { None };
            let count = cut.min(self.coming.len());
            let mut bytes: Vec<u8> = self.coming.drain(..count).collect();
            if let Some(InPlace { mut data, filled, limit }) = lent {
                let direct = bytes.len().min(limit - filled);
                data.copy_from(filled, &bytes[..direct]);
                bytes.drain(..direct);
                self.link.received(0, data, direct);
            }
            self.window.extend(bytes);
            let used = self.link.consume(0, &self.window, self.now).unwrap();
            self.window.drain(..used);
        }
        self.events();
        any
    }

    fn settle(&mut self, cut: usize, in_place: usize) {
        for _ in 0..1000 {
            if !self.exchange(cut, in_place) {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn events(&mut self) {
        while let Some(event) = self.link.next_event() {
            match event {
                Event::Done(Done { owner, outcome, data, wanted, .. }) => {
                    self.order.push(owner);
                    let before = self.done.insert(owner, (outcome, data.to_vec(), wanted));
                    assert!(before.is_none(), "a command ends once");
                }
                Event::Up { reset, .. } => self.events.push(format!("up {reset}")),
                Event::Connections => {}
                Event::Down => self.events.push("down".to_owned()),
                Event::Attention { code, told } => self.events.push(format!("attention {code:04x} {told:?}")),
                Event::Ended(ticket) => self.events.push(format!("ended {ticket}")),
            }
        }
    }

    fn write(&mut self, owner: u32, first: u32, count: u16, fill: u8) -> Result<(), Refusal> {
        let len = usize::from(count) * BLOCK;
        let mut pages = ScatterMut::take(&self.wire.pool, Purpose::Host, len).unwrap();
        pages.copy_from(0, &vec![fill; len]);
        let request = self.request(owner, 0x2a, first, count);
        let request = Request { out: pages.freeze(), writes: true, ..request };
        self.link.submit(request, self.now).map_err(|(refusal, _)| refusal)
    }

    fn read(&mut self, owner: u32, first: u32, count: u16) -> Result<(), Refusal> {
        let request = self.request(owner, 0x28, first, count);
        let expects = u32::from(count) * 512;
        self.link.submit(Request { expects, ..request }, self.now).map_err(|(refusal, _)| refusal)
    }

    fn request(&self, owner: u32, opcode: u8, first: u32, count: u16) -> Request<u32> {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        cdb[2..6].copy_from_slice(&first.to_be_bytes());
        cdb[7..9].copy_from_slice(&count.to_be_bytes());
        Request {
            owner,
            cdb,
            attribute: TaskAttribute::Simple,
            repeatable: true,
            blocks: Some(Blocks { first: first.into(), count: count.into() }),
            writes: false,
            out: Scatter::new(),
            expects: 0,
        }
    }

    fn outcome(&self, owner: u32) -> &Outcome {
        &self.done[&owner].0
    }

    fn all_pages_are_free(&self) {
        assert_eq!(self.wire.pool.arena().free(Class::Page), PAGES);
    }
}

const GOOD: Outcome = Outcome::Status(0, None);

fn up() -> World {
    let mut world = World::new(Rules::default());
    world.connect();
    world.settle(usize::MAX, 8192);
    assert_eq!(world.events, ["up true"], "the condition of a new session was taken by the link");
    world.events.clear();
    world
}

#[test]
fn it_learns_what_the_far_unit_is_before_it_passes_anything_on() {
    let mut world = World::new(Rules::default());
    world.write(1, 0, 8, 5).unwrap();
    world.connect();
    // Logged in, though it serves nothing yet.
    assert_eq!((world.link.status().phase, world.link.status().logins), (Phase::Probing, 1));
    world.settle(usize::MAX, 8192);
    assert_eq!((world.link.status().phase, world.link.status().logins), (Phase::Serving, 1));
    assert_eq!(world.outcome(1), &GOOD);
    assert_eq!(world.link.path().arrays, [Uuid::from_u128(1), Uuid::from_u128(2)]);
    assert!(world.link.path().complete);
    world.done.clear();
    world.all_pages_are_free();
}

#[test]
fn a_unit_that_was_stopped_is_served_and_can_be_started() {
    let mut world = World::new(Rules::default());
    world.far.stopped = true;
    world.connect();
    world.settle(usize::MAX, 8192);
    assert_eq!(world.link.status().phase, Phase::Serving);
    world.read(1, 0, 8).unwrap();
    world.settle(usize::MAX, 8192);
    let Outcome::Status(2, Some(sense)) = world.outcome(1) else { panic!() };
    assert_eq!((sense[2], sense[12], sense[13]), (2, 0x04, 0x02), "the far unit says why");
    let mut start = world.request(2, 0x1b, 0, 0);
    (start.cdb[4], start.blocks, start.expects) = (1, None, 0);
    world.link.submit(start, world.now).map_err(|(refusal, _)| refusal).unwrap();
    world.settle(usize::MAX, 8192);
    assert_eq!(world.outcome(2), &GOOD);
    world.read(3, 0, 8).unwrap();
    world.settle(usize::MAX, 8192);
    assert_eq!(world.outcome(3), &GOOD);
}

#[test]
fn a_path_that_leads_back_is_refused() {
    let rules = Rules { arrays: vec![2, 3, 1], ..Rules::default() };
    let mut world = World::new(rules);
    world.connect();
    world.wire.bytes.clear();
    for _ in 0..10 {
        world.link.encode(0, true, &mut world.wire);
        let said = std::mem::take(&mut world.wire.bytes);
        let answers = world.far.hear(&said);
        if world.link.consume(0, &answers, world.now).is_err() {
            assert!(world.link.is_looped());
            assert!(!world.link.path().complete);
            return;
        }
    }
    panic!("nobody noticed");
}

#[test]
fn data_goes_both_ways_whatever_is_agreed_upon() {
    for (initial_r2t, immediate, digests, segment) in [
        (false, true, false, 262_144),
        (true, true, true, 8192),
        (true, false, false, 512),
        (false, false, true, 1024),
    ] {
        let rules = Rules { initial_r2t, immediate, digests, segment, ..Rules::default() };
        let mut world = World::new(rules);
        world.connect();
        world.settle(usize::MAX, 8192);
        world.write(1, 16, 100, 9).unwrap();
        world.settle(1000, 8192);
        world.read(2, 10, 20).unwrap();
        world.settle(700, 1);
        assert_eq!((world.outcome(1), world.outcome(2)), (&GOOD, &GOOD));
        let (_, data, wanted) = &world.done[&2];
        assert_eq!(*wanted, 20 * 512);
        assert!(data[..6 * BLOCK].iter().all(|byte| *byte == 0));
        assert!(data[6 * BLOCK..].iter().all(|byte| *byte == 9));
    }
}

#[test]
fn a_lost_link_repeats_what_its_hosts_wait_for_in_order_after_reinstatement() {
    let mut world = up();
    world.far.holds_answers = true;
    world.write(1, 0, 8, 1).unwrap();
    world.write(2, 0, 8, 2).unwrap();
    world.exchange(usize::MAX, 8192);
    world.lose();
    assert!(world.done.is_empty(), "nobody was told anything");
    world.write(3, 4, 8, 3).unwrap();
    world.far.holds_answers = false;
    world.connect();
    world.settle(usize::MAX, 8192);
    assert!([1, 2, 3].iter().all(|owner| world.outcome(*owner) == &GOOD));
    assert_eq!((world.far.disk[0], world.far.disk[4 * BLOCK]), (2, 3));
    assert_eq!(world.link.status().repeated, 2);
}

#[test]
fn what_must_not_be_done_twice_ends_with_the_link() {
    let mut world = up();
    world.far.holds_answers = true;
    let request = world.request(1, 0x89, 0, 0);
    world.link.submit(Request { repeatable: false, ..request }, world.now).unwrap();
    world.exchange(usize::MAX, 8192);
    world.lose();
    assert_eq!(world.outcome(1), &Outcome::Lost);
}

#[test]
fn a_write_that_a_later_one_overtook_is_not_repeated() {
    let mut world = up();
    world.far.hold = Some(0x11);
    world.write(1, 0, 8, 0x11).unwrap();
    world.write(2, 4, 8, 0x22).unwrap();
    world.write(3, 64, 8, 0x33).unwrap();
    world.exchange(usize::MAX, 8192);
    assert_eq!(world.outcome(2), &GOOD);
    world.lose();
    assert_eq!(world.outcome(1), &Outcome::Lost, "it would undo what was acknowledged");
    world.far.hold = None;
    world.connect();
    world.settle(usize::MAX, 8192);
    assert_eq!(world.far.disk[4 * BLOCK], 0x22);
}

#[test]
fn a_command_in_doubt_holds_its_blocks_until_it_is_over() {
    let mut world = up();
    world.far.hold = Some(0x11);
    world.far.holds_aborts = true;
    world.write(1, 0, 8, 0x11).unwrap();
    world.exchange(usize::MAX, 8192);
    world.now = world.now + Duration::from_secs(10);
    world.link.tick(world.now).unwrap();
    world.events();
    assert_eq!(world.outcome(1), &Outcome::Unreachable);
    world.write(2, 100, 1, 0x44).unwrap();
    world.write(3, 7, 1, 0x55).unwrap();
    world.settle(usize::MAX, 8192);
    assert_eq!(world.outcome(2), &GOOD, "other blocks");
    assert!(!world.done.contains_key(&3), "held");
    let answers = world.far.let_aborts_go();
    world.coming.extend(answers);
    world.settle(usize::MAX, 8192);
    assert_eq!(world.outcome(3), &GOOD);
    assert_eq!(world.far.disk[7 * BLOCK], 0x55);
}

#[test]
fn ordered_commands_wait_for_all_before_them_and_hold_up_all_after() {
    let mut world = up();
    let give = |world: &mut World, owner, attribute| {
        let request = world.request(owner, 0x28, 0, 8);
        let request = Request { attribute, expects: 8 * 512, ..request };
        world.link.submit(request, world.now).unwrap();
    };
    world.far.holds_answers = true;
    for (owner, attribute) in [
        (1, TaskAttribute::Simple),
        (2, TaskAttribute::Ordered),
        (3, TaskAttribute::Simple),
        (4, TaskAttribute::HeadOfQueue),
    ] {
        give(&mut world, owner, attribute);
    }
    world.exchange(usize::MAX, 8192);
    assert_eq!(world.link.tasks.sent(), 2, "the first, and the one at the head of the queue");
    world.far.holds_answers = false;
    // A condition of the link's own: the first is sent again, and still comes first.
    world.far.conditions = vec![0x3f0e];
    world.lose();
    world.connect();
    world.settle(usize::MAX, 8192);
    assert_eq!(world.order, [1, 4, 2, 3]);
    assert_eq!(world.link.oldest(), None);
}

#[test]
fn aborts_and_resets_are_passed_on_and_awaited() {
    let mut world = up();
    world.far.holds_answers = true;
    world.far.holds_aborts = true;
    world.read(1, 0, 8).unwrap();
    world.read(2, 0, 8).unwrap();
    world.exchange(usize::MAX, 8192);
    world.link.abort(|owner| *owner == 1, 77, world.now);
    world.exchange(usize::MAX, 8192);
    assert_eq!(world.outcome(1), &Outcome::Aborted);
    assert!(world.events.is_empty(), "not over yet");
    let answers = world.far.let_aborts_go();
    world.coming.extend(answers);
    world.exchange(usize::MAX, 8192);
    assert_eq!(world.events, ["ended 77"]);
    world.far.holds_aborts = false;
    world.link.reset(78, world.now);
    world.exchange(usize::MAX, 8192);
    world.exchange(usize::MAX, 8192);
    assert_eq!(world.outcome(2), &Outcome::Aborted);
    assert_eq!(world.events, ["ended 77", "ended 78"]);
    assert_eq!(world.link.in_use(), 0);
}

#[test]
fn without_a_link_commands_end_in_bounded_time() {
    let mut world = World::new(Rules::default());
    world.read(1, 0, 8).unwrap();
    world.now = world.now + Duration::from_secs(10);
    world.link.tick(world.now).unwrap();
    world.events();
    assert_eq!(world.outcome(1), &Outcome::Unreachable);
    assert_eq!(world.read(2, 0, 8), Err(Refusal::Down), "at once from now on");
    world.connect();
    world.settle(usize::MAX, 8192);
    world.read(3, 0, 8).unwrap();
    world.settle(usize::MAX, 8192);
    assert_eq!(world.outcome(3), &GOOD, "it heals by itself");
}

#[test]
fn a_silent_far_array_is_given_up_and_one_that_answers_is_not() {
    let mut world = up();
    for _ in 0..8 {
        world.now = world.now + Duration::from_secs(2);
        world.link.tick(world.now).unwrap();
        world.settle(usize::MAX, 8192);
    }
    world.now = world.now + Duration::from_secs(3);
    world.link.tick(world.now).unwrap();
    world.now = world.now + Duration::from_secs(3);
    assert!(world.link.tick(world.now).is_err());
}

#[test]
fn conditions_are_told_once_and_the_links_own_are_not() {
    let mut world = up();
    world.far.conditions = vec![0x3f0e, 0x2a09];
    world.far.blocks = 4096;
    world.read(1, 0, 8).unwrap();
    world.settle(usize::MAX, 8192);
    let Outcome::Status(2, Some(sense)) = world.outcome(1) else { panic!() };
    assert_eq!((sense[2], sense[12], sense[13]), (6, 0x2a, 0x09));
    assert!(world.events.contains(&"attention 2a09 Some(1)".to_owned()), "{:?}", world.events);
    assert!(world.events.contains(&"up false".to_owned()), "it was asked again what it is");
    world.read(2, 0, 8).unwrap();
    world.settle(usize::MAX, 8192);
    assert_eq!(world.outcome(2), &GOOD);
}

#[derive(Clone, Debug)]
enum Step {
    Write(u32, u16),
    Read(u32, u16),
    Exchange,
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u32..40, 1u16..12).prop_map(|(first, count)| Step::Write(first, count)),
        2 => (0u32..40, 1u16..24).prop_map(|(first, count)| Step::Read(first, count)),
        4 => Just(Step::Exchange),
        1 => Just(Step::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is cut where: every command ends once, nothing acknowledged is undone by an earlier
    /// write, reads see no less than what was acknowledged before them, and no page is kept.
    #[test]
    fn nothing_acknowledged_is_undone(
        steps in proptest::collection::vec(step(), 1..60),
        cut in 1usize..5000, in_place in 1usize..9000, late in 0usize..4,
        initial_r2t: bool, immediate: bool, digests: bool,
        segment in prop_oneof![Just(512u32), Just(8192), Just(262_144)],
    ) {
        let rules = Rules { initial_r2t, immediate, digests, segment, ..Rules::default() };
        let mut world = World::new(rules);
        // Else the far array itself may finish the earlier of two last, which is its right.
        world.far.in_order = true;
        world.connect();
        world.settle(cut, in_place);
        let (mut fill, mut acked) = (0u8, vec![0u8; 64]);
        let mut writes: BTreeMap<u32, (u32, u16, u8)> = BTreeMap::new();
        for (owner, step) in (0u32..).zip(steps) {
            // The far array is late with what it executed: its answers wait for a while.
            world.far.late = late;
            match step {
                Step::Write(first, count) => {
                    fill += 1;
                    if world.write(owner, first, count, fill).is_ok() {
                        writes.insert(owner, (first, count, fill));
                    }
                }
                Step::Read(first, count) => { let _ = world.read(owner, first, count); }
                Step::Exchange => { world.exchange(cut, in_place); }
                Step::Lose => { world.lose(); world.connect(); }
            }
            for (owner, (first, count, fill)) in &writes {
                if world.done.get(owner).is_some_and(|(outcome, ..)| outcome == &GOOD) {
                    for block in *first..*first + u32::from(*count) {
                        acked[block as usize] = acked[block as usize].max(*fill);
                    }
                }
            }
        }
        world.far.late = 0;
        for _ in 0..8 {
            let answers = world.far.let_answers_go();
            world.coming.extend(answers);
            world.settle(cut, in_place);
        }
        for (owner, (first, count, fill)) in &writes {
            prop_assert!(world.done.contains_key(owner), "write {} never ended", owner);
            if world.outcome(*owner) == &GOOD {
                for block in *first..*first + u32::from(*count) {
                    acked[block as usize] = acked[block as usize].max(*fill);
                }
            }
        }
        for (block, least) in acked.iter().enumerate() {
            let found = world.far.disk[block * BLOCK];
            prop_assert!(found >= *least, "block {}: {} over {}", block, found, least);
        }
        prop_assert_eq!(world.link.in_use(), 0);
        world.done.clear();
        world.all_pages_are_free();
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut world = up();
        world.read(1, 0, 8).unwrap();
        world.exchange(usize::MAX, 8192);
        let _ = world.link.consume(0, &bytes, world.now);
    }
}
