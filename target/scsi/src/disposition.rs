//! What the device server is given beside the CDB, and what it answers.

use crate::nexus::NexusId;
use crate::sense::{Sense, Status};
use kagami_types::BlockOp;

/// The data that comes with a command from the initiator.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataOut<'a> {
    /// The parameter list, for commands that take one ([`Transfer::gather`](crate::Transfer::gather)
    /// says how long); empty for all others.
    pub parameters: &'a [u8],
    /// How many bytes the initiator is ready to send: the Expected Data Transfer Length of a
    /// write (RFC 7143 11.3.4). Block data shorter than the CDB asks for are cut to whole
    /// blocks or refused, as each command needs.
    pub offered: u64,
}

impl<'a> DataOut<'a> {
    /// No data.
    pub const NONE: Self = Self { parameters: &[], offered: 0 };

    /// A parameter list, complete as far as the initiator sent it.
    #[must_use]
    pub fn parameters(parameters: &'a [u8]) -> Self {
        Self { parameters, offered: u64::try_from(parameters.len()).unwrap_or(u64::MAX) }
    }

    /// That many bytes of block data, held elsewhere.
    #[must_use]
    pub fn blocks(offered: u64) -> Self {
        Self { parameters: &[], offered }
    }
}

/// What to do with a command.
#[derive(Debug, PartialEq)]
pub enum Disposition {
    /// Done: status GOOD, no data.
    Good,
    /// Done: status GOOD, the parameter data are in `out`, cut to the allocation length.
    DataIn,
    /// CHECK CONDITION with this sense data ([`LogicalUnit::encode`](crate::LogicalUnit::encode)).
    Check(Sense),
    /// This status without sense data.
    Status(Status),
    /// Run this on the volume; GOOD when it is done, [`LogicalUnit::failed`](crate::LogicalUnit::failed)
    /// says what otherwise. After an `LbaStatus`:
    /// [`LogicalUnit::finish_lba_status`](crate::LogicalUnit::finish_lba_status).
    Block(BlockOp),
    /// IMMED was set: GOOD now, and run this on the volume afterwards. An error of it reaches no
    /// initiator: the caller logs it.
    Background(BlockOp),
    /// REPORT LUNS: the caller knows the LUNs; [`report_luns`](crate::report_luns) writes them.
    ReportLuns(ReportLuns),
    /// GOOD after all of these are done.
    Deferred(Box<Deferred>),
}

impl From<Result<Self, Sense>> for Disposition {
    fn from(result: Result<Self, Sense>) -> Self {
        result.unwrap_or_else(Self::Check)
    }
}

/// What REPORT LUNS asked for (SPC-5 6.33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportLuns {
    /// Only well known logical units, of which there are none: the list is empty.
    pub well_known_only: bool,
    /// The allocation length in bytes.
    pub allocation: u32,
}

/// Things to do, in any order, before a command that changed the logical unit's state ends
/// with GOOD.
///
/// The state in memory has changed already. Where something fails, the command ends with
/// [`LogicalUnit::failed`](crate::LogicalUnit::failed) and the initiator knows that the
/// change may not outlive a restart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Deferred {
    /// The logical unit's state, to be made stable in place of what was stored before
    /// ([`LogicalUnit::restore`](crate::LogicalUnit::restore) reads it). Not protected by a
    /// checksum: whoever stores it adds one.
    pub persist: Option<Vec<u8>>,
    /// PREEMPT AND ABORT: all tasks of these nexuses on this logical unit are to be aborted.
    pub abort: Vec<NexusId>,
    /// The write cache was turned off: all data are to be stable first.
    pub flush: bool,
}

/// How a command ends whose block operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// CHECK CONDITION with this sense data.
    Check(Sense),
    /// This status without sense data.
    Status(Status),
}
