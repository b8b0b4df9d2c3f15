//! What a back end from outside this crate must do.

use kagami_reactor::{Completion, Op, Submit, Token};
use kagami_types::Time;

use crate::plan::DeviceLimits;

/// A device that is not one of the kernel's: memory with faults, a simulation, a remote store.
///
/// It is given device operations only: the volume in front of it has already cut operations to
/// the device's limits, keeps overlapping writes apart, compares, retries what was short, times
/// out and counts. So a back end is small; `tools/faulty` is one to start from.
///
/// # What it is given
/// [`Op::Read`], [`Op::Write`], [`Op::Flush`], [`Op::Discard`] and [`Op::Zero`], as described there.
/// The file they name means nothing. Offsets and lengths are multiples of
/// [`DeviceLimits::align`], no longer than [`DeviceLimits::max_transfer`] (reads and writes) or
/// [`DeviceLimits::max_discard`], and inside the volume. At most [`DeviceLimits::depth`] are with
/// the back end at once.
///
/// # What it promises
/// - Every operation that it takes completes exactly once, with its own token and its own memory,
///   by way of `done` in [`poll`](Self::poll) or [`on_completion`](Self::on_completion). Not in
///   [`submit`](Self::submit): there it would be in the middle of the volume's own work. An
///   operation that never completes keeps its pages and its blocks for ever; the host is answered,
///   the volume goes on elsewhere.
/// - It completes in any order. Two writes to the same blocks never are in it at the same time.
/// - `Ok(n)` of a read or write is the number of bytes moved from the start on. Fewer than asked is
///   allowed, as long as it is at least one [`align`](DeviceLimits::align): the rest comes again.
///   Of the other kinds, `n` means nothing.
/// - A read that succeeds has filled all the bytes that it counts: pages hold other hosts' data before.
/// - A write with `stable`, and any write completed before a flush was submitted, survives a crash
///   once that write or flush completed with success. After a discard or zeroing, the range reads as zeroes.
/// - Errors are what the kernel's would be: [`Errno::IO`](kagami_reactor::Errno::IO) for a bad
///   block, `NO_SPACE`, `NO_DEVICE`, `NOT_SUPPORTED` (for a discard or zeroing: it is then done
///   another way, and not asked for again).
/// - It never blocks, and bounds its own work per call.
pub trait Backend: std::fmt::Debug + Send {
    /// What it can take. Asked once.
    fn limits(&self) -> DeviceLimits;

    /// Takes an operation.
    ///
    /// A back end that stands on the kernel's files or sockets submits to `io` with the token's high
    /// 32 bits and low bits of its own choice; the completions come to
    /// [`on_completion`](Self::on_completion).
    ///
    /// # Errors
    /// The operation comes back where it cannot be taken now. It is offered again at the next
    /// completion or tick.
    #[allow(clippy::result_large_err, reason = "the operation itself comes back")]
    fn submit(&mut self, io: &mut dyn Submit, token: Token, op: Op) -> Result<(), Op>;

    /// Moves to `done` what is done by now. Called with every tick of the volume, and after submits.
    fn poll(&mut self, io: &mut dyn Submit, done: &mut Vec<Completion>);

    /// When [`poll`](Self::poll) is next worth calling; [`Time::NEVER`] while nothing is under way.
    fn next_poll(&self) -> Time;

    /// Something that the back end itself submitted to `io` is done.
    fn on_completion(&mut self, io: &mut dyn Submit, completion: Completion, done: &mut Vec<Completion>) {
        let _ = (io, completion, done);
    }
}
