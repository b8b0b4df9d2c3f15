//! Replication without I/O: groups of paired volumes.
//!
//! Two machines, each owned by one core. A [`Front`](mail) stands before a paired volume, at the volume's home core: it
//! gives host writes their sequence, holds them until the group says that they may go on, and refuses what the group's
//! state refuses. A `Group` lives at the home core of its journal: it writes the journal, speaks with the other array,
//! copies, restores, and changes state. They talk by [`mail`] only, which crosses cores where it has to. All that a group
//! wants done is an [`Action`](action::Action); what became of it comes back under the action's tag.
//!
//! Decision 0020 says why, and what is on disk after a crash at each point.
#![forbid(unsafe_code)]

pub mod action;
mod context;
mod front;
mod generation;
mod group;
mod level;
mod machine;
pub mod mail;
mod order;
mod page;
mod record;
mod report;
mod sink;
mod source;
mod wire;

pub use context::{Actions, Context, Owner};
pub use front::{Front, FrontPlan, Step};
pub use generation::{Generation, Relation};
pub use group::{Group, GroupPlan, Options, Overflow, PeerRead, PlannedVolume, VOLUMES, least_journal};
pub use level::Thresholds;
pub use machine::{Decision, Verdict, accept, decide};
pub use order::{Loser, NAME, Order, RestoreTo};
pub use page::{PAGE, PageAnswer, PageError, PageOrder, READER_PAGE_AT, Reading, Serial, StatusPage};
pub use record::{Fence, Formation, Record, RecordError, Side, State, Takeover};
pub use report::{Bottleneck, Positions, Report};
pub use sink::{
    Drive, FarView, Limit, Pace, Places, Sink, SinkEvent, SinkFigures, SinkOptions, SinkPlan, SinkVolume,
    Stage, Trouble,
};
pub use source::{Company, Confirmed, Source, SourceEvent, SourceFigures, SourcePlan, SourceVolume};
