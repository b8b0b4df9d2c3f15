//! How rough a world is: what goes wrong, and how often.
//!
//! [`Options::random`] draws a different mixture for every seed (swarm testing): where everything
//! goes wrong at once in every run, nothing gets far enough to go wrong in an interesting way.

use crate::rng::Rng;

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// How PDUs are changed on their way to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// They offer a larger command window than the target has.
    Window,
    /// CHECK CONDITION becomes GOOD.
    Status,
}

/// What the network does.
#[derive(Clone, Copy, Debug)]
pub struct NetOptions {
    /// Longest way of a segment, in nanoseconds.
    pub delay: u64,
    /// Longest segment, in bytes.
    pub segment: u64,
    /// Bytes that one direction of a connection holds, sent and not yet read.
    pub buffer: usize,
    /// How many sends and receives in 1000 move fewer bytes than they could.
    pub short: u32,
    /// How many connections in 1000 are cut somewhere.
    pub cut: u32,
    /// Where at the latest, in bytes of one direction.
    pub cut_within: u64,
    /// How many connections in 1000, of those with both digests, have a bit flipped.
    pub flip: u32,
    /// How many connection attempts in 1000 are refused without reason.
    pub refuse: u32,
    /// What targets say is changed so; for connections without digests.
    pub tamper: Option<Tamper>,
}

/// What the disks do.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// Longest service time, hangs apart, in nanoseconds.
    pub service: u64,
    /// How many transfers in 10,000 end with an error.
    pub error: u32,
    /// How many writes in 10,000 find no space.
    pub no_space: u32,
    /// How many operations in 10,000 hang for many seconds.
    pub hang: u32,
    /// Longest hang, in nanoseconds.
    pub hang_time: u64,
    /// How many transfers in 10,000 move fewer bytes than they were asked for.
    pub short: u32,
    /// How many times in 10,000 an operation is the one at which the disk goes away for a while.
    pub gone: u32,
    /// Refuses to deallocate and to zero.
    pub plain: bool,
    /// How many writes in 1000 that sit in the volatile cache are made stable early.
    pub eager: u32,
    /// The array has promised never to have two writes to the same sectors under way at once; one
    /// that does fails the run.
    pub apart: bool,
    /// After how long the array gives an operation up, in nanoseconds: what completes later is
    /// counted as late.
    pub late: u64,
    /// What it claims and does not do.
    pub lies: Lies,
}

/// Faults that nothing above can mend, for proving that the checker sees them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lies {
    /// Acknowledges flushes and stable writes without making anything stable.
    pub flush: bool,
    /// Acknowledges stable writes as if they were ordinary ones.
    pub fua: bool,
    /// Acknowledges one write in so many without doing it; 0: never.
    pub drop_write: u64,
    /// Writes one write in so many to another place; 0: never.
    pub misdirect: u64,
    /// Reads one read in so many from another place; 0: never.
    pub misread: u64,
    /// Forgets to complete one operation in so many; 0: never.
    pub forget: u64,
    /// After one operation in so many, a bit of the medium is another; 0: never.
    pub rot: u64,
}

/// What the cores do.
#[derive(Clone, Copy, Debug)]
pub struct CoreOptions {
    /// Longest round, in nanoseconds.
    pub round: u64,
    /// Most operations in flight on a core.
    pub operations: usize,
    /// How many rounds in 10,000 are followed by a time in which the core does not run.
    pub stall: u32,
    /// Longest stall, in nanoseconds.
    pub stall_time: u64,
    /// Most sockets of a core.
    pub sockets: usize,
}

/// How often everything ends at once.
#[derive(Clone, Copy, Debug)]
pub struct CrashOptions {
    /// How many crashes.
    pub count: u32,
    /// How many crashes in 1000 come with an operation, not at a time.
    pub at_io: u32,
    /// With which operation after the start at the latest, counted among those of its kind.
    pub io_within: u64,
    /// How many crashes in 1000 are power failures; the others end only the array's process.
    pub power: u32,
    /// How many in 1000 are no crashes, but stops in good order.
    pub orderly: u32,
    /// Longest time between the start and a crash, in nanoseconds.
    pub after: u64,
    /// Longest time until the array starts again, in nanoseconds.
    pub down: u64,
}

/// All of it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The network.
    pub net: NetOptions,
    /// The disks.
    pub disk: DiskOptions,
    /// The cores.
    pub core: CoreOptions,
    /// Crashes.
    pub crash: CrashOptions,
    /// A world in which hosts have work and nothing is finished for so long is stuck, in
    /// nanoseconds. Above the longest hang.
    pub patience: u64,
    /// How many events the trace of a failure shows.
    pub trace: usize,
}

impl Options {
    /// A world in which nothing goes wrong.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            net: NetOptions {
                delay: 20 * MICRO,
                segment: 65536,
                buffer: 256 << 10,
                short: 0,
                cut: 0,
                cut_within: 0,
                flip: 0,
                refuse: 0,
                tamper: None,
            },
            disk: DiskOptions {
                service: 200 * MICRO,
                error: 0,
                no_space: 0,
                hang: 0,
                hang_time: 0,
                short: 0,
                gone: 0,
                plain: false,
                eager: 100,
                apart: false,
                late: 30 * SECOND,
                lies: Lies {
                    flush: false,
                    fua: false,
                    drop_write: 0,
                    misdirect: 0,
                    misread: 0,
                    forget: 0,
                    rot: 0,
                },
            },
            core: CoreOptions { round: 2 * MICRO, operations: 1024, stall: 0, stall_time: 0, sockets: 256 },
            crash: CrashOptions { count: 0, at_io: 0, io_within: 0, power: 0, orderly: 0, after: 0, down: 0 },
            patience: 300 * SECOND,
            trace: 160,
        }
    }

    /// A mixture drawn from a seed: each kind of trouble is there in some worlds and not in others.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        let mut some = |low: u64, high: u64| -> u32 {
            let on = rng.one_in(2);
            let rate = rng.between(low, high);
            if on { u32::try_from(rate).unwrap_or(0) } else { 0 }
        };
        let mut options = Self::calm();
        options.net.short = some(10, 500);
        options.net.cut = some(50, 500);
        options.net.flip = some(100, 500);
        options.net.refuse = some(10, 200);
        options.disk.error = some(5, 100);
        options.disk.no_space = some(5, 50);
        options.disk.hang = some(2, 20);
        options.disk.short = some(10, 300);
        options.disk.gone = some(1, 5);
        options.core.stall = some(1, 20);
        options.net.delay = rng.choose([2 * MICRO, 50 * MICRO, MILLI, 20 * MILLI]);
        options.net.segment = rng.choose([40, 200, 1460, 9000, 65536]);
        options.net.buffer =
            rng.choose([2 << 10, 16 << 10, 16 << 10, 64 << 10, 64 << 10, 64 << 10, 1 << 20, 1 << 20]);
        options.net.cut_within = rng.choose([600, 4 << 10, 64 << 10, 1 << 20]);
        options.disk.service = rng.choose([20 * MICRO, 200 * MICRO, 5 * MILLI, 50 * MILLI]);
        options.disk.hang_time = rng.choose([2 * SECOND, 15 * SECOND, 60 * SECOND]);
        options.disk.plain = rng.one_in(4);
        options.disk.eager = rng.choose([0, 20, 300]);
        options.core.round = rng.choose([MICRO, 5 * MICRO, 50 * MICRO]);
        options.core.operations = rng.choose([20, 20, 64, 1024]);
        options.core.stall_time = rng.choose([MILLI, 100 * MILLI, 3 * SECOND]);
        options.crash.count = rng.choose([0, 1, 2, 3, 6]);
        options.crash.at_io = rng.choose([0, 700, 1000]);
        options.crash.io_within = rng.choose([20, 200, 2000]);
        options.crash.power = rng.choose([0, 500, 1000]);
        options.crash.orderly = rng.choose([0, 0, 300]);
        options.crash.after = rng.choose([5 * MILLI, 50 * MILLI, 500 * MILLI, 5 * SECOND]);
        options.crash.down = rng.choose([MILLI, 200 * MILLI, 5 * SECOND]);
        options
    }

    /// The same world from now on without anything that goes wrong, so that everything can end.
    pub(crate) fn calm_down(&mut self) {
        let calm = Self::calm();
        let (net, disk) = (self.net, self.disk);
        self.net = NetOptions {
            segment: net.segment,
            buffer: net.buffer,
            delay: net.delay,
            tamper: net.tamper,
            ..calm.net
        };
        self.disk = DiskOptions {
            plain: disk.plain,
            service: disk.service,
            apart: disk.apart,
            late: disk.late,
            lies: disk.lies,
            ..calm.disk
        };
        self.core.stall = 0;
        self.crash.count = 0;
    }
}
