//! Commands on their way in, and how they end.

use kagami_iscsi::pdu::TaskAttribute;
use kagami_memory::Scatter;

/// The blocks that a command changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Blocks {
    /// All there are: for commands whose blocks stand in their parameters.
    pub const ALL: Self = Self { first: 0, count: u64::MAX };

    /// Whether they have one in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let end = |blocks: &Self| blocks.first.saturating_add(blocks.count);
        self.first < end(other) && other.first < end(self)
    }
}

/// A command for the far unit.
#[derive(Debug)]
pub struct Request<T> {
    /// Whose it is; comes back with its end.
    pub owner: T,
    /// The CDB, which is passed on as it is.
    pub cdb: [u8; 16],
    /// How it is ordered among others.
    pub attribute: TaskAttribute,
    /// It may be sent again where it is not known whether it was executed.
    pub repeatable: bool,
    /// What it reads or changes, for ordering; `None`: no blocks.
    pub blocks: Option<Blocks>,
    /// It changes them.
    pub writes: bool,
    /// The data that goes with it.
    pub out: Scatter,
    /// The most bytes that come back.
    pub expects: u32,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The far array's own status, with its sense data where it has some.
    Status(u8, Option<Box<[u8]>>),
    /// The far array could not be reached, or did not answer, within the time-out.
    Unreachable,
    /// The link was lost, and it is not known what became of the command, which must not be
    /// repeated.
    Lost,
    /// It was aborted, as asked for.
    Aborted,
}

/// The end of a command.
#[derive(Debug)]
pub struct Done<T> {
    /// Whose.
    pub owner: T,
    /// Its place in the order of arrival; see [`Link::newest`](crate::Link::newest).
    pub number: u64,
    /// How.
    pub outcome: Outcome,
    /// What it returned.
    pub data: Scatter,
    /// How many bytes it wanted to move, as the far array says: for the residual.
    pub wanted: u64,
}

/// Why a command is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There has been no link for longer than the time-out.
    Down,
    /// All slots are taken, or the link's share of pages is.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_overlap_where_they_share_one() {
        let blocks = |first, count| Blocks { first, count };
        assert!(blocks(0, 8).overlaps(&blocks(7, 1)));
        assert!(!blocks(0, 8).overlaps(&blocks(8, 8)));
        assert!(!blocks(5, 0).overlaps(&blocks(5, 0)), "no blocks, none shared");
        assert!(blocks(u64::MAX - 1, 9).overlaps(&Blocks::ALL));
        assert!(Blocks::ALL.overlaps(&blocks(77, 1)));
    }
}
