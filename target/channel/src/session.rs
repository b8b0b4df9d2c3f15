//! A session's command window, shared by the cores on which its connections live.
//!
//! RFC 7143 4.2.2.1: commands are delivered in the order of their CmdSN over all connections
//! of the session. `ExpCmdSN` is a baton: whoever received the command of that number
//! delivers it and passes the baton on; whoever holds a later one waits. Exactly one command
//! of a session has the expected number, so two cores never pass the baton at once, and a
//! session of one connection pays a load and a store for it. There is no lock.
//!
//! `MaxCmdSN` follows the free task slots: it starts a whole window ahead and moves by one
//! for every slot that is given back, so that a command inside the window always finds one.

use crate::access::Ends;
use kagami_iscsi::negotiate::Parameters;
use kagami_iscsi::pdu::{Isid, Tsih};
use kagami_iscsi::serial::CmdSn;
use kagami_scsi::NexusId;
use kagami_types::{CoreId, Lun};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What a session's login settled, and its command window.
#[derive(Debug)]
pub struct Session {
    /// The session's name on this side.
    pub tsih: Tsih,
    /// The initiator's half of the session's name.
    pub isid: Isid,
    /// The initiator's iSCSI name.
    pub initiator: Box<str>,
    /// What the logical units call this session.
    pub nexus: NexusId,
    /// Which LUNs it sees now.
    pub visible: Sight,
    /// The addresses of its first connection.
    pub ends: Ends,
    /// Most connections, as negotiated.
    pub max_connections: u16,
    /// The relative target port that it came through.
    pub port: u16,
    /// Discovery sessions have no target and take no SCSI commands.
    pub is_discovery: bool,
    exp_cmd_sn: AtomicU32,
    max_cmd_sn: AtomicU32,
    /// A bit for each core on which a connection waits for the baton.
    waiting: AtomicU64,
    connections: AtomicU32,
    ending: AtomicBool,
    /// What its leading login agreed upon, for the connections that join later.
    parameters: OnceLock<Parameters>,
}

/// The LUNs that a session sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visible {
    /// Every LUN of the target.
    All,
    /// Those whose bit is set; bit n of the list is LUN n.
    Only(Box<[u64]>),
}

/// The LUNs that a session sees at the moment: changed by the daemon when access rules or volumes
/// change, read by every core with every command. A bit for each LUN, each for itself; so a
/// change of several is not seen at one instant, and need not be.
#[derive(Debug)]
pub struct Sight {
    words: Box<[AtomicU64]>,
}

/// Words of 64 LUNs.
const WORDS: usize = (Lun::MAX as usize + 1).div_ceil(64);

impl Sight {
    fn new(visible: &Visible) -> Self {
        Self { words: (0..WORDS).map(|word| AtomicU64::new(visible.word(word))).collect() }
    }

    /// Whether that LUN is among them.
    #[inline]
    #[must_use]
    pub fn contains(&self, lun: Lun) -> bool {
        let word = self.words.get(lun.index() / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (lun.index() % 64) & 1 == 1)
    }

    /// From now on these. The LUNs that are seen and were not, or were and are not.
    pub fn set(&self, visible: &Visible) -> Visible {
        let differ = |(at, word): (usize, &AtomicU64)| {
            let new = visible.word(at);
            word.swap(new, Ordering::Relaxed) ^ new
        };
        Visible::Only(self.words.iter().enumerate().map(differ).collect())
    }
}

/// What is to be done with a command of some number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Deliver it, then [`Session::advance`].
    Due,
    /// It is inside the window, but earlier ones are missing: keep it.
    Early,
    /// It is outside the window, or was there before: drop it silently (RFC 7143 4.2.2.1).
    Outside,
}

impl Visible {
    /// Only these.
    #[must_use]
    pub fn only(luns: impl IntoIterator<Item = Lun>) -> Self {
        let mut words = Vec::new();
        for lun in luns {
            let (word, bit) = (lun.index() / 64, lun.index() % 64);
            if words.len() <= word {
                words.resize(word + 1, 0u64);
            }
            words[word] |= 1 << bit;
        }
        Self::Only(words.into())
    }

    /// LUNs `64 * word` to `64 * word + 63`, a bit for each.
    fn word(&self, word: usize) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::Only(words) => words.get(word).copied().unwrap_or(0),
        }
    }

    /// Whether that LUN is among them.
    #[inline]
    #[must_use]
    pub fn contains(&self, lun: Lun) -> bool {
        match self {
            Self::All => true,
            Self::Only(words) => {
                words.get(lun.index() / 64).is_some_and(|word| word >> (lun.index() % 64) & 1 == 1)
            }
        }
    }
}

/// Who a session is: what its login found out.
#[derive(Debug)]
pub struct SessionIdentity {
    /// See [`Session::tsih`].
    pub tsih: Tsih,
    /// See [`Session::isid`].
    pub isid: Isid,
    /// See [`Session::initiator`].
    pub initiator: Box<str>,
    /// See [`Session::nexus`].
    pub nexus: NexusId,
    /// See [`Session::visible`].
    pub visible: Visible,
    /// See [`Session::ends`].
    pub ends: Ends,
    /// See [`Session::max_connections`].
    pub max_connections: u16,
    /// See [`Session::port`].
    pub port: u16,
    /// See [`Session::is_discovery`].
    pub is_discovery: bool,
}

impl Session {
    /// A session whose first command will have the number `first`, with a window of `window`
    /// commands and one connection.
    #[must_use]
    pub fn new(identity: SessionIdentity, first: CmdSn, window: u32) -> Self {
        let SessionIdentity {
            tsih,
            isid,
            initiator,
            nexus,
            visible,
            ends,
            max_connections,
            port,
            is_discovery,
        } = identity;
        Self {
            tsih,
            isid,
            initiator,
            nexus,
            visible: Sight::new(&visible),
            ends,
            max_connections,
            port,
            is_discovery,
            exp_cmd_sn: AtomicU32::new(first.0),
            max_cmd_sn: AtomicU32::new(first.plus(window).minus(1).0),
            waiting: AtomicU64::new(0),
            connections: AtomicU32::new(1),
            ending: AtomicBool::new(false),
            parameters: OnceLock::new(),
        }
    }

    /// The number of the next command to deliver.
    #[inline]
    #[must_use]
    pub fn exp_cmd_sn(&self) -> CmdSn {
        CmdSn(self.exp_cmd_sn.load(Ordering::Acquire))
    }

    /// The highest number that may be used.
    #[inline]
    #[must_use]
    pub fn max_cmd_sn(&self) -> CmdSn {
        CmdSn(self.max_cmd_sn.load(Ordering::Relaxed))
    }

    /// What to do with a command that was received on `core`. After [`Arrival::Early`] the core
    /// is told, by the bits that [`advance`](Self::advance) returns, when to ask again.
    #[inline]
    pub fn arrival(&self, sn: CmdSn, core: CoreId) -> Arrival {
        let expected = self.exp_cmd_sn();
        if sn == expected {
            return if sn.is_after(self.max_cmd_sn()) { Arrival::Outside } else { Arrival::Due };
        }
        self.early_or_outside(sn, core)
    }

    #[cold]
    fn early_or_outside(&self, sn: CmdSn, core: CoreId) -> Arrival {
        // The baton may have come to this very command since the caller looked, which makes it due,
        // not one that was there before.
        if !sn.is_within(self.exp_cmd_sn(), self.max_cmd_sn()) {
            return Arrival::Outside;
        }
        self.waiting.fetch_or(1 << (core.0 % 64), Ordering::SeqCst);
        // The baton may have come by before the bit was there to be seen.
        if self.exp_cmd_sn.load(Ordering::SeqCst) == sn.0 { Arrival::Due } else { Arrival::Early }
    }

    /// Passes the baton after the command of number `sn` was delivered. Returns a bit for each
    /// core on which a connection waits for it.
    #[inline]
    pub fn advance(&self, sn: CmdSn) -> u64 {
        if self.max_connections <= 1 {
            self.exp_cmd_sn.store(sn.next().0, Ordering::Release);
            return 0;
        }
        self.exp_cmd_sn.store(sn.next().0, Ordering::SeqCst);
        match self.waiting.load(Ordering::SeqCst) {
            0 => 0,
            _ => self.waiting.swap(0, Ordering::SeqCst),
        }
    }

    /// A task slot was given back: one more command may come.
    #[inline]
    pub fn open(&self) {
        if self.max_connections <= 1 {
            // One connection, one core: nobody else writes.
            let max = self.max_cmd_sn.load(Ordering::Relaxed);
            self.max_cmd_sn.store(max.wrapping_add(1), Ordering::Relaxed);
        } else {
            self.max_cmd_sn.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds a connection; false where the session has as many as it may, or is ending.
    #[must_use]
    pub fn join(&self) -> bool {
        if self.is_ending() {
            return false;
        }
        let limit = u32::from(self.max_connections);
        self.connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now > 0 && now < limit).then_some(now + 1)
            })
            .is_ok()
    }

    /// Takes a connection away; true for the last one.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.connections.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Connections that it has.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Acquire)
    }

    /// Notes what the leading login agreed upon; later calls change nothing.
    pub(crate) fn settle(&self, parameters: &Parameters) {
        let _ = self.parameters.set(*parameters);
    }

    /// What the leading login agreed upon; `own` where that is not known yet.
    pub(crate) fn parameters(&self, own: &Parameters) -> Parameters {
        *self.parameters.get().unwrap_or(own)
    }

    /// Marks the session as ending; true for who did it first.
    pub fn end(&self) -> bool {
        !self.ending.swap(true, Ordering::AcqRel)
    }

    /// Whether its connections are being closed.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(max_connections: u16, first: u32) -> Session {
        let identity = SessionIdentity {
            tsih: Tsih(1),
            isid: Isid::default(),
            initiator: "iqn.2026-11.test:a".into(),
            nexus: NexusId(0),
            visible: Visible::All,
            ends: Ends::default(),
            max_connections,
            port: 1,
            is_discovery: false,
        };
        Session::new(identity, CmdSn(first), 4)
    }

    const CORE: CoreId = CoreId(0);

    #[test]
    fn the_window_is_as_wide_as_the_slots() {
        let session = session(1, u32::MAX - 1);
        for step in 0..4 {
            let sn = CmdSn(u32::MAX - 1).plus(step);
            assert_eq!(session.arrival(sn, CORE), Arrival::Due);
            session.advance(sn);
        }
        let fifth = CmdSn(2);
        assert_eq!(session.arrival(fifth, CORE), Arrival::Outside);
        session.open();
        assert_eq!(session.arrival(fifth, CORE), Arrival::Due);
    }

    #[test]
    fn what_was_there_before_is_dropped() {
        let session = session(1, 10);
        session.advance(CmdSn(10));
        assert_eq!(session.arrival(CmdSn(10), CORE), Arrival::Outside);
        assert_eq!(session.arrival(CmdSn(9), CORE), Arrival::Outside);
    }

    #[test]
    fn an_early_command_waits_and_its_core_is_told() {
        let session = session(2, 10);
        assert_eq!(session.arrival(CmdSn(11), CoreId(3)), Arrival::Early);
        assert_eq!(session.arrival(CmdSn(10), CORE), Arrival::Due);
        assert_eq!(session.advance(CmdSn(10)), 1 << 3);
        assert_eq!(session.arrival(CmdSn(11), CoreId(3)), Arrival::Due);
        assert_eq!(session.advance(CmdSn(11)), 0);
    }

    /// Two cores hold every other command. None may be taken for one that was there before, and
    /// they are delivered in order.
    #[test]
    fn the_baton_passes_between_cores_without_a_loss() {
        const COMMANDS: u32 = 40_000;
        let session = session(2, 0);
        let delivered = AtomicU32::new(0);
        let dropped = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for core in 0..2u16 {
                let (session, delivered, dropped) = (&session, &delivered, &dropped);
                scope.spawn(move || {
                    for number in (u32::from(core)..COMMANDS).step_by(2) {
                        // The window opens by one when an earlier command has ended.
                        while CmdSn(number).is_after(session.max_cmd_sn()) {
                            if dropped.load(Ordering::Relaxed) > 0 {
                                return;
                            }
                            std::thread::yield_now();
                        }
                        loop {
                            match session.arrival(CmdSn(number), CoreId(core)) {
                                Arrival::Due => break,
                                Arrival::Early if dropped.load(Ordering::Relaxed) == 0 => {
                                    std::hint::spin_loop()
                                }
                                Arrival::Early => return,
                                Arrival::Outside => {
                                    dropped.fetch_add(1, Ordering::Relaxed);
                                    return;
                                }
                            }
                        }
                        assert_eq!(delivered.fetch_add(1, Ordering::SeqCst), number);
                        session.advance(CmdSn(number));
                        session.open();
                    }
                });
            }
        });
        assert_eq!((dropped.into_inner(), delivered.into_inner()), (0, COMMANDS));
    }

    #[test]
    fn connections_are_bounded_and_the_last_to_leave_is_known() {
        let session = session(2, 0);
        assert!(session.join());
        assert!(!session.join());
        assert!(!session.leave());
        assert!(session.leave());
        assert!(!session.join());
    }

    #[test]
    fn masks_hide_luns() {
        let visible = Visible::only([0, 70].into_iter().filter_map(Lun::new));
        let sees = |n| visible.contains(Lun::new(n).unwrap());
        assert!(sees(0) && sees(70) && !sees(1) && !sees(64) && !sees(1000));
        assert!(Visible::All.contains(Lun::ZERO));
    }

    #[test]
    fn what_a_session_sees_can_change() {
        let session = session(1, 0);
        let lun = |n| Lun::new(n).unwrap();
        assert!(session.visible.contains(lun(Lun::MAX)));
        session.visible.set(&Visible::only([lun(0), lun(70)]));
        assert!(session.visible.contains(lun(70)) && !session.visible.contains(lun(1)));
        let changed = session.visible.set(&Visible::only([lun(1), lun(70)]));
        assert!(changed.contains(lun(0)) && changed.contains(lun(1)) && !changed.contains(lun(70)));
        assert!(session.visible.contains(lun(1)) && !session.visible.contains(lun(0)));
    }
}
