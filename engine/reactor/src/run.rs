//! The loop of one core.

use crate::{Completion, Idle, IdlePolicy, Io, Wait};
use kagami_types::Time;

/// What a core does with its completions. Channel and disk controllers live behind this.
pub trait Handler<I: Io> {
    /// One operation is done.
    fn on_completion(&mut self, io: &mut I, completion: Completion);

    /// The end of a round: messages of other cores are taken, everything that the round
    /// produced is submitted. Returns whether there was anything to do.
    fn on_round(&mut self, io: &mut I) -> bool;

    /// When the core must run again even if nothing happens.
    fn next_deadline(&self) -> Time;

    /// The core wants to sleep: raises its doorbell. [`Doze::Stay`] where a message arrived
    /// in between, which the sender would not ring for.
    fn prepare_sleep(&mut self) -> Doze;

    /// The core is awake again: takes the doorbell down.
    fn wake(&mut self);

    /// The core is done for good and holds nothing any more.
    fn is_finished(&self) -> bool;
}

/// The answer to a wish to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doze {
    /// Nothing is waiting: sleep.
    Sleep,
    /// Something is: poll on.
    Stay,
}

/// What one core's loop has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rounds.
    pub rounds: u64,
    /// Rounds that found something to do.
    pub busy: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// For how long, in nanoseconds.
    pub slept_nanos: u64,
}

/// One round: a kernel entry, its completions, the upkeep. Returns whether it had work.
///
/// The simulator calls this directly, core after core; [`run`] calls it in a loop.
pub fn round<I: Io, H: Handler<I>>(
    io: &mut I,
    handler: &mut H,
    wait: Wait,
    done: &mut Vec<Completion>,
) -> bool {
    io.poll(wait, done);
    let mut worked = !done.is_empty();
    for completion in done.drain(..) {
        handler.on_completion(io, completion);
    }
    worked |= handler.on_round(io);
    worked
}

/// Runs a core until its handler is finished. `each_round` sees the machine and the
/// loop's figures.
pub fn run<I: Io, H: Handler<I>>(
    io: &mut I,
    handler: &mut H,
    policy: IdlePolicy,
    mut each_round: impl FnMut(&I, &Stats),
) {
    let mut idle = Idle::new(policy, io.now());
    let mut done = Vec::with_capacity(1024);
    let mut stats = Stats::default();
    let mut wait = Wait::Poll;
    while !handler.is_finished() {
        let before = io.now();
        let worked = round(io, handler, wait, &mut done);
        if matches!(wait, Wait::Until(_)) {
            handler.wake();
            stats.slept_nanos += io.now().nanos_since(before);
        }
        stats.rounds += 1;
        stats.busy += u64::from(worked);
        wait = Wait::Poll;
        if idle.may_sleep(worked, io.now()) && handler.prepare_sleep() == Doze::Sleep {
            stats.sleeps += 1;
            wait = Wait::Until(handler.next_deadline());
        }
        each_round(io, &stats);
    }
}
