//! Whether io_uring can be used at all, before anything is started.
//!
//! The rings say exactly what is wrong when they are made; this asks only what can be asked
//! without making one, so that `--check` can answer for a machine.

use crate::plan::KernelVersion;
use std::fs;

/// Why io_uring cannot be used here, where that is plain to see.
#[must_use]
pub fn obstacle(kernel: &KernelVersion) -> Option<String> {
    if !kernel.suffices() {
        let (major, minor) = KernelVersion::MINIMUM;
        return Some(format!("io_uring: the kernel is {kernel}; {major}.{minor} or newer is needed"));
    }
    let sysctl = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    let root = rustix::process::geteuid().is_root();
    let groups = || {
        let mut groups = rustix::process::getgroups().unwrap_or_default();
        groups.push(rustix::process::getegid());
        groups.iter().map(|group| i64::from(group.as_raw())).collect::<Vec<_>>()
    };
    disabled(sysctl("io_uring_disabled").trim(), sysctl("io_uring_group").trim(), root, groups)
}

fn disabled(level: &str, group: &str, root: bool, groups: impl FnOnce() -> Vec<i64>) -> Option<String> {
    match level {
        "2" => Some("io_uring: sysctl kernel.io_uring_disabled is 2; set it to 0".to_owned()),
        "1" if !root && !group.parse().is_ok_and(|group| groups().contains(&group)) => Some(
            "io_uring: sysctl kernel.io_uring_disabled is 1; set it to 0, run as root, or join the group of \
             kernel.io_uring_group"
                .to_owned(),
        ),
        // No such sysctl, or 0: allowed, unless a filter says no, which the ring itself finds.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_named() {
        let groups = || vec![7, 20];
        assert_eq!(disabled("0", "-1", false, groups), None);
        assert_eq!(disabled("", "", false, groups), None);
        assert!(disabled("2", "-1", true, groups).unwrap().contains("is 2"));
        assert_eq!(disabled("1", "-1", true, groups), None);
        assert_eq!(disabled("1", "20", false, groups), None);
        assert!(disabled("1", "21", false, groups).unwrap().contains("is 1"));
        assert!(obstacle(&KernelVersion::parse("5.4.0")).unwrap().contains("6.1 or newer"));
    }
}
