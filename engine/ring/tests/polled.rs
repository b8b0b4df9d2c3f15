//! The second ring of a core, for devices with poll queues. In a process of its own: it looks at what the kernel
//! counts for the whole of it.

use kagami_memory::{Arena, ArenaPlan, Class, HugePages};
use kagami_ring::{Ring, RingPlan};

#[test]
fn a_polled_ring_does_not_pin_the_arena_again() {
    let arena = Arena::new(ArenaPlan::new(1).with(Class::Page, 512, 0), HugePages::Off).expect("an arena");
    let mut ring = Ring::new(RingPlan::default(), &arena).expect("a ring");
    let before = pinned();
    // Nothing is read or written: files cannot be polled for.
    ring.add_file(tempfile::tempfile().expect("a file").into(), true).expect("a place");
    let features = ring.features();
    assert!(features.polled, "{features}");
    if features.registered_bytes > 0 && kernel() >= (6, 12) {
        assert!(features.shared_buffers, "{features}");
        assert_eq!(pinned(), before);
    }
    assert_eq!(features.to_string().contains("on the same buffers"), features.shared_buffers);
}

/// Memory that the kernel counts as pinned for this process, in KiB.
fn pinned() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmPin:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn kernel() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
