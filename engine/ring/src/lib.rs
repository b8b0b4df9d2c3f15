//! io_uring behind the reactor's I/O traits: one [`Ring`] per core, for that core's sockets
//! and devices alike, so that one kernel entry a round does all of its I/O.
//!
//! The ring is created by the thread that uses it (single issuer, deferred task running):
//! completions run when the owner asks for them, never in the middle of its work. Files and
//! the arena's memory are registered, so that the kernel looks nothing up and pins nothing
//! per operation. What else the kernel offers is probed at start and reported by [`Features`].
//!
//! This is one of the three crates with unsafe code. The argument is always the same: an
//! operation in flight sits in a slot that does not move, owns its pages, and leaves the slot
//! only when its completion has been reaped.

mod drive;
mod feature;
mod polled;
mod prepare;
mod slot;
mod socket;
mod table;

pub use feature::{Features, RingError};
pub use socket::{Listener, SocketOptions, Stream};

use io_uring::{IoUring, opcode, types};
use kagami_memory::Arena;
use kagami_reactor::{Errno, FileId, SocketId};
use kagami_types::Time;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use slot::Slots;
use std::sync::Arc;
use table::{Entry, Table};

/// How a ring is to be made; all from the daemon's plan.
#[derive(Clone, Debug)]
pub struct RingPlan {
    /// Most operations in flight at once.
    pub operations: u32,
    /// Operations submitted with one kernel entry; more take another one.
    pub entries: u32,
    /// Most sockets and files at once.
    pub files: u32,
    /// The CPUs that the kernel's own workers for blocking calls (fsync, fallocate) may use.
    pub worker_cpus: Vec<usize>,
    /// Most of those workers.
    pub workers: u32,
    /// Register the arena: refused by the kernel where it is more than the limit on locked memory.
    pub register: bool,
    /// What every accepted socket is set to.
    pub socket: SocketOptions,
}

impl Default for RingPlan {
    fn default() -> Self {
        Self {
            operations: 4096,
            entries: 1024,
            files: 4096,
            worker_cpus: Vec::new(),
            workers: 4,
            register: true,
            socket: SocketOptions::default(),
        }
    }
}

/// One core's io_uring, or two: devices with poll queues have their own, whose completions
/// are polled for in the driver (IOPOLL), which sockets cannot be.
#[derive(Debug)]
pub struct Ring {
    main: drive::Queue,
    polled: Option<drive::Queue>,
    plan: RingPlan,
    features: Features,
    arena: Arena,
    table: Table,
    slots: Slots,
    /// Accepted sockets that nobody has asked for yet, by the number in their completion.
    accepted: Vec<Option<OwnedFd>>,
    waker: Waker,
    /// Where the kernel puts the eventfd's count.
    wake_count: Box<u64>,
    /// A read of the eventfd is in flight.
    wake_armed: bool,
    now: Time,
    counts: Counts,
}

/// What a ring has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// System calls to enter the kernel.
    pub enters: u64,
    /// Operations submitted.
    pub submissions: u64,
    /// Operations completed.
    pub completions: u64,
    /// Reads and writes on registered buffers: the kernel pinned no memory for them.
    pub fixed: u64,
}

/// Wakes one core's ring from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes the core's [`poll`](kagami_reactor::Io::poll) return. One system call: ring the
    /// doorbell first, and call this only where it says that the core sleeps.
    pub fn wake(&self) {
        // The counter saturates, it cannot fail in a way that loses the wake-up.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl Ring {
    /// Makes the ring of the calling thread and registers the arena with it.
    ///
    /// # Errors
    /// The kernel has no io_uring, forbids it, is older than 6.1, or has not the memory.
    pub fn new(plan: RingPlan, arena: &Arena) -> Result<Self, RingError> {
        let (ring, mut features) = feature::build(&plan)?;
        let mut main = drive::Queue::new(ring);
        main.register(&plan, arena, None, &mut features)?;
        let waker = Waker(Arc::new(
            rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).map_err(RingError::Eventfd)?,
        ));
        let operations = plan.operations as usize;
        Ok(Self {
            main,
            polled: None,
            table: Table::new(plan.files as usize),
            slots: Slots::new(operations),
            plan,
            features,
            arena: *arena,
            accepted: Vec::new(),
            waker,
            wake_count: Box::new(0),
            wake_armed: false,
            now: drive::clock(),
            counts: Counts::default(),
        })
    }

    /// What the kernel offers and this ring uses.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What other threads wake this ring with.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Adds a listening socket, for [`Op::Accept`](kagami_reactor::Op::Accept).
    ///
    /// # Errors
    /// The table is full, or the kernel refuses to register the socket.
    pub fn add_listener(&mut self, listener: Listener) -> Result<SocketId, Errno> {
        self.insert(Entry::Listener(listener.into())).map(SocketId)
    }

    /// Adds a block device or file, opened with `O_DIRECT`. `polled`: it has poll queues, and
    /// its reads and writes go through the IOPOLL ring, but for those that it may split: large
    /// ones, and such whose memory has gaps.
    ///
    /// # Errors
    /// The table is full, or the kernel refuses to register the file.
    pub fn add_file(&mut self, file: OwnedFd, polled: bool) -> Result<FileId, Errno> {
        if polled && self.polled.is_none() {
            // Without a second ring (on old kernels its buffers count against the limit on locked
            // memory once more) the device is served like any other.
            self.polled = self.polled_queue().ok();
        }
        let polled = polled && self.polled.is_some();
        let index = self.insert(Entry::File { fd: file, polled })?;
        Ok(FileId(index))
    }

    /// Takes a file away again. Nothing may be in flight on it.
    pub fn remove_file(&mut self, file: FileId) {
        self.remove(file.0);
    }

    fn polled_queue(&mut self) -> Result<drive::Queue, Errno> {
        let ring = feature::build_polled(&self.plan)?;
        let mut queue = drive::Queue::new(ring);
        let mut its = self.features.clone();
        queue.register(&self.plan, &self.arena, Some(&self.main), &mut its).map_err(|error| error.errno())?;
        (self.features.polled, self.features.shared_buffers) = (true, its.shared_buffers);
        Ok(queue)
    }

    fn insert(&mut self, entry: Entry) -> Result<u32, Errno> {
        let index = self.table.insert(entry).ok_or(Errno::NO_FILES)?;
        let fd = self.table.fd(index).map_or(-1, |fd| fd.as_raw_fd());
        let polled = self.table.is_polled(index);
        let queue = if polled { self.polled.as_ref() } else { None };
        let by_descriptor = self.table.is_file(index) && !self.features.registered_devices;
        let mut registered = if by_descriptor { Ok(()) } else { self.main.update_file(index, fd) };
        if let Some(queue) = queue {
            registered = registered.and_then(|()| queue.update_file(index, fd));
        }
        if registered.is_err() {
            self.table.remove(index);
        }
        registered.map(|()| index)
    }

    fn remove(&mut self, index: u32) {
        drop(self.take_out(index));
    }

    /// Takes an entry out of the kernel's tables and ours; whose it becomes has its descriptor.
    fn take_out(&mut self, index: u32) -> Option<Entry> {
        let entry = self.table.remove(index);
        if let Some(entry) = &entry {
            // Taking a file out of the table cannot fail in a way that matters: the slot is
            // overwritten by its next user.
            if self.features.registered_devices || !matches!(entry, Entry::File { .. }) {
                let _ = self.main.update_file(index, -1);
            }
            if let (Entry::File { polled: true, .. }, Some(queue)) = (entry, &self.polled) {
                let _ = queue.update_file(index, -1);
            }
        }
        entry
    }

    /// Keeps a read of the eventfd in flight, so that a wake-up ends a wait.
    fn arm_waker(&mut self) {
        if self.wake_armed {
            return;
        }
        let into: *mut u64 = &raw mut *self.wake_count;
        let entry = opcode::Read::new(types::Fd(self.waker.0.as_fd().as_raw_fd()), into.cast(), 8)
            .build()
            .user_data(drive::WAKE);
        // SAFETY: `wake_count` is boxed and lives as long as the ring; only this read, of which
        // there is one at a time, writes it, and nobody reads it.
        self.wake_armed = unsafe { self.main.push(&entry) }.is_ok();
    }
}

type KernelRing = IoUring;
