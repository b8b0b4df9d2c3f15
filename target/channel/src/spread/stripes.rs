//! Which shard has which blocks, and how an operation falls into parts. Arithmetic only.

use kagami_types::{BlockRange, BlockSize, Lba};
use std::ops::Range;

/// The usual extent: long enough that nearly all commands lie within one.
pub(crate) const EXTENT: u64 = 4 << 20;

/// How the blocks of a volume are dealt out: extents of equal length, to the shards in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stripes {
    /// log2 of the blocks of an extent.
    shift: u32,
    shards: u16,
}

/// Blocks of one extent, and whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) shard: u16,
    pub(crate) blocks: Range<u64>,
}

impl Piece {
    /// As operations name it. An extent is far shorter than the numbers go.
    pub(crate) fn range(&self) -> BlockRange {
        let blocks = u32::try_from(self.blocks.end - self.blocks.start).unwrap_or(u32::MAX);
        BlockRange { lba: Lba(self.blocks.start), blocks }
    }
}

impl Stripes {
    /// Extents of so many bytes, a power of two and whole pages of the cache: a page belongs to one shard.
    /// `None` where that is not so, or there is no shard.
    pub(crate) fn new(extent: u64, block: BlockSize, shards: u16) -> Option<Self> {
        let fits = extent.is_power_of_two() && (4096..=1 << 30).contains(&extent);
        (fits && shards > 0).then(|| Self { shift: extent.ilog2() - block.shift(), shards })
    }

    /// Whose block that is.
    #[inline]
    pub(crate) fn shard(self, block: u64) -> u16 {
        // Below the number of shards, so it fits.
        u16::try_from((block >> self.shift) % u64::from(self.shards)).unwrap_or(0)
    }

    /// Whether the blocks are all of one extent.
    #[inline]
    pub(crate) fn is_one(self, blocks: &Range<u64>) -> bool {
        blocks.end <= blocks.start + 1 || (blocks.start ^ (blocks.end - 1)) >> self.shift == 0
    }

    /// The end of the extent that a block lies in.
    #[inline]
    pub(crate) fn extent_end(self, block: u64) -> u64 {
        ((block >> self.shift) + 1) << self.shift
    }

    /// The first piece of those blocks.
    pub(crate) fn first(self, blocks: &Range<u64>) -> Option<Piece> {
        let end = self.extent_end(blocks.start).min(blocks.end);
        (blocks.start < blocks.end)
            .then(|| Piece { shard: self.shard(blocks.start), blocks: blocks.start..end })
    }

    /// The shards that have some of those blocks.
    pub(crate) fn owners(self, blocks: &Range<u64>) -> impl Iterator<Item = u16> + use<> {
        let last = blocks.end.max(blocks.start + 1) - 1;
        let extents = (last >> self.shift) - (blocks.start >> self.shift) + 1;
        let first = self.shard(blocks.start);
        let shards = self.shards;
        let count = u16::try_from(extents.min(shards.into())).unwrap_or(shards);
        (0..count).map(move |step| {
            let shard = u32::from(first) + u32::from(step);
            u16::try_from(shard % u32::from(shards)).unwrap_or(0)
        })
    }
}

/// The pieces of some runs of blocks, in order, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    stripes: Stripes,
    runs: Vec<Range<u64>>,
    /// The run that is cut up next.
    at: usize,
}

impl Pieces {
    pub(crate) fn new(stripes: Stripes, runs: Vec<Range<u64>>) -> Self {
        Self { stripes, runs, at: 0 }
    }

    /// The pieces of one run.
    pub(crate) fn of(stripes: Stripes, run: Range<u64>) -> Self {
        Self::new(stripes, Vec::from([run]))
    }

    /// Nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.iter().skip(self.at).all(Range::is_empty)
    }

    /// Forgets what is left.
    pub(crate) fn stop(&mut self) {
        self.at = self.runs.len();
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        loop {
            let run = self.runs.get_mut(self.at)?;
            match self.stripes.first(run) {
                Some(piece) => {
                    run.start = piece.blocks.end;
                    return Some(piece);
                }
                None => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stripes() -> impl Strategy<Value = Stripes> {
        let block = prop_oneof![Just(BlockSize::B512), Just(BlockSize::B4096)];
        (12_u32..24, block, 1_u16..9)
            .prop_map(|(shift, block, shards)| Stripes::new(1 << shift, block, shards).unwrap())
    }

    #[test]
    fn extents_are_whole_pages_and_powers_of_two() {
        for bad in [0, 512, 2048, 12 << 10, 1 << 40] {
            assert_eq!(Stripes::new(bad, BlockSize::B512, 2), None);
        }
        assert_eq!(Stripes::new(EXTENT, BlockSize::B512, 0), None);
        let stripes = Stripes::new(EXTENT, BlockSize::B512, 3).unwrap();
        assert_eq!([0, 8191, 8192, 16384, 24576].map(|block| stripes.shard(block)), [0, 0, 1, 2, 0]);
        assert!(stripes.is_one(&(8100..8192)) && !stripes.is_one(&(8191..8193)) && stripes.is_one(&(7..7)));
    }

    proptest! {
        /// The pieces of a run are the run: none is missing, none twice, each in one extent and with its owner.
        #[test]
        fn pieces_make_up_the_runs(
            stripes in stripes(),
            runs in prop::collection::vec((0_u64..1 << 16, 0_u64..5000), 0..6),
        ) {
            let runs: Vec<_> = runs.into_iter().map(|(start, len)| start..start + len).collect();
            let mut pieces = Pieces::new(stripes, runs.clone());
            for run in &runs {
                let mut at = run.start;
                while at < run.end {
                    let piece = pieces.next().unwrap();
                    prop_assert_eq!(piece.blocks.start, at);
                    prop_assert!(piece.blocks.end > at && piece.blocks.end <= run.end);
                    prop_assert!(stripes.is_one(&piece.blocks));
                    let whose = |block| stripes.shard(block);
                    prop_assert!(whose(at) == piece.shard && whose(piece.blocks.end - 1) == piece.shard);
                    at = piece.blocks.end;
                }
            }
            prop_assert!(pieces.is_empty());
            prop_assert_eq!(pieces.next(), None);
        }

        /// The owners of a run are those of its blocks, each once.
        #[test]
        fn owners_are_the_shards_of_all_blocks(
            stripes in stripes(),
            start in 0_u64..1 << 16,
            len in 1_u64..50_000,
        ) {
            let blocks = start..start + len;
            let mut named: Vec<u16> = stripes.owners(&blocks).collect();
            named.sort_unstable();
            let mut found: Vec<u16> =
                Pieces::of(stripes, blocks).map(|piece| piece.shard).collect();
            found.sort_unstable();
            found.dedup();
            prop_assert_eq!(named, found);
        }
    }
}
