//! What happened, counted over all seeds: a simulator that never cuts a connection in the middle
//! of a write proves nothing about that, and only a counter shows it.
//!
//! The world and its hosts count as they go; the test runner adds the runs together, prints the
//! table and fails where a counter that must be reached was not.

use std::fmt;

macro_rules! happenings {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Something worth counting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Happening { $($(#[$doc])* $name,)* }

        impl Happening {
            /// All of them, in the order in which they are printed.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What it is called in the table.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }
        }
    };
}

happenings! {
    /// A send took fewer bytes than it was given.
    ShortSend = "net: short send",
    /// A send found no room and waited.
    SendBlocked = "net: send waited for room",
    /// A segment ended in the middle of a header of 48 bytes or any other odd place.
    SmallSegment = "net: segment below 48 bytes",
    /// A connection was reset.
    Reset = "net: reset",
    /// One direction of a connection ended.
    HalfClose = "net: half-close",
    /// A connection went silent.
    Silence = "net: silent connection",
    /// A bit was flipped on the way.
    BitFlip = "net: bit flipped on the way",
    /// A connection attempt found nobody.
    Refused = "net: connection refused",
    /// A read or write of a disk moved fewer bytes than were asked for.
    ShortDiskIo = "disk: short transfer",
    /// A disk answered with an error.
    DiskError = "disk: error",
    /// A disk had no space.
    NoSpace = "disk: no space",
    /// A disk was gone for a while.
    DiskGone = "disk: gone",
    /// A disk was pulled out of the machine.
    Pulled = "disk: pulled out",
    /// A volume's cache held what its device had not, when that was pulled out.
    PulledDirty = "disk: pulled out under dirty pages",
    /// A disk that was pulled out lost its power.
    PulledDark = "disk: pulled out, without power",
    /// A disk that was pulled out lost what it had not made stable.
    PulledLost = "disk: pulled out, writes lost",
    /// A flush failed since the device lost what it was to make stable.
    FlushOfLost = "host: flush refused for what was lost",
    /// The same, of a volume that is spread over cores.
    FlushOfLostSpread = "host: flush refused for what was lost, of a spread volume",
    /// TEST UNIT READY said NOT READY while the device was gone.
    NotReady = "host: NOT READY while the device is gone",
    /// A unit attention told that the device is back.
    ReturnTold = "host: told that the device is back",
    /// And then TEST UNIT READY ended with GOOD.
    ReadyAgain = "host: ready again after its device was gone",
    /// The array went on with a disk that was put back.
    WentOn = "disk: put back, its volume went on",
    /// An operation completed many seconds late.
    Hang = "disk: hang with late completion",
    /// A flush made data stable.
    Flush = "disk: flush",
    /// A write was stable with its completion.
    StableWrite = "disk: stable write",
    /// A deallocation.
    Discard = "disk: discard",
    /// A disk refused to deallocate or zero.
    Unsupported = "disk: operation not supported",
    /// A disk claimed a flush that it did not do.
    Lie = "disk: lied about a flush",
    /// A disk dropped a write that it acknowledged.
    DroppedWrite = "disk: dropped a write",
    /// A disk wrote to another place.
    Misdirected = "disk: misdirected a write",
    /// A disk read from another place.
    Misread = "disk: misdirected a read",
    /// A disk never completed an operation.
    Forgotten = "disk: forgot an operation",
    /// A disk got a flush while writes were under way.
    FlushRacesWrites = "disk: flush beside writes",
    /// A disk got a read of sectors that were being written.
    ReadBesideWrite = "disk: read beside a write",
    /// A disk got an operation with others under way.
    Parallel = "disk: several operations at once",
    /// Operations of a disk completed in another order than they came in.
    OutOfOrder = "disk: completed out of order",
    /// An operation completed after the array had given it up.
    LateCompletion = "disk: completion after the time-out",
    /// A bit of a disk rotted.
    BitRot = "disk: bit rot",
    /// No more operations could be in flight.
    RingFull = "core: submission refused",
    /// A core did not run for a while.
    Stall = "core: stalled",
    /// A command or its answer went from one core to another.
    Crossed = "core: messages between cores",
    /// A part of a command was done on another core than its volume's home.
    Part = "core: part of a command elsewhere",
    /// A connection went from one core to another.
    Moved = "core: connection moved to another",
    /// A connection did not fall quiet in time, and stayed.
    MoveGivenUp = "core: move of a busy connection given up",
    /// A connection joined the session of a link.
    LinkJoined = "link: connection joined",
    /// A link was lost while it served.
    LinkLost = "link: lost",
    /// A command was sent again after a loss.
    LinkRepeated = "link: command repeated",
    /// A read found everything in the cache.
    CacheHit = "cache: read hit",
    /// A read found a part of it in the cache.
    CachePartial = "cache: read hit in part",
    /// A read found nothing in the cache.
    CacheMiss = "cache: read miss",
    /// A device read for the cache.
    CacheFill = "cache: fill",
    /// More fills than the cache has pages: so many pages at least have been evicted.
    CacheEviction = "cache: eviction",
    /// A page was read ahead.
    ReadAhead = "cache: page read ahead",
    /// A page that was read ahead was read.
    ReadAheadUsed = "cache: page read ahead and used",
    /// A device write of destage.
    Destage = "cache: destage",
    /// A device write of destage failed.
    DestageError = "cache: destage failed",
    /// A write waited for destage.
    Throttled = "cache: write throttled",
    /// A write was sent while destage was writing some of the same blocks.
    OverwriteDestage = "cache: overwrite during destage",
    /// A crash while a cache held data that no disk had.
    CrashDirty = "cache: crash with dirty pages",
    /// A core slept.
    Sleep = "core: slept",
    /// Another core woke a sleeping one.
    Wake = "core: woken by another",
    /// The array's process ended at once, its devices kept what they had.
    ProcessCrash = "crash: process",
    /// Everything lost power.
    PowerCrash = "crash: power",
    /// The array stopped in good order and started again.
    OrderlyStop = "crash: none, orderly stop",
    /// A crash while the disk held data that was not stable.
    CrashUnflushed = "crash: unflushed data on the disk",
    /// A write that was not stable was lost.
    LostWrite = "crash: unflushed write lost",
    /// A write that was not stable was kept.
    KeptWrite = "crash: unflushed write kept",
    /// A write in flight or not stable was there in part.
    TornWrite = "crash: write torn",
    /// A write was kept although an earlier one was lost.
    Reordered = "crash: later write kept, earlier one lost",
    /// A crash while the disk had a write under way.
    CrashInWrite = "crash: write under way on the disk",
    /// A crash while the disk had a flush under way.
    CrashInFlush = "crash: flush under way on the disk",
    /// A crash that came with an operation.
    CrashAtIo = "crash: with an operation",
    /// Not the first crash of its run.
    CrashAgain = "crash: one more in the same run",
    /// A crash while hosts had commands open.
    CrashOpenCommands = "crash: commands open",
    /// A host logged in to a new session.
    Login = "host: login",
    /// A host joined a further connection to its session.
    SecondConnection = "host: connection added to a session",
    /// A host took over its own old session.
    Reinstatement = "host: session reinstated",
    /// A login was refused or ended early.
    LoginFailed = "host: login failed",
    /// A connection ended while it logged in.
    CutInLogin = "host: cut in login",
    /// A connection ended while data of a write were on their way.
    CutInDataOut = "host: cut in data-out",
    /// A connection ended while an R2T was being answered or awaited.
    CutInR2t = "host: cut around an R2T",
    /// A connection ended while data of a read were arriving.
    CutInDataIn = "host: cut in data-in",
    /// A connection ended while an answer was awaited.
    CutWaiting = "host: cut while awaiting an answer",
    /// A connection ended with nothing open.
    CutIdle = "host: cut while idle",
    /// A digest that the target sent did not match.
    DigestErrorSeen = "host: digest error seen",
    /// The target closed or rejected because of a digest.
    DigestErrorTold = "host: digest error reported by the target",
    /// Header digests in use.
    HeaderDigests = "host: header digests",
    /// Data digests in use.
    DataDigests = "host: data digests",
    /// An R2T was answered.
    R2t = "host: R2T answered",
    /// More than one R2T of one task was open.
    SeveralR2ts = "host: several R2Ts of a task open",
    /// Immediate data were sent.
    ImmediateData = "host: immediate data",
    /// Unsolicited Data-Out were sent.
    UnsolicitedData = "host: unsolicited data-out",
    /// A read came in several Data-In PDUs.
    SeveralDataIn = "host: read in several data-in",
    /// A status came inside the last Data-In.
    StatusInDataIn = "host: status in data-in",
    /// The command window was full.
    WindowClosed = "host: command window closed",
    /// A ping of the host was answered.
    NopAnswered = "host: ping answered",
    /// A ping of the target was answered.
    NopFromTarget = "host: ping from the target",
    /// The target asked for something by an asynchronous message.
    AsyncMessage = "host: async message",
    /// A read was checked.
    ReadChecked = "host: read verified",
    /// A write was acknowledged.
    WriteAcked = "host: write acknowledged",
    /// A write with FUA was acknowledged.
    FuaAcked = "host: FUA write acknowledged",
    /// A flush was acknowledged.
    FlushAcked = "host: flush acknowledged",
    /// A flush of a part was acknowledged.
    RangedFlush = "host: flush of a range acknowledged",
    /// A flush was asked for beside writes to the same blocks.
    FlushBesideWrites = "host: flush beside writes",
    /// A write was sent while another to some of the same blocks was open.
    OverlappingWrites = "host: overlapping writes in flight",
    /// A write was sent while the disk was writing some of the same blocks.
    OverwriteOnDevice = "host: overwrite during a device write",
    /// A command with DPO.
    Dpo = "host: DPO",
    /// A VERIFY with data was equal.
    Verified = "host: verify equal",
    /// A VERIFY found a difference.
    VerifyMiscompare = "host: verify miscompared",
    /// A WRITE AND VERIFY was acknowledged.
    WriteVerified = "host: write and verify acknowledged",
    /// A WRITE SAME of a block that is not zeroes.
    PatternAcked = "host: write same of a pattern acknowledged",
    /// WCE was set.
    CacheOn = "host: write cache turned on",
    /// WCE was cleared.
    CacheOff = "host: write cache turned off",
    /// A key was registered or removed.
    Registered = "host: reservation key registered",
    /// A persistent reservation was made.
    Reserved = "host: reserved",
    /// A RELEASE or CLEAR.
    Released = "host: reservation released or cleared",
    /// A PREEMPT.
    Preempted = "host: preempted",
    /// A PREEMPT AND ABORT.
    PreemptedAborting = "host: preempted and aborted",
    /// READ KEYS was checked.
    KeysChecked = "host: keys verified",
    /// RESERVATION CONFLICT.
    ReservationConflict = "host: reservation conflict",
    /// TASK ABORTED.
    TaskAbortedStatus = "host: TASK ABORTED",
    /// An ORDERED command.
    Ordered = "host: ordered command",
    /// An ORDERED command had to wait for others, and did.
    OrderKept = "host: ordered command behind others",
    /// A HEAD OF QUEUE command.
    HeadOfQueue = "host: head of queue command",
    /// A HEAD OF QUEUE command was answered before an ORDERED one that had come before it and had to wait.
    HeadKept = "host: head of queue before a waiting ordered command",
    /// A command for a volume that was removed.
    NoSuchUnit = "host: logical unit not there",
    /// A volume was removed while hosts used it.
    VolumeRemoved = "manage: volume removed under load",
    /// It was added again.
    VolumeAdded = "manage: volume added under load",
    /// A command was sent again.
    Retried = "host: retried",
    /// The array gave a device up.
    TimedOut = "host: command timed out at the device",
    /// A command ended without answer when the array had given its device operations up.
    LateAbort = "host: ended while given up at the device",
    /// A text negotiation in a session.
    TextAsked = "host: targets asked for in a session",
    /// A discovery session.
    Discovered = "host: discovery session",
    /// An unmap was acknowledged.
    UnmapAcked = "host: unmap acknowledged",
    /// A WRITE SAME was acknowledged.
    WriteSameAcked = "host: write same acknowledged",
    /// A COMPARE AND WRITE wrote.
    CompareWrote = "host: compare and write wrote",
    /// A COMPARE AND WRITE found a difference.
    Miscompare = "host: compare and write miscompared",
    /// A unit attention was reported.
    UnitAttention = "host: unit attention",
    /// BUSY.
    Busy = "host: BUSY",
    /// TASK SET FULL.
    TaskSetFull = "host: TASK SET FULL",
    /// A command failed with a sense key that a device error explains.
    CommandFailed = "host: command failed by device error",
    /// A task was aborted by its host.
    TaskAborted = "host: task aborted by request",
    /// All its tasks of a unit were aborted by a host.
    TaskSetAborted = "host: task set aborted",
    /// All tasks of a unit were aborted by a host.
    TaskSetCleared = "host: task set cleared",
    /// A logical unit was reset by its host.
    LunReset = "host: logical unit reset",
    /// The target was reset by a host.
    WarmReset = "host: target warm reset",
    /// The target was reset, and all sessions ended, by a host.
    ColdReset = "host: target cold reset",
    /// A task that was to be aborted is not there.
    AbortTooLate = "host: task to abort not there",
    /// A host gave a command up.
    CommandTimeout = "host: command timed out",
    /// A host logged out.
    Logout = "host: logout",
    /// A host checked its whole range.
    Sweep = "host: full sweep",
}

/// How often each thing happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { counts: vec![0; Happening::ALL.len()] }
    }
}

impl Coverage {
    /// It happened.
    pub fn hit(&mut self, what: Happening) {
        if let Some(count) = self.counts.get_mut(what as usize) {
            *count += 1;
        }
    }

    /// It happened that often.
    pub fn add_to(&mut self, what: Happening, times: u64) {
        if let Some(count) = self.counts.get_mut(what as usize) {
            *count += times;
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self, what: Happening) -> u64 {
        self.counts.get(what as usize).copied().unwrap_or(0)
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// What of `wanted` never happened.
    pub fn missing<'a>(&'a self, wanted: &'a [Happening]) -> impl Iterator<Item = Happening> + 'a {
        wanted.iter().copied().filter(|what| self.count(*what) == 0)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in Happening::ALL {
            writeln!(f, "{:>10}  {}", self.count(*what), what.label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_gaps_show() {
        let (mut a, mut b) = (Coverage::default(), Coverage::default());
        a.hit(Happening::Reset);
        b.hit(Happening::Reset);
        b.hit(Happening::Sweep);
        a.add(&b);
        assert_eq!((a.count(Happening::Reset), a.count(Happening::Sweep)), (2, 1));
        let missing: Vec<_> = a.missing(&[Happening::Reset, Happening::Login]).collect();
        assert_eq!(missing, [Happening::Login]);
        assert!(a.to_string().contains("net: reset"));
    }

    #[test]
    fn every_counter_has_its_own_place() {
        for (place, what) in Happening::ALL.iter().enumerate() {
            assert_eq!(*what as usize, place);
        }
    }
}
