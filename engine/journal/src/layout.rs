//! Where the parts of a journal lie on its device.

use crate::bitmap::{self, BITS_PER_BLOCK};
use crate::bits::GRANULE;

/// The unit of everything on a journal: 4 KiB.
pub const BLOCK: u64 = 4096;
/// The smallest data area that is accepted: 256 KiB. Sensible ones are a thousand times as large.
pub const MIN_DATA: u64 = 256 << 10;
/// No area of a journal ends behind this, so that places never overflow: 2^56 bytes.
const MAX_BYTES: u64 = 1 << 56;

/// Where the parts of a journal lie, in bytes from the device's start; all are multiples of [`BLOCK`].
///
/// Superblocks are at 0 and 4 KiB, then come the two copies of the difference bitmap, the metadata area, and the data
/// area to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// How much of the device is used.
    pub bytes: u64,
    /// Where the two copies of the bitmap begin.
    pub bitmap_at: [u64; 2],
    /// How long each copy is.
    pub bitmap_len: u64,
    /// Where the metadata area begins: the index of frames.
    pub metadata_at: u64,
    /// How long it is.
    pub metadata_len: u64,
    /// Where the data area begins: the frames.
    pub data_at: u64,
    /// How long it is. Both journals of a group have the same.
    pub data_len: u64,
}

/// Why a device cannot be a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// It needs more bytes.
    #[error(
        "a journal for {covered} bytes of volumes needs at least {needed} bytes, the device has {device}"
    )]
    TooSmall {
        /// What there is.
        device: u64,
        /// How much the volumes have.
        covered: u64,
        /// The least that will do.
        needed: u64,
    },
    /// Sizes that no device has.
    #[error("sizes beyond 2^56 bytes")]
    TooLarge,
    /// The parts overlap, are not multiples of 4096, or end behind the device.
    #[error("the parts of the journal do not fit together")]
    Malformed,
}

impl Layout {
    /// The layout of a device of `device_bytes` for volumes of together `covered_bytes`, with room for them to grow
    /// to twice that.
    ///
    /// # Errors
    /// There is no room for the bitmap and a data area of [`MIN_DATA`]; or sizes that no device has.
    pub fn new(device_bytes: u64, covered_bytes: u64) -> Result<Self, LayoutError> {
        if device_bytes > MAX_BYTES || covered_bytes > MAX_BYTES {
            return Err(LayoutError::TooLarge);
        }
        let (bitmap_len, fixed) = Self::fixed(covered_bytes);
        let needed = fixed + 2 * BLOCK + MIN_DATA;
        if device_bytes < needed {
            return Err(LayoutError::TooSmall { device: device_bytes, covered: covered_bytes, needed });
        }
        let rest = (device_bytes - fixed) / BLOCK * BLOCK;
        // One part in 256, from two blocks to 16 MiB.
        let metadata_len = (rest / 256 / BLOCK * BLOCK).clamp(2 * BLOCK, 16 << 20);
        let metadata_at = fixed;
        let data_at = metadata_at + metadata_len;
        let layout = Self {
            bytes: device_bytes / BLOCK * BLOCK,
            bitmap_at: [2 * BLOCK, 2 * BLOCK + bitmap_len],
            bitmap_len,
            metadata_at,
            metadata_len,
            data_at,
            data_len: rest - metadata_len,
        };
        layout.checked()
    }

    /// The least bytes of a device, whole MiB, on which a journal for volumes of together `covered_bytes` has a data area of at
    /// least `data_len`.
    #[must_use]
    pub fn least(covered_bytes: u64, data_len: u64) -> u64 {
        let data = data_len.clamp(MIN_DATA, MAX_BYTES).next_multiple_of(BLOCK);
        let metadata = (data / 255 + BLOCK).clamp(2 * BLOCK, 16 << 20).next_multiple_of(BLOCK);
        (Self::fixed(covered_bytes.min(MAX_BYTES)).1 + metadata + data).next_multiple_of(1 << 20)
    }

    /// The length of a copy of the bitmap, and of all that comes before the metadata area.
    fn fixed(covered_bytes: u64) -> (u64, u64) {
        let granules = covered_bytes.saturating_mul(2).div_ceil(GRANULE);
        // A volume begins in a block of its own: one more for each of the most that a group has.
        let blocks = granules.div_ceil(BITS_PER_BLOCK) + bitmap::MAX_VOLUMES;
        let bitmap_len = blocks * BLOCK;
        (bitmap_len, 2 * BLOCK + 2 * bitmap_len)
    }

    /// The same with a shorter data area: the smaller of two arrays decides when a group is made.
    ///
    /// # Errors
    /// It would be longer, shorter than [`MIN_DATA`], or no multiple of [`BLOCK`].
    pub fn with_data_len(mut self, len: u64) -> Result<Self, LayoutError> {
        if len > self.data_len {
            return Err(LayoutError::Malformed);
        }
        self.data_len = len;
        self.checked()
    }

    /// Itself, where its parts fit together: for layouts that were read from somewhere.
    ///
    /// # Errors
    /// They do not.
    pub fn checked(self) -> Result<Self, LayoutError> {
        let parts = [
            (self.bitmap_at[0], self.bitmap_len),
            (self.bitmap_at[1], self.bitmap_len),
            (self.metadata_at, self.metadata_len),
            (self.data_at, self.data_len),
        ];
        let mut free = 2 * BLOCK;
        for (at, len) in parts {
            if at % BLOCK != 0
                || len % BLOCK != 0
                || len == 0
                || at > MAX_BYTES
                || len > MAX_BYTES
                || at < free
            {
                return Err(LayoutError::Malformed);
            }
            free = at + len;
        }
        if free > self.bytes || self.data_len < MIN_DATA {
            return Err(LayoutError::Malformed);
        }
        Ok(self)
    }

    /// The byte of the device where that place of the journal lies.
    #[inline]
    #[must_use]
    pub fn place(&self, offset: u64) -> u64 {
        self.data_at + offset % self.data_len.max(BLOCK)
    }

    /// How many bytes from that place on lie together on the device, until the data area begins anew.
    #[inline]
    #[must_use]
    pub fn until_wrap(&self, offset: u64) -> u64 {
        let len = self.data_len.max(BLOCK);
        len - offset % len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn too_small_says_how_much_it_needs() {
        let error = Layout::new(100 << 10, 1 << 30).unwrap_err();
        let LayoutError::TooSmall { needed, .. } = error else { panic!("{error}") };
        assert!(Layout::new(needed - 1, 1 << 30).is_err());
        let least = Layout::new(needed, 1 << 30).unwrap();
        assert_eq!(least.data_len, MIN_DATA);
        assert_eq!(Layout::new(u64::MAX, 0), Err(LayoutError::TooLarge));
    }

    #[test]
    fn places_go_round() {
        let layout = Layout::new(1 << 30, 1 << 40).unwrap();
        let len = layout.data_len;
        assert_eq!(layout.place(0), layout.data_at);
        assert_eq!(layout.place(3 * len + 4096), layout.data_at + 4096);
        assert_eq!(layout.until_wrap(3 * len), len);
        assert_eq!(layout.until_wrap(4 * len - 4096), 4096);
        let short = layout.with_data_len(1 << 20).unwrap();
        assert_eq!(short.place(1 << 20), short.data_at);
        assert!(short.with_data_len(2 << 20).is_err());
        assert!(short.with_data_len((1 << 20) - 1).is_err());
        assert!(Layout::default().checked().is_err());
    }

    #[test]
    fn the_least_device_has_the_data_area_that_was_asked_for() {
        for covered in [0, 1 << 20, 3 << 40] {
            for data in [0, 1 << 20, 8 << 20 | 4097, 32 << 20, 5 << 30, 1 << 40] {
                let least = Layout::least(covered, data);
                let layout = Layout::new(least, covered).unwrap();
                assert!(layout.data_len >= data, "{covered} {data}: {layout:?}");
                // Not more than it takes: rounded up to a MiB, a block or two of it for the index.
                let smaller = Layout::new(least - (1 << 20) - 3 * BLOCK, covered);
                assert!(smaller.is_ok_and(|one| one.data_len < data) || data <= MIN_DATA);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_never_overlap(device in 0u64..1 << 44, covered in 0u64..1 << 48) {
            if let Ok(layout) = Layout::new(device, covered) {
                prop_assert!(layout.checked().is_ok());
                prop_assert!(layout.data_at + layout.data_len <= device);
                prop_assert!(layout.bitmap_len / BLOCK * BITS_PER_BLOCK * GRANULE >= covered);
            }
        }
    }
}
