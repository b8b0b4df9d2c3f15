//! Kernel entries and completions.

use crate::feature::{self, Features, RingError};
use crate::{KernelRing, Ring, RingPlan, Stream, table::Entry};
use io_uring::{squeue, types};
use kagami_memory::Arena;
use kagami_reactor::{Completion, Errno, FileId, Io, Op, SocketId, Submit, Token, Wait};
use kagami_types::Time;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::net::Shutdown;
use std::net::SocketAddr;

/// The user data of the read on the eventfd; slots are numbered from 0 on.
pub(crate) const WAKE: u64 = u64::MAX;

const ENTER_GETEVENTS: u32 = 1;

/// The monotonic clock.
pub(crate) fn clock() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanos = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
    Time(nanos)
}

/// One io_uring.
#[derive(Debug)]
pub(crate) struct Queue {
    ring: RingDebug,
    pub(crate) in_flight: usize,
    /// Regions of the arena that are registered as buffers, in their order.
    pub(crate) has_buffers: bool,
    pub(crate) vectored_fixed: bool,
}

/// `IoUring` has no `Debug`.
struct RingDebug(KernelRing);

impl std::fmt::Debug for RingDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IoUring")
    }
}

impl Queue {
    pub(crate) fn new(ring: KernelRing) -> Self {
        Self { ring: RingDebug(ring), in_flight: 0, has_buffers: false, vectored_fixed: false }
    }

    /// Registers the file table, the arena, the ring itself and the limits of its workers. The arena is
    /// pinned once for all: a ring that has it already lends it `from` there, where the kernel can do
    /// that (6.12); elsewhere it is pinned, and counted against the limit on locked memory, again.
    pub(crate) fn register(
        &mut self,
        plan: &RingPlan,
        arena: &Arena,
        from: Option<&Self>,
        features: &mut Features,
    ) -> Result<(), RingError> {
        let ring = &mut self.ring.0;
        ring.submitter()
            .register_files_sparse(plan.files)
            .map_err(|error| RingError::Files(plan.files, error))?;
        features.registered_files = plan.files;
        let regions: Vec<libc::iovec> = arena
            .regions()
            .map(|region| libc::iovec { iov_base: region.pointer.cast(), iov_len: region.len })
            .collect();
        let lender = from.filter(|from| from.has_buffers).map(|from| from.ring.0.as_raw_fd());
        features.shared_buffers =
            lender.is_some_and(|lender| ring.submitter().register_buffers_clone(lender).is_ok());
        let registered = features.shared_buffers
            // SAFETY: the arena's mapping lives as long as the process and is never unmapped.
            || plan.register && unsafe { ring.submitter().register_buffers(&regions) }.is_ok();
        if registered {
            self.has_buffers = true;
            features.registered_bytes = regions.iter().map(|region| region.iov_len as u64).sum();
        }
        self.vectored_fixed = self.has_buffers && feature::has_vectored_fixed(ring);
        features.vectored_fixed = self.vectored_fixed;
        features.registered_ring = ring.submitter().register_ring_fd().is_ok();
        features.bounded_workers = bound_workers(ring, plan);
        Ok(())
    }

    /// Whether a read or write of so many pieces of memory can be on registered buffers.
    pub(crate) fn takes_fixed(&self, pieces: usize) -> bool {
        self.has_buffers && (pieces == 1 || self.vectored_fixed)
    }

    /// Stages one entry for the next kernel entry; makes room by an extra one where the
    /// submission queue is full.
    ///
    /// # Safety
    /// What the entry points to must stay valid until its completion has been reaped.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> Result<(), Errno> {
        // SAFETY: the caller's promise is handed on.
        if unsafe { self.ring.0.submission().push(entry) }.is_err() {
            self.enter(Wait::Poll, Time(0));
            // SAFETY: as above.
            unsafe { self.ring.0.submission().push(entry) }.map_err(|_| Errno::NO_SPACE)?;
        }
        self.in_flight += 1;
        Ok(())
    }

    pub(crate) fn update_file(&self, index: u32, fd: i32) -> Result<(), Errno> {
        match self.ring.0.submitter().register_files_update(index, &[fd]) {
            Ok(_) => Ok(()),
            Err(error) => Err(Errno(error.raw_os_error().unwrap_or(Errno::IO.0))),
        }
    }

    /// Whether there is a reason to enter the kernel: something to submit, or the kernel says
    /// that completions wait to be run.
    fn wants_entry(&mut self) -> bool {
        let submission = self.ring.0.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Enters the kernel once. Errors (a signal, too many completions) pass: what was not
    /// submitted still stands in the queue for the next round.
    pub(crate) fn enter(&mut self, wait: Wait, now: Time) {
        match wait {
            Wait::Poll => {
                let to_submit = u32::try_from(self.ring.0.submission().len()).unwrap_or(u32::MAX);
                // SAFETY: no argument is passed, and the flags say so.
                let _ = unsafe {
                    self.ring.0.submitter().enter::<libc::sigset_t>(to_submit, 0, ENTER_GETEVENTS, None)
                };
            }
            Wait::Until(Time::NEVER) => drop(self.ring.0.submitter().submit_and_wait(1)),
            Wait::Until(deadline) => {
                let timeout = types::Timespec::from(deadline.since(now));
                let arguments = types::SubmitArgs::new().timespec(&timeout);
                drop(self.ring.0.submitter().submit_with_args(1, &arguments));
            }
        }
    }

    /// The next completion: its user data and result.
    fn reap(&mut self) -> Option<(u64, i32)> {
        let entry = self.ring.0.completion().next()?;
        self.in_flight = self.in_flight.saturating_sub(1);
        Some((entry.user_data(), entry.result()))
    }
}

/// Bounds the kernel's workers and binds them to the given CPUs; whether both worked.
fn bound_workers(ring: &KernelRing, plan: &RingPlan) -> bool {
    let bounded = ring.submitter().register_iowq_max_workers(&mut [plan.workers, plan.workers]).is_ok();
    if plan.worker_cpus.is_empty() {
        return bounded;
    }
    // SAFETY: all zeroes is the empty CPU set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let capacity = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    for &cpu in plan.worker_cpus.iter().filter(|&&cpu| cpu < capacity) {
        // SAFETY: the number was checked against the set's size.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    bounded && ring.submitter().register_iowq_aff(&set).is_ok()
}

impl Submit for Ring {
    fn submit(&mut self, token: Token, op: Op) -> Result<(), Op> {
        let index = self.slots.insert(token, op)?;
        let (entry, polled) = self.prepare(index);
        let queue = match (&mut self.polled, polled) {
            (Some(queue), true) => queue,
            _ => &mut self.main,
        };
        // SAFETY: the operation owns its memory and stays in its slot, which does not move,
        // until `reap` has seen its completion; so do the vectors that the entry points to.
        let pushed = unsafe { queue.push(&entry.user_data(u64::from(index))) };
        match pushed {
            Ok(()) => {
                self.counts.submissions += 1;
                Ok(())
            }
            Err(_) => match self.slots.take(index) {
                Some((_, op)) => Err(op),
                None => Ok(()),
            },
        }
    }

    fn now(&self) -> Time {
        self.now
    }
}

impl Ring {
    fn collect(&mut self, done: &mut Vec<Completion>) {
        while let Some((data, result)) = self.main.reap() {
            if data == WAKE {
                self.wake_armed = false;
            } else {
                self.finish(data, result, done);
            }
        }
        while let Some((data, result)) = self.polled.as_mut().and_then(Queue::reap) {
            self.finish(data, result, done);
        }
    }

    fn finish(&mut self, data: u64, result: i32, done: &mut Vec<Completion>) {
        let Some((token, op)) = u32::try_from(data).ok().and_then(|index| self.slots.take(index)) else {
            return;
        };
        let mut result = u32::try_from(result).map_err(|_| Errno(-result));
        if let (Op::Accept(_), Ok(fd)) = (&op, result) {
            // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) };
            result = Ok(self.keep_accepted(fd));
        }
        self.counts.completions += 1;
        done.push(Completion { token, result, op });
    }

    fn keep_accepted(&mut self, fd: OwnedFd) -> u32 {
        let place = self.accepted.iter().position(Option::is_none).unwrap_or_else(|| {
            self.accepted.push(None);
            self.accepted.len() - 1
        });
        self.accepted[place] = Some(fd);
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

impl Io for Ring {
    type Stream = Stream;

    fn poll(&mut self, wait: Wait, done: &mut Vec<Completion>) {
        self.arm_waker();
        let polling = self.polled.as_ref().is_some_and(|queue| queue.in_flight > 0);
        let wait = if polling { Wait::Poll } else { wait };
        if wait != Wait::Poll || self.main.wants_entry() {
            self.main.enter(wait, self.now);
            self.counts.enters += 1;
        }
        if let (true, Some(queue)) = (polling, &mut self.polled) {
            queue.enter(Wait::Poll, self.now);
            self.counts.enters += 1;
        }
        self.now = clock();
        self.collect(done);
    }

    fn attach(&mut self, stream: Stream) -> Result<SocketId, Errno> {
        self.insert(Entry::Socket(stream.0)).map(SocketId)
    }

    fn accepted(&mut self, accepted: u32) -> Option<Stream> {
        let fd = self.accepted.get_mut(accepted as usize)?.take()?;
        self.plan.socket.apply(&fd);
        Some(Stream(fd))
    }

    fn connect(&mut self, to: SocketAddr) -> Result<SocketId, Errno> {
        let fd =
            crate::socket::connect(to, &self.plan.socket).map_err(|error| Errno(error.raw_os_error()))?;
        self.insert(Entry::Socket(fd)).map(SocketId)
    }

    fn peer(&self, socket: SocketId) -> Option<SocketAddr> {
        SocketAddr::try_from(rustix::net::getpeername(self.table.fd(socket.0)?).ok()??).ok()
    }

    fn local(&self, socket: SocketId) -> Option<SocketAddr> {
        SocketAddr::try_from(rustix::net::getsockname(self.table.fd(socket.0)?).ok()?).ok()
    }

    fn shutdown(&mut self, socket: SocketId) {
        if let Some(fd) = self.table.fd(socket.0) {
            // Already shut down by the other end is as good.
            let _ = rustix::net::shutdown(fd, Shutdown::Both);
        }
    }

    fn release(&mut self, socket: SocketId) {
        self.remove(socket.0);
    }

    fn detach(&mut self, socket: SocketId) -> Option<Stream> {
        if !self.table.is_socket(socket.0) {
            return None;
        }
        match self.take_out(socket.0)? {
            Entry::Socket(fd) => Some(Stream(fd)),
            Entry::Listener(_) | Entry::File { .. } => None,
        }
    }

    fn add_device(&mut self, device: OwnedFd, polled: bool) -> Result<FileId, Errno> {
        self.add_file(device, polled)
    }

    fn remove_device(&mut self, device: FileId) {
        self.remove_file(device);
    }
}
