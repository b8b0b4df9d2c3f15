//! What stands before the store of a paired volume.
use crate::mail::{Mode, ToFront, ToGroup, VolumeIndex};
use kagami_memory::Scatter;
use kagami_types::{BlockCount, BlockError, BlockOp, BlockSize, LbaStatus, Time};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a front is made of.
#[derive(Clone, Debug)]
pub struct FrontPlan {
    /// The volume's number in its group.
    pub index: VolumeIndex,
    /// The volume's block size.
    pub block_size: BlockSize,
    /// The volume's blocks.
    pub blocks: BlockCount,
    /// The group's counter: the sequence that was taken last; the next one is one more.
    pub sequencer: Arc<AtomicU64>,
    /// Operations of hosts under way at most; more are `Busy`.
    pub slots: u16,
}

/// What a front wants done, in order.
#[derive(Debug)]
pub enum Step {
    /// To the volume's store. The result comes to [`Front::on_store`].
    Store {
        /// Comes back. Its top 16 bits are all set.
        tag: u64,
        /// What.
        op: BlockOp,
        /// Its data.
        data: Scatter,
    },
    /// A host's operation has ended.
    Done {
        /// The host's tag, from [`Front::submit`].
        tag: u64,
        /// How.
        result: Result<(), BlockError>,
        /// What was read; else only storage.
        data: Scatter,
        /// After GET LBA STATUS.
        status: Vec<LbaStatus>,
    },
    /// To the group.
    Mail(ToGroup),
    /// The store is to abort that operation; its outcome still comes.
    AbortStore(u64),
}

/// The front of a volume.
#[derive(Debug)]
pub struct Front {
    plan: FrontPlan,
    mode: Mode,
    steps: VecDeque<Step>,
}

impl Front {
    /// A front in [`Mode::NotReady`].
    #[must_use]
    pub fn new(plan: FrontPlan) -> Self {
        Self { plan, mode: Mode::NotReady, steps: VecDeque::new() }
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the operation may go straight to the store under the host's own tag (reads, where nothing hinders).
    #[must_use]
    pub fn passes(&self, _op: &BlockOp) -> bool {
        false
    }

    /// An operation of a host. It ends with one [`Step::Done`].
    pub fn submit(&mut self, _now: Time, tag: u64, _op: BlockOp, data: Scatter) {
        let result = Err(BlockError::BecomingReady);
        self.steps.push_back(Step::Done { tag, result, data, status: Vec::new() });
    }

    /// Mail from the group.
    pub fn on_mail(&mut self, _now: Time, mail: ToFront) {
        if let ToFront::Mode { ticket, mode } = mail {
            self.mode = mode;
            self.steps.push_back(Step::Mail(ToGroup::ModeHolds { ticket }));
        }
    }

    /// An operation of [`Step::Store`] has ended.
    pub fn on_store(
        &mut self,
        _now: Time,
        _tag: u64,
        _result: Result<(), BlockError>,
        _data: Scatter,
        _status: Vec<LbaStatus>,
    ) {
    }

    /// A host's operation is to be aborted. Whether it was found: then its [`Step::Done`] still comes.
    pub fn abort(&mut self, _tag: u64) -> bool {
        false
    }

    /// Host operations that went to the store before there was a front are still under way: no mode holds before
    /// [`Self::outside_ended`].
    pub fn wait_for_outside(&mut self) {}

    /// They have ended.
    pub fn outside_ended(&mut self) {}

    /// The volume has grown.
    pub fn grow(&mut self, blocks: BlockCount) {
        self.plan.blocks = self.plan.blocks.max(blocks);
    }

    /// Nothing of hosts or of the group is under way or waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Time has passed.
    pub fn on_tick(&mut self, _now: Time) {}

    /// When [`Self::on_tick`] is next needed.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        Time::NEVER
    }

    /// What it wants done next. To be asked after every call, until there is nothing.
    pub fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }
}
