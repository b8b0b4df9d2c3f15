//! On which core a connection should live: the rules, and what they look at. Pure, but for the words that
//! cores tell each other their load by; the move itself is in [`moving`](crate::moving).
//!
//! Run to completion is the normal case: a connection belongs to the core of the LUN that it uses, where no
//! queue is crossed. Two rules:
//!
//! - **Home**: when more than three quarters of a window of commands went to one other core, the connection
//!   goes there, provided that the other core is calm, or serves no more active connections than this one. So
//!   connections that lie crosswise change places on a busy array, and many connections of one hot LUN do
//!   not all end on one core while others are idle.
//! - **Relief**: a core that is full gives a connection to one that is calm, although its commands cross a
//!   queue then: a queue costs less than a core that is not used.
//!
//! Between two moves of a connection lies a pause, twice as long after each move that had to be given up.

use kagami_types::{CoreId, Time};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// When connections move from core to core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovePlan {
    /// Commands of a connection after which it is decided where it belongs; 0: connections stay where they are.
    pub window: u32,
    /// How long a connection stays where it came to, at least.
    pub pause: Duration,
    /// How long a connection may take to fall quiet before its move is given up: hosts do not wait longer
    /// for a move than that.
    pub drain: Duration,
    /// Below that share of its time, in thousandths, a core is calm.
    pub calm: u32,
    /// From that share on it is full.
    pub full: u32,
}

impl Default for MovePlan {
    fn default() -> Self {
        Self {
            window: 1024,
            pause: Duration::from_secs(1),
            drain: Duration::from_millis(20),
            calm: 500,
            full: 900,
        }
    }
}

/// The longest pause: so many times that of the plan.
const LONGEST_PAUSE: u32 = 64;

/// How busy a core is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// The share of its time that work took lately, in thousandths.
    pub(crate) busy: u32,
    /// Connections that had commands lately.
    pub(crate) active: u32,
}

/// The home rule: whether a connection may follow its commands from the core `here` to the core `there`. One that
/// was given away returns only where its home would have room for it, or it would go to and fro.
pub(crate) fn may_go_home(plan: &MovePlan, here: Load, there: Load, given_away: bool) -> bool {
    let share = here.busy / here.active.max(1);
    match given_away {
        true => there.busy < plan.calm && there.busy + share < plan.full / 4 * 3,
        false => there.busy < plan.calm || there.active <= here.active,
    }
}

/// The relief rule: to which of the cores one that has the load `here` gives a connection.
pub(crate) fn relief(
    plan: &MovePlan,
    here: Load,
    others: impl Iterator<Item = (CoreId, Load)>,
) -> Option<CoreId> {
    if here.busy < plan.full || here.active < 2 {
        return None;
    }
    others.filter(|(_, load)| load.busy < plan.calm).min_by_key(|(_, load)| load.busy).map(|(core, _)| core)
}

/// Which of a full core's connections goes, by how many commands each had lately: the busiest that does no
/// more than half of the core's work, so that the load does not just change places.
pub(crate) fn choose(commands: impl Iterator<Item = (u32, u32)> + Clone) -> Option<u32> {
    let total: u64 = commands.clone().map(|(_, count)| u64::from(count)).sum();
    let fits = commands.filter(|&(_, count)| count > 0 && u64::from(count) * 2 <= total);
    fits.max_by_key(|&(_, count)| count).map(|(index, _)| index)
}

/// What the cores tell each other: a line of memory each, written a few times a second and when a connection comes or goes.
#[derive(Debug)]
pub(crate) struct Loads {
    cores: Box<[CoreLoad]>,
}

/// One core's line; 128 bytes, as processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CoreLoad {
    busy: AtomicU32,
    active: AtomicU32,
    /// Places that are taken, or promised to connections on their way.
    places: AtomicU32,
}

impl Loads {
    pub(crate) fn new(cores: usize) -> Self {
        Self { cores: (0..cores).map(|_| CoreLoad::default()).collect() }
    }

    /// How busy a core was when it last said so. A guess serves: nothing is ordered by it.
    pub(crate) fn of(&self, core: CoreId) -> Load {
        self.cores.get(core.index()).map_or_else(Load::default, |load| Load {
            busy: load.busy.load(Ordering::Relaxed),
            active: load.active.load(Ordering::Relaxed),
        })
    }

    /// A core says how busy it is.
    pub(crate) fn tell(&self, core: CoreId, load: Load) {
        if let Some(line) = self.cores.get(core.index()) {
            line.busy.store(load.busy, Ordering::Relaxed);
            line.active.store(load.active, Ordering::Relaxed);
        }
    }

    /// An active connection is going to another core: known to all before the cores say so themselves, so that
    /// not all of them send theirs to the same one.
    pub(crate) fn shift(&self, from: CoreId, to: CoreId) {
        if let Some(line) = self.cores.get(from.index()) {
            let less = |active: u32| active.checked_sub(1);
            let _ = line.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        if let Some(line) = self.cores.get(to.index()) {
            line.active.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one of a core's places for connections, where one is left of `most`.
    #[must_use]
    pub(crate) fn reserve(&self, core: CoreId, most: u32) -> bool {
        let more = |places: u32| (places < most).then_some(places + 1);
        self.cores
            .get(core.index())
            .is_some_and(|line| line.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok())
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, core: CoreId) {
        if let Some(line) = self.cores.get(core.index()) {
            line.places.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Where a connection's commands go, over a window of them.
///
/// The first look finds the only core that can have a majority (Boyer and Moore's vote), the next
/// window counts how many really went there.
#[derive(Debug)]
pub(crate) struct Tally {
    window: u32,
    seen: u32,
    counted: CoreId,
    hits: u32,
    vote: CoreId,
    votes: u32,
}

impl Tally {
    pub(crate) fn new(window: u32) -> Self {
        Self { window, seen: 0, counted: CoreId(u16::MAX), hits: 0, vote: CoreId(u16::MAX), votes: 0 }
    }

    /// A command goes to that core. At the end of a window: the core that more than three quarters went to.
    #[inline]
    pub(crate) fn count(&mut self, core: CoreId) -> Option<CoreId> {
        if self.window == 0 {
            return None;
        }
        self.seen += 1;
        self.hits += u32::from(core == self.counted);
        if core == self.vote {
            self.votes += 1;
        } else if self.votes == 0 {
            (self.vote, self.votes) = (core, 1);
        } else {
            self.votes -= 1;
        }
        if self.seen == self.window { self.close() } else { None }
    }

    #[cold]
    fn close(&mut self) -> Option<CoreId> {
        let found = (u64::from(self.hits) * 4 > u64::from(self.window) * 3).then_some(self.counted);
        *self = Self { counted: self.vote, ..Self::new(self.window) };
        found
    }
}

/// What a connection knows about its place.
#[derive(Debug)]
pub(crate) struct Place {
    tally: Tally,
    /// Where it is to go, as soon as that can be.
    pub(crate) wish: Option<Wish>,
    /// It is being moved: no new command is begun.
    pub(crate) hold: Option<Hold>,
    /// Commands since the core last looked.
    pub(crate) recent: u32,
    /// It is here by the relief rule.
    pub(crate) given_away: bool,
    not_before: Time,
    pause: u32,
}

/// Where a connection is to go, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) to: CoreId,
    pub(crate) relief: bool,
}

/// A move under way: the connection falls quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) to: CoreId,
    pub(crate) relief: bool,
    pub(crate) since: Time,
}

impl Place {
    pub(crate) fn new(plan: &MovePlan) -> Self {
        Self {
            tally: Tally::new(plan.window),
            wish: None,
            hold: None,
            recent: 0,
            given_away: false,
            not_before: Time(0),
            pause: 1,
        }
    }

    /// A command of the connection, which lives on `here`, goes to the core `home`.
    #[inline]
    pub(crate) fn count(&mut self, home: CoreId, here: CoreId) {
        self.recent = self.recent.wrapping_add(1);
        if let Some(to) = self.tally.count(home) {
            self.wish = (to != here).then_some(Wish { to, relief: false });
        }
    }

    /// Whether it has stayed where it is for long enough.
    pub(crate) fn may_move(&self, now: Time) -> bool {
        now >= self.not_before
    }

    /// It came to another core.
    pub(crate) fn arrived(&mut self, plan: &MovePlan, now: Time) {
        let given_away = self.hold.is_some_and(|hold| hold.relief);
        *self = Self { not_before: now + plan.pause, given_away, ..Self::new(plan) };
    }

    /// It did not fall quiet in time.
    pub(crate) fn gave_up(&mut self, plan: &MovePlan, now: Time) {
        (self.wish, self.hold) = (None, None);
        self.not_before = now + plan.pause * self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: MovePlan = MovePlan {
        window: 8,
        pause: Duration::from_secs(1),
        drain: Duration::from_millis(20),
        calm: 500,
        full: 900,
    };

    fn load(busy: u32, active: u32) -> Load {
        Load { busy, active }
    }

    #[test]
    fn a_connection_follows_its_commands_to_a_calm_core() {
        assert!(may_go_home(&PLAN, load(100, 1), load(499, 40), false));
        assert!(!may_go_home(&PLAN, load(100, 1), load(500, 40), false));
    }

    #[test]
    fn on_busy_cores_connections_change_places_and_none_gathers_all() {
        // Four of each core lie wrongly: all of them come home, one after the other.
        let (mut a, mut b) = (load(1000, 4), load(1000, 4));
        for _ in 0..4 {
            assert!(may_go_home(&PLAN, a, b, false));
            (a.active, b.active) = (a.active - 1, b.active + 1);
            assert!(may_go_home(&PLAN, b, a, false));
            (a.active, b.active) = (a.active + 1, b.active - 1);
        }
        // Eight of one hot LUN: one more there than here, and no further.
        let (mut here, mut home) = (load(900, 4), load(1000, 4));
        while may_go_home(&PLAN, here, home, false) {
            (here.active, home.active) = (here.active - 1, home.active + 1);
        }
        assert_eq!((here.active, home.active), (3, 5));
    }

    #[test]
    fn a_full_core_gives_to_the_calmest() {
        let others = [(CoreId(0), load(600, 1)), (CoreId(2), load(300, 1)), (CoreId(3), load(100, 9))];
        let ask = |here| relief(&PLAN, here, others.into_iter());
        assert_eq!(ask(load(950, 4)), Some(CoreId(3)));
        assert_eq!(ask(load(899, 4)), None);
        assert_eq!(ask(load(1000, 1)), None, "a single connection gains nothing");
        assert_eq!(relief(&PLAN, load(950, 4), others.into_iter().take(1)), None);
        // What was given away does not come back while the core it left is not calm.
        assert!(!may_go_home(&PLAN, load(450, 1), load(950, 1), true));
        // Nor where it would only be full again.
        assert!(!may_go_home(&PLAN, load(450, 1), load(450, 1), true));
        assert!(may_go_home(&PLAN, load(450, 1), load(200, 1), true));
    }

    #[test]
    fn not_the_whole_load_changes_places() {
        let of = |commands: &[(u32, u32)]| choose(commands.iter().copied());
        assert_eq!(of(&[(1, 100), (2, 60), (3, 70), (4, 0)]), Some(1));
        assert_eq!(of(&[(1, 1000), (2, 60), (3, 70)]), Some(3));
        assert_eq!(of(&[(1, 1000)]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(7, 50), (8, 50)]), Some(8));
    }

    /// Counts commands to these cores; what was found at the ends of the windows.
    fn windows(cores: impl Iterator<Item = u16>) -> Vec<u16> {
        let mut tally = Tally::new(8);
        cores.filter_map(|core| tally.count(CoreId(core))).map(|core| core.0).collect()
    }

    #[test]
    fn a_majority_is_found_in_the_second_window() {
        assert_eq!(windows([1; 24].into_iter()), [1, 1]);
        // Seven of eight are more than three quarters, six are not.
        let seven = |n: u16| if n % 8 == 3 { 0 } else { 1 };
        assert_eq!(windows((0..24).map(seven)), [1, 1]);
        let six = |n: u16| if n % 4 == 3 { 0 } else { 1 };
        assert_eq!(windows((0..80).map(six)), [0u16; 0]);
        assert_eq!(windows((0..80).map(|n| n % 3)), [0u16; 0]);
        // It follows a change within two windows.
        assert_eq!(windows([1; 16].into_iter().chain([2; 16])), [1, 2]);
    }

    #[test]
    fn a_window_of_none_never_ends() {
        let mut tally = Tally::new(0);
        assert!((0..10_000).all(|_| tally.count(CoreId(1)).is_none()));
    }

    #[test]
    fn moves_lie_apart_and_further_after_each_that_was_given_up() {
        let mut place = Place::new(&PLAN);
        let second = Duration::from_secs(1);
        (0..16).for_each(|_| place.count(CoreId(1), CoreId(0)));
        assert_eq!(place.wish, Some(Wish { to: CoreId(1), relief: false }));
        assert!(place.may_move(Time(0)));
        let mut now = Time(0);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            place.gave_up(&PLAN, now);
            assert!(!place.may_move(Time(now.0 + 1_000_000_000 * u64::from(seconds) - 1)));
            now = now + second * seconds;
            assert!(place.may_move(now) && place.wish.is_none());
        }
        place.arrived(&PLAN, now);
        assert!(!place.may_move(now) && place.may_move(now + second));
        // At home it has no wish.
        (0..16).for_each(|_| place.count(CoreId(1), CoreId(1)));
        assert_eq!(place.wish, None);
    }

    #[test]
    fn places_are_bounded_and_lines_are_not_shared() {
        let loads = Loads::new(2);
        assert!(loads.reserve(CoreId(1), 2) && loads.reserve(CoreId(1), 2));
        assert!(!loads.reserve(CoreId(1), 2) && !loads.reserve(CoreId(7), 2));
        loads.leave(CoreId(1));
        assert!(loads.reserve(CoreId(1), 2));
        loads.tell(CoreId(0), load(7, 1));
        loads.shift(CoreId(0), CoreId(1));
        loads.shift(CoreId(0), CoreId(1));
        assert_eq!((loads.of(CoreId(0)), loads.of(CoreId(1))), (load(7, 0), load(0, 2)));
        assert_eq!(align_of::<CoreLoad>(), 128);
    }
}
