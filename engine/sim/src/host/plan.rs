//! Who a host is, where it logs in, and what it may do there.

use crate::checker::Checker;
use crate::rng::Rng;
use kagami_iscsi::chap::Account;
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::{DigestPreference, Preferences};
use kagami_iscsi::random::{Random, RandomError};
use kagami_types::Lun;
use std::net::{IpAddr, SocketAddr};

/// A logical unit, as a host knows it.
#[derive(Clone, Debug)]
pub struct LunPlan {
    /// Its number.
    pub lun: Lun,
    /// Bytes of a block.
    pub block: usize,
    /// How many blocks.
    pub blocks: u64,
    /// The longest transfer, in blocks.
    pub longest: u64,
    /// There is a cache of pages in front of its disk.
    pub cached: bool,
    /// Several cores have its blocks between them.
    pub spread: bool,
    /// Hosts put up with their commands being ended by others (see [`HostPlan::resets`]).
    pub ends_tasks: bool,
    /// The longest COMPARE AND WRITE, in blocks; 0: none.
    pub compare: u64,
    /// Its model, shared with the other hosts that use it.
    pub checker: Checker,
}

impl LunPlan {
    /// Units of the checker in a block.
    pub(super) fn units_per_block(&self) -> u64 {
        (self.block / self.checker.unit().max(1)) as u64
    }
}

/// A host.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Its number, for the trace.
    pub number: u16,
    /// Its name.
    pub name: IscsiName,
    /// The target's name.
    pub target: IscsiName,
    /// Its own address.
    pub address: IpAddr,
    /// Where the target listens.
    pub portals: Vec<SocketAddr>,
    /// What to prove oneself with, where the target asks for it.
    pub account: Option<Account>,
    /// The logical units, none twice.
    pub luns: Vec<LunPlan>,
    /// Commands in the rough part.
    pub commands: u32,
    /// Most commands open at once.
    pub depth: usize,
    /// Most connections of a session.
    pub connections: u16,
    /// Hosts ask for the reset of a logical unit now and then, which ends the others' commands too.
    /// The same for all hosts of a unit.
    pub resets: bool,
    /// How long a command may take at least before the host aborts it, in nanoseconds. At most
    /// twice as long, and as long again for the abort, before it gives the session up.
    pub patience: u64,
    /// Commands may fail as disks do; else a failed command fails the run.
    pub faulty: bool,
    /// One command in so many is a change of modes, a reservation, or followed by a reset, where the host
    /// does these at all.
    pub unrest: u64,
    /// Hosts change modes (WCE, TAS, D_SENSE) now and then.
    pub modes: bool,
    /// Hosts register and reserve now and then.
    pub reserves: bool,
    /// After how long the array gives a device command up, in nanoseconds, where devices hang: what was
    /// aborted, or lost with its session, after at least so long, may take effect later all the same,
    /// as long as the disk has it under way. (A task management function must not be answered while one
    /// of its tasks can have an effect; where the device does not answer for so long, the array tells
    /// the host and holds the range instead.)
    pub gives_up: Option<u64>,
    /// MODE SELECT and PERSISTENT RESERVE OUT may have been done although they were answered with BUSY, and
    /// may be answered although a task management function has ended them; and nobody knows whether
    /// the write cache is on after a reset. None of this must be; it is for an array of which it is known.
    pub loose_changes: bool,
    /// Never asks for a cold reset, after which sessions end in an order that no seed decides.
    pub exact: bool,
    /// Never asks for digests.
    pub plain: bool,
    /// Nothing happens that excuses a command without an answer.
    pub prompt: bool,
    /// Many commands are ORDERED or HEAD OF QUEUE. One of these must not wait for one of those that was waiting itself
    /// when it came, as it must have been if what that waited for was answered so much later, in nanoseconds. Only where
    /// nothing but devices takes long.
    pub heads: Option<u64>,
    /// Sends SIMPLE in place of HEAD OF QUEUE, and holds the target to the latter.
    pub headless: bool,
    /// Volumes are removed and added while hosts use them.
    pub comes_and_goes: bool,
    /// Never sends a task attribute, and holds the target to those that it would have sent: a target that ignores them.
    pub unordered: bool,
}

/// What a host wants from a session: anything that RFC 7143 allows.
pub(super) fn preferences(rng: &mut Rng, connections: u16, plain: bool) -> Preferences {
    let digest = |rng: &mut Rng| {
        rng.choose([DigestPreference::Never, DigestPreference::Allow, DigestPreference::Prefer])
    };
    let bytes = |rng: &mut Rng| u32::try_from(rng.skewed(512, 512 << 10)).unwrap_or(8192);
    let both = rng.one_in(2);
    let mut wish = Preferences {
        header_digest: digest(rng),
        data_digest: digest(rng),
        max_connections: connections.max(1),
        initial_r2t: rng.one_in(2),
        immediate_data: rng.one_in(2),
        max_recv_data_segment_length: bytes(rng),
        max_burst_length: bytes(rng),
        first_burst_length: bytes(rng),
        max_outstanding_r2t: rng.choose([1, 1, 2, 4, 8]),
        ..Preferences::default()
    };
    if both {
        (wish.header_digest, wish.data_digest) = (DigestPreference::Prefer, DigestPreference::Prefer);
    }
    if plain {
        (wish.header_digest, wish.data_digest) = (DigestPreference::Never, DigestPreference::Never);
    }
    wish.first_burst_length = wish.first_burst_length.min(wish.max_burst_length);
    wish
}

impl Random for Rng {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        Self::fill(self, bytes);
        Ok(())
    }
}
