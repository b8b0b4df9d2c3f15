//! What the machine has: CPUs, memory, limits, kernel.

use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::fs;
use std::io;

/// What the plan may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that this process may run on, ascending; never empty.
    pub cpus: Vec<u32>,
    /// Bytes of memory that can be taken without swapping, the cgroup's limit regarded.
    pub memory: u64,
    /// Bytes that may be locked or registered; `None`: no limit (CAP_IPC_LOCK or unlimited).
    pub memlock: Option<u64>,
    /// File descriptors, hard limit; `None`: no limit.
    pub open_files: Option<u64>,
    /// The running kernel.
    pub kernel: KernelVersion,
}

/// A kernel's version, as far as it decides what works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// The whole release string.
    pub release: String,
}

impl KernelVersion {
    /// The oldest that works.
    pub const MINIMUM: (u32, u32) = (6, 1);

    /// Reads a release string such as "6.1.0-18-amd64". What has no numbers counts as 0.0.
    #[must_use]
    pub fn parse(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let major = numbers.next().unwrap_or(0);
        let minor = numbers.next().unwrap_or(0);
        Self { major, minor, release: release.to_owned() }
    }

    /// Whether it is new enough.
    #[must_use]
    pub fn suffices(&self) -> bool {
        (self.major, self.minor) >= Self::MINIMUM
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.release)
    }
}

impl Machine {
    /// Asks the system.
    ///
    /// # Errors
    /// /proc is not readable, or the CPUs cannot be asked for.
    pub fn detect() -> io::Result<Self> {
        let set = rustix::thread::sched_getaffinity(None)?;
        let cpus: Vec<u32> = (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .filter_map(|cpu| u32::try_from(cpu).ok())
            .collect();
        if cpus.is_empty() {
            return Err(io::Error::other("no CPU is allowed for this process"));
        }
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let mut memory = meminfo_bytes(&meminfo, "MemAvailable:")
            .ok_or_else(|| io::Error::other("/proc/meminfo does not say MemAvailable"))?;
        if let Some(left) = cgroup_left() {
            memory = memory.min(left);
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memlock = if may_lock_any(&status) { None } else { getrlimit(Resource::Memlock).current };
        Ok(Self {
            cpus,
            memory,
            memlock,
            open_files: getrlimit(Resource::Nofile).maximum,
            kernel: KernelVersion::parse(&rustix::system::uname().release().to_string_lossy()),
        })
    }
}

/// A line of /proc/meminfo, in bytes.
fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Whether /proc/self/status names CAP_IPC_LOCK (bit 14) as effective.
fn may_lock_any(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << 14) != 0)
}

/// What this process's cgroup (version 2) leaves below its limit, where it has one.
fn cgroup_left() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = format!("/sys/fs/cgroup{path}");
    let limit: u64 = fs::read_to_string(format!("{folder}/memory.max")).ok()?.trim().parse().ok()?;
    let used: u64 = fs::read_to_string(format!("{folder}/memory.current")).ok()?.trim().parse().ok()?;
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        for (release, numbers, enough) in [
            ("6.1.0-18-amd64", (6, 1), true),
            ("6.18.44-fc-v595", (6, 18), true),
            ("5.19.17", (5, 19), false),
            ("10.0", (10, 0), true),
            ("strange", (0, 0), false),
        ] {
            let version = KernelVersion::parse(release);
            assert_eq!((version.major, version.minor), numbers);
            assert_eq!(version.suffices(), enough, "{release}");
        }
    }

    #[test]
    fn proc_files_are_read() {
        assert_eq!(meminfo_bytes("MemTotal: 5 kB\nMemAvailable:   12 kB\n", "MemAvailable:"), Some(12288));
        assert_eq!(meminfo_bytes("MemTotal: 5 kB", "MemAvailable:"), None);
        assert!(may_lock_any("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_lock_any("CapEff:\t0000000000000000\n"));
    }

    #[test]
    fn this_machine_can_be_asked() {
        let machine = Machine::detect().unwrap();
        assert!(!machine.cpus.is_empty());
        assert!(machine.memory > 0);
    }
}
