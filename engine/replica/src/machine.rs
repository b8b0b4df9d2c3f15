//! The pair machine: what follows from what a side durably is, and what the other side says (array.md 4, 9, 10).
//!
//! Pure: two tables and no state. [`decide`] says what a side does on its own when it has read the far page; [`accept`] says what
//! becomes of an order. `group` carries both out, one durable step after another, and asks again after each, so that after a
//! crash the tables alone say how it goes on. Both are drawn in `docs/replication.md`, and each cell has a test.

use crate::generation::Relation;
use crate::order::{Loser, Order};
use crate::page::StatusPage;
use crate::record::{Fence, Formation, Record, Side, State};

/// What a side does, having read the far page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Nothing,
    /// A primary that is to be paired begins to journal.
    Begin,
    /// A side becomes, or stays, the secondary of that formation, and copies what differs.
    Follow(Formation),
    /// The secondary is in PAIR: so is the primary.
    Paired,
    /// A primary suspends, because the secondary is.
    Suspend,
    /// A secondary restores all that there is, and is then in that state.
    Finish(State),
    /// A secondary restores up to the fence, and is then the primary.
    Swap(Fence),
    /// A secondary promises never to do that swap.
    Refuse(u128),
    /// A primary leaves its fence: the secondary has refused the swap.
    Unfence,
    /// A fenced primary becomes the secondary of the one that has swapped.
    Yield(Formation),
    /// A primary learns that the other side was taken over: it stops its hosts' writes.
    Overtaken,
    /// The side that had taken over has given that up: this one serves again.
    Regain,
    /// Both have histories of their own: an operator has to choose.
    SplitBrain,
}

/// The decision table. `alone`: this side has, or may have, what the other lacks.
#[must_use]
pub fn decide(own: &Record, alone: bool, far: &StatusPage) -> Decision {
    let theirs = &far.record;
    if own.deleted || theirs.deleted || far.recovering {
        return Decision::Nothing;
    }
    match own.side {
        Side::Primary => primary(own, alone, theirs),
        Side::Secondary => secondary(own, alone, far),
    }
}

/// Whether that is a formation which a side with this record may follow.
fn may_follow(own: &Record, alone: bool, theirs: &Record) -> Option<Formation> {
    let formation =
        theirs.formation.filter(|_| theirs.side == Side::Primary && theirs.state == State::Copy)?;
    let known = own.formation.is_some_and(|mine| mine.request == formation.request);
    if known && own.side == Side::Secondary {
        return None;
    }
    let related = match own.generation.relation(&theirs.generation) {
        Relation::Equal | Relation::Ancestor => true,
        Relation::Descendant | Relation::Neither => own.generation.id == 0,
    };
    (formation.discard || (related && !alone)).then_some(formation)
}

fn primary(own: &Record, alone: bool, theirs: &Record) -> Decision {
    let relation = own.generation.relation(&theirs.generation);
    if let Some(fence) = own.fence {
        if theirs.side == Side::Primary && relation == Relation::Ancestor {
            return match theirs.formation {
                Some(formation) if formation.request == fence.request => Decision::Yield(formation),
                // It has swapped, and begun anew since.
                _ => may_follow(own, false, theirs).map_or(Decision::Nothing, Decision::Follow),
            };
        }
        if theirs.side == Side::Secondary && theirs.refused == Some(fence.request) {
            return Decision::Unfence;
        }
    }
    if own.state == State::Smpl {
        let waits = theirs.side == Side::Secondary && matches!(theirs.state, State::Smpl);
        return if waits { Decision::Begin } else { Decision::Nothing };
    }
    let taken = theirs.state == State::Ssws
        || (theirs.side == Side::Primary && theirs.state != State::Smpl && relation != Relation::Descendant);
    if taken {
        if relation == Relation::Descendant {
            // This side went on after the takeover, because its operator said so.
            return Decision::Nothing;
        }
        if !own.overtaken {
            return Decision::Overtaken;
        }
        return match may_follow(own, alone, theirs) {
            Some(formation) => Decision::Follow(formation),
            None if relation == Relation::Neither => Decision::SplitBrain,
            None => Decision::Nothing,
        };
    }
    if own.overtaken {
        let gave_up = theirs.side == Side::Secondary
            && !theirs.writable()
            && matches!(relation, Relation::Equal | Relation::Descendant);
        return if gave_up { Decision::Regain } else { Decision::Nothing };
    }
    let same = match (own.formation, theirs.formation) {
        (Some(mine), Some(formation)) => mine.request == formation.request,
        _ => false,
    };
    match (own.state, theirs.side, theirs.state) {
        (State::Copy, Side::Secondary, State::Pair) if same => Decision::Paired,
        // A fence is only left by the secondary's word about that swap.
        (State::Copy | State::Pair, Side::Secondary, State::Psue | State::Psus { .. })
            if same && own.fence.is_none() =>
        {
            Decision::Suspend
        }
        _ => Decision::Nothing,
    }
}

fn secondary(own: &Record, alone: bool, far: &StatusPage) -> Decision {
    let theirs = &far.record;
    if theirs.side != Side::Primary {
        return Decision::Nothing;
    }
    if let Some(formation) = may_follow(own, alone && own.writable() && own.state != State::Smpl, theirs) {
        return Decision::Follow(formation);
    }
    let mine = own.formation.map(|formation| formation.request);
    let same = mine.is_some() && mine == theirs.formation.map(|formation| formation.request);
    match own.state {
        State::Copy | State::Pair if same => match (theirs.fence, theirs.state) {
            (Some(fence), _) if own.refused == Some(fence.request) => Decision::Nothing,
            (Some(fence), _) if far.cancel => Decision::Refuse(fence.request),
            (Some(fence), _) if own.state == State::Pair && own.generation.id == theirs.generation.id => {
                Decision::Swap(fence)
            }
            (Some(_), _) => Decision::Nothing,
            (None, State::Psus { writable }) => Decision::Finish(State::Psus { writable }),
            (None, State::Psue) => Decision::Finish(State::Psue),
            _ => Decision::Nothing,
        },
        // A swap can also be refused by one that does not take part any more.
        _ if theirs.fence.is_some_and(|fence| far.cancel && own.refused != Some(fence.request)) => {
            theirs.fence.map_or(Decision::Nothing, |fence| Decision::Refuse(fence.request))
        }
        State::Smpl => Decision::Nothing,
        // One that will name a formation with which this side is to give up what it has.
        _ if theirs.state == State::Copy && theirs.discards => Decision::Nothing,
        _ => match own.generation.relation(&theirs.generation) {
            Relation::Neither => Decision::SplitBrain,
            // It went on knowing of this side, and this side was not told to discard.
            Relation::Ancestor if own.state == State::Ssws || (own.writable() && alone) => {
                Decision::SplitBrain
            }
            _ => Decision::Nothing,
        },
    }
}

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out here.
    Accepted,
    /// It goes to the other side, which is the one that it concerns.
    Forward,
    /// Nothing to do.
    Already(&'static str),
    /// Not in this state.
    Refused(&'static str),
    /// It cannot be decided without the other side's page.
    Unreachable(&'static str),
}

/// The table of orders: what a side with that record does with an order, given the far page, where one is known that is
/// fresh. `alone`: this side has, or may have, what the other lacks.
#[must_use]
pub fn accept(own: &Record, alone: bool, far: Option<&StatusPage>, order: &Order) -> Verdict {
    match order {
        Order::Split { writable } => split(own, *writable),
        Order::Resync { discard } => resync(own, alone, far, *discard),
        Order::Swap { .. } => swap(own, far),
        Order::CancelSwap => cancel(own),
        Order::Takeover { force, .. } => takeover(own, *force),
        Order::Delete if own.deleted => Verdict::Already("the pair is deleted"),
        Order::Delete if own.fence.is_some() => {
            Verdict::Refused("a swap is under way: cancel it, or the other side may serve as well")
        }
        Order::Delete => Verdict::Accepted,
        Order::Marker { .. } => match (own.side, own.state) {
            (Side::Primary, State::Copy | State::Pair) if own.fence.is_some() => {
                Verdict::Refused("a swap is under way")
            }
            (Side::Primary, State::Copy | State::Pair) => Verdict::Accepted,
            (Side::Secondary, State::Copy | State::Pair) => Verdict::Forward,
            _ => Verdict::Refused("nothing is journaled in this state"),
        },
        Order::Acquire { .. } | Order::Restore(_) => match (own.side, own.state) {
            (Side::Secondary, State::Copy | State::Pair) => Verdict::Accepted,
            (Side::Primary, State::Copy | State::Pair) => Verdict::Forward,
            _ => Verdict::Refused("no journal is copied in this state"),
        },
        Order::Purge { .. } => match (own.side, own.state) {
            (Side::Primary, State::Copy | State::Pair) => Verdict::Accepted,
            (Side::Secondary, State::Copy | State::Pair) => Verdict::Forward,
            _ => Verdict::Refused("nothing is journaled in this state"),
        },
    }
}

fn split(own: &Record, writable: bool) -> Verdict {
    match (own.side, own.state) {
        (_, State::Smpl) => Verdict::Refused("there is no pair yet"),
        (Side::Primary, _) if own.fence.is_some() => Verdict::Refused("a swap is under way"),
        (Side::Primary, _) if own.overtaken => Verdict::Refused("the other side was taken over"),
        (Side::Primary, State::Copy | State::Pair) => Verdict::Accepted,
        (Side::Secondary, State::Copy | State::Pair) => Verdict::Forward,
        (_, State::Psus { writable: is }) if is == writable => Verdict::Already("the pair is split"),
        (_, State::Psus { .. }) => Verdict::Refused("the pair is split the other way: resync first"),
        (_, State::Psue) => Verdict::Already("the pair is suspended"),
        (_, State::Ssws) => Verdict::Already("the secondary was taken over"),
    }
}

fn resync(own: &Record, alone: bool, far: Option<&StatusPage>, discard: Option<Loser>) -> Verdict {
    const LOSES_HERE: &str =
        "this side has writes that the other lacks: say which side is to discard its own";
    const LOSES_THERE: &str =
        "the other side has writes that this one lacks: say which side is to discard its own";
    const NO_PRIMARY: &str = "neither side is the primary, as each was told to discard its own: take one over, by force if it must be";
    if own.state == State::Smpl {
        return Verdict::Refused("there is no pair yet");
    }
    if own.fence.is_some() {
        return Verdict::Refused("a swap is under way");
    }
    if let Some(far) = far.filter(|far| far.record.side == own.side && own.side == Side::Secondary) {
        match (own.state, far.record.state) {
            (State::Ssws, _) => {}
            (_, State::Ssws) => return Verdict::Forward,
            _ => return Verdict::Refused(NO_PRIMARY),
        }
    }
    if matches!(own.state, State::Copy | State::Pair) {
        // The other side has been written since the order that began this, and waits for somebody to say what is lost.
        let stuck = discard == Some(Loser::There) && waits_for_discard(own, far);
        return if stuck { Verdict::Accepted } else { Verdict::Already("the pair is not suspended") };
    }
    let Some(far) = far else { return Verdict::Unreachable("a resync needs the other array") };
    let theirs = &far.record;
    let loses_there = theirs.overtaken || (theirs.writable() && theirs.side == Side::Secondary);
    match (own.side, own.overtaken, own.state) {
        (Side::Primary, false, _) => match discard {
            Some(Loser::Here) => Verdict::Forward,
            None if loses_there && theirs.state == State::Ssws => Verdict::Refused(LOSES_THERE),
            None if loses_there && far.difference > 0 => Verdict::Refused(LOSES_THERE),
            _ => Verdict::Accepted,
        },
        // The other side was taken over: it becomes the primary, unless this side is to win.
        (Side::Primary, true, _) => match discard {
            Some(Loser::There) => Verdict::Accepted,
            None if alone => Verdict::Refused(LOSES_HERE),
            _ => Verdict::Forward,
        },
        (Side::Secondary, _, State::Ssws) => match discard {
            Some(Loser::Here) => Verdict::Forward,
            None if !theirs.overtaken => {
                Verdict::Refused("the other side does not know of the takeover yet: try again")
            }
            None if far.difference > 0 => Verdict::Refused(LOSES_THERE),
            _ => Verdict::Accepted,
        },
        (Side::Secondary, _, State::Psus { writable: true }) => match discard {
            Some(Loser::There) => Verdict::Refused("take the secondary over first, if it is to win"),
            None if alone => Verdict::Refused(LOSES_HERE),
            _ => Verdict::Forward,
        },
        (Side::Secondary, ..) => Verdict::Forward,
    }
}

/// Whether a primary's copy does not begin because the other side would give up what it alone has.
fn waits_for_discard(own: &Record, far: Option<&StatusPage>) -> bool {
    let Some((formation, far)) = own.formation.zip(far) else { return false };
    let follows = far.record.formation.is_some_and(|theirs| theirs.request == formation.request);
    let copies = own.side == Side::Primary && own.state == State::Copy;
    copies && !formation.discard && !follows && far.record.side == Side::Secondary && far.record.writable()
}

fn swap(own: &Record, far: Option<&StatusPage>) -> Verdict {
    match (own.side, own.state) {
        (Side::Secondary, State::Pair) => Verdict::Forward,
        (Side::Primary, State::Pair) if own.overtaken => Verdict::Refused("the other side was taken over"),
        (Side::Primary, State::Pair) => match far {
            None if own.fence.is_some() => Verdict::Accepted,
            None => Verdict::Unreachable("a swap needs the other array"),
            Some(far) if own.fence.is_none() && far.record.state != State::Pair => {
                Verdict::Refused("the secondary is not in PAIR")
            }
            Some(_) => Verdict::Accepted,
        },
        _ => Verdict::Refused("a swap needs a pair in PAIR"),
    }
}

fn cancel(own: &Record) -> Verdict {
    match (own.side, own.fence) {
        (Side::Primary, Some(_)) => Verdict::Accepted,
        (Side::Primary, None) => Verdict::Already("no swap is under way"),
        (Side::Secondary, _) if own.state == State::Pair => Verdict::Forward,
        (Side::Secondary, _) => Verdict::Already("no swap is under way"),
    }
}

fn takeover(own: &Record, force: bool) -> Verdict {
    match (own.side, own.state) {
        (_, State::Smpl) => Verdict::Refused("there is no pair"),
        (Side::Primary, _) if own.fence.is_some() || own.overtaken => match force {
            true => Verdict::Accepted,
            false => Verdict::Refused(
                "this primary is fenced: to serve here all the same, and part from the other side, force it",
            ),
        },
        (Side::Primary, _) => Verdict::Already("this side is the primary, and serves"),
        (Side::Secondary, State::Ssws) => Verdict::Already("this side was taken over before"),
        (Side::Secondary, _) if !own.consistent && !force => Verdict::Refused(
            "the copy is not complete, so the secondary is not consistent: force it if it must be",
        ),
        (Side::Secondary, _) => Verdict::Accepted,
    }
}

#[cfg(test)]
mod tests;
