//! Which reads and writes may go through the polled (IOPOLL) ring: those that the block layer does not split.
//!
//! The kernel lets a polled request never wait, and splits none that may not wait (seen on Linux 6.1): it refuses it,
//! one of the ring's workers tries again at once, and so for ever, before everything else that needs a worker. What
//! might be split therefore goes through the other ring, to the same device. Large transfers gain next to nothing by
//! being polled for.

/// Polled requests touch no more than one aligned piece of the device of this size. It is the smallest boundary at
/// which NVMe devices split (their optimal boundary for I/O), and so few pages that their number splits nothing.
const SPAN: u64 = 128 << 10;
/// Pages as NVMe counts them: only the first may begin, and only the last may end, within one.
const PAGE: usize = 4096;

/// Whether no device splits a transfer of this memory at this offset. How many bytes it takes at once is not looked
/// at: the volume's limits see to that.
pub(crate) fn stays_whole(offset: u64, memory: &[libc::iovec]) -> bool {
    let len: usize = memory.iter().map(|part| part.iov_len).sum();
    let Some(last) = (len as u64).checked_sub(1).and_then(|more| offset.checked_add(more)) else {
        return false;
    };
    let joined = memory.windows(2).all(|pair| match pair {
        [a, b] => {
            (a.iov_base.addr() + a.iov_len).is_multiple_of(PAGE) && b.iov_base.addr().is_multiple_of(PAGE)
        }
        _ => true,
    });
    offset / SPAN == last / SPAN && joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(parts: &[(usize, usize)]) -> Vec<libc::iovec> {
        let part = |&(at, len): &(usize, usize)| libc::iovec {
            iov_base: std::ptr::without_provenance_mut(at),
            iov_len: len,
        };
        parts.iter().map(part).collect()
    }

    #[test]
    fn small_and_aligned_stays_whole() {
        assert!(stays_whole(0, &memory(&[(0x10000, 4096)])));
        assert!(stays_whole(512, &memory(&[(0x10200, 512)])));
        assert!(stays_whole(128 << 10, &memory(&[(0x10000, 128 << 10)])));
        // Three pages from anywhere, the first from its middle, the last to its middle.
        assert!(stays_whole(4096, &memory(&[(0x10800, 0x800), (0x50000, 0x1000), (0x20000, 0x200)])));
    }

    #[test]
    fn large_or_over_a_boundary_may_be_split() {
        assert!(!stays_whole(0, &memory(&[(0x10000, (128 << 10) + 512)])));
        assert!(!stays_whole((128 << 10) - 4096, &memory(&[(0x10000, 8192)])));
        assert!(stays_whole((128 << 10) - 8192, &memory(&[(0x10000, 8192)])));
        assert!(!stays_whole(u64::MAX, &memory(&[(0x10000, 4096)])));
        assert!(!stays_whole(0, &[]));
    }

    #[test]
    fn gaps_in_memory_split() {
        assert!(!stays_whole(0, &memory(&[(0x10000, 512), (0x20000, 512)])));
        assert!(!stays_whole(0, &memory(&[(0x10000, 4096), (0x20200, 512)])));
    }
}
