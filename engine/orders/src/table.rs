//! The one table of orders. Decoding, rights, checks of parameters, help and the documentation follow from it.

use crate::parameters::Tag;
use crate::{Code, Parameters};

/// What somebody may order; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Look.
    Read,
    /// Run what is set up.
    Operate,
    /// Set up, and take away.
    Admin,
}

impl Right {
    /// As the configuration spells it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// What an order does to the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it may be given again at will, with any generation.
    Looks,
    /// A change: compare-and-set on the generation, kept for replays.
    Changes,
}

/// Whether a parameter must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Once.
    Must,
    /// Once or not.
    May,
    /// Any number of times.
    Any,
}

/// One order.
#[derive(Debug)]
pub struct Order {
    /// Its process number; never reused.
    pub number: u16,
    /// Its name.
    pub name: &'static str,
    /// What one must be allowed.
    pub right: Right,
    /// Whether it changes something.
    pub effect: Effect,
    /// Its parameters.
    pub parameters: &'static [(Tag, Need)],
    /// What it does, in one line.
    pub help: &'static str,
}

use Effect::{Changes, Looks};
use Need::{Any, May, Must};

macro_rules! order {
    ($number:literal $name:literal $right:ident $effect:ident [$($tag:ident $need:ident),*] $help:literal) => {
        Order {
            number: $number, name: $name, right: Right::$right, effect: $effect,
            parameters: &[$((Tag::$tag, $need)),*], help: $help,
        }
    };
}

/// Every order, by number.
pub static ORDERS: &[Order] = &[
    order!(1 "arrays" Read Looks [] "The array, and the peers that it knows."),
    order!(2 "volumes" Read Looks [] "All volumes."),
    order!(3 "luns" Read Looks [] "The LUN map."),
    order!(4 "tables" Read Looks [] "The command device table: array, LUN of its command device here."),
    order!(5 "stats" Read Looks [] "Counters and latencies."),
    order!(6 "continue" Read Looks [Request Must, Offset Must] "More of the edit data of an earlier order of the same host."),
    order!(16 "volume-create" Admin Changes
        [Name Must, SizeBytes Must, Pool May, Lun May, BlockBytes May, Cache May, ReadOnly May, Initiator Any]
        "Makes a volume in a declared pool; the only one where none is named."),
    order!(17 "volume-resize" Operate Changes [Volume Must, SizeBytes Must] "Makes a volume larger, within its pool."),
    order!(18 "volume-delete" Admin Changes [Volume Must, Force May] "Ends a volume made at run time; its data stay where they are."),
    order!(19 "volume-mask" Admin Changes [Volume Must, Initiator Must, Force May] "Takes a volume away from a listed initiator."),
    order!(20 "volume-unmask" Admin Changes [Volume Must, Initiator Must] "Shows a volume to a listed initiator."),
    order!(24 "lun-map-add" Admin Changes
        [Name Must, Peer Must, MappedLun Must, Lun May, Role May, Initiator Any]
        "Adds a virtual volume: a LUN of this array that is a LUN of a known peer."),
    order!(25 "lun-map-remove" Admin Changes [Volume Must, Force May] "Takes a virtual volume out of the LUN map."),
    order!(32 "pair-create" Operate Changes
        [Group Must, GroupId Must, Side Must, Peer Must, PeerId Must, Pair Any, Journal Must, PeerJournal Must,
         JournalBytes Must, Force May]
        "Makes a group of pairs at the target array; the other array gets the same order from its side."),
    order!(33 "pair-delete" Operate Changes [Group May, Force May] "Ends a group of pairs at the target array."),
    order!(34 "pair-split" Operate Changes [Group May, Writable May]
        "Suspends a group; done when the secondary has all that was written before."),
    order!(35 "pair-resync" Operate Changes [Group May, Discard May] "Resumes a group; copies the difference."),
    order!(36 "pair-swap" Operate Changes [Group May, DryRun May, Cancel May] "Exchanges the sides of a group."),
    order!(37 "pair-takeover" Operate Changes [Group May, DryRun May, Force May]
        "Makes the secondary side of a group writable."),
    order!(38 "pair-status" Read Looks [Group May] "States, positions and lag of groups."),
    order!(39 "pair-set" Operate Changes [Group May, Option Any]
        "Changes options of a group at the target array, which keeps them."),
    order!(48 "journal-status" Read Looks [Group May] "Positions and areas of a group's journals."),
    order!(49 "journal-acquire" Operate Changes [Group May, Position May]
        "Has the second array read its peer's journal up to a place, or all there is."),
    order!(50 "journal-restore" Operate Changes [Group May, Position May, TimeNanos May, Marker May]
        "Has the second array apply its journal up to a place, a time or a marker, or all that it has read."),
    order!(51 "journal-purge" Operate Changes [Group May, Position May]
        "Lets the first array free its journal up to a place, or all that the second one has."),
    order!(64 "marker" Operate Changes [Group May, Marker Must, Wait May] "Puts a name into the journal at this moment."),
];

impl Order {
    /// The order of a number.
    #[must_use]
    pub fn by_number(number: u16) -> Option<&'static Self> {
        ORDERS.iter().find(|order| order.number == number)
    }

    /// The order of a name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        ORDERS.iter().find(|order| order.name == name)
    }

    /// Whether it changes something.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.effect == Changes
    }

    /// Checks its parameters: none missing, none that is not its own.
    ///
    /// # Errors
    /// The code, and why in plain words.
    pub fn check(&self, parameters: &Parameters) -> Result<(), (Code, String)> {
        let wrong = |why: String| Err((Code::BadParameter, format!("{}: {why}", self.name)));
        for (tag, need) in self.parameters {
            let count = parameters.tags().filter(|known| known == tag).count();
            if *need == Must && count == 0 {
                return wrong(format!("{} is missing", tag.word()));
            }
            if *need != Any && count > 1 {
                return wrong(format!("{} is there {count} times", tag.word()));
            }
        }
        match parameters.tags().find(|tag| self.parameters.iter().all(|(known, _)| known != tag)) {
            Some(tag) => wrong(format!("it has no parameter {}", tag.word())),
            None => Ok(()),
        }
    }

    /// Its row of the table in `docs/formats.md`.
    #[must_use]
    pub fn row(&self) -> String {
        let mut parameters: Vec<String> = Vec::new();
        for (tag, need) in self.parameters {
            parameters.push(match need {
                Must => tag.word().to_owned(),
                May => format!("[{}]", tag.word()),
                Any => format!("[{}]...", tag.word()),
            });
        }
        let effect = if self.is_change() { "changes" } else { "looks" };
        let parameters = if parameters.is_empty() { "none".to_owned() } else { parameters.join(", ") };
        let Self { number, name, right, help, .. } = self;
        format!("| {number} | `{name}` | {} | {effect} | {parameters} | {help} |", right.word())
    }
}
