use super::*;
use crate::testing::GROUP;

fn record(offset: u64) -> IndexRecord {
    let at = JournalPos { epoch: Epoch(3), offset };
    IndexRecord { at, sequence: Sequence(offset / 4096), time: offset * 10 }
}

#[test]
fn places_are_found_and_forgotten() {
    let layout = Layout::new(64 << 20, 0).unwrap();
    let mut index = Index::new(GROUP, layout, 0);
    let step = index.spacing;
    assert!(index.is_empty() && index.floor(u64::MAX).is_none());
    for at in (step..step * 3000).step_by(usize::try_from(step / 2).unwrap()) {
        index.note(record(at));
    }
    assert_eq!(index.len(), 2999);
    assert_eq!(index.floor(step * 7 + 1), Some(record(step * 7)));
    assert_eq!(index.floor(step - 1), None);
    assert_eq!(index.by_time(step * 70), Some(record(step * 7)));
    assert_eq!(index.by_sequence(Sequence(step / 4096 * 9)), Some(record(step * 9)));
    index.drop_before(step * 100 + 5);
    assert_eq!(index.floor(step * 100 + 5), Some(record(step * 100)));
    assert_eq!(index.floor(step * 99), None);
}

#[test]
fn blocks_bring_it_back() {
    let layout = Layout::new(64 << 20, 0).unwrap();
    let mut index = Index::new(GROUP, layout, 5);
    let mut blocks = Vec::new();
    for number in 1..=300 {
        index.note(record(number * index.spacing));
        blocks.extend(index.next_block(false));
    }
    assert_eq!(blocks.len(), 2);
    blocks.extend(index.next_block(true));
    assert_eq!((index.next_block(true), index.number()), (None, 8));
    assert_eq!(blocks[0].0, layout.metadata_at + 5 * BLOCK % layout.metadata_len);
    let mut decoded: Vec<_> =
        blocks.iter().map(|(_, bytes)| IndexBlock::decode(GROUP, bytes).unwrap()).collect();
    decoded.reverse();
    let mut again = Index::new(GROUP, layout, 0);
    let spacing = again.spacing;
    again.load(decoded.clone(), (spacing * 10, spacing * 290), &[Epoch(3)]);
    assert_eq!((again.len(), again.number()), (281, 8));
    assert_eq!(again.floor(spacing * 20), Some(record(spacing * 20)));
    assert_eq!(again.next_block(true), None);
    again = Index::new(GROUP, layout, 0);
    again.load(decoded, (0, u64::MAX), &[Epoch(4)]);
    assert!(again.is_empty());
    for at in [0, 9, 24, 33, 61, 100, 4095] {
        let mut bytes = blocks[0].1;
        bytes[at] ^= 1;
        assert_eq!(IndexBlock::decode(GROUP, &bytes), None);
    }
    assert_eq!(IndexBlock::decode(GROUP, &[0; 100]), None);
}

#[test]
fn its_bytes_stay_what_they_are() {
    let bytes = IndexBlock { number: 0x0203, records: vec![record(4096), record(8192)] }.encode(GROUP);
    assert_eq!(&bytes[..8], b"KAGINDEX");
    assert_eq!(bytes[8..24], *GROUP.as_bytes());
    assert_eq!(bytes[24..36], [3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    let words: Vec<u64> =
        bytes[64..128].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [4096, 3, 1, 40960, 8192, 3, 2, 81920]);
    let rest = [&bytes[..60], &bytes[64..]].concat();
    assert_eq!(bytes[60..64], crc::crc32c(&rest).to_le_bytes());
}
