//! The one mapping that an arena stands on: taken from the kernel, touched once, never given back.
//!
//! Called by the arena at start. It knows nothing of pages or classes.

use crate::error::MemoryError;
use crate::plan::{Backing, HugePages};
use std::ptr::NonNull;

/// A huge page of the kinds asked for here, and the alignment of every mapping.
pub(crate) const HUGE: usize = 2 << 20;

/// Zeroed, readable and writable memory that lives as long as the process.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) base: NonNull<u8>,
    pub(crate) len: usize,
    pub(crate) backing: Backing,
}

/// With a model checker or an interpreter there is no kernel to ask: the allocator stands in.
#[cfg(any(miri, loom))]
pub(crate) fn map(bytes: usize, _huge: HugePages) -> Result<Mapping, MemoryError> {
    let refused = || MemoryError::Map { bytes, source: std::io::ErrorKind::OutOfMemory.into() };
    let layout = std::alloc::Layout::from_size_align(bytes, HUGE).map_err(|_| refused())?;
    // SAFETY: the layout's size is not zero: the plan was checked.
    let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or_else(refused)?;
    Ok(Mapping { base, len: bytes, backing: Backing::Plain })
}

/// Maps at least `bytes` (not zero), aligned to 2 MiB, with memory behind every byte.
#[cfg(not(any(miri, loom)))]
pub(crate) fn map(bytes: usize, huge: HugePages) -> Result<Mapping, MemoryError> {
    let too_large = || MemoryError::Map { bytes, source: std::io::ErrorKind::OutOfMemory.into() };
    let len = bytes.checked_next_multiple_of(HUGE).ok_or_else(too_large)?;
    if huge == HugePages::Try
        && let Some(base) = linux::map_huge(len)
    {
        linux::keep_private(base, len);
        return Ok(Mapping { base, len, backing: Backing::HugeTlb });
    }
    let base = linux::map_aligned(len).map_err(|source| MemoryError::Map { bytes, source })?;
    linux::keep_private(base, len);
    let joined = linux::advise_huge(base, len, huge == HugePages::Try);
    linux::populate(base, len).map_err(|source| MemoryError::Map { bytes, source })?;
    let backing = if joined && huge == HugePages::Try {
        Backing::Transparent { huge_bytes: linux::huge_bytes(base) }
    } else {
        Backing::Plain
    };
    Ok(Mapping { base, len, backing })
}

#[cfg(not(any(miri, loom)))]
mod linux {
    use super::HUGE;
    use std::ffi::c_int;
    use std::io;
    use std::ptr::{NonNull, null_mut};

    fn map(len: usize, flags: c_int) -> io::Result<NonNull<u8>> {
        // SAFETY: a new private anonymous mapping where the kernel likes: it touches no memory
        // that anything else uses.
        let base = unsafe {
            libc::mmap(
                null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// # Safety
    /// The range is (part of) a mapping of this module that nothing uses.
    unsafe fn unmap(base: *mut u8, len: usize) {
        if len > 0 {
            // SAFETY: as the caller says. A failure would only leave address space taken.
            unsafe { libc::munmap(base.cast(), len) };
        }
    }

    /// From the pool of huge pages. `None` where the pool is too small.
    pub(super) fn map_huge(len: usize) -> Option<NonNull<u8>> {
        let base = map(len, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB).ok()?;
        // The pool may be there but not for this process's nodes: find out now, not by a signal.
        if populate(base, len).is_err() {
            // SAFETY: just mapped, and used by nothing.
            unsafe { unmap(base.as_ptr(), len) };
            return None;
        }
        Some(base)
    }

    /// Ordinary memory at a multiple of 2 MiB: maps more and cuts off both ends.
    pub(super) fn map_aligned(len: usize) -> io::Result<NonNull<u8>> {
        let more = len.checked_add(HUGE).ok_or(io::ErrorKind::OutOfMemory)?;
        let raw = map(more, 0)?.as_ptr();
        let skip = raw.align_offset(HUGE);
        let base = raw.wrapping_add(skip);
        // SAFETY: both ends belong to the mapping just made, outside the part that is kept.
        unsafe {
            unmap(raw, skip);
            unmap(base.wrapping_add(len), HUGE - skip);
        }
        NonNull::new(base).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    fn advise(base: NonNull<u8>, len: usize, advice: c_int) -> io::Result<()> {
        // SAFETY: the range is a whole mapping of this module, and none of the advices used here
        // takes memory away or changes what it holds.
        match unsafe { libc::madvise(base.as_ptr().cast(), len, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether the kernel took the advice to use huge pages, or not to.
    pub(super) fn advise_huge(base: NonNull<u8>, len: usize, wanted: bool) -> bool {
        advise(base, len, if wanted { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE }).is_ok()
    }

    /// Keeps hosts' data out of core dumps, and the pages out of children: a page that is
    /// registered with the kernel must never be copied on write.
    pub(super) fn keep_private(base: NonNull<u8>, len: usize) {
        // Both are precautions; a kernel that knows neither is no reason not to start.
        let _ = advise(base, len, libc::MADV_DONTDUMP);
        let _ = advise(base, len, libc::MADV_DONTFORK);
    }

    /// Puts memory behind every page now, so that no fault is taken later and running out is an
    /// error at start.
    pub(super) fn populate(base: NonNull<u8>, len: usize) -> io::Result<()> {
        match advise(base, len, libc::MADV_POPULATE_WRITE) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // Before Linux 5.14: touch each page.
                for offset in (0..len).step_by(4096) {
                    // SAFETY: inside the mapping, which is zero and not yet used by anything.
                    unsafe { base.as_ptr().add(offset).write_volatile(0) };
                }
                Ok(())
            }
            other => other,
        }
    }

    /// How much of the mapping at `base` stands on huge pages, as `/proc/self/smaps` says; 0 where
    /// it says nothing.
    pub(super) fn huge_bytes(base: NonNull<u8>) -> usize {
        let Ok(text) = std::fs::read_to_string("/proc/self/smaps") else { return 0 };
        parse_huge_bytes(&text, base.as_ptr().addr())
    }

    pub(super) fn parse_huge_bytes(smaps: &str, start: usize) -> usize {
        let head = format!("{start:08x}-");
        smaps
            .lines()
            .skip_while(|line| !line.starts_with(&head))
            .find_map(|line| line.strip_prefix("AnonHugePages:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse::<usize>().ok())
            .map_or(0, |kib| kib.saturating_mul(1024))
    }
}

#[cfg(all(test, not(any(miri, loom))))]
mod tests {
    use super::*;

    #[test]
    fn plain_memory_is_aligned_zero_and_writable() {
        let mapping = map(3 * HUGE - 1, HugePages::Off).unwrap();
        assert_eq!(mapping.len, 3 * HUGE);
        assert_eq!(mapping.backing, Backing::Plain);
        assert_eq!(mapping.base.as_ptr().addr() % HUGE, 0);
        // SAFETY: the test has just mapped it, and nothing else uses it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(mapping.base.as_ptr(), mapping.len) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        bytes.fill(7);
        assert_eq!(bytes[mapping.len - 1], 7);
    }

    #[test]
    fn huge_pages_are_tried() {
        let mapping = map(4 * HUGE, HugePages::Try).unwrap();
        assert_eq!(mapping.base.as_ptr().addr() % HUGE, 0);
        if let Backing::Transparent { huge_bytes } = mapping.backing {
            assert!(huge_bytes <= mapping.len);
        }
    }

    #[test]
    fn more_than_there_can_be_is_an_error() {
        assert!(matches!(map(usize::MAX, HugePages::Off), Err(MemoryError::Map { .. })));
        assert!(matches!(map(1 << 56, HugePages::Try), Err(MemoryError::Map { .. })));
    }

    #[test]
    fn the_kernels_account_is_read_by_address() {
        let text = "7f00-7f10 rw-p 0 0 0\nAnonHugePages:   2048 kB\n\
                    00200000-00400000 rw-p 0 0 0\nRss: 4 kB\nAnonHugePages:     4096 kB\n";
        assert_eq!(linux::parse_huge_bytes(text, 0x20_0000), 4096 * 1024);
        assert_eq!(linux::parse_huge_bytes(text, 0x40_0000), 0);
    }
}
