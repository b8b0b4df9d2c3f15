use super::*;
use crate::bits::GRANULE;
use crate::testing::{GROUP, Random};

fn layout() -> Layout {
    Layout::new(64 << 20, 16 << 30).unwrap()
}

#[test]
fn every_granule_has_its_place() {
    let granules = [10, 0, BITS_PER_BLOCK * 2, BITS_PER_BLOCK + 1];
    let map = BitmapMap::new(&layout(), &granules).unwrap();
    assert_eq!(map.blocks(), 5);
    let parts: Vec<_> = (0..6).map(|block| map.part(block)).collect();
    let b = BITS_PER_BLOCK;
    assert_eq!(
        parts,
        [Some((0, 0, 10)), Some((2, 0, b)), Some((2, b, 2 * b)), Some((3, 0, b)), Some((3, b, b + 1)), None]
    );
    assert_eq!(map.block_of(2, b), Some(2));
    assert_eq!((map.block_of(0, 10), map.block_of(1, 0), map.block_of(4, 0)), (None, None, None));
    for (volume, &count) in (0u8..).zip(&granules) {
        for granule in (0..count).step_by(1009) {
            let part = map.part(map.block_of(volume, granule).unwrap()).unwrap();
            assert!(part.0 == volume && (part.1..part.2).contains(&granule));
        }
    }
    assert_eq!(BitmapMap::place(&layout(), 1, 3), layout().bitmap_at[1] + 3 * 4096);
    assert_eq!(BitmapMap::new(&layout(), &[1 << 40]), None);
    assert!(layout().bitmap_len / BLOCK >= (16u64 << 30).div_ceil(GRANULE * BITS_PER_BLOCK) + 256);
}

#[test]
fn blocks_of_two_copies() {
    let granules = [3 * BITS_PER_BLOCK / 2, 77];
    let map = BitmapMap::new(&layout(), &granules).unwrap();
    let mut blocks = BitmapBlocks::new(GROUP, 9, map.clone());
    let mut bits: Vec<Bits> = granules.iter().map(|&len| Bits::new(len)).collect();
    let mut random = Random(1);
    for _ in 0..200 {
        let volume = usize::try_from(random.below(2)).unwrap();
        let from = random.below(granules[volume]);
        bits[volume].set_range(from, from + random.below(90));
    }
    let old: Vec<_> = (0..3).map(|block| blocks.encode(block, &bits).unwrap()).collect();
    bits[0].set_range(5, 6);
    bits[0].clear_range(0, 5);
    let new = blocks.encode(0, &bits).unwrap();
    assert_eq!(blocks.encode(3, &bits), None);

    let read = |first: &[u8], second: &[u8]| {
        let mut again = BitmapBlocks::new(GROUP, 9, map.clone());
        let mut found: Vec<Bits> = granules.iter().map(|&len| Bits::new(len)).collect();
        let how = again.decode(0, first, second, &mut found);
        again.decode(1, &old[1], &old[1], &mut found);
        again.decode(2, &old[2], &[], &mut found);
        (how, found)
    };
    let same = |found: &[Bits]| found.iter().zip(&bits).all(|(a, b)| a.runs().eq(b.runs()));
    let mut torn = new;
    torn[4000] ^= 4;
    for (a, b, how) in [
        (&new[..], &old[0][..], FoundBlock::Good),
        (&old[0], &new, FoundBlock::Good),
        (&new, &torn, FoundBlock::OneBroken),
        (&[], &new, FoundBlock::OneBroken),
    ] {
        let (found_how, found) = read(a, b);
        assert!(found_how == how && same(&found));
    }
    // Neither: everything differs. So too where what is there is another block, set or group.
    let other_set = BitmapBlocks::new(GROUP, 8, map.clone()).encode(0, &bits).unwrap();
    let other_group = BitmapBlocks::new(Uuid::from_u128(1), 9, map.clone()).encode(0, &bits).unwrap();
    for bad in [&torn, &old[1], &old[2], &other_set, &other_group, &[0; 4096]] {
        let (how, found) = read(bad, &torn);
        assert_eq!((how, found[0].contains_range(0, BITS_PER_BLOCK)), (FoundBlock::Lost, true));
        assert!(!found[0].contains_range(0, BITS_PER_BLOCK + 1) || bits[0].contains(BITS_PER_BLOCK));
    }
    // A block that was read goes on from its version.
    let mut again = BitmapBlocks::new(GROUP, 9, map);
    again.decode(0, &new, &old[0], &mut bits.clone());
    assert_eq!(again.encode(0, &bits).unwrap()[32], 3);
}

#[test]
fn its_bytes_stay_what_they_are() {
    let map = BitmapMap::new(&layout(), &[4, BITS_PER_BLOCK + 20]).unwrap();
    let mut bits = vec![Bits::new(4), Bits::new(BITS_PER_BLOCK + 20)];
    bits[1].set_range(BITS_PER_BLOCK + 1, BITS_PER_BLOCK + 9);
    let bytes = BitmapBlocks::new(GROUP, 0x0102, map).encode(2, &bits).unwrap();
    assert_eq!(&bytes[..8], b"KAGDIFFB");
    assert_eq!(bytes[8..24], *GROUP.as_bytes());
    assert_eq!(bytes[24..40], [2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[40..48], BITS_PER_BLOCK.to_le_bytes());
    assert_eq!(bytes[48..60], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[64..68], [0xfe, 1, 0, 0]);
    let rest = [&bytes[..60], &bytes[64..]].concat();
    assert_eq!(bytes[60..64], crc::crc32c(&rest).to_le_bytes());
}
