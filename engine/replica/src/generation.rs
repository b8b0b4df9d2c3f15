//! Generations: which history a side's data belong to (array.md 4).
//!
//! A generation is a random number with those it came from, the nearest first. A new one is made whenever a side begins to
//! write alone. Two sides compare theirs and know who may be copied over whom. Used by the record and the page; makes no
//! decision itself.

use std::collections::VecDeque;

/// How many ancestors are kept. A side that is further behind counts as of another history: an operator has to decide.
pub const ANCESTORS: usize = 16;

/// One side's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// This one; zero: none yet.
    pub id: u128,
    /// Those before, the nearest first; at most [`ANCESTORS`].
    pub ancestors: VecDeque<u128>,
}

/// What one history is to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// The same.
    Equal,
    /// The first came before the second: the second has all of the first, and more.
    Ancestor,
    /// The first came after the second.
    Descendant,
    /// Neither knows the other: both have been written alone.
    Neither,
}

impl Generation {
    /// The first of a history.
    #[must_use]
    pub fn first(id: u128) -> Self {
        Self { id, ancestors: VecDeque::new() }
    }

    /// One that begins where this one is.
    #[must_use]
    pub fn child(&self, id: u128) -> Self {
        let mut ancestors = self.ancestors.clone();
        if self.id != 0 {
            ancestors.push_front(self.id);
        }
        ancestors.truncate(ANCESTORS);
        Self { id, ancestors }
    }

    /// What this one is to another.
    #[must_use]
    pub fn relation(&self, other: &Self) -> Relation {
        if self.id == other.id {
            Relation::Equal
        } else if self.id != 0 && other.ancestors.contains(&self.id) {
            Relation::Ancestor
        } else if other.id != 0 && self.ancestors.contains(&other.id) {
            Relation::Descendant
        } else {
            Relation::Neither
        }
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_child_descends_and_siblings_do_not_know_each_other() {
        let first = Generation::first(1);
        let left = first.child(2);
        let right = first.child(3);
        assert_eq!(first.relation(&first), Relation::Equal);
        assert_eq!(first.relation(&left), Relation::Ancestor);
        assert_eq!(left.relation(&first), Relation::Descendant);
        assert_eq!(left.relation(&right), Relation::Neither);
        assert_eq!(left.child(4).relation(&first), Relation::Descendant);
    }

    #[test]
    fn none_is_not_an_ancestor() {
        let none = Generation::default();
        assert_eq!(none.relation(&Generation::first(1)), Relation::Neither);
        assert!(none.child(1).ancestors.is_empty());
    }

    proptest! {
        #[test]
        fn the_list_is_bounded_and_the_relation_is_mirrored(steps in 0usize..40) {
            let first = Generation::first(1);
            let mut last = first.clone();
            for id in 0..steps {
                last = last.child(id as u128 + 2);
                prop_assert!(last.ancestors.len() <= ANCESTORS);
            }
            let forward = first.relation(&last);
            let backward = last.relation(&first);
            let expected = match steps {
                0 => (Relation::Equal, Relation::Equal),
                1..=ANCESTORS => (Relation::Ancestor, Relation::Descendant),
                _ => (Relation::Neither, Relation::Neither),
            };
            prop_assert_eq!((forward, backward), expected);
        }
    }
}
