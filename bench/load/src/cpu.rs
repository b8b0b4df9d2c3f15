//! Cores, clocks and the CPU time of threads and processes.

use crate::error::Error;
use rustix::thread::{ClockId, CpuSet};
use rustix::time::clock_gettime;

/// Ties the calling thread to a core.
///
/// # Errors
/// [`Error::Usage`] where the machine has no such core for us.
pub fn pin(core: usize) -> Result<(), Error> {
    let refused =
        || Error::Usage(format!("core {core} cannot be used; see taskset -p $$ for those that can"));
    if core >= CpuSet::MAX_CPU {
        return Err(refused());
    }
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).map_err(|_| refused())
}

/// The CPU time that the calling thread has had, in nanoseconds.
#[must_use]
pub fn thread_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

/// A clock that never goes back, in nanoseconds.
#[inline]
#[must_use]
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

#[inline]
fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The CPU time that a process has had, all its threads together, in nanoseconds.
#[must_use]
pub fn process_ns(pid: u32) -> Option<u64> {
    let mut total = 0u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // "schedstat" has nanoseconds, "stat" only ticks of 10 ms.
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        total = total.checked_add(text.split_whitespace().next()?.parse().ok()?)?;
    }
    Some(total)
}

/// Allows as many open files as the machine lets us have; many sessions need it.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, opening sockets says so later.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes() {
        let (wall, cpu) = (now_ns(), thread_ns());
        let mut sum = 0u64;
        while now_ns() < wall + 2_000_000 {
            sum = sum.wrapping_add(1);
        }
        assert!(sum > 0 && thread_ns() > cpu);
        assert!(process_ns(std::process::id()).is_some_and(|ns| ns > 0));
        assert_eq!(process_ns(u32::MAX), None);
    }
}
