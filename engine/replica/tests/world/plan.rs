//! What a seed makes of a world.

use super::rng::Rng;
use kagami_replica::{Options, Overflow};
use std::time::Duration;

/// What is broken on purpose: each must be caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    None,
    /// The journals' devices say that all is stable, and it is not.
    LyingJournal,
    /// The bitmap is never written.
    LostBits,
    /// A front hears that everything is stable as soon as it is sent.
    EarlyStable,
    /// Superblocks do not say up to where entries may have been applied.
    NoTarget,
    /// A reader says that it has read all there is.
    EarlyPurge,
    /// A reader says that it has restored all there is.
    EarlyMarker,
    /// A flush that the group asks for is done at once: a formation is named before its volumes are stable.
    EarlyName,
    /// A secondary says that it refuses a swap, and does it.
    TwoPrimaries,
}

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub volumes: usize,
    pub blocks: u64,
    pub block_bytes: u32,
    pub journal_bytes: u64,
    /// `poller`: else a host drives the secondary by orders.
    pub options: Options,
    pub workers: usize,
    /// Microseconds between a host's commands, at most.
    pub think: u64,
    pub crashes: bool,
    pub cuts: bool,
    pub takeovers: bool,
    pub swaps: bool,
    pub splits: bool,
    /// One in so many store writes meets a busy store; 0: none.
    pub busy: u64,
    pub bad_store: u64,
    pub bad_journal: u64,
    /// One way over the link, microseconds.
    pub delay: u64,
    /// One in so many far commands is lost.
    pub loss: u64,
    /// How long things go wrong.
    pub trouble: Duration,
    pub most_steps: u64,
    /// Stores have caches: hosts may be answered before the journal has their writes.
    pub write_back: bool,
    pub sabotage: Sabotage,
    /// How much longer mail to and from each volume's front takes, in nanoseconds: it may be at home on another core.
    pub cores: [u64; 3],
    /// Bits of secondaries' journals rot.
    pub rot: bool,
    /// Operators also give orders that make no sense.
    pub odd: bool,
    /// Volumes' devices lose what was not stable there.
    pub loses: bool,
    /// Options change while all goes on.
    pub changes: bool,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        // What came later: older seeds stay what they were.
        let mut more = Rng::new(seed ^ 0xc04e);
        let mut third = Rng::new(seed ^ 0x0105e5);
        let volumes = rng.between(1, 3) as usize;
        let block_bytes = if rng.percent(30) { 512 } else { 4096 };
        let bytes = rng.between(1, 3) * (1 << 20) + rng.below(4) * (64 << 10);
        let overflow =
            if rng.percent(30) { Overflow::Slow(Duration::from_millis(20)) } else { Overflow::Suspend };
        let options = Options {
            poller: !third.percent(12),
            overflow,
            secondary_reads: rng.percent(30),
            restart_wait: Duration::from_millis(rng.between(50, 800)),
            alone_serves: rng.percent(80),
            swap_hold: Duration::from_secs(2),
            order_wait: Duration::from_secs(5),
            reader_limit: if rng.percent(30) { Duration::from_millis(1500) } else { Duration::ZERO },
            hold: if rng.percent(15) { Duration::from_millis(300) } else { Duration::ZERO },
            ..Options::default()
        };
        let tiny = rng.percent(40);
        let blocks = bytes / block_bytes;
        // Just enough, and a data area of 256 KiB to some MiB.
        let covered = blocks * block_bytes * volumes as u64;
        let mut journal_bytes = 2 << 20;
        while kagami_journal::Layout::new(journal_bytes, covered).is_err() {
            journal_bytes += 64 << 10;
        }
        journal_bytes += (if tiny { 0 } else { 2 << 20 }) + (rng.below(16) << 16);
        Self {
            seed,
            volumes,
            blocks,
            block_bytes: block_bytes as u32,
            journal_bytes,
            options,
            workers: rng.between(1, 6) as usize,
            think: [300, 2000, 10_000][rng.index(3)],
            crashes: rng.percent(70),
            cuts: rng.percent(70),
            takeovers: rng.percent(50),
            swaps: rng.percent(60),
            splits: rng.percent(60),
            busy: if rng.percent(50) { 50 } else { 0 },
            bad_store: if rng.percent(10) { 2000 } else { 0 },
            bad_journal: if rng.percent(10) { 1500 } else { 0 },
            delay: [20, 200, 3000][rng.index(3)],
            loss: if rng.percent(40) { 100 } else { 0 },
            trouble: Duration::from_millis(rng.between(500, 4000)),
            most_steps: 1_000_000,
            write_back: Rng::new(seed ^ 0xcac4e).percent(60),
            sabotage: Sabotage::None,
            cores: [0; 3].map(|_: u64| [0, 0, 20_000, 400_000][more.index(4)]),
            rot: more.percent(10),
            odd: more.percent(30),
            loses: third.percent(25),
            changes: third.percent(20),
        }
    }
    /// Whether that of what worlds learnt late is in it; without a word, yes.
    pub fn has(&self, what: &str) -> bool {
        match what {
            "loses" => self.loses,
            "changes" => self.changes,
            "driven" => !self.options.poller,
            "rot" => self.rot,
            "odd" => self.odd,
            _ => true,
        }
    }
}
