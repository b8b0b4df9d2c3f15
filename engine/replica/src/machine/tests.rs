//! Each cell of both tables, as `docs/replication.md` draws them: the page is compared with what the code says.
//!
//! `KAGAMI_BLESS=1 cargo test -p kagami-replica --lib machine` writes the tables anew; then read the difference.

mod both;

use super::*;
use crate::generation::Generation;
use crate::order::RestoreTo;
use crate::page::{Reading, Serial};
use kagami_types::{Epoch, JournalPos, Sequence, Uuid};
use std::fmt::Write;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/replication.md");
const OLD: u128 = 100;
const NEW: u128 = 200;
const SWAP: u128 = 300;

fn formation(request: u128) -> Formation {
    let place = JournalPos { epoch: Epoch(1), offset: 0 };
    Formation { request, place, sequence: Sequence(5), discard: false }
}

fn fence() -> Fence {
    Fence { request: SWAP, place: JournalPos { epoch: Epoch(1), offset: 8192 }, sequence: Sequence(9) }
}

/// The history that both had; one that went on alone; one of the other.
fn generations() -> (Generation, Generation, Generation) {
    let common = Generation::first(1);
    (common.clone(), common.child(2), common.child(3))
}

fn record(side: Side, state: State) -> Record {
    let (common, ..) = generations();
    let mut record = Record::new(side, common);
    record.state = state;
    record.consistent = state != State::Copy;
    if state != State::Smpl {
        record.formation = Some(formation(OLD));
    }
    record
}

/// What a side can be, as it sees itself.
fn owns() -> Vec<(&'static str, Record)> {
    use State::{Copy, Pair, Psue, Psus, Smpl, Ssws};
    let (common, alone, _) = generations();
    let of = |side, state, generation: &Generation| Record {
        generation: generation.clone(),
        bits: u64::from(matches!(state, Psue | Psus { .. } | Ssws)),
        ..record(side, state)
    };
    let (primary, secondary) = (Side::Primary, Side::Secondary);
    vec![
        ("P SMPL", of(primary, Smpl, &common)),
        ("P COPY", of(primary, Copy, &common)),
        ("P PAIR", of(primary, Pair, &common)),
        ("P fenced", Record { fence: Some(fence()), ..of(primary, Pair, &common) }),
        ("P PSUS", of(primary, Psus { writable: false }, &alone)),
        ("P PSUE", of(primary, Psue, &alone)),
        ("P overtaken", Record { overtaken: true, ..of(primary, Psue, &common) }),
        ("S SMPL", Record { generation: Generation::default(), ..of(secondary, Smpl, &common) }),
        ("S COPY", of(secondary, Copy, &common)),
        ("S PAIR", of(secondary, Pair, &common)),
        ("S PSUS", of(secondary, Psus { writable: false }, &common)),
        ("S PSUS rw", of(secondary, Psus { writable: true }, &alone)),
        ("S PSUE", of(secondary, Psue, &common)),
        ("S SSWS", of(secondary, Ssws, &alone)),
    ]
}

fn page(record: Record) -> StatusPage {
    let nowhere = JournalPos { epoch: Epoch(1), offset: 0 };
    StatusPage {
        serial: Serial { version: 1, counter: 1 },
        array: Uuid::from_u128(2),
        group: Uuid::from_u128(3),
        recovering: false,
        cancel: false,
        stable: nowhere,
        stable_sequence: Sequence(9),
        epochs: Vec::new(),
        out: 0,
        newest_time: 0,
        wall: 0,
        data_len: 1 << 20,
        bitmap_at: 0,
        bitmap_len: 0,
        volumes: 1,
        shape: 1,
        difference: u64::from(record.bits != 0),
        reading: Reading {
            request: 0,
            read: nowhere,
            restored: 0,
            restored_sequence: Sequence(0),
            restored_time: 0,
            read_sequence: Sequence(0),
        },
        orders: Vec::new(),
        answers: Vec::new(),
        record,
    }
}

/// What the other side can be.
fn fars() -> Vec<(&'static str, StatusPage)> {
    use State::{Copy, Pair, Psue, Psus, Smpl, Ssws};
    let (common, _, other) = generations();
    let of = |side, state| record(side, state);
    let (primary, secondary) = (Side::Primary, Side::Secondary);
    let child = |record: Record| Record { generation: other.clone(), ..record };
    let begun = |discard| Record {
        formation: Some(Formation { discard, ..formation(NEW) }),
        ..child(of(primary, Copy))
    };
    let swapped = Record { formation: Some(formation(SWAP)), ..child(of(primary, Pair)) };
    let mut canceled = page(Record { fence: Some(fence()), ..of(primary, Pair) });
    canceled.cancel = true;
    let mut all = vec![
        ("P COPY", page(of(primary, Copy))),
        ("P COPY anew", page(begun(false))),
        ("P COPY discard", page(begun(true))),
        ("P PAIR", page(of(primary, Pair))),
        ("P fenced", page(Record { fence: Some(fence()), ..of(primary, Pair) })),
        ("P cancels", canceled),
        ("P swapped", page(swapped)),
        ("P PSUS", page(child(of(primary, Psus { writable: false })))),
        ("P PSUE", page(child(of(primary, Psue)))),
        ("S SMPL", page(Record { generation: Generation::default(), ..of(secondary, Smpl) })),
        ("S COPY", page(of(secondary, Copy))),
        ("S PAIR", page(of(secondary, Pair))),
        ("S refuses", page(Record { refused: Some(SWAP), ..of(secondary, Pair) })),
        ("S PSUE", page(of(secondary, Psue))),
        ("S PSUS rw", page(child(of(secondary, Psus { writable: true })))),
        ("S SSWS", page(child(of(secondary, Ssws)))),
    ];
    for (_, page) in &mut all {
        if page.record.state == State::Smpl {
            page.record.formation = None;
        }
    }
    assert_eq!(common.relation(&other), Relation::Ancestor);
    all
}

fn decision(decision: &Decision) -> String {
    match decision {
        Decision::Nothing => "",
        Decision::Begin => "begin",
        Decision::Follow(_) => "follow",
        Decision::Paired => "paired",
        Decision::Suspend => "suspend",
        Decision::Finish(state) => return format!("finish {}", state.name()),
        Decision::Swap(_) => "swap",
        Decision::Refuse(_) => "refuse",
        Decision::Unfence => "unfence",
        Decision::Yield(_) => "yield",
        Decision::Overtaken => "overtaken",
        Decision::Regain => "regain",
        Decision::SplitBrain => "split brain",
    }
    .to_owned()
}

fn decisions() -> String {
    let mut text = String::from("| far \\ own |");
    for (name, _) in owns() {
        let _ = write!(text, " {name} |");
    }
    text += "\n|---|";
    text += &"---|".repeat(owns().len());
    for (name, far) in fars() {
        let _ = write!(text, "\n| **{name}** |");
        for (_, own) in owns() {
            let mine = decide(&own, false, &far);
            let alone = decide(&own, true, &far);
            // What a side with writes of its own does otherwise stands behind the stroke.
            let cell = match decision(&mine) {
                cell if mine == alone => cell,
                cell => format!("{cell} / {}", decision(&alone)),
            };
            let _ = write!(text, " {cell} |");
        }
    }
    text + "\n"
}

fn orders() -> Vec<(&'static str, Order)> {
    vec![
        ("split", Order::Split { writable: false }),
        ("split --writable", Order::Split { writable: true }),
        ("resync", Order::Resync { discard: None }),
        ("resync, discard here", Order::Resync { discard: Some(Loser::Here) }),
        ("resync, discard there", Order::Resync { discard: Some(Loser::There) }),
        ("swap", Order::Swap { dry_run: false }),
        ("swap --cancel", Order::CancelSwap),
        ("takeover", Order::Takeover { dry_run: false, force: false }),
        ("takeover --force", Order::Takeover { dry_run: false, force: true }),
        ("delete", Order::Delete),
        ("marker", Order::Marker { name: "m".to_owned(), wait: true }),
        ("acquire", Order::Acquire { to: 0 }),
        ("restore", Order::Restore(RestoreTo::Read)),
        ("purge", Order::Purge { to: 0 }),
    ]
}

/// The other side that goes with one, in the ordinary case.
fn counterpart(own: &Record) -> StatusPage {
    let (common, _, other) = generations();
    let state = match own.state {
        State::Ssws => State::Psue,
        _ if own.overtaken => State::Ssws,
        State::Psus { .. } => State::Psus { writable: false },
        same => same,
    };
    let mut record = record(own.side.other(), state);
    record.generation = if own.overtaken { other } else { common };
    record.overtaken = own.state == State::Ssws;
    page(record)
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "yes",
        Verdict::Forward => "there",
        Verdict::Already(_) => "already",
        Verdict::Refused(_) => "no",
        Verdict::Unreachable(_) => "needs it",
    }
}

fn verdicts() -> String {
    let mut text = String::from("| order \\ own |");
    for (name, _) in owns() {
        let _ = write!(text, " {name} |");
    }
    text += "\n|---|";
    text += &"---|".repeat(owns().len());
    for (name, order) in orders() {
        let _ = write!(text, "\n| **{name}** |");
        for (_, own) in owns() {
            let far = counterpart(&own);
            let with = verdict(accept(&own, false, Some(&far), &order));
            let without = verdict(accept(&own, false, None, &order));
            let cell = if with == without { with.to_owned() } else { format!("{with} / {without}") };
            let _ = write!(text, " {cell} |");
        }
    }
    text + "\n"
}

/// What the page has between its marks.
fn compare(mark: &str, table: &str) {
    let docs = std::fs::read_to_string(DOCS).expect("the page is there");
    let (open, close) = (format!("<!-- {mark} -->\n\n"), format!("\n<!-- end of {mark} -->"));
    let (before, rest) = docs.split_once(&open).expect("the table begins");
    let (there, after) = rest.split_once(&close).expect("the table ends");
    if there != table && std::env::var_os("KAGAMI_BLESS").is_some() {
        std::fs::write(DOCS, format!("{before}{open}{table}{close}{after}")).expect("written");
        return;
    }
    assert_eq!(
        there, table,
        "docs/replication.md does not say what the code does: read the header of this test"
    );
}

#[test]
fn the_page_has_both_tables() {
    // One after the other: both write the same page when blessed.
    compare("decisions", &decisions());
    compare("orders", &verdicts());
}

/// A swap: array.md 9, row by row.
#[test]
fn each_row_of_a_swap() {
    let find = |name: &str| owns().into_iter().find(|(own, _)| *own == name).expect("a row").1;
    let far = |name: &str| fars().into_iter().find(|(far, _)| *far == name).expect("a column").1;
    assert_eq!(decide(&find("P PAIR"), false, &far("S PAIR")), Decision::Nothing);
    assert_eq!(decide(&find("P fenced"), false, &far("S PAIR")), Decision::Nothing);
    assert_eq!(decide(&find("S PAIR"), false, &far("P fenced")), Decision::Swap(fence()));
    assert_eq!(decide(&find("P fenced"), false, &far("P swapped")), Decision::Yield(formation(SWAP)));
    assert_eq!(decide(&find("P PAIR"), false, &far("P swapped")), Decision::Overtaken);
    assert_eq!(decide(&find("S PAIR"), false, &far("P cancels")), Decision::Refuse(SWAP));
    assert_eq!(decide(&find("P fenced"), false, &far("S refuses")), Decision::Unfence);
    let mut refused = find("S PAIR");
    refused.refused = Some(SWAP);
    for page in ["P fenced", "P cancels"] {
        assert_eq!(decide(&refused, false, &far(page)), Decision::Nothing, "{page}");
    }
}

/// Whoever sees a takeover stops its hosts, whatever it was doing; and nobody follows who has something of its own.
#[test]
fn a_takeover_is_always_found() {
    let (_, _, other) = generations();
    for (name, own) in owns().into_iter().filter(|(_, own)| own.side == Side::Primary) {
        if own.state == State::Smpl || own.overtaken {
            continue;
        }
        let mut ssws = record(Side::Secondary, State::Ssws);
        ssws.generation = other.clone();
        assert_eq!(decide(&own, false, &page(ssws.clone())), Decision::Overtaken, "{name}");
        // Its primary of a later day.
        ssws.side = Side::Primary;
        ssws.state = State::Copy;
        ssws.formation = Some(formation(NEW));
        if own.fence.is_none() {
            assert_eq!(decide(&own, true, &page(ssws.clone())), Decision::Overtaken, "{name}");
        }
        let overtaken = Record { overtaken: true, fence: None, state: State::Psue, ..own };
        assert!(!matches!(decide(&overtaken, true, &page(ssws.clone())), Decision::Follow(_)), "{name}");
        ssws.formation = Some(Formation { discard: true, ..formation(NEW) });
        assert!(matches!(decide(&overtaken, true, &page(ssws)), Decision::Follow(_)), "{name}");
    }
}

/// A resync was begun while the writable secondary had nothing of its own, and then it was written.
#[test]
fn a_copy_that_waits_for_a_discard_can_be_told_so() {
    let order = Order::Resync { discard: Some(Loser::There) };
    let mut own = record(Side::Primary, State::Copy);
    own.formation = Some(formation(NEW));
    let far = page(record(Side::Secondary, State::Psus { writable: true }));
    assert_eq!(accept(&own, false, Some(&far), &order), Verdict::Accepted);
    assert!(matches!(accept(&own, false, Some(&far), &Order::Resync { discard: None }), Verdict::Already(_)));
    own.formation = Some(Formation { discard: true, ..formation(NEW) });
    assert!(matches!(accept(&own, false, Some(&far), &order), Verdict::Already(_)));
}

/// Who goes on knowing of a takeover does not make it unseen where it was.
#[test]
fn a_side_that_was_taken_over_sees_that_the_other_goes_on() {
    let (_, alone, _) = generations();
    let ssws = Record { generation: alone.clone(), ..record(Side::Secondary, State::Ssws) };
    let mut far = record(Side::Primary, State::Psue);
    far.generation = alone.child(9);
    assert_eq!(decide(&ssws, false, &page(far.clone())), Decision::SplitBrain);
    // It is about to say that this side discards.
    (far.state, far.discards, far.formation) = (State::Copy, true, None);
    assert_eq!(decide(&ssws, true, &page(far.clone())), Decision::Nothing);
    far.formation = Some(Formation { discard: true, ..formation(NEW) });
    assert!(matches!(decide(&ssws, true, &page(far)), Decision::Follow(_)));
}

#[test]
fn nothing_follows_from_a_side_that_recovers_or_is_deleted() {
    for (_, own) in owns() {
        for (_, mut far) in fars() {
            far.recovering = true;
            assert_eq!(decide(&own, false, &far), Decision::Nothing);
            far.recovering = false;
            far.record.deleted = true;
            assert_eq!(decide(&own, false, &far), Decision::Nothing);
        }
    }
}

/// Two sides that stand still with each other are what array.md calls a pair: at most one of them is written by hosts,
/// unless operators have said so, and one of them always can be brought on by an order.
#[test]
fn two_writers_only_where_operators_said_so() {
    for (own_name, own) in owns() {
        for (far_name, far) in fars() {
            let theirs = &far.record;
            let quiet = decide(&own, false, &far) == Decision::Nothing
                && decide(theirs, false, &page(own.clone())) == Decision::Nothing;
            let both = own.writable() && theirs.writable();
            let begun = own.state != State::Smpl && theirs.state != State::Smpl;
            let meant = |record: &Record| matches!(record.state, State::Psus { writable: true });
            if quiet && both && begun && own.side != theirs.side {
                assert!(meant(&own) || meant(theirs), "{own_name} and {far_name}");
            }
        }
    }
}

/// What hosts see: each mode that a front is put into, as it is with a host's command (array.md 11).
mod hosts {
    use super::{compare, owns};
    use crate::front::{Front, FrontPlan, Step};
    use crate::mail::{Mode, ToFront, ToGroup, VolumeIndex};
    use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Purpose, Scatter, ScatterMut};
    use kagami_types::{Access, BlockCount, BlockError, BlockOp, BlockRange, BlockSize, Lba, Time};
    use std::fmt::Write;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    /// As `kagami_scsi::LogicalUnit::failed` translates it.
    fn sense(error: BlockError) -> &'static str {
        match error {
            BlockError::BecomingReady => "NOT READY 04h/01h",
            BlockError::WriteProtected => "DATA PROTECT 27h/00h",
            BlockError::NotServed => "NOT READY 04h/03h",
            other => panic!("no host is to hear {other}"),
        }
    }

    fn cell(mode: Mode, op: &BlockOp, data: &Scatter) -> &'static str {
        let mut front = Front::new(FrontPlan {
            index: VolumeIndex(0),
            block_size: BlockSize::B512,
            blocks: BlockCount(1024),
            sequencer: Arc::new(AtomicU64::new(0)),
            slots: 8,
        });
        front.on_mail(Time(1), ToFront::Mode { ticket: 1, mode });
        while front.next_step().is_some() {}
        if front.passes(op) {
            return "good";
        }
        front.submit(Time(1), 1, op.clone(), data.clone());
        while let Some(step) = front.next_step() {
            match step {
                Step::Store { .. } | Step::Done { result: Ok(()), .. } => return "good",
                Step::Done { result: Err(error), .. } => return sense(error),
                Step::Mail(ToGroup::Append { .. }) => return "good, from the journal",
                Step::Mail(ToGroup::Mark { .. }) => return "good, after its bit",
                _ => {}
            }
        }
        "waits"
    }

    #[test]
    fn the_page_says_what_hosts_see() {
        let range = BlockRange { lba: Lba(8), blocks: 8 };
        let plan = ArenaPlan::new(1).with(Class::Page, 16, 0);
        let pool = Arena::new(plan, HugePages::Off).expect("memory").pool(0);
        let data = |len| ScatterMut::take(&pool, Purpose::Internal, len).expect("pages").freeze();
        let operations = [
            (BlockOp::Read(range, Access::default()), Scatter::new()),
            (BlockOp::Write(range, Access::default()), data(4096)),
            (BlockOp::Unmap([range].into()), Scatter::new()),
            (BlockOp::CompareAndWrite(range, Access::default()), data(8192)),
        ];
        let mut rows: Vec<(&str, Vec<Mode>)> = vec![("starting", vec![Mode::NotReady])];
        for (name, own) in owns() {
            rows.push(match own.mode(false) {
                // For `swap_hold`, and after that.
                Mode::Held { until } => {
                    (name, vec![Mode::Held { until: Time(1 << 40) }, Mode::Held { until }])
                }
                Mode::Secondary { .. } => {
                    (name, vec![Mode::Secondary { reads: false }, Mode::Secondary { reads: true }])
                }
                mode => (name, vec![mode]),
            });
        }
        rows.push(("stopped", vec![Mode::Stopped]));
        let mut text = String::from("| own | READ | WRITE, WRITE SAME | UNMAP | COMPARE AND WRITE | WP |\n");
        text += "|---|---|---|---|---|---|\n";
        for (name, modes) in rows {
            let _ = write!(text, "| **{name}** |");
            for (op, data) in &operations {
                let mut cells: Vec<_> = modes.iter().map(|mode| cell(*mode, op, data)).collect();
                cells.dedup();
                let _ = write!(text, " {} |", cells.join(" / "));
            }
            let protected = modes.iter().any(|mode| matches!(mode, Mode::Fenced | Mode::Secondary { .. }));
            let _ = writeln!(text, " {} |", if protected { "1" } else { "0" });
        }
        compare("hosts", &text);
    }
}
