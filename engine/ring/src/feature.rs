//! What the kernel offers: found out at start, used, and said.

use crate::{KernelRing, RingPlan};
use io_uring::{IoUring, Probe, opcode};
use kagami_reactor::Errno;
use std::fmt;
use std::io;

/// What this ring uses of io_uring. Everything below the first line of its text is optional.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// `IORING_SETUP_NO_SQARRAY` (6.6): one cache line less per submission.
    pub no_sqarray: bool,
    /// The ring's own descriptor is registered (5.18).
    pub registered_ring: bool,
    /// Slots for registered sockets and files.
    pub registered_files: u32,
    /// Devices are among the registered files. Before Linux 6.13 they are not: what was taken out of the table
    /// stays open there until every operation that was in flight then is over, a wait for the next connection
    /// included, and a device that was removed, or is wanted by somebody else, must be closed at once.
    pub registered_devices: bool,
    /// Bytes of the arena registered as buffers; 0: the limit on locked memory forbids it.
    pub registered_bytes: u64,
    /// `READV_FIXED` and `WRITEV_FIXED` (6.15): vectored I/O on registered buffers.
    pub vectored_fixed: bool,
    /// There is a second ring, for devices with poll queues.
    pub polled: bool,
    /// The second ring uses the first one's registered buffers (`IORING_REGISTER_CLONE_BUFFERS`, 6.12);
    /// else it has pinned the arena again.
    pub shared_buffers: bool,
    /// Kernel workers for blocking calls are bounded and bound to CPUs.
    pub bounded_workers: bool,
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "io_uring: single issuer, deferred task running, {} registered files{}",
            self.registered_files,
            if self.registered_devices { "" } else { " (devices not)" }
        )?;
        match self.registered_bytes {
            0 => write!(f, ", no registered buffers (limit on locked memory: see RLIMIT_MEMLOCK)")?,
            bytes => write!(f, ", {} MiB of registered buffers", bytes >> 20)?,
        }
        for (there, name) in [
            (self.vectored_fixed, "vectored fixed I/O"),
            (self.registered_ring, "registered ring"),
            (self.no_sqarray, "no submission array"),
            (self.bounded_workers, "bounded workers"),
        ] {
            write!(f, ", {}{name}", if there { "" } else { "without " })?;
        }
        match (self.polled, self.shared_buffers) {
            (false, _) => Ok(()),
            (true, true) => f.write_str(", a polled ring on the same buffers"),
            (true, false) => f.write_str(", a polled ring with buffers of its own"),
        }
    }
}

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel was built without io_uring.
    #[error("this kernel has no io_uring (CONFIG_IO_URING is off)")]
    Missing,
    /// io_uring is there, but this process may not use it.
    #[error("io_uring is forbidden here: {0}")]
    Forbidden(&'static str),
    /// Single issuer with deferred task running came with 6.1.
    #[error("this kernel's io_uring is too old: Linux 6.1 is the oldest that works")]
    TooOld,
    /// Not enough memory, or not enough that may be locked.
    #[error("no memory for io_uring's queues (is RLIMIT_MEMLOCK very small?)")]
    NoMemory,
    /// The kernel refused to register files.
    #[error("io_uring: cannot register {0} files: {1} (is RLIMIT_NOFILE smaller?)")]
    Files(u32, io::Error),
    /// No eventfd for wake-ups.
    #[error("cannot make an eventfd: {0}")]
    Eventfd(rustix::io::Errno),
    /// Something else.
    #[error("io_uring: {0}")]
    Other(io::Error),
}

impl RingError {
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Self::Files(_, error) | Self::Other(error) => Errno(error.raw_os_error().unwrap_or(Errno::IO.0)),
            _ => Errno::NOT_SUPPORTED,
        }
    }
}

/// Names the cause of a failed `io_uring_setup`.
fn explain(error: io::Error) -> RingError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => RingError::Missing,
        Some(libc::EPERM | libc::EACCES) => RingError::Forbidden(forbidden_by()),
        Some(libc::EINVAL) => RingError::TooOld,
        Some(libc::ENOMEM) => RingError::NoMemory,
        _ => RingError::Other(error),
    }
}

fn forbidden_by() -> &'static str {
    match std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").as_deref().map(str::trim) {
        Ok("2") => "sysctl kernel.io_uring_disabled is 2 (set it to 0)",
        Ok("1") => "sysctl kernel.io_uring_disabled is 1, and this process is not in io_uring_group",
        _ => "a seccomp filter or security module (a container runtime's default, for example) blocks it",
    }
}

/// Sets a ring up, with the newest flags that the kernel takes.
pub(crate) fn build(plan: &RingPlan) -> Result<(KernelRing, Features), RingError> {
    let entries = plan.entries.next_power_of_two().clamp(64, 8192);
    let completions = plan.operations.next_power_of_two().clamp(entries * 2, 65536);
    let attempt = |no_sqarray: bool| {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        builder.setup_cqsize(completions);
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        builder.build(entries)
    };
    let (ring, no_sqarray) = match attempt(true) {
        Ok(ring) => (ring, true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (attempt(false).map_err(explain)?, false),
        Err(error) => return Err(explain(error)),
    };
    let registered_devices = kernel().is_some_and(|version| version >= CLOSES_AT_ONCE);
    Ok((ring, Features { no_sqarray, registered_devices, ..Features::default() }))
}

/// The first Linux that closes a registered file as soon as nothing uses it.
const CLOSES_AT_ONCE: (u32, u32) = (6, 13);

/// The running kernel's version; `None` where it does not say.
fn kernel() -> Option<(u32, u32)> {
    version(&std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// A ring whose completions are polled for in the driver.
pub(crate) fn build_polled(plan: &RingPlan) -> Result<KernelRing, Errno> {
    let entries = plan.entries.next_power_of_two().clamp(64, 4096);
    let mut builder = IoUring::builder();
    builder.setup_iopoll().setup_single_issuer().setup_defer_taskrun().setup_cqsize(entries * 2);
    builder.build(entries).map_err(|error| Errno(error.raw_os_error().unwrap_or(Errno::IO.0)))
}

/// Whether the kernel knows `READV_FIXED` and `WRITEV_FIXED`.
pub(crate) fn has_vectored_fixed(ring: &KernelRing) -> bool {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).is_ok()
        && probe.is_supported(opcode::ReadvFixed::CODE)
        && probe.is_supported(opcode::WritevFixed::CODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_understood() {
        assert_eq!(version("6.18.44-fc-v595\n"), Some((6, 18)));
        assert_eq!(version("6.1.0-56-amd64"), Some((6, 1)));
        assert_eq!(version("6.13-rc1"), Some((6, 13)));
        assert_eq!((version("six"), version("")), (None, None));
    }
}
