//! What a run must have shown to count as a proof: cells of both tables, rows of recovery and of a swap, and what wears a journal.

use super::{Seen, World};
use kagami_journal::Superblock;
use kagami_replica::{Decision, Order, Record, Side, State, StatusPage, decide};

/// The columns of the tables in `docs/replication.md`.
pub fn own(record: &Record) -> &'static str {
    match (record.side, record.state) {
        (Side::Primary, _) if record.overtaken => "P overtaken",
        (Side::Primary, _) if record.fence.is_some() => "P fenced",
        (Side::Primary, State::Smpl) => "P SMPL",
        (Side::Primary, State::Copy) => "P COPY",
        (Side::Primary, State::Pair) => "P PAIR",
        (Side::Primary, State::Psus { .. }) => "P PSUS",
        (Side::Primary, State::Psue | State::Ssws) => "P PSUE",
        (Side::Secondary, State::Smpl) => "S SMPL",
        (Side::Secondary, State::Copy) => "S COPY",
        (Side::Secondary, State::Pair) => "S PAIR",
        (Side::Secondary, State::Psus { writable: true }) => "S PSUS rw",
        (Side::Secondary, State::Psus { writable: false }) => "S PSUS",
        (Side::Secondary, State::Psue) => "S PSUE",
        (Side::Secondary, State::Ssws) => "S SSWS",
    }
}

/// The rows of the decision table, as a side with that record sees a page.
pub fn far(own: &Record, page: &StatusPage) -> &'static str {
    let theirs = &page.record;
    let request = |record: &Record| record.formation.map(|formation| formation.request);
    let anew = theirs.formation.filter(|_| request(own) != request(theirs));
    match (theirs.side, theirs.state) {
        (Side::Primary, _) if theirs.fence.is_some() && page.cancel => "P cancels",
        (Side::Primary, _) if theirs.fence.is_some() => "P fenced",
        (Side::Primary, State::Smpl) => "P SMPL",
        (Side::Primary, State::Copy) => match anew {
            Some(formation) if formation.discard => "P COPY discard",
            Some(_) => "P COPY anew",
            None => "P COPY",
        },
        (Side::Primary, State::Pair) if anew.is_some() => "P swapped",
        (Side::Primary, State::Pair) => "P PAIR",
        (Side::Primary, State::Psus { .. }) => "P PSUS",
        (Side::Primary, State::Psue | State::Ssws) => "P PSUE",
        (Side::Secondary, _) if own.fence.is_some_and(|fence| theirs.refused == Some(fence.request)) => {
            "S refuses"
        }
        (Side::Secondary, State::Smpl) => "S SMPL",
        (Side::Secondary, State::Copy) => "S COPY",
        (Side::Secondary, State::Pair) => "S PAIR",
        (Side::Secondary, State::Psus { writable: true }) => "S PSUS rw",
        (Side::Secondary, State::Psus { writable: false }) => "S PSUS",
        (Side::Secondary, State::Psue) => "S PSUE",
        (Side::Secondary, State::Ssws) => "S SSWS",
    }
}

/// The rows of the table of orders.
pub fn order(order: &Order) -> Option<&'static str> {
    use kagami_replica::Loser::{Here, There};
    Some(match order {
        Order::Split { writable: false } => "split",
        Order::Split { writable: true } => "split --writable",
        Order::Resync { discard: None } => "resync",
        Order::Resync { discard: Some(Here) } => "resync, discard here",
        Order::Resync { discard: Some(There) } => "resync, discard there",
        Order::Swap { dry_run: false } => "swap",
        Order::CancelSwap => "swap --cancel",
        Order::Takeover { dry_run: false, force: false } => "takeover",
        Order::Takeover { dry_run: false, force: true } => "takeover --force",
        Order::Delete => "delete",
        Order::Marker { .. } => "marker",
        Order::Acquire { .. } => "acquire",
        Order::Restore(_) => "restore",
        Order::Purge { .. } => "purge",
        Order::Swap { .. } | Order::Takeover { .. } => return None,
    })
}

impl World {
    /// A page of the other side has come to an array.
    pub fn see_page(&mut self, array: usize, page: &StatusPage) {
        let Some(record) = self.arrays[array].group.as_ref().and_then(|group| group.record()) else { return };
        let cell = format!("page {} | {}", far(record, page), own(record));
        let either = [false, true].map(|alone| decide(record, alone, page));
        if either.iter().any(|decision| *decision != Decision::Nothing) {
            self.seen.note(cell);
        }
    }

    /// A superblock is durable that was another before.
    pub fn see_superblock(&mut self, before: &Superblock, now: &Superblock) {
        if before.epoch != now.epoch && before.version > 0 {
            self.seen.note("another epoch");
        }
        let round = |block: &Superblock| block.stable.max(block.read) / block.layout.data_len.max(1);
        if round(now) > round(before) {
            self.seen.note("a journal begins at its start again");
        }
    }

    /// The rows of array.md 9: what a start, or a cut, finds of both sides.
    pub fn see_swap(&mut self, one: &Record, other: Option<&Record>) {
        let row = match (one.side, one.fence, other) {
            (Side::Primary, Some(_), None) => "FENCED, unreachable",
            (Side::Primary, Some(fence), Some(far)) if far.side == Side::Primary => {
                match far.formation.is_some_and(|formation| formation.request == fence.request) {
                    true => "FENCED, PRIMARY of that swap",
                    false => return,
                }
            }
            (Side::Primary, Some(_), Some(_)) => "FENCED, SECONDARY",
            (Side::Primary, None, Some(far)) if one.state == State::Pair => match (far.side, far.state) {
                (Side::Secondary, State::Pair) => "PRIMARY, SECONDARY",
                (Side::Secondary, State::Ssws) => "PRIMARY, taken over",
                _ => return,
            },
            _ => return,
        };
        self.seen.note(format!("swap found: {row}"));
    }
}

/// What every long run must have shown beside the cells of the tables.
const WANTED: [&str; 34] = [
    "seeds to the end",
    "crash",
    "another epoch",
    "a journal begins at its start again",
    "suspended: the journal is full",
    "far command lost",
    "far answer lost",
    "journal error",
    "store error",
    "promised write",
    "a swap is given up",
    "swap judged",
    "takeover judged",
    "marker judged",
    "bitmap judged",
    "rot at a secondary",
    "loss in Journaling",
    "loss in Tracking",
    "loss in Secondary",
    "other options",
    "a host drives",
    "volumes: 1",
    "volumes: 2",
    "volumes: 3",
    "fronts on several cores",
    "recovery: Nothing",
    "recovery: OtherPlace",
    "recovery: TornData",
    "swap found: PRIMARY, SECONDARY",
    "swap found: FENCED, SECONDARY",
    "swap found: FENCED, unreachable",
    "swap found: FENCED, PRIMARY of that swap",
    "swap found: PRIMARY, taken over",
    "restore to a moment",
];

const DOCS: &str = include_str!("../../../../docs/replication.md");

/// The cells of a table of the page: row, column, and what stands there.
fn cells(mark: &str) -> Vec<(String, String, String)> {
    let (_, rest) = DOCS.split_once(&format!("<!-- {mark} -->")).expect("the table begins");
    let (table, _) = rest.split_once(&format!("<!-- end of {mark} -->")).expect("the table ends");
    let parts = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|part| part.trim().replace("**", "")).collect()
    };
    let mut lines = table.lines().filter(|line| line.starts_with('|'));
    let head = parts(lines.next().unwrap_or_default());
    let mut cells = Vec::new();
    for line in lines.filter(|line| !line.starts_with("|---")) {
        let row = parts(line);
        for (column, cell) in head.iter().zip(&row).skip(1).filter(|(_, cell)| !cell.is_empty()) {
            cells.push((row[0].clone(), column.clone(), cell.clone()));
        }
    }
    cells
}

/// Cells that few worlds come to, or none. Every cell of both tables is looked at by `machine/tests.rs`, and those of pages also by
/// `machine/tests/both.rs`, which lets everything meet everything.
const SELDOM: [&str; 79] = [
    // Two primaries, each in its own state: it takes a takeover, a resync that gives up one side, and a cut at the right moment.
    "page P COPY | P PAIR",
    "page P COPY | P fenced",
    "page P COPY | P overtaken",
    "page P COPY anew | P fenced",
    "page P PAIR | P COPY",
    "page P PAIR | P PAIR",
    "page P PAIR | P fenced",
    "page P fenced | P COPY",
    "page P fenced | P PAIR",
    "page P cancels | P COPY",
    "page P cancels | P PAIR",
    "page P swapped | P COPY",
    "page P swapped | P PAIR",
    "page P swapped | P PSUS",
    "page P swapped | P PSUE",
    "page P PSUS | P PAIR",
    "page P PSUS | P PSUS",
    "page P PSUS | P PSUE",
    // A page that is late by a whole transition of the other side.
    "page P COPY | S SMPL",
    "page P COPY discard | S SMPL",
    "page P cancels | S SMPL",
    "page P cancels | S COPY",
    "page P cancels | S PSUS",
    "page P cancels | S PSUS rw",
    "page P cancels | S PSUE",
    "page P swapped | S PSUS rw",
    "page P swapped | S SSWS",
    "page P PSUE | S PSUS rw",
    "page S refuses | P COPY",
    "page S refuses | P overtaken",
    "page S PSUS rw | P COPY",
    "page S PSUS rw | P PAIR",
    // Nobody has time for orders before a pair begins to form: some milliseconds.
    "order split | P SMPL",
    "order split --writable | P SMPL",
    "order split --writable | S SMPL",
    "order resync | P SMPL",
    "order resync, discard here | P SMPL",
    "order resync, discard here | S SMPL",
    "order resync, discard there | P SMPL",
    "order swap | P SMPL",
    "order swap --cancel | P SMPL",
    "order swap --cancel | S SMPL",
    "order takeover | P SMPL",
    "order takeover | S SMPL",
    "order takeover --force | P SMPL",
    "order takeover --force | S SMPL",
    "order marker | P SMPL",
    "order acquire | P SMPL",
    "order acquire | S SMPL",
    "order restore | P SMPL",
    "order purge | P SMPL",
    "order purge | S SMPL",
    "order split --writable | S PSUS rw",
    // One moment in hundreds of worlds.
    "page P COPY | P COPY",
    "order acquire | S PSUS rw",
    "page P COPY anew | P PAIR",
    "page P COPY anew | P PSUS",
    "page P COPY anew | P PSUE",
    "page P COPY discard | P fenced",
    "page P cancels | P fenced",
    "page P cancels | S SSWS",
    "order split --writable | P fenced",
    "order takeover | P fenced",
    "order takeover --force | P fenced",
    "order takeover --force | S PSUS rw",
    // What a world would have to make anew.
    "order delete | P SMPL",
    "order delete | P COPY",
    "order delete | P PAIR",
    "order delete | P fenced",
    "order delete | P PSUS",
    "order delete | P PSUE",
    "order delete | P overtaken",
    "order delete | S SMPL",
    "order delete | S COPY",
    "order delete | S PAIR",
    "order delete | S PSUS",
    "order delete | S PSUS rw",
    "order delete | S PSUE",
    "order delete | S SSWS",
];

/// What a long run has not shown and should have.
pub fn missing(seen: &Seen) -> Vec<String> {
    let pages = cells("decisions").into_iter().map(|(row, column, _)| format!("page {row} | {column}"));
    let orders = cells("orders").into_iter().map(|(row, column, _)| format!("order {row} | {column}"));
    let excused = |what: &String| SELDOM.contains(&what.as_str());
    let wanted = WANTED.iter().map(|what| (*what).to_owned());
    wanted.chain(pages).chain(orders).filter(|what| !seen.0.contains_key(what) && !excused(what)).collect()
}
