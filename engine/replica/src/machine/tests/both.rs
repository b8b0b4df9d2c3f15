//! Two machines against each other, exhaustively: every order in which pages, orders, crashes and failures can meet, breadth
//! first, as far as so many orders, crashes and failures go.
//!
//! Records and tables are the product's; what programs do between two durable steps is said here in short: when hosts are shut
//! out, what becomes durable, when they are let in. A page may be on its way for as long as it likes, or be lost.

use super::{Decision, Formation, Loser, Order, Record, Relation, Side, State, Verdict};
use super::{accept, decide};
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};

mod half;
use half::{Aim, Durable, Half, Program, Said};

/// Rules that are broken on purpose: each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A fence is left as soon as somebody cancels it, without the other's word.
    CancelsAlone,
    /// A swap that was refused for good is done all the same.
    ForgetsRefusal,
    /// The new primary serves before that is durable.
    ServesFirst,
    /// A fence is said before it is durable.
    FencesLate,
    /// Nobody looks whether there is something of one's own.
    MergesUnasked,
    /// A takeover that is seen changes nothing.
    IgnoresTakeover,
}

/// Both, and what is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Both {
    half: [Half; 2],
    /// A page of each that the other does not have yet.
    post: [Option<Said>; 2],
    next: u8,
    orders: u8,
    crashes: u8,
    failures: u8,
    /// An operator has said that both may be written: by a takeover; for good, by a split or by force.
    taken: bool,
    apart: bool,
    /// An operator has said that one side may give up what it alone has.
    discards: bool,
}

type Found = (String, Both);

impl Both {
    /// A side that is to be paired, and its peer; or a pair.
    fn new(paired: bool, (orders, crashes, failures): (u8, u8, u8)) -> Self {
        let half = |side| Half {
            durable: Durable {
                side,
                state: if paired { State::Pair } else { State::Smpl },
                generation: u8::from(paired || side == Side::Primary),
                ancestors: Vec::new(),
                fence: None,
                overtaken: false,
                consistent: paired || side == Side::Primary,
                bits: false,
                formation: paired.then_some((2, false)),
                discards: false,
                refused: None,
            },
            own: paired && side == Side::Primary,
            view: None,
            serving: true,
            writes: !paired || side == Side::Primary,
            cancel: false,
            running: None,
            goal: None,
        };
        Self {
            half: [half(Side::Primary), half(Side::Secondary)],
            post: [None, None],
            next: 3,
            orders,
            crashes,
            failures,
            taken: false,
            apart: false,
            discards: false,
        }
    }

    fn id(&mut self) -> u8 {
        self.next += 1;
        self.next
    }

    /// Everything that can happen next.
    fn next(&self, flaw: Flaw) -> Result<Vec<Found>, String> {
        let mut found = Vec::new();
        for at in 0..2 {
            self.pages(at, &mut found);
            let half = &self.half[at];
            match half.running {
                Some((program, step)) => {
                    let mut next = self.clone();
                    next.step(at, program, step, flaw)?;
                    found.push((format!("{at}: {program:?} {step}"), next));
                    if program == Program::Fence && step < 2 && self.failures > 0 {
                        let mut next = self.clone();
                        next.failures -= 1;
                        next.half[at].running = Some((Program::Serve, 0));
                        found.push((format!("{at}: cannot stop for the swap"), next));
                    }
                }
                None => self.idle(at, flaw, &mut found),
            }
            if self.crashes > 0 {
                let mut next = self.clone();
                next.crashes -= 1;
                let half = &mut next.half[at];
                *half = Half {
                    view: None,
                    serving: half.durable.state == State::Smpl,
                    writes: half.durable.state == State::Smpl,
                    cancel: false,
                    running: None,
                    goal: None,
                    ..half.clone()
                };
                found.push((format!("{at}: crashes"), next));
            }
        }
        Ok(found)
    }

    fn pages(&self, at: usize, found: &mut Vec<Found>) {
        let said = self.half[at].said();
        let new = self.post[at].as_ref() != Some(&said) && self.half[1 - at].view.as_ref() != Some(&said);
        if new {
            let mut next = self.clone();
            next.post[at] = Some(said);
            found.push((format!("{at}: sends its page"), next));
        }
        if let Some(said) = &self.post[at] {
            let mut next = self.clone();
            next.half[1 - at].view = Some(said.clone());
            next.post[at] = None;
            found.push((format!("{}: has the page of {at}", 1 - at), next));
        }
    }

    /// Where no program runs.
    fn idle(&self, at: usize, flaw: Flaw, found: &mut Vec<Found>) {
        let half = &self.half[at];
        let durable = &half.durable;
        let record = durable.record();
        if flaw == Flaw::CancelsAlone && half.cancel && durable.fence.is_some() {
            let mut next = self.clone();
            next.half[at].running = Some((Program::Unfence, 0));
            found.push((format!("{at}: gives the swap up"), next));
        }
        if let Some((aim, stopped)) = half.goal {
            let mut next = self.clone();
            if stopped {
                next.half[at].goal = None;
                let program = match aim {
                    Aim::Finish(state) => Program::Finish(state),
                    Aim::Follow(formation) => Program::Follow(formation),
                    Aim::Swap(request)
                        if durable.refused == Some(request) && flaw != Flaw::ForgetsRefusal =>
                    {
                        Program::Finish(State::Psue)
                    }
                    Aim::Swap(request) => Program::Commit(request),
                    Aim::TakeOver => Program::TakeOver,
                };
                next.half[at].running = Some((program, 0));
            } else {
                next.half[at].goal = Some((aim, true));
            }
            found.push((format!("{at}: has come to {aim:?}, stopped before: {stopped}"), next));
        }
        let decision = half.view.as_ref().map(|view| {
            let alone = half.own && durable.bits && flaw != Flaw::MergesUnasked;
            decide(&record, alone, &view.page())
        });
        if let Some(decision) = &decision {
            let mut next = self.clone();
            next.decided(at, decision, flaw);
            if next != *self {
                found.push((format!("{at}: {decision:?}"), next));
            }
        }
        let waits = durable.side == Side::Primary && durable.state != State::Smpl && !durable.overtaken;
        let still = !matches!(decision, Some(Decision::Overtaken | Decision::Yield(_)));
        if !half.serving && (still || !waits) {
            let mut next = self.clone();
            next.half[at].running = Some((Program::Serve, 0));
            found.push((format!("{at}: serves"), next));
        }
        let other = &self.half[1 - at];
        let same = durable.formation.is_some() && durable.formation == other.durable.formation;
        let journals = record.journals();
        if half.pulls() && durable.state == State::Copy && half.goal.is_none() && same {
            let follows = other.durable.record().journals();
            if follows {
                let mut next = self.clone();
                next.half[at].running = Some((Program::Formed, 0));
                found.push((format!("{at}: all is copied"), next));
            }
        }
        if journals && !half.writes && half.own && same && other.durable.state == State::Pair {
            let mut next = self.clone();
            next.half[at].own = false;
            found.push((format!("{at}: the other has everything"), next));
        }
        if self.failures > 0 {
            let mut next = self.clone();
            next.failures -= 1;
            if half.pulls() && half.goal.is_none() {
                next.half[at].goal = Some((Aim::Finish(State::Psue), false));
                found.push((format!("{at}: cannot go on copying"), next));
            } else if journals && half.serving && durable.fence.is_none() {
                next.half[at].running = Some((Program::Suspend(State::Psue), 0));
                found.push((format!("{at}: its journal is full"), next));
            }
        }
        if self.orders > 0 {
            self.orders(at, &record, found);
        }
    }

    fn decided(&mut self, at: usize, decision: &Decision, flaw: Flaw) {
        let half = &mut self.half[at];
        let of = |formation: &Formation| (id(formation.request), formation.discard);
        let program = match decision {
            Decision::Nothing | Decision::SplitBrain => return,
            Decision::Overtaken if flaw == Flaw::IgnoresTakeover => return,
            Decision::Begin => Program::Begin(false),
            Decision::Follow(formation) if half.pulls() => return half.aim(Aim::Follow(of(formation))),
            Decision::Follow(formation) => Program::Follow(of(formation)),
            Decision::Paired => Program::Paired,
            Decision::Suspend => Program::Suspend(State::Psue),
            Decision::Finish(state) => {
                if half.goal.is_none() {
                    half.aim(Aim::Finish(*state));
                }
                return;
            }
            Decision::Swap(fence) => return half.aim(Aim::Swap(id(fence.request))),
            Decision::Refuse(request) => {
                match half.goal {
                    Some((Aim::Swap(_), true)) => return,
                    Some((Aim::Swap(_), false)) if flaw != Flaw::ForgetsRefusal => half.goal = None,
                    _ => {}
                }
                Program::Refuse(id(*request))
            }
            Decision::Unfence => Program::Unfence,
            Decision::Yield(formation) => Program::Yield(of(formation)),
            Decision::Overtaken => Program::Overtaken,
            Decision::Regain => Program::Regain,
        };
        half.running = Some((program, 0));
    }

    fn orders(&self, at: usize, record: &Record, found: &mut Vec<Found>) {
        let half = &self.half[at];
        let alone = half.own && half.durable.bits;
        let far = half.view.as_ref().map(Said::page);
        let orders = [
            Order::Split { writable: false },
            Order::Split { writable: true },
            Order::Resync { discard: None },
            Order::Resync { discard: Some(Loser::There) },
            Order::Swap { dry_run: false },
            Order::CancelSwap,
            Order::Takeover { dry_run: false, force: false },
            Order::Takeover { dry_run: false, force: true },
        ];
        for order in orders {
            let early = !half.serving && !matches!(order, Order::Takeover { .. });
            if early || accept(record, alone, far.as_ref(), &order) != Verdict::Accepted {
                continue;
            }
            let mut next = self.clone();
            next.orders -= 1;
            let new = next.id();
            let half = &mut next.half[at];
            match order {
                Order::Split { writable } => {
                    next.apart |= writable;
                    half.running = Some((Program::Suspend(State::Psus { writable }), 0));
                }
                Order::Resync { discard } => {
                    next.discards |= discard.is_some();
                    half.running = Some((Program::Begin(discard.is_some()), 0));
                }
                Order::Swap { .. } if half.durable.fence.is_none() => {
                    half.cancel = false;
                    half.running = Some((Program::Fence, 0));
                }
                Order::CancelSwap => half.cancel = true,
                Order::Takeover { force, .. } => {
                    next.taken = true;
                    next.apart |= force;
                    match half.durable.side {
                        Side::Primary => half.running = Some((Program::Serves, 0)),
                        Side::Secondary => half.aim(Aim::TakeOver),
                    }
                }
                _ => continue,
            }
            let _ = new;
            found.push((format!("{at}: order {order:?}"), next));
        }
    }

    /// The next step of a program.
    #[expect(clippy::too_many_lines, reason = "the programs side by side, as in `group/program.rs`")]
    fn step(&mut self, at: usize, program: Program, step: u8, flaw: Flaw) -> Result<(), String> {
        let new = self.id();
        let mut used = false;
        let mut take = || {
            used = true;
            new
        };
        let half = &mut self.half[at];
        let view = half.view.as_ref().map(|view| view.durable.clone());
        half.running = Some((program, step + 1));
        let durable = &mut half.durable;
        match (program, step) {
            (Program::Serve, _) => {
                half.open();
                // A crash came before the place where the journal begins was said.
                let unnamed = half.durable.formation.is_none() && half.durable.record().journals();
                half.running = unnamed.then_some((Program::Name, 0));
            }
            (Program::Begin(discard), 0) => {
                let said = half.view.as_ref().map(Said::page);
                let taken =
                    |page| decide(&durable.record(), half.own && durable.bits, page) == Decision::Overtaken;
                let Some(view) = view.filter(|_| discard || !said.as_ref().is_some_and(taken)) else {
                    half.running = None;
                    self.next -= 1;
                    return Ok(());
                };
                let apart = durable.generation().relation(&view.generation()) == Relation::Neither;
                if durable.state != State::Smpl && (durable.overtaken || apart) {
                    durable.child(take());
                    durable.ancestors.insert(0, view.generation);
                }
                durable.side = Side::Primary;
                durable.state = State::Copy;
                durable.overtaken = false;
                durable.consistent = true;
                durable.formation = None;
                durable.discards = discard;
            }
            (Program::Begin(_), _) => {
                half.open();
                half.running = Some((Program::Name, 0));
            }
            (Program::Name, _) => {
                durable.formation = Some((take(), durable.discards));
                half.running = None;
            }
            (Program::Suspend(_) | Program::Overtaken | Program::Serves, 0) => half.writes = false,
            (Program::Suspend(state), 1) => {
                durable.state = state;
                durable.child(take());
                durable.bits = true;
            }
            (Program::Overtaken, 1) => {
                durable.state = State::Psue;
                durable.overtaken = true;
                durable.fence = None;
                durable.bits = true;
            }
            (Program::Serves, 1) => {
                durable.child(take());
                if let Some(view) = view.filter(|_| durable.overtaken) {
                    durable.ancestors.insert(0, view.generation);
                }
                durable.state = State::Psue;
                durable.overtaken = false;
                durable.fence = None;
                durable.bits = true;
            }
            (Program::Fence, 0) => half.writes = flaw == Flaw::FencesLate,
            (Program::Fence, 1) => durable.fence = Some(take()),
            (Program::Unfence, 0) => durable.fence = None,
            (Program::Unfence, _) => {
                half.cancel = false;
                half.open();
                half.running = None;
            }
            (Program::Regain, 0) => durable.overtaken = false,
            (Program::Yield(_) | Program::Follow(_), 0) => {
                if view.and_then(|view| view.formation).is_some_and(|theirs| {
                    let (Program::Yield(formation) | Program::Follow(formation)) = program else {
                        return false;
                    };
                    theirs == formation
                }) {
                    half.writes = false;
                } else {
                    half.running = None;
                }
            }
            (Program::Yield(formation), 1) => {
                let Some(view) = view else { return Err("nobody to yield to".to_owned()) };
                durable.follow(&view, formation);
                durable.state = State::Pair;
                durable.consistent = true;
                durable.bits = false;
                if std::mem::take(&mut half.own) {
                    return Err("a swap has left writes behind".to_owned());
                }
            }
            (Program::Follow(formation), 1) => {
                let Some(view) = view else { return Err("nobody to follow".to_owned()) };
                durable.follow(&view, formation);
                durable.state = State::Copy;
                durable.consistent = false;
                durable.bits = true;
                if std::mem::take(&mut half.own) && !formation.1 {
                    return Err("a side gives up what it alone has, and nobody said so".to_owned());
                }
                if formation.1 && !self.discards {
                    return Err("a side lets the other give up what it has, and nobody said so".to_owned());
                }
            }
            (Program::Yield(_) | Program::Follow(_), _) => {
                half.cancel = false;
                half.goal = None;
                half.open();
                half.running = None;
            }
            (Program::Commit(_), 0) if flaw == Flaw::ServesFirst && !half.writes => {
                half.writes = true;
                half.running = Some((program, 0));
            }
            (Program::Commit(request), 0) => {
                durable.side = Side::Primary;
                durable.state = State::Pair;
                durable.child(take());
                durable.formation = Some((request, false));
                durable.fence = None;
                durable.bits = false;
                half.goal = None;
                // It has restored all up to the fence.
                self.half[1 - at].own = false;
            }
            (Program::Finish(state), 0) => {
                durable.consistent &= durable.state == State::Pair;
                let writable = state == (State::Psus { writable: true }) && durable.consistent;
                durable.state = match state {
                    State::Psus { .. } => State::Psus { writable },
                    other => other,
                };
                durable.bits = true;
                if writable {
                    durable.child(take());
                }
                half.goal = None;
            }
            (Program::TakeOver, 0) => {
                durable.state = State::Ssws;
                durable.child(take());
                durable.bits = true;
                durable.consistent = true;
                half.goal = None;
            }
            (Program::Paired | Program::Formed, _) => {
                durable.state = State::Pair;
                durable.bits = false;
                durable.consistent = true;
                half.running = None;
            }
            (Program::Refuse(request), _) => {
                durable.refused = Some(request);
                half.running = None;
            }
            // A program's end: hosts as the record says.
            (
                Program::Suspend(_)
                | Program::Overtaken
                | Program::Serves
                | Program::Fence
                | Program::Regain
                | Program::Commit(_)
                | Program::Finish(_)
                | Program::TakeOver,
                _,
            ) => {
                half.open();
                half.running = None;
            }
        }
        if !used {
            self.next -= 1;
        }
        Ok(())
    }

    /// What must hold in every state.
    fn judge(&mut self, flaw: Flaw) -> Result<(), String> {
        let [one, other] = &self.half;
        let begun = one.durable.state != State::Smpl && other.durable.state != State::Smpl;
        let both = one.writes && other.writes && begun;
        if both && !self.taken && !self.apart {
            return Err("hosts write to both, and nobody ordered that".to_owned());
        }
        if self.half.iter().any(|half| half.writes && !half.durable.record().writable()) {
            return Err("hosts write where that is not durable".to_owned());
        }
        let quiet = |half: &Half| half.running.is_none() && half.goal.is_none() && half.serving;
        let knows = |half: &Half, far: &Half| half.view.as_ref() == Some(&far.said());
        let settled = quiet(one) && quiet(other) && knows(one, other) && knows(other, one);
        if settled && both && !self.apart {
            // Nothing follows from what they know, and no operator hears of it.
            let still = |at: usize| {
                let half = &self.half[at];
                half.view.as_ref().is_some_and(|view| {
                    let alone = half.own && half.durable.bits;
                    let decision = decide(&half.durable.record(), alone, &view.page());
                    let mut next = self.clone();
                    next.decided(at, &decision, flaw);
                    decision != Decision::SplitBrain && next == *self
                })
            };
            if still(0) && still(1) {
                return Err("both know each other, and hosts write to both".to_owned());
            }
        }
        // A pair again: what operators have said before is over.
        let pair = one.durable.formation == other.durable.formation
            && one.durable.side != other.durable.side
            && one.durable.generation == other.durable.generation
            && one.durable.state == State::Pair
            && other.durable.state == State::Pair;
        if settled && pair && self.post == [None, None] {
            (self.taken, self.apart, self.discards) = (false, false, false);
        }
        Ok(())
    }
}

fn id(request: u128) -> u8 {
    u8::try_from(request).unwrap_or(u8::MAX)
}

fn key(both: &Both) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, both).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// How many states there are; or how one comes about that must not be.
fn explore(start: Both, flaw: Flaw, most: usize) -> Result<usize, String> {
    let mut known = HashSet::from([key(&start)]);
    let mut queue = VecDeque::from([(start, 0usize)]);
    // Of each state but the first, the one before and what happened.
    let mut story: Vec<(usize, String)> = vec![(0, String::new())];
    let told = |story: &[(usize, String)], mut at: usize, last: String| {
        let mut lines = vec![last];
        while at != 0 {
            lines.push(story[at].1.clone());
            at = story[at].0;
        }
        lines.reverse();
        lines.join("\n")
    };
    while let Some((both, number)) = queue.pop_front() {
        let next = both.next(flaw).map_err(|why| told(&story, number, why))?;
        for (what, mut both) in next {
            if let Err(why) = both.judge(flaw) {
                return Err(told(&story, number, format!("{what}\n{why}\n{both:#?}")));
            }
            if known.insert(key(&both)) {
                assert!(known.len() <= most, "more than {most} states");
                story.push((number, what));
                queue.push_back((both, story.len() - 1));
            }
        }
    }
    Ok(known.len())
}

const BUDGETS: [(bool, (u8, u8, u8)); 3] = [(false, (1, 1, 0)), (true, (2, 1, 0)), (true, (2, 0, 1))];

#[test]
fn no_two_primaries_but_by_order_and_nothing_merged_unasked() {
    for (paired, budget) in BUDGETS {
        match explore(Both::new(paired, budget), Flaw::None, 5_000_000) {
            Ok(states) => println!("{states} states with {budget:?} orders, crashes and failures"),
            Err(why) => panic!("{why}"),
        }
    }
}

#[test]
fn each_broken_rule_is_found() {
    let flaws = [
        Flaw::CancelsAlone,
        Flaw::ForgetsRefusal,
        Flaw::ServesFirst,
        Flaw::FencesLate,
        Flaw::MergesUnasked,
        Flaw::IgnoresTakeover,
    ];
    for flaw in flaws {
        let found = BUDGETS
            .iter()
            .find_map(|(paired, budget)| explore(Both::new(*paired, *budget), flaw, 5_000_000).err());
        let why = found.unwrap_or_else(|| panic!("{flaw:?} is not found"));
        assert!(why.contains("hosts write") || why.contains("gives up") || why.contains("left"), "{why}");
    }
}
