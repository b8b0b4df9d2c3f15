//! Moving and looking at bytes: the few loops that are worth a word of their own.

/// The size of a cache line on every machine that this is tuned for.
const LINE: usize = 64;

/// Asks the processor to bring the first `lines` cache lines of `bytes`. A hint: no line beyond the
/// bytes is named, and on processors other than x86-64 nothing happens.
#[inline]
pub fn prefetch(bytes: &[u8], lines: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in bytes.chunks(LINE).take(lines) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (bytes, lines, LINE);
}

/// Asks the processor to bring the line that a value begins in, to be changed. A hint.
#[inline]
pub fn prefetch_value<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

/// From this length on [`copy_cold`] goes past the caches.
const STREAM_FROM: usize = 2048;

/// Copies as much of `src` as `dst` has room for, into memory that is not in the caches and will
/// not be read soon: a cache page of a volume. Returns the length.
///
/// Not for pages that are used again at once, as those of a `null` volume or a send window: they are
/// hot, and pushing them out costs more than it saves.
// Streaming stores save reading each line before it is overwritten. 4 KiB in ns, plain against
// streaming (best / median of 40 alternating rounds, EPYC with 32 MiB of L3, 512 MiB of pages):
//   cold, huge pages  421 / 514   319 / 373      1 KiB cold   261 / 322   250 / 286
//   cold, 4 KiB pages 551 / 627   427 / 476      512 B cold   101 / 126   145 / 171
//   hot, in L2         89 /  94   231 / 246
// and when the copy is read right after: 551 / 606 against 633 / 709. Stores of 32 and of 64 bytes
// are no better than those of 16. `cargo bench -p kagami-micro --bench copy` measures the same.
#[inline]
pub fn copy_cold(dst: &mut [u8], src: &[u8]) -> usize {
    let len = dst.len().min(src.len());
    let (dst, src) = (&mut dst[..len], &src[..len]);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= STREAM_FROM {
        x86::stream(dst, src);
        return len;
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = STREAM_FROM;
    dst.copy_from_slice(src);
    len
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    /// Copies between slices of the same length.
    pub(super) fn stream(dst: &mut [u8], src: &[u8]) {
        let head = dst.as_ptr().align_offset(16).min(dst.len());
        let (dst_head, dst) = dst.split_at_mut(head);
        let (src_head, src) = src.split_at(head.min(src.len()));
        dst_head.copy_from_slice(src_head);
        let (dst_blocks, dst_tail) = dst.as_chunks_mut::<64>();
        let (src_blocks, src_tail) = src.as_chunks::<64>();
        for (to, from) in dst_blocks.iter_mut().zip(src_blocks) {
            let to = to.as_mut_ptr().cast::<__m128i>();
            let from = from.as_ptr().cast::<__m128i>();
            // SAFETY: both pointers have 64 bytes; `to` is a multiple of 16, as the head was cut off
            // for and every block is 64 long; SSE2 is part of x86-64.
            unsafe {
                let line = [
                    _mm_loadu_si128(from),
                    _mm_loadu_si128(from.add(1)),
                    _mm_loadu_si128(from.add(2)),
                    _mm_loadu_si128(from.add(3)),
                ];
                _mm_stream_si128(to, line[0]);
                _mm_stream_si128(to.add(1), line[1]);
                _mm_stream_si128(to.add(2), line[2]);
                _mm_stream_si128(to.add(3), line[3]);
            }
        }
        dst_tail.copy_from_slice(src_tail);
        // Streaming stores are ordered by nothing else: without this, another core that is handed
        // the page, or this one's kernel, could read what was there before.
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() };
    }
}

/// Whether every byte is zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Folding a block without a branch lets the compiler use vectors; the branch between blocks
    // ends early on data, which nearly always shows in its first bytes.
    let (blocks, rest) = bytes.as_chunks::<256>();
    blocks.iter().all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

/// The offset of the first byte that differs; `None` where the shorter is a prefix of the longer.
#[must_use]
pub(crate) fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let len = a.len().min(b.len());
    if a[..len] == b[..len] {
        return None;
    }
    a.iter().zip(b).position(|(x, y)| x != y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_zero_wherever_a_byte_is_not() {
        let mut bytes = vec![0u8; 1000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, 255, 256, 511, 767, 768, 999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
            bytes[at] = 0;
        }
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(first_difference(b"abc", b"abd"), Some(2));
        assert_eq!(first_difference(b"abc", b"abcdef"), None);
        assert_eq!(first_difference(b"", b"x"), None);
    }

    #[test]
    fn copies_are_whole_at_every_alignment() {
        let src: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for (offset, len) in [(0, 4096), (1, 4096), (63, 100), (7, 0), (3, 4997), (16, 513)] {
            let mut dst = vec![0xee; 5000];
            assert_eq!(copy_cold(&mut dst[offset..offset + len], &src[1..]), len);
            assert_eq!(dst[offset..offset + len], src[1..=len]);
            assert!(dst[..offset].iter().chain(&dst[offset + len..]).all(|&byte| byte == 0xee));
        }
        prefetch(&src, 1000);
        assert_eq!(copy_cold(&mut [0; 3], b"ab"), 2);
    }
}
